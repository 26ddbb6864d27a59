import { isScratchUsable } from '@vmplanes/personality-sev-snp-vmpl';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BUFFER, DONE, ghcbOf, GhcbRig, invalid } from './ghcb-rig.ts';

// @spec GHCB 4.1.6; Linux arch/x86/kvm/svm/sev.c (snp_begin_psc, __snp_complete_one_psc)
const LARGE = 1n << 56n;
const INVALID_HEADER = 0x1_0000_0001n;
const INVALID_ENTRY = 0x1_0000_0002n;
const GENERIC = 0x100_0000_0000n;
/** Pages of memory beside the small ones of the rig, enough for entries of 2 MiB. */
const BIG = { first: 0x400, count: 0x800 } as const;

const rigOf = (): GhcbRig => {
  const rig = new GhcbRig({ machine: { memoryBytes: 16 << 20 } });
  rig.machine.memory.addSlot({ id: 1, gpa: BIG.first * 4096, size: BIG.count * 4096 });
  return rig;
};
const entry = (page: number, operation: number, { large = false, done = 0 } = {}): bigint => BigInt(done) | (BigInt(page) << 12n) | (BigInt(operation) << 52n) | (large ? LARGE : 0n);

/** Writes a list, asks, and gives the result, the cursor and the entries. */
const change = (rig: GhcbRig, entries: readonly bigint[], { cur = 0, end = entries.length - 1, scratch = BUFFER } = {}) => {
  rig.poke(scratch, BigInt(cur) | (BigInt(end) << 16n), 8);
  entries.forEach((e, i) => rig.poke(scratch + 8 + 8 * i, e));
  const { swExitInfo1, swExitInfo2 } = rig.event(0x8000_0010, 0, 0, { swScratch: scratch });
  return { result: [swExitInfo1, swExitInfo2], cur: Number(rig.peek(scratch, 2)), end: Number(rig.peek(scratch + 2, 2)), entries: entries.map((_, i) => rig.peek(scratch + 8 + 8 * i)), asked: rig.log.take() };
};

describe('a page state change', () => {
  it('to private: the page is assigned, not validated, without rights below VMPL 0, and holds zeros', () => {
    const rig = rigOf();
    rig.poke(40 * 4096, 0x1234n);
    expect(change(rig, [entry(40, 1)])).toEqual({ result: DONE, cur: 1, end: 0, entries: [entry(40, 1, { done: 1 })], asked: ['private 40+1'] });
    expect(rig.snp.chapters.rmp.entry(40)).toMatchObject({ assigned: true, validated: false, perms: [0, 0, 0] });
    expect(rig.machine.memory.isPrivate(40)).toBe(true);
  });
  it('to shared: the page is no longer assigned, and holds zeros', () => {
    const rig = rigOf();
    expect(change(rig, [entry(5, 2)]).asked).toEqual(['shared 5+1']);
    expect([rig.snp.chapters.rmp.entry(5).assigned, rig.machine.memory.isPrivate(5), rig.peek(5 * 4096)]).toEqual([false, false, 0n]);
  });
  it('of 2 MiB counts 512 pages', () => {
    const rig = rigOf();
    expect(change(rig, [entry(BIG.first, 1, { large: true })])).toEqual({ result: DONE, cur: 1, end: 0, entries: [entry(BIG.first, 1, { large: true, done: 512 })], asked: [`private ${BIG.first}+512 large`] });
  });
  it('of neighbours with one operation and size is one', () => expect(change(rigOf(), [entry(5, 2), entry(6, 2), entry(7, 2)])).toMatchObject({ result: DONE, cur: 3, asked: ['shared 5+3'] }));
  it('of large neighbours is one', () => expect(change(rigOf(), [0, 512].map((n) => entry(BIG.first + n, 1, { large: true })))).toMatchObject({ cur: 2, asked: [`private ${BIG.first}+1024 large`] }));
  it.each<[string, readonly bigint[], readonly string[]]>([
    ['a gap', [entry(5, 2), entry(7, 2)], ['shared 5+1', 'shared 7+1']],
    ['falling pages', [entry(6, 2), entry(5, 2)], ['shared 6+1', 'shared 5+1']],
    ['another operation', [entry(5, 2), entry(6, 1)], ['shared 5+1', 'private 6+1']],
    ['another size', [entry(BIG.first, 1, { large: true }), entry(BIG.first + 512, 1)], [`private ${BIG.first}+512 large`, `private ${BIG.first + 512}+1`]],
    ['one that is done', [entry(5, 2), entry(6, 2, { done: 1 }), entry(7, 2)], ['shared 5+1', 'shared 7+1']],
    ['one page twice', [entry(5, 2), entry(5, 2)], ['shared 5+1', 'shared 5+1']],
  ])('does not join across %s', (_what, entries, asked) => expect(change(rigOf(), entries)).toMatchObject({ result: DONE, cur: entries.length, asked }));
  it('goes on with small pages where a large one is done in part', () =>
    expect(change(rigOf(), [entry(BIG.first, 1, { large: true, done: 500 })])).toEqual({ result: DONE, cur: 1, end: 0, entries: [entry(BIG.first, 1, { large: true, done: 512 })], asked: [`private ${BIG.first + 500}+12`] }));
  it('of neighbours ends where memory ends: the entries before are done, the cursor stands at the one without memory', () => {
    const last = BIG.first + BIG.count - 1;
    expect(change(rigOf(), [entry(last - 1, 1), entry(last, 1), entry(last + 1, 1)])).toEqual({
      result: [0n, GENERIC], cur: 2, end: 2, entries: [entry(last - 1, 1, { done: 1 }), entry(last, 1, { done: 1 }), entry(last + 1, 1)], asked: [`private ${last - 1}+2`],
    });
  });
  it('begins with the entry that the cursor names', () => expect(change(rigOf(), [entry(5, 2), entry(9, 2)], { cur: 1 })).toMatchObject({ result: DONE, cur: 2, asked: ['shared 9+1'] }));
  it('behind the last entry does nothing', () => expect(change(rigOf(), [entry(5, 2)], { cur: 1, end: 0 })).toMatchObject({ result: DONE, cur: 1, asked: [] }));
  it.each([0, 3, 4, 5, 15])('operation %i is completed without effect', (operation) => expect(change(rigOf(), [entry(5, operation)])).toMatchObject({ result: DONE, cur: 1, entries: [entry(5, operation, { done: 1 })], asked: [] }));
  it('reserved bits of an entry do not count, and stay', () => expect(change(rigOf(), [entry(5, 2) | (0x7fn << 57n)])).toMatchObject({ result: DONE, entries: [entry(5, 2, { done: 1 }) | (0x7fn << 57n)], asked: ['shared 5+1'] }));
  it('has room for 253 entries', () => {
    const entries = Array.from({ length: 253 }, (_, i) => entry(BIG.first + 2 * i, 1));
    const { result, cur, asked } = change(rigOf(), entries);
    expect([result, cur, asked.length]).toEqual([DONE, 253, 253]);
  });
});

describe('an error of a page state change', () => {
  it('header: the last entry lies outside', () => expect(change(rigOf(), [entry(5, 2)], { end: 253 })).toMatchObject({ result: [0n, INVALID_HEADER], cur: 0, asked: [] }));
  it('header: room counts from the scratch address', () => {
    expect(change(rigOf(), [entry(5, 2)], { scratch: ghcbOf() + 0xff0 - 16 }).result).toEqual(DONE);
    expect(change(rigOf(), [entry(5, 2)], { scratch: ghcbOf() + 0xff0 - 15 }).result).toEqual([0n, INVALID_HEADER]);
  });
  it('entry: more pages done than it has', () => {
    expect(change(rigOf(), [entry(5, 2, { done: 2 })]).result).toEqual([0n, INVALID_ENTRY]);
    expect(change(rigOf(), [entry(BIG.first, 2, { large: true, done: 513 })]).result).toEqual([0n, INVALID_ENTRY]);
  });
  it('entry: a large page that is not aligned', () => expect(change(rigOf(), [entry(BIG.first + 1, 1, { large: true })])).toMatchObject({ result: [0n, INVALID_ENTRY], cur: 0, asked: [] }));
  it('entry: a large page that is not aligned, though it is done', () => expect(change(rigOf(), [entry(BIG.first + 1, 1, { large: true, done: 512 })])).toMatchObject({ result: [0n, INVALID_ENTRY], cur: 0 }));
  it('in the middle: the entries before it are done, and the cursor names it', () =>
    expect(change(rigOf(), [entry(5, 2), entry(9, 2, { done: 7 }), entry(12, 2)])).toMatchObject({ result: [0n, INVALID_ENTRY], cur: 1, entries: [entry(5, 2, { done: 1 }), entry(9, 2, { done: 7 }), entry(12, 2)], asked: ['shared 5+1'] }));
  it.each<[string, bigint]>([
    ['a page without memory', entry(0x300, 1)],
    ['a large page with memory for a part', entry(0xc00, 1, { large: true })],
    ['the last page number', entry(0xff_ffff_ffff, 2)],
  ])('generic: %s', (_what, e) => expect(change(rigOf(), [entry(5, 2), e])).toMatchObject({ result: [0n, GENERIC], cur: 1, entries: [entry(5, 2, { done: 1 }), e], asked: ['shared 5+1'] }));
  it('is followed by more when the guest asks again', () => {
    const rig = rigOf();
    change(rig, [entry(5, 2), entry(0x300, 1), entry(9, 2)]);
    expect(change(rig, [entry(5, 2, { done: 1 }), entry(7, 2), entry(9, 2)], { cur: 1 })).toMatchObject({ result: DONE, cur: 3, asked: ['shared 7+1', 'shared 9+1'] });
  });
  it.each<[string, number]>([['0', 0], ['below the buffer', BUFFER - 8], ['behind the buffer', ghcbOf() + 0xff0], ['in another page', ghcbOf(0, 1) + 0x800], ['without room for the header', ghcbOf() + 0xff0 - 7]])('scratch %s: 2/3', (_what, swScratch) =>
    expect(rigOf().result(0x8000_0010, 0, 0, { swScratch })).toEqual(invalid(3)));
});

describe('a page state change of the GHCB itself', () => {
  it('leaves the guest without a result, and the host without an error', () => {
    const rig = rigOf();
    change(rig, [entry(4, 2)]);
    rig.poke(BUFFER, 0n);
    rig.poke(BUFFER + 8, entry(ghcbOf() / 4096, 1));
    rig.fill({ swExitCode: 0x8000_0010, swExitInfo1: 0, swExitInfo2: 0, swScratch: BUFFER });
    rig.setMsr(BigInt(ghcbOf()));
    rig.step();
    expect([rig.rip(), rig.machine.memory.isPrivate(ghcbOf() / 4096)]).toEqual([8n, true]);
  });
});

/** What a list does, straight from the words of the specification: page by page, without batches. */
const model = (entries: readonly bigint[], start: number, end: number, isMemory: (page: number) => boolean) => {
  const after = [...entries];
  const states = new Map<number, boolean>();
  let cur = start;
  let result = 0n;
  if (end >= 253) return { result: INVALID_HEADER, cur, after, states };
  while (cur <= end) {
    const e = after[cur] ?? 0n;
    const done = Number(e & 0xfffn);
    const page = Number((e >> 12n) & 0xff_ffff_ffffn);
    const operation = Number((e >> 52n) & 0xfn);
    const pages = (e & LARGE) !== 0n ? 512 : 1;
    if (done > pages || page % pages !== 0) {
      result = INVALID_ENTRY;
      break;
    }
    const todo = Array.from({ length: pages - done }, (_, i) => page + done + i);
    const isKnown = operation === 1 || operation === 2;
    if (isKnown && !todo.every(isMemory)) {
      result = GENERIC;
      break;
    }
    if (isKnown) for (const p of todo) states.set(p, operation === 1);
    after[cur] = (e & ~0xfffn) | BigInt(pages);
    cur++;
  }
  return { result, cur, after, states };
};

describe('against a model of single pages', () => {
  // Pages of the GHCBs stay out of it: who takes them away sees no result.
  const pages = fc.oneof(fc.integer({ min: 1, max: 30 }), fc.integer({ min: BIG.first, max: BIG.first + 1600 }), fc.constantFrom(BIG.first, BIG.first + 512, BIG.first + 1024, 0x300, 0xbfe, 0xbff, 0xc00));
  const entries = fc.array(
    fc.record({ page: pages, operation: fc.integer({ min: 0, max: 4 }), large: fc.boolean(), done: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(1, 2, 500, 512, 513) }), follows: fc.boolean() }),
    { minLength: 1, maxLength: 12 },
  ).map((list) => {
    let next = 0;
    return list.map(({ page, operation, large, done, follows }) => {
      const at = follows && next > 0 && (next < 31 || next > BIG.first) ? next : large ? page - (page % 512) : page;
      next = at + (large ? 512 : 1);
      return entry(at, operation, { large, done });
    });
  });
  it('a list of any entries has the same result, cursor, entries and pages', () => {
    fc.assert(
      fc.property(entries, fc.integer({ min: 0, max: 3 }), fc.integer({ min: -1, max: 1 }), (list, cur, more) => {
        const rig = rigOf();
        const { memory } = rig.machine;
        const end = Math.max(0, list.length - 1 + more);
        const isMemory = (page: number): boolean => memory.slots.find(page) !== null;
        const expected = model(list, cur, end, isMemory);
        const before = new Map([...expected.states.keys()].map((p) => [p, memory.isPrivate(p)]));
        const got = change(rig, list, { cur, end });
        expect([got.result, got.cur, got.entries]).toEqual([[0n, expected.result], expected.cur, expected.after.slice(0, list.length)]);
        for (const [page, isPrivate] of expected.states) expect([page, memory.isPrivate(page)]).toEqual([page, isPrivate]);
        for (let page = 1; page < 31; page++) if (!expected.states.has(page)) expect(memory.isPrivate(page)).toBe(before.get(page) ?? true);
      }),
      { numRuns: 120 },
    );
  });
});

describe('scratch memory against a model of single bytes', () => {
  const GHCB = 0x20_0000n;
  /** Every byte lies in the buffer; in version 1 also anywhere but in the page, up to 16 pages. */
  const usable = (scratch: bigint, length: bigint, version: 1 | 2): boolean => {
    if (scratch === 0n || length === 0n) return false;
    const last = scratch + length - 1n;
    if (last >= 2n ** 64n) return false;
    const startsInPage = scratch >= GHCB && scratch < GHCB + 4096n;
    const inBuffer = (byte: bigint): boolean => byte >= GHCB + 0x800n && byte < GHCB + 0xff0n;
    return startsInPage ? inBuffer(scratch) && inBuffer(last) : version === 1 && length <= 65536n;
  };
  it('says the same', () => {
    const near = fc.bigInt({ min: GHCB - 16n, max: GHCB + 4112n });
    const anywhere = fc.bigInt({ min: 0n, max: 2n ** 52n });
    fc.assert(
      fc.property(fc.oneof(near, anywhere, fc.constant(0n)), fc.oneof(fc.bigInt({ min: 0n, max: 2100n }), fc.constantFrom(65535n, 65536n, 65537n, 2n ** 40n)), fc.constantFrom(1 as const, 2 as const), (scratch, length, version) => {
        expect(isScratchUsable(Number(scratch), Number(GHCB), Number(length), version)).toBe(usable(scratch, length, version));
      }),
      { numRuns: 2000 },
    );
  });
});
