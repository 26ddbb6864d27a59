import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readText, root } from '../support/source.ts';

it('the command runs from sources in any folder', () => {
  const { version } = JSON.parse(readText('core/cli/package.json')) as { readonly version: string };
  const run = spawnSync(process.execPath, [join(root, 'core/cli/bin/vmplanes.mjs'), '--version'], { cwd: '/', encoding: 'utf8' });
  expect(run).toMatchObject({ status: 0, stdout: `${version}\n` });
});
