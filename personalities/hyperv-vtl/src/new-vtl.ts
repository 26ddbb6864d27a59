import type { Arena, PlaneContext } from '@vmplanes/engine';
import { readRegister, writeRegister } from '@vmplanes/x86';

/** A new VTL's time-stamp counter starts equal to that of the VTL below; from then on each has its own. @spec TLFS Virtual Secure Mode, private state */
export const copyClock = (arena: Arena, from: PlaneContext, to: PlaneContext): void => {
  for (const cell of ['tscOffset', 'tscScale'] as const) writeRegister(arena, to.base, cell, readRegister(arena, from.base, cell));
  to.clockOffset = from.clockOffset;
};
