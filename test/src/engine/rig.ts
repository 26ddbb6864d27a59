import { createScope } from '@vmplanes/di';
import {
  type Answer,
  type Claim,
  type CpuExit,
  installEngine,
  InvariantChecks,
  type Machine,
  type MachineOptions,
  type PendingRuleName,
  type Personality,
  type PlaneContext,
  PlaneId,
  type PlaneMeaning,
  type SchedulerPolicy,
  type SchedulerPolicyName,
  type SchedulerStop,
  type Vp,
} from '@vmplanes/engine';
import { type GeneratorScript, readRegister, type RegisterName, type Script, ScriptCpu, type Step, writeRegister, X86Arch, type X86Config } from '@vmplanes/x86';

/** A program for one plane: a whole script, or just the steps of a table. */
export type Program = Script | readonly Step[];

/** A machine with scripted guests, as tests describe it. */
export interface RigConfig {
  readonly policy?: SchedulerPolicyName | SchedulerPolicy;
  readonly rule?: PendingRuleName;
  readonly options?: Partial<MachineOptions>;
  readonly x86?: Partial<X86Config>;
  readonly meaning?: PlaneMeaning;
  readonly claims?: readonly Claim[];
  /** Answers every claimed exit. */
  readonly on?: (context: PlaneContext, exit: CpuExit) => Answer | null;
  readonly planeEvent?: Personality['planeEvent'];
  readonly complete?: Personality['complete'];
  /** By VP, then by plane; a VP has exactly the planes that are named, and plane 0. */
  readonly guests: readonly Readonly<Partial<Record<number, Program>>>[];
  /** Invariants after every event; default true. */
  readonly checked?: boolean;
}

/** The handler of tests: a function answers. */
export class Puppet implements Personality {
  readonly name: string;
  readonly stateName: string;
  readonly stateVersion = 1;
  readonly claims: readonly Claim[];
  readonly #on: (context: PlaneContext, exit: CpuExit) => Answer | null;
  planeEvent?: NonNullable<Personality['planeEvent']>;
  complete?: NonNullable<Personality['complete']>;

  constructor(name: string, claims: readonly Claim[], on: (context: PlaneContext, exit: CpuExit) => Answer | null) {
    this.name = name;
    this.stateName = name;
    this.claims = claims;
    this.#on = on;
  }
  handle(context: PlaneContext, exit: CpuExit): Answer | null {
    return this.#on(context, exit);
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

/** Claims of all calls. */
export const calls: readonly Claim[] = [{ exit: 'call', from: 1, to: 3 }];

let named = 0;
const isScript = (p: Program): p is Script => 'id' in p;
export const scriptOf = (program: Program): Script => (isScript(program) ? program : { id: `table ${named++}`, steps: program });

/** A generator script out of a function. */
export const generator = (id: string, main: GeneratorScript['main'], handler?: GeneratorScript['handler']): GeneratorScript => (handler ? { id, main, handler } : { id, main });

export interface Rig {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly vps: readonly Vp[];
  readonly cpus: readonly ScriptCpu[];
  /** `from>to reason` of every switch, per VP. */
  readonly switches: readonly string[][];
  get(vp: number, plane: number, register: RegisterName): bigint;
  set(vp: number, plane: number, register: RegisterName, value: bigint): void;
  /** Sends a fixed interrupt to one plane of one VP from outside. @returns as the message routing does. */
  msi(vp: number, plane: number, vector: number): number;
  nmi(vp: number, plane: number): void;
  run(slices?: number): SchedulerStop;
  /** What made the last run return, in one word. */
  kind(slices?: number): string;
}

/** Builds a machine, its VPs and planes and their scripts. APICs are on, in x2APIC mode, and RFLAGS.IF is clear. */
export const rigOf = (config: RigConfig): Rig => {
  const arch = new X86Arch(config.x86);
  const machine = installEngine(createScope(), {
    arch,
    policy: config.policy ?? 'highest-runnable',
    rule: config.rule ?? 'deliverable',
    options: { maxVps: Math.max(1, config.guests.length), maxPlanes: 4, memoryBytes: 1 << 18, quantum: 100, ...config.options },
  });
  if (config.meaning) machine.setMeaning(config.meaning);
  if (config.claims) {
    const puppet = new Puppet('puppet', config.claims, config.on ?? ((context) => context.vp.replies.resume()));
    if (config.planeEvent) puppet.planeEvent = config.planeEvent;
    if (config.complete) puppet.complete = config.complete;
    machine.addPersonality(puppet);
  }
  const cpus: ScriptCpu[] = [];
  const switches: string[][] = [];
  for (const planes of config.guests) {
    const vp = machine.createVp();
    for (const p of Object.keys(planes)) if (p !== '0') machine.createPlane(vp, PlaneId(Number(p)));
    const bindings = Object.fromEntries(Object.entries(planes).map(([p, program]) => [p, { script: scriptOf(program!) }]));
    const cpu = new ScriptCpu(machine, arch, bindings);
    machine.setCpu(vp, cpu);
    cpus.push(cpu);
    switches.push([]);
    for (const context of vp.planes) {
      if (!context) continue;
      const apic = arch.apicOf(context);
      apic.writeApicBase(0xfee00c00 | (vp.index === 0 ? 0x100 : 0), 0, true);
      apic.writeSvr(0x1ff);
      apic.latches.setWaitingForSipi(false);
      context.activity = 0;
    }
  }
  machine.on('plane-switch', (e) => switches[e.vp]!.push(`${e.from}>${e.to} ${e.reason}`));
  if (config.checked ?? true) machine.checks = new InvariantChecks(machine);
  const contextOf = (vp: number, plane: number): PlaneContext => machine.vp(vp).plane(plane);
  const rig: Rig = {
    machine,
    arch,
    vps: machine.vps,
    cpus,
    switches,
    get: (vp, plane, register) => readRegister(machine.arena, machine.blockOf(contextOf(vp, plane), register), register),
    set: (vp, plane, register, value) => {
      machine.checks?.authorise(contextOf(vp, plane));
      writeRegister(machine.arena, machine.blockOf(contextOf(vp, plane), register), register, value);
    },
    msi: (vp, plane, vector) => arch.fabric.signalMsi(plane, 0xfee00000 | (vp << 12), 0, vector, false),
    nmi: (vp, plane) => {
      arch.apicOf(contextOf(vp, plane)).accept(4, 0, true, false);
    },
    run: (slices) => machine.run(slices),
    kind: (slices) => machine.run(slices).kind,
  };
  return rig;
};

/** Meaning of planes where higher planes rule and most registers are shared, as with VTLs. */
export const risingPlanes: PlaneMeaning = {
  sharing: { shared: ['gpr', 'cr2', 'breakpoints', 'xcr0', 'fpu'], except: ['rsp'] },
  dominates: (a, b) => a > b,
  planeName: (plane) => `plane ${plane}`,
};

/** The payload of the last exit of a VP, as plain data. */
export const payloadOf = (vp: Vp): unknown => structuredClone(vp.exit);
