import type { Answer, Completion, Machine, MemoryFaultExit, PlaneContext, PlainState, Vp } from '@vmplanes/engine';
import type { CpuidExit, MsrExit, X86Arch } from '@vmplanes/x86';
import type { CpuidResults } from './cpuid-results.ts';
import type { CallIo } from './dispatcher/call-io.ts';
import type { FlushPort } from './flush.ts';
import type { DeviceInterrupts } from './interrupt-calls.ts';
import type { IoIntercepts } from './io-intercepts.ts';
import type { HvOptions } from './options.ts';
import type { ProcessorIntercepts } from './processor-intercepts.ts';
import type { InterceptMessages } from './intercept-messages.ts';
import type { TlbLocks } from './tlb-locks.ts';

// What the chapters of the personality offer each other. A VTL is the plane of the same number; a chapter keeps its own
// state by (VP, VTL) and saves it under its own name.

/** What every chapter is made from. */
export interface HvContext {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly options: HvOptions;
  /** Filled by the composition before any exit is handled. */
  readonly chapters: HvChapters;
  /** Puts the partition back into its state after creation. @returns the answer for the exit of the VTL that asked. */
  resetPartition(context: PlaneContext): Answer;
  /** An access of a VTL, by an instruction or for its call, was refused: an intercept to the VTL that protects the page, or an exit. */
  memoryRefused(context: PlaneContext, exit: MemoryFaultExit): Answer;
}

/** Key of those who wait until the translations of a VTL of a VP are no longer locked: released with the last lock. */
export const tlbLockKey = (vp: number, vtl: number): string => `hv-tlb:${vp}:${vtl}`;

/** The chapters of one machine, by what the specification calls them. */
export interface HvChapters {
  readonly hypercalls: Hypercalls;
  readonly msrs: Msrs;
  readonly cpuid: Cpuid;
  readonly vsm: Vsm;
  readonly switching: Switching;
  readonly protections: Protections;
  readonly intercepts: Intercepts;
  readonly vina: Vina;
  readonly events: PendingEvents;
  readonly assist: AssistPages;
  readonly overlays: Overlays;
  readonly synic: Synic;
  readonly timers: SyntheticTimers;
  readonly clocks: ReferenceTime;
  readonly ioIntercepts: IoIntercepts;
  readonly processorIntercepts: ProcessorIntercepts;
}

/** A chapter with state. */
export interface Chapter {
  readonly stateName: string;
  /** A VTL was enabled on a VP: make its state. */
  vtlEnabled?(context: PlaneContext): void;
  /** Back to the state after creation: partition reset. */
  reset(): void;
  save(): PlainState;
  restore(state: PlainState): void;
}

/** The hypercall ABI. @spec TLFS, Hypercall Interface */
export interface Hypercalls extends Chapter {
  /** Answers VMCALL or VMMCALL of a plane; the registers of its context are the operands. */
  call(context: PlaneContext): Answer;
  /** Answers a call that came another way, such as through a page shared with the host. The mode of the caller is not looked at. */
  callThrough(context: PlaneContext, io: CallIo): Answer;
  /** Finishes a call that left to the VMM. */
  complete(context: PlaneContext, completion: Completion): void;
  /** The same for a call that came another way: the instruction is its owner's to retire. */
  completeThrough(context: PlaneContext, completion: Completion, io: CallIo): void;
  /** Told of flushes, by whatever keeps translations; null while nothing does. */
  flushPort: FlushPort | null;
  /** Where guests want the interrupts of devices. */
  readonly devices: DeviceInterrupts;
  /** GUEST_OS_ID of a VTL. */
  guestOsId(vtl: number): bigint;
  /** Zero disables the hypercall page of the VTL, too. */
  setGuestOsId(vtl: number, value: bigint): void;
  /** HYPERCALL of a VTL. */
  hypercallMsr(vtl: number): bigint;
  /** @returns false when the value is #GP: locked, or a page beyond the address space. */
  setHypercallMsr(vtl: number, value: bigint): boolean;
}

/** Synthetic MSRs. */
export interface Msrs extends Chapter {
  access(context: PlaneContext, exit: MsrExit): Answer;
  /** For Get/SetVpRegisters and host tools: the instance of any VTL of any VP. @returns null when the read is #GP, the value otherwise. */
  read(context: PlaneContext, index: number): bigint | null;
  /** The guest may see that its counter is invariant: it needs not ask, or it has asked. */
  isTscInvariantShown(context: PlaneContext): boolean;
  /** Stores a value; the asking forms (RESET, crash notification) only act on {@link access}. @returns false when the write is #GP. */
  write(context: PlaneContext, index: number, value: bigint): boolean;
}

export interface Cpuid extends Chapter {
  /** EAX, EBX, ECX and EDX of a leaf of the interface. */
  leaf(leaf: number): readonly number[];
  /** What higher VTLs have registered. */
  readonly results: CpuidResults;
  answer(context: PlaneContext, exit: CpuidExit): Answer;
  /** What it would give: EAX, EBX, ECX and EDX, borrowed. */
  resultOf(context: PlaneContext, exit: CpuidExit): Uint32Array;
}

/** Partition-wide and per-VP VSM state: which VTLs are enabled, configuration registers. @spec TLFS, Virtual Secure Mode */
export interface Vsm extends Chapter {
  /** VTLs enabled on the partition, bit n for VTL n; bit 0 always. */
  readonly enabledVtls: number;
  /** VTLs enabled with MBEC for them. */
  readonly mbecVtls: number;
  /** The same as the masks of the registers name them. */
  readonly mbecEnabledVtls: number;
  /** Enables a VTL for the partition. @param mbec - VTLs below it get split execute rights. */
  enable(vtl: number, mbec: boolean): void;
  /** The highest VTL that VTL2 leaves its guest, VTL0 and VTL1. */
  readonly guestMaximumVtl: number;
  /** Writes GuestVsmPartitionConfig. @returns a status. */
  setGuestMaximumVtl(value: bigint): number;
  /** The highest VTL that the partition may enable, as VTL `vtl` is told. */
  maximumVtlFor(vtl: number): number;
  /** The VTL may protect memory of those below it. */
  isProtecting(vtl: number): boolean;
  /** Execute rights below `vtl` are split. */
  isMbecBelow(vtl: number): boolean;
  /** A VTL above `vtl` forbids it to start processors. */
  isStartupDenied(vtl: number): boolean;
  /** An enabled VTL wants memory zeroed before a reset. */
  readonly zeroesMemory: boolean;
  /** VTLs enabled on a VP. */
  enabledOn(vp: Vp): number;
  /** VsmPartitionConfig of a VTL. */
  partitionConfig(vtl: number): bigint;
  /** @returns a status. */
  writePartitionConfig(vtl: number, value: bigint): number;
  /** Who holds flushes back. */
  readonly locks: TlbLocks;
  /** CR intercept control and masks of the instance that `vtl` holds on `vp`. */
  crIntercepts(vp: Vp, vtl: number): CrIntercepts;
  /** Next VTL above or below that is enabled on the VP, or -1. */
  above(vp: Vp, vtl: number): number;
  below(vp: Vp, vtl: number): number;
  /** The VP's translations of `vtl` are locked by a higher VTL. */
  isTlbLocked(vp: Vp, vtl: number): boolean;
  /** VTL return: every lock that `vtl` holds on this VP ends, waiters go on. */
  releaseTlbLocks(vp: Vp, vtl: number): void;
}

export interface CrIntercepts {
  control: number;
  cr0Mask: bigint;
  cr4Mask: bigint;
  miscEnableMask: bigint;
}

/** VTL call, return and entry. @spec TLFS, Virtual Secure Mode: VTL Call, VTL Return, VTL Entry */
export interface Switching {
  /** Code 0x11. */
  vtlCall(context: PlaneContext): Answer;
  /** Code 0x12. */
  vtlReturn(context: PlaneContext): Answer;
  /** Bookkeeping when the VP went from one VTL to another: entry reason, prefilled and restored registers. */
  switched(from: PlaneContext, to: PlaneContext, reason: string): void;
}

/** Reasons recorded in the assist page. @spec TLFS HV_VP_VTL_CONTROL */
export const EntryReason = { Reserved: 0, VtlCall: 1, Interrupt: 2, Intercept: 3 } as const;
export type EntryReason = (typeof EntryReason)[keyof typeof EntryReason];

/** Names of the switches this personality asks for, as traces show them. */
export const SwitchReason = { VtlCall: 'vtl-call', VtlReturn: 'vtl-return', Interrupt: 'interrupt', Intercept: 'intercept', Start: 'start-vp' } as const;

/** Memory protections of lower VTLs. @spec TLFS, Virtual Secure Mode: Memory Access Protections */
export interface Protections extends Chapter {
  /** Gives all VTLs below `owner` rights to one page, as far as the VTLs above agree. @param rights - as permission tables have them. @returns a status. */
  modify(owner: number, gpn: number, rights: number): number;
  /** The default mask of `owner` took effect. */
  setDefault(owner: number, rights: number): void;
  /** Rights to a page that one VTL leaves those below it. */
  rightsFrom(owner: number, gpn: number): number;
  /** VTLs and pages whose table is not the intersection of what the VTLs above grant; for the invariants. */
  differences(): readonly string[];
  /** The VTL whose protection refused an access of `vtl`: the lowest that denies; -1 when none did. */
  deniedBy(vtl: number, gpn: number, rights: number): number;
}

/** Secure intercepts. @spec TLFS, Virtual Secure Mode: Secure Interception */
export interface Intercepts extends Chapter {
  /** Makes the messages. */
  readonly messages: InterceptMessages;
  /**
   * Hands a message about `context` to VTL `to` of the same VP.
   * @param message - 256 bytes, borrowed.
   * @returns the answer for the exit: the lower VTL is held and the higher entered, or a fault when it cannot be told.
   */
  deliver(context: PlaneContext, to: number, message: Uint8Array): Answer;
  /** An intercept message that waited in a buffer is in the slot of `context`, the VTL it was for. */
  delivered(context: PlaneContext): void;
  /** SINTs of `context` that a higher VTL asked about can take a message, one bit each. @spec TLFS HV_DELIVERABILITY_NOTIFICATIONS_REGISTER */
  sintsReady(context: PlaneContext, sints: number): void;
  /** A VTL was entered: VTLs below that wait for it to look at an intercept may go on when it returns. */
  entered(context: PlaneContext): void;
  /** Tells a VTL something about a lower one that goes on. @returns whether it will be told. */
  notify(context: PlaneContext, to: number, message: Uint8Array): boolean;
  /** A lower VTL of the VP waits until an intercept of it was looked at. */
  isWaiting(context: PlaneContext): boolean;
  /** Ends that wait. */
  release(context: PlaneContext): void;
  /** Sentences for what does not hold between this chapter and the planes. */
  broken(): readonly string[];
}

/** Events that a higher VTL gave a lower one, and what it wants to be told of it. @spec TLFS Virtual Secure Mode; openvmm vm/hv1/hvdef/src/lib.rs */
export interface PendingEvents extends Chapter {
  /** The two halves of the event that waits for the next entry of a VTL: 16 bytes each. */
  read(context: PlaneContext, half: 0 | 1): bigint;
  /** @returns a status. */
  write(context: PlaneContext, half: 0 | 1, value: bigint): number;
  /** The VTL is about to run: takes the event. */
  entering(context: PlaneContext): void;
  notifications(context: PlaneContext): bigint;
  /** @param by - VTL to be told. @returns a status. */
  setNotifications(context: PlaneContext, by: number, value: bigint): number;
  /** SINTs that were asked about can take a message. */
  sintsReady(context: PlaneContext, sints: number): void;
  /** Looks whether something that was asked about a VTL has come true. */
  evaluate(context: PlaneContext): void;
}

/** Virtual interrupt notification assist. @spec TLFS, Virtual Secure Mode: Virtual Interrupt Notification Assist */
export interface Vina extends Chapter {
  read(vp: Vp, vtl: number): bigint;
  /** @returns a status. */
  write(vp: Vp, vtl: number, value: bigint): number;
  /** Looks whether lower VTLs have something to announce to the running one. */
  evaluate(context: PlaneContext): void;
  /** The VTL is entered: automatic reset. */
  entered(context: PlaneContext): void;
  /** The VTL has returned: automatic reset, where that is when it happens. */
  left(context: PlaneContext): void;
}

/** Fields of the VP assist page, in the guest's page or kept inside while it is disabled. @spec TLFS HV_VP_ASSIST_PAGE */
export interface AssistPages extends Chapter {
  isEnabled(context: PlaneContext): boolean;
  msr(context: PlaneContext): bigint;
  /** @returns false when the value is #GP. */
  setMsr(context: PlaneContext, value: bigint): boolean;
  /** Byte offset of the content in the arena, whether or not the page is enabled; -1 when memory has no frame left for it. */
  content(context: PlaneContext): number;
  readU32(context: PlaneContext, offset: number): number;
  writeU32(context: PlaneContext, offset: number, value: number): void;
  writeBytes(context: PlaneContext, offset: number, bytes: Uint8Array): void;
  /** The VTL took a vector: offers it to end the interrupt without EOI where that is possible. */
  taken(context: PlaneContext, vector: number): void;
  /** A vector of the VTL left service. */
  ended(context: PlaneContext): void;
  /** The VTL is about to run: an open offer that another interrupt forbids is taken back. */
  entering(context: PlaneContext): void;
  /** The VTL ran: a bit that it cleared is its EOI. */
  left(context: PlaneContext): void;
}

/** Kinds of overlay pages. */
export type OverlayKind = 'hypercall' | 'assist' | 'simp' | 'siefp' | 'tsc';

/** Overlay pages, private to a VTL: they hide the page under them for that VTL only. @spec TLFS, Overlay Pages */
export interface Overlays extends Chapter {
  /**
   * Puts the page of (VP, VTL, kind) at a guest page, or takes it away. `hypercall` and `tsc` are one for all VPs: `vp` is ignored.
   * @param gpn - null takes it away; its content stays.
   * @returns byte offset of its frame in the arena; -1 when it cannot be placed (outside the address space, no memory: nothing changed) or
   *   was taken away before it had a frame.
   */
  place(kind: OverlayKind, vp: number, vtl: number, gpn: number | null): number;
  /** Byte offset of the frame in the arena: made at first use, zeroed, kept when it moves. */
  frameByte(kind: OverlayKind, vp: number, vtl: number): number;
  /** True when a page shows an overlay to a VTL. */
  isOverlay(vtl: number, gpn: number): boolean;
  /** True for a page number inside the guest physical address space. */
  isInSpace(gpn: number): boolean;
}

/** Synthetic interrupt controller of each (VP, VTL). @spec TLFS, Inter-Partition Communication */
export interface Synic extends Chapter {
  /**
   * Posts a message to a slot.
   * @param message - 256 bytes, borrowed.
   * @param queue - keep it in a buffer while the slot is in use.
   * @returns `delivered`; `busy` when the slot is in use (the message is in a buffer if asked for); `full` when no buffer is left;
   *   `unavailable` when SynIC or page are off, the SINT is masked or there is no such SINT.
   */
  post(context: PlaneContext, sint: number, message: Uint8Array, queue: boolean): 'delivered' | 'busy' | 'full' | 'unavailable';
  /** SINTs that would take a message now, one bit each. */
  readySints(context: PlaneContext): number;
  /** SINTs of a VTL whose readiness a higher VTL waits to be told of, one bit each. */
  wantedSints(context: PlaneContext): number;
  /** Replaces them. Each that is ready, now or later, is told once to {@link Intercepts.sintsReady} and forgotten. */
  setWantedSints(context: PlaneContext, sints: number): void;
  /** Sets an event flag. @returns a status: 0, 5 (no such SINT or flag) or 0x18 (off or masked). */
  signal(context: PlaneContext, sint: number, flag: number): number;
  /** After {@link signal}: the flag was clear before. */
  readonly wasNew: boolean;
  /** Raises a vector in the APIC of the VTL; with `autoEoi` it ends when it is taken. */
  raise(context: PlaneContext, vector: number, autoEoi: boolean): void;
  /** A slot was freed or a vector ended: tries queued messages and held timers again. Writes of EOM end here. */
  retry(context: PlaneContext): void;
  scontrol(context: PlaneContext): bigint;
  setScontrol(context: PlaneContext, value: bigint): void;
  simp(context: PlaneContext): bigint;
  /** @returns false when the value is #GP; so for the others. */
  setSimp(context: PlaneContext, value: bigint): boolean;
  siefp(context: PlaneContext): bigint;
  setSiefp(context: PlaneContext, value: bigint): boolean;
  sint(context: PlaneContext, n: number): bigint;
  setSint(context: PlaneContext, n: number, value: bigint): boolean;
}

/** Four synthetic timers per (VP, VTL). @spec TLFS, Timers */
export interface SyntheticTimers extends Chapter {
  /** Machine time of the earliest due timer of a VTL, in ticks. */
  deadline(context: PlaneContext): number;
  /** Fires what is due. */
  expire(context: PlaneContext, now: number): void;
  /** Reference time was set anew: due times count from now on. */
  timeChanged(context: PlaneContext): void;
  /** A slot may be free: posts messages of timers that expired while it was not. */
  retry(context: PlaneContext): void;
  config(context: PlaneContext, n: number): bigint;
  setConfig(context: PlaneContext, n: number, value: bigint): void;
  count(context: PlaneContext, n: number): bigint;
  setCount(context: PlaneContext, n: number, value: bigint): void;
}

/** Reference counter and TSC page. @spec TLFS, Timers: Partition Reference Time */
export interface ReferenceTime extends Chapter {
  /** 100 ns units since the partition was made. */
  now(vp: Vp): bigint;
  /** First machine tick at which the counter reads at least a value; Infinity beyond 2^53. */
  ticksAt(reference: bigint): number;
  /**
   * Sets the counter and the TSCs of all VPs and VTLs, as after the resume of a suspended partition.
   * @param sequence - of the TSC page when they were saved.
   */
  restoreTime(vp: Vp, reference: bigint, tsc: bigint, sequence: number): void;
  /** Hz. */
  tscFrequency(): bigint;
  /** Hz. */
  apicFrequency(): bigint;
  /** 100 ns units that a VP ran. */
  runtime(vp: Vp): bigint;
  /** REFERENCE_TSC of a VTL. */
  tscMsr(vtl: number): bigint;
  /** @returns false when the value is #GP. */
  setTscMsr(vtl: number, value: bigint): boolean;
  /** Idles the VTL until it has an interrupt, whether or not it would take it. */
  idle(context: PlaneContext): Answer;
  isIdle(context: PlaneContext): boolean;
  /** Ends the idle sleep of a VTL that has an interrupt. */
  turn(context: PlaneContext): void;
}
