import { type Call, hasFastOutput, HvStatus, type ParameterCall, PARAMETER_ALIGNMENT, PARAMETER_PAGE_BYTES, XMM_FAST_INPUT_BYTES, XMM_FAST_OUTPUT_UNIT } from '@vmplanes/abi-hyperv';
import { AccessResult, type Answer, MemoryFaultInfo, Right, watchKey } from '@vmplanes/engine';
import { grantedWords, neededWords, type PrivilegeWords } from '../privileges.ts';
import type { HvContext } from '../ports.ts';
import type { Binding } from './bind.ts';
import type { Block, BlockBytes } from './block.ts';
import { viewMaker } from './block.ts';
import { type CallFrame, Special } from './call-frame.ts';
import type { CallIo } from './call-io.ts';
import { type ControlLayout, controlLayouts, decodeControl } from './control-word.ts';
import { noteCall } from './trace-call.ts';

const INVALID_OPCODE = 6;
const VTL_CALL = 0x11;
const VTL_RETURN = 0x12;
/** Calls with a code below have their place in an array. */
const DIRECT_CODES = 0x200;

/** Virtual nanoseconds that one element of a rep call takes. */
const ELEMENT_NANOSECONDS = 100;

/** The views of one call on one VP, made when it first issues the call. */
interface CallViews {
  readonly header: Block;
  readonly output: Block;
  readonly element: Block;
  readonly outputElement: Block;
}

/** What the rules ask of a bound call. */
interface Entry {
  readonly binding: Binding;
  /** The partition has the privileges that the call needs. */
  readonly isAllowed: boolean;
  readonly call: ParameterCall;
  readonly headerBytes: number;
  readonly elementBytes: number;
  readonly listBytes: ((count: number) => number) | null;
  readonly outputBytes: number;
  readonly outputElementBytes: number;
  readonly isRep: boolean;
  readonly hasVariable: boolean;
  readonly allowsFast: boolean;
  readonly hasFastOutput: boolean;
  readonly makeHeader: (of: BlockBytes) => Block;
  readonly makeOutput: (of: BlockBytes) => Block;
  readonly makeElement: (of: BlockBytes) => Block;
  readonly makeOutputElement: (of: BlockBytes) => Block;
  /** By VP. */
  readonly views: (CallViews | undefined)[];
}

const hasAll = (needs: PrivilegeWords, granted: PrivilegeWords): boolean => ((needs.lo & ~granted.lo) | (needs.hi & ~granted.hi)) === 0;

const entryOf = (binding: Binding, granted: PrivilegeWords): Entry => {
  const call = binding.call as ParameterCall;
  const has = binding.kind === 'simple' || binding.kind === 'rep';
  const size = (part: 'header' | 'element' | 'output' | 'outputElement'): number => (has ? call[part].size : 0);
  const maker = (part: 'header' | 'element' | 'output' | 'outputElement') => viewMaker(has ? call[part] : ({ kind: 'struct', fields: {} } as never));
  return {
    binding,
    call,
    isAllowed: hasAll(neededWords(call.privileges), granted),
    headerBytes: size('header'),
    elementBytes: size('element'),
    listBytes: binding.kind === 'rep' ? binding.listBytes : null,
    outputBytes: size('output'),
    outputElementBytes: size('outputElement'),
    isRep: binding.kind === 'rep',
    hasVariable: has && call.variable.size > 0,
    allowsFast: has && call.fast !== 'never',
    hasFastOutput: has && hasFastOutput(call),
    makeHeader: maker('header'),
    makeOutput: maker('output'),
    makeElement: maker('element'),
    makeOutputElement: maker('outputElement'),
    views: [],
  };
};

/**
 * Owns every rule that the specification states once for all hypercalls: modes, privileges, the control word, where parameters
 * may lie and who may reach them, output and result, continuation of rep calls. Handlers see decoded operands and say how it went.
 *
 * Order of checks: mode, VTL switches, code, privilege, control word, register form, alignment and bounds, access; then the handler's own.
 * @spec TLFS Hypercall Interface
 */
export class Dispatcher {
  readonly #hv: HvContext;
  /** By code; the map has those from {@link DIRECT_CODES} on. */
  readonly #direct = new Array<Entry | undefined>(DIRECT_CODES).fill(undefined);
  readonly #others = new Map<number, Entry>();
  readonly #control: ControlLayout;
  readonly #straddleStatus: number;
  readonly #spaceBytes: number;
  /** Elements that one run of a rep call may do. */
  readonly #elementsPerRun: number;
  /** What a run of that many elements costs, in instructions. */
  readonly #runCost: number;
  readonly #fault = { kind: 'memoryFault' as const, key: 0, info: new MemoryFaultInfo() };

  /** @param bindings - the handler table. */
  constructor(hv: HvContext, bindings: readonly Binding[]) {
    this.#hv = hv;
    const { options, machine, arch } = hv;
    const granted = grantedWords(options);
    for (const binding of bindings) {
      if (binding.kind === 'unsupported') continue;
      const { code } = binding.call;
      if (code < DIRECT_CODES) this.#direct[code] = entryOf(binding, granted);
      else this.#others.set(code, entryOf(binding, granted));
    }
    this.#control = controlLayouts[options.controlLayout];
    this.#straddleStatus = options.straddleStatus;
    this.#spaceBytes = 2 ** arch.registers.features.physicalBits;
    this.#elementsPerRun = Math.max(1, Math.floor(options.repBudget / ELEMENT_NANOSECONDS));
    const { ticksPerSecond, ticksPerInstruction } = machine.options;
    const ticks = (this.#elementsPerRun * ELEMENT_NANOSECONDS * ticksPerSecond) / 1_000_000_000;
    this.#runCost = Math.max(1, Math.ceil(ticks / ticksPerInstruction));
  }

  /** Serves one call. `call.context`, `call.vtl` and `call.wide` are set; the mode of the caller was checked. */
  serve(call: CallFrame, io: CallIo): Answer {
    io.load(call);
    call.inputBytes = 0;
    call.condition = null;
    call.answer = null;
    decodeControl(call, this.#control);
    const { code } = call;
    const entry = code < DIRECT_CODES ? this.#direct[code] : this.#others.get(code);
    if (code === VTL_CALL || code === VTL_RETURN) {
      if (io.switches) return this.#vtlSwitch(call, entry);
      return this.#reject(call, io, entry, HvStatus.InvalidHypercallCode);
    }
    if (entry === undefined) return this.#reject(call, io, entry, HvStatus.InvalidHypercallCode);
    if (!entry.isAllowed) return this.#reject(call, io, entry, HvStatus.AccessDenied);
    if (!this.#isWellFormed(call, entry)) return this.#reject(call, io, entry, HvStatus.InvalidHypercallInput);

    call.headerBytes = entry.headerBytes;
    const inputBytes = entry.headerBytes + 8 * call.units + (entry.listBytes === null ? call.count * entry.elementBytes : entry.listBytes(call.count));
    const outputBytes = entry.isRep ? call.count * entry.outputElementBytes : entry.outputBytes;
    return call.isFast ? this.#fast(call, io, entry, inputBytes, outputBytes) : this.#slow(call, io, entry, inputBytes, outputBytes);
  }

  #isWellFormed(call: CallFrame, entry: Entry): boolean {
    const { reservedLo, reservedHi } = this.#control;
    if (((call.controlLo & reservedLo) | (call.controlHi & reservedHi)) !== 0) return false;
    if (call.units !== 0 && !entry.hasVariable) return false;
    // Without a count the start index has nothing to be below: a simple call has neither.
    return entry.isRep ? call.start < call.count : (call.count | call.start) === 0;
  }

  /** @spec TLFS Virtual Secure Mode, VTL call, VTL return */
  #vtlSwitch(call: CallFrame, entry: Entry | undefined): Answer {
    if (entry?.binding.kind !== 'vtlSwitch' || !entry.isAllowed || call.controlLo !== call.code || call.controlHi !== 0) return call.vp.replies.fault(INVALID_OPCODE);
    if (this.#hv.machine.hooks.trace !== null) noteCall(this.#hv.machine.hooks.trace, call, entry.binding.call, null, 0);
    return entry.binding.run(call);
  }

  // -- register forms --------------------------------------------------------------------------------------------------

  #fast(call: CallFrame, io: CallIo, entry: Entry, inputBytes: number, outputBytes: number): Answer {
    const limit = io.fastBytes(call);
    if (limit === 0 || !entry.allowsFast || inputBytes > XMM_FAST_INPUT_BYTES || (outputBytes > 0 && !entry.hasFastOutput)) return this.#reject(call, io, entry, HvStatus.InvalidHypercallInput);
    const outputAt = Math.ceil(inputBytes / XMM_FAST_OUTPUT_UNIT) * XMM_FAST_OUTPUT_UNIT;
    if (outputBytes > 0) {
      const room = io.fastOutputBytes(call);
      if (room === 0 || outputAt + outputBytes > XMM_FAST_INPUT_BYTES) return this.#reject(call, io, entry, HvStatus.InvalidHypercallInput);
      if (room < 0) return call.vp.replies.fault(INVALID_OPCODE);
    }
    if (inputBytes > limit) return call.vp.replies.fault(INVALID_OPCODE);
    io.loadFast(call, inputBytes);
    call.inputBytes = inputBytes;
    if (outputBytes > 0) call.output.bytes.fill(0, 0, outputBytes);
    return this.#run(call, io, entry, outputBytes, outputAt);
  }

  // -- memory form -----------------------------------------------------------------------------------------------------

  #slow(call: CallFrame, io: CallIo, entry: Entry, inputBytes: number, outputBytes: number): Answer {
    io.loadAddresses(call);
    let status = inputBytes > 0 ? this.#placed(call.inputGpa, inputBytes) : 0;
    if (status === 0 && outputBytes > 0) status = this.#placed(call.outputGpa, outputBytes);
    if (status !== 0) return this.#reject(call, io, entry, status);
    if (inputBytes > 0) {
      const result = io.fetch(call, inputBytes);
      if (result !== AccessResult.Ok) return this.#refused(call, io, entry, result, Right.Read);
      call.inputBytes = inputBytes;
    }
    if (outputBytes > 0) {
      const result = io.admitsOutput(call, outputBytes);
      if (result !== AccessResult.Ok) return this.#refused(call, io, entry, result, Right.Write);
      call.output.bytes.fill(0, 0, outputBytes);
    }
    return this.#run(call, io, entry, outputBytes, -1);
  }

  /** Alignment, page and bounds of a parameter block. @returns a status. @spec TLFS v6.0b (PDF) 3.12 */
  #placed(gpa: number, bytes: number): number {
    const inPage = gpa % PARAMETER_PAGE_BYTES;
    if (inPage + bytes > PARAMETER_PAGE_BYTES) return this.#straddleStatus;
    if (inPage % PARAMETER_ALIGNMENT !== 0 || gpa + bytes > this.#spaceBytes) return HvStatus.InvalidAlignment;
    return 0;
  }

  /** @spec TLFS Hypercall Interface: parameters that cannot be reached are an intercept, and the call is not made */
  #refused(call: CallFrame, io: CallIo, entry: Entry, result: AccessResult, right: number): Answer {
    const { machine } = this.#hv;
    if (result === AccessResult.Held) {
      const key = watchKey(machine.memory.watches.heldBy ?? '');
      machine.hold(key);
      return call.vp.replies.wait({ kind: 'key', key });
    }
    if (!io.intercepts) return this.#reject(call, io, entry, HvStatus.InvalidHypercallInput);
    machine.memory.access.describe(this.#fault.info, machine.memory.subjects[call.vtl]!.call, result, right);
    return this.#hv.memoryRefused(call.context, this.#fault);
  }

  // -- the call itself -------------------------------------------------------------------------------------------------

  #viewsOf(call: CallFrame, entry: Entry): CallViews {
    return (entry.views[call.vp.index] ??= {
      header: entry.makeHeader(call.input),
      output: entry.makeOutput(call.output),
      element: entry.makeElement(call.input),
      outputElement: entry.makeOutputElement(call.output),
    });
  }

  /** @param fastAt - where output goes among register parameters; -1 for memory. */
  #run(call: CallFrame, io: CallIo, entry: Entry, outputBytes: number, fastAt: number): Answer {
    const { binding } = entry;
    if (binding.kind === 'rep') return this.#runElements(call, io, entry, fastAt);
    const views = this.#viewsOf(call, entry);
    const status = binding.kind === 'simple' ? binding.run(call, views.header, views.output) : 0;
    if (status < 0) return this.#special(call, status);
    if (status === 0 && outputBytes > 0) {
      const result = this.#give(call, io, fastAt, 0, outputBytes);
      if (result !== AccessResult.Ok) return this.#refused(call, io, entry, result, Right.Write);
    }
    return this.#finish(call, io, entry, status, 0);
  }

  #runElements(call: CallFrame, io: CallIo, entry: Entry, fastAt: number): Answer {
    const { binding, elementBytes, outputElementBytes } = entry;
    if (binding.kind !== 'rep') return call.vp.replies.fault(INVALID_OPCODE);
    const { header, element, outputElement } = this.#viewsOf(call, entry);
    const first = call.start;
    const last = Math.min(call.count, first + this.#elementsPerRun);
    const list = entry.headerBytes + 8 * call.units;
    let done = first;
    let status = binding.check(call, header);
    while (status === 0 && done < last) {
      element.at = list + done * elementBytes;
      outputElement.at = done * outputElementBytes;
      call.index = done;
      status = binding.element(call, header, element, outputElement);
      if (status === 0) done++;
    }
    if (outputElementBytes > 0 && done > first) {
      const result = this.#give(call, io, fastAt, first * outputElementBytes, done * outputElementBytes);
      if (result !== AccessResult.Ok) return this.#refused(call, io, entry, result, Right.Write);
    }
    if (status < 0) {
      // What is done stays done: the call goes on behind it, where the caller can be made to.
      const answer = done > first ? io.interrupted(call, done) : null;
      return answer !== null && answer.kind !== 'retry' ? answer : this.#special(call, status);
    }
    if (status === 0 && done < call.count) return this.#interrupted(call, io, entry, done);
    return this.#finish(call, io, entry, status, done);
  }

  #give(call: CallFrame, io: CallIo, fastAt: number, from: number, to: number): AccessResult {
    if (fastAt < 0) return io.store(call, from, to);
    io.storeFast(call, fastAt, from, to);
    return AccessResult.Ok;
  }

  #special(call: CallFrame, what: number): Answer {
    if (what === Special.Answered && call.answer !== null) return call.answer;
    return call.condition === null ? call.vp.replies.retry() : call.vp.replies.wait(call.condition);
  }

  /** The time of one run is used up. It has passed for the VP, so that timers come between the runs. @spec TLFS Hypercall Interface, hypercall continuation */
  #interrupted(call: CallFrame, io: CallIo, entry: Entry, done: number): Answer {
    const { context, vp } = call;
    vp.retired += this.#runCost;
    context.retired += this.#runCost;
    const { trace } = this.#hv.machine.hooks;
    if (trace !== null) noteCall(trace, call, entry.call, HvStatus.Timeout, done);
    return io.interrupted(call, done);
  }

  #reject(call: CallFrame, io: CallIo, entry: Entry | undefined, status: number): Answer {
    return this.#finish(call, io, entry, status, 0);
  }

  #finish(call: CallFrame, io: CallIo, entry: Entry | undefined, status: number, reps: number): Answer {
    const { trace } = this.#hv.machine.hooks;
    if (trace !== null) noteCall(trace, call, entry?.call as Call | undefined, status, reps);
    const answer = io.finish(call, status, reps);
    return call.answer ?? answer;
  }
}
