import { HV_MESSAGE_SIZE, HvMessageHeader, HvMessageType, HvMsr } from '@vmplanes/abi-hyperv';
import { writePage } from '@vmplanes/x86';
import { beforeEach, describe, expect, it } from 'vitest';
import { Rig } from './fixture.ts';

const SIM = 5;
const SIEF = 6;
const VECTOR = 0x50;
const MASKED = 1n << 16n;
const AUTO_EOI = 1n << 17n;
const POLLING = 1n << 18n;
const enabled = (gpn: number): bigint => (BigInt(gpn) << 12n) | 1n;

const setUp = (r: Rig, vp = 0, vtl = 0): void => {
  const c = r.context(vp, vtl);
  r.wrmsr(c, HvMsr.Scontrol, 1);
  r.wrmsr(c, HvMsr.Simp, enabled(SIM + vp * 4));
  r.wrmsr(c, HvMsr.Siefp, enabled(SIEF + vp * 4));
  for (const sint of [0, 2, 3]) r.wrmsr(c, HvMsr.Sint0 + sint, VECTOR + sint);
};

const message = (type: number, tag = 0, origin = 0): Uint8Array => {
  const bytes = new Uint8Array(HV_MESSAGE_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(HvMessageHeader.at.type, type, true);
  view.setUint8(HvMessageHeader.at.payloadSize, 8);
  view.setBigUint64(HvMessageHeader.at.origin, BigInt(origin), true);
  view.setUint32(HvMessageHeader.size, tag, true);
  return bytes;
};

describe('SynIC registers', () => {
  it.each([
    ['a vector below 16', 0x0fn, false],
    ['vector 16', 0x10n, true],
    ['the last vector', 0xffn, true],
    ['vector 0 while masked', MASKED, true],
    ['vector 0 while polled', POLLING, false],
    ['bits without a meaning', 0xff00_0000_0000_0050n, true],
  ])('SINT with %s', (_what, value, legal) => {
    const r = new Rig();
    const c = r.context();
    expect(r.wrmsr(c, HvMsr.Sint2, value)).toBe(legal);
    expect(r.rdmsr(c, HvMsr.Sint2)).toBe(legal ? value : MASKED);
  });

  it('have their reset values, private to each VTL', () => {
    const r = new Rig();
    r.wrmsr(r.context(0, 0), HvMsr.Sint2, 0x50);
    r.wrmsr(r.context(0, 0), HvMsr.Scontrol, 1);
    const c = r.context(0, 1);
    expect([HvMsr.Scontrol, HvMsr.Sversion, HvMsr.Siefp, HvMsr.Simp, HvMsr.Eom, HvMsr.Sint2].map((i) => r.rdmsr(c, i))).toEqual([0n, 1n, 0n, 0n, 0n, MASKED]);
    expect(r.wrmsr(c, HvMsr.Sversion, 1)).toBe(false);
    expect(new Rig(1, { scontrolEnabled: true }).rdmsr(r.context(), HvMsr.Scontrol)).toBe(1n);
  });

  it('name pages; one beyond the address space is on but not seen', () => {
    const r = new Rig();
    const c = r.context();
    setUp(r);
    expect(r.wrmsr(c, HvMsr.Simp, (1n << 51n) | 0xffen | 1n)).toBe(true);
    expect([r.rdmsr(c, HvMsr.Simp), r.chapters.overlays.isOverlay(0, SIM)]).toEqual([(1n << 51n) | 0xfffn, false]);
    expect(r.chapters.synic.post(c, 2, message(1), false)).toBe('delivered');
    r.wrmsr(c, HvMsr.Simp, enabled(SIM));
    expect(r.page(0, SIM).getUint32(2 * HV_MESSAGE_SIZE, true)).toBe(1);
  });
});

describe('messages', () => {
  let r: Rig;
  const slot = (sint: number): { readonly type: number; readonly pending: boolean; readonly tag: number } => {
    const page = r.page(0, SIM);
    const at = sint * HV_MESSAGE_SIZE;
    return { type: page.getUint32(at, true), pending: (page.getUint8(at + 5) & 1) !== 0, tag: page.getUint32(at + 16, true) };
  };
  const release = (sint: number): void => void r.store(0, SIM * 4096 + sint * HV_MESSAGE_SIZE, 0);
  const post = (sint: number, m: Uint8Array, queue = true): string => r.chapters.synic.post(r.context(), sint, m, queue);
  beforeEach(() => {
    r = new Rig();
    setUp(r);
  });

  it('go into the free slot and raise the vector', () => {
    expect(post(2, message(1, 7))).toBe('delivered');
    expect(slot(2)).toEqual({ type: 1, pending: false, tag: 7 });
    expect(r.take(r.context())).toBe(VECTOR + 2);
    expect(slot(3).type).toBe(0);
  });

  it.each([
    ['the SynIC is off', HvMsr.Scontrol, 0n],
    ['the page is off', HvMsr.Simp, BigInt(SIM) << 12n],
    ['the SINT is masked', HvMsr.Sint2, MASKED | 0x50n],
  ])('are unavailable while %s', (_what, index, value) => {
    r.wrmsr(r.context(), index, value);
    expect(post(2, message(1))).toBe('unavailable');
    expect(r.apic(r.context()).highestIrr()).toBe(-1);
  });

  it.each([16, 255, 0xffff_ffff])('are unavailable for SINT %d', (sint) => expect(post(sint, message(1))).toBe('unavailable'));

  it('raise nothing through a polled SINT', () => {
    r.wrmsr(r.context(), HvMsr.Sint2, POLLING | 0x50n);
    expect([post(2, message(1)), r.apic(r.context()).highestIrr(), slot(2).type]).toEqual(['delivered', -1, 1]);
  });

  it('are stored although the APIC is software-disabled', () => {
    writePage(r.apic(r.context()), 0xf0, 4, 0xff);
    expect([post(2, message(1)), slot(2).type, r.apic(r.context()).highestIrr()]).toEqual(['delivered', 1, -1]);
  });

  it.each<[string, () => void]>([
    ['a write of EOM', () => void r.wrmsr(r.context(), HvMsr.Eom, 0)],
    ['the end of an interrupt', () => {
      r.take(r.context());
      r.apic(r.context()).eoi();
    }],
    ['unmasking its SINT', () => void r.wrmsr(r.context(), HvMsr.Sint2, VECTOR + 2)],
    ['a write of SCONTROL', () => void r.wrmsr(r.context(), HvMsr.Scontrol, 1)],
  ])('wait for their slot and are tried again after %s', (_what, trigger) => {
    post(2, message(1, 1));
    expect(post(2, message(1, 2))).toBe('busy');
    expect(slot(2)).toEqual({ type: 1, pending: true, tag: 1 });
    trigger();
    expect(slot(2).tag).toBe(1);
    release(2);
    r.apic(r.context()).acceptVector(0x30, false);
    if (_what.startsWith('the end')) r.take(r.context());
    trigger();
    expect(slot(2)).toMatchObject({ type: 1, pending: false, tag: 2 });
  });

  it('keep their order, and say that more are waiting', () => {
    for (const tag of [1, 2, 3]) post(2, message(1, tag));
    release(2);
    r.wrmsr(r.context(), HvMsr.Eom, 0);
    expect(slot(2)).toEqual({ type: 1, pending: true, tag: 2 });
    release(2);
    // A new message finds the slot free, but is not the next one.
    expect(post(2, message(1, 4))).toBe('busy');
    expect(slot(2)).toMatchObject({ tag: 3, pending: true });
    release(2);
    r.wrmsr(r.context(), HvMsr.Eom, 0);
    expect(slot(2)).toEqual({ type: 1, pending: false, tag: 4 });
  });

  it('of one SINT do not wait for another', () => {
    post(2, message(1, 1));
    post(2, message(1, 2));
    expect(post(3, message(1, 9))).toBe('delivered');
  });

  it('without a queue only mark the slot', () => {
    post(2, message(1, 1), false);
    expect(post(2, message(1, 2), false)).toBe('busy');
    release(2);
    r.wrmsr(r.context(), HvMsr.Eom, 0);
    expect(slot(2).type).toBe(0);
  });

  it('lose the pending flag of their sender', () => {
    const m = message(1, 7);
    m[HvMessageHeader.at.flags] = 0xff;
    post(2, m);
    expect(r.page(0, SIM).getUint8(2 * HV_MESSAGE_SIZE + HvMessageHeader.at.flags)).toBe(0xfe);
  });

  it('fill sixteen buffers for each port', () => {
    post(2, message(1));
    post(3, message(1));
    expect(Array.from({ length: 17 }, () => post(2, message(1, 0, 1)))).toEqual([...new Array<string>(16).fill('busy'), 'full']);
    expect(post(2, message(1, 0, 2))).toBe('busy');
    expect(post(3, message(1, 0, 1))).toBe('busy');
  });

  it('about intercepts have one buffer and go first', () => {
    post(0, message(1, 1));
    post(0, message(1, 2));
    post(0, message(HvMessageType.GpaIntercept, 3));
    expect(post(0, message(HvMessageType.MsrIntercept, 4))).toBe('busy');
    release(0);
    r.wrmsr(r.context(), HvMsr.Eom, 0);
    expect(slot(0)).toEqual({ type: HvMessageType.MsrIntercept, pending: true, tag: 4 });
    release(0);
    r.wrmsr(r.context(), HvMsr.Eom, 0);
    expect(slot(0).tag).toBe(2);
  });

  it('tell which SINTs could take one', () => {
    expect(r.chapters.synic.readySints(r.context())).toBe(0b1101);
    post(2, message(1));
    expect(r.chapters.synic.readySints(r.context())).toBe(0b1001);
    // The slot is free, but promised to a message that waits.
    post(2, message(1));
    release(2);
    expect(r.chapters.synic.readySints(r.context())).toBe(0b1001);
    expect(r.chapters.synic.readySints(r.context(0, 1))).toBe(0);
  });

  describe('and who waits for a free slot', () => {
    /** What was told: VTL and SINTs. */
    let told: (readonly [vtl: number, sints: number])[];
    const listen = (it: Rig): void => {
      told = [];
      it.chapters.intercepts.sintsReady = (c, sints) => void told.push([c.plane, sints]);
    };
    beforeEach(() => {
      setUp(r, 0, 1);
      listen(r);
      for (const vtl of [0, 1]) for (const sint of [2, 3]) r.chapters.synic.post(r.context(0, vtl), sint, message(1), false);
    });

    it('is told once, of the first request as of later ones', () => {
      r.chapters.synic.setWantedSints(r.context(), 1 << 2);
      r.chapters.synic.setWantedSints(r.context(), (1 << 2) | (1 << 3));
      expect(told).toEqual([]);
      release(2);
      release(3);
      r.wrmsr(r.context(), HvMsr.Eom, 0);
      r.wrmsr(r.context(), HvMsr.Eom, 0);
      expect([told, r.chapters.synic.wantedSints(r.context())]).toEqual([[[0, 0b1100]], 0]);
    });

    it('hears of the VTL it asked about; the request of another stays', () => {
      for (const vtl of [0, 1]) r.chapters.synic.setWantedSints(r.context(0, vtl), 1 << 2);
      r.store(1, SIM * 4096 + 2 * HV_MESSAGE_SIZE, 0);
      r.wrmsr(r.context(0, 1), HvMsr.Eom, 0);
      expect([told, r.chapters.synic.wantedSints(r.context(0, 0)), r.chapters.synic.wantedSints(r.context(0, 1))]).toEqual([[[1, 4]], 4, 0]);
    });

    it('is told at once when the slot is free, and not while messages wait for it', () => {
      r.chapters.synic.setWantedSints(r.context(), 0xffff_ffff);
      expect([told, r.chapters.synic.wantedSints(r.context())]).toEqual([[[0, 1]], 0xfffe]);
      post(2, message(1));
      release(2);
      r.wrmsr(r.context(), HvMsr.Eom, 0);
      expect(told).toHaveLength(1);
    });

    it('is told after a restore', () => {
      r.chapters.synic.setWantedSints(r.context(), 1 << 2);
      r = r.copy();
      listen(r);
      release(2);
      r.wrmsr(r.context(), HvMsr.Eom, 0);
      expect(told).toEqual([[0, 4]]);
    });
  });

  it('about intercepts are reported when they reach their slot', () => {
    const reached: number[] = [];
    r.chapters.intercepts.delivered = (c) => void reached.push(c.plane);
    post(0, message(1));
    post(0, message(HvMessageType.GpaIntercept));
    expect(reached).toEqual([]);
    release(0);
    r.wrmsr(r.context(), HvMsr.Eom, 0);
    expect(reached).toEqual([0]);
  });

  it('of a VTL are only moved by that VTL', () => {
    setUp(r, 0, 1);
    const other = r.context(0, 1);
    const type1 = (): number => r.page(1, SIM).getUint32(2 * HV_MESSAGE_SIZE + 16, true);
    for (const c of [r.context(), other]) for (const tag of [1, 2]) r.chapters.synic.post(c, 2, message(1, tag), true);
    release(2);
    r.store(1, SIM * 4096 + 2 * HV_MESSAGE_SIZE, 0);
    r.wrmsr(other, HvMsr.Eom, 0);
    expect([slot(2).type, type1()]).toEqual([0, 2]);
    r.wrmsr(other, HvMsr.Sint0, 0x30);
    expect(slot(2).type).toBe(0);
    r.wrmsr(r.context(), HvMsr.Eom, 0);
    expect(slot(2).tag).toBe(2);
  });

  it('that wait are saved, and still go out after a restore', () => {
    post(2, message(1, 1));
    post(2, message(1, 2));
    post(3, message(1, 5));
    post(3, message(1, 6));
    const original = r;
    r = original.copy();
    expect(r.save()).toEqual(original.save());
    for (const sint of [2, 3]) release(sint);
    r.wrmsr(r.context(), HvMsr.Eom, 0);
    expect([slot(2).tag, slot(3).tag]).toEqual([2, 6]);
    release(2);
    r.wrmsr(r.context(), HvMsr.Eom, 0);
    expect(slot(2).type).toBe(0);
    expect(original.page(0, SIM).getUint32(2 * HV_MESSAGE_SIZE + 16, true)).toBe(1);
  });

  it('reach another VP in its own page', () => {
    r = new Rig(2);
    setUp(r, 1);
    r.machine.activeVp = 0;
    expect(r.chapters.synic.post(r.context(1), 2, message(1, 8), true)).toBe('delivered');
    expect(r.apic(r.context(1)).highestIrr()).toBe(-1);
    r.machine.activeVp = -1;
    r.machine.flushOutbox();
    expect(r.apic(r.context(1)).highestIrr()).toBe(VECTOR + 2);
    expect(r.page(0, SIM + 4).getUint32(2 * HV_MESSAGE_SIZE + 16, true)).toBe(8);
  });
});

describe('event flags', () => {
  const flags = (r: Rig, sint: number, flag: number): boolean => (r.page(0, SIEF).getUint8(sint * 256 + (flag >>> 3)) & (1 << (flag & 7))) !== 0;

  it.each([0, 7, 8, 2047])('set flag %d and interrupt once', (flag) => {
    const r = new Rig();
    setUp(r);
    const c = r.context();
    expect([r.chapters.synic.signal(c, 2, flag), r.chapters.synic.wasNew, flags(r, 2, flag)]).toEqual([0, true, true]);
    expect(r.take(c)).toBe(VECTOR + 2);
    expect([r.chapters.synic.signal(c, 2, flag), r.chapters.synic.wasNew]).toEqual([0, false]);
    expect(r.apic(c).highestIrr()).toBe(-1);
  });

  it.each([
    ['a flag too many', 2, 2048, 5],
    ['a huge flag', 2, 0xffff, 5],
    ['SINT 16', 16, 0, 5],
    ['a masked SINT', 1, 0, 0x18],
  ])('refuse %s', (_what, sint, flag, status) => {
    const r = new Rig();
    setUp(r);
    expect([r.chapters.synic.signal(r.context(), sint, flag), r.chapters.synic.wasNew]).toEqual([status, false]);
  });

  it.each([
    ['the SynIC is off', HvMsr.Scontrol],
    ['the page is off', HvMsr.Siefp],
  ])('are refused while %s', (_what, index) => {
    const r = new Rig();
    setUp(r);
    r.wrmsr(r.context(), index, 0);
    expect(r.chapters.synic.signal(r.context(), 2, 0)).toBe(0x18);
  });

  it('raise nothing through a polled SINT', () => {
    const r = new Rig();
    setUp(r);
    r.wrmsr(r.context(), HvMsr.Sint2, POLLING | 0x50n);
    expect([r.chapters.synic.signal(r.context(), 2, 3), flags(r, 2, 3), r.apic(r.context()).highestIrr()]).toEqual([0, true, -1]);
  });
});

describe('automatic EOI', () => {
  it('ends the vector of such a SINT when it is taken, and no other', () => {
    const r = new Rig();
    setUp(r);
    const c = r.context();
    r.wrmsr(c, HvMsr.Sint2, AUTO_EOI | 0x60n);
    const copy = r.copy();
    for (const it of [r, copy]) {
      it.chapters.synic.post(it.context(), 2, message(1), false);
      expect([it.take(it.context()), it.apic(it.context()).highestIsr()]).toEqual([0x60, -1]);
    }
    r.chapters.synic.post(c, 3, message(1), false);
    expect([r.take(c), r.apic(c).highestIsr()]).toEqual([VECTOR + 3, VECTOR + 3]);
    r.apic(c).eoi();
    r.wrmsr(c, HvMsr.Sint2, 0x60);
    r.apic(c).acceptVector(0x60, false);
    expect([r.take(c), r.apic(c).highestIsr()]).toEqual([0x60, 0x60]);
  });

  it('is asked for with one request, and only for that', () => {
    const r = new Rig();
    const c = r.context(0, 1);
    r.chapters.synic.raise(c, 0x70, true);
    const copy = r.copy();
    for (const it of [r, copy]) {
      const own = it.context(0, 1);
      expect([it.take(own), it.apic(own).highestIsr()]).toEqual([0x70, -1]);
      it.chapters.synic.raise(own, 0x70, false);
      expect([it.take(own), it.apic(own).highestIsr()]).toEqual([0x70, 0x70]);
    }
  });
});

it('a reset leaves what a new machine has', () => {
  const r = new Rig();
  setUp(r);
  r.chapters.synic.post(r.context(), 2, message(1), true);
  r.chapters.synic.post(r.context(), 2, message(1), true);
  for (const c of r.stateful) c.reset();
  expect(r.save()).toEqual(new Rig().save());
});
