import { HvMsr, HvReferenceTscPage } from '@vmplanes/abi-hyperv';
import { Activity, type Vp } from '@vmplanes/engine';
import { ScriptCpu, type Step, type StepResult, writeRegister } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { Rig, TICKS } from './fixture.ts';

const enabled = (gpn: number): bigint => (BigInt(gpn) << 12n) | 1n;
const at = (r: Rig, ticks: number, vp = 0): Vp => {
  const it = r.machine.vp(vp);
  it.timeBase = ticks;
  return it;
};

describe('reference counter', () => {
  it.each([
    [0, 0n],
    [TICKS - 1, 0n],
    [TICKS, 1n],
    [10_000_000 * TICKS, 10_000_000n],
    [3 * 10 ** 15 + 99, 3n * 10n ** 13n],
  ])('reads after %d ticks %s units', (ticks, units) => {
    const r = new Rig();
    // One unit of rounding in 2^64 is lost at most.
    const read = r.chapters.clocks.now(at(r, ticks));
    expect(units - read <= 1n && read <= units).toBe(true);
  });

  it('is the same for all VTLs and VPs at one time', () => {
    const r = new Rig(2);
    at(r, 123_456);
    at(r, 123_456, 1);
    const read = [[0, 0], [0, 1], [1, 0]].map(([vp, vtl]) => r.rdmsr(r.context(vp, vtl), HvMsr.TimeRefCount));
    expect(new Set(read).size).toBe(1);
  });

  it('is never early: its tick is the first that reads the value', () => {
    const r = new Rig();
    for (const reference of [0n, 1n, 2n, 999n, 10_000_019n, 123_456_789_012n]) {
      const ticks = r.chapters.clocks.ticksAt(reference);
      expect(r.chapters.clocks.now(at(r, ticks)) >= reference).toBe(true);
      if (ticks > 0) expect(r.chapters.clocks.now(at(r, ticks - 1)) < reference).toBe(true);
    }
    expect(r.chapters.clocks.ticksAt(2n ** 64n - 1n)).toBe(Number.POSITIVE_INFINITY);
  });

  it('gives what the TSC page gives, at any frequency of the counter', () => {
    for (const scale of [2n ** 32n, 3n * 2n ** 31n, 2n ** 31n + 12_345n]) {
      const r = new Rig();
      for (const vtl of [0, 1]) writeRegister(r.machine.arena, r.context(0, vtl).base, 'tscScale', scale);
      r.wrmsr(r.context(), HvMsr.ReferenceTsc, enabled(5));
      const { tscScale, tscOffset, tscSequence } = HvReferenceTscPage.read(r.page(0, 5), 0);
      expect(tscSequence).not.toBe(0);
      for (const ticks of [0, 1, 99, 100, 10 ** 9 + 7, 10 ** 14 + 3]) {
        at(r, ticks);
        const tsc = (BigInt(ticks) * scale) >> 32n;
        expect(((tsc * tscScale) >> 64n) + tscOffset).toBe(r.rdmsr(r.context(), HvMsr.TimeRefCount));
      }
      expect(r.rdmsr(r.context(), HvMsr.TscFrequency)).toBe((1_000_000_000n * scale) >> 32n);
    }
  });
});

describe('reference TSC page', () => {
  it('has the same content in every VTL, each at its own page, read-only', () => {
    const r = new Rig();
    r.wrmsr(r.context(0, 0), HvMsr.ReferenceTsc, enabled(5));
    at(r, 10 ** 9);
    r.wrmsr(r.context(0, 1), HvMsr.ReferenceTsc, enabled(6));
    expect(new Uint8Array(r.page(0, 5).buffer)).toEqual(new Uint8Array(r.page(1, 6).buffer));
    expect([r.store(0, 0x5000, 1), r.store(1, 0x6000, 1), r.store(1, 0x5000, 1)]).toEqual([false, false, true]);
    expect([r.rdmsr(r.context(0, 0), HvMsr.ReferenceTsc), r.rdmsr(r.context(0, 1), HvMsr.ReferenceTsc)]).toEqual([enabled(5), enabled(6)]);
  });

  it('is one for all VPs and goes when disabled', () => {
    const r = new Rig(2);
    r.wrmsr(r.context(0), HvMsr.ReferenceTsc, enabled(5));
    expect(r.rdmsr(r.context(1), HvMsr.ReferenceTsc)).toBe(enabled(5));
    r.wrmsr(r.context(1), HvMsr.ReferenceTsc, 0x5000);
    expect([r.chapters.overlays.isOverlay(0, 5), r.rdmsr(r.context(0), HvMsr.ReferenceTsc)]).toEqual([false, 0x5000n]);
  });

  it('faults beyond the address space, and is restored', () => {
    const r = new Rig();
    expect(r.wrmsr(r.context(), HvMsr.ReferenceTsc, (1n << 52n) | 1n)).toBe(false);
    r.wrmsr(r.context(), HvMsr.ReferenceTsc, enabled(5));
    const c = r.copy();
    expect(c.rdmsr(c.context(), HvMsr.ReferenceTsc)).toBe(enabled(5));
    expect(new Uint8Array(c.page(0, 5).buffer)).toEqual(new Uint8Array(r.page(0, 5).buffer));
  });
});

describe('other clocks', () => {
  it('tell the frequency of the APIC timer and the time a VP ran', () => {
    const r = new Rig();
    expect(r.rdmsr(r.context(), HvMsr.ApicFrequency)).toBe(BigInt(1_000_000_000 / r.arch.config.apic.busTicks));
    r.machine.vp(0).retired = 12_345;
    expect(r.rdmsr(r.context(0, 1), HvMsr.VpRuntime)).toBe(123n);
  });
});

describe('idle', () => {
  /** Runs steps in VTL0 of VP 0 until the machine is idle. */
  const run = (r: Rig, ...list: readonly Step[]): readonly StepResult[] => {
    const results: StepResult[] = [];
    r.machine.setCpu(r.machine.vp(0), new ScriptCpu(r.machine, r.arch, { 0: { script: { id: 'steps', *main() {
      for (const step of list) results.push(yield step);
    } } } }));
    r.machine.run(1000);
    return results;
  };
  const idle: Step = { op: 'rdmsr', index: HvMsr.GuestIdle };

  it('sleeps until an interrupt comes, although interrupts are off', () => {
    const r = new Rig();
    const results = run(r, { op: 'cli' }, idle, { op: 'work' });
    expect(results).toHaveLength(1);
    const c = r.context();
    expect([c.activity, r.chapters.clocks.isIdle(c)]).toEqual([Activity.Held, true]);
    r.apic(c).acceptVector(0x40, false);
    r.machine.run(1000);
    expect([results.length, r.chapters.clocks.isIdle(c), r.apic(c).highestIrr()]).toEqual([3, false, 0x40]);
  });

  it('sleeps each time anew', () => {
    const r = new Rig();
    const results = run(r, { op: 'cli' }, idle, { op: 'sti' }, { op: 'work' }, { op: 'eoi' }, { op: 'cli' }, idle, { op: 'work' });
    for (const length of [1, 6, 8]) {
      expect(results).toHaveLength(length);
      r.apic(r.context()).acceptVector(0x40, false);
      r.machine.run(1000);
    }
  });

  it('does not sleep while one is pending, and sleeps again later', () => {
    const r = new Rig();
    r.apic(r.context()).acceptVector(0x40, false);
    const results = run(r, { op: 'cli' }, idle, { op: 'sti' }, { op: 'work' }, { op: 'eoi' }, { op: 'cli' }, idle, { op: 'work' });
    expect(results[1]!.edxEax).toBe(0n);
    expect(r.chapters.clocks.isIdle(r.context())).toBe(true);
    r.apic(r.context()).acceptVector(0x41, false);
    r.machine.run(1000);
    expect(results).toHaveLength(8);
  });

  it('ends by a timer of its VTL', () => {
    const r = new Rig();
    r.wrmsr(r.context(), HvMsr.Stimer0Config, (0x50n << 4n) | (1n << 12n) | (1n << 3n));
    r.wrmsr(r.context(), HvMsr.Stimer0Count, 5000);
    expect(run(r, { op: 'cli' }, idle, { op: 'rdmsr', index: HvMsr.TimeRefCount })[2]!.edxEax).toBeGreaterThanOrEqual(5000n);
  });

  it('has no register form, and cannot be written', () => {
    const r = new Rig();
    expect([r.chapters.msrs.read(r.context(), HvMsr.GuestIdle), r.wrmsr(r.context(), HvMsr.GuestIdle, 0)]).toEqual([null, false]);
  });
});
