import { bits } from '@vmplanes/binary';

/** What the host offers, as the guest is told by the MSR protocol and by NAE event 0x8000FFFD. @spec GHCB 2.3.1, 4.1; Linux arch/x86/include/asm/sev-common.h; coconut-svsm kernel/src/sev/msr_protocol.rs */
export const HypervisorFeatures = bits('HypervisorFeatures', 'GHCB 2.3.1; Linux arch/x86/include/asm/sev-common.h; coconut-svsm kernel/src/sev/msr_protocol.rs', 64, {
  snp: 0,
  snpApCreation: [1, 'needs snp'],
  restrictedInjection: [2, '#HV; needs snpApCreation'],
  restrictedInjectionTimer: [3, '#HV timer'],
  apicIdList: [4, 'NAE event 0x80000017'],
  multipleVmpls: [5, 'run VMPL'],
  sevEsPageStateChange: [6, 'page state change without a reverse map'],
  sevTio: [7, 'trusted devices'],
  extendedInterrupts: [9, '#HV for each VMPL, alternate injection events'],
});

/** One feature for the support matrix. */
export interface HypervisorFeatureRow {
  readonly bit: number;
  readonly name: string;
  /** Null where this host has it; otherwise why it does not. */
  readonly why: string | null;
}

const never: Readonly<Record<string, string>> = {
  restrictedInjectionTimer: 'not established: no public source describes the #HV timer',
  sevEsPageStateChange: 'optional: a guest without a reverse map changes no page states',
  sevTio: 'draft: no trusted devices',
  extendedInterrupts: 'draft: numbers of its events are not ratified',
};
/** Every feature, with what is never offered. */
export const HYPERVISOR_FEATURES: readonly HypervisorFeatureRow[] = Object.entries(HypervisorFeatures.shift).map(([name, bit]) => ({ bit, name, why: never[name] ?? null }));
