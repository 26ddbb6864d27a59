import type { Arena } from '@vmplanes/engine';
import { X86 } from '../state/layout.ts';
import type { FxForm } from './fxsave.ts';
import { isZero } from './x87.ts';

/** Bits of the state-component bitmaps XCR0, IA32_XSS, XSTATE_BV and XCOMP_BV that this model knows. @spec SDM 1 §13.1; APM2 §11.5.2 */
export const Xfeature = { x87: 1 << 0, sse: 1 << 1, avx: 1 << 2, pkru: 1 << 9, cetUser: 1 << 11, cetSupervisor: 1 << 12 } as const;

/** Bits that XCR0 may enable. */
export const userXfeatures = Xfeature.x87 | Xfeature.sse | Xfeature.avx | Xfeature.pkru;

/** Bits that IA32_XSS may enable. */
export const supervisorXfeatures = Xfeature.cetUser | Xfeature.cetSupervisor;

/** Bytes of the legacy region and of the header, which every XSAVE image has. @spec SDM 1 §13.4 */
export const XSAVE_HEADER_END = 576;

/** A state component of the extended region. */
export interface XsaveComponent {
  readonly id: number;
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Byte offset in the standard format; zero for supervisor components, which only the compacted format holds. */
  readonly offset: number;
  /** In the compacted format the component starts on a 64-byte boundary. */
  readonly aligned: boolean;
  readonly supervisor: boolean;
  /** Cells of the context block that hold it, in image order. `narrow`: bytes used outside 64-bit mode, where registers 8-15 do not exist. */
  readonly cells: readonly { readonly offset: number; readonly size: number; readonly narrow: number }[];
}

const cell = (offset: number, size: number, narrow = size) => ({ offset, size, narrow });

/**
 * Components 2 and up, as CPUID leaf 0DH lists them. The offset of PKRU is the one of processors whose standard format has room for AVX-512.
 * @spec SDM 1 §13.5; SDM 1 Table 13-1
 */
export const xsaveComponents: readonly XsaveComponent[] = [
  { id: 2, name: 'avx', size: 256, offset: 576, aligned: false, supervisor: false, cells: [cell(X86.ymmHigh0, 256, 128)] },
  { id: 9, name: 'pkru', size: 8, offset: 0xa80, aligned: false, supervisor: false, cells: [cell(X86.pkru, 4)] },
  { id: 11, name: 'cetUser', size: 16, offset: 0, aligned: false, supervisor: true, cells: [cell(X86.uCet, 8), cell(X86.pl3Ssp, 8)] },
  { id: 12, name: 'cetSupervisor', size: 24, offset: 0, aligned: false, supervisor: true, cells: [cell(X86.pl0Ssp, 24)] },
];

const bytesOf = (c: XsaveComponent['cells'][number], form: FxForm): number => (form.xmmCount === 16 ? c.size : c.narrow);

/** @returns whether every cell of the component is zero, its initial configuration. */
export function isComponentInitial(arena: Arena, base: number, component: XsaveComponent, form: FxForm): boolean {
  return component.cells.every((c) => isZero(arena.u8, base + c.offset, base + c.offset + bytesOf(c, form)));
}

/** Zeroes a component. */
export function initComponent(arena: Arena, base: number, component: XsaveComponent, form: FxForm): void {
  for (const c of component.cells) arena.u8.fill(0, base + c.offset, base + c.offset + bytesOf(c, form));
}

/** Writes a component; the tail of its space that no register fills is zeroed. */
export function saveComponent(arena: Arena, base: number, component: XsaveComponent, out: Uint8Array, at: number, form: FxForm): void {
  let end = at;
  for (const c of component.cells) {
    const size = bytesOf(c, form);
    out.set(arena.u8.subarray(base + c.offset, base + c.offset + size), end);
    end += c.size;
  }
  out.fill(0, end, at + component.size);
}

/** Loads a component. */
export function loadComponent(arena: Arena, base: number, component: XsaveComponent, image: Uint8Array, at: number, form: FxForm): void {
  for (const c of component.cells) {
    arena.u8.set(image.subarray(at, at + bytesOf(c, form)), base + c.offset);
    at += c.size;
  }
}

/** Bytes of a standard-format image with the components of `mask`. @spec SDM 1 §13.4.2; CPUID.(EAX=0DH,ECX=0):EBX */
export function standardSize(mask: number): number {
  let size = XSAVE_HEADER_END;
  for (const c of xsaveComponents) if (!c.supervisor && mask & (1 << c.id)) size = Math.max(size, c.offset + c.size);
  return size;
}

/** Byte offset of a component in a compacted image whose XCOMP_BV is `mask`. @spec SDM 1 §13.4.3 */
export function compactedOffset(mask: number, id: number): number {
  let at = XSAVE_HEADER_END;
  for (const c of xsaveComponents) {
    if (!(mask & (1 << c.id)) && c.id !== id) continue;
    if (c.aligned) at = (at + 63) & ~63;
    if (c.id === id) return at;
    at += c.size;
  }
  return at;
}

/** Bytes of a compacted image with the components of `mask`. @spec SDM 1 §13.4.3; CPUID.(EAX=0DH,ECX=1):EBX */
export const compactedSize = (mask: number): number => compactedOffset(mask, 63);
