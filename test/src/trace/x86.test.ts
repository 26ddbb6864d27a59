import { createScope } from '@vmplanes/di';
import { Activity, type Answer, type Claim, installEngine, InvariantChecks, type Machine, type Personality, type PlaneContext, PlaneId, type SchedulerPolicyName } from '@vmplanes/engine';
import { compareSemantic, parseTrace, recordTrace, Replay, type ReplayReport, traceStats } from '@vmplanes/trace';
import { type Script, ScriptCpu, type Step, X86Arch } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';

class Switcher implements Personality {
  readonly name = 'switcher';
  readonly stateName = 'switcher';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'call', from: 1, to: 1 }];
  readonly machine: Machine;
  constructor(machine: Machine) {
    this.machine = machine;
  }
  handle(context: PlaneContext): Answer {
    this.machine.hooks.trace?.note(context, 'call', { from: context.plane });
    return context.vp.replies.switchTo(1 - context.plane, 'call');
  }
  save(): null {
    return null;
  }
  restore(): void {
    // Nothing kept.
  }
}

const X2APIC_BASE = 0xfee00d00;
const on: readonly Step[] = [
  { op: 'wrmsr', index: 0x1b, value: X2APIC_BASE },
  { op: 'apicWrite', register: 0x0f, value: 0x1ff },
  { op: 'sti' },
];
const xapicOn: readonly Step[] = [{ op: 'apicWrite', register: 0x0f, value: 0x1ff }, { op: 'sti' }];
const handlers = { default: [{ op: 'work', cost: 3 }, { op: 'eoi' }] } as const;

/** VP 0 sends to VP 1 and to itself, arms a timer, switches planes; VP 1 sleeps and answers. */
const programs = (start: readonly Step[], cost: number): readonly (readonly Script[])[] => {
  const vp0: Script = {
    id: 'sender',
    steps: [
      ...start,
      { op: 'write', gpa: 0x1000, value: 0x1234 },
      { op: 'read', gpa: 0x1000 },
      { op: 'work', cost },
      // Long enough for VP 1 to have its APIC on.
      { op: 'work', cost: 60 },
      { op: 'ipi', icr: 0x1_0000_4040n },
      { op: 'ipi', icr: 0x4_4041n },
      { op: 'cpuid', leaf: 1 },
      { op: 'rdmsr', index: 0x174 },
      { op: 'wrmsr', index: 0x174, value: 8 },
      { op: 'rdmsr', index: 0xdead },
      { op: 'apicWrite', register: 0x32, value: 0x42 },
      { op: 'apicWrite', register: 0x38, value: 100 },
      { op: 'call' },
      { op: 'mov', to: 'cr8', value: 3 },
      { op: 'hlt' },
      { op: 'work', cost: 20 },
    ],
    handlers,
  };
  const upper: Script = { id: 'upper', steps: [{ op: 'work', cost }, { op: 'call' }, { op: 'call' }], handlers };
  const vp1: Script = { id: 'sleeper', steps: [...start, { op: 'work', cost: 5 }, { op: 'hlt' }, { op: 'ipi', icr: 0x4043n }, { op: 'hlt' }], handlers };
  return [[vp0, upper], [vp1]];
};

const compose = (options: { seed: number; policy: SchedulerPolicyName }): { m: Machine; arch: X86Arch } => {
  const arch = new X86Arch();
  const m = installEngine(createScope(), { arch, policy: options.policy, rule: 'deliverable', options: { maxVps: 2, maxPlanes: 2, memoryBytes: 1 << 20, quantum: 40, seed: options.seed } });
  m.setMeaning({ sharing: { shared: ['gpr'], except: ['rip', 'rsp'] }, dominates: (a, b) => a > b, planeName: (p) => `${p}` });
  m.addPersonality(new Switcher(m));
  m.memory.addSlot({ id: 0, gpa: 0, size: 1 << 16 });
  m.createPlane(m.createVp(), PlaneId(1));
  const second = m.createVp();
  second.plane(0).activity = Activity.Running;
  m.checks = new InvariantChecks(m);
  return { m, arch };
};

const record = (start: readonly Step[], options: { seed: number; policy: SchedulerPolicyName }, cost = 7): readonly string[] => {
  const { m, arch } = compose(options);
  programs(start, cost).forEach((scripts, vp) => m.setCpu(m.vp(vp), new ScriptCpu(m, arch, Object.fromEntries(scripts.map((script, plane) => [plane, { script }])))));
  const lines: string[] = [];
  const recorder = recordTrace(m, {}, (line) => lines.push(line));
  for (let i = 0; i < 100 && m.run(50).kind !== 'idle'; i++);
  recorder.finish('idle');
  return lines;
};

const replay = (lines: readonly string[], options: { seed: number; policy: SchedulerPolicyName }): ReplayReport => new Replay(compose(options).m, parseTrace(lines)).run();

describe('a scripted x86 run', () => {
  it.each([
    ['x2APIC', on, 0],
    ['x2APIC, cut slices', on, 3],
    ['xAPIC', xapicOn, 0],
    ['xAPIC, cut slices', xapicOn, 17],
  ] as const)('replays green with interrupts, timers and two planes: %s', (_, start, seed) => {
    for (const policy of ['highest-runnable', 'lowest-runnable'] as const) {
      const lines = record(start, { seed, policy });
      const report = replay(lines, { seed, policy });
      expect(report.divergences).toEqual([]);
      expect(report.ok, report.summary).toBe(true);
      const stats = traceStats(parseTrace(lines));
      expect(stats.vps[0]?.switches.length).toBeGreaterThan(1);
      expect(stats.vps.map((v) => v.planes.reduce((n, p) => n + p.events, 0)).every((n) => n > 0)).toBe(true);
    }
  });

  it('means the same with other costs', () => {
    const options = { seed: 0, policy: 'highest-runnable' } as const;
    const [a, b] = [parseTrace(record(on, options, 7)), parseTrace(record(on, options, 9))];
    expect(compareSemantic(a, b)).toMatchObject({ equal: true });
  });
});
