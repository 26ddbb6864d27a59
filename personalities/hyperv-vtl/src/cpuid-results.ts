import { type HvCall, HvInterceptType, HvRegisterX64CpuidResultParameters, HvStatus } from '@vmplanes/abi-hyperv';
import type { PlainState, PlaneContext } from '@vmplanes/engine';
import type { SimpleHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';
import { foreignStatus, isSelf } from './input-vtl.ts';

const { Success, AccessDenied, InvalidParameter, InvalidVpIndex, NotFound } = HvStatus;
const HV_VP_INDEX_SELF = 0xffff_fffe;
const HV_ANY_VP = 0xffff_ffff;
const at = HvRegisterX64CpuidResultParameters.at;

/** One registered result: which leaf, and value and mask of each register. */
interface CpuidResult {
  /** VP it is for; -1 for all. */
  readonly vp: number;
  /** VTL that registered it, for those below. */
  readonly by: number;
  readonly leaf: number;
  /** -1 for any. */
  readonly subleaf: number;
  /** Value and mask of EAX, EBX, ECX, EDX. */
  readonly words: readonly number[];
}

/** Results of CPUID that a higher VTL gives to those below it. @spec TLFS HvCallRegisterInterceptResult */
export class CpuidResults {
  #rows: CpuidResult[] = [];

  get isEmpty(): boolean {
    return this.#rows.length === 0;
  }

  /** Replaces a result of the same VTL for the same leaf, sub-leaf and VP. */
  register(row: CpuidResult): void {
    this.unregister(row);
    this.#rows.push(row);
  }
  /** @returns whether there was one. */
  unregister({ vp, by, leaf, subleaf }: Pick<CpuidResult, 'vp' | 'by' | 'leaf' | 'subleaf'>): boolean {
    const before = this.#rows.length;
    this.#rows = this.#rows.filter((r) => r.vp !== vp || r.by !== by || r.leaf !== leaf || r.subleaf !== subleaf);
    return this.#rows.length !== before;
  }

  /** Puts registered bits into what CPUID would say. @param out - EAX, EBX, ECX, EDX. */
  apply({ vp, plane }: PlaneContext, leaf: number, subleaf: number, out: Uint32Array): void {
    for (const row of this.#rows) {
      if (row.by <= plane || row.leaf !== leaf || (row.vp >= 0 && row.vp !== vp.index) || (row.subleaf >= 0 && row.subleaf !== subleaf)) continue;
      for (let i = 0; i < 4; i++) {
        const mask = row.words[2 * i + 1]!;
        out[i] = (out[i]! & ~mask) | (row.words[2 * i]! & mask);
      }
    }
  }

  reset(): void {
    this.#rows = [];
  }
  save(): PlainState {
    return this.#rows.map((r) => ({ ...r, words: [...r.words] }));
  }
  restore(state: PlainState): void {
    this.#rows = (state as readonly CpuidResult[]).map((r) => ({ ...r, words: [...r.words] }));
  }
}

interface ResultInput {
  readonly partitionIdLo: number;
  readonly partitionIdHi: number;
  readonly vpIndex: number;
  readonly interceptType: number;
  readonly parametersAt: number;
}

/** Reads the operands; a status when they are not valid. */
const resultOf = (call: CallFrame, input: ResultInput): CpuidResult | number => {
  if (!isSelf(input.partitionIdLo, input.partitionIdHi)) return foreignStatus(call);
  if (call.vtl === 0) return AccessDenied;
  const { vpIndex } = input;
  const vp = vpIndex === HV_ANY_VP ? -1 : vpIndex === HV_VP_INDEX_SELF ? call.vp.index : vpIndex;
  if (vp >= call.hv.machine.vps.length) return InvalidVpIndex;
  if (input.interceptType !== HvInterceptType.X64Cpuid) return InvalidParameter;
  const { words, bytes } = call.input;
  const first = input.parametersAt;
  const isSpecific = bytes[first + at.subleafSpecific]!;
  const always = bytes[first + at.alwaysOverride]!;
  if (isSpecific > 1 || always > 1) return InvalidParameter;
  const word = (offset: number): number => words[(first + offset) >>> 2]!;
  return { vp, by: call.vtl, leaf: word(at.inputEax), subleaf: isSpecific === 1 ? word(at.inputEcx) : -1, words: [at.eax, at.eaxMask, at.ebx, at.ebxMask, at.ecx, at.ecxMask, at.edx, at.edxMask].map(word) };
};

/** @spec TLFS HvCallRegisterInterceptResult (CPUID form) */
export const registerInterceptResult: SimpleHandler<typeof HvCall.RegisterInterceptResult> = (call, input) => {
  const result = resultOf(call, input);
  if (typeof result === 'number') return result;
  call.hv.chapters.cpuid.results.register(result);
  return Success;
};

/** @spec TLFS HvCallUnregisterInterceptResult (CPUID form) */
export const unregisterInterceptResult: SimpleHandler<typeof HvCall.UnregisterInterceptResult> = (call, input) => {
  const result = resultOf(call, input);
  if (typeof result === 'number') return result;
  return call.hv.chapters.cpuid.results.unregister(result) ? Success : NotFound;
};
