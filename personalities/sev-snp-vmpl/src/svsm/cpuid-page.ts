import { CPUID_FUNCTION_MAX, CpuidFunction, CpuidPage, ENCRYPTED_MEMORY_LEAF } from '@vmplanes/abi-sev-snp';
import { PAGE_SIZE, type PlaneContext } from '@vmplanes/engine';
import type { SnpContext } from '../ports.ts';

/** Functions that a firmware finds in its page: leaf, then its sub-leaves where it has any. @spec coconut-svsm tools/igvmbuilder/src/cpuid.rs */
const functions: readonly (readonly [leaf: number, subleaves?: readonly number[]])[] = [
  [ENCRYPTED_MEMORY_LEAF], [0], [1], [2], [4, [0, 1, 2, 3]], [5], [6], [7, [0, 1]], [0xb, [0, 1]], [0xd, [0, 1, 2]],
  [0x8000_0000], [0x8000_0001], [0x8000_0002], [0x8000_0003], [0x8000_0004], [0x8000_0005], [0x8000_0006], [0x8000_0007], [0x8000_0008],
  [0x8000_000a], [0x8000_0019], [0x8000_001a], [0x8000_001d, [0, 1, 2, 3]], [0x8000_001e],
];
/** Extended state: its entries say for which components they hold. */
const EXTENDED_STATE = 0xd;
/** EAX bit of leaf 0x8000001F: there is an SVSM. No processor sets it. @spec SVSM 1.00, section 4; Linux arch/x86/boot/startup/sev-shared.c */
export const CPUID_SVSM: number = 1 << 28;

/** The CPUID page of the guest: what the machine's processors answer, and that there is an SVSM. */
export function cpuidFor({ arch, chapters }: SnpContext, context: PlaneContext): Uint8Array {
  const page = new Uint8Array(PAGE_SIZE);
  const view = new DataView(page.buffer);
  const words = new Uint32Array(4);
  let count = 0;
  for (const [leaf, subleaves = [0]] of functions) {
    for (const subleaf of subleaves) {
      arch.registers.executeCpuid(context, leaf, subleaf, words);
      if (leaf === ENCRYPTED_MEMORY_LEAF) {
        const { eax, ebx, ecx, edx } = chapters.features.leaf;
        words.set([eax | CPUID_SVSM, ebx, ecx, edx]);
      }
      const [eax = 0, ebx = 0, ecx = 0, edx = 0] = words;
      CpuidFunction.write(view, CpuidPage.at.functions + count * CpuidFunction.size, { eaxIn: leaf, ecxIn: subleaf, xcr0In: leaf === EXTENDED_STATE && subleaf < 2 ? 1n : 0n, xssIn: 0n, eax, ebx, ecx, edx });
      count++;
    }
  }
  if (count > CPUID_FUNCTION_MAX) throw new RangeError(`${count} functions do not fit a CPUID page`);
  view.setUint32(CpuidPage.at.count, count, true);
  return page;
}
