import type { CpuExit, PlaneContext } from '@vmplanes/engine';

/**
 * An instruction that a personality contributes. Operands and results are in the registers of the context, as for any
 * other instruction; the scripted engine and an instruction core call the same handler.
 */
export interface InstructionRow {
  /** As the manual writes it, in lower case: `pvalidate`. */
  readonly mnemonic: string;
  /** Opcode bytes with prefixes, for an instruction core: `f2 0f 01 ff`. */
  readonly encoding: string;
  readonly spec: string;
  /**
   * Performs it. A fault is raised through the architecture and then due in the context.
   * @returns null when it is done or has raised a fault; an exit, borrowed, when it asks the hypervisor.
   */
  run(context: PlaneContext): CpuExit | null;
}
