// The one entry of every npm script: installs what is missing with Node built-ins only, then runs the named step.
// Arguments and the exit code pass through; stdout carries the step's output only (installation talks on stderr).
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

// A terminal sends Ctrl-C to the running step too, which decides when to stop; stay to pass on its exit code.
process.on('SIGINT', () => {});

const PNPM = 'pnpm@10.34.8';
const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const [step = 'test', ...args] = process.argv.slice(2);

const run = (command, argv, options = {}) => {
  const result = spawnSync(command, argv, { cwd: root, stdio: 'inherit', shell: process.platform === 'win32', ...options });
  if (result.error) throw result.error;
  return result.status ?? 1;
};

/** Installs the workspace when the lockfile or a manifest changed since the last installation. */
function install() {
  const inputs = ['pnpm-lock.yaml', 'pnpm-workspace.yaml', 'package.json'].map((f) => readFileSync(join(root, f)));
  const stamp = createHash('sha256').update(Buffer.concat(inputs)).digest('hex');
  const stampFile = join(root, 'node_modules/.vmplanes-install');
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return;
  process.stderr.write('vmplanes: installing dependencies\n');
  // stdout of the installer goes to stderr, so that `--json` output of a step stays one JSON object.
  const status = run('npx', ['--yes', PNPM, 'install', '--frozen-lockfile', '--prefer-offline'], { stdio: ['ignore', 2, 2] });
  if (status !== 0) {
    process.stderr.write('vmplanes: installation failed; the npm registry must be reachable (exit code above)\n');
    process.exit(status);
  }
  mkdirSync(dirname(stampFile), { recursive: true });
  writeFileSync(stampFile, stamp);
}

const bin = (name) => join(root, 'node_modules/.bin', name);

/** Compiles what changed since the last build; a fraction of a second when nothing did. Diagnostics go to stderr. */
function build() {
  const status = run(bin('tsc'), ['-b'], { stdio: ['ignore', 2, 2] });
  if (status !== 0) process.exit(status);
}

/** Runs a built program: `core/cli/src/main.ts` is `core/cli/dist/main.js`. */
const built = (file, ...rest) => {
  build();
  return run(process.execPath, [join(root, file), ...rest]);
};

const steps = {
  start: () => built('core/cli/dist/main.js', 'start', ...args),
  // The test run reports a failed type check as a failed test, so it starts whatever the build says.
  test: () => (run(bin('tsc'), ['-b', '--noCheck'], { stdio: ['ignore', 2, 2] }), run(process.execPath, [join(root, 'test/dist/run-tests.js'), ...args])),
  'test:long': () => built('test/dist/run-tests.js', '--long', ...args),
  'test:mutants': () => built('test/dist/mutants/main.js', ...args),
  bench: () => built('test/dist/bench/main.js', ...args),
  docs: () => built('core/cli/dist/main.js', 'docs', ...args),
  build: () => (build(), 0),
};

install();
const action = steps[step];
if (!action) {
  process.stderr.write(`vmplanes: unknown step '${step}'; one of ${Object.keys(steps).join(', ')}\n`);
  process.exit(2);
}
process.exit(action());
