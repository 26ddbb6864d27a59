import type { PlainRecord } from './state.ts';

/** What a plane must still do when the VMM lets it continue: data, kept in the context, saved with it, never a callback. */
export interface Completion {
  /** Who finishes it: `arch` or the name of a personality. */
  readonly owner: string;
  /** What to do, in the owner's words. */
  readonly kind: string;
  readonly data: PlainRecord;
  /** What the VMM answered; null until it did. */
  reply: PlainRecord | null;
}

/** What the VMM is told by an exit. `kind` is from the documented list of the architecture, engine or personality. */
export interface ExitPayload {
  readonly kind: string;
  /** Lines for people, where the guest has more to say than the kind tells. */
  readonly text?: string;
}

/** When a held plane may go on. */
export type WaitCondition =
  /** At a machine time, in ticks. */
  | { readonly kind: 'time'; readonly at: number }
  /** When someone calls `machine.release(key)`. */
  | { readonly kind: 'key'; readonly key: string }
  /** When (vp, plane) is not executing. */
  | { readonly kind: 'left'; readonly vp: number; readonly plane: number };

/** Goes on behind the instruction: the handler has done its work. */
export interface ResumeAnswer {
  readonly kind: 'resume';
}
/** Injects an architectural fault; the instruction has no other effect. */
export interface FaultAnswer {
  readonly kind: 'fault';
  readonly fault: Fault;
}
/** Runs another plane of this VP next, subject to the scheduler policy. */
export interface SwitchAnswer {
  readonly kind: 'switch';
  readonly plane: number;
  readonly reason: string;
  /** Schedule of the plane that is left. */
  readonly leave: 'runnable' | 'stopped';
  /** `advanced`: the instruction is done, as a call is; `held`: it runs again when its plane goes on, as a refused access does. */
  readonly rip: 'held' | 'advanced';
}
/** Holds this plane until a condition is met. */
export interface WaitAnswer {
  readonly kind: 'wait';
  readonly condition: WaitCondition;
  /** `held`: the instruction runs again afterwards; `advanced`: it is done. */
  readonly rip: 'held' | 'advanced';
}
/** Runs the same instruction again, after other work of the handler. */
export interface RetryAnswer {
  readonly kind: 'retry';
}
/** Leaves to the VMM. */
export interface ExitAnswer {
  readonly kind: 'exit';
  readonly payload: ExitPayload;
  readonly completion: Completion | null;
}

/** What a personality answers to an exit it claimed: a closed union. */
export type Answer = ResumeAnswer | FaultAnswer | SwitchAnswer | WaitAnswer | RetryAnswer | ExitAnswer;

/** An architectural fault. Not an `Error`: it belongs to the guest. */
export interface Fault {
  readonly code: number;
  /** Null for faults without an error code. */
  readonly errorCode: number | null;
  /** Faulting linear address where the fault has one, as (lo, hi) 32-bit halves. */
  readonly addressLo: number;
  readonly addressHi: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The preallocated answers of one virtual processor: each call fills and returns the same record, borrowed until the next exit. */
export class Replies {
  readonly #resume: ResumeAnswer = { kind: 'resume' };
  readonly #retry: RetryAnswer = { kind: 'retry' };
  readonly #fault: Mutable<Fault> = { code: 0, errorCode: null, addressLo: 0, addressHi: 0 };
  readonly #faultAnswer: FaultAnswer = { kind: 'fault', fault: this.#fault };
  readonly #switch: Mutable<SwitchAnswer> = { kind: 'switch', plane: 0, reason: '', leave: 'stopped', rip: 'advanced' };
  readonly #wait: Mutable<WaitAnswer> = { kind: 'wait', condition: { kind: 'time', at: 0 }, rip: 'held' };
  readonly #exit: Mutable<ExitAnswer> = { kind: 'exit', payload: { kind: '' }, completion: null };

  resume(): ResumeAnswer {
    return this.#resume;
  }
  retry(): RetryAnswer {
    return this.#retry;
  }
  fault(code: number, errorCode: number | null = null, addressLo = 0, addressHi = 0): FaultAnswer {
    this.#fault.code = code;
    this.#fault.errorCode = errorCode;
    this.#fault.addressLo = addressLo;
    this.#fault.addressHi = addressHi;
    return this.#faultAnswer;
  }
  /** @param reason - names the switch in traces; every switch has one. */
  switchTo(plane: number, reason: string, leave: 'runnable' | 'stopped' = 'stopped', rip: 'held' | 'advanced' = 'advanced'): SwitchAnswer {
    this.#switch.plane = plane;
    this.#switch.reason = reason;
    this.#switch.leave = leave;
    this.#switch.rip = rip;
    return this.#switch;
  }
  wait(condition: WaitCondition, rip: 'held' | 'advanced' = 'held'): WaitAnswer {
    this.#wait.condition = condition;
    this.#wait.rip = rip;
    return this.#wait;
  }
  exit(payload: ExitPayload, completion: Completion | null = null): ExitAnswer {
    this.#exit.payload = payload;
    this.#exit.completion = completion;
    return this.#exit;
  }
}
