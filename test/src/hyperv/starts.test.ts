import { HvCall } from '@vmplanes/abi-hyperv';
import { Activity } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { contextOf, type Guest, ready, type ReadyConfig, SELF, VP_SELF } from './guest.ts';

// INIT and HvCallStartVirtualProcessor where a VP has several VTLs.

describe.each(policies)('under %s', (policy) => {
  const secured = (config: ReadyConfig = {}): Guest => ready({ policy, ...config });

  // -- starting VPs ---------------------------------------------------------------------------------------------------------------------------

  const INIT = 0x4500n;
  const initOf = (guest: Guest, icr: bigint): void => {
    guest.plain({ op: 'ipi', icr: (1n << 32n) | icr });
    guest.run(4);
  };
  it('TLFS Virtual Secure Mode, start: INIT to VTL0 of a VP with VTL1 is dropped', () => {
    const guest = secured({ vps: 2 });
    initOf(guest, INIT);
    expect([guest.context(1, 0).activity, guest.active(1)]).toEqual([Activity.Running, 0]);
  });
  it('TLFS Virtual Secure Mode, start: INIT to VTL0 of a VP without VTL1 resets it', () => {
    const guest = secured({ vps: 2, secure: 1 });
    initOf(guest, INIT);
    expect(guest.context(1, 0).activity).toBe(Activity.WaitForSipi);
  });
  it.each([[false, Activity.WaitForSipi], [true, Activity.Running]] as const)('openvmm, start (dropStartup denied): INIT to VTL0 of a VP with VTL1 is dropped only with DenyLowerVtlStartup: %s', (denied, activity) => {
    const guest = secured({ vps: 2, options: { dropStartup: 'denied' }, partitionConfig: denied ? 0x7fn : 0x3fn });
    initOf(guest, INIT);
    expect(guest.context(1, 0).activity).toBe(activity);
  });
  const start = (guest: Guest, over: object, context: object = {}): number =>
    guest.call(HvCall.StartVirtualProcessor, { header: { targetPartitionId: SELF, vpIndex: 1, targetVtl: 0, vpContext: { ...contextOf(1, 1), ...context }, ...over } }).status;
  const waiting = (config: ReadyConfig = {}): Guest => secured({ vps: 2, running: 1, secure: 1, ...config });
  it.each([
    ['another partition', { targetPartitionId: 42n }, {}, 0xd],
    ['itself', { vpIndex: 0 }, {}, 0xe],
    ['itself as SELF', { vpIndex: VP_SELF }, {}, 0xe],
    ['a VP that does not exist', { vpIndex: 2 }, {}, 0xe],
    ['VTL1 by VTL0', { targetVtl: 1 }, {}, 6],
    ['a bad context', {}, { cr0: 0x8000_0010n }, 0x50],
    ['VTL0', {}, {}, 0],
  ] as const)('TLFS HvCallStartVirtualProcessor: %s', (_what, over, context, status) => {
    expect(start(waiting(), over, context)).toBe(status);
  });
  it('TLFS HvCallStartVirtualProcessor: a VP that runs is refused', () => {
    expect(start(secured({ vps: 2, secure: 1 }), {})).toBe(0x15);
  });
  it('TLFS HvCallStartVirtualProcessor: a VTL that is not enabled on the VP', () => {
    const guest = waiting();
    guest.enter();
    expect(start(guest, { targetVtl: 1 })).toBe(0x15);
  });
  it('TLFS Virtual Secure Mode, DenyLowerVtlStartup: VTL0 may not start a VP, VTL1 may', () => {
    const guest = waiting({ partitionConfig: 0x7fn });
    expect(start(guest, {})).toBe(6);
    guest.enter();
    expect(start(guest, {})).toBe(0);
  });
  it('TLFS HvCallStartVirtualProcessor: the VP starts with the context in VTL0', () => {
    const guest = waiting();
    expect(start(guest, {})).toBe(0);
    guest.run(4);
    expect([guest.active(1), guest.get('cr3', 1), guest.context(1).activity]).toEqual([0, 0x5_0000n, Activity.Running]);
    expect(guest.get('rip', 1)).toBeGreaterThanOrEqual(contextOf(1, 1).rip);
  });
  it.each([['VTL0', 0], ['VTL1', 1]] as const)('openvmm, start: with VTL1 enabled on it a VP that is started in %s runs VTL1 first', (_what, targetVtl) => {
    const guest = waiting();
    guest.enter();
    expect(guest.enableVpVtl(1)).toBe(0);
    expect(start(guest, { targetVtl }, { cr3: 0x7_7000n })).toBe(0);
    guest.run(4);
    expect([guest.active(1), guest.get('cr3', 1, targetVtl)]).toEqual([1, 0x7_7000n]);
    guest.leave(1);
    expect(guest.active(1)).toBe(0);
  });
});
