import { BSP_EIP, buildVmsa, kvmVmsa, SevFeature, SnpLevel } from '@vmplanes/abi-sev-snp';
import type { PlaneContext } from '@vmplanes/engine';
import type { SnpContext } from './ports.ts';
import { SecurityProcessor } from './psp/security-processor.ts';

/** TSC scale that changes nothing: 8.32 fixed point. @spec APM vol. 2, 15.36.18 */
const TSC_SCALE_ONE = 1n << 32n;

/** The VMSA that a host makes for a processor that starts at an address. @spec Linux arch/x86/kvm/svm/sev.c, sev_es_sync_vmsa */
export function resetVmsa({ chapters, arch, options }: SnpContext, eip: number): Uint8Array {
  const { machineLo, machineHi } = chapters.features;
  const sevFeatures = (BigInt(machineHi >>> 0) << 32n) | BigInt(machineLo >>> 0);
  const isSecureTsc = ((machineLo >>> SevFeature.SecureTsc) & 1) !== 0;
  return buildVmsa({
    ...kvmVmsa({ eip, vmpl: 0, sevFeatures }, arch.registers.features.signature),
    virtualTom: BigInt(options.virtualTom),
    ...(isSecureTsc ? { guestTscScale: TSC_SCALE_ONE } : {}),
  });
}

/**
 * Without an image that brings VMSAs the host launches one per processor, as after a reset; application processors wait for their start signal as any do.
 * With an SVSM of the personality the guest gets its VMSA from that.
 */
export function startAsAfterReset(snp: SnpContext, context: PlaneContext): void {
  const { options, level, chapters } = snp;
  if (options.start !== 'reset' || options.svsm === 'builtin' || level === SnpLevel.Sev || context.plane !== 0) return;
  const page = resetVmsa(snp, BSP_EIP);
  chapters.vmsas.launch(chapters.switching.planeOf(context), page);
  if (chapters.requests instanceof SecurityProcessor) chapters.requests.startsFrom(context.vp.index, page);
}
