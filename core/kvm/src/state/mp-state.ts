import { KvmMpState, MpState } from '@vmplanes/abi-kvm-planes';
import { Activity, type PlaneContext } from '@vmplanes/engine';
import { fail, OK } from '../result.ts';
import type { VcpuGroup } from '../vcpu-group.ts';
import type { VcpuCall } from './target.ts';

/** Multiprocessing state of one plane vCPU. */
export const mpStateOf = (group: VcpuGroup, context: PlaneContext): MpState => {
  if (context.activity === Activity.Halted) return MpState.HALTED;
  if (context.activity !== Activity.WaitForSipi) return MpState.RUNNABLE;
  return group.uninitialized & context.mask ? MpState.UNINITIALIZED : MpState.INIT_RECEIVED;
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.38 */
export const getMpState: VcpuCall = ({ group, context }, argument) => (argument.write(KvmMpState, { mpState: mpStateOf(group, context) }) ? OK : fail('EFAULT'));

/** @spec Linux Documentation/virt/kvm/api.rst §4.39 */
export const setMpState: VcpuCall = ({ vm, group, context }, argument) => {
  const input = argument.read(KvmMpState);
  if (input === null) return fail('EFAULT');
  const { mpState } = input;
  const starts = mpState === MpState.INIT_RECEIVED || mpState === MpState.SIPI_RECEIVED || mpState === MpState.UNINITIALIZED;
  // Without a local APIC in the kernel nothing there could ever change the state again.
  if (!vm.hasKernelApic && mpState !== MpState.RUNNABLE) return fail('EINVAL');
  if (starts && !vm.type.hasReset) return fail('EINVAL');
  switch (mpState) {
    case MpState.RUNNABLE:
    case MpState.SIPI_RECEIVED:
      vm.hardware.setWaitForSipi(context, false);
      context.activity = Activity.Running;
      break;
    case MpState.HALTED:
      vm.hardware.setWaitForSipi(context, false);
      context.activity = Activity.Halted;
      break;
    case MpState.UNINITIALIZED:
    case MpState.INIT_RECEIVED:
      vm.hardware.setWaitForSipi(context, true);
      context.activity = Activity.WaitForSipi;
      break;
    default:
      return fail('EINVAL');
  }
  if (mpState === MpState.UNINITIALIZED) group.uninitialized |= context.mask;
  else group.uninitialized &= ~context.mask;
  context.wait = null;
  vm.touched(context);
  return OK;
};
