import { createScope } from '@vmplanes/di';
import {
  Activity,
  type Answer,
  type Claim,
  type ContextPort,
  type CpuExit,
  installEngine,
  type Machine,
  type Personality,
  type PlainState,
  type PlaneContext,
  PlaneId,
  type TimerPort,
} from '@vmplanes/engine';
import { ApicReg, type LocalApic, readRegister, writePage, writeRegister, X86, X86Arch, type X86Config, type X86Exit } from '@vmplanes/x86';
import { composeChapters } from './compose.ts';
import { defaultOptions, type HvOptions } from './options.ts';
import type { Chapter, HvChapters, HvContext } from './ports.ts';

/** Ticks of the machine per 100 ns unit in {@link Rig}. */
export const TICKS = 100;
const IF = 1n << 9n;
/** Chapters that a rig drives; the others are made and left alone. */
const driven = ['overlays', 'assist', 'time', 'synic', 'timers', 'msrs', 'hypercalls'];

/** Tests of single chapters: a machine whose VPs have VTL0 and VTL1, synthetic MSRs and no calls. */
export class Rig implements Personality, ContextPort, TimerPort, HvContext {
  readonly name = 'rig';
  readonly stateName = 'rig';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'msr', from: 0x4000_0000, to: 0x4000_01ff }];
  readonly arch: X86Arch;
  readonly machine: Machine;
  readonly options: HvOptions;
  readonly chapters: HvChapters;
  readonly stateful: readonly Chapter[];
  resets = 0;

  constructor(
    readonly vps = 1,
    options: Partial<HvOptions> = {},
    apicIds: readonly number[] = [],
    x86: Partial<X86Config> = {},
  ) {
    this.arch = new X86Arch({ apicIds, ...x86 });
    this.options = { ...defaultOptions, ...options };
    this.machine = installEngine(createScope(), {
      arch: this.arch,
      policy: 'userspace',
      rule: 'deliverable',
      options: { maxVps: 4, maxPlanes: 2, memoryBytes: 0x10_0000, quantum: 1000 },
    });
    const { chapters, stateful } = composeChapters(this);
    this.chapters = chapters;
    this.stateful = stateful.filter((c) => driven.includes(c.stateName));
    this.machine.contextPorts.push(this);
    this.machine.timerPorts.push(this);
    this.machine.addPersonality(this);
    this.machine.memory.addSlot({ id: 0, gpa: 0, size: 0x4_0000 });
    for (let v = 0; v < vps; v++) {
      const vp = this.machine.createVp();
      this.machine.createPlane(vp, PlaneId(1));
      for (const c of vp.planes) {
        if (!c) continue;
        c.activity = Activity.Running;
        this.apic(c).latches.setWaitingForSipi(false);
        writePage(this.apic(c), ApicReg.svr, 4, 0x1ff);
      }
    }
  }

  handle(context: PlaneContext, exit: CpuExit): Answer {
    const e = exit as X86Exit;
    return e.kind === 'msr' ? this.chapters.msrs.access(context, e) : context.vp.replies.fault(6);
  }
  resetPartition(context: PlaneContext): Answer {
    this.resets++;
    return context.vp.replies.resume();
  }
  memoryRefused(context: PlaneContext): Answer {
    return context.vp.replies.fault(13, 0);
  }
  turn(context: PlaneContext): void {
    this.chapters.clocks.turn(context);
  }
  entering(context: PlaneContext): null {
    this.chapters.assist.entering(context);
    return null;
  }
  left(context: PlaneContext): void {
    this.chapters.assist.left(context);
  }
  deadline(context: PlaneContext): number {
    return this.chapters.timers.deadline(context);
  }
  expire(context: PlaneContext, now: number): void {
    this.chapters.timers.expire(context, now);
  }

  save(): PlainState {
    return Object.fromEntries(this.stateful.map((c) => [c.stateName, c.save()]));
  }
  restore(state: PlainState): void {
    for (const c of this.stateful) c.restore((state as Readonly<Record<string, PlainState>>)[c.stateName]!);
  }

  /** A machine of the same shape with this one's state. */
  copy(): Rig {
    const other = new Rig(this.vps, this.options);
    other.machine.memory.restore(structuredClone(this.machine.memory.save()));
    this.machine.vps.forEach((vp, v) => {
      other.machine.vps[v]!.timeBase = vp.timeBase;
      for (const c of vp.planes) if (c) other.context(v, c.plane).events.restore(structuredClone(c.events.save()));
    });
    other.restore(structuredClone(this.save()));
    for (const vp of other.machine.vps) other.machine.timersChanged(vp.context);
    return other;
  }

  context(vp = 0, vtl = 0): PlaneContext {
    return this.machine.vp(vp).plane(vtl);
  }
  apic(context: PlaneContext): LocalApic {
    return this.arch.apicOf(context);
  }

  /** One instruction of a VTL: WRMSR. @returns false when it is #GP. */
  wrmsr(context: PlaneContext, index: number, value: bigint | number): boolean {
    const v = BigInt(value);
    this.left(context);
    return this.chapters.msrs.access(context, { kind: 'msr', key: index, write: true, lo: Number(v & 0xffff_ffffn), hi: Number(v >> 32n) }).kind !== 'fault';
  }
  /** RDMSR. @returns null when it is #GP. */
  rdmsr(context: PlaneContext, index: number): bigint | null {
    this.left(context);
    const { arena } = this.machine;
    if (this.chapters.msrs.access(context, { kind: 'msr', key: index, write: false, lo: 0, hi: 0 }).kind === 'fault') return null;
    return (readRegister(arena, context.base, 'rdx') << 32n) | readRegister(arena, context.base, 'rax');
  }

  /** Enters a VTL with interrupts enabled. @returns the vector it takes, or -1. */
  take(context: PlaneContext): number {
    const { arena } = this.machine;
    writeRegister(arena, context.base, 'rflags', readRegister(arena, context.base, 'rflags') | IF);
    this.entering(context);
    context.events.enter();
    if (readRegister(arena, context.base, 'interrupt.injected') === 0n) return -1;
    writeRegister(arena, context.base, 'interrupt.injected', 0n);
    return Number(readRegister(arena, context.base, 'interrupt.vector'));
  }

  /** Lets reference time go on for a VP and serves its timers. */
  advance(units: number, vp = 0): void {
    const it = this.machine.vp(vp);
    it.timeBase += units * TICKS;
    this.machine.expireTimers(it);
  }

  /** A view of the page that a VTL sees at a guest page. */
  page(vtl: number, gpn: number): DataView {
    const bytes = new Uint8Array(4096);
    this.machine.memory.access.read(this.machine.memory.subjects[vtl]!.host, gpn * 4096, bytes, 0, 4096);
    return new DataView(bytes.buffer);
  }
  /** Stores a word as the guest would. @returns whether it may. */
  store(vtl: number, gpa: number, value: number): boolean {
    return this.machine.memory.access.writeU32(this.machine.memory.subjects[vtl]!.cpu, gpa, value) === 0;
  }
  /** RIP of a VTL, for tests of who was retired. */
  rip(context: PlaneContext): number {
    return this.machine.arena.u32[(context.base + X86.rip) >>> 2]!;
  }
}
