export { C_BIT, ENCRYPTED_MEMORY_LEAF, EncryptedMemoryEax, EncryptedMemoryEbx, VMPL_COUNT } from './cpuid.ts';
export { EXIT_CODES, type ExitClass, type ExitCodeRow, HV_VECTOR, SvmExit, VC_VECTOR } from './exit-codes.ts';
export { SEV_FEATURES, SEV_FEATURES_DEFINED, SEV_FEATURES_SERVED, SEV_STATUS_SHIFT, SevFeature, type SevFeatureName, type SevFeatureRow, SevStatus } from './features.ts';
export { SEV_INSTRUCTIONS, type SevInstructionRow, VMGEXIT_ENCODINGS } from './instructions.ts';
export { SnpLevel } from './levels.ts';
export { DIRECT_MSRS, type MsrRule, SEV_MSRS, SevMsr, type SevMsrRow } from './msrs.ts';
export { ALL_VMPL_PERMISSIONS, NPF_RMP, NpfError, NpfErrorHigh, PAGES_PER_2M, RmpAdjustOperand, RmpEntryLow, RmpPageSize, RmpStatus, RmpUpdateEntry, VmplPermission } from './rmp.ts';
