import type { PlainRecord } from '@vmplanes/engine';
import type { Script } from '@vmplanes/x86';
import type { JsonRecord, LineSink } from '@vmplanes/trace';
import { randomBytes } from 'node:crypto';
import { readBootImage } from './boot-image.ts';
import { checkConfig } from './config/check-config.ts';
import type { GuestConfig } from './config/guest-config.ts';
import { type GuestTypeTable, type ResolvedGuest, resolveGuest } from './config/guest-types.ts';
import { PluginCatalogue } from './plugins/catalogue.ts';
import { directoryOf, type PluginTable } from './plugins/load-plugin.ts';
import { choosePlugins } from './plugins/plugin-host.ts';
import { type HostServiceKind, HostServices, hostServices } from './services/host-service.ts';
import { type Composed, composeMachine, configHashOf } from './vm/compose.ts';
import { bindScripts, setScriptCpus } from './vm/scripts.ts';
import { Vm } from './vm/vm.ts';
import { VmTrace } from './vm/vm-trace.ts';

/** What the program around a VM gives it, beside its configuration. */
export interface VmHost {
  /** A file (or module URL) that relative paths of the configuration start from; default: the working directory. */
  readonly baseFile?: string | URL;
  /** Personalities known by a short name. */
  readonly plugins?: PluginTable;
  /** Guest types beside those of the personalities. */
  readonly guestTypes?: GuestTypeTable;
  /** Scripts beside those that the configuration names. */
  readonly scripts?: readonly Script[];
  /** Records the run: a file name, or a function that takes each line. */
  readonly trace?: string | LineSink;
  /** What the header of the trace says of the guest beyond its configuration: plain data. */
  readonly traceNotes?: JsonRecord;
  /** Runs the invariants after every event; slow. */
  readonly check?: boolean;
  /** Options that the host made up for an earlier machine, by the name of their personality: used again instead of new ones, as a snapshot of that machine needs it. */
  readonly inputs?: Readonly<Record<string, PlainRecord>>;
  /** Services of the host by name, beside or instead of those of the program. */
  readonly services?: Readonly<Record<string, HostServiceKind>>;
}

/** A guest with everything that its configuration names, composed and not yet run. */
export interface ComposedGuest {
  readonly guest: ResolvedGuest;
  readonly composed: Composed;
  readonly configHash: string;
  readonly directory: string;
}

const hostDirectory = (host: VmHost): string => (host.baseFile === undefined ? process.cwd() : directoryOf(host.baseFile));

/** Composes the machine of a configuration without processors; `createVm` and replays share it. */
export async function composeGuest(config: GuestConfig, host: VmHost): Promise<ComposedGuest> {
  const checked = checkConfig(config);
  const directory = hostDirectory(host);
  const catalogue = new PluginCatalogue({ directory, plugins: host.plugins ?? {} });
  const guest = resolveGuest(checked, await catalogue.typesFor(checked, host.guestTypes));
  const chosen = await choosePlugins(guest.personalities, catalogue, (plugin, options) => host.inputs?.[plugin.name] ?? plugin.hostInputs?.(options, freshBytes) ?? {});
  const image = guest.boot === null ? null : readBootImage(guest.boot, directory);
  const composed = composeMachine(guest, chosen, host.check ?? false, image);
  return { guest, composed, configHash: configHashOf(guest, chosen.plugins, image), directory };
}

const freshBytes = (bytes: number): Uint8Array => new Uint8Array(randomBytes(bytes));

/** A configuration in which the host's part of the options is written down. */
const withInputs = (config: GuestConfig, inputs: Composed['inputs']): GuestConfig => {
  const uses = Object.entries(inputs).map(([use, options]) => ({ use, options: options as NonNullable<Exclude<NonNullable<GuestConfig['personalities']>[number], string>['options']> }));
  return uses.length === 0 ? config : { ...config, personalities: [...(config.personalities ?? []), ...uses] };
};

/**
 * Makes a virtual machine from a guest configuration.
 * @param config - checked here; see the generated JSON Schema.
 * @throws {HostError} BadConfig, UnknownPersonality, BadPlugin, ApiVersion, DoubleClaim, BadFile, BadImage, BadScript, NoMemory, NoService: in one line each,
 *   with path and fix.
 * @example
 * const vm = await createVm({ vps: 1, scripts: { run: [{ vp: 0, script: 'hello' }] } }, { scripts: [hello] });
 * const { reason } = await vm.run();
 */
export async function createVm(config: GuestConfig, host: VmHost = {}): Promise<Vm> {
  const { guest, composed, configHash, directory } = await composeGuest(config, host);
  try {
    const services = new HostServices(composed.services, { ...hostServices, ...host.services });
    const cpus = setScriptCpus(composed.machine, composed.arch, await bindScripts(guest, directory, host.scripts ?? []));
    const subject = { configHash, cpuModel: guest.cpuModel, personalities: composed.personalities, guest: { config: withInputs(config, composed.inputs), ...host.traceNotes } };
    const trace = host.trace === undefined ? null : new VmTrace(composed.machine, subject, host.trace);
    return new Vm(guest, composed, cpus, configHash, trace, services);
  } catch (error) {
    composed.dispose();
    throw error;
  }
}
