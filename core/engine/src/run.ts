import type { Answer, Completion, ExitPayload } from './answers.ts';
import { contextEntering, contextLeft, contextPaused, contextTurn } from './context-ports.ts';
import { HostError } from './errors.ts';
import type { CpuExit, MemoryFaultExit } from './exits.ts';
import { AccessResult, type MemoryFaultInfo } from './memory/index.ts';
import type { Machine } from './machine.ts';
import { Activity, Outcome, type PlaneContext, type Vp } from './vp.ts';

/** Nobody answered a refusal of the second stage: the VMM gets the borrowed record. */
export interface MemoryFaultPayload extends ExitPayload {
  readonly kind: 'memoryFault';
  readonly info: MemoryFaultInfo;
}
/** The plane shut down. */
export interface ShutdownPayload extends ExitPayload {
  readonly kind: 'shutdown';
}
/** A context port refused the entry of a plane. */
export interface EntryRefusedPayload extends ExitPayload {
  readonly kind: 'entryRefused';
  readonly plane: number;
  readonly reason: string;
}

/** The dirty ring of this VP is full: it must be harvested and reset before the VP can go on. */
export interface DirtyRingFullPayload extends ExitPayload {
  readonly kind: 'dirtyRingFull';
}

/** Key that a frame watcher releases to let the accesses it held go on. */
export const watchKey = (watcherId: string): string => `watch:${watcherId}`;

/** Keeps a step of the loop from being an outcome: go on with the next turn. */
const CONTINUE = -1;

/**
 * The one loop that runs a virtual processor: finish pending work, look at events, block or enter the selected plane,
 * route the exit, apply the answer. Every arrow passes the trace port.
 */
export class RunLoop {
  readonly #machine: Machine;
  readonly #fault: { kind: 'memoryFault'; info: MemoryFaultInfo } = { kind: 'memoryFault', info: null as never };
  readonly #shutdown: ShutdownPayload = { kind: 'shutdown' };
  readonly #ringFull: DirtyRingFullPayload = { kind: 'dirtyRingFull' };

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /**
   * One run of a VP, from its entry to its return.
   * @returns why it ended; with `Outcome.Exit`, `vp.exit` is what the VMM is told.
   * @throws {HostError} BadState when the VP runs already or no processor drives it.
   */
  run(vp: Vp): Outcome {
    const m = this.#machine;
    if (vp.running >= 0) throw new HostError('BadState', `VP ${vp.index} is running already`);
    vp.exit = null;
    const selected = m.policy.select(vp);
    if (selected < 0) return Outcome.Blocked;
    if (selected !== vp.current) m.switchPlane(vp, vp.plane(selected), 'selected');
    this.#publish(vp);
    // A run at a preemption point of another one hands the writes back to it.
    const { dirty } = m.memory;
    const outer = dirty.currentVp;
    dirty.currentVp = vp.index;
    try {
      return this.#loop(vp);
    } catch (error) {
      throw m.checks === null ? error : m.checks.escaped(vp, error);
    } finally {
      dirty.currentVp = outer;
      const left = vp.context;
      contextPaused(m.contextPorts, left);
      vp.running = -1;
      m.rule.leave(left);
    }
  }

  #publish(vp: Vp): void {
    const context = vp.context;
    vp.reqExit = vp.asked & ~context.mask;
    vp.running = context.plane;
    this.#machine.rule.enter(context);
  }

  /** Leaves the current plane for `to` within a run, with the rule's view kept in step. */
  #move(vp: Vp, to: PlaneContext, reason: string): void {
    const m = this.#machine;
    if (to === vp.context) return;
    const left = vp.context;
    vp.running = -1;
    m.rule.leave(left);
    m.switchPlane(vp, to, reason);
    this.#publish(vp);
  }

  #loop(vp: Vp): Outcome {
    const m = this.#machine;
    const { options, policy, rule, hooks } = m;
    const cpu = m.cpuOf(vp);
    const checkFirst = options.eventCheck === 'first';
    for (;;) {
      const context = vp.context;
      // A plane that is held finishes its work when its wait is over.
      if (context.completion !== null && context.activity !== Activity.Held) {
        m.checks?.authorise(context);
        const outcome = this.#complete(context, context.completion);
        m.checks?.afterEvent(context);
        if (outcome !== CONTINUE) return outcome;
        if (vp.context !== context) continue;
      }
      if (vp.immediateExit) return Outcome.Interrupted;
      if (vp.suspended) return Outcome.Blocked;
      if (vp.deadline !== Number.POSITIVE_INFINITY && m.timeOf(vp) >= vp.deadline) m.expireTimers(vp);
      contextTurn(m.contextPorts, context);
      const several = (vp.existing & (vp.existing - 1)) !== 0;
      if (several) {
        if (checkFirst) {
          const target = rule.due(context);
          if (target !== 0) {
            const outcome = this.#planeEvent(vp, target);
            m.checks?.afterEvent(context);
            if (outcome !== CONTINUE) return outcome;
            // Without a switch the plane goes on: its events must not be asked about again before it made a step.
            if (vp.context !== context) continue;
          }
        }
        if (policy.preempts(vp)) {
          const next = policy.select(vp);
          if (next !== vp.current) {
            this.#move(vp, vp.plane(next), 'event');
            continue;
          }
        }
      }
      if (context.activity !== Activity.Running && !this.#wake(context)) return Outcome.Blocked;
      if (context.completion !== null) continue;
      if (several && !checkFirst) {
        const target = rule.due(context);
        if (target !== 0) {
          const outcome = this.#planeEvent(vp, target);
          m.checks?.afterEvent(context);
          if (outcome !== CONTINUE) return outcome;
          if (vp.context !== context || context.activity !== Activity.Running) continue;
        }
      }
      const budget = this.#budget(vp);
      if (budget <= 0) return Outcome.Slice;
      if (m.memory.dirty.isRingFull(vp.index)) {
        vp.exit = this.#ringFull;
        return this.#vmExit(vp);
      }
      const refusal = contextEntering(m.contextPorts, context);
      if (refusal !== null) {
        vp.exit = { kind: 'entryRefused', plane: context.plane, reason: refusal } as EntryRefusedPayload;
        return this.#vmExit(vp);
      }
      m.checks?.entering(context);
      const startsAnew = context.events.enter() === true;
      // Taking an event can change what the plane does (a start or reset signal): look again before the guest runs.
      if (startsAnew || (context.activity as Activity) !== Activity.Running) {
        contextLeft(m.contextPorts, context, 'event');
        continue;
      }
      hooks.trace?.entered(context);
      const exit = cpu.run(vp, budget);
      vp.statistics.exits++;
      hooks.trace?.exit(context, exit);
      contextLeft(m.contextPorts, context, exit.kind);
      const outcome = this.#route(vp, context, exit);
      m.checks?.afterEvent(context);
      if (outcome !== CONTINUE) return outcome;
    }
  }

  /** Instructions until the slice ends or the VP's next timer is due, whichever is first. */
  #budget(vp: Vp): number {
    const left = vp.sliceEnd - vp.retired;
    if (vp.deadline === Number.POSITIVE_INFINITY) return left;
    const toTimer = Math.ceil((vp.deadline - this.#machine.timeOf(vp)) / this.#machine.options.ticksPerInstruction);
    return Math.min(left, Math.max(1, toTimer));
  }

  #wake(context: PlaneContext): boolean {
    const m = this.#machine;
    const { vp } = context;
    if (context.activity === Activity.Held) {
      // A reset throws away the instruction that waits: whatever it waits for no longer counts.
      if (!m.isMet(context, context.wait) && context.events.resets?.() !== true) return false;
      context.wait = null;
    } else if (!context.events.wakes()) {
      return false;
    }
    context.activity = Activity.Running;
    vp.statistics.wakes++;
    m.rule.changed(context);
    return true;
  }

  #complete(context: PlaneContext, completion: Completion): Outcome | typeof CONTINUE {
    const m = this.#machine;
    if (completion.reply === null) {
      throw new HostError('BadState', `VP ${context.vp.index} plane ${context.plane} waits for the reply to '${completion.kind}'`);
    }
    context.completion = null;
    if (completion.owner === 'arch') {
      m.arch.complete(context, completion);
      return CONTINUE;
    }
    const answer = m.personality(completion.owner).complete?.(context, completion) ?? null;
    return answer === null ? CONTINUE : this.#apply(context.vp, context, answer, false);
  }

  #planeEvent(vp: Vp, target: number): Outcome | typeof CONTINUE {
    const m = this.#machine;
    const payload = vp.planeEvent;
    payload.cause = 'interrupt';
    payload.pending = vp.pending;
    payload.target = target;
    payload.flags = 0;
    vp.statistics.planeEvents++;
    for (const p of m.personalities) {
      const answer = p.planeEvent?.(vp, payload.pending, target);
      if (answer) return this.#apply(vp, vp.context, answer, false);
    }
    vp.exit = payload;
    return this.#vmExit(vp);
  }

  #route(vp: Vp, context: PlaneContext, exit: CpuExit): Outcome | typeof CONTINUE {
    const m = this.#machine;
    if (exit.kind === 'budget') return CONTINUE;
    if (exit.kind === 'memoryFault' && (exit as MemoryFaultExit).info.result === AccessResult.Held) return this.#hold(vp, context);
    const { screen } = m.arch;
    const screened = screen ? screen(context, exit) : null;
    if (screened !== null) return this.#apply(vp, context, screened, true);
    let owner = m.claims.find(exit.kind, exit.key);
    let answer = owner === null ? null : owner.handle(context, exit);
    // An extender that leaves an exit leaves it to whom it extends.
    while (answer === null && owner !== null && (owner = m.claims.under(exit.kind, exit.key, owner)) !== null) answer = owner.handle(context, exit);
    if (answer !== null) return this.#apply(vp, context, answer, exit.kind !== 'halt');
    switch (exit.kind) {
      case 'halt':
        context.activity = Activity.Halted;
        vp.statistics.halts++;
        m.rule.changed(context);
        return CONTINUE;
      case 'shutdown':
        vp.exit = this.#shutdown;
        return this.#vmExit(vp);
      case 'memoryFault':
        this.#fault.info = (exit as MemoryFaultExit).info;
        vp.exit = this.#fault;
        return this.#vmExit(vp);
      default:
        return this.#apply(vp, context, m.arch.unclaimed(context, exit), true);
    }
  }

  /** A watcher of a frame holds the access: the instruction runs again once it releases its key. */
  #hold(vp: Vp, context: PlaneContext): Outcome | typeof CONTINUE {
    const m = this.#machine;
    const key = watchKey(m.memory.watches.heldBy ?? '');
    m.hold(key);
    return this.#apply(vp, context, vp.replies.wait({ kind: 'key', key }), true);
  }

  /** @param pends - the exiting instruction has not retired yet, so an answer that finishes it must retire it. */
  #apply(vp: Vp, context: PlaneContext, answer: Answer, pends: boolean): Outcome | typeof CONTINUE {
    const m = this.#machine;
    m.hooks.trace?.answer(context, answer);
    switch (answer.kind) {
      case 'resume':
        if (pends) m.arch.retire(context);
        return CONTINUE;
      case 'retry':
        return CONTINUE;
      case 'fault':
        vp.statistics.faults++;
        m.arch.injectFault(context, answer.fault);
        return CONTINUE;
      case 'switch': {
        const { plane, reason } = answer;
        if (pends && answer.rip === 'advanced') m.arch.retire(context);
        m.policy.switchTo(vp, vp.plane(plane), answer.leave);
        const next = m.policy.select(vp);
        if (next < 0) return Outcome.Blocked;
        this.#move(vp, vp.plane(next), reason);
        return CONTINUE;
      }
      case 'wait':
        if (pends && answer.rip === 'advanced') m.arch.retire(context);
        context.wait = answer.condition;
        context.activity = Activity.Held;
        m.rule.changed(context);
        return CONTINUE;
      case 'exit':
        context.completion = answer.completion;
        if (pends && answer.completion === null) m.arch.retire(context);
        vp.exit = answer.payload;
        return this.#vmExit(vp);
      default: {
        const never: never = answer;
        throw new HostError('Internal', `unknown answer ${JSON.stringify(never)}`);
      }
    }
  }

  #vmExit(vp: Vp): Outcome {
    vp.statistics.vmExits++;
    this.#machine.exited(vp);
    return Outcome.Exit;
  }
}
