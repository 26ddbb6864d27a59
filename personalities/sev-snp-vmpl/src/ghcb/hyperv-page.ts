import { GhcbHypercallPage, GhcbReason } from '@vmplanes/abi-sev-snp';
import { AccessResult, type Answer, type Completion, type SharedCalls } from '@vmplanes/engine';
import type { GhcbFrame, SavedFrame } from './frame.ts';
import type { GhcbHost } from './host.ts';

const { at } = GhcbHypercallPage;
const TWO_32 = 2 ** 32;
/** GPAs are below it. */
const GPA_LIMIT = 2 ** 52;

/** A page that holds a Hyper-V call instead of an event. @spec openvmm vm/x86/x86defs/src/snp.rs; Linux arch/x86/hyperv/ivm.c */
export class HypervPage {
  /** By VP: a call keeps its parameters while others run. */
  readonly #data: Uint8Array[] = [];

  constructor(
    readonly host: GhcbHost,
    readonly calls: SharedCalls,
  ) {}

  serve(frame: GhcbFrame): Answer {
    const { access } = this.host.snp.machine.memory;
    const { context } = frame.plane;
    const data = (this.#data[context.vp.index] ??= new Uint8Array(GhcbHypercallPage.size));
    const result = access.read(frame.subject, frame.gpa, data, 0, GhcbHypercallPage.size);
    if (result === AccessResult.Held) return this.host.held(frame);
    if (result !== AccessResult.Ok) return this.host.refuse(frame, GhcbReason.InvalidInput);
    if (access.preempt !== null) access.preempt('fetched');
    const view = new DataView(data.buffer);
    const outputGpa = Math.min(GPA_LIMIT, view.getUint32(at.outputGpa + 4, true) * TWO_32 + view.getUint32(at.outputGpa, true));
    const answer = this.calls.call(context, view.getUint32(at.control, true), view.getUint32(at.control + 4, true), data.subarray(0, at.outputGpa), outputGpa, frame.subject);
    if (answer.kind === 'resume' || (answer.kind === 'exit' && answer.completion === null)) this.#show(frame);
    if (answer.kind === 'retry' || ((answer.kind === 'wait' || answer.kind === 'switch') && answer.rip === 'held')) return this.host.later(frame, answer);
    if (answer.kind !== 'exit' || answer.completion === null) return answer;
    const { owner, kind, data: inner } = answer.completion;
    return context.vp.replies.exit(answer.payload, this.host.completion('page', { frame: frame.save(), inner: { owner, kind, data: inner }, outputGpa }));
  }

  /** The VMM replied; the frame is open again. */
  complete(frame: GhcbFrame, completion: Completion): void {
    const { inner, outputGpa } = completion.data as { readonly frame: SavedFrame; readonly inner: Omit<Completion, 'reply'>; readonly outputGpa: number };
    this.calls.finish(frame.plane.context, { ...inner, reply: completion.reply }, outputGpa, frame.subject);
    this.#show(frame);
  }

  #show(frame: GhcbFrame): void {
    this.host.snp.machine.memory.access.writeU64(frame.subject, frame.gpa + at.control, this.calls.resultLo, this.calls.resultHi);
  }
}
