import { describe, expect, it } from 'vitest';
import { ApicEvent, ApicReset, isBalanced } from './counters.ts';
import { ApicBench, irr, isr, rdmsr, read, toX2apic, write, wrmsr } from './fixture.ts';
import { fromKvmImage, toKvmImage } from './kvm-image.ts';
import type { LocalApic } from './local-apic.ts';
import { readMsr, readPage, writePage } from './register-access.ts';
import { ApicReg, Lvt } from './registers.ts';

const PERIODIC = 1 << 17, TSC_DEADLINE = 2 << 17;

/** Values that each register takes, what it gives back (distinct, every field set), and its bits that are not reserved. */
const written: readonly (readonly [register: number, value: number, reads: number, legal: number])[] = [
  [ApicReg.tpr, 0xffff_ff31, 0x31, 0xff], [ApicReg.svr, 0xffff_ffff, 0x13ff, 0x13ff], [ApicReg.lvtCmci, 0xffff_fff1, 0x1_07f1, 0x1_17ff], [ApicReg.lvtThermal, 0xffff_fff3, 0x1_07f3, 0x1_17ff], [ApicReg.lvtPerf, 0xffff_fff4, 0x1_07f4, 0x1_17ff],
  [ApicReg.lvtLint0, 0xffff_fff5, 0x1_a7f5, 0x1_f7ff], [ApicReg.lvtLint1, 0xffff_fff6, 0x1_a7f6, 0x1_f7ff], [ApicReg.lvtError, 0xffff_fff7, 0x1_00f7, 0x1_10ff], [ApicReg.lvtTimer, 0xfff9_fff8, 0x1_00f8, 0x7_10ff], [ApicReg.divide, 0xffff_ffff, 0xb, 0xb], [ApicReg.initialCount, 0xfedc_ba98, 0xfedc_ba98, 0xffff_ffff],
];

describe('the register page (SDM 3A §10.4.1)', () => {
  it('each register keeps its own value', () => {
    const apic = new ApicBench().add();
    const all = [...written, [ApicReg.id, 0x9abc_def0, 0x9a00_0000], [ApicReg.ldr, 0x8bff_ffff, 0x8b00_0000], [ApicReg.dfr, 0x5000_0000, 0x5fff_ffff], [ApicReg.icrHigh, 0xa1ff_ffff, 0xa100_0000], [ApicReg.icr, 0xfff3_ffff, 0x0000_cfff]] as const;
    for (const [register, value] of all) write(apic, register, value);
    expect(all.map(([register]) => [register, read(apic, register)])).toEqual(all.map(([register, , reads]) => [register, reads]));
    expect(read(apic, ApicReg.currentCount)).toBe(0xfedc_ba98);
  });

  it('parts of a register, by size and byte', () => {
    const apic = new ApicBench().add();
    write(apic, ApicReg.initialCount, 0xfddb_b997);
    for (const [byte, size, value] of [
      [0, 1, 0x97], [1, 1, 0xb9], [2, 1, 0xdb], [3, 1, 0xfd], [0, 2, 0xb997], [1, 2, 0xdbb9], [2, 2, 0xfddb], [0, 4, 0xfddb_b997],
      [3, 2, 0], [4, 1, 0], [1, 4, 0], [15, 1, 0], [12, 4, 0],
    ] as const) expect([byte, size, readPage(apic, ApicReg.initialCount + byte, size)]).toEqual([byte, size, value]);
    for (const [byte, size] of [[0, 1], [0, 2], [1, 4], [4, 4], [8, 4]] as const) writePage(apic, ApicReg.initialCount + byte, size, 0);
    expect(read(apic, ApicReg.initialCount)).toBe(0xfddb_b997);
  });

  it('offsets that hold no register are errors, whether read or written; gaps between registers are not', () => {
    const known = new Set([0x20, 0x30, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0, 0x280, 0x2f0, 0x300, 0x310, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x390, 0x3e0, ...Array.from({ length: 24 }, (_, i) => 0x100 + i * 16)]);
    for (let offset = 0; offset < 0x1000; offset += 16) {
      for (const by of ['read', 'write']) {
        const apic = new ApicBench().add();
        if (by === 'read') readPage(apic, offset, 4);
        else if (offset !== ApicReg.icr) writePage(apic, offset, 4, 0);
        write(apic, ApicReg.esr, 0);
        expect([offset, by, read(apic, ApicReg.esr)]).toEqual([offset, by, known.has(offset) ? 0 : 0x80]);
      }
    }
    const apic = new ApicBench().add();
    readPage(apic, 0x44, 4);
    writePage(apic, 0x44, 4, 0);
    writePage(apic, 0x40, 1, 0);
    expect(readPage(apic, 0x3f0 + 8, 1)).toBe(0);
    write(apic, ApicReg.esr, 0);
    expect(read(apic, ApicReg.esr)).toBe(0);
    // A register that can be written only reads as nothing, though its cell may hold something.
    apic.block.set(ApicReg.eoi, 0x55);
    expect(read(apic, ApicReg.eoi)).toBe(0);
  });

  it('EOI ends the vector in service, by either way', () => {
    for (const x2apic of [false, true]) {
      const apic = new ApicBench().add();
      if (x2apic) toX2apic(apic);
      apic.acceptVector(0x61, false);
      apic.acknowledge();
      if (x2apic) expect(wrmsr(apic, 0x80b, 0)).toBe('ok');
      else write(apic, ApicReg.eoi, 0x1234);
      expect([isr(apic, 0x61), apic.highestIsr()]).toEqual([false, -1]);
    }
  });

  it('whoever keeps maps or waits is told of what concerns it', () => {
    const told = (register: number, value: number): string[] => {
      const bench = new ApicBench();
      const apic = bench.add();
      write(apic, register, value);
      return bench.log;
    };
    for (const register of [ApicReg.id, ApicReg.ldr, ApicReg.dfr]) expect([register, told(register, 0x4400_0000)]).toEqual([register, ['0: map']]);
    for (const register of [ApicReg.tpr, ApicReg.svr, ApicReg.initialCount, ApicReg.divide, ApicReg.lvtTimer, ApicReg.lvtLint0, ApicReg.lvtLint1, ApicReg.lvtThermal, ApicReg.lvtPerf, ApicReg.lvtError, ApicReg.lvtCmci]) expect([register, told(register, 0x41)]).toEqual([register, ['0: changed']]);
    for (const register of [ApicReg.esr, ApicReg.icrHigh, ApicReg.eoi]) expect([register, told(register, 0x41)]).toEqual([register, []]);
  });
});

describe('x2APIC MSRs (SDM 3A §10.12.1)', () => {
  it('each register keeps its own value, and every other bit is refused', () => {
    const apic = toX2apic(new ApicBench().add());
    for (const [register, , reads] of written) expect([register, wrmsr(apic, 0x800 + register / 16, reads)]).toEqual([register, 'ok']);
    expect(written.map(([register]) => [register, rdmsr(apic, 0x800 + register / 16)])).toEqual(written.map(([register, , reads]) => [register, [reads, 0]]));
    expect(rdmsr(apic, 0x839)).toEqual([0xfedc_ba98, 0]);
    for (const [register, , , legal] of written) {
      for (let bit = 0; bit < 32; bit++) expect([register, bit, wrmsr(apic, 0x800 + register / 16, (1 << bit) >>> 0)]).toEqual([register, bit, (legal >>> bit) & 1 ? 'ok' : '#GP']);
    }
  });

  it('IA32_APIC_BASE and IA32_TSC_DEADLINE have two halves', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    bench.log.length = 0;
    expect([wrmsr(apic, 0x1b, 0x1234_5900, 0x3ab), rdmsr(apic, 0x1b), bench.log]).toEqual(['ok', [0x1234_5900, 0x3ab], ['0: changed']]);
    write(apic, ApicReg.lvtTimer, TSC_DEADLINE | 0x40);
    bench.log.length = 0;
    expect([wrmsr(apic, 0x6e0, 0x89ab_cdef, 0x4567), rdmsr(apic, 0x6e0), bench.log]).toEqual(['ok', [0x89ab_cdef, 0x4567], ['0: changed']]);
    const out = Uint32Array.of(7, 7);
    expect([readMsr(toX2apic(apic), 0x808, out), [...out]]).toEqual([true, [0, 0]]);
  });

  it('a read of the deadline serves an expiry first', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.lvtTimer, TSC_DEADLINE | 0x40);
    wrmsr(apic, 0x6e0, 0x1_0000, 1);
    bench.time = 2 ** 32 + 0x1_0000;
    expect([rdmsr(apic, 0x6e0), irr(apic, 0x40), apic.block.get(0x424)]).toEqual([[0, 0], true, 0]);
  });

  it('numbers around the range are no registers', () => {
    const apic = toX2apic(new ApicBench().add());
    for (const msr of [0x7ff, 0x840, 0x7c8, 0x8ff, 0x900, 0xc000_0080]) expect([msr, rdmsr(apic, msr), wrmsr(apic, msr, 0)]).toEqual([msr, '#GP', '#GP']);
  });

  it('a command: high word in x2APIC mode the destination, in xAPIC mode the register beside', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.icrHigh, 0x4200_0000);
    bench.log.length = 0;
    for (const [low, expected] of [
      [0x4010, ['0: ipi 4010 to 42']], [0x400f, []], [0x4110, ['0: ipi 4110 to 42']], [0x410f, []], [0x4300, []], [0x4341, []], [0x4741, []], [0x4700, []], [0x4200, ['0: ipi 4200 to 42']], [0x4400, ['0: ipi 4400 to 42']], [0x4500, ['0: ipi 4500 to 42']], [0x4601, ['0: ipi 4601 to 42']],
    ] as const) {
      write(apic, ApicReg.esr, 0);
      bench.log.length = 0;
      write(apic, ApicReg.icr, low);
      expect([low, bench.log, read(apic, ApicReg.icr)]).toEqual([low, expected, low]);
      write(apic, ApicReg.esr, 0);
      expect([low, read(apic, ApicReg.esr)]).toEqual([low, low === 0x400f || low === 0x410f ? 0x20 : 0]);
    }
    toX2apic(apic);
    bench.log.length = 0;
    expect([wrmsr(apic, 0x830, 0x4041, 0x8000_0001), bench.log, rdmsr(apic, 0x830)]).toEqual(['ok', ['0: ipi 4041 to 80000001'], [0x4041, 0x8000_0001]]);
  });
});

describe('the timer at its exact tick (SDM 3A §10.5.4)', () => {
  it.each([
    // divide code, divisor
    [0b0000, 2], [0b0001, 4], [0b0010, 8], [0b0011, 16], [0b1000, 32], [0b1001, 64], [0b1010, 128], [0b1011, 1],
  ])('divide %i: by %i; one before, at, one after', (code, divisor) => {
    for (const mode of [0, PERIODIC]) {
      const bench = new ApicBench();
      bench.time = 1000;
      const apic = bench.add({ busTicks: 2 });
      write(apic, ApicReg.divide, code);
      write(apic, ApicReg.lvtTimer, mode | 0x40);
      write(apic, ApicReg.initialCount, 3);
      const due = 1000 + 3 * divisor * 2;
      expect([apic.deadline(), read(apic, ApicReg.currentCount)]).toEqual([due, 3]);
      bench.time = due - 1;
      expect([apic.expire(due - 1), read(apic, ApicReg.currentCount), irr(apic, 0x40)]).toEqual([false, 1, false]);
      expect(apic.expire(due)).toBe(true);
      expect([irr(apic, 0x40), apic.deadline(), apic.expire(due)]).toEqual([true, mode === PERIODIC ? due + 6 * divisor : Infinity, false]);
      bench.time = due + 1;
      expect(read(apic, ApicReg.currentCount)).toBe(mode === PERIODIC ? 3 : 0);
      if (mode === PERIODIC) {
        apic.acknowledge();
        apic.eoi();
        // Exactly at a later period the next one is due, not this one again.
        bench.time = due + 12 * divisor;
        expect([apic.expire(bench.time), apic.deadline(), apic.counts(ApicEvent.interrupt).accepted]).toEqual([true, due + 18 * divisor, 2]);
      }
    }
  });

  it('a period of one count; a count read after an expiry serves it first', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.divide, 0xb);
    write(apic, ApicReg.lvtTimer, PERIODIC | 0x40);
    write(apic, ApicReg.initialCount, 1);
    expect([apic.expire(1), apic.deadline(), apic.expire(2), apic.deadline()]).toEqual([true, 2, true, 3]);
    write(apic, ApicReg.initialCount, 10);
    apic.acknowledge();
    apic.eoi();
    bench.time = 13;
    expect([apic.timer.currentCount(), irr(apic, 0x40), apic.deadline()]).toEqual([7, true, 20]);
  });

  it('the divisor changes what is left, up to whole ticks', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.divide, 0); // by 2
    write(apic, ApicReg.lvtTimer, 0x40);
    write(apic, ApicReg.divide, 0xb); // nothing counts yet
    expect(apic.deadline()).toBe(Infinity);
    write(apic, ApicReg.divide, 0);
    write(apic, ApicReg.initialCount, 10);
    bench.time = 5; // 7.5 counts left
    write(apic, ApicReg.divide, 0xb);
    expect([apic.deadline(), read(apic, ApicReg.currentCount)]).toEqual([13, 8]);
    bench.time = 13;
    write(apic, ApicReg.divide, 3);
    expect([irr(apic, 0x40), apic.deadline()]).toEqual([true, Infinity]);
  });

  it('TSC deadline: one before, at; a divisor is nothing to it, and its count reads 0', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.lvtTimer, TSC_DEADLINE | 0x40);
    for (const [low, high] of [[100, 0], [0, 1], [1, 0]] as const) {
      wrmsr(apic, 0x6e0, low, high);
      const due = high * 2 ** 32 + low;
      expect([apic.deadline(), read(apic, ApicReg.currentCount)]).toEqual([due, 0]);
      write(apic, ApicReg.divide, 3);
      write(apic, ApicReg.divide, 0xb);
      expect([apic.deadline(), apic.expire(due - 1), apic.expire(due), irr(apic, 0x40), rdmsr(apic, 0x6e0)]).toEqual([due, false, true, true, [0, 0]]);
      apic.acknowledge();
      apic.eoi();
    }
    wrmsr(apic, 0x6e0, 0, 0);
    expect(apic.deadline()).toBe(Infinity);
  });

  it('a deadline that has come is served before it is replaced', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.lvtTimer, TSC_DEADLINE | 0x40);
    wrmsr(apic, 0x6e0, 10);
    bench.time = 10;
    wrmsr(apic, 0x6e0, 20);
    expect([irr(apic, 0x40), apic.deadline()]).toEqual([true, 20]);
  });

  it('leaving the deadline mode clears both halves; the reserved mode counts nothing', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.lvtTimer, TSC_DEADLINE | 0x40);
    wrmsr(apic, 0x6e0, 0x10, 0x20);
    write(apic, ApicReg.lvtTimer, 0x40);
    expect([rdmsr(apic, 0x6e0), apic.deadline()]).toEqual([[0, 0], Infinity]);
    write(apic, ApicReg.initialCount, 9);
    write(apic, ApicReg.lvtTimer, (3 << 17) | 0x40);
    expect([apic.deadline(), read(apic, ApicReg.initialCount), read(apic, ApicReg.currentCount)]).toEqual([Infinity, 0, 0]);
    write(apic, ApicReg.initialCount, 9);
    expect([apic.deadline(), read(apic, ApicReg.initialCount)]).toEqual([Infinity, 9]);
  });

  it('a time that went back gives no count above 32 bits', () => {
    const bench = new ApicBench();
    bench.time = 1000;
    const apic = bench.add();
    write(apic, ApicReg.divide, 0xb);
    write(apic, ApicReg.lvtTimer, 0x40);
    write(apic, ApicReg.initialCount, 0xffff_ffff);
    expect(read(apic, ApicReg.currentCount)).toBe(0xffff_ffff);
    bench.time = 0;
    expect(apic.timer.currentCount()).toBe(0xffff_ffff);
  });
});

describe('KVM_GET_LAPIC and KVM_SET_LAPIC (KVM API §4.57, §4.58)', () => {
  const put = (image: Uint8Array, offset: number, value: number): void => new DataView(image.buffer).setUint32(offset, value, true);
  const get = (image: Uint8Array, offset: number): number => new DataView(image.buffer).getUint32(offset, true);
  /** Every register that holds state, by offset, each with a value of its own. */
  const IMAGE: readonly (readonly [number, number])[] = [
    [0x20, 0x3300_0000], [0x80, 0x25], [0xd0, 0x4100_0000], [0xe0, 0x0fff_ffff], [0xf0, 0x1e1],
    ...Array.from({ length: 8 }, (_, i) => [0x100 + i * 16, 0x0101_0000 << i] as const), ...Array.from({ length: 8 }, (_, i) => [0x180 + i * 16, (0x1103_0000 + (i << 24)) >>> 0] as const), ...Array.from({ length: 8 }, (_, i) => [0x200 + i * 16, 0x0205_0000 + (i << 20)] as const),
    [0x280, 0x60], [0x2f0, 0x0_0271], [0x300, 0xc_0831], [0x310, 0x6600_0000], [0x320, 0x2_0072], [0x330, 0x0473], [0x340, 0x0274], [0x350, 0xa075], [0x360, 0x2476], [0x370, 0x77], [0x380, 5000], [0x390, 1234], [0x3e0, 0xb],
  ];
  const image = (): Uint8Array => {
    const made = new Uint8Array(0x400);
    for (const [offset, value] of IMAGE) put(made, offset, value >>> 0);
    return made;
  };

  it.each([false, true])('register by register, 32-bit ids %s', (hasWideIds) => {
    const bench = new ApicBench();
    bench.time = 77;
    const apic = bench.add({}, 0x33);
    expect(fromKvmImage(apic, image(), hasWideIds)).toBe(true);
    const back = toKvmImage(apic, hasWideIds);
    for (const [offset, value] of IMAGE) expect([offset.toString(16), get(back, offset)]).toEqual([offset.toString(16), value >>> 0]);
    // Version and priorities are those of the model and of the registers.
    expect([get(back, 0x30), get(back, 0xa0)]).toEqual([0x0106_0014, apic.ppr()]);
    for (const offset of [0x0, 0x10, 0x40, 0xb0, 0x3a0, 0x3f0]) expect(get(back, offset)).toBe(0);
    expect(apic.deadline()).toBe(77 + 1234);
    expect([apic.id, apic.highestIsr(), apic.highestIrr()]).toEqual([0x33, 255, 249]);
  });

  it('the priority is computed', () => {
    const apic = new ApicBench().add();
    apic.acceptVector(0x61, false);
    apic.acknowledge();
    expect([get(toKvmImage(apic, true), 0xa0), get(toKvmImage(apic, true), 0xb0)]).toEqual([0x60, 0]);
  });

  it('the version register is not writable, vectors below 16 are never taken', () => {
    const apic = new ApicBench().add();
    const made = image();
    put(made, 0x30, 0x0004_0010);
    for (const register of [0x100, 0x180, 0x200]) put(made, register, 0xffff_ffff);
    expect(fromKvmImage(apic, made, true)).toBe(true);
    expect([read(apic, ApicReg.version), ...[0x100, 0x180, 0x200].map((register) => read(apic, register))]).toEqual([0x0106_0014, 0xffff_0000, 0xffff_0000, 0xffff_0000]);
    expect([apic.block.get(0x280), apic.block.get(0x110)]).toEqual([0x60, 0x0202_0000]);
    expect(apic.counts(ApicEvent.interrupt)).toMatchObject({ pending: apic.counts(ApicEvent.interrupt).accepted });
  });

  it('what was requested before is counted as thrown away by the load, an expiry not served yet included', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.lvtTimer, 0x45);
    write(apic, ApicReg.initialCount, 1);
    apic.acceptVector(0x31, false);
    bench.time = 100;
    expect(fromKvmImage(apic, new Uint8Array(0x400), true)).toBe(true);
    expect([0, 1, 2, 3].map((cause) => apic.discardedBy(cause as ApicReset))).toEqual([0, 0, 0, 2]);
    expect([apic.counts(ApicEvent.interrupt), isBalanced(apic.counts(ApicEvent.interrupt)), apic.deadline()]).toEqual([{ accepted: 2, delivered: 0, merged: 0, discarded: 2, refused: 0, pending: 0 }, true, Infinity]);
  });

  it('x2APIC: the id must be the own one where it has 32 bits; it and the logical id stay', () => {
    const bench = new ApicBench();
    const apic = toX2apic(bench.add({}, 0x1_0234));
    const made = image();
    const before = apic.save();
    for (const wrong of [0x3300_0000, 0x1_0235, 0x34, 0]) {
      put(made, 0x20, wrong);
      expect([fromKvmImage(apic, made, true), apic.save()]).toEqual([false, before]);
    }
    for (const [id, wide] of [[0x1_0234, true], [0x3400_0000, false], [0x5500_0000, false]] as const) {
      put(made, 0x20, id);
      put(made, 0xd0, 0x7777_7777);
      bench.log.length = 0;
      expect(fromKvmImage(apic, made, wide)).toBe(true);
      expect([rdmsr(apic, 0x802), rdmsr(apic, 0x80d), apic.block.get(ApicReg.dfr), bench.log.slice(-2)]).toEqual([[0x1_0234, 0], [0x1023_0010, 0], 0x0fff_ffff, ['0: map', '0: changed']]);
    }
    expect([get(toKvmImage(apic, true), 0x20), get(toKvmImage(apic, false), 0x20)]).toEqual([0x1_0234, 0x3400_0000]);
    expect([1023, 1025, 0].map((size) => fromKvmImage(apic, new Uint8Array(size), false))).toEqual([false, false, false]);
    // A view into a larger buffer is read from its own start.
    const larger = new Uint8Array(0x500);
    larger.set(image(), 0x80);
    expect([fromKvmImage(apic, larger.subarray(0x80, 0x480), false), rdmsr(apic, 0x808)]).toEqual([true, [0x25, 0]]);
  });

  it('the timer: a count of the image replaces the one under way; a TSC deadline survives, and is armed anew', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.lvtTimer, TSC_DEADLINE | 0x40);
    wrmsr(apic, 0x6e0, 500);
    expect(fromKvmImage(apic, image(), true)).toBe(true); // periodic
    expect([apic.deadline(), rdmsr(apic, 0x6e0)]).toEqual([1234, [0, 0]]);
    const deadline = new ApicBench().add();
    write(deadline, ApicReg.lvtTimer, Lvt.masked | TSC_DEADLINE | 0x40);
    wrmsr(deadline, 0x6e0, 900);
    deadline.block.setDouble(0x428, 3); // as if restored at another time
    const made = image();
    put(made, 0x320, TSC_DEADLINE | 0x72);
    expect([fromKvmImage(deadline, made, true), deadline.deadline(), rdmsr(deadline, 0x6e0), read(deadline, ApicReg.currentCount)]).toEqual([true, 900, [900, 0], 0]);
  });

  it('in a disabled APIC the enable of the image counts for nothing', () => {
    const apic: LocalApic = new ApicBench().add();
    wrmsr(apic, 0x1b, 0xfee0_0100);
    expect([fromKvmImage(apic, image(), true), apic.isSoftwareEnabled, apic.deliverableVector()]).toEqual([true, false, -1]);
  });
});
