import type { Arena } from '../arena.ts';
import { PAGE_SIZE } from '../ids.ts';
import { NO_FRAME } from './frames.ts';
import type { GuestMemory } from './guest-memory.ts';

/** Beside the rights of an overlay: the permission table does not count. */
const IGNORES_TABLE = 0x100;

/** A 64-bit hash of a sequence of words, to tell states apart quickly; no protection against forgery. */
export class StateHash {
  lo = 0x9e3779b9 | 0;
  hi = 0x7f4a7c15 | 0;

  /** Adds 32 bits. */
  add(word: number): void {
    const lo = Math.imul(this.lo ^ word, 0x85ebca6b);
    this.lo = lo ^ (lo >>> 15);
    const hi = Math.imul(this.hi ^ (word + this.lo), 0xc2b2ae35);
    this.hi = hi ^ (hi >>> 13);
  }

  /** Adds a number up to 2^53. */
  addNumber(value: number): void {
    this.add(value | 0);
    this.add(Math.floor(value / 2 ** 32));
  }

  addText(text: string): void {
    this.add(text.length);
    for (let i = 0; i < text.length; i++) this.add(text.charCodeAt(i));
  }

  /** Adds words of an array. */
  addWords(words: Uint32Array, first: number, count: number): void {
    let lo = this.lo;
    let hi = this.hi;
    for (let i = first; i < first + count; i++) {
      const word = words[i]!;
      lo = Math.imul(lo ^ word, 0x85ebca6b);
      lo ^= lo >>> 15;
      hi = Math.imul(hi ^ (word + lo), 0xc2b2ae35);
      hi ^= hi >>> 13;
    }
    this.lo = lo;
    this.hi = hi;
  }
}

/**
 * Adds guest memory to a hash: what guests, owners and the VMM can see, not how it is stored. Two memories with the same content hash
 * alike even when their frames were given out in another order or a page of zeros is backed in one of them only.
 */
export function hashMemory(arena: Arena, memory: GuestMemory, hash: StateHash): void {
  const { frames } = memory;
  const seen = new Map<number, number>();
  let place = 0;
  const content = (frame: number): void => {
    if (frames.isZero(frame)) return;
    hash.addNumber(place);
    hash.addWords(arena.u32, frames.byteOf(frame) >>> 2, PAGE_SIZE / 4);
  };
  const ordinals = new Map<number, number>();
  for (const backing of memory.backings.all) {
    hash.addNumber(backing.pages);
    ordinals.set(backing.id, ordinals.size);
    const base = place;
    backing.forEachFrame((page, isPrivate, frame) => {
      place = base + page * 2 + (isPrivate ? 1 : 0);
      seen.set(frame, place);
      content(frame);
    });
    place = base + backing.pages * 2;
  }
  for (const s of memory.slots.all) {
    hash.addNumber(s.id);
    hash.addNumber(s.first);
    hash.addNumber(s.pages);
    hash.add((s.isReadonly ? 1 : 0) | (s.dirty ? 2 : 0));
    hash.add(ordinals.get(s.backing.id)!);
    hash.addNumber(s.backingPage);
    if (s.dirty) hash.addWords(s.dirty, 0, s.dirty.length);
  }
  for (const overlays of memory.overlays) {
    for (const o of overlays.save()) {
      hash.add(o.plane);
      hash.addNumber(o.gpn);
      hash.add(o.ignoresTable ? o.rights | IGNORES_TABLE : o.rights);
      hash.add(o.owners);
      hash.addNumber(seen.get(o.frame) ?? NO_FRAME);
      if (seen.has(o.frame)) continue;
      seen.set(o.frame, ++place);
      content(o.frame);
    }
  }
  // Frames that only owners hold: what they keep there may come back.
  for (let frame = 0; frame < frames.count; frame++) {
    if (!frames.isHeld(frame) || seen.has(frame)) continue;
    seen.set(frame, ++place);
    content(frame);
  }
  const watches = memory.watches.save().sort((a, b) => seen.get(a.frame)! - seen.get(b.frame)!);
  for (const w of watches) {
    hash.addNumber(seen.get(w.frame)!);
    hash.addText(w.watcherId);
    hash.add(w.marks | (w.count << 8));
  }
  const addRows = (rows: Float64Array): void => {
    hash.add(rows.length);
    for (const v of rows) hash.addNumber(v);
  };
  addRows(memory.privacyRows());
  for (const p of memory.permissions) {
    const { rows, defaultRights, isDefaultSet } = p.save();
    addRows(rows);
    hash.add(defaultRights | (isDefaultSet ? 32 : 0));
  }
  for (const { vp, state } of memory.dirty.save().rings) {
    hash.add(vp);
    hash.addNumber(state.dirtyIndex - state.resetIndex);
    const words = state.entries.length;
    for (let i = state.resetIndex; i < state.dirtyIndex; i++) hash.addWords(state.entries, (i * 4) % words, 4);
  }
}
