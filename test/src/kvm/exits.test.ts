import {
  Capability, ExitDebug, ExitFailEntry, ExitIo, ExitMemoryFault, ExitMemoryFaultPlanes, ExitMmio, ExitMsr, EXIT_UNION_AT, EXIT_UNION_SIZE, KvmRegs, KvmSregs, KvmVcpuEvents, PlaneEvent2025, PlaneEvent2026,
} from '@vmplanes/abi-kvm-planes';
import { type Answer, type Claim, type ExitPayload, MemoryFaultInfo, type Personality, type PlaneContext, Right } from '@vmplanes/engine';
import type { GeneratorScript, Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { apicRig, encode, type Programs, Rig, type RunnableProfile, word } from './kit.ts';

const out: Step = { op: 'out', port: 1, value: 0 };

/** Tells userspace whatever the test wants when the guest makes a call. */
class Teller implements Personality {
  readonly name = 'teller';
  readonly stateName = 'teller';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'call', from: 1, to: 1 }];
  constructor(readonly payload: object) {}
  handle(context: PlaneContext): Answer {
    return context.vp.replies.exit(this.payload as ExitPayload);
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

/** A run whose plane tells the payload, over a shared page full of other bytes. @returns the result, reason and flags. */
const told = (payload: object, profile: RunnableProfile = 'vmplanes'): { readonly rig: Rig; readonly seen: readonly (string | number)[] } => {
  const rig = new Rig(profile, { planes: { 1: [0] } }, { 0: { 0: [{ op: 'call' }] } });
  rig.vm.machine.addPersonality(new Teller(payload));
  rig.page().bytes.fill(0xee, EXIT_UNION_AT, EXIT_UNION_AT + EXIT_UNION_SIZE);
  rig.page().bytes.fill(0xee, 12, 32);
  rig.page().pioData.fill(0xee);
  const result = word(rig.run(0));
  return { rig, seen: [result, rig.exitReason(), new DataView(rig.page().bytes.buffer).getUint16(14, true)] };
};
const restOf = (rig: Rig, size: number): boolean => rig.page().bytes.subarray(EXIT_UNION_AT + size, EXIT_UNION_AT + EXIT_UNION_SIZE).every((b) => b === 0);

describe('Linux include/uapi/linux/kvm.h: what KVM_RUN leaves in the shared page', () => {
  it.each([[1, [0xef]], [2, [0xef, 0xbe]], [4, [0xef, 0xbe, 0xad, 0xde]]] as const)('port output of %i bytes', (size, bytes) => {
    const { rig, seen } = told({ kind: 'io', write: true, port: 0xcf8, size, value: 0xdead_beef });
    expect([seen, rig.exit(ExitIo)]).toEqual([['0', 2, 0], { direction: 1, size, port: 0xcf8, count: 1, dataOffset: 4096n }]);
    expect([[...rig.page().pioData.subarray(0, size)], rig.page().pioData[size], restOf(rig, ExitIo.size)]).toEqual([bytes, 0xee, true]);
  });
  it('port input clears the place of the answer', () => {
    const { rig, seen } = told({ kind: 'io', write: false, port: 0x60, size: 2, value: 0xffff });
    expect([seen, rig.exit(ExitIo).direction, [...rig.page().pioData.subarray(0, 3)]]).toEqual([['0', 2, 0], 0, [0, 0, 0xee]]);
  });
  it.each([1, 2, 4, 8])('a device write of %i bytes', (size) => {
    const { rig, seen } = told({ kind: 'mmio', write: true, gpa: 0xf_e000_0008, size, lo: 0x8403_0201, hi: 0x8807_0605 });
    const e = rig.exit(ExitMmio);
    expect([seen, e.physAddr, e.len, e.isWrite, [...e.data]]).toEqual([['0', 6, 0], 0xf_e000_0008n, size, 1, [1, 2, 3, 0x84, 5, 6, 7, 0x88].map((b, i) => (i < size ? b : 0))]);
    expect(restOf(rig, ExitMmio.size)).toBe(true);
  });
  it('a device read shows no data', () => {
    const { rig, seen } = told({ kind: 'mmio', write: false, gpa: 0xe000_0000, size: 8, lo: 5, hi: 6 });
    const e = rig.exit(ExitMmio);
    expect([seen, e.isWrite, e.len, e.data.some((b) => b !== 0)]).toEqual([['0', 6, 0], 0, 8, false]);
  });
  it.each([['invalid', 1], ['unknown', 2], ['filter', 4]] as const)('MSR accesses, reason %s', (reason, number) => {
    const write = told({ kind: 'msr', write: true, index: 0xc000_0080, lo: 0x8000_0001, hi: 0x9000_0002, reason });
    expect([write.seen, write.rig.exit(ExitMsr)]).toEqual([['0', 30, 0], { error: 0, reservedPad: new Uint8Array(7), reason: number, index: 0xc000_0080, data: 0x9000_0002_8000_0001n }]);
    const read = told({ kind: 'msr', write: false, index: 7, lo: 1, hi: 2, reason });
    expect([read.seen, read.rig.exit(ExitMsr).reason, read.rig.exit(ExitMsr).data]).toEqual([['0', 29, 0], number, 0n]);
  });
  it('debug: #DB, where the plane is, its debug status and control', () => {
    const { rig, seen } = told({ kind: 'debug', dr6: 0xffff_4ff0 });
    const { rip } = rig.get(rig.vcpu(), 'KVM_GET_REGS', KvmRegs);
    expect([seen, rig.exit(ExitDebug)]).toEqual([['0', 4, 0], { exception: 1, reservedPad: 0, pc: rip, dr6: 0xffff_4ff0n, dr7: 0x400n }]);
  });
  it.each([['interruptWindow', 7, 0], ['hlt', 5, 0], ['shutdown', 8, 0], ['busLock', 33, 2]] as const)('%s: reason %i, flags %i', (kind, reason, flags) => {
    expect(told({ kind }).seen).toEqual(['0', reason, flags]);
  });
  it('an entry that was refused, on no processor in particular', () => {
    const { rig, seen } = told({ kind: 'entryRefused', plane: 0, reason: 'because' });
    expect([seen, rig.exit(ExitFailEntry)]).toEqual([['0', 9, 0], { hardwareEntryFailureReason: 0n, cpu: 0xffff_ffff, reserved: 0 }]);
  });
  it('what has no form here: UNKNOWN, and an empty union', () => {
    const { rig, seen } = told({ kind: 'something else' });
    expect([seen, restOf(rig, 0)]).toEqual([['0', 0, 0], true]);
  });

  const info = (fields: Partial<MemoryFaultInfo>): object => ({ kind: 'memoryFault', info: Object.assign(new MemoryFaultInfo(), { gpa: 0x12_3456_789a, missing: 1, plane: 3, instructionLength: 7, ...fields }) });
  const READ = 1n, WRITE = 2n, EXECUTE = 4n, PRIVATE = 8n;
  it.each([
    ['a read', Right.Read, READ], ['a write', Right.Write, WRITE], ['a shadow-stack write', Right.ShadowStack, WRITE], ['a fetch of the supervisor', Right.ExecSupervisor, EXECUTE], ['a fetch of the user', Right.ExecUser, EXECUTE],
    ['an exchange', Right.Read | Right.Write, READ | WRITE], ['all', 31, READ | WRITE | EXECUTE],
  ] as const)('memory fault: %s', (_, access, flags) => {
    const { rig, seen } = told(info({ access }));
    expect([seen, rig.exit(ExitMemoryFaultPlanes)]).toEqual([['EFAULT', 39, 0], { flags, gpa: 0x12_3456_789an, size: 1n, plane: 3, instructionLength: 7, reserved: new Uint8Array(5) }]);
    expect(told(info({ access, isPrivate: true })).rig.exit(ExitMemoryFaultPlanes).flags).toBe(flags | PRIVATE);
    expect(told(info({ access, missing: 0 })).rig.exit(ExitMemoryFaultPlanes).flags).toBe(0n);
    expect(restOf(rig, ExitMemoryFaultPlanes.size)).toBe(true);
  });
  it.each(['2025-04', '2026-06'] as const)('[%s] memory fault: the page', (profile) => {
    const { rig, seen } = told(info({ access: Right.Write }), profile);
    expect([seen, rig.exit(ExitMemoryFault), restOf(rig, ExitMemoryFault.size)]).toEqual([['EFAULT', 39, 0], { flags: WRITE, gpa: 0x12_3456_7000n, size: 0x1000n }, true]);
  });
  it.each([['2025-04', 40, 0xeeee, 0xeeee_eeee, 0xeeee_eeee_eeee_eeeen], ['vmplanes', 40, 0, 0, 0n]] as const)('LKML 2025-04-01 RFC KVM: VM planes 02/29: plane events, padding and hole [%s]', (profile, reason, padding, hole, extra) => {
    const { rig, seen } = told({ kind: 'planeEvent', cause: '', pending: 0xa5, target: 0x21, flags: 9 }, profile);
    expect([seen, rig.exit(PlaneEvent2025)]).toEqual([['0', reason, 0], { cause: 1, pendingEventPlanes: 0xa5, target: 0x21, reservedPadding: padding, flags: 9, reservedHole: hole, extra: Array<bigint>(8).fill(extra) }]);
    expect(rig.page().bytes[EXIT_UNION_AT + PlaneEvent2025.size]).toBe(profile === 'vmplanes' ? 0 : 0xee);
    expect(rig.vm.counters.of(rig.context(0)).plane_events).toBe(1);
  });
  it('LKML 2026-06-08 KVM Planes + SEV-SNP Support 57/60: a vCPU is asked for in the series alone', () => {
    const payload = { kind: 'createVcpu', plane: 5, apicId: 0x8000_0007 };
    const { rig, seen } = told(payload, '2026-06');
    expect([seen, rig.exit(PlaneEvent2026)]).toEqual([['0', 44, 0], { cause: 1, plane: 5, extra: [0x8000_0007n, 0n, 0n, 0n, 0n, 0n, 0n, 0n] }]);
    for (const profile of ['2025-04', 'vmplanes'] as const) {
      const other = told(payload, profile);
      expect([other.seen, restOf(other.rig, 0)]).toEqual([['0', 0, 0], true]);
    }
  });
});

describe('answers that userspace leaves in the shared page', () => {
  const rax = (rig: Rig): bigint => rig.get(rig.vcpu(), 'KVM_GET_REGS', KvmRegs).rax;
  const start = 0x1111_2222_3333_4444n;
  const after = (step: Step, answer: (page: DataView) => void): Rig => {
    const rig = new Rig('vmplanes', {}, { 0: { 0: [{ ...step, regs: { rax: start, rdx: start } }, out] } });
    rig.run();
    answer(new DataView(rig.page().bytes.buffer));
    expect([word(rig.run()), rig.exitReason()]).toEqual(['0', 2]);
    return rig;
  };
  it.each([[1, 0x1111_2222_3333_44f8n], [2, 0x1111_2222_3333_e7f8n], [4, 0x85f6_e7f8n]] as const)('to port input of %i bytes', (size, expected) => {
    expect(rax(after({ op: 'in', port: 5, size }, (page) => page.setUint32(4096, 0x85f6_e7f8, true)))).toBe(expected);
  });
  it.each([[1, 0x1111_2222_3333_44f8n], [2, 0x1111_2222_3333_e7f8n], [4, 0x85f6_e7f8n], [8, 0x81f2_e3f4_85f6_e7f8n]] as const)('to device reads of %i bytes', (size, expected) => {
    expect(rax(after({ op: 'read', gpa: 0xe000_0000, size }, (page) => page.setBigUint64(32 + 8, 0x81f2_e3f4_85f6_e7f8n, true)))).toBe(expected);
  });
  const msrRig = (step: Step, answer: (page: DataView) => void): Rig => {
    const rig = new Rig('vmplanes', {}, { 0: { 0: [{ ...step, regs: { rax: start, rdx: start } }, out] } });
    rig.c.must(rig.c.enableCap(rig.built.vmFd, Capability.X86_USER_SPACE_MSR, 2));
    rig.run();
    answer(new DataView(rig.page().bytes.buffer));
    rig.run();
    return rig;
  };
  it('to MSR reads and writes: the value in EDX:EAX, or #GP', () => {
    const good = msrRig({ op: 'rdmsr', index: 0x1234 }, (page) => page.setBigUint64(32 + 16, 0x81f2_e3f4_85f6_e7f8n, true));
    const regs = good.get(good.vcpu(), 'KVM_GET_REGS', KvmRegs);
    expect([regs.rax, regs.rdx, good.exitReason()]).toEqual([0x85f6_e7f8n, 0x81f2_e3f4n, 2]);
    for (const step of [{ op: 'rdmsr', index: 0x1234 }, { op: 'wrmsr', index: 0x1234, value: 5 }] as const) {
      const vectors = (answer: (page: DataView) => void): number => {
        const script: GeneratorScript = {
          id: 'g',
          *main() {
            const { fault } = yield step;
            yield { op: 'out', port: fault?.vector ?? 1, value: 0 };
          },
        };
        const rig = new Rig('vmplanes', {}, { 0: { 0: script } });
        rig.c.must(rig.c.enableCap(rig.built.vmFd, Capability.X86_USER_SPACE_MSR, 2));
        rig.run();
        answer(new DataView(rig.page().bytes.buffer));
        rig.run();
        return rig.exit(ExitIo).port;
      };
      expect([vectors((page) => page.setUint8(32, 0x80)), vectors(() => {})], step.op).toEqual([13, 1]);
    }
  });
});

describe('Linux Documentation/virt/kvm/api.rst §6.74 KVM_CAP_SYNC_REGS: registers through the page', () => {
  const guest: Programs = { 0: { 0: [out, out], 1: [out, out] } };
  const rigOf = (irqchip: 'split' | 'none' = 'split'): Rig => new Rig('vmplanes', { planes: { 1: [0] }, irqchip }, guest);
  const AT = { regs: 304, sregs: 304 + 144, events: 304 + 144 + 312 } as const;
  const masks = (rig: Rig, valid: bigint, dirty: bigint): DataView => {
    const view = new DataView(rig.page().bytes.buffer);
    view.setBigUint64(288, valid, true);
    view.setBigUint64(296, dirty, true);
    return view;
  };
  it('each part is stored when asked for, at its place', () => {
    for (const [bit, layout, name, at] of [[1n, KvmRegs, 'KVM_GET_REGS', AT.regs], [2n, KvmSregs, 'KVM_GET_SREGS', AT.sregs], [4n, KvmVcpuEvents, 'KVM_GET_VCPU_EVENTS', AT.events]] as const) {
      const rig = rigOf();
      masks(rig, bit, 0n);
      rig.page().syncRegs.fill(0xee);
      rig.run(1);
      const bytes = new Uint8Array(layout.size);
      rig.c.do(rig.fd(1), name, bytes);
      expect([...rig.page().bytes.subarray(at, at + layout.size)]).toEqual([...bytes]);
      const others = rig.page().bytes.subarray(304, 2352).filter((_, i) => i < at - 304 || i >= at - 304 + layout.size);
      expect(others.every((b) => b === 0xee)).toBe(true);
    }
  });
  it('each part is loaded when it is dirty, and is clean then', () => {
    const rig = rigOf();
    const view = masks(rig, 0n, 7n);
    rig.page().syncRegs.set(encode(KvmRegs, { ...rig.get(rig.fd(1), 'KVM_GET_REGS', KvmRegs), r15: 0x99n }), 0);
    rig.page().syncRegs.set(encode(KvmSregs, { ...rig.get(rig.fd(1), 'KVM_GET_SREGS', KvmSregs), cr2: 0x77n }), 144);
    rig.page().syncRegs.set(encode(KvmVcpuEvents, { ...rig.get(rig.fd(1), 'KVM_GET_VCPU_EVENTS', KvmVcpuEvents), nmi: { injected: 0, pending: 0, masked: 1, reservedPad: 0 } }), 456);
    expect(word(rig.run(1))).toBe('0');
    expect([rig.get(rig.fd(1), 'KVM_GET_REGS', KvmRegs).r15, rig.get(rig.fd(1), 'KVM_GET_SREGS', KvmSregs).cr2, rig.get(rig.fd(1), 'KVM_GET_VCPU_EVENTS', KvmVcpuEvents).nmi.masked, view.getBigUint64(296, true)]).toEqual([0x99n, 0x77n, 1, 0n]);
    expect(rig.get(rig.fd(0), 'KVM_GET_REGS', KvmRegs).r15).toBe(0n);
  });
  it.each([[8n, 0n], [0n, 8n], [1n << 63n, 0n], [0n, 1n << 63n]])('valid %i, dirty %i: EINVAL', (valid, dirty) => {
    const rig = rigOf();
    masks(rig, valid, dirty);
    expect([word(rig.run(0)), rig.vm.groups.get(0)!.inRun, rig.vm.groups.get(0)!.hasRun]).toEqual(['EINVAL', null, false]);
  });
  it('values that are not legal: EINVAL; what was loaded before them is clean', () => {
    const rig = rigOf();
    const view = masks(rig, 0n, 7n);
    rig.page().syncRegs.set(encode(KvmRegs, { ...rig.get(rig.fd(0), 'KVM_GET_REGS', KvmRegs), r15: 0x99n }), 0);
    rig.page().syncRegs.set(encode(KvmSregs, { ...rig.get(rig.fd(0), 'KVM_GET_SREGS', KvmSregs), cr0: 1n << 40n }), 144);
    expect([word(rig.run(0)), view.getBigUint64(296, true), rig.get(rig.fd(0), 'KVM_GET_REGS', KvmRegs).r15, rig.vm.groups.get(0)!.inRun]).toEqual(['EINVAL', 6n, 0x99n, null]);
  });
  it('CR8 goes in through the page without a local APIC in the kernel, and not with one', () => {
    for (const [irqchip, expected] of [['none', 5n], ['split', 0n]] as const) {
      const rig = rigOf(irqchip);
      new DataView(rig.page().bytes.buffer).setBigUint64(16, 0x15n, true);
      rig.run(1);
      expect([rig.get(rig.fd(1), 'KVM_GET_SREGS', KvmSregs).cr8, new DataView(rig.page().bytes.buffer).getBigUint64(16, true)], irqchip).toEqual([expected, expected]);
    }
  });
});

describe('Linux Documentation/virt/kvm/api.rst §5: ready_for_interrupt_injection, if_flag', () => {
  const ready = (rig: Rig): readonly (number | undefined)[] => [rig.page().bytes[12], rig.page().bytes[13]];
  it('with a local APIC in the kernel always ready', () => {
    const rig = apicRig('vmplanes', [], { 0: { 0: [out, { op: 'sti' }, { op: 'work' }, out] } });
    rig.run();
    expect(ready(rig)).toEqual([1, 0]);
    rig.run();
    expect(ready(rig)).toEqual([1, 1]);
  });
  it.each([[true, 0, 0, 1], [false, 0, 0, 0], [true, 1, 0, 0], [true, 2, 0, 0], [true, 0, 1, 0]] as const)('without one: IF %s, shadow %i, injected %i', (flag, shadow, injected, expected) => {
    const rig = new Rig('vmplanes', { irqchip: 'none' }, { 0: { 0: [out] } });
    rig.set(rig.vcpu(), 'KVM_SET_REGS', KvmRegs, { ...rig.get(rig.vcpu(), 'KVM_GET_REGS', KvmRegs), rflags: flag ? 0x202n : 2n });
    const e = rig.get(rig.vcpu(), 'KVM_GET_VCPU_EVENTS', KvmVcpuEvents);
    rig.set(rig.vcpu(), 'KVM_SET_VCPU_EVENTS', KvmVcpuEvents, { ...e, interrupt: { injected, nr: 0x30, soft: 0, shadow } });
    rig.page().bytes[1] = 1;
    expect([word(rig.run()), ...ready(rig)]).toEqual(['EINTR', expected, flag ? 1 : 0]);
  });
});
