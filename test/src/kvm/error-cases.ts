import { Capability, Ioctl, KvmCpuid2, KvmCpuidEntry2, KvmMemoryAttributes, KvmMsi, MemoryAttribute, NUMBERS, type PlaneIoctl } from '@vmplanes/abi-kvm-planes';
import { type KvmClient, type KvmResult } from '@vmplanes/kvm';
import { apicRig, client, encode, Rig, type RunnableProfile } from './kit.ts';

/** Carries out one row of the error table. `2026-06` needs a split irqchip and an SNP VM for anything with planes; the rig sees to it. */
type Case = (profile: RunnableProfile) => KvmResult;

const onVm = (name: PlaneIoctl, argument: number | bigint): Case => (p) => {
  const rig = new Rig(p);
  return rig.c.call(rig.built.vmFd, name, argument);
};
const onPlane = (name: PlaneIoctl, argument: number | bigint = 0): Case => (p) => {
  const rig = new Rig(p, { planes: { 1: [0] } });
  return rig.c.call(rig.planeFd(1), name, argument);
};
const onPlaneVcpu = (name: PlaneIoctl): Case => (p) => {
  const rig = new Rig(p, { planes: { 1: [0] } });
  return rig.c.call(rig.fd(1), name, new Uint8Array(4096));
};
/** A VM with plane 1, and an argument that the test takes from it. */
const vcpuPlane = (argument: (rig: Rig) => number | bigint, vm = {}): Case => (p) => {
  const rig = new Rig(p, { vcpus: [0], planes: { 1: [] } }, {}, vm);
  return rig.c.call(rig.planeFd(1), 'KVM_CREATE_VCPU_PLANE', argument(rig));
};

const limited = (limits: object, use: (c: KvmClient, fd: number) => KvmResult): Case => (p) => {
  const c = client(p, {}, {}, limits);
  const built = c.build({ vcpus: [] });
  return use(c, built.vmFd);
};

const msi = (fields: object, plan: ConstructorParameters<typeof Rig>[1] = {}): Case => (p) => {
  const rig = new Rig(p, plan);
  return rig.c.call(rig.built.vmFd, 'KVM_SIGNAL_MSI', encode(KvmMsi, { addressLo: 0xfee0_0000, addressHi: 0, data: 192, flags: 0, devid: 0, ...fields }));
};

interface Attributes { readonly address?: bigint; readonly size?: bigint; readonly attributes?: bigint; readonly flags?: bigint }
const attributes = (fields: Attributes, plane = 0, type?: number): Case => (p) => {
  const rig = new Rig(p, { planes: { 1: [] }, ...(type === undefined ? {} : { type }) });
  return rig.c.call(rig.planeFd(plane), 'KVM_SET_MEMORY_ATTRIBUTES', encode(KvmMemoryAttributes, { address: 0x1000n, size: 0x1000n, attributes: 0n, flags: 0n, ...fields }));
};

const fpuCap = (p: RunnableProfile): number => NUMBERS[p].capPlanesFpu ?? NUMBERS['2025-04'].capPlanesFpu!;
const fpu = (arg: number, flags = 0, type = 0, vcpus: readonly number[] = []): Case => (p) => {
  const c = client(p);
  const vm = c.do(c.fd, 'KVM_CREATE_VM', type);
  for (const id of vcpus) c.do(vm, 'KVM_CREATE_VCPU', id);
  return c.enableCap(vm, fpuCap(p), arg, flags);
};

const cpuid = (eax: number): Uint8Array => {
  const bytes = new Uint8Array(KvmCpuid2.header.size + KvmCpuidEntry2.size);
  new DataView(bytes.buffer).setUint32(0, 1, true);
  KvmCpuidEntry2.write(new DataView(bytes.buffer), KvmCpuid2.header.size, { function: 0, index: 0, flags: 0, eax, ebx: 0, ecx: 0, edx: 0 });
  return bytes;
};
const cpuidAfterRun = (eax: number): Case => (p) => {
  const rig = new Rig(p, {}, { 0: { 0: [{ op: 'out', port: 1, value: 0 }] } });
  rig.c.do(rig.vcpu(), 'KVM_SET_CPUID2', cpuid(1));
  rig.run();
  return rig.c.call(rig.vcpu(), 'KVM_SET_CPUID2', cpuid(eax));
};

const refused: readonly PlaneIoctl[] = [
  'KVM_GET_MP_STATE', 'KVM_SET_MP_STATE', 'KVM_SET_CPUID', 'KVM_SET_CPUID2', 'KVM_GET_CPUID2', 'KVM_SET_SIGNAL_MASK', 'KVM_SET_GUEST_DEBUG', 'KVM_INTERRUPT', 'KVM_NMI', 'KVM_SMI', 'KVM_ENABLE_CAP', 'KVM_GET_STATS_FD',
  'KVM_PRE_FAULT_MEMORY', 'KVM_KVMCLOCK_CTRL', 'KVM_GET_TSC_KHZ', 'KVM_SET_TSC_KHZ', 'KVM_X86_SETUP_MCE', 'KVM_X86_SET_MCE', 'KVM_TPR_ACCESS_REPORTING', 'KVM_SET_DEVICE_ATTR', 'KVM_GET_DEVICE_ATTR', 'KVM_HAS_DEVICE_ATTR',
];

/** By id of the row. */
export const errorCases: Readonly<Record<string, Case>> = {
  'any.foreign': (p) => {
    const rig = new Rig(p, { planes: { 1: [0] } });
    rig.vm.isDead = true;
    return rig.c.call(rig.fd(1), 'KVM_GET_REGS', new Uint8Array(144));
  },
  'any.plane-vcpu-list': (p) => {
    const rig = new Rig(p, { planes: { 1: [0] } });
    return rig.c.system.ioctl(rig.c.caller, rig.fd(1), 0x5401);
  },
  'any.plane-unknown': (p) => {
    const rig = new Rig(p, { planes: { 1: [0] } });
    return rig.c.system.ioctl(rig.c.caller, rig.planeFd(1), 0xaeff);
  },

  'create-plane.too-high': onVm('KVM_CREATE_PLANE', 0xffff_ffff),
  'create-plane.no-irqchip': (p) => {
    const rig = new Rig(p, { irqchip: 'none' });
    return rig.c.call(rig.built.vmFd, 'KVM_CREATE_PLANE', 1);
  },
  'create-plane.full-irqchip': (p) => {
    const rig = new Rig(p, { irqchip: 'full' });
    return rig.c.call(rig.built.vmFd, 'KVM_CREATE_PLANE', 1);
  },
  'create-plane.zero': onVm('KVM_CREATE_PLANE', 0),
  'create-plane.exists': (p) => {
    const rig = new Rig(p, { planes: { 1: [] } });
    return rig.c.call(rig.built.vmFd, 'KVM_CREATE_PLANE', 1);
  },
  'create-plane.no-fd': limited({ fds: 2 }, (c, fd) => c.call(fd, 'KVM_CREATE_PLANE', 1)),
  'create-plane.no-file': limited({ files: 2 }, (c, fd) => c.call(fd, 'KVM_CREATE_PLANE', 1)),
  'create-plane.no-memory': limited({ objects: 1 }, (c, fd) => c.call(fd, 'KVM_CREATE_PLANE', 1)),
  'create-plane.on-plane': onPlane('KVM_CREATE_PLANE', 2),
  'create-plane.wide-id': onVm('KVM_CREATE_PLANE', 1n << 32n),

  'create-vcpu-plane.on-vm': (p) => {
    const rig = new Rig(p);
    return rig.c.system.ioctl(rig.c.caller, rig.built.vmFd, NUMBERS[p].createVcpuPlane ?? NUMBERS['2025-04'].createVcpuPlane!, rig.vcpu());
  },
  'create-vcpu-plane.not-int': vcpuPlane(() => 1n << 40n),
  'create-vcpu-plane.closed': vcpuPlane(() => -1),
  'create-vcpu-plane.not-vcpu': vcpuPlane((rig) => rig.c.must(rig.c.system.openOther())),
  'create-vcpu-plane.plane-vcpu': (p) => {
    const rig = new Rig(p, { planes: { 1: [0], 2: [] } });
    return rig.c.call(rig.planeFd(2), 'KVM_CREATE_VCPU_PLANE', rig.fd(1));
  },
  'create-vcpu-plane.other-vm': vcpuPlane((rig) => rig.c.build().vcpus.get(0)!),
  'create-vcpu-plane.limit': vcpuPlane((rig) => rig.vcpu(), { maxVcpus: 1 }),
  'create-vcpu-plane.no-memory': (p) => {
    const c = client(p, {}, {}, { objects: 3 });
    const built = c.build({ planes: { 1: [] } });
    return c.call(built.planes.get(1)!, 'KVM_CREATE_VCPU_PLANE', built.vcpus.get(0)!);
  },
  'create-vcpu-plane.exists': (p) => {
    const rig = new Rig(p, { planes: { 1: [0] } });
    return rig.c.call(rig.planeFd(1), 'KVM_CREATE_VCPU_PLANE', rig.vcpu());
  },
  'create-vcpu.on-plane': onPlane('KVM_CREATE_VCPU', 0),
  'create-vcpu.limit': (p) => {
    const rig = new Rig(p, { planes: { 1: [] } }, {}, { maxVcpus: 1 });
    return rig.c.call(rig.planeFd(1), 'KVM_CREATE_VCPU', 0);
  },
  'create-vcpu.exists': onPlane('KVM_CREATE_VCPU', 0),
  'create-vcpu.no-plane0': onPlane('KVM_CREATE_VCPU', 5),

  'run.on-plane': onPlane('KVM_RUN'),
  'run.on-plane-vcpu': (p) => {
    const rig = new Rig(p, { planes: { 1: [0] } });
    return rig.c.call(rig.fd(1), 'KVM_RUN');
  },
  'run.no-such-plane': (p) => new Rig(p, { planes: { 1: [0] } }).run(3),
  'run.plane-ignored': (p) => new Rig(p, {}, { 0: { 0: [{ op: 'out', port: 1, value: 0 }] } }).run(200),
  'run.immediate': (p) => {
    const rig = new Rig(p);
    rig.page().bytes[1] = 1;
    return rig.again();
  },

  ...Object.fromEntries(refused.map((name) => [`plane-vcpu.${name}`, onPlaneVcpu(name)])),

  'signal-msi.pointer': (p) => {
    const rig = new Rig(p);
    return rig.c.call(rig.built.vmFd, 'KVM_SIGNAL_MSI', new Uint8Array(31));
  },
  'signal-msi.no-irqchip': msi({}, { irqchip: 'none' }),
  'signal-msi.flags': msi({ flags: 2 }),
  'signal-msi.route': (p) => {
    const c = client(p);
    const vm = c.do(c.fd, 'KVM_CREATE_VM', 0);
    c.must(c.enableCap(vm, Capability.SPLIT_IRQCHIP, 24));
    c.must(c.enableCap(vm, Capability.X2APIC_API, 1));
    c.do(vm, 'KVM_CREATE_VCPU', 0);
    return c.call(vm, 'KVM_SIGNAL_MSI', encode(KvmMsi, { addressLo: 0xfee0_0000, addressHi: 1, data: 192, flags: 0, devid: 0 }));
  },
  'signal-msi.no-target': (p) => apicRig(p, [1]).msi(1, 192, 9),
  'signal-msi.dropped': (p) => {
    const rig = apicRig(p, [1]);
    rig.msi(1, 192);
    return rig.msi(1, 192);
  },
  'signal-msi.accepted': (p) => apicRig(p, [1]).msi(1, 192),

  'attributes.pointer': (p) => {
    const rig = new Rig(p);
    return rig.c.call(rig.built.vmFd, 'KVM_SET_MEMORY_ATTRIBUTES', null);
  },
  'attributes.flags': attributes({ flags: 1n }),
  'attributes.private-on-plane': attributes({ attributes: MemoryAttribute.PRIVATE }, 1, 1),
  'attributes.unsupported': attributes({ attributes: 0x10n }),
  'attributes.combination': attributes({ attributes: MemoryAttribute.NR }, 1),
  'attributes.restrict': attributes({ attributes: MemoryAttribute.NW }, 1),
  'attributes.none': attributes({}, 1),
  'attributes.empty': attributes({ size: 0n }),
  'attributes.wrap': attributes({ address: 0xffff_ffff_ffff_f000n, size: 0x2000n }),
  'attributes.unaligned': attributes({ address: 0x1001n }),

  'irqchip.after-plane': (p) => {
    const rig = new Rig(p, { irqchip: p === '2026-06' ? 'split' : 'none', planes: { 1: [] } });
    return rig.c.call(rig.built.vmFd, 'KVM_CREATE_IRQCHIP');
  },
  'irqchip.full': (p) => {
    const c = client(p);
    return c.call(c.do(c.fd, 'KVM_CREATE_VM'), 'KVM_CREATE_IRQCHIP');
  },
  'split-irqchip.after-plane': (p) => {
    const rig = new Rig(p, { irqchip: p === '2026-06' ? 'split' : 'none', vcpus: [], planes: { 1: [] } });
    return rig.c.enableCap(rig.built.vmFd, Capability.SPLIT_IRQCHIP, 24);
  },
  'fpu.flags': fpu(1, 1),
  'fpu.after-vcpu': fpu(1, 0, 0, [0]),
  'fpu.value': fpu(2),
  'fpu.protected': fpu(1, 0, 4),
  'fpu.toggle': (p) => {
    const c = client(p);
    const vm = c.do(c.fd, 'KVM_CREATE_VM');
    for (const on of [1, 0]) c.must(c.enableCap(vm, fpuCap(p), on));
    return c.enableCap(vm, fpuCap(p), 1);
  },
  'fpu.missing': fpu(1),
  'cpuid.changed': cpuidAfterRun(2),
  'cpuid.same': cpuidAfterRun(1),
};

/** Requests that no fd of any kind serves beyond their admission, each with the reason. */
export const notServed: Readonly<Partial<Record<keyof typeof Ioctl, string>>> = {
  KVM_SET_CPUID: 'superseded by KVM_SET_CPUID2',
  KVM_IRQFD: 'event fds are the VMM\'s',
  KVM_SET_CLOCK: 'the clock of a machine is virtual and part of its snapshot',
  KVM_GET_CLOCK: 'the clock of a machine is virtual and part of its snapshot',
  KVM_TPR_ACCESS_REPORTING: 'no TPR patching',
  KVM_SET_VAPIC_ADDR: 'no TPR patching',
  KVM_X86_SETUP_MCE: 'no machine checks',
  KVM_X86_SET_MCE: 'no machine checks',
  KVM_KVMCLOCK_CTRL: 'kvmclock is a personality\'s',
  KVM_PRE_FAULT_MEMORY: 'frames are made on demand',
  KVM_SET_DEVICE_ATTR: 'no device attributes',
  KVM_GET_DEVICE_ATTR: 'no device attributes',
  KVM_HAS_DEVICE_ATTR: 'no device attributes',
};
