import { array, bits, bytes, struct, u16, u32, u64, u8 } from '@vmplanes/binary';
import { rep, simple } from '../call.ts';
import { Source } from '../sources.ts';

const ISOLATED = { unsupported: 'isolated virtual machines only' } as const;
/** How pages are accepted. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvAcceptPagesAttributes = bits('HvAcceptPagesAttributes', Source.Hvdef, 32, { memoryType: [0, 6, '0 any, 1 RAM'], hostVisibility: [6, 2, 'HvHostVisibility'], vtlSet: [8, 3] });
/** Which accesses the host has to a page. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvHostVisibility = { Private: 0, ReadOnly: 1, Shared: 3 } as const;
/** Input of HvCallAcceptGpaPages. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputAcceptGpaPages = struct('HvInputAcceptGpaPages', Source.Hvdef, 24, {
  partitionId: [0, u64],
  pageAttributes: [8, u32, 'HvAcceptPagesAttributes'],
  vtlPermissionSet: [12, array(u16, 2), 'from VTL1 on'],
  gpaPageBase: [16, u64, 'page number'],
});
/** Accepts pages; the rep count says how many. */
export const AcceptGpaPages = rep('HvCallAcceptGpaPages', { ...ISOLATED, code: 0x00d9, spec: Source.Hvdef, header: HvInputAcceptGpaPages });
/** Input of HvCallModifySparseGpaPageHostVisibility. @spec openvmm vm/hv1/hvdef/src/lib.rs; Linux include/hyperv/hvgdk_mini.h */
export const HvInputModifySparseGpaPageHostVisibility = struct('HvInputModifySparseGpaPageHostVisibility', `${Source.Hvdef}; ${Source.Linux}`, 16, { partitionId: [0, u64], hostVisibility: [8, u32, 'bits 1:0, HvHostVisibility'], reserved: [12, u32] });
/** Changes what the host sees of pages; elements are page numbers. */
export const ModifySparseGpaPageHostVisibility = rep('HvCallModifySparseGpaPageHostVisibility', { ...ISOLATED, code: 0x00db, spec: Source.Hvdef, header: HvInputModifySparseGpaPageHostVisibility, element: u64 });
/** Input of HvCallQuerySparseGpaPageHostVisibility. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputQuerySparseGpaPageHostVisibility = struct('HvInputQuerySparseGpaPageHostVisibility', Source.Hvdef, 8, { partitionId: [0, u64] });
/** Tells what the host sees of pages; elements are page numbers. */
export const QuerySparseGpaPageHostVisibility = rep('HvCallQuerySparseGpaPageHostVisibility', { ...ISOLATED, code: 0x011c, spec: Source.Hvdef, header: HvInputQuerySparseGpaPageHostVisibility, element: u64, outputElement: u8 });

/** Most bytes of an MMIO call. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HV_HYPERCALL_MMIO_MAX_DATA_LENGTH = 64;
/** Input of HvCallMemoryMappedIoRead. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputMemoryMappedIoRead = struct('HvInputMemoryMappedIoRead', Source.Hvdef, 16, { gpa: [0, u64], accessWidth: [8, u32, 'bytes'], reservedZ: [12, u32] });
/** Output of HvCallMemoryMappedIoRead. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvOutputMemoryMappedIoRead = struct('HvOutputMemoryMappedIoRead', Source.Hvdef, 64, { data: [0, bytes(HV_HYPERCALL_MMIO_MAX_DATA_LENGTH)] });
/** Input of HvCallMemoryMappedIoWrite. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputMemoryMappedIoWrite = struct('HvInputMemoryMappedIoWrite', Source.Hvdef, 80, { gpa: [0, u64], accessWidth: [8, u32, 'bytes'], reservedZ: [12, u32], data: [16, bytes(HV_HYPERCALL_MMIO_MAX_DATA_LENGTH)] });
const MMIO = { recommendedBy: 'useHypercallForMmioAccess' } as const;
/** Reads device memory. */
export const MemoryMappedIoRead = simple('HvCallMemoryMappedIoRead', { ...MMIO, code: 0x0106, spec: Source.Hvdef, header: HvInputMemoryMappedIoRead, output: HvOutputMemoryMappedIoRead });
/** Writes device memory. */
export const MemoryMappedIoWrite = simple('HvCallMemoryMappedIoWrite', { ...MMIO, code: 0x0107, spec: Source.Hvdef, header: HvInputMemoryMappedIoWrite });

/** Input of HvCallPinGpaPageRanges. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputPinGpaPageRanges = struct('HvInputPinGpaPageRanges', Source.Hvdef, 8, { reserved: [0, u64] });
const PIN = { recommendedBy: 'useGpaPinningHypercall', spec: Source.Hvdef, header: HvInputPinGpaPageRanges, element: u64 } as const;
/** Keeps ranges resident; elements are HvGpaPageRange. */
export const PinGpaPageRanges = rep('HvCallPinGpaPageRanges', { ...PIN, code: 0x0112 });
/** Lets ranges go; elements are HvGpaPageRange. */
export const UnpinGpaPageRanges = rep('HvCallUnpinGpaPageRanges', { ...PIN, code: 0x0113 });
