import { type CheckedConfig } from '../config/guest-config.ts';
import { type GuestTypeTable, guestTypes } from '../config/guest-types.ts';
import { loadPlugin, type ModuleOrigin } from './load-plugin.ts';
import type { LoadedPlugin } from './plugin-module.ts';

/** The personalities of one guest as they are loaded: each module once, found again by the name it gives itself. */
export class PluginCatalogue {
  readonly #origin: ModuleOrigin;
  readonly #byUse = new Map<string, LoadedPlugin>();

  constructor(origin: ModuleOrigin) {
    this.#origin = origin;
  }

  /** @throws {HostError} UnknownPersonality, BadFile, BadPlugin, ApiVersion: each with the fix. */
  async load(use: string): Promise<LoadedPlugin> {
    const kept = this.#byUse.get(use) ?? [...this.#byUse.values()].find((p) => p.plugin.name === use);
    const loaded = kept ?? (await loadPlugin(use, this.#origin));
    this.#byUse.set(use, loaded);
    return loaded;
  }

  /**
   * Guest types that a configuration may name: ours, those of the personalities it lists and, when that is not enough, those of all
   * personalities known by name.
   */
  async typesFor(config: CheckedConfig, base: GuestTypeTable = guestTypes): Promise<GuestTypeTable> {
    for (const entry of config.personalities ?? []) await this.load(typeof entry === 'string' ? entry : entry.use);
    if (!Object.hasOwn(this.#types(base), config.type ?? 'plain')) await this.loadAll();
    return this.#types(base);
  }

  /** Loads every personality known by name. */
  async loadAll(): Promise<readonly LoadedPlugin[]> {
    for (const name of Object.keys(this.#origin.plugins)) await this.load(name);
    return [...new Set(this.#byUse.values())];
  }

  #types(base: GuestTypeTable): GuestTypeTable {
    return Object.assign({}, base, ...[...this.#byUse.values()].map((p) => p.guestTypes)) as GuestTypeTable;
  }
}
