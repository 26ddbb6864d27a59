import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { booted, type Guest, Msr, ready, type ReadyConfig, VP_SELF } from './guest.ts';

// Interrupts and halts where a VP has several VTLs.

const HIGH = 0xa0, LOW = 0x60;

describe.each(policies)('under %s', (policy) => {
  const secured = (config: ReadyConfig = {}): Guest => ready({ policy, ...config });
  const inVtl1 = (config: ReadyConfig = {}): Guest => {
    const guest = secured(config);
    guest.enter();
    return guest;
  };

  // -- for a higher VTL ------------------------------------------------------------------------------------------------------------

  it.each([
    [false, false],
    [false, true],
    [true, false],
    [true, true],
  ] as const)('TLFS Virtual Secure Mode, interrupts: VTL1 is entered whatever RFLAGS.IF of VTL0 (%s) and VTL1 (%s) say; VTL1 takes it if it is on', (lower, own) => {
    const guest = secured();
    guest.interruptFlag(lower, 0, 0);
    guest.interruptFlag(own, 0, 1);
    guest.interrupt(HIGH, 0, 1);
    guest.run(3);
    expect([guest.active(), guest.entryReason(), guest.taken(0, 1)]).toEqual([1, 2, own ? [HIGH] : []]);
    expect(guest.requested(HIGH, 0, 1)).toBe(!own);
    if (own) return;
    guest.plain({ op: 'sti' });
    guest.run(3);
    expect(guest.taken(0, 1)).toEqual([HIGH]);
  });
  it.each([
    [5, 0x50, false],
    [5, 0x5f, false],
    [5, 0x60, true],
    [15, 0xff, false],
    [14, 0xf0, true],
    [0, 0x10, true],
  ] as const)('TLFS Virtual Secure Mode, interrupts: with CR8 %i in VTL1 vector %i enters it: %s', (cr8, vector, enters) => {
    const guest = inVtl1();
    guest.plain({ op: 'mov', to: 'cr8', value: cr8 });
    guest.leave();
    guest.interrupt(vector, 0, 1);
    guest.run(4);
    expect([guest.active(), guest.requested(vector, 0, 1)]).toEqual([enters ? 1 : 0, true]);
  });
  it('TLFS Virtual Secure Mode, interrupts: one held by the priority of VTL1 is taken when VTL1 lowers it', () => {
    const guest = inVtl1();
    guest.plain({ op: 'mov', to: 'cr8', value: 15 });
    guest.leave();
    guest.interrupt(HIGH, 0, 1);
    guest.run(4);
    guest.enter();
    guest.interruptFlag(true);
    guest.run(3);
    expect(guest.taken(0, 1)).toEqual([]);
    guest.plain({ op: 'mov', to: 'cr8', value: 0 });
    guest.run(3);
    expect([guest.taken(0, 1), guest.entryReason()]).toEqual([[HIGH], 1]);
  });
  it('TLFS Virtual Secure Mode, interrupts: CR8 of VTL0 never holds an interrupt of VTL1', () => {
    const guest = secured();
    guest.plain({ op: 'mov', to: 'cr8', value: 15 });
    guest.interrupt(0x20, 0, 1);
    guest.run(3);
    expect(guest.active()).toBe(1);
  });
  it('openvmm: NMI enters VTL1 whatever its priority', () => {
    const guest = inVtl1();
    guest.plain({ op: 'mov', to: 'cr8', value: 15 });
    guest.leave();
    guest.nmi(0, 1);
    guest.run(3);
    expect([guest.active(), guest.entryReason(), guest.taken(0, 1)]).toEqual([1, 2, [2]]);
  });
  it('TLFS Virtual Secure Mode, interrupts: NMI of VTL0 waits while VTL1 runs', () => {
    const guest = inVtl1();
    guest.nmi(0, 0);
    guest.run(4);
    expect([guest.active(), guest.taken(0, 0), guest.taken(0, 1)]).toEqual([1, [], []]);
    guest.leave();
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([2]);
  });
  it('TLFS Virtual Secure Mode, VTL return: an interrupt that VTL1 did not take brings it back before any instruction of VTL0', () => {
    const guest = inVtl1();
    guest.interrupt(HIGH, 0, 1);
    guest.run(2);
    const { retired } = guest.context(0, 0);
    for (let i = 0; i < 3; i++) {
      guest.vtlReturn();
      expect([guest.active(), guest.entryReason(), guest.context(0, 0).retired - retired]).toEqual([1, 2, 0]);
    }
    guest.plain({ op: 'mov', to: 'cr8', value: 15 });
    guest.leave();
    guest.run(2);
    expect(guest.active()).toBe(0);
    expect(guest.context(0, 0).retired).toBeGreaterThan(retired);
  });
  it('TLFS Virtual Secure Mode, VTL return: of two interrupts both are taken before the return', () => {
    const guest = inVtl1();
    guest.interrupt(0x90, 0, 1);
    guest.interrupt(0xb0, 0, 1);
    guest.interruptFlag(true);
    guest.run(6);
    expect(guest.taken(0, 1)).toEqual([0xb0, 0x90]);
    guest.leave();
    expect(guest.active()).toBe(0);
  });
  it('TLFS Virtual Secure Mode, interrupts: an interrupt in the shadow of VTL1 itself is taken after it, without a switch', () => {
    const guest = inVtl1();
    guest.interrupt(HIGH, 0, 1);
    guest.plain({ op: 'sti' });
    guest.run(3);
    expect([guest.taken(0, 1), guest.switches[0]!.filter((s) => s.startsWith('1>0')).length]).toEqual([[HIGH], 1]);
  });
  it('TLFS Virtual Secure Mode, interrupts: of several VTLs the highest comes first, then the next', () => {
    const guest = secured({ options: { maximumVtl: 2 } });
    guest.enter();
    guest.enablePartitionVtl(2);
    guest.enableVpVtl(VP_SELF, 2);
    guest.enter();
    guest.openInterface();
    guest.openApic();
    guest.openSynic();
    guest.leave();
    guest.leave();
    guest.interruptFlag(true, 0, 0);
    guest.interruptFlag(true, 0, 1);
    guest.interruptFlag(true, 0, 2);
    for (const vtl of [0, 1, 2]) guest.interrupt(0x70 + vtl, 0, vtl);
    guest.run(4);
    expect([guest.active(), guest.taken(0, 2), guest.taken(0, 1), guest.taken(0, 0)]).toEqual([2, [0x72], [], []]);
    guest.leave();
    guest.run(3);
    expect([guest.active(), guest.taken(0, 1), guest.taken(0, 0)]).toEqual([1, [0x71], []]);
    guest.leave();
    guest.run(3);
    expect([guest.active(), guest.taken(0, 0)]).toEqual([0, [0x70]]);
  });
  it('TLFS Virtual Secure Mode: with VTL0 and VTL2 only, calls and returns skip VTL1', () => {
    const guest = booted({ policy, options: { maximumVtl: 2 } });
    expect(guest.enablePartitionVtl(2)).toBe(0);
    expect(guest.enableVpVtl(VP_SELF, 2)).toBe(0);
    guest.enter();
    expect(guest.active()).toBe(2);
    guest.openInterface();
    expect(guest.reg('VsmVpStatus')).toBe(0x5_0002n);
    guest.leave();
    expect(guest.active()).toBe(0);
  });

  // -- within a VTL --------------------------------------------------------------------------------------------------------------------

  it.each([
    ['all including self', 0x8_0000n, [1, 1]],
    ['all but self', 0xc_0000n, [0, 1]],
    ['self', 0x4_0000n, [1, 0]],
  ] as const)('kvm-unit-tests, local APIC: an interrupt command of VTL1 to %s reaches VTL1 only', (_what, shorthand, hits) => {
    const guest = secured({ vps: 2 });
    guest.enter(0);
    guest.enter(1);
    guest.plain({ op: 'ipi', icr: shorthand | BigInt(LOW) });
    guest.run(3);
    expect([0, 1].map((vp) => Number(guest.requested(LOW, vp, 1)))).toEqual(hits);
    expect([0, 1].map((vp) => guest.requested(LOW, vp, 0))).toEqual([false, false]);
  });
  it('kvm-unit-tests, local APIC: a logical destination is resolved in the VTL of the sender', () => {
    const guest = secured({ vps: 2 });
    guest.enter(0);
    // x2APIC logical id of APIC id 1: cluster 0, bit 1.
    guest.plain({ op: 'ipi', icr: (2n << 32n) | 0x800n | BigInt(LOW) });
    guest.run(3);
    expect([guest.requested(LOW, 1, 0), guest.active(1), guest.entryReason(1)]).toEqual([false, 1, 2]);
  });
  it('TLFS Virtual Secure Mode: the EOI of VTL1 ends nothing in VTL0', () => {
    const guest = secured({ ends: false });
    guest.interruptFlag(true, 0, 0);
    guest.interrupt(LOW, 0, 0);
    guest.run(3);
    guest.enter();
    guest.plain({ op: 'eoi' });
    expect(guest.inService(LOW, 0, 0)).toBe(true);
  });

  // -- for a lower VTL --------------------------------------------------------------------------------------------------------------------

  it.each([[true], [false]] as const)('TLFS Virtual Secure Mode, interrupts: one for VTL0 waits until VTL0 runs (RFLAGS.IF of VTL1: %s)', (own) => {
    const guest = secured();
    guest.interruptFlag(true, 0, 0);
    guest.enter();
    guest.interruptFlag(own);
    guest.interrupt(LOW, 0, 0);
    guest.run(10);
    expect([guest.active(), guest.taken(0, 0), guest.taken(0, 1)]).toEqual([1, [], []]);
    guest.leave();
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([LOW]);
  });

  // -- halts --------------------------------------------------------------------------------------------------------------------------------

  it.each([[true], [false]] as const)('TLFS Virtual Secure Mode, HLT in VTL0 (RFLAGS.IF %s): VTL1 is entered for its interrupt, VTL0 is still halted afterwards', (lower) => {
    const guest = secured();
    guest.interruptFlag(lower, 0, 0);
    guest.interruptFlag(true, 0, 1);
    const halt = guest.issue({ op: 'hlt' });
    guest.interrupt(HIGH, 0, 1);
    guest.run(4);
    expect([guest.active(), guest.taken(0, 1), guest.entryReason()]).toEqual([1, [HIGH], 2]);
    guest.leave();
    guest.run(10);
    expect([guest.active(), halt.result]).toEqual([0, null]);
    guest.interrupt(LOW, 0, 0);
    guest.run(4);
    expect([halt.result !== null, guest.taken(0, 0)]).toEqual(lower ? [true, [LOW]] : [false, []]);
  });
  it('TLFS Virtual Secure Mode, HLT in VTL1: interrupts of VTL0 neither wake nor switch; its own do', () => {
    const guest = inVtl1();
    guest.interruptFlag(true, 0, 0);
    guest.interruptFlag(true, 0, 1);
    const halt = guest.issue({ op: 'hlt' });
    guest.interrupt(LOW, 0, 0);
    guest.run(10);
    expect([guest.active(), halt.result, guest.taken(0, 0)]).toEqual([1, null, []]);
    guest.interrupt(HIGH, 0, 1);
    guest.run(4);
    expect([halt.result !== null, guest.taken(0, 1)]).toEqual([true, [HIGH]]);
  });
  it('TLFS Virtual Secure Mode, HLT in VTL0: a timer of VTL1 wakes the VP', () => {
    const guest = inVtl1();
    guest.interruptFlag(true);
    guest.wrmsr(Msr.stimer0, (HIGH << 4) | (1 << 12) | 8);
    guest.wrmsr(Msr.stimer0 + 1, guest.rdmsr(0x4000_0020) + 500n);
    guest.leave();
    guest.issue({ op: 'hlt' });
    guest.run(40);
    expect([guest.active(), guest.taken(0, 1)]).toEqual([1, [HIGH]]);
  });
  it('TLFS VP Properties, guest idle: any interrupt ends it, even with RFLAGS.IF clear', () => {
    const guest = secured();
    const idle = guest.issue({ op: 'rdmsr', index: 0x4000_00f0 });
    guest.run(10);
    expect(idle.result).toBeNull();
    guest.interrupt(LOW, 0, 0);
    guest.run(4);
    expect([idle.result !== null, guest.taken(0, 0)]).toEqual([true, []]);
  });
});
