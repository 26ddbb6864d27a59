/** One run of pages that a boot image places before the machine starts. */
export interface LaunchPage {
  /** Guest physical address in bytes, a multiple of 4096. */
  readonly gpa: number;
  /** A multiple of 4096 bytes; zeroes where the image stores none. */
  readonly data: Uint8Array;
  /** What the page is to the platform, in the words of the image format: `normal`, `secrets`, `cpuid`, `unmeasured`, ... */
  readonly type: string;
  /** Not to be encrypted or measured: the guest and the host share it. */
  readonly shared: boolean;
}

/** The state in which a boot image starts one plane of one VP: an architectural page or a plain register list, as the image gives it. */
export interface LaunchVp {
  readonly vp: number;
  /** Where the state page lies, in bytes; -1 when it is no page of the guest. */
  readonly gpa: number;
  /** `vmsa`: one 4096-byte page in the platform's layout; `registers`: values by name. */
  readonly state: { readonly kind: 'vmsa'; readonly page: Uint8Array } | { readonly kind: 'registers'; readonly values: Readonly<Record<string, bigint>> };
}

/**
 * Takes the directives of a boot image in their order. The order is part of a measurement, so a parser never sorts.
 * A sink throws a HostError for what its machine cannot do.
 */
export interface LaunchSink {
  policy(policy: bigint): void;
  page(page: LaunchPage): void;
  vp(vp: LaunchVp): void;
  /** The identity block of the image and its authentication, as stored. */
  identity(block: Uint8Array, authentication: Uint8Array): void;
  /** Everything is placed: nothing may follow. */
  finish(): void;
}
