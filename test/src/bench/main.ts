import { hypervRows } from './hyperv-rows.ts';
import { engineRows } from './rows.ts';
import { reportRows } from './snp-report.ts';
import { snpRows } from './snp-rows.ts';
import { vmplRows } from './vmpl-rows.ts';
import type { Measurement } from './measure.ts';

const allRows = [...engineRows, ...hypervRows, ...snpRows, ...vmplRows, ...reportRows];
const BASELINE = 'call.bare';
const args = process.argv.slice(2);
const json = args.includes('--json');
const only = args.filter((a) => !a.startsWith('--'));

const unknown = [...args.filter((a) => a.startsWith('--') && a !== '--json'), ...only.filter((id) => !allRows.some((r) => r.id === id))];
if (unknown.length > 0) {
  process.stderr.write(`bench: unknown ${unknown.join(', ')}; rows are ${allRows.map((r) => r.id).join(', ')}\n`);
  process.exit(2);
}

const medians = new Map<string, number>();
for (const row of allRows) {
  if (only.length > 0 && !only.includes(row.id) && row.id !== BASELINE) continue;
  medians.set(row.id, row.run());
  process.stderr.write(`bench: ${row.id}\n`);
}
const base = medians.get(BASELINE)!;
const round = (n: number): number => Number(n.toPrecision(4));
const rows: Record<string, Measurement> = {};
for (const [id, median] of medians) rows[id] = { median: round(median), unit: 'ns', ratio: round(median / base), baseline: BASELINE };

if (json) {
  process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
} else {
  const { default: Table } = await import('cli-table3');
  const table = new Table({ head: ['row', 'median', `x ${BASELINE}`, 'one operation'], style: { head: [], border: [] }, colAligns: ['left', 'right', 'right', 'left'] });
  for (const row of allRows) {
    const m = rows[row.id];
    if (m) table.push([row.id, `${m.median} ns`, m.ratio, row.about]);
  }
  process.stdout.write(`${table.toString()}\n`);
}
