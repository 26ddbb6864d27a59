import { Capability, KvmEnableCap, NUMBERS } from '@vmplanes/abi-kvm-planes';
import type { Argument } from './argument.ts';
import { BUS_LOCK_MODES, DIRTY_RING_MAX_BYTES, MAX_IRQ_ROUTES } from './extensions.ts';
import { fail, type KvmResult, OK } from './result.ts';
import { Irqchip, type KvmVm } from './vm.ts';

type Enable = (vm: KvmVm, args: readonly bigint[]) => KvmResult;

/** KVM_MSR_EXIT_REASON_VALID_MASK: inval, unknown, filter. */
const MSR_EXIT_REASONS = 7n;
const BUS_LOCK_OFF = 1n;
const BUS_LOCK_EXIT = 2n;
const X2APIC_USE_32BIT_IDS = 1n;
const X2APIC_FLAGS = 3n;
const PAGE = 4096;
/** Reserve of a dirty ring and its entry size. */
const MIN_DIRTY_RING = 64 * 16;

const onOff =
  (name: 'exceptionPayload' | 'tripleFaultEvent'): Enable =>
  (vm, [on]) => {
    vm.caps[name] = on !== 0n;
    return OK;
  };

/** VM capabilities that can be enabled, with their checks in order. @spec Linux Documentation/virt/kvm/api.rst §7 */
const rows: Readonly<Record<number, Enable>> = {
  /** @spec LKML 2025-04-01 RFC KVM: VM planes 17/29; Linux arch/x86/kvm/x86.c kvm_vm_ioctl_enable_cap */
  [Capability.SPLIT_IRQCHIP]: (vm, [routes]) => {
    if (routes! > BigInt(MAX_IRQ_ROUTES)) return fail('EINVAL');
    if (vm.irqchip !== Irqchip.None || vm.groups.size > 0 || vm.hasPlanes) return fail('EEXIST');
    vm.irqchip = Irqchip.Split;
    vm.resetRouting();
    return OK;
  },
  [Capability.X2APIC_API]: (vm, [flags]) => {
    if (flags! & ~X2APIC_FLAGS) return fail('EINVAL');
    if (flags! & X2APIC_USE_32BIT_IDS) vm.hardware.hasWideIds = true;
    return OK;
  },
  [Capability.EXCEPTION_PAYLOAD]: onOff('exceptionPayload'),
  [Capability.X86_TRIPLE_FAULT_EVENT]: onOff('tripleFaultEvent'),
  [Capability.X86_USER_SPACE_MSR]: (vm, [reasons]) => {
    if (reasons! & ~MSR_EXIT_REASONS) return fail('EINVAL');
    vm.caps.userSpaceMsr = Number(reasons);
    vm.hardware.setMsrExits(vm.caps.userSpaceMsr);
    return OK;
  },
  [Capability.X86_BUS_LOCK_EXIT]: (vm, [mode]) => {
    if (mode! & ~BigInt(BUS_LOCK_MODES)) return fail('EINVAL');
    if (mode! & BUS_LOCK_OFF && mode! & BUS_LOCK_EXIT) return fail('EINVAL');
    if (mode! & BUS_LOCK_EXIT) {
      vm.caps.busLockExit = true;
      vm.hardware.setBusLockExits(true);
    }
    return OK;
  },
  [Capability.DIRTY_LOG_RING]: (vm, [size]) => {
    const bytes = Number(size);
    if (bytes === 0 || size! & (size! - 1n)) return fail('EINVAL');
    if (bytes < PAGE || bytes < MIN_DIRTY_RING) return fail('EINVAL');
    if (bytes > DIRTY_RING_MAX_BYTES) return fail('E2BIG');
    if (vm.caps.dirtyRing > 0 || vm.groups.size > 0) return fail('EINVAL');
    vm.caps.dirtyRing = bytes;
    return OK;
  },
};

/** @spec LKML 2025-04-01 RFC KVM: VM planes 21/29 */
const enablePlanesFpu: Enable = (vm, [shared]) => {
  if (vm.groups.size > 0 || shared! > 1n) return fail('EINVAL');
  if (shared === 1n && vm.type.hasProtectedState) return fail('EINVAL');
  vm.shareFpu(shared === 1n);
  return OK;
};

/** KVM_ENABLE_CAP on a VM fd. @spec Linux Documentation/virt/kvm/api.rst §4.37 */
export const enableVmCap = (vm: KvmVm, argument: Argument): KvmResult => {
  const c = argument.read(KvmEnableCap);
  if (c === null) return fail('EFAULT');
  if (c.flags !== 0) return fail('EINVAL');
  if (c.cap === NUMBERS[vm.behaviour.profile].capPlanesFpu && vm.behaviour.sharedFpu) return enablePlanesFpu(vm, c.args);
  return rows[c.cap]?.(vm, c.args) ?? fail('EINVAL');
};

/** KVM_ENABLE_CAP on a vCPU fd: none of the vCPU capabilities (Hyper-V synthetic interrupts and the like) is offered here. */
export const enableVcpuCap = (argument: Argument): KvmResult => (argument.read(KvmEnableCap) === null ? fail('EFAULT') : fail('EINVAL'));
