import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { npmPackage } from './npm-package.ts';

describe('npmPackage', () => {
  let folder = '';
  let integrity = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmplanes-packages-'));
    mkdirSync(join(folder, 'package'));
    writeFileSync(join(folder, 'package', 'index.js'), 'export const a = 1;\n');
    spawnSync('tar', ['-czf', 'a.tgz', 'package'], { cwd: folder });
    integrity = `sha512-${createHash('sha512').update(readFileSync(join(folder, 'a.tgz'))).digest('base64')}`;
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const asked: string[] = [];
  const source = (cache: string, works = true) => ({
    cache: join(folder, cache),
    pack: (spec: string, into: string): boolean => {
      asked.push(spec);
      if (works) copyFileSync(join(folder, 'a.tgz'), join(into, 'a.tgz'));
      return works;
    },
  });

  it('gets a package once', () => {
    for (let i = 0; i < 2; i++) {
      const found = npmPackage('@x/a', '1.0.0', integrity, source('one'));
      expect([found.isMet, readFileSync(join(found.folder, 'index.js'), 'utf8')]).toEqual([true, 'export const a = 1;\n']);
    }
    expect(asked).toEqual(['@x/a@1.0.0']);
  });
  it('takes no other contents', () => {
    const found = npmPackage('a', '1.0.0', 'sha512-AAAA', source('two'));
    expect([found.isMet, existsSync(found.folder)]).toEqual([false, false]);
  });
  it('says when there is none', () => expect(npmPackage('a', '1.0.0', integrity, source('three', false)).isMet).toBe(false));
});
