import { HvCall } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { type Guest, Msr, ready, type ReadyConfig, target } from './guest.ts';

// Interrupts and timers between VTLs: the cases 23 to 34 of x86/hyperv_vsm.c of kvm-unit-tests (branch vsm-next). Two VPs, as there.

const DENIED = 6;

describe.each(policies)('under %s', (policy) => {
  const secured = (more: ReadyConfig = {}): Guest => ready({ policy, vps: 2, ...more });

  // -- interrupts ---------------------------------------------------------------------------------------------------------------

  it('kvm-unit-tests hyperv_vsm.c #23: IPI from VTL0 to VTL0', () => {
    const guest = secured();
    guest.interruptFlag(true, 1);
    guest.plain({ op: 'ipi', icr: (1n << 32n) | 0x61n });
    guest.run(4);
    expect([guest.taken(1, 0), guest.taken(1, 1)]).toEqual([[0x61], []]);
  });
  it('kvm-unit-tests hyperv_vsm.c #24: IPI from VTL1 preempts VTL0 of the other VP', () => {
    const guest = secured();
    guest.interruptFlag(true, 1, 1);
    guest.enter();
    guest.plain({ op: 'ipi', icr: (1n << 32n) | 0x62n });
    guest.run(6);
    expect(guest.active(1)).toBe(1);
    expect([guest.taken(1, 0), guest.taken(1, 1)]).toEqual([[], [0x62]]);
    expect(guest.entryReason(1)).toBe(2);
  });
  it('kvm-unit-tests hyperv_vsm.c #25: IPI from VTL0 waits while the other VP is in VTL1', () => {
    const guest = secured();
    guest.interruptFlag(true, 1, 0);
    guest.enter(1);
    guest.interruptFlag(true, 1, 1);
    guest.plain({ op: 'ipi', icr: (1n << 32n) | 0x63n });
    guest.run(20);
    expect([guest.active(1), guest.taken(1, 0), guest.taken(1, 1)]).toEqual([1, [], []]);
    guest.leave(1);
    guest.run(4);
    expect(guest.taken(1, 0)).toEqual([0x63]);
  });
  const pvIpi = (guest: Guest, vector: number, targetVtl: number, vp = 0) => guest.call(HvCall.SendSyntheticClusterIpi, { header: { vector, targetVtl, flags: 0, processorMask: 1n }, fast: true, vp });
  it('kvm-unit-tests hyperv_vsm.c #26: cluster IPI from VTL0 without a target VTL', () => {
    const guest = secured();
    guest.interruptFlag(true, 0, 0);
    expect(pvIpi(guest, 0x64, 0).value).toBe(0n);
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([0x64]);
  });
  it('kvm-unit-tests hyperv_vsm.c #27: cluster IPI from VTL1 without a target VTL', () => {
    const guest = secured();
    guest.enter();
    guest.interruptFlag(true, 0, 1);
    expect(pvIpi(guest, 0x64, 0).value).toBe(0n);
    guest.run(3);
    expect(guest.taken(0, 1)).toEqual([0x64]);
  });
  it('kvm-unit-tests hyperv_vsm.c #28: cluster IPI from VTL0 to VTL1 preempts (switch allowUpwardIpi)', () => {
    const guest = secured({ options: { allowUpwardIpi: true } });
    guest.interruptFlag(true, 0, 1);
    const call = pvIpi(guest, 0x65, target(1));
    guest.run(3);
    expect([guest.active(), guest.taken(0, 1)]).toEqual([1, [0x65]]);
    guest.leave(0, 0n);
    expect(call.finish().value).toBe(0n);
  });
  it('openvmm: cluster IPI to a higher VTL is refused', () => {
    const guest = secured();
    expect(pvIpi(guest, 0x65, target(1)).value).toBe(BigInt(DENIED));
    expect(guest.requested(0x65, 0, 1)).toBe(false);
  });
  it('kvm-unit-tests hyperv_vsm.c #29: cluster IPI from VTL1 to VTL0 is taken after the return', () => {
    const guest = secured();
    guest.interruptFlag(true, 0, 0);
    guest.enter();
    expect(pvIpi(guest, 0x66, target(0)).value).toBe(0n);
    guest.run(5);
    expect(guest.taken(0, 0)).toEqual([]);
    guest.leave();
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([0x66]);
  });
  it('kvm-unit-tests hyperv_vsm.c #30: cluster IPI Ex from VTL1 to VTL0', () => {
    const guest = secured();
    guest.interruptFlag(true, 0, 0);
    guest.enter();
    const call = guest.call(HvCall.SendSyntheticClusterIpiEx, { header: { vector: 0x67, targetVtl: target(0), flags: 0, processorSet: { format: 0n, validBankMask: 1n } }, variable: [1n], fast: true });
    expect(call.value).toBe(0n);
    guest.leave();
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([0x67]);
  });

  // -- timers: a unit of reference time is one instruction here ---------------------------------------------------------------------

  const armApicTimer = (guest: Guest, vector: number, count: number): void => {
    guest.wrmsr(0x83e, 0xb);
    guest.wrmsr(0x832, vector);
    guest.wrmsr(0x838, count);
  };
  it('kvm-unit-tests hyperv_vsm.c #31: the APIC timer of VTL0 waits while VTL1 runs; that of VTL1 comes first', () => {
    const guest = secured();
    guest.interruptFlag(true, 0, 0);
    armApicTimer(guest, 0x71, 5000);
    guest.enter();
    guest.interruptFlag(true, 0, 1);
    armApicTimer(guest, 0x72, 10_000);
    guest.run(160);
    expect([guest.taken(0, 0), guest.taken(0, 1)]).toEqual([[], [0x72]]);
    guest.leave();
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([0x71]);
  });
  it('kvm-unit-tests hyperv_vsm.c #32: the APIC timer of VTL1 preempts VTL0', () => {
    const guest = secured();
    guest.enter();
    guest.interruptFlag(true, 0, 1);
    armApicTimer(guest, 0x72, 5000);
    guest.leave();
    guest.interruptFlag(true, 0, 0);
    armApicTimer(guest, 0x71, 10_000);
    guest.run(80);
    expect([guest.active(), guest.taken(0, 0), guest.taken(0, 1)]).toEqual([1, [], [0x72]]);
    expect(guest.entryReason()).toBe(2);
    guest.run(80);
    expect(guest.taken(0, 0)).toEqual([]);
    guest.leave(0, 0n);
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([0x71]);
  });
  const armStimer = (guest: Guest, config: number, units: bigint): void => {
    guest.wrmsr(Msr.stimer0, config);
    guest.wrmsr(Msr.stimer0 + 1, guest.rdmsr(0x4000_0020) + units);
  };
  const MESSAGE_TIMER = (1 << 16) | 8, DIRECT_TIMER = (1 << 12) | 8;
  it.each([
    ['#33: message', MESSAGE_TIMER],
    ['#34: direct', DIRECT_TIMER],
  ] as const)('kvm-unit-tests hyperv_vsm.c %s mode timer of VTL0 waits while VTL1 runs, that of VTL1 comes first', (_what, config) => {
    const guest = secured();
    const isMessage = config === MESSAGE_TIMER;
    guest.wrmsr(Msr.sint0 + 1, 0x81);
    guest.interruptFlag(true, 0, 0);
    armStimer(guest, isMessage ? config : config | (0x81 << 4), 50n);
    guest.enter();
    guest.wrmsr(Msr.sint0 + 1, 0x82);
    guest.interruptFlag(true, 0, 1);
    armStimer(guest, isMessage ? config : config | (0x82 << 4), 100n);
    guest.run(160);
    expect([guest.taken(0, 0), guest.taken(0, 1)]).toEqual([[], [0x82]]);
    if (isMessage) {
      const message = guest.message(0, 1, 1);
      expect([message.getUint32(0, true), message.getUint8(4), message.getUint8(5) & 1, message.getUint32(16, true)]).toEqual([0x8000_0010, 24, 0, 0]);
    }
    guest.leave();
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([0x81]);
    expect(guest.message(0, 0, 1).getUint32(0, true)).toBe(isMessage ? 0x8000_0010 : 0);
  });
  it.each([
    ['#33: message', MESSAGE_TIMER],
    ['#34: direct', DIRECT_TIMER],
  ] as const)('kvm-unit-tests hyperv_vsm.c %s mode timer of VTL1 preempts VTL0', (_what, config) => {
    const guest = secured();
    guest.enter();
    guest.wrmsr(Msr.sint0 + 1, 0x82);
    guest.interruptFlag(true, 0, 1);
    armStimer(guest, config === MESSAGE_TIMER ? config : config | (0x82 << 4), 50n);
    guest.leave();
    guest.interruptFlag(true, 0, 0);
    guest.run(60);
    expect([guest.active(), guest.taken(0, 0), guest.taken(0, 1)]).toEqual([1, [], [0x82]]);
  });
});
