import { DeliverableRule, IrrRule, type PlaneContext, type PlaneMask } from '@vmplanes/engine';
import type { Delivery, RaceWorld } from './rule-world.ts';

/**
 * The rules with one line of their order broken. Each must be found by properties that know nothing of it.
 * @spec LKML 2025-04-01 "KVM: VM planes" 25/29, with the corrections of 2025-04-21
 */

/** Delivery reads who runs before it marks: entry and delivery miss each other. */
export class AsksBeforeMarking extends IrrRule {
  override accepted(context: PlaneContext): void {
    const { vp } = context;
    const { running, reqExit } = vp;
    this.hooks.preemption?.at('deliver:asked', vp);
    const before = vp.pending;
    vp.pending = before | context.mask;
    if ((before & context.mask) !== 0 || running < 0 || (reqExit & context.mask) === 0) return;
    this.hooks.preemption?.at('deliver:marked', vp);
    vp.recheck |= 1 << running;
  }
}

/** The end of a run reads the requests before it clears the mark: a request in between is forgotten. */
export class ClearsAfterReading extends IrrRule {
  override leave(context: PlaneContext): void {
    const { vp } = context;
    const isRequested = context.events.requested();
    this.hooks.preemption?.at('leave:cleared', vp);
    vp.pending = isRequested ? vp.pending | context.mask : vp.pending & ~context.mask;
  }
}

/** The mark is set by a read and a later write: two deliveries overwrite each other. */
export class TearsTheMark extends IrrRule {
  override accepted(context: PlaneContext): void {
    const { vp } = context;
    const before = vp.pending;
    this.hooks.preemption?.at('deliver:stored', vp);
    if (vp.running >= -1) vp.pending = before | context.mask;
    this.hooks.preemption?.at('deliver:marked', vp);
    const { running } = vp;
    if (running >= 0 && (vp.reqExit & context.mask) !== 0) vp.recheck |= 1 << running;
  }
}

/** The run takes the request to look after it looked: one that comes in between is dropped. */
export class LooksBeforeTaking extends IrrRule {
  override due(context: PlaneContext): PlaneMask {
    const { vp } = context;
    const target = vp.pending & vp.reqExit;
    this.hooks.preemption?.at('due:looked', vp);
    if ((vp.recheck & context.mask) === 0) return 0;
    vp.recheck &= ~context.mask;
    return target;
  }
}

/** The end of a run leaves the mark clear although requests came during the run. */
export class ForgetsTheEpilogue extends IrrRule {
  override leave(context: PlaneContext): void {
    const { vp } = context;
    this.hooks.preemption?.at('leave:unpublished', vp);
    vp.pending &= ~context.mask;
  }
}

/** Entry does not look at what was pending before it: only later deliveries are seen. */
export class IgnoresEarlierMarks extends IrrRule {
  override enter(context: PlaneContext): void {
    const { vp } = context;
    this.hooks.preemption?.at('enter:published', vp);
    vp.pending &= ~context.mask;
  }
}

/** Whether a plane has work is decided before the critical section that records it. */
export class DecidesOutside extends DeliverableRule {
  #decide(context: PlaneContext): void {
    const { vp } = context;
    const isDeliverable = context.events.deliverable();
    this.hooks.preemption?.at('decided', vp);
    if (isDeliverable) vp.pending |= context.mask;
    else vp.pending &= ~context.mask;
  }
  override accepted(context: PlaneContext): void {
    this.#decide(context);
  }
  override changed(context: PlaneContext): void {
    this.#decide(context);
  }
  override leave(context: PlaneContext): void {
    this.#decide(context);
  }
}

/** The request becomes visible after its mark: the end of a run clears the mark and finds nothing. */
export const marksBeforeStoring = (world: RaceWorld, delivery: Delivery): void => {
  world.machine.accepted(world.vp.plane(delivery.plane), true);
  world.weaver.at('marked');
  world.store(delivery);
};
