import { bits, bytes, struct, u16, u32, u64, u8, union } from '@vmplanes/binary';
import { opaque, simple } from '../call.ts';
import { Source } from '../sources.ts';

/** Input of HvCallInstallIntercept. @spec TLFS v6.0b (PDF) 11.11; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputInstallIntercept = struct('HvInputInstallIntercept', `${Source.Pdf6} 11.11; ${Source.Hvdef}`, 24, {
  partitionId: [0, u64],
  accessTypeMask: [8, u32, 'HvInterceptAccessMask; none removes the intercept'],
  interceptType: [12, u32, 'HvInterceptType'],
  interceptParameters: [16, u64, 'port, CPUID leaf, MSR, vector or mask, by type'],
});
/** The parameter of an intercept of a range of ports; other types have one number. @spec TLFS HV_INTERCEPT_PARAMETERS */
export const HvInterceptIoPortRange = bits('HvInterceptIoPortRange', `TLFS HV_INTERCEPT_PARAMETERS; ${Source.Hvdef}`, 64, { base: [0, 16], end: [16, 16, 'inclusive'] });
/** Installs an intercept. */
export const InstallIntercept = simple('HvCallInstallIntercept', { code: 0x004d, spec: `${Source.Pdf6} 11.11; ${Source.Hvdef}`, privileges: ['accessVsm'], fast: 'xmm', header: HvInputInstallIntercept });
/** Installs an intercept of a system register. */
export const InstallInterceptEx = opaque('HvCallInstallInterceptEx', { code: 0x0110, spec: 'TLFS HvCallInstallInterceptEx', unsupported: 'ARM64 only' });

/** Result of CPUID for one leaf: bits of the masks replace what the processor says. @spec TLFS HV_REGISTER_INTERCEPT_RESULT_PARAMETERS */
export const HvRegisterX64CpuidResultParameters = struct('HvRegisterX64CpuidResultParameters', 'TLFS HV_REGISTER_INTERCEPT_RESULT_PARAMETERS; openvmm vm/hv1/hvdef/src/lib.rs', 44, {
  inputEax: [0, u32], inputEcx: [4, u32],
  subleafSpecific: [8, u8, '0: any subleaf'], alwaysOverride: [9, u8], reservedPadding: [10, u16],
  eax: [12, u32], eaxMask: [16, u32], ebx: [20, u32], ebxMask: [24, u32], ecx: [28, u32], ecxMask: [32, u32], edx: [36, u32], edxMask: [40, u32],
});
/** Result of an access to an MSR that is not implemented. @spec TLFS HV_REGISTER_INTERCEPT_RESULT_PARAMETERS */
export const HvRegisterX64MsrResultParameters = struct('HvRegisterX64MsrResultParameters', 'TLFS HV_REGISTER_INTERCEPT_RESULT_PARAMETERS', 12, {
  msrIndex: [0, u32],
  accessType: [4, u32, 'HvInterceptAccessMask'],
  action: [8, u32, 'HvUnimplementedMsrAction'],
});
/** What an access to an unknown MSR does. @spec TLFS HV_REGISTER_INTERCEPT_RESULT_PARAMETERS */
export const HvUnimplementedMsrAction = { Fault: 0, IgnoreWriteReadZero: 1 } as const;
/** Result to register, by intercept type. @spec TLFS HV_REGISTER_INTERCEPT_RESULT_PARAMETERS */
export const HvRegisterInterceptResultParameters = union('HvRegisterInterceptResultParameters', 'TLFS HV_REGISTER_INTERCEPT_RESULT_PARAMETERS', 48, {
  cpuid: HvRegisterX64CpuidResultParameters,
  msr: HvRegisterX64MsrResultParameters,
});
/** Input of HvCallRegisterInterceptResult and HvCallUnregisterInterceptResult. @spec TLFS HvCallRegisterInterceptResult */
export const HvInputInterceptResult = struct('HvInputInterceptResult', 'TLFS HvCallRegisterInterceptResult; TLFS HvCallUnregisterInterceptResult', 64, {
  partitionId: [0, u64],
  vpIndex: [8, u32],
  interceptType: [12, u32, 'HvInterceptType'],
  parameters: [16, HvRegisterInterceptResultParameters],
});
const RESULT = { privileges: ['accessVsm'], fast: 'xmm', header: HvInputInterceptResult } as const;
/** Registers what an intercepted instruction gives. */
export const RegisterInterceptResult = simple('HvCallRegisterInterceptResult', { ...RESULT, code: 0x0091, spec: 'TLFS HvCallRegisterInterceptResult' });
/** Takes a registered result back. */
export const UnregisterInterceptResult = simple('HvCallUnregisterInterceptResult', { ...RESULT, code: 0x0092, spec: 'TLFS HvCallUnregisterInterceptResult' });

/** Input of HvCallCheckForIoIntercept. @spec TLFS HvCallCheckForIoIntercept */
export const HvInputCheckForIoIntercept = struct('HvInputCheckForIoIntercept', 'TLFS HvCallCheckForIoIntercept', 24, {
  partitionId: [0, u64],
  vpIndex: [8, u32],
  targetVtl: [12, u8, 'HvInputVtl'],
  reserved0: [13, u8],
  port: [14, u16],
  size: [16, u8, 'bytes: 1, 2, 4'],
  isWrite: [17, u8],
  reserved1: [18, bytes(6)],
});
/** Output of HvCallCheckForIoIntercept. @spec TLFS HvCallCheckForIoIntercept */
export const HvOutputCheckForIoIntercept = struct('HvOutputCheckForIoIntercept', 'TLFS HvCallCheckForIoIntercept', 8, { intercept: [0, u8, '1: would be intercepted'], reserved: [1, bytes(7)] });
/** Tells whether a port access would be intercepted. */
export const CheckForIoIntercept = simple('HvCallCheckForIoIntercept', { code: 0x00ad, spec: 'TLFS HvCallCheckForIoIntercept', privileges: ['accessVsm'], fast: 'xmm', header: HvInputCheckForIoIntercept, output: HvOutputCheckForIoIntercept });
