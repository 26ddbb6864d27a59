import { GHCB_MSR_CODE, GHCB_MSR_PSC_ERROR, GHCB_PROTOCOL, GhcbMsr, GhcbMsrPageStateChange, type GhcbMsrRow, GhcbMsrRunVmpl, GhcbMsrTermination, SnpLevel } from '@vmplanes/abi-sev-snp';
import { type Answer, PAGE_SIZE } from '@vmplanes/engine';
import type { SnpPlane } from '../ports.ts';
import { Word } from './frame.ts';
import type { EventParts } from './ports.ts';
import { endFor, terminate } from './termination.ts';

const PAGE_BITS = ~GHCB_MSR_CODE;
const ALL_ONES = 0xffff_ffff;
const TWO_20 = 2 ** 20;
/** Bits of the page number in the high half of a page state change. */
const PSC_PAGE_HIGH = 0xf_ffff;
const RUN_VMPL_ERROR = 1;

/** Serves a request of the MSR protocol: the MSR of the caller holds it, and takes the reply. @returns null to go on, or another answer. */
export type MsrHandler = (parts: EventParts, plane: SnpPlane) => Answer | null;
/** A code and what serves it; null for one that leaves the MSR as it is. */
export interface MsrBinding {
  readonly row: GhcbMsrRow;
  readonly run: MsrHandler | null;
}
const on = (row: GhcbMsrRow, run: MsrHandler): MsrBinding => ({ row, run });
/** Not a request, or one that this host does not know: the guest sees it unchanged. */
const unchanged = (row: GhcbMsrRow): MsrBinding => ({ row, run: null });

const reply = (plane: SnpPlane, lo: number, hi: number): null => {
  plane.ghcbMsrLo = lo >>> 0;
  plane.ghcbMsrHi = hi >>> 0;
  return null;
};

/** SEV information as (lo, hi) halves: the reset value of the MSR, too. @spec GHCB 2.3.1 */
export const sevInformation = ({ host: { snp, options } }: Pick<EventParts, 'host'>): readonly [lo: number, hi: number] => [
  ((snp.options.cBit << 24) | GhcbMsr.SevInfoResponse.code) >>> 0,
  ((options.version << 16) | GHCB_PROTOCOL.minimum) >>> 0,
];

/** Only guests with a reverse map may ask; others end. */
const snpOnly =
  (run: MsrHandler, what: string): MsrHandler =>
  (parts, plane) =>
    parts.host.snp.level === SnpLevel.SevSnp ? run(parts, plane) : endFor(parts.host.snp, plane, what);

const cpuidRequest: MsrHandler = ({ host }, plane) => {
  const frame = host.frame(plane.context.vp);
  frame.open(plane, host.subject(plane), 0);
  const exit = host.behalf.records(plane.context.vp.index).cpuid;
  exit.key = plane.ghcbMsrHi;
  exit.subleaf = 0;
  frame.setRegister(Word.rax, exit.key, 0);
  // An answer that takes longer has no place here: the request stays.
  if (host.behalf.answer(frame, exit).kind !== 'resume') return null;
  const { rax, rbx, rcx, rdx } = Word;
  const word = [rax, rbx, rcx, rdx][plane.ghcbMsrLo >>> 30]!;
  return reply(plane, (plane.ghcbMsrLo & PAGE_BITS) | GhcbMsr.CpuidResponse.code, frame.registers[word]!);
};

const registerGpa: MsrHandler = ({ host }, plane) => {
  const gpa = plane.ghcbMsrHi * 2 ** 32 + ((plane.ghcbMsrLo & PAGE_BITS) >>> 0);
  const { code } = GhcbMsr.RegisterGpaResponse;
  if (!host.hasMemory(gpa / PAGE_SIZE, 1)) return reply(plane, (PAGE_BITS | code) >>> 0, ALL_ONES);
  plane.registeredGhcb = gpa;
  return reply(plane, (plane.ghcbMsrLo & PAGE_BITS) | code, plane.ghcbMsrHi);
};

const pageStateChange: MsrHandler = ({ pages }, plane) => {
  const page = (plane.ghcbMsrHi & PSC_PAGE_HIGH) * TWO_20 + (plane.ghcbMsrLo >>> 12);
  const operation = (plane.ghcbMsrHi >>> (GhcbMsrPageStateChange.shift.operation - 32)) & 0xf;
  return reply(plane, GhcbMsr.PageStateChangeResponse.code, pages.change(page, 1, operation, false) ? 0 : GHCB_MSR_PSC_ERROR);
};

const runVmpl: MsrHandler = ({ host: { snp } }, plane) => {
  const vmpl = (plane.ghcbMsrHi >>> (GhcbMsrRunVmpl.shift.vmpl - 32)) & 0xff;
  const { code } = GhcbMsr.RunVmplResponse;
  // The caller looks at its reply when it runs again, so that it is there before.
  reply(plane, code, 0);
  if (vmpl === plane.context.plane) return null;
  const answer = vmpl < snp.machine.options.maxPlanes && snp.level === SnpLevel.SevSnp ? snp.chapters.switching.run(plane, vmpl) : null;
  return answer ?? reply(plane, code, RUN_VMPL_ERROR);
};

/** Codes and their behaviour, in the order of the specification. */
export const msrBindings: readonly MsrBinding[] = [
  unchanged(GhcbMsr.GhcbGpa),
  unchanged(GhcbMsr.SevInfoResponse),
  on(GhcbMsr.SevInfoRequest, (parts, plane) => reply(plane, ...sevInformation(parts))),
  unchanged(GhcbMsr.ApJumpTable),
  on(GhcbMsr.CpuidRequest, cpuidRequest),
  unchanged(GhcbMsr.CpuidResponse),
  on(GhcbMsr.ApResetHoldRequest, ({ host }, plane) => {
    // Woken by anything but a SIPI it has this reply; a SIPI changes it.
    reply(plane, GhcbMsr.ApResetHoldResponse.code, 0);
    return host.snp.chapters.aps.hold(plane, 'msr');
  }),
  unchanged(GhcbMsr.ApResetHoldResponse),
  on(GhcbMsr.PreferredGpaRequest, snpOnly((_parts, plane) => reply(plane, (PAGE_BITS | GhcbMsr.PreferredGpaResponse.code) >>> 0, ALL_ONES), GhcbMsr.PreferredGpaRequest.name)),
  unchanged(GhcbMsr.PreferredGpaResponse),
  on(GhcbMsr.RegisterGpaRequest, snpOnly(registerGpa, GhcbMsr.RegisterGpaRequest.name)),
  unchanged(GhcbMsr.RegisterGpaResponse),
  on(GhcbMsr.PageStateChangeRequest, snpOnly(pageStateChange, GhcbMsr.PageStateChangeRequest.name)),
  unchanged(GhcbMsr.PageStateChangeResponse),
  on(GhcbMsr.RunVmplRequest, runVmpl),
  unchanged(GhcbMsr.RunVmplResponse),
  on(GhcbMsr.FeaturesRequest, ({ host }, plane) => reply(plane, (host.options.features << 12) | GhcbMsr.FeaturesResponse.code, host.options.features >>> 20)),
  unchanged(GhcbMsr.FeaturesResponse),
  on(GhcbMsr.TerminationRequest, ({ host }, plane) => {
    const { shift } = GhcbMsrTermination;
    return terminate(host.snp, plane, (plane.ghcbMsrLo >>> shift.reasonSet) & 0xf, (plane.ghcbMsrLo >>> shift.reasonCode) & 0xff);
  }),
  unchanged(GhcbMsr.HypervSpecialHypercall),
  unchanged(GhcbMsr.HypervFastCall),
  unchanged(GhcbMsr.HypervFastCallOutput),
  unchanged(GhcbMsr.HypervDebugPrint),
];

/** The protocol of guests that have no page yet: request and reply are the GHCB MSR itself. @spec GHCB 2.3.1 */
export class MsrProtocol {
  readonly #parts: EventParts;
  /** By code. */
  readonly #handlers = new Array<MsrHandler | null>(GHCB_MSR_CODE + 1).fill(null);

  constructor(parts: EventParts, bindings: readonly MsrBinding[] = msrBindings) {
    this.#parts = parts;
    for (const { row, run } of bindings) this.#handlers[row.code] = run;
  }

  /** Serves the request in the MSR of a VMPL, whose code is not 0. */
  serve(plane: SnpPlane): Answer {
    const { trace } = this.#parts.host.snp.machine.hooks;
    const { ghcbMsrLo, ghcbMsrHi, context } = plane;
    const run = this.#handlers[ghcbMsrLo & GHCB_MSR_CODE]!;
    const answer = run === null ? null : run(this.#parts, plane);
    if (trace !== null) trace.note(context, 'ghcbMsr', { requestLo: ghcbMsrLo, requestHi: ghcbMsrHi, replyLo: plane.ghcbMsrLo, replyHi: plane.ghcbMsrHi });
    return answer ?? context.vp.replies.resume();
  }
}
