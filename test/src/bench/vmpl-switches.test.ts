import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { root } from '../support/source.ts';

const script = join(root, 'test/dist/bench/vmpl-switches.js');

it('makes 10^6 round trips of Run VMPL with save areas without one collection of the young generation', () => {
  expect(existsSync(script), 'the tests run on a built tree: npm run build').toBe(true);
  const { stdout } = spawnSync(process.execPath, ['--trace-gc', '--expose-gc', script], { encoding: 'utf8' });
  const during = stdout.slice(stdout.indexOf('begin'), stdout.indexOf('end'));
  expect(stdout).toContain('end 2000000');
  expect(during.match(/Scavenge|Mark-Compact/g) ?? []).toEqual([]);
}, 120_000);
