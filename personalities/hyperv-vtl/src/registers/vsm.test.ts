import { HvRegister, type HvRegisterName } from '@vmplanes/abi-hyperv';
import type { PlaneContext } from '@vmplanes/engine';
import { writeRegister } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { Rig } from '../fixture.ts';
import type { HvOptions } from '../options.ts';
import { readHvRegister, writeHvRegister } from './table.ts';

const OK = 0, PARAMETER = 5, DENIED = 6, VALUE = 0x50;
const HIGH = 0x77n << 64n;

const make = (options: Partial<HvOptions> = {}) => {
  const rig = new Rig(2, options);
  const lower = rig.context(1, 0), own = rig.context(1, 1), caller = rig.context(0, 1);
  const of = (name: HvRegisterName, target: PlaneContext = own, by = caller) => readHvRegister({ hv: rig, target, caller: by }, HvRegister[name]);
  const set = (name: HvRegisterName, value: bigint, target: PlaneContext = own, by = caller) => writeHvRegister({ hv: rig, target, caller: by }, HvRegister[name], value);
  return { rig, lower, own, caller, of, set };
};

describe('registers of VSM', () => {
  it.each([
    ['nothing but what is always there', {}, (1n << 17n) | (1n << 27n) | (1n << 28n)],
    ['DR6', { dr6Shared: true }, 1n | (1n << 17n) | (1n << 27n) | (1n << 28n)],
    ['MBEC of VTL0', { mbec: true }, (1n << 1n) | (1n << 17n) | (1n << 27n) | (1n << 28n)],
    ['MBEC named by its owner', { mbec: true, mbecVtlMask: 'owner' }, (2n << 1n) | (1n << 17n) | (1n << 27n) | (1n << 28n)],
    ['MBEC of VTL0 and VTL1', { mbec: true, maximumVtl: 2 }, (3n << 1n) | (1n << 17n) | (1n << 27n) | (1n << 28n)],
    ['MBEC that VTL1 and VTL2 set', { mbec: true, maximumVtl: 2, mbecVtlMask: 'owner' }, (6n << 1n) | (1n << 17n) | (1n << 27n) | (1n << 28n)],
    ['the other end', { vsmCapsLayout: 'tlfs', mbec: true, dr6Shared: true }, (1n << 63n) | (1n << 47n) | (1n << 46n)],
  ] as const satisfies readonly (readonly [string, Partial<HvOptions>, bigint])[])('VsmCapabilities: %s', (_what, options, expected) => {
    expect(make(options).of('VsmCapabilities')).toBe(expected);
  });
  it('VsmCodePageOffsets go with the mode of the VTL', () => {
    const { rig, own, lower, of } = make({ codeOffsets: { call64: 0x123, return64: 0x456, call32: 0x789, return32: 0xabc } });
    for (const [name, value] of [['cr0', 0x8000_0001n], ['efer', 0x500n], ['cs.attributes', 0xa9bn]] as const) writeRegister(rig.machine.arena, own.base, name, value);
    expect([of('VsmCodePageOffsets', own), of('VsmCodePageOffsets', lower)]).toEqual([0x456_123n, 0xabc_789n]);
  });
  it('VsmVpStatus and VsmPartitionStatus tell who runs and which VTLs there are', () => {
    const { rig, own, lower, of } = make({ maximumVtl: 1 });
    expect([of('VsmVpStatus', own), of('VsmVpStatus', lower), of('VsmPartitionStatus')]).toEqual([0x3_0000n, 0x3_0000n, 0x1_0001n]);
    rig.chapters.vsm.enable(1, false);
    expect([of('VsmPartitionStatus'), make({ maximumVtl: 0 }).of('VsmPartitionStatus')]).toEqual([0x1_0003n, 1n]);
  });
  it.each([['subject', 1n], ['owner', 2n]] as const)('MBEC is told as %s', (mbecVtlMask, set) => {
    const { rig, of } = make({ mbec: true, mbecVtlMask });
    rig.chapters.vsm.enable(1, true);
    // VTL0 runs, which is subject to MBEC of VTL1.
    expect([of('VsmPartitionStatus'), of('VsmVpStatus')]).toEqual([0x1_0003n | (set << 20n), 0x3_0000n | (mbecVtlMask === 'subject' ? 16n : 0n)]);
  });
  it('exist from their VTL on', () => {
    const { rig, lower, own, caller, of, set } = make();
    const low = rig.context(0, 0);
    for (const name of ['VsmVina', 'VsmPartitionConfig', 'VsmVpSecureConfigVtl0'] as const) expect([of(name, lower), set(name, 0n, lower), of(name, low, low)], name).toEqual([PARAMETER, PARAMETER, PARAMETER]);
    for (const name of ['CrInterceptControl', 'CrInterceptCr0Mask', 'CrInterceptCr4Mask', 'CrInterceptIa32MiscEnableMask'] as const) expect([of(name, lower), set(name, 0n, lower), of(name, own), set(name, 0n, own)], name).toEqual([DENIED, DENIED, 0n, OK]);
    for (const name of ['VsmVpSecureConfigVtl1', 'VsmVpSecureConfigVtl14', 'GuestVsmPartitionConfig'] as const) expect([of(name, caller), set(name, 0n, caller)], name).toEqual([PARAMETER, PARAMETER]);
    expect(of('IsolationCapabilities')).toBe(0n);
  });
  it.each([['VsmCodePageOffsets'], ['VsmVpStatus'], ['VsmPartitionStatus'], ['VsmCapabilities'], ['IsolationCapabilities']] as const)('%s is read-only', (name) => expect(make().set(name, 0n)).toBe(PARAMETER));
  it('that are not served are no registers', () => {
    const { of, set } = make();
    for (const name of ['VsmVpVtlControl', 'Bndcfgs', 'SgxLaunchControl0', 'RegisterPage'] as const) expect([of(name), set(name, 0n)], name).toEqual([PARAMETER, PARAMETER]);
  });
});

describe('CrIntercept registers', () => {
  it('have an instance for each VTL above 0 of each VP', () => {
    const { rig, own, caller, of, set } = make();
    const rows = [['CrInterceptControl', 0x1234_5678n & 0x1fff_ffffn], ['CrInterceptCr0Mask', 0xffff_0000_1111_2222n], ['CrInterceptCr4Mask', 0xeeee_0000_3333_4444n], ['CrInterceptIa32MiscEnableMask', 0xdddd_0000_5555_6666n]] as const;
    for (const [name, value] of rows) expect([set(name, value | HIGH, own), set(name, value ^ 0x10n, caller)], name).toEqual([OK, OK]);
    for (const [name, value] of rows) expect([of(name, own), of(name, caller)], name).toEqual([value, value ^ 0x10n]);
    const { control, cr0Mask, cr4Mask, miscEnableMask } = rig.chapters.vsm.crIntercepts(rig.machine.vp(1), 1);
    expect([BigInt(control), cr0Mask, cr4Mask, miscEnableMask]).toEqual(rows.map(([, value]) => value));
  });
  it('control bits are 28:0', () => {
    const { of, set } = make();
    expect([set('CrInterceptControl', 0x1fff_ffffn), of('CrInterceptControl'), set('CrInterceptControl', 0x2000_0000n), set('CrInterceptControl', 1n << 63n), of('CrInterceptControl')]).toEqual([OK, 0x1fff_ffffn, VALUE, VALUE, 0x1fff_ffffn]);
  });
});

describe('VsmVina and VsmPartitionConfig', () => {
  it('take 64 bits for the VTL named', () => {
    const { rig, own, caller, of, set } = make();
    expect([set('VsmVina', 0x7a0n | HIGH, own), of('VsmVina', own), of('VsmVina', caller), rig.chapters.vina.read(rig.machine.vp(1), 1)]).toEqual([OK, 0x7a0n, 0n, 0x7a0n]);
    expect([set('VsmPartitionConfig', 0x3fn | HIGH, own), of('VsmPartitionConfig', own), of('VsmPartitionConfig', caller), set('VsmPartitionConfig', 0x80n, own)]).toEqual([OK, 0x3fn, 0x3fn, VALUE]);
  });
});

describe('VsmVpSecureConfigVtl0', () => {
  it('locks and unlocks the translations of VTL0 of its VP', () => {
    const { rig, own, caller, of, set } = make();
    const { locks } = rig.chapters.vsm;
    expect([of('VsmVpSecureConfigVtl0', own), set('VsmVpSecureConfigVtl0', 2n | HIGH, own)]).toEqual([0n, OK]);
    expect([of('VsmVpSecureConfigVtl0', own), of('VsmVpSecureConfigVtl0', caller), locks.isLockedBy(1, 0, 1), locks.isLockedBy(0, 0, 1)]).toEqual([2n, 0n, true, false]);
    // The VP that asked holds it: its return gives it up.
    expect([set('VsmVpSecureConfigVtl0', 0n, own), of('VsmVpSecureConfigVtl0', own)]).toEqual([OK, 0n]);
  });
  it('MBEC is a setting of the partition: a write must agree with it', () => {
    for (const mbec of [false, true]) {
      const { rig, of, set } = make({ mbec: true });
      rig.chapters.vsm.enable(1, mbec);
      const on = mbec ? 1n : 0n;
      expect([of('VsmVpSecureConfigVtl0'), set('VsmVpSecureConfigVtl0', on), set('VsmVpSecureConfigVtl0', on ^ 1n), set('VsmVpSecureConfigVtl0', on | 2n), of('VsmVpSecureConfigVtl0')]).toEqual([on, OK, VALUE, OK, on | 2n]);
    }
  });
  it('has no other bits', () => {
    const { set } = make();
    for (const value of [4n, 8n, 1n << 63n]) expect(set('VsmVpSecureConfigVtl0', value)).toBe(VALUE);
  });
});

describe('VsmVpWaitForTlbLock', () => {
  it('is set by a VTL above, while another VP holds a lock', () => {
    const { rig, lower, caller, own, of, set } = make();
    expect([of('VsmVpWaitForTlbLock', own), set('VsmVpWaitForTlbLock', 1n, own), set('VsmVpWaitForTlbLock', 1n, caller), of('VsmVpWaitForTlbLock', caller)]).toEqual([PARAMETER, PARAMETER, PARAMETER, PARAMETER]);
    expect([set('VsmVpWaitForTlbLock', 1n, lower), of('VsmVpWaitForTlbLock', lower)]).toEqual([OK, 0n]);
    rig.chapters.vsm.locks.lock(0, 0, 0, 1);
    expect([set('VsmVpWaitForTlbLock', 1n, lower), of('VsmVpWaitForTlbLock', lower), of('VsmVpWaitForTlbLock', rig.context(0, 0))]).toEqual([OK, 1n, 0n]);
    for (const value of [2n, 3n, 1n << 63n]) expect([set('VsmVpWaitForTlbLock', value, lower), of('VsmVpWaitForTlbLock', lower)]).toEqual([VALUE, 1n]);
    expect([set('VsmVpWaitForTlbLock', 0n, lower), of('VsmVpWaitForTlbLock', lower)]).toEqual([OK, 0n]);
  });
});

describe('aliases and CPUID copies', () => {
  it('of MSRs follow the rules of their MSR', () => {
    const { rig, own, lower, of, set } = make();
    expect([set('Sint3', 0x2_0050n | HIGH, own), of('Sint3', own), of('Sint3', lower), set('Sint3', 5n, own), rig.rdmsr(own, 0x4000_0093)]).toEqual([OK, 0x2_0050n, 0x1_0000n, VALUE, 0x2_0050n]);
    expect([of('VpIndex', own), of('Sversion', own), set('Sversion', 1n, own), of('Eoi', own)]).toEqual([1n, 1n, PARAMETER, PARAMETER]);
    expect([set('GuestOsId', 0x8100_0000_0000_0000n, own), of('GuestOsId', own), of('GuestOsId', lower)]).toEqual([OK, 0x8100_0000_0000_0000n, 0n]);
  });
  it('of CPUID are EAX, EBX, ECX and EDX from the low end', () => {
    const { rig, of } = make();
    const names = ['PrivilegesAndFeaturesInfo', 'FeaturesInfo', 'ImplementationLimitsInfo', 'HardwareFeaturesInfo', 'CpuManagementFeaturesInfo', 'SvmFeaturesInfo', 'SkipLevelFeaturesInfo', 'NestedVirtFeaturesInfo', 'IptFeaturesInfo', 'IsolationConfiguration'] as const;
    const value = (leaf: number): bigint => rig.chapters.cpuid.leaf(leaf).map((word, i) => BigInt(word >>> 0) << BigInt(32 * i)).reduce((a, b) => a | b, 0n);
    expect(of('HypervisorVersion')).toBe(value(0x4000_0002));
    names.forEach((name, n) => expect(of(name), name).toBe(value(0x4000_0003 + n)));
    expect(value(0x4000_0003) >> 64n).toBeGreaterThan(0n);
  });
});

describe('what holds for every register', () => {
  it('VTL0 without the privilege has no registers 0xd0000 to 0xd00ff', () => {
    const { rig, caller, of, set } = make({ withhold: ['accessVsm'] });
    const low = rig.context(0, 0);
    for (const name of ['VsmCodePageOffsets', 'VsmVpStatus', 'VsmPartitionStatus', 'VsmCapabilities'] as const) expect([of(name, low, low), of(name, low, caller)], name).toEqual([DENIED, of(name, low, caller)]);
    expect(of('VsmCapabilities', low, caller)).not.toBe(DENIED);
    expect([of('IsolationCapabilities', low, low), of('Ymm15High', low, low), set('VsmPartitionConfig', 1n, low, low)]).toEqual([0n, 0n, DENIED]);
    // Numbers at the ends of the range are no registers: that is told first.
    for (const number of [0xd00ff, 0xcffff, 0xd0001, 0xacac_acac]) expect(readHvRegister({ hv: rig, target: low, caller: low }, number)).toBe(PARAMETER);
  });
  it('strict: registers of execution of the caller itself are refused, 0x10000 to 0x8ffff', () => {
    const { rig, lower, caller, of, set } = make({ strictSelfRegs: true });
    for (const name of ['PendingInterruption', 'Rax', 'Xmm15', 'Cr0', 'Dr7', 'Tr', 'Gdtr', 'TscAux', 'Ia32MiscEnable'] as const) expect([of(name, caller), set(name, 0n, caller)], name).toEqual([DENIED, DENIED]);
    for (const name of ['ExplicitSuspend', 'VpIndex', 'VsmVpStatus', 'Sint0', 'Ymm0High'] as const) expect(of(name, caller), name).not.toBe(DENIED);
    // Another VTL of the same VP, and the same VTL of another VP, are not the caller itself.
    expect([of('Rax', rig.context(0, 0)), of('Rax', rig.context(1, 1)), of('Rax', lower)]).toEqual([0n, 0n, 0n]);
    expect([of('IsolationConfiguration', caller), of('DeliverabilityNotifications', caller)]).toEqual([0n, DENIED]);
  });
});
