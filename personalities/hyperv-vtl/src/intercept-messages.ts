import {
  HV_MESSAGE_SIZE, HvCacheType, HvInterceptAccessType, HvMessage, HvMessageHeader, HvMessageType, HvX64CpuidInterceptMessage, HvX64ExceptionInfo, HvX64ExceptionInterceptMessage, HvX64InstructionLengthAndCr8,
  HvX64InterceptMessageHeader, HvX64InterruptionDeliverableMessage, HvX64IoPortAccessInfo, HvX64IoPortInterceptMessage, HvX64MemoryAccessInfo, HvX64MemoryInterceptMessage, HvX64MsrInterceptMessage,
  HvX64RegisterInterceptFlags, HvX64RegisterInterceptMessage, HvX64SynicSintDeliverableMessage, HvX64UnrecoverableExceptionMessage, HvX64VpExecutionState,
} from '@vmplanes/abi-hyperv';
import { type MemoryFaultInfo, type PlaneContext, Right } from '@vmplanes/engine';
import { type SegmentName, X86, type RegisterName } from '@vmplanes/x86';
import type { HvContext } from './ports.ts';
import { toHvAttributes } from './segments.ts';

const TWO_32 = 2 ** 32;
const BODY = HvMessage.at.payload;
const RFLAGS_RF = 1 << 16;
const EFER_LMA = 1 << 10;
const CR0 = { pe: 1, am: 1 << 18 } as const;
const DR7_ENABLES = 0xff;
const state = HvX64VpExecutionState.mask;
const head = HvX64InterceptMessageHeader.at;
const { Read, Write, Execute } = HvInterceptAccessType;

/** General registers of a message, by field. */
const generals = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const;

/** What CPUID would have given. */
export interface CpuidDefaults {
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/**
 * Intercept messages about a VTL, byte for byte. Each call fills the one buffer of the machine and gives it back, borrowed.
 * @spec TLFS HV_MESSAGE; TLFS v6.0b (PDF) 11.9; openvmm vm/hv1/hvdef/src/lib.rs
 */
export class InterceptMessages {
  readonly bytes = new Uint8Array(HV_MESSAGE_SIZE);
  readonly #view = new DataView(this.bytes.buffer);

  constructor(readonly hv: HvContext) {}

  /** Access to a page that a VTL above protects. @param info - what was refused. */
  memory(context: PlaneContext, info: MemoryFaultInfo): Uint8Array {
    const type = (info.access & (Right.ExecSupervisor | Right.ExecUser)) !== 0 ? Execute : (info.access & Right.Write) !== 0 ? Write : Read;
    // Nobody knows the length of an instruction that could not be fetched.
    const length = type === Execute ? 0 : info.instructionLength;
    const { at } = HvX64MemoryInterceptMessage;
    const size = this.hv.options.memoryMessageBytes;
    this.#start(context, HvMessageType.GpaIntercept, size, type, length);
    this.#or(BODY + head.rflags, RFLAGS_RF);
    this.#u32(at.cacheType, HvCacheType.WriteBack);
    this.#u8(at.instructionByteCount, length);
    this.#u8(at.memoryAccessInfo, this.#accessInfo(context, info));
    this.#u8(at.tprPriority, this.hv.arch.apicOf(context).cr8);
    if (this.hv.options.interceptGva && info.hasGva) this.#pair(at.guestVirtualAddress, info.gvaLo, info.gvaHi);
    this.#pair(at.guestPhysicalAddress, info.gpa % TWO_32, Math.floor(info.gpa / TWO_32));
    this.bytes.set(info.instruction.subarray(0, length), BODY + at.instructionBytes);
    if (size === HvX64MemoryInterceptMessage.size) this.#generals(context, at);
    return this.bytes;
  }

  #accessInfo(context: PlaneContext, info: MemoryFaultInfo): number {
    const { gvaValid, gvaGpaValid, tlbLocked } = HvX64MemoryAccessInfo.mask;
    const addresses = this.hv.options.interceptGva && info.hasGva ? gvaValid | (info.isWalk ? 0 : gvaGpaValid) : 0;
    return addresses | (this.hv.chapters.vsm.isTlbLocked(context.vp, context.plane) ? tlbLocked : 0);
  }

  /** @param lo - value to be written; for reads the registers as they are. */
  msr(context: PlaneContext, index: number, write: boolean, lo: number, hi: number): Uint8Array {
    const { at, size } = HvX64MsrInterceptMessage;
    this.#start(context, HvMessageType.MsrIntercept, size, write ? Write : Read, context.instructionLength);
    this.#u32(at.msrNumber, index);
    if (write) {
      this.#pair(at.rdx, hi, 0);
      this.#pair(at.rax, lo, 0);
    } else {
      this.#cell(at.rdx, context, X86.rdx);
      this.#cell(at.rax, context, X86.rax);
    }
    return this.bytes;
  }

  /** @param name - HV_REGISTER_NAME. @param isMemoryOperand - the value comes from memory, as with LGDT. */
  register(context: PlaneContext, name: number, isMemoryOperand: boolean, lo: number, hi: number): Uint8Array {
    const { at, size } = HvX64RegisterInterceptMessage;
    this.#start(context, HvMessageType.RegisterIntercept, size, Write, context.instructionLength);
    this.#u8(at.flags, isMemoryOperand ? HvX64RegisterInterceptFlags.mask.isMemoryOperand : 0);
    this.#u32(at.registerName, name);
    this.#pair(at.sourceValue, lo, hi);
    return this.bytes;
  }

  /** @param size - bytes: 1, 2 or 4. @param value - what is written; for reads RAX as it is. */
  io(context: PlaneContext, port: number, size: number, write: boolean, value: number): Uint8Array {
    const { at, size: payload } = HvX64IoPortInterceptMessage;
    this.#start(context, HvMessageType.X64IoPortIntercept, payload, write ? Write : Read, context.instructionLength);
    this.#u16(at.portNumber, port);
    this.#u8(at.accessInfo, size << HvX64IoPortAccessInfo.shift.accessSize);
    this.#cell(at.rax, context, X86.rax);
    if (write) this.#partial(at.rax, size, value);
    this.#segment(at.ds, context, 'ds');
    this.#segment(at.es, context, 'es');
    this.#cell(at.rcx, context, X86.rcx);
    this.#cell(at.rsi, context, X86.rsi);
    this.#cell(at.rdi, context, X86.rdi);
    return this.bytes;
  }

  cpuid(context: PlaneContext, leaf: number, subleaf: number, result: CpuidDefaults): Uint8Array {
    const { at, size } = HvX64CpuidInterceptMessage;
    this.#start(context, HvMessageType.X64CpuidIntercept, size, Execute, context.instructionLength);
    this.#pair(at.rax, leaf, 0);
    this.#pair(at.rcx, subleaf, 0);
    this.#cell(at.rdx, context, X86.rdx);
    this.#cell(at.rbx, context, X86.rbx);
    this.#pair(at.defaultResultRax, result.eax, 0);
    this.#pair(at.defaultResultRcx, result.ecx, 0);
    this.#pair(at.defaultResultRdx, result.edx, 0);
    this.#pair(at.defaultResultRbx, result.ebx, 0);
    return this.bytes;
  }

  /** @param errorCode - null for exceptions without one. @param lo - parameter: CR2 of a page fault. */
  exception(context: PlaneContext, vector: number, errorCode: number | null, lo: number, hi: number): Uint8Array {
    const { at, size } = HvX64ExceptionInterceptMessage;
    this.#start(context, HvMessageType.ExceptionIntercept, size, Execute, 0);
    this.#u16(at.vector, vector);
    this.#u8(at.exceptionInfo, errorCode === null ? 0 : HvX64ExceptionInfo.mask.errorCodeValid);
    this.#u32(at.errorCode, errorCode ?? 0);
    this.#pair(at.exceptionParameter, lo, hi);
    this.#generals(context, at);
    return this.bytes;
  }

  /** The VTL cannot go on: a triple fault. */
  unrecoverable(context: PlaneContext): Uint8Array {
    this.#start(context, HvMessageType.UnrecoverableException, HvX64UnrecoverableExceptionMessage.size, Execute, 0);
    return this.bytes;
  }

  /** @param type - HvX64PendingInterruptionType of what can be delivered. */
  interruptionDeliverable(context: PlaneContext, type: number): Uint8Array {
    const { at, size } = HvX64InterruptionDeliverableMessage;
    this.#start(context, HvMessageType.X64InterruptionDeliverable, size, Execute, 0);
    this.#u32(at.deliverableType, type);
    return this.bytes;
  }

  sintDeliverable(context: PlaneContext, sints: number): Uint8Array {
    const { at, size } = HvX64SynicSintDeliverableMessage;
    this.#start(context, HvMessageType.SynicSintDeliverable, size, Execute, 0);
    this.#u16(at.deliverableSints, sints);
    return this.bytes;
  }

  // -- parts -----------------------------------------------------------------------------------------------------------

  #start(context: PlaneContext, type: number, payloadSize: number, accessType: number, length: number): void {
    this.bytes.fill(0);
    const view = this.#view;
    view.setUint32(HvMessageHeader.at.type, type, true);
    view.setUint8(HvMessageHeader.at.payloadSize, payloadSize);
    this.#u32(head.vpIndex, context.vp.index);
    this.#u8(head.instructionLengthAndCr8, (length & 15) | (this.hv.arch.apicOf(context).cr8 << HvX64InstructionLengthAndCr8.shift.cr8));
    this.#u8(head.accessType, accessType);
    this.#u16(head.executionState, this.#executionState(context));
    this.#segment(head.cs, context, 'cs');
    this.#cell(head.rip, context, X86.rip);
    this.#cell(head.rflags, context, X86.rflags);
  }

  #executionState(context: PlaneContext): number {
    const low = (name: RegisterName): number => this.hv.machine.arena.u32[(context.base + X86[name]) >>> 2]!;
    const cr0 = low('cr0');
    const isPending = (low('exception.state') | low('interrupt.injected') | low('nmi.injected')) !== 0;
    return (
      (low('cpl') & state.cpl) |
      ((cr0 & CR0.pe) !== 0 ? state.cr0Pe : 0) |
      ((cr0 & CR0.am) !== 0 ? state.cr0Am : 0) |
      ((low('efer') & EFER_LMA) !== 0 ? state.eferLma : 0) |
      ((low('dr7') & DR7_ENABLES) !== 0 ? state.debugActive : 0) |
      (isPending ? state.interruptionPending : 0) |
      (context.plane << HvX64VpExecutionState.shift.vtl) |
      (low('interruptShadow') !== 0 ? state.interruptShadow : 0)
    );
  }

  #generals(context: PlaneContext, at: Readonly<Record<(typeof generals)[number] | 'ds' | 'ss', number>>): void {
    this.#segment(at.ds, context, 'ds');
    this.#segment(at.ss, context, 'ss');
    for (const name of generals) this.#cell(at[name], context, X86[name]);
  }

  /** A 64-bit cell of the VTL; it runs, so its block holds shared registers, too. */
  #cell(offset: number, context: PlaneContext, cell: number): void {
    const { u32 } = this.hv.machine.arena;
    const word = (context.base + cell) >>> 2;
    this.#pair(offset, u32[word]!, u32[word + 1]!);
  }
  #segment(offset: number, context: PlaneContext, name: SegmentName): void {
    const { u32 } = this.hv.machine.arena;
    const word = (context.base + X86[`${name}.selector`]) >>> 2;
    this.#cell(offset, context, X86[`${name}.base`]);
    this.#u32(offset + 8, u32[word + 2]!);
    this.#u16(offset + 12, u32[word]!);
    this.#u16(offset + 14, toHvAttributes(u32[word + 1]!));
  }
  #pair(offset: number, lo: number, hi: number): void {
    this.#view.setUint32(BODY + offset, lo, true);
    this.#view.setUint32(BODY + offset + 4, hi, true);
  }
  #partial(offset: number, size: number, value: number): void {
    if (size === 1) this.#u8(offset, value);
    else if (size === 2) this.#u16(offset, value);
    else this.#u32(offset, value);
  }
  #u32(offset: number, value: number): void {
    this.#view.setUint32(BODY + offset, value, true);
  }
  #u16(offset: number, value: number): void {
    this.#view.setUint16(BODY + offset, value, true);
  }
  #u8(offset: number, value: number): void {
    this.#view.setUint8(BODY + offset, value);
  }
  #or(at: number, bits: number): void {
    this.#view.setUint32(at, this.#view.getUint32(at, true) | bits, true);
  }
}
