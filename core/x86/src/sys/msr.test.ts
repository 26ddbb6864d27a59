import { Arena } from '@vmplanes/engine';
import { beforeEach, describe, expect, it } from 'vitest';
import { CONTEXT_SIZE, isRegisterName, x86ContextLayout } from '../state/layout.ts';
import { readRegister, writeRegister } from '../state/registers.ts';
import { initializeContext } from '../state/reset.ts';
import { buildCpuid, resolveCpuModel } from './cpu-models.ts';
import { deriveFeatures } from './features.ts';
import { MSR_FILTER_DEFAULT_DENY, MsrFilter, MsrFilterDirection, type MsrFilterRange } from './msr-filter.ts';
import { msrRows } from './msr-rows.ts';
import { type MsrAccess, MsrTable } from './msr.ts';

const featuresOf = (base: string, more: Partial<Parameters<typeof resolveCpuModel>[0]> = {}) => deriveFeatures(buildCpuid(resolveCpuModel({ name: 't', about: '', base, ...more }), { apicId: 0, vpCount: 1 }));
const epyc = featuresOf('epyc-like');
const intel = featuresOf('base', { vendor: 'GenuineIntel' });
const table = new MsrTable(msrRows);
const arena = new Arena(new ArrayBuffer(CONTEXT_SIZE));
let guest: MsrAccess;
let host: MsrAccess;
beforeEach(() => {
  initializeContext(arena, 0, { signature: 0, mxcsrMask: 0xffff });
  guest = { arena, base: 0, features: epyc, byHost: false, machineTicks: 1_000n };
  host = { ...guest, byHost: true };
});

describe('MSR rows', () => {
  // [index, value, result of a guest write, value read afterwards (the old one when refused)]
  it.each<readonly [string, number, bigint, 'ok' | 'invalid' | 'unknown', bigint]>([
    ['SPEC_CTRL', 0x48, 7n, 'ok', 7n],
    ['SPEC_CTRL reserved', 0x48, 8n, 'invalid', 0n],
    ['microcode revision ignores writes', 0x8b, 5n, 'ok', 0n],
    ['MTRRCAP is read-only', 0xfe, 0x508n, 'invalid', 0x508n],
    ['SYSENTER_EIP keeps 32 bits on AMD', 0x176, 0xffff_8000_1234_5678n, 'ok', 0x1234_5678n],
    ['MCG_STATUS clears', 0x17a, 0n, 'ok', 0n],
    ['MCG_STATUS sets', 0x17a, 1n, 'invalid', 0n],
    ['MISC_ENABLE report bits', 0x1a0, 0x1n, 'invalid', 0x1801n],
    ['MISC_ENABLE', 0x1a0, 0x4_1801n, 'ok', 0x4_1801n],
    ['DEBUGCTL', 0x1d9, 3n, 'ok', 3n],
    ['DEBUGCTL reserved', 0x1d9, 4n, 'invalid', 0n],
    ['last branch is read-only', 0x1db, 1n, 'invalid', 0n],
    ['MTRR base', 0x20e, 0x1234_5006n, 'ok', 0x1234_5006n],
    ['MTRR mask', 0x20f, 0xffff_fff0_0800n, 'ok', 0xffff_fff0_0800n],
    ['MTRR mask beyond MAXPHYADDR', 0x20f, 0x1_0000_0000_0800n, 'invalid', 0n],
    ['fixed MTRR', 0x26f, 0x0606_0606_0505_0000n, 'ok', 0x0606_0606_0505_0000n],
    ['fixed MTRR bad type', 0x250, 2n, 'invalid', 0n],
    ['PAT', 0x277, 0x0007_0106_0007_0106n, 'ok', 0x0007_0106_0007_0106n],
    ['PAT bad type', 0x277, 3n, 'invalid', 0x0007_0406_0007_0406n],
    ['MTRR default', 0x2ff, 0xc06n, 'ok', 0xc06n],
    ['U_CET reserved', 0x6a0, 0x40n, 'invalid', 0n],
    ['PL3_SSP', 0x6a7, 0x7fff_0000_1000n, 'ok', 0x7fff_0000_1000n],
    ['PL0_SSP misaligned', 0x6a4, 2n, 'invalid', 0n],
    ['XSS', 0xda0, 0x1800n, 'ok', 0x1800n],
    ['XSS unsupported', 0xda0, 0x100n, 'invalid', 0n],
    ['EFER', 0xc000_0080, 0x901n, 'ok', 0x901n],
    ['EFER reserved', 0xc000_0080, 0x2n, 'invalid', 0n],
    ['STAR', 0xc000_0081, 0x0023_0010_0000_0000n, 'ok', 0x0023_0010_0000_0000n],
    ['LSTAR', 0xc000_0082, 0xffff_ffff_8100_0000n, 'ok', 0xffff_ffff_8100_0000n],
    ['LSTAR not canonical', 0xc000_0082, 0x8000_0000_0000n, 'invalid', 0n],
    ['FMASK above 32 bits', 0xc000_0084, 1n << 32n, 'invalid', 0n],
    ['FS base', 0xc000_0100, 0x1234n, 'ok', 0x1234n],
    ['GS base not canonical', 0xc000_0101, 1n << 62n, 'invalid', 0n],
    ['KERNEL_GS_BASE', 0xc000_0102, 0xffff_8000_0000_0000n, 'ok', 0xffff_8000_0000_0000n],
    ['TSC_AUX', 0xc000_0103, 0xffff_ffffn, 'ok', 0xffff_ffffn],
    ['TSC_AUX above 32 bits', 0xc000_0103, 1n << 32n, 'invalid', 0n],
    ['HWCR', 0xc001_0015, 0x0100_0008n, 'ok', 0x0100_0000n],
    ['VIRT_SPEC_CTRL', 0xc001_011f, 4n, 'ok', 4n],
    ['DR2 mask', 0xc001_101a, 0xfffn, 'ok', 0xfffn],
    ['feature control without VMX', 0x3a, 1n, 'invalid', 0n],
    ['nothing there', 0x1234_5678, 0n, 'unknown', 0n],
  ])('%s', (_name, index, value, expected, after) => {
    expect(table.write(guest, index, value)).toBe(expected);
    if (expected !== 'unknown') expect(table.read(host, index)).toBe(after);
    else expect(table.read(guest, index)).toBe('unknown');
  });

  // SDM 4 Table 2-2 and APM2 Appendix A: index, cell of the context block.
  it.each([
    [0x3a, 'featureControl'], [0x3b, 'tscAdjust'], [0x48, 'specCtrl'], [0x8b, 'patchLevel'], [0x9e, 'smbase'], [0x174, 'sysenterCs'], [0x175, 'sysenterEsp'], [0x176, 'sysenterEip'],
    [0x179, 'mcgCap'], [0x17a, 'mcgStatus'], [0x1a0, 'miscEnable'], [0x1d9, 'debugCtl'], [0x1db, 'lastBranchFrom'], [0x1dc, 'lastBranchTo'], [0x1dd, 'lastExceptionFrom'], [0x1de, 'lastExceptionTo'],
    [0x200, 'mtrrPhysBase0'], [0x201, 'mtrrPhysMask0'], [0x202, 'mtrrPhysBase1'], [0x20e, 'mtrrPhysBase7'], [0x20f, 'mtrrPhysMask7'], [0x250, 'mtrrFix64k00000'], [0x258, 'mtrrFix16k80000'],
    [0x259, 'mtrrFix16kA0000'], [0x268, 'mtrrFix4kC0000'], [0x269, 'mtrrFix4kC8000'], [0x26a, 'mtrrFix4kD0000'], [0x26b, 'mtrrFix4kD8000'], [0x26c, 'mtrrFix4kE0000'], [0x26d, 'mtrrFix4kE8000'],
    [0x26e, 'mtrrFix4kF0000'], [0x26f, 'mtrrFix4kF8000'], [0x277, 'pat'], [0x2ff, 'mtrrDefType'], [0x6a0, 'uCet'], [0x6a2, 'sCet'], [0x6a4, 'pl0Ssp'], [0x6a5, 'pl1Ssp'], [0x6a6, 'pl2Ssp'],
    [0x6a7, 'pl3Ssp'], [0x6a8, 'interruptSspTable'], [0xda0, 'xss'], [0xc000_0080, 'efer'], [0xc000_0081, 'star'], [0xc000_0082, 'lstar'], [0xc000_0083, 'cstar'], [0xc000_0084, 'sfmask'],
    [0xc000_0100, 'fs.base'], [0xc000_0101, 'gs.base'], [0xc000_0102, 'kernelGsBase'], [0xc000_0103, 'tscAux'], [0xc001_0015, 'hwcr'], [0xc001_011f, 'virtSpecCtrl'],
    [0xc001_1027, 'dr0Mask'], [0xc001_1019, 'dr1Mask'], [0xc001_101a, 'dr2Mask'], [0xc001_101b, 'dr3Mask'],
  ] as const)('%i reads cell %s', (index, name) => {
    writeRegister(arena, 0, name, 0x1234_5678_9abc_def0n);
    expect(table.read(host, index)).toBe(0x1234_5678_9abc_def0n);
    expect(table.lookup(index)?.cell).toBe(name);
  });

  it('give every MSR cell of the layout an index, but what has none', () => {
    const reached = new Set(msrRows.map((r) => r.cell));
    const cells = x86ContextLayout.registers.filter((r) => r.groups?.includes('msr')).map((r) => r.name).filter((n) => isRegisterName(n) && !reached.has(n));
    // The offset and the ratio show in IA32_TIME_STAMP_COUNTER.
    expect(cells).toEqual(['tscOffset', 'tscScale']);
  });

  it('hide what the model lacks, but not from the host', () => {
    const bare = { ...guest, features: featuresOf('qemu64-like') };
    for (const index of [0x3b, 0x48, 0x6a0, 0xda0, 0xc000_0103, 0xc001_011f, 0xc001_1027]) {
      expect([index, table.read(bare, index), table.write(bare, index, 0n)]).toEqual([index, 'invalid', 'invalid']);
      expect([index, table.read({ ...bare, byHost: true }, index)]).toEqual([index, 0n]);
    }
    expect(table.read(guest, 0x49)).toBe('invalid');
    expect(table.write(guest, 0x49, 1n)).toBe('ok');
    expect(table.write(guest, 0x49, 2n)).toBe('invalid');
  });

  it('fault on non-canonical SYSENTER targets where the vendor does', () => {
    expect(table.write({ ...guest, features: intel }, 0x176, 0x8000_0000_0000n)).toBe('invalid');
    expect(table.write({ ...guest, features: intel }, 0x176, 0xffff_8000_0000_0000n)).toBe('ok');
  });

  it('can be saved and restored whole by the host, in index order', () => {
    writeRegister(arena, 0, 'efer', 0xd01n);
    writeRegister(arena, 0, 'cr0', 0x8000_0011n);
    writeRegister(arena, 0, 'cr4', 0x20n);
    writeRegister(arena, 0, 'mcgCap', 0x100n);
    writeRegister(arena, 0, 'tscOffset', 77n);
    const indices = table.indices(epyc);
    expect(indices).toEqual([...indices].sort((a, b) => a - b));
    const before = arena.u8.slice();
    const values = indices.map((i) => [i, table.read(host, i)] as const);
    initializeContext(arena, 0, { signature: 0, mxcsrMask: 0xffff });
    for (const name of ['cr0', 'cr4'] as const) writeRegister(arena, 0, name, new DataView(before.buffer).getBigUint64({ cr0: 0x498, cr4: 0x4a8 }[name], true));
    for (const [index, value] of values) {
      if (typeof value !== 'bigint') throw new Error(`0x${index.toString(16)} ${value}`);
      expect([index, table.write(host, index, value)]).toEqual([index, 'ok']);
    }
    expect(arena.u8).toEqual(before);
  });

  it('leave the ranges of the APIC and of guest interfaces to claims', () => {
    const own = new MsrTable(msrRows);
    expect(own.read(guest, 0x802)).toBe('unknown');
    own.claim({ owner: 'apic', first: 0x800, last: 0x8ff, read: (_a, i) => BigInt(i), write: () => 'invalid' });
    expect([own.read(guest, 0x802), own.write(guest, 0x802, 0n), own.read(guest, 0x900)]).toEqual([0x802n, 'invalid', 'unknown']);
    const idle = { read: () => 0n, write: () => 'ok' as const };
    expect(() => own.claim({ owner: 'x', first: 0x8ff, last: 0x900, ...idle })).toThrow(/claimed by apic and by x/);
    expect(() => own.claim({ owner: 'x', first: 0xc000_0000, last: 0xc000_0080, ...idle })).toThrow(/claimed by IA32_EFER and by x/);
    own.claim({ owner: 'one', first: 0x4000_0000, last: 0x4000_0000, ...idle });
    expect([own.read(guest, 0x4000_0000), own.read(guest, 0x4000_0001)]).toEqual([0n, 'unknown']);
    expect(() => own.claim({ owner: 'x', first: 1, last: 0, ...idle })).toThrow(/ends before/);
    expect(() => new MsrTable([msrRows[0]!, msrRows[0]!])).toThrow(/declared twice/);
    expect(() => new MsrTable([{ index: 1, name: 'x', spec: '', access: 'rw' }])).toThrow(/neither/);
  });
});

describe('the TSC of a plane', () => {
  it('is machine time scaled, plus an offset', () => {
    expect(table.read(guest, 0x10)).toBe(1_000n);
    writeRegister(arena, 0, 'tscScale', 3n << 31n);
    writeRegister(arena, 0, 'tscOffset', -500n);
    expect(table.read(guest, 0x10)).toBe(1_000n);
    expect(table.read({ ...guest, machineTicks: 2_000n }, 0x10)).toBe(2_500n);
    writeRegister(arena, 0, 'tscOffset', -2_000n);
    expect(table.read(guest, 0x10)).toBe((1n << 64n) - 500n);
  });

  it('moves together with IA32_TSC_ADJUST when the guest writes either', () => {
    expect(table.write(guest, 0x10, 5_000n)).toBe('ok');
    expect([table.read(guest, 0x10), table.read(guest, 0x3b)]).toEqual([5_000n, 4_000n]);
    expect(table.write(guest, 0x3b, 0n)).toBe('ok');
    expect([table.read(guest, 0x10), table.read(guest, 0x3b)]).toEqual([1_000n, 0n]);
    expect(table.write(guest, 0x10, 0n)).toBe('ok');
    expect([table.read(guest, 0x10), readRegister(arena, 0, 'tscAdjust')]).toEqual([0n, (1n << 64n) - 1_000n]);
  });

  it('moves alone when the host writes', () => {
    table.write(host, 0x10, 9_000n);
    expect([table.read(guest, 0x10), table.read(guest, 0x3b)]).toEqual([9_000n, 0n]);
    table.write(host, 0x3b, 123n);
    expect([table.read(guest, 0x10), table.read(guest, 0x3b)]).toEqual([9_000n, 123n]);
  });
});

describe('MSR filter', () => {
  const { read, write } = MsrFilterDirection;
  const range = (base: number, count: number, flags: number, ...bytes: number[]): MsrFilterRange => ({ base, count, flags, bitmap: Uint8Array.from({ length: 8 * Math.ceil(count / 64) }, (_, i) => bytes[i] ?? 0) });
  const filter = (flags: number, ...ranges: MsrFilterRange[]): MsrFilter => {
    const made = MsrFilter.create({ flags, ranges });
    if (typeof made === 'string') throw new Error(made);
    return made;
  };

  it('allows where the bitmap has a one, in its directions; elsewhere the default holds', () => {
    const f = filter(0, range(0x174, 3, read, 0b101), range(0x174, 3, write, 0b010));
    expect([0x173, 0x174, 0x175, 0x176, 0x177].map((i) => f.check(i, read))).toEqual(['allow', 'allow', 'filter', 'allow', 'allow']);
    expect([0x174, 0x175, 0x176].map((i) => f.check(i, write))).toEqual(['filter', 'allow', 'filter']);
    const deny = filter(MSR_FILTER_DEFAULT_DENY, range(0xc000_0080, 16, read | write, 0xff, 0x01));
    expect([0xc000_007f, 0xc000_0080, 0xc000_0088, 0xc000_0089, 0xc000_0090, 0x10].map((i) => deny.check(i, read))).toEqual(['filter', 'allow', 'allow', 'filter', 'filter', 'filter']);
  });

  it('takes the first range that holds the index', () => {
    const f = filter(0, range(0x10, 1, read, 1), range(0x10, 1, read | write, 0));
    expect([f.check(0x10, read), f.check(0x10, write)]).toEqual(['allow', 'filter']);
  });

  it('never filters x2APIC registers', () => {
    const f = filter(MSR_FILTER_DEFAULT_DENY, range(0x7f0, 0x200, read | write));
    expect([0x7ff, 0x800, 0x8ff, 0x900].map((i) => f.check(i, write))).toEqual(['filter', 'allow', 'allow', 'filter']);
  });

  it('copies the bitmap and comes back from its declaration', () => {
    const bitmap = Uint8Array.of(1);
    const f = filter(0, { base: 5, count: 1, flags: read, bitmap });
    bitmap[0] = 0;
    expect(f.check(5, read)).toBe('allow');
    const again = MsrFilter.create(structuredClone(f.declaration));
    expect(again).toEqual(f);
  });

  const many = (n: number): MsrFilterRange[] => Array.from({ length: n }, (_, i) => range(i, 1, read));
  it.each<readonly [string, number, readonly MsrFilterRange[], 'EINVAL' | 'EFAULT' | 'made']>([
    ['16 ranges', 0, many(16), 'made'],
    ['17 ranges', 0, many(17), 'EINVAL'],
    ['an unknown flag', 2, many(1), 'EINVAL'],
    ['a range without direction', 0, [range(0, 1, 0)], 'EINVAL'],
    ['an unknown direction', 0, [range(0, 1, 4)], 'EINVAL'],
    ['an empty range with bad flags, which is ignored', 0, [range(0, 0, 8)], 'made'],
    ['no range, allow by default', 0, [], 'made'],
    ['no range, deny by default', MSR_FILTER_DEFAULT_DENY, [], 'EINVAL'],
    ['only empty ranges, deny by default', MSR_FILTER_DEFAULT_DENY, [range(0, 0, read)], 'EINVAL'],
    ['the longest bitmap', 0, [range(0, 0x3000, read)], 'made'],
    ['a bitmap one word too long', 0, [range(0, 0x3001, read)], 'EINVAL'],
    ['a bitmap that is not there', 0, [{ base: 0, count: 9, flags: read, bitmap: new Uint8Array(1) }], 'EFAULT'],
  ])('%s', (_name, flags, ranges, expected) => {
    const made = MsrFilter.create({ flags, ranges });
    expect(typeof made === 'string' ? made : 'made').toBe(expected);
  });
});
