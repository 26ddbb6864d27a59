import { CALLS, HvCall, HvMsr, HvRegister, inputBytes, isParameterCall, OTHER_CALL_NAMES, type ParameterCall, REGISTERS } from '@vmplanes/abi-hyperv';
import { Random } from '@vmplanes/engine';
import type { RegisterValues, Step } from '@vmplanes/x86';
import { assistPage, contextOf, contextOf32, DATA, hypercallPage, inputPage, outputPage, SELF, siefPage, simPage, tscPage, VP_SELF } from './guest.ts';

/** Something that a guest does, or that is done to it. It depends on nothing but the seed, so that any of a list can be left out. */
export type Act =
  | { readonly kind: 'step'; readonly vp: number; readonly step: Step; readonly bytes: Uint8Array | null; readonly at: number; readonly wide: RegisterValues | null }
  | { readonly kind: 'interrupt'; readonly vp: number; readonly vtl: number; readonly vector: number }
  | { readonly kind: 'nmi'; readonly vp: number; readonly vtl: number }
  | { readonly kind: 'run'; readonly ticks: number };

const VPS = 2;
const DATA_PAGES = 4;
const CALL_SETS = CALLS.filter(isParameterCall);
const ALL_ONES = 0xffff_ffff_ffff_ffffn;
/** Values at the edges of fields. */
const edges: readonly bigint[] = [0n, 1n, 2n, 3n, 7n, 0xfn, 0x10n, 0x1fn, 0x30n, 0xffn, 0x100n, 0x1060n, 0x1_0000n, 0x3_0001n, 0x7fff_ffffn, 0xffff_ffffn, 0x1_0000_0000n, 1n << 63n, (1n << 63n) | 1n, ALL_ONES - 1n, ALL_ONES];
const msrs = Object.values(HvMsr);
const architecturalMsrs = [0x1b, 0x174, 0x175, 0x176, 0x1a0, 0x277, 0x802, 0x808, 0x80b, 0x80f, 0x830, 0xc000_0080, 0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0101, 0xc000_0103] as const;
const registers = REGISTERS.map((r) => r.number);
const vsmRegisters = [
  HvRegister.VsmPartitionConfig, HvRegister.VsmVina, HvRegister.VsmVpSecureConfigVtl0, HvRegister.VsmVpSecureConfigVtl1, HvRegister.CrInterceptControl, HvRegister.CrInterceptCr0Mask, HvRegister.CrInterceptCr4Mask,
  HvRegister.CrInterceptIa32MiscEnableMask, HvRegister.VsmPartitionStatus, HvRegister.VsmVpStatus, HvRegister.VsmCodePageOffsets, HvRegister.VsmCapabilities, HvRegister.PendingInterruption, HvRegister.InterruptState,
  HvRegister.PendingEvent0, HvRegister.PendingEvent1, HvRegister.VsmVpWaitForTlbLock, HvRegister.Rflags, HvRegister.Cr0, HvRegister.Cr3, HvRegister.Efer, HvRegister.Rip, HvRegister.ApicBase, HvRegister.DeliverabilityNotifications,
] as const;

/** Makes acts from a seed. */
export class Acts {
  readonly #random: Random;
  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  /** One more. */
  next(): Act {
    const n = this.#random.below(100);
    if (n < 6) return { kind: 'interrupt', vp: this.#vp(), vtl: this.#below(3), vector: 0x20 + this.#below(0xe0) };
    if (n < 7) return { kind: 'nmi', vp: this.#vp(), vtl: this.#below(3) };
    if (n < 10) return { kind: 'run', ticks: 1 + this.#below(30) };
    if (n < 22) return { kind: 'step', vp: this.#vp(), step: this.#switch(0x11 + this.#below(2)), bytes: null, at: 0, wide: null };
    if (n < 58) return this.#call();
    return { kind: 'step', vp: this.#vp(), step: this.#step(), bytes: null, at: 0, wide: null };
  }

  #below(n: number): number {
    return this.#random.below(n);
  }
  #pick<T>(from: readonly T[]): T {
    return from[this.#random.below(from.length)]!;
  }
  /** True once in n times. */
  #rarely(n: number): boolean {
    return this.#random.below(n) === 0;
  }
  #vp(): number {
    return this.#below(VPS);
  }
  #word(): bigint {
    return this.#rarely(3) ? (BigInt(this.#random.next()) << 32n) | BigInt(this.#random.next()) : this.#pick(edges);
  }
  #page(): number {
    const vp = this.#vp(), vtl = this.#below(3);
    return this.#pick([DATA + 0x1000 * this.#below(DATA_PAGES), DATA, DATA, inputPage(vp, vtl), outputPage(vp, vtl), simPage(vp, vtl), siefPage(vp, vtl), assistPage(vp, vtl), hypercallPage(vtl), tscPage(vtl)]);
  }

  // -- instructions ------------------------------------------------------------------------------------------------------------

  #step(): Step {
    const size = this.#pick([1, 2, 4, 8] as const);
    const gpa = this.#page() + (this.#rarely(4) ? 0xffd : this.#pick([0, 4, 8, 12, 0x100, 0x110]));
    switch (this.#below(20)) {
      case 0:
      case 1:
      case 2:
        return this.#wrmsr();
      case 3:
      case 4:
      case 5:
        return { op: 'sti' };
      case 6:
        return { op: 'cli' };
      case 7:
        return this.#rarely(2) ? { op: 'hlt' } : { op: 'work', cost: 1 + this.#below(20) };
      case 8:
        return { op: 'ipi', icr: `0x${((BigInt(this.#below(3)) << 32n) | BigInt(this.#pick([0x4000, 0x4_4000, 0x8_4000, 0xc_4000, 0x4400, 0x4500, 0x4600, 0x4800]) | this.#below(256))).toString(16)}` };
      case 9:
        return { op: 'rdmsr', index: this.#msr() };
      case 10:
        return { op: 'apicWrite', register: this.#pick([0x08, 0x0f, 0x32, 0x38, 0x3e, 0x3f]), value: this.#rarely(2) ? 0x1ff : this.#below(0x300) };
      case 11:
      case 12:
        return this.#wrmsr();
      case 13:
        return { op: 'cpuid', leaf: this.#pick([0, 1, 7, 0xd, 0x4000_0000, 0x8000_0001]) + this.#below(16), subleaf: this.#below(2) };
      case 14:
        return this.#rarely(3) ? { op: 'out', port: this.#below(0x100), size: 4, value: this.#random.next() } : { op: 'in', port: this.#below(0x100), size: 1 };
      case 15:
        return { op: 'read', gpa, size };
      case 16:
      case 17:
        return { op: 'write', gpa, size, value: this.#word() & ((1n << BigInt(8 * size)) - 1n) };
      case 18:
        return this.#rarely(2) ? { op: 'execute', gpa, user: this.#rarely(2) } : { op: 'eoi' };
      default:
        return this.#control();
    }
  }

  #switch(code: number): Step {
    const input = this.#rarely(8) ? this.#word() : BigInt(this.#below(2));
    const value = code === 0x11 && !this.#rarely(8) ? 0n : input;
    return { op: 'call', regs: this.#rarely(10) ? { rax: code, rdx: 0, rcx: value } : { rcx: code, rax: value } };
  }

  #msr(): number {
    return this.#rarely(8) ? 0x4000_0000 + this.#below(0x200) : this.#rarely(3) ? this.#pick(architecturalMsrs) : this.#pick(msrs);
  }

  #wrmsr(): Step {
    const timer = this.#below(4);
    const sometimes: readonly (readonly [index: number, value: bigint])[] = [
      [HvMsr.Stimer0Config + 2 * timer, this.#pick([0x0_1001n | (0x50n << 4n), 0x0_0009n, 0x3_000bn, 0x0_100bn | (0x61n << 4n), 0x2_000fn, 0n])],
      [HvMsr.Stimer0Count + 2 * timer, BigInt(this.#below(400))],
      [HvMsr.StimeUnhaltedTimerConfig, 0x100n | this.#pick([2n, 0x55n, 3n])],
      [HvMsr.StimeUnhaltedTimerCount, BigInt(this.#below(100))],
      [HvMsr.Sint0 + this.#below(16), BigInt(0x20 + this.#below(0xe0)) | (BigInt(this.#below(8)) << 16n)],
      [HvMsr.Simp, BigInt(this.#page()) | 1n],
      [HvMsr.Siefp, BigInt(this.#page()) | 1n],
      [HvMsr.VpAssistPage, BigInt(this.#page()) | 1n],
      [HvMsr.ReferenceTsc, BigInt(this.#page()) | 1n],
      [HvMsr.Hypercall, BigInt(this.#page()) | 1n],
      [HvMsr.Scontrol, 1n],
      [HvMsr.Eom, 0n],
      [HvMsr.Tpr, BigInt(this.#below(256))],
      [HvMsr.Eoi, 0n],
      [HvMsr.Icr, (BigInt(this.#below(2)) << 32n) | 0x4040n],
    ];
    if (!this.#rarely(3)) {
      const [index, value] = this.#pick(sometimes);
      return { op: 'wrmsr', index, value };
    }
    const index = this.#msr();
    // A reset of the partition ends what was built up.
    return index === HvMsr.Reset && !this.#rarely(20) ? { op: 'rdmsr', index } : { op: 'wrmsr', index, value: this.#word() };
  }

  #control(): Step {
    const to = this.#pick(['cr0', 'cr4', 'cr8', 'xcr0'] as const);
    const values = { cr0: [0x8001_0011n, 0x8000_0011n, 0x8001_0019n], cr4: [0x620n, 0x6a0n, 0x4_0620n], cr8: [0n, 3n, 9n, 15n], xcr0: [1n, 3n, 7n] } as const;
    return { op: 'mov', to, value: this.#rarely(6) ? this.#word() : this.#pick<bigint>(values[to]) };
  }

  // -- calls ---------------------------------------------------------------------------------------------------------------------

  #call(): Act {
    const shaped = this.#shaped();
    if (shaped !== null) return this.#issue(...shaped);
    if (this.#rarely(6)) return this.#issue(this.#pick([this.#below(0x10000), this.#pick([...OTHER_CALL_NAMES.keys()])]), this.#garbage(8 * this.#below(16)), this.#below(3), 0);
    const call: ParameterCall = this.#pick(CALL_SETS);
    const isRep = call.shape === 'rep' || call.shape === 'variableRep';
    const units = call.shape === 'variable' || call.shape === 'variableRep' ? this.#below(3) : 0;
    const reps = isRep ? 1 + this.#below(4) : 0;
    const bytes = this.#garbage(Math.ceil(inputBytes(call, units, reps) / 8) * 8);
    const view = new DataView(bytes.buffer);
    if (bytes.length >= 8 && !this.#rarely(4)) view.setBigUint64(0, SELF, true);
    return this.#issue(call.code, bytes, reps, units);
  }

  #garbage(size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i + 8 <= size; i += 8) view.setBigUint64(i, this.#rarely(2) ? 0n : this.#word(), true);
    return bytes;
  }

  /** A call that may well succeed; null for one from the table of all calls. */
  #shaped(): readonly [code: number, bytes: Uint8Array, reps: number, units: number] | null {
    const vtl = this.#below(3);
    const vpIndex = this.#pick([0, 1, VP_SELF]);
    const inputVtl = this.#pick([0, 0, 0x10 | vtl]);
    switch (this.#below(17)) {
      case 0:
        return [HvCall.EnablePartitionVtl.code, block(16, (v) => (v.setBigUint64(0, SELF, true), v.setUint8(8, vtl), v.setUint8(9, this.#below(2)))), 0, 0];
      case 1: {
        const context = this.#rarely(5) ? contextOf32(0, Math.max(1, vtl)) : contextOf(0, Math.max(1, vtl));
        const call = this.#rarely(3) ? HvCall.StartVirtualProcessor : HvCall.EnableVpVtl;
        return [call.code, block(240, (v) => HvCall.EnableVpVtl.header.write(v, 0, { targetPartitionId: SELF, vpIndex, targetVtl: vtl, vpContext: context })), 0, 0];
      }
      case 2:
      case 3: {
        const name = this.#rarely(3) ? this.#pick(registers) : this.#pick(vsmRegisters);
        const value = this.#registerValue(name);
        return [HvCall.SetVpRegisters.code, block(48, (v) => (this.#registerHeader(v, vpIndex, inputVtl), v.setUint32(16, name, true), v.setBigUint64(32, value, true))), 1, 0];
      }
      case 4: {
        const names = Array.from({ length: 1 + this.#below(3) }, () => this.#pick(registers));
        return [HvCall.GetVpRegisters.code, block(Math.ceil((16 + 4 * names.length) / 8) * 8, (v) => (this.#registerHeader(v, vpIndex, inputVtl), names.forEach((n, i) => v.setUint32(16 + 4 * i, n, true)))), names.length, 0];
      }
      case 5: {
        const frames = Array.from({ length: 1 + this.#below(3) }, () => BigInt(this.#page() >>> 12));
        const bytes = block(16 + 8 * frames.length, (v) => (v.setBigUint64(0, SELF, true), v.setUint32(8, this.#rarely(4) ? this.#below(17) : this.#pick([0, 1, 3, 0xd, 0xf]), true), v.setUint8(12, this.#pick([0, 0, 0x10, 0x11, 0x12])), frames.forEach((f, i) => v.setBigUint64(16 + 8 * i, f, true))));
        return [HvCall.ModifyVtlProtectionMask.code, bytes, frames.length, 0];
      }
      case 6:
        return [HvCall.SendSyntheticClusterIpi.code, block(16, (v) => (v.setUint32(0, 0x10 + this.#below(0xf0), true), v.setUint8(4, inputVtl), v.setUint8(8, this.#below(4)))), 0, 0];
      case 7:
        return [HvCall.FlushVirtualAddressSpace.code, block(24, (v) => (v.setUint32(8, this.#pick([0, 1, 2, 3, 3, 8, 0x18, 0x1b]), true), v.setUint8(16, this.#below(4)))), 0, 0];
      case 8: {
        const count = 1 + this.#below(4);
        return [HvCall.FlushVirtualAddressList.code, block(24 + 8 * count, (v) => (v.setUint32(8, this.#pick([0, 1, 2, 3]), true), v.setUint8(16, this.#below(4)), v.setBigUint64(24, this.#word(), true))), count, 0];
      }
      case 9: {
        const type = this.#below(12);
        return [HvCall.InstallIntercept.code, block(24, (v) => (v.setBigUint64(0, SELF, true), v.setUint32(8, this.#below(8), true), v.setUint32(12, type, true), v.setUint32(16, this.#pick([0, 1, 3, 13, 14, 0x40, 0x60, 0x80, 0x4000_0001]), true))), 0, 0];
      }
      case 10:
        return [HvCall.AssertVirtualInterrupt.code, block(32, (v) => (v.setBigUint64(0, SELF, true), v.setUint32(8, this.#below(5), true), v.setUint8(16, this.#below(3)), v.setUint32(24, this.#below(256), true), v.setUint8(28, vtl))), 0, 0];
      case 11: {
        const flags = BigInt(this.#below(16)) | (this.#rarely(4) ? this.#word() : 0n) | (BigInt(inputVtl) << 56n);
        const call = this.#rarely(2) ? HvCall.TranslateVirtualAddress : HvCall.TranslateVirtualAddressEx;
        return [call.code, block(32, (v) => (v.setBigUint64(0, SELF, true), v.setUint32(8, vpIndex, true), v.setBigUint64(16, BigInt.asUintN(64, flags), true), v.setBigUint64(24, BigInt(this.#page() >>> 12), true))), 0, 0];
      }
      case 12:
        return [HvCall.PostMessage.code, block(256, (v) => (v.setUint32(0, this.#below(3), true), v.setUint32(8, 1 + this.#below(3), true), v.setUint32(12, this.#pick([0, 8, 240, 241]), true))), 0, 0];
      case 13:
        return [HvCall.SignalEvent.code, block(8, (v) => (v.setUint32(0, this.#below(4), true), v.setUint16(4, this.#below(70), true))), 0, 0];
      case 14: {
        const frames = Array.from({ length: 1 + this.#below(3) }, () => BigInt(this.#page() >>> 12));
        const bytes = block(16 + 8 * frames.length, (v) => (v.setBigUint64(0, SELF, true), v.setUint8(8, inputVtl), v.setUint8(9, this.#below(16)), frames.forEach((f, i) => v.setBigUint64(16 + 8 * i, f, true))));
        return [HvCall.CheckSparseGpaPageVtlAccess.code, bytes, frames.length, 0];
      }
      case 15:
        return [HvCall.SendSyntheticClusterIpiEx.code, block(32, (v) => (v.setUint32(0, 0x10 + this.#below(0xf0), true), v.setUint8(4, inputVtl), v.setBigUint64(8, BigInt(this.#below(3)), true), v.setBigUint64(16, BigInt(this.#below(3)), true), v.setUint8(24, this.#below(4)))), 0, this.#below(2)];
      default:
        return null;
    }
  }

  #registerHeader(view: DataView, vpIndex: number, inputVtl: number): void {
    view.setBigUint64(0, SELF, true);
    view.setUint32(8, vpIndex, true);
    view.setUint8(12, inputVtl);
  }

  #registerValue(name: number): bigint {
    switch (name) {
      case HvRegister.VsmVina:
        return BigInt(0x10 + this.#below(0xf0)) | (BigInt(this.#below(8)) << 8n);
      case HvRegister.VsmPartitionConfig:
        return this.#pick([0x3fn, 0x3fn, 1n, 0x1fn, 0x7fn, 0xffn]);
      case HvRegister.VsmVpSecureConfigVtl0:
      case HvRegister.VsmVpSecureConfigVtl1:
        return BigInt(this.#below(4));
      case HvRegister.CrInterceptControl:
        return BigInt(this.#random.next() & 0x3ff_ffff);
      // A suspended VP does nothing more for the rest of a run: seldom.
      case HvRegister.ExplicitSuspend:
      case HvRegister.InternalActivityState:
        return this.#rarely(10) ? this.#word() : 0n;
      default:
        return this.#word();
    }
  }

  #issue(code: number, bytes: Uint8Array, reps: number, units: number): Act {
    const vp = this.#vp();
    const isFast = bytes.length <= 112 && this.#rarely(3);
    let control = BigInt(code) | (isFast ? 0x1_0000n : 0n) | (BigInt(units) << 17n) | (BigInt(reps) << 32n) | (this.#rarely(10) ? BigInt(this.#below(4)) << 48n : 0n);
    if (this.#rarely(15)) control ^= 1n << BigInt(this.#below(64));
    const vtl = this.#below(3);
    const at = this.#rarely(12) ? this.#page() : inputPage(vp, vtl);
    const input = BigInt(at) + (this.#rarely(20) ? this.#pick([4n, 0xff0n, 0xff8n, 1n << 40n, ALL_ONES << 12n]) : 0n);
    const output = BigInt(this.#rarely(12) ? this.#page() : outputPage(vp, vtl)) + (this.#rarely(20) ? this.#pick([4n, 0xff8n, 1n << 40n]) : 0n);
    const regs: RegisterValues = isFast ? { rcx: control, ...fastRegisters(bytes) } : this.#rarely(15) ? narrow(control, input, output) : { rcx: control, rdx: BigInt.asUintN(64, input), r8: output };
    return { kind: 'step', vp, step: { op: 'call', regs }, bytes: isFast ? null : bytes, at, wide: isFast ? xmmRegisters(bytes) : null };
  }
}

const block = (size: number, fill: (view: DataView) => unknown): Uint8Array => {
  const bytes = new Uint8Array(size);
  fill(new DataView(bytes.buffer));
  return bytes;
};

/** Operands of a 32-bit caller. */
const narrow = (control: bigint, first: bigint, second: bigint): RegisterValues => {
  const low = (n: bigint): bigint => n & 0xffff_ffffn;
  return { rdx: low(control >> 32n), rax: low(control), rbx: low(first >> 32n), rcx: low(first), rdi: low(second >> 32n), rsi: low(second) };
};

const fastRegisters = (bytes: Uint8Array): RegisterValues => {
  const view = wholeBlock(bytes);
  return { rdx: view.getBigUint64(0, true), r8: view.getBigUint64(8, true) };
};
const xmmRegisters = (bytes: Uint8Array): RegisterValues => {
  const view = wholeBlock(bytes);
  const xmm = (n: number): bigint => view.getBigUint64(16 + 16 * n, true) | (view.getBigUint64(24 + 16 * n, true) << 64n);
  return { xmm0: xmm(0), xmm1: xmm(1), xmm2: xmm(2), xmm3: xmm(3), xmm4: xmm(4), xmm5: xmm(5) };
};
/** The parameter registers, as many as there are. */
const wholeBlock = (bytes: Uint8Array): DataView => {
  const all = new Uint8Array(112);
  all.set(bytes);
  return new DataView(all.buffer);
};
