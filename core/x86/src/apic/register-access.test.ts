import { describe, expect, it } from 'vitest';
import { isLegalApicBase } from './apic-base.ts';
import { ApicReset, isBalanced } from './counters.ts';
import { ApicBench, irr, rdmsr, read, toX2apic, write, wrmsr } from './fixture.ts';
import { isApicMsr, readPage, writePage } from './register-access.ts';
import { ApicReg, apicRegisters, defaultApicConfig, type LocalApicConfig } from './registers.ts';

describe('x2APIC MSRs, SDM 3A table 10-6', () => {
  const existing = new Map(apicRegisters.flatMap((r) => Array.from({ length: r.slots ?? 1 }, (_, i) => [0x800 + (r.offset >> 4) + i, r.x2apic] as const)));

  it('every MSR of the range follows the access column; the rest is #GP', () => {
    for (let msr = 0x800; msr < 0x900; msr++) {
      const apic = toX2apic(new ApicBench().add());
      const access = existing.get(msr) ?? '-';
      expect([msr, rdmsr(apic, msr) === '#GP']).toEqual([msr, !access.includes('r')]);
      // 0 is a legal value of every register that can be written, except of a command (illegal vector, no fault).
      expect([msr, wrmsr(apic, msr, 0) === '#GP']).toEqual([msr, !access.includes('w')]);
      expect(isApicMsr(msr)).toBe(true);
    }
  });

  it('has the absent and one-way registers that the manual names', () => {
    const apic = toX2apic(new ApicBench().add());
    for (const msr of [0x800, 0x809, 0x80c, 0x80e, 0x831, 0x83a, 0x840, 0x8ff]) expect(rdmsr(apic, msr)).toBe('#GP');
    for (const msr of [0x80b, 0x83f]) expect(rdmsr(apic, msr)).toBe('#GP');
    for (const msr of [0x802, 0x803, 0x80a, 0x80d, 0x810, 0x818, 0x820, 0x839]) expect(wrmsr(apic, msr, 0)).toBe('#GP');
  });

  it('outside of x2APIC mode the range is #GP', () => {
    const apic = new ApicBench().add();
    expect(rdmsr(apic, 0x802)).toBe('#GP');
    expect(wrmsr(apic, 0x80b, 0)).toBe('#GP');
  });

  for (const [msr, value, what] of [
    [0x808, 0x100, 'TPR above 8 bits'],
    [0x80b, 1, 'EOI not 0'],
    [0x80f, 0x400, 'SVR bit 10'],
    [0x80f, 0x2000, 'SVR bit 13'],
    [0x828, 1, 'ESR not 0'],
    [0x82f, 0x800, 'CMCI bit 11'],
    [0x830, 1 << 13, 'ICR bit 13'],
    [0x830, 1 << 16, 'ICR bit 16'],
    [0x830, 1 << 20, 'ICR bit 20'],
    [0x832, 1 << 8, 'timer bit 8'],
    [0x832, 1 << 19, 'timer bit 19'],
    [0x833, 1 << 17, 'thermal bit 17'],
    [0x834, 1 << 13, 'counter bit 13'],
    [0x835, 1 << 17, 'LINT0 bit 17'],
    [0x836, 1 << 11, 'LINT1 bit 11'],
    [0x837, 1 << 8, 'error bit 8'],
    [0x83e, 4, 'divide bit 2'],
    [0x83f, 0x100, 'self IPI above 8 bits'],
  ] as const) {
    it(`reserved: ${what}`, () => {
      const bench = new ApicBench();
      const apic = toX2apic(bench.add());
      bench.log.length = 0;
      expect(wrmsr(apic, msr, value)).toBe('#GP');
      expect(bench.log).toEqual([]);
    });
  }

  it('the high word must be 0 except in the command register', () => {
    const bench = new ApicBench();
    const apic = toX2apic(bench.add());
    for (const msr of [0x808, 0x80b, 0x80f, 0x828, 0x832, 0x838, 0x83f]) expect(wrmsr(apic, msr, msr === 0x83f ? 0x40 : 0, 1)).toBe('#GP');
    bench.log.length = 0;
    expect(wrmsr(apic, 0x830, 0x1041, 0x1_0002)).toBe('ok');
    expect(bench.log).toEqual(['0: ipi 41 to 10002']);
    expect(rdmsr(apic, 0x830)).toEqual([0x41, 0x1_0002]);
  });

  it('SVR bit 12, CMCI and TSC-deadline bits are reserved where the model lacks them', () => {
    const apic = toX2apic(new ApicBench().add({ suppressEoiBroadcast: false, cmci: false }));
    expect(wrmsr(apic, 0x80f, 0x11ff)).toBe('#GP');
    expect(rdmsr(apic, 0x82f)).toBe('#GP');
    expect(rdmsr(apic, 0x803)).toEqual([0x0005_0014, 0]);
    expect(rdmsr(toX2apic(new ApicBench().add()), 0x803)).toEqual([0x0106_0014, 0]);
  });
});

describe('register page, SDM 3A table 10-1', () => {
  it('ignores reserved bits', () => {
    const apic = new ApicBench().add();
    write(apic, ApicReg.tpr, 0xffff_ff31);
    write(apic, ApicReg.dfr, 0x0000_0000);
    write(apic, ApicReg.ldr, 0x55aa_aaaa);
    write(apic, ApicReg.divide, 0xffff_ffff);
    expect([ApicReg.tpr, ApicReg.dfr, ApicReg.ldr, ApicReg.divide].map((r) => read(apic, r))).toEqual([0x31, 0x0fff_ffff, 0x5500_0000, 0xb]);
  });

  it('reads parts of a register and nothing between registers; writes whole registers only', () => {
    const apic = new ApicBench().add({}, 0x12);
    expect(readPage(apic, ApicReg.id + 3, 1)).toBe(0x12);
    expect(readPage(apic, ApicReg.id + 2, 2)).toBe(0x1200);
    expect(readPage(apic, ApicReg.id + 4, 4)).toBe(0);
    expect(readPage(apic, ApicReg.id + 3, 2)).toBe(0);
    writePage(apic, ApicReg.tpr, 1, 0x50);
    writePage(apic, ApicReg.tpr + 4, 4, 0x50);
    expect(apic.tpr).toBe(0);
  });

  it('write-only reads as 0, read-only ignores writes, unknown registers are errors', () => {
    const apic = new ApicBench().add();
    expect(read(apic, ApicReg.eoi)).toBe(0);
    write(apic, ApicReg.version, 0);
    expect(read(apic, ApicReg.version)).toBe(0x0106_0014);
    write(apic, ApicReg.esr, 0);
    expect(read(apic, ApicReg.esr)).toBe(0);
    expect(read(apic, 0x040)).toBe(0);
    write(apic, ApicReg.selfIpi, 0x41);
    expect(irr(apic, 0x41)).toBe(false);
    expect(read(apic, 0xff0)).toBe(0);
    write(apic, ApicReg.esr, 0);
    expect(read(apic, ApicReg.esr)).toBe(0x80);
  });

  it('a command goes to the 8-bit destination of the high word', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.icrHigh, 0x07ff_ffff);
    write(apic, ApicReg.icr, 0x400);
    expect(bench.log).toEqual(['0: ipi 400 to 7']);
  });
});

describe('IA32_APIC_BASE, SDM 3A figure 10-27', () => {
  const value = { disabled: 0xfee0_0000, xapic: 0xfee0_0800, x2apic: 0xfee0_0c00, invalid: 0xfee0_0400 } as const;
  const names = ['disabled', 'xapic', 'x2apic', 'invalid'] as const;
  const legal: Record<string, readonly string[]> = { disabled: ['disabled', 'xapic'], xapic: ['disabled', 'xapic', 'x2apic'], x2apic: ['disabled', 'x2apic'] };
  const rule = (from: number, to: number, config: Partial<LocalApicConfig> = {}, host = false, high = 0) =>
    isLegalApicBase(from, to, high, { ...defaultApicConfig, ...config }, host);

  for (const from of names.slice(0, 3)) {
    for (const to of names) {
      it(`${from} to ${to}`, () => {
        expect(rule(value[from], value[to])).toBe(legal[from]!.includes(to));
        expect(rule(value[from], value[to], {}, true)).toBe(to !== 'invalid');
      });
    }
  }

  it('reserved bits and address width', () => {
    expect(rule(value.xapic, value.xapic | 1)).toBe(false);
    expect(rule(value.xapic, value.xapic | 0x200)).toBe(false);
    expect(rule(value.xapic, value.xapic | 0x100)).toBe(true);
    expect(rule(value.xapic, value.xapic, {}, false, 0x3fff)).toBe(true);
    expect(rule(value.xapic, value.xapic, {}, false, 0x4000)).toBe(false);
    expect(rule(value.xapic, value.x2apic, { x2apic: false })).toBe(false);
  });

  it('xAPIC to x2APIC keeps the registers, except id, logical id and the high command word', () => {
    const bench = new ApicBench();
    const apic = bench.add({}, 0x123);
    write(apic, ApicReg.id, 0x9900_0000);
    write(apic, ApicReg.ldr, 0x0100_0000);
    write(apic, ApicReg.icrHigh, 0x0500_0000);
    write(apic, ApicReg.tpr, 0x20);
    apic.acceptVector(0x41, false);
    expect(apic.pageAddress).toBe(0xfee0_0000);
    expect(wrmsr(apic, 0x1b, 0xfee0_0d00)).toBe('ok');
    expect(rdmsr(apic, 0x802)).toEqual([0x123, 0]);
    expect(rdmsr(apic, 0x80d)).toEqual([0x0012_0008, 0]);
    expect(rdmsr(apic, 0x830)).toEqual([0, 0]);
    expect(rdmsr(apic, 0x808)).toEqual([0x20, 0]);
    expect(irr(apic, 0x41)).toBe(true);
    expect(apic.pageAddress).toBe(-1);
    expect(bench.log).toContain('0: map');
  });

  it('disabling discards by name and keeps the id; the way back leads through xAPIC', () => {
    const apic = toX2apic(new ApicBench().add({}, 0x123));
    apic.acceptVector(0x41, false);
    expect(wrmsr(apic, 0x1b, 0xfee0_0900)).toBe('#GP');
    expect(wrmsr(apic, 0x1b, 0xfee0_0100)).toBe('ok');
    expect(apic.discardedBy(ApicReset.disable)).toBe(1);
    expect(isBalanced(apic.counts(0))).toBe(true);
    expect(apic.acceptVector(0x41, false)).toBe(0);
    expect(wrmsr(apic, 0x1b, 0xfee0_0d00)).toBe('#GP');
    expect(wrmsr(apic, 0x1b, 0x1234_5900, 0x7)).toBe('ok');
    expect(apic.pageAddress).toBe(0x7_1234_5000);
    expect(read(apic, ApicReg.id)).toBe(0x2300_0000);
    expect(read(apic, ApicReg.svr)).toBe(0xff);
  });
});
