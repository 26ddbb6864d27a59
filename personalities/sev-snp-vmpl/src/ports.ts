import type { SnpLevel } from '@vmplanes/abi-sev-snp';
import type { Answer, Completion, Machine, MemoryFaultExit, PlainState, PlaneContext, SharedCalls, Vp } from '@vmplanes/engine';
import type { MsrExit, X86Arch } from '@vmplanes/x86';
import type { SnpOptions } from './options.ts';

// What the chapters of the personality offer each other. VMPL n is plane n; a chapter keeps its own state by (VP, VMPL) and
// saves it under its own name. Addresses are guest physical, in bytes, unless a name says page; sides are those of the engine:
// private for C=1, shared for C=0.

/** What every chapter is made from. */
export interface SnpContext {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly level: SnpLevel;
  readonly options: SnpOptions;
  /** Who serves Hyper-V calls that come in a GHCB; null where nobody does. */
  readonly sharedCalls: SharedCalls | null;
  /** Filled by the composition before any exit is handled. */
  readonly chapters: SnpChapters;
  /** An intercepted event that needs the guest's help: #VC with this exit code, or with Reflect #VC an exit to a more privileged VMPL. */
  refuse(plane: SnpPlane, code: number, info1?: number, info2?: number): Answer;
}

/** The chapters of one machine, by what the specifications call them. */
export interface SnpChapters {
  readonly features: Features;
  readonly rmp: Rmp;
  readonly vmsas: Vmsas;
  readonly injection: Injection;
  readonly switching: Switching;
  readonly aps: ApCreation;
  readonly ghcb: Ghcb;
  readonly requests: GuestRequests;
  /** The SVSM inside the personality; null when the guest brings its own, or none. */
  readonly svsm: Svsm | null;
}

/** A chapter with state. */
export interface Chapter {
  readonly stateName: string;
  /** A VMPL of a VP exists from now on: make its state. */
  planeCreated?(context: PlaneContext): void;
  /** A VMPL of a VP was reset by INIT or by its owner; `kind` is one of the architecture's reset names. */
  planeReset?(context: PlaneContext, kind: string): void;
  // Around the runs of a VMPL, as the engine's context ports are called; chapters are asked in the order of the composition.
  turn?(context: PlaneContext): void;
  /** @returns null to let it enter, or the name of the refusal. */
  entering?(context: PlaneContext): string | null;
  left?(context: PlaneContext, cause: string): void;
  switched?(from: PlaneContext, to: PlaneContext, reason: string): void;
  paused?(context: PlaneContext): void;
  /** Sentences about what does not hold, between two events. */
  broken?(): readonly string[];
  save(): PlainState;
  restore(state: PlainState): void;
}

/** State of one VMPL of one VP that more than one chapter needs. Plain fields: saved by {@link Switching}. */
export interface SnpPlane {
  readonly context: PlaneContext;
  /** GHCB MSR 0xC0010130 of this VMPL, as (lo, hi) 32-bit halves: each VMPL writes its own. @spec GHCB 2.3.1 */
  ghcbMsrLo: number;
  ghcbMsrHi: number;
  /** GHCB registered by MSR protocol 0x012; -1 for none. */
  registeredGhcb: number;
  /** Doorbell page of restricted injection; -1 for none. */
  doorbell: number;
  /** VMSA the VMPL runs from, LAUNCH_VMSA_GPA for one that the host keeps outside of guest memory; -1 for none. */
  vmsa: number;
  /** VMSA that the next INIT-type reset switches in; -1 for none. */
  pendingVmsa: number;
  /** SEV_FEATURES of the VMSA in use, as (lo, hi) 32-bit halves. */
  featuresLo: number;
  featuresHi: number;
  /** VIRTUAL_TOM of the VMSA in use, in bytes: counts with the feature VirtualTom. */
  virtualTom: number;
  /** Waits for a reset that switches {@link pendingVmsa} in. */
  isWaitingForReset: boolean;
  /** Has been made runnable: the first start-up message of a guest without SNP was taken, or AP creation let it run. */
  isRunnable: boolean;
  /** The processor runs from the VMSA: its state is in the context, the page is stale and not to be written. */
  isLive: boolean;
  /** Name of the entry rule that the VMSA broke last; null after an entry. */
  refusal: string | null;
  /** How the AP reset hold that the VMPL is in is answered when its start-up message comes; null when it is in none. */
  resetHold: 'msr' | 'ghcb' | null;
  /** NMIs wait until the guest says that the last one is done. */
  isNmiMasked: boolean;
}

/** SEV_FEATURES and what follows from them: SEV_STATUS, MSRs, CPUID leaves. @spec APM vol. 2, 15.34.10, 15.36.20 */
export interface Features extends Chapter {
  /** SEV_FEATURES of the machine, which the VMSAs made at launch carry, as (lo, hi) 32-bit halves. */
  readonly machineLo: number;
  readonly machineHi: number;
  /** Which entry rule a SEV_FEATURES value breaks; null when a VMSA may carry it. @spec APM vol. 2, 15.34.10, 15.36.20 */
  refuses(lo: number, hi: number): string | null;
  /** Feature bit n of the VMSA that this VMPL runs from. */
  has(plane: SnpPlane, bit: number): boolean;
  /** Answers an access to an MSR that SEV defines and the processor does itself; null for one that is intercepted or not defined by SEV. */
  msr(plane: SnpPlane, exit: MsrExit): Answer | null;
  /** Words of CPUID leaf 0x8000001F, as every VMPL reads them. */
  readonly leaf: Readonly<Record<'eax' | 'ebx' | 'ecx' | 'edx', number>>;
}

/** One page of the reverse map table. @spec APM vol. 2, 15.36.3 */
export interface RmpEntry {
  assigned: boolean;
  validated: boolean;
  immutable: boolean;
  vmsa: boolean;
  /** Part of a 2 MiB entry. */
  large: boolean;
  /** Of another guest, or for another address. */
  foreign: boolean;
  /** Permission masks of VMPL 1..3: bit 0 read, 1 write, 2 execute-user, 3 execute-supervisor, 4 supervisor shadow stack. */
  readonly perms: [number, number, number];
}

/** What refuses an access or instruction, rather than a status: answered by {@link Rmp.refused}. @spec APM vol. 2, 15.36.10 */
export const RmpCause = {
  /** The host maps nothing there for this side: a nested page fault without the RMP bit. */
  NotMapped: -1,
  /** Not assigned, of another guest or address, immutable; or assigned, for an access with C=0. */
  Entry: -2,
  /** A 4 KiB operand in a 2 MiB entry. */
  SizeMismatch: -3,
  /** #VC 0x404. */
  NotValidated: -4,
  /** The VMPL lacks the permission. */
  Permission: -5,
} as const;
export type RmpCause = (typeof RmpCause)[keyof typeof RmpCause];

/** The reverse map table and every rule over it; the engine's permission tables mirror its masks. */
export interface Rmp extends Chapter {
  /** Entry of a page; borrowed until the next call. */
  entry(gpn: number): Readonly<RmpEntry>;
  /** RMPUPDATE of the host: a page becomes private (assigned, not validated, masks cleared) or shared. Contents are zeroed. */
  assign(gpn: number, count: number, isPrivate: boolean, large?: boolean): void;
  /** PSMASH of the host. @returns an RMP status. */
  smash(gpn: number): number;
  /** RMPUPDATE with the 16 bytes of its operand, for hosts that know better: the pages stay mapped as they are. @returns an RMP status. */
  update(gpn: number, operand: Uint8Array): number;
  /** PVALIDATE as an instruction or a provider at VMPL0 makes it. @returns status in bits 7:0, bit 8: unchanged (CF), or a negative {@link RmpCause}. */
  validate(gpn: number, large: boolean, validated: boolean): number;
  /** RMPADJUST by a VMPL. @returns an RMP status, or a negative {@link RmpCause}. */
  adjust(caller: number, gpn: number, large: boolean, target: number, mask: number, vmsa: boolean): number;
  /** RMPQUERY by a VMPL. @returns status in bits 7:0; then mask in 15:8, VMSA in 16, a 2 MiB entry in 17; or a negative {@link RmpCause}. */
  query(caller: number, gpn: number, target: number): number;
  /** Launch: a page is placed, validated, with masks for VMPL 1..3. */
  launch(gpn: number, perms: readonly [number, number, number], vmsa: boolean): void;
  /** Answers a refused access: #VC 0x404 in the guest, or an exit with the nested page fault information; null to tell the VMM as of any memory fault. */
  refused(plane: SnpPlane, exit: MemoryFaultExit): Answer | null;
}

/** VMSA pages: state stored at each exit, loaded at each entry. @spec APM vol. 2, 15.34.3, 15.36.8 */
export interface Vmsas extends Chapter {
  /** A VMSA of the host's, outside of guest memory, becomes that of a VMPL, as a launch makes them. @param page - its bytes, copied. */
  launch(plane: SnpPlane, page: Uint8Array): void;
  /** A processor runs from this page now: its entry must not change. */
  isInUse(gpn: number): boolean;
  /** The VMPL gets another VMSA, or none: what it has is no longer guarded, and nothing more is stored there. */
  release(plane: SnpPlane): void;
  /** The rule that an entry from the VMSA would break now; null when none. */
  check(plane: SnpPlane): string | null;
  /** Told when a VMPL asks for a flush of what is kept of its translations; null while nothing is kept. */
  flush: ((context: PlaneContext) => void) | null;
  /**
   * The VMPL leaves its VMSA: stores the state of the context with the exit information (each a 64-bit value as lo, hi); an instruction that is done by then
   * was retired before. Nothing when it has left already.
   */
  store(plane: SnpPlane, exitCode: number, info1Lo: number, info1Hi: number, info2Lo: number, info2Hi: number): void;
  /** Loads the VMSA into the context. @returns null, or the name of the entry rule that it breaks. */
  load(plane: SnpPlane): string | null;
  /** 32 bits of the VMSA that a VMPL runs from, at a byte offset. */
  word(plane: SnpPlane, offset: number): number;
  setWord(plane: SnpPlane, offset: number, value: number): void;
  /** For a provider at VMPL0: a 64-bit field of the VMSA of a lower VMPL that does not run; 0 and no effect where there is no private page. */
  read(gpa: number, offset: number): bigint;
  write(gpa: number, offset: number, value: bigint): void;
}

/** Which events may enter a VMPL and how: normal, restricted (#HV doorbell), alternate. @spec APM vol. 2, 15.36.16 */
export interface Injection extends Chapter {
  /** GHCB 0x80000014. @returns the GHCB result in INFO2, Infinity for all ones (no preference), or -reason for an input error. */
  doorbell(plane: SnpPlane, request: number, gpa: number): number;
  /** GHCB 0x80000015: an x2APIC ICR value as (lo, hi). @returns false for a malformed ICR. */
  ipi(plane: SnpPlane, lo: number, hi: number): boolean;
  /** GHCB 0x80000003. */
  nmiComplete(plane: SnpPlane): void;
  /** A VMPL is in restricted injection and has a doorbell page that it can be told through. */
  hasDoorbell(plane: SnpPlane): boolean;
  /** An intercepted event becomes #VC with this exit code in the guest. */
  raiseVc(plane: SnpPlane, exitCode: number): Answer;
}

/** Run VMPL and the VMPLs of one VP. @spec GHCB 4.1.11 (Run VMPL); KVM planes series 2026-06, sev.c */
export interface Switching extends Chapter {
  plane(vp: Vp, vmpl: number): SnpPlane | null;
  planeOf(context: PlaneContext): SnpPlane;
  /** Creates the context of a VMPL on a VP where it is missing. */
  create(vp: Vp, vmpl: number): SnpPlane;
  /**
   * Run VMPL. The response must be in the caller's GHCB or MSR before. VMPL0 always exists where {@link SnpChapters.svsm} is not null, without a VMSA.
   * @returns null when the target does not exist, has no VMSA, or cannot be entered from it.
   */
  run(from: SnpPlane, vmpl: number): Answer | null;
  /** This VMPL is the one that its VP begins with; the others wait until it is run. */
  start(plane: SnpPlane): void;
  /** VMPL0 has nothing to run: it waits until it is reset. */
  park(plane: SnpPlane): void;
}

/** AP creation and the lesser ways to start a processor. @spec GHCB 4.1.9; 4.1.10 */
export interface ApCreation extends Chapter {
  /** GHCB 0x80000013. @returns 0, or a reason of an input error (4 missing, 5 invalid); -1: the answer is an exit kept in {@link pending}. */
  create(from: SnpPlane, info1Lo: number, info1Hi: number, vmsa: number, features: bigint | null): number;
  /** After -1: the exit that asks the VMM for the VP or plane (payload `createPlane`), with a completion `ghcb.ap-creation` of what was asked; borrowed. */
  readonly pending: Answer;
  /**
   * AP reset hold: waits for a SIPI, or for an interrupt as HLT does. The response "not by a SIPI" must be in the caller's GHCB or MSR before; when the SIPI
   * comes, a completion `ghcb.ap-reset-hold` with `{ through }` asks for the other one.
   */
  hold(plane: SnpPlane, through: 'msr' | 'ghcb'): Answer;
  /** Makes the VMPL that a request named and that its VP has not yet, for a VMM that leaves it to this personality. Nothing where there is no such VP. */
  makePlane(info1Lo: number, info1Hi: number): void;
  /** A VMSA that waited is that of the VMPL from now on. */
  adopt(plane: SnpPlane): void;
  /** A start-up message was taken: the first one runs the state that was measured, a later one ends an AP reset hold. @spec Linux arch/x86/kvm/svm/sev.c */
  startedUp(plane: SnpPlane): void;
  /** AP jump table, one per machine. */
  jumpTable: number;
}

/** The GHCB: MSR protocol and page protocol. @spec GHCB 2 to 4 */
export interface Ghcb extends Chapter {
  /** VMGEXIT: dispatches on the GHCB MSR of the caller. */
  exit(plane: SnpPlane): Answer;
  /** Finishes a request that left to the VMM, and what another chapter leaves to do under a kind that starts with `ghcb`. @returns what else to do. */
  complete(plane: SnpPlane, completion: Completion): Answer | null;
}

/** The security processor. @spec SNP ABI 1.55, guest messages */
export interface GuestRequests extends Chapter {
  /** Answers one 4096-byte message page. @returns the firmware error, 0 for success; the response page is filled then. */
  message(request: Uint8Array, response: Uint8Array): number;
  /** Certificate table of the extended request, GUIDs and data. */
  readonly certificates: Uint8Array;
  /** VMPCKs of the guest, 4 x 32 bytes. */
  readonly keys: readonly Uint8Array[];
}

/**
 * An SVSM inside the personality. VMPL0 runs no code then and has no VMSA: whenever plane 0 of a processor is current, by Run VMPL, by an event or at the
 * start, the provider works as a completion of that plane and runs the guest's VMPL again through {@link Switching.run}. So switches are those of an SVSM that
 * is a guest. @spec SVSM 1.00
 */
export interface Svsm extends Chapter {
  /** VMPL of the guest, 1..3. */
  readonly guestVmpl: number;
  /** The work of VMPL0: completions of plane 0 whose kind starts with `svsm`. @returns what VMPL0 does next. */
  complete(context: PlaneContext, completion: Completion): Answer;
}
