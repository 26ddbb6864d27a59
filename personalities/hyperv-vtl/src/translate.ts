import { HvCacheType, HvCall, HvInterceptAccessType, HvOutputTranslateVirtualAddressEx, HvOutputTranslateVirtualAddressExTlfs, HvStatus, HvTranslateGvaControlFlags, HvTranslateGvaResultCode, HvX64PendingEventAccessFlags, HvX64PendingEventHeader, HvX64PendingEventType, HvX64PendingExceptionEvent, HvX64PendingMemoryInterceptEvent } from '@vmplanes/abi-hyperv';
import { hiWord, loWord } from '@vmplanes/binary';
import { AccessResult, PAGE_SIZE, type PlaneContext, Right } from '@vmplanes/engine';
import { Access, PageFault, PageRight, Privilege, refusalOf, readRegister, WalkKind, type WalkResult, X86 } from '@vmplanes/x86';
import type { SimpleHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';
import { foreignStatus, inputVtl, isSelf, NO_VTL } from './input-vtl.ts';
import { vpOf } from './vsm-calls.ts';

const { Success, InvalidParameter, AccessDenied, InvalidVpIndex } = HvStatus;
const Code = HvTranslateGvaResultCode;
const KNOWN_LO = loWord(~HvTranslateGvaControlFlags.reservedMask), KNOWN_HI = hiWord(~HvTranslateGvaControlFlags.reservedMask);
const flag = Object.fromEntries(Object.entries(HvTranslateGvaControlFlags.mask).map(([name, mask]) => [name, loWord(mask)])) as { readonly [K in keyof typeof HvTranslateGvaControlFlags.mask]: number };
const VALIDATE = flag.validateRead | flag.validateWrite | flag.validateExecute;
const CR0_WP = 1 << 16;
const PAGE_FAULT = 14;
const USER_LEVEL = 3;
const TWO_32 = 2 ** 32;
/** No error code, and no VTL. */
const NONE = -1;
const isStore = (access: Access): boolean => access === Access.Write || access === Access.ShadowWrite;
/** @spec TLFS HV_INTERCEPT_ACCESS_TYPE */
const interceptAccess = (access: Access): number => (access === Access.Fetch ? HvInterceptAccessType.Execute : isStore(access) ? HvInterceptAccessType.Write : HvInterceptAccessType.Read);
/** PAT entries as the interface names them: UC- is uncached. @spec SDM 3A Table 12-10; TLFS HV_TRANSLATE_GVA_RESULT */
const cacheTypes: Readonly<Record<number, number>> = { 0: HvCacheType.Uncached, 1: HvCacheType.WriteCombining, 4: HvCacheType.WriteThrough, 5: HvCacheType.WriteProtected, 6: HvCacheType.WriteBack, 7: HvCacheType.Uncached };

/** What one translation came to. */
interface Outcome {
  code: number;
  /** Guest page; 0 when there is none. */
  gpn: number;
  memoryType: number;
  access: Access;
  /** Of a page fault; {@link NONE} for other failures. */
  errorCode: number;
  /** VTL whose protection refused it. */
  interceptedBy: number;
  /** A table entry was refused, not the page itself. */
  isWalk: boolean;
  gpa: number;
}

/** The translations of one call. */
class Translation {
  readonly out: Outcome = { code: Code.Success, gpn: 0, memoryType: 0, access: Access.Read, errorCode: NONE, interceptedBy: NONE, isWalk: false, gpa: 0 };

  constructor(
    readonly call: CallFrame,
    readonly target: PlaneContext,
    readonly flags: number,
    readonly lo: number,
    readonly hi: number,
  ) {}

  /** Each validated access in turn; the first failure counts. Flags in the tables are set only when all would pass. */
  run(): Outcome {
    const { flags } = this;
    const accesses: Access[] = [];
    const shadow = (flags & flag.shadowStack) !== 0;
    if ((flags & flag.validateRead) !== 0) accesses.push(shadow ? Access.ShadowRead : Access.Read);
    if ((flags & flag.validateWrite) !== 0) accesses.push(shadow ? Access.ShadowWrite : Access.Write);
    if ((flags & flag.validateExecute) !== 0) accesses.push(Access.Fetch);
    const privileges = this.#privileges();
    for (const access of accesses) {
      for (const privilege of privileges) {
        this.#walk(access, privilege, false);
        if (this.out.code !== Code.Success) return this.out;
      }
    }
    if ((flags & flag.setPageTableBits) !== 0) {
      const writes = (flags & flag.validateWrite) !== 0;
      this.#walk(writes ? accesses.find(isStore)! : accesses[0]!, privileges[0]!, true);
    }
    return this.out;
  }

  #privileges(): readonly Privilege[] {
    const { flags } = this;
    const asked = [...((flags & flag.supervisorAccess) !== 0 ? [Privilege.Supervisor] : []), ...((flags & flag.userAccess) !== 0 ? [Privilege.User] : [])];
    if (asked.length > 0) return asked;
    return [this.call.hv.machine.arena.u32[(this.target.base + X86.cpl) >>> 2] === USER_LEVEL ? Privilege.User : Privilege.Supervisor];
  }

  #walk(access: Access, privilege: Privilege, setFlags: boolean): void {
    const { arch } = this.call.hv;
    const { flags, out } = this;
    const isExempt = (flags & flag.privilegeExempt) !== 0;
    const smap = (flags & flag.enforceSmap) !== 0 ? 'on' : (flags & flag.overrideSmap) !== 0 ? 'off' : null;
    out.access = access;
    out.code = Code.Success;
    if (isExempt) {
      // No side is forbidden the page: the tables are walked without rights, and what they say of writes and fetches is looked at here.
      const found = arch.probe(this.target, this.lo, this.hi, Access.Lookup, Privilege.Supervisor, false, smap);
      if (found.kind === WalkKind.Mapped && !this.#isAllowed(found, access)) {
        this.#fail(Code.PrivilegeViolation, PageFault.P | (access === Access.Write ? PageFault.W : access === Access.Fetch ? PageFault.ID : 0));
        return;
      }
      if (found.kind !== WalkKind.Mapped) {
        this.#refused(found);
        return;
      }
      this.#mapped(found, access, (found.rights & PageRight.User) !== 0);
      // As the access of the side that the page belongs to would.
      if (setFlags && out.code === Code.Success) arch.probe(this.target, this.lo, this.hi, access, (found.rights & PageRight.User) !== 0 ? Privilege.User : Privilege.Supervisor, true, 'off');
      return;
    }
    const found = arch.probe(this.target, this.lo, this.hi, access, privilege, setFlags, smap);
    if (found.kind !== WalkKind.Mapped) this.#refused(found);
    else this.#mapped(found, access, privilege === Privilege.User);
  }

  #isAllowed({ rights }: WalkResult, access: Access): boolean {
    if (access === Access.Fetch) return (rights & PageRight.Execute) !== 0;
    if (access !== Access.Write) return true;
    const isProtected = (this.call.hv.machine.arena.u32[(this.target.base + X86.cr0) >>> 2]! & CR0_WP) !== 0;
    return (rights & PageRight.Write) !== 0 || ((rights & PageRight.User) === 0 && !isProtected);
  }

  /** The tables give a page: what lies there, and whether the VTL may reach it. */
  #mapped(found: WalkResult, access: Access, user: boolean): void {
    const { machine, arch } = this.call.hv;
    const { out } = this;
    out.gpa = found.gpa;
    out.gpn = Math.floor(found.gpa / PAGE_SIZE);
    out.memoryType = found.memoryType;
    const right = access === Access.Fetch ? arch.fetchRight(this.target, user) : isStore(access) ? Right.Write : Right.Read;
    const result = machine.memory.access.check(machine.memory.subjects[this.target.plane]!.cpu, found.gpa, 1, right);
    if (result !== AccessResult.Ok) this.#denied(result, found.gpa, machine.memory.access.missing, right);
  }

  #refused(found: WalkResult): void {
    const { out } = this;
    switch (found.kind) {
      case WalkKind.Fault:
        this.#fail((found.errorCode & PageFault.P) === 0 ? Code.PageNotPresent : (found.errorCode & PageFault.RSVD) !== 0 ? Code.InvalidPageTableFlags : Code.PrivilegeViolation, found.errorCode);
        return;
      case WalkKind.NotCanonical:
        this.#fail(Code.PageNotPresent);
        return;
      default:
        out.isWalk = found.isWalk;
        out.gpa = found.gpa;
        this.#denied(refusalOf(found.status), found.gpa, this.call.hv.machine.memory.access.missing, found.stage2Access === Access.Write ? Right.Write : Right.Read);
    }
  }

  #fail(code: number, errorCode = NONE): void {
    this.out.code = code;
    this.out.errorCode = errorCode;
    this.out.gpn = 0;
  }

  #denied(result: AccessResult, gpa: number, missing: number, right: number): void {
    const { out } = this;
    const isWrite = (right & Right.Write) !== 0;
    switch (result) {
      case AccessResult.Absent:
        this.#fail(Code.GpaUnmapped);
        return;
      case AccessResult.OverlayRefused:
        this.#fail(Code.GpaIllegalOverlayAccess);
        return;
      case AccessResult.Denied:
        out.interceptedBy = this.call.hv.chapters.protections.deniedBy(this.target.plane, Math.floor(gpa / PAGE_SIZE), missing);
        this.#fail(out.interceptedBy >= 0 ? Code.Intercept : isWrite ? Code.GpaNoWriteAccess : Code.GpaNoReadAccess);
        return;
      default:
        this.#fail(isWrite ? Code.GpaNoWriteAccess : Code.GpaNoReadAccess);
    }
  }

  /** Memory type of the page as PAT gives it. */
  cacheType(): number {
    const pat = readRegister(this.call.hv.machine.arena, this.target.base, 'pat');
    return cacheTypes[Number((pat >> BigInt(8 * this.out.memoryType)) & 7n)] ?? HvCacheType.Uncached;
  }
}

interface Input {
  readonly partitionIdLo: number;
  readonly partitionIdHi: number;
  readonly vpIndex: number;
  readonly controlFlagsLo: number;
  readonly controlFlagsHi: number;
  readonly gvaPageLo: number;
  readonly gvaPageHi: number;
}

/** Checks the operands, translates, and locks what the caller asked to be locked. @returns the translation, or a status. */
const translate = (call: CallFrame, input: Input): Translation | number => {
  const { hv } = call;
  if (!isSelf(input.partitionIdLo, input.partitionIdHi)) return foreignStatus(call);
  const vp = vpOf(call, input.vpIndex);
  if (vp === null) return InvalidVpIndex;
  const { controlFlagsLo: flags, controlFlagsHi: high } = input;
  if ((flags & ~KNOWN_LO) !== 0 || (high & ~KNOWN_HI) !== 0 || (flags & VALIDATE) === 0) return InvalidParameter;
  if ((flags & flag.enforceSmap) !== 0 && (flags & flag.overrideSmap) !== 0) return InvalidParameter;
  const vtl = inputVtl(call, high >>> 24);
  if (vtl === NO_VTL) return InvalidParameter;
  if (vtl > call.vtl || (vtl === call.vtl && !hv.options.translateOwnVtl)) return AccessDenied;
  const target = vp.planes[vtl];
  if (!target) return InvalidParameter;
  if ((flags & flag.tlbFlushInhibit) !== 0 && vtl < call.vtl) hv.chapters.vsm.locks.lock(vp.index, vtl, call.vp.index, call.vtl);
  const lo = (input.gvaPageLo << 12) >>> 0;
  const hi = ((input.gvaPageHi << 12) | (input.gvaPageLo >>> 20)) >>> 0;
  // Flags may be set in the tables of a VTL that does not run.
  hv.machine.checks?.authorise(target);
  const translation = new Translation(call, target, flags, lo, hi);
  translation.run();
  return translation;
};

/** Result code, cache type and overlay bit of the answer. */
const resultWords = (t: Translation): readonly [number, number] => {
  const { out, call, target } = t;
  if (out.code !== Code.Success) return [out.code, 0];
  const overlay = call.hv.chapters.overlays.isOverlay(target.plane, out.gpn) ? 1 << 8 : 0;
  return [out.code, t.cacheType() | overlay];
};

/** @spec TLFS HvCallTranslateVirtualAddress */
export const translateVirtualAddress: SimpleHandler<typeof HvCall.TranslateVirtualAddress> = (call, input, output) => {
  const t = translate(call, input);
  if (typeof t === 'number') return t;
  [output.resultLo, output.resultHi] = resultWords(t);
  output.gpaPageLo = t.out.gpn % TWO_32;
  output.gpaPageHi = Math.floor(t.out.gpn / TWO_32);
  return Success;
};

const EVENT = HvOutputTranslateVirtualAddressEx.at.eventInfo;

/** The event that the access itself would raise. @spec openvmm vm/hv1/hvdef/src/lib.rs (HvX64PendingEvent) */
const writeEvent = ({ out, lo, hi }: Translation, data: DataView, at: number): void => {
  if (out.errorCode >= 0) {
    const { at: field } = HvX64PendingExceptionEvent;
    data.setUint8(at + field.header, HvX64PendingEventHeader.pack({ eventPending: true, eventType: HvX64PendingEventType.Exception }));
    data.setUint8(at + field.flags, 1);
    data.setUint16(at + field.vector, PAGE_FAULT, true);
    data.setUint32(at + field.errorCode, out.errorCode, true);
    data.setUint32(at + field.exceptionParameter, lo, true);
    data.setUint32(at + field.exceptionParameter + 4, hi, true);
  } else if (out.interceptedBy >= 0) {
    const { at: field } = HvX64PendingMemoryInterceptEvent;
    const page = Math.floor(out.gpa / PAGE_SIZE) * PAGE_SIZE;
    data.setUint8(at + field.header, HvX64PendingEventHeader.pack({ eventPending: true, eventType: HvX64PendingEventType.MemoryIntercept }));
    data.setUint8(at + field.targetVtl, out.interceptedBy);
    data.setUint8(at + field.accessType, interceptAccess(out.access));
    data.setUint8(at + field.accessFlags, HvX64PendingEventAccessFlags.pack({ guestLinearAddressValid: true, causedByGpaAccess: !out.isWalk }));
    data.setUint32(at + field.guestLinearAddress, lo, true);
    data.setUint32(at + field.guestLinearAddress + 4, hi, true);
    data.setUint32(at + field.guestPhysicalAddress, page % TWO_32, true);
    data.setUint32(at + field.guestPhysicalAddress + 4, Math.floor(page / TWO_32), true);
  }
};

/** The extended call with the output of its table: no event. */
export const TranslateVirtualAddressExShort = Object.freeze({ ...HvCall.TranslateVirtualAddressEx, output: HvOutputTranslateVirtualAddressExTlfs });

/** @spec TLFS HvCallTranslateVirtualAddressEx */
export const translateVirtualAddressExShort: SimpleHandler<typeof TranslateVirtualAddressExShort> = translateVirtualAddress;

/** @spec TLFS HvCallTranslateVirtualAddressEx; openvmm vm/hv1/hvdef/src/lib.rs */
export const translateVirtualAddressEx: SimpleHandler<typeof HvCall.TranslateVirtualAddressEx> = (call, input, output) => {
  const t = translate(call, input);
  if (typeof t === 'number') return t;
  [output.resultLo, output.resultHi] = resultWords(t);
  writeEvent(t, output.data, output.at + EVENT);
  output.gpaPageLo = t.out.gpn % TWO_32;
  output.gpaPageHi = Math.floor(t.out.gpn / TWO_32);
  return Success;
};
