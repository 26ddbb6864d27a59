import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { root } from '../support/source.ts';
import { type Acceptance, parseAccepted, reasonFor, staleEntries } from './accepted.ts';
import { campaign, type Judged, type Verdict } from './campaign.ts';
import { execute, type Step } from './execute.ts';
import { boundLoops, instrument, MutationList, withoutMarks } from './instrument.ts';
import { vocabularyOf } from './operators.ts';
import { WorkerProcess } from './pool.ts';
import { merged, recordOf } from './record.ts';
import { rowOf, survivorsOf } from './report.ts';
import { sampleOf } from './sample.ts';
import { AREAS, sourcesOf, testFiles } from './scope.ts';
import { parse } from './syntax.ts';

const FOLDER = 'test/src/mutants/fixture';
const inProcess = { run: (job: Parameters<typeof execute>[0]) => execute(job), close: (): void => {} };

/** Names of changes: line, change. */
function changesIn(text: string): readonly string[] {
  const list = new MutationList();
  instrument('a.ts', text, vocabularyOf([parse('a.ts', text)]), list);
  return list.all.map(({ change }) => change);
}

describe('operators', () => {
  it.each<[string, readonly string[]]>([
    ['export const a = b < c;', ['< to <=', '< to >=']],
    ['export const a = b === 7;', ['7 to 8', '7 to 0', '=== to !==']],
    ['if (a && !b.c) f();', ['negate', 'drop the !', '&& to ||', 'remove the call']],
    ['a |= b << c;', ['<< to >>>', '|= to &=']],
    ['a += b; c--;', ['+= to -=', '-- to ++']],
    ["a += 'b'; const c = `${d}` + e;", []],
    ['const a = { mask: 0xf0n, n: 5 };', ['0xf0n to 241n', '0xf0n to 0n', '5 to 6', '5 to 4', '5 to 0']],
    ["throw new RangeError(`plane ${n + 1}`, 3);", []],
    ['type A = 3; interface B { readonly c: 4 } const d = e as 5;', []],
    ['const a = b[0]; const { c = 1 } = d;', ['0 to 1', '1 to 2', '1 to 0']],
    ['const Mode = { Off: 1, On: 3 } as const; f(Mode.Off, Other.On);', ['1 to 2', '1 to 0', '3 to 4', '3 to 2', '3 to 0', 'Mode.Off to .On', 'remove the call']],
    ["const Errno = { EPERM: 1, ENOENT: 2 } as const; g = ['EPERM', 'other'];", ['1 to 2', '1 to 0', '2 to 3', '2 to 0', "'EPERM' to 'ENOENT'"]],
    ['const t = [row(a, yes, no, no)];', ['swap a and yes (column 1)', 'swap yes and no (column 2)']],
    ['function f() { if (a) return b; if (c) throw d; if (e) throw d; }', ['negate', 'swap with the check below: if (c) throw d;', 'negate', 'negate']],
    ["function f() { if (k === 'a') return b; if (k === 'c') return d; }", ['=== to !==', '=== to !==']],
    ['f(rfc2025(9), Source.Api, `${n + 1}`);', ['remove the call']],
  ])('change %s', (text, changes) => expect(changesIn(text)).toEqual(changes));

  it('leave the meaning alone until one is switched on', () => {
    const text = 'let a = 1; for (const b of [2, 3]) { if (b > 2) a += b; else a <<= 1; } r.a = a;';
    const list = new MutationList();
    const marked = instrument('a.ts', text, vocabularyOf([]), list);
    const run = (code: string, active: number): { a: number; h: readonly number[] } => {
      const r = { a: 0 }, $m = { a: active, n: 100, h: [] as number[], stop: () => undefined };
      new Function('$m', 'r', code)($m, r);
      return { a: r.a, h: $m.h };
    };
    expect(run(withoutMarks(marked), 0).a).toBe(5);
    expect(run(marked, 0).a).toBe(5);
    expect(run(withoutMarks(marked), 0).h).toEqual([]);
    expect(run(marked, 0).h.filter((hit) => hit === 1).length).toBe(new Set(list.all.map((m) => m.site)).size);
    const results = new Map(list.all.map((m) => [m.change, run(withoutMarks(marked), m.id).a]));
    expect(results.get('+= to -=')).toBe(-1);
    expect(results.get('> to >=')).toBe(6);
    expect(results.get('<<= to >>>=')).toBe(3);
  });

  it('bound loops without a block', () => {
    expect(boundLoops('a.ts', 'while (a) b(); do { c(); } while (d);')).toBe('while (a) {if(--$m.n<0)$m.stop();b();} do {if(--$m.n<0)$m.stop();{ c(); }} while (d);');
  });
});

describe('a campaign', () => {
  it('kills what the example tests, and says what they miss', async () => {
    const logged: string[] = [];
    const { judged, all, leftOut } = await campaign({
      sources: [`${FOLDER}/gate.ts`],
      tests: [`${FOLDER}/broken.fixture.ts`, `${FOLDER}/gate.fixture.ts`],
      executors: [inProcess],
      budget: 10_000,
      log: (line) => logged.push(line),
    });
    expect(logged.some((line) => line.startsWith(`${FOLDER}/broken.fixture.ts is left out: it fails unchanged: expected`))).toBe(true);
    expect(leftOut).toEqual([`${FOLDER}/broken.fixture.ts`]);
    expect(judged.length).toBe(all.length);
    const of = (verdict: Verdict): readonly string[] => judged.filter((one) => one.verdict === verdict).map(({ mutation }) => `${mutation.line} ${mutation.change}`);
    expect(of('uncovered')).toEqual(['29 1 to 2', '29 1 to 0', '29 + to -']);
    // The statuses are compared with themselves, the masks with nothing, and no room is near the limit.
    expect(of('survived')).toEqual(['2 0 to 1', '2 16 to 17', '2 16 to 0', '5 0xf0 to 241', '5 0xf0 to 0', '6 0x0f to 16', '6 0x0f to 14', '6 0x0f to 0', '25 100 to 101', '25 > to >=']);
    expect(of('timeout')).toEqual(['12 0 to 1', '12 1 to 2', '12 1 to 0', '12 - to +', '12 &= to |=']);
    expect(of('killed')).toEqual(expect.arrayContaining(['5 0x10 to 17', "22 swap with the check below: if (room < 1) return 'full';", '24 remove the call', '25 Status.Busy to .Ok']));
  }, 60_000);
});

describe('a worker process', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vmplanes-mutants-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const script = (name: string, text: string): Step => {
    writeFileSync(join(folder, name), `const{it,expect}=$m.external.vitest;it('t',async()=>{${text}});`);
    return { script: join(folder, name), rounds: 10, only: null, cases: 1 };
  };

  it('is ended and started again', async () => {
    const process = new WorkerProcess(join(root, 'test/dist/mutants/worker.js'));
    const run = (mutation: number, ...steps: Step[]) => process.run({ mutation, mutations: 3, externals: [], steps, isCoverage: false }, steps.map(() => 3_000));
    const good = script('good.js', 'expect($m.a).toBe(2)'), endless = script('endless.js', 'for(;;);'), dies = script('dies.js', 'process.exit(0)');
    try {
      expect((await run(2, good, good))?.runs.map((r) => r.outcome)).toEqual(['passed', 'passed']);
      expect((await run(1, good, good))?.runs.map((r) => r.outcome)).toEqual(['failed']);
      expect(await run(2, good, endless)).toBeUndefined();
      expect(await run(2, dies)).toBeUndefined();
      expect((await run(2, script('loop.js', 'for(;;)if(--$m.n<0)$m.stop();')))?.runs.map((r) => r.outcome)).toEqual(['endless']);
    } finally {
      process.close();
    }
  }, 60_000);
});

describe('accepted survivors', () => {
  const mutation = { id: 1, file: 'a.ts', line: 3, source: 'a < b', operator: 'compare', change: '< to <=', nth: 1, site: 1 } as const;
  const judged: Judged[] = [{ mutation, verdict: 'survived' }, { mutation: { ...mutation, id: 2 }, verdict: 'killed' }, { mutation: { ...mutation, id: 3 }, verdict: 'timeout' }];
  const entry: Acceptance = { file: 'a.ts', source: 'a < b', reason: 'equal' };

  it.each<[Partial<Acceptance>, string | undefined]>([
    [{}, 'equal'],
    [{ change: '< to <=', nth: 1 }, 'equal'],
    [{ nth: 2 }, undefined],
    [{ change: '< to >=' }, undefined],
    [{ file: 'b.ts' }, undefined],
  ])('%o', (more, reason) => {
    expect(reasonFor([{ ...entry, ...more }], mutation)).toBe(reason);
    expect(staleEntries([{ ...entry, ...more }], [mutation]).length).toBe(reason === undefined ? 1 : 0);
  });
  it('refuse an entry without a reason', () => expect(() => parseAccepted('[{"file":"a","source":"b","reason":""}]')).toThrow(/lacks/));
  it('are counted', () => {
    expect(rowOf('x', judged)).toEqual({ name: 'x', mutants: 3, killed: 1, timeout: 1, survived: 1, uncovered: 0, score: 66.6 });
    expect(survivorsOf(judged, [entry])).toEqual([{ at: 'a.ts:3', source: 'a < b', change: '< to <=', nth: 1, operator: 'compare', isCovered: true, reason: 'equal' }]);
  });
});

it('records areas one by one', () => {
  const row = { name: 'a', mutants: 10, killed: 8, timeout: 1, survived: 1, uncovered: 0, score: 90 };
  const origin = { commit: 'c', date: 'd', node: 'n', tests: [] };
  const survivor = { at: 'x.ts:1', source: 's', change: '1 to 2', nth: 1, operator: 'number', isCovered: true, reason: null };
  const one = recordOf(row, [survivor, { ...survivor, reason: 'equal' }], origin);
  expect(one).toMatchObject({ accepted: 1, unexplained: ['x.ts:1 1 to 2'], commit: 'c' });
  const two = recordOf({ ...row, name: 'b', mutants: 90, killed: 90, timeout: 0 }, [], { ...origin, commit: 'e' });
  expect(merged(['a', 'b', 'c'], [one, { ...two, killed: 0 }, { ...one, name: 'gone' }], [two])).toEqual({ mutants: 100, noticed: 99, score: 99, missing: ['c'], areas: [one, two] });
});

it('draws the same sample for the same seed', () => {
  const list = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  expect(sampleOf(list, 4, 7)).toEqual(sampleOf(list, 4, 7));
  expect(new Set(sampleOf(list, 20, 1))).toEqual(new Set(list));
  expect(sampleOf(list, 4, 7)).not.toEqual(sampleOf(list, 4, 8));
});

it('covers sources and tests that exist', () => {
  for (const area of AREAS.filter((a) => a.name !== 'core/kvm')) expect(sourcesOf(area).length, area.name).toBeGreaterThan(3);
  expect(testFiles().length).toBeGreaterThan(30);
});
