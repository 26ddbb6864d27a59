import { SvsmCoreResult as Core, SvsmResult as R } from '@vmplanes/abi-svsm';
import type { SnpOptions } from '@vmplanes/personality-sev-snp-vmpl';
import { describe, expect, it } from 'vitest';
import { At, type Request, SvsmRig } from './svsm-rig.ts';

const page = 4096;
const RWX = 0xf;
/** Makes pages valid and the guest's own. */
const give = (rig: SvsmRig, gpa: number, count = 1): void => {
  for (let i = 0; i < count; i++) rig.rmp.launch(gpa / page + i, [0, RWX, 0], false);
};
type Case = readonly [what: string, request: Request, result: number, options?: Partial<SnpOptions>, before?: ((rig: SvsmRig) => void) | undefined, after?: (rig: SvsmRig) => void];
const cases = (rows: readonly Case[]): void => {
  it.each(rows.map(([what, ...rest]) => [what, rest] as const))('%s', (_what, [request, result, options = {}, before, after]) => {
    const rig = new SvsmRig(options);
    before?.(rig);
    const out = rig.call(request);
    expect(`0x${out.result.toString(16)}`).toBe(`0x${result.toString(16)}`);
    expect(out.pending).toBe(0);
    after?.(rig);
  });
};

// -- calling convention ------------------------------------------------------------------------------------------------

describe('a call without a served handler', () => {
  cases([
    ['protocol 5 is not known', { protocol: 5, call: 0 }, R.UnsupportedProtocol],
    ['protocol 0xffffffff is not known', { protocol: 0xffff_ffff, call: 0 }, R.UnsupportedProtocol],
    ['vTPM without a TPM is no protocol', { protocol: 2, call: 0 }, R.UnsupportedProtocol],
    ['APIC without its option is no protocol', { protocol: 3, call: 0 }, R.UnsupportedProtocol],
    ['UEFI MM is not served', { protocol: 4, call: 1 }, R.UnsupportedProtocol],
    ['core call 8 is not known', { call: 8 }, R.UnsupportedCall],
    ['core call 0xffffffff is not known', { call: 0xffff_ffff }, R.UnsupportedCall],
    ['DEPOSIT_MEM', { call: 4, rcx: At.a }, R.UnsupportedCall],
    ['WITHDRAW_MEM', { call: 5, rcx: At.a }, R.UnsupportedCall],
    ['attestation call 2: unknown', { protocol: 1, call: 2 }, R.UnsupportedCall],
    ['attestation call 2 as COCONUT answers it', { protocol: 1, call: 2 }, R.UnsupportedProtocol, { svsmDeviations: ['attestationCall'] }],
    ['vTPM call 2: unknown', { protocol: 2, call: 2 }, R.UnsupportedCall, { vtpm: true }],
    ['APIC call 5: unknown', { protocol: 3, call: 5 }, R.UnsupportedCall, { svsmApic: true }],
  ]);
});

describe('calling convention', () => {
  it('registers that a call does not define come back unchanged, on an error too', () => {
    const out = new SvsmRig().call({ call: 9, rcx: 1n, rdx: 2n, r8: 0xffff_ffff_ffff_ffffn });
    expect(out).toEqual({ result: R.UnsupportedCall, rcx: 1n, rdx: 2n, r8: 0xffff_ffff_ffff_ffffn, pending: 0 });
  });
  it('the result is zero extended', () => expect(new SvsmRig().call({ call: 8 }).result).toBe(0x8000_0002));
  it('Run VMPL without a request changes no register and serves nothing', () => {
    const rig = new SvsmRig();
    let rax = 0n;
    rig.guest(function* () {
      yield { op: 'wrmsr', index: 0xc001_0130, value: 0x16 };
      ({ rax } = yield { op: 'call', via: 'vmgexit', regs: { rax: 6, rcx: 1 } });
    });
    expect(rax).toBe(6n);
    expect(rig.switches.slice(-2)).toEqual(['0: 2>0 run-vmpl', '0: 0>2 run-vmpl']);
  });
  it('a request byte other than 1 asks, too; bytes behind it are kept', () => {
    const rig = new SvsmRig();
    rig.write(At.caa, Uint8Array.of(0, 0x55, 0, 1, 2, 3, 4, 5));
    rig.guest(function* () {
      yield { op: 'write', gpa: At.caa, value: 0x80, size: 1 };
      yield { op: 'wrmsr', index: 0xc001_0130, value: 0x16 };
      yield { op: 'call', via: 'vmgexit', regs: { rax: 6, rcx: 1 } };
    });
    expect([...rig.read(At.caa, 8)]).toEqual([0, 0x55, 0, 1, 2, 3, 4, 5]);
  });
  it('a request is not served when an interrupt for VMPL0 takes VMPL2 away: only its VMGEXIT serves it', () => {
    const rig = new SvsmRig();
    let between = -1;
    rig.start(function* () {
      yield { op: 'write', gpa: At.caa, value: 1, size: 1 };
      yield { op: 'work', cost: 5000, regs: { rax: 6, rcx: 1 } };
      between = Number((yield { op: 'read', gpa: At.caa, size: 1 }).rax & 0xffn);
    });
    rig.machine.run(4);
    rig.nmi(0, 0);
    rig.run();
    expect(between).toBe(1);
    expect(rig.switches.slice(-2)).toEqual(['0: 2>0 event', '0: 0>2 run-vmpl']);
    // The event is done with: it takes nothing away again.
    expect(rig.machine.vp(0).pending & 1).toBe(0);
  });
  it('a calling area that is not valid any more is no call', () => {
    const rig = new SvsmRig();
    rig.rmp.set(At.caa / page, 1, { validated: false });
    const out = rig.call({ call: 6, rcx: 1n });
    expect(out).toMatchObject({ result: 6, rcx: 1n, pending: 1 });
  });
  it('VMPL0 finds the answer to its own Run VMPL in the GHCB MSR', () => {
    const rig = new SvsmRig();
    rig.call({ call: 6 });
    const own = rig.snp.chapters.switching.plane(rig.machine.vp(0), 0)!;
    expect([own.ghcbMsrLo, own.ghcbMsrHi]).toEqual([0x17, 0]);
  });
  it('SVME of the VMSA is set when the guest goes on', () => {
    const rig = new SvsmRig();
    rig.call({ call: 9 });
    expect(rig.word(At.vmsa + 0xd0) & 0x1000n).toBe(0x1000n);
  });
});

// -- test options --------------------------------------------------------------------------------------------------------

describe('options for tests of guests', () => {
  it('every third call is BUSY, and succeeds when it is made again', () => {
    const rig = new SvsmRig({ svsmBusyEvery: 3 });
    expect([1, 2, 3, 4].map(() => rig.call({ call: 6, rcx: 1n }).result)).toEqual([0, 0, R.Busy, 0]);
  });
  it('BUSY changes nothing', () => {
    const rig = new SvsmRig({ svsmBusyEvery: 1 });
    expect(rig.call({ call: 6, rcx: 1n })).toEqual({ result: R.Busy, rcx: 1n, rdx: 0n, r8: 0n, pending: 0 });
  });
  it('PVALIDATE gives INCOMPLETE after two entries, and goes on when it is made again', () => {
    const rig = new SvsmRig({ svsmIncompleteEvery: 2 });
    rig.words(At.list, 5n, ...[0, 1, 2, 3, 4].map((i) => BigInt(At.fresh + i * page) | 4n));
    const seen = [1, 2, 3].map(() => [rig.call({ call: 1, rcx: At.list }).result, Number(rig.word(At.list) >> 16n)]);
    expect(seen).toEqual([[R.Incomplete, 2], [R.Incomplete, 4], [0, 5]]);
  });
});

// -- REMAP_CA --------------------------------------------------------------------------------------------------------------

describe('REMAP_CA', () => {
  cases([
    ['to another page', { call: 0, rcx: At.a }, 0, {}, (rig) => rig.words(At.a, 0xffff_ffff_ffff_ffffn), (rig) => {
      expect(rig.word(At.a)).toBe(0n);
      // The next call uses the new page; the old one is memory like any other.
      expect(rig.call({ call: 6, rcx: 1n }, 0, At.a)).toMatchObject({ result: 0, pending: 0 });
      expect(rig.call({ call: 6, rcx: 1n }, 0, At.caa)).toMatchObject({ result: 6, pending: 1 });
      expect(rig.call({ call: 0, rcx: At.caa }, 0, At.a).result).toBe(0);
    }],
    ['not aligned to 4 KiB', { call: 0, rcx: At.a + 8 }, R.InvalidParameter],
    ['alignment is judged before the address', { call: 0, rcx: 0xffff_ffff_ffff_0008n }, R.InvalidParameter],
    ['in the memory of the SVSM', { call: 0, rcx: At.svsm }, R.InvalidAddress],
    ['its first page behind', { call: 0, rcx: At.svsm - page }, R.InvalidAddress],
    ['beyond guest memory', { call: 0, rcx: At.memory }, R.InvalidAddress],
    ['beyond all addresses', { call: 0, rcx: 0xffff_ffff_ffff_f000n }, R.InvalidAddress],
    ['to the page of the launch VMSA', { call: 0, rcx: 0xffff_ffff_f000n }, R.InvalidAddress],
    ['to a VMSA page', { call: 0, rcx: At.b }, R.InvalidAddress, {}, (rig) => rig.provider.registry.add({ vmsa: At.b, area: At.c, apicId: 1, isMade: true })],
    ['to the calling area of another processor', { call: 0, rcx: At.c }, R.InvalidAddress, {}, (rig) => rig.provider.registry.add({ vmsa: At.b, area: At.c, apicId: 1, isMade: true })],
    ['to the area in use: nothing changes', { call: 0, rcx: At.caa }, 0, {}, undefined, (rig) => expect(rig.call({ call: 6, rcx: 1n }).result).toBe(0)],
    ['to the area in use, as COCONUT answers', { call: 0, rcx: At.caa }, R.InvalidAddress, { svsmDeviations: ['remapCurrent'] }, undefined, (rig) => expect(rig.call({ call: 6, rcx: 1n }).result).toBe(0)],
    ['to a page that is not valid', { call: 0, rcx: At.fresh }, R.InvalidAddress],
    ['to shared memory', { call: 0, rcx: At.shared }, R.InvalidAddress],
    ['to a page that the guest may not write', { call: 0, rcx: At.a }, R.InvalidAddress, {}, (rig) => rig.rmp.launch(At.a / page, [0, 1, 0], false)],
  ]);
});

describe('REMAP_CA to an unusable page, unchecked', () => {
  it('ends the provider: its keys are gone and the guest ends', () => {
    const rig = new SvsmRig({ svsmDeviations: ['uncheckedPages'] });
    rig.guest(function* () {
      yield { op: 'write', gpa: At.caa, value: 1, size: 1 };
      yield { op: 'wrmsr', index: 0xc001_0130, value: 0x16 };
      yield { op: 'call', via: 'vmgexit', regs: { rax: 0, rcx: At.fresh } };
    });
    expect(rig.exits).toEqual([expect.objectContaining({ kind: 'sevTermination', vmpl: 0, msrLo: 0x100, reasonSet: 0, reasonCode: 0, text: expect.stringContaining('the new calling area cannot be reached') })]);
    expect(rig.provider.attestation.psp.isCleared).toBe(true);
    // Nothing runs any more.
    rig.run();
    expect(rig.machine.vp(0).current).toBe(0);
    expect(rig.exits).toHaveLength(1);
  });
});

// -- PVALIDATE -------------------------------------------------------------------------------------------------------------

/** A list at `at` and the call for it. */
const list = (entries: readonly (bigint | number)[], { at = At.list, count = entries.length, next = 0 }: { readonly at?: number; readonly count?: number; readonly next?: number } = {}) => ({
  before: (rig: SvsmRig) => rig.words(at, BigInt(count) | (BigInt(next) << 16n) | (0xabcd_1234n << 32n), ...entries),
  request: { call: 1, rcx: at },
});
const pvalidate = (what: string, of: ReturnType<typeof list>, result: number, next: number | null, options: Partial<SnpOptions> = {}, more?: (rig: SvsmRig) => void, prepare?: (rig: SvsmRig) => void): Case => [
  what, of.request, result, options,
  (rig) => {
    prepare?.(rig);
    of.before(rig);
  },
  (rig) => {
    // The head is written back as it was, but for the index.
    if (next !== null) expect(rig.word(of.request.rcx)).toBe((0xabcd_1234n << 32n) | (BigInt(next) << 16n) | (rig.word(of.request.rcx) & 0xffffn));
    more?.(rig);
  },
];
const entryOf = (rig: SvsmRig, gpa: number) => rig.rmp.entry(gpa / page);
const fresh = (i: number): number => At.fresh + i * page;

describe('PVALIDATE header', () => {
  cases([
    ['list not aligned to 8', { call: 1, rcx: At.list + 4 }, R.InvalidParameter],
    ['list beyond memory', { call: 1, rcx: At.memory }, R.InvalidAddress],
    ['list in the memory of the SVSM', { call: 1, rcx: At.svsm }, R.InvalidAddress],
    ['list at the head of the calling area', { call: 1, rcx: At.caa }, R.InvalidAddress],
    ['list in a page that is not valid', { call: 1, rcx: At.fresh }, R.InvalidAddress],
    ['list in shared memory', { call: 1, rcx: At.shared }, R.InvalidAddress],
    pvalidate('no entries', list([], { count: 0 }), R.InvalidParameter, 0),
    pvalidate('more entries than the page has room for: 512 at offset 0', list([], { count: 512 }), R.InvalidParameter, 0),
    pvalidate('511 entries behind offset 8 leave the page', list([], { at: At.caa + 8, count: 511 }), R.InvalidParameter, 0),
    pvalidate('index at the end', list([fresh(0) | 4], { next: 1 }), R.InvalidParameter, 1),
    pvalidate('index behind the end', list([fresh(0) | 4], { next: 7 }), R.InvalidParameter, 7),
  ]);
});

describe('PVALIDATE entries', () => {
  cases([
    pvalidate('validate a page', list([fresh(0) | 4]), 0, 1, {}, (rig) => {
      expect(entryOf(rig, fresh(0))).toMatchObject({ validated: true, perms: [0, RWX, 0] });
      expect(rig.rmp.log.slice(-2)).toEqual(['pvalidate a00 4K 1', 'rmpadjust a00 4K 2 f']);
    }),
    pvalidate('validate at the calling area of the guest, from offset 8', list([fresh(0) | 4], { at: At.caa + 8 }), 0, 1),
    pvalidate('510 entries at offset 8', list(Array.from({ length: 510 }, (_, i) => fresh(i) | 4), { at: At.caa + 8 }), 0, 510),
    pvalidate('511 entries at offset 0', list(Array.from({ length: 511 }, (_, i) => fresh(i) | 4)), 0, 511),
    pvalidate('a resumed list starts at its index', list([fresh(0) | 4, fresh(1) | 4], { next: 1 }), 0, 2, {}, (rig) => {
      expect(entryOf(rig, fresh(0)).validated).toBe(false);
      expect(entryOf(rig, fresh(1)).validated).toBe(true);
    }),
    pvalidate('a page is cleared before the guest may reach it', list([fresh(0) | 4]), 0, 1, {}, (rig) => expect(rig.word(fresh(0) + 8)).toBe(0n), (rig) => rig.words(fresh(0), 1n, 2n)),
    pvalidate('reserved bit 4', list([fresh(0) | 4 | 0x10]), R.InvalidParameter, 0),
    pvalidate('reserved bit 11', list([fresh(0) | 4 | 0x800]), R.InvalidParameter, 0),
    pvalidate('page size 2', list([fresh(0) | 4 | 2]), R.InvalidParameter, 0),
    pvalidate('page size 3', list([fresh(0) | 4 | 3]), R.InvalidParameter, 0),
    pvalidate('2 MiB not aligned', list([fresh(1) | 5]), R.InvalidParameter, 0),
    pvalidate('page beyond memory', list([At.memory + 4]), R.InvalidAddress, 0),
    pvalidate('page number of all ones', list([0xffff_ffff_ffff_f004n]), R.InvalidAddress, 0),
    pvalidate('page of the SVSM', list([At.svsm | 4]), R.InvalidAddress, 0),
    pvalidate('2 MiB that reach into the SVSM', list([0x80_0005]), R.InvalidAddress, 0),
    pvalidate('page with the head of a calling area', list([At.caa | 4]), R.InvalidAddress, 0),
    pvalidate('page of a VMSA', list([At.b | 4]), R.InvalidAddress, 0, {}, undefined, (rig) => rig.provider.registry.add({ vmsa: At.b, area: At.c, apicId: 1, isMade: true })),
    pvalidate('valid already', list([At.a | 4]), Core.Unchanged, 0, {}, undefined, (rig) => give(rig, At.a)),
    pvalidate('valid already, ignored: cleared all the same', list([At.a | 0xc]), 0, 1, {}, (rig) => expect(rig.word(At.a)).toBe(0n), (rig) => rig.words(At.a, 5n)),
    pvalidate('not made private by the host', list([At.shared | 4]), Core.FailInput, 0),
    pvalidate('2 MiB of an entry of 2 MiB', list([At.large | 5]), 0, 1, {}, (rig) => {
      expect(entryOf(rig, At.large + 511 * page)).toMatchObject({ validated: true, perms: [0, RWX, 0], large: true });
      expect(rig.word(At.large + 511 * page)).toBe(0n);
    }, (rig) => rig.words(At.large + 511 * page, 9n)),
    pvalidate('2 MiB over entries of 4 KiB', list([At.fresh | 5]), Core.FailSizeMismatch, 0, {}, (rig) => expect(entryOf(rig, At.fresh).validated).toBe(false)),
    pvalidate('4 KiB of an entry of 2 MiB: the host splits it', list([(At.large + page) | 4]), 0, 1, {}, (rig) => {
      expect(rig.rmp.log).toContain('smash c00');
      expect(entryOf(rig, At.large).validated).toBe(false);
      expect(entryOf(rig, At.large + page).validated).toBe(true);
    }),
    pvalidate('the area of read-only memory keeps its contents', list([0xa_0004]), 0, 1, {}, (rig) => expect(rig.word(0xa_0000)).toBe(7n), (rig) => {
      rig.rmp.assign(0xa0, 0x60, true);
      rig.words(0xa_0000, 7n);
    }),
    pvalidate('its last page keeps them, too', list([0xf_f004]), 0, 1, {}, (rig) => expect(rig.word(0xf_f000)).toBe(7n), (rig) => {
      rig.rmp.assign(0xa0, 0x60, true);
      rig.words(0xf_f000, 7n);
    }),
    pvalidate('the page behind it does not', list([0x10_0004]), 0, 1, {}, (rig) => expect(rig.word(0x10_0000)).toBe(0n), (rig) => {
      rig.rmp.assign(0x100, 1, true);
      rig.words(0x10_0000, 7n);
    }),
    pvalidate('2 MiB at 0 are cleared wholly: only where they start counts', list([0x5]), 0, 1, {}, (rig) => expect(rig.word(0xa_0000)).toBe(0n), (rig) => {
      rig.rmp.assign(0, 512, true, true);
      rig.words(0xa_0000, 7n);
    }),
    pvalidate('rescind: rights first, then PVALIDATE', list([At.a]), 0, 1, {}, (rig) => {
      expect(rig.rmp.log.slice(-3)).toEqual(['rmpadjust 801 4K 2 0', 'rmpadjust 801 4K 3 0', 'pvalidate 801 4K 0']);
      expect(entryOf(rig, At.a)).toMatchObject({ validated: false, perms: [0, 0, 0] });
    }),
    pvalidate('rescind keeps the contents', list([At.a]), 0, 1, {}, (rig) => expect(rig.word(At.a)).toBe(5n), (rig) => rig.words(At.a, 5n)),
    pvalidate('rescind what was never valid', list([fresh(0)]), Core.FailInput, 0),
    pvalidate('rescind 2 MiB', list([At.large | 1]), 0, 1, {}, (rig) => expect(entryOf(rig, At.large + 511 * page).validated).toBe(false), (rig) => rig.rmp.set(At.large / page, 512, { validated: true })),
    pvalidate('rescind 2 MiB over entries of 4 KiB', list([At.fresh | 1]), Core.FailSizeMismatch, 0, {}, undefined, (rig) => rig.rmp.set(At.fresh / page, 512, { validated: true })),
    pvalidate('the first entry that fails stops the list', list([fresh(0) | 4, At.svsm | 4, fresh(1) | 4]), R.InvalidAddress, 1, {}, (rig) => {
      expect(entryOf(rig, fresh(0)).validated).toBe(true);
      expect(entryOf(rig, fresh(1)).validated).toBe(false);
    }),
  ]);
});

describe('PVALIDATE of a page that was never valid, unchecked', () => {
  it('rescinding it ends the provider', () => {
    const rig = new SvsmRig({ svsmDeviations: ['uncheckedPages'] });
    rig.words(At.list, 1n, BigInt(At.fresh));
    rig.guest(function* () {
      yield { op: 'write', gpa: At.caa, value: 1, size: 1 };
      yield { op: 'wrmsr', index: 0xc001_0130, value: 0x16 };
      yield { op: 'call', via: 'vmgexit', regs: { rax: 1, rcx: At.list } };
    });
    expect(rig.exits).toHaveLength(1);
  });
});

// -- QUERY_PROTOCOL, CONFIGURE_VTOM ------------------------------------------------------------------------------------------

describe('QUERY_PROTOCOL', () => {
  it.each([
    ['core version 1', 0x0_0000_0001n, {}, 0x1_0000_0001n],
    ['core version 0', 0x0_0000_0000n, {}, 0n],
    ['core version 2', 0x0_0000_0002n, {}, 0n],
    ['attestation', 0x1_0000_0001n, {}, 0x1_0000_0001n],
    ['vTPM without a TPM', 0x2_0000_0001n, {}, 0n],
    ['vTPM', 0x2_0000_0001n, { vtpm: true }, 0x1_0000_0001n],
    ['APIC', 0x3_0000_0001n, { svsmApic: true }, 0x1_0000_0001n],
    ['APIC without its option', 0x3_0000_0001n, {}, 0n],
    ['UEFI MM', 0x4_0000_0001n, {}, 0n],
    ['unknown', 0xffff_ffff_0000_0001n, {}, 0n],
  ] as const)('%s', (_what, rcx, options, answer) => {
    expect(new SvsmRig(options).call({ call: 6, rcx })).toMatchObject({ result: 0, rcx: answer });
  });
});

describe('CONFIGURE_VTOM', () => {
  it('a query says that it is not supported', () => expect(new SvsmRig().call({ call: 7, rcx: 1n })).toMatchObject({ result: 0, rcx: 0n }));
  it('a setting is refused and keeps RCX', () => expect(new SvsmRig().call({ call: 7, rcx: 0x8000_0000_0000n })).toMatchObject({ result: R.InvalidRequest, rcx: 0x8000_0000_0000n }));
});
