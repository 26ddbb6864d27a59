import { parseHexBytes } from '@vmplanes/binary';
import { type Cpu, type CpuExit, HostError, type Machine, type PlainState, type PlaneContext, type Vp } from '@vmplanes/engine';
import { compareRecords, type FieldDifference } from './compare.ts';
import { recordDigest } from './digest.ts';
import { lineOf, type RecordOf, type Registers, type Trace, type TraceRecord } from './format.ts';
import { headerMismatches } from './header.ts';
import { OpenValues } from './open-values.ts';
import { decodePlain, isRecord } from './plain.ts';
import { TraceRecorder } from './recorder.ts';
import { applyExit, ReplayCpu, retireTo } from './replay-cpu.ts';
import type { Divergence, ReplayReport } from './report.ts';
import { applyRegisters } from './shadow.ts';

/** What a replay needs from the owner of the machine. */
export interface ReplayOptions {
  /**
   * Applies one recorded input in the way it was applied when it was recorded, the report to `hooks.trace.input` included.
   * @param vp - the VP it is for, null for the machine.
   */
  readonly applyInput?: (name: string, data: PlainState, vp: Vp | null) => void;
  /** Work of the VMM after an exit that is the same each time and was not recorded as input. */
  readonly exited?: (vp: Vp) => void;
  /** Goes on behind a divergence where that has a meaning; default: stop at the first. */
  readonly all?: boolean;
  /** Divergences after which `all` stops, too; default 100. */
  readonly limit?: number;
  /** Hash of the configuration of the machine, compared with that of the trace when both are given. */
  readonly configHash?: string;
  /** Names the section of a specification that decides a record; default: the `spec` of the VP's last note. */
  readonly explain?: (record: TraceRecord) => string | null;
}

/** Unwinds a run of the model when the replay is over. Not an error. */
class ReplayOver {}

/** Slices a waiting machine is run for to reach the place of an input. */
const IDLE_LIMIT = 10_000_000;
/** Records that are looked at to find the model's record again after a divergence. */
const LOOK_AHEAD = 32;

const describe = (r: TraceRecord | undefined): string => {
  if (r === undefined) return 'the end of the trace';
  const { s: _, ...rest } = r;
  return JSON.stringify(rest);
};

/**
 * Runs a machine along a trace: the guest's part of each exit, inputs and what calls read come from the trace, all else
 * is made by the model and must agree with it. The machine is composed as the recorded one was (see the header) and has
 * run nothing; afterwards it is of no further use.
 */
export class Replay {
  readonly #machine: Machine;
  readonly #trace: Trace;
  readonly #options: ReplayOptions;
  readonly #recorder: TraceRecorder;
  readonly #open: OpenValues;
  readonly #divergences: Divergence[] = [];
  #at = 0;
  #checked = 0;
  #unchecked = 0;
  #fed = 0;
  #skipped = 0;

  constructor(machine: Machine, trace: Trace, options: ReplayOptions = {}) {
    this.#machine = machine;
    this.#trace = trace;
    this.#options = options;
    this.#recorder = new TraceRecorder(machine, (record) => this.#check(record));
    this.#open = new OpenValues(machine);
  }

  /** The processor that replays a VP. {@link run} sets it for every VP that exists then. */
  cpu(): Cpu {
    return new ReplayCpu((context) => this.#runOf(context));
  }

  /**
   * The data of an input that a handler asks for in the middle of a run. The source then reports it to
   * `hooks.trace.input` as it did when it was recorded.
   */
  pullInput(name: string): PlainState {
    const next = this.#next;
    if (next?.k === 'input' && next.name === name) return decodePlain(this.#genuine(next).d);
    this.#diverge('record', describe(next), `input '${name}' is asked for`);
    throw new ReplayOver();
  }

  /**
   * Replays the trace once.
   * @throws {HostError} BadTrace on a record that does not fit the machine; Invariant and Internal as any run.
   */
  run(): ReplayReport {
    const m = this.#machine;
    try {
      for (const { field, expected, actual } of headerMismatches(this.#trace.header, m, this.#options.configHash)) this.#diverge(`header.${field}`, expected, actual, true);
      this.#recorder.attach();
      m.memory.access.onCallRead = (plane, gpa, bytes, offset, length) => this.#read(plane, gpa, bytes, offset, length);
      for (const vp of m.vps) m.setCpu(vp, this.cpu());
      this.#drive();
    } catch (e) {
      if (e instanceof HostError && !['BadTrace', 'Invariant', 'Internal'].includes(e.code)) this.#note('error', describe(this.#next), `${e.code}: ${e.message}`);
      else if (!(e instanceof ReplayOver)) throw e;
    } finally {
      this.#recorder.detach();
    }
    return this.#report();
  }

  get #next(): TraceRecord | undefined {
    return this.#trace.records[this.#at];
  }

  #drive(): void {
    const m = this.#machine;
    for (let next = this.#next; next !== undefined; next = this.#next) {
      const { slices } = m.scheduler;
      if (next.k === 'end' && next.sl <= slices) return this.#recorder.finish(this.#genuine(next).why);
      if (next.k === 'input' && next.sl <= slices) {
        this.#input(next);
        continue;
      }
      const at = this.#at;
      const stop = m.run(1);
      if (stop.kind === 'exit') this.#options.exited?.(stop.vp);
      if (this.#at !== at) continue;
      const placed = this.#next?.k === 'input' || this.#next?.k === 'end' ? this.#next.sl - slices : 0;
      const waits = stop.kind === 'idle' && (placed === 0 || placed > IDLE_LIMIT);
      if (waits || m.scheduler.slices === slices) this.#stop('record', describe(next), waits ? 'every VP waits' : `the run returns without a record: ${stop.kind}`);
    }
  }

  /** @throws {HostError} BadTrace when a record that feeds the model is damaged. */
  #genuine<R extends TraceRecord>(record: R): R {
    const line = lineOf(record.s);
    if ('h' in record && record.h !== recordDigest(record)) throw new HostError('BadTrace', `line ${line}: record '${record.k}': its digest does not fit its fields`, { line });
    return record;
  }

  #input(record: RecordOf<'input'>): void {
    const { name, d, v } = this.#genuine(record);
    const at = this.#at;
    this.#options.applyInput?.(name, decodePlain(d), v < 0 ? null : this.#machine.vp(v));
    if (this.#at !== at) return;
    this.#diverge('record', describe(record), `input '${name}' is not applied`);
    this.#at++;
  }

  /** The guest's part of one run of a context. */
  #runOf(context: PlaneContext): CpuExit {
    const { vp, plane } = context;
    for (;;) {
      const next = this.#next;
      if (next === undefined) this.#atEnd(`a run of VP ${vp.index} plane ${plane}`);
      else if (next.k === 'exit' && next.v === vp.index && next.p === plane) {
        const { n } = this.#genuine(next);
        if (n < vp.retired) this.#diverge('n', String(n), `${vp.retired} or more`);
        return applyExit(this.#machine, context, next);
      } else if (next.k === 'event') {
        // A guest stored an event for itself without an exit: its place is that of the record.
        const at = this.#at;
        if (next.v === vp.index) retireTo(context, next.n);
        const target = this.#machine.vp(next.v).plane(next.p);
        this.#machine.accepted(target, this.#genuine(next).m, next.e > target.edges);
        if (this.#at === at) this.#skipTo(at + 1);
      } else {
        this.#diverge('record', describe(next), `a run of VP ${vp.index} plane ${plane}`);
        const { records } = this.#trace;
        const found = records.findIndex((r, i) => i > this.#at && r.k === 'exit' && r.v === vp.index && r.p === plane);
        if (found < 0) throw new ReplayOver();
        this.#skipTo(found);
      }
    }
  }

  /** Memory that a call reads holds what it held in the trace: the guest that wrote it does not run. */
  #read(plane: number, gpa: number, bytes: Uint8Array, offset: number, length: number): void {
    const next = this.#next;
    if (next?.k === 'read' && next.gpa === gpa && next.of === plane && next.b.length === 2 * length) bytes.set(parseHexBytes(this.#genuine(next).b), offset);
    this.#recorder.callRead(plane, gpa, bytes, offset, length);
  }

  // -- checking ------------------------------------------------------------------------------------------------------

  /** Compares a record that the model made with the next one of the trace. */
  #check(actual: TraceRecord): void {
    this.#open.see(actual);
    const { unchecked } = this.#trace.header;
    if (unchecked.includes(`${actual.k}.*`)) {
      this.#unchecked++;
      return;
    }
    let expected = this.#next;
    if (expected === undefined) return this.#atEnd(describe(actual));
    const sameArrow = (r: TraceRecord): boolean => r.k === actual.k && r.v === actual.v && r.p === actual.p;
    if (!sameArrow(expected)) {
      this.#diverge('record', describe(expected), describe(actual));
      const rest = this.#trace.records.slice(this.#at, this.#at + LOOK_AHEAD);
      const fence = rest.findIndex((r) => r.k === 'exit' || r.k === 'input' || r.k === 'end');
      const found = rest.slice(0, fence < 0 ? rest.length : fence + 1).findIndex(sameArrow);
      if (found < 0) return;
      this.#skipTo(this.#at + found);
      expected = this.#next as TraceRecord;
    }
    const { differences, unknown } = compareRecords(expected, actual, unchecked);
    const left = expected.k === 'enter' && actual.k === 'enter' ? this.#adopt(expected, actual, differences) : { differences, adopted: 0 };
    for (const d of left.differences.slice(0, 1)) this.#diverge(d.field, d.expected, d.actual);
    this.#at++;
    if (expected.k === 'exit' || expected.k === 'input' || expected.k === 'read') this.#fed++;
    else if (unknown.length + left.adopted > 0) this.#unchecked++;
    else if (left.differences.length === 0) this.#checked++;
  }

  /** Takes over the trace's values of registers that the ABI leaves open (with `all`, of every register that differs). */
  #adopt(expected: RecordOf<'enter'>, actual: RecordOf<'enter'>, differences: readonly FieldDifference[]): { readonly differences: readonly FieldDifference[]; readonly adopted: number } {
    const open = this.#open.take(actual);
    const isOpen = (d: FieldDifference): boolean => d.field.startsWith('r.') && open.has(d.field.slice(2));
    const context = this.#machine.vp(actual.v).plane(actual.p);
    const values: Record<string, string> = {};
    for (const d of differences) {
      if (!d.field.startsWith('r.') || !(isOpen(d) || this.#options.all)) continue;
      const name = d.field.slice(2);
      if (this.#machine.arch.layout.has(name)) values[name] = expected.r[name] ?? this.#recorder.shadow.value(context, name);
    }
    applyRegisters(this.#machine, context, values as Registers, lineOf(expected.s));
    return { differences: differences.filter((d) => !isOpen(d)), adopted: differences.filter(isOpen).length };
  }

  #skipTo(at: number): void {
    this.#skipped += at - this.#at;
    this.#at = at;
  }

  /** The model goes on where the trace ends: right when the trace was cut off. */
  #atEnd(actual: string): never {
    if (this.#trace.isComplete) this.#note('record', describe(undefined), actual);
    throw new ReplayOver();
  }

  #note(field: string, expected: string, actual: string, inHeader = false): void {
    const at = inHeader ? -1 : this.#at;
    const record = inHeader ? undefined : (this.#next ?? this.#trace.records.at(-1));
    const before = this.#trace.records.slice(Math.max(0, at - 10), Math.max(0, at));
    this.#divergences.push({ seq: at, line: lineOf(at), vp: record?.v ?? -1, plane: record?.p ?? -1, field, expected, actual, before, hint: this.#hint(record, before) });
  }

  /** Notes a divergence. @throws ReplayOver unless the replay goes on behind divergences. */
  #diverge(field: string, expected: string, actual: string, inHeader = false): void {
    this.#note(field, expected, actual, inHeader);
    if (!this.#options.all || this.#divergences.length >= (this.#options.limit ?? 100)) throw new ReplayOver();
  }

  #stop(field: string, expected: string, actual: string): never {
    this.#note(field, expected, actual);
    throw new ReplayOver();
  }

  #hint(record: TraceRecord | undefined, before: readonly TraceRecord[]): string | null {
    if (record === undefined) return null;
    const given = this.#options.explain?.(record) ?? null;
    if (given !== null) return given;
    for (const r of [...before, record].reverse()) {
      if (r.k !== 'note' || r.v !== record.v || !isRecord(r.d)) continue;
      const spec = r.d['spec'];
      if (typeof spec === 'string') return spec;
    }
    return null;
  }

  #report(): ReplayReport {
    const { records, isComplete, truncated } = this.#trace;
    const [first] = this.#divergences;
    const cut = truncated !== null ? `the trace is cut off in line ${truncated.line}` : isComplete ? '' : 'the trace has no end';
    const counts = `${this.#checked} records checked, ${this.#unchecked} unchecked, ${this.#fed} fed`;
    const summary =
      first !== undefined
        ? `diverges at line ${first.line}: ${first.field}: expected ${first.expected}, got ${first.actual}`
        : this.#checked === 0
          ? 'nothing was checked'
          : [counts, ...(cut === '' ? [] : [`${cut}: its last state was not compared`])].join('; ');
    return {
      ok: first === undefined && this.#checked > 0 && this.#at === records.length,
      summary,
      divergences: this.#divergences,
      checked: this.#checked,
      unchecked: this.#unchecked,
      fed: this.#fed,
      skipped: this.#skipped,
      records: records.length,
      isComplete,
    };
  }
}
