import { ALGO_ECDSA_P384_SHA384, EcdsaPublicKey, EcdsaSignature, FirmwareStatus, ID_BLOCK_VERSION, IdAuth, IdBlock } from '@vmplanes/abi-sev-snp';
import { createHash } from 'node:crypto';
import { verifyStructure } from '../psp/ecdsa.ts';
import type { GuestContext } from '../psp/guest-context.ts';

/** What the owner of a guest hands in with the last command of a launch. */
export interface Identity {
  /** An IdBlock, as stored. */
  readonly block: Uint8Array;
  /** An IdAuth, as stored. */
  readonly auth: Uint8Array;
  /** The author key counts, too. */
  readonly hasAuthorKey: boolean;
}

const part = (bytes: Uint8Array, at: number, size: number): Uint8Array => bytes.subarray(at, at + size);
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const isEqual = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((x, i) => x === b[i]);
const sha384 = (data: Uint8Array): Uint8Array => new Uint8Array(createHash('sha384').update(data).digest());

/**
 * Checks an identity against what was launched, in this order: versions and algorithms, measurement, policy, signature of the block, signature of its key. Where all hold,
 * the guest takes it; otherwise nothing has changed.
 * @spec SNP ABI, SNP_LAUNCH_FINISH
 */
export function takeIdentity(guest: GuestContext, { block, auth, hasAuthorKey }: Identity): FirmwareStatus {
  if (block.length !== IdBlock.size || auth.length !== IdAuth.size) return FirmwareStatus.InvalidParam;
  const given = IdBlock.read(viewOf(block), 0);
  const { idKeyAlgo, authorKeyAlgo } = IdAuth.read(viewOf(auth), 0);
  if (given.version !== ID_BLOCK_VERSION || idKeyAlgo !== ALGO_ECDSA_P384_SHA384 || (hasAuthorKey && authorKeyAlgo !== ALGO_ECDSA_P384_SHA384)) return FirmwareStatus.InvalidParam;
  if (!isEqual(given.launchDigest, guest.digest)) return FirmwareStatus.BadMeasurement;
  if (given.policy !== guest.policy) return FirmwareStatus.PolicyFailure;
  const { at } = IdAuth;
  const idKey = part(auth, at.idKey, EcdsaPublicKey.size);
  const authorKey = part(auth, at.authorKey, EcdsaPublicKey.size);
  if (!verifyStructure(block, part(auth, at.idBlockSignature, EcdsaSignature.size), idKey)) return FirmwareStatus.BadSignature;
  if (hasAuthorKey && !verifyStructure(idKey, part(auth, at.idKeySignature, EcdsaSignature.size), authorKey)) return FirmwareStatus.BadSignature;
  guest.familyId = given.familyId;
  guest.imageId = given.imageId;
  guest.guestSvn = given.guestSvn;
  guest.hasAuthorKey = hasAuthorKey;
  guest.idKeyDigest = sha384(idKey);
  if (hasAuthorKey) guest.authorKeyDigest = sha384(authorKey);
  return FirmwareStatus.Success;
}
