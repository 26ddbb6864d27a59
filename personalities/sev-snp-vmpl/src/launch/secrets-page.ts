import { SECRETS_PAGE_VERSION, SecretsPage } from '@vmplanes/abi-sev-snp';
import type { GuestContext } from '../psp/guest-context.ts';

/**
 * The secrets page of a guest, as the firmware gives it to VMPL0. Fields of an SVSM are zero: it fills them in its copies.
 * @param signature - CPUID leaf 1, EAX.
 * @spec SNP ABI, secrets page
 */
export function secretsPage(guest: GuestContext, signature: number, mitVector: bigint): Uint8Array {
  const page = new Uint8Array(SecretsPage.size);
  const [vmpck0, vmpck1, vmpck2, vmpck3] = guest.keys as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  const none = [0, 0, 0, 0];
  SecretsPage.write(new DataView(page.buffer), 0, {
    version: SECRETS_PAGE_VERSION, flags: 0, fms: signature, gosvw: guest.gosvw, vmpck0, vmpck1, vmpck2, vmpck3,
    guestArea: { sequenceLow: none, apJumpTable: 0n, sequenceHigh: none, layoutVersion: 0, guestUsage: new Uint8Array(32) },
    vmsaTweakBitmap: new Uint8Array(64), svsmBase: 0n, svsmSize: 0n, svsmCaa: 0n, svsmMaxVersion: 0, svsmGuestVmpl: 0, tscFactor: guest.tscFactor, launchMitVector: mitVector,
  });
  return page;
}
