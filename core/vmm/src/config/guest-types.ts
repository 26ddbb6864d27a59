import { HostError } from '@vmplanes/engine';
import { didYouMean } from './explain-issues.ts';
import type { CheckedConfig, GuestType } from './guest-config.ts';

/** The type every other type and every configuration starts from: it sets everything. */
export const plainGuest = {
  summary: 'Planes without a meaning: no personality, nothing shared, nobody above anybody.',
  personalities: [],
  vps: 1,
  planes: 1,
  startPlanes: [0],
  startVps: 'boot',
  memory: '16MiB',
  cpuModel: 'base',
  quantum: 10_000,
  seed: 0,
  ticksPerInstruction: 1,
  ticksPerSecond: 1_000_000_000,
  profile: 'vmplanes',
} as const satisfies GuestType;

/** Guest types by name. */
export type GuestTypeTable = Readonly<Record<string, GuestType>>;

/** The guest types that need no personality; personalities bring their own. */
export const guestTypes: GuestTypeTable = { plain: plainGuest };

/** A personality to load, with the options given for it. */
export interface PersonalityUse {
  /** Short name, package name or path. */
  readonly use: string;
  readonly options: Readonly<Record<string, unknown>>;
}

type Settings = Omit<GuestType, 'summary' | 'base'>;
type Complete = { readonly [K in Exclude<keyof Settings, 'personalities' | 'policy' | 'rule' | 'eventCheck'>]-?: NonNullable<Settings[K]> };

/** A guest configuration with its type applied: every setting has its value, but those that a personality may decide. */
export interface ResolvedGuest extends Complete {
  readonly name: string;
  readonly type: string;
  readonly personalities: readonly PersonalityUse[];
  /** Null, as with the next two: the profile decides, else the personality that gives planes their meaning. */
  readonly policy: NonNullable<Settings['policy']> | null;
  readonly rule: NonNullable<Settings['rule']> | null;
  readonly eventCheck: NonNullable<Settings['eventCheck']> | null;
  readonly scripts: NonNullable<CheckedConfig['scripts']> | null;
  readonly boot: NonNullable<CheckedConfig['boot']> | null;
}

/** @throws {HostError} BadConfig names the type and what was probably meant. */
export function guestType(types: GuestTypeTable, name: string, path = 'type'): GuestType {
  const found = Object.hasOwn(types, name) ? types[name] : undefined;
  if (found) return found;
  const known = Object.keys(types);
  const near = didYouMean(name, known);
  const fix = near ? `did you mean '${near}'?` : `known types: ${known.join(', ')}`;
  throw new HostError('BadConfig', `${path}: no guest type '${name}' (${fix})`, { path, fix, known });
}

/** The chain of deltas of a type, base first. @throws {HostError} BadConfig on an unknown base or a circle. */
function chainOf(types: GuestTypeTable, name: string): readonly GuestType[] {
  const names: string[] = [];
  const chain: GuestType[] = [];
  for (let next: string | undefined = name; next !== undefined; ) {
    if (names.includes(next)) throw new HostError('BadConfig', `guest type '${next}' is its own base: ${[...names, next].join(' -> ')}`, { path: 'type', fix: 'let one of them start from plain' });
    names.push(next);
    const type = guestType(types, next, names.length === 1 ? 'type' : `guest type '${names[names.length - 2]!}'.base`);
    chain.unshift(type);
    next = next === 'plain' ? undefined : (type.base ?? 'plain');
  }
  return chain;
}

/** Adds to a list of personalities; one that is listed already gets more options. */
function addUses(list: readonly PersonalityUse[], more: Settings['personalities']): readonly PersonalityUse[] {
  const out = [...list];
  for (const entry of more ?? []) {
    const { use, options = {} } = typeof entry === 'string' ? { use: entry } : entry;
    const at = out.findIndex((p) => p.use === use);
    if (at < 0) out.push({ use, options });
    else out[at] = { use, options: { ...out[at]!.options, ...options } };
  }
  return out;
}

const { summary: _summary, ...plainSettings } = plainGuest;

const defined = (settings: object): object => Object.fromEntries(Object.entries(settings).filter(([, v]) => v !== undefined));

/**
 * Applies a configuration to its guest type.
 * @param types - all known types.
 * @throws {HostError} BadConfig on an unknown type, or settings that contradict each other.
 */
export function resolveGuest(config: CheckedConfig, types: GuestTypeTable = guestTypes): ResolvedGuest {
  const { type = 'plain', name = type, scripts = null, boot = null, $schema: _schema, ...settings } = config;
  const layers: readonly Settings[] = [...chainOf(types, type).map(({ summary: _summary, base: _base, ...rest }) => rest), settings];
  const merged: Settings = Object.assign({}, ...layers.map(defined));
  const personalities = layers.reduce<readonly PersonalityUse[]>((list, layer) => addUses(list, layer.personalities), []);
  const { policy = null, rule = null, eventCheck = null, ...rest } = { ...plainSettings, ...merged } as Settings & Complete;
  const guest: ResolvedGuest = { ...rest, name, type, personalities, policy, rule, eventCheck, scripts, boot, startPlanes: [...new Set([0, ...rest.startPlanes])].sort((a, b) => a - b) };
  checkFits(guest);
  return guest;
}

/** What no single setting shows. */
function checkFits(guest: ResolvedGuest): void {
  const bad = (path: string, problem: string, fix: string): never => {
    throw new HostError('BadConfig', `${path}: ${problem} (${fix})`, { path, fix });
  };
  const beyond = guest.startPlanes.find((p) => p >= guest.planes);
  if (beyond !== undefined) bad('startPlanes', `plane ${beyond} of a guest with ${guest.planes} planes`, `set planes to ${beyond + 1} or more`);
  guest.scripts?.run.forEach(({ vp, plane = 0 }, i) => {
    if (vp >= guest.vps) bad(`scripts.run[${i}].vp`, `VP ${vp} of a guest with ${guest.vps} VPs`, `set vps to ${vp + 1} or more`);
    if (plane >= guest.planes) bad(`scripts.run[${i}].plane`, `plane ${plane} of a guest with ${guest.planes} planes`, `set planes to ${plane + 1} or more`);
    const twice = guest.scripts!.run.findIndex((r) => r.vp === vp && (r.plane ?? 0) === plane);
    if (twice !== i) bad(`scripts.run[${i}]`, `VP ${vp} plane ${plane} has a script already, scripts.run[${twice}]`, 'remove one of them');
  });
}
