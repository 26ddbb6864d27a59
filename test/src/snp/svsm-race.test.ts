import { SvsmAttestServices, SvsmResult as R } from '@vmplanes/abi-svsm';
import { Outcome } from '@vmplanes/engine';
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { At, type Answered, type Request, svsmCall, SvsmRig } from './svsm-rig.ts';

const page = 4096;
/** Calling area of the second processor. */
const AREA = At.c;
const VMSA = At.b;

const fillVmsa = (rig: SvsmRig, gpa: number): void => {
  rig.write(gpa, new Uint8Array(page));
  rig.write(gpa + 0xca, Uint8Array.of(2));
  rig.words(gpa + 0xd0, 0x1000n);
  rig.words(gpa + 0x3b0, 1n);
};
/** A rig whose second processor runs at VMPL2. */
const two = (options = {}): SvsmRig => {
  const rig = new SvsmRig(options);
  fillVmsa(rig, VMSA);
  rig.call({ call: 2, rcx: VMSA, rdx: AREA, r8: 1 });
  rig.snp.chapters.aps.create(rig.snp.chapters.switching.plane(rig.machine.vp(0), 2)!, 0x2_0001, 1, VMSA, 1n);
  rig.run();
  return rig;
};
/** At a point of the call, the second processor makes one itself: it runs until it is done or waits. */
const race = (rig: SvsmRig, point: string, other: Request, nth = 1): { readonly at: () => Answered | null; readonly isHeld: () => boolean } => {
  let out: Answered | null = null;
  let isHeld = false;
  rig.start(function* () {
    yield { op: 'hlt' };
    out = yield* svsmCall(other, AREA);
  }, 1);
  rig.run();
  rig.at(point, () => {
    const vp = rig.machine.vp(1);
    const guest = vp.plane(2);
    guest.activity = 0;
    rig.machine.eventsChanged(guest);
    vp.sliceEnd = vp.retired + 100;
    isHeld = rig.machine.runVp(vp) === Outcome.Blocked && out === null;
  }, nth);
  return { at: () => out, isHeld: () => isHeld };
};
const list = (rig: SvsmRig, at: number, ...entries: readonly number[]): void => rig.words(at, BigInt(entries.length), ...entries.map(BigInt));

describe('PVALIDATE is judged by what was read once', () => {
  it('an entry that changes after the copy changes nothing', () => {
    const rig = new SvsmRig();
    list(rig, At.list, At.fresh | 4);
    // Head, then entries: the second fetch.
    rig.at('fetched', () => list(rig, At.list, At.svsm | 4), 2);
    expect(rig.call({ call: 1, rcx: At.list }).result).toBe(0);
    expect(rig.rmp.entry(At.fresh / page).validated).toBe(true);
  });
  it('counts that change after the head was read do not count', () => {
    const rig = new SvsmRig();
    list(rig, At.list, At.fresh | 4, (At.fresh + page) | 4);
    rig.at('fetched', () => rig.words(At.list, 0xffffn));
    expect(rig.call({ call: 1, rcx: At.list }).result).toBe(0);
    expect(rig.word(At.list)).toBe(2n | (2n << 16n));
    expect(rig.rmp.entry(At.fresh / page + 2).validated).toBe(false);
  });
  it('a list whose page is rescinded meanwhile is not written', () => {
    const rig = new SvsmRig();
    list(rig, At.list, At.fresh | 4);
    rig.at('svsm:pvalidate-entry', () => rig.rmp.set(At.list / page, 1, { validated: false }));
    expect(rig.call({ call: 1, rcx: At.list }).result).toBe(R.InvalidAddress);
    expect(rig.word(At.list)).toBe(1n);
  });
  it('lists of two processors may interleave', () => {
    const rig = two();
    list(rig, At.list, At.fresh | 4, (At.fresh + page) | 4);
    list(rig, At.d, (At.fresh + 2 * page) | 4);
    const other = race(rig, 'svsm:pvalidate-entry', { call: 1, rcx: At.d }, 2);
    expect(rig.call({ call: 1, rcx: At.list }).result).toBe(0);
    expect(other.at()?.result).toBe(0);
    expect(other.isHeld()).toBe(false);
  });
  it('of two that validate one page the second learns that it is valid', () => {
    const rig = two();
    list(rig, At.list, At.fresh | 4);
    list(rig, At.d, At.fresh | 4);
    const other = race(rig, 'svsm:pvalidate-entry', { call: 1, rcx: At.d });
    expect(rig.call({ call: 1, rcx: At.list }).result).toBe(0x8000_1010);
    expect(other.at()?.result).toBe(0);
  });
});

describe('calls that change the registry wait for those that work on pages', () => {
  it.each([
    ['REMAP_CA', { call: 0, rcx: At.d }, 0],
    ['CREATE_VCPU', { call: 2, rcx: At.d, rdx: 0x80_6000, r8: 0 }, R.InvalidParameter],
    ['DELETE_VCPU', { call: 3, rcx: At.d }, R.InvalidParameter],
  ] as const)('%s', (_what, call, result) => {
    const rig = two();
    list(rig, At.list, At.fresh | 4);
    const other = race(rig, 'svsm:pvalidate-entry', call);
    expect(rig.call({ call: 1, rcx: At.list }).result).toBe(0);
    expect(other.isHeld()).toBe(true);
    expect(other.at()?.result).toBe(result);
  });
  it('a page that becomes a VMSA cannot be rescinded at the same time', () => {
    const rig = two();
    fillVmsa(rig, At.d);
    list(rig, At.list, At.d);
    const other = race(rig, 'svsm:vmsa-revoked', { call: 1, rcx: At.list });
    expect(rig.call({ call: 2, rcx: At.d, rdx: 0x80_6000, r8: 0 }).result).toBe(0);
    expect(other.isHeld()).toBe(true);
    expect(other.at()?.result).toBe(R.InvalidAddress);
    expect(rig.rmp.entry(At.d / page)).toMatchObject({ validated: true, vmsa: true });
  });
  it('of two processors that create one VMSA, one does', () => {
    const rig = two();
    fillVmsa(rig, At.d);
    const create = { call: 2, rcx: At.d, rdx: 0x80_6000, r8: 0 } as const;
    const other = race(rig, 'svsm:vmsa-revoked', create);
    expect(rig.call(create).result).toBe(0);
    expect(other.isHeld()).toBe(true);
    expect(other.at()?.result).toBe(R.InvalidAddress);
  });
  it('of two processors that take one calling area, one does', () => {
    const rig = two();
    const other = race(rig, 'svsm:area-tested', { call: 0, rcx: At.d });
    expect(rig.call({ call: 0, rcx: At.d }).result).toBe(0);
    expect(other.isHeld()).toBe(true);
    expect(other.at()?.result).toBe(R.InvalidAddress);
  });
});

describe('CREATE_VCPU', () => {
  it('the guest has no right to the page while it is judged', () => {
    const rig = new SvsmRig();
    fillVmsa(rig, At.b);
    let seen: readonly number[] = [];
    rig.at('svsm:vmsa-revoked', () => void (seen = [...rig.rmp.entry(At.b / page).perms]));
    expect(rig.call({ call: 2, rcx: At.b, rdx: At.c, r8: 1 }).result).toBe(0);
    expect(seen).toEqual([0, 0, 0]);
  });
});

describe('vTPM commands', () => {
  const command = Buffer.from('08000000' + '00' + '0c000000' + '80010000000c0000017b0008', 'hex');
  it.each([
    ['the platform command', [1, 0, 0, 0]],
    ['the locality', [8, 0, 0, 0, 1]],
    ['the size', [8, 0, 0, 0, 0, 0xff, 0xff, 0, 0]],
  ])('%s counts as it is in the copy of the whole buffer', (_what, bytes) => {
    const rig = new SvsmRig({ vtpm: true });
    rig.write(At.a, command);
    rig.at('fetched', () => rig.write(At.a, Uint8Array.from(bytes)));
    expect(rig.call({ protocol: 2, call: 1, rcx: At.a }).result).toBe(R.InvalidParameter);
    expect(rig.commands).toEqual([]);
  });
  it('a command that changes after the copy goes to the TPM as it was', () => {
    const rig = new SvsmRig({ vtpm: true });
    rig.tpm.push('80010000000a00000000');
    rig.write(At.a, command);
    rig.at('fetched', () => rig.write(At.a, new Uint8Array(64)), 2);
    expect(rig.call({ protocol: 2, call: 1, rcx: At.a }).result).toBe(0);
    expect(rig.commands).toEqual(['80010000000c0000017b0008']);
  });
});

describe('attestation', () => {
  const NONCE = new Uint8Array(64).fill(7);
  const prepare = (): SvsmRig => {
    const rig = new SvsmRig();
    const op = new Uint8Array(SvsmAttestServices.size);
    SvsmAttestServices.write(new DataView(op.buffer), 0, {
      reportGpa: BigInt(At.a), reportSize: page, nonceGpa: BigInt(At.b), nonceSize: 64, manifestGpa: BigInt(At.c), manifestSize: page, certificateGpa: 0n, certificateSize: 0,
    });
    rig.write(At.list, op);
    rig.write(At.b, NONCE);
    return rig;
  };
  const call = { protocol: 1, call: 0, rcx: At.list } as const;
  it('the structure counts as it was copied', () => {
    const rig = prepare();
    rig.at('fetched', () => rig.words(At.list, BigInt(At.svsm)));
    expect(rig.call(call).result).toBe(0);
    expect(rig.word(At.a)).toBe(2n);
  });
  it('the nonce counts as it was copied', () => {
    const rig = prepare();
    rig.at('fetched', () => rig.write(At.b, new Uint8Array(64)), 2);
    expect(rig.call(call).result).toBe(0);
    expect(Buffer.from(rig.requests.asked[0]!.data)).toEqual(createHash('sha512').update(NONCE).update(rig.read(At.c, 24)).digest());
  });
  it('a report buffer that stops being valid meanwhile gets nothing', () => {
    const rig = prepare();
    rig.at('fetched', () => rig.rmp.set(At.a / page, 1, { validated: false }), 2);
    expect(rig.call(call).result).toBe(R.InvalidAddress);
    expect(rig.word(At.a)).toBe(0n);
  });
});

describe('calling areas', () => {
  it('a request that another processor takes back before it is looked at is none', () => {
    const rig = new SvsmRig();
    let rax = 0n;
    rig.guest(function* () {
      yield { op: 'write', gpa: At.caa, value: 1, size: 1 };
      yield { op: 'write', gpa: At.caa, value: 0, size: 1 };
      yield { op: 'wrmsr', index: 0xc001_0130, value: 0x16 };
      ({ rax } = yield { op: 'call', via: 'vmgexit', regs: { rax: 6, rcx: 1 } });
    });
    expect(rax).toBe(6n);
  });
});
