import type { Arena } from './arena.ts';
import type { Sharing } from './context-layout.ts';

/** Longest range copied word by word; measured faster than a block copy up to about here. */
const WORD_LOOP_LIMIT = 48;

/**
 * Moves the shared registers of a VP from one plane's block to another's. This is all that a switch copies: everything
 * else a plane owns stays in its block.
 * @param from - byte offset of the block that is left.
 * @param to - byte offset of the block that is entered.
 */
export const copyShared = (arena: Arena, sharing: Sharing, from: number, to: number): void => {
  const { ranges } = sharing;
  const words = arena.i32;
  const source = from >> 2;
  const target = to >> 2;
  for (let i = 0; i < ranges.length; i += 2) {
    const first = ranges[i]!;
    const count = ranges[i + 1]!;
    if (count <= WORD_LOOP_LIMIT) {
      for (let w = first; w < first + count; w++) words[target + w] = words[source + w]!;
    } else {
      words.copyWithin(target + first, source + first, source + first + count);
    }
  }
};
