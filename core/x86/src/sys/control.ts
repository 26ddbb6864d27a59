import { Cr0Bit, Cr4Bit, EferBit, RflagsBit } from './bits.ts';
import { gp0, type Legalized } from './fault.ts';
import type { CpuFeatures, Feature } from './features.ts';

const U64 = (1n << 64n) - 1n;
const HIGH_HALF = U64 ^ 0xffff_ffffn;
const or = (bits: readonly bigint[]): bigint => bits.reduce((a, b) => a | b, 0n);

/** The registers that decide whether a write to another one is legal. */
export interface ControlState {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  /** CS.L: together with EFER.LMA, 64-bit mode. */
  readonly csL: boolean;
}

/** Bits of a 64-bit value from `bits` up: those reserved in physical addresses of that width. */
export const reservedAbove = (bits: number): bigint => U64 ^ ((1n << BigInt(bits)) - 1n);

/**
 * Whether all bits above the translated ones equal the highest translated one.
 * @param la57 - 57 instead of 48 translated bits
 * @spec SDM 1 §3.3.7.1
 */
export function isCanonicalAddress(address: bigint, la57: boolean): boolean {
  const top = BigInt.asUintN(64, address) >> (la57 ? 56n : 47n);
  return top === 0n || top === (la57 ? 0xffn : 0x1_ffffn);
}

/** EFER with LMA recomputed: long mode is active when it is enabled and paging is on. @spec SDM 3A §10.8.5 */
export const withLma = (efer: bigint, cr0: bigint): bigint => (efer & EferBit.lme && cr0 & Cr0Bit.pg ? efer | EferBit.lma : efer & ~EferBit.lma);

const CR0_KNOWN = or(Object.values(Cr0Bit));

/**
 * A write to CR0. Reserved bits of the lower half are dropped, ET is one. The caller recomputes EFER.LMA with {@link withLma}.
 *
 * @param state - registers before the write
 * @spec SDM 3A §2.5, §10.8.5; SDM 2B MOV-Move to/from Control Registers; APM2 §3.1.1
 */
export function legalizeCr0(written: bigint, state: ControlState): Legalized {
  if (written & HIGH_HALF) return gp0;
  const value = (written & CR0_KNOWN) | Cr0Bit.et;
  if (value & Cr0Bit.pg && !(value & Cr0Bit.pe)) return gp0;
  if (value & Cr0Bit.nw && !(value & Cr0Bit.cd)) return gp0;
  if (state.cr4 & Cr4Bit.cet && !(value & Cr0Bit.wp)) return gp0;
  const turnsOn = (value & ~state.cr0 & Cr0Bit.pg) !== 0n;
  if (turnsOn && state.efer & EferBit.lme && (!(state.cr4 & Cr4Bit.pae) || state.csL)) return gp0;
  // Paging can be turned off from compatibility mode only, and not while process-context identifiers are in use.
  if (!(value & Cr0Bit.pg) && ((state.efer & EferBit.lma && state.csL) || state.cr4 & Cr4Bit.pcide)) return gp0;
  return { value };
}

/**
 * A write to CR3 by MOV. With CR4.PCIDE bit 63 asks to keep translations; it is not stored.
 *
 * @spec SDM 3A §4.10.4.1; SDM 2B MOV-Move to/from Control Registers; APM2 §5.5.1
 */
export function legalizeCr3(written: bigint, state: ControlState, features: CpuFeatures): Legalized & { readonly keepTranslations?: boolean } {
  if (!(state.efer & EferBit.lma)) return written & HIGH_HALF & reservedAbove(features.physicalBits) ? gp0 : { value: written, keepTranslations: false };
  const keep = (state.cr4 & Cr4Bit.pcide) !== 0n && written >> 63n === 1n;
  const value = keep ? written & (U64 >> 1n) : written;
  return value & reservedAbove(features.physicalBits) ? gp0 : { value, keepTranslations: keep };
}

/** CR4 bits and the features any one of which makes them legal. Those before OSXMMEXCPT are in every processor with long mode. */
const cr4Rows: readonly (readonly [bigint, readonly Feature[] | 'always'])[] = [
  [or([Cr4Bit.vme, Cr4Bit.pvi, Cr4Bit.tsd, Cr4Bit.de, Cr4Bit.pse, Cr4Bit.pae, Cr4Bit.mce, Cr4Bit.pge, Cr4Bit.pce, Cr4Bit.osfxsr, Cr4Bit.osxmmexcpt]), 'always'],
  [Cr4Bit.umip, ['umip']],
  [Cr4Bit.la57, ['la57']],
  [Cr4Bit.vmxe, ['vmx']],
  [Cr4Bit.fsgsbase, ['fsgsbase']],
  [Cr4Bit.pcide, ['pcid']],
  [Cr4Bit.osxsave, ['xsave']],
  [Cr4Bit.smep, ['smep']],
  [Cr4Bit.smap, ['smap']],
  [Cr4Bit.pke, ['pku']],
  [Cr4Bit.cet, ['cetSs', 'cetIbt']],
  [Cr4Bit.pks, ['pks']],
];

/** CR4 bits that a CPU model allows. @spec SDM 3A §2.5 */
export const cr4Allowed = (features: CpuFeatures): bigint => or(cr4Rows.map(([bit, by]) => (by === 'always' || by.some((f) => features[f]) ? bit : 0n)));

/**
 * A write to CR4.
 *
 * @spec SDM 3A §2.5, §4.10.1; SDM 2B MOV-Move to/from Control Registers; APM2 §3.1.3
 */
export function legalizeCr4(written: bigint, state: ControlState, features: CpuFeatures): Legalized {
  if (written & ~cr4Allowed(features)) return gp0;
  const longMode = (state.efer & EferBit.lma) !== 0n;
  const changed = written ^ state.cr4;
  if (longMode && (!(written & Cr4Bit.pae) || changed & Cr4Bit.la57)) return gp0;
  if (changed & written & Cr4Bit.pcide && (!longMode || state.cr3 & 0xfffn)) return gp0;
  if (written & Cr4Bit.cet && !(state.cr0 & Cr0Bit.wp)) return gp0;
  return { value: written };
}

/** A write to CR8, the task priority class. @spec SDM 3A §11.8.6 */
export const legalizeCr8 = (written: bigint): Legalized => (written & ~0xfn ? gp0 : { value: written });

/**
 * A write to XCR0 by XSETBV: x87 is always on, AVX needs SSE, other bits need their feature.
 * @spec SDM 3A §2.6; SDM 1 §13.3
 */
export function legalizeXcr0(written: bigint, features: CpuFeatures): Legalized {
  if (!(written & 1n) || written & ~BigInt(features.xcr0)) return gp0;
  return (written & 6n) === 4n ? gp0 : { value: written };
}

/** A write to IA32_XSS. @spec SDM 1 §13.3 */
export const legalizeXss = (written: bigint, features: CpuFeatures): Legalized => (written & ~BigInt(features.xss) ? gp0 : { value: written });

const eferRows: readonly (readonly [bigint, Feature])[] = [
  [EferBit.sce, 'syscall'],
  [EferBit.lme, 'lm'],
  [EferBit.lma, 'lm'],
  [EferBit.nxe, 'nx'],
  [EferBit.svme, 'svm'],
  [EferBit.ffxsr, 'ffxsr'],
  [EferBit.aibrse, 'automaticIbrs'],
];

/** EFER bits that a CPU model allows. */
export const eferAllowed = (features: CpuFeatures): bigint => or(eferRows.map(([bit, by]) => (features[by] ? bit : 0n)));

/**
 * A write to EFER by WRMSR. LMA keeps its value whatever is written; LME cannot change while paging is on.
 * @spec SDM 4 Table 2-2 (C0000080H); SDM 3A §10.8.5; APM2 §3.1.7
 */
export function legalizeEfer(written: bigint, state: ControlState, features: CpuFeatures): Legalized {
  if (written & ~eferAllowed(features)) return gp0;
  if ((written ^ state.efer) & EferBit.lme && state.cr0 & Cr0Bit.pg) return gp0;
  return { value: (written & ~EferBit.lma) | (state.efer & EferBit.lma) };
}

/** A write to DR6: bits without meaning take their fixed values. @spec SDM 3B §18.2.3; APM2 §13.1.1.3 */
export const legalizeDr6 = (written: bigint): Legalized => (written & HIGH_HALF ? gp0 : { value: (written & 0xe00fn) | 0xffff_0ff0n });

/** A write to DR7: bit 10 is one, bits 11, 12, 14 and 15 are zero. @spec SDM 3B §18.2.4; APM2 §13.1.1.4 */
export const legalizeDr7 = (written: bigint): Legalized => (written & HIGH_HALF ? gp0 : { value: (written & 0xffff_23ffn) | 0x400n });

const RFLAGS_KNOWN = or(Object.values(RflagsBit));

/** RFLAGS as a processor holds it: bit 1 is one, reserved bits are zero. @spec SDM 1 §3.4.3 */
export const legalizeRflags = (written: bigint): bigint => (written & RFLAGS_KNOWN) | RflagsBit.fixed;

/**
 * Whether control registers that are set together, as by a machine monitor or from a save area, can stand beside each other.
 * @spec SDM 3A §10.8.5, §27.3.1.1; APM2 §15.5.1 (illegal guest states); Linux arch/x86/kvm/x86.c kvm_is_valid_sregs
 */
export function isLegalControlState(state: ControlState, features: CpuFeatures): boolean {
  const { cr0, cr3, cr4, efer } = state;
  if (cr0 & HIGH_HALF || (cr0 & Cr0Bit.pg && !(cr0 & Cr0Bit.pe)) || (cr0 & Cr0Bit.nw && !(cr0 & Cr0Bit.cd))) return false;
  if (cr4 & ~cr4Allowed(features) || efer & ~eferAllowed(features)) return false;
  if (cr4 & Cr4Bit.cet && !(cr0 & Cr0Bit.wp)) return false;
  const longMode = (efer & EferBit.lme) !== 0n && (cr0 & Cr0Bit.pg) !== 0n;
  if (longMode) return (cr4 & Cr4Bit.pae) !== 0n && (efer & EferBit.lma) !== 0n && !(cr3 & reservedAbove(features.physicalBits));
  return !(efer & EferBit.lma) && !state.csL && !(cr4 & Cr4Bit.pcide);
}
