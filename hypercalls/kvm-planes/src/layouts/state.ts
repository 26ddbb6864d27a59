import { array, bytes, struct, tail, u16, u32, u64, u8 } from '@vmplanes/binary';

const X86 = 'Linux arch/x86/include/uapi/asm/kvm.h';
const UAPI = 'Linux include/uapi/linux/kvm.h';

/** General registers. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmRegs = struct('kvm_regs', X86, 144, {
  rax: [0, u64], rbx: [8, u64], rcx: [16, u64], rdx: [24, u64], rsi: [32, u64], rdi: [40, u64], rsp: [48, u64], rbp: [56, u64],
  r8: [64, u64], r9: [72, u64], r10: [80, u64], r11: [88, u64], r12: [96, u64], r13: [104, u64], r14: [112, u64], r15: [120, u64],
  rip: [128, u64], rflags: [136, u64],
});

/** A segment register with its hidden part. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmSegment = struct('kvm_segment', X86, 24, {
  base: [0, u64], limit: [8, u32], selector: [12, u16], type: [14, u8], present: [15, u8], dpl: [16, u8], db: [17, u8], s: [18, u8], l: [19, u8], g: [20, u8], avl: [21, u8],
  unusable: [22, u8], reservedPadding: [23, u8],
});
/** A descriptor table register. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmDtable = struct('kvm_dtable', X86, 16, { base: [0, u64], limit: [8, u16], reservedPadding: [10, array(u16, 3)] });

const SEGMENTS_AND_CONTROL = {
  cs: [0, KvmSegment], ds: [24, KvmSegment], es: [48, KvmSegment], fs: [72, KvmSegment], gs: [96, KvmSegment], ss: [120, KvmSegment], tr: [144, KvmSegment], ldt: [168, KvmSegment],
  gdt: [192, KvmDtable], idt: [208, KvmDtable],
  cr0: [224, u64], cr2: [232, u64], cr3: [240, u64], cr4: [248, u64], cr8: [256, u64], efer: [264, u64], apicBase: [272, u64],
} as const;

/** Segment and control registers. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmSregs = struct('kvm_sregs', X86, 312, { ...SEGMENTS_AND_CONTROL, interruptBitmap: [280, array(u64, 4), 'the vector being injected'] });
/** The same with the PDPTE registers. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmSregs2 = struct('kvm_sregs2', X86, 320, { ...SEGMENTS_AND_CONTROL, flags: [280, u64, 'bit 0: pdptrs are valid'], pdptrs: [288, array(u64, 4)] });

/** x87 and SSE state. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmFpu = struct('kvm_fpu', X86, 416, {
  fpr: [0, array(bytes(16), 8)], fcw: [128, u16], fsw: [130, u16], ftwx: [132, u8, 'tags in FXSAVE form'], reservedPad1: [133, u8], lastOpcode: [134, u16], lastIp: [136, u64],
  lastDp: [144, u64], xmm: [152, array(bytes(16), 16)], mxcsr: [408, u32], reservedPad2: [412, u32],
});
/** The XSAVE image, standard format. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmXsave = struct('kvm_xsave', X86, 4096, { region: [0, bytes(4096)] });
/** The local APIC page, registers 16 bytes apart. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmLapicState = struct('kvm_lapic_state', X86, 1024, { regs: [0, bytes(1024)] });

/** Events being delivered. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmVcpuEvents = struct('kvm_vcpu_events', X86, 64, {
  exception: [0, struct('exception', X86, 8, { injected: [0, u8], nr: [1, u8], hasErrorCode: [2, u8], pending: [3, u8], errorCode: [4, u32] })],
  interrupt: [8, struct('interrupt', X86, 4, { injected: [0, u8], nr: [1, u8], soft: [2, u8], shadow: [3, u8] })],
  nmi: [12, struct('nmi', X86, 4, { injected: [0, u8], pending: [1, u8], masked: [2, u8], reservedPad: [3, u8] })],
  sipiVector: [16, u32],
  flags: [20, u32, 'which parts count'],
  smi: [24, struct('smi', X86, 4, { smm: [0, u8], pending: [1, u8], smmInsideNmi: [2, u8], latchedInit: [3, u8] })],
  tripleFault: [28, struct('triple_fault', X86, 1, { pending: [0, u8] })],
  reserved: [29, bytes(26)],
  exceptionHasPayload: [55, u8],
  exceptionPayload: [56, u64],
});
/** Debug registers. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmDebugregs = struct('kvm_debugregs', X86, 128, { db: [0, array(u64, 4)], dr6: [32, u64], dr7: [40, u64], flags: [48, u64], reserved: [56, array(u64, 9)] });
/** One extended control register. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmXcr = struct('kvm_xcr', X86, 16, { xcr: [0, u32], reserved: [4, u32], value: [8, u64] });
/** Extended control registers. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmXcrs = struct('kvm_xcrs', X86, 392, { nrXcrs: [0, u32], flags: [4, u32], xcrs: [8, array(KvmXcr, 16)], reservedPadding: [264, array(u64, 16)] });
/** Header of nested virtualisation state; its data follows. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmNestedState = struct('kvm_nested_state', X86, 128, { flags: [0, u16], format: [2, u16], size: [4, u32], hdr: [8, bytes(120)] });

/** One MSR. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmMsrEntry = struct('kvm_msr_entry', X86, 16, { index: [0, u32], reserved: [4, u32], data: [8, u64] });
/** A list of MSRs. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmMsrs = tail('kvm_msrs', X86, struct('kvm_msrs', X86, 8, { nmsrs: [0, u32], reservedPad: [4, u32] }), 'entries', KvmMsrEntry, 'nmsrs');
/** One CPUID leaf. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmCpuidEntry2 = struct('kvm_cpuid_entry2', X86, 40, {
  function: [0, u32], index: [4, u32], flags: [8, u32, 'bit 0: index counts'], eax: [12, u32], ebx: [16, u32], ecx: [20, u32], edx: [24, u32], reservedPadding: [28, array(u32, 3)],
});
/** A CPUID table. @spec Linux arch/x86/include/uapi/asm/kvm.h */
export const KvmCpuid2 = tail('kvm_cpuid2', X86, struct('kvm_cpuid2', X86, 8, { nent: [0, u32], reservedPadding: [4, u32] }), 'entries', KvmCpuidEntry2, 'nent');

/** Multiprocessing state. @spec Linux include/uapi/linux/kvm.h */
export const KvmMpState = struct('kvm_mp_state', UAPI, 4, { mpState: [0, u32] });
/** A register by id; its value lies at a userspace address. @spec Linux include/uapi/linux/kvm.h */
export const KvmOneReg = struct('kvm_one_reg', UAPI, 16, { id: [0, u64], addr: [8, u64] });
/** Register ids. @spec Linux include/uapi/linux/kvm.h */
export const KvmRegList = struct('kvm_reg_list', UAPI, 8, { n: [0, u64, 'ids that follow, u64 each'] });
/** Argument and answer of KVM_TRANSLATE. @spec Linux include/uapi/linux/kvm.h */
export const KvmTranslation = struct('kvm_translation', UAPI, 24, {
  linearAddress: [0, u64, 'in'], physicalAddress: [8, u64, 'out'], valid: [16, u8], writeable: [17, u8], usermode: [18, u8], reservedPad: [19, bytes(5)],
});
