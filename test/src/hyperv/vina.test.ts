import { HvCall } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { assistPage, type Guest, Msr, ready, type ReadyConfig, SELF, target } from './guest.ts';

// Virtual interrupt notification assist: no public suite tests it. Vectors: 0x90 is the notification, 0x60 an interrupt of VTL0.

const VECTOR = 0x90, LOWER = 0x60;
const ENABLED = 0x100n, AUTO_RESET = 0x200n, AUTO_EOI = 0x400n;
const FLAG = 12;

interface VinaConfig extends ReadyConfig {
  /** Bits besides the vector; default enabled. */
  readonly bits?: bigint;
  /** RFLAGS.IF of VTL0 and VTL1; default set and clear. */
  readonly lowerFlag?: boolean;
  readonly ownFlag?: boolean;
}
/** VTL1 of VP 0 is active, with the assist on. */
const inVtl1 = (config: VinaConfig = {}): Guest => {
  const { bits = ENABLED, lowerFlag = true, ownFlag = false, ...rest } = config;
  const guest = ready(rest);
  guest.interruptFlag(lowerFlag, 0, 0);
  guest.enter();
  guest.interruptFlag(ownFlag);
  guest.put('VsmVina', BigInt(VECTOR) | bits);
  return guest;
};
/** Whether the assist told VTL1: flag and request. */
const told = (guest: Guest): readonly [number, boolean] => [guest.vinaAsserted(), guest.requested(VECTOR, 0, 1)];
const TOLD = [1, true], SILENT = [0, false];
const clear = (guest: Guest): void => {
  guest.plain({ op: 'write', gpa: assistPage(0, 1) + FLAG, size: 1, value: 0 });
};

describe.each(policies)('under %s', (policy) => {
  // -- when it asserts: an interrupt that the lower VTL would take right away ------------------------------------------------------------

  const triggers: readonly (readonly [title: string, prepare: (guest: Guest) => void, vector: number, expected: readonly unknown[]])[] = [
    ['VTL0 would take it', () => {}, LOWER, TOLD],
    ['RFLAGS.IF of VTL0 is clear', (g) => g.interruptFlag(false, 0, 0), LOWER, SILENT],
    ['VTL0 is behind STI', (g) => g.set({ interruptShadow: 2 }, 0, 0), LOWER, SILENT],
    ['VTL0 is behind MOV SS', (g) => g.set({ interruptShadow: 1 }, 0, 0), LOWER, SILENT],
    ['CR8 of VTL0 is of its class', (g) => g.put('Cr8', 6n, { vtl: target(0) }), LOWER, SILENT],
    ['CR8 of VTL0 is one class below', (g) => g.put('Cr8', 5n, { vtl: target(0) }), LOWER, TOLD],
    ['CR8 of VTL0 is 15', (g) => g.put('Cr8', 15n, { vtl: target(0) }), 0xff, SILENT],
    ['CR8 of VTL1 has no say', (g) => g.plain({ op: 'mov', to: 'cr8', value: 15 }), LOWER, TOLD],
    ['RFLAGS.IF of VTL1 has no say', (g) => g.interruptFlag(false), LOWER, TOLD],
    ['the lowest legal vector', () => {}, 0x10, TOLD],
    ['the assist is not enabled', (g) => g.put('VsmVina', BigInt(VECTOR)), LOWER, SILENT],
    ['only AutoReset and AutoEoi are set', (g) => g.put('VsmVina', BigInt(VECTOR) | AUTO_RESET | AUTO_EOI), LOWER, SILENT],
    ['the flag is set already', (g) => g.poke(1, assistPage(0, 1) + FLAG, Uint8Array.of(1)), LOWER, [1, false]],
    ['the APIC of VTL0 is off', (g) => g.apic(0, 0).writeSvr(0xff), LOWER, SILENT],
  ];
  it.each(triggers)('TLFS Virtual Secure Mode, VINA, trigger: %s', (_title, prepare, vector, expected) => {
    const guest = inVtl1({ policy });
    prepare(guest);
    guest.interrupt(vector);
    guest.run(3);
    expect(told(guest)).toEqual(expected);
    expect(guest.active()).toBe(1);
  });

  it.each([
    ['of a lower class waits in silence', 0x60, SILENT],
    ['of its class waits in silence', 0x7f, SILENT],
    ['of a higher class is told', 0x80, TOLD],
  ] as const)('TLFS Virtual Secure Mode, VINA, trigger: while VTL0 has 0x70 in service an interrupt %s', (_title, vector, expected) => {
    const guest = ready({ policy, ends: false });
    guest.interruptFlag(true, 0, 0);
    guest.interrupt(0x70);
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([0x70]);
    guest.enter();
    guest.put('VsmVina', BigInt(VECTOR) | ENABLED);
    guest.interrupt(vector);
    guest.run(3);
    expect(told(guest)).toEqual(expected);
  });
  it('TLFS Virtual Secure Mode, VINA: while VTL0 runs, its interrupts are told to nobody', () => {
    const guest = inVtl1({ policy });
    guest.leave();
    guest.interrupt(LOWER);
    guest.run(3);
    expect([guest.active(), guest.taken(0, 0), ...told(guest)]).toEqual([0, [LOWER], ...SILENT]);
  });
  it('TLFS Virtual Secure Mode, VINA: VTL0 halted with interrupts on would take it, too', () => {
    const guest = ready({ policy });
    guest.enter();
    guest.put('VsmVina', BigInt(VECTOR) | ENABLED);
    // A timer of VTL1 ends the halt's company: VTL0 halts, VTL1 is entered by its interrupt.
    guest.leave();
    guest.interruptFlag(true, 0, 0);
    guest.issue({ op: 'hlt' });
    guest.interrupt(0xa0, 0, 1);
    guest.run(3);
    expect([guest.active(), guest.vinaAsserted()]).toEqual([1, 0]);
    guest.interrupt(LOWER);
    guest.run(3);
    expect(told(guest)).toEqual(TOLD);
  });

  // -- what makes the condition true while VTL1 runs ----------------------------------------------------------------------------------------

  const changes: readonly (readonly [title: string, lowerFlag: boolean, cr8: number, change: (guest: Guest) => void])[] = [
    ['VTL1 sets RFLAGS.IF of VTL0', false, 0, (g) => g.put('Rflags', 0x202n, { vtl: target(0) })],
    ['VTL1 lowers CR8 of VTL0', true, 15, (g) => g.put('Cr8', 0n, { vtl: target(0) })],
  ];
  it.each(changes)('TLFS Virtual Secure Mode, VINA: a waiting interrupt is told when %s', (_title, lowerFlag, cr8, change) => {
    const guest = inVtl1({ policy, lowerFlag });
    guest.put('Cr8', BigInt(cr8), { vtl: target(0) });
    guest.interrupt(LOWER);
    guest.run(3);
    expect(told(guest)).toEqual(SILENT);
    change(guest);
    guest.run(2);
    expect(told(guest)).toEqual(TOLD);
  });
  it('TLFS Virtual Secure Mode, VINA: a waiting interrupt is told when the assist is enabled', () => {
    const guest = inVtl1({ policy, bits: 0n });
    guest.interrupt(LOWER);
    guest.run(3);
    guest.put('VsmVina', BigInt(VECTOR) | ENABLED);
    guest.run(2);
    expect(told(guest)).toEqual(TOLD);
  });
  it.each([['with', AUTO_RESET], ['without', 0n]] as const)('TLFS Virtual Secure Mode, VINA: of interrupts for both VTLs that of VTL1 comes first, and VTL1 is told of the other (%s automatic reset)', (_title, bits) => {
    const guest = inVtl1({ policy, bits: ENABLED | bits });
    guest.leave();
    guest.interrupt(LOWER, 0, 0);
    guest.interrupt(0xa0, 0, 1);
    guest.run(3);
    expect([guest.active(), guest.entryReason(), guest.taken(0, 0)]).toEqual([1, 2, []]);
    expect(told(guest)).toEqual(TOLD);
  });

  // -- where the lower interrupt comes from ----------------------------------------------------------------------------------------------------

  const sources: readonly (readonly [title: string, before: (guest: Guest) => void, inside: (guest: Guest) => void])[] = [
    ['its APIC timer', (g) => {
      g.wrmsr(0x83e, 0xb);
      g.wrmsr(0x832, LOWER);
      g.wrmsr(0x838, 9000);
    }, () => {}],
    ['its direct synthetic timer', (g) => {
      g.wrmsr(Msr.stimer0, (LOWER << 4) | (1 << 12) | 8);
      g.wrmsr(Msr.stimer0 + 1, g.rdmsr(0x4000_0020) + 80n);
    }, () => {}],
    ['the message of its synthetic timer', (g) => {
      g.wrmsr(Msr.sint0 + 2, LOWER);
      g.wrmsr(Msr.stimer0, (2 << 16) | 8);
      g.wrmsr(Msr.stimer0 + 1, g.rdmsr(0x4000_0020) + 80n);
    }, () => {}],
    ['an IPI of VTL0 of another VP', () => {}, (g) => {
      g.plain({ op: 'ipi', icr: BigInt(LOWER) }, 1);
    }],
    ['a cluster IPI of VTL1 itself', () => {}, (g) => {
      g.call(HvCall.SendSyntheticClusterIpi, { header: { vector: LOWER, targetVtl: target(0), flags: 0, processorMask: 1n }, fast: true });
    }],
    ['an interrupt that VTL1 asserts', () => {}, (g) => {
      const status = g.call(HvCall.AssertVirtualInterrupt, { header: { partitionId: SELF, interruptControl: 0n, destinationAddress: 0n, requestedVector: LOWER, targetVtl: 0 } }).status;
      expect(status).toBe(0);
    }],
  ];
  it.each(sources)('TLFS Virtual Secure Mode, VINA: VTL1 is told of %s', (_title, before, inside) => {
    const guest = ready({ policy, vps: 2 });
    guest.interruptFlag(true, 0, 0);
    before(guest);
    guest.enter();
    guest.put('VsmVina', BigInt(VECTOR) | ENABLED);
    expect(told(guest)).toEqual(SILENT);
    inside(guest);
    guest.run(100);
    expect(told(guest)).toEqual(TOLD);
    guest.vtlReturn();
    // VTL1 did not take the notification: it is entered again for it.
    expect([guest.active(), guest.entryReason()]).toEqual([1, 2]);
  });

  // -- what it does --------------------------------------------------------------------------------------------------------------------------

  it('TLFS Virtual Secure Mode, VINA: VTL1 takes the notification, VTL0 its interrupt after the return', () => {
    const guest = inVtl1({ policy, ownFlag: true });
    guest.interrupt(LOWER);
    guest.run(4);
    expect([guest.taken(0, 1), guest.taken(0, 0), guest.vinaAsserted()]).toEqual([[VECTOR], [], 1]);
    guest.leave();
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([LOWER]);
  });
  it('TLFS Virtual Secure Mode, VINA: with RFLAGS.IF of VTL1 clear the notification waits for STI', () => {
    const guest = inVtl1({ policy });
    guest.interrupt(LOWER);
    guest.run(4);
    expect(guest.taken(0, 1)).toEqual([]);
    guest.plain({ op: 'sti' });
    guest.run(4);
    expect(guest.taken(0, 1)).toEqual([VECTOR]);
  });
  it('TLFS Virtual Secure Mode, VINA: the notification has the priority of its vector', () => {
    const guest = inVtl1({ policy, ownFlag: true });
    guest.plain({ op: 'mov', to: 'cr8', value: 9 });
    guest.interrupt(LOWER);
    guest.run(4);
    expect([guest.taken(0, 1), guest.requested(VECTOR)]).toEqual([[], true]);
    guest.plain({ op: 'mov', to: 'cr8', value: 8 });
    guest.run(4);
    expect(guest.taken(0, 1)).toEqual([VECTOR]);
  });
  it.each([
    ['further interrupts while asserted are silent', (g: Guest) => g.interrupt(0x70)],
    ['the same interrupt again is silent', (g: Guest) => g.interrupt(LOWER)],
    ['writing the register again is silent', (g: Guest) => g.put('VsmVina', BigInt(VECTOR) | ENABLED)],
    ['disabling and enabling it is silent', (g: Guest) => {
      g.put('VsmVina', BigInt(VECTOR));
      g.put('VsmVina', BigInt(VECTOR) | ENABLED);
    }],
  ] as const)('TLFS Virtual Secure Mode, VINA: %s', (_title, more) => {
    const guest = inVtl1({ policy, ownFlag: true });
    guest.interrupt(LOWER);
    guest.run(4);
    more(guest);
    guest.run(4);
    expect([guest.taken(0, 1), ...told(guest)]).toEqual([[VECTOR], 1, false]);
  });
  it('TLFS Virtual Secure Mode, VINA: EOI does not clear the flag', () => {
    const guest = inVtl1({ policy, ownFlag: true, ends: false });
    guest.interrupt(LOWER);
    guest.run(4);
    expect(guest.inService(VECTOR)).toBe(true);
    guest.plain({ op: 'eoi' });
    expect([guest.inService(VECTOR), guest.vinaAsserted(), guest.requested(VECTOR)]).toEqual([false, 1, false]);
  });
  it.each([['with AutoEoi the notification is not in service after it was taken', AUTO_EOI, false], ['without AutoEoi it is in service until EOI', 0n, true]] as const)('TLFS Virtual Secure Mode, VINA: %s', (_title, bits, isInService) => {
    const guest = inVtl1({ policy, ownFlag: true, ends: false, bits: ENABLED | bits });
    guest.interrupt(LOWER);
    guest.run(4);
    expect([guest.taken(0, 1), guest.inService(VECTOR)]).toEqual([[VECTOR], isInService]);
  });

  // -- the flag --------------------------------------------------------------------------------------------------------------------------------

  it('TLFS Virtual Secure Mode, VINA: AutoEoi of a notification that the APIC of VTL1 refused is not for a later interrupt of that vector', () => {
    const guest = inVtl1({ policy, bits: ENABLED | AUTO_EOI, ends: false });
    // An APIC that is software-disabled takes no fixed interrupts.
    guest.wrmsr(0x80f, 0xff);
    guest.interrupt(LOWER);
    guest.run(2);
    expect([guest.vinaAsserted(), guest.requested(VECTOR)]).toEqual([1, false]);
    guest.put('VsmVina', BigInt(VECTOR));
    guest.wrmsr(0x80f, 0x1ff);
    guest.interruptFlag(true);
    guest.interrupt(VECTOR, 0, 1);
    guest.run(3);
    expect([guest.taken(0, 1), guest.inService(VECTOR)]).toEqual([[VECTOR], true]);
  });
  it('TLFS Virtual Secure Mode, VINA: cleared by a store while the interrupt still waits, it tells again', () => {
    const guest = inVtl1({ policy, ownFlag: true });
    guest.interrupt(LOWER);
    guest.run(4);
    clear(guest);
    guest.run(4);
    expect([guest.taken(0, 1), guest.vinaAsserted()]).toEqual([[VECTOR, VECTOR], 1]);
  });
  it('TLFS Virtual Secure Mode, VINA: cleared while nothing waits, it tells of the next new interrupt', () => {
    const guest = inVtl1({ policy, ownFlag: true });
    guest.interrupt(LOWER);
    guest.run(4);
    guest.leave();
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([LOWER]);
    guest.enter();
    expect(guest.vinaAsserted()).toBe(1);
    clear(guest);
    guest.run(3);
    expect(guest.taken(0, 1)).toEqual([VECTOR]);
    guest.interrupt(LOWER);
    guest.run(4);
    expect(guest.taken(0, 1)).toEqual([VECTOR, VECTOR]);
  });
  it.each([
    ['is cleared at the next entry with AutoReset', AUTO_RESET, 'call', 0],
    ['is cleared at the next entry with AutoReset, an interrupt', AUTO_RESET, 'interrupt', 0],
    ['stays over a return and a call without AutoReset', 0n, 'call', 1],
    ['stays over a return and an interrupt without AutoReset', 0n, 'interrupt', 1],
  ] as const)('TLFS Virtual Secure Mode, VINA: the flag %s', (_title, bits, by, flag) => {
    const guest = inVtl1({ policy, ownFlag: true, bits: ENABLED | bits });
    guest.interrupt(LOWER);
    guest.run(4);
    guest.leave();
    guest.run(4);
    expect(guest.taken(0, 0)).toEqual([LOWER]);
    if (by === 'call') guest.enter();
    else guest.interrupt(0xa0, 0, 1);
    guest.run(4);
    expect([guest.active(), guest.vinaAsserted()]).toEqual([1, flag]);
    guest.interrupt(LOWER);
    guest.run(4);
    expect(guest.taken(0, 1).filter((v) => v === VECTOR)).toHaveLength(flag === 0 ? 2 : 1);
  });
  it('TLFS Virtual Secure Mode, VINA: other fields of the assist page are left alone', () => {
    const guest = inVtl1({ policy });
    guest.poke(1, assistPage(0, 1) + FLAG, Uint8Array.of(0, 0x11, 0x22, 0x33, 0x44, 0x55));
    const reason = guest.entryReason();
    guest.interrupt(LOWER);
    guest.run(3);
    const page = guest.peek(1, assistPage(0, 1) + FLAG, 6);
    expect([0, 1, 2, 3, 4, 5].map((i) => page.getUint8(i))).toEqual([1, 0x11, 0x22, 0x33, 0x44, 0x55]);
    expect(guest.entryReason()).toBe(reason);
  });
  it('hyperv-vsm: without an assist page the flag is kept all the same', () => {
    const guest = inVtl1({ policy, ownFlag: true });
    guest.wrmsr(Msr.assist, 0);
    guest.interrupt(LOWER);
    guest.run(4);
    guest.interrupt(0x70);
    guest.run(4);
    expect(guest.taken(0, 1)).toEqual([VECTOR]);
  });
  it('TLFS Virtual Secure Mode, VINA: the flag moves with the assist page', () => {
    const guest = inVtl1({ policy, ownFlag: true });
    guest.interrupt(LOWER);
    guest.run(4);
    const moved = 0x1f_0000;
    guest.wrmsr(Msr.assist, moved | 1);
    expect(guest.peek(1, moved + FLAG, 1).getUint8(0) & 1).toBe(1);
    guest.interrupt(0x70);
    guest.run(4);
    expect(guest.taken(0, 1)).toEqual([VECTOR]);
  });

  // -- who is told --------------------------------------------------------------------------------------------------------------------------------

  it('TLFS Virtual Secure Mode, VINA: each VP has its own', () => {
    const guest = ready({ policy, vps: 2 });
    for (const vp of [0, 1]) {
      guest.interruptFlag(true, vp, 0);
      guest.enter(vp);
    }
    guest.put('VsmVina', BigInt(VECTOR) | ENABLED);
    guest.interrupt(LOWER, 0, 0);
    guest.interrupt(LOWER, 1, 0);
    guest.run(4);
    expect([guest.vinaAsserted(0), guest.vinaAsserted(1)]).toEqual([1, 0]);
    expect(guest.reg('VsmVina', { vp: 1 })).toBe(0n);
  });
  it('TLFS Virtual Secure Mode, VINA register: bits above AutoEoi are preserved', () => {
    const guest = inVtl1({ policy });
    const value = 0xffff_ffff_ffff_f890n;
    guest.put('VsmVina', value);
    expect(guest.reg('VsmVina')).toBe(value);
  });
  it('TLFS Virtual Secure Mode, VINA: an interrupt of VTL1 itself is no reason', () => {
    const guest = inVtl1({ policy });
    guest.interrupt(0xa0, 0, 1);
    guest.run(3);
    expect(told(guest)).toEqual(SILENT);
  });

  // -- halts and returns ------------------------------------------------------------------------------------------------------------------------------

  it.each([
    ['wakes VTL1 from HLT', true, ENABLED, [VECTOR]],
    ['does not wake VTL1 from HLT with RFLAGS.IF clear', false, ENABLED, []],
    ['that is off leaves VTL1 halted', true, 0n, []],
  ] as const)('TLFS Virtual Secure Mode, VINA %s', (_title, ownFlag, bits, taken) => {
    const guest = inVtl1({ policy, ownFlag, bits });
    const halt = guest.issue({ op: 'hlt' });
    guest.interrupt(LOWER);
    guest.run(6);
    expect([guest.active(), guest.taken(0, 1), halt.result !== null]).toEqual([1, taken, taken.length > 0]);
  });
  it('TLFS Virtual Secure Mode, VTL return: a notification not yet taken brings VTL1 back before any instruction of VTL0', () => {
    const guest = inVtl1({ policy });
    guest.interrupt(LOWER);
    guest.run(3);
    const { retired } = guest.context(0, 0);
    guest.vtlReturn();
    guest.run(3);
    expect([guest.active(), guest.entryReason(), guest.context(0, 0).retired - retired, guest.taken(0, 0)]).toEqual([1, 2, 0, []]);
  });
  it('TLFS Virtual Secure Mode, VINA: with three VTLs the highest is told of either lower one, the middle only of the lowest', () => {
    const guest = ready({ policy, options: { maximumVtl: 2 } });
    guest.interruptFlag(true, 0, 0);
    guest.enter();
    guest.put('VsmVina', 0x90n | ENABLED);
    expect(guest.enablePartitionVtl(2)).toBe(0);
    expect(guest.enableVpVtl(undefined, 2)).toBe(0);
    guest.interruptFlag(true);
    guest.enter();
    expect(guest.active()).toBe(2);
    guest.openInterface();
    guest.openApic();
    guest.openSynic();
    guest.put('VsmVina', 0x91n | ENABLED);
    guest.interrupt(LOWER, 0, 0);
    guest.run(3);
    expect([guest.vinaAsserted(0, 2), guest.requested(0x91, 0, 2), guest.vinaAsserted(0, 1)]).toEqual([1, true, 0]);
    guest.poke(2, assistPage(0, 2) + FLAG, Uint8Array.of(1));
    guest.interruptFlag(true);
    guest.run(4);
    expect(guest.taken(0, 2)).toEqual([0x91]);
    guest.leave();
    guest.run(4);
    expect([guest.active(), guest.taken(0, 1), guest.vinaAsserted(0, 1)]).toEqual([1, [0x90], 1]);
  });
});
