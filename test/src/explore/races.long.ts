import { expect, it } from 'vitest';
import { exploreRace, settings, to } from './race-rows.ts';
import { Grain } from './threads.ts';

const targets = [0, 1, 2];
const pairs = targets.map((p) => to(p, p));
const triples = targets.flatMap((a) => targets.filter((b) => b >= a).flatMap((b) => targets.filter((c) => c >= b).map((c) => to(a, b, c))));
// Word by word, three interrupts have up to tens of millions of orders: there only those that stay in reach.
const inReach = [...pairs, to(0, 0, 2), to(1, 2, 2), to(2, 2, 2)];
const rows = settings.flatMap(([name, setting]) => (setting.grain === Grain.Word ? inReach : triples).map((deliveries) => [name, deliveries.map((d) => d.plane).join(', '), setting, deliveries] as const));

it.each(rows)('%s: interrupts for planes %s', (name, _planes, setting, deliveries) => {
  const report = exploreRace(name, setting, deliveries);
  console.log(`${report.states} states, ${report.transitions} transitions, longest order ${report.depth}`);
  expect(report.failure).toBeNull();
});
