import type { PlaneIoctl } from '@vmplanes/abi-kvm-planes';
import type { Argument } from './argument.ts';
import { createPlane, createVcpu, createVcpuOnPlane, createVcpuPlane } from './create-calls.ts';
import { enableVmCap } from './enable-cap.ts';
import { checkExtension } from './extensions.ts';
import { StatsFile } from './files.ts';
import { createIrqchip, getIrqchip, irqLine, setGsiRouting, setIrqchip, setMsrFilter, signalMsi } from './interrupt-calls.ts';
import { getDirtyLog, resetDirtyRings, setMemoryAttributes, setUserMemoryRegion, setUserMemoryRegion2 } from './memory-calls.ts';
import { fail, type KvmResult, ret } from './result.ts';
import type { KvmSystem } from './system.ts';
import { getVmTscKhz, setVmTscKhz } from './tsc-calls.ts';
import type { KvmVm } from './vm.ts';

/** What a VM or plane fd serves. */
export interface PlaneTarget {
  readonly system: KvmSystem;
  readonly vm: KvmVm;
  /** 0 for the VM fd. */
  readonly plane: number;
}
export type VmCall = (target: PlaneTarget, argument: Argument) => KvmResult;

/** Everything served on VM and plane fds. Which fd takes which request is the admission table of the ABI. */
export const vmCalls: Readonly<Partial<Record<PlaneIoctl, VmCall>>> = {
  KVM_CREATE_PLANE: ({ system, vm }, a) => createPlane(system, vm, a),
  KVM_CREATE_VCPU: ({ system, vm, plane }, a) => (plane === 0 ? createVcpu(system, vm, a) : createVcpuOnPlane(system, vm, plane, a)),
  KVM_CREATE_VCPU_PLANE: ({ system, vm, plane }, a) => createVcpuPlane(system, vm, plane, a),
  KVM_CHECK_EXTENSION: ({ system, vm, plane }, a) => checkExtension(system, vm, plane === 0 ? 'vm' : 'plane', a.uint),
  KVM_ENABLE_CAP: ({ vm }, a) => enableVmCap(vm, a),
  KVM_SIGNAL_MSI: ({ vm, plane }, a) => signalMsi(vm, plane, a),
  KVM_SET_MEMORY_ATTRIBUTES: ({ vm, plane }, a) => setMemoryAttributes(vm, plane, a),
  KVM_SET_GSI_ROUTING: ({ vm, plane }, a) => setGsiRouting(vm, plane, a),
  KVM_CREATE_IRQCHIP: ({ vm }) => createIrqchip(vm),
  KVM_GET_IRQCHIP: ({ vm }, a) => getIrqchip(vm, a),
  KVM_SET_IRQCHIP: ({ vm }, a) => setIrqchip(vm, a),
  KVM_IRQ_LINE: ({ vm }, a) => irqLine(vm, a),
  KVM_SET_USER_MEMORY_REGION: ({ vm }, a) => setUserMemoryRegion(vm, a),
  KVM_SET_USER_MEMORY_REGION2: ({ vm }, a) => setUserMemoryRegion2(vm, a),
  KVM_GET_DIRTY_LOG: ({ vm }, a) => getDirtyLog(vm, a),
  KVM_RESET_DIRTY_RINGS: ({ vm }) => resetDirtyRings(vm),
  KVM_X86_SET_MSR_FILTER: ({ vm }, a) => setMsrFilter(vm, a),
  KVM_GET_TSC_KHZ: ({ vm }) => getVmTscKhz(vm),
  KVM_SET_TSC_KHZ: ({ vm }, a) => setVmTscKhz(vm, a),
  KVM_GET_STATS_FD: ({ system, vm }) => {
    const refused = system.refusesFile();
    return refused === null ? ret(system.fds.open(new StatsFile(vm, null))) : fail(refused);
  },
};
