import { createScope } from '@vmplanes/di';
import {
  Activity,
  type Answer,
  type Claim,
  type CpuExit,
  HOST,
  type Hooks,
  installEngine,
  type Machine,
  type MachineOptions,
  type PendingRule,
  type PendingRuleName,
  type Personality,
  PlaneId,
  type PlaneContext,
  Schedule,
  type SchedulerPolicyName,
} from '@vmplanes/engine';
import { CallKind, DeliveryMode, encodeMessage, ScriptCpu, type Step, type TableScript, X86, X86Arch } from '@vmplanes/x86';
import type { Party, World } from './explorer.ts';

/** Where an interrupt of another host thread can fall into a run. */
export const runPoints = ['enter:published', 'enter:cleared', 'leave:unpublished', 'leave:cleared'] as const;
/** Where a run or another interrupt can fall into a delivery. */
export const deliverPoints = ['deliver:stored', 'deliver:marked', 'deliver:asked'] as const;
/** Points that only the rules with a seeded defect have. */
const seedPoints = ['decided', 'due:looked'] as const;

const SVR = 0x1ff;
const IF = 0x202;
const FLAGS = 0x1000;

/** Where the handler of a vector says that it ran. */
export const flagOf = (vp: number, plane: number, vector: number): number => FLAGS + vp * 0x400 + plane * 0x100 + vector;

/** A plane's program: its handlers say that they ran, and end their interrupt. */
export const program = (vp: number, plane: number, steps: readonly Step[], vectors: readonly number[]): TableScript => ({
  id: `vp${vp}.plane${plane}`,
  steps,
  handlers: Object.fromEntries(vectors.map((v) => [String(v), [{ op: 'write', gpa: flagOf(vp, plane, v), size: 1, value: 1 }, { op: 'eoi' }] satisfies Step[]])),
});

/** A call goes to the plane in RAX; without a policy of its own the VMM is asked. */
export class CallSwitch implements Personality {
  readonly name = 'call-switch';
  readonly stateName = 'call-switch';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'call', from: CallKind.Vmcall, to: CallKind.Vmcall }];
  constructor(readonly machine: Machine) {}
  handle(context: PlaneContext, _exit: CpuExit): Answer {
    const target = this.machine.arena.u32[(context.base + X86.rax) >>> 2]!;
    const { replies } = context.vp;
    if (this.machine.policy.name === 'userspace') return replies.exit({ kind: 'switchTo', plane: target } as { kind: string });
    return replies.switchTo(target, 'call', target > context.plane === (this.machine.policy.name === 'highest-runnable') ? 'runnable' : 'stopped');
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

/** How a world is built. */
export interface WorldConfig {
  readonly vps: number;
  readonly planes: number;
  readonly policy: SchedulerPolicyName;
  readonly rule: PendingRuleName | ((hooks: Hooks) => PendingRule);
  /** Planes the VMM asks about, on every VP; those of them above the running one while one of them runs. */
  readonly asked: number;
  /** Program of each plane of each VP. */
  script(vp: number, plane: number): TableScript;
  /** Plane that runs first on a VP where the VMM does not choose; it chooses plane 0. */
  readonly home?: number;
  readonly options?: Partial<MachineOptions>;
  /** Planes that exist at the start; default all. */
  readonly existing?: number;
  readonly personality?: (machine: Machine) => Personality;
}

/** A machine with scripted VPs that are all started, with enabled APICs and interrupts, and a VMM that runs the plane an event is for. */
export const buildWorld = (config: WorldConfig): { machine: Machine; arch: X86Arch; onExit: World['onExit'] } => {
  const arch = new X86Arch();
  const machine = installEngine(createScope(), {
    arch,
    policy: config.policy,
    rule: config.rule,
    options: { maxVps: config.vps, maxPlanes: config.planes, memoryBytes: 1 << 16, ...config.options },
  });
  machine.addPersonality(config.personality?.(machine) ?? new CallSwitch(machine));
  machine.memory.addSlot({ id: 0, gpa: 0, size: 1 << 15 });
  const home = config.home ?? 0;
  for (let v = 0; v < config.vps; v++) {
    const vp = machine.createVp();
    vp.asked = config.asked;
    for (let p = 0; p < (config.existing ?? config.planes); p++) {
      const context = p === 0 ? vp.plane(0) : machine.createPlane(vp, PlaneId(p));
      const apic = arch.apicOf(context);
      apic.latches.setWaitingForSipi(false);
      apic.writeSvr(SVR);
      context.activity = Activity.Running;
      machine.arena.u32[(context.base + X86.rflags) >>> 2] = IF;
    }
    machine.setCpu(vp, new ScriptCpu(machine, arch, Object.fromEntries(Array.from({ length: config.planes }, (_, p) => [p, { script: config.script(v, p) }]))));
    if (home !== 0 && config.policy !== 'userspace') {
      vp.setSchedule(vp.plane(0), Schedule.Stopped);
      vp.setSchedule(vp.plane(home), Schedule.Runnable);
    }
  }
  return {
    machine,
    arch,
    onExit: (vp) => {
      const exit = vp.exit as { readonly kind: string; readonly target?: number; readonly plane?: number } | null;
      if (exit?.kind === 'planeEvent') vp.named = 31 - Math.clz32(exit.target ?? 0);
      else if (exit?.kind === 'switchTo') vp.named = exit.plane ?? 0;
      // The mask is the priority: asked about in each other, two planes with events would end each other's runs for ever.
      vp.asked = (config.asked & (1 << vp.named)) === 0 ? config.asked : config.asked & ~((2 << vp.named) - 1);
    },
  };
};

/** An interrupt for a plane, from a host thread. */
export const interrupt = (machine: Machine, vp: number, plane: number, vector: number, times = 1, points: readonly string[] = [...runPoints, ...deliverPoints, ...seedPoints]): Party => ({
  name: `interrupt ${vector} for VP ${vp} plane ${plane}`,
  times,
  points,
  isEnabled: () => machine.vps[vp]?.planes[plane] !== null,
  act: () => void machine.send(vp, plane, encodeMessage(DeliveryMode.fixed, vector, true, false), 0),
});
/** An NMI for a plane, from a host thread. */
export const nmi = (machine: Machine, vp: number, plane: number): Party => ({
  name: `NMI for VP ${vp} plane ${plane}`,
  times: 1,
  points: runPoints,
  act: () => void machine.send(vp, plane, encodeMessage(DeliveryMode.nmi, 0, true, false), 0),
});

/** Goes back to plane `to` for ever: what a plane does that only serves interrupts. */
export const servant = (to: number): readonly Step[] => [{ op: 'call', regs: { rax: to } }, { op: 'jump', to: 0 }];

/** Whether the handler of a vector ran. */
export const handlerRan = (machine: Machine, vp: number, plane: number, vector: number): boolean => {
  machine.memory.access.readU8(HOST, flagOf(vp, plane, vector));
  return machine.memory.access.lo === 1;
};

/** The same interrupts, each noting that it was sent, and the sentences for those whose handlers did not run. */
export const noted = (machine: Machine, notes: Int32Array, targets: readonly (readonly [vp: number, plane: number, vector: number])[]): { readonly parties: readonly Party[]; missing(): readonly string[] } => ({
  parties: targets.map(([vp, plane, vector], i) => {
    const party = interrupt(machine, vp, plane, vector);
    return {
      ...party,
      act: () => {
        notes[i] = 1;
        party.act();
      },
    };
  }),
  missing: () => targets.filter(([vp, plane, vector], i) => notes[i] === 1 && !handlerRan(machine, vp, plane, vector)).map(([vp, plane, vector]) => `I-IRQ: VP ${vp} plane ${plane} never served ${vector}`),
});
