import type { Machine, Vp } from '@vmplanes/engine';

/** Planes whose events the running plane must give way to. */
const wanted = (machine: Machine, vp: Vp): number => {
  switch (machine.policy.name) {
    case 'lowest-runnable':
      return 1;
    case 'highest-runnable':
      return 0xffff & ~((2 << vp.current) - 1);
    default:
      return vp.asked;
  }
};

/** What holds of every machine whose VPs all wait: nobody is asleep with work, no event is pending unseen. */
export const restInvariants = (machine: Machine): string[] => {
  const why: string[] = [];
  for (const vp of machine.vps) {
    const several = (vp.existing & (vp.existing - 1)) !== 0;
    for (const c of vp.planes) {
      if (!c) continue;
      const name = `VP ${vp.index} plane ${c.plane}`;
      const hasWork = machine.rule.name === 'irr' && c.plane !== vp.current ? c.events.requested() : c.events.deliverable();
      if (c.plane === vp.current) {
        if (c.events.wakes()) why.push(`I-WAKE: ${name} is asleep with an event to take`);
      } else if (hasWork && several) {
        if ((vp.pending & c.mask) === 0) why.push(`I-IRQ: ${name} has an event that nobody will look for`);
        if ((wanted(machine, vp) & c.mask) !== 0) why.push(`I-WAKE: ${name} has work, VP ${vp.index} sleeps in plane ${vp.current}`);
      }
    }
  }
  return why;
};
