import { type Completion, HostError, Schedule } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { calls, generator, payloadOf, rigOf, risingPlanes } from './rig.ts';

const call = { op: 'call' } as const;
const hlt = { op: 'hlt' } as const;

describe('answers of a handler', () => {
  it('resume: goes on behind the instruction', () => {
    const seen: bigint[] = [];
    const rig = rigOf({ claims: calls, on: (c) => c.vp.replies.resume(), guests: [{ 0: generator('g', function* () { seen.push((yield call).rax); yield { op: 'work' }; }) }] });
    const rip = rig.get(0, 0, 'rip');
    expect(rig.kind()).toBe('idle');
    expect(seen).toEqual([0n]);
    expect(rig.get(0, 0, 'rip') - rip).toBe(2n);
    expect(rig.vps[0]!.context.retired).toBe(3);
  });

  it('fault: the guest gets the fault with its error code and address, and the instruction has no other effect (SDM 3A §6.15)', () => {
    const faults: unknown[] = [];
    const rig = rigOf({
      claims: calls,
      on: (c) => c.vp.replies.fault(14, 6, 0x1234, 0xffff8000),
      guests: [{ 0: generator('g', function* () { faults.push((yield call).fault); faults.push((yield { op: 'work' }).fault); }) }],
    });
    const rip = rig.get(0, 0, 'rip');
    rig.run();
    expect(faults).toEqual([{ vector: 14, errorCode: 6, address: 0xffff8000_00001234n }, null]);
    expect(rig.get(0, 0, 'rip') - rip).toBe(1n);
    expect(rig.vps[0]!.statistics.faults).toBe(1);
    // The page-fault address is in CR2 once the fault is delivered. @spec SDM 3A §6.15
    expect(rig.get(0, 0, 'cr2')).toBe(0xffff8000_00001234n);
  });

  it.each([['stopped', Schedule.Stopped], ['runnable', Schedule.Runnable]] as const)('switch with leave %s: the instruction retires, the plane that is left is %s', (leave, schedule) => {
    const rig = rigOf({ claims: calls, on: (c) => c.vp.replies.switchTo(1, 'call', leave), guests: [{ 0: [call], 1: [hlt] }] });
    const rip = rig.get(0, 0, 'rip');
    rig.run(1);
    expect(rig.switches[0]).toEqual(['0>1 call']);
    expect(rig.get(0, 0, 'rip') - rip).toBe(1n);
    expect(rig.vps[0]!.plane(0).schedule).toBe(schedule);
    expect(rig.vps[0]!.plane(1).schedule).toBe(Schedule.Runnable);
    expect(rig.vps[0]!.current).toBe(1);
  });

  it('switch under lowest-runnable to a higher id that leaves itself runnable: the policy keeps the lower plane (LKML 20260608 47/60)', () => {
    const rig = rigOf({ policy: 'lowest-runnable', claims: calls, on: (c) => c.vp.replies.switchTo(1, 'call', 'runnable'), guests: [{ 0: [call, hlt], 1: [hlt] }] });
    expect(rig.kind()).toBe('idle');
    expect(rig.switches[0]).toEqual([]);
    expect(rig.vps[0]!.plane(1).schedule).toBe(Schedule.Runnable);
  });

  it.each(['held', 'advanced'] as const)('wait for a time, RIP %s', (rip) => {
    let asked = 0;
    const at: number[] = [];
    const rig = rigOf({
      claims: calls,
      on: (c) => {
        at.push(rig.machine.timeOf(c.vp));
        return asked++ === 0 ? c.vp.replies.wait({ kind: 'time', at: 1234 }, rip) : c.vp.replies.resume();
      },
      guests: [{ 0: generator('g', function* () { yield call; yield { op: 'work' }; at.push(rig.machine.timeOf(rig.vps[0]!)); }) }],
    });
    rig.run();
    expect(asked).toBe(rip === 'held' ? 2 : 1);
    // The plane goes on at the very tick, wherever the slices end; the next instruction then takes one tick.
    expect(at).toEqual(rip === 'held' ? [1, 1235, 1236] : [1, 1235]);
  });

  it('wait for a key: held until released, even when the release came first', () => {
    const rig = rigOf({ claims: calls, on: (c) => (c.vp.statistics.wakes === 0 ? c.vp.replies.wait({ kind: 'key', key: 'k' }) : c.vp.replies.resume()), guests: [{ 0: [call, { op: 'mov', to: 'cr8', value: 3 }] }] });
    const { machine } = rig;
    expect(rig.kind()).toBe('idle');
    expect(rig.arch.apicOf(rig.vps[0]!.context).cr8).toBe(0);
    machine.release('other');
    expect(rig.kind()).toBe('idle');
    machine.release('k');
    expect(rig.kind()).toBe('idle');
    expect(rig.arch.apicOf(rig.vps[0]!.context).cr8).toBe(3);

    const early = rigOf({ claims: calls, on: (c) => (c.vp.statistics.wakes === 0 ? c.vp.replies.wait({ kind: 'key', key: 'k' }) : c.vp.replies.resume()), guests: [{ 0: [call, { op: 'mov', to: 'cr8', value: 3 }] }] });
    early.machine.release('k');
    early.run();
    expect(early.arch.apicOf(early.vps[0]!.context).cr8).toBe(3);
    early.machine.hold('k');
    expect(early.machine.isMet(early.vps[0]!.context, { kind: 'key', key: 'k' })).toBe(false);
  });

  it('wait for a plane to be left: met unless that plane runs', () => {
    const rig = rigOf({ guests: [{ 0: [hlt] }, { 0: [hlt] }] });
    const context = rig.vps[0]!.context;
    rig.vps[1]!.running = 0;
    expect(rig.machine.isMet(context, { kind: 'left', vp: 1, plane: 0 })).toBe(false);
    expect(rig.machine.isMet(context, { kind: 'left', vp: 1, plane: 1 })).toBe(true);
    rig.vps[1]!.running = -1;
    expect(rig.machine.isMet(context, { kind: 'left', vp: 1, plane: 0 })).toBe(true);
    expect(rig.machine.isMet(context, { kind: 'left', vp: 9, plane: 0 })).toBe(true);
  });

  it('retry: runs the same instruction again', () => {
    let n = 0;
    const rig = rigOf({ claims: calls, on: (c) => (n++ < 3 ? c.vp.replies.retry() : c.vp.replies.resume()), guests: [{ 0: [call] }] });
    const rip = rig.get(0, 0, 'rip');
    rig.run();
    expect(n).toBe(4);
    expect(rig.get(0, 0, 'rip') - rip).toBe(1n);
  });

  it('exit without completion: the instruction is done, no reply is wanted', () => {
    const rig = rigOf({ claims: calls, on: (c) => c.vp.replies.exit({ kind: 'hello' }), guests: [{ 0: [call, { op: 'work' }] }] });
    const rip = rig.get(0, 0, 'rip');
    expect(rig.run()).toEqual({ kind: 'exit', vp: rig.vps[0] });
    expect(payloadOf(rig.vps[0]!)).toEqual({ kind: 'hello' });
    expect(rig.get(0, 0, 'rip') - rip).toBe(1n);
    expect(() => rig.machine.reply(rig.vps[0]!.context, {})).toThrow(expect.objectContaining({ code: 'BadState' }));
    expect(rig.kind()).toBe('idle');
    expect(rig.vps[0]!.statistics.vmExits).toBe(1);
  });

  it('a completion may answer: work left in a plane is done when that plane is current, and may switch back before any instruction', () => {
    const served: string[] = [];
    const rig = rigOf({
      claims: calls,
      on: (c) => {
        c.vp.plane(1).completion = { owner: 'puppet', kind: 'serve', data: {}, reply: {} };
        return c.vp.replies.switchTo(1, 'call');
      },
      complete: (context) => {
        served.push(`plane ${context.plane} at ${context.vp.retired}`);
        return context.vp.replies.switchTo(0, 'return');
      },
      guests: [{ 0: [call, call], 1: [{ op: 'shutdown' }] }],
    });
    expect(rig.kind()).toBe('idle');
    expect(served).toEqual(['plane 1 at 1', 'plane 1 at 2']);
    expect(rig.switches[0]).toEqual(['0>1 call', '1>0 return', '0>1 call', '1>0 return']);
    expect(rig.vps[0]!.plane(1).retired).toBe(0);
  });

  it('a held plane finishes its work when its wait is over', () => {
    const at: number[] = [];
    const rig = rigOf({
      claims: calls,
      on: (c) => {
        c.completion = { owner: 'puppet', kind: 'later', data: {}, reply: {} };
        return c.vp.replies.wait({ kind: 'time', at: 5_000 }, 'advanced');
      },
      complete: (context) => void at.push(rig.machine.timeOf(context.vp)),
      guests: [{ 0: [call, { op: 'work' }] }],
    });
    expect(rig.kind()).toBe('idle');
    expect(at).toEqual([5_000]);
    expect(rig.vps[0]!.context.completion).toBeNull();
  });

  it('exit with completion: the owner finishes it with the reply, before the next instruction', () => {
    const done: Completion[] = [];
    const rig = rigOf({
      claims: calls,
      on: (c) => c.vp.replies.exit({ kind: 'ask' }, { owner: 'puppet', kind: 'later', data: { n: 7 }, reply: null }),
      complete: (context, completion) => {
        done.push(structuredClone(completion));
        rig.arch.retire(context);
      },
      guests: [{ 0: [call, { op: 'mov', to: 'cr8', value: 1 }] }],
    });
    const rip = rig.get(0, 0, 'rip');
    expect(rig.kind()).toBe('exit');
    expect(rig.get(0, 0, 'rip')).toBe(rip);
    rig.machine.reply(rig.vps[0]!.context, { answer: 42 });
    expect(rig.kind()).toBe('idle');
    expect(done).toEqual([{ owner: 'puppet', kind: 'later', data: { n: 7 }, reply: { answer: 42 } }]);
    expect(rig.get(0, 0, 'rip') - rip).toBe(2n);
    expect(rig.vps[0]!.context.completion).toBeNull();
  });

  it('a run before the reply is an error of the VMM, and leaves a machine that works', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'in', port: 0x60 }, { op: 'mov', to: 'cr8', value: 1 }] }, { 0: [hlt] }] });
    expect(rig.kind()).toBe('exit');
    expect(() => rig.run()).toThrow(expect.objectContaining({ code: 'BadState' }));
    // Messages from outside still arrive at once: no VP is taken for the active one.
    expect(rig.machine.activeVp).toBe(-1);
    expect(rig.msi(1, 0, 0x41)).toBe(1);
    expect(rig.arch.apicOf(rig.vps[1]!.context).highestIrr()).toBe(0x41);
    rig.machine.reply(rig.vps[0]!.context, { value: 5 });
    expect(rig.kind()).toBe('idle');
    expect(rig.arch.apicOf(rig.vps[0]!.context).cr8).toBe(1);
  });

  it('pending I/O: another plane runs between an exit and its reply; the data reach the plane that asked (LKML 20250401 22/29)', () => {
    const rig = rigOf({ policy: 'userspace', guests: [{ 0: [{ op: 'read', gpa: 0x9000_0000, size: 4 }, hlt], 1: [{ op: 'read', gpa: 0xa000_0000, size: 4 }, hlt] }] });
    const vp = rig.vps[0]!;
    expect(rig.kind()).toBe('exit');
    vp.named = 1;
    expect(rig.kind()).toBe('exit');
    rig.machine.reply(vp.plane(0), { lo: 0x1111 });
    rig.machine.reply(vp.plane(1), { lo: 0x2222 });
    rig.run();
    expect([rig.get(0, 0, 'rax'), rig.get(0, 1, 'rax')]).toEqual([0n, 0x2222n]);
    vp.named = 0;
    rig.run();
    expect([rig.get(0, 0, 'rax'), rig.get(0, 1, 'rax')]).toEqual([0x1111n, 0x2222n]);
  });

  it('a claimed halt: the handler decides, the instruction has retired already', () => {
    const rig = rigOf({ claims: [{ exit: 'halt', from: 0, to: 0 }], on: (c) => c.vp.replies.exit({ kind: 'halted' }), guests: [{ 0: [hlt, { op: 'work' }, { op: 'work' }] }] });
    const rip = rig.get(0, 0, 'rip');
    expect(rig.kind()).toBe('exit');
    expect(rig.get(0, 0, 'rip') - rip).toBe(1n);
    expect(rig.vps[0]!.statistics.halts).toBe(0);
  });

  it('a plane event answered with resume lets the plane go on', () => {
    let asked = 0;
    const rig = rigOf({
      policy: 'userspace',
      claims: calls,
      planeEvent: (vp) => {
        asked++;
        return vp.replies.resume();
      },
      guests: [{ 0: [{ op: 'mov', to: 'cr8', value: 5 }], 1: [hlt] }],
    });
    rig.vps[0]!.asked = 2;
    rig.msi(0, 1, 0x50);
    rig.run(2);
    expect(asked).toBeGreaterThan(0);
    expect(rig.arch.apicOf(rig.vps[0]!.plane(0)).cr8).toBe(5);
  });

  it('a plane event answered with a switch needs no VMM', () => {
    const rig = rigOf({
      policy: 'userspace',
      meaning: risingPlanes,
      claims: calls,
      planeEvent: (vp, pending, target) => {
        expect([pending, target]).toEqual([2, 2]);
        return vp.replies.switchTo(1, 'interrupt', 'runnable');
      },
      guests: [{ 0: [{ op: 'work', cost: 10 }, { op: 'work', cost: 10 }], 1: [{ op: 'sti' }, hlt] }],
    });
    rig.vps[0]!.asked = 2;
    rig.run(1);
    rig.msi(0, 1, 0x50);
    expect(rig.kind()).toBe('idle');
    expect(rig.switches[0]).toEqual(['0>1 interrupt']);
    expect(rig.arch.apicOf(rig.vps[0]!.plane(1)).highestIrr()).toBe(-1);
  });

  it('a switch to a plane that does not exist is an error of the handler, not of the guest', () => {
    const rig = rigOf({ claims: calls, on: (c) => c.vp.replies.switchTo(3, 'call'), guests: [{ 0: [call] }] });
    expect(() => rig.run()).toThrow(HostError);
    expect(rig.vps[0]!.running).toBe(-1);
    expect(rig.machine.activeVp).toBe(-1);
  });
});
