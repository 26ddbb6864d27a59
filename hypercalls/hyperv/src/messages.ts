import { array, bits, bytes, type Fields, namesOf, numbersOf, struct, tagged, u16, u32, u64, u8 } from '@vmplanes/binary';
import { HvRegisterValue, HvX64SegmentRegister } from './context.ts';
import { Source } from './sources.ts';

const COMMON = `TLFS HV_MESSAGE; ${Source.Hvdef}`;
/** Bytes of a message and of its payload. @spec TLFS HV_MESSAGE */
export const HV_MESSAGE_SIZE = 256;
export const HV_MESSAGE_PAYLOAD_BYTES = 240;
/** Types that the hypervisor sends have this bit; guests may not. @spec TLFS HV_MESSAGE_TYPE */
export const HV_MESSAGE_TYPE_HYPERVISOR_MASK = 0x8000_0000;

const types = {
  None: [0x0000_0000, 'the slot is empty'],
  UnmappedGpa: [0x8000_0000, 'access to a page that is not mapped'],
  GpaIntercept: [0x8000_0001, 'access that the mapping does not allow'],
  UnacceptedGpa: [0x8000_0003, 'access to a page that the guest has not accepted'],
  GpaAttributeIntercept: [0x8000_0004, 'change of page attributes'],
  EnablePartitionVtlIntercept: [0x8000_0005, 'a VTL is to be enabled'],
  TimerExpired: [0x8000_0010, 'a synthetic timer'],
  InvalidVpRegisterValue: [0x8000_0020, 'the VP state is not valid'],
  UnrecoverableException: [0x8000_0021, 'triple fault'],
  UnsupportedFeature: [0x8000_0022, ''],
  TlbPageSizeMismatch: [0x8000_0023, ''],
  IommuFault: [0x8000_0024, ''],
  OpaqueIntercept: [0x8000_003f, 'the intercept is in the intercept message page'],
  EventLogBufferComplete: [0x8000_0040, ''],
  HypercallIntercept: [0x8000_0050, ''],
  SynicEventIntercept: [0x8000_0060, ''],
  SynicSintIntercept: [0x8000_0061, ''],
  SynicSintDeliverable: [0x8000_0062, 'a watched SINT can take a message'],
  AsyncCallCompletion: [0x8000_0070, ''],
  SchedulerVpSignalBitset: [0x8000_0100, ''],
  SchedulerVpSignalPair: [0x8000_0101, ''],
  X64IoPortIntercept: [0x8001_0000, ''],
  MsrIntercept: [0x8001_0001, ''],
  X64CpuidIntercept: [0x8001_0002, ''],
  ExceptionIntercept: [0x8001_0003, ''],
  X64ApicEoi: [0x8001_0004, ''],
  X64IommuPrq: [0x8001_0005, 'legacy FP error in Linux'],
  RegisterIntercept: [0x8001_0006, 'control and table registers; IOMMU page request in Linux'],
  X64Halt: [0x8001_0007, ''],
  X64InterruptionDeliverable: [0x8001_0008, 'a watched kind of interruption can be delivered'],
  X64SipiIntercept: [0x8001_0009, ''],
  X64RdtscIntercept: [0x8001_000a, ''],
  X64ApicSmiIntercept: [0x8001_000b, ''],
  Arm64ResetIntercept: [0x8001_000c, ''],
  X64ApicInitSipiIntercept: [0x8001_000d, ''],
  X64ApicWriteIntercept: [0x8001_000e, ''],
  X64ProxyInterruptIntercept: [0x8001_000f, ''],
  X64IsolationCtrlRegIntercept: [0x8001_0010, ''],
  X64SnpGuestRequestIntercept: [0x8001_0011, ''],
  X64ExceptionTrapIntercept: [0x8001_0012, ''],
  X64SevVmgexitIntercept: [0x8001_0013, ''],
} as const;
/** Message types. @spec TLFS HV_MESSAGE_TYPE; openvmm vm/hv1/hvdef/src/lib.rs; Linux include/hyperv/hvgdk_mini.h */
export const HvMessageType = numbersOf(types);
export type HvMessageType = (typeof HvMessageType)[keyof typeof HvMessageType];
const typeNames = namesOf('HvMessageType', types);
/** The name of a message type; `undefined` for types of guests and unknown ones. */
export const messageTypeName = (type: number): keyof typeof HvMessageType | undefined => typeNames.get(type);

/** State of a message slot. @spec TLFS HV_MESSAGE */
export const HvMessageFlags = bits('HvMessageFlags', COMMON, 8, { messagePending: [0, 'more messages wait for this slot'] });
/** Head of a message. @spec TLFS HV_MESSAGE */
export const HvMessageHeader = struct('HvMessageHeader', COMMON, 16, {
  type: [0, u32, 'HvMessageType'],
  payloadSize: [4, u8, 'bytes, at most 240'],
  flags: [5, HvMessageFlags],
  reserved: [6, u16],
  origin: [8, u64, 'sender: partition, or port'],
});
/** A message slot. @spec TLFS HV_MESSAGE */
export const HvMessage = struct('HvMessage', COMMON, HV_MESSAGE_SIZE, { header: [0, HvMessageHeader], payload: [16, bytes(HV_MESSAGE_PAYLOAD_BYTES)] });
/** Payload of a timer's message. @spec TLFS HV_TIMER_MESSAGE_PAYLOAD */
export const HvTimerMessagePayload = struct('HvTimerMessagePayload', 'TLFS HV_TIMER_MESSAGE_PAYLOAD', 24, {
  timerIndex: [0, u32],
  reserved: [4, u32],
  expirationTime: [8, u64, '100 ns, reference time at which it was due'],
  deliveryTime: [16, u64, '100 ns, reference time at which it was delivered'],
});

/** State of the VP at an intercept. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64VpExecutionState = bits('HvX64VpExecutionState', Source.Hvdef, 16, {
  cpl: [0, 2],
  cr0Pe: 2,
  cr0Am: 3,
  eferLma: 4,
  debugActive: 5,
  interruptionPending: 6,
  vtl: [7, 4, 'reserved in TLFS v6.0b (PDF)'],
  enclaveMode: 11,
  interruptShadow: 12,
  virtualizationFaultActive: 13,
});
/** Length of the intercepted instruction, and task priority. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64InstructionLengthAndCr8 = bits('HvX64InstructionLengthAndCr8', Source.Hvdef, 8, { instructionLength: [0, 4, '0 when not known'], cr8: [4, 4] });
/** Head of every intercept's payload. @spec TLFS v6.0b (PDF) 11.9; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64InterceptMessageHeader = struct('HvX64InterceptMessageHeader', Source.Hvdef, 40, {
  vpIndex: [0, u32],
  instructionLengthAndCr8: [4, HvX64InstructionLengthAndCr8],
  accessType: [5, u8, 'HvInterceptAccessType'],
  executionState: [6, HvX64VpExecutionState],
  cs: [8, HvX64SegmentRegister],
  rip: [24, u64],
  rflags: [32, u64],
});
const header = [0, HvX64InterceptMessageHeader] as const;
const GENERAL_REGISTERS = {
  ds: [0x50, HvX64SegmentRegister],
  ss: [0x60, HvX64SegmentRegister],
  rax: [0x70, u64], rcx: [0x78, u64], rdx: [0x80, u64], rbx: [0x88, u64], rsp: [0x90, u64], rbp: [0x98, u64], rsi: [0xa0, u64], rdi: [0xa8, u64],
  r8: [0xb0, u64], r9: [0xb8, u64], r10: [0xc0, u64], r11: [0xc8, u64], r12: [0xd0, u64], r13: [0xd8, u64], r14: [0xe0, u64], r15: [0xe8, u64],
} as const satisfies Fields;

/** What is known of an intercepted memory access. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64MemoryAccessInfo = bits('HvX64MemoryAccessInfo', Source.Hvdef, 8, {
  gvaValid: 0,
  gvaGpaValid: [1, 'the addresses belong to each other: not a page walk'],
  hypercallOutputPending: 2,
  tlbLocked: 3,
  supervisorShadowStack: 4,
});
const MEMORY_INTERCEPT = {
  header,
  cacheType: [0x28, u32, 'HvCacheType'],
  instructionByteCount: [0x2c, u8],
  memoryAccessInfo: [0x2d, HvX64MemoryAccessInfo],
  tprPriority: [0x2e, u8],
  reserved: [0x2f, u8],
  guestVirtualAddress: [0x30, u64],
  guestPhysicalAddress: [0x38, u64],
  instructionBytes: [0x40, bytes(16)],
} as const satisfies Fields;
/** Memory access refused, with the registers of the VP. @spec TLFS v6.0b (PDF) 11.9; kvm-unit-tests x86/hyperv_vsm.c (branch vsm-next) */
export const HvX64MemoryInterceptMessage = struct('HvX64MemoryInterceptMessage', `${Source.Pdf6} 11.9; ${Source.Kut}`, 0xf0, { ...MEMORY_INTERCEPT, ...GENERAL_REGISTERS });
/** The same without registers. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64MemoryInterceptMessageShort = struct('HvX64MemoryInterceptMessageShort', Source.Hvdef, 0x50, MEMORY_INTERCEPT);

/** Kind of an intercepted port access. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64IoPortAccessInfo = bits('HvX64IoPortAccessInfo', Source.Hvdef, 8, { accessSize: [0, 3, 'bytes: 1, 2, 4'], stringOp: 3, repPrefix: 4 });
/** Port access. @spec TLFS v6.0b (PDF) 11.9; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64IoPortInterceptMessage = struct('HvX64IoPortInterceptMessage', Source.Hvdef, 0x80, {
  header,
  portNumber: [0x28, u16],
  accessInfo: [0x2a, HvX64IoPortAccessInfo],
  instructionByteCount: [0x2b, u8],
  reserved: [0x2c, u32],
  rax: [0x30, u64],
  instructionBytes: [0x38, bytes(16)],
  ds: [0x48, HvX64SegmentRegister],
  es: [0x58, HvX64SegmentRegister],
  rcx: [0x68, u64],
  rsi: [0x70, u64],
  rdi: [0x78, u64],
});
/** MSR access; RDX:RAX holds what was to be written. @spec TLFS v6.0b (PDF) 11.9; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64MsrInterceptMessage = struct('HvX64MsrInterceptMessage', Source.Hvdef, 0x40, { header, msrNumber: [0x28, u32], reserved: [0x2c, u32], rdx: [0x30, u64], rax: [0x38, u64] });
/** Where the value of a register intercept comes from. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64RegisterInterceptFlags = bits('HvX64RegisterInterceptFlags', Source.Hvdef, 8, { isMemoryOperand: 0 });
/** Write of a control or table register. @spec TLFS HV_MESSAGE_TYPE; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64RegisterInterceptMessage = struct('HvX64RegisterInterceptMessage', Source.Hvdef, 0x40, {
  header,
  flags: [0x28, HvX64RegisterInterceptFlags],
  reserved: [0x29, bytes(3)],
  registerName: [0x2c, u32, 'HV_REGISTER_NAME'],
  sourceValue: [0x30, HvRegisterValue],
});
/** CPUID executed. @spec TLFS v6.0b (PDF) 11.9; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64CpuidInterceptMessage = struct('HvX64CpuidInterceptMessage', Source.Hvdef, 0x68, {
  header,
  rax: [0x28, u64], rcx: [0x30, u64], rdx: [0x38, u64], rbx: [0x40, u64],
  defaultResultRax: [0x48, u64], defaultResultRcx: [0x50, u64], defaultResultRdx: [0x58, u64], defaultResultRbx: [0x60, u64],
});
/** Kind of an intercepted exception. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64ExceptionInfo = bits('HvX64ExceptionInfo', Source.Hvdef, 8, { errorCodeValid: 0, softwareException: 1 });
/** Exception raised. @spec TLFS v6.0b (PDF) 11.9; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64ExceptionInterceptMessage = struct('HvX64ExceptionInterceptMessage', Source.Hvdef, 0xf0, {
  header,
  vector: [0x28, u16],
  exceptionInfo: [0x2a, HvX64ExceptionInfo],
  instructionByteCount: [0x2b, u8],
  errorCode: [0x2c, u32],
  exceptionParameter: [0x30, u64, 'CR2 for #PF'],
  reserved: [0x38, u64],
  instructionBytes: [0x40, bytes(16)],
  ...GENERAL_REGISTERS,
});
/** Hypercall issued. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64HypercallInterceptMessage = struct('HvX64HypercallInterceptMessage', Source.Hvdef, 0xd0, {
  header,
  rax: [0x28, u64], rbx: [0x30, u64], rcx: [0x38, u64], rdx: [0x40, u64], r8: [0x48, u64], rsi: [0x50, u64], rdi: [0x58, u64],
  xmmRegisters: [0x60, array(HvRegisterValue, 6)],
  flags: [0xc0, u32, 'bit 0: isolated'],
  reserved: [0xc4, array(u32, 3)],
});
/** A watched SINT became deliverable. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64SynicSintDeliverableMessage = struct('HvX64SynicSintDeliverableMessage', Source.Hvdef, 0x30, { header, deliverableSints: [0x28, u16, 'mask'], reserved: [0x2a, bytes(6)] });
/** A watched interruption became deliverable. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64InterruptionDeliverableMessage = struct('HvX64InterruptionDeliverableMessage', Source.Hvdef, 0x30, { header, deliverableType: [0x28, u32, 'HvX64PendingInterruptionType'], reserved: [0x2c, u32] });
/** Start-up IPI. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64SipiInterceptMessage = struct('HvX64SipiInterceptMessage', Source.Hvdef, 0x30, { header, targetVpIndex: [0x28, u32], vector: [0x2c, u32] });
/** HLT executed. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64HaltMessage = struct('HvX64HaltMessage', Source.Hvdef, 0x28, { header });
/** Triple fault. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64UnrecoverableExceptionMessage = struct('HvX64UnrecoverableExceptionMessage', Source.Hvdef, 0x28, { header });
/** End of a level interrupt. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvX64ApicEoiMessage = struct('HvX64ApicEoiMessage', Source.Hvdef, 8, { vpIndex: [0, u32], interruptVector: [4, u32] });
/** State of a VP that cannot be run. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInvalidVpRegisterMessage = struct('HvInvalidVpRegisterMessage', Source.Hvdef, 8, { vpIndex: [0, u32], reserved: [4, u32] });

/** A message with its payload taken apart by type; the types left out have no public payload. @spec TLFS HV_MESSAGE_TYPE; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvTypedMessage = tagged('HvTypedMessage', COMMON, HV_MESSAGE_SIZE, HvMessageHeader, 'type', {
  unmappedGpa: [types.UnmappedGpa[0], HvX64MemoryInterceptMessage],
  gpaIntercept: [types.GpaIntercept[0], HvX64MemoryInterceptMessage],
  unacceptedGpa: [types.UnacceptedGpa[0], HvX64MemoryInterceptMessage],
  gpaAttributeIntercept: [types.GpaAttributeIntercept[0], HvX64MemoryInterceptMessage],
  timerExpired: [types.TimerExpired[0], HvTimerMessagePayload],
  invalidVpRegisterValue: [types.InvalidVpRegisterValue[0], HvInvalidVpRegisterMessage],
  unrecoverableException: [types.UnrecoverableException[0], HvX64UnrecoverableExceptionMessage],
  hypercallIntercept: [types.HypercallIntercept[0], HvX64HypercallInterceptMessage],
  synicSintDeliverable: [types.SynicSintDeliverable[0], HvX64SynicSintDeliverableMessage],
  ioPortIntercept: [types.X64IoPortIntercept[0], HvX64IoPortInterceptMessage],
  msrIntercept: [types.MsrIntercept[0], HvX64MsrInterceptMessage],
  cpuidIntercept: [types.X64CpuidIntercept[0], HvX64CpuidInterceptMessage],
  exceptionIntercept: [types.ExceptionIntercept[0], HvX64ExceptionInterceptMessage],
  apicEoi: [types.X64ApicEoi[0], HvX64ApicEoiMessage],
  registerIntercept: [types.RegisterIntercept[0], HvX64RegisterInterceptMessage],
  halt: [types.X64Halt[0], HvX64HaltMessage],
  interruptionDeliverable: [types.X64InterruptionDeliverable[0], HvX64InterruptionDeliverableMessage],
  sipiIntercept: [types.X64SipiIntercept[0], HvX64SipiInterceptMessage],
});
