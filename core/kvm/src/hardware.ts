import { MsrExitReason } from '@vmplanes/abi-kvm-planes';
import type { Machine, PlaneContext, Vp } from '@vmplanes/engine';
import { ApicBase, ApicEvent, ApicReg, type CpuFeatures, type CpuidTable, Extra, fromKvmImage, MSR_APIC_BASE, type MsrFilter, toKvmImage, type Translation, type X86Arch } from '@vmplanes/x86';
import { setReg } from './state/target.ts';

/** The x86 parts of one machine as the facade uses them: local APICs, MSRs, CPUID, page walks. */
export class KvmHardware {
  /** KVM_X2APIC_API_USE_32BIT_IDS is on. */
  hasWideIds = false;

  constructor(
    readonly machine: Machine,
    readonly arch: X86Arch,
  ) {}

  get features(): CpuFeatures {
    return this.arch.registers.features;
  }

  /** Gives a new plane vCPU its APIC id and tells whether it is the boot processor's. */
  place(context: PlaneContext, apicId: number, isBsp: boolean): void {
    const apic = this.arch.apicOf(context);
    const base = apic.block.get(Extra.baseLow);
    apic.block.set(Extra.baseLow, isBsp ? base | ApicBase.bsp : base & ~ApicBase.bsp);
    apic.block.set(Extra.initialId, apicId);
    // A new one is in xAPIC mode.
    apic.block.set(ApicReg.id, apicId << 24);
    apic.restored();
  }

  lapic(context: PlaneContext): Uint8Array {
    return toKvmImage(this.arch.apicOf(context), this.hasWideIds);
  }
  setLapic(context: PlaneContext, image: Uint8Array): boolean {
    return fromKvmImage(this.arch.apicOf(context), image, this.hasWideIds);
  }

  apicBase(context: PlaneContext): bigint {
    const { block } = this.arch.apicOf(context);
    return (BigInt(block.get(Extra.baseHigh)) << 32n) | BigInt(block.get(Extra.baseLow) >>> 0);
  }
  setApicBase(context: PlaneContext, value: bigint): boolean {
    return this.arch.registers.writeMsr(context, MSR_APIC_BASE, value, true) === 'ok';
  }

  cr8(context: PlaneContext): number {
    return this.arch.apicOf(context).cr8;
  }
  setCr8(context: PlaneContext, value: number): void {
    this.arch.apicOf(context).setCr8(value);
  }

  /** @returns null when there is no such MSR or it cannot be read. */
  readMsr(context: PlaneContext, index: number): bigint | null {
    const value = this.arch.registers.readMsr(context, index, true);
    return typeof value === 'bigint' ? value : null;
  }
  writeMsr(context: PlaneContext, index: number, value: bigint): boolean {
    return this.arch.registers.writeMsr(context, index, value, true) === 'ok';
  }
  /** @param scale - ratio of the plane's counter to machine ticks, 8.32 fixed point; its offset stays. */
  setTscScale(context: PlaneContext, scale: bigint): void {
    const apic = this.arch.apicOf(context);
    apic.timer.settle();
    setReg(this.machine, context, 'tscScale', scale);
    // An armed deadline is a value of the counter: it comes earlier or later now.
    apic.timer.tscChanged();
    apic.port.changed(apic);
  }
  setMsrFilter(filter: MsrFilter | null): void {
    this.arch.registers.setFilter(filter);
  }
  /** @param reasons - KVM_MSR_EXIT_REASON_* bits: refused accesses of the guest that userspace answers. */
  setMsrExits(reasons: number): void {
    this.arch.registers.msrExits = { unknown: (reasons & MsrExitReason.UNKNOWN) !== 0, invalid: (reasons & MsrExitReason.INVAL) !== 0, filter: (reasons & MsrExitReason.FILTER) !== 0 };
  }
  setBusLockExits(on: boolean): void {
    this.arch.registers.busLockExits = on;
  }

  setCpuid(vp: Vp, table: CpuidTable): void {
    this.arch.registers.setTable(vp, table);
  }

  /** Looks a linear address up in the page tables of the plane. */
  translate(context: PlaneContext, linear: bigint): Translation {
    return this.arch.translate(context, linear);
  }

  // Events beside vectors

  isNmiPending(context: PlaneContext): boolean {
    return this.arch.apicOf(context).latches.isPending(ApicEvent.nmi);
  }
  isSmiPending(context: PlaneContext): boolean {
    return this.arch.apicOf(context).latches.isPending(ApicEvent.smi);
  }
  isInitLatched(context: PlaneContext): boolean {
    return this.arch.apicOf(context).latches.isPending(ApicEvent.init);
  }
  setNmiPending(context: PlaneContext, pending: boolean): void {
    this.#setLatch(context, ApicEvent.nmi, pending);
  }
  setSmiPending(context: PlaneContext, pending: boolean): void {
    this.#setLatch(context, ApicEvent.smi, pending);
  }
  #setLatch(context: PlaneContext, event: typeof ApicEvent.nmi | typeof ApicEvent.smi, pending: boolean): void {
    const { latches } = this.arch.apicOf(context);
    if (latches.isPending(event) === pending) return;
    if (pending) latches.raise(event);
    else latches.take(event);
  }

  setWaitForSipi(context: PlaneContext, waits: boolean): void {
    this.arch.apicOf(context).latches.setWaitingForSipi(waits);
  }

  /** @returns as KVM_SIGNAL_MSI: a negative error number, -1 without a destination, else how many APICs took it. */
  signalMsi(plane: number, addressLo: number, addressHi: number, data: number): number {
    return this.arch.fabric.signalMsi(plane, addressLo, addressHi, data, this.hasWideIds);
  }
}
