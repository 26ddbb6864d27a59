/**
 * Events one VP sends to others during its slice, kept until the slice ends so that their order does not depend on
 * how the slices were cut. Rows of four numbers; grows, never shrinks, no allocation once it is warm.
 */
export class Outbox {
  #rows = new Float64Array(64);
  #length = 0;

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  push(vp: number, plane: number, code: number, argument: number): void {
    if (this.#length + 4 > this.#rows.length) {
      const larger = new Float64Array(this.#rows.length * 2);
      larger.set(this.#rows);
      this.#rows = larger;
    }
    this.#rows[this.#length++] = vp;
    this.#rows[this.#length++] = plane;
    this.#rows[this.#length++] = code;
    this.#rows[this.#length++] = argument;
  }

  /** Hands every row to `deliver` in the order sent and empties the box. */
  flush(deliver: (vp: number, plane: number, code: number, argument: number) => void): void {
    for (let i = 0; i < this.#length; i += 4) deliver(this.#rows[i]!, this.#rows[i + 1]!, this.#rows[i + 2]!, this.#rows[i + 3]!);
    this.#length = 0;
  }

  /** Drops what was sent to a VP. */
  discard(vp: number): void {
    let kept = 0;
    for (let i = 0; i < this.#length; i += 4) {
      if (this.#rows[i] === vp) continue;
      this.#rows.copyWithin(kept, i, i + 4);
      kept += 4;
    }
    this.#length = kept;
  }

  save(): Float64Array {
    return this.#rows.slice(0, this.#length);
  }
  restore(state: Float64Array): void {
    this.#length = 0;
    for (let i = 0; i + 3 < state.length; i += 4) this.push(state[i]!, state[i + 1]!, state[i + 2]!, state[i + 3]!);
  }
}
