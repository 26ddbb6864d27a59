import { bitRows } from './bits.ts';
import { hex } from './hex.ts';
import type { AnyLayout } from './layout.ts';
import { declarationOf, type DeclaredLayout, unnamedBits } from './reserved.ts';
import type { Tail } from './tail.ts';

/** What a reference page can describe. */
export type Described = AnyLayout | DescribedTail;
type DescribedTail = Pick<Tail, 'kind' | 'name' | 'spec' | 'header' | 'key' | 'of' | 'minSize'> & { readonly count: string | undefined };

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.map(cell).join(' | ')} |`).join('\n');

const structHead = ['offset', 'size', 'name', 'type', 'doc'];
const structRows = (fields: Readonly<Record<string, readonly [number, AnyLayout, string?]>>): (readonly string[])[] =>
  Object.entries(fields).map(([name, [offset, layout, doc = '']]) => [hex(offset), String(layout.size), name, layout.name, doc]);

const heading = (name: string, spec: string, size: string): string => `### ${name}\n\n${cell(spec)} · ${size}\n\n`;

function section(declared: Exclude<DeclaredLayout, { readonly kind: 'array' }>): string {
  const bytes = `${declared.size} bytes`;
  switch (declared.kind) {
    case 'struct':
      return heading(declared.name, declared.spec, bytes) + table(structHead, structRows(declared.fields));
    case 'bits': {
      const named = bitRows(declared.fields).map((row) => ({ ...row, type: row.isFlag ? 'flag' : `${row.width} bits` }));
      const holes = unnamedBits(declared).map(([lo, width]) => ({ name: 'reserved', lo, width, type: `${width} bits`, doc: '' }));
      const rows = [...named, ...holes].sort((a, b) => a.lo - b.lo);
      const place = ({ lo, width }: { lo: number; width: number }): string => (width === 1 ? String(lo) : `${lo + width - 1}:${lo}`);
      return heading(declared.name, declared.spec, bytes) + table(['bits', 'name', 'type', 'doc'], rows.map((row) => [place(row), row.name, row.type, row.doc]));
    }
    case 'union': {
      const rows = Object.entries(declared.variants).map(([name, layout]) => [hex(0), String(layout.size), name, layout.name, '']);
      return `${heading(declared.name, declared.spec, bytes)}One of:\n\n${table(structHead, rows)}`;
    }
    case 'tagged': {
      const rows = Object.entries(declared.cases)
        .sort(([, a], [, b]) => a[0] - b[0])
        .map(([name, [tag, layout, doc = '']]) => [hex(tag), String(layout.size), name, layout.name, doc]);
      const head = table(structHead, structRows(declared.header.fields));
      return `${heading(declared.name, declared.spec, bytes)}${head}\n\nAt ${hex(declared.payloadAt)}, by \`${declared.tag}\`:\n\n${table([declared.tag, 'size', 'name', 'type', 'doc'], rows)}`;
    }
  }
}

function tailSection(tail: DescribedTail): string {
  const count = tail.count === undefined ? 'up to the end of the bytes available' : `\`${tail.count}\` elements`;
  const rows = [...structRows(tail.header.fields), [hex(tail.minSize), `${tail.of.size} each`, tail.key, `${tail.of.name}[]`, count]];
  return heading(tail.name, tail.spec, `${tail.minSize} bytes and more`) + table(structHead, rows);
}

const isTail = (item: Described): item is DescribedTail => item.kind === 'tail';

/** The layouts that a layout is made of, itself not included. */
function partsOf(item: Described): readonly AnyLayout[] {
  if (isTail(item)) return [...Object.values(item.header.fields).map((field) => field[1]), item.of];
  const declared = declarationOf(item);
  switch (declared?.kind) {
    case 'struct':
      return Object.values(declared.fields).map((field) => field[1]);
    case 'array':
      return [declared.of];
    case 'union':
      return Object.values(declared.variants);
    case 'tagged':
      return [...Object.values(declared.header.fields).map((field) => field[1]), ...Object.values(declared.cases).map((row) => row[1])];
    default:
      return [];
  }
}

/** Prints one layout as a Markdown section with a table: offset, size, name, type, doc. Empty for scalars and arrays. */
export function reference(item: Described): string {
  if (isTail(item)) return tailSection(item);
  const declared = declarationOf(item);
  return declared === undefined || declared.kind === 'array' ? '' : section(declared);
}

/**
 * Prints layouts and every declared layout inside them, each once, sorted by name.
 * @throws {RangeError} when two different layouts have one name.
 */
export function referencePage(items: Iterable<Described>): string {
  const byName = new Map<string, Described>();
  const visit = (item: Described): void => {
    const isPrinted = reference(item) !== '';
    const other = byName.get(item.name);
    if (other === item) return;
    if (isPrinted && other) throw new RangeError(`two layouts are named ${item.name}`);
    if (isPrinted) byName.set(item.name, item);
    partsOf(item).forEach(visit);
  };
  for (const item of items) visit(item);
  return [...byName]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, item]) => `${reference(item)}\n`)
    .join('\n');
}
