import { LaunchPageType, MessageType, REPORT_VERSIONS, requestTypes, messageTypeName, SigningKey } from '@vmplanes/abi-sev-snp';
import type { SupportRow } from '@vmplanes/engine';
import { requestRows } from './requests.ts';

const NO_AGENT = 'not established: needs a migration agent or a root key of the VM; the command ends with UNSUPPORTED';
const row = (kind: string, name: string, code: string, spec: string, note?: string): SupportRow => ({ kind, name, code, spec, support: 'yes', ...(note === undefined ? {} : { note }) });

const notes: Readonly<Partial<Record<MessageType, string>>> = {
  [MessageType.KeyRequest]: 'versions 1 and 2; keys differ from those of a real platform',
  [MessageType.CpuidRequest]: 'features and numbers of leaves are checked against the CPU model',
};

/** What of the firmware is served: messages from the table that answers them, then launch and reports. */
export const firmwareSupport: readonly SupportRow[] = [
  ...requestTypes.map((type): SupportRow => {
    const isServed = requestRows.has(type);
    const note = isServed ? notes[type] : NO_AGENT;
    return { kind: 'guest-message', name: messageTypeName(type), code: String(type), spec: 'SNP ABI, guest messages', support: isServed ? 'yes' : 'no', ...(note === undefined ? {} : { note }) };
  }),
  ...Object.entries(LaunchPageType).map(([name, type]) => row('launch-page', name, String(type), 'SNP ABI, SNP_LAUNCH_UPDATE', name === 'Vmsa' ? 'from an image, or made by the host' : undefined)),
  ...REPORT_VERSIONS.map((version) => row('report', `version ${version}`, String(version), 'SNP ABI, ATTESTATION_REPORT')),
  ...Object.entries(SigningKey).map(([name, key]) => row('signing-key', name, String(key), 'SNP ABI, ATTESTATION_REPORT, offset 48h', name === 'None' ? 'the signature is zero' : 'of this machine; chains to no manufacturer')),
];
