import {
  ENCRYPTED_MEMORY_LEAF,
  EncryptedMemoryEax,
  EncryptedMemoryEbx,
  SEV_FEATURES,
  SEV_FEATURES_DEFINED,
  SEV_STATUS_SHIFT,
  SevFeature,
  type SevFeatureName,
  SevMsr,
  SevStatus,
  SnpLevel,
  VMPL_COUNT,
} from '@vmplanes/abi-sev-snp';
import { type Answer, HostError, type PlainState } from '@vmplanes/engine';
import type { MsrExit } from '@vmplanes/x86';
import type { Features, SnpContext, SnpPlane } from './ports.ts';

const GENERAL_PROTECTION = 13;
const TICKS_PER_MHZ = 1_000_000;

const maskOf = (names: readonly SevFeatureName[]): number => names.reduce((mask, name) => mask | (1 << SevFeature[name]), 0);
/** Features that mean something at the level SEV-ES; those of SNP are not compared there. */
const UNDER_ES = SEV_FEATURES.reduce((mask, { bit, worksUnderEs }) => (worksUnderEs ? mask | (1 << bit) : mask), 0);

/** SEV_FEATURES and what follows from them: entry rules, SEV_STATUS, MSRs, CPUID. @spec APM vol. 2, 15.34.10, 15.36.20 */
export class FeaturesChapter implements Features {
  readonly stateName = 'features';
  readonly machineLo: number;
  readonly machineHi = 0;
  readonly leaf: Readonly<Record<'eax' | 'ebx' | 'ecx' | 'edx', number>>;
  readonly #snp: SnpContext;
  readonly #allowed: number;

  constructor(snp: SnpContext) {
    this.#snp = snp;
    const { options, level } = snp;
    this.#allowed = maskOf(options.allowed) | (1 << SevFeature.SnpActive);
    this.machineLo = maskOf(options.features) | (level === SnpLevel.SevSnp ? 1 << SevFeature.SnpActive : 0);
    this.leaf = leafOf(snp, this.#allowed);
    snp.arch.registers.overlays.claim({
      owner: 'sev-snp-vmpl',
      first: ENCRYPTED_MEMORY_LEAF,
      last: ENCRYPTED_MEMORY_LEAF,
      apply: (_leaf, _subleaf, out) => void out.set([this.leaf.eax, this.leaf.ebx, this.leaf.ecx, this.leaf.edx]),
    });
    // C-bit or address say which side of memory an access means; under SNP only that side is there which owns the page.
    snp.arch.setSides({ bit: options.cBit, areOpen: level !== SnpLevel.SevSnp, isPrivate: (context, gpa, marked) => this.#isPrivate(snp.chapters.switching.planeOf(context), gpa, marked) });
  }

  /** @spec APM vol. 2, 15.36.8 */
  #isPrivate(plane: SnpPlane, gpa: number, marked: boolean): boolean {
    return this.has(plane, SevFeature.VirtualTom) ? gpa < plane.virtualTom : marked;
  }

  has(plane: SnpPlane, bit: number): boolean {
    return this.#snp.level !== SnpLevel.Sev && ((plane.featuresLo >>> bit) & 1) !== 0;
  }

  refuses(lo: number, hi: number): string | null {
    if (hi !== 0 || (lo & ~SEV_FEATURES_DEFINED) !== 0) return 'SEV_FEATURES: reserved bits';
    const isSnp = this.#snp.level === SnpLevel.SevSnp;
    if (((lo >>> SevFeature.SnpActive) & 1) !== Number(isSnp)) return 'SEV_FEATURES: SNP active differs from the machine';
    const compared = isSnp ? lo : lo & UNDER_ES;
    if ((compared & ~this.#allowed) !== 0) return 'SEV_FEATURES: a feature that is not allowed';
    const both = (1 << SevFeature.RestrictedInjection) | (1 << SevFeature.AlternateInjection);
    return (lo & both) === both ? 'SEV_FEATURES: restricted and alternate injection' : null;
  }

  msr(plane: SnpPlane, exit: MsrExit): Answer | null {
    const { level, arch } = this.#snp;
    const { context } = plane;
    const { replies } = context.vp;
    switch (exit.key) {
      case SevMsr.Ghcb:
        if (level === SnpLevel.Sev) return replies.fault(GENERAL_PROTECTION, 0);
        if (!exit.write) return this.#read(plane, plane.ghcbMsrLo, plane.ghcbMsrHi);
        plane.ghcbMsrLo = exit.lo >>> 0;
        plane.ghcbMsrHi = exit.hi >>> 0;
        return replies.resume();
      case SevMsr.SevStatus:
        return exit.write ? replies.fault(GENERAL_PROTECTION, 0) : this.#read(plane, ...this.#status(plane));
      case SevMsr.VirtualTom:
        if (level !== SnpLevel.SevSnp) return null;
        return exit.write ? replies.fault(GENERAL_PROTECTION, 0) : this.#read(plane, plane.virtualTom >>> 0, Math.floor(plane.virtualTom / 2 ** 32));
      case SevMsr.IdleWakeupIcr:
        if (level !== SnpLevel.SevSnp) return null;
        return exit.write ? replies.resume() : this.#read(plane, 0, 0);
      case SevMsr.GuestTscFreq:
        if (!this.has(plane, SevFeature.SecureTsc)) return null;
        return exit.write ? replies.fault(GENERAL_PROTECTION, 0) : this.#read(plane, Math.floor(this.#snp.machine.options.ticksPerSecond / TICKS_PER_MHZ) & 0x3_ffff, 0);
      case SevMsr.Tsc:
        if (!this.has(plane, SevFeature.SecureTsc)) return null;
        return exit.write ? replies.fault(GENERAL_PROTECTION, 0) : arch.registers.msr(context, exit);
      default:
        return null;
    }
  }

  #read(plane: SnpPlane, lo: number, hi: number): Answer {
    this.#snp.arch.registers.setEdxEax(plane.context, lo, hi);
    return plane.context.vp.replies.resume();
  }

  /** @spec APM vol. 2, 15.34.10 */
  #status(plane: SnpPlane): [lo: number, hi: number] {
    const { level } = this.#snp;
    if (level === SnpLevel.Sev) return [SevStatus.Sev, 0];
    const high = (plane.featuresHi << SEV_STATUS_SHIFT) | (plane.featuresLo >>> (32 - SEV_STATUS_SHIFT));
    return [((plane.featuresLo << SEV_STATUS_SHIFT) | SevStatus.Sev | SevStatus.SevEs) >>> 0, high >>> 0];
  }

  /** Nothing of it changes: features of a VMPL lie with its other state. */
  save(): PlainState {
    return { machineLo: this.machineLo };
  }
  restore(state: PlainState): void {
    if ((state as { readonly machineLo?: PlainState }).machineLo !== this.machineLo) throw new HostError('BadSnapshot', 'sev-snp-vmpl: the snapshot is of a machine with other SEV features');
  }
}

/** CPUID leaf 0x8000001F. @spec APM vol. 3, E.4.17 */
const leafOf = ({ level, options, machine }: SnpContext, allowed: number): FeaturesChapter['leaf'] => {
  const isEs = level !== SnpLevel.Sev;
  const isSnp = level === SnpLevel.SevSnp;
  const may = (bit: SevFeature): boolean => isEs && ((allowed >>> bit) & 1) !== 0;
  const eax = EncryptedMemoryEax.pack({
    sev: true,
    sevEs: isEs,
    sevSnp: isSnp,
    vmpl: isSnp,
    rmpquery: isSnp,
    vmplSss: isSnp && may(SevFeature.VmplSss),
    secureTsc: isSnp && may(SevFeature.SecureTsc),
    tscAuxVirtualization: isEs,
    hwEncryptionCoherency: true,
    restrictedInjection: isSnp && may(SevFeature.RestrictedInjection),
    alternateInjection: isSnp && may(SevFeature.AlternateInjection),
    debugSwap: may(SevFeature.DebugSwap),
    preventHostIbs: may(SevFeature.PreventHostIbs),
    virtualTomMsr: isSnp && may(SevFeature.VirtualTom),
    allowedSevFeatures: isEs,
  });
  const ebx = EncryptedMemoryEbx.pack({ cBitPosition: options.cBit, physicalReduction: options.physicalReduction, vmplCount: isSnp ? Math.min(VMPL_COUNT, machine.options.maxPlanes) : 0 });
  return { eax, ebx, ecx: 0, edx: 0 };
};
