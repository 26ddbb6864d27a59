import { AccessResult, type Accessor, type Machine, type MemoryFaultInfo, type PlaneContext, planeSubjects, Right, type Subject } from '@vmplanes/engine';
import { Access, type AddressModel, loadPdptes, type PageTableMemory, PagingMode, pagingMode, type Privilege, TableStatus, type Translation, translate, walk, WalkInput, WalkResult } from '../mmu/index.ts';
import { X86 } from '../state/layout.ts';

/** Page tables in guest memory: every access is a page walk of one plane, refused by the second stage as such. */
class PlaneTables implements PageTableMemory {
  lo = 0;
  hi = 0;
  readonly #access: Accessor;
  readonly #walk: Subject;
  readonly #cpu: Subject;
  /** Result and rights of the last refusal. */
  refused: AccessResult = AccessResult.Ok;
  refusedRights = 0;
  refusedWalk = false;
  /** The debugger's view: the second stage is not asked for the leaf. */
  looksOnly = false;

  constructor(machine: Machine, plane: number) {
    this.#access = machine.memory.access;
    const subjects = planeSubjects(plane);
    this.#walk = subjects.walk;
    this.#cpu = subjects.cpu;
  }

  read(gpa: number, bytes: number): number {
    const result = bytes === 8 ? this.#access.readU64(this.#walk, gpa) : this.#access.readU32(this.#walk, gpa);
    if (result !== AccessResult.Ok) return this.#refuse(result, Right.Read, true);
    this.lo = this.#access.lo;
    this.hi = bytes === 8 ? this.#access.hi : 0;
    return TableStatus.Ok;
  }

  compareAndSwap(gpa: number, bytes: number, oldLo: number, oldHi: number, newLo: number, newHi: number): number {
    const wide = bytes === 8;
    const seen = wide ? this.#access.readU64(this.#walk, gpa) : this.#access.readU32(this.#walk, gpa);
    if (seen !== AccessResult.Ok) return this.#refuse(seen, Right.Read, true);
    if (this.#access.lo !== oldLo >>> 0 || (wide && this.#access.hi !== oldHi >>> 0)) return TableStatus.Changed;
    const result = wide ? this.#access.writeU64(this.#walk, gpa, newLo, newHi) : this.#access.writeU32(this.#walk, gpa, newLo);
    return result === AccessResult.Ok ? TableStatus.Ok : this.#refuse(result, Right.Write, true);
  }

  leaf(gpa: number, access: Access, userPage: boolean): number {
    if (this.looksOnly) return TableStatus.Ok;
    const right = access === Access.Fetch ? (userPage ? Right.ExecUser : Right.ExecSupervisor) : access === Access.Write || access === Access.ShadowWrite ? Right.Write : Right.Read;
    const result = this.#access.check(this.#cpu, gpa, 1, right);
    // No memory there is for the bus to answer, not for the second stage.
    return result === AccessResult.Ok || result === AccessResult.Absent ? TableStatus.Ok : this.#refuse(result, right, false);
  }

  #refuse(result: AccessResult, rights: number, isWalk: boolean): number {
    this.refused = result;
    this.refusedRights = rights;
    this.refusedWalk = isWalk;
    return TableStatus.Refused + result;
  }

  describe(info: MemoryFaultInfo): void {
    this.#access.describe(info, this.refusedWalk ? this.#walk : this.#cpu, this.refused, this.refusedRights);
  }
}

/** Page walks of one plane context; everything is preallocated. The result is borrowed until the next walk. */
export class PlaneWalker {
  readonly #machine: Machine;
  readonly #context: PlaneContext;
  readonly #tables: PlaneTables;
  readonly #input: WalkInput;
  readonly #out = new WalkResult();

  constructor(machine: Machine, context: PlaneContext, model: AddressModel) {
    this.#machine = machine;
    this.#context = context;
    this.#tables = new PlaneTables(machine, context.plane);
    this.#input = new WalkInput(model);
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
    // A scripted guest has no PDPTE registers of its own: they are read with each walk.
    if (pagingMode(input.cr0, input.cr4, input.efer) === PagingMode.Pae) loadPdptes(this.#tables, input, input.pdpte);
  }

  /** @param lo - low half of the linear address. */
  walk(lo: number, hi: number, access: Access, privilege: Privilege): WalkResult {
    this.#load();
    const input = this.#input;
    input.laLo = lo;
    input.laHi = hi;
    input.access = access;
    input.privilege = privilege;
    input.setFlags = true;
    walk(this.#tables, input, this.#out);
    return this.#out;
  }

  /** Looks an address up for the VMM: no right is checked, no flag set. */
  translate(linear: bigint): Translation {
    this.#load();
    this.#tables.looksOnly = true;
    try {
      return translate(this.#tables, this.#input, this.#out, linear);
    } finally {
      this.#tables.looksOnly = false;
    }
  }

  /** Writes the refusal of the last walk into a memory-fault record. */
  describeRefusal(info: MemoryFaultInfo): void {
    this.#tables.describe(info);
  }
}
