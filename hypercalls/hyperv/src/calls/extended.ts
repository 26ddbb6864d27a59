import { array, bits, bytes, struct, u64 } from '@vmplanes/binary';
import { opaque, rep, simple } from '../call.ts';
import { Source } from '../sources.ts';

const EXTENDED = { privileges: ['enableExtendedHypercalls'] } as const;
/** Which extended calls there are. @spec TLFS HvExtCallQueryCapabilities; Linux include/hyperv/hvgdk_ext.h */
export const HvExtCapabilities = bits('HvExtCapabilities', `TLFS HvExtCallQueryCapabilities; ${Source.LinuxExt}`, 64, {
  getBootZeroedMemory: 0,
  memoryHeatHint: 1,
  epfSetup: 2,
  schedulerAssistSetup: 3,
  memoryHeatHintAsync: 4,
  memoryColdDiscardHint: [8, 'from Linux; reserved in the TLFS'],
});
/** Output of HvExtCallQueryCapabilities. @spec TLFS HvExtCallQueryCapabilities */
export const HvExtOutputQueryCapabilities = struct('HvExtOutputQueryCapabilities', 'TLFS HvExtCallQueryCapabilities', 8, { capabilities: [0, HvExtCapabilities] });
/** Tells which extended calls there are. */
export const QueryCapabilities = simple('HvExtCallQueryCapabilities', { ...EXTENDED, code: 0x8001, spec: 'TLFS HvExtCallQueryCapabilities', output: HvExtOutputQueryCapabilities });

/** Pages that hold zeros. @spec TLFS HvExtCallGetBootZeroedMemory */
export const HvExtBootZeroedRange = struct('HvExtBootZeroedRange', 'TLFS HvExtCallGetBootZeroedMemory', 16, { startGpa: [0, u64, 'page number'], pageCount: [8, u64] });
/** Output of HvExtCallGetBootZeroedMemory. @spec TLFS HvExtCallGetBootZeroedMemory */
export const HvExtOutputBootZeroedMemory = struct('HvExtOutputBootZeroedMemory', 'TLFS HvExtCallGetBootZeroedMemory', 0xff8, { rangeCount: [0, u64], ranges: [8, array(HvExtBootZeroedRange, 255)] });
/** Tells which memory is zero already. */
export const GetBootZeroedMemory = simple('HvExtCallGetBootZeroedMemory', { ...EXTENDED, code: 0x8002, spec: 'TLFS HvExtCallGetBootZeroedMemory', output: HvExtOutputBootZeroedMemory });

/** Input of HvExtCallMemoryHeatHint. @spec Linux include/hyperv/hvgdk_ext.h */
export const HvExtInputMemoryHeatHint = struct('HvExtInputMemoryHeatHint', Source.LinuxExt, 8, { heatType: [0, u64, 'bits 1:0: 0 cold, 1 hot, 2 cold and to be discarded'] });
/** Says how soon memory is needed; elements are HvGpaPageRange. */
export const MemoryHeatHint = rep('HvExtCallMemoryHeatHint', { ...EXTENDED, code: 0x8003, spec: Source.LinuxExt, header: HvExtInputMemoryHeatHint, element: u64 });
/** Sets up enlightened page faults. */
export const EpfSetup = opaque('HvExtCallEpfSetup', { ...EXTENDED, code: 0x8004, spec: 'TLFS Hypercall Reference', unsupported: 'no public body: only the name and the number are published' });
/** Sets up help for the scheduler. */
export const SchedulerAssistSetup = opaque('HvExtCallSchedulerAssistSetup', { ...EXTENDED, code: 0x8005, spec: 'TLFS HvExtCallQueryCapabilities (number from the order of its bits)', unsupported: 'no public body: only the name is published' });
/** Says how soon memory is needed, without waiting. */
export const MemoryHeatHintAsync = opaque('HvExtCallMemoryHeatHintAsync', { ...EXTENDED, code: 0x8006, spec: 'TLFS Hypercall Reference', unsupported: 'no public body: only the name and the number are published' });

/** Input of HvCallVbsVmCallReport. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputVbsVmCallReport = struct('HvInputVbsVmCallReport', Source.Hvdef, 64, { reportData: [0, bytes(64)] });
/** Output of HvCallVbsVmCallReport. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvOutputVbsVmCallReport = struct('HvOutputVbsVmCallReport', Source.Hvdef, 2048, { report: [0, bytes(2048)] });
/** Attests a virtual machine isolated by VBS. */
export const VbsVmCallReport = simple('HvCallVbsVmCallReport', { code: 0xc001, spec: Source.Hvdef, header: HvInputVbsVmCallReport, output: HvOutputVbsVmCallReport, unsupported: 'isolated virtual machines only' });
