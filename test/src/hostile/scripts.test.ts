import { HOST, Right } from '@vmplanes/engine';
import { compileTable, type Step, type StepResult } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { generator, type Rig, rigOf } from '../engine/rig.ts';

describe('a script as strangers write it', () => {
  it.each([
    ['an inherited name for a call instruction', { op: 'call', via: 'toString' }, "call: no call instruction 'toString'"],
    ['an inherited name for a register', { op: 'mov', to: 'constructor', value: 1 }, "mov: no register 'constructor'"],
    ['no list of names', { op: 'get' }, 'get: names is no list'],
    ['names in one text', { op: 'get', names: 'rax' }, 'get: names is no list'],
    ['a number for registers', { op: 'work', regs: 5 }, "regs: '5' is no record"],
    ['a list for registers', { op: 'work', regs: [1] }, "regs: '1' is no record"],
    ['an empty value', { op: 'wrmsr', index: 16, value: '' }, "wrmsr: '' is not a number"],
    ['a truth value for a value', { op: 'wrmsr', index: 16, value: true }, "wrmsr: 'true' is not a number"],
    ['a truth value for an address', { op: 'read', gpa: true }, "read: 'true' is not a number"],
    ['a number for bytes', { op: 'fill', gpa: 0, bytes: 5 }, "fill: '5' is not a run of hexadecimal bytes"],
    ['a cost beyond any time', { op: 'work', cost: 1e308 }, 'work: cost 1e+308 is not a whole number'],
  ])('%s is a named error', (_what, step, message) => {
    expect(() => compileTable('t', [step as never as Step])).toThrow(expect.objectContaining({ name: 'HostError', code: 'BadScript', message: expect.stringContaining(`t, step 0: ${message}`) as string }));
  });
});

// Linear pages 0x10 and 0x11 lie in physical pages 0x13 and 0x10; page 0x12 is read-only, 0x14 absent.
const frames: Readonly<Record<number, bigint>> = { 0x10: 0x13003n, 0x11: 0x10003n, 0x12: 0x12001n };
const paging: readonly Step[] = [
  { op: 'mov', to: 'cr4', value: 0x20 },
  { op: 'wrmsr', index: 0xc000_0080, value: 0x900 },
  { op: 'mov', to: 'cr3', value: 0x1000 },
  { op: 'mov', to: 'cr0', value: 0x8001_0011n },
];

function run(...all: readonly (Step | ((rig: Rig) => unknown))[]): { readonly rig: Rig; readonly out: readonly StepResult[] } {
  const out: StepResult[] = [];
  const steps = all.filter((s) => typeof s !== 'function');
  const rig = rigOf({ guests: [{ 0: generator('g', function* () { for (const step of [...paging, ...steps]) out.push(yield step); }) }] });
  const { memory } = rig.machine;
  memory.addSlot({ id: 0, gpa: 0, size: 0x18000 });
  const put = (gpa: number, value: bigint): void => void memory.access.writeU64(HOST, gpa, Number(value & 0xffff_ffffn), Number(value >> 32n));
  for (const table of [0x1000, 0x2000, 0x3000]) put(table, BigInt(table + 0x1000) | 3n);
  for (let page = 0; page < 0x14; page++) put(0x4000 + page * 8, frames[page] ?? BigInt(page << 12) | 3n);
  for (const prepare of all) if (typeof prepare === 'function') prepare(rig);
  rig.run(20);
  return { rig, out: out.slice(paging.length) };
}

describe('a linear access that lies across pages (SDM 3A §5.4: each page is translated by itself)', () => {
  it('reads and writes both pages where they are', () => {
    const { out } = run(
      { op: 'write', gva: 0x10ffc, value: 0x8877_6655_4433_2211n },
      { op: 'read', gpa: 0x13ffc, size: 4 },
      { op: 'read', gpa: 0x10000, size: 4 },
      { op: 'read', gva: 0x10ffc },
      { op: 'fill', gva: 0x10ffe, bytes: 'aabbccdd' },
      { op: 'read', gva: 0x10ffc },
    );
    expect(out.map((r) => r.fault)).toEqual(out.map(() => null));
    expect([out[1]!.rax, out[2]!.rax, out[3]!.rax, out[5]!.rax]).toEqual([0x4433_2211n, 0x8877_6655n, 0x8877_6655_4433_2211n, 0x8877_ddcc_bbaa_2211n]);
  });

  it('faults at the second page, and then writes nothing', () => {
    const { rig, out } = run({ op: 'write', gva: 0x11ffc, value: -1n }, { op: 'read', gva: 0x11ffc, size: 4 }, { op: 'read', gva: 0x13ffe, size: 4 });
    expect(out.map((r) => r.fault)).toEqual([{ vector: 14, errorCode: 0b11, address: 0x12000n }, null, { vector: 14, errorCode: 0, address: 0x14000n }]);
    expect(out[1]!.rax).toBe(0n);
    expect(rig.get(0, 0, 'cr2')).toBe(0x14000n);
  });

  it('is refused whole where the plane may not write the second page', () => {
    const { rig, out } = run((r) => r.machine.memory.permissions[0]!.set(0x10, 1, Right.Read), { op: 'write', gva: 0x10ffc, value: -1n });
    expect(out).toEqual([]);
    expect(rig.vps[0]!.exit).toMatchObject({ kind: 'memoryFault', info: { gpa: 0x10000, hasGva: true, missing: Right.Write } });
    const { access } = rig.machine.memory;
    access.readU32(HOST, 0x13ffc);
    expect(access.lo).toBe(0);
  });
});

describe('the deadline timer', () => {
  const ARM: readonly Step[] = [{ op: 'apicWrite', register: 0x32, value: 0x4_0041 }];
  const firedAt = (...steps: readonly Step[]): number => {
    let at = -1;
    const rig = rigOf({
      guests: [{ 0: generator('g', function* () { for (const step of [...ARM, ...steps, { op: 'sti' } as const, { op: 'hlt' } as const]) yield step; }, function* () {
        at = rig.machine.timeOf(rig.vps[0]!);
        yield { op: 'eoi' };
      }) }],
    });
    rig.run(200);
    return at;
  };

  it('moves with the counter when the guest writes it (SDM 3A §10.5.4.1: the deadline is a value of the TSC)', () => {
    expect(firedAt({ op: 'wrmsr', index: 0x6e0, value: 1000 })).toBe(1000);
    // Two instructions are done when the counter goes to 900: 100 are left.
    const moved = firedAt({ op: 'wrmsr', index: 0x6e0, value: 1000 }, { op: 'wrmsr', index: 0x10, value: 900 });
    expect(moved).toBeGreaterThan(100);
    expect(moved).toBeLessThan(110);
    const later = firedAt({ op: 'wrmsr', index: 0x6e0, value: 1000 }, { op: 'wrmsr', index: 0x3b, value: -500n });
    expect(later).toBe(1500);
  });

  it('does not come behind the end of exact machine time', () => {
    expect(firedAt({ op: 'wrmsr', index: 0x6e0, value: -1n })).toBe(-1);
    expect(firedAt({ op: 'wrmsr', index: 0x6e0, value: 1n << 60n })).toBe(-1);
  });
});

it('an APIC id that another processor would take by its index is refused', () => {
  expect(() => rigOf({ x86: { apicIds: [1] }, guests: [{}, {}] })).toThrow(expect.objectContaining({ code: 'BadConfig', message: 'APIC id 1 is given to VP 0, and VP 1 would take it as its own' }));
  expect(() => rigOf({ x86: { apicIds: [1, 0] }, guests: [{}, {}] })).not.toThrow();
});
