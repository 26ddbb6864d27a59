import type { PlainRecord, PlaneContext } from '@vmplanes/engine';
import type { SnpPlane } from '../ports.ts';

/** What is saved of a VMPL of a VP: everything but its context. */
const fields = [
  'ghcbMsrLo', 'ghcbMsrHi', 'registeredGhcb', 'doorbell', 'vmsa', 'pendingVmsa', 'featuresLo', 'featuresHi', 'virtualTom', 'isWaitingForReset', 'isRunnable', 'isLive', 'refusal', 'resetHold', 'isNmiMasked',
  'isForced', 'page', 'frame',
] as const satisfies readonly Exclude<keyof PlaneState, 'context' | 'save' | 'restore'>[];

/** The record of one VMPL of one VP, with what the chapters around its save area keep beside. */
export class PlaneState implements SnpPlane {
  ghcbMsrLo = 0;
  ghcbMsrHi = 0;
  registeredGhcb = -1;
  doorbell = -1;
  vmsa = -1;
  pendingVmsa = -1;
  featuresLo = 0;
  featuresHi = 0;
  virtualTom = 0;
  isWaitingForReset = false;
  isRunnable = false;
  isLive = false;
  refusal: string | null = null;
  resetHold: 'msr' | 'ghcb' | null = null;
  isNmiMasked = false;
  /** The reset that AP creation asked for lets the VMPL run at once. */
  isForced = false;
  /** While it is live: byte where its save area starts, in the arena or among the pages of the host. */
  page = -1;
  /** Frame of the save area, guarded against writes; -1 for none and for a page of the host. */
  frame = -1;

  constructor(readonly context: PlaneContext) {}

  save(): PlainRecord {
    return Object.fromEntries(fields.map((name) => [name, this[name]]));
  }
  restore(state: PlainRecord): void {
    Object.assign(this, Object.fromEntries(fields.map((name) => [name, state[name]])));
  }
}
