import type { MemoryFaultInfo } from './memory/memory-fault.ts';

/**
 * Why the processor stopped. The architecture package declares the closed union; the engine itself understands the
 * members below and routes every other one to whoever claims it.
 */
export interface CpuExit {
  readonly kind: string;
  /** What claims are matched by within a kind: a register index, a leaf, a port, a call kind; 0 where a kind has no key. */
  readonly key: number;
}

/** The plane halted; the instruction has retired. */
export interface HaltExit extends CpuExit {
  readonly kind: 'halt';
}
/** The instruction budget is used up. */
export interface BudgetExit extends CpuExit {
  readonly kind: 'budget';
}
/** The plane cannot continue (a fault while delivering a fault while delivering a fault). */
export interface ShutdownExit extends CpuExit {
  readonly kind: 'shutdown';
}
/** The second stage refused an access of the guest; the instruction has not retired. */
export interface MemoryFaultExit extends CpuExit {
  readonly kind: 'memoryFault';
  readonly info: MemoryFaultInfo;
}

/** Exits that every architecture has and the engine has a default for. */
export type EngineExit = HaltExit | BudgetExit | ShutdownExit | MemoryFaultExit;
