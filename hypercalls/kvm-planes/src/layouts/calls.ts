import { array, bytes, struct, tail, u32, u64, union } from '@vmplanes/binary';

const UAPI = 'Linux include/uapi/linux/kvm.h';
const X86 = 'Linux arch/x86/include/uapi/asm/kvm.h';

/** Argument of KVM_SIGNAL_MSI. @spec Linux include/uapi/linux/kvm.h */
export const KvmMsi = struct('kvm_msi', UAPI, 32, {
  addressLo: [0, u32], addressHi: [4, u32], data: [8, u32], flags: [12, u32], devid: [16, u32], reservedPad: [20, bytes(12)],
});
/** Argument of KVM_ENABLE_CAP. @spec Linux include/uapi/linux/kvm.h */
export const KvmEnableCap = struct('kvm_enable_cap', UAPI, 104, { cap: [0, u32], flags: [4, u32], args: [8, array(u64, 4)], reservedPad: [40, bytes(64)] });
/** The I/O APIC in the argument of KVM_GET_IRQCHIP and KVM_SET_IRQCHIP. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmIoapicState = struct('kvm_ioapic_state', X86, 216, {
  baseAddress: [0, u64], ioregsel: [8, u32], id: [12, u32], irr: [16, u32, 'bit per pin'], reservedPad: [20, u32], redirtbl: [24, array(u64, 24)],
});
/** Head of the argument of KVM_GET_IRQCHIP and KVM_SET_IRQCHIP; 512 bytes of the chip follow. @spec Linux include/uapi/linux/kvm.h */
export const KvmIrqchip = struct('kvm_irqchip', UAPI, 520, { chipId: [0, u32, '0 and 1 PIC, 2 I/O APIC'], reservedPad: [4, u32], chip: [8, bytes(512)] });
/** Argument of KVM_SET_MEMORY_ATTRIBUTES. @spec Linux include/uapi/linux/kvm.h */
export const KvmMemoryAttributes = struct('kvm_memory_attributes', UAPI, 32, { address: [0, u64], size: [8, u64], attributes: [16, u64], flags: [24, u64] });
/** Argument of KVM_SET_USER_MEMORY_REGION. @spec Linux include/uapi/linux/kvm.h */
export const KvmUserspaceMemoryRegion = struct('kvm_userspace_memory_region', UAPI, 32, {
  slot: [0, u32], flags: [4, u32], guestPhysAddr: [8, u64], memorySize: [16, u64], userspaceAddr: [24, u64],
});

/** Argument of KVM_SET_USER_MEMORY_REGION2. @spec Linux include/uapi/linux/kvm.h */
export const KvmUserspaceMemoryRegion2 = struct('kvm_userspace_memory_region2', UAPI, 160, {
  slot: [0, u32], flags: [4, u32], guestPhysAddr: [8, u64], memorySize: [16, u64], userspaceAddr: [24, u64], guestMemfdOffset: [32, u64], guestMemfd: [40, u32], reservedPad1: [44, u32], reservedPad2: [48, array(u64, 14)],
});
/** Argument of KVM_GET_DIRTY_LOG. @spec Linux include/uapi/linux/kvm.h */
export const KvmDirtyLog = struct('kvm_dirty_log', UAPI, 16, { slot: [0, u32], reservedPadding1: [4, u32], dirtyBitmap: [8, u64, 'user address: bit per page, whole 64-bit words'] });
/** One range of an MSR filter; a clear bit refuses. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmMsrFilterRange = struct('kvm_msr_filter_range', X86, 24, { flags: [0, u32, 'bit 0 reads, bit 1 writes'], nmsrs: [4, u32], base: [8, u32], reservedPad: [12, u32], bitmap: [16, u64, 'user address'] });
/** Argument of KVM_X86_SET_MSR_FILTER. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmX86MsrFilter = struct('kvm_msr_filter', X86, 392, { flags: [0, u32, 'bit 0: refuse what no range names'], reservedPad: [4, u32], ranges: [8, array(KvmMsrFilterRange, 16)] });
/** Argument of KVM_SET_GUEST_DEBUG. @spec Linux include/uapi/linux/kvm.h */
export const KvmGuestDebug = struct('kvm_guest_debug', UAPI, 72, { control: [0, u32], reservedPad: [4, u32], debugreg: [8, array(u64, 8)] });

/** What a route of each kind says. @spec Linux include/uapi/linux/kvm.h */
export const RouteIrqchip = struct('kvm_irq_routing_irqchip', UAPI, 8, { irqchip: [0, u32], pin: [4, u32] });
export const RouteMsi = struct('kvm_irq_routing_msi', UAPI, 16, { addressLo: [0, u32], addressHi: [4, u32], data: [8, u32], devid: [12, u32] });
export const RouteHvSint = struct('kvm_irq_routing_hv_sint', UAPI, 8, { vcpu: [0, u32], sint: [4, u32] });
export const RouteXenEvtchn = struct('kvm_irq_routing_xen_evtchn', UAPI, 12, { port: [0, u32], vcpu: [4, u32], priority: [8, u32] });
const Route = union('u', UAPI, 32, { irqchip: RouteIrqchip, msi: RouteMsi, hvSint: RouteHvSint, xenEvtchn: RouteXenEvtchn });

/** An interrupt route as mainline has it. @spec Linux include/uapi/linux/kvm.h */
export const KvmIrqRoutingEntry = struct('kvm_irq_routing_entry', UAPI, 48, { gsi: [0, u32], type: [4, u32], flags: [8, u32], reservedPad: [12, u32], u: [16, Route] });
/** An interrupt route that names its plane, in what mainline calls `pad`. @spec COCONUT-SVSM, KVM Planes build and run notes */
export const KvmIrqRoutingEntryPlanes = struct('kvm_irq_routing_entry', 'COCONUT-SVSM, KVM Planes build and run notes', 48, {
  gsi: [0, u32], type: [4, u32], flags: [8, u32], plane: [12, u32, 'routes to planes that do not exist are dropped'], u: [16, Route],
});
const RoutingHeader = struct('kvm_irq_routing', UAPI, 8, { nr: [0, u32], flags: [4, u32] });
/** Argument of KVM_SET_GSI_ROUTING. @spec Linux include/uapi/linux/kvm.h */
export const KvmIrqRouting = tail('kvm_irq_routing', UAPI, RoutingHeader, 'entries', KvmIrqRoutingEntry, 'nr');
/** The same with a plane per route. @spec COCONUT-SVSM, KVM Planes build and run notes */
export const KvmIrqRoutingPlanes = tail('kvm_irq_routing', 'COCONUT-SVSM, KVM Planes build and run notes', RoutingHeader, 'entries', KvmIrqRoutingEntryPlanes, 'nr');
