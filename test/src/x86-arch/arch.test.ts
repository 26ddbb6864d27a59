import { Activity, type Answer, type Completion, type CpuExit, HostError, MemoryFaultInfo, Right } from '@vmplanes/engine';
import { ApicEvent, completeX86Config, DeliveryMode, encodeMessage, type InstructionRow, RegisterKey, type RegisterName, X86, X86Arch } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { type Rig, rigOf } from '../engine/rig.ts';

const codeOf = (use: () => unknown): string => {
  try {
    use();
    return 'none';
  } catch (error) {
    return error instanceof HostError ? `${error.code}: ${error.message}` : String(error);
  }
};
const one = (x86: Parameters<typeof rigOf>[0]['x86'] = {}): Rig => rigOf({ guests: [{ 0: [], 1: [] }, { 0: [] }], x86, checked: false });
/** A copy of a borrowed answer. */
const plain = (answer: Answer): unknown => structuredClone(answer);
const exitOf = (fields: object): CpuExit => fields as CpuExit;
const all = 0xffff_ffff_ffff_ffffn;

describe('the configuration', () => {
  it('has defaults, and takes what is given', () => {
    expect(completeX86Config({})).toMatchObject({ cpuModel: 'base', apicIds: [], unknownMsr: 'fault', invalidMsr: 'fault', busLock: { exits: false, perSecond: 0 } });
    expect(completeX86Config({ cpuModel: 'epyc-like', apicIds: [0, 0xffff_fffe], busLock: { exits: true, perSecond: 0.5 } })).toMatchObject({ cpuModel: 'epyc-like', apicIds: [0, 0xffff_fffe], busLock: { exits: true, perSecond: 0.5 } });
  });
  it.each([
    [{ apicIds: [-1] }, 'APIC id -1: not in 0..0xfffffffe'], [{ apicIds: [0xffff_ffff] }, 'APIC id 4294967295: not in 0..0xfffffffe'], [{ apicIds: [1.5] }, 'APIC id 1.5: not in'], [{ apicIds: [3, 4, 3] }, 'APIC id 3 is given twice'],
    [{ busLock: { exits: false, perSecond: -1 } }, 'busLock.perSecond -1: must not be negative'], [{ busLock: { exits: false, perSecond: Number.NaN } }, 'must not be negative'],
  ])('%j is refused: %s', (given, message) => expect(codeOf(() => completeX86Config(given))).toContain(message));
  it('VPs without an id of their own find theirs free', () => {
    const checkApicIds = (apicIds: readonly number[], maxVps: number) => rigOf({ guests: [], x86: { apicIds }, options: { maxVps } });
    expect(codeOf(() => checkApicIds([5, 6], 2))).toBe('none');
    expect(codeOf(() => checkApicIds([5, 1], 2))).toBe('none');
    expect(codeOf(() => checkApicIds([2, 7], 3))).toBe('BadConfig: APIC id 2 is given to VP 0, and VP 2 would take it as its own');
    expect(codeOf(() => checkApicIds([9, 3], 4))).toBe('BadConfig: APIC id 3 is given to VP 1, and VP 3 would take it as its own');
    expect(codeOf(() => checkApicIds([9, 4], 4))).toBe('none');
    expect(codeOf(() => new X86Arch({ cpuModel: 'none' }))).toMatch(/^BadConfig: no CPU model 'none'; there are base, /);
  });
  it('APIC ids are the configured ones, then the index', () => {
    const rig = one({ apicIds: [7] });
    expect([rig.arch.fabric.apicId(0), rig.arch.fabric.apicId(1)]).toEqual([7, 1]);
    const out = new Uint32Array(4);
    rig.arch.registers.executeCpuid(rig.vps[0]!.plane(0), 1, 0, out);
    expect(out[1]! >>> 24).toBe(7);
    rig.arch.registers.executeCpuid(rig.vps[1]!.plane(0), 1, 0, out);
    expect(out[1]! >>> 24).toBe(1);
  });
  it('what is settled early cannot be changed later', () => {
    const rig = one();
    expect(codeOf(() => rig.arch.setSides({ bit: 51, areOpen: false, isPrivate: () => true }))).toBe('BadState: the sides of memory are fixed once a VP exists');
    expect(codeOf(() => rig.arch.attach(rig.machine))).toBe('BadState: this architecture object belongs to a machine already');
    expect([rig.arch.sides, rig.arch.machine === rig.machine, rig.arch.name, rig.arch.freshReset]).toEqual([null, true, 'x86', 'powerOn']);
  });
  it('an instruction is contributed once', () => {
    const { arch } = one();
    const row: InstructionRow = { mnemonic: 'foo', encoding: '0f 0b', spec: 'none', run: () => null };
    arch.contribute(row);
    expect([arch.instruction('foo'), arch.instruction('bar'), codeOf(() => arch.contribute(row))]).toEqual([row, null, "DoubleClaim: the instruction 'foo' is contributed twice"]);
  });
});

describe('planes of a VP', () => {
  it('the first VP is the boot processor; planes above 0 are not held back', () => {
    const arch = new X86Arch();
    const rig = rigOf({ guests: [], options: { maxVps: 2 } });
    const [boot, other] = [rig.machine.createVp(), rig.machine.createVp()];
    expect([boot.plane(0).activity, other.plane(0).activity]).toEqual([Activity.Running, Activity.WaitForSipi]);
    rig.machine.createPlane(other, 2 as never);
    expect([other.plane(2).activity, rig.arch.apicOf(other.plane(2)).latches.isWaitingForSipi, rig.arch.apicOf(other.plane(0)).latches.isWaitingForSipi]).toEqual([Activity.Running, false, true]);
    expect([boot, other].map((vp) => rig.arch.apicOf(vp.plane(0)).isBootProcessor)).toEqual([true, false]);
    expect(arch.config.cpuModel).toBe('base');
  });
  it('a reset puts a plane back; one that nobody knows is named', () => {
    const rig = one();
    const context = rig.vps[1]!.plane(0), plane = rig.vps[0]!.plane(1);
    for (const c of [context, plane]) Object.assign(c, { edges: 5, clockOffset: 6, instructionLength: 7 });
    rig.set(1, 0, 'rax', 9n);
    rig.arch.reset(context, 'powerOn');
    expect([rig.get(1, 0, 'rax'), rig.get(1, 0, 'rip'), context.edges, context.clockOffset, context.instructionLength, context.activity]).toEqual([0n, 0xfff0n, 0, 0, 0, Activity.WaitForSipi]);
    rig.arch.reset(plane, 'powerOn');
    expect([plane.activity, rig.arch.apicOf(plane).latches.isWaitingForSipi]).toEqual([Activity.Running, false]);
    Object.assign(context, { edges: 5, activity: Activity.Running });
    rig.arch.reset(context, 'init');
    expect([context.edges, context.activity]).toEqual([5, Activity.WaitForSipi]);
    expect(codeOf(() => rig.arch.reset(context, 'warm'))).toBe("BadState: no reset 'warm'; there are powerOn, init");
  });
  it('a plane that goes away is no destination any more', () => {
    const rig = one();
    expect(rig.msi(0, 1, 0x50)).toBe(1);
    rig.machine.removePlane(rig.vps[0]!, 1 as never);
    expect(rig.msi(0, 1, 0x51)).toBe(-1);
  });
});

describe('SDM 3A §4.6.1, TLFS Mode Based Execution Control: the execute right of a fetch without tables', () => {
  const SMEP = 1n << 20n;
  it.each([
    // user, by mode, ignoring SMEP, CR4.SMEP
    [false, false, false, 0n, Right.ExecSupervisor], [true, false, false, 0n, Right.ExecUser], [true, true, false, 0n, Right.ExecSupervisor], [true, true, false, SMEP, Right.ExecUser], [true, true, true, 0n, Right.ExecUser], [false, true, false, SMEP, Right.ExecSupervisor],
  ])('user %s, by mode %s, ignoring SMEP %s, CR4.SMEP %i', (user, byMode, ignores, cr4, right) => {
    const rig = one();
    rig.arch.executeRightsByMode = byMode;
    rig.arch.executeRightsIgnoreSmep = ignores;
    rig.set(0, 0, 'cr4', cr4);
    expect(rig.arch.fetchRight(rig.vps[0]!.plane(0), user)).toBe(right);
  });
});

describe('what ends an instruction', () => {
  it('RIP goes on by the length, into its high half, and the shadow ends', () => {
    const rig = one();
    const context = rig.vps[0]!.plane(0);
    for (const [rip, length, next] of [[0x1000n, 3, 0x1003n], [0xffff_ffffn, 1, 0x1_0000_0000n], [0xffff_fffen, 1, 0xffff_ffffn], [0x1_ffff_fff8n, 15, 0x2_0000_0007n]] as const) {
      rig.set(0, 0, 'rip', rip);
      rig.set(0, 0, 'interruptShadow', 2n);
      context.instructionLength = length;
      rig.arch.retire(context);
      expect([rig.get(0, 0, 'rip'), rig.get(0, 0, 'interruptShadow')]).toEqual([next, 0n]);
    }
  });
  it('a fault is due with all it brings; only a page fault has an address for CR2', () => {
    const rig = one();
    const context = rig.vps[0]!.plane(0);
    const cells = (): readonly bigint[] => (['state', 'vector', 'hasErrorCode', 'errorCode', 'hasPayload', 'payload'] as const).map((n) => rig.get(0, 0, `exception.${n}`));
    rig.arch.injectFault(context, { code: 14, errorCode: 7, addressLo: 0x8000_0001, addressHi: 0xffff_0002 });
    expect(cells()).toEqual([1n, 14n, 1n, 7n, 1n, 0xffff_0002_8000_0001n]);
    rig.arch.injectFault(context, { code: 13, errorCode: 0, addressLo: 0, addressHi: 0 });
    expect(cells()).toEqual([1n, 13n, 1n, 0n, 0n, 0n]);
    rig.arch.injectFault(context, { code: 6, errorCode: null, addressLo: 0, addressHi: 0 });
    expect(cells()).toEqual([1n, 6n, 0n, 0n, 0n, 0n]);
  });
  it.each([[1, 0x1111_2222_3333_44aan], [2, 0x1111_2222_3333_99aan], [4, 0x8877_99aan], [8, 0xf6f5_f4f3_8877_99aan]])('SDM 1 §3.4.1.1: a load of %i bytes', (size, expected) => {
    const rig = one();
    rig.set(0, 0, 'rax', 0x1111_2222_3333_4444n);
    rig.arch.loadRax(rig.vps[0]!.plane(0), size, 0x8877_99aa, 0xf6f5_f4f3);
    expect(rig.get(0, 0, 'rax')).toBe(expected);
  });
  const complete = (completion: Partial<Completion>): Rig => {
    const rig = one();
    const context = rig.vps[0]!.plane(0);
    context.instructionLength = 2;
    for (const r of ['rax', 'rdx'] as const) rig.set(0, 0, r, all);
    rig.arch.complete(context, { owner: 'arch', kind: 'io', data: {}, reply: null, ...completion });
    return rig;
  };
  it.each([
    [{ kind: 'io', data: { size: 1 }, reply: { value: 0x1_2345 } }, 0xffff_ffff_ffff_ff45n, all], [{ kind: 'io', data: {}, reply: { value: 0x8000_0001 } }, 0x8000_0001n, all], [{ kind: 'io', data: { size: 4 }, reply: { value: -1 } }, 0xffff_ffffn, all],
    [{ kind: 'mmio', data: { size: 8 }, reply: { lo: 1, hi: -2 } }, 0xffff_fffe_0000_0001n, all], [{ kind: 'mmio', data: {}, reply: { lo: 1, hi: 2 } }, 1n, all], [{ kind: 'mmio', data: { size: 8 }, reply: null }, 0n, all],
    [{ kind: 'io', data: { size: 4 }, reply: { value: 'text' } }, 0n, all], [{ kind: 'rdmsr', data: {}, reply: { error: false, lo: 3, hi: 4 } }, 3n, 4n], [{ kind: 'wrmsr', data: {}, reply: { error: false, lo: 3, hi: 4 } }, all, all],
  ] as const)('an answer of the VMM: %j', (completion, rax, rdx) => {
    const rig = complete(completion as Partial<Completion>);
    expect([rig.get(0, 0, 'rax'), rig.get(0, 0, 'rdx'), rig.get(0, 0, 'rip'), rig.get(0, 0, 'exception.state')]).toEqual([rax, rdx, 0xfff2n, 0n]);
  });
  it('an MSR access that the VMM refuses is #GP(0), and the instruction is not done', () => {
    for (const kind of ['rdmsr', 'wrmsr']) {
      const rig = complete({ kind, reply: { error: true, lo: 3, hi: 4 } });
      expect([rig.get(0, 0, 'rax'), rig.get(0, 0, 'rip'), rig.get(0, 0, 'exception.vector'), rig.get(0, 0, 'exception.hasErrorCode'), rig.get(0, 0, 'exception.errorCode')]).toEqual([all, 0xfff0n, 13n, 1n, 0n]);
    }
    expect(codeOf(() => complete({ kind: 'other' }))).toBe("Internal: unknown completion 'other'");
  });
});

describe('exits that nobody claims', () => {
  const answer = (rig: Rig, fields: object): unknown => plain(rig.arch.unclaimed(rig.vps[0]!.plane(0), exitOf(fields)));
  const replies = (rig: Rig) => rig.vps[0]!.replies;
  it('a call: #UD; what only the engine answers: a defect', () => {
    const rig = one();
    expect(answer(rig, { kind: 'call', key: 1 })).toEqual(plain(replies(rig).fault(6)));
    for (const kind of ['halt', 'budget', 'shutdown', 'memoryFault']) expect(codeOf(() => answer(rig, { kind }))).toBe(`Internal: the engine answers '${kind}' itself`);
    expect(codeOf(() => answer(rig, { kind: 'strange' }))).toMatch(/^Internal: unknown exit/);
  });
  it('devices and ports go to the VMM, reads with the size that their answer has', () => {
    const rig = one();
    for (const write of [false, true]) {
      const mmio = { write, gpa: 0xe000_0000, size: 4, lo: 5, hi: 6 }, io = { write, port: 0x70, size: 2, value: 9 };
      expect(answer(rig, { kind: 'mmio', key: mmio.gpa, ...mmio })).toEqual(plain(replies(rig).exit({ kind: 'mmio', ...mmio } as never, write ? null : { owner: 'arch', kind: 'mmio', data: { size: 4 }, reply: null })));
      expect(answer(rig, { kind: 'io', key: io.port, ...io })).toEqual(plain(replies(rig).exit({ kind: 'io', ...io } as never, write ? null : { owner: 'arch', kind: 'io', data: { size: 2 }, reply: null })));
    }
    expect(answer(rig, { kind: 'interruptWindow' })).toEqual(plain(replies(rig).exit({ kind: 'interruptWindow' })));
    expect(answer(rig, { kind: 'debug', dr6: 0x4ff0 })).toEqual(plain(replies(rig).exit({ kind: 'debug', dr6: 0x4ff0 } as never)));
  });
  it('the page of the own local APIC is 4096 bytes at its address, in xAPIC mode', () => {
    const rig = rigOf({ guests: [], options: { maxVps: 1 } });
    const vp = rig.machine.createVp();
    const page = 0xfee0_0000;
    const touches = (key: number): boolean => rig.arch.apicPage(vp.plane(0), { kind: 'mmio', key, write: true, size: 4, lo: 0x30, hi: 0 });
    expect([touches(page - 4), touches(page), touches(page + 4095), touches(page + 4096)]).toEqual([false, true, true, false]);
    expect(touches(page + 0x80)).toBe(true);
    rig.set(0, 0, 'rax', all);
    expect(rig.arch.apicPage(vp.plane(0), { kind: 'mmio', key: page + 0x80, write: false, size: 4, lo: 0, hi: 0 })).toBe(true);
    expect(rig.get(0, 0, 'rax')).toBe(0x30n);
    rig.arch.apicOf(vp.plane(0)).writeApicBase(0xfee0_0d00, 0, true);
    expect(touches(page)).toBe(false);
  });
  it('bus locks: counted; exits when asked for, else a rate, else nothing', () => {
    const free = one();
    expect([answer(free, { kind: 'busLock' }), free.vps[0]!.busLocks, free.vps[0]!.busLockUntil]).toEqual([plain(replies(free).resume()), 1, 0]);
    const exits = one({ busLock: { exits: true, perSecond: 1 } });
    expect([answer(exits, { kind: 'busLock' }), answer(exits, { kind: 'busLock' })]).toEqual([1, 2].map((count) => plain(replies(exits).exit({ kind: 'busLock', count } as never))));
    const slow = one({ busLock: { exits: false, perSecond: 1000 } });
    const gap = slow.machine.options.ticksPerSecond / 1000;
    expect(answer(slow, { kind: 'busLock' })).toEqual(plain(replies(slow).resume()));
    expect(answer(slow, { kind: 'busLock' })).toEqual(plain(replies(slow).wait({ kind: 'time', at: gap }, 'advanced')));
    expect(answer(slow, { kind: 'busLock' })).toEqual(plain(replies(slow).wait({ kind: 'time', at: 2 * gap }, 'advanced')));
    expect([slow.vps[0]!.busLocks, slow.vps[0]!.busLockUntil]).toEqual([3, 3 * gap]);
  });
});

describe('CPUID, MSRs and control registers', () => {
  const context = (rig: Rig, plane = 0) => rig.vps[0]!.plane(plane);
  it('CPUID fills four registers, each to 64 bits', () => {
    const rig = one();
    for (const r of ['rax', 'rbx', 'rcx', 'rdx'] as const) rig.set(0, 0, r, all);
    rig.arch.registers.cpuid(context(rig), { kind: 'cpuid', key: 0, subleaf: 0 });
    const out = new Uint32Array(4);
    rig.arch.registers.executeCpuid(context(rig), 0, 0, out);
    expect((['rax', 'rbx', 'rcx', 'rdx'] as const).map((r) => rig.get(0, 0, r))).toEqual([...out].map(BigInt));
    expect(new Set(out).size).toBe(4);
  });
  it('RDMSR gives EDX:EAX, each to 64 bits', () => {
    const rig = one();
    for (const r of ['rax', 'rdx'] as const) rig.set(0, 0, r, all);
    rig.arch.registers.setEdxEax(context(rig), 0x8000_0001, 0x9000_0002);
    expect([rig.get(0, 0, 'rax'), rig.get(0, 0, 'rdx')]).toEqual([0x8000_0001n, 0x9000_0002n]);
  });
  const STAR = 0xc000_0081, NONE = 0x1234, PAT = 0x277, TPR = 0x808, BASE = 0x1b;
  const msr = (rig: Rig, key: number, value?: bigint): unknown => plain(rig.arch.registers.msr(context(rig), { kind: 'msr', key, write: value !== undefined, lo: Number((value ?? 0n) & 0xffff_ffffn), hi: Number((value ?? 0n) >> 32n) }));
  it('MSR accesses of the guest: done, or #GP(0), or told to the VMM with the reason', () => {
    const rig = one();
    const { replies } = rig.vps[0]!;
    const gp = plain(replies.fault(13, 0));
    expect([msr(rig, STAR, 0xf234_5678_9abc_def0n), msr(rig, STAR), rig.get(0, 0, 'rax'), rig.get(0, 0, 'rdx')]).toEqual([plain(replies.resume()), plain(replies.resume()), 0x9abc_def0n, 0xf234_5678n]);
    expect([msr(rig, NONE), msr(rig, NONE, 1n), msr(rig, PAT, 2n)]).toEqual([gp, gp, gp]);
    rig.arch.registers.msrExits = { unknown: true, invalid: false, filter: true };
    expect([msr(rig, NONE), msr(rig, PAT, 2n)]).toEqual([plain(replies.exit({ kind: 'msr', write: false, index: NONE, lo: 0, hi: 0, reason: 'unknown' } as never, { owner: 'arch', kind: 'rdmsr', data: {}, reply: null })), gp]);
    rig.arch.registers.msrExits = { unknown: false, invalid: true, filter: true };
    expect([msr(rig, NONE), msr(rig, PAT, 0x2_0000_0002n)]).toEqual([gp, plain(replies.exit({ kind: 'msr', write: true, index: PAT, lo: 2, hi: 2, reason: 'invalid' } as never, { owner: 'arch', kind: 'wrmsr', data: {}, reply: null }))]);
  });
  it('the configuration says which of them exit', () => {
    for (const [unknownMsr, invalidMsr] of [['exit', 'fault'], ['fault', 'exit']] as const) expect(one({ unknownMsr, invalidMsr }).arch.registers.msrExits).toEqual({ unknown: unknownMsr === 'exit', invalid: invalidMsr === 'exit', filter: true });
    expect([one({ busLock: { exits: true, perSecond: 0 } }).arch.registers.busLockExits, one().arch.registers.busLockExits]).toEqual([true, false]);
  });
  it('registers of the local APIC are MSRs of it', () => {
    const rig = one();
    const { registers } = rig.arch;
    expect([registers.writeMsr(context(rig), TPR, 0x50n, false), registers.readMsr(context(rig), TPR, false), rig.arch.apicOf(context(rig)).cr8, registers.readMsr(context(rig, 1), TPR, false)]).toEqual(['ok', 0x50n, 5, 0n]);
    expect([registers.writeMsr(context(rig), TPR, 0x100n, false), registers.readMsr(context(rig), 0x8ff, false), registers.readMsr(context(rig), BASE, false)]).toEqual(['invalid', 'invalid', 0xfee0_0d00n]);
    expect([registers.writeMsr(context(rig), BASE, 0x12_fee0_0d00n, true), registers.readMsr(context(rig), BASE, true), registers.writeMsr(context(rig), BASE, 0xfee0_0400n, true)]).toEqual(['ok', 0x12_fee0_0d00n, 'invalid']);
  });
  it('a counter that moves takes an armed deadline along', () => {
    for (const [index, value] of [[0x10, 5000n], [0x3b, 5000n]] as const) {
      const rig = one();
      const apic = rig.arch.apicOf(context(rig));
      rig.arch.registers.writeMsr(context(rig), 0x832, 0x4_0040n, false);
      rig.arch.registers.writeMsr(context(rig), 0x6e0, 8000n, false);
      expect(apic.timer.deadline()).toBe(8000);
      expect(rig.arch.registers.writeMsr(context(rig), index, value, false)).toBe('ok');
      expect([apic.timer.deadline(), context(rig).events.deadline()], index.toString(16)).toEqual([3000, 3000]);
    }
  });
  const move = (rig: Rig, key: number, value: bigint, plane = 0): boolean => rig.arch.registers.writeControl(context(rig, plane), key as RegisterKey, value);
  it('control registers take legal values and refuse others, each with a neighbour', () => {
    const rows: readonly (readonly [number, RegisterName, bigint, bigint, bigint])[] = [
      [RegisterKey.Cr0, 'cr0', 0x11n, 0x11n, 0x8000_0000n], [RegisterKey.Cr2, 'cr2', all, all, -1n], [RegisterKey.Cr3, 'cr3', 0x5000n, 0x5000n, 1n << 52n], [RegisterKey.Cr4, 'cr4', 0x20n, 0x20n, 1n << 15n], [RegisterKey.Dr7, 'dr7', 0x401n, 0x401n, 1n << 32n], [RegisterKey.Xcr0, 'xcr0', 3n, 3n, 2n],
    ];
    for (const [key, name, value, stored, bad] of rows) {
      const rig = one({ cpuModel: 'epyc-like' });
      expect([move(rig, key, value), rig.get(0, 0, name)], name).toEqual([true, stored]);
      if (bad !== -1n) expect([move(rig, key, bad), rig.get(0, 0, name)], name).toEqual([false, stored]);
      expect(rig.get(0, 1, name), name).not.toBe(stored);
    }
    const rig = one();
    expect([move(rig, RegisterKey.Cr8, 15n), rig.arch.apicOf(context(rig)).cr8, move(rig, RegisterKey.Cr8, 16n), rig.arch.apicOf(context(rig)).cr8]).toEqual([true, 15, false, 15]);
    expect([RegisterKey.Gdtr, RegisterKey.Idtr, RegisterKey.Ldtr, RegisterKey.Tr, RegisterKey.Dr0].map((key) => move(rig, key, all))).toEqual([true, true, true, true, true]);
    const { replies } = rig.vps[0]!;
    const exit = (hi: number): unknown => plain(rig.arch.registers.move(context(rig), { kind: 'register', key: RegisterKey.Cr8, write: true, lo: 3, hi }));
    expect([exit(0), exit(1), rig.arch.apicOf(context(rig)).cr8]).toEqual([plain(replies.resume()), plain(replies.fault(13, 0)), 3]);
  });
  it('SDM 3A §10.8.5: paging makes long mode active', () => {
    const rig = one();
    move(rig, RegisterKey.Cr4, 0x20n);
    rig.arch.registers.writeMsr(context(rig), 0xc000_0080, 0x100n, true);
    expect([move(rig, RegisterKey.Cr0, 0x8000_0011n), rig.get(0, 0, 'efer')]).toEqual([true, 0x500n]);
    expect([move(rig, RegisterKey.Cr0, 0x11n), rig.get(0, 0, 'efer')]).toEqual([true, 0x100n]);
  });
  it('their settings are state', () => {
    const [a, b] = [one(), one()];
    Object.assign(a.arch.registers, { msrExits: { unknown: true, invalid: true, filter: false }, busLockExits: true });
    a.arch.registers.table(a.vps[1]!);
    b.arch.registers.restore(structuredClone(a.arch.registers.save()));
    expect([b.arch.registers.save(), b.arch.registers.msrExits, b.arch.registers.busLockExits]).toEqual([a.arch.registers.save(), { unknown: true, invalid: true, filter: false }, true]);
    const bad = { ...(a.arch.registers.save() as Record<string, unknown>), filter: { flags: 2, ranges: [] } };
    expect(codeOf(() => b.arch.registers.restore(bad as never))).toMatch(/^BadSnapshot: MSR filter: E/);
  });
});

describe('messages', () => {
  it('SDM 3A §10.6.1: their code is the low word of an interrupt command', () => {
    expect([encodeMessage(DeliveryMode.fixed, 0x41, true, false), encodeMessage(DeliveryMode.fixed, 0x41, false, true), encodeMessage(DeliveryMode.nmi, 0, true, false), encodeMessage(DeliveryMode.startUp, 0x10, true, false), encodeMessage(DeliveryMode.init, 0xff, true, true)]).toEqual([0x4041, 0x8041, 0x4400, 0x4610, 0xc5ff]);
  });
  it('a filter refuses before a message is stored, and again when it arrives', () => {
    const rig = one();
    const asked: unknown[] = [];
    rig.arch.fabric.filter = (vp, plane, mode) => (asked.push([vp, plane, mode]), plane !== 1);
    expect([rig.msi(0, 1, 0x50), rig.msi(0, 0, 0x51), rig.machine.send(0, 1, encodeMessage(DeliveryMode.nmi, 0, true, false), 0)]).toEqual([0, 1, 0]);
    expect(asked).toEqual([[0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 1, 4]]);
    rig.arch.fabric.filter = null;
    expect([rig.msi(0, 1, 0x50), rig.arch.apicOf(rig.vps[0]!.plane(1)).highestIrr()]).toEqual([1, 0x50]);
    // The vector is there already: taken by nobody.
    expect(rig.msi(0, 1, 0x50)).toBe(0);
  });
  it('from the slice of another VP they are on their way until it ends', () => {
    const rig = one();
    rig.machine.activeVp = 1;
    expect([rig.msi(0, 0, 0x50), rig.arch.apicOf(rig.vps[0]!.plane(0)).highestIrr()]).toEqual([1, -1]);
    rig.machine.activeVp = -1;
    rig.machine.flushOutbox();
    expect(rig.arch.apicOf(rig.vps[0]!.plane(0)).highestIrr()).toBe(0x50);
    rig.machine.activeVp = 0;
    expect([rig.msi(0, 0, 0x60), rig.arch.apicOf(rig.vps[0]!.plane(0)).highestIrr()]).toEqual([1, 0x60]);
    rig.machine.activeVp = -1;
  });
  it('deadlines are the first tick at which the scaled counter has reached them', () => {
    const rig = one();
    const { arena } = rig.machine;
    const c = rig.vps[0]!.plane(0);
    const at = (scale: bigint, offset: bigint, target: bigint): number => {
      arena.view.setBigUint64(c.base + X86.tscScale, scale, true);
      arena.view.setBigInt64(c.base + X86.tscOffset, offset, true);
      rig.arch.registers.writeMsr(c, 0x832, 0x4_0040n, false);
      rig.arch.registers.writeMsr(c, 0x6e0, target, false);
      return rig.arch.apicOf(c).timer.deadline();
    };
    const ONE = 1n << 32n;
    expect([at(ONE, 0n, 1000n), at(ONE * 2n, 0n, 1000n), at(ONE * 2n, 0n, 1001n), at(ONE / 2n, 0n, 1000n), at(ONE, 400n, 1000n), at(ONE, -400n, 1000n), at(ONE, 0n, 0x1_0000_0002n)]).toEqual([1000, 500, 501, 2000, 600, 1400, 0x1_0000_0002]);
    expect([at(0n, 0n, 1000n), at(ONE, 0n, (1n << 53n) - 1n), at(ONE, 0n, 1n << 53n), at(1n, 0n, 1n << 40n)]).toEqual([Infinity, 2 ** 53 - 1, Infinity, Infinity]);
  });
});

describe('SDM 3A §6.8: what lets events in', () => {
  const IF = 0x202n;
  const pendings: readonly (readonly [string, (rig: Rig) => void])[] = [['a vector', (rig) => void rig.msi(0, 0, 0x50)], ['an NMI', (rig) => rig.nmi(0, 0)]];
  const cells: readonly (readonly [Partial<Record<RegisterName, bigint>>, readonly [boolean, boolean]])[] = [
    [{ rflags: IF }, [true, true]], [{ rflags: 2n }, [false, true]], [{ rflags: IF, interruptShadow: 2n }, [false, true]], [{ rflags: IF, interruptShadow: 1n }, [false, false]], [{ rflags: IF, 'interrupt.injected': 1n }, [false, true]],
    [{ rflags: IF, 'exception.state': 1n }, [false, false]], [{ rflags: IF, 'nmi.blocked': 1n }, [true, false]],
  ];
  it.each(cells)('%o', (given, expected) => {
    pendings.forEach(([what, send], i) => {
      const rig = one();
      for (const [name, value] of Object.entries(given)) rig.set(0, 0, name as RegisterName, value);
      const { events } = rig.vps[0]!.plane(0);
      expect([events.wakes(), events.deliverable()], what).toEqual([false, false]);
      send(rig);
      expect([events.wakes(), events.deliverable(), events.requested()], what).toEqual([expected[i]!, i === 0 || given['nmi.blocked'] === undefined, i === 0]);
      expect(events.enter()).toBe(false);
      if (!expected[i]) return;
      const taken = i === 0 ? ['interrupt.injected', 'interrupt.vector', 'interrupt.soft'] : ['nmi.injected', 'nmi.blocked', 'exception.state'];
      expect(taken.map((n) => rig.get(0, 0, n as RegisterName)), what).toEqual(i === 0 ? [1n, 0x50n, 0n] : [1n, 1n, 0n]);
      expect(events.deliverable()).toBe(false);
    });
  });
  it('an NMI goes before a vector, a vector before an external interrupt', () => {
    const rig = one();
    const c = rig.vps[0]!.plane(0);
    rig.set(0, 0, 'rflags', IF);
    rig.arch.fabric.external.acknowledge = () => 0x77;
    const taken: number[] = [];
    rig.arch.fabric.onTaken = (_apic, vector) => void taken.push(vector);
    rig.msi(0, 0, 0x50);
    rig.nmi(0, 0);
    rig.arch.apicOf(c).latches.raise(ApicEvent.extInt);
    c.events.enter();
    expect([rig.get(0, 0, 'nmi.injected'), rig.get(0, 0, 'interrupt.injected'), taken]).toEqual([1n, 0n, []]);
    c.events.enter();
    expect([rig.get(0, 0, 'interrupt.vector'), taken]).toEqual([0x50n, [0x50]]);
    rig.set(0, 0, 'interrupt.injected', 0n);
    rig.set(0, 0, 'interrupt.soft', 1n);
    c.events.enter();
    expect([rig.get(0, 0, 'interrupt.vector'), rig.get(0, 0, 'interrupt.soft'), taken, c.events.deliverable()]).toEqual([0x77n, 0n, [0x50], false]);
  });
  it('an external interrupt waits for somebody who knows its vector, an SMI for a system management mode', () => {
    const rig = one();
    const c = rig.vps[0]!.plane(0);
    rig.set(0, 0, 'rflags', IF);
    rig.arch.apicOf(c).latches.raise(ApicEvent.extInt);
    rig.arch.apicOf(c).latches.raise(ApicEvent.smi);
    expect([c.events.deliverable(), c.events.wakes()]).toEqual([false, false]);
    rig.arch.fabric.external.acknowledge = () => 0x77;
    expect([c.events.deliverable(), c.events.wakes()]).toEqual([true, true]);
  });
  it('SDM 3A §8.4.2: INIT, then a start-up message at its vector', () => {
    const rig = one();
    const c = rig.vps[1]!.plane(0);
    const send = (mode: DeliveryMode, vector: number): number => rig.machine.send(1, 0, encodeMessage(mode, vector, true, false), 0);
    rig.set(1, 0, 'rbx', 5n);
    rig.set(1, 0, 'exception.state', 1n);
    send(DeliveryMode.init, 0);
    expect([c.events.resets!(), c.events.wakes(), c.events.enter(), c.activity, rig.get(1, 0, 'rbx'), c.events.resets!()]).toEqual([true, true, false, Activity.WaitForSipi, 0n, false]);
    rig.nmi(1, 0);
    expect(c.events.wakes()).toBe(false);
    for (const name of ['cs.base', 'rip'] as const) rig.set(1, 0, name, all);
    send(DeliveryMode.startUp, 0x9a);
    expect([c.events.wakes(), c.events.enter(), c.activity, rig.get(1, 0, 'cs.selector'), rig.get(1, 0, 'cs.base'), rig.get(1, 0, 'rip')]).toEqual([true, false, Activity.Running, 0x9a00n, 0x9_a000n, 0n]);
    // The boot processor goes on by itself.
    rig.machine.send(0, 0, encodeMessage(DeliveryMode.init, 0, true, false), 0);
    expect([rig.vps[0]!.plane(0).events.enter(), rig.vps[0]!.plane(0).activity]).toEqual([false, Activity.Running]);
  });
});

it('a refused walk is described with the right that it lacked', () => {
  const rig = one();
  const c = rig.vps[0]!.plane(0);
  const { memory } = rig.machine;
  memory.addSlot({ id: 0, gpa: 0, size: 0x4000 });
  const info = new MemoryFaultInfo();
  // Without paging the leaf is the address itself.
  for (const [access, rights, missing] of [[0, Right.Write, Right.Read], [1, Right.Read, Right.Write], [2, Right.Read, Right.ExecUser], [4, Right.Read, Right.Write]] as const) {
    memory.permissions[0]!.set(1, 1, rights);
    const out = rig.arch.walk(c, 0x1234, 0, access, 1);
    expect([out.kind, out.gpa]).toEqual([3, 0x1234]);
    rig.arch.describeWalkRefusal(c, info);
    expect([info.gpa, info.access & missing, info.missing & missing, info.plane, info.isWalk], String(access)).toEqual([0x1234, missing, missing, 0, false]);
    memory.permissions[0]!.set(1, 1, 31);
  }
  // No memory is for the bus to answer.
  expect(rig.arch.walk(c, 0x9000, 0, 0, 1).kind).toBe(0);
});
