import { Arena, Sharing } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { CONTEXT_SIZE, gprNames, gprOffset, isRegisterName, segmentNames, segmentOffset, X86, x86ContextLayout, X86Size, X86Word } from './layout.ts';
import { readHigh, readLow, readRegister, readSegment, writePair, writeRegister, writeSegment } from './registers.ts';

describe('the x86 context block', () => {
  it('aligns every cell of 8 bytes or more to 8', () => {
    for (const r of x86ContextLayout.registers) expect([r.name, r.offset % Math.min(r.size, 8)]).toEqual([r.name, 0]);
  });

  it('places SSE and AVX registers on 16-byte boundaries', () => {
    for (let i = 0; i < 16; i++) {
      expect(x86ContextLayout.register(`xmm${i}`).offset).toBe(X86.xmm0 + 16 * i);
      expect(x86ContextLayout.register(`ymmHigh${i}`).offset).toBe(X86.ymmHigh0 + 16 * i);
    }
    expect(X86.xmm0 % 16).toBe(0);
  });

  it('gives byte offsets and word indices that agree', () => {
    for (const r of x86ContextLayout.registers) {
      if (!isRegisterName(r.name)) throw new Error(r.name);
      expect(X86[r.name]).toBe(r.offset);
      expect(X86Word[r.name] * 4).toBe(r.offset);
      expect(X86Size[r.name]).toBe(r.size);
    }
    expect(isRegisterName('rxx')).toBe(false);
  });

  it('orders segment cells alike for all eight segments', () => {
    segmentNames.forEach((name, i) => {
      const at = segmentOffset[i]!;
      expect([X86[`${name}.attributes`] - at, X86[`${name}.limit`] - at, X86[`${name}.base`] - at]).toEqual([4, 8, 16]);
    });
    expect(gprNames.map((name) => X86[name])).toEqual([...gprOffset]);
  });

  it('keeps the scratch area out of the architectural state', () => {
    expect(x86ContextLayout.registers.filter((r) => r.architectural === false).map((r) => r.name)).toEqual(['reserved']);
  });
});

describe('sharing declarations over the x86 block', () => {
  it('compiles the registers that planes commonly share to one range', () => {
    const sharing = new Sharing(x86ContextLayout, { shared: ['gpr', 'cr2', 'breakpoints', 'xcr0', 'fpu', 'mtrr', 'mcg'], except: ['rsp'] });
    expect([...sharing.ranges]).toEqual([0, 0x440 / 4]);
    for (const name of ['rax', 'r15', 'cr2', 'dr3', 'xcr0', 'st0', 'xmm15', 'ymmHigh15', 'mtrrDefType']) expect(sharing.isShared(name)).toBe(true);
    for (const name of ['rsp', 'rip', 'rflags', 'cr3', 'dr7', 'pkru', 'exception.state', 'cs.base']) expect(sharing.isShared(name)).toBe(false);
  });

  it('needs one range without the shared MSRs and two for the FPU with general registers', () => {
    expect([...new Sharing(x86ContextLayout, { shared: ['gpr', 'cr2', 'breakpoints', 'xcr0', 'fpu'], except: ['rsp'] }).ranges]).toEqual([0, 0x350 / 4]);
    expect(new Sharing(x86ContextLayout, { shared: ['fpu'] }).ranges).toHaveLength(2);
    expect(new Sharing(x86ContextLayout, { shared: ['gpr'], except: ['rsp'] }).ranges).toHaveLength(2);
    expect(new Sharing(x86ContextLayout, { shared: [] }).ranges).toHaveLength(0);
  });
});

describe('register access', () => {
  const arena = new Arena(new ArrayBuffer(2 * CONTEXT_SIZE));
  const base = CONTEXT_SIZE;

  it('reads back every cell and touches no other byte', () => {
    for (const r of x86ContextLayout.registers) {
      if (!isRegisterName(r.name)) throw new Error(r.name);
      arena.u8.fill(0);
      const value = (1n << BigInt(8 * r.size)) - 1n - 0x1234n;
      writeRegister(arena, base, r.name, value);
      expect(readRegister(arena, base, r.name)).toBe(value);
      expect(arena.u8.subarray(0, base + r.offset).every((b) => b === 0)).toBe(true);
      expect(arena.u8.subarray(base + r.offset + r.size).every((b) => b === 0)).toBe(true);
    }
  });

  it('drops bits beyond the cell and takes the two\'s complement of a negative value', () => {
    writeRegister(arena, base, 'pkru', 0x1_2345_6789n);
    expect(readRegister(arena, base, 'pkru')).toBe(0x2345_6789n);
    writeRegister(arena, base, 'tscOffset', -1n);
    expect(readRegister(arena, base, 'tscOffset')).toBe(0xffff_ffff_ffff_ffffn);
  });

  it('splits 64-bit cells into halves', () => {
    writePair(arena, base, X86.rbx, -2, 0x8000_0001);
    expect([readLow(arena, base, X86.rbx), readHigh(arena, base, X86.rbx)]).toEqual([0xffff_fffe, 0x8000_0001]);
    expect(readRegister(arena, base, 'rbx')).toBe(0x8000_0001_ffff_fffen);
  });

  it('reads and writes whole segments', () => {
    const cs = { selector: 0xf000, attributes: 0x9b, limit: 0xffff, base: 0xffff_0000n };
    writeSegment(arena, base, 'cs', cs);
    expect(readSegment(arena, base, 'cs')).toEqual(cs);
    expect(arena.u32[(base + segmentOffset[1]!) / 4]).toBe(0xf000);
  });
});
