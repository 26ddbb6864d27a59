import { expect, it } from 'vitest';
import { dataText, jsonText, tableText } from './output.ts';

it('prints tables without frames or trailing space', () => expect(tableText(['a', 'bb'], [[1, 'x'], [22, '']])).toBe('a   bb\n1   x\n22'));

it('breaks cells of the widest columns where a line would be too long', () =>
  expect(tableText(['a', 'words'], [['x', 'one two three four five six']], 18)).toBe('a  words\nx  one two three\n   four five six'));

it('prints 64-bit numbers and bytes as JSON', () => expect(JSON.parse(jsonText({ a: 2n ** 63n, b: Uint8Array.of(1, 2), c: [1.5] }))).toEqual({ a: '0x8000000000000000', b: [1, 2], c: [1.5] }));

it.each<[unknown, string]>([
  [{ requestLo: 0x16, requestHi: 2, replyLo: 0x8000_0017, replyHi: 0, status: 0 }, 'request 0x200000016, reply 0x80000017, status 0'],
  [{ valueLo: -1, valueHi: -1, name: 'x' }, 'value 0xffffffffffffffff, name x'],
  [{ Lo: 1, onlyHi: 2, otherLo: 3 }, 'Lo 1, onlyHi 2, otherLo 3'],
  ['text', 'text'],
  [null, 'null'],
])('prints the members of a record as words: %o', (data, text) => expect(dataText(data)).toBe(text));
