import type { Arena } from '@vmplanes/engine';
import { X86 } from '../state/layout.ts';
import type { FpuLoad } from './fxsave.ts';
import { abridgeTags, fullTags, isLegalMxcsr, legalizeFcw, legalizeFsw, X87 } from './x87.ts';

/**
 * Byte offsets of the floating-point fields in the save area (VMSA) of an encrypted guest.
 * The x87 registers are split: eight significands of 8 bytes, then eight sign-and-exponent words of 2 bytes.
 * @spec APM2 Appendix B Table B-4
 */
export const SaveAreaFpu = {
  dp: 0x400,
  mxcsr: 0x408,
  ftw: 0x40c,
  fsw: 0x40e,
  fcw: 0x410,
  fop: 0x412,
  ds: 0x414,
  cs: 0x416,
  rip: 0x418,
  x87: 0x420,
  xmm: 0x470,
  ymmHigh: 0x570,
  end: 0x670,
} as const;

const FPU_WORDS = (SaveAreaFpu.end - SaveAreaFpu.xmm) / 4;
const WORD = {
  dp: SaveAreaFpu.dp >>> 2,
  mxcsr: SaveAreaFpu.mxcsr >>> 2,
  rip: SaveAreaFpu.rip >>> 2,
  x87: SaveAreaFpu.x87 >>> 2,
  xmm: SaveAreaFpu.xmm >>> 2,
} as const;
const ST0 = X86.st0 >>> 2;
const XMM0 = X86.xmm0 >>> 2;
const DP = X86['x87.dp'] >>> 2;
const RIP = X86['x87.rip'] >>> 2;

/**
 * Writes the floating-point fields of a save area; the tag word has its full two-bit form. Allocates nothing.
 *
 * @param page - byte of `pages` where the save area starts, a multiple of 16; its fields lie at {@link SaveAreaFpu}
 * @param pages - what holds the save area, when it is not the arena of the block
 * @spec APM2 Appendix B Table B-4
 */
export function saveFpuArea(arena: Arena, base: number, page: number, pages: Arena = arena): void {
  const { u16, i32 } = arena;
  const area = pages.i32;
  const area16 = pages.u16;
  const from = base >>> 2;
  const to = page >>> 2;
  const half = page >>> 1;
  area[to + WORD.dp] = i32[from + DP]!;
  area[to + WORD.dp + 1] = i32[from + DP + 1]!;
  area[to + WORD.mxcsr] = i32[from + X86.mxcsr / 4]!;
  area16[half + SaveAreaFpu.ftw / 2] = fullTags(arena, base);
  area16[half + SaveAreaFpu.fsw / 2] = u16[(base + X87.fsw) >>> 1]!;
  area16[half + SaveAreaFpu.fcw / 2] = u16[(base + X87.fcw) >>> 1]!;
  area16[half + SaveAreaFpu.fop / 2] = u16[(base + X87.fop) >>> 1]!;
  area16[half + SaveAreaFpu.ds / 2] = i32[from + X86['x87.ds'] / 4]!;
  area16[half + SaveAreaFpu.cs / 2] = i32[from + X86['x87.cs'] / 4]!;
  area[to + WORD.rip] = i32[from + RIP]!;
  area[to + WORD.rip + 1] = i32[from + RIP + 1]!;
  for (let i = 0; i < 8; i++) {
    area[to + WORD.x87 + 2 * i] = i32[from + ST0 + 4 * i]!;
    area[to + WORD.x87 + 2 * i + 1] = i32[from + ST0 + 4 * i + 1]!;
    area16[half + SaveAreaFpu.x87 / 2 + 32 + i] = i32[from + ST0 + 4 * i + 2]!;
  }
  copyVectors(i32, from + XMM0, area, to + WORD.xmm);
}

/** XMM0-15 and the upper halves of YMM0-15, which follow each other in block and save area. */
const copyVectors = (source: Int32Array, from: number, target: Int32Array, to: number): void => {
  if (source === target) target.copyWithin(to, from, from + FPU_WORDS);
  else for (let w = 0; w < FPU_WORDS; w++) target[to + w] = source[from + w]!;
};

/** Whether MXCSR of a save area sets no reserved bit: {@link loadFpuArea} takes no other. */
export const isFpuAreaLegal = (arena: Arena, base: number, page: number, pages: Arena = arena): boolean => isLegalMxcsr(arena, base, pages.u32[(page >>> 2) + WORD.mxcsr]!);

/**
 * Loads the floating-point fields of a save area. The tag word is read in its full form, in which 0 and 5555H both mean "no register empty".
 * Allocates nothing.
 *
 * @param page - byte of `pages` where the save area starts, a multiple of 16
 * @param pages - what holds the save area, when it is not the arena of the block
 * @returns `mxcsr` when a reserved bit of MXCSR is set; then nothing has changed
 * @spec APM2 Appendix B Table B-4
 */
export function loadFpuArea(arena: Arena, base: number, page: number, pages: Arena = arena): FpuLoad {
  if (!isFpuAreaLegal(arena, base, page, pages)) return 'mxcsr';
  const { u8, u16, i32 } = arena;
  const area = pages.i32;
  const area16 = pages.u16;
  const to = base >>> 2;
  const from = page >>> 2;
  const half = page >>> 1;
  const fcw = legalizeFcw(area16[half + SaveAreaFpu.fcw / 2]!);
  i32[to + DP] = area[from + WORD.dp]!;
  i32[to + DP + 1] = area[from + WORD.dp + 1]!;
  i32[to + X86.mxcsr / 4] = area[from + WORD.mxcsr]!;
  u16[(base + X87.fcw) >>> 1] = fcw;
  u16[(base + X87.fsw) >>> 1] = legalizeFsw(area16[half + SaveAreaFpu.fsw / 2]!, fcw);
  u8[base + X87.tags] = abridgeTags(area16[half + SaveAreaFpu.ftw / 2]!);
  u8[base + X87.tags + 1] = 0;
  u16[(base + X87.fop) >>> 1] = area16[half + SaveAreaFpu.fop / 2]! & 0x7ff;
  i32[to + X86['x87.ds'] / 4] = area16[half + SaveAreaFpu.ds / 2]!;
  i32[to + X86['x87.cs'] / 4] = area16[half + SaveAreaFpu.cs / 2]!;
  i32[to + RIP] = area[from + WORD.rip]!;
  i32[to + RIP + 1] = area[from + WORD.rip + 1]!;
  for (let i = 0; i < 8; i++) {
    i32[to + ST0 + 4 * i] = area[from + WORD.x87 + 2 * i]!;
    i32[to + ST0 + 4 * i + 1] = area[from + WORD.x87 + 2 * i + 1]!;
    i32[to + ST0 + 4 * i + 2] = area16[half + SaveAreaFpu.x87 / 2 + 32 + i]!;
    i32[to + ST0 + 4 * i + 3] = 0;
  }
  copyVectors(area, from + WORD.xmm, i32, to + XMM0);
  return 'ok';
}
