/** What an access of a guest with encrypted state does. */
export type MsrRule =
  /** Done by the processor without an exit. */
  | 'direct'
  /** Intercepted: #VC 0x7C. */
  | 'intercepted'
  /** Intercepted, unless the VMSA has the feature that makes it direct. */
  | 'byFeature';

/** One MSR that SEV defines. */
export interface SevMsrRow {
  readonly index: number;
  readonly name: string;
  readonly read: MsrRule;
  readonly write: MsrRule | '#GP';
  readonly spec: string;
  readonly about: string;
}

/** MSRs of SEV, by name. @spec APM vol. 2, 15.34 to 15.36 */
export const SevMsr = {
  Tsc: 0x10,
  Efer: 0xc000_0080,
  TscAux: 0xc000_0103,
  Syscfg: 0xc001_0010,
  VmPageFlush: 0xc001_011e,
  Ghcb: 0xc001_0130,
  SevStatus: 0xc001_0131,
  RmpBase: 0xc001_0132,
  RmpEnd: 0xc001_0133,
  GuestTscFreq: 0xc001_0134,
  VirtualTom: 0xc001_0135,
  SegmentedRmpCfg: 0xc001_0136,
  IdleWakeupIcr: 0xc001_0137,
  SecureAvicControl: 0xc001_0138,
  SvsmCaa: 0xc001_f000,
} as const;
export type SevMsr = (typeof SevMsr)[keyof typeof SevMsr];

/** The MSRs that SEV defines, in rising order. */
export const SEV_MSRS: readonly SevMsrRow[] = [
  { index: SevMsr.VmPageFlush, name: 'VM_PAGE_FLUSH', read: 'intercepted', write: 'intercepted', spec: 'APM vol. 2, 15.34.9', about: 'of the host' },
  { index: SevMsr.Ghcb, name: 'GHCB', read: 'direct', write: 'direct', spec: 'GHCB 2.3.1', about: 'given to the host by VMGEXIT; each VMPL has its own' },
  { index: SevMsr.SevStatus, name: 'SEV_STATUS', read: 'direct', write: '#GP', spec: 'APM vol. 2, 15.34.10', about: 'what is active' },
  { index: SevMsr.RmpBase, name: 'RMP_BASE', read: 'intercepted', write: 'intercepted', spec: 'APM vol. 2, 15.36.4', about: 'of the host' },
  { index: SevMsr.RmpEnd, name: 'RMP_END', read: 'intercepted', write: 'intercepted', spec: 'APM vol. 2, 15.36.4', about: 'of the host' },
  { index: SevMsr.GuestTscFreq, name: 'GUEST_TSC_FREQ', read: 'byFeature', write: '#GP', spec: 'APM vol. 2, 15.36.18', about: 'MHz, with Secure TSC' },
  { index: SevMsr.VirtualTom, name: 'VIRTUAL_TOM', read: 'direct', write: '#GP', spec: 'APM vol. 2, 15.36.8', about: 'that of the VMSA' },
  { index: SevMsr.SegmentedRmpCfg, name: 'SEGMENTED_RMP_CFG', read: 'intercepted', write: 'intercepted', spec: 'APM vol. 2, 15.36.4', about: 'of the host' },
  { index: SevMsr.IdleWakeupIcr, name: 'IDLE_WAKEUP_ICR', read: 'direct', write: 'direct', spec: 'APM vol. 2, 15.36.17', about: 'reads 0, writes have no effect' },
  { index: SevMsr.SecureAvicControl, name: 'SECURE_AVIC_CONTROL', read: 'intercepted', write: 'intercepted', spec: 'APM vol. 2, 15.36.21', about: 'Secure AVIC is not offered' },
  { index: SevMsr.SvsmCaa, name: 'SVSM_CAA', read: 'intercepted', write: 'intercepted', spec: 'SVSM 1.00, 3.1', about: 'the guest answers its own #VC' },
];

/**
 * Other MSRs whose accesses do not exit: state of the VMSA, and those that hosts leave to the guest.
 * @spec APM vol. 2, 15.35.4; Linux arch/x86/kvm/svm/svm.c direct_access_msrs
 */
export const DIRECT_MSRS: readonly number[] = [
  0x48, // SPEC_CTRL
  0x49, // PRED_CMD
  0x174, 0x175, 0x176, // SYSENTER
  0x1d9, 0x1db, 0x1dc, 0x1dd, 0x1de, // DEBUGCTL and last branches: virtualized always
  0x277, // PAT
  0x6a0, 0x6a2, 0x6a4, 0x6a5, 0x6a6, 0x6a7, 0x6a8, // CET
  0xda0, // XSS
  SevMsr.Efer,
  0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, // SYSCALL
  0xc000_0100, 0xc000_0101, 0xc000_0102, // FS, GS, kernel GS base
  SevMsr.TscAux,
];
