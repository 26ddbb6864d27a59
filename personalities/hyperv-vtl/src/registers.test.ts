import { HvRegister, type HvRegisterName, REGISTERS } from '@vmplanes/abi-hyperv';
import { Activity } from '@vmplanes/engine';
import { readRegister } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import type { HvOptions } from './options.ts';
import { registerSupport } from './registers/table.ts';
import { enableVtl, getRegister, hypercalls, Page, type Program, registerInput, setRegister, slow, vtlCall, vtlReturn, Vtls } from './vsm-fixture.ts';

const LOWER = 0x10;
/** Runs a program in VTL1 on VP0, above a VTL0 that called it. */
const inVtl1 = (program: (g: Vtls) => Program, options: Partial<HvOptions> = {}, vps = 1): Vtls => {
  const g = new Vtls(vps, options);
  let finished = false;
  g.run([[function* () { yield* hypercalls(0); yield* enableVtl(0, 1); yield* vtlCall(); }, function* () { yield* hypercalls(1); yield* program(g)(); finished = true; }]]);
  expect(finished || g.machine.vp(0).current === 0).toBe(true);
  return g;
};

describe('Get and SetVpRegisters', () => {
  it('check operands in the order of the table', () => {
    const statuses: [number, number][] = [];
    const g = new Vtls(1);
    g.run([[function* () {
      yield* hypercalls(0);
      const all = [HvRegister.Cr0, HvRegister.Cr3, HvRegister.Cr4];
      for (const [vtl, who, names] of [
        [0, { partition: 1n }, all], [0, { vp: 0xacac_acac }, all], [0, { vp: 0xffff_ffff }, all], [0x20, {}, all], [0x1f, {}, all], [0x11, {}, all], [0, {}, [0xacac_acac, ...all]], [0, {}, all], [0x10, { vp: 0 }, all],
      ] as const) {
        const get = yield* slow(0, 0x50, registerInput(vtl, names, null, who), names.length);
        const set = yield* slow(0, 0x51, registerInput(vtl, names, names.map((n) => (n === HvRegister.Cr0 ? 0x8000_0011n : n === HvRegister.Cr3 ? 0x5000n : 0x20n)), who), names.length);
        statuses.push([get.status, set.status]);
      }
    }]]);
    // @spec TLFS HvCallGetVpRegisters; kvm-unit-tests x86/hyperv_vsm.c
    expect(statuses).toEqual([[6, 6], [0xe, 0xe], [0xe, 0xe], [5, 5], [5, 5], [6, 6], [5, 5], [0, 0], [0, 0]]);
  });

  it('apply what comes before the element that fails, and say how many', () => {
    const g = inVtl1((r) => function* () {
      const names = [HvRegister.Rsp, HvRegister.Cr3, HvRegister.Cr4, HvRegister.Rip];
      const { status, done } = yield* slow(1, 0x51, registerInput(LOWER, names, [0x77n, 0x6000n, 1n << 40n, 0x99n]), 4);
      expect([status, done]).toEqual([0x50, 2]);
      expect([r.get(0, 0, 'rsp'), r.get(0, 0, 'cr3'), r.get(0, 0, 'cr4')]).toEqual([0x77n, 0x6000n, 0x20n]);
    });
    expect(g.get(0, 0, 'rsp')).toBe(0x77n);
  });

  it('give values only for elements before the failing one', () => {
    inVtl1((g) => function* () {
      const { status, done } = yield* slow(1, 0x50, registerInput(LOWER, [HvRegister.Cr0, 0xacac_acac, HvRegister.Cr3], null), 3);
      expect([status, done]).toEqual([5, 1]);
      expect(new DataView(g.bytes(1, Page.Output + 0x200, 8).buffer).getBigUint64(0, true)).toBe(0x8000_0011n);
    });
  });

  it('of the caller itself are refused by option', () => {
    const seen: number[] = [];
    inVtl1(() => function* () {
      for (const vtl of [0x11, 0x10]) seen.push(yield* setRegister(1, HvRegister.Rsp, 1n, vtl));
      seen.push(yield* setRegister(1, HvRegister.VsmVina, 0x20n));
    }, { strictSelfRegs: true });
    expect(seen).toEqual([6, 0, 0]);
  });

  it('of another VP are allowed, and reach that VP', () => {
    const g = inVtl1(() => function* () {
      expect(yield* setRegister(1, HvRegister.Rsp, 0x123n, LOWER, { vp: 1 })).toBe(0);
      expect(yield* getRegister(1, HvRegister.Rsp, LOWER, { vp: 1 })).toBe(0x123n);
      // VP1 has no VTL1.
      expect(yield* getRegister(1, HvRegister.Rsp, 0x11, { vp: 1 })).toBe(-5n);
    }, {}, 2);
    expect([g.get(0, 0, 'rsp'), g.get(1, 0, 'rsp')]).toEqual([0n, 0x123n]);
  });

  it('of the VTL that runs decide where the call returns to', () => {
    const g = new Vtls(1);
    const at: bigint[] = [];
    g.run([[function* () {
      yield* hypercalls(0);
      yield* setRegister(0, HvRegister.Rip, 0x5000n);
      at.push((yield { op: 'get', names: ['rip'] }).cells['rip']!);
    }]]);
    expect(at[0]! >= 0x5000n && at[0]! < 0x5004n).toBe(true);
  });
});

describe('registers of a lower VTL', () => {
  const SEGMENT = 0x1234n | (0xffffn << 64n) | (0x28n << 96n) | (0xc093n << 112n);
  /** [name, a legal value, how it reads back, an illegal value and its status] */
  const rows: readonly (readonly [HvRegisterName, bigint, bigint, bigint | null])[] = [
    ['Rax', 0x1122_3344_5566_7788n, 0x1122_3344_5566_7788n, null],
    ['R15', 1n, 1n, null],
    ['Rsp', 0x8000n, 0x8000n, null],
    ['Rip', 0x9000n, 0x9000n, 1n << 47n],
    ['Rflags', 0x202n, 0x202n, 1n << 22n],
    ['Xmm3', (5n << 64n) | 7n, (5n << 64n) | 7n, null],
    ['Ymm2High', (1n << 127n) | 1n, (1n << 127n) | 1n, null],
    ['FpMmx1', (0x3fffn << 64n) | (1n << 63n), (0x3fffn << 64n) | (1n << 63n), 1n << 81n],
    ['FpControlStatus', 0x37fn | (0x42n << 64n), 0x37fn | (0x42n << 64n), null],
    ['XmmControlStatus', 0x1fa0n << 64n, (0x1fa0n << 64n) | (0xffffn << 96n), 1n << 95n],
    ['Cr0', 0x8001_0011n, 0x8001_0011n, 0x8000_0010n],
    ['Cr2', 0x1234n, 0x1234n, null],
    ['Cr3', 0x7000n, 0x7000n, 1n << 60n],
    ['Cr4', 0x220n, 0x220n, 0n],
    ['Cr8', 3n, 3n, 16n],
    ['Xfem', 3n, 3n, 2n],
    ['Dr0', 0x1000n, 0x1000n, null],
    ['Dr6', 0xffff_0ff1n, 0xffff_0ff1n, 1n << 32n],
    ['Dr7', 0x401n, 0x401n, 1n << 32n],
    ['Cs', 0n | (0xffff_ffffn << 64n) | (8n << 96n) | (0xa09bn << 112n), (0xffff_ffffn << 64n) | (8n << 96n) | (0xa09bn << 112n), 1n << 120n],
    ['Fs', SEGMENT, SEGMENT, 1n << 47n],
    ['Tr', SEGMENT, SEGMENT, null],
    ['Idtr', (0xfffn << 48n) | (0x3000n << 64n), (0xfffn << 48n) | (0x3000n << 64n), 1n << 111n],
    ['Gdtr', (0x7fn << 48n) | (0x4000n << 64n), (0x7fn << 48n) | (0x4000n << 64n), null],
    ['Efer', 0x501n, 0x501n, 1n << 40n],
    ['KernelGsBase', 0x1000n, 0x1000n, 1n << 47n],
    ['Pat', 0x0007_0406_0007_0406n, 0x0007_0406_0007_0406n, 2n],
    ['Star', 1n, 1n, null],
    ['Lstar', 2n, 2n, 1n << 47n],
    ['Cstar', 3n, 3n, 1n << 47n],
    ['Sfmask', 4n, 4n, 1n << 32n],
    ['SysenterCs', 5n, 5n, null],
    ['SysenterEip', 6n, 6n, null],
    ['TscAux', 7n, 7n, 1n << 32n],
    ['MtrrDefType', 0xc06n, 0xc06n, 2n],
    ['InterruptState', 3n, 3n, 4n],
    ['PendingInterruption', 0x40n << 16n | 1n, 0x40n << 16n | 1n, 3n],
    ['Sint3', 0x50n, 0x50n, 0x5n],
    ['VpAssistPage', 0x1_7001n, 0x1_7001n, null],
  ];
  it.each(rows)('%s', (name, value, back, illegal) => {
    inVtl1(() => function* () {
      expect(yield* setRegister(1, HvRegister[name], value, LOWER)).toBe(0);
      // RAX and the like are shared: the calls of VTL1 itself use them.
      if (name !== 'Rax') expect(yield* getRegister(1, HvRegister[name], LOWER)).toBe(back);
      if (illegal !== null) {
        expect(yield* setRegister(1, HvRegister[name], illegal, LOWER)).toBe(0x50);
        expect(yield* getRegister(1, HvRegister[name], LOWER)).toBe(back);
      }
    });
  });

  it('are those of the VTL named, in its own bank: CSTAR sticks (OpenVMM #1279), TSC_AUX is private (OpenVMM #177)', () => {
    const g = inVtl1(() => function* () {
      for (const [name, value] of [['Cstar', 0x11n], ['TscAux', 0x22n]] as const) {
        yield* setRegister(1, HvRegister[name], value, LOWER);
        yield* setRegister(1, HvRegister[name], value + 1n);
      }
      yield* vtlReturn();
    });
    expect([g.get(0, 0, 'cstar'), g.get(0, 1, 'cstar'), g.get(0, 0, 'tscAux'), g.get(0, 1, 'tscAux')]).toEqual([0x11n, 0x12n, 0x22n, 0x23n]);
  });

  it('that are shared have one value, wherever they are asked for', () => {
    inVtl1(() => function* () {
      yield* setRegister(1, HvRegister.Cr2, 0xabcn, LOWER);
      expect(yield* getRegister(1, HvRegister.Cr2)).toBe(0xabcn);
      expect((yield { op: 'get', names: ['cr2'] }).cells['cr2']).toBe(0xabcn);
    });
  });

  it('refuse to be written where they are read-only, and APIC_BASE any other value', () => {
    const seen: number[] = [];
    inVtl1(() => function* () {
      for (const name of ['VpIndex', 'VsmVpStatus', 'VsmPartitionStatus', 'VsmCapabilities', 'VsmCodePageOffsets', 'Sversion', 'VpRuntime', 'TimeRefCount', 'HypervisorVersion', 'InitialApicId'] as const) seen.push(yield* setRegister(1, HvRegister[name], 0n, LOWER));
      seen.push(yield* setRegister(1, HvRegister.ApicBase, 0xfee0_0900n, LOWER), yield* setRegister(1, HvRegister.ApicBase, 0xfee0_0d00n, LOWER));
    });
    expect(seen).toEqual([5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 0, 5]);
  });
});

describe('registers of VSM', () => {
  it('show stub offsets by the mode of the VTL, capabilities in both layouts, leaves of CPUID', () => {
    const seen: unknown[] = [];
    for (const vsmCapsLayout of ['lsb', 'tlfs'] as const) {
      inVtl1(() => function* () {
        seen.push(yield* getRegister(1, HvRegister.VsmCapabilities));
        if (vsmCapsLayout === 'lsb') seen.push(yield* getRegister(1, HvRegister.VsmCodePageOffsets), yield* getRegister(1, HvRegister.VpIndex), (yield* getRegister(1, HvRegister.HypervisorVersion)) & 0xffff_ffffn);
      }, { vsmCapsLayout });
    }
    expect(seen).toEqual([(1n << 17n) | (3n << 27n), 0x2600fn, 0n, 20_348n, 1n << 46n]);
  });

  it('are kept from VTL0 that may not use VSM', () => {
    const g = new Vtls(1, { withhold: ['accessVsm'] });
    const seen: unknown[] = [];
    g.run([[function* () {
      yield* hypercalls(0);
      for (const name of ['VsmPartitionStatus', 'VsmCapabilities', 'VsmVpStatus', 'Rip'] as const) seen.push(yield* getRegister(0, HvRegister[name]));
    }]]);
    expect(seen.map((v) => (v as bigint) < 0n)).toEqual([true, true, true, false]);
  });
});

describe('suspend and activity registers', () => {
  it('hold a VP and let it go on', () => {
    const g = inVtl1(() => function* () {
      yield* setRegister(1, HvRegister.ExplicitSuspend, 1n, LOWER, { vp: 1 });
      expect(yield* getRegister(1, HvRegister.ExplicitSuspend, LOWER, { vp: 1 })).toBe(1n);
      expect(yield* setRegister(1, HvRegister.ExplicitSuspend, 2n, LOWER, { vp: 1 })).toBe(0x50);
    }, {}, 2);
    expect(g.machine.vp(1).suspended).toBe(true);
  });

  it('tell and set why a VTL does not run', () => {
    const g = inVtl1((r) => function* () {
      expect(yield* getRegister(1, HvRegister.InternalActivityState, LOWER, { vp: 1 })).toBe(1n);
      expect(yield* setRegister(1, HvRegister.InternalActivityState, 2n, LOWER)).toBe(0);
      expect(r.context(0, 0).activity).toBe(Activity.Halted);
      expect(yield* setRegister(1, HvRegister.InternalActivityState, 4n, LOWER)).toBe(0x50);
      expect(yield* setRegister(1, HvRegister.InternalActivityState, 0n)).toBe(0x50);
      expect(yield* setRegister(1, HvRegister.InternalActivityState, 0n, LOWER)).toBe(0);
    }, {}, 2);
    expect(g.context(0, 0).activity).not.toBe(Activity.WaitForSipi);
  });
});

describe('the register table', () => {
  it('has a row for every declared register', () => {
    expect(registerSupport.map((r) => r.name)).toEqual(REGISTERS.map((r) => r.name));
    expect(registerSupport.filter((r) => r.support === 'yes').length).toBeGreaterThan(200);
  });

  it('answers every register of every VTL without a host error', () => {
    inVtl1((g) => function* () {
      for (const { number } of REGISTERS) {
        for (const vtl of [0x10, 0x11]) {
          const value = yield* getRegister(1, number, vtl);
          expect(value >= -0x87n).toBe(true);
        }
        for (const value of [0n, 1n, (1n << 128n) - 1n]) if (!['Rip', 'ExplicitSuspend', 'InternalActivityState', 'PendingEvent0', 'PendingInterruption'].some((n) => HvRegister[n as HvRegisterName] === number)) yield* setRegister(1, number, value, LOWER);
      }
      expect(readRegister(g.machine.arena, g.context(0, 1).base, 'cpl')).toBe(0n);
    }, { maximumVtl: 2 });
  });
});
