import { type AnyLayout, hex, type Infer } from '@vmplanes/binary';
import { badImage } from './bad-image.ts';
import { crc32 } from './crc32.ts';
import type { IgvmFile, IgvmHeader, IgvmHeaderName } from './file.ts';
import { IGVM_ALIGNMENT, IGVM_MAGIC, IGVM_OPTIONAL, IgvmArchitecture, IgvmFixedHeader, IgvmFixedHeaderV2, igvmHeaders, igvmSections, IgvmVariableHeader } from './layouts.ts';
import { HeaderRules } from './rules.ts';

const PAGE_SIZE = 4096;

const byType = new Map<number, readonly [IgvmHeaderName, AnyLayout]>(Object.entries(igvmHeaders).map(([name, [type, layout]]) => [type, [name as IgvmHeaderName, layout]]));

type FixedHeader = Infer<typeof IgvmFixedHeader> & Pick<Infer<typeof IgvmFixedHeaderV2>, 'architecture' | 'pageSize'>;

/** The fixed header with the checks that need nothing else. */
function readFixed(bytes: Uint8Array, view: DataView): FixedHeader {
  if (bytes.length < IgvmFixedHeader.size) throw badImage(`${bytes.length} bytes are too few for a header`);
  const first = IgvmFixedHeader.read(view, 0);
  if (first.magic !== IGVM_MAGIC) throw badImage('does not begin with "IGVM"', 0);
  if (first.formatVersion !== 1 && first.formatVersion !== 2) throw badImage(`format version ${first.formatVersion}; this reader knows 1 and 2`, IgvmFixedHeader.at.formatVersion);
  const isV2 = first.formatVersion === 2;
  const size = isV2 ? IgvmFixedHeaderV2.size : IgvmFixedHeader.size;
  if (bytes.length < size) throw badImage(`${bytes.length} bytes are too few for a header of version 2`);
  const fixed: FixedHeader = isV2 ? IgvmFixedHeaderV2.read(view, 0) : { ...first, architecture: IgvmArchitecture.X64, pageSize: PAGE_SIZE };
  const { variableHeaderOffset: offset, variableHeaderSize: length, totalFileSize } = fixed;
  if (totalFileSize !== bytes.length) throw badImage(`says it has ${totalFileSize} bytes, it has ${bytes.length}`, IgvmFixedHeader.at.totalFileSize);
  if (offset < size || offset % IGVM_ALIGNMENT !== 0) throw badImage(`the variable header at ${hex(offset)} is not behind the fixed one at a multiple of ${IGVM_ALIGNMENT}`, IgvmFixedHeader.at.variableHeaderOffset);
  if (offset + length > bytes.length) throw badImage(`the variable header ends at ${hex(offset + length)}, behind the file`, IgvmFixedHeader.at.variableHeaderSize);
  if (isV2 && (fixed.pageSize < PAGE_SIZE || (fixed.pageSize & (fixed.pageSize - 1)) !== 0)) throw badImage(`page size ${fixed.pageSize} is not a power of two from ${PAGE_SIZE}`, IgvmFixedHeaderV2.at.pageSize);
  if (isV2 && fixed.architecture > IgvmArchitecture.Aarch64) throw badImage(`architecture ${fixed.architecture} is not known`, IgvmFixedHeaderV2.at.architecture);
  checkSum(bytes, size, fixed);
  return fixed;
}

function checkSum(bytes: Uint8Array, size: number, { variableHeaderOffset: offset, variableHeaderSize: length, checksum }: FixedHeader): void {
  const head = bytes.slice(0, size);
  head.fill(0, IgvmFixedHeader.at.checksum, IgvmFixedHeader.at.checksum + 4);
  const actual = crc32(head, bytes.subarray(offset, offset + length));
  if (actual !== checksum) throw badImage(`the checksum of its headers is ${hex(actual)}, it says ${hex(checksum)}`, IgvmFixedHeader.at.checksum);
}

/** Sections follow each other; none comes back. */
class Sections {
  #now = 0;
  /** Takes the section of a type. */
  enter(type: number, at: number): void {
    const i = igvmSections.findIndex(({ first, last }) => type >= first && type <= last);
    if (i < 0) throw badImage(`header type ${hex(type)} belongs to no section`, at);
    if (i < this.#now) throw badImage(`a ${igvmSections[i]!.name} header behind ${igvmSections[this.#now]!.name} headers`, at);
    this.#now = i;
  }
}

function readHeader(view: DataView, at: number, type: number, length: number): IgvmHeader | null {
  const isOptional = type >= IGVM_OPTIONAL;
  const row = byType.get(isOptional ? type - IGVM_OPTIONAL : type);
  if (!row) {
    if (isOptional) return null;
    throw badImage(`header type ${hex(type)} is not known and may not be left out`, at);
  }
  const [kind, layout] = row;
  if (length !== layout.size) throw badImage(`${kind} of ${length} bytes; it has ${layout.size}`, at);
  return { kind, at, ...(layout.read(view, at + IgvmVariableHeader.size) as object) } as IgvmHeader;
}

/**
 * Reads an IGVM file and checks what the file alone can show: sizes, checksum, order of sections, alignments, references between headers and into the file.
 * @param bytes - borrowed by the result.
 * @throws {HostError} BadImage names the byte and the rule.
 * @spec IGVM file format
 */
export function readIgvm(bytes: Uint8Array): IgvmFile {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const fixed = readFixed(bytes, view);
  const end = fixed.variableHeaderOffset + fixed.variableHeaderSize;
  const headers: IgvmHeader[] = [];
  const sections = new Sections();
  const rules = new HeaderRules(bytes, fixed.pageSize, fixed.formatVersion);
  for (let at = fixed.variableHeaderOffset; at < end; ) {
    if (at + IgvmVariableHeader.size > end) throw badImage('the variable header ends inside of a header', at);
    const { type, length } = IgvmVariableHeader.read(view, at);
    const next = at + IgvmVariableHeader.size + Math.ceil(length / IGVM_ALIGNMENT) * IGVM_ALIGNMENT;
    if (next > end) throw badImage(`a header of ${length} bytes ends behind the variable header`, at);
    sections.enter(type >= IGVM_OPTIONAL ? type - IGVM_OPTIONAL : type, at);
    if (bytes.subarray(at + IgvmVariableHeader.size + length, next).some((b) => b !== 0)) throw badImage('bytes between headers are not zero', at);
    const header = readHeader(view, at, type, length);
    if (header !== null) {
      rules.check(header);
      headers.push(header);
    }
    at = next;
  }
  return { version: fixed.formatVersion as 1 | 2, architecture: fixed.architecture, pageSize: fixed.pageSize, headers, bytes };
}
