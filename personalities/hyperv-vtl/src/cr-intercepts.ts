import { HvRegister, HvRegisterCrInterceptControl, HvRegisterVsmPartitionConfig } from '@vmplanes/abi-hyperv';
import { AccessResult, type Answer, type MemoryFaultExit, PAGE_SIZE, type PlaneContext } from '@vmplanes/engine';
import { type CpuidExit, type IoExit, type MsrExit, readRegister, RegisterKey, type RegisterExit, X86 } from '@vmplanes/x86';
import type { CpuidDefaults } from './intercept-messages.ts';
import type { CrIntercepts, HvContext } from './ports.ts';

const GENERAL_PROTECTION = 13;
const MACHINE_CHECK = 18;
const bit = ((): { readonly [K in keyof typeof HvRegisterCrInterceptControl.mask]: number } =>
  Object.fromEntries(Object.entries(HvRegisterCrInterceptControl.mask).map(([name, mask]) => [name, Number(mask)])) as { [K in keyof typeof HvRegisterCrInterceptControl.mask]: number })();
const { interceptCpuidUnimplemented: CPUID_UNIMPLEMENTED, interceptUnrecoverableException: UNRECOVERABLE } = HvRegisterVsmPartitionConfig.mask;

/** MSRs whose accesses a VTL above may intercept: bits of the control register for reads and writes, 0 where there is none. @spec TLFS HV_REGISTER_CR_INTERCEPT_CONTROL */
const msrRows: readonly (readonly [index: number, read: number, write: number])[] = [
  [0x1b, bit.msrApicBaseRead, bit.msrApicBaseWrite],
  [0x8c, 0, bit.msrSgxLaunchControlWrite],
  [0x8d, 0, bit.msrSgxLaunchControlWrite],
  [0x8e, 0, bit.msrSgxLaunchControlWrite],
  [0x8f, 0, bit.msrSgxLaunchControlWrite],
  [0x174, 0, bit.msrSysenterCsWrite],
  [0x175, 0, bit.msrSysenterEspWrite],
  [0x176, 0, bit.msrSysenterEipWrite],
  [0x1a0, bit.ia32MiscEnableRead, bit.ia32MiscEnableWrite],
  [0x6a2, 0, bit.msrScetWrite],
  [0x6a4, 0, bit.msrPlsSspWrite],
  [0x6a5, 0, bit.msrPlsSspWrite],
  [0x6a6, 0, bit.msrPlsSspWrite],
  [0x6a8, 0, bit.msrInterruptSspTableAddrWrite],
  [0xda0, 0, bit.msrXssWrite],
  [0xc000_0080, bit.msrEferRead, bit.msrEferWrite],
  [0xc000_0081, bit.msrStarRead, bit.msrStarWrite],
  [0xc000_0082, bit.msrLstarRead, bit.msrLstarWrite],
  [0xc000_0083, bit.msrCstarRead, bit.msrCstarWrite],
  [0xc000_0084, 0, bit.msrSfmaskWrite],
  [0xc000_0103, 0, bit.msrTscAuxWrite],
];
const MISC_ENABLE = 0x1a0;
const msrBits = new Map(msrRows.map(([index, read, write]) => [index, { read, write }]));

/** Architectural MSRs whose accesses a higher VTL may intercept. */
export const interceptedMsrs: readonly number[] = msrRows.map(([index]) => index);

/** Registers whose writes may be intercepted: control bit, name in the message, and whether the operand is in memory. @spec TLFS HV_REGISTER_CR_INTERCEPT_CONTROL */
const registerRows: ReadonlyMap<number, { readonly control: number; readonly name: number; readonly inMemory: boolean }> = new Map([
  [RegisterKey.Cr0, { control: bit.cr0Write, name: HvRegister.Cr0, inMemory: false }],
  [RegisterKey.Cr4, { control: bit.cr4Write, name: HvRegister.Cr4, inMemory: false }],
  [RegisterKey.Xcr0, { control: bit.xcr0Write, name: HvRegister.Xfem, inMemory: false }],
  [RegisterKey.Gdtr, { control: bit.gdtrWrite, name: HvRegister.Gdtr, inMemory: true }],
  [RegisterKey.Idtr, { control: bit.idtrWrite, name: HvRegister.Idtr, inMemory: true }],
  [RegisterKey.Ldtr, { control: bit.ldtrWrite, name: HvRegister.Ldtr, inMemory: false }],
  [RegisterKey.Tr, { control: bit.trWrite, name: HvRegister.Tr, inMemory: false }],
]);

const join = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

/**
 * Accesses of a VTL to processor state, ports and memory that a higher VTL has taken an interest in. Each answers an exit, or null when nobody has:
 * the access is then made as usual. An intercepted access is not made, and its instruction is not done.
 * @spec TLFS Virtual Secure Mode, secure interception
 */
export class ArchitecturalIntercepts {
  constructor(readonly hv: HvContext) {}

  /** The nearest VTL above whose instance wants the access; -1 when none does. */
  #owner({ vp, plane }: PlaneContext, control: number, wants: (of: CrIntercepts) => boolean): number {
    const { vsm } = this.hv.chapters;
    for (let vtl = vsm.above(vp, plane); vtl >= 0; vtl = vsm.above(vp, vtl)) {
      const instance = vsm.crIntercepts(vp, vtl);
      if ((instance.control & control) !== 0 && wants(instance)) return vtl;
    }
    return -1;
  }
  readonly #always = (): boolean => true;

  /** The old value, from the block that holds the VP's. */
  #cell(context: PlaneContext, name: 'cr0' | 'cr4' | 'miscEnable'): bigint {
    return readRegister(this.hv.machine.arena, context.base, name);
  }

  msr(context: PlaneContext, exit: MsrExit): Answer | null {
    const row = msrBits.get(exit.key);
    const control = row === undefined ? 0 : exit.write ? row.write : row.read;
    if (control === 0 || this.hv.chapters.vsm.above(context.vp, context.plane) < 0) return null;
    let wants: (of: CrIntercepts) => boolean = this.#always;
    if (exit.write && exit.key === MISC_ENABLE) {
      const changed = this.#cell(context, 'miscEnable') ^ join(exit.lo, exit.hi);
      wants = ({ miscEnableMask }) => (changed & miscEnableMask) !== 0n;
    }
    const owner = this.#owner(context, control, wants);
    if (owner < 0) return null;
    const { intercepts } = this.hv.chapters;
    return intercepts.deliver(context, owner, intercepts.messages.msr(context, exit.key, exit.write, exit.lo, exit.hi));
  }

  register(context: PlaneContext, exit: RegisterExit): Answer | null {
    const row = exit.write ? registerRows.get(exit.key) : undefined;
    if (row === undefined || this.hv.chapters.vsm.above(context.vp, context.plane) < 0) return null;
    let wants: (of: CrIntercepts) => boolean = this.#always;
    if (exit.key === RegisterKey.Cr0 || exit.key === RegisterKey.Cr4) {
      // Only a change of a bit of the mask: with the mask of reset, none.
      const isCr0 = exit.key === RegisterKey.Cr0;
      const changed = this.#cell(context, isCr0 ? 'cr0' : 'cr4') ^ join(exit.lo, exit.hi);
      wants = ({ cr0Mask, cr4Mask }) => (changed & (isCr0 ? cr0Mask : cr4Mask)) !== 0n;
    }
    const owner = this.#owner(context, row.control, wants);
    if (owner < 0) return null;
    const { intercepts } = this.hv.chapters;
    return intercepts.deliver(context, owner, intercepts.messages.register(context, row.name, row.inMemory, exit.lo, exit.hi));
  }

  io(context: PlaneContext, exit: IoExit): Answer | null {
    const { intercepts, ioIntercepts } = this.hv.chapters;
    const owner = ioIntercepts.ownerOf(context.plane, exit.key, exit.size, exit.write);
    return owner < 0 ? null : intercepts.deliver(context, owner, intercepts.messages.io(context, exit.key, exit.size, exit.write, exit.value));
  }

  /** A leaf of the interface that is not implemented. @param result - what it would give. */
  cpuid(context: PlaneContext, exit: CpuidExit, result: CpuidDefaults): Answer | null {
    const owner = this.#configured(context, CPUID_UNIMPLEMENTED);
    const { intercepts } = this.hv.chapters;
    return owner < 0 ? null : intercepts.deliver(context, owner, intercepts.messages.cpuid(context, exit.key, exit.subleaf, result));
  }

  /** A leaf that a VTL above has installed an intercept for. */
  leaf(context: PlaneContext, exit: CpuidExit): Answer | null {
    const { intercepts, processorIntercepts, cpuid } = this.hv.chapters;
    const owner = processorIntercepts.ownerOfLeaf(context.plane, exit.key);
    if (owner < 0) return null;
    const [eax, ebx, ecx, edx] = cpuid.resultOf(context, exit);
    return intercepts.deliver(context, owner, intercepts.messages.cpuid(context, exit.key, exit.subleaf, { eax: eax!, ebx: ebx!, ecx: ecx!, edx: edx! }));
  }

  /** An exception that is about to be delivered. It is dropped when a VTL above is told: that one may raise it again, or its cause does. */
  exception(context: PlaneContext, vector: number): Answer | null {
    const { intercepts, processorIntercepts } = this.hv.chapters;
    const owner = processorIntercepts.ownerOfException(context.plane, vector);
    if (owner < 0) return null;
    const { arena } = this.hv.machine;
    const word = (cell: number): number => arena.u32[(context.base + cell) >>> 2]!;
    const errorCode = word(X86['exception.hasErrorCode']) !== 0 ? word(X86['exception.errorCode']) : null;
    const isDue = word(X86['exception.state']);
    // Its delivery has not begun: no interruption is pending.
    arena.u32[(context.base + X86['exception.state']) >>> 2] = 0;
    const answer = intercepts.deliver(context, owner, intercepts.messages.exception(context, vector, errorCode, word(X86['exception.payload']), word(X86['exception.payload'] + 4)));
    if (answer.kind !== 'fault') return answer;
    // Nobody can be told: it is delivered.
    arena.u32[(context.base + X86['exception.state']) >>> 2] = isDue;
    return null;
  }

  #configured({ vp, plane }: PlaneContext, config: bigint): number {
    const { vsm } = this.hv.chapters;
    let vtl = vsm.above(vp, plane);
    while (vtl >= 0 && (vsm.partitionConfig(vtl) & config) === 0n) vtl = vsm.above(vp, vtl);
    return vtl;
  }

  /** @returns null when the access is for whoever made the memory. */
  memory(context: PlaneContext, { info }: MemoryFaultExit): Answer | null {
    const { intercepts, protections } = this.hv.chapters;
    // An overlay allows what its kind allows; no VTL protects it.
    if (info.result === AccessResult.OverlayRefused) return this.hv.options.hypercallPageWrite === 'gp' ? context.vp.replies.fault(GENERAL_PROTECTION, 0) : context.vp.replies.fault(MACHINE_CHECK);
    if (info.result !== AccessResult.Denied) return null;
    const owner = protections.deniedBy(context.plane, Math.floor(info.gpa / PAGE_SIZE), info.missing);
    return owner < 0 ? null : intercepts.deliver(context, owner, intercepts.messages.memory(context, info));
  }

  /** A triple fault: told to a VTL that asked for it, else the partition is reset. */
  shutdown(context: PlaneContext): Answer {
    const owner = this.#configured(context, UNRECOVERABLE);
    const { intercepts } = this.hv.chapters;
    return owner < 0 ? this.hv.resetPartition(context) : intercepts.deliver(context, owner, intercepts.messages.unrecoverable(context));
  }
}
