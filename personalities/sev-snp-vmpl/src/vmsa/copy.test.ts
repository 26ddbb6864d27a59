import { Arena } from '@vmplanes/engine';
import { readRegister, type RegisterName, writeRegister } from '@vmplanes/x86';
import { beforeEach, describe, expect, it } from 'vitest';
import { loadRegisters, movesTsc, storeRegisters } from './copy.ts';

const BASE = 0x1000;
const PAGE = 0x1000;
const blocks = new Arena(new ArrayBuffer(0x8000));
const pages = new Arena(new ArrayBuffer(0x3000));

/** Offset of each field of 64 bits that is copied as it is. @spec APM vol. 2, Table B-4 */
const cells: readonly (readonly [offset: number, register: RegisterName])[] = [
  [0x0a0, 'pl0Ssp'], [0x0a8, 'pl1Ssp'], [0x0b0, 'pl2Ssp'], [0x0b8, 'pl3Ssp'], [0x0c0, 'uCet'], [0x140, 'xss'], [0x148, 'cr4'], [0x150, 'cr3'], [0x158, 'cr0'], [0x160, 'dr7'], [0x168, 'dr6'],
  [0x178, 'rip'], [0x1d8, 'rsp'], [0x1e0, 'sCet'], [0x1e8, 'ssp'], [0x1f0, 'interruptSspTable'], [0x1f8, 'rax'], [0x200, 'star'], [0x208, 'lstar'], [0x210, 'cstar'], [0x218, 'sfmask'],
  [0x220, 'kernelGsBase'], [0x228, 'sysenterCs'], [0x230, 'sysenterEsp'], [0x238, 'sysenterEip'], [0x240, 'cr2'], [0x268, 'pat'], [0x270, 'debugCtl'], [0x278, 'lastBranchFrom'], [0x280, 'lastBranchTo'],
  [0x288, 'lastExceptionFrom'], [0x290, 'lastExceptionTo'], [0x308, 'rcx'], [0x310, 'rdx'], [0x318, 'rbx'], [0x328, 'rbp'], [0x330, 'rsi'], [0x338, 'rdi'],
  [0x340, 'r8'], [0x348, 'r9'], [0x350, 'r10'], [0x358, 'r11'], [0x360, 'r12'], [0x368, 'r13'], [0x370, 'r14'], [0x378, 'r15'], [0x3e8, 'xcr0'],
];
const breakpoints: readonly (readonly [offset: number, register: RegisterName])[] = [
  [0x180, 'dr0'], [0x188, 'dr1'], [0x190, 'dr2'], [0x198, 'dr3'], [0x1a0, 'dr0Mask'], [0x1a8, 'dr1Mask'], [0x1b0, 'dr2Mask'], [0x1b8, 'dr3Mask'],
];
const segments = [['es', 0x000], ['cs', 0x010], ['ss', 0x020], ['ds', 0x030], ['fs', 0x040], ['gs', 0x050], ['ldtr', 0x070], ['tr', 0x090]] as const;
const valueOf = (offset: number): bigint => 0x8765_4321_0000_0000n + BigInt(offset) * 0x1_0001n;

const put = (at: number, value: bigint): void => pages.view.setBigUint64(PAGE + at, value, true);
const field = (at: number): bigint => pages.view.getBigUint64(PAGE + at, true);
const get = (name: RegisterName): bigint => readRegister(blocks, BASE, name);
const set = (name: RegisterName, value: bigint): void => writeRegister(blocks, BASE, name, value);
const load = (debugSwap = false, secureTsc = false): void => loadRegisters(blocks, BASE, pages, PAGE, debugSwap, secureTsc);
const store = (debugSwap = false): void => storeRegisters(blocks, BASE, pages, PAGE, debugSwap);

beforeEach(() => {
  blocks.u8.fill(0);
  pages.u8.fill(0);
});

describe('registers and save area', () => {
  it('cells of 64 bits, each at its own place (APM vol. 2, Table B-4)', () => {
    for (const [offset] of cells) put(offset, valueOf(offset));
    load();
    for (const [offset, name] of cells) expect([name, get(name)]).toEqual([name, valueOf(offset)]);
    for (const [offset] of cells) put(offset, 0n);
    store();
    for (const [offset, name] of cells) expect([name, field(offset)]).toEqual([name, valueOf(offset)]);
  });
  it('breakpoints belong to the area with debug swap (APM vol. 2, 15.36.19)', () => {
    for (const [offset] of breakpoints) put(offset, valueOf(offset));
    load(false);
    for (const [, name] of breakpoints) expect([name, get(name)]).toEqual([name, 0n]);
    load(true);
    for (const [offset, name] of breakpoints) expect([name, get(name)]).toEqual([name, valueOf(offset)]);
    pages.u8.fill(0);
    store(false);
    for (const [offset] of breakpoints) expect(field(offset)).toBe(0n);
    store(true);
    for (const [offset, name] of breakpoints) expect([name, field(offset)]).toEqual([name, valueOf(offset)]);
  });
  it.each(segments)('segment %s (APM vol. 2, Table B-4)', (name, offset) => {
    // Four attribute bits that a segment has not are dropped.
    put(offset, 0x8123_4567_fc9b_fbb8n);
    put(offset + 8, 0xffff_8000_8234_5678n);
    load();
    expect([get(`${name}.selector`), get(`${name}.attributes`), get(`${name}.limit`), get(`${name}.base`)]).toEqual([0xfbb8n, 0xc9bn, 0x8123_4567n, 0xffff_8000_8234_5678n]);
    pages.u8.fill(0);
    store();
    expect([field(offset), field(offset + 8)]).toEqual([0x8123_4567_0c9b_fbb8n, 0xffff_8000_8234_5678n]);
  });
  it.each([['gdtr', 0x60], ['idtr', 0x80]] as const)('%s: limit and base, the first word stays (APM vol. 2, Table B-4)', (name, offset) => {
    put(offset, 0xabcd_f234_7777_8888n);
    put(offset + 8, 0xffff_8000_9234_5678n);
    load();
    expect([get(`${name}.limit`), get(`${name}.base`)]).toEqual([0xf234n, 0xffff_8000_9234_5678n]);
    put(offset, 0x7777_8888n);
    put(offset + 8, 0n);
    store();
    expect([field(offset), field(offset + 8)]).toEqual([0xf234_7777_8888n, 0xffff_8000_9234_5678n]);
  });
  it('CPL has two bits of its byte, what lies before it stays', () => {
    put(0xc8, 0xff82_1234n);
    load();
    expect(get('cpl')).toBe(3n);
    put(0xc8, 0x5502_1234n);
    set('cpl', 2n);
    store();
    expect(field(0xc8)).toBe(0x0202_1234n);
    put(0xc8, 0xa5_ffff_ffn);
    store();
    expect(field(0xc8) & 0xffff_ffffn).toBe(0x02ff_ffffn);
  });
  it('PKRU and TSC_AUX are 32 bits side by side', () => {
    put(0x2e8, 0x8765_4321_9abc_def0n);
    set('tscAux', 0xffff_ffff_0000_0000n);
    load();
    expect([get('pkru'), get('tscAux')]).toEqual([0x9abc_def0n, 0x8765_4321n]);
    put(0x2e8, 0n);
    store();
    expect(field(0x2e8)).toBe(0x8765_4321_9abc_def0n);
  });
  it('RFLAGS has the bits that exist, and bit 1', () => {
    put(0x170, 0xffff_ffff_ffff_ffffn);
    load();
    expect(get('rflags')).toBe(0x3f_7fd7n);
    put(0x170, 0n);
    load();
    expect(get('rflags')).toBe(2n);
    set('rflags', 0x246n);
    store();
    expect(field(0x170)).toBe(0x246n);
  });
  it.each([
    [0x1000n, 0x8000_0011n, 0x1000n], [0x1100n, 0x11n, 0x1100n], [0x1100n, 0x8000_0011n, 0x1500n], [0x1500n, 0x11n, 0x1100n], [0x1400n, 0x8000_0011n, 0x1000n], [0x1d01n, 0x8000_0011n, 0x1d01n],
  ])('EFER %i with CR0 %i is %i: long mode is active when enabled and paging is on', (efer, cr0, want) => {
    put(0xd0, efer);
    put(0x158, cr0);
    load();
    expect(get('efer')).toBe(want);
    store();
    expect(field(0xd0)).toBe(want);
  });
  it('scale and offset of the TSC count with Secure TSC (APM vol. 2, 15.36.18)', () => {
    put(0x2f0, 0x1111_1111_2222_2222n);
    put(0x2f8, 0x3333_3333_4444_4444n);
    load(false, false);
    expect([get('tscScale'), get('tscOffset')]).toEqual([0n, 0n]);
    load(false, true);
    expect([get('tscScale'), get('tscOffset')]).toEqual([0x1111_1111_2222_2222n, 0x3333_3333_4444_4444n]);
    const moves = (): boolean => movesTsc(blocks, BASE, pages, PAGE);
    expect(moves()).toBe(false);
    for (const at of [0x2f0, 0x2f4, 0x2f8, 0x2fc]) {
      const old = pages.view.getUint32(PAGE + at, true);
      pages.view.setUint32(PAGE + at, old + 1, true);
      expect([at, moves()]).toEqual([at, true]);
      pages.view.setUint32(PAGE + at, old, true);
    }
    expect(moves()).toBe(false);
  });
  it('vector and x87 registers go both ways', () => {
    put(0x470, 0xaaaa_0001n);
    put(0x470 + 16 * 15, 0xbbbb_0002n);
    put(0x570, 0xcccc_0003n);
    pages.view.setUint32(PAGE + 0x408, 0x1f80, true);
    load();
    expect([get('xmm0'), get('xmm15'), get('ymmHigh0')]).toEqual([0xaaaa_0001n, 0xbbbb_0002n, 0xcccc_0003n]);
    for (const at of [0x470, 0x470 + 16 * 15, 0x570]) put(at, 0n);
    store();
    expect([field(0x470), field(0x470 + 16 * 15), field(0x570)]).toEqual([0xaaaa_0001n, 0xbbbb_0002n, 0xcccc_0003n]);
  });
  it('a store leaves what belongs to more privileged software (APM vol. 2, Table B-4)', () => {
    const kept = [0x0d8, 0x138, 0x1c0, 0x1d0, 0x248, 0x260, 0x298, 0x2d8, 0x2f0, 0x2f8, 0x300, 0x320, 0x380, 0x388, 0x390, 0x3a0, 0x3b0, 0x3b8, 0x3c0, 0x3d0, 0x3d8, 0x3e0, 0x3f0, 0x670, 0xff8];
    for (const at of kept) put(at, valueOf(at));
    store(true);
    for (const at of kept) expect([at, field(at)]).toEqual([at, valueOf(at)]);
    expect(pages.u8.subarray(0, PAGE).every((b) => b === 0) && pages.u8.subarray(2 * PAGE).every((b) => b === 0)).toBe(true);
  });
});
