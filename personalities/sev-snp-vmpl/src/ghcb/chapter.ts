import { Ghcb as GhcbLayout, GHCB_MSR_CODE, GhcbMsr, GhcbMsrApResetHold } from '@vmplanes/abi-sev-snp';
import { type Answer, type Completion, HostError, type PlainState, type PlaneContext, type SharedCalls } from '@vmplanes/engine';
import type { Ghcb, SnpContext, SnpPlane } from '../ports.ts';
import { GhcbDispatcher } from './dispatcher.ts';
import { type ApRequest, createAp } from './events.ts';
import type { SavedFrame } from './frame.ts';
import { GuestRequestEvents } from './guest-requests.ts';
import { GhcbHost } from './host.ts';
import { HypervPage } from './hyperv-page.ts';
import { MsrProtocol, sevInformation } from './msr-protocol.ts';
import { type GhcbOptions, ghcbOptionsOf } from './options.ts';
import { PageStates } from './page-state.ts';
import type { EventParts } from './ports.ts';
import { Transfers } from './transfers.ts';

const DR7_RESET = 0x400;
/** Bits 63:12 of the reply to an AP reset hold that a SIPI ended. */
const SIPI_RESULT = 1;

/** The GHCB of every VMPL: MSR protocol and page protocol. @spec GHCB 2 to 4 */
export class GhcbChapter implements Ghcb {
  readonly stateName = 'ghcb';
  readonly host: GhcbHost;
  readonly #dispatcher: GhcbDispatcher;
  readonly #msr: MsrProtocol;
  readonly #transfers: Transfers;
  readonly #hyperv: HypervPage | null;

  /** @param sharedCalls - who serves Hyper-V calls in pages; null where nobody does. */
  constructor(snp: SnpContext, sharedCalls: SharedCalls | null = null, options: GhcbOptions = ghcbOptionsOf(snp)) {
    const host = new GhcbHost(snp, options);
    this.host = host;
    this.#transfers = new Transfers(host);
    const parts: EventParts = { host, pages: new PageStates(host), transfers: this.#transfers, requests: new GuestRequestEvents(host) };
    this.#hyperv = options.hasHypervUsages && sharedCalls !== null ? new HypervPage(host, sharedCalls) : null;
    this.#dispatcher = new GhcbDispatcher(parts, this.#hyperv);
    this.#msr = new MsrProtocol(parts);
  }

  exit(plane: SnpPlane): Answer {
    return (plane.ghcbMsrLo & GHCB_MSR_CODE) !== 0 ? this.#msr.serve(plane) : this.#dispatcher.serve(plane);
  }

  complete(plane: SnpPlane, completion: Completion): Answer | null {
    const { host } = this;
    const { context } = plane;
    const frame = host.frame(context.vp);
    const data: PlainState = completion.data;
    if (completion.kind === 'ghcb.again') return this.exit(plane);
    if (completion.kind === 'ghcb.ap-reset-hold') return this.#endHold(plane, (data as { readonly through: 'msr' | 'ghcb' }).through);
    frame.reopen(plane, host.subject(plane), (data as { readonly frame: SavedFrame }).frame);
    let answer: Answer | null = null;
    switch (completion.kind) {
      case 'ghcb.transfer':
        answer = this.#transfers.complete(frame, completion);
        break;
      case 'ghcb.inner':
        host.behalf.finish(frame, { ...(data as { readonly inner: Omit<Completion, 'reply'> }).inner, reply: completion.reply });
        break;
      case 'ghcb.ap-creation':
        if (completion.reply?.['create'] === true) host.snp.chapters.aps.makePlane((data as ApRequest).info1Lo, (data as ApRequest).info1Hi);
        createAp(host, frame, data as ApRequest);
        break;
      case 'ghcb.page':
        if (this.#hyperv === null) throw new HostError('Internal', 'sev-snp-vmpl: a call in a page, without who serves it');
        this.#hyperv.complete(frame, completion);
        return null;
      default:
        throw new HostError('Internal', `sev-snp-vmpl: unknown completion '${completion.kind}'`);
    }
    if (answer === null) host.show(frame);
    return answer;
  }

  /** The start-up message came: the reply says so. @spec GHCB 2.3.1, 4.1 */
  #endHold(plane: SnpPlane, through: 'msr' | 'ghcb'): null {
    if (through === 'msr') {
      plane.ghcbMsrLo = (GhcbMsr.ApResetHoldResponse.code | (SIPI_RESULT << GhcbMsrApResetHold.shift.result)) >>> 0;
      plane.ghcbMsrHi = 0;
      return null;
    }
    // The MSR still names the page of the request, because its owner waited.
    const gpa = plane.ghcbMsrHi * 2 ** 32 + plane.ghcbMsrLo;
    this.host.snp.machine.memory.access.writeU64(this.host.subject(plane), gpa + GhcbLayout.at.swExitInfo2, SIPI_RESULT, 0);
    return null;
  }

  // -- state ---------------------------------------------------------------------------------------------------------

  planeCreated(context: PlaneContext): void {
    this.planeReset(context, 'powerOn');
  }
  /**
   * The MSR has the reply to a request for SEV information, so that a guest knows versions and C-bit without asking. It goes with the VMSA: an INIT that leaves
   * that one leaves the MSR, too, which a processor in an AP reset hold needs for its reply. What the host keeps of DR7 is of the processor, and goes with every
   * reset. @spec GHCB 2.3.1; Linux arch/x86/kvm/svm/sev.c sev_es_vcpu_reset; Linux arch/x86/kvm/x86.c kvm_vcpu_reset
   */
  planeReset(context: PlaneContext, kind: string): void {
    this.host.dr7[this.host.dr7Index(context)] = DR7_RESET;
    if (kind === 'init') return;
    const plane = this.host.snp.chapters.switching.planeOf(context);
    [plane.ghcbMsrLo, plane.ghcbMsrHi] = sevInformation(this);
    plane.registeredGhcb = -1;
  }

  save(): PlainState {
    return { dr7: this.host.dr7.slice() };
  }
  restore(state: PlainState): void {
    this.host.dr7.set((state as { readonly dr7: Uint32Array }).dr7);
  }
}
