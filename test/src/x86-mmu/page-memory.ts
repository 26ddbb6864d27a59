import { type Access, type PageTableMemory, TableStatus } from '@vmplanes/x86';

/** Page tables for tests: what was put, else what `background` says (zero by default). All values as bigint; keyed by GPA. */
export class PageMemory implements PageTableMemory {
  lo = 0;
  hi = 0;
  readonly written = new Map<number, bigint>();
  /** Refusal code of an operation, or 0: 'read' and 'write' of entries, 'leaf' for the access itself. */
  refuse: (operation: 'read' | 'write' | 'leaf', gpa: number) => number = () => TableStatus.Ok;
  /** Runs before each compare-and-swap, so that a test can change the entry under it. */
  beforeSwap: (gpa: number) => void = () => {};
  readonly leaves: { gpa: number; access: Access; userPage: boolean }[] = [];
  /** Whether each leaf was marked. */
  readonly marks: boolean[] = [];

  constructor(readonly background: (gpa: number, bytes: number) => bigint = () => 0n) {}

  put(gpa: number, value: bigint): this {
    this.written.set(gpa, value);
    return this;
  }
  at(gpa: number, bytes = 8): bigint {
    return this.written.get(gpa) ?? this.background(gpa, bytes);
  }
  read(gpa: number, bytes: number): number {
    const status = this.refuse('read', gpa);
    if (status !== TableStatus.Ok) return status;
    checkEntry(gpa, bytes);
    const value = BigInt.asUintN(bytes * 8, this.at(gpa, bytes));
    // Signed halves on purpose: the walker must not depend on the sign.
    this.lo = Number(BigInt.asIntN(32, value));
    this.hi = Number(BigInt.asIntN(32, value >> 32n));
    return TableStatus.Ok;
  }
  compareAndSwap(gpa: number, bytes: number, oldLo: number, oldHi: number, newLo: number, newHi: number): number {
    checkEntry(gpa, bytes);
    this.beforeSwap(gpa);
    const status = this.refuse('write', gpa);
    if (status !== TableStatus.Ok) return status;
    const join = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
    if (this.at(gpa, bytes) !== join(oldLo, oldHi)) return TableStatus.Changed;
    this.written.set(gpa, join(newLo, newHi));
    return TableStatus.Ok;
  }
  leaf(gpa: number, access: Access, userPage: boolean, marked: boolean): number {
    this.marks.push(marked);
    this.leaves.push({ gpa, access, userPage });
    return this.refuse('leaf', gpa);
  }
}

/** Entries are 4 or 8 bytes at an address of their own size. */
function checkEntry(gpa: number, bytes: number): void {
  if ((bytes !== 4 && bytes !== 8) || gpa % bytes !== 0) throw new Error(`an entry of ${bytes} bytes at ${gpa}`);
}
