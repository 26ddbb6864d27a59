/** Words of a VMSA that a provider reads or writes; the VMPL is byte 2 of its word. @spec APM vol. 2, Appendix B, Table B-4 */
export const VmsaField = { VmplWord: 0x0c8, Efer: 0x0d0, Rax: 0x1f8, Rcx: 0x308, Rdx: 0x310, R8: 0x340, SevFeatures: 0x3b0, ExitCode: 0x3c0 } as const;
/** EFER.SVME: without it a VMSA cannot be entered. @spec APM vol. 2, 15.36.8 */
export const EFER_SVME = 1n << 12n;
