/**
 * How an intercepted event of a guest with encrypted state leaves it: `nae` raises #VC in the guest first, `ae` exits at once. `both`: by what
 * caused it.
 * @spec APM vol. 2, 15.35.4, Table 15-35
 */
export type ExitClass = 'nae' | 'ae' | 'both';

/** One exit code. */
export interface ExitCodeRow {
  readonly name: string;
  readonly code: number;
  readonly exits: ExitClass;
  readonly about: string;
}

const row = (name: string, code: number, exits: ExitClass, about: string): ExitCodeRow => ({ name, code, exits, about });

/**
 * Exit codes that a guest with encrypted state can cause, in rising order. Those of a range stand for its first code.
 * @spec APM vol. 2, Appendix C
 */
export const EXIT_CODES: readonly ExitCodeRow[] = [
  row('DR7_READ', 0x27, 'nae', 'MOV from DR7'),
  row('DR7_WRITE', 0x37, 'nae', 'MOV to DR7'),
  row('EXCP_DB', 0x41, 'nae', '#DB'),
  row('EXCP_AC', 0x51, 'nae', '#AC'),
  row('EXCP_MC', 0x52, 'ae', '#MC'),
  row('INTR', 0x60, 'ae', 'physical interrupt'),
  row('NMI', 0x61, 'ae', 'physical NMI'),
  row('SMI', 0x62, 'ae', 'physical SMI'),
  row('INIT', 0x63, 'ae', 'physical INIT'),
  row('VINTR', 0x64, 'ae', 'the guest can take a virtual interrupt'),
  row('RDTSC', 0x6e, 'nae', 'RDTSC'),
  row('RDPMC', 0x6f, 'nae', 'RDPMC'),
  row('CPUID', 0x72, 'nae', 'CPUID'),
  row('INVD', 0x76, 'nae', 'INVD'),
  row('PAUSE', 0x77, 'ae', 'PAUSE'),
  row('HLT', 0x78, 'ae', 'HLT'),
  row('IOIO', 0x7b, 'nae', 'IN, OUT and their string forms'),
  row('MSR', 0x7c, 'nae', 'RDMSR and WRMSR'),
  row('SHUTDOWN', 0x7f, 'ae', 'shutdown'),
  row('VMMCALL', 0x81, 'nae', 'VMMCALL'),
  row('RDTSCP', 0x87, 'nae', 'RDTSCP'),
  row('WBINVD', 0x89, 'nae', 'WBINVD and WBNOINVD'),
  row('MONITOR', 0x8a, 'nae', 'MONITOR'),
  row('MWAIT', 0x8b, 'nae', 'MWAIT'),
  row('EFER_WRITE_TRAP', 0x8f, 'ae', 'EFER was written'),
  row('CR0_WRITE_TRAP', 0x90, 'ae', 'CR0 was written; 0x90 + n for CRn'),
  row('BUSLOCK', 0xa5, 'ae', 'bus lock'),
  row('IDLE_HLT', 0xa6, 'ae', 'HLT with nothing pending'),
  row('NPF', 0x400, 'both', 'nested page fault: #VC when a reserved bit of the nested tables was set (MMIO)'),
  row('AVIC_INCOMPLETE_IPI', 0x401, 'ae', 'IPI that the hardware could not deliver'),
  row('AVIC_NOACCEL', 0x402, 'ae', 'APIC access that the hardware does not do'),
  row('VMGEXIT', 0x403, 'ae', 'VMGEXIT'),
  row('PAGE_NOT_VALIDATED', 0x404, 'nae', 'access with C=1 to a page that is not validated'),
  row('NOT_RESTARTABLE', 0x406, 'ae', 'the exit cannot be restarted'),
];

/** Exit codes by what they are needed for. @spec APM vol. 2, Appendix C */
export const SvmExit = {
  Dr7Read: 0x27,
  Dr7Write: 0x37,
  ExceptionBase: 0x40,
  Intr: 0x60,
  Rdtsc: 0x6e,
  Rdpmc: 0x6f,
  Cpuid: 0x72,
  Invd: 0x76,
  Pause: 0x77,
  Hlt: 0x78,
  Ioio: 0x7b,
  Msr: 0x7c,
  Shutdown: 0x7f,
  Vmmcall: 0x81,
  Rdtscp: 0x87,
  Wbinvd: 0x89,
  Monitor: 0x8a,
  Mwait: 0x8b,
  EferWriteTrap: 0x8f,
  CrWriteTrap: 0x90,
  BusLock: 0xa5,
  Npf: 0x400,
  Vmgexit: 0x403,
  NotValidated: 0x404,
} as const;
export type SvmExit = (typeof SvmExit)[keyof typeof SvmExit];

/** Vector of the VMM communication exception; its error code is the exit code. @spec APM vol. 2, 8.2.21 */
export const VC_VECTOR = 29;
/** Vector of the hypervisor injection exception. @spec APM vol. 2, 8.2.20 */
export const HV_VECTOR = 28;
