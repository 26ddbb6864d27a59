import type { ContextPort } from './ports.ts';
import type { PlaneContext } from './vp.ts';

// Loops over the context ports of a machine: no port, no cost.

/** Tells of a turn of the run loop. */
export const contextTurn = (ports: readonly ContextPort[], context: PlaneContext): void => {
  for (let i = 0; i < ports.length; i++) ports[i]!.turn?.(context);
};

/** Tells of a switch: shared registers have moved. */
export const contextSwitched = (ports: readonly ContextPort[], from: PlaneContext, to: PlaneContext, reason: string): void => {
  for (let i = 0; i < ports.length; i++) ports[i]!.switched?.(from, to, reason);
};

/** Asks for an entry. @returns null, or the first refusal. */
export const contextEntering = (ports: readonly ContextPort[], context: PlaneContext): string | null => {
  for (let i = 0; i < ports.length; i++) {
    const refusal = ports[i]!.entering?.(context);
    if (refusal) return refusal;
  }
  return null;
};

/** Tells of the end of a run of a VP. */
export const contextPaused = (ports: readonly ContextPort[], context: PlaneContext): void => {
  for (let i = 0; i < ports.length; i++) ports[i]!.paused?.(context);
};

/** Tells of the end of a run of a context. */
export const contextLeft = (ports: readonly ContextPort[], context: PlaneContext, cause: string): void => {
  for (let i = 0; i < ports.length; i++) ports[i]!.left?.(context, cause);
};
