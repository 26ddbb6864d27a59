/** One reason for which guests end themselves. Set 1 is used by Linux and by OVMF, with different meanings. */
export interface TerminationReason {
  readonly set: number;
  readonly code: number;
  /** Who gives the code this meaning. */
  readonly by: 'GHCB' | 'Linux' | 'OVMF' | 'linux-svsm';
  readonly name: string;
  readonly spec: string;
}

const reasons = (set: number, by: TerminationReason['by'], spec: string, names: Readonly<Record<number, string>>): readonly TerminationReason[] =>
  Object.entries(names).map(([code, name]) => Object.freeze({ set, code: Number(code), by, name, spec }));

/** Sets of reasons. @spec GHCB 2.3.1 */
export const TerminationSet = { General: 0, Linux: 1, LinuxSvsm: 15 } as const;

/** Every reason that a public guest gives. @spec GHCB 2.3.1; Linux arch/x86/include/asm/sev-common.h; OVMF OvmfPkg/ResetVector/Ia32/AmdSev.asm; linux-svsm src/globals.rs */
export const TERMINATION_REASONS: readonly TerminationReason[] = [
  ...reasons(TerminationSet.General, 'GHCB', 'GHCB 2.3.1; Linux arch/x86/include/asm/sev-common.h', {
    0: 'general request to terminate',
    1: 'range of GHCB protocol versions not supported',
    2: 'SNP features not supported',
  }),
  ...reasons(TerminationSet.Linux, 'Linux', 'Linux arch/x86/include/asm/sev-common.h (GHCB_TERM_*)', {
    0: 'registration of the GHCB failed',
    1: 'page state change failed',
    2: 'PVALIDATE failed',
    3: 'not at VMPL0',
    4: 'CPUID page not valid',
    5: 'CPUID of the hypervisor not usable',
    6: 'secrets page not valid',
    7: 'no SVSM advertised',
    8: 'an SVSM, but the guest is at VMPL0',
    9: 'calling area of the SVSM misaligned',
    10: 'secure TSC setup failed',
    11: 'remapping the calling area of the SVSM failed',
    12: 'secure AVIC setup failed',
  }),
  ...reasons(TerminationSet.Linux, 'OVMF', 'OVMF OvmfPkg/ResetVector/Ia32/AmdSev.asm', {
    1: '#VC that is not for CPUID',
    2: 'unexpected response code',
  }),
  ...reasons(TerminationSet.LinuxSvsm, 'linux-svsm', 'linux-svsm src/globals.rs', Object.fromEntries(Array.from({ length: 13 }, (_, code) => [code, `internal reason ${code} of the SVSM`]))),
];

/** All meanings of a code, in the order of the table; empty for a code that nobody defines. */
export const terminationReasons = (set: number, code: number): readonly TerminationReason[] => TERMINATION_REASONS.filter((r) => r.set === set && r.code === code);

/** The meanings of a code for people: `page state change failed (Linux) or #VC that is not for CPUID (OVMF)`. */
export function terminationText(set: number, code: number): string {
  const known = terminationReasons(set, code);
  return known.length === 0 ? 'no reason known' : known.map((r) => (r.by === 'GHCB' ? r.name : `${r.name} (${r.by})`)).join(' or ');
}
