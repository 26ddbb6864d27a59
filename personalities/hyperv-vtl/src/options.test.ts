import { DISPUTES } from '@vmplanes/abi-hyperv';
import { HostError, type PlainRecord } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { defaultOptions, optionsOf, optionsSchema, profiles } from './options.ts';

const properties = optionsSchema['properties'] as Readonly<Record<string, PlainRecord>>;
/** What a host fills in where a configuration says nothing. */
const filled = Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, schema['default']!]));

describe('options', () => {
  it('have a default and a description each', () => {
    for (const [name, schema] of Object.entries(properties)) {
      expect(schema['default'], name).toBeDefined();
      expect(String(schema['description']), name).toMatch(/\.$/);
    }
    expect(Object.keys(properties).sort()).toEqual(['profile', ...Object.keys(defaultOptions)].sort());
  });
  it('are the defaults when nothing is said, or everything by default', () => {
    expect(optionsOf({})).toEqual(defaultOptions);
    expect(optionsOf(filled)).toEqual(defaultOptions);
  });
  it.each(Object.entries(profiles))('take what the profile %s says, also when the host fills in defaults', (profile, changes) => {
    expect(optionsOf({ ...filled, profile })).toEqual({ ...defaultOptions, ...changes });
  });
  it('put what is set itself above the profile', () => {
    expect(optionsOf({ profile: 'openvmm', straddleStatus: 4, maximumVtl: 2 })).toMatchObject({ straddleStatus: 4, maximumVtl: 2, nonRamStatus: 8 });
  });
  it('profiles only set switches', () => {
    for (const changes of Object.values(profiles)) for (const name of Object.keys(changes)) expect(properties[name]!['default']).toBe('profile');
  });
  it('decide every question on which sources differ, unless the answer makes no difference', () => {
    for (const { id, noOption } of DISPUTES) expect([id, Object.hasOwn(defaultOptions, id)]).toEqual([id, noOption === undefined]);
    expect(DISPUTES.filter((d) => d.noOption !== undefined).map((d) => d.id)).toEqual(['sharedDebugRegisters', 'messageTypes5And6']);
    const switches = Object.entries(properties).flatMap(([name, schema]) => (name !== 'profile' && schema['default'] === 'profile' ? [name] : []));
    expect(switches.sort()).toEqual(DISPUTES.flatMap((d) => (d.noOption === undefined ? [d.id] : [])).sort());
  });
  it('complete ports and offsets', () => {
    const { ports, codeOffsets } = optionsOf({ ports: [{ connectionId: 4, kind: 'message', sint: 2 }], codeOffsets: { return64: 0x28 } });
    expect([ports, codeOffsets]).toEqual([[{ connectionId: 4, kind: 'message', sint: 2, vp: 0, vtl: 0, baseFlag: 0, flagCount: 2048, minConnectionVtl: 0 }], { call64: 0x0f, return64: 0x28, call32: 0x04, return32: 0x1b }]);
  });

  const port = { connectionId: 4, kind: 'event', sint: 2 };
  it.each([
    ['an unknown profile', { profile: 'none' }],
    ['a profile by an inherited name', { profile: 'toString' }],
    ['an unknown option', { maxVtl: 1 }],
    ['two ports with one connection', { ports: [port, port] }],
    ['a port of a VTL that cannot be', { ports: [{ ...port, vtl: 2 }] }],
    ['flags behind the last', { ports: [{ ...port, baseFlag: 2040, flagCount: 9 }] }],
  ])('refuse %s', (_what, given) => {
    expect(() => optionsOf(given)).toThrow(HostError);
  });
});
