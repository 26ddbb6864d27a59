import { svsmCallName, svsmCallOf, svsmResultName } from '@vmplanes/abi-svsm';
import { hex } from '@vmplanes/binary';
import type { PlaneContext, TracePort } from '@vmplanes/engine';
import type { SvsmFrame } from './frame.ts';

/** Name under which calls are in traces. */
export const SVSM_NOTE = 'svsm-call';

/** Tells a trace of one call and what it gives. Runs only while one is attached. @param guest - the caller. */
export const noteCall = (trace: TracePort, { protocol, number, rcx, rdx, r8 }: SvsmFrame, guest: PlaneContext, result: number): void => {
  const call = svsmCallOf(protocol, number);
  trace.note(guest, SVSM_NOTE, { name: svsmCallName(protocol, number), rcx: hex(rcx), rdx: hex(rdx), r8: hex(r8), status: svsmResultName(result >>> 0), ...(call === undefined ? {} : { spec: call.spec }) });
};
