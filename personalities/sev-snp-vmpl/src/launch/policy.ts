import { FirmwareStatus, GuestPolicy } from '@vmplanes/abi-sev-snp';
import { FIRMWARE } from '../psp/platform.ts';

/** Whether a guest of this policy may be started here. Bits 20 to 25 are accepted and recorded. @spec SNP ABI, guest policy */
export function checkPolicy(policy: bigint): FirmwareStatus {
  const { mustBeOne, abiMajor, abiMinor } = GuestPolicy.unpack(policy);
  const isNewer = abiMajor > FIRMWARE.major || (abiMajor === FIRMWARE.major && abiMinor > FIRMWARE.minor);
  return !mustBeOne || (policy & GuestPolicy.reservedMask) !== 0n || isNewer ? FirmwareStatus.PolicyFailure : FirmwareStatus.Success;
}
