import type { PlaneMask } from './ids.ts';
import type { SchedulerPolicy } from './ports.ts';
import { type PlaneContext, Schedule, type Vp } from './vp.ts';

/** The plane of the lowest set bit, -1 for an empty mask. */
export const lowestPlane = (mask: PlaneMask): number => (mask === 0 ? -1 : 31 - Math.clz32(mask & -mask));
/** The plane of the highest set bit, -1 for an empty mask. */
export const highestPlane = (mask: PlaneMask): number => (mask === 0 ? -1 : 31 - Math.clz32(mask));

const leaveAs = (vp: Vp, to: PlaneContext, leave: 'runnable' | 'stopped'): void => {
  const from = vp.context;
  vp.setSchedule(to, Schedule.Runnable);
  if (from !== to && leave === 'stopped') vp.setSchedule(from, Schedule.Stopped);
};

/**
 * The VMM (or the personality in its place) names the plane, which is runnable by that; events of other planes end the run with a plane event
 * when they were asked about.
 * @spec LKML 2025-04-01 "KVM: VM planes" 01/29 and 22/29
 */
export class UserspacePolicy implements SchedulerPolicy {
  readonly name = 'userspace';
  select(vp: Vp): number {
    // The name counts only where there is a choice.
    const plane = (vp.existing & (vp.existing - 1)) === 0 ? lowestPlane(vp.existing) : vp.named;
    const context = vp.planes[plane];
    if (context && context.schedule !== Schedule.Runnable) vp.setSchedule(context, Schedule.Runnable);
    return plane;
  }
  preempts(): boolean {
    return false;
  }
  switchTo(vp: Vp, to: PlaneContext, leave: 'runnable' | 'stopped'): void {
    leaveAs(vp, to, leave);
    vp.named = to.plane;
  }
}

/**
 * The lowest runnable plane runs; pending events of plane 0 make plane 0 runnable. With no runnable plane, plane 0 is
 * made runnable and taken. Events of other planes wait until their plane is selected.
 * @spec LKML 2026-06-08 "KVM Planes + SEV-SNP Support" 35/60, 47/60, 52/60
 */
export class LowestRunnablePolicy implements SchedulerPolicy {
  readonly name = 'lowest-runnable';
  select(vp: Vp): number {
    if (vp.runnable === 0) {
      const first = vp.planes[0];
      if (!first) return -1;
      vp.setSchedule(first, Schedule.Runnable);
    }
    return lowestPlane(vp.runnable);
  }
  preempts(vp: Vp): boolean {
    const first = vp.planes[0];
    if (!first || vp.current === 0 || (vp.pending & 1) === 0) return false;
    vp.setSchedule(first, Schedule.Runnable);
    return true;
  }
  switchTo(vp: Vp, to: PlaneContext, leave: 'runnable' | 'stopped'): void {
    leaveAs(vp, to, leave);
  }
}

/**
 * The highest runnable plane runs; a pending event of any plane above the current one makes that plane runnable,
 * the highest of several first. A lower plane never preempts.
 * @spec TLFS, Virtual Secure Mode: interrupt priority between levels
 */
export class HighestRunnablePolicy implements SchedulerPolicy {
  readonly name = 'highest-runnable';
  select(vp: Vp): number {
    return highestPlane(vp.runnable);
  }
  preempts(vp: Vp): boolean {
    const above = vp.pending & vp.existing & ~((2 << vp.current) - 1);
    if (above === 0) return false;
    vp.setSchedule(vp.plane(highestPlane(above)), Schedule.Runnable);
    return true;
  }
  switchTo(vp: Vp, to: PlaneContext, leave: 'runnable' | 'stopped'): void {
    leaveAs(vp, to, leave);
  }
}

/** The policies that come with the engine, by name. */
export const schedulerPolicies = {
  userspace: UserspacePolicy,
  'lowest-runnable': LowestRunnablePolicy,
  'highest-runnable': HighestRunnablePolicy,
} as const;
export type SchedulerPolicyName = keyof typeof schedulerPolicies;
