import { FAST_INPUT_BYTES, XMM_FAST_INPUT_BYTES } from '@vmplanes/abi-hyperv';
import { AccessResult, type Answer, PAGE_SIZE, Right, Side, type Subject, subject, SubjectKind } from '@vmplanes/engine';
import { X86 } from '@vmplanes/x86';
import type { HvContext } from '../ports.ts';
import type { CallFrame } from './call-frame.ts';
import type { CallIo } from './call-io.ts';

const TWO_32 = 2 ** 32;
/** Word offsets of the registers in a context block. */
const { rax, rcx, rdx, rbx, rsi, rdi, r8, xmm0 } = Object.fromEntries((['rax', 'rcx', 'rdx', 'rbx', 'rsi', 'rdi', 'r8', 'xmm0'] as const).map((name) => [name, X86[name] >>> 2])) as Record<'rax' | 'rcx' | 'rdx' | 'rbx' | 'rsi' | 'rdi' | 'r8' | 'xmm0', number>;

/** Bits 27:16 of the high word of the control word: the rep start index. */
const START_SHIFT = 16;
const START_MASK = 0x0fff_0000;

/**
 * Operands and result in the registers of VMCALL or VMMCALL.
 * @spec TLFS Hypercall Interface, hypercall register conventions
 */
export class RegisterIo implements CallIo {
  readonly switches = true;
  readonly intercepts = true;
  readonly #hv: HvContext;
  /** The callers, by VTL: their rights, the memory below their overlays. */
  #subjects: readonly Subject[] | null = null;
  /** XMM registers carry parameters. */
  readonly #xmmInput: boolean;
  readonly #xmmOutput: boolean;

  constructor(hv: HvContext, xmmInput: boolean, xmmOutput: boolean) {
    this.#hv = hv;
    this.#xmmInput = xmmInput;
    this.#xmmOutput = xmmOutput;
  }

  /** Whose rights the accesses of a call have. */
  subjectOf(call: CallFrame): Subject {
    return (this.#subjects ??= this.#makeSubjects())[call.vtl]!;
  }
  /** Where memory has two sides, the host reaches the shared one: what the personalities together ask for is known by the first call. */
  #makeSubjects(): readonly Subject[] {
    const { sides } = this.#hv.arch;
    const side = sides === null ? Side.Current : sides.areOpen ? Side.OpenShared : Side.Shared;
    return Array.from({ length: this.#hv.machine.options.maxPlanes }, (_, vtl) => subject(SubjectKind.Call, vtl, side, false));
  }

  fastBytes(): number {
    return this.#xmmInput ? XMM_FAST_INPUT_BYTES : FAST_INPUT_BYTES;
  }
  /** @spec TLFS Hypercall Interface, XMM fast hypercall output: 64-bit callers only */
  fastOutputBytes(call: CallFrame): number {
    return call.wide ? (this.#xmmOutput ? XMM_FAST_INPUT_BYTES : -1) : 0;
  }

  load(call: CallFrame): void {
    const { u32 } = this.#hv.machine.arena;
    const word = call.context.base >>> 2;
    if (call.wide) {
      call.controlLo = u32[word + rcx]!;
      call.controlHi = u32[word + rcx + 1]!;
    } else {
      call.controlLo = u32[word + rax]!;
      call.controlHi = u32[word + rdx]!;
    }
  }

  loadAddresses(call: CallFrame): void {
    const { u32 } = this.#hv.machine.arena;
    const word = call.context.base >>> 2;
    if (call.wide) {
      call.inputGpa = u32[word + rdx + 1]! * TWO_32 + u32[word + rdx]!;
      call.outputGpa = u32[word + r8 + 1]! * TWO_32 + u32[word + r8]!;
    } else {
      call.inputGpa = u32[word + rbx]! * TWO_32 + u32[word + rcx]!;
      call.outputGpa = u32[word + rdi]! * TWO_32 + u32[word + rsi]!;
    }
  }

  /** @spec TLFS Hypercall Interface, XMM fast hypercall input: two registers, then XMM0 to XMM5 */
  loadFast(call: CallFrame, bytes: number): void {
    const { u32 } = this.#hv.machine.arena;
    const word = call.context.base >>> 2;
    const into = call.input.words;
    const wide = call.wide;
    into[0] = u32[word + (wide ? rdx : rcx)]!;
    into[1] = u32[word + (wide ? rdx + 1 : rbx)]!;
    into[2] = u32[word + (wide ? r8 : rsi)]!;
    into[3] = u32[word + (wide ? r8 + 1 : rdi)]!;
    for (let i = 4; 4 * i < bytes; i++) into[i] = u32[word + xmm0 + i - 4]!;
  }

  fetch(call: CallFrame, bytes: number): AccessResult {
    return call.fetched.fetch(this.#hv.machine.memory.access, this.subjectOf(call), call.inputGpa, bytes);
  }

  /** Backs the page and asks its watchers, too: once the call is served, nothing may keep its output from the guest. */
  admitsOutput(call: CallFrame, bytes: number): AccessResult {
    const { memory } = this.#hv.machine;
    const caller = this.subjectOf(call);
    const result = memory.access.check(caller, call.outputGpa, bytes, Right.Write);
    if (result !== AccessResult.Ok) return result;
    const frame = memory.frameAt(Math.floor(call.outputGpa / PAGE_SIZE));
    if (frame < 0) return AccessResult.NoMemory;
    return memory.watches.pass(frame, caller, Right.Write) ? AccessResult.Ok : AccessResult.Held;
  }

  store(call: CallFrame, from: number, to: number): AccessResult {
    const { access } = this.#hv.machine.memory;
    return access.write(this.subjectOf(call), call.outputGpa + from, call.output.bytes, from, to - from);
  }

  storeFast(call: CallFrame, at: number, from: number, to: number): void {
    const { u32 } = this.#hv.machine.arena;
    const word = call.context.base >>> 2;
    const words = call.output.words;
    for (let i = from >>> 2; 4 * i < to; i++) {
      const target = (at >>> 2) + i;
      u32[word + (target < 2 ? rdx + target : target < 4 ? r8 + target - 2 : xmm0 + target - 4)] = words[i]!;
    }
  }

  finish(call: CallFrame, status: number, reps: number): Answer {
    const { u32 } = this.#hv.machine.arena;
    const word = call.context.base >>> 2;
    u32[word + rax] = status;
    if (call.wide) u32[word + rax + 1] = reps;
    else {
      // Results of 32-bit operations: the upper halves become zero.
      u32[word + rax + 1] = 0;
      u32[word + rdx] = reps;
      u32[word + rdx + 1] = 0;
    }
    return call.vp.replies.resume();
  }

  interrupted(call: CallFrame, reps: number): Answer {
    const { u32 } = this.#hv.machine.arena;
    const high = (call.context.base >>> 2) + (call.wide ? rcx + 1 : rdx);
    u32[high] = (u32[high]! & ~START_MASK) | (reps << START_SHIFT);
    return call.vp.replies.retry();
  }
}
