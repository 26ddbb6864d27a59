import { GHCB_MSR_ROWS, NAE_ROWS } from '@vmplanes/abi-sev-snp';
import { InvariantChecks, Outcome, type Snapshot } from '@vmplanes/engine';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BUFFER, DATA, es, ghcbOf, GhcbRig, type Request, snp, v1 } from './ghcb-rig.ts';

/** A machine like the first one, at the state that was saved. */
const again = (rig: GhcbRig, make: () => GhcbRig): GhcbRig => {
  const snapshot: Snapshot = structuredClone(rig.machine.snapshot());
  const other = make();
  other.machine.restore(snapshot);
  return other;
};

describe('a snapshot in the middle of a request', () => {
  /** What, machine, request, replies of the VMM. */
  const cases: readonly (readonly [what: string, make: () => GhcbRig, request: Request, replies: readonly Record<string, number>[]])[] = [
    ['IN', snp, { swExitCode: 0x7b, swExitInfo1: 0x03f8_0021, swExitInfo2: 0, rax: 0xffff_ffff }, [{ value: 0x1234 }]],
    ['a string of IN', snp, { swExitCode: 0x7b, swExitInfo1: 0x01f0_0045, swExitInfo2: 3, swScratch: BUFFER }, [{ value: 1 }, { value: 2 }, { value: 3 }]],
    ['a string of OUT', snp, { swExitCode: 0x7b, swExitInfo1: 0x01f0_0014, swExitInfo2: 4, swScratch: BUFFER }, [{}, {}, {}]],
    ['an MMIO read in pieces', snp, { swExitCode: 0x8000_0001, swExitInfo1: 0xfed0_0000, swExitInfo2: 7, swScratch: BUFFER }, [{ lo: 1, hi: 0 }, { lo: 2, hi: 0 }, { lo: 3, hi: 0 }]],
    ['an MMIO write in pieces', snp, { swExitCode: 0x8000_0002, swExitInfo1: 0xfed0_0000, swExitInfo2: 6, swScratch: BUFFER }, [{}]],
    ['an MSR', () => snp({ x86: { unknownMsr: 'exit' } }), { swExitCode: 0x7c, swExitInfo1: 0, swExitInfo2: 0, rcx: 0x1234 }, [{ lo: 5, hi: 6 }]],
    ['a refused MSR', () => snp({ x86: { unknownMsr: 'exit' } }), { swExitCode: 0x7c, swExitInfo1: 1, swExitInfo2: 0, rcx: 0x1234, rax: 1, rdx: 2 }, [{ error: 1 }]],
    ['an AP creation', snp, { swExitCode: 0x8000_0013, swExitInfo1: 1, swExitInfo2: 0x5000, rax: 1 }, [{}]],
  ];
  it.each(cases)('%s ends alike in a machine that was restored before each reply', (_what, make, request, replies) => {
    const ready = (): GhcbRig => {
      const rig = make();
      const results = [-1, 0];
      rig.log.create = () => results.shift() ?? 0;
      return rig;
    };
    const answered = (between: (rig: GhcbRig) => GhcbRig) => {
      let rig = ready();
      rig.write(BUFFER, Uint8Array.from({ length: 16 }, (_, i) => i + 1));
      rig.ask(request);
      const exits: unknown[] = [rig.exit()];
      for (const reply of replies) {
        rig = between(rig);
        rig.answer('error' in reply ? { error: true } : reply);
        exits.push(rig.exit());
      }
      return { exits, reply: rig.reply(), buffer: [...rig.read(BUFFER, 16)], rip: rig.rip(), completion: rig.machine.vp(0).context.completion };
    };
    const straight = answered((rig) => rig);
    const restored = answered((rig) => {
      const other = again(rig, make);
      other.log.create = () => 0;
      return other;
    });
    expect({ ...restored, exits: null }).toEqual({ ...straight, exits: null });
    expect(straight.completion).toBeNull();
    expect(straight.reply.swExitInfo1).toBeDefined();
    // A restored machine has no exit of its own until it runs.
    restored.exits.forEach((exit, i) => expect(exit === null || JSON.stringify(exit) === JSON.stringify(straight.exits[i])).toBe(true));
  });
  it('DR7 of each VMPL is kept', () => {
    const rig = snp();
    rig.event(0x37, 0, 0, { rax: 0x455 });
    expect(again(rig, snp).event(0x27).rax).toBe(0x455n);
  });
});

describe('any request', () => {
  const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const address = fc.oneof(fc.constantFrom(BigInt(BUFFER), BigInt(DATA), BigInt(DATA + 4096), BigInt(ghcbOf()), 0x3000n, 0n, 0xfed0_0000n, 0xfee0_00f0n, 2n ** 52n), u64, fc.bigInt({ min: 0n, max: 0x50_000n }));
  const small = fc.oneof(fc.bigInt({ min: 0n, max: 16n }), u64);
  const code = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...NAE_ROWS.map((r) => BigInt(r.code))) }, { weight: 1, arbitrary: u64 });
  const operand = fc.oneof(address, small, fc.constantFrom(0x03f8_0010n, 0x03f8_0011n, 0x01f0_0015n, 0x01f0_0044n, 0x1_0000_0001n));
  const fields = fc.record({ rax: operand, rbx: operand, rcx: fc.oneof(operand, fc.constantFrom(0x10n, 0x1bn, 0x277n, 0x80fn, 0x830n)), rdx: operand, rsi: operand, xcr0: operand, cpl: fc.bigInt({ min: 0n, max: 255n }), swScratch: fc.oneof(fc.constant(BigInt(BUFFER)), address) }, { requiredKeys: [] });
  const event = fc.record({ swExitCode: code, swExitInfo1: operand, swExitInfo2: operand, fields });
  const msr = fc.oneof(fc.tuple(fc.constantFrom(...GHCB_MSR_ROWS.map((r) => BigInt(r.code))), fc.oneof(operand, u64)).map(([c, v]) => (v & ~0xfffn) | c), u64);
  const act = fc.oneof({ weight: 3, arbitrary: event.map((e) => ({ event: e, msr: 0n })) }, { weight: 1, arbitrary: msr.map((m) => ({ event: null, msr: m })) });
  const bytes = fc.uint8Array({ minLength: 64, maxLength: 64 });
  const machines = { snp, es, v1, single: () => snp({ planes: 1 }) } as const;

  /** Runs acts, answers what is asked; a digest of all that could be seen. */
  const play = (make: () => GhcbRig, acts: readonly { readonly event: { swExitCode: bigint; swExitInfo1: bigint; swExitInfo2: bigint; fields: Request } | null; readonly msr: bigint }[], buffer: Uint8Array): readonly unknown[] => {
    const rig = make();
    rig.log.doorbell = (request) => (request > 3 || request < 0 ? -5 : 0);
    rig.machine.checks = new InvariantChecks(rig.machine);
    const seen: unknown[] = [];
    const { memory } = rig.machine;
    for (const { event: e, msr: m } of acts) {
      const vp = rig.machine.vp(0);
      const page = ghcbOf(0, vp.current);
      const plane = rig.plane();
      if (e !== null && !memory.isPrivate(page / 4096)) {
        rig.write(page + 0x800, buffer);
        rig.fill({ swExitCode: e.swExitCode, swExitInfo1: e.swExitInfo1, swExitInfo2: e.swExitInfo2, ...e.fields }, page);
        rig.setMsr(BigInt(page), plane);
      } else rig.setMsr(m, plane);
      let outcome = rig.step();
      for (let i = 0; outcome === Outcome.Exit && i < 5000; i++) {
        seen.push(rig.exit());
        if (vp.context.completion === null) break;
        outcome = rig.answer({ value: i, lo: i, hi: 0 });
      }
      seen.push(outcome, rig.log.take(), rig.getMsr(plane));
      if (vp.suspended || outcome === Outcome.Blocked) break;
    }
    return seen;
  };

  it.each(Object.entries(machines))('to %s causes no host error, and the same again', (_name, make) => {
    fc.assert(
      fc.property(fc.array(act, { minLength: 1, maxLength: 12 }), bytes, (acts, buffer) => {
        expect(play(make, acts, buffer)).toEqual(play(make, acts, buffer));
      }),
      { numRuns: 60 },
    );
  });
});
