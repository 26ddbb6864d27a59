import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { generator, rigOf, scriptOf } from '../engine/rig.ts';

describe('a table of steps runs where its jumps lead', () => {
  const mark = (n: number): Step => ({ op: 'work', regs: { [`r${8 + n}`]: 1 } });
  const marks = (steps: readonly Step[]): readonly bigint[] => {
    const rig = rigOf({ guests: [{ 0: scriptOf(steps) }] });
    rig.run(5);
    expect(rig.cpus[0]!.finished(0)).toBe(true);
    return [0, 1, 2].map((n) => rig.get(0, 0, `r${8 + n}` as 'r8'));
  };
  it.each<[string, readonly Step[], readonly bigint[]]>([
    ['jump', [mark(0), { op: 'jump', to: 3 }, mark(1), mark(2)], [1n, 0n, 1n]],
    ['jump to the end', [mark(0), { op: 'jump', to: 3 }, mark(1)], [1n, 0n, 0n]],
    ['jumpIf that holds', [{ op: 'jumpIf', register: 'rax', equals: 5, to: 2, regs: { rax: 5 } }, mark(1), mark(2)], [0n, 0n, 1n]],
    ['jumpIf that does not', [{ op: 'jumpIf', register: 'rax', equals: 5, to: 2, regs: { rax: 0x1_0000_0005n } }, mark(1), mark(2)], [0n, 1n, 1n]],
    ['loop that goes on', [{ op: 'loop', register: 'rcx', to: 2, regs: { rcx: 2 } }, mark(1), mark(2)], [0n, 0n, 1n]],
    ['loop that ends', [{ op: 'loop', register: 'rcx', to: 2, regs: { rcx: 1 } }, mark(1), mark(2)], [0n, 1n, 1n]],
    ['expect that holds', [mark(0), { op: 'expect', register: 'rax', equals: 5, regs: { rax: 5 } }, mark(1)], [1n, 1n, 0n]],
  ])('%s', (_what, steps, expected) => {
    expect(marks(steps)).toEqual(expected);
  });
  it.each([[1, false], [-1, true], [2, true], [0, false]] as const)('a jump of a table of one step to %i', (to, isRefused) => {
    const make = (): unknown => rigOf({ guests: [{ 0: scriptOf([{ op: 'jump', to }]) }] });
    if (isRefused) expect(make).toThrow(/the table has 1 steps/);
    else expect(make).not.toThrow();
  });
});

describe('the result of a step', () => {
  it('names eight registers, EDX:EAX and what was asked for', () => {
    let result: unknown;
    const regs = { rax: 0x1111_1111_8765_4321n, rbx: 2, rcx: 3, rdx: 0x2222_2222_fedc_ba98n, rsi: 5, rdi: 6, r8: 7 };
    const rig = rigOf({ guests: [{ 0: generator('result', function* () {
      result = yield { op: 'get', names: ['rip', 'r9'], regs: { ...regs, r9: 8 } };
    }) }] });
    rig.run(2);
    expect(result).toMatchObject({ fault: null, rax: regs.rax, rbx: 2n, rcx: 3n, rdx: regs.rdx, rsi: 5n, rdi: 6n, r8: 7n, r9: 8n, edxEax: 0xfedc_ba98_8765_4321n, cells: { r9: 8n } });
  });
  it('a step counts for its cost', () => {
    const retired = (...costs: readonly number[]): readonly number[] => {
      const rig = rigOf({ guests: [{ 0: scriptOf(costs.map((cost) => ({ op: 'work', cost }))) }] });
      rig.run(2);
      return [rig.vps[0]!.context.retired, rig.vps[0]!.retired];
    };
    const [own, all] = retired(1, 1);
    expect(retired(7, 5)).toEqual([own! + 10, all! + 10]);
  });
  it('SDM 3A §6.15: an address that is not canonical raises #GP(0)', () => {
    let fault: unknown;
    const rig = rigOf({ guests: [{ 0: generator('address', function* () {
      fault = (yield { op: 'read', gva: 0x8000_0000_0000n }).fault;
    }) }] });
    for (const [name, value] of [['cr4', 0x20n], ['efer', 0xd00n], ['cr0', 0x8001_0011n]] as const) rig.set(0, 0, name, value);
    rig.run(2);
    expect(fault).toEqual({ vector: 13, errorCode: 0, address: 0n });
  });
});
