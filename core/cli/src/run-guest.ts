import { createVm, type GuestConfig, type RunResult, RunCounts, readSnapshot, type Vm, type VmHost, writeSnapshot } from '@vmplanes/vmm';
import { bundled } from './bundled.ts';
import type { ExitCode } from './exit-codes.ts';
import { dataText, type Outcome, tableText } from './output.ts';
import { progressLine } from './progress.ts';
import { stopSignals } from './signals.ts';

/** How a guest is run from the command line. */
export interface RunArguments {
  readonly trace?: string;
  readonly check?: boolean;
  readonly maxSlices?: number;
  /** Snapshot file to start from, and to write at the end. */
  readonly restore?: string;
  readonly snapshot?: string;
  /** Switches to show one by one. */
  readonly keepSwitches?: number;
}

/** The exit code of a run that ended by itself. */
const exitOf = ({ reason, failures }: RunResult): ExitCode => (failures.length === 0 && (reason === 'finished' || reason === 'slices') ? 'Ok' : 'Guest');

const sentences: Readonly<Record<RunResult['reason'], string>> = {
  finished: 'ended: every processor is at the end of its script',
  idle: 'waits for ever: every processor waits for something that nothing will bring',
  shutdown: 'shut down',
  exit: 'made an exit that nobody serves',
  stopped: 'was stopped',
  slices: 'ran as many slices as asked for',
};

const nameOf = (vm: Vm, plane: number): string => {
  const name = vm.machine.meaning.planeName(plane);
  return name === `plane ${plane}` ? String(plane) : `${plane} ${name}`;
};

const ns = (time: number): string => `${time.toLocaleString('en-US')} ns`;

function summaryText(vm: Vm, result: RunResult, counts: RunCounts, kept: boolean): string {
  const { guest } = vm;
  const where = result.at === null ? '' : ` (VP ${result.at.vp} plane ${result.at.plane}: ${result.at.payload.kind})`;
  const switches = counts.switches.reduce((sum, s) => sum + s.count, 0);
  const parts = [
    `guest ${guest.name} (type ${guest.type}): ${guest.vps} VPs, ${guest.planes} planes, policy ${vm.machine.policy.name}, personalities ${vm.personalities.map((p) => p.name).join(', ') || 'none'}`,
  ];
  if (kept && counts.first.length > 0) {
    parts.push(tableText(['time ns', 'VP', 'from', 'to', 'reason'], counts.first.map((s) => [s.time, s.vp, nameOf(vm, s.from), nameOf(vm, s.to), s.reason])));
    if (counts.first.length < switches) parts.push(`... and ${switches - counts.first.length} more switches`);
  }
  if (counts.switches.length > 0) parts.push(tableText(['VP', 'from', 'to', 'reason', 'switches'], counts.switches.map(({ what: s, count }) => [s.vp, nameOf(vm, s.from), nameOf(vm, s.to), s.reason, count])));
  if (counts.notes.length > 0) parts.push(tableText(['VP', 'plane', 'call', 'number and status', 'times'], counts.notes.map(({ what: n, count }) => [n.vp, nameOf(vm, n.plane), n.name, dataText(n.data), count])));
  if (counts.exits.length > 0) parts.push(tableText(['VP', 'plane', 'exit', 'times'], counts.exits.map(({ what: e, count }) => [e.vp, nameOf(vm, e.plane), e.kind, count])));
  if (result.at?.payload.text !== undefined) parts.push(result.at.payload.text);
  parts.push(...result.failures.map((f) => `expectation missed: ${f}`));
  parts.push(`The guest ${sentences[result.reason]}${where}, at ${ns(result.time)} of virtual time, after ${result.slices} slices and ${switches} switches.`);
  return parts.join('\n\n');
}

const flat = <T extends object>(rows: readonly { readonly what: T; readonly count: number }[]): readonly object[] => rows.map(({ what, count }) => ({ ...what, count }));

/**
 * Runs a guest and tells what it did. Ctrl-C and SIGTERM stop it at an event boundary; the trace is then complete up to there.
 * @throws {HostError} as `createVm` and `Vm.run`.
 */
export async function runGuest(config: GuestConfig, host: VmHost, args: RunArguments): Promise<Outcome> {
  const snapshot = args.restore === undefined ? null : readSnapshot(args.restore);
  const vm = await createVm(config, { ...host, ...(snapshot?.inputs === undefined ? {} : { inputs: snapshot.inputs }), plugins: { ...bundled, ...host.plugins }, ...(args.trace === undefined ? {} : { trace: args.trace }), check: args.check ?? false });
  const signals = stopSignals();
  const progress = progressLine();
  try {
    if (snapshot !== null) vm.restore(snapshot);
    const counts = new RunCounts(vm.machine, args.keepSwitches ?? 0);
    const result = await vm.run({ signal: signals.signal, onProgress: progress.show, ...(args.maxSlices === undefined ? {} : { maxSlices: args.maxSlices }) });
    progress.clear();
    if (args.snapshot !== undefined) writeSnapshot(args.snapshot, vm.snapshot());
    const { guest } = vm;
    return {
      exit: signals.caught() ?? exitOf(result),
      json: {
        guest: guest.name,
        type: guest.type,
        personalities: vm.personalities,
        reason: result.reason,
        at: result.at === null ? null : { vp: result.at.vp, plane: result.at.plane, kind: result.at.payload.kind },
        failures: result.failures,
        timeNs: result.time,
        slices: result.slices,
        checks: vm.machine.checks?.count ?? 0,
        switches: flat(counts.switches),
        calls: flat(counts.notes),
        exits: flat(counts.exits),
        ...(args.keepSwitches === undefined ? {} : { firstSwitches: counts.first }),
        trace: args.trace ?? null,
      },
      text: summaryText(vm, result, counts, args.keepSwitches !== undefined),
    };
  } finally {
    progress.clear();
    signals.release();
    vm.close(signals.caught() === null ? 'end of run' : 'stopped');
  }
}
