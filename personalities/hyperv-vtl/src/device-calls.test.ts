import type { PlaneContext } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { CallRig, IN, type Issue, OUT, pair, SELF } from './call-fixture.ts';
import { CrashRegisters } from './crash.ts';

const OK = 0, PARAMETER = 5;

describe('device memory through calls', () => {
  const read = (gpa: bigint, width: number, reserved = 0): Issue => ({ code: 0x106, input: [gpa, pair(width, reserved)] });
  const write = (gpa: bigint, width: number, data: bigint, reserved = 0): Issue => ({ code: 0x107, input: [gpa, pair(width, reserved), data, 0n, 0n, 0n, 0n, 0n, 0n, 0n] });
  const DEVICE = 0x12_3456_7000n;
  it.each([[1, true], [2, true], [4, true], [8, true], [0, false], [3, false], [5, false], [16, false], [64, false]])('of %i bytes', (width, isLegal) => {
    const rig = new CallRig(1);
    const c = rig.context();
    const answer = (issue: Issue): unknown => {
      const { answer: a, status } = rig.issue(c, issue);
      return a.kind === 'exit' ? a.payload : status;
    };
    const mask = width === 8 ? SELF : (1n << BigInt(8 * width)) - 1n;
    const value = 0x8877_6655_4433_2211n & mask;
    expect(answer(read(DEVICE, width))).toEqual(isLegal ? { kind: 'mmio', write: false, gpa: Number(DEVICE), size: width, lo: 0, hi: 0 } : PARAMETER);
    expect(answer(write(DEVICE, width, 0x8877_6655_4433_2211n))).toEqual(isLegal ? { kind: 'mmio', write: true, gpa: Number(DEVICE), size: width, lo: Number(value & 0xffff_ffffn), hi: width === 8 ? 0x8877_6655 : 0 } : PARAMETER);
  });
  it.each([
    ['an address that is not aligned', 0x1000_0001n, 2], ['one of 8 bytes', 0x1000_0004n, 8], ['one beyond the address space', 1n << 46n, 1], ['one beyond 52 bits', 1n << 60n, 8],
  ])('refuse %s', (_what, gpa, width) => {
    const rig = new CallRig(1);
    expect([rig.issue(rig.context(), read(gpa, width)).status, rig.issue(rig.context(), write(gpa, width, 1n)).status]).toEqual([PARAMETER, PARAMETER]);
  });
  it('reach the last byte of the address space, and refuse reserved fields', () => {
    const rig = new CallRig(1);
    expect(rig.issue(rig.context(), read((1n << 46n) - 8n, 8)).answer.kind).toBe('exit');
    expect([rig.issue(rig.context(), read(DEVICE, 4, 1)).status, rig.issue(rig.context(), write(DEVICE, 4, 1n, 1)).status]).toEqual([PARAMETER, PARAMETER]);
  });
  it('reach memory with the rights of the caller', () => {
    const rig = new CallRig(1);
    const at = 0x1_8000;
    rig.poke(at, 0x1111_1111_1111_1111n);
    rig.poke(OUT, SELF);
    expect([rig.issue(rig.context(), write(BigInt(at + 2), 2, 0xaabb_ccddn)).status, rig.peek(at)]).toEqual([OK, 0x1111_1111_ccdd_1111n]);
    expect([rig.issue(rig.context(), read(BigInt(at), 4)).status, rig.peek(OUT), rig.peek(OUT + 56)]).toEqual([OK, 0xccdd_1111n, 0n]);
    rig.machine.memory.permissions[0]!.set(at >> 12, 1, 1);
    expect([rig.issue(rig.context(), write(BigInt(at), 1, 5n)).status, rig.issue(rig.context(), read(BigInt(at), 1)).status, rig.issue(rig.context(0, 1), write(BigInt(at), 1, 5n)).status]).toEqual([PARAMETER, OK, OK]);
    rig.machine.memory.permissions[0]!.set(at >> 12, 1, 0);
    expect(rig.issue(rig.context(), read(BigInt(at), 1)).status).toBe(PARAMETER);
  });
  it.each([[1, 0x11n], [2, 0x2211n], [4, 0x4433_2211n], [8, 0x8877_6655_4433_2211n]])('give what the device answers to a read of %i bytes', (size, expected) => {
    const rig = new CallRig(1);
    const c = rig.context();
    for (let word = 0; word < 9; word++) rig.poke(OUT + 8 * word, SELF);
    rig.issue(c, read(DEVICE, size));
    rig.chapters.hypercalls.complete(c, { owner: 'hyperv-vtl', kind: 'mmioRead', data: { size }, reply: { lo: 0x4433_2211, hi: 0x8877_6655 } } as never);
    expect([rig.result(c), rig.peek(OUT), rig.peek(OUT + 8), rig.peek(OUT + 56), rig.peek(OUT + 64)]).toEqual([0n, expected, 0n, 0n, SELF]);
    expect(() => rig.chapters.hypercalls.complete(c, { owner: 'hyperv-vtl', kind: 'other', data: {}, reply: null } as never)).toThrow('unknown completion');
  });
});

describe('a crash that a guest reports', () => {
  const NOTIFY = 1n << 63n, MESSAGE = 1n << 62n, NO_DUMP = 1n << 61n;
  const make = (message = '') => {
    const rig = new CallRig(2);
    const crash = new CrashRegisters(rig);
    [1n, 0xffff_ffff_ffff_fff2n, 3n, BigInt(IN), BigInt(message.length)].forEach((value, n) => crash.setParameter(n, value));
    const { memory } = rig.machine;
    memory.access.write(memory.subjects[0]!.host, IN, Uint8Array.from(message, (ch) => ch.charCodeAt(0)), 0, message.length);
    const c: PlaneContext = rig.context(1, 1);
    return { rig, crash, c };
  };
  it('has the parameters, and who reported it', () => {
    const { crash, c } = make();
    expect([crash.control, crash.notification(c, MESSAGE | NO_DUMP)]).toEqual([NOTIFY | MESSAGE, null]);
    expect(crash.notification(c, NOTIFY)).toEqual({
      kind: 'guestCrash', vp: 1, vtl: 1, parameters: [1n, 0xffff_ffff_ffff_fff2n, 3n, 0x1_0000n, 0n], noCrashDump: false, preOsId: 0, message: '',
      text: 'guest crash reported by VTL1 of VP 1\n  P0 0x0000000000000001\n  P1 0xfffffffffffffff2\n  P2 0x0000000000000003\n  P3 0x0000000000010000\n  P4 0x0000000000000000',
    });
  });
  it('has flags and a message, line by line', () => {
    const { crash, c } = make('one\r\ntwo\x01\x7f~ \n\x1b[m\0rest');
    const told = crash.notification(c, NOTIFY | MESSAGE | NO_DUMP | (5n << 58n))!;
    expect([told.message, told.noCrashDump, told.preOsId]).toEqual(['one\ntwo..~ \n.[m', true, 5]);
    expect(told.text.split('\n')[0]).toBe('guest crash reported by VTL1 of VP 1, before the operating system (environment 5), without a dump');
    expect(told.text.split('\n').slice(6)).toEqual(['  | one', '  | two..~ ', '  | .[m']);
    expect(crash.notification(c, NOTIFY)!.message).toBe('');
  });
  it('has a message of at most a page, or none that cannot be read', () => {
    const { crash, c } = make('x'.repeat(5000));
    expect(crash.notification(c, NOTIFY | MESSAGE)!.message.length).toBe(4096);
    crash.setParameter(4, SELF);
    expect(crash.notification(c, NOTIFY | MESSAGE)!.message.length).toBe(4096);
    crash.setParameter(4, 4095n);
    expect(crash.notification(c, NOTIFY | MESSAGE)!.message.length).toBe(4095);
    for (const address of [0x9_0000n, 2n ** 52n, SELF, (2n ** 52n) - 1n]) {
      crash.setParameter(3, address);
      expect(crash.notification(c, NOTIFY | MESSAGE)!.message, address.toString(16)).toBe('');
    }
  });
  it('is state', () => {
    const { crash } = make(), other = make();
    crash.setParameter(2, 99n);
    other.crash.restore(structuredClone(crash.save()));
    expect([0, 1, 2, 3, 4].map((n) => other.crash.parameter(n))).toEqual([1n, 0xffff_ffff_ffff_fff2n, 99n, 0x1_0000n, 0n]);
    other.crash.reset();
    expect([0, 1, 2, 3, 4].map((n) => other.crash.parameter(n))).toEqual([0n, 0n, 0n, 0n, 0n]);
  });
});

describe('who may call', () => {
  const call: Issue = { code: 0x0008, fast: true, input: [0n] };
  it.each([
    ['level 1', { cpl: 1n }, false], ['level 3', { cpl: 3n }, false], ['level 0', { cpl: 0n }, true], ['CR0 without protection', { cr0: 0x8001_0000n }, false], ['CR0 with nothing but protection', { cr0: 1n }, true], ['virtual-8086 mode', { rflags: 0x2_0002n }, false], ['other flags', { rflags: 0xffff_ffff_fffd_ffffn & 0x3f_ffffn & ~0x2_0000n }, true],
  ] as const)('%s', (_what, cells, isLegal) => {
    const rig = new CallRig(1);
    const c = rig.context();
    rig.load(c, call);
    for (const [name, value] of Object.entries(cells)) rig.set(c, name as 'cpl', value);
    expect(rig.again(c).answer.kind).toBe(isLegal ? 'resume' : 'fault');
  });
  it.each([
    ['64-bit code', 0x500n, 0x29bn, true], ['LME without LMA', 0x100n, 0x29bn, false], ['compatibility mode', 0x500n, 0x49bn, false], ['LMA alone', 0x400n, 0x200n, true],
  ] as const)('%s uses the registers of its mode', (_what, efer, attributes, isWide) => {
    const rig = new CallRig(1);
    const c = rig.context();
    rig.load(c, call);
    rig.set(c, 'efer', efer);
    rig.set(c, 'cs.attributes', attributes);
    // The same call in RCX:RDX:R8 and in EDX:EAX; only one of them is legal in each mode.
    for (const [name, value] of [['rcx', 0x1_0008n], ['rax', 0x7777n], ['rdx', 0n], ['rbx', 0n], ['r8', 0n]] as const) rig.set(c, name, value);
    rig.again(c);
    expect(rig.get(c, 'rax') & 0xffffn).toBe(isWide ? 0n : 2n);
  });
});
