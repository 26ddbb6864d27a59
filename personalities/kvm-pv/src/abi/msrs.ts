import type { Feature } from './cpuid.ts';

const spec = 'Linux Documentation/virt/kvm/x86/msr.rst';

/** Indices. @spec Linux arch/x86/include/uapi/asm/kvm_para.h */
export const Msr = {
  WallClockOld: 0x11,
  SystemTimeOld: 0x12,
  WallClock: 0x4b564d00,
  SystemTime: 0x4b564d01,
  AsyncPfEnable: 0x4b564d02,
  StealTime: 0x4b564d03,
  PvEoi: 0x4b564d04,
  PollControl: 0x4b564d05,
  AsyncPfInt: 0x4b564d06,
  AsyncPfAck: 0x4b564d07,
  MigrationControl: 0x4b564d08,
} as const;
export type Msr = (typeof Msr)[keyof typeof Msr];

/** One MSR: which feature bit announces it and which values it refuses with #GP. */
export interface MsrRow {
  readonly index: Msr;
  readonly name: string;
  readonly spec: string;
  readonly feature: Feature;
  /** Bits of the low and of the high half that must be zero. */
  readonly reserved: readonly [lo: number, hi: number];
  /** Value after reset, low half; the high half is zero. */
  readonly initial: number;
}

const row = (index: Msr, name: string, feature: Feature, reserved: readonly [number, number] = [0, 0], initial = 0): MsrRow => ({ index, name, spec: `${spec} ${name}`, feature, reserved, initial });

/** Every MSR of the interface, by index. Those whose feature is not served raise #GP. */
export const msrs: readonly MsrRow[] = [
  row(Msr.WallClockOld, 'MSR_KVM_WALL_CLOCK', 'CLOCKSOURCE'),
  row(Msr.SystemTimeOld, 'MSR_KVM_SYSTEM_TIME', 'CLOCKSOURCE'),
  row(Msr.WallClock, 'MSR_KVM_WALL_CLOCK_NEW', 'CLOCKSOURCE2'),
  row(Msr.SystemTime, 'MSR_KVM_SYSTEM_TIME_NEW', 'CLOCKSOURCE2'),
  row(Msr.AsyncPfEnable, 'MSR_KVM_ASYNC_PF_EN', 'ASYNC_PF'),
  row(Msr.StealTime, 'MSR_KVM_STEAL_TIME', 'STEAL_TIME', [0x3e, 0]),
  row(Msr.PvEoi, 'MSR_KVM_EOI_EN', 'PV_EOI', [0x2, 0]),
  row(Msr.PollControl, 'MSR_KVM_POLL_CONTROL', 'POLL_CONTROL', [0xffff_fffe, 0xffff_ffff], 1),
  row(Msr.AsyncPfInt, 'MSR_KVM_ASYNC_PF_INT', 'ASYNC_PF_INT'),
  row(Msr.AsyncPfAck, 'MSR_KVM_ASYNC_PF_ACK', 'ASYNC_PF_INT'),
  row(Msr.MigrationControl, 'MSR_KVM_MIGRATION_CONTROL', 'MIGRATION_CONTROL'),
];
