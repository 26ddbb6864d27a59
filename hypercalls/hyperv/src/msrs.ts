import { bits, type Bits, namesOf, numbersOf } from '@vmplanes/binary';
import type { HvPrivilege } from './privileges.ts';
import { series } from './rows.ts';
import { Source, tlfs } from './sources.ts';
import { HV_SYNIC_SINT_RESET, HvStimerConfig, HvStimeUnhaltedTimerConfig, HvSynicScontrol, HvSynicSimpSiefp, HvSynicSint } from './synic.ts';

/** Who has an instance of a register. @spec TLFS Virtual Secure Mode, private and shared state */
export const HvScope = {
  /** One per VP, seen by all its VTLs. */
  Vp: 'vp',
  /** One per VP and VTL. */
  VpVtl: 'vpVtl',
  /** One per partition. */
  Partition: 'partition',
  /** One per partition and VTL. */
  PartitionVtl: 'partitionVtl',
} as const;
export type HvScope = (typeof HvScope)[keyof typeof HvScope];
/** What a guest may do. */
export const HvAccess = { ReadWrite: 'rw', ReadOnly: 'ro', WriteOnly: 'wo' } as const;
export type HvAccess = (typeof HvAccess)[keyof typeof HvAccess];

const HCIF = tlfs('Hypercall Interface'), FEATURES = tlfs('Feature and Interface Discovery'), VINT = tlfs('Virtual Interrupts'), VPP = tlfs('VP Properties'), IPC = tlfs('Inter-Partition Communication');
const TIMERS = tlfs('Timers');

/** Identity of a guest whose source is closed. @spec TLFS Feature and Interface Discovery, guest OS identity */
export const HvGuestOsIdMicrosoft = bits('HvGuestOsIdMicrosoft', FEATURES, 64, {
  buildNumber: [0, 16], serviceVersion: [16, 8], minorVersion: [24, 8], majorVersion: [32, 8], osId: [40, 8], vendorId: [48, 15], isOpenSource: [63, 'clear'],
});
/** Identity of an open-source guest. @spec TLFS Feature and Interface Discovery, guest OS identity */
export const HvGuestOsIdOpenSource = bits('HvGuestOsIdOpenSource', `${FEATURES}; ${Source.Hvdef}`, 64, {
  buildNumber: [0, 16], version: [16, 32], osId: [48, 8], osType: [56, 7, 'HvGuestOsType'], isOpenSource: [63, 'set'],
});
/** Open-source systems. @spec TLFS Feature and Interface Discovery, guest OS identity */
export const HvGuestOsType = { Undefined: 0, Linux: 1, FreeBsd: 2, Xen: 3, Illumos: 4 } as const;
/** The hypercall page. @spec TLFS Hypercall Interface, establishing the hypercall interface */
export const HvX64MsrHypercallContents = bits('HvX64MsrHypercallContents', HCIF, 64, { enable: 0, locked: 1, preserved: [2, 10], gpaPageNumber: [12, 52] });
/** The VP assist page. @spec TLFS VP Properties, virtual processor assist page */
export const HvX64MsrVpAssistPageContents = bits('HvX64MsrVpAssistPageContents', VPP, 64, { enable: 0, preserved: [1, 11], gpaPageNumber: [12, 52] });
/** The reference TSC page. @spec TLFS Timers, partition reference TSC mechanism */
export const HvX64MsrReferenceTscContents = bits('HvX64MsrReferenceTscContents', TIMERS, 64, { enable: 0, preserved: [1, 11], gpaPageNumber: [12, 52] });
/** Resets the partition. @spec TLFS Feature and Interface Discovery; TLFS v6.0b (PDF) 2.8 */
export const HvX64MsrResetContents = bits('HvX64MsrResetContents', FEATURES, 64, { reset: 0 });
/** Descriptor-table reads that fault above ring 0. @spec TLFS HV_X64_MSR_NPIEP_CONFIG_CONTENTS */
export const HvX64MsrNpiepConfigContents = bits('HvX64MsrNpiepConfigContents', 'TLFS HV_X64_MSR_NPIEP_CONFIG_CONTENTS', 64, { preventSgdt: 0, preventSidt: 1, preventSldt: 2, preventStr: 3 });
/** End of interrupt; the upper half must be zero. @spec TLFS Virtual Interrupts, local APIC MSR accesses */
export const HvX64MsrEoiContents = bits('HvX64MsrEoiContents', VINT, 64, { eoi: [0, 32] });
/** Interrupt command of the local APIC. @spec TLFS Virtual Interrupts, local APIC MSR accesses */
export const HvX64MsrIcrContents = bits('HvX64MsrIcrContents', VINT, 64, { icrLow: [0, 32], icrHigh: [32, 32] });
/** Task priority of the local APIC. @spec TLFS Virtual Interrupts, local APIC MSR accesses */
export const HvX64MsrTprContents = bits('HvX64MsrTprContents', VINT, 64, { tpr: [0, 8] });
/** Notifies of a guest crash; reads give what can be notified. @spec TLFS HV_CRASH_CTL_REG_CONTENTS; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvCrashCtlRegContents = bits('HvCrashCtlRegContents', `TLFS HV_CRASH_CTL_REG_CONTENTS; ${Source.Hvdef}`, 64, {
  preOsId: [58, 3], noCrashDump: 61, crashMessage: [62, 'P3 is the address and P4 the length of a message'], crashNotify: 63,
});
/** Interrupt after a change of the TSC frequency. @spec Linux include/hyperv/hvgdk_mini.h */
export const HvReenlightenmentControl = bits('HvReenlightenmentControl', Source.Linux, 64, { vector: [0, 8], enabled: 16, targetVp: [32, 32] });
/** Turns TSC emulation after a migration on. @spec Linux include/hyperv/hvgdk_mini.h */
export const HvTscEmulationControl = bits('HvTscEmulationControl', Source.Linux, 64, { enabled: 0 });
/** Whether TSC accesses are emulated. @spec Linux include/hyperv/hvgdk_mini.h */
export const HvTscEmulationStatus = bits('HvTscEmulationStatus', Source.Linux, 64, { inProgress: 0 });
/** Shows the invariant TSC to the guest. @spec Linux include/hyperv/hvgdk_mini.h */
export const HvTscInvariantControl = bits('HvTscInvariantControl', Source.Linux, 64, { exposeInvariantTsc: 0 });

/** What there is to know of a synthetic MSR. */
export interface MsrFacts {
  readonly scope: HvScope;
  readonly access: HvAccess;
  readonly spec: string;
  /** Without it the whole value counts. */
  readonly layout?: Bits<64>;
  /** Value after reset; 0 when absent. */
  readonly reset?: bigint;
  /** Without it the guest gets #GP. */
  readonly privilege?: HvPrivilege;
}
/** A synthetic MSR. */
export interface MsrRow extends MsrFacts {
  readonly index: number;
  readonly name: HvMsrName;
}

const { Vp, VpVtl, Partition, PartitionVtl } = HvScope;
const { ReadWrite: rw, ReadOnly: ro, WriteOnly: wo } = HvAccess;
const msr = <const I extends number>(index: I, scope: HvScope, access: HvAccess, spec: string, more: Omit<MsrFacts, 'scope' | 'access' | 'spec'> = {}): readonly [index: I, facts: MsrFacts] =>
  [index, { scope, access, spec, ...more }];
const synic = { privilege: 'accessSynicRegs' } as const;
const stimer = { privilege: 'accessSyntheticTimerRegs' } as const;
const apic = { privilege: 'accessIntrCtrlRegs' } as const;

const stats = { privilege: 'accessStatsReg' } as const;
const debug = { privilege: 'accessDebugRegs' } as const;
const STATS = 'TLFS v5.0C (PDF) appendix F', DEBUG = 'TLFS v5.0C (PDF) appendix F; Linux arch/x86/kvm/hyperv.h';

const rows = {
  GuestOsId: msr(0x4000_0000, PartitionVtl, rw, FEATURES, { privilege: 'accessHypercallMsrs' }),
  Hypercall: msr(0x4000_0001, PartitionVtl, rw, HCIF, { layout: HvX64MsrHypercallContents, privilege: 'accessHypercallMsrs' }),
  VpIndex: msr(0x4000_0002, Vp, ro, VPP, { privilege: 'accessVpIndex' }),
  Reset: msr(0x4000_0003, Partition, rw, FEATURES, { layout: HvX64MsrResetContents, privilege: 'accessResetReg' }),
  VpRuntime: msr(0x4000_0010, Vp, ro, VPP, { privilege: 'accessVpRunTimeReg' }),
  TimeRefCount: msr(0x4000_0020, Partition, ro, TIMERS, { privilege: 'accessPartitionReferenceCounter' }),
  ReferenceTsc: msr(0x4000_0021, PartitionVtl, rw, TIMERS, { layout: HvX64MsrReferenceTscContents, privilege: 'accessPartitionReferenceTsc' }),
  TscFrequency: msr(0x4000_0022, Partition, ro, TIMERS, { privilege: 'accessFrequencyRegs' }),
  ApicFrequency: msr(0x4000_0023, VpVtl, ro, TIMERS, { privilege: 'accessFrequencyRegs' }),
  NpiepConfig: msr(0x4000_0040, VpVtl, rw, VPP, { layout: HvX64MsrNpiepConfigContents }),
  Eoi: msr(0x4000_0070, VpVtl, wo, VINT, { ...apic, layout: HvX64MsrEoiContents }),
  Icr: msr(0x4000_0071, VpVtl, rw, VINT, { ...apic, layout: HvX64MsrIcrContents }),
  Tpr: msr(0x4000_0072, VpVtl, rw, VINT, { ...apic, layout: HvX64MsrTprContents }),
  VpAssistPage: msr(0x4000_0073, VpVtl, rw, VPP, { ...apic, layout: HvX64MsrVpAssistPageContents }),
  Scontrol: msr(0x4000_0080, VpVtl, rw, IPC, { ...synic, layout: HvSynicScontrol }),
  Sversion: msr(0x4000_0081, VpVtl, ro, IPC, { ...synic, reset: 1n }),
  Siefp: msr(0x4000_0082, VpVtl, rw, IPC, { ...synic, layout: HvSynicSimpSiefp }),
  Simp: msr(0x4000_0083, VpVtl, rw, IPC, { ...synic, layout: HvSynicSimpSiefp }),
  Eom: msr(0x4000_0084, VpVtl, rw, IPC, synic),
  Sirbp: msr(0x4000_0085, VpVtl, rw, Source.Linux, { ...synic, layout: HvSynicSimpSiefp }),
  ...series('Sint', (n) => msr<number>(0x4000_0090 + n, VpVtl, rw, IPC, { ...synic, layout: HvSynicSint, reset: HV_SYNIC_SINT_RESET })),
  ...series<'Stimer', readonly [number, MsrFacts], 0 | 1 | 2 | 3, 'Config'>('Stimer', (n) => msr<number>(0x4000_00b0 + 2 * n, VpVtl, rw, TIMERS, { ...stimer, layout: HvStimerConfig }), 4, 'Config'),
  ...series<'Stimer', readonly [number, MsrFacts], 0 | 1 | 2 | 3, 'Count'>('Stimer', (n) => msr<number>(0x4000_00b1 + 2 * n, VpVtl, rw, TIMERS, stimer), 4, 'Count'),
  StatsPartitionRetailPage: msr(0x4000_00e0, Partition, rw, STATS, stats),
  StatsPartitionInternalPage: msr(0x4000_00e1, Partition, rw, STATS, stats),
  StatsVpRetailPage: msr(0x4000_00e2, Vp, rw, STATS, stats),
  StatsVpInternalPage: msr(0x4000_00e3, Vp, rw, STATS, stats),
  GuestIdle: msr(0x4000_00f0, Vp, ro, VPP, { privilege: 'accessGuestIdleReg' }),
  SyntheticDebugControl: msr(0x4000_00f1, Partition, rw, DEBUG, debug),
  SyntheticDebugStatus: msr(0x4000_00f2, Partition, rw, DEBUG, debug),
  SyntheticDebugSendBuffer: msr(0x4000_00f3, Partition, rw, DEBUG, debug),
  SyntheticDebugReceiveBuffer: msr(0x4000_00f4, Partition, rw, DEBUG, debug),
  SyntheticDebugPendingBuffer: msr(0x4000_00f5, Partition, rw, DEBUG, debug),
  DebugDeviceOptions: msr(0x4000_00ff, Partition, rw, DEBUG, debug),
  GuestCrashP0: msr(0x4000_0100, Partition, rw, FEATURES),
  GuestCrashP1: msr(0x4000_0101, Partition, rw, FEATURES),
  GuestCrashP2: msr(0x4000_0102, Partition, rw, FEATURES),
  GuestCrashP3: msr(0x4000_0103, Partition, rw, FEATURES),
  GuestCrashP4: msr(0x4000_0104, Partition, rw, FEATURES),
  GuestCrashCtl: msr(0x4000_0105, Partition, rw, FEATURES, { layout: HvCrashCtlRegContents }),
  ReenlightenmentControl: msr(0x4000_0106, Partition, rw, Source.Linux, { layout: HvReenlightenmentControl, privilege: 'accessReenlightenmentControls' }),
  TscEmulationControl: msr(0x4000_0107, Partition, rw, Source.Linux, { layout: HvTscEmulationControl, privilege: 'accessReenlightenmentControls' }),
  TscEmulationStatus: msr(0x4000_0108, Partition, rw, Source.Linux, { layout: HvTscEmulationStatus, privilege: 'accessReenlightenmentControls' }),
  StimeUnhaltedTimerConfig: msr(0x4000_0114, VpVtl, rw, TIMERS, { ...stimer, layout: HvStimeUnhaltedTimerConfig }),
  StimeUnhaltedTimerCount: msr(0x4000_0115, VpVtl, rw, TIMERS, stimer),
  TscInvariantControl: msr(0x4000_0118, Partition, rw, Source.Linux, { layout: HvTscInvariantControl, privilege: 'accessTscInvariantControls' }),
};

/** Indices by name. @spec TLFS; Linux include/hyperv/hvgdk_mini.h */
export const HvMsr = numbersOf(rows);
/** The name of a synthetic MSR. */
export type HvMsrName = keyof typeof rows;
const names = namesOf<HvMsrName>('HvMsr', rows);
/** Every synthetic MSR, by rising index. */
export const MSRS: readonly MsrRow[] = [...names].map(([index, name]) => ({ index, name, ...rows[name][1] })).sort((a, b) => a.index - b.index);
const byIndex = new Map(MSRS.map((row) => [row.index, row]));
/** Finds a synthetic MSR. */
export const msrOf = (index: number): MsrRow | undefined => byIndex.get(index);
/** Bits that a write must leave clear: those that no field of the layout names. */
export const msrReservedMask = (row: MsrFacts): bigint => row.layout?.reservedMask ?? 0n;
