#!/usr/bin/env node
// Runs the command line from sources: Node built-ins plus the transpiling loader, no build step.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

// A terminal sends Ctrl-C to the child too, which decides when to stop; stay to pass on its exit code.
process.on('SIGINT', () => {});

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const loader = import.meta.resolve('@oxc-node/core/register');
const result = spawnSync(process.execPath, ['--conditions=source', '--import', loader, main, ...process.argv.slice(2)], { stdio: 'inherit' });
process.exit(result.status ?? 1);
