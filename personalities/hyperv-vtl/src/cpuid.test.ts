import type { PlaneContext } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { CallRig } from './call-fixture.ts';
import type { HvOptions } from './options.ts';

const read = (rig: CallRig, leaf: number, c: PlaneContext = rig.context()): readonly bigint[] => {
  rig.set(c, 'rax', 0xffff_ffff_ffff_ffffn);
  expect(rig.chapters.cpuid.answer(c, { kind: 'cpuid', key: leaf, subleaf: 0 }).kind).toBe('resume');
  return (['rax', 'rbx', 'rcx', 'rdx'] as const).map((name) => rig.get(c, name));
};
const leaf = (n: number, options: Partial<HvOptions> = {}): readonly bigint[] => read(new CallRig(2, options), 0x4000_0000 + n);

describe('leaves', () => {
  it('identify the interface', () => {
    expect(leaf(0)).toEqual([0x4000_0006n, 0x7263_694dn, 0x666f_736fn, 0x7648_2074n]);
    expect(leaf(1)).toEqual([0x3123_7648n, 0n, 0n, 0n]);
    expect(leaf(2)).toEqual([20_348n, 0x000a_0000n, 0n, 0n]);
  });
  it('show the privileges: of VSM all three', () => {
    const [eax, ebx] = leaf(3);
    // Runtime, counter, SynIC, timers, APIC MSRs, hypercall MSRs, VP index, reset, TSC page, idle, frequencies, reenlightenment, TSC invariance.
    expect(eax).toBe(0xaeffn);
    // Post, signal; extended ranges, VSM, VP registers, fast output, extended calls, start VP.
    expect(ebx).toBe(0x003b_8030n);
  });
  it('show only features that are served', () => {
    // XMM input, idle, frequencies, crash, ranges, XMM output, polling, lock, direct timers, PAT, cross-VTL flush, translate flags.
    expect(leaf(3)[3]).toBe(0x501e_c530n);
    expect(leaf(3, { xmmHypercalls: false })[3]).toBe(0x501e_4520n);
    expect(leaf(3, { xmmHypercalls: false })[1]! & (1n << 19n)).toBe(0n);
  });
  it.each([
    ['accessVsm', 1, 1n << 16n],
    ['accessVpRegisters', 1, 1n << 17n],
    ['accessSynicRegs', 0, 1n << 2n],
    ['postMessages', 1, 1n << 4n],
  ] as const)('do not show the privilege %s when it is withheld', (name, register, mask) => {
    expect(leaf(3)[register]! & mask).toBe(mask);
    expect(leaf(3, { withhold: [name] })[register]! & mask).toBe(0n);
  });
  it('do not offer VSM without a VTL above 0', () => {
    expect(leaf(3, { maximumVtl: 0 })[1]! & (1n << 16n)).toBe(0n);
  });
  it('recommend what helps', () => {
    // Remote flush, relaxed timing, cluster IPI, processor sets.
    expect(leaf(4)).toEqual([0xc24n, 0xfffn, BigInt(new CallRig(1).arch.registers.features.physicalBits), 0n]);
  });
  it('advise against SYSCALL where execute rights are split', () => {
    const rig = new CallRig(1);
    Object.assign(rig.chapters.vsm, { mbecVtls: 1 });
    expect([read(rig, 0x4000_0004)[0]! & (1n << 13n), read(rig, 0x4000_0004, rig.context(0, 1))[0]! & (1n << 13n)]).toEqual([1n << 13n, 0n]);
  });
  it('tell limits and hardware', () => {
    expect(leaf(5)).toEqual([4n, 4n, 0n, 0n]);
    expect(leaf(6)).toEqual([8n, 0n, 0n, 0n]);
  });
  it('are zero behind the last', () => expect([leaf(7), leaf(0x0c), leaf(0xff)]).toEqual([[0n, 0n, 0n, 0n], [0n, 0n, 0n, 0n], [0n, 0n, 0n, 0n]]));
  it('of the processor stay as they are, hypervisor bit included', () => {
    expect(read(new CallRig(1), 1)[2]! & (1n << 31n)).toBe(1n << 31n);
  });
});
