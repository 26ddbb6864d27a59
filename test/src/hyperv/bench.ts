import { createScope } from '@vmplanes/di';
import { Activity, installEngine, InvariantChecks, type Machine, type PlaneContext, type PlainRecord, type SchedulerPolicyName } from '@vmplanes/engine';
import { type HvOptions, HypervVtl, personality } from '@vmplanes/personality-hyperv-vtl';
import { ApicReg, type LocalApic, readPage, readRegister, type RegisterName, type RegisterValues, ScriptCpu, type Step, type StepResult, writeRegister, X86Arch } from '@vmplanes/x86';

/** Policies under which every test of a guest must give the same. */
export const policies = ['highest-runnable', 'userspace'] as const satisfies readonly SchedulerPolicyName[];
export type Policy = (typeof policies)[number];

/** What a bench is made of. */
export interface BenchConfig {
  readonly vps?: number;
  readonly policy?: Policy;
  /** Options of the personality, `profile` included. */
  readonly options?: Partial<HvOptions> & { readonly profile?: string };
  /** VPs that run at the start; the others wait for a start-up. Default all. */
  readonly running?: number;
  /** Interrupts are ended by their handler; default true. */
  readonly ends?: boolean;
}

/** A step given to a VTL: its result comes when the VTL has done it. */
export interface Issued {
  readonly step: Step;
  readonly vp: number;
  readonly vtl: number;
  result: StepResult | null;
}

/** Bytes of guest memory, all RAM. */
export const RAM = 0x20_0000;
/** Slices that a step may take before it counts as held up. */
const PATIENCE = 12;
/** Machine ticks of 100 ns. */
const UNIT = 100;
const IF = 0x200n;
const HIGHEST_VTL = 2;
/** @spec SDM 3A §6.15: exceptions that are no interrupts end without EOI. */
const FIRST_INTERRUPT = 32;

/** Registers of a VTL0 kernel in 64-bit mode. Attributes in the 12-bit form. */
const kernel64: RegisterValues = {
  rip: 0x10_0000, rsp: 0x11_0000, rflags: 2, cr0: 0x8001_0011, cr3: 0x4_0000, cr4: 0x620, efer: 0xd01, cpl: 0,
  'cs.base': 0, 'cs.selector': 8, 'cs.attributes': 0xa9b, 'cs.limit': 0xffff_ffff,
  'ss.selector': 0x10, 'ss.attributes': 0xc93, 'ss.limit': 0xffff_ffff,
  'ds.selector': 0x10, 'ds.attributes': 0xc93, 'ds.limit': 0xffff_ffff,
  'es.selector': 0x10, 'es.attributes': 0xc93, 'es.limit': 0xffff_ffff,
  'tr.attributes': 0x08b, 'ldtr.attributes': 0x082, pat: 0x0007_0406_0007_0406n,
};
/** What differs for 32-bit protected mode. */
export const kernel32: RegisterValues = { efer: 0, cr0: 0x8001_0011, 'cs.attributes': 0xc9b };

const key = (vp: number, vtl: number): string => `${vp}/${vtl}`;

/**
 * A machine with the Hyper-V personality whose guest does, one after the other, what a test tells it: a step goes to the
 * VTL that is active on the VP, and the machine runs until that VTL has done it, was left, or is held up. Between steps a VTL works without
 * an effect. Each VTL notes the interrupts it takes.
 */
export class Bench {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly hv: HypervVtl;
  /** What the machine told its VMM. */
  readonly exits: { readonly vp: number; readonly plane: number; readonly payload: unknown }[] = [];
  /** `from>to reason` of every switch, by VP. */
  readonly switches: readonly string[][];
  /** Whether handlers end the interrupts they take. */
  ends: boolean;
  readonly #queues = new Map<string, Issued[]>();
  readonly #taken = new Map<string, number[]>();

  constructor(config: BenchConfig = {}) {
    const { vps = 1, policy = 'highest-runnable', options = {}, running = vps } = config;
    this.ends = config.ends ?? true;
    const scope = createScope();
    this.arch = new X86Arch();
    this.machine = installEngine(scope, {
      arch: this.arch,
      policy,
      rule: 'deliverable',
      // A slice is one instruction, and that takes one unit of reference time: what one VP does reaches the others at once.
      options: { maxVps: vps, maxPlanes: 3, memoryBytes: RAM + 0x8_0000, quantum: UNIT, ticksPerInstruction: UNIT },
    });
    const given: PlainRecord = { ...options };
    const { meaning } = personality;
    if (typeof meaning !== 'function') throw new Error('the meaning of planes depends on options');
    this.machine.setMeaning(meaning(given));
    const installed = personality.install(scope, given);
    if (!(installed instanceof HypervVtl)) throw new Error('not the personality');
    this.hv = installed;
    this.machine.addPersonality(this.hv);
    this.machine.memory.addSlot({ id: 0, gpa: 0, size: RAM });
    this.switches = Array.from({ length: vps }, () => []);
    for (let v = 0; v < vps; v++) this.#addVp(v < running);
    this.machine.on('plane-switch', (e) => this.switches[e.vp]!.push(`${e.from}>${e.to} ${e.reason}`));
    this.machine.checks = new InvariantChecks(this.machine);
  }

  #addVp(runs: boolean): void {
    const vp = this.machine.createVp();
    const { index } = vp;
    const bindings = Object.fromEntries(Array.from({ length: HIGHEST_VTL + 1 }, (_, vtl) => [vtl, { script: this.#program(index, vtl) }]));
    this.machine.setCpu(vp, new ScriptCpu(this.machine, this.arch, bindings));
    const { base } = vp.context;
    for (const [name, value] of Object.entries(kernel64)) writeRegister(this.machine.arena, base, name as RegisterName, BigInt(value));
    const apic = this.arch.apicOf(vp.context);
    apic.writeApicBase(0xfee0_0c00 | (index === 0 ? 0x100 : 0), 0, true);
    apic.writeSvr(0x1ff);
    if (!runs) return;
    apic.latches.setWaitingForSipi(false);
    vp.context.activity = Activity.Running;
    this.machine.eventsChanged(vp.context);
  }

  #program(vp: number, vtl: number) {
    const queue: Issued[] = [];
    const taken: number[] = [];
    this.#queues.set(key(vp, vtl), queue);
    this.#taken.set(key(vp, vtl), taken);
    const ends = (): boolean => this.ends;
    return {
      id: `VP ${vp} VTL ${vtl}`,
      *main(): Generator<Step, void, StepResult> {
        for (;;) {
          const next = queue.shift();
          if (next === undefined) yield { op: 'work' };
          else next.result = yield next.step;
        }
      },
      *handler(vector: number): Generator<Step, void, StepResult> {
        taken.push(vector);
        if (ends() && vector >= FIRST_INTERRUPT) yield { op: 'eoi' };
      },
    };
  }

  // -- running -----------------------------------------------------------------------------------------------------------

  /** One instruction of every VP. @returns false when nothing can go on. */
  tick(): boolean {
    for (let left = this.machine.vps.length; left > 0; ) {
      const { slices } = this.machine.scheduler;
      const stop = this.machine.run(left);
      left -= this.machine.scheduler.slices - slices;
      if (stop.kind === 'idle') return false;
      if (stop.kind === 'exit') this.#note(stop.vp.index);
    }
    return true;
  }
  run(ticks: number): void {
    for (let i = 0; i < ticks && this.tick(); i++);
  }

  #note(index: number): void {
    const vp = this.machine.vp(index);
    this.exits.push({ vp: index, plane: vp.context.plane, payload: structuredClone(vp.exit) });
    const { completion } = vp.context;
    if (completion !== null) completion.reply = { value: 0xffff_ffff, lo: 0xffff_ffff, hi: 0xffff_ffff };
  }

  /** VTL that is active on a VP. */
  active(vp = 0): number {
    return this.machine.vp(vp).current;
  }
  context(vp = 0, vtl = this.active(vp)): PlaneContext {
    return this.machine.vp(vp).plane(vtl);
  }

  /** Gives a step to the active VTL and runs until it is done, the VTL was left, or it is held up. */
  issue(step: Step, vp = 0): Issued {
    return this.attempt(step, vp, PATIENCE);
  }
  /** The same with another patience. */
  attempt(step: Step, vp: number, patience: number): Issued {
    const issued: Issued = { step, vp, vtl: this.active(vp), result: null };
    this.#queues.get(key(vp, issued.vtl))!.push(issued);
    this.finish(issued, patience);
    return issued;
  }
  /** Goes on with a step that was not done. @param patience - ticks after which it is held up. */
  finish(issued: Issued, patience = PATIENCE): StepResult | null {
    // A step that waits for its turn behind work without effect is not held up by that.
    for (let i = 0; i < patience && issued.result === null && this.active(issued.vp) === issued.vtl; i++) if (!this.tick()) break;
    return issued.result;
  }
  /** A step that must be done. */
  step(step: Step, vp = 0): StepResult {
    const { result } = this.issue(step, vp);
    if (result === null) throw new Error(`VP ${vp}: ${step.op} is not done; VTL ${this.active(vp)} is active`);
    return result;
  }
  /** A step that must end without a fault. */
  plain(step: Step, vp = 0): StepResult {
    const result = this.step(step, vp);
    if (result.fault !== null) throw new Error(`VP ${vp} VTL ${this.active(vp)}: ${JSON.stringify(step, (_k, v: unknown) => (typeof v === 'bigint' ? `0x${v.toString(16)}` : v))} faults with ${result.fault.vector}`);
    return result;
  }

  wrmsr(index: number, value: bigint | number, vp = 0): void {
    this.plain({ op: 'wrmsr', index, value }, vp);
  }
  rdmsr(index: number, vp = 0): bigint {
    return this.plain({ op: 'rdmsr', index }, vp).edxEax;
  }

  // -- looking and setting from outside ------------------------------------------------------------------------------------

  get(name: RegisterName, vp = 0, vtl = this.active(vp)): bigint {
    const context = this.context(vp, vtl);
    return readRegister(this.machine.arena, this.machine.blockOf(context, name), name);
  }
  /** As moves of the guest would, which the machine cannot see. */
  set(values: RegisterValues, vp = 0, vtl = this.active(vp)): void {
    const context = this.context(vp, vtl);
    for (const [name, value] of Object.entries(values)) writeRegister(this.machine.arena, this.machine.blockOf(context, name), name as RegisterName, BigInt(value));
    this.machine.eventsChanged(context);
  }
  /** Sets or clears RFLAGS.IF of a VTL. */
  interruptFlag(on: boolean, vp = 0, vtl = this.active(vp)): void {
    const flags = this.get('rflags', vp, vtl);
    this.set({ rflags: on ? flags | IF : flags & ~IF }, vp, vtl);
  }
  apic(vp = 0, vtl = this.active(vp)): LocalApic {
    return this.arch.apicOf(this.context(vp, vtl));
  }
  /** Whether a vector waits in the APIC of a VTL, or is in service there. */
  requested(vector: number, vp = 0, vtl = this.active(vp)): boolean {
    return this.#bit(ApicReg.irr, vector, vp, vtl);
  }
  inService(vector: number, vp = 0, vtl = this.active(vp)): boolean {
    return this.#bit(ApicReg.isr, vector, vp, vtl);
  }
  #bit(register: number, vector: number, vp: number, vtl: number): boolean {
    return ((readPage(this.apic(vp, vtl), register + 0x10 * (vector >> 5), 4) >>> (vector & 31)) & 1) === 1;
  }
  /** Vectors that a VTL took, in order. */
  taken(vp = 0, vtl = this.active(vp)): number[] {
    return this.#taken.get(key(vp, vtl))!;
  }
  /** A fixed interrupt from outside, as a device of that VTL would send it. */
  interrupt(vector: number, vp = 0, vtl = 0): void {
    this.arch.fabric.signalMsi(vtl, 0xfee0_0000 | (vp << 12), 0, vector, false);
  }
  nmi(vp = 0, vtl = 0): void {
    this.apic(vp, vtl).accept(4, 0, true, false);
  }

  /** Bytes that a VTL sees, overlays included. */
  peek(vtl: number, gpa: number, size: number): DataView {
    const bytes = new Uint8Array(size);
    const { memory } = this.machine;
    if (memory.access.read(memory.subjects[vtl]!.host, gpa, bytes, 0, size) !== 0) throw new Error(`no memory at 0x${gpa.toString(16)}`);
    return new DataView(bytes.buffer);
  }
  poke(vtl: number, gpa: number, bytes: Uint8Array): void {
    const { memory } = this.machine;
    if (memory.access.write(memory.subjects[vtl]!.host, gpa, bytes, 0, bytes.length) !== 0) throw new Error(`no memory at 0x${gpa.toString(16)}`);
  }
  poke64(vtl: number, gpa: number, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
    this.poke(vtl, gpa, bytes);
  }
}
