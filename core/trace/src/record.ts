import type { Machine } from '@vmplanes/engine';
import { headerOf, type TraceSubject } from './header.ts';
import { TraceRecorder } from './recorder.ts';
import { type LineSink, traceWriter } from './writer.ts';

/**
 * Records a machine from now on: writes the header and gives a recorder that writes each record as it is made. Called
 * when the machine is composed and before anything ran; `finish` on the result ends the trace.
 * @param subject - what the header says beyond the machine itself.
 * @param sink - takes each line without its end.
 * @throws {HostError} BadState when the machine is recorded already.
 */
export const recordTrace = (machine: Machine, subject: TraceSubject, sink: LineSink): TraceRecorder =>
  new TraceRecorder(machine, traceWriter(headerOf(machine, subject), sink)).attach();
