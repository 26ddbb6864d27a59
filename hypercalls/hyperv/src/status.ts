import { namesOf, numbersOf } from '@vmplanes/binary';

/** Every status: number and meaning. @spec TLFS HV_STATUS; TLFS v6.0b (PDF) appendix B; openvmm vm/hv1/hvdef/src/lib.rs; Linux include/hyperv/hvgdk_mini.h */
const rows = {
  Success: [0x0000, 'the call succeeded'],
  InvalidHypercallCode: [0x0002, 'the call code is not known or not enabled'],
  InvalidHypercallInput: [0x0003, 'the control word does not fit the call'],
  InvalidAlignment: [0x0004, 'a parameter block is misaligned or crosses a page'],
  InvalidParameter: [0x0005, 'a parameter is not valid'],
  AccessDenied: [0x0006, 'the caller may not do this'],
  InvalidPartitionState: [0x0007, 'not in this state of the partition'],
  OperationDenied: [0x0008, 'the operation is not possible in the current state'],
  UnknownProperty: [0x0009, 'no such property'],
  PropertyValueOutOfRange: [0x000a, 'the property cannot have this value'],
  InsufficientMemory: [0x000b, 'the hypervisor lacks memory'],
  PartitionTooDeep: [0x000c, 'too many generations of partitions'],
  InvalidPartitionId: [0x000d, 'no such partition'],
  InvalidVpIndex: [0x000e, 'no such virtual processor'],
  NotFound: [0x0010, 'the object does not exist'],
  InvalidPortId: [0x0011, 'no such port'],
  InvalidConnectionId: [0x0012, 'no such connection'],
  InsufficientBuffers: [0x0013, 'the port has no message buffer left'],
  NotAcknowledged: [0x0014, 'an earlier interrupt has not been acknowledged'],
  InvalidVpState: [0x0015, 'not in this state of the virtual processor'],
  Acknowledged: [0x0016, 'the interrupt has been acknowledged already'],
  InvalidSaveRestoreState: [0x0017, 'no save or restore is going on, or not of this kind'],
  InvalidSynicState: [0x0018, 'the target interrupt controller cannot take it'],
  ObjectInUse: [0x0019, 'the object is in use'],
  InvalidProximityDomainInfo: [0x001a, 'no such proximity domain'],
  NoData: [0x001b, 'nothing to retrieve'],
  Inactive: [0x001c, 'the debug connection or object is not active'],
  NoResources: [0x001d, 'a resource is used up'],
  FeatureUnavailable: [0x001e, 'the feature is not available'],
  PartialPacket: [0x001f, 'the packet was taken in part'],
  ProcessorFeatureNotSupported: [0x0020, 'the processor lacks a required feature'],
  ProcessorCacheLineFlushSizeIncompatible: [0x0030, 'the processor flushes cache lines of another size'],
  InsufficientBuffer: [0x0033, 'the output buffer is too small'],
  IncompatibleProcessor: [0x0037, 'the processor is not of the required kind'],
  InsufficientDeviceDomains: [0x0038, 'no device domain is left'],
  CpuidFeatureValidationError: [0x003c, 'processors differ in CPUID features'],
  CpuidXsaveFeatureValidationError: [0x003d, 'processors differ in XSAVE features'],
  ProcessorStartupTimeout: [0x003e, 'the processor did not start in time'],
  SmxEnabled: [0x003f, 'SMX is on'],
  InvalidLpIndex: [0x0041, 'no such logical processor'],
  InvalidRegisterValue: [0x0050, 'the register cannot have this value'],
  InvalidVtlState: [0x0051, 'not in this state of the VTL'],
  NxNotDetected: [0x0055, 'the processor has no no-execute pages'],
  InvalidDeviceId: [0x0057, 'no such device'],
  InvalidDeviceState: [0x0058, 'not in this state of the device'],
  PendingPageRequests: [0x0059, 'page requests are pending'],
  PageRequestInvalid: [0x0060, 'no such page request'],
  KeyAlreadyExists: [0x0065, 'the key exists already'],
  DeviceAlreadyInDomain: [0x0066, 'the device is in a domain already'],
  InvalidCpuGroupId: [0x006f, 'no such CPU group'],
  InvalidCpuGroupState: [0x0070, 'not in this state of the CPU group'],
  OperationFailed: [0x0071, 'the operation failed'],
  NotAllowedWithNestedVirtActive: [0x0072, 'not while nested virtualization is on'],
  InsufficientRootMemory: [0x0073, 'the root partition lacks memory'],
  EventBufferAlreadyFreed: [0x0074, 'the event buffer has been freed already'],
  Timeout: [0x0078, 'not done in time'],
  CallPending: [0x0079, 'the call goes on asynchronously'],
  VtlAlreadyEnabled: [0x0086, 'the VTL is enabled already'],
  UnknownRegisterName: [0x0087, 'no such register'],
} as const;

/** Statuses by name. */
export const HvStatus = numbersOf(rows);
/** The number of a status. */
export type HvStatus = (typeof HvStatus)[keyof typeof HvStatus];
/** The name of a status. */
export type HvStatusName = keyof typeof HvStatus;

const names = namesOf('HvStatus', rows);

/** The name that the specification gives a status, `HV_STATUS_INVALID_PARAMETER`; a number not known is shown as `HV_STATUS 0x0099`. */
export function statusName(status: number): string {
  const name = names.get(status);
  return name === undefined ? `HV_STATUS 0x${status.toString(16).padStart(4, '0')}` : `HV_STATUS${name.replace(/[A-Z]/g, (c) => `_${c}`).toUpperCase()}`;
}

/** What a status means, for people. */
export function statusMeaning(status: number): string {
  const name = names.get(status);
  return name === undefined ? 'not a known status' : rows[name][1];
}
