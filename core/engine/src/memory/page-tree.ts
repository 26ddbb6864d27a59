import { HostError } from '../errors.ts';

/** Guest page numbers are below this: 52-bit addresses. */
export const PAGE_LIMIT = 2 ** 40;

const FAN_OUT = 64;
const LEVELS = 7;
/** Pages under one entry of a node of this level (level 0 is the leaf). */
const ENTRY_SPAN = Float64Array.from({ length: LEVELS }, (_, level) => FAN_OUT ** level);
const PER_ENTRY = Float64Array.from({ length: LEVELS }, (_, level) => 1 / FAN_OUT ** level);

/**
 * A map from every guest page number to a byte, for few or for millions of distinct ranges.
 *
 * A radix tree of 64-entry nodes in two pooled arrays. An entry is a child (its index) or says that everything below has one value
 * (`~value`, negative): a range of any size touches a few nodes per level, and equal neighbours fold back into one entry. The tree is only
 * as high as the highest page that differs from the value outside, so a small guest pays three or four steps per lookup, at most seven.
 */
export class PageTree {
  /** Increases with each update that changed something. */
  generation = 0;
  /** Bits that some page lost in the last update. */
  removed = 0;
  /** Bits that some page gained in the last update. */
  added = 0;

  #nodes = new Int32Array(FAN_OUT * 16);
  #leaves = new Uint8Array(FAN_OUT * 16);
  #nodesUsed = 0;
  #leavesUsed = 0;
  readonly #freeNodes: number[] = [];
  readonly #freeLeaves: number[] = [];
  /** Level of the root; its entry describes pages below `#span`, all others have `#outside`. */
  #height = 0;
  #span = FAN_OUT;
  #root: number;
  #outside: number;
  #keep = 0;
  #bits = 0;
  #blockEnd = 0;

  /** @param value - of all pages, 0..255. */
  constructor(value: number) {
    this.#root = ~value;
    this.#outside = value;
  }

  /** The value of one page. */
  get(gpn: number): number {
    if (gpn >= this.#span) return this.#outside;
    let entry = this.#root;
    for (let level = this.#height; entry >= 0; level--) {
      if (level === 0) return this.#leaves[entry * FAN_OUT + (gpn & 63)]!;
      entry = this.#nodes[entry * FAN_OUT + ((gpn * PER_ENTRY[level]!) & 63)]!;
    }
    return ~entry;
  }

  /** Nodes that {@link get} visits for a page, 0..7: the cost of a lookup without a clock. */
  depth(gpn: number): number {
    if (gpn >= this.#span) return 0;
    let entry = this.#root;
    let visited = 0;
    for (let level = this.#height; entry >= 0; level--) {
      visited++;
      if (level === 0) break;
      entry = this.#nodes[entry * FAN_OUT + ((gpn * PER_ENTRY[level]!) & 63)]!;
    }
    return visited;
  }

  /** Nodes and leaves in use, to see that equal neighbours fold. */
  get size(): number {
    return this.#nodesUsed + this.#leavesUsed - this.#freeNodes.length - this.#freeLeaves.length;
  }

  /** Gives a range one value. @returns whether a page changed. @throws {HostError} BadRange on an empty range or one beyond 2^40 pages. */
  set(first: number, count: number, value: number): boolean {
    return this.update(first, count, 0, value);
  }

  /**
   * Replaces each value v of a range by `(v & keep) | bits`.
   * @returns whether a page changed; `removed` and `added` then say how.
   * @throws {HostError} BadRange on an empty range or one beyond 2^40 pages.
   */
  update(first: number, count: number, keep: number, bits: number): boolean {
    const end = first + count;
    if (!Number.isInteger(first) || !Number.isInteger(count) || first < 0 || count <= 0 || end > PAGE_LIMIT) {
      throw new HostError('BadRange', `pages ${first} to ${end}: empty or beyond the guest physical space`);
    }
    this.removed = 0;
    this.added = 0;
    this.#keep = keep;
    this.#bits = bits;
    // A range to the end of the space is a change of the value outside: the tree need not grow for it.
    const open = end === PAGE_LIMIT;
    while (this.#span < (open ? first : end)) this.#grow();
    if (first < this.#span) this.#root = this.#apply(this.#root, this.#height, 0, first, open ? Infinity : end);
    if (open && this.#span < PAGE_LIMIT) this.#outside = this.#note(this.#outside);
    if (this.#root < 0 && this.#span >= PAGE_LIMIT) this.#outside = ~this.#root;
    if (this.#root === ~this.#outside) {
      this.#height = 0;
      this.#span = FAN_OUT;
    }
    if ((this.removed | this.added) === 0) return false;
    this.generation++;
    return true;
  }

  /** The first page behind `gpn` whose value differs from that of `gpn`; `limit` when there is none before it. */
  runEnd(gpn: number, limit = PAGE_LIMIT): number {
    const value = this.#locate(gpn);
    while (this.#blockEnd < limit) {
      const next = this.#blockEnd;
      if (this.#locate(next) !== value) return next;
    }
    return Math.min(this.#blockEnd, limit);
  }

  /** Calls `visit` for each maximal range of equal value inside a range, in rising order. */
  forEachRange(first: number, count: number, visit: (first: number, count: number, value: number) => void): void {
    const end = first + count;
    for (let at = first; at < end; ) {
      const next = this.runEnd(at, end);
      visit(at, next - at, this.get(at));
      at = next;
    }
  }

  /** The whole map as rows (first page, value), starting with page 0: its canonical form, equal for equal maps. */
  save(): Float64Array {
    const rows: number[] = [];
    this.forEachRange(0, PAGE_LIMIT, (first, _count, value) => rows.push(first, value));
    return Float64Array.from(rows);
  }

  restore(rows: Float64Array): void {
    this.#nodesUsed = this.#leavesUsed = this.#freeNodes.length = this.#freeLeaves.length = 0;
    this.#height = 0;
    this.#span = FAN_OUT;
    // The last row reaches the end of the space: as the outside value it keeps the tree low.
    this.#outside = rows[rows.length - 1]!;
    this.#root = ~this.#outside;
    for (let i = 0; i + 2 < rows.length; i += 2) this.update(rows[i]!, rows[i + 2]! - rows[i]!, 0, rows[i + 1]!);
  }

  /** Value at a page; sets `#blockEnd` behind the equal entries that follow it in the same node. */
  #locate(gpn: number): number {
    if (gpn >= this.#span) {
      this.#blockEnd = PAGE_LIMIT;
      return this.#outside;
    }
    let entry = this.#root;
    let level = this.#height;
    if (entry < 0) {
      this.#blockEnd = this.#span;
      return ~entry;
    }
    while (level > 0) {
      const at = entry * FAN_OUT;
      const index = (gpn * PER_ENTRY[level]!) & 63;
      const child = this.#nodes[at + index]!;
      if (child < 0) {
        let next = index + 1;
        while (next < FAN_OUT && this.#nodes[at + next] === child) next++;
        this.#blockEnd = this.#nodeStart(gpn, level) + next * ENTRY_SPAN[level]!;
        return ~child;
      }
      entry = child;
      level--;
    }
    const at = entry * FAN_OUT;
    const index = gpn & 63;
    const value = this.#leaves[at + index]!;
    let next = index + 1;
    while (next < FAN_OUT && this.#leaves[at + next] === value) next++;
    this.#blockEnd = this.#nodeStart(gpn, 0) + next;
    return value;
  }

  #nodeStart(gpn: number, level: number): number {
    const span = ENTRY_SPAN[level]! * FAN_OUT;
    return Math.floor(gpn / span) * span;
  }

  #grow(): void {
    if (this.#root !== ~this.#outside) {
      const node = this.#newNode(~this.#outside);
      this.#nodes[node * FAN_OUT] = this.#root;
      this.#root = node;
    }
    this.#height++;
    this.#span *= FAN_OUT;
  }

  /** Updates the part of a subtree that lies in [first, end). @returns its new entry. */
  #apply(entry: number, level: number, base: number, first: number, end: number): number {
    const step = ENTRY_SPAN[level]!;
    let node = entry;
    if (entry < 0) {
      const value = this.#note(~entry);
      if (first <= base && base + step * FAN_OUT <= end) return ~value;
      if (value === ~entry) return entry;
      node = level === 0 ? this.#newLeaf(~entry) : this.#newNode(entry);
    }
    const from = first <= base ? 0 : Math.floor((first - base) / step);
    const to = end >= base + step * FAN_OUT ? FAN_OUT : Math.ceil((end - base) / step);
    const at = node * FAN_OUT;
    if (level === 0) {
      const leaves = this.#leaves;
      for (let i = from; i < to; i++) leaves[at + i] = this.#note(leaves[at + i]!);
      const value = leaves[at]!;
      for (let i = 1; i < FAN_OUT; i++) if (leaves[at + i] !== value) return node;
      this.#freeLeaves.push(node);
      return ~value;
    }
    for (let i = from; i < to; i++) {
      const child = this.#apply(this.#nodes[at + i]!, level - 1, base + i * step, first, end);
      this.#nodes[at + i] = child;
    }
    const child = this.#nodes[at]!;
    if (child >= 0) return node;
    for (let i = 1; i < FAN_OUT; i++) if (this.#nodes[at + i] !== child) return node;
    this.#freeNodes.push(node);
    return child;
  }

  #note(old: number): number {
    const value = (old & this.#keep) | this.#bits;
    this.removed |= old & ~value;
    this.added |= value & ~old;
    return value;
  }

  #newNode(entry: number): number {
    const node = this.#freeNodes.pop() ?? this.#nodesUsed++;
    const end = (node + 1) * FAN_OUT;
    if (end > this.#nodes.length) {
      const larger = new Int32Array(this.#nodes.length * 2);
      larger.set(this.#nodes);
      this.#nodes = larger;
    }
    this.#nodes.fill(entry, end - FAN_OUT, end);
    return node;
  }

  #newLeaf(value: number): number {
    const leaf = this.#freeLeaves.pop() ?? this.#leavesUsed++;
    const end = (leaf + 1) * FAN_OUT;
    if (end > this.#leaves.length) {
      const larger = new Uint8Array(this.#leaves.length * 2);
      larger.set(this.#leaves);
      this.#leaves = larger;
    }
    this.#leaves.fill(value, end - FAN_OUT, end);
    return leaf;
  }
}
