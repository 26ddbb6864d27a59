const TEXT = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/;
/** Offsets of the text's bytes: the first three groups are little endian. @spec RFC 4122 appendix; UEFI 2.10, appendix A */
const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

/** Bytes of a GUID in the order of memory. @throws {RangeError} when the text is no GUID in lower case. */
export function guidBytes(text: string): Uint8Array {
  if (!TEXT.test(text)) throw new RangeError(`'${text}': not a GUID in lower case`);
  const plain = text.replaceAll('-', '');
  return Uint8Array.from(order, (at) => Number.parseInt(plain.slice(at * 2, at * 2 + 2), 16));
}

/** A GUID in memory as text. @param bytes - 16 bytes. */
export function guidText(bytes: Uint8Array): string {
  const hex = order.map((at) => bytes[at]!.toString(16).padStart(2, '0')).join('');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
