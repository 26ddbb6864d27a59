import { CpuidFunction, CpuidRequest, cpuidMessageSize, CpuidResponse, FirmwareStatus } from '@vmplanes/abi-sev-snp';
import { correctFunction } from './cpuid-check.ts';
import type { FirmwareView } from './ports.ts';

/** Answers MSG_CPUID_REQ: the table as given, or corrected with a status that says so. @spec SNP ABI, MSG_CPUID_REQ */
export function checkCpuid({ cpuid }: FirmwareView, payload: Uint8Array): Uint8Array {
  const view = new DataView(payload.buffer, payload.byteOffset);
  const { count, reserved04 } = CpuidRequest.read(view, 0);
  const out = new Uint8Array(cpuidMessageSize(count));
  const outView = new DataView(out.buffer);
  const model = new Uint32Array(4);
  let isAccepted = reserved04.every((b) => b === 0);
  for (let i = 0; i < count; i++) {
    const at = CpuidRequest.size + i * CpuidFunction.size;
    const given = CpuidFunction.read(view, at);
    const corrected = correctFunction(given, cpuid, model);
    if (Object.keys(corrected).length > 0) isAccepted = false;
    CpuidFunction.write(outView, at, { ...given, ...corrected });
  }
  CpuidResponse.write(outView, 0, { status: isAccepted ? FirmwareStatus.Success : FirmwareStatus.InvalidParam, count });
  return out;
}
