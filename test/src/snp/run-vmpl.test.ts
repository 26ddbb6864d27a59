import { describe, expect, it } from 'vitest';
import { GHCB_MSR, runVmpl, VmplRig, vmsaOf } from './vmpl-rig.ts';

describe('Run VMPL', () => {
  it('runs another VMPL; the response is there when the caller runs again (KVM planes series 2026-06, sev.c)', () => {
    const rig = new VmplRig({
      programs: [{
        0: [...runVmpl(2), { op: 'rdmsr', index: GHCB_MSR }, { op: 'work', regs: { rbx: 1 } }, { op: 'hlt' }],
        2: [{ op: 'work', regs: { rcx: 5 } }, ...runVmpl(0), { op: 'hlt' }],
      }],
    });
    expect(rig.run()).toEqual([]);
    expect([rig.get('rax'), rig.get('rdx'), rig.get('rbx'), rig.get('rcx', 0, 2)]).toEqual([0x17n, 0n, 1n, 5n]);
    expect([rig.field('exitCode', 0, 2), rig.field('rcx', 0, 2)]).toEqual([0x403n, 5n]);
    expect(vmsaOf(0, 2)).toBe(rig.plane(0, 2).vmsa);
  });
});
