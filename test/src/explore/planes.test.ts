import { afterAll, describe, expect, it } from 'vitest';
import { type Bounds, explore, summary } from './explorer.ts';
import { broken, oneVp, settings, twoVps } from './plane-rows.ts';

const lines: string[] = [];
afterAll(() => console.log(lines.join('\n')));

describe('one VP, interrupts at every preemption point', () => {
  const bounds: Bounds = { depth: 7, intrusions: 2, nesting: 2, resumeOneIn: 32 };
  it.each(settings)('%s: depth 7, two acts in between, one inside the other', (name, setting) => {
    const report = explore(oneVp(name, setting), bounds);
    lines.push(summary(report));
    expect(report.failure).toBeNull();
  });
});

describe('two VPs, messages, calls, halts and timers', () => {
  const bounds: Bounds = { depth: 5, intrusions: 1, vpPoints: ['deliver:stored', 'deliver:marked', 'enter:published', 'leave:unpublished'], resumeOneIn: 64 };
  it.each(settings.filter(([, s]) => s.policy !== 'lowest-runnable'))('%s: depth 5, one act in between', (name, setting) => {
    const report = explore(twoVps(name, setting), bounds);
    lines.push(summary(report));
    expect(report.failure).toBeNull();
  });
});

describe('one line of the order broken', () => {
  it.each(broken)('%s: found by what holds of every machine', (name, setting) => {
    const report = explore(oneVp(name, setting), { depth: 7, intrusions: 2, nesting: 2 });
    lines.push(`${name}: ${report.failure?.why ?? 'not found'}`);
    expect(report.failure?.why).toMatch(/^(Invariant: )?I-/);
  });
});
