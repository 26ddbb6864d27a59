import type { Call } from './call.ts';
import * as communication from './calls/communication.ts';
import * as extended from './calls/extended.ts';
import * as intercepts from './calls/intercepts.ts';
import * as interrupts from './calls/interrupts.ts';
import * as memory from './calls/memory.ts';
import * as time from './calls/time.ts';
import * as tlb from './calls/tlb.ts';
import * as vp from './calls/vp.ts';
import * as vtl from './calls/vtl.ts';

/** Every declared call by its name in the specification, without the prefix. @spec TLFS Hypercall Reference; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvCall = {
  // 0x0000
  FlushVirtualAddressSpace: tlb.FlushVirtualAddressSpace,
  FlushVirtualAddressList: tlb.FlushVirtualAddressList,
  NotifyLongSpinWait: time.NotifyLongSpinWait,
  SendSyntheticClusterIpi: interrupts.SendSyntheticClusterIpi,
  ModifyVtlProtectionMask: vtl.ModifyVtlProtectionMask,
  EnablePartitionVtl: vtl.EnablePartitionVtl,
  DisablePartitionVtl: vtl.DisablePartitionVtl,
  EnableVpVtl: vtl.EnableVpVtl,
  DisableVpVtl: vtl.DisableVpVtl,
  VtlCall: vtl.VtlCall,
  VtlReturn: vtl.VtlReturn,
  FlushVirtualAddressSpaceEx: tlb.FlushVirtualAddressSpaceEx,
  FlushVirtualAddressListEx: tlb.FlushVirtualAddressListEx,
  SendSyntheticClusterIpiEx: interrupts.SendSyntheticClusterIpiEx,
  InstallIntercept: intercepts.InstallIntercept,
  GetVpRegisters: vp.GetVpRegisters,
  SetVpRegisters: vp.SetVpRegisters,
  TranslateVirtualAddress: vp.TranslateVirtualAddress,
  PostMessage: communication.PostMessage,
  SignalEvent: communication.SignalEvent,
  RetargetDeviceInterrupt: interrupts.RetargetDeviceInterrupt,
  RegisterInterceptResult: intercepts.RegisterInterceptResult,
  UnregisterInterceptResult: intercepts.UnregisterInterceptResult,
  AssertVirtualInterrupt: interrupts.AssertVirtualInterrupt,
  StartVirtualProcessor: vp.StartVirtualProcessor,
  GetVpIndexFromApicId: vp.GetVpIndexFromApicId,
  TranslateVirtualAddressEx: vp.TranslateVirtualAddressEx,
  CheckForIoIntercept: intercepts.CheckForIoIntercept,
  FlushGuestPhysicalAddressSpace: tlb.FlushGuestPhysicalAddressSpace,
  FlushGuestPhysicalAddressList: tlb.FlushGuestPhysicalAddressList,
  SignalEventDirect: communication.SignalEventDirect,
  PostMessageDirect: communication.PostMessageDirect,
  CheckSparseGpaPageVtlAccess: vtl.CheckSparseGpaPageVtlAccess,
  AcceptGpaPages: memory.AcceptGpaPages,
  ModifySparseGpaPageHostVisibility: memory.ModifySparseGpaPageHostVisibility,
  // 0x0100
  RestorePartitionTime: time.RestorePartitionTime,
  MemoryMappedIoRead: memory.MemoryMappedIoRead,
  MemoryMappedIoWrite: memory.MemoryMappedIoWrite,
  InstallInterceptEx: intercepts.InstallInterceptEx,
  PinGpaPageRanges: memory.PinGpaPageRanges,
  UnpinGpaPageRanges: memory.UnpinGpaPageRanges,
  QuerySparseGpaPageHostVisibility: memory.QuerySparseGpaPageHostVisibility,
  SetVirtualInterruptTarget: interrupts.SetVirtualInterruptTarget,
  // Extended calls
  QueryCapabilities: extended.QueryCapabilities,
  GetBootZeroedMemory: extended.GetBootZeroedMemory,
  MemoryHeatHint: extended.MemoryHeatHint,
  EpfSetup: extended.EpfSetup,
  SchedulerAssistSetup: extended.SchedulerAssistSetup,
  MemoryHeatHintAsync: extended.MemoryHeatHintAsync,
  VbsVmCallReport: extended.VbsVmCallReport,
} as const satisfies Readonly<Record<string, Call>>;
/** The name of a declared call. */
export type HvCallName = keyof typeof HvCall;

/** Every declared call, by rising code. @throws {RangeError} at load when two calls have one code. */
export const CALLS: readonly Call[] = Object.values<Call>(HvCall).sort((a, b) => a.code - b.code);
CALLS.forEach((call, i) => {
  const other = CALLS[i - 1];
  if (other?.code === call.code) throw new RangeError(`${call.name}: code 0x${call.code.toString(16)} belongs to ${other.name}`);
});

/** Declared calls that this product does not implement, with the reason. */
export const UNSUPPORTED_CALLS: readonly (Call & { readonly unsupported: string })[] = CALLS.filter((call): call is Call & { readonly unsupported: string } => call.unsupported !== undefined);

/**
 * Codes of which a guest or a trace may show, and that are not declared: calls of root and parent partitions, of debuggers, and obsolete ones.
 * @spec Linux include/hyperv/hvgdk_mini.h; TLFS Hypercall Reference
 */
export const OTHER_CALL_NAMES: ReadonlyMap<number, string> = new Map([
  [0x0001, 'HvCallSwitchVirtualAddressSpace'],
  [0x0040, 'HvCallCreatePartition'],
  [0x0041, 'HvCallInitializePartition'],
  [0x0042, 'HvCallFinalizePartition'],
  [0x0043, 'HvCallDeletePartition'],
  [0x0044, 'HvCallGetPartitionProperty'],
  [0x0045, 'HvCallSetPartitionProperty'],
  [0x0046, 'HvCallGetPartitionId'],
  [0x0048, 'HvCallDepositMemory'],
  [0x0049, 'HvCallWithdrawMemory'],
  [0x004b, 'HvCallMapGpaPages'],
  [0x004c, 'HvCallUnmapGpaPages'],
  [0x004e, 'HvCallCreateVp'],
  [0x004f, 'HvCallDeleteVp'],
  [0x0056, 'HvCallClearVirtualInterrupt'],
  [0x0058, 'HvCallDeletePort'],
  [0x005b, 'HvCallDisconnectPort'],
  [0x0069, 'HvCallPostDebugData'],
  [0x006a, 'HvCallRetrieveDebugData'],
  [0x006b, 'HvCallResetDebugSession'],
  [0x006c, 'HvCallMapStatsPage'],
  [0x006d, 'HvCallUnmapStatsPage'],
  [0x0071, 'HvCallOutputDebugCharacter'],
  [0x0076, 'HvCallAddLogicalProcessor'],
  [0x007b, 'HvCallGetSystemProperty'],
  [0x007c, 'HvCallMapDeviceInterrupt'],
  [0x007d, 'HvCallUnmapDeviceInterrupt'],
  [0x008b, 'HvCallNotifyPortRingEmpty'],
  [0x0095, 'HvCallCreatePort'],
  [0x0096, 'HvCallConnectPort'],
  [0x00c2, 'HvCallDispatchVp'],
  [0x00c9, 'HvCallGetGpaPagesAccessStates'],
  [0x00d7, 'HvCallAcquireSparseSpaPageHostAccess'],
  [0x00d8, 'HvCallReleaseSparseSpaPageHostAccess'],
  [0x00e1, 'HvCallMapVpStatePage'],
  [0x00e2, 'HvCallUnmapVpStatePage'],
  [0x00e3, 'HvCallGetVpState'],
  [0x00e4, 'HvCallSetVpState'],
  [0x00f4, 'HvCallGetVpCpuidValues'],
]);

const byCode = new Map(CALLS.map((call) => [call.code, call]));
/** Finds a declared call. */
export const callOf = (code: number): Call | undefined => byCode.get(code);
/** The name of a call for people: the specification's, or `HvCall 0x1234`. */
export const callName = (code: number): string => byCode.get(code)?.name ?? OTHER_CALL_NAMES.get(code) ?? `HvCall 0x${code.toString(16).padStart(4, '0')}`;
