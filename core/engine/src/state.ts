/**
 * Plain data that can be cloned, hashed and written to a file: numbers, bigints, strings, typed arrays, arrays and records
 * of such; no functions and no instances of classes. `object` because declared interfaces have no index signature.
 */
export type PlainState = null | boolean | number | bigint | string | object;

/** A plain record; the usual shape of a saved component. */
export type PlainRecord = { readonly [key: string]: PlainState };

/** A component whose state is part of a snapshot. */
export interface Stateful {
  /** Key of this component in a snapshot; unique in its machine. */
  readonly stateName: string;
  /** Schema version written by {@link save}; {@link restore} accepts this and the previous one. */
  readonly stateVersion: number;
  save(): PlainState;
  /** @throws {HostError} BadSnapshot when `state` is not of the named version's shape. */
  restore(state: PlainState, version: number): void;
}
