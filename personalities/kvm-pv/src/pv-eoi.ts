import { AccessResult, type Machine, type PlaneContext } from '@vmplanes/engine';
import { ApicReg, type X86Arch } from '@vmplanes/x86';
import { Msr } from './abi/index.ts';
import type { PvPlane } from './plane-state.ts';

const OFFERED = 1;

/**
 * End of interrupt through memory: while exactly one interrupt is in service and none is requested, a bit in guest memory
 * offers the guest to clear it instead of writing the EOI register.
 * @spec Linux Documentation/virt/kvm/x86/msr.rst MSR_KVM_EOI_EN
 */
export class PvEoi {
  readonly #machine: Machine;
  readonly #arch: X86Arch;

  constructor(machine: Machine, arch: X86Arch) {
    this.#machine = machine;
    this.#arch = arch;
  }

  /** The plane is about to run. */
  entering(context: PlaneContext, p: PvPlane): void {
    this.left(context, p);
    const apic = this.#arch.apicOf(context);
    const vector = apic.highestIsr();
    // A level-triggered interrupt needs the real write: the I/O APIC waits for it.
    if (vector < 0 || apic.highestIrr() >= 0 || apic.block.test(ApicReg.tmr, vector)) return;
    p.eoiOffered = this.#setBit(context, p, OFFERED);
  }

  /** The plane ran: a cleared bit is its EOI, a set one is withdrawn. */
  left(context: PlaneContext, p: PvPlane): void {
    if (!p.eoiOffered) return;
    p.eoiOffered = false;
    const { access, subjects } = this.#machine.memory;
    // Unreadable memory counts as "not ended": the guest can still write the register.
    if (access.readU32(subjects[context.plane]!.call, p.address(Msr.PvEoi)) !== AccessResult.Ok) return;
    if ((access.lo & OFFERED) === 0) this.#arch.apicOf(context).eoi();
    else this.#setBit(context, p, 0);
  }

  #setBit(context: PlaneContext, p: PvPlane, bit: number): boolean {
    const { access, subjects } = this.#machine.memory;
    const { call } = subjects[context.plane]!;
    const gpa = p.address(Msr.PvEoi);
    if (access.readU32(call, gpa) !== AccessResult.Ok) return false;
    return access.writeU32(call, gpa, ((access.lo & ~OFFERED) | bit) >>> 0) === AccessResult.Ok;
  }
}
