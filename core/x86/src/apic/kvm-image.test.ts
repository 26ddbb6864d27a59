import { HostError } from '@vmplanes/engine';
import { expect, it } from 'vitest';
import { isBalanced } from './counters.ts';
import { ApicBench, read, toX2apic, write, wrmsr } from './fixture.ts';
import { fromKvmImage, toKvmImage } from './kvm-image.ts';
import { ApicReg } from './registers.ts';

it('vector 192 is bit 0 of byte 0x260', () => {
  const apic = new ApicBench().add();
  apic.acceptVector(192, false);
  const image = toKvmImage(apic, true);
  expect(image.length).toBe(1024);
  expect(image[0x260]).toBe(1);
});

it('carries the x2APIC id in either format', () => {
  const bench = new ApicBench();
  const apic = toX2apic(bench.add({}, 0x12));
  expect(toKvmImage(apic, true).slice(0x20, 0x24)).toEqual(Uint8Array.of(0x12, 0, 0, 0));
  const narrow = toKvmImage(apic, false);
  expect(narrow.slice(0x20, 0x24)).toEqual(Uint8Array.of(0, 0, 0, 0x12));
  expect(fromKvmImage(apic, narrow, false)).toBe(true);
  expect(apic.id).toBe(0x12);
  expect(fromKvmImage(apic, narrow, true)).toBe(false);
  expect(fromKvmImage(apic, new Uint8Array(1000), true)).toBe(false);
});

it('announces what the image requests and keeps the balance', () => {
  const bench = new ApicBench();
  const source = bench.add();
  source.acceptVector(0x71, true);
  source.acceptVector(0x72, false);
  const target = bench.add();
  target.acceptVector(0x31, false);
  bench.log.length = 0;
  expect(fromKvmImage(target, toKvmImage(source, true), true)).toBe(true);
  expect(bench.log).toContain('1: changed');
  expect(bench.log).toContain('1: map');
  expect(target.deliverableVector()).toBe(0x72);
  expect(target.counts(0).pending).toBe(2);
  expect(isBalanced(target.counts(0))).toBe(true);
});

it('a count goes on from the image', () => {
  const bench = new ApicBench();
  const apic = bench.add();
  write(apic, ApicReg.divide, 0xb);
  write(apic, ApicReg.lvtTimer, (1 << 17) | 0x40);
  write(apic, ApicReg.initialCount, 100);
  bench.advance(30);
  const image = toKvmImage(apic, true);
  bench.time += 1000;
  fromKvmImage(apic, image, true);
  expect(read(apic, ApicReg.currentCount)).toBe(70);
  expect(apic.deadline()).toBe(1100);
  expect(read(apic, ApicReg.initialCount)).toBe(100);
});

it('in TSC-deadline mode the armed deadline stays', () => {
  const bench = new ApicBench();
  const apic = bench.add();
  write(apic, ApicReg.lvtTimer, (2 << 17) | 0x40);
  wrmsr(apic, 0x6e0, 500);
  fromKvmImage(apic, toKvmImage(apic, true), true);
  expect(apic.deadline()).toBe(500);
});

it('save and restore continue exactly', () => {
  const bench = new ApicBench();
  const apic = bench.add();
  write(apic, ApicReg.lvtTimer, (1 << 17) | 0x40);
  write(apic, ApicReg.initialCount, 100);
  apic.acceptVector(0x81, false);
  const state = structuredClone(apic.save());
  const other = bench.add();
  other.restore(state);
  expect(other.save()).toEqual(state);
  expect(other.deadline()).toBe(apic.deadline());
  expect(() => other.restore({ version: 1, block: new Uint8Array(3) })).toThrow(HostError);
});
