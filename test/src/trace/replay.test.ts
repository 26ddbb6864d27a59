import { parseTrace, type TraceRecord } from '@vmplanes/trace';
import { describe, expect, it } from 'vitest';
import { record, replay, richGuest } from './tiny-machine.ts';

describe('a recorded run', () => {
  it('replays green with every kind of record, whole or cut into slices, with and without a seed', () => {
    for (const seed of [0, 1, 99]) {
      for (const cuts of [[], [1], [3, 1, 7]]) {
        const { lines } = record(richGuest, { seed }, cuts);
        const report = replay(lines, richGuest, { seed });
        expect(report.divergences).toEqual([]);
        expect(report.ok, report.summary).toBe(true);
        expect(report.checked).toBeGreaterThan(40);
      }
    }
    const kinds = new Set(parseTrace(record(richGuest).lines).records.map((r: TraceRecord) => r.k));
    expect([...kinds].sort()).toEqual(['answer', 'end', 'enter', 'event', 'exit', 'input', 'note', 'permission', 'read', 'switch', 'vmexit', 'write']);
  });
});
