import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { main } from './program.ts';

const directory = mkdtempSync(join(tmpdir(), 'vmplanes-'));
afterAll(() => rmSync(directory, { recursive: true }));

let out = '';
let err = '';
beforeEach(() => {
  out = '';
  err = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((out += String(text)), true));
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((err += String(text)), true));
});
afterEach(() => {
  vi.restoreAllMocks();
});

const file = (name: string, content: unknown): string => {
  const path = join(directory, name);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
};
const guest = (steps: readonly object[], more: object = {}): object => ({ ...more, scripts: { tables: { main: { steps } }, run: [{ vp: 0, script: 'main' }] } });

const good = file('good.json', guest([{ op: 'in', port: 96 }, { op: 'work', cost: 50 }]));
const shuts = file('shuts.json', guest([{ op: 'shutdown' }]));
const waits = file('waits.json', guest([{ op: 'hlt' }, { op: 'work' }]));
const misses = file('misses.json', guest([{ op: 'expect', register: 'rax', equals: 5 }]));
const endless = file('endless.json', guest([{ op: 'work', cost: 9 }, { op: 'jump', to: 0 }]));
const misspelt = file('misspelt.json', { vsp: 1 });
const noJson = file('no.json', '{');
const noTrace = file('no.jsonl', 'x\n');
const noSnapshot = file('no.snap', 'x');
const image = file('kernel.elf', '');

describe('exit code', () => {
  it.each<[number, string, readonly string[]]>([
    [0, '', ['run', good]],
    [0, '', ['run', good, '--check', '--seed', '0x10']],
    [0, '', ['run', endless, '--max-slices', '5']],
    [1, '', ['run', shuts]],
    [1, '', ['run', waits]],
    [1, '', ['run', misses]],
    [2, "unknown command 'rnu'", ['rnu']],
    [2, 'missing required argument', ['run']],
    [2, 'Not a whole number in 0..4294967295', ['run', good, '--seed', '-1']],
    [2, 'is not a guest configuration', ['run', image]],
    [2, "did you mean 'kvm-pv'?", ['start', '--guest-type', 'kvmpv']],
    [2, "did you mean '2025-04'?", ['planes-abi', 'diff', '2025-4', '2026-06']],
    [3, "vsp: unknown key 'vsp' (did you mean 'vps'?)", ['run', misspelt]],
    [3, 'is not JSON: line 1, column 2', ['run', noJson]],
    [3, "no guest type 'kvm-pc' (did you mean 'kvm-pv'?)", ['run', good, '--guest-type', 'kvm-pc']],
    [3, 'needs an instruction core', ['run', image, '--guest-type', 'plain']],
    [3, "personality 'kvm-vp'", ['personalities', 'kvm-vp']],
    [4, 'line 1: not JSON', ['replay', noTrace]],
    [5, 'no snapshot file', ['run', good, '--restore', noSnapshot]],
    [7, 'cannot be read', ['run', join(directory, 'none.json')]],
    [7, 'cannot be read', ['replay', join(directory, 'none.jsonl')]],
    [0, '', ['--version']],
    [0, '', ['run', '--help']],
  ])('%d: %s %j', async (code, text, argv) => {
    expect(await main(argv)).toBe(code);
    expect(err).toContain(text);
    if (code > 2) expect(err).toMatch(/^vmplanes: [A-Za-z]+: [^\n]+\n( {2}hint: [^\n]+\n)?$/);
  });
});

describe('--json', () => {
  it.each<readonly string[]>([['run', good], ['run', shuts], ['run', misspelt], ['replay', noTrace], ['personalities'], ['personalities', 'kvm-pv'], ['guest-types'], ['planes-abi', 'diff', '2025-04', 'vmplanes'], ['start', '--guest-type', 'plain'], ['start', '--guest-type', 'kvm-pv'], ['docs', '--check']])(
    'prints one object and nothing else: %s %s',
    async (...argv) => {
      const code = await main([...argv, '--json']);
      expect(JSON.parse(out)).toMatchObject({ exitCode: code });
    },
  );

  it('tells errors with path and fix', async () => {
    await main(['run', misspelt, '--json']);
    expect(JSON.parse(out)).toMatchObject({ exitCode: 3, error: { code: 'BadConfig', path: 'vsp', complaints: [{ path: 'vsp', fix: "did you mean 'vps'?" }] } });
  });
});

describe('run, replay, snapshot', () => {
  it('records a run that replays, exactly and in meaning', async () => {
    const trace = join(directory, 'good.jsonl');
    expect(await main(['run', good, '--trace', trace])).toBe(0);
    expect(await main(['replay', trace])).toBe(0);
    expect(out).toMatch(/good\.jsonl: ok: \d+ records checked/);
    expect(await main(['replay', trace, '--semantic'])).toBe(0);
    const lines = readFileSync(trace, 'utf8').split('\n');
    const at = lines.findIndex((l) => l.includes('"k":"vmexit"'));
    writeFileSync(trace, lines.toSpliced(at, 1, lines[at]!.replace('"port":96', '"port":97')).join('\n'));
    expect(await main(['replay', trace])).toBe(4);
    expect(out).toContain(`line ${at + 1}`);
  });

  it('goes on from a snapshot of the same guest only', async () => {
    const half = join(directory, 'half.snap');
    expect(await main(['run', endless, '--max-slices', '3', '--snapshot', half])).toBe(0);
    expect(await main(['run', endless, '--max-slices', '3', '--restore', half, '--json'])).toBe(0);
    expect(await main(['run', endless, '--seed', '3', '--restore', half])).toBe(5);
  });

  it('prints switches with their reasons', async () => {
    expect(await main(['start'])).toBe(0);
    expect(out).toContain('time ns  VP  from     to       reason');
    expect(out).toContain('refused access');
    expect(out).toContain('The guest ended');
  });

  it('stops at a signal and keeps the trace', async () => {
    const trace = join(directory, 'endless.jsonl');
    setTimeout(() => process.emit('SIGINT'), 100);
    expect(await main(['run', endless, '--trace', trace])).toBe(130);
    const last = readFileSync(trace, 'utf8').trimEnd().split('\n').at(-1)!;
    expect(JSON.parse(last)).toMatchObject({ k: 'end', why: 'stopped' });
  });
});

describe('reference pages', () => {
  it('are those of the code', async () => {
    const code = await main(['docs', '--check']);
    expect(err).toBe('');
    expect(code).toBe(0);
  });
});
