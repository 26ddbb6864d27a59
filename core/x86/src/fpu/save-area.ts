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

/**
 * Writes the floating-point fields of a save area; the tag word has its full two-bit form.
 *
 * @param out - the page; fields lie at `at` plus {@link SaveAreaFpu}
 * @spec APM2 Appendix B Table B-4
 */
export function saveFpuArea(arena: Arena, base: number, out: Uint8Array, at: number): void {
  const { u8 } = arena;
  const copy = (offset: number, from: number, size: number): void => out.set(u8.subarray(base + from, base + from + size), at + offset);
  const tags = fullTags(arena, base);
  copy(SaveAreaFpu.dp, X86['x87.dp'], 8);
  copy(SaveAreaFpu.mxcsr, X86.mxcsr, 4);
  out[at + SaveAreaFpu.ftw] = tags;
  out[at + SaveAreaFpu.ftw + 1] = tags >>> 8;
  copy(SaveAreaFpu.fsw, X87.fsw, 2);
  copy(SaveAreaFpu.fcw, X87.fcw, 2);
  copy(SaveAreaFpu.fop, X87.fop, 2);
  copy(SaveAreaFpu.ds, X86['x87.ds'], 2);
  copy(SaveAreaFpu.cs, X86['x87.cs'], 2);
  copy(SaveAreaFpu.rip, X86['x87.rip'], 8);
  for (let i = 0; i < 8; i++) {
    copy(SaveAreaFpu.x87 + 8 * i, X86.st0 + 16 * i, 8);
    copy(SaveAreaFpu.x87 + 64 + 2 * i, X86.st0 + 16 * i + 8, 2);
  }
  copy(SaveAreaFpu.xmm, X86.xmm0, 256);
  copy(SaveAreaFpu.ymmHigh, X86.ymmHigh0, 256);
}

/**
 * Loads the floating-point fields of a save area. The tag word is read in its full form, in which 0 and 5555H both mean "no register empty".
 *
 * @returns `mxcsr` when a reserved bit of MXCSR is set, `short` when the area ends early; then nothing has changed
 * @spec APM2 Appendix B Table B-4
 */
export function loadFpuArea(arena: Arena, base: number, image: Uint8Array, at: number): FpuLoad {
  if (image.length - at < SaveAreaFpu.end) return 'short';
  const view = new DataView(image.buffer, image.byteOffset + at, SaveAreaFpu.end);
  const mxcsr = view.getUint32(SaveAreaFpu.mxcsr, true);
  if (!isLegalMxcsr(arena, base, mxcsr)) return 'mxcsr';
  const { u8, u16, u32 } = arena;
  const copy = (offset: number, to: number, size: number): void => u8.set(image.subarray(at + offset, at + offset + size), base + to);
  const fcw = legalizeFcw(view.getUint16(SaveAreaFpu.fcw, true));
  copy(SaveAreaFpu.dp, X86['x87.dp'], 8);
  copy(SaveAreaFpu.rip, X86['x87.rip'], 8);
  u32[(base + X86.mxcsr) >>> 2] = mxcsr;
  u16[(base + X87.fcw) >>> 1] = fcw;
  u16[(base + X87.fsw) >>> 1] = legalizeFsw(view.getUint16(SaveAreaFpu.fsw, true), fcw);
  u16[(base + X87.tags) >>> 1] = abridgeTags(view.getUint16(SaveAreaFpu.ftw, true));
  u16[(base + X87.fop) >>> 1] = view.getUint16(SaveAreaFpu.fop, true) & 0x7ff;
  u32[(base + X86['x87.cs']) >>> 2] = view.getUint16(SaveAreaFpu.cs, true);
  u32[(base + X86['x87.ds']) >>> 2] = view.getUint16(SaveAreaFpu.ds, true);
  for (let i = 0; i < 8; i++) {
    copy(SaveAreaFpu.x87 + 8 * i, X86.st0 + 16 * i, 8);
    copy(SaveAreaFpu.x87 + 64 + 2 * i, X86.st0 + 16 * i + 8, 2);
    u8.fill(0, base + X86.st0 + 16 * i + 10, base + X86.st0 + 16 * (i + 1));
  }
  copy(SaveAreaFpu.xmm, X86.xmm0, 256);
  copy(SaveAreaFpu.ymmHigh, X86.ymmHigh0, 256);
  return 'ok';
}
