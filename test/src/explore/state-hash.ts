import { type Machine, MAX_PLANES, type PlainRecord, type PlaneContext, Sharing, StateHash, type Vp } from '@vmplanes/engine';
import { X86, type X86Arch, x86ContextLayout } from '@vmplanes/x86';
import { keyOfHash } from './threads.ts';

/** Parts of a local APIC's block that only count or tell a time: what a machine does next does not depend on them. */
const APIC_DEADLINE = 0x428;
const APIC_COUNTERS = 0x440;

/**
 * Words of a context block that differ between states: vector registers are out of reach of scripts, and instruction
 * pointers only grow in them, so that a loop would never come back to a state.
 */
const { ranges } = new Sharing(x86ContextLayout, { shared: x86ContextLayout.registers.map((r) => r.name), except: ['fpu', 'rip', 'reserved'] });

const addPlain = (hash: StateHash, value: unknown): void => {
  if (typeof value === 'number') hash.addNumber(value);
  else if (typeof value === 'boolean') hash.add(value ? 2 : 1);
  else if (typeof value === 'string') hash.addText(value);
  else if (typeof value === 'bigint') hash.addText(value.toString());
  else if (value === null || value === undefined) hash.add(3);
  else if (value instanceof Uint32Array || value instanceof BigUint64Array) hash.addWords(new Uint32Array(value.buffer, value.byteOffset, value.byteLength / 4), 0, value.byteLength / 4);
  else if (ArrayBuffer.isView(value)) for (const n of value as Uint8Array) hash.addNumber(n);
  else if (Array.isArray(value)) {
    hash.add(value.length);
    for (const v of value) addPlain(hash, v);
  } else
    for (const [k, v] of Object.entries(value)) {
      hash.addText(k);
      addPlain(hash, v);
    }
};

const addContext = (hash: StateHash, machine: Machine, arch: X86Arch, c: PlaneContext): void => {
  const { u32 } = machine.arena;
  const first = c.base >>> 2;
  hash.add(c.plane | (c.schedule << 8) | (c.activity << 10));
  if (c.wait) addPlain(hash, c.wait);
  if (c.completion) addPlain(hash, c.completion);
  for (let i = 0; i < ranges.length; i += 2) hash.addWords(u32, first + ranges[i]!, ranges[i + 1]!);
  const { block } = arch.apicOf(c);
  const at = block.at >>> 2;
  hash.addWords(block.arena.u32, at, APIC_DEADLINE / 4);
  hash.addWords(block.arena.u32, at + APIC_DEADLINE / 4 + 2, (APIC_COUNTERS - APIC_DEADLINE) / 4 - 2);
  const due = c.events.deadline();
  hash.addNumber(due === Number.POSITIVE_INFINITY ? -1 : due - machine.time);
};

/** In place of instruction pointers: the step, and whether it is done. */
const addPrograms = (hash: StateHash, machine: Machine, vp: Vp): void => {
  const programs = machine.cpuOf(vp).save() as readonly (PlainRecord | null)[];
  programs.forEach((p, plane) => {
    if (p === null) return;
    const c = vp.planes[plane];
    const rip = c ? machine.arena.u32[(c.base + X86.rip) >>> 2]! : 0;
    hash.add(p['awaiting'] === true ? (p['ripAtExit'] === rip ? 2 : 1) : 0);
    if (p['failed'] !== null) hash.add(5);
    for (const f of p['frames'] as readonly PlainRecord[]) {
      hash.add(f['vector'] as number);
      addPlain(hash, f['pc'] ?? f['results']);
    }
  });
};

/**
 * 53 bits of a hash over all that decides what a machine does next; history (counts, times gone by, statistics) is left
 * out, so that two ways to one state meet. Valid between runs.
 * @param extra - what the world around the machine remembers.
 */
export const stateKey = (machine: Machine, arch: X86Arch, extra: Int32Array): number => {
  const hash = new StateHash();
  for (const n of extra) hash.add(n);
  for (const vp of machine.vps) {
    hash.add(vp.current | (vp.named << 4) | (vp.runnable << 8));
    hash.add(vp.pending | (vp.asked << 16));
    hash.add(vp.reqExit | (vp.recheck << 16));
    hash.add(vp.existing | ((vp.immediateExit ? 1 : 0) << 16));
    for (let p = 0; p < MAX_PLANES; p++) {
      const c = vp.planes[p];
      if (c) addContext(hash, machine, arch, c);
    }
    addPrograms(hash, machine, vp);
  }
  for (const p of machine.personalities) addPlain(hash, p.save());
  addPlain(hash, machine.saveOwn().released);
  machine.memory.hashInto(hash);
  return keyOfHash(hash);
};

