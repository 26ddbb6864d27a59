import { type Answer, type Claim, type CpuExit, type Machine, type MemoryFaultExit, PAGE_SIZE, type Personality, type PlainState, type PlaneContext, type PlaneMeaning, Right } from '@vmplanes/engine';
import { CallKind, DeliveryMode, encodeMessage, type MsrExit, readLow, writePair, X86, type X86Exit } from '@vmplanes/x86';
import { Call, LEAF, Msr, SIGNATURE, Status } from './abi.ts';

const GENERAL_PROTECTION = 13;

/** What planes mean here: a higher one rules those below it, and all work on the same general registers. */
export const meaning = (names: readonly string[]): PlaneMeaning => ({
  sharing: { shared: ['gpr', 'fpu'], except: ['rsp'] },
  dominates: (a, b) => a > b,
  planeName: (plane) => names[plane] ?? `plane ${plane}`,
});

/** A call either has a status, or enters another plane. */
type Outcome = number | Answer;

/** The example interface in one machine: one table of calls, two MSRs, one leaf, and what happens to a refused access. */
export class ExamplePersonality implements Personality {
  readonly name = 'example';
  readonly stateName = 'example';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [
    { exit: 'call', from: CallKind.Vmcall, to: CallKind.Vmcall },
    { exit: 'msr', from: Msr.CallCount, to: Msr.Refused },
    { exit: 'cpuid', from: LEAF, to: LEAF },
    { exit: 'memoryFault', from: 0, to: 0 },
  ];
  readonly #machine: Machine;
  /** Calls made and address refused last, by VP index * 16 + plane. */
  readonly #callCount = new Float64Array(64 * 16);
  readonly #refused = new Float64Array(64 * 16);

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** The calls: what each one does to the plane that made it. */
  readonly #calls: Readonly<Record<number, (context: PlaneContext) => Outcome>> = {
    [Call.CallNext]: (context) => this.#enter(context, context.plane + 1, 'call', 'runnable'),
    [Call.Return]: (context) => this.#enter(context, context.plane - 1, 'return', 'stopped'),
    [Call.Protect]: (context) => this.#protect(context),
    [Call.SendIpi]: (context) => this.#sendIpi(context),
    [Call.WhoAmI]: (context) => {
      this.#set(context, X86.rbx, context.plane);
      return Status.Ok;
    },
  };

  handle(context: PlaneContext, exit: CpuExit): Answer {
    const e = exit as X86Exit;
    switch (e.kind) {
      case 'call':
        return this.#call(context);
      case 'msr':
        return this.#msr(context, e);
      case 'memoryFault':
        return this.#refuse(context, e);
      default:
        return this.#cpuid(context);
    }
  }

  #call(context: PlaneContext): Answer {
    const { replies } = context.vp;
    const nr = this.#get(context, X86.rax);
    this.#callCount[at(context)]!++;
    const outcome = this.#calls[nr]?.(context) ?? Status.BadCall;
    if (typeof outcome !== 'number') return outcome;
    this.#machine.hooks.trace?.note(context, 'example-call', { nr, status: outcome });
    this.#set(context, X86.rax, outcome);
    return replies.resume();
  }

  #enter(context: PlaneContext, plane: number, reason: string, leave: 'runnable' | 'stopped'): Outcome {
    if (!context.vp.planes[plane]) return Status.BadPlane;
    this.#set(context, X86.rax, Status.Ok);
    return context.vp.replies.switchTo(plane, reason, leave);
  }

  #protect(context: PlaneContext): Outcome {
    const [address, bits, plane] = this.#arguments(context);
    const table = this.#machine.memory.permissions[plane];
    if (!table) return Status.BadPlane;
    if (!this.#machine.meaning.dominates(context.plane, plane)) return Status.Denied;
    if (address % PAGE_SIZE) return Status.BadAddress;
    const rights = (bits & 1 ? Right.Read : 0) | (bits & 2 ? Right.Write : 0) | (bits & 4 ? Right.ExecSupervisor | Right.ExecUser : 0);
    table.set(address / PAGE_SIZE, 1, rights);
    return Status.Ok;
  }

  #sendIpi(context: PlaneContext): Outcome {
    const [vp, vector, plane] = this.#arguments(context);
    if (vector < 16 || vector > 255) return Status.BadVector;
    if (plane !== context.plane && !this.#machine.meaning.dominates(context.plane, plane)) return Status.Denied;
    if (!this.#machine.vps[vp]?.planes[plane]) return Status.BadPlane;
    this.#machine.send(vp, plane, encodeMessage(DeliveryMode.fixed, vector, true, false), 0);
    return Status.Ok;
  }

  #msr(context: PlaneContext, exit: MsrExit): Answer {
    const { replies } = context.vp;
    if (exit.write) return replies.fault(GENERAL_PROTECTION, 0);
    const value = (exit.key === Msr.CallCount ? this.#callCount : this.#refused)[at(context)]!;
    this.#set(context, X86.rax, value % 2 ** 32);
    this.#set(context, X86.rdx, Math.floor(value / 2 ** 32));
    return replies.resume();
  }

  /** An access that a plane above has forbidden enters that plane; the instruction has no effect. At the top it is a fault. */
  #refuse(context: PlaneContext, { info }: MemoryFaultExit): Answer {
    const above = context.vp.planes[context.plane + 1];
    if (!above) return context.vp.replies.fault(GENERAL_PROTECTION, 0);
    this.#refused[at(above)] = info.gpa;
    return context.vp.replies.switchTo(above.plane, 'refused access', 'runnable');
  }

  #cpuid(context: PlaneContext): Answer {
    this.#set(context, X86.rax, this.#machine.options.maxPlanes);
    [X86.rbx, X86.rcx, X86.rdx].forEach((register, i) => this.#set(context, register, ascii(SIGNATURE[i]!)));
    return context.vp.replies.resume();
  }

  // -- registers and state -------------------------------------------------------------------------------------------

  #get(context: PlaneContext, register: number): number {
    return readLow(this.#machine.arena, context.base, register);
  }
  #set(context: PlaneContext, register: number, value: number): void {
    writePair(this.#machine.arena, context.base, register, value, 0);
  }
  #arguments(context: PlaneContext): readonly [number, number, number] {
    return [this.#get(context, X86.rbx), this.#get(context, X86.rcx), this.#get(context, X86.rdx)];
  }

  save(): PlainState {
    return { callCount: this.#callCount.slice(), refused: this.#refused.slice() };
  }
  restore(state: PlainState): void {
    const saved = state as { readonly callCount: Float64Array; readonly refused: Float64Array };
    this.#callCount.set(saved.callCount);
    this.#refused.set(saved.refused);
  }
}

const at = (context: PlaneContext): number => context.vp.index * 16 + context.plane;
const ascii = (four: string): number => four.split('').reduce((word, c, i) => word + c.charCodeAt(0) * 2 ** (8 * i), 0);
