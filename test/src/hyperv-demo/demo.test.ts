import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { root } from '../support/source.ts';

interface Run {
  readonly reason: string;
  readonly switches: readonly { readonly vp: number; readonly reason: string; readonly count: number }[];
  readonly calls: readonly { readonly vp: number; readonly plane: number; readonly name: string; readonly data: { readonly name?: string; readonly to?: number; readonly status?: number }; readonly count: number }[];
}

describe('npm start -- --guest-type hyperv-vsm', () => {
  let text = '';
  let run: Run;
  beforeAll(() => {
    const cli = join(root, 'core/cli/dist/main.js');
    text = spawnSync(process.execPath, [cli, 'start', '--guest-type', 'hyperv-vsm'], { encoding: 'utf8', timeout: 60_000 }).stdout;
    const { status, stdout } = spawnSync(process.execPath, [cli, 'run', '--check', '--json', join(root, 'test/src/hyperv-demo/guest.json')], { encoding: 'utf8', timeout: 60_000 });
    expect(status).toBe(0);
    run = JSON.parse(stdout) as Run;
  }, 150_000);

  it('prints the timeline and ends', () => {
    expect(text).toContain('VTL0  1 VTL1  interrupt');
    expect(text).toContain('vtl-return');
    expect(text).toContain('The guest ended');
  });
  it('enables VTL1 on both VPs and protects the secret', () => {
    const statuses = run.calls.filter((n) => n.name === 'hv-call').map((n) => n.data.status ?? 0);
    expect(new Set(statuses)).toEqual(new Set([0]));
    for (const call of ['HvCallEnablePartitionVtl', 'HvCallEnableVpVtl', 'HvCallModifyVtlProtectionMask']) expect(run.calls.some((n) => n.data.name === call), call).toBe(true);
  });
  it.each([0, 1])('takes a secure intercept, timers in both VTLs and notifications on VP %i', (vp) => {
    expect(run.calls.some((n) => n.vp === vp && n.plane === 0 && n.name === 'hv-intercept' && n.data.to === 1)).toBe(true);
    for (const plane of [0, 1]) expect(run.calls.some((n) => n.vp === vp && n.plane === plane && n.data.name === 'Stimer0Count')).toBe(true);
    expect(run.calls.some((n) => n.vp === vp && n.name === 'hv-vina')).toBe(true);
    expect(run.switches.some((s) => s.vp === vp && s.reason === 'interrupt')).toBe(true);
  });
});
