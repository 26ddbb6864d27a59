import { HvStatus } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { BAD, CallRig, casesOf, OUT, pair, requested, SELF, type Issue, type Row } from './call-fixture.ts';

const { Success, InvalidParameter, AccessDenied, InvalidPartitionId, InvalidVtlState, InvalidDeviceId, FeatureUnavailable } = HvStatus;

/** Issues each row of a call's table, by VTL0 unless it says otherwise. */
const statuses = (code: number, usual: Partial<Issue>, rows: readonly Row[]): void => {
  it.each(casesOf(rows))('%s', (_what, issue, status, options, vtl) => {
    const rig = new CallRig(2, options);
    expect(rig.issue(rig.context(0, vtl), { code, ...usual, ...issue }).status).toBe(status);
  });
};

describe('SendSyntheticClusterIpi', () => {
  const good = { fast: true, input: [pair(0x40, 0), 2n] } as const;
  statuses(0x000b, good, [
    ['in registers', {}, Success],
    ['in memory', { fast: false }, Success],
    ['vector 0x0f', { input: [pair(0x0f, 0), 1n] }, InvalidParameter],
    ['vector 0x100', { input: [pair(0x100, 0), 1n] }, InvalidParameter],
    ['vector 0xff', { input: [pair(0xff, 0), 1n] }, Success],
    ['flags', { input: [pair(0x40, 0x100), 1n] }, InvalidParameter],
    ['reserved bits of the VTL', { input: [pair(0x40, 0x20), 1n] }, InvalidParameter],
    ['a VTL that cannot be', { input: [pair(0x40, 0x1f), 1n] }, InvalidParameter],
    ['a higher VTL', { input: [pair(0x40, 0x11), 1n] }, AccessDenied],
    ['a higher VTL where that is allowed', { input: [pair(0x40, 0x11), 1n] }, Success, { allowUpwardIpi: true }],
    ['a lower VTL', { input: [pair(0x40, 0x10), 1n] }, Success, {}, 1],
    ['only VPs that do not exist', { input: [pair(0x40, 0), 0xffff_ffff_0000_0000n] }, Success],
    ['no VP', { input: [pair(0x40, 0), 0n] }, Success],
  ]);

  it('reaches the VTL of the caller on every VP named', () => {
    const rig = new CallRig(3);
    rig.issue(rig.context(), { code: 0x0b, fast: true, input: [pair(0x41, 0), SELF] });
    expect([0, 1, 2].map((vp) => requested(rig, vp, 0))).toEqual([0x41, 0x41, 0x41]);
    expect([0, 1, 2].map((vp) => requested(rig, vp, 1))).toEqual([-1, -1, -1]);
  });
  it('reaches a lower VTL', () => {
    const rig = new CallRig(2);
    rig.issue(rig.context(0, 1), { code: 0x0b, fast: true, input: [pair(0x42, 0x10), 2n] });
    expect([requested(rig, 0, 0), requested(rig, 1, 0), requested(rig, 1, 1)]).toEqual([-1, 0x42, -1]);
  });
  it('reaches nobody when one VP named does not have the VTL', () => {
    const rig = new CallRig(1);
    const vp = rig.machine.createVp();
    vp.plane(0).activity = 0;
    expect(rig.issue(rig.context(0, 1), { code: 0x0b, fast: true, input: [pair(0x42, 0), 3n] }).status).toBe(InvalidVtlState);
    expect(requested(rig, 0, 1)).toBe(-1);
  });
});

describe('SendSyntheticClusterIpiEx', () => {
  statuses(0x0015, { fast: true, units: 1, input: [pair(0x40, 0), 0n, 1n, 1n] }, [
    ['one bank in registers', {}, Success],
    ['one bank in memory', { fast: false }, Success],
    ['two banks, one beyond all VPs', { units: 2, input: [pair(0x40, 0), 0n, 3n, 1n, 1n] }, Success],
    ['fewer banks than the mask says', { input: [pair(0x40, 0), 0n, 3n, 1n] }, InvalidParameter],
    ['more banks than the mask says', { units: 2, input: [pair(0x40, 0), 0n, 1n, 1n, 1n] }, InvalidParameter],
    ['no bank', { units: 0, input: [pair(0x40, 0), 0n, 0n] }, Success],
    ['all VPs', { units: 0, input: [pair(0x40, 0), 1n, 0n] }, Success],
    ['all VPs where that form is not taken', { units: 0, input: [pair(0x40, 0), 1n, 0n] }, InvalidParameter, { clusterIpiAll: false }],
    ['an unknown format', { input: [pair(0x40, 0), 2n, 1n, 1n] }, InvalidParameter],
    ['a format beyond 32 bits', { input: [pair(0x40, 0), 1n << 32n, 1n, 1n] }, InvalidParameter],
  ]);
  it('reads banks by the rank of their bit', () => {
    const rig = new CallRig(3);
    // VPs {0, 2, 130}: banks 0 and 2.
    rig.issue(rig.context(), { code: 0x15, fast: true, units: 2, input: [pair(0x43, 0), 0n, 5n, 5n, 4n] });
    expect([0, 1, 2].map((vp) => requested(rig, vp, 0))).toEqual([0x43, -1, 0x43]);
  });
});

describe('GetVpIndexFromApicId', () => {
  const ask = (rig: CallRig, vtl: number, target: bigint, ids: readonly bigint[], partition = SELF) => rig.issue(rig.context(0, vtl), { code: 0x9a, count: ids.length, input: [partition, target, ...packed(ids)] });
  const packed = (ids: readonly bigint[]): bigint[] => Array.from({ length: Math.ceil(ids.length / 2) }, (_, i) => (ids[2 * i] ?? 0n) | ((ids[2 * i + 1] ?? 0n) << 32n));

  it('gives indices, which are not the ids', () => {
    const rig = new CallRig(4, {}, [0, 2, 4, 6]);
    expect(ask(rig, 0, 0n, [6n, 2n, 0n])).toMatchObject({ status: 0, reps: 3 });
    expect([rig.peek(OUT), rig.peek(OUT + 8) & 0xffff_ffffn]).toEqual([0x1_0000_0003n, 0n]);
  });
  it('stops at an unknown id', () => {
    const rig = new CallRig(2, {}, [0, 2, 4, 6]);
    expect(ask(rig, 0, 0n, [2n, 1n, 0n])).toMatchObject({ status: InvalidParameter, reps: 1 });
    expect(rig.peek(OUT) & 0xffff_ffffn).toBe(1n);
  });
  it('stops at a VP without the VTL', () => {
    const rig = new CallRig(1);
    rig.machine.createVp();
    expect(ask(rig, 1, 1n, [0n, 1n])).toMatchObject({ status: InvalidVtlState, reps: 1 });
    expect(ask(rig, 1, 0n, [0n, 1n])).toMatchObject({ status: 0, reps: 2 });
    expect(ask(rig, 1, 0x11n, [0n, 1n])).toMatchObject({ status: InvalidVtlState, reps: 1 });
  });
  it.each([
    ['another partition', 0n, BAD, InvalidPartitionId],
    ['a VTL that cannot be', 3n, SELF, InvalidParameter],
    ['reserved bits', 0x30n, SELF, InvalidParameter],
    ['a higher VTL', 1n, SELF, AccessDenied],
  ])('refuses %s', (_what, target, partition, status) => {
    expect(ask(new CallRig(1), 0, target, [0n], partition)).toMatchObject({ status, reps: 0 });
  });
  it('takes elements of 8 bytes where they are', () => {
    const rig = new CallRig(2, { apicIdElement: 8 }, [0, 2, 4, 6]);
    expect(rig.issue(rig.context(), { code: 0x9a, count: 2, input: [SELF, 0n, 2n, 0n] })).toMatchObject({ status: 0, reps: 2 });
    expect([rig.peek(OUT), rig.peek(OUT + 8)]).toEqual([1n, 0n]);
  });
});

describe('AssertVirtualInterrupt', () => {
  const good = [SELF, 0n, 0n, pair(0x51, 0)];
  statuses(0x94, { fast: true, input: good }, [
    ['fixed', {}, Success, {}, 1],
    ['in memory', { fast: false }, Success, {}, 1],
    ['NMI', { input: [SELF, 4n, 0n, 0n] }, Success, {}, 1],
    ['another partition', { input: [BAD, 0n, 0n, pair(0x51, 0)] }, AccessDenied, {}, 1],
    ['from VTL0', {}, AccessDenied],
    ['into the own VTL', { input: [SELF, 0n, 0n, pair(0x51, 1)] }, AccessDenied, {}, 1],
    ['into a VTL that cannot be', { input: [SELF, 0n, 0n, pair(0x51, 2)] }, InvalidParameter, {}, 1],
    ['INIT', { input: [SELF, 5n, 0n, 0n] }, InvalidParameter, {}, 1],
    ['level', { input: [SELF, 1n << 32n, 0n, pair(0x51, 0)] }, InvalidParameter, {}, 1],
    ['logical', { input: [SELF, 1n << 33n, 0n, pair(0x51, 0)] }, InvalidParameter, {}, 1],
    ['a low vector', { input: [SELF, 0n, 0n, pair(0x0f, 0)] }, InvalidParameter, {}, 1],
    ['an unknown APIC id', { input: [SELF, 0n, 9n, pair(0x51, 0)] }, InvalidParameter, {}, 1],
    ['reserved fields', { input: [SELF, 0n, 0n, pair(0x51, 0x100)] }, InvalidParameter, {}, 1],
  ]);
  it('reaches VTL0 of the VP with that APIC id', () => {
    const rig = new CallRig(2, {}, [0, 2, 4, 6]);
    rig.issue(rig.context(0, 1), { code: 0x94, fast: true, input: [SELF, 0n, 2n, pair(0x52, 0)] });
    expect([requested(rig, 0, 0), requested(rig, 1, 0), requested(rig, 1, 1)]).toEqual([-1, 0x52, -1]);
  });
});

describe('RetargetDeviceInterrupt', () => {
  const options = { devices: [7] };
  const input = (change: Readonly<Record<number, bigint>> = {}): bigint[] => [SELF, 7n, 1n, pair(0xfee0_0000, 0x31), 0n, pair(0x61, 0), 2n].map((word, i) => change[i] ?? word);
  statuses(0x7e, { input: input() }, [
    ['a mask', {}, Success, options],
    ['in registers', { fast: true }, Success, options],
    ['another partition', { input: input({ 0: BAD }) }, InvalidPartitionId, options],
    ['an unknown device', { input: input({ 1: 8n }) }, InvalidDeviceId, options],
    ['no device', {}, InvalidDeviceId],
    ['an unknown source', { input: input({ 2: 3n }) }, InvalidParameter, options],
    ['a low vector', { input: input({ 5: pair(0x0f, 0) }) }, InvalidParameter, options],
    ['an unknown flag', { input: input({ 5: pair(0x61, 8) }) }, InvalidParameter, options],
    ['proxy redirection', { input: input({ 5: pair(0x61, 4) }) }, FeatureUnavailable, options],
    ['an empty mask', { input: input({ 6: 0n }) }, InvalidParameter, options],
    ['a set', { units: 2, input: [...input({ 5: pair(0x61, 2), 6: 0n }), 1n, 1n] }, Success, options],
    ['a set without its bank', { units: 1, input: [...input({ 5: pair(0x61, 2), 6: 0n }), 1n] }, InvalidParameter, options],
    ['a set without anything', { units: 0, input: input({ 5: pair(0x61, 2), 6: 0n }) }, InvalidParameter, options],
  ]);
  it('sends the device interrupt to VTL0 of the VPs chosen: one, or all', () => {
    const rig = new CallRig(3, options);
    const { devices } = rig.chapters.hypercalls;
    expect(devices.signal(7, 0, 0xfee0_0000, 0x31)).toBe(false);
    rig.issue(rig.context(), { code: 0x7e, input: input({ 6: 6n }) });
    expect(devices.signal(7, 0, 0xfee0_0000, 0x31)).toBe(true);
    expect([0, 1, 2].map((vp) => requested(rig, vp, 0))).toEqual([-1, 0x61, -1]);
    rig.issue(rig.context(), { code: 0x7e, input: input({ 5: pair(0x72, 1), 6: 6n }) });
    devices.signal(7, 0, 0xfee0_0000, 0x31);
    expect([0, 1, 2].map((vp) => requested(rig, vp, 0))).toEqual([-1, 0x72, 0x72]);
  });
});
