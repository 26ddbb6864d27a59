import { Vmsa } from '@vmplanes/abi-sev-snp';
import type { Arena } from '@vmplanes/engine';
import { loadFpuArea, type RegisterName, saveFpuArea, type SegmentName, X86, X86Size } from '@vmplanes/x86';

type FieldName = keyof typeof Vmsa.at;

/** Fields that a context has under the same name and in the same form. */
const same = [
  'pl0Ssp', 'pl1Ssp', 'pl2Ssp', 'pl3Ssp', 'uCet', 'efer', 'xss', 'cr4', 'cr3', 'cr0', 'dr7', 'dr6', 'rflags', 'rip', 'rsp', 'sCet', 'ssp', 'interruptSspTable', 'rax', 'star', 'lstar', 'cstar', 'sfmask',
  'kernelGsBase', 'sysenterCs', 'sysenterEsp', 'sysenterEip', 'cr2', 'pat', 'debugCtl', 'lastExceptionFrom', 'lastExceptionTo', 'pkru', 'rcx', 'rdx', 'rbx', 'rbp', 'rsi', 'rdi',
  'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'xcr0',
] as const satisfies readonly (FieldName & RegisterName)[];

/** Fields under another name. */
const renamed: readonly (readonly [field: FieldName, cell: RegisterName])[] = [['brFrom', 'lastBranchFrom'], ['brTo', 'lastBranchTo']];

const breakpoints = ['dr0', 'dr1', 'dr2', 'dr3', 'dr0Mask', 'dr1Mask', 'dr2Mask', 'dr3Mask'] as const satisfies readonly (FieldName & RegisterName)[];

const segments = ['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'ldtr', 'tr'] as const satisfies readonly (FieldName & SegmentName)[];
const tables = ['gdtr', 'idtr'] as const;

/** Triples (word of the page, word of the block, words); rows that follow each other in both are one. */
const compile = (rows: readonly (readonly [field: FieldName, cell: RegisterName])[]): Int32Array => {
  const list: number[] = [];
  for (const [field, cell] of rows) {
    const from = Vmsa.at[field] / 4, to = X86[cell] / 4, words = X86Size[cell] / 4;
    const last = list.length - 3;
    if (last >= 0 && list[last]! + list[last + 2]! === from && list[last + 1]! + list[last + 2]! === to) list[last + 2]! += words;
    else list.push(from, to, words);
  }
  return Int32Array.from(list);
};

const named = (names: readonly (FieldName & RegisterName)[]): (readonly [FieldName, RegisterName])[] => names.map((n) => [n, n]);

const plain = compile([...named(same), ...renamed]);
const debug = compile(named(breakpoints));
/** Pairs (word of the page, word of the block). */
const segmentPairs = Int32Array.from(segments.flatMap((s) => [Vmsa.at[s] / 4, X86[`${s}.selector`] / 4]));
const tablePairs = Int32Array.from(tables.flatMap((t) => [Vmsa.at[t] / 4, X86[`${t}.limit`] / 4]));

/** Word that holds two reserved bytes, VMPL and CPL. */
const LEVELS = (Vmsa.at.vmpl & ~3) / 4;
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
export const storedFields: readonly FieldName[] = [...same, ...renamed.map(([f]) => f), ...segments, ...tables, 'cpl', 'tscAux'];
export const storedWithDebugSwap: readonly FieldName[] = breakpoints;

/**
 * Writes the registers of a context into a save area. Reserved bytes and the fields of more privileged software keep their values. Allocates nothing.
 * @param page - byte of `pages` where the save area starts.
 */
export const storeRegisters = (arena: Arena, base: number, pages: Arena, page: number, debugSwap: boolean): void => {
  const from = arena.u32, to = pages.u32;
  const b = base >>> 2, p = page >>> 2;
  for (let i = 0; i < plain.length; i += 3) {
    const target = p + plain[i]!, source = b + plain[i + 1]!, words = plain[i + 2]!;
    for (let w = 0; w < words; w++) to[target + w] = from[source + w]!;
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
  to[p + TSC_AUX] = from[b + X86.tscAux / 4]!;
  if (debugSwap) copyDebug(from, b, to, p, true);
  saveFpuArea(arena, base, page, pages);
};

/**
 * Takes the registers of a context from a save area that an entry admits. Allocates nothing.
 * @param secureTsc - the area also says how the time stamp counter runs.
 */
export const loadRegisters = (arena: Arena, base: number, pages: Arena, page: number, debugSwap: boolean, secureTsc: boolean): void => {
  const to = arena.u32, from = pages.u32;
  const b = base >>> 2, p = page >>> 2;
  for (let i = 0; i < plain.length; i += 3) {
    const source = p + plain[i]!, target = b + plain[i + 1]!, words = plain[i + 2]!;
    for (let w = 0; w < words; w++) to[target + w] = from[source + w]!;
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
  to[b + X86.tscAux / 4] = from[p + TSC_AUX]!;
  to[b + X86.tscAux / 4 + 1] = 0;
  to[b + RFLAGS] = (to[b + RFLAGS]! & RFLAGS_KNOWN) | 2;
  to[b + RFLAGS + 1] = 0;
  // Long mode is active when it is enabled and paging is on, whatever the area says.
  const efer = to[b + EFER]!;
  to[b + EFER] = (efer & LME) !== 0 && to[b + CR0]! >>> 31 === 1 ? efer | LMA : efer & ~LMA;
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

const copyDebug = (blocks: Uint32Array, b: number, areas: Uint32Array, p: number, store: boolean): void => {
  for (let i = 0; i < debug.length; i += 3) {
    for (let w = 0; w < debug[i + 2]!; w++) {
      if (store) areas[p + debug[i]! + w] = blocks[b + debug[i + 1]! + w]!;
      else blocks[b + debug[i + 1]! + w] = areas[p + debug[i]! + w]!;
    }
  }
};
