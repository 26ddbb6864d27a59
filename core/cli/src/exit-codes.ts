import { HostError, type HostErrorCode } from '@vmplanes/engine';

/** What the command line ends with. One row per code: name, code, meaning. */
export const exitCodes = {
  Ok: { code: 0, meaning: 'done; the guest ended well, the trace agrees, nothing differs' },
  Guest: { code: 1, meaning: 'the guest ended badly: it shut down, waits for ever, made an exit that nobody serves, or missed an expectation' },
  Usage: { code: 2, meaning: 'the command line is not valid' },
  Config: { code: 3, meaning: 'the guest configuration, a personality or a script is not valid' },
  Divergence: { code: 4, meaning: 'a replay differs from its trace, or the trace cannot be read' },
  Snapshot: { code: 5, meaning: 'a snapshot cannot be restored' },
  Invariant: { code: 6, meaning: 'an invariant of the machine does not hold' },
  File: { code: 7, meaning: 'a file cannot be read or written' },
  Internal: { code: 70, meaning: 'a defect of vmplanes' },
  Interrupted: { code: 130, meaning: 'stopped by Ctrl-C (SIGINT) at an event boundary; the trace is complete up to there' },
  Terminated: { code: 143, meaning: 'stopped by SIGTERM in the same way' },
} as const;
export type ExitCode = keyof typeof exitCodes;

/** The exit code of every error code of the engine. */
export const exitOfError: Readonly<Record<HostErrorCode, ExitCode>> = {
  BadConfig: 'Config',
  DoubleClaim: 'Config',
  UnknownPersonality: 'Config',
  BadPlugin: 'Config',
  NoService: 'Config',
  BadFile: 'File',
  BadImage: 'File',
  ApiVersion: 'Config',
  ExistsAlready: 'Config',
  NoSuchVp: 'Config',
  NoSuchPlane: 'Config',
  NoMemory: 'Config',
  BadRange: 'Config',
  BadState: 'Internal',
  BadSnapshot: 'Snapshot',
  BadTrace: 'Divergence',
  Divergence: 'Divergence',
  Invariant: 'Invariant',
  BadScript: 'Config',
  Internal: 'Internal',
};

/** A mistake in the use of the command line. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  /** @param hint - what to type instead. */
  constructor(
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

/** An error as the command line tells it. */
export interface ToldError {
  readonly exit: ExitCode;
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  readonly details: Readonly<Record<string, unknown>>;
}

const shownDetails = ['source', 'path', 'line', 'complaints', 'claimants', 'id'] as const;

/** What to tell of anything that was thrown. */
export function toldOf(error: unknown): ToldError {
  if (error instanceof UsageError) return { exit: 'Usage', code: 'Usage', message: error.message, hint: error.hint, details: {} };
  if (error instanceof HostError) {
    const { fix } = error.details;
    // Most messages end with their fix; one that does not gets it as a hint.
    const hint = typeof fix === 'string' && !error.message.includes(fix) ? fix : null;
    const details = Object.fromEntries(shownDetails.flatMap((k) => (error.details[k] === undefined ? [] : [[k, error.details[k]]])));
    return { exit: exitOfError[error.code], code: error.code, message: error.message.replaceAll('\n', ' '), hint, details };
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { exit: 'Internal', code: 'Internal', message: text, hint: 'please report this with the command line', details: {} };
}
