import { HvRegister, type HvRegisterName, registerOf } from '@vmplanes/abi-hyperv';
import type { PlaneContext } from '@vmplanes/engine';
import { ApicReg, readRegister, type RegisterName, writePage, writeRegister } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { Rig } from '../fixture.ts';
import { readHvRegister, writeHvRegister } from './table.ts';

const OK = 0, PARAMETER = 5, VALUE = 0x50;
const M64 = (1n << 64n) - 1n;

/** Registers of any VTL, as VTL1 of VP0 reaches them. */
class Bank extends Rig {
  constructor(cpuModel = 'base') {
    super(2, {}, [], { cpuModel });
    for (const vp of this.machine.vps) for (const c of vp.planes) if (c) for (const [name, value] of [['cr0', 0x8000_0011n], ['cr4', 0x20n], ['efer', 0x500n]] as const) this.put(c, name, value);
  }
  readonly caller = this.context(0, 1);
  put(c: PlaneContext, cell: RegisterName, value: bigint): void {
    writeRegister(this.machine.arena, this.machine.blockOf(c, cell), cell, value);
  }
  cell(c: PlaneContext, cell: RegisterName): bigint {
    return readRegister(this.machine.arena, this.machine.blockOf(c, cell), cell);
  }
  get(target: PlaneContext, name: HvRegisterName, caller = this.caller): bigint | number {
    return readHvRegister({ hv: this, target, caller }, HvRegister[name]);
  }
  set(target: PlaneContext, name: HvRegisterName, value: bigint, caller = this.caller): number {
    return writeHvRegister({ hv: this, target, caller }, HvRegister[name], value);
  }
}

const GENERALS = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const;
const capital = (name: string): HvRegisterName => `${name[0]!.toUpperCase()}${name.slice(1)}` as HvRegisterName;
const numbers = (count: number): readonly number[] => Array.from({ length: count }, (_, n) => n);

/** Registers that are one cell of the processor's state. */
const CELLS: readonly (readonly [HvRegisterName, RegisterName])[] = [
  ...GENERALS.map((cell) => [capital(cell), cell] as const),
  ...(['dr0', 'dr1', 'dr2', 'dr3', 'cr2'] as const).map((cell) => [capital(cell), cell] as const),
  ...numbers(16).flatMap((n) => [[`Xmm${n}`, `xmm${n}`], [`Ymm${n}High`, `ymmHigh${n}`]] as [HvRegisterName, RegisterName][]),
  ...numbers(8).map((n) => [`FpMmx${n}`, `st${n}`] as [HvRegisterName, RegisterName]),
];
const widthOf = (name: HvRegisterName): bigint => (name.startsWith('FpMmx') ? 80n : BigInt(registerOf(HvRegister[name])!.bits));
const valueOf = (i: number, name: HvRegisterName): bigint => (0x8001_0203_0405_0607_1819_2a2b_3c3d_4e4fn + BigInt(i) * 0x0001_0000_0000_0100_0000_0000_0001_0001n) & ((1n << widthOf(name)) - 1n);

describe('registers that are cells', () => {
  it('have the width of the register, each its own place', () => {
    const bank = new Bank();
    const target = bank.context(1, 1);
    CELLS.forEach(([name], i) => expect(bank.set(target, name, valueOf(i, name)), name).toBe(OK));
    CELLS.forEach(([name, cell], i) => expect([bank.get(target, name), bank.cell(target, cell)], name).toEqual([valueOf(i, name), valueOf(i, name)]));
  });
  it('take the low half of what is written where they have 64 bits', () => {
    const bank = new Bank();
    const target = bank.context(1, 0);
    const wide = (0xdeadn << 64n) | 0x1234n;
    for (const name of ['Rax', 'R15', 'Dr3', 'Rsp', 'Ssp', 'Rip', 'Cr2', 'Cr3', 'Dr7', 'Lstar'] as const) {
      expect(bank.set(target, name, name === 'Dr7' ? (wide & ~M64) | 0x400n : name === 'Cr3' ? (wide & ~M64) | 0x1000n : wide), name).toBe(OK);
      expect(bank.get(target, name), name).toBe(name === 'Dr7' ? 0x400n : name === 'Cr3' ? 0x1000n : 0x1234n);
    }
  });
  it('of x87 have 80 bits', () => {
    const bank = new Bank();
    const target = bank.context(0, 0);
    expect([bank.set(target, 'FpMmx7', (1n << 80n) - 1n), bank.set(target, 'FpMmx7', 1n << 80n), bank.get(target, 'FpMmx7')]).toEqual([OK, VALUE, (1n << 80n) - 1n]);
  });
  it('of lower YMM halves are XMM', () => {
    const bank = new Bank();
    const target = bank.context(0, 0);
    for (const n of numbers(16)) expect(bank.set(target, `Ymm${n as 0}Low`, BigInt(0x100 + n) << 100n)).toBe(OK);
    expect(numbers(16).map((n) => bank.cell(target, `xmm${n as 0}`))).toEqual(numbers(16).map((n) => BigInt(0x100 + n) << 100n));
    expect(bank.get(target, 'Ymm5Low')).toBe(0x105n << 100n);
  });
});

/** Registers that are an MSR of the processor: index by the manuals, a value that it can have, one that it cannot. */
const MSRS: readonly (readonly [HvRegisterName, index: number, legal: bigint, illegal: bigint | null])[] = [
  ['Efer', 0xc000_0080, 0x501n, 1n << 40n], ['Star', 0xc000_0081, 0x1122_3344_5566_7701n, null], ['Lstar', 0xc000_0082, 0xffff_8000_0000_0002n, 1n << 47n], ['Cstar', 0xc000_0083, 0xffff_8000_0000_0003n, 1n << 47n],
  ['Sfmask', 0xc000_0084, 0x4_7704n, 1n << 32n], ['KernelGsBase', 0xc000_0102, 0xffff_8000_0000_0005n, 1n << 47n], ['TscAux', 0xc000_0103, 0x66n, 1n << 32n],
  ['SysenterCs', 0x174, 0x77n, null], ['SysenterEsp', 0x175, 0x8000_0008n, null], ['SysenterEip', 0x176, 0x8000_0009n, null],
  ['Pat', 0x277, 0x0106_0407_0001_0506n, 2n], ['MtrrDefType', 0x2ff, 0xc06n, 2n],
  ...numbers(8).flatMap((n) => [[`MtrrPhysBase${n}`, 0x200 + 2 * n, BigInt(0x10_0000 * (n + 1)) | 6n, 2n], [`MtrrPhysMask${n}`, 0x201 + 2 * n, BigInt(0x100_0000 * (n + 1)) | 0x800n, 1n]] as [HvRegisterName, number, bigint, bigint][]),
  ...([['64k00000', 0x250], ['16k80000', 0x258], ['16kA0000', 0x259], ['4kC0000', 0x268], ['4kC8000', 0x269], ['4kD0000', 0x26a], ['4kD8000', 0x26b], ['4kE0000', 0x26c], ['4kE8000', 0x26d], ['4kF0000', 0x26e], ['4kF8000', 0x26f]] as const)
    .map(([name, index], n) => [`MtrrFix${name}`, index, 0x0600_0601_0405_0600n ^ (BigInt(1 + n % 5 === 2 || 1 + n % 5 === 3 ? 4 : 1 + n % 5) << 48n), 2n] as [HvRegisterName, number, bigint, bigint]),
];

describe('registers that are MSRs', () => {
  it('follow the rules of WRMSR, one value each', () => {
    const bank = new Bank();
    const target = bank.context(1, 0);
    for (const [name, , legal] of MSRS) expect(bank.set(target, name, legal | (0xffn << 64n)), name).toBe(OK);
    for (const [name, index, legal, illegal] of MSRS) {
      expect([bank.get(target, name), bank.arch.registers.readMsr(target, index, false)], name).toEqual([legal, legal]);
      if (illegal !== null) expect([bank.set(target, name, illegal), bank.get(target, name)], name).toEqual([VALUE, legal]);
    }
  });
  it('of newer processors follow them, too', () => {
    const bank = new Bank('epyc-like');
    const target = bank.context(1, 0);
    bank.put(target, 'cr4', 0x20n | (1n << 16n) | (1n << 23n));
    bank.put(target, 'cr0', 0x8001_0011n);
    const rows = [['SpecCtrl', 0x48, 1n], ['VirtSpecCtrl', 0xc001_011f, 4n], ['Xss', 0xda0, 0x800n], ['UCet', 0x6a0, 1n], ['SCet', 0x6a2, 3n], ['Pl0Ssp', 0x6a4, 0x1000n], ['Pl1Ssp', 0x6a5, 0x2000n], ['Pl2Ssp', 0x6a6, 0x3000n], ['Pl3Ssp', 0x6a7, 0x4000n],
      ['InterruptSspTableAddr', 0x6a8, 0x5000n], ['DebugCtl', 0x1d9, 1n], ['TscAdjust', 0x3b, 0x100n], ['Ia32MiscEnable', 0x1a0, null], ['Ia32FeatureControl', 0x3a, null], ['MtrrCap', 0xfe, null], ['McUpdatePatchLevel', 0x8b, null], ['Tsc', 0x10, null], ['TscDeadline', 0x6e0, null]] as const;
    for (const [name, , value] of rows) if (value !== null) expect([name, bank.set(target, name, value)]).toEqual([name, OK]);
    for (const [name, index, value] of rows) {
      const msr = bank.arch.registers.readMsr(target, index, false);
      expect([name, typeof msr, bank.get(target, name)]).toEqual([name, index === 0x3a ? 'string' : 'bigint', value ?? (index === 0x3a ? PARAMETER : msr)]);
    }
    expect([bank.set(target, 'PredCmd', 1n), bank.set(target, 'PredCmd', 1n << 40n)]).toEqual([OK, VALUE]);
    expect([bank.set(target, 'Xfem', 7n), bank.get(target, 'Xfem'), bank.cell(target, 'xcr0')]).toEqual([OK, 7n, 7n]);
  });
  it('that the processor has not are no registers', () => {
    const bank = new Bank();
    const target = bank.context(1, 0);
    for (const name of ['SpecCtrl', 'Xss', 'SCet', 'Pl0Ssp'] as const) expect(bank.get(target, name), name).toBe(PARAMETER);
  });
  it('that cannot be read or written say so', () => {
    const bank = new Bank();
    const target = bank.context(0, 0);
    expect([bank.get(target, 'PredCmd'), bank.set(target, 'MtrrCap', 0n), bank.set(target, 'McUpdatePatchLevel', 0n), bank.set(target, 'InitialApicId', 0n)]).toEqual([PARAMETER, PARAMETER, PARAMETER, PARAMETER]);
    expect([bank.get(bank.context(1, 0), 'InitialApicId'), bank.get(target, 'InitialApicId')]).toEqual([1n, 0n]);
  });
  it('APIC_BASE keeps its value, whole', () => {
    const bank = new Bank();
    const target = bank.context(1, 0);
    expect(bank.get(target, 'ApicBase')).toBe(0xfee0_0800n);
    expect([bank.set(target, 'ApicBase', (7n << 64n) | 0xfee0_0800n), bank.set(target, 'ApicBase', 0xfee0_0900n), bank.set(target, 'ApicBase', 0n)]).toEqual([OK, PARAMETER, PARAMETER]);
    expect(bank.get(bank.context(0, 0), 'ApicBase')).toBe(0xfee0_0900n);
  });
});

describe('segments and tables', () => {
  const value = (base: bigint, limit: number, selector: number, attributes: number): bigint => base | (BigInt(limit) << 64n) | (BigInt(selector) << 96n) | (BigInt(attributes) << 112n);
  it.each(['Es', 'Cs', 'Ss', 'Ds', 'Fs', 'Gs', 'Ldtr', 'Tr'] as const)('%s', (name) => {
    const bank = new Bank();
    const target = bank.context(1, 0), other = bank.context(1, 1);
    const cell = name.toLowerCase() as 'es';
    const written = value(0xffff_8765_4321_0abcn, 0x8765_4321, 0x8765, 0xa0b3);
    const cpl = bank.cell(target, 'cpl');
    expect(bank.set(target, name, written)).toBe(OK);
    expect(bank.get(target, name)).toBe(written);
    expect([bank.cell(target, `${cell}.base`), bank.cell(target, `${cell}.limit`), bank.cell(target, `${cell}.selector`), bank.cell(target, `${cell}.attributes`)]).toEqual([0xffff_8765_4321_0abcn, 0x8765_4321n, 0x8765n, 0xab3n]);
    // The stack segment carries the privilege level: 0xb3 has DPL 1.
    expect(bank.cell(target, 'cpl')).toBe(name === 'Ss' ? 1n : cpl);
    expect(bank.get(other, name)).not.toBe(written);
    for (const bit of [8, 9, 10, 11]) expect(bank.set(target, name, value(0n, 0, 0, 1 << bit)), String(bit)).toBe(VALUE);
    expect(bank.set(target, name, value(1n << 47n, 0, 0, 0x93))).toBe(VALUE);
    expect(bank.get(target, name)).toBe(written);
  });
  it.each([[0, 0x93], [1, 0xb3], [2, 0xd3], [3, 0xf3]])('SS of level %i sets CPL', (cpl, attributes) => {
    const bank = new Bank();
    const target = bank.context(0, 0);
    bank.put(target, 'cpl', BigInt(3 - cpl));
    expect(bank.set(target, 'Ss', value(0n, 0, 0, attributes))).toBe(OK);
    expect(bank.cell(target, 'cpl')).toBe(BigInt(cpl));
  });
  it.each(['Idtr', 'Gdtr'] as const)('%s', (name) => {
    const bank = new Bank();
    const target = bank.context(1, 0);
    const cell = name.toLowerCase() as 'idtr';
    const written = (0xffff_8765_4321_0abcn << 64n) | (0x8321n << 48n);
    // What lies below the limit does not count.
    expect(bank.set(target, name, written | 0xffff_ffff_ffffn)).toBe(OK);
    expect([bank.get(target, name), bank.cell(target, `${cell}.base`), bank.cell(target, `${cell}.limit`)]).toEqual([written, 0xffff_8765_4321_0abcn, 0x8321n]);
    expect([bank.set(target, name, 1n << (64n + 47n)), bank.get(target, name)]).toEqual([VALUE, written]);
  });
});

describe('control and flags', () => {
  const rows: readonly (readonly [HvRegisterName, RegisterName, legal: readonly bigint[], illegal: readonly bigint[]])[] = [
    ['Cr0', 'cr0', [0x8001_0011n, 0x8000_0033n, 0x8005_003bn], [0x8000_0010n, (1n << 32n) | 0x8000_0011n]],
    ['Cr3', 'cr3', [0x7000n, 0x1f_f000n], [1n << 60n]],
    ['Cr4', 'cr4', [0x220n, 0x6a0n], [0n, 1n << 40n]],
    ['Dr6', 'dr6', [0xffff_0ff1n, 0xffff_4ff0n], [1n << 32n]],
    ['Dr7', 'dr7', [0x401n, 0xffff_0455n], [1n << 32n]],
    ['Xfem', 'xcr0', [3n, 1n], [2n, 0n, 5n]],
    ['Rflags', 'rflags', [0x202n, 0x4_0246n, 2n], [1n << 22n, 1n << 63n]],
    ['Rip', 'rip', [0x9000n, 0xffff_8000_0000_0000n, 0x7fff_ffff_ffffn], [1n << 47n, 0xffff_7fff_ffff_ffffn]],
  ];
  it.each(rows)('%s', (name, cell, legal, illegal) => {
    const bank = new Bank();
    const target = bank.context(1, 0);
    bank.put(target, 'cr4', 0x4_0020n);
    for (const value of legal) {
      expect(bank.set(target, name, value), value.toString(16)).toBe(OK);
      expect([bank.get(target, name), bank.cell(target, cell)]).toEqual([value, value]);
    }
    const before = bank.cell(target, cell);
    for (const value of illegal) expect([bank.set(target, name, value), bank.cell(target, cell)], value.toString(16)).toEqual([VALUE, before]);
  });
  it('CR0 without paging ends long mode, with it begins it', () => {
    const bank = new Bank();
    const target = bank.context(0, 0);
    expect([bank.set(target, 'Cr0', 0x11n), bank.cell(target, 'efer')]).toEqual([OK, 0x100n]);
    expect([bank.set(target, 'Cr0', 0x8000_0011n), bank.cell(target, 'efer')]).toEqual([OK, 0x500n]);
  });
  it('a reserved flag that is always set may be left out', () => {
    const bank = new Bank();
    const target = bank.context(0, 0);
    expect([bank.set(target, 'Rflags', 0x200n), bank.get(target, 'Rflags')]).toEqual([OK, 0x202n]);
  });
  it('RIP of the caller counts from behind the call', () => {
    const bank = new Bank();
    bank.caller.instructionLength = 3;
    expect([bank.set(bank.caller, 'Rip', 0x5000n), bank.cell(bank.caller, 'rip')]).toEqual([OK, 0x4ffdn]);
    expect([bank.set(bank.caller, 'Rip', 1n), bank.cell(bank.caller, 'rip')]).toEqual([OK, M64 - 1n]);
    const lower = bank.context(0, 0);
    lower.instructionLength = 3;
    expect([bank.set(lower, 'Rip', 0x5000n), bank.cell(lower, 'rip')]).toEqual([OK, 0x5000n]);
  });
  it('CR8 is the task priority of the VTL', () => {
    const bank = new Bank();
    const target = bank.context(1, 0);
    expect([bank.set(target, 'Cr8', 15n), bank.get(target, 'Cr8'), bank.apic(target).cr8, bank.apic(bank.context(0, 0)).cr8]).toEqual([OK, 15n, 15, 0]);
    writePage(bank.apic(target), ApicReg.tpr, 4, 0x50);
    expect([bank.get(target, 'Cr8'), bank.set(target, 'Cr8', 16n), bank.get(target, 'Cr8')]).toEqual([5n, VALUE, 5n]);
  });
  it('SSP is canonical and a multiple of 4', () => {
    const bank = new Bank();
    const target = bank.context(0, 0);
    expect([bank.set(target, 'Ssp', 0xffff_8000_0000_1004n), bank.cell(target, 'ssp')]).toEqual([OK, 0xffff_8000_0000_1004n]);
    for (const value of [1n, 2n, 0x1003n, 1n << 47n]) expect(bank.set(target, 'Ssp', value), value.toString(16)).toBe(VALUE);
    expect(bank.get(target, 'Ssp')).toBe(0xffff_8000_0000_1004n);
  });
});

describe('control words of x87 and SSE', () => {
  const environment = 0x1122_3344_5566_037fn;
  it('FpControlStatus', () => {
    const bank = new Bank();
    const target = bank.context(1, 1);
    const written = environment | (0xffff_8123_4567_89abn << 64n);
    expect([bank.set(target, 'FpControlStatus', written), bank.get(target, 'FpControlStatus')]).toEqual([OK, written]);
    expect([bank.cell(target, 'x87.environment'), bank.cell(target, 'x87.rip')]).toEqual([environment, 0xffff_8123_4567_89abn]);
  });
  it('XmmControlStatus', () => {
    const bank = new Bank();
    const target = bank.context(1, 1);
    const mask = bank.cell(target, 'mxcsrMask');
    expect(mask).toBe(0xffffn);
    expect(bank.set(target, 'XmmControlStatus', environment | (0xffbfn << 64n) | (0x1234n << 96n))).toBe(OK);
    expect([bank.get(target, 'XmmControlStatus'), bank.cell(target, 'x87.dp'), bank.cell(target, 'mxcsr')]).toEqual([environment | (0xffbfn << 64n) | (mask << 96n), environment, 0xffbfn]);
    expect([bank.set(target, 'XmmControlStatus', 0x1_0000n << 64n), bank.set(target, 'XmmControlStatus', 0x8000_0000n << 64n), bank.cell(target, 'mxcsr')]).toEqual([VALUE, VALUE, 0xffbfn]);
  });
});
