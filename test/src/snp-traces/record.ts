import type { JsonRecord } from '@vmplanes/trace';
import { createVm, type HostService, readTrace, Swtpm } from '@vmplanes/vmm';
import { existsSync, writeFileSync } from 'node:fs';
import { scripts } from './guests.ts';
import { bundled } from './plugins.ts';
import { configOf, fileOf, notesOf, type Scenario } from './scenarios.ts';

/** Set to write the traces anew. A TPM that is asked something new must be on this host. */
const WRITES = process.env['VMPLANES_RECORD_TRACES'] === '1';

/** A TPM that gives the answers of an earlier recording as long as it is asked the same; then the one of the host does. */
function tpmOf(name: string): HostService {
  const answers = existsSync(fileOf(name)) ? readTrace(fileOf(name)).records : [];
  const asked = answers.flatMap((r, i) => {
    const reply = answers[i + 1];
    return r.k === 'vmexit' && r.x === 'service' && reply?.k === 'input' ? [{ request: (r.f['request'] as JsonRecord)['command'], reply: (reply.d as JsonRecord)['reply'] as JsonRecord }] : [];
  });
  const tpm = new Swtpm();
  let isSame = true;
  return {
    ask: async (request) => {
      const next = asked.shift();
      isSame &&= next !== undefined && next.request === request['command'] && 'response' in next.reply;
      return isSame && next !== undefined ? next.reply : tpm.ask(request);
    },
    save: () => null,
    restore: () => {},
    close: () => tpm.close(),
  };
}

/** What a scenario did. */
export interface Recorded {
  readonly lines: readonly string[];
  readonly reason: string;
  /** What its scripts expected and did not find. */
  readonly failures: readonly string[];
}

/** Runs the guest of a scenario and records it; the file is written where that is asked for. */
export async function recordScenario(scenario: Scenario): Promise<Recorded> {
  const lines: string[] = [];
  const services = { tpm: { check: () => {}, make: () => tpmOf(scenario.name) } };
  const vm = await createVm(configOf(scenario), { plugins: bundled, scripts, services, trace: (line) => void lines.push(line), traceNotes: notesOf(scenario), check: true });
  try {
    const { reason, failures } = await vm.run();
    vm.close();
    // The hash of the last state goes with the version that wrote it; what happened before does not.
    lines.pop();
    if (WRITES) writeFileSync(fileOf(scenario.name), `${lines.join('\n')}\n`);
    return { lines, reason, failures };
  } finally {
    vm.close();
  }
}
