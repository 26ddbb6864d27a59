import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { type RegisterName, readRegister, type Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { type Bounds, explore, type Scenario } from '../explore/explorer.ts';
import { interrupt } from '../explore/scenarios.ts';
import { policies } from '../hyperv/bench.ts';
import { hypervGuest } from './hyperv-stage.ts';
import { snpGuest } from './snp-stage.ts';
import { DATA, flagOf, isSet, type PlaneGuest, type Plot, type Rank, say, type Stage, type Words } from './stage.ts';

const PAGE = DATA / 4096;
const guests: readonly PlaneGuest[] = [...policies.map(hypervGuest), snpGuest('lowest-runnable'), snpGuest('userspace')];
const hlt: Step = { op: 'hlt' };

/** Runs until nothing is left to do. */
const runOut = (stage: Stage): Stage => {
  for (let i = 0; i < 1000; i++) {
    const stop = stage.machine.run(50);
    if (stop.kind === 'idle') return stage;
    if (stop.kind === 'exit') throw new Error(`VP ${stop.vp.index}: exit ${JSON.stringify(stop.vp.exit)}`);
  }
  throw new Error('never comes to rest');
};
const failures = (stage: Stage): readonly string[] => stage.cpus.flatMap((cpu, vp) => Object.values(stage.plane).flatMap((p) => (cpu.failure(p) === null ? [] : [`VP ${vp}: ${cpu.failure(p)}`])));
/** A value as text: the same for the same value, however the engine below happens to hold its numbers. */
const plain = (_key: string, value: unknown): unknown => {
  if (typeof value === 'bigint') return `${value}n`;
  if (value instanceof ArrayBuffer) return Buffer.from(value).toString('latin1');
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('latin1');
  if (value instanceof Map) return [...value];
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
};
const hashOf = (stage: Stage): string => createHash('sha256').update(JSON.stringify(stage.machine.snapshot(), plain)).digest('hex');
/** The upper plane does something each time it is entered, and goes back. */
const serving = (words: Words, steps: readonly Step[]): readonly Step[] => [...steps, ...words.toLower, { op: 'jump', to: 0 }];
const readAs = (words: Words, gpa: number, value: number): readonly Step[] => [{ op: 'read', gpa: words.at(gpa), size: 8 }, { op: 'expect', register: 'rax', equals: value }];

describe.each(guests.map((g) => [g.name, g] as const))('%s', (_name, guest) => {
  const switchesOf = (stage: Stage): string[] => {
    const seen: string[] = [];
    const rank = (p: number): Rank => (p === stage.plane.upper ? 'upper' : 'lower');
    stage.machine.on('plane-switch', (e) => seen.push(`VP ${e.vp} to ${rank(e.to)}${e.reason === '' ? ' without a reason' : ''}`));
    return seen;
  };
  const apic = (stage: Stage, vp: number, rank: Rank) => stage.arch.apicOf(stage.machine.vp(vp).plane(stage.plane[rank]));
  const one = (plot: (words: Words) => Readonly<Record<Rank, readonly Step[]>>, vectors: readonly number[] = []): Stage => guest.build(1, (words) => ({ programs: [plot(words)], vectors }));

  describe('switches', () => {
    it('go there and back, each with a reason, and each plane goes on where it was', () => {
      const stage = one((words) => ({
        lower: [...words.toUpper, { op: 'write', gpa: words.at(DATA), value: 1 }, ...words.toUpper, hlt],
        upper: [...readAs(words, DATA, 0), ...words.toLower, ...readAs(words, DATA, 1), say(words, 0, 'upper', 0x100), ...words.toLower, hlt],
      }));
      const seen = switchesOf(stage);
      runOut(stage);
      expect(failures(stage)).toEqual([]);
      expect(seen).toEqual(['VP 0 to upper', 'VP 0 to lower', 'VP 0 to upper', 'VP 0 to lower']);
      expect(isSet(stage, 0, 'upper', 0x100)).toBe(true);
    });
    it('of one VP leave the other VPs alone', () => {
      const stage = guest.build(2, (words) => ({ vectors: [], programs: [{ lower: [...words.toUpper, hlt], upper: serving(words, []) }, { lower: [say(words, 1, 'lower', 0x100), hlt], upper: serving(words, [say(words, 1, 'upper', 0x100)]) }] }));
      const seen = switchesOf(stage);
      runOut(stage);
      expect(seen.filter((s) => s.startsWith('VP 1'))).toEqual([]);
      expect([isSet(stage, 1, 'lower', 0x100), isSet(stage, 1, 'upper', 0x100)]).toEqual([true, false]);
    });
  });

  describe('registers', () => {
    const own: readonly RegisterName[] = ['rsp', 'cr3', 'kernelGsBase', 'star', 'sysenterEip'];
    it.each(own)('%s belongs to each plane', (name) => {
      const stage = one((words) => ({ lower: [{ op: 'work', regs: { [name]: 0x8000 } }, ...words.toUpper, hlt], upper: serving(words, []) }));
      const read = (rank: Rank): bigint => readRegister(stage.machine.arena, stage.machine.vp(0).plane(stage.plane[rank]).base, name);
      expect(stage.machine.sharing.isShared(name)).toBe(false);
      const before = read('upper');
      runOut(stage);
      expect([read('lower'), read('upper')]).toEqual([0x8000n, before]);
      expect(before).not.toBe(0x8000n);
    });
    it.each<RegisterName>(['rbx', 'r12', 'cr2', 'mxcsr'])('%s is shared or not as the personality declares, and nothing in between', (name) => {
      const stage = one((words) => ({ lower: [{ op: 'work', regs: { [name]: 0x1f80 } }, ...words.toUpper, hlt], upper: serving(words, [{ op: 'work', regs: { [name]: 0x1fa0 } }]) }));
      runOut(stage);
      const { machine } = stage;
      expect(machine.vp(0).current).toBe(stage.plane.lower);
      expect(readRegister(machine.arena, machine.vp(0).context.base, name)).toBe(machine.sharing.isShared(name) ? 0x1fa0n : 0x1f80n);
    });
  });

  describe('interrupts', () => {
    it('for the upper plane come in while the lower one runs; then the lower one goes on', () => {
      const stage = one((words) => ({ lower: [{ op: 'work' }, { op: 'work' }, say(words, 0, 'lower', 0x100), hlt], upper: serving(words, []) }), [0x50]);
      const seen = switchesOf(stage);
      apic(stage, 0, 'upper').accept(0, 0x50, true, false);
      runOut(stage);
      expect(isSet(stage, 0, 'upper', 0x50)).toBe(true);
      expect(isSet(stage, 0, 'lower', 0x50)).toBe(false);
      expect(isSet(stage, 0, 'lower', 0x100)).toBe(true);
      expect(seen).toEqual(['VP 0 to upper', 'VP 0 to lower']);
    });
    it('for the upper plane end a halt of the lower one', () => {
      const stage = one((words) => ({ lower: [hlt], upper: serving(words, []) }), [0x50]);
      runOut(stage);
      apic(stage, 0, 'upper').accept(0, 0x50, true, false);
      runOut(stage);
      expect(isSet(stage, 0, 'upper', 0x50)).toBe(true);
      expect(stage.machine.vp(0).current).toBe(stage.plane.lower);
    });
    it('for the lower plane wait while the upper one runs, and are not lost', () => {
      const stage = one((words) => ({ lower: [...words.toUpper, hlt], upper: [...readAs(words, flagOf(0, 'lower', 0x50), 0), { op: 'work' }, { op: 'work' }, ...readAs(words, flagOf(0, 'lower', 0x50), 0), ...words.toLower, hlt] }), [0x50]);
      while (stage.machine.vp(0).current !== stage.plane.upper) stage.machine.run(1);
      apic(stage, 0, 'lower').accept(0, 0x50, true, false);
      runOut(stage);
      expect(failures(stage)).toEqual([]);
      expect(isSet(stage, 0, 'lower', 0x50)).toBe(true);
    });
    it('are counted: what each plane accepted was delivered once', () => {
      const stage = one((words) => ({ lower: [...words.toUpper, { op: 'work' }, hlt], upper: serving(words, []) }), [0x50, 0x60]);
      for (const rank of ['upper', 'lower'] as const) for (const vector of [0x50, 0x60]) apic(stage, 0, rank).accept(0, vector, true, false);
      runOut(stage);
      for (const rank of ['upper', 'lower'] as const) {
        for (const vector of [0x50, 0x60]) expect(isSet(stage, 0, rank, vector), `${rank} ${vector}`).toBe(true);
        expect(stage.machine.vp(0).plane(stage.plane[rank]).events.balance().pending).toBe(0);
      }
    });
  });

  describe('permissions', () => {
    it('a refused access has no effect, enters the upper plane, and runs again when it comes back', () => {
      const stage = one((words) => ({
        lower: [...words.toUpper, { op: 'write', gpa: words.at(DATA), value: 7 }, say(words, 0, 'lower', 0x100), hlt],
        upper: [...words.protect(PAGE, 'nothing'), ...words.toLower, ...readAs(words, DATA, 0), say(words, 0, 'upper', 0x100), ...words.protect(PAGE, 'everything'), ...words.toLower, { op: 'jump', to: 0 }],
      }));
      runOut(stage);
      expect(failures(stage)).toEqual([]);
      expect([isSet(stage, 0, 'upper', 0x100), isSet(stage, 0, 'lower', 0x100)]).toEqual([true, true]);
      expect(stage.peek(DATA)[0]).toBe(7);
    });
    it('reading may be allowed where writing is not', () => {
      const stage = one((words) => ({
        lower: [...words.toUpper, ...readAs(words, DATA, 0), say(words, 0, 'lower', 0x100), { op: 'write', gpa: words.at(DATA), value: 7 }, say(words, 0, 'lower', 0x101), hlt],
        upper: [...words.protect(PAGE, 'reading'), ...words.toLower, say(words, 0, 'upper', 0x100), ...words.protect(PAGE, 'everything'), ...words.toLower, { op: 'jump', to: 0 }],
      }));
      const seen = switchesOf(stage);
      runOut(stage);
      expect(failures(stage)).toEqual([]);
      expect(['lower', 'upper'].map((rank) => isSet(stage, 0, rank as Rank, 0x100))).toEqual([true, true]);
      expect(seen.filter((s) => s.endsWith('upper'))).toHaveLength(2);
    });
    it('restrict neither the upper plane nor other pages', () => {
      const stage = one((words) => ({
        lower: [...words.toUpper, { op: 'write', gpa: words.at(DATA + 0x1000), value: 3 }, hlt],
        upper: [...words.protect(PAGE, 'nothing'), { op: 'write', gpa: words.at(DATA), value: 5 }, ...words.toLower, hlt],
      }));
      runOut(stage);
      expect([stage.peek(DATA)[0], stage.peek(DATA + 0x1000)[0]]).toEqual([5, 3]);
    });
    it('taken on one VP are gone on the other at its next access', () => {
      const stage = guest.build(2, (words) => ({
        vectors: [],
        programs: [
          { lower: [...words.toUpper, say(words, 0, 'lower', 0x100), hlt], upper: [...words.protect(PAGE, 'nothing'), ...words.toLower, hlt] },
          {
            // Waits until VP 0 has taken the page.
            lower: [{ op: 'read', gpa: words.at(flagOf(0, 'lower', 0x100)), size: 1, regs: { rax: 0 } }, { op: 'jumpIf', register: 'rax', equals: 0, to: 0 }, { op: 'write', gpa: words.at(DATA), value: 9 }, hlt],
            upper: [...readAs(words, DATA, 0), say(words, 1, 'upper', 0x100), ...words.protect(PAGE, 'everything'), ...words.toLower, hlt],
          },
        ],
      }));
      runOut(stage);
      expect(failures(stage)).toEqual([]);
      expect(isSet(stage, 1, 'upper', 0x100)).toBe(true);
      expect(stage.peek(DATA)[0]).toBe(9);
    });
  });

  /** Two VPs that call, work, are interrupted and refused an access. */
  const busy = (words: Words): Plot => ({
    vectors: [0x50, 0x60],
    programs: [0, 1].map((vp) => ({
      lower: [{ op: 'work' }, ...words.toUpper, { op: 'write', gpa: words.at(DATA + 8 * vp), value: 5 }, ...words.toUpper, { op: 'read', gpa: words.at(DATA + 8 * vp), size: 8 }, say(words, vp, 'lower', 0x100), hlt],
      upper: [...words.protect(PAGE, 'nothing'), ...words.toLower, ...words.protect(PAGE, 'everything'), { op: 'work' }, ...words.toLower, { op: 'jump', to: words.protect(PAGE, 'nothing').length + words.toLower.length }],
    })),
  });
  const stir = (stage: Stage): Stage => {
    for (const vp of [0, 1]) for (const [rank, vector] of [['upper', 0x50], ['lower', 0x60]] as const) apic(stage, vp, rank).accept(0, vector, true, false);
    return stage;
  };

  it('saved after any slice and restored into a fresh machine, a run ends in the same state', { timeout: 120_000 }, () => {
    const straight = runOut(stir(guest.build(2, busy)));
    expect(failures(straight)).toEqual([]);
    for (const vp of [0, 1]) expect([isSet(straight, vp, 'lower', 0x100), isSet(straight, vp, 'upper', 0x50), isSet(straight, vp, 'lower', 0x60)]).toEqual([true, true, true]);
    const end = hashOf(straight);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 4 }), (cuts) => {
        let stage = stir(guest.build(2, busy));
        for (const slices of cuts) {
          stage.machine.run(slices);
          const snapshot = structuredClone(stage.machine.snapshot());
          stage = guest.build(2, busy);
          stage.machine.restore(snapshot);
        }
        expect(hashOf(runOut(stage))).toBe(end);
      }),
      { numRuns: 10, seed: 3 },
    );
  });

  it('no order of two VPs and interrupts for their planes breaks an invariant, loses an interrupt or leaves anybody asleep', { timeout: 300_000 }, () => {
    const sent = [[0, 'upper', 0x50], [0, 'lower', 0x60], [1, 'upper', 0x50]] as const;
    const scenario: Scenario = {
      name: guest.name,
      build: () => {
        const stage = guest.build(2, (words) => ({
          vectors: [0x50, 0x60],
          programs: [0, 1].map((vp) => ({ lower: [...words.toUpper, say(words, vp, 'lower', 0x100), hlt], upper: serving(words, []) })),
        }));
        const notes = new Int32Array(sent.length);
        const parties = sent.map(([vp, rank, vector], i) => {
          const party = interrupt(stage.machine, vp, stage.plane[rank], vector);
          return { ...party, act: () => ((notes[i] = 1), party.act()) };
        });
        return {
          machine: stage.machine,
          arch: stage.arch,
          parties,
          notes,
          onExit: () => {},
          settled: () => [
            ...failures(stage),
            ...sent.flatMap(([vp, rank, vector], i) => (notes[i] === 1 && !isSet(stage, vp, rank, vector) ? [`I-IRQ: VP ${vp} ${rank} plane never served ${vector}`] : [])),
            ...[0, 1].flatMap((vp) => (isSet(stage, vp, 'lower', 0x100) ? [] : [`VP ${vp}: the lower plane is not done`])),
            ...stage.machine.vps.flatMap((vp) => (vp.current === stage.plane.lower ? [] : [`VP ${vp.index} rests in the upper plane`])),
          ],
        };
      },
    };
    const bounds: Bounds = { depth: 5, intrusions: 0, resumeOneIn: 64 };
    const report = explore(scenario, bounds);
    expect(report.failure).toBeNull();
    expect(report.states).toBeGreaterThan(20);
  });
});
