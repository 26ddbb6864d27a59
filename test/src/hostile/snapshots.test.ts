import { HostError, type Snapshot } from '@vmplanes/engine';
import { createVm } from '@vmplanes/vmm';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { generator, rigOf } from '../engine/rig.ts';

const make = (): ReturnType<typeof rigOf> => rigOf({ guests: [{ 0: generator('a', function* () { for (;;) yield { op: 'work', cost: 3 }; }), 2: [{ op: 'hlt' }] }, { 0: [{ op: 'hlt' }] }] });

type Plain = Record<string, unknown>;

/** Every place in a value, by path. */
function paths(value: unknown, path: readonly string[] = []): string[][] {
  const here = path.length === 0 ? [] : [[...path]];
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return here;
  return [...here, ...Object.entries(value).flatMap(([key, inner]) => paths(inner, [...path, key]))];
}

const wrong = [undefined, null, 0, -1, 1.5, Number.NaN, 2 ** 40, '', 'x', true, [], {}, [null], new Uint8Array(3), new Uint8Array(1 << 20)];

it('a snapshot with anything else in any one place is refused by name, or runs', () => {
  const first = make();
  first.run(5);
  const saved = first.machine.snapshot();
  const places = paths(saved);
  expect(places.length).toBeGreaterThan(150);
  fc.assert(
    fc.property(fc.constantFrom(...places), fc.constantFrom(...wrong), (path, value) => {
      const hurt = structuredClone(saved) as Snapshot & Plain;
      let at: Plain = hurt;
      for (const key of path.slice(0, -1)) at = at[key] as Plain;
      at[path[path.length - 1]!] = value;
      const { machine } = make();
      try {
        machine.restore(hurt);
        machine.run(5);
      } catch (error) {
        expect(error).toBeInstanceOf(HostError);
        expect(['BadSnapshot', 'BadState', 'NoMemory', 'BadRange', 'Invariant']).toContain((error as HostError).code);
      }
    }),
    { numRuns: 600, seed: 5 },
  );
});

it.each([
  ['another policy', { policy: 'userspace' }, 'snapshot has policy userspace, this machine highest-runnable'],
  ['another rule', { rule: 'irr' }, 'snapshot has rule irr, this machine deliverable'],
  ['no options', { options: {} }, 'snapshot has maxVps undefined, this machine 2'],
])('%s is refused', (_what, change, message) => {
  const saved = make().machine.snapshot();
  expect(() => make().machine.restore({ ...saved, ...change } as Snapshot)).toThrow(expect.objectContaining({ code: 'BadSnapshot', message }));
});

it('a register block of another size never reaches the next one', () => {
  const { machine } = make();
  const saved = structuredClone(machine.snapshot());
  Object.assign(saved.vps[0]!.planes[0]!, { block: new Uint8Array(1 << 15).fill(0xff) });
  expect(() => machine.restore(saved)).toThrow(expect.objectContaining({ code: 'BadSnapshot', message: expect.stringContaining('a register block of 32768 bytes') as string }));
});

it('an exit that waits for its answer is there after a restore, with what was asked', async () => {
  const script = { id: 's', steps: [{ op: 'in', port: 0x71, size: 2 } as const, { op: 'expect', register: 'rax', equals: 0x1234 } as const] };
  const config = { scripts: { run: [{ vp: 0, script: 's' }] } };
  const first = await createVm(config, { scripts: [script] });
  expect(await first.run({ onExit: () => 'stop' })).toMatchObject({ reason: 'exit', at: { payload: { kind: 'io', port: 0x71 } } });
  const second = await createVm(config, { scripts: [script] });
  second.restore(structuredClone(first.snapshot()));
  expect(second.machine.vp(0).exit).toEqual({ kind: 'io', write: false, port: 0x71, size: 2, value: 0 });
  second.reply(0, { value: 0x1234 });
  expect(await second.run()).toMatchObject({ reason: 'finished', failures: [] });
});

it.each([
  [{ quantum: 2 ** 40 }, 'a round of more than 2^24 instructions'],
  [{ ticksPerInstruction: 1e-300 }, 'a round of more than 2^24 instructions'],
  [{ ticksPerInstruction: 1e300 }, 'must not be above 2^20'],
])('a machine of %j, whose run would not come back, is refused', async (config, message) => {
  await expect(createVm(config)).rejects.toMatchObject({ code: 'BadConfig', message: expect.stringContaining(message) as string });
});
