import { commonFields, answerKinds, type FieldTypes, recordFields, type RecordKind, TRACE_FORMAT, TRACE_VERSION, type TraceHeader, type TraceRecord } from './format.ts';
import { headerDigest, recordDigest } from './digest.ts';
import { decodeFields, decodePlain, isRecord, type Json, type JsonRecord } from './plain.ts';

/** Why a value is not of the form that was expected; the reader adds the line. */
export class ShapeError {
  constructor(readonly message: string) {}
}
const bad = (message: string): never => {
  throw new ShapeError(message);
};
const show = (value: Json | undefined): string => {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
};

const isCount = (v: Json): boolean => Number.isSafeInteger(v) && (v as number) >= 0;
const isRegisters = (v: Json): boolean => isRecord(v) && Object.values(v).every((x) => typeof x === 'string' && /^(?:0x[0-9a-f]+|unknown)$/.test(x));
const decodes = (decode: () => unknown): boolean => {
  try {
    decode();
    return true;
  } catch (e) {
    if (e instanceof RangeError) return false;
    throw e;
  }
};

/** One row per type of field: what is expected, in words, and the test. */
const types: { readonly [T in keyof FieldTypes]: readonly [expected: string, test: (value: Json) => boolean] } = {
  count: ['a whole number from 0', isCount],
  index: ['a whole number from -1', (v) => v === -1 || isCount(v)],
  ticks: ['a number from 0', (v) => typeof v === 'number' && v >= 0],
  flag: ['true or false', (v) => typeof v === 'boolean'],
  text: ['a text', (v) => typeof v === 'string'],
  registers: ['registers as 0x and lower-case hexadecimal digits', isRegisters],
  bytes: ['pairs of lower-case hexadecimal digits', (v) => typeof v === 'string' && /^(?:[0-9a-f]{2})*$/.test(v)],
  digest: ['8 hexadecimal digits', (v) => typeof v === 'string' && /^[0-9a-f]{8}$/.test(v)],
  hash: ['16 hexadecimal digits', (v) => typeof v === 'string' && /^[0-9a-f]{16}$/.test(v)],
  answer: [`one of ${answerKinds.join(', ')}`, (v) => typeof v === 'string' && (answerKinds as readonly string[]).includes(v)],
  data: ['encoded data', (v) => decodes(() => decodePlain(v))],
  fields: ['a record of encoded data', (v) => isRecord(v) && decodes(() => decodeFields(v))],
};

const checkFields = (what: string, value: JsonRecord, fields: Readonly<Record<string, { readonly type: keyof FieldTypes }>>): void => {
  for (const [name, { type }] of Object.entries(fields)) {
    const field = Object.hasOwn(value, name) ? value[name] : undefined;
    const [expected, test] = types[type];
    if (field === undefined) bad(`${what}: field '${name}' is missing (expected ${expected})`);
    else if (!test(field)) bad(`${what}: field '${name}' is ${show(field)}, expected ${expected}`);
  }
};

/** @throws {ShapeError} when `value` is not a record of the format; `seq` is the number it must have. */
export const checkRecord = (value: Json, seq: number): TraceRecord => {
  if (!isRecord(value)) return bad(`a record is ${show(value)}, expected an object`);
  const kind = value['k'];
  if (typeof kind !== 'string' || !Object.hasOwn(recordFields, kind)) return bad(`unknown record kind ${show(kind)}`);
  const fields = { ...commonFields, ...recordFields[kind as RecordKind] };
  checkFields(`record '${kind}'`, value, fields);
  const extra = Object.keys(value).find((f) => f !== 'k' && !Object.hasOwn(fields, f));
  if (extra !== undefined) return bad(`record '${kind}': unknown field '${extra}'`);
  const record = value as TraceRecord;
  if (record.s !== seq) bad(`record '${kind}' has number ${record.s}, expected ${seq}: records are missing, repeated or out of order`);
  const digest = recordDigest(record);
  if (digest !== null && value['h'] !== digest) bad(`record '${kind}': digest is ${show(value['h'])}, its fields give '${digest}'`);
  return record;
};

const texts = ['configHash', 'arch', 'cpuModel', 'policy', 'rule', 'eventCheck'] as const;
const counts = ['quantum', 'ticksPerSecond', 'memoryBytes', 'maxVps', 'maxPlanes'] as const;
const headerFields: Readonly<Record<string, { readonly type: keyof FieldTypes }>> = {
  ...Object.fromEntries(texts.map((t) => [t, { type: 'text' }])),
  ...Object.fromEntries(counts.map((t) => [t, { type: 'count' }])),
  ticksPerInstruction: { type: 'ticks' },
  guest: { type: 'fields' },
  h: { type: 'digest' },
};

/** @throws {ShapeError} when `value` is not the header of a trace that this reader knows. */
export const checkHeader = (value: Json): TraceHeader => {
  if (!isRecord(value) || value['format'] !== TRACE_FORMAT) return bad(`the first line is not the header of a ${TRACE_FORMAT}`);
  if (value['version'] !== TRACE_VERSION) return bad(`trace version ${show(value['version'])}: this reader knows ${TRACE_VERSION}`);
  checkFields('header', value, headerFields);
  const { seeds, personalities, unchecked } = value;
  if (!isRecord(seeds) || !Object.values(seeds).every(isCount)) bad(`header: field 'seeds' is ${show(seeds)}, expected whole numbers by name`);
  if (!Array.isArray(unchecked) || !unchecked.every((f) => typeof f === 'string')) bad(`header: field 'unchecked' is ${show(unchecked)}, expected a list of texts`);
  if (!Array.isArray(personalities)) return bad(`header: field 'personalities' is ${show(personalities)}, expected a list`);
  for (const p of personalities as readonly Json[]) {
    if (!isRecord(p)) return bad(`header: a personality is ${show(p)}, expected an object`);
    checkFields('header: personality', p, { name: { type: 'text' }, version: { type: 'text' }, options: { type: 'fields' } });
  }
  const known = ['format', 'version', 'seeds', 'personalities', 'unchecked', ...Object.keys(headerFields)];
  const extra = Object.keys(value).find((f) => !known.includes(f));
  if (extra !== undefined) return bad(`header: unknown field '${extra}'`);
  const header = value as TraceHeader;
  const digest = headerDigest(header);
  if (header.h !== digest) bad(`header: digest is '${header.h}', its fields give '${digest}'`);
  return header;
};
