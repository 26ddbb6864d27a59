import { ascii, bytes, struct, u32, u64 } from '@vmplanes/binary';
import { HostError, type PlainRecord, type Snapshot } from '@vmplanes/engine';
import { createHash } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';

const MAGIC = 'VMPLSNAP';
/** Version of the file format; the machine's own state carries its versions inside. */
export const SNAPSHOT_FILE_VERSION = 1;

/** Head of a snapshot file; the body follows: one value in the structured-clone format of V8. */
export const SnapshotHeader = struct('SnapshotHeader', 'vmplanes snapshot file', 64, {
  magic: [0x00, ascii(8), 'VMPLSNAP'],
  version: [0x08, u32, 'version of this format'],
  reserved0c: [0x0c, bytes(4)],
  bodyLength: [0x10, u64, 'bytes behind this header'],
  digest: [0x18, bytes(32), 'SHA-256 of the body'],
  reserved38: [0x38, bytes(8)],
});

/** A machine at rest, with what it must be restored into. */
export interface VmSnapshot {
  /** SHA-256 of the resolved guest configuration, in hexadecimal: restoring needs an equal one. */
  readonly configHash: string;
  readonly machine: Snapshot;
  /** Options that the host made up, by the name of their personality: the machine it is restored into needs the same. */
  readonly inputs?: Readonly<Record<string, PlainRecord>>;
  /** State of the host services that the guest has asked, by name. */
  readonly services?: PlainRecord;
}

const bad = (source: string, problem: string): HostError => new HostError('BadSnapshot', `${source}: ${problem}`, { source });

const digestOf = (body: Uint8Array): Uint8Array => createHash('sha256').update(body).digest();

/** A snapshot as the bytes of a file. */
export function encodeSnapshot(snapshot: VmSnapshot): Uint8Array {
  const body = serialize(snapshot);
  const file = new Uint8Array(SnapshotHeader.size + body.length);
  SnapshotHeader.write(new DataView(file.buffer), 0, { magic: MAGIC, version: SNAPSHOT_FILE_VERSION, bodyLength: BigInt(body.length), digest: digestOf(body) });
  file.set(body, SnapshotHeader.size);
  return file;
}

const isSnapshot = (value: unknown): value is VmSnapshot => typeof value === 'object' && value !== null && 'configHash' in value && 'machine' in value;

/**
 * The snapshot in the bytes of a file.
 * @param source - file name for messages.
 * @throws {HostError} BadSnapshot on another kind of file, another version, a cut or changed file.
 */
export function decodeSnapshot(file: Uint8Array, source = 'snapshot'): VmSnapshot {
  if (file.length < SnapshotHeader.size) throw bad(source, `${file.length} bytes are no snapshot file: its header alone has ${SnapshotHeader.size}`);
  const header = SnapshotHeader.read(new DataView(file.buffer, file.byteOffset), 0);
  if (header.magic !== MAGIC) throw bad(source, 'is not a vmplanes snapshot file');
  if (header.version !== SNAPSHOT_FILE_VERSION) throw bad(source, `has format version ${header.version}; this reader knows ${SNAPSHOT_FILE_VERSION}`);
  const body = file.subarray(SnapshotHeader.size);
  if (BigInt(body.length) !== header.bodyLength) throw bad(source, `holds ${body.length} of ${header.bodyLength} bytes of state`);
  // Checked before anything is decoded: a damaged file ends here.
  if (Buffer.compare(digestOf(body), header.digest) !== 0) throw bad(source, 'is damaged: its digest differs');
  let value: unknown;
  try {
    value = deserialize(body);
  } catch (error) {
    throw bad(source, `cannot be decoded: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!isSnapshot(value)) throw bad(source, 'holds no machine');
  return value;
}

/** Writes a snapshot file; it is there whole or not at all. @throws {HostError} BadFile. */
export function writeSnapshot(path: string, snapshot: VmSnapshot): void {
  try {
    writeFileSync(`${path}.part`, encodeSnapshot(snapshot));
    renameSync(`${path}.part`, path);
  } catch (error) {
    throw new HostError('BadFile', `${path} cannot be written: ${error instanceof Error ? error.message : String(error)}`, { path });
  }
}

/** Reads a snapshot file. @throws {HostError} BadFile, BadSnapshot. */
export function readSnapshot(path: string): VmSnapshot {
  let file: Uint8Array;
  try {
    file = readFileSync(path);
  } catch (error) {
    throw new HostError('BadFile', `${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`, { path });
  }
  return decodeSnapshot(file, path);
}
