import { Activity, type Machine, type PlaneContext } from '@vmplanes/engine';
import { DeliveryMode, encodeMessage, icrIsAssert, icrIsLevel, icrMode, icrVector, type X86Arch } from '@vmplanes/x86';
import { Status } from './abi/index.ts';
import type { PvPlane } from './plane-state.ts';

/** Logical destination and shorthand: the bitmap says who is meant. */
const ICR_FORBIDDEN = 0x0800 | 0x000c_0000;

/** Interrupts and kicks between processors. Both act inside the plane of the caller: an id names that plane's local APIC. */
export class PvIpi {
  readonly #machine: Machine;
  readonly #arch: X86Arch;

  constructor(machine: Machine, arch: X86Arch) {
    this.#machine = machine;
    this.#arch = arch;
  }

  /** The context of the caller's plane whose local APIC has this id. */
  #target(plane: number, id: number): PlaneContext | null {
    for (const vp of this.#machine.vps) {
      const context = vp.planes[plane];
      if (context && this.#arch.apicOf(context).id === id) return context;
    }
    return null;
  }

  /**
   * Sends one interrupt to a set of processors.
   * @param words - the four arguments as (low, high): two sets of ids, the first id, the interrupt command.
   * @param wide - each set has 64 bits; 32 in a caller outside of 64-bit mode.
   * @returns how many local APICs took it, or a status.
   * @spec Linux Documentation/virt/kvm/x86/hypercalls.rst KVM_HC_SEND_IPI
   */
  send(context: PlaneContext, words: Uint32Array, wide: boolean): number {
    const first = words[4]!;
    const icr = words[6]!;
    if ((icr & ICR_FORBIDDEN) !== 0) return Status.Einval;
    if (!wide) return this.#sendWord(context, words[0]!, first, icr) + this.#sendWord(context, words[2]!, first + 32, icr);
    let count = 0;
    for (let w = 0; w < 4; w++) count += this.#sendWord(context, words[w]!, first + 32 * w, icr);
    return count;
  }

  #sendWord(context: PlaneContext, ids: number, first: number, icr: number): number {
    let count = 0;
    for (let bit = 0; bit < 32; bit++) if (((ids >>> bit) & 1) !== 0) count += this.#deliver(context, first + bit, icr);
    return count;
  }

  #deliver(sender: PlaneContext, id: number, icr: number): number {
    const target = this.#target(sender.plane, id);
    if (!target) return 0;
    const mode = icrMode(icr);
    // Sent in any case: the APIC keeps the account of what it refuses.
    this.#machine.send(target.vp.index, target.plane, encodeMessage(mode, icrVector(icr), icrIsAssert(icr), icrIsLevel(icr)), 0);
    switch (mode) {
      case DeliveryMode.fixed:
      case DeliveryMode.lowestPriority:
        return this.#arch.apicOf(target).isSoftwareEnabled && icrVector(icr) >= 16 ? 1 : 0;
      case DeliveryMode.reserved:
      case DeliveryMode.extInt:
        return 0;
      default:
        return 1;
    }
  }

  /**
   * Ends the halt of a processor, now or the next one.
   * @param of - state of the target, by context.
   * @spec Linux Documentation/virt/kvm/x86/hypercalls.rst KVM_HC_KICK_CPU
   */
  kick(context: PlaneContext, id: number, of: (context: PlaneContext) => PvPlane): number {
    const target = this.#target(context.plane, id);
    if (!target) return Status.Ok;
    if (target.activity !== Activity.Halted) of(target).kicked = true;
    else {
      target.activity = Activity.Running;
      target.vp.statistics.wakes++;
      this.#machine.eventsChanged(target);
    }
    return Status.Ok;
  }
}
