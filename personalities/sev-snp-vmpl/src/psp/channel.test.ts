import { AttestationReport } from '@vmplanes/abi-sev-snp';
import { describe, expect, it } from 'vitest';
import { requestReport } from '../svsm/psp-channel.ts';
import { SecurityProcessor } from './security-processor.ts';

const tcb = { fmc: 0, bootLoader: 1, tee: 1, snp: 1, microcode: 1 };
const processor = (): SecurityProcessor => {
  const psp = new SecurityProcessor({ seed: new Uint8Array(48), signing: 'none', tcb, family: 0x19, model: 1, stepping: 1 }, { reportVersion: 3, platformInfo: 0n, mitVector: 0n, policy: 0x30000n, hostData: new Uint8Array(32) }, (_leaf, _subleaf, out) => out.fill(0));
  expect(psp.entering()).toBe(null);
  return psp;
};

describe('the SVSM and the security processor', () => {
  it('agree on messages and their numbers', () => {
    const psp = processor();
    const state = { sequence: 1n, isCleared: false };
    for (let i = 1; i <= 3; i++) {
      const report = requestReport(psp, state, new Uint8Array(64).fill(i));
      expect(report).toBeInstanceOf(Uint8Array);
      const { reportData, vmpl, policy } = AttestationReport.read(new DataView((report as Uint8Array).slice().buffer), 0);
      expect([reportData, vmpl, policy]).toEqual([new Uint8Array(64).fill(i), 0, 0x30000n]);
      expect([state.sequence, psp.guest.sequences[0]]).toEqual([BigInt(2 * i + 1), BigInt(2 * i)]);
    }
  });
  it('part for good when their numbers differ', () => {
    const psp = processor();
    const state = { sequence: 3n, isCleared: false };
    expect(typeof requestReport(psp, state, new Uint8Array(64))).toBe('number');
    expect([state.isCleared, psp.guest.sequences[0]]).toEqual([true, 0n]);
    expect(typeof requestReport(psp, state, new Uint8Array(64))).toBe('number');
  });
  it('do not share keys: one that the guest forgets is known to the firmware', () => {
    const psp = processor();
    psp.keys[0]!.fill(0);
    expect(psp.guest.keys[0]!.some((b) => b !== 0)).toBe(true);
    expect(typeof requestReport(psp, { sequence: 1n, isCleared: false }, new Uint8Array(64))).toBe('number');
  });
});
