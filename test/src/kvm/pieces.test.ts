import { Capability, ExitIo, IrqRouting, KvmEnableCap, KvmGuestDebug, KvmIrqRoutingEntryPlanes, KvmMsi, KvmXsave } from '@vmplanes/abi-kvm-planes';
import type { KvmArgument, KvmResult } from '@vmplanes/kvm';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { apicRig, client, profiles, Rig, type RunnableProfile, word } from './kit.ts';

const out = (port: number): Step => ({ op: 'out', port, value: 0 });

describe('what the client passes on', () => {
  type Call = readonly [fd: number, name: string, argument: KvmArgument];
  /** The calls that a use of the client makes; each returns 40, 41 and so on. */
  const calls = (profile: RunnableProfile, use: (c: ReturnType<typeof client>) => void): readonly Call[] => {
    const c = client(profile);
    const made: Call[] = [];
    c.call = (fd, name, argument = 0): KvmResult => (made.push([fd, name, argument]), { ret: 39 + made.length });
    use(c);
    return made;
  };
  const cap = (call: Call): unknown => {
    const { cap, flags, args } = KvmEnableCap.read(new DataView((call[2] as Uint8Array).buffer), 0);
    return { cap, flags, args };
  };

  it('KVM_ENABLE_CAP: one argument, the others zero', () => {
    const [given, plain] = calls('vmplanes', (c) => (c.enableCap(7, 240, 0x1_2345_6789n, 3), c.enableCap(8, 121)));
    expect([given!.slice(0, 2), cap(given!), plain!.slice(0, 2), cap(plain!)]).toEqual([
      [7, 'KVM_ENABLE_CAP'], { cap: 240, flags: 3, args: [0x1_2345_6789n, 0n, 0n, 0n] }, [8, 'KVM_ENABLE_CAP'], { cap: 121, flags: 0, args: [0n, 0n, 0n, 0n] },
    ]);
  });
  it.each([[undefined, 0xfee0_0000], [1, 0xfee0_1000], [254, 0xfeef_e000]] as const)('SDM 3A §11.11.1: a message for the APIC with id %s', (id, addressLo) => {
    const [call] = calls('vmplanes', (c) => void c.signalMsi(9, 0x51, id));
    expect(call!.slice(0, 2)).toEqual([9, 'KVM_SIGNAL_MSI']);
    expect(KvmMsi.read(new DataView((call![2] as Uint8Array).buffer), 0)).toMatchObject({ addressLo, addressHi: 0, data: 0x51, flags: 0, devid: 0 });
  });
  it.each([['2025-04', 'KVM_CREATE_VCPU_PLANE', 5], ['vmplanes', 'KVM_CREATE_VCPU_PLANE', 5], ['2026-06', 'KVM_CREATE_VCPU', 6]] as const)('a plane vCPU [%s]', (profile, name, argument) => {
    expect(calls(profile, (c) => void c.createPlaneVcpu(4, 5, 6))).toEqual([[4, name, argument]]);
  });
  it.each(profiles)('a plan without anything: a VM that may have planes, 24 pins in userspace, one vCPU [%s]', (profile) => {
    const made = calls(profile, (c) => void c.build({ planes: { 2: [0, 1], 3: [] }, vcpus: [0, 1] }));
    expect(made.map(([fd, name]) => `${fd} ${name}`).slice(1)).toEqual([
      '40 KVM_ENABLE_CAP', '40 KVM_CREATE_VCPU', '40 KVM_CREATE_VCPU', '40 KVM_CREATE_PLANE',
      ...[0, 1].map(() => `44 ${profile === '2026-06' ? 'KVM_CREATE_VCPU' : 'KVM_CREATE_VCPU_PLANE'}`), '40 KVM_CREATE_PLANE',
    ]);
    // KVM_X86_SNP_VM where only such a VM may have planes. @spec Linux arch/x86/include/uapi/asm/kvm.h
    expect(made[0]!.slice(1)).toEqual(['KVM_CREATE_VM', profile === '2026-06' ? 4 : 0]);
    expect(cap(made[1]!)).toEqual({ cap: Capability.SPLIT_IRQCHIP, flags: 0, args: [24n, 0n, 0n, 0n] });
    expect(made.slice(2).map((call) => call[2])).toEqual([0, 1, 2, ...(profile === '2026-06' ? [0, 1] : [42, 43]), 3]);
  });
  it.each([['full', ['KVM_CREATE_VM', 'KVM_CREATE_IRQCHIP', 'KVM_CREATE_VCPU']], ['none', ['KVM_CREATE_VM', 'KVM_CREATE_VCPU']]] as const)('irqchip %s', (irqchip, names) => {
    const made = calls('2025-04', (c) => void c.build({ irqchip, type: 1 }));
    expect([made.map(([, name]) => name), made[0]![2], made.at(-1)![2]]).toEqual([names, 1, 0]);
  });
  it('a plane vCPU of a vCPU that the plan does not have is a bad fd', () => {
    expect(() => client('vmplanes').build({ planes: { 1: [3] } })).toThrow(/failed with E/);
    expect(calls('vmplanes', (c) => void c.build({ planes: { 1: [3] } })).at(-1)).toEqual([43, 'KVM_CREATE_VCPU_PLANE', -1]);
  });
});

describe('COCONUT-SVSM, KVM Planes build and run notes: a message route to a plane that does not exist leads nowhere [vmplanes]', () => {
  it.each([[0, [true, false]], [1, [false, true]], [2, [false, false]], [31, [false, false]], [32, [false, false]], [33, [false, false]], [0xffff_ffff, [false, false]]] as const)('plane %i', (plane, reached) => {
    const rig = apicRig('vmplanes', [1]);
    const bytes = new Uint8Array(8 + KvmIrqRoutingEntryPlanes.size);
    bytes[0] = 1;
    KvmIrqRoutingEntryPlanes.write(new DataView(bytes.buffer), 8, { gsi: 9, type: IrqRouting.MSI, flags: 0, plane, u: { msi: { addressLo: 0xfee0_0000, addressHi: 0, data: 0x51, devid: 0 } } });
    rig.c.do(rig.built.vmFd, 'KVM_SET_GSI_ROUTING', bytes);
    rig.c.do(rig.built.vmFd, 'KVM_IRQ_LINE', Uint8Array.of(9, 0, 0, 0, 1, 0, 0, 0));
    expect([rig.irr(0, 0x51), rig.irr(1, 0x51)]).toEqual(reached);
  });
});

describe('what is refused changes nothing', () => {
  it.each([[528, 'bytes of the XSAVE header that are reserved'], [520, 'the compacted form']] as const)('SDM 1 §13.4.2, KVM_SET_XSAVE: byte %i, %s', (at, _what) => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } });
    const before = rig.get(rig.fd(1), 'KVM_GET_XSAVE', KvmXsave);
    const image = new Uint8Array(KvmXsave.size);
    rig.c.do(rig.fd(1), 'KVM_GET_XSAVE', image);
    image.fill(0x5a, 160, 176);
    image[512] = 3;
    image[at] = 1;
    expect(word(rig.c.call(rig.fd(1), 'KVM_SET_XSAVE', image))).toBe('EINVAL');
    expect(rig.get(rig.fd(1), 'KVM_GET_XSAVE', KvmXsave)).toEqual(before);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.87: what an injected exception does', () => {
  it.each([[0x4_0001, 1], [0x8_0001, 3], [0xc_0001, 1]] as const)('control 0x%s: vector %i, delivered when the plane runs', (control, vector) => {
    const handlers = { [vector]: [out(0x80 + vector)], default: [out(9)] };
    const rig = new Rig('vmplanes', { planes: { 1: [0] } }, { 0: { 0: { id: 'main', steps: [out(1)], handlers }, 1: [out(2)] } });
    expect(word(rig.set(rig.vcpu(), 'KVM_SET_GUEST_DEBUG', KvmGuestDebug, { control, debugreg: new Array<bigint>(8).fill(0n) }))).toBe('0');
    expect([word(rig.run(1)), rig.exit(ExitIo).port]).toEqual(['0', 2]);
    rig.c.do(rig.vcpu(), 'KVM_SET_GUEST_DEBUG', new Uint8Array(KvmGuestDebug.size));
    expect([word(rig.run(0)), rig.exit(ExitIo).port]).toEqual(['0', 0x80 + vector]);
  });
});
