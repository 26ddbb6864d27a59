import { Arena } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { compactedSize } from '../fpu/components.ts';
import { CONTEXT_SIZE } from '../state/layout.ts';
import { writeRegister } from '../state/registers.ts';
import { initializeContext } from '../state/reset.ts';
import { buildCpuid, cpuModels, cpuSignature, resolveCpuModel } from './cpu-models.ts';
import { CpuidOverlays, CpuidTable, executeCpuid } from './cpuid.ts';
import { deriveFeatures, featureBits, featureNames } from './features.ts';

const tableOf = (name: string, place = { apicId: 0, vpCount: 1 }): CpuidTable => buildCpuid(resolveCpuModel(cpuModels.find((m) => m.name === name)!), place);
const find = (table: CpuidTable, leaf: number, subleaf = 0): number[] => {
  const out = new Uint32Array(4);
  table.find(leaf, subleaf, out);
  return [...out];
};

describe('CPU models', () => {
  it.each(cpuModels.map((m) => m.name))('%s gives a consistent table', (name) => {
    const model = resolveCpuModel(cpuModels.find((m) => m.name === name)!);
    const table = tableOf(name);
    const features = deriveFeatures(table);
    for (const f of featureNames) {
      // Bits that follow from registers are not in the table.
      if (f !== 'osxsave' && f !== 'ospke') expect([f, features[f]]).toEqual([f, model.features.has(f)]);
    }
    for (const entry of table.entries) {
      const top = find(table, (entry.leaf & 0x8000_0000) >>> 0)[0]!;
      expect(entry.leaf).toBeLessThanOrEqual(top);
      for (const value of [entry.eax, entry.ebx, entry.ecx, entry.edx]) expect(value).toBe(value >>> 0);
    }
    expect(table.vendor).toBe('AuthenticAMD');
    expect(features.signature).toBe(cpuSignature(model.family, model.model, model.stepping));
    expect(find(table, 0x8000_0001)[3]! & 0x0183_f3ff).toBe(find(table, 1)[3]! & 0x0183_f3ff);
    expect(features.physicalBits).toBe(model.physicalBits);
  });

  it('lists the state components of leaf 0DH', () => {
    const epyc = tableOf('epyc-like');
    expect(find(epyc, 0xd)).toEqual([0x207, 576, 0xa88, 0]);
    expect(find(epyc, 0xd, 1)).toEqual([0xf, 0, 0x1800, 0]);
    expect(find(epyc, 0xd, 2)).toEqual([256, 576, 0, 0]);
    expect(find(epyc, 0xd, 9)).toEqual([8, 0xa80, 0, 0]);
    expect(find(epyc, 0xd, 11)).toEqual([16, 0, 1, 0]);
    expect(find(tableOf('base'), 0xd)).toEqual([3, 576, 576, 0]);
    expect(find(tableOf('qemu64-like'), 0xd)).toEqual([0, 0, 0, 0]);
    expect(deriveFeatures(epyc)).toMatchObject({ xcr0: 0x207, xss: 0x1800, mxcsrMask: 0x2ffff });
    expect(deriveFeatures(tableOf('base'))).toMatchObject({ xcr0: 3, xss: 0, mxcsrMask: 0xffff });
    expect(deriveFeatures(tableOf('qemu64-like'))).toMatchObject({ xcr0: 0, xss: 0 });
  });

  // Signatures that real processors report: qemu64 (family 15, model 107), EPYC Milan (19h, model 1), a Core of family 6.
  it.each([[0xf, 0x6b, 1, 0x0006_0fb1], [0x19, 1, 1, 0x00a0_0f11], [6, 0x8e, 10, 0x0008_06ea]])('packs family %i model %i stepping %i', (family, model, stepping, signature) => {
    expect(cpuSignature(family, model, stepping)).toBe(signature);
  });

  it('places processors by APIC identifier', () => {
    const table = tableOf('epyc-like', { apicId: 3, vpCount: 6 });
    expect(find(table, 1)[1]! >>> 24).toBe(3);
    expect(find(table, 1)[3]! >>> 28 & 1).toBe(1);
    expect(find(table, 0xb, 1)).toEqual([3, 6, 0x201, 3]);
    expect(find(table, 0x8000_0008)[2]).toBe((3 << 12) | 5);
    expect(find(table, 0x8000_001e)[0]).toBe(3);
  });

  it.each([
    [{ name: 'x', about: '', base: 'nope' }, /no model 'nope'/],
    [{ name: 'x', about: '', base: 'qemu64-like', add: ['avx'] as const }, /avx needs xsave/],
    [{ name: 'x', about: '' }, /must be known/],
    [{ name: 'x', about: '', base: 'base', physicalBits: 53 }, /not in 32..52/],
    [{ name: 'x', about: '', base: 'base', remove: ['pae'] as const }, /needs pae/],
  ])('refuse %o', (model, message) => expect(() => resolveCpuModel(model)).toThrow(message));

  it('refuse a circle', () => {
    const models = [{ name: 'a', base: 'b', about: '' }, { name: 'b', base: 'a', about: '' }];
    expect(() => resolveCpuModel(models[0]!, models)).toThrow(/its own base/);
  });
});

describe('CPUID in a plane', () => {
  const arena = new Arena(new ArrayBuffer(CONTEXT_SIZE));
  const run = (table: CpuidTable, leaf: number, subleaf = 0, overlays: CpuidOverlays | null = null, apicEnabled = true): number[] => {
    const out = new Uint32Array(4);
    executeCpuid(arena, 0, table, overlays, leaf, subleaf, apicEnabled, out);
    return [...out];
  };
  const bit = (values: number[], [, , register, b]: readonly [number, number, number, number]): number => (values[register]! >>> b) & 1;
  const epyc = tableOf('epyc-like');
  const setup = (): void => initializeContext(arena, 0, { signature: 0, mxcsrMask: 0xffff });

  it('computes OSXSAVE, OSPKE and APIC from the plane', () => {
    setup();
    expect([bit(run(epyc, 1), featureBits.osxsave), bit(run(epyc, 7), featureBits.ospke), bit(run(epyc, 1), featureBits.apic)]).toEqual([0, 0, 1]);
    writeRegister(arena, 0, 'cr4', (1n << 18n) | (1n << 22n));
    expect([bit(run(epyc, 1), featureBits.osxsave), bit(run(epyc, 7), featureBits.ospke), bit(run(epyc, 1, 0, null, false), featureBits.apic)]).toEqual([1, 1, 0]);
    expect([run(epyc, 0x8000_0001)[3]! & 0x200, run(epyc, 0x8000_0001, 0, null, false)[3]! & 0x200]).toEqual([0x200, 0]);
    // Without the feature the register bit shows nothing.
    expect(bit(run(tableOf('qemu64-like'), 1), featureBits.osxsave)).toBe(0);
    expect(bit(run(tableOf('base'), 7), featureBits.ospke)).toBe(0);
  });

  it('shows MONITOR only while IA32_MISC_ENABLE allows it', () => {
    setup();
    const table = buildCpuid(resolveCpuModel({ name: 'm', about: '', base: 'base', add: ['monitor'] }), { apicId: 0, vpCount: 1 });
    expect(bit(run(table, 1), featureBits.monitor)).toBe(0);
    writeRegister(arena, 0, 'miscEnable', 1n << 18n);
    expect(bit(run(table, 1), featureBits.monitor)).toBe(1);
  });

  it.each([[1, 0, 576, 576], [3, 0, 576, 576], [7, 0, 832, 832], [0x203, 0, 0xa88, 584], [0x207, 0x1800, 0xa88, 880]])('sizes leaf 0DH for XCR0 %i and XSS %i', (xcr0, xss, standard, compacted) => {
    setup();
    writeRegister(arena, 0, 'xcr0', BigInt(xcr0));
    writeRegister(arena, 0, 'xss', BigInt(xss));
    expect([run(epyc, 0xd)[1], run(epyc, 0xd, 1)[1]]).toEqual([standard, compacted]);
    expect(compactedSize(xcr0 | xss)).toBe(compacted);
    expect(run(epyc, 0xd, 2)[1]).toBe(576);
  });

  it('answers leaves beyond the highest with zeros on AMD, with the highest basic leaf elsewhere', () => {
    expect(run(epyc, 0x20)).toEqual([0, 0, 0, 0]);
    const intel = buildCpuid(resolveCpuModel({ name: 'i', about: '', base: 'base', vendor: 'GenuineIntel' }), { apicId: 0, vpCount: 1 });
    const out = new Uint32Array(4);
    intel.lookup(0x20, 0, out);
    expect([...out]).toEqual(find(intel, 0xd));
    intel.lookup(0x8000_0100, 1, out);
    expect([...out]).toEqual(find(intel, 0xd, 1));
    // Inside the range, an empty leaf is zeros.
    intel.lookup(3, 0, out);
    expect([...out]).toEqual([0, 0, 0, 0]);
    intel.lookup(0x8000_0005, 0, out);
    expect([...out]).toEqual([0, 0, 0, 0]);
  });

  it('lets an owner of a range change what the plane sees', () => {
    setup();
    const overlays = new CpuidOverlays();
    overlays.claim({ owner: 'one', first: 0x4000_0000, last: 0x4000_00ff, apply: (leaf, _s, out) => out.set([leaf, 1, 2, 3]) });
    overlays.claim({ owner: 'two', first: 0x8000_001f, last: 0x8000_001f, apply: (_l, _s, out) => (out[0]! |= 0x12) });
    expect(run(epyc, 0x4000_0001, 0, overlays)).toEqual([0x4000_0001, 1, 2, 3]);
    expect(run(epyc, 0x4000_0100, 0, overlays)).toEqual([0, 0, 0, 0]);
    expect(run(epyc, 0x8000_001f, 0, overlays)[0]).toBe(0x12);
    expect(() => overlays.claim({ owner: 'three', first: 0x4000_00ff, last: 0x4000_0200, apply: () => {} })).toThrow(/claimed by one and by three/);
    expect(() => overlays.claim({ owner: 'four', first: 2, last: 1, apply: () => {} })).toThrow(/ends before/);
  });

  it('comes back from its saved form', () => {
    const copy = CpuidTable.restore(structuredClone(epyc.save()));
    expect(copy.equals(epyc)).toBe(true);
    expect(copy.equals(tableOf('base'))).toBe(false);
    expect(() => CpuidTable.restore({ version: 99, entries: [] })).toThrow(/version 99/);
    expect(new CpuidTable([]).vendor).toBe('');
  });
});
