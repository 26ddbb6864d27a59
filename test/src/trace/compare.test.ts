import { compareSemantic, decodePlain, diffSemantic, diffTraces, digestOf, encodePlain, formatReference, headerOf, parseTrace, sealHeader, sealRecord, semanticTrace, type Trace, type TraceRecord, traceStats, UNDEFINED_NOTE, UNKNOWN } from '@vmplanes/trace';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Step } from './tiny-arch.ts';
import { build, Call, type Guest, record, replay, richGuest } from './tiny-machine.ts';

const trace = parseTrace(record(richGuest).lines);
const alter = (t: Trace, at: number, fields: object): Trace => ({ ...t, records: t.records.with(at, sealRecord({ ...t.records[at], ...fields } as TraceRecord)) });
const find = (kind: string, from = 0): number => trace.records.findIndex((r, i) => i >= from && r.k === kind);

describe('a semantic trace', () => {
  it('ignores time, registers, instruction pointers and exits that are no calls', () => {
    // The same guest with other costs, so other times and other slices.
    const slower: Guest = richGuest.map((planes, vp) => planes.map((steps) => steps.map((s): Step => (s.do === 'work' && vp === 0 && s.cost < 10 ? { ...s, cost: s.cost + 2 } : s))));
    const other = parseTrace(record(slower).lines);
    expect(diffTraces(trace, other).rows.length).toBeGreaterThan(20);
    const result = compareSemantic(trace, other);
    expect(result).toMatchObject({ equal: true, differences: [] });
    expect(result.steps).toBeGreaterThan(30);
    expect(diffSemantic(trace, other)).toMatchObject({ rows: [], equal: result.steps });
  });

  it('holds calls, messages, faults, switches, interrupts and permissions', () => {
    const kinds = new Set([...semanticTrace(trace).values()].flat().map((s) => s.what));
    expect([...kinds].sort()).toEqual(['call', 'fault', 'interrupt', 'note', 'permission', 'switch']);
  });

  it.each([
    ['switch', { why: 'other' }],
    ['note', { name: 'other' }],
    ['permission', { rights: 7 }],
    ['event', { m: false }],
    ['answer', { a: 'fault', f: { address: '0x0', code: 1, errorCode: null } }],
  ] as const)('differs in a %s', (kind, fields) => {
    const at = find(kind);
    const result = compareSemantic(trace, alter(trace, at, fields));
    expect(result.equal).toBe(false);
    expect(result.differences).toHaveLength(1);
    expect(result.differences[0]).toMatchObject({ vp: (trace.records[at] as TraceRecord).v });
    expect(diffSemantic(trace, alter(trace, at, fields)).rows.length).toBeGreaterThan(0);
  });

  it.each([
    ['enter', { t: 5, n: 5, r: { acc: '0x9' } }],
    ['exit', { il: 9, t: 77 }],
    ['read', { b: 'ff' }],
  ] as const)('does not differ in a %s', (kind, fields) => {
    expect(compareSemantic(trace, alter(trace, find(kind), fields)).equal).toBe(true);
  });

  it('takes an unknown value of a note as equal to any and leaves out the note of undefined registers', () => {
    const at = trace.records.findIndex((r) => r.k === 'note' && r.name === 'status');
    expect(compareSemantic(trace, alter(trace, at, { d: { status: 0, sum: UNKNOWN, big: UNKNOWN } })).equal).toBe(true);
    expect([...semanticTrace(trace).values()].flat().some((s) => s.what === 'note' && s.name === UNDEFINED_NOTE)).toBe(false);
  });
});

describe('a strict difference', () => {
  it('is empty for equal traces', () => {
    expect(diffTraces(trace, trace)).toMatchObject({ header: [], rows: [], equal: trace.records.length });
  });

  it('names all fields that differ, and records that only one has, without losing the rest', () => {
    const at = find('switch');
    const changed = alter(alter(trace, at, { why: 'other', t: 1 }), find('permission'), { rights: 7 });
    const fewer = { ...changed, records: changed.records.filter((_, i) => i !== 5) };
    const diff = diffTraces(trace, fewer);
    expect(diff.equal).toBe(trace.records.length - 3);
    expect(diff.rows.map((r) => [r.a?.s, r.b?.k, r.fields.map((f) => f.field)])).toEqual([
      [5, undefined, []],
      [at, 'switch', ['t', 'why']],
      [find('permission'), 'permission', ['rights']],
    ]);
  });

  it('aligns any two sequences and covers both completely', () => {
    const some = fc.subarray(trace.records.slice(0, 60));
    fc.assert(
      fc.property(some, some, (a, b) => {
        const diff = diffTraces({ ...trace, records: a }, { ...trace, records: b });
        const onlyA = diff.rows.filter((r) => r.a !== null).length;
        const onlyB = diff.rows.filter((r) => r.b !== null).length;
        expect([diff.equal + onlyA, diff.equal + onlyB]).toEqual([a.length, b.length]);
      }),
      { numRuns: 50 },
    );
  });

  it('tells header fields apart', () => {
    const other = { ...trace, header: sealHeader({ ...trace.header, quantum: 7, cpuModel: 'other' }) };
    expect(diffTraces(trace, other).header.map((d) => d.field)).toEqual(['cpuModel', 'quantum']);
  });
});

describe('statistics', () => {
  it('count switches by reason, calls and exits by kind, and what each plane ran', () => {
    const stats = traceStats(trace);
    const [vp0, vp1] = stats.vps;
    expect(vp0?.switches).toEqual([
      { from: 0, to: 1, reason: 'call', count: 1 },
      { from: 1, to: 0, reason: 'call', count: 1 },
    ]);
    expect(vp0?.calls).toMatchObject({ 'call 0x2': 2, 'call 0x1': 2, 'call 0x7': 1 });
    expect(vp0?.vmExits).toEqual({ ask: 1 });
    expect(vp0?.planes.reduce((a, p) => a + p.retired, 0)).toBe(trace.records.filter((r) => r.v === 0).at(-1)?.n);
    expect(vp1?.planes.map((p) => p.plane)).toEqual([0]);
    expect(stats.permissions).toBe(trace.records.filter((r) => r.k === 'permission').length);
  });
});

describe('a replay', () => {
  it('names the first divergence: record, line, place, field, both values, what was before and the section', () => {
    const at = find('answer', find('note', 30));
    const record_ = trace.records[at] as TraceRecord & { k: 'answer' };
    const report = replay(alter(trace, at, { f: { ...record_.f, extra: 1 } }), richGuest);
    expect(report.divergences).toHaveLength(1);
    expect(report.divergences[0]).toMatchObject({ seq: at, line: at + 2, vp: record_.v, plane: record_.p, field: 'f.extra', expected: '1', actual: 'absent', before: trace.records.slice(at - 10, at) });
    expect(report.divergences[0]?.hint).toMatch(/^Toy manual \d+$/);
    expect(replay(alter(trace, at, { a: 'exit' }), richGuest, {}, { explain: () => '§1' }).divergences[0]?.hint).toBe('§1');
  });

  it('goes on behind divergences when asked, and finds each', () => {
    const places = trace.records.flatMap((r, i) => (r.k === 'note' && r.name === 'call' ? [i] : []));
    const altered = places.reduce((t, at) => alter(t, at, { d: { number: 99 } }), trace);
    const report = replay(altered, richGuest, {}, { all: true });
    expect(report.divergences.map((d) => d.seq)).toEqual(places);
    expect(replay(altered, richGuest, {}, { all: true, limit: 3 }).divergences).toHaveLength(3);
    const register = alter(trace, find('enter', 3), { r: { acc: '0xdead' } });
    const first = replay(register, richGuest, {}, { all: true }).divergences;
    expect(first.map((d) => d.field)).toContain('r.acc');
    expect(first.length).toBeLessThan(4);
  });

  it('skips records the model does not make, and goes on when asked', () => {
    const note = trace.records[find('note')] as TraceRecord;
    for (const kind of ['answer', 'exit', 'note'] as const) {
      const at = find(kind, 40);
      const records = trace.records.toSpliced(at, 0, { ...note, name: 'ghost' } as TraceRecord).map((r, s) => sealRecord({ ...r, s }));
      const report = replay({ ...trace, records }, richGuest, {}, { all: true });
      expect(report.divergences.length, kind).toBeGreaterThan(0);
      expect(report.divergences[0]?.seq).toBe(at);
    }
  });

  it('adopts values that the ABI leaves undefined and counts the step as unchecked', () => {
    const salted = record(richGuest, {}, [], 41);
    const report = replay(salted.lines, richGuest, {}, {}, 42);
    expect(report.divergences).toEqual([]);
    expect(report).toMatchObject({ ok: true, unchecked: 1 });
  });

  it('does not check what the trace does not know', () => {
    const at = trace.records.findIndex((r) => r.k === 'enter' && 'acc' in r.r);
    const enter = trace.records[at] as TraceRecord & { k: 'enter' };
    expect(replay(alter(trace, at, { r: { ...enter.r, acc: 'unknown' } }), richGuest)).toMatchObject({ ok: true, unchecked: 1 });
    const header = sealHeader({ ...trace.header, unchecked: ['*.t', 'note.*', 'end.*'] });
    const records = trace.records.filter((r) => r.k !== 'note' && r.k !== 'end').map((r, s) => sealRecord({ ...r, s, t: 0 }));
    const report = replay({ header, records, isComplete: false, truncated: null }, richGuest);
    expect(report.divergences).toEqual([]);
    expect(report).toMatchObject({ ok: false, checked: 0 });
    expect(report.unchecked).toBeGreaterThan(20);
  });

  it('tells that it waits for an input that nobody applies', () => {
    const report = replay(trace, richGuest, {}, { applyInput: () => {} });
    expect(report.divergences[0]).toMatchObject({ field: 'record', actual: "input 'reply' is not applied" });
    const without = trace.records.filter((r) => r.k !== 'input').map((r, s) => sealRecord({ ...r, s }));
    expect(replay({ ...trace, records: without }, richGuest).divergences[0]).toMatchObject({ field: 'error', actual: expect.stringContaining('waits for the reply') });
  });

  it('runs any guest as it ran', () => {
    const call = fc.constantFrom(...Object.values(Call).filter((c) => c !== Call.Sleep && c !== Call.Timer && c !== Call.Send && c !== Call.Switch));
    const value = fc.integer({ min: 0, max: 2 });
    const step: fc.Arbitrary<Step> = fc.oneof(
      fc.record({ do: fc.constant('work' as const), cost: fc.integer({ min: 1, max: 130 }), set: fc.record({ acc: value, idx: value, wide: fc.nat() }) }),
      fc.record({ do: fc.constant('exit' as const), kind: fc.constant('call'), key: call, set: fc.record({ acc: value, idx: fc.constantFrom(0, 1, 2, 0x100, 0xfff8, 0x1fffc) }) }),
      fc.record({ do: fc.constant('exit' as const), kind: fc.constant('call'), key: fc.constantFrom(Call.Sleep, Call.Timer), set: fc.record({ acc: fc.integer({ min: 0, max: 200 }) }) }),
      fc.record({ do: fc.constant('exit' as const), kind: fc.constant('call'), key: fc.constantFrom(Call.Send, Call.Switch), set: fc.record({ acc: fc.constantFrom(0, 1), idx: fc.constantFrom(0, 1) }) }),
      fc.record({ do: fc.constant('exit' as const), kind: fc.constantFrom('msr', 'halt', 'shutdown', 'cpl'), key: fc.nat(0x1_0004), fields: fc.constant({ write: false, lo: 0, hi: 0 }) }).map((s) => (s.kind === 'cpl' ? { ...s, kind: 'call', key: 21 } : s)),
      fc.record({ do: fc.constant('poke' as const), gpa: fc.constantFrom(0x100, 0x104), bytes: fc.array(fc.nat(255), { minLength: 1, maxLength: 8 }) }),
      fc.record({ do: fc.constant('self' as const), code: fc.nat(5) }),
      fc.constant({ do: 'done' as const }),
    );
    const plane = fc.array(step, { maxLength: 12 });
    const guest = fc.array(fc.tuple(plane, plane), { minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(guest, fc.nat(3), fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 3 }), fc.constantFrom('first' as const, 'entry' as const), (g, seed, cuts, eventCheck) => {
        const { lines } = record(g, { seed, eventCheck }, cuts);
        const report = replay(lines, g, { seed, eventCheck });
        expect(report.divergences).toEqual([]);
        expect(report.ok, report.summary).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});

describe('encoded data', () => {
  it('comes back equal', () => {
    const leaf = fc.oneof(fc.string(), fc.double(), fc.integer(), fc.bigInt(), fc.boolean(), fc.constant(null), fc.uint8Array(), fc.uint16Array(), fc.uint32Array(), fc.int32Array(), fc.float64Array(), fc.bigUint64Array());
    const key = fc.oneof(fc.string(), fc.constantFrom('$', 'v', '__proto__', 'constructor'));
    const data = fc.letrec((tie) => ({ any: fc.oneof({ depthSize: 'small', withCrossShrink: true }, leaf, fc.array(tie('any'), { maxLength: 4 }), fc.dictionary(key, tie('any'), { maxKeys: 4, noNullPrototype: true })) })).any;
    fc.assert(
      fc.property(data, (value) => {
        const text = JSON.stringify(encodePlain(value as object));
        expect(decodePlain(JSON.parse(text))).toEqual(value);
      }),
      { numRuns: 300 },
    );
  });

  it('has the digest of the published test values', () => {
    // FNV-1a, 32 bits, of the empty text, "a" and "foobar".
    expect([digestOf(''), digestOf('a'), digestOf('foobar')]).toEqual(['811c9dc5', 'e40c292c', 'bf9cf968']);
  });

  it('refuses what has no form', () => {
    expect(() => encodePlain(Object.assign({}, { f: () => 1 }))).toThrow(/no form for a function/);
    const loop: { self?: object } = {};
    loop.self = loop;
    expect(() => encodePlain(loop)).toThrow(/nested deeper/);
  });
});

describe('the format', () => {
  it('documents each field of each record, and a recorder writes exactly these', () => {
    const rows = formatReference();
    expect(rows.every((r) => r.doc.length > 5)).toBe(true);
    for (const r of trace.records) {
      const names = rows.filter((f) => f.record === '*' || f.record === r.k).map((f) => f.field);
      expect(Object.keys(r).filter((k) => k !== 'k').sort()).toEqual(names.sort());
    }
  });

  it('has a header made from the machine', () => {
    const m = build([[[]]], { entropy: () => 0 });
    expect(headerOf(m)).toMatchObject({ arch: 'tiny', quantum: 50, personalities: [{ name: 'tiny', version: '', options: {} }], seeds: { schedule: 0 } });
  });
});
