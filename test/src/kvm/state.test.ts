import {
  Capability, KvmDebugregs, KvmFpu, KvmLapicState, KvmMpState, KvmNestedState, KvmOneReg, KvmRegs, KvmSregs, KvmSregs2, KvmTranslation, KvmVcpuEvents, KvmXcrs, KvmXsave, MpState, PLANE_VCPU_IOCTLS, VcpuEventValid,
} from '@vmplanes/abi-kvm-planes';
import type { Fields, Inputs, Layout, Struct, Values } from '@vmplanes/binary';
import { oneRegs, protectState } from '@vmplanes/kvm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encode, profiles, Rig, word } from './kit.ts';

const model = { x86: { cpuModel: 'epyc-like' } };
const rigOf = (profile: (typeof profiles)[number]): Rig => new Rig(profile, { planes: { 1: [0] } }, {}, model);

/** GET after SET, for every pair; how to change what GET gave so that it is another legal value. */
interface Pair {
  readonly name: string;
  readonly layout: Layout<object, never>;
  readonly change: (bytes: DataView) => void;
}
const pairs: readonly Pair[] = [
  { name: 'REGS', layout: KvmRegs, change: (v) => KvmRegsFields.forEach((at) => v.setBigUint64(at, 0x1122_3344_5566_7788n + BigInt(at), true)) },
  { name: 'SREGS', layout: KvmSregs, change: (v) => (v.setBigUint64(KvmSregs.at.cr3, 0x5000n, true), v.setBigUint64(KvmSregs.at.cr2, 0xdead_beefn, true), v.setUint16(KvmSregs.at.ds + 12, 0x23, true), v.setBigUint64(KvmSregs.at.fs, 0x7000n, true)) },
  { name: 'SREGS2', layout: KvmSregs2, change: (v) => (v.setBigUint64(KvmSregs2.at.cr3, 0x6000n, true), v.setUint16(KvmSregs2.at.gdt + 8, 0x77, true)) },
  { name: 'FPU', layout: KvmFpu, change: (v) => (v.setUint16(KvmFpu.at.fcw, 0x27f, true), v.setBigUint64(KvmFpu.at.xmm + 16, 0x99n, true), v.setUint32(KvmFpu.at.mxcsr, 0x1fa0, true)) },
  { name: 'LAPIC', layout: KvmLapicState, change: (v) => (v.setUint32(0xf0, 0x1ff, true), v.setUint32(0x80, 0x20, true), v.setUint32(0xa0, 0x20, true)) },
  { name: 'VCPU_EVENTS', layout: KvmVcpuEvents, change: (v) => (v.setUint8(8, 1), v.setUint8(9, 0x55), v.setUint8(14, 1)) },
  { name: 'DEBUGREGS', layout: KvmDebugregs, change: (v) => (v.setBigUint64(0, 0x1234n, true), v.setBigUint64(40, 0x401n, true)) },
  { name: 'XCRS', layout: KvmXcrs, change: (v) => v.setBigUint64(16, 7n, true) },
  { name: 'XSAVE', layout: KvmXsave, change: (v) => (v.setUint32(0xa0, 0xcafe, true), v.setUint8(0x200, v.getUint8(0x200) | 2)) },
];
const KvmRegsFields = Object.values(KvmRegs.at).filter((at) => at < KvmRegs.at.rflags);

const fetch = (rig: Rig, plane: number, pair: Pair): Uint8Array => {
  const bytes = new Uint8Array(pair.layout.size);
  rig.c.do(rig.fd(plane), `KVM_GET_${pair.name}` as 'KVM_GET_REGS', bytes);
  return bytes;
};

describe('LKML 2025-04-01 RFC KVM: VM planes 13/29: state of a plane vCPU', () => {
  for (const profile of profiles) {
    for (const pair of pairs) {
      it(`${pair.name} [${profile}]: what was set is read back, in that plane alone`, () => {
        const rig = rigOf(profile);
        const others = pairs.map((other) => fetch(rig, 0, other));
        for (const plane of [1, 0]) {
          const bytes = fetch(rig, plane, pair);
          const before = bytes.slice();
          pair.change(new DataView(bytes.buffer));
          expect(bytes).not.toEqual(before);
          expect(word(rig.c.call(rig.fd(plane), `KVM_SET_${pair.name}` as 'KVM_SET_REGS', bytes))).toBe('0');
          expect(fetch(rig, plane, pair)).toEqual(bytes);
          if (plane === 1) pairs.forEach((other, i) => expect(fetch(rig, 0, other), other.name).toEqual(others[i]));
        }
      });
    }

    it(`MSRs [${profile}]: per plane, and counted up to the first that fails`, () => {
      const rig = rigOf(profile);
      const lstar = 0xc000_0082;
      expect([rig.setMsr(rig.fd(0), lstar, 0x1000n), rig.setMsr(rig.fd(1), lstar, 0x2000n)]).toEqual([1, 1]);
      expect([rig.getMsr(rig.fd(0), lstar), rig.getMsr(rig.fd(1), lstar)]).toEqual([0x1000n, 0x2000n]);
      const list = new Uint8Array(8 + 3 * 16);
      const view = new DataView(list.buffer);
      view.setUint32(0, 3, true);
      [lstar, 0x1234_5678, lstar].forEach((index, i) => view.setUint32(8 + i * 16, index, true));
      expect(word(rig.c.call(rig.fd(1), 'KVM_GET_MSRS', list))).toBe('1');
      view.setUint32(0, 256, true);
      expect(word(rig.c.call(rig.fd(1), 'KVM_GET_MSRS', list))).toBe('E2BIG');
      view.setUint32(0, 4, true);
      expect(word(rig.c.call(rig.fd(1), 'KVM_GET_MSRS', list))).toBe('EFAULT');
    });

    it.each(PLANE_VCPU_IOCTLS)(`%s with a bad pointer [${profile}]: EFAULT, nothing changes`, (name) => {
      const rig = rigOf(profile);
      const before = rig.vm.machine.snapshot();
      for (const argument of [null, new Uint8Array(3)]) expect(word(rig.c.call(rig.fd(1), name, argument)), String(argument)).toBe('EFAULT');
      expect(rig.vm.machine.snapshot()).toEqual(before);
    });
  }

  const set = <F extends Fields>(name: string, layout: Struct<F>, edit: (value: Values<F>) => Inputs<F>) => (rig: Rig): string => {
    const bytes = new Uint8Array(layout.size);
    rig.c.do(rig.fd(1), `KVM_GET_${name}` as 'KVM_GET_REGS', bytes);
    const before = rig.vm.machine.snapshot();
    const result = word(rig.c.call(rig.fd(1), `KVM_SET_${name}` as 'KVM_SET_REGS', encode(layout, edit(layout.read(new DataView(bytes.buffer), 0)))));
    if (result !== '0') expect(rig.vm.machine.snapshot()).toEqual(before);
    return result;
  };
  const bad: readonly (readonly [string, (rig: Rig) => string])[] = [
    ['DEBUGREGS: flags', set('DEBUGREGS', KvmDebugregs, (d) => ({ ...d, flags: 1n }))],
    ['DEBUGREGS: DR6 above 32 bits', set('DEBUGREGS', KvmDebugregs, (d) => ({ ...d, dr6: 1n << 32n }))],
    ['DEBUGREGS: DR7 above 32 bits', set('DEBUGREGS', KvmDebugregs, (d) => ({ ...d, dr7: 1n << 32n }))],
    ['XCRS: more than 16', set('XCRS', KvmXcrs, (x) => ({ ...x, nrXcrs: 17 }))],
    ['XCRS: flags', set('XCRS', KvmXcrs, (x) => ({ ...x, flags: 1 }))],
    ['XCRS: AVX without SSE', set('XCRS', KvmXcrs, (x) => ({ ...x, xcrs: x.xcrs.map((r, i) => (i === 0 ? { ...r, value: 5n } : r)) }))],
    ['SREGS: paging without protection', set('SREGS', KvmSregs, (s) => ({ ...s, cr0: 1n << 31n }))],
    ['SREGS: CR0 above 32 bits', set('SREGS', KvmSregs, (s) => ({ ...s, cr0: s.cr0 | (1n << 32n) }))],
    ['SREGS: NW without CD', set('SREGS', KvmSregs, (s) => ({ ...s, cr0: 1n << 29n }))],
    ['SREGS: unknown CR4 bit', set('SREGS', KvmSregs, (s) => ({ ...s, cr4: 1n << 40n }))],
    ['SREGS: LMA without LME', set('SREGS', KvmSregs, (s) => ({ ...s, efer: 1n << 10n }))],
    ['SREGS: long mode without PAE', set('SREGS', KvmSregs, (s) => ({ ...s, cr0: 0x8000_0011n, efer: 0x500n, cr4: 0n }))],
    ['SREGS: invalid APIC base', set('SREGS', KvmSregs, (s) => ({ ...s, apicBase: 0xfee0_0400n }))],
    ['SREGS2: unknown flag', set('SREGS2', KvmSregs2, (s) => ({ ...s, flags: 2n }))],
    ['SREGS2: PDPTEs outside of PAE paging', set('SREGS2', KvmSregs2, (s) => ({ ...s, flags: 1n }))],
    ['VCPU_EVENTS: unknown flag', set('VCPU_EVENTS', KvmVcpuEvents, (e) => ({ ...e, flags: 0x100 }))],
    ['VCPU_EVENTS: payload without its capability', set('VCPU_EVENTS', KvmVcpuEvents, (e) => ({ ...e, flags: VcpuEventValid.PAYLOAD }))],
    ['VCPU_EVENTS: exception 32', set('VCPU_EVENTS', KvmVcpuEvents, (e) => ({ ...e, exception: { ...e.exception, injected: 1, nr: 32 } }))],
    ['VCPU_EVENTS: NMI as exception', set('VCPU_EVENTS', KvmVcpuEvents, (e) => ({ ...e, exception: { ...e.exception, injected: 1, nr: 2 } }))],
    ['XSAVE: reserved header bytes', set('XSAVE', KvmXsave, (x) => ({ region: x.region.slice().fill(1, 0x210, 0x211) }))],
    ['FPU: reserved MXCSR bit', set('FPU', KvmFpu, (f) => ({ ...f, mxcsr: 0x8000_0000 }))],
    ['NESTED_STATE: no nested virtualisation', (rig) => word(rig.c.call(rig.fd(1), 'KVM_SET_NESTED_STATE', new Uint8Array(KvmNestedState.size)))],
    ['ONE_REG: unknown id', (rig) => word(rig.c.call(rig.fd(1), 'KVM_GET_ONE_REG', new Uint8Array(KvmOneReg.size)))],
  ];
  it.each(bad)('%s: EINVAL, nothing changes', (_, use) => {
    expect(use(rigOf('vmplanes'))).toBe('EINVAL');
  });

  it('Linux Documentation/virt/kvm/api.rst §4.15: KVM_TRANSLATE walks the tables of the plane of its fd', () => {
    const rig = rigOf('vmplanes');
    rig.vm.machine.memory.addSlot({ id: 0, gpa: 0, size: 0x10000 });
    const { access } = rig.vm.machine.memory;
    const host = rig.vm.machine.memory.subjects[0]!.host;
    // 32-bit paging: directory at 0x1000, table at 0x2000, linear 0 is 0x5000, read-only and supervisor.
    access.writeU32(host, 0x1000, 0x2003);
    access.writeU32(host, 0x2000, 0x5001);
    const s = rig.get(rig.fd(1), 'KVM_GET_SREGS', KvmSregs);
    rig.set(rig.fd(1), 'KVM_SET_SREGS', KvmSregs, { ...s, cr0: 0x8000_0011n, cr3: 0x1000n });
    const ask = (plane: number, linearAddress: bigint) => {
      const bytes = encode(KvmTranslation, { linearAddress, physicalAddress: 0n, valid: 0, writeable: 0, usermode: 0 });
      rig.c.do(rig.fd(plane), 'KVM_TRANSLATE', bytes);
      const t = KvmTranslation.read(new DataView(bytes.buffer), 0);
      return [t.physicalAddress, t.valid, t.writeable, t.usermode];
    };
    expect(ask(1, 0x123n)).toEqual([0x5123n, 1, 0, 0]);
    expect(ask(1, 0x1000n)).toEqual([0xffff_ffff_ffff_ffffn, 0, 0, 0]);
    expect(ask(0, 0x123n).slice(0, 2)).toEqual([0x123n, 1]);
  });

  it('LKML 2024-10-23 Documentation: kvm: cleanup and introduce VM planes 0/5: suspended planes by ONE_REG, masked', () => {
    const rig = rigOf('vmplanes');
    const id = oneRegs[0]!.id;
    const request = new Uint8Array(18);
    request.set(encode(KvmOneReg, { id, addr: 16n }));
    request.set([0xff, 0xff], 16);
    expect(word(rig.c.call(rig.vcpu(), 'KVM_SET_ONE_REG', request))).toBe('0');
    expect(rig.page().suspendedPlanes).toBe(0b1111);
    expect(word(rig.c.call(rig.vcpu(), 'KVM_GET_ONE_REG', request))).toBe('0');
    expect([...request.subarray(16)]).toEqual([0b1111, 0]);
    expect(word(rig.c.call(rig.fd(1), 'KVM_GET_ONE_REG', request))).toBe('EINVAL');
    const list = new Uint8Array(16);
    expect(word(rig.c.call(rig.vcpu(), 'KVM_GET_REG_LIST', list))).toBe('E2BIG');
    expect(word(rig.c.call(rig.vcpu(), 'KVM_GET_REG_LIST', list))).toBe('0');
    expect(new DataView(list.buffer).getBigUint64(8, true)).toBe(id);
  });

  it('Linux Documentation/virt/kvm/api.rst §4.31: a pending exception and its payload, with the capability', () => {
    const rig = rigOf('vmplanes');
    rig.c.must(rig.c.enableCap(rig.built.vmFd, Capability.EXCEPTION_PAYLOAD, 1));
    const e = rig.get(rig.fd(1), 'KVM_GET_VCPU_EVENTS', KvmVcpuEvents);
    const page = { ...e, flags: e.flags | VcpuEventValid.PAYLOAD, exception: { injected: 0, nr: 14, hasErrorCode: 1, pending: 1, errorCode: 2 }, exceptionHasPayload: 1, exceptionPayload: 0x1234n };
    expect(word(rig.set(rig.fd(1), 'KVM_SET_VCPU_EVENTS', KvmVcpuEvents, page))).toBe('0');
    const back = rig.get(rig.fd(1), 'KVM_GET_VCPU_EVENTS', KvmVcpuEvents);
    expect([back.exception, back.exceptionHasPayload, back.exceptionPayload]).toEqual([page.exception, 1, 0x1234n]);
    expect(word(rig.set(rig.fd(1), 'KVM_SET_VCPU_EVENTS', KvmVcpuEvents, { ...page, exception: { ...page.exception, injected: 1 } }))).toBe('EINVAL');
  });
});

describe('MP state, reset and SMM by VM type [vmplanes]', () => {
  const set = (rig: Rig, mpState: number): string => word(rig.set(rig.fd(1), 'KVM_SET_MP_STATE', KvmMpState, { mpState }));
  it('Linux Documentation/virt/kvm/api.rst §4.39: every state is read back; an unknown one is EINVAL', () => {
    const rig = rigOf('vmplanes');
    for (const s of [MpState.HALTED, MpState.UNINITIALIZED, MpState.INIT_RECEIVED, MpState.RUNNABLE]) {
      expect(set(rig, s)).toBe('0');
      expect(rig.get(rig.fd(1), 'KVM_GET_MP_STATE', KvmMpState).mpState).toBe(s);
    }
    expect([set(rig, 5), set(rig, 0xffff)]).toEqual(['EINVAL', 'EINVAL']);
  });
  it('without a local APIC in the kernel only RUNNABLE', () => {
    const rig = new Rig('vmplanes', { irqchip: 'none', planes: { 1: [0] } });
    expect([set(rig, MpState.HALTED), set(rig, MpState.RUNNABLE)]).toEqual(['EINVAL', '0']);
  });
  it('a VM whose state can be protected has neither reset by MP state nor system management mode', () => {
    const rig = new Rig('vmplanes', { type: 4, planes: { 1: [0] } });
    expect([set(rig, MpState.INIT_RECEIVED), set(rig, MpState.HALTED)]).toEqual(['EINVAL', '0']);
    const plain = rigOf('vmplanes');
    const smm = (of: Rig, fd: number): number => of.c.do(fd, 'KVM_CHECK_EXTENSION', Capability.X86_SMM);
    expect([smm(rig, rig.c.fd), smm(rig, rig.built.vmFd), smm(plain, plain.built.vmFd)]).toEqual([1, 0, 1]);
    expect([rig, plain].map((of) => word(of.c.call(of.vcpu(), 'KVM_SMI')))).toEqual(['ENOTTY', '0']);
    const e = rig.get(rig.fd(1), 'KVM_GET_VCPU_EVENTS', KvmVcpuEvents);
    expect(word(rig.set(rig.fd(1), 'KVM_SET_VCPU_EVENTS', KvmVcpuEvents, { ...e, smi: { ...e.smi, smm: 1 } }))).toBe('EINVAL');
  });
  it('Linux arch/x86/kvm/x86.c: protected state is EINVAL for register access, on all planes', () => {
    const rig = new Rig('vmplanes', { type: 4, planes: { 1: [0] } });
    expect(protectState(rig.vm)).toBe(true);
    for (const plane of [0, 1]) for (const name of ['KVM_GET_REGS', 'KVM_SET_SREGS', 'KVM_GET_XSAVE', 'KVM_GET_MSRS'] as const) expect(word(rig.c.call(rig.fd(plane), name, new Uint8Array(4096))), name).toBe('EINVAL');
    expect(word(rig.c.call(rig.fd(1), 'KVM_GET_LAPIC', new Uint8Array(1024)))).toBe('0');
    expect(protectState(rigOf('vmplanes').vm)).toBe(false);
  });
});

it('LKML 2025-04-01 RFC KVM: VM planes 21/29: general registers set by random bytes read back as legalised, and plane 0 never moves', () => {
  const rig = rigOf('vmplanes');
  const zero = rig.get(rig.fd(0), 'KVM_GET_REGS', KvmRegs);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: KvmRegs.size, maxLength: KvmRegs.size }), (bytes) => {
      expect(word(rig.c.call(rig.fd(1), 'KVM_SET_REGS', bytes.slice()))).toBe('0');
      const back = new Uint8Array(KvmRegs.size);
      rig.c.do(rig.fd(1), 'KVM_GET_REGS', back);
      expect(back.subarray(0, KvmRegs.at.rflags)).toEqual(bytes.subarray(0, KvmRegs.at.rflags));
      expect(back[KvmRegs.at.rflags]! & 2).toBe(2);
      expect(rig.get(rig.fd(0), 'KVM_GET_REGS', KvmRegs)).toEqual(zero);
    }),
    { numRuns: 50, seed: 1 },
  );
});
