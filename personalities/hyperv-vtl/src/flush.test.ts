import { HvStatus } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { CallRig, casesOf, type Issue, type Row } from './call-fixture.ts';

const { Success, InvalidParameter, AccessDenied } = HvStatus;

/** Issues each row of a call's table, by VTL0 unless it says otherwise. */
const statuses = (code: number, usual: Partial<Issue>, rows: readonly Row[]): void => {
  it.each(casesOf(rows))('%s', (_what, issue, status, options, vtl) => {
    const rig = new CallRig(2, options);
    expect(rig.issue(rig.context(0, vtl), { code, ...usual, ...issue }).status).toBe(status);
  });
};

describe.each([
  ['FlushVirtualAddressSpace', 0x0002, {}, []],
  ['FlushVirtualAddressList', 0x0003, { count: 1 }, [0x1000n]],
] as const)('%s', (_name, code, more, list) => {
  const flags = (value: bigint, mask = 1n): Partial<Issue> => ({ input: [0x5000n, value, mask, ...list] });
  statuses(code, { fast: true, ...more, ...flags(0n) }, [
    ['in registers', {}, Success],
    ['in memory', { fast: false }, Success],
    ['all processors, empty mask', flags(1n, 0n), Success],
    ['an empty mask', flags(0n, 0n), InvalidParameter],
    ['only VPs that do not exist', flags(0n, 1n << 40n), Success],
    ['all spaces, non-global only', flags(6n), Success],
    ['an unknown flag', flags(1n << 5n), InvalidParameter],
    ['an unknown flag above 32 bits', flags(1n << 32n), InvalidParameter],
    ['the extended format', flags(8n), code === 3 ? Success : InvalidParameter],
    ['the extended format without its privilege', flags(8n), InvalidParameter, { withhold: ['enableExtendedGvaRangesForFlushVirtualAddressList'] }],
    ['a target VTL that is not to be used', flags(0x100n), InvalidParameter],
    ['a target VTL that is not named', flags(0x10n), InvalidParameter],
    ['the own VTL', flags(0x110n), Success],
    ['a higher VTL', flags(0x210n), AccessDenied],
    ['a lower VTL', flags(0x110n), Success, {}, 1],
  ]);

  it('waits while a target is locked, in place, and goes on when it is not', () => {
    const rig = new CallRig(2);
    const c = rig.context(0);
    rig.locks.add('1:0');
    const issued = rig.issue(c, { code, fast: true, ...more, ...flags(0n, 3n) });
    expect(issued.answer).toMatchObject({ kind: 'wait', rip: 'held', condition: { kind: 'key', key: 'hv-tlb:1:0' } });
    rig.locks.clear();
    expect(rig.again(c)).toMatchObject({ status: 0, answer: { kind: 'resume' } });
  });
  it('does not wait for VPs or VTLs that are not meant', () => {
    const rig = new CallRig(2);
    rig.locks.add('1:0');
    expect(rig.issue(rig.context(0), { code, fast: true, ...more, ...flags(0n, 1n) }).answer.kind).toBe('resume');
    expect(rig.issue(rig.context(0, 1), { code, fast: true, ...more, ...flags(0n, 2n) }).answer.kind).toBe('resume');
  });
});

describe('flushes of sets', () => {
  statuses(0x0013, { fast: true, units: 1, input: [0n, 0n, 0n, 1n, 1n] }, [
    ['one bank', {}, Success],
    ['no bank', { units: 0, input: [0n, 0n, 0n, 0n] }, InvalidParameter],
    ['no bank but all processors', { units: 0, input: [0n, 1n, 0n, 0n] }, Success],
    ['all VPs', { units: 0, input: [0n, 0n, 1n, 0n] }, Success],
    ['a missing bank', { units: 0, input: [0n, 0n, 0n, 1n] }, InvalidParameter],
  ]);
  it('lists follow the banks', () => {
    const rig = new CallRig(2);
    const ranges: unknown[] = [];
    rig.chapters.hypercalls.flushPort = { flushSpace: () => {}, flushRange: (target, lo, hi, pages) => ranges.push([target.vp.index, target.plane, lo, hi, pages]) };
    expect(rig.issue(rig.context(), { code: 0x14, units: 1, count: 2, input: [0n, 0n, 0n, 1n, 2n, 0x7_0000_3001n, 0x4000n] })).toMatchObject({ status: 0, reps: 2 });
    expect(ranges).toEqual([[1, 0, 0x3000, 7, 2], [1, 0, 0x4000, 0, 1]]);
  });
  it('extended ranges count large pages', () => {
    const rig = new CallRig(1);
    const pages: number[] = [];
    rig.chapters.hypercalls.flushPort = { flushSpace: () => {}, flushRange: (_t, _lo, _hi, n) => pages.push(n) };
    rig.issue(rig.context(), { code: 3, count: 3, input: [0n, 8n, 1n, 0x20_0801n, 0x4000_1800n, 0x1002n] });
    expect(pages).toEqual([0x400, 0x4_0000, 3]);
  });
  it('space flushes name the space, or all', () => {
    const rig = new CallRig(1);
    const spaces: unknown[] = [];
    rig.chapters.hypercalls.flushPort = { flushSpace: (target, lo) => spaces.push([target.plane, lo]), flushRange: () => {} };
    rig.issue(rig.context(0, 1), { code: 2, fast: true, input: [0x5000n, 0n, 1n] });
    rig.issue(rig.context(0, 1), { code: 2, fast: true, input: [0x5000n, 0x312n, 1n] });
    expect(spaces).toEqual([[1, 0x5000], [0, null], [1, null]]);
  });
  it('there is nothing nested to flush', () => {
    const rig = new CallRig(1);
    expect(rig.issue(rig.context(), { code: 0xaf, input: [0n, 0n] }).status).toBe(Success);
    expect(rig.issue(rig.context(), { code: 0xaf, input: [0n, 1n] }).status).toBe(InvalidParameter);
    expect(rig.issue(rig.context(), { code: 0xb0, count: 2, input: [0n, 0n, 0n, 0n] })).toMatchObject({ status: Success, reps: 2 });
  });
});
