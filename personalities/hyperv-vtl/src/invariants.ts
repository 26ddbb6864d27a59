import type { HvContext } from './ports.ts';

/**
 * What must hold between two events. That private registers change only by their own VTL and that interrupts stay in it, the engine checks for all
 * planes.
 * @spec TLFS Virtual Secure Mode
 */
export const brokenVsmRules = (hv: HvContext): readonly string[] => {
  const { machine, chapters } = hv;
  const { vsm, intercepts, protections } = chapters;
  // Where lower planes rule, planes are no VTLs: rights and planes are another personality's.
  if (machine.meaning.dominates(0, 1)) return intercepts.broken();
  const found: string[] = [];
  for (const vp of machine.vps) {
    const label = `VP ${vp.index}`;
    // The running VTL is enabled there, and no VTL is enabled on a VP but not on the partition.
    if ((vp.existing & (1 << vp.current)) === 0) found.push(`${label}: runs VTL${vp.current}, which it has not`);
    if ((vp.existing & ~vsm.enabledVtls) !== 0) found.push(`${label}: has VTLs 0b${vp.existing.toString(2)}, the partition 0b${vsm.enabledVtls.toString(2)}`);
    // A VTL that does not run holds no locks.
    for (let vtl = vp.current + 1; vtl <= hv.options.maximumVtl; vtl++) if (vsm.locks.holdsAny(vp.index, vtl)) found.push(`${label}: VTL${vtl} holds TLB locks while VTL${vp.current} runs`);
  }
  // Rights of a VTL are what the VTLs above it leave, and nothing else.
  for (const where of protections.differences()) found.push(`${where}: rights differ from what the VTLs above grant`);
  found.push(...intercepts.broken());
  return found;
};
