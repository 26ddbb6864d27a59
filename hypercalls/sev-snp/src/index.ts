export { CertificateGuid, CertificateTableEntry, encodeCertificateTable } from './certificates.ts';
export { CPUID_FUNCTION_MAX, CpuidFunction, CpuidPage } from './cpuid-page.ts';
export { C_BIT, ENCRYPTED_MEMORY_LEAF, EncryptedMemoryEax, EncryptedMemoryEbx, VMPL_COUNT } from './cpuid.ts';
export * from './doorbell.ts';
export { EXIT_CODES, type ExitClass, type ExitCodeRow, HV_VECTOR, SvmExit, VC_VECTOR } from './exit-codes.ts';
export { SEV_FEATURES, SEV_FEATURES_DEFINED, SEV_FEATURES_SERVED, SEV_STATUS_SHIFT, SevFeature, type SevFeatureName, type SevFeatureRow, SevStatus } from './features.ts';
export { FirmwareStatus, firmwareStatusMeaning, firmwareStatusName } from './firmware-status.ts';
export * from './ghcb.ts';
export {
  AEAD_AES_256_GCM, CpuidRequest, cpuidMessageSize, CpuidResponse, GuestFieldSelect, KeyRequest, KeyRequestV2, KeyResponse, KeySelect, MESSAGE_AAD, MESSAGE_HEADER_VERSION, MESSAGE_PAYLOAD_MAX,
  MESSAGE_TAG_BYTES, MessageHeader, MessageType, messageTypeName, ReportRequest, ReportRequestFlags, ReportResponse, requestTypes, RootKeySelect, TscInfoRequest, TscInfoResponse, VMPCK_BYTES, VMPCK_COUNT,
} from './guest-messages.ts';
export * from './hv-features.ts';
export { ID_BLOCK_VERSION, IdAuth, IdBlock } from './id-block.ts';
export { SEV_INSTRUCTIONS, type SevInstructionRow, VMGEXIT_ENCODINGS } from './instructions.ts';
export { isContentMeasured, LAUNCH_DIGEST_BYTES, LAUNCH_VMSA_GPA, LaunchPageType, launchPageTypeName, PageInfo, SevCommand } from './launch.ts';
export { SnpLevel } from './levels.ts';
export * from './msr-protocol.ts';
export { DIRECT_MSRS, type MsrRule, SEV_MSRS, SevMsr, type SevMsrRow } from './msrs.ts';
export * from './nae-layouts.ts';
export * from './nae.ts';
export { GuestPolicy, SevPolicy } from './policy.ts';
export * from './psc.ts';
export { AttestationReport, KeyInfo, PlatformInfo, REPORT_SIGNED_BYTES, REPORT_VERSIONS, type ReportVersion, SigningKey } from './report.ts';
export { ALL_VMPL_PERMISSIONS, NPF_RMP, NpfError, NpfErrorHigh, PAGES_PER_2M, RmpAdjustOperand, RmpEntryLow, RmpPageSize, RmpStatus, RmpUpdateEntry, VmplPermission } from './rmp.ts';
export { SECRETS_PAGE_VERSION, SecretsGuestArea, SecretsPage } from './secrets-page.ts';
export { ALGO_ECDSA_P384_SHA384, CURVE_P384, ECC_NUMBER_BYTES, EcdsaPublicKey, EcdsaSignature } from './signature.ts';
export { TcbVersion, TcbVersionTurin, TURIN_FAMILY } from './tcb.ts';
export * from './termination.ts';
export * from './vmsa-states.ts';
export * from './vmsa.ts';
