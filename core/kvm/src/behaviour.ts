import { type Profile, type ProfileRules, RULES } from '@vmplanes/abi-kvm-planes';
import { HostError, type PendingRuleName, type SchedulerPolicyName } from '@vmplanes/engine';

/** What one draft of KVM planes does: the rules of its ABI, and how the engine and this facade carry them out. One data object per profile. */
export interface KvmBehaviour extends ProfileRules {
  readonly profile: Profile;
  /** Who chooses the plane to run. @spec LKML 2025-04-01 RFC KVM: VM planes 22/29; LKML 2026-06-08 KVM Planes + SEV-SNP Support 35/60 */
  readonly policy: SchedulerPolicyName;
  /** What counts as a pending event of a plane. @spec LKML 2025-04-01 RFC KVM: VM planes 25/29 */
  readonly rule: PendingRuleName;
  /** Whose local APIC timers become requests when they expire: those of the plane that runs, or of all planes. */
  readonly timers: 'running' | 'all';
  /** The VM counts as one with planes from the first attempt to make one on, even if that fails. */
  readonly marksPlanesEarly: boolean;
  /** SET_CPUID2 takes only the present table once the group has a plane vCPU, not only once it ran. */
  readonly planeLocksCpuid: boolean;
  /** When the answer to a pending exit is taken from the run page: at the next entry of its plane, or at the next KVM_RUN of the group. */
  readonly completion: 'planeEntry' | 'nextRun';
  /** Registers of the vCPU that all its planes share, by name or group, besides what KVM_ENABLE_CAP adds. */
  readonly groupRegisters: readonly string[];
  /** Whose counters a plane counts into, and what the statistics of the vCPU show: plane 0's own, or the sum over its planes. */
  readonly statistics: 'ofPlane0' | 'perObject' | 'summed';
  /** What an ioctl on a vCPU fd waits for while KVM_RUN is in progress: the run of its plane, or of any plane of the group. */
  readonly mutex: 'plane' | 'group';
}

/** Once per vCPU wherever planes share anything. @spec LKML 2026-06-08 KVM Planes + SEV-SNP Support 00/60; TLFS §15.11.1 Private State, Shared State */
const MEMORY_TYPES_AND_MACHINE_CHECKS = ['mtrr', 'mcg'];

/** The drafts that can run. `2024-10` has names only: nothing of it can be called. */
export const kvmBehaviours: Readonly<Record<Exclude<Profile, '2024-10'>, KvmBehaviour>> = {
  '2025-04': {
    ...RULES['2025-04']!,
    profile: '2025-04',
    policy: 'userspace',
    rule: 'irr',
    timers: 'running',
    marksPlanesEarly: true,
    planeLocksCpuid: true,
    completion: 'planeEntry',
    groupRegisters: [],
    statistics: 'ofPlane0',
    mutex: 'plane',
  },
  '2026-06': {
    ...RULES['2026-06']!,
    profile: '2026-06',
    policy: 'lowest-runnable',
    rule: 'deliverable',
    timers: 'all',
    marksPlanesEarly: false,
    planeLocksCpuid: false,
    completion: 'nextRun',
    groupRegisters: MEMORY_TYPES_AND_MACHINE_CHECKS,
    statistics: 'perObject',
    mutex: 'group',
  },
  vmplanes: {
    ...RULES.vmplanes!,
    profile: 'vmplanes',
    policy: 'userspace',
    rule: 'deliverable',
    timers: 'all',
    marksPlanesEarly: false,
    planeLocksCpuid: true,
    completion: 'nextRun',
    groupRegisters: MEMORY_TYPES_AND_MACHINE_CHECKS,
    statistics: 'summed',
    mutex: 'group',
  },
};

/** @throws {HostError} BadConfig for `2024-10`, which numbers nothing. */
export const kvmBehaviour = (profile: Profile): KvmBehaviour => {
  if (profile !== '2024-10') return kvmBehaviours[profile];
  throw new HostError('BadConfig', 'profile 2024-10 names calls without numbers: nothing of it can run');
};
