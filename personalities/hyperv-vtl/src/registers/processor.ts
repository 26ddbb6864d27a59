import { HvAccess, type HvRegisterName, HvStatus } from '@vmplanes/abi-hyperv';
import {
  isCanonicalAddress, isFault, legalizeCr0, legalizeDr6, legalizeRflags, readControlState, readRegister, type RegisterName, RegisterKey, RflagsBit, type SegmentName, withLma, writeRegister,
} from '@vmplanes/x86';
import { loadSegment, loadTable, readHvSegment, SEGMENT_HOLE, type TableName } from '../segments.ts';
import { MASK_64, type RegisterAccess, type RegisterBinding, stored } from './binding.ts';

const { Success, InvalidParameter, InvalidRegisterValue } = HvStatus;
const DPL_SHIFT = 5;
const MASK_80 = (1n << 80n) - 1n;

/** The block that holds the value: a shared register of a VTL that does not run lies with the running one. */
const blockOf = ({ hv, target }: RegisterAccess, cell: RegisterName): number => hv.machine.blockOf(target, cell);
const readCell = (access: RegisterAccess, cell: RegisterName): bigint => readRegister(access.hv.machine.arena, blockOf(access, cell), cell);
const writeCell = (access: RegisterAccess, cell: RegisterName, value: bigint): void => writeRegister(access.hv.machine.arena, blockOf(access, cell), cell, value);

/** A register that is a cell, which holds as many bits of a value as it has. @param legal - whether it can have a value; by default any. */
const cell = (name: RegisterName, legal: (value: bigint, access: RegisterAccess) => boolean = () => true): RegisterBinding => ({
  read: (access) => readCell(access, name),
  write: (access, value) => {
    if (!legal(value, access)) return InvalidRegisterValue;
    writeCell(access, name, value);
    return Success;
  },
});
const isCanonical = (value: bigint, { hv }: RegisterAccess): boolean => isCanonicalAddress(value, hv.arch.registers.features.la57);

/** A register that is an MSR of the processor, with the rules of WRMSR. */
const msr = (index: number): RegisterBinding => ({
  read: ({ hv, target }) => {
    const value = hv.arch.registers.readMsr(target, index, false);
    return typeof value === 'bigint' ? value : null;
  },
  write: ({ hv, target, row }, value) => {
    const done = hv.arch.registers.writeMsr(target, index, value & MASK_64, false);
    if (done === 'ok') return Success;
    // One that the processor has not is no register, whatever is written.
    const isAbsent = row.access !== HvAccess.WriteOnly && typeof hv.arch.registers.readMsr(target, index, false) !== 'bigint';
    return done === 'unknown' || isAbsent ? InvalidParameter : InvalidRegisterValue;
  },
});

/** A control register, with the rules of MOV. */
const control = (key: RegisterKey, name: 'cr2' | 'cr3' | 'cr4' | 'dr7' | 'xcr0'): RegisterBinding => ({
  read: (access) => readCell(access, name),
  write: ({ hv, target }, value) => stored(hv.arch.registers.writeControl(target, key, value & MASK_64)),
});

/** Reserved bits of the lower half of CR0 are dropped without a word. @spec openvmm openhcl/virt_mshv_vtl/src/processor/hardware_cvm/mod.rs */
const cr0: RegisterBinding = {
  read: (access) => readCell(access, 'cr0'),
  write: (access, value) => {
    const { arena } = access.hv.machine;
    const { base } = access.target;
    const state = readControlState({ arena, base });
    const legal = legalizeCr0(value & MASK_64, state);
    if (isFault(legal)) return InvalidRegisterValue;
    writeRegister(arena, base, 'cr0', legal.value);
    writeRegister(arena, base, 'efer', withLma(state.efer, legal.value));
    return Success;
  },
};

/** @spec TLFS HV_X64_SEGMENT_REGISTER */
const segment = (name: SegmentName): RegisterBinding => ({
  read: ({ hv, target }) => {
    const { base, limit, selector, attributes } = readHvSegment(hv.machine.arena, target.base, name);
    return base | (BigInt(limit) << 64n) | (BigInt(selector) << 96n) | (BigInt(attributes) << 112n);
  },
  write: (access, value) => {
    const base = value & MASK_64;
    const attributes = Number(value >> 112n);
    if (!isCanonical(base, access) || (attributes & SEGMENT_HOLE) !== 0) return InvalidRegisterValue;
    const { arena } = access.hv.machine;
    loadSegment(arena, access.target.base, name, { base, limit: Number((value >> 64n) & 0xffff_ffffn), selector: Number((value >> 96n) & 0xffffn), attributes });
    // The privilege level of a VTL is that of its stack.
    if (name === 'ss') writeRegister(arena, access.target.base, 'cpl', BigInt((attributes >>> DPL_SHIFT) & 3));
    return Success;
  },
});
/** @spec TLFS HV_X64_TABLE_REGISTER */
const table = (name: TableName): RegisterBinding => ({
  read: (access) => (readCell(access, `${name}.limit`) << 48n) | (readCell(access, `${name}.base`) << 64n),
  write: (access, value) => {
    const base = value >> 64n;
    if (!isCanonical(base, access)) return InvalidRegisterValue;
    loadTable(access.hv.machine.arena, access.target.base, name, { base, limit: Number((value >> 48n) & 0xffffn) });
    return Success;
  },
});

/** A write to RIP of the VTL that calls decides where it goes on behind the call. */
const rip: RegisterBinding = {
  read: (access) => readCell(access, 'rip'),
  write: (access, value) => {
    if (!isCanonical(value & MASK_64, access)) return InvalidRegisterValue;
    const retires = access.target === access.caller ? BigInt(access.target.instructionLength) : 0n;
    writeCell(access, 'rip', value - retires);
    return Success;
  },
};
const rflags: RegisterBinding = {
  read: (access) => readCell(access, 'rflags'),
  write: (access, value) => {
    const written = value & MASK_64;
    if ((legalizeRflags(written) | RflagsBit.fixed) !== (written | RflagsBit.fixed)) return InvalidRegisterValue;
    writeCell(access, 'rflags', legalizeRflags(written));
    access.hv.machine.eventsChanged(access.target);
    return Success;
  },
};

const cr8: RegisterBinding = {
  read: ({ hv, target }) => BigInt(hv.arch.apicOf(target).cr8),
  write: ({ hv, target }, value) => stored(hv.arch.registers.writeControl(target, RegisterKey.Cr8, value & MASK_64)),
};
/** The APIC is configured by its own VTL. @spec openvmm openhcl/virt_mshv_vtl/src/processor/hardware_cvm/mod.rs */
const apicBase: RegisterBinding = {
  ...msr(0x1b),
  write: ({ hv, target }, value) => (hv.arch.registers.readMsr(target, 0x1b, false) === (value & MASK_64) ? Success : InvalidParameter),
};

/** Environment and last instruction of the x87. @spec TLFS HV_X64_FP_CONTROL_STATUS_REGISTER */
const fpControlStatus: RegisterBinding = {
  read: (access) => readCell(access, 'x87.environment') | (readCell(access, 'x87.rip') << 64n),
  write: (access, value) => {
    writeCell(access, 'x87.environment', value & MASK_64);
    writeCell(access, 'x87.rip', value >> 64n);
    return Success;
  },
};
/** @spec TLFS HV_X64_XMM_CONTROL_STATUS_REGISTER */
const xmmControlStatus: RegisterBinding = {
  read: (access) => readCell(access, 'x87.dp') | (readCell(access, 'mxcsr') << 64n) | (readCell(access, 'mxcsrMask') << 96n),
  write: (access, value) => {
    const mxcsr = (value >> 64n) & 0xffff_ffffn;
    if ((mxcsr & ~readCell(access, 'mxcsrMask')) !== 0n) return InvalidRegisterValue;
    writeCell(access, 'x87.dp', value & MASK_64);
    writeCell(access, 'mxcsr', mxcsr);
    return Success;
  },
};

/** Equal registers of a row of numbers. */
const each = <K extends HvRegisterName>(count: number, name: (n: number) => K, make: (n: number) => RegisterBinding): Readonly<Partial<Record<HvRegisterName, RegisterBinding>>> =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [name(n), make(n)]));

/** Registers of the processor. */
export const processorRegisters: Readonly<Partial<Record<HvRegisterName, RegisterBinding>>> = {
  Rax: cell('rax'), Rcx: cell('rcx'), Rdx: cell('rdx'), Rbx: cell('rbx'), Rsp: cell('rsp'), Rbp: cell('rbp'), Rsi: cell('rsi'), Rdi: cell('rdi'),
  R8: cell('r8'), R9: cell('r9'), R10: cell('r10'), R11: cell('r11'), R12: cell('r12'), R13: cell('r13'), R14: cell('r14'), R15: cell('r15'),
  Rip: rip,
  Rflags: rflags,
  ...each(16, (n) => `Xmm${n as 0}`, (n) => cell(`xmm${n as 0}`)),
  ...each(8, (n) => `FpMmx${n as 0}`, (n) => cell(`st${n as 0}`, (value) => value <= MASK_80)),
  ...each(16, (n) => `Ymm${n as 0}Low`, (n) => cell(`xmm${n as 0}`)),
  ...each(16, (n) => `Ymm${n as 0}High`, (n) => cell(`ymmHigh${n as 0}`)),
  FpControlStatus: fpControlStatus,
  XmmControlStatus: xmmControlStatus,
  Cr0: cr0,
  Cr2: control(RegisterKey.Cr2, 'cr2'),
  Cr3: control(RegisterKey.Cr3, 'cr3'),
  Cr4: control(RegisterKey.Cr4, 'cr4'),
  Cr8: cr8,
  Xfem: control(RegisterKey.Xcr0, 'xcr0'),
  Dr0: cell('dr0'), Dr1: cell('dr1'), Dr2: cell('dr2'), Dr3: cell('dr3'),
  Dr6: {
    read: (access) => readCell(access, 'dr6'),
    write: (access, value) => {
      const legal = legalizeDr6(value & MASK_64);
      if (isFault(legal)) return InvalidRegisterValue;
      writeCell(access, 'dr6', legal.value);
      return Success;
    },
  },
  Dr7: control(RegisterKey.Dr7, 'dr7'),
  Es: segment('es'), Cs: segment('cs'), Ss: segment('ss'), Ds: segment('ds'), Fs: segment('fs'), Gs: segment('gs'), Ldtr: segment('ldtr'), Tr: segment('tr'),
  Idtr: table('idtr'), Gdtr: table('gdtr'),
  Tsc: msr(0x10),
  Efer: msr(0xc000_0080),
  KernelGsBase: msr(0xc000_0102),
  ApicBase: apicBase,
  Pat: msr(0x277),
  SysenterCs: msr(0x174), SysenterEip: msr(0x176), SysenterEsp: msr(0x175),
  Star: msr(0xc000_0081), Lstar: msr(0xc000_0082), Cstar: msr(0xc000_0083), Sfmask: msr(0xc000_0084),
  InitialApicId: { read: ({ hv, target }) => BigInt(hv.arch.apicOf(target).initialId) },
  MtrrCap: { read: msr(0xfe).read! },
  MtrrDefType: msr(0x2ff),
  ...each(8, (n) => `MtrrPhysBase${n as 0}`, (n) => msr(0x200 + 2 * n)),
  ...each(8, (n) => `MtrrPhysMask${n as 0}`, (n) => msr(0x201 + 2 * n)),
  MtrrFix64k00000: msr(0x250), MtrrFix16k80000: msr(0x258), MtrrFix16kA0000: msr(0x259),
  MtrrFix4kC0000: msr(0x268), MtrrFix4kC8000: msr(0x269), MtrrFix4kD0000: msr(0x26a), MtrrFix4kD8000: msr(0x26b),
  MtrrFix4kE0000: msr(0x26c), MtrrFix4kE8000: msr(0x26d), MtrrFix4kF0000: msr(0x26e), MtrrFix4kF8000: msr(0x26f),
  TscAux: msr(0xc000_0103),
  DebugCtl: msr(0x1d9),
  SpecCtrl: msr(0x48),
  PredCmd: { write: msr(0x49).write! },
  VirtSpecCtrl: msr(0xc001_011f),
  McUpdatePatchLevel: { read: msr(0x8b).read! },
  Xss: msr(0xda0),
  UCet: msr(0x6a0), SCet: msr(0x6a2), Pl0Ssp: msr(0x6a4), Pl1Ssp: msr(0x6a5), Pl2Ssp: msr(0x6a6), Pl3Ssp: msr(0x6a7), InterruptSspTableAddr: msr(0x6a8),
  Ssp: cell('ssp', (value, access) => (value & 3n) === 0n && isCanonical(value & MASK_64, access)),
  TscDeadline: msr(0x6e0),
  TscAdjust: msr(0x3b),
  Ia32MiscEnable: msr(0x1a0),
  Ia32FeatureControl: msr(0x3a),
};

