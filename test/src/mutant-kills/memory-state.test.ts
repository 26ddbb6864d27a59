import { AccessResult, ALL_PLANES, ALL_RIGHTS, auditMemory, type GuestMemory, HOST, HostError, type MemoryState, NO_FRAME, PAGE_LIMIT, PageTree, Right, Side, StateHash, subject, SubjectKind } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { memoryOf, PAGE, pattern } from '../engine-memory/fixture.ts';

const { Ok, Absent, Denied, Held } = AccessResult;
const hashOf = (memory: GuestMemory): string => {
  const hash = new StateHash();
  memory.hashInto(hash);
  return `${hash.lo} ${hash.hi}`;
};
/** A state with its bytes as text, which compares quickly. */
const plain = ({ frames, ...rest }: MemoryState): unknown => ({ ...rest, frames: { ...frames, content: Buffer.from(frames.content).toString('latin1') } });
const codeOf = (act: () => unknown): string => {
  try {
    act();
    return 'none';
  } catch (error) {
    return error instanceof HostError ? error.code : String(error);
  }
};
const build = (frames = 48): GuestMemory => {
  const { memory } = memoryOf({ frames, maxPlanes: 3 });
  memory.registerWatcher('a', { accessed: () => 'allow' });
  memory.registerWatcher('b', { accessed: () => 'allow' });
  return memory;
};
/** A frame of an owner with one byte in it. */
const owned = (memory: GuestMemory, byte: number): number => {
  const frame = memory.frames.allocate();
  memory.frames.bytes(frame)[7] = byte;
  return frame;
};

type Act = (memory: GuestMemory) => void;
const slot: Act = (m) => void m.addSlot({ id: 1, gpa: 0, size: 4 * PAGE });
const all = (...acts: readonly Act[]): Act => (m) => acts.forEach((act) => act(m));
const overlay = (gpn: number, ignores = false, rights: number = Right.Read, byte = 1): Act => (m) => void m.placeOverlay(1, gpn, owned(m, byte), rights, ignores);
const watch = (frame: number, kinds: { read?: boolean; write?: boolean }, who: string, times = 1): Act =>
  all(slot, (m) => {
    for (let page = 0; page < 2; page++) m.frameAt(page);
    for (let i = 0; i < times; i++) m.watchFrame(frame, kinds, who);
  });
const ring = (vp: number, pages: readonly number[]): Act =>
  all((m) => void m.addSlot({ id: 1, gpa: 0, size: 4 * PAGE, logDirty: true }), (m) => {
    m.dirty.addRing(vp, 8, 2);
    m.dirty.currentVp = vp;
    for (const page of pages) m.access.writeU8(m.subjects[0]!.cpu, page * PAGE, 0);
    m.dirty.currentVp = -1;
    const bits = new Uint32Array(1);
    m.dirty.collect(1, bits);
  });
const kept = (shows: readonly (readonly [memory: number, page: number])[]): Act =>
  (m) => {
    m.createBacking(4 * PAGE);
    m.createBacking(4 * PAGE);
    shows.forEach(([backing, page], i) => m.addSlot({ id: i, gpa: i * 4 * PAGE, size: 2 * PAGE, backing, backingOffset: page * PAGE }));
  };

describe('two memories that differ in one thing hash differently', () => {
  it.each<[string, readonly Act[]]>([
    ['the number of a slot', [slot, (m) => void m.addSlot({ id: 2, gpa: 0, size: 4 * PAGE })]],
    ['read-only and logging', [slot, (m) => void m.addSlot({ id: 1, gpa: 0, size: 4 * PAGE, readonly: true }), (m) => void m.addSlot({ id: 1, gpa: 0, size: 4 * PAGE, logDirty: true }), (m) => void m.addSlot({ id: 1, gpa: 0, size: 4 * PAGE, readonly: true, logDirty: true })]],
    ['the memory that slots show', [kept([[0, 0], [1, 0]]), kept([[0, 0], [0, 0]]), kept([[1, 0], [0, 0]]), kept([[0, 0], [1, 1]]), kept([[0, 2], [1, 0]])]],
    ['the page of an overlay, its rights, whether the table counts, its bytes', [overlay(5), overlay(6), overlay(5, true), overlay(5, false, 3), overlay(5, false, Right.Read, 2)]],
    ['whether overlays show one frame', [
      (m) => {
        const frame = owned(m, 1);
        for (const gpn of [5, 6]) m.placeOverlay(1, gpn, frame, 1);
      },
      all(overlay(5), overlay(6)),
    ]],
    ['the page under an overlay', [
      all(slot, (m) => void m.placeOverlay(1, 9, m.frameAt(0), 1), (m) => void m.frameAt(1)),
      all(slot, (m) => void m.placeOverlay(1, 9, m.frameAt(1), 1), (m) => void m.frameAt(0)),
      all(slot, (m) => void [m.frameAt(0), m.frameAt(1)], (m) => void m.placeOverlay(1, 9, m.frames.allocate(), 1)),
    ]],
    ['bytes that only an owner holds, and in which of its frames', [(m) => void owned(m, 1), (m) => void owned(m, 2), (m) => void [m.frames.allocate(), owned(m, 1)]]],
    ['who watches what, how, how often', [watch(0, { read: true }, 'a'), watch(1, { read: true }, 'a'), watch(0, { write: true }, 'a'), watch(0, { read: true, write: true }, 'a'), watch(0, { read: true }, 'b'), watch(0, { read: true }, 'a', 2), watch(0, { read: true }, 'a', 3)]],
    ['private pages', [slot, all(slot, (m) => void m.setPrivate(0, 1, true)), all(slot, (m) => void m.setPrivate(1, 1, true)), all(slot, (m) => void m.setPrivate(0, 2, true))]],
    ['rights of a plane', [slot, all(slot, (m) => void m.permissions[0]!.set(0, 1, 3)), all(slot, (m) => void m.permissions[1]!.set(0, 1, 3)), all(slot, (m) => void m.permissions[0]!.set(0, 1, 1)), all(slot, (m) => void m.permissions[0]!.set(0, 2, 3))]],
    ['whether a default was given', [slot, all(slot, (m) => void m.permissions[0]!.setDefault(ALL_RIGHTS))]],
    ['the ring of a VP and its entries', [ring(0, []), ring(1, []), ring(0, [1]), ring(0, [2]), ring(0, [1, 2]), ring(0, [1, 3]), ring(0, [1, 2, 3])]],
  ])('%s', (_name, acts) => {
    const hashes = acts.map((act) => {
      const memory = build();
      act(memory);
      expect(auditMemory(memory)).toEqual([]);
      return hashOf(memory);
    });
    expect(new Set(hashes).size).toBe(acts.length);
  });

  it('but not when frames were given out in another order, or a page of zeros is backed', () => {
    const [one, other] = [build(), build()];
    slot(one);
    slot(other);
    for (const [memory, order] of [[one, [0, 1, 2]], [other, [2, 1, 0]]] as const) for (const page of order) memory.access.writeU8(HOST, page * PAGE, page);
    for (const memory of [one, other]) for (const page of [1, 2]) memory.watchFrame(memory.frameAt(page), { read: true }, 'a');
    one.placeOverlay(1, 7, one.frameAt(1), 1);
    other.placeOverlay(1, 7, other.frameAt(1), 1);
    other.frameAt(3);
    expect(hashOf(other)).toBe(hashOf(one));
  });
});

describe('a restored memory', () => {
  /** Something of everything, so that nothing of it may stay when another state is taken over. */
  const full = (): GuestMemory => {
    const m = build();
    m.createBacking(2 * PAGE);
    m.addSlot({ id: 3, gpa: 0, size: 8 * PAGE, logDirty: true });
    m.addSlot({ id: 4, gpa: 16 * PAGE, size: 2 * PAGE, backing: 0 });
    m.setPrivate(2, 3, true);
    for (let page = 0; page < 6; page++) m.access.write(HOST, page * PAGE, pattern(40, page), 0, 40);
    m.placeOverlay(0, 3, owned(m, 9), 7);
    m.placeOverlay(2, 30, owned(m, 8), 5, true);
    m.watchFrame(m.frameAt(1), { write: true, host: true }, 'a');
    m.permissions[1]!.setDefault(9);
    m.permissions[1]!.set(4, 5, 3);
    m.dirty.addRing(0, 8, 2);
    m.dirty.addRing(2, 16, 3);
    return m;
  };
  const little = (): GuestMemory => {
    const m = build();
    m.addSlot({ id: 9, gpa: 4 * PAGE, size: 3 * PAGE });
    m.access.writeU8(HOST, 5 * PAGE, 0x5a);
    m.setPrivate(6, 1, true);
    m.access.writeU8(HOST, 6 * PAGE, 0x6b);
    return m;
  };

  it.each([['little over much', little, full], ['much over little', full, little], ['much over nothing', full, build]])('is the saved one: %s', (_name, from, into) => {
    const source = from(), target = into();
    const state = source.save();
    target.restore(structuredClone(state));
    expect(auditMemory(target)).toEqual([]);
    expect(plain(target.save())).toEqual(plain(state));
    expect(hashOf(target)).toBe(hashOf(source));
    expect([target.frames.free, target.frames.promised, target.frames.spare]).toEqual([source.frames.free, source.frames.promised, source.frames.spare]);
    expect([...target.backings.all].map((b) => [b.id, b.pages, b.windows, b.isKept])).toEqual([...source.backings.all].map((b) => [b.id, b.pages, b.windows, b.isKept]));
    // What comes next is the same, too: the next slot, the next frame, and pages used for the first time.
    for (const memory of [source, target]) {
      expect(memory.slots.byId(3) === null || memory.slots.byId(3) === undefined).toBe(from === little);
      memory.addSlot({ id: 20, gpa: 64 * PAGE, size: PAGE });
      expect(memory.access.writeU8(HOST, 64 * PAGE, 1)).toBe(Ok);
      expect(memory.access.writeU8(HOST, (from === little ? 4 : 7) * PAGE, 1)).toBe(Ok);
    }
    expect(target.frames.allocate()).toBe(source.frames.allocate());
    expect([target.frames.free, target.frames.promised]).toEqual([source.frames.free, source.frames.promised]);
    expect(plain(target.save())).toEqual(plain(source.save()));
  });

  it('names its version, then its size', () => {
    const state = build().save();
    expect(state.version).toBe(1);
    expect(() => build().restore({ ...state, version: 2, frameCount: 1 })).toThrow('version 2');
    expect(codeOf(() => build().restore({ ...state, frameCount: 47 }))).toBe('BadSnapshot');
    expect(codeOf(() => build().restore({ ...state, permissions: state.permissions.slice(1) }))).toBe('BadSnapshot');
  });

  it.each<[string, readonly number[]]>([['empty', []], ['of one number', [0]], ['of an odd count', [0, 1, 5]], ['not from page 0', [1, 31]]])('refuses permission rows %s', (_name, rows) => {
    const state = build().save();
    const permissions = [{ ...state.permissions[0]!, rows: Float64Array.from(rows) }, ...state.permissions.slice(1)];
    expect(codeOf(() => build().restore({ ...state, permissions }))).toBe('BadSnapshot');
  });
});

describe('the audit', () => {
  const sound = (): GuestMemory => {
    const m = build();
    m.createBacking(2 * PAGE);
    m.addSlot({ id: 0, gpa: 0, size: 4 * PAGE });
    m.addSlot({ id: 1, gpa: 8 * PAGE, size: 2 * PAGE });
    for (const page of [0, 1, 8]) m.frameAt(page);
    m.placeOverlay(1, 20, m.frameAt(0), Right.Read);
    m.watchFrame(m.frameAt(1), { read: true }, 'a');
    return m;
  };
  const remade = (change: (state: MemoryState) => MemoryState): GuestMemory => {
    const m = build();
    m.restore(change(structuredClone(sound().save())));
    return m;
  };
  const backingOf = (m: GuestMemory, id: number) => [...m.backings.all].find((b) => b.id === id)!;

  it('finds nothing in a sound memory', () => expect(auditMemory(sound())).toEqual([]));

  it.each<[string, () => GuestMemory, RegExp]>([
    ['a wrong count of slots', () => {
      const m = sound();
      backingOf(m, 1).windows++;
      return m;
    }, /^memory 1: counts 2 slots, 1 show it$/],
    ['memory that nobody keeps', () => remade((s) => ({ ...s, backings: { ...s.backings, backings: s.backings.backings.map((b) => ({ ...b, isKept: false })) } })), /^memory 0: no slot shows it and nobody keeps it$/],
    ['two pages with one frame', () => remade((s) => {
      s.backings.backings[1]!.shared[2] = s.backings.backings[1]!.shared[0]!;
      return s;
    }), /^memory 1: page 2 \(shared\) owns frame 0, and so does another page$/],
    ['a frame used more than it is held', () => {
      const m = sound();
      m.frames.release(m.frameAt(1));
      return m;
    }, /^frame 1: used 2 times, held 1 times$/],
    ['an overlay without its hold', () => {
      const m = sound();
      m.frames.release(m.frameAt(0));
      return m;
    }, /^frame 0: used 2 times, held 1 times$/],
    ['a frame that is free and held', () => {
      const m = sound();
      m.frames.release(40);
      return m;
    }, /^frames: \d+ held and \d+ free of 48$/],
    ['a promise too many', () => {
      const m = sound();
      m.frames.restorePromise(1);
      return m;
    }, /^frames: 6 promised, 5 pages wait for one$/],
    ['slots that overlap', () => remade((s) => ({ ...s, slots: s.slots.map((one) => (one.id === 1 ? { ...one, first: 3 } : one)) })), /^slots 0 and 1 overlap$/],
    ['an overlay without an owner', () => remade((s) => ({ ...s, overlays: s.overlays.map((o) => o.map((one) => ({ ...one, owners: 0 }))) })), /^plane 1: overlay at page 0x14 has no owner$/],
    ['overlays out of order', () => remade((s) => ({ ...s, overlays: s.overlays.map((o) => o.flatMap((one) => [one, one])) })), /^plane 1: overlay at page 0x14 is out of order$/],
  ])('finds %s', (_name, make, sentence) => expect(auditMemory(make())).toContainEqual(expect.stringMatching(sentence)));
});

describe('ranges that meet the borders of tree nodes', () => {
  const borders = [0, 1, 63, 64, 65, 4095, 4096, 4097, 2 ** 18 - 1, 2 ** 18, 2 ** 18 + 1, 2 ** 24 - 1, 2 ** 24, 2 ** 30 - 1, 2 ** 30, 2 ** 36 - 1, 2 ** 36, 2 ** 36 + 1, PAGE_LIMIT - 65, PAGE_LIMIT - 64, PAGE_LIMIT - 1, PAGE_LIMIT];

  it('read as they were written, to the page', () => {
    for (const [i, first] of borders.entries()) {
      for (const end of borders.slice(i + 1)) {
        const tree = new PageTree(9);
        expect(tree.set(first, end - first, 5)).toBe(true);
        expect([first > 0 ? tree.get(first - 1) : 9, tree.get(first), tree.get(end - 1), end < PAGE_LIMIT ? tree.get(end) : 9]).toEqual([9, 5, 5, 9]);
        expect([tree.runEnd(first), tree.removed, tree.added, tree.generation]).toEqual([end, 8, 4, 1]);
        expect([...tree.save()]).toEqual([...(first > 0 ? [0, 9] : []), first, 5, ...(end < PAGE_LIMIT ? [end, 9] : [])]);
        expect([tree.set(first, end - first, 5), tree.generation]).toEqual([false, 1]);
        const copy = new PageTree(0);
        copy.set(64, 64, 3);
        copy.restore(tree.save());
        expect([...copy.save()]).toEqual([...tree.save()]);
        expect(copy.size).toBe(tree.size);
        // Taken back, the tree is one entry again.
        tree.set(first, end - first, 9);
        expect([tree.size, tree.depth(first), ...tree.save()]).toEqual([0, 0, 0, 9]);
      }
    }
  });

  it('keep their neighbours when one page in the middle changes', () => {
    const tree = new PageTree(1);
    tree.set(4096, 4096, 2);
    tree.set(4096 + 64, 1, 3);
    tree.set(4096 + 127, 1, 4);
    expect([...tree.save()]).toEqual([0, 1, 4096, 2, 4160, 3, 4161, 2, 4223, 4, 4224, 2, 8192, 1]);
    tree.set(4160, 64, 2);
    expect([...tree.save()]).toEqual([0, 1, 4096, 2, 8192, 1]);
  });

  it('hold thousands of nodes, each at its place', () => {
    const tree = new PageTree(0);
    for (let i = 0; i < 200; i++) tree.set(i * 4096 + i, 1, (i % 30) + 1);
    for (let i = 0; i < 200; i++) expect([tree.get(i * 4096 + i - (i > 0 ? 1 : -1)), tree.get(i * 4096 + i)]).toEqual([0, (i % 30) + 1]);
  });
});

describe('the ends of an access', () => {
  const TOP = 2 ** 52;
  const memory = (): GuestMemory => {
    const m = build();
    m.addSlot({ id: 0, gpa: TOP - 2 * PAGE, size: 2 * PAGE });
    return m;
  };
  it.each<[string, number, number, number]>([
    ['the last byte', TOP - 1, 1, Ok],
    ['the last page', TOP - PAGE, PAGE, Ok],
    ['a byte beyond', TOP - 4, 5, Absent],
    ['the byte behind the end', TOP, 1, Absent],
    ['nothing behind the end', TOP, 0, Ok],
    ['a negative address', -1, 1, Absent],
    ['nothing at a negative address', -1, 0, Ok],
    ['far beyond', 2 ** 53, 1, Absent],
  ])('%s', (_name, gpa, length, result) => {
    const m = memory();
    expect(m.access.check(m.subjects[0]!.cpu, gpa, length, Right.Read)).toBe(result);
    if (result === Absent) expect([m.access.failedGpa, m.access.missing]).toEqual([gpa, 0]);
  });

  it('stores no more bytes than were asked for', () => {
    const m = build();
    m.addSlot({ id: 0, gpa: 0, size: PAGE });
    const who = m.subjects[0]!.cpu;
    for (const [length, store] of [[1, () => m.access.writeU8(who, 16, 0x11)], [2, () => m.access.writeU16(who, 16, 0x1111)], [4, () => m.access.writeU32(who, 16, 0x1111_1111)], [8, () => m.access.writeU64(who, 16, 0x1111_1111, 0x1111_1111)]] as const) {
      m.access.write(HOST, 8, pattern(24, 0).fill(0xff), 0, 24);
      expect(store()).toBe(Ok);
      const bytes = new Uint8Array(24);
      m.access.read(HOST, 8, bytes, 0, 24);
      expect([...bytes]).toEqual(Array.from({ length: 24 }, (_, i) => (i >= 8 && i < 8 + length ? 0x11 : 0xff)));
    }
  });

  it('a watcher that takes rights away on the second page stops a write on the first', () => {
    const m = build();
    m.addSlot({ id: 0, gpa: 0, size: 3 * PAGE });
    m.registerWatcher('thief', {
      accessed: () => {
        m.permissions[0]!.revoke(0, 1, Right.Write);
        return 'allow';
      },
    });
    m.watchFrame(m.frameAt(1), { write: true }, 'thief');
    const who = m.subjects[0]!.cpu;
    expect(m.access.write(who, PAGE - 2, pattern(4), 0, 4)).toBe(Denied);
    expect([m.access.failedGpa, m.access.missing]).toEqual([PAGE - 2, Right.Write]);
    const bytes = new Uint8Array(4);
    m.access.read(HOST, PAGE - 2, bytes, 0, 4);
    expect([...bytes]).toEqual([0, 0, 0, 0]);
  });

  it('a watcher on the first page that takes the second away stops the write there; pages behind it are not looked at again', () => {
    const m = build();
    m.addSlot({ id: 0, gpa: 0, size: 3 * PAGE });
    m.registerWatcher('thief', {
      accessed: () => {
        m.permissions[0]!.revoke(1, 1, Right.Write);
        m.permissions[0]!.revoke(2, 1, Right.Write);
        return 'allow';
      },
    });
    m.watchFrame(m.frameAt(0), { write: true }, 'thief');
    const who = m.subjects[0]!.cpu;
    expect(m.access.write(who, PAGE - 2, pattern(4), 0, 4)).toBe(Denied);
    expect([m.access.failedGpa, m.access.missing]).toEqual([PAGE, Right.Write]);
    m.permissions[0]!.grant(1, 1, Right.Write);
    m.permissions[0]!.grant(0, 1, Right.Write);
    // An access that ends with its page does not reach the next one, which the watcher closes.
    expect(m.access.write(who, 0, pattern(PAGE), 0, PAGE)).toBe(Ok);
  });

  it('a held access names the first byte of the page that holds it', () => {
    const m = build();
    m.addSlot({ id: 0, gpa: 0, size: 2 * PAGE });
    m.registerWatcher('guard', { accessed: () => 'hold' });
    m.watchFrame(m.frameAt(1), { write: true }, 'guard');
    expect(m.access.write(m.subjects[0]!.cpu, PAGE - 2, pattern(4), 0, 4)).toBe(Held);
    expect([m.access.failedGpa, m.access.missing, Held]).toEqual([PAGE, 0, 7]);
  });

  it('open sides are two contents, each described as what it is', () => {
    const m = build();
    m.addSlot({ id: 0, gpa: 0, size: PAGE });
    const open = (side: Side) => subject(SubjectKind.Cpu, 0, side);
    m.access.writeU8(open(Side.OpenPrivate), 0, 1);
    m.access.writeU8(open(Side.OpenShared), 0, 2);
    const read = (side: Side): number => {
      expect(m.access.readU8(open(side), 0)).toBe(Ok);
      return m.access.lo;
    };
    expect([read(Side.OpenPrivate), read(Side.OpenShared), read(Side.Current)]).toEqual([1, 2, 2]);
    expect([Side.OpenPrivate, Side.OpenShared, SubjectKind.Host]).toEqual([3, 4, 4]);
  });
});

describe('frames', () => {
  it('outside of the region are not held', () => {
    const m = build();
    m.addSlot({ id: 0, gpa: 0, size: PAGE });
    expect([m.frames.isHeld(-1), m.frames.isHeld(48), m.frames.isHeld(47), m.frames.isHeld(m.frameAt(0)), NO_FRAME]).toEqual([false, false, false, true, -1]);
  });
  it('are zero or not by their own bytes alone', () => {
    const m = build();
    const [one, two, three] = [m.frames.allocate(), m.frames.allocate(), m.frames.allocate()];
    m.frames.bytes(one).fill(1);
    m.frames.bytes(three).fill(1);
    expect([m.frames.isZero(one), m.frames.isZero(two)]).toEqual([false, true]);
    m.frames.bytes(two)[PAGE - 1] = 1;
    expect(m.frames.isZero(two)).toBe(false);
  });
  it('that come back are given out again, the lowest first', () => {
    const m = build();
    const frames = Array.from({ length: 6 }, () => m.frames.allocate());
    expect(frames).toEqual([0, 1, 2, 3, 4, 5]);
    m.frames.release(4);
    m.frames.release(1);
    expect([m.frames.allocate(), m.frames.allocate(), m.frames.allocate()]).toEqual([1, 4, 6]);
  });
});

describe('observers', () => {
  it('are told once when an overlay comes and once when it goes, of its plane and page', () => {
    const m = build();
    const told: (readonly number[])[] = [];
    m.observe({ permissionsChanged() {}, frameRevoked() {}, translationsRevoked: (...args) => void told.push(args) });
    const frame = owned(m, 1);
    m.placeOverlay(1, 5, frame, 1);
    m.placeOverlay(1, 5, frame, 1);
    m.takeOverlay(1, 5);
    expect(told).toEqual([[1, 5, 1, ALL_RIGHTS]]);
    m.takeOverlay(1, 5);
    m.takeOverlay(1, 5);
    expect(told).toEqual([[1, 5, 1, ALL_RIGHTS], [1, 5, 1, ALL_RIGHTS]]);
  });
  it('are told of the frame of a page whose content is forgotten, at its place in the memory shown', () => {
    const m = build();
    m.createBacking(8 * PAGE);
    m.addSlot({ id: 0, gpa: 2 * PAGE, size: 3 * PAGE, backing: 0, backingOffset: 4 * PAGE });
    const told: number[] = [];
    m.observe({ permissionsChanged() {}, translationsRevoked() {}, frameRevoked: (frame) => void told.push(frame) });
    const frames = [2, 3, 4].map((page) => m.frameAt(page));
    expect([...m.backings.all][0]!.frame(5, false)).toBe(frames[1]);
    m.discard(3, 1, false);
    expect(told).toEqual([frames[1]]);
  });
  it('are told to see writes again when a slot begins to log', () => {
    const m = build();
    m.addSlot({ id: 0, gpa: 2 * PAGE, size: 3 * PAGE });
    const told: (readonly number[])[] = [];
    m.observe({ permissionsChanged() {}, frameRevoked() {}, translationsRevoked: (...args) => void told.push(args) });
    m.logDirty(0, true);
    m.logDirty(0, false);
    expect(told).toEqual([[ALL_PLANES, 2, 3, Right.Write]]);
  });
});
