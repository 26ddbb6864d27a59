import { PAGES_PER_2M } from '@vmplanes/abi-sev-snp';
import { SVSM_PVALIDATE_ENTRY, SvsmCoreResult, SvsmPvalidateList, SvsmResult } from '@vmplanes/abi-svsm';
import { PAGE_SIZE } from '@vmplanes/engine';
import type { SvsmFrame } from './frame.ts';
import { GuestPages } from './guest-pages.ts';
import type { SvsmHandler } from './handler.ts';
import type { SvsmProvider } from './provider.ts';
import { RWX } from './rights.ts';

const { Success, Incomplete, InvalidAddress, InvalidParameter } = SvsmResult;
const HEAD = SvsmPvalidateList.size;
/** Pages that keep their contents: an area of read-only memory on PCs. Only where an entry starts counts. @spec coconut-svsm kernel/src/protocols/core.rs */
const isKept = (gpn: number): boolean => gpn >= 0xa0 && gpn <= 0xff;
/** Words of an entry: page size, action and flags are in the low one. @spec SVSM 1.00, SVSM_CORE_PVALIDATE */
const Entry = { size: 3, validate: 1 << 2, ignoreUnchanged: 1 << 3, reserved: 0xff0 } as const;

/**
 * SVSM_CORE_PVALIDATE: validates or rescinds pages of a list, which stays in one page. The list is copied once; its head is written back with the first entry
 * that is not done. @spec SVSM 1.00, SVSM_CORE_PVALIDATE; coconut-svsm kernel/src/protocols/core.rs
 */
export const pvalidate: SvsmHandler = (p, call) => {
  if ((call.rcx & 7n) !== 0n) return InvalidParameter;
  const list = GuestPages.address(call.rcx);
  const { buffer } = call;
  if (!p.pages.fetch(buffer, list, HEAD)) return InvalidAddress;
  const entries = buffer.view.getUint16(SvsmPvalidateList.at.entries, true);
  let next = buffer.view.getUint16(SvsmPvalidateList.at.next, true);
  const room = Math.floor((PAGE_SIZE - (list % PAGE_SIZE) - HEAD) / SVSM_PVALIDATE_ENTRY);
  if (entries === 0 || entries > room || entries <= next) return InvalidParameter;
  // Counts were judged: the entries that follow are read once, and the head is not read again.
  const head = buffer.bytes.slice(0, HEAD);
  if (!p.pages.fetch(buffer, list + HEAD, entries * SVSM_PVALIDATE_ENTRY)) return InvalidAddress;

  const most = p.snp.options.svsmIncompleteEvery === 0 ? entries : next + p.snp.options.svsmIncompleteEvery;
  let result: number = Success;
  while (next < entries) {
    if (next >= most) {
      result = Incomplete;
      break;
    }
    p.preempt('svsm:pvalidate-entry', call.vp);
    const lo = buffer.view.getUint32(next * SVSM_PVALIDATE_ENTRY, true);
    const hi = buffer.view.getUint32(next * SVSM_PVALIDATE_ENTRY + 4, true);
    result = one(p, call, lo, hi);
    if (result !== Success) break;
    next++;
  }
  new DataView(head.buffer).setUint16(SvsmPvalidateList.at.next, next, true);
  return p.pages.store(list, head) ? result : InvalidAddress;
};

const one = (p: SvsmProvider, call: SvsmFrame, lo: number, hi: number): number => {
  const size = lo & Entry.size;
  if ((lo & Entry.reserved) !== 0 || size > 1) return InvalidParameter;
  const gpn = hi * 2 ** 20 + (lo >>> 12);
  const large = size === 1;
  if (large && gpn % PAGES_PER_2M !== 0) return InvalidParameter;
  if (!p.pages.isGuestMemory(gpn * PAGE_SIZE, large ? PAGES_PER_2M * PAGE_SIZE : PAGE_SIZE)) return InvalidAddress;
  return (lo & Entry.validate) !== 0 ? validate(p, gpn, large, (lo & Entry.ignoreUnchanged) !== 0) : rescind(p, call, gpn, large, (lo & Entry.ignoreUnchanged) !== 0);
};

/** PVALIDATE, then the page is cleared before the guest may reach it: nobody reads what was there. */
const validate = (p: SvsmProvider, gpn: number, large: boolean, ignores: boolean): number => {
  const done = p.pvalidate(gpn, large, true);
  if (done !== Success && !(done === SvsmCoreResult.Unchanged && ignores)) return done;
  if (!isKept(gpn)) for (let page = gpn; page < gpn + (large ? PAGES_PER_2M : 1); page++) p.pages.clearPage(page * PAGE_SIZE);
  return p.adjust(gpn, large, p.snp.options.guestVmpl, RWX, false);
};

/** The guest loses its rights before the page stops being valid. */
const rescind = (p: SvsmProvider, call: SvsmFrame, gpn: number, large: boolean, ignores: boolean): number => {
  const { assigned, validated } = p.snp.chapters.rmp.entry(gpn);
  // RMPADJUST of a page that is not valid raises #VC at VMPL0.
  if (assigned && !validated && p.deviates('uncheckedPages')) {
    p.dies('a page that is not valid was rescinded', call);
    return SvsmCoreResult.FailInput;
  }
  const revoked = p.revoke(gpn, large);
  if (revoked !== Success) return revoked;
  const done = p.pvalidate(gpn, large, false);
  return done === SvsmCoreResult.Unchanged && ignores ? Success : done;
};
