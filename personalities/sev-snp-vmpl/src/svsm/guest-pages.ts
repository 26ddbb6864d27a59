import { VmplPermission, Vmsa } from '@vmplanes/abi-sev-snp';
import { SVSM_CALLING_AREA_HEAD } from '@vmplanes/abi-svsm';
import { AccessResult, type CallBuffer, PAGE_SIZE, Side, subject, SubjectKind } from '@vmplanes/engine';
import type { SnpContext } from '../ports.ts';
import type { Registry } from './registry.ts';

/** Addresses that are exact as numbers. */
const LIMIT = 2n ** 52n;
/** Where the image of an SVSM has its own first VMSA: never the guest's. @spec coconut-svsm kernel/src/mm/memory.rs */
const LAUNCH_VMSA = 0xffff_ffff_f000;
const { Read, Write } = VmplPermission;

/** Bytes of a VMSA that hold registers. @spec APM vol. 2, Table B-4 */
const VMSA_USED = Vmsa.at.lbrStack;

/** What a page is to the provider. */
export const PageState = {
  Usable: 0,
  /** Not guest memory, or set aside by the provider. */
  Refused: 1,
  /** Guest memory that is not private and valid, or that the guest itself may not use. */
  Invalid: 2,
} as const;
export type PageState = (typeof PageState)[keyof typeof PageState];

/**
 * Guest memory as the provider reaches it: through the test that every address of a guest must pass, and with private accesses.
 * Reads are copies: what the guest changes meanwhile changes nothing.
 */
export class GuestPages {
  readonly #snp: SnpContext;
  readonly #registry: Registry;
  /** VMPL0 on behalf of a call. */
  readonly #subject = subject(SubjectKind.Call, 0, Side.Private);
  readonly #zeroes = new Uint8Array(PAGE_SIZE);
  readonly #base: number;
  readonly #end: number;
  readonly #rights: number;
  readonly #word = new Uint8Array(8);
  readonly #area = new Uint8Array(VMSA_USED);

  constructor(snp: SnpContext, registry: Registry) {
    this.#snp = snp;
    this.#registry = registry;
    const { svsmBase, svsmSize } = snp.options;
    this.#base = Number(svsmBase);
    this.#end = this.#base + Number(svsmSize);
    this.#rights = Read | Write;
  }

  /** An address of a guest as a number, or -1 where no memory can be. */
  static address(value: bigint): number {
    return value < LIMIT ? Number(value) : -1;
  }

  /**
   * The guest memory test: the region lies in one piece of the memory map without the provider's memory, and touches no VMSA, no head of a calling area
   * and not the page of the launch VMSA. @param gpa - -1 for an address beyond all memory. @spec coconut-svsm kernel/src/mm/memory.rs, valid_phys_region
   */
  isGuestMemory(gpa: number, length: number): boolean {
    const end = gpa + length;
    if (gpa < 0 || !(end <= 2 ** 52)) return false;
    if (gpa < this.#end && end > this.#base) return false;
    const slot = this.#snp.machine.memory.slots.find(Math.floor(gpa / PAGE_SIZE));
    if (slot === null || end > slot.end * PAGE_SIZE) return false;
    if (gpa < LAUNCH_VMSA + PAGE_SIZE && end > LAUNCH_VMSA) return false;
    return !this.#registry.overlaps(gpa, end);
  }

  /** What all pages of a region are. */
  stateOf(gpa: number, length: number): PageState {
    if (!this.isGuestMemory(gpa, length)) return PageState.Refused;
    return this.areValid(gpa, length) ? PageState.Usable : PageState.Invalid;
  }

  /** Whether all pages of a region are private, valid and readable and writable to the guest. */
  areValid(gpa: number, length: number): boolean {
    const { rmp } = this.#snp.chapters;
    const { guestVmpl } = this.#snp.options;
    const last = Math.floor((gpa + length - 1) / PAGE_SIZE);
    for (let gpn = Math.floor(gpa / PAGE_SIZE); gpn <= last; gpn++) {
      const { assigned, validated, perms } = rmp.entry(gpn);
      if (!assigned || !validated || (perms[(guestVmpl - 1) as 0 | 1 | 2] & this.#rights) !== this.#rights) return false;
    }
    return true;
  }

  /** Copies a structure of the guest. @returns false when it is not usable memory. */
  fetch(buffer: CallBuffer, gpa: number, length: number): boolean {
    return this.stateOf(gpa, length) === PageState.Usable && buffer.fetch(this.#snp.machine.memory.access, this.#subject, gpa, length) === AccessResult.Ok;
  }

  /** Stores bytes of a result. @returns false when it is not usable memory; nothing is stored then. */
  store(gpa: number, bytes: Uint8Array, length = bytes.length): boolean {
    return this.stateOf(gpa, length) === PageState.Usable && this.#snp.machine.memory.access.write(this.#subject, gpa, bytes, 0, length) === AccessResult.Ok;
  }

  /**
   * Takes in what the guest wrote into a page that becomes a VMSA: the processor reads it from there, so a trace must know it.
   * Called when the guest cannot write it any more. @returns false when the page cannot be reached.
   */
  takeVmsa(gpa: number): boolean {
    const { access, subjects } = this.#snp.machine.memory;
    if (access.read(this.#subject, gpa, this.#area, 0, this.#area.length) !== AccessResult.Ok) return false;
    // A replay gives the bytes of the trace, and memory gets them here.
    return access.onCallRead === null || access.write(subjects[0]!.host, gpa, this.#area, 0, this.#area.length) === AccessResult.Ok;
  }

  /** Clears a page, whatever the guest may do with it. @returns false when the page cannot be reached. */
  clearPage(gpa: number): boolean {
    return this.#snp.machine.memory.access.write(this.#subject, gpa, this.#zeroes, 0, PAGE_SIZE) === AccessResult.Ok;
  }

  /** Whether VMPL0 itself may touch a page. */
  #isValid(gpa: number): boolean {
    const { assigned, validated } = this.#snp.chapters.rmp.entry(Math.floor(gpa / PAGE_SIZE));
    return assigned && validated;
  }

  // -- calling areas: registered, so the test above does not admit them ------------------------------------------------

  /** Clears the head of a calling area that is about to be used. */
  clearHead(gpa: number): boolean {
    return this.#snp.machine.memory.access.write(this.#subject, gpa, this.#zeroes, 0, SVSM_CALLING_AREA_HEAD) === AccessResult.Ok;
  }
  /** Takes the call request: reads the head and writes it back without. @returns whether there was one. */
  takeCall(gpa: number): boolean {
    const { access } = this.#snp.machine.memory;
    if (!this.#isValid(gpa) || access.read(this.#subject, gpa, this.#word, 0, SVSM_CALLING_AREA_HEAD) !== AccessResult.Ok || this.#word[0] === 0) return false;
    this.#word[0] = 0;
    return access.write(this.#subject, gpa, this.#word, 0, SVSM_CALLING_AREA_HEAD) === AccessResult.Ok;
  }
  /** A byte of the head; -1 when it cannot be read. */
  readHead(gpa: number, at: number): number {
    const { access } = this.#snp.machine.memory;
    return this.#isValid(gpa) && access.readU8(this.#subject, gpa + at) === AccessResult.Ok ? access.lo : -1;
  }
  writeHead(gpa: number, at: number, value: number): void {
    this.#snp.machine.memory.access.writeU8(this.#subject, gpa + at, value);
  }
}
