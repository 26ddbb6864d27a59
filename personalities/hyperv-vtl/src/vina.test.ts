import { HvRegister } from '@vmplanes/abi-hyperv';
import type { SchedulerPolicyName } from '@vmplanes/engine';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { assistOf, assistPage, type Code, enableVtl, getRegister, hypercalls, type Program, setRegister, synic, vtlCall, vtlReturn, Vtls } from './vsm-fixture.ts';

const VECTOR = 0x60;
const LOWER = 0x50;
const ENABLED = 0x100n;
const AUTO_RESET = 0x200n;
const AUTO_EOI = 0x400n;
const FLAG = 12;
/** An instruction that leaves to the hypervisor, which then looks around. */
const exits: Step = { op: 'cpuid', leaf: 1 };

interface Scene {
  readonly register: bigint;
  /** What VTL0 does before it calls VTL1 for the second time. */
  readonly before?: (g: Vtls) => Code<void>;
  /** VTL1, once VINA is set and it was called again. */
  readonly run: (g: Vtls, say: (what: string) => void) => Code<void>;
  readonly policy?: SchedulerPolicyName;
  readonly page?: boolean;
}

/** VTL1 sets VINA and returns; VTL0 prepares and calls; VTL1 runs. @returns what was said, VINA interrupts as `vina`. */
const scene = ({ register, before, run, policy, page = true }: Scene): { readonly g: Vtls; readonly said: readonly string[] } => {
  const g = new Vtls(1, {}, policy);
  const said: string[] = [];
  g.run(
    [[
      function* () {
        yield* hypercalls(0);
        yield* enableVtl(0, 1);
        yield* vtlCall();
        if (before) yield* before(g);
        yield* vtlCall();
        yield { op: 'sti' };
        yield { op: 'work' };
        said.push('VTL0');
      },
      function* () {
        yield* hypercalls(1);
        if (page) yield* assistPage(1);
        yield* synic(1, 0x40);
        yield* setRegister(1, HvRegister.VsmVina, register);
        yield* vtlReturn();
        yield* run(g, (what) => said.push(what));
        yield* vtlReturn();
      },
    ]],
    function* (_vp, vtl, vector) {
      said.push(vtl === 1 && vector === VECTOR ? 'vina' : `VTL${vtl} 0x${vector.toString(16)}`);
      const inService = g.arch.apicOf(g.context(0, vtl)).highestIsr();
      if (inService === vector) yield { op: 'eoi' };
      else if (vector === VECTOR) said.push('no EOI needed');
    },
  );
  return { g, said };
};
/** A fixed interrupt for VTL0 of this VP. */
const lower = (g: Vtls, vector = LOWER): void => void g.arch.apicOf(g.context(0, 0)).acceptVector(vector, false);
const openGate: Program = function* () {
  yield { op: 'sti' };
  yield { op: 'work' };
};

describe.each(['highest-runnable', 'userspace'] as const)('VINA under %s', (policy) => {
  /** Lets an interrupt for VTL0 arrive while VTL1 runs with interrupts on. */
  const arrives = (register: bigint, before: ((g: Vtls) => Code<void>) | undefined, more: (g: Vtls, say: (what: string) => void) => Code<void> = function* () {}): readonly string[] => {
    const { said } = scene({
      register,
      policy,
      ...(before ? { before } : {}),
      run: function* (g, say) {
        yield { op: 'sti' };
        yield { op: 'work' };
        say('arrives');
        lower(g);
        yield exits;
        yield { op: 'work' };
        yield* more(g, say);
      },
    });
    return said;
  };
  it('tells a running VTL1 of an interrupt that VTL0 would take at once', () => {
    expect(arrives(BigInt(VECTOR) | ENABLED, openGate)).toEqual(['arrives', 'vina', `VTL0 0x50`, 'VTL0']);
  });
  it('is silent while disabled', () => {
    expect(arrives(BigInt(VECTOR), openGate)).toEqual(['arrives', 'VTL0 0x50', 'VTL0']);
  });
  it('is silent while the interrupt flag of VTL0 is off', () => {
    expect(arrives(BigInt(VECTOR) | ENABLED, undefined)).toEqual(['arrives', 'VTL0', 'VTL0 0x50']);
  });
  it('is silent while the priority of VTL0 forbids the interrupt', () => {
    expect(
      arrives(BigInt(VECTOR) | ENABLED, function* () {
        yield* openGate();
        yield { op: 'apicWrite', register: 8, value: 0x50 };
      }),
    ).toEqual(['arrives', 'VTL0']);
  });
  it('comes once, however many interrupts arrive, until the flag is cleared', () => {
    expect(
      arrives(BigInt(VECTOR) | ENABLED, openGate, function* (g, say) {
        lower(g, 0x51);
        yield exits;
        say('clears');
        yield { op: 'write', gpa: assistOf(1) + FLAG, size: 1, value: 0 };
        yield exits;
        yield { op: 'work' };
      }),
    ).toEqual(['arrives', 'vina', 'clears', 'vina', 'VTL0 0x51', 'VTL0 0x50', 'VTL0']);
  });
  it('needs no EOI with AutoEoi', () => {
    expect(arrives(BigInt(VECTOR) | ENABLED | AUTO_EOI, openGate).slice(0, 3)).toEqual(['arrives', 'vina', 'no EOI needed']);
  });
  it('keeps its flag through EOI and return, and clears it at the next entry with AutoReset', () => {
    for (const register of [BigInt(VECTOR) | ENABLED, BigInt(VECTOR) | ENABLED | AUTO_RESET]) {
      const flags: number[] = [];
      let rounds = 0;
      const g = new Vtls(1, {}, policy);
      g.run(
        [[
          function* () {
            yield* hypercalls(0);
            yield* enableVtl(0, 1);
            yield* vtlCall();
            yield* openGate();
            yield* vtlCall();
            yield { op: 'work' };
            yield* vtlCall();
          },
          function* () {
            yield* hypercalls(1);
            yield* assistPage(1);
            yield* synic(1, 0x40);
            yield* setRegister(1, HvRegister.VsmVina, register);
            yield* vtlReturn();
            yield { op: 'sti' };
            yield { op: 'work' };
            lower(g);
            yield exits;
            yield { op: 'work' };
            flags.push(g.bytes(1, assistOf(1) + FLAG, 1)[0]!);
            yield* vtlReturn();
            flags.push(g.bytes(1, assistOf(1) + FLAG, 1)[0]!);
            yield* vtlReturn();
          },
        ]],
        function* (_vp, vtl) {
          if (vtl === 1) rounds++;
          yield { op: 'eoi' };
        },
      );
      expect([flags, rounds]).toEqual([[1, (register & AUTO_RESET) !== 0n ? 0 : 1], 1]);
    }
  });
  it('fires on entry for an interrupt that was there before', () => {
    const { said } = scene({
      register: BigInt(VECTOR) | ENABLED,
      policy,
      before: function* (g) {
        yield { op: 'sti' };
        lower(g);
      },
      run: function* () {
        yield { op: 'sti' };
        yield { op: 'work' };
        yield { op: 'work' };
      },
    });
    // The shadow of STI lets one more instruction, the call, run before the interrupt.
    expect(said[0]).toBe('vina');
  });
  it('wakes a VTL1 that halts', () => {
    const { g, said } = scene({
      register: BigInt(VECTOR) | ENABLED,
      policy,
      before: openGate,
      run: function* (_g, say) {
        yield { op: 'sti' };
        yield { op: 'hlt' };
        say('woke');
      },
    });
    expect(said).toEqual([]);
    lower(g);
    g.machine.run(200);
    expect(new Set(said.slice(0, 2))).toEqual(new Set(['vina', 'woke']));
  });
  it('keeps its flag inside while there is no assist page', () => {
    const { said } = scene({
      register: BigInt(VECTOR) | ENABLED,
      policy,
      page: false,
      before: openGate,
      run: function* (g) {
        yield { op: 'sti' };
        lower(g);
        yield exits;
        lower(g, 0x51);
        yield exits;
        yield exits;
      },
    });
    expect(said.filter((s) => s === 'vina')).toHaveLength(1);
  });
});

describe('the VINA register', () => {
  it('exists above VTL0 only, refuses vectors below 16, and keeps its upper bits', () => {
    const g = new Vtls(1);
    const seen: unknown[] = [];
    g.run([[
      function* () {
        yield* hypercalls(0);
        yield* enableVtl(0, 1);
        seen.push(yield* getRegister(0, HvRegister.VsmVina), yield* setRegister(0, HvRegister.VsmVina, 0x160n));
        yield* vtlCall();
      },
      function* () {
        yield* hypercalls(1);
        seen.push(yield* setRegister(1, HvRegister.VsmVina, 0x160n, 0x10), yield* getRegister(1, HvRegister.VsmVina, 0x10));
        for (const value of [0x10fn, 0x0fn, 0x110n, (1n << 63n) | 0x760n]) seen.push(yield* setRegister(1, HvRegister.VsmVina, value));
        seen.push(yield* getRegister(1, HvRegister.VsmVina));
      },
    ]]);
    // @spec TLFS Virtual Secure Mode, VINA; OpenVMM #2274
    expect(seen).toEqual([-5n, 5, 5, -5n, 0x50, 0, 0, 0, (1n << 63n) | 0x760n]);
  });
});
