import { HostError, Machine, PERSONALITY_API, type PersonalityPlugin } from '@vmplanes/engine';
import { type Script, type Step, type StepResult, X86 } from '@vmplanes/x86';
import { decodePlain, encodePlain, parseTrace, sealRecord } from '@vmplanes/trace';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createVm } from './create-vm.ts';
import { replayTrace, rerunTrace } from './replay.ts';
import { decodeSnapshot, encodeSnapshot } from './snapshot-file.ts';

const directory = mkdtempSync(join(tmpdir(), 'vmplanes-'));
afterAll(() => rmSync(directory, { recursive: true }));

const one = (...steps: readonly Step[]): Script => ({ id: 'one', steps });
const runOne = { scripts: { run: [{ vp: 0, script: 'one' }] } };

describe('createVm', () => {
  it('runs a guest of one script to its end', async () => {
    const vm = await createVm(runOne, { scripts: [one({ op: 'mov', to: 'cr3', value: 0x5000 }, { op: 'hlt' }, { op: 'work' })] });
    expect(await vm.run()).toMatchObject({ reason: 'idle', at: null, failures: [] });
    expect(vm.inspect('vps/0/planes/0/registers/cr3')).toBe(0x5000n);
    vm.close();
    vm.close();
    await expect(vm.run()).rejects.toMatchObject({ code: 'BadState' });
  });

  it('runs a guest from a file of JSON alone', async () => {
    const vm = await createVm({
      planes: 2,
      startPlanes: [0, 1],
      policy: 'highest-runnable',
      scripts: { tables: { t: { steps: [{ op: 'mov', to: 'cr3', value: '0x7000' }, { op: 'work', cost: 5 }] } }, run: [{ vp: 0, plane: 0, script: 't' }] },
    });
    expect((await vm.run()).reason).toBe('finished');
    expect(vm.inspect('vps/0')).toMatchObject({ current: 0, planes: ['0', '1'] });
  });

  it('takes scripts from a module beside the configuration', async () => {
    writeFileSync(join(directory, 'guest.mjs'), "export const scripts = [{ id: 'main', *main() { yield { op: 'mov', to: 'cr3', value: 0x9000 }; } }];\n");
    const vm = await createVm({ scripts: { module: './guest.mjs', run: [{ vp: 0, script: 'main' }] } }, { baseFile: join(directory, 'guest.json') });
    expect((await vm.run()).reason).toBe('finished');
    expect(vm.inspect('vps/0/planes/0/registers/cr3')).toBe(0x9000n);
  });

  it.each<[string, Parameters<typeof createVm>, string, string]>([
    ['an unknown script', [{ scripts: { run: [{ vp: 0, script: 'oen' }] } }, { scripts: [one()] }], 'BadConfig', "did you mean 'one'?"],
    ['a module that is not there', [{ scripts: { module: './none.mjs', run: [{ vp: 0, script: 'a' }] } }], 'BadFile', 'none.mjs'],
    ['two scripts of one id', [runOne, { scripts: [one(), one()] }], 'BadScript', "two have the id 'one'"],
    ['a step that does not exist', [runOne, { scripts: [{ id: 'one', steps: [{ op: 'wrok' } as never] }] }], 'BadScript', 'wrok'],
    ['a guest type that does not exist', [{ type: 'plane' }], 'BadConfig', "did you mean 'plain'?"],
    ['memory that no host has', [{ memory: '900000GiB' }], 'NoMemory', 'memory: 900000GiB: this host cannot give'],
    ['a trace in no directory', [{}, { trace: join(directory, 'none', 't') }], 'BadFile', 'cannot be written'],
  ])('refuses %s', async (_what, args, code, text) => {
    await expect(createVm(...args)).rejects.toMatchObject({ code, message: expect.stringContaining(text) as string });
  });

  it.each([
    [{}, 'highest-runnable', 'deliverable', 'first'],
    [{ profile: '2025-04' as const }, 'userspace', 'irr', 'entry'],
    [{ profile: '2026-06' as const }, 'lowest-runnable', 'deliverable', 'first'],
    [{ profile: '2025-04' as const, policy: 'lowest-runnable' as const }, 'lowest-runnable', 'irr', 'entry'],
  ])('schedules %j by its profile', async (config, policy, rule, eventCheck) => {
    const vm = await createVm(config);
    expect([vm.inspect('policy'), vm.inspect('rule'), vm.inspect('options/eventCheck')]).toEqual([policy, rule, eventCheck]);
  });

  it('tells why a guest ended badly', async () => {
    const shutdown = await createVm(runOne, { scripts: [one({ op: 'work' }, { op: 'shutdown' })] });
    expect(await shutdown.run()).toMatchObject({ reason: 'shutdown', at: { vp: 0, plane: 0, payload: { kind: 'shutdown' } } });
    const failed = await createVm(runOne, { scripts: [one({ op: 'expect', register: 'rax', equals: 3 })] });
    expect(await failed.run()).toMatchObject({ reason: 'finished', failures: [expect.stringContaining('rax is 0x0, expected 3')] });
  });
});

/** A personality that answers one CPUID leaf with a number. */
const answering = (name: string, value: number, more: Partial<PersonalityPlugin> = {}): (() => Promise<unknown>) => async () => ({
  personality: {
    name,
    version: '1.0.0',
    api: PERSONALITY_API,
    summary: 'For tests.',
    options: { type: 'object', properties: {} },
    support: [],
    install: (scope) => {
      const machine = scope.resolve(Machine.token);
      return {
        name,
        stateName: name,
        stateVersion: 1,
        claims: [{ exit: 'cpuid', from: 0x4000_0000, to: 0x4000_0000 }],
        handle: (context) => {
          machine.arena.u32[(context.base + X86.rax) >>> 2] = value;
          return context.vp.replies.resume();
        },
        save: () => null,
        restore: () => undefined,
      };
    },
    ...more,
  } satisfies PersonalityPlugin,
});

describe('personalities', () => {
  const leaf = one({ op: 'cpuid', leaf: 0x4000_0000 }, { op: 'expect', register: 'rax', equals: 2 });

  it('may not claim the same exit', async () => {
    await expect(createVm({ personalities: ['a', 'b'] }, { plugins: { a: answering('a', 1), b: answering('b', 2) } })).rejects.toMatchObject({ code: 'DoubleClaim', message: expect.stringContaining("b and a both claim 'cpuid' 0x40000000") as string });
  });

  it('may take over what they extend', async () => {
    const vm = await createVm({ ...runOne, personalities: ['a', 'b'] }, { plugins: { a: answering('a', 1), b: answering('b', 2, { extends: ['a'] }) }, scripts: [leaf] });
    expect(await vm.run()).toMatchObject({ reason: 'finished', failures: [] });
  });

  it('may take over from others where they are', async () => {
    const over = { plugins: { a: answering('a', 1), b: answering('b', 2, { over: ['a', 'c'] }) }, scripts: [leaf] };
    for (const personalities of [['a', 'b'], ['b']]) expect(await (await createVm({ ...runOne, personalities }, over)).run()).toMatchObject({ reason: 'finished', failures: [] });
  });

  it('may ask for a policy, but not for one that does not exist', async () => {
    const meaning: NonNullable<PersonalityPlugin['meaning']> = () => ({ sharing: { shared: [] }, dominates: () => false, planeName: String });
    const vm = await createVm({ personalities: ['a'] }, { plugins: { a: answering('a', 1, { meaning, policy: 'lowest-runnable' }) } });
    expect(vm.inspect('policy')).toBe('lowest-runnable');
    await expect(createVm({ personalities: ['a'] }, { plugins: { a: answering('a', 1, { meaning, policy: 'lowest' }) } })).rejects.toMatchObject({ code: 'BadPlugin' });
  });
});

describe('what the host makes up', () => {
  const schema = { type: 'object', properties: { secret: { type: 'string', default: '' } } };
  // Answers CPUID by its secret: what a guest sees of it.
  const secretive = answering('a', 0, { options: schema, hostInputs: ({ secret }, random) => (secret === '' ? { secret: Buffer.from(random(4)).toString('hex') } : {}) });
  const host = { plugins: { a: secretive } };
  const config = { ...runOne, personalities: ['a'] };
  const scripts = [one({ op: 'work' })];
  const secretOf = (vm: Awaited<ReturnType<typeof createVm>>): unknown => (vm.personalities[0]!.options as { readonly secret: string }).secret;

  it('is new for each machine and counts as configured', async () => {
    const [a, b] = [await createVm(config, { ...host, scripts }), await createVm(config, { ...host, scripts })];
    expect(secretOf(a)).toMatch(/^[0-9a-f]{8}$/);
    expect(secretOf(a)).not.toBe(secretOf(b));
    expect(a.configHash).not.toBe(b.configHash);
  });
  it('is nothing where the configuration says it', async () => {
    const vm = await createVm({ ...config, personalities: [{ use: 'a', options: { secret: 'mine' } }] }, { ...host, scripts });
    expect(secretOf(vm)).toBe('mine');
    expect(vm.snapshot().inputs).toBeUndefined();
  });
  it('is in the trace, so that a replay and another run have it', async () => {
    const lines: string[] = [];
    const vm = await createVm(config, { ...host, scripts, trace: (line) => lines.push(line) });
    await vm.run();
    vm.close();
    const trace = parseTrace(lines);
    expect(trace.header.personalities[0]!.options).toEqual({ secret: secretOf(vm) });
    expect(trace.header.configHash).toBe(vm.configHash);
    expect((await replayTrace(trace, host)).divergences).toEqual([]);
    expect((await rerunTrace(trace, { ...host, scripts })).rows).toEqual([]);
  });
  it('is in a snapshot, for the machine that takes it up', async () => {
    const vm = await createVm(config, { ...host, scripts });
    const snapshot = decodeSnapshot(encodeSnapshot(vm.snapshot()));
    expect(snapshot.inputs).toEqual({ a: { secret: secretOf(vm) } });
    expect(() => vm.restore(snapshot)).not.toThrow();
    const other = await createVm(config, { ...host, scripts });
    expect(() => other.restore(snapshot)).toThrow(expect.objectContaining({ code: 'BadSnapshot' }));
    const same = await createVm(config, { ...host, scripts, inputs: snapshot.inputs! });
    same.restore(snapshot);
    expect(same.configHash).toBe(vm.configHash);
  });
  it('is checked like other options', async () => {
    const wrong = answering('a', 0, { options: schema, hostInputs: () => ({ secret: 7 }) });
    await expect(createVm(config, { plugins: { a: wrong }, scripts })).rejects.toMatchObject({ code: 'BadConfig' });
  });
});

describe('exits', () => {
  const reads = (results: StepResult[]): Script => ({
    id: 'one',
    *main() {
      results.push(yield { op: 'in', port: 0x3f8 }, yield { op: 'read', gpa: 0x8000_0000, size: 8 });
    },
  });

  it('read as absent hardware without a handler', async () => {
    const results: StepResult[] = [];
    const vm = await createVm(runOne, { scripts: [reads(results)] });
    expect((await vm.run()).reason).toBe('finished');
    expect(results.map((r) => r.rax)).toEqual([0xffn, 0xffff_ffff_ffff_ffffn]);
  });

  it('are served by a handler, which may take its time', async () => {
    const results: StepResult[] = [];
    const vm = await createVm(runOne, { scripts: [reads(results)] });
    const kinds: string[] = [];
    const { reason } = await vm.run({
      onExit: async ({ payload }) => {
        kinds.push(payload.kind);
        await new Promise((resolve) => setTimeout(resolve, 1));
        return payload.kind === 'io' ? { value: 0x42 } : 'continue';
      },
    });
    expect([reason, kinds, results[0]!.rax]).toEqual(['finished', ['io', 'mmio'], 0x42n]);
  });

  it('end the run when the handler says so', async () => {
    const vm = await createVm(runOne, { scripts: [reads([])] });
    expect(await vm.run({ onExit: () => 'stop' })).toMatchObject({ reason: 'exit', at: { payload: { kind: 'io' } } });
  });
});

const endless = one({ op: 'work', cost: 100 }, { op: 'cpuid', leaf: 0 }, { op: 'jump', to: 0 });

describe('run', () => {
  it('stops at a signal and goes on where it was', async () => {
    const vm = await createVm(runOne, { scripts: [endless] });
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 30);
    let progress = 0;
    const first = await vm.run({ signal: abort.signal, onProgress: () => progress++ });
    expect(first.reason).toBe('stopped');
    expect(progress).toBeGreaterThan(0);
    const second = await vm.run({ maxSlices: 5 });
    expect([second.reason, second.slices]).toEqual(['slices', 5]);
    expect(second.time).toBeGreaterThan(first.time);
  });

  it('gives the rest of the process its turn', async () => {
    const vm = await createVm(runOne, { scripts: [endless] });
    let turns = 0;
    const timer = setInterval(() => turns++ > 3 && vm.stop(), 1);
    await vm.run();
    clearInterval(timer);
    expect(turns).toBeGreaterThan(3);
  });

  it('gives the same guest whatever the cut of its turns', async () => {
    const whole = await createVm({ ...runOne, seed: 7 }, { scripts: [endless] });
    await whole.run({ maxSlices: 300 });
    const cut = await createVm({ ...runOne, seed: 7 }, { scripts: [endless] });
    for (let i = 0; i < 100; i++) await cut.run({ maxSlices: 3 });
    expect(cut.snapshot()).toEqual(whole.snapshot());
  });
});

describe('snapshot', () => {
  it('goes through a file and continues', async () => {
    const start = () => createVm({ ...runOne, vps: 2, startVps: 'all' }, { scripts: [endless] });
    const whole = await start();
    await whole.run({ maxSlices: 20 });
    const first = await start();
    await first.run({ maxSlices: 9 });
    const second = await start();
    second.restore(decodeSnapshot(encodeSnapshot(first.snapshot())));
    await second.run({ maxSlices: 11 });
    expect(second.snapshot()).toEqual(whole.snapshot());
  });

  it('belongs to its configuration', async () => {
    const a = await createVm(runOne, { scripts: [endless] });
    const b = await createVm({ ...runOne, seed: 1 }, { scripts: [endless] });
    expect(() => b.restore(a.snapshot())).toThrow(expect.objectContaining({ code: 'BadSnapshot' }));
  });
});

describe('inspect', () => {
  it('lists and looks up', async () => {
    const vm = await createVm({ planes: 2, startPlanes: [1] });
    expect(vm.inspect()).toMatchObject({ time: 0, policy: 'highest-runnable', vps: ['0'] });
    expect(vm.inspect('vps/0/planes/1')).toMatchObject({ schedule: 'stopped', activity: 'running' });
    expect(vm.inspect('options/quantum')).toBe(10_000);
  });

  it.each([
    ['vps/3', "vps has no '3'"],
    ['vps/0/planes/0/registers/raxx', "did you mean 'rax'?"],
    ['time/x', 'it is a plain value'],
    ['toString', "the machine has no 'toString'"],
  ])('refuses %s', async (path, text) => {
    const vm = await createVm({});
    expect(() => vm.inspect(path)).toThrow(expect.objectContaining({ code: 'BadConfig', message: expect.stringContaining(text) as string }));
  });
});

describe('trace', () => {
  const guest = { ...runOne, vps: 2, startVps: 'all' as const, quantum: 50 };
  const scripts = [one({ op: 'in', port: 0x60 }, { op: 'cpuid', leaf: 1 }, { op: 'wrmsr', index: 0x10, value: 5 }, { op: 'work', cost: 200 })];

  it('is written to a file and replays without the guest', async () => {
    const path = join(directory, 'a.jsonl');
    const vm = await createVm(guest, { scripts, trace: path });
    expect((await vm.run()).reason).toBe('finished');
    vm.close('finished');
    const trace = parseTrace(readFileSync(path, 'utf8').split('\n'));
    expect(trace.isComplete).toBe(true);
    const report = await replayTrace(trace);
    expect(report.summary).toMatch(/records checked/);
    expect(report.ok).toBe(true);
    expect((await rerunTrace(trace, { scripts })).rows).toEqual([]);
  });

  it('names the plane that a reply is for, and is refused when that plane waits for none', async () => {
    const lines: string[] = [];
    const vm = await createVm(guest, { scripts, trace: (line) => lines.push(line) });
    await vm.run();
    vm.close('finished');
    const at = lines.findIndex((l) => l.includes('"input"'));
    const record = parseTrace(lines).records.find((r) => r.k === 'input')!;
    expect(decodePlain(record.d)).toEqual({ plane: 0, reply: { value: 0xffff_ffff } });
    for (const data of [{ plane: 1, reply: { value: 1 } }, { value: 1 }]) {
      const changed = lines.with(at, JSON.stringify(sealRecord({ ...record, d: encodePlain(data) })));
      await expect(replayTrace(parseTrace(changed))).rejects.toMatchObject({ code: 'BadTrace', message: expect.stringContaining('waits for none') as string });
    }
  });

  it('finds a changed record', async () => {
    const lines: string[] = [];
    const vm = await createVm(guest, { scripts, trace: (line) => lines.push(line) });
    await vm.run();
    vm.close();
    const at = lines.findIndex((l) => l.includes('"answer"'));
    lines[at] = lines[at]!.replace('"a":"exit"', '"a":"resume"');
    const report = await replayTrace(parseTrace(lines));
    expect(report.ok).toBe(false);
    expect(report.divergences[0]).toMatchObject({ line: at + 1 });
  });

  it('has everything up to an error of the run', async () => {
    const path = join(directory, 'b.jsonl');
    const bad: Script = {
      id: 'one',
      *main() {
        yield { op: 'cpuid', leaf: 0 };
        yield { op: 'mov', to: 'cr9' as never, value: 0 };
      },
    };
    const vm = await createVm(runOne, { scripts: [bad], trace: path });
    await expect(vm.run()).rejects.toThrow(HostError);
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
    expect(lines.some((l) => l.includes('"cpuid"'))).toBe(true);
    expect(parseTrace(lines).isComplete).toBe(false);
  });
});
