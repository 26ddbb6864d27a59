import { HvInitialVpContext } from '@vmplanes/abi-hyperv';
import { Activity } from '@vmplanes/engine';
import { ApicReg, readPage, readRegister, type RegisterName } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import type { HvOptions } from './options.ts';
import { contextInput, DirectCalls, initialContext, protectInput, type Who } from './vsm-fixture.ts';

// Calls and registers of VSM one by one, without a guest: each row differs in one thing from a call that succeeds.

const SELF = 0xffff_ffff_ffff_ffffn;
const OK = 0, PARAMETER = 5, DENIED = 6, OPERATION = 8, PARTITION = 0xd, VP_INDEX = 0xe, VP_STATE = 0x15, VALUE = 0x50, VTL_STATE = 0x51, ALREADY = 0x86;

const enablePartition = (g: DirectCalls, caller: number, vtl: number, { flags = 0, partition = SELF, reserved = -1 } = {}): number => {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setBigUint64(0, partition, true);
  bytes[8] = vtl;
  bytes[9] = flags;
  if (reserved >= 0) bytes[reserved] = 1;
  return g.issue(0, caller, 0x0d, bytes).status;
};
const enableVp = (g: DirectCalls, caller: number, vtl: number, who: Who = {}, change: Parameters<typeof initialContext>[0] = {}, vp = 0): number => g.issue(vp, caller, 0x0f, contextInput(vtl, who, initialContext(change))).status;
const start = (g: DirectCalls, caller: number, vtl: number, who: Who = { vp: 1 }, change: Parameters<typeof initialContext>[0] = {}): number => g.issue(0, caller, 0x99, contextInput(vtl, who, initialContext(change))).status;

describe('EnablePartitionVtl', () => {
  it.each([
    ['VTL1', 1, {}, {}, OK],
    ['another partition', 1, { partition: 42n }, {}, PARTITION],
    ['half of the own partition', 1, { partition: 0xffff_ffffn }, {}, PARTITION],
    ['VTL0', 0, {}, {}, PARAMETER],
    ['VTL0, by option', 0, {}, { badVtlStatus: 6 }, DENIED],
    ['the first beyond the maximum', 2, {}, {}, PARAMETER],
    ['the first beyond the maximum, by option', 2, {}, { badVtlStatus: 6 }, DENIED],
    ['the highest', 2, {}, { maximumVtl: 2 }, OK],
    ['beyond all', 3, {}, { maximumVtl: 2 }, PARAMETER],
    ['MBEC that is not offered', 1, { flags: 1 }, {}, PARAMETER],
    ['MBEC', 1, { flags: 1 }, { mbec: true }, OK],
    ['shadow stacks', 1, { flags: 2 }, { mbec: true }, PARAMETER],
    ['HVPT', 1, { flags: 5 }, { mbec: true }, PARAMETER],
    ['the first reserved byte', 1, { reserved: 10 }, {}, PARAMETER],
    ['the last reserved byte', 1, { reserved: 15 }, {}, PARAMETER],
  ] as const satisfies readonly (readonly [string, number, object, Partial<HvOptions>, number])[])('%s', (_what, vtl, more, options, status) => {
    const g = new DirectCalls(1, options);
    expect([enablePartition(g, 0, vtl, more), g.hv.chapters.vsm.enabledVtls]).toEqual([status, status === OK ? 1 | (1 << vtl) : 1]);
    expect(g.machine.vp(0).existing).toBe(1);
  });
  it('a second time', () => {
    for (const [options, status] of [[{}, VTL_STATE], [{ partitionEnabledStatus: 5 }, PARAMETER]] as const) {
      const g = new DirectCalls(1, options);
      expect([enablePartition(g, 0, 1), enablePartition(g, 0, 1), enablePartition(g, 0, 1, { flags: 1 })]).toEqual([OK, status, status]);
    }
  });
  it('a higher VTL, by the highest enabled below it; a lower one, by any', () => {
    const g = new DirectCalls(1, { maximumVtl: 2 });
    g.enable(1);
    expect([enablePartition(g, 0, 2), enablePartition(g, 1, 2), g.hv.chapters.vsm.enabledVtls]).toEqual([DENIED, OK, 7]);
    const h = new DirectCalls(1, { maximumVtl: 2 });
    h.enable(2);
    // VTL0 is the highest enabled below VTL1; VTL2 is above it.
    expect([enablePartition(h, 2, 1), enablePartition(h, 0, 1)]).toEqual([OK, VTL_STATE]);
    const i = new DirectCalls(1, { maximumVtl: 2 });
    i.enable(2);
    expect(enablePartition(i, 0, 1)).toBe(OK);
  });
  it('with MBEC splits execution below it', () => {
    const g = new DirectCalls(1, { maximumVtl: 2, mbec: true });
    const { vsm } = g.hv.chapters;
    expect([vsm.mbecVtls, g.arch.executeRightsByMode, vsm.isMbecBelow(1)]).toEqual([0, false, false]);
    enablePartition(g, 0, 2, { flags: 1 });
    expect([vsm.mbecVtls, vsm.mbecEnabledVtls, g.arch.executeRightsByMode, vsm.isMbecBelow(0), vsm.isMbecBelow(1), vsm.isMbecBelow(2)]).toEqual([3, 3, true, false, true, true]);
    const owner = new DirectCalls(1, { maximumVtl: 2, mbec: true, mbecVtlMask: 'owner' });
    enablePartition(owner, 0, 1, { flags: 1 });
    expect([owner.hv.chapters.vsm.mbecVtls, owner.hv.chapters.vsm.mbecEnabledVtls]).toEqual([1, 2]);
  });
});

describe('EnableVpVtl', () => {
  const withPartition = (vps = 2, options: Partial<HvOptions> = {}): DirectCalls => {
    const g = new DirectCalls(vps, options);
    g.hv.chapters.vsm.enable(1, false);
    return g;
  };
  it.each([
    ['this VP', 1, {}, OK], ['this VP by its index', 1, { vp: 0 }, OK], ['another VP', 1, { vp: 1 }, DENIED], ['another partition', 1, { partition: 1n }, PARTITION], ['the first VP there is not', 1, { vp: 2 }, VP_INDEX], ['any VP', 1, { vp: 0xffff_ffff }, VP_INDEX],
    ['VTL0', 0, {}, PARAMETER], ['a VTL beyond the maximum', 2, {}, PARAMETER],
  ] as const)('%s', (_what, vtl, who, status) => expect(enableVp(withPartition(), 0, vtl, who)).toBe(status));
  it('needs the VTL enabled for the partition', () => expect(enableVp(new DirectCalls(1), 0, 1)).toBe(VTL_STATE));
  it.each([13, 15])('reserved byte %i', (at) => {
    const bytes = contextInput(1);
    bytes[at] = 1;
    expect(withPartition().issue(0, 0, 0x0f, bytes).status).toBe(PARAMETER);
  });
  it('once: from then on it takes an equal or higher VTL', () => {
    const g = withPartition();
    expect([enableVp(g, 0, 1), enableVp(g, 0, 1), enableVp(g, 0, 1, { vp: 1 })]).toEqual([OK, DENIED, DENIED]);
    g.enterLongMode(g.context(0, 1));
    expect([enableVp(g, 1, 1), enableVp(g, 1, 1, { vp: 1 }), g.machine.vp(1).existing, g.machine.vp(0).current]).toEqual([ALREADY, OK, 3, 0]);
    const h = withPartition(1, { vpEnabledStatus: 5 });
    h.enable(1);
    expect(enableVp(h, 1, 1)).toBe(PARAMETER);
  });
  it('from below, by the highest VTL of the VP', () => {
    const g = new DirectCalls(1, { maximumVtl: 2 });
    g.enable(1);
    g.hv.chapters.vsm.enable(2, false);
    expect([enableVp(g, 0, 2), enableVp(g, 1, 2)]).toEqual([DENIED, OK]);
  });
  const context: readonly (readonly [string, Parameters<typeof initialContext>[0], boolean])[] = [
    ['as it is', {}, true], ['32-bit code', { cs: { base: 0n, limit: 0xffff_ffff, selector: 8, attributes: 0xc09b }, efer: 0n, cr0: 0x11n, cr4: 0n, rip: 0xffff_ffffn }, true],
    ['32-bit code beyond 4 GiB', { cs: { base: 0n, limit: 0xffff_ffff, selector: 8, attributes: 0xc09b }, efer: 0n, cr0: 0x11n, cr4: 0n, rip: 0x1_0000_0000n }, false],
    ['real mode', { cs: { base: 0n, limit: 0xffff, selector: 0, attributes: 0x9b }, efer: 0n, cr0: 0x10n, cr4: 0n }, false],
    ['virtual-8086 mode', { cs: { base: 0n, limit: 0xffff, selector: 0, attributes: 0x9b }, efer: 0n, cr0: 0x11n, cr4: 0n, rflags: 0x2_0002n }, false],
    ['a flag that is reserved', { rflags: 0x40_0002n }, false], ['flags without the fixed one', { rflags: 0n }, true], ['a flag above 32', { rflags: 1n << 33n }, false],
    ['a memory type that is none', { msrCrPat: 2n }, false], ['code of both sizes', { cs: { base: 0n, limit: 0, selector: 8, attributes: 0xe09b } }, false],
    ['RIP that is not canonical', { rip: 1n << 47n }, false], ['RIP in the upper half', { rip: 0xffff_8000_0000_0000n }, true],
    ['GDTR that is not canonical', { gdtr: { limit: 0, base: 1n << 47n } }, false], ['IDTR that is not canonical', { idtr: { limit: 0, base: 1n << 47n } }, false],
    ...(['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldtr'] as const).flatMap((name) => [
      [`${name} that is not canonical`, { [name]: { base: 1n << 47n, limit: 0, selector: 0, attributes: name === 'cs' ? 0xa09b : 0x93 } }, false],
      [`${name} with reserved attributes`, { [name]: { base: 0n, limit: 0, selector: 0, attributes: 0xa19b } }, false],
      [`${name} with the last reserved attribute`, { [name]: { base: 0n, limit: 0, selector: 0, attributes: 0xa89b } }, false],
    ] as [string, Parameters<typeof initialContext>[0], boolean][]),
    ['EFER with a reserved bit', { efer: 0x502n }, false], ['paging without PAE', { cr4: 0n }, false], ['CR0 paging without protection', { cr0: 0x8000_0010n }, false], ['CR3 beyond the address space', { cr3: 1n << 60n }, false],
  ];
  it.each(context)('a context: %s', (_what, change, isLegal) => expect(enableVp(withPartition(1), 0, 1, {}, change)).toBe(isLegal ? OK : VALUE));

  it('loads every part of the context', () => {
    const segment = (n: number, attributes: number) => ({ base: 0x1000n * BigInt(n) + 0xffff_8000_0000_0000n, limit: 0x1_0000 + n, selector: 8 * n, attributes });
    const full = initialContext({
      rip: 0xffff_8000_1234_5678n, rsp: 0xffff_8000_2345_6789n, rflags: 0x246n, cs: segment(1, 0xa09b), ds: segment(2, 0xc093), es: segment(3, 0xd093), fs: segment(4, 0x9093), gs: segment(5, 0x8093), ss: segment(6, 0xc0f3), tr: segment(7, 0x008b), ldtr: segment(8, 0x0082),
      idtr: { limit: 0xabc, base: 0xffff_8000_0001_0000n }, gdtr: { limit: 0xdef, base: 0xffff_8000_0002_0000n }, efer: 0x901n, cr0: 0x8001_0001n, cr3: 0x1_2345_6000n, cr4: 0x6a0n, msrCrPat: 0x0106_0407_0001_0506n,
    });
    const g = withPartition(1);
    g.put(g.context(0, 0), 'tscOffset', 0x1234_5678_9abcn);
    expect(g.issue(0, 0, 0x0f, contextInput(1, {}, full)).status).toBe(OK);
    const c = g.context(0, 1);
    const cell = (name: RegisterName): bigint => readRegister(g.machine.arena, c.base, name);
    // LMA follows from LME and paging, ET is always set; the level is that of SS.
    expect(['rip', 'rsp', 'rflags', 'efer', 'cr0', 'cr3', 'cr4', 'pat', 'cpl', 'tscOffset', 'idtr.limit', 'idtr.base', 'gdtr.limit', 'gdtr.base'].map((name) => cell(name as RegisterName))).toEqual([
      full.rip, full.rsp, 0x246n, 0xd01n, 0x8001_0011n, full.cr3, full.cr4, full.msrCrPat, 3n, 0x1234_5678_9abcn, 0xabcn, full.idtr.base, 0xdefn, full.gdtr.base,
    ]);
    const attributes = { cs: 0xa9bn, ds: 0xc93n, es: 0xd93n, fs: 0x993n, gs: 0x893n, ss: 0xcf3n, tr: 0x8bn, ldtr: 0x82n };
    for (const [name, expected] of Object.entries(attributes)) {
      const { base, limit, selector } = full[name as 'cs'];
      expect([cell(`${name}.base` as 'cs.base'), cell(`${name}.limit` as 'cs.limit'), cell(`${name}.selector` as 'cs.selector'), cell(`${name}.attributes` as 'cs.attributes')], name).toEqual([base, BigInt(limit), BigInt(selector), expected]);
    }
    expect([g.arch.apicOf(c).isSoftwareEnabled, HvInitialVpContext.size]).toEqual([false, 224]);
    const enabled = withPartition(1, { vtl1ApicSwEnabled: true });
    enableVp(enabled, 0, 1);
    const apic = enabled.arch.apicOf(enabled.context(0, 1));
    expect([apic.isSoftwareEnabled, readPage(apic, ApicReg.svr, 4)]).toEqual([true, 0x1ff]);
  });
});

describe('StartVirtualProcessor', () => {
  it.each([
    ['VP1', 0, { vp: 1 }, OK], ['the own VP', 0, {}, VP_INDEX], ['the own VP by its index', 0, { vp: 0 }, VP_INDEX], ['a VP that there is not', 0, { vp: 2 }, VP_INDEX], ['another partition', 0, { vp: 1, partition: 7n }, PARTITION],
    ['a VTL above', 1, { vp: 1 }, DENIED], ['a VTL beyond the maximum', 2, { vp: 1 }, PARAMETER],
  ] as const)('%s', (_what, vtl, who, status) => expect(start(new DirectCalls(2), 0, vtl, who)).toBe(status));
  it.each([13, 15])('reserved byte %i', (at) => {
    const bytes = contextInput(0, { vp: 1 });
    bytes[at] = 1;
    expect(new DirectCalls(2).issue(0, 0, 0x99, bytes).status).toBe(PARAMETER);
  });
  it('puts VTL0 to work with its context', () => {
    const g = new DirectCalls(2);
    const c = g.context(1, 0);
    expect([c.activity, g.arch.apicOf(c).latches.isWaitingForSipi]).toEqual([Activity.WaitForSipi, true]);
    expect(start(g, 0, 0, { vp: 1 }, { rip: 0x7777n })).toBe(OK);
    expect([c.activity, g.arch.apicOf(c).latches.isWaitingForSipi, readRegister(g.machine.arena, c.base, 'rip')]).toEqual([Activity.Running, false, 0x7777n]);
    expect(start(g, 0, 0)).toBe(VP_STATE);
    expect(readRegister(g.machine.arena, c.base, 'rip')).toBe(0x7777n);
  });
  it('again, by option: as INIT would leave it, with the new context', () => {
    const g = new DirectCalls(2, { startStartedVp: 'restart' });
    const c = g.context(1, 0);
    start(g, 0, 0);
    g.put(c, 'star', 5n);
    g.put(c, 'dr7', 0x455n);
    c.activity = Activity.Halted;
    c.wait = { kind: 'key', key: 'x' } as never;
    expect([start(g, 0, 0, { vp: 1 }, { rip: 0x8888n }), c.activity, c.wait, readRegister(g.machine.arena, c.base, 'rip'), readRegister(g.machine.arena, c.base, 'dr7')]).toEqual([OK, Activity.Running, null, 0x8888n, 0x400n]);
  });
  it('needs the VTL on the VP, a legal context, and nobody above that forbids it', () => {
    const g = new DirectCalls(2);
    g.enable(1, [0]);
    expect([start(g, 1, 1), start(g, 1, 0, { vp: 1 }, { cr4: 0n }), start(g, 1, 0, { vp: 1 }, { rip: 1n << 47n })]).toEqual([VP_STATE, VALUE, VALUE]);
    expect(g.hv.chapters.vsm.writePartitionConfig(1, 0x5fn)).toBe(OK);
    expect([g.hv.chapters.vsm.isStartupDenied(0), g.hv.chapters.vsm.isStartupDenied(1), start(g, 0, 0), start(g, 1, 0)]).toEqual([true, false, DENIED, OK]);
  });
  it('begins in the highest VTL of the VP', () => {
    const g = new DirectCalls(2, { maximumVtl: 2 });
    g.enable(1, [0, 1]);
    g.enable(2, [1]);
    expect([start(g, 1, 0), g.machine.vp(1).current, g.context(1, 0).activity]).toEqual([OK, 2, Activity.Running]);
    const h = new DirectCalls(2);
    h.enable(1, [0, 1]);
    // A start of VTL1 itself gives it its state; VTL0 goes on waiting.
    expect([start(h, 1, 1), h.machine.vp(1).current, h.context(1, 0).activity]).toEqual([OK, 1, Activity.WaitForSipi]);
    expect([start(h, 1, 1), start(h, 1, 0)]).toEqual([VP_STATE, OK]);
  });
});

describe('ModifyVtlProtectionMask', () => {
  const protecting = (options: Partial<HvOptions> = {}, config: bigint | null = 0x1fn): DirectCalls => {
    const g = new DirectCalls(1, options);
    g.enable(1, [0], options.mbec === true);
    if (config !== null) expect(g.hv.chapters.vsm.writePartitionConfig(1, config)).toBe(OK);
    return g;
  };
  const modify = (g: DirectCalls, caller: number, flags: number, target: number, pages: readonly number[] = [0x30], partition = SELF) => {
    const { status, done } = g.issue(0, caller, 0x0c, protectInput(flags, target, pages, partition), pages.length);
    return [status, done];
  };
  it.each([
    ['unset', 0, OK], ['the owner', 0x11, OK], ['who is restricted', 0x10, OK], ['reserved bits', 0x31, PARAMETER], ['beyond the maximum', 0x12, PARAMETER],
  ] as const)('names %s', (_what, target, status) => expect(modify(protecting(), 1, 1, target)[0]).toBe(status));
  it.each([
    ['owner', 0, OK], ['owner', 0x11, OK], ['owner', 0x10, PARAMETER], ['restricted', 0, OK], ['restricted', 0x10, OK], ['restricted', 0x11, DENIED],
  ] as const)('under %s: 0x%s', (vtlProtTarget, target, status) => expect(modify(protecting({ vtlProtTarget }), 1, 1, target)[0]).toBe(status));
  it('with three VTLs names the owner', () => {
    const g = protecting({ maximumVtl: 2 });
    expect([modify(g, 1, 1, 0x10)[0], modify(g, 1, 1, 0x12)[0], modify(g, 1, 1, 0x11)[0]]).toEqual([PARAMETER, DENIED, OK]);
    g.enable(2);
    // VTL2 may act for VTL1, which need not have enabled its protections; for itself it must.
    expect([modify(g, 2, 1, 0x11)[0], modify(g, 2, 1, 0)[0], modify(g, 2, 1, 0x12)[0]]).toEqual([OK, DENIED, DENIED]);
  });
  it('is refused to VTL0, to others, without protection, and where nobody owns it', () => {
    const g = protecting();
    // Who is meant is looked at before who asks.
    expect(modify(g, 0, 1, 0, [0x30], 9n)).toEqual([DENIED, 0]);
    expect([modify(g, 0, 1, 0), modify(g, 1, 1, 0, [0x30], 9n), modify(protecting({ partitionIdStatus: 'invalidPartitionId' }), 1, 1, 0, [0x30], 9n)]).toEqual([[PARAMETER, 0], [DENIED, 0], [PARTITION, 0]]);
    expect(modify(protecting({}, null), 1, 1, 0)).toEqual([DENIED, 0]);
    const three = new DirectCalls(1, { maximumVtl: 2 });
    three.enable(2);
    expect(modify(three, 2, 1, 0x11)).toEqual([VTL_STATE, 0]);
  });
  it.each([13, 15])('reserved byte %i', (at) => {
    const bytes = protectInput(1, 0, [0x30]);
    bytes[at] = 1;
    expect(protecting().issue(0, 1, 0x0c, bytes, 1).status).toBe(PARAMETER);
  });
  const flags: readonly (readonly [number, normal: boolean, strict: boolean, mbec: boolean])[] = [
    [0, true, true, true], [1, true, true, true], [2, false, false, false], [3, true, true, true], [4, false, false, false], [8, false, false, false], [0xc, false, false, false], [5, true, false, false], [9, true, false, true], [0xd, true, true, true],
    [7, true, false, false], [0xb, true, false, true], [0xf, true, true, true], [0x10, false, false, false], [0x1f, false, false, false], [0x8001, false, false, false],
  ];
  it.each(flags)('flags 0x%s: any, strict, with MBEC', (mask, normal, strict, mbec) => {
    const status = (isLegal: boolean): number => (isLegal ? OK : VALUE);
    expect([modify(protecting(), 1, mask, 0)[0], modify(protecting({ strictExecBits: true }), 1, mask, 0)[0], modify(protecting({ mbec: true }), 1, mask, 0)[0]]).toEqual([status(normal), status(strict), status(mbec)]);
  });
  it('gives VTL0 those rights to those pages', () => {
    const g = protecting();
    const rights = (gpn: number): number => g.machine.memory.permissions[0]!.get(gpn) & 0xf;
    expect(modify(g, 1, 5, 0, [0x30, 0x32])).toEqual([OK, 2]);
    // Either execute bit means both while MBEC is off.
    expect([0x2f, 0x30, 0x31, 0x32, 0x33].map(rights)).toEqual([0xf, 0xd, 0xf, 0xd, 0xf]);
    modify(g, 1, 3, 0, [0x30]);
    modify(g, 1, 0, 0, [0x32]);
    expect([rights(0x30), rights(0x32), g.machine.memory.permissions[1]!.get(0x30) & 0xf]).toEqual([3, 0, 0xf]);
    const split = protecting({ mbec: true });
    modify(split, 1, 9, 0, [0x30]);
    expect(split.machine.memory.permissions[0]!.get(0x30) & 0xf).toBe(9);
    const swapped = protecting({ mbec: true, executeBitOrder: 'userFirst' });
    expect([modify(swapped, 1, 5, 0, [0x30]), swapped.machine.memory.permissions[0]!.get(0x30) & 0xf, modify(swapped, 1, 9, 0, [0x30])]).toEqual([[OK, 1], 9, [VALUE, 0]]);
  });
  it('stops at a page that is not memory, with those before it done', () => {
    const g = protecting();
    expect([modify(g, 1, 1, 0, [0x30, 0x80, 0x31]), g.machine.memory.permissions[0]!.get(0x30) & 0xf, g.machine.memory.permissions[0]!.get(0x31) & 0xf]).toEqual([[PARAMETER, 1], 1, 0xf]);
    expect([modify(g, 1, 1, 0, [0x7f]), modify(g, 1, 1, 0, [2 ** 40]), modify(protecting({ nonRamStatus: 8 }), 1, 1, 0, [0x80])]).toEqual([[OK, 1], [PARAMETER, 0], [OPERATION, 0]]);
    // The hypercall page of VTL0 is an overlay.
    expect(modify(g, 1, 1, 0, [0x12])).toEqual([OPERATION, 0]);
  });
});

describe('CheckSparseGpaPageVtlAccess', () => {
  const check = (g: DirectCalls, caller: number, access: number, pages: readonly number[] = [0x30], { vtl = 0x10, partition = SELF, reserved = -1 } = {}): readonly (number | bigint)[] => {
    const bytes = new Uint8Array(16 + 8 * pages.length);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, partition, true);
    bytes[8] = vtl;
    bytes[9] = access;
    if (reserved >= 0) bytes[reserved] = 1;
    pages.forEach((page, i) => view.setBigUint64(16 + 8 * i, BigInt(page), true));
    const { status, done } = g.issue(0, caller, 0xd4, bytes, pages.length);
    return [status, ...Array.from({ length: done }, (_, i) => g.output().getBigUint64(8 * i, true))];
  };
  const protecting = (options: Partial<HvOptions> = {}): DirectCalls => {
    const g = new DirectCalls(1, options);
    g.enable(1);
    g.hv.chapters.protections.modify(1, 0x30, 1);
    g.hv.chapters.protections.modify(1, 0x31, 0xd);
    return g;
  };
  it.each([
    ['another partition', {}, 1, 1, { partition: 1n }, DENIED], ['VTL0', {}, 0, 1, {}, DENIED], ['the own VTL', {}, 1, 1, { vtl: 0x11 }, DENIED], ['no VTL named', {}, 1, 1, { vtl: 0 }, DENIED], ['reserved bits of the VTL', {}, 1, 1, { vtl: 0x30 }, PARAMETER],
    ['another access', {}, 1, 0x10, {}, PARAMETER], ['a high access', {}, 1, 0x81, {}, PARAMETER], ['reserved 10', {}, 1, 1, { reserved: 10 }, PARAMETER], ['reserved 11', {}, 1, 1, { reserved: 11 }, PARAMETER], ['reserved 12', {}, 1, 1, { reserved: 12 }, PARAMETER], ['reserved 15', {}, 1, 1, { reserved: 15 }, PARAMETER],
  ] as const)('refuses %s', (_what, options, caller, access, more, status) => expect(check(protecting(options), caller, access, [0x30], more)).toEqual([status]));
  it('tells result, denied access and VTL of each page', () => {
    const g = protecting();
    expect(check(g, 1, 0xf, [0x30, 0x31, 0x32, 0x80, 2 ** 40])).toEqual([OK, 0x1_0e01n, 0x1_0201n, 0n, 0n, 0n]);
    expect([check(g, 1, 1), check(g, 1, 2), check(g, 1, 4), check(g, 1, 8), check(g, 1, 0)]).toEqual([[OK, 0n], [OK, 0x1_0201n], [OK, 0x1_0401n], [OK, 0x1_0801n], [OK, 0n]]);
    const swapped = protecting({ executeBitOrder: 'userFirst' });
    swapped.hv.chapters.protections.modify(1, 0x32, 9);
    expect(check(swapped, 1, 0xc, [0x32])).toEqual([OK, 0x1_0801n]);
  });
});
