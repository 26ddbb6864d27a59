import { HvCall } from '@vmplanes/abi-hyperv';
import type { RegisterName } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { kernel32, policies } from './bench.ts';
import { booted, DATA, type Guest, hypercallPage, inputPage, mapIdentity, Msr, OS_ID, outputPage, SELF, VP_SELF } from './guest.ts';

const SUCCESS = 0, INVALID_CODE = 2, INVALID_INPUT = 3, INVALID_ALIGNMENT = 4, INVALID_PARAMETER = 5, ACCESS_DENIED = 6;
const UD = 6;
const names = ['rax', 'rbx', 'rcx', 'rdx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rflags', 'xmm0', 'xmm1', 'xmm2', 'xmm3', 'xmm4', 'xmm5', 'xmm6', 'xmm15'] as const satisfies readonly RegisterName[];
const registers = (guest: Guest): Record<string, bigint> => Object.fromEntries(names.map((n) => [n, guest.get(n)]));
const changed = (before: Record<string, bigint>, after: Record<string, bigint>): readonly string[] => names.filter((n) => before[n] !== after[n]);

const indices = (guest: Guest, ids: readonly number[], fast: boolean, more: object = {}) =>
  guest.call(HvCall.GetVpIndexFromApicId, { header: { partitionId: SELF, targetVtl: 0 }, elements: ids, fast, ...more });
const ipi = (guest: Guest, vector: number, mask: bigint, fast: boolean, more: object = {}) =>
  guest.call(HvCall.SendSyntheticClusterIpi, { header: { vector, targetVtl: 0, flags: 0, processorMask: mask }, fast, ...more });
const ipiEx = (guest: Guest, vector: number, banks: readonly bigint[], mask: bigint, fast: boolean, more: object = {}) =>
  guest.call(HvCall.SendSyntheticClusterIpiEx, { header: { vector, targetVtl: 0, flags: 0, processorSet: { format: 0n, validBankMask: mask } }, variable: banks, fast, ...more });
const flushList = (guest: Guest, n: number, fast: boolean, more: object = {}) =>
  guest.call(HvCall.FlushVirtualAddressList, { header: { addressSpace: 0n, flags: 3n, processorMask: 1n }, elements: Array.from({ length: n }, (_, i) => BigInt(i) << 12n), fast, ...more });
const flushListEx = (guest: Guest, n: number, fast: boolean, more: object = {}) =>
  guest.call(HvCall.FlushVirtualAddressListEx, { header: { addressSpace: 0n, flags: 2n, processorSet: { format: 0n, validBankMask: 1n } }, variable: [1n], elements: Array.from({ length: n }, (_, i) => BigInt(i) << 12n), fast, ...more });

const modes = [['64-bit', false], ['32-bit', true]] as const;
const forms = [['slow', false], ['fast', true]] as const;
const inMode = (is32: boolean, policy: (typeof policies)[number], options: object = {}, vps = 1): Guest => {
  const guest = booted({ policy, options, vps });
  if (is32) guest.set(kernel32);
  return guest;
};

describe.each(policies)('under %s', (policy) => {
  describe.each(modes)('%s caller', (_mode, is32) => {
    describe.each(forms)('%s parameters', (_form, fast) => {
      it('openvmm hv1_hypercall tests: simple call succeeds, and nothing but the result changes', () => {
        const guest = inMode(is32, policy);
        guest.set({ rbx: 0x1111, rbp: 0x2222, r9: 0x3333, r15: 0x4444, xmm0: 5n << 100n, xmm5: 6n, xmm15: 7n });
        guest.issue({ op: 'work' });
        const outcome = ipi(guest, 0x40, 1n, fast);
        expect(outcome.value).toBe(0n);
        expect(guest.requested(0x40)).toBe(true);
        expect(guest.get('rbp')).toBe(0x2222n);
        expect([guest.get('xmm0'), guest.get('xmm5'), guest.get('xmm15')]).toEqual([5n << 100n, 6n, 7n]);
        if (!is32) expect(guest.get('rcx')).toBe(BigInt(0x0b) | (fast ? 0x1_0000n : 0n));
      });
      it('openvmm hv1_hypercall tests: simple call fails with its status', () => {
        expect(ipi(inMode(is32, policy), 0x0f, 1n, fast).value).toBe(BigInt(INVALID_PARAMETER));
      });
      it('openvmm hv1_hypercall tests: rep call succeeds, reps completed is the count', () => {
        const outcome = flushList(inMode(is32, policy), 3, fast);
        expect([outcome.status, outcome.reps]).toEqual([SUCCESS, 3]);
      });
      it('openvmm hv1_hypercall tests: rep call from a start index counts absolutely', () => {
        const outcome = flushList(inMode(is32, policy), 5, fast, { start: 2 });
        expect([outcome.status, outcome.reps]).toEqual([SUCCESS, 5]);
      });
      it('openvmm hv1_hypercall tests: variable call', () => {
        const guest = inMode(is32, policy);
        expect(ipiEx(guest, 0x41, [1n], 1n, fast).value).toBe(0n);
        expect(guest.requested(0x41)).toBe(true);
      });
      it('openvmm hv1_hypercall tests: variable rep call', () => {
        const outcome = flushListEx(inMode(is32, policy), 4, fast);
        expect([outcome.status, outcome.reps]).toEqual([SUCCESS, 4]);
      });
      it('TLFS Hypercall Interface: a call that takes a variable header may be passed none', () => {
        expect(ipiEx(inMode(is32, policy), 0x41, [], 0n, fast).status).toBe(SUCCESS);
      });
      it('openvmm hv1_hypercall tests: rep call is interrupted and goes on from its start index; RAX is not written until it is done', () => {
        const guest = inMode(is32, policy, { repBudget: 200 });
        const before = guest.get('rip');
        const outcome = flushList(guest, 7, fast);
        outcome.finish(100);
        expect([outcome.status, outcome.reps]).toEqual([SUCCESS, 7]);
        expect(guest.get('rip')).toBeGreaterThan(before);
        // The last start index that was written stays in the control word.
        const start = is32 ? null : (guest.get('rcx') >> 48n) & 0xfffn;
        if (start !== null) expect(start).toBe(6n);
      });
      it('openvmm hv1_hypercall tests: variable rep call is interrupted and goes on', () => {
        const outcome = flushListEx(inMode(is32, policy, { repBudget: 100 }), 6, fast).finish(100);
        expect([outcome.status, outcome.reps]).toEqual([SUCCESS, 6]);
      });
      it('openvmm hv1_hypercall tests: variable rep call from a start index', () => {
        const outcome = flushListEx(inMode(is32, policy), 6, fast, { start: 5 });
        expect([outcome.status, outcome.reps]).toEqual([SUCCESS, 6]);
      });
      it('openvmm hv1_hypercall tests: variable call fails with its status', () => {
        expect(ipiEx(inMode(is32, policy), 0x0f, [1n], 1n, fast).value).toBe(BigInt(INVALID_PARAMETER));
      });
      it.each([
        ['rep', (g: Guest) => g.call(HvCall.FlushVirtualAddressList, { header: { addressSpace: 0n, flags: 1n << 40n, processorMask: 1n }, elements: [0n, 1n], fast })],
        ['variable rep', (g: Guest) => g.call(HvCall.FlushVirtualAddressListEx, { header: { addressSpace: 0n, flags: 1n << 40n, processorSet: { format: 0n, validBankMask: 1n } }, variable: [1n], elements: [0n, 1n], fast })],
      ] as const)('openvmm hv1_hypercall tests: %s call fails before its first element with 0 completed', (_what, make) => {
        const outcome = make(inMode(is32, policy));
        expect([outcome.status, outcome.reps]).toEqual([INVALID_PARAMETER, 0]);
      });
      it.each([
        ['simple with a rep count', (g: Guest) => ipi(g, 0x40, 1n, fast, { count: 1 }).value],
        ['simple with a rep start', (g: Guest) => ipi(g, 0x40, 1n, fast, { start: 1 }).value],
        ['simple with a variable header', (g: Guest) => ipi(g, 0x40, 1n, fast, { units: 1 }).value],
        ['rep with count 0', (g: Guest) => flushList(g, 0, fast).value],
        ['rep with start equal to count', (g: Guest) => flushList(g, 2, fast, { start: 2 }).value],
        ['rep with start above count', (g: Guest) => flushList(g, 2, fast, { start: 3 }).value],
        ['rep with a variable header where none is', (g: Guest) => flushList(g, 2, fast, { units: 1 }).value],
      ] as const)('openvmm hv1_hypercall tests: %s is INVALID_HYPERCALL_INPUT', (_what, make) => {
        expect(make(inMode(is32, policy))).toBe(BigInt(INVALID_INPUT));
      });
      it.each([27, 28, 29, 30, 44, 45, 46, 47, 60, 61, 62, 63])('TLFS Hypercall Interface: control word bit %i must be zero', (bit) => {
        expect(ipi(inMode(is32, policy), 0x40, 1n, fast, { control: 1n << BigInt(bit) }).value).toBe(BigInt(INVALID_INPUT));
      });
      it.each([0, 1, 0x7, 0x9, 0x7777, 0x8fff, 0xffff])('openvmm hv1_hypercall tests: code %i that is not implemented is INVALID_HYPERCALL_CODE', (code) => {
        expect(inMode(is32, policy).callRaw(code, new Uint8Array(8), { fast }).value).toBe(BigInt(INVALID_CODE));
      });
    });

    it('openvmm hv1_hypercall tests: rep call with output fails at element k with completed k; outputs below are valid', () => {
      const guest = inMode(is32, policy, {}, 2);
      const outcome = indices(guest, [1, 0, 77, 1], false);
      expect([outcome.status, outcome.reps]).toEqual([INVALID_PARAMETER, 2]);
      const view = outcome.output(8);
      expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([1, 0]);
    });
    it.each([
      ['misaligned input', { inputGpa: BigInt(inputPage(0, 0) + 4) }, INVALID_ALIGNMENT],
      ['misaligned output', { outputGpa: BigInt(outputPage(0, 0) + 4) }, INVALID_ALIGNMENT],
      ['input across a page', { inputGpa: BigInt(inputPage(0, 0) + 0xff0) }, INVALID_ALIGNMENT],
      ['output across a page', { outputGpa: BigInt(outputPage(0, 0) + 0xff8) }, INVALID_ALIGNMENT],
    ] as const)('TLFS v6.0b 3.12: %s', (_what, more, status) => {
      expect(indices(inMode(is32, policy, {}, 1), [0, 0, 0], false, more).value).toBe(BigInt(status));
    });
    it.each([
      ['input', { inputGpa: BigInt(inputPage(0, 0) + 0xff0) }],
      ['output', { outputGpa: BigInt(outputPage(0, 0) + 0xff8) }],
    ] as const)('openvmm hv1_hypercall tests: %s across a page is INVALID_HYPERCALL_INPUT (switch straddleStatus)', (_what, more) => {
      expect(indices(inMode(is32, policy, { straddleStatus: 3 }), [0, 0, 0], false, more).value).toBe(BigInt(INVALID_INPUT));
    });
    it('TLFS v6.0b 3.12: list outside the address space', () => {
      const guest = inMode(is32, policy);
      expect(indices(guest, [0], false, { inputGpa: 0xf_ffff_ffff_f000n }).value).toBe(BigInt(INVALID_ALIGNMENT));
    });
    it('TLFS Hypercall Interface: addresses that a call has no use for are not looked at', () => {
      const guest = inMode(is32, policy);
      expect(ipi(guest, 0x40, 1n, false, { outputGpa: 0x7n }).value).toBe(0n);
    });
    it('TLFS Hypercall Interface: elements below the start index are not looked at', () => {
      const outcome = indices(inMode(is32, policy), [99, 99, 0], false, { start: 2 });
      expect([outcome.status, outcome.reps]).toEqual([SUCCESS, 3]);
    });
  });

  // -- registers of 64-bit calls ----------------------------------------------------------------------------------------------

  it('openvmm hv1_hypercall tests: exactly RAX changes in a call without output', () => {
    const guest = booted({ policy });
    const word = 0x1_000bn;
    guest.set({ rax: 0xdead, rcx: word, rdx: 0x40n, r8: 1n });
    const before = registers(guest);
    const { issued } = guest.control(word, 0x40n, 1n);
    expect(issued.result?.fault).toBeNull();
    expect(changed(before, registers(guest))).toEqual(['rax']);
  });
  it('TLFS Hypercall Interface, XMM output: starts at the next 16 bytes after the input, and only its registers change', () => {
    const guest = booted({ policy, vps: 2 });
    // 16 bytes of header and 2 ids: 24 bytes of input, so output starts at byte 32, which is XMM1.
    const outcome = indices(guest, [1, 0], true);
    expect([outcome.status, outcome.reps]).toEqual([SUCCESS, 2]);
    expect(guest.get('xmm1') & 0xffff_ffff_ffff_ffffn).toBe(1n);
    expect(guest.get('xmm0')).toBe(1n);
    expect(guest.get('r8')).toBe(0n);
    expect(guest.get('rdx')).toBe(SELF);
  });
  it.each([
    ['4 ids in XMM0 leave room for their output', 4, SUCCESS],
    ['12 ids in XMM0-2 leave room for 12 outputs', 12, SUCCESS],
    ['13 ids: output does not fit behind them', 13, INVALID_INPUT],
    ['24 ids fill the block: no room for output', 24, INVALID_INPUT],
    ['25 ids do not fit the block', 25, INVALID_INPUT],
  ] as const)('TLFS Hypercall Interface, XMM output: %s', (_what, count, status) => {
    const guest = booted({ policy });
    const outcome = guest.callRaw(0x9a, new Uint8Array(112).fill(0xff, 0, 8), { fast: true, count });
    expect(outcome.status).toBe(status);
  });
  it.each([['11 ranges in 112 bytes', 11, SUCCESS], ['12 ranges in 120 bytes', 12, INVALID_INPUT]] as const)('TLFS Hypercall Interface, XMM input: %s', (_what, count, status) => {
    const guest = booted({ policy });
    const block = new Uint8Array(112);
    block[8] = 3;
    expect(guest.callRaw(0x03, block, { fast: true, count }).status).toBe(status);
  });
  it('openvmm hv1_hypercall tests: fast form of a call that is too big for registers is INVALID_HYPERCALL_INPUT', () => {
    for (const code of [0x0f, 0x99, 0x5c]) expect(booted({ policy }).callRaw(code, new Uint8Array(112), { fast: true }).status).toBe(INVALID_INPUT);
  });
  it('TLFS Hypercall Interface: XMM registers for input without the CPUID bit are #UD', () => {
    const guest = booted({ policy, options: { xmmHypercalls: false } });
    expect(flushList(guest, 1, true).vector).toBe(UD);
    expect(ipi(guest, 0x40, 1n, true).value).toBe(0n);
  });
  it('TLFS Hypercall Interface, XMM output: 32-bit callers have none', () => {
    expect(indices(inMode(true, policy), [0], true).value).toBe(BigInt(INVALID_INPUT));
  });
  it.each(forms)('openvmm hv1_hypercall tests: rep call with output, %s, is interrupted, goes on, and fails at the element that is wrong', (_form, fast) => {
    const guest = booted({ policy, vps: 2, options: { repBudget: 200 } });
    const good = indices(guest, [1, 0, 1, 1, 0, 1], fast).finish(100);
    expect([good.status, good.reps]).toEqual([SUCCESS, 6]);
    expect([0, 1, 2, 3, 4, 5].map((i) => good.output(24).getUint32(4 * i, true))).toEqual([1, 0, 1, 1, 0, 1]);
    const bad = indices(guest, [1, 0, 1, 0, 88, 1], fast).finish(100);
    expect([bad.status, bad.reps]).toEqual([INVALID_PARAMETER, 4]);
    expect([0, 1, 2, 3].map((i) => bad.output(24).getUint32(4 * i, true))).toEqual([1, 0, 1, 0]);
  });
  it.each(forms)('openvmm hv1_hypercall tests: simple call with output, %s', (_form, fast) => {
    const guest = booted({ policy });
    mapIdentity(guest);
    const translate = (gvaPage: bigint, flags: bigint) => guest.call(HvCall.TranslateVirtualAddress, { header: { partitionId: SELF, vpIndex: VP_SELF, controlFlags: flags, gvaPage }, fast });
    const good = translate(0x123n, 1n);
    expect([good.value, good.output(16).getUint32(0, true), good.output(16).getBigUint64(8, true)]).toEqual([0n, 0, 0x123n]);
    expect(translate(0x123n, 0n).value).toBe(BigInt(INVALID_PARAMETER));
  });
  it('TLFS Hypercall Interface: interrupts are taken between the runs of an interrupted call, which then goes on', () => {
    const guest = booted({ policy, options: { repBudget: 100 } });
    guest.interruptFlag(true);
    const all = { header: { addressSpace: 0n, flags: 3n, processorMask: 1n }, elements: Array.from({ length: 200 }, () => 0n) };
    // A direct timer that is due while the call runs: each run takes a unit of reference time.
    guest.wrmsr(Msr.stimer0, (0x55 << 4) | (1 << 12) | 1);
    guest.wrmsr(Msr.stimer0 + 1, guest.rdmsr(0x4000_0020) + 60n);
    const outcome = guest.call(HvCall.FlushVirtualAddressList, all);
    expect([outcome.isDone, guest.taken()]).toEqual([false, []]);
    outcome.finish(100);
    expect([outcome.isDone, guest.taken()]).toEqual([false, [0x55]]);
    outcome.finish(1000);
    expect([outcome.status, outcome.reps]).toEqual([SUCCESS, 200]);
  });

  // -- who may call -------------------------------------------------------------------------------------------------------------

  it.each([
    ['CPL 3', { cpl: 3 }],
    ['CPL 1', { cpl: 1 }],
    ['real mode', { cr0: 0x10 }],
    ['virtual-8086 mode', { rflags: 0x2_0002, efer: 0 }],
  ] as const)('TLFS Hypercall Interface: a call from %s is #UD and changes nothing', (_what, values) => {
    const guest = booted({ policy });
    guest.set(values);
    guest.set({ rcx: 0x1_000bn, rdx: 0x40, r8: 1 });
    const before = registers(guest);
    const rip = guest.get('rip');
    const outcome = guest.control(0x1_000bn, 0x40n, 1n);
    expect(outcome.vector).toBe(UD);
    if ('efer' in values) return;
    expect(changed(before, registers(guest))).toEqual([]);
    expect(guest.requested(0x40)).toBe(false);
    expect(guest.get('rip') - rip).toBeLessThanOrEqual(2n);
  });
  it.each([
    ['no interface', () => {}],
    ['an identity but no page', (g: Guest) => g.wrmsr(Msr.osId, OS_ID)],
    ['a page without an identity: its enable bit stays 0', (g: Guest) => {
      g.wrmsr(Msr.hypercall, hypercallPage(0) | 1);
      expect(g.rdmsr(Msr.hypercall) & 1n).toBe(0n);
    }],
    ['a page that the loss of the identity disabled', (g: Guest) => {
      g.openInterface();
      g.wrmsr(Msr.osId, 0);
      expect(g.rdmsr(Msr.hypercall) & 1n).toBe(0n);
    }],
  ] as const)('TLFS Hypercall Interface, establishing the interface: with %s a call is #UD', (_what, prepare) => {
    const guest = booted({ policy });
    guest.wrmsr(Msr.osId, 0);
    prepare(guest);
    expect(ipi(guest, 0x40, 1n, true).vector).toBe(UD);
  });
  it.each([
    ['accessVsm', 0x0d, ACCESS_DENIED],
    ['accessVpRegisters', 0x50, ACCESS_DENIED],
    ['accessVpRegisters', 0x51, ACCESS_DENIED],
    ['accessVpRegisters', 0x52, ACCESS_DENIED],
    ['postMessages', 0x5c, ACCESS_DENIED],
    ['signalEvents', 0x5d, ACCESS_DENIED],
    ['startVirtualProcessor', 0x99, ACCESS_DENIED],
  ] as const)('TLFS HV_PARTITION_PRIVILEGE_MASK: without %s call 0x%s is ACCESS_DENIED, whatever its operands', (privilege, code, status) => {
    const guest = booted({ policy, options: { withhold: [privilege] } });
    expect(guest.callRaw(code, new Uint8Array(64)).status).toBe(status);
    // Access is looked at before the form of the call.
    expect(guest.callRaw(code, new Uint8Array(64), { control: 1n << 63n }).status).toBe(status);
  });
  it('TLFS v6.0b 3.12: an unknown code wins over reserved bits', () => {
    expect(booted({ policy }).callRaw(0x7777, new Uint8Array(8), { control: 1n << 63n }).status).toBe(INVALID_CODE);
  });

  // -- where parameters lie --------------------------------------------------------------------------------------------------------

  it('TLFS Hypercall Interface: input that is not there is no status: the VMM is told, and the call is not made', () => {
    const guest = booted({ policy });
    const outcome = ipi(guest, 0x40, 1n, false, { inputGpa: 0x4000_0000n });
    expect(outcome.status).toBe(-1);
    expect(guest.requested(0x40)).toBe(false);
    expect(guest.exits.length).toBeGreaterThan(0);
  });
  it('TLFS Hypercall Interface: input that touches the end of its page is legal', () => {
    const guest = booted({ policy });
    expect(ipi(guest, 0x42, 1n, false, { inputGpa: BigInt(DATA + 0xff0) }).value).toBe(0n);
    expect(guest.requested(0x42)).toBe(true);
  });
  it('TLFS Hypercall Interface: input and output may lie in one page', () => {
    const guest = booted({ policy, vps: 2 });
    const outcome = indices(guest, [1], false, { inputGpa: BigInt(DATA), outputGpa: BigInt(DATA + 0x800) });
    expect(outcome.status).toBe(SUCCESS);
    expect(guest.peek(0, DATA + 0x800, 4).getUint32(0, true)).toBe(1);
  });
  it('hyperv-vsm: parameters under an overlay page are those of the RAM below it', () => {
    const guest = booted({ policy });
    // The hypercall page of VTL0 hides the RAM that was there.
    guest.wrmsr(Msr.hypercall, 0);
    guest.poke(0, hypercallPage(0), guest.encode(HvCall.SendSyntheticClusterIpi, { header: { vector: 0x44, targetVtl: 0, flags: 0, processorMask: 1n } }));
    guest.wrmsr(Msr.hypercall, hypercallPage(0) | 1);
    const outcome = guest.control(0x0bn, BigInt(hypercallPage(0)), 0n);
    expect(outcome.value).toBe(0n);
    expect(guest.requested(0x44)).toBe(true);
  });
});
