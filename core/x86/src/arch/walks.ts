import { AccessResult, type Machine, type MemoryFaultInfo, type PlaneContext, Right, type Subject } from '@vmplanes/engine';
import { Access, type AddressModel, GuestTables, loadPdptes, PagingMode, pagingMode, type Privilege, refusalOf, type Translation, translate, walk, WalkInput, WalkKind, WalkResult } from '../mmu/index.ts';
import { X86 } from '../state/layout.ts';
import type { SidedSubjects } from './sides.ts';

/** Page walks of one plane context; everything is preallocated. The result is borrowed until the next walk. */
export class PlaneWalker {
  readonly #machine: Machine;
  readonly #context: PlaneContext;
  readonly #tables: GuestTables;
  readonly #input: WalkInput;
  readonly #out = new WalkResult();

  /** @param byMode - whether execute rights are asked for by mode: see {@link WalkInput.fetchByMode}. */
  constructor(
    machine: Machine,
    context: PlaneContext,
    model: AddressModel,
    readonly byMode: () => boolean,
    hasSmep: boolean,
    sided: SidedSubjects | null,
  ) {
    this.#machine = machine;
    this.#context = context;
    this.#tables = new GuestTables(machine.memory.access, machine.memory.subjects[context.plane]!, sided);
    this.#input = new WalkInput(model);
    this.#input.hasSmep = hasSmep;
  }

  #load(): void {
    const { u32 } = this.#machine.arena;
    const word = this.#context.base >>> 2;
    const input = this.#input;
    input.cr0 = u32[word + X86.cr0 / 4]!;
    input.cr3Lo = u32[word + X86.cr3 / 4]!;
    input.cr3Hi = u32[word + X86.cr3 / 4 + 1]!;
    input.cr4 = u32[word + X86.cr4 / 4]!;
    input.efer = u32[word + X86.efer / 4]!;
    input.pkru = u32[word + X86.pkru / 4]!;
    input.ac = (u32[word + X86.rflags / 4]! & (1 << 18)) !== 0;
    input.fetchByMode = this.byMode();
    // A scripted guest has no PDPTE registers of its own: they are read with each walk.
    if (pagingMode(input.cr0, input.cr4, input.efer) === PagingMode.Pae) loadPdptes(this.#tables, input, input.pdpte);
  }

  /** @param lo - low half of the linear address. */
  walk(lo: number, hi: number, access: Access, privilege: Privilege): WalkResult {
    this.#load();
    return this.#walk(lo, hi, access, privilege, true);
  }

  /**
   * Walks on behalf of someone else than the plane's own instructions.
   * @param setFlags - set accessed and dirty flags as the access would.
   * @param smap - stands for RFLAGS.AC: `on` enforces SMAP, `off` lifts it, null takes the flag.
   */
  probe(lo: number, hi: number, access: Access, privilege: Privilege, setFlags: boolean, smap: 'on' | 'off' | null): WalkResult {
    this.#load();
    if (smap !== null) this.#input.ac = smap === 'off';
    return this.#walk(lo, hi, access, privilege, setFlags);
  }

  #walk(lo: number, hi: number, access: Access, privilege: Privilege, setFlags: boolean): WalkResult {
    const input = this.#input;
    input.laLo = lo;
    input.laHi = hi;
    input.access = access;
    input.privilege = privilege;
    input.setFlags = setFlags;
    const out = this.#out;
    walk(this.#tables, input, out);
    // No memory at the leaf is for the bus to answer, not for the second stage.
    if (out.kind === WalkKind.Stage2 && !out.isWalk && refusalOf(out.status) === AccessResult.Absent) out.kind = WalkKind.Mapped;
    return out;
  }

  /** Looks an address up for the VMM: no right is checked, no flag set. */
  translate(linear: bigint): Translation {
    this.#load();
    return translate(this.#tables, this.#input, this.#out, linear);
  }

  /** Who makes the access that the last walk was for. */
  get leafSubject(): Subject {
    return this.#tables.leafSubject;
  }

  /** Writes the refusal of the last walk into a memory-fault record. */
  describeRefusal(info: MemoryFaultInfo): void {
    const { memory } = this.#machine;
    const out = this.#out;
    const tables = this.#tables;
    const isWrite = out.stage2Access === Access.Write || out.stage2Access === Access.ShadowWrite;
    const rights = out.stage2Access === Access.Fetch ? (out.userPage ? Right.ExecUser : Right.ExecSupervisor) : isWrite ? Right.Write : Right.Read;
    memory.access.describe(info, out.isWalk ? tables.walkSubject : tables.leafSubject, refusalOf(out.status), rights);
  }
}
