import { HV_MESSAGE_SIZE, HvMsr, MSRS } from '@vmplanes/abi-hyperv';
import { Random, StateHash } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { Rig } from './fixture.ts';

const VPS = 2;
const PAGES = [4, 5, 6, 7];

/** What came of it, so that a run in which nothing works is noticed. */
interface Tally {
  delivered: number;
  taken: number;
}

/** One random thing that a guest or the hypervisor does; the same for equal states of `random`. */
const act = (r: Rig, random: Random, tally: Tally): void => {
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)]!;
  const c = r.context(random.below(VPS), random.below(2));
  const bits = (): bigint => (BigInt(random.below(2 ** 16)) << BigInt(random.below(64))) & (2n ** 64n - 1n);
  switch (random.below(12)) {
    case 0: {
      const value = bits() ^ bits();
      r.wrmsr(c, pick(MSRS).index, value);
      break;
    }
    case 1:
    case 2: {
      // Values that do something: pages that exist, vectors, short times.
      const row = pick(MSRS);
      const useful = [(BigInt(pick(PAGES)) << 12n) | 1n, 1n, BigInt(0x20 + random.below(0x60)), 0x2_0050n, BigInt(random.below(4096)), BigInt(random.below(16)) | (BigInt(1 + random.below(4)) << 16n), 0x1601n];
      r.wrmsr(c, row.index, pick(useful));
      break;
    }
    case 3:
      r.rdmsr(c, pick(MSRS).index);
      break;
    case 4: {
      const message = new Uint8Array(HV_MESSAGE_SIZE).fill(1, 0, 1).fill(random.below(4), 8, 9);
      if (random.below(4) === 0) message[3] = 0x80;
      if (r.chapters.synic.post(c, random.below(18), message, random.below(2) === 0) === 'delivered') tally.delivered++;
      break;
    }
    case 5:
      r.chapters.synic.signal(c, random.below(18), random.below(2060));
      break;
    case 6:
      if (r.take(c) >= 0) tally.taken++;
      break;
    case 7:
      r.advance(random.below(3000), c.vp.index);
      break;
    case 8:
      // The guest writes where its pages may lie.
      r.store(c.plane, pick(PAGES) * 4096 + 4 * random.below(1024), random.below(2) === 0 ? 0 : random.below(2 ** 32));
      break;
    case 9: {
      // A guest that does it right.
      const n = random.below(16);
      r.wrmsr(c, HvMsr.Scontrol, 1);
      r.wrmsr(c, HvMsr.Simp, (BigInt(pick(PAGES)) << 12n) | 1n);
      r.wrmsr(c, HvMsr.Sint0 + n, BigInt(0x20 + random.below(0x60)) | (BigInt(random.below(4)) << 17n));
      r.wrmsr(c, HvMsr.Tpr, 0);
      break;
    }
    case 10:
      for (const gpn of PAGES) for (let n = 0; n < 16; n++) r.store(c.plane, gpn * 4096 + HV_MESSAGE_SIZE * n, 0);
      r.wrmsr(c, HvMsr.Eom, 0);
      break;
    case 11:
      r.store(c.plane, pick(PAGES) * 4096 + HV_MESSAGE_SIZE * random.below(16), 0);
      r.apic(c).eoi();
      break;
  }
};

/** All frames, those too that no guest sees now. */
const contentOf = ({ machine }: Rig): readonly number[] => {
  const hash = new StateHash();
  const { frames } = machine.memory;
  for (let f = 0; f < frames.count; f++) {
    hash.add(frames.holders(f));
    if (frames.isHeld(f)) hash.addWords(machine.arena.u32, frames.byteOf(f) >>> 2, 1024);
  }
  return [hash.lo, hash.hi];
};
/** Everything there is to see. */
const everything = (r: Rig): object => ({
  chapters: r.save(),
  frames: contentOf(r),
  overlays: r.machine.memory.overlays.map((o) => o.save()),
  events: r.machine.vps.map((vp) => vp.planes.map((c) => c?.events.save() ?? null)),
  deadlines: r.machine.vps.map((vp) => vp.deadline),
});

describe('random registers, messages, timers and interrupts of two VPs and two VTLs', () => {
  it.each([1, 2, 3])('seed %d: no host error; a restored machine goes on as the first would', (seed) => {
    const random = new Random(seed);
    const tally: Tally = { delivered: 0, taken: 0 };
    let r = new Rig(VPS);
    for (const vp of r.machine.vps) for (const c of vp.planes) if (c) for (let n = 0; n < 4; n++) r.wrmsr(c, 0x4000_0090 + n, 0x50 + n);
    for (let cut = 0; cut < 4; cut++) {
      for (let i = 0; i < 300; i++) act(r, random, tally);
      const copy = r.copy();
      expect(everything(copy)).toEqual(everything(r));
      const again = new Random(seed);
      again.restore(random.save());
      for (let i = 0; i < 100; i++) act(r, random, tally);
      for (let i = 0; i < 100; i++) act(copy, again, tally);
      expect(everything(copy)).toEqual(everything(r));
      r = copy;
    }
    expect(tally.delivered).toBeGreaterThan(50);
    expect(tally.taken).toBeGreaterThan(20);
    for (const c of r.stateful) c.reset();
    expect(r.save()).toEqual(new Rig(VPS).save());
  });
});
