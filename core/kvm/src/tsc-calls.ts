import type { Argument } from './argument.ts';
import { fail, type KvmResult, OK, ret } from './result.ts';
import type { VcpuCall } from './state/target.ts';
import type { KvmVm } from './vm.ts';

const MAX_KHZ = 0x7fff_ffff;
/** Highest 8.32 fixed-point ratio of the processor. @spec APM2 §15.30.5 */
const MAX_RATIO = 0xff_ffff_ffffn;
const ONE = 1n << 32n;
/** Frequencies this near to the host's run unscaled. @spec Linux arch/x86/kvm/x86.c tsc_tolerance_ppm */
const TOLERANCE_PPM = 250;
const MILLION = 1_000_000;

/** The scale of a counter at a frequency below the highest. @spec Linux arch/x86/kvm/x86.c kvm_set_tsc_khz, set_tsc_khz */
export const tscScaleOf = (khz: number, hostKhz: number): bigint => {
  const tolerance = Math.floor((hostKhz * TOLERANCE_PPM) / MILLION);
  if (khz >= hostKhz - tolerance && khz <= hostKhz + tolerance) return ONE;
  return (ONE * BigInt(khz)) / BigInt(hostKhz);
};

/** The frequency that an argument asks for, 0 being the host's, or null when it is above what can be had. */
const wantedKhz = (vm: KvmVm, argument: Argument): number | null => {
  const khz = argument.uint;
  const most = Math.min(MAX_KHZ, Number((BigInt(vm.hostTscKhz) * MAX_RATIO) >> 32n));
  return khz >= most ? null : khz === 0 ? vm.hostTscKhz : khz;
};

/** Sets the TSC frequency of plane 0 of a vCPU. @spec Linux Documentation/virt/kvm/api.rst §4.55 KVM_SET_TSC_KHZ */
export const setTscKhz: VcpuCall = ({ vm, group, context }, argument) => {
  const khz = wantedKhz(vm, argument);
  if (khz === null) return fail('EINVAL');
  group.tscKhz = khz;
  vm.hardware.setTscScale(context, tscScaleOf(khz, vm.hostTscKhz));
  vm.touched(context);
  return OK;
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.56 KVM_GET_TSC_KHZ */
export const getTscKhz: VcpuCall = ({ group }) => ret(group.tscKhz);

/** Sets the TSC frequency of vCPUs yet to be made, in any plane. @spec Linux Documentation/virt/kvm/api.rst §4.55; LKML 2025-04-01 RFC KVM: VM planes 24/29 */
export const setVmTscKhz = (vm: KvmVm, argument: Argument): KvmResult => {
  const khz = wantedKhz(vm, argument);
  if (khz === null) return fail('EINVAL');
  vm.defaultTscKhz = khz;
  return OK;
};

export const getVmTscKhz = (vm: KvmVm): KvmResult => ret(vm.defaultTscKhz);
