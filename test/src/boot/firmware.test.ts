import { FirmwareGuid, type HashedParts, kernelHashTable, loadFirmware, readFirmware, SectionType } from '@vmplanes/boot';
import { HostError, type LaunchSink } from '@vmplanes/engine';
import fc from 'fast-check';
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';

const PAGES = 4;
/** A GUID in memory: its first three groups are little-endian numbers. */
const guidBytes = (text: string): Buffer => {
  const b = Buffer.from(text.replaceAll('-', ''), 'hex');
  return Buffer.concat([b.subarray(0, 4).reverse(), b.subarray(4, 6).reverse(), b.subarray(6, 8).reverse(), b.subarray(8)]);
};
const words = (...n: readonly number[]): Buffer => Buffer.concat(n.map((x) => Buffer.from(Uint32Array.of(x).buffer)));
const entry = (guid: string, data: Buffer): Buffer => Buffer.concat([data, Buffer.from(Uint16Array.of(data.length + 18).buffer), guidBytes(guid)]);

type Sections = readonly (readonly [gpa: number, bytes: number, type: number])[];
interface Image {
  readonly sections?: Sections;
  readonly entries?: readonly Buffer[];
  readonly version?: number;
  readonly signature?: string;
  readonly offset?: number;
}
/** An image whose table lies where real ones have it, 20h bytes before the end, and whose metadata begins at its third page. */
function image({ sections, entries = [], version = 1, signature = 'ASEV', offset = 2 * 4096 }: Image = {}): Uint8Array {
  const bytes = Buffer.alloc(PAGES * 4096, 0x90);
  const all = [...entries, ...(sections ? [entry(FirmwareGuid.SevMetadata, words(offset))] : [])];
  const length = all.reduce((n, e) => n + e.length, 18);
  Buffer.concat([...all, Buffer.from(Uint16Array.of(length).buffer), guidBytes(FirmwareGuid.Footer)]).copy(bytes, bytes.length - 0x20 - length);
  if (sections) Buffer.concat([Buffer.from(signature), words(16 + 12 * sections.length, version, sections.length), ...sections.map((s) => words(...s))]).copy(bytes, bytes.length - 2 * 4096);
  return new Uint8Array(bytes);
}
const typical: Sections = [[0x800000, 0x9000, 1], [0x80a000, 0x3000, 1], [0x80d000, 0x1000, 2], [0x80e000, 0x1000, 3], [0x80f000, 0x1000, 4], [0x810000, 0x1000, 0x10]];
const reset = entry(FirmwareGuid.EsResetBlock, words(0x0080_b004));
const hashes = entry(FirmwareGuid.KernelHashes, words(0x810400, 0x400));
const failure = (action: () => unknown): unknown => {
  try {
    action();
    return null;
  } catch (error) {
    return error instanceof HostError ? [error.code, error.message] : error;
  }
};

describe('readFirmware', () => {
  it('finds the table, its entries and the sections', () => {
    const firmware = readFirmware(image({ sections: typical, entries: [reset, hashes, entry(FirmwareGuid.SvsmInfo, words(1, 2)), entry('00000000-1111-2222-3333-444444444444', Buffer.alloc(0))] }));
    expect([firmware.gpa, firmware.apStart, firmware.kernelHashes]).toEqual([0x1_0000_0000 - PAGES * 4096, 0x0080_b004, { gpa: 0x810400, bytes: 0x400 }]);
    expect(firmware.sections).toEqual(typical.map(([gpa, bytes, type]) => ({ gpa, bytes, type })));
    expect([...firmware.entries.keys()].toSorted()).toEqual([FirmwareGuid.EsResetBlock, FirmwareGuid.KernelHashes, FirmwareGuid.SevMetadata, FirmwareGuid.SvsmInfo, '00000000-1111-2222-3333-444444444444'].toSorted());
    expect([...firmware.entries.get(FirmwareGuid.SvsmInfo)!]).toEqual([1, 0, 0, 0, 2, 0, 0, 0]);
  });
  it('takes an image that says nothing', () => {
    const plain = readFirmware(new Uint8Array(4096));
    expect([plain.entries.size, plain.sections, plain.apStart, plain.kernelHashes]).toEqual([0, [], null, null]);
  });

  it.each<[string, Uint8Array, string]>([
    ['nothing', new Uint8Array(0), '0 bytes are no multiple of 4096'],
    ['half a page', new Uint8Array(2048), '2048 bytes are no multiple of 4096'],
    ['a section of an unknown type', image({ sections: [[0, 4096, 5]] }), 'a SEV metadata section of type 5, which is not known'],
    ['a section of half a page', image({ sections: [[0, 2048, 1]] }), 'a SEV metadata section of 0x800 bytes at 0x0'],
    ['a section at an odd place', image({ sections: [[0x10, 4096, 1]] }), 'a SEV metadata section of 0x1000 bytes at 0x10'],
    ['a section of nothing', image({ sections: [[0, 0, 1]] }), 'a SEV metadata section of 0x0 bytes'],
    ['metadata of another version', image({ sections: typical, version: 2 }), 'SEV metadata of version 2; this reader knows 1'],
    ['metadata without its signature', image({ sections: typical, signature: 'ASEW' }), 'no SEV metadata at 0x2000'],
    ['metadata in front of the image', image({ sections: typical, offset: 0x10_0000 }), 'outside of it'],
    ['metadata behind the image', image({ sections: typical, offset: 8 }), 'outside of it'],
    ['a reset block without an address', image({ entries: [entry(FirmwareGuid.EsResetBlock, Buffer.alloc(2))] }), 'no address in its reset block'],
    ['a place for hashes without its size', image({ entries: [entry(FirmwareGuid.KernelHashes, words(1))] }), 'has 4 bytes'],
    ['an entry shorter than its own tail', image({ entries: [Buffer.concat([Buffer.from(Uint16Array.of(17).buffer), guidBytes(FirmwareGuid.SvsmInfo)])] }), 'an entry of 17 bytes'],
    ['an entry longer than the table', image({ entries: [Buffer.concat([Buffer.from(Uint16Array.of(500).buffer), guidBytes(FirmwareGuid.SvsmInfo)])] }), 'an entry of 500 bytes'],
  ])('refuses %s', (_what, bytes, message) => expect(failure(() => readFirmware(bytes))).toEqual(['BadImage', expect.stringContaining(message) as string]));

  it('ends with an image or BadImage, whatever its bytes are', () => {
    const whole = image({ sections: typical, entries: [reset, hashes] });
    const at = fc.oneof(fc.integer({ min: whole.length - 200, max: whole.length - 1 }), fc.integer({ min: whole.length - 2 * 4096, max: whole.length - 2 * 4096 + 100 }));
    fc.assert(
      fc.property(fc.array(fc.tuple(at, fc.nat(255)), { minLength: 1, maxLength: 6 }), (edits) => {
        const bytes = whole.slice();
        for (const [where, value] of edits) bytes[where] = value;
        const result = failure(() => readFirmware(bytes));
        expect(result === null || (Array.isArray(result) && result[0] === 'BadImage')).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('loadFirmware', () => {
  function load(bytes: Uint8Array, vps = 2, hashed: HashedParts | null = null): readonly unknown[] {
    const log: unknown[] = [];
    const sink: LaunchSink = {
      platforms: [], policy: () => void log.push('policy'), identity: () => void log.push('identity'), finish: () => void log.push('finish'),
      page: ({ gpa, data, type }) => void log.push([type, gpa, createHash('sha256').update(data).digest('hex').slice(0, 8), data.length]), vp: ({ vp, gpa, state }) => void log.push([vp, gpa, state]),
    };
    loadFirmware(readFirmware(bytes), sink, vps, hashed);
    return log;
  }
  const zeroes = (n: number): string => createHash('sha256').update(new Uint8Array(n)).digest('hex').slice(0, 8);

  it('hands on image, sections and processors in the order of the measurement', () => {
    const bytes = image({ sections: typical, entries: [reset] });
    expect(load(bytes, 3)).toEqual([
      ['normal', 0xffff_c000, createHash('sha256').update(bytes).digest('hex').slice(0, 8), 0x4000],
      ['zero', 0x800000, zeroes(0x9000), 0x9000], ['zero', 0x80a000, zeroes(0x3000), 0x3000], ['secrets', 0x80d000, zeroes(4096), 4096], ['cpuid', 0x80e000, zeroes(4096), 4096], ['zero', 0x80f000, zeroes(4096), 4096],
      ['zero', 0x810000, zeroes(4096), 4096],
      [0, -1, { kind: 'reset', address: 0xffff_fff0 }], [1, -1, { kind: 'reset', address: 0x0080_b004 }], [2, -1, { kind: 'reset', address: 0x0080_b004 }], 'finish',
    ]);
  });

  const parts: HashedParts = { commandLine: Buffer.from('quiet\0'), initrd: new Uint8Array(0), kernel: Uint8Array.of(1, 2, 3) };
  it('puts the hashes of a kernel where the image says', () => {
    const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');
    const one = (guid: string, data: Uint8Array): string => guidBytes(guid).toString('hex') + '3200' + sha256(data);
    const table = guidBytes('9438d606-4f22-4cc9-b479-a793d411fd21').toString('hex') + 'a800' + one('97d02dd8-bd20-4c94-aa78-e7714d36ab2a', parts.commandLine) + one('44baf731-3a2f-4bd7-9af1-41e29169781d', parts.initrd) + one('4de79437-abd2-427f-b835-d5b172d2045b', parts.kernel);
    expect(Buffer.from(kernelHashTable(parts)).toString('hex')).toBe(table + '00'.repeat(8));
    const section = Buffer.alloc(4096);
    section.write(table, 0x400, 'hex');
    expect(load(image({ sections: typical, entries: [reset, hashes] }), 1, parts)).toContainEqual(['normal', 0x810000, sha256(section).slice(0, 8), 4096]);
  });

  it.each<[string, Image, number, HashedParts | null, string]>([
    ['a kernel for an image that takes none', { sections: typical }, 1, parts, 'it takes no hashes of a kernel'],
    ['a kernel for an image with too little room', { sections: typical, entries: [entry(FirmwareGuid.KernelHashes, words(0x810400, 100))] }, 1, parts, 'no room for hashes of a kernel at 0x810400'],
    ['a kernel for an image whose place is elsewhere', { sections: typical, entries: [entry(FirmwareGuid.KernelHashes, words(0x900000, 0x400))] }, 1, parts, 'no room for hashes'],
    ['two processors for an image that starts one', { sections: typical }, 2, null, 'it does not say where further processors start'],
  ])('refuses %s', (_what, given, vps, hashed, message) => expect(failure(() => load(image(given), vps, hashed))).toEqual(['BadImage', expect.stringContaining(message) as string]));
  it('knows the numbers of sections', () => expect(SectionType).toEqual({ Memory: 1, Secrets: 2, Cpuid: 3, CallingArea: 4, KernelHashes: 16 }));
});
