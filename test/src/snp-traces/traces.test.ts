import { HostError } from '@vmplanes/engine';
import { fieldsOf, type Json, type JsonRecord, parseTrace, type Trace, type TraceRecord } from '@vmplanes/trace';
import { createVm, type HostService, readTrace, replayTrace, Swtpm } from '@vmplanes/vmm';
import { existsSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { bundled } from './plugins.ts';
import { scripts } from './guests.ts';
import { configOf, fileOf, notesOf, type Scenario, scenarios } from './scenarios.ts';

/** Set to record the traces anew. A TPM that is asked something new must be on this host. */
const RECORD = process.env['VMPLANES_RECORD_TRACES'] === '1';
const host = { plugins: bundled, scripts } as const;

/** A TPM that gives the answers of an earlier recording as long as it is asked the same; then the one of the host does. */
function tpmOf(name: string): HostService {
  const answers = existsSync(fileOf(name)) ? readTrace(fileOf(name)).records : [];
  const asked = answers.flatMap((r, i) => {
    const reply = answers[i + 1];
    return r.k === 'vmexit' && r.x === 'service' && reply?.k === 'input' ? [{ request: (r.f['request'] as JsonRecord)['command'], reply: (reply.d as JsonRecord)['reply'] as JsonRecord }] : [];
  });
  const tpm = new Swtpm();
  let isSame = true;
  return {
    ask: async (request) => {
      const next = asked.shift();
      isSame &&= next !== undefined && next.request === request['command'] && 'response' in next.reply;
      return isSame && next !== undefined ? next.reply : tpm.ask(request);
    },
    save: () => null,
    restore: () => {},
    close: () => tpm.close(),
  };
}

async function record(scenario: Scenario): Promise<{ readonly lines: readonly string[]; readonly reason: string }> {
  const lines: string[] = [];
  const services = { tpm: { check: () => {}, make: () => tpmOf(scenario.name) } };
  const vm = await createVm(configOf(scenario), { ...host, services, trace: (line) => void lines.push(line), traceNotes: notesOf(scenario), check: true });
  try {
    const { reason, failures } = await vm.run();
    expect(failures).toEqual([]);
    return { lines, reason };
  } finally {
    vm.close();
  }
}

if (RECORD) {
  describe('recording', () => {
    it.each(scenarios.map((s) => [s.name, s] as const))('%s', async (_name, scenario) => {
      const { lines, reason } = await record(scenario);
      expect(reason).toBe(scenario.ends);
      writeFileSync(fileOf(scenario.name), `${lines.join('\n')}\n`);
    });
  });
}

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
  const values = r as unknown as JsonRecord;
  return Object.keys(fieldsOf(r.k)).map((field) => ({ ...r, [field]: changed(field, values[field] as Json) }) as TraceRecord);
};
const judge = async (trace: Trace): Promise<boolean> => {
  try {
    return (await replayTrace(trace, host)).ok;
  } catch (error) {
    if (error instanceof HostError && error.code === 'BadTrace') return false;
    throw error;
  }
};

describe.each(scenarios.map((s) => [s.name, s] as const))('test/traces/%s', (name, scenario) => {
  it('is there, and says that it is derived', () => {
    expect(existsSync(fileOf(name))).toBe(true);
    expect(readTrace(fileOf(name)).header.guest).toMatchObject({ origin: 'derived', title: scenario.title });
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
    const missed: string[] = [];
    let turn = 0;
    for (const [at, r] of trace.records.entries()) {
      const all = mutants(r);
      // One field of each event, each time the next one; together they are all fields of all kinds of events.
      const mutant = all[turn++ % all.length]!;
      const lines = [trace.header, ...trace.records.with(at, mutant)].map((x) => JSON.stringify(x));
      let isSeen = false;
      try {
        isSeen = !(await judge(parseTrace(lines)));
      } catch (error) {
        if (!(error instanceof HostError && error.code === 'BadTrace')) throw error;
        isSeen = true;
      }
      if (!isSeen) missed.push(JSON.stringify(mutant));
    }
    expect(missed).toEqual([]);
  }, 300_000);
});
