import { bytes, struct, u32 } from '@vmplanes/binary';

/** The one signature algorithm: ECDSA on P-384 with SHA-384. @spec SNP ABI, signature algorithms */
export const ALGO_ECDSA_P384_SHA384 = 1;
/** The curve number of P-384. @spec SNP ABI, ECC curve identifiers */
export const CURVE_P384 = 2;
/** Bytes of one number of a signature or key, little endian. P-384 uses 48 of them. */
export const ECC_NUMBER_BYTES = 72;

/** A signature: two little-endian numbers. @spec SNP ABI, ECDSA P-384 with SHA-384 signature */
export const EcdsaSignature = struct('EcdsaSignature', 'SNP ABI, format for an ECDSA P-384 with SHA-384 signature', 512, {
  r: [0x00, bytes(ECC_NUMBER_BYTES), 'little endian'],
  s: [0x48, bytes(ECC_NUMBER_BYTES), 'little endian'],
  reserved90: [0x90, bytes(368)],
});

/** A public key. @spec SNP ABI, ECDSA P-384 public key */
export const EcdsaPublicKey = struct('EcdsaPublicKey', 'SNP ABI, format for an ECDSA P-384 public key', 1028, {
  curve: [0x00, u32, '2: P-384'],
  qx: [0x04, bytes(ECC_NUMBER_BYTES), 'little endian'],
  qy: [0x4c, bytes(ECC_NUMBER_BYTES), 'little endian'],
  reserved94: [0x94, bytes(880)],
});
