import type { ExitPayload } from '@vmplanes/engine';

/** IN or OUT for the VMM. With IN, the reply is `{ value }`. */
export interface IoPayload extends ExitPayload {
  readonly kind: 'io';
  readonly write: boolean;
  readonly port: number;
  readonly size: number;
  readonly value: number;
}
/** An access to a guest physical address without memory. A read is replied to with `{ lo, hi }`. */
export interface MmioPayload extends ExitPayload {
  readonly kind: 'mmio';
  readonly write: boolean;
  readonly gpa: number;
  readonly size: number;
  readonly lo: number;
  readonly hi: number;
}
/**
 * An MSR access the VMM asked to be told of. Replied to with `{ error }`, and for reads `{ lo, hi }`;
 * `error` true raises #GP in the guest.
 */
export interface MsrPayload extends ExitPayload {
  readonly kind: 'msr';
  readonly write: boolean;
  readonly index: number;
  readonly lo: number;
  readonly hi: number;
  /** Why it came out: nobody knows the MSR, the value or access is not legal, or a filter took it. */
  readonly reason: 'unknown' | 'invalid' | 'filter';
}
/** A locked access that cannot use the cache, when such exits are on. */
export interface BusLockPayload extends ExitPayload {
  readonly kind: 'busLock';
  /** Bus locks of this VP so far. */
  readonly count: number;
}
export interface InterruptWindowPayload extends ExitPayload {
  readonly kind: 'interruptWindow';
}
export interface DebugPayload extends ExitPayload {
  readonly kind: 'debug';
  readonly dr6: number;
}

/** What the architecture itself tells the VMM: a closed union. */
export type X86Payload = IoPayload | MmioPayload | MsrPayload | BusLockPayload | InterruptWindowPayload | DebugPayload;
