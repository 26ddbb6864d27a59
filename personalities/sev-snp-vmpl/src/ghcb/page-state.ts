import { GhcbReason, PSC_LARGE_PAGES, PscEntry, PscError, PscHeader, PscOperation } from '@vmplanes/abi-sev-snp';
import { AccessResult, type Accessor } from '@vmplanes/engine';
import type { GhcbFrame } from './frame.ts';
import type { GhcbHost } from './host.ts';
import { bytesToBufferEnd } from './scratch.ts';

const CUR_PAGE_MASK = Number(PscEntry.mask.curPage);
const OPERATION = { shift: PscEntry.shift.operation - 32, mask: 0xf } as const;
const LARGE = 1 << (PscEntry.shift.large - 32);
/** Bits of the page number in the high half of an entry. */
const PAGE_HIGH = 0xf_ffff;
const ENTRY_BYTES = 8;

/** One entry as it was read: the copy that is checked is the copy that is used. */
interface Entry {
  done: number;
  page: number;
  operation: number;
  large: boolean;
}
const newEntry = (): Entry => ({ done: 0, page: 0, operation: 0, large: false });
const sizeOf = (e: Entry): number => (e.large ? PSC_LARGE_PAGES : 1);

/**
 * Changes pages between private and shared: one by the MSR protocol, or the list in the shared buffer. The list is the guest's memory, and other
 * processors may write it at any time: each entry is read once for each use, and checked then.
 * @spec GHCB 4.1.6; Linux arch/x86/kvm/svm/sev.c (snp_begin_psc)
 */
export class PageStates {
  readonly #access: Accessor;
  readonly #first = newEntry();
  readonly #next = newEntry();

  constructor(readonly host: GhcbHost) {
    this.#access = host.snp.machine.memory.access;
  }

  /** Changes pages. @returns false when the machine refuses: there is no memory, or no such operation. */
  change(gpn: number, count: number, operation: number, large: boolean): boolean {
    if (operation !== PscOperation.Private && operation !== PscOperation.Shared) return false;
    if (!this.host.hasMemory(gpn, count)) return false;
    this.host.snp.chapters.rmp.assign(gpn, count, operation === PscOperation.Private, large);
    return true;
  }

  /** Works a list off. The result, an error of the list included, is in the frame. */
  list(frame: GhcbFrame): void {
    const room = bytesToBufferEnd(frame.scratch, frame.gpa);
    if (room < PscHeader.size) return frame.fail(GhcbReason.InvalidScratch);
    const capacity = Math.floor((room - PscHeader.size) / ENTRY_BYTES);
    const access = this.#access;
    if (access.readU32(frame.subject, frame.scratch) !== AccessResult.Ok) return frame.fail(GhcbReason.InvalidScratch);
    let index = access.lo & 0xffff;
    const last = access.lo >>> 16;
    if (last >= capacity) return this.#end(frame, PscError.InvalidHeader);
    const entry = this.#first;
    while (index <= last) {
      if (!this.#read(frame, index, entry)) return this.#end(frame, PscError.Generic);
      const pages = sizeOf(entry);
      if (entry.done > pages || entry.page % pages !== 0) return this.#end(frame, PscError.InvalidEntry);
      if (entry.done === pages) {
        index++;
        this.#setCurrent(frame, index);
        continue;
      }
      // What is left of a large page goes on in small ones.
      const large = entry.large && entry.done === 0;
      const page = entry.page + entry.done;
      let count = pages - entry.done;
      let entries = 1;
      while (large === entry.large && index + entries <= last && this.#follows(frame, index + entries, entry, count, pages)) {
        count += pages;
        entries++;
      }
      const isKnown = entry.operation === PscOperation.Private || entry.operation === PscOperation.Shared;
      // Operations that are hints are completed without effect.
      if (isKnown && !this.change(page, count, entry.operation, large)) return this.#end(frame, PscError.Generic);
      const batchEnd = index + entries;
      for (; index < batchEnd; index++) this.#finish(frame, index, pages);
      this.#setCurrent(frame, index);
    }
    frame.succeed();
  }

  /** An entry of the same kind that goes on where the batch ends, untouched so far. One without memory stays out: those before it are done, and it fails by itself. */
  #follows(frame: GhcbFrame, index: number, first: Entry, count: number, pages: number): boolean {
    const next = this.#next;
    const isNext = this.#read(frame, index, next) && next.operation === first.operation && next.large === first.large && next.done === 0 && next.page === first.page + count;
    return isNext && this.host.hasMemory(next.page, pages);
  }

  #end(frame: GhcbFrame, error: PscError): void {
    frame.succeed(error.lo, error.hi);
  }

  #at(frame: GhcbFrame, index: number): number {
    return frame.scratch + PscHeader.size + index * ENTRY_BYTES;
  }
  #read(frame: GhcbFrame, index: number, into: Entry): boolean {
    const access = this.#access;
    if (access.readU64(frame.subject, this.#at(frame, index)) !== AccessResult.Ok) return false;
    const { lo, hi } = access;
    into.done = lo & CUR_PAGE_MASK;
    into.page = (hi & PAGE_HIGH) * 2 ** 20 + (lo >>> 12);
    into.operation = (hi >>> OPERATION.shift) & OPERATION.mask;
    into.large = (hi & LARGE) !== 0;
    if (access.preempt !== null) access.preempt('fetched');
    return true;
  }
  /** All pages of an entry are done. The rest of it is left as it is in the guest. */
  #finish(frame: GhcbFrame, index: number, pages: number): void {
    const access = this.#access;
    const at = this.#at(frame, index);
    if (access.readU16(frame.subject, at) === AccessResult.Ok) access.writeU16(frame.subject, at, (access.lo & ~CUR_PAGE_MASK) | pages);
  }
  #setCurrent(frame: GhcbFrame, index: number): void {
    this.#access.writeU16(frame.subject, frame.scratch, index);
  }
}
