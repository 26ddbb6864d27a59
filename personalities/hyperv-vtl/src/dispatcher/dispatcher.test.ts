import { HvStatus, rep, simple, variable, variableRep } from '@vmplanes/abi-hyperv';
import { struct, u64 } from '@vmplanes/binary';
import { Right, SubjectKind } from '@vmplanes/engine';
import type { RegisterName } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { Bench, CallRig, IN, type Issue, type Issued, OUT, SELF } from '../call-fixture.ts';
import type { HvOptions } from '../options.ts';
import { on } from './bind.ts';

const spec = 'test';
const Pair = struct('Pair', spec, 16, { a: [0, u64], b: [8, u64] });
const Word = struct('Word', spec, 8, { value: [0, u64] });

const Null = simple('Null', { code: 0x1001, spec });
const Simple = simple('Simple', { code: 0x1002, spec, fast: 'xmm', header: Pair, output: Word });
const Silent = simple('Silent', { code: 0x1003, spec, fast: 'registers', header: Pair });
const Slow = simple('Slow', { code: 0x1004, spec, header: Pair });
const Rep = rep('Rep', { code: 0x1005, spec, fast: 'xmm', header: Pair, element: u64, outputElement: u64 });
const Variable = variable('Variable', { code: 0x1006, spec, fast: 'xmm', header: Pair, output: Word });
const VariableRep = variableRep('VariableRep', { code: 0x1007, spec, fast: 'xmm', header: Pair, element: u64, outputElement: u64 });
const Vsm = simple('Vsm', { code: 0x1008, spec, fast: 'registers', header: Pair, privileges: ['accessVsm'] });
const Tail = rep('Tail', { code: 0x1009, spec, fast: 'xmm', header: Pair, element: u64 });
const Failing = simple('Failing', { code: 0x100a, spec, fast: 'xmm', header: Pair, output: Word });

/** Element with this value fails with status 5, the next one parks. */
const FAIL = 0xfa11;
const PARK = 0x9a4c;
const element = (call: { park(key: string): number }, _input: unknown, e: { readonly lo: number; readonly hi: number }, out: { lo: number; hi: number }): number => {
  if (e.lo === FAIL) return HvStatus.InvalidParameter;
  if (e.lo === PARK) return call.park('test');
  out.lo = e.lo + 1;
  out.hi = e.hi;
  return HvStatus.Success;
};

let served: string[] = [];
const table = [
  on(Null, () => (served.push('null'), HvStatus.Success)),
  on(Simple, (_call, input, output) => {
    output.valueLo = input.aLo + input.bLo;
    output.valueHi = input.aHi;
    return HvStatus.Success;
  }),
  on(Silent, (_call, input) => (served.push(`${input.aLo}:${input.aHi}:${input.bLo}:${input.bHi}`), HvStatus.Success)),
  on(Slow, () => HvStatus.Success),
  on(Rep, { check: (_call, input) => (input.aLo === FAIL ? HvStatus.InvalidPartitionId : HvStatus.Success), element }),
  on(Variable, (call, _input, output) => {
    for (let i = 0; i < call.units; i++) output.valueLo += call.unitLo(i);
    return HvStatus.Success;
  }),
  on(VariableRep, { element: (call, input, e, out) => {
    const status = element(call, input, e, out);
    if (call.units > 0) out.hi = call.unitHi(0);
    return status;
  } }),
  on(Vsm, () => HvStatus.Success),
  on(Tail, { element: (_call, _input, e) => (served.push(String(e.lo)), HvStatus.Success) }),
  on(Failing, () => HvStatus.OperationDenied),
];

const bench = (wide = true, options: Partial<HvOptions> = {}): Bench => {
  served = [];
  const rig = new CallRig(1, options);
  rig.wide = wide;
  return new Bench(rig, table);
};
const caller = (b: Bench, vtl = 0) => b.rig.context(0, vtl);

/** Every register that a call could touch. */
const registers = ['rax', 'rcx', 'rdx', 'rbx', 'rsi', 'rdi', 'rbp', 'rsp', 'rip', 'rflags', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'cr2', ...[0, 1, 2, 3, 4, 5, 6, 7].map((n) => `xmm${n}`)] as RegisterName[];
const image = (b: Bench, vtl = 0): Record<string, bigint> => Object.fromEntries(registers.map((name) => [name, b.rig.get(caller(b, vtl), name)]));
const issueAndCompare = (b: Bench, issue: Issue): { readonly issued: Issued; readonly changed: readonly string[] } => {
  b.rig.load(caller(b), issue);
  // What a call does not write keeps a value that nobody else writes.
  for (const name of ['rbp', 'r9', 'r10', 'r15', 'xmm6', 'xmm7'] as const) b.rig.set(caller(b), name, 0x5555n);
  const before = image(b);
  const issued = b.again(caller(b));
  const after = image(b);
  return { issued, changed: registers.filter((name) => before[name] !== after[name]) };
};

describe.each([
  ['64-bit', true],
  ['32-bit', false],
])('%s callers', (_name, wide) => {
  const result = wide ? ['rax'] : ['rax', 'rdx'];

  it('make a call without parameters, slow with GPAs ignored', () => {
    const b = bench(wide);
    const { issued, changed } = issueAndCompare(b, { code: 0x1001, at: 0x7n, out: 0xffff_ffff_ffff_ff01n });
    expect([issued.answer.kind, issued.result, served]).toEqual(['resume', 0n, ['null']]);
    expect(result).toEqual(expect.arrayContaining([...changed]));
  });

  it('make a simple call in memory', () => {
    const b = bench(wide);
    b.rig.poke(OUT, SELF);
    b.rig.poke(OUT + 8, SELF);
    const { issued, changed } = issueAndCompare(b, { code: 0x1002, input: [0x1_0000_0001n, 2n] });
    expect(issued.result).toBe(0n);
    expect(b.rig.peek(OUT)).toBe(0x1_0000_0003n);
    expect(b.rig.peek(OUT + 8)).toBe(SELF);
    expect(result).toEqual(expect.arrayContaining([...changed]));
  });

  it('make a simple call in two registers', () => {
    const b = bench(wide);
    const { issued, changed } = issueAndCompare(b, { code: 0x1003, fast: true, input: [0x0000_0002_0000_0001n, 0x0000_0004_0000_0003n] });
    expect([issued.result, served]).toEqual([0n, ['1:2:3:4']]);
    expect(result).toEqual(expect.arrayContaining([...changed]));
  });

  it('make a rep call in memory: success, with absolute counts', () => {
    const b = bench(wide);
    const list = [1n, 2n, 3n, 0xffn, 5n, 6n, 7n, 8n, 9n, 10n];
    const issued = b.issue(caller(b), { code: 0x1005, count: 10, start: 5, input: [0n, 0n, ...list] });
    expect([issued.status, issued.reps]).toEqual([0, 10]);
    expect([b.rig.peek(OUT + 32), b.rig.peek(OUT + 40), b.rig.peek(OUT + 72)]).toEqual([0n, 7n, 11n]);
  });

  it('make a rep call that fails at an element: that many are done, and their output is there', () => {
    const b = bench(wide);
    const issued = b.issue(caller(b), { code: 0x1005, count: 4, input: [0n, 0n, 1n, 2n, BigInt(FAIL), 4n] });
    expect([issued.answer.kind, issued.status, issued.reps]).toEqual(['resume', 5, 2]);
    expect([b.rig.peek(OUT), b.rig.peek(OUT + 8), b.rig.peek(OUT + 16)]).toEqual([2n, 3n, 0n]);
  });

  it('make a rep call that fails at its start index', () => {
    const b = bench(wide);
    const issued = b.issue(caller(b), { code: 0x1005, count: 3, start: 1, input: [0n, 0n, 1n, BigInt(FAIL), 3n] });
    expect([issued.status, issued.reps]).toEqual([5, 1]);
  });

  it('make a rep call whose header is refused', () => {
    const b = bench(wide);
    expect(b.issue(caller(b), { code: 0x1005, count: 2, input: [BigInt(FAIL), 0n, 1n, 2n] })).toMatchObject({ status: HvStatus.InvalidPartitionId, reps: 0 });
  });

  it('make a variable call', () => {
    const b = bench(wide);
    expect(b.issue(caller(b), { code: 0x1006, units: 3, input: [0n, 0n, 1n, 2n, 3n] }).result).toBe(0n);
    expect(b.rig.peek(OUT)).toBe(6n);
    expect(b.issue(caller(b), { code: 0x1006, input: [0n, 0n] }).result).toBe(0n);
    expect(b.rig.peek(OUT)).toBe(0n);
  });

  it('make a variable rep call', () => {
    const b = bench(wide);
    const issued = b.issue(caller(b), { code: 0x1007, units: 2, count: 2, input: [0n, 0n, 0x9_0000_0000n, 0n, 5n, 6n] });
    expect([issued.status, issued.reps]).toEqual([0, 2]);
    expect([b.rig.peek(OUT), b.rig.peek(OUT + 8)]).toEqual([0x9_0000_0006n, 0x9_0000_0007n]);
  });

  it('make a rep call in XMM registers without output', () => {
    const b = bench(wide);
    const list = Array.from({ length: 12 }, (_, i) => BigInt(i + 1));
    const issued = b.issue(caller(b), { code: 0x1009, fast: true, count: 12, input: [0n, 0n, ...list] });
    expect([issued.status, issued.reps, served.length, served[11]]).toEqual([0, 12, 12, '12']);
  });

  it('continue a rep call when its time is used up', () => {
    const b = bench(wide, { repBudget: 200 });
    const c = caller(b);
    b.rig.load(c, { code: 0x1005, count: 5, input: [0n, 0n, 1n, 2n, 3n, 4n, 5n] });
    const before = image(b);
    const first = b.again(c);
    const after = image(b);
    expect(first.answer.kind).toBe('retry');
    // Only the start index of the control word differs: RIP is held, RAX is as it was.
    expect(registers.filter((name) => before[name] !== after[name])).toEqual([wide ? 'rcx' : 'rdx']);
    expect(wide ? b.rig.get(c, 'rcx') : b.rig.get(c, 'rdx')).toBe(wide ? 0x0002_0005_0000_1005n : 0x0002_0005n);
    expect([b.rig.peek(OUT), b.rig.peek(OUT + 8), b.rig.peek(OUT + 16)]).toEqual([2n, 3n, 0n]);
    expect(b.again(c).answer.kind).toBe('retry');
    const last = b.again(c);
    expect([last.answer.kind, last.status, last.reps]).toEqual(['resume', 0, 5]);
    expect(b.rig.peek(OUT + 32)).toBe(6n);
  });

  it('let time pass between the runs of a rep call', () => {
    const b = bench(wide, { repBudget: 200 });
    const before = b.rig.machine.timeOf(b.rig.machine.vp(0));
    b.issue(caller(b), { code: 0x1005, count: 3, input: [0n, 0n, 1n, 2n, 3n] });
    expect(b.rig.machine.timeOf(b.rig.machine.vp(0)) - before).toBe(200);
  });

  it('wait with the elements done behind them', () => {
    const b = bench(wide);
    const c = caller(b);
    const { answer } = b.issue(c, { code: 0x1005, count: 3, input: [0n, 0n, 1n, BigInt(PARK), 3n] });
    expect(answer).toMatchObject({ kind: 'wait', rip: 'held', condition: { kind: 'key', key: 'test' } });
    expect((wide ? b.rig.get(c, 'rcx') >> 32n : b.rig.get(c, 'rdx')) >> 16n).toBe(1n);
    expect(b.rig.peek(OUT)).toBe(2n);
  });

  it('wait without a trace of a call that has done nothing', () => {
    const b = bench(wide);
    b.rig.load(caller(b), { code: 0x1005, count: 1, input: [0n, 0n, BigInt(PARK)] });
    const before = image(b);
    expect(b.again(caller(b)).answer.kind).toBe('wait');
    expect(image(b)).toEqual(before);
  });
});

describe('XMM output', () => {
  it('starts in the pair behind the input', () => {
    const b = bench();
    const { issued, changed } = issueAndCompare(b, { code: 0x1002, fast: true, input: [5n, 6n] });
    expect(issued.result).toBe(0n);
    expect([b.rig.xmmWord(caller(b), 0), b.rig.xmmWord(caller(b), 1)]).toEqual([11n, 0n]);
    expect([...changed]).toEqual(expect.arrayContaining(['xmm0']));
    expect(changed.filter((name) => name !== 'xmm0' && name !== 'rax')).toEqual([]);
  });

  it('holds as many elements as fit, and no more', () => {
    const b = bench();
    // 16 bytes of header and 5 of 8 bytes: 56, so output from 64 on, 40 bytes.
    const issued = b.issue(caller(b), { code: 0x1005, fast: true, count: 5, input: [0n, 0n, 1n, 2n, 3n, 4n, 5n] });
    expect([issued.status, issued.reps]).toEqual([0, 5]);
    expect([6, 7, 8, 9, 10].map((i) => b.rig.xmmWord(caller(b), i))).toEqual([2n, 3n, 4n, 5n, 6n]);
    expect(b.issue(caller(b), { code: 0x1005, fast: true, count: 6, input: [0n, 0n, 1n, 2n, 3n, 4n, 5n, 6n] })).toMatchObject({ status: 0, reps: 6 });
    expect(b.issue(caller(b), { code: 0x1005, fast: true, count: 7, input: [0n, 0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n] })).toMatchObject({ status: 3, reps: 0 });
  });

  it('is kept over a continuation', () => {
    const b = bench(true, { repBudget: 100 });
    const c = caller(b);
    expect(b.issue(c, { code: 0x1005, fast: true, count: 2, input: [0n, 0n, 1n, 2n] }).answer.kind).toBe('retry');
    expect(b.again(c)).toMatchObject({ status: 0, reps: 2 });
    expect([b.rig.xmmWord(c, 2), b.rig.xmmWord(c, 3)]).toEqual([2n, 3n]);
  });

  it('is for 64-bit callers', () => {
    const b = bench(false);
    expect(b.issue(caller(b), { code: 0x1002, fast: true, input: [1n, 2n] }).status).toBe(3);
  });

  it('is not written by a call that fails', () => {
    const b = bench();
    const { issued, changed } = issueAndCompare(b, { code: 0x100a, fast: true, input: [1n, 2n] });
    expect([issued.status, changed]).toEqual([8, ['rax']]);
  });
});

describe('a guest that does not see XMM calls', () => {
  const fault = { answer: { kind: 'fault', fault: { code: 6, errorCode: null } } };
  it.each([
    ['more than two registers of input', { code: 0x1009, fast: true, count: 1, input: [0n, 0n, 1n] }],
    ['output', { code: 0x1002, fast: true, input: [1n, 2n] }],
  ] as const)('gets #UD for %s, no register changed', (_what, issue) => {
    const b = bench(true, { xmmHypercalls: false });
    b.rig.load(caller(b), issue);
    const before = image(b);
    expect(b.again(caller(b))).toMatchObject(fault);
    expect(image(b)).toEqual(before);
  });
  it('still passes two registers, and memory', () => {
    const b = bench(true, { xmmHypercalls: false });
    expect(b.issue(caller(b), { code: 0x1003, fast: true, input: [1n, 2n] }).status).toBe(0);
    expect(b.issue(caller(b), { code: 0x1002, input: [1n, 2n] }).status).toBe(0);
  });
  it('gets #UD for output alone without that privilege', () => {
    const b = bench(true, { withhold: ['fastHypercallOutput'] });
    expect(b.issue(caller(b), { code: 0x1009, fast: true, count: 1, input: [0n, 0n, 1n] }).status).toBe(0);
    expect(b.issue(caller(b), { code: 0x1002, fast: true, input: [1n, 2n] })).toMatchObject(fault);
  });
});

describe('statuses', () => {
  const { InvalidHypercallCode: Code, AccessDenied: Denied, InvalidHypercallInput: Input, InvalidAlignment: Alignment } = HvStatus;
  const page = 0x2000n;

  it.each<readonly [string, Issue, number]>([
    ['a code that nobody knows', { code: 0x1fff }, Code],
    ['code 0', { code: 0 }, Code],
    ['an extended code that nobody knows', { code: 0x8fff }, Code],
    ['bit 27', { code: 0x1001, bits: 1n << 27n }, Input],
    ['bit 30', { code: 0x1001, bits: 1n << 30n }, Input],
    ['bit 44', { code: 0x1001, bits: 1n << 44n }, Input],
    ['bit 47', { code: 0x1001, bits: 1n << 47n }, Input],
    ['bit 60', { code: 0x1001, bits: 1n << 60n }, Input],
    ['bit 63', { code: 0x1001, bits: 1n << 63n }, Input],
    ['the nested bit', { code: 0x1001, bits: 1n << 31n }, 0],
    ['a rep count for a simple call', { code: 0x1002, count: 1 }, Input],
    ['a start index for a simple call', { code: 0x1002, start: 1 }, Input],
    ['a rep call without a count', { code: 0x1005 }, Input],
    ['a start index at the count', { code: 0x1005, count: 3, start: 3 }, Input],
    ['a start index above the count', { code: 0x1005, count: 3, start: 4 }, Input],
    ['a variable header for a simple call', { code: 0x1002, units: 1 }, Input],
    ['a variable header for a rep call', { code: 0x1005, units: 1, count: 1 }, Input],
    ['a fast form of a call that has none', { code: 0x1004, fast: true }, Input],
    ['a fast form of a call without parameters', { code: 0x1001, fast: true }, Input],
    ['a fast block of more than 112 bytes', { code: 0x1009, fast: true, count: 13 }, Input],
    ['a fast variable header of more than 112 bytes', { code: 0x1006, fast: true, units: 13 }, Input],
    ['input that is not aligned', { code: 0x1002, at: 0x2004n }, Alignment],
    ['output that is not aligned', { code: 0x1002, out: 0x2001n }, Alignment],
    ['input across a page', { code: 0x1002, at: 0x2ff8n }, Alignment],
    ['output across a page', { code: 0x1005, count: 3, out: 0x2ff0n }, Alignment],
    ['input longer than a page', { code: 0x1009, count: 0xfff }, Alignment],
    ['input beyond the address space', { code: 0x1002, at: 1n << 60n }, Alignment],
    ['output beyond the address space', { code: 0x1002, out: 1n << 52n }, Alignment],
    ['input up to the end of a page', { code: 0x1002, at: 0x2ff0n }, 0],
    ['output up to the end of a page', { code: 0x1002, out: 0x2ff8n }, 0],
  ])('%s', (_what, issue, status) => {
    const b = bench();
    const issued = b.issue(caller(b), { at: page, ...issue });
    expect([issued.answer.kind, issued.result]).toEqual(['resume', BigInt(status)]);
  });

  it.each<readonly [string, Partial<HvOptions>, Issue, number]>([
    ['a page crossing can be an input error', { straddleStatus: 3 }, { code: 0x1002, at: 0x2ff8n }, Input],
    ['and is tested before alignment', { straddleStatus: 3 }, { code: 0x1002, at: 0x2ffcn }, Input],
    ['in the printed layout bit 31 must be zero', { controlLayout: 'v6' }, { code: 0x1001, bits: 1n << 31n }, Input],
    ['and bit 26 says nested', { controlLayout: 'v6' }, { code: 0x1001, bits: 1n << 26n }, 0],
    ['a privilege is withheld', { withhold: ['accessVsm'] }, { code: 0x1008, fast: true }, Denied],
    ['VSM needs the SynIC', { withhold: ['accessSynicRegs'] }, { code: 0x1008, fast: true }, Denied],
    ['VSM needs VP registers', { withhold: ['accessVpRegisters'] }, { code: 0x1008, fast: true }, Denied],
    ['there is no VTL to allow', { maximumVtl: 0 }, { code: 0x1008, fast: true }, Denied],
  ])('%s', (_what, options, issue, status) => {
    const b = bench(true, options);
    expect(b.issue(caller(b), issue).result).toBe(BigInt(status));
  });

  it.each<readonly [string, Issue, number]>([
    ['unknown code before control word', { code: 0x1fff, bits: 1n << 63n }, Code],
    ['privilege before control word', { code: 0x1008, bits: 1n << 63n }, Denied],
    ['control word before register form', { code: 0x1004, fast: true, count: 1 }, Input],
    ['control word before alignment', { code: 0x1002, count: 1, at: 1n }, Input],
    ['input before output', { code: 0x1002, at: 0x2004n, out: 1n << 60n }, Alignment],
  ])('order: %s', (_what, issue, status) => {
    const b = bench(true, { withhold: ['accessVsm'] });
    expect(b.issue(caller(b), issue).result).toBe(BigInt(status));
  });
});

describe('parameters that cannot be reached', () => {
  it.each([
    ['input', { at: 0x8_0000n }],
    ['output', { out: 0x8_0000n }],
  ])('an intercept or exit tells of %s; the call is not made', (_what, where) => {
    const b = bench();
    const before = b.rig.get(caller(b), 'rax');
    const { answer } = b.issue(caller(b), { code: 0x1002, ...where });
    expect([answer.kind, b.rig.refused]).toEqual(['fault', [0]]);
    expect(b.rig.get(caller(b), 'rax')).toBe(before);
  });

  it('the rights of the calling VTL count', () => {
    const b = bench();
    b.rig.machine.memory.permissions[0]!.set(OUT >> 12, 1, 1);
    b.issue(caller(b, 0), { code: 0x1002, input: [1n, 1n] });
    expect(b.rig.refused).toEqual([0]);
    b.rig.protectedMode(caller(b, 1));
    expect(b.issue(caller(b, 1), { code: 0x1002, input: [1n, 1n] }).result).toBe(0n);
    expect(b.rig.peek(OUT)).toBe(2n);
  });

  it.each([
    ['input', IN, Right.Read],
    ['output', OUT, Right.Write],
  ])('a watcher of the page holds %s back; the call is made when it lets go', (_what, page, right) => {
    const b = bench();
    const { memory } = b.rig.machine;
    let holds = true;
    b.rig.load(caller(b), { code: 0x1002, input: [1n, 2n] });
    memory.registerWatcher('guard', { accessed: (_frame, by) => (holds && by.kind === SubjectKind.Call ? 'hold' : 'allow') });
    memory.watchFrame(memory.frameAt(page >> 12), { read: right === Right.Read, write: right === Right.Write }, 'guard');
    const before = image(b);
    expect(b.again(caller(b)).answer).toMatchObject({ kind: 'wait', rip: 'held', condition: { kind: 'key', key: 'watch:guard' } });
    expect([image(b), b.rig.peek(OUT)]).toEqual([before, 0n]);
    holds = false;
    expect(b.again(caller(b)).result).toBe(0n);
    expect(b.rig.peek(OUT)).toBe(3n);
  });

  it('lists below an overlay are read from memory', () => {
    const b = bench();
    const { memory } = b.rig.machine;
    b.rig.load(caller(b), { code: 0x1002, input: [20n, 22n] });
    memory.placeOverlay(0, IN >> 12, memory.frames.allocate(), 7);
    expect(b.again(caller(b)).result).toBe(0n);
    expect(b.rig.peek(OUT)).toBe(42n);
  });
});

it('tells a trace of each call', () => {
  const b = bench();
  const notes: unknown[] = [];
  const nothing = (): void => {};
  b.rig.machine.hooks.trace = { entered: nothing, exit: nothing, answer: nothing, switched: nothing, accepted: nothing, vmExit: nothing, input: nothing, permission: nothing, note: (_c, name, data) => notes.push([name, data]) };
  b.issue(caller(b), { code: 0x1005, count: 2, input: [0n, 7n, 1n, 2n] });
  b.issue(caller(b), { code: 0x1002, count: 2 });
  expect(notes).toEqual([
    ['hv-call', { code: 0x1005, name: 'HvCall 0x1005', vtl: 0, count: 2, start: 0, reps: 2, input: { a: 0n, b: 7n }, status: 0, spec: 'test' }],
    ['hv-call', { code: 0x1002, name: 'HvCall 0x1002', vtl: 0, count: 2, start: 0, reps: 0, status: 3, spec: 'test' }],
  ]);
});
