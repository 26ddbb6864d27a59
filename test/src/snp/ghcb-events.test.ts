import type { Answer, CpuExit, PlaneContext } from '@vmplanes/engine';
import { Outcome } from '@vmplanes/engine';
import { CallKind, readRegister, writeRegister } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { BUFFER, DATA, DONE, es, exception, ghcbOf, type GhcbRig, invalid, snp, v1 } from './ghcb-rig.ts';

// @spec GHCB 4.1; Linux arch/x86/kvm/svm/sev.c; Linux arch/x86/coco/sev/shared.c
const GP = exception(13, 0);
const UD = exception(6);
const string = (write: boolean, size: number, port = 0x1f0): number => port * 0x1_0000 + (write ? 0 : 1) + 4 + (size << 4);
const io = (write: boolean, size: number, port = 0x3f8): number => port * 0x1_0000 + (write ? 0 : 1) + (size << 4);

describe('events without an effect', () => {
  it.each([[0x76, 'INVD', {}], [0x89, 'WBINVD', {}], [0x8a, 'MONITOR', { rax: DATA, rcx: 0, rdx: 0 }], [0x8b, 'MWAIT', { rax: 0, rcx: 0 }], [0x8000_ffff, 'unsupported event', {}]] as const)('%o (%s) succeeds', (code, _name, fields) => {
    const rig = snp();
    expect(rig.result(code, 0, 0, fields)).toEqual(DONE);
    expect([rig.exit(), rig.log.take()]).toEqual([null, []]);
  });
  it('an unsupported event is told with its code', () => {
    const rig = snp();
    const notes: unknown[] = [];
    rig.trace((name, data) => notes.push([name, data]));
    rig.event(0x8000_ffff, 0x1_0000_0063n, 0x77);
    expect(notes).toContainEqual(['unsupportedEvent', { codeLo: 0x63, codeHi: 1, infoLo: 0x77, infoHi: 0 }]);
  });
});

describe('DR7', () => {
  it('reads 0x400 at first', () => expect(snp().event(0x27)).toMatchObject({ rax: 0x400n, swExitInfo1: 0n }));
  it('reads what was written, with its fixed bits', () => {
    const rig = snp();
    expect(rig.result(0x37, 0, 0, { rax: 0xffff_ffff })).toEqual(DONE);
    expect(rig.event(0x27).rax).toBe(0xffff_27ffn);
  });
  it('with an upper half is #GP', () => expect(snp().result(0x37, 0, 0, { rax: 0x1_0000_0400n })).toEqual(GP));
  it('is one per VMPL', () => {
    const rig = snp();
    rig.event(0x37, 0, 0, { rax: 0x455 });
    rig.msr((1n << 32n) | 0x016n);
    expect(rig.ask({ swExitCode: 0x27, swExitInfo1: 0, swExitInfo2: 0 }, ghcbOf(0, 1)).rax).toBe(0x400n);
  });
  it('goes back with an INIT', () => {
    const rig = snp();
    rig.event(0x37, 0, 0, { rax: 0x455 });
    rig.machine.resetPlane(rig.machine.vp(0).context, 'init');
    expect(rig.event(0x27).rax).toBe(0x400n);
  });
});

describe('time stamps and counters', () => {
  const tsc = (rig: GhcbRig): bigint => rig.arch.registers.readMsr(rig.machine.vp(0).context, 0x10, true) as bigint;
  it.each([0x6e, 0x87])('%i gives the counter in EDX:EAX', (code) => {
    const rig = snp();
    rig.arch.registers.writeMsr(rig.machine.vp(0).context, 0x10, 0x1234_0000_0000n, true);
    const { rax, rdx } = rig.event(code);
    const value = (rdx! << 32n) | rax!;
    expect(rdx).toBe(0x1234n);
    expect(value <= tsc(rig) && value > tsc(rig) - 10n).toBe(true);
  });
  it('RDTSCP gives TSC_AUX in ECX', () => {
    const rig = snp();
    rig.arch.registers.writeMsr(rig.machine.vp(0).context, 0xc000_0103, 0x77n, true);
    expect(rig.event(0x87, 0, 0, { rcx: 5 }).rcx).toBe(0x77n);
  });
  it.each([0, 1, 2, 3])('RDPMC %i reads 0', (rcx) => expect(snp().event(0x6f, 0, 0, { rcx, rax: 9, rdx: 9 })).toMatchObject({ rax: 0n, rdx: 0n, swExitInfo1: 0n }));
  it.each([4, 0x8000_0000])('RDPMC %i is #GP', (rcx) => expect(snp().result(0x6f, 0, 0, { rcx })).toEqual(GP));
});

describe('CPUID', () => {
  const out = new Uint32Array(4);
  it.each([[0, 0], [1, 0], [7, 0], [0xd, 1], [0x8000_001f, 0], [0x4000_0000, 0]] as const)('leaf %o subleaf %i is that of the processor', (leaf, subleaf) => {
    const rig = snp();
    rig.arch.registers.executeCpuid(rig.machine.vp(0).context, leaf, subleaf, out);
    expect(rig.event(0x72, 0, 0, { rax: leaf, rcx: subleaf, xcr0: rig.get('xcr0') })).toEqual({ rax: BigInt(out[0]!), rbx: BigInt(out[1]!), rcx: BigInt(out[2]!), rdx: BigInt(out[3]!), swExitInfo1: 0n, swExitInfo2: 0n });
  });
  it('counts XCR0 of the page for the size in leaf 0xD, and leaves that of the processor', () => {
    const rig = snp();
    const size = (xcr0: number): bigint => rig.event(0x72, 0, 0, { rax: 0xd, rcx: 0, xcr0 }).rbx!;
    expect([size(1), size(3), size(7)]).toEqual([0x240n, 0x240n, 0x340n]);
    expect(rig.get('xcr0')).toBe(1n);
  });
  it('changes no register of the guest', () => {
    const rig = snp();
    rig.set('rbx', 0x1234_5678_9abcn);
    rig.event(0x72, 0, 0, { rax: 0, rcx: 0 });
    expect(rig.get('rbx')).toBe(0x1234_5678_9abcn);
  });
});

describe('MSR', () => {
  it('reads EDX:EAX', () => expect(snp().event(0x7c, 0, 0, { rcx: 0x277 })).toMatchObject({ rax: 0x0007_0406n, rdx: 0x0007_0406n, swExitInfo1: 0n }));
  it('writes EDX:EAX', () => {
    const rig = snp();
    expect(rig.result(0x7c, 1, 0, { rcx: 0xc000_0103, rax: 0x55, rdx: 0 })).toEqual(DONE);
    expect(rig.get('tscAux')).toBe(0x55n);
  });
  it('uses the low half of RCX', () => expect(snp().event(0x7c, 0, 0, { rcx: 0xffff_ffff_0000_0277n }).rax).toBe(0x0007_0406n));
  it('any information 1 but 0 writes', () => {
    const rig = snp();
    expect(rig.result(0x7c, 0x1_0000_0000n, 0, { rcx: 0xc000_0103, rax: 0x66, rdx: 0 })).toEqual(DONE);
    expect(rig.get('tscAux')).toBe(0x66n);
  });
  it.each([['an unknown one', 0, 0x1234_5678], ['a write of one', 1, 0x1234_5678], ['a value that is not legal', 1, 0x277]] as const)('%s is #GP', (_what, info1, rcx) => expect(snp().result(0x7c, info1, 0, { rcx, rax: 0xffff_ffff, rdx: 0 })).toEqual(GP));
  it('a refused one leaves RAX and RDX', () => expect(snp().event(0x7c, 0, 0, { rcx: 0x1234_5678, rax: 7, rdx: 8 })).toMatchObject({ rax: 7n, rdx: 8n }));
  it('reaches the local APIC', () => {
    const rig = snp();
    expect(rig.result(0x7c, 1, 0, { rcx: 0x1b, rax: 0xfee0_0d00, rdx: 0 })).toEqual(DONE);
    expect(rig.result(0x7c, 1, 0, { rcx: 0x80f, rax: 0x1ff, rdx: 0 })).toEqual(DONE);
    expect(rig.event(0x7c, 0, 0, { rcx: 0x80f })).toMatchObject({ rax: 0x1ffn });
    expect(rig.arch.apicOf(rig.machine.vp(0).context).isSoftwareEnabled).toBe(true);
  });

  const asking = (): GhcbRig => snp({ x86: { unknownMsr: 'exit' } });
  it('that the VMM answers leaves to it, and the reply is the result', () => {
    const rig = asking();
    expect(rig.event(0x7c, 0, 0, { rcx: 0x1234_5678, rbx: 0x42 })).toEqual({});
    expect(rig.exit()).toEqual({ kind: 'msr', write: false, index: 0x1234_5678, lo: 0, hi: 0, reason: 'unknown' });
    expect(rig.rip()).toBe(4n);
    rig.answer({ lo: 0x11, hi: 0x22 });
    expect(rig.reply()).toEqual({ rax: 0x11n, rdx: 0x22n, rcx: 0x1234_5678n, rbx: 0x42n, swExitInfo1: 0n, swExitInfo2: 0n });
    expect(rig.rip()).toBe(4n);
  });
  it('that the VMM refuses is #GP in the result, not in the guest', () => {
    const rig = asking();
    rig.event(0x7c, 1, 0, { rcx: 0x1234_5678, rax: 1, rdx: 2 });
    expect(rig.exit()).toMatchObject({ kind: 'msr', write: true, lo: 1, hi: 2 });
    rig.answer({ error: true });
    const { swExitInfo1, swExitInfo2 } = rig.reply();
    expect([swExitInfo1, swExitInfo2]).toEqual(GP);
    expect([rig.get('exception.state'), rig.rip()]).toEqual([0n, 4n]);
  });
});

describe('IOIO with RAX', () => {
  it.each([[1, 0x41n], [2, 0x1241n], [4, 0x5678_1241n]] as const)('OUT of %i bytes is an exit, with success in the page', (size, value) => {
    const rig = snp();
    expect(rig.result(0x7b, io(true, size), 0, { rax: 0x9999_0000_5678_1241n })).toEqual(DONE);
    expect(rig.exit()).toEqual({ kind: 'io', write: true, port: 0x3f8, size, value: Number(value) });
    expect([rig.reply().rax, rig.rip()]).toEqual([0x9999_0000_5678_1241n, 4n]);
  });
  it.each([[1, 0xffff_ffff_ffff_ff60n], [2, 0xffff_ffff_ffff_1260n], [4, 0x5678_1260n]] as const)('IN of %i bytes puts them into RAX as a load does', (size, rax) => {
    const rig = snp();
    expect(rig.event(0x7b, io(false, size), 0, { rax: 0xffff_ffff_ffff_ffffn, rbx: 3 })).toEqual({});
    expect(rig.exit()).toEqual({ kind: 'io', write: false, port: 0x3f8, size, value: 0 });
    rig.answer({ value: 0x5678_1260 });
    expect(rig.reply()).toEqual({ rax, rbx: 3n, rcx: 0n, rdx: 0n, swExitInfo1: 0n, swExitInfo2: 0n });
    expect(rig.rip()).toBe(4n);
  });
  it('without a size does nothing', () => {
    const rig = snp();
    expect(rig.result(0x7b, 0x03f8_0001)).toEqual(DONE);
    expect(rig.exit()).toBeNull();
  });
  it.each([3, 5, 6, 7])('with size bits %i is not valid: 2/5', (size) => expect(snp().result(0x7b, io(false, size), 0, { rax: 0 })).toEqual(invalid(5)));
  it.each([0, 0xffff])('reaches port %i', (port) => {
    const rig = snp();
    rig.event(0x7b, io(true, 1, port), 0, { rax: 1 });
    expect(rig.exit()).toMatchObject({ port });
  });
  it('address size and segment do not count', () => {
    const rig = snp();
    expect(rig.result(0x7b, io(true, 1) + 0xe00 + 8, 0, { rax: 1 })).toEqual(DONE);
    expect(rig.exit()).toMatchObject({ kind: 'io', size: 1 });
  });
});

describe('IOIO of strings', () => {
  const bytes = Uint8Array.from({ length: 16 }, (_, i) => 0x10 + i);
  it.each([[1, 3], [2, 2], [4, 3]] as const)('OUT of elements of %i bytes is one exit each', (size, count) => {
    const rig = snp();
    rig.write(BUFFER, bytes);
    expect(rig.event(0x7b, string(true, size), count, { swScratch: BUFFER, rax: 7 })).toEqual({});
    for (let i = 0; i < count; i++) {
      const value = Number(rig.peek(BUFFER + i * size, size));
      expect(rig.exit()).toEqual({ kind: 'io', write: true, port: 0x1f0, size, value });
      if (i < count - 1) expect(rig.answer({})).toBe(Outcome.Exit);
    }
    // After the last one nothing is left to be told.
    expect(rig.machine.vp(0).context.completion).toBeNull();
    expect(rig.reply()).toMatchObject({ swExitInfo1: 0n, swExitInfo2: 0n, rax: 7n });
    expect(rig.rip()).toBe(4n);
  });
  it.each([[1, 3], [2, 2], [4, 3]] as const)('IN of elements of %i bytes reaches the buffer after the last one', (size, count) => {
    const rig = snp();
    rig.write(BUFFER, new Uint8Array(16).fill(0xee));
    rig.event(0x7b, string(false, size), count, { swScratch: BUFFER });
    for (let i = 0; i < count; i++) {
      expect(rig.exit()).toEqual({ kind: 'io', write: false, port: 0x1f0, size, value: 0 });
      expect(rig.read(BUFFER, 16).every((b) => b === 0xee)).toBe(true);
      rig.answer({ value: 0x0403_0201 + i * 0x1010_1010 });
    }
    const expected = Array.from({ length: count }, (_, i) => Array.from({ length: size }, (__, b) => b + 1 + i * 0x10)).flat();
    expect([...rig.read(BUFFER, size * count)]).toEqual(expected);
    expect(rig.peek(BUFFER + size * count, 1)).toBe(0xeen);
    expect([rig.reply().swExitInfo1, rig.rip()]).toEqual([0n, 4n]);
  });
  it('data are copied once: what the guest writes between two elements does not count', () => {
    const rig = snp();
    rig.write(BUFFER, bytes);
    rig.event(0x7b, string(true, 1), 2, { swScratch: BUFFER });
    rig.write(BUFFER, new Uint8Array(16).fill(0xff));
    rig.answer({});
    expect(rig.exit()).toMatchObject({ value: 0x11 });
  });
  it('count 0 does nothing, even with scratch memory that is not valid', () => {
    const rig = snp();
    expect(rig.result(0x7b, string(false, 4), 0, { swScratch: 0 })).toEqual(DONE);
    expect(rig.exit()).toBeNull();
  });
  it('fills the whole buffer', () => {
    const rig = snp();
    expect(rig.event(0x7b, string(false, 4), 508, { swScratch: BUFFER })).toEqual({});
    expect(rig.exit()).toMatchObject({ kind: 'io' });
  });
  it.each<[string, number | bigint, number | bigint, number | bigint]>([
    ['one element too many', string(false, 4), 509, BUFFER],
    ['scratch 0', string(false, 1), 1, 0],
    ['below the buffer', string(false, 1), 1, BUFFER - 1],
    ['behind the buffer', string(false, 1), 1, ghcbOf() + 0xff0],
    ['across the end of the buffer', string(true, 4), 1, ghcbOf() + 0xfee],
    ['another page', string(true, 1), 1, DATA],
    ['the buffer of another GHCB', string(true, 1), 1, ghcbOf(0, 1) + 0x800],
    ['at the end of 64 bits', string(true, 4), 2, 0xffff_ffff_ffff_fffcn],
    ['2^31 elements', string(true, 1), 0x8000_0000, BUFFER],
    ['2^62 elements of 4 bytes', string(true, 4), 0x4000_0000_0000_0000n, BUFFER],
    ['2^64-1 elements', string(true, 4), 0xffff_ffff_ffff_ffffn, BUFFER],
  ])('%s: 2/3', (_what, info1, count, swScratch) => {
    const rig = snp();
    expect(rig.result(0x7b, info1, count, { swScratch })).toEqual(invalid(3));
    expect(rig.exit()).toBeNull();
  });
});

describe('scratch memory of version 1', () => {
  it('may be another page', () => {
    const rig = v1();
    rig.poke(DATA, 0x44n, 1);
    rig.event(0x7b, string(true, 1), 2, { swScratch: DATA });
    expect(rig.exit()).toMatchObject({ kind: 'io', value: 0x44 });
  });
  it('may have 16 pages', () => {
    const rig = v1();
    rig.event(0x7b, string(false, 4), 16 * 1024, { swScratch: 0x1000 });
    expect(rig.exit()).toMatchObject({ kind: 'io' });
  });
  it.each([['17 pages', 16 * 1024 + 1, 0x1000], ['a page without memory', 1, 0x200_0000], ['the head of the GHCB', 1, ghcbOf() + 0x7ff], ['across the end of the buffer', 1, ghcbOf() + 0xfed], ['0', 1, 0]] as const)('%s: 2/3', (_what, count, swScratch) =>
    expect(v1().result(0x7b, string(true, 4), count, { swScratch })).toEqual(invalid(3)));
  it('that is gone when data come: 2/3', () => {
    const rig = v1();
    rig.event(0x7b, string(false, 4), 1, { swScratch: 0x200_0000 });
    rig.answer({ value: 1 });
    expect([rig.reply().swExitInfo1, rig.reply().swExitInfo2]).toEqual(invalid(3));
  });
});

describe('MMIO', () => {
  const MMIO = 0xfed0_0000;
  it.each([1, 2, 4, 8])('a read of %i bytes is an exit, and its reply is in the buffer', (size) => {
    const rig = snp();
    rig.write(BUFFER, new Uint8Array(16).fill(0xee));
    expect(rig.event(0x8000_0001, MMIO, size, { swScratch: BUFFER, rax: 5 })).toEqual({});
    expect(rig.exit()).toEqual({ kind: 'mmio', write: false, gpa: MMIO, size, lo: 0, hi: 0 });
    rig.answer({ lo: 0x4433_2211, hi: 0x8877_6655 });
    expect(rig.peek(BUFFER, size)).toBe(0x8877_6655_4433_2211n & ((1n << BigInt(8 * size)) - 1n));
    expect(rig.peek(BUFFER + size, 1)).toBe(0xeen);
    expect(rig.reply()).toMatchObject({ rax: 5n, swExitInfo1: 0n, swExitInfo2: 0n });
    expect(rig.rip()).toBe(4n);
  });
  it.each([1, 2, 4, 8])('a write of %i bytes is an exit with the bytes of the buffer', (size) => {
    const rig = snp();
    rig.poke(BUFFER, 0x8877_6655_4433_2211n);
    expect(rig.result(0x8000_0002, MMIO + 8, size, { swScratch: BUFFER })).toEqual(DONE);
    const value = 0x8877_6655_4433_2211n & ((1n << BigInt(8 * size)) - 1n);
    expect(rig.exit()).toEqual({ kind: 'mmio', write: true, gpa: MMIO + 8, size, lo: Number(value & 0xffff_ffffn), hi: Number(value >> 32n) });
    expect(rig.rip()).toBe(4n);
  });
  it('a length between the sizes of a processor takes several accesses', () => {
    const rig = snp();
    rig.event(0x8000_0001, MMIO, 7, { swScratch: BUFFER });
    const seen: unknown[] = [];
    for (let i = 0; i < 3; i++) {
      seen.push(rig.exit());
      rig.answer({ lo: 0x1111_1111 * (i + 1), hi: 0 });
    }
    expect(seen).toEqual([[0, 4], [4, 2], [6, 1]].map(([at, size]) => ({ kind: 'mmio', write: false, gpa: MMIO + at!, size, lo: 0, hi: 0 })));
    expect(rig.peek(BUFFER, 7)).toBe(0x33_2222_1111_1111n);
  });
  it.each([0x8000_0001, 0x8000_0002])('%i of length 0 does nothing', (code) => {
    const rig = snp();
    expect(rig.result(code, MMIO, 0, { swScratch: 0 })).toEqual(DONE);
    expect(rig.exit()).toBeNull();
  });
  it.each<[string, number | bigint, number | bigint, number, number]>([
    ['length 9', MMIO, 9, BUFFER, 5],
    ['a length of more than 32 bits', MMIO, 0x1_0000_0001n, BUFFER, 5],
    ['scratch 0', MMIO, 4, 0, 3],
    ['scratch elsewhere', MMIO, 4, DATA, 3],
    ['scratch at the end of the buffer', MMIO, 8, ghcbOf() + 0xfe9, 3],
    ['an address beyond all memory', 2n ** 52n, 1, BUFFER, 5],
    ['an address at the end of 64 bits', 0xffff_ffff_ffff_ffffn, 4, BUFFER, 5],
  ])('%s is refused', (_what, info1, info2, swScratch, reason) => {
    for (const code of [0x8000_0001, 0x8000_0002]) {
      const rig = snp();
      expect(rig.result(code, info1, info2, { swScratch })).toEqual(invalid(reason));
      expect(rig.exit()).toBeNull();
    }
  });
  it('reaches the local APIC without an exit', () => {
    const rig = snp();
    rig.poke(BUFFER, 0x1ffn);
    expect(rig.result(0x8000_0002, 0xfee0_00f0, 4, { swScratch: BUFFER })).toEqual(DONE);
    rig.poke(BUFFER, 0n);
    expect(rig.result(0x8000_0001, 0xfee0_00f0, 4, { swScratch: BUFFER })).toEqual(DONE);
    expect([rig.peek(BUFFER), rig.exit()]).toEqual([0x1ffn, null]);
  });
  it('of more than 8 bytes is for version 1', () => {
    const rig = v1();
    rig.event(0x8000_0001, MMIO, 20, { swScratch: DATA });
    const seen: unknown[] = [];
    for (let i = 0; i < 3; i++) {
      seen.push(rig.exit());
      rig.answer({ lo: 0x0101_0101 * (i + 1), hi: 0x0101_0101 * (i + 1) });
    }
    expect(seen).toMatchObject([{ gpa: MMIO, size: 8 }, { gpa: MMIO + 8, size: 8 }, { gpa: MMIO + 16, size: 4 }]);
    expect([...rig.read(DATA, 20)]).toEqual([...Array(8).fill(1), ...Array(8).fill(2), ...Array(4).fill(3)]);
  });
});

describe('VMMCALL', () => {
  it('without a hypercall interface is #UD', () => expect(snp().result(0x81, 0, 0, { rax: 1, cpl: 0 })).toEqual(UD));

  /** An interface whose calls add RBX to RAX, and tell what they saw. */
  const adding = (seen: unknown[], how?: (context: PlaneContext) => Answer): GhcbRig => {
    const rig: { current: GhcbRig | null } = { current: null };
    const handle = (context: PlaneContext, exit: CpuExit): Answer => {
      const { arena } = rig.current!.machine;
      const get = (name: 'rax' | 'rbx' | 'rcx' | 'rdx' | 'rsi' | 'rdi' | 'r8' | 'cpl'): bigint => readRegister(arena, context.base, name);
      seen.push([exit.key, get('rax'), get('rbx'), get('rcx'), get('rdx'), get('rsi'), get('rdi'), get('r8'), get('cpl')]);
      if (how) return how(context);
      writeRegister(arena, context.base, 'rax', get('rax') + get('rbx'));
      return context.vp.replies.resume();
    };
    rig.current = snp({ beside: { name: 'adding', claims: [{ exit: 'call', from: CallKind.Vmcall, to: CallKind.Vmmcall }], handle } });
    return rig.current;
  };
  const fields = { rax: 1, rbx: 2, rcx: 3, rdx: 4, rsi: 5, rdi: 6, r8: 7, cpl: 3 } as const;

  it('reaches the interface beside with the operands of the page', () => {
    const seen: unknown[] = [];
    const rig = adding(seen);
    expect(rig.event(0x81, 0, 0, fields)).toMatchObject({ rax: 3n, rbx: 2n, swExitInfo1: 0n });
    expect(seen).toEqual([[2, 1n, 2n, 3n, 4n, 5n, 6n, 7n, 3n]]);
  });
  it('changes no register of the guest, nor its privilege', () => {
    const rig = adding([]);
    rig.set('rax', 0x1234n);
    rig.event(0x81, 0, 0, fields);
    expect([rig.get('rax'), rig.get('cpl')]).toEqual([0x1234n, 0n]);
  });
  it('that is refused is the exception of the result', () => expect(adding([], (c) => c.vp.replies.fault(6)).result(0x81, 0, 0, fields)).toEqual(UD));
  it('that waits comes again as it was', () => {
    const seen: unknown[] = [];
    const rig = adding(seen, (c) => (seen.length === 1 ? c.vp.replies.wait({ kind: 'key', key: 'later' }, 'held') : c.vp.replies.resume()));
    expect(Object.keys(rig.event(0x81, 0, 0, fields))).toContain('cpl');
    expect([rig.step(), seen.length]).toEqual([Outcome.Blocked, 1]);
    rig.machine.release('later');
    rig.machine.vp(0).sliceEnd = rig.machine.vp(0).retired;
    rig.machine.runVp(rig.machine.vp(0));
    expect(seen).toEqual([seen[0], seen[0]]);
    expect(rig.reply()).toMatchObject({ rax: 1n, swExitInfo1: 0n });
    expect(rig.rip()).toBe(4n);
  });
  it('that leaves to the VMM has its result before', () => {
    const rig = adding([], (c) => c.vp.replies.exit({ kind: 'told' }));
    expect(rig.result(0x81, 0, 0, fields)).toEqual(DONE);
    expect([rig.exit(), rig.rip()]).toEqual([{ kind: 'told' }, 4n]);
  });
  it('without a privilege level is 2/4, or from level 0 where the option says so', () => {
    expect(snp().result(0x81, 0, 0, { rax: 1 })).toEqual(invalid(4));
    expect(snp({ options: { missingCpl: 'zero' } }).result(0x81, 0, 0, { rax: 1 })).toEqual(UD);
  });
});

describe('exits that other personalities serve', () => {
  it('an MSR of another interface is read through it', () => {
    const rig: GhcbRig = snp({
      beside: {
        name: 'clock',
        claims: [{ exit: 'msr', from: 0x4b56_4d00, to: 0x4b56_4d01 }],
        handle: (context) => {
          writeRegister(rig.machine.arena, context.base, 'rax', 0x11n);
          writeRegister(rig.machine.arena, context.base, 'rdx', 0x22n);
          return context.vp.replies.resume();
        },
      },
    });
    expect(rig.event(0x7c, 0, 0, { rcx: 0x4b56_4d01 })).toMatchObject({ rax: 0x11n, rdx: 0x22n, swExitInfo1: 0n });
    expect(rig.result(0x7c, 0, 0, { rcx: 0x4b56_4d02 })).toEqual(GP);
  });
  it('a completion of another personality is finished by it', () => {
    const rig: GhcbRig = snp({
      beside: {
        name: 'clock',
        claims: [{ exit: 'msr', from: 0x4b56_4d00, to: 0x4b56_4d01 }],
        handle: (context) => context.vp.replies.exit({ kind: 'time' }, { owner: 'clock', kind: 'read', data: { scale: 3 }, reply: null }),
        complete: (context, { data, reply }) => {
          writeRegister(rig.machine.arena, context.base, 'rax', BigInt((data['scale'] as number) * (reply!['now'] as number)));
          rig.arch.retire(context);
          return null;
        },
      },
    });
    rig.event(0x7c, 0, 0, { rcx: 0x4b56_4d01 });
    expect(rig.exit()).toEqual({ kind: 'time' });
    rig.answer({ now: 7 });
    expect(rig.reply()).toMatchObject({ rax: 21n, swExitInfo1: 0n });
    expect([rig.get('rax'), rig.rip()]).toEqual([0n, 4n]);
  });
});

it('a guest without a reverse map has the same events', () => {
  const rig = es();
  expect(rig.event(0x7c, 0, 0, { rcx: 0x277 })).toMatchObject({ rax: 0x0007_0406n });
});
