import type { Answer, ExitPayload, Machine, PlaneContext } from '@vmplanes/engine';
import type { Chapter, HvContext } from './ports.ts';

/** The partition was reset; the VMM loads what the guest boots from, and lets it run again. */
export interface ResetPayload extends ExitPayload {
  readonly kind: 'reset';
  /** VP and VTL that asked for it. */
  readonly vp: number;
  readonly vtl: number;
  /** Guest memory was zeroed. */
  readonly memoryZeroed: boolean;
}

/** The partition cannot be reset: it ends here. */
export interface ResetRefusedPayload extends ExitPayload {
  readonly kind: 'resetRefused';
  readonly vp: number;
  readonly vtl: number;
}

const zeroMemory = (machine: Machine): void => {
  for (const slot of machine.memory.slots.all) {
    for (const isPrivate of [false, true]) machine.memory.discard(slot.first, slot.pages, isPrivate);
  }
};

/**
 * Resets the partition: memory is zeroed if an enabled VTL wants it, then every chapter forgets its state and every VP is as it was created, with
 * VTL0 alone. What survives is what the VMM made: memory slots, configuration, time.
 * @returns the exit that tells the VMM.
 * @spec TLFS Virtual Secure Mode, VTL reset; ZeroMemoryOnReset
 */
export const resetPartition = (hv: HvContext, chapters: readonly Chapter[], { vp, plane }: PlaneContext): Answer => {
  const { machine } = hv;
  for (const each of machine.vps) {
    const why = machine.refusesReset(each.plane(0), 'powerOn');
    if (why !== null) {
      const refused: ResetRefusedPayload = { kind: 'resetRefused', vp: vp.index, vtl: plane, text: why };
      return vp.replies.exit(refused);
    }
  }
  const payload: ResetPayload = { kind: 'reset', vp: vp.index, vtl: plane, memoryZeroed: hv.chapters.vsm.zeroesMemory };
  // While the VPs are whole: chapters take pages and interrupts of their VTLs back.
  for (const chapter of [...chapters].reverse()) chapter.reset();
  if (payload.memoryZeroed) zeroMemory(machine);
  for (const each of machine.vps) {
    machine.restartVp(each, 'powerOn');
    each.asked = 0;
    machine.timersChanged(each.context);
  }
  return vp.replies.exit(payload);
};
