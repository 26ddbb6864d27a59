import { describe, expect, it } from 'vitest';
import { DeviceInterrupts } from './interrupt-calls.ts';
import { IoIntercepts } from './io-intercepts.ts';

describe('intercepted ports', () => {
  const owners = (io: IoIntercepts, ports: readonly number[], { vtl = 0, size = 1, write = false } = {}): readonly number[] => ports.map((port) => io.ownerOf(vtl, port, size, write));
  it('are a range with both ends, for reads, writes or both', () => {
    const io = new IoIntercepts();
    expect(owners(io, [0, 0xffff])).toEqual([-1, -1]);
    io.install(1, 0x10, 0x12, 1);
    io.install(1, 0x20, 0x20, 2);
    io.install(1, 0xffff, 0xffff, 3);
    expect(owners(io, [0xf, 0x10, 0x11, 0x12, 0x13, 0x20, 0xffff])).toEqual([-1, 1, 1, 1, -1, -1, 1]);
    expect(owners(io, [0xf, 0x10, 0x12, 0x20, 0x21, 0xffff], { write: true })).toEqual([-1, -1, -1, 1, -1, 1]);
  });
  it('are met by accesses of several bytes', () => {
    const io = new IoIntercepts();
    io.install(1, 0x64, 0x64, 1);
    expect([1, 2, 4].map((size) => owners(io, [0x60, 0x61, 0x62, 0x63, 0x64, 0x65], { size }))).toEqual([[-1, -1, -1, -1, 1, -1], [-1, -1, -1, 1, 1, -1], [-1, 1, 1, 1, 1, -1]]);
    io.install(1, 0, 0, 3);
    // What lies behind the last port is no port.
    expect(owners(io, [0xfffd, 0xffff], { size: 4 })).toEqual([-1, -1]);
  });
  it('belong to the lowest VTL above that asked, each with its own', () => {
    const io = new IoIntercepts();
    io.install(2, 0x70, 0x71, 3);
    io.install(1, 0x70, 0x70, 2);
    expect([owners(io, [0x70, 0x71]), owners(io, [0x70, 0x71], { write: true }), owners(io, [0x70], { write: true, vtl: 1 }), owners(io, [0x70], { vtl: 2 })]).toEqual([[2, 2], [1, 2], [2], [-1]]);
    io.install(1, 0x70, 0x70, 1);
    expect([owners(io, [0x70]), owners(io, [0x70], { write: true })]).toEqual([[1], [2]]);
    io.install(1, 0x70, 0x70, 0);
    io.install(2, 0x71, 0x71, 0);
    expect([owners(io, [0x70, 0x71]), owners(io, [0x70, 0x71], { write: true })]).toEqual([[2, -1], [2, -1]]);
  });
  it('are saved as a copy, or nothing', () => {
    const io = new IoIntercepts(), other = new IoIntercepts();
    expect(io.save()).toBeNull();
    io.install(2, 5, 5, 3);
    other.restore(io.save());
    io.install(2, 5, 5, 0);
    expect([owners(other, [5, 6]), owners(io, [5])]).toEqual([[2, -1], [-1]]);
    other.restore(null);
    expect([owners(other, [5]), other.save()]).toEqual([[-1], null]);
    io.install(1, 1, 1, 1);
    io.reset();
    expect([owners(io, [1]), io.save()]).toEqual([[-1], null]);
  });
});

describe('routes of device interrupts', () => {
  const make = (vps = 40) => {
    const sent: (readonly [vp: number, vtl: number])[] = [];
    const messages: unknown[][] = [];
    const devices = new DeviceInterrupts({ machine: { vps: { length: vps }, send: (vp: number, vtl: number, ...rest: unknown[]) => (sent.push([vp, vtl]), messages.push(rest)) } } as never);
    return { devices, sent, messages };
  };
  const route = (targetsLo: number, targetsHi = 0, multicast = false, vector = 0x40) => ({ vector, targetsLo, targetsHi, multicast });
  it('are by device, address and data', () => {
    const { devices, sent } = make();
    devices.retarget(1, 2, 0xfee0_0000, 0x31, route(4));
    expect([devices.signal(1, 2, 0xfee0_0000, 0x31), devices.signal(2, 2, 0xfee0_0000, 0x31), devices.signal(1, 1, 0xfee0_0000, 0x31), devices.signal(1, 2, 0xfee0_0001, 0x31), devices.signal(1, 2, 0xfee0_0000, 0x30), devices.signal(2, 1, 0xfee0_0000, 0x31), devices.signal(1, 2, 0x31, 0xfee0_0000)]).toEqual([true, false, false, false, false, false, false]);
    expect(sent).toEqual([[2, 0]]);
    devices.retarget(1, 2, 0xfee0_0000, 0x31, route(1));
    devices.signal(1, 2, 0xfee0_0000, 0x31);
    expect(sent[1]).toEqual([0, 0]);
  });
  it.each([
    ['the first of several', route(0b1100), [2]], ['all of several', route(0b1100, 0, true), [2, 3]], ['VP 31 and 32', route(0x8000_0000, 1, true), [31, 32]], ['VP 39', route(0, 0x80), [39]], ['VPs that do not exist', route(0, 0x300, true), []],
  ])('go to %s', (_what, where, vps) => {
    const { devices, sent } = make();
    devices.retarget(1, 0, 0, 0, where);
    expect([devices.signal(1, 0, 0, 0), sent]).toEqual([true, vps.map((vp) => [vp, 0])]);
  });
  it('carry their vector: fixed, edge-triggered', () => {
    const { devices, messages } = make();
    devices.retarget(1, 0, 0, 0, route(1, 0, false, 0x51));
    devices.retarget(2, 0, 0, 0, route(1, 0, false, 0x52));
    devices.signal(1, 0, 0, 0);
    devices.signal(2, 0, 0, 0);
    expect(messages[0]).not.toEqual(messages[1]);
    expect((messages[0]![0] as number) & 0xff).toBe(0x51);
  });
  it('are saved, restored and reset', () => {
    const { devices } = make();
    devices.retarget(0xffff_fffe, 7, 1, 2, route(2));
    const other = make();
    other.devices.retarget(1, 0, 0, 0, route(1));
    other.devices.restore(structuredClone(devices.save()));
    expect([other.devices.signal(0xffff_fffe, 7, 1, 2), other.devices.signal(1, 0, 0, 0), other.sent]).toEqual([true, false, [[1, 0]]]);
    other.devices.reset();
    expect(other.devices.signal(0xffff_fffe, 7, 1, 2)).toBe(false);
  });
});
