import type { SvsmCall, SvsmResult } from '@vmplanes/abi-svsm';
import type { Answer } from '@vmplanes/engine';
import type { SvsmFrame } from './frame.ts';
import type { SvsmProvider } from './provider.ts';

/** Serves one call: gives its result, or what VMPL0 does before it has one. */
export type SvsmHandler = (provider: SvsmProvider, call: SvsmFrame) => SvsmResult | number | Answer;

/** A declared call and what serves it. */
export type SvsmBinding = { readonly call: SvsmCall; readonly handler: SvsmHandler; readonly reason?: never } | { readonly call: SvsmCall; readonly reason: string; readonly handler?: never };

export const on = (call: SvsmCall, handler: SvsmHandler): SvsmBinding => ({ call, handler });
export const unsupported = (call: SvsmCall, reason = call.unsupported ?? ''): SvsmBinding => {
  if (reason === '') throw new RangeError(`${call.name}: an unsupported call needs a reason`);
  return { call, reason };
};
