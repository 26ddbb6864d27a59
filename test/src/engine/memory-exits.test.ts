import { Activity, type CpuExit, type Subject, watchKey } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { calls, payloadOf, rigOf } from './rig.ts';

const hlt = { op: 'hlt' } as const;

describe('guest memory and the run loop', () => {
  it('an access to a guarded frame waits with its instruction held, and is made once its watcher releases it', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'write', gpa: 0x1008, value: 7 }, hlt] }] });
    const { memory } = rig.machine;
    memory.addSlot({ id: 0, gpa: 0, size: 8192 });
    let holds = true;
    const seen: number[] = [];
    memory.registerWatcher('save area', { accessed: (_frame: number, subject: Subject) => { seen.push(subject.plane); return holds ? 'hold' : 'allow'; } });
    memory.watchFrame(memory.frameAt(1), { write: true }, 'save area');
    const rip = rig.get(0, 0, 'rip');
    expect(rig.kind()).toBe('idle');
    expect([rig.vps[0]!.context.activity, rig.get(0, 0, 'rip') - rip]).toEqual([Activity.Held, 0n]);
    expect(rig.kind()).toBe('idle');
    expect(seen).toEqual([0]);
    // A snapshot of the waiting machine waits, too.
    expect(rig.machine.snapshot().vps[0]!.planes[0]!.wait).toEqual({ kind: 'key', key: watchKey('save area') });
    holds = false;
    rig.machine.release(watchKey('save area'));
    expect(rig.kind()).toBe('idle');
    expect(seen).toEqual([0, 0]);
    memory.access.readU64(memory.subjects[0]!.host, 0x1008);
    expect(memory.access.lo).toBe(7);
    expect(rig.get(0, 0, 'rip') - rip).toBe(2n);
  });

  it('a released key is taken back by the next hold: a watcher that holds again is waited for again', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'write', gpa: 0x1000, value: 1 }, { op: 'write', gpa: 0x1008, value: 2 }, hlt] }] });
    const { memory } = rig.machine;
    memory.addSlot({ id: 0, gpa: 0, size: 8192 });
    let calls = 0;
    memory.registerWatcher('w', { accessed: () => (calls++ % 2 === 0 ? 'hold' : 'allow') });
    memory.watchFrame(memory.frameAt(1), { write: true }, 'w');
    rig.run();
    rig.machine.release(watchKey('w'));
    rig.run();
    expect([rig.vps[0]!.context.activity, calls]).toEqual([Activity.Held, 3]);
    rig.machine.release(watchKey('w'));
    rig.run();
    expect([rig.vps[0]!.context.activity, calls]).toEqual([Activity.Halted, 4]);
  });

  it('a full dirty ring leaves to the VMM before the next instruction, for all planes of the VP and no other (Linux api.rst KVM_EXIT_DIRTY_RING_FULL)', () => {
    const writes = [0, 1, 2, 3, 4, 5].map((page) => ({ op: 'write', gpa: page * 4096, value: 1 }) as const);
    const rig = rigOf({ options: { quantum: 1 }, guests: [{ 0: [...writes, hlt] }, { 0: [hlt] }] });
    const { memory } = rig.machine;
    memory.addSlot({ id: 0, gpa: 0, size: 6 * 4096, logDirty: true });
    memory.dirty.addRing(0, 4, 1);
    expect(rig.kind(40)).toBe('exit');
    expect(payloadOf(rig.vps[0]!)).toEqual({ kind: 'dirtyRingFull' });
    const { retired } = rig.vps[0]!;
    expect(rig.kind(40)).toBe('exit');
    expect(rig.vps[0]!.retired).toBe(retired);
    expect(memory.dirty.isRingFull(1)).toBe(false);
  });

  it('a claimant may leave an exit to the architecture', () => {
    const seen: string[] = [];
    const rig = rigOf({ claims: [...calls, { exit: 'msr', from: 0x10, to: 0x20 }], on: (_c, exit: CpuExit) => { seen.push(exit.kind); return null; }, guests: [{ 0: [{ op: 'wrmsr', index: 0x10, value: 0 }, { op: 'call' }, hlt] }] });
    expect(rig.kind()).toBe('idle');
    expect(seen).toEqual(['msr', 'call']);
    expect(rig.vps[0]!.statistics.faults).toBe(1);
  });
});
