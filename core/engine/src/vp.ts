import { type Scope, type Token, token } from '@vmplanes/di';
import { type Completion, type ExitPayload, Replies, type WaitCondition } from './answers.ts';
import { HostError } from './errors.ts';
import { MAX_PLANES, type PlaneId, type PlaneMask, type VpIndex } from './ids.ts';
import type { EventSource } from './ports.ts';

/** Whether the scheduler policy may choose a plane. Policies see only this, never the activity. */
export const Schedule = { Stopped: 0, Runnable: 1 } as const;
export type Schedule = (typeof Schedule)[keyof typeof Schedule];

/** What a plane does when it is chosen. A chosen plane that is not running blocks its whole VP. */
export const Activity = { Running: 0, Halted: 1, WaitForSipi: 2, Held: 3 } as const;
export type Activity = (typeof Activity)[keyof typeof Activity];
export const activityNames = ['running', 'halted', 'wait-for-SIPI', 'held'] as const;

/** One plane of one virtual processor: its register block, its events and what it does. */
export class PlaneContext {
  static readonly token: Token<PlaneContext> = token<PlaneContext>('PlaneContext');
  schedule: Schedule = Schedule.Stopped;
  activity: Activity = Activity.Running;
  /** Set while {@link activity} is Held. */
  wait: WaitCondition | null = null;
  /** Work to finish before the next guest instruction of this plane. */
  completion: Completion | null = null;
  /** Events accepted by this plane so far: the edge counter for "a new one since I last looked". */
  edges = 0;
  /** Instructions retired by this plane. */
  retired = 0;
  /** Bytes the instruction pointer moves when the instruction that exited retires; set by the processor with each exit. */
  instructionLength = 0;
  /** Machine ticks this plane's clock reads ahead of machine time. */
  clockOffset = 0;
  events!: EventSource;
  /** Services of this plane: below the machine's scope; resolved when the plane is made, never while it runs. */
  scope!: Scope;

  /** @param base - byte offset of the register block in the arena. */
  constructor(
    readonly vp: Vp,
    readonly plane: PlaneId,
    readonly base: number,
  ) {}

  get mask(): PlaneMask {
    return 1 << this.plane;
  }
}

/** Counts of one VP; a plain record so that it is saved as it is. */
export interface VpStatistics {
  switches: number;
  exits: number;
  halts: number;
  wakes: number;
  faults: number;
  vmExits: number;
  planeEvents: number;
}

/** Why a run of a VP ended. */
export const Outcome = {
  /** The slice is used up. */
  Slice: 0,
  /** `vp.exit` holds a payload for the VMM. */
  Exit: 1,
  /** The chosen plane waits and nothing that may wake it has happened. */
  Blocked: 2,
  /** The VMM asked for an immediate return, or a signal is pending. */
  Interrupted: 3,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

/** Payload of the exit that tells the VMM of events for planes it asked about. Zeroed before it is filled. */
export interface PlaneEventPayload extends ExitPayload {
  readonly kind: 'planeEvent';
  cause: string;
  /** Snapshot of the pending mask. */
  pending: PlaneMask;
  /** Pending planes that the VMM asked about. */
  target: PlaneMask;
  flags: number;
}

/**
 * A virtual processor: the group of its plane contexts and the one owner of everything that exists once per group.
 * Group data never hang off one of the planes.
 */
export class Vp {
  readonly planes: (PlaneContext | null)[] = new Array<PlaneContext | null>(MAX_PLANES).fill(null);
  readonly replies = new Replies();
  readonly planeEvent: PlaneEventPayload = { kind: 'planeEvent', cause: '', pending: 0, target: 0, flags: 0 };
  /** Planes that exist on this VP. */
  existing: PlaneMask = 0;
  /** Planes that are being made: taken, but not to be found yet. */
  building: PlaneMask = 0;
  /** Planes whose schedule is Runnable; kept in step by {@link setSchedule}. */
  runnable: PlaneMask = 0;
  /** The plane whose registers are the VP's current ones. */
  current = 0;
  /** The plane the VMM named for its next run; used by policies that let it choose. */
  named = 0;
  /** The plane selected by the run in progress; -1 outside a run. */
  running = -1;
  /** Planes with pending events, as the pending rule defines them. */
  pending: PlaneMask = 0;
  /** Planes whose pending events the VMM (or the personality in its place) asked to be told of. */
  asked: PlaneMask = 0;
  /** {@link asked} as latched when the running plane was entered, without the running plane. */
  reqExit: PlaneMask = 0;
  /** Planes that were asked to look at {@link pending} before they enter the guest. */
  recheck: PlaneMask = 0;
  /** The VMM wants the run to return before the next guest instruction. */
  immediateExit = false;
  /** Nothing of this VP runs, whatever its planes wait for, until its owner says otherwise. */
  suspended = false;
  /** Payload of the last exit to the VMM; borrowed. */
  exit: ExitPayload | null = null;
  /** Instructions retired by all planes. */
  retired = 0;
  /** Value of {@link retired} at which the slice ends. */
  sliceEnd = 0;
  /** Exits counted when the slice began. */
  sliceExits = 0;
  /** Machine time at which the count {@link timeRetired} was retired. */
  timeBase = 0;
  timeRetired = 0;
  /** Earliest timer of any plane, in ticks; Infinity without one. */
  deadline = Number.POSITIVE_INFINITY;
  /** Bus locks since creation, and the machine time before which the next one stalls the VP. */
  busLocks = 0;
  busLockUntil = 0;
  readonly statistics: VpStatistics = { switches: 0, exits: 0, halts: 0, wakes: 0, faults: 0, vmExits: 0, planeEvents: 0 };

  constructor(readonly index: VpIndex) {}

  /** The current plane's context. Valid once the VP has a plane. */
  get context(): PlaneContext {
    return this.planes[this.current] as PlaneContext;
  }

  /** @throws {HostError} NoSuchPlane when this VP has no such plane. */
  plane(id: number): PlaneContext {
    const found = this.planes[id];
    if (!found) throw new HostError('NoSuchPlane', `VP ${this.index} has no plane ${id}`);
    return found;
  }

  setSchedule(context: PlaneContext, schedule: Schedule): void {
    context.schedule = schedule;
    if (schedule === Schedule.Runnable) this.runnable |= context.mask;
    else this.runnable &= ~context.mask;
  }
}
