import { HostError } from '../errors.ts';
import type { Frames } from './frames.ts';
import { ALL_RIGHTS, EXEC_RIGHTS, Right, type Rights } from './permissions.ts';
import { type Subject, SubjectKind } from './subject.ts';

/** What a watcher says to an access: let it pass, or make the accessor wait. */
export type WatchAnswer = 'allow' | 'hold';

/** Guards frames: told of accesses before a byte moves, after permissions allowed them. */
export interface FrameWatcher {
  /**
   * @param access - rights the access needs. @param subject - who accesses; borrowed.
   * @returns 'hold' to let the accessor wait. Asked of the host only to tell it: its answer then has no effect.
   */
  accessed(frame: number, subject: Subject, access: Rights): WatchAnswer;
}

/** Which accesses to a frame a watcher is told of. */
export interface WatchKinds {
  /** Reads and fetches. */
  readonly read?: boolean;
  readonly write?: boolean;
  /** Also those of the host; default false, so that an owner may touch its own frame. */
  readonly host?: boolean;
}

/** One saved watch. */
export interface WatchState {
  readonly frame: number;
  readonly watcherId: string;
  readonly marks: number;
  readonly count: number;
}

const Mark = { Read: 1, Write: 2, Host: 4 } as const;
interface Watch {
  readonly watcherId: string;
  readonly marks: number;
  /** How often this watcher asked for the same. */
  count: number;
}

/** All frame watches of a machine. A frame without a watch costs an access one byte read. */
export class Watches {
  /** Union of the marks of a frame's watches; zero for nearly all frames. */
  readonly #marks: Uint8Array;
  readonly #frames: Frames;
  readonly #byFrame = new Map<number, Watch[]>();
  readonly #watchers = new Map<string, FrameWatcher>();
  /** The watcher that held the last access, or null. */
  heldBy: string | null = null;

  constructor(frames: Frames) {
    this.#frames = frames;
    this.#marks = new Uint8Array(frames.count);
  }

  /** Names a watcher, so that a snapshot can name it. @throws {HostError} ExistsAlready when the name is taken. */
  register(watcherId: string, watcher: FrameWatcher): void {
    if (this.#watchers.has(watcherId)) throw new HostError('ExistsAlready', `frame watcher '${watcherId}' is registered already`);
    this.#watchers.set(watcherId, watcher);
  }

  /**
   * Guards a frame; the watch holds the frame. Owners watch independently, and the same watch twice counts.
   * @throws {HostError} BadState when the watcher is not registered or nobody holds the frame.
   */
  add(frame: number, kinds: WatchKinds, watcherId: string): void {
    if (!this.#watchers.has(watcherId)) throw new HostError('BadState', `no frame watcher '${watcherId}'`);
    if (!this.#frames.isHeld(frame)) throw new HostError('BadState', `frame ${frame} is free: nothing to watch`);
    const marks = marksOf(kinds);
    if (marks === 0) throw new HostError('BadConfig', `frame watcher '${watcherId}': neither read nor write`);
    const watches = this.#byFrame.get(frame) ?? [];
    this.#byFrame.set(frame, watches);
    const same = watches.find((w) => w.watcherId === watcherId && w.marks === marks);
    if (same) same.count++;
    else watches.push({ watcherId, marks, count: 1 });
    this.#marks[frame]! |= marks;
    this.#frames.retain(frame);
  }

  /** Takes one watch back. @returns false when there was none of this watcher with these kinds. */
  remove(frame: number, kinds: WatchKinds, watcherId: string): boolean {
    const marks = marksOf(kinds);
    const watches = this.#byFrame.get(frame);
    const found = watches?.findIndex((w) => w.watcherId === watcherId && w.marks === marks) ?? -1;
    if (!watches || found < 0) return false;
    if (--watches[found]!.count === 0) watches.splice(found, 1);
    if (watches.length === 0) this.#byFrame.delete(frame);
    this.#marks[frame] = watches.reduce((all, w) => all | w.marks, 0);
    this.#frames.release(frame);
    return true;
  }

  /** Rights that a cached translation of the frame must not carry, because such accesses have to be seen. */
  guarded(frame: number): Rights {
    const marks = this.#marks[frame]!;
    if (marks === 0) return 0;
    return (marks & Mark.Read ? Right.Read | EXEC_RIGHTS | Right.ShadowStack : 0) | (marks & Mark.Write ? Right.Write | Right.ShadowStack : 0);
  }

  /** Tells the watchers of a frame of an access. @returns false when one of them holds it; the rest is not asked then. */
  pass(frame: number, subject: Subject, access: Rights): boolean {
    const marks = this.#marks[frame]!;
    if (marks === 0) return true;
    const isHost = subject.kind === SubjectKind.Host;
    if (isHost && (marks & Mark.Host) === 0) return true;
    const wanted = (access & Right.Write ? Mark.Write : 0) | (access & (ALL_RIGHTS & ~Right.Write) ? Mark.Read : 0);
    if ((marks & wanted) === 0) return true;
    for (const w of [...this.#byFrame.get(frame)!]) {
      if ((w.marks & wanted) === 0 || (isHost && (w.marks & Mark.Host) === 0)) continue;
      if (this.#watchers.get(w.watcherId)!.accessed(frame, subject, access) === 'hold' && !isHost) {
        this.heldBy = w.watcherId;
        return false;
      }
    }
    return true;
  }

  save(): WatchState[] {
    const frames = [...this.#byFrame.keys()].sort((a, b) => a - b);
    return frames.flatMap((frame) => this.#byFrame.get(frame)!.map((w) => ({ frame, ...w })));
  }

  /** Replaces all watches; the holders of their frames were restored before. @throws {HostError} BadSnapshot when a watcher is not registered here. */
  restore(rows: readonly WatchState[]): void {
    this.#marks.fill(0);
    this.#byFrame.clear();
    for (const { frame, watcherId, marks, count } of rows) {
      if (!this.#watchers.has(watcherId)) throw new HostError('BadSnapshot', `the snapshot has watches of '${watcherId}', which is not registered here`);
      const watches = this.#byFrame.get(frame) ?? [];
      watches.push({ watcherId, marks, count });
      this.#byFrame.set(frame, watches);
      this.#marks[frame]! |= marks;
    }
  }
}

const marksOf = (kinds: WatchKinds): number => {
  const marks = (kinds.read ? Mark.Read : 0) | (kinds.write ? Mark.Write : 0);
  return marks === 0 ? 0 : marks | (kinds.host ? Mark.Host : 0);
};
