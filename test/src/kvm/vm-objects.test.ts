import { Capability, KvmMpState, KvmSregs, KvmUserspaceMemoryRegion } from '@vmplanes/abi-kvm-planes';
import { HostError, PlaneId } from '@vmplanes/engine';
import { inside, kvmBehaviour, kvmBehaviours, KvmClient } from '@vmplanes/kvm';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { apicRig, client, encode, profiles, Rig, word } from './kit.ts';

const out: Step = { op: 'out', port: 1, value: 0 };
const messageOf = (use: () => unknown): string => {
  try {
    use();
    return 'none';
  } catch (error) {
    return `${error instanceof HostError ? error.code : error instanceof Error ? error.name : ''}: ${error instanceof Error ? error.message : String(error)}`;
  }
};

describe('a client', () => {
  it('knows requests by name, those of planes by profile', () => {
    expect([client('2025-04').request('KVM_CREATE_PLANE'), client('2025-04').request('KVM_CREATE_VCPU_PLANE'), client('2026-06').request('KVM_CREATE_PLANE'), client('vmplanes').request('KVM_RUN')]).toEqual([0xaed6, 0xaed7, 0xaee4, 0xae80]);
    expect(messageOf(() => client('2026-06').request('KVM_CREATE_VCPU_PLANE'))).toBe('RangeError: KVM_CREATE_VCPU_PLANE: no number in profile 2026-06');
  });
  it('says why a call has no value', () => {
    const c = client('vmplanes');
    expect([c.must({ ret: 7 }), messageOf(() => c.must({ errno: 'EIO' })), messageOf(() => c.must({ pending: 'busy' }))]).toEqual([7, 'BadState: the call failed with EIO', 'BadState: the call is busy']);
    expect(messageOf(() => c.do(c.fd, 'KVM_RUN'))).toBe('BadState: the call failed with EINVAL');
  });
  it('builds what a plan says, in the order that every draft accepts', () => {
    const plain = client('vmplanes').build();
    expect([plain.vmFd, [...plain.vcpus], [...plain.planes], plain.vm.type.id, plain.vm.irqchip]).toEqual([4, [[0, 5]], [[0, 4]], 0, 'split']);
    expect([client('2026-06').build().vm.type.id, client('2025-04').build({ irqchip: 'full' }).vm.irqchip, client('2025-04').build({ irqchip: 'none', type: 1 }).vm.type.id]).toEqual([4, 'full', 1]);
    const built = client('vmplanes').build({ vcpus: [3, 9], planes: { 1: [9], 2: [] } });
    expect([[...built.vcpus.keys()], [...built.planes.keys()], [...built.planeVcpus].map(([plane, ids]) => [plane, ...ids.keys()])]).toEqual([[3, 9], [0, 1, 2], [[0, 3, 9], [1, 9], [2]]]);
    expect(messageOf(() => client('vmplanes').build({ vcpus: [0], planes: { 1: [5] } }))).toBe('BadState: the call failed with EBADF');
    expect([inside(built, 9).group.id, inside(built, 9).plane(1).plane, messageOf(() => inside(built, 4))]).toEqual([9, 1, 'NoSuchVp: no vCPU 4']);
  });
  it('calls for another process when it is told to', () => {
    const c = new KvmClient({ profile: 'vmplanes' }, { mm: 8, thread: 9 });
    const { vmFd, vm } = c.build();
    expect([vm.mm, word(c.call(vmFd, 'KVM_GET_TSC_KHZ')), word(c.call(vmFd, 'KVM_GET_TSC_KHZ', 0, { mm: 1, thread: 9 }))]).toEqual([8, '1000000', 'EIO']);
  });
});

it('what the drafts do, beside what their ABI says', () => {
  const { policy, rule, timers, marksPlanesEarly, planeLocksCpuid, completion, groupRegisters, statistics, mutex } = kvmBehaviours['2026-06'];
  expect([policy, rule, timers, marksPlanesEarly, planeLocksCpuid, completion, groupRegisters, statistics, mutex]).toEqual(['lowest-runnable', 'deliverable', 'all', false, false, 'nextRun', ['mtrr', 'mcg'], 'perObject', 'group']);
  for (const profile of profiles) expect([kvmBehaviour(profile), kvmBehaviours[profile].profile]).toEqual([kvmBehaviours[profile], profile]);
  expect(messageOf(() => kvmBehaviour('2024-10'))).toBe('BadConfig: profile 2024-10 names calls without numbers: nothing of it can run');
});

describe('a vCPU', () => {
  const sregs = (rig: Rig, plane: number, id: number) => rig.get(rig.fd(plane, id), 'KVM_GET_SREGS', KvmSregs);
  it('has its id as APIC id in every plane; the one with id 0 is the boot processor', () => {
    const rig = new Rig('vmplanes', { vcpus: [5, 0, 2], planes: { 1: [5, 0] } });
    const id = (plane: number, vcpu: number): number => new DataView(rig.lapic(plane, vcpu).buffer).getUint32(0x20, true);
    expect([id(0, 5), id(1, 5), id(0, 0), id(1, 0), id(0, 2)]).toEqual([5 << 24, 5 << 24, 0, 0, 2 << 24]);
    expect([[0, 5], [1, 5], [0, 0], [1, 0], [0, 2]].map(([plane, vcpu]) => sregs(rig, plane!, vcpu!).apicBase)).toEqual([0xfee0_0800n, 0xfee0_0800n, 0xfee0_0900n, 0xfee0_0900n, 0xfee0_0800n]);
    rig.enableApic(1, 5);
    expect([rig.msi(1, 0x61, 5), rig.irr(1, 0x61, 5), word(rig.msi(1, 0x61, 1))].map((r) => (typeof r === 'object' ? word(r) : r))).toEqual(['1', true, 'EPERM']);
    rig.c.must(rig.c.enableCap(rig.built.vmFd, Capability.X2APIC_API, 1));
    expect(id(1, 5)).toBe(5);
  });
  it.each([['split', 1], ['none', 0]] as const)('that is not the boot processor waits with irqchip %s: state %i, in every plane', (irqchip, state) => {
    const rig = new Rig('vmplanes', { irqchip, vcpus: [0, 1], planes: { 1: [0, 1] } });
    const of = (plane: number, id: number): number => rig.get(rig.fd(plane, id), 'KVM_GET_MP_STATE', KvmMpState).mpState;
    expect([of(0, 0), of(1, 0), of(0, 1), of(1, 1)]).toEqual([0, 0, state, state]);
    expect([rig.vm.groups.get(0)!.uninitialized, rig.vm.groups.get(1)!.uninitialized]).toEqual([0, state === 1 ? 0b11 : 0]);
  });
  it('a VM has 16 vCPUs by default, and planes by its profile', () => {
    const [ours, rfc, series] = (['vmplanes', '2025-04', '2026-06'] as const).map((p) => client(p).build({ vcpus: [] }).vm);
    expect([ours, rfc, series].map((vm) => [vm!.maxVcpus, vm!.planeCount, vm!.planeMask, vm!.machine.options.maxVps, vm!.machine.options.maxPlanes])).toEqual([[16, 4, 0xf, 16, 4], [16, 16, 0xffff, 16, 16], [16, 4, 0xf, 16, 16]]);
    expect([client('2025-04').system.maxVcpus, client('2025-04', {}, { maxVcpus: 3 }).system.maxVcpus, client('2025-04', {}, { maxVcpus: 3 }).build().vm.maxVcpus]).toEqual([16, 3, 3]);
  });
  it('a dirty ring holds its bytes in entries of 16, 64 of them for what one exit may still write', () => {
    const after = (writes: number): readonly (string | number)[] => {
      const steps = [...Array.from({ length: writes }, (_, i): Step => ({ op: 'write', gpa: i * 4096, value: 1 })), out, out];
      const c = client('vmplanes', { 0: { 0: steps } });
      const vmFd = c.do(c.fd, 'KVM_CREATE_VM');
      c.must(c.enableCap(vmFd, Capability.DIRTY_LOG_RING, 4096));
      const vcpu = c.do(vmFd, 'KVM_CREATE_VCPU', 0);
      c.do(vmFd, 'KVM_SET_USER_MEMORY_REGION', encode(KvmUserspaceMemoryRegion, { slot: 0, flags: 1, guestPhysAddr: 0n, memorySize: 0xe_0000n, userspaceAddr: 0n }));
      const vm = c.system.vmOf(vmFd)!;
      const view = new DataView(vm.groups.get(0)!.page.bytes.buffer);
      return [word(c.call(vcpu, 'KVM_RUN')), view.getUint32(8, true), word(c.call(vcpu, 'KVM_RUN')), view.getUint32(8, true)];
    };
    // 256 entries less 64.
    expect([after(191), after(192)]).toEqual([['0', 2, '0', 2], ['0', 2, '0', 31]]);
  });
});

describe('statistics by profile', () => {
  const steps: readonly Step[] = [out, { op: 'read', gpa: 0xe000_0000 }, { op: 'rdmsr', index: 0x10 }, { op: 'write', gpa: 0x1000, value: 1 }];
  it.each(profiles)('[%s] every kind of exit is counted where it happened', (profile) => {
    const rig = apicRig(profile, [], { 0: { 0: steps, 1: steps }, 1: { 0: [out, out] } }, { vcpus: [0, 1], planes: { 1: [0] } });
    rig.vm.machine.memory.addSlot({ id: 0, gpa: 0, size: 0x4000 });
    rig.vm.machine.memory.permissions[0]!.set(1, 1, 1);
    for (let i = 0; i < 3; i++) rig.run(0);
    rig.set(rig.vcpu(1), 'KVM_SET_MP_STATE', KvmMpState, { mpState: 0 });
    for (let i = 0; i < 2; i++) rig.run(0, 0, 1);
    const { counters } = rig.vm;
    const { entries, exits, ...zero } = counters.of(rig.context(0));
    expect(zero).toEqual({ io_exits: 1, mmio_exits: 1, msr_exits: 1, halt_exits: 0, memory_faults: 1, plane_events: 0 });
    expect([exits >= 4, entries >= 3]).toEqual([true, true]);
    expect([counters.of(rig.context(0, 1)).io_exits, counters.ofGroup(1).io_exits, counters.ofGroup(0).io_exits, counters.ofGroup(9).io_exits, counters.ofVm().io_exits, counters.ofVm().mmio_exits]).toEqual([2, 2, 1, 0, 3, 1]);
    const copy = counters.of(rig.context(0)) as { io_exits: number };
    copy.io_exits = 99;
    expect(counters.of(rig.context(0)).io_exits).toBe(1);
    // Restored rows are what was saved, and what was there before is gone.
    const saved = structuredClone(counters.save());
    rig.run(0, 0, 1);
    counters.restore(saved);
    expect([counters.save(), counters.of(rig.context(0, 1)).io_exits]).toEqual([saved, 2]);
    counters.restore([[0, 5]]);
    expect([counters.ofVm().exits, counters.ofVm().entries]).toEqual([5, 0]);
  });
  it('rows of sixteen planes do not meet', () => {
    const rig = new Rig('vmplanes', { vcpus: [0, 1] }, {}, { maxPlanes: 16 });
    const vp = rig.vm.machine.vps[0]!;
    const last = rig.vm.machine.createPlane(vp, PlaneId(15));
    rig.vm.counters.planeEvent(last);
    expect([rig.vm.counters.of(last).plane_events, rig.vm.counters.of(rig.context(0, 1)).plane_events, rig.vm.counters.of(rig.context(0)).plane_events, rig.vm.counters.ofGroup(0).plane_events]).toEqual([1, 0, 0, 1]);
  });
});
