import { expect, it } from 'vitest';
import { jsonText, tableText } from './output.ts';

it('prints tables without frames or trailing space', () => expect(tableText(['a', 'bb'], [[1, 'x'], [22, '']])).toBe('a   bb\n1   x\n22'));

it('breaks cells of the widest columns where a line would be too long', () =>
  expect(tableText(['a', 'words'], [['x', 'one two three four five six']], 18)).toBe('a  words\nx  one two three\n   four five six'));

it('prints 64-bit numbers and bytes as JSON', () => expect(JSON.parse(jsonText({ a: 2n ** 63n, b: Uint8Array.of(1, 2), c: [1.5] }))).toEqual({ a: '0x8000000000000000', b: [1, 2], c: [1.5] }));
