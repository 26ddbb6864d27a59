import { LAUNCH_DIGEST_BYTES, VMPCK_BYTES, VMPCK_COUNT } from '@vmplanes/abi-sev-snp';
import type { PlainRecord, PlainState } from '@vmplanes/engine';
import { HostError } from '@vmplanes/engine';
import { derive } from './key-derivation.ts';

/** How far the launch of a guest is. @spec SNP ABI, guest states */
export const GuestState = { Init: 'init', Launching: 'launching', Running: 'running' } as const;
export type GuestState = (typeof GuestState)[keyof typeof GuestState];

/** What the firmware knows of one guest. Plain data. @spec SNP ABI, guest context */
export interface GuestContext {
  state: GuestState;
  /** GuestPolicy, as given. */
  policy: bigint;
  /** Launch digest so far. */
  digest: Uint8Array;
  gosvw: Uint8Array;
  /** From the ID block; zero without one. */
  familyId: Uint8Array;
  imageId: Uint8Array;
  guestSvn: number;
  idKeyDigest: Uint8Array;
  authorKeyDigest: Uint8Array;
  hasAuthorKey: boolean;
  hostData: Uint8Array;
  /** The host took the chip key from this guest: it has only a loaded one. */
  isVcekDisabled: boolean;
  reportId: Uint8Array;
  /** Message keys by VMPL. */
  keys: Uint8Array[];
  /** The last sequence number of each key: that of the last response. */
  sequences: bigint[];
  /** As in MSG_TSC_INFO_RSP. */
  tscScale: bigint;
  tscOffset: bigint;
  tscFactor: number;
}

/** One to one, as a number with 32 binary places. */
export const TSC_SCALE_ONE = 1n << 32n;

const zeroes = (length: number): Uint8Array => new Uint8Array(length);

/** A guest that nothing is known of yet; its keys and its identifier follow from the seed of the platform. */
export const newGuestContext = (seed: Uint8Array): GuestContext => ({
  state: GuestState.Init,
  policy: 0n,
  digest: zeroes(LAUNCH_DIGEST_BYTES),
  gosvw: zeroes(16),
  familyId: zeroes(16),
  imageId: zeroes(16),
  guestSvn: 0,
  idKeyDigest: zeroes(48),
  authorKeyDigest: zeroes(48),
  hasAuthorKey: false,
  hostData: zeroes(32),
  isVcekDisabled: false,
  reportId: derive(seed, 'report id', 32),
  keys: Array.from({ length: VMPCK_COUNT }, (_, vmpl) => derive(seed, `message key ${vmpl}`, VMPCK_BYTES)),
  sequences: Array.from({ length: VMPCK_COUNT }, () => 0n),
  tscScale: TSC_SCALE_ONE,
  tscOffset: 0n,
  tscFactor: 0,
});

const copy = (value: unknown): unknown => (value instanceof Uint8Array ? value.slice() : Array.isArray(value) ? value.map(copy) : value);

/** A copy of the context as the state of a component. */
export const saveGuestContext = (guest: GuestContext): PlainState => Object.fromEntries(Object.entries(guest).map(([name, value]) => [name, copy(value)])) as PlainRecord;

/** Puts a saved context in place of another. @throws {HostError} BadSnapshot names the first field that is missing or of another shape; nothing has changed then. */
export function restoreGuestContext(guest: GuestContext, state: PlainState): void {
  const saved = state as PlainRecord;
  for (const [name, value] of Object.entries(guest)) if (!isAlike(value, saved[name])) throw new HostError('BadSnapshot', `security processor: ${name} of the guest is not as saved`);
  Object.assign(guest, saveGuestContext(state as GuestContext));
}

const isAlike = (a: unknown, b: unknown): boolean => {
  if (a instanceof Uint8Array) return b instanceof Uint8Array && a.length === b.length;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((x, i) => isAlike(x, b[i]));
  return typeof a === typeof b;
};
