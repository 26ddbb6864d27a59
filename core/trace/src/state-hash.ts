import { createHash } from 'node:crypto';
import type { Machine } from '@vmplanes/engine';
import { canonical } from './digest.ts';
import { encodePlain } from './plain.ts';
import { readRegister, tracedRegisters } from './shadow.ts';

/**
 * Hash of everything a replay must end with: registers, events and state of all planes, VPs, scheduler, time, random
 * source and components. Not guest memory, which a replayed guest does not write, and not the processors.
 * @returns 16 hexadecimal digits. @throws {HostError} BadState while a VP runs.
 */
export const stateHash = (machine: Machine): string => {
  const { memory: _memory, vps, ...rest } = machine.snapshot();
  const registers = tracedRegisters(machine.arch.layout);
  const planes = vps.map(({ cpu: _cpu, planes, ...vp }) => ({
    ...vp,
    planes: planes.map(({ block, ...plane }) => ({ ...plane, registers: registers.map((r) => readRegister(block, 0, r)) })),
  }));
  return createHash('sha256')
    .update(canonical(encodePlain({ ...rest, vps: planes })))
    .digest('hex')
    .slice(0, 16);
};
