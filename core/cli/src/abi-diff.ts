import { CHECK_EXTENSION, ERRORS, LAYOUTS, NUMBER_NAMES, NUMBERS, type PlaneNumbers, Profile, PROFILE_INFO, PROFILES, RULES } from '@vmplanes/abi-kvm-planes';
import { hex } from '@vmplanes/binary';
import { planesAbiDiff } from '@vmplanes/kvm';

/** One thing that two profiles say differently. */
export interface AbiDifference {
  /** `observed` rows were run under both profiles just now; all others are quoted from the tables. */
  readonly topic: 'observed' | 'design' | 'number' | 'rule' | 'layout' | 'answer' | 'capability' | 'dispute';
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

type Declared = (typeof LAYOUTS)[Profile][keyof (typeof LAYOUTS)['vmplanes']];

const sizeText = (declared: Declared): string => `${declared.name}, ${'size' in declared ? `${declared.size} bytes` : `${declared.minSize} bytes and more`}`;

/** Type and offset of every named field, and of those of the elements behind a tail. */
function fieldsOf(declared: Declared): ReadonlyMap<string, string> {
  const rows = (of: object, prefix: string): readonly (readonly [string, string])[] =>
    Object.entries(of as Readonly<Record<string, readonly [number, { readonly name: string }]>>)
      .filter(([name]) => !name.startsWith('reserved'))
      .map(([name, [offset, layout]]) => [`${prefix}${name}`, `${layout.name} at ${hex(offset)}`]);
  if ('fields' in declared) return new Map(rows(declared.fields, ''));
  return new Map([...rows(declared.header.fields, ''), ...rows(declared.of.fields, `${declared.key}[].`)]);
}

function* rowsOf(a: Profile, b: Profile): Generator<AbiDifference> {
  for (const row of planesAbiDiff(a, b)) yield { topic: row.isObserved ? 'observed' : 'dispute', name: `${row.id} ${row.question}`, a: row.a, b: row.b, source: row.source };
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
    yield { topic: 'layout', name: layout, a: sizeText(LAYOUTS[a][layout]), b: sizeText(LAYOUTS[b][layout]), source: '' };
    const [left, right] = [fieldsOf(LAYOUTS[a][layout]), fieldsOf(LAYOUTS[b][layout])];
    for (const field of new Set([...left.keys(), ...right.keys()])) yield { topic: 'layout', name: `${layout}.${field}`, a: left.get(field) ?? ABSENT, b: right.get(field) ?? ABSENT, source: '' };
  }
  for (const row of ERRORS) yield { topic: 'answer', name: `${row.call}: ${row.condition}`, a: said(row.expect[a]), b: said(row.expect[b]), source: row.source };
  for (const capability of new Set(CHECK_EXTENSION.map((r) => r.capability))) {
    for (const fd of ['system', 'vm', 'plane'] as const) {
      const of = (p: Profile): string => said(CHECK_EXTENSION.find((r) => r.capability === capability && r.profile === p)?.[fd]);
      yield { topic: 'capability', name: `${capability} on the ${fd} fd`, a: of(a), b: of(b), source: CHECK_EXTENSION.find((r) => r.capability === capability && r.profile === b)?.source ?? '' };
    }
  }
}

/** Everything that two published designs of KVM planes say or do differently: disputes run side by side, then the tables the facade is driven by. */
export const abiDiff = (a: Profile, b: Profile): readonly AbiDifference[] => [...rowsOf(a, b)].filter((row) => row.a !== row.b);
