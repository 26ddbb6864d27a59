import { HostError, type PersonalityPlugin, type PlainRecord, plainPlanes, type PlaneMeaning } from '@vmplanes/engine';
import type { PersonalityUse } from '../config/guest-types.ts';
import { didYouMean } from '../config/explain-issues.ts';
import { PluginCatalogue } from './catalogue.ts';
import type { ModuleOrigin } from './load-plugin.ts';
import { checkOptions } from './options.ts';

/** A personality that is ready to be installed. */
export interface ChosenPlugin {
  readonly plugin: PersonalityPlugin;
  readonly options: PlainRecord;
}

/** Gives the options of a personality that the host makes up. */
export type HostInputs = (plugin: PersonalityPlugin, options: PlainRecord) => PlainRecord;
const noInputs: HostInputs = () => ({});

/** What the personalities of a guest say together. */
export interface ChosenPlugins {
  /** In order of installation. */
  readonly plugins: readonly ChosenPlugin[];
  readonly meaning: PlaneMeaning;
  /** Policy and rule that the personality with the meaning asks for. */
  readonly policy: string | null;
  readonly rule: string | null;
  /** Services of the host that the machine may ask. */
  readonly services: readonly string[];
  /** Options that the host made up, by the name of their personality. */
  readonly inputs: Readonly<Record<string, PlainRecord>>;
}

const refuse = (problem: string, fix: string, details: Readonly<Record<string, unknown>> = {}): never => {
  throw new HostError('BadConfig', `personalities: ${problem} (${fix})`, { path: 'personalities', fix, ...details });
};

/** Those that say what planes mean: where one takes over from another, that is its to say. */
const meaningful = (plugins: readonly ChosenPlugin[]): readonly ChosenPlugin[] => {
  const yielding = new Set(plugins.flatMap((p) => p.plugin.over ?? []));
  return plugins.filter((p) => p.plugin.meaning && !yielding.has(p.plugin.name));
};

/** Two of one name, an extension without what it extends, two meanings: what only the whole list shows. */
function checkTogether(plugins: readonly ChosenPlugin[]): void {
  const names = plugins.map((p) => p.plugin.name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) refuse(`two modules give the name '${twice}'`, 'keep one of them');
  plugins.forEach(({ plugin }, i) => {
    for (const other of plugin.extends ?? []) {
      const at = names.indexOf(other);
      const near = didYouMean(other, names);
      if (at < 0) refuse(`'${plugin.name}' extends '${other}', which this guest has not`, near ? `did you mean '${near}'?` : `add '${other}' before it`);
      if (at > i) refuse(`'${plugin.name}' extends '${other}', which is installed after it`, `move '${other}' before '${plugin.name}'`);
    }
    const late = plugin.over?.find((other) => names.indexOf(other) > i);
    if (late !== undefined) refuse(`'${plugin.name}' takes over from '${late}', which is installed after it`, `move '${late}' before '${plugin.name}'`);
  });
  const meanings = meaningful(plugins).map((p) => p.plugin.name);
  if (meanings.length > 1) refuse(`${meanings.map((n) => `'${n}'`).join(' and ')} both say what planes mean`, 'keep one of them', { meanings });
}

/**
 * Loads the personalities of a guest and checks them, each alone and all together. Installs nothing.
 * @param from - where they are looked for, or those that are loaded already.
 * @param inputs - the host's part of the options; none by default.
 * @throws {HostError} UnknownPersonality, BadFile, BadPlugin, ApiVersion, BadConfig: each with the fix.
 */
export async function choosePlugins(uses: readonly PersonalityUse[], from: ModuleOrigin | PluginCatalogue, inputs: HostInputs = noInputs): Promise<ChosenPlugins> {
  const catalogue = from instanceof PluginCatalogue ? from : new PluginCatalogue(from);
  // Naming one again, by whichever of its names, adds options to it.
  const given = new Map<PersonalityPlugin, PersonalityUse['options']>();
  // One after the other: the first error is then that of the first entry.
  for (const { use, options } of uses) {
    const { plugin } = await catalogue.load(use);
    given.set(plugin, { ...given.get(plugin), ...options });
  }
  const made: Record<string, PlainRecord> = {};
  const plugins = [...given].map(([plugin, options]): ChosenPlugin => {
    const checked = checkOptions(plugin, options);
    const more = inputs(plugin, checked);
    if (Object.keys(more).length === 0) return { plugin, options: checked };
    made[plugin.name] = more;
    return { plugin, options: checkOptions(plugin, { ...options, ...more }) };
  });
  checkTogether(plugins);
  const [chief] = meaningful(plugins);
  return {
    plugins,
    meaning: chief?.plugin.meaning?.(chief.options) ?? plainPlanes,
    policy: chief?.plugin.policy ?? null,
    rule: chief?.plugin.rule ?? null,
    services: [...new Set(plugins.flatMap(({ plugin, options }) => plugin.services?.(options) ?? []))],
    inputs: made,
  };
}
