import { hkdfSync } from 'node:crypto';

const NO_SALT = new Uint8Array(0);

/**
 * Bytes that follow from a secret and what they are for.
 * @param purpose - text that no other use has.
 * @spec RFC 5869 with SHA-384
 */
export const derive = (secret: Uint8Array, purpose: string, length: number, context: Uint8Array = NO_SALT): Uint8Array =>
  new Uint8Array(hkdfSync('sha384', secret, NO_SALT, Uint8Array.of(...new TextEncoder().encode(purpose), 0, ...context), length));
