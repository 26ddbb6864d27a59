import { SevFeature, type SevFeatureName } from '@vmplanes/abi-sev-snp';
import { optionsOf } from '@vmplanes/personality-sev-snp-vmpl';
import { describe, expect, it } from 'vitest';
import { type Done, Rig, type RigOptions } from './rig.ts';

const GP = { fault: { vector: 13, errorCode: 0 } };
const VC_MSR = { fault: { vector: 29, errorCode: 0x7c } };
const rdmsr = (rig: Rig, index: number, vmpl = 0): Done => rig.step(vmpl, { op: 'rdmsr', index });
const valueOf = (rig: Rig, index: number, vmpl = 0): bigint => {
  expect(rdmsr(rig, index, vmpl)).toMatchObject({ fault: null, exit: null });
  return (rig.get('rdx', vmpl) << 32n) | rig.get('rax', vmpl);
};

/** @spec APM vol. 2, 15.34.10, Table 15-34: bit of SEV_FEATURES and the bit of SEV_STATUS that shows it. */
const shown: readonly (readonly [SevFeatureName, number])[] = [
  ['SnpActive', 2], ['VirtualTom', 3], ['ReflectVc', 4], ['RestrictedInjection', 5], ['AlternateInjection', 6], ['DebugSwap', 7], ['PreventHostIbs', 8], ['BtbIsolation', 9], ['VmplSss', 10], ['SecureTsc', 11],
  ['SmtProtection', 17], ['IbpbOnEntry', 23],
];

describe('SEV_STATUS', () => {
  it.each(shown)('shows the feature %s as bit %i', (name, bit) => {
    const rig = new Rig();
    rig.plane(0).featuresLo = 1 | (1 << SevFeature[name]);
    expect(valueOf(rig, 0xc001_0131)).toBe(7n | (1n << BigInt(bit)));
  });
  it.each([['sev', 1n], ['sev-es', 3n], ['sev-snp', 7n]] as const)('of a guest of level %s is 0x%x', (level, expected) => expect(valueOf(new Rig({ level }), 0xc001_0131)).toBe(expected));
  it('is that of the VMPL that reads it', () => {
    const rig = new Rig();
    rig.plane(2).featuresLo |= 1 << SevFeature.DebugSwap;
    expect([valueOf(rig, 0xc001_0131, 1), valueOf(rig, 0xc001_0131, 2)]).toEqual([7n, 0x87n]);
  });
  it('cannot be written: #GP(0)', () => expect(new Rig().step(0, { op: 'wrmsr', index: 0xc001_0131, value: 7 })).toMatchObject(GP));
});

describe('MSRs of SEV', () => {
  it('GHCB is written and read without an exit, by each VMPL for itself', () => {
    const rig = new Rig();
    rig.step(0, { op: 'wrmsr', index: 0xc001_0130, value: 0x1234_5678_9abc_d000n });
    rig.step(1, { op: 'wrmsr', index: 0xc001_0130, value: 2 });
    expect([valueOf(rig, 0xc001_0130, 0), valueOf(rig, 0xc001_0130, 1), valueOf(rig, 0xc001_0130, 2)]).toEqual([0x1234_5678_9abc_d000n, 2n, 0n]);
  });
  it('GHCB does not exist without encrypted state: #GP(0)', () => {
    expect(rdmsr(new Rig({ level: 'sev' }), 0xc001_0130)).toMatchObject(GP);
    expect(new Rig({ level: 'sev' }).step(0, { op: 'wrmsr', index: 0xc001_0130, value: 0 })).toMatchObject(GP);
  });
  it.each([0xc001_0132, 0xc001_0133, 0xc001_0136, 0xc001_0138, 0xc001_011e, 0xc001_f000])('0x%x is not the guest’s: #VC 0x7C', (index) => expect(rdmsr(new Rig(), index)).toMatchObject(VC_MSR));
  it('VIRTUAL_TOM reads that of the VMSA, and cannot be written', () => {
    const rig = new Rig({ features: ['VirtualTom'], virtualTom: '0x400000000000' });
    expect(valueOf(rig, 0xc001_0135)).toBe(0x4000_0000_0000n);
    expect(rig.step(0, { op: 'wrmsr', index: 0xc001_0135, value: 0 })).toMatchObject(GP);
  });
  it('IDLE_WAKEUP_ICR reads zero and takes any value', () => {
    const rig = new Rig();
    expect(rig.step(0, { op: 'wrmsr', index: 0xc001_0137, value: 5 })).toMatchObject({ fault: null });
    expect(valueOf(rig, 0xc001_0137)).toBe(0n);
  });
});

describe('Secure TSC', () => {
  // @spec APM vol. 2, 15.36.18
  const rig = (features: readonly SevFeatureName[]): Rig => new Rig({ features });
  it('the counter is read in the guest, scaled and offset', () => {
    const r = rig(['SecureTsc']);
    const ticks = BigInt(Math.floor(r.machine.timeOf(r.machine.vp(0))));
    r.set('tscScale', 1n << 33n);
    r.set('tscOffset', 1_000_000n);
    const value = valueOf(r, 0x10);
    expect(value).toBeGreaterThanOrEqual(1_000_000n + 2n * ticks);
    expect(value % 2n).toBe(0n);
    r.step(0, { op: 'instruction', name: 'rdtsc' });
    expect(r.get('rax')).toBeGreaterThan(1_000_000n);
  });
  it('RDTSC stays in the guest even where the host asks for it', () => expect(new Rig({ features: ['SecureTsc'], intercepts: ['rdtsc'] }).step(0, { op: 'instruction', name: 'rdtsc' })).toMatchObject({ fault: null }));
  it('a write of the counter is #GP(0) in the guest', () => expect(rig(['SecureTsc']).step(0, { op: 'wrmsr', index: 0x10, value: 0 })).toMatchObject(GP));
  it('GUEST_TSC_FREQ gives the frequency in MHz and cannot be written', () => {
    const r = rig(['SecureTsc']);
    expect(valueOf(r, 0xc001_0134)).toBe(BigInt(Math.floor(r.machine.options.ticksPerSecond / 1e6)));
    expect(r.step(0, { op: 'wrmsr', index: 0xc001_0134, value: 1 })).toMatchObject(GP);
  });
  it('without the feature both are intercepted', () => {
    expect(rdmsr(rig([]), 0x10)).toMatchObject(VC_MSR);
    expect(rdmsr(rig([]), 0xc001_0134)).toMatchObject(VC_MSR);
  });
});

describe('a VMSA may carry', () => {
  const refuses = (options: RigOptions, names: readonly SevFeatureName[], extra = 0, hi = 0): string | null => {
    const { features } = new Rig(options).snp.chapters;
    return features.refuses(names.reduce((mask, name) => mask | (1 << SevFeature[name]), extra), hi);
  };
  // @spec APM vol. 2, 15.34.10, 15.36.20
  it.each<readonly [string, RigOptions, readonly SevFeatureName[], string | null]>([
    ['SNP alone', {}, ['SnpActive'], null],
    ['every feature of the default but two that exclude each other', {}, ['SnpActive', 'VirtualTom', 'ReflectVc', 'RestrictedInjection', 'DebugSwap', 'PreventHostIbs', 'BtbIsolation', 'VmplSss', 'SecureTsc', 'SmtProtection', 'IbpbOnEntry'], null],
    ['nothing at the level SEV-ES', { level: 'sev-es' }, [], null],
    ['a feature of SNP at the level SEV-ES, which is not looked at', { level: 'sev-es' }, ['SmtProtection'], null],
  ])('%s', (_what, options, names, expected) => expect(refuses(options, names)).toBe(expected));
  it.each<readonly [string, RigOptions, readonly SevFeatureName[], string]>([
    ['SNP missing', {}, ['DebugSwap'], 'SNP active'],
    ['SNP at the level SEV-ES', { level: 'sev-es' }, ['SnpActive'], 'SNP active'],
    ['one that the VM does not allow', { allowed: ['DebugSwap'] }, ['SnpActive', 'SecureTsc'], 'not allowed'],
    ['one that nobody serves', {}, ['SnpActive', 'SecureAvic'], 'not allowed'],
    ['both ways of injection', {}, ['SnpActive', 'RestrictedInjection', 'AlternateInjection'], 'restricted and alternate'],
  ])('not: %s', (_what, options, names, why) => expect(refuses(options, names)).toContain(why));
  it.each([17, 18, 19, 20, 22, 31])('not: reserved bit %i', (bit) => expect(refuses({}, ['SnpActive'], 1 << bit)).toContain('reserved'));
  it.each([1, 0x8000_0000])('not: upper half 0x%x', (hi) => expect(refuses({}, ['SnpActive'], 0, hi)).toContain('reserved'));
});

describe('CPUID leaf 0x8000001F', () => {
  // @spec APM vol. 3, E.4.17
  const leaf = (options: RigOptions): { readonly eax: number; readonly ebx: number } => {
    const rig = new Rig(options);
    const out = new Uint32Array(4);
    rig.arch.registers.executeCpuid(rig.context(0), 0x8000_001f, 0, out);
    expect([out[2], out[3]]).toEqual([0, 0]);
    return { eax: out[0]!, ebx: out[1]! };
  };
  const SEV = 0x402;
  it('of a SEV guest says SEV and coherent encryption', () => expect(leaf({ level: 'sev' })).toEqual({ eax: SEV, ebx: 51 | (1 << 6) }));
  it('of a SEV-ES guest adds SEV-ES, TSC_AUX, debug swap, IBS and the allowed mask', () => expect(leaf({ level: 'sev-es' })).toEqual({ eax: SEV | (1 << 3) | (1 << 9) | (1 << 14) | (1 << 15) | (1 << 27), ebx: 51 | (1 << 6) }));
  it('of a SEV-SNP guest adds SNP, VMPLs and what goes with them', () =>
    expect(leaf({})).toEqual({ eax: SEV | (1 << 3) | (1 << 4) | (1 << 5) | (1 << 6) | (1 << 7) | (1 << 8) | (1 << 9) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 15) | (1 << 18) | (1 << 27), ebx: 51 | (1 << 6) | (4 << 12) }));
  it('says nothing of features that are not allowed', () => expect(leaf({ allowed: [] }).eax & ((1 << 7) | (1 << 8) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 15) | (1 << 18))).toBe(0));
  it('gives the number of usable VMPLs, the position of the C-bit and the lost address bits', () => expect(leaf({ planes: 2, cBit: 47, physicalReduction: 5 }).ebx).toBe(47 | (5 << 6) | (2 << 12)));
});

describe('options that do not go together', () => {
  it.each<readonly [string, Record<string, unknown>, string]>([
    ['an SVSM without SNP', { level: 'sev-es', svsm: 'builtin' }, 'needs the level sev-snp'],
    ['a feature that is not allowed', { features: ['DebugSwap'], allowed: [] }, 'DebugSwap is not among those allowed'],
    ['a feature of SNP at the level SEV-ES', { level: 'sev-es', features: ['SecureTsc'] }, 'means nothing at the level sev-es'],
    ['any feature at the level SEV', { level: 'sev', features: ['DebugSwap'] }, 'means nothing at the level sev'],
    ['refused accesses for an SVSM that does nothing about them', { svsm: 'builtin', refusedAccess: 'vmpl0' }, 'refusedAccess must be exit'],
    ['both ways of injection', { features: ['RestrictedInjection', 'AlternateInjection'] }, 'exclude each other'],
    ['virtual TOM without its address', { features: ['VirtualTom'] }, 'go together'],
    ['an address without virtual TOM', { virtualTom: '0x1000' }, 'go together'],
  ])('%s', (_what, options, why) => expect(() => optionsOf(options as never)).toThrow(why));
  it('more planes than VMPLs are refused', () => expect(() => new Rig({ planes: 5 })).toThrow('4 VMPLs'));
});
