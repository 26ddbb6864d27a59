import { SVSM_VTPM_BUFFER, SVSM_VTPM_LONGEST_COMMAND, SVSM_VTPM_LONGEST_RESPONSE, SvsmResult, SvsmVtpmCommand, SvsmVtpmResponse, TpmPlatformCommand } from '@vmplanes/abi-svsm';
import { hexBytes, parseHexBytes } from '@vmplanes/binary';
import type { PlainRecord } from '@vmplanes/engine';
import type { SvsmFrame } from './frame.ts';
import { GuestPages } from './guest-pages.ts';
import type { SvsmHandler } from './handler.ts';
import type { SvsmProvider } from './provider.ts';

const { Success, InvalidAddress, InvalidParameter, InvalidRequest } = SvsmResult;

/** Name of the host service that is a TPM 2.0. */
export const TPM_SERVICE = 'tpm';

/** SVSM_VTPM_QUERY: commands can be sent, and nothing else. @spec SVSM 1.00, SVSM_VTPM_QUERY */
export const vtpmQuery: SvsmHandler = (_p, call) => {
  call.rcx = 1n << BigInt(TpmPlatformCommand.SendCommand);
  call.rdx = 0n;
  return Success;
};

/** SVSM_VTPM_CMD: gives a command to the TPM. The guest's buffer is copied once. @spec SVSM 1.00, SVSM_VTPM_CMD; coconut-svsm kernel/src/protocols/vtpm.rs */
export const vtpmCommand: SvsmHandler = (p, call) => {
  const at = GuestPages.address(call.rcx);
  const { buffer } = call;
  if (call.rcx === 0n || !p.pages.fetch(buffer, at, 4)) return InvalidParameter;
  if (buffer.view.getUint32(SvsmVtpmCommand.at.command, true) !== TpmPlatformCommand.SendCommand) return InvalidParameter;
  if (!p.pages.fetch(buffer, at, SVSM_VTPM_BUFFER)) return InvalidAddress;
  const { command, locality, size } = SvsmVtpmCommand.read(buffer.view, 0);
  // The buffer was read again as a whole: what counts is what is in this copy.
  if (command !== TpmPlatformCommand.SendCommand || locality !== 0 || size > SVSM_VTPM_LONGEST_COMMAND) return InvalidParameter;
  if (size === 0) return InvalidRequest;
  return askTpm(p, call, buffer.bytes.subarray(SvsmVtpmCommand.size, SvsmVtpmCommand.size + size), { next: 'vtpm' });
};

/** Sends a command to the TPM; the finisher named by `data.next` gets the response. */
export const askTpm = (p: SvsmProvider, call: SvsmFrame, command: Uint8Array, data: PlainRecord): ReturnType<SvsmHandler> => p.ask(call, TPM_SERVICE, { command: hexBytes(command) }, data);

/** The response in an answer of the TPM; null when it gave none. */
export const tpmResponse = (reply: PlainRecord): Uint8Array | null => (typeof reply['response'] === 'string' ? parseHexBytes(reply['response']) : null);

/** The response goes where the command was; what lies behind it stays. */
export const vtpmResponse = (p: SvsmProvider, call: SvsmFrame, _data: PlainRecord, reply: PlainRecord): number => {
  const response = tpmResponse(reply);
  if (response === null || response.length === 0) return InvalidRequest;
  if (response.length > SVSM_VTPM_LONGEST_RESPONSE) return p.deviates('tpmOversize') ? Success : InvalidRequest;
  const bytes = new Uint8Array(SvsmVtpmResponse.size + response.length);
  SvsmVtpmResponse.write(new DataView(bytes.buffer), 0, { size: response.length });
  bytes.set(response, SvsmVtpmResponse.size);
  return p.pages.store(GuestPages.address(call.rcx), bytes) ? Success : InvalidAddress;
};
