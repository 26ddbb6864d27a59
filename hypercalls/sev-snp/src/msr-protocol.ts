import { bits } from '@vmplanes/binary';

const SPEC = 'GHCB 2.3.1; Linux arch/x86/include/asm/sev-common.h';

/** A request of the MSR protocol, its reply, or the address of a page. @spec GHCB 2.3.1 */
export interface GhcbMsrRow {
  /** Bits 11:0 of the GHCB MSR. */
  readonly code: number;
  readonly name: string;
  readonly role: 'address' | 'request' | 'response' | 'event';
  /** Code of the reply to a request; null where there is none. */
  readonly reply: number | null;
  /** First protocol version that names it. The host serves it in every version. */
  readonly since: 1 | 2;
  /** Meant for guests with a reverse map only. */
  readonly needsSnp: boolean;
  readonly spec: string;
  readonly note: string;
}

const row = (code: number, name: string, role: GhcbMsrRow['role'], reply: number | null, since: 1 | 2, needsSnp: boolean, note: string, spec = SPEC): GhcbMsrRow =>
  Object.freeze({ code, name, role, reply, since, needsSnp, spec, note });

/** All codes of the MSR protocol. @spec GHCB 2.3.1; Linux arch/x86/include/asm/sev-common.h; openvmm vm/x86/x86defs/src/snp.rs */
export const GhcbMsr = {
  GhcbGpa: row(0x000, 'GHCB GPA', 'address', null, 1, false, 'bits 63:12 are the page of the GHCB; the next VMGEXIT uses it'),
  SevInfoResponse: row(0x001, 'SEV information response', 'response', null, 1, false, 'also the reset value'),
  SevInfoRequest: row(0x002, 'SEV information request', 'request', 0x001, 1, false, 'versions and the position of the C-bit'),
  ApJumpTable: row(0x003, 'AP jump table (old)', 'request', null, 1, false, 'deprecated; served as an unknown code', 'openvmm vm/x86/x86defs/src/snp.rs'),
  CpuidRequest: row(0x004, 'CPUID request', 'request', 0x005, 1, false, 'one register of one leaf; the subleaf is 0'),
  CpuidResponse: row(0x005, 'CPUID response', 'response', null, 1, false, 'the register number stays as asked'),
  ApResetHoldRequest: row(0x006, 'AP reset hold request', 'request', 0x007, 2, false, 'waits for a SIPI'),
  ApResetHoldResponse: row(0x007, 'AP reset hold response', 'response', null, 2, false, 'nonzero result: a SIPI came'),
  PreferredGpaRequest: row(0x010, 'preferred GHCB GPA request', 'request', 0x011, 2, true, 'without a reverse map it ends the guest'),
  PreferredGpaResponse: row(0x011, 'preferred GHCB GPA response', 'response', null, 2, true, 'all ones: no preference'),
  RegisterGpaRequest: row(0x012, 'register GHCB GPA request', 'request', 0x013, 2, true, 'without a reverse map it ends the guest'),
  RegisterGpaResponse: row(0x013, 'register GHCB GPA response', 'response', null, 2, true, 'the page asked for, or all ones: refused'),
  PageStateChangeRequest: row(0x014, 'page state change request', 'request', 0x015, 2, true, 'one 4 KiB page; without a reverse map it ends the guest'),
  PageStateChangeResponse: row(0x015, 'page state change response', 'response', null, 2, true, 'error 0: done'),
  RunVmplRequest: row(0x016, 'run VMPL request', 'request', 0x017, 2, true, 'the reply is there when the caller runs again', 'GHCB 2.3.1; KVM planes series 2026-06, sev.c'),
  RunVmplResponse: row(0x017, 'run VMPL response', 'response', null, 2, true, 'error 0: done', 'GHCB 2.3.1; KVM planes series 2026-06, sev.c'),
  FeaturesRequest: row(0x080, 'hypervisor features request', 'request', 0x081, 2, false, ''),
  FeaturesResponse: row(0x081, 'hypervisor features response', 'response', null, 2, false, 'HypervisorFeatures in bits 63:12'),
  TerminationRequest: row(0x100, 'termination request', 'request', null, 1, false, 'no reply: the guest stops'),
  HypervSpecialHypercall: row(0xf00, 'Hyper-V special hypercall', 'event', null, 1, false, 'hypervisor specific: the MSR stays as it is', 'openvmm vm/x86/x86defs/src/snp.rs'),
  HypervFastCall: row(0xf01, 'Hyper-V fast call', 'event', null, 1, false, 'hypervisor specific: the MSR stays as it is', 'openvmm vm/x86/x86defs/src/snp.rs'),
  HypervFastCallOutput: row(0xf02, 'Hyper-V fast call output', 'event', null, 1, false, 'hypervisor specific: the MSR stays as it is', 'openvmm vm/x86/x86defs/src/snp.rs'),
  HypervDebugPrint: row(0xf03, 'Hyper-V debug print', 'event', null, 1, false, 'hypervisor specific: the MSR stays as it is', 'openvmm vm/x86/x86defs/src/snp.rs'),
} as const satisfies Readonly<Record<string, GhcbMsrRow>>;
export type GhcbMsrName = keyof typeof GhcbMsr;
/** The same as a list, in the order of the codes. */
export const GHCB_MSR_ROWS: readonly GhcbMsrRow[] = Object.values(GhcbMsr);

/** Bits of the MSR that hold the code. */
export const GHCB_MSR_CODE = 0xfff;
/** Page number that stands for none: 52 ones. @spec GHCB 2.3.1 */
export const GHCB_MSR_NO_PAGE = 0xf_ffff_ffff_ffffn;

/** SEV information. @spec GHCB 2.3.1 */
export const GhcbMsrSevInfo = bits('GhcbMsrSevInfo', SPEC, 64, { code: [0, 12], cBit: [24, 8, 'position of the C-bit'], minimum: [32, 16, 'lowest version'], maximum: [48, 16, 'highest version'] });
/** Register numbers of a CPUID request. @spec GHCB 2.3.1 */
export const GhcbMsrCpuidRegister = { Eax: 0, Ebx: 1, Ecx: 2, Edx: 3 } as const;
/** CPUID request. @spec GHCB 2.3.1 */
export const GhcbMsrCpuidRequest = bits('GhcbMsrCpuidRequest', SPEC, 64, { code: [0, 12], register: [30, 2, 'GhcbMsrCpuidRegister'], function: [32, 32, 'leaf'] });
/** CPUID response. @spec GHCB 2.3.1 */
export const GhcbMsrCpuidResponse = bits('GhcbMsrCpuidResponse', SPEC, 64, { code: [0, 12], register: [30, 2, 'as asked'], value: [32, 32] });
/** AP reset hold response. @spec GHCB 2.3.1 */
export const GhcbMsrApResetHold = bits('GhcbMsrApResetHold', SPEC, 64, { code: [0, 12], result: [12, 52, 'nonzero: a SIPI came'] });
/** Preferred and registered GHCB page. @spec GHCB 2.3.1 */
export const GhcbMsrPage = bits('GhcbMsrPage', SPEC, 64, { code: [0, 12], page: [12, 52, 'page number'] });
/** Page state change request. @spec GHCB 2.3.1 */
export const GhcbMsrPageStateChange = bits('GhcbMsrPageStateChange', SPEC, 64, { code: [0, 12], page: [12, 40, 'page number'], operation: [52, 4, 'PscOperation'] });
/** Responses with an error in their high half. @spec GHCB 2.3.1 */
export const GhcbMsrError = bits('GhcbMsrError', SPEC, 64, { code: [0, 12], error: [32, 32, '0: done'] });
/** Error word of a page state change that failed: bit 63 of the response. @spec Linux arch/x86/include/asm/sev-common.h (GHCB_MSR_PSC_RESP_ERROR) */
export const GHCB_MSR_PSC_ERROR = 0x8000_0000;
/** Run VMPL request. @spec KVM planes series 2026-06, sev.c */
export const GhcbMsrRunVmpl = bits('GhcbMsrRunVmpl', 'KVM planes series 2026-06, sev.c', 64, { code: [0, 12], vmpl: [32, 8] });
/** Hypervisor features response. @spec GHCB 2.3.1 */
export const GhcbMsrFeatures = bits('GhcbMsrFeatures', SPEC, 64, { code: [0, 12], features: [12, 52, 'HypervisorFeatures'] });
/** Termination request. @spec GHCB 2.3.1 */
export const GhcbMsrTermination = bits('GhcbMsrTermination', SPEC, 64, { code: [0, 12], reasonSet: [12, 4], reasonCode: [16, 8] });
