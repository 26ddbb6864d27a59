import { bits, bytes, struct, u16, u32, u64, u8 } from '@vmplanes/binary';
import { opaque, rep, simple, vtlSwitch } from '../call.ts';
import { HvInitialVpContext } from '../context.ts';
import { VtlCallInput, VtlReturnInput } from '../hypercall.ts';
import { Source } from '../sources.ts';

const VSM = { privileges: ['accessVsm'] } as const;

/** Input of HvCallModifyVtlProtectionMask. @spec TLFS HvCallModifyVtlProtectionMask */
export const HvInputModifyVtlProtectionMask = struct('HvInputModifyVtlProtectionMask', 'TLFS HvCallModifyVtlProtectionMask', 16, {
  targetPartitionId: [0, u64],
  mapFlags: [8, u32, 'HvMapGpaFlags 3:0'],
  targetVtl: [12, u8, 'HvInputVtl'],
  reservedZ: [13, bytes(3)],
});
/** Changes the access rights of lower VTLs to pages; elements are page numbers. */
export const ModifyVtlProtectionMask = rep('HvCallModifyVtlProtectionMask', {
  ...VSM, code: 0x000c, spec: 'TLFS HvCallModifyVtlProtectionMask', fast: 'xmm', header: HvInputModifyVtlProtectionMask, element: u64,
  statuses: ['AccessDenied', 'InvalidPartitionId', 'InvalidPartitionState', 'InvalidParameter', 'OperationDenied', 'InsufficientMemory', 'InvalidVtlState'],
});

/** Input of HvCallEnablePartitionVtl. @spec TLFS HvCallEnablePartitionVtl */
export const HvInputEnablePartitionVtl = struct('HvInputEnablePartitionVtl', 'TLFS HvCallEnablePartitionVtl', 16, {
  targetPartitionId: [0, u64],
  targetVtl: [8, u8, 'a VTL number'],
  flags: [9, u8, 'HvEnablePartitionVtlFlags'],
  reservedZ: [10, bytes(6)],
});
/** Enables a VTL for the partition. */
export const EnablePartitionVtl = simple('HvCallEnablePartitionVtl', {
  ...VSM, code: 0x000d, spec: 'TLFS HvCallEnablePartitionVtl', fast: 'registers', header: HvInputEnablePartitionVtl,
  statuses: ['AccessDenied', 'InvalidPartitionId', 'InvalidParameter', 'InvalidPartitionState', 'InsufficientMemory', 'InvalidVtlState'],
});
/** Disables a VTL for the partition. */
export const DisablePartitionVtl = opaque('HvCallDisablePartitionVtl', { ...VSM, code: 0x000e, spec: `${Source.Pdf6} appendix A`, unsupported: 'no public body: only the name and the number are published' });

/** Input of HvCallEnableVpVtl and HvCallStartVirtualProcessor. @spec TLFS HvCallEnableVpVtl; TLFS HvCallStartVirtualProcessor */
export const HvInputVpContext = struct('HvInputVpContext', 'TLFS HvCallEnableVpVtl; TLFS HvCallStartVirtualProcessor', 240, {
  targetPartitionId: [0, u64],
  vpIndex: [8, u32],
  targetVtl: [12, u8, 'a VTL number'],
  reservedZ: [13, bytes(3)],
  vpContext: [16, HvInitialVpContext],
});
/** Enables a VTL on a VP, with the state of its first entry. */
export const EnableVpVtl = simple('HvCallEnableVpVtl', {
  ...VSM, code: 0x000f, spec: 'TLFS HvCallEnableVpVtl', header: HvInputVpContext,
  statuses: ['AccessDenied', 'InvalidPartitionId', 'InvalidParameter', 'InvalidPartitionState', 'InvalidVpState', 'InvalidVtlState', 'InvalidRegisterValue', 'InvalidVpIndex'],
});
/** Disables a VTL on a VP. */
export const DisableVpVtl = opaque('HvCallDisableVpVtl', { ...VSM, code: 0x0010, spec: `${Source.Pdf6} appendix A`, unsupported: 'no public body: only the name and the number are published' });

/** Enters the next higher enabled VTL. */
export const VtlCall = vtlSwitch('HvCallVtlCall', { ...VSM, code: 0x0011, spec: 'TLFS HvCallVtlCall', input: VtlCallInput });
/** Leaves for the next lower enabled VTL. */
export const VtlReturn = vtlSwitch('HvCallVtlReturn', { ...VSM, code: 0x0012, spec: 'TLFS HvCallVtlReturn', input: VtlReturnInput });

/** Input of HvCallCheckSparseGpaPageVtlAccess. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputCheckSparseGpaPageVtlAccess = struct('HvInputCheckSparseGpaPageVtlAccess', Source.Hvdef, 16, {
  partitionId: [0, u64],
  inputVtl: [8, u8, 'HvInputVtl: whose access is checked'],
  desiredAccess: [9, u8, 'HvMapGpaFlags 3:0'],
  reserved0: [10, u16],
  reserved1: [12, u32],
});
/** Answer for one page. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvOutputCheckSparseGpaPageVtlAccess = bits('HvOutputCheckSparseGpaPageVtlAccess', Source.Hvdef, 64, {
  resultCode: [0, 8, 'HvCheckVtlAccessResult'],
  deniedAccess: [8, 8, 'HvMapGpaFlags 3:0'],
  interceptingVtl: [16, 4],
});
/** Outcome of an access check. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvCheckVtlAccessResult = { Success: 0, MemoryIntercept: 1 } as const;
/** Tells whether accesses of a VTL to pages would be intercepted; elements are page numbers. */
export const CheckSparseGpaPageVtlAccess = rep('HvCallCheckSparseGpaPageVtlAccess', {
  ...VSM, code: 0x00d4, spec: Source.Hvdef, fast: 'xmm', header: HvInputCheckSparseGpaPageVtlAccess, element: u64, outputElement: HvOutputCheckSparseGpaPageVtlAccess,
});
