import type { LocalApicConfig } from './registers.ts';

/** Bits of the low word of IA32_APIC_BASE. @spec SDM 3A §10.4.4 figure 10-5, §10.12.1 */
export const ApicBase = { bsp: 1 << 8, x2apic: 1 << 10, enabled: 1 << 11 } as const;

/** Where the page lies after RESET. @spec SDM 3A §10.4.1 */
export const APIC_DEFAULT_BASE = 0xfee0_0000;

/** Operating mode: the enable bit and the x2APIC bit as a two-bit number. @spec SDM 3A §10.12.5.1 table 10-5 */
export const ApicMode = { disabled: 0, invalid: 1, xapic: 2, x2apic: 3 } as const;
export type ApicMode = (typeof ApicMode)[keyof typeof ApicMode];

/** Mode that a low word of IA32_APIC_BASE selects. */
export const modeOf = (low: number): ApicMode => ((low >>> 10) & 3) as ApicMode;

/** Transitions a WRMSR may make: rows are the old mode, columns the new one. @spec SDM 3A §10.12.5 figure 10-27 */
const legalTransition: readonly (readonly boolean[])[] = [
  /* disabled */ [true, false, true, false],
  /* invalid  */ [false, false, false, false],
  /* xapic    */ [true, false, true, true],
  /* x2apic   */ [true, false, false, true],
];

/**
 * Tells whether a write of IA32_APIC_BASE is legal; an illegal one is #GP.
 * @param host - the write comes from the VMM (state restore): every valid mode may follow every other.
 * @spec SDM 3A §10.4.4, §10.12.5
 */
export const isLegalApicBase = (oldLow: number, low: number, high: number, config: LocalApicConfig, host: boolean): boolean => {
  if ((low & 0x2ff) !== 0) return false;
  if (!config.x2apic && (low & ApicBase.x2apic) !== 0) return false;
  if (high >>> (config.physicalBits & 31) !== 0) return false;
  const next = modeOf(low);
  return host ? next !== ApicMode.invalid : legalTransition[modeOf(oldLow)]![next]!;
};

/** Logical id that x2APIC mode derives from the id: cluster in the high half, one bit in the low half. @spec SDM 3A §10.12.10.2 */
export const x2apicLogicalId = (id: number): number => (((id >>> 4) << 16) | (1 << (id & 15))) >>> 0;
