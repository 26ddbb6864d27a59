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
const source = ['--conditions=source', '--import', '@oxc-node/core/register'];
const node = (file, ...rest) => run(process.execPath, [...source, join(root, file), ...rest]);

const steps = {
  start: () => node('core/cli/src/main.ts', 'start', ...args),
  test: () => node('test/src/run-tests.ts', ...args),
  'test:long': () => node('test/src/run-tests.ts', '--long', ...args),
  'test:mutants': () => node('test/src/mutants/main.ts', ...args),
  bench: () => node('test/src/bench/main.ts', ...args),
  docs: () => node('core/cli/src/main.ts', 'docs', ...args),
  build: () => run(bin('tsc'), ['-b', ...args]),
};

install();
const action = steps[step];
if (!action) {
  process.stderr.write(`vmplanes: unknown step '${step}'; one of ${Object.keys(steps).join(', ')}\n`);
  process.exit(2);
}
process.exit(action());
