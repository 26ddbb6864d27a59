import { createScope } from '@vmplanes/di';
import { installEngine, InvariantChecks, type Machine, type PlainRecord, type PlainState, PlaneId, type Vp } from '@vmplanes/engine';
import { kvmBehaviours } from '@vmplanes/kvm';
import { parseTrace, recordTrace, Replay, type ReplayReport } from '@vmplanes/trace';
import { type Script, ScriptCpu, type Step, X86Arch } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';

type Compared = '2025-04' | 'vmplanes';

const compose = (profile: Compared): { readonly m: Machine; readonly arch: X86Arch } => {
  const { policy, rule, timers, exitBeforeBlocking } = kvmBehaviours[profile];
  const arch = new X86Arch();
  const m = installEngine(createScope(), { arch, policy, rule, options: { maxVps: 2, maxPlanes: 3, memoryBytes: 1 << 16, quantum: 30, timers, eventCheck: exitBeforeBlocking ? 'first' : 'entry' } });
  for (let i = 0; i < 2; i++) {
    const vp = m.createVp();
    for (const plane of [1, 2]) m.createPlane(vp, PlaneId(plane));
    for (const context of vp.planes) {
      if (!context) continue;
      const apic = arch.apicOf(context);
      apic.writeApicBase(0xfee0_0c00 | (i === 0 ? 0x100 : 0), 0, true);
      apic.writeSvr(0x1ff);
      apic.latches.setWaitingForSipi(false);
      context.activity = 0;
    }
  }
  m.checks = new InvariantChecks(m);
  return { m, arch };
};

const field = (data: PlainState, name: string): number => (data as PlainRecord)[name] as number;

/** What comes from outside: KVM_RUN of a plane with a mask, messages, the task priority of a plane that does not run. */
const apply = (m: Machine, arch: X86Arch, name: string, data: PlainState, vp: Vp | null): void => {
  if (vp === null) throw new RangeError(name);
  m.hooks.trace?.input(vp, name, data);
  const context = vp.plane(field(data, 'plane'));
  if (name === 'msi') arch.fabric.signalMsi(context.plane, (0xfee0_0000 | (vp.index << 12)) >>> 0, 0, field(data, 'vector'), false);
  else if (name === 'run') {
    vp.named = context.plane;
    vp.asked = field(data, 'asked');
  } else {
    m.checks?.authorise(context);
    arch.apicOf(context).setCr8(field(data, 'cr8'));
    m.eventsChanged(context);
  }
};

const steps: readonly Step[] = [{ op: 'sti' }, { op: 'work', cost: 9 }, { op: 'cli' }, { op: 'work', cost: 21 }, { op: 'sti' }, { op: 'work', cost: 5 }, { op: 'hlt' }, { op: 'work', cost: 3 }, { op: 'hlt' }];
const script = (id: string): { readonly script: Script } => ({ script: { id, steps, handlers: { default: [{ op: 'work', cost: 2 }, { op: 'eoi' }] } } });

type Input = readonly [name: string, vp: number, data: PlainRecord];
/** The worked example of the selftest, then what else leaves the mask as it is: task priority, a plane that nobody runs, a second vCPU. */
const inputs: readonly Input[] = [
  ['msi', 0, { plane: 1, vector: 192 }],
  ['run', 0, { plane: 0, asked: 2 }],
  ['msi', 0, { plane: 0, vector: 192 }],
  ['run', 0, { plane: 1, asked: 3 }],
  ['msi', 0, { plane: 2, vector: 64 }],
  ['cr8', 0, { plane: 2, cr8: 13 }],
  ['run', 0, { plane: 0, asked: 4 }],
  ['run', 0, { plane: 0, asked: 0 }],
  ['msi', 1, { plane: 1, vector: 80 }],
  ['run', 1, { plane: 2, asked: 2 }],
  ['run', 0, { plane: 2, asked: 3 }],
  ['cr8', 0, { plane: 2, cr8: 0 }],
  ['run', 1, { plane: 1, asked: 5 }],
];

const record = (profile: Compared): { readonly lines: readonly string[]; readonly events: readonly string[] } => {
  const { m, arch } = compose(profile);
  for (const vp of m.vps) m.setCpu(vp, new ScriptCpu(m, arch, Object.fromEntries([0, 1, 2].map((p) => [p, script(`v${vp.index}p${p}`)]))));
  const lines: string[] = [];
  const events: string[] = [];
  const recorder = recordTrace(m, {}, (line) => lines.push(line));
  for (const [name, vp, data] of inputs) {
    apply(m, arch, name, data, m.vp(vp));
    if (name !== 'run') continue;
    for (let i = 0; i < 6; i++) {
      const stop = m.run(2);
      if (stop.kind === 'idle') break;
      if (stop.kind !== 'exit') continue;
      const exit = new Map<string, unknown>(Object.entries(stop.vp.exit ?? {}));
      events.push(`${stop.vp.index}/${stop.vp.current}: ${String(exit.get('pending'))}/${String(exit.get('target'))}`);
      break;
    }
  }
  recorder.finish('idle');
  return { lines, events };
};

const replay = (lines: readonly string[], profile: Compared): ReplayReport => {
  const { m, arch } = compose(profile);
  return new Replay(m, parseTrace(lines), { applyInput: (name, data, vp) => apply(m, arch, name, data, vp) }).run();
};

describe('LKML 2025-04-01 RFC KVM: VM planes 25/29: a run under the sticky mask of pending planes', () => {
  const recorded = record('2025-04');

  it('is the same bit for bit each time', () => {
    expect(record('2025-04').lines).toEqual(recorded.lines);
  });
  it('has the exits of the draft: the mask stays set whatever the task priority of a plane is', () => {
    expect(recorded.events.slice(0, 3)).toEqual(['0/0: 2/2', '0/1: 1/1', '0/0: 6/4']);
    expect(record('vmplanes').events).not.toEqual(recorded.events);
  });
  it('replays bit-exactly: every event, exit and switch, and the state at the end', () => {
    const report = replay(recorded.lines, '2025-04');
    expect(report.divergences).toEqual([]);
    expect(report.ok, report.summary).toBe(true);
    expect([report.checked + report.fed, report.unchecked]).toEqual([parseTrace(recorded.lines).records.length, 0]);
  });
  it('does not replay under another rule', () => {
    expect(replay(recorded.lines, 'vmplanes').ok).toBe(false);
  });
});
