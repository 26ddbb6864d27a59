import { HV_PARTITION_ID_SELF, HvRegister, REGISTERS } from '@vmplanes/abi-hyperv';
import { Random, type SchedulerPolicyName } from '@vmplanes/engine';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { type Code, contextInput, enableVtl, hypercalls, Page, protectInput, registerInput, slow, synic, Vtls } from './vsm-fixture.ts';

const STEPS = 400;
const pick = <T>(random: Random, from: readonly T[]): T => from[random.below(from.length)]!;
/** Values at the edges of registers. */
const edges = [0n, 1n, 2n, 3n, 0xfn, 0x1fn, 0x100n, 0x1060n, 0x3_0001n, (1n << 63n) | 1n, (1n << 64n) - 1n];

/** A random thing that a guest may do in a VTL. */
const act = function* (random: Random, vtl: number): Code<unknown> {
  const inputVtl = pick(random, [0, 0x10, 0x11, 0x12, 0x20]);
  switch (random.below(16)) {
    case 0:
    case 1:
      return yield { op: 'call', regs: { rcx: 0x11, rax: 0 } };
    case 2:
    case 3:
      return yield { op: 'call', regs: { rcx: 0x12, rax: random.below(3) } };
    case 4: {
      // Not what stops the whole test: suspended processors, one that jumps, one that leaves long mode.
      const name = pick(random, REGISTERS.map((r) => r.number).filter((n) => n !== HvRegister.ExplicitSuspend && n !== HvRegister.InternalActivityState));
      return yield* slow(vtl, 0x51, registerInput(inputVtl, [name], [pick(random, edges)], { vp: random.below(3) }), 1);
    }
    case 5:
      return yield* slow(vtl, 0x50, registerInput(inputVtl, [pick(random, REGISTERS).number], null, { vp: random.below(3) }), 1);
    case 6:
      return yield* slow(vtl, 0x0c, protectInput(random.below(17), inputVtl, [(Page.Data >>> 12) + random.below(4)]), 1);
    case 7:
      return yield* slow(vtl, pick(random, [0x0f, 0x99]), contextInput(random.below(3), { vp: random.below(3), partition: pick(random, [HV_PARTITION_ID_SELF, HV_PARTITION_ID_SELF, 1n]) }));
    case 8:
      return yield { op: pick(random, ['read', 'write', 'execute'] as const), gpa: Page.Data + random.below(4) * 0x1000, value: 1 } as Step;
    case 9:
      return yield { op: 'ipi', icr: `0x${((BigInt(random.below(2)) << 32n) | BigInt(pick(random, [0x4040, 0x4051, 0x4500, 0x4608, 0x4400]))).toString(16)}` };
    case 10:
      return yield { op: pick(random, ['sti', 'cli'] as const) };
    case 11:
      return yield { op: 'mov', to: pick(random, ['cr0', 'cr8', 'xcr0'] as const), value: pick(random, ['0x80000019', '0x80000011', 3, 7]) };
    case 12:
      return yield { op: 'wrmsr', index: pick(random, [0xc000_0082, 0x1b, 0x4000_0084, 0x4000_0073, 0x4000_0090, 0xc000_0103]), value: pick(random, edges) };
    case 13:
      return yield* slow(vtl, 0x52, (() => {
        const bytes = registerInput(0, [0, 0, 0, 0], null, { vp: random.below(2) });
        new DataView(bytes.buffer).setBigUint64(16, BigInt(random.below(0x400)) | (BigInt(inputVtl) << 56n), true);
        return bytes;
      })());
    case 14:
      return yield { op: 'call', regs: { rcx: `0x${(BigInt(random.below(0x120)) | (BigInt(random.below(2)) << 16n) | (BigInt(random.below(3)) << 32n)).toString(16)}`, rdx: Page.Input, r8: Page.Output } };
    default:
      return yield { op: 'cpuid', leaf: 0x4000_0000 + random.below(0x20) };
  }
};

const policies = ['highest-runnable', 'userspace'] as const satisfies readonly SchedulerPolicyName[];

/** Two VPs whose VTLs do what comes to their mind. */
const guest = (seed: number, policy: SchedulerPolicyName): { readonly g: Vtls; readonly log: string[] } => {
  const maximumVtl = 1 + (seed % 2);
  const g = new Vtls(2, { maximumVtl, mbec: seed % 3 === 0 }, policy);
  g.start(1);
  const log: string[] = [];
  g.machine.on('plane-switch', (e) => log.push(`${e.vp} ${e.from}>${e.to} ${e.reason} ${e.time}`));
  const program = (vp: number, vtl: number) =>
    function* (): Code<void> {
      const random = new Random(seed * 64 + vp * 8 + vtl + 1);
      yield* hypercalls(vtl);
      yield* synic(vtl, 0x40 + vtl);
      if (vp === 0) yield* enableVtl(vtl, vtl + 1);
      for (let i = 0; i < STEPS; i++) yield* act(random, vtl);
    };
  g.load([0, 1].map((vp) => Array.from({ length: maximumVtl + 1 }, (_, vtl) => program(vp, vtl))));
  return { g, log };
};
const seeds = [1, 2, 3, 4, 5, 6];

describe('random guests with VTLs', () => {
  it.each(seeds)('seed %i: no host error, every invariant holds, and both policies make the same switches', (seed) => {
    const [first, second] = policies.map((policy) => {
      const { g, log } = guest(seed, policy);
      g.go(2000);
      expect(g.machine.checks!.count).toBeGreaterThan(100);
      return log;
    });
    expect(first!.length).toBeGreaterThan(10);
    expect(second).toEqual(first);
  });

  it.each(seeds)('seed %i: restored from a snapshot, it goes on as the first machine does', (seed) => {
    const first = guest(seed, 'highest-runnable');
    first.g.go(1 + seed);
    const saved = structuredClone(first.g.machine.snapshot());
    const before = first.log.length;
    const second = guest(seed, 'highest-runnable');
    second.g.machine.restore(saved);
    first.g.go(2000);
    second.g.go(2000);
    expect(second.log).toEqual(first.log.slice(before));
    expect(second.g.hv.save()).toEqual(first.g.hv.save());
    expect(second.g.machine.vps.map((vp) => vp.retired)).toEqual(first.g.machine.vps.map((vp) => vp.retired));
  });
});
