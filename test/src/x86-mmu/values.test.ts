import { Access, AddressModel, loadPdptes, PageFault, pageFaultCode, PageRight, PagingMode, PdpteLoad, Privilege, TableStatus, translate, WalkFailure, WalkInput, WalkKind, WalkResult } from '@vmplanes/x86';
import { describe, expect, test } from 'vitest';
import { A, D, G, MODES, type ModeName, NXE, P, PAE, PCD, PG, PGE, PKE, PKS, PS, PWT, RW, SMEP, US, Walker, XD } from './walker.ts';

const T = P | RW | US;

test('numbers that others rely on', () => {
  expect([Access, Privilege, PageFault, WalkFailure, WalkKind, TableStatus, PdpteLoad, PagingMode, PageRight]).toEqual([
    { Read: 0, Write: 1, Fetch: 2, ShadowRead: 3, ShadowWrite: 4, Lookup: 5 },
    { User: 0, Supervisor: 1, Implicit: 2 },
    { P: 1, W: 2, U: 4, RSVD: 8, ID: 16, PK: 32, SS: 64 },
    { NotPresent: 0, Reserved: 1, Protection: 2, Key: 3 },
    { Mapped: 0, Fault: 1, NotCanonical: 2, Stage2: 3 },
    { Ok: 0, Changed: 1, Refused: 2 },
    { Loaded: 0, Invalid: 1, Refused: 2 },
    { Off: 0, Legacy32: 1, Pae: 2, Level4: 3, Level5: 4 },
    { Write: 1, User: 2, Execute: 4, ShadowStack: 8 },
  ]);
});

test('SDM 3A §4.7: the error code of every failure of every access', () => {
  const byAccess = { Read: [], Write: ['W'], Fetch: ['ID'], ShadowRead: ['SS'], ShadowWrite: ['SS', 'W'], Lookup: [] } as const;
  const byFailure = { NotPresent: [], Reserved: ['P', 'RSVD'], Protection: ['P'], Key: ['P', 'PK'] } as const;
  for (const [access, does] of Object.entries(byAccess)) {
    for (const [failure, why] of Object.entries(byFailure)) {
      for (const user of [false, true]) {
        for (const reports of [false, true]) {
          const names = [...does, ...why, ...(user ? (['U'] as const) : [])].filter((n) => n !== 'ID' || reports);
          const expected = names.reduce((code, n) => code + { P: 1, W: 2, U: 4, RSVD: 8, ID: 16, PK: 32, SS: 64 }[n], 0);
          expect(pageFaultCode(WalkFailure[failure as keyof typeof WalkFailure], Access[access as keyof typeof Access], user, reports), `${failure} ${access} ${user} ${reports}`).toBe(expected);
        }
      }
    }
  }
});

describe('SDM 3A §4.1.4: what the CPU model says of addresses', () => {
  test.each([
    // MAXPHYADDR, bits 51:M, 62:M and 63:M as bits of the high half
    [32, 0xf_ffff, 0x7fff_ffff, -1], [33, 0xf_fffe, 0x7fff_fffe, -2], [40, 0xf_ff00, 0x7fff_ff00, -0x100], [51, 0x8_0000, 0x7ff8_0000, -0x8_0000], [52, 0, 0x7ff0_0000, -0x10_0000],
  ])('MAXPHYADDR %i', (m, hi, pae, pdpte) => {
    const model = new AddressModel(m);
    expect([model.maxPhyAddr, model.reservedHi, model.reservedHiPae, model.reservedHiPdpte, model.gbPages, model.pse36, model.maskHi, model.physicalMaskBit]).toEqual([m, hi, pae, pdpte, true, true, 0, undefined]);
  });
  test.each([[32, true, 0x3f_e000], [33, true, 0x3f_c000], [36, true, 0x3e_0000], [39, true, 0x30_0000], [40, true, 0x20_0000], [41, true, 0x20_0000], [52, true, 0x20_0000], [52, false, 0x3f_e000], [32, false, 0x3f_e000]])('SDM 3A Table 4-4: 4-MByte pages with MAXPHYADDR %i, PSE-36 %s', (m, pse36, reserved) => {
    expect(new AddressModel(m, true, pse36).reserved4M).toBe(reserved);
  });
  test('a mask bit lies in 32..51', () => {
    expect([32, 47, 51].map((bit) => new AddressModel(46, true, true, bit).maskHi)).toEqual([1, 0x8000, 0x8_0000]);
    for (const bit of [31, 52, 40.5, -1, Number.NaN]) expect(() => new AddressModel(46, true, true, bit)).toThrow(expect.objectContaining({ code: 'BadConfig', message: `physical mask bit ${bit}: not in 32..51` }));
    for (const m of [31, 53, 40.5, Number.NaN]) expect(() => new AddressModel(m)).toThrow(expect.objectContaining({ code: 'BadConfig', message: `MAXPHYADDR ${m}: not in 32..52` }));
  });
  test('a fresh input asks for nothing, a fresh answer says nothing', () => {
    const model = new AddressModel(46);
    const { pdpte, ...input } = new WalkInput(model);
    expect([input, [...pdpte]]).toEqual([
      { model, cr0: 0, cr3Lo: 0, cr3Hi: 0, cr4: 0, efer: 0, pkru: 0, pkrs: 0, ac: false, laLo: 0, laHi: 0, access: Access.Read, privilege: Privilege.Supervisor, setFlags: true, fetchByMode: false, hasSmep: false },
      [0, 0, 0, 0, 0, 0, 0, 0],
    ]);
    expect({ ...new WalkResult() }).toEqual({ kind: 0, gpa: 0, pageShift: 12, level: 0, rights: 0, global: false, dirty: false, accessed: false, pkey: 0, memoryType: 0, maskBit: false, errorCode: 0, cr2Lo: 0, cr2Hi: 0, stage2Access: 0, isWalk: false, userPage: false, status: 0 });
  });
});

describe('the whole answer of a walk', () => {
  const fields = ({ gpa, pageShift, level, rights, global, dirty, accessed, pkey, memoryType, maskBit }: WalkResult): object => ({ gpa, pageShift, level, rights, global, dirty, accessed, pkey, memoryType, maskBit });
  const leftovers = (w: Walker): void => void Object.assign(w.out, { gpa: -1, pageShift: -1, level: -1, rights: -1, global: true, dirty: false, accessed: false, pkey: 9, memoryType: 9, maskBit: true, errorCode: -1, cr2Lo: -1, cr2Hi: -1, isWalk: true, userPage: false, status: -1 });
  const all = PageRight.Write | PageRight.User | PageRight.Execute;
  test('without paging', () => {
    const w = new Walker('no paging');
    leftovers(w);
    expect(w.walk(0xffff_ffff_8000_1234n, Access.Write)).toBe(WalkKind.Mapped);
    expect(fields(w.out)).toEqual({ gpa: 0x8000_1234, pageShift: 12, level: 0, rights: all, global: false, dirty: true, accessed: true, pkey: 0, memoryType: 0, maskBit: false });
    expect(w.memory.leaves).toEqual([{ gpa: 0x8000_1234, access: Access.Write, userPage: true }]);
  });
  const rows: readonly (readonly [ModeName, readonly bigint[], object])[] = [
    ['32-bit', [T, T | G | PWT | 0x5000n], { gpa: 0x5000, pageShift: 12, level: 1, memoryType: 1, rights: all }],
    ['32-bit PSE', [T | PS | PCD | (1n << 12n) | 0x0040_0000n], { gpa: 0x40_0000, pageShift: 22, level: 2, memoryType: 6, rights: all }],
    ['PAE', [T | PS | XD | 0x0060_0000n], { gpa: 0x60_0000, pageShift: 21, level: 2, memoryType: 0, rights: PageRight.Write | PageRight.User }],
    ['PAE', [T, XD | P | US | 0x5000n], { gpa: 0x5000, pageShift: 12, level: 1, memoryType: 0, rights: PageRight.User }],
    ['4-level', [T, T, T, (0xbn << 59n) | P | RW | PWT | PCD | PS | 0x7_0000_5000n], { gpa: 0x7_0000_5000, pageShift: 12, level: 1, memoryType: 7, rights: PageRight.Write | PageRight.Execute, pkey: 11 }],
    ['4-level', [T, T | PS | (0xfn << 59n) | 0x40_4000_0000n], { gpa: 0x40_4000_0000, pageShift: 30, level: 3, memoryType: 0, rights: all, pkey: 15 }],
    ['5-level', [T, T, T, T | PS | (1n << 59n) | 0x20_0000n], { gpa: 0x20_0000, pageShift: 21, level: 2, memoryType: 0, rights: all, pkey: 1 }],
  ];
  test.each(rows.map(([mode, entries, expected], i) => ({ i, mode, entries, expected })))('$i: $mode', ({ mode, entries, expected }) => {
    const w = new Walker(mode).chain(...entries);
    leftovers(w);
    expect(w.walk(0n, Access.Read)).toBe(WalkKind.Mapped);
    expect(fields(w.out)).toEqual({ global: false, dirty: false, accessed: true, pkey: 0, maskBit: false, ...expected });
    w.input.cr4 |= PGE;
    w.walk(0n, Access.Write);
    expect([w.out.global, w.out.dirty]).toEqual([(entries.at(-1)! & G) !== 0n, w.out.kind === WalkKind.Mapped]);
  });
  test('a lookup tells the flags as they are, and sets none', () => {
    for (const [flags, accessed, dirty] of [[0n, false, false], [A, true, false], [A | D, true, true]] as const) {
      const w = new Walker('4-level').chain(T, T, T, T | flags);
      w.input.setFlags = false;
      expect(w.walk(0n, Access.Write)).toBe(WalkKind.Mapped);
      expect([w.out.accessed, w.out.dirty, w.memory.at(0x4000) === (T | flags), w.memory.at(0x1000) & A]).toEqual([accessed, dirty, true, 0n]);
    }
  });
  test('flags that are set already are not written again', () => {
    const swaps: number[] = [];
    const w = new Walker('4-level').chain(T | A, T | A, T | A, T | A | D);
    w.memory.beforeSwap = (gpa) => void swaps.push(gpa);
    expect([w.walk(0n, Access.Write), swaps]).toEqual([WalkKind.Mapped, []]);
    const clean = new Walker('4-level').chain(T | A, T | A, T | A, T | A);
    clean.memory.beforeSwap = (gpa) => void swaps.push(gpa);
    expect([clean.walk(0n, Access.Read), swaps, clean.walk(0n, Access.ShadowRead), clean.walk(0n, Access.Write), swaps]).toEqual([WalkKind.Mapped, [0x4000], WalkKind.Fault, WalkKind.Mapped, [0x4000]]);
  });
  test('faults: the linear address, of which only long mode has a high half', () => {
    for (const [mode, hi] of [['32-bit', 0], ['PAE', 0], ['4-level', 0xffff_8000], ['5-level', 0xff00_0000]] as const) {
      const w = new Walker(mode);
      w.input.cr3Lo = 0x1000;
      expect(w.walk((BigInt(mode === '5-level' ? 0xff00_0000 : 0xffff_8000) << 32n) | 0x8765_4321n, Access.Write)).toBe(WalkKind.Fault);
      expect([w.out.cr2Lo, w.out.cr2Hi, w.out.errorCode], mode).toEqual([0x8765_4321, hi, 2]);
    }
  });
  test('a refused table access is one of the walk, a refused leaf one of the access', () => {
    const w = new Walker('4-level').chain(T, T, T, T | 0x5000n);
    leftovers(w);
    w.out.userPage = true;
    w.memory.refuse = (op, gpa) => (op === 'read' && gpa === 0x3000 ? 7 : 0);
    w.walk(0n, Access.Write);
    expect([w.out.gpa, w.out.stage2Access, w.out.isWalk, w.out.userPage, w.out.status]).toEqual([0x3000, Access.Read, true, false, 7]);
    w.memory.refuse = (op) => (op === 'leaf' ? 9 : 0);
    w.walk(0n, Access.Fetch);
    expect([w.out.kind, w.out.gpa, w.out.stage2Access, w.out.isWalk, w.out.userPage, w.out.status]).toEqual([WalkKind.Stage2, 0x5000, Access.Fetch, false, true, 9]);
    const flat = new Walker('no paging');
    leftovers(flat);
    flat.memory.refuse = (op) => (op === 'leaf' ? 5 : 0);
    flat.walk(0x77n, Access.Read);
    expect([flat.out.kind, flat.out.gpa, flat.out.stage2Access, flat.out.isWalk, flat.out.userPage, flat.out.status]).toEqual([WalkKind.Stage2, 0x77, Access.Read, false, true, 5]);
  });
  test('TLFS Mode Based Execution Control: without paging, too, the mode of a fetch decides', () => {
    for (const [byMode, access, privilege, cr4, hasSmep, expected] of [
      [true, Access.Fetch, Privilege.Supervisor, 0, false, false], [true, Access.Fetch, Privilege.User, 0, false, true], [true, Access.Fetch, Privilege.User, 0, true, false], [true, Access.Fetch, Privilege.User, SMEP, true, true],
      [true, Access.Read, Privilege.Supervisor, 0, false, true], [false, Access.Fetch, Privilege.Supervisor, 0, false, true],
    ] as const) {
      const w = new Walker('no paging');
      Object.assign(w.input, { fetchByMode: byMode, hasSmep, cr4 });
      w.walk(0x10n, access, privilege);
      expect(w.memory.leaves.at(-1)!.userPage, JSON.stringify([byMode, access, privilege, cr4, hasSmep])).toBe(expected);
      if (access !== Access.Read) continue;
      const paged = new Walker('4-level').chain(T, T, T, P | RW | 0x5000n);
      Object.assign(paged.input, { fetchByMode: byMode, hasSmep });
      paged.walk(0n, access, privilege);
      expect(paged.memory.leaves.at(-1)!.userPage).toBe(false);
    }
  });
});

describe('SDM 3A §4.6.2: each key has two bits', () => {
  test.each([0, 1, 5, 15])('key %i', (key) => {
    for (const [page, field] of [[US, 'pkru'], [0n, 'pkrs']] as const) {
      const w = new Walker('4-level').chain(T, T, T, P | RW | page | (BigInt(key) << 59n));
      w.input.cr4 |= PKE | PKS;
      const by = page === US ? Privilege.User : Privilege.Supervisor;
      const kind = (bits: number): WalkKind => {
        w.input[field] = (bits << (key * 2)) >>> 0;
        return w.walk(0n, Access.Read, by);
      };
      expect([kind(0), kind(1), kind(2), kind(3)]).toEqual([WalkKind.Mapped, WalkKind.Fault, WalkKind.Mapped, WalkKind.Fault]);
      w.input[field] = (~(3 << (key * 2))) >>> 0;
      expect(w.walk(0n, Access.Write, by)).toBe(WalkKind.Mapped);
    }
  });
});

describe('SDM 3A §4.4.1: PDPTE registers', () => {
  test('the table lies at bits 31:5 of CR3, entries 8 bytes apart; all four are taken, or none', () => {
    const w = new Walker('PAE');
    w.input.cr3Lo = 0xffff_ffff | 0;
    const base = 0xffff_ffe0;
    [0x1001n, 0x2000_0000_2001n, 0n, 0xfn << 12n].forEach((e, i) => w.memory.put(base + i * 8, e));
    expect(loadPdptes(w.memory, w.input, new Uint32Array(8))).toBe(PdpteLoad.Loaded);
    expect([...w.input.pdpte]).toEqual([0x1001, 0, 0x2001, 0x2000, 0, 0, 0xf000, 0]);
    w.memory.put(base + 24, P | (1n << 46n));
    expect([loadPdptes(w.memory, w.input, new Uint32Array(8)), w.input.pdpte[6]]).toEqual([PdpteLoad.Invalid, 0xf000]);
  });
  test('the mask bit of the model is no reserved one, and no address', () => {
    const w = new Walker('PAE', new AddressModel(40, true, true, 45));
    w.input.cr3Lo = 0x1000;
    w.memory.put(0x1000, 0x2001n | (1n << 45n)).put(0x2000, T | 0x3000n).put(0x3000, T | 0x5000n);
    expect([loadPdptes(w.memory, w.input, new Uint32Array(8)), w.walk(0x10n), w.out.gpa]).toEqual([PdpteLoad.Loaded, WalkKind.Mapped, 0x5010]);
  });
  test.each([[0, 0x1000], [1, 0x2000], [2, 0x3000], [3, 0x4000]])('register %i is chosen by bits 31:30', (i, table) => {
    const w = new Walker('PAE');
    for (let n = 0; n < 4; n++) w.input.pdpte[n * 2] = (0x1000 * (n + 1)) | 1;
    w.memory.put(table + 8 * 0x1ff, T | 0x8000n).put(0x8000 + 8 * 0x1fe, T | 0x9000n);
    expect([w.walk(BigInt(i * 2 ** 30 + 0x3fff_e123)), w.out.gpa]).toEqual([WalkKind.Mapped, 0x9123]);
    for (let n = 0; n < 4; n++) w.input.pdpte[n * 2]! &= ~1;
    expect([w.walk(BigInt(i * 2 ** 30)), w.out.errorCode]).toEqual([WalkKind.Fault, 0]);
  });
});

test('a translation for others restores every field of its input, whatever they were', () => {
  const w = new Walker('4-level').chain(T, T, T, P | 0x5000n);
  Object.assign(w.input, { laLo: 5, laHi: 6, access: Access.Write, privilege: Privilege.User, setFlags: true });
  expect(translate(w.memory, w.input, w.out, 0x10n)).toEqual({ valid: true, gpa: 0x5010, writeable: false, usermode: false });
  expect([w.input.laLo, w.input.laHi, w.input.access, w.input.privilege, w.input.setFlags]).toEqual([5, 6, Access.Write, Privilege.User, true]);
  const all = new Walker('no paging');
  expect(translate(all.memory, all.input, all.out, 0x1_2345_6789n)).toEqual({ valid: true, gpa: 0x2345_6789, writeable: true, usermode: true });
  // Neither keys nor SMAP nor missing rights stand in its way.
  Object.assign(w.input, { pkrs: -1, pkru: -1, cr4: w.input.cr4 | PKE | PKS });
  expect(translate(w.memory, w.input, w.out, 0x10n).valid).toBe(true);
  w.memory.refuse = (op) => (op === 'read' ? 7 : 0);
  expect(translate(w.memory, w.input, w.out, 0x10n)).toEqual({ valid: false, gpa: 0, writeable: false, usermode: false });
  expect([MODES['4-level'].cr0, MODES['4-level'].efer & NXE, MODES.PAE.cr4]).toEqual([PG, NXE, PAE]);
});
