import { bits, bytes, struct, u16, u32, u64, u8 } from '@vmplanes/binary';
import { Source } from './sources.ts';

/** An event in flight. @spec TLFS HV_REGISTER_VALUE, pending interruption; Linux include/hyperv/hvgdk_mini.h */
export const HvX64PendingInterruptionRegister = bits('HvX64PendingInterruptionRegister', `${Source.Linux}; ${Source.Hvdef}`, 64, {
  interruptionPending: 0,
  interruptionType: [1, 3, 'HvX64PendingInterruptionType'],
  deliverErrorCode: 4,
  instructionLength: [5, 4],
  nestedEvent: 9,
  interruptionVector: [16, 16],
  errorCode: [32, 32],
});
/** Kinds of events in flight. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64PendingInterruptionType = { Interrupt: 0, Nmi: 2, Exception: 3, SoftwareInterrupt: 4, PrivilegedSoftwareException: 5, SoftwareException: 6 } as const;

/** What holds interrupts back. @spec Linux include/hyperv/hvgdk_mini.h */
export const HvX64InterruptStateRegister = bits('HvX64InterruptStateRegister', Source.Linux, 64, { interruptShadow: 0, nmiMasked: 1 });

/** A VP that the host holds. @spec Linux include/hyperv/hvgdk_mini.h */
export const HvSuspendRegister = bits('HvSuspendRegister', Source.Linux, 64, { suspended: 0 });
/** Why a VP does not run. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInternalActivityRegister = bits('HvInternalActivityRegister', Source.Hvdef, 64, { startupSuspend: [0, 'waits for SIPI'], haltSuspend: 1, idleSuspend: 2 });

/** What the VTL above wants to be told of. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvDeliverabilityNotificationsRegister = bits('HvDeliverabilityNotificationsRegister', Source.Hvdef, 64, {
  nmiNotification: 0,
  interruptNotification: 1,
  interruptPriority: [2, 4],
  sints: [48, 16],
});

/** Kinds of pending events. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64PendingEventType = { Exception: 0, MemoryIntercept: 1, NestedMemoryIntercept: 2, VirtualizationFault: 3, HypercallOutput: 4, ExternalInterrupt: 5, ShadowIpt: 6 } as const;
export type HvX64PendingEventType = (typeof HvX64PendingEventType)[keyof typeof HvX64PendingEventType];

/** First byte of every pending event. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64PendingEventHeader = bits('HvX64PendingEventHeader', Source.Hvdef, 8, { eventPending: 0, eventType: [1, 3] });
const deliverErrorCode = bits('HvX64PendingExceptionFlags', Source.Hvdef, 8, { deliverErrorCode: 0 });
/** How far a memory access came. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64PendingEventAccessFlags = bits('HvX64PendingEventAccessFlags', Source.Hvdef, 8, { guestLinearAddressValid: 0, causedByGpaAccess: [1, 'by the access itself, not by a page walk'] });

/** An exception to be delivered. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64PendingExceptionEvent = struct('HvX64PendingExceptionEvent', Source.Hvdef, 32, {
  header: [0, HvX64PendingEventHeader],
  flags: [1, deliverErrorCode],
  vector: [2, u16],
  errorCode: [4, u32],
  exceptionParameter: [8, u64, 'CR2 for #PF'],
  reserved: [16, bytes(16)],
});
/** A memory intercept to be delivered. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64PendingMemoryInterceptEvent = struct('HvX64PendingMemoryInterceptEvent', Source.Hvdef, 32, {
  header: [0, HvX64PendingEventHeader],
  targetVtl: [1, u8],
  accessType: [2, u8, 'HvInterceptAccessType'],
  accessFlags: [3, HvX64PendingEventAccessFlags],
  reserved2: [4, u32],
  guestLinearAddress: [8, u64],
  guestPhysicalAddress: [16, u64],
  reserved3: [24, u64],
});
/** A virtualization fault to be delivered. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64PendingVirtualizationFaultEvent = struct('HvX64PendingVirtualizationFaultEvent', Source.Hvdef, 32, {
  header: [0, HvX64PendingEventHeader],
  reserved1: [1, u8],
  parameter0: [2, u16],
  code: [4, u32],
  parameter1: [8, u64],
  reserved2: [16, bytes(16)],
});
/** Output of a hypercall that is still to be written. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64PendingHypercallOutputEvent = struct('HvX64PendingHypercallOutputEvent', Source.Hvdef, 32, {
  header: [0, HvX64PendingEventHeader],
  retired: [1, u8, 'bit 0: the hypercall has retired'],
  reserved1: [2, u16],
  outputSize: [4, u32, 'bytes'],
  outputGpa: [8, u64],
  reserved2: [16, bytes(16)],
});
/** A directly asserted external interrupt. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64PendingExtIntEvent = struct('HvX64PendingExtIntEvent', Source.Hvdef, 32, {
  header: [0, HvX64PendingEventHeader],
  vector: [1, u8],
  reserved1: [2, bytes(30)],
});
/** Any pending event: registers PendingEvent0 and PendingEvent1 are its halves. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64PendingEvent = struct('HvX64PendingEvent', Source.Hvdef, 32, {
  header: [0, HvX64PendingEventHeader],
  data: [1, bytes(31)],
});

/** The x87 control words as a register. @spec TLFS HV_X64_FP_CONTROL_STATUS_REGISTER */
export const HvX64FpControlStatusRegister = struct('HvX64FpControlStatusRegister', 'TLFS HV_X64_FP_CONTROL_STATUS_REGISTER', 16, {
  fpControl: [0, u16],
  fpStatus: [2, u16],
  fpTag: [4, u8],
  reserved: [5, u8],
  lastFpOpcode: [6, u16],
  lastFpRip: [8, u64],
});
/** MXCSR and the last data pointer as a register. @spec TLFS HV_X64_XMM_CONTROL_STATUS_REGISTER */
export const HvX64XmmControlStatusRegister = struct('HvX64XmmControlStatusRegister', 'TLFS HV_X64_XMM_CONTROL_STATUS_REGISTER', 16, {
  lastFpRdp: [0, u64],
  xmmStatusControl: [8, u32],
  xmmStatusControlMask: [12, u32],
});
