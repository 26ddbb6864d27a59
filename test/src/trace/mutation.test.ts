import { HostError } from '@vmplanes/engine';
import { fieldsOf, type Json, type JsonRecord, parseTrace, recordDigest, sealHeader, sealRecord, type Trace, type TraceHeader, type TraceRecord, traceLines } from '@vmplanes/trace';
import { describe, expect, it } from 'vitest';
import { record, replay, richGuest } from './tiny-machine.ts';

const isRecord = (v: Json): v is JsonRecord => typeof v === 'object' && v !== null && !Array.isArray(v);

/** Every value that differs from `value` in one place, of the same form. */
const mutants = (name: string, value: Json): Json[] => {
  if (typeof value === 'number') return [value + 1, ...(value > 0 ? [value - 1] : [])];
  if (typeof value === 'boolean') return [!value];
  if (value === null) return [{ other: 1 }];
  if (typeof value === 'string') {
    if (name === 'a') return [value === 'resume' ? 'retry' : 'resume'];
    if (/^0x[0-9a-f]+$/.test(value)) return [`0x${(BigInt(value) ^ 1n).toString(16)}`];
    if (/^(?:[0-9a-f]{2})+$/.test(value)) return [(value.startsWith('0') ? '1' : '0') + value.slice(1)];
    return [`${value}x`];
  }
  if (Array.isArray(value)) return (value as Json[]).flatMap((v, i) => mutants('', v).map((m) => (value as Json[]).with(i, m)));
  if (!isRecord(value) || '$' in value) return [];
  const own = Object.entries(value).flatMap(([k, v]) => [...mutants(k, v).map((m) => ({ ...value, [k]: m })), Object.fromEntries(Object.entries(value).filter(([x]) => x !== k))]);
  return name === 'r' ? [...own, { ...value, idx: '0x77' }] : [...own, { ...value, extra: 1 }];
};

const mutate = (trace: Trace): { readonly at: number; readonly field: string; readonly record: TraceRecord }[] =>
  trace.records.flatMap((r, at) => {
    const values: Readonly<Record<string, Json>> = r;
    return Object.keys(fieldsOf(r.k)).flatMap((field) => mutants(field, values[field] as Json).map((m) => ({ at, field, record: { ...r, [field]: m } as TraceRecord })));
  });

const { lines } = record(richGuest);
const trace = parseTrace(lines);

/** True when reading or replaying tells that something is wrong. */
const isSeen = (t: Trace, alsoRead: boolean): boolean => {
  try {
    const read = alsoRead ? parseTrace(traceLines(t.header, t.records)) : t;
    return !replay(read, richGuest).ok;
  } catch (e) {
    if (e instanceof HostError && e.code === 'BadTrace') return true;
    throw e;
  }
};

describe('mutations of a trace', () => {
  it('sees every change of one field of one record', () => {
    const missed = mutate(trace).filter(({ at, record: r }) => !isSeen({ ...trace, records: trace.records.with(at, r) }, true));
    expect(missed.map(({ field, record: r }) => [field, JSON.stringify(r)])).toEqual([]);
  });

  it('sees them in the replay itself even with the digest made to fit, but for what has no effect in the model', () => {
    const missed = mutate(trace)
      .map(({ at, field, record: r }) => ({ at, field, record: sealRecord(r) }))
      .filter(({ field }) => field !== 'h' && field !== 's')
      .filter(({ at, record: r }) => !isSeen({ ...trace, records: trace.records.with(at, r) }, false));
    const fields = new Set(missed.map(({ field, record: r }) => `${r.k}.${field}`));
    // Guest registers that the guest itself overwrites, operands and bytes no handler looks at, the reason of the end,
    // events a guest stores itself, an input one slice later in which every VP waits.
    expect([...fields].filter((f) => !['exit.r', 'exit.f', 'exit.key', 'exit.il', 'end.why', 'input.d', 'input.sl', 'event.m', 'read.b'].includes(f))).toEqual([]);
    expect(missed.filter(({ record: r }) => !['exit', 'end', 'input', 'event', 'read'].includes(r.k))).toEqual([]);
  });

  it('sees records that are missing, repeated or exchanged, in the file and in memory', () => {
    for (let at = 0; at < trace.records.length; at++) {
      const r = trace.records[at] as TraceRecord;
      const renumber = (records: readonly TraceRecord[]): TraceRecord[] => records.map((x, s) => sealRecord({ ...x, s }));
      const changed = [trace.records.toSpliced(at, 1), trace.records.toSpliced(at, 0, r)];
      const other = trace.records[at + 1];
      if (other) changed.push(trace.records.with(at, other).with(at + 1, r));
      for (const records of changed) {
        // Without the `end` the rest is a trace that was cut off; its report says so.
        const isCut = records.length < trace.records.length && r.k === 'end';
        expect(isSeen({ ...trace, records }, true)).toBe(!isCut);
        // The same reply twice is the same reply; an event the guest stores itself a second time is pending already.
        const isSame = records.length > trace.records.length && (r.k === 'input' || (r.k === 'event' && trace.records[at - 1]?.k === 'enter'));
        if (!isCut && !isSame) expect(isSeen({ ...trace, records: renumber(records), isComplete: true }, false), `${at} ${r.k}`).toBe(true);
      }
    }
  });

  it('sees every change of the header', () => {
    const header: JsonRecord = trace.header;
    for (const [field, value] of Object.entries(header)) {
      for (const m of mutants(field, value)) {
        expect(isSeen({ ...trace, header: { ...header, [field]: m } as TraceHeader }, true), field).toBe(true);
      }
    }
    // With a digest that fits, what the machine itself knows is still compared.
    for (const field of ['arch', 'policy', 'rule', 'eventCheck', 'quantum', 'ticksPerInstruction', 'ticksPerSecond', 'memoryBytes', 'maxVps', 'maxPlanes', 'seeds', 'personalities']) {
      for (const m of mutants(field, header[field] as Json)) {
        const mutant = sealHeader({ ...header, [field]: m } as TraceHeader);
        const isListing = field === 'personalities' && JSON.stringify(m).includes('"name":"tiny"');
        if (!isListing && !(field === 'seeds' && (m as JsonRecord)['schedule'] === 0)) expect(isSeen({ ...trace, header: mutant }, false), `${field} ${JSON.stringify(m)}`).toBe(true);
      }
    }
    expect(replay(trace, richGuest, {}, { configHash: 'other' }).divergences[0]?.field).toBe('header.configHash');
  });

  it('covers with digests exactly the records that feed the model', () => {
    for (const r of trace.records) expect(recordDigest(r) !== null, r.k).toBe(['exit', 'event', 'input', 'read', 'end'].includes(r.k));
  });
});
