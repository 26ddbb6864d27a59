import { HostError } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { checkConfig } from './check-config.ts';
import { type Complaint, didYouMean } from './explain-issues.ts';
import { guestTypes, resolveGuest } from './guest-types.ts';
import { parseConfig } from './read-config.ts';

const failure = (run: () => unknown): HostError => {
  try {
    run();
  } catch (error) {
    if (error instanceof HostError) return error;
    throw error;
  }
  throw new Error('did not fail');
};

/** What is wrong, and the one line that says so. */
const wrong: readonly (readonly [string, unknown, string])[] = [
  ['no object', 3, 'g: expected object, got 3'],
  ['an unknown key', { memry: '1MiB' }, "g: memry: unknown key 'memry' (did you mean 'memory'?)"],
  ['a key in another case', { Seed: 1 }, "g: Seed: unknown key 'Seed' (did you mean 'seed'?)"],
  ['an unknown policy', { policy: 'lowest-runable' }, "g: policy: \"lowest-runable\" is not one of 'userspace', 'lowest-runnable', 'highest-runnable' (did you mean 'lowest-runnable'?)"],
  ['a value below its range', { vps: 0 }, 'g: vps: 0 is below 1'],
  ['a value above its range', { planes: 17 }, 'g: planes: 17 is above 16'],
  ['a fraction', { seed: 1.5 }, 'g: seed: expected int, got 1.5'],
  ['zero ticks', { ticksPerInstruction: 0 }, 'g: ticksPerInstruction: 0 is below or at 0'],
  ['memory that is no page', { memory: 5000 }, 'g: memory: 5000 is not a multiple of 4096'],
  ['memory in other units', { memory: '16MB' }, 'g: memory: "16MB" does not match /^([1-9][0-9]*)(KiB|MiB|GiB)$/'],
  ['memory of another type', { memory: true }, 'g: memory: expected number or string, got true'],
  ['a key inside a union', { personalities: ['a', { use: 'b', option: {} }] }, "g: personalities[1].option: unknown key 'option' (did you mean 'options'?)"],
  ['a missing key', { personalities: [{}] }, 'g: personalities[0].use: is missing'],
  ['an empty list', { startPlanes: [] }, 'g: startPlanes: is too short: []'],
  ['a nested element', { scripts: { run: [{ vp: 0, script: 'a', args: { x: null } }] } }, 'g: scripts.run[0].args.x: expected number or string or boolean, got null'],
];

describe('checkConfig', () => {
  it.each(wrong)('names path and problem of %s', (_what, value, message) => {
    const error = failure(() => checkConfig(value, 'g'));
    expect(error.code).toBe('BadConfig');
    expect(error.message).toBe(message);
  });

  it('keeps every problem for programs and counts them for people', () => {
    const error = failure(() => checkConfig({ vps: 0, quantun: 1 }, 'g'));
    expect(error.message).toBe('g: vps: 0 is below 1 [and 1 more]');
    expect((error.details['complaints'] as readonly Complaint[]).map((c) => c.path)).toEqual(['vps', 'quantun']);
  });

  it('says where a file stops being JSON', () => {
    expect(failure(() => parseConfig('{\n  "vps": 1,,\n}', 'g.json')).message).toMatch(/^g\.json: is not JSON: line 2, column 12: /);
    expect(failure(() => parseConfig('{', 'g.json')).message).toMatch(/^g\.json: is not JSON: line 1, column 2: /);
  });

  it('suggests only near words', () => {
    expect(didYouMean('quantm', ['quantum', 'seed'])).toBe('quantum');
    expect(didYouMean('elephant', ['quantum', 'seed'])).toBeNull();
    expect(didYouMean('x', [])).toBeNull();
  });
});

describe('resolveGuest', () => {
  const types = {
    ...guestTypes,
    pair: { summary: 'Two.', vps: 2, planes: 3, personalities: ['a', { use: 'b', options: { x: 1, y: 1 } }], policy: 'userspace' as const },
    calm: { summary: 'Slow.', base: 'pair', quantum: 7 },
    round: { summary: 'Turns.', base: 'about' },
    about: { summary: 'Turns back.', base: 'round' },
  };

  it('is complete for an empty configuration', () =>
    expect(resolveGuest({})).toEqual({
      boot: null,
      name: 'plain',
      type: 'plain',
      personalities: [],
      vps: 1,
      planes: 1,
      startPlanes: [0],
      startVps: 'boot',
      memory: '16MiB',
      cpuModel: 'base',
      policy: null,
      rule: null,
      quantum: 10_000,
      seed: 0,
      ticksPerInstruction: 1,
      ticksPerSecond: 1_000_000_000,
      eventCheck: null,
      profile: 'vmplanes',
      scripts: null,
    }));

  it('applies deltas base first and the configuration last', () => {
    const guest = resolveGuest({ type: 'calm', vps: 3, personalities: [{ use: 'b', options: { y: 2 } }, 'c'] }, types);
    expect(guest).toMatchObject({ type: 'calm', vps: 3, planes: 3, quantum: 7, policy: 'userspace' });
    expect(guest.personalities).toEqual([
      { use: 'a', options: {} },
      { use: 'b', options: { x: 1, y: 2 } },
      { use: 'c', options: {} },
    ]);
  });

  it.each([
    [{ type: 'pairs' }, "type: no guest type 'pairs' (did you mean 'pair'?)"],
    [{ type: 'toString' }, "type: no guest type 'toString' (known types: plain, pair, calm, round, about)"],
    [{ type: 'round' }, "guest type 'round' is its own base: round -> about -> round"],
    [{ planes: 2, startPlanes: [1, 2] }, 'startPlanes: plane 2 of a guest with 2 planes (set planes to 3 or more)'],
    [{ scripts: { run: [{ vp: 1, script: 'a' }] } }, 'scripts.run[0].vp: VP 1 of a guest with 1 VPs (set vps to 2 or more)'],
    [{ scripts: { run: [{ vp: 0, script: 'a' }, { vp: 0, plane: 0, script: 'b' }] } }, 'scripts.run[1]: VP 0 plane 0 has a script already, scripts.run[0] (remove one of them)'],
  ])('refuses %j', (config, message) => expect(failure(() => resolveGuest(config, types)).message).toBe(message));
});
