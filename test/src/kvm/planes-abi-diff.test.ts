import { DISPUTES, PROFILES, type Profile } from '@vmplanes/abi-kvm-planes';
import { planesAbiDiff } from '@vmplanes/kvm';
import { describe, expect, it } from 'vitest';

/** What the drafts do, as observed; each line is decided by the sources that the table names. */
const expected: Readonly<Record<string, readonly [rfc2025: string, series2026: string, vmplanes: string]>> = {
  Q1: ['userspace: run->plane = 1 runs plane 1', 'kernel: plane 0 runs, kvm_run names none', 'userspace: run->plane = 1 runs plane 1'],
  Q2: ['no order: the named plane runs', 'planes 0 and 1 runnable: plane 0 runs', 'no order: the named plane runs'],
  Q4: ['while plane 0 sleeps in KVM_RUN, KVM_GET_REGS of plane 1 is served: a lock per plane', 'while plane 0 sleeps in KVM_RUN, KVM_GET_REGS of plane 1 waits: one lock', 'while plane 0 sleeps in KVM_RUN, KVM_GET_REGS of plane 1 waits: one lock'],
  Q5: ['system 16, default VM 16, SNP VM with split irqchip 1', 'system 1, default VM 1, SNP VM with split irqchip 4', 'system 16, default VM 4, SNP VM with split irqchip 4'],
  Q6: ['on plane 1: no-write EINVAL, none ok', 'on plane 1: no-write ENOTTY, none ENOTTY', 'on plane 1: no-write ok, none ok'],
  Q7: ['KVM_CREATE_VCPU on the plane fd ENOTTY, KVM_CREATE_VCPU_PLANE ok', 'KVM_CREATE_VCPU on the plane fd ok, KVM_CREATE_VCPU_PLANE no such call', 'KVM_CREATE_VCPU on the plane fd ENOTTY, KVM_CREATE_VCPU_PLANE ok'],
  Q8: ['KVM_CREATE_PLANE with full ok, split ok, none ok', 'KVM_CREATE_PLANE with full EINVAL, split ok, none EINVAL', 'KVM_CREATE_PLANE with full not offered, split ok, none ok'],
  Q9: ['KVM_CAP_PLANES_FPU 0, enable ok, then 1', 'separate, no capability', 'KVM_CAP_PLANES_FPU 0, enable ok, then 1'],
  Q10: ['causes of the exit: INTERRUPT = 1', 'causes of the exit: CREATE_VCPU = 1', 'causes of the exit: INTERRUPT = 1'],
  Q11: ['a field of kvm_run, KVM_GET_ONE_REG EINVAL', 'no field, KVM_GET_ONE_REG EINVAL', 'a field of kvm_run, KVM_GET_ONE_REG ok'],
  Q13: [
    "of 1 exit in plane 0 and 2 in plane 1 the vCPU's statistics show 3, plane 1 has none of its own",
    "of 1 exit in plane 0 and 2 in plane 1 the vCPU's statistics show 1, plane 1 has 2 of its own",
    "of 1 exit in plane 0 and 2 in plane 1 the vCPU's statistics show 3, plane 1 has 2 of its own",
  ],
  Q14: [
    'an NMI asked of plane 0 while plane 1 is to run: plane 1 runs, plane 0 takes it when it runs',
    'an NMI asked of plane 0 while plane 1 is to run: plane 0 runs and takes it',
    'an NMI asked of plane 0 while plane 1 is to run: plane 1 runs, plane 0 takes it when it runs',
  ],
  Q16: ['no: it ends in the plane it was given', 'yes: begun in plane 1, ended in plane 0', 'no: it ends in the plane it was given'],
  Q18: [
    'an entry that names plane 1, set on the VM fd: plane 0; KVM_SET_GSI_ROUTING on the plane fd: ENOTTY',
    'an entry that names plane 1, set on the VM fd: plane 0; KVM_SET_GSI_ROUTING on the plane fd: ok',
    'an entry that names plane 1, set on the VM fd: plane 1; KVM_SET_GSI_ROUTING on the plane fd: ENOTTY',
  ],
  'halted-entry': ['blocked', 'switches in the kernel', 'exits with a plane event'],
  tpr: ['exits with a plane event', 'goes on running', 'goes on running'],
  nmi: ['goes on running', 'switches in the kernel', 'exits with a plane event'],
  restore: ['goes on running', 'switches in the kernel', 'exits with a plane event'],
  'mp-state': ['KVM_GET_MP_STATE on a plane vCPU fd EINVAL', 'KVM_GET_MP_STATE on a plane vCPU fd EINVAL', 'KVM_GET_MP_STATE on a plane vCPU fd ok'],
  numbers: [
    'KVM_CREATE_PLANE 0xaed6, KVM_CAP_PLANES 239, KVM_EXIT_PLANE_EVENT 40 of 80 bytes',
    'KVM_CREATE_PLANE 0xaee4, KVM_CAP_PLANES 249, KVM_EXIT_PLANE_EVENT 44 of 72 bytes',
    'KVM_CREATE_PLANE 0xaed6, KVM_CAP_PLANES 239, KVM_EXIT_PLANE_EVENT 40 of 80 bytes',
  ],
};

describe('disputes of KVM planes, side by side', () => {
  const first = planesAbiDiff('2025-04', '2026-06');
  const second = planesAbiDiff('vmplanes', '2024-10');

  it('has every dispute, in order, with its sources', () => {
    expect(first.map((r) => r.id).slice(0, DISPUTES.length)).toEqual(DISPUTES.map((d) => d.id));
    expect(first.filter((r) => r.source === '')).toEqual([]);
  });
  it.each(Object.entries(expected))('%s', (id, [rfc, series, ours]) => {
    const row = first.find((r) => r.id === id)!;
    expect([row.a, row.b, second.find((r) => r.id === id)!.a]).toEqual([rfc, series, ours]);
    expect(row.isObserved).toBe(true);
  });
  it('says why it quotes a dispute that no scenario observes', () => {
    const quoted = first.filter((r) => !r.isObserved);
    expect(quoted.map((r) => r.id)).toEqual(['Q3', 'Q12', 'Q17', 'Q19']);
    for (const row of quoted) expect(row.question).toMatch(/ \(quoted: .+\)$/);
  });
  it('quotes what only has names', () => {
    expect(second.every((r) => !r.isObserved && r.b !== '')).toBe(true);
  });
  it.each(PROFILES)('%s does not differ from itself', (profile: Profile) => {
    for (const row of planesAbiDiff(profile, profile)) expect(row.a).toBe(row.b);
  });
});
