import { didYouMean, readConfig } from '@vmplanes/vmm';
import { demos } from '../demos.ts';
import { UsageError } from '../exit-codes.ts';
import type { Outcome } from '../output.ts';
import { runGuest } from '../run-guest.ts';
import { traceNotes } from '../trace-origin.ts';
import { withOptions } from './run.ts';

/** Options of `vmplanes start`. */
export interface StartOptions {
  readonly guestType: string;
  readonly trace?: string;
  readonly seed?: number;
}

/** Switches shown one by one. */
const SHOWN_SWITCHES = 40;

/** Runs the demonstration guest of a guest type. */
export async function start({ guestType, trace, seed }: StartOptions): Promise<Outcome> {
  const demo = Object.hasOwn(demos, guestType) ? demos[guestType] : undefined;
  if (!demo) {
    const names = Object.keys(demos);
    const near = didYouMean(guestType, names);
    throw new UsageError(`no demonstration guest of type '${guestType}'`, near ? `did you mean '${near}'?` : `there are: ${names.join(', ')}`);
  }
  const overrides = seed === undefined ? {} : { seed };
  const args = { check: true, keepSwitches: SHOWN_SWITCHES, ...(trace === undefined ? {} : { trace }) };
  if ('config' in demo) return runGuest(withOptions(demo.config, overrides), {}, args);
  const notes = trace === undefined ? {} : { traceNotes: traceNotes(demo.file, trace) };
  const here = demo.host?.();
  const outcome = await runGuest({ ...withOptions(readConfig(demo.file), overrides), ...here?.overrides }, { baseFile: demo.file, ...notes }, args);
  return here?.notice ? { ...outcome, text: `${outcome.text}\n\n${here.notice}` } : outcome;
}
