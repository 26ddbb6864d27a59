import { createVm, decodeSnapshot, encodeSnapshot, type GuestConfig, type Vm } from '@vmplanes/vmm';
import type { TableScript } from '@vmplanes/x86';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hostileScript } from './programs.ts';

const plugins = {
  example: () => import('../example-personality/index.ts'),
  'kvm-pv': () => import('@vmplanes/personality-kvm-pv'),
};

const VPS = 2;
const PLANES = 3;
/** One script for each plane of each virtual processor. */
const places = Array.from({ length: VPS * PLANES }, (_, i) => ({ vp: Math.floor(i / PLANES), plane: i % PLANES, script: `s${i}` }));

/** Machines that hostile guests run on. */
const machines: Readonly<Record<string, GuestConfig>> = {
  'no personality, plane named by the VMM': { policy: 'userspace', rule: 'irr' },
  'the paravirtual interface': { personalities: ['kvm-pv'], policy: 'highest-runnable', ticksPerSecond: 1000 },
  'the paravirtual interface, lowest plane first': { personalities: ['kvm-pv'], policy: 'lowest-runnable', profile: '2026-06' },
  'the example personality': { personalities: ['example'] },
};

/** Slices of a run, and from which snapshots are taken. */
const SLICES = 60;

async function make(config: GuestConfig, scripts: readonly TableScript[]): Promise<Vm> {
  const base: GuestConfig = { vps: VPS, planes: PLANES, startPlanes: [0, 1, 2], startVps: 'all', memory: '1MiB', quantum: 40, seed: 3, scripts: { run: places } };
  return createVm({ ...base, ...config }, { scripts, plugins, check: true });
}

/** Runs on however often a guest leaves to the VMM. */
async function runOn(vm: Vm, slices: number): Promise<void> {
  const target = vm.machine.scheduler.slices + slices;
  for (let stops = 0; stops < 200 && vm.machine.scheduler.slices < target; stops++) {
    const { reason } = await vm.run({ maxSlices: target - vm.machine.scheduler.slices, onExit: () => 'continue' });
    if (reason === 'finished' || reason === 'idle') return;
  }
}

/**
 * Declares the tests of hostile guests.
 * @param runs - guests per machine.
 */
export const hostileGuests = (runs: number): void => describe.each(Object.entries(machines))('a hostile guest under %s', (_name, config) => {
  it('never causes an error of the host, and goes on from a snapshot as it would have', async () => {
    await fc.assert(
      fc.asyncProperty(fc.tuple(...places.map(({ script }) => hostileScript(script))), fc.nat(40), async (scripts, cut) => {
        const whole = await make(config, scripts);
        await runOn(whole, cut);
        const saved = encodeSnapshot(whole.snapshot());
        await runOn(whole, SLICES);
        const rest = await make(config, scripts);
        rest.restore(decodeSnapshot(saved));
        await runOn(rest, SLICES);
        expect(rest.snapshot()).toEqual(whole.snapshot());
        whole.close();
        rest.close();
      }),
      { numRuns: runs, seed: runs },
    );
  });
});
