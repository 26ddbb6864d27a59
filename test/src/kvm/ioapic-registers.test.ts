import { KvmIoapicState, KvmIrqchip, KvmRegs } from '@vmplanes/abi-kvm-planes';
import type { Infer } from '@vmplanes/binary';
import type { Step } from '@vmplanes/x86';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { apicRig, irrBit, type Programs, Rig, word } from './kit.ts';

type State = Infer<typeof KvmIoapicState>;
const BASE = 0xfec0_0000;
const IOAPIC = 2;
const LEVEL = 1n << 15n, REMOTE_IRR = 1n << 14n, STATUS = 1n << 12n, MASKED = 1n << 16n, LOGICAL = 1n << 11n;
const out: Step = { op: 'out', port: 1, value: 0 };
const rigOf = (programs: Programs = {}, planes: readonly number[] = [1]): Rig => apicRig('2025-04', planes, programs, { vcpus: [0, 1], planes: { 1: [0, 1] }, irqchip: 'full' });
const fresh: State = { baseAddress: BigInt(BASE), ioregsel: 0, id: 0, irr: 0, reservedPad: 0, redirtbl: Array<bigint>(24).fill(MASKED) };
const get = (rig: Rig): State => {
  const bytes = new Uint8Array(KvmIrqchip.size);
  bytes[0] = IOAPIC;
  rig.c.do(rig.built.vmFd, 'KVM_GET_IRQCHIP', bytes);
  return KvmIoapicState.read(new DataView(bytes.buffer), 8);
};
const set = (rig: Rig, state: Partial<State>): string => {
  const bytes = new Uint8Array(KvmIrqchip.size);
  bytes[0] = IOAPIC;
  KvmIoapicState.write(new DataView(bytes.buffer), 8, { ...fresh, ...state });
  return word(rig.c.call(rig.built.vmFd, 'KVM_SET_IRQCHIP', bytes));
};
const table = (entries: Readonly<Record<number, bigint>>): Pick<State, 'redirtbl'> => ({ redirtbl: fresh.redirtbl.map((e, pin) => entries[pin] ?? e) });
const line = (rig: Rig, gsi: number, level: number): void => void rig.c.do(rig.built.vmFd, 'KVM_IRQ_LINE', new Uint8Array(Uint32Array.of(gsi, level).buffer));
/** Requested vectors of vCPU 0 in plane 0. */
const requested = (rig: Rig, id = 0): readonly number[] => Array.from({ length: 240 }, (_, i) => i + 16).filter((v) => irrBit(rig.lapic(0, id), v));

/** Guest accesses to the window, each read shown in RAX at a port exit. */
const window = (accesses: readonly (readonly [offset: number, value: number | null, size?: 1 | 2 | 4])[]): { readonly rig: Rig; readonly reads: readonly bigint[] } => {
  const steps = accesses.flatMap(([offset, value, size = 4]): readonly Step[] => (value === null ? [{ op: 'read', gpa: BASE + offset, size, regs: { rax: 0 } }, out] : [{ op: 'write', gpa: BASE + offset, size, value }]));
  const rig = rigOf({ 0: { 0: [...steps, { op: 'out', port: 2, value: 0 }] } });
  const reads: bigint[] = [];
  for (const [, value] of accesses) {
    if (value !== null) continue;
    rig.run(0);
    reads.push(rig.get(rig.vcpu(), 'KVM_GET_REGS', KvmRegs).rax);
  }
  rig.run(0);
  return { rig, reads };
};

describe('82093AA §3: the register window', () => {
  it('starts empty: everything masked', () => expect(get(rigOf())).toEqual(fresh));
  it('identification, version with 24 entries, arbitration, and nothing between and behind', () => {
    const { rig, reads } = window([[0, 0], [0x10, 0xff00_00ff], [0, null], [0x10, null], [0, 2], [0x10, null], [0, 1], [0x10, null], [0, null], [0, 3], [0x10, null], [0, 0xf], [0x10, null], [0, 0x40], [0x10, null], [0x20, null]]);
    expect(reads).toEqual([0n, 0x0f00_0000n, 0x0f00_0000n, 0x17_0011n, 1n, 0xffff_ffffn, 0xffff_ffffn, 0xffff_ffffn, 0n]);
    expect(get(rig)).toEqual({ ...fresh, id: 15, ioregsel: 0x40 });
  });
  it('version and arbitration cannot be written, the selector has eight bits', () => {
    const { rig, reads } = window([[0, 1], [0x10, 0xffff_ffff], [0x10, null], [0, 2], [0x10, 0xffff_ffff], [0x10, null], [0, 0x1_2310], [0, null]]);
    expect([reads, get(rig)]).toEqual([[0x17_0011n, 0n, 0x10n], { ...fresh, ioregsel: 0x10 }]);
  });
  it.each([0, 1, 22, 23])('entry %i is two registers', (pin) => {
    const { rig, reads } = window([[0, 0x10 + 2 * pin], [0x10, 0x1_a8f5], [0, 0x11 + 2 * pin], [0x10, 0x7700_0000], [0x10, null], [0, 0x10 + 2 * pin], [0x10, null]]);
    expect([reads, get(rig).redirtbl]).toEqual([[0x7700_0000n, 0x1_a8f5n], table({ [pin]: 0x7700_0000_0001_a8f5n }).redirtbl]);
  });
  it('delivery status and remote IRR cannot be written, and stay with a level', () => {
    const rig = rigOf({ 0: { 0: [{ op: 'write', gpa: BASE, size: 4, value: 0x10 }, { op: 'write', gpa: BASE + 0x10, size: 4, value: 0x1_9060 }, out, { op: 'write', gpa: BASE + 0x10, size: 4, value: 0x1_5060 }, out] } });
    set(rig, table({ 0: MASKED | LEVEL | REMOTE_IRR | 0x50n }));
    rig.run(0);
    expect(get(rig).redirtbl[0]).toBe(MASKED | LEVEL | REMOTE_IRR | 0x60n);
    // Made edge-triggered, it has none any more. @spec Linux arch/x86/kvm/ioapic.c ioapic_write_indirect
    rig.run(0);
    expect(get(rig).redirtbl[0]).toBe(MASKED | 0x60n);
    expect(STATUS).toBe(0x1000n);
  });
  it('narrow accesses: writes of 1 and 2 bytes clear the rest, reads give their part', () => {
    const { reads } = window([[0, 0x11], [0x10, 0x1234_5678], [0x10, null], [0x10, 0x9abc, 2], [0x10, null], [0x10, 0xde, 1], [0x10, null], [0x10, 0x1234_5678], [0x10, null, 1], [0x10, null, 2]]);
    expect(reads).toEqual([0x1234_5678n, 0x9abcn, 0xden, 0x78n, 0x5678n]);
  });
  it('registers repeat over their sixteen bytes and nowhere else in the window', () => {
    const { reads } = window([[0x0c, 1], [0x1c, null], [0x30, null], [0xf0, null], [0x20, 0x99], [0, null]]);
    expect(reads).toEqual([0x17_0011n, 0n, 0n, 1n]);
  });
  it('the window is 256 bytes at its address; before and behind it are devices of userspace', () => {
    for (const [gpa, reason] of [[BASE - 4, 6], [BASE, 2], [BASE + 0xfc, 2], [BASE + 0x100, 6]] as const) {
      const rig = rigOf({ 0: { 0: [{ op: 'read', gpa, size: 4 }, out] } });
      rig.run(0);
      expect(rig.exitReason(), gpa.toString(16)).toBe(reason);
    }
    const split = apicRig('2025-04', [], { 0: { 0: [{ op: 'read', gpa: BASE, size: 4 }, out] } });
    split.run(0);
    expect(split.exitReason()).toBe(6);
  });
  it('the page of the local APIC goes first where the guest has put it there', () => {
    const rig = rigOf({ 0: { 0: [{ op: 'read', gpa: BASE + 0x30, size: 4 }, out] } });
    rig.setMsr(rig.vcpu(), 0x1b, 0xfee0_0900n);
    rig.setMsr(rig.vcpu(), 0x1b, BigInt(BASE) | 0x900n);
    rig.run(0);
    expect([rig.exitReason(), rig.get(rig.vcpu(), 'KVM_GET_REGS', KvmRegs).rax & 0xffn]).toEqual([2, 0x14n]);
  });
});

describe('Linux api.rst KVM_GET_IRQCHIP, KVM_SET_IRQCHIP: the state, byte by byte', () => {
  it('masked entries come back as they are', () => {
    const rig = rigOf();
    const entry = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map((e) => e | MASKED);
    fc.assert(
      fc.property(fc.array(entry, { minLength: 24, maxLength: 24 }), fc.nat(255), fc.nat(15), fc.nat(0xff_ffff), (redirtbl, ioregsel, id, irr) => {
        expect(set(rig, { redirtbl, ioregsel, id, irr, baseAddress: 0x1234n })).toBe('0');
        expect(get(rig)).toEqual({ ...fresh, redirtbl, ioregsel, id, irr });
      }),
      { numRuns: 20, seed: 9 },
    );
    expect(set(rig, { ioregsel: 0x123, id: 0x1f, irr: 0xff00_0000 })).toBe('0');
    expect(get(rig)).toEqual({ ...fresh, ioregsel: 0x23, id: 0xf });
  });
  it('what is asserted and not masked is sent, once', () => {
    const rig = rigOf();
    set(rig, { ...table({ 0: 0x40n, 4: 0x44n, 5: LEVEL | 0x45n, 6: 0x46n, 23: 0x57n }), irr: (1 << 0) | (1 << 4) | (1 << 5) | (1 << 23) });
    expect(requested(rig)).toEqual([0x40, 0x44, 0x45, 0x57]);
    // An edge that was sent is no request any more; a level stays one.
    expect([get(rig).irr, get(rig).redirtbl[5]]).toEqual([1 << 5, LEVEL | REMOTE_IRR | 0x45n]);
    set(rig, {});
    expect(get(rig)).toEqual(fresh);
  });
});

describe('82093AA §3.2.4: pins', () => {
  it.each([0, 15, 16, 23])('pin %i is a line of its own', (pin) => {
    const rig = rigOf();
    set(rig, table(Object.fromEntries(Array.from({ length: 24 }, (_, i) => [i, BigInt(0x40 + i)]))));
    line(rig, pin, 1);
    expect(requested(rig)).toEqual([0x40 + pin]);
  });
  it('an edge counts when the line rises, and again after it fell', () => {
    const rig = rigOf();
    set(rig, table({ 4: 0x44n }));
    const took = (level: number): number => {
      line(rig, 4, level);
      const n = requested(rig).length;
      rig.editLapic(0, (view) => view.setUint32(0x200 + (0x44 >> 5) * 16, 0, true));
      return n;
    };
    expect([took(1), took(1), took(0), took(1), took(0), took(0)]).toEqual([1, 0, 0, 1, 0, 0]);
  });
  it('a masked edge is kept until it is unmasked by a state, a masked level as long as it lasts', () => {
    const rig = rigOf();
    set(rig, table({ 4: MASKED | 0x44n, 5: MASKED | LEVEL | 0x45n }));
    line(rig, 4, 1);
    line(rig, 5, 1);
    expect([requested(rig), get(rig).irr]).toEqual([[], 0b11_0000]);
    line(rig, 5, 0);
    expect(get(rig).irr).toBe(0b1_0000);
    set(rig, { ...table({ 4: 0x44n, 5: LEVEL | 0x45n }), irr: get(rig).irr });
    expect(requested(rig)).toEqual([0x44]);
  });
  it('a level that is being served is not sent again', () => {
    const rig = rigOf();
    set(rig, table({ 5: LEVEL | REMOTE_IRR | 0x45n }));
    line(rig, 5, 1);
    expect([requested(rig), get(rig).irr]).toEqual([[], 1 << 5]);
    // For an edge the bit has no meaning.
    set(rig, table({ 5: REMOTE_IRR | 0x45n }));
    line(rig, 5, 0);
    line(rig, 5, 1);
    expect(requested(rig)).toEqual([0x45]);
  });
  it('Linux arch/x86/kvm/ioapic.c ioapic_service: a level is in service unless the APIC that it was for refused it', () => {
    const rig = rigOf();
    const entries = { 5: (9n << 56n) | LEVEL | 0x45n, 6: LEVEL | 0x46n };
    set(rig, table(entries));
    // Nobody has APIC id 9; that of plane 0 is switched off.
    rig.editLapic(0, (view) => view.setUint32(0xf0, 0xff, true));
    line(rig, 5, 1);
    line(rig, 6, 1);
    expect([requested(rig), get(rig).redirtbl]).toEqual([[], table({ ...entries, 5: entries[5] | REMOTE_IRR }).redirtbl]);
  });
  it('destination, physical and logical, and delivery mode are those of the entry', () => {
    const rig = rigOf();
    rig.set(rig.vcpu(1), 'KVM_SET_MP_STATE', { size: 4, write: (v: DataView, at: number) => v.setUint32(at, 0, true) } as never, {});
    for (const id of [0, 1]) {
      rig.setMsr(rig.fd(0, id), 0x1b, id === 0 ? 0xfee0_0100n : 0xfee0_0000n);
      rig.setMsr(rig.fd(0, id), 0x1b, id === 0 ? 0xfee0_0900n : 0xfee0_0800n);
      rig.editLapic(0, (view) => (view.setUint32(0xf0, 0x1ff, true), view.setUint32(0xe0, 0xffff_ffff, true), view.setUint32(0xd0, (1 << id) << 24, true)), id);
    }
    set(rig, table({ 4: (1n << 56n) | 0x44n, 5: (2n << 56n) | LOGICAL | 0x45n, 6: (3n << 56n) | LOGICAL | 0x46n, 7: 0x0400n, 8: (3n << 56n) | LOGICAL | 0x100n | 0x48n }));
    for (const pin of [4, 5, 6, 7, 8]) line(rig, pin, 1);
    const [zero, one] = [requested(rig, 0), requested(rig, 1)];
    expect([zero.filter((v) => v < 0x48), one.filter((v) => v < 0x48)]).toEqual([[0x46], [0x44, 0x45, 0x46]]);
    // Lowest priority: one of the two.
    expect([...zero, ...one].filter((v) => v === 0x48)).toHaveLength(1);
    const nmi = (id: number): boolean => rig.vm.hardware.isNmiPending(rig.context(0, id));
    expect([nmi(0), nmi(1)]).toEqual([true, false]);
  });
  it('the lines of the PIC lead nowhere', () => {
    const rig = rigOf();
    set(rig, table({ 9: MASKED | 0x49n }));
    line(rig, 9, 1);
    expect(requested(rig)).toEqual([]);
  });
  it('EOI in plane 1 is not its business, nor is that of another vector or of an edge', () => {
    const rig = rigOf();
    const served = { 5: LEVEL | REMOTE_IRR | 0x45n, 6: LEVEL | REMOTE_IRR | 0x46n, 7: REMOTE_IRR | 0x45n };
    set(rig, table(served));
    const { onEoi } = rig.vm.arch.fabric;
    onEoi!(rig.vm.arch.apicOf(rig.context(1)), 0x45);
    expect(get(rig).redirtbl).toEqual(table(served).redirtbl);
    onEoi!(rig.vm.arch.apicOf(rig.context(0)), 0x45);
    expect(get(rig).redirtbl).toEqual(table({ ...served, 5: LEVEL | 0x45n }).redirtbl);
    line(rig, 6, 1);
    onEoi!(rig.vm.arch.apicOf(rig.context(0)), 0x46);
    expect([requested(rig), get(rig).redirtbl[6]]).toEqual([[0x46], LEVEL | REMOTE_IRR | 0x46n]);
  });
});
