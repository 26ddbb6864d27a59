import { type Token, token } from '@vmplanes/di';
import type { PreemptionPort, TracePort } from './ports.ts';

/** The nullable ports of one machine: absent in products but for the trace, so that each costs one null test. */
export interface Hooks {
  preemption: PreemptionPort | null;
  trace: TracePort | null;
}
export const Hooks: Token<Hooks> = token<Hooks>('Hooks');

/** Options of one machine. Everything that decides how it runs; recorded in trace headers and snapshots. */
export interface MachineOptions {
  /** Most virtual processors, 1..64. */
  readonly maxVps: number;
  /** Most planes per VP, 1..16: plane ids are below it. */
  readonly maxPlanes: number;
  /** Guest memory that frames are taken from, bytes, a multiple of 4096. */
  readonly memoryBytes: number;
  /** Machine ticks of one scheduling round. */
  readonly quantum: number;
  /** Machine ticks per retired instruction. */
  readonly ticksPerInstruction: number;
  /** Machine ticks per second of virtual time. */
  readonly ticksPerSecond: number;
  /** Seed of every random choice; 0 schedules full slices in VP order. */
  readonly seed: number;
  /** `first`: events of other planes are looked at before anything blocks; `entry`: only on the way into the guest. */
  readonly eventCheck: 'first' | 'entry';
  /** Whose timers become events when they are due: those of all planes of a VP, or only of its current plane. */
  readonly timers: 'all' | 'running';
}
export const MachineOptions: Token<MachineOptions> = token<MachineOptions>('MachineOptions');

/** Options that are used where none are given. */
export const defaultMachineOptions: MachineOptions = {
  maxVps: 4,
  maxPlanes: 4,
  memoryBytes: 16 * 1024 * 1024,
  quantum: 10_000,
  ticksPerInstruction: 1,
  ticksPerSecond: 1_000_000_000,
  seed: 0,
  eventCheck: 'first',
  timers: 'all',
};
