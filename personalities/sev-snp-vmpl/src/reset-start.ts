import { BSP_EIP, buildVmsa, kvmVmsa, SevFeature, SnpLevel } from '@vmplanes/abi-sev-snp';
import type { PlaneContext } from '@vmplanes/engine';
import type { SnpContext } from './ports.ts';
import { SecurityProcessor } from './psp/security-processor.ts';

/** TSC scale that changes nothing: 8.32 fixed point. @spec APM vol. 2, 15.36.18 */
const TSC_SCALE_ONE = 1n << 32n;

/**
 * Without an image that brings VMSAs the host launches one per processor, as after a reset; application processors wait for their start signal as any do.
 * With an SVSM of the personality the guest gets its VMSA from that.
 */
export function startAsAfterReset(snp: SnpContext, context: PlaneContext): void {
  const { options, level, chapters, arch } = snp;
  if (options.start !== 'reset' || options.svsm === 'builtin' || level === SnpLevel.Sev || context.plane !== 0) return;
  const { machineLo, machineHi } = chapters.features;
  const sevFeatures = (BigInt(machineHi >>> 0) << 32n) | BigInt(machineLo >>> 0);
  const plane = chapters.switching.planeOf(context);
  const isSecureTsc = ((machineLo >>> SevFeature.SecureTsc) & 1) !== 0;
  const page = buildVmsa({
    ...kvmVmsa({ eip: BSP_EIP, vmpl: 0, sevFeatures }, arch.registers.features.signature),
    virtualTom: BigInt(options.virtualTom),
    ...(isSecureTsc ? { guestTscScale: TSC_SCALE_ONE } : {}),
  });
  chapters.vmsas.launch(plane, page);
  if (chapters.requests instanceof SecurityProcessor) chapters.requests.startsFrom(context.vp.index, page);
}
