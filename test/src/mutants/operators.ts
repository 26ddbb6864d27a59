import { bare, part, parts, type SyntaxNode } from './syntax.ts';

/** Ways to change a program, each a mistake that a person could make. */
export type Operator = 'compare' | 'negate' | 'logic' | 'number' | 'status' | 'member' | 'bits' | 'arithmetic' | 'order' | 'remove' | 'cells';

/** What replaces one expression. */
export interface Change {
  readonly operator: Operator;
  /** For people: from, to. */
  readonly label: string;
  readonly text: string;
}

/** Where an expression stands, as far as operators ask. */
export interface Place {
  /** Its truth alone matters: a condition, or an operand of one. */
  readonly isCondition: boolean;
  /** It is part of a message for people. */
  readonly isMessage: boolean;
  /** It is a cell of a table: a property value or an array element. */
  readonly isCell: boolean;
}

/** Names that may stand for each other: members of constant objects, and the words of status tables. */
export interface Vocabulary {
  /** Member names of constant objects, by object name, in the order of their declaration. */
  readonly members: ReadonlyMap<string, readonly string[]>;
  /** Words of which one may replace another, such as error names. */
  readonly words: ReadonlyMap<string, string>;
}

const COMPARISONS: Readonly<Record<string, readonly string[]>> = {
  '<': ['<=', '>='],
  '<=': ['<', '>'],
  '>': ['>=', '<='],
  '>=': ['>', '<'],
  '===': ['!=='],
  '!==': ['==='],
  '==': ['!='],
  '!=': ['=='],
};
const BITS: Readonly<Record<string, string>> = { '&': '|', '|': '&', '^': '&', '<<': '>>>', '>>>': '<<', '>>': '<<', '&=': '|=', '|=': '&=', '^=': '&=', '<<=': '>>>=', '>>>=': '<<=', '>>=': '<<=' };
const ARITHMETIC: Readonly<Record<string, string>> = { '+': '-', '-': '+', '+=': '-=', '-=': '+=', '++': '--', '--': '++' };
const ERRNO = /^E[A-Z0-9]{2,}$/;

/** Calls and constants that name a document, for people. */
export const CITATIONS = new Set(['rfc2025', 'series2026', 'Source']);

const isText = (node: SyntaxNode | null): boolean =>
  node !== null && (node.type === 'TemplateLiteral' || (node.type === 'Literal' && typeof node['value'] === 'string') || (node.type === 'BinaryExpression' && (isText(part(node, 'left')) || isText(part(node, 'right')))));

/** What a numeric literal becomes: one more, the lowest bit flipped, nothing. Outside tables and masks one more and nothing must do. */
function numbers(raw: string, isCell: boolean): readonly string[] {
  const isBig = raw.endsWith('n');
  const digits = isBig ? raw.slice(0, -1) : raw;
  if (!isBig && !Number.isSafeInteger(Number(digits.replaceAll('_', '')))) return [];
  const value = BigInt(digits.replaceAll('_', ''));
  const found = new Set([value + 1n, ...(isCell || isBig || /^0[xXbB]/.test(raw) ? [value ^ 1n] : []), 0n]);
  found.delete(value);
  return [...found].map((n) => `${n}${isBig ? 'n' : ''}`);
}

const next = <T>(list: readonly T[], item: T): T | undefined => (list.length < 2 ? undefined : list[(list.indexOf(item) + 1) % list.length]);

/** Changes of one expression; `text` gives the source of a part. */
export function changesOf(node: SyntaxNode, place: Place, words: Vocabulary, text: (node: SyntaxNode) => string): readonly Change[] {
  const found: Change[] = [];
  const left = part(node, 'left'), right = part(node, 'right'), operator = String(node['operator'] ?? '');
  const replaceOperator = (kind: Operator, to: string | undefined): void => {
    if (to !== undefined && left && right) found.push({ operator: kind, label: `${operator} to ${to}`, text: `(${text(left)}) ${to} (${text(right)})` });
  };
  const isLogic = node.type === 'LogicalExpression' && operator !== '??';
  switch (node.type) {
    case 'BinaryExpression':
      for (const to of COMPARISONS[operator] ?? []) replaceOperator('compare', to);
      replaceOperator('bits', BITS[operator]);
      if (!isText(node)) replaceOperator('arithmetic', ARITHMETIC[operator]);
      break;
    case 'LogicalExpression':
      if (isLogic) replaceOperator('logic', operator === '&&' ? '||' : '&&');
      break;
    case 'AssignmentExpression': {
      const [kind, to] = BITS[operator] === undefined ? (['arithmetic', isText(right) ? undefined : ARITHMETIC[operator]] as const) : (['bits', BITS[operator]] as const);
      if (to !== undefined && left && right) found.push({ operator: kind, label: `${operator} to ${to}`, text: `${text(left)} ${to} (${text(right)})` });
      break;
    }
    case 'UpdateExpression': {
      const to = ARITHMETIC[operator], argument = part(node, 'argument');
      if (to !== undefined && argument) found.push({ operator: 'arithmetic', label: `${operator} to ${to}`, text: node['prefix'] === true ? `${to}${text(argument)}` : `${text(argument)}${to}` });
      break;
    }
    case 'Literal': {
      const raw = String(node['raw']);
      if (typeof node['value'] === 'number' || typeof node['bigint'] === 'string') for (const to of numbers(raw, place.isCell)) found.push({ operator: 'number', label: `${raw} to ${to}`, text: to });
      const word = typeof node['value'] === 'string' ? words.words.get(node['value']) : undefined;
      if (word !== undefined) found.push({ operator: 'status', label: `${raw} to '${word}'`, text: `'${word}'` });
      break;
    }
    case 'MemberExpression': {
      const object = part(node, 'object'), name = part(node, 'property');
      if (object?.type !== 'Identifier' || name?.type !== 'Identifier' || node['computed'] === true) break;
      const members = words.members.get(String(object['name'])) ?? [];
      const to = members.includes(String(name['name'])) ? next(members, String(name['name'])) : undefined;
      if (to !== undefined) found.push({ operator: 'member', label: `${text(node)} to .${to}`, text: `${text(object)}.${to}` });
      break;
    }
  }
  const isComparison = node.type === 'BinaryExpression' && COMPARISONS[operator] !== undefined;
  const isNegation = node.type === 'UnaryExpression' && operator === '!';
  if (place.isCondition && !isComparison && !isLogic && node.type !== 'Literal') {
    const argument = part(node, 'argument');
    found.push({ operator: 'negate', label: isNegation ? 'drop the !' : 'negate', text: isNegation && argument ? `!!(${text(argument)})` : `!(${text(node)})` });
  }
  return found;
}

/** Swaps of neighbouring cells of a table row: arguments of a call that are plain names. */
export function cellSwaps(node: SyntaxNode, place: Place, text: (node: SyntaxNode) => string): readonly Change[] {
  if (node.type !== 'CallExpression' || !place.isCell) return [];
  const cells = parts(node, 'arguments'), callee = part(node, 'callee');
  if (!callee) return [];
  return cells.flatMap((cell, i): readonly Change[] => {
    const other = cells[i + 1];
    if (!other || cell.type !== 'Identifier' || other.type !== 'Identifier' || cell['name'] === other['name']) return [];
    const swapped = cells.map((c, k) => text(k === i ? other : k === i + 1 ? cell : c));
    return [{ operator: 'cells', label: `swap ${text(cell)} and ${text(other)} (column ${i + 1})`, text: `${text(callee)}(${swapped.join(', ')})` }];
  });
}

/** An `if` that leaves: `if (...) return x;` or `throw`, without `else`. @returns what it does then. */
export function guardOutcome(statement: SyntaxNode, text: (node: SyntaxNode) => string): string | null {
  if (statement.type !== 'IfStatement' || part(statement, 'alternate')) return null;
  const then = part(statement, 'consequent');
  const body = then?.type === 'BlockStatement' ? parts(then, 'body') : then ? [then] : [];
  const last = body.at(-1);
  return last && ['ReturnStatement', 'ThrowStatement', 'ContinueStatement', 'BreakStatement'].includes(last.type) ? body.map(text).join(' ') : null;
}

/** Whether two guards can never both hold, so that their order means nothing: they compare one thing with two literals. */
export function areExclusive(a: SyntaxNode, b: SyntaxNode, text: (node: SyntaxNode) => string): boolean {
  const [x, y] = [part(a, 'test'), part(b, 'test')];
  const same = (node: SyntaxNode | null): boolean => node?.type === 'BinaryExpression' && node['operator'] === '===' && bare(part(node, 'right') ?? node).type !== 'BinaryExpression';
  if (!x || !y || !same(x) || !same(y)) return false;
  const [l, m] = [part(x, 'left'), part(y, 'left')];
  return l !== null && m !== null && text(l) === text(m);
}

/** Collects the words of a program: its constant objects, its error names, and the codes of its errors. */
export function vocabularyOf(trees: readonly SyntaxNode[]): Vocabulary {
  const members = new Map<string, readonly string[]>();
  const errnos: string[] = [];
  for (const statement of trees.flatMap((tree) => parts(tree, 'body'))) {
    const declaration = statement.type === 'ExportNamedDeclaration' ? part(statement, 'declaration') : statement;
    if (declaration?.type !== 'VariableDeclaration') continue;
    for (const declarator of parts(declaration, 'declarations')) {
      const name = String(part(declarator, 'id')?.['name'] ?? ''), init = part(declarator, 'init');
      const object = init && bare(init);
      if (object?.type !== 'ObjectExpression' || !/^[A-Z][a-z]/.test(name) || CITATIONS.has(name)) continue;
      const properties = parts(object, 'properties');
      const keys = properties.map((p) => String(part(p, 'key')?.['name'] ?? ''));
      if (properties.length < 2 || keys.includes('') || properties.some((p) => !['Literal', 'UnaryExpression', 'BinaryExpression'].includes(part(p, 'value')?.type ?? ''))) continue;
      members.set(name, keys);
      if (name === 'Errno' || name === 'HostErrorCode') errnos.push(...keys);
    }
  }
  const isErrno = (word: string): boolean => ERRNO.test(word);
  const words = new Map<string, string>();
  for (const group of [errnos.filter(isErrno), errnos.filter((word) => !isErrno(word))]) for (const word of group) words.set(word, next(group, word) ?? word);
  return { members, words };
}
