import { supervisorXfeatures, userXfeatures } from '../fpu/components.ts';
import type { CpuidTable } from './cpuid.ts';

/** Output registers of CPUID as indices. */
export const CpuidOutput = { eax: 0, ebx: 1, ecx: 2, edx: 3 } as const;

const { eax: A, ebx: B, ecx: C, edx: D } = CpuidOutput;

/**
 * Feature bits by name: leaf, sub-leaf, register, bit. Names are the manuals' mnemonics in camel case.
 * @spec SDM 2A CPUID Table 3-17; APM3 Appendix E
 */
export const featureBits = {
  sse3: [1, 0, C, 0], pclmulqdq: [1, 0, C, 1], monitor: [1, 0, C, 3], vmx: [1, 0, C, 5], ssse3: [1, 0, C, 9], fma: [1, 0, C, 12], cx16: [1, 0, C, 13], pcid: [1, 0, C, 17],
  sse41: [1, 0, C, 19], sse42: [1, 0, C, 20], x2apic: [1, 0, C, 21], movbe: [1, 0, C, 22], popcnt: [1, 0, C, 23], tscDeadline: [1, 0, C, 24], aes: [1, 0, C, 25],
  xsave: [1, 0, C, 26], osxsave: [1, 0, C, 27], avx: [1, 0, C, 28], f16c: [1, 0, C, 29], rdrand: [1, 0, C, 30], hypervisor: [1, 0, C, 31],
  fpu: [1, 0, D, 0], vme: [1, 0, D, 1], de: [1, 0, D, 2], pse: [1, 0, D, 3], tsc: [1, 0, D, 4], msr: [1, 0, D, 5], pae: [1, 0, D, 6], mce: [1, 0, D, 7], cx8: [1, 0, D, 8],
  apic: [1, 0, D, 9], sep: [1, 0, D, 11], mtrr: [1, 0, D, 12], pge: [1, 0, D, 13], mca: [1, 0, D, 14], cmov: [1, 0, D, 15], pat: [1, 0, D, 16], pse36: [1, 0, D, 17],
  clflush: [1, 0, D, 19], mmx: [1, 0, D, 23], fxsr: [1, 0, D, 24], sse: [1, 0, D, 25], sse2: [1, 0, D, 26], htt: [1, 0, D, 28],
  arat: [6, 0, A, 2],
  fsgsbase: [7, 0, B, 0], tscAdjust: [7, 0, B, 1], bmi1: [7, 0, B, 3], avx2: [7, 0, B, 5], smep: [7, 0, B, 7], bmi2: [7, 0, B, 8], erms: [7, 0, B, 9], invpcid: [7, 0, B, 10],
  rdseed: [7, 0, B, 18], adx: [7, 0, B, 19], smap: [7, 0, B, 20], clflushopt: [7, 0, B, 23], clwb: [7, 0, B, 24], sha: [7, 0, B, 29],
  umip: [7, 0, C, 2], pku: [7, 0, C, 3], ospke: [7, 0, C, 4], cetSs: [7, 0, C, 7], vaes: [7, 0, C, 9], vpclmulqdq: [7, 0, C, 10], la57: [7, 0, C, 16], rdpid: [7, 0, C, 22], pks: [7, 0, C, 31],
  fsrm: [7, 0, D, 4], cetIbt: [7, 0, D, 20], specCtrl: [7, 0, D, 26], stibp: [7, 0, D, 27], archCapabilities: [7, 0, D, 29], ssbd: [7, 0, D, 31],
  xsaveopt: [0xd, 1, A, 0], xsavec: [0xd, 1, A, 1], xgetbv1: [0xd, 1, A, 2], xsaves: [0xd, 1, A, 3],
  lahfLm: [0x8000_0001, 0, C, 0], cmpLegacy: [0x8000_0001, 0, C, 1], svm: [0x8000_0001, 0, C, 2], cr8Legacy: [0x8000_0001, 0, C, 4], abm: [0x8000_0001, 0, C, 5],
  sse4a: [0x8000_0001, 0, C, 6], misalignSse: [0x8000_0001, 0, C, 7], prefetchw: [0x8000_0001, 0, C, 8], topologyExtensions: [0x8000_0001, 0, C, 22], dataBreakpointExtension: [0x8000_0001, 0, C, 26],
  syscall: [0x8000_0001, 0, D, 11], nx: [0x8000_0001, 0, D, 20], mmxExt: [0x8000_0001, 0, D, 22], ffxsr: [0x8000_0001, 0, D, 25], page1Gb: [0x8000_0001, 0, D, 26],
  rdtscp: [0x8000_0001, 0, D, 27], lm: [0x8000_0001, 0, D, 29],
  invariantTsc: [0x8000_0007, 0, D, 8],
  clzero: [0x8000_0008, 0, B, 0], rstrFpErrPtrs: [0x8000_0008, 0, B, 2], wbnoinvd: [0x8000_0008, 0, B, 9], ibpb: [0x8000_0008, 0, B, 12], ibrs: [0x8000_0008, 0, B, 14],
  amdStibp: [0x8000_0008, 0, B, 15], amdSsbd: [0x8000_0008, 0, B, 24], virtSsbd: [0x8000_0008, 0, B, 25],
  lfenceSerializing: [0x8000_0021, 0, A, 2], nullSelectorClearsBase: [0x8000_0021, 0, A, 6], automaticIbrs: [0x8000_0021, 0, A, 8],
} as const satisfies Readonly<Record<string, readonly [leaf: number, subleaf: number, register: number, bit: number]>>;

/** Name of a CPU feature. */
export type Feature = keyof typeof featureBits;

/** All feature names, in table order. */
export const featureNames = Object.keys(featureBits) as readonly Feature[];

/** What the checks of registers need to know of a CPU model; derived from its CPUID table, never stored. */
export interface CpuFeatures extends Readonly<Record<Feature, boolean>> {
  readonly vendor: string;
  /** CPUID.1:EAX. */
  readonly signature: number;
  /** MAXPHYADDR in bits. */
  readonly physicalBits: number;
  /** Bits that XCR0 may enable. */
  readonly xcr0: number;
  /** Bits that IA32_XSS may enable. */
  readonly xss: number;
  /** Bits of MXCSR that exist. */
  readonly mxcsrMask: number;
}

/**
 * Derives the features of a CPUID table.
 * @spec SDM 2A CPUID; a model without leaf 80000008H has 36 physical bits (SDM 3A §4.1.4)
 */
export function deriveFeatures(table: CpuidTable): CpuFeatures {
  const out = new Uint32Array(4);
  const at = (leaf: number, subleaf: number, register: number): number => {
    if (!table.find(leaf, subleaf, out)) return 0;
    return out[register]!;
  };
  const has = Object.fromEntries(featureNames.map((name) => {
    const [leaf, subleaf, register, bit] = featureBits[name];
    return [name, ((at(leaf, subleaf, register) >>> bit) & 1) === 1];
  })) as Record<Feature, boolean>;
  return {
    ...has,
    vendor: table.vendor,
    signature: at(1, 0, A),
    physicalBits: at(0x8000_0008, 0, A) & 0xff || 36,
    xcr0: has.xsave ? at(0xd, 0, A) & userXfeatures : 0,
    xss: has.xsaves ? at(0xd, 1, C) & supervisorXfeatures : 0,
    mxcsrMask: has.misalignSse ? 0x2_ffff : 0xffff,
  };
}
