import { describe, expect, it } from 'vitest';
import { Cr0Bit, Cr4Bit, EferBit } from './bits.ts';
import {
  type ControlState, cr4Allowed, isCanonicalAddress, isLegalControlState, legalizeCr0, legalizeCr3, legalizeCr4, legalizeCr8, legalizeDr6, legalizeDr7,
  legalizeEfer, legalizeRflags, legalizeXcr0, legalizeXss, withLma,
} from './control.ts';
import { buildCpuid, resolveCpuModel } from './cpu-models.ts';
import { isFault, type Legalized } from './fault.ts';
import { type CpuFeatures, deriveFeatures, featureNames } from './features.ts';
import { legalizeMtrrDefType, legalizeMtrrFixed, legalizeMtrrPhysBase, legalizeMtrrPhysMask, legalizePat } from './memory-types.ts';

const epyc = deriveFeatures(buildCpuid(resolveCpuModel({ name: 't', about: '', base: 'epyc-like', add: ['la57', 'svm', 'vmx', 'pks'] }), { apicId: 0, vpCount: 1 }));
const none: CpuFeatures = { ...epyc, ...(Object.fromEntries(featureNames.map((f) => [f, false])) as Record<(typeof featureNames)[number], false>), xcr0: 0, xss: 0 };
const idle: ControlState = { cr0: 0x10n, cr3: 0n, cr4: 0n, efer: 0n, csL: false };
const { pe, pg, wp, nw, cd, et } = Cr0Bit;
const { pae, pcide, la57, cet } = Cr4Bit;
const { lme, lma } = EferBit;
const PROT = pe | et;
const long: ControlState = { cr0: pg | PROT | wp, cr3: 0x1000n, cr4: pae, efer: lme | lma, csL: true };
const compat = { ...long, csL: false };
const GP = 'gp';
const result = (outcome: Legalized): bigint | 'gp' => (isFault(outcome) ? GP : outcome.value);

/** All sums of some of the bits. */
const subsets = (bits: readonly bigint[]): bigint[] => bits.reduce<bigint[]>((all, bit) => [...all, ...all.map((x) => x | bit)], [0n]);

describe('CR0', () => {
  it.each<readonly [string, bigint, ControlState, bigint | 'gp']>([
    ['sets ET whatever is written', 0n, idle, et],
    ['drops reserved bits of the lower half', 0x1ffc_ffc0n, idle, et | Cr0Bit.am],
    ['refuses bits above 31', 1n << 32n, idle, GP],
    ['refuses paging without protection', pg, idle, GP],
    ['refuses NW without CD', nw, idle, GP],
    ['takes CD alone', cd, idle, cd | et],
    ['takes CD with NW', cd | nw, idle, cd | nw | et],
    ['turns paging on without long mode', pg | pe, idle, pg | PROT],
    ['enters long mode with PAE', pg | pe, { ...idle, cr4: pae, efer: lme }, pg | PROT],
    ['refuses to enter long mode without PAE', pg | pe, { ...idle, efer: lme }, GP],
    ['refuses to enter long mode from a CS with L', pg | pe, { ...idle, cr4: pae, efer: lme, csL: true }, GP],
    ['leaves long mode from compatibility mode', pe, compat, PROT],
    ['refuses to leave it from 64-bit mode', pe, long, GP],
    ['refuses paging off with PCIDE', pe, { ...compat, cr4: pae | pcide }, GP],
    ['keeps WP under CET', pg | pe, { ...long, cr4: pae | cet }, GP],
  ])('%s', (_name, written, state, expected) => expect(result(legalizeCr0(written, state))).toBe(expected));
});

describe('CR3', () => {
  it.each<readonly [string, bigint, ControlState, bigint | 'gp']>([
    ['takes a table address', 0x1234_5000n, long, 0x1234_5000n],
    ['keeps ignored low bits', 0x1fffn, long, 0x1fffn],
    ['takes the highest physical page', (1n << 48n) - 0x1000n, long, (1n << 48n) - 0x1000n],
    ['refuses an address beyond MAXPHYADDR', 1n << 48n, long, GP],
    ['refuses bit 63 without PCIDE', (1n << 63n) | 0x1000n, long, GP],
    ['drops bit 63 with PCIDE', (1n << 63n) | 0x1005n, { ...long, cr4: pae | pcide }, 0x1005n],
    ['refuses bit 62 with PCIDE', 1n << 62n, { ...long, cr4: pae | pcide }, GP],
  ])('%s', (_name, written, state, expected) => expect(result(legalizeCr3(written, state, epyc))).toBe(expected));

  it('says whether translations may stay', () => {
    expect(legalizeCr3(1n << 63n, { ...long, cr4: pae | pcide }, epyc)).toEqual({ value: 0n, keepTranslations: true });
    expect(legalizeCr3(0n, { ...long, cr4: pae | pcide }, epyc)).toEqual({ value: 0n, keepTranslations: false });
  });
});

describe('CR4', () => {
  it.each<readonly [string, bigint, ControlState, bigint | 'gp']>([
    ['refuses to clear PAE in long mode', 0n, long, GP],
    ['clears PAE outside long mode', 0n, { ...idle, cr4: pae }, 0n],
    ['refuses to change LA57 in long mode', pae | la57, long, GP],
    ['refuses to clear LA57 in long mode', pae, { ...long, cr4: pae | la57 }, GP],
    ['sets LA57 before long mode', pae | la57, idle, pae | la57],
    ['sets PCIDE in long mode with a clear PCID', pae | pcide, long, pae | pcide],
    ['refuses PCIDE with a PCID in CR3', pae | pcide, { ...long, cr3: 0x1001n }, GP],
    ['refuses PCIDE outside long mode', pae | pcide, { ...idle, cr4: pae }, GP],
    ['keeps PCIDE whatever the PCID', pae | pcide, { ...long, cr3: 0x1001n, cr4: pae | pcide }, pae | pcide],
    ['refuses CET without WP', pae | cet, { ...long, cr0: pg | PROT }, GP],
    ['takes CET with WP', pae | cet, long, pae | cet],
    ['refuses bit 14', 1n << 14n, idle, GP],
    ['refuses bit 19', 1n << 19n, idle, GP],
    ['refuses bits above 31', 1n << 32n, idle, GP],
  ])('%s', (_name, written, state, expected) => expect(result(legalizeCr4(written, state, epyc))).toBe(expected));

  it.each([[11, 'umip'], [12, 'la57'], [13, 'vmx'], [16, 'fsgsbase'], [17, 'pcid'], [18, 'xsave'], [20, 'smep'], [21, 'smap'], [22, 'pku'], [23, 'cetSs'], [23, 'cetIbt'], [24, 'pks']] as const)(
    'allows bit %i with %s only',
    (bit, feature) => {
      const allowed = (features: CpuFeatures): boolean => (cr4Allowed(features) & (1n << BigInt(bit))) !== 0n;
      expect([allowed(none), allowed({ ...none, [feature]: true })]).toEqual([false, true]);
    },
  );
});

describe('EFER', () => {
  it.each<readonly [string, bigint, ControlState, bigint | 'gp']>([
    ['sets LME while paging is off', lme, idle, lme],
    ['refuses to change LME while paging is on', lme, { ...idle, cr0: pg | PROT }, GP],
    ['refuses to clear LME in long mode', lma, long, GP],
    ['keeps LMA when it is written as zero', lme | 1n, long, lme | lma | 1n],
    ['keeps LMA clear when it is written as one', lma, idle, 0n],
    ['refuses reserved bits', 2n, idle, GP],
    ['refuses bit 13', 1n << 13n, idle, GP],
    ['takes every bit of the model', 0x205901n, idle, 0x205901n],
  ])('%s', (_name, written, state, expected) => expect(result(legalizeEfer(written, state, epyc))).toBe(expected));

  it.each([[0, 'syscall'], [8, 'lm'], [11, 'nx'], [12, 'svm'], [14, 'ffxsr'], [21, 'automaticIbrs']] as const)('allows bit %i with %s only', (bit, feature) => {
    const written = 1n << BigInt(bit);
    expect([result(legalizeEfer(written, idle, none)), result(legalizeEfer(written, idle, { ...none, [feature]: true }))]).toEqual([GP, written]);
  });

  it('recomputes LMA from LME and PG', () => {
    expect([withLma(lme, pg), withLma(lme | lma, 0n), withLma(0n, pg), withLma(lma, pg)]).toEqual([lme | lma, lme, 0n, 0n]);
  });
});

describe('control registers together', () => {
  const cr0s = subsets([pe, pg, wp, cd, nw]).map((x) => x | et);
  const cr4s = subsets([pae, pcide, la57, cet]);
  const efers = subsets([lme, lma]);
  const states = cr0s.flatMap((cr0) => cr4s.flatMap((cr4) => efers.flatMap((efer) => [false, true].flatMap((csL) => [0n, 5n].map((cr3) => ({ cr0, cr3, cr4, efer, csL }))))))
    .filter((s) => isLegalControlState(s, epyc));

  it('lead from every legal state to legal states only, and refuse no write for an unnamed reason', () => {
    let [writes, refusals] = [0, 0];
    const check = (outcome: Legalized, next: ControlState | undefined, reason: () => boolean): void => {
      writes++;
      const legal = next !== undefined && isLegalControlState(next, epyc);
      if (!isFault(outcome)) return expect(legal).toBe(true);
      refusals++;
      // Refused although the values could stand beside each other: only transitions that a rule forbids.
      if (legal) expect(reason()).toBe(true);
    };
    for (const state of states) {
      for (const w of cr0s) {
        // Turning paging on with a CS.L of one is refused, turning it off clears nothing else.
        check(legalizeCr0(w, state), { ...state, cr0: w, efer: withLma(state.efer, w) }, () => (state.efer & lma) !== 0n && state.csL && !(w & pg));
      }
      for (const w of cr4s) {
        check(legalizeCr4(w, state, epyc), { ...state, cr4: w }, () =>
          (state.efer & lma) !== 0n ? ((w ^ state.cr4) & la57) !== 0n || ((w & ~state.cr4 & pcide) !== 0n && state.cr3 !== 0n) : (w & pcide) !== 0n);
      }
      for (const w of efers) {
        const value = (w & ~lma) | (state.efer & lma);
        check(legalizeEfer(w, state, epyc), { ...state, efer: value }, () => (state.cr0 & pg) !== 0n);
      }
    }
    expect(states.length).toBeGreaterThan(200);
    expect(writes).toBe(states.length * (cr0s.length + cr4s.length + efers.length));
    expect(refusals).toBeGreaterThan(1000);
  });

  it.each<readonly [string, ControlState]>([
    ['LMA without paging', { ...idle, efer: lme | lma }],
    ['long mode without LMA', { ...long, efer: lme }],
    ['long mode without PAE', { ...long, cr4: 0n }],
    ['CS.L outside long mode', { ...idle, csL: true }],
    ['CR3 beyond MAXPHYADDR', { ...long, cr3: 1n << 48n }],
    ['PCIDE outside long mode', { ...idle, cr4: pcide }],
    ['CR0 bits above 31', { ...idle, cr0: 1n << 32n }],
    ['unknown CR4 bits', { ...idle, cr4: 1n << 30n }],
    ['unknown EFER bits', { ...idle, efer: 2n }],
    ['CET without WP', { ...idle, cr4: cet }],
    ['NW without CD', { ...idle, cr0: nw }],
    ['PG without PE', { ...idle, cr0: pg }],
  ])('cannot be %s', (_name, state) => expect(isLegalControlState(state, epyc)).toBe(false));
});

describe('XCR0 and XSS', () => {
  it('allows exactly the combinations of the manual', () => {
    const legal = subsets([1n, 2n, 4n, 8n, 0x200n]).filter((w) => !isFault(legalizeXcr0(w, epyc)));
    expect(legal.map(Number).sort((a, b) => a - b)).toEqual([1, 3, 7, 0x201, 0x203, 0x207]);
    expect([result(legalizeXcr0(7n, { ...epyc, xcr0: 3 })), result(legalizeXcr0(1n << 63n | 1n, epyc)), result(legalizeXcr0(1n, none))]).toEqual([GP, GP, GP]);
  });

  it('allows the supervisor components of the model', () => {
    expect([0n, 0x800n, 0x1800n, 1n, 0x100n].map((w) => result(legalizeXss(w, epyc)))).toEqual([0n, 0x800n, 0x1800n, GP, GP]);
  });
});

describe('fixed bits', () => {
  it.each([[0n, 0xffff_0ff0n], [0xffff_ffffn, 0xffff_efffn], [1n << 32n, GP]] as const)('DR6 %s reads as %s', (w, expected) => expect(result(legalizeDr6(w))).toBe(expected));
  it.each([[0n, 0x400n], [0xffff_ffffn, 0xffff_27ffn], [1n << 32n, GP]] as const)('DR7 %s reads as %s', (w, expected) => expect(result(legalizeDr7(w))).toBe(expected));
  it.each([[0n, 2n], [(1n << 64n) - 1n, 0x3f_7fd7n]] as const)('RFLAGS %s reads as %s', (w, expected) => expect(legalizeRflags(w)).toBe(expected));
  it('CR8 has four bits', () => expect([0xfn, 0x10n].map((w) => result(legalizeCr8(w)))).toEqual([0xfn, GP]));

  it.each<readonly [bigint, boolean, boolean]>([
    [0n, true, true], [0x7fff_ffff_ffffn, true, true], [0x8000_0000_0000n, false, true], [0xffff_8000_0000_0000n, true, true], [0xffff_7fff_ffff_ffffn, false, true],
    [0x00ff_ffff_ffff_ffffn, false, true], [0x0100_0000_0000_0000n, false, false], [0xff00_0000_0000_0000n, false, true], [0xfeff_ffff_ffff_ffffn, false, false], [-1n, true, true],
  ])('address %s: canonical in 48 bits %s, in 57 bits %s', (address, in48, in57) => expect([isCanonicalAddress(address, false), isCanonicalAddress(address, true)]).toEqual([in48, in57]));
});

describe('memory types', () => {
  it('are legal in every byte of PAT and fixed MTRRs', () => {
    for (let type = 0; type < 256; type++) {
      for (let byte = 0n; byte < 8n; byte++) {
        const written = (0x0606_0606_0606_0606n & ~(0xffn << (8n * byte))) | (BigInt(type) << (8n * byte));
        expect(isFault(legalizePat(written))).toBe(![0, 1, 4, 5, 6, 7].includes(type));
        expect(isFault(legalizeMtrrFixed(written))).toBe(![0, 1, 4, 5, 6].includes(type));
      }
      expect(isFault(legalizeMtrrDefType(BigInt(type) | 0xc00n))).toBe(![0, 1, 4, 5, 6].includes(type));
      expect(isFault(legalizeMtrrPhysBase(BigInt(type) | 0x1000n, epyc))).toBe(![0, 1, 4, 5, 6].includes(type));
    }
  });

  it('have reserved bits refused one by one', () => {
    const legalBits = (check: (w: bigint) => Legalized, with0 = 0n): number[] => Array.from({ length: 64 }, (_, i) => i).filter((i) => !isFault(check(with0 | (1n << BigInt(i)))));
    const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);
    // Bit 1 alone is type 2, which does not exist.
    expect(legalBits(legalizeMtrrDefType)).toEqual([0, 2, 10, 11]);
    expect(legalBits((w) => legalizeMtrrPhysBase(w, epyc))).toEqual([0, 2, ...range(12, 47)]);
    expect(legalBits((w) => legalizeMtrrPhysMask(w, epyc))).toEqual(range(11, 47));
  });
});
