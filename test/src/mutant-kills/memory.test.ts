import {
  ALL_PLANES, ALL_RIGHTS, Arena, AccessResult, auditMemory, DirtyRing, GuestMemory, HOST, HostError, type MemoryState, PAGE_LIMIT, Right, StateHash, SubjectKind,
} from '@vmplanes/engine';
import { beforeEach, describe, expect, it } from 'vitest';

const PAGE = 4096;
const fresh = (): GuestMemory => new GuestMemory(new Arena(new ArrayBuffer(132 * PAGE)), { firstByte: 2 * PAGE, frames: 128, maxPlanes: 3 });
const codeOf = (act: () => unknown): string => {
  try {
    act();
    return 'none';
  } catch (error) {
    return error instanceof HostError ? error.code : 'other';
  }
};

let memory = fresh();
let revoked: (readonly [plane: number, first: number, count: number, rights: number])[] = [];
beforeEach(() => {
  memory = fresh();
  memory.observe({ permissionsChanged() {}, translationsRevoked: (...range) => revoked.push(range), frameRevoked() {} });
  revoked = [];
});

describe('overlays beyond the first eight', () => {
  const placed = [40, 3, 77, 12, 5, 61, 90, 1, 33, 2, 58, 70, 8, 99, 17, 25, 44, 64].map((gpn, i) => ({ gpn, rights: (i * 7) % 32, owners: 1 + (i % 3) }));
  const rows = (): readonly object[] => memory.overlays[1]!.save().map(({ gpn, rights, owners }) => ({ gpn, rights, owners }));
  const rising = (list: readonly { readonly gpn: number }[]): readonly object[] => [...list].sort((a, b) => a.gpn - b.gpn);
  const frameOf = new Map<number, number>();
  beforeEach(() => {
    for (const { gpn, rights, owners } of placed) {
      const frame = memory.frames.allocate();
      frameOf.set(gpn, frame);
      for (let i = 0; i < owners; i++) expect(memory.placeOverlay(1, gpn, frame, rights)).toBe(true);
      memory.frames.release(frame);
    }
  });

  it('keep frame, rights and owners of each, in rising order', () => {
    expect(rows()).toEqual(rising(placed));
    for (const { gpn, rights } of placed) {
      const at = memory.overlays[1]!.find(gpn);
      expect([memory.overlays[1]!.frame(at), memory.overlays[1]!.rights(at)]).toEqual([frameOf.get(gpn), rights]);
      expect(memory.frames.holders(frameOf.get(gpn)!)).toBe(1);
    }
    expect(memory.overlays[1]!.find(0)).toBe(-1);
    expect(memory.overlays[1]!.find(100)).toBe(-1);
    expect(auditMemory(memory)).toEqual([]);
  });

  it('leave the others as they are when one goes', () => {
    for (const gone of [12, 99, 1, 40]) {
      const { owners } = placed.find(({ gpn }) => gpn === gone)!;
      for (let i = 0; i < owners; i++) {
        expect(memory.overlays[1]!.find(gone)).toBeGreaterThanOrEqual(0);
        memory.takeOverlay(1, gone);
      }
      expect(memory.overlays[1]!.find(gone)).toBe(-1);
      expect(memory.frames.isHeld(frameOf.get(gone)!)).toBe(false);
    }
    expect(rows()).toEqual(rising(placed.filter(({ gpn }) => ![12, 99, 1, 40].includes(gpn))));
  });
});

describe('the dirty log of a long slot', () => {
  const bits = (...pages: readonly number[]): Uint32Array => {
    const words = new Uint32Array(4);
    for (const page of pages) words[page >>> 5]! |= 1 << (page & 31);
    return words;
  };
  const dirty = (): Uint32Array => {
    const into = new Uint32Array(4);
    memory.dirty.peek(7, into);
    return into;
  };
  /** 100 pages, so that the last bitmap word is used in part; the guest sees them from page 200 on. */
  beforeEach(() => {
    memory.addSlot({ id: 7, gpa: 200 * PAGE, size: 100 * PAGE, logDirty: true });
    for (const page of [0, 31, 32, 63, 70, 98, 99]) memory.access.writeU8(HOST, (200 + page) * PAGE, 1);
    revoked = [];
  });

  it('marks the page that was written', () => expect(dirty()).toEqual(bits(0, 31, 32, 63, 70, 98, 99)));
  it.each([
    [32, 32, [32, 63], 2],
    [32, 68, [32, 63, 70, 98, 99], 5],
    [96, 4, [98, 99], 2],
    [64, 32, [70], 1],
  ] as const)('collects pages from %d, %d of them', (first, count, taken, found) => {
    const into = new Uint32Array(4);
    expect(memory.dirty.collect(7, into, first, count)).toBe(found);
    expect(into.subarray(0, 4 - first / 32)).toEqual(bits(...taken).subarray(first / 32));
    expect(dirty()).toEqual(bits(...[0, 31, 32, 63, 70, 98, 99].filter((p) => !(taken as readonly number[]).includes(p))));
    expect(revoked).toEqual([[ALL_PLANES, 200 + first, count, Right.Write]]);
  });
  it('collects up to the end by default, and says nothing when nothing was written', () => {
    const into = new Uint32Array(2);
    expect(memory.dirty.collect(7, into, 64)).toBe(3);
    revoked = [];
    expect(memory.dirty.collect(7, into, 64)).toBe(0);
    expect(revoked).toEqual([]);
  });
  it('clears the pages of a mask', () => {
    memory.dirty.clear(7, Uint32Array.of(1 << 31, 1 << 6), 32, 64);
    expect(dirty()).toEqual(bits(0, 31, 32, 98, 99));
    expect(revoked).toEqual([[ALL_PLANES, 232, 64, Right.Write]]);
    memory.dirty.clear(7, Uint32Array.of(8), 96, 4);
    expect(dirty()).toEqual(bits(0, 31, 32, 98));
    expect(revoked.at(-1)).toEqual([ALL_PLANES, 296, 4, Right.Write]);
  });
  it.each([[-32, 32], [1, 32], [0, 0], [0, -32], [0, 33], [96, 5], [96, 32], [128, 1]])('refuses pages from %d, %d of them', (first, count) => {
    expect(codeOf(() => memory.dirty.clear(7, new Uint32Array(4), first, count))).toBe('BadRange');
    expect(dirty()).toEqual(bits(0, 31, 32, 63, 70, 98, 99));
  });
  it('takes one page at the end', () => {
    memory.addSlot({ id: 8, gpa: 0x1000_0000, size: PAGE, logDirty: true });
    memory.access.writeU8(HOST, 0x1000_0000, 1);
    expect(memory.dirty.collect(8, new Uint32Array(1), 0, 1)).toBe(1);
  });

  it('sees a page again once its ring entry is reset', () => {
    const ring: DirtyRing = memory.dirty.addRing(2, 8, 1);
    memory.dirty.currentVp = 2;
    for (const page of [5, 66]) memory.access.writeU8(memory.subjects[1]!.cpu, (200 + page) * PAGE, 1);
    const pages: number[] = [];
    ring.collect((slot, page) => pages.push(slot, page));
    expect(pages).toEqual([7, 5, 7, 66]);
    revoked = [];
    expect(memory.dirty.resetRings()).toBe(2);
    expect(dirty()).toEqual(bits(0, 31, 32, 63, 70, 98, 99));
    expect(revoked).toEqual([[ALL_PLANES, 205, 1, Right.Write], [ALL_PLANES, 266, 1, Right.Write]]);
  });
});

describe('the state hash', () => {
  const M = 1n << 32n;
  /** The same steps in whole numbers. */
  function reference(words: readonly number[]): readonly [number, number] {
    let lo = 0x9e3779b9n, hi = 0x7f4a7c15n;
    for (const w of words) {
      const word = BigInt(w) & (M - 1n);
      lo = ((lo ^ word) * 0x85ebca6bn) % M;
      lo ^= lo >> 15n;
      hi = ((hi ^ ((word + lo) % M)) * 0xc2b2ae35n) % M;
      hi ^= hi >> 13n;
    }
    return [Number(BigInt.asIntN(32, lo)), Number(BigInt.asIntN(32, hi))];
  }
  const words = [0, 1, 0xffffffff, 0x12345678, 0x80000000, 7, 7];
  const hashOf = (act: (hash: StateHash) => void): readonly [number, number] => {
    const hash = new StateHash();
    act(hash);
    return [hash.lo, hash.hi];
  };

  it('begins where it says', () => expect(hashOf(() => {})).toEqual(reference([])));
  it('mixes each word into both halves', () => expect(hashOf((h) => words.forEach((w) => h.add(w)))).toEqual(reference(words)));
  it('takes words of an array alike', () => expect(hashOf((h) => h.addWords(Uint32Array.from([9, ...words, 9]), 1, words.length))).toEqual(reference(words)));
  it('takes numbers in two halves', () => expect(hashOf((h) => h.addNumber(0x1f_ffff_9234_5678))).toEqual(reference([0x9234_5678, 0x1f_ffff])));
  it('takes text with its length', () => expect(hashOf((h) => h.addText('ab'))).toEqual(reference([2, 97, 98])));

  it.each<[string, (m: GuestMemory) => void, (m: GuestMemory) => void]>([
    ['rights of an overlay', (m) => m.placeOverlay(1, 3, m.frameAt(0), 31), (m) => m.placeOverlay(1, 3, m.frameAt(0), 7)],
    ['owners of an overlay', (m) => m.placeOverlay(1, 3, m.frameAt(0), 31), (m) => (m.placeOverlay(1, 3, m.frameAt(0), 31), m.placeOverlay(1, 3, m.frameAt(0), 31))],
    ['the plane of an overlay', (m) => m.placeOverlay(1, 3, m.frameAt(0), 31), (m) => m.placeOverlay(2, 3, m.frameAt(0), 31)],
    ['the id of a slot', (m) => m.addSlot({ id: 4, gpa: 64 * PAGE, size: PAGE }), (m) => m.addSlot({ id: 5, gpa: 64 * PAGE, size: PAGE })],
    ['a read-only slot', (m) => m.addSlot({ id: 4, gpa: 64 * PAGE, size: PAGE }), (m) => m.addSlot({ id: 4, gpa: 64 * PAGE, size: PAGE, readonly: true })],
    ['a dirty page', () => {}, (m) => (m.access.writeU8(HOST, 2 * PAGE, 1), m.access.writeU8(HOST, 2 * PAGE, 0))],
    ['a watch counted twice', (m) => m.watchFrame(m.frameAt(0), { write: true }, 'w'), (m) => (m.watchFrame(m.frameAt(0), { write: true }, 'w'), m.watchFrame(m.frameAt(0), { write: true }, 'w'))],
    ['what is watched', (m) => m.watchFrame(m.frameAt(0), { write: true }, 'w'), (m) => m.watchFrame(m.frameAt(0), { read: true }, 'w')],
    ['an entry of a ring', (m) => m.dirty.addRing(0, 4, 0).push(0, 1), (m) => m.dirty.addRing(0, 4, 0).push(0, 2)],
  ])('tells %s', (_name, one, other) => {
    const hash = (act: (m: GuestMemory) => void): readonly [number, number] => {
      const m = fresh();
      m.registerWatcher('w', { accessed: () => 'allow' });
      m.addSlot({ id: 0, gpa: 0, size: 8 * PAGE, logDirty: true });
      m.access.writeU8(HOST, 0, 1);
      act(m);
      return hashOf((h) => m.hashInto(h));
    };
    expect(hash(one)).not.toEqual(hash(other));
    expect(hash(one)).toEqual(hash(one));
  });
});

describe('snapshots of memory', () => {
  const state = (): MemoryState => {
    memory.addSlot({ id: 0, gpa: 0, size: 8 * PAGE });
    memory.access.writeU8(HOST, 0, 1);
    memory.placeOverlay(1, 2, memory.frameAt(0), 31);
    memory.placeOverlay(1, 5, memory.frameAt(0), 31);
    memory.setPrivate(3, 1, true);
    memory.permissions[2]!.revoke(4, 1, Right.Write);
    return memory.save();
  };
  it.each([[-1], [128], [1000]])('are refused when they hold frame %d', (frame) => {
    const saved = state();
    const held = saved.frames.held.slice();
    held[0] = frame;
    expect(codeOf(() => fresh().restore({ ...saved, frames: { ...saved.frames, held } }))).toBe('BadSnapshot');
  });
  it('bring back private pages and rights, and make every translation stale', () => {
    const saved = state();
    revoked = [];
    memory.setPrivate(3, 1, false);
    memory.permissions[2]!.grant(4, 1, Right.Write);
    memory.restore(saved);
    expect(memory.isPrivate(3)).toBe(true);
    expect(memory.permissions[2]!.get(4) & Right.Write).toBe(0);
    expect(revoked.at(-1)).toEqual([ALL_PLANES, 0, PAGE_LIMIT, ALL_RIGHTS]);
  });
  it.each<[string, (o: MemoryState['overlays'][number]) => MemoryState['overlays'][number], string]>([
    ['in disorder', (o) => [o[1]!, o[0]!], 'plane 1: overlay at page 0x2 is out of order'],
    ['twice at one page', (o) => [o[0]!, { ...o[1]!, gpn: o[0]!.gpn }], 'plane 1: overlay at page 0x2 is out of order'],
    ['without an owner', (o) => [o[0]!, { ...o[1]!, owners: 0 }], 'plane 1: overlay at page 0x5 has no owner'],
  ])('with overlays %s are found by the audit', (_name, change, sentence) => {
    const saved = state();
    memory.restore({ ...saved, overlays: saved.overlays.map((o, plane) => (plane === 1 ? change(o) : o)) });
    expect(auditMemory(memory)).toContain(sentence);
  });
  it('with an overlay at page 0 are sound', () => {
    state();
    memory.placeOverlay(0, 0, memory.frameAt(0), 31);
    expect(auditMemory(memory)).toEqual([]);
  });
});

it('tells observers of every slot that comes, moves or goes', () => {
  memory.addSlot({ id: 1, gpa: 16 * PAGE, size: 2 * PAGE });
  memory.moveSlot(1, 32 * PAGE);
  memory.removeSlot(1);
  expect(revoked).toEqual([[ALL_PLANES, 16, 2, ALL_RIGHTS], [ALL_PLANES, 16, 2, ALL_RIGHTS], [ALL_PLANES, 32, 2, ALL_RIGHTS], [ALL_PLANES, 32, 2, ALL_RIGHTS]]);
});

it('makes memory of one page, and of none', () => {
  expect(codeOf(() => memory.createBacking(PAGE))).toBe('none');
  expect(codeOf(() => memory.createBacking(0))).toBe('BadRange');
  expect(codeOf(() => memory.createBacking(-PAGE))).toBe('BadRange');
  expect(codeOf(() => memory.createBacking(PAGE + 1))).toBe('BadRange');
});

it('keeps the numbers that traces and plug-ins see', () => {
  expect(new Set(Object.values(AccessResult)).size).toBe(Object.keys(AccessResult).length);
  expect(AccessResult.Ok).toBe(0);
  expect(new Set(Object.values(SubjectKind)).size).toBe(Object.keys(SubjectKind).length);
  expect(Object.values(Right).reduce((all, right) => all | right, 0)).toBe(ALL_RIGHTS);
});
