import { describe, expect, it } from 'vitest';
import { ApicBench, irr, rdmsr, read, toX2apic, write, wrmsr } from './fixture.ts';
import { ApicReg, Lvt } from './registers.ts';
import { divisorOf } from './timer.ts';

const PERIODIC = 1 << 17;
const TSC_DEADLINE = 2 << 17;
const bench0 = () => {
  const bench = new ApicBench();
  const apic = bench.add();
  write(apic, ApicReg.divide, 0xb);
  return { bench, apic };
};

it('divides by the values of SDM 3A figure 10-10', () => {
  expect([0, 1, 2, 3, 8, 9, 0xa, 0xb].map(divisorOf)).toEqual([2, 4, 8, 16, 32, 64, 128, 1]);
});

describe('one-shot', () => {
  it('counts down once, in units of the divisor and the bus', () => {
    const bench = new ApicBench();
    const apic = bench.add({ busTicks: 3 });
    write(apic, ApicReg.divide, 1);
    write(apic, ApicReg.lvtTimer, 0x40);
    write(apic, ApicReg.initialCount, 10);
    expect(apic.deadline()).toBe(120);
    bench.advance(13);
    expect(read(apic, ApicReg.currentCount)).toBe(9);
    bench.advance(106);
    expect(read(apic, ApicReg.currentCount)).toBe(1);
    expect(irr(apic, 0x40)).toBe(false);
    bench.advance(1);
    expect(irr(apic, 0x40)).toBe(true);
    expect(read(apic, ApicReg.currentCount)).toBe(0);
    expect(read(apic, ApicReg.initialCount)).toBe(10);
    expect(apic.deadline()).toBe(Infinity);
  });

  it('is stopped by an initial count of 0 and restarted by another', () => {
    const { bench, apic } = bench0();
    write(apic, ApicReg.lvtTimer, 0x40);
    write(apic, ApicReg.initialCount, 10);
    write(apic, ApicReg.initialCount, 0);
    bench.advance(100);
    expect(irr(apic, 0x40)).toBe(false);
    write(apic, ApicReg.initialCount, 10);
    bench.advance(5);
    write(apic, ApicReg.initialCount, 10);
    expect(apic.deadline()).toBe(115);
  });

  it('masked: counts without a deadline, and unmasking later does not fire for the past', () => {
    const { bench, apic } = bench0();
    write(apic, ApicReg.lvtTimer, Lvt.masked | 0x40);
    write(apic, ApicReg.initialCount, 10);
    expect(apic.deadline()).toBe(Infinity);
    bench.time += 4;
    expect(read(apic, ApicReg.currentCount)).toBe(6);
    bench.time += 10;
    write(apic, ApicReg.lvtTimer, 0x40);
    bench.advance(100);
    expect(irr(apic, 0x40)).toBe(false);
  });

  it('a deadline not served yet is served before the timer is written again', () => {
    const { bench, apic } = bench0();
    write(apic, ApicReg.lvtTimer, 0x40);
    write(apic, ApicReg.initialCount, 10);
    bench.time += 10;
    write(apic, ApicReg.initialCount, 50);
    expect(irr(apic, 0x40)).toBe(true);
    expect(apic.deadline()).toBe(60);
  });
});

describe('periodic', () => {
  it('keeps its phase and merges missed periods', () => {
    const { bench, apic } = bench0();
    write(apic, ApicReg.lvtTimer, PERIODIC | 0x40);
    write(apic, ApicReg.initialCount, 10);
    bench.advance(10);
    expect(apic.acknowledge()).toBe(0x40);
    expect(apic.deadline()).toBe(20);
    bench.advance(35);
    expect(apic.deadline()).toBe(50);
    expect(read(apic, ApicReg.currentCount)).toBe(5);
    expect(apic.counts(0).accepted).toBe(2);
  });

  it('changing the divisor goes on from the current count', () => {
    const { bench, apic } = bench0();
    write(apic, ApicReg.lvtTimer, 0x40);
    write(apic, ApicReg.initialCount, 100);
    bench.advance(40);
    write(apic, ApicReg.divide, 0);
    expect(read(apic, ApicReg.currentCount)).toBe(60);
    expect(apic.deadline()).toBe(160);
  });
});

/** The steps that the mode-change test of kvm-unit-tests (x86/apic.c) checks on hardware. */
describe('mode changes keep the count', () => {
  it('one-shot to periodic and back; an expired one-shot stays at 0', () => {
    const { bench, apic } = bench0();
    const initial = 0x99_9999;
    write(apic, ApicReg.initialCount, initial);
    write(apic, ApicReg.lvtTimer, PERIODIC | 0x40);
    expect(read(apic, ApicReg.initialCount)).toBe(initial);
    write(apic, ApicReg.lvtTimer, 0x40);
    write(apic, ApicReg.initialCount, initial);
    bench.advance(initial - 10);
    write(apic, ApicReg.lvtTimer, PERIODIC | 0x40);
    expect(read(apic, ApicReg.currentCount)).toBe(10);
    bench.advance(15);
    expect(read(apic, ApicReg.currentCount)).toBe(initial - 5);
    bench.advance(initial - 25);
    write(apic, ApicReg.lvtTimer, 0x40);
    expect(read(apic, ApicReg.currentCount)).toBe(20);
    bench.advance(20);
    expect(read(apic, ApicReg.currentCount)).toBe(0);
    write(apic, ApicReg.lvtTimer, PERIODIC | 0x40);
    expect(read(apic, ApicReg.currentCount)).toBe(0);
    expect(apic.deadline()).toBe(Infinity);
  });
});

describe('TSC deadline (SDM 3A §10.5.4.1)', () => {
  const start = () => {
    const { bench, apic } = bench0();
    bench.tscOffset = 1000;
    write(apic, ApicReg.lvtTimer, TSC_DEADLINE | 0x40);
    return { bench, apic };
  };

  it('fires when the counter reaches it, then reads 0', () => {
    const { bench, apic } = start();
    wrmsr(apic, 0x6e0, 1500);
    expect(apic.deadline()).toBe(500);
    expect(rdmsr(apic, 0x6e0)).toEqual([1500, 0]);
    bench.advance(500);
    expect(irr(apic, 0x40)).toBe(true);
    expect(rdmsr(apic, 0x6e0)).toEqual([0, 0]);
  });

  it('fires at once in the past, is disarmed by 0, moves with the counter', () => {
    const { bench, apic } = start();
    wrmsr(apic, 0x6e0, 10);
    expect(apic.acknowledge()).toBe(0x40);
    wrmsr(apic, 0x6e0, 2000, 1);
    expect(apic.deadline()).toBe(2 ** 32 + 1000);
    wrmsr(apic, 0x6e0, 0, 0);
    expect(apic.deadline()).toBe(Infinity);
    wrmsr(apic, 0x6e0, 2000);
    bench.tscOffset = 1900;
    apic.timer.tscChanged();
    expect(apic.deadline()).toBe(100);
  });

  it('is ignored in the other modes, and entering or leaving the mode disarms', () => {
    const { apic } = start();
    write(apic, ApicReg.initialCount, 50);
    expect(read(apic, ApicReg.initialCount)).toBe(0);
    wrmsr(apic, 0x6e0, 5000);
    write(apic, ApicReg.lvtTimer, 0x40);
    expect(apic.deadline()).toBe(Infinity);
    wrmsr(apic, 0x6e0, 5000);
    expect(rdmsr(apic, 0x6e0)).toEqual([0, 0]);
    write(apic, ApicReg.initialCount, 50);
    write(apic, ApicReg.lvtTimer, TSC_DEADLINE | 0x40);
    expect(read(apic, ApicReg.initialCount)).toBe(0);
    expect(read(apic, ApicReg.currentCount)).toBe(0);
    expect(apic.deadline()).toBe(Infinity);
  });

  it('does not exist where the model has none', () => {
    const apic = toX2apic(new ApicBench().add({ tscDeadline: false }));
    expect(rdmsr(apic, 0x6e0)).toBe('#GP');
    expect(wrmsr(apic, 0x6e0, 1)).toBe('#GP');
    expect(wrmsr(apic, 0x832, TSC_DEADLINE | 0x40)).toBe('#GP');
  });
});
