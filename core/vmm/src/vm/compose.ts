import { createScope, disposeScope, type Scope } from '@vmplanes/di';
import { Activity, HostError, installEngine, InvariantChecks, type Machine, PAGE_SIZE, type PendingRuleName, pendingRules, type PlainRecord, PlaneId, schedulerPolicies, type SchedulerPolicyName } from '@vmplanes/engine';
import { kvmBehaviours } from '@vmplanes/kvm';
import { X86Arch } from '@vmplanes/x86';
import { createHash } from 'node:crypto';
import { type BootImage, placeBootImage } from '../boot-image.ts';
import { didYouMean } from '../config/explain-issues.ts';
import type { ResolvedGuest } from '../config/guest-types.ts';
import { memoryBytesOf } from '../config/sizes.ts';
import type { ChosenPlugins } from '../plugins/plugin-host.ts';

/** Memory beside that of the guest, for pages that personalities lay over it or keep: at least so many pages, and so many for each plane of each VP. */
const OWNED_PAGES = 64;
const OWNED_PAGES_EACH = 4;
/** Guest memory above this address continues at 4 GiB: the hole is for devices. @spec SDM 3A §10.4.1 (local APIC page) */
const LOW_MEMORY_END = 0xc000_0000;
const HIGH_MEMORY = 0x1_0000_0000;

/** The parts of a composed machine. */
export interface Composed {
  readonly machine: Machine;
  readonly arch: X86Arch;
  /** Names and versions, in order of installation. */
  readonly personalities: readonly { readonly name: string; readonly version: string; readonly options: object }[];
  /** Services of the host that it may ask. */
  readonly services: readonly string[];
  /** Options that the host made up, by the name of their personality. */
  readonly inputs: ChosenPlugins['inputs'];
  dispose(): void;
}

/** What a personality asks for must exist: its author may have misspelt it. */
function known<T extends string>(name: string | null, table: Readonly<Record<T, unknown>>, fallback: T, what: string): T {
  if (name === null) return fallback;
  const names = Object.keys(table);
  if (names.includes(name)) return name as T;
  const near = didYouMean(name, names);
  throw new HostError('BadPlugin', `a personality asks for the ${what} '${name}', which does not exist (${near ? `did you mean '${near}'?` : `known: ${names.join(', ')}`})`);
}

const sorted = (_key: string, value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) : value;

/** Options that are not what they are without being named. An option that a later version adds changes no hash of a guest that does not name it. */
const named = (schema: PlainRecord, options: PlainRecord): object => {
  const properties = schema['properties'] as Readonly<Record<string, PlainRecord>> | undefined;
  return Object.fromEntries(Object.entries(options).filter(([name, value]) => JSON.stringify(properties?.[name]?.['default']) !== JSON.stringify(value)));
};

/** Hash of everything that decides how a guest runs; equal for equal guests, in whatever order their keys were written. */
export const configHashOf = (guest: ResolvedGuest, plugins: ChosenPlugins['plugins'], image: BootImage | null = null): string => {
  const { name: _name, type: _type, personalities: _uses, boot: _boot, ...rest } = guest;
  const personalities = plugins.map(({ plugin: { name, version, options: schema }, options }) => ({ name, version, options: named(schema, options) }));
  // What an image holds counts, not where it lies.
  const booted = image === null ? {} : { boot: { sha256: image.sha256, commandLine: image.commandLine } };
  return createHash('sha256').update(JSON.stringify([{ ...rest, ...booted }, personalities], sorted)).digest('hex');
};

function addMemory(machine: Machine, bytes: number): void {
  const low = Math.min(bytes, LOW_MEMORY_END);
  machine.memory.addSlot({ id: 0, gpa: 0, size: low });
  if (bytes > low) machine.memory.addSlot({ id: 1, gpa: HIGH_MEMORY, size: bytes - low });
}

function addVps(machine: Machine, arch: X86Arch, guest: ResolvedGuest): void {
  for (let i = 0; i < guest.vps; i++) {
    const vp = machine.createVp();
    if (guest.startVps === 'all') {
      arch.apicOf(vp.context).latches.setWaitingForSipi(false);
      vp.context.activity = Activity.Running;
      machine.eventsChanged(vp.context);
    }
    // A personality may have created some of them already.
    for (const plane of guest.startPlanes) if (!vp.planes[plane]) machine.createPlane(vp, PlaneId(plane));
  }
}

/** Says of a machine that the host has no room for which part of the configuration asked for it. */
function withMemory<T>(memory: number | string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof HostError && error.code === 'NoMemory')) throw error;
    throw new HostError('NoMemory', `memory: ${memory}: ${error.message} (ask for less)`, { path: 'memory', fix: 'ask for less' });
  }
}

/** Policy and rule: those of the configuration, else of the profile, else what the personality with the meaning asks for. */
function schedulingOf(guest: ResolvedGuest, chosen: ChosenPlugins): { readonly policy: SchedulerPolicyName; readonly rule: PendingRuleName } {
  const design = guest.profile === 'vmplanes' ? null : kvmBehaviours[guest.profile];
  return {
    policy: guest.policy ?? design?.policy ?? known<SchedulerPolicyName>(chosen.policy, schedulerPolicies, 'highest-runnable', 'policy'),
    rule: guest.rule ?? design?.rule ?? known<PendingRuleName>(chosen.rule, pendingRules, 'deliverable', 'rule'),
  };
}

/**
 * Composes the machine of a guest: engine, architecture, personalities in order, memory, VPs and planes. It has no processors yet.
 * @param check - run the invariants after every event.
 * @param image - placed when all is there.
 * @throws {HostError} with the code of the part that does not fit.
 */
export function composeMachine(guest: ResolvedGuest, chosen: ChosenPlugins, check: boolean, image: BootImage | null = null): Composed {
  const scope: Scope = createScope();
  const bytes = memoryBytesOf(guest.memory);
  const arch = new X86Arch({ cpuModel: guest.cpuModel });
  const machine = withMemory(guest.memory, () => installEngine(scope, {
    arch,
    ...schedulingOf(guest, chosen),
    options: {
      maxVps: guest.vps,
      maxPlanes: guest.planes,
      memoryBytes: bytes + Math.max(OWNED_PAGES, guest.vps * guest.planes * OWNED_PAGES_EACH) * PAGE_SIZE,
      quantum: guest.quantum,
      seed: guest.seed,
      ticksPerInstruction: guest.ticksPerInstruction,
      ticksPerSecond: guest.ticksPerSecond,
      eventCheck: guest.eventCheck ?? (guest.profile === 'vmplanes' || kvmBehaviours[guest.profile].exitBeforeBlocking ? 'first' : 'entry'),
    },
  }));
  machine.setMeaning(chosen.meaning);
  for (const { plugin, options } of chosen.plugins) machine.addPersonality(plugin.install(scope, options), [...(plugin.extends ?? []), ...(plugin.over ?? [])]);
  addMemory(machine, bytes);
  addVps(machine, arch, guest);
  if (image) placeBootImage(machine, arch, image);
  if (check) machine.checks = new InvariantChecks(machine);
  return {
    machine,
    arch,
    personalities: chosen.plugins.map(({ plugin: { name, version }, options }) => ({ name, version, options })),
    services: chosen.services,
    inputs: chosen.inputs,
    dispose: () => disposeScope(scope),
  };
}
