import { LAUNCH_VMSA_GPA, SevFeature, SnpLevel, SvmExit, Vmsa, VMSA_SIZE, VmsaEventType } from '@vmplanes/abi-sev-snp';
import { Arena, type FrameWatcher, type Machine, NO_FRAME, PAGE_SIZE, type PlainRecord, type PlainState, type PlaneContext, Schedule, type Subject, type WatchAnswer, watchKey } from '@vmplanes/engine';
import { ApicEvent, type LocalApic, X86 } from '@vmplanes/x86';
import type { SnpContext, SnpPlane, Vmsas } from '../ports.ts';
import { loadRegisters, movesTsc, storeRegisters } from './copy.ts';
import type { PlaneState } from './plane-state.ts';
import { TracedArea } from './traced-area.ts';
import { ControlRules, EntryRefusal } from './rules.ts';

const WATCHER = 'sev-snp-vmpl.vmsa';
const GUARDED = { write: true } as const;

const word = (field: keyof typeof Vmsa.at): number => Vmsa.at[field] / 4;
const EXIT_INFO1 = word('exitInfo1');
const EXIT_INFO2 = word('exitInfo2');
const EXIT_INT_INFO = word('exitIntInfo');
const NRIP = word('nrip');
const FEATURES = word('sevFeatures');
const VINTR = word('vintrCtrl');
const EXIT_CODE = word('exitCode');
const TOM = word('virtualTom');
const PCPU_ID = word('pcpuId');
const EVENT_INJ = word('eventInj');

// VINTR_CTRL, by half.
const TPR = 0xff;
const SHADOW = 1 << 10;
const NMI_MASK = 1 << 12;
const BUSY = 1 << 31;

const VALID = 1 << 31;
const HAS_ERROR = 1 << 11;
const TWO_32 = 2 ** 32;

/** Exceptions of the cell `exception.state`. */
const INJECTED = 2;

const has = (features: number, bit: number): boolean => ((features >>> bit) & 1) !== 0;

/**
 * Save areas: the registers of a VMPL are in its context while a processor runs from the area, and in the page otherwise. Every exit stores them and
 * every entry takes them up again, so that more privileged software reads and writes what it should. An area is never written while it is live: who tries waits
 * until its processor has left.
 * @spec APM vol. 2, 15.34.3, 15.36.8
 */
export class VmsaChapter implements Vmsas, FrameWatcher {
  readonly stateName = 'vmsas';
  flush: ((context: PlaneContext) => void) | null = null;
  readonly #snp: SnpContext;
  readonly #machine: Machine;
  readonly #rules: ControlRules;
  /** Areas of the host, outside of guest memory: one page per VP and VMPL. */
  readonly #hidden: Arena;
  readonly #planes: PlaneState[] = [];
  /** By VP index * 16 + VMPL, while a trace is recorded or replayed. */
  readonly #traced: (TracedArea | undefined)[] = [];
  /** Planes that are live. */
  #live = 0;
  /** Somebody waits for a plane to leave. */
  #waited = false;

  constructor(snp: SnpContext) {
    this.#snp = snp;
    this.#machine = snp.machine;
    const { maxVps, maxPlanes } = snp.machine.options;
    this.#hidden = new Arena(new ArrayBuffer(snp.level === SnpLevel.Sev ? VMSA_SIZE : maxVps * maxPlanes * VMSA_SIZE));
    this.#rules = new ControlRules(snp.arch, snp.options.cBit);
    snp.machine.memory.registerWatcher(WATCHER, this);
  }

  planeCreated(context: PlaneContext): void {
    const plane = this.#snp.chapters.switching.planeOf(context) as PlaneState;
    const at = this.#planes.findIndex((p) => p.context.vp === context.vp && p.context.plane === context.plane);
    if (at < 0) this.#planes.push(plane);
    else this.#planes[at] = plane;
  }

  /** Byte of the host's area of a VMPL. */
  #hiddenByte({ context }: SnpPlane): number {
    return (context.vp.index * this.#machine.options.maxPlanes + context.plane) * VMSA_SIZE;
  }
  #pagesOf(plane: SnpPlane): Arena {
    return plane.vmsa === LAUNCH_VMSA_GPA ? this.#hidden : this.#machine.arena;
  }

  launch(plane: SnpPlane, page: Uint8Array): void {
    this.#hidden.u8.set(page.subarray(0, VMSA_SIZE), this.#hiddenByte(plane));
    plane.vmsa = LAUNCH_VMSA_GPA;
    plane.isLive = false;
    plane.refusal = null;
  }

  release(plane: SnpPlane): void {
    this.#guard(plane as PlaneState, NO_FRAME);
    this.#traced[plane.context.vp.index * 16 + plane.context.plane]?.forget();
    if (plane.isLive) this.#left(plane as PlaneState);
  }

  // -- entry ---------------------------------------------------------------------------------------------------------

  entering(context: PlaneContext): string | null {
    if (this.#snp.level === SnpLevel.Sev) return null;
    const plane = this.#snp.chapters.switching.planeOf(context) as PlaneState;
    // It went on without leaving, or is about to begin anew, perhaps from another area.
    if (plane.isLive || this.#snp.arch.apicOf(context).latches.isPending(ApicEvent.init)) return null;
    const refusal = this.load(plane);
    if (refusal !== null) this.#stop(plane, refusal);
    return refusal;
  }

  /** A VMPL that cannot be entered stops; the one at VMPL0 waits to be started anew. A save area in use is no reason: it will be free again. */
  #stop(plane: PlaneState, refusal: string): void {
    plane.refusal = refusal;
    if (refusal === EntryRefusal.InUse) return;
    const { context } = plane;
    if (context.plane > 0) context.vp.setSchedule(context, Schedule.Stopped);
    else this.#snp.chapters.switching.park(plane);
  }

  check(plane: SnpPlane): string | null {
    return this.#place(plane as PlaneState) ?? this.#judge(plane as PlaneState);
  }

  /** Finds the area of a plane: fills `page` and guards its frame. @returns the rule that forbids an entry from it. */
  #place(plane: PlaneState): string | null {
    if (plane.vmsa < 0) return EntryRefusal.NoVmsa;
    if (plane.vmsa === LAUNCH_VMSA_GPA) {
      this.#guard(plane, NO_FRAME);
      plane.page = this.#hiddenByte(plane);
      return null;
    }
    const { memory } = this.#machine;
    const gpn = plane.vmsa / PAGE_SIZE;
    const slot = memory.slots.find(gpn);
    const entry = this.#snp.chapters.rmp.entry(gpn);
    if (slot === null || !entry.assigned || entry.immutable || entry.foreign) return EntryRefusal.NotAssigned;
    if (!entry.validated) return EntryRefusal.NotValidated;
    if (entry.large) return EntryRefusal.LargePage;
    if (!entry.vmsa) return EntryRefusal.NoVmsaBit;
    const frame = slot.backing.ensure(gpn - slot.first + slot.backingPage, true);
    if (frame === NO_FRAME) return EntryRefusal.NoMemory;
    const page = memory.frames.byteOf(frame);
    if (this.#live > 0 && this.#isLiveAt(page)) return EntryRefusal.InUse;
    this.#guard(plane, frame);
    plane.page = page;
    if (memory.access.onCallRead !== null) this.#tracedArea(plane).entering(this.#machine.arena, page, memory.access, plane.context.plane, plane.vmsa);
    return null;
  }

  #tracedArea({ context }: PlaneState): TracedArea {
    return (this.#traced[context.vp.index * 16 + context.plane] ??= new TracedArea());
  }

  /** What the content of the area says against an entry. */
  #judge(plane: PlaneState): string | null {
    const pages = this.#pagesOf(plane);
    const { context, page } = plane;
    const p = page >>> 2;
    const level = this.#rules.level(pages, page, context.plane);
    if (level !== null) return level;
    const features = pages.u32[p + FEATURES]!;
    const refused = this.#snp.chapters.features.refuses(features, pages.u32[p + FEATURES + 1]!);
    if (refused !== null) return refused;
    if (has(features, SevFeature.AlternateInjection) && (pages.u32[p + VINTR + 1]! & BUSY) !== 0) return EntryRefusal.IdleRequired;
    return this.#rules.control(this.#machine.arena, context.base, pages, page);
  }

  load(plane: SnpPlane): string | null {
    const state = plane as PlaneState;
    const refusal = this.check(state);
    if (refusal !== null) return refusal;
    const { context, page } = state;
    const { arena } = this.#machine;
    const pages = this.#pagesOf(plane);
    const { u32 } = pages;
    const p = page >>> 2;
    const features = u32[p + FEATURES]!;
    plane.featuresLo = features;
    plane.featuresHi = u32[p + FEATURES + 1]!;
    plane.virtualTom = u32[p + TOM + 1]! * TWO_32 + u32[p + TOM]!;
    const isSecureTsc = has(features, SevFeature.SecureTsc);
    const apic = this.#snp.arch.apicOf(context);
    const moves = isSecureTsc && movesTsc(arena, context.base, pages, page);
    if (moves) apic.timer.settle();
    loadRegisters(arena, context.base, pages, page, has(features, SevFeature.DebugSwap), isSecureTsc);
    if (moves) {
      apic.timer.tscChanged();
      apic.port.changed(apic);
    }
    this.#flushRule(context, u32, p);
    plane.isLive = true;
    this.#live++;
    plane.refusal = null;
    if (has(features, SevFeature.AlternateInjection)) this.#enterAlternate(context, u32, p, apic);
    this.#machine.hooks.preemption?.at('vmsa:loaded', context.vp);
    return null;
  }

  /** A processor id of 0, or of another processor, asks for a flush of the translations of the VMPL. @spec APM vol. 2, 15.36.17 */
  #flushRule(context: PlaneContext, u32: Uint32Array, p: number): void {
    const id = context.vp.index + 1;
    if (u32[p + PCPU_ID] === id && u32[p + PCPU_ID + 1] === 0) return;
    this.flush?.(context);
    u32[p + PCPU_ID] = id;
    u32[p + PCPU_ID + 1] = 0;
  }

  // -- alternate injection -------------------------------------------------------------------------------------------

  /** Priority, shadow, NMI mask and the event to be injected come from the area. @spec APM vol. 2, 15.36.16 */
  #enterAlternate(context: PlaneContext, u32: Uint32Array, p: number, apic: LocalApic): void {
    const cells = this.#machine.arena.u32;
    const b = context.base >>> 2;
    const control = u32[p + VINTR]!;
    apic.setCr8(control & 15);
    cells[b + X86.interruptShadow / 4] = (control & SHADOW) === 0 ? 0 : cells[b + X86.interruptShadow / 4]! || 2;
    cells[b + X86['nmi.blocked'] / 4] = (control & NMI_MASK) === 0 ? 0 : 1;
    const event = u32[p + EVENT_INJ]!;
    if ((event & VALID) !== 0) {
      this.#inject(context, event, u32[p + EVENT_INJ + 1]!);
      u32[p + EVENT_INJ] = event & ~VALID;
    }
    this.#machine.eventsChanged(context);
  }

  #inject(context: PlaneContext, event: number, errorCode: number): void {
    const cells = this.#machine.arena.u32;
    const b = context.base >>> 2;
    const vector = event & 0xff;
    switch ((event >>> 8) & 7) {
      case VmsaEventType.Nmi:
        cells[b + X86['nmi.injected'] / 4] = 1;
        cells[b + X86['nmi.blocked'] / 4] = 1;
        break;
      case VmsaEventType.Exception:
        cells[b + X86['exception.state'] / 4] = INJECTED;
        cells[b + X86['exception.vector'] / 4] = vector;
        cells[b + X86['exception.hasErrorCode'] / 4] = (event & HAS_ERROR) === 0 ? 0 : 1;
        cells[b + X86['exception.errorCode'] / 4] = errorCode;
        cells[b + X86['exception.hasPayload'] / 4] = 0;
        break;
      default:
        cells[b + X86['interrupt.injected'] / 4] = 1;
        cells[b + X86['interrupt.vector'] / 4] = vector;
        cells[b + X86['interrupt.soft'] / 4] = ((event >>> 8) & 7) === VmsaEventType.Software ? 1 : 0;
    }
  }

  #leaveAlternate(context: PlaneContext, u32: Uint32Array, p: number): void {
    const cells = this.#machine.arena.u32;
    const b = context.base >>> 2;
    const shadow = cells[b + X86.interruptShadow / 4] === 0 ? 0 : SHADOW;
    const masked = cells[b + X86['nmi.blocked'] / 4] === 0 ? 0 : NMI_MASK;
    u32[p + VINTR] = (u32[p + VINTR]! & ~(TPR | SHADOW | NMI_MASK)) | this.#snp.arch.apicOf(context).cr8 | shadow | masked;
    u32[p + VINTR + 1] = u32[p + VINTR + 1]! | BUSY;
    // The event that was on its way is software's to inject again.
    if ((u32[p + EXIT_INT_INFO]! & VALID) === 0) return;
    cells[b + X86['interrupt.injected'] / 4] = cells[b + X86['nmi.injected'] / 4] = 0;
    if (cells[b + X86['exception.state'] / 4] === INJECTED) cells[b + X86['exception.state'] / 4] = 0;
  }

  // -- exit ----------------------------------------------------------------------------------------------------------

  store(plane: SnpPlane, exitCode: number, info1Lo: number, info1Hi: number, info2Lo: number, info2Hi: number): void {
    if (!plane.isLive) return;
    const { context, page } = plane as PlaneState;
    const { arena } = this.#machine;
    this.#machine.hooks.preemption?.at('vmsa:leaving', context.vp);
    const pages = this.#pagesOf(plane);
    storeRegisters(arena, context.base, pages, page, has(plane.featuresLo, SevFeature.DebugSwap));
    const { u32 } = pages;
    const p = page >>> 2;
    u32[p + EXIT_CODE] = exitCode;
    u32[p + EXIT_CODE + 1] = 0;
    u32[p + EXIT_INFO1] = info1Lo;
    u32[p + EXIT_INFO1 + 1] = info1Hi;
    u32[p + EXIT_INFO2] = info2Lo;
    u32[p + EXIT_INFO2 + 1] = info2Hi;
    this.#storeEvent(arena.u32, context.base >>> 2, u32, p);
    const rip = (context.base + X86.rip) >>> 2;
    const next = arena.u32[rip]! + context.instructionLength;
    u32[p + NRIP] = next;
    u32[p + NRIP + 1] = arena.u32[rip + 1]! + (next >= TWO_32 ? 1 : 0);
    if (has(plane.featuresLo, SevFeature.AlternateInjection)) this.#leaveAlternate(context, u32, p);
    this.#left(plane as PlaneState);
  }

  /** GUEST_EXITINTINFO: what was on its way into the guest. */
  #storeEvent(cells: Uint32Array, b: number, u32: Uint32Array, p: number): void {
    let event = 0;
    let errorCode = 0;
    if (cells[b + X86['exception.state'] / 4] === INJECTED) {
      const hasError = cells[b + X86['exception.hasErrorCode'] / 4] !== 0;
      event = VALID | (VmsaEventType.Exception << 8) | (hasError ? HAS_ERROR : 0) | cells[b + X86['exception.vector'] / 4]!;
      if (hasError) errorCode = cells[b + X86['exception.errorCode'] / 4]!;
    } else if (cells[b + X86['nmi.injected'] / 4] !== 0) event = VALID | (VmsaEventType.Nmi << 8) | 2;
    else if (cells[b + X86['interrupt.injected'] / 4] !== 0) {
      const type = cells[b + X86['interrupt.soft'] / 4] !== 0 ? VmsaEventType.Software : VmsaEventType.External;
      event = VALID | (type << 8) | cells[b + X86['interrupt.vector'] / 4]!;
    }
    u32[p + EXIT_INT_INFO] = event;
    u32[p + EXIT_INT_INFO + 1] = errorCode;
  }

  /** The processor has left: who waits to write the area may go on. */
  #left(plane: PlaneState): void {
    if (plane.vmsa !== LAUNCH_VMSA_GPA && this.#machine.memory.access.onCallRead !== null) this.#tracedArea(plane).left(this.#machine.arena, plane.page);
    plane.isLive = false;
    plane.page = -1;
    this.#live--;
    if (!this.#waited) return;
    this.#waited = false;
    this.#machine.release(watchKey(WATCHER));
  }

  /** Whatever ended the run: for the guest it is an interrupt of the host's. */
  paused(context: PlaneContext): void {
    this.#interrupt(context);
  }
  switched(from: PlaneContext): void {
    this.#interrupt(from);
  }
  #interrupt(context: PlaneContext): void {
    const plane = this.#snp.chapters.switching.planeOf(context);
    if (plane.isLive) this.store(plane, SvmExit.Intr, 0, 0, 0, 0);
  }

  // -- the pages -----------------------------------------------------------------------------------------------------

  #isLiveAt(page: number): boolean {
    return this.#planes.some((p) => p.isLive && p.vmsa !== LAUNCH_VMSA_GPA && p.page === page);
  }

  isInUse(gpn: number): boolean {
    return this.#live > 0 && this.#planes.some((p) => p.isLive && p.vmsa === gpn * PAGE_SIZE);
  }

  #guard(plane: PlaneState, frame: number): void {
    if (plane.frame === frame) return;
    const { memory } = this.#machine;
    if (plane.frame !== NO_FRAME) memory.unwatchFrame(plane.frame, GUARDED, WATCHER);
    if (frame !== NO_FRAME) memory.watchFrame(frame, GUARDED, WATCHER);
    plane.frame = frame;
  }

  /** A write to a guarded page: it waits while another processor runs from it. One's own area is overwritten at the next exit anyway. */
  accessed(frame: number, _subject: Subject): WatchAnswer {
    if (this.#live === 0) return 'allow';
    const writer = this.#machine.memory.dirty.currentVp;
    const page = this.#machine.memory.frames.byteOf(frame);
    const isHeld = this.#planes.some((p) => p.isLive && p.page === page && p.vmsa !== LAUNCH_VMSA_GPA && p.context.vp.index !== writer);
    if (isHeld) this.#waited = true;
    return isHeld ? 'hold' : 'allow';
  }

  word(plane: SnpPlane, offset: number): number {
    return this.#pagesOf(plane).u32[((plane as PlaneState).page + offset) >>> 2]!;
  }
  setWord(plane: SnpPlane, offset: number, value: number): void {
    this.#pagesOf(plane).u32[((plane as PlaneState).page + offset) >>> 2] = value;
  }

  /** Byte of the arena of a field in a private page; -1 where there is none. */
  #fieldByte(gpa: number, offset: number): number {
    const gpn = Math.floor(gpa / PAGE_SIZE);
    const { memory } = this.#machine;
    const slot = memory.slots.find(gpn);
    if (slot === null || !this.#snp.chapters.rmp.entry(gpn).assigned) return -1;
    const frame = slot.backing.ensure(gpn - slot.first + slot.backingPage, true);
    return frame === NO_FRAME ? -1 : memory.frames.byteOf(frame) + offset;
  }
  read(gpa: number, offset: number): bigint {
    const at = this.#fieldByte(gpa, offset);
    return at < 0 ? 0n : this.#machine.arena.view.getBigUint64(at, true);
  }
  write(gpa: number, offset: number, value: bigint): void {
    const at = this.#fieldByte(gpa, offset);
    if (at >= 0) this.#machine.arena.view.setBigUint64(at, value, true);
  }

  // -- state ---------------------------------------------------------------------------------------------------------

  broken(): readonly string[] {
    const live = this.#planes.filter((p) => p.isLive);
    const found = live.length === this.#live ? [] : [`${live.length} VMPLs run from their save areas, ${this.#live} are counted`];
    for (const p of live) if (p.context.vp.running !== p.context.plane) found.push(`VP ${p.context.vp.index} VMPL${p.context.plane} runs from its save area, but does not run`);
    return found;
  }

  save(): PlainState {
    const pages: { readonly vp: number; readonly vmpl: number; readonly page: Uint8Array }[] = [];
    for (const plane of this.#planes) {
      if (plane.vmsa !== LAUNCH_VMSA_GPA) continue;
      const at = this.#hiddenByte(plane);
      pages.push({ vp: plane.context.vp.index, vmpl: plane.context.plane, page: this.#hidden.u8.slice(at, at + VMSA_SIZE) });
    }
    return { pages, waited: this.#waited };
  }
  restore(state: PlainState): void {
    const s = state as PlainRecord;
    for (const row of s['pages'] as readonly PlainRecord[]) {
      const at = ((row['vp'] as number) * this.#machine.options.maxPlanes + (row['vmpl'] as number)) * VMSA_SIZE;
      this.#hidden.u8.set(row['page'] as Uint8Array, at);
    }
    this.#waited = s['waited'] as boolean;
    this.#live = this.#planes.filter((p) => p.isLive).length;
  }
}
