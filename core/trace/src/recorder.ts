import { hex64, hexBytes } from '@vmplanes/binary';
import { type Answer, type CpuExit, type ExitPayload, HostError, type Machine, type PlainState, type PlaneContext, type TracePort, type Vp } from '@vmplanes/engine';
import type { RecordKind, Stamp } from './format.ts';
import { encodeFields, encodePlain, type JsonRecord } from './plain.ts';
import { RegisterShadow } from './shadow.ts';
import { stateHash } from './state-hash.ts';
import { type RecordSink, sealRecord } from './writer.ts';

/** The fields of an answer as a trace shows them. */
const answerFields = (answer: Answer): JsonRecord => {
  if (answer.kind !== 'fault') return encodeFields(answer, 'kind');
  const { code, errorCode, addressLo, addressHi } = answer.fault;
  return { address: hex64(addressLo, addressHi), code, errorCode };
};

/** Bytes of a borrowed buffer as text. */
const bytesOf = (bytes: Uint8Array, offset: number, length: number): string => hexBytes(bytes.subarray(offset, offset + length));

/**
 * Makes a record of every arrow of a machine: entries and exits with the registers that changed, answers, switches,
 * accepted events, exits to the VMM, inputs, permissions, notes, and the memory that calls read and write. Works for
 * every architecture, since registers come from its context layout. Nothing is changed in the machine.
 */
export class TraceRecorder implements TracePort {
  readonly shadow: RegisterShadow;
  readonly #machine: Machine;
  readonly #sink: RecordSink;
  #seq = 0;
  #isAttached = false;
  /** Context that was entered last: while it runs, what has no context of its own belongs to its VP. */
  #last: PlaneContext | null = null;
  /** Events of {@link #last} as they were when it was entered. */
  #events = '';

  /** @param sink - takes each record, fresh, in order. */
  constructor(machine: Machine, sink: RecordSink) {
    this.#machine = machine;
    this.#sink = sink;
    this.shadow = new RegisterShadow(machine);
  }

  /** Records made so far: the number of the next one. */
  get count(): number {
    return this.#seq;
  }

  /** Starts recording. @throws {HostError} BadState when this machine is recorded already. */
  attach(): this {
    const { hooks, memory } = this.#machine;
    if (hooks.trace !== null) throw new HostError('BadState', 'this machine has a trace port already');
    hooks.trace = this;
    memory.access.onCallRead = (plane, gpa, bytes, offset, length) => this.callRead(plane, gpa, bytes, offset, length);
    memory.access.onCallWrite = (plane, gpa, bytes, offset, length) => this.callWrite(plane, gpa, bytes, offset, length);
    this.#isAttached = true;
    return this;
  }

  /** Stops recording; the machine goes on without a trace port. */
  detach(): void {
    if (!this.#isAttached) return;
    const { hooks, memory } = this.#machine;
    hooks.trace = null;
    memory.access.onCallRead = memory.access.onCallWrite = null;
    this.#isAttached = false;
  }

  /**
   * Ends the recording with its last record and detaches. Called between runs.
   * @param why - in the words of the caller, such as the outcome of the run.
   * @throws {HostError} BadState while a VP runs.
   */
  finish(why: string): void {
    const record = { ...this.#stamp('end', null, -1), sl: this.#machine.scheduler.slices, why, state: stateHash(this.#machine), h: '' };
    this.#sink(sealRecord(record));
    this.detach();
  }

  #stamp<K extends RecordKind>(k: K, vp: Vp | null, plane: number): { readonly k: K } & Stamp {
    const m = this.#machine;
    return { k, s: this.#seq++, v: vp?.index ?? -1, p: plane, n: vp?.retired ?? 0, t: vp === null ? m.time : m.timeOf(vp) };
  }
  #of<K extends RecordKind>(k: K, context: PlaneContext): { readonly k: K } & Stamp {
    return this.#stamp(k, context.vp, context.plane);
  }
  /** Stamp of what has no context: the VP that runs, if one does. */
  #here<K extends RecordKind>(k: K): { readonly k: K } & Stamp {
    const vp = this.#machine.vps[this.#machine.activeVp] ?? this.#last?.vp;
    return vp !== undefined && vp.running >= 0 ? this.#stamp(k, vp, vp.running) : this.#stamp(k, null, -1);
  }

  entered(context: PlaneContext): void {
    this.#last = context;
    this.#events = JSON.stringify(encodePlain(context.events.save()));
    this.#sink({ ...this.#of('enter', context), r: this.shadow.changed(context) });
    this.shadow.sync(context);
  }

  exit(context: PlaneContext, exit: CpuExit): void {
    const events = encodePlain(context.events.save());
    const record = {
      ...this.#of('exit', context),
      x: exit.kind,
      key: exit.key,
      f: encodeFields(exit, 'kind', 'key'),
      il: context.instructionLength,
      r: this.shadow.changed(context),
      ev: JSON.stringify(events) === this.#events ? null : events,
      h: '',
    };
    this.#sink(sealRecord(record));
    this.shadow.sync(context);
  }

  answer(context: PlaneContext, answer: Answer): void {
    this.#sink({ ...this.#of('answer', context), a: answer.kind, f: answerFields(answer) });
  }

  switched(vp: Vp, from: number, to: number, reason: string): void {
    this.#sink({ ...this.#stamp('switch', vp, to), from, to, why: reason });
  }

  accepted(context: PlaneContext, maskable: boolean): void {
    this.#sink(sealRecord({ ...this.#of('event', context), m: maskable, e: context.edges, h: '' }));
  }

  vmExit(vp: Vp, payload: ExitPayload): void {
    this.#sink({ ...this.#stamp('vmexit', vp, vp.current), x: payload.kind, f: encodeFields(payload, 'kind') });
  }

  input(vp: Vp | null, name: string, data: PlainState): void {
    const record = { ...this.#stamp('input', vp, vp?.current ?? -1), sl: this.#machine.scheduler.slices, name, d: encodePlain(data), h: '' };
    this.#sink(sealRecord(record));
  }

  permission(plane: number, gpn: number, count: number, rights: number): void {
    this.#sink({ ...this.#here('permission'), of: plane, gpn, count, rights });
  }

  note(context: PlaneContext, name: string, data: PlainState): void {
    this.#sink({ ...this.#of('note', context), name, d: encodePlain(data) });
  }

  /** Memory that was read for a call of a plane. */
  callRead(plane: number, gpa: number, bytes: Uint8Array, offset: number, length: number): void {
    this.#sink(sealRecord({ ...this.#here('read'), of: plane, gpa, b: bytesOf(bytes, offset, length), h: '' }));
  }

  /** Memory that was written for a call of a plane. */
  callWrite(plane: number, gpa: number, bytes: Uint8Array, offset: number, length: number): void {
    this.#sink({ ...this.#here('write'), of: plane, gpa, b: bytesOf(bytes, offset, length) });
  }
}
