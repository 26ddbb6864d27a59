import { bits, numbersOf } from '@vmplanes/binary';

/** VTLs that the architecture provides for, and those that the hypervisor implements for guests. @spec TLFS HV_VTL */
export const ARCHITECTURAL_VTLS = 16;
export const HV_NUM_VTLS = 2;
/** No VTL, and all VTLs. @spec TLFS Virtual Secure Mode, virtual trust levels */
export const HV_INVALID_VTL = 0xff;
export const HV_VTL_ALL = 0xf;

/** The VTL that a call means; without useTargetVtl, that of the caller. @spec TLFS HV_INPUT_VTL */
export const HvInputVtl = bits('HvInputVtl', 'TLFS HV_INPUT_VTL', 8, { targetVtl: [0, 4], useTargetVtl: 4, reservedZ: [5, 3] });

/** Flags of HvCallEnablePartitionVtl. @spec TLFS HvCallEnablePartitionVtl; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvEnablePartitionVtlFlags = bits('HvEnablePartitionVtlFlags', 'TLFS HvCallEnablePartitionVtl; openvmm vm/hv1/hvdef/src/lib.rs', 8, {
  enableMbec: [0, 'separate execute rights for supervisor and user'],
  enableSupervisorShadowStack: 1,
  enableHardwareHvpt: 2,
});

/** Access rights of a page. @spec TLFS HV_MAP_GPA_FLAGS; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvMapGpaFlags = bits('HvMapGpaFlags', 'TLFS HV_MAP_GPA_FLAGS; openvmm vm/hv1/hvdef/src/lib.rs', 32, {
  readable: 0,
  writable: 1,
  kernelExecutable: [2, 'governs all fetches while MBEC is off'],
  userExecutable: 3,
  supervisorShadowStack: 4,
  pagingWritability: 5,
  verifyPagingWritability: 6,
  adjustable: 15,
});
/** The same with the execute bits the other way round. @spec TLFS v5.0C (PDF); TLFS v6.0b (PDF) */
export const HvMapGpaFlagsPdf = bits('HvMapGpaFlagsPdf', 'TLFS v5.0C (PDF); TLFS v6.0b (PDF)', 32, { readable: 0, writable: 1, userExecutable: 2, kernelExecutable: 3 });
/** Often used rights. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvMapGpaPermissions = { None: 0, All: 0xf } as const;

/** Why a VTL was entered. @spec TLFS HV_VP_VTL_CONTROL */
export const HvVtlEntryReason = numbersOf({
  Reserved: [0, 'not used'],
  VtlCall: [1, 'a lower VTL called'],
  Interrupt: [2, 'an interrupt for the VTL, secure intercepts through SINT0 included'],
  Intercept: [3, 'an intercept delivered in the VP assist page'],
});
export type HvVtlEntryReason = (typeof HvVtlEntryReason)[keyof typeof HvVtlEntryReason];

/** Which accesses an intercept is for, as a mask. @spec TLFS HV_INTERCEPT_ACCESS_TYPE_MASK */
export const HvInterceptAccessMask = { None: 0, Read: 1, Write: 2, Execute: 4 } as const;
/** The kind of one intercepted access. @spec TLFS HV_INTERCEPT_ACCESS_TYPE */
export const HvInterceptAccessType = { Read: 0, Write: 1, Execute: 2 } as const;
export type HvInterceptAccessType = (typeof HvInterceptAccessType)[keyof typeof HvInterceptAccessType];

/** What can be intercepted. @spec TLFS HV_INTERCEPT_TYPE; Linux include/hyperv/hvgdk_mini.h */
export const HvInterceptType = {
  X64IoPort: 0x00,
  X64Msr: 0x01,
  X64Cpuid: 0x02,
  Exception: 0x03,
  X64GlobalCpuid: 0x06,
  X64ApicSmi: 0x07,
  Hypercall: 0x08,
  X64ApicInitSipi: 0x09,
  X64ApicWrite: 0x0b,
  X64MsrIndex: 0x0c,
  UnknownSynicConnection: 0x0d,
  X64ApicEoi: 0x0e,
  RetargetInterruptWithUnknownDeviceId: 0x0f,
  ExceptionTrap: 0x10,
  X64IoPortRange: 0x11,
  Register: 0x12,
  SystemResetExt: 0x13,
} as const;
export type HvInterceptType = (typeof HvInterceptType)[keyof typeof HvInterceptType];

/** Kinds of interrupts that a call can assert. @spec TLFS HV_INTERRUPT_TYPE */
export const HvInterruptType = { Fixed: 0, LowestPriority: 1, Smi: 2, RemoteRead: 3, Nmi: 4, Init: 5, Sipi: 6, ExtInt: 7, LocalInt0: 8, LocalInt1: 9 } as const;
export type HvInterruptType = (typeof HvInterruptType)[keyof typeof HvInterruptType];

/** Memory types as calls and messages name them. @spec TLFS HV_TRANSLATE_GVA_RESULT */
export const HvCacheType = { Uncached: 0, WriteCombining: 1, WriteThrough: 4, WriteProtected: 5, WriteBack: 6 } as const;
export type HvCacheType = (typeof HvCacheType)[keyof typeof HvCacheType];

