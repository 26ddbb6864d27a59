import { describe, expect, it } from 'vitest';
import { CallRig, type Issue } from './call-fixture.ts';

/** What a flush port is told, as lines. */
const told = (rig: CallRig): string[] => {
  const lines: string[] = [];
  rig.chapters.hypercalls.flushPort = {
    flushSpace: (target, lo, hi) => lines.push(`space ${target.vp.index}:${target.plane} ${lo === null ? 'all' : `${hi.toString(16)}_${lo.toString(16)}`}`),
    flushRange: (target, lo, hi, pages) => lines.push(`range ${target.vp.index}:${target.plane} ${hi.toString(16)}_${lo.toString(16)} ${pages}`),
  };
  return lines;
};
const space = (flags: bigint, mask = 1n): Issue => ({ code: 2, fast: true, input: [0x1_2345_6789_a000n, flags, mask] });

describe('who is flushed', () => {
  it.each([
    ['the VPs of the mask, in the VTL of the caller', 0n, 5n, 0, ['0:0', '2:0']],
    ['every VP', 1n, 0n, 0, ['0:0', '1:0', '2:0']],
    ['every VP, whatever the mask', 1n, 2n, 0, ['0:0', '1:0', '2:0']],
    ['VPs that do not exist: nobody', 0n, 8n, 0, []],
    ['the VTL of a higher caller', 0n, 2n, 1, ['1:1']],
    ['VTL0 by name', 0x110n, 2n, 1, ['1:0']],
    ['VTL1 by name', 0x210n, 2n, 1, ['1:1']],
    ['both by name', 0x310n, 3n, 1, ['0:0', '0:1', '1:0', '1:1']],
  ] as const)('%s', (_what, flags, mask, vtl, targets) => {
    const rig = new CallRig(3);
    const lines = told(rig);
    expect(rig.issue(rig.context(0, vtl), space(flags, mask)).status).toBe(0);
    expect(lines).toEqual(targets.map((target) => `space ${target} 12345_6789a000`));
  });
  it('spaces: the one named or all', () => {
    const rig = new CallRig(1);
    const lines = told(rig);
    rig.issue(rig.context(), space(2n));
    rig.issue(rig.context(), space(4n));
    rig.issue(rig.context(), { code: 0x13, fast: true, units: 1, input: [0x7_0000_5000n, 0n, 0n, 1n, 1n] });
    rig.issue(rig.context(), { code: 0x13, fast: true, input: [0x7_0000_5000n, 2n, 1n, 0n] });
    expect(lines).toEqual(['space 0:0 all', 'space 0:0 12345_6789a000', 'space 0:0 7_5000', 'space 0:0 all']);
  });
  it.each([
    ['a reserved flag', 1n << 7n, 5], ['flag 10', 1n << 10n, 5], ['flag 31', 1n << 31n, 5], ['flag 32', 1n << 32n, 5], ['VTL1 not to be used', 0x200n, 5], ['VTL0 not to be used', 0x100n, 5], ['no VTL', 0x10n, 5], ['VTL1 of VTL0', 0x210n, 6], ['both of VTL0', 0x310n, 6], ['VTL0 of VTL0', 0x110n, 0], ['the extended format', 8n, 5],
  ])('%s', (_what, flags, status) => {
    const rig = new CallRig(1);
    const lines = told(rig);
    expect([rig.issue(rig.context(), space(flags)).status, lines.length]).toEqual([status, status === 0 ? 1 : 0]);
  });
  it('waits for a lock of any VTL named, of VPs named', () => {
    for (const [lock, flags, mask, key] of [['1:0', 0x310n, 2n, 'hv-tlb:1:0'], ['1:1', 0x310n, 2n, 'hv-tlb:1:1'], ['1:1', 0x110n, 2n, null], ['0:0', 0x110n, 2n, null], ['2:0', 0x111n, 0n, 'hv-tlb:2:0']] as const) {
      const rig = new CallRig(3);
      rig.locks.add(lock);
      const { answer } = rig.issue(rig.context(0, 1), space(flags, mask));
      expect(answer.kind === 'wait' ? (answer.condition as { readonly key: string }).key : null, `${lock} ${flags}`).toBe(key);
    }
  });
});

describe('ranges', () => {
  const list = (flags: bigint, ranges: readonly bigint[]): readonly string[] => {
    const rig = new CallRig(1);
    const lines = told(rig);
    expect(rig.issue(rig.context(), { code: 3, count: ranges.length, input: [0n, flags, 1n, ...ranges] }).status).toBe(0);
    return lines.map((line) => line.slice('range 0:0 '.length));
  };
  it('have the page in bits 63:12 and further pages in 11:0', () => {
    expect(list(0n, [0xffff_8123_4567_8000n, 0xfff_f001n, 0x1fffn, 0x1800n])).toEqual(['ffff8123_45678000 1', '0_ffff000 2', '0_1000 4096', '0_1000 2049']);
  });
  it('of the extended format count 4 KiB, 2 MiB or 1 GiB pages', () => {
    // 10:0 further pages, 11 large, 12 size; a large page begins at bit 21. @spec openvmm vm/hv1/hvdef/src/lib.rs
    expect(list(8n, [0x1_2345_67ffn, 0x1_2340_0801n, 0x1_2360_0fffn, 0x1_c000_1800n, 0x1_c000_1802n])).toEqual(['1_23456000 2048', '1_23400000 1024', `1_23600000 ${2048 * 512}`, `1_c0000000 ${512 * 512}`, `1_c0000000 ${3 * 512 * 512}`]);
    expect(list(8n, [0xffff_ffffn & ~0x800n])).toEqual(['0_fffff000 2048']);
  });
  it('of nested guests are none', () => {
    const rig = new CallRig(1);
    const status = (code: number, words: readonly bigint[], count = 0): number => rig.issue(rig.context(), { code, count, input: words }).status;
    expect([status(0xaf, [5n, 0n]), status(0xaf, [5n, 1n]), status(0xaf, [5n, 1n << 32n]), status(0xb0, [5n, 0n, 7n], 1), status(0xb0, [5n, 1n, 7n], 1), status(0xb0, [5n, 1n << 63n, 7n], 1)]).toEqual([0, 5, 5, 0, 5, 5]);
  });
});
