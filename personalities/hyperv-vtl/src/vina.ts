import { HvRegisterVsmVina, HvStatus, HvVinaStatus, HvVpAssistPage, HvVpVtlControl } from '@vmplanes/abi-hyperv';
import { Activity, MAX_PLANES, MAX_VPS, type PlainRecord, type PlainState, type PlaneContext, type Vp } from '@vmplanes/engine';
import type { HvContext, Vina } from './ports.ts';

const STATUS = HvVpAssistPage.at.vtlControl + HvVpVtlControl.at.vinaStatus;
const ASSERTED = HvVinaStatus.mask.vinaAsserted;
const { vector: VECTOR, enabled: ENABLED, autoReset: AUTO_RESET, autoEoi: AUTO_EOI } = HvRegisterVsmVina.mask;
const FIRST_VECTOR = 16n;

/**
 * Virtual interrupt notification assist: a VTL that runs is told once, by an interrupt, that a lower one has an interrupt that it would
 * take at once. The asserted flag lies in the assist page, where the guest clears it with a plain store; so it is looked at in every turn.
 * @spec TLFS Virtual Secure Mode, VINA
 */
export class VinaChapter implements Vina {
  readonly stateName = 'vina';
  /** By VP index * 16 + VTL. */
  readonly #registers = new BigUint64Array(MAX_VPS * MAX_PLANES);
  /** Derived: the register's enable bit, for the test in every turn. */
  readonly #enabled = new Uint8Array(MAX_VPS * MAX_PLANES);

  constructor(readonly hv: HvContext) {}

  read(vp: Vp, vtl: number): bigint {
    return this.#registers[vp.index * MAX_PLANES + vtl]!;
  }

  /** VTL0 has nothing below it, and no interrupt has a vector below 16. */
  write(vp: Vp, vtl: number, value: bigint): number {
    if (vtl === 0) return HvStatus.InvalidParameter;
    if ((value & ENABLED) !== 0n && (value & VECTOR) < FIRST_VECTOR) return HvStatus.InvalidRegisterValue;
    const at = vp.index * MAX_PLANES + vtl;
    this.#registers[at] = value;
    this.#enabled[at] = (value & ENABLED) !== 0n ? 1 : 0;
    return HvStatus.Success;
  }

  evaluate(context: PlaneContext): void {
    const at = context.vp.index * MAX_PLANES + context.plane;
    if (this.#enabled[at] === 0 || this.isAsserted(context) || !this.#isLowerReady(context)) return;
    const { assist, synic } = this.hv.chapters;
    assist.writeU32(context, STATUS, assist.readU32(context, STATUS) | ASSERTED);
    const register = this.#registers[at]!;
    this.hv.machine.hooks.trace?.note(context, 'hv-vina', { name: 'asserted', vector: Number(register & VECTOR) });
    synic.raise(context, Number(register & VECTOR), (register & AUTO_EOI) !== 0n);
  }

  isAsserted(context: PlaneContext): boolean {
    return (this.hv.chapters.assist.readU32(context, STATUS) & ASSERTED) !== 0;
  }

  /** A lower VTL would take an interrupt at once if it ran: above its priority, with its interrupt flag set and no shadow. */
  #isLowerReady({ vp, plane }: PlaneContext): boolean {
    for (let vtl = plane - 1; vtl >= 0; vtl--) {
      const lower = vp.planes[vtl];
      if (lower && lower.activity !== Activity.WaitForSipi && lower.events.wakes()) return true;
    }
    return false;
  }

  entered(context: PlaneContext): void {
    if (this.hv.options.vinaAutoReset === 'entry') this.#reset(context);
  }
  left(context: PlaneContext): void {
    if (this.hv.options.vinaAutoReset === 'return') this.#reset(context);
  }
  #reset(context: PlaneContext): void {
    const at = context.vp.index * MAX_PLANES + context.plane;
    if (this.#enabled[at] === 0 || (this.#registers[at]! & AUTO_RESET) === 0n) return;
    const { assist } = this.hv.chapters;
    assist.writeU32(context, STATUS, assist.readU32(context, STATUS) & ~ASSERTED);
  }

  reset(): void {
    this.#registers.fill(0n);
    this.#enabled.fill(0);
  }
  save(): PlainState {
    return { registers: this.#registers.slice() };
  }
  restore(state: PlainState): void {
    this.#registers.set((state as PlainRecord)['registers'] as BigUint64Array);
    this.#registers.forEach((value, at) => (this.#enabled[at] = (value & ENABLED) !== 0n ? 1 : 0));
  }
}
