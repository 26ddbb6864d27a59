import { EFER_SVME, type VmsaValues } from './vmsa.ts';

// Save areas as those who create them fill them. A launch measures every bit of the first one.

const segment = (selector: number, attributes: number, limit: number, base: number | bigint) => ({ selector, attributes, limit, base: BigInt(base) });

/** What every creator sets alike. */
const common = {
  gdtr: segment(0, 0, 0xffff, 0),
  idtr: segment(0, 0, 0xffff, 0),
  dr6: 0xffff_0ff0n,
  dr7: 0x400n,
  rflags: 2n,
  pat: 0x0007_0406_0007_0406n,
  xcr0: 1n,
} as const satisfies VmsaValues;

const data = (of: ReturnType<typeof segment>): VmsaValues => ({ es: of, ss: of, ds: of, fs: of, gs: of });

const high = (address: number): number => (address & 0xffff_0000) >>> 0;

/** Where and as what a save area starts. */
export interface VmsaStart {
  /** First instruction: bits 31:16 give the CS base, bits 15:0 the RIP. */
  readonly eip: number;
  readonly vmpl: number;
  readonly sevFeatures: bigint;
}

/** First instruction of a boot processor. */
export const BSP_EIP = 0xffff_fff0;

/**
 * The save area that KVM measures for a boot or application processor under QEMU.
 * @param signature - CPUID(1).EAX of the processor model.
 * @spec Linux 6.12 arch/x86/kvm/svm/sev.c; sev-snp-measure, vmsa.py
 */
export const kvmVmsa = ({ eip, vmpl, sevFeatures }: VmsaStart, signature: number): VmsaValues => ({
  ...common,
  ...data(segment(0, 0x93, 0xffff, 0)),
  cs: segment(0xf000, 0x9b, 0xffff, high(eip)),
  ldtr: segment(0, 0x82, 0xffff, 0),
  tr: segment(0, 0x8b, 0xffff, 0),
  vmpl,
  efer: BigInt(EFER_SVME),
  cr0: 0x10n,
  cr4: 0x40n,
  rip: BigInt(eip & 0xffff),
  rdx: BigInt(signature),
  mxcsr: 0x1f80,
  x87Fcw: 0x37f,
  sevFeatures,
});

/** The boot processor of an SVSM image, measured in flat 32-bit mode. @spec sev-snp-measure, vmsa.py */
export const svsmVmsa = ({ eip, vmpl, sevFeatures }: VmsaStart, signature: number): VmsaValues => ({
  ...kvmVmsa({ eip, vmpl, sevFeatures }, signature),
  ...data(segment(0x10, 0xc93, 0xffff_ffff, 0)),
  gs: segment(0, 0x93, 0xffff, 0),
  cs: segment(8, 0xc9b, 0xffff_ffff, 0),
  cr0: 0x11n,
  rip: BigInt(eip),
});

/** The floating-point part of a processor after INIT, by creators that do not take FNINIT's. */
const initFpu = { mxcsr: 0x1f80, x87Fcw: 0x40, x87Ftw: 0x5555 } as const satisfies VmsaValues;

/** A start-up vector as creators in the guest use it: CS = vector << 8, RIP the rest of the address. */
export interface ApStart {
  readonly vmpl: number;
  readonly sevFeatures: bigint;
  /** First instruction below 1 MiB. */
  readonly start: number;
  /** CR4.MCE of the processor that creates it. */
  readonly mce: boolean;
}

const apVmsa = ({ vmpl, sevFeatures, start, mce }: ApStart): VmsaValues => ({
  ...common,
  ...initFpu,
  ...data(segment(0, 0x92, 0xffff, 0)),
  cs: segment((start >>> 12) << 8, 0x9a, 0xffff, (start >>> 12) << 12),
  ldtr: segment(0, 0x82, 0xffff, 0),
  tr: segment(0, 0x83, 0xffff, 0),
  vmpl,
  efer: BigInt(EFER_SVME),
  cr0: 0x6000_0010n,
  cr4: mce ? 0x40n : 0n,
  rip: BigInt(start & 0xfff),
  sevFeatures,
});

/** The save area that Linux makes for another processor. @spec Linux 6.12 arch/x86/coco/sev/core.c */
export const linuxApVmsa = (start: ApStart): VmsaValues => apVmsa(start);

/**
 * The save area that EDK2 makes for another processor: TR has no attributes and LDTR the type of a TSS, which an entry must bear.
 * @param cacheBits - CR0.NW and CR0.CD of the processor that creates it, in place.
 * @spec edk2 UefiCpuPkg/Library/MpInitLib/X64/AmdSev.c
 */
export const edk2ApVmsa = (start: ApStart, cacheBits = 0): VmsaValues => ({
  ...apVmsa(start),
  ldtr: segment(0, 0x83, 0xffff, 0),
  tr: segment(0, 0, 0xffff, 0),
  cr0: BigInt((cacheBits & 0x6000_0000) | 0x10),
});

/** The save area that COCONUT-SVSM makes for its guest; SVME is set in a step of its own. @spec coconut-svsm, kernel/src/cpu/vmsa.rs */
export const coconutGuestVmsa = ({ eip, vmpl, sevFeatures }: VmsaStart): VmsaValues => ({
  ...common,
  ...initFpu,
  ...data(segment(0, 0x93, 0xffff, 0)),
  cs: segment(0xf000, 0x9b, 0xffff, high(eip)),
  ldtr: segment(0, 0x82, 0xffff, 0),
  tr: segment(0, 0x8b, 0xffff, 0),
  vmpl,
  cr0: 0x6000_0010n,
  rip: BigInt(eip & 0xffff),
  sevFeatures,
});

/** A boot processor at EC2, which measures another state. @spec sev-snp-measure, vmsa.py */
export const ec2Vmsa = (start: VmsaStart): VmsaValues => ({
  ...kvmVmsa(start, 0x600),
  cs: segment(0xf000, start.eip === BSP_EIP ? 0x9a : 0x9b, 0xffff, high(start.eip)),
  ss: segment(0, 0x92, 0xffff, 0),
  tr: segment(0, 0x83, 0xffff, 0),
  mxcsr: 0,
  x87Fcw: 0,
});

/** A boot processor at GCE, which measures another state. @spec sev-snp-measure, vmsa.py */
export const gceVmsa = (start: VmsaStart): VmsaValues => ({ ...kvmVmsa(start, 0x600), pat: 0x0007_0106n, mxcsr: 0, x87Fcw: 0 });
