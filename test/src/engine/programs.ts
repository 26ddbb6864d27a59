import { createScope } from '@vmplanes/di';
import { type Answer, type Claim, type Completion, type CpuExit, HostError, installEngine, InvariantChecks, lowestPlane, type Machine, type PendingRuleName, type Personality, PlaneId, type PlainState, type PlaneContext, type PlaneMask, type SchedulerPolicyName, type Vp } from '@vmplanes/engine';
import { CallKind, readRegister, ScriptCpu, type Step, type TableScript, X86Arch } from '@vmplanes/x86';
import fc from 'fast-check';

export const VPS = 3;
export const PLANES = 4;
const PAGES = 8;

/** A machine and its programs, as data. */
export interface World {
  readonly policy: SchedulerPolicyName;
  readonly rule: PendingRuleName;
  readonly eventCheck: 'first' | 'entry';
  readonly seed: number;
  readonly quantum: number;
  readonly ticksPerInstruction: number;
  readonly isShared: boolean;
  /** Planes that each VP has from the start. */
  readonly planes: readonly number[];
  /** By VP and plane. */
  readonly programs: readonly (readonly TableScript[])[];
}

// -- the test interface ------------------------------------------------------------------------------------------------

const above = (plane: number): PlaneMask => (0xf << (plane + 1)) & 0xf;

/**
 * The guest interface of random programs: VMCALL switches, VMMCALL changes permissions, VMGEXIT asks for every other
 * kind of answer. RAX and RBX are the operands.
 */
export class Mixer implements Personality {
  readonly name = 'mixer';
  readonly stateName = 'mixer';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'call', from: 1, to: 3 }, { exit: 'memoryFault', from: 0, to: 0 }];
  readonly #machine: Machine;
  readonly #arch: X86Arch;
  #calls = 0;
  #faults = 0;

  constructor(machine: Machine, arch: X86Arch) {
    this.#machine = machine;
    this.#arch = arch;
  }

  handle(context: PlaneContext, exit: CpuExit): Answer {
    const { vp } = context;
    this.#calls++;
    if (exit.kind === 'memoryFault') {
      // Every third fault is mended, the others are the guest's own affair.
      if (++this.#faults % 3 !== 0) return vp.replies.fault(13, 0);
      this.#machine.memory.permissions[context.plane]!.set(0, PAGES, 31);
      return vp.replies.retry();
    }
    const a = Number(readRegister(this.#machine.arena, context.base, 'rax') & 0xffffn);
    const b = Number(readRegister(this.#machine.arena, context.base, 'rbx') & 0xffffn);
    if (exit.key === CallKind.Vmcall) return this.#switch(vp, (b & 3) === context.plane ? (b + 1) & 3 : b & 3, (b & 12) === 4 ? 'runnable' : 'stopped', 'call');
    if (exit.key === CallKind.Vmmcall) {
      this.#machine.memory.permissions[b & 3]!.set((b >> 4) & 7, 1, (b >> 8) & 31);
      return vp.replies.resume();
    }
    return this.#other(context, a % 9, b);
  }

  #switch(vp: Vp, plane: number, leave: 'runnable' | 'stopped', reason: string): Answer {
    if (!vp.planes[plane]) return vp.replies.fault(6);
    vp.asked = above(plane);
    return vp.replies.switchTo(plane, reason, leave);
  }

  #other(context: PlaneContext, a: number, b: number): Answer {
    const { replies } = context.vp;
    const m = this.#machine;
    switch (a) {
      case 0:
        return replies.fault(b & 1 ? 13 : 6, b & 1 ? 0 : null);
      case 1:
        return replies.wait({ kind: 'time', at: m.timeOf(context.vp) + (b & 127) }, b & 128 ? 'held' : 'advanced');
      case 2:
        if ((b & 6) !== 0) return replies.resume();
        m.hold(`key ${b & 1}`);
        return replies.wait({ kind: 'key', key: `key ${b & 1}` }, 'advanced');
      case 3:
        m.release(`key ${b & 1}`);
        return replies.resume();
      case 4:
        return this.#calls % 3 === 0 ? replies.resume() : replies.retry();
      case 5:
        return replies.exit({ kind: 'told' });
      case 6:
        return replies.exit({ kind: 'asks' }, { owner: 'mixer', kind: 'asked', data: { b }, reply: null });
      case 7:
        if (!context.vp.planes[b & 3]) start(this.#arch, m.createPlane(context.vp, PlaneId(b & 3)));
        return replies.resume();
      default:
        m.send((b >> 2) % VPS, b & 3, 0x4000 | 0x30 | (b & 0x8f), 0);
        return replies.resume();
    }
  }

  planeEvent(vp: Vp, _pending: PlaneMask, target: PlaneMask): Answer {
    return this.#switch(vp, lowestPlane(target), 'runnable', 'interrupt');
  }
  complete(context: PlaneContext, completion: Completion): void {
    this.#calls += Number(completion.reply?.['lo'] ?? 0);
    this.#arch.retire(context);
  }
  save(): PlainState {
    return { calls: this.#calls, faults: this.#faults };
  }
  restore(state: PlainState): void {
    const s = state as { readonly calls: number; readonly faults: number };
    this.#calls = s.calls;
    this.#faults = s.faults;
  }
}

const start = (arch: X86Arch, context: PlaneContext): void => {
  const apic = arch.apicOf(context);
  apic.writeApicBase(0xfee00c00 | (context.vp.index === 0 ? 0x100 : 0), 0, true);
  apic.writeSvr(0x1ff);
  apic.latches.setWaitingForSipi(false);
  context.activity = 0;
};

// -- running -------------------------------------------------------------------------------------------------------------

/** A built world, with what an outside driver keeps. */
export interface Play {
  readonly machine: Machine;
  readonly log: string[];
  /** State of the driver: steps taken, times the machine was idle. */
  readonly driver: { steps: number; idles: number };
}

export const build = (world: World, isChecked: boolean): Play => {
  const arch = new X86Arch();
  const machine = installEngine(createScope(), {
    arch,
    policy: world.policy,
    rule: world.rule,
    options: { maxVps: VPS, maxPlanes: PLANES, memoryBytes: PAGES * 4096, quantum: world.quantum, ticksPerInstruction: world.ticksPerInstruction, seed: world.seed, eventCheck: world.eventCheck },
  });
  if (world.isShared) machine.setMeaning({ sharing: { shared: ['gpr', 'cr2', 'breakpoints', 'xcr0', 'fpu'], except: ['rsp'] }, dominates: (a, b) => a > b, planeName: (p) => `plane ${p}` });
  machine.addPersonality(new Mixer(machine, arch));
  machine.memory.addSlot({ id: 0, gpa: 0, size: PAGES * 4096 });
  for (let i = 0; i < VPS; i++) {
    const vp = machine.createVp();
    start(arch, vp.plane(0));
    for (let p = 1; p < PLANES; p++) if (world.planes[i]! & (1 << p)) start(arch, machine.createPlane(vp, PlaneId(p)));
    if (world.policy === 'userspace') vp.asked = above(0);
    machine.setCpu(vp, new ScriptCpu(machine, arch, Object.fromEntries(world.programs[i]!.map((script, p) => [p, { script }]))));
  }
  if (isChecked) machine.checks = new InvariantChecks(machine);
  const log: string[] = [];
  machine.hooks.trace = {
    entered: () => {},
    exit: (c, exit) => void (exit.kind !== 'budget' && log.push(`${c.vp.index}.${c.plane} ${exit.kind} ${exit.key} @${machine.timeOf(c.vp)}`)),
    answer: (c, answer) => void log.push(`${c.vp.index}.${c.plane} ${answer.kind}`),
    switched: (vp, from, to, reason) => void log.push(`${vp.index} ${from}>${to} ${reason}`),
    accepted: (c, maskable) => void log.push(`${c.vp.index}.${c.plane} accepted ${String(maskable)}`),
    vmExit: (vp, payload) => void log.push(`${vp.index} exit ${payload.kind}`),
    input: () => {},
    permission: (plane, gpn, _count, rights) => void log.push(`plane ${plane} page ${gpn} rights ${rights}`),
    note: () => {},
  };
  return { machine, log, driver: { steps: 0, idles: 0 } };
};

/** One step of the outside: a slice, an answer to an exit, or input to a machine that waits. */
export const step = ({ machine, driver }: Play): void => {
  driver.steps++;
  const stop = machine.run(1);
  if (stop.kind === 'exit') {
    for (const context of stop.vp.planes) if (context?.completion && context.completion.reply === null) machine.reply(context, { value: driver.steps, lo: driver.steps & 7, hi: 1, error: driver.steps % 4 === 0 });
  } else if (stop.kind === 'idle') {
    const n = driver.idles++;
    const plane = (n >> 1) % PLANES;
    machine.send(n % VPS, plane, n % 3 === 2 ? 0x4400 : 0x4000 | (0x30 + (n % 0xc0)), 0);
    machine.release(`key ${n & 1}`);
  }
};

/** What went wrong in a play, in one line, or null. */
export const failureOf = (error: unknown): string => (error instanceof HostError ? `${error.code}: ${error.message}` : String(error));

// -- random worlds ---------------------------------------------------------------------------------------------------------

const vector = fc.integer({ min: 0x30, max: 0xef });
const gpa = fc.tuple(fc.integer({ min: 0, max: PAGES - 1 }), fc.integer({ min: 0, max: 500 })).map(([page, at]) => page * 4096 + at * 8);
const size = fc.constantFrom(1, 2, 4, 8);
const call = (via: 'vmcall' | 'vmmcall' | 'vmgexit') => fc.record({ op: fc.constant('call' as const), via: fc.constant(via), regs: fc.record({ rax: fc.nat(31), rbx: fc.nat(0xffff) }) });
const one = <T extends Step>(s: T): fc.Arbitrary<Step> => fc.constant(s);

const icr = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(vector, fc.nat(VPS - 1)).map(([v, to]) => `0x${((BigInt(to) << 32n) | BigInt(0x4000 | v)).toString(16)}`) },
  { weight: 2, arbitrary: vector.map((v) => `0x${(0xc4000 | v).toString(16)}`) },
  { weight: 1, arbitrary: vector.map((v) => `0x${(0x44000 | v).toString(16)}`) },
  { weight: 1, arbitrary: fc.nat(VPS - 1).map((to) => `0x${((BigInt(to) << 32n) | 0x4400n).toString(16)}`) },
  // INIT, then a start-up message.
  { weight: 1, arbitrary: fc.tuple(fc.nat(VPS - 1), fc.constantFrom(0x4500n, 0x4608n)).map(([to, code]) => `0x${((BigInt(to) << 32n) | code).toString(16)}`) },
);

const plainStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: one({ op: 'sti' }) },
  { weight: 1, arbitrary: one({ op: 'cli' }) },
  { weight: 1, arbitrary: one({ op: 'hlt' }) },
  { weight: 2, arbitrary: one({ op: 'eoi' }) },
  { weight: 1, arbitrary: one({ op: 'busLock' }) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 9 }).map((cost) => ({ op: 'work' as const, cost })) },
  { weight: 9, arbitrary: call('vmcall') },
  { weight: 2, arbitrary: call('vmmcall') },
  { weight: 3, arbitrary: call('vmgexit') },
  { weight: 4, arbitrary: icr.map((value) => ({ op: 'ipi' as const, icr: value })) },
  { weight: 2, arbitrary: fc.tuple(vector, fc.constantFrom(0, 0x20000)).map(([v, mode]) => ({ op: 'apicWrite' as const, register: 0x32, value: v | mode })) },
  { weight: 3, arbitrary: fc.integer({ min: 0, max: 90 }).map((value) => ({ op: 'apicWrite' as const, register: 0x38, value })) },
  { weight: 1, arbitrary: fc.constantFrom(0, 0x40, 0x70, 0xf0).map((value) => ({ op: 'apicWrite' as const, register: 8, value })) },
  { weight: 1, arbitrary: fc.constantFrom(0xff, 0x1ff, 0x1ff).map((value) => ({ op: 'apicWrite' as const, register: 0xf, value })) },
  { weight: 1, arbitrary: fc.nat(15).map((value) => ({ op: 'mov' as const, to: 'cr8' as const, value })) },
  { weight: 2, arbitrary: fc.constantFrom(0x10, 0xc0000103, 0x277, 0x999, 0x802).map((index) => ({ op: 'rdmsr' as const, index })) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom(0x10, 0xc0000103, 0x277, 0x999), fc.nat(0xffff)).map(([index, value]) => ({ op: 'wrmsr' as const, index, value })) },
  { weight: 1, arbitrary: fc.constantFrom(1, 0xd).map((leaf) => ({ op: 'cpuid' as const, leaf })) },
  { weight: 3, arbitrary: fc.tuple(gpa, size).map(([at, n]) => ({ op: 'read' as const, gpa: at, size: n as 8 })) },
  { weight: 3, arbitrary: fc.tuple(gpa, size, fc.nat(0xffff)).map(([at, n, value]) => ({ op: 'write' as const, gpa: at, size: n as 8, value })) },
  { weight: 1, arbitrary: gpa.map((at) => ({ op: 'execute' as const, gpa: at })) },
  { weight: 1, arbitrary: fc.constantFrom(1, 2, 4).map((n) => ({ op: 'in' as const, port: 0x60, size: n as 4 })) },
  { weight: 1, arbitrary: one({ op: 'out', port: 0x80, size: 1, value: 7 }) },
  { weight: 1, arbitrary: one({ op: 'read', gpa: 0x4000_0000, size: 4 }) },
);

const handler = fc.array(fc.oneof(plainStep, one({ op: 'work' })), { maxLength: 2 }).map((steps): Step[] => [...steps, { op: 'eoi' }]);

/** True most of the time. */
const usually = fc.nat(5).map((n) => n !== 0);

let serial = 0;
const program: fc.Arbitrary<TableScript> = fc.record({ body: fc.array(plainStep, { minLength: 2, maxLength: 12 }), repeats: usually, opens: usually, default: handler, hasHandlers: usually }).map((p) => ({
  id: `random ${serial++}`,
  steps: [...(p.opens ? [{ op: 'sti' } as const] : []), ...p.body, ...(p.repeats ? [{ op: 'jump', to: 0 } as const] : [])],
  ...(p.hasHandlers ? { handlers: { default: p.default, 2: [{ op: 'work' }] } } : {}),
}));

export const worlds: fc.Arbitrary<World> = fc.record({
  policy: fc.constantFrom<SchedulerPolicyName[]>('userspace', 'lowest-runnable', 'highest-runnable'),
  rule: fc.constantFrom<PendingRuleName[]>('irr', 'deliverable'),
  eventCheck: fc.constantFrom('first', 'entry'),
  seed: fc.constantFrom(0, 0, 1, 12345),
  quantum: fc.constantFrom(7, 20, 50),
  ticksPerInstruction: fc.constantFrom(1, 1, 3, 0.5),
  isShared: fc.boolean(),
  planes: fc.array(fc.constantFrom(15, 15, 15, 3, 9, 7, 1), { minLength: VPS, maxLength: VPS }),
  programs: fc.array(fc.array(program, { minLength: PLANES, maxLength: PLANES }), { minLength: VPS, maxLength: VPS }),
});
