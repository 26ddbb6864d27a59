import { CPUID_FUNCTION_MAX, CpuidFunction, CpuidPage } from '@vmplanes/abi-sev-snp';
import type { CpuidModel } from '../psp/ports.ts';

/** Functions of a table that the image leaves empty, as (leaf, sub-leaves). @spec coconut-svsm tools/igvmbuilder/src/cpuid.rs */
const USUAL: readonly (readonly [leaf: number, subleaves: number])[] = [
  [0x8000_001f, 1], [0x0, 1], [0x1, 1], [0x2, 1], [0x4, 4], [0x5, 1], [0x6, 1], [0x7, 2], [0xb, 2], [0xd, 3], [0x8000_0000, 1], [0x8000_0001, 1], [0x8000_0002, 1], [0x8000_0003, 1], [0x8000_0004, 1],
  [0x8000_0005, 1], [0x8000_0006, 1], [0x8000_0007, 1], [0x8000_0008, 1], [0x8000_000a, 1], [0x8000_0019, 1], [0x8000_001a, 1], [0x8000_001d, 4], [0x8000_001e, 1],
];
/** Leaf 0DH, whose sizes depend on enabled components: the table answers for x87 alone. @spec SNP ABI, CPUID page */
const XSAVE_LEAF = 0xd;
const XCR0_X87 = 1n;
/** Bytes of an XSAVE area with legacy region and header. */
const XSAVE_BASE = 0x240;

/**
 * Puts the results of the CPU model into a table, as a host does before it hands it in: for the functions that the table lists, or the usual ones in an empty table.
 * @param page - 4096 bytes, changed.
 */
export function fillCpuidTable(page: Uint8Array, cpuid: CpuidModel): void {
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  const count = view.getUint32(CpuidPage.at.count, true);
  // What is no table is the firmware's to refuse.
  if (count > CPUID_FUNCTION_MAX) return;
  const listed = Array.from({ length: count }, (_, i) => CpuidFunction.read(view, CpuidPage.at.functions + i * CpuidFunction.size));
  const wanted = count > 0 ? listed.map(({ eaxIn, ecxIn }) => [eaxIn, ecxIn] as const) : USUAL.flatMap(([leaf, subleaves]) => Array.from({ length: subleaves }, (_, subleaf) => [leaf, subleaf] as const));
  const out = new Uint32Array(4);
  view.setUint32(CpuidPage.at.count, wanted.length, true);
  wanted.forEach(([eaxIn, ecxIn], i) => {
    cpuid(eaxIn, ecxIn, out);
    const isSized = eaxIn === XSAVE_LEAF && ecxIn < 2;
    const [eax, ebx, ecx, edx] = [...out] as [number, number, number, number];
    CpuidFunction.write(view, CpuidPage.at.functions + i * CpuidFunction.size, { eaxIn, ecxIn, xcr0In: isSized ? XCR0_X87 : 0n, xssIn: 0n, eax, ebx: isSized ? XSAVE_BASE : ebx, ecx, edx });
  });
}
