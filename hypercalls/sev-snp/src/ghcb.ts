import { bytes, struct, u16, u32, u64, u8 } from '@vmplanes/binary';

const SPEC = 'GHCB 2.6; Linux arch/x86/include/asm/svm.h (struct ghcb)';

/**
 * The page through which a guest with hidden registers asks its host. Fields below {@link Ghcb.at}`.sharedBuffer` have a bit in the valid
 * bitmap: bit n covers the eight bytes at 8n.
 * @spec GHCB 2.6; Linux arch/x86/include/asm/svm.h (struct ghcb)
 */
export const Ghcb = struct('Ghcb', SPEC, 4096, {
  reserved0: [0x000, bytes(0xcb)],
  cpl: [0x0cb, u8],
  reserved0cc: [0x0cc, bytes(0x74)],
  xss: [0x140, u64],
  reserved148: [0x148, bytes(0x18)],
  dr7: [0x160, u64],
  reserved168: [0x168, bytes(0x10)],
  rip: [0x178, u64, 'named by Linux and OpenVMM; the host ignores it'],
  reserved180: [0x180, bytes(0x58)],
  rsp: [0x1d8, u64, 'named by Linux and OpenVMM; the host ignores it'],
  reserved1e0: [0x1e0, bytes(0x18)],
  rax: [0x1f8, u64],
  reserved200: [0x200, bytes(0x108)],
  rcx: [0x308, u64],
  rdx: [0x310, u64],
  rbx: [0x318, u64],
  reserved320: [0x320, u64],
  rbp: [0x328, u64],
  rsi: [0x330, u64],
  rdi: [0x338, u64],
  r8: [0x340, u64],
  r9: [0x348, u64],
  r10: [0x350, u64],
  r11: [0x358, u64],
  r12: [0x360, u64],
  r13: [0x368, u64],
  r14: [0x370, u64],
  r15: [0x378, u64],
  reserved380: [0x380, bytes(0x10)],
  swExitCode: [0x390, u64, 'what is asked'],
  swExitInfo1: [0x398, u64, 'by event; the result on return'],
  swExitInfo2: [0x3a0, u64, 'by event; details of the result on return'],
  swScratch: [0x3a8, u64, 'guest physical address of data, usually in the shared buffer'],
  reserved3b0: [0x3b0, bytes(0x38)],
  xcr0: [0x3e8, u64],
  validBitmap: [0x3f0, bytes(16), 'which fields hold something: bit n for the quadword at 8n'],
  x87StateGpa: [0x400, u64, 'used by no known guest or host'],
  reserved408: [0x408, bytes(0x3f8)],
  sharedBuffer: [0x800, bytes(0x7f0)],
  reservedFf0: [0xff0, bytes(10)],
  protocolVersion: [0xffa, u16, 'what the guest fills the page by; the host goes by the version of the machine'],
  ghcbUsage: [0xffc, u32, 'GhcbUsage'],
});

/** Fields that the valid bitmap covers. */
export const ghcbFields = [
  'cpl', 'xss', 'dr7', 'rip', 'rsp', 'rax', 'rcx', 'rdx', 'rbx', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'swExitCode', 'swExitInfo1', 'swExitInfo2', 'swScratch', 'xcr0',
] as const satisfies readonly (keyof typeof Ghcb.at)[];
/** A field that the valid bitmap covers. */
export type GhcbField = (typeof ghcbFields)[number];

/** The bit of a field in the valid bitmap. @spec GHCB 2.6 */
export const ghcbValidBit = Object.freeze(Object.fromEntries(ghcbFields.map((name) => [name, Ghcb.at[name] >>> 3])) as { readonly [K in GhcbField]: number });

/** First byte of the shared buffer, and the byte behind its last one. @spec GHCB 2.6 */
export const GHCB_BUFFER = { from: 0x800, to: 0xff0 } as const;
/** Bytes of the shared buffer. */
export const GHCB_BUFFER_BYTES: number = GHCB_BUFFER.to - GHCB_BUFFER.from;
/** Pages that scratch data outside the GHCB may have, in protocol version 1. @spec Linux arch/x86/kvm/svm/sev.c (setup_vmgexit_scratch) */
export const GHCB_SCRATCH_PAGES = 16;

/** What the page holds. @spec GHCB 2.6; openvmm vm/x86/x86defs/src/snp.rs */
export const GhcbUsage = {
  /** The layout of {@link Ghcb}. */
  Standard: 0,
  /** A Hyper-V hypercall: {@link GhcbHypercallPage}. */
  HypervHypercall: 1,
  /** Hyper-V VTL return. */
  HypervVtlReturn: 2,
} as const;
export type GhcbUsage = (typeof GhcbUsage)[keyof typeof GhcbUsage];

/** The page of a Hyper-V hypercall: parameters, then where output goes, then the control word, which the result replaces. @spec openvmm vm/x86/x86defs/src/snp.rs; Linux arch/x86/hyperv/ivm.c (union hv_ghcb) */
export const GhcbHypercallPage = struct('GhcbHypercallPage', 'openvmm vm/x86/x86defs/src/snp.rs; Linux arch/x86/hyperv/ivm.c (union hv_ghcb)', 4096, {
  data: [0x000, bytes(0xfe8)],
  outputGpa: [0xfe8, u64],
  control: [0xff0, u64, 'control word; result on return'],
  reservedFf8: [0xff8, u16],
  protocolVersion: [0xffa, u16],
  ghcbUsage: [0xffc, u32, 'GhcbUsage.HypervHypercall'],
});

/** Versions of the protocol. @spec GHCB 2.1 */
export const GHCB_PROTOCOL = { minimum: 1, maximum: 2 } as const;
/** A version of the protocol. */
export type GhcbVersion = 1 | 2;

/** Low half of SW_EXITINFO1 on return: how the event went. @spec GHCB 4.1; Linux arch/x86/include/asm/sev-common.h */
export const GhcbResult = {
  Success: 0,
  /** The guest shall take the exception that SW_EXITINFO2 describes as an event injection. */
  Exception: 1,
  /** The request is not valid: {@link GhcbReason} in SW_EXITINFO2. */
  InvalidInput: 2,
} as const;
export type GhcbResult = (typeof GhcbResult)[keyof typeof GhcbResult];

/** Why a request is not valid. @spec GHCB 4.1; Linux arch/x86/include/asm/sev-common.h (GHCB_ERR) */
export const GhcbReason = {
  /** The page is not the registered one. */
  NotRegistered: 1,
  InvalidUsage: 2,
  /** The scratch area is not usable. */
  InvalidScratch: 3,
  /** A field that the event needs is not marked valid. */
  MissingInput: 4,
  InvalidInput: 5,
  /** No such event. */
  InvalidEvent: 6,
} as const;
export type GhcbReason = (typeof GhcbReason)[keyof typeof GhcbReason];

/** Subcommands of the AP jump table event, in SW_EXITINFO1. @spec GHCB 4.1; Linux arch/x86/include/uapi/asm/svm.h */
export const ApJumpTable = { Set: 0, Get: 1 } as const;
export type ApJumpTable = (typeof ApJumpTable)[keyof typeof ApJumpTable];

/** Errors of the VMM in the high half of SW_EXITINFO2 of guest requests. @spec Linux include/uapi/linux/sev-guest.h */
export const GuestRequestError = { None: 0, InvalidLength: 1, Busy: 2, Generic: 0xffff_ffff } as const;
export type GuestRequestError = (typeof GuestRequestError)[keyof typeof GuestRequestError];
