import { HostError } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { Rig } from './fixture.ts';
import { hypercallPage } from './hypercall-page.ts';
import { defaultOptions, type HvOptions } from './options.ts';

const OS_ID = 0x4000_0000, HYPERCALL = 0x4000_0001;
const bytes = (page: Uint8Array, from: number, count: number): string => [...page.subarray(from, from + count)].map((b) => b.toString(16).padStart(2, '0')).join(' ');
const make = (change: Partial<HvOptions['codeOffsets']>, isAmd = false): Uint8Array => hypercallPage({ ...defaultOptions.codeOffsets, ...change }, isAmd);
// mov rax, rcx; mov ecx, code; and mov ecx, eax; mov eax, code. @spec TLFS Virtual Secure Mode, VTL call and return
const WIDE = (code: string): string => `48 89 c8 b9 ${code} 00 00 00`, NARROW = (code: string): string => `89 c1 b8 ${code} 00 00 00`;
const VMCALL = '0f 01 c1 c3', VMMCALL = '0f 01 d9 c3';
/** Far apart, so that one stub can move. */
const WIDELY = { call32: 0x100, call64: 0x200, return32: 0x300, return64: 0x400 } as const;

describe('stubs of the hypercall page', () => {
  it.each([[false, VMCALL], [true, VMMCALL]] as const)('lie at their offsets, traps between them; AMD: %s', (isAmd, call) => {
    const page = make(WIDELY, isAmd);
    expect([bytes(page, 0, 4), bytes(page, 0x100, 11), bytes(page, 0x200, 12), bytes(page, 0x300, 11), bytes(page, 0x400, 12)]).toEqual([call, `${NARROW('11')} ${call}`, `${WIDE('11')} ${call}`, `${NARROW('12')} ${call}`, `${WIDE('12')} ${call}`]);
    const used = [[0, 4], [0x100, 11], [0x200, 12], [0x300, 11], [0x400, 12]] as const;
    page.forEach((byte, at) => {
      if (!used.some(([from, count]) => at >= from && at < from + count)) expect(byte, String(at)).toBe(0xcc);
    });
  });
  it('fit up to the end of the page', () => {
    expect(bytes(make({ return64: 4096 - 12 }), 4096 - 12, 12)).toBe(`${WIDE('12')} ${VMCALL}`);
    expect(() => make({ return64: 4096 - 11 })).toThrow(HostError);
    expect(() => make({ return64: 4096 - 10 })).toThrow(HostError);
  });
  it('begin behind the instruction', () => {
    expect(bytes(make({ ...WIDELY, call32: 4 }), 4, 11)).toBe(`${NARROW('11')} ${VMCALL}`);
    expect(() => make({ ...WIDELY, call32: 3 })).toThrow(/call32 0x3: no room/);
    expect(() => make({ ...WIDELY, call32: 0 })).toThrow(HostError);
  });
  it('end in the instruction where there is room for it, in a jump to offset 0 where there is not', () => {
    // A wide stub has 8 bytes; the instruction and the return take 4, the jump 2.
    for (const room of [12, 13]) expect(bytes(make({ ...WIDELY, call64: 0x20, return64: 0x20 + room }), 0x20, 12)).toBe(`${WIDE('11')} ${VMCALL}`);
    for (const room of [10, 11]) expect(bytes(make({ ...WIDELY, call64: 0x20, return64: 0x20 + room }), 0x20, 10)).toBe(`${WIDE('11')} eb d6`);
    for (const room of [1, 8, 9]) expect(() => make({ ...WIDELY, call64: 0x20, return64: 0x20 + room }), String(room)).toThrow(HostError);
    for (const room of [9, 10]) expect(bytes(make({ ...WIDELY, call32: 0x20, return32: 0x20 + room }), 0x20, 9)).toBe(`${NARROW('11')} eb d7`);
    expect(bytes(make({ ...WIDELY, call32: 0x20, return32: 0x2b }), 0x20, 11)).toBe(`${NARROW('11')} ${VMCALL}`);
  });
  it('jump at most 128 bytes back', () => {
    // The jump ends 10 bytes behind the stub's start.
    expect(bytes(make({ ...WIDELY, call64: 118, return64: 128 }), 118, 10)).toBe(`${WIDE('11')} eb 80`);
    expect(() => make({ ...WIDELY, call64: 119, return64: 129 })).toThrow(HostError);
  });
  it('at one offset for both modes are those of 64-bit code', () => {
    const page = make({ call64: 0x40, call32: 0x40, return64: 0x80, return32: 0x80 });
    expect([bytes(page, 0x40, 12), bytes(page, 0x80, 12), bytes(page, 4, 1)]).toEqual([`${WIDE('11')} ${VMCALL}`, `${WIDE('12')} ${VMCALL}`, 'cc']);
    // A call stub where the return stub is has no room.
    expect(() => make({ ...WIDELY, call64: 0x40, return32: 0x40 })).toThrow(HostError);
  });
});

describe('the page of a VTL', () => {
  const on = (r: Rig, vtl: number, value: number | bigint): boolean => r.wrmsr(r.context(0, vtl), HYPERCALL, value);
  const first = (r: Rig, vtl: number, gpn: number): number => r.page(vtl, gpn).getUint8(0);
  it('is that of its processor', () => {
    const r = new Rig();
    r.wrmsr(r.context(), OS_ID, 1);
    expect([on(r, 0, 0x9001), r.page(0, 9).getUint8(2), r.arch.registers.features.vendor]).toEqual([true, 0xd9, 'AuthenticAMD']);
  });
  it('has values of 64 bits for each VTL', () => {
    const r = new Rig(2);
    for (const vtl of [0, 1]) {
      r.wrmsr(r.context(1, vtl), OS_ID, 0x8123_4567_0000_0001n + BigInt(vtl));
      expect(on(r, vtl, 0x2_3456_7ffcn + BigInt(0x1000 * vtl))).toBe(true);
    }
    expect([0, 1].map((vtl) => [r.rdmsr(r.context(0, vtl), OS_ID), r.rdmsr(r.context(0, vtl), HYPERCALL), r.chapters.hypercalls.guestOsId(vtl), r.chapters.hypercalls.hypercallMsr(vtl)])).toEqual([0, 1].map((vtl) => [0x8123_4567_0000_0001n + BigInt(vtl), 0x2_3456_7ffcn + BigInt(0x1000 * vtl), 0x8123_4567_0000_0001n + BigInt(vtl), 0x2_3456_7ffcn + BigInt(0x1000 * vtl)]));
  });
  it('goes when the identity goes, and does not come back with it', () => {
    const r = new Rig();
    r.wrmsr(r.context(), OS_ID, 1n << 63n);
    on(r, 0, 0x9ff1);
    r.wrmsr(r.context(), OS_ID, 5);
    expect([first(r, 0, 9), r.rdmsr(r.context(), HYPERCALL)]).toEqual([0x0f, 0x9ff1n]);
    r.wrmsr(r.context(), OS_ID, 0);
    expect([first(r, 0, 9), r.rdmsr(r.context(), HYPERCALL)]).toEqual([0, 0x9ff0n]);
    r.wrmsr(r.context(), OS_ID, 5);
    expect([first(r, 0, 9), r.rdmsr(r.context(), HYPERCALL)]).toEqual([0, 0x9ff0n]);
  });
  it('lies in the address space; a disabled one may name any page', () => {
    const r = new Rig();
    r.wrmsr(r.context(), OS_ID, 1);
    const bits = BigInt(r.arch.registers.features.physicalBits);
    expect([on(r, 0, (1n << bits) | 1n), on(r, 0, 1n << bits), r.rdmsr(r.context(), HYPERCALL), on(r, 0, (1n << bits) - 4095n)]).toEqual([false, true, 1n << bits, true]);
  });
  it('once locked stays as it is, disabled or not', () => {
    for (const value of [0x9003n, 0x9002n]) {
      const r = new Rig();
      r.wrmsr(r.context(), OS_ID, 1);
      on(r, 0, value);
      expect([on(r, 0, 0xa001), on(r, 0, value), r.rdmsr(r.context(), HYPERCALL), first(r, 0, 9), on(r, 1, 0)]).toEqual([false, false, value, value === 0x9003n ? 0x0f : 0, true]);
    }
  });
  it('is saved and restored for every VTL; a reset takes all of them away', () => {
    const r = new Rig();
    for (const vtl of [0, 1]) {
      r.wrmsr(r.context(0, vtl), OS_ID, 7 + vtl);
      on(r, vtl, 0x9001 + 0x1000 * vtl);
    }
    const copy = r.copy();
    expect([0, 1].map((vtl) => [copy.rdmsr(copy.context(0, vtl), OS_ID), copy.rdmsr(copy.context(0, vtl), HYPERCALL), first(copy, vtl, 9 + vtl)])).toEqual([[7n, 0x9001n, 0x0f], [8n, 0xa001n, 0x0f]]);
    // Enabled is enabled: the loss of the identity takes the page away there, too.
    copy.wrmsr(copy.context(0, 1), OS_ID, 0);
    expect([first(copy, 1, 10), first(copy, 0, 9)]).toEqual([0, 0x0f]);
    r.chapters.hypercalls.reset();
    expect([0, 1].map((vtl) => [r.rdmsr(r.context(0, vtl), OS_ID), r.rdmsr(r.context(0, vtl), HYPERCALL), first(r, vtl, 9 + vtl)])).toEqual([[0n, 0n, 0], [0n, 0n, 0]]);
  });
});
