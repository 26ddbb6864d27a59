import { Ghcb, type GhcbField, ghcbFields, GhcbMsr, ghcbValidBit, NAE_ROWS, SEV_MSRS } from '@vmplanes/abi-sev-snp';
import { Random } from '@vmplanes/engine';
import type { Step } from '@vmplanes/x86';
import { DATA, DATA_PAGES, ghcbPage, LARGE, PAGES, Svsm, vmsaPage, VPS } from './fuzz-guest.ts';

/** Something that a guest does, or that is done to it. It depends on nothing but the seed, so that any of a list can be left out. */
export type Act =
  | { readonly kind: 'step'; readonly vp: number; readonly step: Step }
  /** A request through the page of whatever VMPL runs. */
  | { readonly kind: 'page'; readonly vp: number; readonly bytes: Uint8Array; readonly buffer: Uint8Array; readonly usage: number; readonly own: boolean }
  /** A request through the MSR. */
  | { readonly kind: 'msr'; readonly vp: number; readonly value: bigint }
  /** A call of an SVSM: the byte that asks for it, registers, Run VMPL 0. */
  | { readonly kind: 'call'; readonly vp: number; readonly rax: bigint; readonly rcx: bigint; readonly rdx: bigint; readonly r8: bigint; readonly list: Uint8Array; readonly pending: number }
  | { readonly kind: 'interrupt'; readonly vp: number; readonly vmpl: number; readonly mode: number; readonly vector: number }
  | { readonly kind: 'host'; readonly act: 'private' | 'shared' | 'update' | 'smash' | 'attribute' | 'validate'; readonly gpn: number; readonly count: number; readonly bits: number }
  /** A field of a save area changes. */
  | { readonly kind: 'area'; readonly vp: number; readonly vmpl: number; readonly offset: number; readonly value: bigint }
  | { readonly kind: 'run'; readonly ticks: number };

const ALL_ONES = 0xffff_ffff_ffff_ffffn;
const C = 2n ** 51n;
const edges: readonly bigint[] = [0n, 1n, 2n, 3n, 7n, 8n, 0x1fn, 0xffn, 0x100n, 0xfffn, 0x1000n, 0x1_0000n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 0x1_0000_0000n, C, 1n << 63n, ALL_ONES];
const events = NAE_ROWS.map((r) => r.code);
const requests = Object.values(GhcbMsr).map((r) => r.code);
const sevMsrs = SEV_MSRS.map((r) => r.index);
const otherMsrs = [0x10, 0x1b, 0x174, 0x277, 0x802, 0x808, 0x80b, 0x830, 0xc000_0080, 0xc000_0082, 0xc000_0103, 0x4000_0000];
const contributed = ['rdtsc', 'rdtscp', 'rdpmc', 'invd', 'wbinvd', 'monitor', 'mwait', 'pause', 'mov rax, dr7', 'psmash', 'rmpupdate', 'rmpread'];
/** Fields of a save area that software may spoil: VMPL and CPL, EFER, CR4, CR3, CR0, RFLAGS, SEV_FEATURES, VINTR_CTRL, VIRTUAL_TOM, PCPU_ID, EVENT_INJ. */
const areaFields = [0xc8, 0xd0, 0x148, 0x150, 0x158, 0x170, 0x3b0, 0x3b8, 0x3c8, 0x3d8, 0x3e0];

/** Makes acts from a seed. */
export class Acts {
  readonly #random: Random;
  constructor(
    seed: number,
    readonly svsm: boolean,
  ) {
    this.#random = new Random(seed);
  }

  next(): Act {
    const n = this.#below(100);
    const vp = this.#below(VPS);
    if (n < 4) return { kind: 'interrupt', vp, vmpl: this.#below(3), mode: this.#pick([0, 0, 0, 4, 5, 6]), vector: 0x20 + this.#below(0xe0) };
    if (n < 6) return { kind: 'run', ticks: 1 + this.#below(20) };
    if (n < 14) return this.#host();
    if (n < 16) return { kind: 'area', vp, vmpl: this.#below(3), offset: this.#pick(areaFields), value: this.#word() };
    if (n < 24) return { kind: 'msr', vp, value: this.#msrRequest() };
    if (n < 34) return { kind: 'msr', vp, value: (BigInt(this.#below(this.svsm || !this.#rarely(6) ? 3 : 5)) << 32n) | 0x16n };
    if (n < (this.svsm ? 46 : 36)) return this.#call(vp);
    if (n < 64) return this.#page(vp);
    return { kind: 'step', vp, step: this.#step() };
  }

  #below(n: number): number {
    return this.#random.below(n);
  }
  #pick<T>(from: readonly T[]): T {
    return from[this.#random.below(from.length)]!;
  }
  #rarely(n: number): boolean {
    return this.#random.below(n) === 0;
  }
  #word(): bigint {
    return this.#rarely(3) ? (BigInt(this.#random.next()) << 32n) | BigInt(this.#random.next()) : this.#pick(edges);
  }
  #gpn(): number {
    const vp = this.#below(VPS), vmpl = this.#below(3);
    const data = DATA + this.#below(DATA_PAGES);
    return this.#pick([data, data, data, LARGE, LARGE + 1, LARGE + 511, vmsaPage(vp, vmpl), ghcbPage(vp, vmpl), Svsm.area, Svsm.firmware + this.#below(Svsm.firmwareSize), Svsm.base, Svsm.vmsa, PAGES - 1, PAGES]);
  }

  #host(): Act {
    const act = this.#pick(['private', 'shared', 'update', 'smash', 'attribute', 'validate', 'validate'] as const);
    const isLarge = this.#rarely(4);
    return { kind: 'host', act, gpn: isLarge ? LARGE : DATA + this.#below(DATA_PAGES), count: isLarge ? 512 : 1, bits: this.#below(16) };
  }

  // -- requests --------------------------------------------------------------------------------------------------------

  #msrRequest(): bigint {
    const code = BigInt(this.#rarely(6) ? this.#below(0x1000) : this.#pick(requests));
    // Rarely a request to end.
    if (code === 0x100n && !this.#rarely(20)) return 0x2n;
    return this.#rarely(2) ? (BigInt(this.#gpn()) << 12n) | (BigInt(this.#below(4)) << 52n) | code : (this.#word() & ~0xfffn) | code;
  }

  #page(vp: number): Act {
    const bytes = new Uint8Array(0x400);
    const view = new DataView(bytes.buffer);
    const put = (field: GhcbField, value: bigint): void => {
      if (field === 'cpl') bytes[Ghcb.at.cpl] = Number(value & 3n);
      else view.setBigUint64(Ghcb.at[field], BigInt.asUintN(64, value), true);
      if (!this.#rarely(24)) bytes[Ghcb.at.validBitmap + (ghcbValidBit[field] >>> 3)]! |= 1 << (ghcbValidBit[field] & 7);
    };
    for (const field of ghcbFields) if (this.#rarely(2)) put(field, this.#operand());
    let code = this.#rarely(10) ? this.#random.next() : this.#pick(events);
    if (code === 0x8000_fffe && !this.#rarely(20)) code = 0x8000_fffd;
    put('swExitCode', BigInt(code));
    put('swExitInfo1', this.#rarely(2) ? BigInt(this.#below(4)) : this.#operand());
    put('swExitInfo2', this.#rarely(2) ? BigInt(this.#below(9)) : this.#operand());
    // Mostly where the buffer of the page is: the player puts the address of the page in.
    if (!this.#rarely(4)) put('swScratch', BigInt(0x800 + 8 * this.#below(8)));
    return { kind: 'page', vp, bytes, buffer: this.#pageStates(), usage: this.#rarely(30) ? this.#below(4) : 0, own: !this.#rarely(12) };
  }

  #operand(): bigint {
    switch (this.#below(5)) {
      case 0:
        return BigInt(this.#gpn()) << 12n;
      case 1:
        return BigInt(this.#pick([...sevMsrs, ...otherMsrs]));
      case 2:
        return BigInt(this.#below(4)) | (BigInt(this.#below(4)) << 16n) | (BigInt(this.#below(4)) << 32n);
      case 3:
        return BigInt(this.#pick([0x01, 0x04, 0x05, 0x11, 0x15, 0x41, 0x43])) | (BigInt(this.#pick([0x60, 0x3f8, 0xcf8])) << 16n);
      default:
        return this.#word();
    }
  }

  /** Page state changes, which are also the data of everything else. */
  #pageStates(): Uint8Array {
    const count = 1 + this.#below(4);
    const words = [(BigInt(this.#rarely(8) ? this.#below(0x1_0000) : count - 1) << 16n) | BigInt(this.#rarely(8) ? this.#below(8) : 0)];
    for (let i = 0; i < count; i++) {
      const isLarge = this.#rarely(4);
      words.push((BigInt(isLarge ? LARGE : this.#gpn()) << 12n) | (BigInt(this.#pick([1, 1, 2, 2, 3, 4, 0])) << 52n) | (isLarge ? 1n << 56n : 0n) | (this.#rarely(12) ? BigInt(this.#below(0x1000)) : 0n));
    }
    return new Uint8Array(new BigUint64Array(words).buffer);
  }

  #call(vp: number): Act {
    const protocol = this.#pick([0, 0, 0, 0, 1, 2, 3, 4, 7]);
    const entries = 1 + this.#below(4);
    const words = [BigInt(entries) | (BigInt(this.#rarely(8) ? this.#below(8) : 0) << 16n)];
    for (let i = 0; i < entries; i++) words.push((BigInt(this.#rarely(4) ? LARGE : this.#gpn()) << 12n) | BigInt(this.#rarely(10) ? this.#below(0x1000) : this.#pick([4, 4, 0, 8, 12, 5])));
    const page = (): bigint => (this.#rarely(5) ? this.#word() : BigInt(this.#pick([Svsm.firmware, Svsm.firmware + 1, Svsm.vmsa, Svsm.secondArea, Svsm.area, this.#gpn()])) << 12n);
    return {
      kind: 'call', vp, rax: (BigInt(protocol) << 32n) | BigInt(this.#rarely(10) ? this.#random.next() : this.#below(9)), rcx: page(), rdx: this.#rarely(2) ? page() : this.#word(),
      r8: this.#rarely(2) ? BigInt(this.#below(3)) : this.#word(), list: new Uint8Array(new BigUint64Array(words).buffer), pending: this.#rarely(10) ? this.#below(4) : 1,
    };
  }

  // -- instructions ----------------------------------------------------------------------------------------------------

  #step(): Step {
    const gpa = BigInt(this.#gpn() * 4096 + this.#pick([0, 8, 0xff8, 0xffd])) | (this.#rarely(2) ? 0n : C);
    const size = this.#pick([1, 2, 4, 8] as const);
    switch (this.#below(20)) {
      case 0:
      case 1:
      case 2:
        return { op: 'instruction', name: 'pvalidate', regs: this.#rmpOperands(this.#rarely(8) ? this.#word() : BigInt(this.#below(2))) };
      case 3:
      case 4:
      case 5:
        return { op: 'instruction', name: 'rmpadjust', regs: this.#rmpOperands(BigInt(this.#below(5)) | (BigInt(this.#pick([0, 1, 3, 15, 31, 63])) << 8n) | (this.#rarely(6) ? 0x1_0000n : 0n) | (this.#rarely(16) ? this.#word() : 0n)) };
      case 6:
        return { op: 'instruction', name: 'rmpquery', regs: this.#rmpOperands(BigInt(this.#below(5))) };
      case 7:
      case 8:
        return { op: 'read', gpa, size };
      case 9:
      case 10:
        return { op: 'write', gpa, size, value: this.#word() & ((1n << BigInt(8 * size)) - 1n) };
      case 11:
        return { op: 'execute', gpa, user: this.#rarely(2) };
      case 12:
        return this.#rarely(2) ? { op: 'wrmsr', index: this.#pick([...sevMsrs, ...otherMsrs]), value: this.#word() } : { op: 'rdmsr', index: this.#pick([...sevMsrs, ...otherMsrs]) };
      case 13:
        return { op: 'instruction', name: this.#pick(contributed) };
      case 14:
        return this.#rarely(2) ? { op: 'cpuid', leaf: this.#pick([0, 1, 7, 0xd, 0x8000_001f]), subleaf: 0 } : { op: 'in', port: this.#below(0x400) };
      case 15:
        return this.#rarely(3) ? { op: 'mov', to: this.#pick(['cr0', 'cr3', 'cr4', 'cr8', 'dr7', 'xcr0'] as const), value: this.#word() } : { op: 'sti' };
      case 16:
        return this.#rarely(2) ? { op: 'cli' } : { op: 'hlt' };
      case 17:
        return { op: 'call', via: this.#pick(['vmcall', 'vmmcall', 'vmgexit'] as const) };
      case 18:
        return this.#rarely(4) ? (this.#rarely(12) ? { op: 'shutdown' } : { op: 'busLock' }) : { op: 'eoi' };
      default:
        return { op: 'work', cost: 1 + this.#below(4) };
    }
  }

  #rmpOperands(rdx: bigint): { readonly rax: bigint; readonly rcx: bigint; readonly rdx: bigint } {
    const isLarge = this.#rarely(5);
    return { rax: this.#rarely(16) ? this.#word() : BigInt((isLarge ? LARGE : this.#gpn()) * 4096), rcx: this.#rarely(16) ? this.#word() : BigInt(isLarge ? 1 : 0), rdx };
  }
}
