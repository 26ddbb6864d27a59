import { HostError } from '@vmplanes/engine';
import { CallKind } from '../exits.ts';
import { isRegisterName, X86, X86Size, x86ContextLayout } from '../state/layout.ts';
import type { RegisterValues, Step, Value } from './steps.ts';

/** Operations by number, for the dispatch of the scripted processor. */
export const Op = {
  Call: 0,
  Instruction: 1,
  Rdmsr: 2,
  Wrmsr: 3,
  Cpuid: 4,
  In: 5,
  Out: 6,
  Read: 7,
  Write: 8,
  Fill: 9,
  Execute: 10,
  Mov: 11,
  Ipi: 12,
  ApicRead: 13,
  ApicWrite: 14,
  Eoi: 15,
  Sti: 16,
  Cli: 17,
  Hlt: 18,
  Work: 19,
  BusLock: 20,
  Shutdown: 21,
  Get: 22,
  Jump: 23,
  JumpIf: 24,
  Loop: 25,
  Expect: 26,
} as const;
export type Op = (typeof Op)[keyof typeof Op];

/** A step with every operand resolved: numbers and 32-bit halves, ready to run without allocation. */
export interface CompiledStep {
  readonly op: Op;
  readonly source: Step;
  readonly cost: number;
  /** Triples (byte offset in the block, lo, hi) to store before the step. */
  readonly loads: Float64Array;
  /** MSR, leaf, port, call kind, register number, target pc: what the op's first operand is. */
  readonly key: number;
  readonly subleaf: number;
  readonly size: number;
  readonly lo: number;
  readonly hi: number;
  readonly addressLo: number;
  readonly addressHi: number;
  /** The address is linear and is walked. */
  readonly linear: boolean;
  readonly user: boolean;
  /** Byte offset of a cell that the op reads or writes; -1 without one. */
  readonly cell: number;
  /** The cell has 64 bits (or more, of which the lower 64 count). */
  readonly wide: boolean;
  /** Loads cells that decide on delivery of events. */
  readonly loadsEvents: boolean;
  readonly bytes: Uint8Array;
}

const bad = (what: string): never => {
  throw new HostError('BadScript', what);
};

const U64 = (1n << 64n) - 1n;

/** @throws {HostError} BadScript when `v` is no unsigned or two's complement 64-bit value. */
export const toU64 = (v: Value, where: string): bigint => {
  // Text without digits and truth values convert, too, but are no numbers here.
  if (!['bigint', 'number', 'string'].includes(typeof v) || (typeof v === 'string' && v.trim() === '')) bad(`${where}: '${String(v)}' is not a number`);
  let n: bigint;
  try {
    n = BigInt(v);
  } catch {
    return bad(`${where}: '${String(v)}' is not a number`);
  }
  if (n > U64 || n < -(1n << 63n)) return bad(`${where}: ${String(v)} does not fit 64 bits`);
  return n & U64;
};

const lowOf = (n: bigint): number => Number(n & 0xffff_ffffn);
const highOf = (n: bigint): number => Number(n >> 32n);

const cellOf = (name: string): number => (isRegisterName(name) ? X86[name] : bad(`no register '${name}'`));
const isWide = (name: string): boolean => isRegisterName(name) && X86Size[name] > 4;

/** @throws {HostError} BadScript when `n` is no whole number in the range. */
const whole = (n: number, from: number, to: number, what: string): number => (Number.isInteger(n) && n >= from && n <= to ? n : bad(`${what} ${String(n)} is not in ${from}..0x${to.toString(16)}`));
const U32 = 0xffff_ffff;
/** Most instructions that one step may count for: two days at one per nanosecond. Times stay exact far beyond any run. */
const MAX_COST = 2 ** 48;

/** A row of a table of names; inherited names are none. @throws {HostError} BadScript. */
const rowOf = <T>(table: Readonly<Record<string, T>>, name: unknown, what: string): T =>
  typeof name === 'string' && Object.hasOwn(table, name) ? table[name]! : bad(`${what} '${String(name)}'`);

const compileLoads = (regs: RegisterValues | undefined): Float64Array => {
  const out: number[] = [];
  if (regs !== undefined && (typeof regs !== 'object' || regs === null || Array.isArray(regs))) bad(`regs: '${String(regs)}' is no record of registers`);
  for (const [name, value] of Object.entries(regs ?? {})) {
    const n = toU64(value, name);
    const offset = cellOf(name);
    const size = isRegisterName(name) ? X86Size[name] : 8;
    if (size > 16) bad(`${name}: is no register`);
    if (size === 4) {
      if (n >> 32n) bad(`${name}: ${String(value)} does not fit 32 bits`);
      out.push(offset, lowOf(n), -1);
    } else out.push(offset, lowOf(n), highOf(n));
    // The value of a wider register is extended with zeros.
    if (size === 16) out.push(offset + 8, 0, 0);
  }
  return Float64Array.from(out);
};

const callKinds = { vmcall: CallKind.Vmcall, vmmcall: CallKind.Vmmcall, vmgexit: CallKind.Vmgexit } as const;

/** Keys of `mov` steps: number of the register in a register exit. */
export const movTargets = { cr0: 0, cr3: 3, cr4: 4, cr8: 8, dr7: 23, xcr0: 48 } as const;

const hexBytes = (text: string): Uint8Array => {
  if (typeof text !== 'string' || !/^([0-9a-fA-F]{2})+$/.test(text)) bad(`fill: '${String(text).slice(0, 20)}' is not a run of hexadecimal bytes`);
  return Uint8Array.from(text.match(/../g) ?? [], (b) => Number.parseInt(b, 16));
};

const NO_BYTES = new Uint8Array(0);

/** @throws {HostError} BadScript names the operand that is wrong. */
export const compileStep = (step: Step): CompiledStep => {
  if (typeof step !== 'object' || step === null) bad(`'${String(step)}' is no step`);
  const { cost = 1 } = step;
  if (!Number.isInteger(cost) || cost < 1 || cost > MAX_COST) bad(`${step.op}: cost ${cost} is not a whole number from 1 to 2^48`);
  const c = {
    op: Op.Work as Op,
    source: step,
    cost,
    loads: compileLoads(step.regs),
    key: 0,
    subleaf: 0,
    size: 0,
    lo: 0,
    hi: 0,
    addressLo: 0,
    addressHi: 0,
    linear: false,
    user: false,
    cell: -1,
    wide: false,
    loadsEvents: Object.keys(step.regs ?? {}).some((name) => x86ContextLayout.has(name) && (x86ContextLayout.register(name).groups ?? []).includes('events')),
    bytes: NO_BYTES as Uint8Array,
  };
  const value = (v: Value): void => {
    const n = toU64(v, step.op);
    c.lo = lowOf(n);
    c.hi = highOf(n);
  };
  const address = (s: { readonly gpa?: Value; readonly gva?: Value }): void => {
    const n = toU64(s.gva ?? s.gpa ?? bad(`${step.op}: an address is missing`), step.op);
    c.linear = s.gva !== undefined;
    if (!c.linear && n >> 52n) bad(`${step.op}: GPA 0x${n.toString(16)} is wider than 52 bits`);
    c.addressLo = lowOf(n);
    c.addressHi = highOf(n);
  };
  switch (step.op) {
    case 'call':
      c.op = Op.Call;
      c.key = rowOf(callKinds, step.via ?? 'vmcall', 'call: no call instruction');
      break;
    case 'instruction':
      c.op = Op.Instruction;
      break;
    case 'rdmsr':
      c.op = Op.Rdmsr;
      c.key = whole(step.index, 0, U32, 'rdmsr: index');
      break;
    case 'wrmsr':
      c.op = Op.Wrmsr;
      c.key = whole(step.index, 0, U32, 'wrmsr: index');
      value(step.value);
      break;
    case 'cpuid':
      c.op = Op.Cpuid;
      c.key = whole(step.leaf, 0, U32, 'cpuid: leaf');
      c.subleaf = whole(step.subleaf ?? 0, 0, U32, 'cpuid: subleaf');
      break;
    case 'in':
      c.op = Op.In;
      c.key = step.port;
      c.size = step.size ?? 1;
      break;
    case 'out':
      c.op = Op.Out;
      c.key = step.port;
      c.size = step.size ?? 1;
      c.lo = whole(step.value, 0, 2 ** (8 * c.size) - 1, 'out: value');
      break;
    case 'read':
      c.op = Op.Read;
      c.size = step.size ?? 8;
      address(step);
      break;
    case 'write':
      c.op = Op.Write;
      c.size = step.size ?? 8;
      address(step);
      value(step.value);
      break;
    case 'fill':
      c.op = Op.Fill;
      c.bytes = hexBytes(step.bytes);
      c.size = c.bytes.length;
      address(step);
      break;
    case 'execute':
      c.op = Op.Execute;
      c.size = 1;
      c.user = step.user ?? false;
      address(step);
      break;
    case 'mov':
      c.op = Op.Mov;
      c.key = rowOf(movTargets, step.to, 'mov: no register');
      value(step.value);
      break;
    case 'ipi':
      c.op = Op.Ipi;
      value(step.icr);
      break;
    case 'apicRead':
    case 'apicWrite':
      c.op = step.op === 'apicRead' ? Op.ApicRead : Op.ApicWrite;
      c.key = whole(step.register, 0, 0x3f, `${step.op}: register`);
      if (step.op === 'apicWrite') value(step.value);
      break;
    case 'eoi':
      c.op = Op.Eoi;
      break;
    case 'sti':
      c.op = Op.Sti;
      break;
    case 'cli':
      c.op = Op.Cli;
      break;
    case 'hlt':
      c.op = Op.Hlt;
      break;
    case 'work':
      c.op = Op.Work;
      break;
    case 'busLock':
      c.op = Op.BusLock;
      break;
    case 'shutdown':
      c.op = Op.Shutdown;
      break;
    case 'get':
      c.op = Op.Get;
      if (!Array.isArray(step.names)) bad('get: names is no list of registers');
      for (const name of step.names) cellOf(name);
      break;
    case 'jump':
      c.op = Op.Jump;
      c.key = step.to;
      break;
    case 'jumpIf':
    case 'expect':
      c.op = step.op === 'expect' ? Op.Expect : Op.JumpIf;
      c.cell = cellOf(step.register);
      c.wide = isWide(step.register);
      value(step.equals);
      if (!c.wide && c.hi !== 0) bad(`${step.op}: ${String(step.equals)} does not fit the 32 bits of ${step.register}`);
      if (step.op === 'jumpIf') c.key = step.to;
      break;
    case 'loop':
      c.op = Op.Loop;
      c.cell = cellOf(step.register);
      c.wide = isWide(step.register);
      c.key = step.to;
      break;
    default:
      bad(`unknown step '${String((step as { op?: unknown }).op)}'`);
  }
  if (c.op === Op.In || c.op === Op.Out) {
    if (![1, 2, 4].includes(c.size)) bad(`${step.op}: size ${c.size} is not 1, 2 or 4`);
    if (!Number.isInteger(c.key) || c.key < 0 || c.key > 0xffff) bad(`${step.op}: port ${c.key} is not in 0..0xffff`);
  }
  if ((c.op === Op.Read || c.op === Op.Write) && ![1, 2, 4, 8].includes(c.size)) bad(`${step.op}: size ${c.size} is not 1, 2, 4 or 8`);
  return c;
};

/** Compiles one step of a script. @throws {HostError} BadScript names the script, the step and the operand. */
export const compileAt = (id: string, index: number, step: Step): CompiledStep => {
  try {
    return compileStep(step);
  } catch (error) {
    if (error instanceof HostError) throw new HostError('BadScript', `${id}, step ${index}: ${error.message}`);
    throw error;
  }
};

/** Compiles a table and checks its jumps. @throws {HostError} BadScript names the table, the step and the operand. */
export const compileTable = (id: string, steps: readonly Step[]): readonly CompiledStep[] =>
  steps.map((step, i) => {
    const c = compileAt(id, i, step);
    const jumps = c.op === Op.Jump || c.op === Op.JumpIf || c.op === Op.Loop;
    if (jumps && (!Number.isInteger(c.key) || c.key < 0 || c.key > steps.length)) bad(`${id}, step ${i}: ${step.op} to ${String(c.key)}: the table has ${steps.length} steps`);
    return c;
  });
