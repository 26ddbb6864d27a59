import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Requirement, requirement } from './system-tool.ts';

/** Longest time for a download, ms. */
const TIMEOUT = 60_000;

/** A published package that some tests run beside ours, not as a part of it. */
export interface PublishedPackage extends Requirement {
  /** Where its files are; only when it is there. */
  readonly folder: string;
}

/** What getting a package needs; replaced in tests. */
export interface PackageSource {
  /** Puts the archive of a package into a folder. @returns whether it succeeded. */
  pack(spec: string, into: string): boolean;
  /** Where packages are kept between runs. */
  readonly cache: string;
}

const registry: PackageSource = {
  pack: (spec, into) => spawnSync('npm', ['pack', spec, '--silent', '--fetch-retries=0', '--pack-destination', into], { cwd: into, stdio: 'ignore', timeout: TIMEOUT }).status === 0,
  cache: join(tmpdir(), 'vmplanes-tools'),
};

/** Unpacks the one archive in a folder when it is the one that is meant. */
function unpack(folder: string, integrity: string): boolean {
  const archive = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  if (archive === undefined) return false;
  const actual = `sha512-${createHash('sha512').update(readFileSync(join(folder, archive))).digest('base64')}`;
  return actual === integrity && spawnSync('tar', ['-xzf', archive], { cwd: folder, stdio: 'ignore' }).status === 0;
}

/**
 * The files of a package from the registry, without its dependencies and outside of our tree. Where the registry cannot be reached, its tests are skipped with the command
 * that would get it.
 * @param integrity - of its archive, `sha512-…`: other contents are as good as none.
 */
export function npmPackage(name: string, version: string, integrity: string, source: PackageSource = registry): PublishedPackage {
  const kept = join(source.cache, `${name.replaceAll('/', '-')}-${version}`);
  if (!existsSync(kept)) {
    mkdirSync(source.cache, { recursive: true });
    const work = mkdtempSync(join(source.cache, 'pack-'));
    try {
      // Another process may have been faster: then its folder stays.
      if (source.pack(`${name}@${version}`, work) && unpack(work, integrity) && !existsSync(kept)) renameSync(join(work, 'package'), kept);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  return { folder: kept, ...requirement(existsSync(kept), `the package ${name} ${version} is not there`, `npm pack ${name}@${version}, with a registry in reach`) };
}
