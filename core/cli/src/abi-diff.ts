import { CHECK_EXTENSION, DISPUTES, ERRORS, LAYOUTS, NUMBER_NAMES, NUMBERS, type PlaneNumbers, Profile, PROFILE_INFO, PROFILES, RULES } from '@vmplanes/abi-kvm-planes';
import { hex } from '@vmplanes/binary';

/** One thing that two profiles say differently. */
export interface AbiDifference {
  readonly topic: 'design' | 'number' | 'rule' | 'layout' | 'answer' | 'capability' | 'dispute';
  readonly name: string;
  readonly a: string;
  readonly b: string;
  readonly source: string;
}

export const isProfile = (name: string): name is Profile => (PROFILES as readonly string[]).includes(name);

const ABSENT = '-';

const numberText = (name: keyof PlaneNumbers, value: number | null | undefined): string => {
  if (value === undefined) return ABSENT;
  if (value === null) return 'named, not numbered';
  return name === 'createPlane' || name === 'createVcpuPlane' || value >= 0x1000 ? hex(value) : String(value);
};

const said = (value: unknown): string => (value === undefined ? ABSENT : typeof value === 'bigint' ? hex(value) : String(value));

function* rowsOf(a: Profile, b: Profile): Generator<AbiDifference> {
  for (const name of ['title', 'date', 'scheduler', 'notification'] as const) yield { topic: 'design', name, a: said(PROFILE_INFO[a][name]), b: said(PROFILE_INFO[b][name]), source: '' };
  for (const [key, { name, source }] of Object.entries(NUMBER_NAMES)) {
    const row = key as keyof PlaneNumbers;
    yield { topic: 'number', name, a: numberText(row, NUMBERS[a][row]), b: numberText(row, NUMBERS[b][row]), source };
  }
  for (const key of Object.keys(RULES.vmplanes ?? {})) {
    const rule = key as keyof NonNullable<(typeof RULES)['vmplanes']>;
    yield { topic: 'rule', name: rule, a: said(RULES[a]?.[rule]), b: said(RULES[b]?.[rule]), source: '' };
  }
  for (const key of Object.keys(LAYOUTS.vmplanes)) {
    const layout = key as keyof (typeof LAYOUTS)['vmplanes'];
    const text = (p: Profile): string => {
      const declared = LAYOUTS[p][layout];
      return `${declared.name}, ${'size' in declared ? `${declared.size} bytes` : `${declared.minSize} bytes and more`}`;
    };
    yield { topic: 'layout', name: layout, a: text(a), b: text(b), source: '' };
  }
  for (const row of ERRORS) yield { topic: 'answer', name: `${row.call}: ${row.condition}`, a: said(row.expect[a]), b: said(row.expect[b]), source: row.source };
  for (const capability of new Set(CHECK_EXTENSION.map((r) => r.capability))) {
    for (const fd of ['system', 'vm', 'plane'] as const) {
      const of = (p: Profile): string => said(CHECK_EXTENSION.find((r) => r.capability === capability && r.profile === p)?.[fd]);
      yield { topic: 'capability', name: `${capability} on the ${fd} fd`, a: of(a), b: of(b), source: CHECK_EXTENSION.find((r) => r.capability === capability && r.profile === b)?.source ?? '' };
    }
  }
  for (const d of DISPUTES) yield { topic: 'dispute', name: `${d.id} ${d.question}`, a: d.answers[a], b: d.answers[b], source: d.sources.join('; ') };
}

/** Everything that two published designs of KVM planes say differently, from the tables the facade is driven by. */
export const abiDiff = (a: Profile, b: Profile): readonly AbiDifference[] => [...rowsOf(a, b)].filter((row) => row.a !== row.b);
