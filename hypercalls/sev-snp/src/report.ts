import { bits, bytes, struct, u32, u64, u8 } from '@vmplanes/binary';
import { EcdsaSignature } from './signature.ts';

/** Versions of the report this interface knows. 4 has the layout of 3. @spec SNP ABI, ATTESTATION_REPORT */
export const REPORT_VERSIONS = [2, 3, 4, 5] as const;
export type ReportVersion = (typeof REPORT_VERSIONS)[number];

/** What the platform is like. @spec SNP ABI, PLATFORM_INFO */
export const PlatformInfo = bits('PlatformInfo', 'SNP ABI, PLATFORM_INFO', 64, {
  smtEnabled: [0, 'simultaneous multithreading is on'],
  tsmeEnabled: [1, 'transparent memory encryption is on'],
  eccEnabled: [2, 'memory has error correction'],
  raplDisabled: [3, 'running average power limits are off'],
  ciphertextHiding: [4, 'ciphertext is hidden'],
  aliasCheckComplete: [5, 'memory was checked for aliases; version 3 and later'],
  tio: [7, 'trusted I/O is on'],
});

/** Which key signs. @spec SNP ABI, KEY_INFO */
export const SigningKey = { Vcek: 0, Vlek: 1, None: 7 } as const;
export type SigningKey = (typeof SigningKey)[keyof typeof SigningKey];

/** How a report is signed. @spec SNP ABI, ATTESTATION_REPORT, offset 48h */
export const KeyInfo = bits('KeyInfo', 'SNP ABI, ATTESTATION_REPORT, offset 48h', 32, {
  authorKeyEn: [0, 'the digest of the author key is present'],
  maskChipKey: [1, 'the platform hides its chip key'],
  signingKey: [2, 3, 'SigningKey'],
});

/** Bytes that the signature covers, from the start. */
export const REPORT_SIGNED_BYTES = 0x2a0;

/** A report in the layout of version 5. Fields that an older version lacks are reserved there, hence zero. @spec SNP ABI, ATTESTATION_REPORT */
export const AttestationReport = struct('AttestationReport', 'SNP ABI, ATTESTATION_REPORT', 0x4a0, {
  version: [0x000, u32, '2 to 5'],
  guestSvn: [0x004, u32, 'security version of the guest, from its ID block'],
  policy: [0x008, u64, 'GuestPolicy'],
  familyId: [0x010, bytes(16), 'from the ID block'],
  imageId: [0x020, bytes(16), 'from the ID block'],
  vmpl: [0x030, u32, 'as requested'],
  signatureAlgo: [0x034, u32, '1: ECDSA P-384 with SHA-384'],
  currentTcb: [0x038, bytes(8), 'TcbVersion or TcbVersionTurin'],
  platformInfo: [0x040, u64, 'PlatformInfo'],
  keyInfo: [0x048, u32, 'KeyInfo'],
  reserved4c: [0x04c, u32],
  reportData: [0x050, bytes(64), 'as requested'],
  measurement: [0x090, bytes(48), 'launch digest'],
  hostData: [0x0c0, bytes(32), 'of the host, at launch'],
  idKeyDigest: [0x0e0, bytes(48), 'SHA-384 of the ID key'],
  authorKeyDigest: [0x110, bytes(48), 'SHA-384 of the author key'],
  reportId: [0x140, bytes(32), 'of this guest'],
  reportIdMa: [0x160, bytes(32), 'of its migration agent; all ones for none'],
  reportedTcb: [0x180, bytes(8), 'TCB that the signing key is bound to'],
  cpuidFamily: [0x188, u8, 'version 3: combined family'],
  cpuidModel: [0x189, u8, 'version 3: combined model'],
  cpuidStepping: [0x18a, u8, 'version 3'],
  reserved18b: [0x18b, bytes(21)],
  chipId: [0x1a0, bytes(64), 'zero when hidden'],
  committedTcb: [0x1e0, bytes(8)],
  currentBuild: [0x1e8, u8, 'firmware'],
  currentMinor: [0x1e9, u8],
  currentMajor: [0x1ea, u8],
  reserved1eb: [0x1eb, u8],
  committedBuild: [0x1ec, u8, 'firmware'],
  committedMinor: [0x1ed, u8],
  committedMajor: [0x1ee, u8],
  reserved1ef: [0x1ef, u8],
  launchTcb: [0x1f0, bytes(8), 'at launch'],
  launchMitVector: [0x1f8, u64, 'version 5: mitigations at launch'],
  currentMitVector: [0x200, u64, 'version 5: mitigations now'],
  reserved208: [0x208, bytes(152)],
  signature: [0x2a0, EcdsaSignature, 'over all before it; zero when no key signs'],
});
