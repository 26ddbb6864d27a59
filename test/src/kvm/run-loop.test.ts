import { ExitIo, ExitReason, KvmGuestDebug, KvmLapicState, KvmMpState, KvmRunPlanes, MpState } from '@vmplanes/abi-kvm-planes';
import { type Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { apicRig, client, encode, type Programs, Rig, word } from './kit.ts';

const VECTOR = 192;
const out = (port: number): Step => ({ op: 'out', port, value: 0 });
const many = (port: number): readonly Step[] => [{ op: 'sti' }, { op: 'work' }, ...Array.from({ length: 20 }, () => out(port))];
const taker = (id: string, port: number): { id: string; steps: readonly Step[]; handlers: Record<string, readonly Step[]> } => ({ id, steps: many(port), handlers: { [VECTOR]: [{ op: 'eoi' }, out(port + 10)] } });
const programs: Programs = { 0: { 0: taker('zero', 1), 1: taker('one', 2), 2: taker('two', 3) } };
const strict = (planes: readonly number[] = [1], p: Programs = programs): Rig => apicRig('2025-04', planes, p);

const seen = (rig: Rig): string => (rig.exitReason() === ExitReason.IO ? `port ${rig.exit(ExitIo).port}` : rig.event());
const group = (rig: Rig) => rig.vm.groups.get(0)!.vp;

describe('LKML 2025-04-01 RFC KVM: VM planes 29/29: the pending mask through the x86 selftest [2025-04]', () => {
  it('clears the bit of the plane that enters and sets it again from IRR when it leaves', () => {
    const rig = strict();
    const vp = group(rig);
    expect(vp.pending).toBe(0b00);
    expect(word(rig.msi(1, VECTOR))).toBe('1');
    expect(vp.pending).toBe(0b10);
    rig.run(0, 0b10);
    expect([seen(rig), vp.pending]).toEqual(['10/10', 0b10]);
    expect(word(rig.msi(0, VECTOR))).toBe('1');
    expect(vp.pending).toBe(0b11);
    rig.run(1, 0b11);
    expect([seen(rig), vp.pending]).toEqual(['1/1', 0b11]);
    expect([rig.irr(0, VECTOR), rig.irr(1, VECTOR)]).toEqual([true, true]);
  });
});

describe('LKML 2025-04-01 RFC KVM: VM planes 25/29: when exactly the plane event appears [2025-04]', () => {
  it('pending only for the plane that runs: no exit, the vector is injected', () => {
    const rig = strict();
    rig.msi(0, VECTOR);
    rig.run(0, 0b11);
    expect(seen(rig)).toBe('port 11');
  });
  it('pending for both, the other requested: exit shows the other', () => {
    const rig = strict();
    rig.msi(0, VECTOR);
    rig.msi(1, VECTOR);
    rig.run(0, 0b10);
    expect(seen(rig)).toBe('10/10');
  });
  it('... and the plane that runs too when a new interrupt for it came after entry', () => {
    const rig = strict();
    rig.msi(1, VECTOR);
    rig.vm.machine.hooks.preemption = { at: (point) => void (point === 'enter:cleared' && rig.msi(0, VECTOR)) };
    rig.run(0, 0b10);
    expect(seen(rig)).toBe('11/10');
  });
  it('pending, not requested: no exit; the bit stays and is reported with the next exit that is built', () => {
    const rig = strict([1, 2]);
    rig.msi(1, VECTOR);
    rig.run(0, 0);
    expect([seen(rig), group(rig).pending]).toEqual(['port 1', 0b010]);
    rig.msi(2, VECTOR);
    rig.run(0, 0b100);
    expect(seen(rig)).toBe('110/100');
  });
  it('requested and run again unchanged: exits for ever', () => {
    const rig = strict();
    rig.msi(1, VECTOR);
    for (let i = 0; i < 5; i++) {
      rig.run(0, 0b10);
      expect(seen(rig)).toBe('10/10');
    }
  });
  it('another reason to exit goes first; the plane event comes with the next run', () => {
    const rig = strict();
    rig.msi(1, VECTOR);
    rig.page().bytes[KvmRunPlanes.at.immediateExit] = 1;
    expect(word(rig.run(0, 0b10))).toBe('EINTR');
    rig.page().bytes[KvmRunPlanes.at.immediateExit] = 0;
    rig.run(0, 0b10);
    expect(seen(rig)).toBe('10/10');
  });
  it('userspace runs a third plane instead: looked at afresh for it, and the old request does no harm', () => {
    const rig = strict([1, 2]);
    rig.msi(1, VECTOR);
    rig.run(0, 0b010);
    rig.run(2, 0);
    expect(seen(rig)).toBe('port 3');
    rig.run(2, 0b010);
    expect(seen(rig)).toBe('10/10');
    rig.run(0, 0);
    expect(seen(rig)).toBe('port 1');
  });
  it('an interrupt while the bit is set already: not signalled again', () => {
    const rig = strict();
    const marks: string[] = [];
    rig.msi(1, VECTOR);
    rig.vm.machine.hooks.preemption = { at: (point) => void marks.push(point) };
    rig.msi(1, VECTOR + 1);
    expect(marks).toEqual(['deliver:stored']);
  });
  it('the mask is read once, when the run begins', () => {
    const rig = apicRig('vmplanes', [1], { 0: { 0: { id: 'sleep', steps: [{ op: 'hlt' }] } } });
    expect(word(rig.run(0, 0))).toBe('blocked');
    new DataView(rig.page().bytes.buffer).setUint16(KvmRunPlanes.at.reqExitPlanes, 0b10, true);
    rig.msi(1, VECTOR);
    expect(word(rig.again())).toBe('blocked');
  });
  it('bits of planes that cannot exist are ignored in the mask', () => {
    const rig = apicRig('vmplanes', [1], programs);
    rig.run(0, 0xfff0);
    expect(seen(rig)).toBe('port 1');
    expect(group(rig).asked).toBe(0);
  });
  it('with plane 0 alone the mechanism is inert', () => {
    const rig = strict([]);
    rig.msi(0, VECTOR);
    expect(group(rig).pending).toBe(0);
    rig.run(0, 0xffff);
    expect(seen(rig)).toBe('port 11');
  });
});

describe('LKML 2025-04-01 RFC KVM: VM planes 25/29: what resets what [2025-04]', () => {
  const sticky: readonly (readonly [string, (rig: Rig) => void])[] = [
    ['a raised task priority', (rig) => rig.editLapic(1, (view) => view.setUint32(0x80, 0xf0, true))],
    ['a disabled APIC', (rig) => void rig.setMsr(rig.fd(1), 0x1b, 0xfee0_0000n)],
    ['KVM_SET_LAPIC without the request', (rig) => rig.editLapic(1, (view) => view.setUint8(0x260, 0))],
    ['INIT', (rig) => void rig.vm.arch.apicOf(rig.context(1)).latches.acceptInit()],
  ];
  it.each(sticky)('the bit of a plane that does not run survives %s', (_, change) => {
    const rig = strict();
    rig.msi(1, VECTOR);
    change(rig);
    rig.run(0, 0b10);
    expect(seen(rig)).toBe('10/10');
  });
  it('the mask of requests is what the last entry read; the fields of the page are never written', () => {
    const rig = strict();
    const { bytes } = rig.page();
    new DataView(bytes.buffer).setUint16(KvmRunPlanes.at.suspendedPlanes, 0xbeef, true);
    rig.run(1, 0b11);
    expect(group(rig).reqExit).toBe(0b01);
    expect([bytes[2], new DataView(bytes.buffer).getUint16(4, true), new DataView(bytes.buffer).getUint16(6, true)]).toEqual([1, 0xbeef, 0b11]);
    rig.run(0, 0);
    expect(group(rig).reqExit).toBe(0);
  });
  it('exit_reason is UNKNOWN once the loop has begun', () => {
    const rig = strict([1], { 0: { 0: { id: 'sleep', steps: [out(1), { op: 'hlt' }] } } });
    rig.run();
    expect(rig.exitReason()).toBe(ExitReason.IO);
    expect(word(rig.run())).toBe('blocked');
    expect(rig.exitReason()).toBe(ExitReason.UNKNOWN);
  });
  it('the request to look again is consumed even when it leads to no exit', () => {
    const rig = strict();
    rig.msi(1, VECTOR);
    const vp = group(rig);
    vp.recheck = 0b01;
    rig.run(0, 0);
    expect([seen(rig), vp.recheck]).toEqual(['port 1', 0]);
  });
});

describe('one owner of what exists once per vCPU [vmplanes]', () => {
  const sleepers: Programs = { 0: { 0: { id: 'zero', steps: [{ op: 'hlt' }] }, 1: { id: 'one', steps: [{ op: 'hlt' }] } } };

  it('LKML 2025-06, S. Christopherson on RFC KVM: VM planes 10/29: the signal mask of the vCPU holds while plane 1 runs', () => {
    const rig = apicRig('vmplanes', [1], sleepers);
    const mask = new Uint8Array(12);
    new DataView(mask.buffer).setUint32(0, 8, true);
    new DataView(mask.buffer).setBigUint64(4, 1n << 9n, true);
    rig.c.do(rig.vcpu(), 'KVM_SET_SIGNAL_MASK', mask);
    expect(word(rig.run(1))).toBe('blocked');
    rig.c.system.raise(1, 10);
    expect(word(rig.again())).toBe('blocked');
    rig.c.system.raise(1, 12);
    expect(word(rig.again())).toBe('EINTR');
    rig.c.system.take(1, 12);
    expect(word(rig.run(1))).toBe('blocked');
  });
  it('... and so does its debug control', () => {
    const rig = apicRig('vmplanes', [1], sleepers);
    rig.c.do(rig.vcpu(), 'KVM_SET_GUEST_DEBUG', encode(KvmGuestDebug, { control: 1, debugreg: new Array(8).fill(0n) }));
    rig.run(1);
    expect(rig.vm.groups.get(0)!.guestDebug).toBe(1);
  });
  it('LKML 2025-04-21, T. Lendacky on RFC KVM: VM planes 13/29: plane 0 takes the index counter, other planes copy its index', () => {
    const rig = apicRig('vmplanes', [], {}, { vcpus: [0, 1], planes: { 1: [1] } });
    expect([...rig.vm.groups.values()].map((g) => g.vp.index)).toEqual([0, 1]);
    expect(rig.context(1, 1).vp).toBe(rig.context(0, 1).vp);
    expect(word(rig.c.call(rig.built.vmFd, 'KVM_CREATE_VCPU', 2))).not.toBe('EEXIST');
    expect(rig.vm.groups.get(2)!.vp.index).toBe(2);
  });
  it('LKML 2026-06, fuzzer report on KVM Planes + SEV-SNP Support: a second creator meets the first one at every step and gets EEXIST', () => {
    const rig = apicRig('vmplanes', [], {}, { vcpus: [0], planes: { 1: [] } });
    const other: string[] = [];
    rig.vm.machine.hooks.preemption = { at: () => void other.push(word(rig.c.createPlaneVcpu(rig.planeFd(1), rig.vcpu(), 0))) };
    expect(word(rig.c.createPlaneVcpu(rig.planeFd(1), rig.vcpu(), 0))).not.toBe('EEXIST');
    rig.vm.machine.hooks.preemption = null;
    expect(other.length).toBeGreaterThan(0);
    expect(new Set(other)).toEqual(new Set(['busy']));
    expect(word(rig.c.createPlaneVcpu(rig.planeFd(1), rig.vcpu(), 0))).toBe('EEXIST');
  });
  it('the run holds the lock of the group: another thread waits for every plane of it', () => {
    const rig = apicRig('vmplanes', [1], sleepers);
    rig.run(0);
    const other = { mm: 1, thread: 2 };
    expect([rig.vcpu(), rig.fd(1)].map((fd) => word(rig.c.call(fd, 'KVM_GET_REGS', new Uint8Array(144), other)))).toEqual(['busy', 'busy']);
    expect(word(rig.c.call(rig.vcpu(), 'KVM_RUN', 0, other))).toBe('busy');
  });
  it('KVM 72d12715edcd: a vCPU whose creation failed leaves nothing to run and may be created again', () => {
    const c = client('vmplanes', {}, {}, { fds: 3 });
    const built = c.build({ vcpus: [] });
    const file = c.must(c.system.openOther());
    expect(word(c.call(built.vmFd, 'KVM_CREATE_VCPU', 0))).toBe('EMFILE');
    expect([built.vm.groups.size, built.vm.machine.vps.length]).toEqual([0, 0]);
    c.system.close(file);
    expect(word(c.call(built.vmFd, 'KVM_CREATE_VCPU', 0))).toBe(String(file));
  });
  it('LKML 2025-04-01 RFC KVM: VM planes 09/29: closing a plane fd drops a reference, the plane stays', () => {
    const rig = apicRig('vmplanes', [1]);
    rig.c.system.close(rig.planeFd(1));
    expect(word(rig.c.call(rig.planeFd(1), 'KVM_SIGNAL_MSI'))).toBe('EBADF');
    expect(word(rig.c.call(rig.built.vmFd, 'KVM_CREATE_PLANE', 1))).toBe('EEXIST');
    expect(rig.irr(1, VECTOR)).toBe(false);
  });
});

describe('starting and stopping [vmplanes]', () => {
  it('Linux Documentation/virt/kvm/api.rst §4.38: another processor waits for INIT and SIPI in every plane; the run that saw INIT returns EAGAIN', () => {
    const rig = apicRig('vmplanes', [], { 1: { 1: { id: 'started', steps: [out(7)] } } }, { vcpus: [0, 1], planes: { 1: [0, 1] } });
    const state = (plane: number): number => rig.get(rig.fd(plane, 1), 'KVM_GET_MP_STATE', KvmMpState).mpState;
    expect([state(0), state(1)]).toEqual([MpState.UNINITIALIZED, MpState.UNINITIALIZED]);
    expect(word(rig.run(1, 0, 1))).toBe('blocked');
    rig.vm.arch.apicOf(rig.context(1, 1)).latches.acceptInit();
    expect(word(rig.again(1))).toBe('EAGAIN');
    expect([state(0), state(1)]).toEqual([MpState.UNINITIALIZED, MpState.INIT_RECEIVED]);
    rig.vm.arch.apicOf(rig.context(1, 1)).latches.acceptSipi(0x10);
    expect(word(rig.run(1, 0, 1))).toBe('0');
    expect([rig.exit(ExitIo, 1).port, state(1)]).toEqual([7, MpState.RUNNABLE]);
  });
  it('KVM_EXIT_HLT where userspace has the interrupt controllers', () => {
    const rig = apicRig('vmplanes', [1], { 0: { 0: { id: 'zero', steps: [{ op: 'hlt' }] } } });
    expect(word(rig.run())).toBe('blocked');
    const bare = new Rig('vmplanes', { irqchip: 'none' }, { 0: { 0: { id: 'zero', steps: [{ op: 'hlt' }] } } });
    expect(word(bare.run())).toBe('0');
    expect(bare.exitReason()).toBe(ExitReason.HLT);
    expect(word(bare.c.call(bare.vcpu(), 'KVM_GET_LAPIC', new Uint8Array(KvmLapicState.size)))).toBe('EINVAL');
  });
  it('a run without an end is handed back after a slice and goes on with the same call', () => {
    const rig = apicRig('vmplanes', [1], { 0: { 0: { id: 'busy', steps: [{ op: 'work', cost: 6000 }, { op: 'work', cost: 6000 }, out(1)] } } });
    expect(word(rig.run())).toBe('preempted');
    expect(word(rig.again())).toBe('0');
    expect(rig.exitReason()).toBe(ExitReason.IO);
  });
});
