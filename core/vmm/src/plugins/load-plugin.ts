import { HostError } from '@vmplanes/engine';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { didYouMean } from '../config/explain-issues.ts';
import { checkPluginModule, type LoadedPlugin } from './plugin-module.ts';

/** Personality modules known by a short name: each is imported when a guest names it. */
export type PluginTable = Readonly<Record<string, () => Promise<unknown>>>;

/** Where modules that a configuration names are looked for. */
export interface ModuleOrigin {
  /** Directory that relative paths and package names start from. */
  readonly directory: string;
  readonly plugins: PluginTable;
}

/** The directory of a configuration file, or of a module given by its URL. */
export const directoryOf = (file: string | URL): string => dirname(resolve(file instanceof URL || file.startsWith('file:') ? fileURLToPath(file) : file));

/** True for names that mean a file. */
export const isPath = (name: string): boolean => name.startsWith('./') || name.startsWith('../') || name.startsWith('file:') || isAbsolute(name);

const pathIn = (directory: string, name: string): string => (name.startsWith('file:') ? fileURLToPath(name) : resolve(directory, name));

const cannot = (source: string, why: string, fix: string): HostError => new HostError('UnknownPersonality', `${source}: ${why} (${fix})`, { source, fix });

/** The compiled file of a TypeScript file, by the usual layout: `src/a.ts` is `dist/a.js`. */
const builtOf = (file: string): string | null => {
  const at = file.lastIndexOf('/src/');
  return at < 0 || !file.endsWith('.ts') ? null : `${file.slice(0, at)}/dist/${file.slice(at + 5, -3)}.js`;
};

const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined);

/** Imports a file; a TypeScript file that Node.js does not run as it is by its compiled form. */
async function importModule(file: string): Promise<unknown> {
  try {
    return await import(pathToFileURL(file).href);
  } catch (error) {
    const built = builtOf(file);
    if (codeOf(error) !== 'ERR_UNKNOWN_FILE_EXTENSION' || built === null || !existsSync(built)) throw error;
    return import(pathToFileURL(built).href);
  }
}

/**
 * Imports a module that a configuration names by path.
 * @param name - relative to `directory`, absolute or a `file:` URL.
 * @throws {HostError} BadFile when there is none or it cannot be evaluated.
 */
export async function importFile(directory: string, name: string, what: string): Promise<unknown> {
  const file = pathIn(directory, name);
  if (!existsSync(file)) throw new HostError('BadFile', `${what} '${name}': no file ${file} (relative paths start at the configuration file)`, { path: file, fix: 'correct the path' });
  try {
    return await importModule(file);
  } catch (error) {
    if (error instanceof HostError) throw error;
    const fix = codeOf(error) === 'ERR_UNKNOWN_FILE_EXTENSION' ? ' (compile it first: Node.js runs JavaScript)' : '';
    throw new HostError('BadFile', `${what} '${name}' cannot be loaded: ${error instanceof Error ? error.message : String(error)}${fix}`, { path: file, cause: error });
  }
}

/** Imports a personality by short name, package name or path. */
async function importPersonality(name: string, origin: ModuleOrigin): Promise<unknown> {
  const known = Object.hasOwn(origin.plugins, name) ? origin.plugins[name] : undefined;
  if (known) return known();
  if (isPath(name)) return importFile(origin.directory, name, 'personality');
  let file: string;
  try {
    // Resolved from the configuration's place, not from ours: its author installed the package there.
    file = createRequire(join(origin.directory, 'guest.json')).resolve(name);
  } catch {
    const names = Object.keys(origin.plugins);
    const near = didYouMean(name, names);
    const local = existsSync(pathIn(origin.directory, name)) ? `a path begins with ./: write './${name}'` : null;
    throw cannot(`personality '${name}'`, `neither a known name nor a package found from ${origin.directory}`, local ?? (near ? `did you mean '${near}'?` : `known names: ${names.join(', ') || 'none'}; paths begin with ./`));
  }
  return importFile(origin.directory, file, 'personality');
}

/**
 * Loads and checks a personality.
 * @param name - short name, package name or path, as configurations write it.
 * @throws {HostError} UnknownPersonality, BadFile, BadPlugin, ApiVersion: each with the fix.
 */
export const loadPlugin = async (name: string, origin: ModuleOrigin): Promise<LoadedPlugin> => checkPluginModule(await importPersonality(name, origin), `personality '${name}'`);
