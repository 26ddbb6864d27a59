import type { PlaneMask } from './ids.ts';
import type { Hooks } from './hooks.ts';
import type { PendingRule } from './ports.ts';
import type { PlaneContext, Vp } from './vp.ts';

/** With one plane the whole mechanism is inert. */
const isAlone = (vp: Vp): boolean => (vp.existing & (vp.existing - 1)) === 0;


/**
 * The mask is sticky: a bit is set when an interrupt request is stored, cleared when its plane is entered and computed
 * again when that plane is left. Priority, masking and unmaskable events play no part. A run ends only after the
 * running plane was asked to look ({@link Vp.recheck}).
 *
 * The order of the steps is what makes delivery and entry see each other: the request is stored before the bit is
 * set, the bit is set before `running` is read, `running` and the mask are written before the bits are read.
 * @spec LKML 2025-04-01 "KVM: VM planes" 25/29, with the corrections of 2025-04-21
 */
export class IrrRule implements PendingRule {
  readonly name = 'irr';
  constructor(readonly hooks: Hooks) {}

  accepted(context: PlaneContext, maskable: boolean): void {
    const vp = context.vp;
    if (!maskable || isAlone(vp)) return;
    this.hooks.preemption?.at('deliver:stored', vp);
    const before = vp.pending;
    vp.pending |= context.mask;
    if ((before & context.mask) !== 0) return;
    this.hooks.preemption?.at('deliver:marked', vp);
    // Read once: a plane that is left meanwhile looks at the bits when it is entered again, a stale request does no harm.
    const running = vp.running;
    if (running < 0) return;
    if ((vp.reqExit & context.mask) === 0) return;
    this.hooks.preemption?.at('deliver:asked', vp);
    vp.recheck |= 1 << running;
  }

  changed(): void {
    // Sticky: neither priority nor restored requests move the mask.
  }

  enter(context: PlaneContext): void {
    const vp = context.vp;
    if (isAlone(vp)) return;
    this.hooks.preemption?.at('enter:published', vp);
    const before = vp.pending;
    vp.pending &= ~context.mask;
    if ((before & vp.reqExit) !== 0) vp.recheck |= context.mask;
    this.hooks.preemption?.at('enter:cleared', vp);
  }

  leave(context: PlaneContext): void {
    const vp = context.vp;
    if (isAlone(vp)) return;
    this.hooks.preemption?.at('leave:unpublished', vp);
    vp.pending &= ~context.mask;
    this.hooks.preemption?.at('leave:cleared', vp);
    if (context.events.requested()) vp.pending |= context.mask;
  }

  due(context: PlaneContext): PlaneMask {
    const vp = context.vp;
    if ((vp.recheck & context.mask) === 0) return 0;
    vp.recheck &= ~context.mask;
    return vp.pending & vp.reqExit;
  }
}

/**
 * The mask says which planes have an event that they would take if they ran: requests above their own priority
 * (the interrupt flag does not count), unmaskable and start events, expired timers. It is computed again whenever one
 * of these can have changed, so restored and unmasked requests count, too.
 */
export class DeliverableRule implements PendingRule {
  readonly name = 'deliverable';
  constructor(readonly hooks: Hooks) {}

  #recompute(context: PlaneContext): void {
    const vp = context.vp;
    if (context.events.deliverable()) vp.pending |= context.mask;
    else vp.pending &= ~context.mask;
  }
  accepted(context: PlaneContext): void {
    this.hooks.preemption?.at('deliver:stored', context.vp);
    this.#recompute(context);
    this.hooks.preemption?.at('deliver:marked', context.vp);
  }
  changed(context: PlaneContext): void {
    this.#recompute(context);
  }
  enter(context: PlaneContext): void {
    // Nothing to compute: whatever changed while the plane did not run was announced.
    this.hooks.preemption?.at('enter:published', context.vp);
  }
  leave(context: PlaneContext): void {
    this.hooks.preemption?.at('leave:unpublished', context.vp);
    // Its own instructions may have changed what it can take (blocking of unmaskable events) without a word.
    this.#recompute(context);
  }
  due(context: PlaneContext): PlaneMask {
    const vp = context.vp;
    return vp.pending & vp.reqExit & ~context.mask;
  }
}

/** The pending rules that come with the engine, by name. */
export const pendingRules = { irr: IrrRule, deliverable: DeliverableRule } as const;
export type PendingRuleName = keyof typeof pendingRules;
