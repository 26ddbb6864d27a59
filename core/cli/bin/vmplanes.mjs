#!/usr/bin/env node
// Runs the built command line. `npm start` and `npm test` build it.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const main = new URL('../dist/main.js', import.meta.url);
if (existsSync(fileURLToPath(main))) {
  await import(main.href);
} else {
  process.stderr.write('vmplanes: not built yet; run `npm start` or `npm test` once in the root of the clone\n');
  process.exitCode = 2;
}
