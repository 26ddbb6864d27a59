import { MAX_VPS } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { isLegalApicBase } from './apic-base.ts';
import { ApicMap } from './apic-map.ts';
import { Extra } from './block.ts';
import { ApicBench, irr, read, toX2apic, write, wrmsr } from './fixture.ts';
import { type GsiRoute, GsiRouting, MAX_GSI_ROUTES } from './gsi-routing.ts';
import { DeliveryMode, encodeIcr, Shorthand } from './icr.ts';
import { InterruptRouter, newMessage } from './ipi.ts';
import type { LocalApic } from './local-apic.ts';
import { decodeMsi, isMsiAddress } from './msi.ts';
import { arbitrationPriority, processorPriority } from './priority.ts';
import { ApicReg, defaultApicConfig } from './registers.ts';

/** Matching by list and matching one by one, which must agree. */
const matches = (map: ApicMap, destination: number, isLogical: boolean, isWide: boolean): number[] => {
  const out = new Int32Array(MAX_VPS).fill(-7);
  const found = [...out.subarray(0, map.match(destination, isLogical, isWide, out))];
  for (let vp = 0; vp < 8; vp++) expect([vp, map.reaches(vp, destination, isLogical, isWide)]).toEqual([vp, found.includes(vp)]);
  return found;
};

describe('who matches (SDM 3A §10.6.2)', () => {
  it('an empty map has no destination at all', () => {
    const map = new ApicMap(3);
    for (const [destination, wide] of [[0, false], [5, false], [0xff, false], [0xff, true], [0xffff_ffff, true]] as const) {
      for (const isLogical of [false, true]) expect([destination, matches(map, destination, isLogical, wide)]).toEqual([destination, []]);
    }
    expect([map.plane, map.apicOf(0), map.vpOfInitialId(0), map.others(-1, new Int32Array(MAX_VPS))]).toEqual([3, null, -1, 0]);
  });

  it('processors come and go', () => {
    const bench = new ApicBench();
    const apics = [10, 11, 12, 13].map((id) => bench.add({}, id));
    const map = new ApicMap(0);
    for (const apic of apics) map.add(apic);
    expect(matches(map, 0xff, false, false)).toEqual([0, 1, 2, 3]);
    map.remove(apics[3]!);
    expect([matches(map, 0xff, false, false), matches(map, 13, false, false), matches(map, 12, false, false), map.apicOf(3), map.vpOfInitialId(13)]).toEqual([[0, 1, 2], [], [2], null, -1]);
    // An APIC that was replaced takes nobody out.
    const stranger = new ApicBench().add({}, 77);
    map.remove(stranger);
    expect([map.apicOf(0), matches(map, 10, false, false)]).toEqual([apics[0], [0]]);
    map.add(apics[3]!);
    expect([matches(map, 13, false, false), map.apicOf(3), map.others(1, new Int32Array(MAX_VPS))]).toEqual([[3], apics[3], 3]);
  });

  it('physical: 8 bits against the id register, more against the id of the machine', () => {
    const bench = new ApicBench();
    // Initial ids, and what the guest wrote into the xAPIC id register.
    const apics = ([[0x100, 0], [0xff, 0xff], [0x1ff, 0xff], [5, 6], [0x1_0002, null]] as const).map(([id, written]) => {
      const apic = bench.add({}, id);
      if (written === null) toX2apic(apic);
      else write(apic, ApicReg.id, (written << 24) >>> 0);
      return apic;
    });
    const map = new ApicMap(0);
    for (const apic of apics) map.add(apic);
    for (const [destination, wide, expected] of [
      [0, false, [0]], [0, true, [0]], [0x100, true, [0]], [0xff, true, [1, 2]], [0x1ff, true, [2]], [0xff, false, [0, 1, 2, 3, 4]],
      [5, true, []], [6, true, [3]], [5, false, []], [6, false, [3]], [0x1_0002, true, [4]], [2, true, []], [0xfe, false, []], [0xffff_ffff, true, [0, 1, 2, 3, 4]], [0xffff_fffe, true, []],
    ] as const) expect([destination, wide, matches(map, destination, false, wide)]).toEqual([destination, wide, expected]);
  });

  /** [DFR, LDR of each, destination, who]. @spec SDM 3A §10.6.2.2 */
  it.each([
    [0xffff_ffff, [0x01, 0x02, 0xfe], 0xfe, [1, 2]],
    [0xffff_ffff, [0x01, 0x02, 0x80], 0x81, [0, 2]],
    [0xffff_ffff, [0xff, 0x02, 0x80], 0x100, []],
    [0xffff_ffff, [0xff, 0x02, 0x80], 0x1ff, []],
    [0x0fff_ffff, [0xf1, 0xf2, 0xe2], 0xfe, [1]],
    [0x0fff_ffff, [0xf1, 0xf2, 0xf4], 0xf5, [0, 2]],
    [0x0fff_ffff, [0x01, 0x02, 0x14], 0x07, [0, 1]],
    [0x0fff_ffff, [0x01, 0x02, 0x14], 0x107, []],
    [0x0fff_ffff, [0x01, 0x02, 0x14], 0x10, []],
    [0x1fff_ffff, [0x01, 0x02, 0x14], 0x07, []],
    [0xefff_ffff, [0x01, 0x02, 0x14], 0x07, []],
  ] as const)('logical: format %i, LDRs %j, destination %i', (dfr, ldrs, destination, expected) => {
    const bench = new ApicBench();
    const map = new ApicMap(0);
    for (const ldr of ldrs) {
      const apic = bench.add();
      write(apic, ApicReg.dfr, dfr);
      write(apic, ApicReg.ldr, (ldr << 24) >>> 0);
      map.add(apic);
    }
    expect(matches(map, destination, true, destination > 0xff)).toEqual(expected);
  });

  it('a wide logical 0xff is no broadcast: flat compares bits, cluster compares clusters', () => {
    const bench = new ApicBench();
    const map = new ApicMap(0);
    for (const [dfr, ldr] of [[0xffff_ffff, 0x10], [0xffff_ffff, 0], [0x0fff_ffff, 0xf8], [0x0fff_ffff, 0x18]] as const) {
      const apic = bench.add();
      write(apic, ApicReg.dfr, dfr);
      write(apic, ApicReg.ldr, (ldr << 24) >>> 0);
      map.add(apic);
    }
    expect([matches(map, 0xff, true, true), matches(map, 0xff, true, false)]).toEqual([[0, 2], [0, 1, 2, 3]]);
  });
});

describe('one of many (SDM 3A §10.6.2.4)', () => {
  it('the choice counts by one, and only the candidates count', () => {
    const bench = new ApicBench();
    const map = new ApicMap(0);
    const apics = [0, 1, 2].map(() => bench.add());
    for (const apic of apics) map.add(apic);
    const list = Int32Array.of(1, 2, 0);
    expect([map.arbitrate(list, 2), map.arbitrate(list, 2), map.arbitrate(list, 2), map.arbitrate(list, 3), map.arbitrate(list, 0)]).toEqual([1, 2, 1, 0, -1]);
    expect(apics.map((apic) => apic.block.get(Extra.arbitration))).toEqual([1, 2, 1]);
    // The class decides, not the low bits; the class in service counts like the task priority.
    apics[0]!.setTpr(0x1f);
    apics[1]!.setTpr(0x10);
    apics[2]!.acceptVector(0x31, false);
    apics[2]!.acknowledge();
    const all = Int32Array.of(0, 1, 2);
    expect([map.arbitrate(all, 3), map.arbitrate(all, 3), map.arbitrate(all, 3)]).toEqual([0, 0, 1]);
    expect(map.arbitrate(Int32Array.of(5, 2), 2)).toBe(2);
  });

  it.each([
    // TPR, IRR, ISR: PPR and APR
    [0x00, -1, -1, 0x00, 0x00], [0x35, -1, -1, 0x35, 0x35], [0x35, 0x31, -1, 0x35, 0x35], [0x35, 0x3f, -1, 0x35, 0x35], [0x35, 0x41, -1, 0x35, 0x40],
    [0x35, -1, 0x31, 0x35, 0x30], [0x35, -1, 0x21, 0x35, 0x35], [0x35, -1, 0x45, 0x40, 0x40], [0x35, 0x58, 0x45, 0x40, 0x50], [0x35, 0x38, 0x45, 0x40, 0x40], [0x0f, 0x1f, -1, 0x0f, 0x10],
    [0x75, 0x78, 0x75, 0x75, 0x70], [0xff, 0xff, -1, 0xff, 0xff],
  ])('TPR %i, requested %i, in service %i', (tpr, request, service, ppr, apr) => {
    const apic = new ApicBench().add();
    if (service >= 0) apic.block.setBit(ApicReg.isr, service);
    if (request >= 0) apic.block.setBit(ApicReg.irr, request);
    write(apic, ApicReg.tpr, tpr);
    expect([processorPriority(apic.block), read(apic, ApicReg.ppr), arbitrationPriority(apic.block), read(apic, ApicReg.apr)]).toEqual([ppr, ppr, apr, apr]);
    expect(apic.deliverableVector()).toBe(request >= 0 && request >> 4 > ppr >> 4 ? request : -1);
  });
});

describe('messages on their way', () => {
  const machine = (count: number): { router: InterruptRouter; log: string[]; apics: LocalApic[] } => {
    const bench = new ApicBench();
    const log: string[] = [];
    const apics = Array.from({ length: count }, () => bench.add());
    const router = new InterruptRouter({
      deliver: (vp, plane, mode, vector, isAssert, isLevel) => (log.push([vp, plane, mode, vector, isAssert, isLevel].join(' ')), apics[vp]!.accept(mode, vector, isAssert, isLevel)),
    });
    for (const apic of apics) router.add(apic);
    return { router, log, apics };
  };

  it('commands tell how many they were handed to', () => {
    const { router, log, apics } = machine(3);
    const send = (low: number, destination = 0, isWide?: boolean): number => router.sendCommand(apics[0]!, low, destination, isWide);
    const fixed = { vector: 0x51, mode: DeliveryMode.fixed };
    expect([send(encodeIcr({ ...fixed, shorthand: Shorthand.self })), send(encodeIcr({ ...fixed, shorthand: Shorthand.all })), send(encodeIcr({ ...fixed, shorthand: Shorthand.allButSelf })), send(encodeIcr(fixed), 2), send(encodeIcr(fixed), 9)]).toEqual([1, 3, 2, 1, 0]);
    expect([send(encodeIcr(fixed), 0xff), send(encodeIcr(fixed), 0xff, true), send(encodeIcr(fixed), 0xffff_ffff, true)]).toEqual([3, 0, 3]);
    expect(send(encodeIcr({ vector: 0, mode: DeliveryMode.init, level: true, assert: false }), 1)).toBe(0);
    log.length = 0;
    expect(send(encodeIcr({ ...fixed, level: true, assert: false }), 1)).toBe(1);
    expect(send(encodeIcr({ vector: 0, mode: DeliveryMode.init, level: true }), 1)).toBe(1);
    expect(send(encodeIcr({ vector: 0x9a, mode: DeliveryMode.startUp, level: true }), 1)).toBe(1);
    expect(log).toEqual(['1 0 0 81 false false', '1 0 5 0 true true', '1 0 6 154 true false']);
  });

  it('lowest priority reaches one, also the first processor, or nobody when all are disabled', () => {
    const { router, log, apics } = machine(2);
    const low = encodeIcr({ vector: 0x51, mode: DeliveryMode.lowestPriority });
    apics[1]!.setTpr(0x20);
    expect([router.sendCommand(apics[1]!, low, 0xff), log]).toEqual([1, ['0 0 1 81 true false']]);
    for (const apic of apics) apic.writeSvr(0xff);
    log.length = 0;
    expect([router.sendCommand(apics[1]!, low, 0xff), router.sendMessage(0, { ...newMessage(), vector: 0x51, destination: 0xff, isArbitrated: true }), log]).toEqual([0, 0, []]);
  });

  it('a removed APIC is no destination; a plane without APICs sends nothing', () => {
    const { router, apics, log } = machine(2);
    router.remove(apics[1]!);
    expect([router.map(0)!.apicOf(1), router.map(1), router.sendMessage(0, { ...newMessage(), vector: 0x51, destination: 1 })]).toEqual([null, null, -1]);
    const lonely = new ApicBench().add({}, 0, 5);
    expect([router.sendCommand(lonely, encodeIcr({ vector: 0x51, mode: DeliveryMode.fixed, shorthand: Shorthand.self }), 0), log]).toEqual([0, []]);
    router.remove(lonely);
    router.mapChanged(lonely);
    write(apics[0]!, ApicReg.id, 0x4400_0000);
    router.mapChanged(apics[0]!);
    expect(router.sendMessage(0, { ...newMessage(), vector: 0x51, destination: 0x44 })).toBe(1);
  });
});

describe('MSI (SDM 3A §10.11)', () => {
  /** [address, high, data, wide ids, fields that differ from an edge-triggered fixed vector 0x30 to id 0]. */
  it.each([
    [0xfee0_0000, 0, 0x30, false, {}],
    [0xfee0_0001, 0, 0x30, false, {}], [0xfee0_0002, 0, 0x30, false, {}], [0xfee0_0ff0, 0, 0x30, false, {}],
    [0xfee0_0004, 0, 0x30, false, { isLogical: true }],
    [0xfee0_0008, 0, 0x30, false, { isArbitrated: true }],
    [0xfeef_f000, 0, 0x30, false, { destination: 0xff }],
    [0xfeef_f000, 0, 0x30, true, { destination: 0xff }],
    [0xfee0_0000, 0x100, 0x30, true, { destination: 0x100, isWide: true }],
    [0xfee0_0000, 0x8000_0000, 0x30, true, { destination: 0x8000_0000, isWide: true }],
    [0xfee0_1000, 0xff, 0x30, true, { destination: 1 }],
    [0xfee0_1000, 0x1ff, 0x30, false, { destination: 1 }],
    [0xfee0_0000, 0, 0x130, false, { mode: 1, isArbitrated: true }],
    [0xfee0_0000, 0, 0x230, false, { mode: 2 }],
    [0xfee0_0000, 0, 0x430, false, { mode: 4 }], [0xfee0_0000, 0, 0x530, false, { mode: 5 }], [0xfee0_0000, 0, 0x730, false, { mode: 7 }],
    [0xfee0_0000, 0, 0x31, false, { vector: 0x31 }],
    [0xfee0_0000, 0, 0x8030, false, { isLevel: true }], [0xfee0_0000, 0, 0xc030, false, { isLevel: true }], [0xfee0_0000, 0, 0x4030, false, {}],
    [0xfee0_0000, 0, 0xffff_3830, false, {}],
  ])('%i %i %i, wide %s', (low, high, data, wide, fields) => {
    const m = newMessage();
    Object.assign(m, { isLogical: true, isWide: true, isAssert: false, isLevel: true, isArbitrated: true, destination: 77 });
    decodeMsi(low, high, data, wide, m);
    expect(m).toEqual({ destination: 0, isLogical: false, isWide: false, mode: 0, vector: 0x30, isAssert: true, isLevel: false, isArbitrated: false, ...fields });
  });

  it('the address window', () => {
    for (const [low, high, is] of [[0xfee0_0000, 0, true], [0xfeef_ffff, 0, true], [0xfedf_ffff, 0, false], [0xfef0_0000, 0, false], [0xfee0_0000, 1, false], [0x7ee0_0000, 0, false]] as const) expect([low, isMsiAddress(low, high)]).toEqual([low, is]);
  });
});

describe('the routing table', () => {
  const msi = (gsi: number, vector: number, more: object = {}): GsiRoute => ({ kind: 'msi', gsi, plane: 0, addressLow: 0xfee0_0000, addressHigh: 0, data: vector, ...more });
  const pin = (gsi: number, chip: number, n: number): GsiRoute => ({ kind: 'pin', gsi, chip, pin: n });
  const set = (...routes: GsiRoute[]): number => new GsiRouting({ planeRule: 'perRoute', hasPins: true, hasWideIds: true }).set(routes, 0, (plane) => plane === 0);

  it.each([
    // controller, pins it has
    [0, 8], [1, 8], [2, 24],
  ])('controller %i has %i pins', (chip, pins) => {
    expect([-1, 0, 1, pins - 1, pins, pins + 1].map((n) => set(pin(0, chip, n)))).toEqual([-22, 0, 0, 0, -22, -22]);
  });

  it('numbers of interrupts, of controllers and of routes', () => {
    expect([-1, 0, 0.5, 1, MAX_GSI_ROUTES - 1, MAX_GSI_ROUTES, Number.NaN].map((gsi) => set(msi(gsi, 0x40)))).toEqual([-22, 0, -22, 0, 0, -22, -22]);
    expect([-1, 3].map((chip) => set(pin(0, chip, 0)))).toEqual([-22, -22]);
    const full = Array.from({ length: MAX_GSI_ROUTES }, (_, gsi) => msi(gsi, 0x40));
    expect([set(...full), set(...full, pin(5, 0, 0))]).toEqual([0, -22]);
  });

  it('two messages of one interrupt are invalid even when a plane is missing; a dropped one leaves room', () => {
    expect([set(msi(4, 0x40), msi(4, 0x41, { plane: 7 })), set(msi(4, 0x40, { plane: 7 }), msi(4, 0x41)), set(pin(4, 0, 1), pin(4, 1, 1), pin(4, 2, 1)), set(msi(4, 0x40), pin(4, 0, 1))]).toEqual([-22, 0, 0, -22]);
  });

  it('asks for EOI exits: level-triggered vectors of both kinds, of interrupts below the number of pins, that reach this APIC', () => {
    const bench = new ApicBench();
    const [first, second] = [bench.add(), bench.add()];
    const router = new InterruptRouter({ deliver: () => 0 });
    router.add(first);
    router.add(second);
    const routing = new GsiRouting({ planeRule: 'perRoute', hasPins: true, hasWideIds: true });
    const level = (gsi: number, vector: number, more: object = {}): GsiRoute => msi(gsi, 0x8000 | vector, more);
    routing.set([level(0, 0x20), level(1, 0x121), level(2, 0x222), level(3, 0x423), level(4, 0x24, { addressLow: 0xfee0_1000 }), level(5, 0xff), level(6, 0x26), msi(7, 0x27)], 0, () => true);
    const vectors = (apic: LocalApic, pins: number): number[] => {
      const out = new Uint32Array(8).fill(0xffff_ffff);
      routing.eoiExits(apic, router.map(0)!, pins, out);
      return Array.from({ length: 256 }, (_, v) => v).filter((v) => (out[v >> 5]! >>> (v & 31)) & 1);
    };
    expect([vectors(first, 6), vectors(first, 7), vectors(first, 8), vectors(second, 8), vectors(first, 1), vectors(first, 0)]).toEqual([[0x20, 0x21, 0xff], [0x20, 0x21, 0x26, 0xff], [0x20, 0x21, 0x26, 0xff], [0x24], [0x20], []]);
  });

  it('adds up what several pins and a refused one answer', () => {
    const routing = new GsiRouting({ planeRule: 'perRoute', hasPins: true, hasWideIds: true });
    routing.set([pin(4, 0, 4), pin(4, 1, 4), pin(4, 2, 4), pin(5, 0, 5), pin(6, 0, 6)], 0, () => true);
    const answers: Record<string, number> = { '0.4': 2, '1.4': -1, '2.4': 3, '0.5': -1, '0.6': 0 };
    const line = (gsi: number): number => routing.setLine(gsi, true, new InterruptRouter({ deliver: () => 0 }), { setPin: (chip, n) => answers[`${chip}.${n}`]! });
    expect([line(4), line(5), line(6), line(7)]).toEqual([5, -1, 0, -1]);
  });

  it('refuses another version of its saved form', () => {
    const routing = new GsiRouting({ planeRule: 'perRoute', hasPins: true, hasWideIds: true });
    for (const version of [0, 2]) expect(() => routing.restore({ version: version as 1, routes: [] })).toThrow(expect.objectContaining({ code: 'BadSnapshot', message: `routing table: version ${version}` }));
  });
});

describe('IA32_APIC_BASE (SDM 3A §10.4.4)', () => {
  it('without x2APIC only bit 10 is refused', () => {
    const legal = (low: number): boolean => isLegalApicBase(0xfee0_0800, low, 0, { ...defaultApicConfig, x2apic: false }, false);
    expect([0xfee0_0800, 0xfee0_0900, 0xfee0_0000, 0xfee0_0c00, 0xfee0_0400].map(legal)).toEqual([true, true, true, false, false]);
  });

  it.each([[32, 0, 1], [33, 1, 2], [36, 0xf, 0x10], [46, 0x3fff, 0x4000], [52, 0xf_ffff, 0x10_0000]])('%i physical bits: the highest word that fits, the first that does not', (physicalBits, fits, not) => {
    const legal = (high: number): boolean => isLegalApicBase(0xfee0_0800, 0xfee0_0800, high, { ...defaultApicConfig, physicalBits }, false);
    expect([legal(0), legal(fits), legal(not), legal(0x8000_0000)]).toEqual([true, true, false, false]);
  });

  it('every bit of the low word', () => {
    for (let bit = 0; bit < 32; bit++) {
      const reserved = bit < 8 || bit === 9;
      expect([bit, isLegalApicBase(0xfee0_0800, 0x800 | (1 << bit), 0, defaultApicConfig, false)]).toEqual([bit, !reserved]);
      expect([bit, wrmsr(new ApicBench().add(), 0x1b, (0x900 | (1 << bit)) >>> 0)]).toEqual([bit, reserved ? '#GP' : 'ok']);
    }
    const apic = new ApicBench().add();
    expect([wrmsr(apic, 0x1b, 0xffff_f800, 0x3fff), apic.pageAddress, irr(apic, 0)]).toEqual(['ok', 0x3fff_ffff_f000, false]);
  });
});
