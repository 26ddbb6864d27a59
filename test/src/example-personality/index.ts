import { Machine, PERSONALITY_API, type PersonalityPlugin, type PlainRecord, type SupportRow } from '@vmplanes/engine';
import { Call, LEAF, Msr } from './abi.ts';
import { ExamplePersonality, meaning } from './personality.ts';

const hex = (n: number): string => `0x${n.toString(16)}`;
const row = (kind: string, name: string, code: string): SupportRow => ({ kind, name, code, spec: 'abi.ts', support: 'yes' });

/** The one thing a personality package must export. */
export const personality: PersonalityPlugin = {
  name: 'example',
  version: '1.0.0',
  api: PERSONALITY_API,
  summary: 'Three planes on top of each other, with calls between them: shows how a personality is written.',
  options: { type: 'object', properties: { names: { type: 'array', items: { type: 'string' }, default: ['app', 'guard', 'vault'], description: 'Names of the planes, lowest first.' } } },
  meaning: ({ names }) => meaning(names as readonly string[]),
  policy: 'highest-runnable',
  rule: 'deliverable',
  support: [
    ...Object.entries(Call).map(([name, code]) => row('call', name, String(code))),
    ...Object.entries(Msr).map(([name, code]) => row('msr', name, hex(code))),
    row('cpuid', 'signature', hex(LEAF)),
  ],
  install: (scope) => new ExamplePersonality(scope.resolve(Machine.token)),
};

/** Guest types it brings along: plain data. */
export const guestTypes: Readonly<Record<string, PlainRecord>> = {
  example: { summary: 'Three planes under the example personality.', personalities: ['example'], planes: 3, startPlanes: [0, 1, 2] },
};
