import { Capability, KvmDebugregs, KvmFpu, KvmLapicState, KvmOneReg, KvmRegs, KvmSregs, KvmTranslation, KvmVcpuEvents, KvmXcrs, KvmXsave } from '@vmplanes/abi-kvm-planes';
import type { Infer } from '@vmplanes/binary';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encode, Rig, type RunnableProfile, word } from './kit.ts';

const rigOf = (profile: RunnableProfile = 'vmplanes'): Rig => new Rig(profile, { planes: { 1: [0] } }, {}, { x86: { cpuModel: 'epyc-like' } });
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const u32 = fc.nat(0xffff_ffff);
const u16 = fc.nat(0xffff);
const byte = fc.nat(255);
const bit = fc.nat(1);
const filled = (n: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: n, maxLength: n });

type Events = Infer<typeof KvmVcpuEvents>;
const Valid = { nmiPending: 1, sipiVector: 2, shadow: 4, smm: 8, payload: 16, tripleFault: 32 } as const;

describe('Linux Documentation/virt/kvm/api.rst §4.31, §4.32: KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS', () => {
  const get = (rig: Rig, plane = 1): Events => rig.get(rig.fd(plane), 'KVM_GET_VCPU_EVENTS', KvmVcpuEvents);
  const set = (rig: Rig, e: Events): string => word(rig.set(rig.fd(1), 'KVM_SET_VCPU_EVENTS', KvmVcpuEvents, e));
  const withCaps = (...caps: readonly number[]): Rig => {
    const rig = rigOf();
    for (const cap of caps) rig.c.must(rig.c.enableCap(rig.built.vmFd, cap, 1));
    return rig;
  };
  const both = [Capability.EXCEPTION_PAYLOAD, Capability.X86_TRIPLE_FAULT_EVENT];
  const fresh: Events = {
    exception: { injected: 0, nr: 0, hasErrorCode: 0, pending: 0, errorCode: 0 }, interrupt: { injected: 0, nr: 0, soft: 0, shadow: 0 }, nmi: { injected: 0, pending: 0, masked: 0, reservedPad: 0 },
    sipiVector: 0, flags: Valid.nmiPending | Valid.shadow | Valid.smm, smi: { smm: 0, pending: 0, smmInsideNmi: 0, latchedInit: 0 }, tripleFault: { pending: 0 }, reserved: new Uint8Array(26), exceptionHasPayload: 0, exceptionPayload: 0n,
  };
  const vector = fc.nat(31).filter((n) => n !== 2);
  const events = fc.record({
    exception: fc.record({ injected: fc.constant(0), nr: vector, hasErrorCode: bit, pending: fc.constant(0), errorCode: u32 }),
    interrupt: fc.record({ injected: bit, nr: byte, soft: bit, shadow: fc.nat(3) }),
    nmi: fc.record({ injected: bit, pending: bit, masked: bit, reservedPad: fc.constant(0) }),
    smi: fc.record({ smm: bit, pending: bit, smmInsideNmi: bit, latchedInit: fc.constant(0) }),
    tripleFault: fc.record({ pending: bit }),
    exceptionHasPayload: bit,
    exceptionPayload: u64.filter((n) => n > 0n),
  });

  it('a fresh vCPU has none, and says which parts count', () => {
    expect(get(rigOf())).toEqual(fresh);
    expect(get(withCaps(...both))).toEqual({ ...fresh, flags: 0b111101 });
    expect(get(withCaps(Capability.EXCEPTION_PAYLOAD)).flags).toBe(0b011101);
    expect(get(withCaps(Capability.X86_TRIPLE_FAULT_EVENT)).flags).toBe(0b101101);
  });
  it('with both capabilities everything that was set comes back', () => {
    const rig = withCaps(...both);
    fc.assert(
      fc.property(events, fc.constantFrom('none', 'injected', 'pending' as const), (given, exception) => {
        const e: Events = { ...fresh, ...given, flags: 0b111101, exception: { ...given.exception, injected: exception === 'injected' ? 1 : 0, pending: exception === 'pending' ? 1 : 0 } };
        expect(set(rig, e)).toBe('0');
        // The payload is that of a pending exception.
        const hasPayload = exception === 'pending' && e.exceptionHasPayload === 1;
        expect(get(rig)).toEqual({ ...e, exceptionHasPayload: hasPayload ? 1 : 0, exceptionPayload: hasPayload ? e.exceptionPayload : 0n });
        expect(get(rig, 0)).toEqual({ ...fresh, flags: 0b111101 });
      }),
      { numRuns: 60, seed: 5 },
    );
  });
  it('without a flag the part it names stays as it was', () => {
    const rig = withCaps(...both);
    const full: Events = { ...fresh, flags: 0b111101, interrupt: { ...fresh.interrupt, shadow: 3 }, nmi: { ...fresh.nmi, pending: 1 }, smi: { smm: 1, pending: 1, smmInsideNmi: 1, latchedInit: 0 }, tripleFault: { pending: 1 } };
    expect(set(rig, full)).toBe('0');
    expect(set(rig, { ...fresh, flags: 0 })).toBe('0');
    expect(get(rig)).toEqual(full);
    for (const [flag, part] of [[Valid.nmiPending, { nmi: fresh.nmi }], [Valid.shadow, { interrupt: fresh.interrupt }], [Valid.smm, { smi: fresh.smi }], [Valid.tripleFault, { tripleFault: fresh.tripleFault }]] as const) {
      expect(set(rig, full)).toBe('0');
      expect(set(rig, { ...fresh, flags: flag })).toBe('0');
      expect(get(rig), String(flag)).toEqual({ ...full, ...part });
    }
  });
  it('without the payload capability a pending exception reads as injected', () => {
    const rig = rigOf();
    expect(set(rig, { ...fresh, exception: { injected: 1, nr: 13, hasErrorCode: 1, pending: 0, errorCode: 0x10 } })).toBe('0');
    expect(get(rig).exception).toEqual({ injected: 1, nr: 13, hasErrorCode: 1, pending: 0, errorCode: 0x10 });
    rig.vm.arch.injectFault(rig.context(1), { code: 14, errorCode: 2, addressLo: 0x1000, addressHi: 1 });
    const { exception, exceptionHasPayload, exceptionPayload } = get(rig);
    expect([exception, exceptionHasPayload, exceptionPayload]).toEqual([{ injected: 1, nr: 14, hasErrorCode: 1, pending: 0, errorCode: 2 }, 0, 0n]);
    rig.c.must(rig.c.enableCap(rig.built.vmFd, Capability.EXCEPTION_PAYLOAD, 1));
    const now = get(rig);
    expect([now.exception, now.exceptionHasPayload, now.exceptionPayload]).toEqual([{ injected: 0, nr: 14, hasErrorCode: 1, pending: 1, errorCode: 2 }, 1, 0x1_0000_1000n]);
    // Without the flag what is injected counts, and what is pending does not.
    expect(set(rig, { ...now, flags: 0 })).toBe('0');
    expect(get(rig).exception).toMatchObject({ injected: 0, pending: 0 });
  });
  it('a latched INIT is told, and what may be any nonzero byte is one bit', () => {
    const rig = rigOf();
    rig.vm.arch.apicOf(rig.context(1)).latches.acceptInit();
    expect(get(rig).smi).toEqual({ smm: 0, pending: 0, smmInsideNmi: 0, latchedInit: 1 });
    expect(set(rig, { ...fresh, interrupt: { injected: 2, nr: 9, soft: 4, shadow: 4 }, nmi: { injected: 8, pending: 16, masked: 32, reservedPad: 0 }, smi: { smm: 2, pending: 4, smmInsideNmi: 8, latchedInit: 0 } })).toBe('0');
    expect([get(rig).interrupt, get(rig).nmi, get(rig).smi]).toEqual([{ injected: 1, nr: 9, soft: 1, shadow: 0 }, { injected: 1, pending: 1, masked: 1, reservedPad: 0 }, { smm: 1, pending: 1, smmInsideNmi: 1, latchedInit: 1 }]);
  });

  it('an injected exception brings no payload: CR2 stays', () => {
    const rig = new Rig('vmplanes', {}, { 0: { 0: { id: 'g', steps: [{ op: 'work' }], handlers: { 14: [{ op: 'out', port: 14, value: 0 }] } } } });
    const sregs = rig.get(rig.vcpu(), 'KVM_GET_SREGS', KvmSregs);
    rig.set(rig.vcpu(), 'KVM_SET_SREGS', KvmSregs, { ...sregs, cr2: 0x77n });
    rig.set(rig.vcpu(), 'KVM_SET_VCPU_EVENTS', KvmVcpuEvents, { ...fresh, exception: { ...fresh.exception, injected: 1, nr: 14 }, exceptionHasPayload: 1, exceptionPayload: 0x99n });
    expect([word(rig.run()), rig.exitReason(), rig.get(rig.vcpu(), 'KVM_GET_SREGS', KvmSregs).cr2]).toEqual(['0', 2, 0x77n]);
  });
  it('an NMI that was held back is pending for its plane as soon as it may be taken', () => {
    const rig = rigOf();
    rig.set(rig.fd(1), 'KVM_SET_VCPU_EVENTS', KvmVcpuEvents, { ...fresh, nmi: { injected: 0, pending: 1, masked: 1, reservedPad: 0 } });
    expect(rig.context(0).vp.pending).toBe(0);
    set(rig, { ...fresh, flags: 0 });
    expect([rig.context(0).vp.pending, get(rig).nmi.pending]).toEqual([0b10, 1]);
  });

  const injected = (nr: number): Partial<Events> => ({ exception: { ...fresh.exception, injected: 1, nr } });
  const pending = (nr: number): Partial<Events> => ({ exception: { ...fresh.exception, pending: 1, nr }, flags: Valid.payload });
  const verdicts: readonly (readonly [string, readonly number[], Partial<Events>, 'EINVAL' | '0'])[] = [
    ['all flags', both, { flags: 0b111111 }, '0'],
    ['the first flag that is none', both, { flags: 64 }, 'EINVAL'],
    ['the last flag', both, { flags: 0x8000_0000 }, 'EINVAL'],
    ['a payload without its capability', [Capability.X86_TRIPLE_FAULT_EVENT], { flags: Valid.payload }, 'EINVAL'],
    ['a triple fault without its capability', [Capability.EXCEPTION_PAYLOAD], { flags: Valid.tripleFault }, 'EINVAL'],
    ['both injected and pending', both, { ...pending(3), exception: { ...fresh.exception, injected: 1, pending: 1, nr: 3 } }, 'EINVAL'],
    ['both injected and pending, the latter without its flag', both, { flags: 0, exception: { ...fresh.exception, injected: 1, pending: 1, nr: 3 } }, '0'],
    ['injected vector 31', [], injected(31), '0'],
    ['injected vector 32', [], injected(32), 'EINVAL'],
    ['injected vector 2', [], injected(2), 'EINVAL'],
    ['injected vector 1', [], injected(1), '0'],
    ['pending vector 31', both, pending(31), '0'],
    ['pending vector 32', both, pending(32), 'EINVAL'],
    ['pending vector 2', both, pending(2), 'EINVAL'],
    ['pending vector 32 without the flag', both, { ...pending(32), flags: 0 }, '0'],
    ['vector 32, neither', [], { exception: { ...fresh.exception, nr: 32 } }, '0'],
  ];
  it.each(verdicts)('%s', (_, caps, fields, verdict) => {
    const rig = withCaps(...caps);
    const before = get(rig);
    expect(set(rig, { ...fresh, ...fields })).toBe(verdict);
    if (verdict !== '0') expect(get(rig)).toEqual(before);
  });
  it('system management mode by VM type', () => {
    const protectedVm = new Rig('vmplanes', { type: 4, planes: { 1: [0] } });
    const smi = (fields: object): Events => ({ ...fresh, smi: { ...fresh.smi, ...fields } });
    expect([set(protectedVm, smi({ smm: 1 })), set(protectedVm, smi({ pending: 1 })), set(protectedVm, smi({ smmInsideNmi: 1 })), set(protectedVm, { ...smi({ smm: 1 }), flags: 0 })]).toEqual(['EINVAL', 'EINVAL', '0', '0']);
    expect(get(protectedVm).smi).toEqual(fresh.smi);
  });
  it('clearing NMI and SMI takes them out of the local APIC, setting them twice counts once', () => {
    const rig = rigOf();
    const on: Events = { ...fresh, nmi: { ...fresh.nmi, pending: 1 }, smi: { ...fresh.smi, pending: 1 } };
    expect([set(rig, on), set(rig, on)]).toEqual(['0', '0']);
    expect([get(rig).nmi.pending, get(rig).smi.pending]).toEqual([1, 1]);
    set(rig, fresh);
    expect([get(rig).nmi.pending, get(rig).smi.pending]).toEqual([0, 0]);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.11, §4.12: general registers', () => {
  it('RFLAGS keeps its fixed bits, and an exception that was due goes away', () => {
    const rig = rigOf();
    const regs = rig.get(rig.fd(1), 'KVM_GET_REGS', KvmRegs);
    rig.vm.arch.injectFault(rig.context(1), { code: 6, errorCode: null, addressLo: 0, addressHi: 0 });
    expect(word(rig.set(rig.fd(1), 'KVM_SET_REGS', KvmRegs, { ...regs, rflags: 0xffff_ffff_ffff_ffffn }))).toBe('0');
    expect(rig.get(rig.fd(1), 'KVM_GET_VCPU_EVENTS', KvmVcpuEvents).exception.injected).toBe(0);
    // Bits 1, 3, 5, 15 and those above 21 are fixed. @spec SDM 1 Figure 3-8
    expect(rig.get(rig.fd(1), 'KVM_GET_REGS', KvmRegs).rflags).toBe(0x3f_7fd7n);
    rig.set(rig.fd(1), 'KVM_SET_REGS', KvmRegs, { ...regs, rflags: 0n });
    expect(rig.get(rig.fd(1), 'KVM_GET_REGS', KvmRegs).rflags).toBe(2n);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.33, §4.34: debug registers', () => {
  it('come back each by itself', () => {
    const rig = rigOf();
    fc.assert(
      fc.property(fc.tuple(u64, u64, u64, u64), u32, u32, (db, dr6, dr7) => {
        const d = { db, dr6: BigInt(dr6), dr7: BigInt(dr7), flags: 0n, reserved: Array<bigint>(9).fill(0n) };
        expect(word(rig.set(rig.fd(1), 'KVM_SET_DEBUGREGS', KvmDebugregs, d))).toBe('0');
        expect(rig.get(rig.fd(1), 'KVM_GET_DEBUGREGS', KvmDebugregs)).toEqual(d);
      }),
      { numRuns: 15, seed: 2 },
    );
  });
  it.each([['dr6', 0xffff_ffffn, '0'], ['dr6', 1n << 32n, 'EINVAL'], ['dr6', 1n << 63n, 'EINVAL'], ['dr7', 0xffff_ffffn, '0'], ['dr7', 1n << 32n, 'EINVAL'], ['dr7', 1n << 63n, 'EINVAL'], ['flags', 1n, 'EINVAL'], ['flags', 1n << 63n, 'EINVAL']] as const)('%s = %i: %s', (field, value, verdict) => {
    const rig = rigOf();
    const before = rig.get(rig.fd(1), 'KVM_GET_DEBUGREGS', KvmDebugregs);
    expect(word(rig.set(rig.fd(1), 'KVM_SET_DEBUGREGS', KvmDebugregs, { ...before, db: [1n, 2n, 3n, 4n], [field]: value }))).toBe(verdict);
    if (verdict !== '0') expect(rig.get(rig.fd(1), 'KVM_GET_DEBUGREGS', KvmDebugregs)).toEqual(before);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.22, §4.23, §4.42 to §4.45: x87, SSE and extended state', () => {
  const xmms = fc.array(filled(16), { minLength: 16, maxLength: 16 });
  const st = filled(10).map((ten) => {
    const bytes = new Uint8Array(16);
    bytes.set(ten);
    return bytes;
  });
  const fpus = fc.record({ fpr: fc.array(st, { minLength: 8, maxLength: 8 }), fcw: u16.map((n) => (n & 0x0f3f) | 0x40), ftwx: byte, lastOpcode: fc.nat(0x7ff), lastIp: u64, lastDp: u64, xmm: xmms, mxcsr: u16 });

  it('kvm_fpu comes back field by field, and is the head of the XSAVE image', () => {
    const rig = rigOf();
    fc.assert(
      fc.property(fpus, (given) => {
        const f = { ...given, fsw: 0x3800, reservedPad1: 0, reservedPad2: 0 };
        expect(word(rig.set(rig.fd(1), 'KVM_SET_FPU', KvmFpu, f))).toBe('0');
        expect(rig.get(rig.fd(1), 'KVM_GET_FPU', KvmFpu)).toEqual(f);
        // @spec SDM 1 Table 10-2
        const { region } = rig.get(rig.fd(1), 'KVM_GET_XSAVE', KvmXsave);
        const view = new DataView(region.buffer, region.byteOffset);
        expect([view.getUint16(0, true), view.getUint16(2, true), region[4], view.getUint16(6, true), view.getBigUint64(8, true), view.getBigUint64(16, true), view.getUint32(24, true)]).toEqual([f.fcw, f.fsw, f.ftwx, f.lastOpcode, f.lastIp, f.lastDp, f.mxcsr]);
        expect([0, 1, 7].map((i) => region.slice(32 + i * 16, 48 + i * 16))).toEqual([f.fpr[0], f.fpr[1], f.fpr[7]]);
        expect([0, 1, 15].map((i) => region.slice(160 + i * 16, 176 + i * 16))).toEqual([f.xmm[0], f.xmm[1], f.xmm[15]]);
      }),
      { numRuns: 15, seed: 4 },
    );
    expect([...rig.get(rig.fd(0), 'KVM_GET_FPU', KvmFpu).xmm[3]!].some((b) => b !== 0)).toBe(false);
  });
  it('MXCSR: bit 17 exists with misaligned SSE, the others above 16 bits do not', () => {
    const rig = rigOf();
    const f = rig.get(rig.fd(1), 'KVM_GET_FPU', KvmFpu);
    const set = (mxcsr: number): string => word(rig.set(rig.fd(1), 'KVM_SET_FPU', KvmFpu, { ...f, mxcsr }));
    expect([set(0xffff), set(0x2_0000), set(0x1_0000), set(0x8000_0000)]).toEqual(['0', '0', 'EINVAL', 'EINVAL']);
    expect(rig.get(rig.fd(1), 'KVM_GET_FPU', KvmFpu).mxcsr).toBe(0x2_0000);
  });
  it('the XSAVE image: x87, SSE, AVX and PKRU at their places, the header telling which', () => {
    const rig = rigOf();
    const size = rig.c.do(rig.built.vmFd, 'KVM_CHECK_EXTENSION', Capability.XSAVE2);
    expect(size).toBe(4096);
    const image = new Uint8Array(size);
    const view = new DataView(image.buffer);
    view.setUint16(0, 0x37f, true);
    view.setUint32(24, 0x1f80, true);
    view.setUint32(28, 0x2_ffff, true);
    image.fill(0x11, 160, 416);
    // XSTATE_BV: x87, SSE, AVX, PKRU. @spec SDM 1 §13.4
    view.setBigUint64(512, 0x207n, true);
    image.fill(0x22, 576, 832);
    const xsave2 = new Uint8Array(size);
    // A processor of this model keeps PKRU where its CPUID leaf 0xd says.
    const cpuid = pkruOffset(rig);
    view.setUint32(cpuid, 0x5555_5555, true);
    expect(word(rig.c.call(rig.fd(1), 'KVM_SET_XSAVE', image))).toBe('0');
    rig.c.do(rig.fd(1), 'KVM_GET_XSAVE2', xsave2);
    const xsave = new Uint8Array(4096);
    rig.c.do(rig.fd(1), 'KVM_GET_XSAVE', xsave);
    expect(xsave).toEqual(xsave2);
    const got = new DataView(xsave.buffer);
    expect([got.getUint16(0, true), got.getUint32(24, true), got.getBigUint64(512, true) & 0x207n, got.getUint32(cpuid, true)]).toEqual([0x37f, 0x1f80, 0x207n, 0x5555_5555]);
    expect([xsave.subarray(160, 416).every((b) => b === 0x11), xsave.subarray(576, 832).every((b) => b === 0x22)]).toEqual([true, true]);
    const other = new Uint8Array(4096);
    rig.c.do(rig.fd(0), 'KVM_GET_XSAVE', other);
    // Plane 0 has its initial state, and the two components that are always there.
    expect([new DataView(other.buffer).getBigUint64(512, true) & 3n, other.subarray(160, 416).some((b) => b !== 0), other.subarray(576, 832).some((b) => b !== 0)]).toEqual([3n, false, false]);
  });
  const pkruOffset = (rig: Rig): number => {
    const out = new Uint32Array(4);
    rig.vm.arch.registers.executeCpuid(rig.context(0), 0xd, 9, out);
    return out[1]!;
  };
  it('LKML 2025-04-01 RFC KVM: VM planes 21/29: with a shared image each plane has its own PKRU in it', () => {
    const c = rigOf().c;
    const vmFd = c.do(c.fd, 'KVM_CREATE_VM');
    c.must(c.enableCap(vmFd, 240, 1));
    const vcpu = c.do(vmFd, 'KVM_CREATE_VCPU', 0);
    const one = c.must(c.createPlaneVcpu(c.do(vmFd, 'KVM_CREATE_PLANE', 1), vcpu, 0));
    const out = new Uint32Array(4);
    const vm = c.system.vmOf(vmFd)!;
    vm.arch.registers.executeCpuid(vm.groups.get(0)!.vp.plane(0), 0xd, 9, out);
    const at = out[1]!;
    const image = (fd: number): DataView => {
      const bytes = new Uint8Array(4096);
      c.do(fd, 'KVM_GET_XSAVE', bytes);
      return new DataView(bytes.buffer);
    };
    const set = (fd: number, pkru: number, xmm0: number): void => {
      const view = image(fd);
      view.setUint32(at, pkru, true);
      view.setUint32(160, xmm0, true);
      view.setBigUint64(512, 0x203n, true);
      c.do(fd, 'KVM_SET_XSAVE', new Uint8Array(view.buffer));
    };
    set(vcpu, 0xaaaa_aaa8, 1);
    set(one, 0x5555_5554, 2);
    expect([vcpu, one].map((fd) => [image(fd).getUint32(at, true), image(fd).getUint32(160, true)])).toEqual([[0xaaaa_aaa8, 2], [0x5555_5554, 2]]);
    set(vcpu, 0xcccc_cccc, 3);
    expect([vcpu, one].map((fd) => [image(fd).getUint32(at, true), image(fd).getUint32(160, true)])).toEqual([[0xcccc_cccc, 3], [0x5555_5554, 3]]);
    const fpu = new Uint8Array(KvmFpu.size);
    c.do(one, 'KVM_GET_FPU', fpu);
    expect(fpu[KvmFpu.at.xmm]).toBe(3);
    fpu[KvmFpu.at.xmm] = 9;
    c.do(one, 'KVM_SET_FPU', fpu);
    expect([image(vcpu).getUint32(160, true), image(vcpu).getUint32(at, true)]).toEqual([9, 0xcccc_cccc]);
  });
  it.each([['KVM_GET_FPU', 416], ['KVM_SET_FPU', 416], ['KVM_GET_XSAVE', 4096], ['KVM_GET_XSAVE2', 4096], ['KVM_SET_XSAVE', 4096], ['KVM_GET_XCRS', 392], ['KVM_SET_XCRS', 392], ['KVM_GET_REGS', 144], ['KVM_SET_REGS', 144], ['KVM_GET_DEBUGREGS', 128], ['KVM_SET_DEBUGREGS', 128], ['KVM_GET_VCPU_EVENTS', 64], ['KVM_SET_VCPU_EVENTS', 64], ['KVM_GET_LAPIC', 1024], ['KVM_SET_LAPIC', 1024], ['KVM_TRANSLATE', 24], ['KVM_GET_MP_STATE', 4], ['KVM_SET_MP_STATE', 4]] as const)('%s: %i bytes or EFAULT', (name, size) => {
    const rig = rigOf();
    expect(word(rig.c.call(rig.fd(1), name, new Uint8Array(size - 1)))).toBe('EFAULT');
    const get = name.replace('SET_', 'GET_') as typeof name;
    const bytes = new Uint8Array(size);
    rig.c.do(rig.fd(1), get, bytes);
    expect(word(rig.c.call(rig.fd(1), name, bytes))).toBe('0');
  });

  describe('extended control registers', () => {
    const xcrs = (rows: readonly { readonly xcr: number; readonly value: bigint }[], n = rows.length, flags = 0): Uint8Array =>
      encode(KvmXcrs, { nrXcrs: n, flags, xcrs: Array.from({ length: 16 }, (_, i) => ({ xcr: 0, value: 0n, reserved: 0, ...rows[i] })), reservedPadding: Array<bigint>(16).fill(0n) });
    const get = (rig: Rig): Infer<typeof KvmXcrs> => rig.get(rig.fd(1), 'KVM_GET_XCRS', KvmXcrs);
    const set = (rig: Rig, bytes: Uint8Array): string => word(rig.c.call(rig.fd(1), 'KVM_SET_XCRS', bytes));
    it('XCR0 alone is there, wherever it stands in the list', () => {
      const rig = rigOf();
      expect(set(rig, xcrs([{ xcr: 1, value: 9n }, { xcr: 0, value: 7n }]))).toBe('0');
      const { nrXcrs, flags, xcrs: rows } = get(rig);
      expect([nrXcrs, flags, rows[0]!.value, rows.every((r) => r.xcr === 0 && r.reserved === 0), rows.slice(1).every((r) => r.value === 0n)]).toEqual([1, 0, 7n, true, true]);
      // Rows behind the count are not looked at.
      expect(set(rig, xcrs([{ xcr: 0, value: 3n }], 0))).toBe('0');
      expect(get(rig).xcrs[0]!.value).toBe(7n);
      expect(set(rig, xcrs([...Array.from({ length: 15 }, () => ({ xcr: 1, value: 0n })), { xcr: 0, value: 3n }]))).toBe('0');
      expect(get(rig).xcrs[0]!.value).toBe(3n);
    });
    it.each([['16 rows', xcrs([{ xcr: 0, value: 1n }], 16), '0'], ['17 rows', xcrs([{ xcr: 0, value: 1n }], 17), 'EINVAL'], ['a flag', xcrs([{ xcr: 0, value: 1n }], 1, 1), 'EINVAL'], ['x87 off', xcrs([{ xcr: 0, value: 6n }]), 'EINVAL'], ['AVX without SSE', xcrs([{ xcr: 0, value: 5n }]), 'EINVAL'], ['a component that the model lacks', xcrs([{ xcr: 0, value: 0x23n }]), 'EINVAL'], ['PKRU', xcrs([{ xcr: 0, value: 0x207n }]), '0']] as const)('%s', (_, bytes, verdict) => {
      const rig = rigOf();
      const before = get(rig);
      expect(set(rig, bytes)).toBe(verdict);
      if (verdict !== '0') expect(get(rig)).toEqual(before);
    });
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.57, §4.58: the local APIC page', () => {
  it('refuses another id in x2APIC mode with wide ids, and changes nothing', () => {
    const rig = rigOf();
    rig.c.must(rig.c.enableCap(rig.built.vmFd, Capability.X2APIC_API, 1));
    rig.enableApic(1);
    const before = rig.lapic(1);
    const edited = (id: number): Uint8Array => {
      const image = before.slice();
      new DataView(image.buffer).setUint32(0x20, id, true);
      new DataView(image.buffer).setUint32(0x80, 0x30, true);
      return image;
    };
    expect(word(rig.c.call(rig.fd(1), 'KVM_SET_LAPIC', edited(1)))).toBe('EINVAL');
    expect(rig.lapic(1)).toEqual(before);
    expect(word(rig.c.call(rig.fd(1), 'KVM_SET_LAPIC', edited(0)))).toBe('0');
    expect(rig.lapic(1)[0x80]).toBe(0x30);
  });
  it('is refused without a local APIC in the kernel, before the pointer is looked at', () => {
    const rig = new Rig('vmplanes', { irqchip: 'none' });
    for (const argument of [null, new Uint8Array(KvmLapicState.size)]) expect(['KVM_GET_LAPIC', 'KVM_SET_LAPIC'].map((n) => word(rig.c.call(rig.vcpu(), n as 'KVM_GET_LAPIC', argument)))).toEqual(['EINVAL', 'EINVAL']);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.68, §4.69, §4.84: one register at a time', () => {
  const SUSPENDED = 0x7f10_0000_0000_0001n;
  const request = (id: bigint, addr: bigint, ...data: readonly number[]): Uint8Array => {
    const bytes = new Uint8Array(16 + data.length);
    bytes.set(encode(KvmOneReg, { id, addr }));
    bytes.set(data, 16);
    return bytes;
  };
  it('ids carry the size, two bytes here; the value lies at the address', () => {
    const rig = rigOf();
    const call = (name: 'KVM_GET_ONE_REG' | 'KVM_SET_ONE_REG', bytes: Uint8Array | null): string => word(rig.c.call(rig.vcpu(), name, bytes));
    expect(call('KVM_SET_ONE_REG', request(SUSPENDED, 17n, 0xff, 0x0a, 0x00))).toBe('0');
    expect(rig.page().suspendedPlanes).toBe(0x0a);
    const answer = request(SUSPENDED, 17n, 0xee, 0xee, 0xee, 0xee);
    expect(call('KVM_GET_ONE_REG', answer)).toBe('0');
    expect([...answer.subarray(16)]).toEqual([0xee, 0x0a, 0, 0xee]);
    for (const name of ['KVM_GET_ONE_REG', 'KVM_SET_ONE_REG'] as const) {
      expect(call(name, request(SUSPENDED, 16n, 1)), name).toBe('EFAULT');
      expect(call(name, request(SUSPENDED, 1n << 40n, 1, 0)), name).toBe('EFAULT');
      expect(call(name, request(SUSPENDED ^ 2n, 16n, 1, 0)), name).toBe('EINVAL');
      expect(call(name, request(SUSPENDED ^ 2n, 1n << 40n)), name).toBe('EINVAL');
      expect(call(name, new Uint8Array(15)), name).toBe('EFAULT');
    }
    expect(rig.page().suspendedPlanes).toBe(0x0a);
  });
  it('exists in our profile only, on plane 0 only; the list says so', () => {
    for (const [profile, ids] of [['vmplanes', [SUSPENDED]], ['2025-04', []], ['2026-06', []]] as const) {
      const rig = rigOf(profile);
      const list = (fd: number, room: bigint, bytes: number): readonly unknown[] => {
        const buffer = new Uint8Array(bytes).fill(0xee);
        if (bytes >= 8) new DataView(buffer.buffer).setBigUint64(0, room, true);
        const result = word(rig.c.call(fd, 'KVM_GET_REG_LIST', buffer));
        const words = Array.from({ length: bytes >> 3 }, (_, i) => new DataView(buffer.buffer).getBigUint64(i * 8, true));
        return [result, ...words];
      };
      const n = BigInt(ids.length);
      expect(list(rig.vcpu(), 5n, 16)).toEqual(['0', n, ids[0] ?? 0xeeee_eeee_eeee_eeeen]);
      expect(list(rig.vcpu(), n, 8 + ids.length * 8)).toEqual(['0', n, ...ids]);
      expect(list(rig.fd(1), 5n, 8)).toEqual(['0', 0n]);
      if (ids.length > 0) {
        expect(list(rig.vcpu(), 0n, 16)).toEqual(['E2BIG', 1n, 0xeeee_eeee_eeee_eeeen]);
        expect(list(rig.vcpu(), 1n, 8)).toEqual(['EFAULT', 1n]);
      }
      expect(list(rig.vcpu(), 0n, 7)).toEqual(['EFAULT']);
      const one = word(rig.c.call(rig.vcpu(), 'KVM_GET_ONE_REG', request(SUSPENDED, 16n, 0, 0)));
      expect(one).toBe(ids.length > 0 ? '0' : 'EINVAL');
    }
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.15: KVM_TRANSLATE', () => {
  it('without paging every address is there, writeable and for users', () => {
    const rig = rigOf();
    const bytes = encode(KvmTranslation, { linearAddress: 0x1234_5678n, physicalAddress: 7n, valid: 9, writeable: 9, usermode: 9 });
    rig.c.do(rig.fd(1), 'KVM_TRANSLATE', bytes);
    expect(KvmTranslation.read(new DataView(bytes.buffer), 0)).toMatchObject({ linearAddress: 0x1234_5678n, physicalAddress: 0x1234_5678n, valid: 1, writeable: 1, usermode: 1 });
  });
  it('an address without a translation has none, and no right', () => {
    const rig = rigOf();
    // Long mode over an empty table.
    const sregs = rig.get(rig.fd(1), 'KVM_GET_SREGS', KvmSregs);
    rig.set(rig.fd(1), 'KVM_SET_SREGS', KvmSregs, { ...sregs, cr0: 0x8000_0011n, cr3: 0x1000n });
    rig.vm.machine.memory.addSlot({ id: 0, gpa: 0, size: 0x4000 });
    const bytes = encode(KvmTranslation, { linearAddress: 0x1234_5678n, physicalAddress: 7n, valid: 9, writeable: 9, usermode: 9 });
    expect(word(rig.c.call(rig.fd(1), 'KVM_TRANSLATE', bytes))).toBe('0');
    expect(KvmTranslation.read(new DataView(bytes.buffer), 0)).toMatchObject({ linearAddress: 0x1234_5678n, physicalAddress: 0xffff_ffff_ffff_ffffn, valid: 0, writeable: 0, usermode: 0 });
  });
});

it.each(['KVM_GET_NESTED_STATE', 'KVM_SET_NESTED_STATE'] as const)('Linux arch/x86/kvm/x86.c kvm_arch_vcpu_ioctl: %s without nested virtualisation', (name) => {
  const rig = rigOf();
  expect([new Uint8Array(127), new Uint8Array(128), new Uint8Array(4096)].map((bytes) => word(rig.c.call(rig.fd(1), name, bytes)))).toEqual(['EFAULT', 'EINVAL', 'EINVAL']);
});
