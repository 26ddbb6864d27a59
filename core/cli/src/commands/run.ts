import { HostError } from '@vmplanes/engine';
import { type GuestConfig, readConfig } from '@vmplanes/vmm';
import { UsageError } from '../exit-codes.ts';
import type { Outcome } from '../output.ts';
import { runGuest } from '../run-guest.ts';
import { traceNotes } from '../trace-origin.ts';

/** Options of `vmplanes run`, as commander gives them. */
export interface RunOptions {
  readonly guestType?: string;
  readonly trace?: string;
  readonly check?: boolean;
  readonly seed?: number;
  readonly maxSlices?: number;
  readonly restore?: string;
  readonly snapshot?: string;
}

/** A configuration with what the command line says on top. */
export const withOptions = (config: GuestConfig, { guestType, seed }: { readonly guestType?: string; readonly seed?: number }): GuestConfig => ({
  ...config,
  ...(guestType === undefined ? {} : { type: guestType }),
  ...(seed === undefined ? {} : { seed }),
});

/** Runs a guest configuration. */
export async function run(guest: string, options: RunOptions): Promise<Outcome> {
  if (!guest.endsWith('.json')) {
    if (options.guestType === undefined) throw new UsageError(`'${guest}' is not a guest configuration (.json)`, 'vmplanes run GUEST.json, or vmplanes run IMAGE --guest-type T');
    throw new HostError('BadConfig', `${guest}: machine code needs an instruction core, which this version has not`, { fix: 'describe a scripted guest in a .json file' });
  }
  const host = { baseFile: guest, ...(options.trace === undefined ? {} : { traceNotes: traceNotes(guest, options.trace) }) };
  return runGuest(withOptions(readConfig(guest), options), host, options);
}
