import { CALLS, HvStatus } from '@vmplanes/abi-hyperv';
import type { PlaneContext } from '@vmplanes/engine';
import { readRegister } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { BAD, CallRig, casesOf, IN, OUT, pair, SELF, type Issue, type Row } from './call-fixture.ts';
import { bindings } from './calls.ts';
import { support } from './support.ts';

const { Success, InvalidParameter, AccessDenied } = HvStatus;

/** Issues each row of a call's table, by VTL0 unless it says otherwise. */
const statuses = (code: number, usual: Partial<Issue>, rows: readonly Row[]): void => {
  it.each(casesOf(rows))('%s', (_what, issue, status, options, vtl) => {
    const rig = new CallRig(2, options);
    expect(rig.issue(rig.context(0, vtl), { code, ...usual, ...issue }).status).toBe(status);
  });
};

describe('the handler table', () => {
  it('has one row for every declared call', () => {
    expect(bindings.map((b) => b.call.code).sort((a, b) => a - b)).toEqual(CALLS.map((c) => c.code));
  });

  it('serves all but those without a public body, of ARM64 or of isolated machines', () => {
    const not = bindings.flatMap((b) => (b.kind === 'unsupported' ? [`${b.call.name}: ${b.reason}`] : [])).sort();
    expect(not).toEqual([
      'HvCallAcceptGpaPages: isolated virtual machines only',
      'HvCallDisablePartitionVtl: no public body: only the name and the number are published',
      'HvCallDisableVpVtl: no public body: only the name and the number are published',
      'HvCallInstallInterceptEx: ARM64 only',
      'HvCallModifySparseGpaPageHostVisibility: isolated virtual machines only',
      'HvCallQuerySparseGpaPageHostVisibility: isolated virtual machines only',
      'HvCallSetVirtualInterruptTarget: ARM64 only',
      'HvCallVbsVmCallReport: isolated virtual machines only',
      'HvExtCallEpfSetup: no public body: only the name and the number are published',
      'HvExtCallMemoryHeatHintAsync: no public body: only the name and the number are published',
      'HvExtCallSchedulerAssistSetup: no public body: only the name is published',
    ]);
  });

  it('prints the support matrix', () => {
    expect(support.filter((row) => row.kind === 'call')).toHaveLength(CALLS.length);
    expect(support.find((row) => row.name === 'HvCallDisableVpVtl')).toMatchObject({ support: 'no', code: '0x10' });
    expect(support.every((row) => row.support === 'yes' || (row.note ?? '') !== '')).toBe(true);
  });
});

describe('who may call', () => {
  const fault = { kind: 'fault', fault: { code: 6, errorCode: null } };
  const call: Issue = { code: 0x0008, fast: true, input: [0n] };
  it.each<readonly [string, (rig: CallRig, c: PlaneContext) => void]>([
    ['user mode', (rig, c) => rig.set(c, 'cpl', 3n)],
    ['real mode', (rig, c) => rig.set(c, 'cr0', 0n)],
    ['virtual-8086 mode', (rig, c) => rig.set(c, 'rflags', 1n << 17n)],
    ['a guest without identity', (rig) => rig.chapters.hypercalls.setGuestOsId(0, 0n)],
    ['a guest without hypercall page', (rig) => rig.chapters.hypercalls.setHypercallMsr(0, 0n)],
  ])('%s: #UD, no register changed', (_what, make) => {
    const rig = new CallRig();
    const c = rig.context();
    rig.load(c, call);
    make(rig, c);
    const before = rig.get(c, 'rax');
    expect(rig.again(c).answer).toMatchObject(fault);
    expect(rig.get(c, 'rax')).toBe(before);
  });
  it('protected mode at level 0', () => {
    const rig = new CallRig();
    expect(rig.issue(rig.context(), call)).toMatchObject({ status: 0, answer: { kind: 'resume' } });
  });

  it.each([
    ['fast', 1n << 16n],
    ['a rep count', 1n << 32n],
    ['a reserved bit', 1n << 63n],
    ['a variable header', 1n << 17n],
  ])('VTL call and return with %s: #UD', (_what, bits) => {
    const rig = new CallRig();
    for (const code of [0x11, 0x12]) expect(rig.issue(rig.context(), { code, bits }).answer).toMatchObject(fault);
  });
  it('VTL call without the privilege: #UD', () => {
    const rig = new CallRig(1, { withhold: ['accessVsm'] });
    expect(rig.issue(rig.context(), { code: 0x11 }).answer).toMatchObject(fault);
  });
});

describe('RestorePartitionTime', () => {
  const REFERENCE = 0x4000_0020;
  const TSC_PAGE = 0x4000_0021;
  const restore = (reference: bigint, tsc: bigint, sequence = 5): Issue => ({ code: 0x103, input: [SELF, BigInt(sequence), reference, tsc] });

  it('sets the counter and the time-stamp counters of all VPs and VTLs; page and counter agree', () => {
    const rig = new CallRig(2);
    const c = rig.context();
    rig.wrmsr(c, TSC_PAGE, 0x2_2001);
    rig.advance(1_000_000);
    expect(rig.issue(c, restore(123_456_789n, 0x7_0000_0000n)).status).toBe(0);
    expect(rig.rdmsr(c, REFERENCE)).toBe(123_456_789n);
    const page = rig.page(0, 0x22);
    const scale = page.getBigUint64(8, true);
    expect([page.getUint32(0, true), ((0x7_0000_0000n * scale) >> 64n) + page.getBigInt64(16, true)]).toEqual([6, 123_456_789n]);
    for (const [vp, vtl] of [[0, 1], [1, 0], [1, 1]] as const) expect(rig.get(rig.context(vp, vtl), 'tscOffset')).toBe(rig.get(c, 'tscOffset'));
    rig.advance(10);
    expect(rig.rdmsr(c, REFERENCE)).toBe(123_456_799n);
    const { clocks } = rig.chapters;
    const due = clocks.ticksAt(123_456_900n);
    rig.machine.vp(0).timeBase += due - rig.machine.timeOf(rig.machine.vp(0));
    expect(clocks.now(rig.machine.vp(0))).toBe(123_456_900n);
  });
  it('does not give the page an invalid sequence number', () => {
    const rig = new CallRig(1);
    rig.wrmsr(rig.context(), TSC_PAGE, 0x2_2001);
    rig.issue(rig.context(), restore(0n, 0n, 0xffff_ffff));
    expect(rig.page(0, 0x22).getUint32(0, true)).toBe(1);
  });
  it('is part of the state', () => {
    const rig = new CallRig(1);
    rig.issue(rig.context(), restore(5_000_000n, 1n));
    const other = new CallRig(1);
    other.chapters.clocks.restore(structuredClone(rig.chapters.clocks.save()));
    expect(other.chapters.clocks.now(other.machine.vp(0))).toBe(rig.chapters.clocks.now(rig.machine.vp(0)));
  });
  statuses(0x103, restore(1n, 1n), [
    ['as asked', {}, Success],
    ['another partition', { input: [BAD, 0n, 0n, 0n] }, AccessDenied],
    ['reserved fields', { input: [SELF, pair(0, 1), 0n, 0n] }, InvalidParameter],
    ['without the privilege', {}, AccessDenied, { withhold: ['accessPartitionReferenceTsc'] }],
  ]);
});

describe('extended calls', () => {
  it('say which of them there are', () => {
    const rig = new CallRig(1);
    expect(rig.issue(rig.context(), { code: 0x8001 }).status).toBe(0);
    expect(rig.peek(OUT)).toBe(3n);
  });
  it('need their privilege', () => {
    const rig = new CallRig(1, { withhold: ['enableExtendedHypercalls'] });
    expect(rig.issue(rig.context(), { code: 0x8001 }).status).toBe(AccessDenied);
  });
  it('tell of memory that nobody has written', () => {
    const rig = new CallRig(1);
    rig.poke(IN, 1n);
    expect(rig.issue(rig.context(), { code: 0x8002 }).status).toBe(0);
    const count = Number(rig.peek(OUT));
    const ranges = Array.from({ length: count }, (_, i) => [rig.peek(OUT + 8 + 16 * i), rig.peek(OUT + 16 + 16 * i)]);
    expect(ranges.some(([first, pages]) => first! <= 0x10n && first! + pages! > 0x10n)).toBe(false);
    expect(ranges.reduce((sum, [, pages]) => sum + pages!, 0n)).toBeGreaterThan(40n);
  });
  it('take hints, but none to discard', () => {
    const rig = new CallRig(1);
    expect(rig.issue(rig.context(), { code: 0x8003, count: 2, input: [1n, 0n, 0n] })).toMatchObject({ status: 0, reps: 2 });
    expect(rig.issue(rig.context(), { code: 0x8003, count: 2, input: [2n, 0n, 0n] })).toMatchObject({ status: InvalidParameter, reps: 0 });
  });
});

describe('memory and time', () => {
  it('a long spin wait ends the slice', () => {
    const rig = new CallRig(1);
    const vp = rig.machine.vp(0);
    vp.sliceEnd = vp.retired + 500;
    expect(rig.issue(rig.context(), { code: 8, fast: true, input: [100n] }).status).toBe(0);
    expect(vp.sliceEnd).toBe(vp.retired);
  });
  it('pages are pinned already', () => {
    const rig = new CallRig(1);
    for (const code of [0x112, 0x113]) {
      expect(rig.issue(rig.context(), { code, count: 3, input: [0n, 0n, 0n, 0n] })).toMatchObject({ status: 0, reps: 3 });
      expect(rig.issue(rig.context(), { code, count: 1, input: [1n, 0n] })).toMatchObject({ status: InvalidParameter, reps: 0 });
    }
  });
  it('MMIO writes go to the device with the result written', () => {
    const rig = new CallRig(1);
    const { answer, result } = rig.issue(rig.context(), { code: 0x107, input: [0xfe00_0000n, 4n, 0x1_1234_5678n] });
    expect(answer).toMatchObject({ kind: 'exit', payload: { kind: 'mmio', write: true, gpa: 0xfe00_0000, size: 4, lo: 0x1234_5678, hi: 0 }, completion: null });
    expect(result).toBe(0n);
  });
  it('MMIO reads wait for the device', () => {
    const rig = new CallRig(1);
    const c = rig.context();
    c.instructionLength = 3;
    rig.set(c, 'rip', 0x100n);
    const { answer } = rig.issue(c, { code: 0x106, input: [0xfe00_0000n, 8n] });
    expect(answer).toMatchObject({ kind: 'exit', payload: { kind: 'mmio', write: false, gpa: 0xfe00_0000, size: 8 }, completion: { owner: 'hyperv-vtl', kind: 'mmioRead' } });
    if (answer.kind !== 'exit' || answer.completion === null) return;
    answer.completion.reply = { lo: 0xaabb_ccdd, hi: 0x11 };
    rig.chapters.hypercalls.complete(c, answer.completion);
    expect([rig.peek(OUT), rig.result(c), readRegister(rig.machine.arena, c.base, 'rip')]).toEqual([0x11_aabb_ccddn, 0n, 0x103n]);
  });
  it('MMIO calls reach memory with the rights of the caller', () => {
    const rig = new CallRig(1);
    rig.poke(0x8000, 0x99n);
    expect(rig.issue(rig.context(), { code: 0x106, input: [0x8000n, 1n] }).status).toBe(0);
    expect(rig.peek(OUT)).toBe(0x99n);
    expect(rig.issue(rig.context(), { code: 0x107, input: [0x8008n, 2n, 0x1_2345n] }).status).toBe(0);
    expect(rig.peek(0x8008)).toBe(0x2345n);
    rig.machine.memory.permissions[0]!.set(8, 1, 0);
    expect(rig.issue(rig.context(), { code: 0x106, input: [0x8000n, 1n] }).status).toBe(InvalidParameter);
  });
  it.each([
    ['3 bytes', [0xfe00_0000n, 3n]],
    ['an odd address', [0xfe00_0001n, 2n]],
    ['reserved fields', [0xfe00_0000n, pair(4, 1)]],
    ['an address beyond the space', [1n << 56n, 4n]],
  ])('MMIO calls refuse %s', (_what, input) => {
    const rig = new CallRig(1);
    for (const code of [0x106, 0x107]) expect(rig.issue(rig.context(), { code, input }).status).toBe(InvalidParameter);
  });
});
