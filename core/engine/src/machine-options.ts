import { type Token, token } from '@vmplanes/di';
import { HostError } from './errors.ts';
import { MAX_PLANES, MAX_VPS, PAGE_SIZE } from './ids.ts';

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

/** Most instructions of one round: a run must come back to its caller now and then. */
const MAX_SLICE = 2 ** 24;

/** @throws {HostError} BadConfig names the option that is out of range. */
export const checkOptions = (o: MachineOptions): void => {
  const bad = (problem: string): never => {
    throw new HostError('BadConfig', problem);
  };
  const whole = (name: 'maxVps' | 'maxPlanes' | 'quantum' | 'ticksPerSecond' | 'seed', from: number, to: number): void => {
    const value = o[name];
    if (!Number.isInteger(value) || value < from || value > to) bad(`${name} ${value}: not a whole number in ${from}..${to}`);
  };
  whole('maxVps', 1, MAX_VPS);
  whole('maxPlanes', 1, MAX_PLANES);
  whole('quantum', 1, 2 ** 40);
  whole('ticksPerSecond', 1, 2 ** 40);
  whole('seed', 0, 2 ** 32 - 1);
  if (!(o.ticksPerInstruction > 0)) bad(`ticksPerInstruction ${o.ticksPerInstruction}: must be above 0`);
  if (o.ticksPerInstruction > 2 ** 20) bad(`ticksPerInstruction ${o.ticksPerInstruction}: must not be above 2^20`);
  if (o.quantum / o.ticksPerInstruction > MAX_SLICE) bad(`quantum ${o.quantum} with ticksPerInstruction ${o.ticksPerInstruction}: a round of more than 2^24 instructions`);
  if (o.memoryBytes <= 0 || o.memoryBytes % PAGE_SIZE) bad(`memoryBytes ${o.memoryBytes}: not a positive multiple of ${PAGE_SIZE}`);
};

/** Bytes that the register blocks take at the start of the buffer. */
export const blockBytes = (options: MachineOptions, contextSize: number): number => Math.ceil((options.maxVps * options.maxPlanes * contextSize) / PAGE_SIZE) * PAGE_SIZE;

/** Bytes of the buffer that a machine with these options and this context size needs. */
export const arenaBytes = (options: MachineOptions, contextSize: number): number => blockBytes(options, contextSize) + options.memoryBytes;
