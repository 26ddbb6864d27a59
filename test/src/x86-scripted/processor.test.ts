import { type Claim, type CpuExit, type PlainRecord, Right } from '@vmplanes/engine';
import { ScriptCpu, type Step, type StepResult } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { generator, payloadOf, type Program, type Rig, rigOf, scriptOf } from '../engine/rig.ts';

const every: readonly Claim[] = [
  { exit: 'call', from: 1, to: 3 }, { exit: 'msr', from: 0, to: 0xffff_ffff }, { exit: 'cpuid', from: 0, to: 0xffff_ffff }, { exit: 'io', from: 0, to: 0xffff }, { exit: 'mmio', from: 0, to: 2 ** 52 - 1 }, { exit: 'register', from: 0, to: 48 },
];
/** The exits that steps make, as plain data; all are answered with nothing. */
const exitsOf = (steps: readonly Step[], prepare: (rig: Rig) => void = () => {}, guest: (steps: readonly Step[]) => Program = (s) => s): { readonly rig: Rig; readonly exits: readonly CpuExit[] } => {
  const exits: CpuExit[] = [];
  const rig = rigOf({ claims: every, on: (context, exit) => (exits.push(structuredClone(exit)), context.vp.replies.resume()), guests: [{ 0: guest(steps) }] });
  prepare(rig);
  rig.run(20);
  return { rig, exits };
};
const WIDE = 0xfedc_ba98_7654_3210n, lo = 0x7654_3210, hi = 0xfedc_ba98;

describe('the exit of each step', () => {
  const rows: readonly (readonly [Step, object])[] = [
    [{ op: 'call' }, { kind: 'call', key: 1 }], [{ op: 'call', via: 'vmgexit' }, { kind: 'call', key: 3 }], [{ op: 'rdmsr', index: 0x277 }, { kind: 'msr', key: 0x277, write: false, lo: 0, hi: 0 }],
    [{ op: 'wrmsr', index: 0xc000_0080, value: WIDE }, { kind: 'msr', key: 0xc000_0080, write: true, lo, hi }], [{ op: 'cpuid', leaf: 0x8000_0008, subleaf: 5 }, { kind: 'cpuid', key: 0x8000_0008, subleaf: 5 }], [{ op: 'cpuid', leaf: 1 }, { kind: 'cpuid', key: 1, subleaf: 0 }],
    [{ op: 'in', port: 0xcf8, size: 4 }, { kind: 'io', key: 0xcf8, write: false, size: 4, value: 0 }], [{ op: 'out', port: 1, size: 2, value: 0xfffe }, { kind: 'io', key: 1, write: true, size: 2, value: 0xfffe }],
    [{ op: 'mov', to: 'cr3', value: WIDE }, { kind: 'register', key: 3, write: true, lo, hi }], [{ op: 'mov', to: 'xcr0', value: 7 }, { kind: 'register', key: 48, write: true, lo: 7, hi: 0 }],
    [{ op: 'read', gpa: 0xe_0000_0004, size: 2 }, { kind: 'mmio', key: 0xe_0000_0004, write: false, size: 2 }], [{ op: 'write', gpa: 0xe000_0000, value: WIDE }, { kind: 'mmio', key: 0xe000_0000, write: true, size: 8, lo, hi }],
    // The local APIC in x2APIC mode. @spec SDM 3A §10.12.1.2
    [{ op: 'ipi', icr: WIDE }, { kind: 'msr', key: 0x830, write: true, lo, hi }], [{ op: 'apicRead', register: 8 }, { kind: 'msr', key: 0x808, write: false }], [{ op: 'apicWrite', register: 0x3e, value: 11 }, { kind: 'msr', key: 0x83e, write: true, lo: 11, hi: 0 }], [{ op: 'eoi' }, { kind: 'msr', key: 0x80b, write: true, lo: 0, hi: 0 }],
  ];
  it.each(rows.map(([step, expected], i) => ({ i, name: step.op, step, expected })))('$i: $name', ({ step, expected }) => {
    const { rig, exits } = exitsOf([step, { op: 'work' }]);
    expect(exits).toEqual([expect.objectContaining(expected)]);
    expect([rig.get(0, 0, 'rip'), rig.vps[0]!.context.instructionLength, rig.cpus[0]!.finished(0)]).toEqual([0xfff2n, 1, true]);
  });
  it('in xAPIC mode the same registers are 16 bytes apart in a page', () => {
    const xapic = (rig: Rig): void => {
      const apic = rig.arch.apicOf(rig.vps[0]!.context);
      apic.writeApicBase(0xfee0_0100, 0, true);
      apic.writeApicBase(0xfee0_0900, 0, true);
    };
    const { exits } = exitsOf([{ op: 'apicRead', register: 8 }, { op: 'apicWrite', register: 8, value: 0x1_0000_0030n }, { op: 'eoi' }, { op: 'ipi', icr: 0x0500_0000_0000_4041n }], xapic);
    expect(exits).toEqual([
      { kind: 'mmio', key: 0xfee0_0080, write: false, size: 4, lo: 0, hi: 0 }, { kind: 'mmio', key: 0xfee0_0080, write: true, size: 4, lo: 0x30, hi: 0 }, { kind: 'mmio', key: 0xfee0_00b0, write: true, size: 4, lo: 0, hi: 0 }, { kind: 'mmio', key: 0xfee0_0300, write: true, size: 4, lo: 0x4041, hi: 0 },
    ]);
    const sent = exitsOf([{ op: 'ipi', icr: 0x0300_0005_0000_4041n }], xapic).rig;
    expect(sent.arch.apicOf(sent.vps[0]!.context).block.get(0x310)).toBe(0x0500_0000);
  });
  it('a switched-off local APIC has neither page nor MSRs: #GP(0)', () => {
    const { exits, rig } = exitsOf([{ op: 'eoi' }], (r) => r.arch.apicOf(r.vps[0]!.context).writeApicBase(0xfee0_0100, 0, true));
    expect([exits, rig.get(0, 0, 'exception.vector'), rig.get(0, 0, 'exception.errorCode'), rig.get(0, 0, 'exception.hasErrorCode')]).toEqual([[], 13n, 0n, 1n]);
  });
});

describe('memory, byte by byte', () => {
  const results = (steps: readonly Step[], prepare: (rig: Rig) => void = () => {}): { readonly rig: Rig; readonly out: readonly StepResult[] } => {
    const out: StepResult[] = [];
    const rig = rigOf({ guests: [{ 0: generator('memory', function* () { for (const step of steps) out.push(yield step); }) }] });
    rig.machine.memory.addSlot({ id: 0, gpa: 0, size: 0x8000 });
    prepare(rig);
    rig.run(20);
    return { rig, out };
  };
  const bytesAt = (rig: Rig, gpa: number, n: number): number[] => Array.from({ length: n }, (_, i) => (rig.machine.memory.access.readU8(rig.machine.memory.subjects[0]!.host, gpa + i), rig.machine.memory.access.lo));
  it.each([[1, 0xffff_ffff_ffff_ff10n], [2, 0xffff_ffff_ffff_3210n], [4, 0x7654_3210n], [8, WIDE]] as const)('%i bytes at odd places and over the end of a page', (size, rax) => {
    for (const gpa of [0x1001, 0x1fff - size + 1, 0x1fff, 0x2ffd]) {
      const { rig, out } = results([{ op: 'write', gpa, size, value: WIDE }, { op: 'read', gpa, size, regs: { rax: -1n } }]);
      expect(out.map((r) => [r.fault, r.rax])[1], gpa.toString(16)).toEqual([null, rax]);
      const written = [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe].slice(0, size);
      expect(bytesAt(rig, gpa - 1, size + 2)).toEqual([0, ...written, 0]);
    }
  });
  it('a run of bytes fills as many pages as it needs', () => {
    const bytes = Array.from({ length: 0x1800 }, (_, i) => (i * 7 + 1) & 0xff);
    const { rig } = results([{ op: 'fill', gpa: 0x1f00, bytes: bytes.map((b) => b.toString(16).padStart(2, '0')).join('') }]);
    expect(bytesAt(rig, 0x1eff, 0x1802)).toEqual([0, ...bytes, 0]);
    expect(rig.get(0, 0, 'rip')).toBe(0xfff1n);
  });
  it('the page of the local APIC covers the memory below it, to the byte', () => {
    const { rig, out } = results([{ op: 'write', gpa: 0x3080, size: 4, value: 0x40 }, { op: 'read', gpa: 0x3080, size: 4 }, ...[0x2ffc, 0x4000, 0x3ffc].map((gpa): Step => ({ op: 'write', gpa, size: 4, value: 0x77 }))], (r) => {
      const apic = r.arch.apicOf(r.vps[0]!.context);
      apic.writeApicBase(0x3100, 0, true);
      apic.writeApicBase(0x3900, 0, true);
    });
    expect([out[1]!.rax, rig.arch.apicOf(rig.vps[0]!.context).cr8]).toEqual([0x40n, 4]);
    expect([0x3080, 0x2ffc, 0x4000, 0x3ffc].map((gpa) => bytesAt(rig, gpa, 1)[0])).toEqual([0, 0x77, 0x77, 0]);
  });
  const refusal = (steps: readonly Step[], page: number, rights: number): PlainRecord => {
    const { rig } = results(steps, (r) => void r.machine.memory.permissions[0]!.set(page, 1, rights));
    return (payloadOf(rig.vps[0]!) as { readonly info: PlainRecord }).info;
  };
  it('what the plane may not do is a memory fault: where, which right, no linear address', () => {
    expect(refusal([{ op: 'write', gpa: 0x1008, value: 1 }], 1, Right.Read)).toMatchObject({ gpa: 0x1008, access: Right.Write, missing: Right.Write, hasGva: false, plane: 0, isWalk: false, instructionLength: 1 });
    expect(refusal([{ op: 'read', gpa: 0x1008 }], 1, Right.Write)).toMatchObject({ gpa: 0x1008, access: Right.Read, missing: Right.Read });
    expect(refusal([{ op: 'execute', gpa: 0x1008 }], 1, Right.Read)).toMatchObject({ gpa: 0x1008, access: Right.ExecSupervisor });
    expect(refusal([{ op: 'execute', gpa: 0x1008, user: true }], 1, Right.Read | Right.ExecSupervisor)).toMatchObject({ gpa: 0x1008, access: Right.ExecUser });
    expect(refusal([{ op: 'fill', gpa: 0x1008, bytes: '00' }], 1, Right.Read)).toMatchObject({ gpa: 0x1008, access: Right.Write });
  });
  it('no memory: a device for reads and writes, a fault for fetches and runs of bytes', () => {
    for (const step of [{ op: 'execute', gpa: 0x9000 }, { op: 'fill', gpa: 0x9000, bytes: '00' }] as const) {
      const { rig } = results([step]);
      expect(payloadOf(rig.vps[0]!), step.op).toMatchObject({ kind: 'memoryFault', info: { gpa: 0x9000, missing: 0 } });
    }
    for (const step of [{ op: 'read', gpa: 0x9000, size: 4 }, { op: 'write', gpa: 0x9000, size: 4, value: 5 }] as const) {
      const { rig } = results([step]);
      expect(payloadOf(rig.vps[0]!), step.op).toMatchObject({ kind: 'mmio', gpa: 0x9000, size: 4, write: step.op === 'write' });
    }
  });

  // 4-level tables at 0x4000..0x7000 that map linear pages as told.
  const P = 1n, RW = 2n, US = 4n;
  const ROOT = 0x4000, BASE = 0x7fff_ff00_0000n;
  const linear = (steps: readonly Step[], pages: readonly bigint[], prepare: (rig: Rig) => void = () => {}): { readonly rig: Rig; readonly out: readonly StepResult[] } => {
    const { rig, out } = results(steps, (r) => {
      const put = (at: number, value: bigint): void => void r.machine.memory.access.writeU64(r.machine.memory.subjects[0]!.host, at, Number(value & 0xffff_ffffn), Number(value >> 32n));
      put(ROOT + Number((BASE >> 39n) & 0x1ffn) * 8, 0x5000n | P | RW | US);
      put(0x5000 + Number((BASE >> 30n) & 0x1ffn) * 8, 0x6000n | P | RW | US);
      put(0x6000 + Number((BASE >> 21n) & 0x1ffn) * 8, 0x7000n | P | RW | US);
      pages.forEach((entry, i) => put(0x7000 + i * 8, entry));
      for (const [name, value] of [['cr4', 0x20n], ['efer', 0xd00n], ['cr3', BigInt(ROOT)], ['cr0', 0x8001_0011n]] as const) r.set(0, 0, name, value);
      prepare(r);
    });
    return { rig, out };
  };
  const all = P | RW | US;
  it('a linear access of two pages goes to two places', () => {
    const { rig, out } = linear([{ op: 'write', gva: BASE + 0xffcn, value: WIDE }, { op: 'read', gva: BASE + 0xffcn }, { op: 'fill', gva: BASE + 0xfffn, bytes: 'aabb' }], [0x3000n | all, 0x1000n | all]);
    expect([out.map((r) => r.fault), out[1]!.rax]).toEqual([[null, null, null], WIDE]);
    expect([bytesAt(rig, 0x3ffc, 4), bytesAt(rig, 0x1000, 4)]).toEqual([[0x10, 0x32, 0x54, 0xaa], [0xbb, 0xba, 0xdc, 0xfe]]);
  });
  it('a fault in the second page leaves the first as it was', () => {
    const { rig, out } = linear([{ op: 'write', gva: BASE + 0xffcn, value: WIDE }], [0x3000n | all, 0n]);
    expect([out[0]!.fault, bytesAt(rig, 0x3ffc, 4), rig.get(0, 0, 'cr2')]).toEqual([{ vector: 14, errorCode: 2, address: BASE + 0x1000n }, [0, 0, 0, 0], BASE + 0x1000n]);
    const { rig: refused } = linear([{ op: 'write', gva: BASE + 0xffcn, value: WIDE }], [0x3000n | all, 0x1000n | all], (r) => void r.machine.memory.permissions[0]!.set(1, 1, Right.Read));
    expect(bytesAt(refused, 0x3ffc, 4)).toEqual([0, 0, 0, 0]);
    expect(payloadOf(refused.vps[0]!)).toMatchObject({ kind: 'memoryFault', info: { gpa: 0x1000, hasGva: true } });
  });
  it('a refused access names its linear address', () => {
    const deny = (page: number, rights: number) => (r: Rig): void => void r.machine.memory.permissions[0]!.set(page, 1, rights);
    const info = (step: Step, prepare: (r: Rig) => void): PlainRecord => (payloadOf(linear([step], [0x3000n | all, 0x1000n | all], prepare).rig.vps[0]!) as { readonly info: PlainRecord }).info;
    const address = { gvaLo: Number((BASE + 8n) & 0xffff_ffffn), gvaHi: Number(BASE >> 32n), hasGva: true, instructionLength: 1 };
    expect(info({ op: 'read', gva: BASE + 8n }, deny(3, Right.Write))).toMatchObject({ gpa: 0x3008, access: Right.Read, isWalk: false, ...address });
    expect(info({ op: 'write', gva: BASE + 8n, value: 1 }, deny(3, Right.Read))).toMatchObject({ gpa: 0x3008, access: Right.Write, ...address });
    expect(info({ op: 'execute', gva: BASE + 8n }, deny(3, Right.Read))).toMatchObject({ gpa: 0x3008, access: Right.ExecUser, ...address });
    expect(info({ op: 'read', gva: BASE + 8n }, deny(5, 0))).toMatchObject({ gpa: 0x5000 + Number((BASE >> 30n) & 0x1ffn) * 8, access: Right.Read, isWalk: true, ...address });
    // The second page of an access of two.
    expect(info({ op: 'read', gva: BASE + 0xffcn }, deny(1, Right.Write))).toMatchObject({ gpa: 0x1000, hasGva: true });
  });
  it('what is neither mapped nor canonical', () => {
    expect(linear([{ op: 'read', gva: 0x8000_0000_0000n }], []).out[0]!.fault).toEqual({ vector: 13, errorCode: 0, address: 0n });
    expect(linear([{ op: 'execute', gva: BASE, user: true }], [0x3000n | P | RW]).out[0]!.fault).toEqual({ vector: 14, errorCode: 0x15, address: BASE });
    expect(linear([{ op: 'read', gva: BASE }], [0x9000n | all]).rig.vps[0]!.exit).toMatchObject({ kind: 'mmio', gpa: 0x9000 });
  });
});

describe('the program', () => {
  it('each step costs what it says, and the end of a script halts', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'work', cost: 7 }, { op: 'work' }] }] });
    rig.run(5);
    const vp = rig.vps[0]!;
    expect([rig.get(0, 0, 'rip'), vp.context.retired, rig.cpus[0]!.finished(0), rig.cpus[0]!.finished(3), rig.cpus[0]!.failure(0), rig.cpus[0]!.failure(3)]).toEqual([0xfff2n, vp.retired, true, true, null, null]);
    expect(vp.retired).toBe(9);
  });
  it('a slice ends before the step that would begin behind it', () => {
    const rig = rigOf({ guests: [{ 0: Array.from({ length: 10 }, (): Step => ({ op: 'work', cost: 3 })) }], checked: false });
    const vp = rig.vps[0]!;
    const cpu = rig.cpus[0]!;
    expect([cpu.run(vp, 1).kind, vp.retired, cpu.run(vp, 3).kind, vp.retired, cpu.run(vp, 4).kind, vp.retired, cpu.run(vp, 7).kind, vp.retired]).toEqual(['budget', 3, 'budget', 6, 'budget', 12, 'budget', 21]);
  });
  it('a result has the registers after the step', () => {
    const out: StepResult[] = [];
    const regs = { rax: 0x1_0000_0001n, rbx: 2, rcx: 3, rdx: 0x4_0000_0005n, rsi: 6, rdi: 7, r8: 8, r9: 9 };
    const rig = rigOf({ guests: [{ 0: generator('r', function* () { out.push(yield { op: 'work', regs }); out.push(yield { op: 'get', names: ['rbx', 'rip'] }); }) }] });
    rig.run(3);
    expect(out[0]).toEqual({ fault: null, rax: 0x1_0000_0001n, rbx: 2n, rcx: 3n, rdx: 0x4_0000_0005n, rsi: 6n, rdi: 7n, r8: 8n, r9: 9n, edxEax: 0x5_0000_0001n, cells: {} });
    expect(out[1]!.cells).toEqual({ rbx: 2n, rip: 0xfff2n });
  });
  it('jumps, loops and comparisons decide by all bits of their cell', () => {
    const taken = (register: 'rbx' | 'cpl', value: bigint, equals: bigint): boolean => {
      const rig = rigOf({ guests: [{ 0: [{ op: 'jumpIf', register, equals, to: 2, regs: { [register]: value } }, { op: 'work', regs: { r15: 1 } }, { op: 'work' }] }] });
      rig.run(3);
      return rig.get(0, 0, 'r15') === 0n;
    };
    expect([taken('rbx', 5n, 5n), taken('rbx', 5n, 6n), taken('rbx', 1n << 32n, 0n), taken('rbx', (1n << 32n) | 5n, (1n << 32n) | 5n), taken('rbx', (2n << 32n) | 5n, (1n << 32n) | 5n), taken('cpl', 3n, 3n), taken('cpl', 3n, 2n)]).toEqual([true, false, false, true, false, true, false]);
    const rounds = (start: bigint, register: 'rcx' | 'cpl' = 'rcx'): readonly bigint[] => {
      const rig = rigOf({ guests: [{ 0: [{ op: 'work', regs: { [register]: start } }, { op: 'work' }, { op: 'loop', register, to: 1 }] }] });
      rig.run(1);
      return [rig.get(0, 0, register), rig.get(0, 0, 'rip') - 0xfff0n];
    };
    expect([rounds(1n), rounds(4n), rounds(3n, 'cpl')]).toEqual([[0n, 3n], [0n, 9n], [0n, 7n]]);
    const wraps = rigOf({ guests: [{ 0: [{ op: 'loop', register: 'rcx', to: 1, regs: { rcx: 1n << 32n } }, { op: 'loop', register: 'rdx', to: 2, regs: { rdx: 0 } }, { op: 'loop', register: 'cpl', to: 3, regs: { cpl: 0 } }] }] });
    wraps.run(1);
    expect([wraps.get(0, 0, 'rcx'), wraps.get(0, 0, 'rdx'), wraps.get(0, 0, 'cpl')]).toEqual([0xffff_ffffn, 0xffff_ffff_ffff_ffffn, 0xffff_ffffn]);
  });
  it('an expectation that fails says what was found', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'expect', register: 'rbx', equals: 5, regs: { rbx: 5 } }, { op: 'expect', register: 'rbx', equals: '0x1f' }, { op: 'work', regs: { r15: 1 } }] }] });
    rig.run(3);
    expect([rig.cpus[0]!.failure(0), rig.get(0, 0, 'r15'), rig.cpus[0]!.finished(0)]).toEqual(['VP 0 plane 0: rbx is 0x5, expected 0x1f', 0n, false]);
  });
  it('another script in the snapshot is refused by name, an equal one goes on', () => {
    const build = (program: Program | null): { readonly rig: Rig; readonly cpu: ScriptCpu } => {
      const rig = rigOf({ guests: [{ 0: program ?? [] }], checked: false });
      return { rig, cpu: program === null ? new ScriptCpu(rig.machine, rig.arch, {}) : new ScriptCpu(rig.machine, rig.arch, { 0: { script: scriptOf(program) } }) };
    };
    const table = { id: 'same', steps: [{ op: 'work' }, { op: 'work', cost: 5 }] } as const;
    const { rig, cpu } = build(table);
    cpu.run(rig.vps[0]!, 1);
    const saved = structuredClone(cpu.save());
    const other = build(table);
    other.cpu.restore(saved);
    expect(other.cpu.save()).toEqual(saved);
    other.cpu.run(other.rig.vps[0]!, 1);
    expect([other.rig.vps[0]!.retired, other.cpu.finished(0)]).toEqual([5, true]);
    expect(() => build({ ...table, id: 'other' }).cpu.restore(saved)).toThrow("plane 0: the snapshot runs script same, this processor other");
    expect(() => build(null).cpu.restore(saved)).toThrow('plane 0: the snapshot runs script same, this processor none');
    expect(() => build(table).cpu.restore(structuredClone(build(null).cpu.save()))).toThrow('plane 0: the snapshot runs script none, this processor same');
    expect(() => build({ id: 'same', steps: [] }).cpu.restore(saved)).toThrow('same: the saved run is at step 1 of a table with 0');
  });
});
