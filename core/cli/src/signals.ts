import type { ExitCode } from './exit-codes.ts';

/** Signals that stop a run. */
export interface StopSignals {
  readonly signal: AbortSignal;
  /** What was caught so far; null for nothing. */
  caught(): Extract<ExitCode, 'Interrupted' | 'Terminated'> | null;
  /** Gives the signals back to the process. */
  release(): void;
}

/** Catches the first Ctrl-C or SIGTERM; a second one ends the process at once, as ever. */
export function stopSignals(): StopSignals {
  const abort = new AbortController();
  let caught: 'Interrupted' | 'Terminated' | null = null;
  const on = (what: 'Interrupted' | 'Terminated') => (): void => {
    caught ??= what;
    release();
    abort.abort();
  };
  const handlers = { SIGINT: on('Interrupted'), SIGTERM: on('Terminated') } as const;
  function release(): void {
    process.off('SIGINT', handlers.SIGINT);
    process.off('SIGTERM', handlers.SIGTERM);
  }
  process.on('SIGINT', handlers.SIGINT);
  process.on('SIGTERM', handlers.SIGTERM);
  return { signal: abort.signal, caught: () => caught, release };
}
