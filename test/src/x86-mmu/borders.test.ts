import { type AccessResult, Arena, GuestMemory, Right } from '@vmplanes/engine';
import { Access, AddressModel, GuestTables, type LeafSubjects, loadPdptes, PageFault, PdpteLoad, Privilege, refusalOf, TableStatus, translate, WalkKind } from '@vmplanes/x86';
import { describe, expect, test } from 'vitest';
import { A, CET, D, MODES, type ModeName, NXE, P, PAE, PG, PGE, PKE, PKS, PS, PSE, RW, SMAP, SMEP, US, WP, Walker } from './walker.ts';

const T = P | RW | US;

describe('each bit of the linear address chooses its own entry', () => {
  /** [mode, level below the top, lowest bit, bits, bytes of an entry]: SDM 3A figures 4-2, 4-5, 4-8, 4-11. */
  const fields: readonly (readonly [ModeName, number, number, number, number])[] = [
    ['32-bit', 0, 22, 10, 4], ['32-bit', 1, 12, 10, 4],
    ['PAE', 0, 21, 9, 8], ['PAE', 1, 12, 9, 8],
    ['4-level', 0, 39, 9, 8], ['4-level', 1, 30, 9, 8], ['4-level', 2, 21, 9, 8], ['4-level', 3, 12, 9, 8],
    ['5-level', 0, 48, 9, 8], ['5-level', 1, 39, 9, 8], ['5-level', 4, 12, 9, 8],
  ];
  const depth = { '32-bit': 2, '32-bit PSE': 2, PAE: 2, '4-level': 4, '5-level': 5, 'no paging': 0 } as const;
  test.each(fields)('%s, table %i: from bit %i, %i bits', (mode, table, lowest, bits, bytes) => {
    for (let bit = 0; bit < bits; bit++) {
      const at = 0x1000 * (table + 1);
      const entries = Array.from({ length: depth[mode] }, (_, i) => (i === depth[mode] - 1 ? T | 0x9000n : T));
      const w = new Walker(mode).chain(...entries);
      w.memory.put(at + (bytes << bit), w.memory.at(at) + 0n).put(at, 0n);
      const linear = BigInt.asUintN(64, BigInt.asIntN(mode === '5-level' ? 57 : 48, 1n << BigInt(lowest + bit)));
      expect([bit, w.walk(linear | 0x123n), w.out.gpa]).toEqual([bit, WalkKind.Mapped, 0x9123]);
    }
  });

  test('a translation for others takes all 64 bits', () => {
    for (const [linear, entry] of [[1n << 32n, 4 * 8], [1n << 33n, 8 * 8], [1n << 38n, 256 * 8], [1n << 30n, 8]] as const) {
      const w = new Walker('4-level').chain(T, T | PS);
      w.memory.put(0x2000, 0n).put(0x2000 + entry, T | PS | (3n << 30n));
      expect(translate(w.memory, w.input, w.out, linear | 5n)).toEqual({ valid: true, gpa: 3 * 2 ** 30 + 5, writeable: true, usermode: true });
    }
  });
});

describe('what CR3 and the PDPTE registers hold beside an address', () => {
  test.each(['32-bit', '4-level', '5-level'] as const)('%s: the low 12 bits of CR3 are attributes', (mode) => {
    for (const low of [1, 0x18, 0xfff]) {
      const w = new Walker(mode).chain(...Array<bigint>({ '32-bit': 2, '4-level': 4, '5-level': 5 }[mode]).fill(T));
      w.input.cr3Lo = 0x1000 | low;
      expect([w.walk(0x10n), w.memory.at(0x1000) & A]).toEqual([WalkKind.Mapped, A]);
    }
  });

  test('32-bit: a table above 2 GBytes; the high half of CR3 does not count', () => {
    const w = new Walker('32-bit');
    Object.assign(w.input, { cr3Lo: 0xffff_f000 | 0, cr3Hi: 0xff });
    w.memory.put(0xffff_f000, T | 0x8000_1000n).put(0x8000_1000, T | 0x5000n);
    expect([w.walk(0x10n), w.out.gpa]).toEqual([WalkKind.Mapped, 0x5010]);
  });

  test('PAE: each register has its high half beside its low one, and its own present bit', () => {
    for (const i of [0, 1, 2, 3]) {
      const w = new Walker('PAE');
      w.input.pdpte.set([0x1001, 0x11, 0x1001, 0x22, 0x1001, 0x33, 0x1001, 0x4]);
      const table = [0x11, 0x22, 0x33, 0x4][i]! * 2 ** 32 + 0x1000;
      w.memory.put(table, T | PS | 0x4000_0000n);
      expect([w.walk(BigInt(i) << 30n), w.out.gpa]).toEqual([WalkKind.Mapped, 0x4000_0000]);
      w.input.pdpte[i * 2]! &= ~1;
      expect([w.walk(BigInt(i) << 30n), w.out.errorCode]).toEqual([WalkKind.Fault, 0]);
    }
  });

  test('PAE: a load reads four entries and no fifth', () => {
    const w = new Walker('PAE');
    w.input.cr3Lo = 0x1000;
    const asked: number[] = [];
    w.memory.refuse = (_, gpa) => (asked.push(gpa), gpa >= 0x1020 ? 7 : TableStatus.Ok);
    expect([loadPdptes(w.memory, w.input, new Uint32Array(8)), asked]).toEqual([PdpteLoad.Loaded, [0x1000, 0x1008, 0x1010, 0x1018]]);
  });
});

describe('who decides', () => {
  const paged = (cr0: number, cr4: number, leaf: bigint): Walker => {
    const w = new Walker('4-level').chain(T, T, T, leaf);
    w.input.cr0 |= cr0;
    w.input.cr4 |= cr4;
    return w;
  };
  test('SMAP is for supervisor accesses to user pages', () => {
    for (const [leaf, by, expected] of [[T, Privilege.User, WalkKind.Mapped], [P | RW, Privilege.Supervisor, WalkKind.Mapped], [P | RW, Privilege.Implicit, WalkKind.Mapped], [T, Privilege.Supervisor, WalkKind.Fault]] as const) {
      for (const access of [Access.Read, Access.Write]) expect([by, access, paged(WP, SMAP, leaf).walk(0n, access, by)]).toEqual([by, access, expected]);
    }
  });

  test('PKE is for user pages, PKS for supervisor pages', () => {
    for (const [leaf, cr4, expected] of [[T, PKE, 'fault'], [T, PKS, 'ok'], [P | RW, PKE, 'ok'], [P | RW, PKS, 'fault']] as const) {
      const w = paged(WP, cr4, leaf);
      w.input.pkru = w.input.pkrs = -1;
      expect([cr4, w.walk(0n, Access.Read, Privilege.Supervisor) === WalkKind.Fault && (w.out.errorCode & PageFault.PK) !== 0]).toEqual([cr4, expected === 'fault']);
    }
  });

  test('write-disable stops shadow-stack writes, access-disable both; a lookup is stopped by neither', () => {
    for (const [key, access, code] of [[2, Access.ShadowWrite, 1 | 2 | 4 | 32 | 64], [2, Access.ShadowRead, 0], [1, Access.ShadowRead, 1 | 4 | 32 | 64], [1, Access.ShadowWrite, 1 | 2 | 4 | 32 | 64], [3, Access.Lookup, 0]] as const) {
      const w = paged(WP, CET | PKE, P | US | D);
      w.input.pkru = key;
      expect([key, access, w.walk(0n, access, Privilege.User) === WalkKind.Fault ? w.out.errorCode : 0]).toEqual([key, access, code]);
    }
  });

  test('a shadow stack needs CR4.CET, CR0.WP, D and no R/W in the leaf', () => {
    for (const [cr0, cr4, leaf, expected] of [[WP, CET, P | US | D, true], [0, CET, P | US | D, false], [WP, 0, P | US | D, false], [0, 0, P | US | D, false], [WP, CET, P | US, false], [WP, CET, T | D, false]] as const) {
      for (const access of [Access.ShadowRead, Access.ShadowWrite]) {
        const w = paged(cr0, cr4, leaf);
        expect([cr0, cr4, leaf, w.walk(0n, access, Privilege.User) === WalkKind.Mapped]).toEqual([cr0, cr4, leaf, expected]);
        expect(w.memory.at(0x4000) & (A | D)).toBe(expected ? A | D : leaf & D);
      }
    }
  });

  test('SDM 3A §4.7: the fetch bit comes with SMEP, or with PAE and NXE together', () => {
    for (const [cr4, efer, reports] of [[0, 0, false], [0, NXE, false], [PAE, 0, false], [PAE, NXE, true], [SMEP, 0, true], [PSE | PGE, NXE, false]] as const) {
      const w = new Walker('32-bit');
      Object.assign(w.input, { cr0: PG, cr4, efer });
      expect([cr4, efer, w.walk(0n, Access.Fetch, Privilege.Supervisor), w.out.errorCode]).toEqual([cr4, efer, WalkKind.Fault, reports ? 16 : 0]);
    }
  });

  test('PS means a page in 32-bit paging with CR4.PSE only', () => {
    for (const [mode, gpa, shift] of [['32-bit', 0x5123, 12], ['32-bit PSE', 0x40_2123, 22]] as const) {
      const w = new Walker(mode);
      w.input.cr3Lo = 0x1000;
      w.memory.put(0x1000, T | PS | 0x40_0000n).put(0x40_0000 + 8, T | 0x5000n);
      expect([mode, w.walk(0x2123n), w.out.gpa, w.out.pageShift]).toEqual([mode, WalkKind.Mapped, gpa, shift]);
    }
  });
});

describe('changes under a walk', () => {
  test.each([1, 2, 3, 4])('table %i changes before its flag is set: the new entry counts, and the refuser is not asked why', (n) => {
    const w = new Walker('4-level').chain(T, T, T, T | 0x5000n);
    w.memory.put(0x8000, T | 0x9000n).put(0x9000, T | 0xa000n).put(0xa000, T | 0xb000n).put(0xb000, T | 0xc000n);
    let left = 2;
    w.memory.beforeSwap = (gpa) => {
      if (gpa === n * 0x1000 && left-- > 0) w.memory.put(gpa, left === 1 ? w.memory.at(gpa) | (1n << 9n) : T | [0x9000n, 0xa000n, 0xb000n, 0xc000n][n - 1]!);
    };
    expect([w.walk(0x10n), w.out.gpa, w.memory.at(n * 0x1000) & A]).toEqual([WalkKind.Mapped, 0xc010, A]);
  });

  test('a leaf is marked when it had the bit, or when its mode has none', () => {
    const C = 1n << 47n;
    for (const [mode, leaf, expected] of [['4-level', T | C, true], ['4-level', T, false], ['32-bit', T, true], ['no paging', 0n, true]] as const) {
      const w = new Walker(mode, new AddressModel(40, true, true, 47));
      if (mode === '4-level') w.chain(T, T, T, leaf);
      if (mode === '32-bit') w.chain(T, leaf);
      expect([mode, w.walk(0n), w.memory.marks]).toEqual([mode, WalkKind.Mapped, [expected]]);
    }
  });

  test('addresses without paging are never judged as canonical', () => {
    const w = new Walker('no paging');
    expect(w.walk(0x8000_0000_0000_0000n)).toBe(WalkKind.Mapped);
    expect(MODES['no paging'].cr4).toBe(0);
  });
});

describe('the address model refuses the first wrong number that it names', () => {
  test('both wrong', () => {
    expect(() => new AddressModel(20, true, true, 60)).toThrow('MAXPHYADDR 20: not in 32..52');
  });
});

describe('tables in guest memory', () => {
  const PAGE = 5;
  function machine(sided: LeafSubjects | null = null): { memory: GuestMemory; tables: GuestTables } {
    const memory = new GuestMemory(new Arena(new ArrayBuffer(16 * 4096)), { firstByte: 0, frames: 16, maxPlanes: 2 });
    memory.addSlot({ id: 0, gpa: 0, size: 0x8000 });
    return { memory, tables: new GuestTables(memory.access, memory.subjects[1]!, sided) };
  }
  const NAMES = { read: Right.Read, write: Right.Write, kernel: Right.ExecSupervisor, user: Right.ExecUser, shadow: Right.ShadowStack } as const;
  /** What the second stage must grant, by access, for a supervisor-mode and a user-mode address. @spec SDM 3C §29.3.3.2 */
  test.each([
    [Access.Read, ['read'], ['read']],
    [Access.Write, ['write'], ['write']],
    [Access.Fetch, ['kernel'], ['user']],
    [Access.ShadowRead, ['read', 'shadow'], ['read']],
    [Access.ShadowWrite, ['write', 'shadow'], ['write']],
    [Access.Lookup, [], []],
  ])('access %i needs of a supervisor page %o, of a user page %o', (access, supervisor, user) => {
    const all = Object.values(NAMES).reduce((set, right) => set | right, 0);
    for (const [name, right] of Object.entries(NAMES)) {
      for (const [needs, userPage] of [[supervisor, false], [user, true]] as const) {
        const { memory, tables } = machine();
        memory.permissions[1]!.set(PAGE, 1, all & ~right);
        expect([name, userPage, tables.leaf(PAGE * 4096, access, userPage, false) === TableStatus.Ok]).toEqual([name, userPage, !(needs as string[]).includes(name)]);
      }
    }
  });

  test('a fresh port holds nothing; entries of 4 and of 8 bytes', () => {
    const { memory, tables } = machine();
    expect([tables.lo, tables.hi, tables.leafSubject, tables.walkSubject]).toEqual([0, 0, memory.subjects[1]!.cpu, memory.subjects[1]!.walk]);
    memory.access.writeU64(memory.subjects[1]!.host, 0x100, 0x1111_2222, 0x3333_4444);
    expect([tables.read(0x100, 8), tables.lo, tables.hi]).toEqual([TableStatus.Ok, 0x1111_2222, 0x3333_4444]);
    expect([tables.read(0x100, 4), tables.lo, tables.hi]).toEqual([TableStatus.Ok, 0x1111_2222, 0]);
    expect([tables.read(0x104, 4), tables.lo]).toEqual([TableStatus.Ok, 0x3333_4444]);
  });

  test('an entry is swapped, has changed, or is refused with the reason of the memory', () => {
    const { memory, tables } = machine();
    const { access } = memory;
    access.writeU64(memory.subjects[1]!.host, 0x100, 1, 2);
    expect([tables.compareAndSwap(0x100, 8, 1, 2, 3, 4), tables.compareAndSwap(0x100, 8, 1, 2, 5, 6), tables.read(0x100, 8), tables.lo, tables.hi]).toEqual([TableStatus.Ok, TableStatus.Changed, TableStatus.Ok, 3, 4]);
    const refused = tables.compareAndSwap(0x20_0000, 8, 0, 0, 0, 0);
    expect([refused >= TableStatus.Refused, refusalOf(refused)]).toEqual([true, access.readU64(memory.subjects[1]!.walk, 0x20_0000) as AccessResult]);
    memory.permissions[1]!.set(0, 1, Right.Read);
    expect(refusalOf(tables.compareAndSwap(0x100, 8, 3, 4, 0, 0))).not.toBe(refusalOf(refused));
  });

  test('a leaf is asked for one byte', () => {
    const { memory, tables } = machine();
    memory.permissions[1]!.set(PAGE + 1, 1, 0);
    expect([tables.leaf((PAGE + 1) * 4096 - 1, Access.Read, false, false), tables.leaf((PAGE + 1) * 4096, Access.Read, false, false) >= TableStatus.Refused]).toEqual([TableStatus.Ok, true]);
  });

  test('where memory has sides the guest says who accesses', () => {
    const asked: unknown[] = [];
    const { memory } = machine();
    const { subjects, access } = memory;
    const sided: LeafSubjects = { walk: subjects[0]!.walk, cpu: (gpa, marked, isFetch) => (asked.push([gpa, marked, isFetch]), subjects[marked ? 0 : 1]!.cpu) };
    const tables = new GuestTables(access, subjects[1]!, sided);
    expect([tables.walkSubject, tables.leafSubject]).toEqual([subjects[0]!.walk, subjects[1]!.cpu]);
    memory.permissions[1]!.set(PAGE, 1, 0);
    expect([tables.leaf(PAGE * 4096, Access.Read, true, true), tables.leafSubject]).toEqual([TableStatus.Ok, subjects[0]!.cpu]);
    expect([tables.leaf(PAGE * 4096, Access.Fetch, true, false) >= TableStatus.Refused, tables.leafSubject]).toEqual([true, subjects[1]!.cpu]);
    tables.leaf(0x10, Access.ShadowRead, false, false);
    expect(asked).toEqual([[PAGE * 4096, true, false], [PAGE * 4096, false, true], [0x10, false, false]]);
  });
});
