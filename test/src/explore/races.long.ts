import { expect, it } from 'vitest';
import { exploreRace, settings, to } from './race-rows.ts';

const triples = [0, 1, 2].flatMap((a) => [0, 1, 2].filter((b) => b >= a).flatMap((b) => [0, 1, 2].filter((c) => c >= b).map((c) => to(a, b, c))));
const rows = settings.flatMap(([name, setting]) => triples.map((deliveries) => [name, deliveries.map((d) => d.plane).join(', '), { ...setting, first: [0] }, deliveries] as const));

it.each(rows)('%s: three interrupts, for planes %s', (name, _planes, setting, deliveries) => {
  const report = exploreRace(name, setting, deliveries);
  console.log(`${report.states} states, ${report.transitions} transitions, longest order ${report.depth}`);
  expect(report.failure).toBeNull();
});
