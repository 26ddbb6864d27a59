import { AccessResult, type CpuExit, MemoryFaultInfo, type PlaneContext, Right } from '@vmplanes/engine';
import { readRegister, RegisterKey, writeRegister } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import type { HvOptions } from './options.ts';
import { DirectCalls } from './vsm-fixture.ts';

/** VTL0 to VTL2 of one VP; what is told to a VTL above is noted instead of delivered. */
class Told extends DirectCalls {
  readonly told: { readonly to: number; readonly type: number; readonly message: DataView }[] = [];
  /** What VTLs above answer; a fault where nobody can be told. */
  reachable = true;

  constructor(options: Partial<HvOptions> = {}) {
    super(1, { maximumVtl: 2, ...options });
    this.enable(1);
    this.enable(2);
    Object.assign(this.hv.chapters.intercepts, {
      deliver: (c: PlaneContext, to: number, bytes: Uint8Array) => {
        const message = new DataView(bytes.slice().buffer);
        this.told.push({ to, type: message.getUint32(0, true), message });
        return this.reachable ? c.vp.replies.retry() : c.vp.replies.fault(13, 0);
      },
    });
  }
  /** @returns the VTL that is told; -1 for none. */
  handle(exit: object, vtl = 0): number {
    this.told.length = 0;
    this.hv.handle(this.context(0, vtl), exit as CpuExit);
    return this.told[0]?.to ?? -1;
  }
  rdmsr(key: number, vtl = 0): number {
    return this.handle({ kind: 'msr', key, write: false, lo: 0, hi: 0 }, vtl);
  }
  wrmsr(key: number, value = 0n, vtl = 0): number {
    return this.handle({ kind: 'msr', key, write: true, lo: Number(value & 0xffff_ffffn), hi: Number(value >> 32n) }, vtl);
  }
  mov(key: number, value = 0n, vtl = 0, write = true): number {
    return this.handle({ kind: 'register', key, write, lo: Number(value & 0xffff_ffffn), hi: Number(value >> 32n) }, vtl);
  }
  wants(vtl: number, bits: number, masks: { readonly cr0Mask?: bigint; readonly cr4Mask?: bigint; readonly miscEnableMask?: bigint } = {}): void {
    Object.assign(this.hv.chapters.vsm.crIntercepts(this.machine.vp(0), vtl), { control: bits, cr0Mask: 0n, cr4Mask: 0n, miscEnableMask: 0n, ...masks });
  }
}

/** Accesses by bit of the control register. @spec TLFS HV_REGISTER_CR_INTERCEPT_CONTROL; openvmm vm/hv1/hvdef/src/lib.rs */
const BITS: Readonly<Record<number, readonly string[]>> = {
  0: ['mov cr0'], 1: ['mov cr4'], 2: ['mov xcr0'], 3: ['rd 1a0'], 4: ['wr 1a0'], 5: ['rd c0000082'], 6: ['wr c0000082'], 7: ['rd c0000081'], 8: ['wr c0000081'], 9: ['rd c0000083'], 10: ['wr c0000083'], 11: ['rd 1b'], 12: ['wr 1b'],
  13: ['rd c0000080'], 14: ['wr c0000080'], 15: ['mov gdtr'], 16: ['mov idtr'], 17: ['mov ldtr'], 18: ['mov tr'], 19: ['wr 174'], 20: ['wr 176'], 21: ['wr 175'], 22: ['wr c0000084'], 23: ['wr c0000103'],
  24: ['wr 8c', 'wr 8d', 'wr 8e', 'wr 8f'], 25: ['wr da0'], 26: ['wr 6a2'], 27: ['wr 6a4', 'wr 6a5', 'wr 6a6'], 28: ['wr 6a8'],
};
const MSRS = [0x10, 0x1b, 0x3a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x173, 0x174, 0x175, 0x176, 0x177, 0x1a0, 0x277, 0x6a0, 0x6a2, 0x6a3, 0x6a4, 0x6a5, 0x6a6, 0x6a7, 0x6a8, 0x6a9, 0xda0, 0xda1, 0xc000_0080, 0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0102, 0xc000_0103];
const REGISTERS = { cr0: RegisterKey.Cr0, cr2: RegisterKey.Cr2, cr3: RegisterKey.Cr3, cr4: RegisterKey.Cr4, cr8: RegisterKey.Cr8, dr7: RegisterKey.Dr7, gdtr: RegisterKey.Gdtr, idtr: RegisterKey.Idtr, ldtr: RegisterKey.Ldtr, tr: RegisterKey.Tr, xcr0: RegisterKey.Xcr0 } as const;
const ALL_MASKS = { cr0Mask: ~0n & ((1n << 64n) - 1n), cr4Mask: (1n << 64n) - 1n, miscEnableMask: (1n << 64n) - 1n };

describe('CrInterceptControl', () => {
  it('names by each bit these accesses and no other', () => {
    const g = new Told();
    const intercepted = (): readonly string[] => [
      ...Object.entries(REGISTERS).flatMap(([name, key]) => (g.mov(key, 0x1234_5678n) === 1 ? [`mov ${name}`] : [])),
      ...MSRS.flatMap((index) => [...(g.rdmsr(index) === 1 ? [`rd ${index.toString(16)}`] : []), ...(g.wrmsr(index, 0x1234_5678n) === 1 ? [`wr ${index.toString(16)}`] : [])]),
    ];
    for (let bit = 0; bit < 32; bit++) {
      g.wants(1, 1 << bit, ALL_MASKS);
      expect(intercepted(), `bit ${bit}`).toEqual(BITS[bit] ?? []);
    }
    g.wants(1, ~0, ALL_MASKS);
    expect(intercepted().toSorted()).toEqual(Object.values(BITS).flat().toSorted());
    for (const key of Object.values(REGISTERS)) expect(g.mov(key, 0n, 0, false)).toBe(-1);
  });
  it('belongs to the nearest VTL above that asks', () => {
    const g = new Told();
    g.wants(2, 1 << 12);
    expect([g.wrmsr(0x1b), g.wrmsr(0x1b, 0n, 1), g.wrmsr(0x1b, 0n, 2)]).toEqual([2, 2, -1]);
    g.wants(1, 1 << 12);
    expect([g.wrmsr(0x1b), g.wrmsr(0x1b, 0n, 1)]).toEqual([1, 2]);
    g.wants(0, ~0, ALL_MASKS);
    expect([g.wrmsr(0x174), g.rdmsr(0x1b)]).toEqual([-1, -1]);
  });
  it('of CR0, CR4 and MISC_ENABLE looks at bits that change, in the mask of each VTL', () => {
    const g = new Told();
    const c = g.context(0, 0);
    writeRegister(g.machine.arena, c.base, 'cr0', 0x8000_0011n);
    writeRegister(g.machine.arena, c.base, 'cr4', 0x1_0000_0020n);
    writeRegister(g.machine.arena, c.base, 'miscEnable', 0x1_0000_1800n);
    g.wants(1, 0x13, { cr0Mask: 8n, cr4Mask: 1n << 32n, miscEnableMask: 1n << 33n });
    g.wants(2, 0x13, { cr0Mask: 0x10n, cr4Mask: 0x20n, miscEnableMask: 0x800n });
    expect([g.mov(0, 0x8000_0011n), g.mov(0, 0x8000_0019n), g.mov(0, 0x8000_0001n), g.mov(0, 0x8000_0009n), g.mov(0, 0x8000_0013n)]).toEqual([-1, 1, 2, 1, -1]);
    expect([g.mov(4, 0x1_0000_0020n), g.mov(4, 0x20n), g.mov(4, 0x1_0000_0000n), g.mov(4, 0x1_0000_0030n)]).toEqual([-1, 1, 2, -1]);
    expect([g.wrmsr(0x1a0, 0x1_0000_1800n), g.wrmsr(0x1a0, 0x3_0000_1800n), g.wrmsr(0x1a0, 0x1_0000_1000n), g.wrmsr(0x1a0, 0x1_0000_1801n)]).toEqual([-1, 1, 2, -1]);
    // A read of it is told whatever the mask.
    g.wants(1, 8);
    expect(g.rdmsr(0x1a0)).toBe(1);
  });
  it('gives the message what was to be done', () => {
    const g = new Told();
    g.wants(1, ~0, ALL_MASKS);
    g.wrmsr(0xc000_0082, 0x1122_3344_5566_7788n);
    const { type, message } = g.told[0]!;
    expect([type, message.getUint8(16 + 5), message.getUint32(16 + 0x28, true), message.getBigUint64(16 + 0x30, true), message.getBigUint64(16 + 0x38, true)]).toEqual([0x8001_0001, 1, 0xc000_0082, 0x1122_3344n, 0x5566_7788n]);
    const names = { cr0: 0x4_0000, cr4: 0x4_0003, xcr0: 0x4_0005, gdtr: 0x7_0001, idtr: 0x7_0000, ldtr: 0x6_0006, tr: 0x6_0007 } as const;
    for (const [name, number] of Object.entries(names)) {
      g.mov(REGISTERS[name as keyof typeof names], 0x1122_3344_5566_7788n);
      const told = g.told[0]!;
      expect([told.type, told.message.getUint32(16 + 0x2c, true), told.message.getUint8(16 + 0x28), told.message.getBigUint64(16 + 0x30, true)], name).toEqual([0x8001_0006, number, name === 'gdtr' || name === 'idtr' ? 1 : 0, 0x1122_3344_5566_7788n]);
    }
  });
});

describe('other accesses', () => {
  it('ports go to the VTL that installed them', () => {
    const g = new Told();
    g.hv.chapters.ioIntercepts.install(1, 0x70, 0x71, 2);
    g.hv.chapters.ioIntercepts.install(2, 0x70, 0x70, 1);
    const io = (key: number, size: number, write: boolean, vtl = 0): number => g.handle({ kind: 'io', key, size, write, value: 0x55 }, vtl);
    expect([io(0x70, 1, true), io(0x70, 1, false), io(0x6f, 1, true), io(0x6f, 2, true), io(0x6e, 2, true), io(0x71, 1, true), io(0x72, 1, true), io(0x70, 1, true, 1), io(0x70, 1, false, 1), io(0x70, 1, false, 2)]).toEqual([1, 2, -1, 1, -1, 1, -1, -1, 2, -1]);
  });
  it('leaves beyond the interface, and triple faults, go to the nearest VTL whose configuration asks', () => {
    const g = new Told();
    const { vsm } = g.hv.chapters;
    const cpuid = (key: number, vtl = 0): number => g.handle({ kind: 'cpuid', key, subleaf: 5 }, vtl);
    const shutdown = (vtl = 0): number => g.handle({ kind: 'shutdown', key: 0 }, vtl);
    const last = g.hv.chapters.cpuid.leaf(0x4000_0000)[0]!;
    expect([cpuid(last + 1), cpuid(0x4000_00ff)]).toEqual([-1, -1]);
    vsm.writePartitionConfig(2, 0x1en | (1n << 10n) | (1n << 11n));
    expect([cpuid(last + 1), cpuid(0x4000_00ff), cpuid(last), cpuid(0x4000_0000), cpuid(1), cpuid(0x8000_0000), cpuid(last + 1, 1), cpuid(last + 1, 2), shutdown(), shutdown(1)]).toEqual([2, 2, -1, -1, -1, -1, 2, -1, 2, 2]);
    vsm.writePartitionConfig(1, 0x1en | (1n << 10n));
    expect([cpuid(last + 1), shutdown()]).toEqual([1, 2]);
    vsm.writePartitionConfig(1, 0x1en | (1n << 11n));
    expect([cpuid(last + 1), shutdown(), shutdown(1)]).toEqual([2, 1, 2]);
    cpuid(last + 1);
    const { message } = g.told[0]!;
    expect([message.getBigUint64(16 + 0x28, true), message.getBigUint64(16 + 0x30, true), message.getBigUint64(16 + 0x48, true)]).toEqual([BigInt(last + 1), 5n, 0n]);
  });
  it('leaves that a VTL installed come with the results of their VTL', () => {
    const g = new Told();
    g.hv.chapters.processorIntercepts.installLeaf(2, 0x4000_0001, true);
    expect([g.handle({ kind: 'cpuid', key: 0x4000_0001, subleaf: 0 }), g.handle({ kind: 'cpuid', key: 0x4000_0002, subleaf: 0 }), g.handle({ kind: 'cpuid', key: 0x4000_0001, subleaf: 0 }, 2)]).toEqual([2, -1, -1]);
    g.handle({ kind: 'cpuid', key: 0x4000_0001, subleaf: 0 });
    const { type, message } = g.told[0]!;
    const [eax, ebx, ecx, edx] = g.hv.chapters.cpuid.leaf(0x4000_0001).map((word) => BigInt(word >>> 0));
    expect([type, message.getBigUint64(88, true), message.getBigUint64(96, true), message.getBigUint64(104, true), message.getBigUint64(112, true)]).toEqual([0x8001_0002, eax, ecx, edx, ebx]);
    expect(eax).toBe(0x3123_7648n);
    g.hv.chapters.processorIntercepts.installLeaf(2, 0x4000_0001, false);
    expect(g.handle({ kind: 'cpuid', key: 0x4000_0001, subleaf: 0 })).toBe(-1);
  });
  it('exceptions are dropped where they are told, and delivered where nobody can be told', () => {
    const g = new Told();
    const c = g.context(0, 0);
    const { processorIntercepts } = g.hv.chapters;
    const raise = (vector: number, errorCode: number | null): number => {
      g.arch.injectFault(c, { code: vector, errorCode, addressLo: 0x9abc_def0, addressHi: 0x1234_5678 });
      return g.handle({ kind: 'exception', key: vector });
    };
    const state = (): bigint => readRegister(g.machine.arena, c.base, 'exception.state');
    expect([processorIntercepts.installException(1, 2, true), processorIntercepts.installException(1, 32, true), processorIntercepts.installException(1, 31, true), processorIntercepts.installException(1, 14, true), processorIntercepts.installException(2, 13, true), processorIntercepts.installException(1, 3, true)]).toEqual([false, false, true, true, true, true]);
    expect([raise(6, null), state(), raise(13, 0), state(), raise(14, 0x8000_0005), state()]).toEqual([-1, 1n, 2, 0n, 1, 0n]);
    const { type, message } = g.told[0]!;
    expect([type, message.getUint16(16 + 0x28, true), message.getUint8(16 + 0x2a), message.getUint32(16 + 0x2c, true), message.getBigUint64(16 + 0x30, true), message.getUint16(16 + 6, true) & 0x40]).toEqual([0x8001_0003, 14, 1, 0x8000_0005, 0x1234_5678_9abc_def0n, 0]);
    raise(3, null);
    expect([g.told[0]!.message.getUint8(16 + 0x2a), g.told[0]!.message.getUint32(16 + 0x2c, true)]).toEqual([0, 0]);
    g.reachable = false;
    expect([raise(14, 5), state()]).toEqual([1, 1n]);
    expect(processorIntercepts.installException(1, 14, false)).toBe(true);
    expect([raise(14, 5), raise(31, null), g.arch.exceptionExits === null]).toEqual([-1, 1, false]);
    for (const [vtl, vector] of [[1, 31], [1, 3], [2, 13]] as const) processorIntercepts.installException(vtl, vector, false);
    expect(g.arch.exceptionExits).toBeNull();
  });
  it('memory: what a VTL protects is told to it, what an overlay refuses is a fault, the rest is for the VMM', () => {
    const memory = (g: Told, change: Partial<MemoryFaultInfo>, vtl = 0) => {
      g.told.length = 0;
      const answer = g.hv.handle(g.context(0, vtl), { kind: 'memoryFault', info: Object.assign(new MemoryFaultInfo(), { gpa: 0x3_1abc, access: Right.Write, missing: Right.Write, result: AccessResult.Denied, ...change }) } as never);
      return [g.told[0]?.to ?? -1, answer === null ? null : answer.kind === 'fault' ? answer.fault.code : answer.kind];
    };
    const g = new Told();
    g.hv.chapters.protections.modify(1, 0x31, Right.Read);
    g.hv.chapters.protections.modify(2, 0x31, 0);
    expect([memory(g, {}), memory(g, { missing: Right.Read }), memory(g, { gpa: 0x3_2000 }), memory(g, {}, 1), memory(g, {}, 2)]).toEqual([[1, 'retry'], [2, 'retry'], [-1, null], [2, 'retry'], [-1, null]]);
    expect([memory(g, { result: AccessResult.Absent }), memory(g, { result: AccessResult.OverlayRefused }), memory(new Told({ hypercallPageWrite: 'mc' }), { result: AccessResult.OverlayRefused })]).toEqual([[-1, null], [-1, 13], [-1, 18]]);
  });
});

describe('what is intercepted of the processor', () => {
  it('is saved, restored and reset', () => {
    const g = new Told(), other = new Told();
    const { processorIntercepts } = g.hv.chapters, copy = other.hv.chapters.processorIntercepts;
    processorIntercepts.installException(2, 14, true);
    processorIntercepts.installLeaf(1, 7, true);
    copy.installLeaf(2, 9, true);
    copy.restore(structuredClone(processorIntercepts.save()));
    expect([copy.ownerOfException(0, 14), copy.ownerOfException(2, 14), copy.ownerOfException(0, 13), copy.ownerOfLeaf(0, 7), copy.ownerOfLeaf(1, 7), copy.ownerOfLeaf(0, 9), other.arch.exceptionExits !== null]).toEqual([2, -1, -1, 1, -1, -1, true]);
    copy.reset();
    expect([copy.ownerOfException(0, 14), copy.ownerOfLeaf(0, 7), other.arch.exceptionExits]).toEqual([-1, -1, null]);
  });
  it('an exception that was given is not intercepted, the next one is', () => {
    const g = new Told();
    const { processorIntercepts } = g.hv.chapters;
    const c = g.context(0, 1);
    processorIntercepts.give(c);
    processorIntercepts.installException(2, 6, true);
    const wants = g.arch.exceptionExits!;
    expect([wants(c, 6), wants(c, 7)]).toEqual([true, false]);
    processorIntercepts.give(c);
    expect([wants(g.context(0, 0), 6), wants(c, 6), wants(c, 6)]).toEqual([true, false, true]);
  });
});
