import { AccessResult, Arena, GuestMemory, Right } from '@vmplanes/engine';
import { Access, AddressModel, GuestTables, Privilege, refusalOf, WalkInput, WalkKind, WalkResult, walk } from '@vmplanes/x86';
import { describe, expect, test } from 'vitest';
import { A, D, MODES, P, RW, US } from './walker.ts';

const T = P | RW | US;
const FRAMES = 32;

/** Two planes over 64 KiB; plane 1 walks tables at 0x1000..0x4000 to the page at 0x5000 (linear 0) and to 0x100000 (linear 0x1000), where no memory is. */
function machine() {
  const arena = new Arena(new ArrayBuffer(FRAMES * 4096));
  const memory = new GuestMemory(arena, { firstByte: 0, frames: FRAMES, maxPlanes: 2 });
  memory.addSlot({ id: 0, gpa: 0, size: 0x10000 });
  const put = (gpa: number, value: bigint): void => {
    memory.access.writeU64(memory.subjects[1]!.host, gpa, Number(value & 0xffffffffn), Number(value >> 32n));
  };
  const at = (gpa: number): bigint => {
    memory.access.readU64(memory.subjects[1]!.host, gpa);
    return (BigInt(memory.access.hi) << 32n) | BigInt(memory.access.lo);
  };
  for (const n of [1, 2, 3]) put(n * 0x1000, T | BigInt((n + 1) * 0x1000));
  put(0x4000, T | 0x5000n);
  put(0x4008, T | 0x100000n);
  const input = new WalkInput(new AddressModel(46));
  Object.assign(input, MODES['4-level'], { cr3Lo: 0x1000 });
  const out = new WalkResult();
  const tables = new GuestTables(memory.access, memory.subjects[1]!);
  const go = (linear: number, access: Access, privilege: Privilege = Privilege.User): WalkKind => {
    Object.assign(input, { laLo: linear, laHi: 0, access, privilege });
    return walk(tables, input, out);
  };
  return { memory, put, at, out, go };
}

describe('walks over guest memory', () => {
  test('map, and set the flags in memory', () => {
    const m = machine();
    expect([m.go(0x12, Access.Write), m.out.gpa]).toEqual([WalkKind.Mapped, 0x5012]);
    expect([m.at(0x1000) & (A | D), m.at(0x4000) & (A | D)]).toEqual([A, A | D]);
  });

  test.each([
    ['a table that the plane may not read', 0x2000, Right.Write, Access.Read, 0x2000, true, Access.Read],
    ['a table that the plane may not write', 0x3000, Right.Read, Access.Read, 0x3000, true, Access.Write],
    ['a leaf that the plane may not write', 0x5000, Right.Read, Access.Write, 0x5012, false, Access.Write],
    ['a leaf without user execution', 0x5000, Right.Read | Right.ExecSupervisor, Access.Fetch, 0x5012, false, Access.Fetch],
  ] as const)('%s', (_, page, rights, access, gpa, isWalk, refused) => {
    const m = machine();
    m.memory.permissions[1]!.set(page / 4096, 1, rights);
    expect([m.go(0x12, access), m.out.gpa, m.out.isWalk, m.out.stage2Access, refusalOf(m.out.status)]).toEqual([WalkKind.Stage2, gpa, isWalk, refused, AccessResult.Denied]);
    expect(m.memory.access.failedGpa).toBe(gpa);
  });

  test('the other plane’s permissions do not count', () => {
    const m = machine();
    m.memory.permissions[0]!.set(0, 16, 0);
    expect(m.go(0, Access.Write)).toBe(WalkKind.Mapped);
  });

  test('no memory behind the leaf is a device access, and behind a table a refused walk', () => {
    const m = machine();
    expect([m.go(0x1010, Access.Read), m.out.gpa, m.out.isWalk, refusalOf(m.out.status)]).toEqual([WalkKind.Stage2, 0x100010, false, AccessResult.Absent]);
    m.put(0x2000, T | 0x200000n);
    expect([m.go(0, Access.Read), m.out.gpa, m.out.isWalk, refusalOf(m.out.status)]).toEqual([WalkKind.Stage2, 0x200000, true, AccessResult.Absent]);
  });

  test('compare-and-swap stores only over the old value, and only the bytes asked for', () => {
    const m = machine();
    const { access } = m.memory;
    const walker = m.memory.subjects[1]!.walk;
    m.put(0x6000, 0x1111_2222_3333_4444n);
    expect([access.compareAndSwap(walker, 0x6000, 8, 0x33334444, 0x11112223, 1, 1), access.swapped, m.at(0x6000)]).toEqual([AccessResult.Ok, false, 0x1111_2222_3333_4444n]);
    expect([access.compareAndSwap(walker, 0x6000, 4, 0x33334444, 0, -1, 0), access.swapped, m.at(0x6000)]).toEqual([AccessResult.Ok, true, 0x1111_2222_ffff_ffffn]);
    expect([access.compareAndSwap(walker, 0x6000, 8, -1, 0x11112222, 5, 6), access.swapped, m.at(0x6000)]).toEqual([AccessResult.Ok, true, 0x6_0000_0005n]);
    m.memory.permissions[1]!.set(6, 1, Right.Read);
    expect([access.compareAndSwap(walker, 0x6000, 8, 5, 6, 0, 0), access.swapped]).toEqual([AccessResult.Denied, false]);
  });
});
