import { areExclusive, cellSwaps, type Change, changesOf, CITATIONS, guardOutcome, type Operator, type Place, type Vocabulary } from './operators.ts';
import { bare, parse, part, runTimeChildren, type SyntaxNode } from './syntax.ts';

/** One change of one place of the program, chosen at run time by its number. */
export interface Mutation {
  /** 1 and up; 0 is the program as it is written. */
  readonly id: number;
  readonly file: string;
  readonly line: number;
  /** The first line of the changed text, trimmed: with file and change it names the mutation in {@link Acceptance}. */
  readonly source: string;
  readonly operator: Operator;
  readonly change: string;
  /** Which one of several with equal file, source and change: 1 and up. */
  readonly nth: number;
  /** The first mutation of the same place, which coverage marks. */
  readonly site: number;
}

const LOOPS = new Set(['ForStatement', 'ForInStatement', 'ForOfStatement', 'WhileStatement', 'DoWhileStatement']);
const CONDITIONS = new Set(['IfStatement', 'WhileStatement', 'DoWhileStatement', 'ForStatement', 'ConditionalExpression']);
/** The bound of loops: a change that makes one endless is stopped there, without ending the process. */
const TICK = 'if(--$m.n<0)$m.stop();';

/** Numbers mutations through all files of a campaign. */
export class MutationList {
  readonly all: Mutation[] = [];
  readonly #seen = new Map<string, number>();

  add(file: string, line: number, source: string, change: { readonly operator: Operator; readonly label: string }, site?: number): number {
    const key = `${file}\n${source}\n${change.label}`;
    const nth = (this.#seen.get(key) ?? 0) + 1;
    this.#seen.set(key, nth);
    const id = this.all.length + 1;
    this.all.push({ id, file, line, source, operator: change.operator, change: change.label, nth, site: site ?? id });
    return id;
  }
}

/** The mark that a place was reached; {@link withoutMarks} takes it out again. */
const mark = (id: number): string => `$m.h[${id}]=1`;
/** Takes the marks out of an instrumented script, whoever printed it: what runs thousands of times need not record. */
export const withoutMarks = (code: string): string => code.replace(/\$m\.h\[\d+\]\s*=\s*1\s*[,;]/g, '');

/**
 * Puts all changes of a file into its text at once, each behind a comparison of `$m.a` with its number, and marks each place.
 * Changed copies hold plain text inside: one change is active at a time.
 */
export function instrument(file: string, text: string, words: Vocabulary, list: MutationList): string {
  const lineStarts = [0];
  for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) lineStarts.push(i + 1);
  const plain = (node: SyntaxNode): string => text.slice(node.start, node.end);
  const register = (node: SyntaxNode, change: { readonly operator: Operator; readonly label: string }, site?: number): number => {
    let line = lineStarts.length;
    while (lineStarts[line - 1]! > node.start) line--;
    return list.add(file, line, text.slice(lineStarts[line - 1], lineStarts[line] ?? text.length).trim(), change, site);
  };

  const wrap = (node: SyntaxNode, inner: string, changes: readonly Change[]): string => {
    if (changes.length === 0) return inner;
    const ids: number[] = [];
    for (const change of changes) ids.push(register(node, change, ids[0]));
    const choice = changes.slice(1).reduce((rest, change, i) => `$m.a===${ids[i + 1]}?${change.text}:${rest}`, changes[0]!.text);
    const test = ids.length === 1 ? `$m.a===${ids[0]}` : `$m.a>=${ids[0]}&&$m.a<=${ids.at(-1)}`;
    return `(${mark(ids[0]!)},${test}?(${choice}):${inner})`;
  };

  const splice = (node: SyntaxNode, children: readonly (readonly [SyntaxNode, string])[]): string => {
    let done = '', at = node.start;
    for (const [child, inner] of children) {
      if (child.start < at) continue;
      done += text.slice(at, child.start) + inner;
      at = child.end;
    }
    return done + text.slice(at, node.end);
  };

  const placeOf = (parent: SyntaxNode, child: SyntaxNode, place: Place): Place => {
    const callee = String(part(parent, 'callee')?.['name'] ?? '');
    const isErrorText = parent.type === 'NewExpression' && callee.endsWith('Error') && !(child.type === 'Literal' && typeof child['value'] === 'string');
    const isMessage = place.isMessage || isErrorText || parent.type === 'TemplateLiteral' || (parent.type === 'CallExpression' && CITATIONS.has(callee));
    const isTest = CONDITIONS.has(parent.type) && parent['test'] === child;
    const isOperand = place.isCondition && (parent.type === 'LogicalExpression' || parent.type === 'ParenthesizedExpression');
    const isCell = (parent.type === 'Property' && parent['value'] === child) || parent.type === 'ArrayExpression' || (place.isCell && (bare(parent) !== parent || parent.type === 'UnaryExpression'));
    return { isCondition: isTest || isOperand, isMessage, isCell };
  };

  /** A guard that is followed by another: the later one is asked first. */
  const withOrder = (statement: SyntaxNode, done: string, follower: SyntaxNode | undefined): string => {
    const outcome = guardOutcome(statement, plain);
    const after = follower && guardOutcome(follower, plain);
    if (!follower || outcome === null || after === null || after === undefined || after === outcome || areExclusive(statement, follower, plain)) return done;
    const id = register(statement, { operator: 'order', label: `swap with the check below: ${plain(follower).split('\n')[0]!.trim()}` });
    return `${mark(id)};if($m.a===${id}){${plain(follower)}}${done}`;
  };

  const statementOf = (node: SyntaxNode, done: string, follower: SyntaxNode | undefined): string => {
    const expression = node.type === 'ExpressionStatement' ? part(node, 'expression') : null;
    if (expression?.type === 'CallExpression' && part(expression, 'callee')?.type !== 'Super') {
      const id = register(node, { operator: 'remove', label: 'remove the call' });
      return `{${mark(id)};if($m.a!==${id}){${done}}}`;
    }
    return withOrder(node, done, follower);
  };

  const visit = (node: SyntaxNode, place: Place): string => {
    const children = runTimeChildren(node);
    const isList = ['BlockStatement', 'Program', 'SwitchCase'].includes(node.type);
    const done = children.map((child, i): readonly [SyntaxNode, string] => {
      let inner = visit(child, placeOf(node, child, place));
      if (isList || node.type === 'IfStatement' || LOOPS.has(node.type)) inner = statementOf(child, inner, isList ? children[i + 1] : undefined);
      if (LOOPS.has(node.type) && node['body'] === child) inner = `{${TICK}${inner}}`;
      return [child, inner];
    });
    const inner = splice(node, done);
    if (place.isMessage) return inner;
    return wrap(node, inner, [...changesOf(node, place, words, plain), ...cellSwaps(node, place, plain)]);
  };
  return visit(parse(file, text), { isCondition: false, isMessage: false, isCell: false });
}

/** Bounds the loops of a file and changes nothing else. */
export function boundLoops(file: string, text: string): string {
  const bodies: SyntaxNode[] = [];
  const visit = (node: SyntaxNode): void => {
    const body = LOOPS.has(node.type) ? part(node, 'body') : null;
    if (body) bodies.push(body);
    runTimeChildren(node).forEach(visit);
  };
  visit(parse(file, text));
  const edits = bodies.flatMap((body) => [[body.start, `{${TICK}`], [body.end, '}']] as const).sort((a, b) => b[0] - a[0]);
  return edits.reduce((done, [at, insert]) => done.slice(0, at) + insert + done.slice(at), text);
}
