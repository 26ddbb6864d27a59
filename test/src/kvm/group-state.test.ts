import { Capability } from '@vmplanes/abi-kvm-planes';
import type { Cpu } from '@vmplanes/engine';
import { KvmClient } from '@vmplanes/kvm';
import { ScriptCpu, type Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { client, profiles, Rig, word } from './kit.ts';

const out: Step = { op: 'out', port: 1, value: 0 };
const looping: readonly Step[] = [out, out, out];
const MTRR_DEF_TYPE = 0x2ff;
const MTRR_PHYS_BASE0 = 0x200;
const MCG_STATUS = 0x17a;
const PAT = 0x277;
const TSC = 0x10;

describe('LKML 2026-06-08 KVM Planes + SEV-SNP Support 00/60: memory types and machine-check status exist once per vCPU', () => {
  const rows: readonly (readonly [string, number, bigint])[] = [
    ['IA32_MTRR_DEF_TYPE', MTRR_DEF_TYPE, 0xc06n],
    ['IA32_MTRR_PHYSBASE0', MTRR_PHYS_BASE0, 0x8000_0006n],
    ['IA32_MCG_STATUS', MCG_STATUS, 4n],
  ];
  for (const profile of profiles) {
    const isShared = profile !== '2025-04';
    it.each(rows)(`%s [${profile}]: ${isShared ? 'one for all planes' : 'one per plane'}`, (_name, index, value) => {
      const rig = new Rig(profile, { planes: { 1: [0] } }, { 0: { 0: looping, 1: looping } });
      const before = rig.getMsr(rig.fd(0), index);
      expect(rig.setMsr(rig.fd(1), index, value)).toBe(1);
      expect([rig.getMsr(rig.fd(1), index), rig.getMsr(rig.fd(0), index)]).toEqual([value, isShared ? value : before]);
      // The same after the vCPU ran in the other plane.
      rig.run(1);
      rig.run(0);
      expect([rig.getMsr(rig.fd(1), index), rig.getMsr(rig.fd(0), index)]).toEqual([value, isShared ? value : before]);
    });
    it(`[${profile}] a plane made later sees them, and its own PAT`, () => {
      const rig = new Rig(profile, { planes: { 1: [] } });
      rig.setMsr(rig.fd(0), MTRR_DEF_TYPE, 0xc06n);
      rig.setMsr(rig.fd(0), PAT, 0x0606_0606_0606_0606n);
      const fd = rig.c.must(rig.c.createPlaneVcpu(rig.planeFd(1), rig.vcpu(), 0));
      expect([rig.getMsr(fd, MTRR_DEF_TYPE) === 0xc06n, rig.getMsr(fd, PAT) === 0x0606_0606_0606_0606n]).toEqual([isShared, false]);
    });
  }
  it.each(['2025-04', 'vmplanes'] as const)('[%s] a shared FPU leaves them as they are', (profile) => {
    const c = client(profile);
    const vm = c.do(c.fd, 'KVM_CREATE_VM');
    c.must(c.enableCap(vm, 240, 1));
    const { machine } = c.system.vmOf(vm)!;
    expect([machine.sharing.isShared('st0'), machine.sharing.isShared('mtrrDefType')]).toEqual([true, profile === 'vmplanes']);
  });
});

describe('Linux api.rst KVM_SET_TSC_KHZ, KVM_GET_TSC_KHZ; LKML 2025-04-01 RFC KVM: VM planes 13/29, 24/29: TSC frequency', () => {
  const HOST = 1_000_000;
  for (const profile of profiles) {
    it(`[${profile}] scales the counter of plane 0 alone`, () => {
      const rig = new Rig(profile, { planes: { 1: [0] } });
      const khz = (): number => rig.c.do(rig.vcpu(), 'KVM_GET_TSC_KHZ');
      expect(khz()).toBe(HOST);
      expect(rig.c.do(rig.vcpu(), 'KVM_SET_TSC_KHZ', 2_500_000)).toBe(0);
      expect(khz()).toBe(2_500_000);
      rig.vm.advance(1_000_000);
      expect([rig.getMsr(rig.fd(0), TSC), rig.getMsr(rig.fd(1), TSC)]).toEqual([2_500_000n, 1_000_000n]);
      // Zero asks for the frequency of the host.
      rig.c.do(rig.vcpu(), 'KVM_SET_TSC_KHZ', 0);
      expect([khz(), rig.getMsr(rig.fd(0), TSC)]).toEqual([HOST, 1_000_000n]);
    });
    it(`[${profile}] is refused on plane vCPUs, which have that of the VM`, () => {
      const rig = new Rig(profile, { planes: { 1: [] } });
      expect([rig.c.do(rig.built.vmFd, 'KVM_GET_TSC_KHZ'), rig.c.do(rig.built.vmFd, 'KVM_SET_TSC_KHZ', 3_000_000)]).toEqual([HOST, 0]);
      expect(rig.c.do(rig.built.vmFd, 'KVM_GET_TSC_KHZ')).toBe(3_000_000);
      const fd = rig.c.must(rig.c.createPlaneVcpu(rig.planeFd(1), rig.vcpu(), 0));
      expect([word(rig.c.call(fd, 'KVM_SET_TSC_KHZ', 5)), word(rig.c.call(fd, 'KVM_GET_TSC_KHZ'))]).toEqual(['EINVAL', 'EINVAL']);
      rig.vm.advance(1000);
      expect([rig.getMsr(rig.vcpu(), TSC), rig.getMsr(fd, TSC), rig.c.do(rig.vcpu(), 'KVM_GET_TSC_KHZ')]).toEqual([1000n, 3000n, HOST]);
      expect(word(rig.c.call(rig.planeFd(1), 'KVM_GET_TSC_KHZ'))).toBe('ENOTTY');
    });
  }
  it('bounds: the largest ratio of the processor and the tolerance of an unscaled counter', () => {
    const rig = new Rig('vmplanes');
    const set = (khz: number): string => word(rig.c.call(rig.vcpu(), 'KVM_SET_TSC_KHZ', khz));
    expect([set(1), set(255_999_998), set(255_999_999), set(256_000_000), set(0xffff_ffff)]).toEqual(['0', '0', 'EINVAL', 'EINVAL', 'EINVAL']);
    expect(rig.c.do(rig.vcpu(), 'KVM_GET_TSC_KHZ')).toBe(255_999_998);
    rig.vm.advance(1_000_000);
    for (const [khz, ticks] of [[999_750, 1_000_000n], [999_749, 999_748n], [1_000_250, 1_000_000n], [1_000_251, 1_000_250n]] as const) {
      set(khz);
      const tsc = rig.getMsr(rig.vcpu(), TSC);
      expect([tsc === ticks || tsc === ticks + 1n, khz], String(tsc)).toEqual([true, khz]);
    }
  });
  it('an armed deadline of the local APIC moves with the counter', () => {
    const rig = new Rig('vmplanes');
    rig.enableApic(0);
    rig.editLapic(0, (view) => view.setUint32(0x320, 0x4_0040, true));
    rig.setMsr(rig.vcpu(), 0x6e0, 4_000_000n);
    rig.c.do(rig.vcpu(), 'KVM_SET_TSC_KHZ', 4_000_000);
    rig.vm.advance(999_999);
    expect(rig.irr(0, 0x40)).toBe(false);
    rig.vm.advance(2);
    expect(rig.irr(0, 0x40)).toBe(true);
  });
  it('the frequencies are part of the saved state', () => {
    const make = (): KvmClient => client('vmplanes');
    const c = make();
    const built = c.build({ planes: { 1: [0] } });
    c.do(built.vmFd, 'KVM_SET_TSC_KHZ', 3_000_000);
    c.do(built.vcpus.get(0)!, 'KVM_SET_TSC_KHZ', 2_000_000);
    const saved = structuredClone(c.system.save());
    const again = make();
    again.system.close(again.fd);
    again.system.restore(saved);
    expect([again.do(built.vmFd, 'KVM_GET_TSC_KHZ'), again.do(built.vcpus.get(0)!, 'KVM_GET_TSC_KHZ')]).toEqual([3_000_000, 2_000_000]);
  });
  it.each([Capability.TSC_CONTROL, Capability.GET_TSC_KHZ, Capability.VM_TSC_CONTROL])('capability %i is there', (cap) => {
    const rig = new Rig('vmplanes');
    expect([rig.c.do(rig.c.fd, 'KVM_CHECK_EXTENSION', cap), rig.c.do(rig.built.vmFd, 'KVM_CHECK_EXTENSION', cap)]).toEqual([1, 1]);
  });
});

describe('LKML 2025-04-01 RFC KVM: VM planes 10/29: statistics', () => {
  const expected = { '2025-04': [3, 3, 3], '2026-06': [1, 2, 1], vmplanes: [1, 2, 3] } as const;
  it.each(profiles)('[%s] count into the objects that the draft has', (profile) => {
    const rig = new Rig(profile, { planes: { 1: [0] } }, { 0: { 0: looping, 1: looping } });
    const { policy } = rig.vm.machine;
    rig.run(0);
    if (profile === '2026-06') policy.switchTo(rig.context(0).vp, rig.context(1), 'stopped');
    rig.run(1);
    rig.run(1);
    const { counters } = rig.vm;
    expect([counters.of(rig.context(0)).io_exits, counters.of(rig.context(1)).io_exits, counters.ofGroup(0).io_exits]).toEqual(expected[profile]);
    expect(counters.ofVm().io_exits).toBe(3);
  });
});

describe('a processor that breaks down', () => {
  it('leaves no vCPU marked as running', () => {
    let isBroken = true;
    const c = new KvmClient({
      profile: 'vmplanes',
      vm: {
        machine: { memoryBytes: 1 << 16 },
        cpu: (machine, arch, vp) => {
          const script = new ScriptCpu(machine, arch, { 0: { script: { id: `vp${vp.index}`, steps: looping } } });
          const broken: Cpu = {
            run: (...args) => {
              if (isBroken) throw new RangeError('broken');
              return script.run(...args);
            },
            save: () => script.save(),
            restore: (state) => script.restore(state),
          };
          return broken;
        },
      },
    });
    const built = c.build({ vcpus: [0, 1] });
    expect(() => c.call(built.vcpus.get(0)!, 'KVM_RUN')).toThrow(/broken/);
    expect(built.vm.machine.activeVp).toBe(-1);
    isBroken = false;
  });
});
