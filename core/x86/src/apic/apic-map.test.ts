import { MAX_VPS } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { ApicMap } from './apic-map.ts';
import { ApicBench, toX2apic, write, wrmsr } from './fixture.ts';
import type { LocalApic } from './local-apic.ts';
import { ApicReg } from './registers.ts';

const mapOf = (...apics: LocalApic[]) => {
  const map = new ApicMap(0);
  for (const apic of apics) map.add(apic);
  const out = new Int32Array(MAX_VPS);
  return {
    map,
    hits: (destination: number, isLogical = false, isWide = false) => [...out.slice(0, map.match(destination, isLogical, isWide, out))],
    pick: (...vps: number[]) => map.arbitrate(Int32Array.from(vps), vps.length),
  };
};

describe('physical destination (SDM 3A §10.6.2.1)', () => {
  it('translates ids to processor indexes: ids 0, 2, 4, 6 on processors 0..3', () => {
    const bench = new ApicBench();
    const { hits, map } = mapOf(...[0, 2, 4, 6].map((id) => bench.add({}, id)));
    expect(hits(2)).toEqual([1]);
    expect(hits(6)).toEqual([3]);
    expect(hits(1)).toEqual([]);
    expect(hits(3)).toEqual([]);
    expect(hits(0xff)).toEqual([0, 1, 2, 3]);
    expect([0, 1, 2, 3, 4, 5, 6].map((id) => map.vpOfInitialId(id))).toEqual([0, -1, 1, -1, 2, -1, 3]);
  });

  it('32-bit ids; the 8-bit broadcast is an ordinary id there', () => {
    const bench = new ApicBench();
    const { hits } = mapOf(toX2apic(bench.add({}, 0x1_0002)), toX2apic(bench.add({}, 0xff)), bench.add({}, 0x300));
    expect(hits(0x1_0002, false, true)).toEqual([0]);
    expect(hits(0xff, false, true)).toEqual([1]);
    expect(hits(0xffff_ffff, false, true)).toEqual([0, 1, 2]);
    expect(hits(2, false, true)).toEqual([]);
    expect(hits(0x300, false, true)).toEqual([2]);
    expect(hits(0xff)).toEqual([0, 1, 2]);
  });

  it('follows a changed id, also to a double one, and a disabled APIC', () => {
    const bench = new ApicBench();
    const [a, b] = [bench.add(), bench.add()];
    const { hits, map } = mapOf(a, b);
    write(b, ApicReg.id, 0);
    map.rebuild();
    expect(hits(0)).toEqual([0, 1]);
    expect(hits(1)).toEqual([]);
    wrmsr(a, 0x1b, 0xfee0_0100);
    map.rebuild();
    expect(hits(0)).toEqual([1]);
    expect(map.reaches(0, 0, false, false)).toBe(false);
    expect(map.reaches(1, 0, false, false)).toBe(true);
  });
});

describe('logical destination (SDM 3A §10.6.2.2, §10.12.10.2)', () => {
  const four = (ldr: readonly number[], dfr: number) => {
    const bench = new ApicBench();
    const apics = ldr.map((l) => {
      const apic = bench.add();
      write(apic, ApicReg.dfr, dfr);
      write(apic, ApicReg.ldr, l << 24);
      return apic;
    });
    return mapOf(...apics);
  };

  it('flat: any common bit', () => {
    const { hits } = four([1, 2, 4, 0], 0xffff_ffff);
    expect(hits(1, true)).toEqual([0]);
    expect(hits(6, true)).toEqual([1, 2]);
    expect(hits(8, true)).toEqual([]);
    expect(hits(0, true)).toEqual([]);
    expect(hits(0xff, true)).toEqual([0, 1, 2, 3]);
  });

  it('cluster: same high nibble and a common low bit', () => {
    const { hits } = four([0x01, 0x02, 0x11, 0x12], 0x0fff_ffff);
    expect(hits(0x01, true)).toEqual([0]);
    expect(hits(0x13, true)).toEqual([2, 3]);
    expect(hits(0x23, true)).toEqual([]);
    expect(hits(0xff, true)).toEqual([0, 1, 2, 3]);
  });

  it('a reserved model matches nothing but the broadcast', () => {
    const { hits } = four([1, 2], 0x7fff_ffff);
    expect(hits(3, true)).toEqual([]);
    expect(hits(0xff, true)).toEqual([0, 1]);
  });

  it('x2APIC: the cluster is the id without its low nibble', () => {
    const bench = new ApicBench();
    const { hits } = mapOf(...[0, 1, 0x10, 0x1f].map((id) => toX2apic(bench.add({}, id))));
    expect(hits(0x0000_0003, true, true)).toEqual([0, 1]);
    expect(hits(0x0001_8001, true, true)).toEqual([2, 3]);
    expect(hits(0x0001_0002, true, true)).toEqual([]);
    expect(hits(0xffff_ffff, true, true)).toEqual([0, 1, 2, 3]);
    expect(hits(2, true)).toEqual([1]);
  });
});

it('arbitration: lowest priority class, then in turn, only software-enabled', () => {
  const bench = new ApicBench();
  const [a, b, c] = [bench.add(), bench.add(), bench.add()];
  const { pick } = mapOf(a, b, c);
  expect([pick(0, 1, 2), pick(0, 1, 2), pick(0, 1, 2), pick(0, 1, 2)]).toEqual([0, 1, 2, 0]);
  a.setTpr(0x20);
  b.setTpr(0x2f);
  c.setTpr(0x30);
  expect([pick(0, 1, 2), pick(0, 1, 2)]).toEqual([1, 0]);
  b.writeSvr(0xff);
  a.writeSvr(0xff);
  expect(pick(0, 1, 2)).toBe(2);
  expect(pick(0, 1)).toBe(-1);
  expect(pick()).toBe(-1);
});
