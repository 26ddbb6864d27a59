/** Protocols of an SVSM: bits 63:32 of RAX. @spec SVSM 1.00, section 5 */
export const SvsmProtocol = { Core: 0, Attestation: 1, Vtpm: 2, Apic: 3, UefiMm: 4 } as const;
export type SvsmProtocol = (typeof SvsmProtocol)[keyof typeof SvsmProtocol];
export const svsmProtocolNames: readonly string[] = ['core', 'attestation', 'vTPM', 'APIC', 'UEFI MM'];
