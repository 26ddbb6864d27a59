import type { Arena } from '@vmplanes/engine';
import { X86 } from '../state/layout.ts';
import {
  compactedOffset, compactedSize, initComponent, isComponentInitial, loadComponent, saveComponent, standardSize, userXfeatures, Xfeature, XSAVE_HEADER_END, xsaveComponents,
} from './components.ts';
import { Fx64, FXSAVE_SIZE, type FpuLoad, type FxForm, imageMxcsr, loadX87, loadXmm, saveMxcsr, saveX87, saveXmm } from './fxsave.ts';
import { initialMxcsr, initX87, isLegalMxcsr, isX87Initial, isZero } from './x87.ts';

/** How an instruction of the XSAVE family writes. @spec SDM 1 §13.7-13.11 */
export interface XsaveOptions {
  /** Requested features: EDX:EAX and XCR0 (and IA32_XSS for XSAVES). */
  readonly requested: number;
  /** XSAVEC and XSAVES use the compacted format. */
  readonly compacted: boolean;
  /** All but XSAVE leave out components in their initial configuration. XSAVEC and XSAVES always do. */
  readonly optimised: boolean;
  readonly form: FxForm;
}

const MXCSR_USERS = Xfeature.sse | Xfeature.avx;

/**
 * XINUSE: the components that are not in their initial configuration. MXCSR counts for none of them.
 * @spec SDM 1 §13.6
 */
export function xinuse(arena: Arena, base: number, form: FxForm = Fx64): number {
  let mask = isX87Initial(arena, base) ? 0 : Xfeature.x87;
  if (!isZero(arena.u8, base + X86.xmm0, base + X86.xmm0 + 16 * form.xmmCount)) mask |= Xfeature.sse;
  for (const c of xsaveComponents) if (!isComponentInitial(arena, base, c, form)) mask |= 1 << c.id;
  return mask;
}

const readWord = (image: Uint8Array, at: number): number => (image[at]! | (image[at + 1]! << 8) | (image[at + 2]! << 16) | (image[at + 3]! << 24)) >>> 0;

function writeWord(image: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 4; i++) image[at + i] = value >>> (8 * i);
}

/**
 * Writes an XSAVE image as XSAVE, XSAVEOPT, XSAVEC or XSAVES would; bytes that the instruction does not define keep their value.
 * The modified optimisation is not modelled: it may only leave out what memory already holds.
 *
 * @returns bytes of the image; the caller has checked that `out` holds them from `at`
 * @spec SDM 1 §13.7 (XSAVE), §13.9 (XSAVEOPT), §13.10 (XSAVEC), §13.11 (XSAVES)
 */
export function saveXsave(arena: Arena, base: number, out: Uint8Array, at: number, options: XsaveOptions): number {
  const { requested, compacted, form } = options;
  let used = xinuse(arena, base, form) & requested;
  // The compacted format treats MXCSR as a part of SSE state.
  if (compacted && arena.u32[(base + X86.mxcsr) >>> 2] !== initialMxcsr) used |= requested & Xfeature.sse;
  const written = compacted || options.optimised ? used : requested;
  if (written & Xfeature.x87) saveX87(arena, base, out, at, form);
  if (compacted ? written & Xfeature.sse : requested & MXCSR_USERS) saveMxcsr(arena, base, out, at);
  if (written & Xfeature.sse) saveXmm(arena, base, out, at, form);
  for (const c of xsaveComponents) {
    if (!(written & (1 << c.id)) || (c.supervisor && !compacted)) continue;
    saveComponent(arena, base, c, out, at + (compacted ? compactedOffset(requested, c.id) : c.offset), form);
  }
  const header = at + FXSAVE_SIZE;
  if (compacted) {
    writeWord(out, header, used);
    writeWord(out, header + 4, 0);
    writeWord(out, header + 8, requested);
    writeWord(out, header + 12, 0x8000_0000);
    return compactedSize(requested);
  }
  writeWord(out, header, (readWord(out, header) & ~requested) | used);
  return standardSize(requested);
}

/** What XRSTOR or XRSTORS is given. */
export interface XrstorOptions {
  /** EDX:EAX, before it is reduced to what is enabled. */
  readonly requested: number;
  /** XCR0, and IA32_XSS for XRSTORS. */
  readonly enabled: number;
  /** XRSTORS accepts only the compacted format; XRSTOR accepts it when CPUID says so. */
  readonly formats: 'standard' | 'both' | 'compacted';
  readonly form: FxForm;
}

/** Checks the header of an image. */
function checkHeader(image: Uint8Array, at: number, options: XrstorOptions): FpuLoad {
  const compacted = (image[at + FXSAVE_SIZE + 15]! & 0x80) !== 0;
  if (compacted ? options.formats === 'standard' : options.formats === 'compacted') return 'header';
  const present = readWord(image, at + FXSAVE_SIZE);
  if (readWord(image, at + FXSAVE_SIZE + 4) !== 0) return 'component';
  if (!compacted) {
    if (!isZero(image, at + FXSAVE_SIZE + 8, at + FXSAVE_SIZE + 24)) return 'header';
    return present & ~options.enabled ? 'component' : 'ok';
  }
  const format = readWord(image, at + FXSAVE_SIZE + 8);
  if (!isZero(image, at + FXSAVE_SIZE + 16, at + XSAVE_HEADER_END)) return 'header';
  return readWord(image, at + FXSAVE_SIZE + 12) !== 0x8000_0000 || format & ~options.enabled || present & ~format ? 'component' : 'ok';
}

/**
 * Loads an XSAVE image as XRSTOR or XRSTORS would: requested components that XSTATE_BV leaves out go to their initial configuration.
 *
 * @spec SDM 1 §13.8 (XRSTOR), §13.12 (XRSTORS)
 */
export function loadXsave(arena: Arena, base: number, image: Uint8Array, at: number, options: XrstorOptions): FpuLoad {
  const length = image.length - at;
  if (length < XSAVE_HEADER_END) return 'short';
  const checked = checkHeader(image, at, options);
  if (checked !== 'ok') return checked;
  const compacted = (image[at + FXSAVE_SIZE + 15]! & 0x80) !== 0;
  const present = readWord(image, at + FXSAVE_SIZE);
  const format = readWord(image, at + FXSAVE_SIZE + 8);
  const requested = options.requested & options.enabled;
  if (length < (compacted ? compactedSize(format) : standardSize(requested & present))) return 'short';
  // The standard form takes MXCSR from memory even where XSTATE_BV leaves SSE out; the compacted form does not.
  const loadsMxcsr = compacted ? requested & present & Xfeature.sse : requested & MXCSR_USERS;
  const mxcsr = loadsMxcsr ? imageMxcsr(image, at) : requested & Xfeature.sse ? initialMxcsr : arena.u32[(base + X86.mxcsr) >>> 2]!;
  if (loadsMxcsr && !isLegalMxcsr(arena, base, mxcsr)) return 'mxcsr';

  applyComponents(arena, base, image, at, requested, present, compacted ? format : 0, options.form);
  arena.u32[(base + X86.mxcsr) >>> 2] = mxcsr;
  return 'ok';
}

/** Loads the requested components that are present and initialises the others. `format` is zero for the standard format. */
function applyComponents(arena: Arena, base: number, image: Uint8Array, at: number, requested: number, present: number, format: number, form: FxForm): void {
  if (requested & present & Xfeature.x87) loadX87(arena, base, image, at, form);
  else if (requested & Xfeature.x87) initX87(arena, base);
  if (requested & present & Xfeature.sse) loadXmm(arena, base, image, at, form);
  else if (requested & Xfeature.sse) arena.u8.fill(0, base + X86.xmm0, base + X86.xmm0 + 16 * form.xmmCount);
  for (const c of xsaveComponents) {
    if (!(requested & (1 << c.id))) continue;
    if (present & (1 << c.id)) loadComponent(arena, base, c, image, at + (format ? compactedOffset(format, c.id) : c.offset), form);
    else initComponent(arena, base, c, form);
  }
}

/**
 * Writes the whole user state as a standard-format image for the machine monitor. Every byte is defined; PKRU is always marked present, since
 * {@link importXsave} leaves it alone otherwise.
 *
 * @param supported - components that the guest's CPU model has
 * @param out - at least {@link standardSize} of `supported` bytes; what lies beyond is zeroed
 * @spec Linux Documentation/virt/kvm/api.rst §4.42 KVM_GET_XSAVE
 */
export function exportXsave(arena: Arena, base: number, out: Uint8Array, supported: number): void {
  out.fill(0);
  const requested = supported & userXfeatures;
  saveXsave(arena, base, out, 0, { requested, compacted: false, optimised: false, form: Fx64 });
  writeWord(out, FXSAVE_SIZE, readWord(out, FXSAVE_SIZE) | (requested & Xfeature.pkru));
  // A consumer reads MXCSR only where a component that uses it is present.
  if (arena.u32[(base + X86.mxcsr) >>> 2] !== initialMxcsr) out[FXSAVE_SIZE]! |= requested & Xfeature.sse;
}

/**
 * Loads a standard-format image on behalf of the machine monitor: a clear XSTATE_BV bit initialises its component, except PKRU, which keeps
 * its value. An image that is refused changes nothing.
 *
 * @param supported - components that the guest's CPU model has; a set bit beyond them is refused
 * @spec Linux Documentation/virt/kvm/api.rst §4.43 KVM_SET_XSAVE; Linux arch/x86/kernel/fpu/xstate.c copy_uabi_to_xstate
 */
export function importXsave(arena: Arena, base: number, image: Uint8Array, supported: number): FpuLoad {
  if (image.length < XSAVE_HEADER_END) return 'short';
  if (!isZero(image, FXSAVE_SIZE + 8, XSAVE_HEADER_END)) return 'header';
  const user = supported & userXfeatures;
  const present = readWord(image, FXSAVE_SIZE);
  if (present & ~user || readWord(image, FXSAVE_SIZE + 4) !== 0) return 'component';
  if (image.length < standardSize(present)) return 'short';
  const loadsMxcsr = (present & (Xfeature.x87 | MXCSR_USERS)) !== 0;
  const mxcsr = loadsMxcsr ? imageMxcsr(image, 0) : initialMxcsr;
  if (loadsMxcsr && !isLegalMxcsr(arena, base, mxcsr)) return 'mxcsr';
  applyComponents(arena, base, image, 0, user & ~(Xfeature.pkru & ~present), present, 0, Fx64);
  arena.u32[(base + X86.mxcsr) >>> 2] = mxcsr;
  return 'ok';
}
