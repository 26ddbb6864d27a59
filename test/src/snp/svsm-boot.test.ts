import { CpuidFunction, CpuidPage, SecretsPage, Vmsa } from '@vmplanes/abi-sev-snp';
import { defaultOptions, optionsOf } from '@vmplanes/personality-sev-snp-vmpl';
import { describe, expect, it } from 'vitest';
import { At, SvsmRig } from './svsm-rig.ts';

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

describe('what the guest begins with', () => {
  const rig = new SvsmRig();
  const secrets = rig.read(At.secrets, 4096);
  const word = (at: number): bigint => viewOf(secrets).getBigUint64(at, true);

  it('its secrets page names the SVSM', () => {
    expect(word(0x140)).toBe(0x90_0000n);
    expect(word(0x148)).toBe(0x10_0000n);
    expect(word(0x150)).toBe(BigInt(At.caa));
    expect(viewOf(secrets).getUint32(0x158, true)).toBe(1);
    expect(secrets[0x15c]).toBe(2);
  });
  it('and has no key of a more privileged VMPL', () => {
    expect(secrets.subarray(0x20, 0x60).every((b) => b === 0)).toBe(true);
    expect(secrets.subarray(0x60, 0x80)).toEqual(rig.requests.keys[2]);
    expect(secrets.subarray(0x80, 0xa0)).toEqual(rig.requests.keys[3]);
    expect(SecretsPage.at.vmpck2).toBe(0x60);
  });
  it('the guest at VMPL1 gets the keys of VMPL1 to 3', () => {
    const other = new SvsmRig({ guestVmpl: 1 });
    const page = other.read(At.secrets, 4096);
    expect([1, 2, 3].map((n) => page[0x20 + n * 32])).toEqual([2, 3, 4]);
    expect(page.subarray(0x20, 0x40).every((b) => b === 0)).toBe(true);
    expect(page[0x15c]).toBe(1);
  });
  it('its CPUID page says that there is an SVSM', () => {
    const page = viewOf(rig.read(0x80_e000, 4096));
    const count = page.getUint32(0, true);
    expect(count).toBe(34);
    const rows = Array.from({ length: count }, (_, i) => CpuidFunction.read(page, CpuidPage.at.functions + i * CpuidFunction.size));
    expect(rows.find((r) => r.eaxIn === 0x8000_001f)!.eax & (1 << 28)).not.toBe(0);
    // Linux and OVMF look extended state up by its components.
    expect(rows.filter((r) => r.eaxIn === 0xd).map((r) => [r.ecxIn, r.xcr0In])).toEqual([[0, 1n], [1, 1n], [2, 0n]]);
  });
  it('its calling area is clear, and its memory is its own', () => {
    expect(rig.word(At.caa)).toBe(0n);
    for (const gpa of [0x80_0000, 0x80_f000]) expect(rig.rmp.entry(gpa / 4096)).toMatchObject({ assigned: true, validated: true, vmsa: false, perms: [0, 0xf, 0] });
    expect(rig.rmp.entry(0x81_0000 / 4096).assigned).toBe(false);
  });
  it('its first VMSA lies with the SVSM, and the guest may only read it', () => {
    expect(rig.rmp.entry(At.vmsa / 4096)).toMatchObject({ validated: true, vmsa: true, perms: [0, 1, 0] });
    expect(rig.read(At.vmsa + Vmsa.at.vmpl, 1)[0]).toBe(2);
    expect(rig.word(At.vmsa + Vmsa.at.efer) & 0x1000n).toBe(0x1000n);
    expect(rig.word(At.vmsa + Vmsa.at.sevFeatures)).toBe(1n);
  });
  it('the first switch is Run VMPL of the guest', () => expect(new SvsmRig().switches[0]).toBe('0: 0>2 run-vmpl'));
});

describe('options of the built-in SVSM that do not go together', () => {
  const builtin = { ...defaultOptions, svsm: 'builtin' } as const;
  it.each([
    ['memory of the SVSM that is not page aligned', { svsmBase: '0x8000001' }, 'not a multiple of 4096'],
    ['an SVSM of no bytes', { svsmSize: '0x0' }, 'svsmSize is 0'],
    ['a calling area in its memory', { callingArea: '0x8000000' }, 'not in the memory of the firmware'],
    ['a calling area outside the firmware', { callingArea: '0x900000' }, 'not in the memory of the firmware'],
    ['a secrets page outside the firmware', { secretsPage: '0x900000' }, 'not in the memory of the firmware'],
    ['two pages at one address', { cpuidPage: '0x80d000' }, 'need a page each'],
    ['firmware in its memory', { firmwareBase: '0x7fff000', firmwareSize: '0x2000', callingArea: '0x7fff000' }, 'overlaps'],
    ['a level without VMPLs', { level: 'sev-es' }, 'needs the level sev-snp'],
  ] as const)('%s', (_what, options, text) => expect(() => optionsOf({ ...builtin, ...options } as never)).toThrow(text));
});
