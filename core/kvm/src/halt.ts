import { Activity, type Answer, type Claim, type ExitPayload, type Personality, type PlainState, type PlaneContext } from '@vmplanes/engine';
import type { KvmVm } from './vm.ts';

/** A halted vCPU whose wake-ups userspace has to see to, since no local APIC in the kernel can. */
export interface HaltPayload extends ExitPayload {
  readonly kind: 'hlt';
}
const payload: HaltPayload = { kind: 'hlt' };

/** What HLT does: with a local APIC in the kernel the vCPU sleeps there, without one userspace is told. @spec Linux Documentation/virt/kvm/api.rst KVM_EXIT_HLT */
export class HaltAnswers implements Personality {
  readonly name = 'kvm.halt';
  readonly stateName = 'kvm.halt';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'halt', from: 0, to: 0 }];
  readonly #vm: KvmVm;

  constructor(vm: KvmVm) {
    this.#vm = vm;
  }

  handle(context: PlaneContext): Answer {
    const { vp } = context;
    if (!this.#vm.hasKernelApic) return vp.replies.exit(payload);
    context.activity = Activity.Halted;
    vp.statistics.halts++;
    this.#vm.machine.eventsChanged(context);
    return vp.replies.resume();
  }

  save(): PlainState {
    return null;
  }
  restore(): void {
    // Nothing is kept here: activity belongs to the plane, the irqchip to the VM.
  }
}
