import { namesOf, numbersOf } from '@vmplanes/binary';
import type { AnyLayout } from '@vmplanes/binary';
import { HvX64SegmentRegister, HvX64TableRegister } from './context.ts';
import { HvAccess, HvCrashCtlRegContents, HvMsr, HvScope, HvX64MsrHypercallContents, HvX64MsrReferenceTscContents, HvX64MsrVpAssistPageContents } from './msrs.ts';
import {
  HvDeliverabilityNotificationsRegister, HvInternalActivityRegister, HvSuspendRegister, HvX64FpControlStatusRegister, HvX64InterruptStateRegister, HvX64PendingInterruptionRegister, HvX64XmmControlStatusRegister,
} from './pending.ts';
import { series } from './rows.ts';
import { HvStimerConfig, HvStimeUnhaltedTimerConfig, HvSynicScontrol, HvSynicSimpSiefp, HvSynicSint } from './synic.ts';
import {
  HvRegisterCrInterceptControl, HvRegisterGuestVsmPartitionConfig, HvRegisterVsmCapabilities, HvRegisterVsmCodePageOffsets, HvRegisterVsmPartitionConfig, HvRegisterVsmPartitionStatus, HvRegisterVsmVina,
  HvRegisterVsmVpSecureVtlConfig, HvRegisterVsmVpStatus, HvRegisterVsmVpWaitForTlbLock,
} from './vsm.ts';

/** What there is to know of a register of HvCallGetVpRegisters and HvCallSetVpRegisters. */
export interface RegisterFacts {
  readonly bits: 64 | 128;
  readonly scope: HvScope;
  readonly access: HvAccess;
  /** The lowest VTL that has an instance. */
  readonly minVtl: number;
  /** Without it the whole value counts. */
  readonly layout?: AnyLayout;
  /** Index of the MSR that is the same register. */
  readonly msr?: number;
  /** `false` where no public list says whether VTLs share it; the scope is then our choice. */
  readonly isScopePublished: boolean;
}
/** A register. */
export interface RegisterRow extends RegisterFacts {
  readonly number: number;
  readonly name: HvRegisterName;
}
type More = Partial<Pick<RegisterFacts, 'layout' | 'msr' | 'minVtl' | 'access' | 'isScopePublished'>>;
type Entry<N extends number> = readonly [number: N, facts: RegisterFacts];

const reg = <const N extends number>(number: N, bits: 64 | 128, scope: HvScope, more: More = {}): Entry<N> => [number, { bits, scope, access: HvAccess.ReadWrite, minVtl: 0, isScopePublished: true, ...more }];
const shared = <const N extends number>(number: N, more?: More): Entry<N> => reg(number, 64, HvScope.Vp, more);
const priv = <const N extends number>(number: N, more?: More): Entry<N> => reg(number, 64, HvScope.VpVtl, more);
const wideShared = <const N extends number>(number: N, more?: More): Entry<N> => reg(number, 128, HvScope.Vp, more);
const segment = <const N extends number>(number: N): Entry<N> => reg(number, 128, HvScope.VpVtl, { layout: HvX64SegmentRegister });
const table = <const N extends number>(number: N): Entry<N> => reg(number, 128, HvScope.VpVtl, { layout: HvX64TableRegister });
const partition = <const N extends number>(number: N, more?: More): Entry<N> => reg(number, 64, HvScope.Partition, more);
const ofVtl = <const N extends number>(number: N, more?: More): Entry<N> => reg(number, 64, HvScope.PartitionVtl, more);
const cpuid = <const N extends number>(number: N): Entry<N> => reg(number, 128, HvScope.Partition, { access: HvAccess.ReadOnly });
const RO = { access: HvAccess.ReadOnly } as const;
const UNLISTED = { isScopePublished: false } as const;

const rows = {
  // Execution state of a VP
  ExplicitSuspend: shared(0x0000_0000, { layout: HvSuspendRegister }),
  InterceptSuspend: shared(0x0000_0001, { layout: HvSuspendRegister }),
  InstructionEmulationHints: priv(0x0000_0002, { ...RO, ...UNLISTED }),
  DispatchSuspend: shared(0x0000_0003, { layout: HvSuspendRegister }),
  InternalActivityState: priv(0x0000_0004, { layout: HvInternalActivityRegister }),
  // Copies of CPUID leaves
  HypervisorVersion: cpuid(0x0000_0100),
  PrivilegesAndFeaturesInfo: cpuid(0x0000_0200),
  FeaturesInfo: cpuid(0x0000_0201),
  ImplementationLimitsInfo: cpuid(0x0000_0202),
  HardwareFeaturesInfo: cpuid(0x0000_0203),
  CpuManagementFeaturesInfo: cpuid(0x0000_0204),
  SvmFeaturesInfo: cpuid(0x0000_0205),
  SkipLevelFeaturesInfo: cpuid(0x0000_0206),
  NestedVirtFeaturesInfo: cpuid(0x0000_0207),
  IptFeaturesInfo: cpuid(0x0000_0208),
  IsolationConfiguration: cpuid(0x0000_0209),
  // Guest crash
  GuestCrashP0: partition(0x0000_0210, { msr: HvMsr.GuestCrashP0 }),
  GuestCrashP1: partition(0x0000_0211, { msr: HvMsr.GuestCrashP1 }),
  GuestCrashP2: partition(0x0000_0212, { msr: HvMsr.GuestCrashP2 }),
  GuestCrashP3: partition(0x0000_0213, { msr: HvMsr.GuestCrashP3 }),
  GuestCrashP4: partition(0x0000_0214, { msr: HvMsr.GuestCrashP4 }),
  GuestCrashCtl: partition(0x0000_0215, { msr: HvMsr.GuestCrashCtl, layout: HvCrashCtlRegContents }),
  // Frequencies and power
  ProcessorClockFrequency: partition(0x0000_0240, { ...RO, msr: HvMsr.TscFrequency }),
  InterruptClockFrequency: priv(0x0000_0241, { ...RO, msr: HvMsr.ApicFrequency }),
  GuestIdle: shared(0x0000_0250, { msr: HvMsr.GuestIdle }),
  DebugDeviceOptions: partition(0x0000_0260, { msr: HvMsr.DebugDeviceOptions }),
  // Events
  PendingInterruption: priv(0x0001_0002, { layout: HvX64PendingInterruptionRegister }),
  InterruptState: priv(0x0001_0003, { layout: HvX64InterruptStateRegister }),
  PendingEvent0: reg(0x0001_0004, 128, HvScope.VpVtl),
  PendingEvent1: reg(0x0001_0005, 128, HvScope.VpVtl),
  DeliverabilityNotifications: priv(0x0001_0006, { layout: HvDeliverabilityNotificationsRegister }),
  // General registers
  Rax: shared(0x0002_0000),
  Rcx: shared(0x0002_0001),
  Rdx: shared(0x0002_0002),
  Rbx: shared(0x0002_0003),
  Rsp: priv(0x0002_0004),
  Rbp: shared(0x0002_0005),
  Rsi: shared(0x0002_0006),
  Rdi: shared(0x0002_0007),
  R8: shared(0x0002_0008),
  R9: shared(0x0002_0009),
  R10: shared(0x0002_000a),
  R11: shared(0x0002_000b),
  R12: shared(0x0002_000c),
  R13: shared(0x0002_000d),
  R14: shared(0x0002_000e),
  R15: shared(0x0002_000f),
  Rip: priv(0x0002_0010),
  Rflags: priv(0x0002_0011),
  // Floating point and vectors
  ...series('Xmm', (n) => wideShared<number>(0x0003_0000 + n)),
  ...series<'FpMmx', Entry<number>, 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7>('FpMmx', (n) => wideShared<number>(0x0003_0010 + n), 8),
  FpControlStatus: wideShared(0x0003_0018, { layout: HvX64FpControlStatusRegister }),
  XmmControlStatus: wideShared(0x0003_0019, { layout: HvX64XmmControlStatusRegister }),
  // Control registers
  Cr0: priv(0x0004_0000),
  Cr2: shared(0x0004_0001),
  Cr3: priv(0x0004_0002),
  Cr4: priv(0x0004_0003),
  Cr8: priv(0x0004_0004),
  Xfem: shared(0x0004_0005),
  IntermediateCr0: priv(0x0004_1000, UNLISTED),
  IntermediateCr3: priv(0x0004_1002, UNLISTED),
  IntermediateCr4: priv(0x0004_1003, UNLISTED),
  IntermediateCr8: priv(0x0004_1004, UNLISTED),
  // Debug registers
  Dr0: shared(0x0005_0000),
  Dr1: shared(0x0005_0001),
  Dr2: shared(0x0005_0002),
  Dr3: shared(0x0005_0003),
  Dr6: priv(0x0005_0004),
  Dr7: priv(0x0005_0005),
  // Segments and tables
  Es: segment(0x0006_0000),
  Cs: segment(0x0006_0001),
  Ss: segment(0x0006_0002),
  Ds: segment(0x0006_0003),
  Fs: segment(0x0006_0004),
  Gs: segment(0x0006_0005),
  Ldtr: segment(0x0006_0006),
  Tr: segment(0x0006_0007),
  Idtr: table(0x0007_0000),
  Gdtr: table(0x0007_0001),
  // Virtualized MSRs
  Tsc: priv(0x0008_0000),
  Efer: priv(0x0008_0001),
  KernelGsBase: priv(0x0008_0002),
  ApicBase: priv(0x0008_0003),
  Pat: priv(0x0008_0004),
  SysenterCs: priv(0x0008_0005),
  SysenterEip: priv(0x0008_0006),
  SysenterEsp: priv(0x0008_0007),
  Star: priv(0x0008_0008),
  Lstar: priv(0x0008_0009),
  Cstar: priv(0x0008_000a),
  Sfmask: priv(0x0008_000b),
  InitialApicId: shared(0x0008_000c, { ...RO, ...UNLISTED }),
  MtrrCap: shared(0x0008_000d, RO),
  MtrrDefType: shared(0x0008_000e),
  ...series('MtrrPhysBase', (n) => shared<number>(0x0008_0010 + n)),
  ...series('MtrrPhysMask', (n) => shared<number>(0x0008_0040 + n)),
  MtrrFix64k00000: shared(0x0008_0070),
  MtrrFix16k80000: shared(0x0008_0071),
  MtrrFix16kA0000: shared(0x0008_0072),
  MtrrFix4kC0000: shared(0x0008_0073),
  MtrrFix4kC8000: shared(0x0008_0074),
  MtrrFix4kD0000: shared(0x0008_0075),
  MtrrFix4kD8000: shared(0x0008_0076),
  MtrrFix4kE0000: shared(0x0008_0077),
  MtrrFix4kE8000: shared(0x0008_0078),
  MtrrFix4kF0000: shared(0x0008_0079),
  MtrrFix4kF8000: shared(0x0008_007a),
  TscAux: priv(0x0008_007b),
  Bndcfgs: priv(0x0008_007c, UNLISTED),
  DebugCtl: priv(0x0008_007d, UNLISTED),
  MCount: shared(0x0008_007e, { ...RO, ...UNLISTED }),
  ACount: shared(0x0008_007f, { ...RO, ...UNLISTED }),
  SgxLaunchControl0: shared(0x0008_0080, UNLISTED),
  SgxLaunchControl1: shared(0x0008_0081, UNLISTED),
  SgxLaunchControl2: shared(0x0008_0082, UNLISTED),
  SgxLaunchControl3: shared(0x0008_0083, UNLISTED),
  SpecCtrl: priv(0x0008_0084, UNLISTED),
  PredCmd: shared(0x0008_0085, { access: HvAccess.WriteOnly, ...UNLISTED }),
  VirtSpecCtrl: priv(0x0008_0086, UNLISTED),
  TscVirtualOffset: priv(0x0008_0087, UNLISTED),
  TsxCtrl: priv(0x0008_0088, UNLISTED),
  McUpdatePatchLevel: shared(0x0008_0089, UNLISTED),
  Xss: priv(0x0008_008b, UNLISTED),
  UCet: shared(0x0008_008c, UNLISTED),
  SCet: priv(0x0008_008d, UNLISTED),
  Ssp: priv(0x0008_008e, UNLISTED),
  Pl0Ssp: shared(0x0008_008f, UNLISTED),
  Pl1Ssp: shared(0x0008_0090, UNLISTED),
  Pl2Ssp: shared(0x0008_0091, UNLISTED),
  Pl3Ssp: shared(0x0008_0092, UNLISTED),
  InterruptSspTableAddr: priv(0x0008_0093, UNLISTED),
  TscVirtualMultiplier: priv(0x0008_0094, UNLISTED),
  TscDeadline: priv(0x0008_0095, UNLISTED),
  TscAdjust: priv(0x0008_0096, UNLISTED),
  Pasid: priv(0x0008_0097, UNLISTED),
  UmwaitControl: shared(0x0008_0098, UNLISTED),
  Xfd: shared(0x0008_0099, UNLISTED),
  XfdErr: shared(0x0008_009a, UNLISTED),
  Ia32MiscEnable: priv(0x0008_00a0, UNLISTED),
  Ia32FeatureControl: shared(0x0008_00a1, UNLISTED),
  // Hypervisor registers
  VpRuntime: shared(0x0009_0000, { ...RO, msr: HvMsr.VpRuntime }),
  Hypercall: ofVtl(0x0009_0001, { msr: HvMsr.Hypercall, layout: HvX64MsrHypercallContents }),
  GuestOsId: ofVtl(0x0009_0002, { msr: HvMsr.GuestOsId }),
  VpIndex: shared(0x0009_0003, { ...RO, msr: HvMsr.VpIndex }),
  TimeRefCount: partition(0x0009_0004, { ...RO, msr: HvMsr.TimeRefCount }),
  CpuManagementVersion: partition(0x0009_0007, { ...RO, ...UNLISTED }),
  Eoi: priv(0x0009_0010, { access: HvAccess.WriteOnly, msr: HvMsr.Eoi }),
  Icr: priv(0x0009_0011, { msr: HvMsr.Icr }),
  Tpr: priv(0x0009_0012, { msr: HvMsr.Tpr }),
  VpAssistPage: priv(0x0009_0013, { msr: HvMsr.VpAssistPage, layout: HvX64MsrVpAssistPageContents }),
  VpRootSignalCount: shared(0x0009_0014, UNLISTED),
  ReferenceTsc: ofVtl(0x0009_0017, { msr: HvMsr.ReferenceTsc, layout: HvX64MsrReferenceTscContents }),
  VpConfig: shared(0x0009_0018, UNLISTED),
  Ghcb: shared(0x0009_0019, UNLISTED),
  ReferenceTscSequence: partition(0x0009_001a, UNLISTED),
  GuestSchedulerEvent: shared(0x0009_001b, UNLISTED),
  RegisterPage: shared(0x0009_001c, UNLISTED),
  EmulatedTimerPeriod: partition(0x0009_0030, UNLISTED),
  EmulatedTimerControl: partition(0x0009_0031, UNLISTED),
  PmTimerAssist: partition(0x0009_0032, UNLISTED),
  SevControl: priv(0x0009_0040, UNLISTED),
  // Synthetic interrupt controller
  ...series('Sint', (n) => priv<number>(0x000a_0000 + n, { msr: HvMsr.Sint0 + n, layout: HvSynicSint })),
  Scontrol: priv(0x000a_0010, { msr: HvMsr.Scontrol, layout: HvSynicScontrol }),
  Sversion: priv(0x000a_0011, { ...RO, msr: HvMsr.Sversion }),
  Siefp: priv(0x000a_0012, { msr: HvMsr.Siefp, layout: HvSynicSimpSiefp }),
  Simp: priv(0x000a_0013, { msr: HvMsr.Simp, layout: HvSynicSimpSiefp }),
  Eom: priv(0x000a_0014, { msr: HvMsr.Eom }),
  Sirbp: priv(0x000a_0015, { msr: HvMsr.Sirbp, layout: HvSynicSimpSiefp }),
  // Synthetic timers
  ...series<'Stimer', Entry<number>, 0 | 1 | 2 | 3, 'Config'>('Stimer', (n) => priv<number>(0x000b_0000 + 2 * n, { msr: HvMsr.Stimer0Config + 2 * n, layout: HvStimerConfig }), 4, 'Config'),
  ...series<'Stimer', Entry<number>, 0 | 1 | 2 | 3, 'Count'>('Stimer', (n) => priv<number>(0x000b_0001 + 2 * n, { msr: HvMsr.Stimer0Count + 2 * n }), 4, 'Count'),
  StimeUnhaltedTimerConfig: priv(0x000b_0100, { msr: HvMsr.StimeUnhaltedTimerConfig, layout: HvStimeUnhaltedTimerConfig }),
  StimeUnhaltedTimerCount: priv(0x000b_0101, { msr: HvMsr.StimeUnhaltedTimerCount }),
  // Upper vectors
  ...series<'Ymm', Entry<number>, 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15, 'Low'>('Ymm', (n) => wideShared<number>(0x000c_0000 + n), 16, 'Low'),
  ...series<'Ymm', Entry<number>, 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15, 'High'>('Ymm', (n) => wideShared<number>(0x000c_0010 + n), 16, 'High'),
  // Virtual Secure Mode
  VsmVpVtlControl: priv(0x000d_0000, UNLISTED),
  VsmCodePageOffsets: ofVtl(0x000d_0002, { ...RO, layout: HvRegisterVsmCodePageOffsets }),
  VsmVpStatus: shared(0x000d_0003, { ...RO, layout: HvRegisterVsmVpStatus }),
  VsmPartitionStatus: partition(0x000d_0004, { ...RO, layout: HvRegisterVsmPartitionStatus }),
  VsmVina: priv(0x000d_0005, { minVtl: 1, layout: HvRegisterVsmVina }),
  VsmCapabilities: partition(0x000d_0006, { ...RO, layout: HvRegisterVsmCapabilities }),
  VsmPartitionConfig: ofVtl(0x000d_0007, { minVtl: 1, layout: HvRegisterVsmPartitionConfig }),
  GuestVsmPartitionConfig: partition(0x000d_0008, { minVtl: 2, layout: HvRegisterGuestVsmPartitionConfig }),
  ...series<'VsmVpSecureConfigVtl', Entry<number>, 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14>(
    'VsmVpSecureConfigVtl', (n) => priv<number>(0x000d_0010 + n, { minVtl: n + 1, layout: HvRegisterVsmVpSecureVtlConfig }), 15),
  VsmVpWaitForTlbLock: shared(0x000d_0020, { layout: HvRegisterVsmVpWaitForTlbLock }),
  IsolationCapabilities: partition(0x000d_0100, RO),
  CrInterceptControl: priv(0x000e_0000, { minVtl: 1, layout: HvRegisterCrInterceptControl }),
  CrInterceptCr0Mask: priv(0x000e_0001, { minVtl: 1 }),
  CrInterceptCr4Mask: priv(0x000e_0002, { minVtl: 1 }),
  CrInterceptIa32MiscEnableMask: priv(0x000e_0003, { minVtl: 1 }),
};

/** Numbers by name. @spec TLFS HV_REGISTER_NAME; openvmm vm/hv1/hvdef/src/lib.rs; Linux include/hyperv/hvgdk_mini.h */
export const HvRegister = numbersOf(rows);
/** The name of a register. */
export type HvRegisterName = keyof typeof rows;
const names = namesOf<HvRegisterName>('HvRegister', rows);
/** Every register, by rising number. Sharing follows TLFS Virtual Secure Mode, private and shared state. */
export const REGISTERS: readonly RegisterRow[] = [...names].map(([number, name]) => ({ number, name, ...rows[name][1] })).sort((a, b) => a.number - b.number);
const byNumber = new Map(REGISTERS.map((row) => [row.number, row]));
/** Finds a register. */
export const registerOf = (number: number): RegisterRow | undefined => byNumber.get(number);
