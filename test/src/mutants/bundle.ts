// The container refuses to load before the metadata library, which this package of ours loads first.
import '@vmplanes/di';
import { dirname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build, type Plugin } from 'vite';

/** A module outside the workspace that bundles take from the process: how it is written, and what to import. */
export interface External {
  readonly name: string;
  readonly url: string;
}

const PREFIX = '\0external:';
const VIRTUAL = '\0entry';

/** Finds modules outside the workspace and stands in for them with the exports that the process has loaded. */
function externals(found: Map<string, External>): Plugin {
  return {
    name: 'external',
    enforce: 'pre',
    async resolveId(source, importer) {
      if (source === VIRTUAL) return source;
      if (source.startsWith('.') || source.startsWith('/') || source.startsWith('@vmplanes/')) return null;
      if (!found.has(source)) {
        const resolved = source.startsWith('node:') || source === 'vitest' ? null : await this.resolve(source, importer, { skipSelf: true });
        found.set(source, { name: source, url: resolved === null ? source : pathToFileURL(resolved.id).href });
      }
      return PREFIX + source;
    },
    async load(id) {
      if (!id.startsWith(PREFIX)) return null;
      const { name, url } = found.get(id.slice(PREFIX.length))!;
      const names = Object.keys(await importExternal(url)).filter((n) => n !== 'default' && /^[A-Za-z_$][\w$]*$/.test(n));
      return [
        `const e=$m.external[${JSON.stringify(name)}];`,
        ...names.map((n, i) => `const e${i}=e.${n};`),
        `export{${names.map((n, i) => `e${i} as ${n}`).join(',')}};`,
        'export default e.default;',
      ].join('\n');
    },
  };
}

/** Imports a module outside the workspace. */
export async function importExternal(url: string): Promise<Record<string, unknown>> {
  return (await import(url)) as Record<string, unknown>;
}

/**
 * Makes one script of a test file and everything of the workspace that it imports. Each evaluation of the script is a fresh copy of
 * all modules, so tables that are computed when a module loads take part in a change, and no run sees another's state.
 * @param prepare - the text of a file as the script should hold it.
 * @param found - modules outside the workspace, added to.
 * @returns the body of a function of `$m`.
 */
export async function bundle(root: string, entry: string, prepare: (path: string) => string, found: Map<string, External>): Promise<string> {
  const prepared: Plugin = {
    name: 'prepare',
    enforce: 'pre',
    load(id) {
      if (id.startsWith('\0') || !id.endsWith('.ts')) return null;
      return prepare(id).replaceAll('import.meta.url', JSON.stringify(pathToFileURL(id).href)).replaceAll('import.meta.dirname', JSON.stringify(dirname(id)));
    },
  };
  const output = await build({
    configFile: false,
    root,
    logLevel: 'silent',
    publicDir: false,
    // As Node resolves them, so that a module is the one that the process itself would load.
    resolve: { conditions: ['source', 'node', 'import'], mainFields: ['main'] },
    plugins: [externals(found), prepared],
    build: {
      write: false,
      minify: false,
      target: 'es2023',
      lib: { entry, formats: ['iife'], name: 'bundle' },
      rollupOptions: { onwarn: () => {} },
    },
  });
  const [result] = Array.isArray(output) ? output : [output];
  const chunk = result && 'output' in result ? result.output.find((part) => part.type === 'chunk') : undefined;
  if (chunk?.type !== 'chunk') throw new Error(`${entry}: nothing was bundled`);
  return chunk.code;
}
