import { SvsmResult } from '@vmplanes/abi-svsm';
import { describe, expect, it } from 'vitest';
import { At, SvsmRig } from './svsm-rig.ts';

describe('smoke', () => {
  it('serves a call', () => {
    const rig = new SvsmRig();
    expect(rig.call({ call: 6, rcx: 1n })).toEqual({ result: 0, rcx: 0x1_0000_0001n, rdx: 0n, r8: 0n, pending: 0 });
    expect(rig.switches.slice(-2)).toEqual(['0: 2>0 run-vmpl', '0: 0>2 run-vmpl']);
    expect(SvsmResult.Success).toBe(0);
    expect(At.caa).toBe(0x80f000);
  });
});
