import type { Answer, Completion, PlaneContext, SharedCalls, Subject } from '@vmplanes/engine';
import type { HvContext } from '../ports.ts';
import { PageIo } from './page-io.ts';

const NO_INPUT = new Uint8Array(0);

/** Hypercalls in pages that another personality knows where to find. @spec openvmm vm/x86/x86defs/src/snp.rs; Linux arch/x86/hyperv/ivm.c (hv_ghcb_hypercall) */
export class SharedPageCalls implements SharedCalls {
  readonly #hv: HvContext;
  /** By VP: a call that waits keeps its operands. */
  readonly #io: PageIo[] = [];
  #last: PageIo | null = null;

  constructor(hv: HvContext) {
    this.#hv = hv;
  }

  get resultLo(): number {
    return this.#last?.resultLo ?? 0;
  }
  get resultHi(): number {
    return this.#last?.resultHi ?? 0;
  }

  #open(context: PlaneContext, controlLo: number, controlHi: number, input: Uint8Array, outputGpa: number, subject: Subject): PageIo {
    const io = (this.#io[context.vp.index] ??= new PageIo(this.#hv));
    io.open(controlLo, controlHi, input, outputGpa, subject);
    this.#last = io;
    return io;
  }

  call(context: PlaneContext, controlLo: number, controlHi: number, input: Uint8Array, outputGpa: number, subject: Subject): Answer {
    const io = this.#open(context, controlLo, controlHi, input, outputGpa, subject);
    const answer = this.#hv.chapters.hypercalls.callThrough(context, io);
    // Another VP may have called meanwhile.
    this.#last = io;
    return answer;
  }

  finish(context: PlaneContext, completion: Completion, outputGpa: number, subject: Subject): void {
    this.#hv.chapters.hypercalls.completeThrough(context, completion, this.#open(context, 0, 0, NO_INPUT, outputGpa, subject));
  }
}
