import {
  Capability, ExitDebug, ExitIo, ExitMemoryFaultPlanes, ExitMmio, ExitMsr, ExitReason, extensionRow, EXIT_UNION_AT, IrqRouting, KvmDirtyLog, KvmIrqRoutingEntryPlanes, KvmMemoryAttributes, KvmRegs, KvmUserspaceMemoryRegion,
  KvmX86MsrFilter, MemoryAttribute, MemoryFaultFlag, MsrExitReason, NUMBERS,
} from '@vmplanes/abi-kvm-planes';
import { MSR_FILTER_DEFAULT_DENY, type Step } from '@vmplanes/x86';
import { Right } from '@vmplanes/engine';
import { rightsOf, vmTypes } from '@vmplanes/kvm';
import { describe, expect, it } from 'vitest';
import { apicRig, client, encode, profiles, type Programs, Rig, word } from './kit.ts';

const out = (port: number): Step => ({ op: 'out', port, value: 0 });
const rax = (rig: Rig, plane = 0): bigint => rig.get(rig.fd(plane), 'KVM_GET_REGS', KvmRegs).rax;

describe('KVM_CHECK_EXTENSION', () => {
  const caps = { PLANES: 'capPlanes', PLANES_FPU: 'capPlanesFpu', PLANE_FPU: 'capPlaneFpu' } as const;
  for (const profile of profiles) {
    it.each(['PLANES', 'PLANES_FPU', 'PLANE_FPU', 'CHECK_EXTENSION_VM', 'SIGNAL_MSI', 'MEMORY_ATTRIBUTES'] as const)(`%s [${profile}] answers as its row says`, (name) => {
      const row = extensionRow(profile, name)!;
      const number = name in caps ? NUMBERS[profile][caps[name as keyof typeof caps]] : Capability[name as keyof typeof Capability];
      if (typeof number !== 'number') return;
      for (const type of vmTypes) {
        const c = client(profile);
        const vm = c.do(c.fd, 'KVM_CREATE_VM', type.id);
        c.must(c.enableCap(vm, Capability.SPLIT_IRQCHIP, 24));
        const ask = (fd: number): string => word(c.call(fd, 'KVM_CHECK_EXTENSION', number));
        const meaning: Readonly<Record<string, number | string>> = {
          planesUnlessProtected: type.hasProtectedState ? 1 : 16,
          planesOfBackend: type.backendPlanes,
          planesConfigured: 4,
          fpuShared: 0,
          fpuSplit: 1,
          attributesOfVm: type.hasPrivateMemory ? 8 : 0,
          attributesConfigured: type.hasPrivateMemory ? 15 : 7,
          attributesOfPlane: 7,
        };
        const expected = (answer: string | number): string => String(meaning[answer] ?? answer);
        expect([ask(c.fd), ask(vm)], type.name).toEqual([expected(row.system), expected(row.vm)]);
        const plane = c.call(vm, 'KVM_CREATE_PLANE', 1);
        if ('ret' in plane) expect(ask(plane.ret), type.name).toBe(expected(row.plane));
      }
    });
  }
  it('2025-04 26/29: a protected VM has one plane, so none can be made', () => {
    const c = client('2025-04');
    expect(word(c.call(c.do(c.fd, 'KVM_CREATE_VM', 4), 'KVM_CREATE_PLANE', 1))).toBe('EINVAL');
  });
  it('an unknown capability is 0', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [] } });
    for (const fd of [rig.c.fd, rig.built.vmFd, rig.planeFd(1)]) expect(rig.c.do(fd, 'KVM_CHECK_EXTENSION', 99_999)).toBe(0);
  });
});

describe('LKML 2024-06-09 Hyper-V VSM Emulation 15/18: memory attributes of planes [vmplanes]', () => {
  const { NR, NW, NX, PRIVATE } = MemoryAttribute;
  const rows: readonly (readonly [bigint, string, string, number])[] = [
    [0n, '0', '0', Right.Read | Right.Write | Right.ExecSupervisor | Right.ExecUser | Right.ShadowStack],
    [NX, '0', '0', Right.Read | Right.Write | Right.ShadowStack],
    [NW, '0', '0', Right.Read | Right.ExecSupervisor | Right.ExecUser],
    [NW | NX, '0', '0', Right.Read],
    [NR | NW | NX, '0', '0', 0],
    [NR, 'EINVAL', 'EINVAL', -1],
    [NR | NW, 'EINVAL', 'EINVAL', -1],
    [NR | NX, 'EINVAL', 'EINVAL', -1],
    [PRIVATE, '0', 'EINVAL', -1],
    [PRIVATE | NW, 'EINVAL', 'EINVAL', -1],
    [PRIVATE | NR | NW | NX, 'EINVAL', 'EINVAL', -1],
  ];
  const set = (rig: Rig, plane: number, attributes: bigint, address = 0x1000n, size = 0x1000n): string =>
    word(rig.set(rig.planeFd(plane), 'KVM_SET_MEMORY_ATTRIBUTES', KvmMemoryAttributes, { address, size, attributes, flags: 0n }));

  it.each(rows)('attributes %i: plane 0 %s, plane 1 %s', (attributes, zero, one, rights) => {
    const rig = new Rig('vmplanes', { type: 1, planes: { 1: [0] } });
    expect([set(rig, 0, attributes), set(rig, 1, attributes)]).toEqual([zero, one]);
    const { permissions } = rig.vm.machine.memory;
    if (one === '0') {
      expect(rightsOf(attributes)).toBe(rights);
      expect([permissions[1]!.get(0), permissions[1]!.get(1), permissions[1]!.get(2)]).toEqual([31, rights, 31]);
      expect(set(rig, 1, 0n)).toBe('0');
    }
    expect(permissions[1]!.get(1)).toBe(31);
  });
  it('PRIVATE is one for all planes and kept with plane 0', () => {
    const rig = new Rig('vmplanes', { type: 1, planes: { 1: [0] } });
    set(rig, 0, PRIVATE, 0x4000n, 0x2000n);
    expect([3, 4, 5, 6].map((gpn) => rig.vm.machine.memory.isPrivate(gpn))).toEqual([false, true, true, false]);
    expect(word(new Rig('vmplanes').set(4, 'KVM_SET_MEMORY_ATTRIBUTES', KvmMemoryAttributes, { address: 0n, size: 0x1000n, attributes: PRIVATE, flags: 0n }))).toBe('EINVAL');
  });
  it('a VM type allows what its configuration says', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } }, {}, { planeAttributes: { 0: NW } });
    expect([set(rig, 1, NW), set(rig, 1, NX)]).toEqual(['0', 'EINVAL']);
  });
  it('attributes of one plane leave the large pages of another whole', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } });
    set(rig, 1, NW);
    const { permissions } = rig.vm.machine.memory;
    expect([permissions[0]!.isUniform(0, 512), permissions[1]!.isUniform(0, 512)]).toEqual([true, false]);
  });
  it('a violation exits with plane, address, access and instruction length; the call fails with EFAULT', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } }, { 0: { 0: [{ op: 'write', gpa: 0x1008, value: 7 }, out(1)], 1: [{ op: 'write', gpa: 0x1008, value: 7 }, out(1)] } });
    rig.vm.machine.memory.addSlot({ id: 0, gpa: 0, size: 0x4000 });
    set(rig, 1, NW);
    expect(word(rig.run(0))).toBe('0');
    expect(rig.exitReason()).toBe(ExitReason.IO);
    expect(word(rig.run(1))).toBe('EFAULT');
    expect(rig.exitReason()).toBe(ExitReason.MEMORY_FAULT);
    const e = rig.exit(ExitMemoryFaultPlanes);
    expect([e.flags, e.gpa, e.plane]).toEqual([MemoryFaultFlag.WRITE, 0x1008n, 1]);
    expect(e.instructionLength).toBe(rig.context(1).instructionLength);
    set(rig, 1, 0n);
    expect(word(rig.run(1))).toBe('0');
    expect(rig.exitReason()).toBe(ExitReason.IO);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §7.22, §4.97: MSRs that userspace answers', () => {
  const UNKNOWN = 0x1234_5678;
  const PAT = 0x277;
  const guest: Programs = { 0: { 1: [{ op: 'rdmsr', index: UNKNOWN }, out(1)], 2: [{ op: 'wrmsr', index: PAT, value: 0xffn }, out(1)], 3: [{ op: 'rdmsr', index: PAT }, out(1)] } };
  const rigOf = (reasons: number): Rig => {
    const rig = new Rig('vmplanes', { planes: { 1: [0], 2: [0], 3: [0] } }, guest);
    rig.c.must(rig.c.enableCap(rig.built.vmFd, Capability.X86_USER_SPACE_MSR, reasons));
    return rig;
  };
  const filter = (rig: Rig, flags: number, ranges: readonly { readonly flags: number; readonly nmsrs: number; readonly base: number; readonly bits: readonly number[] }[], edit: (bytes: Uint8Array) => void = () => {}): string => {
    const rows = Array.from({ length: 16 }, (_, i) => ({ flags: ranges[i]?.flags ?? 0, nmsrs: ranges[i]?.nmsrs ?? 0, base: ranges[i]?.base ?? 0, bitmap: BigInt(KvmX86MsrFilter.size + i * 0x600) }));
    const bytes = new Uint8Array(KvmX86MsrFilter.size + 16 * 0x600);
    bytes.set(encode(KvmX86MsrFilter, { flags, ranges: rows }));
    ranges.forEach((r, i) => bytes.set(r.bits, KvmX86MsrFilter.size + i * 0x600));
    edit(bytes);
    return word(rig.c.call(rig.built.vmFd, 'KVM_X86_SET_MSR_FILTER', bytes));
  };

  it('unknown, invalid and filtered accesses exit with their reason', () => {
    const rig = rigOf(7);
    expect(filter(rig, 0, [{ flags: 1, nmsrs: 8, base: PAT & ~7, bits: [0x7f & ~(1 << (PAT & 7))] }])).toBe('0');
    const seen = [1, 2, 3].map((plane) => {
      rig.run(plane);
      const e = rig.exit(ExitMsr);
      return [rig.exitReason(), e.reason, e.index, e.data];
    });
    expect(seen).toEqual([
      [ExitReason.X86_RDMSR, MsrExitReason.UNKNOWN, UNKNOWN, 0n],
      [ExitReason.X86_WRMSR, MsrExitReason.INVAL, PAT, 0xffn],
      [ExitReason.X86_RDMSR, MsrExitReason.FILTER, PAT, 0n],
    ]);
  });
  it('the answer is the value, or #GP when userspace says error', () => {
    const rig = rigOf(MsrExitReason.UNKNOWN);
    rig.run(1);
    const view = new DataView(rig.page().bytes.buffer);
    view.setBigUint64(EXIT_UNION_AT + ExitMsr.at.data, 0x1_0000_0002n, true);
    rig.run(1);
    const regs = rig.get(rig.fd(1), 'KVM_GET_REGS', KvmRegs);
    expect([regs.rax, regs.rdx, rig.exitReason()]).toEqual([2n, 1n, ExitReason.IO]);

    const failing = rigOf(MsrExitReason.UNKNOWN);
    failing.run(1);
    failing.page().bytes[EXIT_UNION_AT] = 1;
    failing.run(1);
    expect(failing.get(failing.fd(1), 'KVM_GET_REGS', KvmRegs).rdx).not.toBe(1n);
    expect(failing.exit(ExitIo).port).toBe(1);
  });
  it('without its reason the access is #GP in the guest', () => {
    const rig = rigOf(0);
    filter(rig, 0, [{ flags: 1, nmsrs: 8, base: PAT & ~7, bits: [0] }]);
    for (const plane of [1, 2, 3]) {
      rig.run(plane);
      expect(rig.exitReason(), `plane ${plane}`).toBe(ExitReason.IO);
    }
  });
  it('refuses what the interface has not', () => {
    const rig = rigOf(0);
    const range = { flags: 1, nmsrs: 8, base: 0, bits: [] };
    expect(word(rig.c.enableCap(rig.built.vmFd, Capability.X86_USER_SPACE_MSR, 8))).toBe('EINVAL');
    expect(filter(rig, 2, [range])).toBe('EINVAL');
    expect(filter(rig, MSR_FILTER_DEFAULT_DENY, [])).toBe('EINVAL');
    expect(filter(rig, 0, [{ ...range, flags: 4 }])).toBe('EINVAL');
    expect(filter(rig, 0, [{ ...range, flags: 0 }])).toBe('EINVAL');
    expect(filter(rig, 0, [{ ...range, nmsrs: 0x600 * 8 + 1 }])).toBe('EINVAL');
    expect(filter(rig, 0, [range], (bytes) => new DataView(bytes.buffer).setBigUint64(8 + 16, 1n << 40n, true))).toBe('EFAULT');
    expect(filter(rig, 0, Array.from({ length: 16 }, () => range))).toBe('0');
  });
});

describe('Linux Documentation/virt/kvm/api.rst §7.20: bus locks', () => {
  const guest: Programs = { 0: { 0: [{ op: 'busLock' }, { op: 'busLock' }, { op: 'busLock' }, out(1)] } };
  it('exit when it was asked for, for whichever plane', () => {
    const rig = new Rig('vmplanes', {}, guest);
    expect([3, 4].map((mode) => word(rig.c.enableCap(rig.built.vmFd, Capability.X86_BUS_LOCK_EXIT, mode)))).toEqual(['EINVAL', 'EINVAL']);
    rig.c.must(rig.c.enableCap(rig.built.vmFd, Capability.X86_BUS_LOCK_EXIT, 2));
    for (let i = 0; i < 3; i++) {
      rig.run();
      expect(rig.exitReason()).toBe(ExitReason.X86_BUS_LOCK);
    }
    rig.run();
    expect(rig.exitReason()).toBe(ExitReason.IO);
  });
  it('with a rate limit the vCPU stalls until its next lock is due', () => {
    const rig = new Rig('vmplanes', {}, guest, { x86: { busLock: { exits: false, perSecond: 1000 } } });
    expect(word(rig.run())).toBe('blocked');
    rig.vm.advance(999_000);
    expect(word(rig.again())).toBe('blocked');
    rig.vm.advance(2_000);
    expect(word(rig.again())).toBe('blocked');
    rig.vm.advance(1_000_000);
    expect(word(rig.again())).toBe('0');
    expect(rig.exitReason()).toBe(ExitReason.IO);
  });
});

describe('memory slots and dirty pages', () => {
  const region = (fields: object) => ({ slot: 0, flags: 0, guestPhysAddr: 0n, memorySize: 0x8000n, userspaceAddr: 0n, ...fields });
  const set = (rig: Rig, fields: object): string => word(rig.set(rig.built.vmFd, 'KVM_SET_USER_MEMORY_REGION', KvmUserspaceMemoryRegion, region(fields)));
  it('Linux virt/kvm/kvm_main.c: checks of KVM_SET_USER_MEMORY_REGION', () => {
    const rig = new Rig('vmplanes');
    expect(set(rig, { flags: 4 })).toBe('EINVAL');
    expect(set(rig, { guestPhysAddr: 1n })).toBe('EINVAL');
    expect(set(rig, { memorySize: 0x1001n })).toBe('EINVAL');
    expect(set(rig, { userspaceAddr: 1n })).toBe('EINVAL');
    expect(set(rig, { guestPhysAddr: 1n << 52n })).toBe('EINVAL');
    expect(set(rig, { slot: 32764 })).toBe('EINVAL');
    expect(set(rig, { slot: 1 << 16 })).toBe('EINVAL');
    expect(set(rig, { memorySize: 0n })).toBe('EINVAL');
    expect(set(rig, {})).toBe('0');
    expect(set(rig, { slot: 1, guestPhysAddr: 0x7000n })).toBe('EEXIST');
    expect(set(rig, { memorySize: 0x4000n })).toBe('EINVAL');
    expect(set(rig, { flags: 2 })).toBe('EINVAL');
    expect(set(rig, { slot: 1, guestPhysAddr: 0x10_0000n, memorySize: 1n << 40n })).toBe('ENOMEM');
    expect(set(rig, { guestPhysAddr: 0x10000n })).toBe('0');
    expect(rig.vm.machine.memory.slots.byId(0)!.first).toBe(16);
    expect(set(rig, { memorySize: 0n })).toBe('0');
  });

  const writers: Programs = { 0: { 0: [{ op: 'write', gpa: 0x1000, value: 1 }, { op: 'write', gpa: 0x3000, value: 1 }, out(1)], 1: [{ op: 'write', gpa: 0x5000, value: 1 }, out(1)] } };
  const log = (rig: Rig, room = 8): { result: string; bits: number } => {
    const bytes = new Uint8Array(KvmDirtyLog.size + room);
    bytes.set(encode(KvmDirtyLog, { slot: 0, dirtyBitmap: BigInt(KvmDirtyLog.size) }));
    return { result: word(rig.c.call(rig.built.vmFd, 'KVM_GET_DIRTY_LOG', bytes)), bits: bytes[KvmDirtyLog.size] ?? 0 };
  };
  it('Linux Documentation/virt/kvm/api.rst §4.8: one dirty log for all planes', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } }, writers);
    expect(log(rig).result).toBe('ENOENT');
    set(rig, {});
    expect(log(rig).result).toBe('ENOENT');
    set(rig, { flags: 1 });
    rig.run(0);
    rig.run(1);
    expect(log(rig, 4).result).toBe('EFAULT');
    expect(log(rig)).toEqual({ result: '0', bits: 0b101010 });
    expect(log(rig)).toEqual({ result: '0', bits: 0 });
  });
  it('LKML 2025-04-01 RFC KVM: VM planes 13/29: one dirty ring for the planes of a vCPU, which exits when it is full', () => {
    const pages = 200;
    const filling = Array.from({ length: pages }, (_, i): Step => ({ op: 'write', gpa: i * 0x1000, value: 1 }));
    const c = client('vmplanes', { 0: { 0: [...filling, out(1)], 1: [{ op: 'write', gpa: 0xd_1000, value: 1 }, out(2)] } });
    const vmFd = c.do(c.fd, 'KVM_CREATE_VM');
    const enable = (size: number): string => word(c.enableCap(vmFd, Capability.DIRTY_LOG_RING, size));
    expect([enable(0), enable(6000), enable(1024), enable(1 << 21)]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'E2BIG']);
    expect(word(c.call(vmFd, 'KVM_RESET_DIRTY_RINGS'))).toBe('EINVAL');
    // 256 entries of which 64 are kept in reserve.
    expect([enable(4096), enable(4096)]).toEqual(['0', 'EINVAL']);
    const vcpu = c.do(vmFd, 'KVM_CREATE_VCPU', 0);
    const planeFd = c.do(vmFd, 'KVM_CREATE_PLANE', 1);
    c.must(c.createPlaneVcpu(planeFd, vcpu, 0));
    c.must(c.call(vmFd, 'KVM_SET_USER_MEMORY_REGION', encode(KvmUserspaceMemoryRegion, { ...region({ memorySize: 0xe_0000n }), flags: 1 })));
    const mapped = c.system.mmap(c.caller, vcpu, 64);
    const ring = 'bytes' in mapped ? new Uint32Array(mapped.bytes.buffer, mapped.bytes.byteOffset, 1024) : new Uint32Array(0);
    const page = c.system.mmap(c.caller, vcpu, 0);
    const run = 'bytes' in page ? page.bytes : new Uint8Array(0);
    const reason = (): number => new DataView(run.buffer, run.byteOffset).getUint32(8, true);
    c.do(vcpu, 'KVM_RUN');
    expect(reason()).toBe(ExitReason.IO);
    run[2] = 1;
    c.do(vcpu, 'KVM_RUN');
    expect(reason()).toBe(ExitReason.DIRTY_RING_FULL);
    for (let i = 0; i < pages; i++) ring[i * 4]! |= 2;
    expect(word(c.call(vmFd, 'KVM_RESET_DIRTY_RINGS'))).toBe(String(pages));
    c.do(vcpu, 'KVM_RUN');
    expect(reason()).toBe(ExitReason.IO);
    const offsets = Array.from({ length: 256 }, (_, i) => (ring[i * 4]! & 1 ? ring[i * 4 + 2]! : -1)).filter((o) => o >= 0);
    expect(offsets).toEqual([0xd1]);
    expect(log({ c, built: { vmFd } } as Rig).result).toBe('ENXIO');
  });
});

describe('interrupt routes', () => {
  const route = (plane: number, fields: object = {}, nr = 1): Uint8Array => {
    const bytes = new Uint8Array(8 + KvmIrqRoutingEntryPlanes.size);
    new DataView(bytes.buffer).setUint32(0, nr, true);
    const u = { msi: { addressLo: 0xfee0_0000, addressHi: 0, data: 192, devid: 0 } };
    KvmIrqRoutingEntryPlanes.write(new DataView(bytes.buffer), 8, { gsi: 3, type: IrqRouting.MSI, flags: 0, plane, u, ...fields });
    return bytes;
  };
  const line = Uint8Array.of(3, 0, 0, 0, 1, 0, 0, 0);
  it('COCONUT-SVSM, KVM Planes build and run notes: each route names its plane; one to a plane that does not exist is dropped [vmplanes]', () => {
    const rig = apicRig('vmplanes', [1]);
    for (const [plane, expected] of [[1, [false, true]], [0, [true, true]]] as const) {
      rig.c.do(rig.built.vmFd, 'KVM_SET_GSI_ROUTING', route(plane));
      rig.c.do(rig.built.vmFd, 'KVM_IRQ_LINE', line);
      expect([rig.irr(0, 192), rig.irr(1, 192)]).toEqual(expected);
    }
    rig.c.do(rig.built.vmFd, 'KVM_SET_GSI_ROUTING', route(3));
    expect(rig.vm.routing.routes).toEqual([]);
  });
  it('LKML 2026-06-08 KVM Planes + SEV-SNP Support 08/60: the plane that set the table last gets every GSI', () => {
    const rig = apicRig('2026-06', [1]);
    rig.c.do(rig.built.vmFd, 'KVM_SET_GSI_ROUTING', route(0));
    rig.c.do(rig.planeFd(1), 'KVM_SET_GSI_ROUTING', route(0));
    rig.c.do(rig.built.vmFd, 'KVM_IRQ_LINE', line);
    expect([rig.irr(0, 192), rig.irr(1, 192)]).toEqual([false, true]);
  });
  it('Linux Documentation/virt/kvm/api.rst §4.52: refusals leave the table as it was', () => {
    const rig = apicRig('vmplanes', [1]);
    rig.c.do(rig.built.vmFd, 'KVM_SET_GSI_ROUTING', route(1));
    const set = (bytes: Uint8Array | null): string => word(rig.c.call(rig.built.vmFd, 'KVM_SET_GSI_ROUTING', bytes));
    expect([set(null), set(route(1, {}, 2)), set(route(1, {}, 4097)), set(route(1, { gsi: 4096 })), set(route(1, { type: 9 })), set(route(1, { flags: 2 })), set(route(1, { type: IrqRouting.IRQCHIP }))]).toEqual([
      'EFAULT', 'EFAULT', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL',
    ]);
    expect(rig.vm.routing.routes).toHaveLength(1);
    expect(word(new Rig('vmplanes', { irqchip: 'none' }).c.call(4, 'KVM_SET_GSI_ROUTING', route(0)))).toBe('EINVAL');
  });
});

describe('exits and shared pages [vmplanes]', () => {
  it('port input: size and port in the union, data in the page behind', () => {
    const rig = new Rig('vmplanes', {}, { 0: { 0: [{ op: 'in', port: 0x3f8, size: 2 }, out(1)] } });
    rig.run();
    expect(rig.exit(ExitIo)).toEqual({ direction: 0, size: 2, port: 0x3f8, count: 1, dataOffset: 4096n });
    rig.page().pioData.set([0x34, 0x12]);
    rig.run();
    expect(rax(rig) & 0xffffn).toBe(0x1234n);
  });
  it('a device write: address, data and length', () => {
    const rig = new Rig('vmplanes', {}, { 0: { 0: [{ op: 'write', gpa: 0xe000_0004, size: 4, value: 0xaabb_ccdd }] } });
    rig.run();
    const e = rig.exit(ExitMmio);
    expect([e.physAddr, e.len, e.isWrite, [...e.data]]).toEqual([0xe000_0004n, 4, 1, [0xdd, 0xcc, 0xbb, 0xaa, 0, 0, 0, 0]]);
  });
  it('shutdown', () => {
    const rig = new Rig('vmplanes', {}, { 0: { 0: [{ op: 'shutdown' }] } });
    rig.run();
    expect(rig.exitReason()).toBe(ExitReason.SHUTDOWN);
  });
  it('the debug payload holds PC and DR6', () => {
    expect(ExitDebug.at).toMatchObject({ exception: 0, pc: 8, dr6: 16, dr7: 24 });
  });
  it('every return tells of the plane that ran', () => {
    const rig = apicRig('vmplanes', [1], { 0: { 0: [out(1)], 1: [{ op: 'sti' }, out(1)] } });
    rig.editLapic(1, (view) => view.setUint32(0x80, 0x50, true));
    const { bytes } = rig.page();
    const view = new DataView(bytes.buffer);
    rig.run(0);
    expect([bytes[13], view.getBigUint64(16, true), view.getBigUint64(24, true)]).toEqual([0, 0n, 0xfee0_0c00n]);
    rig.run(1);
    expect([bytes[13], view.getBigUint64(16, true)]).toEqual([1, 5n]);
  });
  it('Linux Documentation/virt/kvm/api.rst §6.74: synchronised registers are those of the plane that runs', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } }, { 0: { 1: [out(1)] } });
    const view = new DataView(rig.page().bytes.buffer);
    view.setBigUint64(296, 1n, true);
    view.setBigUint64(288, 1n, true);
    rig.page().syncRegs.set(encode(KvmRegs, { ...rig.get(rig.fd(1), 'KVM_GET_REGS', KvmRegs), rbx: 0x77n }));
    rig.run(1);
    expect([0, 1].map((plane) => rig.get(rig.fd(plane), 'KVM_GET_REGS', KvmRegs).rbx)).toEqual([0n, 0x77n]);
    expect(view.getBigUint64(296, true)).toBe(0n);
    expect(KvmRegs.read(view, 304).rip).toBe(rig.get(rig.fd(1), 'KVM_GET_REGS', KvmRegs).rip);
    view.setBigUint64(296, 8n, true);
    expect(word(rig.again())).toBe('EINVAL');
  });
  it('LKML 2025-04-01 RFC KVM: VM planes 13/29: mappings of plane fds and plane vCPU fds', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } });
    const map = (fd: number, page = 0, caller = rig.c.caller): string => Object.keys(rig.c.system.mmap(caller, fd, page)).join();
    expect([map(rig.vcpu()), map(rig.vcpu(), 1), map(rig.vcpu(), 2), map(rig.vcpu(), 64), map(rig.fd(1)), map(rig.planeFd(1)), map(999)]).toEqual(['bytes', 'bytes', 'signal', 'signal', 'signal', 'errno', 'errno']);
    expect(rig.c.do(rig.c.fd, 'KVM_GET_VCPU_MMAP_SIZE')).toBe(3 * 4096);
  });
  it('LKML 2025-06, S. Christopherson on RFC KVM: VM planes 10/29: statistics per plane, the vCPU shows the sum', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } }, { 0: { 0: [out(1), out(1)], 1: [out(1)] } });
    for (const plane of [0, 0, 1]) rig.run(plane);
    const { counters } = rig.vm;
    expect([counters.of(rig.context(0)).io_exits, counters.of(rig.context(1)).io_exits, counters.ofGroup(0).io_exits, counters.ofVm().io_exits]).toEqual([2, 1, 3, 3]);
    const fd = rig.c.do(rig.vcpu(), 'KVM_GET_STATS_FD');
    const file = rig.c.system.read(fd);
    const bytes = 'bytes' in file ? file.bytes : new Uint8Array(0);
    const view = new DataView(bytes.buffer);
    expect(new TextDecoder().decode(bytes.subarray(24, 36))).toBe('kvm-1/vcpu-0');
    expect(view.getBigUint64(view.getUint32(20, true) + 8, true)).toBe(3n);
    expect([rig.c.system.read(rig.vcpu()), rig.c.system.read(999)]).toEqual([{ errno: 'EINVAL' }, { errno: 'EBADF' }]);
  });
});
