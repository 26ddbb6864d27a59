import type { Errno } from './errno.ts';
import type { FdKind } from './fd.ts';
import type { PlaneIoctl } from './ioctl.ts';
import type { Profile } from './profile.ts';
import { rfc2025, series2026, Source } from './sources.ts';

/** An outcome: an error, success, or a value that the call returns. */
export type Outcome = Errno | 'ok' | number;

/** One case of a call with what each profile answers; a profile that is absent has no such case. */
export interface ErrorRow {
  /** Stable, for tests that name what they cover. */
  readonly id: string;
  readonly call: PlaneIoctl | 'any' | 'unknown';
  readonly fd: FdKind | 'any';
  readonly condition: string;
  readonly expect: Readonly<Partial<Record<Profile, Outcome>>>;
  readonly source: string;
}

const all = (o: Outcome): ErrorRow['expect'] => ({ '2025-04': o, '2026-06': o, vmplanes: o });
const g1 = (o: Outcome): ErrorRow['expect'] => ({ '2025-04': o, vmplanes: o });
const row = (id: string, call: ErrorRow['call'], fd: ErrorRow['fd'], condition: string, expect: ErrorRow['expect'], source: string): ErrorRow => ({ id, call, fd, condition, expect, source });

/**
 * Errors and notable answers of every call, in check order within a call: of two conditions that hold, the earlier row answers.
 * `vmplanes` follows 2025-04 except where a row says otherwise.
 */
export const ERRORS: readonly ErrorRow[] = [
  row('any.foreign', 'any', 'any', 'the caller has another address space, or the VM is dead: before everything else', all('EIO'), rfc2025(9, 13)),
  row('any.plane-vcpu-list', 'unknown', 'planeVcpu', 'a request outside the list, KVM or not: before the argument is read', all('EINVAL'), rfc2025(13)),
  row('any.plane-unknown', 'unknown', 'plane', 'a request that a plane fd does not have', all('ENOTTY'), rfc2025(9)),

  row('create-plane.too-high', 'KVM_CREATE_PLANE', 'vm', 'id is the number of planes or more, such as 0xffffffff', all('EINVAL'), `${rfc2025(9)}; ${Source.SelftestGeneric}`),
  row('create-plane.no-irqchip', 'KVM_CREATE_PLANE', 'vm', 'no in-kernel local APIC', { '2025-04': 'ok', '2026-06': 'EINVAL', vmplanes: 'ok' }, `${series2026(54)}; ${Source.ReplyBonzini}`),
  row('create-plane.full-irqchip', 'KVM_CREATE_PLANE', 'vm', 'id 1 on a VM with a full in-kernel irqchip', { '2025-04': 'ok', '2026-06': 'EINVAL' }, series2026(54)),
  row('create-plane.zero', 'KVM_CREATE_PLANE', 'vm', 'id 0', all('EEXIST'), `${rfc2025(9)}; ${Source.SelftestGeneric}`),
  row('create-plane.exists', 'KVM_CREATE_PLANE', 'vm', 'the plane exists', all('EEXIST'), `${rfc2025(9)}; ${Source.SelftestGeneric}`),
  row('create-plane.no-fd', 'KVM_CREATE_PLANE', 'vm', 'no free fd of the process', all('EMFILE'), rfc2025(9)),
  row('create-plane.no-file', 'KVM_CREATE_PLANE', 'vm', 'no free file of the host', all('ENFILE'), rfc2025(9)),
  row('create-plane.no-memory', 'KVM_CREATE_PLANE', 'vm', 'allocation fails', all('ENOMEM'), rfc2025(9)),
  row('create-plane.on-plane', 'KVM_CREATE_PLANE', 'plane', 'any id', all('ENOTTY'), rfc2025(9)),
  row('create-plane.wide-id', 'KVM_CREATE_PLANE', 'vm', 'id 1 << 32: the argument is cut to 32 bits, so this is plane 0', all('EEXIST'), rfc2025(9)),

  row('create-vcpu-plane.on-vm', 'KVM_CREATE_VCPU_PLANE', 'vm', 'any argument', all('ENOTTY'), `${rfc2025(13)}; ${Source.SelftestGeneric}`),
  row('create-vcpu-plane.not-int', 'KVM_CREATE_VCPU_PLANE', 'plane', 'the argument does not fit a C int, such as 1 << 40', g1('EBADF'), rfc2025(13)),
  row('create-vcpu-plane.closed', 'KVM_CREATE_VCPU_PLANE', 'plane', 'the fd is not open, such as -1', g1('EBADF'), rfc2025(13)),
  row('create-vcpu-plane.not-vcpu', 'KVM_CREATE_VCPU_PLANE', 'plane', 'the fd is a file, a plane or a VM', g1('EINVAL'), rfc2025(13)),
  row('create-vcpu-plane.plane-vcpu', 'KVM_CREATE_VCPU_PLANE', 'plane', 'the fd is a plane vCPU: 2025-04 accepts it and takes that vCPU for plane 0', { vmplanes: 'EINVAL' }, rfc2025(13)),
  row('create-vcpu-plane.other-vm', 'KVM_CREATE_VCPU_PLANE', 'plane', 'the vCPU belongs to another VM', g1('EINVAL'), rfc2025(13)),
  row('create-vcpu-plane.limit', 'KVM_CREATE_VCPU_PLANE', 'plane', 'as many vCPUs as the VM may have; plane vCPUs do not count in our profile', { '2025-04': 'EINVAL', vmplanes: 'ok' }, rfc2025(13)),
  row('create-vcpu-plane.no-memory', 'KVM_CREATE_VCPU_PLANE', 'plane', 'allocation fails', g1('ENOMEM'), rfc2025(13)),
  row('create-vcpu-plane.exists', 'KVM_CREATE_VCPU_PLANE', 'plane', 'this plane has a vCPU with that id', g1('EEXIST'), `${rfc2025(13)}; ${Source.SelftestGeneric}`),
  row('create-vcpu.on-plane', 'KVM_CREATE_VCPU', 'plane', 'any id', g1('ENOTTY'), rfc2025(9)),
  row('create-vcpu.limit', 'KVM_CREATE_VCPU', 'plane', 'as many vCPUs as the VM may have', { '2026-06': 'EINVAL' }, series2026(8)),
  row('create-vcpu.exists', 'KVM_CREATE_VCPU', 'plane', 'this plane has a vCPU with that id', { '2026-06': 'EEXIST' }, series2026(8)),
  row('create-vcpu.no-plane0', 'KVM_CREATE_VCPU', 'plane', 'plane 0 has no vCPU with that id', { '2026-06': 'EINVAL' }, series2026(8)),

  row('run.on-plane', 'KVM_RUN', 'plane', 'always', all('ENOTTY'), `${rfc2025(9)}; ${Source.SelftestGeneric}`),
  row('run.on-plane-vcpu', 'KVM_RUN', 'planeVcpu', 'always', all('EINVAL'), rfc2025(13)),
  row('run.no-such-plane', 'KVM_RUN', 'vcpu', 'run->plane names no plane, or one without this vCPU, and the vCPU has another plane; nothing changes', g1('EINVAL'), `${rfc2025(22)}, which would crash; the check is ours`),
  row('run.plane-ignored', 'KVM_RUN', 'vcpu', 'any run->plane while the vCPU has no other plane: plane 0 runs', g1('ok'), rfc2025(1)),
  row('run.immediate', 'KVM_RUN', 'vcpu', 'immediate_exit is set', all('EINTR'), Source.Api),

  ...(['KVM_GET_MP_STATE', 'KVM_SET_MP_STATE'] as const).map((call) => row(`plane-vcpu.${call}`, call, 'planeVcpu', 'always', { '2025-04': 'EINVAL', '2026-06': 'EINVAL', vmplanes: 'ok' }, rfc2025(13))),
  ...([
    'KVM_SET_CPUID', 'KVM_SET_CPUID2', 'KVM_GET_CPUID2', 'KVM_SET_SIGNAL_MASK', 'KVM_SET_GUEST_DEBUG', 'KVM_INTERRUPT', 'KVM_NMI', 'KVM_SMI', 'KVM_ENABLE_CAP', 'KVM_GET_STATS_FD', 'KVM_PRE_FAULT_MEMORY',
    'KVM_KVMCLOCK_CTRL', 'KVM_GET_TSC_KHZ', 'KVM_SET_TSC_KHZ', 'KVM_X86_SETUP_MCE', 'KVM_X86_SET_MCE', 'KVM_TPR_ACCESS_REPORTING', 'KVM_SET_DEVICE_ATTR', 'KVM_GET_DEVICE_ATTR', 'KVM_HAS_DEVICE_ATTR',
  ] as const).map((call) => row(`plane-vcpu.${call}`, call, 'planeVcpu', 'always', all('EINVAL'), rfc2025(13))),

  row('signal-msi.pointer', 'KVM_SIGNAL_MSI', 'any', 'the argument cannot be read', all('EFAULT'), rfc2025(9)),
  row('signal-msi.no-irqchip', 'KVM_SIGNAL_MSI', 'any', 'no in-kernel irqchip', all('EINVAL'), Source.Api),
  row('signal-msi.flags', 'KVM_SIGNAL_MSI', 'any', 'flags beyond VALID_DEVID', all('EINVAL'), Source.Api),
  row('signal-msi.route', 'KVM_SIGNAL_MSI', 'any', 'x2APIC format and address_hi bits 7:0 are set', all('EINVAL'), rfc2025(20)),
  row('signal-msi.no-target', 'KVM_SIGNAL_MSI', 'any', 'no local APIC of that plane matches: the call returns -1, which reads as EPERM', all('EPERM'), Source.Api),
  row('signal-msi.dropped', 'KVM_SIGNAL_MSI', 'any', 'the APIC that matches is disabled or has the vector pending', all(0), Source.Api),
  row('signal-msi.accepted', 'KVM_SIGNAL_MSI', 'any', 'one APIC of that plane takes it; shorthand, broadcast and arbitration stay inside the plane', all(1), `${rfc2025(20)}; ${Source.SelftestX86}`),

  row('attributes.pointer', 'KVM_SET_MEMORY_ATTRIBUTES', 'any', 'the argument cannot be read', all('EFAULT'), rfc2025(6)),
  row('attributes.flags', 'KVM_SET_MEMORY_ATTRIBUTES', 'any', 'flags are not 0', all('EINVAL'), rfc2025(6)),
  row('attributes.private-on-plane', 'KVM_SET_MEMORY_ATTRIBUTES', 'plane', 'PRIVATE on a plane other than 0', g1('EINVAL'), rfc2025(6)),
  row('attributes.unsupported', 'KVM_SET_MEMORY_ATTRIBUTES', 'any', 'a bit that this plane does not support', all('EINVAL'), rfc2025(6)),
  row('attributes.combination', 'KVM_SET_MEMORY_ATTRIBUTES', 'any', 'NR without NW and NX, or PRIVATE with a permission bit', { vmplanes: 'EINVAL' }, Source.Vsm2024),
  row('attributes.restrict', 'KVM_SET_MEMORY_ATTRIBUTES', 'plane', 'NW on a plane other than 0', { '2025-04': 'EINVAL', vmplanes: 'ok' }, `${rfc2025(6)}; ${Source.Vsm2024}`),
  row('attributes.none', 'KVM_SET_MEMORY_ATTRIBUTES', 'plane', 'attributes 0 on a plane other than 0', g1('ok'), rfc2025(6)),
  row('attributes.empty', 'KVM_SET_MEMORY_ATTRIBUTES', 'any', 'size 0', all('EINVAL'), rfc2025(6)),
  row('attributes.wrap', 'KVM_SET_MEMORY_ATTRIBUTES', 'any', 'address + size wraps', all('EINVAL'), rfc2025(6)),
  row('attributes.unaligned', 'KVM_SET_MEMORY_ATTRIBUTES', 'any', 'address or size is not a multiple of a page', all('EINVAL'), rfc2025(6)),

  row('irqchip.after-plane', 'KVM_CREATE_IRQCHIP', 'vm', 'a plane exists', all('EINVAL'), `${rfc2025(17)}; ${series2026(54)}`),
  row('irqchip.full', 'KVM_CREATE_IRQCHIP', 'vm', 'no plane exists; our profile has no full in-kernel irqchip', { '2025-04': 'ok', '2026-06': 'ok', vmplanes: 'EINVAL' }, `${rfc2025(17)}; ${Source.ReplyChristopherson}`),
  row('split-irqchip.after-plane', 'KVM_ENABLE_CAP', 'vm', 'KVM_CAP_SPLIT_IRQCHIP while a plane exists', all('EEXIST'), `${rfc2025(17)}; ${series2026(54)}`),
  row('fpu.flags', 'KVM_ENABLE_CAP', 'vm', 'KVM_CAP_PLANES_FPU with flags', g1('EINVAL'), rfc2025(21)),
  row('fpu.after-vcpu', 'KVM_ENABLE_CAP', 'vm', 'KVM_CAP_PLANES_FPU while a vCPU is online', g1('EINVAL'), rfc2025(21)),
  row('fpu.value', 'KVM_ENABLE_CAP', 'vm', 'KVM_CAP_PLANES_FPU with args[0] above 1', g1('EINVAL'), rfc2025(21)),
  row('fpu.protected', 'KVM_ENABLE_CAP', 'vm', 'KVM_CAP_PLANES_FPU with args[0] = 1 on a VM with protected state', g1('EINVAL'), rfc2025(21)),
  row('fpu.toggle', 'KVM_ENABLE_CAP', 'vm', 'KVM_CAP_PLANES_FPU 1, 0, 1 before the first vCPU', g1('ok'), rfc2025(21)),
  row('fpu.missing', 'KVM_ENABLE_CAP', 'vm', 'KVM_CAP_PLANES_FPU', { '2026-06': 'EINVAL' }, series2026(0)),

  row('cpuid.changed', 'KVM_SET_CPUID2', 'vcpu', 'another table after the vCPU got a plane vCPU or has run', g1('EINVAL'), rfc2025(24)),
  row('cpuid.same', 'KVM_SET_CPUID2', 'vcpu', 'the present table after the vCPU got a plane vCPU or has run', all('ok'), rfc2025(24)),
];
