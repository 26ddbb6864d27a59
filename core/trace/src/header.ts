import type { Machine } from '@vmplanes/engine';
import { TRACE_FORMAT, TRACE_VERSION, type TraceHeader, type TracePersonality } from './format.ts';
import { encodeFields } from './plain.ts';
import { sealHeader } from './writer.ts';

/** What the owner of a machine knows about it and the machine does not. */
export interface TraceSubject {
  readonly configHash?: string;
  readonly cpuModel?: string;
  /** Seeds besides that of the machine. */
  readonly seeds?: Readonly<Record<string, number>>;
  /** In the order they are installed; by default the names of those in the machine. */
  readonly personalities?: readonly { readonly name: string; readonly version: string; readonly options: object }[];
  /** Plain data from which the guest can be composed again. */
  readonly guest?: object;
  /** Fields that a replay must not compare; only for imported traces. */
  readonly unchecked?: readonly string[];
}

/** The header of a trace of a machine. */
export const headerOf = (machine: Machine, subject: TraceSubject = {}): TraceHeader => {
  const { options } = machine;
  const given = subject.personalities ?? machine.personalities.map((p) => ({ name: p.name, version: '', options: {} }));
  const personalities: TracePersonality[] = given.map(({ name, version, options: o }) => ({ name, version, options: encodeFields(o) }));
  return sealHeader({
    format: TRACE_FORMAT,
    version: TRACE_VERSION,
    configHash: subject.configHash ?? '',
    arch: machine.arch.name,
    cpuModel: subject.cpuModel ?? '',
    policy: machine.policy.name,
    rule: machine.rule.name,
    eventCheck: options.eventCheck,
    seeds: { ...subject.seeds, schedule: options.seed },
    quantum: options.quantum,
    ticksPerInstruction: options.ticksPerInstruction,
    ticksPerSecond: options.ticksPerSecond,
    memoryBytes: options.memoryBytes,
    maxVps: options.maxVps,
    maxPlanes: options.maxPlanes,
    personalities,
    guest: encodeFields(subject.guest ?? {}),
    unchecked: subject.unchecked ?? [],
  });
};

/** One header field in which a machine is not the recorded one. */
export interface HeaderMismatch {
  readonly field: string;
  readonly expected: string;
  readonly actual: string;
}

/**
 * Where a machine differs from the one a trace was recorded of.
 * @param configHash - hash of the configuration of `machine`; not compared when it or the trace's is absent.
 */
export const headerMismatches = (header: TraceHeader, machine: Machine, configHash = ''): readonly HeaderMismatch[] => {
  const own = headerOf(machine);
  const fields = ['arch', 'policy', 'rule', 'eventCheck', 'quantum', 'ticksPerInstruction', 'ticksPerSecond', 'memoryBytes', 'maxVps', 'maxPlanes'] as const;
  const rows: (readonly [string, string | number, string | number])[] = fields.map((f) => [f, header[f], own[f]]);
  rows.push(['seeds.schedule', header.seeds['schedule'] ?? 'none', own.seeds['schedule'] ?? 'none']);
  rows.push(['personalities', header.personalities.map((p) => p.name).join(', '), machine.personalities.map((p) => p.name).join(', ')]);
  if (configHash !== '' && header.configHash !== '') rows.push(['configHash', header.configHash, configHash]);
  return rows.filter(([, a, b]) => a !== b).map(([field, a, b]) => ({ field, expected: String(a), actual: String(b) }));
};
