import { AddressModel, WalkInput, WalkResult, walk, type Access, type WalkKind, type Privilege } from '@vmplanes/x86';
import { PageMemory } from './page-memory.ts';

export const PG = 0x80000000, WP = 0x10000;
export const PSE = 0x10, PAE = 0x20, PGE = 0x80, LA57 = 0x1000, SMEP = 0x100000, SMAP = 0x200000, PKE = 0x400000, CET = 0x800000, PKS = 0x1000000;
export const LME = 0x100, NXE = 0x800;
export const P = 1n, RW = 2n, US = 4n, PWT = 8n, PCD = 16n, A = 32n, D = 64n, PS = 128n, G = 256n, XD = 1n << 63n;

/** Control registers by mode name, with execute-disable where the mode has it. */
export const MODES = {
  'no paging': { cr0: 0, cr4: 0, efer: 0 },
  '32-bit': { cr0: PG, cr4: 0, efer: 0 },
  '32-bit PSE': { cr0: PG, cr4: PSE, efer: 0 },
  PAE: { cr0: PG, cr4: PAE, efer: NXE },
  '4-level': { cr0: PG, cr4: PAE, efer: LME | NXE },
  '5-level': { cr0: PG, cr4: PAE | LA57, efer: LME | NXE },
} as const;
export type ModeName = keyof typeof MODES;

/** A walker with its memory, for tests that say one thing at a time. */
export class Walker {
  readonly memory = new PageMemory();
  readonly input: WalkInput;
  readonly out = new WalkResult();
  constructor(mode: ModeName, model = new AddressModel(46)) {
    this.input = new WalkInput(model);
    Object.assign(this.input, MODES[mode]);
  }
  walk(linear: bigint, access: Access = 0, privilege: Privilege = 1): WalkKind {
    this.input.laLo = Number(linear & 0xffffffffn);
    this.input.laHi = Number((linear >> 32n) & 0xffffffffn);
    this.input.access = access;
    this.input.privilege = privilege;
    return walk(this.memory, this.input, this.out);
  }
  /**
   * Puts a chain of tables at 0x1000, 0x2000, ... for linear address 0, top level first; the last entry is given as it is, the others get the
   * address of the next table. CR3, or the first PDPTE register, points at the first.
   */
  chain(...entries: bigint[]): this {
    entries.forEach((e, i) => this.memory.put(0x1000 * (i + 1), i === entries.length - 1 ? e : e | BigInt(0x1000 * (i + 2))));
    this.input.cr3Lo = 0x1000;
    this.input.pdpte[0] = 0x1001;
    return this;
  }
}
