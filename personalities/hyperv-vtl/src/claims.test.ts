import { createScope } from '@vmplanes/di';
import { HostError, installEngine } from '@vmplanes/engine';
import { X86Arch } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import type { HypervVtl } from './hyperv-vtl.ts';
import { personality } from './plugin.ts';
import { SwitchReason } from './ports.ts';
import { DirectCalls } from './vsm-fixture.ts';

describe('what the personality claims', () => {
  it('are calls, leaves, MSRs, registers, exceptions, ports, refused accesses and triple faults', () => {
    const { claims } = new DirectCalls(1).hv;
    const ranges = (exit: string) => claims.filter((claim) => claim.exit === exit).map(({ from, to }) => [from, to]);
    expect(ranges('cpuid')).toEqual([[0, 0x3fff_ffff], [0x4000_0000, 0x4000_00ff], [0x8000_0000, 0xffff_ffff]]);
    expect(ranges('msr')[0]).toEqual([0x4000_0000, 0x4000_01ff]);
    expect(ranges('msr').slice(1).map(([from, to]) => (from === to ? from!.toString(16) : 'range'))).toEqual(['1b', '8c', '8d', '8e', '8f', '174', '175', '176', '1a0', '6a2', '6a4', '6a5', '6a6', '6a8', 'da0', 'c0000080', 'c0000081', 'c0000082', 'c0000083', 'c0000084', 'c0000103']);
    expect([ranges('register'), ranges('exception'), ranges('io'), ranges('memoryFault'), ranges('shutdown')]).toEqual([[[0, 0xff]], [[0, 31]], [[0, 0xffff]], [[0, 0]], [[0, 0]]]);
    expect(ranges('call').length).toBe(1);
  });
  it('synthetic MSRs are answered up to the last, others only when somebody intercepts them', () => {
    const { hv } = new DirectCalls(1);
    const kind = (key: number): string | null => hv.handle(hv.machine.vp(0).plane(0), { kind: 'msr', key, write: false, lo: 0, hi: 0 } as never)?.kind ?? null;
    expect([0x3fff_ffff, 0x4000_0000, 0x4000_01ff, 0x4000_0200, 0x1b].map(kind)).toEqual([null, 'resume', 'fault', null, null]);
  });
  it('anything else is an error of the host', () => {
    const { hv } = new DirectCalls(1);
    expect(() => hv.handle(hv.machine.vp(0).plane(0), { kind: 'debug' } as never)).toThrow("'debug' was not claimed");
  });
  it('are planes enough for the highest VTL', () => {
    const install = (maxPlanes: number, maximumVtl: number): HypervVtl => {
      const scope = createScope();
      installEngine(scope, { arch: new X86Arch(), policy: 'highest-runnable', rule: 'deliverable', options: { maxVps: 1, maxPlanes, memoryBytes: 0x10_0000 } });
      return personality.install(scope, { maximumVtl } as never) as HypervVtl;
    };
    expect([install(3, 2).options.maximumVtl, install(2, 1).options.maximumVtl, install(1, 0).options.maximumVtl]).toEqual([2, 1, 0]);
    for (const [planes, vtl] of [[2, 2], [1, 1], [1, 2]] as const) expect(() => install(planes, vtl)).toThrow(HostError);
  });
});

describe('events of planes under a policy that leaves the choice outside', () => {
  it.each([[0, 0b010, 1], [0, 0b110, 2], [0, 0b100, 2], [0, 0b001, null], [0, 0, null]])('VTL%i with 0b%i ready', (_current, target, to) => {
    const g = new DirectCalls(1, { maximumVtl: 2 });
    g.enable(1);
    g.enable(2);
    const answer = g.hv.planeEvent(g.machine.vp(0), 0 as never, target as never);
    if (to === null) expect(answer).toBeNull();
    else expect(answer).toMatchObject({ kind: 'switch', plane: to, reason: SwitchReason.Interrupt, leave: 'runnable' });
  });
  it('asks for those above the running VTL', () => {
    const g = new DirectCalls(2, { maximumVtl: 2 });
    g.enable(1, [0, 1]);
    expect(g.machine.vps.map((vp) => vp.asked)).toEqual([2, 2]);
    g.enable(2, [1]);
    expect(g.machine.vps.map((vp) => vp.asked)).toEqual([2, 6]);
  });
});
