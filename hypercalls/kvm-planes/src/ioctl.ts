const NONE = 0, WRITE = 1, READ = 2;
const KVMIO = 0xae;
/** An ioctl request number: direction (2 bits), size (14), type (8), number (8). @spec Linux include/uapi/asm-generic/ioctl.h */
const request = (direction: number, nr: number, size: number): number => ((direction << 30) | (size << 16) | (KVMIO << 8) | nr) >>> 0;
const io = (nr: number): number => request(NONE, nr, 0);
const iow = (nr: number, size: number): number => request(WRITE, nr, size);
const ior = (nr: number, size: number): number => request(READ, nr, size);
const iowr = (nr: number, size: number): number => request(READ | WRITE, nr, size);

/**
 * Requests of mainline KVM that this interface reuses or must refuse; sizes are those of the argument structure on x86-64.
 * The plane requests depend on the profile and are in {@link NUMBERS}.
 * @spec Linux include/uapi/linux/kvm.h
 */
export const Ioctl = {
  KVM_GET_API_VERSION: io(0x00),
  KVM_CREATE_VM: io(0x01),
  KVM_CHECK_EXTENSION: io(0x03),
  KVM_GET_VCPU_MMAP_SIZE: io(0x04),
  KVM_CREATE_VCPU: io(0x41),
  KVM_GET_DIRTY_LOG: iow(0x42, 16),
  KVM_SET_USER_MEMORY_REGION: iow(0x46, 32),
  KVM_SET_USER_MEMORY_REGION2: iow(0x49, 160),
  KVM_CREATE_IRQCHIP: io(0x60),
  KVM_IRQ_LINE: iow(0x61, 8),
  KVM_GET_IRQCHIP: iowr(0x62, 520),
  KVM_SET_IRQCHIP: ior(0x63, 520),
  KVM_SET_GSI_ROUTING: iow(0x6a, 8),
  KVM_IRQFD: iow(0x76, 32),
  KVM_SET_CLOCK: iow(0x7b, 48),
  KVM_GET_CLOCK: ior(0x7c, 48),
  KVM_RUN: io(0x80),
  KVM_GET_REGS: ior(0x81, 144),
  KVM_SET_REGS: iow(0x82, 144),
  KVM_GET_SREGS: ior(0x83, 312),
  KVM_SET_SREGS: iow(0x84, 312),
  KVM_TRANSLATE: iowr(0x85, 24),
  KVM_INTERRUPT: iow(0x86, 4),
  KVM_GET_MSRS: iowr(0x88, 8),
  KVM_SET_MSRS: iow(0x89, 8),
  KVM_SET_CPUID: iow(0x8a, 8),
  KVM_SET_SIGNAL_MASK: iow(0x8b, 4),
  KVM_GET_FPU: ior(0x8c, 416),
  KVM_SET_FPU: iow(0x8d, 416),
  KVM_GET_LAPIC: ior(0x8e, 1024),
  KVM_SET_LAPIC: iow(0x8f, 1024),
  KVM_SET_CPUID2: iow(0x90, 8),
  KVM_GET_CPUID2: iowr(0x91, 8),
  KVM_TPR_ACCESS_REPORTING: iowr(0x92, 40),
  KVM_SET_VAPIC_ADDR: iow(0x93, 8),
  KVM_GET_MP_STATE: ior(0x98, 4),
  KVM_SET_MP_STATE: iow(0x99, 4),
  KVM_NMI: io(0x9a),
  KVM_SET_GUEST_DEBUG: iow(0x9b, 72),
  KVM_X86_SETUP_MCE: iow(0x9c, 8),
  KVM_X86_SET_MCE: iow(0x9e, 64),
  KVM_GET_VCPU_EVENTS: ior(0x9f, 64),
  KVM_SET_VCPU_EVENTS: iow(0xa0, 64),
  KVM_GET_DEBUGREGS: ior(0xa1, 128),
  KVM_SET_DEBUGREGS: iow(0xa2, 128),
  KVM_SET_TSC_KHZ: io(0xa2),
  KVM_GET_TSC_KHZ: io(0xa3),
  KVM_ENABLE_CAP: iow(0xa3, 104),
  KVM_GET_XSAVE: ior(0xa4, 4096),
  KVM_SET_XSAVE: iow(0xa5, 4096),
  KVM_SIGNAL_MSI: iow(0xa5, 32),
  KVM_GET_XCRS: ior(0xa6, 392),
  KVM_SET_XCRS: iow(0xa7, 392),
  KVM_GET_ONE_REG: iow(0xab, 16),
  KVM_SET_ONE_REG: iow(0xac, 16),
  KVM_KVMCLOCK_CTRL: io(0xad),
  KVM_GET_REG_LIST: iowr(0xb0, 8),
  KVM_SMI: io(0xb7),
  KVM_GET_NESTED_STATE: iowr(0xbe, 128),
  KVM_SET_NESTED_STATE: iow(0xbf, 128),
  KVM_X86_SET_MSR_FILTER: iow(0xc6, 392),
  KVM_RESET_DIRTY_RINGS: io(0xc7),
  KVM_GET_SREGS2: ior(0xcc, 320),
  KVM_SET_SREGS2: iow(0xcd, 320),
  KVM_GET_STATS_FD: io(0xce),
  KVM_GET_XSAVE2: ior(0xcf, 4096),
  KVM_SET_MEMORY_ATTRIBUTES: iow(0xd2, 32),
  KVM_PRE_FAULT_MEMORY: iowr(0xd5, 64),
  KVM_SET_DEVICE_ATTR: iow(0xe1, 24),
  KVM_GET_DEVICE_ATTR: iow(0xe2, 24),
  KVM_HAS_DEVICE_ATTR: iow(0xe3, 24),
} as const;
/** The name of a mainline request. */
export type Ioctl = keyof typeof Ioctl;
/** The name of any request of this interface. */
export type PlaneIoctl = Ioctl | 'KVM_CREATE_PLANE' | 'KVM_CREATE_VCPU_PLANE';
