/** One bit of SEV_FEATURES; SEV_STATUS shows it two bits higher. */
export interface SevFeatureRow {
  readonly bit: number;
  readonly name: SevFeatureName;
  /** A machine may offer it. */
  readonly isServed: boolean;
  /** It means something without SNP, too. @spec APM vol. 2, 15.36.20 */
  readonly worksUnderEs: boolean;
  /** What it does; for one that is not served, why not. */
  readonly about: string;
}

/** Bits of SEV_FEATURES by name. @spec APM vol. 2, Appendix B, Table B-4 (offset 0x3B0) */
export const SevFeature = {
  SnpActive: 0,
  VirtualTom: 1,
  ReflectVc: 2,
  RestrictedInjection: 3,
  AlternateInjection: 4,
  DebugSwap: 5,
  PreventHostIbs: 6,
  BtbIsolation: 7,
  VmplSss: 8,
  SecureTsc: 9,
  VmgexitParam: 10,
  PmcVirtualization: 11,
  IbsVirtualization: 12,
  GuestInterceptControl: 13,
  VmsaRegProt: 14,
  SmtProtection: 15,
  SecureAvic: 16,
  IbpbOnEntry: 21,
} as const;
export type SevFeatureName = keyof typeof SevFeature;
export type SevFeature = (typeof SevFeature)[SevFeatureName];

const row = (name: SevFeatureName, isServed: boolean, worksUnderEs: boolean, about: string): SevFeatureRow => ({ bit: SevFeature[name], name, isServed, worksUnderEs, about });

/** Every defined bit, in rising order. @spec APM vol. 2, 15.34.10 and Table B-4 */
export const SEV_FEATURES: readonly SevFeatureRow[] = [
  row('SnpActive', true, false, 'RMP checks'),
  row('VirtualTom', true, false, 'an address splits the guest page space into private and shared'),
  row('ReflectVc', true, false, 'events that would raise #VC exit to a more privileged VMPL'),
  row('RestrictedInjection', true, false, 'only #HV may be injected'),
  row('AlternateInjection', true, false, 'a more privileged VMPL injects through the VMSA'),
  row('DebugSwap', true, true, 'breakpoint addresses and their masks belong to the VMSA'),
  row('PreventHostIbs', true, true, 'no effect: there is no instruction sampling'),
  row('BtbIsolation', true, false, 'no effect: there are no branch predictors'),
  row('VmplSss', true, false, 'permission for supervisor shadow stacks'),
  row('SecureTsc', true, false, 'the TSC follows scale and offset of the VMSA'),
  row('VmgexitParam', false, true, 'its encoding is not established'),
  row('PmcVirtualization', false, true, 'performance counters are not virtualized'),
  row('IbsVirtualization', false, true, 'there is no instruction sampling'),
  row('GuestInterceptControl', false, false, 'its encoding is not established'),
  row('VmsaRegProt', false, false, 'VMSA registers are not masked with a nonce'),
  row('SmtProtection', true, false, 'no effect: no two processors share a core'),
  row('SecureAvic', false, false, 'not offered'),
  row('IbpbOnEntry', true, false, 'no effect: there are no branch predictors'),
];

/** Where bit k of SEV_FEATURES lies in SEV_STATUS. @spec APM vol. 2, 15.34.10 */
export const SEV_STATUS_SHIFT = 2;
/** Bits of SEV_STATUS below the features: SEV active, SEV-ES active. */
export const SevStatus = { Sev: 1, SevEs: 2, SevSnp: 4 } as const;

/** Bits 20:17 and all above 21 are reserved: this is every defined bit. */
export const SEV_FEATURES_DEFINED = SEV_FEATURES.reduce((mask, { bit }) => mask | (1 << bit), 0);
/** Features that a machine may offer. */
export const SEV_FEATURES_SERVED = SEV_FEATURES.reduce((mask, { bit, isServed }) => (isServed ? mask | (1 << bit) : mask), 0);
