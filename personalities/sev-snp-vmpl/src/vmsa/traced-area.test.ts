import { type Accessor, Arena } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { TracedArea } from './traced-area.ts';

const PAGE = 0x1000;
/** Registers end before the branch records at 0x670. @spec APM vol. 2, Table B-4 */
const USED = 0x670;
type Read = readonly [plane: number, gpa: number, bytes: readonly number[]];

class Recorder {
  readonly arena = new Arena(new ArrayBuffer(3 * PAGE));
  readonly area = new TracedArea();
  readonly reads: Read[] = [];
  /** Answers a read from a trace. */
  answer: ((gpa: number, bytes: Uint8Array) => void) | null = null;
  readonly port = {
    onCallRead: (plane: number, gpa: number, bytes: Uint8Array, at: number, length: number) => {
      this.answer?.(gpa, bytes);
      this.reads.push([plane, gpa, [...bytes.subarray(at, at + length)]]);
    },
  } as object as Accessor;
  enter(): readonly Read[] {
    this.reads.length = 0;
    this.area.entering(this.arena, PAGE, this.port, 2, 0x5000);
    return this.reads;
  }
}
const bitmapOf = (...words: readonly number[]): number[] => {
  const bytes = new Array<number>(26).fill(0);
  for (const w of words) bytes[w >> 3]! |= 1 << (w & 7);
  return bytes;
};

describe('a save area in a trace', () => {
  it('an empty area tells nothing but that no word changed', () => {
    expect(new Recorder().enter()).toEqual([[2, 0x5000, bitmapOf()]]);
  });
  it('tells the words that changed, the first and the last among them, and nothing behind them', () => {
    const r = new Recorder();
    r.arena.u8[PAGE] = 1;
    r.arena.u8[PAGE + 15] = 2;
    r.arena.u8[PAGE + USED - 1] = 3;
    r.arena.u8[PAGE + USED] = 4;
    r.arena.u8[PAGE - 1] = 5;
    expect(r.enter()).toEqual([
      [2, 0x5000, bitmapOf(0, 1, 205)],
      [2, 0x5000, [1, 0, 0, 0, 0, 0, 0, 0]],
      [2, 0x5008, [0, 0, 0, 0, 0, 0, 0, 2]],
      [2, 0x5000 + 205 * 8, [0, 0, 0, 0, 0, 0, 0, 3]],
    ]);
  });
  it('tells only what changed since its processor left, and all of it when it begins anew', () => {
    const r = new Recorder();
    r.arena.u8[PAGE + 64] = 7;
    r.area.left(r.arena, PAGE);
    expect(r.enter()).toEqual([[2, 0x5000, bitmapOf()]]);
    r.arena.u8[PAGE + 64] = 0;
    expect(r.enter()).toEqual([[2, 0x5000, bitmapOf(8)], [2, 0x5040, [0, 0, 0, 0, 0, 0, 0, 0]]]);
    r.arena.u8[PAGE + 64] = 7;
    r.area.forget();
    expect(r.enter()).toEqual([[2, 0x5000, bitmapOf(8)], [2, 0x5040, [7, 0, 0, 0, 0, 0, 0, 0]]]);
    r.area.left(r.arena, PAGE);
    r.arena.u8[PAGE + USED - 8] = 1;
    r.area.left(r.arena, PAGE);
    expect(r.enter()).toHaveLength(1);
  });
  it('a replay gives the bytes, and memory gets them', () => {
    const r = new Recorder();
    r.answer = (gpa, bytes) => {
      if (bytes.length === 26) bytes.set(bitmapOf(3, 8));
      else bytes.fill(gpa & 0xff);
    };
    expect(r.enter().slice(1)).toEqual([[2, 0x5018, new Array(8).fill(0x18)], [2, 0x5040, new Array(8).fill(0x40)]]);
    expect([...r.arena.u8.subarray(PAGE + 0x10, PAGE + 0x28)]).toEqual([...new Array(8).fill(0), ...new Array(8).fill(0x18), ...new Array(8).fill(0)].slice(0, 24));
    expect([...r.arena.u8.subarray(PAGE + 0x40, PAGE + 0x48)]).toEqual(new Array(8).fill(0x40));
  });
  it('nothing is told when nobody listens', () => {
    const r = new Recorder();
    r.arena.u8[PAGE] = 1;
    r.area.entering(r.arena, PAGE, { onCallRead: null } as object as Accessor, 2, 0x5000);
    expect(r.reads).toEqual([]);
  });
});
