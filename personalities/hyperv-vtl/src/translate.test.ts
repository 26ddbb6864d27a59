import { HvRegister } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import type { HvOptions } from './options.ts';
import { assistPage, type Code, enableVtl, hypercalls, Page, protectInput, setRegister, slow, vtlCall, vtlReturn, Vtls } from './vsm-fixture.ts';

const P = 1n, RW = 2n, US = 4n, A = 0x20n, D = 0x40n, NX = 1n << 63n;
const R = 1n, W = 2n, X = 4n, EXEMPT = 8n, SET = 0x10n, INHIBIT = 0x20n, SUPERVISOR = 0x40n, USER = 0x80n, SMAP_ON = 0x100n, SMAP_OFF = 0x200n;
const LOWER = 0x10n << 56n;
const TABLES = 0x5000;

/** Identity tables for 2 MiB with pages of 4 KiB; `special` gives entries of their own. */
const tables = (g: Vtls, special: Readonly<Record<number, bigint>> = {}): void => {
  const { memory } = g.machine;
  const put = (at: number, value: bigint): void => void memory.access.writeU64(memory.subjects[0]!.host, at, Number(value & 0xffff_ffffn), Number(value >> 32n));
  put(TABLES, BigInt(TABLES + 0x1000) | P | RW | US);
  put(TABLES + 0x1000, BigInt(TABLES + 0x2000) | P | RW | US);
  put(TABLES + 0x2000, BigInt(TABLES + 0x3000) | P | RW | US);
  for (let page = 0; page < 0x80; page++) put(TABLES + 0x3000 + 8 * page, special[page] ?? (BigInt(page) << 12n) | P | RW | US);
  for (const [page, entry] of Object.entries(special)) if (Number(page) >= 0x80) put(TABLES + 0x3000 + 8 * Number(page), entry);
};
const input = (flags: bigint, page: bigint, partition = 0xffff_ffff_ffff_ffffn, vp = 0xffff_fffe): Uint8Array => {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, partition, true);
  view.setUint32(8, vp, true);
  view.setBigUint64(16, flags, true);
  view.setBigUint64(24, page, true);
  return bytes;
};
const output = (g: Vtls, vtl: number, size = 16): DataView => new DataView(g.bytes(vtl, Page.Output + (vtl << 9), size).buffer);
/** [status, result code, cache type, overlay, frame] */
const translate = function* (g: Vtls, vtl: number, flags: bigint, page: bigint): Code<readonly number[]> {
  const { status } = yield* slow(vtl, 0x52, input(flags, page));
  const view = output(g, vtl);
  return [status, view.getUint32(0, true), view.getUint8(4), view.getUint8(5), Number(view.getBigUint64(8, true))];
};
const scene = (special: Readonly<Record<number, bigint>>, vtl1: (g: Vtls) => Code<void>, vtl0: (g: Vtls) => Code<void> = function* () {}, options: Partial<HvOptions> = {}): Vtls => {
  const g = new Vtls(1, options);
  tables(g, special);
  let finished = false;
  g.run([[
    function* () { yield* hypercalls(0); yield* vtl0(g); yield* enableVtl(0, 1); yield* vtlCall(); },
    function* () { yield* hypercalls(1); yield* vtl1(g); finished = true; yield* vtlReturn(); },
  ]]);
  expect(finished).toBe(true);
  return g;
};

describe('TranslateVirtualAddress', () => {
  it('checks its operands', () => {
    const seen: number[] = [];
    scene({}, function* () {
      for (const bytes of [input(R, 0x30n, 1n), input(R, 0x30n, undefined, 7), input(0n, 0x30n), input(R | (1n << 11n), 0x30n), input(R | (1n << 32n), 0x30n), input(R | (0x20n << 56n), 0x30n), input(R | SMAP_ON | SMAP_OFF, 0x30n)]) seen.push((yield* slow(1, 0x52, bytes)).status);
    }, function* () {
      seen.push((yield* slow(0, 0x52, input(R | (0x11n << 56n), 0x30n))).status);
    });
    expect(seen).toEqual([6, 6, 0xe, 5, 5, 5, 5, 5]);
  });

  it('finds a page of the own VTL, as kvm-unit-tests asks for it', () => {
    let own: readonly number[] = [];
    scene({}, function* () {}, function* (g) {
      own = yield* translate(g, 0, R | W | X | EXEMPT | LOWER, 0x30n);
    });
    expect(own).toEqual([0, 0, 6, 0, 0x30]);
  });

  it.each([
    ['a mapped page', {}, R | W | X, 0x30n, [0, 0, 6, 0, 0x30]],
    ['an address beyond the tables', {}, R, 0x8_0000_0000n, [0, 1, 0, 0, 0]],
    ['a page that is not present', { 0x31: 0n }, R, 0x31n, [0, 1, 0, 0, 0]],
    ['a write to a read-only page, user', { 0x31: 0x31000n | P | US }, W | USER, 0x31n, [0, 2, 0, 0, 0]],
    ['a supervisor page for a user access', { 0x31: 0x31000n | P | RW }, R | USER, 0x31n, [0, 2, 0, 0, 0]],
    ['a supervisor page, exempt', { 0x31: 0x31000n | P | RW }, R | USER | EXEMPT, 0x31n, [0, 0, 6, 0, 0x31]],
    ['a reserved bit', { 0x31: 0x31000n | P | RW | US | NX }, R, 0x31n, [0, 3, 0, 0, 0]],
    ['memory that is not there', { 0x31: 0x7000_0000n | P | RW | US }, R, 0x31n, [0, 4, 0, 0, 0]],
    ['an uncached page', { 0x31: 0x31000n | P | RW | US | 0x18n }, R, 0x31n, [0, 0, 0, 0, 0x31]],
    ['the hypercall page', {}, R, 0x12n, [0, 0, 6, 1, 0x12]],
    ['a write to the hypercall page', {}, W, 0x12n, [0, 7, 0, 0, 0]],
    ['an address that is not canonical', {}, R, 0x8_0000_0000n << 4n, [0, 1, 0, 0, 0]],
  ] as const)('of %s', (_what, special, flags, page, expected) => {
    let seen: readonly number[] = [];
    scene(special, function* (g) {
      seen = yield* translate(g, 1, flags | LOWER, page);
    });
    expect(seen).toEqual(expected);
  });

  it('says when a VTL above would intercept, and which event that is', () => {
    const g = scene({}, function* (it) {
      yield* assistPage(1);
      yield* setRegister(1, HvRegister.VsmPartitionConfig, 0x1fn);
      yield* slow(1, 0x0c, protectInput(1, 0, [0x30]), 1);
      expect(yield* translate(it, 1, W | LOWER, 0x30n)).toEqual([0, 8, 0, 0, 0]);
      expect(yield* translate(it, 1, R | LOWER, 0x30n)).toEqual([0, 0, 6, 0, 0x30]);
      expect((yield* slow(1, 0xac, input(W | LOWER, 0x30n))).status).toBe(0);
    });
    const view = output(g, 1, 64);
    expect([view.getUint32(0, true), view.getUint8(16), view.getUint8(17), view.getUint8(18), view.getUint8(19), view.getBigUint64(24, true), view.getBigUint64(32, true)]).toEqual([8, 3, 1, 1, 3, 0x30000n, 0x30000n]);
  });

  it('gives the page fault that the access would raise', () => {
    const g = scene({ 0x31: 0n }, function* () {
      expect((yield* slow(1, 0xac, input(W | USER | LOWER, 0x31n))).status).toBe(0);
    });
    const view = output(g, 1, 64);
    expect([view.getUint32(0, true), view.getUint8(16), view.getUint8(17), view.getUint16(18, true), view.getUint32(20, true), view.getBigUint64(24, true)]).toEqual([1, 1, 1, 14, 6, 0x31000n]);
  });

  it('sets flags in the tables only when asked to', () => {
    for (const [flags, expected] of [[R, 0n], [R | SET, A], [R | W | SET, A | D]] as const) {
      const g = scene({}, function* (it) {
        yield* translate(it, 1, flags | LOWER, 0x30n);
      });
      expect(new DataView(g.bytes(0, TABLES + 0x3000 + 0x180, 8).buffer).getBigUint64(0, true) & (A | D)).toBe(expected);
    }
  });

  it('locks the translations of a lower VTL until the return', () => {
    const locked: boolean[] = [];
    const g = scene({}, function* (it) {
      yield* translate(it, 1, R | INHIBIT | SUPERVISOR | LOWER, 0x30n);
      locked.push(it.hv.chapters.vsm.isTlbLocked(it.machine.vp(0), 0));
    });
    locked.push(g.hv.chapters.vsm.isTlbLocked(g.machine.vp(0), 0));
    expect(locked).toEqual([true, false]);
  });

  it('refuses the own VTL by option', () => {
    let status = -1;
    scene({}, function* () {}, function* () {
      status = (yield* slow(0, 0x52, input(R, 0x30n))).status;
    }, { translateOwnVtl: false });
    expect(status).toBe(6);
  });
});
