import { bits, struct, u16, u32, u64, u8 } from '@vmplanes/binary';
import { opaque, simple, variable } from '../call.ts';
import { Source } from '../sources.ts';
import { HvVpSet } from './tlb.ts';

const IPI = { recommendedBy: 'useSyntheticClusterIpi' } as const;
/** Input of HvCallSendSyntheticClusterIpi. @spec TLFS HvCallSendSyntheticClusterIpi */
export const HvInputSendSyntheticClusterIpi = struct('HvInputSendSyntheticClusterIpi', `TLFS HvCallSendSyntheticClusterIpi; ${Source.OpenvmmHypercall}`, 16, {
  vector: [0, u32, '0x10 to 0xff'],
  targetVtl: [4, u8, 'HvInputVtl'],
  flags: [5, u8, 'zero'],
  reserved: [6, u16],
  processorMask: [8, u64],
});
/** Input of HvCallSendSyntheticClusterIpiEx. @spec TLFS HvCallSendSyntheticClusterIpiEx */
export const HvInputSendSyntheticClusterIpiEx = struct('HvInputSendSyntheticClusterIpiEx', 'TLFS HvCallSendSyntheticClusterIpiEx', 24, {
  vector: [0, u32, '0x10 to 0xff'],
  targetVtl: [4, u8, 'HvInputVtl'],
  flags: [5, u8, 'zero'],
  reserved: [6, u16],
  processorSet: [8, HvVpSet],
});
/** Sends a fixed interrupt to VPs. */
export const SendSyntheticClusterIpi = simple('HvCallSendSyntheticClusterIpi', { ...IPI, code: 0x000b, spec: 'TLFS HvCallSendSyntheticClusterIpi', fast: 'registers', header: HvInputSendSyntheticClusterIpi });
/** Sends a fixed interrupt to a set of VPs; the variable header holds its banks. */
export const SendSyntheticClusterIpiEx = variable('HvCallSendSyntheticClusterIpiEx', { ...IPI, code: 0x0015, spec: 'TLFS HvCallSendSyntheticClusterIpiEx', fast: 'xmm', header: HvInputSendSyntheticClusterIpiEx });

/** Kind of an asserted interrupt. @spec TLFS HV_INTERRUPT_CONTROL */
export const HvInterruptControl = bits('HvInterruptControl', 'TLFS HV_INTERRUPT_CONTROL', 64, { interruptType: [0, 32, 'HvInterruptType'], levelTriggered: 32, logicalDestinationMode: 33 });
/** Input of HvCallAssertVirtualInterrupt. @spec TLFS HvCallAssertVirtualInterrupt */
export const HvInputAssertVirtualInterrupt = struct('HvInputAssertVirtualInterrupt', 'TLFS HvCallAssertVirtualInterrupt', 32, {
  partitionId: [0, u64],
  interruptControl: [8, u64, 'HvInterruptControl'],
  destinationAddress: [16, u64, 'APIC id'],
  requestedVector: [24, u32],
  targetVtl: [28, u8, 'a VTL number'],
  reserved0: [29, u8],
  reserved1: [30, u16],
});
/** Asserts an interrupt in a lower VTL. */
export const AssertVirtualInterrupt = simple('HvCallAssertVirtualInterrupt', {
  code: 0x0094, spec: 'TLFS HvCallAssertVirtualInterrupt', privileges: ['accessVsm'], fast: 'xmm', header: HvInputAssertVirtualInterrupt,
  statuses: ['AccessDenied', 'InvalidPartitionId', 'InvalidVpIndex', 'InvalidParameter', 'Acknowledged', 'InvalidPartitionState', 'InvalidVtlState', 'OperationDenied'],
});

/** What identifies a device interrupt. @spec TLFS HV_INTERRUPT_ENTRY */
export const HvInterruptEntry = struct('HvInterruptEntry', 'TLFS HV_INTERRUPT_ENTRY', 16, {
  source: [0, u32, 'HvInterruptSource'],
  reserved: [4, u32],
  addressOrRteLow: [8, u32, 'MSI address, or low half of the redirection entry'],
  dataOrRteHigh: [12, u32, 'MSI data, or high half of the redirection entry'],
});
/** Where a device interrupt comes from. @spec TLFS HV_INTERRUPT_ENTRY */
export const HvInterruptSource = { Msi: 1, IoApic: 2 } as const;
/** How the target of a device interrupt is given. @spec TLFS HV_DEVICE_INTERRUPT_TARGET; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvDeviceInterruptTargetFlags = bits('HvDeviceInterruptTargetFlags', `TLFS HV_DEVICE_INTERRUPT_TARGET; ${Source.Hvdef}`, 32, { multicast: 0, processorSet: [1, 'the target is a VP set'], proxyRedirect: 2 });
/** Input of HvCallRetargetDeviceInterrupt. @spec TLFS HvCallRetargetDeviceInterrupt; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputRetargetDeviceInterrupt = struct('HvInputRetargetDeviceInterrupt', `TLFS HvCallRetargetDeviceInterrupt; ${Source.Hvdef}`, 56, {
  partitionId: [0, u64],
  deviceId: [8, u64],
  interruptEntry: [16, HvInterruptEntry],
  reserved: [32, u64],
  targetVector: [40, u32],
  targetFlags: [44, u32, 'HvDeviceInterruptTargetFlags'],
  maskOrFormat: [48, u64, 'VP mask, or format of the VP set whose mask and banks are the variable header'],
});
/** Sends a device interrupt to other VPs from now on. */
export const RetargetDeviceInterrupt = variable('HvCallRetargetDeviceInterrupt', {
  code: 0x007e, spec: 'TLFS HvCallRetargetDeviceInterrupt', fast: 'xmm', header: HvInputRetargetDeviceInterrupt,
  statuses: ['AccessDenied', 'InvalidPartitionId', 'InvalidPartitionState', 'FeatureUnavailable', 'InvalidParameter', 'InvalidDeviceId', 'OperationDenied'],
});
/** Sets the VP that an interrupt of an ARM64 machine reaches. */
export const SetVirtualInterruptTarget = opaque('HvCallSetVirtualInterruptTarget', { code: 0x011f, spec: 'TLFS HvCallSetVirtualInterruptTarget', unsupported: 'ARM64 only' });
