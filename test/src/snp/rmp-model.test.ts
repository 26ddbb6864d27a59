import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Done, Rig, updateOperand, View } from './rig.ts';
import { type Access, type Mapping, type ModelPage, RmpModel } from './rmp-model.ts';

/** Two regions of 2 MiB. */
const FIRST = 512;
const COUNT = 1024;
const pages = [0, 1, 511, 512, 1023] as const;

type Act =
  | { readonly kind: 'pvalidate'; readonly vmpl: number; readonly n: number; readonly size: number; readonly mapping: Mapping; readonly validate: boolean }
  | { readonly kind: 'rmpadjust'; readonly vmpl: number; readonly n: number; readonly size: number; readonly mapping: Mapping; readonly target: number; readonly mask: number; readonly vmsa: boolean }
  | { readonly kind: 'rmpquery'; readonly vmpl: number; readonly n: number; readonly mapping: Mapping; readonly target: number }
  | { readonly kind: 'access'; readonly vmpl: number; readonly n: number; readonly mapping: Mapping; readonly access: Access; readonly vp: number }
  | { readonly kind: 'assign'; readonly n: number; readonly count: number; readonly isPrivate: boolean; readonly large: boolean }
  | { readonly kind: 'attribute'; readonly n: number; readonly isPrivate: boolean }
  | { readonly kind: 'update'; readonly n: number; readonly assigned: boolean; readonly large: boolean; readonly immutable: boolean; readonly foreign: boolean }
  | { readonly kind: 'smash'; readonly n: number }
  | { readonly kind: 'launch'; readonly n: number; readonly perms: [number, number, number]; readonly vmsa: boolean };

const n = fc.constantFrom(...pages);
const vmpl = fc.integer({ min: 0, max: 3 });
const mostlyZero = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: vmpl });
const mapping = fc.constantFrom<Mapping>('private', 'private', 'shared', 'large', 'large');
const mask = fc.oneof({ weight: 6, arbitrary: fc.constantFrom(0, 1, 3, 4, 8, 15, 31) }, { weight: 1, arbitrary: fc.integer({ min: 0, max: 255 }) });
const size = fc.constantFrom(0, 0, 0, 1, 1, 2);
const flag = fc.boolean();
const rare = fc.integer({ min: 0, max: 4 }).map((x) => x === 0);
const act: fc.Arbitrary<Act> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('pvalidate' as const), vmpl: mostlyZero, n, size, mapping, validate: fc.constantFrom(true, true, false) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('rmpadjust' as const), vmpl: mostlyZero, n, size, mapping, target: fc.integer({ min: 0, max: 4 }), mask, vmsa: rare }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('rmpquery' as const), vmpl, n, mapping, target: fc.integer({ min: 0, max: 4 }) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('access' as const), vmpl, n, mapping, access: fc.constantFrom<Access>('read', 'write', 'execute', 'user execute'), vp: fc.integer({ min: 0, max: 1 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('assign' as const), n: fc.constantFrom(0, 1, 511, 512), count: fc.constantFrom(1, 2, 512), isPrivate: fc.constantFrom(true, true, false), large: flag }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('attribute' as const), n, isPrivate: flag }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('update' as const), n, assigned: fc.constantFrom(true, true, false), large: rare, immutable: rare, foreign: flag }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('smash' as const), n }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('launch' as const), n, perms: fc.tuple(mask, mask, mask).map((p) => p.map((m) => m & 31) as [number, number, number]), vmsa: rare }) },
);

const viewOf: Readonly<Record<Mapping, bigint>> = { private: View.Private, shared: View.Shared, large: View.Large };

/** What happened, in the words of the model. */
const words = (rig: Rig, done: Done, name: Act['kind'], vmplOf: number): string => {
  if (done.fault !== null) return `fault ${done.fault.vector}`;
  if (done.exit !== null) return done.exit.kind === 'memoryFault' ? 'exit memoryFault' : `exit ${done.exit.kind} ${(done.exit as { readonly errorHi?: number }).errorHi}`;
  if (name === 'access') return 'done';
  if (name === 'rmpquery' && done.eax === 0) {
    const rdx = Number(rig.get('rdx', vmplOf));
    return `status 0 mask ${(rdx >> 8) & 0xff} vmsa ${(rdx & 0x1_0000) !== 0} large ${rig.get('rcx', vmplOf) === 1n}`;
  }
  return `status ${done.eax}${name === 'pvalidate' && done.carry ? ' unchanged' : ''}`;
};

/** Does an act in a machine. @returns what happened; null for acts of the host that have no result. */
const perform = (rig: Rig, a: Act): string | null => {
  const gpn = FIRST + a.n;
  const finish = (done: Done, vmplOf: number, vp = 0): string => {
    const context = rig.context(vmplOf, vp);
    if (context.completion !== null) rig.machine.reply(context, {});
    return words(rig, done, a.kind, vmplOf);
  };
  switch (a.kind) {
    case 'pvalidate':
      return finish(rig.pvalidate(gpn, { vmpl: a.vmpl, size: a.size, validate: a.validate, view: viewOf[a.mapping] }), a.vmpl);
    case 'rmpadjust':
      return finish(rig.rmpadjust(gpn, a.target, a.mask, { vmpl: a.vmpl, size: a.size, vmsa: a.vmsa, view: viewOf[a.mapping] }), a.vmpl);
    case 'rmpquery':
      return finish(rig.rmpquery(gpn, a.target, { vmpl: a.vmpl, view: viewOf[a.mapping] }), a.vmpl);
    case 'access': {
      const where = { vmpl: a.vmpl, vp: a.vp, view: viewOf[a.mapping] };
      const done = a.access === 'read' ? rig.read(gpn, where) : a.access === 'write' ? rig.write(gpn, where) : rig.execute(gpn, { ...where, user: a.access === 'user execute' });
      return finish(done, a.vmpl, a.vp);
    }
    case 'assign':
      rig.rmp.assign(gpn, Math.min(a.count, COUNT - a.n), a.isPrivate, a.large);
      return null;
    case 'attribute':
      rig.machine.memory.setPrivate(gpn, 1, a.isPrivate);
      return null;
    case 'update':
      return `status ${rig.rmp.update(gpn, updateOperand(gpn, { assigned: Number(a.assigned), pagesize: Number(a.large), immutable: Number(a.immutable), asid: a.assigned ? (a.foreign ? 2 : 1) : a.foreign ? 2 : 0 }))}`;
    case 'smash':
      return `status ${rig.rmp.smash(gpn)}`;
    case 'launch':
      rig.rmp.launch(gpn, a.perms, a.vmsa);
      return null;
  }
};

const predict = (model: RmpModel, a: Act): string | null => {
  switch (a.kind) {
    case 'pvalidate':
      return model.pvalidate(a.vmpl, a.n, a.size, a.mapping, a.validate);
    case 'rmpadjust':
      return model.rmpadjust(a.vmpl, a.n, a.size, a.mapping, a.target, a.mask, a.vmsa);
    case 'rmpquery':
      return model.rmpquery(a.vmpl, a.n, a.mapping, a.target);
    case 'access':
      return model.access(a.vmpl, a.n, a.mapping, a.access);
    case 'assign':
      model.assign(a.n, Math.min(a.count, COUNT - a.n), a.isPrivate, a.large);
      return null;
    case 'attribute':
      model.setAttribute(a.n, 1, a.isPrivate);
      return null;
    case 'update':
      return `status ${model.update(a.n, a.assigned, a.large, a.immutable, a.foreign)}`;
    case 'smash':
      return `status ${model.smash(a.n)}`;
    case 'launch':
      model.launch(a.n, a.perms, a.vmsa);
      return null;
  }
};

const entryOf = (rig: Rig, at: number): Omit<ModelPage, never> => ({ isPrivate: rig.machine.memory.isPrivate(FIRST + at), ...structuredClone(rig.rmp.entry(FIRST + at)), perms: [...rig.rmp.entry(FIRST + at).perms] });

describe('the reverse map table', () => {
  it('answers and changes as the model says, whatever guest and host do', { timeout: 400_000 }, () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(fc.array(act, { minLength: 100, maxLength: 200, size: 'max' }), (acts) => {
        const rig = new Rig({ vps: 2 });
        const model = new RmpModel(COUNT);
        acts.forEach((a, i) => {
          const expected = predict(model, a);
          expect(perform(rig, a), `act ${i}: ${JSON.stringify(a)}`).toBe(expected);
          for (const at of pages) expect(entryOf(rig, at), `page ${at} after act ${i}: ${JSON.stringify(a)}`).toEqual(model.pages[at]);
          if (expected !== null) seen.add(`${a.kind}: ${expected.split(' mask')[0]}`);
        });
        expect(rig.snp.checkInvariants()).toEqual([]);
      }),
      { numRuns: 40, seed: 1 },
    );
    // Every answer that there is was given.
    for (const answer of ['status 0', 'status 0 unchanged', 'status 1', 'status 6', 'fault 13', 'exit memoryFault', 'exit rmpFault 5']) expect(seen).toContain(`pvalidate: ${answer}`);
    for (const answer of ['status 0', 'status 1', 'status 2', 'status 6', 'fault 29', 'exit memoryFault', 'exit rmpFault 5']) expect(seen).toContain(`rmpadjust: ${answer}`);
    for (const answer of ['done', 'fault 29', 'exit memoryFault', 'exit rmpFault 5', 'exit vmplFault 21']) expect(seen).toContain(`access: ${answer}`);
    for (const answer of ['status 0', 'status 1', 'status 2', 'status 4']) expect(seen).toContain(`update: ${answer}`);
  });

  it('saved at any point and restored into a fresh machine goes on as if nothing had happened', { timeout: 400_000 }, () => {
    fc.assert(
      fc.property(fc.array(act, { minLength: 4, maxLength: 30 }), fc.nat(29), (acts, cut) => {
        const straight = new Rig({ vps: 2 });
        let broken = new Rig({ vps: 2 });
        acts.forEach((a, i) => {
          if (i === cut % acts.length) broken = broken.copy();
          expect(perform(broken, a)).toBe(perform(straight, a));
        });
        const [a, b] = [straight.machine.snapshot(), broken.machine.snapshot()];
        expect(b.components['sev-snp-vmpl']).toEqual(a.components['sev-snp-vmpl']);
        expect(b.memory).toEqual(a.memory);
      }),
      { numRuns: 12, seed: 2 },
    );
  });
});
