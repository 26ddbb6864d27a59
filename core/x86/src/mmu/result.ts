import type { Access } from './access.ts';

/** What a walk came to: the closed union that callers switch over. */
export const WalkKind = { Mapped: 0, Fault: 1, NotCanonical: 2, Stage2: 3 } as const;
export type WalkKind = (typeof WalkKind)[keyof typeof WalkKind];

/** Rights that the tables grant: the combination of all levels. Reading is always granted. */
export const PageRight = { Write: 1, User: 2, Execute: 4, ShadowStack: 8 } as const;

/**
 * The preallocated answer of {@link walk}. Which fields count depends on `kind`; the others hold leftovers.
 * - `Mapped`: gpa, pageShift, level, rights, global, dirty, pkey, memoryType, maskBit.
 * - `Fault` (#PF): errorCode, cr2Lo, cr2Hi.
 * - `NotCanonical`: nothing; the caller decides between #GP and #SS.
 * - `Stage2`: gpa, stage2Access, isWalk, status; userPage when not isWalk.
 */
export class WalkResult {
  kind: WalkKind = 0;
  /** Guest physical address: of the byte that the linear address names, or of the table entry when a walk access was refused. */
  gpa = 0;
  /** log2 of the page size: 12, 21, 22 or 30; 12 without paging. */
  pageShift = 12;
  /** Level of the leaf: 1 page table, 2 page directory, 3 directory pointers; 0 without paging. */
  level = 0;
  /** {@link PageRight} bits. */
  rights = 0;
  /** The translation survives a CR3 write (CR4.PGE and G). */
  global = false;
  /** The leaf's dirty flag after the walk: a write needs no further walk. */
  dirty = false;
  /** The leaf's accessed flag after the walk. */
  accessed = false;
  /** Protection key of the leaf, 0..15; 0 in modes without keys. */
  pkey = 0;
  /** PAT index of the leaf: PAT << 2 | PCD << 1 | PWT. */
  memoryType = 0;
  /** The leaf had the bit that the address model takes out of entries. */
  maskBit = false;
  /** #PF error code. */
  errorCode = 0;
  cr2Lo = 0;
  cr2Hi = 0;
  /** What the second stage refused: for a walk, Read of an entry or Write of its flags; for the leaf, the access itself. */
  stage2Access: Access = 0;
  /** The refused access was to a table entry. */
  isWalk = false;
  /** The refused leaf is a user-mode address. */
  userPage = false;
  /** The refusal as the memory port gave it. */
  status = 0;
}
