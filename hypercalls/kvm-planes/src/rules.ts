import type { PerProfile } from './profile.ts';

/** Behaviour that differs between profiles and is not an error number: what a facade must ask instead of comparing profile names. */
export interface ProfileRules {
  /** Who picks the plane that runs: userspace names it, the kernel takes the lowest runnable id, or a policy. */
  readonly scheduler: 'userspace' | 'lowest-runnable' | 'policy';
  /** When a plane counts as pending: a sticky mask of delivered interrupts, plane 0 with an injectable event, or a request above its priority. */
  readonly pending: 'irr' | 'plane0-injectable' | 'deliverable';
  /** Pending planes are looked at before a halted plane blocks, not only on the way into the guest. */
  readonly exitBeforeBlocking: boolean;
  /** All bytes of the plane event payload are written; otherwise padding and extra words keep what was there. */
  readonly zeroedPayload: boolean;
  /** How a vCPU of another plane comes to be. */
  readonly createVcpu: 'create-vcpu-plane' | 'create-vcpu-on-plane-fd';
  /** Plane vCPUs count against the limit of vCPUs of the VM. */
  readonly planeVcpusCount: boolean;
  /** Which plane an interrupt route reaches: always 0, that of the last caller, or its own. */
  readonly routes: 'plane0' | 'last-writer' | 'per-route';
  readonly fullIrqchip: 'with-planes' | 'without-planes' | 'never';
  readonly localApicRequired: boolean;
  /** FPU sharing can be enabled before the first vCPU; without it each plane has its own. */
  readonly sharedFpu: boolean;
  /** Attribute bits that a plane other than 0 takes by default. */
  readonly planeAttributes: bigint;
  /** Where the CPUID table lives: copied when the plane vCPU is made, or one for all planes of a vCPU. */
  readonly cpuid: 'copied' | 'shared';
  readonly mpStateOnPlanes: boolean;
  /** Name of the statistics or of the file of a plane vCPU. */
  readonly vcpuName: string;
}

/**
 * The rules of the profiles that can run; 2024-10 only names things.
 * @spec LKML 2025-04-01 RFC KVM: VM planes 01/29 to 29/29
 * @spec LKML 2026-06-08 KVM Planes + SEV-SNP Support 00/60 to 59/60
 */
export const RULES: PerProfile<ProfileRules | undefined> = {
  '2024-10': undefined,
  '2025-04': {
    scheduler: 'userspace', pending: 'irr', exitBeforeBlocking: false, zeroedPayload: false, createVcpu: 'create-vcpu-plane', planeVcpusCount: true, routes: 'plane0', fullIrqchip: 'with-planes',
    localApicRequired: false, sharedFpu: true, planeAttributes: 0n, cpuid: 'copied', mpStateOnPlanes: false, vcpuName: 'kvm-<pid>/vcpu-<id>:<plane>',
  },
  '2026-06': {
    scheduler: 'lowest-runnable', pending: 'plane0-injectable', exitBeforeBlocking: true, zeroedPayload: true, createVcpu: 'create-vcpu-on-plane-fd', planeVcpusCount: true, routes: 'last-writer',
    fullIrqchip: 'without-planes', localApicRequired: true, sharedFpu: false, planeAttributes: 0n, cpuid: 'shared', mpStateOnPlanes: false, vcpuName: 'kvm-vcpu-plane<plane>:<id>',
  },
  vmplanes: {
    scheduler: 'policy', pending: 'deliverable', exitBeforeBlocking: true, zeroedPayload: true, createVcpu: 'create-vcpu-plane', planeVcpusCount: false, routes: 'per-route', fullIrqchip: 'never',
    localApicRequired: false, sharedFpu: true, planeAttributes: 7n, cpuid: 'shared', mpStateOnPlanes: true, vcpuName: 'kvm-<pid>/vcpu-<id>:<plane>',
  },
};
