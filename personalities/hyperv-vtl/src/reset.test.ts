import { HvMsr, HvRegister } from '@vmplanes/abi-hyperv';
import { StateHash } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { assistPage, type Code, contextInput, enableVtl, hypercalls, Page, protectInput, setRegister, slow, synic, vtlCall, vtlReturn, Vtls } from './vsm-fixture.ts';

/** Dirties everything a guest can, then asks for a reset. */
const busy = (zero: boolean, ask: () => Code<void>): Vtls => {
  const g = new Vtls(2);
  g.run([[
    function* () {
      yield* hypercalls(0);
      yield* assistPage(0);
      yield* synic(0, 0x41);
      yield { op: 'write', gpa: Page.Data, value: 0x55 };
      yield { op: 'wrmsr', index: HvMsr.Stimer0Count, value: 1_000_000 };
      yield* enableVtl(0, 1);
      yield* vtlCall();
    },
    function* () {
      yield* hypercalls(1);
      yield* assistPage(1);
      yield* synic(1, 0x40);
      yield* slow(1, 0x0f, contextInput(1, { vp: 1 }));
      yield* setRegister(1, HvRegister.VsmVina, 0x360n);
      yield* setRegister(1, HvRegister.CrInterceptControl, 0x1000n);
      yield* setRegister(1, HvRegister.VsmPartitionConfig, zero ? 0x3fn : 0x1fn);
      yield* slow(1, 0x0c, protectInput(1, 0, [Page.Data >>> 12]), 1);
      yield* setRegister(1, HvRegister.VsmVpSecureConfigVtl0, 2n);
      yield* setRegister(1, HvRegister.PendingEvent0, 1n | (6n << 16n), 0x10);
      yield* setRegister(1, HvRegister.DeliverabilityNotifications, 3n, 0x10);
      g.arch.apicOf(g.context(0, 0)).latches.accept(1);
      g.arch.apicOf(g.context(1, 0)).latches.accept(1);
      yield* ask();
    },
  ]]);
  return g;
};
/** Everything that is state, but for what only counts. */
const stateOf = (g: Vtls): unknown => {
  const hash = new StateHash();
  g.machine.memory.hashInto(hash);
  return {
    hv: g.hv.save(),
    memory: [hash.lo, hash.hi],
    vps: g.machine.vps.map((vp) => ({
      existing: vp.existing, runnable: vp.runnable, current: vp.current, asked: vp.asked, pending: vp.pending,
      block: g.machine.arena.u8.slice(vp.plane(0).base, vp.plane(0).base + g.machine.arch.layout.size), activity: vp.plane(0).activity,
    })),
  };
};
/** A machine as it is created, before any guest. */
const fresh = (): Vtls => {
  const g = new Vtls(2);
  for (const vp of g.machine.vps) g.machine.restartVp(vp, 'powerOn');
  return g;
};

describe('partition reset', () => {
  it('of a machine that cannot be reset ends it by name, and changes nothing', () => {
    const g = new Vtls(2);
    g.machine.addPersonality({ name: 'hidden', stateName: 'hidden', stateVersion: 1, claims: [], handle: () => null, refusesReset: (c) => (c.vp.index === 1 ? 'its registers are hidden' : null), save: () => null, restore: () => {} });
    const before = stateOf(g);
    expect(g.hv.resetPartition(g.machine.vp(0).context)).toMatchObject({ kind: 'exit', payload: { kind: 'resetRefused', vp: 0, vtl: 0, text: 'its registers are hidden' } });
    expect(stateOf(g)).toEqual(before);
  });
  it.each([
    ['by the RESET MSR', function* (): Code<void> { yield { op: 'wrmsr', index: HvMsr.Reset, value: 1 }; }],
    ['by a triple fault of VTL1', function* (): Code<void> { yield { op: 'shutdown' }; }],
  ] as const)('%s leaves what creation makes, field by field', (_what, ask) => {
    const g = busy(true, ask);
    expect(g.machine.vp(0).exit).toMatchObject({ kind: 'reset', vp: 0, vtl: 1, memoryZeroed: true });
    expect(stateOf(g)).toEqual(stateOf(fresh()));
    expect([g.hv.chapters.vsm.enabledVtls, g.bytes(0, Page.Data, 1)[0]]).toEqual([1, 0]);
  });

  it('keeps memory when no enabled VTL wants it zeroed', () => {
    const g = busy(false, function* () { yield { op: 'wrmsr', index: HvMsr.Reset, value: 1 }; });
    expect(g.machine.vp(0).exit).toMatchObject({ memoryZeroed: false });
    expect(g.bytes(0, Page.Data, 1)[0]).toBe(0x55);
  });

  it('lets the partition do it all again', () => {
    const g = busy(true, function* () { yield { op: 'wrmsr', index: HvMsr.Reset, value: 1 }; });
    for (const vp of g.machine.vps) g.enterLongMode(vp.plane(0));
    const seen: unknown[] = [];
    g.run([[
      function* () { yield* hypercalls(0); seen.push(yield* enableVtl(0, 1)); yield* vtlCall(); seen.push('back'); },
      function* () { yield* hypercalls(1); yield* assistPage(1); yield* vtlReturn(); },
    ]]);
    expect(seen).toEqual([[0, 0], 'back']);
  });
});

describe('a snapshot', () => {
  it('with VTL1 enabled, protected and running goes on as the first machine does', () => {
    const script = function* (g: Vtls): Code<void> {
      yield* hypercalls(1);
      yield* synic(1, 0x40);
      yield* setRegister(1, HvRegister.VsmPartitionConfig, 0x1fn);
      yield* slow(1, 0x0c, protectInput(1, 0, [Page.Data >>> 12]), 1);
      yield* setRegister(1, HvRegister.VsmVina, 0x360n);
      expect(g.machine.vps.length).toBe(1);
    };
    const first = new Vtls(1);
    first.run([[function* () { yield* hypercalls(0); yield* enableVtl(0, 1); yield* vtlCall(); }, () => script(first)]]);
    const saved = structuredClone(first.machine.snapshot());
    const second = new Vtls(1);
    second.run([[function* () {}, function* () {}]]);
    const parts = saved.components['hyperv-vtl']!;
    second.machine.createPlane(second.machine.vp(0), 1 as never);
    second.machine.memory.restore(saved.memory);
    second.hv.restore(parts.state);
    expect(second.hv.save()).toEqual(first.hv.save());
    expect(second.machine.memory.effectiveRights(0, Page.Data >>> 12) & 0xf).toBe(1);
  });
});
