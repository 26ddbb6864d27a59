import { KvmGuestDebug, type PlaneIoctl } from '@vmplanes/abi-kvm-planes';
import { ApicEvent, X86 } from '@vmplanes/x86';
import { enableVcpuCap } from './enable-cap.ts';
import { fail, OK } from './result.ts';
import { getCpuid2, setCpuid2 } from './state/cpuid.ts';
import { getVcpuEvents, setVcpuEvents } from './state/events.ts';
import { getFpu, getXcrs, getXsave, setFpu, setXcrs, setXsave } from './state/fpu.ts';
import { getLapic, getOneReg, getRegList, noNestedState, setLapic, setOneReg, translate } from './state/misc.ts';
import { getMpState, setMpState } from './state/mp-state.ts';
import { getMsrs, setMsrs } from './state/msrs.ts';
import { getDebugregs, getRegs, setDebugregs, setRegs } from './state/regs.ts';
import { getSregs, getSregs2, setSregs, setSregs2 } from './state/sregs.ts';
import type { VcpuCall } from './state/target.ts';
import { getTscKhz, setTscKhz } from './tsc-calls.ts';

/** sizeof(sigset_t) of the kernel. */
const SIGSET = 8;

/** @spec Linux Documentation/virt/kvm/api.rst §4.21: a null pointer takes the mask away. */
const setSignalMask: VcpuCall = ({ group }, argument) => {
  if (argument.isNull) {
    group.signalMask = null;
    return OK;
  }
  const header = argument.bytes(0, 4);
  if (header === null) return fail('EFAULT');
  if (new DataView(header.buffer).getUint32(0, true) !== SIGSET) return fail('EINVAL');
  const set = argument.bytes(4, SIGSET);
  if (set === null) return fail('EFAULT');
  group.signalMask = new DataView(set.buffer).getBigUint64(0, true);
  return OK;
};

/** ENABLE, SINGLESTEP, USE_SW_BP, USE_HW_BP, INJECT_DB, INJECT_BP, BLOCKIRQ. @spec Linux arch/x86/include/uapi/asm/kvm.h KVM_GUESTDBG_* */
const GUEST_DEBUG_VALID = 0x1f_0003;
const GUEST_DEBUG_INJECT = 0x0c_0000;

/** Debug control belongs to the group: it holds for whichever plane runs. @spec Linux Documentation/virt/kvm/api.rst §4.87 */
const setGuestDebug: VcpuCall = ({ vm, group, context }, argument) => {
  const d = argument.read(KvmGuestDebug);
  if (d === null) return fail('EFAULT');
  if (vm.isStateProtected || d.control & ~GUEST_DEBUG_VALID) return fail('EINVAL');
  if (d.control & GUEST_DEBUG_INJECT) {
    const state = vm.machine.arena.u32[(context.base + X86['exception.state']) >>> 2]!;
    if (state !== 0) return fail('EBUSY');
    vm.arch.injectFault(context, { code: d.control & INJECT_DB ? 1 : 3, errorCode: null, addressLo: 0, addressHi: 0 });
    vm.touched(context);
  }
  group.guestDebug = d.control;
  return OK;
};
const INJECT_DB = 0x4_0000;

/** A non-maskable interrupt for plane 0. @spec Linux Documentation/virt/kvm/api.rst §4.64 */
const nmi: VcpuCall = ({ vm, context }) => {
  vm.arch.apicOf(context).latches.raise(ApicEvent.nmi);
  return OK;
};

/** @spec Linux arch/x86/kvm/x86.c kvm_inject_smi: ENOTTY where system management mode does not exist */
const smi: VcpuCall = ({ vm, context }) => {
  if (!vm.type.hasSmm) return fail('ENOTTY');
  vm.arch.apicOf(context).latches.raise(ApicEvent.smi);
  return OK;
};

/** Queues a vector where userspace has the interrupt controller. @spec Linux Documentation/virt/kvm/api.rst §4.16 */
const interrupt: VcpuCall = ({ vm, context }, argument) => {
  const input = argument.bytes(0, 4);
  if (input === null) return fail('EFAULT');
  const vector = new DataView(input.buffer).getUint32(0, true);
  if (vector > 255) return fail('EINVAL');
  // With controllers in the kernel only the legacy one of a split irqchip has its vectors queued from outside.
  if (vm.irqchip === 'full') return fail('ENXIO');
  if (vm.irqchip === 'split') return vm.arch.apicOf(context).latches.isPending(ApicEvent.extInt) ? fail('EEXIST') : queueExternal(vm, context);
  vm.injectVector(context, vector);
  return OK;
};
const queueExternal = (vm: Parameters<VcpuCall>[0]['vm'], context: Parameters<VcpuCall>[0]['context']): typeof OK => {
  vm.arch.apicOf(context).latches.raise(ApicEvent.extInt);
  return OK;
};

/** Everything served on vCPU fds besides KVM_RUN. Which fd takes which request is the admission table of the ABI. */
export const vcpuCalls: Readonly<Partial<Record<PlaneIoctl, VcpuCall>>> = {
  KVM_GET_REGS: getRegs,
  KVM_SET_REGS: setRegs,
  KVM_GET_SREGS: getSregs,
  KVM_SET_SREGS: setSregs,
  KVM_GET_SREGS2: getSregs2,
  KVM_SET_SREGS2: setSregs2,
  KVM_GET_MSRS: getMsrs,
  KVM_SET_MSRS: setMsrs,
  KVM_GET_FPU: getFpu,
  KVM_SET_FPU: setFpu,
  KVM_GET_LAPIC: getLapic,
  KVM_SET_LAPIC: setLapic,
  KVM_GET_VCPU_EVENTS: getVcpuEvents,
  KVM_SET_VCPU_EVENTS: setVcpuEvents,
  KVM_GET_DEBUGREGS: getDebugregs,
  KVM_SET_DEBUGREGS: setDebugregs,
  KVM_GET_XCRS: getXcrs,
  KVM_SET_XCRS: setXcrs,
  KVM_GET_ONE_REG: getOneReg,
  KVM_SET_ONE_REG: setOneReg,
  KVM_GET_NESTED_STATE: noNestedState,
  KVM_SET_NESTED_STATE: noNestedState,
  KVM_GET_XSAVE: getXsave,
  KVM_GET_XSAVE2: getXsave,
  KVM_SET_XSAVE: setXsave,
  KVM_GET_REG_LIST: getRegList,
  KVM_TRANSLATE: translate,
  KVM_GET_MP_STATE: getMpState,
  KVM_SET_MP_STATE: setMpState,
  KVM_SET_CPUID2: setCpuid2,
  KVM_GET_CPUID2: getCpuid2,
  KVM_SET_SIGNAL_MASK: setSignalMask,
  KVM_SET_GUEST_DEBUG: setGuestDebug,
  KVM_GET_TSC_KHZ: getTscKhz,
  KVM_SET_TSC_KHZ: setTscKhz,
  KVM_NMI: nmi,
  KVM_SMI: smi,
  KVM_INTERRUPT: interrupt,
  KVM_ENABLE_CAP: (_vcpu, argument) => enableVcpuCap(argument),
};

/** Refused with EINVAL once register state is locked away. @spec Linux arch/x86/kvm/x86.c kvm_arch_vcpu_ioctl, guest_state_protected */
export const protectedCalls: ReadonlySet<PlaneIoctl> = new Set<PlaneIoctl>([
  'KVM_GET_REGS', 'KVM_SET_REGS', 'KVM_GET_SREGS', 'KVM_SET_SREGS', 'KVM_GET_SREGS2', 'KVM_SET_SREGS2', 'KVM_GET_MSRS', 'KVM_SET_MSRS', 'KVM_GET_FPU', 'KVM_SET_FPU',
  'KVM_GET_DEBUGREGS', 'KVM_SET_DEBUGREGS', 'KVM_GET_XCRS', 'KVM_SET_XCRS', 'KVM_GET_XSAVE', 'KVM_GET_XSAVE2', 'KVM_SET_XSAVE', 'KVM_TRANSLATE',
]);
