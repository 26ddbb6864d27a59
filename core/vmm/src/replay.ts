import { HostError, type PlainRecord, type PlainState } from '@vmplanes/engine';
import { decodeFields, diffSemantic, type JsonRecord, parseTrace, Replay, type ReplayReport, type SemanticStep, type Trace, type TraceDiff } from '@vmplanes/trace';
import { readFileSync } from 'node:fs';
import { checkConfig } from './config/check-config.ts';
import type { CheckedConfig } from './config/guest-config.ts';
import { composeGuest, createVm, type VmHost } from './create-vm.ts';

/** Reads a trace file. @throws {HostError} BadFile; BadTrace names the line. */
export function readTrace(path: string): Trace {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new HostError('BadFile', `${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`, { path, fix: 'name a trace file' });
  }
  try {
    return parseTrace(text.split('\n'));
  } catch (error) {
    if (error instanceof HostError) throw new HostError(error.code, `${path}: ${error.message}`, error.details);
    throw error;
  }
}

/** The configuration that a trace was recorded of. @throws {HostError} BadTrace when its header has none. */
export function configOf(trace: Trace): CheckedConfig {
  const guest: JsonRecord = trace.header.guest;
  const config = guest['config'];
  if (typeof config !== 'object' || config === null || Array.isArray(config)) throw new HostError('BadTrace', 'line 1: the header does not say which guest it is of');
  return checkConfig(decodeFields(config as JsonRecord), 'guest of the trace');
}

const asRecord = (data: PlainState): PlainRecord => (typeof data === 'object' && data !== null && !Array.isArray(data) ? (data as PlainRecord) : {});

/**
 * Checks a trace against the machine: the guest's part of every exit and all input come from the trace, everything else is made again
 * and must agree.
 * @param all - go on behind a divergence where that has a meaning.
 * @throws {HostError} BadTrace when it cannot be replayed at all; those of composing its guest.
 */
export async function replayTrace(trace: Trace, host: VmHost = {}, all = false): Promise<ReplayReport> {
  const { composed, configHash } = await composeGuest(configOf(trace), host);
  const { machine } = composed;
  try {
    return new Replay(machine, trace, {
      all,
      configHash,
      applyInput: (name, data, vp) => {
        if (name !== 'reply' || vp === null) throw new HostError('BadTrace', `input '${name}' is not one that this program makes`);
        const { plane, reply } = asRecord(data);
        const context = typeof plane === 'number' ? vp.planes[plane] : undefined;
        if (!context?.completion) throw new HostError('BadTrace', `a reply to VP ${vp.index} plane ${String(plane)}, which waits for none`);
        machine.reply(context, asRecord(reply ?? null));
      },
    }).run();
  } finally {
    composed.dispose();
  }
}

/**
 * Runs the guest of a trace once more and compares what it did in meaning: calls, statuses, switches, interrupts, permissions and messages in
 * order per VP, whatever the time and the registers.
 * @throws {HostError} those of composing and running its guest.
 */
export async function rerunTrace(trace: Trace, host: VmHost = {}): Promise<TraceDiff<SemanticStep>> {
  const lines: string[] = [];
  const vm = await createVm(configOf(trace), { ...host, trace: (line) => lines.push(line) });
  try {
    await vm.run();
  } finally {
    vm.close();
  }
  return diffSemantic(trace, parseTrace(lines));
}
