import { ApicCall, AttestationCall, CoreCall, UefiMmCall, VtpmCall } from '@vmplanes/abi-svsm';
import { apicConfigure, apicConfigureVector, apicQueryFeatures, apicReadRegister, apicWriteRegister } from './apic.ts';
import { attestServices, attestSingleService } from './attestation.ts';
import { configureVtom, createVcpu, deleteVcpu, queryProtocol, remapCa } from './core-calls.ts';
import { on, type SvsmBinding, unsupported } from './handler.ts';
import { pvalidate } from './pvalidate.ts';
import { vtpmCommand, vtpmQuery } from './vtpm.ts';

/** Every declared call and what serves it, in the order of the specification. */
export const bindings: readonly SvsmBinding[] = [
  on(CoreCall.RemapCa, remapCa),
  on(CoreCall.Pvalidate, pvalidate),
  on(CoreCall.CreateVcpu, createVcpu),
  on(CoreCall.DeleteVcpu, deleteVcpu),
  unsupported(CoreCall.DepositMem),
  unsupported(CoreCall.WithdrawMem),
  on(CoreCall.QueryProtocol, queryProtocol),
  on(CoreCall.ConfigureVtom, configureVtom),
  on(AttestationCall.Services, attestServices),
  on(AttestationCall.SingleService, attestSingleService),
  on(VtpmCall.Query, vtpmQuery),
  on(VtpmCall.Cmd, vtpmCommand),
  on(ApicCall.QueryFeatures, apicQueryFeatures),
  on(ApicCall.Configure, apicConfigure),
  on(ApicCall.ReadRegister, apicReadRegister),
  on(ApicCall.WriteRegister, apicWriteRegister),
  on(ApicCall.ConfigureVector, apicConfigureVector),
  unsupported(UefiMmCall.Call),
];
