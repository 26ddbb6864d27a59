import { IrqRouting, KvmIoapicState, KvmIrqchip, KvmIrqRoutingEntryPlanes } from '@vmplanes/abi-kvm-planes';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { apicRig, client, type Programs, Rig, word } from './kit.ts';

const VECTOR = 0x51;
const PIN = 5;
const LEVEL = 1n << 15n;
const REMOTE_IRR = 1n << 14n;
const MASKED = 1n << 16n;
const IOAPIC = 2;

const full = { irqchip: 'full' } as const;
const rigOf = (programs: Programs = {}): Rig => apicRig('2025-04', [1], programs, { planes: { 1: [0] }, ...full });

const chip = (id = IOAPIC, entries: Readonly<Record<number, bigint>> = {}, irr = 0): Uint8Array => {
  const bytes = new Uint8Array(KvmIrqchip.size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, id, true);
  KvmIoapicState.write(view, KvmIrqchip.at.chip, { baseAddress: 0xfec0_0000n, ioregsel: 0, id: 0, irr, redirtbl: Array.from({ length: 24 }, (_, pin) => entries[pin] ?? MASKED) });
  return bytes;
};
const set = (rig: Rig, entries: Readonly<Record<number, bigint>>, irr = 0): void => {
  rig.c.do(rig.built.vmFd, 'KVM_SET_IRQCHIP', chip(IOAPIC, entries, irr));
};
const state = (rig: Rig): { readonly irr: number; readonly redirtbl: readonly bigint[] } => {
  const bytes = chip();
  rig.c.do(rig.built.vmFd, 'KVM_GET_IRQCHIP', bytes);
  return KvmIoapicState.read(new DataView(bytes.buffer), KvmIrqchip.at.chip);
};
const line = (rig: Rig, gsi: number, level: 0 | 1): void => {
  rig.c.do(rig.built.vmFd, 'KVM_IRQ_LINE', Uint8Array.of(gsi, 0, 0, 0, level, 0, 0, 0));
};
const irr = (rig: Rig, vector = VECTOR): readonly boolean[] => [rig.irr(0, vector), rig.irr(1, vector)];

describe('LKML 2025-04-01 RFC KVM: VM planes 20/29: lines of a full in-kernel irqchip reach plane 0 only [2025-04]', () => {
  it('an edge, through the default route of its number', () => {
    const rig = rigOf();
    line(rig, PIN, 1);
    expect(irr(rig)).toEqual([false, false]);
    line(rig, PIN, 0);
    set(rig, { [PIN]: BigInt(VECTOR) });
    line(rig, PIN, 1);
    expect(irr(rig)).toEqual([true, false]);
    expect(state(rig).redirtbl[PIN]).toBe(BigInt(VECTOR));
  });
  it('a route of another number to the pin, of whatever plane the entry names', () => {
    const rig = rigOf();
    set(rig, { [PIN]: BigInt(VECTOR) });
    const bytes = new Uint8Array(8 + KvmIrqRoutingEntryPlanes.size);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 1, true);
    KvmIrqRoutingEntryPlanes.write(view, 8, { gsi: 40, type: IrqRouting.IRQCHIP, flags: 0, plane: 1, u: { irqchip: { irqchip: IOAPIC, pin: PIN } } });
    rig.c.do(rig.built.vmFd, 'KVM_SET_GSI_ROUTING', bytes);
    line(rig, PIN, 1);
    expect(irr(rig)).toEqual([false, false]);
    line(rig, 40, 1);
    expect(irr(rig)).toEqual([true, false]);
  });
  it('becomes an event of plane 0 while plane 1 runs', () => {
    const work: Step = { op: 'work', cost: 5 };
    const rig = rigOf({ 0: { 0: [work], 1: [work, work] } });
    set(rig, { [PIN]: BigInt(VECTOR) });
    line(rig, PIN, 1);
    rig.run(1, 1);
    expect(rig.event()).toBe('1/1');
  });
  it('a masked entry sends nothing, and a level that is there when it is unmasked is sent', () => {
    const rig = rigOf();
    set(rig, { [PIN]: BigInt(VECTOR) | LEVEL | MASKED });
    line(rig, PIN, 1);
    expect([irr(rig), state(rig).irr]).toEqual([[false, false], 1 << PIN]);
    set(rig, { [PIN]: BigInt(VECTOR) | LEVEL }, state(rig).irr);
    expect([irr(rig), state(rig).redirtbl[PIN]]).toEqual([[true, false], BigInt(VECTOR) | LEVEL | REMOTE_IRR]);
  });
  it('82093AA §3.2.4: a level is sent again at EOI while its line is asserted, and not after', () => {
    const handlers = { default: [{ op: 'eoi' }, { op: 'out', port: 1, value: 0 }] } as const;
    const rig = rigOf({ 0: { 0: { id: 'level', steps: [{ op: 'sti' }, { op: 'work' }, { op: 'hlt' }], handlers } } });
    set(rig, { [PIN]: BigInt(VECTOR) | LEVEL });
    line(rig, PIN, 1);
    rig.run(0);
    // The handler ended the interrupt: the line is still up, so it is requested once more.
    expect([rig.exitReason(), irr(rig), state(rig).redirtbl[PIN]! & REMOTE_IRR]).toEqual([2, [true, false], REMOTE_IRR]);
    line(rig, PIN, 0);
    rig.run(0);
    expect([rig.exitReason(), irr(rig), state(rig).redirtbl[PIN]! & REMOTE_IRR]).toEqual([2, [false, false], 0n]);
  });
  it('82093AA §3.1: the guest programs it through its two registers, from any plane', () => {
    const at = 0xfec0_0000;
    const select = (value: number): Step => ({ op: 'write', gpa: at, size: 4, value });
    const steps: readonly Step[] = [
      select(0x11 + 2 * PIN), { op: 'write', gpa: at + 0x10, size: 4, value: 0 },
      select(0x10 + 2 * PIN), { op: 'write', gpa: at + 0x10, size: 4, value: VECTOR },
      select(1), { op: 'read', gpa: at + 0x10, size: 4 }, { op: 'expect', register: 'rax', equals: 0x17_0011 },
      { op: 'out', port: 1, value: 0 },
    ];
    const rig = rigOf({ 0: { 1: steps } });
    rig.run(1);
    expect([rig.exitReason(), state(rig).redirtbl[PIN]]).toEqual([2, BigInt(VECTOR)]);
    line(rig, PIN, 1);
    expect(irr(rig)).toEqual([true, false]);
  });
  it('is part of the saved state', () => {
    const c = client('2025-04');
    const { vmFd } = c.build(full);
    c.do(vmFd, 'KVM_SET_IRQCHIP', chip(IOAPIC, { 3: 0x77n | LEVEL | MASKED }, 8));
    const again = client('2025-04');
    again.system.close(again.fd);
    again.system.restore(structuredClone(c.system.save()));
    const [a, b] = [chip(), chip()];
    c.do(vmFd, 'KVM_GET_IRQCHIP', a);
    again.do(vmFd, 'KVM_GET_IRQCHIP', b);
    expect(b).toEqual(a);
    expect(KvmIoapicState.read(new DataView(a.buffer), 8).irr).toBe(8);
  });
});

describe('Linux api.rst KVM_GET_IRQCHIP, KVM_SET_IRQCHIP: refusals', () => {
  it.each(['KVM_GET_IRQCHIP', 'KVM_SET_IRQCHIP'] as const)('%s', (name) => {
    const rig = rigOf();
    const call = (bytes: Uint8Array | null, r = rig): string => word(r.c.call(r.built.vmFd, name, bytes));
    // The PIC is not modelled.
    expect([call(null), call(new Uint8Array(519)), call(chip(0)), call(chip(1)), call(chip(3)), call(chip())]).toEqual(['EFAULT', 'EFAULT', 'EINVAL', 'EINVAL', 'EINVAL', '0']);
    for (const profile of ['2025-04', '2026-06', 'vmplanes'] as const) expect(call(chip(), new Rig(profile)), profile).toBe('ENXIO');
    expect(word(rig.c.call(rig.planeFd(1), name, chip()))).toBe('ENOTTY');
  });
});
