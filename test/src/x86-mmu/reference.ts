import type { PageMemory } from './page-memory.ts';

/**
 * A slow walker in bigint, written from the manual's prose without looking at the product: each entry is judged by a list of sentences,
 * the rights by the bullets of SDM 3A §4.6.1. It is the oracle of the property test.
 */
export interface ReferenceInput {
  cr0: bigint; cr3: bigint; cr4: bigint; efer: bigint; pkru: bigint; pkrs: bigint; ac: boolean;
  pdpte: readonly bigint[];
  maxPhyAddr: number; gbPages: boolean; pse36: boolean; maskBit: number | undefined;
  linear: bigint;
  access: 'Read' | 'Write' | 'Fetch' | 'ShadowRead' | 'ShadowWrite' | 'Lookup';
  privilege: 'User' | 'Supervisor' | 'Implicit';
  setFlags: boolean;
}
export type ReferenceResult =
  | { kind: 'mapped'; gpa: bigint; shift: number; writable: boolean; user: boolean; executable: boolean; shadow: boolean; global: boolean; accessed: boolean; dirty: boolean; pkey: number; memoryType: number; maskBit: boolean }
  | { kind: 'fault'; code: number; cr2: bigint }
  | { kind: 'notCanonical' }
  | { kind: 'stage2'; gpa: bigint; access: string; isWalk: boolean; status: number };

const bit = (value: bigint, n: number): boolean => ((value >> BigInt(n)) & 1n) === 1n;
const field = (value: bigint, hi: number, lo: number): bigint => (value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n);

interface Step { name: string; top: number; bottom: number; page?: 'always' | 'PS' }
const LONG: Step[] = [
  { name: 'PML5E', top: 56, bottom: 48 }, { name: 'PML4E', top: 47, bottom: 39 }, { name: 'PDPTE', top: 38, bottom: 30, page: 'PS' },
  { name: 'PDE', top: 29, bottom: 21, page: 'PS' }, { name: 'PTE', top: 20, bottom: 12, page: 'always' },
];
const LEGACY: Step[] = [{ name: 'PDE', top: 31, bottom: 22, page: 'PS' }, { name: 'PTE', top: 21, bottom: 12, page: 'always' }];

export function referenceWalk(memory: PageMemory, i: ReferenceInput): ReferenceResult {
  const paging = bit(i.cr0, 31), pae = bit(i.cr4, 5), long = pae && bit(i.efer, 8), la57 = bit(i.cr4, 12);
  const nxe = bit(i.efer, 11), wp = bit(i.cr0, 16), smep = bit(i.cr4, 20), smap = bit(i.cr4, 21), cet = bit(i.cr4, 23);
  const userMode = i.privilege === 'User';
  const linear = paging && long ? i.linear : field(i.linear, 31, 0);

  const error = (p: boolean, rsvd: boolean, pk: boolean): ReferenceResult => ({
    kind: 'fault', cr2: linear,
    code: (p ? 1 : 0) + (i.access === 'Write' || i.access === 'ShadowWrite' ? 2 : 0) + (userMode ? 4 : 0) + (rsvd ? 8 : 0)
      + (i.access === 'Fetch' && ((pae && nxe) || smep) ? 16 : 0) + (pk ? 32 : 0) + (i.access.startsWith('Shadow') ? 64 : 0),
  });

  if (!paging) {
    const status = memory.refuse('leaf', Number(linear));
    if (status) return { kind: 'stage2', gpa: linear, access: i.access, isWalk: false, status };
    return { kind: 'mapped', gpa: linear, shift: 12, writable: true, user: true, executable: true, shadow: false, global: false, accessed: true, dirty: true, pkey: 0, memoryType: 0, maskBit: false };
  }
  const width = la57 ? 57 : 48;
  if (long && BigInt.asUintN(64, BigInt.asIntN(width, linear)) !== linear) return { kind: 'notCanonical' };

  const strip = (e: bigint): bigint => (i.maskBit === undefined ? e : e & ~(1n << BigInt(i.maskBit)));
  let steps: Step[];
  let table: bigint;
  if (!pae) { steps = LEGACY; table = field(i.cr3, 31, 12) << 12n; }
  else if (!long) {
    const pdpte = i.pdpte[Number(field(linear, 31, 30))]!;
    if (!bit(pdpte, 0)) return error(false, false, false);
    steps = LONG.slice(3);
    table = field(strip(pdpte), 51, 12) << 12n;
  } else { steps = la57 ? LONG : LONG.slice(1); table = field(strip(i.cr3), 51, 12) << 12n; }

  const chain: bigint[] = [];
  for (const step of steps) {
    const bytes = pae ? 8 : 4;
    const at = Number(table + field(linear, step.top, step.bottom) * BigInt(bytes));
    const refusedRead = memory.refuse('read', at);
    if (refusedRead) return { kind: 'stage2', gpa: BigInt(at), access: 'Read', isWalk: true, status: refusedRead };
    const raw = memory.at(at, bytes);
    const e = strip(raw);
    if (!bit(e, 0)) return error(false, false, false);
    const large = step.page === 'PS' && bit(e, 7) && (step.name === 'PDPTE' ? i.gbPages : pae || bit(i.cr4, 4));
    const leaf = large || step.page === 'always';

    const reserved: [number, number][] = [];
    if (pae) {
      if (!nxe) reserved.push([63, 63]);
      if (!long) reserved.push([62, 52]);
      if (i.maxPhyAddr < 52) reserved.push([51, i.maxPhyAddr]);
      if (step.name === 'PML5E' || step.name === 'PML4E' || (step.name === 'PDPTE' && !large)) reserved.push([7, 7]);
      if (large) reserved.push(step.name === 'PDPTE' ? [29, 13] : [20, 13]);
    } else if (large) {
      const m = Math.min(40, i.maxPhyAddr);
      reserved.push(i.pse36 ? [21, m - 19] : [21, 13]);
    }
    if (reserved.some(([hi, lo]) => field(e, hi, lo) !== 0n)) return error(true, true, false);
    chain.push(e);

    const swap = (want: bigint): ReferenceResult | undefined => {
      if (!i.setFlags || want === raw) return undefined;
      const status = memory.refuse('write', at);
      if (status) return { kind: 'stage2', gpa: BigInt(at), access: 'Write', isWalk: true, status };
      memory.put(at, want);
      return undefined;
    };
    if (!leaf) {
      const refused = swap(raw | 0x20n);
      if (refused) return refused;
      table = field(e, 51, 12) << 12n;
      if (!pae) table = field(e, 31, 12) << 12n;
      continue;
    }

    const all = (n: number): boolean => chain.every((x) => bit(x, n));
    const writable = all(1), user = all(2), executable = !(pae && nxe && chain.some((x) => bit(x, 63)));
    const shadow = cet && wp && chain.slice(0, -1).every((x) => bit(x, 1)) && !bit(e, 1) && bit(e, 6);
    const pkey = long ? Number(field(e, 62, 59)) : 0;
    const smapOff = !smap || (i.ac && i.privilege !== 'Implicit');
    const allowed = ((): boolean => {
      if (i.access === 'Lookup') return true;
      if (!userMode) {
        switch (i.access) {
          case 'Read': return !user || smapOff;
          case 'Write': return user ? smapOff && (wp ? writable : true) : wp ? writable : true;
          case 'Fetch': return user ? !smep && executable : executable;
          default: return shadow && !user;
        }
      }
      if (!user) return false;
      switch (i.access) {
        case 'Read': return true;
        case 'Write': return writable;
        case 'Fetch': return executable;
        default: return shadow;
      }
    })();
    const keyed = long && i.access !== 'Fetch' && i.access !== 'Lookup' && bit(i.cr4, user ? 22 : 24);
    const register = user ? i.pkru : i.pkrs;
    const writes = i.access === 'Write' || i.access === 'ShadowWrite';
    const keyDenies = keyed && (bit(register, pkey * 2) || (bit(register, pkey * 2 + 1) && writes && (userMode || wp)));
    if (!allowed || keyDenies) return error(true, false, keyDenies);

    const want = raw | 0x20n | (writes ? 0x40n : 0n);
    const refused = swap(want);
    if (refused) return refused;
    const shift = step.bottom;
    const base = !pae && large ? (field(e, 20, 13) << 32n) | (field(e, 31, 22) << 22n) : (field(e, pae ? 51 : 31, shift) << BigInt(shift));
    const gpa = base + field(linear, shift - 1, 0);
    const final = i.setFlags ? want : raw;
    const status = memory.refuse('leaf', Number(gpa));
    if (status) return { kind: 'stage2', gpa, access: i.access, isWalk: false, status };
    return {
      kind: 'mapped', gpa, shift, writable, user, executable, shadow, pkey, global: bit(e, 8) && bit(i.cr4, 7), accessed: bit(final, 5), dirty: bit(final, 6),
      memoryType: (bit(e, large ? 12 : 7) ? 4 : 0) + (bit(e, 4) ? 2 : 0) + (bit(e, 3) ? 1 : 0),
      maskBit: i.maskBit !== undefined && bit(raw, i.maskBit),
    };
  }
  throw new Error('the last step is always a page');
}
