import { HvAccess, HvMsr, type HvMsrName, msrOf, MSRS, type MsrRow } from '@vmplanes/abi-hyperv';
import { ApicReg, DeliveryMode, encodeIcr, readMsr, writeMsr } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import type { GuestCrashPayload } from './crash.ts';
import { Rig } from './fixture.ts';
import { msrSupport } from './msrs.ts';

const unserved: readonly HvMsrName[] = [
  'Sirbp',
  'StatsPartitionRetailPage', 'StatsPartitionInternalPage', 'StatsVpRetailPage', 'StatsVpInternalPage',
  'SyntheticDebugControl', 'SyntheticDebugStatus', 'SyntheticDebugSendBuffer', 'SyntheticDebugReceiveBuffer', 'SyntheticDebugPendingBuffer', 'DebugDeviceOptions',
  'StimeUnhaltedTimerConfig', 'StimeUnhaltedTimerCount',
];
const served = MSRS.filter((m) => !unserved.includes(m.name));
const named = (list: readonly MsrRow[]): readonly (readonly [string, MsrRow])[] => list.map((m) => [m.name, m]);

describe('the table of synthetic MSRs', () => {
  it('serves all but the pinned list', () => {
    expect(msrSupport.filter((s) => s.support === 'no').map((s) => s.name)).toEqual(unserved);
    expect(msrSupport).toHaveLength(MSRS.length);
    expect(msrSupport.filter((s) => s.support === 'no').every((s) => (s.note ?? '').length > 10)).toBe(true);
  });

  it.each(named(served))('%s: access as declared', (_name, row) => {
    const r = new Rig();
    const value = row.reset ?? 0n;
    expect(r.rdmsr(r.context(), row.index) !== null).toBe(row.access !== HvAccess.WriteOnly);
    expect(r.wrmsr(r.context(), row.index, value)).toBe(row.access !== HvAccess.ReadOnly);
  });

  it.each(named(served.filter((m) => m.access !== HvAccess.WriteOnly)))('%s: value after reset', (name, row) => {
    const r = new Rig();
    const volatile: readonly string[] = ['TscFrequency', 'ApicFrequency', 'GuestCrashCtl'];
    if (!volatile.includes(name)) expect(r.rdmsr(r.context(0, 1), row.index)).toBe(row.reset ?? 0n);
  });

  it.each(named(MSRS.filter((m) => m.privilege !== undefined)))('%s: #GP without its privilege', (_name, row) => {
    const r = new Rig(1, { withhold: [row.privilege!] });
    expect([r.rdmsr(r.context(), row.index), r.wrmsr(r.context(), row.index, row.reset ?? 0n)]).toEqual([null, false]);
    expect([r.chapters.msrs.read(r.context(), row.index), r.chapters.msrs.write(r.context(), row.index, row.reset ?? 0n)]).toEqual([null, false]);
  });

  it.each([0x4000_0004, 0x4000_0041, 0x4000_00b8, 0x4000_01ff, ...unserved.map((name) => HvMsr[name])])('0x%x: #GP when there is no such register', (index) => {
    const r = new Rig();
    expect([r.rdmsr(r.context(), index), r.wrmsr(r.context(), index, 0)]).toEqual([null, false]);
  });

  it.each<[HvMsrName, bigint, boolean]>([
    ['NpiepConfig', 0xfn, true],
    ['NpiepConfig', 0x10n, false],
    ['Tpr', 0x100n, false],
    ['TscEmulationStatus', 2n, false],
    ['ReenlightenmentControl', 0xffff_ffff_ffff_ffffn, true],
  ])('%s: a write of %s', (name, value, legal) => {
    const r = new Rig();
    expect(r.wrmsr(r.context(), HvMsr[name], value)).toBe(legal);
    expect(r.rdmsr(r.context(), HvMsr[name])).toBe(legal ? value : 0n);
  });
});

describe('instances', () => {
  /** What the four (VP, VTL) see after VTL1 of VP 0 wrote 1. */
  const seen = (name: HvMsrName): readonly (bigint | null)[] => {
    const r = new Rig(2);
    r.wrmsr(r.context(0, 1), HvMsr[name], 1);
    return [[0, 0], [0, 1], [1, 0], [1, 1]].map(([vp, vtl]) => r.rdmsr(r.context(vp, vtl), HvMsr[name]));
  };
  it.each<[HvMsrName, readonly bigint[]]>([
    ['NpiepConfig', [0n, 1n, 0n, 0n]],
    ['Scontrol', [0n, 1n, 0n, 0n]],
    ['Stimer3Config', [0n, 0n, 0n, 0n]],
    ['Stimer3Count', [0n, 1n, 0n, 0n]],
    ['ReferenceTsc', [0n, 1n, 0n, 1n]],
    ['TscEmulationControl', [1n, 1n, 1n, 1n]],
    ['GuestCrashP2', [1n, 1n, 1n, 1n]],
  ])('of %s', (name, values) => expect(seen(name)).toEqual(values));

  it('number the VPs alike in every VTL', () => {
    const r = new Rig(2);
    expect([[0, 0], [0, 1], [1, 0], [1, 1]].map(([vp, vtl]) => r.rdmsr(r.context(vp, vtl), HvMsr.VpIndex))).toEqual([0n, 0n, 1n, 1n]);
  });
});

describe('the local APIC by synthetic MSR', () => {
  it('ends interrupts, whatever the upper half says', () => {
    const r = new Rig();
    r.apic(r.context()).acceptVector(0x40, false);
    r.take(r.context());
    expect(r.wrmsr(r.context(), HvMsr.Eoi, 0xffff_ffff_0000_0000n)).toBe(true);
    expect(r.apic(r.context()).highestIsr()).toBe(-1);
  });

  it('sets the task priority of its VTL', () => {
    const r = new Rig();
    r.wrmsr(r.context(0, 1), HvMsr.Tpr, 0x45);
    expect([r.apic(r.context(0, 1)).tpr, r.apic(r.context()).tpr, r.rdmsr(r.context(0, 1), HvMsr.Tpr)]).toEqual([0x45, 0, 0x45n]);
  });

  it.each(['xAPIC', 'x2APIC'])('sends interrupts inside its VTL in %s mode', (mode) => {
    const r = new Rig(2);
    const c = r.context(0, 1);
    if (mode === 'x2APIC') for (const vp of [0, 1]) expect(writeMsr(r.apic(r.context(vp, 1)), 0x1b, 0xfee0_0c00 | (vp === 0 ? 0x100 : 0), 0)).toBe(true);
    const destination = mode === 'x2APIC' ? 1n : 1n << 24n;
    const command = (destination << 32n) | BigInt(encodeIcr({ vector: 0x77, mode: DeliveryMode.fixed }));
    expect(r.wrmsr(c, HvMsr.Icr, command)).toBe(true);
    expect([r.apic(r.context(1, 1)).highestIrr(), r.apic(r.context(1, 0)).highestIrr()]).toEqual([0x77, -1]);
    expect(r.rdmsr(c, HvMsr.Icr)).toBe(command);
    const out = new Uint32Array(2);
    if (mode === 'x2APIC') expect([readMsr(r.apic(c), 0x830, out), out[1]]).toEqual([true, 1]);
    expect(r.apic(c).block.get(ApicReg.icr)).toBe(Number(command & 0xffff_ffffn));
  });

  it('faults where the APIC is disabled', () => {
    const r = new Rig();
    writeMsr(r.apic(r.context()), 0x1b, 0xfee0_0100, 0);
    expect(r.wrmsr(r.context(), HvMsr.Icr, 0x4040)).toBe(false);
  });
});

describe('reset', () => {
  it('is asked for by bit 0 alone', () => {
    const r = new Rig();
    expect([r.wrmsr(r.context(), HvMsr.Reset, 2), r.resets]).toEqual([true, 0]);
    expect([r.wrmsr(r.context(0, 1), HvMsr.Reset, 1), r.resets]).toEqual([true, 1]);
    expect(r.rdmsr(r.context(), HvMsr.Reset)).toBe(0n);
  });
});

describe('crash registers', () => {
  const NOTIFY = 1n << 63n;
  const MESSAGE = 1n << 62n;
  const control = (r: Rig, value: bigint, vtl = 0): GuestCrashPayload | string => {
    const answer = r.chapters.msrs.access(r.context(0, vtl), { kind: 'msr', key: HvMsr.GuestCrashCtl, write: true, lo: Number(value & 0xffff_ffffn), hi: Number(value >> 32n) });
    return answer.kind === 'exit' ? (answer.payload as GuestCrashPayload) : answer.kind;
  };

  it('say what can be notified', () => {
    const r = new Rig();
    expect(r.rdmsr(r.context(), HvMsr.GuestCrashCtl)).toBe(NOTIFY | MESSAGE);
  });

  it('notify the VMM with parameters and the VTL that wrote', () => {
    const r = new Rig();
    for (let n = 0; n < 5; n++) r.wrmsr(r.context(), HvMsr.GuestCrashP0 + n, 0x10 + n);
    expect(control(r, 1n << 61n)).toBe('resume');
    const crash = control(r, NOTIFY | (1n << 61n) | (3n << 58n), 1);
    expect(crash).toMatchObject({ kind: 'guestCrash', vp: 0, vtl: 1, parameters: [0x10n, 0x11n, 0x12n, 0x13n, 0x14n], noCrashDump: true, preOsId: 3, message: '' });
    expect((crash as GuestCrashPayload).text).toBe(
      ['guest crash reported by VTL1 of VP 0, before the operating system (environment 3), without a dump', ...[0x10, 0x11, 0x12, 0x13, 0x14].map((p, n) => `  P${n} 0x${p.toString(16).padStart(16, '0')}`)].join('\n'),
    );
    expect(structuredClone(crash)).toEqual(crash);
  });

  it('carry a message, made safe for a terminal', () => {
    const r = new Rig();
    const text = new TextEncoder().encode('panic:\r\n\u001b[2Jgone\0rest');
    r.machine.memory.access.write(r.machine.memory.subjects[0]!.host, 0x3000, text, 0, text.length);
    r.wrmsr(r.context(), HvMsr.GuestCrashP3, 0x3000);
    r.wrmsr(r.context(), HvMsr.GuestCrashP4, text.length);
    expect(control(r, NOTIFY | MESSAGE)).toMatchObject({ message: 'panic:\n.[2Jgone' });
  });

  it.each<[string, bigint, bigint]>([
    ['an address outside memory', 0x7000_0000n, 16n],
    ['an address wider than any', 2n ** 64n - 1n, 16n],
    ['an endless length', 0x3f000n + 0x800n, 2n ** 64n - 1n],
  ])('give no message for %s', (_what, address, length) => {
    const r = new Rig();
    r.wrmsr(r.context(), HvMsr.GuestCrashP3, address);
    r.wrmsr(r.context(), HvMsr.GuestCrashP4, length);
    expect(control(r, NOTIFY | MESSAGE)).toMatchObject({ message: '' });
  });
});

it('writes are noted in traces; values survive a restore', () => {
  const r = new Rig();
  const notes: unknown[] = [];
  const nothing = (): void => {};
  r.machine.hooks.trace = { entered: nothing, exit: nothing, answer: nothing, switched: nothing, accepted: nothing, vmExit: nothing, input: nothing, permission: nothing, note: (c, name, data) => void notes.push([c.plane, name, data]) };
  r.wrmsr(r.context(0, 1), HvMsr.NpiepConfig, 5);
  r.rdmsr(r.context(0, 1), HvMsr.NpiepConfig);
  expect(notes).toEqual([[1, 'hv-msr', { name: 'NpiepConfig', value: 5n }]]);
  r.wrmsr(r.context(), HvMsr.GuestCrashP1, 77);
  const c = r.copy();
  expect([c.rdmsr(c.context(0, 1), HvMsr.NpiepConfig), c.rdmsr(c.context(0, 0), HvMsr.GuestCrashP1), msrOf(HvMsr.NpiepConfig)!.name]).toEqual([5n, 77n, 'NpiepConfig']);
  for (const chapter of c.stateful) chapter.reset();
  expect(c.save()).toEqual(new Rig().save());
});
