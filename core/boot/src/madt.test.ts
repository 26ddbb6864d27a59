import { expect, it } from 'vitest';
import { madt } from './madt.ts';

/** Bytes of numbers: value and width. */
const le = (...parts: readonly (readonly [value: number, bytes: number])[]): number[] => parts.flatMap(([value, bytes]) => Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256));
const text = (word: string): number[] => [...word].map((c) => c.charCodeAt(0));

it('the table of processors has a short entry below identifier FFh, a long one from there on', () => {
  const table = madt([3, 0xfe, 0xff, 0x1_2345]);
  const head = [...text('APIC'), ...le([44 + 8 + 8 + 16 + 16, 4], [6, 1], [table[9]!, 1]), ...text('VMPLNSVMPLANES'), ...le([1, 4]), ...text('VMPL'), ...le([1, 4], [0xfee0_0000, 4], [0, 4])];
  const short = (processor: number, id: number): number[] => le([0, 1], [8, 1], [processor, 1], [id, 1], [1, 4]);
  const long = (processor: number, id: number): number[] => le([9, 1], [16, 1], [0, 2], [id, 4], [1, 4], [processor, 4]);
  expect([...table]).toEqual([...head, ...short(0, 3), ...short(1, 0xfe), ...long(2, 0xff), ...long(3, 0x1_2345)]);
});
it.each([[[]], [[0]], [[0, 1, 2]], [[300]]])('its bytes add up to zero: %j', (ids) => expect(madt(ids).reduce((sum, byte) => sum + byte, 0) % 256).toBe(0));
