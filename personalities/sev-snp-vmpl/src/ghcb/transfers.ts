import { GhcbReason } from '@vmplanes/abi-sev-snp';
import { AccessResult, type Answer, type Completion, type PlainState } from '@vmplanes/engine';
import { type GhcbFrame, type SavedFrame, Word } from './frame.ts';
import type { GhcbHost } from './host.ts';

/** Bytes on their way between a guest and a device: plain data, saved while the VMM answers for one piece. */
interface Transfer {
  readonly frame: SavedFrame;
  readonly exit: 'io' | 'mmio';
  readonly write: boolean;
  /** Port, or the GPA of the first byte. */
  readonly address: number;
  /** Bytes of an element of a string; 0 where pieces are as large as they can be. */
  readonly unit: number;
  /** Where the bytes come from or go to; 0 for RAX. */
  readonly scratch: number;
  readonly bytes: Uint8Array;
  /** Bytes that are done, and those of the piece at hand. */
  done: number;
  piece: number;
  /** How the piece at hand is finished; null where the reply carries nothing. */
  inner: Omit<Completion, 'reply'> | null;
}

const LARGEST_PIECE = 8;
const pieceOf = (rest: number): number => {
  let size = LARGEST_PIECE;
  while (size > rest) size >>>= 1;
  return size;
};

/**
 * Port and memory-mapped accesses that a guest asks for, of any length: each piece is an exit like that of another guest. Data to be written are copied
 * once before the first piece; data read reach the guest together, after the last.
 * @spec GHCB 4.1; Linux arch/x86/kvm/svm/sev.c (sev_es_string_io, kvm_sev_es_mmio_read)
 */
export class Transfers {
  constructor(readonly host: GhcbHost) {}

  /** Moves between a port and RAX. @param size - bytes: 1, 2 or 4. */
  port(frame: GhcbFrame, port: number, size: number, write: boolean): Answer | null {
    const bytes = new Uint8Array(size);
    if (write) for (let i = 0; i < size; i++) bytes[i] = frame.registers[Word.rax]! >>> (8 * i);
    return this.#run(frame, this.#start(frame, 'io', write, port, size, 0, bytes));
  }
  /** Moves elements between a port and scratch memory, whose place was checked. */
  string(frame: GhcbFrame, port: number, size: number, count: number, write: boolean): Answer | null {
    return this.#block(frame, 'io', port, size, size * count, write);
  }
  /** Moves bytes between a device and scratch memory, whose place was checked. */
  memory(frame: GhcbFrame, gpa: number, length: number, write: boolean): Answer | null {
    return this.#block(frame, 'mmio', gpa, 0, length, write);
  }

  #start(frame: GhcbFrame, exit: 'io' | 'mmio', write: boolean, address: number, unit: number, scratch: number, bytes: Uint8Array): Transfer {
    return { frame: frame.save(), exit, write, address, unit, scratch, bytes, done: 0, piece: 0, inner: null };
  }

  #block(frame: GhcbFrame, exit: 'io' | 'mmio', address: number, unit: number, length: number, write: boolean): Answer | null {
    const bytes = new Uint8Array(length);
    const { access } = this.host.snp.machine.memory;
    if (write) {
      const result = access.read(frame.subject, frame.scratch, bytes, 0, length);
      if (result === AccessResult.Ok && access.preempt !== null) access.preempt('fetched');
      if (result !== AccessResult.Ok) return this.#unreachable(frame, result);
    }
    return this.#run(frame, this.#start(frame, exit, write, address, unit, frame.scratch, bytes));
  }

  #unreachable(frame: GhcbFrame, result: AccessResult): Answer | null {
    if (result === AccessResult.Held) {
      frame.takeBack();
      return this.host.held(frame);
    }
    frame.fail(GhcbReason.InvalidScratch);
    return null;
  }

  /** @returns null when all is done and the result is in the frame, or the exit of the next piece. */
  #run(frame: GhcbFrame, t: Transfer): Answer | null {
    const { length } = t.bytes;
    while (t.done < length) {
      t.piece = t.unit === 0 ? pieceOf(length - t.done) : t.unit;
      const answer = this.#exit(frame, t);
      if (answer.kind === 'fault') {
        frame.except(answer.fault.code, answer.fault.errorCode);
        return null;
      }
      if (answer.kind !== 'exit') {
        this.#takePiece(frame, t);
        continue;
      }
      const { payload, completion } = answer;
      t.inner = completion === null ? null : { owner: completion.owner, kind: completion.kind, data: completion.data };
      if (completion === null && t.done + t.piece === length) {
        // Nothing is left to do afterwards.
        frame.registers.set(t.frame.registers);
        this.host.show(frame);
        return frame.plane.context.vp.replies.exit(payload);
      }
      return frame.plane.context.vp.replies.exit(payload, this.host.completion('transfer', { ...t, bytes: t.bytes.slice() }));
    }
    return this.#store(frame, t);
  }

  /** Makes the access of one piece as an exit, with its value in RAX as for any guest. */
  #exit(frame: GhcbFrame, t: Transfer): Answer {
    const records = this.host.behalf.records(frame.plane.context.vp.index);
    let lo = 0;
    let hi = 0;
    if (t.write) {
      for (let i = 0; i < t.piece && i < 4; i++) lo |= t.bytes[t.done + i]! << (8 * i);
      for (let i = 4; i < t.piece; i++) hi |= t.bytes[t.done + i]! << (8 * (i - 4));
    }
    frame.setRegister(Word.rax, 0, 0);
    const write = t.write;
    if (t.exit === 'io') return this.host.behalf.answer(frame, Object.assign(records.io, { key: t.address, write, size: t.piece, value: lo >>> 0 }));
    return this.host.behalf.answer(frame, Object.assign(records.mmio, { key: t.address + t.done, write, size: t.piece, lo: lo >>> 0, hi: hi >>> 0 }));
  }

  /** A piece is done: what was read is in RAX. */
  #takePiece(frame: GhcbFrame, t: Transfer): void {
    if (!t.write) for (let i = 0; i < t.piece; i++) t.bytes[t.done + i] = frame.registers[Word.rax + (i >>> 2)]! >>> (8 * (i & 3));
    t.done += t.piece;
  }

  /** All pieces are done: the guest gets what was read. */
  #store(frame: GhcbFrame, t: Transfer): null {
    frame.registers.set(t.frame.registers);
    if (t.write) return null;
    if (t.scratch === 0) {
      // As a load does: 1 and 2 bytes leave the rest alone, 4 clear the upper half.
      let value = 0;
      for (let i = 0; i < t.bytes.length; i++) value |= t.bytes[i]! << (8 * i);
      const keep = t.bytes.length === 4 ? 0 : -1 << (8 * t.bytes.length);
      frame.setRegister(Word.rax, (frame.registers[Word.rax]! & keep) | value, t.bytes.length === 4 ? 0 : frame.registers[Word.rax + 1]!);
      return null;
    }
    const result = this.host.snp.machine.memory.access.write(frame.subject, t.scratch, t.bytes, 0, t.bytes.length);
    if (result !== AccessResult.Ok) frame.fail(GhcbReason.InvalidScratch);
    return null;
  }

  /** The VMM replied for a piece; the frame is open again. @returns as {@link Transfers.string}. */
  complete(frame: GhcbFrame, completion: Completion): Answer | null {
    const saved: PlainState = completion.data;
    const t: Transfer = { ...(saved as Transfer) };
    Object.assign(t, { bytes: t.bytes.slice() });
    if (t.inner !== null) {
      frame.setRegister(Word.rax, 0, 0);
      this.host.behalf.finish(frame, { ...t.inner, reply: completion.reply });
    }
    this.#takePiece(frame, t);
    return this.#run(frame, t);
  }
}
