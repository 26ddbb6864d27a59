import { bits } from '@vmplanes/binary';

/** Leaf of the encrypted-memory capabilities. @spec APM vol. 3, E.4.17 */
export const ENCRYPTED_MEMORY_LEAF = 0x8000_001f;

/** EAX of the leaf. @spec APM vol. 3, E.4.17 */
export const EncryptedMemoryEax = bits('EncryptedMemoryEax', 'APM vol. 3, E.4.17', 32, {
  sme: 0,
  sev: 1,
  pageFlushMsr: [2, 'VM_PAGE_FLUSH'],
  sevEs: 3,
  sevSnp: 4,
  vmpl: 5,
  rmpquery: 6,
  vmplSss: [7, 'supervisor shadow stack permission'],
  secureTsc: 8,
  tscAuxVirtualization: 9,
  hwEncryptionCoherency: 10,
  only64BitHost: 11,
  restrictedInjection: 12,
  alternateInjection: 13,
  debugSwap: 14,
  preventHostIbs: 15,
  vte: [16, 'virtual transparent encryption'],
  vmgexitParam: 17,
  virtualTomMsr: 18,
  ibsVirtualization: 19,
  rmpread: 21,
  guestInterceptControl: 22,
  segmentedRmp: 23,
  vmsaRegProt: 24,
  secureAvic: 26,
  allowedSevFeatures: 27,
  svsmPresent: [28, 'set by software'],
  nestedSnpMsr: 29,
  inUseWriteAllowed: 30,
});

/** EBX of the leaf. @spec APM vol. 3, E.4.17 */
export const EncryptedMemoryEbx = bits('EncryptedMemoryEbx', 'APM vol. 3, E.4.17', 32, {
  cBitPosition: [0, 6, 'bit of a page-table entry that makes the page private'],
  physicalReduction: [6, 6, 'physical address bits that guests lose'],
  vmplCount: [12, 4, 'VMPLs'],
  coherencySfwNo: [31, 'no cache flushes are needed when pages change sides'],
});

/** Position of the C-bit that all known hosts use. @spec Linux arch/x86/include/asm/sev-common.h */
export const C_BIT = 51;
/** VMPLs of a guest. @spec APM vol. 2, 15.36.7 */
export const VMPL_COUNT = 4;
