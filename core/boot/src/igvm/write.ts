import type { AnyLayout } from '@vmplanes/binary';
import { crc32 } from './crc32.ts';
import type { IgvmFields, IgvmHeaderName } from './file.ts';
import { IGVM_ALIGNMENT, IGVM_MAGIC, IgvmFixedHeader, IgvmFixedHeaderV2, igvmHeaders, IgvmVariableHeader } from './layouts.ts';

/** One header to be written. `contents` goes into the data of the file, and the header's `fileOffset` then points to it. */
export type IgvmHeaderInput = { readonly [K in IgvmHeaderName]: { readonly kind: K; readonly contents?: Uint8Array } & Omit<IgvmFields<K>, 'fileOffset'> & { readonly fileOffset?: number } }[IgvmHeaderName];

/** What a file is written from. */
export interface IgvmInput {
  readonly version?: 1 | 2;
  readonly architecture?: number;
  readonly pageSize?: number;
  /** In file order: platforms, then initialization, then directives. */
  readonly headers: readonly IgvmHeaderInput[];
}

const aligned = (n: number): number => Math.ceil(n / IGVM_ALIGNMENT) * IGVM_ALIGNMENT;

/**
 * An IGVM file of these headers, as given: whether they make sense is for {@link readIgvm} to say.
 * @throws {RangeError} when a value does not fit its field.
 * @spec IGVM file format
 */
export function writeIgvm({ version = 1, architecture = 0, pageSize = 4096, headers }: IgvmInput): Uint8Array {
  const fixedSize = version === 2 ? IgvmFixedHeaderV2.size : IgvmFixedHeader.size;
  const layoutOf = (kind: IgvmHeaderName): AnyLayout => igvmHeaders[kind][1];
  const headerBytes = headers.reduce((sum, { kind }) => sum + IgvmVariableHeader.size + aligned(layoutOf(kind).size), 0);
  const total = headers.reduce((sum, { contents }) => sum + aligned(contents?.length ?? 0), fixedSize + headerBytes);
  const file = new Uint8Array(total);
  const view = new DataView(file.buffer);
  let at = fixedSize;
  let data = fixedSize + headerBytes;
  for (const { kind, contents, ...fields } of headers) {
    const [type] = igvmHeaders[kind];
    const layout = layoutOf(kind);
    IgvmVariableHeader.write(view, at, { type, length: layout.size });
    layout.write(view, at + IgvmVariableHeader.size, { fileOffset: 0, ...fields, ...(contents ? { fileOffset: data } : {}) } as never);
    if (contents) file.set(contents, data);
    data += aligned(contents?.length ?? 0);
    at += IgvmVariableHeader.size + aligned(layout.size);
  }
  const fixed = { magic: IGVM_MAGIC, formatVersion: version, variableHeaderOffset: fixedSize, variableHeaderSize: headerBytes, totalFileSize: total, checksum: 0, architecture, pageSize };
  (version === 2 ? IgvmFixedHeaderV2 : IgvmFixedHeader).write(view, 0, fixed);
  sealIgvm(file);
  return file;
}

/** Puts the right checksum into a file whose headers were changed. */
export function sealIgvm(file: Uint8Array): void {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const { formatVersion, variableHeaderOffset, variableHeaderSize } = IgvmFixedHeader.read(view, 0);
  view.setUint32(IgvmFixedHeader.at.checksum, 0, true);
  const head = file.subarray(0, formatVersion === 2 ? IgvmFixedHeaderV2.size : IgvmFixedHeader.size);
  view.setUint32(IgvmFixedHeader.at.checksum, crc32(head, file.subarray(variableHeaderOffset, variableHeaderOffset + variableHeaderSize)), true);
}
