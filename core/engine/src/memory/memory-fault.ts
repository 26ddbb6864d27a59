/**
 * An access of a guest that memory refused: what a memory-fault exit carries.
 * Preallocated per VP and borrowed: valid until the next access of that VP.
 * @spec LKML 20240609 KVM: Introduce RWX memory attributes (series 00/18, 15/18)
 */
export class MemoryFaultInfo {
  /** First byte that was refused, in bytes. */
  gpa = 0;
  gvaLo = 0;
  gvaHi = 0;
  /** False when no linear address led here, as for devices and hypercalls. */
  hasGva = false;
  /** Rights the access needed, a mask of `Right`. */
  access = 0;
  /** Rights it needed and did not have; 0 when none was missing (absent page, mismatch of the side). */
  missing = 0;
  plane = 0;
  /** An `AccessResult`. */
  result = 0;
  /** True when the page walk met the refusal, false for the final access. */
  isWalk = false;
  /** True when the access meant the private side of the page. */
  isPrivate = false;
  /** Bytes of the instruction, 0 when unknown. */
  instructionLength = 0;
  /** Its bytes, as far as fetched. */
  readonly instruction = new Uint8Array(16);

  /** Forgets the previous fault. */
  clear(): void {
    this.gpa = this.gvaLo = this.gvaHi = this.access = this.missing = this.plane = this.result = this.instructionLength = 0;
    this.hasGva = this.isWalk = this.isPrivate = false;
  }
}
