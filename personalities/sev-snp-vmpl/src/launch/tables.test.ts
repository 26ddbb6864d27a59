import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { bytesToBufferEnd, isScratchUsable } from '../ghcb/scratch.ts';
import { correctFunction } from '../psp/cpuid-check.ts';
import { isVmplAllowed } from '../psp/key-select.ts';
import { checkCpuidPage } from './cpuid-page.ts';
import { fillCpuidTable } from './cpuid-table.ts';
import { extendDigest } from './digest.ts';

/** A function with every bit set against a model with none: the registers that are corrected are those that are checked. */
const all = 0xffff_ffff;
const checked = (eaxIn: number, ecxIn: number): string => Object.keys(correctFunction({ eaxIn, ecxIn, eax: all, ebx: all, ecx: all, edx: all }, (_leaf, _subleaf, out) => out.fill(0), new Uint32Array(4))).sort().join(' ');

describe('functions of a CPUID page', () => {
  // Registers of features and the limits, by hand from the manuals.
  it.each([
    [0, 0, 'eax'], [0, 5, 'eax'], [1, 0, 'ecx edx'], [1, 9, 'ecx edx'], [2, 0, ''], [6, 0, 'eax ecx'], [7, 0, 'eax ebx ecx edx'], [7, 1, 'eax ebx ecx edx'], [7, 2, 'edx'], [7, 3, ''], [0xd, 0, 'eax edx'], [0xd, 1, 'eax ecx edx'], [0xd, 2, ''],
    [0x8000_0000, 0, 'eax'], [0x8000_0001, 0, 'ecx edx'], [0x8000_0002, 0, ''], [0x8000_0006, 0, ''], [0x8000_0007, 0, 'edx'], [0x8000_0008, 0, 'ebx'], [0x8000_0009, 0, ''], [0x8000_000a, 0, 'edx'], [0x8000_001a, 0, 'eax'],
    [0x8000_001f, 0, 'eax'], [0x8000_0020, 0, ''], [0x8000_0021, 3, 'eax'],
  ])('leaf %d, sub-leaf %d: %s', (leaf, subleaf, registers) => expect(checked(leaf, subleaf)).toBe(registers));
  const correct = (eaxIn: number, ecxIn: number, given: readonly [number, number, number, number], model: readonly [number, number, number, number]): unknown =>
    correctFunction({ eaxIn, ecxIn, eax: given[0], ebx: given[1], ecx: given[2], edx: given[3] }, (_leaf, _subleaf, out) => out.set(model), new Uint32Array(4));
  it('keep features that there are, and lose others', () => expect(correct(7, 1, [0x8000_0003, 6, 12, 24], [0x8000_0001, 2, 8, 16])).toEqual({ eax: 0x8000_0001, ebx: 2, ecx: 8, edx: 16 }));
  it('may say less than there is', () => expect(correct(7, 1, [1, 0, 4, 0], [all, all, all, all])).toEqual({}));
  it('leave OSXSAVE and OSPKE to CR4, in their register alone', () => {
    expect(correct(1, 0, [0, 0, all, all], [0, 0, 0, 0])).toEqual({ ecx: 1 << 27, edx: 0 });
    expect(correct(7, 0, [0, all, all, all], [0, 0, 0, 0])).toEqual({ ebx: 0, ecx: 1 << 4, edx: 0 });
    expect(correct(7, 1, [0, 0, all, 0], [0, 0, 0, 0])).toEqual({ ecx: 0 });
  });
  it('count no more leaves than there are', () => expect([correct(0, 0, [7, 0, 0, 0], [7, 0, 0, 0]), correct(0, 0, [8, 0, 0, 0], [7, 0, 0, 0])]).toEqual([{}, { eax: 7 }]));
});

describe('the table of a CPUID page', () => {
  const model = (leaf: number, subleaf: number, out: Uint32Array): void => void out.set([leaf + 1, subleaf + 2, leaf ^ 3, 4]);
  const read = (page: Uint8Array): readonly (readonly number[])[] => {
    const view = new DataView(page.buffer);
    return Array.from({ length: view.getUint32(0, true) }, (_, i) => Array.from({ length: 12 }, (__, word) => view.getUint32(16 + 48 * i + 4 * word, true)));
  };
  it('lists the usual functions where the image lists none', () => {
    const page = new Uint8Array(4096);
    fillCpuidTable(page, model);
    const usual = '8000001f 0|0 0|1 0|2 0|4 0|4 1|4 2|4 3|5 0|6 0|7 0|7 1|b 0|b 1|d 0|d 1|d 2|80000000 0|80000001 0|80000002 0|80000003 0|80000004 0|80000005 0|80000006 0|80000007 0|80000008 0|8000000a 0|80000019 0|8000001a 0|8000001d 0|8000001d 1|8000001d 2|8000001d 3|8000001e 0';
    expect(read(page).map(([leaf, subleaf]) => `${leaf!.toString(16)} ${subleaf}`)).toEqual(usual.split('|'));
  });
  it('has the results of the model, and of leaf 0DH those for x87 alone', () => {
    const page = new Uint8Array(4096);
    const view = new DataView(page.buffer);
    const listed = [[5, 9], [0xd, 0], [0xd, 1], [0xd, 2]] as const;
    view.setUint32(0, listed.length, true);
    listed.forEach(([leaf, subleaf], i) => {
      view.setUint32(16 + 48 * i, leaf, true);
      view.setUint32(20 + 48 * i, subleaf, true);
    });
    fillCpuidTable(page, model);
    // Leaf, sub-leaf, XCR0 and XSS as two words each, results, reserved.
    expect(read(page)).toEqual([
      [5, 9, 0, 0, 0, 0, 6, 11, 6, 4, 0, 0], [0xd, 0, 1, 0, 0, 0, 14, 0x240, 14, 4, 0, 0], [0xd, 1, 1, 0, 0, 0, 14, 0x240, 14, 4, 0, 0], [0xd, 2, 0, 0, 0, 0, 14, 4, 14, 4, 0, 0],
    ]);
  });
  it('of more than 64 functions stays as it is, and is refused', () => {
    const page = new Uint8Array(4096);
    page[0] = 65;
    const before = page.slice();
    fillCpuidTable(page, model);
    expect([page, checkCpuidPage(page, model)]).toEqual([before, 0x16]);
    page[0] = 64;
    expect(checkCpuidPage(page, model)).toBe(0);
  });
  it('that promises too much is lowered in place and refused once', () => {
    const page = new Uint8Array(4096);
    const view = new DataView(page.buffer);
    view.setUint32(0, 2, true);
    view.setUint32(16 + 48, 0x8000_0008, true);
    view.setUint32(16 + 48 + 0x1c, 0xff, true);
    const none = (_leaf: number, _subleaf: number, out: Uint32Array): void => void out.fill(0);
    expect([checkCpuidPage(page, none), view.getUint32(16 + 48 + 0x1c, true), checkCpuidPage(page, none)]).toEqual([0x16, 0, 0]);
  });
});

it('one page extends the launch digest by PAGE_INFO', () => {
  const digest = new Uint8Array(48).fill(7);
  const contents = new Uint8Array(4096).fill(9);
  const sha384 = (...parts: readonly Uint8Array[]): string => parts.reduce((hash, p) => hash.update(p), createHash('sha384')).digest('hex');
  const hash = Buffer.from(sha384(contents), 'hex');
  const tail = (type: number): Uint8Array => Uint8Array.of(0x70, 0, type, 0, 3, 2, 1, 0, 0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0, 0);
  const after = (type: 1 | 2 | 3 | 4 | 5 | 6): string => Buffer.from(extendDigest(digest, { type, gpa: 0xffff_ffff_f000, contents, perms: [1, 2, 3] })).toString('hex');
  for (const type of [1, 2] as const) expect(after(type)).toBe(sha384(digest, hash, tail(type)));
  for (const type of [3, 4, 5, 6] as const) expect(after(type)).toBe(sha384(digest, new Uint8Array(48), tail(type)));
});

it('a message speaks for the VMPL of its key and those below', () => {
  const allowed = [0, 1, 2, 3].map((key) => [0, 1, 2, 3, 4].filter((vmpl) => isVmplAllowed(vmpl, key)).join(''));
  expect(allowed).toEqual(['0123', '123', '23', '3']);
});

describe('scratch data', () => {
  const GHCB = 0x5000;
  it.each<[scratch: number, length: number, version1: boolean, version2: boolean]>([
    [0, 1, false, false], [0x5800, 0, false, false], [0x5800, 1, true, true], [0x57ff, 1, false, false], [0x5fef, 1, true, true], [0x5fef, 2, false, false], [0x5ff0, 1, false, false], [0x5fff, 1, false, false], [0x6000, 1, true, false],
    [0x4fff, 1, true, false], [0x8000, 0x1_0000, true, false], [0x8000, 0x1_0001, false, false],
  ])('at %d, %d bytes: version 1 %s, version 2 %s', (scratch, length, first, second) => expect([isScratchUsable(scratch, GHCB, length, 1), isScratchUsable(scratch, GHCB, length, 2)]).toEqual([first, second]));
  it('counts to the end of the buffer', () => expect([0x57ff, 0x5800, 0x5fef, 0x5ff0].map((at) => bytesToBufferEnd(at, GHCB))).toEqual([0, 0x7f0, 1, 0]));
});
