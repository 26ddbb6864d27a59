import { Arena, HostError, PlaneId, VpIndex } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { ApicBlock, ApicFlag, Extra, LOCAL_APIC_BYTES } from './block.ts';
import { ApicEvent, ApicReset, discardPending, isBalanced, pendingCount, readTotals, tally } from './counters.ts';
import { ApicBench, rdmsr, read, toX2apic, write, wrmsr } from './fixture.ts';
import { AcceptResult, DeliveryMode } from './icr.ts';
import { LocalApic } from './local-apic.ts';
import { ApicReg, defaultApicConfig } from './registers.ts';

/** Every word of the block that is not 0, by hexadecimal offset. */
const words = (apic: LocalApic): Record<string, number> => {
  const { block } = apic.save();
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const found: Record<string, number> = {};
  for (let at = 0; at < block.length; at += 4) if (view.getUint32(at, true) !== 0) found[at.toString(16)] = view.getUint32(at, true);
  return found;
};
/** What the counters of the history say, apart from the registers. */
const isHistory = (key: string): boolean => Number.parseInt(key, 16) >= Extra.counters;
const registers = (apic: LocalApic): Record<string, number> => Object.fromEntries(Object.entries(words(apic)).filter(([key]) => !isHistory(key)));

/** An application processor in xAPIC mode with every register and latch set, each to a value of its own. */
const busy = (bench: ApicBench): LocalApic => {
  const apic = bench.add({}, 0x0123_4567);
  write(apic, ApicReg.id, 0x9a00_0000);
  write(apic, ApicReg.tpr, 0x13);
  write(apic, ApicReg.ldr, 0x4200_0000);
  write(apic, ApicReg.dfr, 0x0000_0000);
  write(apic, ApicReg.svr, 0x13e7);
  write(apic, ApicReg.icrHigh, 0x7700_0000);
  write(apic, ApicReg.icr, 0x000c_0831);
  write(apic, ApicReg.lvtCmci, 0x201);
  write(apic, ApicReg.lvtThermal, 0x412);
  write(apic, ApicReg.lvtPerf, 0x734);
  write(apic, ApicReg.lvtLint0, 0xa045);
  write(apic, ApicReg.lvtLint1, 0x2456);
  write(apic, ApicReg.lvtError, 0x1_0067);
  write(apic, ApicReg.divide, 0x9); // by 64
  write(apic, ApicReg.lvtTimer, 0x2_0078);
  write(apic, ApicReg.initialCount, 1000);
  apic.acceptVector(0x21, true);
  apic.acknowledge();
  apic.acceptVector(0xb3, true);
  apic.acknowledge();
  apic.acceptVector(0xc4, false);
  apic.acceptVector(0x58, true);
  apic.accept(DeliveryMode.nmi, 0, true, false);
  apic.accept(DeliveryMode.smi, 0, true, false);
  apic.accept(DeliveryMode.extInt, 0, true, false);
  apic.latches.setWaitingForSipi(true);
  apic.accept(DeliveryMode.startUp, 0x8e, true, false);
  apic.vectors.setPin(0, true);
  apic.vectors.setPin(1, true);
  apic.acceptVector(3, false); // an error, shown by the write
  write(apic, ApicReg.esr, 0);
  read(apic, 0x40); // another, collected
  apic.block.set(Extra.arbitration, 5);
  return apic;
};

const BUSY = {
  '20': 0x9a00_0000, '30': 0x0106_0014, '80': 0x13, 'd0': 0x4200_0000, 'e0': 0x0fff_ffff, 'f0': 0x13e7,
  '110': 1 << 1, '150': 1 << 0x13, // ISR 0x21, 0xb3
  '190': 1 << 1, '1a0': (1 << 0x18) | (1 << 5), '1d0': 1 << 0x13, // TMR 0x21, 0x58, 0xb3; LINT0 is level: 0x45
  '220': (1 << 0x18) | (1 << 5), '260': 1 << 4, // IRR 0x58, 0x45, 0xc4
  '280': 0x40, '2f0': 0x201, '300': 0x000c_0831, '310': 0x7700_0000,
  '320': 0x2_0078, '330': 0x412, '340': 0x734, '350': 0xe045, '360': 0x2456, '370': 0x1_0067, '380': 1000, '3e0': 9,
  '400': 0xfee0_0900, '408': 0x0123_4567, '40c': 0x1fb, '410': 0x8e, '414': 0x80, '418': 5,
};

describe('the whole state of one APIC', () => {
  it('lies in its block, word by word', () => {
    const bench = new ApicBench();
    bench.time = 7;
    const apic = busy(bench);
    const { '428': low, '42c': high, ...rest } = registers(apic);
    expect(rest).toEqual(BUSY);
    expect(new Float64Array(new Uint32Array([low ?? 0, high ?? 0]).buffer)[0]).toBe(7 + 64_000);
    // accepted, delivered, merged, discarded, refused of each class
    const { pending: _, ...interrupts } = apic.counts(ApicEvent.interrupt);
    expect(interrupts).toEqual({ accepted: 5, delivered: 2, merged: 0, discarded: 0, refused: 1 });
  });

  it('restored elsewhere it answers and goes on in the same way', () => {
    const bench = new ApicBench();
    const original = busy(bench);
    const copy = bench.addCold({}, 99, 1);
    copy.restore(structuredClone(original.save()));
    expect(words(copy)).toEqual(words(original));
    bench.log.length = 0;
    copy.restore(original.save());
    expect(bench.log).toEqual(['1: map', '1: changed']);
    const story = (apic: LocalApic): unknown[] => {
      const told: unknown[] = [apic.id, apic.initialId, apic.pageAddress, apic.isBootProcessor, apic.deadline(), apic.deliverable(), apic.latches.isWaitingForSipi, apic.latches.takeSipi(), apic.deliverable(), apic.cr8];
      for (let offset = 0; offset < 0x400; offset += 16) told.push(read(apic, offset));
      for (const event of [ApicEvent.nmi, ApicEvent.smi, ApicEvent.extInt] as const) told.push(apic.latches.take(event), apic.latches.take(event));
      apic.latches.setWaitingForSipi(false);
      write(apic, ApicReg.tpr, 0);
      for (let n = 0; n < 6; n++) told.push(apic.acknowledge(), apic.eoi());
      write(apic, ApicReg.esr, 0);
      told.push(read(apic, ApicReg.esr), readTotals(apic.block));
      return told;
    };
    const first = story(original);
    expect(story(copy)).toEqual(first);
    bench.time = 64_000;
    expect([original.expire(64_000), copy.expire(64_000), original.deadline(), copy.deadline(), original.deliverableVector(), copy.deliverableVector()]).toEqual([true, true, 128_000, 128_000, 0x78, 0x78]);
  });

  it('is refused in another version or size', () => {
    const apic = new ApicBench().add();
    const { block } = apic.save();
    for (const [version, bytes] of [[0, 0x500], [2, 0x500], [1, 0x4ff], [1, 0x501]] as const) {
      const state = { version: version as 1, block: new Uint8Array(bytes) };
      expect(() => apic.restore(state)).toThrow(expect.objectContaining({ code: 'BadSnapshot', message: `APIC state: version ${version} with ${bytes} bytes` }));
    }
    expect(apic.save().block).toEqual(block);
    expect(() => apic.restore({ version: 1, block: new Uint8Array(3) })).toThrow(HostError);
  });
});

/** Registers after RESET and INIT. @spec SDM 3A §10.4.7.1, §10.4.7.3 */
const CLEAN = { '30': 0x0106_0014, 'e0': 0xffff_ffff, 'f0': 0xff, '2f0': 0x1_0000, '320': 0x1_0000, '330': 0x1_0000, '340': 0x1_0000, '350': 0x1_0000, '360': 0x1_0000, '370': 0x1_0000, '42c': 0x7ff0_0000 };

describe('reset states (SDM 3A §10.4.7)', () => {
  it('power-up, whatever the block held before', () => {
    const bench = new ApicBench();
    const apic = busy(bench);
    apic.powerUp(0x1_0042, true);
    expect(words(apic)).toEqual({ ...CLEAN, '20': 0x4200_0000, '400': 0xfee0_0900, '408': 0x1_0042 });
    apic.powerUp(0x1_0042, false);
    expect(words(apic)).toEqual({ ...CLEAN, '20': 0x4200_0000, '400': 0xfee0_0800, '408': 0x1_0042, '40c': ApicFlag.waitForSipi });
  });

  it('RESET: id and mode from the machine, latches cleared and counted, pins as they are', () => {
    const bench = new ApicBench();
    const boot = busy(bench);
    expect(wrmsr(boot, 0x1b, 0x8000_0900, 0x12)).toBe('ok');
    boot.block.set(0, 5); // as an image loaded from outside may hold
    bench.log.length = 0;
    boot.reset();
    expect(registers(boot)).toEqual({ ...CLEAN, '20': 0x6700_0000, '400': 0xfee0_0900, '408': 0x0123_4567, '40c': ApicFlag.lint0 | ApicFlag.lint1 });
    expect(bench.log).toEqual(['0: map', '0: changed']);
    // 0x45, 0x58, 0xc4 and one of each latch but INIT
    expect([ApicReset.reset, ApicReset.init, ApicReset.disable, ApicReset.load].map((cause) => boot.discardedBy(cause))).toEqual([7, 0, 0, 0]);
    for (const event of Object.values(ApicEvent)) expect([event, isBalanced(boot.counts(event)), boot.counts(event).pending]).toEqual([event, true, 0]);
  });

  it('RESET of an application processor in x2APIC mode, with an INIT pending', () => {
    const bench = new ApicBench();
    bench.add();
    const apic = toX2apic(bench.add({}, 0x345));
    apic.accept(DeliveryMode.init, 0, true, false);
    apic.reset();
    expect(registers(apic)).toEqual({ ...CLEAN, '20': 0x4500_0000, '400': 0xfee0_0800, '408': 0x345, '40c': ApicFlag.waitForSipi });
    expect([apic.discardedBy(ApicReset.reset), apic.discardedBy(ApicReset.init), apic.counts(ApicEvent.init).discarded]).toEqual([1, 0, 1]);
  });

  it('INIT keeps id, mode, page address and the pins', () => {
    const bench = new ApicBench();
    bench.add();
    const apic = busy(bench);
    expect(wrmsr(apic, 0x1b, 0x8000_0800, 0x12)).toBe('ok');
    expect(apic.accept(DeliveryMode.init, 0, true, false)).toBe(AcceptResult.accepted);
    expect(apic.accept(DeliveryMode.startUp, 0x44, true, false)).toBe(AcceptResult.accepted);
    bench.log.length = 0;
    expect([apic.latches.takeInit(), apic.latches.takeInit()]).toEqual([true, false]);
    expect(bench.log).toEqual(['1: map', '1: changed']);
    expect(registers(apic)).toEqual({ ...CLEAN, '20': 0x9a00_0000, '400': 0x8000_0800, '404': 0x12, '408': 0x0123_4567, '40c': ApicFlag.lint0 | ApicFlag.lint1 | ApicFlag.waitForSipi | ApicFlag.sipi, '410': 0x44, '418': 5 });
    // three vectors, NMI, SMI, ExtINT, and the start-up message that came before
    expect([apic.discardedBy(ApicReset.init), apic.counts(ApicEvent.sipi)]).toEqual([7, { accepted: 2, delivered: 0, merged: 0, discarded: 1, refused: 0, pending: 1 }]);
    expect(apic.latches.takeSipi()).toBe(0x44);
    expect([apic.latches.isWaitingForSipi, apic.latches.takeSipi()]).toEqual([false, -1]);
  });

  it('INIT of the boot processor: a start-up message has no taker', () => {
    const apic = new ApicBench().add();
    apic.accept(DeliveryMode.init, 0, true, false);
    apic.accept(DeliveryMode.startUp, 0x44, true, false);
    expect([apic.latches.takeInit(), apic.latches.isWaitingForSipi, apic.latches.isPending(ApicEvent.sipi), apic.latches.takeSipi(), apic.discardedBy(ApicReset.init)]).toEqual([true, false, false, -1, 1]);
  });

  it('a disable in IA32_APIC_BASE resets the registers and keeps the latches (SDM 3A §10.4.3)', () => {
    const bench = new ApicBench();
    const apic = busy(bench);
    bench.log.length = 0;
    expect(wrmsr(apic, 0x1b, 0xfee0_0100)).toBe('ok');
    expect(registers(apic)).toEqual({ ...CLEAN, '20': 0x9a00_0000, '400': 0xfee0_0100, '408': 0x0123_4567, '40c': 0xfb, '410': 0x8e, '418': 5 });
    expect([ApicReset.reset, ApicReset.init, ApicReset.disable, ApicReset.load].map((cause) => apic.discardedBy(cause))).toEqual([0, 0, 3, 0]);
    expect(bench.log).toContain('0: map');
  });

  it('modes: what each transition does to id and logical id', () => {
    const bench = new ApicBench();
    const apic = bench.add({}, 0x1_0234);
    write(apic, ApicReg.id, 0x9900_0000);
    write(apic, ApicReg.ldr, 0x4200_0000);
    expect([apic.id, read(apic, ApicReg.ldr)]).toEqual([0x99, 0x4200_0000]);
    expect(wrmsr(apic, 0x1b, 0xfee0_0900)).toBe('ok'); // no transition
    expect([apic.id, read(apic, ApicReg.ldr)]).toEqual([0x99, 0x4200_0000]);
    expect(wrmsr(apic, 0x1b, 0xfee0_0d00)).toBe('ok');
    expect([apic.id, apic.block.get(ApicReg.ldr)]).toEqual([0x1_0234, 0x1023_0010]);
    expect(wrmsr(apic, 0x1b, 0xfee0_0100)).toBe('ok');
    expect([apic.id, apic.block.get(ApicReg.ldr)]).toEqual([0x34, 0]);
    // From the VMM straight back, and from x2APIC to xAPIC mode.
    expect(apic.writeApicBase(0xfee0_0d00, 0, true)).toBe(true);
    expect([apic.id, apic.block.get(ApicReg.ldr)]).toEqual([0x1_0234, 0x1023_0010]);
    expect(apic.writeApicBase(0xfee0_0900, 0, true)).toBe(true);
    expect([apic.id, apic.block.get(ApicReg.ldr)]).toEqual([0x34, 0]);
    expect(apic.writeApicBase(0xfee0_0500, 0, true)).toBe(false);
    expect(rdmsr(apic, 0x1b)).toEqual([0xfee0_0900, 0]);
  });

  it('a pending expiry comes before a change of the mode', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.lvtTimer, 0x40);
    write(apic, ApicReg.initialCount, 5);
    bench.time = 10;
    expect(wrmsr(apic, 0x1b, 0xfee0_0d00)).toBe('ok');
    expect([apic.deliverableVector(), apic.deadline()]).toEqual([0x40, Infinity]);
  });
});

describe('the history of events', () => {
  it('each class and each field has its own cell', () => {
    const apic = new ApicBench().add();
    const fields = ['accepted', 'delivered', 'merged', 'discarded', 'refused'] as const;
    let n = 0;
    for (const event of Object.values(ApicEvent)) for (const field of fields) tally(apic.block, event, field, ++n);
    n = 0;
    for (const event of Object.values(ApicEvent)) {
      const { pending, ...rest } = apic.counts(event);
      expect([pending, rest]).toEqual([0, Object.fromEntries(fields.map((field) => [field, ++n]))]);
    }
    expect(readTotals(apic.block)).toEqual({ accepted: 1 + 6 + 11 + 16 + 21 + 26, delivered: 87, merged: 93, discarded: 99, refused: 105, pending: 0 });
    tally(apic.block, ApicEvent.sipi, 'refused');
    expect(apic.counts(ApicEvent.sipi).refused).toBe(26);
    for (const [at, value] of [[0x440, 1], [0x444, 2], [0x450, 5], [0x454, 6], [0x4b4, 30]] as const) expect(apic.block.get(at)).toBe(value);
  });

  it('pending events of a class and those thrown away', () => {
    const apic = new ApicBench().add();
    for (const vector of [0x10, 0x1f, 0x20, 0xff]) apic.acceptVector(vector, false);
    apic.accept(DeliveryMode.smi, 0, true, false);
    expect(Object.values(ApicEvent).map((event) => pendingCount(apic.block, event))).toEqual([4, 0, 1, 0, 0, 0]);
    expect(readTotals(apic.block)).toEqual({ accepted: 5, delivered: 0, merged: 0, discarded: 0, refused: 0, pending: 5 });
    discardPending(apic.block, ApicEvent.nmi, ApicReset.load);
    expect([apic.discardedBy(ApicReset.load), apic.counts(ApicEvent.nmi).discarded]).toEqual([0, 0]);
    discardPending(apic.block, ApicEvent.interrupt, ApicReset.load);
    discardPending(apic.block, ApicEvent.smi, ApicReset.disable);
    expect([0, 1, 2, 3].map((cause) => apic.discardedBy(cause as ApicReset))).toEqual([0, 0, 1, 4]);
    expect([apic.block.get(0x4c0), apic.block.get(0x4c4)]).toEqual([1, 4]);
  });

  it.each([
    [{ accepted: 0, delivered: 0, merged: 0, discarded: 0, refused: 9, pending: 0 }, true],
    [{ accepted: 15, delivered: 1, merged: 2, discarded: 4, refused: 0, pending: 8 }, true],
    [{ accepted: 14, delivered: 1, merged: 2, discarded: 4, refused: 1, pending: 8 }, false],
    [{ accepted: 1, delivered: 0xffff_ffff, merged: 2, discarded: 0, refused: 0, pending: 0 }, true],
  ])('accepted = delivered + merged + pending + discarded: %o', (counts, expected) => {
    expect(isBalanced(counts)).toBe(expected);
  });
});

describe('the block', () => {
  it('lies inside the arena, aligned to 8 bytes', () => {
    const arena = new Arena(new ArrayBuffer(LOCAL_APIC_BYTES + 64));
    for (const at of [0, 8, 64]) expect(new ApicBlock(arena, at).at).toBe(at);
    for (const at of [-8, 1, 4, 12, 72, LOCAL_APIC_BYTES + 64]) expect(() => new ApicBlock(arena, at), String(at)).toThrow(new RangeError(`APIC block at ${at}: not aligned or outside the arena`));
  });

  it('reads and writes nothing outside of its bytes', () => {
    const arena = new Arena(new ArrayBuffer(LOCAL_APIC_BYTES + 128));
    arena.u8.fill(0x5a);
    const bench = new ApicBench();
    const apic = new LocalApic(VpIndex(0), PlaneId(0), arena, 64, defaultApicConfig, bench.clock, bench.port);
    apic.powerUp(7, true);
    expect([new Set(arena.u8.slice(0, 64)), new Set(arena.u8.slice(64 + LOCAL_APIC_BYTES))]).toEqual([new Set([0x5a]), new Set([0x5a])]);
    expect(words(apic)).toEqual({ ...CLEAN, '20': 0x0700_0000, '400': 0xfee0_0900, '408': 7 });
    apic.block.setDouble(Extra.timerDeadline, 1.5);
    expect([apic.block.getDouble(Extra.timerDeadline), arena.f64[(64 + 0x428) / 8]]).toEqual([1.5, 1.5]);
  });

  it('finds and counts bits of the 256-bit registers, each at (vector / 32) * 16', () => {
    const { block } = new ApicBench().add();
    expect([block.highest(ApicReg.irr), block.count(ApicReg.irr)]).toEqual([-1, 0]);
    let n = 0;
    for (const vector of [0, 1, 30, 31, 32, 63, 64, 127, 128, 223, 224, 254, 255]) {
      block.setBit(ApicReg.irr, vector);
      expect([block.highest(ApicReg.irr), block.count(ApicReg.irr), block.test(ApicReg.irr, vector), block.get(0x200 + Math.floor(vector / 32) * 16) >>> vector % 32]).toEqual([vector, ++n, true, 1]);
    }
    expect([block.highest(ApicReg.tmr), block.highest(ApicReg.isr)]).toEqual([-1, -1]);
    for (const vector of [255, 254, 32]) block.clearBit(ApicReg.irr, vector);
    expect([block.highest(ApicReg.irr), block.count(ApicReg.irr), block.test(ApicReg.irr, 32), block.test(ApicReg.irr, 31), block.test(ApicReg.irr, 63)]).toEqual([224, 10, false, true, true]);
  });
});
