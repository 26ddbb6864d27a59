import { DirtyFlag, DirtyRing, type GuestMemory, HOST, HostError, Right } from '@vmplanes/engine';
import { beforeEach, describe, expect, it } from 'vitest';
import { memoryOf, PAGE } from './fixture.ts';

let memory: GuestMemory;
const bits = new Uint32Array(2);
const write = (plane: number, page: number, kind: 'cpu' | 'walk' | 'call' | 'device' = 'cpu'): void => {
  expect(memory.access.writeU8(memory.subjects[plane]![kind], page * PAGE, 1)).toBe(0);
};

beforeEach(() => {
  memory = memoryOf({ frames: 200 }).memory;
  memory.addSlot({ id: 7, gpa: 0, size: 40 * PAGE, logDirty: true });
  memory.addSlot({ id: 8, gpa: 64 * PAGE, size: 8 * PAGE });
});

describe('dirty bitmap', () => {
  it('holds the written pages of a logging slot until it is collected', () => {
    write(0, 1);
    write(1, 33, 'device');
    memory.access.writeU16(HOST, 3 * PAGE - 1, 0x1122);
    memory.access.readU8(HOST, 9 * PAGE);
    write(0, 64);
    expect(memory.dirty.collect(7, bits)).toBe(4);
    expect([...bits]).toEqual([0b1110, 0b10]);
    expect(memory.dirty.collect(7, bits)).toBe(0);
    expect([...bits]).toEqual([0, 0]);
  });

  it('can be looked at, and cleared in part', () => {
    for (const page of [0, 5, 32, 39]) write(0, page);
    memory.dirty.peek(7, bits);
    expect([...bits]).toEqual([0b100001, 0b10000001]);
    memory.dirty.clear(7, Uint32Array.of(0b10000001), 32, 8);
    memory.dirty.clear(7, Uint32Array.of(0b100), 0, 32);
    memory.dirty.peek(7, bits);
    expect([...bits]).toEqual([0b100001, 0]);
    expect(memory.dirty.collect(7, bits, 0, 32)).toBe(2);
  });

  it('does not see writes to overlays, which are no pages of the slot', () => {
    const frame = memory.frames.allocate();
    memory.placeOverlay(1, 2, frame, Right.Write);
    write(1, 2);
    expect(memory.dirty.collect(7, bits)).toBe(0);
  });

  it.each([
    ['no slot', () => memory.dirty.collect(99, bits)],
    ['a slot that does not log', () => memory.dirty.collect(8, bits)],
    ['half a word', () => memory.dirty.collect(7, bits, 16, 16)],
    ['a ragged end', () => memory.dirty.collect(7, bits, 0, 33)],
    ['pages beyond the end', () => memory.dirty.clear(7, bits, 32, 9)],
    ['nothing', () => memory.dirty.clear(7, bits, 0, 0)],
  ])('refuses %s', (_name, act) => expect(act).toThrow(HostError));

  it('starts clean each time logging starts, and is gone when it stops', () => {
    write(0, 1);
    memory.logDirty(7, true);
    memory.dirty.peek(7, bits);
    expect(bits[0]).toBe(2);
    memory.logDirty(7, false);
    expect(() => memory.dirty.peek(7, bits)).toThrow(HostError);
    memory.logDirty(7, true);
    memory.dirty.peek(7, bits);
    expect(bits[0]).toBe(0);
  });

  it('keeps write out of cached translations of clean pages', () => {
    const { cpu } = memory.subjects[0]!;
    memory.access.fill(cpu, 1, Right.Read);
    expect(memory.access.fillRights & Right.Write).toBe(0);
    memory.access.fill(cpu, 1, Right.Write);
    expect(memory.access.fillRights & Right.Write).toBe(Right.Write);
    memory.dirty.peek(7, bits);
    expect(bits[0]).toBe(2);
    memory.access.fill(cpu, 1, Right.Read);
    expect(memory.access.fillRights & Right.Write).toBe(Right.Write);
    const revoked: number[][] = [];
    memory.observe({ permissionsChanged: () => {}, translationsRevoked: (...a) => revoked.push(a), frameRevoked: () => {} });
    memory.dirty.collect(7, bits);
    expect(revoked).toEqual([[-1, 0, 40, Right.Write]]);
  });
});

// @spec Linux Documentation/virt/kvm/api.rst KVM_CAP_DIRTY_LOG_RING
describe('dirty ring', () => {
  it('is one per VP for all its planes, and takes a page once until it is reset', () => {
    const ring = memory.dirty.addRing(2, 8, 2);
    memory.dirty.currentVp = 2;
    write(0, 3);
    write(1, 3);
    write(3, 4, 'call');
    write(1, 5, 'walk');
    write(0, 6, 'device');
    memory.access.writeU8(HOST, 7 * PAGE, 1);
    memory.dirty.currentVp = 1;
    write(0, 9);
    expect([...ring.entries.subarray(0, 16)]).toEqual([1, 7, 3, 0, 1, 7, 4, 0, 1, 7, 5, 0, 0, 0, 0, 0]);
    memory.dirty.peek(7, bits);
    expect(bits[0]).toBe(0b1011111000);
    expect(memory.dirty.ring(1)).toBeNull();
    expect(memory.dirty.isRingFull(1)).toBe(false);
  });

  it('is full at its soft limit, keeps the reserve, and loses nothing after that', () => {
    const ring = memory.dirty.addRing(0, 4, 1);
    memory.dirty.currentVp = 0;
    for (let page = 0; page < 3; page++) {
      expect(memory.dirty.isRingFull(0)).toBe(false);
      write(0, page);
    }
    expect(memory.dirty.isRingFull(0)).toBe(true);
    write(0, 3);
    write(0, 4);
    expect(ring.used).toBe(4);
    memory.dirty.peek(7, bits);
    expect(bits[0]).toBe(0b11111);
  });

  it('frees collected entries only, oldest first, and sees their pages again', () => {
    const ring = memory.dirty.addRing(0, 4, 0);
    memory.dirty.currentVp = 0;
    for (let page = 0; page < 4; page++) write(0, page);
    expect(memory.dirty.resetRings()).toBe(0);
    ring.entries[0]! |= DirtyFlag.Reset;
    ring.entries[8]! |= DirtyFlag.Reset;
    expect(memory.dirty.resetRings()).toBe(1);
    expect(ring.isFull).toBe(false);
    write(0, 1);
    expect(ring.used).toBe(3);
    write(0, 0);
    expect(ring.used).toBe(4);
    const pages: number[] = [];
    expect(ring.collect((slot, page) => pages.push(slot, page))).toBe(3);
    expect(pages).toEqual([7, 1, 7, 3, 7, 0]);
    expect(ring.collect(() => {})).toBe(0);
    expect(memory.dirty.resetRings()).toBe(4);
    expect(ring.used).toBe(0);
    memory.dirty.peek(7, bits);
    expect(bits[0]).toBe(0);
  });

  it('forgets pages of slots that are gone', () => {
    const ring = memory.dirty.addRing(0, 4, 0);
    memory.dirty.currentVp = 0;
    write(0, 1);
    memory.removeSlot(7);
    ring.collect(() => {});
    expect(memory.dirty.resetRings()).toBe(1);
  });

  it.each([
    [0, 0],
    [3, 0],
    [-4, 0],
    [4, 4],
    [4, -1],
  ])('refuses %d entries with %d in reserve', (size, reserve) => expect(() => new DirtyRing(size, reserve)).toThrow(HostError));

  it('is given once per VP', () => {
    memory.dirty.addRing(0, 4, 0);
    expect(() => memory.dirty.addRing(0, 4, 0)).toThrow(HostError);
  });
});
