/**
 * Draws some of a list, the same ones for the same seed.
 * @param seed - a whole number.
 */
export function sampleOf<T>(list: readonly T[], size: number, seed: number): readonly T[] {
  const pool = [...list];
  let state = seed >>> 0;
  const random = (): number => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const drawn: T[] = [];
  while (drawn.length < size && pool.length > 0) drawn.push(pool.splice(Math.floor(random() * pool.length), 1)[0]!);
  return drawn;
}
