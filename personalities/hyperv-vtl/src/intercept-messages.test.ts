import { MemoryFaultInfo, type PlaneContext, Right } from '@vmplanes/engine';
import { ApicReg, type RegisterName, type SegmentName, writePage, writeRegister, writeSegment } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { CallRig } from './call-fixture.ts';
import { InterceptMessages } from './intercept-messages.ts';
import type { HvOptions } from './options.ts';

// Messages byte for byte, from the published tables: every field of the VTL has a value of its own.

const GENERALS = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const;
const general = (name: (typeof GENERALS)[number]): bigint => 0xa1a2_a3a4_b1b2_b3b4n + BigInt(GENERALS.indexOf(name)) * 0x0101_0000_0000_0101n;
const segmentOf = (n: number) => ({ base: 0xffff_8123_0456_0000n + BigInt(n), limit: 0x7654_3000 + n, selector: 0x1230 + n, attributes: 0xc9a + n }) as const;
const SEGMENTS: readonly SegmentName[] = ['cs', 'ds', 'es', 'ss'];
const RIP = 0xffff_9000_1234_5678n, RFLAGS = 0x0000_0001_0004_0246n;

/** VTL1 of VP1, with every register that a message shows at a value of its own. */
const scene = (options: Partial<HvOptions> = {}): { readonly rig: CallRig; readonly c: PlaneContext; readonly messages: InterceptMessages } => {
  const rig = new CallRig(2, options);
  const c = rig.context(1, 1);
  const { arena } = rig.machine;
  for (const name of GENERALS) writeRegister(arena, c.base, name, general(name));
  SEGMENTS.forEach((name, n) => writeSegment(arena, c.base, name, segmentOf(n)));
  for (const [name, value] of [['rip', RIP], ['rflags', RFLAGS], ['cpl', 2n], ['cr0', 0x8000_0010n], ['efer', 0x101n], ['dr7', 0x400n]] as const) writeRegister(arena, c.base, name, value);
  writePage(rig.apic(c), ApicReg.tpr, 4, 0x90);
  c.instructionLength = 7;
  return { rig, c, messages: new InterceptMessages(rig) };
};

type Field = readonly [offset: number, size: 1 | 2 | 4 | 8, value: bigint | number];
/** A segment with its attributes spread: bits 11:8 of a descriptor go to 15:12. */
const segmentAt = (offset: number, n: number): readonly Field[] => {
  const { base, limit, selector } = segmentOf(n);
  return [[offset, 8, base], [offset + 8, 4, limit], [offset + 12, 2, selector], [offset + 14, 2, 0xc09a + n]];
};
const generalsAt = (offset: number): readonly Field[] => GENERALS.map((name, i) => [offset + 8 * i, 8, general(name)]);
/** A message: 16 bytes of header, then the payload. @param length - of the instruction. */
const message = (type: number, payloadSize: number, accessType: number, length: number, payload: readonly Field[], { state = 2 | (1 << 7), rflags = RFLAGS } = {}): string => {
  const bytes = new Uint8Array(256);
  const view = new DataView(bytes.buffer);
  const fields: readonly Field[] = [
    [-16, 4, type], [-12, 1, payloadSize],
    [0, 4, 1], [4, 1, length | 0x90], [5, 1, accessType], [6, 2, state], ...segmentAt(8, 0), [24, 8, RIP], [32, 8, rflags],
    ...payload,
  ];
  for (const [offset, size, value] of fields) for (let i = 0; i < size; i++) view.setUint8(16 + offset + i, Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
  return text(bytes);
};
const text = (bytes: Uint8Array): string => (Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('').match(/.{32}/g) ?? []).join('\n');

const faultOf = (change: Partial<MemoryFaultInfo> = {}): MemoryFaultInfo => {
  const info = Object.assign(new MemoryFaultInfo(), { gpa: 0x12_3456_7abc, gvaLo: 0x8765_4abc, gvaHi: 0xffff_a000, hasGva: true, access: Right.Read, instructionLength: 3, ...change });
  info.instruction.set([0x48, 0x8b, 0x07, 0xee, 0xee]);
  return info;
};
const RF = 0x1_0000n;

describe('a memory intercept', () => {
  const registers = [...segmentAt(0x50, 1), ...segmentAt(0x60, 3), ...generalsAt(0x70)];
  const common = (length: number): readonly Field[] => [[0x28, 4, 6], [0x2c, 1, length], [0x2e, 1, 9], [0x38, 8, 0x12_3456_7abcn], ...(length > 0 ? ([[0x40, 1, 0x48], [0x41, 1, 0x8b], [0x42, 1, 0x07]] as const) : [])];
  it.each([
    ['read', Right.Read, 0, 3],
    ['write', Right.Write, 1, 3],
    ['read and write', Right.Read | Right.Write, 1, 3],
    ['supervisor fetch', Right.ExecSupervisor, 2, 0],
    ['user fetch', Right.ExecUser, 2, 0],
  ])('of a %s', (_what, access, type, length) => {
    const { c, messages } = scene();
    expect(text(messages.memory(c, faultOf({ access })))).toBe(message(0x8000_0001, 0xf0, type, length, [...common(length), ...registers], { rflags: RFLAGS | RF }));
  });
  it('without registers, where those are not wanted', () => {
    const { c, messages } = scene({ memoryMessageBytes: 0x50 });
    expect(text(messages.memory(c, faultOf()))).toBe(message(0x8000_0001, 0x50, 0, 3, common(3), { rflags: RFLAGS | RF }));
  });
  it.each([
    ['an access', { isWalk: false }, 3],
    ['a page walk', { isWalk: true }, 1],
    ['something without one', { hasGva: false }, 0],
  ])('with the linear address of %s, where that is wanted', (_what, change, info) => {
    const { c, messages } = scene({ interceptGva: true });
    const address: readonly Field[] = info === 0 ? [] : [[0x2d, 1, info], [0x30, 8, 0xffff_a000_8765_4abcn]];
    expect(text(messages.memory(c, faultOf(change)))).toBe(message(0x8000_0001, 0xf0, 0, 3, [...common(3), ...address, ...registers], { rflags: RFLAGS | RF }));
  });
  it('while translations are locked', () => {
    const { rig, c, messages } = scene();
    rig.locks.add('1:1');
    expect(text(messages.memory(c, faultOf()))).toBe(message(0x8000_0001, 0xf0, 0, 3, [...common(3), [0x2d, 1, 8], ...registers], { rflags: RFLAGS | RF }));
  });
});

describe('an intercept of', () => {
  const value = [0x9abc_def0, 0x1234_5678] as const;
  it.each([
    ['an MSR write', (m: InterceptMessages, c: PlaneContext) => m.msr(c, 0xc000_0082, true, ...value), message(0x8001_0001, 0x40, 1, 7, [[0x28, 4, 0xc000_0082], [0x30, 8, 0x1234_5678], [0x38, 8, 0x9abc_def0]])],
    ['an MSR read', (m: InterceptMessages, c: PlaneContext) => m.msr(c, 0x1b, false, ...value), message(0x8001_0001, 0x40, 0, 7, [[0x28, 4, 0x1b], [0x30, 8, general('rdx')], [0x38, 8, general('rax')]])],
    ['a register with a register operand', (m: InterceptMessages, c: PlaneContext) => m.register(c, 0x4_0003, false, ...value), message(0x8001_0006, 0x40, 1, 7, [[0x2c, 4, 0x4_0003], [0x30, 8, 0x1234_5678_9abc_def0n]])],
    ['a register with a memory operand', (m: InterceptMessages, c: PlaneContext) => m.register(c, 0x7_0001, true, ...value), message(0x8001_0006, 0x40, 1, 7, [[0x28, 1, 1], [0x2c, 4, 0x7_0001], [0x30, 8, 0x1234_5678_9abc_def0n]])],
    ['a CPUID leaf', (m: InterceptMessages, c: PlaneContext) => m.cpuid(c, 0x4000_0090, 0x8000_0005, { eax: 0xe000_000a, ebx: 0xe000_000b, ecx: 0xe000_000c, edx: 0xe000_000d }),
      message(0x8001_0002, 0x68, 2, 7, [[0x28, 8, 0x4000_0090], [0x30, 8, 0x8000_0005], [0x38, 8, general('rdx')], [0x40, 8, general('rbx')], [0x48, 8, 0xe000_000a], [0x50, 8, 0xe000_000c], [0x58, 8, 0xe000_000d], [0x60, 8, 0xe000_000b]])],
    ['an exception with a code', (m: InterceptMessages, c: PlaneContext) => m.exception(c, 14, 0x8000_0006, ...value),
      message(0x8001_0003, 0xf0, 2, 0, [[0x28, 2, 14], [0x2a, 1, 1], [0x2c, 4, 0x8000_0006], [0x30, 8, 0x1234_5678_9abc_def0n], ...segmentAt(0x50, 1), ...segmentAt(0x60, 3), ...generalsAt(0x70)])],
    ['an exception without a code', (m: InterceptMessages, c: PlaneContext) => m.exception(c, 3, null, 0, 0), message(0x8001_0003, 0xf0, 2, 0, [[0x28, 2, 3], ...segmentAt(0x50, 1), ...segmentAt(0x60, 3), ...generalsAt(0x70)])],
    ['a triple fault', (m: InterceptMessages, c: PlaneContext) => m.unrecoverable(c), message(0x8000_0021, 0x28, 2, 0, [])],
    ['an interruption that can be delivered', (m: InterceptMessages, c: PlaneContext) => m.interruptionDeliverable(c, 2), message(0x8001_0008, 0x30, 2, 0, [[0x28, 4, 2]])],
    ['SINTs that can be delivered', (m: InterceptMessages, c: PlaneContext) => m.sintDeliverable(c, 0x8421), message(0x8000_0062, 0x30, 2, 0, [[0x28, 2, 0x8421]])],
  ] as const)('%s', (_what, make, expected) => {
    const { c, messages } = scene();
    // What an earlier message left is gone.
    messages.bytes.fill(0xff);
    expect(text(make(messages, c))).toBe(expected);
  });

  const tail: readonly Field[] = [...segmentAt(0x48, 1), ...segmentAt(0x58, 2), [0x68, 8, general('rcx')], [0x70, 8, general('rsi')], [0x78, 8, general('rdi')]];
  const rax = general('rax');
  it.each([
    ['a write of 1 byte', 1, true, (rax & ~0xffn) | 0xddn],
    ['a write of 2 bytes', 2, true, (rax & ~0xffffn) | 0xccddn],
    ['a write of 4 bytes', 4, true, (rax & ~0xffff_ffffn) | 0xaabb_ccddn],
    ['a read of 1 byte', 1, false, rax],
    ['a read of 4 bytes', 4, false, rax],
  ] as const)('a port: %s', (_what, size, write, shown) => {
    const { c, messages } = scene();
    expect(text(messages.io(c, 0xfeed, size, write, 0xaabb_ccdd))).toBe(message(0x8001_0000, 0x80, write ? 1 : 0, 7, [[0x28, 2, 0xfeed], [0x2a, 1, size], [0x30, 8, shown], ...tail]));
  });
});

describe('the execution state', () => {
  it.each([
    ['privilege level 3', 'cpl', 3n, 3],
    ['protection', 'cr0', 1n, 2 | 4],
    ['alignment checks', 'cr0', 1n << 18n, 2 | 8],
    ['other bits of CR0', 'cr0', ~((1n << 18n) | 1n) & 0xffff_ffffn, 2],
    ['long mode', 'efer', 0x400n, 2 | 0x10],
    ['long mode that is not active', 'efer', 0x901n, 2],
    ['a breakpoint of this task', 'dr7', 1n, 2 | 0x20],
    ['the last global breakpoint', 'dr7', 0x80n, 2 | 0x20],
    ['lengths without a breakpoint', 'dr7', 0xffff_ff00n, 2],
    ['an exception in delivery', 'exception.state', 1n, 2 | 0x40],
    ['an interrupt in delivery', 'interrupt.injected', 1n, 2 | 0x40],
    ['an NMI in delivery', 'nmi.injected', 1n, 2 | 0x40],
    ['an interrupt shadow', 'interruptShadow', 1n, 2 | 0x1000],
  ] as const satisfies readonly (readonly [string, RegisterName, bigint, number])[])('says %s', (_what, name, value, state) => {
    const { rig, c, messages } = scene();
    writeRegister(rig.machine.arena, c.base, name, value);
    expect(text(messages.unrecoverable(c))).toBe(message(0x8000_0021, 0x28, 2, 0, [], { state: state | (1 << 7) }));
  });
  it('of VTL0 of VP0 has no VTL bits', () => {
    const { rig, messages } = scene();
    const bytes = messages.unrecoverable(rig.context(0, 0));
    expect([bytes[16], bytes[22]! & 0x80, bytes[23]! & 7]).toEqual([0, 0, 0]);
  });
});
