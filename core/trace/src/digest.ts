import { recordFields, type TraceHeader, type TraceRecord } from './format.ts';
import { digestOf, isRecord, type Json } from './plain.ts';

const sorted = (value: Json): Json => {
  if (Array.isArray(value)) return (value as readonly Json[]).map(sorted);
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((k) => [k, sorted(value[k] as Json)]),
  );
};

/** The text of data, independent of the order of keys. */
export const canonical = (value: Json): string => JSON.stringify(sorted(value));

const fedFields: Readonly<Record<string, readonly string[]>> = Object.fromEntries(
  Object.entries(recordFields).map(([kind, fields]) => [kind, Object.keys(fields).filter((f) => (fields as Record<string, { role: string }>)[f]?.role === 'fed')]),
);

/** Digest of what a record feeds to a replay, with the place it is fed at; null for a kind that feeds nothing. */
export const recordDigest = (record: Omit<TraceRecord, 'h'>): string | null => {
  const fields = fedFields[record.k] ?? [];
  if (fields.length === 0) return null;
  const values: Readonly<Record<string, Json>> = record;
  return digestOf(canonical([record.v, record.p, record.n, ...fields.map((f) => values[f] ?? null)]));
};

/** Digest of a header. */
export const headerDigest = (header: Omit<TraceHeader, 'h'>): string => {
  const fields: Readonly<Record<string, Json>> = header;
  return digestOf(canonical(Object.fromEntries(Object.entries(fields).filter(([name]) => name !== 'h'))));
};
