import { HostError } from '@vmplanes/engine';
import type { Trace, TraceHeader, TraceRecord } from './format.ts';
import type { Json } from './plain.ts';
import { checkHeader, checkRecord, ShapeError } from './shape.ts';

/** Everything that {@link JSON.parse} refuses, with the line. */
const parseLine = (text: string): Json | ShapeError => {
  try {
    return JSON.parse(text) as Json;
  } catch (e) {
    // Besides broken text: nesting deeper than the stack holds.
    return new ShapeError(`not JSON (${e instanceof Error ? e.message : String(e)})`);
  }
};

const badLine = (line: number, message: string): never => {
  throw new HostError('BadTrace', `line ${line}: ${message}`, { line });
};

const checked = <T>(line: number, check: () => T): T => {
  try {
    return check();
  } catch (e) {
    if (e instanceof ShapeError) return badLine(line, e.message);
    throw e;
  }
};

/**
 * Reads a trace. A last line that was cut off is tolerated and reported in the result; everything else that is not of
 * the format is refused.
 * @param lines - without line ends; empty lines may follow the last one.
 * @throws {HostError} BadTrace names the line (from 1), what is there and what was expected.
 */
export const parseTrace = (lines: Iterable<string>): Trace => {
  let header: TraceHeader | null = null;
  const records: TraceRecord[] = [];
  let line = 0;
  let broken: { readonly line: number; readonly text: string; readonly why: string } | null = null;
  let blank = 0;
  let isComplete = false;
  for (const text of lines) {
    line++;
    if (text.trim() === '') {
      if (blank === 0) blank = line;
      continue;
    }
    if (blank !== 0) badLine(blank, 'an empty line inside the trace');
    if (broken !== null) return badLine(broken.line, broken.why);
    if (isComplete) badLine(line, `a line behind the record 'end'`);
    const value = parseLine(text);
    if (value instanceof ShapeError) {
      // Only a last line may be cut off, and only a record: nothing can be done without the header.
      if (header === null) return badLine(line, value.message);
      broken = { line, text: text.slice(0, 60), why: value.message };
    } else if (header === null) {
      header = checked(line, () => checkHeader(value));
    } else {
      const record = checked(line, () => checkRecord(value, records.length));
      records.push(record);
      isComplete = record.k === 'end';
    }
  }
  if (header === null) return badLine(1, 'the trace is empty, expected its header');
  return { header, records, isComplete, truncated: broken === null ? null : { line: broken.line, text: broken.text } };
};
