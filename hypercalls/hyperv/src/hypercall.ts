import { bits, type Bits } from '@vmplanes/binary';
import { tlfs } from './sources.ts';

const PAGE = tlfs('Hypercall Interface');

/** The control word of a call. Bits 30:27, 47:44 and 63:60 must be zero. @spec TLFS Hypercall Interface, hypercall inputs */
export const HypercallInput = bits('HvHypercallInput', PAGE, 64, {
  callCode: [0, 16, '0x8000 and above are extended calls'],
  isFast: [16, 'parameters are in registers'],
  variableHeaderSize: [17, 10, '8-byte units; 0 unless the call documents a variable header'],
  isNested: [31, 'to be handled by the hypervisor below the nested one'],
  repCount: [32, 12, '0 for simple calls, more for rep calls'],
  repStartIndex: [48, 12, 'below repCount; 0 for simple calls'],
});

/** The result of a call. @spec TLFS Hypercall Interface, hypercall outputs */
export const HypercallResult = bits('HvHypercallResult', PAGE, 64, {
  status: [0, 16, 'HV_STATUS'],
  reservedIgnored: [16, 16, 'the guest must ignore it'],
  repsCompleted: [32, 12, 'absolute: counts the elements before the start index too'],
});

/** The control word in the older layout: nested at 26, header size one bit shorter. @spec TLFS v6.0b (PDF) 3.7 */
export const HypercallInputV6 = bits('HvHypercallInputV6', 'TLFS v6.0b (PDF) 3.7', 64, {
  callCode: [0, 16], isFast: 16, variableHeaderSize: [17, 9], isNested: 26, repCount: [32, 12], repStartIndex: [48, 12],
});

/** Calls from this code on are extended calls. @spec TLFS v6.0b (PDF) 3.14 */
export const EXTENDED_CALL_CODE = 0x8000;
/** Bytes of input in the two parameter registers of a fast call. @spec TLFS Hypercall Interface */
export const FAST_INPUT_BYTES = 16;
/** Bytes of input of an XMM fast call: two registers and XMM0 to XMM5. @spec TLFS Hypercall Interface, XMM fast hypercall input */
export const XMM_FAST_INPUT_BYTES = 112;
/** XMM fast output starts at the next whole unit after the input. @spec TLFS Hypercall Interface, XMM fast hypercall output */
export const XMM_FAST_OUTPUT_UNIT = 16;
/** Parameter blocks start on such a boundary and are a multiple of it. @spec TLFS Hypercall Interface */
export const PARAMETER_ALIGNMENT = 8;
/** A parameter block lies in one page. @spec TLFS v6.0b (PDF) 3.12 */
export const PARAMETER_PAGE_BYTES = 4096;
/** Bytes of the hypercall instruction, VMCALL or VMMCALL. @spec SDM 3C §31.3, APM3 VMMCALL */
export const HYPERCALL_INSTRUCTION_BYTES = 3;

/** Registers that carry a call, by mode of the caller. @spec TLFS Hypercall Interface, hypercall register conventions */
export const HYPERCALL_REGISTERS = {
  x64: { control: ['rcx'], input: ['rdx'], output: ['r8'], result: ['rax'] },
  x86: { control: ['edx', 'eax'], input: ['ebx', 'ecx'], output: ['edi', 'esi'], result: ['edx', 'eax'] },
} as const;

/** Own partition as an operand. @spec TLFS HV_PARTITION_ID */
export const HV_PARTITION_ID_SELF = 0xffff_ffff_ffff_ffffn;
/** Never a partition. @spec TLFS HV_PARTITION_ID */
export const HV_PARTITION_ID_INVALID = 0n;
/** The calling VP as an operand. @spec TLFS HV_VP_INDEX */
export const HV_VP_INDEX_SELF = 0xffff_fffe;
/** Any VP as an operand. @spec TLFS HV_VP_INDEX */
export const HV_ANY_VP = 0xffff_ffff;

/** Control input of a VTL call, in RAX or ECX: all bits reserved. @spec TLFS Virtual Secure Mode, VTL call input */
export const VtlCallInput: Bits<64, Record<never, never>> = bits('HvVtlCallInput', tlfs('Virtual Secure Mode, VTL call input'), 64, {});
/** Control input of a VTL return. @spec TLFS Virtual Secure Mode, VTL return input */
export const VtlReturnInput = bits('HvVtlReturnInput', tlfs('Virtual Secure Mode, VTL return input'), 64, {
  isFast: [0, 'registers are not restored from the VP assist page'],
});

/**
 * Offsets of the VTL call and return stubs in the hypercall page, by implementation; the first is the default.
 * @spec openvmm vm/hv1/hv1_emulator/src/hv.rs; LKML 2023-11 KVM: x86: hyper-v: Introduce VSM support 05/33
 */
export const CODE_PAGE_OFFSETS = {
  openvmm: { x64: { call: 0x0f, return: 0x26 }, x86: { call: 0x04, return: 0x1b } },
  hypervisor: { x64: { call: 0x0f, return: 0x28 }, x86: undefined },
  kvmPrototype: { x64: { call: 0x16, return: 0x20 }, x86: { call: 0x16, return: 0x20 } },
} as const;
