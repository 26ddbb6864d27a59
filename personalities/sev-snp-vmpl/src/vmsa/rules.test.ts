import { Arena } from '@vmplanes/engine';
import { X86Arch } from '@vmplanes/x86';
import { beforeEach, describe, expect, it } from 'vitest';
import { ControlRules, EntryRefusal, sentinelOf } from './rules.ts';

// Offsets of APM vol. 2, Table B-4.
const At = { cs: 0x10, vmpl: 0xca, efer: 0xd0, cr4: 0x148, cr3: 0x150, cr0: 0x158, dr7: 0x160, dr6: 0x168, xcr0: 0x3e8, mxcsr: 0x408 } as const;
const PAGE = 0x1000;
const arch = new X86Arch({ cpuModel: 'epyc-like' });
const pages = new Arena(new ArrayBuffer(3 * PAGE));
const blocks = new Arena(new ArrayBuffer(0x4000));
const rules = new ControlRules(arch, 51);

const put = (at: number, value: bigint): void => pages.view.setBigUint64(PAGE + at, value, true);
const control = (): string | null => rules.control(blocks, 0, pages, PAGE);

beforeEach(() => {
  pages.u8.fill(0);
  put(At.efer, 0x1000n);
  put(At.cr0, 0x10n);
  put(At.xcr0, 1n);
  pages.view.setUint32(PAGE + At.mxcsr, 0x1f80, true);
});
/** 64-bit mode. */
const long = (): void => {
  put(At.efer, 0x1100n);
  put(At.cr0, 0x8000_0011n);
  put(At.cr4, 0x20n);
};

describe('rules of an entry', () => {
  it('admit the state after a reset and 64-bit mode', () => {
    expect(control()).toBe(null);
    long();
    expect(control()).toBe(null);
  });
  const bad: readonly (readonly [name: string, set: () => void, refusal: string])[] = [
    ['NW without CD', () => put(At.cr0, 0x2000_0010n), 'CR0'],
    ['the upper half of CR0', () => put(At.cr0, 0x1_0000_0010n), 'CR0'],
    ['the last bit of CR0', () => put(At.cr0, (1n << 63n) | 0x10n), 'CR0'],
    ['a reserved bit of CR4', () => put(At.cr4, 1n << 31n), 'CR4'],
    ['the upper half of CR4', () => put(At.cr4, 1n << 32n), 'CR4'],
    ['a reserved bit of EFER', () => put(At.efer, 0x1002n), 'EFER'],
    ['the upper half of EFER', () => put(At.efer, 0x1_0000_1000n), 'EFER'],
    ['CR3 beyond the address, in long mode', () => { long(); put(At.cr3, 1n << 52n); }, 'CR3'],
    ['CR3 with its last bit, in long mode', () => { long(); put(At.cr3, 1n << 63n); }, 'CR3'],
    ['long mode without PAE', () => { long(); put(At.cr4, 0n); }, 'paging in long mode without PAE or PE'],
    ['long mode without PE', () => { long(); put(At.cr0, 0x8000_0010n); }, 'paging in long mode without PAE or PE'],
    ['L and D together', () => { long(); put(At.cs, 0x0600_0000n); }, 'CS.L with CS.D in long mode'],
    ['the upper half of DR6', () => put(At.dr6, 1n << 32n), 'DR6 or DR7'],
    ['the upper half of DR7', () => put(At.dr7, 1n << 40n), 'DR6 or DR7'],
    ['XCR0 without x87', () => put(At.xcr0, 2n), 'XCR0'],
    ['XCR0 with AVX and no SSE', () => put(At.xcr0, 5n), 'XCR0'],
    ['XCR0 of a component that is not there', () => put(At.xcr0, 1n | (1n << 30n)), 'XCR0'],
    ['the upper half of XCR0', () => put(At.xcr0, 1n | (1n << 62n)), 'XCR0'],
    ['a reserved bit of MXCSR', () => pages.view.setUint32(PAGE + At.mxcsr, 0x8000_0000, true), 'MXCSR'],
  ];
  it.each(bad)('refuse %s (APM vol. 2, 15.5.1)', (_name, set, refusal) => {
    set();
    expect(control()).toBe(refusal);
  });
  const fine: readonly (readonly [name: string, set: () => void])[] = [
    ['NW with CD', () => put(At.cr0, 0x6000_0010n)],
    ['CD alone', () => put(At.cr0, 0x4000_0010n)],
    ['CR3 with the encryption bit', () => { long(); put(At.cr3, (1n << 51n) | 0x7000n); }],
    ['any CR3 without long mode', () => put(At.cr3, 1n << 60n)],
    ['LME without paging, and no PAE', () => put(At.efer, 0x1100n)],
    ['paging without long mode, and no PAE', () => put(At.cr0, 0x8000_0011n)],
    ['L alone', () => { long(); put(At.cs, 0x0200_0000n); }],
    ['D alone', () => { long(); put(At.cs, 0x0400_0000n); }],
    ['L and D outside long mode', () => put(At.cs, 0x0600_0000n)],
    ['the lower halves of DR6 and DR7', () => { put(At.dr6, 0xffff_0ff0n); put(At.dr7, 0x400n); }],
    ['XCR0 with SSE and AVX', () => put(At.xcr0, 7n)],
    ['XCR0 with SSE', () => put(At.xcr0, 3n)],
    ['EFER with SCE, LME, LMA, NX and SVME', () => { long(); put(At.efer, 0x1d01n); }],
    ['CR4 with PAE', () => put(At.cr4, 0x20n)],
  ];
  it.each(fine)('admit %s (APM vol. 2, 15.5.1)', (_name, set) => {
    set();
    expect(control()).toBe(null);
  });
  const pairs: readonly (readonly [first: () => void, second: () => void, refusal: string])[] = [
    [() => put(At.cr0, 0x2000_0010n), () => put(At.cr4, 1n << 32n), 'CR0'],
    [() => put(At.cr4, 1n << 32n), () => put(At.efer, 0x1002n), 'CR4'],
    [() => put(At.dr6, 1n << 32n), () => put(At.xcr0, 0n), 'DR6 or DR7'],
    [() => put(At.xcr0, 0n), () => pages.view.setUint32(PAGE + At.mxcsr, 0x8000_0000, true), 'XCR0'],
  ];
  it.each(pairs)('name the first of two in the order of the registers (%#)', (first, second, refusal) => {
    first();
    second();
    expect(control()).toBe(refusal);
  });
  it('a processor with fewer address bits', () => {
    const { features } = arch.registers;
    const bits = features.physicalBits;
    long();
    put(At.cr3, 1n << BigInt(bits - 1));
    expect(control()).toBe(null);
    put(At.cr3, bits === 52 ? 1n << 52n : 1n << BigInt(bits === 51 ? 52 : bits));
    expect(control()).toBe('CR3');
    // Another place of the encryption bit.
    const low = new ControlRules(arch, 47);
    put(At.cr3, 1n << 47n);
    expect(low.control(blocks, 0, pages, PAGE)).toBe(null);
  });
  it.each([
    [0, 0, null], [3, 3, null], [2, 2, null], [1, 0, 'VMPL differs from the plane'], [0, 1, 'VMPL differs from the plane'], [3, 2, 'VMPL differs from the plane'], [4, 3, 'VMPL above 3'], [4, 4, 'VMPL above 3'], [0xff, 3, 'VMPL above 3'],
  ])('VMPL %i in the area of plane %i: %s', (stated, vmpl, refusal) => {
    pages.u8.fill(0x55, PAGE + At.vmpl - 2, PAGE + At.vmpl + 2);
    pages.u8[PAGE + At.vmpl] = stated;
    expect(rules.level(pages, PAGE, vmpl)).toBe(refusal);
  });
  it('SVME clear, behind what is said of the VMPL', () => {
    put(At.efer, 0xfffn);
    expect(rules.level(pages, PAGE, 0)).toBe('EFER.SVME clear');
    expect(rules.level(pages, PAGE, 1)).toBe('VMPL differs from the plane');
    pages.u8[PAGE + At.vmpl] = 9;
    expect(rules.level(pages, PAGE, 9)).toBe('VMPL above 3');
  });
  it('what hardware says of a refusal: -1 but for an area in use (-2) and BUSY under alternate injection (-3)', () => {
    expect([sentinelOf(EntryRefusal.InUse), sentinelOf(EntryRefusal.IdleRequired)]).toEqual([-2, -3]);
    for (const refusal of [...Object.values(EntryRefusal), 'SEV_FEATURES: reserved bits']) if (refusal !== EntryRefusal.InUse && refusal !== EntryRefusal.IdleRequired) expect(sentinelOf(refusal), refusal).toBe(-1);
  });
});
