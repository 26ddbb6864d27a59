import type { SupportRow } from '@vmplanes/engine';
import { type GuestTypeTable, guestTypes as ownTypes, type LoadedPlugin, PluginCatalogue } from '@vmplanes/vmm';
import { bundled } from '../bundled.ts';
import { type Outcome, tableText } from '../output.ts';

const catalogue = (): PluginCatalogue => new PluginCatalogue({ directory: process.cwd(), plugins: bundled });

const served = (rows: readonly SupportRow[]): string => `${rows.filter((r) => r.support === 'yes').length} of ${rows.length}`;

/** Lists the personalities that come with the program, or tells everything of one. */
export async function personalities(name: string | undefined): Promise<Outcome> {
  if (name === undefined) {
    const all = await catalogue().loadAll();
    const rows = all.map(({ plugin: p }) => [p.name, p.version, served(p.support), p.meaning ? 'yes' : 'no', p.summary]);
    return {
      exit: 'Ok',
      json: { personalities: all.map(({ plugin: { name: n, version, summary, support, meaning } }) => ({ name: n, version, summary, givesMeaning: meaning !== undefined, served: support.filter((r) => r.support === 'yes').length, rows: support.length })) },
      text: tableText(['name', 'version', 'served', 'gives meaning', 'summary'], rows),
    };
  }
  const loaded = await catalogue().load(name);
  return oneOf(loaded);
}

function oneOf({ plugin, guestTypes }: LoadedPlugin): Outcome {
  const { name, version, api, summary, options, support, policy = null, rule = null } = plugin;
  const matrix = tableText(['kind', 'name', 'code', 'served', 'specification', 'note'], support.map((r) => [r.kind, r.name, r.code, r.support, r.spec, r.note ?? '']));
  return {
    exit: 'Ok',
    json: { name, version, api, summary, givesMeaning: plugin.meaning !== undefined, extends: plugin.extends ?? [], policy, rule, options, guestTypes, support },
    text: [`${name} ${version}: ${summary}`, `options: ${JSON.stringify(options['properties'] ?? {})}`, `guest types: ${Object.keys(guestTypes).join(', ') || 'none'}`, '', matrix, '', `served: ${served(support)} rows`].join('\n'),
  };
}

/** Lists the guest types that `run --guest-type` and configurations may name. */
export async function guestTypes(): Promise<Outcome> {
  const loaded = await catalogue().loadAll();
  const all: GuestTypeTable = Object.assign({}, ownTypes, ...loaded.map((p) => p.guestTypes)) as GuestTypeTable;
  const rows = Object.entries(all).map(([name, { summary, base, personalities: uses = [] }]) => [name, name === 'plain' ? '' : (base ?? 'plain'), uses.map((u) => (typeof u === 'string' ? u : u.use)).join(', '), summary]);
  return { exit: 'Ok', json: { guestTypes: all }, text: tableText(['type', 'base', 'personalities', 'summary'], rows) };
}
