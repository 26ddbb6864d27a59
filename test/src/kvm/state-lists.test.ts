import { KvmCpuid2, KvmCpuidEntry2, KvmDebugregs, KvmFpu, KvmGuestDebug, KvmMpState, KvmMsrEntry, KvmRegs, KvmSregs, KvmSregs2, KvmVcpuEvents, KvmXcrs, KvmXsave, MpState } from '@vmplanes/abi-kvm-planes';
import { type Infer, type Layout } from '@vmplanes/binary';
import { Activity } from '@vmplanes/engine';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { apicRig, encode, profiles, Rig, type RunnableProfile, word } from './kit.ts';

type Entry = Infer<typeof KvmCpuidEntry2>;
const HEADER = 8;
const out: Step = { op: 'out', port: 1, value: 0 };
const entry = (fields: Partial<Entry> = {}): Entry => ({ function: 0, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0, reservedPadding: [0, 0, 0], ...fields });
const table = (entries: readonly Entry[], n = entries.length): Uint8Array => {
  const bytes = new Uint8Array(HEADER + entries.length * KvmCpuidEntry2.size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, n, true);
  entries.forEach((e, i) => KvmCpuidEntry2.write(view, HEADER + i * KvmCpuidEntry2.size, e));
  return bytes;
};
const nent = (bytes: Uint8Array): number => new DataView(bytes.buffer).getUint32(0, true);
const entriesOf = (bytes: Uint8Array): readonly Entry[] => Array.from({ length: nent(bytes) }, (_, i) => KvmCpuidEntry2.read(new DataView(bytes.buffer), HEADER + i * KvmCpuidEntry2.size));

describe('Linux Documentation/virt/kvm/api.rst §4.20, KVM_GET_CPUID2: the CPUID table', () => {
  const set = (rig: Rig, bytes: Uint8Array | null): string => word(rig.c.call(rig.vcpu(), 'KVM_SET_CPUID2', bytes));
  const get = (rig: Rig, room: number, bytes = HEADER + room * KvmCpuidEntry2.size): { readonly result: string; readonly bytes: Uint8Array } => {
    const buffer = new Uint8Array(bytes);
    if (bytes >= 4) new DataView(buffer.buffer).setUint32(0, room, true);
    return { result: word(rig.c.call(rig.vcpu(), 'KVM_GET_CPUID2', buffer)), bytes: buffer };
  };
  const three = [
    entry({ function: 0, eax: 0xd, ebx: 0x6874_7541, ecx: 0x444d_4163, edx: 0x6974_6e65 }),
    entry({ function: 0xb, index: 1, flags: 1, eax: 0xffff_ffff, ebx: 0x8000_0000, ecx: 3, edx: 4 }),
    entry({ function: 0x8000_0008, eax: 0x3030, ebx: 5, ecx: 6, edx: 7 }),
  ];
  it('comes back entry by entry; of the flags only the significant index is kept', () => {
    const rig = new Rig('vmplanes');
    expect(get(rig, 5).bytes.slice(0, 4)).toEqual(new Uint8Array(4));
    expect(set(rig, table([three[0]!, { ...three[1]!, flags: 7, reservedPadding: [1, 2, 3] }, { ...three[2]!, flags: 6 }]))).toBe('0');
    const { result, bytes } = get(rig, 5);
    expect([result, nent(bytes), entriesOf(bytes)]).toEqual(['0', 3, three]);
    expect([get(rig, 3).result, entriesOf(get(rig, 3).bytes)]).toEqual(['0', three]);
  });
  it('without room E2BIG tells how many there are, and no entry is written', () => {
    const rig = new Rig('vmplanes');
    set(rig, table(three));
    const { result, bytes } = get(rig, 2);
    expect([result, nent(bytes), bytes.subarray(4).some((b) => b !== 0)]).toEqual(['E2BIG', 3, false]);
    expect(get(rig, 0).result).toBe('E2BIG');
    // The word behind the count is the caller's.
    const header = Uint8Array.of(2, 0, 0, 0, 0xee, 0xee, 0xee, 0xee);
    expect([word(rig.c.call(rig.vcpu(), 'KVM_GET_CPUID2', header)), [...header]]).toEqual(['E2BIG', [3, 0, 0, 0, 0xee, 0xee, 0xee, 0xee]]);
  });
  it('a pointer that does not reach: EFAULT, nothing written', () => {
    const rig = new Rig('vmplanes');
    set(rig, table(three));
    const { result, bytes } = get(rig, 3, HEADER + 3 * 40 - 1);
    expect([result, nent(bytes), bytes.subarray(8).some((b) => b !== 0)]).toEqual(['EFAULT', 3, false]);
    expect([get(rig, 3, 7).result, get(rig, 9, HEADER + 3 * 40).result]).toEqual(['EFAULT', '0']);
    expect([set(rig, null), set(rig, new Uint8Array(7)), set(rig, table(three, 4)), set(rig, table(three).slice(0, -1))]).toEqual(['EFAULT', 'EFAULT', 'EFAULT', 'EFAULT']);
    expect(entriesOf(get(rig, 3).bytes)).toEqual(three);
  });
  it('takes 256 entries, not 257', () => {
    const rig = new Rig('vmplanes');
    const many = Array.from({ length: 257 }, (_, i) => entry({ function: i, eax: i }));
    expect([set(rig, table(many)), set(rig, table([], 257)), set(rig, table([], 256)), set(rig, table(many.slice(0, 256)))]).toEqual(['E2BIG', 'E2BIG', 'EFAULT', '0']);
    expect(nent(get(rig, 256).bytes)).toBe(256);
  });
  it('is what the guest sees, in every plane', () => {
    const asks: readonly Step[] = [{ op: 'cpuid', leaf: 0x8000_0008 }, out];
    const rig = apicRig('vmplanes', [], { 0: { 0: asks, 1: asks } }, { planes: { 1: [] } });
    set(rig, table(three));
    const fd = rig.c.must(rig.c.createPlaneVcpu(rig.planeFd(1), rig.vcpu(), 0));
    const seen = [rig.vcpu(), fd].map((vcpu, plane) => {
      rig.run(plane);
      const { rax, rbx, rcx, rdx } = rig.get(vcpu, 'KVM_GET_REGS', KvmRegs);
      return [rax, rbx, rcx, rdx];
    });
    expect(seen).toEqual([[0x3030n, 5n, 6n, 7n], [0x3030n, 5n, 6n, 7n]]);
  });
  const locks: readonly (readonly [RunnableProfile, string, (rig: Rig) => void, boolean])[] = [
    ...profiles.map((p) => [p, 'has run', (rig: Rig) => void rig.run(), true] as const),
    ['2025-04', 'has a plane vCPU', (rig) => void rig.c.must(rig.c.createPlaneVcpu(rig.planeFd(1), rig.vcpu(), 0)), true],
    ['2026-06', 'has a plane vCPU', (rig) => void rig.c.must(rig.c.createPlaneVcpu(rig.planeFd(1), rig.vcpu(), 0)), false],
    ['vmplanes', 'has a plane vCPU', (rig) => void rig.c.must(rig.c.createPlaneVcpu(rig.planeFd(1), rig.vcpu(), 0)), true],
    ['vmplanes', 'has none', () => {}, false],
  ];
  it.each(locks)('LKML 2025-04-01 RFC KVM: VM planes 24/29: [%s] a vCPU that %s', (profile, _, use, isLocked) => {
    const rig = new Rig(profile, { planes: { 1: [] } }, { 0: { 0: [out] } });
    set(rig, table(three));
    use(rig);
    expect(set(rig, table(three))).toBe('0');
    const others = [
      ...(['function', 'index', 'flags', 'eax', 'ebx', 'ecx', 'edx'] as const).map((field) => three.map((e, i) => (i === 1 ? { ...e, [field]: field === 'flags' ? 0 : 0x77 } : e))),
      three.slice(0, 2), [...three, entry()], [], [three[1]!, three[0]!, three[2]!],
    ];
    for (const other of others) {
      expect(set(rig, table(other)), JSON.stringify(other)).toBe(isLocked ? 'EINVAL' : '0');
      expect(entriesOf(get(rig, 9).bytes)).toEqual(isLocked ? three : other);
    }
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.18, §4.19: lists of MSRs', () => {
  const STAR = 0xc000_0081, LSTAR = 0xc000_0082, NONE = 0x1234_5678;
  const list = (rows: readonly (readonly [index: number, data: bigint])[], n = rows.length): Uint8Array => {
    const bytes = new Uint8Array(HEADER + rows.length * KvmMsrEntry.size);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, n, true);
    rows.forEach(([index, data], i) => KvmMsrEntry.write(view, HEADER + i * KvmMsrEntry.size, { index, reserved: 0, data }));
    return bytes;
  };
  const datas = (bytes: Uint8Array): readonly bigint[] => Array.from({ length: (bytes.length - HEADER) / 16 }, (_, i) => KvmMsrEntry.read(new DataView(bytes.buffer), HEADER + i * 16).data);
  const call = (rig: Rig, name: 'KVM_GET_MSRS' | 'KVM_SET_MSRS', bytes: Uint8Array | null): string => word(rig.c.call(rig.fd(1), name, bytes));

  it('are worked off in order up to the first that fails', () => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } });
    expect(call(rig, 'KVM_SET_MSRS', list([[STAR, 0x1111_2222_3333_4444n], [LSTAR, 0x5555n]]))).toBe('2');
    expect(call(rig, 'KVM_SET_MSRS', list([[STAR, 7n], [NONE, 1n], [LSTAR, 9n]]))).toBe('1');
    const bytes = list([[LSTAR, 0n], [STAR, 0n], [NONE, 0xeen], [LSTAR, 0xeen]]);
    expect([call(rig, 'KVM_GET_MSRS', bytes), datas(bytes)]).toEqual(['2', [0x5555n, 7n, 0xeen, 0xeen]]);
    expect(call(rig, 'KVM_GET_MSRS', list([]))).toBe('0');
    expect(call(rig, 'KVM_SET_MSRS', list([[NONE, 0n]]))).toBe('0');
  });
  it.each(['KVM_GET_MSRS', 'KVM_SET_MSRS'] as const)('%s: 255 entries, not 256; then the pointer', (name) => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } });
    const rows = Array.from({ length: 256 }, () => [STAR, 1n] as const);
    expect([call(rig, name, list(rows)), call(rig, name, list([], 256)), call(rig, name, list([], 255)), call(rig, name, list(rows.slice(1)))]).toEqual(['E2BIG', 'E2BIG', 'EFAULT', '255']);
    expect([call(rig, name, null), call(rig, name, new Uint8Array(7)), call(rig, name, list(rows.slice(0, 2)).slice(0, -1))]).toEqual(['EFAULT', 'EFAULT', 'EFAULT']);
  });
});

describe('Linux Documentation/virt/kvm/api.rst §4.38, §4.39: multiprocessing state', () => {
  const get = (rig: Rig): number => rig.get(rig.fd(1), 'KVM_GET_MP_STATE', KvmMpState).mpState;
  const set = (rig: Rig, mpState: number): string => word(rig.set(rig.fd(1), 'KVM_SET_MP_STATE', KvmMpState, { mpState }));
  const WAITS: readonly number[] = [MpState.UNINITIALIZED, MpState.INIT_RECEIVED];
  it('each state is set from each other one, and is that of the plane', () => {
    const all = [MpState.RUNNABLE, MpState.UNINITIALIZED, MpState.INIT_RECEIVED, MpState.HALTED, MpState.SIPI_RECEIVED] as const;
    for (const from of all) {
      for (const to of all) {
        const rig = new Rig('vmplanes', { planes: { 1: [0] } });
        rig.context(1).wait = { kind: 'time', at: 5 };
        expect([set(rig, from), set(rig, to)]).toEqual(['0', '0']);
        // A start-up signal that was received has no state of its own: the vCPU runs.
        expect(get(rig), `${from} to ${to}`).toBe(to === MpState.SIPI_RECEIVED ? MpState.RUNNABLE : to);
        const context = rig.context(1);
        const { latches } = rig.vm.arch.apicOf(context);
        expect([latches.isWaitingForSipi, context.activity, context.wait]).toEqual([WAITS.includes(to), WAITS.includes(to) ? Activity.WaitForSipi : to === MpState.HALTED ? Activity.Halted : Activity.Running, null]);
        expect(rig.vm.groups.get(0)!.uninitialized).toBe(to === MpState.UNINITIALIZED ? 0b10 : 0);
      }
    }
  });
  it.each([5, 6, 7, 8, 9, 10, 0xffff_ffff])('state %i is not one of them: EINVAL, nothing changes', (state) => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } });
    expect([set(rig, MpState.UNINITIALIZED), set(rig, state), get(rig)]).toEqual(['0', 'EINVAL', MpState.UNINITIALIZED]);
  });
  it.each([[MpState.RUNNABLE, '0'], [MpState.HALTED, '0'], [MpState.UNINITIALIZED, 'EINVAL'], [MpState.INIT_RECEIVED, 'EINVAL'], [MpState.SIPI_RECEIVED, 'EINVAL']] as const)('a VM whose state can be protected cannot be put back to the start: %i is %s', (state, verdict) => {
    expect(set(new Rig('vmplanes', { type: 4, planes: { 1: [0] } }), state)).toBe(verdict);
  });
  it.each([[MpState.RUNNABLE, '0'], [MpState.HALTED, 'EINVAL'], [MpState.UNINITIALIZED, 'EINVAL'], [MpState.INIT_RECEIVED, 'EINVAL'], [MpState.SIPI_RECEIVED, 'EINVAL']] as const)('without a local APIC in the kernel %i is %s', (state, verdict) => {
    const rig = new Rig('vmplanes', { irqchip: 'none', planes: { 1: [0] } });
    rig.context(1).activity = Activity.Halted;
    expect([set(rig, state), get(rig)]).toEqual([verdict, verdict === '0' ? MpState.RUNNABLE : MpState.HALTED]);
  });
});

/** Ways to change the state of a plane that does not run, each with other bytes than it has. */
describe('what a VMM writes to one plane is no change of another plane that runs meanwhile', () => {
  interface Write {
    readonly name: 'REGS' | 'SREGS' | 'SREGS2' | 'FPU' | 'XSAVE' | 'XCRS' | 'DEBUGREGS' | 'VCPU_EVENTS' | 'LAPIC';
    readonly layout: Layout<object, never>;
    readonly at: number;
    readonly value: number;
  }
  const writes: readonly Write[] = [
    { name: 'REGS', layout: KvmRegs, at: KvmRegs.at.rax, value: 5 },
    { name: 'SREGS', layout: KvmSregs, at: KvmSregs.at.cr3 + 1, value: 0x50 },
    { name: 'SREGS2', layout: KvmSregs2, at: KvmSregs2.at.cr3 + 1, value: 0x50 },
    { name: 'FPU', layout: KvmFpu, at: KvmFpu.at.xmm, value: 5 },
    { name: 'XSAVE', layout: KvmXsave, at: 0xa0, value: 5 },
    { name: 'XCRS', layout: KvmXcrs, at: 16, value: 3 },
    { name: 'DEBUGREGS', layout: KvmDebugregs, at: 0, value: 5 },
    { name: 'VCPU_EVENTS', layout: KvmVcpuEvents, at: KvmVcpuEvents.at.interrupt, value: 1 },
  ];
  const rigOf = (): Rig => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } }, { 0: { 0: [out, out, out] } }, { x86: { cpuModel: 'epyc-like' } });
    rig.run(0);
    return rig;
  };
  const goesOn = (rig: Rig): void => {
    expect(word(rig.run(0))).toBe('0');
    expect(word(rig.run(0))).toBe('0');
  };
  it.each(writes)('KVM_SET_$name', ({ name, layout, at, value }) => {
    const rig = rigOf();
    const bytes = new Uint8Array(layout.size);
    rig.c.do(rig.fd(1), `KVM_GET_${name}`, bytes);
    const before = bytes.slice();
    bytes[at] = value;
    if (name === 'XSAVE') bytes[512]! |= 2;
    expect(bytes).not.toEqual(before);
    expect(word(rig.c.call(rig.fd(1), `KVM_SET_${name}`, bytes))).toBe('0');
    goesOn(rig);
  });
  it('KVM_SET_MSRS', () => {
    const rig = rigOf();
    expect(rig.setMsr(rig.fd(1), 0xc000_0082, 0x1234n)).toBe(1);
    goesOn(rig);
  });
  it('KVM_SET_MP_STATE', () => {
    const rig = rigOf();
    rig.set(rig.fd(1), 'KVM_SET_MP_STATE', KvmMpState, { mpState: MpState.HALTED });
    goesOn(rig);
  });
  it.each([
    ['KVM_SET_TSC_KHZ', (rig: Rig) => rig.c.do(rig.vcpu(), 'KVM_SET_TSC_KHZ', 2_000_000)],
    ['KVM_SET_GUEST_DEBUG', (rig: Rig) => rig.c.do(rig.vcpu(), 'KVM_SET_GUEST_DEBUG', encode(KvmGuestDebug, { control: 0x4_0001, debugreg: Array<bigint>(8).fill(0n) }))],
  ] as const)('%s, of plane 0', (_, write) => {
    const rig = new Rig('vmplanes', { planes: { 1: [0] } }, { 0: { 1: [out, out, out] } });
    rig.run(1);
    write(rig);
    expect([word(rig.run(1)), word(rig.run(1))]).toEqual(['0', '0']);
  });
});

it('encode and KvmCpuid2 agree on where entries begin', () => {
  expect([KvmCpuid2.header.size, encode(KvmCpuidEntry2, entry()).length]).toEqual([HEADER, 40]);
});
