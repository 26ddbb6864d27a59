/**
 * The published designs of KVM planes by draft date, and ours.
 * `2024-10` is documentation only: it names calls and fields and numbers none of them.
 */
export const Profile = { Names2024: '2024-10', Rfc2025: '2025-04', Series2026: '2026-06', Vmplanes: 'vmplanes' } as const;
export type Profile = (typeof Profile)[keyof typeof Profile];

/** All profiles, oldest first. */
export const PROFILES: readonly Profile[] = [Profile.Names2024, Profile.Rfc2025, Profile.Series2026, Profile.Vmplanes];
/** The profiles that have numbers and behaviour, and so can run. */
export const RUNNABLE_PROFILES: readonly Profile[] = [Profile.Rfc2025, Profile.Series2026, Profile.Vmplanes];

/** Where a profile comes from. */
export interface ProfileInfo {
  readonly title: string;
  readonly author: string;
  /** ISO date of the posting; absent for our own. */
  readonly date?: string;
  readonly scheduler: string;
  readonly notification: string;
}

/** One row per profile. */
export const PROFILE_INFO: Readonly<Record<Profile, ProfileInfo>> = {
  '2024-10': { title: '[RFC PATCH 0/5] Documentation: kvm: cleanup and introduce VM planes', author: 'P. Bonzini', date: '2024-10-23', scheduler: 'userspace, run->plane', notification: 'KVM_EXIT_PLANE_EVENT' },
  '2025-04': { title: '[RFC PATCH 00/29] KVM: VM planes', author: 'P. Bonzini', date: '2025-04-01', scheduler: 'userspace, run->plane', notification: 'KVM_EXIT_PLANE_EVENT, cause INTERRUPT' },
  '2026-06': { title: '[PATCH 00/60] KVM Planes + SEV-SNP Support', author: 'J. Roedel', date: '2026-06-08', scheduler: 'kernel, lowest runnable plane', notification: 'exit only to ask for a vCPU' },
  vmplanes: { title: 'vmplanes', author: 'this project', scheduler: 'a policy per guest type', notification: 'as 2025-04, before blocking as well' },
};

/** One value for each profile. */
export type PerProfile<T> = Readonly<Record<Profile, T>>;
