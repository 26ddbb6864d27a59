import { ExitReason } from '@vmplanes/abi-kvm-planes';
import { Activity, Outcome, type PlaneContext, type Vp } from '@vmplanes/engine';
import { Argument } from './argument.ts';
import { readReply, writeExit } from './exits.ts';
import { fail, isFailure, type KvmFailure, type KvmResult, OK } from './result.ts';
import { getVcpuEvents, setVcpuEvents } from './state/events.ts';
import { getRegs, setRegs } from './state/regs.ts';
import { getSregs, setSregs } from './state/sregs.ts';
import { getReg, type VcpuCall } from './state/target.ts';
import type { VcpuGroup } from './vcpu-group.ts';
import type { KvmVm } from './vm.ts';

/** Synchronised registers: bit in the masks, place in kvm_run.s, calls. @spec Linux Documentation/virt/kvm/api.rst §6.74 KVM_CAP_SYNC_REGS */
const syncRows: readonly { readonly bit: bigint; readonly at: number; readonly size: number; readonly get: VcpuCall; readonly set: VcpuCall }[] = [
  { bit: 1n, at: 0, size: 144, get: getRegs, set: setRegs },
  { bit: 2n, at: 144, size: 312, get: getSregs, set: setSregs },
  { bit: 4n, at: 456, size: 64, get: getVcpuEvents, set: setVcpuEvents },
];
const SYNC_VALID = 7n;
const IF = 1n << 9n;

/** The plane that userspace names, or EINVAL. Without another plane the field is ignored. @spec LKML 2025-04-01 RFC KVM: VM planes 01/29, 22/29 */
const namedPlane = (vm: KvmVm, group: VcpuGroup): number | KvmFailure => {
  if (vm.behaviour.scheduler === 'lowest-runnable' || !group.hasPlanes) return group.vp.named;
  const { plane } = group.page;
  return plane < vm.planeCount && group.vp.planes[plane] ? plane : fail('EINVAL');
};

/** Takes what userspace answered to a pending exit of a plane. */
const takeReply = (group: VcpuGroup, context: PlaneContext | null | undefined): void => {
  if (context?.completion && context.completion.reply === null) context.completion.reply = readReply(group.page, context.completion);
};

/** Lends every other plane what the page holds now, should the run come to it by itself; planes it does not come to read the page again later. */
const lendReplies = (group: VcpuGroup, context: PlaneContext): void => {
  group.lentReplies = 0;
  for (const other of group.vp.planes) {
    if (!other?.completion || other === context || other.completion.reply !== null) continue;
    takeReply(group, other);
    group.lentReplies |= other.mask;
  }
};
const takeBackReplies = (group: VcpuGroup): void => {
  for (const other of group.vp.planes) if (other?.completion && group.lentReplies & other.mask) other.completion.reply = null;
  group.lentReplies = 0;
};

const storeSynced = (vm: KvmVm, group: VcpuGroup, context: PlaneContext): KvmFailure | null => {
  const { page } = group;
  for (const row of syncRows) {
    if (!(page.dirtyRegs & row.bit)) continue;
    const result = row.set({ vm, group, context }, new Argument(page.syncRegs.subarray(row.at, row.at + row.size)));
    if (isFailure(result)) return result;
    page.dirtyRegs &= ~row.bit;
  }
  return null;
};

const loadSynced = (vm: KvmVm, group: VcpuGroup, context: PlaneContext): void => {
  const { page } = group;
  for (const row of syncRows) if (page.validRegs & row.bit) row.get({ vm, group, context }, new Argument(page.syncRegs.subarray(row.at, row.at + row.size)));
};

/** Everything up to the first look at the guest. Nothing has changed when it fails. */
const begin = (vm: KvmVm, group: VcpuGroup, thread: number): PlaneContext | KvmFailure => {
  const { page, vp } = group;
  const plane = namedPlane(vm, group);
  if (typeof plane !== 'number') return plane;
  if ((page.validRegs | page.dirtyRegs) & ~SYNC_VALID) return fail('EINVAL');
  const userspace = vm.behaviour.scheduler !== 'lowest-runnable';
  const next = userspace ? plane : vm.machine.policy.select(vp);
  const context = vp.plane(Math.max(0, next));
  if (vm.behaviour.completion === 'nextRun') takeReply(group, vp.planes[group.exitPlane]);
  takeReply(group, context);
  const failure = storeSynced(vm, group, context);
  if (failure !== null) return failure;
  lendReplies(group, context);
  vp.named = plane;
  vp.asked = userspace ? page.reqExitPlanes & vm.planeMask : 0;
  if (!vm.hasKernelApic) vm.hardware.setCr8(context, Number(page.cr8 & 15n));
  group.inRun = { thread, plane: context.plane };
  group.hasRun = true;
  page.exitReason = ExitReason.UNKNOWN;
  return context;
};

const isReadyForInjection = (vm: KvmVm, context: PlaneContext): boolean => {
  const get = (name: 'rflags' | 'interruptShadow' | 'interrupt.injected'): bigint => getReg(vm.machine, context, name);
  return (get('rflags') & IF) !== 0n && get('interruptShadow') === 0n && get('interrupt.injected') === 0n;
};

const finish = (vm: KvmVm, group: VcpuGroup, result: KvmResult): KvmResult => {
  takeBackReplies(group);
  const { page, vp } = group;
  const { context } = vp;
  const flags = getReg(vm.machine, context, 'rflags');
  page.setState(vm.hasKernelApic || isReadyForInjection(vm, context), (flags & IF) !== 0n, vm.hardware.cr8(context), vm.hardware.apicBase(context));
  loadSynced(vm, group, context);
  group.exitPlane = context.plane;
  group.inRun = null;
  return result;
};

/** Runs the VP for one slice of its thread, at machine time. @param instructions - at least 1. */
const runSlice = (vm: KvmVm, vp: Vp, instructions: number, leaves: boolean): Outcome => {
  const { machine: m } = vm;
  vm.synchronise(vp);
  vp.sliceEnd = vp.retired + instructions;
  vp.immediateExit = leaves;
  m.activeVp = vp.index;
  let outcome: Outcome;
  try {
    outcome = m.runVp(vp);
  } finally {
    m.activeVp = -1;
    vp.immediateExit = false;
  }
  m.flushOutbox();
  vm.synchronise(vp);
  return outcome;
};

/** A vCPU that waits for its first INIT leaves with EAGAIN once it has come. @spec Linux arch/x86/kvm/x86.c kvm_arch_vcpu_ioctl_run */
const initArrived = (vm: KvmVm, group: VcpuGroup, context: PlaneContext): boolean => {
  if (!(group.uninitialized & context.mask) || !vm.hardware.isInitLatched(context)) return false;
  group.uninitialized &= ~context.mask;
  return true;
};

/**
 * Runs a vCPU until something is for userspace. A run that sleeps or was preempted is continued by the same call, with the plane and the mask it read when
 * it began; the shared page is not read again for them.
 * @param hasSignal - a signal that the run does not block is pending for the thread.
 * @spec Linux Documentation/virt/kvm/api.rst §4.10; LKML 2025-04-01 RFC KVM: VM planes 22/29, 25/29
 */
export const kvmRun = (vm: KvmVm, group: VcpuGroup, thread: number, hasSignal: boolean): KvmResult => {
  const { machine: m, behaviour } = vm;
  const { page, vp } = group;
  if (!vm.config.cpu) return fail('EINVAL');
  const resumes = group.inRun !== null;
  if (!resumes) {
    const begun = begin(vm, group, thread);
    if (isFailure(begun)) return begun;
  }
  const named = vp.plane(group.inRun!.plane);
  const leaves = page.immediateExit && (!resumes || behaviour.exitBeforeBlocking);
  if (named.activity === Activity.WaitForSipi && !leaves && !hasSignal && initArrived(vm, group, named)) return finish(vm, group, fail('EAGAIN'));
  if (m.memory.dirty.isRingFull(vp.index)) {
    page.exitReason = ExitReason.DIRTY_RING_FULL;
    return finish(vm, group, OK);
  }
  const slice = Math.max(1, Math.floor(m.options.quantum / m.options.ticksPerInstruction));
  // Userspace with an interrupt to inject wants the first moment at which the guest would take it: look after each instruction.
  const waitsForWindow = page.wantsInterruptWindow && !vm.hasKernelApic;
  let outcome: Outcome = Outcome.Slice;
  for (let steps = waitsForWindow ? slice : 1; steps > 0 && outcome === Outcome.Slice; steps--) {
    if (waitsForWindow && !leaves && !hasSignal && vp.context.completion === null && isReadyForInjection(vm, vp.context)) {
      page.exitReason = ExitReason.IRQ_WINDOW_OPEN;
      return finish(vm, group, OK);
    }
    outcome = runSlice(vm, vp, waitsForWindow ? 1 : slice, leaves || hasSignal);
  }
  switch (outcome) {
    case Outcome.Exit:
      return finish(vm, group, vp.exit === null ? OK : writeExit(vm, group, vp.context, vp.exit));
    case Outcome.Interrupted:
      if (hasSignal) page.exitReason = ExitReason.INTR;
      return finish(vm, group, fail('EINTR'));
    case Outcome.Blocked:
      return { pending: 'blocked' };
    case Outcome.Slice:
      return { pending: 'preempted' };
    default: {
      const never: never = outcome;
      return never;
    }
  }
};
