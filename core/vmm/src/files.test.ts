import type { Snapshot } from '@vmplanes/engine';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { decodeSnapshot, encodeSnapshot, readSnapshot, SnapshotHeader, type VmSnapshot, writeSnapshot } from './snapshot-file.ts';
import { FileSink } from './trace-sink.ts';

const directory = mkdtempSync(join(tmpdir(), 'vmplanes-'));
afterAll(() => rmSync(directory, { recursive: true }));

const machine = { format: 'vmplanes-snapshot', version: 1, arch: 'x86', time: 5n, block: Uint8Array.of(1, 2) };
const snapshot: VmSnapshot = { configHash: 'ab', machine: machine as never as Snapshot };

describe('snapshot file', () => {
  it('comes back equal', () => {
    const path = join(directory, 'a.snap');
    writeSnapshot(path, snapshot);
    expect(readSnapshot(path)).toEqual(snapshot);
  });

  const good = encodeSnapshot(snapshot);
  const changed = (at: number, value: number): Uint8Array => Uint8Array.from(good, (byte, i) => (i === at ? value : byte));
  it.each<[string, Uint8Array, string]>([
    ['an empty file', new Uint8Array(0), '0 bytes are no snapshot file'],
    ['another file', changed(0, 0x58), 'is not a vmplanes snapshot file'],
    ['another version', changed(SnapshotHeader.at.version, 9), 'has format version 9; this reader knows 1'],
    ['a cut file', good.subarray(0, good.length - 1), 'bytes of state'],
    ['a changed byte', changed(SnapshotHeader.size + 5, 0xee), 'is damaged: its digest differs'],
  ])('refuses %s', (_what, file, text) => {
    expect(() => decodeSnapshot(file, 'f')).toThrow(expect.objectContaining({ code: 'BadSnapshot', message: expect.stringContaining(text) as string }));
  });

  it('names a file that is not there', () => expect(() => readSnapshot(join(directory, 'none'))).toThrow(expect.objectContaining({ code: 'BadFile' })));
});

describe('FileSink', () => {
  it('writes whole lines, buffered', () => {
    const path = join(directory, 'a.jsonl');
    const sink = new FileSink(path);
    sink.line('a');
    expect(readFileSync(path, 'utf8')).toBe('');
    sink.flush();
    expect(readFileSync(path, 'utf8')).toBe('a\n');
    for (let i = 0; i < 9000; i++) sink.line('b'.repeat(9));
    sink.close();
    sink.close();
    expect(readFileSync(path, 'utf8')).toBe(`a\n${`${'b'.repeat(9)}\n`.repeat(9000)}`);
    expect(sink.lines).toBe(9001);
  });

  it('names a file that cannot be written', () => expect(() => new FileSink(join(directory, 'no', 'a'))).toThrow(expect.objectContaining({ code: 'BadFile' })));
});
