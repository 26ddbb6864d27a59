import { type GhcbReason, naeName, SnpLevel } from '@vmplanes/abi-sev-snp';
import { type Answer, type Completion, PAGE_SIZE, type PlaneContext, Side, subject, type Subject, SubjectKind, type Vp, watchKey } from '@vmplanes/engine';
import type { SnpContext, SnpPlane } from '../ports.ts';
import { GhcbFrame } from './frame.ts';
import { OnBehalf } from './on-behalf.ts';
import type { GhcbOptions } from './options.ts';

/** Name of the personality in completions. */
export const OWNER = 'sev-snp-vmpl';
const PLANES = 16;

/** What the parts of the protocol share: one per machine. */
export class GhcbHost {
  readonly behalf: OnBehalf;
  /** DR7 as each VMPL of each VP last wrote it through its host, by VP * 16 + VMPL. */
  readonly dr7: Uint32Array;
  readonly #frames: GhcbFrame[] = [];
  readonly #subjects: readonly Subject[];

  constructor(
    readonly snp: SnpContext,
    readonly options: GhcbOptions,
  ) {
    this.behalf = new OnBehalf(snp, OWNER);
    this.dr7 = new Uint32Array(snp.machine.options.maxVps * PLANES);
    // Without a reverse map both sides of a page can be reached at any time.
    const side = snp.level === SnpLevel.SevSnp ? Side.Shared : Side.OpenShared;
    this.#subjects = Array.from({ length: snp.machine.options.maxPlanes }, (_, plane) => subject(SubjectKind.Call, plane, side, false));
  }

  /** The frame of a VP: borrowed until its next VMGEXIT. */
  frame(vp: Vp): GhcbFrame {
    return (this.#frames[vp.index] ??= new GhcbFrame(this.snp.machine.memory.access));
  }
  /** Shared memory on behalf of a VMPL. */
  subject(plane: SnpPlane): Subject {
    return this.#subjects[plane.context.plane]!;
  }
  dr7Index(context: PlaneContext): number {
    return context.vp.index * PLANES + context.plane;
  }

  /** Whether guest memory is at every page of a range. */
  hasMemory(gpn: number, count: number): boolean {
    const { slots } = this.snp.machine.memory;
    for (let page = gpn; page < gpn + count; ) {
      const slot = slots.find(page);
      if (slot === null) return false;
      page = slot.end;
    }
    return true;
  }

  /** An owner of a page holds the access: the same request comes again when it lets go. */
  held(frame: GhcbFrame): Answer {
    const { machine } = this.snp;
    const key = watchKey(machine.memory.watches.heldBy ?? '');
    machine.hold(key);
    this.again(frame);
    return frame.plane.context.vp.replies.wait({ kind: 'key', key }, 'advanced');
  }

  /** An answer of another interface that holds the instruction: the same request comes again after it. @returns borrowed. */
  later(frame: GhcbFrame, answer: Answer): Answer {
    const { replies } = frame.plane.context.vp;
    this.again(frame);
    if (answer.kind === 'wait') return replies.wait(answer.condition, 'advanced');
    return answer.kind === 'switch' ? replies.switchTo(answer.plane, answer.reason, answer.leave, 'advanced') : replies.resume();
  }

  /** The instruction is done already: the same request comes again as what its VMPL does next. */
  again(frame: GhcbFrame): void {
    frame.plane.context.completion = { owner: OWNER, kind: 'ghcb.again', data: {}, reply: {} };
  }

  /** Ends a request that is not valid before anything was done: the results alone are shown. */
  refuse(frame: GhcbFrame, reason: GhcbReason): Answer {
    frame.fail(reason);
    return this.done(frame, false);
  }

  /** Shows the result and goes on behind the instruction. */
  done(frame: GhcbFrame, withRegisters = true): Answer {
    this.show(frame, withRegisters);
    return frame.plane.context.vp.replies.resume();
  }
  /** Shows the result. */
  show(frame: GhcbFrame, withRegisters = true): void {
    frame.publish(withRegisters);
    const { trace } = this.snp.machine.hooks;
    if (trace !== null) trace.note(frame.plane.context, 'nae', { event: naeName(frame.codeLo), result: frame.result, detailLo: frame.detailLo, detailHi: frame.detailHi });
  }

  /** Work that goes on when the VMM has replied. */
  completion(kind: string, data: Completion['data']): Completion {
    return { owner: OWNER, kind: `ghcb.${kind}`, data, reply: null };
  }
}

/** The page of an address, or -1 for one that is not aligned to a page. */
export const pageOf = (gpa: number): number => (gpa % PAGE_SIZE === 0 ? gpa / PAGE_SIZE : -1);
