import type { Completion, ExitPayload, WaitCondition } from './answers.ts';
import { HostError } from './errors.ts';
import type { MachineOptions } from './machine-options.ts';
import { MAX_PLANES, PlaneId } from './ids.ts';
import type { Machine } from './machine.ts';
import type { MemoryState } from './memory/index.ts';
import type { PlainRecord, PlainState } from './state.ts';
import { Activity, activityNames, type PlaneContext, type Schedule, type Vp, type VpStatistics } from './vp.ts';

/** Version of the snapshot schema; a reader accepts this one and the one before. */
export const SNAPSHOT_VERSION = 1;

interface SavedPlane {
  readonly plane: number;
  readonly schedule: Schedule;
  readonly activity: Activity;
  readonly wait: WaitCondition | null;
  readonly completion: Completion | null;
  readonly edges: number;
  readonly retired: number;
  readonly clockOffset: number;
  readonly instructionLength: number;
  readonly block: Uint8Array;
  readonly events: PlainState;
}

interface SavedVp {
  readonly planes: readonly SavedPlane[];
  readonly fields: PlainRecord;
  readonly statistics: VpStatistics;
  /** What the VMM was told and may still have to answer. */
  readonly exit: ExitPayload | null;
  readonly cpu: PlainState;
}

/** A whole machine as plain data: cloneable, hashable, writable to a file. */
export interface Snapshot {
  readonly format: 'vmplanes-snapshot';
  readonly version: number;
  readonly arch: string;
  readonly options: MachineOptions;
  /** Names of what chooses planes. */
  readonly policy: string;
  readonly rule: string;
  readonly machine: ReturnType<Machine['saveOwn']>;
  readonly vps: readonly SavedVp[];
  readonly memory: MemoryState;
  readonly components: Readonly<Record<string, { readonly version: number; readonly state: PlainState }>>;
}

/** Group fields that are state; everything else in a VP is derived, borrowed or lives in its planes. */
const vpFields = ['current', 'named', 'pending', 'asked', 'reqExit', 'recheck', 'immediateExit', 'suspended', 'retired', 'sliceEnd', 'sliceExits', 'timeBase', 'timeRetired', 'busLocks', 'busLockUntil'] as const;

const savePlane = (m: Machine, c: PlaneContext): SavedPlane => ({
  plane: c.plane,
  schedule: c.schedule,
  activity: c.activity,
  wait: c.wait === null ? null : structuredClone(c.wait),
  completion: c.completion === null ? null : structuredClone(c.completion),
  edges: c.edges,
  retired: c.retired,
  clockOffset: c.clockOffset,
  instructionLength: c.instructionLength,
  block: m.arena.u8.slice(c.base, c.base + m.arch.layout.size),
  events: c.events.save(),
});

const saveVp = (m: Machine, vp: Vp): SavedVp => ({
  planes: vp.planes.filter((c) => c !== null).map((c) => savePlane(m, c)),
  fields: Object.fromEntries(vpFields.map((f) => [f, vp[f]])),
  statistics: { ...vp.statistics },
  exit: vp.exit === null ? null : structuredClone(vp.exit),
  cpu: m.saveCpu(vp),
});

/** @throws {HostError} BadState after a restore that failed half-way, until one succeeds. */
export const mustBeWhole = (m: Machine): void => {
  if (!m.isWhole) throw new HostError('BadState', 'a restore into this machine failed half-way (restore again, or make another machine)');
};

/** @throws {HostError} BadState while a VP runs, and after a restore that failed half-way. */
export const machineSnapshot = (m: Machine): Snapshot => {
  mustBeWhole(m);
  const busy = m.vps.find((vp) => vp.running >= 0);
  if (busy) throw new HostError('BadState', `VP ${busy.index} is running: a snapshot is taken at an event boundary`);
  return {
    format: 'vmplanes-snapshot',
    version: SNAPSHOT_VERSION,
    arch: m.arch.name,
    options: m.options,
    policy: m.policy.name,
    rule: m.rule.name,
    machine: m.saveOwn(),
    vps: m.vps.map((vp) => saveVp(m, vp)),
    memory: m.memory.save(),
    components: Object.fromEntries(m.components.map((c) => [c.stateName, { version: c.stateVersion, state: c.save() }])),
  };
};

const isCount = (value: unknown): boolean => typeof value === 'number' && value >= 0;
const isRecord = (value: unknown): value is PlainRecord => typeof value === 'object' && value !== null && !Array.isArray(value);
const isWait = (w: unknown): boolean => isRecord(w) && (w['kind'] === 'time' ? typeof w['at'] === 'number' : w['kind'] === 'key' ? typeof w['key'] === 'string' : w['kind'] === 'left' && isCount(w['vp']) && isCount(w['plane']));
const isCompletion = (c: unknown): boolean => isRecord(c) && typeof c['owner'] === 'string' && typeof c['kind'] === 'string' && isRecord(c['data']) && (c['reply'] === null || isRecord(c['reply']));

/** What each field of a saved plane must be. */
const planeShape: Readonly<Record<Exclude<keyof SavedPlane, 'plane' | 'block' | 'events'>, (value: unknown) => boolean>> = {
  schedule: (v) => v === 0 || v === 1,
  activity: (v) => Number.isInteger(v) && isCount(v) && (v as number) < activityNames.length,
  wait: (v) => v === null || isWait(v),
  completion: (v) => v === null || isCompletion(v),
  edges: isCount,
  retired: isCount,
  clockOffset: (v) => typeof v === 'number',
  instructionLength: isCount,
};

/** @returns the first field that is not what it must be, or null. */
const wrongPlaneField = (p: SavedPlane): string | null => {
  for (const [name, fits] of Object.entries(planeShape)) if (!fits(p[name as keyof typeof planeShape])) return name;
  return (p.activity === Activity.Held) === (p.wait !== null) ? null : 'wait';
};
const wrongVpField = (vp: SavedVp): string | null => {
  for (const name of vpFields) if (typeof vp.fields[name] !== (name === 'immediateExit' || name === 'suspended' ? 'boolean' : 'number') || Number.isNaN(vp.fields[name])) return name;
  for (const [name, count] of Object.entries(vp.statistics)) if (!isCount(count)) return name;
  return vp.exit === null || (isRecord(vp.exit) && typeof (vp.exit as PlainRecord)['kind'] === 'string') ? null : 'exit';
};

/** Checks everything that can be checked before anything is changed. */
const checkFits = (m: Machine, s: Snapshot): void => {
  const bad = (why: string): never => {
    throw new HostError('BadSnapshot', why);
  };
  if (s.format !== 'vmplanes-snapshot') bad('not a vmplanes snapshot');
  if (s.version !== SNAPSHOT_VERSION) bad(`snapshot version ${s.version}: this reader knows ${SNAPSHOT_VERSION}`);
  if (s.arch !== m.arch.name) bad(`snapshot of architecture ${s.arch}, this machine is ${m.arch.name}`);
  for (const name of ['policy', 'rule'] as const) if (s[name] !== m[name].name) bad(`snapshot has ${name} ${s[name]}, this machine ${m[name].name}`);
  for (const [name, own] of Object.entries(m.options)) {
    const value = s.options[name as keyof MachineOptions];
    if (own !== value) bad(`snapshot has ${name} ${String(value)}, this machine ${String(own)}`);
  }
  if (m.vps.length > s.vps.length) bad(`snapshot has ${s.vps.length} VPs, this machine ${m.vps.length}`);
  if (s.vps.length > m.options.maxVps) bad(`snapshot has ${s.vps.length} VPs, this machine takes ${m.options.maxVps}`);
  for (const [index, saved] of s.vps.entries()) {
    const { planes, fields } = saved;
    const wrong = wrongVpField(saved);
    if (wrong !== null) bad(`VP ${index}: ${wrong} is not what it must be`);
    for (const p of planes) {
      const field = wrongPlaneField(p);
      if (field !== null) bad(`VP ${index} plane ${p.plane}: ${field} is not what it must be`);
      if (!Number.isInteger(p.plane) || p.plane < 0 || p.plane >= m.options.maxPlanes) bad(`snapshot has plane ${p.plane} on VP ${index}, this machine takes ${m.options.maxPlanes} planes`);
      if (p.block.length !== m.arch.layout.size) bad(`VP ${index} plane ${p.plane}: a register block of ${p.block.length} bytes, this machine's have ${m.arch.layout.size}`);
    }
    if (!planes.some((p) => p.plane === fields['current'])) bad(`VP ${index} is in plane ${String(fields['current'])}, which it has not`);
  }
  for (const vp of m.vps) {
    const saved = s.vps[vp.index]!.planes.map((p) => p.plane);
    for (let p = 0; p < MAX_PLANES; p++) if (vp.planes[p] && !saved.includes(p)) bad(`this machine has plane ${p} on VP ${vp.index}, the snapshot has not`);
  }
  for (const c of m.components) {
    const part = s.components[c.stateName];
    if (!part) bad(`snapshot has no state of ${c.stateName}`);
    else if (part.version !== c.stateVersion && part.version !== c.stateVersion - 1) bad(`${c.stateName}: state version ${part.version}, this reader knows ${c.stateVersion}`);
  }
  for (const name of Object.keys(s.components)) if (!m.components.some((c) => c.stateName === name)) bad(`snapshot has state of ${name}, which this machine has not`);
};

const restorePlane = (m: Machine, c: PlaneContext, s: SavedPlane): void => {
  m.arena.u8.set(s.block, c.base);
  c.activity = s.activity;
  c.wait = s.wait === null ? null : structuredClone(s.wait);
  c.completion = s.completion === null ? null : structuredClone(s.completion);
  c.edges = s.edges;
  c.retired = s.retired;
  c.clockOffset = s.clockOffset;
  c.instructionLength = s.instructionLength;
  c.vp.setSchedule(c, s.schedule);
  c.events.restore(s.events);
};

/** A record that is not what it should be trips the first code that looks at it: that is an error of the snapshot, not of ours. */
const asSnapshotError = (error: unknown): unknown =>
  error instanceof TypeError || error instanceof RangeError || (error instanceof Error && error.name === 'DataCloneError') ? new HostError('BadSnapshot', `the snapshot is not of the shape this reader knows: ${error.message}`) : error;

/** Makes `m` equal to the saved machine. VPs and planes it has not yet are created; their processors take their state over when they are set. */
export const restoreMachine = (m: Machine, s: Snapshot): void => {
  try {
    checkFits(m, s);
    m.isWhole = false;
    restoreParts(m, s);
    m.isWhole = true;
  } catch (error) {
    throw asSnapshotError(error);
  }
};

const restoreParts = (m: Machine, s: Snapshot): void => {
  while (m.vps.length < s.vps.length) m.createVp();
  for (const vp of m.vps) {
    for (const p of s.vps[vp.index]!.planes) if (!vp.planes[p.plane]) m.createPlane(vp, PlaneId(p.plane));
  }
  m.memory.restore(s.memory);
  for (const vp of m.vps) {
    const saved = s.vps[vp.index]!;
    for (const p of saved.planes) restorePlane(m, vp.plane(p.plane), p);
    Object.assign(vp, saved.fields);
    Object.assign(vp.statistics, saved.statistics);
    vp.exit = saved.exit;
  }
  m.restoreOwn(s.machine);
  for (const c of m.components) {
    const part = s.components[c.stateName]!;
    c.restore(part.state, part.version);
  }
  // Masks and deadlines that a rule derives from the events are derived again, never trusted from the file alone.
  for (const vp of m.vps) {
    for (const c of vp.planes) if (c) m.eventsChanged(c);
    m.timersChanged(vp.context);
    m.restoreCpu(vp, s.vps[vp.index]!.cpu);
  }
};
