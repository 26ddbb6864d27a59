import { HvCall, HvRegister, type HvRegisterName } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { type BenchConfig, policies } from './bench.ts';
import { booted, contextOf, DATA, Guest, hypercallPage, PROTECT, ready, type ReadyConfig, SELF, target, VP_SELF } from './guest.ts';

// What EnablePartitionVtl, EnableVpVtl, ModifyVtlProtectionMask, VsmPartitionConfig and Get/SetVpRegisters refuse, and with which
// status; where public sources disagree, the switch is named and each side is a row.

const OK = 0, INPUT = 3, PARAMETER = 5, DENIED = 6, OPERATION = 8, PARTITION = 0xd, VP = 0xe, VALUE = 0x50, VTL_STATE = 0x51, ALREADY = 0x86;
const frame = DATA >> 12;
type Options = NonNullable<BenchConfig['options']>;

/** A guest in VTL0 without VTL1. */
const plain = (config: BenchConfig): Guest => booted({ vps: 2, ...config });
/** A guest in VTL0 with the hypercall interface alone. */
const bare = (config: BenchConfig): Guest => {
  const guest = new Guest(config);
  guest.openInterface();
  return guest;
};
/** A guest whose partition has VTL1, but no VP. */
const partition = (config: BenchConfig): Guest => {
  const guest = plain(config);
  guest.enablePartitionVtl(1);
  return guest;
};
/** A guest with VTL1 on VP 0 only, in VTL0. */
const first = (config: ReadyConfig): Guest => ready({ vps: 2, secure: 1, ...config });
/** A guest with VTL1 on VP 0 only, in VTL1. */
const inVtl1 = (config: ReadyConfig): Guest => {
  const guest = first(config);
  guest.enter();
  return guest;
};
/** The same before VTL1 has configured anything. */
const unconfigured = (config: BenchConfig): Guest => inVtl1({ ...config, partitionConfig: null });

interface Row {
  readonly title: string;
  readonly on: (config: BenchConfig) => Guest;
  readonly options?: Options;
  readonly act: (guest: Guest) => number;
  readonly status: number;
}
const row = (title: string, on: Row['on'], act: Row['act'], status: number, options?: Options): Row => ({ title, on, act, status, ...(options ? { options } : {}) });

// -- HvCallEnablePartitionVtl -----------------------------------------------------------------------------------------------------

const enable = (over: object, fast = true) => (g: Guest): number => g.call(HvCall.EnablePartitionVtl, { header: { targetPartitionId: SELF, targetVtl: 1, flags: 0, ...over }, fast }).status;
const enablePartition: readonly Row[] = [
  row('another partition', plain, enable({ targetPartitionId: 42n }), PARTITION),
  row('the invalid partition', plain, enable({ targetPartitionId: 0n }), PARTITION),
  row('another partition, slow', plain, enable({ targetPartitionId: 42n }, false), PARTITION),
  row('VTL0', plain, enable({ targetVtl: 0 }), PARAMETER),
  row('VTL0 (badVtlStatus 6)', plain, enable({ targetVtl: 0 }), DENIED, { badVtlStatus: 6 }),
  row('VTL2, above the maximum', plain, enable({ targetVtl: 2 }), PARAMETER),
  row('VTL2, above the maximum (badVtlStatus 6)', plain, enable({ targetVtl: 2 }), DENIED, { badVtlStatus: 6 }),
  row('VTL15', plain, enable({ targetVtl: 15 }), PARAMETER),
  row('HV_INVALID_VTL', plain, enable({ targetVtl: 0xff }), PARAMETER),
  row('VTL1 where the host permits no VSM', plain, (g) => Number((g.plain({ op: 'cpuid', leaf: 0x4000_0003 }).rbx >> 16n) & 1n) * 0x100 + enable({})(g), DENIED, { maximumVtl: 0 }),
  row('VTL1 a second time', partition, enable({}), VTL_STATE),
  row('VTL1 a second time (partitionEnabledStatus 5)', partition, enable({}), PARAMETER, { partitionEnabledStatus: 5 }),
  row('VTL1 a second time, by VTL1', inVtl1, enable({}), VTL_STATE),
  row('VTL0, which is enabled', partition, enable({ targetVtl: 0 }), PARAMETER),
  row('MBEC where it is not offered', plain, enable({ flags: 1 }), PARAMETER),
  row('MBEC where it is offered', plain, enable({ flags: 1 }), OK, { mbec: true }),
  row('supervisor shadow stacks', plain, enable({ flags: 2 }), PARAMETER),
  row('hardware HVPT', plain, enable({ flags: 4 }), PARAMETER),
  row('a reserved flag', plain, enable({ flags: 0x80 }), PARAMETER),
  row('without AccessVsm', plain, enable({}), DENIED, { withhold: ['accessVsm'] }),
  row('without AccessVpRegisters', plain, enable({}), DENIED, { withhold: ['accessVpRegisters'] }),
  row('without AccessSynicRegs', bare, enable({}), DENIED, { withhold: ['accessSynicRegs'] }),
  row('VTL2 over VTL0 alone: sparse sets are legal', plain, enable({ targetVtl: 2 }), OK, { maximumVtl: 2 }),
  row('VTL2 by VTL0 while VTL1 is enabled', partition, enable({ targetVtl: 2 }), DENIED, { maximumVtl: 2 }),
  row('VTL2 by VTL1', inVtl1, enable({ targetVtl: 2 }), OK, { maximumVtl: 2 }),
];

// -- HvCallEnableVpVtl --------------------------------------------------------------------------------------------------------------

const enableVp = (over: object, context: object = {}, vp = 0) => (g: Guest): number =>
  g.call(HvCall.EnableVpVtl, { header: { targetPartitionId: SELF, vpIndex: VP_SELF, targetVtl: 1, vpContext: { ...contextOf(0, 1), ...context }, ...over }, vp }).status;
const HOLE = 0x8000_0000_0000n;
const enableVpRows: readonly Row[] = [
  row('another partition', partition, enableVp({ targetPartitionId: 42n }), PARTITION),
  row('a VP that does not exist', partition, enableVp({ vpIndex: 2 }), VP),
  row('any VP', partition, enableVp({ vpIndex: 0xffff_ffff }), VP),
  row('VTL0', partition, enableVp({ targetVtl: 0 }), PARAMETER),
  row('a VTL above the maximum', partition, enableVp({ targetVtl: 2 }), PARAMETER),
  row('HV_INVALID_VTL', partition, enableVp({ targetVtl: 0xff }), PARAMETER),
  row('a VTL that the partition has not', plain, enableVp({}), VTL_STATE),
  row('VTL2 while the partition has only VTL1', partition, enableVp({ targetVtl: 2 }), VTL_STATE, { maximumVtl: 2 }),
  row('the own VP by VTL0: the first', partition, enableVp({}), OK),
  row('the own VP by its number', partition, enableVp({ vpIndex: 0 }), OK),
  row('another VP by VTL0, first', partition, enableVp({ vpIndex: 1 }), DENIED),
  row('another VP by VTL0, after the first', first, enableVp({ vpIndex: 1 }), DENIED),
  row('the own VP by VTL0, after another had it first', first, enableVp({}, {}, 1), DENIED),
  row('the own VP a second time, by VTL1', inVtl1, enableVp({}), ALREADY),
  row('the own VP a second time, by VTL1 (vpEnabledStatus 5)', inVtl1, enableVp({}), PARAMETER, { vpEnabledStatus: 5 }),
  row('another VP by VTL1', inVtl1, enableVp({ vpIndex: 1 }), OK),
  row('in registers', partition, (g) => g.callRaw(0x0f, new Uint8Array(112).fill(0xff, 0, 8), { fast: true }).status, INPUT),
  row('with a rep count', partition, (g) => g.callRaw(0x0f, new Uint8Array(240).fill(0xff, 0, 8), { count: 1 }).status, INPUT),
  row('without AccessVsm', plain, enableVp({}), DENIED, { withhold: ['accessVsm'] }),
  row('real mode', partition, enableVp({}, { cr0: 0x10n }), VALUE),
  row('paging without protection', partition, enableVp({}, { cr0: 0x8000_0010n }), VALUE),
  row('long mode without PAE', partition, enableVp({}, { cr4: 0n }), VALUE),
  row('virtual-8086 mode', partition, enableVp({}, { rflags: 0x2_0002n, efer: 0n }), VALUE),
  row('a reserved bit of CR4', partition, enableVp({}, { cr4: 0x220n | (1n << 63n) }), VALUE),
  row('a reserved bit of EFER', partition, enableVp({}, { efer: 0xd00n | (1n << 63n) }), VALUE),
  row('a memory type of PAT that does not exist', partition, enableVp({}, { msrCrPat: 0x0007_0406_0007_0402n }), VALUE),
  row('an instruction pointer that is not canonical', partition, enableVp({}, { rip: HOLE }), VALUE),
  row('a GDT base that is not canonical', partition, enableVp({}, { gdtr: { limit: 0x7f, base: HOLE } }), VALUE),
  row('an IDT base that is not canonical', partition, enableVp({}, { idtr: { limit: 0x7f, base: HOLE } }), VALUE),
  row('an FS base that is not canonical', partition, enableVp({}, { fs: { base: HOLE, limit: 0, selector: 0, attributes: 0xc093 } }), VALUE),
];

// -- HvCallModifyVtlProtectionMask -----------------------------------------------------------------------------------------------------

const protect = (over: object, ...frames: readonly bigint[]) => (g: Guest): number =>
  g.call(HvCall.ModifyVtlProtectionMask, { header: { targetPartitionId: SELF, mapFlags: 1, targetVtl: 0, ...over }, elements: frames.length === 0 ? [BigInt(frame)] : frames }).status;
const rights = (mapFlags: number, status: number, title: string, options?: Options): Row =>
  row(`rights 0x${mapFlags.toString(16)}: ${title}`, options?.mbec === true ? mbecInVtl1 : inVtl1, protect({ mapFlags }), status, options);
/** VTL1 with MBEC for VTL0. */
const mbecInVtl1 = (config: BenchConfig): Guest => {
  const guest = plain(config);
  guest.enablePartitionVtl(1, 1);
  guest.enableVpVtl();
  guest.enter();
  guest.openInterface();
  guest.put('VsmPartitionConfig', PROTECT);
  return guest;
};
const protectRows: readonly Row[] = [
  row('another partition', inVtl1, protect({ targetPartitionId: 42n }), DENIED),
  row('VTL0 for itself', first, protect({}), PARAMETER),
  row('VTL0 for itself, by name', first, protect({ targetVtl: target(0) }), PARAMETER),
  row('VTL0 in a partition without VTL1', plain, protect({}), PARAMETER),
  row('a reserved bit of the target', inVtl1, protect({ targetVtl: 0x20 }), PARAMETER),
  row('VTL2, which is not supported', inVtl1, protect({ targetVtl: target(2) }), PARAMETER),
  row('VTL2 by VTL1', inVtl1, protect({ targetVtl: target(2) }), DENIED, { maximumVtl: 2 }),
  row('before EnableVtlProtection', unconfigured, protect({}), DENIED),
  row('no elements', inVtl1, (g) => g.callRaw(0x0c, new Uint8Array(16).fill(0xff, 0, 8)).status, INPUT),
  row('without AccessVsm', plain, protect({}), DENIED, { withhold: ['accessVsm'] }),
  row('the owner by name', inVtl1, protect({ targetVtl: target(1) }), OK),
  row('the restricted VTL by name: lenient', inVtl1, protect({ targetVtl: target(0) }), OK),
  row('the restricted VTL by name (vtlProtTarget owner)', inVtl1, protect({ targetVtl: target(0) }), PARAMETER, { vtlProtTarget: 'owner' }),
  row('the owner by name (vtlProtTarget owner)', inVtl1, protect({ targetVtl: target(1) }), OK, { vtlProtTarget: 'owner' }),
  row('no target (vtlProtTarget owner)', inVtl1, protect({}), OK, { vtlProtTarget: 'owner' }),
  row('the restricted VTL by name (vtlProtTarget restricted)', inVtl1, protect({ targetVtl: target(0) }), OK, { vtlProtTarget: 'restricted' }),
  row('the caller by name (vtlProtTarget restricted)', inVtl1, protect({ targetVtl: target(1) }), DENIED, { vtlProtTarget: 'restricted' }),
  row('no target (vtlProtTarget restricted)', inVtl1, protect({}), OK, { vtlProtTarget: 'restricted' }),
  row('a page behind the end of RAM', inVtl1, protect({}, 0x200n), PARAMETER),
  row('the APIC page', inVtl1, protect({}, 0xf_ee00n), PARAMETER),
  row('a page far outside', inVtl1, protect({}, 1n << 40n), PARAMETER),
  row('a page behind the end of RAM (nonRamStatus 8)', inVtl1, protect({}, 0x200n), OPERATION, { nonRamStatus: 8 }),
  rights(0x0, OK, 'none'),
  rights(0x1, OK, 'read'),
  rights(0x3, OK, 'read and write'),
  rights(0xd, OK, 'read and execute'),
  rights(0xf, OK, 'all'),
  rights(0x5, OK, 'the supervisor bit alone means execute while MBEC is off'),
  rights(0x9, OK, 'the user bit alone means execute while MBEC is off'),
  rights(0x5, VALUE, 'both execute bits must be equal (strictExecBits)', { strictExecBits: true }),
  rights(0x9, VALUE, 'both execute bits must be equal (strictExecBits)', { strictExecBits: true }),
  rights(0x2, VALUE, 'write without read'),
  rights(0x4, VALUE, 'execute without read'),
  rights(0x8, VALUE, 'execute without read'),
  rights(0xc, VALUE, 'execute without read'),
  rights(0xe, VALUE, 'write and execute without read'),
  rights(0x1f, VALUE, 'shadow stacks are not offered'),
  rights(0x2f, VALUE, 'paging writability is not offered'),
  rights(0x4f, VALUE, 'verification of it is not offered'),
  rights(0x800f, VALUE, 'adjustable is for the host'),
  rights(0x1_000f, VALUE, 'encodings are for the host'),
  rights(0x8000_000f, VALUE, 'attributes are for the host'),
  rights(0x9, OK, 'user execute alone, with MBEC', { mbec: true }),
  rights(0x5, VALUE, 'supervisor without user execute, with MBEC', { mbec: true }),
];

// -- VsmPartitionConfig --------------------------------------------------------------------------------------------------------------

const config = (value: bigint, vtl?: number) => (g: Guest): number => g.setReg('VsmPartitionConfig', value, vtl === undefined ? {} : { vtl });
const configRows: readonly Row[] = [
  row('VTL0 has none', first, config(1n), PARAMETER),
  row('VTL0 has none, asked by VTL1', inVtl1, config(1n, target(0)), PARAMETER),
  row('VTL0 for VTL1', first, config(1n, target(1)), DENIED),
  row('VTL0 reads none of its own', first, (g) => g.getReg('VsmPartitionConfig').status, PARAMETER),
  row('VTL0 reads that of VTL1', first, (g) => g.getReg('VsmPartitionConfig', { vtl: target(1) }).status, DENIED),
  row('all rights and protection', unconfigured, config(0x3fn), OK),
  row('read, write and one execute bit', unconfigured, config(0x17n), OK),
  row('reserved bit 16', unconfigured, config(0x1_003fn), VALUE),
  row('reserved bit 63', unconfigured, config((1n << 63n) | 0x3fn), VALUE),
  row('write without read by default', unconfigured, config((0x2n << 1n) | 1n), VALUE),
  row('execute without read by default', unconfigured, config((0xcn << 1n) | 1n), VALUE),
  row('protection cleared again: kept', inVtl1, (g) => g.setReg('VsmPartitionConfig', PROTECT & ~1n) || Number(1n - (g.reg('VsmPartitionConfig') & 1n)), OK),
  row('another default mask: kept', inVtl1, (g) => g.setReg('VsmPartitionConfig', 0x23n) || Number(0xfn - ((g.reg('VsmPartitionConfig') >> 1n) & 0xfn)), OK),
  row('another default mask (maskChangeStatus 0x50)', inVtl1, config(0x23n), VALUE, { maskChangeStatus: 0x50 }),
];

// -- HvCallGetVpRegisters, HvCallSetVpRegisters ----------------------------------------------------------------------------------------

const get = (name: HvRegisterName | number, o: { vtl?: number; of?: number; partitionId?: bigint } = {}) => (g: Guest): number => g.getReg(name, o).status;
const set = (name: HvRegisterName | number, value: bigint, o: { vtl?: number; of?: number; partitionId?: bigint } = {}) => (g: Guest): number => g.setReg(name, value, o);
const lower = { vtl: target(0) };
const readOnly = ['VsmCodePageOffsets', 'VsmVpStatus', 'VsmPartitionStatus', 'VsmCapabilities', 'VpIndex', 'TimeRefCount', 'VpRuntime', 'Sversion'] as const satisfies readonly HvRegisterName[];
const high = (v: bigint): bigint => v << 64n;
const registerRows: readonly Row[] = [
  row('another partition', plain, get('Rip', { partitionId: 42n }), DENIED),
  row('another partition', plain, set('Rbx', 1n, { partitionId: 42n }), DENIED),
  row('the invalid partition', plain, get('Rip', { partitionId: 0n }), DENIED),
  row('a VP that does not exist', plain, get('Rip', { of: 2 }), VP),
  row('a VP that does not exist', plain, set('Rbx', 1n, { of: 2 }), VP),
  row('any VP', plain, get('Rip', { of: 0xffff_ffff }), VP),
  row('another VP', plain, get('Cr3', { of: 1 }), OK),
  row('another VP', inVtl1, set('Rbx', 1n, { of: 1, vtl: target(0) }), OK),
  row('reserved bit 5 of the VTL', plain, get('Rip', { vtl: 0x20 }), PARAMETER),
  row('reserved bit 6 of the VTL', plain, get('Rip', { vtl: 0x40 }), PARAMETER),
  row('reserved bit 7 of the VTL', plain, set('Rbx', 1n, { vtl: 0x80 }), PARAMETER),
  row('VTL2, which is not supported', plain, get('Rip', { vtl: target(2) }), PARAMETER),
  row('VTL1 by VTL0', first, get('Rip', { vtl: target(1) }), DENIED),
  row('VTL1 by VTL0', first, set('Rbx', 1n, { vtl: target(1) }), DENIED),
  row('VTL2 by VTL1', inVtl1, get('Rip', { vtl: target(2) }), DENIED, { maximumVtl: 2 }),
  row('own registers', plain, get('Cr3'), OK),
  row('own registers (strictSelfRegs)', plain, get('Cr3'), DENIED, { strictSelfRegs: true }),
  row('own registers (strictSelfRegs)', plain, set('Rbx', 1n), DENIED, { strictSelfRegs: true }),
  row('registers of the lower VTL (strictSelfRegs)', inVtl1, get('Cr3', lower), OK, { strictSelfRegs: true }),
  row('own synthetic registers (strictSelfRegs)', plain, get('VsmVpStatus'), OK, { strictSelfRegs: true }),
  row('a register that does not exist', plain, get(0x0bad_0000), PARAMETER),
  row('a register that does not exist', inVtl1, set(0x0bad_0000, 1n, lower), PARAMETER),
  row('PendingEvent0 of itself', plain, set('PendingEvent0', 0n), PARAMETER),
  row('PendingEvent0 of itself, VTL1', inVtl1, set('PendingEvent0', 0n), PARAMETER),
  row('VINA of VTL0', plain, get('VsmVina'), PARAMETER),
  row('VINA of VTL0, by VTL1', inVtl1, set('VsmVina', 0x140n, lower), PARAMETER),
  row('CR intercepts of VTL0', plain, get('CrInterceptControl'), DENIED),
  row('CR intercepts of VTL0, by VTL1', inVtl1, set('CrInterceptControl', 1n, lower), DENIED),
  row('CR0 mask of VTL0, by VTL1', inVtl1, set('CrInterceptCr0Mask', 1n, lower), DENIED),
  row('CR4 mask of VTL0', first, set('CrInterceptCr4Mask', 1n), DENIED),
  row('VSM status without AccessVsm', plain, get('VsmVpStatus'), DENIED, { withhold: ['accessVsm'] }),
  row('VSM partition status without AccessVsm', plain, get('VsmPartitionStatus'), DENIED, { withhold: ['accessVsm'] }),
  row('VSM capabilities without AccessVsm', plain, get('VsmCapabilities'), DENIED, { withhold: ['accessVsm'] }),
  row('VSM status without AccessSynicRegs', bare, get('VsmVpStatus'), DENIED, { withhold: ['accessSynicRegs'] }),
  row('VSM status where the host permits no VSM', plain, get('VsmPartitionStatus'), DENIED, { maximumVtl: 0 }),
  ...readOnly.map((name) => row(`${name} is read-only`, inVtl1, set(name, 0n), PARAMETER)),
  row('CR4: reserved bit', inVtl1, set('Cr4', 0x220n | (1n << 63n), lower), VALUE),
  row('CR0: bit 32', inVtl1, set('Cr0', 0x1_8001_0011n, lower), VALUE),
  row('CR0: paging without protection', inVtl1, set('Cr0', 0x8000_0010n, lower), VALUE),
  row('CR8: beyond 15', inVtl1, set('Cr8', 0x10n, lower), VALUE),
  row('EFER: reserved bit', inVtl1, set('Efer', 0xd00n | (1n << 40n), lower), VALUE),
  row('PAT: type 2', inVtl1, set('Pat', 0x0007_0406_0007_0402n, lower), VALUE),
  row('LSTAR: not canonical', inVtl1, set('Lstar', HOLE, lower), VALUE),
  row('CSTAR: not canonical', inVtl1, set('Cstar', HOLE, lower), VALUE),
  row('KernelGsBase: not canonical', inVtl1, set('KernelGsBase', HOLE, lower), VALUE),
  row('SysenterEip: AMD processors keep 32 bits', inVtl1, (g) => g.setReg('SysenterEip', HOLE | 0x1234n, lower) || Number(g.reg('SysenterEip', lower) - 0x1234n), OK),
  row('FS: base not canonical', inVtl1, set('Fs', HOLE, lower), VALUE),
  row('GDTR: base not canonical', inVtl1, set('Gdtr', high(HOLE), lower), VALUE),
  row('IDTR: base not canonical', inVtl1, set('Idtr', high(HOLE), lower), VALUE),
  row('APIC base: another value', inVtl1, set('ApicBase', 0xfee1_0800n, lower), PARAMETER),
  row('APIC base: its value', inVtl1, (g) => g.setReg('ApicBase', g.reg('ApicBase', lower), lower), OK),
  row('VINA: enabled with vector 15', inVtl1, set('VsmVina', 0x10fn), VALUE),
  row('VINA: vector 15, not enabled', inVtl1, set('VsmVina', 0xfn), OK),
  row('MBEC for VTL0 where the partition has none', inVtl1, set('VsmVpSecureConfigVtl0', 1n), VALUE),
  row('TLB lock', inVtl1, set('VsmVpSecureConfigVtl0', 2n), OK),
  row('CR0 mask of VTL1', inVtl1, set('CrInterceptCr0Mask', 1n), OK),
  row('without AccessVpRegisters', plain, get('Rip'), DENIED, { withhold: ['accessVpRegisters'] }),
];

const tables = [
  ['TLFS HvCallEnablePartitionVtl', enablePartition],
  ['TLFS HvCallEnableVpVtl', enableVpRows],
  ['TLFS HvCallModifyVtlProtectionMask', protectRows],
  ['TLFS Virtual Secure Mode, partition configuration', configRows],
  ['TLFS HvCallGetVpRegisters, HvCallSetVpRegisters', registerRows],
] as const;

describe.each(policies)('under %s', (policy) => {
  describe.each(tables)('%s', (name, rows) => {
    it.each(rows)(`${name}: $title is $status`, ({ on, options, act, status }) => {
      const guest = on({ policy, ...(options ? { options } : {}) });
      expect(act(guest)).toBe(status);
    });
  });

  it('TLFS HvCallSetVpRegisters: elements before the one that fails are applied', () => {
    const guest = inVtl1({ policy });
    const values = [[HvRegister.Lstar, 0x1000n], [HvRegister.Star, 0x2000n], [0x0bad_0000, 0n], [HvRegister.Cstar, 0x3000n]] as const;
    const call = guest.call(HvCall.SetVpRegisters, { header: { partitionId: SELF, vpIndex: VP_SELF, inputVtl: target(0) }, elements: values.map(([n, low]) => ({ name: n, value: { low, high: 0n } })) });
    expect([call.status, call.reps]).toEqual([PARAMETER, 2]);
    expect([guest.get('lstar', 0, 0), guest.get('star', 0, 0), guest.get('cstar', 0, 0)]).toEqual([0x1000n, 0x2000n, 0n]);
  });
  it('TLFS HvCallGetVpRegisters: output before the element that fails is valid', () => {
    const guest = plain({ policy });
    const call = guest.call(HvCall.GetVpRegisters, { header: { partitionId: SELF, vpIndex: VP_SELF, inputVtl: 0 }, elements: [HvRegister.Cr3, HvRegister.VpIndex, 0x0bad_0000] });
    expect([call.status, call.reps]).toEqual([PARAMETER, 2]);
    expect([call.output(32).getBigUint64(0, true), call.output(32).getBigUint64(16, true)]).toEqual([0x4_0000n, 0n]);
  });
  it('TLFS Hypercall Interface, rep calls: of pages that are refused at element k, as many are protected as are reported', () => {
    const guest = inVtl1({ policy });
    const frames = [frame, frame + 1, 0x200, frame + 2];
    const call = guest.call(HvCall.ModifyVtlProtectionMask, { header: { targetPartitionId: SELF, mapFlags: 0, targetVtl: 0 }, elements: frames.map(BigInt) });
    expect(call.status).toBe(PARAMETER);
    expect(call.reps).toBeLessThanOrEqual(2);
    const denied = [0, 1, 2].filter((i) => guest.call(HvCall.CheckSparseGpaPageVtlAccess, { header: { partitionId: SELF, inputVtl: target(0), desiredAccess: 1 }, elements: [BigInt(frame + i)] }).output(8).getUint8(0) === 1);
    expect(denied).toEqual([0, 1].slice(0, call.reps));
  });
  it('TLFS HvCallModifyVtlProtectionMask: an overlay page cannot be protected', () => {
    expect(inVtl1({ policy }).protect(1, hypercallPage(0) >> 12).status).toBe(OPERATION);
  });
  it('TLFS HvCallSetVpRegisters: reserved bits of the lower half of CR0 are dropped', () => {
    const guest = inVtl1({ policy });
    expect(guest.setReg('Cr0', 0x8001_8011n, lower)).toBe(OK);
    expect(guest.reg('Cr0', lower)).toBe(0x8001_0011n);
  });
});
