import { bits, bytes, struct, u32, u64, u8 } from '@vmplanes/binary';

/** Status that an RMP instruction leaves in EAX. @spec APM vol. 3, PVALIDATE, RMPADJUST, PSMASH, RMPUPDATE */
export const RmpStatus = { Success: 0, FailInput: 1, FailPermission: 2, FailInuse: 3, FailOverlap: 4, FailSizeMismatch: 6 } as const;
export type RmpStatus = (typeof RmpStatus)[keyof typeof RmpStatus];

/** Permission mask of a VMPL. @spec APM vol. 2, 15.36.7, Table 15-38 */
export const VmplPermission = { Read: 1, Write: 2, ExecuteUser: 4, ExecuteSupervisor: 8, SupervisorShadowStack: 16 } as const;
/** Every permission. */
export const ALL_VMPL_PERMISSIONS = 0x1f;

/** Size operand of PVALIDATE, RMPADJUST and RMPQUERY. @spec APM vol. 3, PVALIDATE */
export const RmpPageSize = { Page4K: 0, Page2M: 1 } as const;
/** Pages of 4 KiB in one of 2 MiB. */
export const PAGES_PER_2M = 512;

/** RDX of RMPADJUST; RMPQUERY takes the target and returns the rest in the same place. @spec APM vol. 3, RMPADJUST */
export const RmpAdjustOperand = bits('RmpAdjustOperand', 'APM vol. 3, RMPADJUST', 32, {
  targetVmpl: [0, 8, 'VMPL whose permissions are meant'],
  targetPermMask: [8, 8, 'its permissions'],
  vmsa: [16, 'the page is a VMSA; counts at VMPL0 only'],
  reserved: [17, 15],
});

/** Operand of RMPUPDATE, at [RCX]. @spec APM vol. 3, RMPUPDATE; Linux arch/x86/include/asm/sev.h */
export const RmpUpdateEntry = struct('RmpUpdateEntry', 'APM vol. 3, RMPUPDATE; Linux arch/x86/include/asm/sev.h', 16, {
  gpa: [0x0, u64, 'guest physical address the page stands at'],
  assigned: [0x8, u8, '1: owned by a guest'],
  pagesize: [0x9, u8, '0: 4 KiB, 1: 2 MiB'],
  immutable: [0xa, u8, '1: only the security processor changes the entry'],
  reserved: [0xb, bytes(1)],
  asid: [0xc, u32, 'guest that owns the page; 0: the host'],
});

/** First word of an entry of the reverse map table. @spec APM vol. 2, 15.36.3; Linux arch/x86/virt/svm/sev.c */
export const RmpEntryLow = bits('RmpEntryLow', 'APM vol. 2, 15.36.3; Linux arch/x86/virt/svm/sev.c', 64, {
  assigned: 0,
  pagesize: 1,
  immutable: 2,
  gpn: [12, 39, 'guest page number'],
  asid: [51, 10],
  vmsa: 61,
  validated: 62,
});

/** Error code of a nested page fault (EXITINFO1). @spec APM vol. 2, 15.25.6, 15.36.10 */
export const NpfError = bits('NpfError', 'APM vol. 2, 15.25.6, 15.36.10', 64, {
  present: 0,
  write: 1,
  user: 2,
  rsvd: 3,
  fetch: 4,
  shadowStack: 6,
  rmp: [31, 'the reverse map table refused'],
  finalGpa: [32, 'met at the final address'],
  guestTable: [33, 'met while walking the tables of the guest'],
  enc: [34, 'the access had C=1'],
  sizem: [35, 'page sizes differ'],
  vmpl: [36, 'the VMPL lacks the permission'],
  sss: [37, 'supervisor shadow stack check'],
  notRestartable: 63,
});
/** The bits of {@link NpfError} above 31, as bits of the high word. */
export const NpfErrorHigh = { FinalGpa: 1 << 0, GuestTable: 1 << 1, Enc: 1 << 2, Sizem: 1 << 3, Vmpl: 1 << 4, Sss: 1 << 5 } as const;
/** Bit 31: the reverse map table refused. */
export const NPF_RMP = 0x8000_0000;
