import { Right } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { Rig } from './fixture.ts';
import type { OverlayKind } from './ports.ts';

const R = Right.Read;
const W = Right.Write;
const X = Right.ExecSupervisor | Right.ExecUser;

describe('overlay pages', () => {
  it.each<[OverlayKind, number]>([
    ['hypercall', R | X],
    ['assist', R | W],
    ['simp', R | W],
    ['siefp', R | W],
    ['tsc', R],
  ])('%s pages give their own rights', (kind, rights) => {
    const r = new Rig();
    expect(r.chapters.overlays.place(kind, 0, 1, 5)).toBeGreaterThan(0);
    expect(r.machine.memory.effectiveRights(1, 5)).toBe(rights);
    expect(r.chapters.overlays.isOverlay(1, 5)).toBe(true);
  });

  it('are private to their VTL and uncover the page under them', () => {
    const r = new Rig();
    r.store(0, 0x5000, 0x1111);
    const at = r.chapters.overlays.place('simp', 0, 1, 5);
    r.machine.arena.u32[at >>> 2] = 0x2222;
    expect([r.page(0, 5).getUint32(0, true), r.page(1, 5).getUint32(0, true)]).toEqual([0x1111, 0x2222]);
    expect(r.chapters.overlays.isOverlay(0, 5)).toBe(false);
    r.chapters.overlays.place('simp', 0, 1, null);
    expect(r.page(1, 5).getUint32(0, true)).toBe(0x1111);
  });

  it('keep their content when they move and while they lie nowhere', () => {
    const r = new Rig();
    const { overlays } = r.chapters;
    const at = overlays.place('assist', 0, 0, 5);
    r.store(0, 0x5008, 77);
    expect(overlays.place('assist', 0, 0, null)).toBe(at);
    expect(overlays.place('assist', 0, 0, 9)).toBe(at);
    expect([r.page(0, 5).getUint32(8, true), r.page(0, 9).getUint32(8, true)]).toEqual([0, 77]);
  });

  it('of partition-wide kinds are one for all VPs, the others one each', () => {
    const { overlays } = new Rig(2).chapters;
    expect(overlays.frameByte('hypercall', 0, 0)).toBe(overlays.frameByte('hypercall', 1, 0));
    expect(overlays.frameByte('tsc', 0, 0)).not.toBe(overlays.frameByte('tsc', 0, 1));
    expect(overlays.frameByte('simp', 0, 0)).not.toBe(overlays.frameByte('simp', 1, 0));
  });

  it('of two VPs may name one page: it stays covered until both are gone', () => {
    const r = new Rig(2);
    const { overlays } = r.chapters;
    const first = overlays.place('simp', 0, 0, 5);
    const second = overlays.place('simp', 1, 0, 5);
    expect(second).not.toBe(first);
    r.machine.arena.u8[first] = 1;
    r.machine.arena.u8[second] = 2;
    expect(r.page(0, 5).getUint8(0)).toBe(1);
    overlays.place('simp', 0, 0, null);
    expect(r.page(0, 5).getUint8(0)).toBe(2);
    overlays.place('simp', 1, 0, null);
    expect(overlays.isOverlay(0, 5)).toBe(false);
    expect(r.machine.memory.effectiveRights(0, 5) & (R | W)).toBe(R | W);
  });

  it('of several kinds at one page appear in the order they were placed', () => {
    const r = new Rig();
    const { overlays } = r.chapters;
    overlays.place('tsc', 0, 0, 5);
    overlays.place('assist', 0, 0, 5);
    overlays.place('siefp', 0, 0, 5);
    expect(r.machine.memory.effectiveRights(0, 5)).toBe(R);
    overlays.place('assist', 0, 0, 6);
    overlays.place('tsc', 0, 0, null);
    expect(r.machine.memory.effectiveRights(0, 5)).toBe(R | W);
    overlays.place('siefp', 0, 0, null);
    expect([overlays.isOverlay(0, 5), overlays.isOverlay(0, 6)]).toEqual([false, true]);
  });

  it('cannot be placed beyond the address space, and stay where they are then', () => {
    const r = new Rig();
    r.chapters.overlays.place('assist', 0, 0, 5);
    expect(r.chapters.overlays.place('assist', 0, 0, 2 ** 34)).toBe(-1);
    expect(r.chapters.overlays.isOverlay(0, 5)).toBe(true);
  });

  it('cannot be placed without memory', () => {
    const r = new Rig();
    while (r.machine.memory.frames.allocate() >= 0);
    expect(r.chapters.overlays.place('assist', 0, 0, 5)).toBe(-1);
    expect(r.chapters.overlays.isOverlay(0, 5)).toBe(false);
  });

  it('are all gone after a reset, with their frames', () => {
    const r = new Rig(2);
    const { free } = r.machine.memory.frames;
    const at = r.chapters.overlays.place('simp', 0, 0, 5);
    r.machine.arena.u8[at] = 9;
    r.chapters.overlays.place('simp', 1, 0, 5);
    r.chapters.overlays.frameByte('siefp', 1, 1);
    expect(r.machine.memory.frames.free).toBe(free - 3);
    r.chapters.overlays.reset();
    expect([r.machine.memory.frames.free, r.chapters.overlays.isOverlay(0, 5)]).toEqual([free, false]);
    expect(r.machine.arena.u8[r.chapters.overlays.place('simp', 0, 0, 5)]).toBe(0);
  });

  it('are restored with owners, order and content', () => {
    const r = new Rig(2);
    const place = (vp: number): number => r.chapters.overlays.place('simp', vp, 0, 5);
    r.machine.arena.u8[place(0)] = 1;
    r.machine.arena.u8[place(1)] = 2;
    r.machine.arena.u8[r.chapters.overlays.frameByte('siefp', 0, 1)] = 3;
    const c = r.copy();
    expect(c.save()).toEqual(r.save());
    expect(c.page(0, 5).getUint8(0)).toBe(1);
    c.chapters.overlays.place('simp', 0, 0, null);
    expect(c.page(0, 5).getUint8(0)).toBe(2);
    expect(c.machine.arena.u8[c.chapters.overlays.place('siefp', 0, 1, 7)]).toBe(3);
    expect(c.save()).not.toEqual(r.save());
  });
});
