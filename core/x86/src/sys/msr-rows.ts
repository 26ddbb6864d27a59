import type { RegisterName } from '../state/layout.ts';
import { readRegister, writeRegister } from '../state/registers.ts';
import { type ControlState, isCanonicalAddress, legalizeEfer, legalizeXss } from './control.ts';
import { gp0, type Legalized } from './fault.ts';
import { legalizeMtrrDefType, legalizeMtrrFixed, legalizeMtrrPhysBase, legalizeMtrrPhysMask, legalizePat } from './memory-types.ts';
import type { MsrAccess, MsrRow } from './msr.ts';

type Legalize = NonNullable<MsrRow['legalize']>;

/** Only the bits of `mask` may be set. */
const within = (mask: bigint): Legalize => (_old, value) => (value & ~mask ? gp0 : { value });
const canonical: Legalize = (_old, value, { features }) => (isCanonicalAddress(value, features.la57) ? { value } : gp0);
/** SYSENTER targets: AMD processors keep 32 bits, others fault on a non-canonical address. @spec APM2 §6.1.2; SDM 4 Table 2-2 (175H, 176H) */
const sysenterTarget: Legalize = (old, value, access) => (access.features.vendor === 'AuthenticAMD' ? { value: value & 0xffff_ffffn } : canonical(old, value, access));

/** The control registers of the accessed plane. */
export function readControlState({ arena, base }: Pick<MsrAccess, 'arena' | 'base'>): ControlState {
  return {
    cr0: readRegister(arena, base, 'cr0'),
    cr3: readRegister(arena, base, 'cr3'),
    cr4: readRegister(arena, base, 'cr4'),
    efer: readRegister(arena, base, 'efer'),
    csL: ((readRegister(arena, base, 'cs.attributes') >> 9n) & 1n) === 1n,
  };
}

/** The machine monitor may set LMA and change LME while paging is on: it sets CR0 and EFER in any order. */
function legalizeEferAccess(_old: bigint, value: bigint, access: MsrAccess): Legalized {
  if (!access.byHost) return legalizeEfer(value, readControlState(access), access.features);
  return legalizeEfer(value, { cr0: 0n, cr3: 0n, cr4: 0n, efer: value, csL: false }, access.features);
}

const U64 = (1n << 64n) - 1n;

/** The TSC of a plane at a machine time: scaled, then offset. @spec SDM 3B §18.17; APM2 §15.30.5 (8.32 fixed-point ratio) */
export function readTsc({ arena, base, machineTicks }: Pick<MsrAccess, 'arena' | 'base' | 'machineTicks'>): bigint {
  return (((machineTicks * readRegister(arena, base, 'tscScale')) >> 32n) + readRegister(arena, base, 'tscOffset')) & U64;
}

/** Sets the TSC of a plane. A write by the guest moves IA32_TSC_ADJUST by the same amount. @spec SDM 3B §18.17.3 */
function writeTsc(access: MsrAccess, value: bigint): void {
  const { arena, base } = access;
  const delta = value - readTsc(access);
  writeRegister(arena, base, 'tscOffset', readRegister(arena, base, 'tscOffset') + delta);
  if (!access.byHost) writeRegister(arena, base, 'tscAdjust', readRegister(arena, base, 'tscAdjust') + delta);
}

/** Sets IA32_TSC_ADJUST; a write by the guest moves the TSC by the same amount. @spec SDM 3B §18.17.3 */
function writeTscAdjust({ arena, base, byHost }: MsrAccess, value: bigint): void {
  const delta = value - readRegister(arena, base, 'tscAdjust');
  if (!byHost) writeRegister(arena, base, 'tscOffset', readRegister(arena, base, 'tscOffset') + delta);
  writeRegister(arena, base, 'tscAdjust', value);
}

/** Most MSRs: a cell, the manual's section, and how a write is checked. */
const cell = (index: number, name: string, register: RegisterName, spec: string, legalize?: Legalize, rest: Partial<MsrRow> = {}): MsrRow => ({
  index, name, spec, access: 'rw', cell: register, ...(legalize ? { legalize } : {}), ...rest,
});
const constant = (index: number, name: string, spec: string, value: bigint, rest: Partial<MsrRow> = {}): MsrRow => ({ index, name, spec, access: 'ro', read: () => value, ...rest });

const mtrr = (index: number, name: string, register: RegisterName, legalize: Legalize): MsrRow => cell(index, name, register, 'SDM 3A §12.11.2', legalize, { features: ['mtrr'] });
const fixedMtrrs: readonly (readonly [number, RegisterName])[] = [
  [0x250, 'mtrrFix64k00000'], [0x258, 'mtrrFix16k80000'], [0x259, 'mtrrFix16kA0000'], [0x268, 'mtrrFix4kC0000'], [0x269, 'mtrrFix4kC8000'], [0x26a, 'mtrrFix4kD0000'],
  [0x26b, 'mtrrFix4kD8000'], [0x26c, 'mtrrFix4kE0000'], [0x26d, 'mtrrFix4kE8000'], [0x26e, 'mtrrFix4kF0000'], [0x26f, 'mtrrFix4kF8000'],
];
const cet = (index: number, name: string, register: RegisterName, legalize: Legalize): MsrRow => cell(index, name, register, 'SDM 1 §17.1', legalize, { features: ['cetSs', 'cetIbt'] });
/** Shadow-stack pointers: canonical, 4-byte aligned. @spec SDM 4 Table 2-2 (6A4H-6A7H) */
const shadowStack: Legalize = (old, value, access) => (value & 3n ? gp0 : canonical(old, value, access));
/** U_CET and S_CET: bits 9:6 are reserved, tracker states 11 and SUPPRESS exclude each other. @spec SDM 1 §17.1.2 */
const cetControl: Legalize = (old, value, access) => (value & 0x3c0n || (value & 0xc00n) === 0xc00n ? gp0 : canonical(old, value, access));

/**
 * The MSRs that a plane context holds, by index. Left to others: 1BH, 6E0H and 800H-8FFH (the local APIC: its base, deadline timer and x2APIC registers),
 * 40000000H up and 4B564D00H up (guest interfaces), machine-check banks (none: MCG_CAP counts zero).
 * @spec SDM 4 Table 2-2; APM2 Appendix A
 */
export const msrRows: readonly MsrRow[] = [
  { index: 0x10, name: 'IA32_TIME_STAMP_COUNTER', spec: 'SDM 3B §18.17', access: 'rw', read: readTsc, write: writeTsc },
  constant(0x17, 'IA32_PLATFORM_ID', 'SDM 4 Table 2-2', 0n),
  cell(0x3a, 'IA32_FEATURE_CONTROL', 'featureControl', 'SDM 4 Table 2-2', (old, value, a) => (value & ~7n || (old & 1n && !a.byHost) ? gp0 : { value }), { features: ['vmx'] }),
  cell(0x3b, 'IA32_TSC_ADJUST', 'tscAdjust', 'SDM 3B §18.17.3', undefined, { write: writeTscAdjust, features: ['tscAdjust'] }),
  cell(0x48, 'IA32_SPEC_CTRL', 'specCtrl', 'SDM 4 Table 2-2', within(7n), { features: ['specCtrl', 'ibrs', 'amdStibp', 'amdSsbd'] }),
  { index: 0x49, name: 'IA32_PRED_CMD', spec: 'SDM 4 Table 2-2', access: 'wo', features: ['specCtrl', 'ibpb'], read: () => 0n, legalize: within(1n), write: () => {} },
  cell(0x8b, 'IA32_BIOS_SIGN_ID', 'patchLevel', 'SDM 3A §10.11.7.1', (old, value, a) => ({ value: a.byHost ? value : old })),
  cell(0x9e, 'IA32_SMBASE', 'smbase', 'SDM 3C §33.11', undefined, { access: 'ro' }),
  constant(0xfe, 'IA32_MTRRCAP', 'SDM 3A §12.11.1', 0x508n, { features: ['mtrr'] }),
  constant(0x10a, 'IA32_ARCH_CAPABILITIES', 'SDM 4 Table 2-2', 0n, { features: ['archCapabilities'] }),
  cell(0x174, 'IA32_SYSENTER_CS', 'sysenterCs', 'SDM 2B SYSENTER', undefined, { features: ['sep'] }),
  cell(0x175, 'IA32_SYSENTER_ESP', 'sysenterEsp', 'SDM 2B SYSENTER', sysenterTarget, { features: ['sep'] }),
  cell(0x176, 'IA32_SYSENTER_EIP', 'sysenterEip', 'SDM 2B SYSENTER', sysenterTarget, { features: ['sep'] }),
  cell(0x179, 'IA32_MCG_CAP', 'mcgCap', 'SDM 3B §16.3.1.1', undefined, { access: 'ro' }),
  cell(0x17a, 'IA32_MCG_STATUS', 'mcgStatus', 'SDM 3B §16.3.1.2', (_old, value, a) => (a.byHost || value === 0n ? { value } : gp0)),
  cell(0x1a0, 'IA32_MISC_ENABLE', 'miscEnable', 'SDM 4 Table 2-2', (old, value, a) => {
    // Bits 11 and 12 report what is missing.
    const readOnly = 0x1800n;
    return !a.byHost && (value ^ old) & readOnly ? gp0 : { value };
  }),
  cell(0x1d9, 'IA32_DEBUGCTL', 'debugCtl', 'SDM 3B §18.4.1; APM2 §13.1.1.6', within(3n)),
  cell(0x1db, 'LastBranchFromIP', 'lastBranchFrom', 'APM2 §13.1.1.7', undefined, { access: 'ro' }),
  cell(0x1dc, 'LastBranchToIP', 'lastBranchTo', 'APM2 §13.1.1.7', undefined, { access: 'ro' }),
  cell(0x1dd, 'LastExceptionFromIP', 'lastExceptionFrom', 'APM2 §13.1.1.7', undefined, { access: 'ro' }),
  cell(0x1de, 'LastExceptionToIP', 'lastExceptionTo', 'APM2 §13.1.1.7', undefined, { access: 'ro' }),
  ...Array.from({ length: 8 }, (_, n) => [
    mtrr(0x200 + 2 * n, `IA32_MTRR_PHYSBASE${n}`, `mtrrPhysBase${n as 0}`, (_old, value, a) => legalizeMtrrPhysBase(value, a.features)),
    mtrr(0x201 + 2 * n, `IA32_MTRR_PHYSMASK${n}`, `mtrrPhysMask${n as 0}`, (_old, value, a) => legalizeMtrrPhysMask(value, a.features)),
  ]).flat(),
  ...fixedMtrrs.map(([index, register]) => mtrr(index, `IA32_${register.replace('mtrrFix', 'MTRR_FIX').replace('k', 'K_')}`, register, (_old, value) => legalizeMtrrFixed(value))),
  cell(0x277, 'IA32_PAT', 'pat', 'SDM 3A §12.12.2', (_old, value) => legalizePat(value), { features: ['pat'] }),
  mtrr(0x2ff, 'IA32_MTRR_DEF_TYPE', 'mtrrDefType', (_old, value) => legalizeMtrrDefType(value)),
  cet(0x6a0, 'IA32_U_CET', 'uCet', cetControl),
  cet(0x6a2, 'IA32_S_CET', 'sCet', cetControl),
  cet(0x6a4, 'IA32_PL0_SSP', 'pl0Ssp', shadowStack),
  cet(0x6a5, 'IA32_PL1_SSP', 'pl1Ssp', shadowStack),
  cet(0x6a6, 'IA32_PL2_SSP', 'pl2Ssp', shadowStack),
  cet(0x6a7, 'IA32_PL3_SSP', 'pl3Ssp', shadowStack),
  cet(0x6a8, 'IA32_INTERRUPT_SSP_TABLE_ADDR', 'interruptSspTable', canonical),
  cell(0xda0, 'IA32_XSS', 'xss', 'SDM 1 §13.3', (_old, value, a) => legalizeXss(value, a.features), { features: ['xsaves'] }),
  cell(0xc000_0080, 'IA32_EFER', 'efer', 'SDM 4 Table 2-2; APM2 §3.1.7', legalizeEferAccess, { features: ['syscall', 'lm', 'nx', 'svm'] }),
  cell(0xc000_0081, 'IA32_STAR', 'star', 'SDM 3A §5.8.8; APM2 §6.1.1', undefined, { features: ['syscall'] }),
  cell(0xc000_0082, 'IA32_LSTAR', 'lstar', 'SDM 3A §5.8.8; APM2 §6.1.1', canonical, { features: ['lm'] }),
  cell(0xc000_0083, 'IA32_CSTAR', 'cstar', 'SDM 3A §5.8.8; APM2 §6.1.1', canonical, { features: ['lm'] }),
  cell(0xc000_0084, 'IA32_FMASK', 'sfmask', 'SDM 3A §5.8.8; APM2 §6.1.1', within(0xffff_ffffn), { features: ['lm'] }),
  cell(0xc000_0100, 'IA32_FS_BASE', 'fs.base', 'SDM 4 Table 2-2', canonical, { features: ['lm'] }),
  cell(0xc000_0101, 'IA32_GS_BASE', 'gs.base', 'SDM 4 Table 2-2', canonical, { features: ['lm'] }),
  cell(0xc000_0102, 'IA32_KERNEL_GS_BASE', 'kernelGsBase', 'SDM 4 Table 2-2', canonical, { features: ['lm'] }),
  cell(0xc000_0103, 'IA32_TSC_AUX', 'tscAux', 'SDM 4 Table 2-2', within(0xffff_ffffn), { features: ['rdtscp', 'rdpid'] }),
  constant(0xc001_0010, 'SYSCFG', 'APM2 §7.9.1', 0n),
  // TscFreqSel (bit 24) and the cache-flush filter bits may be set; the others have no effect here.
  cell(0xc001_0015, 'HWCR', 'hwcr', 'APM2 Appendix A', (_old, value) => (value & ~0x0100_0158n ? gp0 : { value: value & ~0x158n })),
  constant(0xc001_0055, 'INTPEND', 'APM2 Appendix A', 0n),
  cell(0xc001_011f, 'VIRT_SPEC_CTRL', 'virtSpecCtrl', 'APM2 §3.2.9', within(4n), { features: ['virtSsbd'] }),
  ...([[0xc001_1027, 'dr0Mask'], [0xc001_1019, 'dr1Mask'], [0xc001_101a, 'dr2Mask'], [0xc001_101b, 'dr3Mask']] as const).map(([index, register]) =>
    cell(index, `${register.slice(0, 3).toUpperCase()}_ADDR_MASK`, register, 'APM2 §13.1.1.10', within(0xffff_ffffn), { features: ['dataBreakpointExtension'] })),
];
