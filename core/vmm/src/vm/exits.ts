import type { ExitPayload, PlainRecord } from '@vmplanes/engine';

/** An exit of the guest to the VMM. */
export interface VmExit {
  readonly vp: number;
  readonly plane: number;
  /** Borrowed until the handler returns. */
  readonly payload: ExitPayload;
}

/**
 * What the VMM does with an exit: `stop` ends the run, `continue` goes on (and answers as absent hardware does, where the guest waits for
 * a value), a record is the reply the guest waits for.
 */
export type ExitAction = 'stop' | 'continue' | PlainRecord;
/** Serves exits. Nothing else may decide what the guest sees. */
export type ExitHandler = (exit: VmExit) => ExitAction | Promise<ExitAction>;

/** Reads of a bus without a device give all ones; a plane that a guest asks for is made. */
const openBus: Readonly<Record<string, PlainRecord>> = {
  createPlane: { create: true },
  io: { value: 0xffff_ffff },
  mmio: { lo: 0xffff_ffff, hi: 0xffff_ffff },
  msr: { error: true },
};

/** What happens to an exit that no handler wants: accesses to absent devices and requests for planes go on, everything else ends the run. */
export const withoutHandler = (payload: ExitPayload): ExitAction => (Object.hasOwn(openBus, payload.kind) ? 'continue' : 'stop');

/** The reply of absent hardware to what a plane waits for. */
export const openBusReply = (payload: ExitPayload): PlainRecord => (Object.hasOwn(openBus, payload.kind) ? openBus[payload.kind]! : {});
