import { createScope } from '@vmplanes/di';
import { type Answer, type Claim, installEngine, InvariantChecks, type Machine, type Personality, PlaneId, type PlaneContext, type CpuExit, Schedule } from '@vmplanes/engine';
import { ScriptCpu, X86Arch, type Script } from '@vmplanes/x86';
import { expect, it } from 'vitest';

class Switcher implements Personality {
  readonly name = 'switcher';
  readonly stateName = 'switcher';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'call', from: 1, to: 1 }];
  constructor(readonly machine: Machine) {}
  handle(context: PlaneContext, _exit: CpuExit): Answer {
    return context.vp.replies.switchTo(context.plane === 0 ? 1 : 0, 'call', context.plane === 0 ? 'runnable' : 'stopped');
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

it('runs two planes', () => {
  const arch = new X86Arch();
  const m = installEngine(createScope(), { arch, policy: 'highest-runnable', rule: 'deliverable', options: { maxVps: 1, maxPlanes: 2, memoryBytes: 1 << 20 } });
  m.addPersonality(new Switcher(m));
  const vp = m.createVp();
  m.createPlane(vp, PlaneId(1));
  const seen: string[] = [];
  m.on('plane-switch', (e) => seen.push(`${e.from}>${e.to}`));
  const zero: Script = {
    id: 'zero',
    *main() {
      yield { op: 'call', regs: { rax: 5n } };
      yield { op: 'write', gpa: 0x1000, value: 7 };
      const r = yield { op: 'read', gpa: 0x1000 };
      seen.push(`read ${r.rax}`);
      yield { op: 'hlt' };
    },
  };
  const one: Script = { id: 'one', steps: [{ op: 'work' }, { op: 'call' }] };
  m.memory.addSlot({ id: 0, gpa: 0, size: 1 << 16 });
  m.setCpu(vp, new ScriptCpu(m, arch, { 0: { script: zero }, 1: { script: one } }));
  m.checks = new InvariantChecks(m);
  expect(m.run(5)).toEqual({ kind: 'idle' });
  expect(seen).toEqual(['0>1', '1>0', 'read 7']);
  expect(vp.plane(1).schedule).toBe(Schedule.Stopped);
});
