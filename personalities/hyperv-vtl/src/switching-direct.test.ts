import type { Answer, PlaneContext } from '@vmplanes/engine';
import { readRegister, type RegisterName } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import type { HvOptions } from './options.ts';
import { SwitchReason } from './ports.ts';
import { assistOf, DirectCalls } from './vsm-fixture.ts';

const CALL = 0x11, RETURN = 0x12;
const VP_ASSIST_PAGE = 0x4000_0073;
/** Offsets in the assist page. @spec TLFS HV_VP_ASSIST_PAGE */
const ENTRY_REASON = 8, VINA = 12, RETURN_RAX = 16, RETURN_RCX = 24, ACTIONS = 368;
const RAX = 0xa1a2_a3a4_b1b2_b3b4n, RCX = 0xc1c2_c3c4_d1d2_d3d4n, RDX = 0xe1e2_e3e4_f1f2_f3f4n;

class Scene extends DirectCalls {
  constructor(options: Partial<HvOptions> = {}, vtls: readonly number[] = [1]) {
    super(2, options);
    for (const vtl of vtls) this.enable(vtl, [0, 1]);
  }
  /** 32-bit code in a VTL. */
  narrow(vtl: number): this {
    for (const [name, value] of [['efer', 0n], ['cr0', 0x11n], ['cs.attributes', 0xc9bn]] as const) this.put(this.context(0, vtl), name, value);
    return this;
  }
  set(vtl: number, cells: Partial<Record<RegisterName, bigint>>): this {
    for (const [name, value] of Object.entries(cells)) this.put(this.context(0, vtl), name as RegisterName, value!);
    return this;
  }
  cells(vtl: number, ...names: RegisterName[]): readonly bigint[] {
    return names.map((name) => readRegister(this.machine.arena, this.context(0, vtl).base, name));
  }
  assist(vtl: number, vp = 0): this {
    expect(this.hv.chapters.msrs.write(this.context(vp, vtl), VP_ASSIST_PAGE, BigInt(assistOf(vtl) + 1))).toBe(true);
    return this;
  }
  word(vtl: number, offset: number): bigint {
    return new DataView(this.bytes(vtl, assistOf(vtl) + offset, 8).buffer).getBigUint64(0, true);
  }
  fill(vtl: number, offset: number, value: bigint): this {
    const { memory } = this.machine;
    memory.access.writeU64(memory.subjects[vtl]!.host, assistOf(vtl) + offset, Number(value & 0xffff_ffffn), Number(value >> 32n));
    return this;
  }
  /** What VTL call or return answers: where to, why and how; or the vector of a fault. */
  said(answer: Answer): unknown {
    return answer.kind === 'fault' ? answer.fault.code : { ...answer };
  }
  call(vtl = 0): unknown {
    return this.said(this.hv.chapters.switching.vtlCall(this.context(0, vtl)));
  }
  back(vtl = 1): unknown {
    return this.said(this.hv.chapters.switching.vtlReturn(this.context(0, vtl)));
  }
  switched(from: number, to: number, reason: string): void {
    this.hv.chapters.switching.switched(this.context(0, from), this.context(0, to), reason);
  }
}
const called = (plane: number) => ({ kind: 'switch', plane, reason: SwitchReason.VtlCall, leave: 'runnable', rip: 'advanced' });
const returned = (plane: number) => ({ kind: 'switch', plane, reason: SwitchReason.VtlReturn, leave: 'stopped', rip: 'advanced' });

describe('VTL call', () => {
  it.each([
    ['64-bit: RAX 0', false, { rax: 0n, rcx: BigInt(CALL) }, called(1)],
    ['64-bit: bit 0', false, { rax: 1n }, 6], ['64-bit: bit 31', false, { rax: 1n << 31n }, 6], ['64-bit: bit 32', false, { rax: 1n << 32n }, 6], ['64-bit: bit 63', false, { rax: 1n << 63n }, 6],
    ['32-bit: ECX 0', true, { rax: BigInt(CALL), rcx: 0n }, called(1)], ['32-bit: the upper halves', true, { rax: (5n << 32n) | BigInt(CALL), rcx: 5n << 32n }, called(1)], ['32-bit: bit 0', true, { rcx: 1n, rax: 0n }, 6], ['32-bit: bit 31', true, { rcx: 1n << 31n, rax: 0n }, 6],
  ] as const)('%s', (_what, isNarrow, cells, expected) => {
    const s = new Scene();
    if (isNarrow) s.narrow(0);
    expect(s.set(0, cells).call()).toEqual(expected);
  });
  it('goes to the next VTL that there is', () => {
    expect(new Scene({}, []).set(0, { rax: 0n }).call()).toBe(6);
    const s = new Scene({ maximumVtl: 2 }, [2]).set(0, { rax: 0n });
    expect([s.call(0), s.set(2, { rax: 0n }).call(2)]).toEqual([called(2), 6]);
    const t = new Scene({ maximumVtl: 2 }, [1, 2]).set(0, { rax: 0n }).set(1, { rax: 0n });
    expect([t.call(0), t.call(1)]).toEqual([called(1), called(2)]);
  });
});

describe('VTL return', () => {
  it.each([
    ['64-bit: fast', false, { rax: 1n }, returned(0)], ['64-bit: not fast', false, { rax: 0n }, returned(0)], ['64-bit: bit 1', false, { rax: 2n }, 6], ['64-bit: bit 31', false, { rax: 1n << 31n }, 6], ['64-bit: bit 32', false, { rax: 1n << 32n }, 6],
    ['32-bit: fast', true, { rcx: 1n, rax: BigInt(RETURN) }, returned(0)], ['32-bit: bit 1', true, { rcx: 2n, rax: 0n }, 6], ['32-bit: the upper halves', true, { rcx: (9n << 32n) | 1n, rax: 9n << 32n }, returned(0)],
  ] as const)('%s', (_what, isNarrow, cells, expected) => {
    const s = new Scene();
    if (isNarrow) s.narrow(1);
    expect(s.set(1, cells).back()).toEqual(expected);
  });
  it('goes to the next VTL below that there is', () => {
    const s = new Scene({ maximumVtl: 2 }, [2]).set(2, { rax: 1n }).set(0, { rax: 1n });
    expect([s.back(2), s.back(0)]).toEqual([returned(0), 6]);
    expect(new Scene({ maximumVtl: 2 }, [1, 2]).set(2, { rax: 1n }).back(2)).toEqual(returned(1));
  });
  it('gives up the locks of that VTL of that VP, unless it is refused', () => {
    const s = new Scene();
    const { locks } = s.hv.chapters.vsm;
    locks.lock(1, 0, 0, 1);
    locks.lock(0, 0, 1, 1);
    s.set(1, { rax: 2n }).back();
    expect(locks.isLocked(1, 0)).toBe(true);
    s.set(1, { rax: 1n }).back();
    expect([locks.isLocked(1, 0), locks.isLocked(0, 0)]).toEqual([false, true]);
  });
  it('restores registers from the assist page: RAX and RCX', () => {
    const s = new Scene().assist(1).fill(1, RETURN_RAX, RAX).fill(1, RETURN_RCX, RCX).set(1, { rax: 0n, rcx: BigInt(RETURN), rdx: RDX });
    s.back();
    expect(s.cells(1, 'rax', 'rcx', 'rdx')).toEqual([RAX, RCX, RDX]);
  });
  it('restores registers of 32-bit code: EAX, ECX and EDX, upper halves clear', () => {
    const s = new Scene().narrow(1).assist(1).fill(1, RETURN_RAX, RAX).fill(1, RETURN_RCX, RCX).set(1, { rax: (7n << 32n) | BigInt(RETURN), rcx: 7n << 32n, rdx: RDX, rbx: RDX });
    s.back();
    expect(s.cells(1, 'rax', 'rcx', 'rdx', 'rbx')).toEqual([RAX & 0xffff_ffffn, RAX >> 32n, RCX & 0xffff_ffffn, RDX]);
  });
  it('restores nothing when it is fast, or without an assist page', () => {
    const fast = new Scene().assist(1).fill(1, RETURN_RAX, RAX).fill(1, RETURN_RCX, RCX).set(1, { rax: 1n, rcx: 5n });
    fast.back();
    const none = new Scene().set(1, { rax: 0n, rcx: 5n });
    none.back();
    expect([fast.cells(1, 'rax', 'rcx'), none.cells(1, 'rax', 'rcx')]).toEqual([[1n, 5n], [0n, 5n]]);
  });
});

describe('VTL entry', () => {
  it.each([
    ['a call', SwitchReason.VtlCall, 1], ['an intercept', SwitchReason.Intercept, 3], ['a start', SwitchReason.Start, 0], ['an interrupt', SwitchReason.Interrupt, 2], ['anything else', 'policy', 2],
  ])('tells of %s', (_what, reason, code) => {
    const s = new Scene().assist(1).fill(1, ENTRY_REASON, 0xffff_ffff_ffff_ffffn);
    s.switched(0, 1, reason);
    expect(s.word(1, ENTRY_REASON)).toBe(0xffff_ffff_0000_0000n | BigInt(code));
  });
  it('leaves the registers where a return finds them', () => {
    const s = new Scene().assist(1).set(1, { rax: RAX, rcx: RCX, rdx: RDX });
    s.switched(0, 1, SwitchReason.VtlCall);
    expect([s.word(1, RETURN_RAX), s.word(1, RETURN_RCX)]).toEqual([RAX, RCX]);
    const narrow = new Scene().narrow(1).assist(1).set(1, { rax: RAX, rcx: RCX, rdx: RDX });
    narrow.switched(0, 1, SwitchReason.VtlCall);
    expect([narrow.word(1, RETURN_RAX), narrow.word(1, RETURN_RCX)]).toEqual([(RAX & 0xffff_ffffn) | ((RCX & 0xffff_ffffn) << 32n), RDX & 0xffff_ffffn]);
    const off = new Scene({ prefillReturn: false }).assist(1).set(1, { rax: RAX });
    off.switched(0, 1, SwitchReason.VtlCall);
    expect([off.word(1, RETURN_RAX), off.word(1, ENTRY_REASON)]).toEqual([0n, 1n]);
  });
  it('is silent without an assist page, and on the way down', () => {
    const s = new Scene().assist(1).assist(0);
    s.switched(1, 0, SwitchReason.VtlReturn);
    expect([s.word(0, ENTRY_REASON), s.word(1, ENTRY_REASON)]).toEqual([0n, 0n]);
    const t = new Scene();
    t.switched(0, 1, SwitchReason.VtlCall);
    expect(t.hv.chapters.assist.readU32(t.context(0, 1), ENTRY_REASON)).toBe(0);
  });
  it.each([['entry', true], ['return', false]] as const)('resets VINA at %s', (vinaAutoReset, atEntry) => {
    const s = new Scene({ vinaAutoReset }).assist(1);
    const { vina } = s.hv.chapters;
    const asserted = (): bigint => s.word(1, VINA) & 0xffn;
    for (const [register, resets] of [[0x130n, false], [0x330n, true], [0x230n, false]] as const) {
      vina.write(s.machine.vp(0), 1, register);
      s.fill(1, VINA, 3n);
      s.switched(0, 1, SwitchReason.VtlCall);
      expect(asserted()).toBe(atEntry && resets ? 2n : 3n);
      s.switched(1, 0, SwitchReason.VtlReturn);
      expect(asserted()).toBe(resets ? 2n : 3n);
    }
  });
  it('going down gives locks up, going up does not', () => {
    const s = new Scene();
    const { locks } = s.hv.chapters.vsm;
    locks.lock(0, 0, 0, 1);
    s.switched(0, 1, SwitchReason.VtlCall);
    expect(locks.isLocked(0, 0)).toBe(true);
    s.switched(1, 0, 'policy');
    expect(locks.isLocked(0, 0)).toBe(false);
  });
});

describe('return actions', () => {
  /** Signal an event: type 1, target VP, VTL in 7:0, SINT in 15:8, flag in 31:16. */
  const action = (s: Scene, entry: number, { type = 1n, vp = 0, vtl = 0, sint = 3, flag = 5 } = {}): void => void s.fill(1, ACTIONS + 16 * entry, type).fill(1, ACTIONS + 16 * entry + 8, BigInt(vp) | (BigInt(vtl | (sint << 8) | (flag << 16)) << 32n));
  const scene = (): { readonly s: Scene; readonly signals: unknown[] } => {
    const s = new Scene().assist(1).set(1, { rax: 1n });
    const signals: unknown[] = [];
    Object.assign(s.hv.chapters.synic, { signal: (c: PlaneContext, sint: number, flag: number) => signals.push([c.vp.index, c.plane, sint, flag]) });
    return { s, signals };
  };
  it('are done in order up to the first of no action, and cleared', () => {
    const { s, signals } = scene();
    action(s, 0, { vp: 1, sint: 0xf, flag: 2047 });
    action(s, 1, { vtl: 1, sint: 0, flag: 0x1234 });
    action(s, 3);
    s.back();
    expect(signals).toEqual([[1, 0, 15, 2047], [0, 1, 0, 0x1234]]);
    expect([0, 1, 2, 3].map((entry) => [s.word(1, ACTIONS + 16 * entry), s.word(1, ACTIONS + 16 * entry + 8)].map((w) => w !== 0n))).toEqual([[false, false], [false, false], [false, false], [true, true]]);
  });
  it('all sixteen are done', () => {
    const { s, signals } = scene();
    for (let n = 0; n < 16; n++) action(s, n, { flag: n });
    s.back();
    expect(signals.map((signal) => (signal as readonly number[])[3])).toEqual(Array.from({ length: 16 }, (_, n) => n));
    expect(s.word(1, ACTIONS + 16 * 15)).toBe(0n);
  });
  it('that cannot be done are passed over', () => {
    const { s, signals } = scene();
    action(s, 0, { type: 2n });
    action(s, 1, { type: 1n << 32n });
    action(s, 2, { type: (1n << 32n) | 1n });
    action(s, 3, { vp: 2 });
    action(s, 4, { vtl: 2 });
    action(s, 5, { vp: 1, vtl: 1, flag: 9 });
    s.back();
    expect(signals).toEqual([[1, 1, 3, 9]]);
  });
  it('are not looked at without the page', () => {
    const { s, signals } = scene();
    action(s, 0);
    s.hv.chapters.msrs.write(s.context(0, 1), VP_ASSIST_PAGE, 0n);
    s.back();
    expect(signals).toEqual([]);
  });
});
