import { AEAD_AES_256_GCM, MESSAGE_AAD, MESSAGE_HEADER_VERSION, MESSAGE_TAG_BYTES, MessageHeader, MessageType, ReportRequest, ReportResponse } from '@vmplanes/abi-sev-snp';
import { SvsmResult } from '@vmplanes/abi-svsm';
import { PAGE_SIZE } from '@vmplanes/engine';
import { createCipheriv, createDecipheriv } from 'node:crypto';
import type { GuestRequests } from '../ports.ts';

/** Number of the message key of VMPL0. */
const VMPCK = 0;
const MESSAGE_VERSION = 1;
const { InvalidFormat, InvalidRequest } = SvsmResult;

/** State of the provider's talk with the security processor. Plain data. */
export interface PspState {
  /** Number of the next request: odd. */
  sequence: bigint;
  /** An error ended the talk: the number was used and must not be used again. */
  isCleared: boolean;
}

const iv = (sequence: bigint): Uint8Array => {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(0, sequence, true);
  return bytes;
};

/**
 * Asks the security processor for a report with the key of VMPL0.
 * @param state - changed: numbers advance whatever becomes of the answer.
 * @returns the report, or a result code. @spec SNP ABI, guest messages; coconut-svsm kernel/src/greq
 */
export function requestReport(requests: GuestRequests, state: PspState, reportData: Uint8Array): Uint8Array | number {
  const key = requests.keys[VMPCK]!;
  if (state.isCleared) return InvalidRequest;
  const request = new Uint8Array(PAGE_SIZE);
  const view = new DataView(request.buffer);
  const payload = new Uint8Array(ReportRequest.size);
  ReportRequest.write(new DataView(payload.buffer), 0, { reportData, vmpl: 0, flags: 0 });
  const fields = { algo: AEAD_AES_256_GCM, headerVersion: MESSAGE_HEADER_VERSION, headerSize: MessageHeader.size, version: MESSAGE_VERSION, vmpck: VMPCK } as const;
  const head = { ...fields, sequence: state.sequence, type: MessageType.ReportRequest, size: payload.length };
  MessageHeader.write(view, 0, { ...head, authTag: new Uint8Array(32) });
  const seal = createCipheriv('aes-256-gcm', key, iv(state.sequence)).setAAD(request.subarray(MESSAGE_AAD.start, MESSAGE_AAD.end));
  request.set(seal.update(payload), MessageHeader.size);
  seal.final();
  request.set(seal.getAuthTag(), 0);

  const response = new Uint8Array(PAGE_SIZE);
  const status = requests.message(request, response);
  const expected = state.sequence + 1n;
  state.sequence += 2n;
  // A number that may have been used must never be used again with other contents.
  const clear = (result: number): number => {
    state.isCleared = true;
    return result;
  };
  if (status !== 0) return clear(InvalidRequest);
  const answer = MessageHeader.read(new DataView(response.buffer), 0);
  const isAnswer = Object.entries(fields).every(([name, value]) => answer[name as keyof typeof fields] === value) && answer.sequence === expected && answer.type === MessageType.ReportResponse;
  if (!isAnswer || answer.size < ReportResponse.at.report || answer.size > PAGE_SIZE - MessageHeader.size) return InvalidFormat;
  const open = createDecipheriv('aes-256-gcm', key, iv(expected)).setAAD(response.subarray(MESSAGE_AAD.start, MESSAGE_AAD.end)).setAuthTag(answer.authTag.subarray(0, MESSAGE_TAG_BYTES));
  const plain = new Uint8Array(open.update(response.subarray(MessageHeader.size, MessageHeader.size + answer.size)));
  try {
    open.final();
  } catch {
    return clear(InvalidRequest);
  }
  const inner = new DataView(plain.buffer, plain.byteOffset, plain.length);
  const size = inner.getUint32(ReportResponse.at.size, true);
  if (inner.getUint32(ReportResponse.at.status, true) !== 0 || ReportResponse.at.report + size > plain.length) return InvalidRequest;
  return plain.slice(ReportResponse.at.report, ReportResponse.at.report + size);
}
