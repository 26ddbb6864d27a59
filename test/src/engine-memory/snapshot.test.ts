import { ALL_RIGHTS, auditMemory, type GuestMemory, HOST, HostError, MEMORY_STATE_VERSION, Right, StateHash } from '@vmplanes/engine';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { memoryOf, PAGE, pattern } from './fixture.ts';

const nat = fc.nat(1000);
const step = fc.record({
  op: fc.constantFrom('write', 'write', 'write', 'read', 'read', 'set', 'grant', 'default', 'private', 'discard', 'overlay', 'unoverlay', 'watch', 'unwatch', 'hold', 'add', 'remove', 'move', 'log', 'collect', 'reset', 'backing'),
  plane: fc.nat(2), page: fc.nat(11), a: nat, b: nat,
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const fresh = (): { memory: GuestMemory; guard: { answer: 'allow' | 'hold' } } => {
  const { memory } = memoryOf({ frames: 40, maxPlanes: 3 });
  const guard = { answer: 'allow' as 'allow' | 'hold' };
  memory.registerWatcher('guard', { accessed: () => guard.answer });
  return { memory, guard };
};
const begin = (): ReturnType<typeof fresh> => {
  const made = fresh();
  made.memory.addSlot({ id: 0, gpa: 0, size: 8 * PAGE, logDirty: true });
  made.memory.dirty.addRing(0, 8, 2);
  return made;
};

/** Does one step and tells what could be seen of it. */
const run = ({ memory, guard }: ReturnType<typeof fresh>, { op, plane, page, a, b }: Step): unknown => {
  const { access } = memory;
  const who = [memory.subjects[plane]!.cpu, memory.subjects[plane]!.device, memory.subjects[plane]!.call, HOST][a % 4]!;
  const bytes = pattern(b % 40, a);
  const gpa = page * PAGE + (a % 3 === 0 ? PAGE - 20 : a % 500);
  memory.dirty.currentVp = b % 2 ? 0 : -1;
  try {
    switch (op) {
      case 'write': {
        const result = access.write(who, gpa, bytes, 0, bytes.length);
        return result && [result, access.failedGpa, access.missing];
      }
      case 'read': {
        const result = access.read(who, gpa, bytes, 0, bytes.length);
        return result ? [result, access.failedGpa, access.missing] : [...bytes];
      }
      case 'set': return memory.permissions[plane]!.set(page, 1 + (b % 5), a & 31);
      case 'grant': return memory.permissions[plane]!.grant(page, 1 + (b % 900), a & 31);
      case 'default': return b % 4 === 0 && memory.permissions[plane]!.setDefault(a & 31);
      case 'private': return memory.setPrivate(page, 1 + (b % 3), a % 2 === 0);
      case 'discard': return memory.discard(page, 1 + (b % 3), a % 2 === 0);
      case 'overlay': {
        const frame = memory.frames.allocate();
        if (frame < 0) return frame;
        const placed = memory.placeOverlay(plane, page, frame, a & 31);
        memory.frames.release(frame);
        return placed;
      }
      case 'unoverlay': return memory.takeOverlay(plane, page);
      case 'watch':
      case 'unwatch': {
        const frame = memory.frameAt(page);
        if (frame < 0) return frame;
        const kinds = { read: a % 2 === 0, write: true, host: b % 2 === 0 };
        return op === 'watch' ? memory.watchFrame(frame, kinds, 'guard') : memory.unwatchFrame(frame, kinds, 'guard');
      }
      case 'hold': return (guard.answer = a % 3 ? 'allow' : 'hold');
      case 'add': return memory.addSlot({ id: a % 4, gpa: page * PAGE, size: (1 + (b % 4)) * PAGE, readonly: b % 3 === 0, logDirty: b % 2 === 0 }).first;
      case 'remove': return memory.removeSlot(a % 4);
      case 'move': return memory.moveSlot(a % 4, page * PAGE);
      case 'log': return memory.logDirty(a % 4, b % 2 === 0);
      case 'collect': {
        const bits = new Uint32Array(1);
        return [memory.dirty.collect(a % 4, bits), bits[0]];
      }
      case 'reset': {
        const pages: number[] = [];
        memory.dirty.ring(0)!.collect((slot, at) => pages.push(slot, at));
        return [pages, memory.dirty.resetRings()];
      }
      case 'backing': return a % 3 ? memory.createBacking((1 + (b % 2)) * PAGE) : memory.destroyBacking(b % 8);
    }
  } catch (e) {
    if (e instanceof HostError) return e.code;
    throw e;
  }
};
const hash = (memory: GuestMemory): string => {
  const h = new StateHash();
  memory.hashInto(h);
  return `${h.lo},${h.hi}`;
};

describe('snapshot', () => {
  it('restored into a fresh machine goes on as if nothing had happened, and nothing ever breaks', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.array(step, { maxLength: 40 }), (before, after) => {
        const first = begin();
        for (const s of before) {
          run(first, s);
          expect(auditMemory(first.memory)).toEqual([]);
        }
        const state = structuredClone(first.memory.save());
        const second = fresh();
        run(second, { op: 'add', plane: 0, page: 3, a: 3, b: 3 });
        run(second, { op: 'write', plane: 1, page: 3, a: 7, b: 30 });
        second.guard.answer = first.guard.answer;
        second.memory.restore(state);
        expect(second.memory.save()).toEqual(first.memory.save());
        expect(hash(second.memory)).toBe(hash(first.memory));
        expect(auditMemory(second.memory)).toEqual([]);
        for (const s of after) expect(run(second, s)).toEqual(run(first, s));
        expect(second.memory.save()).toEqual(first.memory.save());
        expect(hash(second.memory)).toBe(hash(first.memory));
      }),
      { numRuns: 200 },
    );
  });

  it('is refused by another configuration, another version, and without its watchers', () => {
    const { memory } = begin();
    memory.watchFrame(memory.frameAt(0), { read: true }, 'guard');
    const state = memory.save();
    const code = (act: () => void): string => {
      try {
        act();
        return 'none';
      } catch (e) {
        return e instanceof HostError ? e.code : 'other';
      }
    };
    expect(code(() => fresh().memory.restore({ ...state, version: MEMORY_STATE_VERSION + 1 }))).toBe('BadSnapshot');
    expect(code(() => memoryOf({ frames: 41, maxPlanes: 3 }).memory.restore(state))).toBe('BadSnapshot');
    expect(code(() => memoryOf({ frames: 40, maxPlanes: 2 }).memory.restore(state))).toBe('BadSnapshot');
    expect(code(() => memoryOf({ frames: 40, maxPlanes: 3 }).memory.restore(state))).toBe('BadSnapshot');
    expect(code(() => fresh().memory.restore(state))).toBe('none');
  });

  it('holds the bytes of pages with content only', () => {
    const { memory } = begin();
    memory.access.writeU8(HOST, 0, 1);
    memory.access.writeU8(HOST, PAGE, 0);
    expect(memory.save().frames).toMatchObject({ held: Int32Array.of(0, 1), filled: Int32Array.of(0) });
  });
});

describe('state hash', () => {
  it('is the same for the same content, however it came about', () => {
    const [a, b] = [begin().memory, begin().memory];
    for (const page of [1, 2, 3]) a.access.writeU8(HOST, page * PAGE, page);
    for (const page of [3, 5, 2, 1]) b.access.writeU8(HOST, page * PAGE, page % 5);
    a.access.writeU8(HOST, 5 * PAGE, 0);
    for (const plane of [0, 1]) for (const m of [a, b]) m.permissions[plane]!.set(4, 4, 1);
    b.permissions[0]!.set(4, 2, 7);
    b.permissions[0]!.set(4, 2, 1);
    expect(hash(a)).toBe(hash(b));
  });

  it.each<[string, (m: GuestMemory) => unknown]>([
    ['a byte', (m) => m.access.writeU8(HOST, 4 * PAGE + 5, 1)],
    ['the place of a byte', (m) => m.access.writeU8(HOST, 5 * PAGE + 5, 1)],
    ['a right', (m) => m.permissions[1]!.revoke(9, 1, Right.Write)],
    ['a right of another plane', (m) => m.permissions[2]!.revoke(9, 1, Right.Write)],
    ['a default that changes nothing', (m) => m.permissions[0]!.setDefault(ALL_RIGHTS)],
    ['an attribute', (m) => m.setPrivate(3, 1, true)],
    ['an overlay', (m) => m.placeOverlay(1, 3, m.frameAt(0), 31)],
    ['a watch', (m) => m.watchFrame(m.frameAt(0), { write: true }, 'guard')],
    ['a slot', (m) => m.addSlot({ id: 2, gpa: 0x100000, size: PAGE })],
    ['its place', (m) => m.moveSlot(0, 0x200000)],
    ['a log', (m) => m.logDirty(0, false)],
    ['a page of owners', (m) => m.frames.bytes(m.frames.allocate()).fill(3)],
  ])('changes with %s', (_name, act) => {
    const { memory } = begin();
    memory.logDirty(0, false);
    memory.logDirty(0, _name === 'a log');
    const before = hash(memory);
    act(memory);
    expect(hash(memory)).not.toBe(before);
  });
});
