import type { CpuidModel } from './ports.ts';

/** One function of a table: its inputs, and the results that are checked. */
export interface CheckedFunction {
  readonly eaxIn: number;
  readonly ecxIn: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

type Register = 'eax' | 'ebx' | 'ecx' | 'edx';
const REGISTERS: readonly Register[] = ['eax', 'ebx', 'ecx', 'edx'];

/** Registers that are sets of features, by leaf and sub-leaf (-1: any). A guest may be told of fewer features than there are, not of more. @spec SDM 2A, CPUID; APM vol. 3, appendix E */
const FEATURES: readonly (readonly [leaf: number, subleaf: number, registers: readonly Register[]])[] = [
  [0x1, -1, ['ecx', 'edx']],
  [0x6, -1, ['eax', 'ecx']],
  [0x7, 0, ['ebx', 'ecx', 'edx']],
  [0x7, 1, ['eax', 'ebx', 'ecx', 'edx']],
  [0x7, 2, ['edx']],
  [0xd, 0, ['eax', 'edx']],
  [0xd, 1, ['eax', 'ecx', 'edx']],
  [0x8000_0001, -1, ['ecx', 'edx']],
  [0x8000_0007, -1, ['edx']],
  [0x8000_0008, -1, ['ebx']],
  [0x8000_000a, -1, ['edx']],
  [0x8000_001a, -1, ['eax']],
  [0x8000_001f, -1, ['eax']],
  [0x8000_0021, -1, ['eax']],
];
/** Registers that count leaves or sub-leaves: at most as many as there are. */
const LIMITS: readonly (readonly [leaf: number, subleaf: number])[] = [[0, -1], [0x7, 0], [0x8000_0000, -1]];
/** CR4 decides these two at run time, whatever a table says. @spec SDM 2A, CPUID: OSXSAVE, OSPKE */
const OSXSAVE = 1 << 27;
const OSPKE = 1 << 4;

const isFor = (leaf: number, subleaf: number, f: CheckedFunction): boolean => leaf === f.eaxIn && (subleaf < 0 || subleaf === f.ecxIn);

/** Features that a guest turns on and off itself. */
const dynamicBits = ({ eaxIn, ecxIn }: CheckedFunction, register: Register): number =>
  register !== 'ecx' ? 0 : eaxIn === 1 ? OSXSAVE : eaxIn === 7 && ecxIn === 0 ? OSPKE : 0;

/**
 * Lowers what a function promises to what the CPU model has.
 * @returns the registers that had to be changed with their new values; empty when nothing had.
 * @spec SNP ABI, CPUID reporting
 */
export function correctFunction(f: CheckedFunction, model: CpuidModel, out: Uint32Array): Partial<Record<Register, number>> {
  model(f.eaxIn, f.ecxIn, out);
  const corrected: Partial<Record<Register, number>> = {};
  const registers = FEATURES.find(([leaf, subleaf]) => isFor(leaf, subleaf, f))?.[2] ?? [];
  for (const register of registers) {
    const allowed = ((f[register] & (out[REGISTERS.indexOf(register)]! | dynamicBits(f, register))) >>> 0);
    if (allowed !== f[register]) corrected[register] = allowed;
  }
  if (LIMITS.some(([leaf, subleaf]) => isFor(leaf, subleaf, f)) && f.eax > out[0]!) corrected.eax = out[0]!;
  return corrected;
}
