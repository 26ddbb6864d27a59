import { HostError } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { CallRig } from './call-fixture.ts';
import { hypercallPage } from './hypercall-page.ts';
import { defaultOptions } from './options.ts';

const bytes = (page: Uint8Array, from: number, to: number): string => [...page.subarray(from, to)].map((b) => b.toString(16).padStart(2, '0')).join(' ');
const GUEST_OS_ID = 0x4000_0000;
const HYPERCALL = 0x4000_0001;

describe('the content of the hypercall page', () => {
  it('is that of openvmm, byte for byte, on Intel processors', () => {
    expect(bytes(hypercallPage(defaultOptions.codeOffsets, false), 0, 52)).toBe(
      [
        '0f 01 c1 c3', // vmcall; ret
        '89 c1 b8 11 00 00 00 0f 01 c1 c3', // mov ecx, eax; mov eax, 0x11; vmcall; ret
        '48 89 c8 b9 11 00 00 00 0f 01 c1 c3', // mov rax, rcx; mov ecx, 0x11; vmcall; ret
        '89 c1 b8 12 00 00 00 0f 01 c1 c3',
        '48 89 c8 b9 12 00 00 00 0f 01 c1 c3',
        'cc cc',
      ].join(' '),
    );
  });
  it('has VMMCALL on AMD processors, and traps to its end', () => {
    const page = hypercallPage(defaultOptions.codeOffsets, true);
    expect([bytes(page, 0, 4), page.subarray(50).every((b) => b === 0xcc), page.length]).toEqual(['0f 01 d9 c3', true, 4096]);
  });
  it('has stubs that jump where they do not fit', () => {
    const page = hypercallPage({ call64: 0x16, return64: 0x20, call32: 0x16, return32: 0x20 }, false);
    expect(bytes(page, 0x16, 0x20)).toBe('48 89 c8 b9 11 00 00 00 eb e0');
    expect(bytes(page, 0x20, 0x2c)).toBe('48 89 c8 b9 12 00 00 00 0f 01 c1 c3');
  });
  it('has the stubs of the real hypervisor where they are', () => {
    const page = hypercallPage({ ...defaultOptions.codeOffsets, return64: 0x28 }, false);
    expect(bytes(page, 0x26, 0x2b)).toBe('cc cc 48 89 c8');
  });
  it.each([
    ['over the instruction', { call32: 3 }],
    ['over each other', { call64: 0x08 }],
    ['beyond the page', { return64: 4094 }],
    ['between bytes', { call64: 15.5 }],
  ])('cannot have stubs %s', (_what, change) => {
    expect(() => hypercallPage({ ...defaultOptions.codeOffsets, ...change }, false)).toThrow(HostError);
  });
});

describe('GUEST_OS_ID and HYPERCALL', () => {
  const rig = (): CallRig => {
    const r = new CallRig(2);
    for (const vtl of [0, 1]) {
      r.wrmsr(r.context(0, vtl), GUEST_OS_ID, 0);
      r.wrmsr(r.context(0, vtl), HYPERCALL, 0);
    }
    return r;
  };
  const page = (r: CallRig, vtl: number, gpn: number): string => [0, 1, 2].map((i) => r.page(vtl, gpn).getUint8(i).toString(16)).join(' ');

  it('without an identity the page stays off, without a fault', () => {
    const r = rig();
    expect(r.wrmsr(r.context(), HYPERCALL, 0x9001)).toBe(true);
    expect([r.rdmsr(r.context(), HYPERCALL), page(r, 0, 9)]).toEqual([0x9000n, '0 0 0']);
  });
  it('are one for all VPs, one for each VTL', () => {
    const r = rig();
    r.wrmsr(r.context(0, 0), GUEST_OS_ID, 0x8100_0000_0000_0000n);
    expect(r.wrmsr(r.context(1, 0), HYPERCALL, 0x9001)).toBe(true);
    expect([r.rdmsr(r.context(1, 0), GUEST_OS_ID), r.rdmsr(r.context(0, 0), HYPERCALL), r.rdmsr(r.context(0, 1), HYPERCALL)]).toEqual([0x8100_0000_0000_0000n, 0x9001n, 0n]);
    expect([page(r, 0, 9), page(r, 1, 9)]).toEqual(['f 1 d9', '0 0 0']);
  });
  it('the page moves, keeps unknown bits, cannot be written, and goes', () => {
    const r = rig();
    r.wrmsr(r.context(), GUEST_OS_ID, 1);
    r.wrmsr(r.context(), HYPERCALL, 0x9ffd);
    expect(r.rdmsr(r.context(), HYPERCALL)).toBe(0x9ffdn);
    expect(r.store(0, 0x9000, 0)).toBe(false);
    r.wrmsr(r.context(), HYPERCALL, 0xa001);
    expect([page(r, 0, 9), page(r, 0, 10)]).toEqual(['0 0 0', 'f 1 d9']);
    r.wrmsr(r.context(), HYPERCALL, 0xa000);
    expect([page(r, 0, 10), r.store(0, 0xa000, 0)]).toEqual(['0 0 0', true]);
  });
  it('no identity, no page', () => {
    const r = rig();
    r.wrmsr(r.context(), GUEST_OS_ID, 1);
    r.wrmsr(r.context(), HYPERCALL, 0x9001);
    r.wrmsr(r.context(), GUEST_OS_ID, 0);
    expect([r.rdmsr(r.context(), HYPERCALL), page(r, 0, 9)]).toEqual([0x9000n, '0 0 0']);
  });
  it('a page beyond the address space is #GP', () => {
    const r = rig();
    r.wrmsr(r.context(), GUEST_OS_ID, 1);
    expect(r.wrmsr(r.context(), HYPERCALL, (1n << 60n) | 1n)).toBe(false);
    expect(r.rdmsr(r.context(), HYPERCALL)).toBe(0n);
  });
  it('locked, it is #GP until the partition is reset', () => {
    const r = rig();
    r.wrmsr(r.context(), GUEST_OS_ID, 1);
    expect(r.wrmsr(r.context(), HYPERCALL, 0x9003)).toBe(true);
    for (const value of [0, 0x9001, 0x9003]) expect(r.wrmsr(r.context(), HYPERCALL, value)).toBe(false);
    r.chapters.hypercalls.reset();
    expect(r.rdmsr(r.context(), HYPERCALL)).toBe(0n);
    r.wrmsr(r.context(), GUEST_OS_ID, 1);
    expect(r.wrmsr(r.context(), HYPERCALL, 0x9001)).toBe(true);
  });
  it('are part of the state', () => {
    const r = rig();
    r.wrmsr(r.context(), GUEST_OS_ID, 1);
    r.wrmsr(r.context(), HYPERCALL, 0x9001);
    const other = rig();
    other.chapters.hypercalls.restore(structuredClone(r.chapters.hypercalls.save()));
    expect([other.rdmsr(other.context(), HYPERCALL), other.issue(other.context(), { code: 8, fast: true }).status]).toEqual([0x9001n, 0]);
  });
});
