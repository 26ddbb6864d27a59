import { describe, expect, it } from 'vitest';
import type { HvOptions } from './options.ts';
import { DirectCalls, Page } from './vsm-fixture.ts';

const make = (options: Partial<HvOptions> = {}, vps = 2): DirectCalls => new DirectCalls(vps, { maximumVtl: 2, mbec: true, ...options });

describe('VTLs of a VP', () => {
  it.each([[[1, 2], [1, 2, -1], [-1, 0, 1]], [[2], [2, 2, -1], [-1, 0, 0]], [[1], [1, -1, -1], [-1, 0, 1]], [[], [-1, -1, -1], [-1, 0, 0]]])('%j: what lies above and below', (vtls, above, below) => {
    const g = make();
    for (const vtl of vtls) g.enable(vtl, [1]);
    const { vsm } = g.hv.chapters;
    const vp = g.machine.vp(1);
    expect([[0, 1, 2].map((vtl) => vsm.above(vp, vtl)), [0, 1, 2].map((vtl) => vsm.below(vp, vtl))]).toEqual([above, below]);
    expect([vsm.enabledOn(vp), vsm.enabledOn(g.machine.vp(0))]).toEqual([vtls.reduce((set, vtl) => set | (1 << vtl), 1), 1]);
  });
});

describe('configuration of the partition', () => {
  it('DenyLowerVtlStartup counts of enabled VTLs above', () => {
    const g = make();
    const { vsm } = g.hv.chapters;
    const denied = (): readonly boolean[] => [0, 1, 2].map((vtl) => vsm.isStartupDenied(vtl));
    vsm.writePartitionConfig(2, 0x5en);
    expect(denied()).toEqual([false, false, false]);
    g.enable(2);
    expect(denied()).toEqual([true, true, false]);
    g.enable(1);
    vsm.writePartitionConfig(2, 0x1en);
    expect(denied()).toEqual([false, false, false]);
    vsm.writePartitionConfig(1, 0x5en);
    expect(denied()).toEqual([true, false, false]);
  });
  it('ZeroMemoryOnReset counts of enabled VTLs', () => {
    const g = make();
    const { vsm } = g.hv.chapters;
    expect(vsm.zeroesMemory).toBe(false);
    g.enable(2);
    expect(vsm.zeroesMemory).toBe(true);
    vsm.writePartitionConfig(2, 0x1en);
    expect(vsm.zeroesMemory).toBe(false);
    g.enable(1);
    expect(vsm.zeroesMemory).toBe(true);
    vsm.writePartitionConfig(1, 0x1en);
    expect(vsm.zeroesMemory).toBe(false);
  });
  it('gives default rights to all VTLs below once protections are on', () => {
    const g = make();
    const { vsm } = g.hv.chapters;
    g.enable(1);
    g.enable(2);
    const rights = (): readonly number[] => [0, 1, 2].map((vtl) => g.machine.memory.permissions[vtl]!.get(0x30) & 0xf);
    vsm.writePartitionConfig(2, 0x06n);
    expect([vsm.isProtecting(2), rights(), vsm.partitionConfig(2), vsm.partitionConfig(1)]).toEqual([false, [0xf, 0xf, 0xf], 6n, 0x3en]);
    vsm.writePartitionConfig(2, 0x07n);
    expect([vsm.isProtecting(2), vsm.isProtecting(1), rights()]).toEqual([true, false, [3, 3, 0xf]]);
    vsm.writePartitionConfig(1, 0x1fn);
    expect(rights()).toEqual([3, 3, 0xf]);
    expect(vsm.writePartitionConfig(1, 0x80n)).toBe(0x50);
  });
});

describe('what a VTL allows its guest', () => {
  it('is the highest VTL of those below VTL2', () => {
    const g = make();
    const { vsm } = g.hv.chapters;
    const seen = (): readonly number[] => [vsm.guestMaximumVtl, vsm.maximumVtlFor(0), vsm.maximumVtlFor(1), vsm.maximumVtlFor(2)];
    const usual = seen();
    expect(usual[3]).toBe(2);
    expect([vsm.setGuestMaximumVtl(3n), vsm.setGuestMaximumVtl(1n << 32n), seen()]).toEqual([0x50, 0x50, usual]);
    for (const maximum of [0, 1, 2]) expect([vsm.setGuestMaximumVtl(BigInt(maximum)), seen()]).toEqual([0, [maximum, maximum, maximum, 2]]);
    g.enable(1);
    expect([vsm.setGuestMaximumVtl(0n), vsm.setGuestMaximumVtl(1n), seen()]).toEqual([0x51, 0, [1, 1, 1, 2]]);
  });
});

describe('INIT and start-up interrupts', () => {
  const INIT = 5, SIPI = 6, NMI = 4;
  const admits = (g: DirectCalls, vp: number, vtl: number, mode: number): boolean => g.arch.fabric.filter!(vp, vtl, mode as never);
  it('reach VTL0 alone, and only where nothing lies above', () => {
    const g = make();
    for (const mode of [INIT, SIPI]) expect([admits(g, 0, 0, mode), admits(g, 1, 0, mode), admits(g, 0, 1, mode)]).toEqual([true, true, false]);
    g.enable(1, [1]);
    for (const mode of [INIT, SIPI]) expect([admits(g, 0, 0, mode), admits(g, 1, 0, mode)]).toEqual([true, false]);
    for (const mode of [0, 1, 2, NMI, 7]) expect([admits(g, 0, 0, mode), admits(g, 1, 0, mode), admits(g, 1, 1, mode)]).toEqual([true, true, true]);
  });
  it('by option are dropped only where that is asked for', () => {
    const g = make({ dropStartup: 'denied' });
    g.enable(1, [1]);
    expect([admits(g, 0, 0, SIPI), admits(g, 1, 0, SIPI), admits(g, 1, 1, SIPI)]).toEqual([true, true, false]);
    g.hv.chapters.vsm.writePartitionConfig(1, 0x5en);
    expect([admits(g, 0, 0, SIPI), admits(g, 1, 0, INIT)]).toEqual([false, false]);
  });
});

describe('the state of the personality', () => {
  /** A machine in which every chapter has something to keep. */
  const used = (): DirectCalls => {
    const g = make();
    g.enable(1, [0, 1], true);
    const { vsm, msrs, synic, timers, cpuid, ioIntercepts, processorIntercepts, events, vina, protections, intercepts } = g.hv.chapters;
    vsm.writePartitionConfig(1, 0x47n | (1n << 10n));
    Object.assign(vsm.crIntercepts(g.machine.vp(1), 1), { control: 0x1234, cr0Mask: 5n, cr4Mask: 6n, miscEnableMask: 7n });
    vsm.locks.lock(1, 0, 1, 1);
    protections.modify(1, 0x31, 1);
    vina.write(g.machine.vp(1), 1, 0x340n);
    const c = g.context(1, 1);
    for (const [index, value] of [[0x4000_0073, 0x2_4001n], [0x4000_0080, 1n], [0x4000_0083, 0x2_5001n], [0x4000_0082, 0x2_6001n], [0x4000_0093, 0x2_0050n], [0x4000_00b0, 0x3_0003n], [0x4000_00b1, 12345n], [0x4000_0021, 0x2_7001n], [0x4000_0100, 77n], [0x4000_0040, 3n]] as const) expect(msrs.write(c, index, value), index.toString(16)).toBe(true);
    const message = new Uint8Array(256).fill(9);
    message[3] = 0;
    synic.post(c, 3, message, true);
    synic.post(c, 3, message, true);
    synic.setWantedSints(g.context(0, 1), 0x8001);
    timers.setCount(g.context(0, 0), 2, 99n);
    cpuid.results.register({ vp: -1, by: 1, leaf: 7, subleaf: -1, words: [1, 2, 3, 4, 5, 6, 7, 8] });
    ioIntercepts.install(1, 0x70, 0x71, 3);
    processorIntercepts.installException(1, 14, true);
    events.write(g.context(0, 0), 0, 1n | (6n << 16n));
    g.hv.chapters.hypercalls.setGuestOsId(0, 0x8123n);
    vsm.setGuestMaximumVtl(2n);
    intercepts.restore({ waiting: Object.assign((intercepts.save() as { readonly waiting: Uint8Array }).waiting, { 16: 0x81 }) });
    return g;
  };
  it('comes back in every chapter', () => {
    const g = used();
    const saved = structuredClone(g.hv.save()) as Readonly<Record<string, unknown>>;
    const other = make();
    other.enable(1, [0, 1]);
    const before = other.hv.save() as Readonly<Record<string, unknown>>;
    // Every chapter has something to keep.
    expect(Object.keys(saved).filter((name) => JSON.stringify(saved[name], text) === JSON.stringify(before[name], text))).toEqual([]);
    other.machine.memory.restore(structuredClone(g.machine.memory.save()));
    other.hv.restore(structuredClone(saved) as never);
    expect(other.hv.save()).toEqual(saved);
    const { vsm, intercepts, vina, protections } = other.hv.chapters;
    expect([vsm.enabledVtls, vsm.mbecVtls, vsm.isProtecting(1), vsm.partitionConfig(1), other.arch.executeRightsByMode]).toEqual([3, 1, true, 0x447n, true]);
    expect(vsm.crIntercepts(other.machine.vp(1), 1)).toEqual({ control: 0x1234, cr0Mask: 5n, cr4Mask: 6n, miscEnableMask: 7n });
    expect([vsm.crIntercepts(other.machine.vp(0), 1).control, intercepts.isWaiting(other.context(1, 0)), intercepts.isWaiting(other.context(0, 0)), vina.read(other.machine.vp(1), 1), protections.rightsFrom(1, 0x31) & 0xf]).toEqual([0, true, false, 0x340n, 1]);
    expect(other.bytes(1, 0x2_5000 + 3 * 256, 12)).toEqual(g.bytes(1, 0x2_5000 + 3 * 256, 12));
    expect(other.bytes(1, 0x2_5000 + 3 * 256 + 4, 1)[0]).toBe(9);
  });
  it('is that of a fresh machine after a reset of the partition', () => {
    const g = used();
    const { memory } = g.machine;
    memory.access.writeU32(memory.subjects[0]!.host, Page.Data, 0x1234);
    const answer = g.hv.resetPartition(g.context(1, 1));
    expect(answer).toMatchObject({ kind: 'exit', payload: { kind: 'reset', vp: 1, vtl: 1, memoryZeroed: false } });
    const fresh = make();
    for (const vtl of [0, 1, 2]) {
      fresh.hv.chapters.hypercalls.setHypercallMsr(vtl, 0n);
      fresh.hv.chapters.hypercalls.setGuestOsId(vtl, 0n);
    }
    const state = (x: DirectCalls): object => Object.fromEntries(Object.entries(x.hv.save() as object).filter(([name]) => name !== 'overlays'));
    expect(state(g)).toEqual(state(fresh));
    expect([g.machine.vps.map((vp) => [vp.existing, vp.current, vp.asked]), g.arch.executeRightsByMode, g.bytes(0, Page.Data, 2)[0]]).toEqual([[[1, 0, 0], [1, 0, 0]], false, 0x34]);
  });
  it('memory is zeroed where a VTL wants it', () => {
    const g = make();
    g.enable(1);
    const { memory } = g.machine;
    memory.access.writeU32(memory.subjects[0]!.host, Page.Data, 0x1234);
    expect(g.hv.resetPartition(g.context(0, 0))).toMatchObject({ kind: 'exit', payload: { kind: 'reset', vp: 0, vtl: 0, memoryZeroed: true } });
    expect(g.bytes(0, Page.Data, 4)).toEqual(new Uint8Array(4));
  });
  it('without one chapter is refused', () => {
    const g = make();
    const saved = g.hv.save() as Readonly<Record<string, unknown>>;
    for (const name of Object.keys(saved)) {
      const { [name]: _left, ...rest } = saved;
      expect(() => g.hv.restore(rest as never), name).toThrow(`no state of ${name}`);
    }
  });
});

/** Values of any kind as text, to see whether states differ. */
function text(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value;
}
