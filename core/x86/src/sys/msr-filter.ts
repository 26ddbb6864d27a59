/** Limits of an MSR filter. @spec Linux Documentation/virt/kvm/api.rst §4.97 KVM_X86_SET_MSR_FILTER */
export const MsrFilterLimit = { maxRanges: 16, maxBitmapBytes: 0x600 } as const;

/** Direction bits of a filter range. */
export const MsrFilterDirection = { read: 1, write: 2 } as const;

/** Filter flag: MSRs outside every range are refused. */
export const MSR_FILTER_DEFAULT_DENY = 1;

/** One range: bit *n* of the bitmap allows MSR `base + n` in the directions of `flags`. */
export interface MsrFilterRange {
  readonly flags: number;
  /** MSRs in the range; a range of none is ignored. */
  readonly count: number;
  readonly base: number;
  readonly bitmap: Uint8Array;
}

/** A filter as the machine monitor declares it; also its saved form. */
export interface MsrFilterDeclaration {
  readonly flags: number;
  readonly ranges: readonly MsrFilterRange[];
}

/** Which MSR accesses of the guest go to the machine monitor. Immutable: setting a filter replaces the old one. */
export class MsrFilter {
  private constructor(
    readonly declaration: MsrFilterDeclaration,
    readonly defaultAllows: boolean,
  ) {}

  /**
   * Checks a declaration and copies it.
   *
   * @returns `EINVAL` on unknown flags, too many ranges, a range without direction, a bitmap that is too long, or "refuse by default" without a
   * range; `EFAULT` when a bitmap is shorter than its range
   * @spec Linux Documentation/virt/kvm/api.rst §4.97; Linux arch/x86/kvm/x86.c kvm_vm_ioctl_set_msr_filter
   */
  static create(declaration: MsrFilterDeclaration): MsrFilter | 'EINVAL' | 'EFAULT' {
    const { flags, ranges } = declaration;
    if (flags & ~MSR_FILTER_DEFAULT_DENY || ranges.length > MsrFilterLimit.maxRanges) return 'EINVAL';
    const used = ranges.filter((r) => r.count !== 0);
    const defaultAllows = !(flags & MSR_FILTER_DEFAULT_DENY);
    if (used.length === 0 && !defaultAllows) return 'EINVAL';
    const copied: MsrFilterRange[] = [];
    for (const range of used) {
      const bytes = 8 * Math.ceil(range.count / 64);
      if (range.flags === 0 || range.flags & ~3 || bytes > MsrFilterLimit.maxBitmapBytes) return 'EINVAL';
      if (range.bitmap.length < Math.ceil(range.count / 8)) return 'EFAULT';
      copied.push({ flags: range.flags, count: range.count, base: range.base >>> 0, bitmap: range.bitmap.slice(0, bytes) });
    }
    return new MsrFilter({ flags, ranges: copied }, defaultAllows);
  }

  /**
   * Decides about an access of the guest. The first range that holds the index in that direction decides; x2APIC registers are never filtered.
   *
   * @param direction - {@link MsrFilterDirection}
   * @returns `filter` when the access must not reach the MSR
   */
  check(index: number, direction: number): 'allow' | 'filter' {
    if (index >= 0x800 && index <= 0x8ff) return 'allow';
    for (const range of this.declaration.ranges) {
      const n = index - range.base;
      if (n < 0 || n >= range.count || !(range.flags & direction)) continue;
      return (range.bitmap[n >>> 3]! >>> (n & 7)) & 1 ? 'allow' : 'filter';
    }
    return this.defaultAllows ? 'allow' : 'filter';
  }
}
