import { CpuidRequest, cpuidMessageSize, CPUID_FUNCTION_MAX, FirmwareStatus, KeyRequest, KeyRequestV2, MessageType, ReportRequest, TscInfoRequest } from '@vmplanes/abi-sev-snp';
import { checkCpuid } from './cpuid-request.ts';
import { deriveKey } from './key-request.ts';
import type { FirmwareView } from './ports.ts';
import { report } from './report-request.ts';
import { tscInfo } from './tsc-request.ts';

/** One message that a guest may send. */
export interface RequestRow {
  /** Bytes of the payload by message version; a function where the payload itself says it. */
  readonly sizes: Readonly<Record<number, number | ((payload: Uint8Array) => number)>>;
  /** Makes the payload of the response. `vmpck` is the key the request came under. */
  answer(firmware: FirmwareView, payload: Uint8Array, vmpck: number): Uint8Array;
}

/** The size that the head of a CPUID request announces; -1 for none. */
function cpuidSize(payload: Uint8Array): number {
  if (payload.length < CpuidRequest.size) return -1;
  const { count } = CpuidRequest.read(new DataView(payload.buffer, payload.byteOffset), 0);
  return count <= CPUID_FUNCTION_MAX ? cpuidMessageSize(count) : -1;
}

/** Requests that are answered. @spec SNP ABI, guest messages */
export const requestRows: ReadonlyMap<number, RequestRow> = new Map<number, RequestRow>([
  [MessageType.CpuidRequest, { sizes: { 1: cpuidSize }, answer: checkCpuid }],
  [MessageType.KeyRequest, { sizes: { 1: KeyRequest.size, 2: KeyRequestV2.size }, answer: deriveKey }],
  [MessageType.ReportRequest, { sizes: { 1: ReportRequest.size }, answer: report }],
  [MessageType.TscInfoRequest, { sizes: { 1: TscInfoRequest.size }, answer: tscInfo }],
]);

/** Requests that need a migration agent or a root key of the VM, which no guest here has: refused by name. */
export const unsupportedRequests: readonly MessageType[] = [MessageType.ExportRequest, MessageType.ImportRequest, MessageType.AbsorbRequest, MessageType.VmrkRequest, MessageType.AbsorbNomaRequest];

/**
 * Answers an authenticated request.
 * @returns the payload of the response, or the status of the command: the type is refused by name, or type, version and size do not go together.
 */
export function answerRequest(firmware: FirmwareView, type: number, version: number, payload: Uint8Array, vmpck: number): Uint8Array | FirmwareStatus {
  const row = requestRows.get(type);
  if (!row) return (unsupportedRequests as readonly number[]).includes(type) ? FirmwareStatus.Unsupported : FirmwareStatus.InvalidParam;
  const size = Object.hasOwn(row.sizes, version) ? row.sizes[version]! : -1;
  if (payload.length !== (typeof size === 'number' ? size : size(payload))) return FirmwareStatus.InvalidParam;
  return row.answer(firmware, payload, vmpck);
}
