import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { generator, rigOf } from '../engine/rig.ts';

const CELLS = ['rip', 'rflags', 'interruptShadow'] as const;
const IF = 0x200n;
/** Instruction pointer, interrupt flag and shadow after one step, begun with the cells given. */
const after = (step: Step, begin: Readonly<Record<(typeof CELLS)[number], bigint>>): readonly bigint[] => {
  let seen: readonly bigint[] = [];
  const rig = rigOf({ guests: [{ 0: generator('shadow', function* () {
    yield step;
    seen = CELLS.map((name) => rig.get(0, 0, name));
  }) }] });
  for (const name of CELLS) rig.set(0, 0, name, begin[name]);
  rig.run(2);
  return seen;
};

describe('interrupt shadows: 1 is that of MOV SS, 2 that of STI', () => {
  // @spec SDM 2B STI; SDM 3A §6.8.3; Linux Documentation/virt/kvm/api.rst §4.31 KVM_X86_SHADOW_INT_STI
  const STEP = 0xfff1n;
  it.each([
    ['sti', 'a clear flag starts a shadow', 2n, 0n, IF | 2n, 2n],
    ['sti', 'a set flag starts none', IF | 2n, 0n, IF | 2n, 0n],
    ['sti', 'a set flag: the shadow before it ends', IF | 2n, 1n, IF | 2n, 0n],
    ['sti', 'a clear flag behind MOV SS', 2n, 1n, IF | 2n, 2n],
    ['cli', 'the flag is cleared, the shadow ends', IF | 2n, 2n, 2n, 0n],
    ['work', 'the flag stays, the shadow ends', IF | 2n, 2n, IF | 2n, 0n],
  ] as const)('%s: %s', (op, _what, rflags, shadow, flagsAfter, shadowAfter) => {
    expect(after({ op }, { rip: 0xfff0n, rflags, interruptShadow: shadow })).toEqual([STEP, flagsAfter, shadowAfter]);
  });
  it.each(['sti', 'cli', 'work'] as const)('%s at the end of the low 4 GiB goes on above it', (op) => {
    expect(after({ op }, { rip: 0xffff_ffffn, rflags: 2n, interruptShadow: 0n })[0]).toBe(0x1_0000_0000n);
  });
});
