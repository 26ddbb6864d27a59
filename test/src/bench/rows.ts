import { DeliveryMode, encodeMessage } from '@vmplanes/x86';
import type { GuestMemory } from '@vmplanes/engine';
import { callingRig, mostShared, privateFpu, type Rig, runCalls } from './rigs.ts';
import { sample } from './measure.ts';

/** One row: what one operation is, and its median in ns. */
export interface BenchRow {
  readonly id: string;
  readonly about: string;
  run(): number;
}

const perSwitchPair = (rig: Rig): number => sample(20_000, (n) => runCalls(rig, n * 2));

/** Distinct ranges that a permission table holds, every other page different. */
const withRanges = (count: number): GuestMemory => {
  const { machine } = callingRig('resume', mostShared);
  const table = machine.memory.permissions[1]!;
  for (let i = 0; i < count; i++) table.set(i * 2, 1, (i % 7) + 1);
  return machine.memory;
};

const lookup = (ranges: number): number => {
  const memory = withRanges(ranges);
  const table = memory.permissions[1]!;
  let page = 1;
  let sum = 0;
  const result = sample(100_000, (n) => {
    for (let i = 0; i < n; i++) {
      page = (Math.imul(page, 1_103_515_245) + 12_345) >>> 0;
      sum += table.get(page % (ranges * 2));
    }
  });
  if (sum < 0) throw new Error('unreachable: the sum keeps the loop alive');
  return result;
};

/** The rows of the engine, baseline first. */
export const engineRows: readonly BenchRow[] = [
  {
    id: 'call.bare',
    about: 'a hypercall answered at once: exit, route, resume',
    run: () => {
      const rig = callingRig('resume', mostShared);
      return sample(50_000, (n) => runCalls(rig, n));
    },
  },
  { id: 'switch.shared', about: 'call to another plane and return, FPU shared', run: () => perSwitchPair(callingRig('switch', mostShared)) },
  { id: 'switch.private', about: 'call to another plane and return, FPU per plane', run: () => perSwitchPair(callingRig('switch', privateFpu)) },
  {
    id: 'exit.roundtrip',
    about: 'exit to the VMM and back',
    run: () => {
      const rig = callingRig('exit', mostShared);
      return sample(20_000, (n) => {
        rig.vp.sliceEnd = rig.vp.retired + n;
        for (let i = 0; i < n; i++) rig.machine.runVp(rig.vp);
      });
    },
  },
  {
    id: 'irq.post.suspended',
    about: 'post an interrupt to a plane that does not run, take it and end it',
    run: () => {
      const rig = callingRig('resume', mostShared);
      const { arch, machine, vp } = rig;
      const context = vp.plane(1);
      const apic = arch.apicOf(context);
      apic.writeSvr(0x1ff);
      const message = encodeMessage(DeliveryMode.fixed, 0x40, true, false);
      return sample(20_000, (n) => {
        for (let i = 0; i < n; i++) {
          machine.send(0, 1, message, 0);
          apic.acknowledge();
          apic.eoi();
        }
      });
    },
  },
  { id: 'perm.lookup.1e3', about: 'permission of a random page among 10^3 distinct ranges', run: () => lookup(1_000) },
  { id: 'perm.lookup.1e6', about: 'the same among 10^6 distinct ranges', run: () => lookup(1_000_000) },
  {
    id: 'perm.change',
    about: 'change the permission of one page and back',
    run: () => {
      const table = withRanges(1_000).permissions[1]!;
      return sample(20_000, (n) => {
        for (let i = 0; i < n; i++) table.set((i & 1023) * 2, 1, (i & 3) + 1);
      });
    },
  },
  {
    id: 'snapshot.4vp',
    about: 'snapshot of a machine with 4 VPs, 2 planes and 1 MiB',
    run: () => {
      const { machine } = callingRig('resume', mostShared, { maxVps: 4 });
      return sample(10, (n) => {
        for (let i = 0; i < n; i++) machine.snapshot();
      });
    },
  },
];
