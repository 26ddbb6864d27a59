import { NO_FRAME } from '@vmplanes/engine';
import { DeliveryMode, encodeMessage } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { CpuidResults, registerInterceptResult, unregisterInterceptResult } from './cpuid-results.ts';
import { CrashRegisters } from './crash.ts';
import { getBootZeroedMemory, memoryHeatHint, queryCapabilities } from './extended-calls.ts';
import { checkForIoIntercept, installIntercept, IoIntercepts } from './io-intercepts.ts';
import { sendSyntheticClusterIpi, sendSyntheticClusterIpiEx } from './ipi.ts';
import { defaultOptions, type HvOptions } from './options.ts';
import { postMessage, signalEvent } from './port-calls.ts';
import { ProcessorIntercepts } from './processor-intercepts.ts';

const SELF = { partitionIdLo: 0xffff_ffff, partitionIdHi: 0xffff_ffff };
const OTHERS = [{ ...SELF, partitionIdLo: 0 }, { ...SELF, partitionIdHi: 0 }];
const OK = 0, PARAMETER = 5, DENIED = 6, PARTITION = 13, VP_INDEX = 14, PORT = 0x11, CONNECTION = 0x12, BUFFERS = 0x13, VTL_STATE = 0x51;
/** Calls take what a frame and the chapters give them; here are both without a machine. */
const call = (vtl: number, options: Partial<HvOptions> = {}, chapters: object = {}, machine: object = {}, more: object = {}): never => ({ vtl, vp: { index: 1 }, hv: { options: { ...defaultOptions, maximumVtl: 2, ...options }, chapters, machine }, ...more }) as never;
const given = <T extends object>(input: T): never => input as never;
const run = (handler: unknown, ...args: readonly unknown[]): number => (handler as (...args: readonly unknown[]) => number)(...args);

describe('intercepted ports', () => {
  const owners = (ports: IoIntercepts, vtl: number, port: number, size = 1): readonly number[] => [ports.ownerOf(vtl, port, size, false), ports.ownerOf(vtl, port, size, true)];
  it('are of the lowest VTL above that asked, for reads and for writes', () => {
    const ports = new IoIntercepts();
    expect(owners(ports, 0, 0x60)).toEqual([-1, -1]);
    ports.install(1, 0x60, 0x62, 1);
    ports.install(2, 0x61, 0x61, 3);
    expect([0x5f, 0x60, 0x61, 0x62, 0x63].map((port) => owners(ports, 0, port))).toEqual([[-1, -1], [1, -1], [1, 2], [1, -1], [-1, -1]]);
    expect([owners(ports, 1, 0x60), owners(ports, 1, 0x61), owners(ports, 2, 0x61)]).toEqual([[-1, -1], [2, 2], [-1, -1]]);
    ports.install(1, 0x61, 0x61, 2);
    expect(owners(ports, 0, 0x61)).toEqual([2, 1]);
    ports.install(2, 0x61, 0x61, 0);
    expect([owners(ports, 0, 0x61), owners(ports, 1, 0x61)]).toEqual([[-1, 1], [-1, -1]]);
  });
  it('count for each byte of an access, up to the last port', () => {
    const ports = new IoIntercepts();
    ports.install(1, 0x64, 0x64, 3);
    ports.install(2, 0xffff, 0xffff, 2);
    ports.install(1, 0, 0, 2);
    expect([[0x60, 4], [0x61, 4], [0x63, 2], [0x64, 4], [0x65, 4], [0x62, 2]].map(([port, size]) => ports.ownerOf(0, port!, size!, true))).toEqual([-1, 1, 1, 1, -1, -1]);
    expect([ports.ownerOf(0, 0xfffe, 4, true), ports.ownerOf(0, 0xffff, 1, true), ports.ownerOf(0, 0xfffe, 1, true), ports.ownerOf(0, 0, 1, true)]).toEqual([2, 2, -1, 1]);
  });
  it('are saved as a copy, and as nothing where there are none', () => {
    const ports = new IoIntercepts(), other = new IoIntercepts();
    expect([ports.stateName, ports.save()]).toEqual(['io-intercepts', null]);
    ports.install(2, 0x70, 0x71, 1);
    const saved = ports.save();
    ports.install(1, 0x70, 0x71, 3);
    other.restore(saved);
    other.install(1, 0x72, 0x72, 1);
    expect([owners(other, 0, 0x70), owners(ports, 0, 0x72), (saved as Uint8Array)[0x72]]).toEqual([[2, -1], [-1, -1], 0]);
    other.restore(null);
    expect([owners(other, 0, 0x70), other.save()]).toEqual([[-1, -1], null]);
    ports.reset();
    expect(ports.save()).toBe(null);
  });
});

describe('InstallIntercept', () => {
  const install = (vtl: number, input: object, options: Partial<HvOptions> = {}) => {
    const told: unknown[] = [];
    const status = run(installIntercept, call(vtl, options, {
      ioIntercepts: { install: (...args: unknown[]) => void told.push(args) },
      processorIntercepts: { installException: (of: number, vector: number, on: boolean) => (told.push(['exception', of, vector, on]), vector < 32), installLeaf: (...args: unknown[]) => void told.push(['leaf', ...args]) },
    }), given({ ...SELF, accessTypeMask: 3, interceptType: 0, interceptParametersLo: 0x60, interceptParametersHi: 0, ...input }));
    return [status, ...told];
  };
  const all = { installInterceptCaller: 'higherVtlAll' } as const;
  it.each([
    ['a port', 1, {}, {}, [OK, [1, 0x60, 0x60, 3]]],
    ['the last port', 2, { interceptParametersLo: 0xffff, accessTypeMask: 1 }, {}, [OK, [2, 0xffff, 0xffff, 1]]],
    ['a number above', 1, { interceptParametersLo: 0x1_0000 }, {}, [PARAMETER]],
    ['a range', 1, { interceptType: 0x11, interceptParametersLo: 0xffff_0080, accessTypeMask: 0 }, {}, [OK, [1, 0x80, 0xffff, 0]]],
    ['a range of one port', 1, { interceptType: 0x11, interceptParametersLo: 0x0080_0080 }, {}, [OK, [1, 0x80, 0x80, 3]]],
    ['a range that ends before', 1, { interceptType: 0x11, interceptParametersLo: 0x007f_0080 }, {}, [PARAMETER]],
    ['execution', 1, { accessTypeMask: 4 }, {}, [PARAMETER]],
    ['more of the parameter', 1, { interceptParametersHi: 1 }, {}, [PARAMETER]],
    ['a leaf as usual', 1, { interceptType: 2, accessTypeMask: 4 }, {}, [PARAMETER]],
    ['an exception as usual', 1, { interceptType: 3, accessTypeMask: 4 }, {}, [PARAMETER]],
    ['by the parent only', 1, {}, { installInterceptCaller: 'parent' }, [DENIED]],
    ['by VTL0', 0, {}, all, [DENIED]],
    ['a port where more is possible', 1, {}, all, [OK, [1, 0x60, 0x60, 3]]],
    ['an MSR', 1, { interceptType: 1 }, all, [PARAMETER]],
    ['a leaf', 2, { interceptType: 2, accessTypeMask: 4, interceptParametersLo: 0x8000_0001 }, all, [OK, ['leaf', 2, 0x8000_0001, true]]],
    ['a leaf no more', 2, { interceptType: 2, accessTypeMask: 0 }, all, [OK, ['leaf', 2, 0x60, false]]],
    ['reads of a leaf', 2, { interceptType: 2, accessTypeMask: 1 }, all, [PARAMETER]],
    ['a leaf and more', 2, { interceptType: 2, accessTypeMask: 4, interceptParametersHi: 1 }, all, [PARAMETER]],
    ['an exception', 1, { interceptType: 3, accessTypeMask: 4, interceptParametersLo: 14 }, all, [OK, ['exception', 1, 14, true]]],
    ['an exception no more', 1, { interceptType: 3, accessTypeMask: 0, interceptParametersLo: 31 }, all, [OK, ['exception', 1, 31, false]]],
    ['none', 1, { interceptType: 3, accessTypeMask: 4, interceptParametersLo: 32 }, all, [PARAMETER, ['exception', 1, 32, true]]],
    ['of another partition', 1, OTHERS[0]!, {}, [DENIED]],
    ['of yet another', 1, OTHERS[1]!, {}, [DENIED]],
    ['of one that there is not', 0, OTHERS[0]!, { partitionIdStatus: 'invalidPartitionId' as never }, [PARTITION]],
  ] as const)('%s', (_what, vtl, input, options, expected) => {
    expect(install(vtl, input, options)).toEqual(expected);
  });
  it('is looked up for a VTL that the caller may ask for', () => {
    const ports = new IoIntercepts();
    ports.install(2, 0x60, 0x60, 2);
    const ask = (input: object, vtl = 1): readonly [number, number] => {
      const output = { intercept: 7 };
      const status = run(checkForIoIntercept, call(vtl, {}, { ioIntercepts: ports }, { vps: [0, 1] }), given({ ...SELF, vpIndex: 0xffff_fffe, targetVtl: 0, port: 0x60, size: 1, isWrite: 1, ...input }), output);
      return [status, output.intercept];
    };
    expect([ask({}), ask({ isWrite: 0 }), ask({ port: 0x61 }), ask({ port: 0x5f, size: 2 }), ask({}, 2), ask({ targetVtl: 0x10 }, 2), ask({ vpIndex: 1 })]).toEqual([[OK, 1], [OK, 0], [OK, 0], [OK, 1], [OK, 0], [OK, 1], [OK, 1]]);
    for (const input of [{ size: 0 }, { size: 3 }, { size: 5 }, { size: 8 }, { isWrite: 2 }, { targetVtl: 0x20 }, { targetVtl: 0x13 }]) expect(ask(input), JSON.stringify(input)).toEqual([PARAMETER, 7]);
    expect([ask({ size: 4 })[0], ask({ targetVtl: 0x12 })[0], ask({ vpIndex: 2 })[0], ask(OTHERS[0]!)[0], ask(OTHERS[1]!)[0]]).toEqual([OK, DENIED, VP_INDEX, DENIED, DENIED]);
    // Of two mistakes the one of the operand that comes first counts.
    expect([ask({ ...OTHERS[0]!, vpIndex: 2 })[0], ask({ vpIndex: 2, size: 3 })[0], ask({ targetVtl: 0x12, size: 3 })[0]]).toEqual([DENIED, VP_INDEX, PARAMETER]);
    ports.install(1, 0x80, 0x80, 1);
    expect([ask({ targetVtl: 0x10, port: 0x80, isWrite: 0 }), ask({ port: 0x80, isWrite: 0 })]).toEqual([[OK, 1], [OK, 0]]);
  });
});

describe('intercepted exceptions and leaves', () => {
  const make = (maximumVtl = 2) => {
    const arch: { exceptionExits: null | ((context: never, vector: number) => boolean) } = { exceptionExits: null };
    return { arch, it: new ProcessorIntercepts({ arch, options: { maximumVtl } } as never) };
  };
  const at = (vp: number, plane: number): never => ({ vp: { index: vp }, plane }) as never;
  it('are of the lowest VTL above that asked', () => {
    const { it: table, arch } = make();
    expect([table.installException(1, 32, true), table.installException(1, 2, true), arch.exceptionExits]).toEqual([false, false, null]);
    expect([table.installException(1, 31, true), table.installException(2, 31, true), table.installException(2, 0, true)]).toEqual([true, true, true]);
    expect([0, 1, 2].map((vtl) => [table.ownerOfException(vtl, 31), table.ownerOfException(vtl, 0), table.ownerOfException(vtl, 1)])).toEqual([[1, 2, -1], [2, 2, -1], [-1, -1, -1]]);
    table.installException(1, 31, false);
    expect([table.ownerOfException(0, 31), table.ownerOfException(1, 31)]).toEqual([2, 2]);
    table.installLeaf(1, 7, true);
    table.installLeaf(2, 8, true);
    expect([0, 1, 2].map((vtl) => [7, 8, 9].map((leaf) => table.ownerOfLeaf(vtl, leaf)))).toEqual([[1, 2, -1], [-1, 2, -1], [-1, -1, -1]]);
    table.installLeaf(1, 7, false);
    expect(table.ownerOfLeaf(0, 7)).toBe(-1);
  });
  it('are asked of the processor only while somebody wants one', () => {
    const { it: table, arch } = make();
    table.give(at(0, 0));
    table.installException(1, 14, true);
    const asks = (vp: number, plane: number, vector = 14): boolean => arch.exceptionExits!(at(vp, plane), vector);
    // What was given before anybody asked is no matter of the table.
    expect([asks(0, 0), asks(0, 1), asks(0, 0, 13)]).toEqual([true, false, false]);
    table.give(at(1, 0));
    expect([asks(0, 0), asks(1, 1), asks(1, 0), asks(1, 0)]).toEqual([true, false, false, true]);
    table.installException(2, 14, true);
    table.give(at(1, 1));
    expect([asks(1, 0), asks(1, 1), asks(1, 1), asks(0, 0)]).toEqual([true, false, true, true]);
    for (const vtl of [1, 2]) table.installException(vtl, 14, false);
    expect(arch.exceptionExits).toBe(null);
  });
  it('are state', () => {
    const { it: table } = make(), other = make();
    table.installException(1, 3, true);
    table.installException(2, 31, true);
    table.installLeaf(1, 0x4000_0001, true);
    table.installLeaf(2, 5, true);
    other.it.installException(1, 4, true);
    other.it.installLeaf(1, 9, true);
    const saved = table.save();
    table.installException(1, 5, true);
    other.it.restore(structuredClone(saved));
    expect(other.it.save()).toEqual(saved);
    expect([table.stateName, [3, 4, 5, 31].map((v) => other.it.ownerOfException(0, v)), [0x4000_0001, 5, 9].map((leaf) => other.it.ownerOfLeaf(0, leaf)), other.arch.exceptionExits!(at(0, 0), 3)]).toEqual(['processor-intercepts', [1, -1, -1, 2], [1, 2, -1], true]);
    const fresh = make();
    fresh.it.restore(saved);
    expect(fresh.arch.exceptionExits!(at(0, 1), 31)).toBe(true);
    other.it.reset();
    expect([other.arch.exceptionExits, other.it.ownerOfException(0, 3), other.it.ownerOfLeaf(0, 5), other.it.save()]).toEqual([null, -1, -1, make().it.save()]);
  });
});

describe('interrupts to many', () => {
  /** @param without - VPs that have only VTL0. */
  const machineOf = (count: number, without: readonly number[] = []) => {
    const sent: unknown[] = [];
    return { sent, machine: { vps: Array.from({ length: count }, (_, n) => ({ planes: without.includes(n) ? [{}] : [{}, {}, {}] })), send: (vp: number, vtl: number, message: number, extra: number) => void sent.push([vp, vtl, message === encodeMessage(DeliveryMode.fixed, message & 0xff, true, false) ? message & 0xff : message, extra]) } };
  };
  const ipi = (input: object, vtl = 1, count = 40, without: readonly number[] = [], options: Partial<HvOptions> = {}) => {
    const { sent, machine } = machineOf(count, without);
    return [run(sendSyntheticClusterIpi, call(vtl, options, {}, machine), given({ vector: 0x41, targetVtl: 0, flags: 0, processorMaskLo: 0x8000_0001, processorMaskHi: 0x81, ...input })), ...sent];
  };
  it('reach the VTL of each VP named once, in both halves of the mask', () => {
    expect(ipi({})).toEqual([OK, [0, 1, 0x41, 0], [31, 1, 0x41, 0], [32, 1, 0x41, 0], [39, 1, 0x41, 0]]);
    expect(ipi({ processorMaskLo: 0, processorMaskHi: 0xffff_ff00 })).toEqual([OK]);
    expect(ipi({ targetVtl: 0x10, vector: 0x10, processorMaskHi: 0 })).toEqual([OK, [0, 0, 0x10, 0], [31, 0, 0x10, 0]]);
  });
  it.each([0, 31, 32, 39])('reach nobody when VP %i lacks the VTL', (vp) => {
    expect(ipi({}, 1, 40, [vp])).toEqual([VTL_STATE]);
    expect(ipi({ targetVtl: 0x10 }, 1, 40, [vp])[0]).toBe(OK);
  });
  it('have a vector from 16 to 255, no flags and a VTL that the caller may name', () => {
    const statuses = (inputs: readonly object[], options = {}): unknown => inputs.map((input) => ipi(input, 1, 2, [], options)[0]);
    expect(statuses([{ vector: 15 }, { vector: 16 }, { vector: 255 }, { vector: 256 }, { flags: 1 }, { targetVtl: 0x20 }, { targetVtl: 0x13 }])).toEqual([PARAMETER, OK, OK, PARAMETER, PARAMETER, PARAMETER, PARAMETER]);
    expect([statuses([{ targetVtl: 0x12 }, { targetVtl: 0x11 }]), statuses([{ targetVtl: 0x12 }], { allowUpwardIpi: true })]).toEqual([[DENIED, OK], [OK]]);
  });
  const set = (format: number, vtl: number, more: object = {}, options: Partial<HvOptions> = {}, bank = 1) => {
    const { sent, machine } = machineOf(bank === 1 ? 3 : 40);
    const words = Uint32Array.of(0, 0, format, 0, bank, 0);
    const status = run(sendSyntheticClusterIpiEx, call(vtl, options, {}, machine, { input: { words }, units: format === 1 ? 0 : 1, unitLo: () => 6, unitHi: () => 0 }), given({ vector: 0x42, targetVtl: 0, flags: 0, processorSetAt: 8, words, ...more }));
    return [status, ...sent];
  };
  it('take sets, too', () => {
    expect(set(0, 0, {}, {}, 2)).toEqual([OK]);
    expect(set(0, 0)).toEqual([OK, [1, 0, 0x42, 0], [2, 0, 0x42, 0]]);
    expect(set(1, 2)).toEqual([OK, [0, 2, 0x42, 0], [1, 2, 0x42, 0], [2, 2, 0x42, 0]]);
    expect([set(2, 0), set(1, 0, {}, { clusterIpiAll: false }), set(0, 0, {}, { clusterIpiAll: false }).length, set(0, 0, { vector: 3 }), set(0, 0, { targetVtl: 0x11 }), set(1, 0, { targetVtl: 0x11 }, { clusterIpiAll: false })]).toEqual([[PARAMETER], [PARAMETER], 3, [PARAMETER], [DENIED], [DENIED]]);
  });
});

describe('calls to ports', () => {
  const port = { vp: 1, vtl: 1, sint: 5, baseFlag: 64, flagCount: 8, minConnectionVtl: 0 };
  const options: Partial<HvOptions> = { ports: [{ ...port, connectionId: 0x11, kind: 'message' }, { ...port, connectionId: 0x12, kind: 'event' }, { ...port, connectionId: 0x13, kind: 'message', minConnectionVtl: 1 }, { ...port, connectionId: 0x14, kind: 'event', vp: 9 }, { ...port, connectionId: 0x15, kind: 'event', vtl: 2 }] };
  const make = (vtl: number, result: unknown) => {
    const told: unknown[] = [];
    const receiver = { name: 'VTL1' };
    const synic = { post: (c: unknown, sint: number, bytes: Uint8Array, mayQueue: boolean) => (told.push([c === receiver, sint, [...bytes], mayQueue]), result), signal: (c: unknown, sint: number, flag: number) => (told.push([c === receiver, sint, flag]), result) };
    return { told, call: call(vtl, options, { synic }, { vps: [undefined, { planes: [null, receiver] }] }) };
  };
  const payload = Uint8Array.from({ length: 300 }, (_, n) => n);
  const post = (input: object, vtl = 0, result: unknown = 'delivered') => {
    const c = make(vtl, result);
    return [run(postMessage, c.call, given({ connectionId: 0x11, messageType: 0x7fff_ffff, payloadSize: 3, bytes: payload, payloadAt: 16, ...input })), ...c.told];
  };
  it('post the message as it is, with the connection as its origin', () => {
    const bytes = (size: number): readonly number[] => Array.from({ length: 256 }, (_, n) => (n >= 16 && n < 16 + size ? n : [0xff, 0xff, 0xff, 0x7f, size, 0, 0, 0, 0x11][n] ?? 0));
    expect(post({})).toEqual([OK, [true, 5, bytes(3), true]]);
    expect(post({ payloadSize: 240 })).toEqual([OK, [true, 5, bytes(240), true]]);
    expect(post({ payloadSize: 0 })).toEqual([OK, [true, 5, bytes(0), true]]);
    expect([post({}, 0, 'queued')[0], post({}, 0, 'full')[0], post({}, 0, 'unavailable')[0]]).toEqual([OK, BUFFERS, 0x18]);
  });
  it.each([
    ['a reserved bit', { connectionId: 0x0100_0011 }, PARAMETER], ['no connection', { connectionId: 0x10 }, CONNECTION], ['an event port', { connectionId: 0x12 }, PORT], ['one of a higher VTL', { connectionId: 0x13 }, DENIED], ['the empty type', { messageType: 0 }, PARAMETER], ['a type of the hypervisor', { messageType: 0x8000_0000 }, PARAMETER], ['241 bytes', { payloadSize: 241 }, PARAMETER],
  ])('post nothing: %s', (_what, input, status) => {
    expect(post(input)).toEqual([status]);
  });
  it('post from the lowest VTL that may', () => {
    expect([post({ connectionId: 0x13 }, 1)[0], post({ messageType: 1 })[0]]).toEqual([OK, OK]);
  });
  it('signal flags from the first of the port on', () => {
    const signal = (input: object) => {
      const c = make(0, 0x77);
      return [run(signalEvent, c.call, given({ connectionId: 0x12, flagNumber: 7, reserved: 0, ...input })), ...c.told];
    };
    expect([signal({}), signal({ flagNumber: 0 })]).toEqual([[0x77, [true, 5, 71]], [0x77, [true, 5, 64]]]);
    expect([signal({ flagNumber: 8 }), signal({ reserved: 1 }), signal({ connectionId: 0x11 }), signal({ connectionId: 0x14 }), signal({ connectionId: 0x15 }), signal({ connectionId: 0x16 }), signal({ connectionId: 0x16, reserved: 1 })]).toEqual([[PARAMETER], [PARAMETER], [PORT], [VP_INDEX], [VP_INDEX], [CONNECTION], [CONNECTION]]);
  });
});

describe('extended calls', () => {
  it('are those that are served', () => {
    const output = { capabilitiesLo: -1, capabilitiesHi: -1 };
    expect([run(queryCapabilities, call(0), {}, output), output]).toEqual([OK, { capabilitiesLo: 3, capabilitiesHi: 0 }]);
  });
  it.each([[0, 0, OK], [1, 0, OK], [2, 0, PARAMETER], [0, 1, PARAMETER]])('a hint of heat %i:%i', (lo, hi, status) => {
    expect([run(memoryHeatHint.check, call(0), given({ heatTypeLo: lo, heatTypeHi: hi })), run(memoryHeatHint.element)]).toEqual([status, OK]);
  });
  /** @param zero - pages of the backing that nobody wrote to. */
  const ranges = (slots: readonly { first: number; end: number; backingPage: number; zero: (page: number, isPrivate: boolean) => boolean }[]) => {
    const words = new Uint32Array(2 + 4 * 300);
    const output = { rangesAt: 8, words, rangeCountLo: -1 };
    const all = slots.map(({ zero, ...slot }) => ({ ...slot, backing: { frame: (page: number, isPrivate: boolean) => (zero(page, isPrivate) ? NO_FRAME : 5) } }));
    const status = run(getBootZeroedMemory, call(0, {}, {}, { memory: { slots: { all }, isPrivate: (gpn: number) => gpn === 0x105 } }), {}, output);
    return { status, count: output.rangeCountLo, rows: Array.from({ length: Math.min(output.rangeCountLo, 300) }, (_, n) => [...words.subarray(2 + 4 * n, 6 + 4 * n)]), next: words[2 + 4 * output.rangeCountLo] };
  };
  it('tell runs of untouched pages, slot by slot', () => {
    const HIGH = 2 ** 32 + 7;
    expect(ranges([
      { first: 0x100, end: 0x108, backingPage: 0x10, zero: (page, isPrivate) => ![0x12, 0x13].includes(page) && !isPrivate },
      { first: 0x108, end: 0x10a, backingPage: 0, zero: () => true },
      { first: 0x200, end: 0x201, backingPage: 0, zero: () => false },
      { first: HIGH, end: HIGH + 3, backingPage: 4, zero: (page) => page !== 4 },
    ])).toMatchObject({ status: OK, count: 5, rows: [[0x100, 2, 0, 0], [0x104, 1, 0, 0], [0x106, 2, 0, 0], [0x108, 2, 0, 0], [8, 2, 1, 0]].map(([first, n, hi]) => [first, hi, n, 0]) });
  });
  it('tell no more than the output holds', () => {
    const { count, rows, next } = ranges([{ first: 0, end: 600, backingPage: 0, zero: (page) => page % 2 === 0 }]);
    expect([count, rows[254], next]).toEqual([255, [508, 0, 1, 0], 0]);
    expect(ranges([{ first: 0, end: 3, backingPage: 0, zero: () => true }]).rows).toEqual([[0, 0, 3, 0]]);
  });
});

describe('results of CPUID that a call registers', () => {
  /** Partition and VP are operands; then leaf, sub-leaf, whether it is for that sub-leaf only, and value and mask of EAX, EBX, ECX, EDX. */
  const register = (results: CpuidResults, vtl: number, { vpIndex = 0xffff_ffff, leaf = 7, subleaf = 3, specific = 0, always = 0, type = 2, self = SELF as object } = {}, handler: unknown = registerInterceptResult): number => {
    const words = Uint32Array.of(0, 0, leaf, subleaf, 0, 0x10, 0x11, 0x20, 0x21, 0x30, 0x31, 0x40, 0x41, 0);
    const bytes = new Uint8Array(words.buffer);
    bytes[16] = specific;
    bytes[17] = always;
    return run(handler, call(vtl, {}, { cpuid: { results } }, { vps: [0, 1, 2] }, { input: { words, bytes } }), given({ ...SELF, vpIndex, interceptType: type, parametersAt: 8, ...self }));
  };
  const rows = (input: object, vtl = 1): unknown => {
    const results = new CpuidResults();
    return [register(results, vtl, input), ...(results.save() as readonly unknown[])];
  };
  const row = { vp: -1, by: 1, leaf: 7, subleaf: -1, words: [0x10, 0x11, 0x20, 0x21, 0x30, 0x31, 0x40, 0x41] };
  it.each([
    ['for all VPs', {}, [OK, row]], ['for the own VP', { vpIndex: 0xffff_fffe }, [OK, { ...row, vp: 1 }]], ['for another VP', { vpIndex: 2 }, [OK, { ...row, vp: 2 }]], ['for VP 0', { vpIndex: 0 }, [OK, { ...row, vp: 0 }]], ['for none', { vpIndex: 3 }, [VP_INDEX]], ['for an index next to those', { vpIndex: 0xffff_fffd }, [VP_INDEX]],
    ['for a sub-leaf', { specific: 1 }, [OK, { ...row, subleaf: 3 }]], ['for neither', { specific: 2 }, [PARAMETER]], ['always', { always: 1 }, [OK, row]], ['more than always', { always: 2 }, [PARAMETER]], ['an exception', { type: 3 }, [PARAMETER]], ['of another partition', { self: OTHERS[0]! }, [DENIED]],
    ['of a type and a VP that there are not', { type: 3, vpIndex: 3 }, [VP_INDEX]],
  ])('%s', (_what, input, expected) => {
    expect(rows(input)).toEqual(expected);
  });
  it('are not for VTL0 to register, and go by their key', () => {
    expect([rows({}, 0), rows({ vpIndex: 3 }, 0), rows({ leaf: 8 }, 2)]).toEqual([[DENIED], [DENIED], [OK, { ...row, by: 2, leaf: 8 }]]);
    const results = new CpuidResults();
    register(results, 1);
    expect([register(results, 1, { leaf: 8 }, unregisterInterceptResult), register(results, 1, { type: 3 }, unregisterInterceptResult), register(results, 1, {}, unregisterInterceptResult), results.isEmpty, register(results, 1, {}, unregisterInterceptResult)]).toEqual([0x10, PARAMETER, OK, true, 0x10]);
  });
});

describe('the message of a crash', () => {
  it.each([[2n ** 52n - 1n, 'a'], [2n ** 52n, ''], [2n ** 53n - 1n, '']])('at address %i', (address, message) => {
    const read: unknown[] = [];
    const crash = new CrashRegisters({ machine: { memory: { subjects: [{ call: 5 }, { call: 6 }], access: { read: (subject: number, gpa: number, bytes: Uint8Array, at: number, n: number) => (read.push([subject, gpa, at, n]), bytes.fill(97, at, n), 0) } } } } as never);
    crash.setParameter(3, address);
    crash.setParameter(4, 1n);
    expect(crash.notification({ vp: { index: 0 }, plane: 1 } as never, 3n << 62n)!.message).toBe(message);
    expect(read).toEqual(message === '' ? [] : [[6, Number(address), 0, 1]]);
  });
});
