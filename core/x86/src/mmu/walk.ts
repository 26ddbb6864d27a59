import { Access, pageFaultCode, Privilege, WalkFailure } from './access.ts';
import { ADDRESS_HI, Cr0, Cr4, Efer, Entry, HIGH } from './bits.ts';
import type { WalkInput } from './input.ts';
import { type PageTableMemory, TableStatus } from './memory.ts';
import { isCanonical, PagingMode, pagingMode } from './mode.ts';
import { PageRight, WalkKind, type WalkResult } from './result.ts';
import { Denial, denial, reportsFetch } from './rights.ts';

/** An entry changed between reading it and setting its flags: the walk starts again. */
const RESTART = -1;
const NX_HI = 1 << 31;

/** Bits 20:13 of a 2-MByte page entry and bits 29:13 of a 1-GByte page entry are reserved. @spec SDM 3A Tables 4-9, 4-16, 4-18 */
const RESERVED_2M = 0x001fe000;
const RESERVED_1G = 0x3fffe000;

/**
 * Translates `input`'s linear address for its access, writing the answer to `out`; allocates nothing.
 *
 * Accessed flags are set on the way down, the leaf's accessed and dirty flags once the access is known to be allowed and before the second
 * stage is asked for the leaf: so a refused leaf leaves them set, as hardware does.
 * @param memory - the tables, behind the second stage.
 * @returns `out.kind`.
 * @spec SDM 3A §4.2 to §4.8
 */
export function walk(memory: PageTableMemory, input: WalkInput, out: WalkResult): WalkKind {
  const mode = pagingMode(input.cr0, input.cr4, input.efer);
  if (mode === PagingMode.Off) return unpaged(memory, input, out);
  if (mode >= PagingMode.Level4 && !isCanonical(input.laHi, mode === PagingMode.Level5)) return (out.kind = WalkKind.NotCanonical);
  // Each restart means that somebody else changed the entry, so the machine as a whole moves on.
  for (;;) {
    const kind = descend(memory, input, out, mode);
    if (kind !== RESTART) return (out.kind = kind as WalkKind);
  }
}

function unpaged(memory: PageTableMemory, input: WalkInput, out: WalkResult): WalkKind {
  out.gpa = input.laLo >>> 0;
  out.pageShift = 12;
  out.level = 0;
  out.rights = PageRight.Write | PageRight.User | PageRight.Execute;
  out.global = out.maskBit = false;
  out.accessed = out.dirty = true;
  out.pkey = out.memoryType = 0;
  const userPage = !input.fetchByMode || input.access !== Access.Fetch || fetchesAsUser(input);
  const status = memory.leaf(out.gpa, input.access, userPage, true);
  return (out.kind = status === TableStatus.Ok ? WalkKind.Mapped : leafRefused(input, out, status, userPage));
}

function descend(memory: PageTableMemory, input: WalkInput, out: WalkResult, mode: PagingMode): number {
  const { model } = input;
  const legacy = mode === PagingMode.Legacy32;
  const bytes = legacy ? 4 : 8;
  const reservedHi = (mode === PagingMode.Pae ? model.reservedHiPae : model.reservedHi) | (input.efer & Efer.NXE ? 0 : NX_HI);
  let table: number;
  let level: number;
  if (mode === PagingMode.Pae) {
    const i = (input.laLo >>> 30) * 2;
    const lo = input.pdpte[i]!;
    if (!(lo & Entry.P)) return fault(input, out, mode, WalkFailure.NotPresent);
    table = address(lo & ~0xfff, input.pdpte[i + 1]! & ~model.maskHi);
    level = 2;
  } else if (legacy) {
    table = (input.cr3Lo & ~0xfff) >>> 0;
    level = 2;
  } else {
    table = address(input.cr3Lo & ~0xfff, input.cr3Hi & ~model.maskHi);
    level = mode === PagingMode.Level5 ? 5 : 4;
  }

  let upper = Entry.RW | Entry.US; // R/W and U/S of all entries above the leaf
  let noExecute = 0;
  for (;; level--) {
    const entry = table + indexOf(legacy, level, input.laLo, input.laHi) * bytes;
    const status = memory.read(entry, bytes);
    if (status !== TableStatus.Ok) return tableRefused(out, entry, Access.Read, status);
    const lo = memory.lo;
    const rawHi = memory.hi;
    const hi = rawHi & ~model.maskHi;
    if (!(lo & Entry.P)) return fault(input, out, mode, WalkFailure.NotPresent);

    const large = isLarge(input, legacy, level, lo);
    if (lo & reservedLo(input, legacy, level, large) || (!legacy && hi & reservedHi)) return fault(input, out, mode, WalkFailure.Reserved);
    noExecute |= hi & NX_HI;

    if (large || level === 1) {
      out.level = level;
      out.pageShift = level === 1 ? 12 : level === 3 ? 30 : legacy ? 22 : 21;
      out.maskBit = (rawHi & model.maskHi) !== 0;
      out.rights = rightsOf(input, upper, lo, noExecute);
      out.pkey = mode >= PagingMode.Level4 ? (hi >>> 27) & 0xf : 0;
      return finish(memory, input, out, mode, entry, bytes, lo, rawHi, hi);
    }
    upper &= lo;
    if (input.setFlags && !(lo & Entry.A)) {
      const set = memory.compareAndSwap(entry, bytes, lo, rawHi, lo | Entry.A, rawHi);
      if (set === TableStatus.Changed) return RESTART;
      if (set !== TableStatus.Ok) return tableRefused(out, entry, Access.Write, set);
    }
    table = address(lo & ~0xfff, hi);
  }
}

/** The leaf is found and well formed: rights, flags, second stage, answer. */
function finish(memory: PageTableMemory, input: WalkInput, out: WalkResult, mode: PagingMode, entry: number, bytes: number, lo: number, rawHi: number, hi: number): number {
  const denied = denial(input, out.rights, out.pkey, input.access, input.privilege);
  if (denied !== Denial.None) {
    fault(input, out, mode, denied & Denial.Key ? WalkFailure.Key : WalkFailure.Protection);
    return WalkKind.Fault;
  }
  // A page that takes shadow-stack writes is dirty already.
  let wanted = lo | Entry.A;
  if (input.access === Access.Write) wanted |= Entry.D;
  if (input.setFlags && wanted !== lo) {
    const set = memory.compareAndSwap(entry, bytes, lo, rawHi, wanted, rawHi);
    if (set === TableStatus.Changed) return RESTART;
    if (set !== TableStatus.Ok) return tableRefused(out, entry, Access.Write, set);
  }
  const now = input.setFlags ? wanted : lo;
  out.accessed = (now & Entry.A) !== 0;
  out.dirty = (now & Entry.D) !== 0;
  out.global = (lo & Entry.G) !== 0 && (input.cr4 & Cr4.PGE) !== 0;
  out.memoryType = ((lo >>> 3) & 3) | (lo & (out.level === 1 ? Entry.PAT : Entry.LargePAT) ? 4 : 0);
  const offset = (1 << out.pageShift) - 1;
  // A 4-MByte entry keeps physical address bits 39:32 in its bits 20:13; without PSE-36 they are reserved and zero here.
  const high = out.pageShift === 22 ? (lo >>> 13) & 0xff : hi;
  out.gpa = address((lo & ~offset) | (input.laLo & offset), high);
  const userPage = input.fetchByMode && input.access === Access.Fetch ? fetchesAsUser(input) : (out.rights & PageRight.User) !== 0;
  const status = memory.leaf(out.gpa, input.access, userPage, bytes === 4 || out.maskBit);
  return status === TableStatus.Ok ? WalkKind.Mapped : leafRefused(input, out, status, userPage);
}

/** A fetch that needs the user's execute right when the mode decides. */
const fetchesAsUser = (input: WalkInput): boolean => input.privilege === Privilege.User && (!input.hasSmep || (input.cr4 & Cr4.SMEP) !== 0);

const address = (lo: number, hi: number): number => (hi & ADDRESS_HI) * HIGH + (lo >>> 0);

function indexOf(legacy: boolean, level: number, laLo: number, laHi: number): number {
  if (legacy) return (laLo >>> (level === 2 ? 22 : 12)) & 0x3ff;
  switch (level) {
    case 1: return (laLo >>> 12) & 0x1ff;
    case 2: return (laLo >>> 21) & 0x1ff;
    case 3: return ((laLo >>> 30) | (laHi << 2)) & 0x1ff;
    case 4: return (laHi >>> 7) & 0x1ff;
    default: return (laHi >>> 16) & 0x1ff;
  }
}

function isLarge(input: WalkInput, legacy: boolean, level: number, lo: number): boolean {
  if (!(lo & Entry.PS)) return false;
  if (level === 2) return !legacy || (input.cr4 & Cr4.PSE) !== 0;
  return level === 3 && input.model.gbPages;
}

function reservedLo(input: WalkInput, legacy: boolean, level: number, large: boolean): number {
  if (level === 1) return 0;
  if (legacy) return large ? input.model.reserved4M : 0;
  if (large) return level === 2 ? RESERVED_2M : RESERVED_1G;
  return Entry.PS; // a set PS bit that does not make a page is reserved
}

function rightsOf(input: WalkInput, upper: number, leaf: number, noExecute: number): number {
  const all = upper & leaf;
  let rights = noExecute ? 0 : PageRight.Execute;
  if (all & Entry.RW) rights |= PageRight.Write;
  if (all & Entry.US) rights |= PageRight.User;
  // A shadow-stack page: read-only and dirty at the leaf, writable above it. @spec SDM 3A §4.6
  if (upper & Entry.RW && !(leaf & Entry.RW) && leaf & Entry.D && input.cr4 & Cr4.CET && input.cr0 & Cr0.WP) rights |= PageRight.ShadowStack;
  return rights;
}

function fault(input: WalkInput, out: WalkResult, mode: PagingMode, failure: WalkFailure): number {
  out.errorCode = pageFaultCode(failure, input.access, input.privilege === Privilege.User, reportsFetch(input));
  out.cr2Lo = input.laLo >>> 0;
  out.cr2Hi = mode >= PagingMode.Level4 ? input.laHi >>> 0 : 0;
  return WalkKind.Fault;
}

function tableRefused(out: WalkResult, entry: number, access: Access, status: number): WalkKind {
  out.gpa = entry;
  out.stage2Access = access;
  out.isWalk = true;
  out.userPage = false;
  out.status = status;
  return WalkKind.Stage2;
}

function leafRefused(input: WalkInput, out: WalkResult, status: number, userPage: boolean): WalkKind {
  out.stage2Access = input.access;
  out.isWalk = false;
  out.userPage = userPage;
  out.status = status;
  return WalkKind.Stage2;
}
