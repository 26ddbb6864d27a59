import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { it, type TestContext } from 'vitest';

type TestBody = (context: TestContext) => void | Promise<void>;

/** Something of the host that a test needs. Where it is missing, tests are skipped by name and the summary says how to enable them. */
export interface Requirement {
  readonly isMet: boolean;
  /** Declares a test that needs it. @param timeout - ms. */
  it(name: string, body: TestBody, timeout?: number): void;
}

/** The text that the summary prints for a skipped test. */
export const skipNote = (reason: string, remedy: string): string => `${reason}; to enable: ${remedy}`;

/**
 * States a need of some tests.
 * @param reason - why the tests cannot run when it is not met.
 * @param remedy - the command that would enable them.
 */
export function requirement(isMet: boolean, reason: string, remedy: string): Requirement {
  return {
    isMet,
    it(name, body, timeout): void {
      if (isMet) it(name, body, timeout);
      else it(name, (context) => context.skip(skipNote(reason, remedy)));
    },
  };
}

/** A program of the host. */
export interface SystemTool extends Requirement {
  /** The command to run. */
  readonly command: string;
}

/** Finds a program in `PATH`. */
export function findCommand(command: string, path = process.env['PATH'] ?? ''): string | undefined {
  for (const folder of path.split(delimiter)) {
    const file = join(folder, command);
    try {
      if (statSync(file).isFile()) {
        accessSync(file, constants.X_OK);
        return file;
      }
    } catch {
      // not here; the next folder may have it
    }
  }
  return undefined;
}

/** What installing needs to know of the host; replaced in tests. */
export interface Host {
  readonly isDebianRoot: boolean;
  find(command: string): string | undefined;
  /** Installs a package for its command. @returns whether it succeeded. */
  install(debianPackage: string, command: string): boolean;
}

/**
 * A program that some tests run. On Debian as root a missing one is installed from its package, quietly and at most once; elsewhere,
 * or when that fails, its tests are skipped with the command that would install it.
 * @param name - for people.
 * @param source - the Debian package and the command it brings.
 */
export function systemTool(name: string, source: { readonly debianPackage: string; readonly command: string }, host: Host = thisHost): SystemTool {
  const { debianPackage, command } = source;
  const isPresent = (): boolean => host.find(command) !== undefined;
  const isMet = isPresent() || (host.isDebianRoot && host.install(debianPackage, command) && isPresent());
  return { command, ...requirement(isMet, `${name} is not installed`, `${host.isDebianRoot ? '' : 'sudo '}apt-get install -y ${debianPackage}`) };
}

/** Failed installations are not tried again for this long, ms. */
const RETRY_AFTER = 3_600_000;
/** Longest time for one package, ms. */
const INSTALL_TIMEOUT = 240_000;

const apt = (...args: readonly string[]): boolean => {
  // Output goes to stderr: the last line of stdout belongs to the summary.
  const run = spawnSync('apt-get', ['-qq', '-o', 'DPkg::Lock::Timeout=120', ...args], {
    stdio: ['ignore', 2, 2],
    timeout: INSTALL_TIMEOUT,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  return run.status === 0;
};

/** Test files run in parallel processes: one installs, the others wait for its folder to go. */
function withLock<T>(lock: string, action: () => T): T {
  const started = Date.now();
  for (;;) {
    try {
      mkdirSync(lock);
      break;
    } catch {
      if (Date.now() - started > INSTALL_TIMEOUT) break;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
    }
  }
  try {
    return action();
  } finally {
    if (existsSync(lock)) rmdirSync(lock);
  }
}

/** The machine that runs the tests. @param find - where a package puts what is looked for, when that is no command in `PATH`. */
export const hostThatFinds = (find: (command: string) => string | undefined): Host => ({
  isDebianRoot: existsSync('/etc/debian_version') && process.getuid?.() === 0,
  find,
  install(debianPackage, command) {
    const folder = join(tmpdir(), 'vmplanes-tools');
    mkdirSync(folder, { recursive: true });
    const failure = join(folder, `${debianPackage}.failed`);
    return withLock(join(folder, `${debianPackage}.lock`), () => {
      // Another process may have installed it while this one waited.
      if (find(command) !== undefined) return true;
      if (existsSync(failure) && Date.now() - statSync(failure).mtimeMs < RETRY_AFTER) return false;
      process.stderr.write(`vmplanes: installing ${debianPackage}\n`);
      const install = (): boolean => apt('install', '-y', '--no-install-recommends', debianPackage);
      const isInstalled = install() || (apt('update') && install());
      if (!isInstalled) writeFileSync(failure, '');
      return isInstalled;
    });
  },
});

const thisHost = hostThatFinds((command) => findCommand(command));
