import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { root } from '../support/source.ts';

const directory = mkdtempSync(join(tmpdir(), 'vmplanes-'));
afterAll(() => rmSync(directory, { recursive: true }));

const guest = join(directory, 'endless.json');
writeFileSync(guest, JSON.stringify({ scripts: { tables: { main: { steps: [{ op: 'cpuid', leaf: 0 }, { op: 'work', cost: 50 }, { op: 'jump', to: 0 }] } }, run: [{ vp: 0, script: 'main' }] } }));

/** Starts the command and sends it a signal once it records. */
const stopBy = (signal: 'SIGINT' | 'SIGTERM', trace: string): Promise<{ readonly code: number | null; readonly out: string }> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(root, 'core/cli/bin/vmplanes.mjs'), 'run', guest, '--trace', trace, '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.on('data', (text: Buffer) => (out += text.toString()));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, out }));
    const poll = setInterval(() => {
      try {
        if (readFileSync(trace).length === 0) return;
      } catch {
        return;
      }
      clearInterval(poll);
      child.kill(signal);
    }, 20);
  });

describe('a signal', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s stops at an event boundary, with the trace complete and exit code %d', async (signal, expected) => {
    const trace = join(directory, `${signal}.jsonl`);
    const { code, out } = await stopBy(signal, trace);
    expect(code).toBe(expected);
    expect(JSON.parse(out)).toMatchObject({ exitCode: expected, reason: 'stopped' });
    expect(JSON.parse(readFileSync(trace, 'utf8').trimEnd().split('\n').at(-1)!)).toMatchObject({ k: 'end', why: 'stopped' });
  });
});
