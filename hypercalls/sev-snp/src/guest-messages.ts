import { bits, bytes, namesOf, numbersOf, struct, u16, u32, u64, u8 } from '@vmplanes/binary';
import { AttestationReport } from './report.ts';
import { CpuidFunction } from './cpuid-page.ts';

/** The one algorithm of messages. @spec SNP ABI, AEAD algorithm encodings */
export const AEAD_AES_256_GCM = 1;
/** Version of the message header. */
export const MESSAGE_HEADER_VERSION = 1;
/** A message and its header fill one page at most. */
export const MESSAGE_PAYLOAD_MAX = 4000;
/** The header bytes that are authenticated, not encrypted. */
export const MESSAGE_AAD = { start: 0x30, end: 0x60 } as const;
/** Bytes of the authentication tag in use. */
export const MESSAGE_TAG_BYTES = 16;
/** Bytes of a message key (VMPCK). */
export const VMPCK_BYTES = 32;
/** Message keys of a guest, one for each VMPL. */
export const VMPCK_COUNT = 4;

/** Head of a message page; its payload follows. @spec SNP ABI, guest message header */
export const MessageHeader = struct('MessageHeader', 'SNP ABI, format of a guest message', 0x60, {
  authTag: [0x00, bytes(32), 'the first 16 bytes are used'],
  sequence: [0x20, u64, 'requests odd, responses even'],
  reserved28: [0x28, bytes(8)],
  algo: [0x30, u8, '1: AES-256-GCM'],
  headerVersion: [0x31, u8, '1'],
  headerSize: [0x32, u16, '0x60'],
  type: [0x34, u8, 'MessageType'],
  version: [0x35, u8, 'of the payload'],
  size: [0x36, u16, 'bytes of the payload'],
  reserved38: [0x38, u32],
  vmpck: [0x3c, u8, 'number of the key, 0 to 3'],
  reserved3d: [0x3d, bytes(35)],
});

/** Every message: number, and whether it is a request. @spec SNP ABI, guest message types */
const rows = {
  CpuidRequest: [1, 'request'],
  CpuidResponse: [2, 'response'],
  KeyRequest: [3, 'request'],
  KeyResponse: [4, 'response'],
  ReportRequest: [5, 'request'],
  ReportResponse: [6, 'response'],
  ExportRequest: [7, 'request'],
  ExportResponse: [8, 'response'],
  ImportRequest: [9, 'request'],
  ImportResponse: [10, 'response'],
  AbsorbRequest: [11, 'request'],
  AbsorbResponse: [12, 'response'],
  VmrkRequest: [13, 'request'],
  VmrkResponse: [14, 'response'],
  AbsorbNomaRequest: [15, 'request'],
  AbsorbNomaResponse: [16, 'response'],
  TscInfoRequest: [17, 'request'],
  TscInfoResponse: [18, 'response'],
} as const;

/** Messages by name. */
export const MessageType = numbersOf(rows);
export type MessageType = (typeof MessageType)[keyof typeof MessageType];

const names = namesOf('MessageType', rows);

/** The name of a message type; a number not known is shown as `message 99`. */
export const messageTypeName = (type: number): string => names.get(type) ?? `message ${type}`;

/** Types that a guest may send, in order. */
export const requestTypes: readonly MessageType[] = Object.values(rows).flatMap(([type, role]) => (role === 'request' ? [type] : []));

/** Which key is meant. @spec SNP ABI, MSG_REPORT_REQ, KEY_SEL */
export const KeySelect = { VlekElseVcek: 0, Vcek: 1, Vlek: 2 } as const;
export type KeySelect = (typeof KeySelect)[keyof typeof KeySelect];

/** @spec SNP ABI, MSG_REPORT_REQ, offset 44h */
export const ReportRequestFlags = bits('ReportRequestFlags', 'SNP ABI, MSG_REPORT_REQ, offset 44h', 32, { keySelect: [0, 2, 'KeySelect'] });

/** @spec SNP ABI, MSG_REPORT_REQ */
export const ReportRequest = struct('ReportRequest', 'SNP ABI, MSG_REPORT_REQ', 96, {
  reportData: [0x00, bytes(64), 'put into the report'],
  vmpl: [0x40, u32, 'at least that of the message key'],
  flags: [0x44, u32, 'ReportRequestFlags'],
  reserved48: [0x48, bytes(24)],
});

/** @spec SNP ABI, MSG_REPORT_RSP */
export const ReportResponse = struct('ReportResponse', 'SNP ABI, MSG_REPORT_RSP', 0x20 + AttestationReport.size, {
  status: [0x00, u32, 'FirmwareStatus'],
  size: [0x04, u32, 'bytes of the report; 0 on an error'],
  reserved08: [0x08, bytes(24)],
  report: [0x20, bytes(AttestationReport.size), 'AttestationReport'],
});

/** @spec SNP ABI, MSG_KEY_REQ, ROOT_KEY_SELECT */
export const RootKeySelect = bits('RootKeySelect', 'SNP ABI, MSG_KEY_REQ, ROOT_KEY_SELECT', 32, {
  vmrk: [0, 'derive from the VM root key, not from the key of the chip'],
  keySelect: [1, 2, 'KeySelect'],
});

/** What a key is bound to. @spec SNP ABI, MSG_KEY_REQ, GUEST_FIELD_SELECT */
export const GuestFieldSelect = bits('GuestFieldSelect', 'SNP ABI, MSG_KEY_REQ, GUEST_FIELD_SELECT', 64, {
  policy: 0,
  imageId: 1,
  familyId: 2,
  measurement: 3,
  guestSvn: 4,
  tcbVersion: 5,
  launchMitVector: [6, 'version 2 of the request'],
});

/** @spec SNP ABI, MSG_KEY_REQ, version 1 */
export const KeyRequest = struct('KeyRequest', 'SNP ABI, MSG_KEY_REQ, version 1', 32, {
  rootKeySelect: [0x00, u32, 'RootKeySelect'],
  reserved04: [0x04, u32],
  guestFieldSelect: [0x08, u64, 'GuestFieldSelect'],
  vmpl: [0x10, u32, 'at least that of the message key'],
  guestSvn: [0x14, u32, 'at most that of the guest'],
  tcbVersion: [0x18, bytes(8), 'at most the current one, part by part'],
});

/** @spec SNP ABI, MSG_KEY_REQ, version 2 */
export const KeyRequestV2 = struct('KeyRequestV2', 'SNP ABI, MSG_KEY_REQ, version 2', 40, {
  ...KeyRequest.fields,
  launchMitVector: [0x20, u64, 'a part of that of the launch'],
});

/** @spec SNP ABI, MSG_KEY_RSP */
export const KeyResponse = struct('KeyResponse', 'SNP ABI, MSG_KEY_RSP', 64, {
  status: [0x00, u32, 'FirmwareStatus'],
  reserved04: [0x04, bytes(28)],
  key: [0x20, bytes(32), 'zero on an error'],
});

/** @spec SNP ABI, MSG_TSC_INFO_REQ */
export const TscInfoRequest = struct('TscInfoRequest', 'SNP ABI, MSG_TSC_INFO_REQ', 128, { reserved00: [0x00, bytes(128)] });

/** @spec SNP ABI, MSG_TSC_INFO_RSP; Linux arch/x86/include/asm/sev.h */
export const TscInfoResponse = struct('TscInfoResponse', 'SNP ABI, MSG_TSC_INFO_RSP', 128, {
  status: [0x00, u32, 'FirmwareStatus'],
  reserved04: [0x04, u32],
  scale: [0x08, u64, 'guest ticks per host tick, times 2^32'],
  offset: [0x10, u64, 'guest ticks'],
  factor: [0x18, u32, 'how far the nominal frequency is above the mean one, in 1/100000'],
  reserved1c: [0x1c, bytes(100)],
});

/** Head of a table of CPUID functions to check; they follow. @spec SNP ABI, MSG_CPUID_REQ */
export const CpuidRequest = struct('CpuidRequest', 'SNP ABI, MSG_CPUID_REQ', 16, {
  count: [0x00, u32, 'functions, at most 64'],
  reserved04: [0x04, bytes(12)],
});

/** Head of the checked table. @spec SNP ABI, MSG_CPUID_RSP */
export const CpuidResponse = struct('CpuidResponse', 'SNP ABI, MSG_CPUID_RSP', 16, {
  status: [0x00, u32, 'FirmwareStatus'],
  count: [0x04, u32, 'functions'],
  reserved08: [0x08, bytes(8)],
});

/** Bytes of a CPUID message with this many functions. */
export const cpuidMessageSize = (count: number): number => CpuidRequest.size + count * CpuidFunction.size;
