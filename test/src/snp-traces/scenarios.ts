import type { GuestConfig } from '@vmplanes/vmm';
import { join } from 'node:path';
import { root } from '../support/source.ts';

/** Sequences between an SVSM, its guest and the host, recorded from the scripted guests beside this file. */
export interface Scenario {
  /** File in test/traces, without its end. */
  readonly name: string;
  /** What it shows. */
  readonly title: string;
  readonly options?: Readonly<Record<string, string | number | boolean | readonly string[]>>;
  readonly vps?: number;
  /** VMPL 2 where none is named. */
  readonly run: readonly { readonly vp: number; readonly plane?: number; readonly script: string }[];
  /** Guest type; default the one with the SVSM of this program. */
  readonly type?: string;
  /** Reason with which the run ends. */
  readonly ends: string;
}

/** Everything that makes a platform what it is; without it each recording would be of another one. */
const SEED = '00112233445566778899aabbccddeeff'.repeat(3);

export const scenarios: readonly Scenario[] = [
  { name: 'svsm-ovmf-boot', title: 'OVMF on the boot processor at VMPL2', run: [{ vp: 0, script: 'ovmf' }], ends: 'finished' },
  { name: 'svsm-linux-boot', title: 'Linux on the boot processor at VMPL2', options: { vtpm: true, svsmDeviations: ['remapCurrent'] }, run: [{ vp: 0, script: 'linux' }], ends: 'finished' },
  { name: 'svsm-ap-bringup', title: 'A second processor is created, run, stopped and deleted', vps: 2, run: [{ vp: 0, script: 'bring-up' }, { vp: 1, script: 'secondary' }], ends: 'finished' },
  { name: 'svsm-vtpm', title: 'TPM2_Startup and TPM2_GetRandom', options: { vtpm: true }, run: [{ vp: 0, script: 'tpm' }], ends: 'finished' },
  { name: 'svsm-attestation', title: 'A report for the vTPM, after a buffer that was too small', options: { vtpm: true }, run: [{ vp: 0, script: 'attestation' }], ends: 'finished' },
  { name: 'svsm-reboot', title: 'A reboot: the processor shuts down', run: [{ vp: 0, script: 'reboot' }], ends: 'shutdown' },
  { name: 'svsm-termination', title: 'A guest without an SVSM ends itself', run: [{ vp: 0, script: 'termination' }], ends: 'exit' },
  { name: 'svsm-panic', title: 'An SVSM that cannot go on', options: { svsmDeviations: ['uncheckedPages'] }, run: [{ vp: 0, script: 'panic' }], ends: 'exit' },
];

/** Not kept as a trace: what PVALIDATE and RMPADJUST of VMPL0 itself do is done inside a run, which a replay takes from the trace. */
export const launch: Scenario = { name: 'svsm-launch', title: 'An SVSM as an image of its own, from its start to the first calls of its guest', type: 'sev-snp-svsm', run: [{ vp: 0, plane: 0, script: 'svsm-image' }, { vp: 0, plane: 2, script: 'firmware' }], ends: 'exit' };

export const configOf = ({ name, options = {}, vps = 1, run, type = 'sev-snp-builtin-svsm' }: Scenario): GuestConfig => ({
  type,
  name,
  vps,
  memory: '160MiB',
  startPlanes: [0, 2],
  personalities: [{ use: 'sev-snp-vmpl', options: { platformSeed: SEED, ...options } as never }],
  scripts: { run: run.map((r) => ({ plane: 2, ...r })) },
});

export const fileOf = (name: string): string => join(root, 'test/traces', `${name}.jsonl`);
/** What the header says of where the trace comes from. */
export const notesOf = ({ title }: Scenario) => ({ origin: 'derived', from: 'a scripted guest of this repository, after the sequences that public sources of COCONUT-SVSM, OVMF and Linux give', title });
