import { bits, struct, u16, u32 } from '@vmplanes/binary';

const SPEC = 'GHCB 4.1.6; Linux arch/x86/include/asm/sev-common.h (struct snp_psc_desc)';

/** Head of the list of a page state change. Entries of 8 bytes follow. @spec GHCB 4.1.6; Linux arch/x86/include/asm/sev-common.h */
export const PscHeader = struct('PscHeader', SPEC, 8, {
  curEntry: [0, u16, 'first entry to be done; the host moves it'],
  endEntry: [2, u16, 'last entry, included'],
  reserved: [4, u32],
});
/** One entry. @spec GHCB 4.1.6; Linux arch/x86/include/asm/sev-common.h (struct psc_entry) */
export const PscEntry = bits('PscEntry', SPEC, 64, {
  curPage: [0, 12, 'pages of this entry that are done; the host moves it'],
  page: [12, 40, 'guest page number'],
  operation: [52, 4, 'PscOperation'],
  large: [56, '2 MiB'],
  reserved: [57, 7],
});
/** Entries that fit between the start of the shared buffer and its end. */
export const PSC_ENTRIES = 253;
/** Pages of an entry for a 2 MiB page. */
export const PSC_LARGE_PAGES = 512;

/** What becomes of a page. @spec GHCB 4.1.6; Linux arch/x86/include/asm/sev-common.h (enum psc_op) */
export const PscOperation = {
  Private: 1,
  Shared: 2,
  /** A hint: completed without effect. */
  Psmash: 3,
  /** A hint: completed without effect. */
  Unsmash: 4,
} as const;
export type PscOperation = (typeof PscOperation)[keyof typeof PscOperation];

/** Errors of a page state change in SW_EXITINFO2, as (high, low) halves. SW_EXITINFO1 stays 0. @spec Linux arch/x86/include/asm/sev-common.h (VMGEXIT_PSC_ERROR_*) */
export const PscError = {
  /** The last entry lies outside the buffer. */
  InvalidHeader: { hi: 1, lo: 1 },
  /** More pages are done than the entry has, or its page is not aligned to its size. */
  InvalidEntry: { hi: 1, lo: 2 },
  /** The VMM refused. */
  Generic: { hi: 0x100, lo: 0 },
} as const;
export type PscError = (typeof PscError)[keyof typeof PscError];
