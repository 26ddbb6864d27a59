export { call, callRax, type SvsmCall, type SvsmCallFacts, type SvsmRegister, svsmRegisters } from './call.ts';
export { SVSM_CALLING_AREA_HEAD, SvsmCallingArea } from './calling-area.ts';
export { SVSM_CALLS, svsmCallName, svsmCallOf } from './calls.ts';
export { guidBytes, guidText } from './guid.ts';
export { SVSM_PROTOCOL_VERSION, SvsmProtocol, svsmProtocolNames } from './protocols.ts';
export { ApicCall, ApicConfiguration, type SvsmApicRegister, svsmApicRegisters, SvsmApicVector } from './protocols/apic.ts';
export {
  AttestationCall, SVSM_CERTIFICATE_BYTES, SVSM_NONCE_BYTES, SVSM_SERVICES_MANIFEST, SvsmAttestServices, SvsmAttestSingleService, SvsmManifestEntry, SvsmService, SvsmServicesManifest,
} from './protocols/attestation.ts';
export { CoreCall, SVSM_PVALIDATE_ENTRY, SvsmProtocolQuery, SvsmProtocolVersions, SvsmPvalidateEntry, SvsmPvalidateList } from './protocols/core.ts';
export { SvsmUefiMmBuffer, UefiMmCall } from './protocols/uefi-mm.ts';
export {
  SVSM_VTPM_BUFFER, SVSM_VTPM_LONGEST_COMMAND, SVSM_VTPM_LONGEST_RESPONSE, SvsmVtpmCommand, SvsmVtpmResponse, TpmPlatformCommand, VtpmCall,
} from './protocols/vtpm.ts';
export {
  SVSM_PROTOCOL_RESULT, SvsmApicResult, type SvsmApicResultName, SvsmCoreResult, type SvsmCoreResultName, SvsmResult, type SvsmResultName, svsmResultName,
} from './result.ts';
