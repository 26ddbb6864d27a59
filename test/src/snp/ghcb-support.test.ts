import { personality } from '@vmplanes/personality-sev-snp-vmpl';
import { describe, expect, it } from 'vitest';

const rows = personality.support.filter((r) => ['ghcb-msr', 'nae', 'ghcb-usage', 'hypervisor-feature'].includes(r.kind));

describe('what of the GHCB protocol is not served', () => {
  // Only what the public sources leave open, call a draft, or leave to the host.
  it('is this list', () =>
    expect(rows.filter((r) => r.support === 'no').map((r) => [r.kind, r.code, r.note])).toEqual([
      ['ghcb-msr', '0x3', 'deprecated; served as an unknown code'],
      ['nae', '0x41', 'only an error code of #VC: guests handle it themselves'],
      ['nae', '0x51', 'only an error code of #VC: guests handle it themselves'],
      ['nae', '0x80000016', 'not established: no public source describes it'],
      ['nae', '0x8000001a', 'optional: secure AVIC is not offered'],
      ['nae', '0x8000001b', 'draft: numbers not ratified'],
      ['nae', '0x8000001c', 'draft: numbers not ratified'],
      ['nae', '0x8000001d', 'draft: numbers not ratified'],
      ['nae', '0x80000020', 'draft: no trusted devices'],
      ['nae', '0x80000021', 'draft: no trusted devices'],
      ['nae', 'from 0xf0000000', 'reserved: no host of this kind defines any'],
      ['ghcb-usage', '2', 'optional: planes are VMPLs here, which Run VMPL switches'],
      ['hypervisor-feature', 'bit 3', 'not established: no public source describes the #HV timer'],
      ['hypervisor-feature', 'bit 6', 'optional: a guest without a reverse map changes no page states'],
      ['hypervisor-feature', 'bit 7', 'draft: no trusted devices'],
      ['hypervisor-feature', 'bit 9', 'draft: numbers of its events are not ratified'],
    ]));
  it('says why, by name', () => expect(rows.filter((r) => r.support === 'no' && !/^(?:deprecated|not established|draft|optional|reserved|only an error code)/.test(r.note ?? ''))).toEqual([]));
  it('is printed with what is served', () => expect(rows.filter((r) => r.support === 'yes').length).toBe(58));
});
