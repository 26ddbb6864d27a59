import { HvMsr, type HvMsrName, MSRS } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { Rig } from './fixture.ts';

/** Values that registers of the interface can have, by name; `n` tells the four VTLs of the rig apart. */
const VALUES: Partial<Record<HvMsrName, (n: number) => bigint>> = {
  GuestOsId: (n) => 0x8100_0000_0000_0000n + BigInt(n), Hypercall: (n) => 0x2_0000n + BigInt(0x1000 * n), ReferenceTsc: (n) => 0x2_0ffen + BigInt(0x1000 * n), NpiepConfig: (n) => BigInt(n + 1), Tpr: (n) => BigInt(0x10 * (n + 1)), VpAssistPage: (n) => 0x2_0ffen + BigInt(0x1000 * n),
  Scontrol: (n) => BigInt(n & 1), Siefp: (n) => 0x2_0ffen + BigInt(0x1000 * n), Simp: (n) => 0x2_0ffen + BigInt(0x1000 * n),
  ...Object.fromEntries(Array.from({ length: 16 }, (_, s) => [`Sint${s}`, (n: number) => BigInt(0x20 + 4 * s + n) | 0x1_0000n])),
  ...Object.fromEntries(Array.from({ length: 4 }, (_, t) => [[`Stimer${t}Config`, (n: number) => BigInt(0x200 + 16 * (4 * t + n))], [`Stimer${t}Count`, (n: number) => BigInt(100 + 10 * t + n)]]).flat()),
  ...Object.fromEntries(Array.from({ length: 5 }, (_, p) => [`GuestCrashP${p}`, (n: number) => 0x1234_5678_9abc_0000n + BigInt(16 * p + n)])),
  ReenlightenmentControl: (n) => BigInt(0x1_0030 + n) | (BigInt(n) << 32n), TscEmulationControl: (n) => BigInt(n & 1), TscEmulationStatus: (n) => BigInt(n & 1),
};
const PRIVATE = ['NpiepConfig', 'Tpr', 'VpAssistPage', 'Scontrol', 'Siefp', 'Simp', ...Array.from({ length: 16 }, (_, n) => `Sint${n}`), ...Array.from({ length: 4 }, (_, n) => [`Stimer${n}Config`, `Stimer${n}Count`]).flat()];
const BY_VTL = ['GuestOsId', 'Hypercall', 'ReferenceTsc'];

describe('instances of synthetic MSRs', () => {
  it('are those of their scope: each VTL of each VP, each VTL, or one', () => {
    const r = new Rig(2);
    const places = [[0, 0], [0, 1], [1, 0], [1, 1]] as const;
    const names = Object.keys(VALUES) as HvMsrName[];
    for (const [n, [vp, vtl]] of places.entries()) for (const name of names) expect(r.wrmsr(r.context(vp, vtl), HvMsr[name], VALUES[name]!(n)), `${name} ${n}`).toBe(true);
    for (const name of names) {
      const seen = places.map(([vp, vtl]) => r.rdmsr(r.context(vp, vtl), HvMsr[name]));
      const value = VALUES[name]!;
      expect(seen, name).toEqual(PRIVATE.includes(name) ? [0, 1, 2, 3].map(value) : BY_VTL.includes(name) ? [2, 3, 2, 3].map(value) : [3, 3, 3, 3].map(value));
    }
    // All of it is state.
    const copy = r.copy();
    expect(copy.save()).toEqual(r.save());
    for (const name of names) expect(places.map(([vp, vtl]) => copy.rdmsr(copy.context(vp, vtl), HvMsr[name])), name).toEqual(places.map(([vp, vtl]) => r.rdmsr(r.context(vp, vtl), HvMsr[name])));
    for (const chapter of r.stateful) chapter.reset();
    const fresh = new Rig(2);
    for (const { index, name } of MSRS) if (!['Tpr', 'TimeRefCount', 'VpRuntime', 'GuestIdle'].includes(name)) expect(places.map(([vp, vtl]) => r.rdmsr(r.context(vp, vtl), index)), name).toEqual(places.map(([vp, vtl]) => fresh.rdmsr(fresh.context(vp, vtl), index)));
  });
  it('read as the specification says after reset', () => {
    const r = new Rig(2);
    const c = r.context(1, 1);
    const expected: Partial<Record<HvMsrName, bigint | null>> = { VpIndex: 1n, Sversion: 1n, Reset: 0n, Eom: 0n, Scontrol: 0n, Simp: 0n, Siefp: 0n, VpAssistPage: 0n, GuestOsId: 0n, Hypercall: 0n, Eoi: null, Sirbp: null, StimeUnhaltedTimerConfig: null, StatsVpRetailPage: null, SyntheticDebugControl: null, GuestCrashCtl: 1n << 63n | 1n << 62n };
    for (const [name, value] of Object.entries(expected)) expect(r.rdmsr(c, HvMsr[name as HvMsrName]), name).toBe(value);
    for (let n = 0; n < 16; n++) expect(r.rdmsr(c, 0x4000_0090 + n)).toBe(0x1_0000n);
    for (const name of ['VpIndex', 'VpRuntime', 'TimeRefCount', 'TscFrequency', 'ApicFrequency', 'Sversion', 'GuestIdle', 'Sirbp', 'DebugDeviceOptions'] as const) expect(r.wrmsr(c, HvMsr[name], 0), name).toBe(false);
    for (const index of [0x3fff_ffff, 0x4000_0004, 0x4000_0086, 0x4000_00a0, 0x4000_00b8, 0x4000_01ff]) expect([r.rdmsr(c, index), r.wrmsr(c, index, 0)], index.toString(16)).toEqual([null, false]);
  });
  it('that are refused are #GP with code 0; others go on', () => {
    const r = new Rig();
    const c = r.context();
    const access = (key: number, write: boolean, lo = 0, hi = 0) => r.chapters.msrs.access(c, { kind: 'msr', key, write, lo, hi });
    const refused = { kind: 'fault', fault: { code: 13, errorCode: 0 } };
    expect([access(0x4000_0004, false), access(0x4000_0002, true), access(0x4000_0070, false)]).toMatchObject([refused, refused, refused]);
    expect([access(0x4000_0002, false).kind, access(0x4000_0070, true, 7, 9).kind, access(0x4000_0000, true, 0x1234_5678, 0x8100_9abc).kind, r.rdmsr(c, 0x4000_0000)]).toEqual(['resume', 'resume', 'resume', 0x8100_9abc_1234_5678n]);
    expect([access(0x4000_0003, true, 2).kind, r.resets, access(0x4000_0003, true, 1).kind, r.resets, access(0x4000_0003, false).kind]).toEqual(['resume', 0, 'resume', 1, 'resume']);
    r.wrmsr(c, 0x4000_0103, 0);
    expect([access(0x4000_0105, true, 1).kind, access(0x4000_0105, true, 0, 0x8000_0000)]).toMatchObject(['resume', { kind: 'exit', payload: { kind: 'guestCrash', vp: 0, vtl: 0 } }]);
    expect([access(0x4000_00f0, false).kind, access(0x4000_00f0, true)]).toMatchObject(['wait', refused]);
  });
  it('with reserved bits are #GP where they must be zero', () => {
    const r = new Rig();
    const c = r.context();
    for (const [name, bit] of [['NpiepConfig', 4], ['NpiepConfig', 63], ['Tpr', 8], ['Tpr', 63], ['TscEmulationControl', 1], ['TscEmulationStatus', 1]] as const) expect(r.wrmsr(c, HvMsr[name], 1n << BigInt(bit)), name).toBe(false);
    for (const [name, bit] of [['Scontrol', 1], ['Scontrol', 63], ['ReenlightenmentControl', 20], ['Stimer0Config', 63], ['Simp', 5]] as const) expect(r.wrmsr(c, HvMsr[name], 1n << BigInt(bit)), name).toBe(true);
    for (const vector of [0, 1, 15]) expect([r.wrmsr(c, HvMsr.Sint5, vector), r.wrmsr(c, HvMsr.Sint5, 0x1_0000 | vector)]).toEqual([false, true]);
    expect([r.wrmsr(c, HvMsr.Sint5, 16), r.wrmsr(c, HvMsr.Sint5, 255)]).toEqual([true, true]);
  });
  it.each([
    ['accessHypercallMsrs', ['GuestOsId', 'Hypercall']], ['accessVpIndex', ['VpIndex']], ['accessResetReg', ['Reset']], ['accessVpRunTimeReg', ['VpRuntime']], ['accessPartitionReferenceCounter', ['TimeRefCount']], ['accessPartitionReferenceTsc', ['ReferenceTsc']],
    ['accessFrequencyRegs', ['TscFrequency', 'ApicFrequency']], ['accessIntrCtrlRegs', ['Icr', 'Tpr', 'VpAssistPage']], ['accessSynicRegs', ['Scontrol', 'Sversion', 'Siefp', 'Simp', 'Eom', 'Sint0', 'Sint15']], ['accessSyntheticTimerRegs', ['Stimer0Config', 'Stimer0Count', 'Stimer3Config', 'Stimer3Count']],
    ['accessReenlightenmentControls', ['ReenlightenmentControl', 'TscEmulationControl', 'TscEmulationStatus']],
  ] as const)('without %s are not there', (privilege, names) => {
    const r = new Rig(1, { withhold: [privilege] });
    for (const name of names) expect([r.rdmsr(r.context(), HvMsr[name]), r.wrmsr(r.context(), HvMsr[name], 0)], name).toEqual([null, false]);
    expect(r.rdmsr(r.context(), HvMsr.NpiepConfig)).toBe(0n);
  });
});
