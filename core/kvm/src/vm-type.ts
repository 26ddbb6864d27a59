/** One kind of VM and what it can do. */
export interface VmType {
  readonly id: number;
  readonly name: string;
  /** Pages may be private. */
  readonly hasPrivateMemory: boolean;
  /** Register state can be locked away from the VMM. */
  readonly hasProtectedState: boolean;
  /** System management mode exists. */
  readonly hasSmm: boolean;
  /** The VMM may put a vCPU back into its initial state by MP state. */
  readonly hasReset: boolean;
  /** The backend offers planes to the kernel's own scheduling. @spec LKML 2026-06-08 KVM Planes + SEV-SNP Support 59/60 */
  readonly backendPlanes: number;
}

const type = (id: number, name: string, hasPrivateMemory: boolean, hasProtectedState: boolean, backendPlanes = 1): VmType => ({
  id,
  name,
  hasPrivateMemory,
  hasProtectedState,
  hasSmm: !hasProtectedState,
  hasReset: !hasProtectedState,
  backendPlanes,
});

/** Arguments of KVM_CREATE_VM. @spec Linux arch/x86/include/uapi/asm/kvm.h KVM_X86_*_VM */
export const vmTypes: readonly VmType[] = [
  type(0, 'KVM_X86_DEFAULT_VM', false, false),
  type(1, 'KVM_X86_SW_PROTECTED_VM', true, false),
  type(2, 'KVM_X86_SEV_VM', false, false),
  type(3, 'KVM_X86_SEV_ES_VM', false, true),
  type(4, 'KVM_X86_SNP_VM', true, true, 4),
  type(5, 'KVM_X86_TDX_VM', true, true),
];
