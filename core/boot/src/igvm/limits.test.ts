import { HostError } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { kernelHashTable, loadFirmware, readFirmware, FirmwareGuid } from '../firmware.ts';
import * as layouts from './layouts.ts';
import { readIgvm } from './read.ts';
import { type IgvmHeaderInput, writeIgvm } from './write.ts';

const failure = (action: () => unknown): string | null => {
  try {
    action();
    return null;
  } catch (error) {
    if (error instanceof HostError) return `${error.code}: ${error.message}`;
    throw error;
  }
};
const platform: IgvmHeaderInput = { kind: 'supportedPlatform', mask: 1, highestLevel: 0, platform: 2, platformVersion: 1, sharedBoundary: 0n };
const check = (...headers: readonly IgvmHeaderInput[]): string | null => failure(() => readIgvm(writeIgvm({ headers: [platform, ...headers] })));
const MIB = 0x10_0000;

describe('numbers of the file format', () => {
  it('begin with its four letters', () => expect([...new Uint8Array(Uint32Array.of(layouts.IGVM_MAGIC).buffer)].map((c) => String.fromCharCode(c)).join('')).toBe('IGVM'));
  it('mark what may be left out by bit 31', () => expect([layouts.IGVM_OPTIONAL, layouts.IGVM_ALIGNMENT]).toEqual([2 ** 31, 8]));
  it('of platforms', () => expect(layouts.IgvmPlatform).toEqual({ Native: 0, VsmIsolation: 1, SevSnp: 2, Tdx: 3, Sev: 4, SevEs: 5 }));
  it('of page types', () => expect(layouts.IgvmPageType).toEqual({ Normal: 0, Secrets: 1, CpuidData: 2, CpuidXf: 3 }));
  it('of flags', () => {
    expect([layouts.IgvmPageFlags.width, layouts.IgvmPageFlags.mask]).toEqual([32, { large: 1, unmeasured: 2, shared: 4 }]);
    expect([layouts.IgvmMemoryFlags.width, layouts.IgvmMemoryFlags.mask]).toEqual([32, { protectable: 1 }]);
  });
  it('of sections', () => expect(layouts.igvmSections.map((s) => [s.first, s.last])).toEqual([[1, 0x100], [0x101, 0x200], [0x301, 0x400]]));
});

describe('headers at their limits', () => {
  const tables = (more: Partial<Extract<IgvmHeaderInput, { kind: 'pageTableRelocation' }>>): IgvmHeaderInput => ({ kind: 'pageTableRelocation', mask: 1, vp: 0, level: 0, gpa: 0n, bytes: 0x2000n, used: 2n, ...more });
  const region = (more: Partial<Extract<IgvmHeaderInput, { kind: 'relocatableRegion' }>>): IgvmHeaderInput => ({ kind: 'relocatableRegion', mask: 1, vp: 0, level: 0, flags: 0, alignment: 0x1000n, gpa: 0n, bytes: 0x1000n, lowest: 0n, highest: 0n, ...more });
  it.each<[string, IgvmHeaderInput]>([
    ['page tables that use all of their room', tables({})],
    ['a region of one page that cannot move', region({})],
    ['an error range of 64 MiB', { kind: 'errorRange', gpa: 0n, mask: 1, bytes: 64 * MIB }],
    ['a parameter area of 64 MiB', { kind: 'parameterArea', bytes: BigInt(64 * MIB), area: 0 }],
    ['the highest page', { kind: 'pageData', gpa: 2n ** 52n - 4096n, mask: 1, flags: 0, pageType: 3 }],
    ['a VP context of one byte, the last of the file', { kind: 'vpContext', gpa: 0n, mask: 1, vp: 0, fileOffset: 24 + 24 + 32 - 1 }],
  ])('takes %s', (_what, header) => expect(check(header)).toBeNull());
  it.each<[string, IgvmHeaderInput, string]>([
    ['page tables at an odd place', tables({ gpa: 8n }), 'gpa 0x8 '],
    ['page tables of an odd size', tables({ bytes: 0x2008n }), 'size 0x2008 '],
    ['a region of an odd alignment', region({ alignment: 8n }), 'alignment 0x8 '],
    ['a region of an odd size', region({ bytes: 8n }), 'size 0x8 '],
    ['a region of no bytes', region({ bytes: 0n }), 'a region of nothing'],
    ['a region whose lowest place is above its highest', region({ lowest: 0x2000n, highest: 0x1000n }), 'a region of nothing'],
    ['an error range of more than 64 MiB', { kind: 'errorRange', gpa: 0n, mask: 1, bytes: 64 * MIB + 4096 }, 'an error range of 0x4001000 bytes'],
    ['required memory at an odd place', { kind: 'requiredMemory', gpa: 1n, mask: 1, bytes: 4096, flags: 0 }, 'gpa 0x1 '],
    ['a state at an odd place', { kind: 'vpContext', gpa: 1n, mask: 1, vp: 0, fileOffset: 24 }, 'gpa 0x1 '],
    ['a VP context behind the last byte', { kind: 'vpContext', gpa: 0n, mask: 1, vp: 0, fileOffset: 24 + 24 + 32 }, '0x1 bytes at 0x50 are not in the file of 0x50'],
    ['platform type 6, one above the last', { ...platform, mask: 2, platform: 6 }, 'platform type 6 is not known'],
  ])('refuses %s', (_what, header, message) => expect(check(header)).toContain(message));
  it('takes every platform that is defined', () => {
    for (let type = 0; type <= 5; type++) expect(failure(() => readIgvm(writeIgvm({ headers: [{ ...platform, platform: type }] })))).toBeNull();
  });
  it('takes a native platform with levels in version 2 alone', () => {
    const headers = [{ ...platform, platform: 0, highestLevel: 1 }];
    expect([1, 2].map((version) => failure(() => readIgvm(writeIgvm({ version: version as 1 | 2, headers }))) === null)).toEqual([false, true]);
  });
});

describe('a firmware image at its limits', () => {
  /** GUIDs in memory have three little-endian groups. */
  const guid = (text: string): Buffer => {
    const b = Buffer.from(text.replaceAll('-', ''), 'hex');
    return Buffer.concat([b.subarray(0, 4).reverse(), b.subarray(4, 6).reverse(), b.subarray(6, 8).reverse(), b.subarray(8)]);
  };
  const entry = (id: string, data: Buffer, length = data.length + 18): Buffer => Buffer.concat([data, Buffer.from(Uint16Array.of(length).buffer), guid(id)]);
  const words = (...n: readonly number[]): Buffer => Buffer.from(Uint32Array.of(...n).buffer);
  const TABLE_END = 32;
  /** One page with a table before its end, and metadata at any place of it. */
  const image = (entries: readonly Buffer[], metadata: Buffer = Buffer.alloc(0), at = 0, tableLength = 18 + entries.reduce((n, e) => n + e.length, 0)): Uint8Array => {
    const bytes = Buffer.alloc(4096);
    metadata.copy(bytes, at);
    const table = Buffer.concat([...entries, entry(FirmwareGuid.Footer, Buffer.alloc(0), tableLength)]);
    table.copy(bytes, 4096 - TABLE_END - table.length);
    return new Uint8Array(bytes);
  };
  const metadata = (length: number, count: number, sections: readonly number[] = [], version = 1): Buffer => Buffer.concat([Buffer.from('ASEV'), words(length, version, count, ...sections)]);
  const sev = (offset: number): Buffer => entry(FirmwareGuid.SevMetadata, words(offset));
  const one = [0x80_0000, 0x1000, 2] as const;

  it.each<[string, Uint8Array, string | null]>([
    ['a table of its footer alone', image([]), null],
    ['a table shorter than its footer', image([], undefined, 0, 17), 'a table of 17 bytes'],
    ['a table as long as the image before it', image([entry(FirmwareGuid.SvsmInfo, Buffer.alloc(4096 - TABLE_END - 36))]), null],
    ['a table of one byte more than the image', image([], undefined, 0, 4096 - TABLE_END + 1), 'a table of 4065 bytes'],
    ['metadata at the first byte', image([sev(4096)], metadata(28, 1, one)), null],
    ['metadata one byte before the image', image([sev(4097)], metadata(28, 1, one)), 'outside of it'],
    ['metadata whose head is all there is', image([sev(16)], metadata(16, 0), 4080), null],
    ['metadata whose head is not all there', image([sev(15)], metadata(16, 0), 4081), 'outside of it'],
    ['metadata too short for its sections', image([sev(4096)], metadata(27, 1, one)), 'SEV metadata of 27 bytes with 1 sections'],
    ['metadata longer than the image', image([sev(4096)], metadata(4097, 1, one)), 'SEV metadata of 4097 bytes'],
    ['metadata as long as the image', image([sev(4096)], metadata(4096, 1, one)), null],
    ['an offset of three bytes', image([entry(FirmwareGuid.SevMetadata, Buffer.alloc(3))]), 'no offset of its SEV metadata'],
  ])('%s', (_what, bytes, message) => {
    const result = failure(() => readFirmware(bytes));
    if (message === null) expect(result).toBeNull();
    else expect(result).toContain(message);
  });

  const parts = { commandLine: Uint8Array.of(0), initrd: new Uint8Array(0), kernel: Uint8Array.of(1) };
  const pages = (gpa: number, bytes: number): string | null =>
    failure(() => {
      const firmware = readFirmware(image([entry(FirmwareGuid.KernelHashes, words(gpa, bytes)), sev(4096)], metadata(28, 1, [0x81_0000, 0x1000, 0x10])));
      loadFirmware(firmware, { platforms: [], policy: () => {}, identity: () => {}, finish: () => {}, page: () => {}, vp: () => {} }, 1, parts);
    });
  it('takes hashes of a kernel anywhere in their section, where there is room for all', () => {
    expect(kernelHashTable(parts)).toHaveLength(176);
    expect([pages(0x81_0000, 176), pages(0x81_1000 - 176, 176)]).toEqual([null, null]);
    for (const result of [pages(0x80_ffff, 176), pages(0x81_1000 - 175, 176), pages(0x81_0000, 175)]) expect(result).toContain('no room for hashes of a kernel');
  });
});
