export { compareRecords, type Comparison, type FieldDifference } from './compare.ts';
export { canonical, headerDigest, recordDigest } from './digest.ts';
export { type DiffRow, diffSemantic, diffTraces, type TraceDiff } from './diff.ts';
export {
  type AnswerKind, answerKinds, commonFields, type FieldRole, type FieldTypes, fieldsOf, formatReference, lineOf, type RecordKind, recordFields, recordKinds, type RecordOf,
  type Registers, type Stamp, type Trace, TRACE_FORMAT, TRACE_VERSION, type TraceHeader, type TracePersonality, type TraceRecord,
} from './format.ts';
export { type HeaderMismatch, headerMismatches, headerOf, type TraceSubject } from './header.ts';
export { OpenValues, UNDEFINED_NOTE } from './open-values.ts';
export { parseTrace } from './parse.ts';
export { decodeFields, decodePlain, digestOf, encodeFields, encodePlain, isUnknown, type Json, type JsonRecord, UNKNOWN, UNKNOWN_REGISTER } from './plain.ts';
export { recordTrace } from './record.ts';
export { TraceRecorder } from './recorder.ts';
export { ReplayCpu } from './replay-cpu.ts';
export { Replay, type ReplayOptions } from './replayer.ts';
export { type Divergence, divergenceText, type ReplayReport } from './report.ts';
export { compareSemantic, type SemanticComparison, type SemanticDifference, type SemanticOptions, type SemanticStep, semanticTrace } from './semantic.ts';
export { applyRegisters, readRegister, RegisterShadow, tracedRegisters, writeRegister } from './shadow.ts';
export { stateHash } from './state-hash.ts';
export { type PlaneStats, type SwitchCount, traceStats, type TraceStats, type VpStats } from './stats.ts';
export { type LineSink, type RecordSink, sealHeader, sealRecord, traceLines, traceWriter } from './writer.ts';
