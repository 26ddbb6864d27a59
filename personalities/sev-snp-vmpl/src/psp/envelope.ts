import { AEAD_AES_256_GCM, FirmwareStatus, MESSAGE_AAD, MESSAGE_HEADER_VERSION, MESSAGE_PAYLOAD_MAX, MESSAGE_TAG_BYTES, MessageHeader, VMPCK_COUNT } from '@vmplanes/abi-sev-snp';
import { createCipheriv, createDecipheriv } from 'node:crypto';

/** A message page, and thus the longest message with its header. */
export const MESSAGE_PAGE_BYTES = 4096;
const PAYLOAD = MessageHeader.size;
const IV_BYTES = 12;
const LAST_SEQUENCE = 2n ** 64n - 1n;

/** A request that was authenticated. */
export interface Opened {
  readonly type: number;
  readonly version: number;
  /** Which message key, hence the most privileged VMPL that may have sent it. */
  readonly vmpck: number;
  readonly sequence: bigint;
  readonly payload: Uint8Array;
}

/** Sequence number, little endian, then zeroes. */
const ivOf = (sequence: bigint): Uint8Array => {
  const iv = new Uint8Array(IV_BYTES);
  new DataView(iv.buffer).setBigUint64(0, sequence, true);
  return iv;
};

const isZero = (bytes: Uint8Array): boolean => bytes.every((b) => b === 0);

/** Encrypts a payload into a message page; what lies behind it in the page becomes zero. */
export function sealMessage(page: Uint8Array, key: Uint8Array, { type, version, vmpck, sequence, payload }: Opened): void {
  page.fill(0);
  MessageHeader.write(new DataView(page.buffer, page.byteOffset), 0, {
    authTag: new Uint8Array(32), sequence, algo: AEAD_AES_256_GCM, headerVersion: MESSAGE_HEADER_VERSION, headerSize: MessageHeader.size, type, version, size: payload.length, vmpck,
  });
  const cipher = createCipheriv('aes-256-gcm', key, ivOf(sequence));
  cipher.setAAD(page.subarray(MESSAGE_AAD.start, MESSAGE_AAD.end));
  page.set(cipher.update(payload), PAYLOAD);
  cipher.final();
  page.set(cipher.getAuthTag(), 0);
}

/**
 * Checks and decrypts a request, in this order: header, key number, sequence number, authentication.
 * @param page - 4096 bytes, copied from the guest before: nothing changes them meanwhile.
 * @param sequences - the last sequence number of each key.
 * @returns the request, or the status of the command. Nothing has changed then.
 * @spec SNP ABI, SNP_GUEST_REQUEST
 */
export function openMessage(page: Uint8Array, keys: readonly Uint8Array[], sequences: readonly bigint[]): Opened | FirmwareStatus {
  const header = MessageHeader.read(new DataView(page.buffer, page.byteOffset), 0);
  const { type, version, vmpck, sequence, size } = header;
  const isWellFormed =
    header.algo === AEAD_AES_256_GCM && header.headerVersion === MESSAGE_HEADER_VERSION && header.headerSize === MessageHeader.size && size > 0 && size <= MESSAGE_PAYLOAD_MAX &&
    vmpck < VMPCK_COUNT && header.reserved38 === 0 && isZero(header.reserved28) && isZero(header.reserved3d);
  if (!isWellFormed) return FirmwareStatus.InvalidParam;
  const last = sequences[vmpck]!;
  // The response needs a number, too.
  if (last + 2n > LAST_SEQUENCE) return FirmwareStatus.AeadOverflow;
  if (sequence !== last + 1n) return FirmwareStatus.InvalidParam;
  const decipher = createDecipheriv('aes-256-gcm', keys[vmpck]!, ivOf(sequence), { authTagLength: MESSAGE_TAG_BYTES });
  decipher.setAAD(page.subarray(MESSAGE_AAD.start, MESSAGE_AAD.end));
  decipher.setAuthTag(header.authTag.subarray(0, MESSAGE_TAG_BYTES));
  const payload = new Uint8Array(decipher.update(page.subarray(PAYLOAD, PAYLOAD + size)));
  try {
    decipher.final();
  } catch {
    return FirmwareStatus.InvalidKey;
  }
  return { type, version, vmpck, sequence, payload };
}
