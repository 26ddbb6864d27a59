import { engineInvariants, HostError, InvariantChecks, type Machine, Outcome, type Snapshot, type Vp } from '@vmplanes/engine';
import type { X86Arch } from '@vmplanes/x86';
import { restInvariants } from './rest.ts';
import { stateKey } from './state-hash.ts';

/** Somebody beside the VPs who acts on the machine: a device, the VMM, another host thread. */
export interface Party {
  readonly name: string;
  /** How often it may act on one path. */
  readonly times: number;
  /** Preemption points at which it may come in between; by default it acts between runs only. */
  readonly points?: readonly string[];
  isEnabled?(): boolean;
  act(): void;
}

/** A machine at its first state, and what is around it. */
export interface World {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly parties: readonly Party[];
  /** What the VMM and the parties remember; part of the state. */
  readonly notes: Int32Array;
  /** The VMM's reaction to an exit; called outside of the run. */
  onExit(vp: Vp): void;
  /** Sentences for what does not hold once every VP waits, besides what holds for every machine. */
  settled?(): readonly string[];
}

export interface Scenario {
  readonly name: string;
  build(): World;
  /** Paths create planes or VPs, so that going back takes a new machine. */
  readonly rebuilds?: boolean;
}

/** How far an exploration goes. */
export interface Bounds {
  /** Moves of one path: steps of VPs, acts of parties and warps of time between runs. */
  readonly depth: number;
  /** Acts at preemption points on one path. */
  readonly intrusions: number;
  /** How deep acts at points of acts nest; default 1. */
  readonly nesting?: number;
  /** Preemption points at which another VP may run a step. */
  readonly vpPoints?: readonly string[];
  /** One of so many states is also saved, restored into a new machine and run to its end in both; 0 for none. */
  readonly resumeOneIn?: number;
}

/** Steps in which a machine must come to rest when nobody acts on it any more. */
const SETTLE_STEPS = 400;

/** A state of a world to go back to. */
export interface Saved {
  readonly snapshot: Snapshot;
  readonly notes: Int32Array;
  readonly left: Int32Array;
  readonly intrusionsLeft: number;
}

/** In the middle of a delivery or of a switch, an event may be stored and not yet marked. */
const midway = engineInvariants.filter((i) => i.id !== 'I-WAKE');

/** Something that must hold does not. */
export class Broken extends Error {}

/** A world with the moves that can be made in it. */
export class Player {
  world: World;
  left: Int32Array;
  intrusionsLeft: number;
  intrusions = 0;
  /** Choices given for this run, and those made. */
  choices: number[] = [];
  at = 0;
  /** Number of alternatives of each choice made. */
  arity: number[] = [];
  readonly labels: string[] = [];
  #nesting = 0;
  #settling = false;
  #flushes = false;
  #checks: { readonly machine: Machine; readonly between: InvariantChecks; readonly midway: InvariantChecks } | null = null;
  /** VPs in the middle of a run or of the VMM's reaction to it. */
  readonly #busy = new Set<number>();

  constructor(
    readonly scenario: Scenario,
    readonly bounds: Bounds,
  ) {
    this.world = scenario.build();
    this.left = Int32Array.from(this.world.parties, (p) => p.times);
    this.intrusionsLeft = bounds.intrusions;
    this.#attach();
  }

  #attach(): void {
    const { machine } = this.world;
    machine.hooks.preemption = { at: (point) => this.#intrude(point) };
    machine.memory.access.preempt = (point) => this.#intrude(point);
    if (this.#checks === null || this.#checks.machine !== machine) {
      this.#checks = { machine, between: new InvariantChecks(machine), midway: new InvariantChecks(machine, midway) };
    }
    this.#checks.between.adopt();
    machine.checks = this.#checks.between;
  }

  choose(count: number): number {
    if (this.at === this.choices.length) this.choices.push(0);
    this.arity[this.at] = count;
    return this.choices[this.at++]!;
  }

  /** The choices of the path that differs from the last one in its last possible choice; null after the last one. */
  nextChoices(): number[] | null {
    for (let i = this.at - 1; i >= 0; i--) {
      if (this.choices[i]! + 1 < this.arity[i]!) return [...this.choices.slice(0, i), this.choices[i]! + 1];
    }
    return null;
  }

  #intrude(point: string): void {
    const { bounds, world } = this;
    if (this.#settling || this.intrusionsLeft === 0 || this.#nesting >= (bounds.nesting ?? 1)) return;
    const acts: number[] = [];
    if (bounds.vpPoints?.includes(point)) for (const vp of world.machine.vps) if (!this.#busy.has(vp.index)) acts.push(vp.index);
    world.parties.forEach((p, i) => {
      if (this.left[i]! > 0 && p.points?.includes(point) && (p.isEnabled?.() ?? true)) acts.push(world.machine.vps.length + i);
    });
    if (acts.length === 0) return;
    const chosen = this.choose(acts.length + 1);
    if (chosen === 0) return;
    this.labels.push(`at ${point}:`);
    this.intrusionsLeft--;
    this.intrusions++;
    this.#nesting++;
    const { machine } = world;
    const active = machine.activeVp;
    machine.activeVp = -1;
    const checks = this.#checks!;
    checks.midway.adopt();
    machine.checks = checks.midway;
    this.#perform(acts[chosen - 1]!);
    checks.between.adopt();
    machine.checks = this.#nesting > 1 ? checks.midway : checks.between;
    machine.activeVp = active;
    this.#nesting--;
    this.labels.push('go on');
  }

  /** Moves that can be made between runs: VPs, then parties, then the next timer. */
  moves(): number[] {
    const { machine, parties } = this.world;
    const found = machine.vps.map((vp): number => vp.index);
    parties.forEach((p, i) => {
      if (this.left[i]! > 0 && (p.isEnabled?.() ?? true)) found.push(machine.vps.length + i);
    });
    if (this.#deadline() < Number.POSITIVE_INFINITY) found.push(machine.vps.length + parties.length);
    return found;
  }

  #deadline(): number {
    const { machine } = this.world;
    return machine.vps.reduce((least, vp) => Math.min(least, vp.deadline, machine.waitDeadline(vp)), Number.POSITIVE_INFINITY);
  }

  move(move: number): void {
    try {
      this.#perform(move);
    } catch (error) {
      if (error instanceof Broken) throw error;
      throw new Broken(error instanceof HostError ? `${error.code}: ${error.message}` : String(error));
    }
  }

  #perform(move: number): Outcome | null {
    const { machine, parties } = this.world;
    const vp = machine.vps[move];
    if (vp) {
      this.labels.push(`VP ${vp.index}`);
      return this.#step(vp);
    }
    const party = parties[move - machine.vps.length];
    if (party) {
      this.labels.push(party.name);
      this.left[move - machine.vps.length]!--;
      party.act();
    } else {
      this.labels.push('timer');
      machine.time = Math.max(machine.time, this.#deadline());
    }
    return null;
  }

  /** One step of a VP as a slice of its own, then the VMM's reaction and what the VP sent to others. */
  #step(vp: Vp): Outcome {
    const { machine } = this.world;
    vp.timeBase = machine.time;
    vp.timeRetired = vp.retired;
    vp.sliceEnd = vp.retired + 1;
    const active = machine.activeVp;
    machine.activeVp = vp.index;
    this.#busy.add(vp.index);
    const outcome = machine.runVp(vp);
    machine.activeVp = active;
    if (outcome === Outcome.Exit) this.world.onExit(vp);
    this.#busy.delete(vp.index);
    if (!this.#flushes) {
      this.#flushes = true;
      machine.flushOutbox();
      this.#flushes = false;
    }
    return outcome;
  }

  key(): number {
    const { machine, arch, notes } = this.world;
    return stateKey(machine, arch, Int32Array.of(...notes, ...this.left, this.intrusionsLeft));
  }

  save(): Saved {
    return { snapshot: this.world.machine.snapshot(), notes: this.world.notes.slice(), left: this.left.slice(), intrusionsLeft: this.intrusionsLeft };
  }

  /** Goes back to a saved state. @param fresh - in a new machine. */
  restore(saved: Saved, fresh: boolean): void {
    if (fresh) this.world = this.scenario.build();
    const { world } = this;
    world.machine.hooks.preemption = null;
    world.machine.restore(saved.snapshot);
    world.notes.set(saved.notes);
    this.left.set(saved.left);
    this.intrusionsLeft = saved.intrusionsLeft;
    this.#attach();
  }

  /** Lets every VP run until all wait, nobody else acting. @throws {Broken} when they do not come to rest or rest with work. */
  settle(): void {
    const { machine } = this.world;
    this.#settling = true;
    this.labels.push('settle');
    try {
      for (let steps = 0; ; steps++) {
        if (steps >= SETTLE_STEPS) throw new Broken(`I-LIVE: the machine does not come to rest in ${SETTLE_STEPS} rounds`);
        let rest = true;
        for (const vp of machine.vps) {
          try {
            if (this.#step(vp) !== Outcome.Blocked) rest = false;
          } catch (error) {
            throw new Broken(error instanceof HostError ? `${error.code}: ${error.message}` : String(error));
          }
        }
        if (!rest) continue;
        if (this.#deadline() === Number.POSITIVE_INFINITY) break;
        machine.time = Math.max(machine.time, this.#deadline());
      }
      const why = [...restInvariants(machine), ...(this.world.settled?.() ?? [])];
      if (why.length > 0) throw new Broken(why.join('; '));
    } finally {
      this.#settling = false;
    }
  }
}
