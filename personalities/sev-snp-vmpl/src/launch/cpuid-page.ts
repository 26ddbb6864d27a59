import { CPUID_FUNCTION_MAX, CpuidFunction, CpuidPage, FirmwareStatus } from '@vmplanes/abi-sev-snp';
import { correctFunction } from '../psp/cpuid-check.ts';
import type { CpuidModel } from '../psp/ports.ts';

/**
 * Checks a CPUID page before it is placed. A value that promises too much is lowered in `page`, so that the host may hand the page in again.
 * @param page - 4096 bytes; changed only where the status says InvalidParam.
 * @spec SNP ABI, SNP_LAUNCH_UPDATE, CPUID page
 */
export function checkCpuidPage(page: Uint8Array, cpuid: CpuidModel): FirmwareStatus {
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  const count = view.getUint32(CpuidPage.at.count, true);
  if (count > CPUID_FUNCTION_MAX) return FirmwareStatus.InvalidParam;
  const model = new Uint32Array(4);
  let status: FirmwareStatus = FirmwareStatus.Success;
  for (let i = 0; i < count; i++) {
    const at = CpuidPage.at.functions + i * CpuidFunction.size;
    const given = CpuidFunction.read(view, at);
    const corrected = correctFunction(given, cpuid, model);
    if (Object.keys(corrected).length === 0) continue;
    CpuidFunction.write(view, at, { ...given, ...corrected });
    status = FirmwareStatus.InvalidParam;
  }
  return status;
}
