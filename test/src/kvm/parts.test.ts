import { ExitIo, KvmRunPlanes } from '@vmplanes/abi-kvm-planes';
import { struct, u16, u32 } from '@vmplanes/binary';
import { Argument, counterNames, encodeStats, FdTable, isFailure, type KvmArgument, PIO_DATA_OFFSET, RunPage } from '@vmplanes/kvm';
import { describe, expect, it } from 'vitest';

describe('arguments of a call', () => {
  /** [argument, as unsigned long, as unsigned int, as signed long, null pointer]: conversions of C. */
  const integers: readonly (readonly [KvmArgument, bigint, number, bigint, boolean])[] = [
    [0, 0n, 0, 0n, true],
    [1, 1n, 1, 1n, false],
    [-1, (1n << 64n) - 1n, 0xffff_ffff, -1n, false],
    [0x1_0000_0002, 0x1_0000_0002n, 2, 0x1_0000_0002n, false],
    [2.9, 2n, 2, 2n, false],
    [-2.9, (1n << 64n) - 2n, 0xffff_fffe, -2n, false],
    [Number.NaN, 0n, 0, 0n, true],
    [Number.POSITIVE_INFINITY, 0n, 0, 0n, true],
    [Number.NEGATIVE_INFINITY, 0n, 0, 0n, true],
    [1n << 63n, 1n << 63n, 0, -(1n << 63n), false],
    [(1n << 64n) + 5n, 5n, 5, 5n, false],
    [0n, 0n, 0, 0n, true],
    [null, 0n, 0, 0n, true],
  ];
  it.each(integers)('%s', (value, long, uint, signed, isNull) => {
    const a = new Argument(value);
    expect([a.long, a.uint, a.signed, a.isNull, a.reach]).toEqual([long, uint, signed, isNull, 0]);
    expect([a.bytes(0, 0), a.store(0, new Uint8Array(0)), a.read(pair), a.write(pair, { a: 1, b: 2 })]).toEqual([null, false, null, false]);
  });
  const pair = struct('pair', 'test', 6, { a: [0, u32], b: [4, u16] });

  it('a pointer taken for an integer is an address of userspace', () => {
    const a = new Argument(new Uint8Array(0));
    expect([a.long, a.uint, a.signed, a.isNull]).toEqual([0x7fff_ffff_f000n, 0xffff_f000, 0x7fff_ffff_f000n, false]);
  });
  it('a pointer reaches as far as its bytes, to the last one', () => {
    const bytes = Uint8Array.from({ length: 10 }, (_, i) => i);
    const a = new Argument(bytes);
    expect(a.reach).toBe(10);
    expect([a.bytes(0, 10), a.bytes(9, 1), a.bytes(10, 0), a.bytes(4, 3)]).toEqual([bytes, Uint8Array.of(9), new Uint8Array(0), Uint8Array.of(4, 5, 6)]);
    for (const [at, length] of [[0, 11], [10, 1], [11, 0], [-1, 1], [1, -1], [Number.NaN, 1], [0, Number.NaN], [2 ** 53, 1]] as const) expect(a.bytes(at, length), `${at} ${length}`).toBeNull();
    // A copy: what the caller changes meanwhile does not come through.
    const copy = a.bytes(0, 2)!;
    bytes[0] = 99;
    expect(copy[0]).toBe(0);
    expect([a.store(8, Uint8Array.of(1, 2)), a.store(9, Uint8Array.of(7, 7)), a.store(-1, Uint8Array.of(1)), a.store(Number.NaN, Uint8Array.of(1)), a.store(10, new Uint8Array(0)), a.store(11, new Uint8Array(0))]).toEqual([true, false, false, false, true, false]);
    expect([...bytes.subarray(7)]).toEqual([7, 1, 2]);
  });
  it('structures are taken and given whole, at an offset', () => {
    const bytes = new Uint8Array(8).fill(0xee);
    const a = new Argument(bytes);
    expect([a.write(pair, { a: 0x0403_0201, b: 0x0605 }, 1), [...bytes]]).toEqual([true, [0xee, 1, 2, 3, 4, 5, 6, 0xee]]);
    expect([a.read(pair, 1), a.read(pair)?.a, a.read(pair, 2)?.b, a.read(pair, 3)]).toEqual([{ a: 0x0403_0201, b: 0x0605 }, 0x0302_01ee, 0xee06, null]);
    expect([a.write(pair, { a: 0, b: 0 }, 3), [...bytes]]).toEqual([false, [0xee, 1, 2, 3, 4, 5, 6, 0xee]]);
    expect(a.write(pair, { a: 9, b: 0 })).toBe(true);
    expect(bytes[0]).toBe(9);
  });
});

describe('the table of file descriptors', () => {
  const file = (label: string) => ({ kind: 'other', label }) as const;
  it('gives the lowest free number, up to its limit', () => {
    const fds = new FdTable(3);
    expect([fds.count, fds.isFull, fds.open(file('a')), fds.open(file('b')), fds.isFull, fds.open(file('c')), fds.count, fds.isFull, fds.open(file('d'))]).toEqual([0, false, 3, 4, false, 5, 3, true, -1]);
    expect([fds.close(4), fds.close(4), fds.count, fds.get(4), fds.open(file('e')), fds.get(4)?.label]).toEqual([true, false, 2, undefined, 4, 'e']);
    fds.put(20, file('z'));
    fds.put(9, file('y'));
    expect(fds.list().map(([fd, f]) => [fd, f.label])).toEqual([[3, 'a'], [4, 'e'], [5, 'c'], [9, 'y'], [20, 'z']]);
  });
});

describe('LKML 2025-04-01 RFC KVM: VM planes 02/29: the shared pages', () => {
  it.each([true, false])('fields lie where the header has them; with plane fields: %s', (has) => {
    const page = new RunPage(has);
    const view = new DataView(page.bytes.buffer);
    expect([page.bytes.length, PIO_DATA_OFFSET, page.pioData.length, page.syncRegs.length]).toEqual([8192, 4096, 4096, 2048]);
    expect([page.wantsInterruptWindow, page.immediateExit, page.plane, page.suspendedPlanes, page.reqExitPlanes, page.cr8, page.validRegs, page.dirtyRegs]).toEqual([false, false, 0, 0, 0, 0n, 0n, 0n]);
    page.bytes[0] = 2;
    expect([page.wantsInterruptWindow, page.immediateExit]).toEqual([true, false]);
    page.bytes.set([0, 2]);
    expect([page.wantsInterruptWindow, page.immediateExit]).toEqual([false, true]);
    page.bytes.set([5, 6, 7, 8, 9, 10], 2);
    expect([page.plane, page.suspendedPlanes, page.reqExitPlanes]).toEqual(has ? [5, 0x0807, 0x0a09] : [0, 0, 0]);
    page.plane = 3;
    page.suspendedPlanes = 0x1234;
    expect([page.bytes[2], view.getUint16(4, true)]).toEqual(has ? [3, 0x1234] : [5, 0x0807]);
    page.exitReason = 0x1122_3344;
    page.flags = 0x5566;
    expect([view.getUint32(8, true), view.getUint16(14, true)]).toEqual([0x1122_3344, 0x5566]);
    view.setBigUint64(288, 0x1_0000_0001n, true);
    view.setBigUint64(296, 0x2_0000_0002n, true);
    expect([page.validRegs, page.dirtyRegs]).toEqual([0x1_0000_0001n, 0x2_0000_0002n]);
    page.dirtyRegs = 0x3_0000_0003n;
    expect(view.getBigUint64(296, true)).toBe(0x3_0000_0003n);
    page.setState(true, false, 0xa, 0x12_fee0_0d00n);
    expect([page.bytes[12], page.bytes[13], page.cr8, view.getBigUint64(16, true), view.getBigUint64(24, true)]).toEqual([1, 0, 10n, 10n, 0x12_fee0_0d00n]);
    page.setState(false, true, 0, 0n);
    expect([page.bytes[12], page.bytes[13], page.cr8, view.getBigUint64(24, true)]).toEqual([0, 1, 0n, 0n]);
    page.syncRegs[0] = 0x77;
    page.pioData[0] = 0x88;
    expect([page.bytes[304], page.bytes[303], page.bytes[4096]]).toEqual([0x77, 0, 0x88]);
  });
  it('the exit union is cleared before a payload, unless what was there shall stay', () => {
    const page = new RunPage(true);
    const io = { direction: 1, size: 2, port: 0x3f8, count: 1, dataOffset: 4096n };
    const around = (): readonly (number | undefined)[] => [page.bytes[31], page.bytes[32], page.bytes[47], page.bytes[48], page.bytes[287], page.bytes[288]];
    page.bytes.fill(0xee, 0, 400);
    page.writeExit(ExitIo, io, false);
    expect([around(), page.readExit(ExitIo)]).toEqual([[0xee, 1, 0, 0xee, 0xee, 0xee], io]);
    page.writeExit(ExitIo, io);
    expect([around(), page.readExit(ExitIo)]).toEqual([[0xee, 1, 0, 0, 0, 0xee], io]);
    page.bytes.fill(0xee, 0, 400);
    page.clearExit();
    expect(around()).toEqual([0xee, 0, 0, 0, 0, 0xee]);
    expect(KvmRunPlanes.at.exit).toBe(32);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.133: the binary form of statistics', () => {
  it('header, id, descriptors, values', () => {
    const counters = Object.fromEntries(counterNames.map((name, i) => [name, (i + 1) * 0x1_0000_0001])) as Parameters<typeof encodeStats>[1];
    const bytes = encodeStats('kvm-1/vcpu-0', counters);
    const view = new DataView(bytes.buffer);
    const n = 8;
    expect(counterNames).toEqual(['exits', 'io_exits', 'mmio_exits', 'msr_exits', 'halt_exits', 'memory_faults', 'plane_events', 'entries']);
    // flags, name_size, num_desc, id_offset, desc_offset, data_offset
    expect([0, 4, 8, 12, 16, 20].map((at) => view.getUint32(at, true))).toEqual([0, 48, n, 24, 72, 72 + n * 64]);
    expect(bytes.length).toBe(72 + n * 64 + n * 8);
    const text = (at: number, size: number): string => String.fromCharCode(...bytes.subarray(at, at + size)).replace(/\0+$/, '');
    expect(text(24, 48)).toBe('kvm-1/vcpu-0');
    counterNames.forEach((name, i) => {
      const at = 72 + i * 64;
      // flags: cumulative, no unit, exponent 0; size 1; offset; bucket size; name
      expect([view.getUint32(at, true), view.getInt16(at + 4, true), view.getUint16(at + 6, true), view.getUint32(at + 8, true), view.getUint32(at + 12, true), text(at + 16, 48)]).toEqual([0, 0, 1, i * 8, 0, name]);
      expect(view.getBigUint64(72 + n * 64 + i * 8, true)).toBe(BigInt((i + 1) * 0x1_0000_0001));
    });
  });
  it('a name that is too long is cut, and ends with a zero byte', () => {
    const counters = Object.fromEntries(counterNames.map((name) => [name, 0])) as Parameters<typeof encodeStats>[1];
    const bytes = encodeStats('x'.repeat(60), counters);
    expect([bytes[24 + 46], bytes[24 + 47], bytes[72]]).toEqual([0x78, 0, 0]);
  });
});

it('a failure is what has an error number', () => {
  expect([isFailure({ errno: 'EIO' }), isFailure({ ret: 0 }), isFailure({ pending: 'busy' }), isFailure(null), isFailure(3), isFailure(undefined)]).toEqual([true, false, false, false, false, false]);
});
