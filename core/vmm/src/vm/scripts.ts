import { HostError } from '@vmplanes/engine';
import { type Script, ScriptCpu, type ScriptBinding, type TableScript, type X86Arch } from '@vmplanes/x86';
import type { Machine } from '@vmplanes/engine';
import { didYouMean } from '../config/explain-issues.ts';
import type { ResolvedGuest } from '../config/guest-types.ts';
import { importFile } from '../plugins/load-plugin.ts';

const isScript = (value: unknown): value is Script => typeof value === 'object' && value !== null && 'id' in value && typeof value.id === 'string' && ('main' in value || 'steps' in value);

/** The scripts of a module: its export `scripts`, a list. */
function scriptsOf(module: unknown, name: string): readonly Script[] {
  const list = typeof module === 'object' && module !== null && 'scripts' in module ? module.scripts : undefined;
  if (!Array.isArray(list) || !list.every(isScript)) {
    throw new HostError('BadScript', `scripts.module '${name}': exports no list 'scripts' (export const scripts: readonly Script[] = [ ... ])`, { fix: 'export const scripts: readonly Script[] = [ ... ]' });
  }
  return list;
}

/** Scripts by id. @throws {HostError} BadScript when two have one id. */
function byId(lists: readonly (readonly Script[])[]): ReadonlyMap<string, Script> {
  const out = new Map<string, Script>();
  for (const script of lists.flat()) {
    if (out.has(script.id)) throw new HostError('BadScript', `scripts: two have the id '${script.id}' (rename one of them)`, { fix: 'rename one of them' });
    out.set(script.id, script);
  }
  return out;
}

/** What each plane of each VP runs: by VP, then by plane. */
export type Bindings = readonly Readonly<Partial<Record<number, ScriptBinding>>>[];

/**
 * Finds the scripts of a guest.
 * @param given - scripts that a program hands over, beside those of the configuration.
 * @throws {HostError} BadFile, BadScript, BadConfig: each names what is missing.
 */
export async function bindScripts(guest: ResolvedGuest, directory: string, given: readonly Script[]): Promise<Bindings> {
  const bindings: Partial<Record<number, ScriptBinding>>[] = Array.from({ length: guest.vps }, () => ({}));
  const { scripts } = guest;
  if (scripts === null) return bindings;
  const fromModule = scripts.module === undefined ? [] : scriptsOf(await importFile(directory, scripts.module, 'scripts.module'), scripts.module);
  // The steps of a table are checked one by one when they are compiled.
  const tables = Object.entries(scripts.tables ?? {}).map(([id, table]) => ({ id, ...table }) as never as TableScript);
  const known = byId([given, fromModule, tables]);
  scripts.run.forEach(({ vp, plane = 0, script: id, args }, i) => {
    const script = known.get(id);
    if (!script) {
      const near = didYouMean(id, [...known.keys()]);
      const fix = near ? `did you mean '${near}'?` : `known scripts: ${[...known.keys()].join(', ') || 'none'}`;
      throw new HostError('BadConfig', `scripts.run[${i}].script: no script '${id}' (${fix})`, { path: `scripts.run[${i}].script`, fix });
    }
    bindings[vp]![plane] = args === undefined ? { script } : { script, args };
  });
  return bindings;
}

/** Gives every VP a scripted processor. @throws {HostError} BadScript when a table does not compile. */
export const setScriptCpus = (machine: Machine, arch: X86Arch, bindings: Bindings): readonly ScriptCpu[] =>
  machine.vps.map((vp) => {
    const cpu = new ScriptCpu(machine, arch, bindings[vp.index] ?? {});
    machine.setCpu(vp, cpu);
    return cpu;
  });
