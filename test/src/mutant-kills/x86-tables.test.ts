import { HostError } from '@vmplanes/engine';
import {
  ApicEvent, ApicFlag, ApicReg, apicRegisters, ApicReset, buildCpuid, Cr0Bit, Cr4Bit, cpuModels, cpuSignature, type CpuModel, type CpuidTable, defaultApicConfig, DeliveryMode, EferBit, encodeIcr, Esr, Extra,
  featureBits, gp0, icrIsAssert, icrIsLevel, icrIsLogical, icrMode, icrShorthand, icrVector, LOCAL_APIC_BYTES, Lvt, MemoryType, MSR_APIC_BASE, MSR_TSC_DEADLINE, RegisterRules, resolveCpuModel, RflagsBit,
  Shorthand, Svr, TimerMode, X2APIC_MSR_BASE, X2APIC_MSR_COUNT,
} from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';

// The tables once more, in the form in which the manuals print them: words in bit order, masks in hexadecimal, MSR numbers.

describe('CPUID feature bits, word by word (SDM 2A CPUID, APM3 Appendix E)', () => {
  /** Names from bit 0 up; `-` for a bit without a name here, `-n` for n of them. */
  const words: Readonly<Record<string, string>> = {
    '1.0.2': 'sse3 pclmulqdq - monitor - vmx -3 ssse3 -2 fma cx16 -3 pcid - sse41 sse42 x2apic movbe popcnt tscDeadline aes xsave osxsave avx f16c rdrand hypervisor',
    '1.0.3': 'fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 - clflush -3 mmx fxsr sse sse2 - htt',
    '6.0.0': '-2 arat',
    '7.0.1': 'fsgsbase tscAdjust - bmi1 - avx2 - smep bmi2 erms invpcid -7 rdseed adx smap -2 clflushopt clwb -4 sha',
    '7.0.2': '-2 umip pku ospke -2 cetSs - vaes vpclmulqdq -5 la57 -5 rdpid -8 pks',
    '7.0.3': '-4 fsrm -15 cetIbt -5 specCtrl stibp - archCapabilities - ssbd',
    '13.1.0': 'xsaveopt xsavec xgetbv1 xsaves',
    '2147483649.0.2': 'lahfLm cmpLegacy svm - cr8Legacy abm sse4a misalignSse prefetchw -13 topologyExtensions -3 dataBreakpointExtension',
    '2147483649.0.3': '-11 syscall -8 nx - mmxExt -2 ffxsr page1Gb rdtscp - lm',
    '2147483655.0.3': '-8 invariantTsc',
    '2147483656.0.1': 'clzero - rstrFpErrPtrs -6 wbnoinvd -2 ibpb - ibrs amdStibp -8 amdSsbd virtSsbd',
    '2147483681.0.0': '-2 lfenceSerializing -3 nullSelectorClearsBase - automaticIbrs',
  };
  it.each(Object.entries(words))('%s', (word, names) => {
    const expected: [string, number][] = [];
    let bit = 0;
    for (const name of names.split(' ')) {
      if (name.startsWith('-')) bit += Number(name.slice(1) || 1);
      else expected.push([name, bit++]);
    }
    const found = Object.entries(featureBits).filter(([, [leaf, subleaf, register]]) => `${leaf}.${subleaf}.${register}` === word);
    expect(found.map(([name, [, , , at]]) => [name, at]).sort()).toEqual(expected.sort());
  });
  it('are all in these words', () => expect(Object.values(featureBits).every(([leaf, subleaf, register]) => `${leaf}.${subleaf}.${register}` in words)).toBe(true));
});

describe('bits of system registers', () => {
  it('CR0 (SDM 3A §2.5)', () => expect(Cr0Bit).toEqual({ pe: 0x1n, mp: 0x2n, em: 0x4n, ts: 0x8n, et: 0x10n, ne: 0x20n, wp: 0x1_0000n, am: 0x4_0000n, nw: 0x2000_0000n, cd: 0x4000_0000n, pg: 0x8000_0000n }));
  it('CR4 (SDM 3A §2.5)', () =>
    expect(Cr4Bit).toEqual({
      vme: 0x1n, pvi: 0x2n, tsd: 0x4n, de: 0x8n, pse: 0x10n, pae: 0x20n, mce: 0x40n, pge: 0x80n, pce: 0x100n, osfxsr: 0x200n, osxmmexcpt: 0x400n, umip: 0x800n, la57: 0x1000n, vmxe: 0x2000n,
      fsgsbase: 0x1_0000n, pcide: 0x2_0000n, osxsave: 0x4_0000n, smep: 0x10_0000n, smap: 0x20_0000n, pke: 0x40_0000n, cet: 0x80_0000n, pks: 0x100_0000n,
    }));
  it('EFER (APM2 §3.1.7)', () => expect(EferBit).toEqual({ sce: 0x1n, lme: 0x100n, lma: 0x400n, nxe: 0x800n, svme: 0x1000n, ffxsr: 0x4000n, aibrse: 0x20_0000n }));
  it('RFLAGS (SDM 1 §3.4.3)', () =>
    expect(RflagsBit).toEqual({
      cf: 0x1n, fixed: 0x2n, pf: 0x4n, af: 0x10n, zf: 0x40n, sf: 0x80n, tf: 0x100n, if: 0x200n, df: 0x400n, of: 0x800n, iopl: 0x3000n, nt: 0x4000n, rf: 0x1_0000n, vm: 0x2_0000n, ac: 0x4_0000n,
      vif: 0x8_0000n, vip: 0x10_0000n, id: 0x20_0000n,
    }));
  it('memory types (SDM 3A Table 12-2)', () => expect(MemoryType).toEqual({ uncacheable: 0, writeCombining: 1, writeThrough: 4, writeProtected: 5, writeBack: 6, uncached: 7 }));
  it('#GP(0)', () => expect(gp0).toEqual({ fault: { vector: 13, errorCode: 0 } }));
});

describe('the local APIC', () => {
  /** MSR in x2APIC mode, or offset in the page where there is none (SDM 3A tables 10-1 and 10-6); access, then masks: writable, ignored, reset. */
  const rows: Readonly<Record<string, readonly [at: number, xapic: string, x2apic: string, writable: number, ignored: number, reset: number]>> = {
    ID: [0x802, 'rw', 'ro', 0xff00_0000, 0, 0],
    VERSION: [0x803, 'ro', 'ro', 0, 0, 0],
    TPR: [0x808, 'rw', 'rw', 0xff, 0, 0],
    APR: [0x809, 'ro', '-', 0, 0, 0],
    PPR: [0x80a, 'ro', 'ro', 0, 0, 0],
    EOI: [0x80b, 'wo', 'wo', 0, 0, 0],
    RRD: [0x80c, 'ro', '-', 0, 0, 0],
    LDR: [0x80d, 'rw', 'ro', 0xff00_0000, 0, 0],
    DFR: [0x80e, 'rw', '-', 0xf000_0000, 0, 0xffff_ffff],
    SVR: [0x80f, 'rw', 'rw', 0x13ff, 0, 0xff],
    ISR: [0x810, 'ro', 'ro', 0, 0, 0],
    TMR: [0x818, 'ro', 'ro', 0, 0, 0],
    IRR: [0x820, 'ro', 'ro', 0, 0, 0],
    ESR: [0x828, 'rw', 'rw', 0, 0, 0],
    LVT_CMCI: [0x82f, 'rw', 'rw', 0x1_07ff, 0x1000, 0x1_0000],
    ICR: [0x830, 'rw', 'rw', 0xc_cfff, 0x1000, 0],
    ICR_HIGH: [0x831, 'rw', '-', 0xff00_0000, 0, 0],
    LVT_TIMER: [0x832, 'rw', 'rw', 0x7_00ff, 0x1000, 0x1_0000],
    LVT_THERMAL: [0x833, 'rw', 'rw', 0x1_07ff, 0x1000, 0x1_0000],
    LVT_PERF: [0x834, 'rw', 'rw', 0x1_07ff, 0x1000, 0x1_0000],
    LVT_LINT0: [0x835, 'rw', 'rw', 0x1_a7ff, 0x5000, 0x1_0000],
    LVT_LINT1: [0x836, 'rw', 'rw', 0x1_a7ff, 0x5000, 0x1_0000],
    LVT_ERROR: [0x837, 'rw', 'rw', 0x1_00ff, 0x1000, 0x1_0000],
    INITIAL_COUNT: [0x838, 'rw', 'rw', 0xffff_ffff, 0, 0],
    CURRENT_COUNT: [0x839, 'ro', 'ro', 0, 0, 0],
    DIVIDE: [0x83e, 'rw', 'rw', 0xb, 0, 0],
    SELF_IPI: [0x83f, '-', 'wo', 0xff, 0, 0],
  };
  it('has the registers of the manual', () => {
    const found = apicRegisters.map((r) => [r.name, [0x800 + r.offset / 16, r.xapic, r.x2apic, r.writable, r.ignored ?? 0, r.reset]]);
    expect(Object.fromEntries(found)).toEqual(rows);
    expect(found.length).toBe(Object.keys(rows).length);
    expect(apicRegisters.filter((r) => r.slots !== undefined).map((r) => [r.name, r.slots])).toEqual([['ISR', 8], ['TMR', 8], ['IRR', 8]]);
    expect(Object.values(ApicReg).sort((a, b) => a - b)).toEqual(apicRegisters.map((r) => r.offset));
    expect([X2APIC_MSR_BASE, X2APIC_MSR_COUNT, MSR_APIC_BASE, MSR_TSC_DEADLINE]).toEqual([0x800, 0x100, 0x1b, 0x6e0]);
  });

  it.each<[string, Partial<typeof defaultApicConfig>, number, number, number, number]>([
    ['with every feature', {}, 0x0106_0014, 0x13ff, 0x7_00ff, 3],
    ['without CMCI', { cmci: false }, 0x0105_0014, 0x13ff, 0x7_00ff, 0],
    ['without EOI suppression', { suppressEoiBroadcast: false }, 0x0006_0014, 0x3ff, 0x7_00ff, 3],
    ['without a deadline timer', { tscDeadline: false }, 0x0106_0014, 0x13ff, 0x3_00ff, 3],
  ])('compiles its rules %s', (_name, config, version, svr, timer, cmciAccess) => {
    const rules = new RegisterRules({ ...defaultApicConfig, ...config });
    expect([rules.reset[3], rules.writable[15], rules.writable[0x32], rules.xapic[0x2f]]).toEqual([version, svr, timer, cmciAccess]);
    expect([rules.reserved[0x32], rules.reserved[0x35], rules.reserved[0], rules.xapic[0]]).toEqual([~(timer | 0x1000) >>> 0, 0xfffe_0800, 0xffff_ffff, 0]);
    expect([0x0f, 0x10, 0x17, 0x18, 0x27, 0x28, 0x29].map((slot) => rules.x2apic[slot])).toEqual([3, 1, 1, 1, 1, 3, 0]);
  });

  it('has the fields of the manual', () => {
    expect(Lvt).toEqual({ vector: 0xff, modeShift: 8, deliveryStatus: 0x1000, polarity: 0x2000, remoteIrr: 0x4000, level: 0x8000, masked: 0x1_0000, timerModeShift: 17, timerTscDeadline: 0x4_0000 });
    expect(Svr).toEqual({ vector: 0xff, enabled: 0x100, focusDisabled: 0x200, suppressEoiBroadcast: 0x1000 });
    expect(Esr).toEqual({ redirectableIpi: 0x10, sendIllegalVector: 0x20, receiveIllegalVector: 0x40, illegalRegister: 0x80 });
    expect(DeliveryMode).toEqual({ fixed: 0, lowestPriority: 1, smi: 2, reserved: 3, nmi: 4, init: 5, startUp: 6, extInt: 7 });
    expect(Shorthand).toEqual({ none: 0, self: 1, all: 2, allButSelf: 3 });
    expect(TimerMode).toEqual({ oneShot: 0, periodic: 1, tscDeadline: 2, reserved: 3 });
  });

  it.each([
    [{ vector: 0x131, mode: DeliveryMode.fixed }, 0x4031],
    [{ vector: 2, mode: DeliveryMode.nmi, logical: true }, 0x4c02],
    [{ vector: 0, mode: DeliveryMode.init, level: true, assert: false, shorthand: Shorthand.all }, 0x8_8500],
    [{ vector: 0xfe, mode: DeliveryMode.lowestPriority, shorthand: Shorthand.allButSelf, assert: true }, 0xc_41fe],
    [{ vector: 8, mode: DeliveryMode.startUp, shorthand: Shorthand.self, logical: false, level: false }, 0x4_4608],
  ])('packs the command %o', (fields, low) => {
    expect(encodeIcr(fields)).toBe(low);
    expect({ vector: icrVector(low), mode: icrMode(low), logical: icrIsLogical(low), level: icrIsLevel(low), assert: icrIsAssert(low), shorthand: icrShorthand(low) }).toEqual({
      logical: false, level: false, assert: true, shorthand: Shorthand.none, ...fields, vector: fields.vector & 0xff,
    });
  });

  it('keeps its own state beside the registers, each in its place', () => {
    expect(new Set(Object.values(ApicFlag)).size).toBe(9);
    expect(Object.values(ApicFlag).reduce((all, bit) => all | bit, 0)).toBe(0x1ff);
    expect([Object.values(ApicEvent), Object.values(ApicReset)]).toEqual([[0, 1, 2, 3, 4, 5], [0, 1, 2, 3]]);
    expect(new Set(Object.values(Extra)).size).toBe(Object.keys(Extra).length);
    expect(Math.min(...Object.values(Extra))).toBe(0x400);
    // Five counters for each event class, then one for each reset cause.
    expect(Extra.discardedBy - Extra.counters).toBe(6 * 5 * 4);
    expect(Extra.discardedBy + 4 * 4).toBeLessThanOrEqual(LOCAL_APIC_BYTES);
    expect([Extra.timerDeadline % 8, Extra.baseHigh - Extra.baseLow, Extra.tscDeadlineHigh - Extra.tscDeadlineLow]).toEqual([0, 4, 4]);
  });
});

describe('CPU models', () => {
  const model = (name: string): CpuModel => cpuModels.find((m) => m.name === name)!;
  const tableOf = (of: CpuModel, place = { apicId: 3, vpCount: 6 }): CpuidTable => buildCpuid(resolveCpuModel(of), place);
  const find = (table: CpuidTable, leaf: number, subleaf = 0): readonly number[] => {
    const out = new Uint32Array(4);
    table.find(leaf, subleaf, out);
    return [...out];
  };

  it('fill the leaves that are not features', () => {
    const epyc = tableOf(model('epyc-like'));
    const ascii = (text: string): number => [...text].reduce((w, c, i) => w + c.charCodeAt(0) * 256 ** i, 0);
    expect(find(epyc, 0)).toEqual([0xd, ascii('Auth'), ascii('cAMD'), ascii('enti')]);
    expect(find(epyc, 0x8000_0000)).toEqual([0x8000_0021, ascii('Auth'), ascii('cAMD'), ascii('enti')]);
    expect(find(epyc, 1).slice(0, 2)).toEqual([0x00a0_0f11, 0x0306_0800]);
    expect(find(epyc, 6)).toEqual([4, 0, 0, 0]);
    expect(find(epyc, 0xb)).toEqual([0, 1, 0x100, 3]);
    expect(find(epyc, 0xb, 1)).toEqual([3, 6, 0x201, 3]);
    expect(find(epyc, 0xb, 2)).toEqual([0, 0, 2, 3]);
    expect(find(epyc, 0x8000_0001)[0]).toBe(0x00a0_0f11);
    expect(find(epyc, 0x8000_0001)[2]! & 3).toBe(3);
    expect(find(epyc, 0x8000_0007)).toEqual([0, 0, 0, 0x100]);
    expect(find(epyc, 0x8000_0008)).toEqual([0x3030, find(epyc, 0x8000_0008)[1], 0x3005, 0]);
    expect(find(epyc, 0x8000_001e)).toEqual([3, 3, 0, 0]);
    expect(find(epyc, 0x8000_0021)).toEqual([0x144, 0, 0, 0]);
    expect(find(epyc, 0xd, 12)).toEqual([24, 0, 1, 0]);
    const text = [2, 3, 4].flatMap((n) => find(epyc, 0x8000_0000 + n)).flatMap((w) => [w & 0xff, (w >>> 8) & 0xff, (w >>> 16) & 0xff, w >>> 24]);
    expect(String.fromCharCode(...text).replace(/\0+$/, '')).toBe('EPYC-class virtual processor');
  });
  it('spell a brand of 48 characters', () => {
    const brand = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV';
    const table = tableOf({ name: 'x', about: '', base: 'base', brand });
    const text = [2, 3, 4].flatMap((n) => find(table, 0x8000_0000 + n)).flatMap((w) => [w & 0xff, (w >>> 8) & 0xff, (w >>> 16) & 0xff, w >>> 24]);
    expect(String.fromCharCode(...text)).toBe(brand);
  });
  it('count no further than a byte', () => {
    const many = tableOf(model('epyc-like'), { apicId: 0x123, vpCount: 300 });
    expect(find(many, 1)[1]).toBe(0x23ff_0800);
    expect(find(many, 0x8000_0008)[2]).toBe(0x90ff);
    expect(find(many, 0x8000_001e)).toEqual([0x123, 0x23, 0, 0]);
    const one = tableOf(model('epyc-like'), { apicId: 0, vpCount: 1 });
    expect([find(one, 1)[3]! >>> 28, find(one, 0x8000_0001)[2]! & 2, find(one, 0x8000_0008)[2]]).toEqual([0, 0, 0]);
  });
  it('of another vendor leave the words of AMD alone', () => {
    const intel = tableOf({ name: 'i', about: '', base: 'base', vendor: 'GenuineIntel', family: 6, model: 0x8e, stepping: 10 });
    expect([find(intel, 0x8000_0001)[0], find(intel, 0x8000_0001)[2]! & 2, find(intel, 0x8000_0001)[3]! & 0x0183_f3ff, find(intel, 0x8000_0008)[2]]).toEqual([0, 0, 0, 0]);
  });
  it('with five levels of paging have 57 linear bits', () => {
    expect(find(tableOf({ name: 'l', about: '', base: 'base', add: ['la57'] }), 0x8000_0008)[0]).toBe(0x392e);
  });
  it.each([[31, false], [32, true], [52, true], [53, false]])('of %d physical bits', (physicalBits, isGood) => {
    const act = (): unknown => resolveCpuModel({ name: 'x', about: '', base: 'base', physicalBits });
    if (isGood) expect(act()).toMatchObject({ physicalBits });
    else expect(act).toThrow(HostError);
  });
  it('name what they are', () => {
    expect(cpuModels.map((m) => [m.name, resolveCpuModel(m)] as const).map(([name, m]) => [name, cpuSignature(m.family, m.model, m.stepping), m.physicalBits, m.vendor])).toEqual([
      ['base', 0x0006_0fb1, 46, 'AuthenticAMD'], ['qemu64-like', 0x0006_0fb1, 40, 'AuthenticAMD'], ['epyc-like', 0x00a0_0f11, 48, 'AuthenticAMD'],
    ]);
  });
});
