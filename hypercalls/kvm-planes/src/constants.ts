/** Mainline capabilities that this interface answers. @spec Linux include/uapi/linux/kvm.h */
export const Capability = {
  IRQCHIP: 0, USER_MEMORY: 3, NR_VCPUS: 9, MP_STATE: 14, USER_NMI: 22, IRQ_ROUTING: 25, DEBUGREGS: 50, ENABLE_CAP: 54, XSAVE: 55, XCRS: 56, TSC_CONTROL: 60, GET_TSC_KHZ: 61,
  MAX_VCPUS: 66, ONE_REG: 70, SYNC_REGS: 74, SIGNAL_MSI: 77, READONLY_MEM: 81, ENABLE_CAP_VM: 98, CHECK_EXTENSION_VM: 105, X86_SMM: 117, SPLIT_IRQCHIP: 121, MAX_VCPU_ID: 128, X2APIC_API: 129,
  IMMEDIATE_EXIT: 136, NESTED_STATE: 157, EXCEPTION_PAYLOAD: 164, X86_USER_SPACE_MSR: 188, X86_MSR_FILTER: 189, DIRTY_LOG_RING: 192, X86_BUS_LOCK_EXIT: 193, SREGS2: 200, XSAVE2: 208, VM_TSC_CONTROL: 214, X86_TRIPLE_FAULT_EVENT: 218,
  MEMORY_FAULT_INFO: 232, MEMORY_ATTRIBUTES: 233, VM_TYPES: 235,
} as const;
export type Capability = (typeof Capability)[keyof typeof Capability];

/** Mainline exit reasons of x86; the plane event's depends on the profile. @spec Linux include/uapi/linux/kvm.h */
export const ExitReason = {
  UNKNOWN: 0, EXCEPTION: 1, IO: 2, HYPERCALL: 3, DEBUG: 4, HLT: 5, MMIO: 6, IRQ_WINDOW_OPEN: 7, SHUTDOWN: 8, FAIL_ENTRY: 9, INTR: 10, SET_TPR: 11, TPR_ACCESS: 12, NMI: 16,
  INTERNAL_ERROR: 17, SYSTEM_EVENT: 24, IOAPIC_EOI: 26, HYPERV: 27, X86_RDMSR: 29, X86_WRMSR: 30, DIRTY_RING_FULL: 31, AP_RESET_HOLD: 32, X86_BUS_LOCK: 33, XEN: 34, NOTIFY: 37,
  MEMORY_FAULT: 39,
} as const;
export type ExitReason = (typeof ExitReason)[keyof typeof ExitReason];

/** Multiprocessing states of x86. @spec Linux include/uapi/linux/kvm.h */
export const MpState = { RUNNABLE: 0, UNINITIALIZED: 1, INIT_RECEIVED: 2, HALTED: 3, SIPI_RECEIVED: 4, AP_RESET_HOLD: 9 } as const;
export type MpState = (typeof MpState)[keyof typeof MpState];

/** Bits of kvm_vcpu_events.flags. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const VcpuEventValid = { NMI_PENDING: 1, SIPI_VECTOR: 2, SHADOW: 4, SMM: 8, PAYLOAD: 16, TRIPLE_FAULT: 32 } as const;

/** Why an MSR access left for userspace. @spec Linux include/uapi/linux/kvm.h */
export const MsrExitReason = { INVAL: 1, UNKNOWN: 2, FILTER: 4 } as const;

/** Kinds of interrupt routes. @spec Linux include/uapi/linux/kvm.h */
export const IrqRouting = { IRQCHIP: 1, MSI: 2, HV_SINT: 4, XEN_EVTCHN: 5 } as const;

/** Flag of kvm_msi that says devid counts. */
export const MSI_VALID_DEVID = 1;

/**
 * Memory attribute bits. PRIVATE is mainline; the negated permissions are a proposal, in which 0 means no restriction.
 * PRIVATE excludes the others; denying reads requires denying writes and execution.
 * @spec LKML 2024-06-09 Introducing Core Building Blocks for Hyper-V VSM Emulation 15/18
 */
export const MemoryAttribute = { NR: 1n, NW: 2n, NX: 4n, PRIVATE: 8n } as const;

/** Flags of the memory-fault exit. PRIVATE is mainline; the access bits are proposed. @spec LKML 2024-06-09 Hyper-V VSM Emulation 18/18 */
export const MemoryFaultFlag = { READ: 1n, WRITE: 2n, EXECUTE: 4n, PRIVATE: 8n } as const;
