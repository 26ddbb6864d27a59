import { HostError, type PlainRecord } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { defaultOptions, optionsOf, optionsSchema, svsmDeviations } from './options.ts';

const properties = optionsSchema['properties'] as Readonly<Record<string, PlainRecord>>;
const schemaOf = (name: string): PlainRecord => {
  const { default: _default, description: _description, ...schema } = properties[name]!;
  return schema;
};

describe('options', () => {
  it('have these defaults', () => {
    expect(defaultOptions).toEqual({
      level: 'sev-snp', svsm: 'none', start: 'image', features: [],
      allowed: ['VirtualTom', 'ReflectVc', 'RestrictedInjection', 'AlternateInjection', 'DebugSwap', 'PreventHostIbs', 'BtbIsolation', 'VmplSss', 'SecureTsc', 'SmtProtection', 'IbpbOnEntry'],
      cBit: 51, physicalReduction: 1, virtualTom: '0x0', largePages: true, ghcbVersion: 2, hypervUsages: false, missingCpl: 'refuse', refusedAccess: 'exit', guestVmpl: 2,
      svsmBase: '0x8000000', svsmSize: '0x1000000', callingArea: '0x80f000', firmwareBase: '0x800000', firmwareSize: '0x10000', secretsPage: '0x80d000', cpuidPage: '0x80e000',
      vtpm: false, svsmApic: false, svsmDeviations: [], svsmBusyEvery: 0, svsmIncompleteEvery: 0, platformSeed: '', signing: 'none', reportVersion: 3,
      tcb: { fmc: 1, bootLoader: 4, tee: 0, snp: 22, microcode: 213 }, policy: '0x30000', hostData: '', intercepts: [],
    });
    expect(optionsOf({})).toEqual(defaultOptions);
    for (const [name, { default: initial, description }] of Object.entries(properties)) {
      expect(initial, name).toEqual((defaultOptions as object as PlainRecord)[name]);
      expect(String(description), name).toMatch(/\.$/);
    }
    expect(Object.keys(properties)).toEqual(Object.keys(defaultOptions));
    expect([optionsSchema['type'], optionsSchema['additionalProperties']]).toEqual(['object', false]);
  });
  it.each([
    ['level', { enum: ['sev-snp', 'sev-es', 'sev'] }],
    ['svsm', { enum: ['none', 'guest', 'builtin'] }],
    ['start', { enum: ['image', 'reset'] }],
    ['ghcbVersion', { enum: [2, 1] }],
    ['missingCpl', { enum: ['refuse', 'zero'] }],
    ['refusedAccess', { enum: ['exit', 'vmpl0'] }],
    ['signing', { enum: ['none', 'vcek', 'vlek'] }],
    ['reportVersion', { enum: [3, 2, 4, 5] }],
    ['features', { type: 'array', items: { enum: defaultOptions.allowed }, uniqueItems: true }],
    ['allowed', { type: 'array', items: { enum: defaultOptions.allowed }, uniqueItems: true }],
    ['intercepts', { type: 'array', items: { enum: ['rdtsc', 'rdtscp', 'pause'] }, uniqueItems: true }],
    ['svsmDeviations', { type: 'array', items: { enum: Object.keys(svsmDeviations) }, uniqueItems: true }],
    ['cBit', { type: 'integer', minimum: 32, maximum: 51 }],
    ['physicalReduction', { type: 'integer', minimum: 0, maximum: 63 }],
    ['guestVmpl', { type: 'integer', minimum: 1, maximum: 3 }],
    ['svsmBusyEvery', { type: 'integer', minimum: 0, maximum: 1_000_000 }],
    ['svsmIncompleteEvery', { type: 'integer', minimum: 0, maximum: 511 }],
    ['largePages', { type: 'boolean' }],
    ['hypervUsages', { type: 'boolean' }],
    ['vtpm', { type: 'boolean' }],
    ['svsmApic', { type: 'boolean' }],
    ['virtualTom', { type: 'string', pattern: '^0x[0-9a-fA-F]{1,13}$' }],
    ['svsmBase', { type: 'string', pattern: '^0x[0-9a-fA-F]{1,13}$' }],
    ['policy', { type: 'string', pattern: '^0x[0-9a-fA-F]{1,16}$' }],
    ['platformSeed', { type: 'string', pattern: '^([0-9a-fA-F]{96})?$' }],
    ['hostData', { type: 'string', pattern: '^([0-9a-fA-F]{64})?$' }],
    [
      'tcb',
      {
        type: 'object',
        properties: Object.fromEntries(Object.entries({ fmc: 1, bootLoader: 4, tee: 0, snp: 22, microcode: 213 }).map(([name, n]) => [name, { type: 'integer', minimum: 0, maximum: 255, default: n }])),
        additionalProperties: false,
      },
    ],
  ])('%s takes what it says', (name, schema) => {
    expect(schemaOf(name)).toEqual(schema);
  });
  it('deviations have a sentence each', () => {
    expect(Object.keys(svsmDeviations)).toEqual(['remapCurrent', 'tpmOversize', 'attestationCall', 'attestationOrder', 'runError', 'firstEntry', 'uncheckedPages']);
  });

  const builtin = { svsm: 'builtin' } as const;
  const accepted: readonly PlainRecord[] = [
    builtin,
    { svsm: 'guest' },
    { svsm: 'guest', refusedAccess: 'vmpl0' },
    { refusedAccess: 'vmpl0' },
    { level: 'sev' },
    { level: 'sev-es' },
    { level: 'sev', ghcbVersion: 1 },
    { level: 'sev-es', ghcbVersion: 1 },
    { level: 'sev-es', features: ['DebugSwap', 'PreventHostIbs'] },
    { features: ['RestrictedInjection'] },
    { features: ['AlternateInjection', 'SecureTsc'] },
    { features: ['VirtualTom'], virtualTom: '0x40000000' },
    // The memory of the firmware touches that of the SVSM at either end.
    { ...builtin, svsmBase: '0x810000', svsmSize: '0x1000' },
    { ...builtin, svsmBase: '0x7ff000', svsmSize: '0x1000' },
    // Each page at the first and at the last place of the firmware.
    { ...builtin, callingArea: '0x800000' },
    { ...builtin, secretsPage: '0x800000' },
    { ...builtin, cpuidPage: '0x800000' },
    { ...builtin, callingArea: '0x801000', secretsPage: '0x80f000' },
    { ...builtin, callingArea: '0x801000', cpuidPage: '0x80f000' },
    // Without a built-in SVSM its places mean nothing.
    { svsmSize: '0x0', callingArea: '0x0', svsmBase: '0x800000' },
    { allowed: [], features: [] },
    { allowed: ['SecureTsc'], features: ['SecureTsc'] },
    { policy: '0x20000' },
  ];
  it.each(accepted.map((options) => [JSON.stringify(options), options] as const))('take %s', (_text, options) => {
    expect(optionsOf(options)).toEqual({ ...defaultOptions, ...options });
  });

  const refused: readonly (readonly [options: PlainRecord, why: RegExp])[] = [
    [{ policy: '0x0' }, /does not accept the policy 0x0/],
    [{ policy: '0x10000' }, /does not accept the policy/],
    [{ level: 'sev-es', svsm: 'guest' }, /svsm 'guest' needs the level sev-snp, not sev-es/],
    [{ level: 'sev', svsm: 'builtin' }, /needs the level sev-snp, not sev/],
    ...(['svsmBase', 'svsmSize', 'callingArea', 'firmwareBase', 'firmwareSize', 'secretsPage', 'cpuidPage'] as const).flatMap((name) => [
      [{ [name]: '0x803001' }, new RegExp(`${name} 0x803001 is not a multiple of 4096`)] as const,
      [{ [name]: '0x803800' }, new RegExp(`${name} 0x803800 is not a multiple of 4096`)] as const,
    ]),
    [{ ...builtin, refusedAccess: 'vmpl0' }, /refusedAccess must be exit/],
    [{ ...builtin, svsmSize: '0x0' }, /svsmSize is 0/],
    [{ ...builtin, svsmBase: '0x80f000', svsmSize: '0x1000' }, /overlaps/],
    [{ ...builtin, svsmBase: '0x7ff000', svsmSize: '0x2000' }, /overlaps/],
    [{ ...builtin, svsmBase: '0x700000', svsmSize: '0x1000000' }, /overlaps/],
    ...(['callingArea', 'secretsPage', 'cpuidPage'] as const).flatMap((name) => [
      [{ ...builtin, [name]: '0x7ff000' }, new RegExp(`${name} 0x7ff000 is not in the memory of the firmware`)] as const,
      [{ ...builtin, [name]: '0x810000' }, new RegExp(`${name} 0x810000 is not in the memory of the firmware`)] as const,
    ]),
    [{ ...builtin, callingArea: '0x80d000' }, /need a page each/],
    [{ ...builtin, callingArea: '0x80e000' }, /need a page each/],
    [{ ...builtin, secretsPage: '0x80e000' }, /need a page each/],
    [{ ghcbVersion: 1 }, /needs ghcbVersion 2/],
    [{ allowed: ['SecureTsc'], features: ['DebugSwap'] }, /feature DebugSwap is not among those allowed/],
    [{ level: 'sev-es', features: ['SecureTsc'] }, /feature SecureTsc means nothing at the level sev-es/],
    [{ level: 'sev', features: ['DebugSwap'] }, /feature DebugSwap means nothing at the level sev/],
    [{ level: 'sev-es', features: ['DebugSwap', 'SecureTsc'] }, /feature SecureTsc means nothing/],
    [{ features: ['RestrictedInjection', 'AlternateInjection'] }, /exclude each other/],
    [{ features: ['VirtualTom'] }, /go together/],
    [{ virtualTom: '0x1000' }, /go together/],
  ];
  it.each(refused.map(([options, why]) => [JSON.stringify(options), options, why] as const))('refuse %s', (_text, options, why) => {
    const run = (): unknown => optionsOf(options);
    expect(run).toThrow(HostError);
    expect(run).toThrow(why);
    try {
      run();
    } catch (error) {
      expect((error as HostError).code).toBe('BadConfig');
    }
  });
});
