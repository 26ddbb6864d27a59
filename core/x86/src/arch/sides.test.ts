import { createScope } from '@vmplanes/di';
import { Activity, ALL_PLANES, installEngine, type Machine, Side, subject, SubjectKind } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { ScriptCpu, type Step } from '../scripted/index.ts';
import { readRegister, writeRegister } from '../state/registers.ts';
import { X86Arch } from './x86-arch.ts';
import type { MemorySides } from './sides.ts';

const BIT = 51;
const MARK = 2n ** 51n;
const byBit = (areOpen: boolean): MemorySides => ({ bit: BIT, areOpen, isPrivate: (_context, _gpa, marked) => marked });

/** A machine of one VP whose page 1 to 3 are private; each side of a page holds another byte. */
const build = (sides: MemorySides, steps: readonly Step[]): { readonly machine: Machine; readonly arch: X86Arch } => {
  const arch = new X86Arch();
  const machine = installEngine(createScope(), { arch, policy: 'lowest-runnable', rule: 'deliverable', options: { maxVps: 1, maxPlanes: 1, memoryBytes: 0x4_0000, quantum: 1000 } });
  arch.setSides(sides);
  machine.memory.addSlot({ id: 0, gpa: 0, size: 0x1_0000 });
  const vp = machine.createVp();
  vp.context.activity = Activity.Running;
  machine.setCpu(vp, new ScriptCpu(machine, arch, { 0: { script: { id: 's', steps } } }));
  for (let page = 0; page < 8; page++) {
    for (const [side, value] of [[Side.OpenPrivate, 0x70 + page], [Side.OpenShared, 0x50 + page]] as const) machine.memory.access.writeU8(subject(SubjectKind.Host, ALL_PLANES, side), page * 4096, value);
  }
  machine.memory.setPrivate(1, 3, true);
  return { machine, arch };
};
const rax = (machine: Machine): bigint => readRegister(machine.arena, machine.vps[0]!.context.base, 'rax');

describe('sides of memory', () => {
  it('a physical address with the bit means the private side, one without it the shared side', () => {
    for (const [gpa, value] of [[0x1000n | MARK, 0x71n], [0x4000n, 0x54n]] as const) {
      const { machine } = build(byBit(false), [{ op: 'read', gpa, size: 1 }]);
      machine.run();
      expect(rax(machine) & 0xffn).toBe(value);
    }
  });

  it.each([['private side of a shared page', 0x4000n | MARK, true], ['shared side of a private page', 0x1000n, false]] as const)('the %s is a memory fault that names the side', (_what, gpa, isPrivate) => {
    const { machine } = build(byBit(false), [{ op: 'read', gpa, size: 1 }]);
    expect(machine.run()).toMatchObject({ kind: 'exit' });
    expect(machine.vps[0]!.exit).toMatchObject({ kind: 'memoryFault', info: { gpa: Number(gpa & ~MARK), isPrivate, missing: 0 } });
  });

  it('open sides are both there, whatever the attribute of the page', () => {
    for (const [gpa, value] of [[0x1000n | MARK, 0x71n], [0x1000n, 0x51n], [0x4000n | MARK, 0x74n], [0x4000n, 0x54n]] as const) {
      const { machine } = build(byBit(true), [{ op: 'read', gpa, size: 1 }]);
      machine.run();
      expect(rax(machine) & 0xffn).toBe(value);
    }
  });

  it('a fetch means the private side without the bit, too', () => {
    const { machine } = build(byBit(false), [{ op: 'execute', gpa: 0x1000 }]);
    machine.run();
    expect(machine.vps[0]!.exit).toBeNull();
  });

  it('the bit of a leaf entry names the side, tables are walked on the private side, and CR3 may carry the bit', () => {
    const steps: Step[] = [{ op: 'mov', to: 'cr3', value: 0x1000n | MARK }, { op: 'read', gva: 0x4000, size: 1 }];
    const { machine, arch } = build(byBit(false), steps);
    const host = subject(SubjectKind.Host, ALL_PLANES, Side.Private);
    const put = (at: number, value: bigint): void => {
      machine.memory.access.writeU64(host, at, Number(value & 0xffff_ffffn), Number(value >> 32n));
    };
    machine.memory.setPrivate(8, 3, true);
    // PML4 at page 1, then pages 8, 9, 10; linear page 4 is the shared page 5.
    put(0x1000, 0x8000n | MARK | 3n);
    put(0x8000, 0x9000n | MARK | 3n);
    put(0x9000, 0xa000n | MARK | 3n);
    put(0xa020, 0x5000n | 3n);
    const { base } = machine.vps[0]!.context;
    writeRegister(machine.arena, base, 'efer', 0x500n);
    writeRegister(machine.arena, base, 'cr4', 0x20n);
    writeRegister(machine.arena, base, 'cr0', 0x8000_0011n);
    machine.run();
    expect(readRegister(machine.arena, base, 'cr3')).toBe(0x1000n | MARK);
    expect(rax(machine) & 0xffn).toBe(0x55n);
    expect(arch.sides?.bit).toBe(BIT);
  });

  it('any other address bit of CR3 beyond the processor is #GP', () => {
    const { machine } = build(byBit(false), [{ op: 'mov', to: 'cr3', value: 0x1000n | 2n ** 50n }]);
    const { base } = machine.vps[0]!.context;
    writeRegister(machine.arena, base, 'efer', 0x500n);
    machine.run();
    expect(readRegister(machine.arena, base, 'cr3')).toBe(0n);
  });

  it('are fixed once a VP exists', () => {
    const { arch } = build(byBit(false), []);
    expect(() => arch.setSides(byBit(true))).toThrow('fixed once a VP exists');
  });
});
