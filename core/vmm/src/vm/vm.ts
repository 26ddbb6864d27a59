import { type ExitPayload, HostError, type Machine, type MachineEvents, type ObservedEmitter, type PlainRecord, type Vp } from '@vmplanes/engine';
import type { ScriptCpu } from '@vmplanes/x86';
import type { ResolvedGuest } from '../config/guest-types.ts';
import type { VmSnapshot } from '../snapshot-file.ts';
import type { Composed } from './compose.ts';
import { type ExitAction, type ExitHandler, openBusReply, withoutHandler } from './exits.ts';
import { inspectMachine } from './inspect.ts';
import { type HostServices, isServiceExit } from '../services/host-service.ts';
import type { VmTrace } from './vm-trace.ts';

/** Host time after which a run lets other work of the process have its turn, in milliseconds. */
const TURN_MS = 10;

/** Why a run ended. */
export type RunReason =
  /** The plane that each VP is in is at the end of its script. */
  | 'finished'
  /** Every VP waits for something that nothing inside the machine will bring. */
  | 'idle'
  /** A plane shut down. */
  | 'shutdown'
  /** An exit that nobody serves. */
  | 'exit'
  /** The caller asked for it. */
  | 'stopped'
  /** As many slices as asked for have run. */
  | 'slices';

/** How a run ended. */
export interface RunResult {
  readonly reason: RunReason;
  /** With `shutdown` and `exit`: where, and what the VMM was told. */
  readonly at: { readonly vp: number; readonly plane: number; readonly payload: ExitPayload } | null;
  /** What scripts expected and did not find. */
  readonly failures: readonly string[];
  /** Virtual time, nanoseconds. */
  readonly time: number;
  /** Slices of this run. */
  readonly slices: number;
}

/** How far a run is. */
export interface Progress {
  readonly slices: number;
  /** Virtual time, nanoseconds. */
  readonly time: number;
  readonly switches: number;
}

/** What a run may be given. */
export interface RunOptions {
  /** Ends the run at the next event boundary. */
  readonly signal?: AbortSignal;
  /** Slices after which to come back. */
  readonly maxSlices?: number;
  readonly onExit?: ExitHandler;
  /** Called about every 10 ms of host time. Must change nothing in the guest. */
  readonly onProgress?: (progress: Progress) => void;
}

/** Lets timers, signals and input of the process have their turn. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** One virtual machine with its host side. Made by `createVm`. */
export class Vm {
  readonly guest: ResolvedGuest;
  /** The engine's machine, for what this class does not offer. */
  readonly machine: Machine;
  /** Hash of everything that decides how the guest runs. */
  readonly configHash: string;
  readonly #composed: Composed;
  readonly #cpus: readonly ScriptCpu[];
  readonly #trace: VmTrace | null;
  readonly #services: HostServices;
  #isRunning = false;
  #isClosed = false;
  /** The engine threw: the machine is not at an event boundary and runs no more. */
  #hasFailed = false;
  #stop = false;
  /** Slices that one call of the engine gets: as many as fit into a turn. */
  #batch = 1;

  constructor(guest: ResolvedGuest, composed: Composed, cpus: readonly ScriptCpu[], configHash: string, trace: VmTrace | null, services: HostServices) {
    this.guest = guest;
    this.machine = composed.machine;
    this.configHash = configHash;
    this.#composed = composed;
    this.#cpus = cpus;
    this.#trace = trace;
    this.#services = services;
  }

  /** Observations: plane switches, exits, accepted events, new planes. Listeners never decide. */
  get events(): ObservedEmitter<MachineEvents> {
    return this.machine;
  }
  /** Names, versions and options of the personalities, in order of installation. */
  get personalities(): Composed['personalities'] {
    return this.#composed.personalities;
  }

  /**
   * Runs until the guest ends, waits for ever, exits to nobody, or the caller stops it. Gives the process a turn about every 10 ms;
   * where that falls changes nothing in the guest. May be called again to go on.
   * @throws {HostError} BadState while it runs or when it is closed; Invariant, BadScript as the machine finds them. What was recorded until
   *   then is in the trace.
   */
  async run(options: RunOptions = {}): Promise<RunResult> {
    if (this.#isClosed || this.#isRunning) throw new HostError('BadState', this.#isClosed ? 'this VM is closed' : 'this VM runs already');
    if (this.#hasFailed) throw new HostError('BadState', 'this VM failed in the middle of a run (make another one)');
    this.#isRunning = true;
    this.#stop = false;
    try {
      return await this.#run(options);
    } finally {
      this.#isRunning = false;
      this.#trace?.flush();
    }
  }

  /** Ends the run in progress at the next event boundary. */
  stop(): void {
    this.#stop = true;
  }

  async #run({ signal, maxSlices = Number.POSITIVE_INFINITY, onExit, onProgress }: RunOptions): Promise<RunResult> {
    const first = this.machine.scheduler.slices;
    const done = (): number => this.machine.scheduler.slices - first;
    for (;;) {
      if (signal?.aborted || this.#stop) return this.#result('stopped', done());
      if (done() >= maxSlices) return this.#result('slices', done());
      const { stop, isLate } = this.#turn(maxSlices - done());
      switch (stop.kind) {
        case 'exit': {
          const { exit } = stop.vp;
          if (exit !== null && !(await this.#serve(stop.vp.index, exit, onExit))) return this.#result(exit.kind === 'shutdown' ? 'shutdown' : 'exit', done(), stop.vp.index);
          break;
        }
        case 'interrupted':
          stop.vp.immediateExit = false;
          break;
        case 'idle':
          return this.#result(this.#isFinished() ? 'finished' : 'idle', done());
        case 'slices':
          break;
      }
      if (!isLate) continue;
      onProgress?.({ slices: done(), time: this.machine.nanoseconds(this.machine.time), switches: this.#switches() });
      await turn();
    }
  }

  /** Calls the engine for up to a turn's time and learns how many slices fit into one. */
  #turn(most: number): { readonly stop: ReturnType<Machine['run']>; readonly isLate: boolean } {
    const started = performance.now();
    for (;;) {
      const batch = Math.min(this.#batch, most);
      const stop = this.#step(batch);
      const ms = performance.now() - started;
      if (ms > TURN_MS) this.#batch = Math.max(1, this.#batch >> 1);
      else if (ms < TURN_MS / 4) this.#batch = Math.min(1 << 20, this.#batch * 2);
      most -= batch;
      if (stop.kind !== 'slices' || ms >= TURN_MS / 2 || most <= 0) return { stop, isLate: ms >= TURN_MS / 2 || stop.kind === 'slices' };
    }
  }

  #step(slices: number): ReturnType<Machine['run']> {
    this.#hasFailed = true;
    const stop = this.machine.run(slices);
    this.#hasFailed = false;
    return stop;
  }

  /** @returns false when the run ends here. */
  async #serve(index: number, payload: ExitPayload, onExit: ExitHandler | undefined): Promise<boolean> {
    const vp = this.machine.vp(index);
    if (isServiceExit(payload)) {
      const answer = await this.#services.ask(payload);
      if (answer !== null) {
        this.#reply(vp, answer);
        return true;
      }
    }
    const action: ExitAction = (await onExit?.({ vp: index, plane: vp.current, payload })) ?? withoutHandler(payload);
    if (action === 'stop') return false;
    this.#reply(vp, action === 'continue' ? openBusReply(payload) : action);
    return true;
  }

  #isFinished(): boolean {
    return this.#cpus.every((cpu, v) => {
      const { current } = this.machine.vp(v);
      return cpu.finished(current) || cpu.failure(current) !== null;
    });
  }

  #switches(): number {
    return this.machine.vps.reduce((sum, vp) => sum + vp.statistics.switches, 0);
  }

  #result(reason: RunReason, slices: number, vp = -1): RunResult {
    const { machine } = this;
    const payload = vp < 0 ? null : machine.vp(vp).exit;
    return {
      reason,
      at: payload === null ? null : { vp, plane: machine.vp(vp).current, payload },
      failures: this.#cpus.flatMap((cpu, v) => machine.vp(v).planes.flatMap((c) => (c === null ? [] : (cpu.failure(c.plane) ?? [])))),
      time: machine.nanoseconds(machine.time),
      slices,
    };
  }

  #reply(vp: Vp, data: PlainRecord): void {
    if (vp.context.completion !== null) this.machine.reply(vp.context, data);
  }

  /** Hands a reply to the plane of a VP that waits for one, outside of an exit handler. */
  reply(vp: number, data: PlainRecord): void {
    this.#reply(this.machine.vp(vp), data);
  }

  /**
   * Looks something up, such as `vps/0/planes/1/registers/rax`. Changes nothing.
   * @throws {HostError} BadConfig names the part of the path that does not exist.
   */
  inspect(path = ''): unknown {
    return inspectMachine(this.machine, path);
  }

  /** The whole machine as data, between runs, with the state of the services it asks. @throws {HostError} BadSnapshot when a service does not give its state. */
  snapshot(): VmSnapshot {
    const services = this.#services.save();
    const { inputs } = this.#composed;
    return { configHash: this.configHash, machine: this.machine.snapshot(), ...(Object.keys(inputs).length === 0 ? {} : { inputs }), ...(services === null ? {} : { services }) };
  }

  /** Makes this machine equal to a saved one of an equal configuration. @throws {HostError} BadSnapshot before anything changed. */
  restore(snapshot: VmSnapshot): void {
    if (snapshot.configHash !== this.configHash) throw new HostError('BadSnapshot', 'the snapshot is of a guest with another configuration (start the same guest configuration)', { fix: 'start the same guest configuration, with the inputs of the snapshot' });
    if (this.#trace !== null && this.machine.scheduler.slices > 0) throw new HostError('BadState', 'a recorded run cannot go on from a snapshot (record another trace)');
    this.machine.restore(snapshot.machine);
    this.#services.restore(snapshot.services ?? null);
  }

  /** Ends the trace and gives everything back. The trace of a VM that failed stays without an end: it agrees up to there. May be called twice. */
  close(why = 'closed'): void {
    if (this.#isClosed) return;
    if (this.#isRunning) throw new HostError('BadState', 'this VM runs: stop it first');
    this.#isClosed = true;
    this.#services.close();
    if (this.#hasFailed) this.#trace?.abandon();
    else this.#trace?.finish(why);
    this.#composed.dispose();
  }
}
