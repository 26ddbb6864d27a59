import { HvStatus } from '@vmplanes/abi-hyperv';
import { AccessResult, type Answer, type Completion, HostError, type PlainRecord, type PlainState, type PlaneContext } from '@vmplanes/engine';
import { X86 } from '@vmplanes/x86';
import { bindingsFor } from './calls.ts';
import { CallFrame } from './dispatcher/call-frame.ts';
import type { CallIo } from './dispatcher/call-io.ts';
import { Dispatcher } from './dispatcher/dispatcher.ts';
import { RegisterIo } from './dispatcher/register-io.ts';
import type { FlushPort } from './flush.ts';
import { HypercallPages } from './hypercall-page.ts';
import { DeviceInterrupts } from './interrupt-calls.ts';
import { completeMmioRead, MMIO_READ } from './memory-calls.ts';
import type { HvContext, Hypercalls } from './ports.ts';
import { holds } from './privileges.ts';

const INVALID_OPCODE = 6;
const CR0_PE = 1;
const RFLAGS_VM = 1 << 17;
const EFER_LMA = 1 << 10;
const CS_LONG = 1 << 9;
const words = { cr0: X86.cr0 >>> 2, cpl: X86.cpl >>> 2, rflags: X86.rflags >>> 2, efer: X86.efer >>> 2, cs: X86['cs.attributes'] >>> 2 } as const;

/** The hypercall interface of a partition: who may use it, its pages, and the calls. @spec TLFS Hypercall Interface */
export class HypercallChapter implements Hypercalls {
  readonly stateName = 'hypercalls';
  readonly pages: HypercallPages;
  readonly devices: DeviceInterrupts;
  flushPort: FlushPort | null = null;
  readonly #hv: HvContext;
  readonly #dispatcher: Dispatcher;
  readonly #registers: RegisterIo;
  /** By VP. */
  readonly #frames: CallFrame[] = [];

  /** @throws {HostError} BadConfig when the stubs of the hypercall page do not fit. */
  constructor(hv: HvContext) {
    this.#hv = hv;
    this.pages = new HypercallPages(hv);
    this.devices = new DeviceInterrupts(hv);
    this.#dispatcher = new Dispatcher(hv, bindingsFor(hv.options));
    this.#registers = new RegisterIo(hv, hv.options.xmmHypercalls, holds(hv.options, 'fastHypercallOutput'));
  }

  call(context: PlaneContext): Answer {
    const { u32 } = this.#hv.machine.arena;
    const word = context.base >>> 2;
    const isFit = (u32[word + words.cr0]! & CR0_PE) !== 0 && u32[word + words.cpl] === 0 && (u32[word + words.rflags]! & RFLAGS_VM) === 0;
    if (!isFit || this.pages.enabled[context.plane] === 0) return context.vp.replies.fault(INVALID_OPCODE);
    return this.#dispatcher.serve(this.#prepare(context), this.#registers);
  }

  #prepare(context: PlaneContext): CallFrame {
    const { u32 } = this.#hv.machine.arena;
    const word = context.base >>> 2;
    const frame = (this.#frames[context.vp.index] ??= new CallFrame(this.#hv, context.vp));
    frame.context = context;
    frame.vtl = context.plane;
    frame.wide = (u32[word + words.efer]! & EFER_LMA) !== 0 && (u32[word + words.cs]! & CS_LONG) !== 0;
    return frame;
  }

  complete(context: PlaneContext, completion: Completion): void {
    this.completeThrough(context, completion, this.#registers);
    this.#hv.arch.retire(context);
  }

  /** @throws {HostError} Internal on a completion that is not of a call. */
  completeThrough(context: PlaneContext, completion: Completion, io: CallIo): void {
    if (completion.kind !== MMIO_READ) throw new HostError('Internal', `hyperv-vtl: unknown completion '${completion.kind}'`);
    const frame = this.#prepare(context);
    const word = (name: string): number => {
      const value = completion.reply?.[name];
      return typeof value === 'number' ? value >>> 0 : 0;
    };
    const bytes = completeMmioRead(frame, (completion.data as { readonly size: number }).size, word('lo'), word('hi'));
    io.loadAddresses(frame);
    // The page was checked when the call was made; what became of it since is its owner's affair.
    const isStored = io.store(frame, 0, bytes) === AccessResult.Ok;
    io.finish(frame, isStored ? HvStatus.Success : HvStatus.OperationFailed, 0);
  }

  callThrough(context: PlaneContext, io: CallIo): Answer {
    return this.#dispatcher.serve(this.#prepare(context), io);
  }

  guestOsId(vtl: number): bigint {
    return this.pages.guestOsId(vtl);
  }
  setGuestOsId(vtl: number, value: bigint): void {
    this.pages.setGuestOsId(vtl, value);
  }
  hypercallMsr(vtl: number): bigint {
    return this.pages.msr(vtl);
  }
  setHypercallMsr(vtl: number, value: bigint): boolean {
    return this.pages.setMsr(vtl, value);
  }

  save(): PlainState {
    return { pages: this.pages.save(), devices: this.devices.save() };
  }
  restore(state: PlainState): void {
    const parts = state as PlainRecord;
    this.pages.restore(parts['pages']!);
    this.devices.restore(parts['devices']!);
  }
  reset(): void {
    this.pages.reset();
    this.devices.reset();
  }
}
