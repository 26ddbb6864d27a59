import { EXEC_RIGHTS, MAX_PLANES, MAX_VPS, NO_FRAME, type PlainRecord, type PlainState, Right, type Rights } from '@vmplanes/engine';
import type { HvContext, OverlayKind, Overlays } from './ports.ts';

/** What a guest may do with each kind of page, and whether each VP has its own. @spec TLFS Overlay Pages; TLFS Virtual Secure Mode, Private State */
const kinds: Readonly<Record<OverlayKind, { readonly id: number; readonly rights: Rights; readonly perVp: boolean }>> = {
  hypercall: { id: 0, rights: Right.Read | EXEC_RIGHTS, perVp: false },
  tsc: { id: 1, rights: Right.Read, perVp: false },
  assist: { id: 2, rights: Right.Read | Right.Write, perVp: true },
  simp: { id: 3, rights: Right.Read | Right.Write, perVp: true },
  siefp: { id: 4, rights: Right.Read | Right.Write, perVp: true },
};
const rightsById: readonly Rights[] = Object.values(kinds).sort((a, b) => a.id - b.id).map((k) => k.rights);
const PER_KIND = MAX_VPS * MAX_PLANES;
const NOWHERE = -1;

/** A page in a saved state: its key, its frame and where it lies; {@link NOWHERE} when it is not placed. */
interface SavedPage {
  readonly key: number;
  readonly frame: number;
  readonly gpn: number;
}

/**
 * The overlay pages of all VTLs. Each page has a frame of its own that is made at first use and keeps its content wherever the page lies,
 * or while it lies nowhere; the hypervisor reaches it by its frame and so never depends on what the guest does with the address.
 *
 * Several pages of a VTL may be programmed onto one guest page. TLFS leaves open which of them appears; here it is the one placed
 * first, and the others follow in their order as those before them leave.
 * @spec TLFS Overlay Pages
 */
export class OverlayChapter implements Overlays {
  readonly stateName = 'overlays';
  /** Frame of each page by key; {@link NO_FRAME} until first use. */
  readonly #frames = new Int32Array(rightsById.length * PER_KIND).fill(NO_FRAME);
  /** Keys of placed pages in the order they were placed, and their guest pages. */
  #placed: number[] = [];
  readonly #gpns = new Map<number, number>();

  constructor(readonly hv: HvContext) {}

  #key(kind: OverlayKind, vp: number, vtl: number): number {
    const { id, perVp } = kinds[kind];
    return id * PER_KIND + (perVp ? vp : 0) * MAX_PLANES + vtl;
  }

  /** The frame of a page, made and zeroed if needed; {@link NO_FRAME} when memory has none left. */
  #frame(key: number): number {
    const frame = this.#frames[key]!;
    return frame !== NO_FRAME ? frame : (this.#frames[key] = this.hv.machine.memory.frames.allocate());
  }

  place(kind: OverlayKind, vp: number, vtl: number, gpn: number | null): number {
    const key = this.#key(kind, vp, vtl);
    const { frames } = this.hv.machine.memory;
    const frame = gpn === null ? this.#frames[key]! : this.#frame(key);
    if (gpn !== null && (frame === NO_FRAME || !this.isInSpace(gpn))) return -1;
    if (this.#gpns.get(key) !== (gpn ?? undefined)) {
      this.#take(key);
      if (gpn !== null) this.#put(key, gpn);
    }
    return frame === NO_FRAME ? -1 : frames.byteOf(frame);
  }

  frameByte(kind: OverlayKind, vp: number, vtl: number): number {
    const frame = this.#frame(this.#key(kind, vp, vtl));
    return frame === NO_FRAME ? -1 : this.hv.machine.memory.frames.byteOf(frame);
  }

  isOverlay(vtl: number, gpn: number): boolean {
    return this.hv.machine.memory.overlays[vtl]!.find(gpn) >= 0;
  }

  isInSpace(gpn: number): boolean {
    return gpn < 2 ** (this.hv.arch.registers.features.physicalBits - 12);
  }

  /** The page that appears at a guest page of a VTL: the first placed there, or undefined. */
  #shown(vtl: number, gpn: number): number | undefined {
    return this.#placed.find((key) => key % MAX_PLANES === vtl && this.#gpns.get(key) === gpn);
  }

  #show(key: number): void {
    this.hv.machine.memory.placeOverlay(key % MAX_PLANES, this.#gpns.get(key)!, this.#frames[key]!, rightsById[Math.floor(key / PER_KIND)]!, true);
  }

  #put(key: number, gpn: number): void {
    const isFirst = this.#shown(key % MAX_PLANES, gpn) === undefined;
    this.#placed.push(key);
    this.#gpns.set(key, gpn);
    if (isFirst) this.#show(key);
  }

  #take(key: number): void {
    const gpn = this.#gpns.get(key);
    if (gpn === undefined) return;
    const vtl = key % MAX_PLANES;
    const wasShown = this.#shown(vtl, gpn) === key;
    this.#placed = this.#placed.filter((k) => k !== key);
    this.#gpns.delete(key);
    if (!wasShown) return;
    this.hv.machine.memory.takeOverlay(vtl, gpn);
    const next = this.#shown(vtl, gpn);
    if (next !== undefined) this.#show(next);
  }

  /** Takes every page away and forgets its content. */
  reset(): void {
    for (const key of [...this.#placed].reverse()) this.#take(key);
    this.#frames.forEach((frame) => {
      if (frame !== NO_FRAME) this.hv.machine.memory.frames.release(frame);
    });
    this.#frames.fill(NO_FRAME);
  }

  /** Frames and what is shown are saved with the memory of the machine; here is whose they are, in the order of placement. */
  save(): PlainState {
    const row = (key: number): SavedPage => ({ key, frame: this.#frames[key]!, gpn: this.#gpns.get(key) ?? NOWHERE });
    const idle: number[] = [];
    this.#frames.forEach((frame, key) => {
      if (frame !== NO_FRAME && !this.#gpns.has(key)) idle.push(key);
    });
    return { pages: [...this.#placed, ...idle].map(row) };
  }

  restore(state: PlainState): void {
    this.#frames.fill(NO_FRAME);
    this.#gpns.clear();
    this.#placed = [];
    for (const { key, frame, gpn } of (state as PlainRecord)['pages'] as readonly SavedPage[]) {
      this.#frames[key] = frame;
      if (gpn === NOWHERE) continue;
      this.#placed.push(key);
      this.#gpns.set(key, gpn);
    }
  }
}
