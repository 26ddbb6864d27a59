import { HvStatus } from '@vmplanes/abi-hyperv';
import type { PlaneContext } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { BAD, CallRig, casesOf, OUT, pair, SELF, type Issue, type Row } from './call-fixture.ts';

const { Success, InvalidParameter, AccessDenied, InvalidVpIndex, NotFound } = HvStatus;

/** Issues each row of a call's table, by VTL0 unless it says otherwise. */
const statuses = (code: number, usual: Partial<Issue>, rows: readonly Row[]): void => {
  it.each(casesOf(rows))('%s', (_what, issue, status, options, vtl) => {
    const rig = new CallRig(2, options);
    expect(rig.issue(rig.context(0, vtl), { code, ...usual, ...issue }).status).toBe(status);
  });
};

describe('I/O intercepts', () => {
  const install = (mask: number, type: number, parameter: bigint): Partial<Issue> => ({ input: [SELF, pair(mask, type), parameter] });
  statuses(0x4d, { fast: true, ...install(3, 0, 0x60n) }, [
    ['a port', {}, Success, {}, 1],
    ['in memory', { fast: false }, Success, {}, 1],
    ['a range', install(1, 0x11, 0x00ff_0080n), Success, {}, 1],
    ['removal', install(0, 0, 0x60n), Success, {}, 1],
    ['VTL0', {}, AccessDenied],
    ['another partition', { input: [BAD, pair(3, 0), 0x60n] }, AccessDenied, {}, 1],
    ['execution', install(4, 0, 0x60n), InvalidParameter, {}, 1],
    ['an MSR', install(3, 1, 0x10n), InvalidParameter, {}, 1],
    ['a port above 16 bits', install(3, 0, 0x1_0060n), InvalidParameter, {}, 1],
    ['a range that ends before it begins', install(3, 0x11, 0x0010_0080n), InvalidParameter, {}, 1],
    ['a parameter above 32 bits', install(3, 0, 1n << 32n), InvalidParameter, {}, 1],
  ]);
  const check = (port: number, size: number, write: number, target = 0): Issue => ({ code: 0xad, input: [SELF, pair(0xffff_fffe, target | (port << 16)), BigInt(size | (write << 8))] });
  it('are what CheckForIoIntercept says', () => {
    const rig = new CallRig(1);
    const c = rig.context(0, 1);
    rig.issue(c, { code: 0x4d, ...install(2, 0, 0x60n) });
    const asks = (port: number, size: number, write: number, target = 0x10): bigint => (expect(rig.issue(c, check(port, size, write, target)).status).toBe(0), rig.peek(OUT));
    expect([asks(0x60, 1, 1), asks(0x60, 1, 0), asks(0x5e, 4, 1), asks(0x5e, 2, 1), asks(0x60, 1, 1, 0x11)]).toEqual([1n, 0n, 1n, 0n, 0n]);
    expect(rig.chapters.ioIntercepts.ownerOf(0, 0x60, 1, true)).toBe(1);
    rig.issue(c, { code: 0x4d, ...install(0, 0, 0x60n) });
    expect(asks(0x60, 1, 1)).toBe(0n);
  });
  it.each([
    ['size 3', check(0x60, 3, 1), InvalidParameter],
    ['a write that is neither', check(0x60, 1, 2), InvalidParameter],
    ['a higher VTL', check(0x60, 1, 1, 0x11), AccessDenied],
    ['reserved bits of the VTL', check(0x60, 1, 1, 0x20), InvalidParameter],
    ['another partition', { ...check(0x60, 1, 1), input: [BAD, 0n, 1n] }, AccessDenied],
    ['a VP that does not exist', { ...check(0x60, 1, 1), input: [SELF, 5n, 1n] }, InvalidVpIndex],
  ])('CheckForIoIntercept refuses %s', (_what, issue, status) => {
    const rig = new CallRig(1);
    expect(rig.issue(rig.context(), issue).status).toBe(status);
  });
  it('are part of the state', () => {
    const rig = new CallRig(1);
    rig.chapters.ioIntercepts.install(1, 0x80, 0x8f, 1);
    const other = new CallRig(1);
    other.chapters.ioIntercepts.restore(structuredClone(rig.chapters.ioIntercepts.save()));
    expect(other.chapters.ioIntercepts.ownerOf(0, 0x85, 1, false)).toBe(1);
    other.chapters.ioIntercepts.reset();
    expect(other.chapters.ioIntercepts.ownerOf(0, 0x85, 1, false)).toBe(-1);
  });
});

describe('CPUID results', () => {
  const result = (leaf: number, vp = 0xffff_ffff): Partial<Issue> => ({ input: [SELF, pair(vp, 2), pair(leaf, 0), 0n | (0x1234n << 32n), pair(0xffff, 0), 0n, 0n, 0n] });
  statuses(0x91, { ...result(7) }, [
    ['from VTL1', {}, Success, {}, 1],
    ['from VTL0', {}, AccessDenied],
    ['a VP that does not exist', result(7, 9), InvalidVpIndex, {}, 1],
    ['an MSR', { input: [SELF, pair(0, 1), 0n, 0n, 0n, 0n, 0n, 0n] }, InvalidParameter, {}, 1],
  ]);
  it('change what VTL0 reads, until they are taken back', () => {
    const rig = new CallRig(1);
    const c = rig.context();
    const read = (of: PlaneContext): bigint => (rig.chapters.cpuid.answer(of, { kind: 'cpuid', key: 0x4000_0002, subleaf: 0 }), rig.get(of, 'rax'));
    const plain = read(c);
    expect(rig.issue(rig.context(0, 1), { code: 0x91, ...result(0x4000_0002) }).status).toBe(0);
    expect([read(c), read(rig.context(0, 1))]).toEqual([(plain & ~0xffffn) | 0x1234n, plain]);
    expect(rig.issue(rig.context(0, 1), { code: 0x92, ...result(0x4000_0002) }).status).toBe(0);
    expect(read(c)).toBe(plain);
    expect(rig.issue(rig.context(0, 1), { code: 0x92, ...result(0x4000_0002) }).status).toBe(NotFound);
  });
});
