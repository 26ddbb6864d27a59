import { headerDigest, recordDigest } from './digest.ts';
import type { TraceHeader, TraceRecord } from './format.ts';

/** Takes one line without its end. The trace does no output of its own. */
export type LineSink = (line: string) => void;

/** Takes records as they are made. They are fresh and may be kept. */
export type RecordSink = (record: TraceRecord) => void;

/** A header with its digest. */
export const sealHeader = (header: Omit<TraceHeader, 'h'>): TraceHeader => ({ ...header, h: headerDigest(header) });

/** A record with its digest, where its kind has one. */
export const sealRecord = <R extends TraceRecord>(record: R): R => {
  const digest = recordDigest(record);
  return digest === null ? record : { ...record, h: digest };
};

/** Writes a trace line by line: the header at once, then each record. */
export const traceWriter = (header: TraceHeader, sink: LineSink): RecordSink => {
  sink(JSON.stringify(header));
  return (record) => sink(JSON.stringify(record));
};

/** All lines of a trace in memory. */
export const traceLines = function* (header: TraceHeader, records: Iterable<TraceRecord>): Generator<string> {
  yield JSON.stringify(header);
  for (const record of records) yield JSON.stringify(record);
};
