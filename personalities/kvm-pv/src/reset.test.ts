import { createScope } from '@vmplanes/di';
import { Activity, installEngine, type Machine, PlaneId } from '@vmplanes/engine';
import { ScriptCpu, type Step, X86Arch } from '@vmplanes/x86';
import { expect, it } from 'vitest';
import { Msr } from './abi/index.ts';
import { personality } from './index.ts';

/** One VP with two planes; plane 1 names its pages, steals time and is stopped again. */
function guest(): { readonly machine: Machine; readonly arch: X86Arch; readMsrs(): readonly bigint[] } {
  const scope = createScope();
  const arch = new X86Arch();
  const machine = installEngine(scope, { arch, policy: 'userspace', rule: 'deliverable', options: { memoryBytes: 0x10_0000, quantum: 1000 } });
  machine.addPersonality(personality.install(scope, { leafBase: 0x4000_0000, bootSeconds: 0 }));
  machine.memory.addSlot({ id: 0, gpa: 0, size: 0x8_0000 });
  const vp = machine.createVp();
  machine.createPlane(vp, PlaneId(1));
  const run = (steps: readonly Step[]): readonly bigint[] => {
    const seen: bigint[] = [];
    machine.setCpu(vp, new ScriptCpu(machine, arch, { 1: { script: { id: 's', *main() { for (const step of steps) seen.push((yield step).edxEax); } } } }));
    vp.named = 1;
    vp.plane(1).activity = Activity.Running;
    machine.run(20);
    return seen;
  };
  const named = [Msr.SystemTime, Msr.StealTime, Msr.PvEoi];
  run(named.map((index, i): Step => ({ op: 'wrmsr', index, value: 0x4001 + i * 0x1000 })));
  return { machine, arch, readMsrs: () => run(named.map((index): Step => ({ op: 'rdmsr', index }))) };
}

it('a plane keeps the memory it named until then', () => {
  expect(guest().readMsrs()).toEqual([0x4001n, 0x5001n, 0x6001n]);
});

it.each([
  ['INIT', ({ machine, arch }: ReturnType<typeof guest>): unknown => arch.apicOf(machine.vp(0).plane(1)).latches.acceptInit()],
  ['a reset by the VMM', ({ machine }: ReturnType<typeof guest>): unknown => machine.resetPlane(machine.vp(0).plane(1), 'powerOn')],
  ['being made again', ({ machine }: ReturnType<typeof guest>): unknown => {
    const vp = machine.vp(0);
    machine.switchPlane(vp, vp.plane(0), 'test');
    machine.removePlane(vp, PlaneId(1));
    return machine.createPlane(vp, PlaneId(1));
  }],
])('%s forgets the memory that a plane named (Linux arch/x86/kvm/x86.c, kvm_vcpu_reset)', (_what, reset) => {
  const g = guest();
  reset(g);
  expect(g.readMsrs()).toEqual([0n, 0n, 0n]);
});

it('a reset that the architecture does not know is named', () => {
  const { machine } = guest();
  expect(() => machine.resetPlane(machine.vp(0).plane(1), 'toString')).toThrow(expect.objectContaining({ code: 'BadState', message: "no reset 'toString'; there are powerOn, init" }));
});
