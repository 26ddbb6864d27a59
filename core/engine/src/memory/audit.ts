import type { GuestMemory } from './guest-memory.ts';

/**
 * Checks what must hold of guest memory between any two operations: every frame in use is held as often as it is used, no two pages own the
 * same frame, promises are covered, slots do not overlap, and no plane has a right beyond its table, its slot or its overlay.
 * @returns one sentence per violation; empty when all is well.
 */
export function auditMemory(memory: GuestMemory): string[] {
  const { frames, slots } = memory;
  const broken: string[] = [];
  const uses = new Int32Array(frames.count);
  for (const backing of memory.backings.all) {
    const windows = slots.all.filter((s) => s.backing === backing).length;
    if (windows !== backing.windows) broken.push(`memory ${backing.id}: counts ${backing.windows} slots, ${windows} show it`);
    if (windows === 0 && !backing.isKept) broken.push(`memory ${backing.id}: no slot shows it and nobody keeps it`);
    backing.forEachFrame((page, isPrivate, frame) => {
      if (uses[frame]! > 0) broken.push(`memory ${backing.id}: page ${page} (${isPrivate ? 'private' : 'shared'}) owns frame ${frame}, and so does another page`);
      uses[frame]!++;
    });
  }
  for (const overlays of memory.overlays) {
    let before = -1;
    for (const o of overlays.save()) {
      uses[o.frame]!++;
      if (o.gpn <= before) broken.push(`plane ${o.plane}: overlay at page 0x${o.gpn.toString(16)} is out of order`);
      if (o.owners <= 0) broken.push(`plane ${o.plane}: overlay at page 0x${o.gpn.toString(16)} has no owner`);
      const rights = memory.effectiveRights(o.plane, o.gpn);
      if (rights & ~(o.ignoresTable ? o.rights : o.rights & memory.permissions[o.plane]!.get(o.gpn))) broken.push(`plane ${o.plane}: rights ${rights} at page 0x${o.gpn.toString(16)} go beyond its grants`);
      before = o.gpn;
    }
  }
  for (const w of memory.watches.save()) uses[w.frame]! += w.count;
  let held = 0;
  for (let frame = 0; frame < frames.count; frame++) {
    if (frames.isHeld(frame)) held++;
    if (uses[frame]! > frames.holders(frame)) broken.push(`frame ${frame}: used ${uses[frame]} times, held ${frames.holders(frame)} times`);
  }
  if (held + frames.free !== frames.count) broken.push(`frames: ${held} held and ${frames.free} free of ${frames.count}`);
  if (memory.backings.owed !== frames.promised) broken.push(`frames: ${frames.promised} promised, ${memory.backings.owed} pages wait for one`);
  slots.all.forEach((s, i) => {
    const next = slots.all[i + 1];
    if (next && next.first < s.end) broken.push(`slots ${s.id} and ${next.id} overlap`);
  });
  return broken;
}
