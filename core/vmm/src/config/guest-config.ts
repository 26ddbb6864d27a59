import { MAX_PLANES, MAX_VPS, pendingRules, type PlainRecord, schedulerPolicies } from '@vmplanes/engine';
import { kvmBehaviours } from '@vmplanes/kvm';
import { cpuModels } from '@vmplanes/x86';
import { z } from 'zod';
import { MEMORY_SIZE_PATTERN } from './sizes.ts';

const json = z.json();
const optionsRecord = z.record(z.string(), json);

/** Keys of a table, as the tuple that `z.enum` wants. */
const namesOf = <T extends object>(table: T): [keyof T & string, ...(keyof T & string)[]] => Object.keys(table) as [keyof T & string, ...(keyof T & string)[]];

const personalityEntry = z.union([
  z.string().min(1),
  z.strictObject({
    use: z.string().min(1).describe('Short name, package name, or a path that begins with `./`, `../` or `/`; relative paths start at the configuration file.'),
    options: optionsRecord.optional().describe('Options of this personality; see `vmplanes personalities NAME`.'),
  }),
]);

const boot = z.strictObject({
  igvm: z.string().min(1).describe('IGVM file; a path relative to the configuration file.'),
  commandLine: z.string().optional().describe('Command line for images that ask for one.'),
});

const stepTable = z.array(z.record(z.string(), json));

const scriptEntry = z.strictObject({
  vp: z.int().min(0).max(MAX_VPS - 1).describe('Virtual processor that runs the script.'),
  plane: z.int().min(0).max(MAX_PLANES - 1).optional().describe('Plane that runs the script; default 0.'),
  script: z.string().min(1).describe('Id of a script of the module or of the tables.'),
  args: z.record(z.string(), z.union([z.number(), z.string(), z.boolean()])).optional().describe('Arguments handed to the script.'),
});

const scripts = z.strictObject({
  module: z.string().min(1).optional().describe('Module that exports `scripts`, a list of guest scripts; a path relative to the configuration file.'),
  tables: z
    .record(z.string().min(1), z.strictObject({ steps: stepTable, handlers: z.record(z.string(), stepTable).optional().describe('Step tables by interrupt vector; `default` for all others.') }))
    .optional()
    .describe('Scripts in table form, by id.'),
  run: z.array(scriptEntry).min(1).describe('Which plane of which virtual processor runs which script.'),
});

/** Everything a guest type may set and a guest configuration may override. No defaults here: those are the type `plain`. */
export const guestSettings = {
  personalities: z.array(personalityEntry).optional().describe('Personalities in order of installation. Added to those of the guest type; naming one again adds options to it.'),
  vps: z.int().min(1).max(MAX_VPS).optional().describe('Virtual processors.'),
  planes: z.int().min(1).max(MAX_PLANES).optional().describe('Planes that a virtual processor may have: plane ids are below it.'),
  startPlanes: z.array(z.int().min(0).max(MAX_PLANES - 1)).min(1).optional().describe('Planes that exist on every virtual processor from the start. Plane 0 always does.'),
  startVps: z.enum(['boot', 'all']).optional().describe('`boot`: processors other than 0 wait for the start-up signal; `all`: plane 0 of each runs at once.'),
  memory: z
    .union([z.int().min(4096).multipleOf(4096), z.string().regex(MEMORY_SIZE_PATTERN)])
    .optional()
    .describe('Guest memory: bytes, a multiple of 4096, or a text such as "16MiB".'),
  cpuModel: z.enum(namesOf(Object.fromEntries(cpuModels.map((m) => [m.name, m])))).optional().describe('CPU model that CPUID and the MSRs present.'),
  profile: z.enum(namesOf(kvmBehaviours)).optional().describe('Design of KVM planes whose scheduling the guest gets: its policy, pending rule and check of events, unless they are set; `vmplanes` leaves them to the guest type.'),
  policy: z.enum(namesOf(schedulerPolicies)).optional().describe('Which plane of a virtual processor runs. Default: what the personality that gives planes their meaning asks for.'),
  rule: z.enum(namesOf(pendingRules)).optional().describe('What makes a plane count as having pending events.'),
  quantum: z.int().min(1).max(2 ** 40).optional().describe('Machine ticks of one scheduling round.'),
  seed: z.int().min(0).max(2 ** 32 - 1).optional().describe('Seed of every random choice; 0 schedules full slices in order.'),
  ticksPerInstruction: z.number().gt(0).optional().describe('Machine ticks per retired instruction.'),
  ticksPerSecond: z.int().min(1).max(2 ** 40).optional().describe('Machine ticks per second of virtual time: the TSC frequency.'),
  eventCheck: z.enum(['first', 'entry']).optional().describe('`first`: events of other planes are looked at before anything blocks; `entry`: only on the way into the guest.'),
} as const;

/** Schema of a guest configuration: a guest type and what differs from it. */
export const guestConfigSchema = z
  .strictObject({
    $schema: z.string().optional().describe('For editors; not looked at.'),
    type: z.string().min(1).optional().describe('Guest type this configuration starts from; default `plain`. See `vmplanes guest-types`.'),
    name: z.string().min(1).max(64).optional().describe('Name in summaries and traces.'),
    ...guestSettings,
    boot: boot.optional().describe('Image that is placed in the guest before it starts.'),
    scripts: scripts.optional().describe('Scripted guest: what the planes run instead of instructions.'),
  })
  .meta({ title: 'vmplanes guest configuration', description: 'One virtual machine: a guest type and what differs from it.' });

/** Schema of a guest type: deltas over a base type. */
export const guestTypeSchema = z
  .strictObject({
    summary: z.string().min(1).describe('One sentence for listings.'),
    base: z.string().min(1).optional().describe('Guest type these deltas are applied to; default `plain`.'),
    ...guestSettings,
  })
  .meta({ title: 'vmplanes guest type', description: 'Deltas over a base guest type.' });

/** A guest configuration as a file or a program writes it. */
export type GuestConfig = z.input<typeof guestConfigSchema>;
/** A guest type: deltas over a base. */
export type GuestType = z.input<typeof guestTypeSchema>;
/** A guest configuration after the check. */
export type CheckedConfig = z.output<typeof guestConfigSchema>;
/** Which script runs where. */
export type ScriptEntry = z.output<typeof scriptEntry>;

/** JSON Schemas of what users write, generated from the schemas that check it. */
export const jsonSchemas = (): Readonly<Record<'guest' | 'guest-type', PlainRecord>> => ({
  guest: z.toJSONSchema(guestConfigSchema, { io: 'input' }) as PlainRecord,
  'guest-type': z.toJSONSchema(guestTypeSchema, { io: 'input' }) as PlainRecord,
});
