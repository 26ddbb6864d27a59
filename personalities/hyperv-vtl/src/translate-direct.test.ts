import type { RegisterName } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import type { HvOptions } from './options.ts';
import { DirectCalls, Page } from './vsm-fixture.ts';

// TranslateVirtualAddress of VTL0 and VTL1 of VP0, without a guest: tables, registers and rights are put there, and the call is made.

const P = 1n, RW = 2n, US = 4n, A = 0x20n, D = 0x40n, NX = 1n << 63n;
const R = 1n, W = 2n, X = 4n, EXEMPT = 8n, SET = 0x10n, INHIBIT = 0x20n, SUPERVISOR = 0x40n, USER = 0x80n, SMAP_ON = 0x100n, SMAP_OFF = 0x200n, SHADOW = 0x400n;
const VTL0 = 0x10n << 56n, VTL1 = 0x11n << 56n;
const SELF = 0xffff_ffff_ffff_ffffn;
const TABLES = 0x5000, LEAVES = TABLES + 0x3000;
const NOT_PRESENT = 1, PRIVILEGE = 2, FLAGS = 3, UNMAPPED = 4, NO_READ = 5, NO_WRITE = 6, OVERLAY = 7, INTERCEPT = 8;
/** Memory types of the interface: uncached, write-combining, write-through, write-protected, write-back. */
const UC = 0, WB = 6;

class Scene extends DirectCalls {
  constructor(options: Partial<HvOptions> = {}, vps = 1) {
    super(vps, options);
    this.enable(1, Array.from({ length: vps }, (_, v) => v));
    // Identity tables of the first 2 MiB, and the same 2 MiB at an address with all parts of an index and bit 47 set.
    const pointer = (page: number): bigint => BigInt(page) | P | RW | US;
    this.poke(TABLES, pointer(TABLES + 0x1000));
    this.poke(TABLES + 8 * 511, pointer(TABLES + 0x1000));
    this.poke(TABLES + 0x1000, pointer(TABLES + 0x2000));
    this.poke(TABLES + 0x1000 + 8 * 2, pointer(TABLES + 0x2000));
    this.poke(TABLES + 0x2000, pointer(LEAVES));
    this.poke(TABLES + 0x2000 + 8 * 0x155, pointer(LEAVES));
    for (let page = 0; page < 0x80; page++) this.leaf(page, (BigInt(page) << 12n) | P | RW | US);
    for (const vtl of [0, 1]) for (const [name, value] of [['cr0', 0x8001_0011n], ['efer', 0xd00n], ['pat', 0x0007_0406_0007_0406n]] as const) this.put(this.context(0, vtl), name, value);
  }
  poke(gpa: number, value: bigint): void {
    const { memory } = this.machine;
    memory.access.writeU64(memory.subjects[0]!.host, gpa, Number(value & 0xffff_ffffn), Number(value >> 32n));
  }
  leaf(page: number, entry: bigint): void {
    this.poke(LEAVES + 8 * page, entry);
  }
  entry(page: number): bigint {
    return new DataView(this.bytes(0, LEAVES + 8 * page, 8).buffer).getBigUint64(0, true);
  }
  set(vtl: number, name: RegisterName, value: bigint): this {
    this.put(this.context(0, vtl), name, value);
    return this;
  }
  ask(flags: bigint, page: bigint, { code = 0x52, vtl = 1, partition = SELF, vp = 0xffff_fffe } = {}) {
    const bytes = new Uint8Array(32);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, partition, true);
    view.setUint32(8, vp, true);
    view.setBigUint64(16, flags, true);
    view.setBigUint64(24, page, true);
    return this.issue(0, vtl, code, bytes);
  }
  /** [status, result code, cache type, overlay and above, frame] */
  say(flags: bigint, page: bigint, more: object = {}): readonly (number | bigint)[] {
    const { status } = this.ask(flags, page, more);
    const view = this.output(16);
    return [status, view.getUint32(0, true), view.getUint8(4), view.getUint32(4, true) >>> 8, view.getBigUint64(8, true)];
  }
  protect(rights: number, gpn: number): void {
    this.hv.chapters.protections.modify(1, gpn, rights);
  }
}
const ok = (page: number, cache = WB, overlay = 0): readonly unknown[] => [0, 0, cache, overlay, BigInt(page)];
const failed = (code: number): readonly unknown[] => [0, code, 0, 0, 0n];

describe('operands', () => {
  it.each([
    ['another partition', R | VTL0, { partition: 1n }, 6],
    ['a partition that differs in its upper half', R | VTL0, { partition: SELF >> 32n }, 6],
    ['a VP that does not exist', R | VTL0, { vp: 1 }, 0xe],
    ['the VP by its index', R | VTL0, { vp: 0 }, 0],
    ['no access', VTL0, {}, 5],
    ['no access but other flags', SUPERVISOR | VTL0, {}, 5],
    ['flag 11', R | (1n << 11n) | VTL0, {}, 5],
    ['flag 31', R | (1n << 31n) | VTL0, {}, 5],
    ['flag 32', R | (1n << 32n) | VTL0, {}, 5],
    ['flag 55', R | (1n << 55n) | VTL0, {}, 5],
    ['SMAP on and off', R | SMAP_ON | SMAP_OFF | VTL0, {}, 5],
    ['SMAP on', R | SMAP_ON | SUPERVISOR | VTL0, {}, 0],
    ['SMAP off', R | SMAP_OFF | VTL0, {}, 0],
    ['reserved bits of the VTL', R | (0x30n << 56n), {}, 5],
    ['a VTL that the partition has not', R | (0x12n << 56n), {}, 5],
    ['a VTL above', R | VTL1, { vtl: 0 }, 6],
    ['the own VTL', R | VTL1, {}, 0],
    ['the own VTL without its number', R, {}, 0],
    ['each access alone: write', W | VTL0, {}, 0],
    ['each access alone: fetch', X | VTL0, {}, 0],
  ] as const)('%s', (_what, flags, more, status) => expect(new Scene().ask(flags, 0x30n, more).status).toBe(status));
  it('are looked at in this order: partition, VP, flags, VTL', () => {
    const s = new Scene();
    expect(s.ask(R | (0x30n << 56n), 0x30n, { partition: 1n, vp: 9 }).status).toBe(6);
    expect(s.ask(R | (0x30n << 56n), 0x30n, { vp: 9 }).status).toBe(0xe);
    expect(s.ask(R | VTL1 | (1n << 40n), 0x30n, { vtl: 0 }).status).toBe(5);
  });
  it('the own VTL is refused by option, a lower one is not', () => {
    const s = new Scene({ translateOwnVtl: false });
    expect([s.ask(R | VTL1, 0x30n).status, s.ask(R | VTL0, 0x30n).status, s.ask(R, 0x30n, { vtl: 0 }).status]).toEqual([6, 0, 6]);
  });
  it('a VP without the VTL has nothing to translate', () => {
    const s = new DirectCalls(2, {});
    s.enable(1, [0]);
    const bytes = new Uint8Array(32).fill(255, 0, 8);
    const view = new DataView(bytes.buffer);
    view.setUint32(8, 1, true);
    view.setBigUint64(16, R | VTL1, true);
    expect(s.issue(0, 1, 0x52, bytes).status).toBe(5);
  });
});

describe('a translation', () => {
  it('has the whole page number, from every part of the address', () => {
    const s = new Scene();
    // Entries 511, 2, 0x155 and 0x31 of the four tables.
    const page = 0xf_ff00_0000_0000n | (0xffn << 32n) | (511n << 27n) | (2n << 18n) | (0x155n << 9n) | 0x31n;
    expect(s.say(R | VTL0, page)).toEqual(ok(0x31));
    expect(s.say(R | VTL0, page + 0x200n)).toEqual(failed(NOT_PRESENT));
  });
  it('of a frame above 4 GiB of pages fails there', () => {
    const s = new Scene();
    s.leaf(0x31, 0x3f_ffff_f000n | P | RW | US);
    expect(s.say(R | VTL0, 0x31n)).toEqual(failed(UNMAPPED));
  });
  it('of an address that is not canonical is of no page', () => {
    const s = new Scene();
    for (const page of [0x8_0000_0000n, 0x8000_0000_0000n >> 12n, 0xf_fff7_ffff_ffffn]) expect(s.say(R | VTL0, page)).toEqual(failed(NOT_PRESENT));
  });
  const rows: readonly (readonly [string, bigint, bigint, number])[] = [
    // what, entry of the page, flags, expected code (0: mapped)
    ['read of a user page by the supervisor', P | RW | US, R | SUPERVISOR, 0],
    ['read of a supervisor page by the user', P | RW, R | USER, PRIVILEGE],
    ['read by both', P | RW, R | USER | SUPERVISOR, PRIVILEGE],
    ['read by both of a user page', P | RW | US, R | USER | SUPERVISOR, 0],
    ['write to a read-only page', P | US, W | SUPERVISOR, PRIVILEGE],
    ['read and write of a read-only page', P | US, R | W | SUPERVISOR, PRIVILEGE],
    ['read of a read-only page', P | US, R | SUPERVISOR, 0],
    ['fetch from a page without execution', P | RW | US | NX, X | SUPERVISOR, PRIVILEGE],
    ['read and fetch there', P | RW | US | NX, R | X | SUPERVISOR, PRIVILEGE],
    ['read there', P | RW | US | NX, R | SUPERVISOR, 0],
    ['nothing there', 0n, R | SUPERVISOR, NOT_PRESENT],
    ['exempt: read of a supervisor page', P | RW, R | USER | EXEMPT, 0],
    ['exempt: write to a read-only user page', P | US, W | USER | EXEMPT, PRIVILEGE],
    ['exempt: write to a read-only supervisor page', P, W | EXEMPT, PRIVILEGE],
    ['exempt: write to a page that allows it', P | RW, W | USER | EXEMPT, 0],
    ['exempt: fetch without execution', P | RW | NX, X | EXEMPT, PRIVILEGE],
    ['exempt: fetch', P, X | USER | EXEMPT, 0],
    ['exempt: nothing there', 0n, R | EXEMPT, NOT_PRESENT],
    ['exempt: read without execution', P | NX, R | EXEMPT, 0],
  ];
  it.each(rows)('%s', (_what, entry, flags, code) => {
    const s = new Scene();
    s.leaf(0x31, entry === 0n ? 0n : 0x3_1000n | entry);
    expect(s.say(flags | VTL0, 0x31n)).toEqual(code === 0 ? ok(0x31) : failed(code));
  });
  it('exempt: without write protection the supervisor page, not the user page, takes writes', () => {
    const s = new Scene().set(0, 'cr0', 0x8000_0011n);
    s.leaf(0x31, 0x3_1000n | P);
    s.leaf(0x32, 0x3_2000n | P | US);
    expect([s.say(W | EXEMPT | VTL0, 0x31n), s.say(W | EXEMPT | VTL0, 0x32n)]).toEqual([ok(0x31), failed(PRIVILEGE)]);
    // What counts is the register of the VTL asked about.
    expect(new Scene().set(1, 'cr0', 0x8000_0011n).say(W | EXEMPT | VTL0, 0x7fn)).toEqual(ok(0x7f));
  });
  it.each([
    ['a read of a shadow stack', P | US | A | D, R, 0], ['a write to a shadow stack', P | US | A | D, W, 0], ['a read of an ordinary page', P | RW | US, R, PRIVILEGE], ['a write to an ordinary page', P | RW | US, W, PRIVILEGE],
  ] as const)('as a shadow-stack access: %s', (_what, entry, flags, code) => {
    const s = new Scene();
    s.set(0, 'cr4', 0x80_0020n);
    s.leaf(0x31, 0x3_1000n | entry);
    expect(s.say(flags | SHADOW | USER | VTL0, 0x31n)[1]).toBe(code);
  });
  it('a reserved bit', () => {
    const s = new Scene().set(0, 'efer', 0x500n);
    s.leaf(0x31, 0x3_1000n | P | RW | US | NX);
    expect([s.say(R | VTL0, 0x31n), s.say(R | EXEMPT | VTL0, 0x31n)]).toEqual([failed(FLAGS), failed(FLAGS)]);
  });
  it.each([[0n, true], [1n, true], [2n, true], [3n, false]])('without a level asked for, level %i of the VTL counts', (cpl, isSupervisor) => {
    const s = new Scene().set(0, 'cpl', cpl);
    s.leaf(0x31, 0x3_1000n | P | RW);
    expect(s.say(R | VTL0, 0x31n)).toEqual(isSupervisor ? ok(0x31) : failed(PRIVILEGE));
  });
  it.each([
    ['enforced', SMAP_ON, 0x4_0202n, PRIVILEGE],
    ['overridden', SMAP_OFF, 0x202n, 0],
    ['as AC says: off', 0n, 0x4_0202n, 0],
    ['as AC says: on', 0n, 0x202n, PRIVILEGE],
  ])('SMAP %s', (_what, flag, rflags, code) => {
    const s = new Scene().set(0, 'cr4', 0x20_0020n).set(0, 'rflags', rflags);
    expect(s.say(R | SUPERVISOR | flag | VTL0, 0x31n)).toEqual(code === 0 ? ok(0x31) : failed(code));
  });
});

describe('what lies there', () => {
  it('has the memory type that PAT gives the page', () => {
    // Entries 0 to 7 of PAT: WB, WC, UC-, UC, WP, WT, UC-, WC.
    const s = new Scene().set(0, 'pat', 0x0107_0405_0007_0106n);
    const types = [6, 1, 0, 0, 5, 4, 0, 1];
    types.forEach((type, index) => {
      s.leaf(0x31, 0x3_1000n | P | RW | US | ((index & 1) === 0 ? 0n : 8n) | ((index & 2) === 0 ? 0n : 0x10n) | ((index & 4) === 0 ? 0n : 0x80n));
      expect(s.say(R | VTL0, 0x31n), `entry ${index}`).toEqual(ok(0x31, type));
    });
    expect(new Scene().set(0, 'pat', 0x0007_0406_0007_0400n).say(R | VTL0, 0x31n)).toEqual(ok(0x31, UC));
  });
  it('may be an overlay of that VTL, which cannot be written', () => {
    const s = new Scene();
    expect([s.say(R | VTL0, 0x12n), s.say(W | VTL0, 0x12n), s.say(R | W | VTL0, 0x12n), s.say(R | VTL0, 0x13n), s.say(R | VTL1, 0x13n)]).toEqual([ok(0x12, WB, 1), failed(OVERLAY), failed(OVERLAY), ok(0x13), ok(0x13, WB, 1)]);
  });
  it('may be nothing', () => {
    const s = new Scene();
    s.leaf(0x31, 0x7000_0000n | P | RW | US);
    expect([s.say(R | VTL0, 0x31n), s.say(W | VTL0, 0x31n), s.say(R | EXEMPT | VTL0, 0x31n)]).toEqual([failed(UNMAPPED), failed(UNMAPPED), failed(UNMAPPED)]);
  });
  it('may be read-only memory', () => {
    const s = new Scene();
    s.machine.memory.addSlot({ id: 1, gpa: 0x10_0000, size: 0x1000, readonly: true } as never);
    s.leaf(0x31, 0x10_0000n | P | RW | US);
    expect([s.say(R | VTL0, 0x31n)[1], s.say(W | VTL0, 0x31n)[1]]).toEqual([0, NO_WRITE]);
  });
  it.each([
    ['nothing', 0, [INTERCEPT, INTERCEPT, INTERCEPT]],
    ['read', 1, [0, INTERCEPT, INTERCEPT]],
    ['read and write', 3, [0, 0, INTERCEPT]],
    ['read and fetches', 0xd, [0, INTERCEPT, 0]],
    ['all', 0xf, [0, 0, 0]],
  ] as const)('may be protected by VTL1 down to %s', (_what, rights, codes) => {
    const s = new Scene();
    s.protect(rights, 0x31);
    expect([R, W, X].map((access) => s.say(access | VTL0, 0x31n)[1])).toEqual(codes);
    // Nothing protects it from VTL1, and the page beside is free.
    expect([s.say(R | W | X | VTL1, 0x31n)[1], s.say(R | W | X | VTL0, 0x32n)[1]]).toEqual([0, 0]);
  });
  it('may be refused by the host: rights of the plane that no VTL took', () => {
    const s = new Scene();
    s.machine.memory.permissions[0]!.set(0x31, 1, 0);
    expect([s.say(R | VTL0, 0x31n)[1], s.say(W | VTL0, 0x31n)[1], s.say(X | VTL0, 0x31n)[1]]).toEqual([NO_READ, NO_WRITE, NO_READ]);
  });
  it('MBEC: fetches of each side need their own right', () => {
    const s = new Scene({ mbec: true });
    s.hv.chapters.vsm.enable(1, true);
    s.set(0, 'cr4', 0x10_0020n);
    s.leaf(0x30, 0x3_0000n | P | RW);
    for (const gpn of [0x30, 0x31]) s.protect(9, gpn);
    expect([s.say(X | SUPERVISOR | VTL0, 0x30n)[1], s.say(X | USER | VTL0, 0x31n)[1], s.say(X | EXEMPT | VTL0, 0x30n)[1], s.say(X | EXEMPT | VTL0, 0x31n)[1]]).toEqual([INTERCEPT, 0, INTERCEPT, 0]);
  });
});

describe('flags in the tables', () => {
  const flagsAfter = (flags: bigint, entry: bigint): bigint => {
    const s = new Scene();
    s.leaf(0x31, 0x3_1000n | entry);
    s.ask(flags | VTL0, 0x31n);
    return s.entry(0x31) & (A | D);
  };
  it.each([
    ['not asked for', R | W, P | RW | US, 0n], ['read', R | SET, P | RW | US, A], ['fetch', X | SET, P | RW | US, A], ['write', W | SET, P | RW | US, A | D], ['read and write', R | W | SET, P | RW | US, A | D], ['all', R | W | X | SET, P | RW | US, A | D],
    ['a write that fails', R | W | SET, P | US, 0n], ['a level that fails', R | USER | SET, P | RW, 0n], ['both levels', W | USER | SUPERVISOR | SET, P | RW | US, A | D],
    ['exempt, user page', W | EXEMPT | SET, P | RW | US, A | D], ['exempt, supervisor page', R | USER | EXEMPT | SET, P | RW, A], ['exempt, not asked for', W | EXEMPT, P | RW, 0n], ['exempt that fails', W | EXEMPT | SET, P | US, 0n],
  ] as const)('%s', (_what, flags, entry, expected) => expect(flagsAfter(flags, entry)).toBe(expected));
});

describe('locks', () => {
  it('are of a lower VTL, held by the one that asked', () => {
    const s = new Scene({}, 2);
    const { locks } = s.hv.chapters.vsm;
    s.ask(R | VTL0, 0x31n);
    expect(locks.isLocked(0, 0)).toBe(false);
    s.ask(R | INHIBIT | VTL1, 0x31n);
    expect([locks.isLocked(0, 1), locks.isLocked(0, 0)]).toEqual([false, false]);
    s.ask(R | INHIBIT | VTL0, 0x31n, { vp: 1 });
    expect([locks.isLockedBy(1, 0, 1), locks.isLocked(0, 0), locks.holdsAny(0, 1), locks.holdsAny(1, 1)]).toEqual([true, false, true, false]);
  });
  it('are not taken by a call that is refused', () => {
    const s = new Scene();
    for (const flags of [INHIBIT | VTL0, R | INHIBIT | SMAP_ON | SMAP_OFF | VTL0]) s.ask(flags, 0x31n);
    expect(s.hv.chapters.vsm.locks.isLocked(0, 0)).toBe(false);
  });
});

describe('the event of the extended call', () => {
  const PAGE = 0x31n;
  /** Words of the 64 bytes of output, low first. */
  const words = (s: Scene, flags: bigint, page = PAGE): readonly string[] => {
    expect(s.ask(flags, page, { code: 0xac }).status).toBe(0);
    const view = s.output();
    return Array.from({ length: 8 }, (_, i) => view.getBigUint64(8 * i, true).toString(16));
  };
  it('is none when all is well', () => expect(words(new Scene(), R | W | VTL0)).toEqual(['600000000', '0', '0', '0', '0', '0', '31', '0']));
  it.each([
    ['a read by the supervisor', R | SUPERVISOR, 0n, '1', '0'],
    ['a write by the user', W | USER, 0n, '1', '6'],
    ['a fetch by the user', X | USER, 0n, '1', '14'],
    ['a read that is not allowed', R | USER, P | RW, '2', '5'],
    ['a write that is not allowed', W | SUPERVISOR, P | US, '2', '3'],
    ['exempt: a write that is not allowed', W | EXEMPT, P | US, '2', '3'],
    ['exempt: a fetch that is not allowed', X | EXEMPT, P | NX, '2', '11'],
  ])('is a page fault for %s', (_what, flags, entry, code, errorCode) => {
    const s = new Scene();
    s.leaf(0x31, entry === 0n ? 0n : 0x3_1000n | entry);
    // Pending exception 14 with a code; the address is its parameter.
    expect(words(s, flags | VTL0)).toEqual([code, '0', `${errorCode === '0' ? '' : errorCode}${errorCode === '0' ? 'e0101' : '000e0101'}`, '31000', '0', '0', '0', '0']);
  });
  it('names the whole address', () => {
    expect(words(new Scene(), R | VTL0, 0xf_fff8_1234_5678n).slice(2, 4)).toEqual(['e0101', 'ffff812345678000']);
  });
  it.each([['read', R, 0], ['write', W, 1], ['fetch', X, 2]] as const)('is a memory intercept for a %s that VTL1 refuses', (_what, access, type) => {
    const s = new Scene();
    s.protect(0, 0x31);
    // Header 3: pending, memory intercept; VTL1; access; addresses valid and of the access itself.
    expect(words(s, access | VTL0)).toEqual(['8', '0', (0x0300_0103 | (type << 16)).toString(16), '31000', '31000', '0', '0', '0']);
  });
  it.each([['read', R, 0], ['write', W, 1]] as const)('is one for a shadow-stack %s, too', (_what, access, type) => {
    const s = new Scene().set(0, 'cr4', 0x80_0020n);
    s.leaf(0x31, 0x3_1000n | P | US | A | D);
    s.protect(0, 0x31);
    expect(words(s, access | SHADOW | USER | VTL0).slice(0, 3)).toEqual(['8', '0', (0x0300_0103 | (type << 16)).toString(16)]);
  });
  it('says that a table was refused, not the page', () => {
    const s = new Scene();
    s.protect(0, LEAVES >> 12);
    expect(words(s, W | VTL0)).toEqual(['8', '0', (0x0101_0103).toString(16), '31000', (LEAVES & ~0xfff).toString(16), '0', '0', '0']);
  });
  it('is none for what is neither', () => {
    const s = new Scene();
    s.machine.memory.permissions[0]!.set(0x33, 1, 0);
    for (const [flags, page, code] of [[W, 0x12n, OVERLAY], [R, 0x33n, NO_READ], [W, 0x33n, NO_WRITE], [R, 0x8_0000_0000n, NOT_PRESENT]] as const) expect(words(s, flags | VTL0, page)).toEqual([String(code), '0', '0', '0', '0', '0', '0', '0']);
    s.protect(0, 0x33);
    expect(words(s, R | VTL0, 0x33n)[0]).toBe('8');
    s.leaf(0x31, 0x7000_0000n | P | RW | US);
    expect(words(s, R | VTL0)).toEqual(['4', '0', '0', '0', '0', '0', '0', '0']);
  });
  it('is left out by option', () => {
    const s = new Scene({ translateExOutput: 24 });
    s.poke(Page.Output + 24, SELF);
    expect(words(s, R | VTL0).slice(0, 4)).toEqual(['600000000', '0', '31', 'ffffffffffffffff']);
  });
});
