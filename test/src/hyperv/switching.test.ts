import { HvRegister } from '@vmplanes/abi-hyperv';
import type { RegisterName } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { kernel32, policies } from './bench.ts';
import { assistPage, booted, contextOf, contextOf32, type Guest, hypercallPage, Msr, ready, type ReadyConfig, tscPage, VP_SELF } from './guest.ts';

// VTL call and return: who may, what the registers hold on the other side, what is shared and what is not.

const UD = 6, HIGH = 0xa0;
const RETURN_RAX = 16, RETURN_RCX = 24;

describe.each(policies)('under %s', (policy) => {
  const secured = (config: ReadyConfig = {}): Guest => ready({ policy, ...config });
  const inVtl1 = (config: ReadyConfig = {}): Guest => {
    const guest = secured(config);
    guest.enter();
    return guest;
  };
  const partition = (): Guest => {
    const guest = booted({ policy });
    guest.enablePartitionVtl(1);
    return guest;
  };

  // -- who may ------------------------------------------------------------------------------------------------------------------

  const CALL = 0x11n, RETURN = 0x12n;
  it.each([
    ['a call where the partition has no VTL1', () => booted({ policy }), CALL, 0n, {}],
    ['a call where the VP has no VTL1', partition, CALL, 0n, {}],
    ['a call of the highest VTL', inVtl1, CALL, 0n, {}],
    ['a call with input 1', secured, CALL, 1n, {}],
    ['a call with bit 63 of the input', secured, CALL, 1n << 63n, {}],
    ['a call with the fast bit', secured, CALL | 0x1_0000n, 0n, {}],
    ['a call with a rep count', secured, CALL | (1n << 32n), 0n, {}],
    ['a call with a rep start', secured, CALL | (1n << 48n), 0n, {}],
    ['a call with a variable header', secured, CALL | (1n << 17n), 0n, {}],
    ['a call with the nested bit', secured, CALL | (1n << 31n), 0n, {}],
    ['a call with a reserved bit', secured, CALL | (1n << 63n), 0n, {}],
    ['a call at CPL 3', secured, CALL, 0n, { cpl: 3 }],
    ['a call in real mode', secured, CALL, 0n, { cr0: 0x10 }],
    ['a return of VTL0', secured, RETURN, 0n, {}],
    ['a fast return of VTL0', () => booted({ policy }), RETURN, 1n, {}],
    ['a return with input 2', inVtl1, RETURN, 2n, {}],
    ['a return with input 3', inVtl1, RETURN, 3n, {}],
    ['a return with bit 32 of the input', inVtl1, RETURN, 1n << 32n, {}],
    ['a return with the fast bit of the control word', inVtl1, RETURN | 0x1_0000n, 0n, {}],
    ['a return with a reserved bit', inVtl1, RETURN | (1n << 44n), 0n, {}],
    ['a return at CPL 3', inVtl1, RETURN, 1n, { cpl: 3 }],
    ['a return in real mode', inVtl1, RETURN, 1n, { cr0: 0x10 }],
  ] as const)('TLFS Virtual Secure Mode: %s is #UD and switches nothing', (_what, make, word, input, values) => {
    const guest = make();
    const before = guest.active();
    guest.set(values);
    const switches = guest.switches[0]!.length;
    const issued = guest.callWith({ rcx: word, rax: input });
    expect([issued.result?.fault?.vector, guest.active(), guest.switches[0]!.length]).toEqual([UD, before, switches]);
    expect([guest.get('rcx'), guest.get('rax')]).toEqual([word, input]);
  });
  it('TLFS Virtual Secure Mode: without AccessVsm a call is #UD', () => {
    const guest = booted({ policy, options: { withhold: ['accessVsm'] } });
    expect(guest.vtlCall().result?.fault?.vector).toBe(UD);
  });
  it.each([[0n], [1n]] as const)('openvmm hv1_hypercall tests: a return with input %i is allowed', (input) => {
    const guest = inVtl1();
    guest.vtlReturn(0, input);
    expect(guest.active()).toBe(0);
  });

  // -- general registers ---------------------------------------------------------------------------------------------------------------

  it('TLFS Virtual Secure Mode, VTL call: VTL1 finds the operands of the call, and the reason', () => {
    const guest = inVtl1();
    expect([guest.get('rax'), guest.get('rcx'), guest.entryReason()]).toEqual([0n, 0x11n, 1]);
  });
  it('TLFS Virtual Secure Mode, fast return: VTL0 finds the operands of the return', () => {
    const guest = inVtl1();
    guest.leave(0, 1n);
    expect([guest.get('rax'), guest.get('rcx')]).toEqual([1n, 0x12n]);
  });
  it('TLFS Virtual Secure Mode, return: VTL0 finds RAX and RCX of the assist page as it is then', () => {
    const guest = inVtl1();
    guest.poke64(1, assistPage(0, 1) + RETURN_RAX, 0x1111_2222_3333_4444n);
    guest.poke64(1, assistPage(0, 1) + RETURN_RCX, 0x5555_6666_7777_8888n);
    guest.leave(0, 0n);
    expect([guest.get('rax'), guest.get('rcx')]).toEqual([0x1111_2222_3333_4444n, 0x5555_6666_7777_8888n]);
  });
  it('hyperv-vsm: a return without an assist page is like a fast one', () => {
    const guest = inVtl1();
    guest.wrmsr(Msr.assist, 0);
    guest.leave(0, 0n);
    expect([guest.get('rax'), guest.get('rcx')]).toEqual([0n, 0x12n]);
  });
  it('hyperv-vsm: an interrupt entry leaves the registers of VTL0 in the assist page, and a return brings them back', () => {
    const guest = secured();
    guest.set({ rax: 0xaaaa_bbbb_0001n, rcx: 0xcccc_dddd_0002n, rbx: 3 });
    guest.interrupt(HIGH, 0, 1);
    guest.run(2);
    expect(guest.active()).toBe(1);
    expect([guest.get('rax'), guest.get('rcx'), guest.get('rbx')]).toEqual([0xaaaa_bbbb_0001n, 0xcccc_dddd_0002n, 3n]);
    const page = guest.peek(1, assistPage(0, 1), 32);
    expect([page.getBigUint64(RETURN_RAX, true), page.getBigUint64(RETURN_RCX, true)]).toEqual([0xaaaa_bbbb_0001n, 0xcccc_dddd_0002n]);
    guest.plain({ op: 'sti' });
    guest.run(3);
    guest.leave(0, 0n);
    expect([guest.get('rax'), guest.get('rcx')]).toEqual([0xaaaa_bbbb_0001n, 0xcccc_dddd_0002n]);
  });
  it('openvmm: nothing is left in the assist page (switch prefillReturn)', () => {
    const guest = secured({ options: { prefillReturn: false } });
    guest.set({ rax: 0xaaaan, rcx: 0xbbbbn });
    guest.interrupt(HIGH, 0, 1);
    guest.run(2);
    const page = guest.peek(1, assistPage(0, 1), 32);
    expect([page.getBigUint64(RETURN_RAX, true), page.getBigUint64(RETURN_RCX, true)]).toEqual([0n, 0n]);
  });
  it('TLFS Virtual Secure Mode: both VTLs go on behind the instruction they left with', () => {
    const guest = secured();
    const ends = [guest.vtlCall(), guest.vtlReturn(), guest.vtlCall(), guest.vtlReturn()];
    guest.run(2);
    // The last return of VTL1 has its result when VTL1 runs again.
    expect(ends.map((e) => e.result !== null)).toEqual([true, true, true, false]);
    expect(ends.slice(0, 3).map((e) => e.result?.fault)).toEqual([null, null, null]);
  });
  it('TLFS HV_INITIAL_VP_CONTEXT: VTL1 starts with the context; what is not in it is as after reset, what is shared as VTL0 has it', () => {
    const guest = partition();
    expect(guest.enableVpVtl()).toBe(0);
    guest.set({ rbx: 0x77, r12: 0x88, xmm3: 0x99n << 64n, dr0: 0x1000, cr2: 0x2000 });
    guest.wrmsr(0xc000_0082, 0x5000);
    guest.enter();
    const expected: Readonly<Partial<Record<RegisterName, bigint>>> = {
      rsp: contextOf(0, 1).rsp, cr0: 0x8001_0011n, cr3: 0x5_0000n, cr4: 0x220n, efer: 0xd00n, 'cs.selector': 8n, 'cs.attributes': 0xa9bn, 'tr.attributes': 0x8bn, 'gdtr.limit': 0x7fn, 'idtr.limit': 0xfffn,
      pat: 0x0007_0406_0007_0406n, lstar: 0n, star: 0n, kernelGsBase: 0n, sysenterCs: 0n, tscAux: 0n,
      rbx: 0x77n, r12: 0x88n, xmm3: 0x99n << 64n, dr0: 0x1000n, cr2: 0x2000n,
    };
    for (const [name, value] of Object.entries(expected)) expect([name, guest.get(name as RegisterName)]).toEqual([name, value]);
  });

  // -- what is private and what is shared --------------------------------------------------------------------------------------------------------

  const privateMsrs = [
    ['SYSENTER_CS', 0x174, 0x11n], ['SYSENTER_ESP', 0x175, 0x1_1000n], ['SYSENTER_EIP', 0x176, 0x1_2000n], ['PAT', 0x277, 0x0606_0606_0606_0606n], ['STAR', 0xc000_0081, 0x23_0008_0000_0000n],
    ['LSTAR', 0xc000_0082, 0x1_3000n], ['CSTAR', 0xc000_0083, 0x1_4000n], ['SFMASK', 0xc000_0084, 0x700n], ['FS.BASE', 0xc000_0100, 0x1_5000n], ['GS.BASE', 0xc000_0101, 0x1_6000n],
    ['KERNEL_GS_BASE', 0xc000_0102, 0x1_7000n], ['TSC_AUX', 0xc000_0103, 0x18n],
    ['HV_X64_MSR_GUEST_OS_ID', 0x4000_0000, 0x8100_0000_0000_1234n], ['HV_X64_MSR_REFERENCE_TSC', 0x4000_0021, BigInt(tscPage(0) | 1)], ['HV_X64_MSR_NPIEP_CONFIG', 0x4000_0040, 3n], ['HV_X64_MSR_TPR', 0x4000_0072, 0x30n],
    ['HV_X64_MSR_VP_ASSIST_PAGE', 0x4000_0073, 0x1f_0001n], ['HV_X64_MSR_SCONTROL', 0x4000_0080, 0n], ['HV_X64_MSR_SIEFP', 0x4000_0082, 0x1f_2001n], ['HV_X64_MSR_SIMP', 0x4000_0083, 0x1f_1001n],
    ['HV_X64_MSR_SINT5', 0x4000_0095, 0x77n], ['HV_X64_MSR_SINT15', 0x4000_009f, 0x2_0078n], ['HV_X64_MSR_STIMER2_CONFIG', 0x4000_00b4, 0x3_0000n], ['HV_X64_MSR_STIMER2_COUNT', 0x4000_00b5, 12_345n],
  ] as const;
  it.each(privateMsrs)('TLFS Virtual Secure Mode, private state: %s', (_name, index, value) => {
    const guest = secured();
    guest.enter();
    const own = guest.rdmsr(index);
    guest.leave();
    guest.wrmsr(index, value);
    guest.enter();
    expect(guest.rdmsr(index)).toBe(own);
    guest.leave();
    expect(guest.rdmsr(index)).toBe(value);
  });
  const sharedMsrs = [
    ['MTRR_DEF_TYPE', 0x2ff, 0xc06n], ['MTRR_PHYSBASE0', 0x200, 0x1_0006n], ['MTRR_FIX64K', 0x250, 0x0606_0606_0606_0606n], ['GUEST_CRASH_P0', 0x4000_0100, 0x1234n], ['GUEST_CRASH_P4', 0x4000_0104, 0x5678n],
  ] as const;
  it.each(sharedMsrs)('TLFS Virtual Secure Mode, shared state: %s', (_name, index, value) => {
    const guest = secured();
    guest.wrmsr(index, value);
    guest.enter();
    expect(guest.rdmsr(index)).toBe(value);
    guest.leave();
    expect(guest.rdmsr(index)).toBe(value);
  });
  const sharedRegisters = ['rbx', 'rdx', 'rsi', 'rdi', 'rbp', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'cr2', 'dr0', 'dr1', 'dr2', 'dr3', 'xcr0', 'xmm0', 'xmm15', 'ymmHigh7', 'st3', 'mxcsr'] as const;
  const privateRegisters = ['rsp', 'rflags', 'cr3', 'cr4', 'dr6', 'dr7', 'idtr.base', 'gdtr.limit', 'ldtr.selector', 'tr.base', 'ds.selector', 'ss.base', 'pkru', 'xss'] as const;
  it.each(sharedRegisters)('TLFS Virtual Secure Mode, shared registers: %s', (name) => {
    const guest = secured();
    guest.set({ [name]: 0x1f80n });
    guest.enter();
    expect(guest.get(name)).toBe(0x1f80n);
    guest.set({ [name]: 0x1fa0n });
    guest.leave();
    expect(guest.get(name)).toBe(0x1fa0n);
  });
  it.each(privateRegisters)('TLFS Virtual Secure Mode, private registers: %s', (name) => {
    const guest = inVtl1();
    const own = guest.get(name);
    guest.leave();
    const lower = guest.get(name) ^ 0x1000n;
    guest.set({ [name]: lower });
    guest.enter();
    expect([guest.get(name), guest.get(name, 0, 0)]).toEqual([own, lower]);
    guest.leave();
    expect(guest.get(name)).toBe(lower);
  });
  it.each([[false], [true]] as const)('TLFS Virtual Secure Mode, DR6: shared only where the processor shares it (option dr6Shared %s)', (dr6Shared) => {
    const guest = secured({ options: { dr6Shared } });
    expect(guest.reg('VsmCapabilities') & 1n).toBe(dr6Shared ? 1n : 0n);
    guest.set({ dr6: 0xffff_0ff1n });
    guest.enter();
    expect(guest.get('dr6') === 0xffff_0ff1n).toBe(dr6Shared);
  });
  it('hyperv-vsm: a write of the TSC moves that of the VTL only; both count alike', () => {
    const guest = secured();
    guest.wrmsr(0x10, 0n);
    const zero = guest.rdmsr(0x10);
    guest.enter();
    const own = guest.rdmsr(0x10);
    expect(own).toBeGreaterThan(zero + 1_000n);
    guest.run(10);
    const later = guest.rdmsr(0x10) - own;
    guest.leave();
    expect(guest.rdmsr(0x10) - zero).toBeGreaterThanOrEqual(later);
  });
  it('TLFS Virtual Secure Mode, overlay pages: the same address is an overlay in one VTL and RAM in the other', () => {
    const guest = secured();
    guest.enter();
    guest.poke64(1, hypercallPage(0), 0x1122n);
    expect(guest.peek(1, hypercallPage(0), 8).getBigUint64(0, true)).toBe(0x1122n);
    guest.leave();
    expect(guest.plain({ op: 'read', gpa: hypercallPage(0), size: 1 }).rax & 0xffn).toBe(0x0fn);
    expect(guest.plain({ op: 'read', gpa: assistPage(0, 1) + 8, size: 4 }).rax).toBe(0n);
  });
  it('TLFS Hypercall Interface: the hypercall page cannot be written', () => {
    const guest = secured();
    expect(guest.step({ op: 'write', gpa: hypercallPage(0), value: 1 }).fault).toMatchObject({ vector: 13 });
    expect(guest.plain({ op: 'execute', gpa: hypercallPage(0) }).fault).toBeNull();
  });

  // -- 32-bit code ------------------------------------------------------------------------------------------------------------------------

  it('TLFS Virtual Secure Mode, 32-bit: calls, returns, code offsets and return registers', () => {
    const guest = booted({ policy });
    guest.enablePartitionVtl(1);
    expect(guest.enableVpVtl(VP_SELF, 1, 0, contextOf32(0, 1))).toBe(0);
    guest.set(kernel32);
    guest.enter();
    expect([guest.get('rax'), guest.get('rcx')]).toEqual([0x11n, 0n]);
    guest.openInterface();
    guest.openSynic();
    expect(guest.reg('VsmCodePageOffsets')).toBe(0x1_b004n);
    guest.leave(0, 1n);
    expect([guest.get('rax'), guest.get('rdx'), guest.get('rcx')]).toEqual([0x12n, 0n, 1n]);
    guest.enter();
    // EAX, ECX, EDX, four bytes each.
    guest.poke64(1, assistPage(0, 1) + RETURN_RAX, (0x2222_2222n << 32n) | 0x1111_1111n);
    guest.poke64(1, assistPage(0, 1) + RETURN_RCX, 0x3333_3333n);
    guest.leave(0, 0n);
    expect([guest.get('rax') & 0xffff_ffffn, guest.get('rcx') & 0xffff_ffffn, guest.get('rdx') & 0xffff_ffffn]).toEqual([0x1111_1111n, 0x2222_2222n, 0x3333_3333n]);
  });
  it('openvmm hv1_emulator: stubs lie at their offsets in the hypercall page', () => {
    const guest = secured();
    const page = guest.peek(0, hypercallPage(0), 64);
    const bytes = (at: number, n: number): readonly number[] => Array.from({ length: n }, (_, i) => page.getUint8(at + i));
    // The call instruction of the vendor, then a near return.
    expect(page.getUint8(3)).toBe(0xc3);
    expect([[0x0f, 0x01, 0xc1], [0x0f, 0x01, 0xd9]]).toContainEqual(bytes(0, 3));
    // mov rax, rcx at both 64-bit stubs.
    for (const at of [0x0f, 0x26]) expect([[0x48, 0x8b, 0xc1], [0x48, 0x89, 0xc8]]).toContainEqual(bytes(at, 3));
  });
  it('openvmm hvdef: VsmVpVtlControl is gone', () => {
    expect(inVtl1().getReg(HvRegister.VsmVpVtlControl).status).toBe(5);
  });
});
