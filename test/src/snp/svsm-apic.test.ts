import { SvsmApicResult, SvsmResult as R } from '@vmplanes/abi-svsm';
import { describe, expect, it } from 'vitest';
import { At, SvsmRig } from './svsm-rig.ts';

const make = (): SvsmRig => {
  const rig = new SvsmRig({ svsmApic: true });
  return rig;
};
const call = (rig: SvsmRig, number: number, rcx: bigint | number = 0, rdx: bigint | number = 0) => rig.call({ protocol: 3, call: number, rcx, rdx });

describe('SVSM_APIC_QUERY_FEATURES', () => {
  it('has none', () => expect(call(make(), 0, 7n)).toMatchObject({ result: 0, rcx: 0n }));
});

describe('SVSM_APIC_CONFIGURE', () => {
  it.each([
    ['register once more', [2], [0]],
    ['deregister: the count reaches 0 and the protocol is gone', [1, 0], [0, R.UnsupportedProtocol]],
    ['registered twice, deregistered once: it stays', [2, 1, 0], [0, 0, 0]],
    ['follow while someone is registered', [0], [0]],
    ['3 is no configuration', [3], [R.InvalidParameter]],
    ['all ones is none', [0xffff_ffff_ffff_ffffn], [R.InvalidParameter]],
  ] as const)('%s', (_what, calls, results) => {
    const rig = make();
    expect(calls.map((rcx) => call(rig, 1, rcx).result)).toEqual(results);
  });
  it('registering where nobody is any more', () => {
    const rig = new SvsmRig({ svsmApic: true });
    rig.provider.apics.registrations = 0;
    expect(call(rig, 1, 2).result).toBe(SvsmApicResult.CannotRegister);
  });
  it('another processor follows: emulation ends there, too', () => {
    const rig = make();
    rig.provider.apics.registrations = 0;
    expect(call(rig, 1, 0).result).toBe(0);
    expect(call(rig, 0).result).toBe(R.UnsupportedProtocol);
  });
});

describe('SVSM_APIC registers', () => {
  it.each([
    ['ID', 0x802, 0n], ['TPR', 0x808, 0n], ['PPR', 0x80a, 0n], ['LDR', 0x80d, 1n], ['ISR0', 0x810, 0n], ['ISR7', 0x817, 0n], ['TMR0', 0x818, 0n], ['TMR7', 0x81f, 0n], ['IRR0', 0x820, 0n], ['IRR7', 0x827, 0n], ['ICR', 0x830, 0n],
  ] as const)('%s can be read', (_what, msr, value) => expect(call(make(), 2, msr, 99n)).toMatchObject({ result: 0, rdx: value }));
  it.each([['EOI', 0x80b], ['SELF_IPI', 0x83f]] as const)('%s cannot be read', (_what, msr) => expect(call(make(), 2, msr, 99n)).toMatchObject({ result: R.InvalidParameter, rdx: 99n }));
  it.each([['ID', 0x802], ['PPR', 0x80a], ['LDR', 0x80d], ['ISR', 0x810], ['TMR', 0x818], ['IRR', 0x820]] as const)('%s cannot be written', (_what, msr) => expect(call(make(), 3, msr, 0).result).toBe(R.InvalidParameter));
  it.each([0x801, 0x803, 0x80c, 0x80f, 0x828, 0x82f, 0x831, 0x840, 0, 0x1b, 0x1_0000_0802] as const)('0x%s is not offered', (msr) => {
    expect(call(make(), 2, msr).result).toBe(R.InvalidAddress);
    expect(call(make(), 3, msr, 0).result).toBe(R.InvalidAddress);
  });
  it('TPR keeps what is written', () => {
    const rig = make();
    expect(call(rig, 3, 0x808, 0x40).result).toBe(0);
    expect(call(rig, 2, 0x808).rdx).toBe(0x40n);
  });
  it.each([
    ['TPR with a reserved bit', 0x808, 0x100n],
    ['EOI other than 0', 0x80b, 1n],
    ['ICR with delivery mode INIT', 0x830, 0x500n],
    ['ICR with delivery mode SMI', 0x830, 0x200n],
    ['ICR with delivery mode start-up', 0x830, 0x600n],
    ['ICR with lowest priority', 0x830, 0x130n],
    ['ICR with reserved bit 12', 0x830, 0x1030n],
    ['ICR with reserved bit 20', 0x830, 0x10_0030n],
  ] as const)('%s', (_what, msr, value) => expect(call(make(), 3, msr, value).result).toBe(R.InvalidParameter));
  it('an IPI to oneself is requested', () => {
    const rig = make();
    rig.arch.apicOf(rig.machine.vp(0).plane(2)).writeSvr(0x1ff);
    expect(call(rig, 3, 0x83f, 0x31).result).toBe(0);
    expect(call(rig, 2, 0x821).rdx).toBe(1n << 17n);
  });
  it('EOI 0 ends the interrupt in service', () => {
    const rig = make();
    const apic = rig.arch.apicOf(rig.machine.vp(0).plane(2));
    apic.writeSvr(0x1ff);
    apic.acceptVector(0x41, true);
    apic.acknowledge();
    expect(call(rig, 2, 0x812).rdx).toBe(2n);
    expect(call(rig, 3, 0x80b, 0).result).toBe(0);
    expect(call(rig, 2, 0x812).rdx).toBe(0n);
  });
});

describe('SVSM_APIC_CONFIGURE_VECTOR', () => {
  it.each([
    ['one vector on', 0x131n, 0, [0x31], [0x30, 0x32]],
    ['all vectors on: from 31 on', 0x300n, 0, [31, 0x80, 255], [30, 0]],
    ['reserved bit 10', 0x531n, R.InvalidParameter, [], [0x31]],
    ['reserved bit 63', (1n << 63n) | 0x131n, R.InvalidParameter, [], [0x31]],
  ] as const)('%s', (_what, rcx, result, on, off) => {
    const rig = make();
    expect(call(rig, 4, rcx).result).toBe(result);
    for (const v of on) expect(rig.provider.apics.isAllowed(0, v), `${v}`).toBe(true);
    for (const v of off) expect(rig.provider.apics.isAllowed(0, v), `${v}`).toBe(false);
  });
  it('off again', () => {
    const rig = make();
    call(rig, 4, 0x131n);
    call(rig, 4, 0x031n);
    expect(rig.provider.apics.isAllowed(0, 0x31)).toBe(false);
  });
});

describe('an EOI that is not needed', () => {
  /** A rig whose guest has an edge interrupt in service. */
  const inService = (level = false): SvsmRig => {
    const rig = make();
    const apic = rig.arch.apicOf(rig.machine.vp(0).plane(2));
    apic.acceptVector(0x41, level);
    apic.acknowledge();
    call(rig, 0);
    return rig;
  };
  const isr = (rig: SvsmRig): number => rig.arch.apicOf(rig.machine.vp(0).plane(2)).highestIsr();
  it('is announced in the calling area', () => expect([...inService().read(At.caa, 3)]).toEqual([0, 0, 1]));
  it('is not announced for a level interrupt', () => expect([...inService(true).read(At.caa, 3)]).toEqual([0, 0, 0]));
  it('left out by the guest, it is made at the next entry of VMPL0', () => {
    const rig = inService();
    rig.write(At.caa + 2, Uint8Array.of(0));
    expect(isr(rig)).toBe(0x41);
    call(rig, 0);
    expect(isr(rig)).toBe(-1);
  });
  it('not left out, nothing is made', () => {
    const rig = inService();
    call(rig, 0);
    expect(isr(rig)).toBe(0x41);
  });
  it('made by the guest all the same, it is made once, and the announcement is gone', () => {
    const rig = inService();
    expect(call(rig, 3, 0x80b, 0).result).toBe(0);
    expect(isr(rig)).toBe(-1);
    expect(rig.read(At.caa + 2, 1)[0]).toBe(0);
    expect(rig.provider.cpuOf(0).owesEoi).toBe(false);
  });
});
