import { HostError, type PersonalityPlugin, type PlainRecord } from '@vmplanes/engine';
import { z } from 'zod';
import { checkAgainst } from '../config/check-config.ts';

/**
 * Checks options against the plug-in's own JSON Schema and fills in its defaults.
 * @throws {HostError} BadPlugin when the schema itself is not usable, BadConfig when the options do not fit it.
 */
export function checkOptions(plugin: PersonalityPlugin, given: Readonly<Record<string, unknown>>): PlainRecord {
  let schema: z.ZodType;
  try {
    // An options schema that forgets to say so still refuses unknown names: a misspelt option must not pass in silence.
    schema = z.fromJSONSchema({ additionalProperties: false, ...plugin.options } as Parameters<typeof z.fromJSONSchema>[0]);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HostError('BadPlugin', `${plugin.name}: its options schema cannot be used: ${why}`, { fix: 'write it in JSON Schema 2020-12, with "type": "object"' });
  }
  return checkAgainst(schema, given, `options of ${plugin.name}`) as PlainRecord;
}
