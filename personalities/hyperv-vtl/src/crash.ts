import { HvCrashCtlRegContents } from '@vmplanes/abi-hyperv';
import { AccessResult, type ExitPayload, type PlainState, type PlaneContext } from '@vmplanes/engine';
import type { HvContext } from './ports.ts';

/** Crash parameters P0 to P4. @spec TLFS HV_CRASH_CTL_REG_CONTENTS; Linux include/hyperv/hvgdk_mini.h */
export const CRASH_PARAMETERS = 5;
/** Longest message, in bytes. */
const MESSAGE_LIMIT = 4096;
const { crashNotify, crashMessage } = HvCrashCtlRegContents.mask;

/** A guest told that it crashed: what the VMM is given. */
export interface GuestCrashPayload extends ExitPayload {
  readonly kind: 'guestCrash';
  readonly vp: number;
  /** The VTL that wrote the control register. */
  readonly vtl: number;
  readonly parameters: readonly bigint[];
  readonly noCrashDump: boolean;
  /** Which environment crashed before an operating system ran; 0 for an operating system. */
  readonly preOsId: number;
  /** The guest's own words; empty when it gave none or they cannot be read. */
  readonly message: string;
  /** All of this as lines for a terminal or a log. */
  readonly text: string;
}

/** The crash registers: one set for the partition, whichever VTL writes. @spec openvmm openhcl/virt_mshv_vtl/src/processor/mod.rs */
export class CrashRegisters {
  readonly #parameters = new BigUint64Array(CRASH_PARAMETERS);

  constructor(readonly hv: HvContext) {}

  /** What can be notified: a crash, with a message. */
  get control(): bigint {
    return crashNotify | crashMessage;
  }
  parameter(n: number): bigint {
    return this.#parameters[n]!;
  }
  setParameter(n: number, value: bigint): void {
    this.#parameters[n] = value;
  }

  /** @param control - as written. @returns null when it does not notify of a crash. */
  notification(context: PlaneContext, control: bigint): GuestCrashPayload | null {
    if ((control & crashNotify) === 0n) return null;
    const { preOsId, noCrashDump } = HvCrashCtlRegContents.unpack(control);
    const parameters = [...this.#parameters];
    const message = (control & crashMessage) === 0n ? '' : this.#message(context);
    const vp: number = context.vp.index;
    const vtl: number = context.plane;
    const text = [
      `guest crash reported by VTL${vtl} of VP ${vp}${preOsId === 0 ? '' : `, before the operating system (environment ${preOsId})`}${noCrashDump ? ', without a dump' : ''}`,
      ...parameters.map((p, n) => `  P${n} 0x${p.toString(16).padStart(16, '0')}`),
      ...(message === '' ? [] : message.split(/\r?\n/).map((line) => `  | ${line}`)),
    ].join('\n');
    return { kind: 'guestCrash', vp, vtl, parameters, noCrashDump, preOsId, message, text };
  }

  /** P3 is the address and P4 the length of a text, read as the reporting VTL would read it. */
  #message(context: PlaneContext): string {
    const address = this.#parameters[3]!;
    const length = Number(this.#parameters[4]! < MESSAGE_LIMIT ? this.#parameters[4]! : MESSAGE_LIMIT);
    if (address >= 2n ** 52n) return '';
    const bytes = new Uint8Array(length);
    const { access, subjects } = this.hv.machine.memory;
    if (access.read(subjects[context.plane]!.call, Number(address), bytes, 0, length) !== AccessResult.Ok) return '';
    const end = bytes.indexOf(0);
    // Control characters of a guest have no business on a terminal.
    return Array.from(end < 0 ? bytes : bytes.subarray(0, end), (b) => (b === 10 || (b >= 32 && b < 127) ? String.fromCharCode(b) : b === 13 ? '' : '.')).join('');
  }

  reset(): void {
    this.#parameters.fill(0n);
  }
  save(): PlainState {
    return this.#parameters.slice();
  }
  restore(state: PlainState): void {
    this.#parameters.set(state as BigUint64Array);
  }
}
