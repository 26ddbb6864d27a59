import { ContextLayout, type RegisterDef } from '@vmplanes/engine';

/** Bytes of one x86 context block: the state of one plane of one virtual processor. */
export const CONTEXT_SIZE = 0x2000;

/** Encoding number of a general register in ModRM, REX and SIB fields, as an index. @spec SDM 2A Table 2-2; APM3 §1.4 */
export const gprNames = [
  'rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15',
] as const;

/** Segment registers by encoding number, then the two system segments. @spec SDM 2A Table 2-2 (sreg3) */
export const segmentNames = ['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'ldtr', 'tr'] as const;
export type SegmentName = (typeof segmentNames)[number];

/**
 * Every cell of the context block: name, byte offset, bytes, groups that a sharing declaration may name.
 *
 * Order is chosen for the switch: what planes commonly share (general registers but RSP, CR2, DR0-3,
 * XCR0, x87/SSE/AVX, then MTRR and machine-check MSRs) is one run from offset 0; what every plane owns follows.
 * The floating-point part 0x0b0-0x24f has the layout of the first 416 bytes of an FXSAVE64 image.
 * A segment's attributes have the 12-bit form of the VMCB: type, S, DPL, P in bits 0-7; AVL, L, D/B, G in bits 8-11. Limits are in bytes.
 * CR8, IA32_APIC_BASE and requests that wait to be delivered (NMI, SMI, vectors) are in the plane's local APIC; IA32_TSC is machine time scaled,
 * plus `tscOffset`; whether a plane is halted or waits for a start-up interrupt is the engine's *activity*.
 * @spec SDM 1 Table 10-2 (FXSAVE image); APM2 §15.5.1 and Appendix B (VMCB segment form)
 */
const rows = [
  ['rax', 0x000, 8, 'gpr'],
  ['rcx', 0x008, 8, 'gpr'],
  ['rdx', 0x010, 8, 'gpr'],
  ['rbx', 0x018, 8, 'gpr'],
  ['rbp', 0x020, 8, 'gpr'],
  ['rsi', 0x028, 8, 'gpr'],
  ['rdi', 0x030, 8, 'gpr'],
  ['r8', 0x038, 8, 'gpr'],
  ['r9', 0x040, 8, 'gpr'],
  ['r10', 0x048, 8, 'gpr'],
  ['r11', 0x050, 8, 'gpr'],
  ['r12', 0x058, 8, 'gpr'],
  ['r13', 0x060, 8, 'gpr'],
  ['r14', 0x068, 8, 'gpr'],
  ['r15', 0x070, 8, 'gpr'],
  ['cr2', 0x078, 8, 'control'],
  ['dr0', 0x080, 8, 'debug breakpoints'],
  ['dr1', 0x088, 8, 'debug breakpoints'],
  ['dr2', 0x090, 8, 'debug breakpoints'],
  ['dr3', 0x098, 8, 'debug breakpoints'],
  ['xcr0', 0x0a0, 8, 'control'],
  // Selectors of the last x87 instruction and operand: the 32-bit FXSAVE form shows them, the 64-bit form does not.
  ['x87.cs', 0x0a8, 4, 'fpu x87'],
  ['x87.ds', 0x0ac, 4, 'fpu x87'],
  // FCW (bits 0-15), FSW (16-31), abridged tag byte (32-39), FOP (48-58).
  ['x87.environment', 0x0b0, 8, 'fpu x87'],
  ['x87.rip', 0x0b8, 8, 'fpu x87'],
  ['x87.dp', 0x0c0, 8, 'fpu x87'],
  ['mxcsr', 0x0c8, 4, 'fpu xmm'],
  ['mxcsrMask', 0x0cc, 4, 'fpu xmm'],
  // ST(0)..ST(7) relative to the top of stack, 10 bytes of 16 used; MM0-7 alias the significands.
  ['st0', 0x0d0, 16, 'fpu x87'],
  ['st1', 0x0e0, 16, 'fpu x87'],
  ['st2', 0x0f0, 16, 'fpu x87'],
  ['st3', 0x100, 16, 'fpu x87'],
  ['st4', 0x110, 16, 'fpu x87'],
  ['st5', 0x120, 16, 'fpu x87'],
  ['st6', 0x130, 16, 'fpu x87'],
  ['st7', 0x140, 16, 'fpu x87'],
  ['xmm0', 0x150, 16, 'fpu xmm'],
  ['xmm1', 0x160, 16, 'fpu xmm'],
  ['xmm2', 0x170, 16, 'fpu xmm'],
  ['xmm3', 0x180, 16, 'fpu xmm'],
  ['xmm4', 0x190, 16, 'fpu xmm'],
  ['xmm5', 0x1a0, 16, 'fpu xmm'],
  ['xmm6', 0x1b0, 16, 'fpu xmm'],
  ['xmm7', 0x1c0, 16, 'fpu xmm'],
  ['xmm8', 0x1d0, 16, 'fpu xmm'],
  ['xmm9', 0x1e0, 16, 'fpu xmm'],
  ['xmm10', 0x1f0, 16, 'fpu xmm'],
  ['xmm11', 0x200, 16, 'fpu xmm'],
  ['xmm12', 0x210, 16, 'fpu xmm'],
  ['xmm13', 0x220, 16, 'fpu xmm'],
  ['xmm14', 0x230, 16, 'fpu xmm'],
  ['xmm15', 0x240, 16, 'fpu xmm'],
  ['ymmHigh0', 0x250, 16, 'fpu ymm'],
  ['ymmHigh1', 0x260, 16, 'fpu ymm'],
  ['ymmHigh2', 0x270, 16, 'fpu ymm'],
  ['ymmHigh3', 0x280, 16, 'fpu ymm'],
  ['ymmHigh4', 0x290, 16, 'fpu ymm'],
  ['ymmHigh5', 0x2a0, 16, 'fpu ymm'],
  ['ymmHigh6', 0x2b0, 16, 'fpu ymm'],
  ['ymmHigh7', 0x2c0, 16, 'fpu ymm'],
  ['ymmHigh8', 0x2d0, 16, 'fpu ymm'],
  ['ymmHigh9', 0x2e0, 16, 'fpu ymm'],
  ['ymmHigh10', 0x2f0, 16, 'fpu ymm'],
  ['ymmHigh11', 0x300, 16, 'fpu ymm'],
  ['ymmHigh12', 0x310, 16, 'fpu ymm'],
  ['ymmHigh13', 0x320, 16, 'fpu ymm'],
  ['ymmHigh14', 0x330, 16, 'fpu ymm'],
  ['ymmHigh15', 0x340, 16, 'fpu ymm'],
  ['mtrrDefType', 0x350, 8, 'msr mtrr'],
  ['mtrrPhysBase0', 0x358, 8, 'msr mtrr'],
  ['mtrrPhysMask0', 0x360, 8, 'msr mtrr'],
  ['mtrrPhysBase1', 0x368, 8, 'msr mtrr'],
  ['mtrrPhysMask1', 0x370, 8, 'msr mtrr'],
  ['mtrrPhysBase2', 0x378, 8, 'msr mtrr'],
  ['mtrrPhysMask2', 0x380, 8, 'msr mtrr'],
  ['mtrrPhysBase3', 0x388, 8, 'msr mtrr'],
  ['mtrrPhysMask3', 0x390, 8, 'msr mtrr'],
  ['mtrrPhysBase4', 0x398, 8, 'msr mtrr'],
  ['mtrrPhysMask4', 0x3a0, 8, 'msr mtrr'],
  ['mtrrPhysBase5', 0x3a8, 8, 'msr mtrr'],
  ['mtrrPhysMask5', 0x3b0, 8, 'msr mtrr'],
  ['mtrrPhysBase6', 0x3b8, 8, 'msr mtrr'],
  ['mtrrPhysMask6', 0x3c0, 8, 'msr mtrr'],
  ['mtrrPhysBase7', 0x3c8, 8, 'msr mtrr'],
  ['mtrrPhysMask7', 0x3d0, 8, 'msr mtrr'],
  ['mtrrFix64k00000', 0x3d8, 8, 'msr mtrr'],
  ['mtrrFix16k80000', 0x3e0, 8, 'msr mtrr'],
  ['mtrrFix16kA0000', 0x3e8, 8, 'msr mtrr'],
  ['mtrrFix4kC0000', 0x3f0, 8, 'msr mtrr'],
  ['mtrrFix4kC8000', 0x3f8, 8, 'msr mtrr'],
  ['mtrrFix4kD0000', 0x400, 8, 'msr mtrr'],
  ['mtrrFix4kD8000', 0x408, 8, 'msr mtrr'],
  ['mtrrFix4kE0000', 0x410, 8, 'msr mtrr'],
  ['mtrrFix4kE8000', 0x418, 8, 'msr mtrr'],
  ['mtrrFix4kF0000', 0x420, 8, 'msr mtrr'],
  ['mtrrFix4kF8000', 0x428, 8, 'msr mtrr'],
  ['mcgCap', 0x430, 8, 'msr mcg'],
  ['mcgStatus', 0x438, 8, 'msr mcg'],

  ['rsp', 0x480, 8, 'gpr'],
  ['rip', 0x488, 8, 'control'],
  ['rflags', 0x490, 8, 'control'],
  ['cr0', 0x498, 8, 'control'],
  ['cr3', 0x4a0, 8, 'control'],
  ['cr4', 0x4a8, 8, 'control'],
  ['efer', 0x4b0, 8, 'control msr'],
  ['xss', 0x4b8, 8, 'control msr'],
  ['dr6', 0x4c0, 8, 'debug'],
  ['dr7', 0x4c8, 8, 'debug'],
  // Never shared, though the XSAVE image carries it: the one member of its class.
  ['pkru', 0x4d0, 4, 'pkru'],
  ['es.selector', 0x4d8, 4, 'segments'],
  ['es.attributes', 0x4dc, 4, 'segments'],
  ['es.limit', 0x4e0, 4, 'segments'],
  ['es.base', 0x4e8, 8, 'segments'],
  ['cs.selector', 0x4f0, 4, 'segments'],
  ['cs.attributes', 0x4f4, 4, 'segments'],
  ['cs.limit', 0x4f8, 4, 'segments'],
  ['cs.base', 0x500, 8, 'segments'],
  ['ss.selector', 0x508, 4, 'segments'],
  ['ss.attributes', 0x50c, 4, 'segments'],
  ['ss.limit', 0x510, 4, 'segments'],
  ['ss.base', 0x518, 8, 'segments'],
  ['ds.selector', 0x520, 4, 'segments'],
  ['ds.attributes', 0x524, 4, 'segments'],
  ['ds.limit', 0x528, 4, 'segments'],
  ['ds.base', 0x530, 8, 'segments'],
  ['fs.selector', 0x538, 4, 'segments'],
  ['fs.attributes', 0x53c, 4, 'segments'],
  ['fs.limit', 0x540, 4, 'segments'],
  ['fs.base', 0x548, 8, 'segments'],
  ['gs.selector', 0x550, 4, 'segments'],
  ['gs.attributes', 0x554, 4, 'segments'],
  ['gs.limit', 0x558, 4, 'segments'],
  ['gs.base', 0x560, 8, 'segments'],
  ['ldtr.selector', 0x568, 4, 'segments'],
  ['ldtr.attributes', 0x56c, 4, 'segments'],
  ['ldtr.limit', 0x570, 4, 'segments'],
  ['ldtr.base', 0x578, 8, 'segments'],
  ['tr.selector', 0x580, 4, 'segments'],
  ['tr.attributes', 0x584, 4, 'segments'],
  ['tr.limit', 0x588, 4, 'segments'],
  ['tr.base', 0x590, 8, 'segments'],
  ['gdtr.limit', 0x598, 4, 'segments tables'],
  ['gdtr.base', 0x5a0, 8, 'segments tables'],
  ['idtr.limit', 0x5a8, 4, 'segments tables'],
  ['idtr.base', 0x5b0, 8, 'segments tables'],
  // The current privilege level; SS.DPL while a segment is loaded as hardware does, kept apart because a save area states it apart.
  ['cpl', 0x5b8, 4, 'control'],

  ['star', 0x5c0, 8, 'msr syscall'],
  ['lstar', 0x5c8, 8, 'msr syscall'],
  ['cstar', 0x5d0, 8, 'msr syscall'],
  ['sfmask', 0x5d8, 8, 'msr syscall'],
  ['kernelGsBase', 0x5e0, 8, 'msr syscall'],
  ['sysenterCs', 0x5e8, 8, 'msr syscall'],
  ['sysenterEsp', 0x5f0, 8, 'msr syscall'],
  ['sysenterEip', 0x5f8, 8, 'msr syscall'],
  ['pat', 0x600, 8, 'msr'],
  ['tscAux', 0x610, 8, 'msr tsc'],
  // Added to the scaled machine time to give IA32_TSC; two's complement.
  ['tscOffset', 0x618, 8, 'msr tsc'],
  // Fixed point 8.32: guest ticks per machine tick.
  ['tscScale', 0x620, 8, 'msr tsc'],
  ['tscAdjust', 0x628, 8, 'msr tsc'],
  ['miscEnable', 0x630, 8, 'msr'],
  ['featureControl', 0x638, 8, 'msr'],
  ['specCtrl', 0x640, 8, 'msr'],
  ['virtSpecCtrl', 0x648, 8, 'msr'],
  ['hwcr', 0x650, 8, 'msr'],
  ['patchLevel', 0x658, 8, 'msr'],
  ['smbase', 0x660, 8, 'msr'],
  ['debugCtl', 0x668, 8, 'msr lbr'],
  ['lastBranchFrom', 0x670, 8, 'msr lbr'],
  ['lastBranchTo', 0x678, 8, 'msr lbr'],
  ['lastExceptionFrom', 0x680, 8, 'msr lbr'],
  ['lastExceptionTo', 0x688, 8, 'msr lbr'],
  ['dr0Mask', 0x690, 8, 'msr breakpointMasks'],
  ['dr1Mask', 0x698, 8, 'msr breakpointMasks'],
  ['dr2Mask', 0x6a0, 8, 'msr breakpointMasks'],
  ['dr3Mask', 0x6a8, 8, 'msr breakpointMasks'],
  ['uCet', 0x6b0, 8, 'msr cet'],
  ['sCet', 0x6b8, 8, 'msr cet'],
  ['ssp', 0x6c0, 8, 'cet'],
  ['pl0Ssp', 0x6c8, 8, 'msr cet'],
  ['pl1Ssp', 0x6d0, 8, 'msr cet'],
  ['pl2Ssp', 0x6d8, 8, 'msr cet'],
  ['pl3Ssp', 0x6e0, 8, 'msr cet'],
  ['interruptSspTable', 0x6e8, 8, 'msr cet'],

  // An exception that is due, and what is being delivered. State: 0 none, 1 pending (may still be intercepted), 2 injected (delivery has begun).
  ['exception.state', 0x700, 4, 'events'],
  ['exception.vector', 0x704, 4, 'events'],
  ['exception.hasErrorCode', 0x708, 4, 'events'],
  ['exception.errorCode', 0x70c, 4, 'events'],
  // CR2 of a page fault or the DR6 bits of a debug exception, applied when delivery begins.
  ['exception.hasPayload', 0x710, 4, 'events'],
  ['exception.payload', 0x718, 8, 'events'],
  ['interrupt.injected', 0x720, 4, 'events'],
  ['interrupt.vector', 0x724, 4, 'events'],
  ['interrupt.soft', 0x728, 4, 'events'],
  // Length of the instruction that raised a software interrupt or trap, so that delivery can push the next RIP.
  ['event.instructionLength', 0x72c, 4, 'events'],
  // Bit 0: after MOV SS or POP SS; bit 1: after STI. Holds for one instruction.
  ['interruptShadow', 0x730, 4, 'events'],
  ['nmi.injected', 0x738, 4, 'events'],
  ['nmi.blocked', 0x73c, 4, 'events'],
  // Bit 0: in system management mode; bit 1: entered while NMIs were blocked.
  ['smm', 0x744, 4, 'events'],
  ['tripleFault', 0x748, 4, 'events'],

  ['reserved', 0x1000, 0x1000, ''],
] as const;

/** Names of the cells of an x86 context block. */
export type RegisterName = (typeof rows)[number][0];

/** Cells that are scratch space of an instruction core: never saved, never traced. */
const derived: ReadonlySet<RegisterName> = new Set(['reserved']);

const byName = <T>(value: (offset: number, size: number) => T): Readonly<Record<RegisterName, T>> =>
  Object.freeze(Object.fromEntries(rows.map(([name, offset, size]) => [name, value(offset, size)])) as Record<RegisterName, T>);

/** Byte offset of each cell from the base of its block, for hot paths. */
export const X86: Readonly<Record<RegisterName, number>> = byName((offset) => offset);

/** The same as an index of 32-bit words: `arena.u32[(base >>> 2) + X86Word.rax]` is EAX; add 1 for the upper half. */
export const X86Word: Readonly<Record<RegisterName, number>> = byName((offset) => offset / 4);

/** Bytes of each cell. */
export const X86Size: Readonly<Record<RegisterName, number>> = byName((_, size) => size);

/** Byte offset of the general register with an encoding number 0..15. */
export const gprOffset = Uint16Array.from(gprNames, (name) => X86[name]);

/** Byte offset of the `selector` cell of a segment by encoding number (6 = LDTR, 7 = TR); attributes +4, limit +8, base +16. */
export const segmentOffset = Uint16Array.from(segmentNames, (name) => X86[`${name}.selector`]);

/** The x86 context block, as the engine and sharing declarations see it. */
export const x86ContextLayout = new ContextLayout(
  CONTEXT_SIZE,
  rows.map(([name, offset, size, groups]): RegisterDef => ({
    name,
    offset,
    size,
    groups: groups === '' ? [] : groups.split(' '),
    architectural: !derived.has(name),
  })),
);

/** @returns whether `name` is a cell of the x86 context block. */
export const isRegisterName = (name: string): name is RegisterName => x86ContextLayout.has(name);
