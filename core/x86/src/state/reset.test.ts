import { Arena } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { CONTEXT_SIZE, isRegisterName, type RegisterName, x86ContextLayout } from './layout.ts';
import { readRegister, readSegment, writeRegister } from './registers.ts';
import { initializeContext, resetCells, resetContext } from './reset.ts';

const parameters = { signature: 0x00a2_0f12, mxcsrMask: 0x2ffff };
const base = CONTEXT_SIZE;
const fresh = (fill = 0): Arena => {
  const arena = new Arena(new ArrayBuffer(3 * CONTEXT_SIZE));
  arena.u8.fill(fill);
  return arena;
};
const architectural = x86ContextLayout.registers.filter((r) => r.architectural !== false).map((r) => r.name).filter(isRegisterName);
const values = (arena: Arena): Record<string, string> => Object.fromEntries(architectural.map((name) => [name, readRegister(arena, base, name).toString(16)]));
/** What the machine was built with: no reset decides about them. */
const built: readonly RegisterName[] = ['mcgCap', 'patchLevel'];

describe('reset', () => {
  it('decides about every architectural cell of the layout', () => {
    expect(resetCells).toEqual(architectural);
  });

  it('at power-on equals a fresh context, field by field, whatever was there', () => {
    const clean = fresh();
    initializeContext(clean, base, parameters);
    const dirty = fresh(0xa7);
    for (const name of built) writeRegister(dirty, base, name, 0n);
    resetContext(dirty, base, 'powerOn', parameters);
    expect(values(dirty)).toEqual(values(clean));
    const reborn = fresh(0x5c);
    initializeContext(reborn, base, parameters);
    expect(reborn.u8.slice(base, base + CONTEXT_SIZE)).toEqual(clean.u8.slice(base, base + CONTEXT_SIZE));
  });

  it('touches no byte outside the block', () => {
    const arena = fresh(0x77);
    initializeContext(arena, base, parameters);
    resetContext(arena, base, 'init', parameters);
    expect(arena.u8.subarray(0, base).every((b) => b === 0x77) && arena.u8.subarray(base + CONTEXT_SIZE).every((b) => b === 0x77)).toBe(true);
  });

  // SDM 3A Table 10-1, column "power up".
  it.each([
    ['rax', 0n], ['rdx', 0xa2_0f12n], ['rsp', 0n], ['rip', 0xfff0n], ['rflags', 2n], ['cr0', 0x6000_0010n], ['cr2', 0n], ['cr3', 0n], ['cr4', 0n], ['efer', 0n],
    ['dr0', 0n], ['dr6', 0xffff_0ff0n], ['dr7', 0x400n], ['xcr0', 1n], ['pkru', 0n], ['mxcsr', 0x1f80n], ['st0', 0n], ['xmm0', 0n], ['gdtr.limit', 0xffffn], ['gdtr.base', 0n],
    ['idtr.limit', 0xffffn], ['pat', 0x0007_0406_0007_0406n], ['smbase', 0x3_0000n], ['mtrrDefType', 0n], ['x87.environment', 0xff_0000_0040n], ['cpl', 0n],
  ] as const)('sets %s at power-on', (name, value) => {
    const arena = fresh(0xff);
    resetContext(arena, base, 'powerOn', parameters);
    expect(readRegister(arena, base, name)).toBe(value);
  });

  it('sets segments with their hidden parts', () => {
    const arena = fresh(0xff);
    resetContext(arena, base, 'powerOn', parameters);
    expect(readSegment(arena, base, 'cs')).toEqual({ selector: 0xf000, attributes: 0x9b, limit: 0xffff, base: 0xffff_0000n });
    for (const name of ['es', 'ss', 'ds', 'fs', 'gs'] as const) expect(readSegment(arena, base, name)).toEqual({ selector: 0, attributes: 0x93, limit: 0xffff, base: 0n });
    expect([readSegment(arena, base, 'ldtr').attributes, readSegment(arena, base, 'tr').attributes]).toEqual([0x82, 0x8b]);
  });

  // SDM 3A Table 10-1, column "INIT": what it leaves unchanged.
  it('leaves caches, floating point, MTRRs and most MSRs alone at INIT', () => {
    const arena = fresh(0xff);
    resetContext(arena, base, 'init', parameters);
    const kept: readonly RegisterName[] = [
      'xcr0', 'xss', 'pkru', 'x87.environment', 'x87.rip', 'mxcsr', 'st7', 'xmm15', 'ymmHigh15', 'pat', 'tscOffset', 'tscScale', 'tscAdjust', 'tscAux', 'mtrrDefType',
      'mtrrPhysBase0', 'mtrrFix4kF8000', 'mcgStatus', 'star', 'lstar', 'kernelGsBase', 'sysenterEip', 'miscEnable', 'smbase', 'hwcr',
    ];
    for (const name of kept) {
      const all = fresh(0xff);
      expect([name, readRegister(arena, base, name)]).toEqual([name, readRegister(all, base, name)]);
    }
    expect(readRegister(arena, base, 'cr0')).toBe(0x6000_0010n);
    writeRegister(arena, base, 'cr0', 0x8000_0011n);
    resetContext(arena, base, 'init', parameters);
    expect(readRegister(arena, base, 'cr0')).toBe(0x10n);
    for (const name of ['rax', 'cr3', 'cr4', 'efer', 'dr0', 'exception.state', 'nmi.blocked', 'interruptShadow', 'uCet', 'ssp'] as const) expect([name, readRegister(arena, base, name)]).toEqual([name, 0n]);
    expect(readRegister(arena, base, 'rdx')).toBe(0xa2_0f12n);
  });
});
