/** Plain data that can be cloned, hashed and written to a file: records, arrays, numbers, bigints, strings and typed arrays. */
export type PlainState =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float64Array
  | readonly PlainState[]
  | { readonly [key: string]: PlainState };

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
