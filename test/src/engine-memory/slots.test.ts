import { ALL_PLANES, ALL_RIGHTS, Arena, auditMemory, Frames, type GuestMemory, HOST, HostError, type HostErrorCode, NO_FRAME, StateHash } from '@vmplanes/engine';
import { beforeEach, describe, expect, it } from 'vitest';
import { memoryOf, PAGE } from './fixture.ts';

const code = (act: () => unknown): HostErrorCode | 'none' => {
  try {
    act();
  } catch (e) {
    if (e instanceof HostError) return e.code;
    throw e;
  }
  return 'none';
};

let memory: GuestMemory;
const peek = (gpa: number): number => (memory.access.readU8(HOST, gpa) === 0 ? memory.access.lo : -1);
const poke = (gpa: number, value: number): void => void expect(memory.access.writeU8(HOST, gpa, value)).toBe(0);

beforeEach(() => {
  memory = memoryOf().memory;
  memory.addSlot({ id: 1, gpa: 0x10000, size: 8 * PAGE });
  memory.addSlot({ id: 2, gpa: 0x40000, size: 8 * PAGE });
});

describe('slots', () => {
  it.each<[string, HostErrorCode | 'none', () => unknown]>([
    ['the same id', 'ExistsAlready', () => memory.addSlot({ id: 1, gpa: 0x80000, size: PAGE })],
    ['the same place', 'ExistsAlready', () => memory.addSlot({ id: 3, gpa: 0x10000, size: 8 * PAGE })],
    ['its last page in another', 'ExistsAlready', () => memory.addSlot({ id: 3, gpa: 0xf000, size: 2 * PAGE })],
    ['its first page in another', 'ExistsAlready', () => memory.addSlot({ id: 3, gpa: 0x17000, size: 2 * PAGE })],
    ['another inside', 'ExistsAlready', () => memory.addSlot({ id: 3, gpa: 0x3f000, size: 12 * PAGE })],
    ['touching before', 'none', () => memory.addSlot({ id: 3, gpa: 0xf000, size: PAGE })],
    ['touching behind', 'none', () => memory.addSlot({ id: 3, gpa: 0x18000, size: PAGE })],
    ['no size', 'BadRange', () => memory.addSlot({ id: 3, gpa: 0x80000, size: 0 })],
    ['a ragged size', 'BadRange', () => memory.addSlot({ id: 3, gpa: 0x80000, size: PAGE + 1 })],
    ['a ragged address', 'BadRange', () => memory.addSlot({ id: 3, gpa: 0x80010, size: PAGE })],
    ['a negative address', 'BadRange', () => memory.addSlot({ id: 3, gpa: -PAGE, size: 2 * PAGE })],
    ['an end beyond the space', 'BadRange', () => memory.addSlot({ id: 3, gpa: 2 ** 52 - PAGE, size: 2 * PAGE })],
    ['the end of the space', 'none', () => memory.addSlot({ id: 3, gpa: 2 ** 52 - PAGE, size: PAGE })],
    ['more than the frames hold', 'NoMemory', () => memory.addSlot({ id: 3, gpa: 0x80000, size: 49 * PAGE })],
    ['exactly what the frames hold', 'none', () => memory.addSlot({ id: 3, gpa: 0x80000, size: 48 * PAGE })],
    ['unknown memory', 'BadState', () => memory.addSlot({ id: 3, gpa: 0x80000, size: PAGE, backing: 77 })],
    ['memory of another slot', 'BadState', () => memory.addSlot({ id: 3, gpa: 0x80000, size: PAGE, backing: 0 })],
    ['an offset without memory', 'BadRange', () => memory.addSlot({ id: 3, gpa: 0x80000, size: PAGE, backingOffset: PAGE })],
    ['removal of no slot', 'BadState', () => memory.removeSlot(9)],
    ['a move onto another', 'ExistsAlready', () => memory.moveSlot(1, 0x41000)],
    ['a move that overlaps itself', 'none', () => memory.moveSlot(1, 0x11000)],
    ['a log of no slot', 'BadState', () => memory.logDirty(9, true)],
    ['kept memory of no size', 'BadRange', () => memory.createBacking(0)],
    ['kept memory that does not exist', 'BadState', () => memory.destroyBacking(0)],
  ])('%s: %s', (_name, expected, act) => {
    const before = new StateHash();
    memory.hashInto(before);
    expect(code(act)).toBe(expected);
    const after = new StateHash();
    memory.hashInto(after);
    expect([after.lo, after.hi].join() === [before.lo, before.hi].join()).toBe(expected !== 'none');
    expect(auditMemory(memory)).toEqual([]);
  });

  it('are found by page, also after moves, removals and in any order of use', () => {
    memory.addSlot({ id: 3, gpa: 0, size: 2 * PAGE });
    const ids = (): (number | undefined)[] => [0x0, 0x2000, 0x10000, 0x17fff, 0x18000, 0x3ffff, 0x40000, 0x47fff, 0x48000].map((gpa) => memory.slots.find(Math.floor(gpa / PAGE))?.id);
    expect(ids()).toEqual([3, undefined, 1, 1, undefined, undefined, 2, 2, undefined]);
    expect(ids().reverse()).toEqual(ids().reverse());
    memory.moveSlot(1, 0x48000);
    expect(ids()).toEqual([3, undefined, undefined, undefined, undefined, undefined, 2, 2, 1]);
    memory.removeSlot(2);
    expect(ids()).toEqual([3, undefined, undefined, undefined, undefined, undefined, undefined, undefined, 1]);
  });

  it('move with their content and lose it when removed', () => {
    poke(0x10000, 5);
    memory.moveSlot(1, 0x20000);
    expect([peek(0x10000), peek(0x20000)]).toEqual([-1, 5]);
    memory.removeSlot(1);
    memory.addSlot({ id: 1, gpa: 0x20000, size: 8 * PAGE });
    expect(peek(0x20000)).toBe(0);
  });

  it('may show kept memory, several at once, and leave it behind', () => {
    const rom = memory.createBacking(4 * PAGE);
    memory.addSlot({ id: 3, gpa: 0x80000, size: 4 * PAGE, backing: rom });
    memory.addSlot({ id: 4, gpa: 0xc0000, size: 2 * PAGE, backing: rom, backingOffset: 2 * PAGE });
    poke(0xc0001, 9);
    expect(peek(0x82001)).toBe(9);
    expect(code(() => memory.destroyBacking(rom))).toBe('BadState');
    expect(code(() => memory.addSlot({ id: 5, gpa: 0xf0000, size: 2 * PAGE, backing: rom, backingOffset: 3 * PAGE }))).toBe('BadRange');
    memory.removeSlot(3);
    memory.removeSlot(4);
    memory.addSlot({ id: 5, gpa: 0, size: 4 * PAGE, backing: rom });
    expect(peek(0x2001)).toBe(9);
    memory.removeSlot(5);
    memory.destroyBacking(rom);
    expect(memory.frames.spare).toBe(48);
  });

  it('give their frames back, zeroed for the next owner', () => {
    for (let page = 0; page < 8; page++) poke(0x10000 + page * PAGE + 17, 0xff);
    memory.setPrivate(0x10, 8, true);
    poke(0x10000, 0xff);
    expect([memory.frames.free, memory.frames.spare]).toEqual([55, 47]);
    memory.removeSlot(1);
    expect([memory.frames.free, memory.frames.spare]).toEqual([64, 56]);
    for (let i = 0; i < 10; i++) expect(memory.frames.bytes(memory.frames.allocate()).every((b) => b === 0)).toBe(true);
  });

  it('tell observers that old translations are stale', () => {
    const seen: number[][] = [];
    memory.observe({ permissionsChanged: () => {}, translationsRevoked: (...a) => seen.push(a), frameRevoked: (...a) => seen.push(a) });
    memory.moveSlot(1, 0);
    memory.removeSlot(1);
    poke(0x40000, 1);
    const frame = memory.frameAt(0x40);
    memory.discard(0x3f, 100, false);
    memory.setPrivate(0x40, 1, true);
    expect(seen).toEqual([
      [ALL_PLANES, 0x10, 8, ALL_RIGHTS],
      [ALL_PLANES, 0, 8, ALL_RIGHTS],
      [ALL_PLANES, 0, 8, ALL_RIGHTS],
      [frame, ALL_RIGHTS],
      [ALL_PLANES, 0x40, 1, ALL_RIGHTS],
    ]);
  });
});

describe('frames', () => {
  it.each<[string, HostErrorCode, number, number]>([
    ['more frames than the buffer has', 'NoMemory', 0, 17],
    ['a start that leaves too few', 'NoMemory', PAGE, 16],
    ['a ragged start', 'BadRange', 100, 1],
    ['a negative start', 'BadRange', -PAGE, 1],
    ['no frames', 'BadRange', 0, 0],
    ['half a frame', 'BadRange', 0, 1.5],
  ])('refuse %s: %s', (_name, expected, firstByte, count) => expect(code(() => new Frames(new Arena(new ArrayBuffer(16 * PAGE)), firstByte, count))).toBe(expected));

  it('name what does not fit', () => {
    expect(() => memory.addSlot({ id: 3, gpa: 0x80000, size: 50 * PAGE })).toThrow('memory of 50 pages: needs 50 frames, 48 of 64 are left');
  });

  it('give out the lowest free one, up to what is promised to pages', () => {
    const { frames } = memoryOf({ frames: 6 }).memory;
    frames.promise(2, 'x');
    expect([1, 2, 3, 4, 5].map(() => frames.allocate())).toEqual([0, 1, 2, 3, NO_FRAME]);
    expect(frames.allocate(true)).toBe(4);
    frames.release(1);
    frames.retain(3);
    frames.release(3);
    expect(frames.allocate()).toBe(1);
    expect([frames.isHeld(3), frames.isHeld(5), frames.isHeld(-1), frames.isHeld(6)]).toEqual([true, false, false, false]);
    expect(frames.frameAt(frames.byteOf(4) + 4095)).toBe(4);
  });

  it('of promised pages never run out; both sides of a page may', () => {
    memory = memoryOf({ frames: 4 }).memory;
    memory.addSlot({ id: 0, gpa: 0, size: 3 * PAGE });
    expect(memory.frames.allocate()).toBe(0);
    expect(memory.frames.allocate()).toBe(NO_FRAME);
    for (let page = 0; page < 3; page++) poke(page * PAGE, 1);
    memory.setPrivate(0, 1, true);
    expect(memory.access.writeU8(HOST, 0, 2)).toBe(6);
    memory.discard(0, 1, false);
    poke(0, 2);
    expect(auditMemory(memory)).toEqual([]);
  });

  it('may be overcommitted where the configuration says so', () => {
    memory = memoryOf({ frames: 2, overcommit: true }).memory;
    memory.addSlot({ id: 0, gpa: 0, size: 1000 * PAGE });
    poke(0, 1);
    poke(999 * PAGE, 1);
    expect(memory.access.writeU8(memory.subjects[0]!.cpu, PAGE, 1)).toBe(6);
    expect(code(() => memory.addSlot({ id: 1, gpa: 2 ** 40, size: 2 ** 45 }))).toBe('NoMemory');
  });

  it.each([0, 17, 1.5])('refuse %d planes', (maxPlanes) => expect(code(() => memoryOf({ maxPlanes }))).toBe('BadConfig'));
});
