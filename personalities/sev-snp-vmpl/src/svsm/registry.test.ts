import { describe, expect, it } from 'vitest';
import { Apics } from './apics.ts';
import { freshCpu } from './frame.ts';
import { Registry, type VcpuPages } from './registry.ts';

const first: VcpuPages = { vmsa: 0x10_0000, area: 0x20_0000, apicId: 0, isMade: false };
const second: VcpuPages = { vmsa: 0x30_0000, area: 0x40_0000, apicId: 5, isMade: true };
const both = (): Registry => {
  const registry = new Registry();
  registry.add({ ...first });
  registry.add({ ...second });
  return registry;
};

describe('pages of virtual processors', () => {
  it('are found by VMSA and removed alone', () => {
    const registry = both();
    expect([registry.find(0x30_0000), registry.find(0x10_0000), registry.find(0x20_0000)]).toEqual([second, first, undefined]);
    registry.remove(0x10_0000);
    expect(registry.all).toEqual([second]);
    registry.remove(0x99_0000);
    expect(registry.all).toEqual([second]);
  });
  it('a calling area moves, the other stays', () => {
    const registry = both();
    registry.move(0x40_0000, 0x50_0000);
    expect(registry.all).toEqual([first, { ...second, area: 0x50_0000 }]);
  });
  it.each([
    [0x0f_f000, 0x10_0000, false], [0x0f_f000, 0x10_0001, true], [0x10_0fff, 0x10_1000, true], [0x10_1000, 0x10_1001, false], [0x10_0800, 0x10_0801, true],
    [0x1f_ffff, 0x20_0000, false], [0x1f_ffff, 0x20_0001, true], [0x20_0007, 0x20_0008, true], [0x20_0008, 0x20_0009, false], [0x40_0000, 0x40_0001, true], [0x30_0fff, 0x31_0000, true], [0, 0x100_0000, true],
    [0x60_0000, 0x70_0000, false],
  ])('bytes %i to %i touch one: %s (a VMSA is a page, of a calling area the head of 8 bytes counts)', (from, to, want) => {
    expect(both().overlaps(from, to)).toBe(want);
  });
  it('a processor without a calling area has none at address 0', () => {
    const registry = new Registry();
    registry.add({ ...first, area: -1 });
    expect([registry.overlaps(0, 8), registry.overlaps(0, 1)]).toEqual([false, false]);
    registry.move(-1, 0);
    expect([registry.overlaps(7, 8), registry.overlaps(0, 1), registry.overlaps(8, 9)]).toEqual([true, true, false]);
  });
  it('are saved by value', () => {
    const registry = both();
    const state = registry.save();
    expect(state).toEqual([first, second]);
    registry.move(0x20_0000, 1);
    expect(state).toEqual([first, second]);
    const copy = new Registry();
    copy.restore(state);
    copy.move(0x20_0000, 2);
    expect([copy.all[0]!.area, state]).toEqual([2, [first, second]]);
  });
});

describe('vectors that the host may inject', () => {
  it('by processor and range, ends included', () => {
    const apics = new Apics();
    apics.allow(1, 40, 95, true);
    apics.allow(1, 64, 64, false);
    apics.allow(0, 255, 255, true);
    const on = (vp: number): number[] => Array.from({ length: 256 }, (_, v) => v).filter((v) => apics.isAllowed(vp, v));
    expect(on(1)).toEqual(Array.from({ length: 56 }, (_, i) => 40 + i).filter((v) => v !== 64));
    expect([on(0), on(2)]).toEqual([[255], []]);
  });
  it('are saved with the registrations, by value', () => {
    const apics = new Apics();
    expect(apics.registrations).toBe(1);
    apics.registrations = 7;
    apics.allow(2, 33, 33, true);
    const state = apics.save();
    expect(state).toEqual({ registrations: 7, allowed: [new Uint32Array(8), new Uint32Array(8), Uint32Array.of(0, 2, 0, 0, 0, 0, 0, 0)] });
    apics.allow(2, 34, 34, true);
    const copy = new Apics();
    copy.restore(state);
    expect([copy.registrations, copy.isAllowed(2, 33), copy.isAllowed(2, 34), copy.isAllowed(0, 33)]).toEqual([7, true, false, false]);
    copy.allow(2, 35, 35, true);
    expect(copy.save()).not.toEqual(state);
    apics.restore(state);
    expect(apics.save()).toEqual(state);
  });
});

it('a virtual processor begins without VMSA, calling area and debts', () => {
  expect(freshCpu()).toEqual({ vmsa: -1, area: -1, nextVmsa: -1, nextArea: -1, hasEntered: false, hasApic: false, owesEoi: false });
});
