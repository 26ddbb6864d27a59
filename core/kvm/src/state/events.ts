import { KvmVcpuEvents, VcpuEventValid } from '@vmplanes/abi-kvm-planes';
import type { RegisterName } from '@vmplanes/x86';
import { fail, OK } from '../result.ts';
import { getReg, setReg, type VcpuCall } from './target.ts';

const NO_BYTES = new Uint8Array(26);
const MAX_EXCEPTION = 31;
const NMI_VECTOR = 2;
/** A byte that says yes or no: whatever is not 0 is yes. */
const yes = (byte: number): 0 | 1 => (byte === 0 ? 0 : 1);

/** @spec Linux Documentation/virt/kvm/api.rst §4.31 */
export const getVcpuEvents: VcpuCall = ({ vm, context }, argument) => {
  const { machine, hardware } = vm;
  const get = (name: RegisterName): number => Number(getReg(machine, context, name));
  const state = get('exception.state');
  const hasPayload = vm.caps.exceptionPayload && state === 1 && get('exception.hasPayload') !== 0;
  const flags =
    VcpuEventValid.NMI_PENDING | VcpuEventValid.SHADOW | VcpuEventValid.SMM | (vm.caps.exceptionPayload ? VcpuEventValid.PAYLOAD : 0) | (vm.caps.tripleFaultEvent ? VcpuEventValid.TRIPLE_FAULT : 0);
  const value = {
    exception: {
      // Without the payload capability a pending exception reads as injected: userspace cannot tell them apart.
      injected: state === 2 || (state === 1 && !vm.caps.exceptionPayload) ? 1 : 0,
      nr: get('exception.vector'),
      hasErrorCode: get('exception.hasErrorCode'),
      pending: state === 1 && vm.caps.exceptionPayload ? 1 : 0,
      errorCode: get('exception.errorCode'),
    },
    interrupt: { injected: get('interrupt.injected'), nr: get('interrupt.vector'), soft: get('interrupt.soft'), shadow: get('interruptShadow') },
    nmi: { injected: get('nmi.injected'), pending: hardware.isNmiPending(context) ? 1 : 0, masked: get('nmi.blocked') },
    sipiVector: 0,
    flags,
    smi: { smm: get('smm') & 1, pending: hardware.isSmiPending(context) ? 1 : 0, smmInsideNmi: get('smm') >>> 1, latchedInit: hardware.isInitLatched(context) ? 1 : 0 },
    tripleFault: { pending: vm.caps.tripleFaultEvent ? get('tripleFault') : 0 },
    reserved: NO_BYTES,
    exceptionHasPayload: hasPayload ? 1 : 0,
    exceptionPayload: hasPayload ? getReg(machine, context, 'exception.payload') : 0n,
  };
  return argument.write(KvmVcpuEvents, value) ? OK : fail('EFAULT');
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.32 */
export const setVcpuEvents: VcpuCall = ({ vm, context }, argument) => {
  const e = argument.read(KvmVcpuEvents);
  if (e === null) return fail('EFAULT');
  const known = (Object.values(VcpuEventValid) as readonly number[]).reduce((a, b) => a | b);
  if (e.flags & ~known) return fail('EINVAL');
  const payload = (e.flags & VcpuEventValid.PAYLOAD) !== 0;
  if (payload && (!vm.caps.exceptionPayload || (e.exception.pending && e.exception.injected))) return fail('EINVAL');
  const isDue = e.exception.injected || (payload && e.exception.pending);
  if (isDue && (e.exception.nr > MAX_EXCEPTION || e.exception.nr === NMI_VECTOR)) return fail('EINVAL');
  if (e.flags & VcpuEventValid.SMM && !vm.type.hasSmm && (e.smi.smm || e.smi.pending)) return fail('EINVAL');
  if (e.flags & VcpuEventValid.TRIPLE_FAULT && !vm.caps.tripleFaultEvent) return fail('EINVAL');
  const set = (name: RegisterName, value: number): void => setReg(vm.machine, context, name, BigInt(value));
  set('exception.state', isDue ? (payload && e.exception.pending ? 1 : 2) : 0);
  set('exception.vector', e.exception.nr);
  set('exception.hasErrorCode', yes(e.exception.hasErrorCode));
  set('exception.errorCode', e.exception.errorCode);
  set('exception.hasPayload', payload ? yes(e.exceptionHasPayload) : 0);
  setReg(vm.machine, context, 'exception.payload', e.exceptionPayload);
  set('interrupt.injected', yes(e.interrupt.injected));
  set('interrupt.vector', e.interrupt.nr);
  set('interrupt.soft', yes(e.interrupt.soft));
  if (e.flags & VcpuEventValid.SHADOW) set('interruptShadow', e.interrupt.shadow & 3);
  set('nmi.injected', yes(e.nmi.injected));
  set('nmi.blocked', yes(e.nmi.masked));
  if (e.flags & VcpuEventValid.NMI_PENDING) vm.hardware.setNmiPending(context, e.nmi.pending !== 0);
  if (e.flags & VcpuEventValid.SMM && vm.type.hasSmm) {
    set('smm', yes(e.smi.smm) | (yes(e.smi.smmInsideNmi) << 1));
    vm.hardware.setSmiPending(context, e.smi.pending !== 0);
  }
  if (e.flags & VcpuEventValid.TRIPLE_FAULT) set('tripleFault', yes(e.tripleFault.pending));
  vm.touched(context);
  return OK;
};
