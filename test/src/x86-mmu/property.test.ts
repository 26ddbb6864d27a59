import { Access, AddressModel, Privilege, PageRight, WalkInput, WalkKind, WalkResult, walk } from '@vmplanes/x86';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PageMemory } from './page-memory.ts';
import { type ReferenceInput, type ReferenceResult, referenceWalk } from './reference.ts';

/** A small mixing function: the same table contents for the same seed and address, whatever the order of reads. */
function mix(seed: number, gpa: number, salt: number): number {
  let h = seed ^ Math.imul(gpa % 2 ** 32 | 0, 0x9e3779b1) ^ Math.imul(Math.floor(gpa / 2 ** 32), 0x85ebca6b) ^ Math.imul(salt, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Entries that mostly lead on: present, permissive, now and then with a reserved or attribute bit. */
const entryAt = (seed: number, maxPhyAddr: number) => (gpa: number, bytes: number): bigint => {
  const chance = (salt: number, percent: number): boolean => mix(seed, gpa, salt) % 100 < percent;
  let e = (BigInt(mix(seed, gpa, 1)) << 32n) | BigInt(mix(seed, gpa, 2));
  e &= (1n << BigInt(maxPhyAddr)) - 0x1000n; // a frame within the physical addresses
  for (const [salt, percent, bit] of [[3, 93, 0], [4, 80, 1], [5, 80, 2], [6, 50, 3], [7, 50, 4], [8, 50, 5], [9, 50, 6], [10, 30, 7], [11, 50, 8], [12, 15, 63]] as const)
    if (chance(salt, percent)) e |= 1n << BigInt(bit);
  if (chance(13, 50)) e |= BigInt(mix(seed, gpa, 14) & 15) << 59n;
  if (chance(15, 5)) e ^= 1n << BigInt(mix(seed, gpa, 16) % 64);
  if (e & 0x80n && chance(17, 70)) e &= ~0x3fffe000n; // clean large pages
  return BigInt.asUintN(bytes * 8, e);
};

const flag = fc.boolean();
const u32 = fc.nat(0xffffffff);
const world = fc.record({
  seed: u32, refusals: fc.constantFrom(0, 0, 0, 4), paging: fc.integer({ min: 0, max: 20 }), pae: fc.integer({ min: 0, max: 3 }), long: fc.integer({ min: 0, max: 3 }), la57: flag,
  pse: flag, pge: flag, smep: flag, smap: flag, pke: flag, pks: flag, cet: flag, wp: flag, nxe: fc.integer({ min: 0, max: 3 }), ac: flag, setFlags: flag,
  pkru: u32, pkrs: u32, cr3: fc.bigInt(0n, (1n << 52n) - 1n), maxPhyAddr: fc.constantFrom(32, 36, 39, 40, 43, 46, 48, 51, 52), gbPages: flag, pse36: flag,
  maskBit: fc.constantFrom(undefined, undefined, 47, 51, 40), linear: fc.bigInt(0n, (1n << 64n) - 1n), canonical: fc.integer({ min: 0, max: 15 }),
  access: fc.constantFrom('Read', 'Write', 'Fetch', 'ShadowRead', 'ShadowWrite', 'Lookup'), privilege: fc.constantFrom('User', 'Supervisor', 'Implicit'),
} as const);

const halves = (value: bigint): [number, number] => [Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n))];
const names = ['Read', 'Write', 'Fetch', 'ShadowRead', 'ShadowWrite', 'Lookup'] as const;

function productWalk(memory: PageMemory, i: ReferenceInput): ReferenceResult {
  const input = new WalkInput(new AddressModel(i.maxPhyAddr, i.gbPages, i.pse36, i.maskBit));
  const out = new WalkResult();
  input.cr0 = halves(i.cr0)[0];
  [input.cr3Lo, input.cr3Hi] = halves(i.cr3);
  input.cr4 = halves(i.cr4)[0];
  input.efer = halves(i.efer)[0];
  input.pkru = halves(i.pkru)[0];
  input.pkrs = halves(i.pkrs)[0];
  input.ac = i.ac;
  i.pdpte.forEach((e, n) => input.pdpte.set(halves(e), n * 2));
  [input.laLo, input.laHi] = halves(i.linear);
  input.access = Access[i.access];
  input.privilege = Privilege[i.privilege];
  input.setFlags = i.setFlags;
  switch (walk(memory, input, out)) {
    case WalkKind.Mapped:
      return {
        kind: 'mapped', gpa: BigInt(out.gpa), shift: out.pageShift, writable: (out.rights & PageRight.Write) !== 0, user: (out.rights & PageRight.User) !== 0,
        executable: (out.rights & PageRight.Execute) !== 0, shadow: (out.rights & PageRight.ShadowStack) !== 0, global: out.global, accessed: out.accessed,
        dirty: out.dirty, pkey: out.pkey, memoryType: out.memoryType, maskBit: out.maskBit,
      };
    case WalkKind.Fault:
      return { kind: 'fault', code: out.errorCode, cr2: (BigInt(out.cr2Hi) << 32n) | BigInt(out.cr2Lo) };
    case WalkKind.NotCanonical:
      return { kind: 'notCanonical' };
    case WalkKind.Stage2:
      return { kind: 'stage2', gpa: BigInt(out.gpa), access: names[out.stage2Access], isWalk: out.isWalk, status: out.status };
  }
}

test('the walker agrees with a reference written from the manual, on random tables in every mode', () => {
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(world, (w) => {
      const bits = (...set: [boolean, number][]): bigint => set.reduce((v, [on, n]) => (on ? v | (1n << BigInt(n)) : v), 0n);
      const pae = w.pae > 0;
      const background = entryAt(w.seed, w.maxPhyAddr);
      const i: ReferenceInput = {
        cr0: bits([w.paging > 0, 31], [w.wp, 16]),
        cr4: bits([w.pse, 4], [pae, 5], [w.pge, 7], [w.la57, 12], [w.smep, 20], [w.smap, 21], [w.pke, 22], [w.cet, 23], [w.pks, 24]),
        efer: bits([w.long > 0, 8], [w.nxe > 0, 11]),
        cr3: w.cr3, pkru: BigInt(w.pkru) & BigInt(mix(w.seed, 0, 20)), pkrs: BigInt(w.pkrs) & BigInt(mix(w.seed, 0, 21)), ac: w.ac,
        pdpte: [0, 1, 2, 3].map((n) => background(n * 8, 8) & ~0x1e6n & ~(1n << 63n)),
        maxPhyAddr: w.maxPhyAddr, gbPages: w.gbPages, pse36: w.pse36, maskBit: w.maskBit,
        linear: w.canonical === 0 ? w.linear : BigInt.asUintN(64, BigInt.asIntN(w.la57 ? 57 : 48, w.linear)),
        access: w.access, privilege: w.privilege, setFlags: w.setFlags,
      };
      const refuse = (operation: string, gpa: number): number => (mix(w.seed, gpa, 30 + operation.length) % 100 < w.refusals ? 2 + (mix(w.seed, gpa, 40) % 9) : 0);
      const [mine, theirs] = [new PageMemory(background), new PageMemory(background)];
      mine.refuse = theirs.refuse = refuse;
      const expected = referenceWalk(theirs, i);
      expect(productWalk(mine, i)).toEqual(expected);
      expect(mine.written).toEqual(theirs.written);
      const label = expected.kind === 'mapped' ? `mapped ${expected.shift}` : expected.kind === 'fault' ? `fault ${expected.code & 0x29}` : expected.kind;
      seen.set(label, (seen.get(label) ?? 0) + 1);
    }),
    { numRuns: 20_000, seed: 20250401 },
  );
  // The generator reaches every kind of answer often enough to mean something.
  for (const label of ['mapped 12', 'mapped 21', 'mapped 22', 'mapped 30', 'fault 0', 'fault 1', 'fault 9', 'fault 33', 'notCanonical', 'stage2'])
    expect(seen.get(label) ?? 0, label).toBeGreaterThan(40);
});
