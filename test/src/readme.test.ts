import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { root } from './support/source.ts';

const readme = readFileSync(join(root, 'README.md'), 'utf8');
const embedded = (after: string): string => {
  const from = readme.indexOf('```', readme.indexOf(after));
  return readme.slice(readme.indexOf('\n', from) + 1, readme.indexOf('\n```', from));
};

describe('README', () => {
  it('shows what `npm start` prints', () => {
    const shown = readme.slice(readme.indexOf('$ npm start'), readme.indexOf('$ npm test')).split('\n').slice(1);
    const printed = spawnSync(process.execPath, [join(root, 'core/cli/dist/main.js'), 'start'], { encoding: 'utf8' }).stdout.split('\n').map((line) => line.trimEnd());
    // Lines stand in the order of the output; `...` leaves some out.
    let at = 0;
    for (const line of shown.map((l) => l.trimEnd()).filter((l) => l !== '' && l !== '...')) {
      const found = printed.indexOf(line, at);
      expect(found, `'${line}' in the output of npm start after line ${at}`).toBeGreaterThanOrEqual(0);
      at = found + 1;
    }
  });

  it('quotes files that are tested', () => {
    expect(`${embedded('<!-- test/src/embedding/embed.ts -->')}\n`).toBe(readFileSync(join(root, 'test/src/embedding/embed.ts'), 'utf8'));
    const personality = readFileSync(join(root, 'test/src/example-personality/personality.ts'), 'utf8');
    for (const block of readme.slice(readme.indexOf('## Write a personality')).matchAll(/```ts\n([\s\S]*?)```/g)) expect(personality).toContain(block[1]);
  });

  it('links to files that exist', () => {
    for (const [, target] of readme.matchAll(/\]\(([^)#]+)\)/g)) expect(existsSync(join(root, target!)), target!).toBe(true);
  });

  it('names commands that exist', () => {
    const help = spawnSync(process.execPath, [join(root, 'core/cli/dist/main.js'), '--help'], { encoding: 'utf8' }).stdout;
    for (const [, command] of readme.matchAll(/\$ npx vmplanes ([a-z-]+)/g)) expect(help).toMatch(new RegExp(`^  ${command!}`, 'm'));
    const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
    for (const [, script] of readme.matchAll(/`npm run ([a-z:]+)`/g)) expect(scripts).toHaveProperty([script!]);
  });
});
