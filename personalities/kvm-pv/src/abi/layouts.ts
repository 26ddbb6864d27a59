import { bits, bytes, i64, i8, type Struct, struct, u32, u64, u8 } from '@vmplanes/binary';

/** Fields of a declared layout keep their names; offsets are for hot paths. */
export const WallClock = struct('pvclock_wall_clock', 'Linux Documentation/virt/kvm/x86/msr.rst MSR_KVM_WALL_CLOCK_NEW', 12, {
  version: [0x00, u32, 'odd while an update is in progress'],
  sec: [0x04, u32, 'seconds of wall-clock time at boot'],
  nsec: [0x08, u32, 'nanoseconds beyond that'],
});

/** The clock page of one plane of one virtual processor. */
export const VcpuTimeInfo = struct('pvclock_vcpu_time_info', 'Linux Documentation/virt/kvm/x86/msr.rst MSR_KVM_SYSTEM_TIME_NEW', 32, {
  version: [0x00, u32, 'odd while an update is in progress'],
  reserved04: [0x04, u32],
  tscTimestamp: [0x08, u64, 'time-stamp counter of this plane at the update'],
  systemTime: [0x10, u64, 'nanoseconds since boot at the update'],
  tscToSystemMul: [0x18, u32, 'multiplier, 0.32 fixed point'],
  tscShift: [0x1c, i8, 'shift of the counter before the multiplication; negative shifts right'],
  flags: [0x1d, u8, 'see pvclock_flags'],
  reserved1e: [0x1e, bytes(2)],
});

/** Flags of the clock page. */
export const ClockFlags = bits('pvclock_flags', 'Linux Documentation/virt/kvm/x86/msr.rst MSR_KVM_SYSTEM_TIME_NEW', 8, {
  tscStable: [0, 'times of different processors are monotonic against each other'],
  guestStopped: [1, 'the VMM had paused the guest'],
});

/** Time that a plane was ready to run and did not. */
export const StealTime = struct('kvm_steal_time', 'Linux Documentation/virt/kvm/x86/msr.rst MSR_KVM_STEAL_TIME', 64, {
  steal: [0x00, u64, 'nanoseconds'],
  version: [0x08, u32, 'odd while an update is in progress'],
  flags: [0x0c, u32, 'zero'],
  preempted: [0x10, u8, '1 while the plane is ready but another one runs'],
  reserved11: [0x11, bytes(3)],
  reserved14: [0x14, bytes(44)],
});

/** What the clock pairing call writes. */
export const ClockPairing = struct('kvm_clock_pairing', 'Linux Documentation/virt/kvm/x86/hypercalls.rst KVM_HC_CLOCK_PAIRING', 64, {
  sec: [0x00, i64, 'seconds of wall-clock time'],
  nsec: [0x08, i64, 'nanoseconds beyond that'],
  tsc: [0x10, u64, 'time-stamp counter of the calling plane at that time'],
  flags: [0x18, u32, 'zero'],
  reserved1c: [0x1c, bytes(36)],
});

/** Layouts of this interface, for the reference page. */
export const layouts: readonly (Struct | typeof ClockFlags)[] = [WallClock, VcpuTimeInfo, ClockFlags, StealTime, ClockPairing];
