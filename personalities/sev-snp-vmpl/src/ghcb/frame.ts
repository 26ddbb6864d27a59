import { Ghcb, type GhcbField, GhcbReason, GhcbResult, ghcbValidBit } from '@vmplanes/abi-sev-snp';
import { type Accessor, AccessResult, PAGE_SIZE, Right, type Subject } from '@vmplanes/engine';
import type { SnpPlane } from '../ports.ts';

/** Word of {@link GhcbFrame.registers} where each register starts. */
export const Word = { rax: 0, rcx: 2, rdx: 4, rbx: 6, rsi: 8, rdi: 10, r8: 12, xcr0: 14 } as const;
const WORDS = 16;

const at = Ghcb.at;
/** From SW_EXITCODE to the end of the valid bitmap. */
const HEAD = { at: at.swExitCode, bytes: at.validBitmap + 16 - at.swExitCode } as const;
/** From RCX to R8, the general registers that events use. */
const GENERALS = { at: at.rcx, bytes: at.r8 + 8 - at.rcx } as const;
/** The quadword that holds CPL, and the one that holds version and usage. */
const CPL_AT = at.cpl & ~7;
const TAIL_AT = at.protocolVersion & ~7;
const EXCEPTION = { typeException: 3 << 8, hasErrorCode: 1 << 11, isValid: 0x8000_0000 } as const;

/** Bits of the valid bitmap that every request looks at. */
const Bit = { cpl: ghcbValidBit.cpl, rax: ghcbValidBit.rax, rcx: ghcbValidBit.rcx, rdx: ghcbValidBit.rdx, rbx: ghcbValidBit.rbx, rsi: ghcbValidBit.rsi, rdi: ghcbValidBit.rdi, r8: ghcbValidBit.r8, scratch: ghcbValidBit.swScratch, xcr0: ghcbValidBit.xcr0 } as const;
const bitOf = (field: GhcbField): number => ghcbValidBit[field] & 31;
const wordOf = (field: GhcbField): number => ghcbValidBit[field] >>> 5;
const maskOf = (word: number, ...fields: readonly GhcbField[]): number => fields.filter((f) => wordOf(f) === word).reduce((mask, f) => (mask | (1 << bitOf(f))) >>> 0, 0);
const ANY_GENERAL = maskOf(3, 'rcx', 'rdx', 'rbx', 'rsi', 'rdi', 'r8');
const RESULTS = ['swExitInfo1', 'swExitInfo2'] as const;
/** Valid bits that the host sets: of the results alone, or of the registers, too. */
const RESULT_BITS = [0, 1, 2, 3].map((word) => maskOf(word, ...RESULTS));
const RETURN_BITS = [0, 1, 2, 3].map((word) => maskOf(word, 'rax', 'rcx', 'rdx', 'rbx', ...RESULTS));
const TWO_32 = 2 ** 32;

/** What of a frame outlives an exit to the VMM: plain data. */
export interface SavedFrame {
  readonly gpa: number;
  readonly registers: readonly number[];
  readonly code: number;
}

/**
 * The host's copy of one request, read from the page once: what another processor writes there afterwards changes nothing. One per VP, used again for
 * every VMGEXIT.
 * @spec GHCB 4; Linux arch/x86/kvm/svm/sev.c (sev_es_sync_from_ghcb)
 */
export class GhcbFrame {
  plane!: SnpPlane;
  subject!: Subject;
  /** The page, bytes. */
  gpa = 0;
  /** Words of the valid bitmap, as the guest set them. */
  readonly valid = new Uint32Array(4);
  /** Registers by {@link Word}: zero where they were not valid. */
  readonly registers = new Uint32Array(WORDS);
  cpl = 0;
  codeLo = 0;
  codeHi = 0;
  info1Lo = 0;
  info1Hi = 0;
  info2Lo = 0;
  info2Hi = 0;
  /** SW_SCRATCH, bytes; 0 where it was not valid. */
  scratch = 0;
  usage = 0;
  // The result: SW_EXITINFO1 and SW_EXITINFO2 on return.
  result = 0;
  detailLo = 0;
  detailHi = 0;

  readonly #access: Accessor;
  readonly #bytes = new Uint8Array(128);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #zeros = new Uint8Array(16);

  constructor(access: Accessor) {
    this.#access = access;
  }

  /** Addresses in SW_EXITINFO1 and SW_EXITINFO2. */
  get info1(): number {
    return this.info1Hi * TWO_32 + this.info1Lo;
  }
  get info2(): number {
    return this.info2Hi * TWO_32 + this.info2Lo;
  }
  /** Whether a field was marked valid. */
  has(field: GhcbField): boolean {
    return this.#isSet(ghcbValidBit[field]);
  }
  #isSet(bit: number): boolean {
    return ((this.valid[bit >>> 5]! >>> (bit & 31)) & 1) !== 0;
  }
  /** A register as a number, exact for addresses. */
  register(word: number): number {
    return this.registers[word + 1]! * TWO_32 + this.registers[word]!;
  }
  setRegister(word: number, lo: number, hi: number): void {
    this.registers[word] = lo;
    this.registers[word + 1] = hi;
  }

  /** Names the page and its owner, with nothing read yet. */
  open(plane: SnpPlane, subject: Subject, gpa: number): void {
    this.plane = plane;
    this.subject = subject;
    this.gpa = gpa;
    this.registers.fill(0);
    this.cpl = this.scratch = this.result = this.detailLo = this.detailHi = 0;
  }

  /** Copies the request and clears the bitmap in the page. @returns why the page cannot be used; nothing changed then. */
  snapshot(): AccessResult {
    let result = this.#access.check(this.subject, this.gpa, PAGE_SIZE, Right.Read | Right.Write);
    if (result === AccessResult.Ok) result = this.#copy(HEAD.at, HEAD.bytes);
    if (result !== AccessResult.Ok) return result;
    const view = this.#view;
    for (let i = 0; i < 4; i++) this.valid[i] = this.#head(at.validBitmap + 4 * i);
    this.codeLo = this.#head(at.swExitCode);
    this.codeHi = this.#head(at.swExitCode + 4);
    this.info1Lo = this.#head(at.swExitInfo1);
    this.info1Hi = this.#head(at.swExitInfo1 + 4);
    this.info2Lo = this.#head(at.swExitInfo2);
    this.info2Hi = this.#head(at.swExitInfo2 + 4);
    if (this.#isSet(Bit.scratch)) this.scratch = this.#head(at.swScratch + 4) * TWO_32 + this.#head(at.swScratch);
    if (this.#isSet(Bit.xcr0)) this.setRegister(Word.xcr0, this.#head(at.xcr0), this.#head(at.xcr0 + 4));
    // Each piece lies in the one page that was admitted: nothing runs in between.
    if ((this.valid[3]! & ANY_GENERAL) !== 0) {
      result = this.#copy(GENERALS.at, GENERALS.bytes);
      if (result !== AccessResult.Ok) return result;
      this.#take(Bit.rcx, at.rcx, Word.rcx);
      this.#take(Bit.rdx, at.rdx, Word.rdx);
      this.#take(Bit.rbx, at.rbx, Word.rbx);
      this.#take(Bit.rsi, at.rsi, Word.rsi);
      this.#take(Bit.rdi, at.rdi, Word.rdi);
      this.#take(Bit.r8, at.r8, Word.r8);
    }
    if (this.#isSet(Bit.rax)) {
      result = this.#copy(at.rax, 8);
      if (result !== AccessResult.Ok) return result;
      this.setRegister(Word.rax, view.getUint32(0, true), view.getUint32(4, true));
    }
    if (this.#isSet(Bit.cpl)) {
      result = this.#copy(CPL_AT, 8);
      if (result !== AccessResult.Ok) return result;
      this.cpl = view.getUint8(at.cpl - CPL_AT);
    }
    result = this.readUsage();
    if (result === AccessResult.Ok) result = this.#access.write(this.subject, this.gpa + at.validBitmap, this.#zeros, 0, 16);
    if (result === AccessResult.Ok && this.#access.preempt !== null) this.#access.preempt('fetched');
    return result;
  }

  /** A word of the part that was copied first. */
  #head(field: number): number {
    return this.#view.getUint32(field - HEAD.at, true);
  }

  /** Reads what the page holds. */
  readUsage(): AccessResult {
    const result = this.#copy(TAIL_AT, 8);
    if (result === AccessResult.Ok) this.usage = this.#view.getUint32(at.ghcbUsage - TAIL_AT, true);
    return result;
  }

  #copy(from: number, bytes: number): AccessResult {
    return this.#access.read(this.subject, this.gpa + from, this.#bytes, 0, bytes);
  }
  #take(bit: number, field: number, word: number): void {
    if (!this.#isSet(bit)) return;
    const from = field - GENERALS.at;
    this.setRegister(word, this.#view.getUint32(from, true), this.#view.getUint32(from + 4, true));
  }

  // -- result --------------------------------------------------------------------------------------------------------

  /** The event went well. Details by event. */
  succeed(detailLo = 0, detailHi = 0): void {
    this.result = GhcbResult.Success;
    this.detailLo = detailLo;
    this.detailHi = detailHi;
  }
  /** The request is not valid. @param reason - {@link GhcbReason}. */
  fail(reason: GhcbReason): void {
    this.result = GhcbResult.InvalidInput;
    this.detailLo = reason;
    this.detailHi = 0;
  }
  /** The guest shall take an exception. @spec GHCB 4.1; APM vol. 2, 15.20 */
  except(vector: number, errorCode: number | null): void {
    this.result = GhcbResult.Exception;
    this.detailLo = (vector | EXCEPTION.typeException | (errorCode === null ? 0 : EXCEPTION.hasErrorCode) | EXCEPTION.isValid) >>> 0;
    this.detailHi = errorCode ?? 0;
  }

  /**
   * Shows the result in the page. A page that is no longer shared shows nothing: its owner took it away.
   * @param withRegisters - RAX, RBX, RCX and RDX, too, whether or not the event changed them.
   */
  publish(withRegisters: boolean): void {
    const view = this.#view;
    if (withRegisters) {
      this.#put(0, Word.rcx);
      this.#put(8, Word.rdx);
      this.#put(16, Word.rbx);
      this.#write(at.rcx, 24);
      this.#put(0, Word.rax);
      this.#write(at.rax, 8);
    }
    view.setUint32(0, this.result, true);
    view.setUint32(4, 0, true);
    view.setUint32(8, this.detailLo, true);
    view.setUint32(12, this.detailHi, true);
    this.#write(at.swExitInfo1, 16);
    this.#putBitmap(withRegisters ? RETURN_BITS : RESULT_BITS);
  }

  /** Makes the page what it was: the same request comes again. */
  takeBack(): void {
    this.#putBitmap(this.valid);
  }

  #putBitmap(words: ArrayLike<number>): void {
    for (let i = 0; i < 4; i++) this.#view.setUint32(4 * i, words[i]!, true);
    this.#write(at.validBitmap, 16);
  }
  #put(to: number, word: number): void {
    this.#view.setUint32(to, this.registers[word]!, true);
    this.#view.setUint32(to + 4, this.registers[word + 1]!, true);
  }
  #write(to: number, bytes: number): void {
    this.#access.write(this.subject, this.gpa + to, this.#bytes, 0, bytes);
  }

  // -- state ---------------------------------------------------------------------------------------------------------

  save(): SavedFrame {
    return { gpa: this.gpa, registers: [...this.registers], code: this.codeLo };
  }
  reopen(plane: SnpPlane, subject: Subject, saved: SavedFrame): void {
    this.open(plane, subject, saved.gpa);
    this.registers.set(saved.registers);
    this.codeLo = saved.code;
  }
}

/** Words of the bitmap that must be set for a list of fields. */
export const validMask = (fields: readonly GhcbField[]): readonly number[] => [0, 1, 2, 3].map((word) => maskOf(word, ...fields));
/** The fields that every event needs. */
export const EVENT_FIELDS: readonly GhcbField[] = ['swExitCode', ...RESULTS];
