import {
  callOf, CALLS, CODE_PAGE_OFFSETS, CPUID_LEAVES, CpuidSignature, DISPUTES, HvCpuid, HvMessageType, HvMsr, HvPartitionPrivilegeMask, HvRegister, HvScope, HvStatus, HypercallInput, messageTypeName, msrOf, msrReservedMask, MSRS,
  privilegeNames, privilegeRegisters, registerOf, REGISTERS, statusMeaning, statusName, VSM_PRIVILEGES,
} from '@vmplanes/abi-hyperv';
import { describe, expect, it, test } from 'vitest';

describe('statuses', () => {
  /** Typed by hand from TLFS v6.0b appendix B and the definitions of openvmm and Linux. */
  const TABLE: readonly (readonly [number, string])[] = [
    [0x00, 'SUCCESS'], [0x02, 'INVALID_HYPERCALL_CODE'], [0x03, 'INVALID_HYPERCALL_INPUT'], [0x04, 'INVALID_ALIGNMENT'], [0x05, 'INVALID_PARAMETER'], [0x06, 'ACCESS_DENIED'], [0x07, 'INVALID_PARTITION_STATE'],
    [0x08, 'OPERATION_DENIED'], [0x09, 'UNKNOWN_PROPERTY'], [0x0a, 'PROPERTY_VALUE_OUT_OF_RANGE'], [0x0b, 'INSUFFICIENT_MEMORY'], [0x0c, 'PARTITION_TOO_DEEP'], [0x0d, 'INVALID_PARTITION_ID'], [0x0e, 'INVALID_VP_INDEX'],
    [0x10, 'NOT_FOUND'], [0x11, 'INVALID_PORT_ID'], [0x12, 'INVALID_CONNECTION_ID'], [0x13, 'INSUFFICIENT_BUFFERS'], [0x14, 'NOT_ACKNOWLEDGED'], [0x15, 'INVALID_VP_STATE'], [0x16, 'ACKNOWLEDGED'],
    [0x17, 'INVALID_SAVE_RESTORE_STATE'], [0x18, 'INVALID_SYNIC_STATE'], [0x19, 'OBJECT_IN_USE'], [0x1a, 'INVALID_PROXIMITY_DOMAIN_INFO'], [0x1b, 'NO_DATA'], [0x1c, 'INACTIVE'], [0x1d, 'NO_RESOURCES'],
    [0x1e, 'FEATURE_UNAVAILABLE'], [0x1f, 'PARTIAL_PACKET'], [0x20, 'PROCESSOR_FEATURE_NOT_SUPPORTED'], [0x30, 'PROCESSOR_CACHE_LINE_FLUSH_SIZE_INCOMPATIBLE'], [0x33, 'INSUFFICIENT_BUFFER'], [0x37, 'INCOMPATIBLE_PROCESSOR'],
    [0x38, 'INSUFFICIENT_DEVICE_DOMAINS'], [0x3c, 'CPUID_FEATURE_VALIDATION_ERROR'], [0x3d, 'CPUID_XSAVE_FEATURE_VALIDATION_ERROR'], [0x3e, 'PROCESSOR_STARTUP_TIMEOUT'], [0x3f, 'SMX_ENABLED'], [0x41, 'INVALID_LP_INDEX'],
    [0x50, 'INVALID_REGISTER_VALUE'], [0x51, 'INVALID_VTL_STATE'], [0x55, 'NX_NOT_DETECTED'], [0x57, 'INVALID_DEVICE_ID'], [0x58, 'INVALID_DEVICE_STATE'], [0x59, 'PENDING_PAGE_REQUESTS'], [0x60, 'PAGE_REQUEST_INVALID'],
    [0x65, 'KEY_ALREADY_EXISTS'], [0x66, 'DEVICE_ALREADY_IN_DOMAIN'], [0x6f, 'INVALID_CPU_GROUP_ID'], [0x70, 'INVALID_CPU_GROUP_STATE'], [0x71, 'OPERATION_FAILED'], [0x72, 'NOT_ALLOWED_WITH_NESTED_VIRT_ACTIVE'],
    [0x73, 'INSUFFICIENT_ROOT_MEMORY'], [0x74, 'EVENT_BUFFER_ALREADY_FREED'], [0x78, 'TIMEOUT'], [0x79, 'CALL_PENDING'], [0x86, 'VTL_ALREADY_ENABLED'], [0x87, 'UNKNOWN_REGISTER_NAME'],
  ];
  it('are those of the specification', () => expect(Object.values(HvStatus).map((n) => [n, statusName(n)])).toEqual(TABLE.map(([n, name]) => [n, `HV_STATUS_${name}`])));
  it('have a meaning', () => {
    for (const status of Object.values(HvStatus)) expect(statusMeaning(status)).not.toBe('');
    expect([statusName(0x99), statusMeaning(0x99)]).toEqual(['HV_STATUS 0x0099', 'not a known status']);
  });
});

describe('MSRs', () => {
  /** Typed by hand from TLFS Virtual Secure Mode, private and shared MSRs. */
  const PRIVATE = [0x00, 0x01, 0x21, 0x23, 0x40, 0x70, 0x71, 0x72, 0x73, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, ...Array.from({ length: 16 }, (_, n) => 0x90 + n), 0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7];
  const SHARED = [0x02, 0x03, 0x10, 0x20, 0x22, 0xe0, 0xe1, 0xe2, 0xe3, 0xf0, 0xff, 0x100, 0x101, 0x102, 0x103, 0x104, 0x105];
  it('are private or shared as the specification says', () => {
    for (const low of PRIVATE) expect([HvScope.VpVtl, HvScope.PartitionVtl], low.toString(16)).toContain(msrOf(0x4000_0000 + low)?.scope);
    for (const low of SHARED) expect([HvScope.Vp, HvScope.Partition], low.toString(16)).toContain(msrOf(0x4000_0000 + low)?.scope);
    const others = MSRS.map((row) => row.index - 0x4000_0000).filter((low) => !PRIVATE.includes(low) && !SHARED.includes(low));
    expect(others).toEqual([0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0x106, 0x107, 0x108, 0x114, 0x115, 0x118]);
  });
  it('have their own index', () => {
    expect(new Set(MSRS.map((row) => row.index)).size).toBe(MSRS.length);
    expect(Object.keys(HvMsr).length).toBe(MSRS.length);
  });
  it.each([
    ['Eoi', 'wo', 0xffff_ffff_0000_0000n, 0n], ['Tpr', 'rw', 0xffff_ffff_ffff_ff00n, 0n], ['Icr', 'rw', 0n, 0n], ['Sversion', 'ro', 0n, 1n], ['Scontrol', 'rw', 0xffff_ffff_ffff_fffen, 0n],
    ['Sint0', 'rw', 0xffff_ffff_ffe0_ff00n, 0x1_0000n], ['Sint15', 'rw', 0xffff_ffff_ffe0_ff00n, 0x1_0000n], ['Simp', 'rw', 0n, 0n], ['Stimer2Config', 'rw', 0xffff_ffff_fff0_e000n, 0n], ['Stimer2Count', 'rw', 0n, 0n],
    ['VpIndex', 'ro', 0n, 0n], ['TimeRefCount', 'ro', 0n, 0n], ['Hypercall', 'rw', 0n, 0n], ['NpiepConfig', 'rw', 0xffff_ffff_ffff_fff0n, 0n],
  ] as const)('%s: access, reserved bits, reset', (name, access, reserved, reset) => {
    const row = msrOf(HvMsr[name])!;
    expect([row.name, row.access, msrReservedMask(row), row.reset ?? 0n]).toEqual([name, access, reserved, reset]);
  });
});

describe('registers', () => {
  /** Typed by hand from TLFS Virtual Secure Mode, private and shared registers; DR6 is a choice. */
  const PRIVATE = ['Rip', 'Rsp', 'Rflags', 'Cr0', 'Cr3', 'Cr4', 'Cr8', 'Dr7', 'Idtr', 'Gdtr', 'Cs', 'Ds', 'Es', 'Fs', 'Gs', 'Ss', 'Tr', 'Ldtr', 'Tsc', 'SysenterCs', 'SysenterEsp', 'SysenterEip', 'Star', 'Lstar', 'Cstar', 'Sfmask', 'Efer', 'Pat',
    'KernelGsBase', 'TscAux', 'ApicBase', 'Dr6'] as const;
  const SHARED = ['Rax', 'Rbx', 'Rcx', 'Rdx', 'Rsi', 'Rdi', 'Rbp', 'R8', 'R9', 'R10', 'R11', 'R12', 'R13', 'R14', 'R15', 'Cr2', 'Dr0', 'Dr1', 'Dr2', 'Dr3', 'Xmm0', 'Xmm15', 'FpMmx0', 'FpMmx7', 'Ymm0High', 'Xfem', 'MtrrDefType',
    'MtrrPhysBase15', 'VpIndex', 'VpRuntime', 'GuestIdle'] as const;
  it.each(PRIVATE)('%s belongs to a VTL', (name) => expect(registerOf(HvRegister[name])).toMatchObject({ scope: 'vpVtl', isScopePublished: true }));
  it.each(SHARED)('%s is shared', (name) => expect(registerOf(HvRegister[name])).toMatchObject({ scope: 'vp', isScopePublished: true }));

  /** Typed by hand from TLFS HV_REGISTER_NAME. */
  const NUMBERS: Readonly<Record<string, number>> = {
    ExplicitSuspend: 0, InterceptSuspend: 1, InternalActivityState: 4, HypervisorVersion: 0x100, PrivilegesAndFeaturesInfo: 0x200, GuestCrashP0: 0x210, GuestCrashCtl: 0x215, PendingInterruption: 0x10002, PendingEvent1: 0x10005,
    Rax: 0x20000, Rcx: 0x20001, Rdx: 0x20002, Rbx: 0x20003, Rsp: 0x20004, Rbp: 0x20005, Rsi: 0x20006, Rdi: 0x20007, R8: 0x20008, R15: 0x2000f, Rip: 0x20010, Rflags: 0x20011, Xmm15: 0x3000f, FpMmx7: 0x30017, XmmControlStatus: 0x30019,
    Cr0: 0x40000, Cr2: 0x40001, Cr3: 0x40002, Cr4: 0x40003, Cr8: 0x40004, Xfem: 0x40005, Dr6: 0x50004, Dr7: 0x50005, Es: 0x60000, Cs: 0x60001, Ss: 0x60002, Ds: 0x60003, Fs: 0x60004, Gs: 0x60005, Ldtr: 0x60006, Tr: 0x60007,
    Idtr: 0x70000, Gdtr: 0x70001, Tsc: 0x80000, Efer: 0x80001, KernelGsBase: 0x80002, ApicBase: 0x80003, Pat: 0x80004, SysenterCs: 0x80005, SysenterEip: 0x80006, SysenterEsp: 0x80007, Star: 0x80008, Sfmask: 0x8000b,
    MtrrPhysBase15: 0x8001f, MtrrPhysMask0: 0x80040, MtrrFix4kF8000: 0x8007a, TscAux: 0x8007b, Ia32MiscEnable: 0x800a0, VpRuntime: 0x90000, Hypercall: 0x90001, GuestOsId: 0x90002, VpAssistPage: 0x90013, ReferenceTsc: 0x90017,
    Sint0: 0xa0000, Sint15: 0xa000f, Scontrol: 0xa0010, Eom: 0xa0014, Stimer0Config: 0xb0000, Stimer0Count: 0xb0001, Stimer3Config: 0xb0006, Stimer3Count: 0xb0007, Ymm15High: 0xc001f, VsmCodePageOffsets: 0xd0002, VsmVpStatus: 0xd0003,
    VsmPartitionStatus: 0xd0004, VsmVina: 0xd0005, VsmCapabilities: 0xd0006, VsmPartitionConfig: 0xd0007, VsmVpSecureConfigVtl0: 0xd0010, VsmVpSecureConfigVtl14: 0xd001e, VsmVpWaitForTlbLock: 0xd0020, CrInterceptControl: 0xe0000,
    CrInterceptCr0Mask: 0xe0001, CrInterceptCr4Mask: 0xe0002, CrInterceptIa32MiscEnableMask: 0xe0003,
  };
  it('have the numbers of the specification', () => expect(Object.fromEntries(Object.keys(NUMBERS).map((name) => [name, (HvRegister as Readonly<Record<string, number>>)[name]]))).toEqual(NUMBERS));
  it('have numbers of their own', () => {
    expect(new Set(REGISTERS.map((row) => row.number)).size).toBe(REGISTERS.length);
    expect(REGISTERS.length).toBe(Object.keys(HvRegister).length);
    expect(registerOf(0xacac_acac)).toBeUndefined();
  });
  it('of VSM exist from the right VTL on', () => {
    expect(REGISTERS.filter((row) => row.minVtl > 0).map((row) => [row.name, row.minVtl])).toEqual([
      ['VsmVina', 1], ['VsmPartitionConfig', 1], ['GuestVsmPartitionConfig', 2], ...Array.from({ length: 15 }, (_, n) => [`VsmVpSecureConfigVtl${n}`, n + 1]),
      ['CrInterceptControl', 1], ['CrInterceptCr0Mask', 1], ['CrInterceptCr4Mask', 1], ['CrInterceptIa32MiscEnableMask', 1],
    ]);
  });
  it('that cannot be written are the status, capability and identity registers', () => {
    const vsm = REGISTERS.filter((row) => row.access === 'ro' && row.number >= 0xd0000).map((row) => row.name);
    expect(vsm).toEqual(['VsmCodePageOffsets', 'VsmVpStatus', 'VsmPartitionStatus', 'VsmCapabilities', 'IsolationCapabilities']);
  });
  it('of 128 bits are vectors, segments, tables, events and CPUID copies', () => {
    const wide = new Set(REGISTERS.filter((row) => row.bits === 128).map((row) => row.name.replace(/\d+(?:Low|High)?$/, '')));
    expect([...wide]).toEqual(['HypervisorVersion', 'PrivilegesAndFeaturesInfo', 'FeaturesInfo', 'ImplementationLimitsInfo', 'HardwareFeaturesInfo', 'CpuManagementFeaturesInfo', 'SvmFeaturesInfo', 'SkipLevelFeaturesInfo',
      'NestedVirtFeaturesInfo', 'IptFeaturesInfo', 'IsolationConfiguration', 'PendingEvent', 'Xmm', 'FpMmx', 'FpControlStatus', 'XmmControlStatus', 'Es', 'Cs', 'Ss', 'Ds', 'Fs', 'Gs', 'Ldtr', 'Tr', 'Idtr', 'Gdtr', 'Ymm']);
  });
  it('have layouts of their width', () => {
    for (const row of REGISTERS) if (row.layout) expect(row.layout.size * 8, row.name).toBe(row.bits);
  });
  it('agree with the MSRs that they alias', () => {
    const aliases = REGISTERS.filter((row) => row.msr !== undefined);
    expect(aliases.length).toBeGreaterThan(45);
    for (const row of aliases) {
      const msr = msrOf(row.msr!)!;
      expect([msr.name.replace('GuestIdle', ''), msr.scope], row.name).toEqual([{ ProcessorClockFrequency: 'TscFrequency', InterruptClockFrequency: 'ApicFrequency', GuestIdle: '' }[row.name as string] ?? row.name, row.scope]);
    }
  });
});

describe('CPUID and privileges', () => {
  it('leaves rise from 0x40000000', () => {
    expect(CPUID_LEAVES.map((row) => row.leaf)).toEqual([...Array.from({ length: 13 }, (_, n) => 0x4000_0000 + n), 0x4000_0080, 0x4000_0081, 0x4000_0082]);
    expect(HvCpuid.IsolationConfiguration).toBe(0x4000_000c);
  });
  it('signatures spell their names', () => {
    const text = (...words: readonly number[]): string => String.fromCharCode(...words.flatMap((word) => [word & 0xff, (word >> 8) & 0xff, (word >> 16) & 0xff, word >>> 24]));
    expect(text(CpuidSignature.vendorEbx, CpuidSignature.vendorEcx, CpuidSignature.vendorEdx)).toBe('Microsoft Hv');
    expect([text(CpuidSignature.interfaceEax), text(CpuidSignature.stackInterfaceEax)]).toEqual(['Hv#1', 'VS#1']);
  });
  it('VSM needs bit 2 of EAX and bits 16 and 17 of EBX', () => {
    const raw = HvPartitionPrivilegeMask.pack(Object.fromEntries(VSM_PRIVILEGES.map((name) => [name, true])));
    expect(privilegeRegisters(raw)).toEqual({ eax: 1 << 2, ebx: (1 << 16) | (1 << 17) });
    expect(privilegeNames(raw).toSorted()).toEqual([...VSM_PRIVILEGES].sort());
  });
  it('privileges that calls name exist', () => {
    for (const call of CALLS) for (const name of call.privileges ?? []) expect(HvPartitionPrivilegeMask.mask[name]).toBeGreaterThan(0n);
  });
});

describe('messages', () => {
  it('have types of their own', () => {
    const types = Object.values(HvMessageType);
    expect(new Set(types).size).toBe(types.length);
    expect([messageTypeName(0x8000_0001), messageTypeName(0x8001_0006), messageTypeName(1)]).toEqual(['GpaIntercept', 'RegisterIntercept', undefined]);
  });
});

describe('disputes', () => {
  it('are the 38 known ones, each with an alternative and a source', () => {
    expect(DISPUTES.length).toBe(38);
    expect(new Set(DISPUTES.map((row) => row.id)).size).toBe(38);
    for (const row of DISPUTES) {
      expect(row.alternatives.length, row.id).toBeGreaterThan(0);
      expect(row.alternatives, row.id).not.toContain(row.default);
      expect(row.sources.length, row.id).toBeGreaterThan(0);
    }
  });
  const answer = (id: string): string => DISPUTES.find((row) => row.id === id)!.default;
  test('defaults are what is declared', () => {
    expect([HypercallInput.shift.isNested, HypercallInput.shift.variableHeaderSize]).toEqual([31, 17]);
    expect(answer('controlLayout')).toBe('31 and 26:17');
    expect(answer('codeOffsets')).toBe(`0x0${CODE_PAGE_OFFSETS.openvmm.x64.call.toString(16)} and 0x${CODE_PAGE_OFFSETS.openvmm.x64.return.toString(16)}`);
    const elementOf = (code: number): unknown => callOf(code);
    expect(elementOf(0x9a)).toMatchObject({ element: { size: Number(answer('apicIdElement')) } });
    expect(elementOf(0xac)).toMatchObject({ output: { size: 0x40 } });
    expect(answer('scontrolEnabled')).toBe(String(msrOf(HvMsr.Scontrol)!.reset ?? 0n));
  });
});
