import { hex } from '@vmplanes/binary';
import { badImage } from './bad-image.ts';
import type { IgvmHeader, IgvmHeaderOf } from './file.ts';
import { IgvmMemoryFlags, IgvmPageFlags, IgvmPageType, IgvmPlatform } from './layouts.ts';

/** Bytes of a large page. */
export const LARGE_PAGE = 0x20_0000;
/** Bytes of the state page of a VP where one is stored. */
export const STATE_PAGE_BYTES = 4096;
/** Addresses are numbers here, exact up to this. */
const ADDRESS_LIMIT = 2n ** 52n;
/** More than all tables that a host hands in, and than a guest reports errors in: what a file may make its loader allocate. */
const AREA_LIMIT = 64n * 1024n * 1024n;
/** Version of every platform that is defined. */
const PLATFORM_VERSION = 1;

const isOneBit = (mask: number): boolean => mask !== 0 && (mask & (mask - 1)) === 0;

/** The rules of single headers and of the references between them, in file order. @spec IGVM file format */
export class HeaderRules {
  readonly #bytes: Uint8Array;
  readonly #page: bigint;
  readonly #version: number;
  /** Bits of all platforms so far, and of those that start VPs from a page. */
  #platforms = 0;
  /** Parameter areas that can still be used: bytes by index. */
  readonly #areas = new Map<number, number>();
  /** Every index that was ever used. */
  readonly #indexes = new Set<number>();
  /** Bytes of all areas. */
  #areaBytes = 0n;

  constructor(bytes: Uint8Array, pageSize: number, version: number) {
    this.#bytes = bytes;
    this.#page = BigInt(pageSize);
    this.#version = version;
  }

  /** @throws {HostError} BadImage. */
  check(header: IgvmHeader): void {
    this.#reserved(header);
    if (header.kind !== 'supportedPlatform' && 'mask' in header) this.#mask(header.mask, header.at);
    switch (header.kind) {
      case 'supportedPlatform':
        return this.#platform(header);
      case 'relocatableRegion':
        return this.#region(header);
      case 'pageTableRelocation':
        this.#aligned('gpa', header.gpa, header.at);
        this.#aligned('size', header.bytes, header.at);
        if (header.used * this.#page > header.bytes) throw badImage(`${header.used} used pages of a region of ${hex(header.bytes)} bytes`, header.at);
        return;
      case 'parameterArea':
        return this.#area(header);
      case 'pageData':
        return this.#pageData(header);
      case 'parameterInsert':
        this.#aligned('gpa', header.gpa, header.at);
        this.#usable(header.area, header.at);
        this.#areas.delete(header.area);
        return;
      case 'vpContext':
        this.#aligned('gpa', header.gpa, header.at);
        if (header.fileOffset === 0) throw badImage('a VP context without contents', header.at);
        return this.#inFile(header.fileOffset, 1, header.at);
      case 'requiredMemory':
      case 'errorRange':
        this.#aligned('gpa', header.gpa, header.at);
        this.#aligned('size', BigInt(header.bytes), header.at);
        if (header.bytes === 0) throw badImage('a range of no bytes', header.at);
        if (header.kind === 'errorRange' && BigInt(header.bytes) > AREA_LIMIT) throw badImage(`an error range of ${hex(header.bytes)} bytes`, header.at);
        return;
      case 'idBlock':
        if (header.authorKeyEnabled > 1) throw badImage(`author key enabled is ${header.authorKeyEnabled}, neither 0 nor 1`, header.at);
        return;
      case 'guestPolicy':
      case 'vbsMeasurement':
        return;
      default: {
        const size = this.#usable(header.area, header.at);
        if (header.offset >= size) throw badImage(`${header.kind} at ${hex(header.offset)} of a parameter area of ${hex(size)} bytes`, header.at);
      }
    }
  }

  #reserved(header: IgvmHeader): void {
    for (const [name, value] of Object.entries(header)) {
      if (!name.startsWith('reserved')) continue;
      if (value instanceof Uint8Array ? value.some((b) => b !== 0) : value !== 0) throw badImage(`${header.kind}: reserved bytes are not zero`, header.at);
    }
    const flags = header.kind === 'pageData' ? IgvmPageFlags : header.kind === 'requiredMemory' ? IgvmMemoryFlags : null;
    if (flags !== null && 'flags' in header && (header.flags & flags.reservedMask) !== 0) throw badImage(`${header.kind}: reserved flags ${hex(header.flags)}`, header.at);
  }

  #mask(mask: number, at: number): void {
    if ((mask & ~this.#platforms) !== 0) throw badImage(`compatibility mask ${hex(mask)} names a platform that is not declared`, at);
  }

  #aligned(what: string, value: bigint, at: number): void {
    if (value % this.#page !== 0n || value >= ADDRESS_LIMIT) throw badImage(`${what} ${hex(value)} is not a multiple of ${this.#page} below 2^52`, at);
  }

  #inFile(offset: number, length: number, at: number): void {
    if (offset + length > this.#bytes.length) throw badImage(`${hex(length)} bytes at ${hex(offset)} are not in the file of ${hex(this.#bytes.length)}`, at);
  }

  #platform({ mask, platform, platformVersion, highestLevel, at }: IgvmHeaderOf<'supportedPlatform'>): void {
    if (!isOneBit(mask)) throw badImage(`the mask ${hex(mask)} of a platform is not one bit`, at);
    if ((mask & this.#platforms) !== 0) throw badImage(`two platforms have the mask ${hex(mask)}`, at);
    if (platform > IgvmPlatform.SevEs) throw badImage(`platform type ${platform} is not known`, at);
    if (platformVersion !== PLATFORM_VERSION) throw badImage(`version ${platformVersion} of platform type ${platform}; this reader knows ${PLATFORM_VERSION}`, at);
    if (platform === IgvmPlatform.Native && highestLevel !== 0 && this.#version === 1) throw badImage('a native platform with levels', at);
    this.#platforms |= mask;
  }

  #region({ alignment, gpa, bytes, lowest, highest, at }: IgvmHeaderOf<'relocatableRegion'>): void {
    this.#aligned('alignment', alignment, at);
    this.#aligned('size', bytes, at);
    if (alignment === 0n || [gpa, lowest, highest].some((a) => a % alignment !== 0n)) throw badImage(`addresses of a region are not multiples of its alignment ${hex(alignment)}`, at);
    if (lowest > highest || bytes === 0n) throw badImage('a region of nothing', at);
  }

  #area({ bytes, area, fileOffset, at }: IgvmHeaderOf<'parameterArea'>): void {
    this.#aligned('size', bytes, at);
    this.#areaBytes += bytes;
    if (bytes === 0n || this.#areaBytes > AREA_LIMIT) throw badImage(`a parameter area of ${hex(bytes)} bytes, ${hex(this.#areaBytes)} with those before it`, at);
    if (this.#indexes.has(area)) throw badImage(`parameter area ${area} is declared twice`, at);
    if (fileOffset !== 0) this.#inFile(fileOffset, Number(bytes), at);
    this.#indexes.add(area);
    this.#areas.set(area, Number(bytes));
  }

  #usable(area: number, at: number): number {
    const size = this.#areas.get(area);
    if (size === undefined) throw badImage(`parameter area ${area} ${this.#indexes.has(area) ? 'is inserted already' : 'is not declared'}`, at);
    return size;
  }

  #pageData({ gpa, fileOffset, flags, pageType, at }: IgvmHeaderOf<'pageData'>): void {
    this.#aligned('gpa', gpa, at);
    const { large } = IgvmPageFlags.unpack(flags);
    if (large && gpa % BigInt(LARGE_PAGE) !== 0n) throw badImage(`a page of 2 MiB at ${hex(gpa)}`, at);
    if (pageType > IgvmPageType.CpuidXf) throw badImage(`page type ${pageType} is not known`, at);
    if (fileOffset !== 0) this.#inFile(fileOffset, large ? LARGE_PAGE : Number(this.#page), at);
  }
}
