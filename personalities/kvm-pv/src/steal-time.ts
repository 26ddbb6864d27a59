import { Activity, type Machine, type PlaneContext, Schedule } from '@vmplanes/engine';
import { Msr, StealTime } from './abi/index.ts';
import type { PvClock } from './clock.ts';
import { Live, type PvPlane } from './plane-state.ts';

/**
 * Time a plane was ready to run while another plane of its virtual processor ran. A plane that halts, waits or was left of its own
 * accord is not ready: nothing is stolen from it.
 * @spec Linux Documentation/virt/kvm/x86/msr.rst MSR_KVM_STEAL_TIME
 */
export class StealClock {
  readonly #machine: Machine;
  readonly #clock: PvClock;

  constructor(machine: Machine, clock: PvClock) {
    this.#machine = machine;
    this.#clock = clock;
  }

  /**
   * A plane of this VP is about to run: the others that are ready start losing time, this one stops.
   * @param planes - states of all planes of the machine; those of this VP begin at `first`.
   */
  entering(context: PlaneContext, planes: readonly (PvPlane | undefined)[], first: number): void {
    const { vp } = context;
    const now = this.#machine.timeOf(vp);
    for (let plane = 0; plane < vp.planes.length; plane++) {
      const other = vp.planes[plane];
      const p = planes[first + plane];
      if (!other || !p || (p.live & Live.Steal) === 0) continue;
      const waits = other !== context && other.schedule === Schedule.Runnable && other.activity === Activity.Running;
      if (waits === p.preemptedSince >= 0) continue;
      if (waits) p.preemptedSince = now;
      else {
        p.stolen += now - p.preemptedSince;
        p.preemptedSince = -1;
      }
      p.stealStale = true;
      // A plane's memory is written when that plane runs or just ran: with its rights, in its time.
      this.#update(other, p);
    }
    const own = planes[first + context.plane];
    if (own && (own.live & Live.Steal) !== 0 && own.stealStale) this.#update(context, own);
  }

  #update(context: PlaneContext, p: PvPlane): void {
    StealTime.write(this.#clock.buffer, 0, { steal: BigInt(this.#machine.nanoseconds(p.stolen)), version: 0, flags: 0, preempted: p.preemptedSince >= 0 ? 1 : 0 });
    // The 44 reserved bytes behind belong to the guest's zeroes.
    p.stealStale = !this.#clock.publish(context, p.address(Msr.StealTime), StealTime.at.version, StealTime.at.reserved14, 'stealtime:odd');
  }
}
