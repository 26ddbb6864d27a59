import type { Answer, PlaneContext } from '@vmplanes/engine';
import { readRegister, type RegisterName, writeRegister } from '@vmplanes/x86';
import type { Binding } from './dispatcher/bind.ts';
import { CallFrame } from './dispatcher/call-frame.ts';
import { Dispatcher } from './dispatcher/dispatcher.ts';
import { RegisterIo } from './dispatcher/register-io.ts';
import { Rig } from './fixture.ts';
import type { HvOptions } from './options.ts';
import { holds } from './privileges.ts';

/** Guest pages that calls of the tests use. */
export const IN = 0x1_0000;
export const OUT = 0x1_1000;
const LONG_MODE = 0xd00n;

/** One call: the control word in parts, and its parameters. */
export interface Issue {
  readonly code: number;
  readonly fast?: boolean;
  readonly units?: number;
  readonly count?: number;
  readonly start?: number;
  /** More bits of the control word. */
  readonly bits?: bigint;
  /** Parameters as 64-bit words: in memory at `at`, or in registers. */
  readonly input?: readonly bigint[];
  readonly at?: bigint;
  readonly out?: bigint;
}

/** What a call did. */
export interface Issued {
  readonly answer: Answer;
  /** RAX, or EDX:EAX of a 32-bit caller. */
  readonly result: bigint;
  readonly status: number;
  readonly reps: number;
}

export const SELF = 0xffff_ffff_ffff_ffffn;
/** A partition that a guest cannot name. */
export const BAD = 42n;
/** Two 32-bit halves as one word. */
export const pair = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

/** One row of a call's table: what differs from a call that succeeds, and the status. */
export type Row = readonly [what: string, issue: Partial<Issue>, status: number, options?: Partial<HvOptions>, vtl?: number];
/** Rows with everything filled in. */
export const casesOf = (rows: readonly Row[]): readonly (readonly [what: string, issue: Partial<Issue>, status: number, options: Partial<HvOptions>, vtl: number])[] =>
  rows.map(([what, issue, status, options = {}, vtl = 0]) => [what, issue, status, options, vtl]);

/** Calls without a guest: registers are set, the call is served, and what changed is looked at. */
export class CallRig extends Rig {
  /** Locked translations, `vp:vtl`. */
  readonly locks = new Set<string>();
  readonly refused: number[] = [];
  /** Callers are 64-bit code. */
  wide = true;

  constructor(vps = 2, options: Partial<HvOptions> = {}, apicIds: readonly number[] = []) {
    super(vps, options, apicIds);
    const { locks } = this;
    Object.assign(this.chapters, { vsm: { isTlbLocked: (vp: { readonly index: number }, vtl: number) => locks.has(`${vp.index}:${vtl}`), mbecVtls: 0 } });
    for (const vp of this.machine.vps) for (const c of vp.planes) if (c) this.started(c);
    for (const vtl of [0, 1]) {
      this.chapters.hypercalls.setGuestOsId(vtl, 1n);
      this.chapters.hypercalls.setHypercallMsr(vtl, 0x3_0001n + BigInt(vtl) * 0x1000n);
    }
  }

  /** A VTL that runs code with an interface; processors other than the first were started. */
  started(c: PlaneContext): void {
    this.apic(c).latches.setWaitingForSipi(false);
    this.protectedMode(c);
  }

  protectedMode(c: PlaneContext): void {
    this.set(c, 'cr0', 0x8001_0001n);
    this.set(c, 'efer', LONG_MODE);
    this.set(c, 'cs.attributes', this.wide ? 0x29bn : 0xc9bn);
  }

  set(c: PlaneContext, name: RegisterName, value: bigint): void {
    writeRegister(this.machine.arena, c.base, name, value);
  }
  get(c: PlaneContext, name: RegisterName): bigint {
    return readRegister(this.machine.arena, c.base, name);
  }

  override memoryRefused(context: PlaneContext): Answer {
    this.refused.push(context.plane);
    return context.vp.replies.fault(13, 0);
  }

  /** Loads the registers of a call and, for a slow one, its page. */
  load(c: PlaneContext, { code, fast = false, units = 0, count = 0, start = 0, bits = 0n, input = [], at = BigInt(IN), out = BigInt(OUT) }: Issue): void {
    const control = BigInt(code) | (fast ? 1n << 16n : 0n) | (BigInt(units) << 17n) | (BigInt(count) << 32n) | (BigInt(start) << 48n) | bits;
    this.set(c, 'cs.attributes', this.wide ? 0x29bn : 0xc9bn);
    const low = (v: bigint): bigint => v & 0xffff_ffffn;
    if (this.wide) this.set(c, 'rcx', control);
    else {
      this.set(c, 'rdx', control >> 32n);
      this.set(c, 'rax', low(control));
    }
    const first = fast ? (input[0] ?? 0n) : at;
    const second = fast ? (input[1] ?? 0n) : out;
    if (this.wide) {
      this.set(c, 'rdx', first);
      this.set(c, 'r8', second);
    } else {
      this.set(c, 'rbx', first >> 32n);
      this.set(c, 'rcx', low(first));
      this.set(c, 'rdi', second >> 32n);
      this.set(c, 'rsi', low(second));
    }
    if (fast) input.slice(2).forEach((word, i) => this.setXmmWord(c, i, word));
    else input.forEach((word, i) => this.poke(Number(at) + 8 * i, word));
  }

  setXmmWord(c: PlaneContext, index: number, word: bigint): void {
    const name = `xmm${index >> 1}` as RegisterName;
    const old = this.get(c, name);
    const mask = SELF << (index & 1 ? 64n : 0n);
    this.set(c, name, (old & ~mask & ((1n << 128n) - 1n)) | (word << (index & 1 ? 64n : 0n)));
  }
  xmmWord(c: PlaneContext, index: number): bigint {
    return (this.get(c, `xmm${index >> 1}` as RegisterName) >> (index & 1 ? 64n : 0n)) & SELF;
  }

  poke(gpa: number, word: bigint): void {
    const { memory } = this.machine;
    memory.access.writeU64(memory.subjects[0]!.host, gpa, Number(word & 0xffff_ffffn), Number((word >> 32n) & 0xffff_ffffn));
  }
  peek(gpa: number): bigint {
    const { memory } = this.machine;
    memory.access.readU64(memory.subjects[0]!.host, gpa);
    return (BigInt(memory.access.hi) << 32n) | BigInt(memory.access.lo);
  }

  result(c: PlaneContext): bigint {
    return this.wide ? this.get(c, 'rax') : (this.get(c, 'rdx') << 32n) | this.get(c, 'rax');
  }

  /** Issues a call of the personality. */
  issue(c: PlaneContext, issue: Issue): Issued {
    this.load(c, issue);
    return this.again(c);
  }
  /** The instruction once more, registers as they are. */
  again(c: PlaneContext): Issued {
    return this.issued(c, this.chapters.hypercalls.call(c));
  }
  issued(c: PlaneContext, answer: Answer): Issued {
    const result = this.result(c);
    return { answer, result, status: Number(result & 0xffffn), reps: Number((result >> 32n) & 0xfffn) };
  }
}

/** A dispatcher over a table of its own. */
export class Bench {
  readonly frame: CallFrame;
  readonly dispatcher: Dispatcher;
  readonly io: RegisterIo;

  constructor(
    readonly rig: CallRig,
    bindings: readonly Binding[],
  ) {
    this.dispatcher = new Dispatcher(rig, bindings);
    this.io = new RegisterIo(rig, rig.options.xmmHypercalls, holds(rig.options, 'fastHypercallOutput'));
    this.frame = new CallFrame(rig, rig.machine.vp(0));
  }
  issue(c: PlaneContext, issue: Issue): Issued {
    this.rig.load(c, issue);
    return this.again(c);
  }
  again(c: PlaneContext): Issued {
    this.frame.context = c;
    this.frame.vtl = c.plane;
    this.frame.wide = this.rig.wide;
    return this.rig.issued(c, this.dispatcher.serve(this.frame, this.io));
  }
}

/** Vector that a VTL would take, or -1. */
export const requested = (rig: CallRig, vp: number, vtl: number): number => {
  rig.machine.flushOutbox();
  return rig.take(rig.context(vp, vtl));
};
