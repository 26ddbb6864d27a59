import { Vmsa } from '@vmplanes/abi-sev-snp';

const { at } = Vmsa;

/** Words of a VMSA that a provider reads or writes; the VMPL is byte 2 of its word. @spec APM vol. 2, Table B-4 */
export const VmsaField = { VmplWord: at.vmpl - 2, Efer: at.efer, Rax: at.rax, Rcx: at.rcx, Rdx: at.rdx, R8: at.r8, SevFeatures: at.sevFeatures, ExitCode: at.exitCode } as const;
/** EFER.SVME: without it a VMSA cannot be entered. @spec APM vol. 2, 15.36.8 */
export const EFER_SVME = 1n << 12n;
