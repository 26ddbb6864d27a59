import { DISPUTES, PROFILE_INFO, type Profile, rfc2025, series2026 } from '@vmplanes/abi-kvm-planes';
import { diffScenarios } from './diff-scenarios.ts';

/** One question on which drafts of KVM planes differ, with what two of them do. */
export interface PlanesAbiRow {
  readonly id: string;
  readonly question: string;
  readonly a: string;
  readonly b: string;
  /** Where the positions are stated. */
  readonly source: string;
  /** True when the answers were observed by running a scenario, false when they are quoted from the table of disputes. */
  readonly isObserved: boolean;
}

/** Behaviours that differ without having been discussed. */
const observed: readonly { readonly id: string; readonly question: string; readonly source: string }[] = [
  { id: 'halted-entry', question: 'KVM_RUN of a halted plane while another plane that counts is pending?', source: `${rfc2025(25)}; ${series2026(52)}` },
  { id: 'tpr', question: 'A pending vector that the task priority of its plane masks?', source: `${rfc2025(25)}; ${series2026(52)}` },
  { id: 'nmi', question: 'An NMI for a plane that does not run?', source: `${rfc2025(25)}; ${series2026(52)}` },
  { id: 'restore', question: 'A request restored by KVM_SET_LAPIC?', source: `${rfc2025(25)}; ${series2026(52)}` },
  { id: 'mp-state', question: 'May the MP state of a plane vCPU be read?', source: rfc2025(13) },
  { id: 'numbers', question: 'Which numbers?', source: `${rfc2025(2, 9)}; ${series2026('Implement KVM_CREATE_PLANE ioctl')}` },
];

const questions = [...DISPUTES.map((d) => ({ id: d.id, question: d.question, source: d.sources.join('; '), answers: d.answers })), ...observed.map((o) => ({ ...o, answers: null }))];

/** Why the answers to a dispute are quoted: nothing that a VMM or a guest can see decides it. */
const quotedBecause: Readonly<Record<string, string>> = {
  Q3: 'the shape of a structure inside the kernel; no call shows it',
  Q12: 'the clock pages belong to the guest interface, not to the calls of KVM; the one time base under them is the same in every profile that runs',
  Q17: 'needs a processor that delivers interrupts by itself',
  Q19: 'a question about work, not about behaviour',
};

/**
 * Compares two drafts of KVM planes by trying each of them out: small machines are built and run under both profiles. What cannot be observed
 * from outside, and the draft that only names things, is quoted from the table of disputes.
 */
export const planesAbiDiff = (a: Profile, b: Profile): readonly PlanesAbiRow[] =>
  questions.map(({ id, question, source, answers }) => {
    const scenario = diffScenarios[id];
    const answer = (profile: Profile): string => (scenario && profile !== '2024-10' ? scenario(profile) : (answers?.[profile] ?? `says nothing (${PROFILE_INFO[profile].title})`));
    const asked = scenario === undefined && quotedBecause[id] !== undefined ? `${question} (quoted: ${quotedBecause[id]})` : question;
    return { id, question: asked, a: answer(a), b: answer(b), source, isObserved: scenario !== undefined && a !== '2024-10' && b !== '2024-10' };
  });
