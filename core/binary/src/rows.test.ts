import { expect, it } from 'vitest';
import { namesOf, numbersOf } from './rows.ts';

it('tables give numbers by name and names by number', () => {
  expect(numbersOf({ A: [1, 'x'], B: [2] })).toEqual({ A: 1, B: 2 });
  expect(namesOf('T', { A: [1], B: [2] })).toEqual(new Map([[1, 'A'], [2, 'B']]));
});
it('a number belongs to one row', () => expect(() => namesOf('T', { A: [1], B: [0x1] })).toThrow(new RangeError('T.B: 0x1 belongs to A')));
