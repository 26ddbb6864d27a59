import Table from 'cli-table3';
import { exitCodes, type ExitCode, toldOf } from './exit-codes.ts';

/** Values that JSON has no form for, as text: 64-bit numbers in hexadecimal, bytes as digits. */
const plain = (_key: string, value: unknown): unknown => {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (ArrayBuffer.isView(value)) return Array.from(value as Uint8Array, Number);
  return value;
};

/** One JSON text with two spaces of indentation. */
export const jsonText = (value: unknown): string => JSON.stringify(value, plain, 2);

/** Blanks between two columns, and the least width of a column that is narrowed. */
const GAP = '  ';
const NARROWEST = 12;

/** Widths of columns as they are, narrowed from the widest on until a line fits. */
function columnWidths(rows: readonly (readonly string[])[], lineWidth: number): readonly number[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => (row[i] ?? '').length)));
  const sum = (): number => widths.reduce((a, b) => a + b, 0) + GAP.length * (widths.length - 1);
  while (sum() > lineWidth) {
    const widest = widths.indexOf(Math.max(...widths));
    if (widths[widest]! <= NARROWEST) break;
    widths[widest]!--;
  }
  return widths;
}

/**
 * A table without frame lines.
 * @param lineWidth - characters of a line; cells of wide columns are broken into several lines. Default: that of the terminal, else without limit.
 */
export function tableText(head: readonly string[], rows: readonly (readonly (string | number)[])[], lineWidth: number = process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY): string {
  const cells = rows.map((row) => row.map(String));
  const none = { top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '', left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '' };
  const table = new Table({
    head: [...head],
    style: { head: [], border: [], compact: true, 'padding-left': 0, 'padding-right': 0 },
    chars: { ...none, middle: GAP },
    colWidths: [...columnWidths([head, ...cells], lineWidth)],
    wordWrap: true,
    wrapOnWordBoundary: true,
  });
  for (const row of cells) table.push(row);
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** The members of a record as words; two halves of a 64-bit value (`xLo`, `xHi`) as one in hexadecimal. */
export function dataText(data: unknown): string {
  if (typeof data !== 'object' || data === null) return String(data);
  const record = data as Readonly<Record<string, unknown>>;
  const words: string[] = [];
  for (const [key, value] of Object.entries(record)) {
    const name = key.slice(0, -2), high = record[`${name}Hi`];
    if (key.endsWith('Lo') && typeof value === 'number' && typeof high === 'number') words.push(`${name} 0x${((BigInt(high >>> 0) << 32n) | BigInt(value >>> 0)).toString(16)}`);
    else if (!key.endsWith('Hi') || typeof record[`${name}Lo`] !== 'number') words.push(`${key} ${String(value)}`);
  }
  return words.join(', ');
}

/** What a command found: a value for programs and a text for people, of the same content. */
export interface Outcome {
  readonly exit: ExitCode;
  readonly json: Readonly<Record<string, unknown>>;
  readonly text: string;
}

/** Writes an outcome: with `json` one object on stdout and nothing else. @returns the exit code. */
export function tell(outcome: Outcome, json: boolean): number {
  const { code } = exitCodes[outcome.exit];
  process.stdout.write(json ? `${jsonText({ exitCode: code, ...outcome.json })}\n` : outcome.text === '' ? '' : `${outcome.text}\n`);
  return code;
}

/** Tells an error in one line, with a hint in a second one; with `json` as an object on stdout, too. @returns the exit code. */
export function tellError(error: unknown, json: boolean): number {
  const { exit, code, message, hint, details } = toldOf(error);
  const { code: exitCode } = exitCodes[exit];
  if (json) process.stdout.write(`${jsonText({ exitCode, error: { code, message, hint, ...details } })}\n`);
  process.stderr.write(`vmplanes: ${code}: ${message}\n`);
  if (hint !== null) process.stderr.write(`  hint: ${hint}\n`);
  return exitCode;
}
