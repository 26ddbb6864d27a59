import { array, bits, bytes, struct, u16, u32, u64 } from '@vmplanes/binary';

/** Attributes of a segment, as in a descriptor. @spec TLFS HV_X64_SEGMENT_REGISTER */
export const HvX64SegmentAttributes = bits('HvX64SegmentAttributes', 'TLFS HV_X64_SEGMENT_REGISTER', 16, {
  segmentType: [0, 4],
  nonSystemSegment: 4,
  descriptorPrivilegeLevel: [5, 2],
  present: 7,
  available: 12,
  long: 13,
  defaultSize: 14,
  granularity: 15,
});
/** A segment register. @spec TLFS HV_X64_SEGMENT_REGISTER */
export const HvX64SegmentRegister = struct('HvX64SegmentRegister', 'TLFS HV_X64_SEGMENT_REGISTER', 16, {
  base: [0, u64],
  limit: [8, u32, 'bytes, inclusive'],
  selector: [12, u16],
  attributes: [14, u16, 'HvX64SegmentAttributes'],
});
/** A descriptor table register. @spec TLFS HV_X64_TABLE_REGISTER */
export const HvX64TableRegister = struct('HvX64TableRegister', 'TLFS HV_X64_TABLE_REGISTER', 16, {
  reservedPad: [0, bytes(6)],
  limit: [6, u16, 'bytes, inclusive'],
  base: [8, u64],
});

/** Private state of a VTL at its first entry on a VP. @spec TLFS HV_INITIAL_VP_CONTEXT */
export const HvInitialVpContext = struct('HvInitialVpContext', 'TLFS HV_INITIAL_VP_CONTEXT', 224, {
  rip: [0, u64],
  rsp: [8, u64],
  rflags: [16, u64],
  cs: [24, HvX64SegmentRegister],
  ds: [40, HvX64SegmentRegister],
  es: [56, HvX64SegmentRegister],
  fs: [72, HvX64SegmentRegister],
  gs: [88, HvX64SegmentRegister],
  ss: [104, HvX64SegmentRegister],
  tr: [120, HvX64SegmentRegister],
  ldtr: [136, HvX64SegmentRegister],
  idtr: [152, HvX64TableRegister],
  gdtr: [168, HvX64TableRegister],
  efer: [184, u64],
  cr0: [192, u64],
  cr3: [200, u64],
  cr4: [208, u64],
  msrCrPat: [216, u64],
});

/** A register value of up to 128 bits; narrower registers use the low bits. @spec TLFS HV_REGISTER_VALUE */
export const HvRegisterValue = struct('HvRegisterValue', 'TLFS HV_REGISTER_VALUE', 16, { low: [0, u64], high: [8, u64] });
/** A register and its value. @spec TLFS HvCallSetVpRegisters; Linux include/hyperv/hvgdk_mini.h */
export const HvRegisterAssoc = struct('HvRegisterAssoc', 'TLFS HvCallSetVpRegisters; Linux include/hyperv/hvgdk_mini.h', 32, {
  name: [0, u32, 'HV_REGISTER_NAME'],
  reservedPad: [4, array(u32, 3)],
  value: [16, HvRegisterValue],
});
