import { HostError, PERSONALITY_API, type PersonalityPlugin } from '@vmplanes/engine';
import { z } from 'zod';
import { checkAgainst, checkGuestType } from '../config/check-config.ts';
import type { GuestTypeTable } from '../config/guest-types.ts';

const supportRow = z.strictObject({ kind: z.string(), name: z.string(), code: z.string(), spec: z.string(), support: z.enum(['yes', 'no']), note: z.string().optional() });

/** Shape of what a personality module exports as `personality`; the interface in the engine is its other half. */
const pluginSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9-]*$/),
  version: z.string().min(1),
  api: z.int(),
  summary: z.string().min(1),
  options: z.record(z.string(), z.unknown()),
  extends: z.array(z.string()).optional(),
  over: z.array(z.string()).optional(),
  meaning: z.unknown().optional(),
  policy: z.string().optional(),
  rule: z.string().optional(),
  services: z.unknown().optional(),
  hostInputs: z.unknown().optional(),
  support: z.array(supportRow),
  install: z.unknown(),
});

/** Properties that are functions, with `install` the only one that must be there; the schema does not see them. */
const FUNCTIONS = ['install', 'meaning', 'services', 'hostInputs'] as const;
/** The first property that should be a function and is not. */
const notFunction = (plugin: Readonly<Record<string, unknown>>): string | undefined =>
  FUNCTIONS.find((name) => (name === 'install' || plugin[name] !== undefined) && typeof plugin[name] !== 'function');

/** True once every property has been checked. */
const isPlugin = (plugin: Readonly<Record<string, unknown>>): plugin is Readonly<Record<string, unknown>> & PersonalityPlugin => notFunction(plugin) === undefined;

/** A personality module after the check. */
export interface LoadedPlugin {
  readonly plugin: PersonalityPlugin;
  /** Guest types it contributes. */
  readonly guestTypes: GuestTypeTable;
}

const bad = (source: string, problem: string, fix: string): never => {
  throw new HostError('BadPlugin', `${source}: ${problem} (${fix})`, { source, fix });
};

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null;

/**
 * Checks what a personality module exports.
 * @param source - the name or path it was loaded by, for messages.
 * @throws {HostError} BadPlugin when the shape is wrong, ApiVersion when it was made for another engine.
 */
export function checkPluginModule(module: unknown, source: string): LoadedPlugin {
  const plugin = isObject(module) ? module['personality'] : undefined;
  if (!isObject(plugin)) return bad(source, "exports no 'personality'", 'export const personality: PersonalityPlugin = { ... }');
  // The version first: under another one the shape may differ.
  const { api } = plugin;
  if (api !== PERSONALITY_API) {
    const fix = typeof api === 'number' && api > PERSONALITY_API ? 'install a newer vmplanes' : 'install a newer version of this personality';
    throw new HostError('ApiVersion', `${source}: made for plug-in interface ${String(api)}, this is ${PERSONALITY_API} (${fix})`, { source, fix });
  }
  try {
    checkAgainst(pluginSchema, { ...plugin }, source);
  } catch (error) {
    if (error instanceof HostError) throw new HostError('BadPlugin', error.message, error.details);
    throw error;
  }
  if (!isPlugin(plugin)) return bad(source, `${notFunction(plugin)} is not a function`, 'see PersonalityPlugin');
  const types = (module as Readonly<Record<string, unknown>>)['guestTypes'] ?? {};
  if (!isObject(types)) return bad(source, 'guestTypes is not a record', 'export const guestTypes = { name: { summary, ...deltas } }');
  const guestTypes = Object.fromEntries(Object.entries(types).map(([name, type]) => [name, checkGuestType(type, `${source}, guest type '${name}'`)]));
  return { plugin, guestTypes };
}
