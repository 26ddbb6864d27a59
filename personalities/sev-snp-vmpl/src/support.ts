import { EXIT_CODES, SEV_FEATURES, SEV_INSTRUCTIONS, SEV_MSRS } from '@vmplanes/abi-sev-snp';
import { hex } from '@vmplanes/binary';
import type { SupportRow } from '@vmplanes/engine';
import { ghcbSupport } from './ghcb/support.ts';
import { firmwareSupport } from './psp/support.ts';
import { svsmSupport } from './svsm/support.ts';

const row = (kind: string, name: string, code: string, spec: string, isServed: boolean, note?: string): SupportRow => ({ kind, name, code, spec, support: isServed ? 'yes' : 'no', ...(note === undefined ? {} : { note }) });

/** Exits that no guest of this program can cause, by why. */
const neverExits = new Map<string, string>([
  ['AVIC_INCOMPLETE_IPI', 'Secure AVIC is not offered'],
  ['AVIC_NOACCEL', 'Secure AVIC is not offered'],
  ['SMI', 'there is no system management mode'],
  ['EXCP_MC', 'there are no machine checks'],
  ['IDLE_HLT', 'idle HLT intercepts are not offered'],
  ['NOT_RESTARTABLE', 'every exit can be restarted'],
  ['EXCP_AC', '#AC is not intercepted'],
]);

/** The support matrix, printed from the tables that the behaviour is bound to. */
export const support: readonly SupportRow[] = [
  ...SEV_INSTRUCTIONS.map(({ mnemonic, encoding, spec, by }) => row('instruction', mnemonic, encoding, spec, true, by === 'host' ? 'an operation of the host; #UD in a guest' : undefined)),
  ...SEV_FEATURES.map(({ name, bit, isServed, about }) => row('feature', name, `bit ${bit}`, 'APM vol. 2, Table B-4', isServed, about)),
  ...SEV_MSRS.map(({ name, index, spec, about }) => row('msr', name, hex(index), spec, true, about)),
  ...EXIT_CODES.map(({ name, code, exits }) => row('exit', name, hex(code), 'APM vol. 2, Appendix C', !neverExits.has(name), neverExits.get(name) ?? { nae: '#VC', ae: 'exits at once', both: '#VC for MMIO, else exits at once' }[exits])),
  ...ghcbSupport,
  ...firmwareSupport,
  ...svsmSupport,
];
