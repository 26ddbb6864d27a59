import { HvApicAssist, HvVpAssistPage } from '@vmplanes/abi-hyperv';
import { MAX_PLANES, MAX_VPS, type PlainRecord, type PlainState, type PlaneContext } from '@vmplanes/engine';
import { ApicReg } from '@vmplanes/x86';
import { isEnabled, pageOf } from './page-register.ts';
import type { AssistPages, HvContext } from './ports.ts';

const APIC_ASSIST = HvVpAssistPage.at.apicAssist;
const NO_EOI_REQUIRED = HvApicAssist.mask.noEoiRequired;

/** Bits of what is kept for one VTL of one VP. */
const Flag = {
  /** Derived from the register. */
  Enabled: 1,
  /** The page was enabled before: its content stays from then on. */
  WasEnabled: 2,
  /** The guest was told that the interrupt in service needs no EOI, and has not answered yet. */
  Offered: 4,
} as const;

/** Saved form for one VTL of one VP. */
interface SavedPage {
  readonly at: number;
  readonly msr: bigint;
  readonly wasEnabled: boolean;
  readonly offered: boolean;
}

/**
 * The VP assist pages. The content lies in an overlay frame; while the page is disabled the hypervisor goes on using the
 * frame, unseen. The first enable clears it, later ones and moves keep it; or each enable does, or none, by option.
 * @spec TLFS Virtual Processors, Virtual Processor Assist Page
 */
export class AssistPageChapter implements AssistPages {
  readonly stateName = 'assist';
  // By VP index * 16 + VTL.
  readonly #msrs = new BigUint64Array(MAX_VPS * MAX_PLANES);
  readonly #flags = new Uint8Array(MAX_VPS * MAX_PLANES);
  /** Derived: byte of the content in the arena, -1 until it was asked for. Float64: the arena may be larger than 2 GiB. */
  readonly #bytes = new Float64Array(MAX_VPS * MAX_PLANES).fill(-1);

  constructor(readonly hv: HvContext) {}

  content(context: PlaneContext): number {
    const at = context.vp.index * MAX_PLANES + context.plane;
    const known = this.#bytes[at]!;
    return known >= 0 ? known : (this.#bytes[at] = this.hv.chapters.overlays.frameByte('assist', context.vp.index, context.plane));
  }

  isEnabled(context: PlaneContext): boolean {
    return (this.#flags[context.vp.index * MAX_PLANES + context.plane]! & Flag.Enabled) !== 0;
  }
  msr(context: PlaneContext): bigint {
    return this.#msrs[context.vp.index * MAX_PLANES + context.plane]!;
  }

  setMsr(context: PlaneContext, value: bigint): boolean {
    const { overlays } = this.hv.chapters;
    const index = context.vp.index * MAX_PLANES + context.plane;
    const enable = isEnabled(value);
    if (!overlays.isInSpace(pageOf(value))) return false;
    const at = overlays.place('assist', context.vp.index, context.plane, enable ? pageOf(value) : null);
    if (enable && at < 0) return false;
    this.#msrs[index] = value;
    const before = this.#flags[index]!;
    const { assistPageContent } = this.hv.options;
    const clears = assistPageContent === 'zeroFirst' ? (before & Flag.WasEnabled) === 0 : assistPageContent === 'zeroEach';
    if (enable && clears) this.hv.machine.arena.u8.fill(0, at, at + 4096);
    this.#flags[index] = enable ? before | Flag.Enabled | Flag.WasEnabled : before & ~Flag.Enabled;
    return true;
  }

  readU32(context: PlaneContext, offset: number): number {
    const at = this.content(context);
    return at < 0 ? 0 : this.hv.machine.arena.u32[(at + offset) >>> 2]!;
  }
  writeU32(context: PlaneContext, offset: number, value: number): void {
    const at = this.content(context);
    if (at >= 0) this.hv.machine.arena.u32[(at + offset) >>> 2] = value;
  }
  writeBytes(context: PlaneContext, offset: number, bytes: Uint8Array): void {
    const at = this.content(context);
    if (at >= 0) this.hv.machine.arena.u8.set(bytes, at + offset);
  }

  // -- EOI assist ----------------------------------------------------------------------------------------------------

  taken(context: PlaneContext, vector: number): void {
    const index = context.vp.index * MAX_PLANES + context.plane;
    if ((this.#flags[index]! & Flag.Enabled) === 0) return;
    const apic = this.hv.arch.apicOf(context);
    // A level-triggered interrupt needs the real EOI, and so does one that another waits behind: its end must deliver that one.
    const offers = !apic.block.test(ApicReg.tmr, vector) && apic.highestIrr() < 0;
    if (offers) this.#flags[index]! |= Flag.Offered;
    else this.#flags[index]! &= ~Flag.Offered;
    this.#setBit(context, offers ? NO_EOI_REQUIRED : 0);
  }

  entering(context: PlaneContext): void {
    const index = context.vp.index * MAX_PLANES + context.plane;
    if ((this.#flags[index]! & Flag.Offered) === 0) return;
    this.#settle(context, index);
    if ((this.#flags[index]! & Flag.Offered) === 0 || this.hv.arch.apicOf(context).highestIrr() < 0) return;
    // Something arrived since: the guest must say when it is done.
    this.#flags[index]! &= ~Flag.Offered;
    this.#setBit(context, 0);
  }

  left(context: PlaneContext): void {
    const index = context.vp.index * MAX_PLANES + context.plane;
    if ((this.#flags[index]! & Flag.Offered) !== 0) this.#settle(context, index);
  }

  /** A bit that the guest cleared is its EOI. */
  #settle(context: PlaneContext, index: number): void {
    if ((this.readU32(context, APIC_ASSIST) & NO_EOI_REQUIRED) !== 0) return;
    this.#flags[index]! &= ~Flag.Offered;
    this.hv.arch.apicOf(context).eoi();
  }

  ended(context: PlaneContext): void {
    const index = context.vp.index * MAX_PLANES + context.plane;
    if ((this.#flags[index]! & Flag.Offered) === 0) return;
    this.#flags[index]! &= ~Flag.Offered;
    // An EOI by the register. Unless the guest had answered the offer before: then this EOI means the interrupt below.
    if ((this.readU32(context, APIC_ASSIST) & NO_EOI_REQUIRED) === 0) this.hv.arch.apicOf(context).eoi();
    else this.#setBit(context, 0);
  }

  #setBit(context: PlaneContext, bit: number): void {
    this.writeU32(context, APIC_ASSIST, (this.readU32(context, APIC_ASSIST) & ~NO_EOI_REQUIRED) | bit);
  }

  // -- state -----------------------------------------------------------------------------------------------------------

  reset(): void {
    this.#msrs.fill(0n);
    this.#flags.fill(0);
    this.#bytes.fill(-1);
  }
  save(): PlainState {
    const pages: SavedPage[] = [];
    this.#flags.forEach((flags, at) => {
      const msr = this.#msrs[at]!;
      if (flags !== 0 || msr !== 0n) pages.push({ at, msr, wasEnabled: (flags & Flag.WasEnabled) !== 0, offered: (flags & Flag.Offered) !== 0 });
    });
    return { pages: pages.map((page) => ({ ...page })) };
  }
  restore(state: PlainState): void {
    this.reset();
    for (const { at, msr, wasEnabled, offered } of (state as PlainRecord)['pages'] as readonly (SavedPage & PlainRecord)[]) {
      this.#msrs[at] = msr;
      this.#flags[at] = (isEnabled(msr) ? Flag.Enabled : 0) | (wasEnabled ? Flag.WasEnabled : 0) | (offered ? Flag.Offered : 0);
    }
  }
}
