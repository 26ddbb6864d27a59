import { array, bytes, struct, u16, u32, u64, u8 } from '@vmplanes/binary';
import { VMPCK_BYTES } from './guest-messages.ts';

/** Version of the page with SVSM fields and TSC factor. @spec SNP ABI, secrets page */
export const SECRETS_PAGE_VERSION = 3;

/** What the guest keeps in its secrets page. @spec GHCB 2.7, secrets page; SNP ABI, secrets page, offset A0h */
export const SecretsGuestArea = struct('SecretsGuestArea', 'GHCB 2.7, secrets page reserved area', 96, {
  sequenceLow: [0x00, array(u32, 4), 'message sequence numbers by VMPL, bits 31:0'],
  apJumpTable: [0x10, u64, 'guest physical address'],
  sequenceHigh: [0x18, array(u32, 4), 'bits 63:32'],
  reserved28: [0x28, bytes(22)],
  layoutVersion: [0x3e, u16, '1: with bits 63:32'],
  guestUsage: [0x40, bytes(32)],
});

/** The page of secrets that the firmware gives a guest. The fields of an SVSM are written by it into the copy for its guest. @spec SNP ABI, secrets page; SVSM 1.00, 5 */
export const SecretsPage = struct('SecretsPage', 'SNP ABI, secrets page', 4096, {
  version: [0x000, u32],
  flags: [0x004, u32, 'bit 0: the guest is an initial migration image'],
  fms: [0x008, u32, 'CPUID signature'],
  reserved00c: [0x00c, u32],
  gosvw: [0x010, bytes(16), 'OS visible workarounds, of the host'],
  vmpck0: [0x020, bytes(VMPCK_BYTES), 'message key of VMPL0'],
  vmpck1: [0x040, bytes(VMPCK_BYTES)],
  vmpck2: [0x060, bytes(VMPCK_BYTES)],
  vmpck3: [0x080, bytes(VMPCK_BYTES)],
  guestArea: [0x0a0, SecretsGuestArea],
  vmsaTweakBitmap: [0x100, bytes(64), 'VMSA quadwords under register protection'],
  svsmBase: [0x140, u64, 'guest physical address'],
  svsmSize: [0x148, u64, 'bytes; 0: no SVSM'],
  svsmCaa: [0x150, u64, 'guest physical address of the boot calling area'],
  svsmMaxVersion: [0x158, u32],
  svsmGuestVmpl: [0x15c, u8],
  reserved15d: [0x15d, bytes(3)],
  tscFactor: [0x160, u32, 'as in MSG_TSC_INFO_RSP'],
  reserved164: [0x164, u32],
  launchMitVector: [0x168, u64],
  reserved170: [0x170, bytes(0xe90)],
});
