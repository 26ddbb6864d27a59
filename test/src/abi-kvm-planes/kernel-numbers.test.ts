import { Capability, Errno, ExitReason, Ioctl, IrqRouting, MemoryAttribute, MemoryFaultFlag, MpState, MSI_VALID_DEVID, MsrExitReason, numberOf, NUMBERS, VcpuEventValid } from '@vmplanes/abi-kvm-planes';
import { describe, expect, test } from 'vitest';

// Printed by a C program from Linux include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h for x86-64; what came after version 6.1 is typed by hand from the headers of 6.8 to 6.16.
const REQUESTS = {
  KVM_GET_API_VERSION: 0xae00, KVM_CREATE_VM: 0xae01, KVM_CHECK_EXTENSION: 0xae03, KVM_GET_VCPU_MMAP_SIZE: 0xae04, KVM_CREATE_VCPU: 0xae41, KVM_GET_DIRTY_LOG: 0x4010ae42, KVM_SET_USER_MEMORY_REGION: 0x4020ae46,
  KVM_SET_USER_MEMORY_REGION2: 0x40a0ae49, KVM_CREATE_IRQCHIP: 0xae60, KVM_IRQ_LINE: 0x4008ae61, KVM_GET_IRQCHIP: 0xc208ae62, KVM_SET_IRQCHIP: 0x8208ae63, KVM_SET_GSI_ROUTING: 0x4008ae6a, KVM_IRQFD: 0x4020ae76,
  KVM_SET_CLOCK: 0x4030ae7b, KVM_GET_CLOCK: 0x8030ae7c, KVM_RUN: 0xae80, KVM_GET_REGS: 0x8090ae81, KVM_SET_REGS: 0x4090ae82, KVM_GET_SREGS: 0x8138ae83, KVM_SET_SREGS: 0x4138ae84, KVM_TRANSLATE: 0xc018ae85,
  KVM_INTERRUPT: 0x4004ae86, KVM_GET_MSRS: 0xc008ae88, KVM_SET_MSRS: 0x4008ae89, KVM_SET_CPUID: 0x4008ae8a, KVM_SET_SIGNAL_MASK: 0x4004ae8b, KVM_GET_FPU: 0x81a0ae8c, KVM_SET_FPU: 0x41a0ae8d,
  KVM_GET_LAPIC: 0x8400ae8e, KVM_SET_LAPIC: 0x4400ae8f, KVM_SET_CPUID2: 0x4008ae90, KVM_GET_CPUID2: 0xc008ae91, KVM_TPR_ACCESS_REPORTING: 0xc028ae92, KVM_SET_VAPIC_ADDR: 0x4008ae93, KVM_GET_MP_STATE: 0x8004ae98,
  KVM_SET_MP_STATE: 0x4004ae99, KVM_NMI: 0xae9a, KVM_SET_GUEST_DEBUG: 0x4048ae9b, KVM_X86_SETUP_MCE: 0x4008ae9c, KVM_X86_SET_MCE: 0x4040ae9e, KVM_GET_VCPU_EVENTS: 0x8040ae9f, KVM_SET_VCPU_EVENTS: 0x4040aea0,
  KVM_GET_DEBUGREGS: 0x8080aea1, KVM_SET_DEBUGREGS: 0x4080aea2, KVM_SET_TSC_KHZ: 0xaea2, KVM_GET_TSC_KHZ: 0xaea3, KVM_ENABLE_CAP: 0x4068aea3, KVM_GET_XSAVE: 0x9000aea4, KVM_SET_XSAVE: 0x5000aea5,
  KVM_SIGNAL_MSI: 0x4020aea5, KVM_GET_XCRS: 0x8188aea6, KVM_SET_XCRS: 0x4188aea7, KVM_GET_ONE_REG: 0x4010aeab, KVM_SET_ONE_REG: 0x4010aeac, KVM_KVMCLOCK_CTRL: 0xaead, KVM_GET_REG_LIST: 0xc008aeb0, KVM_SMI: 0xaeb7,
  KVM_GET_NESTED_STATE: 0xc080aebe, KVM_SET_NESTED_STATE: 0x4080aebf, KVM_X86_SET_MSR_FILTER: 0x4188aec6, KVM_RESET_DIRTY_RINGS: 0xaec7, KVM_GET_SREGS2: 0x8140aecc, KVM_SET_SREGS2: 0x4140aecd, KVM_GET_STATS_FD: 0xaece,
  KVM_GET_XSAVE2: 0x9000aecf, KVM_SET_MEMORY_ATTRIBUTES: 0x4020aed2, KVM_PRE_FAULT_MEMORY: 0xc040aed5, KVM_SET_DEVICE_ATTR: 0x4018aee1, KVM_GET_DEVICE_ATTR: 0x4018aee2, KVM_HAS_DEVICE_ATTR: 0x4018aee3,
};
/** In the order of their numbers, as the header lists them. */
const CAPABILITIES: readonly (readonly [number, string])[] = [
  [0, 'IRQCHIP'], [3, 'USER_MEMORY'], [9, 'NR_VCPUS'], [14, 'MP_STATE'], [22, 'USER_NMI'], [25, 'IRQ_ROUTING'], [50, 'DEBUGREGS'], [54, 'ENABLE_CAP'], [55, 'XSAVE'], [56, 'XCRS'], [60, 'TSC_CONTROL'],
  [61, 'GET_TSC_KHZ'], [66, 'MAX_VCPUS'], [70, 'ONE_REG'], [74, 'SYNC_REGS'], [77, 'SIGNAL_MSI'], [81, 'READONLY_MEM'], [98, 'ENABLE_CAP_VM'], [105, 'CHECK_EXTENSION_VM'], [117, 'X86_SMM'], [121, 'SPLIT_IRQCHIP'],
  [128, 'MAX_VCPU_ID'], [129, 'X2APIC_API'], [136, 'IMMEDIATE_EXIT'], [157, 'NESTED_STATE'], [164, 'EXCEPTION_PAYLOAD'], [188, 'X86_USER_SPACE_MSR'], [189, 'X86_MSR_FILTER'], [192, 'DIRTY_LOG_RING'], [193, 'X86_BUS_LOCK_EXIT'],
  [200, 'SREGS2'], [208, 'XSAVE2'], [214, 'VM_TSC_CONTROL'], [218, 'X86_TRIPLE_FAULT_EVENT'], [232, 'MEMORY_FAULT_INFO'], [233, 'MEMORY_ATTRIBUTES'], [235, 'VM_TYPES'],
];
const EXITS: readonly (readonly [number, string])[] = [
  [0, 'UNKNOWN'], [1, 'EXCEPTION'], [2, 'IO'], [3, 'HYPERCALL'], [4, 'DEBUG'], [5, 'HLT'], [6, 'MMIO'], [7, 'IRQ_WINDOW_OPEN'], [8, 'SHUTDOWN'], [9, 'FAIL_ENTRY'], [10, 'INTR'], [11, 'SET_TPR'], [12, 'TPR_ACCESS'], [16, 'NMI'],
  [17, 'INTERNAL_ERROR'], [24, 'SYSTEM_EVENT'], [26, 'IOAPIC_EOI'], [27, 'HYPERV'], [29, 'X86_RDMSR'], [30, 'X86_WRMSR'], [31, 'DIRTY_RING_FULL'], [32, 'AP_RESET_HOLD'], [33, 'X86_BUS_LOCK'], [34, 'XEN'], [37, 'NOTIFY'], [39, 'MEMORY_FAULT'],
];
/** @spec Linux include/uapi/asm-generic/errno-base.h, errno.h */
const ERRORS: readonly (readonly [number, string])[] = [
  [1, 'EPERM'], [2, 'ENOENT'], [4, 'EINTR'], [5, 'EIO'], [6, 'ENXIO'], [7, 'E2BIG'], [9, 'EBADF'], [11, 'EAGAIN'], [12, 'ENOMEM'], [14, 'EFAULT'], [16, 'EBUSY'], [17, 'EEXIST'], [19, 'ENODEV'], [22, 'EINVAL'], [23, 'ENFILE'],
  [24, 'EMFILE'], [25, 'ENOTTY'], [28, 'ENOSPC'], [95, 'EOPNOTSUPP'],
];
const named = (rows: readonly (readonly [number, string])[]): object => Object.fromEntries(rows.map(([n, name]) => [name, n]));

describe('numbers of the kernel headers', () => {
  test('requests', () => expect(Ioctl).toEqual(REQUESTS));
  test('capabilities', () => expect(Capability).toEqual(named(CAPABILITIES)));
  test('exit reasons', () => expect(ExitReason).toEqual(named(EXITS)));
  test('error numbers', () => expect(Errno).toEqual(named(ERRORS)));
  test('small sets', () => {
    expect(MpState).toEqual({ RUNNABLE: 0, UNINITIALIZED: 1, INIT_RECEIVED: 2, HALTED: 3, SIPI_RECEIVED: 4, AP_RESET_HOLD: 9 });
    expect(VcpuEventValid).toEqual({ NMI_PENDING: 0x1, SIPI_VECTOR: 0x2, SHADOW: 0x4, SMM: 0x8, PAYLOAD: 0x10, TRIPLE_FAULT: 0x20 });
    expect([MsrExitReason, IrqRouting, MSI_VALID_DEVID]).toEqual([{ INVAL: 1, UNKNOWN: 2, FILTER: 4 }, { IRQCHIP: 1, MSI: 2, HV_SINT: 4, XEN_EVTCHN: 5 }, 1]);
  });
  test('LKML 2024-06-09 Hyper-V VSM Emulation 15/18, 18/18: attributes and fault flags', () => {
    expect([MemoryAttribute, MemoryFaultFlag]).toEqual([{ NR: 1n, NW: 2n, NX: 4n, PRIVATE: 8n }, { READ: 1n, WRITE: 2n, EXECUTE: 4n, PRIVATE: 8n }]);
  });
});

test('the numbers of the drafts, every one', () => {
  const none = undefined;
  const g1 = { createPlane: 0xaed6, createVcpuPlane: 0xaed7, capPlanes: 239, capPlanesFpu: 240, exitPlaneEvent: 40, causeInterrupt: 1, causeCreateVcpu: none, maxPlanes: 16 };
  expect(NUMBERS).toEqual({
    '2024-10': { createPlane: null, createVcpuPlane: null, capPlanes: null, capPlaneFpu: null, capPlanesFpu: none, exitPlaneEvent: null, causeInterrupt: 0, causeCreateVcpu: none, maxPlanes: none },
    '2025-04': { ...g1, capPlaneFpu: none },
    '2026-06': { createPlane: 0xaee4, createVcpuPlane: none, capPlanes: 249, capPlaneFpu: none, capPlanesFpu: none, exitPlaneEvent: 44, causeInterrupt: none, causeCreateVcpu: 1, maxPlanes: 16 },
    vmplanes: { ...g1, capPlaneFpu: 0x1_0000 },
  });
  expect(() => numberOf('2025-04', 'capPlaneFpu')).toThrow('KVM_CAP_PLANE_FPU: not in profile 2025-04');
});
