import { bits } from '@vmplanes/binary';

/** What the owner of an SNP guest allows; returned verbatim in its attestation reports. @spec SNP ABI, guest policy */
export const GuestPolicy = bits('GuestPolicy', 'SNP ABI, guest policy', 64, {
  abiMinor: [0, 8, 'lowest minor version of the firmware interface'],
  abiMajor: [8, 8, 'lowest major version of the firmware interface'],
  smt: [16, 'simultaneous multithreading is allowed'],
  mustBeOne: [17, 'always 1'],
  migrateMa: [18, 'association with a migration agent is allowed'],
  debug: [19, 'debugging by the host is allowed'],
  singleSocket: [20, 'only on platforms with one socket'],
  cxlAllow: [21, 'CXL devices and memory are allowed'],
  memAes256Xts: [22, 'memory encryption must be AES-256 XTS'],
  raplDisabled: [23, 'running average power limits must be off'],
  ciphertextHiding: [24, 'hiding of ciphertext must be on'],
  pageSwapDisable: [25, 'no page swap commands'],
});

/** What the owner of a SEV or SEV-ES guest allows. @spec SEV API, guest policy; QEMU SEV-ES series v4, cover letter */
export const SevPolicy = bits('SevPolicy', 'SEV API, guest policy', 32, {
  noDebug: [0, 'debugging by the host is not allowed'],
  noKeySharing: [1, 'keys may not be shared with other guests'],
  es: [2, 'SEV-ES is required'],
  noSend: [3, 'sending to another platform is not allowed'],
  domain: [4, 'only to platforms of one domain'],
  sev: [5, 'only to platforms that are able to run SEV'],
  apiMajor: [16, 8, 'lowest major version of the firmware interface'],
  apiMinor: [24, 8, 'lowest minor version of the firmware interface'],
});
