import { GhcbReason, GhcbUsage, NaeCondition, NaeEvent, NaeIoInfo, type NaeRow, SnpLevel, ApCreationRequest, HypervisorFeatures } from '@vmplanes/abi-sev-snp';
import { AccessResult, type Answer } from '@vmplanes/engine';
import type { SnpPlane } from '../ports.ts';
import { type EventBinding, eventBindings, type EventHandler } from './events.ts';
import { EVENT_FIELDS, type GhcbFrame, validMask, Word } from './frame.ts';
import type { HypervPage } from './hyperv-page.ts';
import type { EventParts } from './ports.ts';

/** Events of the processor have codes below it; software events are counted from {@link SOFTWARE}. */
const DIRECT_CODES = 0x100;
const SOFTWARE = 0x8000_0000;
const TWO_32 = 2 ** 32;
const EXTENDED_STATE_LEAF = 0xd;

/** A row of the table, made ready for the checks. */
interface Entry {
  readonly row: NaeRow;
  readonly run: EventHandler;
  /** Words of the valid bitmap that must be set. */
  readonly required: readonly number[];
  readonly requiredIf: readonly { readonly when: NaeCondition; readonly mask: readonly number[] }[];
  readonly needsSnp: boolean;
}

const holds = (when: NaeCondition, frame: GhcbFrame): boolean => {
  switch (when) {
    case NaeCondition.Write:
      return (frame.info1Lo | frame.info1Hi) !== 0;
    case NaeCondition.Out:
      return (frame.info1Lo & (NaeIoInfo.mask.isString | NaeIoInfo.mask.isIn)) === 0;
    case NaeCondition.String:
      return (frame.info1Lo & NaeIoInfo.mask.isString) !== 0;
    case NaeCondition.ExtendedState:
      return frame.registers[Word.rax] === EXTENDED_STATE_LEAF && frame.registers[Word.rax + 1] === 0;
    case NaeCondition.NotDestroy:
      return (frame.info1Lo & 0xffff) !== ApCreationRequest.Destroy;
  }
};

const EVENT_MASK = validMask(EVENT_FIELDS);
const includes = (valid: Uint32Array, mask: readonly number[]): boolean => ((mask[0]! & ~valid[0]!) | (mask[1]! & ~valid[1]!) | (mask[2]! & ~valid[2]!) | (mask[3]! & ~valid[3]!)) === 0;

/**
 * Owns the rules that hold for every request in a GHCB page, in their order: the page, one copy of the request, the registered page, what the page
 * holds, the fields of every event, the fields of this event; then the event, and what the guest sees of its result.
 * @spec GHCB 4.1; Linux arch/x86/kvm/svm/sev.c (sev_handle_vmgexit, sev_es_validate_vmgexit)
 */
export class GhcbDispatcher {
  readonly #parts: EventParts;
  readonly #hyperv: HypervPage | null;
  readonly #direct = new Array<Entry | undefined>(DIRECT_CODES).fill(undefined);
  readonly #software = new Map<number, Entry>();
  readonly #isSnp: boolean;

  /** @param hyperv - what serves Hyper-V calls; null where pages hold none. */
  constructor(parts: EventParts, hyperv: HypervPage | null, bindings: readonly EventBinding[] = eventBindings) {
    this.#parts = parts;
    this.#hyperv = hyperv;
    const { snp, options } = parts.host;
    this.#isSnp = snp.level === SnpLevel.SevSnp;
    for (const { row, run } of bindings) {
      const isOffered = row.feature === null || !this.#isSnp || ((options.features >>> HypervisorFeatures.shift[row.feature]) & 1) !== 0;
      if (run === null || !isOffered) continue;
      const fields = row === NaeEvent.Vmmcall && options.missingCplIsZero ? row.required.filter((f) => f !== 'cpl') : row.required;
      const entry: Entry = {
        row,
        run,
        required: validMask(fields),
        requiredIf: row.requiredIf.map(({ when, fields: on }) => ({ when, mask: validMask(on) })),
        needsSnp: row.level === SnpLevel.SevSnp,
      };
      if (row.code < DIRECT_CODES) this.#direct[row.code] = entry;
      else this.#software.set(row.code - SOFTWARE, entry);
    }
  }

  /** Serves the request in the page that the GHCB MSR names. */
  serve(plane: SnpPlane): Answer {
    const { host } = this.#parts;
    const { vp } = plane.context;
    const frame = host.frame(vp);
    frame.open(plane, host.subject(plane), plane.ghcbMsrHi * TWO_32 + plane.ghcbMsrLo);
    if (frame.gpa === 0) return this.#unusable(frame, AccessResult.Absent);
    // A page of calls is laid out in another way: what would be the bitmap is data.
    if (this.#hyperv !== null && frame.readUsage() === AccessResult.Ok && frame.usage === GhcbUsage.HypervHypercall) {
      return this.#isRegistered(frame) ? this.#hyperv.serve(frame) : this.#refuse(frame, GhcbReason.NotRegistered);
    }
    const result = frame.snapshot();
    if (result !== AccessResult.Ok) return this.#unusable(frame, result);
    if (!this.#isRegistered(frame)) return this.#refuse(frame, GhcbReason.NotRegistered);
    if (frame.usage !== GhcbUsage.Standard) return this.#refuse(frame, GhcbReason.InvalidUsage);
    if (!includes(frame.valid, EVENT_MASK)) return this.#refuse(frame, GhcbReason.MissingInput);
    const entry = frame.codeHi !== 0 ? undefined : frame.codeLo < DIRECT_CODES ? this.#direct[frame.codeLo] : this.#software.get(frame.codeLo - SOFTWARE);
    if (entry === undefined) return this.#refuse(frame, GhcbReason.InvalidEvent);
    if (!this.#isComplete(frame, entry)) return this.#refuse(frame, GhcbReason.MissingInput);
    return entry.run(this.#parts, frame) ?? host.done(frame);
  }

  #isRegistered(frame: GhcbFrame): boolean {
    return !this.#isSnp || frame.plane.registeredGhcb === frame.gpa;
  }

  #isComplete(frame: GhcbFrame, entry: Entry): boolean {
    if ((entry.needsSnp && !this.#isSnp) || !includes(frame.valid, entry.required)) return false;
    for (let i = 0; i < entry.requiredIf.length; i++) {
      const { when, mask } = entry.requiredIf[i]!;
      if (holds(when, frame) && !includes(frame.valid, mask)) return false;
    }
    return true;
  }

  #refuse(frame: GhcbFrame, reason: GhcbReason): Answer {
    return this.#parts.host.refuse(frame, reason);
  }

  /** No page, or one that the guest does not share: it sees what was there before. */
  #unusable(frame: GhcbFrame, result: AccessResult): Answer {
    const { host } = this.#parts;
    if (result === AccessResult.Held) return host.held(frame);
    const { trace } = host.snp.machine.hooks;
    if (trace !== null) trace.note(frame.plane.context, 'ghcbUnusable', { gpa: frame.gpa });
    return frame.plane.context.vp.replies.resume();
  }
}
