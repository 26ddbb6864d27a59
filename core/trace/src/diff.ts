import { compareRecords, type FieldDifference, sameRecord } from './compare.ts';
import type { Trace, TraceHeader, TraceRecord } from './format.ts';
import { canonical } from './digest.ts';
import type { Json } from './plain.ts';
import { sameStep, type SemanticOptions, type SemanticStep, semanticTrace } from './semantic.ts';

/** One difference of two aligned sequences: only in one of them, or in both but not equal. */
export interface DiffRow<T> {
  readonly vp: number;
  readonly a: T | null;
  readonly b: T | null;
  /** For records in both: the fields that differ. */
  readonly fields: readonly FieldDifference[];
}

/** All differences of two traces. */
export interface TraceDiff<T> {
  /** Header fields that differ, by name; not looked at in a semantic comparison. */
  readonly header: readonly FieldDifference[];
  readonly rows: readonly DiffRow<T>[];
  /** Pairs that are equal. */
  readonly equal: number;
}

/** How far the two sequences may be apart at one place before they are taken as different from there pair by pair. */
const WINDOW = 64;

/**
 * Aligns two sequences: equal pairs stay together; at a difference the nearest place at which both go on alike is taken.
 * Linear in the length for sequences that are alike.
 * @param alike - the pair is the same thing, maybe with other values. @param same - the pair is equal.
 */
const align = <T>(a: readonly T[], b: readonly T[], alike: (x: T, y: T) => boolean, same: (x: T, y: T) => boolean, visit: (x: T | null, y: T | null) => void): void => {
  const goOn = (i: number, j: number): boolean => {
    const [x, y] = [a[i], b[j]];
    if (x === undefined || y === undefined) return i >= a.length && j >= b.length;
    return same(x, y);
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    const [x, y] = [a[i], b[j]];
    if (x !== undefined && y !== undefined && same(x, y)) {
      visit(x, y);
      i++;
      j++;
      continue;
    }
    let skipA = -1;
    let skipB = -1;
    // One changed value in place costs a pair; so does one element on either side.
    search: for (let distance = 1; distance <= WINDOW; distance++) {
      if (x !== undefined && y !== undefined && distance === 1 && alike(x, y) && goOn(i + 1, j + 1)) break;
      for (let s = 0; s <= distance; s++) {
        if (i + s > a.length || j + distance - s > b.length || !goOn(i + s, j + distance - s)) continue;
        skipA = s;
        skipB = distance - s;
        break search;
      }
    }
    if (skipA < 0 && x !== undefined && y !== undefined && alike(x, y)) {
      visit(x, y);
      i++;
      j++;
      continue;
    }
    if (skipA < 0) [skipA, skipB] = [x === undefined ? 0 : 1, y === undefined ? 0 : 1];
    for (let s = 0; s < skipA; s++) visit(a[i++] as T, null);
    for (let s = 0; s < skipB; s++) visit(null, b[j++] as T);
  }
};

const perVp = (trace: Trace): ReadonlyMap<number, readonly TraceRecord[]> => {
  const found = new Map<number, TraceRecord[]>();
  for (const r of trace.records) {
    const list = found.get(r.v) ?? [];
    found.set(r.v, list);
    list.push(r);
  }
  return found;
};

const vpsOf = (...maps: readonly ReadonlyMap<number, unknown>[]): readonly number[] => [...new Set(maps.flatMap((m) => [...m.keys()]))].sort((x, y) => x - y);

const headerDiff = (a: TraceHeader, b: TraceHeader): readonly FieldDifference[] => {
  const [x, y]: readonly Readonly<Record<string, Json>>[] = [a, b];
  return Object.keys(a)
    .filter((f) => f !== 'h')
    .map((field) => ({ field, expected: canonical(x?.[field] ?? null), actual: canonical(y?.[field] ?? null) }))
    .filter((d) => d.expected !== d.actual);
};

/** All differences of two traces, every field counted, aligned per VP. */
export const diffTraces = (a: Trace, b: Trace): TraceDiff<TraceRecord> => {
  const [left, right] = [perVp(a), perVp(b)];
  const rows: DiffRow<TraceRecord>[] = [];
  let equal = 0;
  const alike = (x: TraceRecord, y: TraceRecord): boolean => x.k === y.k && x.p === y.p;
  for (const vp of vpsOf(left, right)) {
    align(left.get(vp) ?? [], right.get(vp) ?? [], alike, sameRecord, (x, y) => {
      const fields = x !== null && y !== null ? compareRecords(x, y).differences : [];
      if (x !== null && y !== null && fields.length === 0) equal++;
      else rows.push({ vp, a: x, b: y, fields });
    });
  }
  return { header: headerDiff(a.header, b.header), rows, equal };
};

/** All differences in the meaning of two traces, aligned per VP. */
export const diffSemantic = (a: Trace, b: Trace, options: SemanticOptions = {}): TraceDiff<SemanticStep> => {
  const [left, right] = [semanticTrace(a, options), semanticTrace(b, options)];
  const rows: DiffRow<SemanticStep>[] = [];
  let equal = 0;
  for (const vp of vpsOf(left, right)) {
    align(left.get(vp) ?? [], right.get(vp) ?? [], (x, y) => x.what === y.what && x.plane === y.plane, sameStep, (x, y) => {
      if (x !== null && y !== null && sameStep(x, y)) equal++;
      else rows.push({ vp, a: x, b: y, fields: [] });
    });
  }
  return { header: [], rows, equal };
};
