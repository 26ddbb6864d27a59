/** Rows of a specification's table by our name; the first column is the number. */
export type Rows = Readonly<Record<string, readonly [number: number, ...rest: unknown[]]>>;
/** The numbers of a table by name. */
export type Numbers<R extends Rows> = { readonly [K in keyof R]: R[K][0] };

/** The first column of a table as constants. */
export const numbersOf = <const R extends Rows>(rows: R): Numbers<R> =>
  Object.freeze(Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, row[0]])) as { [K in keyof R]: R[K][0] });

/**
 * The names of a table by number.
 * @throws {RangeError} when two rows have one number.
 */
export function namesOf<K extends string>(table: string, rows: Readonly<Record<K, readonly [number: number, ...rest: unknown[]]>>): ReadonlyMap<number, K> {
  const names = new Map<number, K>();
  for (const [name, [number]] of Object.entries<readonly [number, ...unknown[]]>(rows)) {
    const other = names.get(number);
    if (other !== undefined) throw new RangeError(`${table}.${name}: 0x${number.toString(16)} belongs to ${other}`);
    names.set(number, name as K);
  }
  return names;
}
