import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { root } from '../support/source.ts';

const script = join(root, 'test/dist/bench/snp-exits.js');

it('serves 2 * 10^6 VMGEXITs of each protocol without one collection of the young generation', () => {
  expect(existsSync(script), 'the tests run on a built tree: npm run build').toBe(true);
  const { stdout } = spawnSync(process.execPath, ['--trace-gc', '--expose-gc', script], { encoding: 'utf8' });
  for (const name of ['msr', 'nae']) {
    const end = `end ${name} 2000000`;
    expect(stdout).toContain(end);
    const during = stdout.slice(stdout.indexOf(`begin ${name}`), stdout.indexOf(end));
    expect(during.match(/Scavenge|Mark-Compact/g) ?? [], name).toEqual([]);
  }
}, 240_000);
