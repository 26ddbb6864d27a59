import { HV_MESSAGE_SIZE, HvRegisterVsmPartitionConfig, HvVpAssistPage } from '@vmplanes/abi-hyperv';
import { Activity, type Answer, MAX_PLANES, MAX_VPS, type PlainRecord, type PlainState, type PlaneContext } from '@vmplanes/engine';
import { InterceptMessages } from './intercept-messages.ts';
import { type HvContext, type Intercepts, SwitchReason } from './ports.ts';

const GENERAL_PROTECTION = 13;
/** Intercepts come through this SINT. @spec TLFS HV_SYNIC_INTERCEPTION_SINT_INDEX */
const INTERCEPTION_SINT = 0;
const MESSAGE = HvVpAssistPage.at.interceptMessage;
const INTERCEPT_PAGE = HvRegisterVsmPartitionConfig.mask.interceptPage;
/** The VTL waits for nobody, or until VTL n was entered; with this bit until its message has left the buffer of VTL n. */
const QUEUED = 0x80;

/** What a VTL waits for while another looks at its intercept. */
interface Wait {
  readonly kind: 'key';
  readonly key: string;
}

/**
 * Hands intercepts of lower VTLs to higher ones. The intercepted instruction is not done: its VTL waits until the higher VTL was entered and
 * returned, and then executes it again. A message that finds its slot in use waits in the one buffer there is.
 * @spec TLFS Virtual Secure Mode, secure interception; TLFS v5.0C (PDF) 11.4
 */
export class InterceptChapter implements Intercepts {
  readonly stateName = 'intercepts';
  readonly messages: InterceptMessages;
  /** By VP index * 16 + VTL: the VTL that it waits for, with {@link QUEUED}; 0 when it does not. */
  readonly #waiting = new Uint8Array(MAX_VPS * MAX_PLANES);

  /** Conditions by VP index * 16 + VTL, made at first use. */
  readonly #waits: Wait[] = [];

  constructor(readonly hv: HvContext) {
    this.messages = new InterceptMessages(hv);
  }

  #waitOf({ vp, plane }: PlaneContext): Wait {
    return (this.#waits[vp.index * MAX_PLANES + plane] ??= { kind: 'key', key: `hv-intercept:${vp.index}:${plane}` });
  }

  deliver(context: PlaneContext, to: number, message: Uint8Array): Answer {
    const { vp } = context;
    const { chapters, options, machine } = this.hv;
    const target = vp.planes[to];
    // Nobody can be told: the access is denied.
    if (!target) return vp.replies.fault(GENERAL_PROTECTION, 0);
    machine.hooks.trace?.note(context, 'hv-intercept', { to, type: new DataView(message.buffer, message.byteOffset).getUint32(0, true) });
    if ((chapters.vsm.partitionConfig(to) & INTERCEPT_PAGE) !== 0n && chapters.assist.isEnabled(target)) {
      chapters.assist.writeBytes(target, MESSAGE, message.subarray(0, HV_MESSAGE_SIZE));
      return vp.replies.switchTo(to, SwitchReason.Intercept, 'runnable', 'held');
    }
    const queue = options.busyIntercept === 'queue';
    switch (chapters.synic.post(target, INTERCEPTION_SINT, message, queue)) {
      case 'unavailable':
        return queue ? vp.replies.fault(GENERAL_PROTECTION, 0) : vp.replies.retry();
      case 'delivered':
        return this.#wait(context, to);
      case 'busy':
      case 'full':
        // Dropped: the instruction is intercepted again.
        return queue ? this.#wait(context, to | QUEUED) : vp.replies.retry();
    }
  }

  #wait(context: PlaneContext, forWhom: number): Answer {
    this.#waiting[context.vp.index * MAX_PLANES + context.plane] = forWhom;
    const wait = this.#waitOf(context);
    this.hv.machine.hold(wait.key);
    return context.vp.replies.wait(wait, 'held');
  }

  /** The message has left the buffer: its VTL can be told again, should it still want to do what it was told about. */
  delivered(target: PlaneContext): void {
    this.#releaseBelow(target, target.plane | QUEUED);
  }
  entered(target: PlaneContext): void {
    this.#releaseBelow(target, target.plane);
  }
  #releaseBelow({ vp, plane }: PlaneContext, forWhom: number): void {
    for (let vtl = 0; vtl < plane; vtl++) {
      if (this.#waiting[vp.index * MAX_PLANES + vtl] !== forWhom) continue;
      const lower = vp.planes[vtl];
      if (lower) this.release(lower);
    }
  }

  isWaiting({ vp, plane }: PlaneContext): boolean {
    return this.#waiting[vp.index * MAX_PLANES + plane] !== 0;
  }
  release(context: PlaneContext): void {
    const at = context.vp.index * MAX_PLANES + context.plane;
    if (this.#waiting[at] === 0) return;
    this.#waiting[at] = 0;
    this.hv.machine.release(this.#waitOf(context).key);
  }

  sintsReady(context: PlaneContext, sints: number): void {
    this.hv.chapters.events.sintsReady(context, sints);
  }
  notify(context: PlaneContext, to: number, message: Uint8Array): boolean {
    const target = context.vp.planes[to];
    if (!target) return false;
    const outcome = this.hv.chapters.synic.post(target, INTERCEPTION_SINT, message, false);
    return outcome === 'delivered';
  }

  reset(): void {
    for (const vp of this.hv.machine.vps) for (const context of vp.planes) if (context) this.release(context);
    this.#waiting.fill(0);
  }
  save(): PlainState {
    return { waiting: this.#waiting.slice() };
  }
  restore(state: PlainState): void {
    this.#waiting.set((state as PlainRecord)['waiting'] as Uint8Array);
  }

  /** Sentences for what does not hold: a VTL waits for its intercept exactly while this chapter says so. */
  broken(): readonly string[] {
    const found: string[] = [];
    for (const vp of this.hv.machine.vps) {
      for (const context of vp.planes) {
        if (!context || !this.isWaiting(context)) continue;
        const { activity, wait } = context;
        const isHeld = activity === Activity.Held && wait?.kind === 'key' && wait.key === this.#waitOf(context).key;
        if (!isHeld) found.push(`VP ${vp.index} VTL${context.plane} is thought to wait for an intercept`);
      }
    }
    return found;
  }
}
