import { bytes, struct, u32, u64 } from '@vmplanes/binary';
import { EcdsaPublicKey, EcdsaSignature } from './signature.ts';

/** What the owner of a guest expects of its launch. @spec SNP ABI, ID block */
export const IdBlock = struct('IdBlock', 'SNP ABI, structure of the ID block', 96, {
  launchDigest: [0x00, bytes(48), 'expected'],
  familyId: [0x30, bytes(16)],
  imageId: [0x40, bytes(16)],
  version: [0x50, u32, '1'],
  guestSvn: [0x54, u32, 'security version of the guest'],
  policy: [0x58, u64, 'GuestPolicy'],
});

/** The one version of the ID block. */
export const ID_BLOCK_VERSION = 1;

/** Who vouches for an ID block. @spec SNP ABI, ID authentication information */
export const IdAuth = struct('IdAuth', 'SNP ABI, structure of the ID authentication information', 4096, {
  idKeyAlgo: [0x000, u32, '1: ECDSA P-384 with SHA-384'],
  authorKeyAlgo: [0x004, u32, 'the same'],
  reserved008: [0x008, bytes(56)],
  idBlockSignature: [0x040, EcdsaSignature, 'of the ID block by the ID key'],
  idKey: [0x240, EcdsaPublicKey],
  reserved644: [0x644, bytes(60)],
  idKeySignature: [0x680, EcdsaSignature, 'of the ID key by the author key'],
  authorKey: [0x880, EcdsaPublicKey],
  reservedC84: [0xc84, bytes(0x37c)],
});
