import { choosePlatform, type IgvmHeaderInput, type IgvmHeaderName, type IgvmHost, type IgvmInput, igvmLayouts, IgvmPlatform, loadIgvm, readIgvm, sealIgvm, writeIgvm } from '@vmplanes/boot';
import { HostError, type LaunchSink } from '@vmplanes/engine';
import fc from 'fast-check';
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';

const { igvmHeaders, IgvmNativeContext, IgvmRegister } = igvmLayouts;

const SNP = 1;
const NATIVE = 2;
const page = (fill: number): Uint8Array => new Uint8Array(4096).fill(fill);
const snp: IgvmHeaderInput = { kind: 'supportedPlatform', mask: SNP, highestLevel: 2, platform: IgvmPlatform.SevSnp, platformVersion: 1, sharedBoundary: 0n };
const native: IgvmHeaderInput = { kind: 'supportedPlatform', mask: NATIVE, highestLevel: 0, platform: IgvmPlatform.Native, platformVersion: 1, sharedBoundary: 0n };
const policy: IgvmHeaderInput = { kind: 'guestPolicy', policy: 0x30000n, mask: SNP };
const data = (gpa: number, more: Partial<Extract<IgvmHeaderInput, { kind: 'pageData' }>> = {}): IgvmHeaderInput => ({ kind: 'pageData', gpa: BigInt(gpa), mask: SNP | NATIVE, flags: 0, pageType: 0, contents: page(0x11), ...more });
const area = (index: number, more: Partial<Extract<IgvmHeaderInput, { kind: 'parameterArea' }>> = {}): IgvmHeaderInput => ({ kind: 'parameterArea', bytes: 4096n, area: index, ...more });
const insert = (index: number, gpa = 0x7000): IgvmHeaderInput => ({ kind: 'parameterInsert', gpa: BigInt(gpa), mask: SNP, area: index });
const vp = (more: Partial<Extract<IgvmHeaderInput, { kind: 'vpContext' }>> = {}): IgvmHeaderInput => ({ kind: 'vpContext', gpa: 0xffff_ffff_f000n, mask: SNP, vp: 0, contents: page(0x55), ...more });
const signature = { r: new Uint8Array(72).fill(1), s: new Uint8Array(72).fill(2) };
const key = { curve: 2, reserved04: 0, x: new Uint8Array(72).fill(3), y: new Uint8Array(72).fill(4) };
const idBlock: IgvmHeaderInput = {
  kind: 'idBlock', mask: SNP, authorKeyEnabled: 1, digest: new Uint8Array(48).fill(5), familyId: new Uint8Array(16).fill(6), imageId: new Uint8Array(16).fill(7), version: 1, guestSvn: 8, idKeyAlgorithm: 1, authorKeyAlgorithm: 1,
  idKeySignature: signature, idKey: key, authorKeySignature: signature, authorKey: key,
};

const host: IgvmHost = { vpCount: 3, memory: [{ gpa: 0, bytes: 0x100_0000, type: 0 }, { gpa: 0x100_0000, bytes: 0x1000, type: 1 }], isMemoryShared: true, commandLine: 'quiet', tables: { madt: Uint8Array.of(1, 2, 3) } };
function load(input: IgvmInput, machine: IgvmHost = host, platforms: readonly IgvmPlatform[] = [IgvmPlatform.SevSnp]): readonly unknown[] {
  const log: unknown[] = [];
  const note = (what: string) => (given?: unknown) => void log.push([what, given]);
  const sink: LaunchSink = { platforms: [], policy: note('policy'), page: note('page'), vp: note('vp'), identity: note('identity'), finish: note('finish') };
  const file = readIgvm(writeIgvm(input));
  loadIgvm(file, choosePlatform(file, platforms), sink, machine);
  return log;
}
const codeOf = (action: () => unknown): unknown => {
  try {
    action();
    return null;
  } catch (error) {
    return error instanceof HostError ? [error.code, error.message] : error;
  }
};

describe('layouts', () => {
  it.each<[IgvmHeaderName, number, number]>([
    ['supportedPlatform', 0x1, 16], ['guestPolicy', 0x101, 16], ['relocatableRegion', 0x102, 48], ['pageTableRelocation', 0x103, 32], ['parameterArea', 0x301, 16], ['pageData', 0x302, 24], ['parameterInsert', 0x303, 16],
    ['vpContext', 0x304, 20], ['requiredMemory', 0x305, 24], ['vpCount', 0x307, 8], ['srat', 0x308, 8], ['madt', 0x309, 8], ['mmioRanges', 0x30a, 8], ['idBlock', 0x30b, 696], ['memoryMap', 0x30c, 8], ['errorRange', 0x30d, 16],
    ['commandLine', 0x30e, 8], ['slit', 0x30f, 8], ['pptt', 0x310, 8], ['vbsMeasurement', 0x311, 864], ['deviceTree', 0x312, 8], ['environmentInfo', 0x313, 8],
  ])('%s is type 0x%x with %i bytes', (name, type, size) => expect([igvmHeaders[name][0], igvmHeaders[name][1].size]).toEqual([type, size]));
  it('has no other header', () => expect(Object.keys(igvmHeaders)).toHaveLength(22));
  it('registers', () => expect([IgvmNativeContext.size, IgvmRegister.size]).toEqual([0xe8, 32]));
  it('sums its headers up as everybody does', () => {
    const file = Buffer.from(writeIgvm({ headers: [snp, policy, data(0)] }));
    const sum = file.readUInt32LE(20);
    file.writeUInt32LE(0, 20);
    expect(crc32(file.subarray(0, 24 + file.readUInt32LE(12)))).toBe(sum);
  });
});

describe('readIgvm', () => {
  const everything: readonly IgvmHeaderInput[] = [
    snp, native, policy,
    { kind: 'relocatableRegion', mask: SNP, vp: 0, level: 2, flags: 1, alignment: 0x1000n, gpa: 0x2000n, bytes: 0x3000n, lowest: 0x1000n, highest: 0x9000n },
    { kind: 'pageTableRelocation', mask: SNP, vp: 0, level: 2, gpa: 0x5000n, bytes: 0x2000n, used: 1n },
    { kind: 'requiredMemory', gpa: 0n, mask: SNP, bytes: 0x10_0000, flags: 1 },
    area(0, { contents: page(9) }), area(1), area(7),
    { kind: 'vpCount', area: 0, offset: 0 }, { kind: 'environmentInfo', area: 0, offset: 4 }, { kind: 'memoryMap', area: 1, offset: 0 }, { kind: 'madt', area: 7, offset: 16 }, { kind: 'commandLine', area: 7, offset: 100 },
    insert(0), insert(1, 0x8000), insert(7, 0x9000), data(0x1000), data(0x2000, { pageType: 1 }), data(0x3000, { pageType: 2, flags: 2 }), data(0x20_0000, { flags: 5, contents: new Uint8Array(0x20_0000).fill(0x2b) }),
    { kind: 'errorRange', gpa: 0xa000n, mask: SNP, bytes: 0x1000 }, vp(), idBlock,
    { kind: 'vbsMeasurement', mask: NATIVE, version: 1, productId: 2, moduleId: 3, securityVersion: 4, policyFlags: 5, digestAlgorithm: 1, signingAlgorithm: 1, digest: new Uint8Array(64), signature: new Uint8Array(256), publicKey: new Uint8Array(512) },
  ];

  it.each([1, 2] as const)('gives back every header of a file of version %i, in order', (version) => {
    const file = readIgvm(writeIgvm({ version, headers: everything }));
    expect([file.version, file.architecture, file.pageSize]).toEqual([version, 0, 4096]);
    expect(file.headers.map((h) => h.kind)).toEqual(everything.map((h) => h.kind));
    file.headers.forEach((header, i) => {
      const { contents, fileOffset: _offset, ...fields } = everything[i]! as IgvmHeaderInput & { readonly contents?: Uint8Array };
      expect(header).toMatchObject(fields);
      if (contents && 'fileOffset' in header) expect(Buffer.compare(file.bytes.subarray(header.fileOffset, header.fileOffset + contents.length), contents)).toBe(0);
    });
  });

  it('round trips any well-formed pages', () => {
    const any = fc.array(fc.record({ gpn: fc.nat(0xffff), fill: fc.nat(255), pageType: fc.nat(3), unmeasured: fc.boolean() }), { maxLength: 10 });
    fc.assert(
      fc.property(any, fc.constantFrom(1 as const, 2 as const), (pages, version) => {
        const headers = [snp, native, ...pages.map(({ gpn, fill, pageType, unmeasured }) => data(gpn * 4096, { pageType, flags: unmeasured ? 2 : 0, contents: page(fill) }))];
        const bytes = writeIgvm({ version, headers });
        const file = readIgvm(bytes);
        const again = writeIgvm({ version, headers: file.headers.map((h) => ({ ...h, ...('fileOffset' in h ? { contents: bytes.slice(h.fileOffset, h.fileOffset + 4096) } : {}) }) as IgvmHeaderInput) });
        expect(Buffer.compare(again, bytes)).toBe(0);
      }),
      { numRuns: 50 },
    );
  });

  it('goes on behind an optional header that it does not know, not behind another', () => {
    const bytes = writeIgvm({ headers: [snp, { kind: 'errorRange', gpa: 0xa000n, mask: SNP, bytes: 0x1000 }, data(0x1000, { mask: SNP })] });
    const at = 24 + 8 + 16;
    new DataView(bytes.buffer).setUint32(at, 0x8000_03ff, true);
    sealIgvm(bytes);
    expect(readIgvm(bytes).headers.map((h) => h.kind)).toEqual(['supportedPlatform', 'pageData']);
    new DataView(bytes.buffer).setUint32(at, 0x3ff, true);
    sealIgvm(bytes);
    expect(codeOf(() => readIgvm(bytes))).toEqual(['BadImage', 'IGVM file, byte 0x30: header type 0x3ff is not known and may not be left out']);
  });

  const good = { headers: [snp, policy, data(0x1000, { mask: SNP })] };
  type Change = (view: DataView, bytes: Uint8Array) => void;
  it.each<[string, Change, boolean, string]>([
    ['another magic', (v) => v.setUint32(0, 1, true), true, 'byte 0x0: does not begin with "IGVM"'],
    ['version 0', (v) => v.setUint32(4, 0, true), true, 'byte 0x4: format version 0; this reader knows 1 and 2'],
    ['version 3', (v) => v.setUint32(4, 3, true), true, 'byte 0x4: format version 3'],
    ['a variable header in the fixed one', (v) => v.setUint32(8, 16, true), true, 'byte 0x8: the variable header at 0x10 is not behind the fixed one'],
    ['a variable header at an odd place', (v) => v.setUint32(8, 28, true), true, 'byte 0x8: the variable header at 0x1c'],
    ['a variable header behind the file', (v) => v.setUint32(12, 0xffff_fff8, true), false, 'byte 0xc: the variable header ends at'],
    ['a shorter file than it says', (v) => v.setUint32(16, 9999, true), true, 'byte 0x10: says it has 9999 bytes, it has'],
    ['a wrong checksum', (v) => v.setUint32(20, 0, true), false, 'byte 0x14: the checksum of its headers is'],
    ['a byte changed in a header', (v) => v.setUint8(24 + 8, 3), false, 'the checksum of its headers is'],
    ['a type of no section', (v) => v.setUint32(24, 0x250, true), true, 'byte 0x18: header type 0x250 belongs to no section'],
    ['type 0', (v) => v.setUint32(24, 0, true), true, 'byte 0x18: header type 0x0 belongs to no section'],
    ['the number that is not used', (v) => v.setUint32(24, 0x306, true), true, 'byte 0x18: header type 0x306 is not known'],
    ['a length of another structure', (v) => v.setUint32(28, 15, true), true, 'byte 0x18: supportedPlatform of 15 bytes; it has 16'],
    ['a length behind the end', (v) => v.setUint32(28, 0xffff_ffff, true), true, 'byte 0x18: a header of 4294967295 bytes ends behind the variable header'],
    ['a variable header that ends inside', (v) => v.setUint32(12, v.getUint32(12, true) - 28, true), true, 'byte 0x48: the variable header ends inside of a header'],
  ])('refuses %s', (_what, change, seal, message) => {
    const bytes = writeIgvm(good);
    change(new DataView(bytes.buffer), bytes);
    if (seal) {
      try {
        sealIgvm(bytes);
      } catch {
        // headers that lie nowhere have no checksum
      }
    }
    const [code, text] = codeOf(() => readIgvm(bytes)) as [string, string];
    expect([code, text]).toEqual(['BadImage', expect.stringContaining(message) as string]);
  });

  it('refuses gaps that are not zero', () => {
    const bytes = writeIgvm({ headers: [snp, vp({ mask: SNP })] });
    bytes[24 + 24 + 8 + 20] = 1;
    sealIgvm(bytes);
    expect(codeOf(() => readIgvm(bytes))).toEqual(['BadImage', 'IGVM file, byte 0x30: bytes between headers are not zero']);
  });

  it.each<[string, readonly IgvmHeaderInput[], string]>([
    ['a platform behind directives', [snp, data(0, { mask: SNP }), native], 'a platform header behind directive headers'],
    ['an initialization behind directives', [snp, data(0, { mask: SNP }), policy], 'a initialization header behind directive headers'],
    ['a platform of two bits', [{ ...snp, mask: 3 } as IgvmHeaderInput], 'the mask 0x3 of a platform is not one bit'],
    ['a platform of no bit', [{ ...snp, mask: 0 } as IgvmHeaderInput], 'the mask 0x0 of a platform is not one bit'],
    ['two platforms of one bit', [snp, { ...native, mask: SNP } as IgvmHeaderInput], 'two platforms have the mask 0x1'],
    ['an unknown platform', [{ ...snp, platform: 6 } as IgvmHeaderInput], 'platform type 6 is not known'],
    ['a later platform version', [{ ...snp, platformVersion: 2 } as IgvmHeaderInput], 'version 2 of platform type 2'],
    ['a mask without its platform', [snp, data(0, { mask: 4 })], 'compatibility mask 0x4 names a platform that is not declared'],
    ['a page at an odd place', [snp, data(0x800, { mask: SNP })], 'gpa 0x800 is not a multiple of 4096'],
    ['a page beyond all memory', [snp, data(2 ** 52, { mask: SNP })], 'gpa 0x10000000000000 is not a multiple of 4096 below 2^52'],
    ['a large page at an odd place', [snp, data(0x1000, { mask: SNP, flags: 1 })], 'a page of 2 MiB at 0x1000'],
    ['a page of reserved flags', [snp, data(0, { mask: SNP, flags: 8 })], 'pageData: reserved flags 0x8'],
    ['a page of an unknown type', [snp, data(0, { mask: SNP, pageType: 4 })], 'page type 4 is not known'],
    ['a page outside of the file', [snp, { kind: 'pageData', gpa: 0n, mask: SNP, flags: 0, pageType: 0, fileOffset: 0x8000_0000 }], '0x1000 bytes at 0x80000000 are not in the file'],
    ['a large page that is not all there', [snp, data(0, { mask: SNP, flags: 1 })], '0x200000 bytes at'],
    ['an area declared twice', [snp, area(3), area(3)], 'parameter area 3 is declared twice'],
    ['an area of nothing', [snp, area(3, { bytes: 0n })], 'a parameter area of 0x0 bytes'],
    ['an area of half a page', [snp, area(3, { bytes: 2048n })], 'size 0x800 is not a multiple of 4096'],
    ['an area of too much', [snp, area(3, { bytes: 2n ** 40n })], 'a parameter area of 0x10000000000 bytes'],
    ['areas of too much together', [snp, area(3, { bytes: 2n ** 25n }), area(4, { bytes: 2n ** 25n }), area(5)], 'a parameter area of 0x1000 bytes, 0x4001000 with those before it'],
    ['an error range of too much', [snp, { kind: 'errorRange', gpa: 0n, mask: SNP, bytes: 0xffff_f000 }], 'an error range of 0xfffff000 bytes'],
    ['an area outside of the file', [snp, area(3, { bytes: 0x10_0000n, contents: page(0) })], '0x100000 bytes at'],
    ['a parameter of no area', [snp, { kind: 'vpCount', area: 3, offset: 0 }], 'parameter area 3 is not declared'],
    ['a parameter behind its area', [snp, area(3), { kind: 'vpCount', area: 3, offset: 4096 }], 'vpCount at 0x1000 of a parameter area of 0x1000 bytes'],
    ['a parameter after its area went in', [snp, area(3), insert(3), { kind: 'vpCount', area: 3, offset: 0 }], 'parameter area 3 is inserted already'],
    ['an area inserted twice', [snp, area(3), insert(3), insert(3)], 'parameter area 3 is inserted already'],
    ['an area inserted at an odd place', [snp, area(3), insert(3, 0x7001)], 'gpa 0x7001 is not a multiple'],
    ['a VP context of nothing', [snp, { kind: 'vpContext', gpa: 0n, mask: SNP, vp: 0 }], 'a VP context without contents'],
    ['a VP context behind the file', [snp, { kind: 'vpContext', gpa: 0n, mask: SNP, vp: 0, fileOffset: 0xffff_ffff }], 'are not in the file'],
    ['no memory that is required', [snp, { kind: 'requiredMemory', gpa: 0n, mask: SNP, bytes: 0, flags: 0 }], 'a range of no bytes'],
    ['required memory of reserved flags', [snp, { kind: 'requiredMemory', gpa: 0n, mask: SNP, bytes: 4096, flags: 2 }], 'requiredMemory: reserved flags 0x2'],
    ['an error range of half a page', [snp, { kind: 'errorRange', gpa: 0n, mask: SNP, bytes: 100 }], 'size 0x64 is not a multiple'],
    ['an author key that is neither there nor not', [snp, { ...idBlock, authorKeyEnabled: 2 } as IgvmHeaderInput], 'author key enabled is 2, neither 0 nor 1'],
    ['a region at an odd place', [snp, { kind: 'relocatableRegion', mask: SNP, vp: 0, level: 0, flags: 0, alignment: 0x4000n, gpa: 0x1000n, bytes: 0x1000n, lowest: 0n, highest: 0n }], 'not multiples of its alignment 0x4000'],
    ['a region without alignment', [snp, { kind: 'relocatableRegion', mask: SNP, vp: 0, level: 0, flags: 0, alignment: 0n, gpa: 0n, bytes: 0x1000n, lowest: 0n, highest: 0n }], 'not multiples of its alignment 0x0'],
    ['page tables that use more than there is', [snp, { kind: 'pageTableRelocation', mask: SNP, vp: 0, level: 0, gpa: 0n, bytes: 0x1000n, used: 2n }], '2 used pages of a region of 0x1000 bytes'],
    ['reserved bytes in a policy', [snp, Object.assign({}, policy, { reserved0c: 1 })], 'guestPolicy: reserved bytes are not zero'],
  ])('refuses %s', (_what, headers, message) => {
    const [code, text] = codeOf(() => readIgvm(writeIgvm({ headers }))) as [string, string];
    expect([code, text]).toEqual(['BadImage', expect.stringContaining(message) as string]);
  });

  it.each([[2, 0, 4096, null], [2, 1, 65536, null], [2, 2, 4096, 'architecture 2 is not known'], [2, 0, 2048, 'page size 2048'], [2, 0, 4097, 'page size 4097'], [2, 0, 0, 'page size 0']] as const)('version %i, architecture %i, pages of %i', (version, architecture, pageSize, message) => {
    const result = codeOf(() => readIgvm(writeIgvm({ version, architecture, pageSize, headers: [snp] })));
    expect(result).toEqual(message === null ? null : ['BadImage', expect.stringContaining(message) as string]);
  });

  it('ends with a file or BadImage, whatever the bytes are', () => {
    const whole = writeIgvm({ headers: [snp, native, policy, area(0), { kind: 'madt', area: 0, offset: 0 }, insert(0), data(0x1000), vp(), idBlock] });
    const headers = 24 + new DataView(whole.buffer).getUint32(12, true);
    const edit = fc.record({ at: fc.nat(headers - 1), value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)) });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 8 }), fc.option(fc.nat(whole.length), { nil: whole.length }), (edits, length) => {
        const bytes = whole.slice(0, length);
        for (const { at, value } of edits) if (at < bytes.length) bytes[at] = value;
        try {
          sealIgvm(bytes);
        } catch {
          // the fixed header is gone
        }
        if (bytes.length === whole.length) new DataView(bytes.buffer).setUint32(0, 0x4d56_4749, true);
        const error = codeOf(() => {
          const file = readIgvm(bytes);
          loadIgvm(file, choosePlatform(file, [IgvmPlatform.SevSnp, IgvmPlatform.Native]), { platforms: [], policy: () => {}, page: () => {}, vp: () => {}, identity: () => {}, finish: () => {} }, host);
        });
        expect(error === null || (Array.isArray(error) && ['BadImage', 'BadConfig'].includes(error[0] as string))).toBe(true);
      }),
      { numRuns: 3000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect((codeOf(() => readIgvm(bytes)) as string[])[0]).toBe('BadImage');
      }),
    );
  });
});

describe('loadIgvm', () => {
  it('hands on what is for the platform, in file order', () => {
    const log = load({
      headers: [
        snp, native, policy, data(0x3000, { contents: page(3) }), data(0x1000, { mask: NATIVE }), data(0x2000, { flags: 2, contents: page(2) }), data(0x4000, { pageType: 1, contents: page(0) }), data(0x5000, { pageType: 2 }), data(0x6000, { pageType: 3 }),
        { kind: 'pageData', gpa: 0x8000n, mask: SNP, flags: 0, pageType: 0 }, data(0x9000, { flags: 4, contents: page(9) }), { kind: 'errorRange', gpa: 0xa000n, mask: SNP, bytes: 0x2000 }, vp({ vp: 0 }), idBlock,
      ],
    });
    expect(log).toEqual([
      ['policy', 0x30000n],
      ['page', { gpa: 0x3000, data: page(3), type: 'normal', shared: false }],
      ['page', { gpa: 0x2000, data: page(2), type: 'unmeasured', shared: false }],
      ['page', { gpa: 0x4000, data: page(0), type: 'secrets', shared: false }],
      ['page', { gpa: 0x5000, data: page(0x11), type: 'cpuid', shared: false }],
      ['page', { gpa: 0x6000, data: page(0x11), type: 'cpuid-extended', shared: false }],
      ['page', { gpa: 0x8000, data: page(0), type: 'normal', shared: false }],
      ['page', { gpa: 0x9000, data: page(9), type: 'normal', shared: true }],
      ['page', { gpa: 0xa000, data: new Uint8Array(0x2000), type: 'unmeasured', shared: true }],
      ['vp', { vp: 0, gpa: 0xffff_ffff_f000, state: { kind: 'page', page: page(0x55) } }],
      ['identity', {
        version: 1, digest: new Uint8Array(48).fill(5), familyId: new Uint8Array(16).fill(6), imageId: new Uint8Array(16).fill(7), svn: 8,
        key: { algorithm: 1, curve: 2, x: key.x, y: key.y, r: signature.r, s: signature.s }, author: { algorithm: 1, curve: 2, x: key.x, y: key.y, r: signature.r, s: signature.s },
      }],
      ['finish', undefined],
    ]);
  });

  it('fills parameter areas with what the host has', () => {
    const log = load({
      headers: [
        snp, area(0, { contents: page(0xee) }), area(1), area(2), { kind: 'vpCount', area: 0, offset: 0 }, { kind: 'environmentInfo', area: 0, offset: 4 }, { kind: 'madt', area: 0, offset: 16 }, { kind: 'memoryMap', area: 1, offset: 0 },
        { kind: 'commandLine', area: 2, offset: 8 }, insert(1, 0x8000), insert(0, 0x7000), insert(2, 0x9000),
      ],
    }) as readonly (readonly [string, { readonly gpa: number; readonly type: string; readonly data: Uint8Array }])[];
    expect(log.slice(0, 3).map(([what, p]) => [what, p.gpa, p.type])).toEqual([['page', 0x8000, 'unmeasured'], ['page', 0x7000, 'unmeasured'], ['page', 0x9000, 'unmeasured']]);
    const [map, general, text] = log.map(([, p]) => Buffer.from(p?.data ?? []));
    expect(general!.subarray(0, 20).toString('hex')).toBe('0300000001000000' + 'ee'.repeat(8) + '010203ee');
    expect(map!.subarray(0, 80).toString('hex')).toBe('0000000000000000' + '0010000000000000' + '0000000000000000' + '0010000000000000' + '0100000000000000' + '0100000000000000' + '00'.repeat(32));
    expect(text!.subarray(0, 16).toString('latin1')).toBe('\0'.repeat(8) + 'quiet\0\0\0');
  });

  it('gives registers for platforms without state pages', () => {
    const context = Buffer.alloc(0xe8);
    context.writeBigUInt64LE(0x1234n, 0x80);
    context.writeUInt16LE(0x10, 0xa8);
    const [, [, given]] = load({ headers: [native, data(0, { mask: NATIVE }), vp({ mask: NATIVE, gpa: 0n, contents: new Uint8Array(context) })] }, host, [IgvmPlatform.SevSnp, IgvmPlatform.Native]) as [unknown, [string, { readonly gpa: number; readonly state: { readonly values: Record<string, bigint> } }]];
    expect([given.gpa, given.state.values['rip'], given.state.values['codeSelector'], Object.keys(given.state.values).length]).toEqual([-1, 0x1234n, 0x10n, 35]);
  });

  it('gives numbered registers under VSM isolation', () => {
    const list = Buffer.alloc(4 + 64);
    list.writeUInt32LE(2, 0);
    list[4] = 2;
    list.writeUInt32LE(0x20010, 5);
    list.writeBigUInt64LE(0x1122n, 20);
    list.writeBigUInt64LE(1n, 28);
    list.writeUInt32LE(0x40000, 37);
    const vsm: IgvmHeaderInput = { ...snp, platform: IgvmPlatform.VsmIsolation } as IgvmHeaderInput;
    const [[, given]] = load({ headers: [vsm, vp({ contents: new Uint8Array(list) })] }, host, [IgvmPlatform.VsmIsolation]) as [[string, unknown]];
    expect(given).toEqual({ vp: 0, gpa: -1, state: { kind: 'numbered', values: [{ plane: 2, register: 0x20010, value: (1n << 64n) | 0x1122n }, { plane: 0, register: 0x40000, value: 0n }] } });
  });

  it.each<[string, IgvmInput, Partial<IgvmHost>, string, string]>([
    ['a file for another platform', { headers: [native] }, {}, 'BadConfig', 'it is for Native, the machine is SevSnp (choose another guest type or image)'],
    ['a file for no platform', { headers: [] }, {}, 'BadConfig', 'it is for nothing, the machine is SevSnp'],
    ['a file for another architecture', { version: 2, architecture: 1, headers: [snp] }, {}, 'BadConfig', 'it is for another architecture'],
    ['a file of large pages', { version: 2, pageSize: 65536, headers: [snp] }, {}, 'BadConfig', 'its pages have 65536 bytes'],
    ['memory that is not there', { headers: [snp, { kind: 'requiredMemory', gpa: 0xff_f000n, mask: SNP, bytes: 0x2000, flags: 0 }] }, {}, 'BadConfig', 'needs memory from 0xfff000 to 0x1001000, the machine has none at 0x1000000 (give the guest more memory)'],
    ['a table that is not there', { headers: [snp, area(0), { kind: 'srat', area: 0, offset: 0 }] }, {}, 'BadConfig', 'it asks for the table srat, which this machine has not'],
    ['a table that does not fit', { headers: [snp, area(0), { kind: 'madt', area: 0, offset: 4094 }] }, {}, 'BadImage', 'madt of 3 bytes does not fit at 0xffe'],
    ['a state page that is not all there', { headers: [snp, vp({ contents: new Uint8Array(100) })] }, {}, 'BadImage', 'a VP context of 4096 bytes at'],
  ])('refuses %s', (_what, input, machine, code, message) => {
    expect(codeOf(() => load(input, { ...host, ...machine }))).toEqual([code, expect.stringContaining(message) as string]);
  });
  it('takes memory that lies in two ranges', () => {
    const memory = [{ gpa: 0, bytes: 0x10_0000, type: 0 }, { gpa: 0x10_0000, bytes: 0x10_0000, type: 3 }];
    expect(load({ headers: [snp, { kind: 'requiredMemory', gpa: 0xf_f000n, mask: SNP, bytes: 0x2000, flags: 0 }] }, { ...host, memory })).toEqual([['finish', undefined]]);
  });
});
