/**
 * The seeded source of every random choice of a machine: xorshift128 over 32-bit words.
 * @spec G. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8 (14), 2003
 */
export class Random {
  readonly #s = new Uint32Array(4);

  constructor(seed: number) {
    // Spread the seed so that near seeds start apart and the state is never all zero.
    let x = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      x = (Math.imul(x ^ (x >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
      this.#s[i] = x | (i === 3 ? 1 : 0);
    }
  }

  /** @returns 32 random bits as an unsigned number. */
  next(): number {
    const s = this.#s;
    let t = s[3]!;
    t ^= t << 11;
    t ^= t >>> 8;
    s[3] = s[2]!;
    s[2] = s[1]!;
    const top = s[0]!;
    s[1] = top;
    s[0] = t ^ top ^ (top >>> 19);
    return s[0]!;
  }

  /** @returns an integer in 0..n-1. */
  below(n: number): number {
    return Math.floor((this.next() / 2 ** 32) * n);
  }

  save(): Uint32Array {
    return this.#s.slice();
  }
  restore(state: Uint32Array): void {
    this.#s.set(state);
  }
}
