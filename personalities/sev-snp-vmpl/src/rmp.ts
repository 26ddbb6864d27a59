import { ALL_VMPL_PERMISSIONS, PAGES_PER_2M, RmpEntryLow, RmpStatus, RmpUpdateEntry, SevFeature, SnpLevel, VMPL_COUNT, VmplPermission } from '@vmplanes/abi-sev-snp';
import { ALL_PLANES, ALL_RIGHTS, type Answer, type MemoryFaultExit, PAGE_SIZE, type PlainState, Right, type Rights } from '@vmplanes/engine';
import { type Rmp, RmpCause, type RmpEntry, type SnpContext, type SnpPlane } from './ports.ts';
import { RefusedAccesses } from './refused-access.ts';
import { contributeRmpInstructions } from './rmp-instructions.ts';
import { RmpBit, RmpTable } from './rmp-table.ts';

/** Carry flag of PVALIDATE beside its status: the page was so before. */
const UNCHANGED = 0x100;
/** ASID of this guest. The host's is 0. @spec APM vol. 2, 15.34.4 */
export const GUEST_ASID = 1;

const { Assigned, Validated, Immutable, Vmsa, Large, Foreign } = RmpBit;

/** Rights in the second stage by permission mask, without shadow stacks: there the execute bits stand the other way round. */
const RIGHTS: readonly Rights[] = Array.from(
  { length: 16 },
  (_, mask) =>
    (mask & VmplPermission.Read ? Right.Read : 0) |
    (mask & VmplPermission.Write ? Right.Write : 0) |
    (mask & VmplPermission.ExecuteUser ? Right.ExecUser : 0) |
    (mask & VmplPermission.ExecuteSupervisor ? Right.ExecSupervisor : 0),
);

/**
 * The reverse map table of a guest: who owns each page, whether it is validated, and what each VMPL may do with it. At most one private page stands at an
 * address, so the table is kept by guest page. What it allows is mirrored into the permission table of every plane, which every access asks; a change
 * reaches all VPs and planes before the instruction that made it is done.
 * @spec APM vol. 2, 15.36.3 to 15.36.7
 */
export class RmpChapter implements Rmp {
  readonly stateName = 'rmp';
  readonly #snp: SnpContext;
  readonly #table = new RmpTable();
  readonly #refused: RefusedAccesses;

  constructor(snp: SnpContext) {
    this.#snp = snp;
    this.#refused = new RefusedAccesses(snp, this);
    contributeRmpInstructions(snp, this, this.#refused);
    if (snp.level !== SnpLevel.SevSnp) return;
    // User and supervisor execute permissions go by the privilege of the fetch. @spec APM vol. 2, 15.36.7
    snp.arch.executeRightsByMode = snp.arch.executeRightsIgnoreSmep = true;
    snp.machine.memory.observe({
      permissionsChanged: () => {},
      translationsRevoked: (plane, first, count, rights) => {
        // Pages changed sides or slots. A restore brings tables that fit already.
        if (plane === ALL_PLANES && rights === ALL_RIGHTS && snp.machine.isWhole) this.#sidesChanged(first, count);
      },
      frameRevoked: () => {},
    });
  }

  entry(gpn: number): Readonly<RmpEntry> {
    return this.#table.entry(gpn);
  }

  // -- the host --------------------------------------------------------------------------------------------------------

  assign(gpn: number, count: number, isPrivate: boolean, large = false): void {
    const { memory } = this.#snp.machine;
    const wanted = isPrivate ? Assigned | (large ? Large : 0) : 0;
    for (let first = gpn; first < gpn + count; ) {
      const end = Math.min(this.#table.runEnd(first, gpn + count), memory.nextPrivacyChange(first));
      const pages = end - first;
      const bits = this.#table.bits(first);
      // The security processor's pages are its own; pages that are so already keep what they hold.
      const isSo = (bits & (Assigned | Foreign)) === (wanted & Assigned) && memory.isPrivate(first) === isPrivate;
      if (!isSo && (bits & Immutable) === 0) this.#convert(first, pages, wanted);
      first = end;
    }
  }

  /** A private page that the VMM makes shared is the guest's no longer. */
  #sidesChanged(first: number, count: number): void {
    const { memory } = this.#snp.machine;
    const limit = first + count;
    for (let at = first; at < limit; ) {
      const end = Math.min(this.#table.runEnd(at, limit), memory.nextPrivacyChange(at));
      if ((this.#table.bits(at) & (Assigned | Immutable)) === Assigned && !memory.isPrivate(at)) {
        this.#smashEdge(at);
        this.#smashEdge(end);
        this.#table.setBits(at, end - at, 0);
        this.#table.clearPermissions(at, end - at);
      }
      at = end;
    }
    this.#mirror(first, count);
  }

  #convert(first: number, count: number, bits: number): void {
    const { memory } = this.#snp.machine;
    const isPrivate = (bits & Assigned) !== 0;
    this.#smashEdge(first);
    this.#smashEdge(first + count);
    // A 2 MiB entry covers 512 pages that lie so; the rest gets entries of 4 KiB.
    const from = Math.ceil(first / PAGES_PER_2M) * PAGES_PER_2M;
    const to = Math.floor((first + count) / PAGES_PER_2M) * PAGES_PER_2M;
    this.#table.setBits(first, count, bits & ~Large);
    if ((bits & Large) !== 0 && to > from) this.#table.change(from, to - from, 0, Large);
    this.#table.clearPermissions(first, count);
    memory.discard(first, count, true);
    memory.discard(first, count, false);
    if (!memory.setPrivate(first, count, isPrivate)) this.#mirror(first, count);
  }

  /** A 2 MiB entry that a range ends within falls into its parts. */
  #smashEdge(gpn: number): void {
    if (gpn % PAGES_PER_2M !== 0 && (this.#table.bits(gpn) & Large) !== 0) this.#table.change(gpn - (gpn % PAGES_PER_2M), PAGES_PER_2M, Large, 0);
  }

  update(gpn: number, operand: Uint8Array): number {
    const { gpa, assigned, pagesize, immutable, reserved, asid } = RmpUpdateEntry.read(new DataView(operand.buffer, operand.byteOffset, operand.byteLength), 0);
    const isLarge = pagesize === 1;
    const pages = isLarge ? PAGES_PER_2M : 1;
    if (assigned > 1 || pagesize > 1 || immutable > 1 || reserved[0] !== 0 || gpa % BigInt(pages * PAGE_SIZE) !== 0n || gpn % pages !== 0) return RmpStatus.FailInput;
    if (assigned === 0 ? asid !== 0 || immutable !== 0 : asid === 0) return RmpStatus.FailInput;
    const overlap = this.#overlap(gpn, isLarge);
    if (overlap !== RmpStatus.Success) return overlap;
    if (this.#isInUse(gpn)) return RmpStatus.FailInuse;
    const isForeign = assigned === 1 && (asid !== GUEST_ASID || gpa !== BigInt(gpn) * BigInt(PAGE_SIZE));
    const before = this.#table.bits(gpn);
    const owner = this.#table.foreign(gpn);
    const isSame = (before & (Assigned | Large)) === (assigned | (isLarge && assigned === 1 ? Large : 0)) && ((before & Foreign) !== 0) === isForeign && (!isForeign || (owner?.asid === asid && owner.gpa === gpa));
    const bits = assigned | (isLarge && assigned === 1 ? Large : 0) | (immutable === 1 ? Immutable : 0) | (isForeign ? Foreign : 0) | (isSame ? before & (Validated | Vmsa) : 0);
    this.#table.setBits(gpn, pages, bits);
    if (isForeign) for (let i = 0; i < pages; i++) this.#table.setForeign(gpn + i, { asid, gpa: gpa + BigInt(i * PAGE_SIZE) });
    if (!isSame) this.#table.clearPermissions(gpn, pages);
    this.#mirror(gpn, pages);
    return RmpStatus.Success;
  }

  /** Whether RMPUPDATE may change the entry: not one of the security processor, and not across the borders of entries. */
  #overlap(gpn: number, isLarge: boolean): number {
    const bits = this.#table.bits(gpn);
    if (!isLarge) return (bits & Large) !== 0 ? RmpStatus.FailOverlap : (bits & Immutable) !== 0 ? RmpStatus.FailPermission : RmpStatus.Success;
    if ((bits & Large) !== 0) return (bits & Immutable) !== 0 ? RmpStatus.FailPermission : RmpStatus.Success;
    // Entries of 4 KiB that are in use lie under it.
    for (let at = gpn + 1; at < gpn + PAGES_PER_2M; at = this.#table.runEnd(at, gpn + PAGES_PER_2M)) if ((this.#table.bits(at) & Assigned) !== 0) return RmpStatus.FailOverlap;
    return (bits & Immutable) !== 0 ? RmpStatus.FailPermission : RmpStatus.Success;
  }

  smash(gpn: number): number {
    if (gpn % PAGES_PER_2M !== 0) return RmpStatus.FailInput;
    const bits = this.#table.bits(gpn);
    if ((bits & Assigned) === 0 || (bits & Large) === 0) return RmpStatus.FailInput;
    if ((bits & Immutable) !== 0) return RmpStatus.FailPermission;
    if (this.#isInUse(gpn)) return RmpStatus.FailInuse;
    this.#table.change(gpn, PAGES_PER_2M, Large, 0);
    return RmpStatus.Success;
  }

  /** A processor runs from the VMSA in this page. */
  #isInUse(gpn: number): boolean {
    return (this.#table.bits(gpn) & Vmsa) !== 0 && this.#snp.chapters.vmsas.isInUse(gpn);
  }

  /** RMPREAD: the first word of an entry. @spec APM vol. 2, 15.36.3 */
  read(gpn: number): bigint {
    const { assigned, validated, immutable, vmsa, large } = this.#table.entry(gpn);
    const owner = this.#table.foreign(gpn);
    const own = assigned ? GUEST_ASID : 0;
    return RmpEntryLow.pack({
      assigned,
      validated,
      immutable,
      vmsa,
      pagesize: large,
      gpn: owner === null ? (assigned ? BigInt(gpn) : 0n) : owner.gpa >> 12n,
      asid: owner === null ? own : owner.asid & 0x3ff,
    });
  }

  launch(gpn: number, perms: readonly [number, number, number], vmsa: boolean): void {
    const { memory } = this.#snp.machine;
    this.#smashEdge(gpn);
    this.#smashEdge(gpn + 1);
    this.#table.setBits(gpn, 1, Assigned | Validated | (vmsa ? Vmsa : 0));
    perms.forEach((mask, i) => this.#table.setPermissions(gpn, 1, i + 1, mask & ALL_VMPL_PERMISSIONS));
    if (!memory.setPrivate(gpn, 1, true)) this.#mirror(gpn, 1);
  }

  // -- the guest -------------------------------------------------------------------------------------------------------

  /** What keeps an RMP instruction from looking at an entry. @param large - of the operand; null for any. */
  #cause(gpn: number, large: boolean | null): RmpCause | 0 {
    const { memory } = this.#snp.machine;
    if (memory.slots.find(gpn) === null || !memory.isPrivate(gpn)) return RmpCause.NotMapped;
    const bits = this.#table.bits(gpn);
    if ((bits & (Assigned | Immutable | Foreign)) !== Assigned) return RmpCause.Entry;
    return large === false && (bits & Large) !== 0 ? RmpCause.SizeMismatch : 0;
  }

  validate(gpn: number, large: boolean, validated: boolean): number {
    const cause = this.#cause(gpn, large);
    if (cause !== 0) return cause;
    const bits = this.#table.bits(gpn);
    if (large && (bits & Large) === 0) return RmpStatus.FailSizeMismatch;
    if (((bits & Validated) !== 0) === validated) return RmpStatus.Success | UNCHANGED;
    const pages = large ? PAGES_PER_2M : 1;
    this.#table.change(gpn, pages, Validated, validated ? Validated : 0);
    this.#mirror(gpn, pages);
    return RmpStatus.Success;
  }

  adjust(caller: number, gpn: number, large: boolean, target: number, mask: number, vmsa: boolean): number {
    if (target <= caller || target >= VMPL_COUNT) return RmpStatus.FailPermission;
    if ((mask & ~ALL_VMPL_PERMISSIONS) !== 0) return RmpStatus.FailInput;
    const cause = this.#cause(gpn, large);
    if (cause !== 0) return cause;
    const bits = this.#table.bits(gpn);
    if ((bits & Validated) === 0) return RmpCause.NotValidated;
    if (large && (bits & Large) === 0) return RmpStatus.FailSizeMismatch;
    if ((mask & ~this.#table.permissions(gpn, caller)) !== 0) return RmpStatus.FailPermission;
    if (this.#isInUse(gpn)) return RmpStatus.FailInuse;
    const pages = large ? PAGES_PER_2M : 1;
    this.#table.setPermissions(gpn, pages, target, mask);
    // Below VMPL0 the bit says nothing.
    if (caller === 0) this.#table.change(gpn, pages, Vmsa, vmsa ? Vmsa : 0);
    this.#mirror(gpn, pages);
    return RmpStatus.Success;
  }

  query(caller: number, gpn: number, target: number): number {
    if (target < caller || target >= VMPL_COUNT) return RmpStatus.FailPermission;
    const cause = this.#cause(gpn, null);
    if (cause !== 0) return cause;
    const bits = this.#table.bits(gpn);
    if ((bits & Validated) === 0) return RmpCause.NotValidated;
    return RmpStatus.Success | (this.#table.permissions(gpn, target) << 8) | (bits & Vmsa ? 0x1_0000 : 0) | (bits & Large ? 0x2_0000 : 0);
  }

  refused(plane: SnpPlane, exit: MemoryFaultExit): Answer | null {
    return this.#refused.answer(plane, exit);
  }

  // -- the second stage --------------------------------------------------------------------------------------------------

  /** What a VMPL may do at a page, on whichever side it is. */
  rights(gpn: number, vmpl: number): Rights {
    const bits = this.#table.bits(gpn);
    if (!this.#snp.machine.memory.isPrivate(gpn)) return (bits & Assigned) === 0 ? ALL_RIGHTS : 0;
    if ((bits & (Assigned | Validated | Immutable | Foreign)) !== (Assigned | Validated)) return 0;
    if (vmpl === 0) return ALL_RIGHTS;
    return RIGHTS[this.#table.permissions(gpn, vmpl) & 0xf]! | this.#shadowRight(gpn, vmpl);
  }

  /** A page is for shadow stacks of a VMPL only while it may not write there. Without the feature any page is. @spec APM vol. 2, 15.36.7 */
  #shadowRight(gpn: number, vmpl: number): Rights {
    const { machineLo } = this.#snp.chapters.features;
    if (((machineLo >>> SevFeature.VmplSss) & 1) === 0) return Right.ShadowStack;
    const mask = this.#table.permissions(gpn, vmpl);
    return (mask & VmplPermission.SupervisorShadowStack) !== 0 && (mask & VmplPermission.Write) === 0 ? Right.ShadowStack : 0;
  }

  #mirror(first: number, count: number): void {
    if (this.#snp.level !== SnpLevel.SevSnp) return;
    const { memory } = this.#snp.machine;
    const limit = first + count;
    for (let at = first; at < limit; ) {
      const end = Math.min(this.#table.runEnd(at, limit), memory.nextPrivacyChange(at));
      for (let plane = 0; plane < memory.maxPlanes; plane++) memory.permissions[plane]!.set(at, end - at, this.rights(at, plane));
      at = end;
    }
  }

  /** Entries whose pages the second stage allows more or less of, and large entries that are not whole. */
  broken(): readonly string[] {
    if (this.#snp.level !== SnpLevel.SevSnp) return [];
    const { memory } = this.#snp.machine;
    const found: string[] = [];
    this.#table.forEachRun((first, count) => {
      for (let at = first; at < first + count; at = Math.min(first + count, memory.nextPrivacyChange(at))) {
        for (let plane = 0; plane < memory.maxPlanes; plane++) {
          if (memory.permissions[plane]!.get(at) !== this.rights(at, plane)) found.push(`page 0x${at.toString(16)}: rights of VMPL${plane} are not those of its entry`);
        }
      }
      if ((this.#table.bits(first) & Large) !== 0 && (first % PAGES_PER_2M !== 0 || count % PAGES_PER_2M !== 0)) found.push(`page 0x${first.toString(16)}: part of a 2 MiB entry that is not whole`);
    });
    return found;
  }

  save(): PlainState {
    return this.#table.save();
  }
  restore(state: PlainState): void {
    this.#table.restore(state);
  }
}
