import { describe, expect, it } from 'vitest';
import { array } from './array.ts';
import { bits } from './bits.ts';
import { reference, referencePage } from './reference.ts';
import { findReserved, reservedBytes } from './reserved.ts';
import { bytes, u16, u32, u64, u8 } from './scalar.ts';
import { struct } from './struct.ts';
import { tail } from './tail.ts';
import { tagged, union } from './union.ts';

const Flags = bits('Flags', 'Spec 1', 8, { plane: [4, 3, 'which | plane'], present: [0, 'is there'] });
const Entry = struct('Entry', 'Spec 2', 8, { flags: [0, Flags, 'see Flags'], reserved: [1, bytes(1)], count: [2, u16], value: [4, u32, 'any'] });
const Table = struct('Table', 'Spec 3', 16, { entries: [0, array(Entry, 2), 'two rows'] });
const List = tail('List', 'Spec 4', Entry, 'items', u64, 'count');
const Either = union('Either', 'Spec 5', 8, { entry: Entry, word: u64 });
const Exit = tagged('Exit', 'Spec 6', 'largest', Entry, 'count', { second: [2, u64], first: [1, u8, 'one'] });

describe('reference', () => {
  it('prints a structure by offset', () =>
    expect(reference(Entry)).toBe(`### Entry

Spec 2 · 8 bytes

| offset | size | name | type | doc |
| --- | --- | --- | --- | --- |
| 0x0 | 1 | flags | Flags | see Flags |
| 0x1 | 1 | reserved | bytes(1) |  |
| 0x2 | 2 | count | u16 |  |
| 0x4 | 4 | value | u32 | any |`));

  it('prints bits in rising order with their holes', () =>
    expect(reference(Flags)).toBe(`### Flags

Spec 1 · 1 bytes

| bits | name | type | doc |
| --- | --- | --- | --- |
| 0 | present | flag | is there |
| 3:1 | reserved | 3 bits |  |
| 6:4 | plane | 3 bits | which \\| plane |
| 7 | reserved | 1 bits |  |`));

  it('prints tails, unions and tagged unions', () => {
    expect(reference(List)).toContain('| 0x8 | 8 each | items | u64[] | `count` elements |');
    expect(reference(Either)).toContain('One of:\n\n| offset | size | name | type | doc |\n| --- | --- | --- | --- | --- |\n| 0x0 | 8 | entry | Entry |  |\n| 0x0 | 8 | word | u64 |  |');
    expect(reference(Exit)).toContain('At 0x8, by `count`:\n\n| count | size | name | type | doc |\n| --- | --- | --- | --- | --- |\n| 0x1 | 1 | first | u8 | one |\n| 0x2 | 8 | second | u64 |  |');
    expect([reference(u8), reference(array(u8, 2))]).toEqual(['', '']);
  });

  it('prints a page with everything inside, sorted, independent of the order given', () => {
    const page = referencePage([Table, List, Exit]);
    expect([...page.matchAll(/^### (.*)$/gm)].map((m) => m[1])).toEqual(['Entry', 'Exit', 'Flags', 'List', 'Table']);
    expect(referencePage([Exit, List, Table, Table, Entry])).toBe(page);
    expect(page.endsWith('|\n')).toBe(true);
  });

  it('refuses two layouts of one name', () =>
    expect(() => referencePage([Entry, struct('Entry', '', 1, { a: [0, u8] })])).toThrow(new RangeError('two layouts are named Entry')));
});

describe('reserved bits', () => {
  it.each([
    ['bits', Flags, [0x8e]],
    ['a structure', Entry, [0x8e, 0xff, 0, 0, 0, 0, 0, 0]],
    ['an array', Table, [0x8e, 0xff, 0, 0, 0, 0, 0, 0, 0x8e, 0xff, 0, 0, 0, 0, 0, 0]],
    ['a union', Either, [0, 0, 0, 0, 0, 0, 0, 0]],
    ['a tagged union', Exit, [0x8e, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
  ])('of %s', (_name, layout, mask) => expect([...reservedBytes(layout)]).toEqual(mask));

  it('finds the first one set', () => {
    const mask = reservedBytes(Entry);
    const memory = Uint8Array.of(0xcc, 0x71, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
    const view = new DataView(memory.buffer);
    expect(findReserved(mask, view, 1)).toBe(-1);
    memory[2] = 4;
    expect(findReserved(mask, view, 1)).toBe(1);
    expect(() => findReserved(mask, view, 2)).toThrow(new RangeError('reserved bytes: needs 8 bytes at 0x2, 7 available'));
  });
});
