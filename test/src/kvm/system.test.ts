import { Capability, Ioctl, NUMBERS, type PlaneIoctl } from '@vmplanes/abi-kvm-planes';
import { HostError } from '@vmplanes/engine';
import { KvmClient, KvmSystem, protectState } from '@vmplanes/kvm';
import { describe, expect, it } from 'vitest';
import { apicRig, client, profiles, Rig, word } from './kit.ts';

const SNP = 4;
const first = { mm: 1, thread: 1 };
const out = { op: 'out', port: 1, value: 0 } as const;
const codeOf = (use: () => unknown): string => {
  try {
    use();
    return 'none';
  } catch (error) {
    return error instanceof HostError ? error.code : String(error);
  }
};

describe('Linux Documentation/virt/kvm/api.rst §4.1 to §4.5: /dev/kvm', () => {
  const c = client('vmplanes');
  const call = (name: PlaneIoctl, argument: number | bigint = 0): string => word(c.call(c.fd, name, argument));
  it('version and size of the mapping: kvm_run, port data, coalesced ring', () => {
    expect([call('KVM_GET_API_VERSION'), call('KVM_GET_VCPU_MMAP_SIZE')]).toEqual(['12', String(3 * 4096)]);
    expect([call('KVM_GET_API_VERSION', 1), call('KVM_GET_API_VERSION', 1n << 40n), call('KVM_GET_VCPU_MMAP_SIZE', 1), call('KVM_GET_VCPU_MMAP_SIZE', -1)]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL']);
  });
  it('any other request is EINVAL', () => {
    for (const name of Object.keys(Ioctl) as (keyof typeof Ioctl)[]) if (!['KVM_GET_API_VERSION', 'KVM_CREATE_VM', 'KVM_CHECK_EXTENSION', 'KVM_GET_VCPU_MMAP_SIZE'].includes(name)) expect(call(name), name).toBe('EINVAL');
    expect(word(c.system.ioctl(first, c.fd, 0x5401))).toBe('EINVAL');
  });
  it('six types of VM', () => {
    const types = [0, 1, 2, 3, 4, 5].map((type) => c.system.vmOf(c.do(c.fd, 'KVM_CREATE_VM', type))!.type);
    // id, private memory, protected state, SMM, reset, planes of the backend. @spec Linux arch/x86/include/uapi/asm/kvm.h KVM_X86_*_VM
    expect(types.map((t) => [t.id, t.hasPrivateMemory, t.hasProtectedState, t.hasSmm, t.hasReset, t.backendPlanes])).toEqual([
      [0, false, false, true, true, 1], [1, true, false, true, true, 1], [2, false, false, true, true, 1], [3, false, true, false, false, 1], [4, true, true, false, false, 4], [5, true, true, false, false, 1],
    ]);
    expect([call('KVM_CREATE_VM', 6), call('KVM_CREATE_VM', -1), call('KVM_CREATE_VM', 1n << 32n)]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
    expect(c.do(c.fd, 'KVM_CHECK_EXTENSION', Capability.VM_TYPES)).toBe(0b11_1111);
  });
  it('request numbers are 32 bits wide, and those of planes are the profile\'s', () => {
    for (const profile of profiles) {
      const { system } = client(profile);
      expect([system.nameOf(0xae00), system.nameOf(0xae00 + 2 ** 32), system.nameOf(0xae02)]).toEqual(['KVM_GET_API_VERSION', 'KVM_GET_API_VERSION', undefined]);
      const { createPlane, createVcpuPlane } = NUMBERS[profile];
      expect(system.nameOf(createPlane!)).toBe('KVM_CREATE_PLANE');
      expect(system.nameOf(NUMBERS['2025-04'].createVcpuPlane!)).toBe(createVcpuPlane === undefined ? undefined : 'KVM_CREATE_VCPU_PLANE');
      // A number that two names had would be one of them only.
      expect(Object.entries(Ioctl).filter(([name, number]) => system.nameOf(number) !== name)).toEqual([]);
    }
  });
});

describe('files', () => {
  it('get the lowest free number from 3 on', () => {
    const c = client('vmplanes');
    const [a, b] = [c.must(c.system.openOther()), c.must(c.system.openOther('x'))];
    expect([c.fd, a, b]).toEqual([3, 4, 5]);
    expect([word(c.system.close(a)), word(c.system.close(a)), word(c.system.close(0)), c.must(c.system.open())]).toEqual(['0', 'EBADF', 'EBADF', 4]);
    expect(c.system.fds.list().map(([fd, f]) => [fd, f.kind, f.label])).toEqual([[3, 'system', '/dev/kvm'], [4, 'system', '/dev/kvm'], [5, 'other', 'x']]);
  });
  it('have the labels of /proc', () => {
    const labels = (profile: (typeof profiles)[number]): readonly string[] => {
      const rig = new Rig(profile, { vcpus: [0, 5], planes: { 1: [5] } });
      rig.c.do(rig.vcpu(5), 'KVM_GET_STATS_FD');
      return rig.c.system.fds.list().map(([, f]) => f.label);
    };
    const one = ['/dev/kvm', 'kvm-vm', 'kvm-vcpu:0', 'kvm-vcpu:5', 'kvm-plane', 'kvm-vcpu:5', 'kvm-vcpu-stats:5'];
    expect(profiles.map(labels)).toEqual([one, one.map((l, i) => (i === 5 ? 'kvm-vcpu-plane1:5' : l)), one]);
  });
  it('are counted against both limits, the process first', () => {
    const at = (limits: object): string => {
      const c = client('vmplanes', {}, {}, limits);
      return word(c.call(c.fd, 'KVM_CREATE_VM'));
    };
    expect([at({ fds: 1 }), at({ fds: 2 }), at({ files: 1 }), at({ files: 2 }), at({ fds: 1, files: 1 }), at({ objects: 0 }), at({ objects: 1 }), at({ objects: 0, files: 1 })]).toEqual(['EMFILE', '4', 'ENFILE', '4', 'EMFILE', 'ENOMEM', '4', 'ENFILE']);
    const c = client('vmplanes', {}, {}, { fds: 2 });
    expect([word(c.system.openOther()), word(c.system.openOther()), word(c.system.open())]).toEqual(['4', 'EMFILE', 'EMFILE']);
    expect(new KvmSystem({ profile: 'vmplanes' }).limits).toEqual({ fds: 1024, files: 65536, objects: 65536 });
    expect(new KvmSystem({ profile: 'vmplanes', limits: { files: 7 } }).limits).toEqual({ fds: 1024, files: 7, objects: 65536 });
  });
  it('every VM, plane and vCPU is one object; a failed creation is none', () => {
    for (const [objects, expected] of [[1, ['4', 'ENOMEM', 'ENOMEM', 'ENOMEM']], [2, ['4', '5', 'ENOMEM', 'ENOMEM']], [3, ['4', '5', '6', 'ENOMEM']], [4, ['4', '5', '6', '7']]] as const) {
      const c = client('vmplanes', {}, {}, { objects });
      const vm = c.call(c.fd, 'KVM_CREATE_VM');
      const vcpu = c.call(4, 'KVM_CREATE_VCPU', 0);
      expect(word(c.call(4, 'KVM_CREATE_VCPU', 4096))).toBe('EINVAL');
      expect(word(c.call(4, 'KVM_CREATE_PLANE', 0))).toBe('EEXIST');
      const plane = c.call(4, 'KVM_CREATE_PLANE', 1);
      const made = [vm, vcpu, plane];
      const last = 'ret' in plane ? c.call(6, 'KVM_CREATE_VCPU_PLANE', 5) : plane;
      expect([...made, last].map(word)).toEqual(expected);
    }
  });
  it('a VM that the machine has no memory for', () => {
    const c = client('vmplanes', {}, { machine: { memoryBytes: 2 ** 50 } });
    expect(word(c.call(c.fd, 'KVM_CREATE_VM'))).toBe('ENOMEM');
    expect(c.system.save().objects).toBe(0);
  });
  it('a machine that is configured wrongly is the host\'s error, not the caller\'s', () => {
    const c = client('vmplanes', {}, { machine: { quantum: 0 } });
    expect(codeOf(() => c.call(c.fd, 'KVM_CREATE_VM'))).toBe('BadConfig');
  });
  it('an x86 configuration that does not fit together is refused at once', () => {
    expect(codeOf(() => new KvmSystem({ profile: 'vmplanes', vm: { x86: { cpuModel: 'none' } } }))).toBe('BadConfig');
  });
  it('that are none of KVM\'s take no request, and no file is EBADF', () => {
    const rig = new Rig('vmplanes');
    const stats = rig.c.do(rig.vcpu(), 'KVM_GET_STATS_FD');
    for (const fd of [stats, rig.c.must(rig.c.system.openOther())]) expect([word(rig.c.call(fd, 'KVM_RUN')), word(rig.c.call(fd, 'KVM_CHECK_EXTENSION', 1))]).toEqual(['ENOTTY', 'ENOTTY']);
    expect([word(rig.c.call(99, 'KVM_RUN')), rig.c.system.mmap(first, 99), rig.c.system.read(99)]).toEqual(['EBADF', { errno: 'EBADF' }, { errno: 'EBADF' }]);
    expect([rig.vcpu(), rig.built.vmFd, rig.c.fd].map((fd) => rig.c.system.read(fd))).toEqual([{ errno: 'EINVAL' }, { errno: 'EINVAL' }, { errno: 'EINVAL' }]);
    expect([rig.c.system.vmOf(rig.built.vmFd), rig.c.system.vmOf(stats), rig.c.system.vmOf(rig.c.fd), rig.c.system.vmOf(99)]).toEqual([rig.vm, rig.vm, null, null]);
  });
});

describe('mappings', () => {
  it('of a vCPU: kvm_run, the data of port I/O, nothing behind', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } });
    const map = (fd: number, page?: number, mm = 1) => rig.c.system.mmap({ mm, thread: 1 }, fd, page);
    const { bytes } = rig.page();
    bytes[0] = 0x11;
    bytes[4095] = 0x22;
    bytes[4096] = 0x33;
    bytes[8191] = 0x44;
    const seen = [undefined, 0, 1].map((page) => {
      const m = map(rig.vcpu(), page);
      return 'bytes' in m ? [m.bytes.length, m.bytes[0], m.bytes[4095]] : m;
    });
    expect(seen).toEqual([[4096, 0x11, 0x22], [4096, 0x11, 0x22], [4096, 0x33, 0x44]]);
    expect([map(rig.vcpu(), 2), map(rig.vcpu(), 64), map(rig.vcpu(), -1), map(rig.vcpu(), 0, 2), map(rig.fd(1))]).toEqual(Array(5).fill({ signal: 'SIGBUS' }));
    expect([map(rig.built.vmFd), map(rig.planeFd(1)), map(rig.c.fd)]).toEqual(Array(3).fill({ errno: 'ENODEV' }));
  });
  it('Linux api.rst §8.29: of a dirty ring: from page 64 on, as long as the ring', () => {
    const c = client('vmplanes');
    const vmFd = c.do(c.fd, 'KVM_CREATE_VM');
    c.must(c.enableCap(vmFd, Capability.DIRTY_LOG_RING, 8192));
    const vcpu = c.do(vmFd, 'KVM_CREATE_VCPU', 0);
    const length = (page: number): number | string => {
      const m = c.system.mmap(first, vcpu, page);
      return 'bytes' in m ? m.bytes.length : 'signal' in m ? m.signal : m.errno;
    };
    expect([1, 2, 63, 64, 65, 66].map(length)).toEqual([4096, 'SIGBUS', 'SIGBUS', 8192, 4096, 'SIGBUS']);
    const both = [64, 65].map((page) => c.system.mmap(first, vcpu, page)) as { readonly bytes: Uint8Array }[];
    both[0]!.bytes[4096] = 0x77;
    expect(both[1]!.bytes[0]).toBe(0x77);
  });
});

describe('who may call', () => {
  const kinds = (rig: Rig): readonly number[] => [rig.built.vmFd, rig.planeFd(1), rig.vcpu(), rig.fd(1)];
  it.each(profiles)('[%s] another address space and a dead VM: EIO, even for what is no request', (profile) => {
    const rig = new Rig(profile, { planes: { 1: [0] } });
    const ask = (caller = first): readonly string[] => kinds(rig).flatMap((fd) => [0x5401, Ioctl.KVM_CHECK_EXTENSION, Ioctl.KVM_GET_REGS].map((n) => word(rig.c.system.ioctl(caller, fd, n))));
    expect(new Set(ask({ mm: 2, thread: 1 }))).toEqual(new Set(['EIO']));
    expect(ask().includes('EIO')).toBe(false);
    expect(ask({ mm: 1, thread: 9 }).includes('EIO')).toBe(false);
    rig.vm.isDead = true;
    expect(new Set(ask())).toEqual(new Set(['EIO']));
  });
  it.each([['2025-04', '0'], ['2026-06', 'busy'], ['vmplanes', 'busy']] as const)('[%s] while plane 0 sleeps in KVM_RUN, another plane is %s', (profile, other) => {
    const rig = apicRig(profile, [1, 2], { 0: { 0: [{ op: 'hlt' }] } });
    const get = (plane: number): string => word(rig.c.call(rig.fd(plane), 'KVM_GET_REGS', new Uint8Array(144), { mm: 1, thread: 2 }));
    expect([get(0), get(1)]).toEqual(['0', '0']);
    expect(word(rig.run(0))).toBe('blocked');
    expect([get(0), get(1), get(2)]).toEqual(['busy', other, other]);
    // What is not admitted is refused before any lock is asked for.
    expect(word(rig.c.call(rig.fd(1), 'KVM_NMI'))).toBe('EINVAL');
  });
  it('[2025-04] a run of plane 1 holds the lock of plane 0, too', () => {
    const rig = apicRig('2025-04', [1, 2], { 0: { 1: [{ op: 'hlt' }] } });
    expect(word(rig.run(1))).toBe('blocked');
    expect([0, 1, 2].map((plane) => word(rig.c.call(rig.fd(plane), 'KVM_GET_REGS', new Uint8Array(144))))).toEqual(['busy', 'busy', '0']);
    const other = { mm: 1, thread: 2 };
    expect([word(rig.c.call(rig.vcpu(), 'KVM_RUN', 0, other)), word(rig.c.call(rig.vcpu(), 'KVM_RUN', 1, other)), word(rig.again())]).toEqual(['busy', 'EINVAL', 'blocked']);
  });
  it('KVM_RUN takes no argument', () => {
    const rig = new Rig('vmplanes', {}, { 0: { 0: [out] } });
    expect([1, 1n << 40n, new Uint8Array(4)].map((a) => word(rig.c.call(rig.vcpu(), 'KVM_RUN', a)))).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
    expect([word(rig.c.call(rig.vcpu(), 'KVM_RUN', null)), rig.exitReason()]).toEqual(['0', 2]);
  });
  it('KVM_RUN without a processor is EINVAL', () => {
    const c = new KvmClient({ profile: 'vmplanes' });
    expect(word(c.call(c.build().vcpus.get(0)!, 'KVM_RUN'))).toBe('EINVAL');
  });
});

describe('signals', () => {
  const sleeper = (): Rig => apicRig('vmplanes', [], { 0: { 0: [{ op: 'hlt' }] } });
  it.each([1, 2, 32, 33, 63, 64])('signal %i ends a run of its thread until it is taken', (signal) => {
    const rig = sleeper();
    const { system } = rig.c;
    expect(word(rig.run())).toBe('blocked');
    system.raise(2, signal);
    expect(word(rig.again())).toBe('blocked');
    system.raise(1, signal);
    system.raise(1, signal === 7 ? 8 : 7);
    expect([word(rig.again()), rig.exitReason()]).toEqual(['EINTR', 10]);
    system.take(1, signal);
    expect(word(rig.run())).toBe('EINTR');
    system.take(1, signal === 7 ? 8 : 7);
    system.take(1, 5);
    expect(word(rig.run())).toBe('blocked');
  });
  it('Linux Documentation/virt/kvm/api.rst §4.21: a mask holds back what it names, bit n - 1 for signal n', () => {
    const rig = sleeper();
    const mask = new Uint8Array(12);
    new DataView(mask.buffer).setUint32(0, 8, true);
    new DataView(mask.buffer).setBigUint64(4, (1n << 63n) | 1n, true);
    expect(word(rig.c.call(rig.vcpu(), 'KVM_SET_SIGNAL_MASK', mask))).toBe('0');
    for (const signal of [1, 64]) rig.c.system.raise(1, signal);
    expect(word(rig.run())).toBe('blocked');
    rig.c.system.raise(1, 2);
    expect(word(rig.again())).toBe('EINTR');
    rig.c.system.take(1, 2);
    expect(word(rig.c.call(rig.vcpu(), 'KVM_SET_SIGNAL_MASK', null))).toBe('0');
    expect(word(rig.run())).toBe('EINTR');
    expect(word(rig.c.call(rig.vcpu(), 'KVM_SET_SIGNAL_MASK', mask.slice(0, 11)))).toBe('EFAULT');
    expect(word(rig.c.call(rig.vcpu(), 'KVM_SET_SIGNAL_MASK', mask.slice(0, 3)))).toBe('EFAULT');
  });
});

it('Linux arch/x86/kvm/x86.c: once register state is protected these calls and no others are EINVAL', () => {
  const rig = new Rig('vmplanes', { type: SNP, planes: { 1: [0] } });
  const names = ['REGS', 'SREGS', 'SREGS2', 'MSRS', 'FPU', 'DEBUGREGS', 'XCRS', 'XSAVE'].flatMap((n) => [`KVM_GET_${n}`, `KVM_SET_${n}`]).concat('KVM_GET_XSAVE2', 'KVM_TRANSLATE') as PlaneIoctl[];
  const open = ['KVM_GET_LAPIC', 'KVM_SET_LAPIC', 'KVM_GET_VCPU_EVENTS', 'KVM_GET_MP_STATE', 'KVM_SET_MP_STATE', 'KVM_GET_REG_LIST'] as PlaneIoctl[];
  const outcome = (name: PlaneIoctl): string => {
    const bytes = new Uint8Array(4096);
    if (name === 'KVM_SET_LAPIC') bytes.set(rig.lapic(1));
    return word(rig.c.call(rig.fd(1), name, bytes));
  };
  // Zeros are no legal value for some; what matters is that they are looked at.
  const legal = names.filter((n) => !['KVM_SET_SREGS', 'KVM_SET_SREGS2'].includes(n));
  expect(legal.filter((n) => outcome(n) === 'EINVAL')).toEqual([]);
  expect(protectState(rig.vm)).toBe(true);
  expect(names.filter((n) => outcome(n) !== 'EINVAL')).toEqual([]);
  expect(open.filter((n) => outcome(n) === 'EINVAL')).toEqual([]);
  const plain = new Rig('vmplanes');
  expect([protectState(plain.vm), plain.vm.isStateProtected]).toEqual([false, false]);
});
