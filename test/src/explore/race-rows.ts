import { DeliverableRule, IrrRule } from '@vmplanes/engine';
import { type Delivery, type RaceConfig, RaceWorld } from './rule-world.ts';
import * as seeds from './seeds.ts';
import { Grain, type WeaveReport } from './threads.ts';

/** A setting without its name and its deliveries. */
export type RaceSetting = Omit<RaceConfig, 'name' | 'deliveries'>;

const irr: RaceSetting = { grain: Grain.Word, rule: (hooks) => new IrrRule(hooks), counts: 'irr', policy: 'userspace', home: 0, asked: 0b010, first: [0] };
const deliverable: RaceSetting = { ...irr, grain: Grain.Section, rule: (hooks) => new DeliverableRule(hooks), counts: 'deliverable' };
/** Plane 0 runs shortly, then the VMM stays in plane 1 and asks about plane 0. */
const away = { home: 1, asked: 0b001 } as const;

/** The rules as they are, under each policy; words where the rule promises no more than atomic words. */
export const settings: readonly (readonly [name: string, setting: RaceSetting])[] = [
  ['irr, stays in plane 0, asks about 1, word by word', irr],
  ['irr, moves to plane 1, asks about 0, word by word', { ...irr, ...away }],
  ['irr, stays in plane 0, asks about 1, between the named points', { ...irr, grain: Grain.Section }],
  ['deliverable, stays in plane 0, asks about 1', deliverable],
  ['deliverable, moves to plane 1, asks about 0', { ...deliverable, ...away }],
  ['deliverable, lowest runnable plane', { ...deliverable, policy: 'lowest-runnable', home: 1, asked: 0 }],
  ['deliverable, highest runnable plane', { ...deliverable, policy: 'highest-runnable', home: 1, asked: 0 }],
];

/** Interrupts for these planes, each from a thread of its own. */
export const to = (...planes: readonly number[]): readonly Delivery[] => planes.map((plane, bit) => ({ plane, bit }));

/** One line of the order broken, the deliveries that show it, and the property that must report it. */
export const broken: readonly (readonly [name: string, invariant: string, setting: RaceSetting, deliveries: readonly Delivery[]])[] = [
  ['the mark is set before the request is stored', 'I-IRQ', { ...irr, ...away, deliver: seeds.marksBeforeStoring }, to(0)],
  ['delivery reads who runs before it marks', 'I-WAKE', { ...irr, rule: (h) => new seeds.AsksBeforeMarking(h) }, to(1)],
  ['entry reads the mask before it publishes', 'I-WAKE', { ...irr, publishesLate: true }, to(1)],
  ['entry ignores what was pending before', 'I-WAKE', { ...irr, rule: (h) => new seeds.IgnoresEarlierMarks(h) }, to(1)],
  ['the run looks before it takes the request to look', 'I-WAKE', { ...irr, rule: (h) => new seeds.LooksBeforeTaking(h) }, to(1)],
  ['the epilogue clears the mark after it read the requests', 'I-IRQ', { ...irr, ...away, rule: (h) => new seeds.ClearsAfterReading(h) }, to(0)],
  ['the epilogue does not look at the requests', 'I-IRQ', { ...irr, ...away, rule: (h) => new seeds.ForgetsTheEpilogue(h) }, to(0)],
  ['the mark is not one read-modify-write', 'I-IRQ', { ...irr, rule: (h) => new seeds.TearsTheMark(h) }, to(1, 2)],
  ['deliverability is decided outside the critical section', 'I-IRQ', { ...deliverable, ...away, rule: (h) => new seeds.DecidesOutside(h) }, to(0)],
  ['the deliverable rule without its critical sections', 'I-IRQ', { ...deliverable, ...away, grain: Grain.Word }, to(0)],
];

/** Explores one setting completely. */
export const exploreRace = (name: string, setting: RaceSetting, deliveries: readonly Delivery[]): WeaveReport => {
  const world = new RaceWorld({ ...setting, name, deliveries });
  return world.weaver.explore(world.weave());
};
