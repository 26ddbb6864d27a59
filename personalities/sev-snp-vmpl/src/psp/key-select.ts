import { KeySelect } from '@vmplanes/abi-sev-snp';
import type { EndorsementKey } from './platform.ts';
import type { FirmwareView } from './ports.ts';

/** The key that a selection names, or null when the platform does not have it or the guest may not use it. @spec SNP ABI, MSG_REPORT_REQ, KEY_SEL */
export function selectKey({ platform, guest }: FirmwareView, select: number): EndorsementKey | null {
  const vcek = guest.isVcekDisabled ? null : platform.vcek;
  switch (select) {
    case KeySelect.VlekElseVcek:
      return platform.vlek ?? vcek;
    case KeySelect.Vcek:
      return vcek;
    case KeySelect.Vlek:
      return platform.vlek;
    default:
      return null;
  }
}

/** VMPLs are 0 to 3; a message speaks for the VMPL of its key or a less privileged one. */
export const isVmplAllowed = (vmpl: number, vmpck: number): boolean => vmpl >= vmpck && vmpl <= 3;

/** The highest selection that is defined. */
export const LAST_KEY_SELECT = KeySelect.Vlek;
