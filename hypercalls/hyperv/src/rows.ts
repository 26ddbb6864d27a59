type Sixteen = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15;
/** Names of a series of up to sixteen equal rows. */
export type Series<P extends string, N extends number = Sixteen, S extends string = ''> = `${P}${N}${S}`;

/** Sixteen (or `count`) equal rows that differ in their number. @param make - gives row `n`. */
export const series = <const P extends string, R, const N extends number = Sixteen, const S extends string = ''>(
  prefix: P, make: (n: number) => R, count = 16, suffix = '' as S,
): { readonly [K in Series<P, N, S>]: R } =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`${prefix}${n}${suffix}`, make(n)])) as { readonly [K in Series<P, N, S>]: R };
