import { array, ascii, bytes, guid, hex, struct, u16, u32 } from '@vmplanes/binary';
import { HostError, type LaunchPageKind, type LaunchSink } from '@vmplanes/engine';
import { createHash } from 'node:crypto';

const PAGE_SIZE = 4096;
const FOUR_GIB = 2 ** 32;
/** The table of entries ends here before the end of the image: the reset vector takes the rest. @spec edk2 OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm */
const TABLE_END = 0x20;

/** Entries of the table by what they hold. @spec edk2 OvmfPkg/ResetVector; Linux Documentation/virt/kvm/x86/amd-memory-encryption.rst */
export const FirmwareGuid = {
  Footer: '96b582de-1fb2-45f7-baea-a366c55a082d',
  EsResetBlock: '00f771de-1a7e-4fcb-890e-68c77e2fb44e',
  KernelHashes: '7255371f-3a3b-4b04-927b-1da6efa8d454',
  LaunchSecret: '4c2eb361-7d9b-4cc3-8081-127c90d3d294',
  SevMetadata: 'dc886566-984a-4798-a75e-5585a7bf67cc',
  SvsmInfo: 'a789a612-0597-4c4b-a49f-cbb1fe9d1ddd',
  IgvmData: '784fa70e-3176-4677-8a20-04b68699e374',
  ResetVector: '813d7b2c-9558-4d88-8b31-1427a85abe69',
  TdxMetadata: 'e47a6535-984a-4798-865e-4685a7bf8ec2',
} as const;

/** Behind the data of an entry. */
const EntryTail = struct('FirmwareEntryTail', 'edk2 OvmfPkg/ResetVector', 18, { length: [0, u16, 'of data and tail'], guid: [2, guid] });
const MetadataHead = struct('SevMetadataHead', 'edk2 OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm', 16, { signature: [0, ascii(4), 'ASEV'], length: [4, u32], version: [8, u32, '1'], count: [12, u32] });
const MetadataSection = struct('SevMetadataSection', 'edk2 OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm', 12, { gpa: [0, u32], bytes: [4, u32], type: [8, u32, 'SectionType'] });
const METADATA_VERSION = 1;

/** What a section of the metadata is for. */
export const SectionType = { Memory: 1, Secrets: 2, Cpuid: 3, CallingArea: 4, KernelHashes: 0x10 } as const;
export type SectionType = (typeof SectionType)[keyof typeof SectionType];

/** One section of guest memory that a launch prepares for the firmware. */
export interface FirmwareSection {
  readonly gpa: number;
  readonly bytes: number;
  readonly type: SectionType;
}

/** What a firmware image says of itself. Addresses are guest physical. */
export interface Firmware {
  readonly image: Uint8Array;
  /** Where the image lies: it ends at 4 GiB. */
  readonly gpa: number;
  /** Data of the entries of its table, by GUID. */
  readonly entries: ReadonlyMap<string, Uint8Array>;
  /** In table order; empty when the image has no such metadata. */
  readonly sections: readonly FirmwareSection[];
  /** Where application processors of a guest with encrypted state start; null when the image does not say. */
  readonly apStart: number | null;
  /** Where the hashes of a kernel go; null when the image takes none. */
  readonly kernelHashes: { readonly gpa: number; readonly bytes: number } | null;
}

const bad = (problem: string): HostError => new HostError('BadImage', `firmware image: ${problem}`);
const viewOf = (data: Uint8Array): DataView => new DataView(data.buffer, data.byteOffset, data.length);

/** Walks the table downwards from its footer. */
function entriesOf(image: Uint8Array): ReadonlyMap<string, Uint8Array> {
  const entries = new Map<string, Uint8Array>();
  const view = viewOf(image);
  const footer = image.length - TABLE_END - EntryTail.size;
  if (footer < 0) throw bad(`${image.length} bytes are too few`);
  const { length: tableLength, guid: id } = EntryTail.read(view, footer);
  if (id !== FirmwareGuid.Footer) return entries;
  const start = image.length - TABLE_END - tableLength;
  if (tableLength < EntryTail.size || start < 0) throw bad(`a table of ${tableLength} bytes`);
  for (let end = footer; end > start; ) {
    const tail = end - EntryTail.size;
    if (tail < start) throw bad(`an entry before ${hex(end)} begins in front of the table`);
    const entry = EntryTail.read(view, tail);
    const from = end - entry.length;
    if (entry.length < EntryTail.size || from < start) throw bad(`an entry of ${entry.length} bytes before ${hex(end)}`);
    entries.set(entry.guid, image.subarray(from, tail));
    end = from;
  }
  return entries;
}

function sectionsOf(image: Uint8Array, offsetEntry: Uint8Array | undefined): readonly FirmwareSection[] {
  if (!offsetEntry) return [];
  if (offsetEntry.length < 4) throw bad('no offset of its SEV metadata');
  const at = image.length - viewOf(offsetEntry).getUint32(0, true);
  const view = viewOf(image);
  if (at < 0 || at + MetadataHead.size > image.length) throw bad(`SEV metadata at ${hex(at)}, outside of it`);
  const { signature, version, count, length } = MetadataHead.read(view, at);
  if (signature !== 'ASEV') throw bad(`no SEV metadata at ${hex(at)}`);
  if (version !== METADATA_VERSION) throw bad(`SEV metadata of version ${version}; this reader knows ${METADATA_VERSION}`);
  if (length < MetadataHead.size + count * MetadataSection.size || at + length > image.length) throw bad(`SEV metadata of ${length} bytes with ${count} sections`);
  return Array.from({ length: count }, (_, i) => {
    const { gpa, bytes: size, type } = MetadataSection.read(view, at + MetadataHead.size + i * MetadataSection.size);
    if (!(Object.values(SectionType) as readonly number[]).includes(type)) throw bad(`a SEV metadata section of type ${type}, which is not known`);
    if (gpa % PAGE_SIZE !== 0 || size % PAGE_SIZE !== 0 || size === 0) throw bad(`a SEV metadata section of ${hex(size)} bytes at ${hex(gpa)}`);
    return { gpa, bytes: size, type: type as SectionType };
  });
}

/**
 * Reads what a firmware image says of itself in the table before its end.
 * @param image - a multiple of 4096 bytes, below 4 GiB.
 * @throws {HostError} BadImage.
 * @spec edk2 OvmfPkg/ResetVector
 */
export function readFirmware(image: Uint8Array): Firmware {
  if (image.length === 0 || image.length % PAGE_SIZE !== 0 || image.length >= FOUR_GIB) throw bad(`${image.length} bytes are no multiple of ${PAGE_SIZE}`);
  const entries = entriesOf(image);
  const pair = (id: string): { readonly gpa: number; readonly bytes: number } | null => {
    const entry = entries.get(id);
    if (!entry) return null;
    if (entry.length < 8) throw bad(`the entry ${id} has ${entry.length} bytes`);
    return { gpa: viewOf(entry).getUint32(0, true), bytes: viewOf(entry).getUint32(4, true) };
  };
  const reset = entries.get(FirmwareGuid.EsResetBlock);
  if (reset && reset.length < 4) throw bad('no address in its reset block');
  return { image, gpa: FOUR_GIB - image.length, entries, sections: sectionsOf(image, entries.get(FirmwareGuid.SevMetadata)), apStart: reset ? viewOf(reset).getUint32(0, true) : null, kernelHashes: pair(FirmwareGuid.KernelHashes) };
}

const HASHES = struct('KernelHashEntry', 'QEMU target/i386/sev.c, SevHashTableEntry', 50, { guid: [0, guid], length: [16, u16], sha256: [18, bytes(32)] });
const HashTable = struct('KernelHashTable', 'QEMU target/i386/sev.c, SevHashTable', 168, { guid: [0, guid], length: [16, u16], entries: [18, array(HASHES, 3)] });
const HASH_TABLE_GUID = '9438d606-4f22-4cc9-b479-a793d411fd21';
const HASHED = { commandLine: '97d02dd8-bd20-4c94-aa78-e7714d36ab2a', initrd: '44baf731-3a2f-4bd7-9af1-41e29169781d', kernel: '4de79437-abd2-427f-b835-d5b172d2045b' } as const;
const HASH_ALIGNMENT = 16;

/** What a guest's firmware is told of the kernel that its host will hand it. The command line ends with NUL. */
export type HashedParts = Readonly<Record<keyof typeof HASHED, Uint8Array>>;

/** The table of hashes of a kernel, padded. @spec QEMU target/i386/sev.c, SevHashTable */
export function kernelHashTable(parts: HashedParts): Uint8Array {
  const out = new Uint8Array(Math.ceil(HashTable.size / HASH_ALIGNMENT) * HASH_ALIGNMENT);
  const entries = (['commandLine', 'initrd', 'kernel'] as const).map((name) => ({ guid: HASHED[name], length: HASHES.size, sha256: new Uint8Array(createHash('sha256').update(parts[name]).digest()) }));
  HashTable.write(viewOf(out), 0, { guid: HASH_TABLE_GUID, length: HashTable.size, entries });
  return out;
}

const kinds: Readonly<Record<SectionType, LaunchPageKind>> = {
  [SectionType.Memory]: 'zero', [SectionType.Secrets]: 'secrets', [SectionType.Cpuid]: 'cpuid', [SectionType.CallingArea]: 'zero', [SectionType.KernelHashes]: 'zero',
};

/**
 * Hands a firmware image to a machine in the order of QEMU, which is that of the measurement: the image, its sections in table order, the first states of all VPs.
 * @param vps - processors: the first starts at the reset vector, the others where the image says.
 * @throws {HostError} BadImage when the image does not say what is needed, and what the sink throws.
 * @spec QEMU target/i386/sev.c, sev_launch_finish
 */
export function loadFirmware(firmware: Firmware, sink: LaunchSink, vps: number, hashed: HashedParts | null = null): void {
  const { image, gpa, sections, apStart, kernelHashes } = firmware;
  if (hashed !== null && kernelHashes === null) throw bad('it takes no hashes of a kernel');
  sink.page({ gpa, data: image, type: 'normal', shared: false });
  for (const section of sections) {
    const isHashes = section.type === SectionType.KernelHashes && hashed !== null;
    sink.page({ gpa: section.gpa, data: isHashes ? hashPage(section, kernelHashes!, hashed) : new Uint8Array(section.bytes), type: isHashes ? 'normal' : kinds[section.type], shared: false });
  }
  for (let vp = 0; vp < vps; vp++) {
    if (vp > 0 && apStart === null) throw bad('it does not say where further processors start');
    sink.vp({ vp, gpa: -1, state: { kind: 'reset', address: vp === 0 ? FOUR_GIB - 16 : apStart! } });
  }
  sink.finish();
}

/** The section with the table at the place that the image names. */
function hashPage(section: FirmwareSection, place: { readonly gpa: number; readonly bytes: number }, hashed: HashedParts): Uint8Array {
  const table = kernelHashTable(hashed);
  const at = place.gpa - section.gpa;
  if (at < 0 || at + table.length > section.bytes || table.length > place.bytes) throw bad(`no room for hashes of a kernel at ${hex(place.gpa)}`);
  const out = new Uint8Array(section.bytes);
  out.set(table, at);
  return out;
}
