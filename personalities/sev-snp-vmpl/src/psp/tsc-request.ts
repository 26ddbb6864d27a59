import { FirmwareStatus, TscInfoResponse } from '@vmplanes/abi-sev-snp';
import type { FirmwareView } from './ports.ts';

/** Answers MSG_TSC_INFO_REQ. @spec SNP ABI, MSG_TSC_INFO_REQ */
export function tscInfo({ guest }: FirmwareView, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(TscInfoResponse.size);
  const isValid = payload.every((b) => b === 0);
  TscInfoResponse.write(new DataView(out.buffer), 0, {
    status: isValid ? FirmwareStatus.Success : FirmwareStatus.InvalidParam,
    scale: isValid ? guest.tscScale : 0n,
    offset: isValid ? guest.tscOffset : 0n,
    factor: isValid ? guest.tscFactor : 0,
  });
  return out;
}
