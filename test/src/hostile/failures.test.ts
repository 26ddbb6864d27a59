import { parseTrace } from '@vmplanes/trace';
import { createVm, replayTrace } from '@vmplanes/vmm';
import type { Script } from '@vmplanes/x86';
import { expect, it } from 'vitest';

const throwing: Script = {
  id: 'thrower',
  *main() {
    yield { op: 'mov', to: 'cr3', value: 0x1000 };
    yield { op: 'cpuid', leaf: 1 };
    throw new TypeError('no such thing');
  },
};

it('a script that throws is named, with its step', async () => {
  const vm = await createVm({ scripts: { run: [{ vp: 0, script: 'thrower' }] } }, { scripts: [throwing] });
  await expect(vm.run()).rejects.toMatchObject({ code: 'BadScript', message: 'thrower, step 2: the script throws TypeError: no such thing' });
  await expect(vm.run()).rejects.toMatchObject({ code: 'BadState' });
});

it('the trace of a run that failed has every record until then, no end, and agrees in a replay', async () => {
  const config = { scripts: { run: [{ vp: 0, script: 'thrower' }] } };
  const lines: string[] = [];
  const vm = await createVm(config, { scripts: [throwing], trace: (line) => void lines.push(line) });
  await expect(vm.run()).rejects.toMatchObject({ code: 'BadScript' });
  vm.close();
  const trace = parseTrace(lines);
  expect(trace.isComplete).toBe(false);
  expect(trace.records.filter((r) => r.k === 'exit')).toHaveLength(2);
  const report = await replayTrace(trace);
  expect(report).toMatchObject({ ok: true, isComplete: false });
});

it('a VMM whose exit handler throws can go on: the machine stands at an event boundary', async () => {
  const script: Script = { id: 's', steps: [{ op: 'in', port: 0x60 }, { op: 'work' }] };
  const vm = await createVm({ scripts: { run: [{ vp: 0, script: 's' }] } }, { scripts: [script] });
  await expect(vm.run({ onExit: () => { throw new Error('mine'); } })).rejects.toThrow('mine');
  vm.reply(0, { value: 1 });
  expect((await vm.run()).reason).toBe('finished');
});
