import { createVm, readConfig, replayTrace, RunCounts, type Vm } from '@vmplanes/vmm';
import { parseTrace } from '@vmplanes/trace';
import type { GeneratorScript, Step, StepResult } from '@vmplanes/x86';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Call, LEAF, Msr, Status } from './abi.ts';

const file = fileURLToPath(new URL('./guest.json', import.meta.url));

/** A guest of the example type in which each plane of VP 0 runs some steps and keeps their results. */
const guestOf = async (planes: readonly (readonly Step[])[]): Promise<{ readonly vm: Vm; readonly results: readonly StepResult[][] }> => {
  const results: StepResult[][] = planes.map(() => []);
  const scripts = planes.map(
    (steps, i): GeneratorScript => ({
      id: `p${i}`,
      *main() {
        for (const step of steps) results[i]!.push(yield step);
      },
    }),
  );
  const run = planes.map((_, plane) => ({ vp: 0, plane, script: `p${plane}` }));
  const vm = await createVm({ type: 'example', personalities: ['./index.ts'], scripts: { run } }, { baseFile: file, scripts, check: true });
  return { vm, results };
};
const call = (nr: number, rbx = 0, rcx = 0, rdx = 0): Step => ({ op: 'call', regs: { rax: nr, rbx, rcx, rdx } });
const back = call(Call.Return);

describe('the example personality', () => {
  it('imports public packages and its own files alone', () => {
    const folder = join(file, '..');
    for (const name of readdirSync(folder).filter((f) => f.endsWith('.ts') && !f.endsWith('.test.ts'))) {
      const imported = [...readFileSync(join(folder, name), 'utf8').matchAll(/ from '([^']+)'/g)].map((m) => m[1]!);
      expect(imported.filter((i) => !/^(\.\/[a-z-]+\.ts|@vmplanes\/(engine|x86))$/.test(i))).toEqual([]);
    }
  });

  it('runs its guest to the end, with a reason for every switch', async () => {
    const vm = await createVm(readConfig(file), { baseFile: file, check: true });
    const counts = new RunCounts(vm.machine);
    expect(await vm.run()).toMatchObject({ reason: 'finished', failures: [] });
    expect(Object.fromEntries(counts.switches.map(({ what: s, count }) => [`${s.vp}: ${s.from}>${s.to} ${s.reason}`, count]))).toEqual({
      '0: 0>1 call': 6,
      '0: 1>2 call': 6,
      '0: 2>1 return': 6,
      '0: 1>0 return': 12,
      '0: 0>1 refused access': 6,
      '1: 0>1 call': 1,
      '1: 1>0 return': 5,
      '1: 0>1 event': 4,
    });
  });

  it('replays from its trace', async () => {
    const lines: string[] = [];
    const vm = await createVm(readConfig(file), { baseFile: file, trace: (line) => lines.push(line) });
    await vm.run();
    vm.close();
    expect(await replayTrace(parseTrace(lines), { baseFile: file })).toMatchObject({ ok: true, divergences: [] });
  });

  it('goes on from a snapshot as if nothing had been', async () => {
    const start = () => createVm(readConfig(file), { baseFile: file });
    const whole = await start();
    await whole.run();
    for (let cut = 1; cut < 12; cut++) {
      const first = await start();
      await first.run({ maxSlices: cut });
      const second = await start();
      second.restore(structuredClone(first.snapshot()));
      await second.run();
      expect(second.snapshot()).toEqual(whole.snapshot());
    }
  });

  it('gives each plane its own registers and all planes the shared ones', async () => {
    const { vm, results } = await guestOf([[{ op: 'work', regs: { rdi: 0x11, cr2: 0x22 } }, call(Call.CallNext), { op: 'get', names: ['rdi', 'cr2'] }], [{ op: 'get', names: ['rdi', 'cr2'] }, { op: 'work', regs: { rdi: 0x33 } }, back]]);
    expect((await vm.run()).reason).toBe('finished');
    expect(results[1]![0]!.cells).toEqual({ rdi: 0x11n, cr2: 0n });
    expect(results[0]![2]!.cells).toEqual({ rdi: 0x33n, cr2: 0x22n });
  });

  it.each<[string, Step, number]>([
    ['a call that is none', call(99), Status.BadCall],
    ['a return below the lowest plane', back, Status.BadPlane],
    ['protection against itself', call(Call.Protect, 0x1000, 0, 0), Status.Denied],
    ['protection against a plane above', call(Call.Protect, 0x1000, 0, 1), Status.Denied],
    ['protection against a plane that is not there', call(Call.Protect, 0x1000, 0, 9), Status.BadPlane],
    ['an interrupt for a plane above', call(Call.SendIpi, 0, 0x50, 1), Status.Denied],
    ['an interrupt for a processor that is not there', call(Call.SendIpi, 5, 0x50, 0), Status.BadPlane],
    ['an exception as an interrupt', call(Call.SendIpi, 0, 8, 0), Status.BadVector],
    ['an interrupt for itself', call(Call.SendIpi, 0, 0x50, 0), Status.Ok],
  ])('answers %s', async (_what, step, status) => {
    const { vm, results } = await guestOf([[step]]);
    await vm.run();
    expect(results[0]![0]!.rax).toBe(BigInt(status));
  });

  it('tells a plane who it is, counts its calls and shows its leaf', async () => {
    const { vm, results } = await guestOf([[call(Call.CallNext)], [call(Call.WhoAmI), { op: 'rdmsr', index: Msr.CallCount }, { op: 'cpuid', leaf: LEAF }, { op: 'wrmsr', index: Msr.CallCount, value: 0 }, call(Call.Protect, 0x1001, 0, 0), back]]);
    await vm.run();
    const [who, count, leaf, write, unaligned] = results[1]!;
    expect([who!.rbx, count!.edxEax, leaf!.rax, write!.fault?.vector, unaligned!.rax]).toEqual([1n, 1n, 3n, 13, BigInt(Status.BadAddress)]);
  });

  it('faults a refused access where no plane is above', async () => {
    const { vm, results } = await guestOf([[call(Call.CallNext), { op: 'write', gpa: 0x5000, value: 1 }, { op: 'read', gpa: 0x5000 }], [call(Call.Protect, 0x5000, 1, 0), back, { op: 'rdmsr', index: Msr.Refused }, back]]);
    await vm.run();
    expect(results[1]![2]!.edxEax).toBe(0x5000n);
    expect(results[0]![2]!.rax).toBe(0n);
  });
});
