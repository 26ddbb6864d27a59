import { array, bytes, struct, u16, u32, u64, u8 } from '@vmplanes/binary';

const UAPI = 'Linux include/uapi/linux/kvm.h';

/** Payloads of the mainline exits that this interface produces; all lie at offset 32 of kvm_run. @spec Linux include/uapi/linux/kvm.h */
export const ExitHw = struct('hw', UAPI, 8, { hardwareExitReason: [0, u64] });
export const ExitFailEntry = struct('fail_entry', UAPI, 16, { hardwareEntryFailureReason: [0, u64], cpu: [8, u32], reserved: [12, u32] });
export const ExitIo = struct('io', UAPI, 16, {
  direction: [0, u8, '0 in, 1 out'],
  size: [1, u8, 'bytes of one item'],
  port: [2, u16],
  count: [4, u32],
  dataOffset: [8, u64, 'from the start of kvm_run'],
});
export const ExitMmio = struct('mmio', UAPI, 24, { physAddr: [0, u64], data: [8, bytes(8)], len: [16, u32], isWrite: [20, u8], reserved: [21, bytes(3)] });
export const ExitHypercall = struct('hypercall', UAPI, 72, { nr: [0, u64], args: [8, array(u64, 6)], ret: [56, u64], longmode: [64, u32], reserved: [68, u32] });
export const ExitMsr = struct('msr', UAPI, 24, {
  error: [0, u8, 'from userspace: nonzero injects #GP'],
  reservedPad: [1, bytes(7)],
  reason: [8, u32, 'KVM_MSR_EXIT_REASON bits'],
  index: [12, u32],
  data: [16, u64],
});
export const ExitInternalError = struct('internal', UAPI, 136, { suberror: [0, u32], ndata: [4, u32], data: [8, array(u64, 16)] });
export const ExitDebug = struct('debug', UAPI, 32, { exception: [0, u32], reservedPad: [4, u32], pc: [8, u64], dr6: [16, u64], dr7: [24, u64] });
export const ExitSystemEvent = struct('system_event', UAPI, 136, { type: [0, u32], ndata: [4, u32], data: [8, array(u64, 16)] });
export const ExitIoapicEoi = struct('eoi', UAPI, 1, { vector: [0, u8] });
export const ExitMemoryFault = struct('memory_fault', UAPI, 24, { flags: [0, u64, 'PRIVATE and, as proposed, READ, WRITE, EXECUTE'], gpa: [8, u64], size: [16, u64] });

/**
 * The memory-fault payload of our own profile: which plane, and how long the instruction is, so that a handler can skip or emulate it.
 * @spec LKML 2024-06-09 Introducing Core Building Blocks for Hyper-V VSM Emulation 18/18
 */
export const ExitMemoryFaultPlanes = struct('memory_fault', 'vmplanes, after LKML 2024-06-09 Hyper-V VSM Emulation 18/18', 32, {
  flags: [0, u64, 'READ, WRITE, EXECUTE, PRIVATE'],
  gpa: [8, u64],
  size: [16, u64],
  plane: [24, u16],
  instructionLength: [26, u8, '0 when not known'],
  reserved: [27, bytes(5)],
});
