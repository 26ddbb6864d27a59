/** Protocols of an SVSM: bits 63:32 of RAX. @spec SVSM 1.00, section 5 */
export const SvsmProtocol = { Core: 0, Attestation: 1, Vtpm: 2, Apic: 3, UefiMm: 4 } as const;
export type SvsmProtocol = (typeof SvsmProtocol)[keyof typeof SvsmProtocol];
export const svsmProtocolNames: readonly string[] = ['core', 'attestation', 'vTPM', 'APIC', 'UEFI MM'];
/** The only version of every protocol. @spec SVSM 1.00, SVSM_CORE_QUERY_PROTOCOL; coconut-svsm kernel/src/protocols/core.rs */
export const SVSM_PROTOCOL_VERSION = 1;
