import { describe, expect, it } from 'vitest';
import { ApicBench, irr } from './fixture.ts';
import { type GsiRoute, GsiRouting, type GsiRoutingOptions, MAX_GSI_ROUTES } from './gsi-routing.ts';
import { InterruptRouter, newMessage } from './ipi.ts';
import { decodeMsi, isMsiAddress, isValidMsi, sendMsi, signalMsiResult } from './msi.ts';

describe('MSI (SDM 3A §10.11)', () => {
  const decode = (low: number, high: number, data: number, wide = false) => {
    const m = newMessage();
    decodeMsi(low, high, data, wide, m);
    return m;
  };

  it('decodes address and data', () => {
    expect(decode(0xfee1_2000, 0, 192)).toEqual({ destination: 0x12, isLogical: false, isWide: false, mode: 0, vector: 192, isAssert: true, isLevel: false, isArbitrated: false });
    expect(decode(0xfee0_300c, 0, 0xc155)).toEqual({ destination: 3, isLogical: true, isWide: false, mode: 1, vector: 0x55, isAssert: true, isLevel: true, isArbitrated: true });
    expect(decode(0xfee0_0008, 0, 0x455).isArbitrated).toBe(true);
    expect(decode(0xfee3_4000, 0x0000_1200, 0x30, true)).toMatchObject({ destination: 0x1234, isWide: true });
    expect(decode(0xfee3_4000, 0x0000_1200, 0x30, false)).toMatchObject({ destination: 0x34, isWide: false });
    expect(decode(0xfeef_f000, 0xffff_ff00, 0x30, true).destination).toBe(0xffff_ffff);
  });

  it('knows its address window and the reserved bits of the wide form', () => {
    expect([isMsiAddress(0xfee0_0000, 0), isMsiAddress(0xfeef_ffff, 0), isMsiAddress(0xfed0_0000, 0), isMsiAddress(0xfee0_0000, 1)]).toEqual([true, true, false, false]);
    expect([isValidMsi(1, true), isValidMsi(0x100, true), isValidMsi(1, false)]).toEqual([false, true, true]);
  });

  it('result of the signal call, row by row', () => {
    const good = { hasIrqchip: true, hasUnknownFlags: false, isValidRoute: true, planeExists: true, matched: 2, took: 2 };
    expect(signalMsiResult(good)).toBe(2);
    expect(signalMsiResult({ ...good, took: 0 })).toBe(0);
    expect(signalMsiResult({ ...good, matched: 0, took: 0 })).toBe(-1);
    for (const bad of [{ hasIrqchip: false }, { hasUnknownFlags: true }, { isValidRoute: false }, { planeExists: false }]) expect(signalMsiResult({ ...good, ...bad })).toBe(-22);
  });
});

const setup = (options: Partial<GsiRoutingOptions> = {}) => {
  const bench = new ApicBench();
  const apics = [bench.add({}, 0, 0), bench.addAt(0, 1)];
  const router = new InterruptRouter({ deliver: (_vp, plane, mode, vector, isAssert, isLevel) => apics[plane]!.accept(mode, vector, isAssert, isLevel) });
  for (const apic of apics) router.add(apic);
  const pins: string[] = [];
  const sink = { setPin: (chip: number, pin: number, on: boolean) => pins.push(`${chip}.${pin} ${on}`) && 1 };
  const routing = new GsiRouting({ planeRule: 'perRoute', hasPins: true, hasWideIds: true, ...options });
  return { apics, router, pins, sink, routing, exists: (plane: number) => plane < 2 };
};
const msi = (gsi: number, plane: number, vector: number, level = false): GsiRoute => ({ kind: 'msi', gsi, plane, addressLow: 0xfee0_0000, addressHigh: 0, data: vector | (level ? 0xc000 : 0) });
const pin = (gsi: number, chip: number, n: number): GsiRoute => ({ kind: 'pin', gsi, chip, pin: n });

describe('routing table', () => {
  it('a message reaches the plane of its route, on assertion only', () => {
    const { apics, router, sink, routing, exists } = setup();
    expect(routing.set([msi(24, 1, 0x71), msi(25, 0, 0x72)], 0, exists)).toBe(0);
    expect(routing.setLine(24, true, router, sink)).toBe(1);
    expect(routing.setLine(24, true, router, sink)).toBe(0);
    expect(routing.setLine(24, false, router, sink)).toBe(-1);
    expect(routing.setLine(99, true, router, sink)).toBe(-1);
    expect([irr(apics[0]!, 0x71), irr(apics[1]!, 0x71)]).toEqual([false, true]);
  });

  it('drops routes to missing planes and keeps the others', () => {
    const { routing, exists } = setup();
    expect(routing.set([msi(24, 7, 0x71), msi(25, 1, 0x72), msi(26, 0xffff_ffff, 0x73)], 0, exists)).toBe(0);
    expect(routing.routes.map((r) => r.gsi)).toEqual([25]);
  });

  it('the last writer gets every message under that rule', () => {
    const { apics, router, sink, routing, exists } = setup({ planeRule: 'lastWriter' });
    routing.set([msi(24, 0, 0x71)], 1, exists);
    routing.setLine(24, true, router, sink);
    expect(irr(apics[1]!, 0x71)).toBe(true);
    routing.set([msi(24, 1, 0x72)], 0, exists);
    routing.setLine(24, true, router, sink);
    expect(irr(apics[0]!, 0x72)).toBe(true);
  });

  it('a pin may be on both kinds of controller', () => {
    const { router, sink, pins, routing, exists } = setup();
    expect(routing.set([pin(4, 0, 4), pin(4, 2, 4)], 0, exists)).toBe(0);
    expect(routing.setLine(4, true, router, sink)).toBe(2);
    routing.setLine(4, false, router, sink);
    expect(pins).toEqual(['0.4 true', '2.4 true', '0.4 false', '2.4 false']);
  });

  for (const [what, routes] of [
    ['number out of range', [msi(MAX_GSI_ROUTES, 0, 0x40)]],
    ['same controller twice', [pin(4, 2, 4), pin(4, 2, 5)]],
    ['pin and message', [pin(4, 2, 4), msi(4, 0, 0x40)]],
    ['two messages', [msi(4, 0, 0x40), msi(4, 1, 0x40)]],
    ['unknown controller', [pin(4, 3, 0)]],
    ['pin of the PIC', [pin(4, 0, 8)]],
    ['pin of the I/O APIC', [pin(4, 2, 24)]],
    ['reserved address bits', [{ ...msi(4, 0, 0x40), addressHigh: 1 }]],
    ['too many', Array.from({ length: MAX_GSI_ROUTES + 1 }, () => pin(0, 0, 0))],
  ] as const) {
    it(`invalid, and the old table stays: ${what}`, () => {
      const { routing, exists } = setup();
      routing.set([msi(30, 0, 0x40)], 0, exists);
      expect(routing.set(routes as readonly GsiRoute[], 0, exists)).toBe(-22);
      expect(routing.routes.length).toBe(1);
    });
  }

  it('pin routes need the controllers', () => {
    const { routing, exists } = setup({ hasPins: false });
    expect(routing.set([pin(4, 2, 4)], 0, exists)).toBe(-22);
  });

  it('EOI exits look at level routes of the own plane', () => {
    const { apics, router, routing, exists } = setup();
    routing.set([msi(3, 1, 0x71, true), msi(4, 1, 0x72), msi(5, 0, 0x73, true), msi(30, 1, 0x74, true)], 0, exists);
    const out = new Uint32Array(8).fill(1);
    routing.eoiExits(apics[1]!, router.map(1)!, 24, out);
    expect([...out]).toEqual([0, 0, 0, 1 << 0x11, 0, 0, 0, 0]);
  });

  it('is restored as it was', () => {
    const { apics, router, sink, routing, exists } = setup();
    routing.set([msi(24, 1, 0x71), pin(4, 2, 4)], 0, exists);
    const other = new GsiRouting({ planeRule: 'perRoute', hasPins: true, hasWideIds: true });
    other.restore(structuredClone(routing.save()));
    expect(other.save()).toEqual(routing.save());
    other.setLine(24, true, router, sink);
    expect(irr(apics[1]!, 0x71)).toBe(true);
  });
});

it('a signalled MSI stays in its plane and refuses reserved bits', () => {
  const { apics, router } = setup();
  expect(sendMsi(router, 1, 0xfee0_0000, 0, 192, true)).toBe(1);
  expect([irr(apics[0]!, 192), irr(apics[1]!, 192)]).toEqual([false, true]);
  expect(sendMsi(router, 1, 0xfee0_0000, 0, 192, true)).toBe(0);
  expect(sendMsi(router, 1, 0xfee0_1000, 0, 192, true)).toBe(-1);
  expect(sendMsi(router, 1, 0xfee0_0000, 1, 192, true)).toBe(-22);
});
