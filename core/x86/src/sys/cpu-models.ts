import { HostError } from '@vmplanes/engine';
import { standardSize, userXfeatures, Xfeature, xsaveComponents } from '../fpu/components.ts';
import { type CpuidEntry, CpuidTable } from './cpuid.ts';
import { type Feature, featureBits } from './features.ts';

/** A CPU model as a list of differences from another one. */
export interface CpuModel {
  readonly name: string;
  /** Name of the model that this one changes. */
  readonly base?: string;
  /** One sentence for listings. */
  readonly about: string;
  readonly vendor?: 'AuthenticAMD' | 'GenuineIntel';
  /** Up to 48 characters. */
  readonly brand?: string;
  readonly family?: number;
  readonly model?: number;
  readonly stepping?: number;
  /** MAXPHYADDR in bits, 32..52. */
  readonly physicalBits?: number;
  readonly add?: readonly Feature[];
  readonly remove?: readonly Feature[];
}

/** Models that come with the program. */
export const cpuModels: readonly CpuModel[] = [
  {
    name: 'base',
    about: 'x86-64 with what current Linux kernels and guest firmware expect, without AVX',
    vendor: 'AuthenticAMD',
    brand: 'vmplanes virtual processor',
    family: 0xf,
    model: 0x6b,
    stepping: 1,
    physicalBits: 46,
    add: [
      'fpu', 'vme', 'de', 'pse', 'tsc', 'msr', 'pae', 'mce', 'cx8', 'apic', 'sep', 'mtrr', 'pge', 'mca', 'cmov', 'pat', 'pse36', 'clflush', 'mmx', 'fxsr', 'sse', 'sse2',
      'sse3', 'ssse3', 'sse41', 'sse42', 'cx16', 'x2apic', 'popcnt', 'tscDeadline', 'xsave', 'rdrand', 'hypervisor', 'pcid', 'arat',
      'fsgsbase', 'tscAdjust', 'smep', 'smap', 'umip', 'erms', 'invpcid', 'rdseed', 'xsaveopt', 'xsavec', 'xgetbv1',
      'lahfLm', 'cr8Legacy', 'syscall', 'nx', 'page1Gb', 'rdtscp', 'lm', 'invariantTsc', 'lfenceSerializing', 'nullSelectorClearsBase',
    ],
  },
  {
    name: 'qemu64-like',
    base: 'base',
    about: 'the small feature set of a generic emulated processor',
    brand: 'Generic 64-bit virtual processor',
    physicalBits: 40,
    remove: [
      'ssse3', 'sse41', 'sse42', 'popcnt', 'tscDeadline', 'xsave', 'rdrand', 'pcid', 'arat', 'fsgsbase', 'tscAdjust', 'smep', 'smap', 'umip', 'erms', 'invpcid', 'rdseed',
      'xsaveopt', 'xsavec', 'xgetbv1', 'page1Gb', 'rdtscp', 'invariantTsc', 'lfenceSerializing', 'nullSelectorClearsBase',
    ],
  },
  {
    name: 'epyc-like',
    base: 'base',
    about: 'a server processor of AMD family 19h, with AVX2, protection keys and supervisor state components',
    brand: 'EPYC-class virtual processor',
    family: 0x19,
    model: 0x01,
    stepping: 1,
    physicalBits: 48,
    add: [
      'pclmulqdq', 'fma', 'movbe', 'aes', 'avx', 'f16c', 'bmi1', 'avx2', 'bmi2', 'adx', 'clflushopt', 'clwb', 'sha', 'pku', 'cetSs', 'vaes', 'vpclmulqdq', 'rdpid', 'fsrm',
      'xsaves', 'abm', 'sse4a', 'misalignSse', 'prefetchw', 'topologyExtensions', 'dataBreakpointExtension', 'mmxExt', 'ffxsr', 'clzero', 'rstrFpErrPtrs', 'wbnoinvd', 'ibpb', 'ibrs', 'amdStibp',
      'amdSsbd', 'virtSsbd', 'specCtrl', 'automaticIbrs',
    ],
  },
];

/** A feature and what it cannot be without. */
const needs: readonly (readonly [Feature, readonly Feature[]])[] = [
  ['sse', ['fxsr']], ['sse2', ['sse']], ['sse3', ['sse2']], ['ssse3', ['sse3']], ['sse41', ['ssse3']], ['sse42', ['sse41']], ['avx', ['xsave', 'sse42']], ['avx2', ['avx']], ['fma', ['avx']], ['f16c', ['avx']],
  ['xsaveopt', ['xsave']], ['xsavec', ['xsave']], ['xgetbv1', ['xsave']], ['xsaves', ['xsavec']], ['pku', ['xsave', 'pae']], ['cetSs', ['xsaves']], ['cetIbt', ['xsaves']],
  ['lm', ['pae', 'msr', 'cx8', 'cmov', 'sse2']], ['nx', ['pae']], ['la57', ['lm']], ['pcid', ['lm']], ['invpcid', ['pcid']], ['x2apic', ['apic']], ['tscDeadline', ['apic', 'tsc']], ['vaes', ['aes', 'avx']],
  ['ssbd', ['specCtrl']], ['stibp', ['specCtrl']],
];

/** A model with all its differences applied. */
export interface ResolvedCpuModel extends Required<Omit<CpuModel, 'base' | 'add' | 'remove'>> {
  readonly features: ReadonlySet<Feature>;
}

/**
 * Applies the differences of a model.
 *
 * @param models - where `base` names are looked up
 * @throws {HostError} BadConfig on an unknown or circular base, a missing property, or a feature without the one it needs
 */
export function resolveCpuModel(model: CpuModel, models: readonly CpuModel[] = cpuModels): ResolvedCpuModel {
  const chain: CpuModel[] = [];
  for (let at: CpuModel | undefined = model; at; ) {
    if (chain.includes(at)) throw new HostError('BadConfig', `CPU model '${at.name}' is its own base`);
    chain.unshift(at);
    const base: string | undefined = at.base;
    at = base === undefined ? undefined : models.find((m) => m.name === base);
    if (base !== undefined && !at) throw new HostError('BadConfig', `CPU model '${chain[0]!.name}': no model '${base}'`);
  }
  const features = new Set<Feature>();
  for (const step of chain) {
    for (const f of step.add ?? []) features.add(f);
    for (const f of step.remove ?? []) features.delete(f);
  }
  for (const [feature, required] of needs) {
    const missing = features.has(feature) ? required.find((r) => !features.has(r)) : undefined;
    if (missing) throw new HostError('BadConfig', `CPU model '${model.name}': ${feature} needs ${missing}`);
  }
  const merged: CpuModel = Object.assign({}, ...chain);
  const { vendor, brand, family, model: modelNumber, stepping, physicalBits } = merged;
  if (vendor === undefined || brand === undefined || family === undefined || modelNumber === undefined || stepping === undefined || physicalBits === undefined)
    throw new HostError('BadConfig', `CPU model '${model.name}': vendor, brand, family, model, stepping and physicalBits must be known`);
  if (physicalBits < 32 || physicalBits > 52) throw new HostError('BadConfig', `CPU model '${model.name}': physicalBits ${physicalBits} is not in 32..52`);
  return { name: model.name, about: model.about, vendor, brand, family, model: modelNumber, stepping, physicalBits, features };
}

/** Place of a processor in the machine. */
export interface CpuPlace {
  readonly apicId: number;
  /** Processors in the machine, all in one package, one thread per core. */
  readonly vpCount: number;
}

/** CPUID.1:EAX of a family, model and stepping. @spec SDM 2A CPUID Figure 3-6; APM3 §E.3.2 */
export function cpuSignature(family: number, model: number, stepping: number): number {
  const extended = family > 0xf ? family - 0xf : 0;
  return ((extended << 20) | ((model >>> 4) << 16) | (Math.min(family, 0xf) << 8) | ((model & 0xf) << 4) | stepping) >>> 0;
}

const word = (s: string, at: number): number => [0, 1, 2, 3].reduce((w, i) => w | ((s.charCodeAt(at + i) || 0) << (8 * i)), 0) >>> 0;

/** Leaf 1 EDX bits that AMD processors repeat in leaf 80000001H EDX. @spec APM3 §E.4.2 */
const AMD_REPEATED = 0x0183_f3ff;

/**
 * Builds the CPUID table of one processor. Bits that depend on registers have their value at reset with the feature enabled;
 * {@link executeCpuid} computes them.
 *
 * @spec SDM 2A CPUID; APM3 Appendix E
 */
export function buildCpuid(model: ResolvedCpuModel, place: CpuPlace): CpuidTable {
  const { features, vendor } = model;
  const amd = vendor === 'AuthenticAMD';
  const idBits = Math.ceil(Math.log2(place.vpCount));
  const rows = new Map<string, CpuidEntry>();
  const put = (leaf: number, subleaf: number, indexed: boolean, eax: number, ebx: number, ecx: number, edx: number): void => {
    const registers = [eax, ebx, ecx, edx];
    for (const f of features) {
      const [l, s, register, bit] = featureBits[f];
      if (l === leaf && s === subleaf) registers[register]! |= 1 << bit;
    }
    const [a, b, c, d] = registers as [number, number, number, number];
    rows.set(`${leaf}.${subleaf}`, { leaf, subleaf, indexed, eax: a >>> 0, ebx: b >>> 0, ecx: c >>> 0, edx: d >>> 0 });
  };
  put(0, 0, false, 0xd, word(vendor, 0), word(vendor, 8), word(vendor, 4));
  const signature = cpuSignature(model.family, model.model, model.stepping);
  const smp = place.vpCount > 1 ? 1 << 28 : 0;
  put(1, 0, false, signature, ((place.apicId & 0xff) << 24) | (Math.min(place.vpCount, 255) << 16) | (8 << 8), 0, smp);
  put(6, 0, false, 0, 0, 0, 0);
  put(7, 0, true, 0, 0, 0, 0);
  put(0xb, 0, true, 0, 1, 1 << 8, place.apicId);
  put(0xb, 1, true, idBits, place.vpCount, (2 << 8) | 1, place.apicId);
  put(0xb, 2, true, 0, 0, 2, place.apicId);
  if (features.has('xsave')) xsaveLeaves(features, put);
  put(0x8000_0000, 0, false, 0x8000_0021, word(vendor, 0), word(vendor, 8), word(vendor, 4));
  const repeated = amd ? rows.get('1.0')!.edx & AMD_REPEATED : 0;
  put(0x8000_0001, 0, false, amd ? signature : 0, 0, amd && place.vpCount > 1 ? 2 : 0, repeated);
  for (let i = 0; i < 3; i++) put(0x8000_0002 + i, 0, false, word(model.brand, 16 * i), word(model.brand, 16 * i + 4), word(model.brand, 16 * i + 8), word(model.brand, 16 * i + 12));
  put(0x8000_0007, 0, false, 0, 0, 0, 0);
  put(0x8000_0008, 0, false, model.physicalBits | ((features.has('la57') ? 57 : 48) << 8), 0, amd ? (idBits << 12) | Math.min(place.vpCount - 1, 255) : 0, 0);
  if (features.has('topologyExtensions')) put(0x8000_001e, 0, false, place.apicId, place.apicId & 0xff, 0, 0);
  put(0x8000_0021, 0, false, 0, 0, 0, 0);
  return new CpuidTable([...rows.values()]);
}

/** Leaf 0DH, from the components that the features bring. @spec SDM 1 §13.2 */
function xsaveLeaves(features: ReadonlySet<Feature>, put: (leaf: number, subleaf: number, indexed: boolean, eax: number, ebx: number, ecx: number, edx: number) => void): void {
  let mask = Xfeature.x87 | Xfeature.sse;
  if (features.has('avx')) mask |= Xfeature.avx;
  if (features.has('pku')) mask |= Xfeature.pkru;
  if (features.has('xsaves') && (features.has('cetSs') || features.has('cetIbt'))) mask |= Xfeature.cetUser | Xfeature.cetSupervisor;
  const user = mask & userXfeatures;
  put(0xd, 0, true, user, 576, standardSize(user), 0);
  put(0xd, 1, true, 0, 0, mask & ~user, 0);
  for (const c of xsaveComponents) if (mask & (1 << c.id)) put(0xd, c.id, true, c.size, c.offset, (c.supervisor ? 1 : 0) | (c.aligned ? 2 : 0), 0);
}
