import { Access, AddressModel, PdpteLoad, Privilege, PageRight, WalkKind, isCanonical, loadPdptes, pagingMode, translate } from '@vmplanes/x86';
import { describe, expect, test } from 'vitest';
import { A, D, G, LA57, LME, type ModeName, P, PAE, PCD, PG, PGE, PS, PSE, PWT, RW, US, Walker, XD } from './walker.ts';

const { Read, Write, Fetch } = Access;
const T = P | RW | US; // a permissive table entry
const DEPTH = { '32-bit': 2, '32-bit PSE': 2, PAE: 2, '4-level': 4, '5-level': 5, 'no paging': 0 } as const;
/** A chain of `n` entries, the one at `level` (1 = page table) replaced, ending there. */
const to = (mode: ModeName, level: number, entry: bigint): bigint[] => [...Array<bigint>(DEPTH[mode] - level).fill(T), entry];

test('paging modes by control bits (SDM 3A Table 4-1)', () => {
  const rows = [[0, 0, 0, 0], [0, PAE | LA57, LME, 0], [PG, 0, 0, 1], [PG, PSE, 0, 1], [PG, PAE, 0, 2], [PG, PAE | LA57, 0, 2], [PG, PAE, LME, 3], [PG, PAE | LA57, LME, 4]] as const;
  for (const [cr0, cr4, efer, mode] of rows) expect(pagingMode(cr0, cr4, efer), `${cr0} ${cr4} ${efer}`).toBe(mode);
});

test('canonical addresses', () => {
  for (const [hi, la48, la57] of [[0, 1, 1], [0x7fff, 1, 1], [0x8000, 0, 1], [0xffff8000, 1, 1], [0xffff7fff, 0, 1], [0x00ffffff, 0, 1], [0x01000000, 0, 0], [0xff000000, 0, 1], [0xfeffffff, 0, 0], [0x80000000, 0, 0]] as const) {
    expect(isCanonical(hi, false), hi.toString(16)).toBe(la48 === 1);
    expect(isCanonical(hi, true), hi.toString(16)).toBe(la57 === 1);
  }
  const w = new Walker('4-level').chain(T, T, T, T);
  expect(w.walk(0x8000_0000_0000n)).toBe(WalkKind.NotCanonical);
  const five = new Walker('5-level');
  five.input.cr3Lo = 0x1000;
  expect(five.walk(0x8000_0000_0000n)).toBe(WalkKind.Fault);
});

/** [mode, level, is a page, entry bits, reserved ranges]: SDM 3A Tables 4-4 to 4-6 (32-bit), 4-9 to 4-11 (PAE), 4-15 to 4-20; MAXPHYADDR 46. */
const reservedRows: readonly (readonly [ModeName, number, string, bigint, readonly (readonly [number, number])[]])[] = [
  ['32-bit', 2, 'PDE', T, []],
  ['32-bit', 1, 'PTE', T, []],
  ['32-bit PSE', 2, '4M page', T | PS, [[21, 21]]],
  ['PAE', 2, 'PDE', T, [[62, 46]]],
  ['PAE', 2, '2M page', T | PS, [[62, 46], [20, 13]]],
  ['PAE', 1, 'PTE', T, [[62, 46]]],
  ['4-level', 4, 'PML4E', T, [[51, 46], [7, 7]]],
  ['4-level', 3, 'PDPTE', T, [[51, 46]]],
  ['4-level', 3, '1G page', T | PS, [[51, 46], [29, 13]]],
  ['4-level', 2, 'PDE', T, [[51, 46]]],
  ['4-level', 2, '2M page', T | PS, [[51, 46], [20, 13]]],
  ['4-level', 1, 'PTE', T, [[51, 46]]],
  ['5-level', 5, 'PML5E', T, [[51, 46], [7, 7]]],
  ['5-level', 4, 'PML4E', T, [[51, 46], [7, 7]]],
];

describe('reserved bits, each of them', () => {
  test.each(reservedRows)('%s level %i %s', (mode, level, _, entry, ranges) => {
    const bits = DEPTH[mode] === 2 && mode !== 'PAE' ? 32 : 64;
    for (let n = 0; n < bits; n++) {
      const value = entry | (1n << BigInt(n));
      if (n === 7 && value !== entry && level < 4 && level > 1) continue; // makes another kind of entry
      const w = new Walker(mode).chain(...to(mode, level, value));
      const kind = w.walk(0n, Read, Privilege.Supervisor);
      const reserved = ranges.some(([hi, lo]) => n <= hi && n >= lo);
      expect(kind === WalkKind.Fault && w.out.errorCode === 9, `bit ${n}`).toBe(reserved);
    }
  });

  test('execute-disable is reserved while EFER.NXE is clear', () => {
    for (const [mode, level] of [['PAE', 1], ['PAE', 2], ['4-level', 1], ['4-level', 4], ['5-level', 5]] as const) {
      const w = new Walker(mode).chain(...to(mode, level, T | XD));
      w.input.efer &= ~0x800;
      expect([w.walk(0n, Write, Privilege.User), w.out.errorCode]).toEqual([WalkKind.Fault, 1 | 2 | 4 | 8]);
    }
  });

  test.each([[36, true, 17], [40, true, 21], [46, true, 21], [32, true, 13], [46, false, 13]])('4M page: MAXPHYADDR %i, PSE-36 %s: bits 21..%i', (m, pse36, lowest) => {
    for (let n = 13; n < 22; n++) {
      const w = new Walker('32-bit PSE', new AddressModel(m, true, pse36)).chain(T | PS | (1n << BigInt(n)));
      expect(w.walk(0n) === WalkKind.Fault, `bit ${n}`).toBe(n >= lowest);
    }
  });

  test('PS in a PDPTE is reserved without 1-GByte pages; PS means nothing without CR4.PSE', () => {
    const w = new Walker('4-level', new AddressModel(46, false)).chain(T, T | PS);
    expect([w.walk(0n), w.out.errorCode]).toEqual([WalkKind.Fault, 9]);
    expect(new Walker('32-bit').chain(T | PS, T | 0x5000n).walk(0n)).toBe(WalkKind.Mapped);
  });
});

test.each([
  ['no paging', [], 0x1_89ab_cdefn, 0x89abcdefn, 12, 0],
  ['32-bit', [T, T | 0xfedcb000n], 0x123n, 0xfedcb123n, 12, 1],
  ['32-bit PSE', [T | PS | 0xffc00000n], 0x3abcden, 0xffFabcden, 22, 2],
  ['32-bit PSE', [T | PS | 0xffc00000n | (0xa5n << 13n)], 0x3abcden, 0xa5_ffFabcden, 22, 2],
  ['PAE', [T, T | 0x3fff_ffff_f000n], 0xabcn, 0x3fff_ffff_fabcn, 12, 1],
  ['PAE', [T | PS | 0x3fff_ffe0_0000n], 0x1bcdefn, 0x3fff_fffb_cdefn, 21, 2],
  ['4-level', [T, T, T, T | 0x2000_8000_3000n], 0xfffn, 0x2000_8000_3fffn, 12, 1],
  ['4-level', [T, T, T | PS | 0x3abc_dee0_0000n], 0x1fffffn, 0x3abc_deff_ffffn, 21, 2],
  ['4-level', [T, T | PS | 0x3fff_c000_0000n], 0x3fff_fffen, 0x3fff_ffff_fffen, 30, 3],
  ['5-level', [T, T, T, T, T | 0x8000_0000n], 0x10n, 0x8000_0010n, 12, 1],
] as const)('%s: address composition, case %#', (mode, entries, linear, gpa, shift, level) => {
  const w = new Walker(mode).chain(...entries);
  expect(w.walk(linear, Read)).toBe(WalkKind.Mapped);
  expect([BigInt(w.out.gpa).toString(16), w.out.pageShift, w.out.level]).toEqual([gpa.toString(16), shift, level]);
});

test('each level takes its own nine bits of the linear address', () => {
  const w = new Walker('5-level');
  const linear = BigInt.asUintN(64, BigInt.asIntN(57, (0x155n << 48n) | (0x0f3n << 39n) | (0x1a2n << 30n) | (0x0c4n << 21n) | (0x1ffn << 12n) | 0xabcn));
  w.input.cr3Lo = 0x10000;
  w.memory.put(0x10000 + 0x155 * 8, T | 0x11000n).put(0x11000 + 0xf3 * 8, T | 0x12000n).put(0x12000 + 0x1a2 * 8, T | 0x13000n).put(0x13000 + 0xc4 * 8, T | 0x14000n).put(0x14000 + 0x1ff * 8, T | 0x99000n);
  expect([w.walk(linear), w.out.gpa]).toEqual([WalkKind.Mapped, 0x99abc]);
  expect(w.walk(linear ^ 0x1000n)).toBe(WalkKind.Fault);
  expect((BigInt(w.out.cr2Hi) << 32n) | BigInt(w.out.cr2Lo)).toBe(linear ^ 0x1000n);
});

describe('accessed and dirty flags (SDM 3A §4.8)', () => {
  test('a read sets A everywhere, a write sets D in the leaf only', () => {
    const w = new Walker('4-level').chain(T, T, T, T);
    w.walk(0n, Read);
    expect([1, 2, 3, 4].map((n) => w.memory.at(n * 0x1000) & (A | D))).toEqual([A, A, A, A]);
    expect([w.out.accessed, w.out.dirty]).toEqual([true, false]);
    w.walk(0n, Write);
    expect([1, 2, 3, 4].map((n) => w.memory.at(n * 0x1000) & (A | D))).toEqual([A, A, A, A | D]);
    expect(w.out.dirty).toBe(true);
  });
  test('a denied access leaves the leaf alone', () => {
    const w = new Walker('4-level').chain(T, T, T, P);
    expect(w.walk(0n, Write, Privilege.User)).toBe(WalkKind.Fault);
    expect(w.memory.at(0x4000)).toBe(P);
  });
  test('PDPTE registers have no flags and 4-byte entries are swapped as such', () => {
    const w = new Walker('32-bit').chain(T, T | 0x5000n);
    w.walk(0n, Write);
    expect([w.memory.at(0x1000, 4), w.memory.at(0x2000, 4)]).toEqual([T | 0x2000n | A, T | 0x5000n | A | D]);
  });
  test('an entry that changes under the walk starts it again with the new entry', () => {
    const w = new Walker('4-level').chain(T, T, T, T | 0x5000n);
    let once = true;
    w.memory.beforeSwap = (gpa) => {
      if (gpa !== 0x4000 || !once) return;
      once = false;
      w.memory.put(0x4000, T | 0x6000n);
    };
    expect([w.walk(0x12n, Read), w.out.gpa]).toEqual([WalkKind.Mapped, 0x6012]);
    expect(w.memory.at(0x4000)).toBe(T | 0x6000n | A);
  });
  test('a lookup writes nothing, restores its input and tells what the tables say', () => {
    const w = new Walker('4-level').chain(T, T, T, P | US | 0x5000n);
    const before = new Map(w.memory.written);
    expect(translate(w.memory, w.input, w.out, 0x123n)).toEqual({ valid: true, gpa: 0x5123, writeable: false, usermode: true });
    expect(translate(w.memory, w.input, w.out, 0x1123n)).toEqual({ valid: false, gpa: 0, writeable: false, usermode: false });
    expect(translate(w.memory, w.input, w.out, 1n << 63n).valid).toBe(false);
    expect(w.memory.written).toEqual(before);
    expect([w.input.setFlags, w.input.access]).toEqual([true, Read]);
  });
});

describe('the second stage', () => {
  const NEED = 7;
  test.each([1, 2, 3, 4])('refuses reading table %i', (n) => {
    const w = new Walker('4-level').chain(T, T, T, T);
    w.memory.refuse = (op, gpa) => (op === 'read' && gpa === n * 0x1000 ? NEED : 0);
    expect([w.walk(0n, Write), w.out.gpa, w.out.stage2Access, w.out.isWalk, w.out.status]).toEqual([WalkKind.Stage2, n * 0x1000, Read, true, NEED]);
  });
  test.each([1, 4])('refuses the flags of table %i', (n) => {
    const w = new Walker('4-level').chain(T, T, T, T);
    w.memory.refuse = (op, gpa) => (op === 'write' && gpa === n * 0x1000 ? NEED : 0);
    expect([w.walk(0n, Read), w.out.gpa, w.out.stage2Access, w.out.isWalk]).toEqual([WalkKind.Stage2, n * 0x1000, Write, true]);
  });
  test('refuses the leaf after A and D are set', () => {
    const w = new Walker('4-level').chain(T, T, T, T | 0x5000n);
    w.memory.refuse = (op) => (op === 'leaf' ? NEED : 0);
    expect([w.walk(8n, Write), w.out.gpa, w.out.stage2Access, w.out.isWalk, w.out.userPage]).toEqual([WalkKind.Stage2, 0x5008, Write, false, true]);
    expect(w.memory.at(0x4000) & (A | D)).toBe(A | D);
  });
  test('is asked with the mode of the address, not of the access', () => {
    const w = new Walker('4-level').chain(T, T, T, P | RW | 0x5000n);
    w.walk(0n, Fetch, Privilege.Supervisor);
    expect(w.memory.leaves).toEqual([{ gpa: 0x5000, access: Fetch, userPage: false }]);
  });
});

test('global pages need CR4.PGE; the memory type comes from PAT, PCD, PWT of the leaf', () => {
  for (const [entries, type] of [[[T, T, T, T | G | PWT], 1], [[T, T, T, T | G | PCD | (1n << 7n)], 6], [[T, T, T | PS | G | (1n << 12n)], 4], [[T, T | PS | G | PCD | PWT], 3]] as const) {
    const w = new Walker('4-level').chain(...entries);
    w.walk(0n);
    expect([w.out.global, w.out.memoryType]).toEqual([false, type]);
    w.input.cr4 |= PGE;
    w.walk(0n);
    expect(w.out.global).toBe(true);
  }
});

test('the physical mask bit is taken out of CR3 and entries, is never reserved, and the leaf says whether it was set', () => {
  const C = 1n << 51n;
  const w = new Walker('4-level', new AddressModel(46, true, true, 51)).chain(T | C, T | C, T | C, T | C | 0x5000n);
  w.input.cr3Hi = 1 << 19;
  expect([w.walk(0x10n), w.out.gpa, w.out.maskBit]).toEqual([WalkKind.Mapped, 0x5010, true]);
  expect(w.memory.at(0x4000)).toBe(T | C | 0x5000n | A);
  w.memory.put(0x4000, T | 0x5000n);
  expect([w.walk(0x10n), w.out.maskBit]).toEqual([WalkKind.Mapped, false]);
  w.memory.put(0x4000, T | (1n << 50n));
  expect([w.walk(0n), w.out.errorCode]).toEqual([WalkKind.Fault, 9]);
});

describe('PDPTE registers (SDM 3A §4.4.1)', () => {
  const load = (entry: bigint, model = new AddressModel(46)): [number, Walker] => {
    const w = new Walker('PAE', model);
    w.input.cr3Lo = 0x1020; // bits 31:5 count
    [entry, 0x3001n, 0n, 0x5001n].forEach((e, i) => w.memory.put(0x1020 + i * 8, e));
    return [loadPdptes(w.memory, w.input, new Uint32Array(8)), w];
  };
  test('reserved bits of a present entry: 2:1, 8:5, 63:M', () => {
    for (let n = 1; n < 64; n++) {
      const reserved = n === 1 || n === 2 || (n >= 5 && n <= 8) || n >= 46;
      expect(load(P | (1n << BigInt(n)))[0], `bit ${n}`).toBe(reserved ? PdpteLoad.Invalid : PdpteLoad.Loaded);
      expect(load(1n << BigInt(n))[0], `bit ${n}, not present`).toBe(PdpteLoad.Loaded);
    }
  });
  test('walks use the registers, not memory; a bad load changes none', () => {
    const [, w] = load(0x2001n);
    w.memory.put(0x1020, 0n).put(0x5000 + 8, T | PS | 0x40000000n);
    expect([w.walk(0xc0200123n), w.out.gpa]).toEqual([WalkKind.Mapped, 0x40000123]);
    expect([w.walk(0x80000000n), w.out.errorCode]).toEqual([WalkKind.Fault, 0]);
    w.memory.put(0x1020, 0x2007n);
    expect(loadPdptes(w.memory, w.input, new Uint32Array(8))).toBe(PdpteLoad.Invalid);
    expect(w.input.pdpte[0]).toBe(0x2001);
  });
  test('a refused read is reported', () => {
    const [, w] = load(0x2001n);
    w.memory.refuse = () => 5;
    expect(loadPdptes(w.memory, w.input, new Uint32Array(8))).toBe(PdpteLoad.Refused);
  });
});

test('rights of the combination are reported', () => {
  const w = new Walker('4-level').chain(T, T | XD, P | US, T);
  w.walk(0n);
  expect(w.out.rights).toBe(PageRight.User);
});
