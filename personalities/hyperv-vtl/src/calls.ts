import { HvCall, UNSUPPORTED_CALLS } from '@vmplanes/abi-hyperv';
import { registerInterceptResult, unregisterInterceptResult } from './cpuid-results.ts';
import { type Binding, on, unsupported } from './dispatcher/bind.ts';
import { getBootZeroedMemory, memoryHeatHint, queryCapabilities } from './extended-calls.ts';
import {
  flushGuestPhysicalAddressList, flushGuestPhysicalAddressSpace, flushVirtualAddressList, flushVirtualAddressListEx, flushVirtualAddressSpace, flushVirtualAddressSpaceEx,
} from './flush.ts';
import { assertVirtualInterrupt, getVpIndexFromApicId, GetVpIndexFromApicIdWide, getVpIndexFromApicIdWide, retargetDeviceInterrupt } from './interrupt-calls.ts';
import { checkForIoIntercept, installIntercept } from './io-intercepts.ts';
import { sendSyntheticClusterIpi, sendSyntheticClusterIpiEx } from './ipi.ts';
import { memoryMappedIoRead, memoryMappedIoWrite, pinGpaPageRanges } from './memory-calls.ts';
import type { HvOptions } from './options.ts';
import { postMessage, signalEvent } from './port-calls.ts';
import { getVpRegisters, setVpRegisters, SetVpRegistersPacked, setVpRegistersPacked } from './register-calls.ts';
import { postMessageDirect, signalEventDirect } from './synic-calls.ts';
import { notifyLongSpinWait, restorePartitionTime } from './time-calls.ts';
import { translateVirtualAddress, translateVirtualAddressEx, TranslateVirtualAddressExShort, translateVirtualAddressExShort } from './translate.ts';
import { checkSparseGpaPageVtlAccess, enablePartitionVtl, enableVpVtl, modifyVtlProtectionMask, startVirtualProcessor } from './vsm-calls.ts';

/** Every declared call and what serves it, in the order of the specification. Calls that are not served give the status of an unknown code. */
export const bindings: readonly Binding[] = [
  // 0x0000
  on(HvCall.FlushVirtualAddressSpace, flushVirtualAddressSpace),
  on(HvCall.FlushVirtualAddressList, flushVirtualAddressList),
  on(HvCall.NotifyLongSpinWait, notifyLongSpinWait),
  on(HvCall.SendSyntheticClusterIpi, sendSyntheticClusterIpi),
  on(HvCall.ModifyVtlProtectionMask, modifyVtlProtectionMask),
  on(HvCall.EnablePartitionVtl, enablePartitionVtl),
  on(HvCall.EnableVpVtl, enableVpVtl),
  on(HvCall.VtlCall, ({ hv, context }) => hv.chapters.switching.vtlCall(context)),
  on(HvCall.VtlReturn, ({ hv, context }) => hv.chapters.switching.vtlReturn(context)),
  on(HvCall.FlushVirtualAddressSpaceEx, flushVirtualAddressSpaceEx),
  on(HvCall.FlushVirtualAddressListEx, flushVirtualAddressListEx),
  on(HvCall.SendSyntheticClusterIpiEx, sendSyntheticClusterIpiEx),
  on(HvCall.InstallIntercept, installIntercept),
  on(HvCall.GetVpRegisters, getVpRegisters),
  on(HvCall.SetVpRegisters, setVpRegisters),
  on(HvCall.TranslateVirtualAddress, translateVirtualAddress),
  on(HvCall.PostMessage, postMessage),
  on(HvCall.SignalEvent, signalEvent),
  on(HvCall.RetargetDeviceInterrupt, retargetDeviceInterrupt),
  on(HvCall.RegisterInterceptResult, registerInterceptResult),
  on(HvCall.UnregisterInterceptResult, unregisterInterceptResult),
  on(HvCall.AssertVirtualInterrupt, assertVirtualInterrupt),
  on(HvCall.StartVirtualProcessor, startVirtualProcessor),
  on(HvCall.GetVpIndexFromApicId, getVpIndexFromApicId),
  on(HvCall.TranslateVirtualAddressEx, translateVirtualAddressEx),
  on(HvCall.CheckForIoIntercept, checkForIoIntercept),
  on(HvCall.FlushGuestPhysicalAddressSpace, flushGuestPhysicalAddressSpace),
  on(HvCall.FlushGuestPhysicalAddressList, flushGuestPhysicalAddressList),
  on(HvCall.SignalEventDirect, signalEventDirect),
  on(HvCall.PostMessageDirect, postMessageDirect),
  on(HvCall.CheckSparseGpaPageVtlAccess, checkSparseGpaPageVtlAccess),
  // 0x0100
  on(HvCall.RestorePartitionTime, restorePartitionTime),
  on(HvCall.MemoryMappedIoRead, memoryMappedIoRead),
  on(HvCall.MemoryMappedIoWrite, memoryMappedIoWrite),
  on(HvCall.PinGpaPageRanges, pinGpaPageRanges),
  on(HvCall.UnpinGpaPageRanges, pinGpaPageRanges),
  // Extended calls
  on(HvCall.QueryCapabilities, queryCapabilities),
  on(HvCall.GetBootZeroedMemory, getBootZeroedMemory),
  on(HvCall.MemoryHeatHint, memoryHeatHint),
  ...UNSUPPORTED_CALLS.map((call) => unsupported(call, call.unsupported)),
];

/** The table as the options of a partition choose its variants. */
export const bindingsFor = ({ apicIdElement, setRegistersElement, translateExOutput }: HvOptions): readonly Binding[] => {
  const variants = new Map<Binding['call'], Binding>();
  if (apicIdElement === 8) variants.set(HvCall.GetVpIndexFromApicId, on(GetVpIndexFromApicIdWide, getVpIndexFromApicIdWide));
  if (setRegistersElement === 'packed') variants.set(HvCall.SetVpRegisters, on(SetVpRegistersPacked, setVpRegistersPacked));
  if (translateExOutput === 24) variants.set(HvCall.TranslateVirtualAddressEx, on(TranslateVirtualAddressExShort, translateVirtualAddressExShort));
  return bindings.map((b) => variants.get(b.call) ?? b);
};
