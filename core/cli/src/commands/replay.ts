import { divergenceText, type SemanticStep } from '@vmplanes/trace';
import { readTrace, replayTrace, rerunTrace, type VmHost } from '@vmplanes/vmm';
import { bundled } from '../bundled.ts';
import type { Outcome } from '../output.ts';
import { originOf } from '../trace-origin.ts';

/** Options of `vmplanes replay`. */
export interface ReplayOptions {
  readonly semantic?: boolean;
  readonly all?: boolean;
  /** Guest configuration whose place relative paths start from, instead of the one the trace names. */
  readonly guest?: string;
}

const stepText = (step: SemanticStep | null): string => (step === null ? 'nothing' : JSON.stringify(step));

/** Checks a trace: by default record by record, with `semantic` by running its guest once more. */
export async function replay(path: string, { semantic = false, all = false, guest }: ReplayOptions): Promise<Outcome> {
  const trace = readTrace(path);
  const host: VmHost = { plugins: bundled, baseFile: guest ?? originOf(trace, path) };
  if (semantic) {
    const { rows, equal } = await rerunTrace(trace, host);
    const shown = all ? rows : rows.slice(0, 1);
    const lines = shown.map((r) => `VP ${r.vp}: expected ${stepText(r.a)}, got ${stepText(r.b)}`);
    const text = rows.length === 0 ? `${path}: ${equal} steps are equal in meaning` : [`${path}: ${rows.length} steps differ in meaning, ${equal} are equal`, ...lines].join('\n');
    return { exit: rows.length === 0 ? 'Ok' : 'Divergence', json: { trace: path, ok: rows.length === 0, mode: 'semantic', equal, differences: shown }, text };
  }
  const report = await replayTrace(trace, host, all);
  return {
    exit: report.ok ? 'Ok' : 'Divergence',
    json: { trace: path, mode: 'exact', ...report },
    text: [`${path}: ${report.ok ? 'ok' : 'not ok'}: ${report.summary}`, ...report.divergences.map(divergenceText)].join('\n'),
  };
}
