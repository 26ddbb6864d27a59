import { component, createScope, disposeScope, inject, provideValue, type Scope, type Token, token } from '@vmplanes/di';
import type { WaitCondition } from './answers.ts';
import { Arena } from './arena.ts';
import { ClaimTable } from './claims.ts';
import { contextSwitched } from './context-ports.ts';
import { Sharing, type SharingDeclaration } from './context-layout.ts';
import { Cpus } from './cpus.ts';
import { HostError } from './errors.ts';
import type { MachineEvents } from './events.ts';
import { Hooks } from './hooks.ts';
import { maskOf, MAX_PLANES, PAGE_SIZE, PlaneId, VpIndex } from './ids.ts';
import type { InvariantChecks } from './invariant-checks.ts';
import { GuestMemory } from './memory/guest-memory.ts';
import { arenaBytes, blockBytes, checkOptions, MachineOptions } from './machine-options.ts';
import { ObservedEmitter } from './observed-emitter.ts';
import { Outbox } from './outbox.ts';
import { Arch, type ContextPort, type Cpu, PendingRule, type Personality, plainPlanes, type PlaneMeaning, SchedulerPolicy, type TimerPort } from './ports.ts';
import { Random } from './random.ts';
import { RunLoop } from './run.ts';
import { type SchedulerStop, VpScheduler } from './scheduler.ts';
import { machineSnapshot, mustBeWhole, restoreMachine, type Snapshot } from './snapshot.ts';
import type { PlainRecord, PlainState, Stateful } from './state.ts';
import { copyShared } from './switch.ts';
import { nanosecondsOf, Timers } from './timers.ts';
import { type Outcome, PlaneContext, Schedule, Vp } from './vp.ts';
import { Waits } from './waits.ts';

/**
 * One virtual machine: its VPs and planes, its memory, its time, and who answers its exits. Synchronous: nothing here
 * awaits. Created by the container; see `installEngine`.
 */
@component()
export class Machine extends ObservedEmitter<MachineEvents> {
  static readonly token: Token<Machine> = token<Machine>('Machine');
  readonly arena: Arena;
  readonly memory: GuestMemory;
  readonly random: Random;
  readonly claims: ClaimTable;
  readonly personalities: Personality[] = [];
  readonly vps: Vp[] = [];
  readonly contextPorts: ContextPort[] = [];
  readonly timerPorts: TimerPort[] = [];
  /** Runs after every event under `--check` and in tests. */
  checks: InvariantChecks | null = null;
  /** The machine's own services; set by `installEngine`. */
  scope: Scope = createScope();
  /** Machine time in ticks. */
  time = 0;
  /** VP whose slice is running; -1 between slices. */
  activeVp = -1;
  /** False from the first change of a restore to its last: when it fails in between, this machine holds parts of two. */
  isWhole = true;
  meaning: PlaneMeaning = plainPlanes;
  sharing: Sharing;
  readonly #cpus = new Cpus();
  readonly #outbox = new Outbox();
  readonly #components: Stateful[] = [];
  readonly #waits = new Waits(this);
  readonly #timers: Timers;
  readonly #loop: RunLoop;
  readonly scheduler: VpScheduler;

  constructor(
    @inject(MachineOptions) readonly options: MachineOptions,
    @inject(Arch) readonly arch: Arch,
    @inject(SchedulerPolicy) readonly policy: SchedulerPolicy,
    @inject(PendingRule) readonly rule: PendingRule,
    @inject(Hooks) readonly hooks: Hooks,
  ) {
    super();
    checkOptions(options);
    this.arena = new Arena(allocate(arenaBytes(options, arch.layout.size)));
    const firstByte = blockBytes(options, arch.layout.size);
    this.memory = new GuestMemory(this.arena, { firstByte, frames: options.memoryBytes / PAGE_SIZE, maxPlanes: options.maxPlanes });
    this.memory.observe({
      permissionsChanged: (plane, first, count) => this.#tracePermissions(plane, first, count),
      translationsRevoked: () => {},
      frameRevoked: () => {},
    });
    this.random = new Random(options.seed);
    this.claims = new ClaimTable(arch.exitKinds);
    this.sharing = new Sharing(arch.layout, this.meaning.sharing);
    this.#timers = new Timers(this.timerPorts, options.timers);
    this.#loop = new RunLoop(this);
    this.scheduler = new VpScheduler(this);
    arch.attach(this);
  }

  #tracePermissions(plane: number, first: number, count: number): void {
    const { trace } = this.hooks;
    if (trace === null) return;
    this.memory.permissions[plane]!.forEachRange(first, count, (from, pages, rights) => trace.permission(plane, from, pages, rights));
  }

  // -- composition ---------------------------------------------------------------------------------------------------

  /** Gives planes their meaning. @throws {HostError} BadState once a VP exists. */
  setMeaning(meaning: PlaneMeaning, override: SharingDeclaration | null = null): void {
    if (this.vps.length > 0) throw new HostError('BadState', 'the meaning of planes is fixed once a VP exists');
    this.sharing = new Sharing(this.arch.layout, override ?? meaning.sharing);
    this.meaning = meaning;
  }

  /** @param mayReplace - names of personalities it extends. @throws {HostError} DoubleClaim, ExistsAlready. */
  addPersonality(personality: Personality, mayReplace: readonly string[] = []): void {
    if (this.personalities.some((p) => p.name === personality.name)) throw new HostError('ExistsAlready', `personality ${personality.name} is installed already`);
    this.#checkName(personality);
    this.claims.add(personality, mayReplace);
    this.personalities.push(personality);
    this.addComponent(personality);
  }

  /** @throws {HostError} UnknownPersonality. */
  personality(name: string): Personality {
    const found = this.personalities.find((p) => p.name === name);
    if (!found) throw new HostError('UnknownPersonality', `no personality '${name}' in this machine`);
    return found;
  }

  /** Makes the state of a component part of every snapshot. @throws {HostError} ExistsAlready on a second of its name. */
  addComponent(component_: Stateful): void {
    this.#checkName(component_);
    this.#components.push(component_);
  }
  #checkName({ stateName }: Stateful): void {
    if (this.#components.some((c) => c.stateName === stateName)) throw new HostError('ExistsAlready', `component ${stateName} is registered already`);
  }
  get components(): readonly Stateful[] {
    return this.#components;
  }

  // -- VPs and planes ------------------------------------------------------------------------------------------------

  /** Creates the next VP with its plane 0, which always exists. @throws {HostError} BadState at the limit. */
  createVp(): Vp {
    if (this.vps.length >= this.options.maxVps) throw new HostError('BadState', `this machine has its ${this.options.maxVps} VPs already`);
    const vp = new Vp(VpIndex(this.vps.length));
    vp.timeBase = this.time;
    this.vps.push(vp);
    this.createPlane(vp, PlaneId(0));
    vp.setSchedule(vp.plane(0), Schedule.Runnable);
    return vp;
  }

  /**
   * Enables a plane on one VP; other VPs need not have it. A new plane other than 0 is stopped. Test and insertion are one step.
   * @throws {HostError} ExistsAlready on a second call, also while the first one is under way; NoSuchPlane when the machine is not configured for this id.
   */
  createPlane(vp: Vp, plane: PlaneId): PlaneContext {
    if (plane >= this.options.maxPlanes) throw new HostError('NoSuchPlane', `plane ${plane}: this machine is configured for ${this.options.maxPlanes} planes`);
    const mask = maskOf(plane);
    if (((vp.existing | vp.building) & mask) !== 0) throw new HostError('ExistsAlready', `VP ${vp.index} has plane ${plane} already`);
    vp.building |= mask;
    try {
      return this.#buildPlane(vp, plane);
    } finally {
      vp.building &= ~mask;
    }
  }

  #buildPlane(vp: Vp, plane: PlaneId): PlaneContext {
    const base = (vp.index * this.options.maxPlanes + plane) * this.arch.layout.size;
    const context = new PlaneContext(vp, plane, base);
    context.events = this.arch.createContext(context);
    context.scope = createScope(this.scope);
    provideValue(context.scope, PlaneContext.token, context);
    // Visible to lookups only when it is whole: a delivery in between finds no plane rather than half of one.
    this.hooks.preemption?.at('create:built', vp);
    vp.planes[plane] = context;
    vp.existing |= context.mask;
    if (plane !== vp.current) copyShared(this.arena, this.sharing, vp.context.base, base);
    for (const p of this.personalities) p.contextCreated?.(context);
    this.rule.changed(context);
    this.timersChanged(context);
    if (this.observed) this.emit('plane-created', { vp: vp.index, plane });
    return context;
  }

  /**
   * Takes a plane from a VP, with all it holds. It may be created again.
   * @throws {HostError} NoSuchPlane; BadState for plane 0 and for the current plane.
   */
  removePlane(vp: Vp, plane: PlaneId): void {
    const context = vp.plane(plane);
    if (plane === 0 || plane === vp.current) throw new HostError('BadState', `VP ${vp.index} plane ${plane} cannot be taken away`);
    vp.setSchedule(context, Schedule.Stopped);
    vp.planes[plane] = null;
    for (const mask of ['existing', 'pending', 'asked', 'reqExit', 'recheck'] as const) vp[mask] &= ~context.mask;
    if (vp.named === plane) vp.named = 0;
    this.arch.destroyContext?.(context);
    disposeScope(context.scope);
    this.timersChanged(vp.context);
    if (this.observed) this.emit('plane-removed', { vp: vp.index, plane });
  }

  /**
   * Puts a VP back into the state in which it was created: plane 0 alone, reset, with nothing on its way to it. A handler may do so to the VP it answers for
   * if its answer is an exit: nothing of the run goes on then.
   * @param kind - one of the architecture's reset names.
   * @throws {HostError} BadState when it cannot be reset; nothing changed then.
   */
  restartVp(vp: Vp, kind: string): void {
    const first = vp.plane(0);
    this.#mustReset(first, kind);
    vp.running = -1;
    vp.current = vp.named = 0;
    for (let p = 1; p < MAX_PLANES; p++) if (vp.planes[p]) this.removePlane(vp, PlaneId(p));
    vp.suspended = false;
    this.#outbox.discard(vp.index);
    this.resetPlane(first, kind);
    vp.setSchedule(first, Schedule.Runnable);
  }

  /** @throws {HostError} NoSuchVp. */
  vp(index: number): Vp {
    const found = this.vps[index];
    if (!found) throw new HostError('NoSuchVp', `no VP ${index}`);
    return found;
  }

  /** Sets what drives a VP. After a restore into a machine that had none, it takes over the saved state. */
  setCpu(vp: Vp, cpu: Cpu): void {
    this.#cpus.set(vp, cpu);
  }
  /** State of the processor of a VP, for the snapshot; null without one. */
  saveCpu(vp: Vp): PlainState {
    return this.#cpus.save(vp);
  }
  /** Restores the processor of a VP now, or when it is set. */
  restoreCpu(vp: Vp, state: PlainState): void {
    this.#cpus.restore(vp, state);
  }
  /** @throws {HostError} BadState when no processor drives this VP. */
  cpuOf(vp: Vp): Cpu {
    return this.#cpus.of(vp);
  }

  /** Byte offset of the block that holds the VP's value of a register as plane `context` sees it: a shared one lies with the current plane. */
  blockOf(context: PlaneContext, register: string): number {
    return this.sharing.isShared(register) ? context.vp.context.base : context.base;
  }

  // -- running -------------------------------------------------------------------------------------------------------

  /** One run of one VP up to the end of its slice; `vp.sliceEnd` bounds it. @throws {HostError} BadState after a restore that failed half-way. */
  runVp(vp: Vp): Outcome {
    mustBeWhole(this);
    // Called by the VMM itself rather than by the scheduler: what changed since the last run is the VMM's doing.
    if (this.activeVp < 0) this.checks?.outside();
    return this.#loop.run(vp);
  }

  /** Runs all VPs. @param slices - slices after which to return to the caller. */
  run(slices?: number): SchedulerStop {
    this.checks?.outside();
    return this.scheduler.run(slices);
  }

  /** The one function that switches planes: moves the shared registers and names the new current plane. */
  switchPlane(vp: Vp, to: PlaneContext, reason: string): void {
    const from = vp.context;
    copyShared(this.arena, this.sharing, from.base, to.base);
    vp.current = to.plane;
    this.checks?.afterSwitch(from, to);
    if (this.options.timers === 'running') this.#timers.refresh(vp);
    vp.statistics.switches++;
    this.hooks.trace?.switched(vp, from.plane, to.plane, reason);
    contextSwitched(this.contextPorts, from, to, reason);
    if (this.observed) this.emit('plane-switch', { vp: vp.index, from: from.plane, to: to.plane, reason, time: this.timeOf(vp) });
  }

  /** A VP leaves to the VMM with `vp.exit`. */
  exited(vp: Vp): void {
    const { exit } = vp;
    if (exit === null) return;
    this.hooks.trace?.vmExit(vp, exit);
    if (this.observed) this.emit('vm-exit', { vp: vp.index, plane: vp.context.plane, kind: exit.kind });
  }

  // -- time ----------------------------------------------------------------------------------------------------------

  /** Machine time as a VP sees it, in ticks: the start of its slice and what it retired since. */
  timeOf(vp: Vp): number {
    return vp.timeBase + (vp.retired - vp.timeRetired) * this.options.ticksPerInstruction;
  }
  /** Nanoseconds of virtual time at a tick count: one scale, offset and boot base for every plane of every VP. */
  nanoseconds(ticks: number): number {
    return nanosecondsOf(ticks, this.options.ticksPerSecond);
  }
  /** Stores the events of the timers of a VP that are due, of all planes unless the options say otherwise. */
  expireTimers(vp: Vp): void {
    this.#timers.expire(vp, this.timeOf(vp));
  }
  /** A timer of this plane was set or cleared. */
  timersChanged(context: PlaneContext): void {
    this.#timers.refresh(context.vp);
  }

  // -- events --------------------------------------------------------------------------------------------------------

  /**
   * An event source stored an event. Called after it was stored, never before.
   * @param isNew - false when the same event was pending already: it is no new edge.
   */
  accepted(context: PlaneContext, maskable: boolean, isNew = true): void {
    if (isNew) context.edges++;
    this.rule.accepted(context, maskable);
    this.hooks.trace?.accepted(context, maskable);
    if (this.observed) this.emit('event-accepted', { vp: context.vp.index, plane: context.plane, pending: context.vp.pending });
  }

  /** Priority, masks or stored events of a plane changed without a new event. */
  eventsChanged(context: PlaneContext): void {
    this.rule.changed(context);
  }

  /**
   * Sends an event to a plane of a VP. From within another VP's slice it takes effect when that slice ends.
   * @returns acceptances made now; 0 when it was queued or dropped, or the plane does not exist there.
   */
  send(vp: number, plane: number, code: number, argument: number): number {
    if (this.activeVp >= 0 && this.activeVp !== vp) {
      this.#outbox.push(vp, plane, code, argument);
      return 0;
    }
    return this.#deliver(vp, plane, code, argument);
  }

  readonly #deliver = (vp: number, plane: number, code: number, argument: number): number => this.vps[vp]?.planes[plane]?.events.deliver(code, argument) ?? 0;

  /** Delivers what the slice that just ended sent to other VPs. */
  flushOutbox(): void {
    if (!this.#outbox.isEmpty) this.#outbox.flush(this.#deliver);
  }

  /**
   * Gives a plane the VMM's reply to its exit; the next run of that plane finishes the instruction with it, whatever
   * other planes run in between.
   * @throws {HostError} BadState when the plane waits for no reply.
   */
  reply(context: PlaneContext, reply: PlainRecord): void {
    if (context.completion === null) throw new HostError('BadState', `VP ${context.vp.index} plane ${context.plane} waits for no reply`);
    context.completion.reply = reply;
    this.hooks.trace?.input(context.vp, 'reply', { plane: context.plane, reply });
  }

  /** Why a plane cannot be put back into a created state; null when it can. */
  refusesReset(context: PlaneContext, kind: string): string | null {
    for (const p of this.personalities) {
      const why = p.refusesReset?.(context, kind) ?? null;
      if (why !== null) return why;
    }
    return null;
  }
  #mustReset(context: PlaneContext, kind: string): void {
    const why = this.refusesReset(context, kind);
    if (why !== null) throw new HostError('BadState', `VP ${context.vp.index} plane ${context.plane} cannot be reset (${kind}): ${why}`);
  }

  /** Puts a plane back into its created state; `kind` is one of the architecture's reset names. @throws {HostError} BadState while it runs, or when it cannot be reset. */
  resetPlane(context: PlaneContext, kind: string): void {
    this.#mustReset(context, kind);
    if (context.vp.running === context.plane) throw new HostError('BadState', `VP ${context.vp.index} plane ${context.plane} is running`);
    this.checks?.authorise(context);
    this.arch.reset(context, kind);
    context.completion = null;
    context.wait = null;
    this.wasReset(context, kind);
    this.rule.changed(context);
    this.timersChanged(context);
    this.checks?.afterReset(context, kind);
  }

  /** Tells the personalities that a plane went back to a created state; the architecture does so for resets of the guest itself. */
  wasReset(context: PlaneContext, kind: string): void {
    for (const p of this.personalities) p.contextReset?.(context, kind);
  }

  // -- waiting -------------------------------------------------------------------------------------------------------

  /** Ends every wait for `key`, now and the next one that is already on its way to it. */
  release(key: string): void {
    this.#waits.release(key);
  }
  /** Makes `key` something to wait for again. */
  hold(key: string): void {
    this.#waits.hold(key);
  }
  isMet(context: PlaneContext, condition: WaitCondition | null): boolean {
    return this.#waits.isMet(context, condition);
  }
  /** Machine time at which a held current plane goes on by itself; Infinity when it does not. */
  waitDeadline(vp: Vp): number {
    return this.#waits.deadline(vp);
  }

  // -- state ---------------------------------------------------------------------------------------------------------

  /** The whole machine as data. Valid at any event boundary, that is whenever no VP runs. */
  snapshot(): Snapshot {
    return machineSnapshot(this);
  }
  /**
   * Makes this machine equal to the one that was saved. VPs and planes it has not yet are created.
   * @throws {HostError} BadSnapshot: a snapshot of another machine is refused before anything changed; a part that cannot
   *   take its own state back leaves a machine that refuses to run (BadState).
   */
  restore(snapshot: Snapshot): void {
    restoreMachine(this, snapshot);
    this.checks?.adopt();
  }

  /** Parts that only the machine holds; for the snapshot. */
  saveOwn(): { readonly time: number; readonly random: Uint32Array; readonly outbox: Float64Array; readonly released: readonly string[]; readonly scheduler: PlainState } {
    return { time: this.time, random: this.random.save(), outbox: this.#outbox.save(), released: this.#waits.save(), scheduler: this.scheduler.save() };
  }
  restoreOwn(own: ReturnType<Machine['saveOwn']>): void {
    this.time = own.time;
    this.random.restore(own.random);
    this.#outbox.restore(own.outbox);
    this.#waits.restore(own.released);
    this.scheduler.restore(own.scheduler);
  }
}

/** The host has one word for a buffer that it cannot give. @throws {HostError} NoMemory. */
function allocate(bytes: number): ArrayBuffer {
  try {
    return new ArrayBuffer(bytes);
  } catch (error) {
    throw new HostError('NoMemory', `this host cannot give ${bytes} bytes in one piece: ${String(error)}`, { bytes });
  }
}
