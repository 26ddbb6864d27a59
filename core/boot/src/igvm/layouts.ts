import { bits, bytes, struct, u16, u32, u64, u8 } from '@vmplanes/binary';

const SPEC = 'IGVM file format, igvm_defs 0.3';

/** `IGVM` in the first four bytes. */
export const IGVM_MAGIC = 0x4d56_4749;
/** Headers begin at multiples of this many bytes; what fills the gap is zero. */
export const IGVM_ALIGNMENT = 8;
/** A loader that does not know a type with this bit goes on without it. */
export const IGVM_OPTIONAL = 0x8000_0000;

/** First bytes of a file of version 1. @spec IGVM file format, IGVM_FIXED_HEADER */
export const IgvmFixedHeader = struct('IgvmFixedHeader', SPEC, 24, {
  magic: [0x00, u32],
  formatVersion: [0x04, u32, '1 or 2'],
  variableHeaderOffset: [0x08, u32, 'bytes from the start of the file'],
  variableHeaderSize: [0x0c, u32, 'bytes'],
  totalFileSize: [0x10, u32, 'bytes'],
  checksum: [0x14, u32, 'CRC-32 of the fixed and the variable header, with zero here'],
});

/** First bytes of a file of version 2. @spec IGVM file format, IGVM_FIXED_HEADER_V2 */
export const IgvmFixedHeaderV2 = struct('IgvmFixedHeaderV2', SPEC, 32, {
  ...IgvmFixedHeader.fields,
  architecture: [0x18, u32, 'IgvmArchitecture'],
  pageSize: [0x1c, u32, 'bytes, a power of two'],
});

/** In front of each header of the second part. @spec IGVM file format, IGVM_VHS_VARIABLE_HEADER */
export const IgvmVariableHeader = struct('IgvmVariableHeader', SPEC, 8, { type: [0, u32], length: [4, u32, 'bytes of the header behind this'] });

/** @spec IGVM file format, IgvmArchitecture */
export const IgvmArchitecture = { X64: 0, Aarch64: 1 } as const;

/** What a file may be loaded on. @spec IGVM file format, IgvmPlatformType */
export const IgvmPlatform = { Native: 0, VsmIsolation: 1, SevSnp: 2, Tdx: 3, Sev: 4, SevEs: 5 } as const;
export type IgvmPlatform = (typeof IgvmPlatform)[keyof typeof IgvmPlatform];

/** @spec IGVM file format, IgvmPageDataType */
export const IgvmPageType = { Normal: 0, Secrets: 1, CpuidData: 2, CpuidXf: 3 } as const;
export type IgvmPageType = (typeof IgvmPageType)[keyof typeof IgvmPageType];

/** @spec IGVM file format, IgvmPageDataFlags */
export const IgvmPageFlags = bits('IgvmPageFlags', SPEC, 32, { large: [0, 'a page of 2 MiB'], unmeasured: 1, shared: [2, 'the host keeps seeing it'] });
/** @spec IGVM file format, RequiredMemoryFlags */
export const IgvmMemoryFlags = bits('IgvmMemoryFlags', SPEC, 32, { protectable: [0, 'rights of lower levels can be taken away there'] });

const parameter = (name: string) => struct(name, SPEC, 8, { area: [0, u32, 'index of a parameter area'], offset: [4, u32, 'bytes in the area'] });
const signature = struct('IgvmSignature', SPEC, 144, { r: [0, bytes(72)], s: [72, bytes(72)] });
const publicKey = struct('IgvmPublicKey', SPEC, 152, { curve: [0, u32], reserved04: [4, u32], x: [8, bytes(72)], y: [80, bytes(72)] });

/** Headers by name: number, and layout of what follows. They come in three sections, in the order of their ranges. @spec IGVM file format, IgvmVariableHeaderType */
export const igvmHeaders = {
  // Platform
  supportedPlatform: [0x001, struct('IgvmSupportedPlatform', SPEC, 16, {
    mask: [0, u32, 'one bit, by which other headers name this platform'], highestLevel: [4, u8], platform: [5, u8, 'IgvmPlatform'], platformVersion: [6, u16], sharedBoundary: [8, u64, 'memory from this address on is shared; 0 for none'],
  })],
  // Initialization
  guestPolicy: [0x101, struct('IgvmGuestPolicy', SPEC, 16, { policy: [0, u64], mask: [8, u32], reserved0c: [12, u32] })],
  relocatableRegion: [0x102, struct('IgvmRelocatableRegion', SPEC, 48, {
    mask: [0, u32], vp: [4, u16], level: [6, u8], flags: [7, u8], alignment: [8, u64], gpa: [16, u64], bytes: [24, u64], lowest: [32, u64], highest: [40, u64],
  })],
  pageTableRelocation: [0x103, struct('IgvmPageTableRelocation', SPEC, 32, { mask: [0, u32], vp: [4, u16], level: [6, u8], reserved07: [7, u8], gpa: [8, u64], bytes: [16, u64], used: [24, u64] })],
  // Directives
  parameterArea: [0x301, struct('IgvmParameterArea', SPEC, 16, { bytes: [0, u64], area: [8, u32, 'index'], fileOffset: [12, u32, 'of its first contents; 0 for zeroes'] })],
  pageData: [0x302, struct('IgvmPageData', SPEC, 24, { gpa: [0, u64], mask: [8, u32], fileOffset: [12, u32, '0 for zeroes'], flags: [16, u32, 'IgvmPageFlags'], pageType: [20, u16, 'IgvmPageType'], reserved16: [22, u16] })],
  parameterInsert: [0x303, struct('IgvmParameterInsert', SPEC, 16, { gpa: [0, u64], mask: [8, u32], area: [12, u32] })],
  vpContext: [0x304, struct('IgvmVpContext', SPEC, 20, { gpa: [0, u64], mask: [8, u32], fileOffset: [12, u32], vp: [16, u16], reserved12: [18, u16] })],
  requiredMemory: [0x305, struct('IgvmRequiredMemory', SPEC, 24, { gpa: [0, u64], mask: [8, u32], bytes: [12, u32], flags: [16, u32, 'IgvmMemoryFlags'], reserved14: [20, u32] })],
  vpCount: [0x307, parameter('IgvmVpCount')],
  srat: [0x308, parameter('IgvmSrat')],
  madt: [0x309, parameter('IgvmMadt')],
  mmioRanges: [0x30a, parameter('IgvmMmioRanges')],
  idBlock: [0x30b, struct('IgvmIdBlock', SPEC, 696, {
    mask: [0, u32], authorKeyEnabled: [4, u8], reserved05: [5, bytes(3)], digest: [8, bytes(48)], familyId: [56, bytes(16)], imageId: [72, bytes(16)], version: [88, u32], guestSvn: [92, u32], idKeyAlgorithm: [96, u32],
    authorKeyAlgorithm: [100, u32], idKeySignature: [104, signature], idKey: [248, publicKey], authorKeySignature: [400, signature], authorKey: [544, publicKey],
  })],
  memoryMap: [0x30c, parameter('IgvmMemoryMap')],
  errorRange: [0x30d, struct('IgvmErrorRange', SPEC, 16, { gpa: [0, u64], mask: [8, u32], bytes: [12, u32] })],
  commandLine: [0x30e, parameter('IgvmCommandLine')],
  slit: [0x30f, parameter('IgvmSlit')],
  pptt: [0x310, parameter('IgvmPptt')],
  vbsMeasurement: [0x311, struct('IgvmVbsMeasurement', SPEC, 864, {
    mask: [0, u32], version: [4, u32], productId: [8, u32], moduleId: [12, u32], securityVersion: [16, u32], policyFlags: [20, u32], digestAlgorithm: [24, u32], signingAlgorithm: [28, u32], digest: [32, bytes(64)],
    signature: [96, bytes(256)], publicKey: [352, bytes(512)],
  })],
  deviceTree: [0x312, parameter('IgvmDeviceTree')],
  environmentInfo: [0x313, parameter('IgvmEnvironmentInfo')],
} as const;

/** The sections of the variable header with the first and last number of their types. @spec IGVM file format, IGVM_VHT_RANGE_PLATFORM, _INIT, _DIRECTIVE */
export const igvmSections = [
  { name: 'platform', first: 0x001, last: 0x100 },
  { name: 'initialization', first: 0x101, last: 0x200 },
  { name: 'directive', first: 0x301, last: 0x400 },
] as const;

/** One entry of a memory map parameter; an entry of no pages ends it. @spec IGVM file format, IGVM_VHS_MEMORY_MAP_ENTRY */
export const IgvmMemoryMapEntry = struct('IgvmMemoryMapEntry', SPEC, 24, { gpn: [0, u64], pages: [8, u64], type: [16, u16, '0 memory, 1 reserved, 2 persistent, 3 protectable'], flags: [18, u16], reserved14: [20, u32] });

/** First registers of a VP on a native platform. @spec IGVM file format, IgvmNativeVpContextX64 */
export const IgvmNativeContext = struct('IgvmNativeContext', SPEC, 0xe8, {
  rax: [0x00, u64], rcx: [0x08, u64], rdx: [0x10, u64], rbx: [0x18, u64], rsp: [0x20, u64], rbp: [0x28, u64], rsi: [0x30, u64], rdi: [0x38, u64],
  r8: [0x40, u64], r9: [0x48, u64], r10: [0x50, u64], r11: [0x58, u64], r12: [0x60, u64], r13: [0x68, u64], r14: [0x70, u64], r15: [0x78, u64],
  rip: [0x80, u64], rflags: [0x88, u64], idtrBase: [0x90, u64], idtrLimit: [0x98, u16], reserved9a: [0x9a, bytes(4)], gdtrLimit: [0x9e, u16], gdtrBase: [0xa0, u64],
  codeSelector: [0xa8, u16], codeAttributes: [0xaa, u16], codeBase: [0xac, u32], codeLimit: [0xb0, u32], dataSelector: [0xb4, u16], dataAttributes: [0xb6, u16], dataBase: [0xb8, u32], dataLimit: [0xbc, u32],
  gsBase: [0xc0, u64], cr0: [0xc8, u64], cr3: [0xd0, u64], cr4: [0xd8, u64], efer: [0xe0, u64],
});

/** Head of the first registers of a VP under VSM isolation; they follow. @spec IGVM file format, VbsVpContextHeader */
export const IgvmRegisterList = struct('IgvmRegisterList', SPEC, 4, { count: [0, u32] });
/** @spec IGVM file format, VbsVpContextRegister */
export const IgvmRegister = struct('IgvmRegister', SPEC, 32, { level: [0, u8], register: [1, u32], reserved05: [5, bytes(11)], valueLow: [16, u64], valueHigh: [24, u64] });
