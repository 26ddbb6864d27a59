import type { RegisterName } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { CallRig } from './call-fixture.ts';
import { Rig } from './fixture.ts';
import { servedPrivileges } from './privilege-names.ts';
import { grantedWords, holds, neededWords } from './privileges.ts';
import { defaultOptions } from './options.ts';

const OUTPUTS = ['rax', 'rbx', 'rcx', 'rdx'] as const satisfies readonly RegisterName[];
const old = (i: number): bigint => 0xaaaa_0000_bbbb_0000n + BigInt(i);
const load = (rig: CallRig, vtl = 0): void => OUTPUTS.forEach((name, i) => rig.set(rig.context(0, vtl), name, old(i)));
const exit = (key: number, subleaf = 0) => ({ kind: 'cpuid', key, subleaf }) as const;
const answer = (rig: CallRig, key: number, { vtl = 0, subleaf = 0 } = {}): readonly bigint[] => {
  load(rig, vtl);
  rig.chapters.cpuid.answer(rig.context(0, vtl), exit(key, subleaf));
  return OUTPUTS.map((name) => rig.get(rig.context(0, vtl), name));
};
const result = (by: number, leaf: number, words: readonly number[], subleaf = -1) => ({ vp: -1, by, leaf, subleaf, words });
const ONES = 0xffff_ffff;

describe('CPUID', () => {
  it('clears the upper halves of all four registers, for leaves of the interface and for registered ones', () => {
    const rig = new CallRig(1);
    expect(answer(rig, 0x4000_0002).map((value) => value >> 32n)).toEqual([0n, 0n, 0n, 0n]);
    rig.chapters.cpuid.results.register(result(1, 1, [1, ONES, 2, ONES, 3, ONES, 0x8000_0004, ONES]));
    expect([answer(rig, 1), answer(rig, 0x4000_0002)[0]]).toEqual([[1n, 2n, 3n, 0x8000_0004n], 20_348n]);
    // VTL1 itself sees the processor.
    expect(answer(rig, 1, { vtl: 1 })).not.toEqual([1n, 2n, 3n, 0x8000_0004n]);
  });
  it('of the interface is 0x40000000 to 0x400000ff; registered results change that, too', () => {
    const rig = new CallRig(1);
    expect([answer(rig, 0x4000_0007), answer(rig, 0x4000_00ff)]).toEqual([[0n, 0n, 0n, 0n], [0n, 0n, 0n, 0n]]);
    rig.chapters.cpuid.results.register(result(1, 0x4000_00ff, [7, 7, 0, 0, 0, 0, 0, 0]));
    rig.chapters.cpuid.results.register(result(1, 0x4000_0001, [0, 0xff, 0, 0, 0, 0, 0x55, 0xff], 3));
    expect([answer(rig, 0x4000_00ff), answer(rig, 0x4000_0001, { subleaf: 3 }), answer(rig, 0x4000_0001)]).toEqual([[7n, 0n, 0n, 0n], [0x3123_7600n, 0n, 0n, 0x55n], [0x3123_7648n, 0n, 0n, 0n]]);
  });
  it('can be asked for without being given', () => {
    const rig = new CallRig(1);
    load(rig);
    for (const leaf of [0x4000_0000, 0, 1, 0x8000_0007]) {
      const shown = [...rig.chapters.cpuid.resultOf(rig.context(), exit(leaf))];
      expect(OUTPUTS.map((name) => rig.get(rig.context(), name))).toEqual([0, 1, 2, 3].map(old));
      expect(shown.map(BigInt), leaf.toString(16)).toEqual(answer(rig, leaf).map((value) => value & 0xffff_ffffn));
      load(rig);
    }
  });
  it('shows the invariant counter once the guest has asked for that, bit 8 of EDX', () => {
    const invariant = (rig: CallRig, vtl = 0): bigint => answer(rig, 0x8000_0007, { vtl })[3]!;
    const rig = new CallRig(2);
    const usual = invariant(new CallRig(1, { withhold: ['accessTscInvariantControls'] }));
    expect([usual & 0x100n, invariant(rig)]).toEqual([0x100n, usual & ~0x100n]);
    expect([rig.wrmsr(rig.context(1, 1), 0x4000_0118, 2), rig.wrmsr(rig.context(1, 1), 0x4000_0118, 1), invariant(rig), rig.wrmsr(rig.context(), 0x4000_0118, 0), rig.rdmsr(rig.context(), 0x4000_0118)]).toEqual([false, true, usual, false, 1n]);
    rig.chapters.msrs.reset();
    expect(invariant(rig)).toBe(usual & ~0x100n);
    expect(answer(new CallRig(1), 0x8000_0006)[3]).toBe(answer(new CallRig(1, { withhold: ['accessTscInvariantControls'] }), 0x8000_0006)[3]);
  });
  it('recommends INT to VTLs that are subject to MBEC', () => {
    const rig = new Rig(1);
    rig.chapters.vsm.enable(1, true);
    const eax = (vtl: number): number => rig.chapters.cpuid.resultOf(rig.context(0, vtl), exit(0x4000_0004))[0]!;
    expect([eax(0), eax(1)]).toEqual([0x2c24, 0xc24]);
  });
});

describe('privileges', () => {
  it('are held unless withheld, one by one', () => {
    for (const name of servedPrivileges) {
      expect([name, holds(defaultOptions, name)]).toEqual([name, true]);
      const without = { ...defaultOptions, withhold: [name] };
      expect(servedPrivileges.filter((other) => !holds(without, other))).toEqual([name]);
    }
    expect(servedPrivileges.filter((name) => !holds({ ...defaultOptions, maximumVtl: 0 }, name))).toEqual(['accessVsm']);
    expect(servedPrivileges.filter((name) => !holds({ ...defaultOptions, xmmHypercalls: false }, name))).toEqual(['fastHypercallOutput']);
    for (const name of ['createPartitions', 'cpuManagement', 'debugging', 'isolation', 'accessStatsReg', 'accessDebugRegs'] as const) expect(holds(defaultOptions, name), name).toBe(false);
  });
  it('are words by their bits', () => {
    expect(grantedWords(defaultOptions)).toEqual({ lo: 0xaeff, hi: 0x003b_8030 });
    expect([neededWords(), neededWords(['postMessages']), neededWords(['accessVsm']), neededWords(['accessPartitionReferenceTsc', 'accessPartitionReferenceCounter'])]).toEqual([{ lo: 0, hi: 0 }, { lo: 0, hi: 0x10 }, { lo: 4, hi: 0x3_0000 }, { lo: 0x202, hi: 0 }]);
  });
});
