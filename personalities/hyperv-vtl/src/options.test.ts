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

  /** The switches of the specification's list of differences: default first, then the others. */
  const SWITCHES: Readonly<Record<string, readonly unknown[]>> = {
    controlLayout: ['tlfs', 'v6'], straddleStatus: [4, 3], vtlProtTarget: ['lenient', 'owner', 'restricted'], strictExecBits: [false, true], executeBitOrder: ['kernelFirst', 'userFirst'], vsmCapsLayout: ['lsb', 'tlfs'], mbecVtlMask: ['subject', 'owner'],
    partitionEnabledStatus: [0x51, 5], vpEnabledStatus: [0x86, 5], badVtlStatus: [5, 6], allowUpwardIpi: [false, true], clusterIpiAll: [true, false], apicIdElement: [4, 8], memoryMessageBytes: [0xf0, 0x50], setRegistersElement: ['record', 'packed'],
    otherVpRegisters: [true, false], partitionIdStatus: ['byCall', 'invalidPartitionId'], interceptGva: [false, true], maskChangeStatus: [0, 0x50], protectionClearStatus: [0, 0x50], protectionsEnabledBy: ['bit', 'write'], strictSelfRegs: [false, true],
    scontrolEnabled: [false, true], vtl1ApicSwEnabled: [false, true], translateOwnVtl: [true, false], translateExOutput: [0x40, 24], busyIntercept: ['queue', 'drop'], hypercallPageWrite: ['gp', 'mc'],
    installInterceptCaller: ['higherVtl', 'parent', 'higherVtlAll'], startStartedVp: ['refuse', 'restart'], dropStartup: ['always', 'denied'], nonRamStatus: [5, 8], prefillReturn: [true, false], vinaAutoReset: ['entry', 'return'],
    assistPageContent: ['zeroFirst', 'zeroEach', 'kept'],
  };
  it('have the values of the list', () => {
    const enums = Object.entries(properties).flatMap(([name, schema]) => (name !== 'profile' && Array.isArray(schema['enum']) ? [[name, schema['enum'].slice(1)] as const] : []));
    expect(Object.fromEntries(enums)).toEqual(SWITCHES);
    const defaults: Readonly<Record<string, unknown>> = defaultOptions;
    expect(Object.fromEntries(Object.keys(SWITCHES).map((name) => [name, defaults[name]]))).toEqual(Object.fromEntries(Object.entries(SWITCHES).map(([name, values]) => [name, values[0]])));
  });
  it('that are no switches have these limits and defaults', () => {
    expect(properties['maximumVtl']).toMatchObject({ type: 'integer', minimum: 0, maximum: 2, default: 1 });
    expect(properties['repBudget']).toMatchObject({ type: 'integer', minimum: 1, maximum: 1_000_000_000, default: 50_000 });
    for (const [name, initial] of [['mbec', false], ['dr6Shared', false], ['xmmHypercalls', true]] as const) expect(properties[name], name).toMatchObject({ type: 'boolean', default: initial });
    for (const name of ['withhold', 'ports', 'devices']) expect(properties[name], name).toMatchObject({ type: 'array', default: [] });
    expect(properties['devices']).toMatchObject({ items: { type: 'integer', minimum: 0, maximum: 0xffff_ffff }, uniqueItems: true });
    expect(properties['withhold']).toMatchObject({ uniqueItems: true });
    const range = (minimum: number, maximum: number, initial?: number) => ({ type: 'integer', minimum, maximum, ...(initial === undefined ? {} : { default: initial }) });
    expect((properties['ports'] as Readonly<Record<string, PlainRecord>>)['items']).toEqual({
      type: 'object',
      properties: { connectionId: range(1, 0xff_ffff), kind: { enum: ['message', 'event'] }, vp: range(0, 63, 0), vtl: range(0, 2, 0), sint: range(0, 15), baseFlag: range(0, 2047, 0), flagCount: range(0, 2048, 2048), minConnectionVtl: range(0, 2, 0) },
      required: ['connectionId', 'kind', 'sint'],
      additionalProperties: false,
    });
    const offset = (initial: number) => range(4, 0xff8, initial);
    expect(JSON.stringify(properties['codeOffsets'])).toContain(JSON.stringify({ call64: offset(0x0f), return64: offset(0x26), call32: offset(0x04), return32: offset(0x1b) }));
  });
  it('profiles are what their implementation does', () => {
    expect(profiles).toEqual({
      default: {},
      'kvm-unit-tests': { vsmCapsLayout: 'tlfs', allowUpwardIpi: true },
      qemu: { vtlProtTarget: 'restricted', codeOffsets: { call64: 0x16, return64: 0x20, call32: 0x16, return32: 0x20 }, partitionEnabledStatus: 5, vpEnabledStatus: 5, allowUpwardIpi: true, setRegistersElement: 'packed', partitionIdStatus: 'invalidPartitionId', vtl1ApicSwEnabled: true, assistPageContent: 'zeroEach' },
      whp: { codeOffsets: { call64: 0x0f, return64: 0x28, call32: 0x04, return32: 0x1b }, startStartedVp: 'restart' },
      openvmm: {
        vtlProtTarget: 'owner', strictExecBits: true, straddleStatus: 3, badVtlStatus: 6, clusterIpiAll: false, memoryMessageBytes: 0x50, otherVpRegisters: false, maskChangeStatus: 0x50, protectionClearStatus: 0x50, protectionsEnabledBy: 'write',
        scontrolEnabled: true, translateOwnVtl: false, busyIntercept: 'drop', dropStartup: 'denied', nonRamStatus: 8, prefillReturn: false, vinaAutoReset: 'return', assistPageContent: 'kept', strictSelfRegs: true,
      },
    });
  });

  const port = { connectionId: 4, kind: 'event', sint: 2 };
  it.each([
    ['an unknown profile', { profile: 'none' }],
    ['a profile by an inherited name', { profile: 'toString' }],
    ['an unknown option', { maxVtl: 1 }],
    ['two ports with one connection', { ports: [port, port] }],
    ['a port of a VTL that cannot be', { ports: [{ ...port, vtl: 2 }] }],
    ['flags behind the last', { ports: [{ ...port, baseFlag: 2040, flagCount: 9 }] }],
    ['a port for a VTL that cannot be', { ports: [{ ...port, minConnectionVtl: 2 }] }],
    ['a switch that is undefined by an inherited name', { valueOf: 1 }],
  ])('refuse %s', (_what, given) => {
    expect(() => optionsOf(given)).toThrow(HostError);
  });
  it('take ports up to their limits', () => {
    const ports = [{ ...port, baseFlag: 2040, flagCount: 8, vtl: 1, minConnectionVtl: 1 }, { ...port, connectionId: 5, kind: 'message', baseFlag: 2047 }];
    expect(optionsOf({ ports }).ports.map(({ connectionId, baseFlag }) => [connectionId, baseFlag])).toEqual([[4, 2040], [5, 2047]]);
    expect(optionsOf({ ports: [{ ...port, vtl: 2, minConnectionVtl: 2 }], maximumVtl: 2 }).ports[0]).toMatchObject({ vtl: 2, minConnectionVtl: 2 });
    expect(optionsOf({ mbec: undefined } as never).mbec).toBe(false);
  });
});
