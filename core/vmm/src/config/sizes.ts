import { HostError } from '@vmplanes/engine';

/** What a memory size may look like in a configuration: digits and one of the binary units. */
export const MEMORY_SIZE_PATTERN = /^([1-9][0-9]*)(KiB|MiB|GiB)$/;

const unitBytes = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 } as const;

/**
 * Bytes of a memory size as a configuration writes it.
 * @param size - bytes, or a text such as `16MiB`.
 * @throws {HostError} BadConfig when it is not such a text.
 */
export function memoryBytesOf(size: number | string): number {
  if (typeof size === 'number') return size;
  const found = MEMORY_SIZE_PATTERN.exec(size);
  if (!found) throw new HostError('BadConfig', `memory: '${size}' is not a size`, { path: 'memory', fix: 'write bytes as a number, or a text such as "16MiB"' });
  return Number(found[1]) * unitBytes[found[2] as keyof typeof unitBytes];
}
