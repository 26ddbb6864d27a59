import { struct, u32, u8 } from '@vmplanes/binary';
import { call, type SvsmCall } from '../call.ts';
import { SvsmProtocol } from '../protocols.ts';

const { Vtpm } = SvsmProtocol;

/** Platform commands by number: those of the TCP interface of the TPM reference code. @spec ms-tpm-20-ref TpmTcpProtocol.h */
export const TpmPlatformCommand = {
  SignalPowerOn: 1, SignalPowerOff: 2, SignalPhysPresOn: 3, SignalPhysPresOff: 4,
  SignalHashStart: 5, SignalHashData: 6, SignalHashEnd: 7,
  SendCommand: 8,
  SignalCancelOn: 9, SignalCancelOff: 10, SignalNvOn: 11, SignalNvOff: 12, SignalKeyCacheOn: 13, SignalKeyCacheOff: 14,
  RemoteHandshake: 15, SetAlternativeResult: 16, SignalReset: 17, SignalRestart: 18, SessionEnd: 20, Stop: 21,
  GetCommandResponseSizes: 25, ActGetSignaled: 26, TestFailureMode: 30,
} as const;

/** Bytes of the command buffer. @spec SVSM 1.00, SVSM_VTPM_CMD */
export const SVSM_VTPM_BUFFER = 4096;
/** Head of TPM_SEND_COMMAND; the command follows. Fields are not aligned. @spec SVSM 1.00, SVSM_VTPM_CMD; Linux include/linux/tpm_svsm.h */
export const SvsmVtpmCommand = struct('SvsmVtpmCommand', 'SVSM 1.00, SVSM_VTPM_CMD', 9, { command: [0, u32, 'platform command'], locality: [4, u8, '0'], size: [5, u32, 'bytes of the command'] });
/** Longest TPM command that fits the buffer. */
export const SVSM_VTPM_LONGEST_COMMAND = SVSM_VTPM_BUFFER - SvsmVtpmCommand.size;
/** Head of the answer; the TPM's response follows. @spec SVSM 1.00, SVSM_VTPM_CMD */
export const SvsmVtpmResponse = struct('SvsmVtpmResponse', 'SVSM 1.00, SVSM_VTPM_CMD', 4, { size: [0, u32, 'bytes of the response'] });
/** Longest TPM response that fits the buffer. */
export const SVSM_VTPM_LONGEST_RESPONSE = SVSM_VTPM_BUFFER - SvsmVtpmResponse.size;

/** Calls of the vTPM protocol. @spec SVSM 1.00, vTPM protocol */
export const VtpmCall = {
  Query: call('SVSM_VTPM_QUERY', Vtpm, { number: 0, spec: 'SVSM 1.00, SVSM_VTPM_QUERY', output: { rcx: 'platform commands served, by bit', rdx: 'features' } }),
  Cmd: call('SVSM_VTPM_CMD', Vtpm, {
    number: 1, spec: 'SVSM 1.00, SVSM_VTPM_CMD', input: { rcx: 'GPA of the buffer' }, structure: SvsmVtpmCommand, results: ['InvalidParameter', 'InvalidAddress', 'InvalidRequest'],
  }),
} as const satisfies Readonly<Record<string, SvsmCall>>;
