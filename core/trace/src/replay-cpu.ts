import { type Cpu, type CpuExit, HostError, type Machine, MemoryFaultInfo, type PlainState, type PlaneContext, type Vp } from '@vmplanes/engine';
import { lineOf, type RecordOf } from './format.ts';
import { decodeFields, decodePlain } from './plain.ts';
import { applyRegisters } from './shadow.ts';

/** The exit a record tells of, as a processor would return it. @throws {HostError} BadTrace on a kind the architecture has not. */
const exitOf = (machine: Machine, record: RecordOf<'exit'>): CpuExit => {
  const line = lineOf(record.s);
  if (!machine.arch.exitKinds.includes(record.x)) throw new HostError('BadTrace', `line ${line}: '${record.x}' is not an exit of ${machine.arch.name}`, { line });
  const fields = decodeFields(record.f);
  // The one field of an exit that is an object of a class; its holders may call its methods.
  if (record.x === 'memoryFault') fields['info'] = Object.assign(new MemoryFaultInfo(), fields['info']);
  return { ...fields, kind: record.x, key: record.key };
};

/** Counts instructions of a context up to a recorded count of its VP. */
export const retireTo = (context: PlaneContext, count: number): void => {
  const retired = Math.max(0, count - context.vp.retired);
  context.vp.retired += retired;
  context.retired += retired;
};

/**
 * Makes a context what it was after a recorded run: registers, stored events, instructions retired.
 * @returns the exit that ended the run.
 * @throws {HostError} BadTrace when the record does not fit this machine.
 */
export const applyExit = (machine: Machine, context: PlaneContext, record: RecordOf<'exit'>): CpuExit => {
  const line = lineOf(record.s);
  const exit = exitOf(machine, record);
  applyRegisters(machine, context, record.r, line);
  context.instructionLength = record.il;
  retireTo(context, record.n);
  if (record.ev !== null) {
    try {
      context.events.restore(decodePlain(record.ev));
    } catch (e) {
      throw new HostError('BadTrace', `line ${line}: the events cannot be restored (${e instanceof Error ? e.message : String(e)})`, { line });
    }
  }
  // Registers decide, too, whether an event can be delivered.
  machine.eventsChanged(context);
  machine.timersChanged(context);
  return exit;
};

/** A processor that runs nothing: each run ends as the recorded one did. */
export class ReplayCpu implements Cpu {
  readonly #next: (context: PlaneContext) => CpuExit;

  /** @param next - gives the recorded end of the run of a context and applies what the guest did. */
  constructor(next: (context: PlaneContext) => CpuExit) {
    this.#next = next;
  }

  run(vp: Vp): CpuExit {
    return this.#next(vp.context);
  }
  save(): PlainState {
    return null;
  }
  restore(): void {
    // The place in the trace is not part of the machine: a replay is not snapshotted.
  }
}
