import { HostError } from '@vmplanes/engine';
import { fieldsOf, type Json, type JsonRecord, parseTrace, type Trace, type TraceRecord } from '@vmplanes/trace';
import { readTrace, replayTrace } from '@vmplanes/vmm';
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { bundled } from './plugins.ts';
import { scripts } from './guests.ts';
import { recordScenario } from './record.ts';
import { fileOf, scenarios } from './scenarios.ts';

const host = { plugins: bundled, scripts } as const;

const isRecord = (v: Json): v is JsonRecord => typeof v === 'object' && v !== null && !Array.isArray(v);
/** A value of the same form that differs in one place; null where it has no place. */
const changed = (name: string, value: Json): Json => {
  if (typeof value === 'number') return value + 1;
  if (typeof value === 'boolean') return !value;
  if (typeof value === 'string') {
    if (name === 'a') return value === 'resume' ? 'retry' : 'resume';
    if (/^0x[0-9a-f]+$/.test(value)) return `0x${(BigInt(value) ^ 1n).toString(16)}`;
    if (/^(?:[0-9a-f]{2})+$/.test(value)) return (value.startsWith('0') ? '1' : '0') + value.slice(1);
    return `${value}x`;
  }
  if (Array.isArray(value)) return [...(value as Json[]), 1];
  if (value === null || !isRecord(value) || '$' in value) return { other: 1 };
  const [first] = Object.entries(value);
  return first === undefined ? { extra: 1 } : { ...value, [first[0]]: changed(first[0], first[1]) };
};
/** Every field of a record, changed. */
const mutants = (r: TraceRecord): readonly TraceRecord[] => {
  const values: Readonly<Record<string, Json>> = r;
  return Object.keys(fieldsOf(r.k)).map((field) => ({ ...r, [field]: changed(field, values[field] as Json) }) as TraceRecord);
};
/** The trace with some records replaced; null where reading it tells that something is wrong. */
const reread = (trace: Trace, records: readonly TraceRecord[]): Trace | null => {
  try {
    return parseTrace([trace.header, ...records].map((x) => JSON.stringify(x)));
  } catch (error) {
    if (error instanceof HostError && error.code === 'BadTrace') return null;
    throw error;
  }
};
/** Numbers of the records at which a replay parts from a trace; null where it cannot be replayed at all. */
const partsAt = async (trace: Trace, all: boolean): Promise<ReadonlySet<number> | null> => {
  try {
    return new Set((await replayTrace(trace, host, all)).divergences.map((d) => d.seq));
  } catch (error) {
    if (error instanceof HostError && error.code === 'BadTrace') return null;
    throw error;
  }
};
/** Changed records of one replay: far enough apart that the replay finds its way back in between. */
const STRIDE = 12;

describe.each(scenarios.map((s) => [s.name, s] as const))('test/traces/%s', (name, scenario) => {
  it('is there, and says that it is derived', () => {
    expect(existsSync(fileOf(name))).toBe(true);
    expect(readTrace(fileOf(name)).header.guest).toMatchObject({ origin: 'derived', title: scenario.title });
  });
  it('is what its guest does', async () => {
    const { lines, reason, failures } = await recordScenario(scenario);
    expect([reason, failures]).toEqual([scenario.ends, []]);
    expect(parseTrace(lines).records).toEqual(readTrace(fileOf(name)).records);
  });
  it('replays without a TPM', async () => {
    const path = process.env['PATH'];
    process.env['PATH'] = '/nowhere';
    try {
      const report = await replayTrace(readTrace(fileOf(name)), host);
      expect(report.summary).toMatch(/^ok|checked/);
      expect(report.ok).toBe(true);
    } finally {
      process.env['PATH'] = path;
    }
  });
  it('fails when one value of any event is changed', async () => {
    const trace = readTrace(fileOf(name));
    // One field of each event, each time the next one; together they are all fields of all kinds of events.
    const changes = trace.records.map((r, at) => {
      const all = mutants(r);
      return { at, record: all[at % all.length]! };
    });
    // Most changes of what is given to the machine are seen as the file is read.
    const open = changes.filter(({ at, record: r }) => reread(trace, trace.records.with(at, r)) !== null);
    expect(open.length).toBeGreaterThan(trace.records.length / 4);
    const missed: typeof open = [];
    for (let first = 0; first < STRIDE; first++) {
      const some = open.filter(({ at }) => at % STRIDE === first);
      const several = reread(trace, trace.records.map((r, at) => some.find((m) => m.at === at)?.record ?? r));
      const seen = several === null ? new Set<number>() : await partsAt(several, true);
      if (seen !== null) missed.push(...some.filter(({ at }) => !seen.has(at)));
    }
    // What many changes hide from each other is changed alone.
    const unseen: string[] = [];
    for (const { at, record: r } of missed) {
      const alone = reread(trace, trace.records.with(at, r));
      const seen = alone === null ? null : await partsAt(alone, false);
      if (seen !== null && seen.size === 0) unseen.push(JSON.stringify(r));
    }
    expect(unseen).toEqual([]);
  }, 300_000);
});
