import { describe, expect, it } from 'vitest';
import { msrOf, type MsrRow, MSRS } from './msrs.ts';
import { REGISTERS, type RegisterRow } from './registers.ts';

// The register and MSR tables as the published definitions number them: TLFS HV_REGISTER_NAME and its list of private and shared state, HvX64RegisterName of
// openvmm vm/hv1/hvdef/src/lib.rs, HV_X64_MSR_* of Linux. Names in a line have consecutive numbers; `a0..3` are four names.

const expand = (name: string): readonly string[] => {
  const range = /^(.*?)0\.\.(\d+)(.*)$/.exec(name);
  return range ? Array.from({ length: Number(range[2]) + 1 }, (_, n) => `${range[1]}${n}${range[3]}`) : [name];
};
/** Lines of `facts: names`, as facts and one name each. */
const parse = (lines: string): readonly (readonly [facts: readonly string[], name: string, nth: number])[] =>
  lines.trim().split('\n').flatMap((line) => {
    const [facts = '', names = ''] = line.trim().split(': ');
    return names.split(' ').flatMap(expand).map((name, nth) => [facts.split(' '), name, nth] as const);
  });
const sorted = <T extends readonly [number, ...unknown[]]>(rows: readonly T[]): readonly T[] => [...rows].sort((a, b) => a[0] - b[0]);

/** Number, bits, scope, access, lowest VTL; `?` where no list says whether the register is shared. */
const REGISTER_LINES = `
  0x0 64 vp rw 0: ExplicitSuspend InterceptSuspend
  0x2 64 vpVtl ro 0 ?: InstructionEmulationHints
  0x3 64 vp rw 0: DispatchSuspend
  0x4 64 vpVtl rw 0: InternalActivityState
  0x100 128 partition ro 0: HypervisorVersion
  0x200 128 partition ro 0: PrivilegesAndFeaturesInfo FeaturesInfo ImplementationLimitsInfo HardwareFeaturesInfo CpuManagementFeaturesInfo SvmFeaturesInfo SkipLevelFeaturesInfo NestedVirtFeaturesInfo IptFeaturesInfo IsolationConfiguration
  0x210 64 partition rw 0: GuestCrashP0..4 GuestCrashCtl
  0x240 64 partition ro 0: ProcessorClockFrequency
  0x241 64 vpVtl ro 0: InterruptClockFrequency
  0x250 64 vp rw 0: GuestIdle
  0x260 64 partition rw 0: DebugDeviceOptions
  0x10002 64 vpVtl rw 0: PendingInterruption InterruptState
  0x10004 128 vpVtl rw 0: PendingEvent0 PendingEvent1
  0x10006 64 vpVtl rw 0: DeliverabilityNotifications
  0x20000 64 vp rw 0: Rax Rcx Rdx Rbx
  0x20004 64 vpVtl rw 0: Rsp
  0x20005 64 vp rw 0: Rbp Rsi Rdi R8 R9 R10 R11 R12 R13 R14 R15
  0x20010 64 vpVtl rw 0: Rip Rflags
  0x30000 128 vp rw 0: Xmm0..15 FpMmx0..7 FpControlStatus XmmControlStatus
  0x40000 64 vpVtl rw 0: Cr0
  0x40001 64 vp rw 0: Cr2
  0x40002 64 vpVtl rw 0: Cr3 Cr4 Cr8
  0x40005 64 vp rw 0: Xfem
  0x41000 64 vpVtl rw 0 ?: IntermediateCr0
  0x41002 64 vpVtl rw 0 ?: IntermediateCr3 IntermediateCr4 IntermediateCr8
  0x50000 64 vp rw 0: Dr0..3
  0x50004 64 vpVtl rw 0: Dr6 Dr7
  0x60000 128 vpVtl rw 0: Es Cs Ss Ds Fs Gs Ldtr Tr
  0x70000 128 vpVtl rw 0: Idtr Gdtr
  0x80000 64 vpVtl rw 0: Tsc Efer KernelGsBase ApicBase Pat SysenterCs SysenterEip SysenterEsp Star Lstar Cstar Sfmask
  0x8000c 64 vp ro 0 ?: InitialApicId
  0x8000d 64 vp ro 0: MtrrCap
  0x8000e 64 vp rw 0: MtrrDefType
  0x80010 64 vp rw 0: MtrrPhysBase0..15
  0x80040 64 vp rw 0: MtrrPhysMask0..15
  0x80070 64 vp rw 0: MtrrFix64k00000 MtrrFix16k80000 MtrrFix16kA0000 MtrrFix4kC0000 MtrrFix4kC8000 MtrrFix4kD0000 MtrrFix4kD8000 MtrrFix4kE0000 MtrrFix4kE8000 MtrrFix4kF0000 MtrrFix4kF8000
  0x8007b 64 vpVtl rw 0: TscAux
  0x8007c 64 vpVtl rw 0 ?: Bndcfgs DebugCtl
  0x8007e 64 vp ro 0 ?: MCount ACount
  0x80080 64 vp rw 0 ?: SgxLaunchControl0..3
  0x80084 64 vpVtl rw 0 ?: SpecCtrl
  0x80085 64 vp wo 0 ?: PredCmd
  0x80086 64 vpVtl rw 0 ?: VirtSpecCtrl TscVirtualOffset TsxCtrl
  0x80089 64 vp rw 0 ?: McUpdatePatchLevel
  0x8008b 64 vpVtl rw 0 ?: Xss
  0x8008c 64 vp rw 0 ?: UCet
  0x8008d 64 vpVtl rw 0 ?: SCet Ssp
  0x8008f 64 vp rw 0 ?: Pl0..3Ssp
  0x80093 64 vpVtl rw 0 ?: InterruptSspTableAddr TscVirtualMultiplier TscDeadline TscAdjust Pasid
  0x80098 64 vp rw 0 ?: UmwaitControl Xfd XfdErr
  0x800a0 64 vpVtl rw 0 ?: Ia32MiscEnable
  0x800a1 64 vp rw 0 ?: Ia32FeatureControl
  0x90000 64 vp ro 0: VpRuntime
  0x90001 64 partitionVtl rw 0: Hypercall GuestOsId
  0x90003 64 vp ro 0: VpIndex
  0x90004 64 partition ro 0: TimeRefCount
  0x90007 64 partition ro 0 ?: CpuManagementVersion
  0x90010 64 vpVtl wo 0: Eoi
  0x90011 64 vpVtl rw 0: Icr Tpr VpAssistPage
  0x90014 64 vp rw 0 ?: VpRootSignalCount
  0x90017 64 partitionVtl rw 0: ReferenceTsc
  0x90018 64 vp rw 0 ?: VpConfig Ghcb
  0x9001a 64 partition rw 0 ?: ReferenceTscSequence
  0x9001b 64 vp rw 0 ?: GuestSchedulerEvent RegisterPage
  0x90030 64 partition rw 0 ?: EmulatedTimerPeriod EmulatedTimerControl PmTimerAssist
  0x90040 64 vpVtl rw 0 ?: SevControl
  0xa0000 64 vpVtl rw 0: Sint0..15 Scontrol
  0xa0011 64 vpVtl ro 0: Sversion
  0xa0012 64 vpVtl rw 0: Siefp Simp Eom Sirbp
  0xb0000 64 vpVtl rw 0: Stimer0Config Stimer0Count Stimer1Config Stimer1Count Stimer2Config Stimer2Count Stimer3Config Stimer3Count
  0xb0100 64 vpVtl rw 0: StimeUnhaltedTimerConfig StimeUnhaltedTimerCount
  0xc0000 128 vp rw 0: Ymm0..15Low Ymm0..15High
  0xd0000 64 vpVtl rw 0 ?: VsmVpVtlControl
  0xd0002 64 partitionVtl ro 0: VsmCodePageOffsets
  0xd0003 64 vp ro 0: VsmVpStatus
  0xd0004 64 partition ro 0: VsmPartitionStatus
  0xd0005 64 vpVtl rw 1: VsmVina
  0xd0006 64 partition ro 0: VsmCapabilities
  0xd0007 64 partitionVtl rw 1: VsmPartitionConfig
  0xd0008 64 partition rw 2: GuestVsmPartitionConfig
  0xd0020 64 vp rw 0: VsmVpWaitForTlbLock
  0xd0100 64 partition ro 0: IsolationCapabilities
  0xe0000 64 vpVtl rw 1: CrInterceptControl CrInterceptCr0Mask CrInterceptCr4Mask CrInterceptIa32MiscEnableMask
`;
/** VsmVpSecureConfigVtl0 to 14: one for each lower VTL, from the VTL above it on. */
const SECURE = Array.from({ length: 15 }, (_, n) => [0xd0010 + n, `VsmVpSecureConfigVtl${n}`, 64, 'vpVtl', 'rw', n + 1, true] as const);

/** Layouts of the registers that have one. */
const LAYOUT_LINES = `
  HvSuspendRegister: ExplicitSuspend InterceptSuspend DispatchSuspend
  HvInternalActivityRegister: InternalActivityState
  HvCrashCtlRegContents: GuestCrashCtl
  HvX64PendingInterruptionRegister: PendingInterruption
  HvX64InterruptStateRegister: InterruptState
  HvDeliverabilityNotificationsRegister: DeliverabilityNotifications
  HvX64FpControlStatusRegister: FpControlStatus
  HvX64XmmControlStatusRegister: XmmControlStatus
  HvX64SegmentRegister: Es Cs Ss Ds Fs Gs Ldtr Tr
  HvX64TableRegister: Idtr Gdtr
  HvX64MsrHypercallContents: Hypercall
  HvX64MsrVpAssistPageContents: VpAssistPage
  HvX64MsrReferenceTscContents: ReferenceTsc
  HvSynicSint: Sint0..15
  HvSynicScontrol: Scontrol
  HvSynicSimpSiefp: Siefp Simp Sirbp
  HvStimerConfig: Stimer0..3Config
  HvStimeUnhaltedTimerConfig: StimeUnhaltedTimerConfig
  HvRegisterVsmCodePageOffsets: VsmCodePageOffsets
  HvRegisterVsmVpStatus: VsmVpStatus
  HvRegisterVsmPartitionStatus: VsmPartitionStatus
  HvRegisterVsmVina: VsmVina
  HvRegisterVsmCapabilities: VsmCapabilities
  HvRegisterVsmPartitionConfig: VsmPartitionConfig
  HvRegisterGuestVsmPartitionConfig: GuestVsmPartitionConfig
  HvRegisterVsmVpWaitForTlbLock: VsmVpWaitForTlbLock
  HvRegisterCrInterceptControl: CrInterceptControl
  HvRegisterVsmVpSecureVtlConfig: VsmVpSecureConfigVtl0..14
`;
/** Registers that are an MSR of another name; the other aliases have one name. */
const RENAMED: Readonly<Record<string, string>> = { ProcessorClockFrequency: 'TscFrequency', InterruptClockFrequency: 'ApicFrequency' };
const ALIASES = `GuestCrashP0 GuestCrashP1 GuestCrashP2 GuestCrashP3 GuestCrashP4 GuestCrashCtl ProcessorClockFrequency InterruptClockFrequency GuestIdle DebugDeviceOptions VpRuntime Hypercall GuestOsId VpIndex TimeRefCount Eoi Icr Tpr VpAssistPage ReferenceTsc Sint0 Sint1 Sint2 Sint3 Sint4 Sint5 Sint6 Sint7 Sint8 Sint9 Sint10 Sint11 Sint12 Sint13 Sint14 Sint15 Scontrol Sversion Siefp Simp Eom Sirbp Stimer0Config Stimer0Count Stimer1Config Stimer1Count Stimer2Config Stimer2Count Stimer3Config Stimer3Count StimeUnhaltedTimerConfig StimeUnhaltedTimerCount`;

/** Index, scope, access; then, where there is one, privilege or -, layout or -, value after reset. */
const MSR_LINES = `
  0x40000000 partitionVtl rw accessHypercallMsrs -: GuestOsId
  0x40000001 partitionVtl rw accessHypercallMsrs HvX64MsrHypercallContents: Hypercall
  0x40000002 vp ro accessVpIndex -: VpIndex
  0x40000003 partition rw accessResetReg HvX64MsrResetContents: Reset
  0x40000010 vp ro accessVpRunTimeReg -: VpRuntime
  0x40000020 partition ro accessPartitionReferenceCounter -: TimeRefCount
  0x40000021 partitionVtl rw accessPartitionReferenceTsc HvX64MsrReferenceTscContents: ReferenceTsc
  0x40000022 partition ro accessFrequencyRegs -: TscFrequency
  0x40000023 vpVtl ro accessFrequencyRegs -: ApicFrequency
  0x40000040 vpVtl rw - HvX64MsrNpiepConfigContents: NpiepConfig
  0x40000070 vpVtl wo accessIntrCtrlRegs HvX64MsrEoiContents: Eoi
  0x40000071 vpVtl rw accessIntrCtrlRegs HvX64MsrIcrContents: Icr
  0x40000072 vpVtl rw accessIntrCtrlRegs HvX64MsrTprContents: Tpr
  0x40000073 vpVtl rw accessIntrCtrlRegs HvX64MsrVpAssistPageContents: VpAssistPage
  0x40000080 vpVtl rw accessSynicRegs HvSynicScontrol: Scontrol
  0x40000081 vpVtl ro accessSynicRegs - 1: Sversion
  0x40000082 vpVtl rw accessSynicRegs HvSynicSimpSiefp: Siefp Simp
  0x40000084 vpVtl rw accessSynicRegs -: Eom
  0x40000085 vpVtl rw accessSynicRegs HvSynicSimpSiefp: Sirbp
  0x40000090 vpVtl rw accessSynicRegs HvSynicSint 65536: Sint0..15
  0x400000b0 vpVtl rw accessSyntheticTimerRegs HvStimerConfig: Stimer0Config
  0x400000b1 vpVtl rw accessSyntheticTimerRegs -: Stimer0Count
  0x400000b2 vpVtl rw accessSyntheticTimerRegs HvStimerConfig: Stimer1Config
  0x400000b3 vpVtl rw accessSyntheticTimerRegs -: Stimer1Count
  0x400000b4 vpVtl rw accessSyntheticTimerRegs HvStimerConfig: Stimer2Config
  0x400000b5 vpVtl rw accessSyntheticTimerRegs -: Stimer2Count
  0x400000b6 vpVtl rw accessSyntheticTimerRegs HvStimerConfig: Stimer3Config
  0x400000b7 vpVtl rw accessSyntheticTimerRegs -: Stimer3Count
  0x400000e0 partition rw accessStatsReg -: StatsPartitionRetailPage StatsPartitionInternalPage
  0x400000e2 vp rw accessStatsReg -: StatsVpRetailPage StatsVpInternalPage
  0x400000f0 vp ro accessGuestIdleReg -: GuestIdle
  0x400000f1 partition rw accessDebugRegs -: SyntheticDebugControl SyntheticDebugStatus SyntheticDebugSendBuffer SyntheticDebugReceiveBuffer SyntheticDebugPendingBuffer
  0x400000ff partition rw accessDebugRegs -: DebugDeviceOptions
  0x40000100 partition rw: GuestCrashP0..4
  0x40000105 partition rw - HvCrashCtlRegContents: GuestCrashCtl
  0x40000106 partition rw accessReenlightenmentControls HvReenlightenmentControl: ReenlightenmentControl
  0x40000107 partition rw accessReenlightenmentControls HvTscEmulationControl: TscEmulationControl
  0x40000108 partition rw accessReenlightenmentControls HvTscEmulationStatus: TscEmulationStatus
  0x40000114 vpVtl rw accessSyntheticTimerRegs HvStimeUnhaltedTimerConfig: StimeUnhaltedTimerConfig
  0x40000115 vpVtl rw accessSyntheticTimerRegs -: StimeUnhaltedTimerCount
  0x40000118 partition rw accessTscInvariantControls HvTscInvariantControl: TscInvariantControl
`;

describe('the published tables', () => {
  it('list every register with number, width, scope, access and lowest VTL', () => {
    const listed = parse(REGISTER_LINES).map(([[from, bits, scope, access, minVtl, mark], name, nth]) => [Number(from) + nth, name, Number(bits), scope, access, Number(minVtl), mark !== '?'] as const);
    expect(REGISTERS.map((r: RegisterRow) => [r.number, r.name, r.bits, r.scope, r.access, r.minVtl, r.isScopePublished])).toEqual(sorted([...listed, ...SECURE]));
  });
  it('give layouts to these registers and to no other', () => {
    const layouts = new Map<string, string>(parse(LAYOUT_LINES).map(([[layout = ''], name]) => [name, layout]));
    expect(REGISTERS.filter((r) => r.layout !== undefined).map((r) => [r.name, r.layout?.name])).toEqual(REGISTERS.filter((r) => layouts.has(r.name)).map((r) => [r.name, layouts.get(r.name)]));
    expect(REGISTERS.filter((r) => layouts.has(r.name)).length).toBe(layouts.size);
  });
  it('make these registers an MSR and no other', () => {
    const aliases = ALIASES.split(' ').flatMap(expand);
    expect(REGISTERS.filter((r) => r.msr !== undefined).map((r) => [r.name, msrOf(r.msr!)?.name])).toEqual(aliases.map((name) => [name, RENAMED[name] ?? name]));
  });
  it('list every synthetic MSR with index, scope, access, privilege, layout and reset value', () => {
    const listed = parse(MSR_LINES).map(([[from, scope, access, privilege = '-', layout = '-', reset = '0'], name, nth]) => [Number(from) + nth, name, scope, access, privilege, layout, BigInt(reset)] as const);
    expect(MSRS.map((r: MsrRow) => [r.index, r.name, r.scope, r.access, r.privilege ?? '-', r.layout?.name ?? '-', r.reset ?? 0n])).toEqual(sorted(listed));
  });
});
