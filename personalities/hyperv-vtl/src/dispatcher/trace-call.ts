import { type Call, callName, isParameterCall } from '@vmplanes/abi-hyperv';
import type { PlainRecord, TracePort } from '@vmplanes/engine';
import type { CallFrame } from './call-frame.ts';

/** Name under which calls are in traces. */
export const CALL_NOTE = 'hv-call';

/**
 * Tells a trace of one call. Runs only while one is attached.
 * @param call - undefined for a code that is not declared.
 * @param status - null for VTL call and return, which have none.
 */
export const noteCall = (trace: TracePort, frame: CallFrame, call: Call | undefined, status: number | null, reps: number): void => {
  const { code, vtl, isFast, count, start } = frame;
  const input = call !== undefined && isParameterCall(call) && frame.inputBytes > 0 ? (call.header.read(frame.input.data, 0) as PlainRecord) : null;
  trace.note(frame.context, CALL_NOTE, {
    code,
    name: callName(code),
    vtl,
    ...(isFast ? { isFast } : {}),
    ...(count > 0 ? { count, start, reps } : {}),
    ...(input === null ? {} : { input }),
    ...(status === null ? {} : { status }),
    ...(call === undefined ? {} : { spec: call.spec }),
  });
};
