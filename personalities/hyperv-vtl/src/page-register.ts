// Registers that name an overlay page share one form: bit 0 enables, 63:12 is the page, 11:1 are kept for the guest.

/** True when the register enables its page. */
export const isEnabled = (value: bigint): boolean => (value & 1n) !== 0n;
/** Guest page number that the register names; exact up to 52 bits. */
export const pageOf = (value: bigint): number => Number((value >> 12n) & 0xf_ffff_ffff_ffffn);
