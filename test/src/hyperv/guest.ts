import { HvCall, type HvRegisterName, HvRegister, type ParameterCall } from '@vmplanes/abi-hyperv';
import type { AnyLayout, Infer, InferInput } from '@vmplanes/binary';
import type { RegisterValues, StepFault } from '@vmplanes/x86';
import { Bench, type BenchConfig, type Issued } from './bench.ts';

/** The own partition as an operand. @spec TLFS HV_PARTITION_ID */
export const SELF = 0xffff_ffff_ffff_ffffn;
/** The calling VP as an operand. @spec TLFS HV_VP_INDEX */
export const VP_SELF = 0xffff_fffe;
/** HV_INPUT_VTL that names a VTL. @spec TLFS HV_INPUT_VTL */
export const target = (vtl: number): number => 0x10 | vtl;

/** Pages that the guest uses: everything below 0x12_0000 is taken, the rest is for tests. */
export const hypercallPage = (vtl: number): number => 0x1000 * (1 + vtl);
export const tscPage = (vtl: number): number => 0x8000 + 0x1000 * vtl;
/** First page for tests. */
export const DATA = 0x12_0000;
const pagesOf = (vp: number, vtl: number): number => 0xa_0000 + (vp * 3 + vtl) * 0x8000;
export const inputPage = (vp: number, vtl: number): number => pagesOf(vp, vtl);
export const outputPage = (vp: number, vtl: number): number => pagesOf(vp, vtl) + 0x1000;
export const assistPage = (vp: number, vtl: number): number => pagesOf(vp, vtl) + 0x2000;
export const simPage = (vp: number, vtl: number): number => pagesOf(vp, vtl) + 0x3000;
export const siefPage = (vp: number, vtl: number): number => pagesOf(vp, vtl) + 0x4000;

/** @spec TLFS Virtual Interrupts, feature discovery: synthetic MSRs that the helpers use. */
export const Msr = { osId: 0x4000_0000, hypercall: 0x4000_0001, tsc: 0x4000_0021, assist: 0x4000_0073, scontrol: 0x4000_0080, siefp: 0x4000_0082, simp: 0x4000_0083, eom: 0x4000_0084, sint0: 0x4000_0090, stimer0: 0x4000_00b0 } as const;
/** An open-source guest: Linux, of no particular version. */
export const OS_ID = 0x8100_0000_0000_0000n;

/** Operands of one call and how they go. */
export interface CallInput<C extends ParameterCall> {
  readonly header: InferInput<C['header']>;
  readonly variable?: readonly bigint[];
  readonly elements?: readonly InferInput<C['element']>[];
  /** In registers. Default: in the VTL's input page. */
  readonly fast?: boolean;
  readonly start?: number;
  /** Rep count, where it is not the number of elements. */
  readonly count?: number;
  /** Units of the variable header, where they are not those given. */
  readonly units?: number;
  /** Bits that are set in the control word besides. */
  readonly control?: bigint;
  readonly inputGpa?: bigint;
  readonly outputGpa?: bigint;
  readonly vp?: number;
}

/** A call that was made. */
export class Outcome {
  readonly #bench: Bench;
  constructor(
    bench: Bench,
    readonly issued: Issued,
    readonly wide: boolean,
    /** Where the output is: an address, or a byte of the register block. */
    readonly outputAt: number,
    readonly isFast: boolean,
  ) {
    this.#bench = bench;
  }

  get isDone(): boolean {
    return this.issued.result !== null;
  }
  get fault(): StepFault | null {
    return this.issued.result?.fault ?? null;
  }
  /** Vector of the fault that the call ended with, -1 without one. */
  get vector(): number {
    return this.fault?.vector ?? -1;
  }
  /** The result register; -1 while the call is not done or when it faulted. */
  get value(): bigint {
    const { result } = this.issued;
    return result === null || result.fault !== null ? -1n : this.wide ? result.rax : result.edxEax;
  }
  /** Status, -1 without one. */
  get status(): number {
    return this.value < 0n ? -1 : Number(this.value & 0xffffn);
  }
  get reps(): number {
    return this.value < 0n ? -1 : Number((this.value >> 32n) & 0xfffn);
  }
  finish(patience?: number): this {
    this.#bench.finish(this.issued, patience);
    return this;
  }

  /** Bytes of the output, as they are now. */
  output(size: number): DataView {
    const { vp, vtl } = this.issued;
    if (!this.isFast) return this.#bench.peek(vtl, this.outputAt, size);
    const all = registerBlock(this.#bench, vp);
    return new DataView(all.buffer, this.outputAt, size);
  }
  read<L extends AnyLayout>(layout: L): Infer<L> {
    return layout.read(this.output(layout.size), 0) as Infer<L>;
  }
}

const xmm = ['xmm0', 'xmm1', 'xmm2', 'xmm3', 'xmm4', 'xmm5'] as const;

/** The 112 bytes of parameter registers of a VP. @spec TLFS Hypercall Interface, XMM fast hypercall input */
const registerBlock = (bench: Bench, vp: number): Uint8Array => {
  const bytes = new Uint8Array(112);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, bench.get('rdx', vp), true);
  view.setBigUint64(8, bench.get('r8', vp), true);
  xmm.forEach((name, i) => {
    const value = bench.get(name, vp);
    view.setBigUint64(16 + 16 * i, value & 0xffff_ffff_ffff_ffffn, true);
    view.setBigUint64(24 + 16 * i, value >> 64n, true);
  });
  return bytes;
};

const roundUp = (n: number, to: number): number => Math.ceil(n / to) * to;

/** The guest of a bench: what a kernel in one of its VTLs does. */
export class Guest extends Bench {
  /** Whether the active VTL of a VP runs 64-bit code. */
  isWide(vp = 0): boolean {
    return (this.get('efer', vp) & 0x400n) !== 0n && (this.get('cs.attributes', vp) & 0x200n) !== 0n;
  }

  /** The bytes of a parameter block. */
  encode<C extends ParameterCall>(call: C, { header, variable = [], elements = [] }: CallInput<C>): Uint8Array {
    const list = call.header.size + 8 * variable.length;
    const bytes = new Uint8Array(roundUp(list + elements.length * call.element.size, 8));
    const view = new DataView(bytes.buffer);
    (call.header as { write(view: DataView, at: number, value: unknown): void }).write(view, 0, header);
    variable.forEach((unit, i) => view.setBigUint64(call.header.size + 8 * i, unit, true));
    elements.forEach((element, i) => (call.element as { write(view: DataView, at: number, value: unknown): void }).write(view, list + i * call.element.size, element));
    return bytes;
  }

  /** Makes a call from the active VTL of a VP. */
  call<C extends ParameterCall>(call: C, input: CallInput<C>): Outcome {
    return this.callRaw(call.code, this.encode(call, input), {
      ...input,
      count: input.count ?? (call.shape === 'rep' || call.shape === 'variableRep' ? (input.elements?.length ?? 0) : 0),
      units: input.units ?? input.variable?.length ?? 0,
    });
  }

  /** Makes a call by number with a block of bytes. */
  callRaw(code: number, block: Uint8Array, input: Omit<CallInput<never>, 'header' | 'elements' | 'variable'> = {}): Outcome {
    const { vp = 0, fast = false, start = 0, count = 0, units = 0, control = 0n } = input;
    const vtl = this.active(vp);
    const word = BigInt(code) | (fast ? 0x1_0000n : 0n) | (BigInt(units) << 17n) | (BigInt(count) << 32n) | (BigInt(start) << 48n) | control;
    if (!fast) {
      const inGpa = input.inputGpa ?? BigInt(inputPage(vp, vtl));
      const outGpa = input.outputGpa ?? BigInt(outputPage(vp, vtl));
      if (block.length > 0 && inGpa + BigInt(block.length) <= 0x20_0000n) this.poke(vtl, Number(inGpa), block);
      return this.control(word, inGpa, outGpa, vp, Number(outGpa), false);
    }
    const all = new Uint8Array(roundUp(Math.max(16, block.length), 16));
    all.set(block);
    const view = new DataView(all.buffer);
    const wideRegisters: RegisterValues = Object.fromEntries(xmm.slice(0, Math.min(6, all.length / 16 - 1)).map((name, i) => [name, view.getBigUint64(16 + 16 * i, true) | (view.getBigUint64(24 + 16 * i, true) << 64n)]));
    this.set(wideRegisters, vp);
    return this.control(word, view.getBigUint64(0, true), view.getBigUint64(8, true), vp, roundUp(block.length, 16), true);
  }

  /** Issues a control word with two operands, in the registers of the caller's mode. */
  control(word: bigint, first: bigint, second: bigint, vp = 0, outputAt = 0, isFast = false): Outcome {
    const wide = this.isWide(vp);
    const low = (n: bigint): bigint => n & 0xffff_ffffn;
    const regs: RegisterValues = wide
      ? { rcx: word, rdx: first, r8: second }
      : { rdx: word >> 32n, rax: low(word), rbx: first >> 32n, rcx: low(first), rdi: second >> 32n, rsi: low(second) };
    return new Outcome(this, this.callWith(regs, vp), wide, outputAt, isFast);
  }

  /** The call instruction with registers loaded once: an instruction that runs again finds what the first run left there. */
  callWith(regs: RegisterValues, vp = 0): Issued {
    this.set(regs, vp);
    return this.issue({ op: 'call' }, vp);
  }

  // -- virtual trust levels --------------------------------------------------------------------------------------------------

  /** Enters the next VTL. @spec TLFS Virtual Secure Mode, VTL call: RCX is the control word, RAX the control input */
  vtlCall(vp = 0, input = 0n): Issued {
    return this.callWith(this.isWide(vp) ? { rcx: 0x11, rax: input } : { rax: 0x11, rdx: 0, rcx: input }, vp);
  }
  /** Leaves for the next lower VTL. @param input - 1 is a fast return. */
  vtlReturn(vp = 0, input = 1n): Issued {
    return this.callWith(this.isWide(vp) ? { rcx: 0x12, rax: input } : { rax: 0x12, rdx: 0, rcx: input }, vp);
  }
  /** Enters a VTL that must be entered. */
  enter(vp = 0): void {
    const from = this.active(vp);
    this.vtlCall(vp);
    if (this.active(vp) <= from) throw new Error(`VP ${vp}: the call of VTL ${from} does not enter a higher one`);
  }
  /** Leaves a VTL that must be left. */
  leave(vp = 0, input = 1n): void {
    const from = this.active(vp);
    this.vtlReturn(vp, input);
    if (this.active(vp) >= from) throw new Error(`VP ${vp}: VTL ${from} does not return`);
  }

  // -- registers by hypercall ------------------------------------------------------------------------------------------------

  getReg(name: HvRegisterName | number, o: { readonly vp?: number; readonly of?: number; readonly vtl?: number; readonly fast?: boolean; readonly partitionId?: bigint } = {}): { readonly status: number; readonly value: bigint } {
    const { vp = 0, of = VP_SELF, vtl, fast = false, partitionId = SELF } = o;
    const number = typeof name === 'number' ? name : HvRegister[name];
    const outcome = this.call(HvCall.GetVpRegisters, { header: { partitionId, vpIndex: of, inputVtl: vtl ?? 0 }, elements: [number], fast, vp });
    if (outcome.status !== 0) return { status: outcome.status, value: 0n };
    const view = outcome.output(16);
    return { status: 0, value: view.getBigUint64(0, true) | (view.getBigUint64(8, true) << 64n) };
  }
  setReg(name: HvRegisterName | number, value: bigint, o: { readonly vp?: number; readonly of?: number; readonly vtl?: number; readonly fast?: boolean; readonly partitionId?: bigint } = {}): number {
    const { vp = 0, of = VP_SELF, vtl, fast = false, partitionId = SELF } = o;
    const number = typeof name === 'number' ? name : HvRegister[name];
    return this.call(HvCall.SetVpRegisters, { header: { partitionId, vpIndex: of, inputVtl: vtl ?? 0 }, elements: [{ name: number, value: { low: value & 0xffff_ffff_ffff_ffffn, high: value >> 64n } }], fast, vp }).status;
  }
  /** The value of a register that must be readable. */
  reg(name: HvRegisterName, o: { readonly vp?: number; readonly of?: number; readonly vtl?: number } = {}): bigint {
    const { status, value } = this.getReg(name, o);
    if (status !== 0) throw new Error(`${name}: status 0x${status.toString(16)}`);
    return value;
  }
  /** Writes a register that must be writable. */
  put(name: HvRegisterName, value: bigint, o: { readonly vp?: number; readonly of?: number; readonly vtl?: number } = {}): void {
    const status = this.setReg(name, value, o);
    if (status !== 0) throw new Error(`${name} = 0x${value.toString(16)}: status 0x${status.toString(16)}`);
  }

  // -- setting up --------------------------------------------------------------------------------------------------------------

  /** The hypercall interface of the active VTL. @spec TLFS Hypercall Interface, establishing the hypercall interface */
  openInterface(vp = 0): void {
    const vtl = this.active(vp);
    this.wrmsr(Msr.osId, OS_ID, vp);
    this.wrmsr(Msr.hypercall, hypercallPage(vtl) | 1, vp);
  }
  /** Assist page, message page and SynIC of the active VTL, SINT0 with a vector. */
  openSynic(vp = 0, vector = 0x30): void {
    const vtl = this.active(vp);
    this.wrmsr(Msr.assist, assistPage(vp, vtl) | 1, vp);
    this.wrmsr(Msr.simp, simPage(vp, vtl) | 1, vp);
    this.wrmsr(Msr.siefp, siefPage(vp, vtl) | 1, vp);
    this.wrmsr(Msr.scontrol, 1, vp);
    this.wrmsr(Msr.sint0, vector, vp);
  }
  /** x2APIC on, software-enabled. */
  openApic(vp = 0): void {
    this.wrmsr(0x1b, 0xfee0_0c00n | (vp === 0 ? 0x100n : 0n), vp);
    this.wrmsr(0x80f, 0x1ff, vp);
  }
  enablePartitionVtl(vtl = 1, flags = 0): number {
    return this.call(HvCall.EnablePartitionVtl, { header: { targetPartitionId: SELF, targetVtl: vtl, flags }, fast: true }).status;
  }
  enableVpVtl(vpIndex = VP_SELF, vtl = 1, vp = 0, context: InferInput<typeof HvCall.EnableVpVtl.header>['vpContext'] = contextOf(vpIndex === VP_SELF ? vp : vpIndex, vtl)): number {
    return this.call(HvCall.EnableVpVtl, { header: { targetPartitionId: SELF, vpIndex, targetVtl: vtl, vpContext: context }, vp }).status;
  }

  /** What an interrupt of the active VTL finds in its assist page. @spec TLFS HV_VP_VTL_CONTROL */
  entryReason(vp = 0): number {
    return this.peek(this.active(vp), assistPage(vp, this.active(vp)) + 8, 4).getUint32(0, true);
  }
  vinaAsserted(vp = 0, vtl = 1): number {
    return this.peek(vtl, assistPage(vp, vtl) + 12, 1).getUint8(0) & 1;
  }
  /** A message slot of a VTL. @spec TLFS HV_MESSAGE: 256 bytes each */
  message(vp = 0, vtl = 1, sint = 0): DataView {
    return this.peek(vtl, simPage(vp, vtl) + 256 * sint, 256);
  }
  /** Takes a message out of its slot, as the guest does. */
  takeMessage(vp = 0, vtl = 1, sint = 0): DataView {
    const message = this.message(vp, vtl, sint);
    this.poke(vtl, simPage(vp, vtl) + 256 * sint, new Uint8Array(4));
    return message;
  }
  protect(rights: number, ...frames: readonly number[]): Outcome {
    return this.call(HvCall.ModifyVtlProtectionMask, { header: { targetPartitionId: SELF, mapFlags: rights, targetVtl: 0 }, elements: frames.map((f) => BigInt(f)) });
  }
}

const segment = (selector: number, attributes: number, limit = 0xffff_ffff) => ({ base: 0n, limit, selector, attributes });
/** First state of a VTL as an operating system gives it. @spec Linux arch/x86/hyperv/hv_vtl.c */
export const contextOf = (vp: number, vtl: number) => ({
  rip: BigInt(0x18_0000 + 0x1_0000 * vtl + 0x1000 * vp), rsp: BigInt(0x18_0800 + 0x1_0000 * vtl + 0x1000 * vp), rflags: 2n,
  cs: segment(8, 0xa09b), ds: segment(0x10, 0xc093), es: segment(0x10, 0xc093), fs: segment(0x10, 0xc093), gs: segment(0x10, 0xc093), ss: segment(0x10, 0xc093),
  tr: segment(0x18, 0x8b, 0x67), ldtr: segment(0, 0x82, 0),
  idtr: { limit: 0xfff, base: 0n }, gdtr: { limit: 0x7f, base: 0n },
  efer: 0xd00n, cr0: 0x8001_0001n, cr3: BigInt(0x5_0000 + 0x1_0000 * (vtl - 1)), cr4: 0x220n, msrCrPat: 0x0007_0406_0007_0406n,
}) as const;

/** First state of a VTL that runs 32-bit protected mode without paging. */
export const contextOf32 = (vp: number, vtl: number) => ({ ...contextOf(vp, vtl), efer: 0n, cr0: 1n, cr3: 0n, cr4: 0n, cs: segment(8, 0xc09b) }) as const;

/** VsmPartitionConfig: protection on, every right by default, memory zeroed on reset. @spec TLFS Virtual Secure Mode */
export const PROTECT = 0x3fn;

/** What {@link ready} sets up besides. */
export interface ReadyConfig extends BenchConfig {
  /** VPs that have VTL1. Default all. */
  readonly secure?: number;
  /** VsmPartitionConfig that VTL1 writes; default {@link PROTECT}, null leaves it. */
  readonly partitionConfig?: bigint | null;
}

/** A guest whose VTL0 has the hypercall interface and SynIC, nothing more. */
export const booted = (config: BenchConfig = {}): Guest => {
  const guest = new Guest(config);
  guest.openInterface();
  for (let vp = 0; vp < (config.running ?? config.vps ?? 1); vp++) guest.openSynic(vp);
  return guest;
};

/** A guest with VTL1 set up on its VPs as the enabling sequence has it; all are in VTL0. */
export const ready = (config: ReadyConfig = {}): Guest => {
  const guest = booted(config);
  const { secure = config.vps ?? 1, partitionConfig = PROTECT } = config;
  const expectZero = (status: number, what: string): void => {
    if (status !== 0) throw new Error(`${what}: status 0x${status.toString(16)}`);
  };
  expectZero(guest.enablePartitionVtl(1), 'EnablePartitionVtl');
  expectZero(guest.enableVpVtl(VP_SELF), 'EnableVpVtl');
  guest.enter();
  guest.openInterface();
  for (let vp = 1; vp < secure; vp++) expectZero(guest.enableVpVtl(vp), `EnableVpVtl of VP ${vp}`);
  if (partitionConfig !== null) guest.put('VsmPartitionConfig', partitionConfig);
  for (let vp = 0; vp < secure; vp++) {
    if (vp > 0) guest.enter(vp);
    guest.openApic(vp);
    guest.openSynic(vp);
    guest.leave(vp);
    // What the VTL call left behind in VTL0 is done before a test begins.
    guest.plain({ op: 'work' }, vp);
  }
  return guest;
};

/** Identity page tables of 2 MiB pages for the first GiB, as the public test suite has them, at the CR3 of a VTL. @spec kvm-unit-tests x86/hyperv_vsm.c */
export const mapIdentity = (guest: Guest, vtl = 0): void => {
  const root = vtl === 0 ? 0x4_0000 : 0x5_0000 + 0x1_0000 * (vtl - 1);
  guest.poke64(vtl, root, BigInt(root + 0x1000) | 7n);
  guest.poke64(vtl, root + 0x1000, BigInt(root + 0x2000) | 7n);
  for (let i = 0; i < 512; i++) guest.poke64(vtl, root + 0x2000 + 8 * i, (BigInt(i) << 21n) | 0x1e7n);
};
