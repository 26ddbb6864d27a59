import { createScope } from '@vmplanes/di';
import {
  Activity,
  type Answer,
  type Arch,
  ContextLayout,
  type Cpu,
  type CpuExit,
  type EventSource,
  type Hooks,
  installEngine,
  type Machine,
  Outcome,
  type PendingRule,
  PlaneId,
  type PlaneContext,
  type PlaneMask,
  Schedule,
  type SchedulerPolicyName,
  type Vp,
} from '@vmplanes/engine';
import { Grain, Weaver, type Weave } from './threads.ts';

/** Planes of the explored VP. */
const PLANES = 3;

/** What the threads share, by cell. Everything below `IRR` is one word of the VP; the rest is per plane or the VMM's. */
export const Cell = { PENDING: 0, RUNNING: 1, REQ_EXIT: 2, RECHECK: 3, IRR: 4, TAKEN: 7, CURRENT: 10, RUNNABLE: 11, NAMED: 12, FIRST: 13 } as const;
const CELLS = 14;
const names = ['pending', 'running', 'reqExit', 'recheck', 'irr0', 'irr1', 'irr2', 'taken0', 'taken1', 'taken2', 'current', 'runnable', 'named', 'first'];

/** One interrupt on its way to a plane. */
export interface Delivery {
  readonly plane: number;
  /** Its request bit, which is its priority too. */
  readonly bit: number;
}

/** How one VP and its deliverers are set up. */
export interface RaceConfig {
  readonly name: string;
  readonly grain: Grain;
  readonly rule: (hooks: Hooks) => PendingRule;
  /** `irr` or `deliverable`: what counts as work for a plane. */
  readonly counts: 'irr' | 'deliverable';
  readonly policy: SchedulerPolicyName;
  /** Plane that the VMM runs when nothing is to be done. */
  readonly home: number;
  /** Planes whose events the VMM asked about. */
  readonly asked: PlaneMask;
  readonly deliveries: readonly Delivery[];
  /** Planes of the short runs before the VMM settles on {@link home}; other policies than `userspace` choose themselves. */
  readonly first: readonly number[];
  /** Per plane: request bits below this number are masked by its priority. */
  readonly masked?: readonly number[];
  /** Requests and marks there are before the first run. */
  readonly pending?: readonly Delivery[];
  /** Replaces the order "store the request, then tell the engine". */
  readonly deliver?: (world: RaceWorld, delivery: Delivery) => void;
  /** Keeps what a run publishes back until its entry has read the mask: a missing barrier. */
  readonly publishesLate?: boolean;
}

/** The events of one plane: a word of requests. */
class WordEvents implements EventSource {
  constructor(
    readonly world: RaceWorld,
    readonly context: PlaneContext,
  ) {}
  requested(): boolean {
    return this.world.weaver.get(Cell.IRR + this.context.plane) !== 0;
  }
  deliverable(): boolean {
    return this.world.unmasked(this.context.plane, this.world.weaver.get(Cell.IRR + this.context.plane)) !== 0;
  }
  wakes(): boolean {
    return this.deliverable();
  }
  enter(): void {
    const { world, context } = this;
    const cell = Cell.IRR + context.plane;
    const irr = world.weaver.get(cell);
    const set = world.unmasked(context.plane, irr);
    if (set === 0) return;
    const top = 1 << (31 - Math.clz32(set));
    world.weaver.set(cell, irr & ~top);
    world.weaver.set(Cell.TAKEN + context.plane, world.weaver.get(Cell.TAKEN + context.plane) | top);
    world.machine.eventsChanged(context);
  }
  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }
  expire(): void {}
  deliver(): number {
    return 0;
  }
  balance(): { accepted: number; delivered: number; merged: number; pending: number; discarded: number } {
    return { accepted: 0, delivered: 0, merged: 0, pending: 0, discarded: 0 };
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

/** An architecture with nothing but interrupt requests, so that every shared word is a cell. */
class WordArch implements Arch {
  readonly freshReset = 'powerOn';
  readonly name = 'words';
  readonly layout = new ContextLayout(64, [{ name: 'r', offset: 0, size: 4 }]);
  readonly exitKinds = ['yield', 'budget', 'halt', 'memoryFault', 'shutdown'];
  constructor(readonly world: RaceWorld) {}
  attach(): void {}
  createContext(context: PlaneContext): EventSource {
    return new WordEvents(this.world, context);
  }
  reset(): void {}
  /** A plane that was entered for an event gives the VP back. */
  unclaimed(context: PlaneContext): Answer {
    return context.vp.replies.switchTo(this.world.config.home, 'yield', 'stopped');
  }
  injectFault(): void {}
  retire(): void {}
  complete(): void {}
}

const BUDGET: CpuExit = { kind: 'budget', key: 0 };
const YIELD: CpuExit = { kind: 'yield', key: 0 };
/** Guest entries of one run before it is called a loop. */
const LIVE = 40;

/** A guest that never leaves by itself: it goes on until something makes the run loop look. */
class SpinningCpu implements Cpu {
  entries = 0;
  constructor(readonly world: RaceWorld) {}
  run(vp: Vp): CpuExit {
    if (++this.entries > LIVE) throw new Error(`${LIVE} guest entries in one run`);
    const { world } = this;
    if (vp.current !== world.config.home && world.config.policy !== 'userspace') return YIELD;
    if (world.isBrief) vp.retired++;
    else world.weaver.wait('kicked', (cells) => world.isKicked(cells));
    return BUDGET;
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

/**
 * The product's run loop, policy and pending rule on one VP, with all that several host threads would share in cells:
 * one thread runs the VP as a VMM does, the others deliver interrupts to its planes.
 */
export class RaceWorld {
  readonly weaver = new Weaver(names);
  readonly machine: Machine;
  readonly vp: Vp;
  isBrief = false;
  readonly #cpu: SpinningCpu;
  /** What a run has published but not yet stored, with {@link RaceConfig.publishesLate}. */
  readonly #late = new Map<number, number>();
  #holdsBack = false;

  constructor(readonly config: RaceConfig) {
    this.machine = installEngine(createScope(), {
      arch: new WordArch(this),
      policy: config.policy,
      rule: (hooks) => this.#watchEntry(config.rule(hooks)),
      options: { maxVps: 1, maxPlanes: PLANES, memoryBytes: 4096 },
    });
    this.machine.hooks.preemption = { at: (point) => this.weaver.at(point) };
    this.vp = this.machine.createVp();
    for (let p = 1; p < PLANES; p++) this.machine.createPlane(this.vp, PlaneId(p));
    this.#cpu = new SpinningCpu(this);
    this.machine.setCpu(this.vp, this.#cpu);
    this.#share('pending', Cell.PENDING);
    this.#share('running', Cell.RUNNING);
    this.#share('reqExit', Cell.REQ_EXIT);
    this.#share('recheck', Cell.RECHECK);
    this.vp.asked = config.asked;
  }

  #share(field: 'pending' | 'running' | 'reqExit' | 'recheck', cell: number): void {
    const delays = this.config.publishesLate === true && (cell === Cell.RUNNING || cell === Cell.REQ_EXIT);
    Object.defineProperty(this.vp, field, {
      get: () => (this.#late.has(cell) ? this.#late.get(cell) : this.weaver.get(cell)),
      set: (value: number) => {
        if (delays && (cell === Cell.REQ_EXIT || value >= 0)) {
          this.#holdsBack = true;
          this.#late.set(cell, value);
        } else this.weaver.set(cell, value);
      },
    });
  }

  /** With late publishing, the stores reach the others only when the entry is over. */
  #watchEntry(rule: PendingRule): PendingRule {
    if (this.config.publishesLate !== true) return rule;
    const enter = rule.enter.bind(rule);
    rule.enter = (context) => {
      enter(context);
      if (!this.#holdsBack) return;
      this.#holdsBack = false;
      const stores = [...this.#late];
      this.#late.clear();
      for (const [cell, value] of stores) this.weaver.set(cell, value);
    };
    return rule;
  }

  unmasked(plane: number, irr: number): number {
    const from = this.config.masked?.[plane] ?? 0;
    return (irr >> from) << from;
  }

  /** Planes whose work the running plane must give way to. */
  #interesting(running: number): PlaneMask {
    switch (this.config.policy) {
      case 'userspace':
        return this.config.asked & ~(1 << running);
      case 'lowest-runnable':
        return 1 & ~(1 << running);
      case 'highest-runnable':
        return 0xffff & ~((2 << running) - 1);
    }
  }

  /** Whether the guest would come back to the run loop: it takes an interrupt of its own, or somebody asked it to look. */
  isKicked(cells: Int32Array): boolean {
    const running = this.vp.current;
    if (this.unmasked(running, cells[Cell.IRR + running]!) !== 0) return true;
    if (this.config.counts === 'irr') return (cells[Cell.RECHECK]! & (1 << running)) !== 0;
    return (cells[Cell.PENDING]! & this.#interesting(running)) !== 0;
  }

  /** Puts what only the VP's thread uses back to where its operation began: it may be running again from there. */
  #rewind(): void {
    const { vp, weaver } = this;
    vp.current = weaver.peek(Cell.CURRENT);
    vp.named = weaver.peek(Cell.NAMED);
    vp.retired = 0;
    vp.exit = null;
    for (let p = 0; p < PLANES; p++) {
      const c = vp.plane(p);
      c.activity = Activity.Running;
      vp.setSchedule(c, (weaver.peek(Cell.RUNNABLE) & c.mask) !== 0 ? Schedule.Runnable : Schedule.Stopped);
    }
    this.#late.clear();
    this.#holdsBack = false;
    this.#cpu.entries = 0;
  }

  /** One run and what the VMM does with its outcome: run the plane that an event is for, then go on as planned. */
  readonly #run = (): void => {
    this.#rewind();
    const { vp, weaver, config } = this;
    const done = weaver.peek(Cell.FIRST);
    const planned = config.first[done] ?? config.home;
    const isPlanned = config.policy !== 'userspace' || vp.named === planned;
    this.isBrief = !isPlanned || done < config.first.length;
    vp.sliceEnd = this.isBrief ? 1 : 1000;
    const outcome = this.machine.runVp(vp);
    const event = outcome === Outcome.Exit ? vp.planeEvent : null;
    const after = isPlanned && event === null ? done + 1 : done;
    weaver.poke(Cell.FIRST, Math.min(after, config.first.length));
    weaver.poke(Cell.NAMED, event ? 31 - Math.clz32(event.target) : (config.first[after] ?? config.home));
    weaver.poke(Cell.CURRENT, vp.current);
    weaver.poke(Cell.RUNNABLE, vp.runnable);
  };

  #deliver(delivery: Delivery): void {
    if (this.config.deliver) this.config.deliver(this, delivery);
    else {
      this.store(delivery);
      this.machine.accepted(this.vp.plane(delivery.plane), true);
    }
  }

  store(delivery: Delivery): void {
    const cell = Cell.IRR + delivery.plane;
    this.weaver.set(cell, this.weaver.get(cell) | (1 << delivery.bit));
  }

  /** What holds when nothing can go on: no interrupt lost, nobody asleep with work. Nothing here knows of any defect. */
  #settled(cells: Int32Array, asleep: readonly string[]): readonly string[] {
    const { config } = this;
    const why: string[] = [];
    if (!asleep.includes('VP')) why.push('I-LIVE: the VP runs on and on without work');
    const running = cells[Cell.RUNNING]!;
    const work = (p: number): boolean => (config.counts === 'irr' && p !== running ? cells[Cell.IRR + p]! : this.unmasked(p, cells[Cell.IRR + p]!)) !== 0;
    for (let p = 0; p < PLANES; p++) {
      const expected = [...config.deliveries, ...(config.pending ?? [])].filter((d) => d.plane === p).reduce((m, d) => m | (1 << d.bit), 0);
      if ((cells[Cell.IRR + p]! | cells[Cell.TAKEN + p]!) !== expected) why.push(`I-IRQ: requests of plane ${p} are neither delivered nor pending`);
      if ((cells[Cell.IRR + p]! & cells[Cell.TAKEN + p]!) !== 0) why.push(`I-DUP: a request of plane ${p} is delivered and still pending`);
      if (p === running) {
        if (work(p)) why.push(`I-WAKE: the VP is asleep in plane ${p}, which has an interrupt to take`);
        continue;
      }
      const isMarked = (cells[Cell.PENDING]! & (1 << p)) !== 0;
      if (work(p) && !isMarked) why.push(`I-IRQ: plane ${p} has an interrupt that nobody will look for`);
      if (config.counts === 'deliverable' && isMarked && !work(p)) why.push(`I-IRQ: plane ${p} is marked without an interrupt`);
      if (work(p) && (this.#interesting(running) & (1 << p)) !== 0) why.push(`I-WAKE: the VP is asleep in plane ${running} while plane ${p} has work that was asked about`);
    }
    return why;
  }

  weave(): Weave {
    const { config } = this;
    const cells = new Int32Array(CELLS);
    cells[Cell.RUNNING] = -1;
    const start = config.policy === 'userspace' ? (config.first[0] ?? config.home) : config.home;
    cells[Cell.CURRENT] = start;
    cells[Cell.NAMED] = start;
    cells[Cell.RUNNABLE] = 1 << start;
    for (const { plane, bit } of config.pending ?? []) {
      cells[Cell.IRR + plane]! |= 1 << bit;
      cells[Cell.PENDING]! |= 1 << plane;
    }
    const count = config.deliveries.length + (config.pending?.length ?? 0);
    return {
      name: config.name,
      grain: config.grain,
      cells,
      threads: [
        { name: 'VP', operations: Array.from({ length: config.first.length + 5 * count + 2 }, () => this.#run) },
        ...config.deliveries.map((d) => ({ name: `interrupt ${d.bit} for plane ${d.plane}`, operations: [() => this.#deliver(d)] })),
      ],
      settled: (c, asleep) => this.#settled(c, asleep),
    };
  }
}
