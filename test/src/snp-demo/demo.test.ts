import { spawnSync } from 'node:child_process';
import { symlinkSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { root } from '../support/source.ts';
import { systemTool } from '../support/system-tool.ts';

const swtpm = systemTool('swtpm', { debianPackage: 'swtpm', command: 'swtpm' });
const cli = join(root, 'core/cli/dist/main.js');
const start = (path: string, ...more: readonly string[]) => spawnSync(process.execPath, [cli, 'start', '--guest-type', 'sev-snp-builtin-svsm', ...more], { encoding: 'utf8', timeout: 60_000, env: { ...process.env, PATH: path } });

/** What a row of the table of calls says. */
const calls = ['SVSM_CORE_QUERY_PROTOCOL', 'SVSM_CORE_PVALIDATE', 'SVSM_CORE_CREATE_VCPU', 'SVSM_ATTEST_SERVICES', 'SVSM_CORE_DELETE_VCPU'];

describe('npm start -- --guest-type sev-snp-builtin-svsm', () => {
  let text = '';
  let status: number | null = -1;
  const folder = mkdtempSync(join(tmpdir(), 'vmplanes-path-'));
  beforeAll(() => {
    // A host without swtpm: nothing in its path but node.
    symlinkSync(process.execPath, join(folder, 'node'));
    ({ stdout: text, status } = start(folder));
    return () => rmSync(folder, { recursive: true });
  }, 60_000);

  it('prints the timeline of both processors and ends well', () => {
    expect(status).toBe(0);
    expect(text).toContain('VMPL2  0 VMPL0  run-vmpl');
    expect(text).toContain('The guest ended: every processor is at the end of its script');
    for (const vp of [0, 1]) expect(text).toMatch(new RegExp(`^${vp} +2 VMPL2 +0 VMPL0 +run-vmpl +[0-9]+$`, 'm'));
  });
  it.each(calls)('shows that %s succeeded', (name) => {
    const rows = text.split('\n').filter((line) => line.includes(`name ${name},`));
    expect(rows.length).toBeGreaterThan(0);
    for (const row of rows) expect(row).toContain('status Success');
  });
  it('without swtpm it says so, how to get it, and leaves the commands out', () => {
    expect(text).toContain('swtpm is not installed');
    expect(text).toContain('apt-get install -y swtpm');
    expect(text).not.toContain('SVSM_VTPM_CMD');
  });
  it('a guest that asks for a TPM on such a host is refused before it starts', () => {
    const run = spawnSync(process.execPath, [cli, 'run', join(root, 'test/src/snp-demo/guest-with-tpm.json')], { encoding: 'utf8', timeout: 60_000, env: { ...process.env, PATH: folder } });
    expect(run.status).toBe(3);
    expect(run.stderr).toContain('swtpm is not installed (apt-get install -y swtpm');
  });
  swtpm.it('with swtpm the guest sends TPM commands, and its trace replays without one', () => {
    const trace = join(folder, 'demo.jsonl');
    const { stdout } = start(`${folder}:${process.env['PATH']}:${dirname('/usr/bin/swtpm')}`, '--trace', trace);
    expect(stdout).toMatch(/SVSM_VTPM_CMD, status Success +2/);
    expect(stdout).not.toContain('not installed');
    const replay = spawnSync(process.execPath, [cli, 'replay', trace], { encoding: 'utf8', timeout: 60_000, env: { ...process.env, PATH: folder } });
    expect(replay.stdout).toContain('ok');
    expect(replay.status).toBe(0);
  }, 120_000);
});
