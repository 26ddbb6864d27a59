import { Vmsa } from '@vmplanes/abi-sev-snp';
import type { Accessor, Arena } from '@vmplanes/engine';

/** Bytes of a save area that an entry may look at, and one bit for each eight of them. */
const BYTES = Vmsa.at.lbrStack;
const WORDS = BYTES / 8;
const BITMAP = Math.ceil(WORDS / 8);

/**
 * What software wrote into a save area since its processor left is input of a run, as what a call reads is: a replay has no software that writes it. While a
 * trace is recorded or replayed each entry tells which words changed, a bit for each, and then each of them.
 */
export class TracedArea {
  /** The area as the processor left it; null before. */
  #left: Uint8Array | null = null;
  readonly #bitmap = new Uint8Array(BITMAP);
  readonly #word = new Uint8Array(8);

  /** The processor left the area. */
  left(arena: Arena, page: number): void {
    (this.#left ??= new Uint8Array(BYTES)).set(arena.u8.subarray(page, page + BYTES));
  }

  /** The area of another page begins anew. */
  forget(): void {
    this.#left = null;
  }

  /** An entry is about to look at the area. @param gpa - of the area. */
  entering(arena: Arena, page: number, { onCallRead }: Accessor, plane: number, gpa: number): void {
    if (onCallRead === null) return;
    const { u8 } = arena;
    const bitmap = this.#bitmap.fill(0);
    for (let i = 0; i < BYTES; i++) if (u8[page + i] !== (this.#left?.[i] ?? 0)) bitmap[i >>> 6]! |= 1 << ((i >>> 3) & 7);
    onCallRead(plane, gpa, bitmap, 0, BITMAP);
    for (let w = 0; w < WORDS; w++) {
      if ((bitmap[w >>> 3]! & (1 << (w & 7))) === 0) continue;
      const at = page + 8 * w;
      this.#word.set(u8.subarray(at, at + 8));
      onCallRead(plane, gpa + 8 * w, this.#word, 0, 8);
      u8.set(this.#word, at);
    }
  }
}
