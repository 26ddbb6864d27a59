import { ExitIo, ExitReason, KvmGuestDebug, KvmRegs, KvmUserspaceMemoryRegion2, KvmVcpuEvents, NUMBERS } from '@vmplanes/abi-kvm-planes';
import { type Answer, type Claim, type Personality, type PlaneContext, Schedule } from '@vmplanes/engine';
import { type Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { apicRig, Rig, type RunnableProfile, word } from './kit.ts';

const out = (port: number): Step => ({ op: 'out', port, value: 0 });
const dword = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

describe('calls of the plane 0 vCPU', () => {
  it('Linux Documentation/virt/kvm/api.rst §4.16: KVM_INTERRUPT where userspace has the controllers', () => {
    const call = (rig: Rig, vector: number): string => word(rig.c.call(rig.vcpu(), 'KVM_INTERRUPT', dword(vector)));
    const none = new Rig('vmplanes', { irqchip: 'none' }, { 0: { 0: { id: 'g', steps: [{ op: 'sti' }, { op: 'work' }, out(1)], handlers: { 40: [out(2)] } } } });
    expect([call(none, 256), word(none.c.call(none.vcpu(), 'KVM_INTERRUPT', null)), call(none, 40)]).toEqual(['EINVAL', 'EFAULT', '0']);
    none.run();
    expect(none.exit(ExitIo).port).toBe(2);
    const split = new Rig('vmplanes');
    expect([call(split, 40), call(split, 40)]).toEqual(['0', 'EEXIST']);
    expect(call(new Rig('2025-04', { irqchip: 'full' }), 40)).toBe('ENXIO');
  });
  it('Linux Documentation/virt/kvm/api.rst §4.10: the interrupt window opens once the guest takes interrupts', () => {
    const rig = new Rig('vmplanes', { irqchip: 'none', planes: { 1: [0] } }, { 0: { 1: [{ op: 'work' }, { op: 'sti' }, { op: 'work' }, out(1)] } });
    rig.page().bytes[0] = 1;
    expect(word(rig.run(1))).toBe('0');
    expect([rig.exitReason(), rig.page().bytes[12]]).toEqual([ExitReason.IRQ_WINDOW_OPEN, 1]);
    rig.page().bytes[0] = 0;
    rig.run(1);
    expect(rig.exitReason()).toBe(ExitReason.IO);
  });
  it('Linux Documentation/virt/kvm/api.rst §4.64: KVM_NMI is for plane 0, whichever plane runs', () => {
    const rig = apicRig('vmplanes', [1], { 0: { 1: [out(1)] } });
    rig.run(1);
    rig.c.do(rig.vcpu(), 'KVM_NMI');
    const pending = (plane: number): number => rig.get(rig.fd(plane), 'KVM_GET_VCPU_EVENTS', KvmVcpuEvents).nmi.pending;
    expect([pending(0), pending(1)]).toEqual([1, 0]);
  });
  it('Linux Documentation/virt/kvm/api.rst §4.21: signal masks of another size or behind a bad pointer', () => {
    const rig = new Rig('vmplanes');
    const set = (bytes: Uint8Array | null): string => word(rig.c.call(rig.vcpu(), 'KVM_SET_SIGNAL_MASK', bytes));
    const sized = (n: number, length: number): Uint8Array => {
      const bytes = new Uint8Array(length);
      bytes[0] = n;
      return bytes;
    };
    expect([set(sized(4, 12)), set(sized(8, 6)), set(sized(8, 3)), set(sized(8, 12)), set(null)]).toEqual(['EINVAL', 'EFAULT', 'EFAULT', '0', '0']);
    expect(rig.vm.groups.get(0)!.signalMask).toBeNull();
  });
  it('Linux Documentation/virt/kvm/api.rst §4.87: debug control, and an injected exception that waits for another', () => {
    const rig = new Rig('vmplanes');
    const set = (control: number): string => word(rig.set(rig.vcpu(), 'KVM_SET_GUEST_DEBUG', KvmGuestDebug, { control, debugreg: new Array(8).fill(0n) }));
    expect([set(0x8000_0000), set(0x4_0001), set(0x8_0001), set(3)]).toEqual(['EINVAL', '0', 'EBUSY', '0']);
    expect(rig.get(rig.vcpu(), 'KVM_GET_VCPU_EVENTS', KvmVcpuEvents).exception).toMatchObject({ injected: 1, nr: 1 });
  });
  it('Linux Documentation/virt/kvm/api.rst §4.140: a region of the second form; guest memory files do not exist', () => {
    const rig = new Rig('vmplanes');
    const set = (flags: number): string => word(rig.set(rig.built.vmFd, 'KVM_SET_USER_MEMORY_REGION2', KvmUserspaceMemoryRegion2, { slot: 0, flags, guestPhysAddr: 0n, memorySize: 0x4000n, userspaceAddr: 0n, guestMemfdOffset: 0n, guestMemfd: 0 }));
    expect([set(4), set(0), word(rig.c.call(rig.built.vmFd, 'KVM_SET_USER_MEMORY_REGION2', new Uint8Array(32)))]).toEqual(['EINVAL', '0', 'EFAULT']);
    expect(rig.vm.machine.memory.slots.byId(0)!.pages).toBe(4);
  });
});

describe('LKML 2026-06-08 KVM Planes + SEV-SNP Support: scheduling in the kernel [2026-06]', () => {
  const guest = { 0: { 0: [out(1), out(1), out(1)], 1: [out(2), out(2)], 2: [out(3), out(3)] } };
  const rigOf = (): Rig => apicRig('2026-06', [1, 2], guest);
  const port = (rig: Rig): number => {
    expect(word(rig.run())).toBe('0');
    return rig.exit(ExitIo).port;
  };
  const schedules = (rig: Rig): number[] => [0, 1, 2].map((plane) => rig.context(plane).schedule);
  const set = (rig: Rig, plane: number, schedule: Schedule): void => rig.context(plane).vp.setSchedule(rig.context(plane), schedule);

  it('35/60: a plane vCPU is made stopped', () => {
    expect(schedules(rigOf())).toEqual([Schedule.Runnable, Schedule.Stopped, Schedule.Stopped]);
  });
  it('47/60: the lowest runnable plane runs', () => {
    const rig = rigOf();
    set(rig, 2, Schedule.Runnable);
    expect(port(rig)).toBe(1);
    set(rig, 0, Schedule.Stopped);
    expect(port(rig)).toBe(3);
    set(rig, 1, Schedule.Runnable);
    expect(port(rig)).toBe(2);
  });
  it('47/60: with none runnable, plane 0 is made so and taken', () => {
    const rig = rigOf();
    set(rig, 0, Schedule.Stopped);
    expect(port(rig)).toBe(1);
    expect(schedules(rig)[0]).toBe(Schedule.Runnable);
  });
  it('52/60: an interrupt of plane 0 that it could take stops every other plane; one of plane 2 does not stop plane 1', () => {
    const rig = rigOf();
    set(rig, 0, Schedule.Stopped);
    set(rig, 1, Schedule.Runnable);
    rig.msi(2, 192);
    expect(port(rig)).toBe(2);
    rig.msi(0, 192);
    expect(port(rig)).toBe(1);
  });
  it('00/60: kvm_run has no plane fields, so nothing that userspace writes there counts', () => {
    const rig = rigOf();
    rig.page().bytes.fill(0xff, 2, 8);
    expect(port(rig)).toBe(1);
    expect([rig.page().plane, rig.page().reqExitPlanes, rig.page().suspendedPlanes]).toEqual([0, 0, 0]);
  });
  it('59/60: planes need an SNP VM with a split irqchip', () => {
    const rig = new Rig('2026-06', { type: 0 });
    expect(word(rig.c.call(rig.built.vmFd, 'KVM_CREATE_PLANE', 1))).toBe('EINVAL');
    expect(rig.c.do(rig.built.vmFd, 'KVM_CHECK_EXTENSION', NUMBERS['2026-06'].capPlanes!)).toBe(1);
  });
});

it.each(['2025-04', 'vmplanes'] as const)('LKML 2025-04-01 RFC KVM: VM planes 22/29: one hundred runs that change planes keep every register of every plane [%s]', (profile: RunnableProfile) => {
  const rig = apicRig(profile, [1, 2], { 0: Object.fromEntries([0, 1, 2].map((p) => [p, { id: `p${p}`, steps: [{ op: 'out', port: p, value: 0, regs: { rbx: 0x100 + p } }, { op: 'jump', to: 0 }] as const }])) });
  for (let i = 0; i < 100; i++) {
    rig.run((i * 7) % 3);
    expect(rig.exit(ExitIo).port).toBe((i * 7) % 3);
  }
  expect([0, 1, 2].map((p) => rig.get(rig.fd(p), 'KVM_GET_REGS', KvmRegs).rbx)).toEqual([0x100n, 0x101n, 0x102n]);
});

/** A guest call goes to the other plane of 0 and 1 within the run. */
class Caller implements Personality {
  readonly name = 'caller';
  readonly stateName = 'caller';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'call', from: 1, to: 1 }];
  handle(context: PlaneContext): Answer {
    return context.vp.replies.switchTo(1 - context.plane, 'call', 'runnable');
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

it.each(['2025-04', 'vmplanes'] as const)('LKML 2025-04-01 RFC KVM: VM planes 22/29: a run that comes by itself to a plane with a device read open finishes it with the answer in the page [%s]', (profile) => {
  const read: Step = { op: 'read', gpa: 0xd000_0000, size: 4 };
  const rig = apicRig(profile, [1, 2], { 0: { 0: [read, out(1)], 1: [{ op: 'call' }, out(2)], 2: [out(3)] } });
  rig.vm.machine.addPersonality(new Caller());
  rig.run(0);
  const page = new DataView(rig.page().bytes.buffer);
  page.setUint32(40, 0x55, true);
  // A plane in between does not use the answer up.
  rig.run(2);
  expect(rig.exit(ExitIo).port).toBe(3);
  if (profile === '2025-04') page.setUint32(40, 0x66, true);
  rig.run(1);
  expect(rig.exit(ExitIo).port).toBe(1);
  expect(rig.get(rig.fd(0), 'KVM_GET_REGS', KvmRegs).rax).toBe(profile === '2025-04' ? 0x66n : 0x55n);
});
