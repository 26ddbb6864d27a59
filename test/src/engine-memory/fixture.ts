import { Arena, GuestMemory, type GuestMemoryConfig } from '@vmplanes/engine';

export const PAGE = 4096;

/** Guest memory over an arena of its own, with frames that start behind some other data and hold old bytes. */
export const memoryOf = (config: Partial<GuestMemoryConfig> = {}): { arena: Arena; memory: GuestMemory } => {
  const frames = config.frames ?? 64;
  const arena = new Arena(new ArrayBuffer((frames + 3) * PAGE));
  arena.u8.fill(0xee);
  return { arena, memory: new GuestMemory(arena, { firstByte: 2 * PAGE, frames, maxPlanes: 4, ...config }) };
};

export const bytesOf = (...values: number[]): Uint8Array => Uint8Array.from(values);
export const pattern = (length: number, from = 1): Uint8Array => Uint8Array.from({ length }, (_, i) => (from + i) & 0xff);
