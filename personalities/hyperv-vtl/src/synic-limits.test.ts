import { describe, expect, it } from 'vitest';
import { Rig } from './fixture.ts';

const SCONTROL = 0x4000_0080, SIEFP = 0x4000_0082, SIMP = 0x4000_0083, EOM = 0x4000_0084, SINT0 = 0x4000_0090;
const MESSAGES = 4, FLAGS = 5;
const PARAMETER = 5, SYNIC_STATE = 0x18;
const rig = (): Rig => {
  const r = new Rig(2);
  for (const vp of [0, 1]) for (const vtl of [0, 1]) for (const [index, value] of [[SCONTROL, 1], [SIMP, MESSAGES * 4096 + 1], [SIEFP, FLAGS * 4096 + 1]] as const) if (vp === 1 || index === SCONTROL) r.wrmsr(r.context(vp, vtl), index, value);
  for (let n = 0; n < 16; n++) r.wrmsr(r.context(1, 1), SINT0 + n, 0x30 + 2 * n);
  return r;
};
const message = (type: number, fill = 0xee): Uint8Array => {
  const bytes = new Uint8Array(256).fill(fill);
  new DataView(bytes.buffer).setUint32(0, type, true);
  return bytes;
};
const slot = (r: Rig, n: number): Uint8Array => new Uint8Array(r.page(1, MESSAGES).buffer).slice(256 * n, 256 * n + 256);

describe('message slots', () => {
  it.each([0, 1, 7, 15])('SINT %i has its own 256 bytes and its vector', (n) => {
    const r = rig();
    const c = r.context(1, 1);
    expect(r.chapters.synic.post(c, n, message(0x1234_5678), false)).toBe('delivered');
    const expected = message(0x1234_5678);
    // The pending bit of the flags is the hypervisor's.
    expected[5] = 0xee & ~1;
    expect([slot(r, n), [n - 1, n + 1].filter((k) => k >= 0 && k < 16).every((k) => slot(r, k).every((b) => b === 0)), r.take(c)]).toEqual([expected, true, 0x30 + 2 * n]);
    expect([r.chapters.synic.post(c, 16, message(1), false), r.chapters.synic.post(r.context(1, 0), n, message(1), false)]).toEqual(['unavailable', 'unavailable']);
  });
  it('in use are marked, and freed one by one', () => {
    const r = rig();
    const c = r.context(1, 1);
    const post = (type: number, queue = true): string => r.chapters.synic.post(c, 3, message(type, 0), queue);
    expect([post(1), post(2), post(3, false), slot(r, 3)[0], slot(r, 3)[5]]).toEqual(['delivered', 'busy', 'busy', 1, 1]);
    expect(r.chapters.synic.readySints(c)).toBe(0xffff & ~8);
    r.store(1, MESSAGES * 4096 + 3 * 256, 0);
    r.wrmsr(c, EOM, 0);
    expect([slot(r, 3)[0], slot(r, 3)[5]]).toEqual([2, 0]);
    r.store(1, MESSAGES * 4096 + 3 * 256, 0);
    r.wrmsr(c, EOM, 0);
    expect([slot(r, 3)[0], r.chapters.synic.readySints(c)]).toEqual([0, 0xffff]);
  });
  it('take sixteen waiting messages of a port and no more', () => {
    const r = rig();
    const c = r.context(1, 1);
    const posted = Array.from({ length: 19 }, (_, n) => r.chapters.synic.post(c, 2, message(n + 1, 0), true));
    expect(posted).toEqual(['delivered', ...Array.from({ length: 16 }, () => 'busy'), 'full', 'full']);
    const seen: number[] = [];
    for (let n = 0; n < 18; n++) {
      seen.push(slot(r, 2)[0]!);
      r.store(1, MESSAGES * 4096 + 2 * 256, 0);
      r.wrmsr(c, EOM, 0);
    }
    expect(seen).toEqual([...Array.from({ length: 17 }, (_, n) => n + 1), 0]);
  });
  it.each([
    ['SCONTROL off', SCONTROL, 0], ['SIMP off', SIMP, MESSAGES * 4096], ['a masked source', SINT0 + 3, 0x1_0036],
  ])('take nothing with %s', (_what, index, value) => {
    const r = rig();
    const c = r.context(1, 1);
    r.wrmsr(c, index, value);
    expect([r.chapters.synic.post(c, 3, message(1), true), r.take(c)]).toEqual(['unavailable', -1]);
  });
  it('of a polled source raise no interrupt', () => {
    const r = rig();
    const c = r.context(1, 1);
    r.wrmsr(c, SINT0 + 3, 0x4_0036);
    expect([r.chapters.synic.post(c, 3, message(1), true), r.take(c)]).toEqual(['delivered', -1]);
  });
  it('asked about are told when they are ready', () => {
    const r = rig();
    const c = r.context(1, 1);
    const told: unknown[] = [];
    Object.assign(r.chapters.intercepts, { sintsReady: (context: typeof c, sints: number) => told.push([context.vp.index, context.plane, sints]) });
    r.chapters.synic.post(c, 3, message(1, 0), false);
    r.chapters.synic.setWantedSints(c, 0x1_0008 | 0x20);
    expect([told, r.chapters.synic.wantedSints(c)]).toEqual([[[1, 1, 0x20]], 8]);
    r.store(1, MESSAGES * 4096 + 3 * 256, 0);
    r.wrmsr(c, EOM, 0);
    expect([told.slice(1), r.chapters.synic.wantedSints(c)]).toEqual([[[1, 1, 8]], 0]);
  });
});

describe('event flags', () => {
  it.each([[0, 0], [0, 2047], [1, 0], [15, 2047], [7, 1029]])('SINT %i flag %i is one bit of the page', (sint, flag) => {
    const r = rig();
    const c = r.context(1, 1);
    const { synic } = r.chapters;
    expect([synic.signal(c, sint, flag), synic.wasNew, r.take(c)]).toEqual([0, true, 0x30 + 2 * sint]);
    r.apic(c).eoi();
    const page = new Uint8Array(r.page(1, FLAGS).buffer);
    const bit = sint * 2048 + flag;
    expect([...page].flatMap((byte, at) => (byte === 0 ? [] : [[at, byte]]))).toEqual([[bit >>> 3, 1 << (bit & 7)]]);
    expect([synic.signal(c, sint, flag), synic.wasNew, r.take(c)]).toEqual([0, false, -1]);
  });
  it('that cannot be are refused', () => {
    const r = rig();
    const c = r.context(1, 1);
    const { synic } = r.chapters;
    expect([synic.signal(c, 16, 0), synic.signal(c, 0, 2048), synic.signal(r.context(1, 0), 0, 0), synic.signal(r.context(0, 1), 0, 0)]).toEqual([PARAMETER, PARAMETER, SYNIC_STATE, SYNIC_STATE]);
    for (const [index, value] of [[SCONTROL, 0], [SIEFP, FLAGS * 4096], [SINT0, 0x1_0030]] as const) {
      const other = rig();
      other.wrmsr(other.context(1, 1), index, value);
      expect([other.chapters.synic.signal(other.context(1, 1), 0, 0), other.chapters.synic.wasNew]).toEqual([SYNIC_STATE, false]);
    }
  });
});

describe('interrupts that end by themselves', () => {
  it.each([0x10, 0x1f, 0x20, 0xff])('vector %i of an auto-EOI source, or raised so once', (vector) => {
    const r = rig();
    const c = r.context(1, 1);
    const inService = (): number => r.apic(c).highestIsr();
    r.wrmsr(c, SINT0 + 4, vector | 0x2_0000);
    r.chapters.synic.raise(c, vector, false);
    expect([r.take(c), inService()]).toEqual([vector, -1]);
    r.wrmsr(c, SINT0 + 4, vector | 0x3_0000);
    r.chapters.synic.raise(c, vector, false);
    expect([r.take(c), inService()]).toEqual([vector, vector]);
    r.apic(c).eoi();
    r.chapters.synic.raise(c, vector, true);
    expect([r.take(c), inService()]).toEqual([vector, -1]);
    r.chapters.synic.raise(c, vector, false);
    expect([r.take(c), inService()]).toEqual([vector, vector]);
  });
});
