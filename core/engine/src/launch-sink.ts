/** One run of pages that a boot image places before the machine starts. */
export interface LaunchPage {
  /** Guest physical address in bytes, a multiple of 4096. */
  readonly gpa: number;
  /** A multiple of 4096 bytes; zeroes where the image stores none. */
  readonly data: Uint8Array;
  /** What the page is to the platform. `secrets` and `cpuid` are filled or checked by it. */
  readonly type: LaunchPageKind;
  /** Not to be encrypted or measured: the guest and the host share it. */
  readonly shared: boolean;
}

/** `unmeasured`: the contents enter no measurement; `zero`: there are none; `cpuid-extended`: a second table of CPUID results. */
export type LaunchPageKind = 'normal' | 'zero' | 'unmeasured' | 'secrets' | 'cpuid' | 'cpuid-extended';

/** A register by the number that its interface gives it, for one plane. */
export interface LaunchRegister {
  readonly plane: number;
  readonly register: number;
  /** Up to 128 bits. */
  readonly value: bigint;
}

/**
 * How an image gives the first state of a VP: one 4096-byte page in the layout of the platform, values by name, values by number, or that of a reset with another address
 * of the first instruction.
 */
export type LaunchState =
  | { readonly kind: 'reset'; readonly address: number }
  | { readonly kind: 'page'; readonly page: Uint8Array }
  | { readonly kind: 'registers'; readonly values: Readonly<Record<string, bigint>> }
  | { readonly kind: 'numbered'; readonly values: readonly LaunchRegister[] };

/** The state in which a boot image starts one VP. */
export interface LaunchVp {
  readonly vp: number;
  /** Where the state page lies, in bytes; -1 when it is no page of the guest. */
  readonly gpa: number;
  readonly state: LaunchState;
}

/** A signature of two numbers and the key it verifies with, little endian as images store them. */
export interface LaunchSignature {
  readonly algorithm: number;
  readonly r: Uint8Array;
  readonly s: Uint8Array;
  readonly curve: number;
  readonly x: Uint8Array;
  readonly y: Uint8Array;
}

/** Who a guest says it is: the expected measurement, signed. */
export interface LaunchIdentity {
  readonly version: number;
  readonly digest: Uint8Array;
  readonly familyId: Uint8Array;
  readonly imageId: Uint8Array;
  /** Security version of the guest. */
  readonly svn: number;
  readonly key: LaunchSignature;
  /** Who vouches for the key; null for nobody. */
  readonly author: LaunchSignature | null;
}

/**
 * Takes the directives of a boot image in their order. The order is part of a measurement, so nobody sorts them.
 * A sink throws a HostError for what its machine cannot do.
 */
export interface LaunchSink {
  /** Platforms whose images it takes, best first: names in lower case with hyphens, such as `native`. */
  readonly platforms: readonly string[];
  /** What the owner of the guest allows; first of all. */
  policy(policy: bigint): void;
  page(page: LaunchPage): void;
  vp(vp: LaunchVp): void;
  identity(identity: LaunchIdentity): void;
  /** Everything is placed: nothing may follow. */
  finish(): void;
}
