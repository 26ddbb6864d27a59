import type { Answer, Completion, CpuExit, Personality, PlaneContext } from '@vmplanes/engine';
import { X86, X86ExitRecords } from '@vmplanes/x86';
import type { SnpContext } from '../ports.ts';
import { type GhcbFrame, Word } from './frame.ts';

/** Cells of a register block in the order of {@link Word}. */
const CELLS = [X86.rax, X86.rcx, X86.rdx, X86.rbx, X86.rsi, X86.rdi, X86.r8, X86.xcr0].map((cell) => cell >>> 2);
const CPL = X86.cpl >>> 2;
const XCR0 = Word.xcr0 >>> 1;
const RESULT_WORDS = Word.rsi;
const exception = { state: X86['exception.state'] >>> 2, vector: X86['exception.vector'] >>> 2, hasErrorCode: X86['exception.hasErrorCode'] >>> 2, errorCode: X86['exception.errorCode'] >>> 2 } as const;

/** What is lent to one handler of one VP. */
class Lent {
  readonly cells = new Uint32Array(2 * CELLS.length);
  cpl = 0;
}

/**
 * Lets whoever answers an exit of other guests answer it for one whose registers the host does not see: the operands of its page stand in the register
 * block meanwhile, the results go back to the frame, and the guest's own registers stay what they are.
 */
export class OnBehalf {
  readonly #snp: SnpContext;
  readonly #name: string;
  #own: Personality | null = null;
  /** By VP. */
  readonly #lent: Lent[] = [];
  readonly #records: X86ExitRecords[] = [];

  /** @param name - of the personality whose claims cover those of the others. */
  constructor(snp: SnpContext, name: string) {
    this.#snp = snp;
    this.#name = name;
  }

  /** Exit records of a VP, to be filled by whoever asks. */
  records(vp: number): X86ExitRecords {
    return (this.#records[vp] ??= new X86ExitRecords());
  }

  /** Answers an exit. @param asCall - the privilege of the frame counts. @param seesXcr0 - XCR0 of the frame counts. @returns borrowed. */
  answer(frame: GhcbFrame, exit: CpuExit, asCall = false, seesXcr0 = false): Answer {
    const { context } = frame.plane;
    this.#lend(frame, context, asCall, seesXcr0);
    const answer = this.#ask(context, exit);
    this.#takeBack(frame, context);
    return answer;
  }

  #ask(context: PlaneContext, exit: CpuExit): Answer {
    const { machine, arch } = this.#snp;
    const screened = arch.screen === null ? null : arch.screen(context, exit);
    if (screened !== null) return screened;
    let owner: Personality | null = this.#own ??= machine.personality(this.#name);
    while ((owner = machine.claims.under(exit.kind, exit.key, owner)) !== null) {
      const answer = owner.handle(context, exit);
      if (answer !== null) return answer;
    }
    return arch.unclaimed(context, exit);
  }

  /**
   * Finishes an exit that such a handler made. A fault of the instruction becomes the exception of the result.
   * @param inner - its completion, with the reply.
   */
  finish(frame: GhcbFrame, inner: Completion): void {
    const { machine, arch } = this.#snp;
    const { context } = frame.plane;
    const { u32 } = machine.arena;
    const word = context.base >>> 2;
    const rip = word + (X86.rip >>> 2);
    const ripLo = u32[rip]!;
    const ripHi = u32[rip + 1]!;
    this.#lend(frame, context, false, false);
    if (inner.owner === 'arch') arch.complete(context, inner);
    else machine.personality(inner.owner).complete?.(context, inner);
    this.#takeBack(frame, context);
    // The instruction is VMGEXIT, which was retired when it exited.
    u32[rip] = ripLo;
    u32[rip + 1] = ripHi;
    if (u32[word + exception.state] === 0) return;
    frame.except(u32[word + exception.vector]!, u32[word + exception.hasErrorCode] === 0 ? null : u32[word + exception.errorCode]!);
    u32[word + exception.state] = 0;
  }

  #lend(frame: GhcbFrame, context: PlaneContext, asCall: boolean, seesXcr0: boolean): void {
    const lent = (this.#lent[context.vp.index] ??= new Lent());
    const { u32 } = this.#snp.machine.arena;
    const word = context.base >>> 2;
    for (let i = 0; i < CELLS.length; i++) {
      const cell = word + CELLS[i]!;
      lent.cells[2 * i] = u32[cell]!;
      lent.cells[2 * i + 1] = u32[cell + 1]!;
      if (i === XCR0 && !seesXcr0) continue;
      u32[cell] = frame.registers[2 * i]!;
      u32[cell + 1] = frame.registers[2 * i + 1]!;
    }
    lent.cpl = u32[word + CPL]!;
    if (asCall) u32[word + CPL] = frame.cpl & 3;
  }

  #takeBack(frame: GhcbFrame, context: PlaneContext): void {
    const lent = this.#lent[context.vp.index]!;
    const { u32 } = this.#snp.machine.arena;
    const word = context.base >>> 2;
    for (let i = 0; i < CELLS.length; i++) {
      const cell = word + CELLS[i]!;
      if (2 * i < RESULT_WORDS) {
        frame.registers[2 * i] = u32[cell]!;
        frame.registers[2 * i + 1] = u32[cell + 1]!;
      }
      u32[cell] = lent.cells[2 * i]!;
      u32[cell + 1] = lent.cells[2 * i + 1]!;
    }
    u32[word + CPL] = lent.cpl;
  }
}
