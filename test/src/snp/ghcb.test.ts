import { describe, expect, it } from 'vitest';
import { exception, GhcbRig } from './ghcb-rig.ts';

describe('smoke', () => {
  it('answers SEV information', () => expect(new GhcbRig().msr(2n)).toBe(0x0002_0001_3300_0001n));
  it('answers features', () => {
    const rig = new GhcbRig();
    expect(rig.result(0x8000_fffd)).toEqual([0n, 0x37n]);
    expect(rig.event(0x72, 0, 0, { rax: 0, rcx: 0 })).toMatchObject({ swExitInfo1: 0n });
    expect(rig.result(0x7c, 0, 0, { rcx: 0x4000_0000 })).toEqual(exception(13, 0));
    expect(rig.result(0x7b, 0x03fd_0011)).toEqual([-1n, -1n]);
    expect(rig.exit()).toEqual({ kind: 'io', write: false, port: 0x3fd, size: 1, value: 0 });
    rig.answer({ value: 0x60 });
    expect(rig.reply()).toEqual({ rax: 0x60n, rcx: 0n, rdx: 0n, rbx: 0n, swExitInfo1: 0n, swExitInfo2: 0n });
  });
});
