/**
 * Errors of the host or of its configuration, one row each: code, what it means.
 * Never caused by guest input (guest-visible outcomes are statuses and faults).
 */
export const HostErrorCode = {
  BadConfig: 'the configuration is not valid',
  DoubleClaim: 'two personalities claim the same exit',
  UnknownPersonality: 'a personality was named that cannot be found',
  BadPlugin: 'a personality package does not export what the plug-in interface asks for',
  NoService: 'a program that the guest needs on this host is not there',
  BadFile: 'a file cannot be read or written',
  BadImage: 'a boot image breaks the rules of its format',
  ApiVersion: 'a plug-in was made for another engine API',
  ExistsAlready: 'an object with this id exists already',
  NoSuchVp: 'no virtual processor with this index',
  NoSuchPlane: 'this virtual processor has no such plane',
  NoMemory: 'the machine buffer cannot hold this',
  BadRange: 'a range is empty, unaligned or wraps',
  BadState: 'the object is not in the state that this operation needs',
  BadSnapshot: 'the snapshot cannot be restored here',
  BadTrace: 'the trace cannot be read',
  Divergence: 'the replayed run differs from its trace',
  Invariant: 'an invariant of the machine does not hold',
  BadScript: 'a guest script breaks the rules of scripts',
  Internal: 'a defect of vmplanes',
} as const;
export type HostErrorCode = keyof typeof HostErrorCode;

/** An error of ours or of the configuration, with a stable code for programs and one sentence for people. */
export class HostError extends Error {
  override readonly name = 'HostError';
  constructor(
    readonly code: HostErrorCode,
    message: string,
    readonly details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
  }
}
