import { describe, expect, it } from 'vitest';
import { AssistPageChapter } from './assist-page.ts';

const MSR = 0x5001n;
const PAGE = 4096;
/** The chapter over pages that lie one after the other in a small arena, and an APIC of each VTL. */
const make = (options = {}) => {
  const buffer = new ArrayBuffer(40 * PAGE);
  const u8 = new Uint8Array(buffer), u32 = new Uint32Array(buffer);
  const state = { space: 0x100, place: null as number | null, frames: true, asked: 0, ends: [] as string[], irr: -1, level: -1 };
  const placed: unknown[] = [];
  /** The first page lies at the very beginning of the arena. */
  const frameByte = (_kind: string, vp: number, vtl: number): number => (state.asked++, state.frames ? (2 * vp + vtl) * PAGE : -1);
  const hv = {
    options: { assistPageContent: 'zeroFirst', ...options },
    machine: { arena: { u8, u32 } },
    chapters: { overlays: { frameByte, isInSpace: (gpn: number) => gpn < state.space, place: (kind: string, vp: number, vtl: number, gpn: number | null) => (placed.push([kind, vp, vtl, gpn]), state.place ?? frameByte(kind, vp, vtl)) } },
    arch: { apicOf: (c: { vp: { index: number }; plane: number }) => ({ block: { test: (_reg: number, vector: number) => vector === state.level }, highestIrr: () => state.irr, eoi: () => void state.ends.push(`${c.vp.index}:${c.plane}`) }) },
  };
  const at = (vp: number, plane: number): never => ({ vp: { index: vp }, plane }) as never;
  const pages = new AssistPageChapter(hv as never);
  return { pages, state, placed, u8, u32, at, word: (vp: number, vtl: number) => u32[((2 * vp + vtl) * PAGE) >>> 2]!, put: (vp: number, vtl: number, value: number) => void (u32[((2 * vp + vtl) * PAGE) >>> 2] = value) };
};
const PLACES = [[0, 0], [0, 1], [1, 0], [1, 1], [2, 1]] as const;

describe('an assist page', () => {
  it('is one for each VTL of each VP, and is looked up once', () => {
    const { pages, state, at } = make();
    expect(PLACES.map(([vp, vtl]) => pages.content(at(vp, vtl)) / PAGE)).toEqual([0, 1, 2, 3, 5]);
    expect([state.asked, PLACES.map(([vp, vtl]) => pages.content(at(vp, vtl)) / PAGE), state.asked]).toEqual([5, [0, 1, 2, 3, 5], 5]);
    pages.reset();
    expect([pages.content(at(1, 0)), state.asked]).toEqual([2 * PAGE, 6]);
  });
  it('keeps its register, and is placed where that says', () => {
    const { pages, placed, at } = make();
    PLACES.forEach(([vp, vtl], n) => expect(pages.setMsr(at(vp, vtl), BigInt(n * PAGE + (n & 1)))).toBe(true));
    expect(PLACES.map(([vp, vtl]) => [pages.msr(at(vp, vtl)), pages.isEnabled(at(vp, vtl))])).toEqual([[0n, false], [0x1001n, true], [0x2000n, false], [0x3001n, true], [0x4000n, false]]);
    expect(placed).toEqual([['assist', 0, 0, null], ['assist', 0, 1, 1], ['assist', 1, 0, null], ['assist', 1, 1, 3], ['assist', 2, 1, null]]);
    expect(pages.setMsr(at(0, 1), 0x1000n)).toBe(true);
    expect([pages.isEnabled(at(0, 1)), pages.isEnabled(at(1, 1))]).toEqual([false, true]);
  });
  it('is refused beyond the address space, enabled or not, and without memory', () => {
    const { pages, state, at } = make();
    expect([pages.setMsr(at(0, 0), 0x10_0001n), pages.setMsr(at(0, 0), 0x10_0000n), pages.msr(at(0, 0))]).toEqual([false, false, 0n]);
    state.place = -1;
    expect([pages.setMsr(at(0, 0), MSR), pages.isEnabled(at(0, 0)), pages.setMsr(at(0, 0), 0x5000n), pages.msr(at(0, 0))]).toEqual([false, false, true, 0x5000n]);
    state.place = 0;
    expect([pages.setMsr(at(0, 0), MSR), pages.isEnabled(at(0, 0))]).toEqual([true, true]);
  });
  it.each([['zeroFirst', [0, 7, 7]], ['zeroEach', [0, 0, 0]], ['kept', [7, 7, 7]]])('is cleared as %s says, and nothing beside it', (assistPageContent, expected) => {
    const { pages, u8, at } = make({ assistPageContent });
    const values = [1, 2, 3].map(() => {
      u8.fill(7);
      pages.setMsr(at(0, 1), MSR);
      const inside = new Set(u8.subarray(PAGE, 2 * PAGE));
      expect([u8[PAGE - 1], u8[2 * PAGE], inside.size]).toEqual([7, 7, 1]);
      u8.fill(7);
      pages.setMsr(at(0, 1), 0n);
      expect(u8[PAGE]).toBe(7);
      return [...inside][0];
    });
    expect(values).toEqual(expected);
  });
  it('is read and written word by word, at any offset, from the first byte of memory on', () => {
    const { pages, u32, u8, state, at } = make();
    pages.writeU32(at(0, 0), 8, 0x1122_3344);
    pages.writeU32(at(1, 1), 0, 0x5566_7788);
    pages.writeBytes(at(0, 0), 16, Uint8Array.of(1, 2, 3));
    expect([u32[2], u32[(3 * PAGE) >>> 2], pages.readU32(at(0, 0), 8), pages.readU32(at(1, 1), 0), [...u8.subarray(15, 20)]]).toEqual([0x1122_3344, 0x5566_7788, 0x1122_3344, 0x5566_7788, [0, 1, 2, 3, 0]]);
    state.frames = false;
    const before = u8.slice();
    u8[0] = 9;
    before[0] = 9;
    pages.writeU32(at(2, 0), 4, 1);
    pages.writeBytes(at(2, 0), 4, Uint8Array.of(1));
    expect([pages.readU32(at(2, 0), 0), pages.readU32(at(2, 0), 4), u8]).toEqual([0, 0, before]);
  });
});

describe('an end of interrupt that is not needed', () => {
  const OTHER = 0xabcd_ef00;
  const offered = (vp = 0, vtl = 0) => {
    const m = make({ assistPageContent: 'kept' });
    m.pages.setMsr(m.at(vp, vtl), MSR);
    m.put(vp, vtl, OTHER);
    m.pages.taken(m.at(vp, vtl), 0x40);
    return m;
  };
  it.each([[0, 0], [0, 1], [1, 0], [1, 1]])('is offered to VTL%2$i of VP %1$i, and taken by clearing the bit', (vp, vtl) => {
    for (const how of ['left', 'entering'] as const) {
      const { pages, state, at, word, put } = offered(vp, vtl);
      expect(word(vp, vtl)).toBe(OTHER + 1);
      for (const [v, l] of PLACES) pages[how](at(v, l));
      expect([state.ends, word(vp, vtl)]).toEqual([[], OTHER + 1]);
      put(vp, vtl, OTHER);
      for (const [v, l] of PLACES) pages[how](at(v, l));
      expect(state.ends).toEqual([`${vp}:${vtl}`]);
      // Only once.
      for (const [v, l] of PLACES) pages[how](at(v, l));
      pages.ended(at(vp, vtl));
      expect(state.ends.length).toBe(1);
    }
  });
  it('is not offered for a level-triggered one, before another, or without the page', () => {
    const { pages, state, at, word, put } = offered(0, 1);
    for (const [level, irr, bit] of [[0x41, -1, 0], [0x40, 0, 0], [0x40, 0x50, 0], [0x40, -1, 1]] as const) {
      Object.assign(state, { level, irr });
      put(0, 1, OTHER + 1 - bit);
      pages.taken(at(0, 1), 0x41);
      expect(word(0, 1), `${level} ${irr}`).toBe(OTHER + bit);
      if (bit === 0) {
        put(0, 1, OTHER);
        pages.left(at(0, 1));
        pages.entering(at(0, 1));
        pages.ended(at(0, 1));
      }
    }
    expect(state.ends).toEqual([]);
    pages.setMsr(at(0, 1), 0n);
    put(0, 1, OTHER);
    pages.taken(at(0, 1), 0x41);
    expect(word(0, 1)).toBe(OTHER);
  });
  it.each([[-1, OTHER + 1, true], [0, OTHER, false], [0x60, OTHER, false]])('is taken back when vector %i arrived since', (irr, expected, stands) => {
    const { pages, state, at, word, put } = offered(1, 1);
    state.irr = irr;
    pages.entering(at(1, 1));
    expect([word(1, 1), state.ends]).toEqual([expected, []]);
    put(1, 1, OTHER);
    pages.left(at(1, 1));
    expect(state.ends.length).toBe(stands ? 1 : 0);
  });
  it('is not taken back once it was answered, whatever arrived', () => {
    const { pages, state, at, word, put } = offered();
    state.irr = 0x60;
    put(0, 0, 0x100);
    pages.entering(at(0, 0));
    expect([word(0, 0), state.ends]).toEqual([0x100, ['0:0']]);
    put(0, 0, 0x101);
    pages.entering(at(0, 0));
    expect(word(0, 0)).toBe(0x101);
  });
  it('is over with an EOI by the register: that of the offer, or of the interrupt below it', () => {
    for (const [vp, vtl] of [[0, 0], [0, 1], [1, 1]] as const) {
      const first = offered(vp, vtl);
      first.pages.ended(first.at(vp, vtl));
      expect([first.word(vp, vtl), first.state.ends]).toEqual([OTHER, []]);
      first.put(vp, vtl, OTHER + 1);
      first.pages.ended(first.at(vp, vtl));
      first.put(vp, vtl, OTHER);
      first.pages.left(first.at(vp, vtl));
      expect(first.state.ends).toEqual([]);
      const second = offered(vp, vtl);
      second.put(vp, vtl, OTHER);
      second.pages.ended(second.at(vp, vtl));
      expect(second.state.ends).toEqual([`${vp}:${vtl}`]);
      second.pages.ended(second.at(vp, vtl));
      expect(second.state.ends.length).toBe(1);
    }
  });
});

describe('assist pages as state', () => {
  it('are those with a register or a history', () => {
    const { pages, at } = make();
    pages.setMsr(at(0, 0), 0x7000n);
    pages.setMsr(at(0, 1), MSR);
    pages.setMsr(at(1, 0), MSR);
    pages.setMsr(at(1, 0), 0n);
    pages.setMsr(at(1, 1), MSR);
    pages.taken(at(1, 1), 0x30);
    const saved = {
      pages: [
        { at: 0, msr: 0x7000n, wasEnabled: false, offered: false }, { at: 1, msr: MSR, wasEnabled: true, offered: false },
        { at: 16, msr: 0n, wasEnabled: true, offered: false }, { at: 17, msr: MSR, wasEnabled: true, offered: true },
      ],
    };
    expect([pages.stateName, pages.save()]).toEqual(['assist', saved]);
    const other = make();
    other.pages.setMsr(other.at(2, 1), MSR);
    other.pages.content(other.at(0, 1));
    other.pages.restore(structuredClone(saved));
    expect(other.pages.save()).toEqual(saved);
    expect([0, 1].flatMap((vp) => [0, 1].map((vtl) => other.pages.isEnabled(other.at(vp, vtl))))).toEqual([false, true, false, true]);
    // The offer stands; what was enabled before is not cleared again.
    other.pages.left(other.at(1, 1));
    other.u8.fill(7);
    for (const [vp, vtl] of [[0, 0], [1, 0]] as const) other.pages.setMsr(other.at(vp, vtl), MSR);
    expect([other.state.ends, other.u8[0], other.u8[2 * PAGE]]).toEqual([['1:1'], 0, 7]);
    other.pages.reset();
    expect([other.pages.save(), other.pages.isEnabled(other.at(0, 1)), other.pages.msr(other.at(0, 1))]).toEqual([{ pages: [] }, false, 0n]);
  });
});
