import { BSP_EIP, buildVmsa, CpuidPage, EcdsaPublicKey, FirmwareStatus, IdAuth, IdBlock, kvmVmsa, LAUNCH_VMSA_GPA, LaunchPageType, SecretsPage } from '@vmplanes/abi-sev-snp';
import { hexBytes } from '@vmplanes/binary';
import { GuestState, LaunchCommands, SecurityProcessor, sevLaunchDigest, sevMeasurement } from '@vmplanes/personality-sev-snp-vmpl';
import fc from 'fast-check';
import { createHash, createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { CPUID, PLATFORM, SETTINGS } from './psp-guest.ts';

const PAGE = 4096;
const POLICY = 0x30000n;
const { Success, InvalidParam, InvalidGuestState, InvalidAddress, InvalidPageState, PolicyFailure, BadSignature, BadMeasurement } = FirmwareStatus;

/** Guest memory of 64 pages. */
class Memory {
  readonly placed = new Map<number, { readonly page: string; readonly perms: readonly number[]; readonly isVmsa: boolean }>();
  stateOf(gpn: number): 'missing' | 'shared' | 'private' {
    return this.placed.has(gpn) ? 'private' : gpn < 0x1000 ? 'shared' : 'missing';
  }
  place(gpn: number, page: Uint8Array, perms: readonly number[], isVmsa: boolean): void {
    this.placed.set(gpn, { page: hexBytes(page), perms, isVmsa });
  }
}

let memory: Memory;
let psp: SecurityProcessor;
let launch: LaunchCommands;
beforeEach(() => {
  memory = new Memory();
  psp = new SecurityProcessor({ ...PLATFORM, signing: 'none' }, SETTINGS, CPUID);
  launch = new LaunchCommands(psp, memory);
});
const started = (): void => expect(launch.start({ policy: POLICY })).toBe(Success);
const digest = (): string => hexBytes(psp.guest.digest);
const zeroes = (): Uint8Array => new Uint8Array(PAGE);
const update = (gpa: number, type: number, data = zeroes()): readonly [number, number] => {
  const { status, pages } = launch.update({ gpa, type, data });
  return [status, pages];
};

describe('launch digest', () => {
  beforeEach(started);

  it.each([
    [LaunchPageType.Normal, 0, '9d13634b6014bb21cf059b2dc694e7bff01a8a7137041100cd2b695f3d10fb687267b97808b27f8f471d943bc6f53a20'],
    [LaunchPageType.Zero, 0, '70c0ecaab9608f14ebf8ac6f0f07bcd8728f4e2ab30382b539b4de4de904ca9f8ebdf4b2cd3cd84dd996bd55dd794676'],
    [LaunchPageType.Unmeasured, 0x1000, '81475a112c0223cebe1ccb31a0aa2567772871200b33515a3cbbd5ed6a68a8e630902dd83469ea6553554bfb67111fad'],
    [LaunchPageType.Secrets, 0x80d000, 'e82e99caf82a32c31ec5070eef9e2135866d8f7de60d756814f3bd8c989c1e826622e0a97dad026c6d9d81818780e6a2'],
  ])('of one page of type %i at 0x%x', (type, gpa, expected) => {
    expect(update(gpa, type)).toEqual([Success, 1]);
    expect(digest()).toBe(expected);
  });

  it('of the secrets page, then the CPUID page', () => {
    update(0x80d000, LaunchPageType.Secrets);
    update(0x80e000, LaunchPageType.Cpuid);
    expect(digest()).toBe('064437dca682d8e07f90f072239b2ede35643f69eb57bbfbe4c473b578a6d21fff2e3c5d73c5ec8045cd13590ed7872e');
  });

  it('of the first states of two processors of a KVM guest', () => {
    const start = (eip: number): Uint8Array => buildVmsa(kvmVmsa({ eip, vmpl: 0, sevFeatures: 1n }, 0x0080_0f12));
    const [bsp, ap] = [start(BSP_EIP), start(0x0080_b004)];
    const sha384 = (page: Uint8Array): string => createHash('sha384').update(page).digest('hex');
    expect(sha384(bsp)).toBe('77920c4c629ff47e90c0e174fc1ad0eb6fa664f88cd4739488058a8c6cb1a77b3856f55378e9518d0da99452d51c553a');
    expect(sha384(ap)).toBe('8413b852790765a310d95867a8b00bfca3a802b5a80830044b45e253fe96222657e11e53fcf63eb0e0afd722385bf7b4');
    expect(launch.updateVmsa(LAUNCH_VMSA_GPA, bsp)).toBe(Success);
    expect(digest()).toBe('108432463da76821f35c5daf2f7aecc0ce9ce88652de5f70f638c7a0345c11f2f80025654b80e7be10a9fe0ee1b75f33');
    expect(launch.updateVmsa(LAUNCH_VMSA_GPA, ap)).toBe(Success);
    expect(digest()).toBe('4cbaa44ff5a91e017e64efb3ea609f664f60eaef177def4935112e6af954ff3ee4e31070a5cd41689b981dba9e292360');
  });

  it('is that of a model written from the specification, for any pages', () => {
    const page = fc.record({ type: fc.constantFrom(1, 3, 4, 5), gpn: fc.nat(0xfff), fill: fc.nat(255), perms: fc.tuple(fc.nat(31), fc.nat(31), fc.nat(31)) });
    fc.assert(
      fc.property(fc.uniqueArray(page, { maxLength: 12, selector: (p) => p.gpn }), (pages) => {
        const guest = new SecurityProcessor({ ...PLATFORM, signing: 'none' }, SETTINGS, CPUID);
        const commands = new LaunchCommands(guest, new Memory());
        commands.start({ policy: POLICY });
        let model: Uint8Array = new Uint8Array(48);
        for (const { type, gpn, fill, perms } of pages) {
          const data = zeroes().fill(fill);
          expect(commands.update({ gpa: gpn * PAGE, type, data, perms }).status).toBe(Success);
          const info = Buffer.alloc(0x70);
          info.set(model, 0);
          if (type === 1) createHash('sha384').update(data).digest().copy(info, 0x30);
          info.writeUInt16LE(0x70, 0x60);
          info[0x62] = type;
          [info[0x66], info[0x65], info[0x64]] = perms;
          info.writeBigUInt64LE(BigInt(gpn * PAGE), 0x68);
          model = new Uint8Array(createHash('sha384').update(info).digest());
        }
        expect(hexBytes(guest.guest.digest)).toBe(hexBytes(model));
      }),
      { numRuns: 50 },
    );
  });

  it('measures a run of pages one by one', () => {
    update(0, LaunchPageType.Normal, new Uint8Array(3 * PAGE));
    const together = digest();
    beforeOne();
    for (const gpa of [0, PAGE, 2 * PAGE]) update(gpa, LaunchPageType.Normal);
    expect(digest()).toBe(together);
  });
  const beforeOne = (): void => {
    memory = new Memory();
    psp = new SecurityProcessor({ ...PLATFORM, signing: 'none' }, SETTINGS, CPUID);
    launch = new LaunchCommands(psp, memory);
    started();
  };
});

describe('order of commands', () => {
  it('start, update, finish; then the guest runs and nothing more is accepted', () => {
    expect(update(0, 1)).toEqual([InvalidGuestState, 0]);
    expect(launch.updateVmsa(LAUNCH_VMSA_GPA, zeroes())).toBe(InvalidGuestState);
    expect(launch.finish()).toBe(InvalidGuestState);
    started();
    expect(launch.start({ policy: POLICY })).toBe(InvalidGuestState);
    expect(update(0, 1)).toEqual([Success, 1]);
    const frozen = digest();
    expect(launch.finish({ hostData: new Uint8Array(32).fill(7) })).toBe(Success);
    expect(psp.guest.state).toBe(GuestState.Running);
    expect([launch.start({ policy: POLICY }), update(PAGE, 1), launch.updateVmsa(LAUNCH_VMSA_GPA, zeroes()), launch.finish()]).toEqual([InvalidGuestState, [InvalidGuestState, 0], InvalidGuestState, InvalidGuestState]);
    expect([digest(), hexBytes(psp.guest.hostData)]).toEqual([frozen, '07'.repeat(32)]);
  });

  it.each<[string, bigint, number]>([
    ['the least', 0x20000n, Success], ['with debugging and SMT', 0xb0000n, Success], ['with every bit that is defined', 0x3ff0000n, Success], ['of the version of the firmware', 0x20137n, Success],
    ['without the bit that is always one', 0x10000n, PolicyFailure], ['of nothing', 0n, PolicyFailure], ['with bit 26', 0x4020000n, PolicyFailure], ['with bit 63', (1n << 63n) | 0x20000n, PolicyFailure],
    ['of a later minor version', 0x20138n, PolicyFailure], ['of a later major version', 0x20200n, PolicyFailure],
  ])('a policy %s', (_what, policy, status) => {
    expect(launch.start({ policy })).toBe(status);
    expect([psp.guest.state, psp.guest.policy]).toEqual(status === Success ? [GuestState.Launching, policy] : [GuestState.Init, 0n]);
  });
});

describe('pages', () => {
  beforeEach(started);

  it('of each type are placed as their type says', () => {
    const data = zeroes().fill(0x5a);
    update(0x0000, LaunchPageType.Normal, data);
    update(0x1000, LaunchPageType.Zero, data);
    update(0x2000, LaunchPageType.Unmeasured, data);
    update(0x3000, LaunchPageType.Secrets, data);
    launch.update({ gpa: 0x4000, type: LaunchPageType.Normal, data, perms: [15, 7, 1] });
    expect(launch.updateVmsa(0x5000, data)).toBe(Success);
    const at = (gpn: number): string => memory.placed.get(gpn)!.page;
    expect([at(0), at(1), at(2), at(4), at(5)]).toEqual(['5a', '00', '5a', '5a', '5a'].map((b) => b.repeat(PAGE)));
    expect(at(3)).not.toContain('5a'.repeat(64));
    expect(memory.placed.get(4)!.perms).toEqual([15, 7, 1]);
    expect([...memory.placed.values()].map((p) => p.isVmsa)).toEqual([false, false, false, false, false, true]);
  });

  it.each<[string, number, number, number, number]>([
    ['not on a page', 0x800, 1, PAGE, InvalidAddress], ['negative', -PAGE, 1, PAGE, InvalidAddress], ['outside of memory', 0x1000 * PAGE, 1, PAGE, InvalidAddress],
    ['empty', 0, 1, 0, InvalidParam], ['half a page', 0, 1, 2048, InvalidParam], ['of type 0', 0, 0, PAGE, InvalidParam], ['of type 2, which is no type of the host', 0, 2, PAGE, InvalidParam],
    ['of type 7', 0, 7, PAGE, InvalidParam], ['of type 255', 0, 255, PAGE, InvalidParam],
  ])('%s are refused and leave the digest alone', (_what, gpa, type, length, status) => {
    const before = digest();
    expect(update(gpa, type, new Uint8Array(length))).toEqual([status, 0]);
    expect([digest(), memory.placed.size]).toEqual([before, 0]);
  });
  it('of a migration image are refused', () => expect(launch.update({ gpa: 0, type: 1, data: zeroes(), isImi: true })).toEqual({ status: InvalidParam, pages: 0 }));

  it('twice at one place are refused; those before stay', () => {
    expect(update(0x2000, 1)).toEqual([Success, 1]);
    const before = digest();
    expect(update(0x2000, 3)).toEqual([InvalidPageState, 0]);
    expect(digest()).toBe(before);
    expect(update(0, 1, new Uint8Array(4 * PAGE))).toEqual([InvalidPageState, 2]);
    expect([...memory.placed.keys()]).toEqual([2, 0, 1]);
  });

  it.each<[string, number, number, number]>([
    ['outside of memory, at the address of the host', LAUNCH_VMSA_GPA, PAGE, Success], ['outside of memory, elsewhere', 0x1000 * PAGE, PAGE, InvalidAddress], ['two pages', 0, 2 * PAGE, InvalidParam], ['not on a page', 8, PAGE, InvalidAddress],
  ])('a first state %s', (_what, gpa, length, status) => {
    expect(launch.updateVmsa(gpa, new Uint8Array(length))).toBe(status);
    expect(memory.placed.size).toBe(0);
  });
});

describe('secrets page', () => {
  it('holds the keys of all VMPLs, the processor and no SVSM', () => {
    launch.start({ policy: POLICY, gosvw: new Uint8Array(16).fill(0x60) });
    psp.guest.tscFactor = 200;
    update(0x3000, LaunchPageType.Secrets);
    const bytes = Buffer.from(memory.placed.get(3)!.page, 'hex');
    const page = SecretsPage.read(new DataView(bytes.buffer, bytes.byteOffset), 0);
    expect([page.version, page.flags, page.fms, hexBytes(page.gosvw), page.tscFactor]).toEqual([3, 0, 0x00a1_0f11, '60'.repeat(16), 200]);
    expect([0, 1, 2, 3].map((n) => hexBytes(new Uint8Array(bytes.subarray(0x20 + 32 * n, 0x40 + 32 * n))))).toEqual(psp.keys.map(hexBytes));
    // Counters, jump table and everything of an SVSM are zero.
    expect(bytes.subarray(0xa0, 0x160).every((b) => b === 0)).toBe(true);
    expect(bytes.subarray(0x164).every((b) => b === 0)).toBe(true);
  });
});

describe('CPUID page', () => {
  beforeEach(started);
  function table(...rows: readonly (readonly [leaf: number, subleaf: number, eax: number, ebx: number, ecx: number, edx: number])[]): Uint8Array {
    const page = Buffer.alloc(PAGE);
    page.writeUInt32LE(rows.length, 0);
    rows.forEach(([leaf, subleaf, ...out], i) => {
      page.writeUInt32LE(leaf, 16 + 48 * i);
      page.writeUInt32LE(subleaf, 20 + 48 * i);
      out.forEach((v, r) => page.writeUInt32LE(v, 16 + 48 * i + 24 + 4 * r));
    });
    return new Uint8Array(page);
  }

  it('that promises no more than there is is placed as it is', () => {
    const page = table([1, 0, 0, 0, 0xf0, 0x0f], [0x8000_0008, 0, 0x3030, 0xff, 0, 0]);
    expect(update(0, LaunchPageType.Cpuid, page)).toEqual([Success, 1]);
    expect(memory.placed.get(0)!.page).toBe(hexBytes(page));
  });
  it('that promises more is corrected, neither placed nor measured, and accepted the second time', () => {
    const page = table([1, 0, 0, 0, 0x1f0, 0x0f], [7, 0, 0, 0x100, 0, 0]);
    const before = digest();
    expect(update(0, LaunchPageType.Cpuid, page)).toEqual([InvalidParam, 0]);
    expect([digest(), memory.placed.size]).toEqual([before, 0]);
    expect(page).toEqual(table([1, 0, 0, 0, 0xf0, 0x0f], [7, 0, 0, 0, 0, 0]));
    expect(update(0, LaunchPageType.Cpuid, page)).toEqual([Success, 1]);
  });
  it('of 64 functions is accepted, of 65 refused', () => {
    const page = zeroes();
    page[0] = 65;
    expect(update(0, LaunchPageType.Cpuid, page)).toEqual([InvalidParam, 0]);
    page[0] = 64;
    for (let i = 0; i < 64; i++) page[16 + 48 * i] = 0xb;
    expect(update(0, LaunchPageType.Cpuid, page)).toEqual([Success, 1]);
  });
  it('has the layout of the table', () => expect(CpuidPage.read(new DataView(table([1, 2, 3, 4, 5, 6]).buffer), 0).functions[0]).toMatchObject({ eaxIn: 1, ecxIn: 2, eax: 3, ebx: 4, ecx: 5, edx: 6 }));
});

describe('ID block', () => {
  const keys = { id: generateKeyPairSync('ec', { namedCurve: 'P-384' }), author: generateKeyPairSync('ec', { namedCurve: 'P-384' }) };
  const number = (base64: string): Uint8Array => {
    const out = new Uint8Array(72);
    out.set(Buffer.from(base64, 'base64url').reverse());
    return out;
  };
  const publicKey = (key: KeyObject): ReturnType<typeof EcdsaPublicKey.read> => {
    const { x, y } = key.export({ format: 'jwk' });
    return { curve: 2, qx: number(x!), qy: number(y!), reserved94: new Uint8Array(880) };
  };
  const signature = (message: Uint8Array, key: KeyObject): { r: Uint8Array; s: Uint8Array } => {
    const raw = sign('sha384', message, { key, dsaEncoding: 'ieee-p1363' });
    return { r: number(raw.subarray(0, 48).toString('base64url')), s: number(raw.subarray(48).toString('base64url')) };
  };
  function identity({ version = 1, policy = POLICY, launchDigest = psp.guest.digest, algo = 1, authorAlgo = 1 } = {}): { block: Uint8Array; auth: Uint8Array; hasAuthorKey: boolean } {
    const block = new Uint8Array(IdBlock.size);
    IdBlock.write(new DataView(block.buffer), 0, { launchDigest, familyId: new Uint8Array(16).fill(0xfa), imageId: new Uint8Array(16).fill(0x1a), version, guestSvn: 9, policy });
    const idKey = publicKey(keys.id.publicKey);
    const idKeyBytes = new Uint8Array(EcdsaPublicKey.size);
    EcdsaPublicKey.write(new DataView(idKeyBytes.buffer), 0, idKey);
    const auth = new Uint8Array(IdAuth.size);
    IdAuth.write(new DataView(auth.buffer), 0, {
      idKeyAlgo: algo, authorKeyAlgo: authorAlgo, idBlockSignature: signature(block, keys.id.privateKey), idKey, idKeySignature: signature(idKeyBytes, keys.author.privateKey), authorKey: publicKey(keys.author.publicKey),
    });
    return { block, auth, hasAuthorKey: true };
  }
  const sha384 = (data: Uint8Array): string => createHash('sha384').update(data).digest('hex');
  beforeEach(() => {
    started();
    update(0, 1);
  });

  it('signed by its key and the author is taken', () => {
    const given = identity();
    expect(launch.finish({ identity: given })).toBe(Success);
    const { guest } = psp;
    expect([guest.guestSvn, hexBytes(guest.familyId), hexBytes(guest.imageId), guest.hasAuthorKey]).toEqual([9, 'fa'.repeat(16), '1a'.repeat(16), true]);
    expect([hexBytes(guest.idKeyDigest), hexBytes(guest.authorKeyDigest)]).toEqual([sha384(given.auth.subarray(0x240, 0x240 + 1028)), sha384(given.auth.subarray(0x880, 0x880 + 1028))]);
  });
  it('without an author needs no signature of one', () => {
    const given = identity({ authorAlgo: 0 });
    given.auth.fill(0, 0x680, 0x1000);
    expect(launch.finish({ identity: { ...given, hasAuthorKey: false } })).toBe(Success);
    expect([psp.guest.hasAuthorKey, hexBytes(psp.guest.authorKeyDigest)]).toEqual([false, '00'.repeat(48)]);
  });

  it.each<[string, () => { block: Uint8Array; auth: Uint8Array; hasAuthorKey: boolean }, number]>([
    ['of another measurement', () => identity({ launchDigest: new Uint8Array(48) }), BadMeasurement],
    ['of another policy', () => identity({ policy: 0xb0000n }), PolicyFailure],
    ['of another measurement and policy: the measurement comes first', () => identity({ launchDigest: new Uint8Array(48), policy: 0n }), BadMeasurement],
    ['of version 2', () => identity({ version: 2 }), InvalidParam],
    ['with another algorithm', () => identity({ algo: 2 }), InvalidParam],
    ['with another algorithm of the author', () => identity({ authorAlgo: 0 }), InvalidParam],
    ['cut short', () => ({ ...identity(), block: new Uint8Array(95) }), InvalidParam],
    ['with authentication cut short', () => ({ ...identity(), auth: new Uint8Array(4095) }), InvalidParam],
  ])('%s is refused; the guest can still be finished', (_what, make, status) => {
    const before = structuredClone(psp.guest);
    expect(launch.finish({ identity: make() })).toBe(status);
    expect(psp.guest).toEqual(before);
    expect(launch.finish({ identity: identity() })).toBe(Success);
  });

  it.each([
    ['SVN of the block', 'block', 0x54], ['family of the block', 'block', 0x30], ['signature of the block', 'auth', 0x40], ['upper bytes of the signature', 'auth', 0x40 + 60], ['S of the signature', 'auth', 0x40 + 72], ['ID key', 'auth', 0x244],
    ['upper bytes of the ID key', 'auth', 0x244 + 60], ['curve of the ID key', 'auth', 0x240], ['signature of the author', 'auth', 0x680], ['author key', 'auth', 0x884],
  ] as const)('with one bit changed in the %s is refused', (_what, part, at) => {
    const given = identity();
    given[part][at] = given[part][at]! ^ 1;
    expect(launch.finish({ identity: given })).toBe(BadSignature);
    expect(psp.guest.state).toBe(GuestState.Launching);
  });
  it('whatever its bytes are, it ends with a status', () => {
    fc.assert(
      fc.property(fc.nat(IdAuth.size - 1), fc.uint8Array({ minLength: 1, maxLength: 100 }), (at, junk) => {
        const given = identity();
        given.auth.set(junk.subarray(0, IdAuth.size - at), at);
        expect([Success, BadSignature, InvalidParam]).toContain(new LaunchCommands(clone(psp), memory).finish({ identity: given }));
      }),
      { numRuns: 30 },
    );
  });
  const clone = (of: SecurityProcessor): SecurityProcessor => {
    const copy = new SecurityProcessor({ ...PLATFORM, signing: 'none' }, SETTINGS, CPUID);
    copy.restore(of.save());
    return copy;
  };
});

describe('measurement of SEV and SEV-ES guests', () => {
  const parts = [new Uint8Array(8192).fill(1), buildVmsa(kvmVmsa({ eip: BSP_EIP, vmpl: 0, sevFeatures: 0n }, 0)), buildVmsa(kvmVmsa({ eip: 0x80_b004, vmpl: 0, sevFeatures: 0n }, 0))];
  it('is over the contents in their order', () => {
    const seen = parts.map((_part, i) => hexBytes(sevLaunchDigest(parts.slice(0, i + 1))));
    expect(seen).toEqual(parts.map((_part, i) => createHash('sha256').update(Buffer.concat(parts.slice(0, i + 1))).digest('hex')));
  });
  it('is signed with context, version, policy, digest and nonce', () => {
    const [key, value, nonce] = [new Uint8Array(16).fill(7), new Uint8Array(32).fill(8), new Uint8Array(16).fill(9)];
    const message = Buffer.concat([Buffer.from('04011e1b' + '05000000', 'hex'), value, nonce]);
    expect(hexBytes(sevMeasurement(key, { major: 1, minor: 30, build: 27 }, 5, value, nonce))).toBe(createHmac('sha256', key).update(message).digest('hex'));
  });
});
