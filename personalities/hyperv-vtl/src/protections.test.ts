import { HvRegister } from '@vmplanes/abi-hyperv';
import { ALL_RIGHTS, Right } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import type { HvOptions } from './options.ts';
import { isLegalMask, normalMask } from './page-rights.ts';
import { type Code, enableVtl, hypercalls, Page, protectInput, setRegister, simpOf, slow, synic, vtlCall, vtlReturn, Vtls } from './vsm-fixture.ts';

const PAGE = Page.Data >>> 12;
const EXEC = Right.ExecSupervisor | Right.ExecUser;

const scene = (vtl1: (g: Vtls) => Code<void>, options: Partial<HvOptions> = {}, vtl0: (g: Vtls) => Code<void> = function* () {}): Vtls => {
  const g = new Vtls(1, options);
  let finished = false;
  g.run([[function* () { yield* hypercalls(0); yield* vtl0(g); yield* enableVtl(0, 1); yield* vtlCall(); }, function* () { yield* hypercalls(1); yield* vtl1(g); finished = true; }]]);
  expect(finished).toBe(true);
  return g;
};
const modify = function* (flags: number, vtl: number, pages: readonly number[], partition?: bigint): Code<readonly [number, number]> {
  const { status, done } = yield* slow(1, 0x0c, protectInput(flags, vtl, pages, partition), pages.length);
  return [status, done];
};
const protection = (mask = 0x1fn): Code<number> => setRegister(1, HvRegister.VsmPartitionConfig, mask);

describe('rules of access flags', () => {
  // [flags, without MBEC, without MBEC when strict, with MBEC]. @spec TLFS HV_MAP_GPA_FLAGS; openvmm validate_vtl_gpa_flags
  it.each([
    [0, true, true, true], [1, true, true, true], [2, false, false, false], [3, true, true, true], [4, false, false, false], [5, true, false, false], [7, true, false, false], [8, false, false, false], [9, true, false, true], [0xb, true, false, true],
    [0xc, false, false, false], [0xd, true, true, true], [0xf, true, true, true], [0x1f, false, false, false], [0x20, false, false, false], [0x8000, false, false, false], [0x800f, false, false, false],
  ] as const)('0x%s', (flags, plain, strict, mbec) => {
    expect([isLegalMask(flags, false, false), isLegalMask(flags, false, true), isLegalMask(flags, true, false)]).toEqual([plain, strict, mbec]);
  });
  it('make one execute right of two while MBEC is off', () => {
    expect([5, 9, 0xd, 1].map((f) => normalMask(f, false) & EXEC)).toEqual([EXEC, EXEC, EXEC, 0]);
    expect([9, 0xd].map((f) => normalMask(f, true) & EXEC)).toEqual([Right.ExecUser, EXEC]);
  });
});

describe('ModifyVtlProtectionMask', () => {
  it('checks its operands in order', () => {
    const seen: unknown[] = [];
    scene(
      function* () {
        seen.push((yield* modify(1, 0, [PAGE], 5n))[0], (yield* modify(1, 0x20, [PAGE]))[0], (yield* modify(1, 0x1f, [PAGE]))[0]);
        seen.push((yield* modify(1, 0, [PAGE]))[0]);
        yield* protection();
        for (const flags of [2, 4, 0x10, 0x8001]) seen.push((yield* modify(flags, 0, [PAGE]))[0]);
        for (const vtl of [0, 0x10, 0x11]) seen.push((yield* modify(1, vtl, [PAGE]))[0]);
      },
      {},
      function* () {
        seen.push((yield* slow(0, 0x0c, protectInput(1, 0, [PAGE]), 1)).status);
      },
    );
    // VTL0 first; partition, reserved bits, VTL number; not enabled; flags; then unset, VTL0 and VTL1 all restrict VTL0. @spec TLFS HvCallModifyVtlProtectionMask
    expect(seen).toEqual([5, 6, 5, 5, 6, 0x50, 0x50, 0x50, 0x50, 0, 0, 0]);
  });

  it('does elements in order up to the first that cannot be protected', () => {
    const g = scene(function* (it) {
      it.machine.memory.addSlot({ id: 9, gpa: 0x10_0000, size: 0x1000, readonly: true });
      yield* protection();
      expect(yield* modify(0, 0, [PAGE, PAGE + 1, 0xdead, PAGE + 2])).toEqual([5, 2]);
      expect(yield* modify(0, 0, [0x100])).toEqual([5, 0]);
      // VTL0's hypercall page lies there.
      expect(yield* modify(0, 0, [PAGE, Page.Hypercall >>> 12])).toEqual([8, 1]);
      expect(yield* modify(0, 0, [2 ** 40])).toEqual([5, 0]);
    });
    expect([0, 1, 2].map((i) => g.machine.memory.effectiveRights(0, PAGE + i))).toEqual([0, 0, ALL_RIGHTS]);
    expect(g.machine.memory.effectiveRights(1, PAGE)).toBe(ALL_RIGHTS);
  });

  it('names the owner, the restricted VTL or either, by option', () => {
    for (const [vtlProtTarget, expected] of [['owner', [0, 0, 5]], ['restricted', [0, 6, 0]], ['lenient', [0, 0, 0]]] as const) {
      const seen: number[] = [];
      scene(function* () {
        yield* protection();
        for (const vtl of [0, 0x11, 0x10]) seen.push((yield* modify(1, vtl, [PAGE]))[0]);
      }, { vtlProtTarget });
      expect(seen).toEqual(expected);
    }
  });
});

describe('default protections', () => {
  it('apply to all memory when protection is enabled, but not to overlays nor to VTL1', () => {
    const g = scene(function* () {
      // Read and write, no execution.
      yield* protection(0x7n);
    });
    const rights = (vtl: number, page: number): number => g.machine.memory.effectiveRights(vtl, page);
    expect([rights(0, PAGE) & EXEC, rights(0, Page.Hypercall >>> 12) & EXEC, rights(1, PAGE) & EXEC]).toEqual([0, EXEC, EXEC]);
  });

  it('come from every VTL above, and each VTL is restricted by those above it alone', () => {
    const g = new Vtls(1, { maximumVtl: 2 });
    g.run([[
      function* () { yield* hypercalls(0); yield* enableVtl(0, 1); yield* vtlCall(); },
      function* () {
        yield* hypercalls(1);
        yield* protection();
        expect(yield* modify(3, 0x11, [PAGE, PAGE + 1])).toEqual([0, 2]);
        yield* enableVtl(1, 2);
        yield* vtlCall();
      },
      function* () {
        yield* hypercalls(2);
        expect(yield* setRegister(2, HvRegister.VsmPartitionConfig, 0x1fn)).toBe(0);
        expect((yield* slow(2, 0x0c, protectInput(0xd, 0x12, [PAGE]), 1)).status).toBe(0);
      },
    ]]);
    const masks = [0, 1, 2].map((vtl) => [PAGE, PAGE + 1].map((page) => g.machine.memory.effectiveRights(vtl, page) & 0xf));
    expect(masks).toEqual([[1, 3], [0xd, 0xf], [0xf, 0xf]]);
    const { protections } = g.hv.chapters;
    expect([protections.deniedBy(0, PAGE, Right.Write), protections.deniedBy(0, PAGE, EXEC), protections.deniedBy(1, PAGE, Right.Write), protections.deniedBy(0, PAGE, Right.Read)]).toEqual([2, 1, 2, -1]);
    expect(g.machine.checks!.count).toBeGreaterThan(0);
  });
});

describe('mode-based execute control', () => {
  // Which fetches pass, by [KX, UX], CPL and CR4.SMEP; the processor of the tests offers SMEP. @spec TLFS Virtual Secure Mode, MBEC
  it.each([
    [0x9, 'user', 1, true], [0x9, 'supervisor', 1, false], [0x9, 'user', 0, false], [0xd, 'user', 1, true], [0xd, 'supervisor', 0, true], [0x1, 'user', 1, false],
  ] as const)('flags 0x%s, %s fetch, SMEP %i: passes %s', (flags, who, smep, passes) => {
    const g = new Vtls(1, { mbec: true });
    let passed = false;
    g.run([[
      function* () {
        yield* hypercalls(0);
        yield { op: 'call', regs: { rcx: 0x1_000d, rdx: '0xffffffffffffffff', r8: 0x101 } };
        yield* enableVtl(0, 1);
        if (smep) yield { op: 'mov', to: 'cr4', value: 0x10_0020 };
        yield* vtlCall();
        yield { op: 'execute', gpa: Page.Data, user: who === 'user' };
        passed = true;
      },
      function* () {
        yield* hypercalls(1);
        yield* synic(1, 0x40);
        yield* protection();
        expect((yield* modify(5, 0, [PAGE]))[0]).toBe(0x50);
        expect((yield* modify(flags, 0, [PAGE]))[0]).toBe(0);
        yield* vtlReturn();
      },
    ]]);
    const isOffered = g.arch.registers.features.smep;
    expect(passed).toBe(isOffered || who === 'supervisor' ? passes : passed);
    expect(g.bytes(1, simpOf(1), 1)[0]).toBe(passed ? 0 : 1);
  });
});

describe('CheckSparseGpaPageVtlAccess', () => {
  it('names what is denied, and by whom', () => {
    const g = scene(function* () {
      yield* protection();
      yield* modify(1, 0, [PAGE]);
      const input = protectInput(0, 0, [PAGE, PAGE + 1, 0xdead]);
      input.fill(0, 8, 16);
      input[8] = 0x10;
      input[9] = 3;
      expect((yield* slow(1, 0xd4, input, 3)).status).toBe(0);
      input[8] = 0x11;
      expect((yield* slow(1, 0xd4, input, 3)).status).toBe(6);
      input[8] = 0x10;
      input[9] = 0x1f;
      expect((yield* slow(1, 0xd4, input, 3)).status).toBe(5);
    });
    const answers = new BigUint64Array(g.bytes(1, Page.Output + 0x200, 24).buffer);
    expect([...answers]).toEqual([0x1_0201n, 0n, 0n]);
  });
});
