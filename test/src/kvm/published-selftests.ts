import { Capability, KvmCpuid2, KvmRegs, NUMBERS, numberOf } from '@vmplanes/abi-kvm-planes';
import { expect } from 'vitest';
import { client, Rig, type RunnableProfile, word } from './kit.ts';

/** The published tests, one function per case, re-stated from their observable behaviour. */
type Scenario = (profile: RunnableProfile) => void;

const barebones = (profile: RunnableProfile): Rig => new Rig(profile, { irqchip: profile === '2026-06' ? 'split' : 'none' });
const withPlane = (profile: RunnableProfile): Rig => new Rig(profile, { irqchip: profile === '2026-06' ? 'split' : 'none', planes: { 1: [0] } });

const XSTATE_BV = 0x200;
const XMM0 = 0xa0;
const PKRU = 0xa80;

const xsaveOf = (rig: Rig, plane: number): DataView => {
  const image = new Uint8Array(4096);
  rig.c.do(rig.fd(plane), 'KVM_GET_XSAVE', image);
  return new DataView(image.buffer);
};
const setXmm0 = (rig: Rig, plane: number, value: number): void => {
  const image = xsaveOf(rig, plane);
  image.setUint32(XSTATE_BV, image.getUint32(XSTATE_BV, true) | 3, true);
  image.setUint32(XMM0, value, true);
  rig.c.do(rig.fd(plane), 'KVM_SET_XSAVE', new Uint8Array(image.buffer));
};
const xmm0 = (rig: Rig, plane: number): number => xsaveOf(rig, plane).getUint32(XMM0, true);
const setPkru = (rig: Rig, plane: number, value: number): void => {
  const image = new DataView(new ArrayBuffer(4096));
  image.setUint32(XSTATE_BV, 1 << 9, true);
  image.setUint32(24, 0x1f80, true);
  image.setUint32(PKRU, value, true);
  rig.c.do(rig.fd(plane), 'KVM_SET_XSAVE', new Uint8Array(image.buffer));
};
const pkru = (rig: Rig, plane: number): number => xsaveOf(rig, plane).getUint32(PKRU, true);

/** A processor with PKU; the images below use the place that its CPUID leaf 0xD.9 gives. */
const pkuModel = { x86: { cpuModel: 'epyc-like' } };

const emptyCpuid = (rig: Rig): void => {
  rig.c.do(rig.vcpu(), 'KVM_SET_CPUID2', new Uint8Array(KvmCpuid2.header.size));
};

const sharedFpu = (profile: RunnableProfile): Rig => {
  const c = client(profile, {}, pkuModel);
  const vmFd = c.do(c.fd, 'KVM_CREATE_VM');
  const cap = numberOf(profile, 'capPlanesFpu');
  expect(c.do(vmFd, 'KVM_CHECK_EXTENSION', cap)).toBe(0);
  expect(word(c.enableCap(vmFd, cap, 1))).toBe('0');
  expect(c.do(vmFd, 'KVM_CHECK_EXTENSION', cap)).toBe(1);
  const vcpu = c.do(vmFd, 'KVM_CREATE_VCPU', 0);
  const planeFd = c.do(vmFd, 'KVM_CREATE_PLANE', 1);
  const planeVcpu = c.must(c.createPlaneVcpu(planeFd, vcpu, 0));
  const rig = Object.create(Rig.prototype) as Rig;
  const vcpus = new Map([[0, vcpu]]);
  Object.assign(rig, { c, built: { vmFd, vm: c.system.vmOf(vmFd), vcpus, planes: new Map([[0, vmFd], [1, planeFd]]), planeVcpus: new Map([[0, vcpus], [1, new Map([[0, planeVcpu]])]]) } });
  return rig;
};

/** Planes 0 and 1 of vCPU 0 with their APICs on and MSI 192 sent through the fd of plane 1. The guest of either plane would leave a trace in RAX. */
const msiRig = (profile: RunnableProfile): Rig => {
  const steps = [{ op: 'work', regs: { rax: 1 } }] as const;
  const irqchip = profile === '2025-04' ? 'full' : 'split';
  const rig = new Rig(profile, { irqchip, planes: { 1: [0] } }, { 0: { 0: steps, 1: steps } });
  rig.enableApic(0);
  rig.enableApic(1);
  expect(word(rig.msi(1, 192))).toBe('1');
  return rig;
};
const expectNothingRan = (rig: Rig): void => {
  expect(rig.vm.groups.get(0)!.vp.retired).toBe(0);
  for (const plane of [0, 1]) expect(rig.get(rig.fd(plane), 'KVM_GET_REGS', KvmRegs).rax).toBe(0n);
};

export const publishedSelftests: Readonly<Record<string, Scenario>> = {
  'generic.errors.plane0': (p) => {
    const rig = barebones(p);
    expect(word(rig.c.call(rig.built.vmFd, 'KVM_CREATE_PLANE', 0))).toBe('EEXIST');
  },
  'generic.errors.too-high': (p) => {
    const rig = barebones(p);
    // The system fd of the later series always answers 1: the largest number of planes is asked of the VM there.
    const fd = p === '2026-06' ? rig.built.vmFd : rig.c.fd;
    const cap = rig.c.do(fd, 'KVM_CHECK_EXTENSION', NUMBERS[p].capPlanes!);
    expect(cap).toBeGreaterThan(1);
    expect(word(rig.c.call(rig.built.vmFd, 'KVM_CREATE_PLANE', cap))).toBe('EINVAL');
  },
  'generic.errors.vcpu-plane-on-vm': (p) => {
    const rig = barebones(p);
    const request = NUMBERS[p].createVcpuPlane ?? NUMBERS['2025-04'].createVcpuPlane!;
    expect(word(rig.c.system.ioctl(rig.c.caller, rig.built.vmFd, request, rig.vcpu()))).toBe('ENOTTY');
  },
  'generic.basic.cap-planes': (p) => {
    const rig = withPlane(p);
    expect(word(rig.c.call(rig.planeFd(1), 'KVM_CHECK_EXTENSION', NUMBERS[p].capPlanes!))).toBe(p === '2026-06' ? 'ENOTTY' : '0');
  },
  'generic.basic.cap-check-extension': (p) => {
    const rig = withPlane(p);
    expect(word(rig.c.call(rig.planeFd(1), 'KVM_CHECK_EXTENSION', Capability.CHECK_EXTENSION_VM))).toBe(p === '2026-06' ? 'ENOTTY' : '1');
  },
  'generic.basic.plane-twice': (p) => {
    const rig = withPlane(p);
    expect(word(rig.c.call(rig.built.vmFd, 'KVM_CREATE_PLANE', 1))).toBe('EEXIST');
  },
  'generic.basic.vcpu': (p) => {
    expect(withPlane(p).fd(1)).toBeGreaterThanOrEqual(0);
  },
  'generic.basic.vcpu-twice': (p) => {
    const rig = withPlane(p);
    expect(word(rig.c.createPlaneVcpu(rig.planeFd(1), rig.vcpu(), 0))).toBe('EEXIST');
  },
  'generic.basic.run-on-plane': (p) => {
    const rig = withPlane(p);
    expect(word(rig.c.call(rig.planeFd(1), 'KVM_RUN'))).toBe('ENOTTY');
  },

  'x86.regs': (p) => {
    const rig = withPlane(p);
    const values = [0x1234_5678n, 0x8765_4321n];
    values.forEach((rax, plane) => rig.set(rig.fd(plane), 'KVM_SET_REGS', KvmRegs, { ...rig.get(rig.fd(plane), 'KVM_GET_REGS', KvmRegs), rax }));
    expect(values.map((_, plane) => rig.get(rig.fd(plane), 'KVM_GET_REGS', KvmRegs).rax)).toEqual(values);
  },
  'x86.fpu-separate': (p) => {
    const rig = barebones(p);
    if (NUMBERS[p].capPlanesFpu !== undefined) expect(rig.c.do(rig.built.vmFd, 'KVM_CHECK_EXTENSION', NUMBERS[p].capPlanesFpu)).toBe(0);
    emptyCpuid(rig);
    const separate = withPlane(p);
    setXmm0(separate, 0, 0x1234_5678);
    setXmm0(separate, 1, 0x8765_4321);
    expect([xmm0(separate, 0), xmm0(separate, 1)]).toEqual([0x1234_5678, 0x8765_4321]);
  },
  'x86.fpu-shared': (p) => {
    const rig = sharedFpu(p);
    setXmm0(rig, 0, 0x1234_5678);
    expect(xmm0(rig, 1)).toBe(0x1234_5678);
    setXmm0(rig, 1, 0x8765_4321);
    expect(xmm0(rig, 0)).toBe(0x8765_4321);
  },
  'pkru.separate': (p) => {
    const rig = sharedFpu(p);
    setPkru(rig, 0, 0xffff_ffff);
    setPkru(rig, 1, 0xffff_ffff);
    setPkru(rig, 0, 0xaaaa_aaaa);
    expect(pkru(rig, 1)).toBe(0xffff_ffff);
    setPkru(rig, 1, 0x5555_5555);
    expect(pkru(rig, 0)).toBe(0xaaaa_aaaa);
  },
  'x86.msi.a': (p) => {
    const rig = msiRig(p);
    expect([rig.irr(0, 192), rig.irr(1, 192)]).toEqual([false, true]);
  },
  'x86.msi.b': (p) => {
    const rig = msiRig(p);
    expect(word(rig.run(0, 0b10))).toBe('0');
    expect(rig.event()).toBe('10/10');
    expectNothingRan(rig);
  },
  'x86.msi.c': (p) => {
    const rig = msiRig(p);
    expect(word(rig.msi(0, 192))).toBe('1');
    expect(rig.irr(0, 192)).toBe(true);
  },
  'x86.msi.d': (p) => {
    const rig = msiRig(p);
    rig.run(0, 0b10);
    rig.msi(0, 192);
    expect(word(rig.run(1, 0b11))).toBe('0');
    // The strict mask cleared its own bit on entry; computed masks show every plane that has something.
    expect(rig.event()).toBe(p === '2025-04' ? '1/1' : '11/1');
    expectNothingRan(rig);
  },
};
