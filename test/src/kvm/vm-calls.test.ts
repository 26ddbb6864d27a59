import { Capability, Ioctl, IrqRouting, KvmDirtyLog, KvmEnableCap, KvmIrqRoutingEntryPlanes, KvmMemoryAttributes, KvmMsi, KvmUserspaceMemoryRegion, KvmUserspaceMemoryRegion2, NUMBERS } from '@vmplanes/abi-kvm-planes';
import { Right } from '@vmplanes/engine';
import type { KvmClient } from '@vmplanes/kvm';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { apicRig, client, encode, profiles, Rig, type RunnableProfile, word } from './kit.ts';

const out: Step = { op: 'out', port: 1, value: 0 };
const MSR_TSC = 0x10;

/** What KVM answers to KVM_CHECK_EXTENSION without planes, on the system fd and on the VM fd of a default VM; every other number is 0. */
const ANSWERS: Readonly<Record<keyof typeof Capability, number>> = {
  IRQCHIP: 1, USER_MEMORY: 0, NR_VCPUS: 5, MP_STATE: 1, USER_NMI: 1, IRQ_ROUTING: 4096, DEBUGREGS: 1, ENABLE_CAP: 1, XSAVE: 1, XCRS: 1, TSC_CONTROL: 1, GET_TSC_KHZ: 1, MAX_VCPUS: 5, ONE_REG: 1, SYNC_REGS: 7, SIGNAL_MSI: 1,
  READONLY_MEM: 1, ENABLE_CAP_VM: 1, CHECK_EXTENSION_VM: 1, X86_SMM: 1, SPLIT_IRQCHIP: 1, MAX_VCPU_ID: 4096, X2APIC_API: 3, IMMEDIATE_EXIT: 1, NESTED_STATE: 0, EXCEPTION_PAYLOAD: 1, X86_USER_SPACE_MSR: 1, X86_MSR_FILTER: 1,
  DIRTY_LOG_RING: 1 << 20, X86_BUS_LOCK_EXIT: 3, SREGS2: 1, XSAVE2: 4096, VM_TSC_CONTROL: 1, X86_TRIPLE_FAULT_EVENT: 1, MEMORY_FAULT_INFO: 1, MEMORY_ATTRIBUTES: -1, VM_TYPES: 0b11_1111,
};

describe('Linux Documentation/virt/kvm/api.rst §4.4: KVM_CHECK_EXTENSION', () => {
  it.each(profiles)('[%s] every capability, and 0 for every other number below 300', (profile) => {
    const c = client(profile, {}, { maxVcpus: 5 });
    const vm = c.do(c.fd, 'KVM_CREATE_VM');
    const planes = Object.values(NUMBERS[profile]).filter((n) => typeof n === 'number');
    const names = new Map<number, keyof typeof Capability>(Object.entries(Capability).map(([name, n]) => [n, name as keyof typeof Capability]));
    for (let n = 0; n < 300; n++) {
      if (planes.includes(n) || n === Capability.MEMORY_ATTRIBUTES) continue;
      const name = names.get(n);
      const expected = name === undefined ? 0 : name === 'ONE_REG' && profile !== 'vmplanes' ? 0 : ANSWERS[name];
      expect([c.do(c.fd, 'KVM_CHECK_EXTENSION', n), c.do(vm, 'KVM_CHECK_EXTENSION', n)], `${n} ${name}`).toEqual([expected, expected]);
    }
  });
  it('the numbers of planes and of attributes', () => {
    const answers = (profile: RunnableProfile, cap: number, type = 0): readonly string[] => {
      const c = client(profile);
      const vm = c.do(c.fd, 'KVM_CREATE_VM', type);
      c.must(c.enableCap(vm, Capability.SPLIT_IRQCHIP, 24));
      const made = c.call(vm, 'KVM_CREATE_PLANE', 1);
      return [c.fd, vm, ...('ret' in made ? [made.ret] : [])].map((fd) => word(c.call(fd, 'KVM_CHECK_EXTENSION', cap)));
    };
    const { MEMORY_ATTRIBUTES } = Capability;
    expect([answers('2025-04', 239), answers('2025-04', 239, 4), answers('2026-06', 249), answers('2026-06', 249, 4), answers('vmplanes', 239), answers('vmplanes', 239, 4)]).toEqual([['16', '16', '0'], ['16', '1'], ['1', '1'], ['1', '4', 'ENOTTY'], ['16', '4', '0'], ['16', '4', '0']]);
    expect([answers('2025-04', MEMORY_ATTRIBUTES), answers('2025-04', MEMORY_ATTRIBUTES, 1), answers('2026-06', MEMORY_ATTRIBUTES), answers('2026-06', MEMORY_ATTRIBUTES, 4), answers('vmplanes', MEMORY_ATTRIBUTES), answers('vmplanes', MEMORY_ATTRIBUTES, 1)]).toEqual([
      ['8', '0', '0'], ['8', '8', '0'], ['8', '0'], ['8', '8', 'ENOTTY'], ['15', '7', '7'], ['15', '15', '7'],
    ]);
    expect([answers('2025-04', 240), answers('2026-06', 240), answers('vmplanes', 240), answers('vmplanes', 0x1_0000)]).toEqual([['1', '0', '0'], ['0', '0'], ['1', '0', '0'], ['1', '1', '0']]);
    // An SNP VM of ours has no SMM, and the plane fds of each draft know what their patches say.
    expect([answers('vmplanes', Capability.X86_SMM, 4), answers('vmplanes', Capability.SIGNAL_MSI), answers('2025-04', Capability.CHECK_EXTENSION_VM), answers('2026-06', Capability.SIGNAL_MSI, 4), answers('vmplanes', Capability.XCRS)]).toEqual([['1', '0', '0'], ['1', '1', '1'], ['1', '1', '1'], ['1', '1', 'ENOTTY'], ['1', '1', '0']]);
  });
  it('the shared FPU is told with both polarities, as it is now', () => {
    const c = client('vmplanes');
    const vm = c.do(c.fd, 'KVM_CREATE_VM');
    const ask = (): readonly number[] => [240, 0x1_0000].map((cap) => c.do(vm, 'KVM_CHECK_EXTENSION', cap));
    expect(ask()).toEqual([0, 1]);
    c.must(c.enableCap(vm, 240, 1));
    expect(ask()).toEqual([1, 0]);
    c.must(c.enableCap(vm, 240, 0));
    expect(ask()).toEqual([0, 1]);
  });
  it('planes of our profile are as many as the machine is made for', () => {
    for (const maxPlanes of [1, 2, 16]) {
      const c = client('vmplanes', {}, { maxPlanes });
      const vm = c.do(c.fd, 'KVM_CREATE_VM');
      expect([c.do(vm, 'KVM_CHECK_EXTENSION', 239), word(c.call(vm, 'KVM_CREATE_PLANE', maxPlanes)), word(c.call(vm, 'KVM_CREATE_PLANE', maxPlanes - 1)) === 'EINVAL']).toEqual([maxPlanes, 'EINVAL', false]);
    }
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.37, §7: KVM_ENABLE_CAP', () => {
  const vmOf = (profile: RunnableProfile = 'vmplanes'): { readonly c: KvmClient; readonly vm: number } => {
    const c = client(profile);
    return { c, vm: c.do(c.fd, 'KVM_CREATE_VM') };
  };
  it('checks pointer, flags, then the capability', () => {
    const { c, vm } = vmOf();
    expect([word(c.call(vm, 'KVM_ENABLE_CAP', null)), word(c.call(vm, 'KVM_ENABLE_CAP', new Uint8Array(103))), word(c.enableCap(vm, Capability.EXCEPTION_PAYLOAD, 1, 1)), word(c.enableCap(vm, 9999)), word(c.enableCap(vm, Capability.XCRS, 1))]).toEqual(['EFAULT', 'EFAULT', 'EINVAL', 'EINVAL', 'EINVAL']);
    const vcpu = c.do(vm, 'KVM_CREATE_VCPU', 0);
    expect([word(c.call(vcpu, 'KVM_ENABLE_CAP', null)), word(c.call(vcpu, 'KVM_ENABLE_CAP', new Uint8Array(103))), word(c.call(vcpu, 'KVM_ENABLE_CAP', encode(KvmEnableCap, { cap: Capability.EXCEPTION_PAYLOAD, flags: 0, args: [1n, 0n, 0n, 0n] })))]).toEqual(['EFAULT', 'EFAULT', 'EINVAL']);
  });
  it('switches have two positions', () => {
    const { c, vm } = vmOf();
    const { caps } = c.system.vmOf(vm)!;
    for (const [cap, name] of [[Capability.EXCEPTION_PAYLOAD, 'exceptionPayload'], [Capability.X86_TRIPLE_FAULT_EVENT, 'tripleFaultEvent']] as const) {
      expect(caps[name]).toBe(false);
      for (const [value, expected] of [[1, true], [0, false], [1n << 40n, true]] as const) {
        expect(word(c.enableCap(vm, cap, value))).toBe('0');
        expect(caps[name]).toBe(expected);
      }
    }
    expect([caps.exceptionPayload, caps.tripleFaultEvent]).toEqual([true, true]);
  });
  it('split irqchip: up to 4096 routes, once, before the first vCPU and plane', () => {
    const split = (profile: RunnableProfile, prepare: (c: KvmClient, vm: number) => void, routes: number | bigint = 24): string => {
      const { c, vm } = vmOf(profile);
      prepare(c, vm);
      return word(c.enableCap(vm, Capability.SPLIT_IRQCHIP, routes));
    };
    const nothing = (): void => {};
    expect([split('vmplanes', nothing, 4096), split('vmplanes', nothing, 4097), split('vmplanes', nothing, 1n << 40n), split('vmplanes', nothing, 0)]).toEqual(['0', 'EINVAL', 'EINVAL', '0']);
    expect(split('vmplanes', (c, vm) => void c.do(vm, 'KVM_CREATE_VCPU', 0))).toBe('EEXIST');
    expect(split('vmplanes', (c, vm) => void c.do(vm, 'KVM_CREATE_PLANE', 1))).toBe('EEXIST');
    expect(split('vmplanes', (c, vm) => void c.must(c.enableCap(vm, Capability.SPLIT_IRQCHIP, 24)))).toBe('EEXIST');
    expect(split('vmplanes', (c, vm) => void c.must(c.enableCap(vm, Capability.SPLIT_IRQCHIP, 24)), 4097)).toBe('EINVAL');
    expect(split('2025-04', (c, vm) => void c.do(vm, 'KVM_CREATE_IRQCHIP'))).toBe('EEXIST');
  });
  it.each([['2025-04', 'EEXIST'], ['vmplanes', '0']] as const)('LKML 2025-04-01 RFC KVM: VM planes 09/29: [%s] a plane that could not be made marks the VM: %s', (profile, expected) => {
    const c = client(profile, {}, {}, { objects: 1 });
    const vm = c.do(c.fd, 'KVM_CREATE_VM');
    expect(word(c.call(vm, 'KVM_CREATE_PLANE', 1))).toBe('ENOMEM');
    expect(word(c.enableCap(vm, Capability.SPLIT_IRQCHIP, 24))).toBe(expected);
  });
  it('masks take their bits and no others', () => {
    const { c, vm } = vmOf();
    const { caps, hardware } = c.system.vmOf(vm)!;
    expect([0, 7, 8, 1n << 40n].map((v) => word(c.enableCap(vm, Capability.X86_USER_SPACE_MSR, v)))).toEqual(['0', '0', 'EINVAL', 'EINVAL']);
    expect(caps.userSpaceMsr).toBe(7);
    for (const [v, exits] of [[1, { unknown: false, invalid: true, filter: false }], [2, { unknown: true, invalid: false, filter: false }], [4, { unknown: false, invalid: false, filter: true }]] as const) {
      c.must(c.enableCap(vm, Capability.X86_USER_SPACE_MSR, v));
      expect(hardware.arch.registers.msrExits).toEqual(exits);
    }
    expect([0, 1, 4, 3].map((v) => word(c.enableCap(vm, Capability.X86_BUS_LOCK_EXIT, v)))).toEqual(['0', '0', 'EINVAL', 'EINVAL']);
    expect([caps.busLockExit, hardware.arch.registers.busLockExits]).toEqual([false, false]);
    expect(word(c.enableCap(vm, Capability.X86_BUS_LOCK_EXIT, 2))).toBe('0');
    expect([caps.busLockExit, hardware.arch.registers.busLockExits]).toEqual([true, true]);
    expect([2, 0].map((v) => [word(c.enableCap(vm, Capability.X2APIC_API, v)), hardware.hasWideIds])).toEqual([['0', false], ['0', false]]);
    expect([4, 1n << 40n].map((v) => word(c.enableCap(vm, Capability.X2APIC_API, v)))).toEqual(['EINVAL', 'EINVAL']);
    expect([word(c.enableCap(vm, Capability.X2APIC_API, 3)), hardware.hasWideIds]).toEqual(['0', true]);
  });
  it('Linux api.rst §8.29: dirty ring sizes: powers of two from a page to 65536 entries, before the first vCPU', () => {
    const ring = (size: number | bigint, prepare: (c: KvmClient, vm: number) => void = () => {}): string => {
      const { c, vm } = vmOf();
      prepare(c, vm);
      return word(c.enableCap(vm, Capability.DIRTY_LOG_RING, size));
    };
    expect([0, 1, 2048, 4095, 4096, 4097, 8192, 12288, 1 << 20, 1 << 21, (1 << 21) + 4096, 1n << 40n].map((n) => ring(n))).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', '0', 'EINVAL', '0', 'EINVAL', '0', 'E2BIG', 'EINVAL', 'E2BIG']);
    expect([ring(4096, (c, vm) => void c.do(vm, 'KVM_CREATE_VCPU', 0)), ring(1 << 21, (c, vm) => void c.do(vm, 'KVM_CREATE_VCPU', 0))]).toEqual(['EINVAL', 'E2BIG']);
    expect([ring(4096, (c, vm) => void c.must(c.enableCap(vm, Capability.DIRTY_LOG_RING, 8192)))]).toEqual(['EINVAL']);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.7: vCPU ids', () => {
  it('are below 4096, and the number is checked before all else', () => {
    const c = client('vmplanes', {}, { maxVcpus: 3 });
    const vm = c.do(c.fd, 'KVM_CREATE_VM');
    const create = (id: number | bigint): string => word(c.call(vm, 'KVM_CREATE_VCPU', id));
    expect([create(4096), create(0xffff_ffff), create(4095), create(4095), create((1n << 32n) + 7n), create(0), create(1), create(0)]).toEqual(['EINVAL', 'EINVAL', '5', 'EEXIST', '6', '7', 'EINVAL', 'EINVAL']);
    expect([...c.system.vmOf(vm)!.groups.keys()]).toEqual([4095, 7, 0]);
  });
  it('a vCPU that is there: EEXIST before the files are looked at, after memory', () => {
    for (const [limits, expected] of [[{ fds: 3 }, 'EEXIST'], [{ objects: 2 }, 'ENOMEM']] as const) {
      const c = client('vmplanes', {}, {}, limits);
      const vm = c.do(c.fd, 'KVM_CREATE_VM');
      c.do(vm, 'KVM_CREATE_VCPU', 0);
      expect(word(c.call(vm, 'KVM_CREATE_VCPU', 0))).toBe(expected);
    }
  });
  it.each([['2025-04', ['EINVAL']], ['vmplanes', ['fd', 'fd']]] as const)('[%s] whether plane vCPUs count against the limit', (profile, expected) => {
    const c = client(profile, {}, { maxVcpus: 2 });
    const built = c.build({ vcpus: [0, 1], planes: { 1: [] } });
    const made = [0, 1].slice(0, expected.length).map((id) => word(c.createPlaneVcpu(built.planes.get(1)!, built.vcpus.get(id)!, id)));
    expect(made.map((w) => (/^\d+$/.test(w) ? 'fd' : w))).toEqual(expected);
    expect(built.vm.vcpuCount).toBe(2);
  });
  it('[2025-04] they count plane by plane', () => {
    const rig = new Rig('2025-04', { vcpus: [0, 1], planes: { 1: [0, 1], 15: [1] } });
    expect(rig.vm.vcpuCount).toBe(5);
  });
  it('LKML 2025-04-01 RFC KVM: VM planes 13/29: the fd must be an int', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [] } });
    const make = (fd: bigint | number): string => word(rig.c.call(rig.planeFd(1), 'KVM_CREATE_VCPU_PLANE', fd));
    expect([make(0x7fff_ffff), make(0x8000_0000n), make(-0x8000_0000n), make(-0x8000_0001n), make((1n << 32n) + BigInt(rig.vcpu())), make(rig.planeFd(1)), make(rig.built.vmFd)]).toEqual(['EBADF', 'EBADF', 'EBADF', 'EBADF', 'EBADF', 'EINVAL', 'EINVAL']);
  });
  it('a plane vCPU: memory, the vCPU, whether it exists, the files, in this order', () => {
    const at = (limits: object, use: (c: KvmClient, planeFd: number, vcpu: number) => string): string => {
      const c = client('2026-06', {}, {}, limits);
      const built = c.build({ planes: { 1: [] } });
      return use(c, built.planes.get(1)!, 0);
    };
    const create = (id: number) => (c: KvmClient, planeFd: number): string => word(c.call(planeFd, 'KVM_CREATE_VCPU', id));
    expect([at({ objects: 3 }, create(9)), at({ objects: 3 }, create(0)), at({ objects: 4 }, create(9)), at({ objects: 4 }, create(0)), at({ fds: 4 }, create(9)), at({ fds: 4 }, create(0)), at({ files: 4 }, create(0))]).toEqual(['ENOMEM', 'ENOMEM', 'EINVAL', '7', 'EINVAL', 'EMFILE', 'ENFILE']);
    expect(at({ fds: 5 }, (c, planeFd) => `${create(0)(c, planeFd)} ${create(0)(c, planeFd)}`)).toBe('7 EEXIST');
  });
});

describe('memory', () => {
  const region = { slot: 0, flags: 0, guestPhysAddr: 0n, memorySize: 0x4000n, userspaceAddr: 0n };
  const set = (rig: Rig, fields: Partial<typeof region> = {}): string => word(rig.set(rig.built.vmFd, 'KVM_SET_USER_MEMORY_REGION', KvmUserspaceMemoryRegion, { ...region, ...fields }));
  it('Linux virt/kvm/kvm_main.c kvm_set_memory_region: limits, each from both sides', () => {
    const edge = 1n << 52n;
    const rows: readonly (readonly [Partial<typeof region>, string])[] = [
      [{ slot: 32763 }, '0'], [{ slot: 32764 }, 'EINVAL'], [{ slot: 0x1_0000 }, 'EINVAL'], [{ slot: 0x8000_0000 }, 'EINVAL'], [{ flags: 3 }, '0'], [{ flags: 4 }, 'EINVAL'], [{ flags: 0x8000_0000 }, 'EINVAL'],
      [{ memorySize: 0x4fffn }, 'EINVAL'], [{ guestPhysAddr: 0xfffn }, 'EINVAL'], [{ guestPhysAddr: 0x800n }, 'EINVAL'], [{ userspaceAddr: 0x800n }, 'EINVAL'], [{ userspaceAddr: 0x7fff_0000_0000n }, '0'],
      [{ guestPhysAddr: edge - 0x4000n }, '0'], [{ guestPhysAddr: edge - 0x3000n }, 'EINVAL'], [{ memorySize: 0n }, 'EINVAL'],
    ];
    for (const [fields, expected] of rows) expect(set(new Rig('vmplanes'), fields), Object.entries(fields).join()).toBe(expected);
    expect([null, new Uint8Array(31)].map((b) => word(new Rig('vmplanes').c.call(4, 'KVM_SET_USER_MEMORY_REGION', b)))).toEqual(['EFAULT', 'EFAULT']);
    expect(word(new Rig('vmplanes').c.call(4, 'KVM_SET_USER_MEMORY_REGION2', new Uint8Array(159)))).toBe('EFAULT');
  });
  it('a slot is made, logged, moved and removed, and is what was asked for', () => {
    const rig = new Rig('vmplanes');
    const slot = (): readonly unknown[] => {
      const s = rig.vm.machine.memory.slots.byId(7);
      return s ? [s.first, s.pages, s.isReadonly, s.dirty !== null] : [];
    };
    expect([set(rig, { slot: 7, guestPhysAddr: 0x2000n }), slot()]).toEqual(['0', [2, 4, false, false]]);
    expect([set(rig, { slot: 7, guestPhysAddr: 0x2000n, flags: 1 }), slot()]).toEqual(['0', [2, 4, false, true]]);
    expect([set(rig, { slot: 7, guestPhysAddr: 0x2000n }), slot()]).toEqual(['0', [2, 4, false, false]]);
    expect([set(rig, { slot: 7, guestPhysAddr: 0x9000n }), slot()]).toEqual(['0', [9, 4, false, false]]);
    for (const bad of [{ memorySize: 0x5000n }, { memorySize: 0x3000n }, { flags: 2 }]) expect([set(rig, { slot: 7, guestPhysAddr: 0x9000n, ...bad }), slot()]).toEqual(['EINVAL', [9, 4, false, false]]);
    expect([set(rig, { slot: 8, guestPhysAddr: 0x20000n }), set(rig, { slot: 8, guestPhysAddr: 0xc000n }), set(rig, { slot: 7, guestPhysAddr: 0x20000n })]).toEqual(['0', 'EEXIST', 'EEXIST']);
    expect([set(rig, { slot: 7, memorySize: 0n }), slot(), set(rig, { slot: 7, memorySize: 0n })]).toEqual(['0', [], 'EINVAL']);
    expect([set(rig, { slot: 7, flags: 2 }), slot(), set(rig, { slot: 7, flags: 3 }), slot(), set(rig, { slot: 7 })]).toEqual(['0', [0, 4, true, false], '0', [0, 4, true, true], 'EINVAL']);
    const two = { ...region, slot: 9, guestPhysAddr: 0x30000n, guestMemfdOffset: 0n, guestMemfd: 0 };
    expect([word(rig.set(rig.built.vmFd, 'KVM_SET_USER_MEMORY_REGION2', KvmUserspaceMemoryRegion2, { ...two, flags: 1 })), rig.vm.machine.memory.slots.byId(9)?.dirty !== null]).toEqual(['0', true]);
  });
  it('Linux Documentation/virt/kvm/api.rst §4.8: the dirty bitmap in words of 64 pages', () => {
    const guest = { 0: { 0: [0, 31, 32, 63, 64, 69].map((page): Step => ({ op: 'write', gpa: page * 0x1000, value: 1 })).concat(out) } };
    const rig = new Rig('vmplanes', {}, guest);
    const log = (room: number, slot = 3, at = KvmDirtyLog.size): { readonly result: string; readonly bits: readonly number[] } => {
      const bytes = new Uint8Array(KvmDirtyLog.size + room);
      bytes.set(encode(KvmDirtyLog, { slot, dirtyBitmap: BigInt(at) }));
      const result = word(rig.c.call(rig.built.vmFd, 'KVM_GET_DIRTY_LOG', bytes));
      return { result, bits: Array.from({ length: room * 8 }, (_, i) => i).filter((i) => (bytes[KvmDirtyLog.size + (i >> 3)]! >> (i & 7)) & 1) };
    };
    expect(set(rig, { slot: 3, flags: 1, memorySize: 70n * 0x1000n })).toBe('0');
    rig.run();
    expect([log(15).result, log(0, 32764).result, log(0, 0x1_0000).result, log(0, 4).result, log(0, 32763).result]).toEqual(['EFAULT', 'EINVAL', 'EINVAL', 'ENOENT', 'ENOENT']);
    expect(log(16)).toEqual({ result: '0', bits: [0, 31, 32, 63, 64, 69] });
    expect(log(16)).toEqual({ result: '0', bits: [] });
    expect(word(rig.c.call(rig.built.vmFd, 'KVM_GET_DIRTY_LOG', new Uint8Array(15)))).toBe('EFAULT');
    expect(word(rig.c.call(rig.built.vmFd, 'KVM_RESET_DIRTY_RINGS'))).toBe('EINVAL');
  });
  it('a ring goes before the bitmap: ENXIO whatever the slot; nothing to reset is 0', () => {
    const c = client('vmplanes');
    const vm = c.do(c.fd, 'KVM_CREATE_VM');
    c.must(c.enableCap(vm, Capability.DIRTY_LOG_RING, 4096));
    expect([word(c.call(vm, 'KVM_GET_DIRTY_LOG', encode(KvmDirtyLog, { slot: 99_999, dirtyBitmap: 0n }))), word(c.call(vm, 'KVM_GET_DIRTY_LOG', null)), word(c.call(vm, 'KVM_RESET_DIRTY_RINGS'))]).toEqual(['ENXIO', 'EFAULT', '0']);
  });
  it('attributes: order of checks and edges', () => {
    const rig = new Rig('vmplanes', { type: 1, planes: { 1: [0] } });
    const apply = (fields: Partial<{ address: bigint; size: bigint; attributes: bigint; flags: bigint }>, plane = 1): string => word(rig.set(rig.planeFd(plane), 'KVM_SET_MEMORY_ATTRIBUTES', KvmMemoryAttributes, { address: 0x1000n, size: 0x1000n, attributes: 2n, flags: 0n, ...fields }));
    expect([apply({ flags: 1n << 63n }), apply({ attributes: 16n }), apply({ attributes: 8n }), apply({ attributes: 8n }, 0), apply({ attributes: 1n << 63n })]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', '0', 'EINVAL']);
    expect([apply({ size: 0n }), apply({ address: 0x800n }), apply({ size: 0x1800n }), apply({ address: (1n << 64n) - 0x1000n }), apply({ address: (1n << 64n) - 0x2000n }), apply({ attributes: 1n })]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', '0', 'EINVAL']);
    const { permissions } = rig.vm.machine.memory;
    const top = (1n << 52n) - 0x1000n;
    expect([apply({ address: top, size: 0x3000n }), permissions[1]!.get(2 ** 40 - 1), permissions[1]!.get(2 ** 40 - 2), apply({ address: 1n << 52n })]).toEqual(['0', Right.Read | Right.ExecSupervisor | Right.ExecUser, 31, '0']);
    expect(permissions[0]!.get(1)).toBe(31);
    // On plane 0 without private memory only the permissions are set, and PRIVATE goes away with 0.
    expect([rig.vm.machine.memory.isPrivate(1), apply({ attributes: 0n }, 0), rig.vm.machine.memory.isPrivate(1)]).toEqual([true, '0', false]);
    expect([null, new Uint8Array(31)].map((b) => word(rig.c.call(rig.planeFd(1), 'KVM_SET_MEMORY_ATTRIBUTES', b)))).toEqual(['EFAULT', 'EFAULT']);
    const strict = new Rig('2025-04', { type: 1, planes: {} });
    expect([8n, 0n, 2n].map((attributes) => word(strict.set(strict.built.vmFd, 'KVM_SET_MEMORY_ATTRIBUTES', KvmMemoryAttributes, { address: 0n, size: 0x1000n, attributes, flags: 0n })))).toEqual(['0', '0', 'EINVAL']);
    expect(strict.vm.machine.memory.permissions[0]!.get(0)).toBe(31);
  });
  it('the configuration can only take attributes away', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } }, {}, { planeAttributes: { 0: 0xffn, 1: 1n } });
    expect([rig.vm.planeAttributes, rig.vm.attributesOf(0), rig.vm.attributesOf(1), new Rig('2025-04', { type: 1 }, {}, { planeAttributes: { 1: 7n } }).vm.attributesOf(0)]).toEqual([7n, 7n, 7n, 8n]);
  });
});

describe('interrupts', () => {
  const msi = (fields: Partial<{ addressLo: number; addressHi: number; data: number; flags: number; devid: number }>): Uint8Array => encode(KvmMsi, { addressLo: 0xfee0_0000, addressHi: 0, data: 192, flags: 0, devid: 0, ...fields });
  it('Linux Documentation/virt/kvm/api.rst §4.70: flags', () => {
    const rig = apicRig('vmplanes', [1]);
    const send = (fields: Parameters<typeof msi>[0]): string => word(rig.c.call(rig.planeFd(1), 'KVM_SIGNAL_MSI', msi(fields)));
    expect([send({ flags: 1, devid: 5 }), send({ flags: 2 }), send({ flags: 0x8000_0000 }), send({ data: 193 }), send({ addressLo: 0xfee0_9000 })]).toEqual(['1', 'EINVAL', 'EINVAL', '1', 'EPERM']);
    expect([rig.irr(1, 192), rig.irr(1, 193), rig.irr(0, 192)]).toEqual([true, true, false]);
    expect([null, new Uint8Array(31)].map((b) => word(rig.c.call(rig.planeFd(1), 'KVM_SIGNAL_MSI', b)))).toEqual(['EFAULT', 'EFAULT']);
  });
  interface Route { readonly gsi?: number; readonly type?: number; readonly flags?: number; readonly plane?: number; readonly u?: object }
  const routes = (list: readonly Route[], n = list.length, flags = 0): Uint8Array => {
    const bytes = new Uint8Array(8 + list.length * 48);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, n, true);
    view.setUint32(4, flags, true);
    list.forEach((r, i) => KvmIrqRoutingEntryPlanes.write(view, 8 + i * 48, { gsi: 3, type: IrqRouting.MSI, flags: 0, plane: 0, u: { msi: { addressLo: 0xfee0_0000, addressHi: 0, data: 192, devid: 0 } }, ...r } as never));
    return bytes;
  };
  const line = (gsi: number, level: number): Uint8Array => new Uint8Array(Uint32Array.of(gsi, level).buffer);
  it('Linux Documentation/virt/kvm/api.rst §4.52: every check of the routing table', () => {
    const rig = apicRig('vmplanes', [1]);
    const set = (bytes: Uint8Array | null): string => word(rig.c.call(rig.built.vmFd, 'KVM_SET_GSI_ROUTING', bytes));
    expect([set(null), set(new Uint8Array(7)), set(routes([{}], 2)), set(routes([], 4097)), set(routes([], 4096)), set(routes([{}], 1, 1)), set(routes([]))]).toEqual(['EFAULT', 'EFAULT', 'EFAULT', 'EINVAL', 'EFAULT', 'EINVAL', '0']);
    expect([set(routes([{ gsi: 4095 }])), set(routes([{ gsi: 4096 }])), set(routes([{ flags: 1 }])), set(routes([{ flags: 2 }])), set(routes([{ type: IrqRouting.HV_SINT }])), set(routes([{ type: 0 }]))]).toEqual(['0', 'EINVAL', '0', 'EINVAL', 'EINVAL', 'EINVAL']);
    const pin = { type: IrqRouting.IRQCHIP, u: { irqchip: { irqchip: 2, pin: 5 } } };
    expect(set(routes([pin]))).toBe('EINVAL');
    const full = apicRig('2025-04', [1], {}, { irqchip: 'full' });
    const setFull = (list: readonly Route[]): string => word(full.c.call(full.built.vmFd, 'KVM_SET_GSI_ROUTING', routes(list)));
    expect([setFull([pin]), setFull([{ ...pin, flags: 1 }]), setFull([{ ...pin, u: { irqchip: { irqchip: 2, pin: 23 } } }])]).toEqual(['0', 'EINVAL', '0']);
  });
  it('a route carries address, data and plane of its entry, and the lines reach theirs alone', () => {
    const rig = apicRig('vmplanes', [1], {}, { vcpus: [0, 1], planes: { 1: [0, 1] } });
    const to = (apic: number, data: number): object => ({ msi: { addressLo: 0xfee0_0000 + apic * 4096, addressHi: 0, data, devid: 0 } });
    rig.c.do(rig.built.vmFd, 'KVM_SET_GSI_ROUTING', routes([{ gsi: 3, plane: 1, u: to(1, 0x55) }, { gsi: 4, plane: 0, u: to(0, 0x66) }]));
    const seen = (): readonly boolean[] => [[0, 0, 0x66], [1, 1, 0x55], [0, 1, 0x55], [1, 0, 0x66]].map(([plane, id, vector]) => rig.irr(plane!, vector!, id));
    rig.c.do(rig.built.vmFd, 'KVM_IRQ_LINE', line(3, 0));
    expect(seen()).toEqual([false, false, false, false]);
    rig.c.do(rig.built.vmFd, 'KVM_IRQ_LINE', line(3, 1));
    expect(seen()).toEqual([false, true, false, false]);
    rig.c.do(rig.built.vmFd, 'KVM_IRQ_LINE', line(4, 2));
    expect(seen()).toEqual([true, true, false, false]);
    expect(word(rig.c.call(rig.built.vmFd, 'KVM_IRQ_LINE', new Uint8Array(7)))).toBe('EFAULT');
    expect(word(new Rig('vmplanes', { irqchip: 'none' }).c.call(4, 'KVM_IRQ_LINE', line(3, 1)))).toBe('ENXIO');
    expect(word(new Rig('vmplanes', { irqchip: 'none' }).c.call(4, 'KVM_IRQ_LINE', null))).toBe('EFAULT');
  });
  it('Linux Documentation/virt/kvm/api.rst §4.24: KVM_CREATE_IRQCHIP: planes, an irqchip, a vCPU, the profile, in this order', () => {
    const create = (profile: RunnableProfile, prepare: (c: KvmClient, vm: number) => void = () => {}): string => {
      const c = client(profile);
      const vm = c.do(c.fd, 'KVM_CREATE_VM');
      prepare(c, vm);
      return word(c.call(vm, 'KVM_CREATE_IRQCHIP'));
    };
    const split = (c: KvmClient, vm: number): void => void c.must(c.enableCap(vm, Capability.SPLIT_IRQCHIP, 24));
    const vcpu = (c: KvmClient, vm: number): void => void c.do(vm, 'KVM_CREATE_VCPU', 0);
    const plane = (c: KvmClient, vm: number): void => (split(c, vm), void c.do(vm, 'KVM_CREATE_PLANE', 1));
    expect([create('2025-04'), create('2026-06'), create('vmplanes'), create('2025-04', split), create('vmplanes', split), create('2025-04', vcpu), create('2025-04', plane)]).toEqual(['0', '0', 'EINVAL', 'EEXIST', 'EEXIST', 'EINVAL', 'EINVAL']);
    const again = client('2025-04');
    const vm = again.do(again.fd, 'KVM_CREATE_VM');
    expect(['KVM_CREATE_IRQCHIP', 'KVM_CREATE_IRQCHIP'].map((n) => word(again.call(vm, n as 'KVM_RUN')))).toEqual(['0', 'EEXIST']);
    // Numbers 0..15 lead to the PIC as well, 16..23 to the I/O APIC alone.
    expect(again.system.vmOf(vm)!.routing.routes).toHaveLength(24 + 16);
    expect(again.system.vmOf(vm)!.routing.routes.map((r) => (r.kind === 'pin' ? `${r.gsi}:${r.chip}:${r.pin}` : r.kind)).toSorted()).toEqual(
      Array.from({ length: 24 }, (_, gsi) => [`${gsi}:2:${gsi}`, ...(gsi < 8 ? [`${gsi}:0:${gsi}`] : gsi < 16 ? [`${gsi}:1:${gsi - 8}`] : [])]).flat().toSorted(),
    );
  });
  it('requests that every VM fd knows by number, and none besides', () => {
    const rig = new Rig('vmplanes');
    expect(word(rig.c.system.ioctl(rig.c.caller, rig.built.vmFd, Ioctl.KVM_GET_TSC_KHZ))).toBe('1000000');
    const stats = rig.c.do(rig.built.vmFd, 'KVM_GET_STATS_FD');
    const read = rig.c.system.read(stats);
    expect('bytes' in read ? new TextDecoder().decode(read.bytes.subarray(24, 30)) : '').toBe('kvm-1\0');
    const full = client('vmplanes', {}, {}, { fds: 2 });
    expect(word(full.call(full.do(full.fd, 'KVM_CREATE_VM'), 'KVM_GET_STATS_FD'))).toBe('EMFILE');
  });
});

describe('Linux arch/x86/kvm/x86.c kvm_set_tsc_khz: frequencies of the counter', () => {
  /** Ticks of 1000 machine ticks per kHz of host: at 1 GHz a machine tick is a nanosecond. */
  const counted = (khz: number, plane = 0): bigint => {
    const rig = new Rig('vmplanes', { planes: { 1: [] } });
    if (plane === 0) rig.c.do(rig.vcpu(), 'KVM_SET_TSC_KHZ', khz);
    else rig.c.do(rig.built.vmFd, 'KVM_SET_TSC_KHZ', khz);
    const fd = plane === 0 ? rig.vcpu() : rig.c.must(rig.c.createPlaneVcpu(rig.planeFd(1), rig.vcpu(), 0));
    rig.vm.advance(1_000_000_000);
    return rig.getMsr(fd, MSR_TSC);
  };
  it('ratios in 8.32 fixed point, rounded down', () => {
    const exact = (khz: number): bigint => (((1n << 32n) * BigInt(khz)) / 1_000_000n) * 1_000_000_000n >> 32n;
    for (const khz of [1, 500_000, 999_749, 1_000_251, 3_000_000, 255_999_998]) expect([counted(khz), counted(khz, 1)], String(khz)).toEqual([exact(khz), exact(khz)]);
    for (const khz of [999_750, 1_000_000, 1_000_250]) expect([counted(khz), counted(khz, 1)]).toEqual([1_000_000_000n, 1_000_000_000n]);
  });
  it('the VM takes and refuses the same frequencies', () => {
    const rig = new Rig('vmplanes');
    const set = (khz: number): string => word(rig.c.call(rig.built.vmFd, 'KVM_SET_TSC_KHZ', khz));
    expect([set(255_999_998), rig.c.do(rig.built.vmFd, 'KVM_GET_TSC_KHZ'), set(255_999_999), set(0x7fff_ffff), set(0), rig.c.do(rig.built.vmFd, 'KVM_GET_TSC_KHZ')]).toEqual(['0', 255_999_998, 'EINVAL', 'EINVAL', '0', 1_000_000]);
  });
  it('on a fast host the number itself is the limit', () => {
    // 10^12 machine ticks a second: 256 times that is more than 31 bits of kHz.
    const rig = new Rig('vmplanes', {}, {}, { machine: { memoryBytes: 1 << 20, ticksPerSecond: 1_000_000_000_000 } });
    const set = (khz: number): string => word(rig.c.call(rig.vcpu(), 'KVM_SET_TSC_KHZ', khz));
    expect([rig.c.do(rig.vcpu(), 'KVM_GET_TSC_KHZ'), set(0x7fff_fffe), set(0x7fff_ffff), set(0xffff_ffff), set(1), rig.c.do(rig.vcpu(), 'KVM_GET_TSC_KHZ')]).toEqual([1_000_000_000, '0', 'EINVAL', 'EINVAL', '0', 1]);
    rig.vm.advance(1_000_000_000_000);
    // A ratio of 4 / 2^32: 1 kHz would be 4.29.
    expect(rig.getMsr(rig.vcpu(), MSR_TSC)).toBe(931n);
  });
  it('a host slower than a kilohertz counts as one of one kilohertz', () => {
    const rig = new Rig('vmplanes', {}, {}, { machine: { memoryBytes: 1 << 20, ticksPerSecond: 10 } });
    expect(rig.c.do(rig.vcpu(), 'KVM_GET_TSC_KHZ')).toBe(1);
  });
});
