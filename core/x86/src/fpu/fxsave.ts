import type { Arena } from '@vmplanes/engine';
import { X86 } from '../state/layout.ts';
import { isLegalMxcsr, legalizeFcw, legalizeFsw, X87 } from './x87.ts';

/** Bytes of an FXSAVE image. The last 96 belong to software and are neither written nor read. */
export const FXSAVE_SIZE = 512;

/**
 * Which of the FXSAVE images an instruction uses.
 * @spec SDM 1 §10.5.1; SDM 2A FXSAVE
 */
export interface FxForm {
  /** Instruction and data pointers are 64-bit offsets (REX.W = 1) instead of 32-bit offsets with selectors. */
  readonly wide: boolean;
  /** XMM registers in the image: 16 in 64-bit mode, 8 elsewhere, none with EFER.FFXSR in 64-bit mode at CPL 0. */
  readonly xmmCount: 0 | 8 | 16;
}

/** FXSAVE64 and XSAVE64, in 64-bit mode. */
export const Fx64: FxForm = { wide: true, xmmCount: 16 };
/** FXSAVE and XSAVE without REX.W in 64-bit mode. */
export const Fx32Long: FxForm = { wide: false, xmmCount: 16 };
/** FXSAVE and XSAVE outside 64-bit mode. */
export const Fx32: FxForm = { wide: false, xmmCount: 8 };

/** What an attempt to load a floating-point image came to; all but `ok` leave the registers unchanged, and are #GP(0) in an instruction. */
export const FpuLoad = {
  ok: 'ok',
  /** The area ends before the image does. */
  short: 'short',
  /** A reserved bit of MXCSR is set. */
  mxcsr: 'mxcsr',
  /** A reserved byte of the XSAVE header is set, or the format is not allowed here. */
  header: 'header',
  /** XSTATE_BV or XCOMP_BV names a component that is not supported or not enabled. */
  component: 'component',
} as const;
export type FpuLoad = keyof typeof FpuLoad;

/** Writes the x87 fields of an FXSAVE image: bytes 0-23 and 32-159. */
export function saveX87(arena: Arena, base: number, out: Uint8Array, at: number, form: FxForm): void {
  const from = base + X86['x87.environment'];
  out.set(arena.u8.subarray(from, from + 24), at);
  if (!form.wide) {
    out.set(arena.u8.subarray(base + X86['x87.cs'], base + X86['x87.cs'] + 2), at + 12);
    out.fill(0, at + 14, at + 16);
    out.set(arena.u8.subarray(base + X86['x87.ds'], base + X86['x87.ds'] + 2), at + 20);
    out.fill(0, at + 22, at + 24);
  }
  out.set(arena.u8.subarray(base + X86.st0, base + X86.xmm0), at + 32);
}

/** Writes MXCSR and MXCSR_MASK: bytes 24-31. */
export function saveMxcsr(arena: Arena, base: number, out: Uint8Array, at: number): void {
  out.set(arena.u8.subarray(base + X86.mxcsr, base + X86.st0), at + 24);
}

/** Writes the XMM registers of the form: from byte 160. */
export function saveXmm(arena: Arena, base: number, out: Uint8Array, at: number, form: FxForm): void {
  out.set(arena.u8.subarray(base + X86.xmm0, base + X86.xmm0 + 16 * form.xmmCount), at + 160);
}

/**
 * Writes an FXSAVE image.
 *
 * @param out - receives the image from `at`; bytes that the form does not define keep their value
 * @spec SDM 2A FXSAVE; APM4 FXSAVE
 */
export function saveFxsave(arena: Arena, base: number, out: Uint8Array, at: number, form: FxForm): void {
  saveX87(arena, base, out, at, form);
  saveMxcsr(arena, base, out, at);
  saveXmm(arena, base, out, at, form);
}

/** Loads the x87 fields of an FXSAVE image. Never fails: reserved bits take their fixed values. */
export function loadX87(arena: Arena, base: number, image: Uint8Array, at: number, form: FxForm): void {
  const to = base + X86['x87.environment'];
  const { u8 } = arena;
  u8.set(image.subarray(at, at + 24), to);
  u8[base + X87.tags + 1] = 0;
  u8[base + X87.fop + 1]! &= 7;
  const fcw = legalizeFcw(arena.u16[(base + X87.fcw) >>> 1]!);
  arena.u16[(base + X87.fcw) >>> 1] = fcw;
  arena.u16[(base + X87.fsw) >>> 1] = legalizeFsw(arena.u16[(base + X87.fsw) >>> 1]!, fcw);
  // The 64-bit form has no selectors: they read as zero afterwards.
  u8.fill(0, base + X86['x87.cs'], to);
  if (!form.wide) {
    u8.copyWithin(base + X86['x87.cs'], base + X86['x87.rip'] + 4, base + X86['x87.rip'] + 6);
    u8.copyWithin(base + X86['x87.ds'], base + X86['x87.dp'] + 4, base + X86['x87.dp'] + 6);
    u8.fill(0, base + X86['x87.rip'] + 4, base + X86['x87.rip'] + 8);
    u8.fill(0, base + X86['x87.dp'] + 4, base + X86['x87.dp'] + 8);
  }
  for (let i = 0; i < 8; i++) {
    const slot = base + X86.st0 + 16 * i;
    u8.set(image.subarray(at + 32 + 16 * i, at + 42 + 16 * i), slot);
    u8.fill(0, slot + 10, slot + 16);
  }
}

/** MXCSR of an image as an unsigned number. */
export const imageMxcsr = (image: Uint8Array, at: number): number =>
  (image[at + 24]! | (image[at + 25]! << 8) | (image[at + 26]! << 16) | (image[at + 27]! << 24)) >>> 0;

/** Loads the XMM registers of the form; those beyond it keep their value. */
export function loadXmm(arena: Arena, base: number, image: Uint8Array, at: number, form: FxForm): void {
  arena.u8.set(image.subarray(at + 160, at + 160 + 16 * form.xmmCount), base + X86.xmm0);
}

/**
 * Loads an FXSAVE image. MXCSR_MASK and the bytes for software are ignored.
 *
 * @spec SDM 2A FXRSTOR; APM4 FXRSTOR
 */
export function loadFxsave(arena: Arena, base: number, image: Uint8Array, at: number, form: FxForm): FpuLoad {
  if (image.length - at < FXSAVE_SIZE) return 'short';
  const mxcsr = imageMxcsr(image, at);
  if (!isLegalMxcsr(arena, base, mxcsr)) return 'mxcsr';
  loadX87(arena, base, image, at, form);
  arena.u32[(base + X86.mxcsr) >>> 2] = mxcsr;
  loadXmm(arena, base, image, at, form);
  return 'ok';
}
