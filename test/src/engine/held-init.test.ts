import { Activity, type Answer, type PlaneContext, type WaitCondition } from '@vmplanes/engine';
import { ApicEvent } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { calls, type Rig, rigOf } from './rig.ts';

const waiting = (condition: WaitCondition, rip: 'held' | 'advanced' = 'held', vp = 0): Rig => {
  const on = (c: PlaneContext): Answer => c.vp.replies.wait(condition, rip);
  const guests = [{ 0: [{ op: 'work' }, { op: 'hlt' }] }, { 0: [{ op: 'work' }, { op: 'hlt' }] }] as const;
  return rigOf({ claims: calls, on, guests: guests.map((g, i) => (i === vp ? { 0: [{ op: 'call' }, { op: 'work' }] } : g)) });
};

describe('SDM 3A §10.1: INIT resets a processor whatever it waits for', () => {
  it.each([
    ['a key', { kind: 'key', key: 'never' }],
    ['a time', { kind: 'time', at: 2 ** 40 }],
  ] as const)('a plane held for %s', (_what, condition) => {
    const rig = waiting(condition);
    const context = rig.vps[0]!.context;
    rig.run(2);
    expect(context.activity).toBe(Activity.Held);
    rig.set(0, 0, 'rip', 0x1234n);
    rig.arch.apicOf(context).accept(5, 0, true, false);
    rig.run(2);
    // The reset boot processor is at its first instruction again, and makes the call once more.
    expect(rig.get(0, 0, 'rip')).toBe(0xfff0n);
    expect([context.activity, context.wait]).toEqual([Activity.Held, condition]);
    expect(rig.arch.apicOf(context).latches.isPending(ApicEvent.init)).toBe(false);
  });

  it('an application processor waits for its start signal afterwards, and no longer for its condition', () => {
    const rig = waiting({ kind: 'key', key: 'never' }, 'held', 1);
    const context = rig.vps[1]!.context;
    expect(rig.kind()).toBe('idle');
    rig.arch.apicOf(context).accept(5, 0, true, false);
    expect(rig.kind()).toBe('idle');
    expect([context.activity, context.wait]).toEqual([Activity.WaitForSipi, null]);
  });

  it('any other event does not end the wait', () => {
    const rig = waiting({ kind: 'key', key: 'never' });
    const context = rig.vps[0]!.context;
    expect(rig.kind()).toBe('idle');
    rig.nmi(0, 0);
    rig.msi(0, 0, 0x40);
    expect(rig.kind()).toBe('idle');
    expect(context.activity).toBe(Activity.Held);
  });
});

describe('a restore that fails half-way', () => {
  const make = (): Rig => rigOf({ claims: calls, guests: [{ 0: [{ op: 'work' }, { op: 'hlt' }] }] });
  const bad = { code: 'BadState', message: expect.stringContaining('failed half-way') as string };

  it('leaves a machine that refuses to run and to be saved, until a restore succeeds', () => {
    const rig = make();
    const good = structuredClone(rig.machine.snapshot());
    const broken = structuredClone(good);
    // The register block fits and the events do not.
    Object.assign(broken.vps[0]!.planes[0]!, { events: { version: 99 } });
    expect(() => rig.machine.restore(broken)).toThrow(expect.objectContaining({ code: 'BadSnapshot' }));
    expect(() => rig.machine.run()).toThrow(expect.objectContaining(bad));
    expect(() => rig.machine.runVp(rig.vps[0]!)).toThrow(expect.objectContaining(bad));
    expect(() => rig.machine.snapshot()).toThrow(expect.objectContaining(bad));
    rig.machine.restore(good);
    expect(rig.kind()).toBe('idle');
  });

  it('one that is refused by its checks changes nothing', () => {
    const rig = make();
    expect(() => rig.machine.restore({ ...rig.machine.snapshot(), version: 99 })).toThrow(expect.objectContaining({ code: 'BadSnapshot' }));
    expect(rig.kind()).toBe('idle');
  });
});
