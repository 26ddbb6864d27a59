import { HvCall } from '@vmplanes/abi-hyperv';
import { ScriptCpu, type Step } from '@vmplanes/x86';
import type { Policy } from '../hyperv/bench.ts';
import { ready, SELF } from '../hyperv/guest.ts';
import { Calls } from '../hyperv/worlds.ts';
import { type PlaneGuest, type Rank, scriptOf, type Words } from './stage.ts';

const PLANE = { upper: 1, lower: 0 } as const;
const RIGHTS = { nothing: 0, reading: 1, everything: 0xf } as const;
const vtlCall: Step = { op: 'call', regs: { rcx: 0x11, rax: 0 } };
const vtlReturn: Step = { op: 'call', regs: { rcx: 0x12, rax: 0 } };

/** A guest with VTL1 on every VP. */
export const hypervGuest = (policy: Policy): PlaneGuest => ({
  name: `VTLs under ${policy}`,
  build: (vps, makePlot) => {
    const guest = ready({ vps, policy });
    const calls = new Calls(guest);
    const words: Words = {
      toUpper: [vtlCall],
      toLower: [vtlReturn],
      protect: (page, rights) => [calls.make(HvCall.ModifyVtlProtectionMask, { header: { targetPartitionId: SELF, mapFlags: RIGHTS[rights], targetVtl: 0 }, elements: [BigInt(page)] })],
      at: (gpa) => BigInt(gpa),
      end: () => [{ op: 'eoi' }],
    };
    const plot = makePlot(words);
    const cpus = guest.machine.vps.map((vp) => {
      const binding = (rank: Rank) => ({ script: scriptOf(words, plot, vp.index, rank) });
      const cpu = new ScriptCpu(guest.machine, guest.arch, { [PLANE.upper]: binding('upper'), [PLANE.lower]: binding('lower') });
      guest.machine.setCpu(vp, cpu);
      for (const c of vp.planes) if (c) guest.interruptFlag(true, vp.index, c.plane);
      return cpu;
    });
    return {
      machine: guest.machine,
      arch: guest.arch,
      cpus,
      plane: PLANE,
      peek: (gpa, size = 8) => new Uint8Array(guest.peek(0, gpa, size).buffer),
    };
  },
});
