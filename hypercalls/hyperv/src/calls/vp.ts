import { bits, bytes, struct, u32, u64, u8 } from '@vmplanes/binary';
import { rep, simple } from '../call.ts';
import { HvRegisterAssoc, HvRegisterValue } from '../context.ts';
import { HvX64PendingEvent } from '../pending.ts';
import { Source } from '../sources.ts';
import { HvInputVpContext } from './vtl.ts';

const REGISTERS = { privileges: ['accessVpRegisters'] } as const;

/** Input of HvCallGetVpRegisters and HvCallSetVpRegisters. @spec TLFS HvCallGetVpRegisters; TLFS HvCallSetVpRegisters */
export const HvInputVpRegisters = struct('HvInputVpRegisters', 'TLFS HvCallGetVpRegisters; TLFS HvCallSetVpRegisters', 16, {
  partitionId: [0, u64],
  vpIndex: [8, u32],
  inputVtl: [12, u8, 'HvInputVtl'],
  reservedZ: [13, bytes(3)],
});
/** Reads registers; elements are names. */
export const GetVpRegisters = rep('HvCallGetVpRegisters', {
  ...REGISTERS, code: 0x0050, spec: 'TLFS HvCallGetVpRegisters', fast: 'xmm', header: HvInputVpRegisters, element: u32, outputElement: HvRegisterValue,
  statuses: ['AccessDenied', 'InvalidPartitionId', 'InvalidVpIndex', 'InvalidParameter'],
});
/** Writes registers; elements are names with values. */
export const SetVpRegisters = rep('HvCallSetVpRegisters', {
  ...REGISTERS, code: 0x0051, spec: 'TLFS HvCallSetVpRegisters', fast: 'xmm', header: HvInputVpRegisters, element: HvRegisterAssoc,
  statuses: ['AccessDenied', 'InvalidPartitionId', 'InvalidVpIndex', 'InvalidVpState', 'InvalidParameter', 'InvalidPartitionState', 'InvalidRegisterValue'],
});

/** Which access a translation is for. @spec TLFS HV_TRANSLATE_GVA_CONTROL_FLAGS; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvTranslateGvaControlFlags = bits('HvTranslateGvaControlFlags', `TLFS HV_TRANSLATE_GVA_CONTROL_FLAGS; ${Source.Hvdef}`, 64, {
  validateRead: 0,
  validateWrite: 1,
  validateExecute: 2,
  privilegeExempt: [3, 'no checks of supervisor or user mode'],
  setPageTableBits: [4, 'accessed and dirty'],
  tlbFlushInhibit: [5, 'locks the TLB of the target VTL until the caller returns'],
  supervisorAccess: 6,
  userAccess: 7,
  enforceSmap: 8,
  overrideSmap: 9,
  shadowStack: 10,
  inputVtl: [56, 8, 'HvInputVtl'],
});
/** Input of HvCallTranslateVirtualAddress. @spec TLFS HvCallTranslateVirtualAddress */
export const HvInputTranslateVirtualAddress = struct('HvInputTranslateVirtualAddress', `TLFS HvCallTranslateVirtualAddress; ${Source.Hvdef}`, 32, {
  partitionId: [0, u64],
  vpIndex: [8, u32],
  reserved: [12, u32],
  controlFlags: [16, u64, 'HvTranslateGvaControlFlags'],
  gvaPage: [24, u64, 'page number'],
});
/** Outcome of a translation. @spec TLFS HV_TRANSLATE_GVA_RESULT */
export const HvTranslateGvaResult = bits('HvTranslateGvaResult', 'TLFS HV_TRANSLATE_GVA_RESULT', 64, {
  resultCode: [0, 32, 'HvTranslateGvaResultCode'],
  cacheType: [32, 8, 'HvCacheType'],
  overlayPage: [40, 'the page is an overlay of the target VTL'],
});
/** How a translation ended. @spec TLFS HV_TRANSLATE_GVA_RESULT */
export const HvTranslateGvaResultCode = {
  Success: 0,
  PageNotPresent: 1,
  PrivilegeViolation: 2,
  InvalidPageTableFlags: 3,
  GpaUnmapped: 4,
  GpaNoReadAccess: 5,
  GpaNoWriteAccess: 6,
  GpaIllegalOverlayAccess: 7,
  Intercept: 8,
  GpaUnaccepted: 9,
} as const;
export type HvTranslateGvaResultCode = (typeof HvTranslateGvaResultCode)[keyof typeof HvTranslateGvaResultCode];
/** Output of HvCallTranslateVirtualAddress. @spec TLFS HvCallTranslateVirtualAddress */
export const HvOutputTranslateVirtualAddress = struct('HvOutputTranslateVirtualAddress', 'TLFS HvCallTranslateVirtualAddress', 16, { result: [0, HvTranslateGvaResult], gpaPage: [8, u64, 'page number'] });
/** Output of HvCallTranslateVirtualAddressEx. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvOutputTranslateVirtualAddressEx = struct('HvOutputTranslateVirtualAddressEx', Source.Hvdef, 64, {
  result: [0, HvTranslateGvaResult],
  reserved0: [8, u64],
  eventInfo: [16, HvX64PendingEvent],
  gpaPage: [48, u64, 'page number'],
  reserved1: [56, u64],
});
/** The extended output as its table gives it. @spec TLFS HvCallTranslateVirtualAddressEx */
export const HvOutputTranslateVirtualAddressExTlfs = struct('HvOutputTranslateVirtualAddressExTlfs', 'TLFS HvCallTranslateVirtualAddressEx', 24, {
  result: [0, HvTranslateGvaResult],
  reserved: [8, u64],
  gpaPage: [16, u64, 'page number'],
});
/** Translates an address of a VP. */
export const TranslateVirtualAddress = simple('HvCallTranslateVirtualAddress', {
  ...REGISTERS, code: 0x0052, spec: 'TLFS HvCallTranslateVirtualAddress', fast: 'xmm', header: HvInputTranslateVirtualAddress, output: HvOutputTranslateVirtualAddress,
  statuses: ['AccessDenied', 'InvalidPartitionId', 'InvalidVpIndex', 'InvalidParameter', 'InvalidPartitionState', 'InvalidVpState'],
});
/** Translates an address of a VP and tells which event a failure would raise. */
export const TranslateVirtualAddressEx = simple('HvCallTranslateVirtualAddressEx', {
  ...REGISTERS, code: 0x00ac, spec: `TLFS HvCallTranslateVirtualAddressEx; ${Source.Hvdef}`, fast: 'xmm', header: HvInputTranslateVirtualAddress, output: HvOutputTranslateVirtualAddressEx,
});

/** Starts a VP with a full register state. */
export const StartVirtualProcessor = simple('HvCallStartVirtualProcessor', {
  code: 0x0099, spec: 'TLFS HvCallStartVirtualProcessor', privileges: ['startVirtualProcessor'], header: HvInputVpContext,
  statuses: ['AccessDenied', 'InvalidPartitionId', 'InvalidVpIndex', 'InvalidRegisterValue', 'InvalidVpState', 'InvalidPartitionState', 'InvalidVtlState'],
});

/** Input of HvCallGetVpIndexFromApicId. @spec TLFS HvCallGetVpIndexFromApicId; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputGetVpIndexFromApicId = struct('HvInputGetVpIndexFromApicId', `TLFS HvCallGetVpIndexFromApicId; ${Source.Hvdef}`, 16, {
  partitionId: [0, u64],
  targetVtl: [8, u8, 'a VTL number; HvInputVtl in Linux'],
  reserved: [9, bytes(7)],
});
/** Gives VP indices; elements are APIC ids. */
export const GetVpIndexFromApicId = rep('HvCallGetVpIndexFromApicId', {
  code: 0x009a, spec: `${Source.Hvdef}; ${Source.Linux}`, fast: 'xmm', header: HvInputGetVpIndexFromApicId, element: u32, outputElement: u32,
  statuses: ['AccessDenied', 'InvalidParameter', 'InvalidPartitionId', 'InvalidRegisterValue', 'InvalidVpState', 'InvalidPartitionState', 'InvalidVtlState', 'InvalidVpIndex'],
});
