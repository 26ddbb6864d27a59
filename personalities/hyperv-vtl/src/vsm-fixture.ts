import { HvInitialVpContext, HvMsr, HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF } from '@vmplanes/abi-hyperv';
import type { InferInput } from '@vmplanes/binary';
import { createScope } from '@vmplanes/di';
import { Activity, type Answer, installEngine, InvariantChecks, type Machine, type PlaneContext, PlaneId, type SchedulerPolicyName } from '@vmplanes/engine';
import { type GeneratorScript, readRegister, type RegisterName, ScriptCpu, type Step, type StepResult, writeRegister, X86Arch } from '@vmplanes/x86';
import type { HypervVtl } from './hyperv-vtl.ts';
import type { HvOptions } from './options.ts';
import { personality } from './plugin.ts';

/** Where a guest of the tests keeps things; every VTL has pages of its own. */
export const Page = { Input: 0x10_000, Output: 0x11_000, Hypercall: 0x12_000, Assist: 0x14_000, Simp: 0x18_000, Data: 0x30_000 } as const;
const VTL_STRIDE = 0x1000;
const SEGMENT = { base: 0n, limit: 0xffff_ffff, selector: 0x10, attributes: 0xc093 } as const;

/** A state that any VTL may begin with: 64-bit code at the top level. */
export const initialContext = (change: Partial<InferInput<typeof HvInitialVpContext>> = {}): InferInput<typeof HvInitialVpContext> => ({
  rip: 0x1_0000n, rsp: 0x2_0000n, rflags: 2n,
  cs: { base: 0n, limit: 0xffff_ffff, selector: 8, attributes: 0xa09b }, ds: SEGMENT, es: SEGMENT, fs: SEGMENT, gs: SEGMENT, ss: SEGMENT,
  tr: { base: 0n, limit: 0x67, selector: 0x18, attributes: 0x8b }, ldtr: { base: 0n, limit: 0, selector: 0, attributes: 0x82 },
  idtr: { limit: 0xfff, base: 0x3000n }, gdtr: { limit: 0x7f, base: 0x4000n },
  efer: 0x500n, cr0: 0x8000_0011n, cr3: 0x5000n, cr4: 0x20n, msrCrPat: 0x0007_0406_0007_0406n,
  ...change,
});

/** A program of one VTL: yields steps, gets results. */
export type Program = () => Generator<Step, void, StepResult>;

const hex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
const pad = (bytes: Uint8Array): Uint8Array => {
  const padded = new Uint8Array(Math.ceil(bytes.length / 8) * 8);
  padded.set(bytes);
  return padded;
};

/** What a call gave: its status and the elements done. */
export interface CallResult {
  readonly status: number;
  readonly done: number;
  readonly fault: number | null;
  readonly result: StepResult;
}

/** A guest with VTLs: programs by VP and VTL, and the pieces of code that every guest has. */
export class Vtls {
  readonly machine: Machine;
  readonly arch = new X86Arch();
  readonly hv: HypervVtl;
  readonly switches: string[] = [];

  constructor(vps: number, options: Partial<HvOptions> = {}, policy: SchedulerPolicyName = 'highest-runnable') {
    const scope = createScope();
    const maxPlanes = 1 + (options.maximumVtl ?? 1);
    this.machine = installEngine(scope, { arch: this.arch, policy, rule: 'deliverable', options: { maxVps: 4, maxPlanes, memoryBytes: 0x20_0000, quantum: 1000 } });
    this.machine.setMeaning(personality.meaning!(options as never));
    this.hv = personality.install(scope, options as never) as HypervVtl;
    this.machine.addPersonality(this.hv);
    this.machine.memory.addSlot({ id: 0, gpa: 0, size: 0x8_0000 });
    for (let v = 0; v < vps; v++) {
      const vp = this.machine.createVp();
      this.enterLongMode(vp.plane(0));
      if (v === 0) vp.plane(0).activity = Activity.Running;
    }
    this.machine.on('plane-switch', (e) => this.switches.push(`${e.vp}: ${e.from}>${e.to} ${e.reason}`));
    this.machine.checks = new InvariantChecks(this.machine);
  }

  /** Puts a VTL into 64-bit mode, as a boot loader would. */
  enterLongMode(context: PlaneContext): void {
    const { arena } = this.machine;
    for (const [name, value] of [['cr0', 0x8000_0011n], ['cr4', 0x20n], ['efer', 0x500n], ['cs.attributes', 0xa9bn], ['cr3', 0x5000n]] as const) writeRegister(arena, context.base, name, value);
    this.arch.apicOf(context).writeSvr(0x1ff);
  }
  /** Starts a VP without a word to anybody. */
  start(vp: number): void {
    const first = this.context(vp, 0);
    this.arch.apicOf(first).latches.setWaitingForSipi(false);
    first.activity = Activity.Running;
  }

  context(vp: number, vtl: number): PlaneContext {
    return this.machine.vp(vp).plane(vtl);
  }
  get(vp: number, vtl: number, name: RegisterName): bigint {
    return readRegister(this.machine.arena, this.machine.blockOf(this.context(vp, vtl), name), name);
  }

  /** Runs programs, `[vp][vtl]`, until nothing moves or somebody leaves to the VMM. @param handler - runs for every interrupt and fault of every VTL. */
  run(programs: readonly (readonly (Program | undefined)[])[], handler?: (vp: number, vtl: number, vector: number) => Generator<Step, void, StepResult>): string {
    this.load(programs, handler);
    return this.go(2000);
  }

  /** Gives every VP its programs. */
  load(programs: readonly (readonly (Program | undefined)[])[], handler?: (vp: number, vtl: number, vector: number) => Generator<Step, void, StepResult>): void {
    programs.forEach((byVtl, vp) => {
      const scripts = byVtl.map((program, vtl): GeneratorScript => ({
        id: `VP ${vp} VTL${vtl}`,
        main: program ?? function* (): Generator<Step, void, StepResult> {},
        ...(handler ? { handler: (vector: number) => handler(vp, vtl, vector) } : {}),
      }));
      this.machine.setCpu(this.machine.vp(vp), new ScriptCpu(this.machine, this.arch, Object.fromEntries(scripts.map((script, vtl) => [vtl, { script }]))));
    });
    for (const vp of this.machine.vps.slice(programs.length)) this.machine.setCpu(vp, new ScriptCpu(this.machine, this.arch, {}));
  }

  /** Runs on. @param slices - at most so many. */
  go(slices: number): string {
    const stop = this.machine.run(slices);
    return stop.kind === 'exit' ? `exit ${stop.vp.exit?.kind}` : stop.kind;
  }

  /** Bytes that a VTL sees. */
  bytes(vtl: number, gpa: number, length: number): Uint8Array {
    const into = new Uint8Array(length);
    this.machine.memory.access.read(this.machine.memory.subjects[vtl]!.host, gpa, into, 0, length);
    return into;
  }
}

/** What a call issued without a guest did. */
export interface DirectResult {
  readonly status: number;
  readonly done: number;
  readonly answer: Answer;
}

/** The whole personality without programs: calls are made by loading registers and memory of a VTL. */
export class DirectCalls extends Vtls {
  constructor(vps = 1, options: Partial<HvOptions> = {}) {
    super(vps, options);
    for (let vtl = 0; vtl <= (options.maximumVtl ?? 1); vtl++) {
      this.hv.chapters.hypercalls.setGuestOsId(vtl, 1n);
      this.hv.chapters.hypercalls.setHypercallMsr(vtl, BigInt(Page.Hypercall + vtl * VTL_STRIDE + 1));
    }
    this.machine.checks = null;
  }

  /** Gives VPs a VTL, enabled for the partition. */
  enable(vtl: number, vps: readonly number[] = [0], mbec = false): void {
    this.hv.chapters.vsm.enable(vtl, mbec);
    for (const vp of vps) this.enterLongMode(this.machine.createPlane(this.machine.vp(vp), PlaneId(vtl)));
  }

  /** @param bytes - parameters in memory. @param high - count and start, as the high word of the control word. */
  issue(vp: number, vtl: number, code: number, bytes: Uint8Array, high = 0): DirectResult {
    const { memory } = this.machine;
    memory.access.write(memory.subjects[0]!.host, Page.Input, pad(bytes), 0, pad(bytes).length);
    return this.control(vp, vtl, BigInt(code) | (BigInt(high >>> 0) << 32n), BigInt(Page.Input), BigInt(Page.Output));
  }
  /** @param rdx - first operand. @param r8 - second operand. */
  control(vp: number, vtl: number, control: bigint, rdx: bigint, r8: bigint): DirectResult {
    const context = this.context(vp, vtl);
    for (const [name, value] of [['rcx', control], ['rdx', rdx], ['r8', r8]] as const) this.put(context, name, value);
    const answer = this.hv.chapters.hypercalls.call(context);
    const rax = readRegister(this.machine.arena, context.base, 'rax');
    return { status: Number(rax & 0xffffn), done: Number((rax >> 32n) & 0xfffn), answer };
  }
  put(context: PlaneContext, name: RegisterName, value: bigint): void {
    writeRegister(this.machine.arena, context.base, name, value);
  }
  /** Output of the last call. */
  output(size = 64): DataView {
    return new DataView(this.bytes(0, Page.Output, size).buffer);
  }
}

// -- code that guests share ----------------------------------------------------------------------------------------------

/** A piece of a program. */
export type Code<T> = Generator<Step, T, StepResult>;

/** Names the guest and enables its hypercall page. */
export function* hypercalls(vtl: number): Code<void> {
  yield { op: 'wrmsr', index: HvMsr.GuestOsId, value: 0x8100_0000_0000_0000n };
  yield { op: 'wrmsr', index: HvMsr.Hypercall, value: Page.Hypercall + vtl * VTL_STRIDE + 1 };
}
/** Enables the assist page of a VTL. */
export function* assistPage(vtl: number): Code<void> {
  yield { op: 'wrmsr', index: HvMsr.VpAssistPage, value: assistOf(vtl) + 1 };
}
export const assistOf = (vtl: number): number => Page.Assist + vtl * VTL_STRIDE;
export const simpOf = (vtl: number): number => Page.Simp + vtl * VTL_STRIDE;
/** Enables APIC and SynIC of a VTL with SINT0 at a vector. */
export function* synic(vtl: number, vector: number): Code<void> {
  yield { op: 'apicWrite', register: 0x0f, value: 0x1ff };
  yield { op: 'wrmsr', index: HvMsr.Simp, value: simpOf(vtl) + 1 };
  yield { op: 'wrmsr', index: HvMsr.Scontrol, value: 1 };
  yield { op: 'wrmsr', index: HvMsr.Sint0, value: vector };
}

/** A call with its parameters in memory. @param input - bytes of the input block. @param more - high word of the control word: count, start. */
export function* slow(vtl: number, code: number, input: Uint8Array, count = 0, start = 0): Code<CallResult> {
  const at = Page.Input + (vtl << 9);
  yield { op: 'fill', gpa: at, bytes: hex(pad(input)) };
  const control = BigInt(code) | (BigInt(count) << 32n) | (BigInt(start) << 48n);
  const result = yield { op: 'call', regs: { rcx: control, rdx: at, r8: Page.Output + (vtl << 9) } };
  return { status: Number(result.rax & 0xffffn), done: Number((result.rax >> 32n) & 0xfffn), fault: result.fault?.vector ?? null, result };
}
/** A call with its parameters in two registers. */
export function* fast(code: number, first: bigint, second: bigint): Code<CallResult> {
  const result = yield { op: 'call', regs: { rcx: BigInt(code) | 0x1_0000n, rdx: first, r8: second } };
  return { status: Number(result.rax & 0xffffn), done: 0, fault: result.fault?.vector ?? null, result };
}

export function* vtlCall(): Code<StepResult> {
  return yield { op: 'call', regs: { rcx: 0x11, rax: 0 } };
}
export function* vtlReturn(isFast = true): Code<StepResult> {
  return yield { op: 'call', regs: { rcx: 0x12, rax: isFast ? 1 : 0 } };
}

const block = (size: number, fill: (view: DataView) => void): Uint8Array => {
  const bytes = new Uint8Array(size);
  fill(new DataView(bytes.buffer));
  return bytes;
};

export interface Who {
  readonly partition?: bigint;
  readonly vp?: number;
}
/** Input of EnableVpVtl and StartVirtualProcessor. */
export const contextInput = (vtl: number, { partition = HV_PARTITION_ID_SELF, vp = HV_VP_INDEX_SELF }: Who = {}, context = initialContext()): Uint8Array =>
  block(240, (view) => {
    view.setBigUint64(0, partition, true);
    view.setUint32(8, vp, true);
    view.setUint8(12, vtl);
    HvInitialVpContext.write(view, 16, context);
  });
/** Input of Get/SetVpRegisters. @param inputVtl - HV_INPUT_VTL. */
export const registerInput = (inputVtl: number, names: readonly number[], values: readonly bigint[] | null, { partition = HV_PARTITION_ID_SELF, vp = HV_VP_INDEX_SELF }: Who = {}): Uint8Array =>
  block(16 + names.length * (values === null ? 4 : 32), (view) => {
    view.setBigUint64(0, partition, true);
    view.setUint32(8, vp, true);
    view.setUint8(12, inputVtl);
    names.forEach((name, i) => {
      if (values === null) {
        view.setUint32(16 + 4 * i, name, true);
        return;
      }
      view.setUint32(16 + 32 * i, name, true);
      view.setBigUint64(32 + 32 * i, BigInt.asUintN(64, values[i]!), true);
      view.setBigUint64(40 + 32 * i, values[i]! >> 64n, true);
    });
  });
/** Input of ModifyVtlProtectionMask. */
export const protectInput = (flags: number, inputVtl: number, pages: readonly number[], partition = HV_PARTITION_ID_SELF): Uint8Array =>
  block(16 + 8 * pages.length, (view) => {
    view.setBigUint64(0, partition, true);
    view.setUint32(8, flags, true);
    view.setUint8(12, inputVtl);
    pages.forEach((page, i) => view.setBigUint64(16 + 8 * i, BigInt(page), true));
  });

/** Reads one register. @returns its value, or a status with its sign reversed. */
export function* getRegister(vtl: number, name: number, inputVtl = 0, who: Who = {}): Code<bigint> {
  const { status } = yield* slow(vtl, 0x50, registerInput(inputVtl, [name], null, who), 1);
  if (status !== 0) return BigInt(-status);
  const low = yield { op: 'read', gpa: Page.Output + (vtl << 9), size: 8 };
  const high = yield { op: 'read', gpa: Page.Output + (vtl << 9) + 8, size: 8 };
  return low.rax | (high.rax << 64n);
}
/** Writes one register. @returns the status. */
export function* setRegister(vtl: number, name: number, value: bigint, inputVtl = 0, who: Who = {}): Code<number> {
  return (yield* slow(vtl, 0x51, registerInput(inputVtl, [name], [value], who), 1)).status;
}

/** VTL0 brings VTL1 up: partition, then this VP. @returns both statuses. */
export function* enableVtl(vtl: number, target: number, context = initialContext()): Code<readonly [number, number]> {
  const partition = yield* fast(0x0d, HV_PARTITION_ID_SELF, BigInt(target));
  const vp = yield* slow(vtl, 0x0f, contextInput(target, {}, context));
  return [partition.status, vp.status];
}
