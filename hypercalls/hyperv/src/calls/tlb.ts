import { bits, struct, u64 } from '@vmplanes/binary';
import { rep, simple, variable, variableRep } from '../call.ts';
import { Source } from '../sources.ts';

/** How a flush goes. @spec TLFS HvCallFlushVirtualAddressSpace; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvFlushFlags = bits('HvFlushFlags', `TLFS HvCallFlushVirtualAddressSpace; ${Source.Hvdef}`, 64, {
  allProcessors: 0,
  allVirtualAddressSpaces: 1,
  nonGlobalMappingsOnly: 2,
  useExtendedRangeFormat: 3,
  useTargetVtl: [4, 'the target bits count'],
  targetVtl0: 8,
  targetVtl1: 9,
});
/** A range of addresses in the plain format. @spec TLFS HvCallFlushVirtualAddressList */
export const HvGvaRange = bits('HvGvaRange', 'TLFS HvCallFlushVirtualAddressList', 64, { additionalPages: [0, 12], gvaPageNumber: [12, 52] });
/** A range of addresses in the extended format, 4 KiB pages. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvGvaRangeExtended = bits('HvGvaRangeExtended', Source.Hvdef, 64, { additionalPages: [0, 11], largePage: 11, gvaPageNumber: [12, 52] });
/** A range of addresses in the extended format, large pages. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvGvaRangeExtendedLargePage = bits('HvGvaRangeExtendedLargePage', Source.Hvdef, 64, { additionalPages: [0, 11], largePage: 11, pageSize: [12, '0: 2 MiB, 1: 1 GiB'], gvaLargePageNumber: [21, 43] });
/** A range of guest pages. @spec TLFS HvCallFlushGuestPhysicalAddressList; Linux include/hyperv/hvgdk_mini.h */
export const HvGpaPageRange = bits('HvGpaPageRange', `TLFS HvCallFlushGuestPhysicalAddressList; ${Source.Linux}`, 64, { additionalPages: [0, 11], largePage: 11, basePfn: [12, 52] });

/** A set of VPs; banks of 64 follow, one for each bit of the mask, in rising order. @spec TLFS HV_VP_SET */
export const HvVpSet = struct('HvVpSet', 'TLFS HV_VP_SET', 16, { format: [0, u64, 'HvVpSetFormat'], validBankMask: [8, u64] });
/** How a set of VPs is given. @spec TLFS HV_VP_SET */
export const HvVpSetFormat = { Sparse4K: 0n, All: 1n } as const;
/** VPs of one bank, and banks of one set. @spec TLFS HV_VP_SET */
export const HV_VPS_PER_BANK = 64;
export const HV_MAX_SPARSE_BANKS = 64;

/** Input of HvCallFlushVirtualAddress. @spec TLFS HvCallFlushVirtualAddressSpace; TLFS HvCallFlushVirtualAddressList */
export const HvInputFlushVirtualAddress = struct('HvInputFlushVirtualAddress', 'TLFS HvCallFlushVirtualAddressSpace; TLFS HvCallFlushVirtualAddressList', 24, {
  addressSpace: [0, u64, 'CR3'],
  flags: [8, u64, 'HvFlushFlags'],
  processorMask: [16, u64],
});
/** Input of HvCallFlushVirtualAddressEx. @spec TLFS HvCallFlushVirtualAddressSpaceEx; TLFS HvCallFlushVirtualAddressListEx */
export const HvInputFlushVirtualAddressEx = struct('HvInputFlushVirtualAddressEx', 'TLFS HvCallFlushVirtualAddressSpaceEx; TLFS HvCallFlushVirtualAddressListEx', 32, {
  addressSpace: [0, u64, 'CR3'],
  flags: [8, u64, 'HvFlushFlags'],
  processorSet: [16, HvVpSet],
});
const REMOTE = { recommendedBy: 'useHypercallForRemoteFlush', fast: 'xmm' } as const;

/** Flushes an address space. */
export const FlushVirtualAddressSpace = simple('HvCallFlushVirtualAddressSpace', { ...REMOTE, code: 0x0002, spec: 'TLFS HvCallFlushVirtualAddressSpace', header: HvInputFlushVirtualAddress });
/** Flushes ranges; elements are HvGvaRange, or the extended format. */
export const FlushVirtualAddressList = rep('HvCallFlushVirtualAddressList', { ...REMOTE, code: 0x0003, spec: 'TLFS HvCallFlushVirtualAddressList', header: HvInputFlushVirtualAddress, element: u64 });
/** Flushes an address space on a set of VPs; the variable header holds its banks. */
export const FlushVirtualAddressSpaceEx = variable('HvCallFlushVirtualAddressSpaceEx', { ...REMOTE, code: 0x0013, spec: 'TLFS HvCallFlushVirtualAddressSpaceEx', header: HvInputFlushVirtualAddressEx });
/** Flushes ranges on a set of VPs; the variable header holds its banks. */
export const FlushVirtualAddressListEx = variableRep('HvCallFlushVirtualAddressListEx', { ...REMOTE, code: 0x0014, spec: 'TLFS HvCallFlushVirtualAddressListEx', header: HvInputFlushVirtualAddressEx, element: u64 });

/** Input of HvCallFlushGuestPhysicalAddress. @spec TLFS HvCallFlushGuestPhysicalAddressSpace */
export const HvInputFlushGuestPhysicalAddress = struct('HvInputFlushGuestPhysicalAddress', 'TLFS HvCallFlushGuestPhysicalAddressSpace', 16, { addressSpace: [0, u64, 'nested page table'], flags: [8, u64, 'zero'] });
/** Flushes the second stage of a nested guest. */
export const FlushGuestPhysicalAddressSpace = simple('HvCallFlushGuestPhysicalAddressSpace', { code: 0x00af, spec: 'TLFS HvCallFlushGuestPhysicalAddressSpace', header: HvInputFlushGuestPhysicalAddress });
/** Flushes ranges of the second stage of a nested guest; elements are HvGpaPageRange. */
export const FlushGuestPhysicalAddressList = rep('HvCallFlushGuestPhysicalAddressList', { code: 0x00b0, spec: 'TLFS HvCallFlushGuestPhysicalAddressList', header: HvInputFlushGuestPhysicalAddress, element: u64 });
