import {
  AccessResult, ALL_PLANES, ALL_RIGHTS, Arena, auditMemory, DirtyRing, GuestMemory, HOST, HostError, MAX_PLANES, MemoryFaultInfo, PAGE_LIMIT, Right, Side, StateHash, subject, SubjectKind,
} from '@vmplanes/engine';
import { beforeEach, describe, expect, it } from 'vitest';

const PAGE = 4096;
const { Ok } = AccessResult;
const fresh = (maxPlanes = 3, config: { privateByDefault?: boolean } = {}): GuestMemory => new GuestMemory(new Arena(new ArrayBuffer(66 * PAGE)), { firstByte: 2 * PAGE, frames: 64, maxPlanes, ...config });
const codeOf = (act: () => unknown): string => {
  try {
    act();
    return 'none';
  } catch (error) {
    return error instanceof HostError ? error.code : 'other';
  }
};

let memory = fresh();
beforeEach(() => {
  memory = fresh();
  memory.addSlot({ id: 0, gpa: 0, size: 4 * PAGE, logDirty: true });
});
const u64 = (gpa: number): readonly [number, number] => {
  expect(memory.access.readU64(HOST, gpa)).toBe(Ok);
  return [memory.access.lo >>> 0, memory.access.hi >>> 0];
};

describe('compare and swap', () => {
  const cpu = (): ReturnType<typeof subject> => memory.subjects[1]!.cpu;
  beforeEach(() => {
    memory.access.writeU64(HOST, PAGE + 8, 0x8000_0001, 0x9000_0002);
    memory.access.writeU64(HOST, PAGE + 16, 0x1111_1111, 0x2222_2222);
    memory.dirty.collect(0, new Uint32Array(1));
  });

  it.each<[string, number, readonly [number, number], boolean, readonly [number, number]]>([
    ['8 bytes that match', 8, [0x8000_0001, 0x9000_0002], true, [5, 6]],
    ['8 bytes given as signed numbers', 8, [0x8000_0001 | 0, 0x9000_0002 | 0], true, [5, 6]],
    ['8 bytes of which the low half differs', 8, [0x8000_0000, 0x9000_0002], false, [0x8000_0001, 0x9000_0002]],
    ['8 bytes of which the high half differs', 8, [0x8000_0001, 0x9000_0003], false, [0x8000_0001, 0x9000_0002]],
    ['4 bytes that match', 4, [0x8000_0001, 77], true, [5, 0x9000_0002]],
    ['4 bytes that differ', 4, [0x8000_0002, 0x9000_0002], false, [0x8000_0001, 0x9000_0002]],
  ])('%s', (_name, length, [lo, hi], swapped, after) => {
    expect(memory.access.compareAndSwap(cpu(), PAGE + 8, length, lo, hi, 5, 6)).toBe(Ok);
    expect(memory.access.swapped).toBe(swapped);
    expect([u64(PAGE + 8), u64(PAGE), u64(PAGE + 16)]).toEqual([after, [0, 0], [0x1111_1111, 0x2222_2222]]);
    const bits = new Uint32Array(1);
    memory.dirty.peek(0, bits);
    expect(bits[0]).toBe(swapped ? 2 : 0);
  });

  it.each([Right.Read, Right.Write])('needs right %d', (right) => {
    memory.permissions[1]!.revoke(1, 1, right);
    memory.access.swapped = true;
    expect(memory.access.compareAndSwap(cpu(), PAGE + 8, 8, 0x8000_0001, 0x9000_0002, 5, 6)).toBe(AccessResult.Denied);
    expect([memory.access.missing, memory.access.failedGpa, memory.access.swapped]).toEqual([right, PAGE + 8, false]);
    expect(u64(PAGE + 8)).toEqual([0x8000_0001, 0x9000_0002]);
  });
});

describe('a fault record', () => {
  it.each<[Side, boolean, boolean]>([[Side.Current, false, false], [Side.Current, true, true], [Side.Private, false, true], [Side.Shared, true, false]])('of side %d on a page that is private: %s', (side, isPrivate, expected) => {
    memory.setPrivate(2, 1, isPrivate);
    const who = subject(SubjectKind.Walk, 2, side);
    memory.permissions[2]!.revoke(2, 1, Right.Write);
    const result = memory.access.check(who, 2 * PAGE - 4, 8, Right.Write);
    expect(result).not.toBe(Ok);
    const info = new MemoryFaultInfo();
    memory.access.describe(info, who, result, Right.Write);
    expect(info).toMatchObject({ gpa: side === Side.Current ? 2 * PAGE : info.gpa, access: Right.Write, plane: 2, result, isWalk: true, hasGva: false, gvaLo: 0, gvaHi: 0, instructionLength: 0 });
    if (info.gpa >= 2 * PAGE) expect(info.isPrivate).toBe(expected);
  });
  it('forgets the previous one', () => {
    const info = new MemoryFaultInfo();
    const empty = { ...info };
    expect(Object.values(empty).filter((v) => typeof v === 'number')).toEqual(Array.from({ length: 8 }, () => 0));
    Object.assign(info, { gpa: 1, gvaLo: 2, gvaHi: 3, hasGva: true, access: 4, missing: 5, plane: 6, result: 7, isWalk: true, isPrivate: true, instructionLength: 8 });
    info.clear();
    expect({ ...info }).toEqual(empty);
    expect(info.instruction.length).toBe(16);
  });
});

describe('edges', () => {
  it('an empty access passes anywhere', () => expect(memory.access.check(memory.subjects[0]!.cpu, 2 ** 60, 0, Right.Write)).toBe(Ok));
  it.each([[127], [128], [129], [300]])('copies %d bytes exactly', (length) => {
    const bytes = Uint8Array.from({ length }, (_, i) => 1 + (i % 250));
    expect(memory.access.write(HOST, 10, bytes, 0, length)).toBe(Ok);
    const back = new Uint8Array(length + 2).fill(0xaa);
    expect(memory.access.read(HOST, 10, back, 1, length)).toBe(Ok);
    expect([...back]).toEqual([0xaa, ...bytes, 0xaa]);
    expect(u64(0)).toEqual([0, 0]);
    memory.access.readU8(HOST, 10 + length);
    expect(memory.access.lo).toBe(0);
  });
  it('an access may end with a page', () => {
    memory.permissions[1]!.revoke(1, 1, ALL_RIGHTS);
    expect(memory.access.write(memory.subjects[1]!.cpu, PAGE - 8, new Uint8Array(8), 0, 8)).toBe(Ok);
    expect(memory.access.write(memory.subjects[1]!.cpu, PAGE - 7, new Uint8Array(8), 0, 8)).toBe(AccessResult.Denied);
    expect(memory.access.failedGpa).toBe(PAGE);
  });
  it.each([[0, 'BadConfig'], [1, 'none'], [MAX_PLANES, 'none'], [MAX_PLANES + 1, 'BadConfig'], [1.5, 'BadConfig']])('a machine of %d planes: %s', (planes, code) => expect(codeOf(() => fresh(planes))).toBe(code));
  it('frames may fill the arena to its end', () => {
    const arena = (): Arena => new Arena(new ArrayBuffer(8 * PAGE));
    expect(codeOf(() => new GuestMemory(arena(), { firstByte: 2 * PAGE, frames: 6, maxPlanes: 1 }))).toBe('none');
    expect(codeOf(() => new GuestMemory(arena(), { firstByte: 2 * PAGE, frames: 7, maxPlanes: 1 }))).toBe('NoMemory');
  });
  it('pages are private from the start where the configuration says so', () => {
    expect([fresh(1).isPrivate(3), fresh(1, { privateByDefault: true }).isPrivate(3)]).toEqual([false, true]);
  });
  it('a plane has no right where nothing is', () => {
    expect(memory.effectiveRights(1, 4)).toBe(0);
    expect(memory.effectiveRights(1, 3)).toBe(ALL_RIGHTS);
    memory.addSlot({ id: 1, gpa: 64 * PAGE, size: PAGE, readonly: true });
    expect(memory.effectiveRights(1, 64)).toBe(ALL_RIGHTS & ~Right.Write);
  });
  it.each([-1, 64, 1000, 0.5])('frame %d is not held', (frame) => expect([memory.frames.isHeld(frame), memory.frames.holders(frame)]).toEqual([false, 0]));
  it('private and shared sides of a page are two contents, seen by the audit', () => {
    memory.access.writeU8(HOST, PAGE, 1);
    memory.setPrivate(1, 1, true);
    memory.access.writeU8(HOST, PAGE, 2);
    const sides: (readonly [number, boolean])[] = [];
    [...memory.backings.all][0]!.forEachFrame((page, isPrivate) => sides.push([page, isPrivate]));
    expect(sides.sort()).toEqual([[1, false], [1, true]]);
    expect(auditMemory(memory)).toEqual([]);
    const hash = (): string => {
      const h = new StateHash();
      memory.hashInto(h);
      return `${h.lo} ${h.hi}`;
    };
    const one = hash();
    memory.access.writeU8(HOST, PAGE, 1);
    memory.setPrivate(1, 1, false);
    memory.access.writeU8(HOST, PAGE, 2);
    memory.setPrivate(1, 1, true);
    expect(hash()).not.toBe(one);
  });
  it('slots below and above each other do not meet', () => {
    expect(codeOf(() => memory.addSlot({ id: 1, gpa: 4 * PAGE, size: PAGE }))).toBe('none');
    expect(codeOf(() => memory.addSlot({ id: 2, gpa: 3 * PAGE, size: PAGE }))).toBe('ExistsAlready');
    expect(codeOf(() => memory.addSlot({ id: 2, gpa: PAGE_LIMIT * PAGE - PAGE, size: PAGE }))).toBe('none');
  });
  it.each([1, 31, 32, 33, 60])('a log of %d pages has a bit for each', (pages) => {
    memory.addSlot({ id: 9, gpa: 2 ** 30, size: pages * PAGE, logDirty: true });
    expect(memory.slots.get(9).dirty!.length).toBe(Math.ceil(pages / 32));
  });
});

describe('a dirty ring', () => {
  it('keeps slot and page of each entry, wide pages too, and empties what it frees', () => {
    const ring = new DirtyRing(4, 0);
    const pages = [[1, 5], [2, 0xffff_ffff], [3, 2 ** 33 + 7], [4, 2 ** 39]] as const;
    for (const [slot, page] of pages) expect(ring.push(slot, page)).toBe(true);
    expect(ring.push(5, 5)).toBe(false);
    const seen: (readonly [number, number])[] = [], armed: (readonly [number, number])[] = [];
    expect(ring.collect((slot, page) => seen.push([slot, page]))).toBe(4);
    expect(seen).toEqual(pages);
    expect(ring.reset((slot, page) => armed.push([slot, page]))).toBe(4);
    expect(armed).toEqual(pages);
    expect([...ring.entries].filter((_, i) => i % 4 === 0)).toEqual([0, 0, 0, 0]);
    expect(ring.used).toBe(0);
  });
});

describe('watches', () => {
  const asked: string[] = [];
  beforeEach(() => {
    asked.length = 0;
    for (const id of ['a', 'b']) memory.registerWatcher(id, { accessed: (_frame, who, access) => (asked.push(`${id} ${who.kind} ${access}`), 'allow') });
    memory.access.writeU8(HOST, 0, 1);
  });

  it.each<[string, { read?: boolean; write?: boolean; host?: boolean }, number]>([
    ['a read watch', { read: true }, Right.Read | Right.ExecSupervisor | Right.ExecUser | Right.ShadowStack],
    ['a write watch', { write: true }, Right.Write | Right.ShadowStack],
    ['both', { read: true, write: true }, ALL_RIGHTS],
  ])('%s takes rights from translations', (_name, kinds, rights) => {
    memory.watchFrame(memory.frameAt(0), kinds, 'a');
    expect(memory.watches.guarded(memory.frameAt(0))).toBe(rights);
    expect(memory.unwatchFrame(memory.frameAt(0), kinds, 'a')).toBe(true);
    expect(memory.watches.guarded(memory.frameAt(0))).toBe(0);
  });

  it('ask those that watch such an access, by whom they said', () => {
    const frame = memory.frameAt(0);
    memory.watchFrame(frame, { read: true }, 'a');
    memory.watchFrame(frame, { write: true, host: true }, 'b');
    memory.access.readU8(memory.subjects[1]!.device, 0);
    memory.access.writeU8(memory.subjects[1]!.cpu, 0, 1);
    memory.access.readU8(HOST, 0);
    memory.access.writeU8(HOST, 0, 1);
    expect(asked).toEqual([`a ${SubjectKind.Device} ${Right.Read}`, `b ${SubjectKind.Cpu} ${Right.Write}`, `b ${SubjectKind.Host} ${Right.Write}`]);
  });

  it('are saved by frame', () => {
    for (const page of [3, 1, 2]) {
      memory.access.writeU8(HOST, page * PAGE, 1);
    }
    const frames = [1, 3, 0, 2].map((page) => memory.frameAt(page));
    for (const frame of frames) memory.watchFrame(frame, { read: true }, 'a');
    expect(memory.watches.save().map((w) => w.frame)).toEqual([...frames].sort((x, y) => x - y));
  });

  it('name the unknown watcher before the free frame', () => {
    expect(() => memory.watchFrame(60, { read: true }, 'nobody')).toThrow("no frame watcher 'nobody'");
    expect(() => memory.watchFrame(60, { read: true }, 'a')).toThrow('frame 60 is free');
  });
});

it('subjects stand for whom they say', () => {
  const { cpu, walk, call, device, host } = memory.subjects[2]!;
  expect([cpu, walk, call, device, host].map((s) => [s.kind, s.plane, s.seesOverlays])).toEqual([
    [SubjectKind.Cpu, 2, true], [SubjectKind.Walk, 2, true], [SubjectKind.Call, 2, true], [SubjectKind.Device, 2, false], [SubjectKind.Host, 2, true],
  ]);
  expect([HOST.kind, HOST.plane, HOST.seesOverlays, HOST.side]).toEqual([SubjectKind.Host, ALL_PLANES, false, Side.Current]);
});
