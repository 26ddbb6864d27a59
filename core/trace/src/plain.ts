import { hexBytes, parseHexBytes } from '@vmplanes/binary';
import { HostError, type PlainState } from '@vmplanes/engine';

/** What a line of a trace is made of. */
export type Json = null | boolean | number | string | readonly Json[] | JsonRecord;
export interface JsonRecord {
  readonly [key: string]: Json;
}

/** Deepest nesting of data in a trace: far above any real record, far below what a stack holds. */
const MAX_DEPTH = 32;

/** Marks a value that a trace does not know: a step that has one is not checked for it. */
export const UNKNOWN: JsonRecord = { $: 'unknown' };
/** A register value that a trace does not know. */
export const UNKNOWN_REGISTER = 'unknown';

export const isRecord = (value: Json | undefined): value is JsonRecord => typeof value === 'object' && value !== null && !Array.isArray(value);
export const isUnknown = (value: Json | undefined): boolean => isRecord(value) && value['$'] === 'unknown';

const words = { u16: Uint16Array, u32: Uint32Array, i32: Int32Array } as const;

const encodeNumber = (n: number): Json => (Number.isFinite(n) && !Object.is(n, -0) ? n : { $: 'num', v: Object.is(n, -0) ? '-0' : String(n) });
const encodeBig = (n: bigint): string => (n < 0n ? `-0x${(-n).toString(16)}` : `0x${n.toString(16)}`);

const encodeView = (value: ArrayBufferView): Json => {
  if (value instanceof Uint8Array) return { $: 'u8', v: hexBytes(value) };
  if (value instanceof Float64Array) return { $: 'f64', v: [...value].map(encodeNumber) };
  if (value instanceof BigUint64Array) return { $: 'u64', v: [...value].map(encodeBig) };
  for (const [tag, type] of Object.entries(words)) if (value instanceof type) return { $: tag, v: [...value] };
  throw new HostError('Internal', `a trace has no form for ${value.constructor.name}`);
};

/**
 * Turns plain data into what a trace line holds; {@link decodePlain} gives back an equal value. Keys are sorted, so that
 * equal data has equal text. Numbers, strings, arrays and records stand for themselves; everything else is a record with
 * the key `$`: `big` (any bigint), `num` (a number JSON cannot say), `u8` (hex bytes), `u16` `u32` `i32` `f64` `u64`,
 * `record` (a record that itself has the key `$`). Fields that are undefined are left out; functions are refused.
 * @throws {HostError} Internal on data nested deeper than 32 or without a form: a defect of the component that gave it.
 */
export const encodePlain = (value: PlainState | undefined, depth = 0): Json => {
  if (depth > MAX_DEPTH) throw new HostError('Internal', `data for a trace is nested deeper than ${MAX_DEPTH}`);
  switch (typeof value) {
    case 'undefined':
      return null;
    case 'number':
      return encodeNumber(value);
    case 'bigint':
      return { $: 'big', v: encodeBig(value) };
    case 'object': {
      if (value === null) return null;
      if (Array.isArray(value)) return (value as PlainState[]).map((v) => encodePlain(v, depth + 1));
      if (ArrayBuffer.isView(value)) return encodeView(value);
      const fields = Object.entries(value as Record<string, PlainState | undefined>)
        .filter(([, v]) => v !== undefined)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([k, v]): [string, Json] => [k, encodePlain(v, depth + 1)]);
      const record = Object.fromEntries(fields);
      return Object.hasOwn(record, '$') ? { $: 'record', v: record } : record;
    }
    case 'boolean':
    case 'string':
      return value;
    default:
      throw new HostError('Internal', `a trace has no form for a ${typeof value}`);
  }
};

/** The fields of an exit, a payload or an answer without those a record names itself. */
export const encodeFields = (value: object, ...without: readonly string[]): JsonRecord =>
  encodePlain(Object.fromEntries(Object.entries(value).filter(([k]) => !without.includes(k)))) as JsonRecord;

const decodeNumber = (value: Json): number => {
  if (typeof value === 'number') return value;
  const text = isRecord(value) && value['$'] === 'num' ? value['v'] : undefined;
  if (text === 'NaN' || text === 'Infinity' || text === '-Infinity' || text === '-0') return Number(text);
  throw new RangeError('not a number');
};

const decodeBig = (value: Json | undefined): bigint => {
  if (typeof value !== 'string' || !/^-?0x[0-9a-f]+$/.test(value)) throw new RangeError(`not 0x and hexadecimal digits`);
  return value.startsWith('-') ? -BigInt(value.slice(1)) : BigInt(value);
};

const listOf = (value: Json | undefined): readonly Json[] => {
  if (!Array.isArray(value)) throw new RangeError('not a list');
  return value as readonly Json[];
};

const decodeTagged = (record: JsonRecord, depth: number): PlainState => {
  const { $: tag, v } = record;
  switch (tag) {
    case 'big':
      return decodeBig(v);
    case 'num':
      return decodeNumber(record);
    case 'u8':
      if (typeof v !== 'string') throw new RangeError('u8 is not hex bytes');
      return parseHexBytes(v);
    case 'f64':
      return Float64Array.from(listOf(v).map(decodeNumber));
    case 'u64':
      return BigUint64Array.from(listOf(v).map(decodeBig));
    case 'u16':
    case 'u32':
    case 'i32': {
      const list = listOf(v).map(decodeNumber);
      const words_ = words[tag].from(list);
      if (list.some((n, i) => n !== words_[i])) throw new RangeError(`${tag}: a number does not fit`);
      return words_;
    }
    case 'record':
      if (!isRecord(v)) throw new RangeError('record is not a record');
      return decodeRecord(v, depth);
    case 'unknown':
      return null;
    default:
      throw new RangeError(`unknown form ${JSON.stringify(tag)}`);
  }
};

// fromEntries defines own fields, so that a key such as __proto__ in a file stays a mere key.
const decodeRecord = (value: JsonRecord, depth: number): { [key: string]: PlainState } =>
  Object.fromEntries(Object.entries(value).map(([k, v]) => [k, decodePlain(v, depth + 1)]));

/**
 * Gives back what {@link encodePlain} was given; an unknown value becomes null.
 * @throws {RangeError} on a form that encodePlain does not make.
 */
export const decodePlain = (value: Json, depth = 0): PlainState => {
  if (depth > MAX_DEPTH) throw new RangeError(`nested deeper than ${MAX_DEPTH}`);
  if (Array.isArray(value)) return (value as readonly Json[]).map((v) => decodePlain(v, depth + 1));
  if (!isRecord(value)) return value as PlainState;
  return Object.hasOwn(value, '$') ? decodeTagged(value, depth) : decodeRecord(value, depth);
};

/** {@link decodePlain} of a record. @throws {RangeError} when it is none. */
export const decodeFields = (value: JsonRecord): { [key: string]: PlainState } => {
  const decoded = decodePlain(value);
  if (typeof decoded !== 'object' || decoded === null || Array.isArray(decoded) || ArrayBuffer.isView(decoded)) throw new RangeError('not a record');
  return decoded as { [key: string]: PlainState };
};

/** 32 bits of a text as 8 digits: finds damage, proves nothing. @spec G. Fowler, L. C. Noll, K.-P. Vo, "FNV-1a", 32 bits */
export const digestOf = (text: string): string => {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
};
