import { HvApicAssist, HvVpAssistPage } from '@vmplanes/abi-hyperv';
import { MAX_PLANES, type PlainRecord, type PlainState, type PlaneContext } from '@vmplanes/engine';
import { ApicReg } from '@vmplanes/x86';
import { isEnabled, pageOf } from './page-register.ts';
import type { AssistPages, HvContext } from './ports.ts';

const APIC_ASSIST = HvVpAssistPage.at.apicAssist;
const NO_EOI_REQUIRED = HvApicAssist.mask.noEoiRequired;

/** What is kept for one VTL of one VP. */
interface Page {
  msr: bigint;
  /** The page was enabled before: its content stays from then on. */
  wasEnabled: boolean;
  /** The guest was told that the interrupt in service needs no EOI, and has not answered yet. */
  offered: boolean;
}

/**
 * The VP assist pages. The content lies in an overlay frame; while the page is disabled the hypervisor goes on using the
 * frame, unseen. The first enable clears it, later ones and moves keep it.
 * @spec TLFS Virtual Processors, Virtual Processor Assist Page
 */
export class AssistPageChapter implements AssistPages {
  readonly stateName = 'assist';
  /** By VP index * 16 + VTL. */
  readonly #pages: Page[] = [];

  constructor(readonly hv: HvContext) {}

  #page(context: PlaneContext): Page {
    return (this.#pages[context.vp.index * MAX_PLANES + context.plane] ??= { msr: 0n, wasEnabled: false, offered: false });
  }
  /** Byte of the content in the arena, or -1 when memory has no frame left for it. */
  #content(context: PlaneContext): number {
    return this.hv.chapters.overlays.frameByte('assist', context.vp.index, context.plane);
  }

  isEnabled(context: PlaneContext): boolean {
    return isEnabled(this.#page(context).msr);
  }
  msr(context: PlaneContext): bigint {
    return this.#page(context).msr;
  }

  setMsr(context: PlaneContext, value: bigint): boolean {
    const { overlays } = this.hv.chapters;
    const page = this.#page(context);
    const enable = isEnabled(value);
    if (!overlays.isInSpace(pageOf(value))) return false;
    const at = overlays.place('assist', context.vp.index, context.plane, enable ? pageOf(value) : null);
    if (enable && at < 0) return false;
    page.msr = value;
    if (enable && !page.wasEnabled) {
      this.hv.machine.arena.u8.fill(0, at, at + 4096);
      page.wasEnabled = true;
    }
    return true;
  }

  readU32(context: PlaneContext, offset: number): number {
    const at = this.#content(context);
    return at < 0 ? 0 : this.hv.machine.arena.u32[(at + offset) >>> 2]!;
  }
  writeU32(context: PlaneContext, offset: number, value: number): void {
    const at = this.#content(context);
    if (at >= 0) this.hv.machine.arena.u32[(at + offset) >>> 2] = value;
  }
  writeBytes(context: PlaneContext, offset: number, bytes: Uint8Array): void {
    const at = this.#content(context);
    if (at >= 0) this.hv.machine.arena.u8.set(bytes, at + offset);
  }

  // -- EOI assist ----------------------------------------------------------------------------------------------------

  taken(context: PlaneContext, vector: number): void {
    const page = this.#pages[context.vp.index * MAX_PLANES + context.plane];
    if (page === undefined || !isEnabled(page.msr)) return;
    const apic = this.hv.arch.apicOf(context);
    // A level-triggered interrupt needs the real EOI, and so does one that another waits behind: its end must deliver that one.
    page.offered = !apic.block.test(ApicReg.tmr, vector) && apic.highestIrr() < 0;
    this.#setBit(context, page.offered ? NO_EOI_REQUIRED : 0);
  }

  entering(context: PlaneContext): void {
    const page = this.#pages[context.vp.index * MAX_PLANES + context.plane];
    if (page === undefined || !page.offered) return;
    this.#settle(context, page);
    if (!page.offered || this.hv.arch.apicOf(context).highestIrr() < 0) return;
    // Something arrived since: the guest must say when it is done.
    page.offered = false;
    this.#setBit(context, 0);
  }

  left(context: PlaneContext): void {
    const page = this.#pages[context.vp.index * MAX_PLANES + context.plane];
    if (page !== undefined && page.offered) this.#settle(context, page);
  }

  /** A bit that the guest cleared is its EOI. */
  #settle(context: PlaneContext, page: Page): void {
    if ((this.readU32(context, APIC_ASSIST) & NO_EOI_REQUIRED) !== 0) return;
    page.offered = false;
    this.hv.arch.apicOf(context).eoi();
  }

  ended(context: PlaneContext): void {
    const page = this.#pages[context.vp.index * MAX_PLANES + context.plane];
    if (page === undefined || !page.offered) return;
    page.offered = false;
    // An EOI by the register. Unless the guest had answered the offer before: then this EOI means the interrupt below.
    if ((this.readU32(context, APIC_ASSIST) & NO_EOI_REQUIRED) === 0) this.hv.arch.apicOf(context).eoi();
    else this.#setBit(context, 0);
  }

  #setBit(context: PlaneContext, bit: number): void {
    this.writeU32(context, APIC_ASSIST, (this.readU32(context, APIC_ASSIST) & ~NO_EOI_REQUIRED) | bit);
  }

  // -- state -----------------------------------------------------------------------------------------------------------

  reset(): void {
    this.#pages.length = 0;
  }
  save(): PlainState {
    return { pages: this.#pages.flatMap((page, at) => [{ at, ...page }]) };
  }
  restore(state: PlainState): void {
    this.#pages.length = 0;
    for (const { at, msr, wasEnabled, offered } of (state as PlainRecord)['pages'] as readonly (Page & { readonly at: number })[]) this.#pages[at] = { msr, wasEnabled, offered };
  }
}
