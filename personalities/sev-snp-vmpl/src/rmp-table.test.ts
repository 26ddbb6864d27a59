import { HostError } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { RmpBit, RmpTable } from './rmp-table.ts';

const none = { assigned: false, validated: false, immutable: false, vmsa: false, large: false, foreign: false, perms: [0, 0, 0] };
const names = [['assigned', 'Assigned'], ['validated', 'Validated'], ['immutable', 'Immutable'], ['vmsa', 'Vmsa'], ['large', 'Large'], ['foreign', 'Foreign']] as const;

describe('the table of pages', () => {
  it.each(names)('an entry is %s by its own bit', (name, bit) => {
    const table = new RmpTable();
    table.setBits(7, 1, RmpBit[bit]);
    expect([table.entry(7), { ...table.entry(6) }, { ...table.entry(8) }].slice(1)).toEqual([none, none]);
    expect(table.entry(7)).toEqual({ ...none, [name]: true });
    expect(table.bits(7)).toBe(RmpBit[bit]);
  });
  it('permissions by VMPL; VMPL0 has all', () => {
    const table = new RmpTable();
    for (const vmpl of [1, 2, 3]) table.setPermissions(10, 2, vmpl, vmpl + 4);
    expect([0, 1, 2, 3].map((vmpl) => table.permissions(11, vmpl))).toEqual([0x1f, 5, 6, 7]);
    expect([table.entry(10).perms.slice(), table.entry(12).perms.slice()]).toEqual([[5, 6, 7], [0, 0, 0]]);
    table.clearPermissions(10, 1);
    expect([table.entry(10).perms.slice(), table.entry(11).perms.slice()]).toEqual([[0, 0, 0], [5, 6, 7]]);
  });
  it('changes some bits and leaves the others', () => {
    const table = new RmpTable();
    table.setBits(0, 4, 1 | 2 | 16);
    table.change(1, 2, 2, 8);
    expect([0, 1, 2, 3, 4].map((gpn) => table.bits(gpn))).toEqual([19, 25, 25, 19, 0]);
  });
  it('owners go with the bit that says so', () => {
    const table = new RmpTable();
    for (const gpn of [4, 5, 6, 7]) {
      table.setBits(gpn, 1, RmpBit.Foreign);
      table.setForeign(gpn, { asid: gpn, gpa: BigInt(gpn) << 12n });
    }
    table.setBits(5, 2, 1);
    expect([4, 5, 6, 7].map((gpn) => table.foreign(gpn)?.asid ?? null)).toEqual([4, null, null, 7]);
    table.setBits(4, 1, RmpBit.Foreign | RmpBit.Assigned);
    expect(table.foreign(4)).toEqual({ asid: 4, gpa: 0x4000n });
  });
  it('runs end where any part of an entry changes', () => {
    const table = new RmpTable();
    table.setBits(10, 10, 1);
    expect([table.runEnd(0, 100), table.runEnd(10, 100), table.runEnd(10, 15), table.runEnd(20, 100)]).toEqual([10, 20, 15, 100]);
    for (const vmpl of [1, 2, 3]) {
      table.setPermissions(12 + vmpl, 1, vmpl, 1);
      expect(table.runEnd(10, 100)).toBe(13);
    }
    const runs: number[][] = [];
    table.forEachRun((first, count) => runs.push([first, count]));
    expect(runs).toEqual([[10, 3], [13, 1], [14, 1], [15, 1], [16, 4]]);
  });
  it('a run without bits is none, though it has permissions', () => {
    const table = new RmpTable();
    table.setPermissions(3, 1, 2, 1);
    table.setBits(0, 1, 1);
    const runs: number[][] = [];
    table.forEachRun((first, count) => runs.push([first, count]));
    expect(runs).toEqual([[0, 1]]);
  });
  it('is saved and restored whole', () => {
    const table = new RmpTable();
    table.setBits(1, 2, RmpBit.Foreign | 1);
    table.setForeign(2, { asid: 0x30, gpa: 0x12_3456_7890_1000n });
    table.setForeign(1, { asid: 2, gpa: 0x1000n });
    for (const vmpl of [1, 2, 3]) table.setPermissions(5, 1, vmpl, vmpl);
    const state = table.save();
    expect((state as { foreign: unknown }).foreign).toEqual([{ gpn: 1, asid: 2, gpa: '0x1000' }, { gpn: 2, asid: 0x30, gpa: '0x12345678901000' }]);
    const copy = new RmpTable();
    copy.setForeign(9, { asid: 1, gpa: 0n });
    copy.restore(structuredClone(state));
    expect(copy.save()).toEqual(state);
    expect([copy.foreign(9), copy.foreign(2), copy.entry(5).perms.slice(), copy.bits(1)]).toEqual([null, { asid: 0x30, gpa: 0x12_3456_7890_1000n }, [1, 2, 3], 33]);
  });
  it.each([
    ['none', []], ['one number', [0]], ['three numbers', [0, 0, 1]], ['another first page', [1, 0]],
  ])('rows of a table must be pairs from page 0 on: %s', (_name, rows) => {
    const state = new RmpTable().save() as { bits: Float64Array; perms: Float64Array[]; foreign: never[] };
    const bad = Float64Array.from(rows);
    for (const wrong of [{ ...state, bits: bad }, ...[0, 1, 2].map((i) => ({ ...state, perms: state.perms.map((p, n) => (n === i ? bad : p)) }))]) {
      try {
        new RmpTable().restore(wrong as never);
        expect.unreachable();
      } catch (error) {
        expect(error).toBeInstanceOf(HostError);
        expect((error as HostError).code).toBe('BadSnapshot');
      }
    }
  });
});
