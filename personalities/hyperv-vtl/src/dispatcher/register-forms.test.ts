import { HvStatus, rep, simple, variable, variableRep } from '@vmplanes/abi-hyperv';
import { bytes, struct, u16, u32, u64, u8 } from '@vmplanes/binary';
import { describe, expect, it } from 'vitest';
import { Bench, CallRig, IN, OUT } from '../call-fixture.ts';
import { on } from './bind.ts';
import { viewMaker, BlockBytes } from './block.ts';
import { CallFrame } from './call-frame.ts';
import { controlLayouts, decodeControl } from './control-word.ts';

const spec = 'test';
const words = (count: number): readonly bigint[] => Array.from({ length: count }, (_, i) => 0x1111_1111_2222_2222n * BigInt(i + 1) + BigInt(i));
const Full = struct('Full', spec, 112, { all: [0, bytes(112)] });
const Big = struct('Big', spec, 96, { all: [0, bytes(96)] });
const Eight = struct('Eight', spec, 8, { a: [0, u64] });
const Page = struct('Page', spec, 4096, { all: [0, bytes(4096)] });

let seen: bigint[] = [];
const look = (call: CallFrame, at: number, count: number): void => {
  seen = Array.from({ length: count }, (_, i) => call.input.data.getBigUint64(at + 8 * i, true));
};
const fill = (out: { readonly data: DataView; readonly at: number }, count: number): void => words(count).forEach((word, i) => out.data.setBigUint64(out.at + 8 * i, word, true));
const table = [
  on(simple('In', { code: 0x1001, spec, fast: 'xmm', header: Full }), (call, input) => (look(call, input.allAt, 14), HvStatus.Success)),
  on(simple('Out', { code: 0x1002, spec, fast: 'xmm', output: Full }), (_call, _input, output) => (fill(output, 14), HvStatus.Success)),
  on(simple('Behind', { code: 0x1003, spec, fast: 'xmm', header: Eight, output: Big }), (call, input, output) => (look(call, input.at, 1), fill(output, 12), HvStatus.Success)),
  on(variable('Units', { code: 0x1004, spec, fast: 'xmm', header: Eight }), (call) => ((seen = Array.from({ length: call.units }, (_, i) => (BigInt(call.unitHi(i)) << 32n) | BigInt(call.unitLo(i)))), HvStatus.Success)),
  on(variableRep('List', { code: 0x1005, spec, fast: 'xmm', header: Eight, element: u64, outputElement: u32 }), { element: (call, _input, element, output) => {
    if (call.index === call.start) seen = [];
    seen.push((BigInt(element.hi) << 32n) | BigInt(element.lo));
    output.value = 0x100 + call.index;
    return HvStatus.Success;
  } }),
  on(simple('Whole', { code: 0x1006, spec, header: Page, output: Page }), (call, input, output) => {
    look(call, input.allAt + 4088, 1);
    output.data.setBigUint64(output.at + 4088, 77n, true);
    return HvStatus.Success;
  }),
  on(rep('Bytes', { code: 0x1ff, spec, fast: 'xmm', header: Eight, element: u64, outputElement: u8 }), { element: (call, _input, _element, output) => ((output.value = 0x80 + call.index), HvStatus.Success) }),
];
const bench = (wide = true, options: object = {}): Bench => {
  seen = [];
  const rig = new CallRig(1, options);
  rig.wide = wide;
  return new Bench(rig, table);
};

describe('registers', () => {
  it.each([true, false])('carry 112 bytes of input; 64-bit caller: %s', (wide) => {
    const b = bench(wide);
    expect(b.issue(b.rig.context(), { code: 0x1001, fast: true, input: words(14) }).result).toBe(0n);
    expect(seen).toEqual(words(14));
  });
  it('carry 112 bytes of output: RDX, R8, XMM0 to XMM5', () => {
    const b = bench();
    const c = b.rig.context();
    expect(b.issue(c, { code: 0x1002, fast: true }).result).toBe(0n);
    expect([b.rig.get(c, 'rdx'), b.rig.get(c, 'r8'), ...Array.from({ length: 12 }, (_, i) => b.rig.xmmWord(c, i))]).toEqual(words(14));
    expect([b.rig.get(c, 'xmm6'), b.rig.get(c, 'rcx')]).toEqual([0n, 0x1_1002n]);
  });
  it('carry output behind 8 bytes of input from the next 16 bytes on', () => {
    const b = bench();
    const c = b.rig.context();
    expect(b.issue(c, { code: 0x1003, fast: true, input: [5n, 6n] }).result).toBe(0n);
    expect([seen, b.rig.get(c, 'rdx'), b.rig.get(c, 'r8'), ...Array.from({ length: 12 }, (_, i) => b.rig.xmmWord(c, i))]).toEqual([[5n], 5n, 6n, ...words(12)]);
  });
  it('carry variable headers and lists in their order', () => {
    const b = bench();
    const c = b.rig.context();
    expect(b.issue(c, { code: 0x1004, fast: true, units: 13, input: words(14) }).result).toBe(0n);
    expect(seen).toEqual(words(14).slice(1));
    expect(b.issue(c, { code: 0x1005, fast: true, units: 2, count: 3, start: 1, input: words(6) })).toMatchObject({ status: 0, reps: 3 });
    expect(seen).toEqual(words(6).slice(4));
    // 48 bytes of input; output of elements 1 and 2 lies behind the place of element 0.
    expect([b.rig.xmmWord(c, 4) >> 32n, b.rig.xmmWord(c, 5) & 0xffff_ffffn]).toEqual([0x101n, 0x102n]);
  });
  it('carry outputs of single bytes in whole words', () => {
    const b = bench();
    const c = b.rig.context();
    expect(b.issue(c, { code: 0x1ff, fast: true, count: 5, input: words(6) })).toMatchObject({ status: 0, reps: 5 });
    expect(b.rig.xmmWord(c, 4)).toBe(0x84_8382_8180n);
  });
  it.each([[true, 0x0005_0000_0000_0000n], [false, 0n]])('give status and elements, and clear what they do not use; 64-bit caller: %s', (wide) => {
    const b = bench(wide);
    const c = b.rig.context();
    b.rig.load(c, { code: 0x1005, units: 0, count: 5, start: 5, input: words(6) });
    for (const name of ['rax', 'rdx'] as const) b.rig.set(c, name, b.rig.get(c, name) | (0xffff_ffffn << 32n));
    const { status, reps } = b.again(c);
    expect([status, reps]).toEqual([HvStatus.InvalidHypercallInput, 0]);
    expect([b.rig.get(c, 'rax'), wide ? b.rig.get(c, 'rdx') >> 32n : b.rig.get(c, 'rdx')]).toEqual(wide ? [3n, 0xffff_ffffn] : [3n, 0n]);
  });
});

describe('memory', () => {
  it('may be a whole page each', () => {
    const b = bench();
    const c = b.rig.context();
    b.rig.poke(IN + 4088, 0x1234n);
    expect(b.issue(c, { code: 0x1006 }).result).toBe(0n);
    expect([seen, b.rig.peek(OUT + 4088), b.rig.peek(OUT)]).toEqual([[0x1234n], 77n, 0n]);
  });
  it.each([['rdx', 'at'], ['r8', 'out']] as const)('above 4 GiB is named by all of %s', (_name, which) => {
    const b = bench();
    const { answer } = b.issue(b.rig.context(), { code: 0x1006, [which]: 0x1_0000_0000n + BigInt(which === 'at' ? IN : OUT) });
    expect([answer.kind, b.rig.refused.length]).toEqual(['fault', 1]);
  });
  it.each([['ebx', 'at'], ['edi', 'out']] as const)('above 4 GiB is named by %s of a 32-bit caller', (_name, which) => {
    const b = bench(false);
    expect(b.issue(b.rig.context(), { code: 0x1006, [which]: 0x1_0000_0000n + BigInt(which === 'at' ? IN : OUT) }).answer.kind).toBe('fault');
  });
  it('ends with the address space: 46 bits', () => {
    const b = bench();
    const top = 1n << 46n;
    expect([b.issue(b.rig.context(), { code: 0x1006, at: top - 4096n }).answer.kind, b.issue(b.rig.context(), { code: 0x1006, at: top }).status, b.issue(b.rig.context(), { code: 0x1006, out: top - 4096n }).answer.kind, b.issue(b.rig.context(), { code: 0x1006, out: top }).status]).toEqual(['fault', 4, 'fault', 4]);
  });
});

describe('the control word', () => {
  const decode = (control: bigint, layout: 'tlfs' | 'v6' = 'tlfs') => {
    const frame = { controlLo: Number(control & 0xffff_ffffn), controlHi: Number(control >> 32n) } as CallFrame;
    decodeControl(frame, controlLayouts[layout]);
    return [frame.code, frame.isFast, frame.units, frame.count, frame.start];
  };
  it('has code, fast bit, header size, count and start', () => {
    expect([decode(0xffffn), decode(1n << 16n), decode(0x3ffn << 17n), decode(0xfffn << 32n), decode(0xfffn << 48n)]).toEqual([[0xffff, false, 0, 0, 0], [0, true, 0, 0, 0], [0, false, 0x3ff, 0, 0], [0, false, 0, 0xfff, 0], [0, false, 0, 0, 0xfff]]);
    expect([decode((1n << 64n) - 1n), decode((1n << 64n) - 1n, 'v6'), decode(0n), decode(1n << 26n, 'v6')]).toEqual([[0xffff, true, 0x3ff, 0xfff, 0xfff], [0xffff, true, 0x1ff, 0xfff, 0xfff], [0, false, 0, 0, 0], [0, false, 0, 0, 0]]);
  });
  it('has reserved bits 30:27, 47:44 and 63:60; 31:27 in the older layout', () => {
    expect(controlLayouts).toEqual({ tlfs: { unitsMask: 0x3ff, reservedLo: 0x7800_0000, reservedHi: 0xf000_f000 }, v6: { unitsMask: 0x1ff, reservedLo: 0xf800_0000, reservedHi: 0xf000_f000 } });
  });
});

describe('views of a block', () => {
  it('read and write each field where it lies', () => {
    const Mixed = struct('Mixed', spec, 24, { a: [0, u8], pad: [1, u8], b: [2, u16], c: [4, u32], d: [8, u64], e: [16, bytes(8)] });
    const view = viewMaker(Mixed)(new BlockBytes(new Uint8Array(64)));
    view.at = 16;
    view.a = 0x81;
    view.b = 0x8283;
    view.c = 0x8485_8687;
    view.dLo = 0x8899_aabb;
    view.dHi = 0xccdd_eeff;
    expect([...view.bytes.subarray(16, 32)]).toEqual([0x81, 0, 0x83, 0x82, 0x87, 0x86, 0x85, 0x84, 0xbb, 0xaa, 0x99, 0x88, 0xff, 0xee, 0xdd, 0xcc]);
    expect([view.a, view.b, view.c, view.dLo, view.dHi, view.eAt]).toEqual([0x81, 0x8283, 0x8485_8687, 0x8899_aabb, 0xccdd_eeff, 32]);
    const scalars = [viewMaker(u8), viewMaker(u16), viewMaker(u32)].map((make) => Object.assign(make(new BlockBytes(new Uint8Array(8))), { value: 0x9a }));
    expect(scalars.map((s) => [s.value, s.bytes[0]])).toEqual([[0x9a, 0x9a], [0x9a, 0x9a], [0x9a, 0x9a]]);
    const wide = viewMaker(u64)(new BlockBytes(new Uint8Array(16)));
    wide.at = 8;
    wide.lo = 1;
    wide.hi = 0x8000_0000;
    expect(wide.data.getBigUint64(8, true)).toBe(0x8000_0000_0000_0001n);
  });
});

it('tells a trace whether a call was fast, and from where it goes on', () => {
  const b = bench();
  const notes: unknown[] = [];
  const nothing = (): void => {};
  b.rig.machine.hooks.trace = { entered: nothing, exit: nothing, answer: nothing, switched: nothing, accepted: nothing, vmExit: nothing, input: nothing, permission: nothing, note: (_c, name, data) => notes.push([name, data]) };
  b.issue(b.rig.context(), { code: 0x1005, fast: true, count: 3, start: 2, input: words(4) });
  b.issue(b.rig.context(), { code: 0x1999 });
  expect(notes).toEqual([
    ['hv-call', { code: 0x1005, name: 'HvCall 0x1005', vtl: 0, isFast: true, count: 3, start: 2, reps: 3, input: { a: words(1)[0] }, status: 0, spec }],
    ['hv-call', { code: 0x1999, name: 'HvCall 0x1999', vtl: 0, status: 2 }],
  ]);
});
