import { type Answer, Activity, type Claim, type ContextPort, type CpuExit, type Machine, type Personality, type PlainRecord, type PlainState, type PlaneContext } from '@vmplanes/engine';
import { CallKind, type CpuidExit, type MsrExit, X86, type X86Arch, type X86Exit } from '@vmplanes/x86';
import { featureMask, features, Leaf, leaves, Msr, msrs, type MsrRow, signature, Status } from './abi/index.ts';
import { callHandlers, type CallServices } from './calls.ts';
import { PvClock } from './clock.ts';
import { PvIpi } from './ipi.ts';
import type { KvmPvOptions } from './options.ts';
import { cellOf, Live, PvPlane } from './plane-state.ts';
import { PvEoi } from './pv-eoi.ts';
import { StealClock } from './steal-time.ts';

const GENERAL_PROTECTION = 13;
const EFER_LMA = 1 << 10;
const CS_LONG = 1 << 9;

const served = new Set<string>(features.filter((f) => f.served).map((f) => f.name));
const msrByIndex: ReadonlyMap<number, MsrRow> = new Map(msrs.filter((m) => served.has(m.feature)).map((m) => [m.index, m]));

/**
 * The paravirtual interface of KVM for one machine. Everything acts inside the plane that uses it: each plane of each virtual
 * processor has its own clock page, steal-time record and EOI word, and interrupts go to the sender's plane.
 */
export class KvmPv implements Personality, ContextPort {
  readonly name = 'kvm-pv';
  readonly stateName = 'kvm-pv';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[];
  readonly #machine: Machine;
  readonly #arch: X86Arch;
  readonly #options: KvmPvOptions;
  readonly #clock: PvClock;
  readonly #steal: StealClock;
  readonly #eoi: PvEoi;
  readonly #services: CallServices;
  /** By VP index * 16 + plane. */
  readonly #planes: (PvPlane | undefined)[] = [];
  /** Arguments of the call at hand; borrowed by its handler. */
  readonly #args = { words: new Uint32Array(8), wide: false };
  readonly #planeOf = (context: PlaneContext): PvPlane => (this.#planes[context.vp.index * 16 + context.plane] ??= new PvPlane());

  constructor(machine: Machine, arch: X86Arch, options: KvmPvOptions) {
    this.#machine = machine;
    this.#arch = arch;
    this.#options = options;
    this.#clock = new PvClock(machine, options.bootSeconds);
    this.#steal = new StealClock(machine, this.#clock);
    this.#eoi = new PvEoi(machine, arch);
    this.#services = { clock: this.#clock, ipi: new PvIpi(machine, arch), planeOf: this.#planeOf };
    const lastLeaf = leaves[leaves.length - 1]!.offset;
    this.claims = [
      { exit: 'cpuid', from: options.leafBase, to: options.leafBase + lastLeaf },
      { exit: 'msr', from: Msr.WallClockOld, to: Msr.SystemTimeOld },
      { exit: 'msr', from: Msr.WallClock, to: Msr.MigrationControl },
      { exit: 'call', from: CallKind.Vmcall, to: CallKind.Vmmcall },
      { exit: 'halt', from: 0, to: 0 },
    ];
    machine.contextPorts.push(this);
  }

  contextCreated(context: PlaneContext): void {
    // A plane may be taken away and made again: nothing of the first one is left.
    this.#planes[context.vp.index * 16 + context.plane] = new PvPlane();
  }

  /** A processor that starts again has named no memory yet. @spec Linux arch/x86/kvm/x86.c kvm_vcpu_reset */
  contextReset(context: PlaneContext): void {
    this.#planeOf(context).reset();
  }

  /** Nanoseconds since boot as the clock page of a plane gives them now; for tests and inspection. */
  nanoseconds(context: PlaneContext): bigint {
    return this.#clock.nanoseconds(context);
  }

  // -- exits ---------------------------------------------------------------------------------------------------------

  handle(context: PlaneContext, exit: CpuExit): Answer {
    const e = exit as X86Exit;
    switch (e.kind) {
      case 'cpuid':
        return this.#cpuid(context, e);
      case 'msr':
        return this.#msr(context, e);
      case 'call':
        return this.#call(context);
      case 'halt':
        return this.#halt(context);
      default:
        return context.vp.replies.fault(GENERAL_PROTECTION, 0);
    }
  }

  #put(context: PlaneContext, offset: number, lo: number, hi = 0): void {
    const { u32 } = this.#machine.arena;
    const word = (context.base + offset) >>> 2;
    u32[word] = lo;
    u32[word + 1] = hi;
  }

  #cpuid(context: PlaneContext, exit: CpuidExit): Answer {
    const { leafBase } = this.#options;
    let [eax, ebx, ecx, edx] = [0, 0, 0, 0];
    switch (exit.key - leafBase) {
      case Leaf.Signature:
        eax = leafBase + Leaf.Timing;
        [ebx, ecx, edx] = signature;
        break;
      case Leaf.Features:
        eax = featureMask;
        break;
      case Leaf.Timing: {
        const { ticksPerSecond } = this.#machine.options;
        eax = Math.floor(this.#clock.frequency(context) / 1000);
        ebx = Math.floor(ticksPerSecond / this.#arch.config.apic.busTicks / 1000);
        break;
      }
    }
    this.#put(context, X86.rax, eax);
    this.#put(context, X86.rbx, ebx);
    this.#put(context, X86.rcx, ecx);
    this.#put(context, X86.rdx, edx);
    return context.vp.replies.resume();
  }

  #msr(context: PlaneContext, exit: MsrExit): Answer {
    const { replies } = context.vp;
    const row = msrByIndex.get(exit.key);
    if (!row) return replies.fault(GENERAL_PROTECTION, 0);
    const p = this.#planeOf(context);
    const at = cellOf.get(row.index)!;
    if (!exit.write) {
      this.#put(context, X86.rax, p.cells[at]!);
      this.#put(context, X86.rdx, p.cells[at + 1]!);
      return replies.resume();
    }
    if ((exit.lo & row.reserved[0]) !== 0 || (exit.hi & row.reserved[1]) !== 0) return replies.fault(GENERAL_PROTECTION, 0);
    p.cells[at] = exit.lo;
    p.cells[at + 1] = exit.hi;
    this.#written(context, p, row.index);
    return replies.resume();
  }

  /** What the write of an MSR sets in motion. */
  #written(context: PlaneContext, p: PvPlane, index: Msr): void {
    switch (index) {
      case Msr.WallClock:
      case Msr.WallClockOld:
        this.#clock.writeWallClock(context, p);
        break;
      case Msr.SystemTime:
      case Msr.SystemTimeOld:
        p.setLive(Live.Clock, (p.low(Msr.SystemTime) & 1) !== 0);
        p.clockStale = true;
        break;
      case Msr.StealTime:
        p.setLive(Live.Steal, (p.low(Msr.StealTime) & 1) !== 0);
        p.preemptedSince = -1;
        p.stealStale = true;
        break;
      case Msr.PvEoi:
        p.setLive(Live.Eoi, (p.low(Msr.PvEoi) & 1) !== 0);
        p.eoiOffered = false;
        break;
    }
  }

  /** @spec Linux Documentation/virt/kvm/x86/hypercalls.rst (register use); arch/x86/kvm/x86.c for the order of checks */
  #call(context: PlaneContext): Answer {
    const { u32 } = this.#machine.arena;
    const word = context.base >>> 2;
    const wide = (u32[word + X86.efer / 4]! & EFER_LMA) !== 0 && (u32[word + X86['cs.attributes'] / 4]! & CS_LONG) !== 0;
    const { rax } = X86;
    const nr = u32[word + rax / 4]! + (wide ? u32[word + rax / 4 + 1]! * 2 ** 32 : 0);
    const status = this.#privilege(context) === 0 ? this.#serve(context, nr, wide) : Status.Eperm;
    this.#machine.hooks.trace?.note(context, 'kvm-call', { nr, status });
    this.#put(context, rax, status, wide && status < 0 ? 0xffff_ffff : 0);
    return context.vp.replies.resume();
  }

  #privilege(context: PlaneContext): number {
    return (this.#machine.arena.u32[(context.base + X86['ss.attributes']) >>> 2]! >>> 5) & 3;
  }

  #serve(context: PlaneContext, nr: number, wide: boolean): number {
    const handler = callHandlers.get(nr);
    if (!handler) return Status.Enosys;
    const { u32 } = this.#machine.arena;
    const { words } = this.#args;
    this.#args.wide = wide;
    for (let i = 0; i < 4; i++) {
      const word = (context.base + argumentOffsets[i]!) >>> 2;
      words[2 * i] = u32[word]!;
      words[2 * i + 1] = wide ? u32[word + 1]! : 0;
    }
    return handler(this.#services, context, this.#args);
  }

  /** A halt, unless a kick came before it. */
  #halt(context: PlaneContext): Answer {
    const p = this.#planeOf(context);
    if (p.kicked) p.kicked = false;
    else {
      context.activity = Activity.Halted;
      context.vp.statistics.halts++;
      this.#machine.eventsChanged(context);
    }
    return context.vp.replies.resume();
  }

  // -- around each run of a plane --------------------------------------------------------------------------------------

  entering(context: PlaneContext): null {
    const { vp } = context;
    if (this.#countsSteal(vp.index, vp.existing)) this.#steal.entering(context, this.#planes, vp.index * 16);
    const p = this.#planes[vp.index * 16 + context.plane];
    if (p === undefined || p.live === 0) return null;
    if ((p.live & Live.Clock) !== 0 && this.#clock.isOutdated(context, p)) this.#clock.update(context, p);
    if ((p.live & Live.Eoi) !== 0) this.#eoi.entering(context, p);
    return null;
  }

  #countsSteal(vp: number, existing: number): boolean {
    for (let plane = 0; existing >>> plane !== 0; plane++) {
      const p = this.#planes[vp * 16 + plane];
      if (p !== undefined && (p.live & Live.Steal) !== 0) return true;
    }
    return false;
  }

  left(context: PlaneContext): void {
    const p = this.#planes[context.vp.index * 16 + context.plane];
    if (p !== undefined && p.eoiOffered) this.#eoi.left(context, p);
  }

  // -- state -----------------------------------------------------------------------------------------------------------

  save(): PlainState {
    return this.#planes.flatMap((p, at) => (p === undefined ? [] : [{ vp: at >>> 4, plane: at & 15, ...p.save() }]));
  }

  restore(state: PlainState): void {
    this.#planes.length = 0;
    for (const s of state as readonly PlainRecord[]) {
      const p = new PvPlane();
      p.restore(s);
      this.#planes[(s['vp'] as number) * 16 + (s['plane'] as number)] = p;
    }
  }
}

const argumentOffsets: readonly number[] = [X86.rbx, X86.rcx, X86.rdx, X86.rsi];
