import { VmplPermission } from '@vmplanes/abi-sev-snp';

/** Every right of a guest page but that of a shadow stack. @spec coconut-svsm kernel/src/sev/utils.rs, RMPFlags */
export const RWX: number = VmplPermission.Read | VmplPermission.Write | VmplPermission.ExecuteUser | VmplPermission.ExecuteSupervisor;
/** What the guest may do with a VMSA page of its own. @spec coconut-svsm kernel/src/protocols/core.rs */
export const READ_VMSA: number = VmplPermission.Read;
