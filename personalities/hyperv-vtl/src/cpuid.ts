import { CPUID_LEAVES, CpuidSignature, HvCpuid, HvFeaturesEdx, HvHardwareFeaturesEax, HvRecommendationsEax, HvVersionEbx, privilegeRegisters } from '@vmplanes/abi-hyperv';
import type { Answer, PlainState, PlaneContext } from '@vmplanes/engine';
import { type CpuidExit, X86 } from '@vmplanes/x86';
import { CpuidResults } from './cpuid-results.ts';
import type { Cpuid, HvContext } from './ports.ts';
import { grantedPrivileges, holds } from './privileges.ts';

const FIRST = HvCpuid.VendorAndMaxFunction;
/** Highest leaf that is served. The leaves behind it describe nested guests and isolation, which there are not. */
const LAST = HvCpuid.HardwareFeatures;
const VERSION = { major: 10, minor: 0, build: 20_348 } as const;
/** Tries before a long spin wait is worth a call: VPs share the host's processors. */
const SPINS = 0xfff;
/** Where the processor says that its counter is invariant. @spec SDM 2A CPUID */
const POWER = 0x8000_0007;
const INVARIANT_TSC = 1 << 8;
const outputs = [X86.rax, X86.rbx, X86.rcx, X86.rdx].map((offset) => offset >>> 2);

type Registers = readonly [eax: number, ebx: number, ecx: number, edx: number];

/** The leaves as far as options decide them; only what is served is announced. @spec TLFS Feature and Interface Discovery */
const leavesOf = ({ machine, arch, options }: HvContext): Readonly<Record<number, Registers>> => {
  const { vendorEbx, vendorEcx, vendorEdx, interfaceEax } = CpuidSignature;
  const { eax, ebx } = privilegeRegisters(grantedPrivileges(options));
  const can = (privilege: Parameters<typeof holds>[1]): boolean => holds(options, privilege);
  const features = HvFeaturesEdx.pack({
    xmmRegistersForFastHypercallAvailable: options.xmmHypercalls,
    guestIdleAvailable: can('accessGuestIdleReg'),
    frequencyRegsAvailable: can('accessFrequencyRegs'),
    guestCrashRegsAvailable: true,
    extendedGvaRangesForFlushVirtualAddressListAvailable: can('enableExtendedGvaRangesForFlushVirtualAddressList'),
    fastHypercallOutputAvailable: can('fastHypercallOutput'),
    sintPollingModeAvailable: can('accessSynicRegs'),
    hypercallMsrLockAvailable: true,
    directSyntheticTimers: can('accessSyntheticTimerRegs'),
    registerPatAvailable: can('accessVsm'),
    crossVtlFlushAvailable: can('accessVsm'),
    translateGvaFlagsAvailable: can('accessVpRegisters'),
  });
  const recommendations = HvRecommendationsEax.pack({ useHypercallForRemoteFlush: true, useRelaxedTiming: true, useSyntheticClusterIpi: true, useExProcessorMasks: true });
  const { maxVps } = machine.options;
  return {
    [HvCpuid.VendorAndMaxFunction]: [LAST, vendorEbx, vendorEcx, vendorEdx],
    [HvCpuid.Interface]: [interfaceEax, 0, 0, 0],
    [HvCpuid.Version]: [VERSION.build, HvVersionEbx.pack({ majorVersion: VERSION.major, minorVersion: VERSION.minor }), 0, 0],
    [HvCpuid.Features]: [eax, ebx, 0, features],
    [HvCpuid.EnlightenmentInformation]: [recommendations, SPINS, arch.registers.features.physicalBits, 0],
    [HvCpuid.ImplementationLimits]: [maxVps, maxVps, 0, 0],
    [HvCpuid.HardwareFeatures]: [HvHardwareFeaturesEax.pack({ secondLevelAddressTranslationInUse: true }), 0, 0, 0],
  };
};

/** Names of the leaves that are served, and why the others are not. */
export const leafSupport: readonly { readonly leaf: (typeof CPUID_LEAVES)[number]; readonly why: string | null }[] = CPUID_LEAVES.map((leaf) => ({
  leaf,
  why: leaf.leaf <= LAST ? null : leaf.leaf === HvCpuid.NestedFeatures || leaf.leaf === HvCpuid.NestedEnlightenments ? 'no nested virtualization' : leaf.leaf === HvCpuid.IsolationConfiguration ? 'no isolated partitions' : 'for other partitions than guests',
}));

/** CPUID: the leaves of the interface, and the results that higher VTLs have registered for any leaf. */
export class CpuidChapter implements Cpuid {
  readonly stateName = 'cpuid';
  readonly results = new CpuidResults();
  readonly #hv: HvContext;
  readonly #leaves: Readonly<Record<number, Registers>>;
  readonly #out = new Uint32Array(4);

  constructor(hv: HvContext) {
    this.#hv = hv;
    this.#leaves = leavesOf(hv);
  }

  leaf(leaf: number): Registers {
    return this.#leaves[leaf] ?? [0, 0, 0, 0];
  }

  answer(context: PlaneContext, exit: CpuidExit): Answer {
    const { machine, arch, chapters } = this.#hv;
    const { u32 } = machine.arena;
    const word = context.base >>> 2;
    const out = this.#out;
    const { key: leaf } = exit;
    const isOwn = leaf >= FIRST && leaf <= FIRST + 0xff;
    if (isOwn) out.set(this.leaf(leaf));
    else {
      arch.registers.cpuid(context, exit);
      const hidesInvariant = leaf === POWER && !chapters.msrs.isTscInvariantShown(context);
      if (this.results.isEmpty && !hidesInvariant) return context.vp.replies.resume();
      for (let i = 0; i < 4; i++) out[i] = u32[word + outputs[i]!]!;
      if (hidesInvariant) out[3]! &= ~INVARIANT_TSC;
    }
    if (leaf === HvCpuid.EnlightenmentInformation) out[0]! |= this.#byVtl(context);
    // A VTL sees what those above it registered; the highest has nobody above.
    this.results.apply(context, leaf, exit.subleaf, out);
    for (let i = 0; i < 4; i++) {
      u32[word + outputs[i]!] = out[i]!;
      u32[word + outputs[i]! + 1] = 0;
    }
    return context.vp.replies.resume();
  }

  /** What {@link answer} would give, without giving it. @returns EAX, EBX, ECX, EDX: borrowed. */
  resultOf(context: PlaneContext, exit: CpuidExit): Uint32Array {
    const { u32 } = this.#hv.machine.arena;
    const word = context.base >>> 2;
    const before = outputs.flatMap((offset) => [u32[word + offset]!, u32[word + offset + 1]!]);
    this.answer(context, exit);
    outputs.forEach((offset, i) => {
      this.#out[i] = u32[word + offset]!;
      u32[word + offset] = before[2 * i]!;
      u32[word + offset + 1] = before[2 * i + 1]!;
    });
    return this.#out;
  }

  /** Recommendations that depend on the VTL: SYSCALL does not suit one whose execute rights are split. @spec TLFS Feature and Interface Discovery */
  #byVtl(context: PlaneContext): number {
    const { mbecVtls } = this.#hv.chapters.vsm;
    return ((mbecVtls >>> context.plane) & 1) !== 0 ? HvRecommendationsEax.mask.useIntForMbecSystemCalls : 0;
  }

  reset(): void {
    this.results.reset();
  }
  save(): PlainState {
    return this.results.save();
  }
  restore(state: PlainState): void {
    this.results.restore(state);
  }
}
