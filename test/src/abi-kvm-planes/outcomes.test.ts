import { ERRORS, RUNNABLE_PROFILES } from '@vmplanes/abi-kvm-planes';
import { expect, test } from 'vitest';

/** Every row of the error table by hand from the patches: id, then 2025-04, 2026-06 and vmplanes; `-` where a draft has no such case. */
const OUTCOMES = `
any.foreign EIO EIO EIO
any.plane-vcpu-list EINVAL EINVAL EINVAL
any.plane-unknown ENOTTY ENOTTY ENOTTY
create-plane.too-high EINVAL EINVAL EINVAL
create-plane.no-irqchip ok EINVAL ok
create-plane.full-irqchip ok EINVAL -
create-plane.zero EEXIST EEXIST EEXIST
create-plane.exists EEXIST EEXIST EEXIST
create-plane.no-fd EMFILE EMFILE EMFILE
create-plane.no-file ENFILE ENFILE ENFILE
create-plane.no-memory ENOMEM ENOMEM ENOMEM
create-plane.on-plane ENOTTY ENOTTY ENOTTY
create-plane.wide-id EEXIST EEXIST EEXIST
create-vcpu-plane.on-vm ENOTTY ENOTTY ENOTTY
create-vcpu-plane.not-int EBADF - EBADF
create-vcpu-plane.closed EBADF - EBADF
create-vcpu-plane.not-vcpu EINVAL - EINVAL
create-vcpu-plane.plane-vcpu - - EINVAL
create-vcpu-plane.other-vm EINVAL - EINVAL
create-vcpu-plane.limit EINVAL - ok
create-vcpu-plane.no-memory ENOMEM - ENOMEM
create-vcpu-plane.exists EEXIST - EEXIST
create-vcpu.on-plane ENOTTY - ENOTTY
create-vcpu.limit - EINVAL -
create-vcpu.exists - EEXIST -
create-vcpu.no-plane0 - EINVAL -
run.on-plane ENOTTY ENOTTY ENOTTY
run.on-plane-vcpu EINVAL EINVAL EINVAL
run.no-such-plane EINVAL - EINVAL
run.plane-ignored ok - ok
run.immediate EINTR EINTR EINTR
plane-vcpu.KVM_GET_MP_STATE EINVAL EINVAL ok
plane-vcpu.KVM_SET_MP_STATE EINVAL EINVAL ok
signal-msi.pointer EFAULT EFAULT EFAULT
signal-msi.no-irqchip EINVAL EINVAL EINVAL
signal-msi.flags EINVAL EINVAL EINVAL
signal-msi.route EINVAL EINVAL EINVAL
signal-msi.no-target EPERM EPERM EPERM
signal-msi.dropped 0 0 0
signal-msi.accepted 1 1 1
attributes.pointer EFAULT EFAULT EFAULT
attributes.flags EINVAL EINVAL EINVAL
attributes.private-on-plane EINVAL - EINVAL
attributes.unsupported EINVAL EINVAL EINVAL
attributes.combination - - EINVAL
attributes.restrict EINVAL - ok
attributes.none ok - ok
attributes.empty EINVAL EINVAL EINVAL
attributes.wrap EINVAL EINVAL EINVAL
attributes.unaligned EINVAL EINVAL EINVAL
irqchip.after-plane EINVAL EINVAL EINVAL
irqchip.full ok ok EINVAL
split-irqchip.after-plane EEXIST EEXIST EEXIST
fpu.flags EINVAL - EINVAL
fpu.after-vcpu EINVAL - EINVAL
fpu.value EINVAL - EINVAL
fpu.protected EINVAL - EINVAL
fpu.toggle ok - ok
fpu.missing - EINVAL -
cpuid.changed EINVAL - EINVAL
cpuid.same ok ok ok
`.trim().split('\n');

test('LKML 2025-04-01 RFC KVM: VM planes, LKML 2026-06-08 KVM Planes + SEV-SNP Support: what each call answers', () => {
  const ours = ERRORS.map((row) => [row.id, ...RUNNABLE_PROFILES.map((p) => row.expect[p] ?? '-')].join(' '));
  const listed = new Set(OUTCOMES.map((line) => line.split(' ')[0]));
  const others = ours.filter((line) => !listed.has(line.split(' ')[0]!));
  expect(ours.filter((line) => !others.includes(line))).toEqual(OUTCOMES);
  // What a plane vCPU does not take is refused in one way.
  expect(others).toHaveLength(20);
  for (const line of others) expect(line).toMatch(/^plane-vcpu\.KVM_[A-Z0-9_]+ EINVAL EINVAL EINVAL$/);
});
