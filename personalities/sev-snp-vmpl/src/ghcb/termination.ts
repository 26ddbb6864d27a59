import { terminationText } from '@vmplanes/abi-sev-snp';
import type { Answer, ExitPayload } from '@vmplanes/engine';
import type { SnpContext, SnpPlane } from '../ports.ts';

/** A guest ended itself, or asked for what ends it. Nothing of it runs any more. */
export interface SevTerminationPayload extends ExitPayload {
  readonly kind: 'sevTermination';
  readonly vp: number;
  readonly vmpl: number;
  /** GHCB MSR of the caller, as (lo, hi) 32-bit halves: what a host without further knowledge hands on. */
  readonly msrLo: number;
  readonly msrHi: number;
  /** Set and code of the reason; -1 where the host ends the guest. */
  readonly reasonSet: number;
  readonly reasonCode: number;
  /** Data of the guest, as (lo, hi) 32-bit halves. */
  readonly dataLo: number;
  readonly dataHi: number;
  /** All of this for a terminal or a log. */
  readonly text: string;
}

const word = (lo: number, hi: number): string => `0x${(hi >>> 0).toString(16).padStart(8, '0')}${(lo >>> 0).toString(16).padStart(8, '0')}`;

/** Ends the guest: no VP of it runs again. @param why - of the host, where the guest gave no reason. @spec GHCB 2.3.1; Linux arch/x86/kvm/svm/sev.c (KVM_SYSTEM_EVENT_SEV_TERM) */
const end = ({ machine }: SnpContext, plane: SnpPlane, reasonSet: number, reasonCode: number, dataLo: number, dataHi: number, why: string): Answer => {
  const { context, ghcbMsrLo, ghcbMsrHi } = plane;
  for (const vp of machine.vps) vp.suspended = true;
  const payload: SevTerminationPayload = {
    kind: 'sevTermination', vp: context.vp.index, vmpl: context.plane, msrLo: ghcbMsrLo, msrHi: ghcbMsrHi, reasonSet, reasonCode, dataLo, dataHi,
    text: `VMPL${context.plane} of VP ${context.vp.index} ${why}; GHCB MSR ${word(ghcbMsrLo, ghcbMsrHi)}`,
  };
  return context.vp.replies.exit(payload);
};

/** The guest asks to be ended. @param why - where who asks is known better than by the reason. */
export const terminate = (snp: SnpContext, plane: SnpPlane, reasonSet: number, reasonCode: number, dataLo = 0, dataHi = 0, why = ''): Answer => {
  const data = (dataLo | dataHi) === 0 ? '' : `, data ${word(dataLo, dataHi)}`;
  return end(snp, plane, reasonSet, reasonCode, dataLo, dataHi, `asks to be terminated: set ${reasonSet} code ${reasonCode}, ${why === '' ? terminationText(reasonSet, reasonCode) : why}${data}`);
};

/** The host ends the guest. @param request - what it must not ask for. */
export const endFor = (snp: SnpContext, plane: SnpPlane, request: string): Answer => end(snp, plane, -1, -1, 0, 0, `is terminated: a ${request} needs a reverse map`);
