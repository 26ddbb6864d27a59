import { Vmsa } from '@vmplanes/abi-sev-snp';
import type { Arena } from '@vmplanes/engine';
import { loadFpuArea, type RegisterName, saveFpuArea, type SegmentName, X86, X86Size } from '@vmplanes/x86';

type FieldName = keyof typeof Vmsa.at;

/** Fields that a context has under the same name and in the same form. */
const same = [
  'pl0Ssp', 'pl1Ssp', 'pl2Ssp', 'pl3Ssp', 'uCet', 'efer', 'xss', 'cr4', 'cr3', 'cr0', 'dr7', 'dr6', 'rflags', 'rip', 'rsp', 'sCet', 'ssp', 'interruptSspTable', 'rax', 'star', 'lstar', 'cstar', 'sfmask',
  'kernelGsBase', 'sysenterCs', 'sysenterEsp', 'sysenterEip', 'cr2', 'pat', 'debugCtl', 'lastExceptionFrom', 'lastExceptionTo', 'rcx', 'rdx', 'rbx', 'rbp', 'rsi', 'rdi',
  'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'xcr0',
] as const satisfies readonly (FieldName & RegisterName)[];

/** Fields under another name. */
const renamed: readonly (readonly [field: FieldName, cell: RegisterName])[] = [['brFrom', 'lastBranchFrom'], ['brTo', 'lastBranchTo']];

const breakpoints = ['dr0', 'dr1', 'dr2', 'dr3', 'dr0Mask', 'dr1Mask', 'dr2Mask', 'dr3Mask'] as const satisfies readonly (FieldName & RegisterName)[];

const segments = ['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'ldtr', 'tr'] as const satisfies readonly (FieldName & SegmentName)[];
const tables = ['gdtr', 'idtr'] as const;

/** Pairs (word of the page, word of the block) of cells of two words: the copy of each is two moves without a loop. */
const compile = (rows: readonly (readonly [field: FieldName, cell: RegisterName])[]): Int32Array =>
  Int32Array.from(
    rows.flatMap(([field, cell]) => {
      if (X86Size[cell] !== 8) throw new RangeError(`${cell}: ${X86Size[cell]} bytes, not 8`);
      return [Vmsa.at[field] / 4, X86[cell] / 4];
    }),
  );

const named = (names: readonly (FieldName & RegisterName)[]): (readonly [FieldName, RegisterName])[] => names.map((n) => [n, n]);

const plain = compile([...named(same), ...renamed]);
const debug = compile(named(breakpoints));
/** Pairs (word of the page, word of the block). */
const segmentPairs = Int32Array.from(segments.flatMap((s) => [Vmsa.at[s] / 4, X86[`${s}.selector`] / 4]));
const tablePairs = Int32Array.from(tables.flatMap((t) => [Vmsa.at[t] / 4, X86[`${t}.limit`] / 4]));

/** Word that holds two reserved bytes, VMPL and CPL. */
const LEVELS = (Vmsa.at.vmpl & ~3) / 4;
const PKRU = Vmsa.at.pkru / 4;
const TSC_AUX = Vmsa.at.tscAux / 4;
const TSC = Vmsa.at.guestTscScale / 4;
const CPL = X86.cpl / 4;
const RFLAGS = X86.rflags / 4;
const EFER = X86.efer / 4;
const CR0 = X86.cr0 / 4;
/** Every RFLAGS bit that exists, and bit 1, which is one. */
const RFLAGS_KNOWN = 0x3f_7fd5;
const LME = 1 << 8;
const LMA = 1 << 10;

/** Fields that a store writes, for tests: everything else of a page keeps its value. */
export const storedFields: readonly FieldName[] = [...same, ...renamed.map(([f]) => f), ...segments, ...tables, 'cpl', 'pkru', 'tscAux'];
export const storedWithDebugSwap: readonly FieldName[] = breakpoints;

/**
 * Writes the registers of a context into a save area. Reserved bytes and the fields of more privileged software keep their values. Allocates nothing.
 * @param page - byte of `pages` where the save area starts.
 */
export const storeRegisters = (arena: Arena, base: number, pages: Arena, page: number, debugSwap: boolean): void => {
  const from = arena.i32, to = pages.i32;
  const b = base >>> 2, p = page >>> 2;
  for (let i = 0; i < plain.length; i += 2) {
    const target = p + plain[i]!, source = b + plain[i + 1]!;
    to[target] = from[source]!;
    to[target + 1] = from[source + 1]!;
  }
  for (let i = 0; i < segmentPairs.length; i += 2) {
    const target = p + segmentPairs[i]!, source = b + segmentPairs[i + 1]!;
    to[target] = from[source]! | (from[source + 1]! << 16);
    to[target + 1] = from[source + 2]!;
    to[target + 2] = from[source + 4]!;
    to[target + 3] = from[source + 5]!;
  }
  for (let i = 0; i < tablePairs.length; i += 2) {
    const target = p + tablePairs[i]!, source = b + tablePairs[i + 1]!;
    to[target + 1] = from[source]!;
    to[target + 2] = from[source + 2]!;
    to[target + 3] = from[source + 3]!;
  }
  to[p + LEVELS] = (to[p + LEVELS]! & 0xff_ffff) | (from[b + CPL]! << 24);
  to[p + PKRU] = from[b + X86.pkru / 4]!;
  to[p + TSC_AUX] = from[b + X86.tscAux / 4]!;
  if (debugSwap) copyDebug(from, b, to, p, true);
  saveFpuArea(arena, base, page, pages);
};

/**
 * Takes the registers of a context from a save area that an entry admits. Allocates nothing.
 * @param secureTsc - the area also says how the time stamp counter runs.
 */
export const loadRegisters = (arena: Arena, base: number, pages: Arena, page: number, debugSwap: boolean, secureTsc: boolean): void => {
  const to = arena.i32, from = pages.i32;
  const b = base >>> 2, p = page >>> 2;
  for (let i = 0; i < plain.length; i += 2) {
    const source = p + plain[i]!, target = b + plain[i + 1]!;
    to[target] = from[source]!;
    to[target + 1] = from[source + 1]!;
  }
  for (let i = 0; i < segmentPairs.length; i += 2) {
    const source = p + segmentPairs[i]!, target = b + segmentPairs[i + 1]!;
    const visible = from[source]!;
    to[target] = visible & 0xffff;
    to[target + 1] = (visible >>> 16) & 0xfff;
    to[target + 2] = from[source + 1]!;
    to[target + 4] = from[source + 2]!;
    to[target + 5] = from[source + 3]!;
  }
  for (let i = 0; i < tablePairs.length; i += 2) {
    const source = p + tablePairs[i]!, target = b + tablePairs[i + 1]!;
    to[target] = from[source + 1]! & 0xffff;
    to[target + 2] = from[source + 2]!;
    to[target + 3] = from[source + 3]!;
  }
  to[b + CPL] = (from[p + LEVELS]! >>> 24) & 3;
  to[b + X86.pkru / 4] = from[p + PKRU]!;
  to[b + X86.tscAux / 4] = from[p + TSC_AUX]!;
  to[b + X86.tscAux / 4 + 1] = 0;
  to[b + RFLAGS] = (to[b + RFLAGS]! & RFLAGS_KNOWN) | 2;
  to[b + RFLAGS + 1] = 0;
  // Long mode is active when it is enabled and paging is on, whatever the area says.
  const efer = to[b + EFER]!;
  to[b + EFER] = (efer & LME) !== 0 && to[b + CR0]! < 0 ? efer | LMA : efer & ~LMA;
  if (debugSwap) copyDebug(to, b, from, p, false);
  if (secureTsc) {
    to[b + X86.tscScale / 4] = from[p + TSC]!;
    to[b + X86.tscScale / 4 + 1] = from[p + TSC + 1]!;
    to[b + X86.tscOffset / 4] = from[p + TSC + 2]!;
    to[b + X86.tscOffset / 4 + 1] = from[p + TSC + 3]!;
  }
  loadFpuArea(arena, base, page, pages);
};

/** Whether scale and offset of a save area are not those of the context. */
export const movesTsc = (arena: Arena, base: number, pages: Arena, page: number): boolean => {
  const b = base >>> 2, p = (page >>> 2) + TSC;
  const own = arena.u32, area = pages.u32;
  return (
    own[b + X86.tscScale / 4] !== area[p] || own[b + X86.tscScale / 4 + 1] !== area[p + 1] || own[b + X86.tscOffset / 4] !== area[p + 2] || own[b + X86.tscOffset / 4 + 1] !== area[p + 3]
  );
};

const copyDebug = (blocks: Int32Array, b: number, areas: Int32Array, p: number, store: boolean): void => {
  for (let i = 0; i < debug.length; i += 2) {
    for (let w = 0; w < 2; w++) {
      if (store) areas[p + debug[i]! + w] = blocks[b + debug[i + 1]! + w]!;
      else blocks[b + debug[i + 1]! + w] = areas[p + debug[i]! + w]!;
    }
  }
};
