import { commonFields, recordFields, type Registers, type TraceRecord } from './format.ts';
import { isRecord, isUnknown, type Json, UNKNOWN_REGISTER } from './plain.ts';

/** One place in which two records differ. Values as text, `absent` for none. */
export interface FieldDifference {
  /** Path such as `r.rax` or `f.reason`. */
  readonly field: string;
  readonly expected: string;
  readonly actual: string;
}

/** What comparing two records found. */
export interface Comparison {
  readonly differences: readonly FieldDifference[];
  /** Fields that were not compared because the trace does not know them. */
  readonly unknown: readonly string[];
}

const show = (value: Json | undefined): string => (value === undefined ? 'absent' : typeof value === 'string' ? value : JSON.stringify(value));

/** Differences of two values of encoded data below a path. */
const compareData = (path: string, expected: Json | undefined, actual: Json | undefined, found: FieldDifference[], unknown: string[]): void => {
  if (isUnknown(expected)) {
    unknown.push(path);
  } else if (Array.isArray(expected) && Array.isArray(actual)) {
    const [a, b] = [expected as readonly Json[], actual as readonly Json[]];
    for (let i = 0; i < Math.max(a.length, b.length); i++) compareData(`${path}[${i}]`, a[i], b[i], found, unknown);
  } else if (isRecord(expected) && isRecord(actual)) {
    for (const key of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
      compareData(`${path}.${key}`, Object.hasOwn(expected, key) ? expected[key] : undefined, Object.hasOwn(actual, key) ? actual[key] : undefined, found, unknown);
    }
  } else if (expected !== actual) {
    found.push({ field: path, expected: show(expected), actual: show(actual) });
  }
};

/**
 * Differences of two sets of changed registers. A register that only one side changed is compared with its old value,
 * which is what the other side says by leaving it out.
 */
const compareRegisters = (expected: Registers, actual: Registers, found: FieldDifference[], unknown: string[]): void => {
  for (const name of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
    const [a, b] = [expected[name], actual[name]];
    if (a === UNKNOWN_REGISTER) unknown.push(`r.${name}`);
    else if (a !== b) found.push({ field: `r.${name}`, expected: a ?? 'unchanged', actual: b ?? 'unchanged' });
  }
};

/**
 * Compares two records of the same kind field by field.
 * @param unchecked - fields to leave out, as `kind.field` or `*.field`.
 * @param without - further fields to leave out, by name; by default the number and the digest, which follow from the rest.
 */
export const compareRecords = (expected: TraceRecord, actual: TraceRecord, unchecked: readonly string[] = [], without: readonly string[] = ['s', 'h']): Comparison => {
  const differences: FieldDifference[] = [];
  const unknown: string[] = [];
  const [a, b]: readonly Readonly<Record<string, Json>>[] = [expected, actual];
  for (const name of [...Object.keys(commonFields), ...Object.keys(recordFields[expected.k])]) {
    if (without.includes(name)) continue;
    if (unchecked.includes(`${expected.k}.${name}`) || unchecked.includes(`*.${name}`)) unknown.push(name);
    else if (name === 'r' && 'r' in expected && 'r' in actual) compareRegisters(expected.r, actual.r, differences, unknown);
    else compareData(name, a?.[name], b?.[name], differences, unknown);
  }
  return { differences, unknown };
};

/** Whether two records are equal but for number and digest. */
export const sameRecord = (a: TraceRecord, b: TraceRecord): boolean => a.k === b.k && compareRecords(a, b).differences.length === 0;
