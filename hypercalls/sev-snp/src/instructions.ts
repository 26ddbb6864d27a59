/** What an instruction of SEV is, apart from what it does. */
export interface SevInstructionRow {
  readonly mnemonic: string;
  /** Opcode bytes with prefixes. */
  readonly encoding: string;
  /** Where it is defined: in every mode, or in 64-bit mode only. */
  readonly modes: 'any' | '64-bit';
  /** Who may execute it: a guest, or the host alone (#UD in a guest). */
  readonly by: 'guest' | 'host';
  readonly operands: string;
  readonly results: string;
  readonly flags: string;
  readonly spec: string;
}

/** Flags that a status in EAX writes: as ADD EAX, 0 would, and CF where it is named. */
const STATUS_FLAGS = 'OF ZF AF PF SF';

/** Instructions of SEV-ES and SEV-SNP. @spec APM vol. 3 */
export const SEV_INSTRUCTIONS: readonly SevInstructionRow[] = [
  { mnemonic: 'pvalidate', encoding: 'f2 0f 01 ff', modes: 'any', by: 'guest', operands: 'rAX linear address, ECX size, EDX[0] validate', results: 'EAX status', flags: `${STATUS_FLAGS} CF`, spec: 'APM vol. 3, PVALIDATE' },
  { mnemonic: 'rmpadjust', encoding: 'f3 0f 01 fe', modes: '64-bit', by: 'guest', operands: 'RAX linear address, RCX size, RDX target, mask, VMSA', results: 'EAX status', flags: STATUS_FLAGS, spec: 'APM vol. 3, RMPADJUST' },
  { mnemonic: 'rmpquery', encoding: 'f3 0f 01 fd', modes: '64-bit', by: 'guest', operands: 'RAX linear address, RDX target', results: 'EAX status, RCX size, RDX mask and VMSA', flags: STATUS_FLAGS, spec: 'APM vol. 3, RMPQUERY' },
  { mnemonic: 'rmpread', encoding: 'f2 0f 01 fd', modes: '64-bit', by: 'host', operands: 'RAX system address, [RCX] buffer', results: 'EAX status', flags: STATUS_FLAGS, spec: 'APM vol. 3, RMPREAD' },
  { mnemonic: 'psmash', encoding: 'f3 0f 01 ff', modes: '64-bit', by: 'host', operands: 'RAX system address of a 2 MiB page', results: 'EAX status', flags: STATUS_FLAGS, spec: 'APM vol. 3, PSMASH' },
  { mnemonic: 'rmpupdate', encoding: 'f2 0f 01 fe', modes: '64-bit', by: 'host', operands: 'RAX system address, [RCX] entry', results: 'EAX status', flags: STATUS_FLAGS, spec: 'APM vol. 3, RMPUPDATE' },
];

/** VMGEXIT: VMMCALL with a repeat prefix; in a guest without encrypted state it is VMMCALL. @spec APM vol. 3, VMGEXIT */
export const VMGEXIT_ENCODINGS = ['f3 0f 01 d9', 'f2 0f 01 d9'] as const;
