import { HostError, PERSONALITY_API, type Personality, type PersonalityPlugin } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { choosePlugins } from './plugin-host.ts';
import { checkPluginModule } from './plugin-module.ts';

const plugin = (name: string, more: Partial<PersonalityPlugin> = {}): PersonalityPlugin => ({
  name,
  version: '1.0.0',
  api: PERSONALITY_API,
  summary: 'For tests.',
  options: { type: 'object', properties: { depth: { type: 'integer', minimum: 1, default: 4 }, mode: { enum: ['strict', 'loose'], default: 'strict' } } },
  support: [],
  install: (): Personality => {
    throw new Error('not installed here');
  },
  ...more,
});
const meaning: NonNullable<PersonalityPlugin['meaning']> = () => ({ sharing: { shared: [] }, dominates: (a, b) => a > b, planeName: (p) => `level ${p}` });

const origin = (...plugins: readonly PersonalityPlugin[]) => ({
  directory: import.meta.dirname,
  plugins: Object.fromEntries(plugins.map((personality) => [personality.name, async () => ({ personality })])),
});
const choose = (names: readonly string[], ...plugins: readonly PersonalityPlugin[]) => choosePlugins(names.map((use) => ({ use, options: {} })), origin(...plugins));

describe('choosePlugins', () => {
  it('keeps the order and fills in options', async () => {
    const chosen = await choosePlugins([{ use: 'b', options: { depth: 9 } }, { use: 'a', options: {} }], origin(plugin('a'), plugin('b', { meaning, policy: 'userspace' })));
    expect(chosen.plugins.map((p) => [p.plugin.name, p.options])).toEqual([
      ['b', { depth: 9, mode: 'strict' }],
      ['a', { depth: 4, mode: 'strict' }],
    ]);
    expect(chosen.meaning.planeName(2)).toBe('level 2');
    expect([chosen.policy, chosen.rule]).toEqual(['userspace', null]);
  });

  it('lets the one that takes over say what planes mean', async () => {
    const chosen = await choose(['b', 'a'], plugin('a', { over: ['b'], meaning: (options) => ({ ...meaning(options), planeName: (p) => `ring ${p}` }) }), plugin('b', { meaning }));
    expect(chosen.meaning.planeName(1)).toBe('ring 1');
  });
  it('lets one take over from others that are not there', async () => expect((await choose(['b', 'a'], plugin('a', { over: ['b', 'c'] }), plugin('b'))).plugins.map((p) => p.plugin.name)).toEqual(['b', 'a']));

  it.each<[string, () => Promise<unknown>, string, string]>([
    ['an unknown name', () => choose(['alpa'], plugin('alpha')), 'UnknownPersonality', "did you mean 'alpha'?"],
    ['a file without ./', () => choose(['plugin-host.ts']), 'UnknownPersonality', "a path begins with ./: write './plugin-host.ts'"],
    ['a path without a file', () => choose(['./none.ts']), 'BadFile', 'relative paths start at the configuration file'],
    ['two modules of one name', () => choosePlugins([{ use: 'a', options: {} }, { use: 'c', options: {} }], { directory: '.', plugins: { a: async () => ({ personality: plugin('a') }), c: async () => ({ personality: plugin('a') }) } }), 'BadConfig', "two modules give the name 'a'"],
    ['two meanings', () => choose(['a', 'b'], plugin('a', { meaning }), plugin('b', { meaning })), 'BadConfig', "'a' and 'b' both say what planes mean"],
    ['an extension of nothing', () => choose(['a'], plugin('a', { extends: ['b'] })), 'BadConfig', "'a' extends 'b', which this guest has not (add 'b' before it)"],
    ['an extension before what it extends', () => choose(['a', 'b'], plugin('a', { extends: ['b'] }), plugin('b')), 'BadConfig', "move 'b' before 'a'"],
    ['a personality before one that it takes over from', () => choose(['a', 'b'], plugin('a', { over: ['c', 'b'] }), plugin('b')), 'BadConfig', "'a' takes over from 'b', which is installed after it (move 'b' before 'a')"],
    ['an unknown option', () => choosePlugins([{ use: 'a', options: { deph: 3 } }], origin(plugin('a'))), 'BadConfig', "options of a: deph: unknown key 'deph' (did you mean 'depth'?)"],
    ['an option out of range', () => choosePlugins([{ use: 'a', options: { depth: 0 } }], origin(plugin('a'))), 'BadConfig', 'options of a: depth: 0 is below 1'],
    ['a schema that is none', () => choose(['a'], plugin('a', { options: { type: 'objekt' } })), 'BadPlugin', 'its options schema cannot be used'],
  ])('refuses %s', async (_what, chosen, code, text) => {
    const error: unknown = await chosen().catch((e: unknown) => e);
    expect(error).toBeInstanceOf(HostError);
    expect((error as HostError).code).toBe(code);
    expect((error as HostError).message).toContain(text);
  });
});

describe('checkPluginModule', () => {
  it.each<[string, unknown, string, string]>([
    ['nothing', {}, 'BadPlugin', "exports no 'personality'"],
    ['an older interface', { personality: { ...plugin('a'), api: 0 } }, 'ApiVersion', 'install a newer version of this personality'],
    ['a newer interface', { personality: { ...plugin('a'), api: PERSONALITY_API + 1 } }, 'ApiVersion', 'install a newer vmplanes'],
    ['no interface version', { personality: { name: 'a' } }, 'ApiVersion', 'made for plug-in interface undefined'],
    ['a wrong name', { personality: plugin('A b') }, 'BadPlugin', 'x: name: "A b" does not match'],
    ['a misspelt property', { personality: { ...plugin('a'), sumary: 'x' } }, 'BadPlugin', "did you mean 'summary'?"],
    ['no install', { personality: { ...plugin('a'), install: 3 } }, 'BadPlugin', 'install is not a function'],
    ['a meaning that is data', { personality: { ...plugin('a'), meaning: {} } }, 'BadPlugin', 'meaning is not a function'],
    ['a wrong guest type', { personality: plugin('a'), guestTypes: { t: { summary: 'T.', vpss: 2 } } }, 'BadConfig', "x, guest type 't': vpss: unknown key"],
  ])('refuses %s', (_what, module, code, text) => {
    expect(() => checkPluginModule(module, 'x')).toThrow(expect.objectContaining({ code, message: expect.stringContaining(text) as string }));
  });

  it('accepts a plug-in with guest types', () => {
    const loaded = checkPluginModule({ personality: plugin('a', { meaning }), guestTypes: { t: { summary: 'T.', vps: 2 } } }, 'x');
    expect(loaded.guestTypes).toEqual({ t: { summary: 'T.', vps: 2 } });
  });
});
