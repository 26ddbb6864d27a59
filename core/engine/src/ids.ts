declare const brand: unique symbol;
/** A nominal type: a `T` that only the constructor of the same name makes. */
export type Brand<T, B extends string> = T & { readonly [brand]: B };

/** Planes a virtual processor may have; a plane mask is 16 bits wide. */
export const MAX_PLANES = 16;
/** Virtual processors a machine may have. */
export const MAX_VPS = 64;
/** Bytes of a guest page and of a frame. */
export const PAGE_SIZE = 4096;
export const PAGE_SHIFT = 12;

const inRange = (n: number, limit: number, what: string): number => {
  if (!Number.isInteger(n) || n < 0 || n >= limit) throw new RangeError(`${what} ${n}: not in 0..${limit - 1}`);
  return n;
};

/** A privilege level inside one machine, 0..15. The engine never orders plane ids. */
export type PlaneId = Brand<number, 'PlaneId'>;
/** @throws {RangeError} when `n` is not an integer in 0..15. */
export const PlaneId = (n: number): PlaneId => inRange(n, MAX_PLANES, 'plane') as PlaneId;

/** A set of planes, bit n for plane n. */
export type PlaneMask = number;
/** The mask with the bit of one plane. */
export const maskOf = (plane: number): PlaneMask => 1 << plane;

/** Index of a virtual processor inside its machine, 0..63. Neither an APIC id nor an OS processor number. */
export type VpIndex = Brand<number, 'VpIndex'>;
/** @throws {RangeError} when `n` is not an integer in 0..63. */
export const VpIndex = (n: number): VpIndex => inRange(n, MAX_VPS, 'VP') as VpIndex;
