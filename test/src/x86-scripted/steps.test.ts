import { Activity } from '@vmplanes/engine';
import { compileStep, compileTable, Op, ScriptCpu, type Script, type Step, type StepResult, type TableScript, toU64 } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { calls, generator, type Rig, rigOf } from '../engine/rig.ts';

const hlt = { op: 'hlt' } as const;

/** Runs steps with results. */
const results = (steps: readonly Step[], prepare: (rig: Rig) => void = () => {}): { readonly rig: Rig; readonly out: readonly StepResult[] } => {
  const out: StepResult[] = [];
  const rig = rigOf({ claims: calls, guests: [{ 0: generator('steps', function* () { for (const step of steps) out.push(yield step); }) }] });
  rig.machine.memory.addSlot({ id: 0, gpa: 0, size: 1 << 14 });
  prepare(rig);
  rig.run(50);
  return { rig, out };
};
const tableRun = (steps: readonly Step[], handlers: TableScript['handlers'] = {}): Rig => {
  const rig = rigOf({ claims: calls, guests: [{ 0: { id: 'table', steps, handlers } }] });
  rig.machine.memory.addSlot({ id: 0, gpa: 0, size: 1 << 14 });
  rig.run(200);
  return rig;
};

describe('steps', () => {
  it('registers named by a step are loaded before it runs; a wider register is extended with zeros', () => {
    const { rig } = results([{ op: 'work', regs: { rax: -1n, rbx: '0x1f', cpl: 3, xmm0: -1n, 'cs.selector': 8 } }], (r) => r.set(0, 0, 'xmm0', (1n << 128n) - 1n));
    expect([rig.get(0, 0, 'rax'), rig.get(0, 0, 'rbx'), rig.get(0, 0, 'cpl'), rig.get(0, 0, 'xmm0'), rig.get(0, 0, 'cs.selector')]).toEqual([(1n << 64n) - 1n, 0x1fn, 3n, (1n << 64n) - 1n, 8n]);
    // A 32-bit cell is loaded alone.
    expect(rig.get(0, 0, 'es.selector')).toBe(0n);
  });

  it.each([1, 2, 4, 8] as const)('write and read %i bytes', (size) => {
    const value = 0x8877_6655_4433_2211n;
    const { out, rig } = results([{ op: 'write', gpa: 0x10, value: -1n }, { op: 'write', gpa: 0x10, size, value }, { op: 'read', gpa: 0x10 }, { op: 'read', gpa: 0x10, size, regs: { rax: 0 } }]);
    const mask = (1n << BigInt(size * 8)) - 1n;
    expect(out[2]!.rax).toBe((((1n << 64n) - 1n) & ~mask) | (value & mask));
    expect(out[3]!.rax).toBe(value & mask);
    expect(rig.get(0, 0, 'rip')).toBe(0xfff4n);
  });

  it('fill writes a run of bytes; execute fetches one', () => {
    const { out } = results([{ op: 'fill', gpa: 0xffe, bytes: '01020304' }, { op: 'read', gpa: 0xffc }, { op: 'execute', gpa: 0xfff }]);
    expect(out[1]!.rax).toBe(0x0403_0201_0000n);
    expect(out[2]!.fault).toBeNull();
  });

  it('get returns the cells by name', () => {
    const { out } = results([{ op: 'work', regs: { r15: 5, cr3: 0x1000 } }, { op: 'get', names: ['r15', 'cr3', 'cpl'] }]);
    expect(out[1]!.cells).toEqual({ r15: 5n, cr3: 0x1000n, cpl: 0n });
  });

  it('ipi goes through the register page in xAPIC mode and through the MSR in x2APIC mode (SDM 3A §10.6.1, §10.12.9)', () => {
    for (const mode of [0xfee00900, 0xfee00d00]) {
      const rig = rigOf({ guests: [{ 0: [{ op: 'ipi', icr: 0x1_0000_4061n }, hlt] }, { 0: [hlt] }] });
      const exits: string[] = [];
      rig.arch.apicOf(rig.vps[0]!.context).writeApicBase(0xfee00900, 0, true);
      rig.arch.apicOf(rig.vps[0]!.context).writeApicBase(mode, 0, true);
      rig.arch.apicOf(rig.vps[0]!.context).writeSvr(0x1ff);
      rig.machine.contextPorts.push({ left: (_c, cause) => void exits.push(cause) });
      rig.run();
      expect(rig.arch.apicOf(rig.vps[1]!.context).highestIrr()).toBe(0x61);
      expect(exits[0]).toBe(mode === 0xfee00900 ? 'mmio' : 'msr');
    }
  });

  it.each([0xfee00900, 0xfee00d00])('apicRead, apicWrite and eoi in mode 0x%x', (mode) => {
    const { out, rig } = results(
      [{ op: 'apicWrite', register: 8, value: 0x20 }, { op: 'apicRead', register: 8 }, { op: 'apicRead', register: 3 }, { op: 'eoi' }],
      (r) => {
        const apic = r.arch.apicOf(r.vps[0]!.context);
        apic.writeApicBase(0xfee00900, 0, true);
        apic.writeApicBase(mode, 0, true);
        apic.writeSvr(0x1ff);
        r.msi(0, 0, 0x77);
        apic.acknowledge();
      },
    );
    expect(out.map((r) => r.fault)).toEqual([null, null, null, null]);
    expect([out[1]!.rax & 0xffn, out[2]!.rax & 0xffn]).toEqual([0x20n, 0x14n]);
    expect(rig.arch.apicOf(rig.vps[0]!.context).highestIsr()).toBe(-1);
  });

  it('a local APIC that is off has no registers: #GP(0)', () => {
    const { out } = results([{ op: 'apicRead', register: 2 }, { op: 'ipi', icr: 0x40040 }], (r) => void r.arch.apicOf(r.vps[0]!.context).writeApicBase(0xfee00100, 0, true));
    expect(out.map((r) => r.fault)).toEqual([{ vector: 13, errorCode: 0, address: 0n }, { vector: 13, errorCode: 0, address: 0n }]);
  });

  it('contributed instructions: done, faulting, exiting; nobody contributed: #UD', () => {
    const out: number[] = [];
    const rig = rigOf({ claims: calls, on: (c) => c.vp.replies.resume(), guests: [{ 0: generator('i', function* () {
      for (const name of ['good', 'bad', 'asks', 'none']) out.push((yield { op: 'instruction', name }).fault?.vector ?? -1);
    }) }] });
    const exit = { kind: 'call', key: 3 };
    rig.arch.contribute({ mnemonic: 'good', encoding: '0f 01', spec: '', run: () => null });
    rig.arch.contribute({ mnemonic: 'bad', encoding: '0f 02', spec: '', run: (c) => { rig.arch.injectFault(c, { code: 13, errorCode: 0, addressLo: 0, addressHi: 0 }); return null; } });
    rig.arch.contribute({ mnemonic: 'asks', encoding: '0f 03', spec: '', run: () => exit });
    expect(() => rig.arch.contribute({ mnemonic: 'good', encoding: '', spec: '', run: () => null })).toThrow(expect.objectContaining({ code: 'DoubleClaim' }));
    const rip = rig.get(0, 0, 'rip');
    rig.run();
    expect(out).toEqual([-1, 13, -1, 6]);
    expect(rig.get(0, 0, 'rip') - rip).toBe(2n);
  });

  it('cost counts instructions of the step, of its plane and of the VP', () => {
    const { rig } = results([{ op: 'work', cost: 12 }]);
    // The halt at the end counts one.
    expect([rig.vps[0]!.retired, rig.vps[0]!.context.retired]).toEqual([13, 13]);
  });

  it('a plane without a script, or at its end, halts; its interrupts are acknowledged', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'sti' }] }] });
    expect(rig.kind()).toBe('idle');
    expect([rig.vps[0]!.context.activity, rig.cpus[0]!.finished(0), rig.cpus[0]!.finished(1)]).toEqual([Activity.Halted, true, true]);
    for (const v of [0x13, 0x40, 0x90]) rig.msi(0, 0, v);
    expect(rig.kind()).toBe('idle');
    const apic = rig.arch.apicOf(rig.vps[0]!.context);
    expect([apic.highestIrr(), apic.highestIsr()]).toEqual([-1, -1]);
    const empty = rigOf({ guests: [{}] });
    expect(empty.kind()).toBe('idle');
    expect(empty.vps[0]!.context.activity).toBe(Activity.Halted);
  });
});

describe('control flow of tables', () => {
  it('jump, jumpIf and loop', () => {
    const rig = tableRun([
      { op: 'work', regs: { rcx: 3, rbx: 0 } },
      { op: 'write', gpa: 0x10, size: 1, value: 1 },
      { op: 'loop', register: 'rcx', to: 1 },
      { op: 'jumpIf', register: 'rbx', equals: 1, to: 7 },
      { op: 'jumpIf', register: 'rbx', equals: 0, to: 6 },
      { op: 'shutdown' },
      { op: 'jump', to: 8 },
      { op: 'shutdown' },
      { op: 'work', regs: { rdx: 9 } },
    ]);
    expect([rig.get(0, 0, 'rcx'), rig.get(0, 0, 'rdx')]).toEqual([0n, 9n]);
    expect(rig.vps[0]!.retired).toBe(1 + 3 * 2 + 1 + 1 + 1 + 1 + 1);
    expect(rig.vps[0]!.statistics.vmExits).toBe(0);
  });

  it('loop counts all 64 bits down, and wraps like the instruction (SDM 2A LOOP)', () => {
    const rig = tableRun([{ op: 'work', regs: { rcx: 0x1_0000_0001n } }, { op: 'loop', register: 'rcx', to: 3 }, { op: 'shutdown' }, { op: 'loop', register: 'rcx', to: 5 }, { op: 'shutdown' }, { op: 'work', regs: { rbx: 0 } }, { op: 'loop', register: 'rbx', to: 8 }, { op: 'shutdown' }, hlt]);
    expect([rig.get(0, 0, 'rcx'), rig.get(0, 0, 'rbx')]).toEqual([0xffff_ffffn, (1n << 64n) - 1n]);
    expect(rig.vps[0]!.statistics.vmExits).toBe(0);
  });

  it('comparisons of a 32-bit cell look at that cell alone', () => {
    const rig = tableRun([{ op: 'work', regs: { 'cs.selector': 8, 'cs.attributes': 0x9b, cpl: 0 } }, { op: 'expect', register: 'cs.selector', equals: 8 }, { op: 'jumpIf', register: 'cs.selector', equals: 8, to: 4 }, { op: 'shutdown' }, { op: 'work', regs: { rdx: 1 } }]);
    expect(rig.cpus[0]!.failure(0)).toBeNull();
    expect(rig.get(0, 0, 'rdx')).toBe(1n);
  });

  it('expect stops a script as failed and says why; its plane halts, handlers included', () => {
    const rig = tableRun([{ op: 'work', regs: { rbx: 5 } }, { op: 'sti' }, { op: 'expect', register: 'rbx', equals: '0x6' }, { op: 'work', regs: { r9: 1 } }], { default: [{ op: 'work', regs: { r8: 1 } }] });
    expect(rig.cpus[0]!.failure(0)).toBe('VP 0 plane 0: rbx is 0x5, expected 0x6');
    expect(rig.cpus[0]!.finished(0)).toBe(false);
    rig.msi(0, 0, 0x40);
    expect(rig.kind()).toBe('idle');
    expect([rig.get(0, 0, 'r9'), rig.get(0, 0, 'r8')]).toEqual([0n, 0n]);
  });

  it('a fault of a step is its result: a table goes on with the next one', () => {
    const rig = tableRun([{ op: 'rdmsr', index: 0x999 }, { op: 'work', regs: { rdx: 1 } }], { 13: [{ op: 'shutdown' }] });
    expect(rig.get(0, 0, 'rdx')).toBe(1n);
    expect(rig.vps[0]!.statistics.vmExits).toBe(0);
  });
});

describe('bad scripts', () => {
  const bad: readonly (readonly [Step | object, string])[] = [
    [{ op: 'dance' }, 'unknown step'],
    [{ op: 'work', cost: 0 }, 'cost 0'],
    [{ op: 'work', cost: 1.5 }, 'cost 1.5'],
    [{ op: 'work', regs: { rex: 1 } }, "no register 'rex'"],
    [{ op: 'work', regs: { cpl: 0x1_0000_0000 } }, 'does not fit 32 bits'],
    [{ op: 'work', regs: { rax: 1n << 64n } }, 'does not fit 64 bits'],
    [{ op: 'work', regs: { rax: -(1n << 63n) - 1n } }, 'does not fit 64 bits'],
    [{ op: 'work', regs: { rax: 'twelve' } }, 'is not a number'],
    [{ op: 'work', regs: { rax: 1.5 } }, 'is not a number'],
    [{ op: 'work', regs: { reserved: 1 } }, 'is no register'],
    [{ op: 'call', via: 'sysenter' }, 'no call instruction'],
    [{ op: 'rdmsr', index: -1 }, 'rdmsr: index -1'],
    [{ op: 'rdmsr', index: 2 ** 32 }, 'rdmsr: index'],
    [{ op: 'rdmsr' }, 'rdmsr: index undefined'],
    [{ op: 'wrmsr', index: 1.5, value: 1 }, 'wrmsr: index 1.5'],
    [{ op: 'cpuid', leaf: 1, subleaf: -1 }, 'cpuid: subleaf'],
    [{ op: 'in', port: 0x10000 }, 'port 65536'],
    [{ op: 'in', port: 1, size: 3 }, 'size 3'],
    [{ op: 'out', port: 1, size: 1, value: 256 }, 'out: value 256'],
    [{ op: 'read', gpa: 1n << 52n }, 'wider than 52 bits'],
    [{ op: 'read' }, 'an address is missing'],
    [{ op: 'read', gpa: 0, size: 5 }, 'size 5'],
    [{ op: 'fill', gpa: 0, bytes: '123' }, 'not a run of hexadecimal bytes'],
    [{ op: 'fill', gpa: 0, bytes: '' }, 'not a run of hexadecimal bytes'],
    [{ op: 'mov', to: 'cr1', value: 0 }, "no register 'cr1'"],
    [{ op: 'apicRead', register: 0x40 }, 'register 64'],
    [{ op: 'apicRead', register: Number.NaN }, 'register NaN'],
    [{ op: 'apicWrite', register: 1.5, value: 0 }, 'register 1.5'],
    [{ op: 'get', names: ['rax', 'rix'] }, "no register 'rix'"],
    [{ op: 'jumpIf', register: 'cpl', equals: 1n << 32n, to: 0 }, 'does not fit the 32 bits'],
    [{ op: 'jump', to: 3 }, 'the table has 2 steps'],
    [{ op: 'jump', to: -1 }, 'the table has 2 steps'],
    [{ op: 'loop', register: 'rcx', to: 0.5 }, 'the table has 2 steps'],
    [{ op: 'jumpIf', register: 'rcx', equals: 0 }, 'the table has 2 steps'],
  ];
  it.each(bad.map(([step, message], i) => [i, message, step] as const))('step %i is refused: %s', (_i, message, step) => {
    const steps = [{ op: 'work' }, step] as Step[];
    expect(() => compileTable('demo', steps)).toThrow(expect.objectContaining({ name: 'HostError', code: 'BadScript', message: expect.stringContaining(message) }));
    expect(() => compileTable('demo', steps)).toThrow(/^demo, step 1: /);
  });
  it.each([[null], ['work'], [7]])('%j is no step', (step) => {
    expect(() => compileTable('demo', [step as never])).toThrow(expect.objectContaining({ code: 'BadScript' }));
  });

  const cpuWith = (script: Script): ScriptCpu => {
    const { machine, arch } = rigOf({ guests: [] });
    return new ScriptCpu(machine, arch, { 0: { script } });
  };
  it('a handler that does not compile is refused before the run, with its place', () => {
    expect(() => cpuWith({ id: 'h', steps: [], handlers: { 32: [{ op: 'work' }, { op: 'work', cost: -1 }] } })).toThrow(/^h, handler 32, step 1: /);
    for (const key of ['256', 'nmi', '-1', '1.5', '']) expect(() => cpuWith({ id: 'h', steps: [], handlers: { [key]: [] } })).toThrow(expect.objectContaining({ code: 'BadScript' }));
    expect(() => cpuWith({ id: 'h', steps: [], handlers: { 0: [], 255: [], default: [] } })).not.toThrow();
  });
  it('a generator that yields no step is refused with its place', () => {
    const rig = rigOf({ guests: [{ 0: generator('g', function* () { yield { op: 'work' }; yield { op: 'in', port: -1 }; }) }] });
    expect(() => rig.run()).toThrow(/^g, step 1: in: port -1/);
    const jumper = rigOf({ guests: [{ 0: generator('j', function* () { yield { op: 'jump', to: 0 }; }) }] });
    expect(() => jumper.run()).toThrow(expect.objectContaining({ code: 'BadScript' }));
  });
  it('values: numbers, bigints and text, two\'s complement', () => {
    expect([toU64(5, ''), toU64('0x10', ''), toU64(-1, ''), toU64(-(1n << 63n), ''), toU64('0b11', '')]).toEqual([5n, 16n, (1n << 64n) - 1n, 1n << 63n, 3n]);
    expect(compileStep({ op: 'work' }).op).toBe(Op.Work);
  });
});

