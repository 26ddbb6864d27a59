import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { type Guest, ready, type ReadyConfig, target } from './guest.ts';

// Events that a higher VTL injects into a lower one.

const HIGH = 0xa0;

describe.each(policies)('under %s', (policy) => {
  const secured = (config: ReadyConfig = {}): Guest => ready({ policy, ...config });
  const inVtl1 = (): Guest => {
    const guest = secured();
    guest.enter();
    return guest;
  };

  const event = (vector: number, error?: number): bigint => 1n | (error === undefined ? 0n : 0x100n | (BigInt(error) << 32n)) | (BigInt(vector) << 16n);
  const inject = (guest: Guest, value: bigint): number => guest.setReg('PendingEvent0', value, { vtl: target(0) });
  // The exception comes with the instruction at which VTL0 stopped: that one ends with it.
  it('openvmm, PendingEvent0: an exception is raised in VTL0 at its next entry, and reads back until then', () => {
    const guest = secured();
    const call = guest.vtlCall();
    expect(inject(guest, event(13, 0x18))).toBe(0);
    expect(guest.reg('PendingEvent0', { vtl: target(0) })).toBe(event(13, 0x18));
    guest.leave();
    guest.run(3);
    expect(call.result?.fault).toMatchObject({ vector: 13, errorCode: 0x18 });
    guest.enter();
    expect(guest.reg('PendingEvent0', { vtl: target(0) })).toBe(0n);
  });
  it('openvmm, PendingEvent0: the parameter of a page fault is CR2', () => {
    const guest = secured();
    const call = guest.vtlCall();
    expect(inject(guest, event(14, 2) | (0x1234_5000n << 64n))).toBe(0);
    guest.leave();
    guest.run(3);
    expect([call.result?.fault?.vector, call.result?.fault?.errorCode, guest.get('cr2')]).toEqual([14, 2, 0x1234_5000n]);
  });
  it('openvmm, PendingEvent0: it ends a halt of VTL0', () => {
    const guest = secured();
    const halt = guest.issue({ op: 'hlt' });
    guest.interrupt(HIGH, 0, 1);
    guest.run(3);
    guest.plain({ op: 'sti' });
    guest.run(3);
    inject(guest, event(6));
    guest.leave();
    guest.run(4);
    expect(halt.result?.fault?.vector).toBe(6);
  });
  it.each([
    ['#GP, then #GP', 13, event(13, 2), 8, 0],
    ['#PF, then #PF', 14, event(14, 2), 8, 0],
    ['#PF, then #GP', 14, event(13, 2), 8, 0],
    ['#DE, then #NP', 0, event(11, 2), 8, 0],
    ['#GP, then #PF: the second', 13, event(14, 2), 14, 2],
    ['#UD, then #GP: the second', 6, event(13, 2), 13, 2],
    ['#GP, then #DB: the second', 13, event(1), 1, null],
  ] as const)('openvmm, PendingEvent0: it combines with an exception that is due in VTL0 as double faults do: %s', (_what, due, value, vector, errorCode) => {
    const guest = secured();
    const call = guest.vtlCall();
    guest.set({ 'exception.state': 1, 'exception.vector': due, 'exception.hasErrorCode': 1, 'exception.errorCode': 1 }, 0, 0);
    expect(inject(guest, value)).toBe(0);
    guest.leave();
    guest.run(3);
    expect(call.result?.fault).toMatchObject({ vector, errorCode });
  });
  it('openvmm, PendingEvent0: a second write replaces the first', () => {
    const guest = secured();
    const call = guest.vtlCall();
    expect([inject(guest, event(13, 1)), inject(guest, event(6))]).toEqual([0, 0]);
    guest.leave();
    guest.run(3);
    expect(call.result?.fault?.vector).toBe(6);
  });
  it('openvmm, PendingEvent0: taken back before the return, nothing happens', () => {
    const guest = inVtl1();
    inject(guest, event(13, 0));
    expect(inject(guest, 0n)).toBe(0);
    guest.leave();
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([]);
  });
  it.each([
    ['a vector above 0x15', event(0x16)],
    ['a kind that is no exception', 1n | (5n << 1n)],
  ] as const)('openvmm, PendingEvent0: %s is refused', (_what, value) => {
    expect(inject(inVtl1(), value)).not.toBe(0);
  });
});
