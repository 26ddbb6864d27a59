import { hex } from '@vmplanes/binary';
import { HostError, type LaunchPageKind, type LaunchSignature, type LaunchSink, type LaunchState } from '@vmplanes/engine';
import { badImage } from './bad-image.ts';
import type { IgvmFile, IgvmHeader, IgvmHeaderOf } from './file.ts';
import { IgvmArchitecture, IgvmMemoryMapEntry, IgvmNativeContext, IgvmPageFlags, IgvmPageType, IgvmPlatform, IgvmRegister, IgvmRegisterList } from './layouts.ts';
import { LARGE_PAGE, STATE_PAGE_BYTES } from './rules.ts';

/** A run of guest memory as the guest is told of it. */
export interface IgvmMemoryRange {
  /** Bytes, multiples of 4096. */
  readonly gpa: number;
  readonly bytes: number;
  /** 0 memory, 1 reserved, 2 persistent, 3 protectable. */
  readonly type: number;
}

/** What a host puts into the parameters of an image. */
export interface IgvmHost {
  readonly vpCount: number;
  /** Ascending, without overlap. */
  readonly memory: readonly IgvmMemoryRange[];
  /** Memory that the image does not place is shared with the host at first. */
  readonly isMemoryShared: boolean;
  readonly commandLine?: string;
  /** Tables in bytes, by the name of their header. An image that wants another one cannot be loaded. */
  readonly tables?: Readonly<Partial<Record<'srat' | 'madt' | 'mmioRanges' | 'slit' | 'pptt' | 'deviceTree', Uint8Array>>>;
}

/** Tables that a host may have. */
type TableName = keyof NonNullable<IgvmHost['tables']>;
/** Headers that ask the host for something. */
type ParameterName = TableName | 'vpCount' | 'environmentInfo' | 'memoryMap' | 'commandLine';

/** A platform of a file that was chosen. */
type Platform = IgvmHeaderOf<'supportedPlatform'>;

const PAGE_KINDS: Readonly<Record<number, LaunchPageKind>> = { [IgvmPageType.Normal]: 'normal', [IgvmPageType.Secrets]: 'secrets', [IgvmPageType.CpuidData]: 'cpuid', [IgvmPageType.CpuidXf]: 'cpuid-extended' };
const PAGE_SIZE = 4096;
/** A VP whose state is no page of the guest. */
const NOWHERE = -1;
const cannot = (problem: string, fix: string): HostError => new HostError('BadConfig', `IGVM file: ${problem} (${fix})`, { fix });

/**
 * The platform of a file that fits a machine best.
 * @param wanted - platform types of the machine, best first.
 * @throws {HostError} BadConfig when the file is for none of them.
 */
export function choosePlatform(file: IgvmFile, wanted: readonly IgvmPlatform[]): Platform {
  const platforms = file.headers.filter((h): h is Platform => h.kind === 'supportedPlatform');
  const found = wanted.flatMap((type) => platforms.find((p) => p.platform === type) ?? [])[0];
  const names = (types: readonly number[]): string => types.map((t) => Object.entries(IgvmPlatform).find(([, n]) => n === t)?.[0] ?? String(t)).join(', ') || 'nothing';
  if (!found) throw cannot(`it is for ${names(platforms.map((p) => p.platform))}, the machine is ${names(wanted)}`, 'choose another guest type or image');
  return found;
}

/**
 * Hands the directives of a file to a machine, in file order.
 * @param platform - one of the file, see {@link choosePlatform}.
 * @throws {HostError} BadImage where the contents of the file are wrong, BadConfig where the machine lacks what it needs, and what the sink throws.
 */
export function loadIgvm(file: IgvmFile, platform: Platform, sink: LaunchSink, host: IgvmHost): void {
  if (file.architecture !== IgvmArchitecture.X64) throw cannot('it is for another architecture', 'choose another image');
  if (file.pageSize !== PAGE_SIZE) throw cannot(`its pages have ${file.pageSize} bytes`, 'choose an image with pages of 4096 bytes');
  new Loader(file, platform, sink, host).run();
}

class Loader {
  readonly #areas = new Map<number, Uint8Array>();

  constructor(
    readonly file: IgvmFile,
    readonly platform: Platform,
    readonly sink: LaunchSink,
    readonly host: IgvmHost,
  ) {}

  run(): void {
    for (const header of this.file.headers) if (!('mask' in header) || (header.mask & this.platform.mask) !== 0) this.#header(header);
    this.sink.finish();
  }

  #header(header: IgvmHeader): void {
    switch (header.kind) {
      case 'supportedPlatform':
      // Nothing is moved: every region stays where the file has it.
      case 'relocatableRegion':
      case 'pageTableRelocation':
      // Measured by another platform.
      case 'vbsMeasurement':
        return;
      case 'guestPolicy':
        return this.sink.policy(header.policy);
      case 'parameterArea':
        this.#areas.set(header.area, header.fileOffset === 0 ? new Uint8Array(Number(header.bytes)) : this.#contents(header.fileOffset, Number(header.bytes)).slice());
        return;
      case 'parameterInsert':
        return this.sink.page({ gpa: Number(header.gpa), data: this.#areas.get(header.area)!, type: 'unmeasured', shared: false });
      case 'pageData':
        return this.#page(header);
      case 'vpContext':
        return this.sink.vp({ vp: header.vp, gpa: this.platform.platform === IgvmPlatform.SevSnp ? Number(header.gpa) : NOWHERE, state: this.#state(header) });
      case 'requiredMemory':
        return this.#required(header);
      case 'errorRange':
        return this.sink.page({ gpa: Number(header.gpa), data: new Uint8Array(header.bytes), type: 'unmeasured', shared: true });
      case 'idBlock':
        return this.#identity(header);
      default:
        return this.#parameter(header.kind, header.area, header.offset, header.at);
    }
  }

  #contents(offset: number, length: number): Uint8Array {
    return this.file.bytes.subarray(offset, offset + length);
  }

  #page({ gpa, fileOffset, flags, pageType }: IgvmHeaderOf<'pageData'>): void {
    const { large, unmeasured, shared } = IgvmPageFlags.unpack(flags);
    const length = large ? LARGE_PAGE : PAGE_SIZE;
    const kind = PAGE_KINDS[pageType]!;
    this.sink.page({ gpa: Number(gpa), data: fileOffset === 0 ? new Uint8Array(length) : this.#contents(fileOffset, length), type: unmeasured && kind === 'normal' ? 'unmeasured' : kind, shared });
  }

  /** The state of a VP in the form of the platform. */
  #state({ fileOffset, at }: IgvmHeaderOf<'vpContext'>): LaunchState {
    const { bytes } = this.file;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const need = (length: number): void => {
      if (fileOffset + length > bytes.length) throw badImage(`a VP context of ${length} bytes at ${hex(fileOffset)} is not in the file`, at);
    };
    switch (this.platform.platform) {
      case IgvmPlatform.SevSnp:
      case IgvmPlatform.SevEs:
        need(STATE_PAGE_BYTES);
        return { kind: 'page', page: this.#contents(fileOffset, STATE_PAGE_BYTES) };
      case IgvmPlatform.VsmIsolation: {
        need(IgvmRegisterList.size);
        const { count } = IgvmRegisterList.read(view, fileOffset);
        need(IgvmRegisterList.size + count * IgvmRegister.size);
        const values = Array.from({ length: count }, (_, i) => {
          const { level, register, valueLow, valueHigh } = IgvmRegister.read(view, fileOffset + IgvmRegisterList.size + i * IgvmRegister.size);
          return { plane: level, register, value: (valueHigh << 64n) | valueLow };
        });
        return { kind: 'numbered', values };
      }
      case IgvmPlatform.Native:
      case IgvmPlatform.Sev: {
        need(IgvmNativeContext.size);
        const { reserved9a: _reserved, ...values } = IgvmNativeContext.read(view, fileOffset);
        return { kind: 'registers', values: Object.fromEntries(Object.entries(values).map(([name, value]) => [name, BigInt(value)])) };
      }
      default:
        throw badImage('a VP context for a platform whose VPs start from their reset state', at);
    }
  }

  #required({ gpa, bytes, at }: IgvmHeaderOf<'requiredMemory'>): void {
    const [first, end] = [Number(gpa), Number(gpa) + bytes];
    let have = first;
    for (const range of this.host.memory) if (range.type !== 1 && range.gpa <= have && range.gpa + range.bytes > have) have = range.gpa + range.bytes;
    if (have < end) throw new HostError('BadConfig', `IGVM file, byte ${hex(at)}: needs memory from ${hex(first)} to ${hex(end)}, the machine has none at ${hex(have)} (give the guest more memory)`, { fix: 'give the guest more memory' });
  }

  #identity({ digest, familyId, imageId, version, guestSvn, authorKeyEnabled, idKeyAlgorithm, idKey, idKeySignature, authorKeyAlgorithm, authorKey, authorKeySignature }: IgvmHeaderOf<'idBlock'>): void {
    const signed = (algorithm: number, { curve, x, y }: typeof idKey, { r, s }: typeof idKeySignature): LaunchSignature => ({ algorithm, curve, x, y, r, s });
    const author = authorKeyEnabled === 1 ? signed(authorKeyAlgorithm, authorKey, authorKeySignature) : null;
    this.sink.identity({ version, digest, familyId, imageId, svn: guestSvn, key: signed(idKeyAlgorithm, idKey, idKeySignature), author });
  }

  #parameter(kind: ParameterName, area: number, offset: number, at: number): void {
    const value = this.#value(kind);
    const into = this.#areas.get(area)!;
    if (offset + value.length > into.length) throw badImage(`${kind} of ${value.length} bytes does not fit at ${hex(offset)} into a parameter area of ${hex(into.length)}`, at);
    into.set(value, offset);
  }

  #value(kind: ParameterName): Uint8Array {
    const { host } = this;
    switch (kind) {
      case 'vpCount':
        return word(host.vpCount);
      case 'environmentInfo':
        return word(host.isMemoryShared ? 1 : 0);
      case 'commandLine':
        return new TextEncoder().encode(`${host.commandLine ?? ''}\0`);
      case 'memoryMap':
        return this.#memoryMap();
      default: {
        const table = host.tables?.[kind];
        if (!table) throw cannot(`it asks for the table ${kind}, which this machine has not`, 'choose an image that does without');
        return table;
      }
    }
  }

  /** Ends with an entry of no pages. */
  #memoryMap(): Uint8Array {
    const { memory } = this.host;
    const out = new Uint8Array((memory.length + 1) * IgvmMemoryMapEntry.size);
    const view = new DataView(out.buffer);
    memory.forEach(({ gpa, bytes, type }, i) => IgvmMemoryMapEntry.write(view, i * IgvmMemoryMapEntry.size, { gpn: BigInt(gpa / PAGE_SIZE), pages: BigInt(bytes / PAGE_SIZE), type, flags: 0 }));
    return out;
  }
}

const word = (n: number): Uint8Array => {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, n, true);
  return out;
};
