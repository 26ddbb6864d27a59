import { Outcome, PlaneId, Schedule } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { calls, type Rig, rigOf } from './rig.ts';

const call = { op: 'call' } as const;
const hlt = { op: 'hlt' } as const;
const work = { op: 'work' } as const;

/** What must not tell a restarted VP from a new one. */
const stateOf = (rig: Rig, vp: number): unknown => {
  const { planes, ...fields } = rig.vps[vp]!;
  const { existing, runnable, current, named, pending, asked, suspended } = fields;
  const block = rig.machine.arena.u8.slice(planes[0]!.base, planes[0]!.base + rig.machine.arch.layout.size);
  return { existing, runnable, current, named, pending, asked, suspended, count: planes.filter((p) => p !== null).length, activity: planes[0]!.activity, block };
};

describe('an exit that its claimant leaves alone', () => {
  it('is answered as without the claim', () => {
    const rig = rigOf({ claims: [...calls, { exit: 'memoryFault', from: 0, to: 0 }], on: () => null, guests: [{ 0: [call] }] });
    rig.machine.memory.addSlot({ id: 0, gpa: 0, size: 0x1000 });
    rig.machine.memory.permissions[0]!.set(0, 1, 0);
    rig.run(1);
    expect(rig.vps[0]!.statistics.faults).toBe(1);
    const other = rigOf({ claims: [{ exit: 'memoryFault', from: 0, to: 0 }], on: () => null, guests: [{ 0: [{ op: 'read', gpa: 0x10 }] }] });
    other.machine.memory.addSlot({ id: 0, gpa: 0, size: 0x1000 });
    other.machine.memory.permissions[0]!.set(0, 1, 0);
    const rip = other.get(0, 0, 'rip');
    expect(other.run()).toMatchObject({ kind: 'exit', vp: { exit: { kind: 'memoryFault' } } });
    expect(other.get(0, 0, 'rip')).toBe(rip);
  });
});

describe('a suspended VP', () => {
  it('runs nothing, not even a plane with an event, and goes on later', () => {
    const rig = rigOf({ guests: [{ 0: [work, work, hlt], 1: [hlt] }] });
    const vp = rig.vps[0]!;
    vp.suspended = true;
    rig.msi(0, 1, 0x40);
    expect(rig.machine.runVp(vp)).toBe(Outcome.Blocked);
    expect(vp.retired).toBe(0);
    vp.suspended = false;
    rig.run(2);
    expect(vp.retired).toBeGreaterThan(0);
    expect(rig.switches[0]).toContain('0>1 event');
  });

  it('stays so in a snapshot', () => {
    const rig = rigOf({ guests: [{ 0: [work] }] });
    rig.vps[0]!.suspended = true;
    const saved = rig.machine.snapshot();
    rig.vps[0]!.suspended = false;
    rig.machine.restore(saved);
    expect(rig.vps[0]!.suspended).toBe(true);
  });
});

describe('a plane that is taken away', () => {
  it('receives nothing, is in no mask, and can be created again fresh', () => {
    const rig = rigOf({ guests: [{ 0: [hlt], 1: [hlt] }] });
    const vp = rig.vps[0]!;
    rig.set(0, 1, 'rsp', 0x77n);
    rig.msi(0, 1, 0x40);
    expect(vp.pending).toBe(2);
    rig.machine.removePlane(vp, PlaneId(1));
    expect([vp.existing, vp.runnable, vp.pending]).toEqual([1, 1, 0]);
    expect(rig.msi(0, 1, 0x41)).toBeLessThan(1);
    rig.machine.createPlane(vp, PlaneId(1));
    expect(rig.get(0, 1, 'rsp')).toBe(0n);
    expect(vp.plane(1).events.requested()).toBe(false);
    rig.run(4);
  });

  it.each([0, 1])('is not the current one, nor plane 0 (%i)', (plane) => {
    const rig = rigOf({ policy: 'userspace', guests: [{ 0: [hlt], 1: [hlt] }] });
    rig.vps[0]!.named = 1;
    rig.run();
    expect(() => rig.machine.removePlane(rig.vps[0]!, PlaneId(plane))).toThrow(/cannot be taken away/);
  });
});

describe('a restarted VP', () => {
  it.each([0, 1])('equals a new one, also when plane %i asks for it in its run', (plane) => {
    const rig = rigOf({
      claims: calls,
      on: ({ vp }) => {
        for (const each of rig.vps) rig.machine.restartVp(each, 'powerOn');
        return vp.replies.exit({ kind: 'restarted' });
      },
      guests: [plane === 0 ? { 0: [call], 1: [hlt] } : { 0: [work, work], 1: [call] }, { 0: [work], 1: [hlt] }],
    });
    rig.set(0, 0, 'r9', 5n);
    rig.msi(1, 1, 0x40);
    rig.arch.apicOf(rig.vps[1]!.plane(0)).latches.accept(1);
    if (plane === 1) rig.vps[0]!.setSchedule(rig.vps[0]!.plane(1), Schedule.Runnable);
    expect(rig.run()).toMatchObject({ kind: 'exit' });
    const fresh = rigOf({ guests: [{ 0: [] }, { 0: [] }] });
    for (const vp of fresh.vps) fresh.machine.restartVp(vp, 'powerOn');
    for (const vp of [0, 1]) expect(stateOf(rig, vp)).toEqual(stateOf(fresh, vp));
    expect(rig.vps[0]!.running).toBe(-1);
  });

  it('gets nothing that was on its way to it', () => {
    const rig = rigOf({
      claims: calls,
      on: ({ vp }) => {
        rig.msi(1, 0, 0x40);
        rig.machine.restartVp(rig.vps[1]!, 'powerOn');
        rig.arch.apicOf(rig.vps[1]!.plane(0)).writeSvr(0x1ff);
        rig.msi(1, 0, 0x41);
        return vp.replies.resume();
      },
      guests: [{ 0: [call, hlt] }, { 0: [hlt] }],
    });
    rig.run(1);
    const apic = rig.arch.apicOf(rig.vps[1]!.plane(0));
    expect([0x40, 0x41].map((vector) => apic.block.test(0x200, vector))).toEqual([false, true]);
  });
});

describe('a reset that a personality refuses', () => {
  it('is an error by name, and nothing has changed', () => {
    const rig = rigOf({ guests: [{ 0: [hlt], 1: [] }] });
    rig.run(1);
    const seen: string[] = [];
    rig.machine.addPersonality({ name: 'strict', stateName: 'strict', stateVersion: 1, claims: [], handle: () => null, refusesReset: (c, kind) => (seen.push(`${c.plane} ${kind}`), kind === 'powerOn' ? 'not here' : null), save: () => null, restore: () => {} });
    const before = structuredClone(rig.machine.snapshot());
    const vp = rig.vps[0]!;
    for (const reset of [() => rig.machine.resetPlane(vp.plane(1), 'powerOn'), () => rig.machine.restartVp(vp, 'powerOn')]) expect(reset).toThrow(expect.objectContaining({ code: 'BadState', message: expect.stringContaining('(powerOn): not here') }));
    expect(rig.machine.snapshot()).toEqual(before);
    rig.machine.resetPlane(vp.plane(1), 'init');
    expect(seen).toEqual(['1 powerOn', '0 powerOn', '1 init']);
  });
});

describe('a filter of messages', () => {
  it('counts when a message arrives, too', () => {
    const rig = rigOf({
      claims: calls,
      on: ({ vp }) => {
        rig.msi(1, 0, 0x40);
        rig.arch.fabric.filter = (to) => to !== 1;
        return vp.replies.resume();
      },
      guests: [{ 0: [call, hlt] }, { 0: [hlt] }],
    });
    rig.run(2);
    expect(rig.arch.apicOf(rig.vps[1]!.plane(0)).irrNonEmpty()).toBe(false);
  });
});
