import { CURVE_P384, ECC_NUMBER_BYTES, EcdsaPublicKey, EcdsaSignature } from '@vmplanes/abi-sev-snp';
import { p384 } from '@noble/curves/nist.js';

/** Bytes of a number of P-384, and of the seed of a key. */
const NUMBER_BYTES = 48;
export const KEY_SEED_BYTES = 72;

/** A key on P-384. */
export interface KeyPair {
  readonly secret: Uint8Array;
  /** X, then Y, big endian. */
  readonly point: Uint8Array;
}

/** The key that a seed of {@link KEY_SEED_BYTES} bytes gives. */
export function keyPairOf(seed: Uint8Array): KeyPair {
  const { secretKey } = p384.keygen(seed);
  return { secret: secretKey, point: p384.getPublicKey(secretKey, false).subarray(1) };
}

/** A big-endian number of the curve as the firmware writes it. */
const toNumber = (value: Uint8Array): Uint8Array => {
  const out = new Uint8Array(ECC_NUMBER_BYTES);
  out.set(value.toReversed());
  return out;
};
/** Back to big endian. @returns null when it is longer than a number of the curve. */
const fromNumber = (value: Uint8Array): Uint8Array | null => (value.subarray(NUMBER_BYTES).every((b) => b === 0) ? value.slice(0, NUMBER_BYTES).reverse() : null);

/** Signs with SHA-384, always the same for the same message, in DER as certificates have it. @spec RFC 6979; RFC 5480 */
export const signDer = (message: Uint8Array, key: KeyPair): Uint8Array => p384.sign(message, key.secret, { format: 'der', lowS: false });

/** Signs with SHA-384, always the same for the same message. @returns an EcdsaSignature. @spec RFC 6979 */
export function signStructure(message: Uint8Array, key: KeyPair): Uint8Array {
  const signature = p384.sign(message, key.secret, { lowS: false });
  const out = new Uint8Array(EcdsaSignature.size);
  EcdsaSignature.write(new DataView(out.buffer), 0, { r: toNumber(signature.subarray(0, NUMBER_BYTES)), s: toNumber(signature.subarray(NUMBER_BYTES)) });
  return out;
}

/** A public key as an EcdsaPublicKey. */
export function publicKeyStructure(key: KeyPair): Uint8Array {
  const out = new Uint8Array(EcdsaPublicKey.size);
  EcdsaPublicKey.write(new DataView(out.buffer), 0, { curve: CURVE_P384, qx: toNumber(key.point.subarray(0, NUMBER_BYTES)), qy: toNumber(key.point.subarray(NUMBER_BYTES)) });
  return out;
}

/** Checks an EcdsaSignature under an EcdsaPublicKey. Whatever the bytes are, the answer is yes or no. */
export function verifyStructure(message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean {
  const key = EcdsaPublicKey.read(new DataView(publicKey.buffer, publicKey.byteOffset), 0);
  const { r, s } = EcdsaSignature.read(new DataView(signature.buffer, signature.byteOffset), 0);
  const parts = [r, s, key.qx, key.qy].map(fromNumber);
  if (key.curve !== CURVE_P384 || parts.includes(null)) return false;
  const [rBytes, sBytes, x, y] = parts as Uint8Array[];
  const point = Uint8Array.of(4, ...x!, ...y!);
  try {
    return p384.verify(Uint8Array.of(...rBytes!, ...sBytes!), message, point, { lowS: false });
  } catch {
    // The library refuses numbers out of range and points that are not on the curve by throwing.
    return false;
  }
}
