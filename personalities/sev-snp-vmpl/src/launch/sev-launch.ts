import { createHash, createHmac } from 'node:crypto';

/** Versions that a measurement names. */
export interface SevApiVersion {
  readonly major: number;
  readonly minor: number;
  readonly build: number;
}

/** First byte of what LAUNCH_MEASURE signs. */
const MEASURE_CONTEXT = 0x04;

/**
 * The launch digest of SEV and SEV-ES guests: contents alone, without addresses.
 * @param parts - in the order they are handed in: firmware, a table of hashes, the VMSA of each VP.
 * @spec SEV API, LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA
 */
export const sevLaunchDigest = (parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest());

/**
 * What LAUNCH_MEASURE gives the owner of a guest.
 * @param key - integrity key of the transport, 16 bytes. @param nonce - 16 bytes.
 * @spec SEV API, LAUNCH_MEASURE
 */
export function sevMeasurement(key: Uint8Array, { major, minor, build }: SevApiVersion, policy: number, digest: Uint8Array, nonce: Uint8Array): Uint8Array {
  const head = new Uint8Array(8);
  head.set([MEASURE_CONTEXT, major, minor, build]);
  new DataView(head.buffer).setUint32(4, policy, true);
  return new Uint8Array(createHmac('sha256', key).update(head).update(digest).update(nonce).digest());
}
