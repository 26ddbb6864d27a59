import { type CompiledStep, compileStep, compileTable, Op, type Step, toU64, type Value, X86, X86Size } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';

/** What is not said of a compiled step. */
const plain: Omit<CompiledStep, 'source'> = {
  op: Op.Work, cost: 1, loads: new Float64Array(0), key: 0, subleaf: 0, size: 0, lo: 0, hi: 0, addressLo: 0, addressHi: 0, linear: false, user: false, cell: -1, wide: false, loadsEvents: false, bytes: new Uint8Array(0),
};
const WIDE = 0xfedc_ba98_7654_3210n;
const halves = { lo: 0x7654_3210, hi: 0xfedc_ba98 };
const at = { addressLo: 0x7654_3210, addressHi: 0xf_ba98 };
const GPA = 0xf_ba98_7654_3210n;
const LINEAR = 0xffff_8000_0000_1000n;
const linear = { linear: true, addressLo: 0x1000, addressHi: 0xffff_8000 };

const rows: readonly (readonly [Step, Partial<CompiledStep>])[] = [
  [{ op: 'call' }, { op: Op.Call, key: 1 }],
  [{ op: 'call', via: 'vmcall' }, { op: Op.Call, key: 1 }],
  [{ op: 'call', via: 'vmmcall' }, { op: Op.Call, key: 2 }],
  [{ op: 'call', via: 'vmgexit' }, { op: Op.Call, key: 3 }],
  [{ op: 'instruction', name: 'any' }, { op: Op.Instruction }],
  [{ op: 'rdmsr', index: 0 }, { op: Op.Rdmsr, key: 0 }],
  [{ op: 'rdmsr', index: 0xffff_ffff }, { op: Op.Rdmsr, key: 0xffff_ffff }],
  [{ op: 'wrmsr', index: 0xffff_ffff, value: WIDE }, { op: Op.Wrmsr, key: 0xffff_ffff, ...halves }],
  [{ op: 'cpuid', leaf: 0xffff_ffff }, { op: Op.Cpuid, key: 0xffff_ffff }],
  [{ op: 'cpuid', leaf: 0xd, subleaf: 0xffff_ffff }, { op: Op.Cpuid, key: 0xd, subleaf: 0xffff_ffff }],
  [{ op: 'in', port: 0 }, { op: Op.In, size: 1 }],
  [{ op: 'in', port: 0xffff, size: 4 }, { op: Op.In, key: 0xffff, size: 4 }],
  [{ op: 'out', port: 0xffff, value: 255 }, { op: Op.Out, key: 0xffff, size: 1, lo: 255 }],
  [{ op: 'out', port: 0, size: 2, value: 0xffff }, { op: Op.Out, size: 2, lo: 0xffff }],
  [{ op: 'out', port: 1, size: 4, value: 0xffff_ffff }, { op: Op.Out, key: 1, size: 4, lo: 0xffff_ffff }],
  [{ op: 'read', gpa: GPA }, { op: Op.Read, size: 8, ...at }],
  [{ op: 'read', gva: LINEAR, size: 2 }, { op: Op.Read, size: 2, ...linear }],
  [{ op: 'read', gpa: 0 }, { op: Op.Read, size: 8 }],
  [{ op: 'read', gva: 0, size: 4 }, { op: Op.Read, size: 4, linear: true }],
  [{ op: 'write', gpa: GPA, value: WIDE }, { op: Op.Write, size: 8, ...at, ...halves }],
  [{ op: 'write', gva: LINEAR, size: 1, value: -1 }, { op: Op.Write, size: 1, ...linear, lo: 0xffff_ffff, hi: 0xffff_ffff }],
  [{ op: 'fill', gpa: GPA, bytes: '00Ff7a' }, { op: Op.Fill, size: 3, ...at, bytes: Uint8Array.of(0, 255, 0x7a) }],
  [{ op: 'execute', gpa: GPA }, { op: Op.Execute, size: 1, ...at }],
  [{ op: 'execute', gva: LINEAR, user: true }, { op: Op.Execute, size: 1, ...linear, user: true }],
  [{ op: 'execute', gpa: 0, user: false }, { op: Op.Execute, size: 1 }],
  [{ op: 'mov', to: 'cr0', value: WIDE }, { op: Op.Mov, key: 0, ...halves }],
  [{ op: 'mov', to: 'cr3', value: 1 }, { op: Op.Mov, key: 3, lo: 1 }],
  [{ op: 'mov', to: 'cr4', value: 1 }, { op: Op.Mov, key: 4, lo: 1 }],
  [{ op: 'mov', to: 'cr8', value: 1 }, { op: Op.Mov, key: 8, lo: 1 }],
  [{ op: 'mov', to: 'dr7', value: 1 }, { op: Op.Mov, key: 23, lo: 1 }],
  [{ op: 'mov', to: 'xcr0', value: 1 }, { op: Op.Mov, key: 48, lo: 1 }],
  [{ op: 'ipi', icr: WIDE }, { op: Op.Ipi, ...halves }],
  [{ op: 'apicRead', register: 0 }, { op: Op.ApicRead }],
  [{ op: 'apicRead', register: 0x3f }, { op: Op.ApicRead, key: 0x3f }],
  [{ op: 'apicWrite', register: 0x3f, value: WIDE }, { op: Op.ApicWrite, key: 0x3f, ...halves }],
  [{ op: 'eoi' }, { op: Op.Eoi }],
  [{ op: 'sti' }, { op: Op.Sti }],
  [{ op: 'cli' }, { op: Op.Cli }],
  [{ op: 'hlt' }, { op: Op.Hlt }],
  [{ op: 'work' }, {}],
  [{ op: 'work', cost: 2 ** 48 }, { cost: 2 ** 48 }],
  [{ op: 'busLock' }, { op: Op.BusLock }],
  [{ op: 'shutdown' }, { op: Op.Shutdown }],
  [{ op: 'get', names: ['rax', 'cpl'] }, { op: Op.Get }],
  [{ op: 'get', names: [] }, { op: Op.Get }],
  [{ op: 'jump', to: 7 }, { op: Op.Jump, key: 7 }],
  [{ op: 'jumpIf', register: 'rbx', equals: WIDE, to: 7 }, { op: Op.JumpIf, key: 7, cell: X86.rbx, wide: true, ...halves }],
  [{ op: 'jumpIf', register: 'cpl', equals: 0xffff_ffff, to: 0 }, { op: Op.JumpIf, cell: X86.cpl, lo: 0xffff_ffff }],
  [{ op: 'loop', register: 'r9', to: 3 }, { op: Op.Loop, key: 3, cell: X86.r9, wide: true }],
  [{ op: 'loop', register: 'cpl', to: 3 }, { op: Op.Loop, key: 3, cell: X86.cpl }],
  [{ op: 'expect', register: 'xmm3', equals: 5 }, { op: Op.Expect, cell: X86.xmm3, wide: true, lo: 5 }],
  [{ op: 'expect', register: 'cpl', equals: 3 }, { op: Op.Expect, cell: X86.cpl, lo: 3 }],
  // Registers loaded before a step: offset, low half, high half; -1 where there is none.
  [{ op: 'work', regs: { rax: WIDE, cpl: 3 } }, { loads: Float64Array.of(X86.rax, 0x7654_3210, 0xfedc_ba98, X86.cpl, 3, -1) }],
  [{ op: 'work', regs: { xmm1: WIDE } }, { loads: Float64Array.of(X86.xmm1, 0x7654_3210, 0xfedc_ba98, X86.xmm1 + 8, 0, 0) }],
  [{ op: 'work', regs: { cpl: 0xffff_ffff } }, { loads: Float64Array.of(X86.cpl, 0xffff_ffff, -1) }],
  [{ op: 'work', regs: {} }, {}],
  [{ op: 'work', regs: { rflags: 0x202 } }, { loads: Float64Array.of(X86.rflags, 0x202, 0) }],
  [{ op: 'work', regs: { rax: 1, interruptShadow: 1 } }, { loads: Float64Array.of(X86.rax, 1, 0, X86.interruptShadow, 1, -1), loadsEvents: true }],
];

describe('what steps compile to', () => {
  it.each(rows.map(([step, expected], i) => ({ i, name: step.op, step, expected })))('$i: $name', ({ step, expected }) => {
    expect(compileStep(step)).toEqual({ ...plain, source: step, ...expected });
  });
  it('every operation has a number of its own', () => {
    expect(Object.values(Op)).toEqual(Array.from({ length: 27 }, (_, i) => i));
    expect(new Set(rows.map(([step]) => compileStep(step).op)).size).toBe(27);
  });
  it('every cell of up to 16 bytes can be loaded and compared', () => {
    for (const [name, size] of Object.entries(X86Size)) {
      const load = (): CompiledStep => compileStep({ op: 'work', regs: { [name]: 1 } });
      if (size > 16) expect(load, name).toThrow(/is no register/);
      else expect(load().loads.length, name).toBe(size === 16 ? 6 : 3);
      if (size <= 16) expect(compileStep({ op: 'loop', register: name as 'rax', to: 0 }).wide, name).toBe(size > 4);
    }
  });
});

describe('edges of operands, one beyond what compiles', () => {
  const HIGH = 0x1_0000_0000;
  const refused: readonly (readonly [object, string])[] = [
    [{ op: 'work', cost: 2 ** 48 + 1 }, 'work: cost 281474976710657 is not a whole number from 1 to 2^48'], [{ op: 'work', cost: 0 }, 'cost 0'], [{ op: 'work', cost: '1' }, 'cost 1'],
    [{ op: 'rdmsr', index: HIGH }, 'rdmsr: index 4294967296 is not in 0..0xffffffff'], [{ op: 'rdmsr', index: -1 }, 'rdmsr: index -1'], [{ op: 'wrmsr', index: HIGH, value: 0 }, 'wrmsr: index'], [{ op: 'wrmsr', index: -1, value: 0 }, 'wrmsr: index'],
    [{ op: 'wrmsr', index: 0 }, "wrmsr: 'undefined' is not a number"], [{ op: 'cpuid', leaf: HIGH }, 'cpuid: leaf'], [{ op: 'cpuid', leaf: -1 }, 'cpuid: leaf'], [{ op: 'cpuid', leaf: 0, subleaf: HIGH }, 'cpuid: subleaf'],
    [{ op: 'in', port: 0x1_0000 }, 'in: port 65536 is not in 0..0xffff'], [{ op: 'in', port: -1 }, 'in: port -1'], [{ op: 'in', port: 0.5 }, 'in: port 0.5'], [{ op: 'in', port: 0, size: 8 }, 'in: size 8 is not 1, 2 or 4'], [{ op: 'out', port: 0, size: 8, value: 0 }, 'out: size 8 is not 1, 2 or 4'],
    [{ op: 'out', port: 0x1_0000, value: 0 }, 'out: port'], [{ op: 'out', port: 0, value: 256 }, 'out: value 256 is not in 0..0xff'], [{ op: 'out', port: 0, size: 2, value: 0x1_0000 }, 'out: value'], [{ op: 'out', port: 0, size: 4, value: HIGH }, 'out: value'], [{ op: 'out', port: 0, value: -1 }, 'out: value'],
    [{ op: 'read', gpa: 1n << 52n }, 'read: GPA 0x10000000000000 is wider than 52 bits'], [{ op: 'write', gpa: -1, value: 0 }, 'wider than 52 bits'], [{ op: 'fill', gpa: 1n << 52n, bytes: '00' }, 'wider'], [{ op: 'execute', gpa: 1n << 52n }, 'wider'],
    [{ op: 'write', value: 1 }, 'write: an address is missing'], [{ op: 'fill', bytes: '00' }, 'address is missing'], [{ op: 'execute' }, 'address is missing'],
    [{ op: 'read', gpa: 0, size: 3 }, 'read: size 3 is not 1, 2, 4 or 8'], [{ op: 'write', gpa: 0, size: 16, value: 0 }, 'write: size 16'], [{ op: 'read', gpa: 0, size: 0 }, 'size 0'],
    [{ op: 'fill', gpa: 0, bytes: 'xx' }, "fill: 'xx' is not a run"], [{ op: 'fill', gpa: 0, bytes: 5 }, 'is not a run'], [{ op: 'fill', gpa: 0, bytes: 'z'.repeat(30) }, `fill: '${'z'.repeat(20)}' is not`],
    [{ op: 'mov', to: 'toString', value: 0 }, "mov: no register 'toString'"], [{ op: 'mov', to: 3, value: 0 }, "mov: no register '3'"], [{ op: 'call', via: 'constructor' }, "call: no call instruction 'constructor'"],
    [{ op: 'apicRead', register: 64 }, 'apicRead: register 64 is not in 0..0x3f'], [{ op: 'apicRead', register: -1 }, 'apicRead: register -1'], [{ op: 'apicWrite', register: 64, value: 0 }, 'apicWrite: register'],
    [{ op: 'get', names: 'rax' }, 'get: names is no list of registers'], [{ op: 'get' }, 'no list'], [{ op: 'loop', register: 'nope', to: 0 }, "no register 'nope'"], [{ op: 'expect', register: 'nope', equals: 0 }, "no register 'nope'"],
    [{ op: 'jumpIf', register: 'cpl', equals: HIGH, to: 0 }, 'jumpIf: 4294967296 does not fit the 32 bits of cpl'], [{ op: 'expect', register: 'cpl', equals: -1 }, 'expect: -1 does not fit the 32 bits of cpl'],
    [{ op: 'work', regs: { cpl: HIGH } }, 'cpl: 4294967296 does not fit 32 bits'], [{ op: 'work', regs: { cpl: -1 } }, 'does not fit 32 bits'], [{ op: 'work', regs: 5 }, "regs: '5' is no record"], [{ op: 'work', regs: null }, "regs: 'null' is no record"], [{ op: 'work', regs: [] }, 'is no record'],
    [{ op: 7 }, "unknown step '7'"], [{}, "unknown step 'undefined'"],
  ];
  it.each(refused.map(([step, message], i) => [i, message, step] as const))('%i: %s', (_, message, step) => {
    expect(() => compileStep(step as Step)).toThrow(expect.objectContaining({ code: 'BadScript', message: expect.stringContaining(message) }));
  });
  it('values of 64 bits, unsigned and two\'s complement, in every notation', () => {
    const values: readonly (readonly [Value, bigint])[] = [[0, 0n], [2 ** 53, 2n ** 53n], [(1n << 64n) - 1n, (1n << 64n) - 1n], [-1n, (1n << 64n) - 1n], [-(1n << 63n), 1n << 63n], ['18446744073709551615', (1n << 64n) - 1n], [' 0x1F ', 31n], ['0o17', 15n], ['-9', (1n << 64n) - 9n]];
    for (const [given, expected] of values) expect(toU64(given, 'w'), String(given)).toBe(expected);
    for (const given of [1n << 64n, -(1n << 63n) - 1n, '0x10000000000000000']) expect(() => toU64(given, 'w')).toThrow(/^w: .* does not fit 64 bits$/);
    for (const given of ['', '  ', 'x', 1.5, Number.NaN, true, null, undefined, {}]) expect(() => toU64(given as Value, 'w'), String(given)).toThrow(/^w: '.*' is not a number$/);
  });
  it('jumps may go to the end of their table and no further', () => {
    const jumps = (to: number): readonly Step[] => [{ op: 'jump', to }, { op: 'jumpIf', register: 'rax', equals: 0, to }, { op: 'loop', register: 'rcx', to }];
    for (const step of jumps(1)) expect(compileTable('t', [step])).toHaveLength(1);
    for (const to of [2, -1, 0.5]) for (const step of jumps(to)) expect(() => compileTable('t', [step])).toThrow(`t, step 0: ${step.op} to ${to}: the table has 1 steps`);
    expect(compileTable('t', [{ op: 'rdmsr', index: 99 }, { op: 'in', port: 99 }])).toHaveLength(2);
  });
});
