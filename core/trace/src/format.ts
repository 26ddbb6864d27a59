import type { Json, JsonRecord } from './plain.ts';

/** Name and version that the first line of a trace gives; a reader refuses every other version. */
export const TRACE_FORMAT = 'vmplanes-trace';
export const TRACE_VERSION = 1;

/** One personality of a recorded machine. */
export type TracePersonality = {
  readonly name: string;
  readonly version: string;
  readonly options: JsonRecord;
};

/** The first line of a trace: everything needed to compose an equal machine. */
export type TraceHeader = {
  readonly format: typeof TRACE_FORMAT;
  readonly version: typeof TRACE_VERSION;
  /** Hash of the guest configuration as its owner computes it; empty when there is none. */
  readonly configHash: string;
  readonly arch: string;
  readonly cpuModel: string;
  /** Scheduler policy and pending rule by name. */
  readonly policy: string;
  readonly rule: string;
  readonly eventCheck: string;
  /** Seeds by use; `schedule` is that of the machine. */
  readonly seeds: Readonly<Record<string, number>>;
  readonly quantum: number;
  readonly ticksPerInstruction: number;
  readonly ticksPerSecond: number;
  readonly memoryBytes: number;
  readonly maxVps: number;
  readonly maxPlanes: number;
  /** In the order they are installed. */
  readonly personalities: readonly TracePersonality[];
  /** The guest as its owner describes it: enough to compose it again. */
  readonly guest: JsonRecord;
  /** Fields a replay does not compare, as `kind.field` or `*.field`: what the source of an imported trace does not know. */
  readonly unchecked: readonly string[];
  /** Digest of all other fields. */
  readonly h: string;
};

/** Values of registers by name: unsigned numbers as `0x…`, or `unknown`. */
export type Registers = Readonly<Record<string, string>>;

export const answerKinds = ['resume', 'fault', 'switch', 'wait', 'retry', 'exit'] as const;
export type AnswerKind = (typeof answerKinds)[number];

/** Types of fields: the value in TypeScript by the name used in {@link recordFields}. */
export interface FieldTypes {
  /** Whole number from 0 to 2^53 - 1. */
  readonly count: number;
  /** Whole number from -1 to 2^53 - 1; -1 stands for none. */
  readonly index: number;
  /** Finite number from 0. */
  readonly ticks: number;
  readonly flag: boolean;
  readonly text: string;
  readonly registers: Registers;
  /** Bytes as pairs of hexadecimal digits. */
  readonly bytes: string;
  /** 8 hexadecimal digits. */
  readonly digest: string;
  /** 16 hexadecimal digits. */
  readonly hash: string;
  readonly answer: AnswerKind;
  /** Data in the form of `encodePlain`. */
  readonly data: Json;
  readonly fields: JsonRecord;
}

/**
 * What a replay does with a field. `checked`: the model makes it again, both must agree. `fed`: the replay gives it to
 * the model in place of the guest or the outside; the digest of its record protects it, place included. `digest`: covers the fed fields.
 */
export type FieldRole = 'checked' | 'fed' | 'digest';

interface FieldSpec {
  readonly type: keyof FieldTypes;
  readonly role: FieldRole;
  readonly doc: string;
}
const checked = <T extends keyof FieldTypes>(type: T, doc: string): { readonly type: T; readonly role: 'checked'; readonly doc: string } => ({ type, role: 'checked', doc });
const fed = <T extends keyof FieldTypes>(type: T, doc: string): { readonly type: T; readonly role: 'fed'; readonly doc: string } => ({ type, role: 'fed', doc });
const digest = { type: 'digest', role: 'digest', doc: 'digest of the fed fields' } as const;

/** Fields that every record has behind its kind `k`. */
export const commonFields = {
  s: checked('count', 'number of the record in its trace, from 0 without gaps'),
  v: checked('index', 'VP it belongs to; -1 when it belongs to none'),
  p: checked('index', 'plane it belongs to; -1 when it belongs to none'),
  n: checked('count', 'instructions that VP has retired'),
  t: checked('ticks', 'machine time as that VP sees it, in ticks'),
} as const satisfies Record<string, FieldSpec>;

/** All kinds of records and their own fields: the reference of the format. */
export const recordFields = {
  enter: {
    r: checked('registers', 'registers of the context that changed since it last ran'),
  },
  exit: {
    x: fed('text', 'kind of the exit'),
    key: fed('count', 'what claims are matched by'),
    f: fed('fields', 'other fields of the exit'),
    il: fed('count', 'bytes the instruction pointer moves when the instruction retires'),
    r: fed('registers', 'registers that the guest changed since the entry'),
    ev: fed('data', 'stored events of the plane when the guest changed them, as its event source saves them; else null'),
    h: digest,
  },
  answer: {
    a: checked('answer', 'what the handler answered'),
    f: checked('fields', 'fields of that answer'),
  },
  switch: {
    from: checked('count', 'plane that was left'),
    to: checked('count', 'plane that is current now'),
    why: checked('text', 'reason'),
  },
  event: {
    m: fed('flag', 'the event accepted by the plane is an interrupt request, not one that cannot be masked; compared unless the guest stored it itself'),
    e: checked('count', 'events the plane has accepted that were not pending already'),
    h: digest,
  },
  vmexit: {
    x: checked('text', 'kind of what the VMM is told'),
    f: checked('fields', 'its other fields'),
  },
  input: {
    sl: fed('count', 'slices that had ended: with the number of the record the exact place of the input'),
    name: fed('text', 'what came from outside'),
    d: fed('data', 'its data'),
    h: digest,
  },
  permission: {
    of: checked('count', 'plane whose rights changed'),
    gpn: checked('count', 'first page'),
    count: checked('count', 'number of pages'),
    rights: checked('count', 'rights they have now'),
  },
  note: {
    name: checked('text', 'call, status or message as a personality names it'),
    d: checked('data', 'its data'),
  },
  read: {
    of: checked('count', 'plane for whose call memory was read'),
    gpa: checked('count', 'address of the first byte'),
    b: fed('bytes', 'what was read'),
    h: digest,
  },
  write: {
    of: checked('count', 'plane for whose call memory was written'),
    gpa: checked('count', 'address of the first byte'),
    b: checked('bytes', 'what was written'),
  },
  end: {
    sl: fed('count', 'slices that had ended'),
    why: fed('text', 'why the recording ended'),
    state: checked('hash', 'hash of the state of the machine without guest memory and processors'),
    h: digest,
  },
} as const satisfies Record<string, Readonly<Record<string, FieldSpec>>>;

export type RecordKind = keyof typeof recordFields;
export const recordKinds = Object.keys(recordFields) as readonly RecordKind[];

type Values<F extends Readonly<Record<string, FieldSpec>>> = { readonly [N in keyof F]: FieldTypes[F[N]['type']] };
/** Fields of every record. */
export type Stamp = Values<typeof commonFields>;
/** The record of one kind. */
export type RecordOf<K extends RecordKind> = { readonly k: K } & Stamp & Values<(typeof recordFields)[K]>;
/** One line of a trace behind the header: a closed union over `k`. */
export type TraceRecord = { [K in RecordKind]: RecordOf<K> }[RecordKind];

/** The specs of all fields of a kind, common ones first. */
export const fieldsOf = (kind: RecordKind): Readonly<Record<string, FieldSpec>> => ({ ...commonFields, ...recordFields[kind] });

/** Rows of the printed reference of the format. */
export const formatReference = (): readonly { readonly record: string; readonly field: string; readonly type: string; readonly role: FieldRole; readonly doc: string }[] => [
  ...Object.entries(commonFields).map(([field, f]) => ({ record: '*', field, ...f })),
  ...recordKinds.flatMap((record) => Object.entries<FieldSpec>(recordFields[record]).map(([field, f]) => ({ record, field, ...f }))),
];

/** A trace in memory. */
export interface Trace {
  readonly header: TraceHeader;
  readonly records: readonly TraceRecord[];
  /** True when its last record is `end`. */
  readonly isComplete: boolean;
  /** The last line when it was cut off: its number and how it begins; null otherwise. */
  readonly truncated: { readonly line: number; readonly text: string } | null;
}

/** Line of a record in its file: the header is line 1. */
export const lineOf = (seq: number): number => seq + 2;
