import { Access } from './access.ts';
import type { WalkInput } from './input.ts';
import type { PageTableMemory } from './memory.ts';
import { PageRight, WalkKind, type WalkResult } from './result.ts';
import { walk } from './walk.ts';

/** A translation as a debugger or a virtual machine monitor asks for it. */
export interface Translation {
  readonly valid: boolean;
  /** Guest physical address; 0 when not valid. */
  readonly gpa: number;
  /** The tables allow writing (CR0.WP not considered). */
  readonly writeable: boolean;
  /** The tables allow user-mode access. */
  readonly usermode: boolean;
}

/**
 * Looks an address up without side effects: no right is checked, no flag is set. Not for hot paths (allocates its answer).
 * The access fields of `input` are restored afterwards.
 * @param out - scratch, overwritten.
 */
export function translate(memory: PageTableMemory, input: WalkInput, out: WalkResult, linear: bigint): Translation {
  const { laLo, laHi, access, setFlags } = input;
  input.laLo = Number(linear & 0xffffffffn);
  input.laHi = Number((linear >> 32n) & 0xffffffffn);
  input.access = Access.Lookup;
  input.setFlags = false;
  const valid = walk(memory, input, out) === WalkKind.Mapped;
  Object.assign(input, { laLo, laHi, access, setFlags });
  return { valid, gpa: valid ? out.gpa : 0, writeable: valid && (out.rights & PageRight.Write) !== 0, usermode: valid && (out.rights & PageRight.User) !== 0 };
}
