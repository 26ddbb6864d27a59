import type { Infer } from '@vmplanes/binary';
import type { igvmHeaders } from './layouts.ts';

/** The name of a header. */
export type IgvmHeaderName = keyof typeof igvmHeaders;

/** The fields of one header, holes left out. */
export type IgvmFields<K extends IgvmHeaderName> = Omit<Infer<(typeof igvmHeaders)[K][1]>, `reserved${string}`>;

/** One header of a file, checked. `at` is its byte in the file, for messages. */
export type IgvmHeader = { readonly [K in IgvmHeaderName]: { readonly kind: K; readonly at: number } & IgvmFields<K> }[IgvmHeaderName];
export type IgvmHeaderOf<K extends IgvmHeaderName> = Extract<IgvmHeader, { readonly kind: K }>;

/** A file that follows the rules of its format, before anything is known of the machine it is loaded into. */
export interface IgvmFile {
  readonly version: 1 | 2;
  /** IgvmArchitecture. */
  readonly architecture: number;
  /** Bytes. */
  readonly pageSize: number;
  /** In file order: platforms, then initialization, then directives. */
  readonly headers: readonly IgvmHeader[];
  /** The whole file: headers point into it. */
  readonly bytes: Uint8Array;
}
