import { HostError } from '@vmplanes/engine';
import { checkConfig, decodeSnapshot, encodeSnapshot, createVm, jsonSchemas, parseConfig, resolveGuest } from '@vmplanes/vmm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

/** Runs something that may refuse its input. @returns the error, or null. Anything but a named error is a defect and thrown on. */
const refusal = (run: () => unknown): HostError | null => {
  try {
    run();
    return null;
  } catch (error) {
    if (error instanceof HostError) return error;
    throw error;
  }
};

const good = {
  type: 'plain',
  name: 'x',
  personalities: ['a', { use: './b.ts', options: { c: 1 } }],
  vps: 2,
  planes: 3,
  startPlanes: [0, 2],
  startVps: 'all',
  memory: '1MiB',
  cpuModel: 'base',
  profile: 'vmplanes',
  policy: 'userspace',
  rule: 'irr',
  quantum: 100,
  seed: 3,
  ticksPerInstruction: 1.5,
  ticksPerSecond: 1000,
  eventCheck: 'entry',
  boot: { igvm: './image.igvm' },
  scripts: { module: './m.ts', tables: { t: { steps: [{ op: 'work' }], handlers: { default: [] } } }, run: [{ vp: 0, plane: 2, script: 't', args: { n: 1 } }] },
};

const paths = (value: unknown, at: readonly (string | number)[] = []): readonly (readonly (string | number)[])[] => {
  if (typeof value !== 'object' || value === null) return [at];
  const keys = Array.isArray(value) ? value.map((_, i) => i) : Object.keys(value);
  return [at, ...keys.flatMap((k) => paths((value as Record<string | number, unknown>)[k], [...at, k]))];
};

const replaced = (value: unknown, [first, ...rest]: readonly (string | number)[], by: unknown): unknown => {
  if (first === undefined) return by;
  const copy: Record<string | number, unknown> = Object.assign(Array.isArray(value) ? [] : {}, value);
  copy[first] = replaced(copy[first], rest, by);
  return copy;
};

const anything = fc.oneof(fc.json().map((text) => JSON.parse(text) as unknown), fc.constantFrom<unknown>(undefined, null, -1, 0, 1.5, 2 ** 53, Number.NaN, '', 'x', [], {}, true, [[]], { use: 3 }, '0x10', '16MiB', Number.POSITIVE_INFINITY));

describe('configurations', () => {
  it('accept the one that all others are made from', () => expect(refusal(() => resolveGuest(checkConfig(good)))).toBeNull());

  it('with one place changed pass or are refused by name and path', () => {
    fc.assert(
      fc.property(fc.constantFrom(...paths(good)), anything, (path, by) => {
        const error = refusal(() => resolveGuest(checkConfig(replaced(good, path, by), 'corpus')));
        if (error === null) return;
        expect(error.code).toBe('BadConfig');
        expect(error.message).not.toContain('\n');
        // A complaint is about the place that was changed, what is inside it, or what no longer fits it.
        const at = String(error.details['path']);
        const top = String(path[0] ?? '');
        expect(path.length === 0 || at.startsWith(top) || ['startPlanes', 'scripts'].some((p) => at.startsWith(p))).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  it('with one misspelt key are refused with the right one', () => {
    for (const key of Object.keys(good)) {
      const wrong = `${key.slice(0, -1)}${key.at(-1) === 'x' ? 'y' : 'x'}`;
      const error = refusal(() => checkConfig({ [wrong]: (good as Record<string, unknown>)[key] }));
      // Some misspellings are nearer to another key; all get a suggestion.
      expect(error?.message).toMatch(/did you mean '/);
    }
  });

  it('of any text are JSON or refused with a place', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.nat(JSON.stringify(good).length).map((n) => JSON.stringify(good).slice(0, n))), (text) => {
        const error = refusal(() => parseConfig(text, 'f'));
        if (error !== null) expect(error.code).toBe('BadConfig');
      }),
      { numRuns: 500 },
    );
  });

  it('have a schema that names every key', () => {
    const { properties } = jsonSchemas().guest as { readonly properties: object };
    expect(Object.keys(properties).sort()).toEqual([...Object.keys(good), '$schema'].sort());
  });
});

describe('snapshot files', () => {
  it('with any byte changed, cut or added are refused by name', async () => {
    const vm = await createVm({ memory: 4096 });
    const file = encodeSnapshot(vm.snapshot());
    vm.close();
    fc.assert(
      fc.property(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), fc.constantFrom('change', 'cut', 'add'), (at, by, how) => {
        const bad = how === 'change' ? file.map((b, i) => (i === at ? b ^ by : b)) : how === 'cut' ? file.slice(0, at) : Uint8Array.from([...file, by]);
        // Reserved bytes of the header mean nothing yet.
        if (how === 'change' && ((at >= 0x0c && at < 0x10) || (at >= 0x38 && at < 0x40))) return;
        expect(refusal(() => decodeSnapshot(bad))?.code).toBe('BadSnapshot');
      }),
      { numRuns: 300 },
    );
  });
});
