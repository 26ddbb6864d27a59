import { ExitIo, KvmGuestDebug, KvmMpState, KvmRunPlanes, KvmVcpuEvents, MpState } from '@vmplanes/abi-kvm-planes';
import { Activity } from '@vmplanes/engine';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { apicRig, Rig, word } from './kit.ts';

const out = (port: number): Step => ({ op: 'out', port, value: 0 });
const dword = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const events = (rig: Rig, plane = 0) => rig.get(rig.fd(plane), 'KVM_GET_VCPU_EVENTS', KvmVcpuEvents);

describe('Linux Documentation/virt/kvm/api.rst §4.87: KVM_SET_GUEST_DEBUG', () => {
  const set = (rig: Rig, control: number): string => word(rig.set(rig.vcpu(), 'KVM_SET_GUEST_DEBUG', KvmGuestDebug, { control, debugreg: Array<bigint>(8).fill(0n) }));
  it('takes its seven bits and no others', () => {
    for (let n = 0; n < 32; n++) {
      const rig = new Rig('vmplanes');
      const isKnown = n < 2 || (n >= 16 && n <= 20);
      expect(set(rig, (1 << n) >>> 0), `bit ${n}`).toBe(isKnown ? '0' : 'EINVAL');
      expect(rig.vm.groups.get(0)!.guestDebug, `bit ${n}`).toBe(isKnown ? 1 << n : 0);
    }
  });
  it.each([[0x4_0001, 1], [0x8_0001, 3], [0xc_0001, 1]] as const)('control %i injects exception %i, once', (control, nr) => {
    const rig = new Rig('vmplanes');
    expect([set(rig, control), events(rig).exception, set(rig, control), set(rig, 1)]).toEqual(['0', { injected: 1, nr, hasErrorCode: 0, pending: 0, errorCode: 0 }, 'EBUSY', '0']);
    expect(rig.vm.groups.get(0)!.guestDebug).toBe(1);
  });
  it('an injected exception waits for an exception alone, and EBUSY leaves the control', () => {
    const rig = new Rig('vmplanes');
    set(rig, 3);
    rig.vm.arch.injectFault(rig.context(0), { code: 13, errorCode: 0, addressLo: 0, addressHi: 0 });
    expect([set(rig, 0x4_0001), rig.vm.groups.get(0)!.guestDebug, events(rig).exception.nr]).toEqual(['EBUSY', 3, 13]);
  });
  it('pointer and protected state', () => {
    const rig = new Rig('vmplanes', { type: 4 });
    rig.vm.isStateProtected = true;
    expect([word(rig.c.call(rig.vcpu(), 'KVM_SET_GUEST_DEBUG', null)), word(rig.c.call(rig.vcpu(), 'KVM_SET_GUEST_DEBUG', new Uint8Array(71))), set(rig, 1)]).toEqual(['EFAULT', 'EFAULT', 'EINVAL']);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.16: KVM_INTERRUPT', () => {
  const call = (rig: Rig, vector: number): string => word(rig.c.call(rig.vcpu(), 'KVM_INTERRUPT', dword(vector)));
  it('pointer, vector, then where the controllers are', () => {
    for (const [irqchip, expected] of [['none', '0'], ['split', '0'], ['full', 'ENXIO']] as const) {
      const rig = new Rig('2025-04', { irqchip });
      expect([word(rig.c.call(rig.vcpu(), 'KVM_INTERRUPT', null)), word(rig.c.call(rig.vcpu(), 'KVM_INTERRUPT', new Uint8Array(3))), call(rig, 256), call(rig, 0xffff_ffff), call(rig, 255)], irqchip).toEqual(['EFAULT', 'EFAULT', 'EINVAL', 'EINVAL', expected]);
    }
  });
  it('without controllers the vector is injected, and a halted vCPU runs again', () => {
    const rig = new Rig('vmplanes', { irqchip: 'none' }, { 0: { 0: { id: 'g', steps: [{ op: 'sti' }, { op: 'work' }, out(1)], handlers: { 0: [out(7)], 255: [out(2)] } } } });
    rig.context(0).activity = Activity.Halted;
    const e = events(rig);
    rig.set(rig.vcpu(), 'KVM_SET_VCPU_EVENTS', KvmVcpuEvents, { ...e, interrupt: { injected: 0, nr: 0, soft: 1, shadow: 0 } });
    expect([call(rig, 255), events(rig).interrupt, rig.context(0).activity]).toEqual(['0', { injected: 1, nr: 255, soft: 0, shadow: 0 }, Activity.Running]);
    rig.run();
    expect(rig.exit(ExitIo).port).toBe(2);
  });
  it('one that waits for a start-up signal goes on waiting', () => {
    const rig = new Rig('vmplanes', { irqchip: 'none' });
    rig.context(0).activity = Activity.WaitForSipi;
    expect([call(rig, 40), rig.context(0).activity]).toEqual(['0', Activity.WaitForSipi]);
  });
  it('with a split irqchip one external interrupt is held', () => {
    const rig = new Rig('vmplanes');
    expect([call(rig, 40), call(rig, 41), events(rig).interrupt.injected]).toEqual(['0', 'EEXIST', 0]);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.64: KVM_NMI and KVM_SMI', () => {
  it('each is pending in plane 0 alone', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } });
    const pending = (plane: number): readonly number[] => [events(rig, plane).nmi.pending, events(rig, plane).smi.pending];
    expect([pending(0), pending(1)]).toEqual([[0, 0], [0, 0]]);
    expect([word(rig.c.call(rig.vcpu(), 'KVM_NMI')), pending(0), pending(1)]).toEqual(['0', [1, 0], [0, 0]]);
    expect([word(rig.c.call(rig.vcpu(), 'KVM_SMI')), pending(0), pending(1)]).toEqual(['0', [1, 1], [0, 0]]);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.10: KVM_RUN begins and ends', () => {
  it('the interrupt window: asked for, without controllers, at the first moment the guest would take an interrupt', () => {
    const steps: readonly Step[] = [{ op: 'work' }, { op: 'work' }, { op: 'sti' }, { op: 'work' }, { op: 'work' }, out(1)];
    const at = (irqchip: 'none' | 'split', asks: boolean, prepare: (rig: Rig) => void = () => {}): string => {
      const rig = new Rig('vmplanes', { irqchip }, { 0: { 0: steps } });
      rig.page().bytes[0] = asks ? 1 : 0;
      prepare(rig);
      return `${word(rig.run())} ${rig.exitReason()} ${rig.vm.groups.get(0)!.vp.retired}`;
    };
    // Behind STI one more instruction is covered by its shadow.
    expect([at('none', true), at('none', false), at('split', true)]).toEqual(['0 7 4', '0 2 6', '0 2 6']);
    expect(at('none', true, (rig) => (rig.page().bytes[1] = 1))).toBe('EINTR 0 0');
    expect(at('none', true, (rig) => rig.c.system.raise(1, 3))).toBe('EINTR 10 0');
  });
  it('an answer that is still open is taken before the window is looked at', () => {
    const rig = new Rig('vmplanes', { irqchip: 'none' }, { 0: { 0: [{ op: 'sti' }, { op: 'work' }, { op: 'in', port: 4, size: 1 }, { op: 'work' }, out(1)] } });
    rig.run();
    rig.page().bytes[0] = 1;
    expect([word(rig.run()), rig.exitReason(), rig.vm.groups.get(0)!.vp.context.completion]).toEqual(['0', 7, null]);
  });
  it('immediate_exit holds for a run that begins, and in our profile for one that sleeps', () => {
    for (const [profile, expected] of [['2025-04', 'blocked'], ['vmplanes', 'EINTR']] as const) {
      const rig = apicRig(profile, [1], { 0: { 0: [{ op: 'hlt' }] } });
      expect(word(rig.run())).toBe('blocked');
      rig.page().bytes[KvmRunPlanes.at.immediateExit] = 1;
      expect(word(rig.again()), profile).toBe(expected);
    }
    const begins = apicRig('2025-04', [], { 0: { 0: [out(1)] } });
    begins.page().bytes[1] = 1;
    expect([word(begins.run()), begins.exitReason(), begins.vm.groups.get(0)!.inRun]).toEqual(['EINTR', 0, null]);
  });
  it('a vCPU that waits for INIT: neither a signal nor an immediate exit takes the INIT for it', () => {
    const waiting = (prepare: (rig: Rig) => void): readonly (string | number)[] => {
      const rig = apicRig('vmplanes', [], {}, { vcpus: [0, 1], planes: {} });
      rig.vm.arch.apicOf(rig.context(0, 1)).latches.acceptInit();
      prepare(rig);
      const result = word(rig.run(0, 0, 1));
      return result === 'blocked' ? [result] : [result, rig.get(rig.vcpu(1), 'KVM_GET_MP_STATE', KvmMpState).mpState];
    };
    expect(waiting(() => {})).toEqual(['EAGAIN', MpState.INIT_RECEIVED]);
    expect(waiting((rig) => (rig.page(1).bytes[1] = 1))).toEqual(['EINTR', MpState.UNINITIALIZED]);
    expect(waiting((rig) => rig.c.system.raise(1, 3))).toEqual(['EINTR', MpState.UNINITIALIZED]);
    // One that got its INIT before, by MP state, waits for the start-up signal.
    expect(waiting((rig) => void rig.set(rig.vcpu(1), 'KVM_SET_MP_STATE', KvmMpState, { mpState: MpState.INIT_RECEIVED }))).toEqual(['blocked']);
  });
  it('a plane is named, and a page that names none leaves everything as it was', () => {
    const rig = new Rig('vmplanes', { vcpus: [0, 1], planes: { 1: [0], 2: [1] } }, { 0: { 0: [out(1), out(1)], 1: [out(2)] } });
    expect([word(rig.run(1)), rig.exit(ExitIo).port, word(rig.run(2)), word(rig.run(4)), word(rig.run(16)), word(rig.run(0)), rig.exit(ExitIo).port]).toEqual(['0', 2, 'EINVAL', 'EINVAL', 'EINVAL', '0', 1]);
  });
  it('HLT sleeps in the kernel and is counted, or is an exit', () => {
    const rig = apicRig('vmplanes', [], { 0: { 0: [{ op: 'hlt' }, out(1)] } });
    expect([word(rig.run()), rig.context(0).activity, rig.context(0).vp.statistics.halts, rig.vm.counters.ofVm().halt_exits]).toEqual(['blocked', Activity.Halted, 1, 1]);
    const bare = new Rig('vmplanes', { irqchip: 'none' }, { 0: { 0: [{ op: 'hlt' }, out(1)] } });
    expect([word(bare.run()), bare.exitReason(), bare.context(0).activity, bare.context(0).vp.statistics.halts]).toEqual(['0', 5, Activity.Running, 0]);
    expect([word(bare.run()), bare.exitReason()]).toEqual(['0', 2]);
  });
  it('an idle VM: time passes, a timer that comes due is a request, and time never goes back', () => {
    const rig = apicRig('vmplanes', [], { 0: { 0: [{ op: 'work', cost: 500 }, out(1)] } });
    rig.editLapic(0, (view) => (view.setUint32(0x320, 0x40, true), view.setUint32(0x3e0, 0xb, true), view.setUint32(0x380, 1000, true), view.setUint32(0x390, 1000, true)));
    const { machine } = rig.vm;
    rig.vm.advance(999);
    expect([machine.time, rig.irr(0, 0x40)]).toEqual([999, false]);
    rig.vm.advance(1);
    expect([machine.time, rig.irr(0, 0x40)]).toEqual([1000, true]);
    rig.run();
    expect([machine.time > 1000, machine.timeOf(rig.context(0).vp)]).toEqual([true, machine.time]);
    const before = machine.time;
    rig.vm.advance(0);
    expect([machine.time, rig.context(0).vp.timeBase, rig.context(0).vp.timeRetired]).toEqual([before, before, rig.context(0).vp.retired]);
  });
});
