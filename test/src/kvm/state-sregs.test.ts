import { KvmSregs, KvmSregs2 } from '@vmplanes/abi-kvm-planes';
import type { Infer } from '@vmplanes/binary';
import { readRegister, X86 } from '@vmplanes/x86';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encode, Rig, word } from './kit.ts';

type Sregs = Infer<typeof KvmSregs>;
type Sregs2 = Infer<typeof KvmSregs2>;
const rigOf = (): Rig => new Rig('vmplanes', { planes: { 1: [0] } }, {}, { x86: { cpuModel: 'epyc-like' } });
const get = (rig: Rig): Sregs => rig.get(rig.fd(1), 'KVM_GET_SREGS', KvmSregs);
const get2 = (rig: Rig): Sregs2 => rig.get(rig.fd(1), 'KVM_GET_SREGS2', KvmSregs2);
const set = (rig: Rig, s: Sregs): string => word(rig.set(rig.fd(1), 'KVM_SET_SREGS', KvmSregs, s));
const set2 = (rig: Rig, s: Sregs2): string => word(rig.set(rig.fd(1), 'KVM_SET_SREGS2', KvmSregs2, s));
const cell = (rig: Rig, name: Parameters<typeof readRegister>[2]): bigint => readRegister(rig.vm.machine.arena, rig.context(1).base, name);

const bit = fc.nat(1);
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const segment = fc.record({
  base: u64, limit: fc.nat(0xffff_ffff), selector: fc.nat(0xffff), type: fc.nat(15), present: bit, dpl: fc.nat(3), db: bit, s: bit, l: bit, g: bit, avl: bit, unusable: bit, reservedPadding: fc.constant(0),
});
const table = fc.record({ base: u64, limit: fc.nat(0xffff), reservedPadding: fc.constant([0, 0, 0]) });
/** A segment as it comes back: what is unusable is not present, and what is not present is unusable. @spec Linux arch/x86/kvm/svm/svm.c svm_get_segment */
const back = (s: Sregs['cs']): Sregs['cs'] => {
  const present = s.unusable === 0 ? s.present : 0;
  return { ...s, present, unusable: 1 - present };
};
const SEGMENTS = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'] as const;

describe('Linux Documentation/virt/kvm/api.rst §4.13, §4.14: KVM_GET_SREGS, KVM_SET_SREGS', () => {
  it('random segments, tables, CR2, CR3 and CR8 come back field by field', () => {
    const rig = rigOf();
    const before = get(rig);
    const parts = fc.record({ segments: fc.tuple(...SEGMENTS.map(() => segment)), gdt: table, idt: table, cr2: u64, cr3: u64, cr8: fc.bigInt({ min: 0n, max: 15n }) });
    fc.assert(
      fc.property(parts, ({ segments, gdt, idt, cr2, cr3, cr8 }) => {
        // L belongs to long mode; outside of it CS may not have it.
        const given = Object.fromEntries(SEGMENTS.map((name, i) => [name, name === 'cs' ? { ...segments[i]!, l: 0 } : segments[i]!])) as Pick<Sregs, (typeof SEGMENTS)[number]>;
        const next: Sregs = { ...before, ...given, gdt, idt, cr2, cr3, cr8, interruptBitmap: [0n, 0n, 0n, 0n] };
        expect(set(rig, next)).toBe('0');
        const expected = { ...next, ...Object.fromEntries(SEGMENTS.map((name) => [name, back(given[name])])) };
        expect(get(rig)).toEqual(expected);
        const { interruptBitmap: _none, ...common } = expected;
        expect(get2(rig)).toEqual({ ...common, flags: 0n, pdptrs: [0n, 0n, 0n, 0n] });
        // The privilege level is that of the stack segment. @spec Linux arch/x86/kvm/svm/svm.c svm_set_segment
        expect(cell(rig, 'cpl')).toBe(BigInt(given.ss.dpl));
      }),
      { numRuns: 30, seed: 3 },
    );
  });
  it('descriptor table limits are read as 16 bits', () => {
    const rig = rigOf();
    const { arena } = rig.vm.machine;
    for (const name of ['gdtr', 'idtr'] as const) arena.u32[(rig.context(1).base + X86[`${name}.limit`]) >>> 2] = name === 'gdtr' ? 0x1234 : 0xfedc;
    expect([get(rig).gdt.limit, get(rig).idt.limit]).toEqual([0x1234, 0xfedc]);
  });
  it('attributes are kept in the form of the VMCB: type, S, DPL, P, AVL, L, D/B, G from bit 0', () => {
    const rig = rigOf();
    const zero = { base: 0n, limit: 0, selector: 0, type: 0, present: 0, dpl: 0, db: 0, s: 0, l: 0, g: 0, avl: 0, unusable: 0, reservedPadding: 0 };
    const rows: readonly (readonly [Partial<Sregs['ds']>, bigint])[] = [
      [{}, 0n], [{ type: 15 }, 15n], [{ type: 0xf0 }, 0n], [{ s: 1 }, 0x10n], [{ dpl: 3 }, 0x60n], [{ dpl: 4 }, 0n], [{ present: 1 }, 0x80n], [{ present: 1, unusable: 1 }, 0n],
      [{ avl: 1 }, 0x100n], [{ l: 1 }, 0x200n], [{ db: 1 }, 0x400n], [{ g: 1 }, 0x800n],
    ];
    for (const [fields, expected] of rows) {
      expect(set(rig, { ...get(rig), ds: { ...zero, ...fields } })).toBe('0');
      expect(cell(rig, 'ds.attributes'), JSON.stringify(fields)).toBe(expected);
    }
  });
  it('ET of CR0 is fixed, CR8 has four bits', () => {
    const rig = rigOf();
    expect(set(rig, { ...get(rig), cr0: 1n, cr8: 0xffn })).toBe('0');
    expect([get(rig).cr0, get(rig).cr8]).toEqual([0x11n, 15n]);
  });
  it('the APIC base is the one of the local APIC, enabled or x2APIC', () => {
    const rig = rigOf();
    for (const base of [0xfee0_0900n, 0xfee0_0000n, 0xfee0_0800n, 0xfee0_0c00n]) {
      expect(set(rig, { ...get(rig), apicBase: base })).toBe('0');
      expect([get(rig).apicBase, rig.getMsr(rig.fd(1), 0x1b)]).toEqual([base, base]);
    }
    const above = 0x12_fee0_0800n;
    expect(set(rig, { ...get(rig), apicBase: above })).toBe('0');
    expect(get(rig).apicBase).toBe(above);
  });

  it('the bitmap holds the vector that is being injected: the lowest bit counts, none leaves it alone', () => {
    const rig = rigOf();
    const bitmap = (...vectors: readonly number[]): bigint[] => [0, 1, 2, 3].map((w) => vectors.filter((v) => v >> 6 === w).reduce((mask, v) => mask | (1n << BigInt(v & 63)), 0n));
    for (const [given, expected] of [[[0x31], 0x31], [[255], 255], [[64], 64], [[127, 128], 127], [[0xc5, 0xc4], 0xc4], [[], 0xc4], [[63], 63], [[0], 0]] as const) {
      expect(set(rig, { ...get(rig), interruptBitmap: bitmap(...given) })).toBe('0');
      expect(get(rig).interruptBitmap).toEqual(bitmap(expected));
      expect([cell(rig, 'interrupt.injected'), cell(rig, 'interrupt.soft'), cell(rig, 'interrupt.vector')]).toEqual([1n, 0n, BigInt(expected)]);
    }
    // A software interrupt is not the controller's.
    const { arena } = rig.vm.machine;
    arena.u32[(rig.context(1).base + X86['interrupt.soft']) >>> 2] = 1;
    expect(get(rig).interruptBitmap).toEqual([0n, 0n, 0n, 0n]);
    expect(set(rig, { ...get(rig), interruptBitmap: bitmap(0x41) })).toBe('0');
    expect(get(rig).interruptBitmap).toEqual(bitmap(0x41));
  });

  const PE = 1n, WP = 1n << 16n, NW = 1n << 29n, CD = 1n << 30n, PG = 1n << 31n;
  const PAE = 1n << 5n;
  const LME = 1n << 8n, LMA = 1n << 10n;
  /** [fields, verdict]: every condition of kvm_is_valid_sregs, each with the nearest legal neighbour. @spec Linux arch/x86/kvm/x86.c kvm_is_valid_sregs */
  const verdicts: readonly (readonly [string, Partial<Sregs>, 'EINVAL' | '0', isLong?: boolean])[] = [
    ['CR0 bit 31 is the highest', { cr0: PG | PE }, '0'],
    ['CR0 bit 32', { cr0: PE | (1n << 32n) }, 'EINVAL'],
    ['CR0 bit 63', { cr0: PE | (1n << 63n) }, 'EINVAL'],
    ['NW without CD', { cr0: NW }, 'EINVAL'],
    ['NW with CD', { cr0: NW | CD }, '0'],
    ['CD alone', { cr0: CD }, '0'],
    ['PG without PE', { cr0: PG | WP }, 'EINVAL'],
    ['PE without PG', { cr0: PE }, '0'],
    ['CR4 of an unknown bit', { cr4: 1n << 15n }, 'EINVAL'],
    ['CR4 PAE', { cr4: PAE }, '0'],
    ['EFER of an unknown bit', { efer: 1n << 9n }, 'EINVAL'],
    ['EFER.NXE', { efer: 1n << 11n }, '0'],
    ['LME without paging', { efer: LME }, '0'],
    ['LME with protection, without paging', { efer: LME, cr0: PE }, '0'],
    ['long mode with an unknown bit of CR4', { cr0: PG | PE, cr4: PAE | (1n << 15n), efer: LME | LMA }, 'EINVAL'],
    ['long mode with an unknown bit of EFER', { cr0: PG | PE, cr4: PAE, efer: LME | LMA | (1n << 9n) }, 'EINVAL'],
    ['LMA without LME', { efer: LMA }, 'EINVAL'],
    ['LMA without paging', { efer: LME | LMA, cr0: PE }, 'EINVAL'],
    ['CS.L outside long mode', {}, 'EINVAL', true],
    ['long mode', { cr0: PG | PE, cr4: PAE, efer: LME | LMA }, '0'],
    ['long mode with CS.L', { cr0: PG | PE, cr4: PAE, efer: LME | LMA }, '0', true],
    ['long mode without PAE', { cr0: PG | PE, efer: LME | LMA }, 'EINVAL'],
    ['long mode without LMA', { cr0: PG | PE, cr4: PAE, efer: LME }, 'EINVAL'],
    ['long mode, CR3 of 48 bits', { cr0: PG | PE, cr4: PAE, efer: LME | LMA, cr3: 0xffff_ffff_f000n }, '0'],
    ['long mode, CR3 of 49 bits', { cr0: PG | PE, cr4: PAE, efer: LME | LMA, cr3: 1n << 48n }, 'EINVAL'],
    ['no long mode, CR3 of 49 bits', { cr3: 1n << 48n }, '0'],
    ['PAE paging without long mode', { cr0: PG | PE, cr4: PAE }, '0'],
    ['an APIC base beyond the address width', { apicBase: 1n << 48n }, 'EINVAL'],
    ['x2APIC without enable', { apicBase: 0xfee0_0400n }, 'EINVAL'],
  ];
  it.each(verdicts.map(([name, fields, verdict, isLong = false]) => ({ name, fields, verdict, isLong })))('$name', ({ fields, verdict, isLong }) => {
    const rig = rigOf();
    const plain = get(rig);
    const next: Sregs = { ...plain, cr0: 0n, cr3: 0n, cr4: 0n, efer: 0n, ...fields, cs: { ...plain.cs, l: isLong ? 1 : 0 } };
    expect(set(rig, next)).toBe(verdict);
    const now = get(rig);
    if (verdict === '0') expect([now.cr0, now.cr3, now.cr4, now.efer]).toEqual([next.cr0 | 0x10n, next.cr3, next.cr4, next.efer]);
    else expect(now).toEqual(plain);
    const other = rigOf();
    const { interruptBitmap: _bitmap, ...common } = next;
    expect(set2(other, { ...common, flags: 0n, pdptrs: [0n, 0n, 0n, 0n] })).toBe(verdict);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.131: KVM_SET_SREGS2', () => {
  const PG = 0x8000_0011n, PAE = 0x20n, LONG = 0x500n;
  it.each([
    ['valid PDPTEs under PAE paging', 1n, { cr0: PG, cr4: PAE }, '0'],
    ['valid PDPTEs without paging', 1n, { cr0: 0x11n, cr4: PAE }, 'EINVAL'],
    ['valid PDPTEs without PAE', 1n, { cr0: PG }, 'EINVAL'],
    ['valid PDPTEs in long mode', 1n, { cr0: PG, cr4: PAE, efer: LONG }, 'EINVAL'],
    ['no PDPTEs in long mode', 0n, { cr0: PG, cr4: PAE, efer: LONG }, '0'],
    ['an unknown flag', 2n, { cr0: PG, cr4: PAE }, 'EINVAL'],
    ['an unknown flag beside the known one', 3n, { cr0: PG, cr4: PAE }, 'EINVAL'],
    ['the highest flag', 1n << 63n, { cr0: PG, cr4: PAE }, 'EINVAL'],
  ] as const)('%s', (_, flags, fields, verdict) => {
    const rig = rigOf();
    const before = get2(rig);
    expect(set2(rig, { ...before, cr4: 0n, efer: 0n, ...fields, flags, pdptrs: [1n, 2n, 3n, 4n] })).toBe(verdict);
    expect([get2(rig).flags, get2(rig).pdptrs]).toEqual([0n, [0n, 0n, 0n, 0n]]);
    if (verdict !== '0') expect(get2(rig)).toEqual(before);
  });
  it('leaves the event being injected alone', () => {
    const rig = rigOf();
    set(rig, { ...get(rig), interruptBitmap: [0n, 2n, 0n, 0n] });
    expect(set2(rig, get2(rig))).toBe('0');
    expect(get(rig).interruptBitmap).toEqual([0n, 2n, 0n, 0n]);
  });
  it.each([['KVM_GET_SREGS', 312], ['KVM_SET_SREGS', 312], ['KVM_GET_SREGS2', 320], ['KVM_SET_SREGS2', 320]] as const)('%s: the whole structure or EFAULT', (name, size) => {
    const rig = rigOf();
    const s = encode(KvmSregs2, { ...get2(rig) });
    for (const short of [0, size - 1]) expect(word(rig.c.call(rig.fd(1), name, s.slice(0, short)))).toBe('EFAULT');
    expect(word(rig.c.call(rig.fd(1), name, s.slice(0, size)))).toBe('0');
  });
});
