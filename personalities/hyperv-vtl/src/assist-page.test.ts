import { HvMsr } from '@vmplanes/abi-hyperv';
import { ApicReg, DeliveryMode } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { Rig } from './fixture.ts';

const PAGE = 5;
const enabled = (gpn = PAGE): bigint => (BigInt(gpn) << 12n) | 1n;

describe('VP assist page', () => {
  it('is cleared at its first enable and kept from then on', () => {
    const r = new Rig();
    const c = r.context(0, 1);
    r.chapters.assist.writeU32(c, 8, 2);
    expect(r.chapters.assist.readU32(c, 8)).toBe(2);
    expect(r.wrmsr(c, HvMsr.VpAssistPage, enabled())).toBe(true);
    expect(r.page(1, PAGE).getUint32(8, true)).toBe(0);
    r.chapters.assist.writeU32(c, 8, 3);
    expect(r.page(1, PAGE).getUint32(8, true)).toBe(3);
    r.wrmsr(c, HvMsr.VpAssistPage, 0);
    expect([r.chapters.assist.isEnabled(c), r.page(1, PAGE).getUint32(8, true), r.chapters.assist.readU32(c, 8)]).toEqual([false, 0, 3]);
    r.wrmsr(c, HvMsr.VpAssistPage, enabled(9));
    expect(r.page(1, 9).getUint32(8, true)).toBe(3);
  });

  it('is private to its VTL and its VP', () => {
    const r = new Rig(2);
    r.wrmsr(r.context(0, 1), HvMsr.VpAssistPage, enabled());
    expect([[0, 0], [0, 1], [1, 1]].map(([vp, vtl]) => r.chapters.assist.isEnabled(r.context(vp, vtl)))).toEqual([false, true, false]);
    expect(r.rdmsr(r.context(0, 0), HvMsr.VpAssistPage)).toBe(0n);
  });

  it('keeps reserved bits of its register, and faults beyond the address space', () => {
    const r = new Rig();
    const c = r.context();
    expect(r.wrmsr(c, HvMsr.VpAssistPage, 0x5ffen)).toBe(true);
    expect(r.rdmsr(c, HvMsr.VpAssistPage)).toBe(0x5ffen);
    expect(r.wrmsr(c, HvMsr.VpAssistPage, (1n << 60n) | 1n)).toBe(false);
    expect(r.rdmsr(c, HvMsr.VpAssistPage)).toBe(0x5ffen);
  });

  it('carries bytes', () => {
    const r = new Rig();
    const c = r.context();
    r.wrmsr(c, HvMsr.VpAssistPage, enabled());
    r.chapters.assist.writeBytes(c, 112, Uint8Array.of(1, 2, 3));
    expect(r.page(0, PAGE).getUint32(112, true)).toBe(0x030201);
  });
});

describe('EOI assist', () => {
  const rig = (): Rig => {
    const r = new Rig();
    r.wrmsr(r.context(), HvMsr.VpAssistPage, enabled());
    return r;
  };
  const offered = (r: Rig): number => r.page(0, PAGE).getUint32(0, true);
  const inService = (r: Rig): number => r.apic(r.context()).highestIsr();

  it('lets a store of 0 end an edge interrupt', () => {
    const r = rig();
    r.apic(r.context()).acceptVector(0x40, false);
    expect(r.take(r.context())).toBe(0x40);
    expect([offered(r), inService(r)]).toEqual([1, 0x40]);
    r.store(0, PAGE * 4096, 0);
    r.left(r.context());
    expect(inService(r)).toBe(-1);
    r.apic(r.context()).acceptVector(0x40, false);
    expect(r.take(r.context())).toBe(0x40);
  });

  it('is not offered while another interrupt waits, for level-triggered ones, or without a page', () => {
    const r = rig();
    const apic = r.apic(r.context());
    apic.acceptVector(0x40, false);
    apic.acceptVector(0x30, false);
    r.take(r.context());
    expect(offered(r)).toBe(0);
    apic.eoi();
    apic.eoi();
    r.take(r.context());
    expect(offered(r)).toBe(1);
    r.wrmsr(r.context(), HvMsr.Eoi, 0);
    apic.accept(DeliveryMode.fixed, 0x50, true, true);
    r.take(r.context());
    expect([apic.block.test(ApicReg.tmr, 0x50), offered(r)]).toEqual([true, 0]);
    const bare = new Rig();
    bare.apic(bare.context()).acceptVector(0x40, false);
    bare.take(bare.context());
    expect(bare.chapters.assist.readU32(bare.context(), 0)).toBe(0);
  });

  it('is withdrawn when one appears, and the guest ends with EOI', () => {
    const r = rig();
    const apic = r.apic(r.context());
    apic.acceptVector(0x40, false);
    r.take(r.context());
    apic.acceptVector(0x30, false);
    expect(r.take(r.context())).toBe(-1);
    expect(offered(r)).toBe(0);
    r.wrmsr(r.context(), HvMsr.Eoi, 0xdead_beef_0000_0000n);
    expect(r.take(r.context())).toBe(0x30);
  });

  it('ends both interrupts when a nested one was ended by store and the outer by EOI', () => {
    const r = rig();
    const apic = r.apic(r.context());
    apic.acceptVector(0x30, false);
    r.take(r.context());
    apic.acceptVector(0x40, false);
    expect(r.take(r.context())).toBe(0x40);
    expect(offered(r)).toBe(1);
    r.store(0, PAGE * 4096, 0);
    // Without an exit in between.
    apic.eoi();
    expect(inService(r)).toBe(-1);
  });

  it('is over when the guest writes EOI all the same', () => {
    const r = rig();
    r.apic(r.context()).acceptVector(0x40, false);
    r.take(r.context());
    r.apic(r.context()).eoi();
    expect([offered(r), inService(r)]).toEqual([0, -1]);
    r.left(r.context());
    r.take(r.context());
    expect(inService(r)).toBe(-1);
  });

  it('survives save and restore while open', () => {
    const r = rig();
    r.apic(r.context()).acceptVector(0x40, false);
    r.take(r.context());
    const c = r.copy();
    c.store(0, PAGE * 4096, 0);
    c.left(c.context());
    expect(inService(c)).toBe(-1);
  });
});
