import type { Trace, TraceRecord } from './format.ts';
import { UNDEFINED_NOTE } from './open-values.ts';
import { encodePlain, isRecord, isUnknown, type Json, type JsonRecord } from './plain.ts';

/** What happened, without when: one step of a semantic trace. `seq` is the record it comes from and is not compared. */
export type SemanticStep = { readonly seq: number; readonly plane: number } & (
  | { readonly what: 'call'; readonly exit: string; readonly key: number }
  | { readonly what: 'fault'; readonly code: Json; readonly errorCode: Json }
  | { readonly what: 'switch'; readonly from: number; readonly to: number; readonly reason: string }
  | { readonly what: 'interrupt'; readonly maskable: boolean }
  | { readonly what: 'permission'; readonly of: number; readonly gpn: number; readonly count: number; readonly rights: number }
  | { readonly what: 'note'; readonly name: string; readonly data: Json }
);

/** What counts as meaning. */
export interface SemanticOptions {
  /** Kinds of exits that are calls; default `call`. */
  readonly calls?: readonly string[];
  /** Keys of note data that are left out at any depth; default `time`, `rip` and `bytes`. */
  readonly withoutKeys?: readonly string[];
  /** Notes that are left out; `undefined` always is. */
  readonly withoutNotes?: readonly string[];
}

const without = (data: Json, keys: readonly string[]): Json => {
  if (Array.isArray(data)) return (data as readonly Json[]).map((v) => without(v, keys));
  if (!isRecord(data)) return data;
  return Object.fromEntries(
    Object.entries(data)
      .filter(([k]) => !keys.includes(k))
      .map(([k, v]) => [k, without(v, keys)]),
  );
};

const stepOf = (r: TraceRecord, options: SemanticOptions): SemanticStep | null => {
  const at = { seq: r.s, plane: r.p };
  switch (r.k) {
    case 'exit':
      return (options.calls ?? ['call']).includes(r.x) ? { ...at, what: 'call', exit: r.x, key: r.key } : null;
    case 'answer':
      return r.a === 'fault' ? { ...at, what: 'fault', code: r.f['code'] ?? null, errorCode: r.f['errorCode'] ?? null } : null;
    case 'switch':
      return { ...at, what: 'switch', from: r.from, to: r.to, reason: r.why };
    case 'event':
      return { ...at, what: 'interrupt', maskable: r.m };
    case 'permission':
      return { ...at, what: 'permission', of: r.of, gpn: r.gpn, count: r.count, rights: r.rights };
    case 'note':
      if (r.name === UNDEFINED_NOTE || options.withoutNotes?.includes(r.name)) return null;
      return { ...at, what: 'note', name: r.name, data: without(r.d, options.withoutKeys ?? ['time', 'rip', 'bytes']) };
    case 'enter':
    case 'vmexit':
    case 'input':
    case 'read':
    case 'write':
    case 'end':
      return null;
  }
};

/**
 * The meaning of a trace: per VP the ordered sequence of calls, statuses and messages (notes), faults, switches with
 * reasons, accepted interrupts and permission changes. Time, registers, instruction pointers, exits that are no calls
 * and the VMM's part are not in it. What belongs to no VP is under -1.
 */
export const semanticTrace = (trace: Trace, options: SemanticOptions = {}): ReadonlyMap<number, readonly SemanticStep[]> => {
  const steps = new Map<number, SemanticStep[]>();
  for (const r of trace.records) {
    const step = stepOf(r, options);
    if (step === null) continue;
    const list = steps.get(r.v) ?? [];
    steps.set(r.v, list);
    list.push(step);
  }
  return steps;
};

const equalData = (a: Json | undefined, b: Json | undefined): boolean => {
  if (isUnknown(a) || isUnknown(b)) return true;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && (a as readonly Json[]).every((v, i) => equalData(v, (b as readonly Json[])[i]));
  if (isRecord(a) && isRecord(b)) {
    const keys = Object.keys(a);
    return keys.length === Object.keys(b).length && keys.every((k) => Object.hasOwn(b, k) && equalData(a[k], b[k]));
  }
  return a === b;
};

const fieldsOf = (step: SemanticStep): JsonRecord => {
  const { seq: _, ...rest } = step;
  // Data of a note is in its encoded form already: encoding it once more keeps equality.
  return encodePlain(rest) as JsonRecord;
};

/** Whether two steps mean the same; a value that either trace does not know agrees with any. */
export const sameStep = (a: SemanticStep, b: SemanticStep): boolean =>
  a.what === 'note' && b.what === 'note' ? a.plane === b.plane && a.name === b.name && equalData(a.data, b.data) : equalData(fieldsOf(a), fieldsOf(b));

/** The first place where the meaning of two traces differs on one VP; null where that trace has no further step. */
export interface SemanticDifference {
  readonly vp: number;
  /** Place in the sequence of the VP, from 0. */
  readonly index: number;
  readonly a: SemanticStep | null;
  readonly b: SemanticStep | null;
}

/** What {@link compareSemantic} found; `steps` counts the compared ones: zero equal steps prove nothing. */
export interface SemanticComparison {
  readonly equal: boolean;
  readonly steps: number;
  /** At most one per VP, in VP order. */
  readonly differences: readonly SemanticDifference[];
}

/** Compares what two traces mean, VP by VP. */
export const compareSemantic = (a: Trace, b: Trace, options: SemanticOptions = {}): SemanticComparison => {
  const [left, right] = [semanticTrace(a, options), semanticTrace(b, options)];
  const differences: SemanticDifference[] = [];
  let steps = 0;
  for (const vp of [...new Set([...left.keys(), ...right.keys()])].sort((x, y) => x - y)) {
    const [x, y] = [left.get(vp) ?? [], right.get(vp) ?? []];
    for (let index = 0; index < Math.max(x.length, y.length); index++) {
      const [p, q] = [x[index] ?? null, y[index] ?? null];
      if (p !== null && q !== null && sameStep(p, q)) {
        steps++;
        continue;
      }
      differences.push({ vp, index, a: p, b: q });
      break;
    }
  }
  return { equal: differences.length === 0, steps, differences };
};
