import { AccessResult, auditMemory, type GuestMemory, HOST, HostError, Right, type Subject, type WatchAnswer } from '@vmplanes/engine';
import { beforeEach, describe, expect, it } from 'vitest';
import { memoryOf, PAGE, pattern } from './fixture.ts';

const { Ok, Denied, Held } = AccessResult;

class Guard {
  answer: WatchAnswer = 'allow';
  seen: [number, number][] = [];
  then: (() => void) | null = null;
  accessed(_frame: number, subject: Subject, access: number): WatchAnswer {
    this.seen.push([subject.kind, access]);
    this.then?.();
    return this.answer;
  }
}

let memory: GuestMemory;
let guard: Guard;
let other: Guard;
let frame: number;

beforeEach(() => {
  memory = memoryOf().memory;
  memory.addSlot({ id: 0, gpa: 0, size: 8 * PAGE, logDirty: true });
  guard = new Guard();
  other = new Guard();
  memory.registerWatcher('guard', guard);
  memory.registerWatcher('other', other);
  frame = memory.frameAt(2);
});

describe('frame watches', () => {
  it.each([
    ['read', { read: true }, [Right.Read, Right.ExecUser]],
    ['write', { write: true }, [Right.Write]],
    ['both', { read: true, write: true }, [Right.Read, Right.Write, Right.ExecUser]],
  ])('of kind %s see these accesses of cpu, walk, call and device', (_name, kinds, expected) => {
    memory.watchFrame(frame, kinds, 'guard');
    for (const who of ['cpu', 'walk', 'call', 'device'] as const) {
      const s = memory.subjects[1]![who];
      guard.seen = [];
      memory.access.readU8(s, 2 * PAGE + 9);
      memory.access.writeU8(s, 2 * PAGE + 9, 1);
      memory.access.fetch(s, 2 * PAGE, new Uint8Array(4), 0, 4, Right.ExecUser);
      memory.access.readU8(s, 3 * PAGE);
      expect(guard.seen).toEqual(expected.map((right) => [s.kind, right]));
    }
    guard.seen = [];
    memory.access.writeU8(HOST, 2 * PAGE, 1);
    memory.access.readU8(memory.subjects[0]!.host, 2 * PAGE);
    expect(guard.seen).toEqual([]);
  });

  it('hold an access before it has any effect, and let it pass later', () => {
    memory.watchFrame(frame, { write: true }, 'guard');
    guard.answer = 'hold';
    const { access, subjects } = memory;
    expect(access.write(subjects[0]!.cpu, 2 * PAGE - 4, pattern(8), 0, 8)).toBe(Held);
    expect(access.failedGpa).toBe(2 * PAGE);
    expect(memory.watches.heldBy).toBe('guard');
    access.readU32(HOST, 2 * PAGE - 4);
    expect(access.lo).toBe(0);
    const dirty = new Uint32Array(1);
    expect(memory.dirty.collect(0, dirty)).toBe(0);
    guard.answer = 'allow';
    expect(access.write(subjects[0]!.cpu, 2 * PAGE - 4, pattern(8), 0, 8)).toBe(Ok);
    expect(memory.dirty.collect(0, dirty)).toBe(2);
  });

  it('are not told of an access that permissions refuse, on any of its pages', () => {
    memory.watchFrame(frame, { read: true, write: true }, 'guard');
    memory.permissions[0]!.set(3, 1, 0);
    expect(memory.access.read(memory.subjects[0]!.cpu, 3 * PAGE - 2, new Uint8Array(4), 0, 4)).toBe(Denied);
    expect(memory.access.check(memory.subjects[0]!.cpu, 2 * PAGE, 4, Right.Write)).toBe(Ok);
    expect(guard.seen).toEqual([]);
  });

  it('may change the frame and the permissions; the access sees the change', () => {
    memory.watchFrame(frame, { read: true, write: true }, 'guard');
    guard.then = () => void memory.access.writeU32(HOST, 2 * PAGE, 0xcafe);
    memory.access.readU32(memory.subjects[0]!.cpu, 2 * PAGE);
    expect(memory.access.lo).toBe(0xcafe);
    guard.then = () => void memory.permissions[0]!.set(1, 1, Right.Read);
    expect(memory.access.write(memory.subjects[0]!.cpu, 2 * PAGE - 2, pattern(4), 0, 4)).toBe(Denied);
    expect(memory.access.failedGpa).toBe(2 * PAGE - 2);
  });

  it('of several owners count, each for itself', () => {
    memory.watchFrame(frame, { write: true }, 'guard');
    memory.watchFrame(frame, { write: true }, 'guard');
    memory.watchFrame(frame, { write: true }, 'other');
    const touch = (): number[] => {
      guard.seen = [];
      other.seen = [];
      memory.access.writeU8(memory.subjects[0]!.cpu, 2 * PAGE, 1);
      return [guard.seen.length, other.seen.length];
    };
    expect(touch()).toEqual([1, 1]);
    expect(memory.unwatchFrame(frame, { write: true }, 'guard')).toBe(true);
    expect(touch()).toEqual([1, 1]);
    expect(memory.unwatchFrame(frame, { read: true }, 'guard')).toBe(false);
    expect(memory.unwatchFrame(frame, { write: true }, 'guard')).toBe(true);
    expect(touch()).toEqual([0, 1]);
    expect(memory.unwatchFrame(frame, { write: true }, 'guard')).toBe(false);
    expect(memory.unwatchFrame(frame, { write: true }, 'other')).toBe(true);
    expect(touch()).toEqual([0, 0]);
  });

  it('guard the frame by whatever page and plane it is reached, and keep it', () => {
    memory.watchFrame(frame, { write: true }, 'guard');
    memory.placeOverlay(3, 0x900, frame, Right.Read | Right.Write);
    memory.access.writeU8(memory.subjects[3]!.cpu, 0x900 * PAGE, 1);
    expect(guard.seen.length).toBe(1);
    memory.takeOverlay(3, 0x900);
    memory.removeSlot(0);
    expect(memory.frames.isHeld(frame)).toBe(true);
    expect(auditMemory(memory)).toEqual([]);
    memory.unwatchFrame(frame, { write: true }, 'guard');
    expect(memory.frames.isHeld(frame)).toBe(false);
  });

  it('tell of host accesses when asked to, without holding them', () => {
    memory.watchFrame(frame, { write: true, host: true }, 'guard');
    guard.answer = 'hold';
    expect(memory.access.writeU8(HOST, 2 * PAGE, 1)).toBe(Ok);
    expect(guard.seen.length).toBe(1);
  });

  it('take their rights out of cached translations, old ones included', () => {
    const revoked: number[][] = [];
    memory.observe({ permissionsChanged: () => {}, translationsRevoked: () => {}, frameRevoked: (...a) => revoked.push(a) });
    memory.watchFrame(frame, { read: true }, 'guard');
    expect(revoked).toEqual([[frame, memory.watches.guarded(frame)]]);
    expect(memory.access.fill(memory.subjects[0]!.cpu, 2, Right.Write)).toBe(Ok);
    expect(memory.access.fillRights).toBe(Right.Write);
    memory.watchFrame(frame, { write: true }, 'other');
    memory.access.fill(memory.subjects[0]!.cpu, 2, Right.Write);
    expect(memory.access.fillRights).toBe(0);
    expect(guard.seen).toEqual([]);
  });

  it('refuse misuse by name', () => {
    expect(() => memory.watchFrame(frame, { read: true }, 'nobody')).toThrow(HostError);
    expect(() => memory.watchFrame(frame, {}, 'guard')).toThrow(HostError);
    expect(() => memory.watchFrame(50, { read: true }, 'guard')).toThrow(HostError);
    expect(() => memory.registerWatcher('guard', guard)).toThrow(HostError);
  });
});
