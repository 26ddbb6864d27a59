import { isDeepStrictEqual } from 'node:util';
import { Capability, IrqRouting, KvmGuestDebug, KvmIrqRoutingEntryPlanes, KvmUserspaceMemoryRegion, KvmX86MsrFilter } from '@vmplanes/abi-kvm-planes';
import { HostError, InvariantChecks } from '@vmplanes/engine';
import { type KvmClient, KvmSystem, type SavedSystem } from '@vmplanes/kvm';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { client, encode, profiles, type RunnableProfile, word } from './kit.ts';

const out: Step = { op: 'out', port: 1, value: 0 };
const programs = { 0: { 0: [out, out, out], 1: [{ op: 'in', port: 7, size: 4 }, out] as readonly Step[] }, 1: { 0: [{ op: 'hlt' }] as readonly Step[] } };
const small = { machine: { memoryBytes: 1 << 16 } };
const make = (profile: RunnableProfile): KvmClient => client(profile, programs, small);
const fresh = (profile: RunnableProfile): KvmSystem => new KvmSystem({ profile, vm: make(profile).system.vmConfig });
const codeOf = (use: () => unknown): string => {
  try {
    use();
    return 'none';
  } catch (error) {
    return error instanceof HostError ? `${error.code}: ${error.message}` : String(error);
  }
};

/** A process in which everything that has a value has another one than at the start. */
const used = (profile: RunnableProfile): { readonly c: KvmClient; readonly vmFd: number; readonly vcpu: number; readonly other: number } => {
  const c = make(profile);
  c.must(c.system.openOther('first'));
  const vmFd = c.do(c.fd, 'KVM_CREATE_VM', profile === '2026-06' ? 4 : 1);
  for (const [cap, value] of [[Capability.SPLIT_IRQCHIP, 24], [Capability.X2APIC_API, 1], [Capability.EXCEPTION_PAYLOAD, 1], [Capability.X86_TRIPLE_FAULT_EVENT, 1], [Capability.X86_USER_SPACE_MSR, 5], [Capability.X86_BUS_LOCK_EXIT, 2], [Capability.DIRTY_LOG_RING, 4096]] as const) c.must(c.enableCap(vmFd, cap, value));
  if (profile !== '2026-06') c.must(c.enableCap(vmFd, 240, 1));
  c.do(vmFd, 'KVM_SET_TSC_KHZ', 3_000_000);
  const vcpu = c.do(vmFd, 'KVM_CREATE_VCPU', 0);
  const other = c.do(vmFd, 'KVM_CREATE_VCPU', 7);
  const table = new Uint8Array(8 + 2 * 40);
  new DataView(table.buffer).setUint32(0, 2, true);
  table.fill(3, 8 + 12, 8 + 28);
  table[8 + 40] = 1;
  table[8 + 40 + 8] = 1;
  c.do(vcpu, 'KVM_SET_CPUID2', table);
  const plane = c.do(vmFd, 'KVM_CREATE_PLANE', 1);
  c.do(vmFd, 'KVM_CREATE_PLANE', 3);
  c.must(c.createPlaneVcpu(plane, vcpu, 0));
  c.must(c.createPlaneVcpu(plane, other, 7));
  c.do(vmFd, 'KVM_SET_USER_MEMORY_REGION', encode(KvmUserspaceMemoryRegion, { slot: 2, flags: 1, guestPhysAddr: 0x4000n, memorySize: 0x4000n, userspaceAddr: 0n }));
  const routes = new Uint8Array(8 + 48);
  routes[0] = 1;
  KvmIrqRoutingEntryPlanes.write(new DataView(routes.buffer), 8, { gsi: 9, type: IrqRouting.MSI, flags: 0, plane: 1, u: { msi: { addressLo: 0xfee0_0000, addressHi: 0, data: 0x99, devid: 0 } } });
  c.do(vmFd, 'KVM_SET_GSI_ROUTING', routes);
  const filter = new Uint8Array(KvmX86MsrFilter.size + 8);
  filter.set(encode(KvmX86MsrFilter, { flags: 0, ranges: Array.from({ length: 16 }, (_, i) => ({ flags: i === 0 ? 3 : 0, nmsrs: i === 0 ? 8 : 0, base: 0x270, bitmap: BigInt(KvmX86MsrFilter.size) })) }));
  c.do(vmFd, 'KVM_X86_SET_MSR_FILTER', filter);
  c.do(vcpu, 'KVM_SET_TSC_KHZ', 2_000_000);
  const mask = new Uint8Array(12);
  mask[0] = 8;
  mask[5] = 2;
  c.do(vcpu, 'KVM_SET_SIGNAL_MASK', mask);
  c.do(vcpu, 'KVM_SET_GUEST_DEBUG', encode(KvmGuestDebug, { control: 3, debugreg: Array<bigint>(8).fill(0n) }));
  c.do(vcpu, 'KVM_GET_STATS_FD');
  c.do(vmFd, 'KVM_GET_STATS_FD');
  c.system.close(4);
  const vm = c.system.vmOf(vmFd)!;
  const page = vm.groups.get(0)!.page;
  page.bytes[2] = 1;
  c.do(vcpu, 'KVM_RUN');
  page.bytes[2] = 0;
  c.do(vcpu, 'KVM_RUN');
  expect(word(c.call(other, 'KVM_RUN', 0, { mm: 1, thread: 5 }))).toBe('blocked');
  c.system.raise(3, 9);
  vm.isStateProtected = true;
  return { c, vmFd, vcpu, other };
};

describe('a saved process', () => {
  it.each(profiles)('[%s] holds every value, and a restored one is equal to it in all of them', (profile) => {
    const { c, vmFd } = used(profile);
    const state = structuredClone(c.system.save());
    const system = fresh(profile);
    system.restore(state);
    expect(isDeepStrictEqual(system.save(), state)).toBe(true);
    const [a, b] = [c.system.vmOf(vmFd)!, system.vmOf(vmFd)!];
    const seen = (vm: typeof a): object => ({
      caps: vm.caps, irqchip: vm.irqchip, planes: vm.planes, hasPlanes: vm.hasPlanes, isDead: vm.isDead, isStateProtected: vm.isStateProtected, defaultTscKhz: vm.defaultTscKhz, hasWideIds: vm.hardware.hasWideIds, mm: vm.mm, type: vm.type.id,
      routes: vm.routing.routes, exits: vm.arch.registers.msrExits, locks: vm.arch.registers.busLockExits, sum: vm.counters.ofVm(), isShared: vm.machine.sharing.isShared('xmm0'), isLocked: vm.isLocked,
      groups: [...vm.groups.values()].map((g) => [g.id, g.vp.index, g.cpuid, g.signalMask, g.guestDebug, g.tscKhz, g.hasRun, g.inRun, g.exitPlane, g.uninitialized, g.lentReplies, g.vp.existing, vm.counters.ofGroup(g.id)]),
    });
    expect(seen(b)).toEqual(seen(a));
    // None of it is what a new VM has.
    expect(seen(a)).toMatchObject({
      caps: { exceptionPayload: true, tripleFaultEvent: true, userSpaceMsr: 5, busLockExit: true, dirtyRing: 4096, planesFpu: profile !== '2026-06' },
      irqchip: 'split', planes: 0b1011, hasPlanes: true, isStateProtected: true, defaultTscKhz: 3_000_000, hasWideIds: true, exits: { invalid: true, unknown: false, filter: true }, locks: true, isShared: profile !== '2026-06',
    });
    expect(a.groups.get(0)).toMatchObject({ id: 0, signalMask: 0x200n, guestDebug: 3, tscKhz: 2_000_000, hasRun: true, inRun: null });
    expect(a.groups.get(7)).toMatchObject({ id: 7, hasRun: true, inRun: { thread: 5, plane: 0 }, uninitialized: 0b11, tscKhz: 3_000_000 });
    expect(system.fds.list().map(([fd, f]) => [fd, f.kind, f.label])).toEqual(c.system.fds.list().map(([fd, f]) => [fd, f.kind, f.label]));
    expect(state.signals).toEqual([[3, 256n]]);
    expect([state.objects, state.files.length, state.format, state.version]).toEqual([7, 10, 'vmplanes-kvm', 1]);
  });
  it.each(profiles)('[%s] does not share memory with the one it came from', (profile) => {
    const { c, vmFd } = used(profile);
    const state = c.system.save();
    const before = structuredClone(state);
    const system = fresh(profile);
    system.restore(state);
    const vm = system.vmOf(vmFd)!;
    vm.groups.get(0)!.page.bytes.fill(0xdd);
    vm.caps.userSpaceMsr = 2;
    vm.groups.get(7)!.inRun = null;
    (c.system.vmOf(vmFd)!).groups.get(0)!.page.bytes.fill(0xcc);
    expect(isDeepStrictEqual(state, before)).toBe(true);
  });
  it('goes on where it was: counters, the scale of new vCPUs, the ring, the plane of the answer', () => {
    const { c, vmFd, vcpu } = used('vmplanes');
    const system = fresh('vmplanes');
    system.restore(structuredClone(c.system.save()));
    const call = (s: KvmSystem): readonly string[] => {
      const caller = { mm: 1, thread: 1 };
      const vm = s.vmOf(vmFd)!;
      vm.isStateProtected = false;
      vm.machine.checks = new InvariantChecks(vm.machine);
      const page = vm.groups.get(0)!.page;
      page.bytes[2] = 1;
      new DataView(page.bytes.buffer).setUint32(4096, 0x1234, true);
      return [word(s.ioctl(caller, vcpu, 0xae80)), String(new DataView(page.bytes.buffer).getUint32(8, true)), JSON.stringify(vm.counters.ofVm()), word(s.ioctl(caller, vmFd, 0xae41, 9)), word(s.ioctl(caller, vmFd, 0xaec7))];
    };
    expect(call(system)).toEqual(call(c.system));
  });
  it('a full irqchip and its routes', () => {
    const c = make('2025-04');
    const vmFd = c.do(c.fd, 'KVM_CREATE_VM');
    c.do(vmFd, 'KVM_CREATE_IRQCHIP');
    const system = fresh('2025-04');
    system.restore(structuredClone(c.system.save()));
    expect([system.vmOf(vmFd)!.irqchip, system.vmOf(vmFd)!.routing.routes]).toEqual(['full', c.system.vmOf(vmFd)!.routing.routes]);
    expect(word(system.ioctl({ mm: 1, thread: 1 }, vmFd, 0xae60))).toBe('EEXIST');
  });
  it('two VMs stay two, each file with its own', () => {
    const c = make('vmplanes');
    const [a, b] = [c.build({ type: 1 }), c.build({ type: 0, irqchip: 'none', vcpus: [3] })];
    const system = fresh('vmplanes');
    system.restore(structuredClone(c.system.save()));
    expect([a, b].map(({ vmFd }) => [system.vmOf(vmFd)!.type.id, system.vmOf(vmFd)!.irqchip, [...system.vmOf(vmFd)!.groups.keys()]])).toEqual([[1, 'split', [0]], [0, 'none', [3]]]);
    expect(system.vmOf(a.vcpus.get(0)!)).toBe(system.vmOf(a.vmFd));
    expect(system.vmOf(b.vcpus.get(3)!)).toBe(system.vmOf(b.vmFd));
  });
  it('that does not fit is refused, and says why', () => {
    const { c } = used('vmplanes');
    const state = structuredClone(c.system.save());
    const attempt = (edit: (s: SavedSystem) => SavedSystem): string => codeOf(() => fresh('vmplanes').restore(edit(state)));
    const without = (kind: string, fields: object): SavedSystem => ({ ...state, files: state.files.map((f) => (f.kind === kind ? { ...f, ...fields } : f)) });
    expect(attempt((s) => ({ ...s, format: 'other' as never }))).toMatch(/^BadSnapshot: .*version 1/);
    expect(attempt((s) => ({ ...s, version: 2 }))).toMatch(/^BadSnapshot: .*version 2: this reader knows 1/);
    expect(attempt((s) => ({ ...s, profile: '2025-04' }))).toMatch(/^BadSnapshot: .*2025-04/);
    expect(attempt((s) => ({ ...s, vms: s.vms.map((v) => ({ ...v, type: 9 })) }))).toBe('BadSnapshot: no VM type 9');
    expect(attempt(() => without('vm', { vm: -1 }))).toMatch(/^BadSnapshot: fd \d+: no VM behind it/);
    expect(attempt(() => without('vcpu', { vcpu: 5 }))).toMatch(/^BadSnapshot: fd \d+: no vCPU 5/);
    expect(attempt((s) => s)).toBe('none');
    expect(codeOf(() => c.system.restore(state))).toMatch(/^BadState/);
  });
  it('a snapshot of the machine whose vCPU is another VP here is refused', () => {
    const [a, b] = [make('vmplanes'), make('vmplanes')];
    const one = a.build({ vcpus: [0, 1] }).vm;
    const two = b.build({ vcpus: [1, 0] }).vm;
    expect(codeOf(() => two.machine.restore(one.machine.snapshot()))).toBe('BadSnapshot: vCPU 0 is VP 1 here and VP 0 in the snapshot');
    const same = make('vmplanes').build({ vcpus: [0, 1] }).vm;
    same.groups.get(1)!.guestDebug = 5;
    expect(codeOf(() => same.machine.restore(one.machine.snapshot()))).toBe('none');
    expect(same.groups.get(1)!.guestDebug).toBe(0);
  });
});
