import { HvRegister, type HvRegisterName } from '@vmplanes/abi-hyperv';
import { Activity, type PlaneContext } from '@vmplanes/engine';
import { readRegister, type RegisterName, writeRegister } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { Rig } from '../fixture.ts';
import { readHvRegister, writeHvRegister } from './table.ts';

const OK = 0, PARAMETER = 5, VALUE = 0x50;
const HIGH = 0xabcdn << 64n;

const make = (vps = 2) => {
  const rig = new Rig(vps);
  const target = rig.context(1, 0);
  const caller = rig.context(0, 1);
  const of = (name: HvRegisterName, c: PlaneContext = target, by = caller) => readHvRegister({ hv: rig, target: c, caller: by }, HvRegister[name]);
  const set = (name: HvRegisterName, value: bigint, c: PlaneContext = target, by = caller) => writeHvRegister({ hv: rig, target: c, caller: by }, HvRegister[name], value);
  const cell = (name: RegisterName): bigint => readRegister(rig.machine.arena, target.base, name);
  const put = (name: RegisterName, value: bigint): void => writeRegister(rig.machine.arena, target.base, name, value);
  return { rig, target, caller, of, set, cell, put };
};

/** @spec openvmm vm/hv1/hvdef/src/lib.rs: 0 pending, 3:1 type, 4 deliver code, 8:5 length, 31:16 vector, 63:32 code */
const interruption = (type: number, vector: number, { length = 0, code = null as number | null } = {}): bigint =>
  1n | (BigInt(type) << 1n) | (code === null ? 0n : 16n | (BigInt(code) << 32n)) | (BigInt(length) << 5n) | (BigInt(vector) << 16n);
const CELLS = ['nmi.injected', 'exception.state', 'interrupt.injected'] as const satisfies readonly RegisterName[];

describe('PendingInterruption', () => {
  it('reads none where nothing is in delivery, whatever else the cells say', () => {
    const { of, put } = make();
    for (const name of ['interrupt.vector', 'exception.vector', 'exception.errorCode', 'interrupt.soft', 'event.instructionLength'] as const) put(name, 3n);
    expect(of('PendingInterruption')).toBe(0n);
  });
  it.each([
    ['an interrupt', { 'interrupt.injected': 1n, 'interrupt.vector': 0xfen, 'event.instructionLength': 2n }, interruption(0, 0xfe)],
    ['a software interrupt', { 'interrupt.injected': 1n, 'interrupt.vector': 0x80n, 'interrupt.soft': 1n, 'event.instructionLength': 2n }, interruption(4, 0x80, { length: 2 })],
    ['an NMI', { 'nmi.injected': 1n, 'interrupt.vector': 0x80n }, interruption(2, 2)],
    ['an exception with a code', { 'exception.state': 1n, 'exception.vector': 14n, 'exception.hasErrorCode': 1n, 'exception.errorCode': 0x8000_0007n }, interruption(3, 14, { code: 0x8000_0007 })],
    ['an exception without one', { 'exception.state': 1n, 'exception.vector': 6n, 'exception.hasErrorCode': 0n }, interruption(3, 6)],
    ['an NMI before an exception and an interrupt', { 'nmi.injected': 1n, 'exception.state': 1n, 'interrupt.injected': 1n, 'interrupt.vector': 0x40n }, interruption(2, 2)],
    ['an exception before an interrupt', { 'exception.state': 1n, 'exception.vector': 13n, 'exception.hasErrorCode': 1n, 'exception.errorCode': 0n, 'interrupt.injected': 1n, 'interrupt.vector': 0x40n }, interruption(3, 13, { code: 0 })],
  ] as const)('reads %s', (_what, cells, expected) => {
    const { of, put } = make();
    for (const [name, value] of Object.entries(cells)) put(name as RegisterName, value);
    expect(of('PendingInterruption')).toBe(expected);
  });
  it.each([
    ['an interrupt', interruption(0, 0x21), [0n, 0n, 1n], { 'interrupt.vector': 0x21n, 'interrupt.soft': 0n, 'event.instructionLength': 0n }],
    ['vector 0', interruption(0, 0), [0n, 0n, 1n], { 'interrupt.vector': 0n }],
    ['vector 255', interruption(0, 255), [0n, 0n, 1n], { 'interrupt.vector': 255n }],
    ['a software interrupt', interruption(4, 0x80, { length: 9 }), [0n, 0n, 1n], { 'interrupt.vector': 0x80n, 'interrupt.soft': 1n, 'event.instructionLength': 9n }],
    ['an NMI', interruption(2, 2), [1n, 0n, 0n], {}],
    ['a page fault', interruption(3, 14, { code: 5 }), [0n, null, 0n], { 'exception.vector': 14n, 'exception.hasErrorCode': 1n, 'exception.errorCode': 5n }],
    ['#UD', interruption(3, 6), [0n, null, 0n], { 'exception.vector': 6n, 'exception.hasErrorCode': 0n }],
    ['the first exception', interruption(3, 0), [0n, null, 0n], { 'exception.vector': 0n }],
    ['the last exception', interruption(3, 31), [0n, null, 0n], { 'exception.vector': 31n }],
    ['nothing', interruption(3, 6) & ~1n, [0n, 0n, 0n], {}],
    ['nothing of a kind that there is not', 0x7f_0000n | 0xen, [0n, 0n, 0n], {}],
  ] as const)('takes %s, and what was in delivery is gone', (_what, value, flags, cells) => {
    const { of, set, cell, put } = make();
    for (const name of CELLS) put(name, 1n);
    put('interrupt.soft', 1n);
    expect(set('PendingInterruption', value | HIGH)).toBe(OK);
    CELLS.forEach((name, i) => (flags[i] === null ? expect(cell(name), name).not.toBe(0n) : expect(cell(name), name).toBe(flags[i])));
    for (const [name, expected] of Object.entries(cells)) expect(cell(name as RegisterName), name).toBe(expected);
    expect(of('PendingInterruption')).toBe((value & 1n) === 0n ? 0n : value);
  });
  it.each([
    ['an interrupt vector of 9 bits', interruption(0, 0x100)], ['a software vector of 9 bits', interruption(4, 0x100)], ['an NMI of another vector', interruption(2, 3)], ['exception 2', interruption(3, 2)], ['exception 32', interruption(3, 32)],
    ['a reserved type', interruption(1, 0x40)], ['a privileged software exception', interruption(5, 1)], ['a software exception', interruption(6, 3)], ['type 7', interruption(7, 0x40)],
  ])('refuses %s and changes nothing', (_what, value) => {
    const { of, set, put } = make();
    put('interrupt.injected', 1n);
    put('interrupt.vector', 0x55n);
    expect([set('PendingInterruption', value), of('PendingInterruption')]).toEqual([VALUE, interruption(0, 0x55)]);
  });
});

describe('InterruptState', () => {
  it.each([0n, 1n, 2n, 3n])('%i', (value) => {
    const { of, set, cell, put } = make();
    put('interruptShadow', 2n);
    put('nmi.blocked', 1n);
    expect(of('InterruptState')).toBe(3n);
    expect([set('InterruptState', value), of('InterruptState')]).toEqual([OK, value]);
    expect([cell('interruptShadow'), cell('nmi.blocked')]).toEqual([value & 1n, value >> 1n]);
  });
  it('has no other bits', () => {
    const { of, set } = make();
    for (const value of [4n, 1n << 63n, 7n]) expect([set('InterruptState', value), of('InterruptState')]).toEqual([VALUE, 0n]);
  });
});

describe('events and notifications', () => {
  it('are for VTLs below the caller', () => {
    const { rig, of, set, caller } = make();
    const equal = rig.context(1, 1);
    for (const name of ['PendingEvent0', 'PendingEvent1', 'DeliverabilityNotifications'] as const) {
      expect([of(name, equal), set(name, 0n, equal), of(name, caller), set(name, 0n, caller)], name).toEqual([PARAMETER, PARAMETER, PARAMETER, PARAMETER]);
      expect([of(name), set(name, 0n)], name).toEqual([0n, OK]);
    }
  });
  it('have two halves of 128 bits', () => {
    const { of, set } = make();
    const first = 1n | (14n << 16n) | (0x123n << 64n), second = (5n << 64n) | 6n;
    expect([set('PendingEvent0', first), set('PendingEvent1', second), of('PendingEvent0'), of('PendingEvent1')]).toEqual([OK, OK, first, second]);
  });
  it('notifications have 64 bits', () => {
    const { of, set } = make();
    expect([set('DeliverabilityNotifications', HIGH | 0x8001_0000_0000_003fn), of('DeliverabilityNotifications'), set('DeliverabilityNotifications', 0x40n), set('DeliverabilityNotifications', 1n << 47n)]).toEqual([OK, 0x8001_0000_0000_003fn, VALUE, VALUE]);
  });
});

describe('suspend registers', () => {
  it('ExplicitSuspend holds the VP of the target', () => {
    const { rig, of, set } = make();
    expect([of('ExplicitSuspend'), set('ExplicitSuspend', 1n | HIGH), of('ExplicitSuspend'), rig.machine.vp(1).suspended, rig.machine.vp(0).suspended]).toEqual([0n, OK, 1n, true, false]);
    for (const value of [2n, 3n, 1n << 63n]) expect([set('ExplicitSuspend', value), of('ExplicitSuspend')]).toEqual([VALUE, 1n]);
    expect([set('ExplicitSuspend', 0n), of('ExplicitSuspend')]).toEqual([OK, 0n]);
  });
  it('InterceptSuspend can be let go, not set', () => {
    const { rig, of, set, target } = make();
    expect([of('InterceptSuspend'), set('InterceptSuspend', 1n), set('InterceptSuspend', 0n), set('InterceptSuspend', 2n)]).toEqual([0n, VALUE, OK, VALUE]);
    const state = rig.chapters.intercepts.save() as { readonly waiting: Uint8Array };
    state.waiting[16] = 1;
    rig.chapters.intercepts.restore(state as never);
    expect(rig.chapters.intercepts.isWaiting(target)).toBe(true);
    expect([of('InterceptSuspend'), set('InterceptSuspend', 1n), set('InterceptSuspend', 3n), of('InterceptSuspend'), set('InterceptSuspend', 0n), of('InterceptSuspend')]).toEqual([1n, OK, VALUE, 1n, OK, 0n]);
  });
});

describe('InternalActivityState', () => {
  it.each([[Activity.Running, 0n], [Activity.WaitForSipi, 1n], [Activity.Halted, 2n], [Activity.Held, 0n]] as const)('of activity %s is %i', (activity, value) => {
    const { of, target } = make();
    target.activity = activity;
    expect(of('InternalActivityState')).toBe(value);
  });
  it('says that a VTL idles, and ends that', () => {
    const { rig, of, set, target } = make();
    target.activity = Activity.Held;
    const answer = rig.chapters.clocks.idle(target);
    target.wait = answer.kind === 'wait' ? answer.condition : null;
    expect(rig.chapters.clocks.isIdle(target)).toBe(true);
    expect([of('InternalActivityState'), set('InternalActivityState', 2n), of('InternalActivityState'), target.wait]).toEqual([4n, OK, 2n, null]);
  });
  it.each([[0n, Activity.Running, false], [1n, Activity.WaitForSipi, true], [2n, Activity.Halted, false]] as const)('set to %i', (value, activity, waits) => {
    const { rig, of, set, target } = make();
    target.activity = activity === Activity.Running ? Activity.Halted : Activity.Running;
    target.wait = { kind: 'key', key: 'x' } as never;
    rig.apic(target).latches.setWaitingForSipi(!waits);
    expect([set('InternalActivityState', value | HIGH), of('InternalActivityState'), target.activity, target.wait]).toEqual([OK, value, activity, null]);
    expect(rig.apic(target).latches.isWaitingForSipi).toBe(waits);
  });
  it('is refused for the caller, for idling, for two states at once', () => {
    const { set, caller, target } = make();
    expect(set('InternalActivityState', 0n, caller)).toBe(VALUE);
    for (const value of [3n, 4n, 8n, 1n << 63n]) expect(set('InternalActivityState', value), String(value)).toBe(VALUE);
    // The same VTL of another VP is somebody else.
    expect(set('InternalActivityState', 0n, target, caller)).toBe(OK);
  });
  it('leaves one that waits for something else waiting', () => {
    const { set, target } = make();
    target.activity = Activity.Held;
    const wait = { kind: 'key', key: 'other' };
    target.wait = wait as never;
    expect([set('InternalActivityState', 0n), set('InternalActivityState', 1n), set('InternalActivityState', 2n)]).toEqual([OK, VALUE, VALUE]);
    expect([target.activity, target.wait]).toEqual([Activity.Held, wait]);
  });
});
