import type { PerProfile, Profile } from './profile.ts';
import { rfc2025, series2026, Source } from './sources.ts';

/** The numbers that planes add to KVM. `null`: the profile has the name without a number; `undefined`: it has no such thing. */
export interface PlaneNumbers {
  readonly createPlane: number | null;
  readonly createVcpuPlane: number | null | undefined;
  readonly capPlanes: number | null;
  /** Read-only capability: 1 means every plane has its own FPU. */
  readonly capPlaneFpu: number | null | undefined;
  /** Capability to enable: 1 means all planes share one FPU. */
  readonly capPlanesFpu: number | undefined;
  readonly exitPlaneEvent: number | null;
  readonly causeInterrupt: number | undefined;
  readonly causeCreateVcpu: number | undefined;
  /** Planes on x86. */
  readonly maxPlanes: number | undefined;
}

/**
 * All plane numbers, keyed by profile; nothing else hard-codes them.
 * `vmplanes` keeps the numbers of 2025-04; for the read-only capability, which no draft numbers, it has one outside KVM's range.
 */
export const NUMBERS: PerProfile<PlaneNumbers> = {
  '2024-10': {
    createPlane: null, createVcpuPlane: null, capPlanes: null, capPlaneFpu: null, capPlanesFpu: undefined,
    exitPlaneEvent: null, causeInterrupt: 0, causeCreateVcpu: undefined, maxPlanes: undefined,
  },
  '2025-04': {
    createPlane: 0xaed6, createVcpuPlane: 0xaed7, capPlanes: 239, capPlaneFpu: undefined, capPlanesFpu: 240,
    exitPlaneEvent: 40, causeInterrupt: 1, causeCreateVcpu: undefined, maxPlanes: 16,
  },
  '2026-06': {
    createPlane: 0xaee4, createVcpuPlane: undefined, capPlanes: 249, capPlaneFpu: undefined, capPlanesFpu: undefined,
    exitPlaneEvent: 44, causeInterrupt: undefined, causeCreateVcpu: 1, maxPlanes: 16,
  },
  vmplanes: {
    createPlane: 0xaed6, createVcpuPlane: 0xaed7, capPlanes: 239, capPlaneFpu: 0x10000, capPlanesFpu: 240,
    exitPlaneEvent: 40, causeInterrupt: 1, causeCreateVcpu: undefined, maxPlanes: 16,
  },
};

/** What each row of {@link NUMBERS} is called in KVM, and where each profile says so. */
export const NUMBER_NAMES: Readonly<Record<keyof PlaneNumbers, { readonly name: string; readonly spelling2024?: string; readonly source: string }>> = {
  createPlane: { name: 'KVM_CREATE_PLANE', source: `${rfc2025(9)}; ${series2026('Implement KVM_CREATE_PLANE ioctl')}` },
  createVcpuPlane: { name: 'KVM_CREATE_VCPU_PLANE', source: `${rfc2025(13)}; ${series2026(8)}` },
  capPlanes: { name: 'KVM_CAP_PLANES', spelling2024: 'KVM_CAP_PLANE', source: `${rfc2025(2)}; ${series2026('Implement KVM_CAP_PLANES')}` },
  capPlaneFpu: { name: 'KVM_CAP_PLANE_FPU', source: Source.Doc2024 },
  capPlanesFpu: { name: 'KVM_CAP_PLANES_FPU', source: rfc2025(2) },
  exitPlaneEvent: { name: 'KVM_EXIT_PLANE_EVENT', source: `${rfc2025(2)}; ${series2026('Add KVM_EXIT_PLANE_EVENT')}` },
  causeInterrupt: { name: 'KVM_PLANE_EVENT_INTERRUPT', source: `${Source.Doc2024}; ${rfc2025(2)}` },
  causeCreateVcpu: { name: 'KVM_PLANE_EVENT_CREATE_VCPU', source: series2026('Add KVM_EXIT_PLANE_EVENT') },
  maxPlanes: { name: 'KVM_MAX_VCPU_PLANES', source: `${rfc2025(3, 26)}; KVM_MAX_PLANES in ${series2026(0)}` },
};

/** Planes of a machine unless its configuration says otherwise, in our own profile. */
export const DEFAULT_PLANES = 4;

/** A plane number under a profile. @throws {RangeError} `KVM_CAP_PLANES_FPU: not in profile 2026-06` or `...: has no number in profile 2024-10`. */
export function numberOf(profile: Profile, row: keyof PlaneNumbers): number {
  const value = NUMBERS[profile][row];
  if (typeof value === 'number') return value;
  throw new RangeError(`${NUMBER_NAMES[row].name}: ${value === null ? 'has no number' : 'not'} in profile ${profile}`);
}
