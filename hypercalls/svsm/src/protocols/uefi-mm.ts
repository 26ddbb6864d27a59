import { bytes, struct, u64 } from '@vmplanes/binary';
import { call, type SvsmCall } from '../call.ts';
import { SvsmProtocol } from '../protocols.ts';

/** Head of the buffer of SVSM_UEFI_MM_CALL; the message follows. @spec coconut-svsm Documentation/docs/protocols/uefivars.md */
export const SvsmUefiMmBuffer = struct('SvsmUefiMmBuffer', 'coconut-svsm Documentation/docs/protocols/uefivars.md', 24, { guid: [0, bytes(16), 'message type'], size: [16, u64, 'bytes of the message'] });

/** Calls of the UEFI MM protocol. @spec coconut-svsm Documentation/docs/protocols/uefivars.md */
export const UefiMmCall = {
  Call: call('SVSM_UEFI_MM_CALL', SvsmProtocol.UefiMm, {
    number: 1, spec: 'coconut-svsm Documentation/docs/protocols/uefivars.md', input: { rcx: 'GPA of the buffer', rdx: 'bytes of the buffer' }, structure: SvsmUefiMmBuffer,
    unsupported: 'an optional protocol: a store of UEFI variables is not part of this product',
  }),
} as const satisfies Readonly<Record<string, SvsmCall>>;
