import type { Errno } from './errno.ts';
import type { Ioctl, PlaneIoctl } from './ioctl.ts';
import type { Profile } from './profile.ts';
import { rfc2025, series2026, Source } from './sources.ts';

/** The file descriptors of a machine with planes. The VM fd stands for plane 0. */
export const FdKind = { Vm: 'vm', Plane: 'plane', Vcpu: 'vcpu', PlaneVcpu: 'planeVcpu' } as const;
export type FdKind = (typeof FdKind)[keyof typeof FdKind];

/** What an fd says to a request before it looks at the argument. */
export type Admission = 'allowed' | Extract<Errno, 'ENOTTY' | 'EINVAL'>;

/** A row of the admission table: request, then VM fd, plane fd, plane-0 vCPU fd, plane vCPU fd. */
export interface AdmissionRow {
  readonly ioctl: PlaneIoctl | 'plane vCPU state' | 'other VM' | 'other vCPU' | 'unknown';
  readonly profiles: readonly Profile[];
  readonly vm: Admission;
  readonly plane: Admission;
  readonly vcpu: Admission;
  readonly planeVcpu: Admission;
  readonly source: string;
}

/** The 27 requests that a plane vCPU fd takes in every draft. @spec LKML 2025-04-01 RFC KVM: VM planes 13/29 */
export const PLANE_VCPU_IOCTLS = [
  'KVM_GET_REGS', 'KVM_SET_REGS', 'KVM_GET_SREGS', 'KVM_SET_SREGS', 'KVM_GET_SREGS2', 'KVM_SET_SREGS2', 'KVM_GET_MSRS', 'KVM_SET_MSRS', 'KVM_GET_FPU', 'KVM_SET_FPU',
  'KVM_GET_LAPIC', 'KVM_SET_LAPIC', 'KVM_GET_VCPU_EVENTS', 'KVM_SET_VCPU_EVENTS', 'KVM_GET_DEBUGREGS', 'KVM_SET_DEBUGREGS', 'KVM_GET_XCRS', 'KVM_SET_XCRS',
  'KVM_GET_ONE_REG', 'KVM_SET_ONE_REG', 'KVM_GET_NESTED_STATE', 'KVM_SET_NESTED_STATE', 'KVM_GET_XSAVE', 'KVM_GET_XSAVE2', 'KVM_SET_XSAVE', 'KVM_GET_REG_LIST', 'KVM_TRANSLATE',
] as const satisfies readonly Ioctl[];

const RFC = ['2025-04'] as const;
const SERIES = ['2026-06'] as const;
const OURS = ['vmplanes'] as const;
const G1 = ['2025-04', 'vmplanes'] as const;
const ALL = ['2025-04', '2026-06', 'vmplanes'] as const;
const yes = 'allowed', tty = 'ENOTTY', inval = 'EINVAL';
const row = (ioctl: AdmissionRow['ioctl'], profiles: readonly Profile[], vm: Admission, plane: Admission, vcpu: Admission, planeVcpu: Admission, source: string): AdmissionRow =>
  ({ ioctl, profiles, vm, plane, vcpu, planeVcpu, source });

/**
 * Which request is admitted on which fd. A vCPU fd answers a foreign request with EINVAL, a VM or plane fd with ENOTTY; a plane vCPU fd answers
 * everything outside its list with EINVAL, even what is no KVM request at all.
 */
// The columns:                          profiles  VM    plane  vCPU   plane vCPU
export const ADMISSION: readonly AdmissionRow[] = [
  row('KVM_CREATE_PLANE',                ALL,      yes,  tty,   inval, inval, rfc2025(9)),
  row('KVM_CREATE_VCPU',                 G1,       yes,  tty,   inval, inval, rfc2025(9, 13)),
  row('KVM_CREATE_VCPU',                 SERIES,   yes,  yes,   inval, inval, series2026(8)),
  row('KVM_CREATE_VCPU_PLANE',           G1,       tty,  yes,   inval, inval, rfc2025(13)),
  row('KVM_CREATE_VCPU_PLANE',           SERIES,   tty,  tty,   inval, inval, series2026(8)),
  row('KVM_CHECK_EXTENSION',             G1,       yes,  yes,   inval, inval, rfc2025(9)),
  row('KVM_CHECK_EXTENSION',             SERIES,   yes,  tty,   inval, inval, series2026(54)),
  row('KVM_SIGNAL_MSI',                  ALL,      yes,  yes,   inval, inval, rfc2025(9, 20)),
  row('KVM_SET_MEMORY_ATTRIBUTES',       G1,       yes,  yes,   inval, inval, rfc2025(6, 9)),
  row('KVM_SET_MEMORY_ATTRIBUTES',       SERIES,   yes,  tty,   inval, inval, series2026(0)),
  row('KVM_SET_GSI_ROUTING',             G1,       yes,  tty,   inval, inval, rfc2025(9)),
  row('KVM_SET_GSI_ROUTING',             SERIES,   yes,  yes,   inval, inval, series2026(8)),
  row('KVM_ENABLE_CAP',                  ALL,      yes,  tty,   yes,   inval, rfc2025(9, 13)),
  row('KVM_RUN',                         ALL,      tty,  tty,   yes,   inval, rfc2025(9, 13)),
  row('KVM_GET_MP_STATE',                RFC,      tty,  tty,   yes,   inval, rfc2025(13)),
  row('KVM_GET_MP_STATE',                SERIES,   tty,  tty,   yes,   inval, series2026(0)),
  row('KVM_GET_MP_STATE',                OURS,     tty,  tty,   yes,   yes,   'vmplanes: a plane vCPU of another processor could otherwise be started by INIT and SIPI only'),
  row('KVM_SET_MP_STATE',                RFC,      tty,  tty,   yes,   inval, rfc2025(13)),
  row('KVM_SET_MP_STATE',                SERIES,   tty,  tty,   yes,   inval, series2026(0)),
  row('KVM_SET_MP_STATE',                OURS,     tty,  tty,   yes,   yes,   'vmplanes: see KVM_GET_MP_STATE'),
  row('plane vCPU state',                ALL,      tty,  tty,   yes,   yes,   rfc2025(13)),
  row('other VM',                        ALL,      yes,  tty,   inval, inval, rfc2025(9)),
  row('other vCPU',                      ALL,      tty,  tty,   yes,   inval, rfc2025(13)),
  row('unknown',                         ALL,      tty,  tty,   inval, inval, `${rfc2025(9, 13)}; ${Source.Api}`),
];

const OTHER_VM: ReadonlySet<string> = new Set([
  'KVM_GET_DIRTY_LOG', 'KVM_SET_USER_MEMORY_REGION', 'KVM_SET_USER_MEMORY_REGION2', 'KVM_CREATE_IRQCHIP', 'KVM_IRQ_LINE', 'KVM_GET_IRQCHIP', 'KVM_SET_IRQCHIP', 'KVM_IRQFD', 'KVM_SET_CLOCK', 'KVM_GET_CLOCK', 'KVM_X86_SET_MSR_FILTER', 'KVM_RESET_DIRTY_RINGS',
] satisfies Ioctl[]);
/** Requests of a VM fd and of a vCPU fd alike: KVM has them on both. */
const BOTH: ReadonlySet<string> = new Set(['KVM_SET_TSC_KHZ', 'KVM_GET_TSC_KHZ', 'KVM_SET_DEVICE_ATTR', 'KVM_GET_DEVICE_ATTR', 'KVM_HAS_DEVICE_ATTR', 'KVM_GET_STATS_FD'] satisfies Ioctl[]);
const SYSTEM: ReadonlySet<string> = new Set(['KVM_GET_API_VERSION', 'KVM_CREATE_VM', 'KVM_GET_VCPU_MMAP_SIZE'] satisfies Ioctl[]);
const STATE: ReadonlySet<string> = new Set(PLANE_VCPU_IOCTLS);

/**
 * Whether an fd takes a request under a profile, before the argument is looked at.
 * @param ioctl - a name, or `undefined` for a number that is no known request.
 */
export function admission(profile: Profile, fd: FdKind, ioctl: PlaneIoctl | undefined): Admission {
  const find = (name: AdmissionRow['ioctl']): AdmissionRow | undefined => ADMISSION.find((r) => r.ioctl === name && r.profiles.includes(profile));
  if (ioctl === undefined || SYSTEM.has(ioctl)) return find('unknown')?.[fd] ?? 'ENOTTY';
  const own = find(ioctl);
  if (own) return own[fd];
  if (STATE.has(ioctl)) return find('plane vCPU state')?.[fd] ?? 'ENOTTY';
  if (BOTH.has(ioctl) && fd === FdKind.Vm) return find('other VM')?.[fd] ?? 'ENOTTY';
  return find(OTHER_VM.has(ioctl) ? 'other VM' : 'other vCPU')?.[fd] ?? 'ENOTTY';
}
