import type { GhcbField } from './ghcb.ts';
import type { HypervisorFeatures } from './hv-features.ts';

/** When a field is required that an event does not always need. */
export const NaeCondition = {
  /** SW_EXITINFO1 is not 0: the MSR is written. */
  Write: 'write',
  /** SW_EXITINFO1 says OUT, not of a string. */
  Out: 'out',
  /** SW_EXITINFO1 says a string instruction. */
  String: 'string',
  /** RAX is 0xD, compared in full. */
  ExtendedState: 'extendedState',
  /** The request in SW_EXITINFO1 is not to destroy. */
  NotDestroy: 'notDestroy',
} as const;
export type NaeCondition = (typeof NaeCondition)[keyof typeof NaeCondition];

/** One event that a guest asks its host to handle. @spec GHCB 4.1 */
export interface NaeRow {
  /** SW_EXITCODE. */
  readonly code: number;
  readonly name: string;
  /** Fields that must be marked valid besides SW_EXITCODE, SW_EXITINFO1 and SW_EXITINFO2. */
  readonly required: readonly GhcbField[];
  /** Fields that must be valid on a condition. */
  readonly requiredIf: readonly { readonly when: NaeCondition; readonly fields: readonly GhcbField[] }[];
  /** Fields that the event looks at where they are valid. */
  readonly optional: readonly GhcbField[];
  /** Fields that hold results, besides SW_EXITINFO1. */
  readonly outputs: readonly GhcbField[];
  readonly info1: string;
  readonly info2: string;
  /** First protocol version that names it. The host serves it in every version. */
  readonly since: 1 | 2;
  /** Guests that have it. */
  readonly level: 'sev-es' | 'sev-snp';
  /** Offered together with a feature of the host only. */
  readonly feature: keyof typeof HypervisorFeatures.shift | null;
  /** Null where it is served; otherwise why every host of this kind answers that there is no such event. */
  readonly refused: string | null;
  readonly note: string;
  readonly spec: string;
}

const ARCH = 'GHCB 4.1; Linux arch/x86/kvm/svm/sev.c (sev_es_validate_vmgexit)';
const SOFT = 'GHCB 4.1; Linux arch/x86/include/uapi/asm/svm.h';
const KP = 'GHCB 4.1; KVM planes series 2026-06, sev.c';

const row = (code: number, name: string, of: Partial<Omit<NaeRow, 'code' | 'name'>>): NaeRow =>
  Object.freeze({
    code, name, required: [], requiredIf: [], optional: [], outputs: [], info1: '0', info2: '0', since: code < 0x8000_0010 ? 1 : 2, level: 'sev-es', feature: null, refused: null, note: '',
    spec: code < 0x8000_0000 ? ARCH : SOFT, ...of,
  });

const NEVER_SENT = 'only an error code of #VC: guests handle it themselves';
const DRAFT = 'draft: numbers not ratified';

/** Every event. @spec GHCB 4.1; Linux arch/x86/kvm/svm/sev.c; KVM planes series 2026-06, sev.c; coconut-svsm kernel/src/sev/ghcb.rs */
export const NaeEvent = {
  Dr7Read: row(0x27, 'DR7 read', { info1: '0: into RAX', outputs: ['rax'] }),
  Dr7Write: row(0x37, 'DR7 write', { required: ['rax'], note: 'guests refuse upper halves that are not 0 themselves' }),
  DebugException: row(0x41, '#DB', { refused: NEVER_SENT }),
  AlignmentCheck: row(0x51, '#AC', { refused: NEVER_SENT }),
  Rdtsc: row(0x6e, 'RDTSC', { outputs: ['rax', 'rdx'] }),
  Rdpmc: row(0x6f, 'RDPMC', { required: ['rcx'], outputs: ['rax', 'rdx'], note: 'counters read 0; beyond the last one #GP' }),
  Cpuid: row(0x72, 'CPUID', {
    required: ['rax', 'rcx'], requiredIf: [{ when: NaeCondition.ExtendedState, fields: ['xcr0'] }], optional: ['xss'], outputs: ['rax', 'rbx', 'rcx', 'rdx'], note: 'XCR0 counts for the size in leaf 0xD',
  }),
  Invd: row(0x76, 'INVD', { note: 'no effect' }),
  Ioio: row(0x7b, 'IOIO', {
    requiredIf: [{ when: NaeCondition.Out, fields: ['rax'] }, { when: NaeCondition.String, fields: ['swScratch'] }], optional: ['rax'], outputs: ['rax'], info1: 'NaeIoInfo', info2: 'elements of a string',
  }),
  Msr: row(0x7c, 'MSR', { required: ['rcx'], requiredIf: [{ when: NaeCondition.Write, fields: ['rax', 'rdx'] }], outputs: ['rax', 'rdx'], info1: '0 read, 1 write', note: 'a refused access is #GP' }),
  Vmmcall: row(0x81, 'VMMCALL', { required: ['rax', 'cpl'], optional: ['rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'r8'], outputs: ['rax'], note: 'registers as the hypercall interface has them' }),
  Rdtscp: row(0x87, 'RDTSCP', { outputs: ['rax', 'rcx', 'rdx'] }),
  Wbinvd: row(0x89, 'WBINVD', { note: 'no effect' }),
  Monitor: row(0x8a, 'MONITOR', { required: ['rax', 'rcx', 'rdx'], note: 'no effect' }),
  Mwait: row(0x8b, 'MWAIT', { required: ['rax', 'rcx'], note: 'no effect' }),
  MmioRead: row(0x8000_0001, 'MMIO read', { required: ['swScratch'], info1: 'GPA', info2: 'bytes' }),
  MmioWrite: row(0x8000_0002, 'MMIO write', { required: ['swScratch'], info1: 'GPA', info2: 'bytes' }),
  NmiComplete: row(0x8000_0003, 'NMI complete', { note: 'NMIs are no longer masked' }),
  ApResetHold: row(0x8000_0004, 'AP reset hold', { outputs: ['swExitInfo2'], note: 'waits for a SIPI' }),
  ApJumpTable: row(0x8000_0005, 'AP jump table', { outputs: ['swExitInfo2'], info1: 'ApJumpTable', info2: 'GPA to set', note: 'one for the machine' }),
  PageStateChange: row(0x8000_0010, 'page state change', { required: ['swScratch'], outputs: ['swExitInfo2'], level: 'sev-snp', note: 'errors are in SW_EXITINFO2 alone' }),
  GuestRequest: row(0x8000_0011, 'guest request', { outputs: ['swExitInfo2'], info1: 'GPA of the request', info2: 'GPA of the response', level: 'sev-snp' }),
  ExtendedGuestRequest: row(0x8000_0012, 'extended guest request', {
    optional: ['rax', 'rbx'], outputs: ['swExitInfo2', 'rbx'], info1: 'GPA of the request', info2: 'GPA of the response', level: 'sev-snp', note: 'RAX and RBX, GPA and pages for certificates, are needed for reports',
  }),
  ApCreation: row(0x8000_0013, 'AP creation', {
    requiredIf: [{ when: NaeCondition.NotDestroy, fields: ['rax'] }], info1: 'NaeApCreationInfo', info2: 'GPA of the VMSA', level: 'sev-snp', feature: 'snpApCreation', note: 'RAX holds SEV_FEATURES',
  }),
  HvDoorbellPage: row(0x8000_0014, '#HV doorbell page', { outputs: ['swExitInfo2'], info1: 'DoorbellRequest', info2: 'GPA to set', level: 'sev-snp', feature: 'restrictedInjection' }),
  HvIpi: row(0x8000_0015, '#HV IPI', { info1: 'x2APIC ICR', level: 'sev-snp', feature: 'restrictedInjection' }),
  HvTimer: row(0x8000_0016, '#HV timer', { level: 'sev-snp', feature: 'restrictedInjectionTimer', refused: 'not established: no public source describes it' }),
  GetApicIds: row(0x8000_0017, 'get APIC IDs', { required: ['rax'], outputs: ['rax'], info1: 'GPA of the list', level: 'sev-snp', feature: 'apicIdList', note: 'RAX holds pages', spec: KP }),
  RunVmpl: row(0x8000_0018, 'run VMPL', { info1: 'VMPL', level: 'sev-snp', note: 'success is stored before the switch', spec: KP }),
  SecureAvic: row(0x8000_001a, 'secure AVIC', { level: 'sev-snp', refused: 'optional: secure AVIC is not offered' }),
  ConfigureInterruptInjection: row(0x8000_001b, 'configure interrupt injection', { level: 'sev-snp', feature: 'extendedInterrupts', refused: DRAFT, spec: 'coconut-svsm kernel/src/sev/ghcb.rs' }),
  DisableAlternateInjection: row(0x8000_001c, 'disable alternate injection', { level: 'sev-snp', feature: 'extendedInterrupts', refused: DRAFT, spec: 'coconut-svsm kernel/src/sev/ghcb.rs' }),
  SpecificEoi: row(0x8000_001d, 'specific EOI', { level: 'sev-snp', feature: 'extendedInterrupts', refused: DRAFT, spec: 'coconut-svsm kernel/src/sev/ghcb.rs' }),
  TioGuestRequest: row(0x8000_0020, 'SEV-TIO guest request', { level: 'sev-snp', feature: 'sevTio', refused: 'draft: no trusted devices', spec: 'Linux SEV-TIO patches' }),
  TioOperation: row(0x8000_0021, 'SEV-TIO operation', { level: 'sev-snp', feature: 'sevTio', refused: 'draft: no trusted devices', spec: 'Linux SEV-TIO patches' }),
  HypervisorFeatures: row(0x8000_fffd, 'hypervisor features', { outputs: ['swExitInfo2'] }),
  Termination: row(0x8000_fffe, 'termination', { info1: 'NaeTermination', info2: 'data of the guest', note: 'the guest stops' }),
  UnsupportedEvent: row(0x8000_ffff, 'unsupported event', { info1: 'exit code', info2: 'exit information', since: 1, note: 'noted in the trace, then success' }),
} as const satisfies Readonly<Record<string, NaeRow>>;
export type NaeEventName = keyof typeof NaeEvent;
/** The same as a list, in the order of the codes. */
export const NAE_ROWS: readonly NaeRow[] = Object.values(NaeEvent);

/** Codes from here on belong to hypervisors; none is served. @spec GHCB 4.1 */
export const NAE_HYPERVISOR_CODES = 0xf000_0000;

const names = new Map(NAE_ROWS.map((r) => [r.code, r.name]));
/** The name of an event for people; a number for one that nobody names. */
export const naeName = (code: number): string => names.get(code) ?? `0x${code.toString(16)}`;
