import { parseSync } from 'vite';

/** A node of a syntax tree: its type, where it stands in the text, and its parts by name. */
export interface SyntaxNode {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [part: string]: unknown;
}
/** Tells nodes from other values. */
export const isNode = (value: unknown): value is SyntaxNode =>
  typeof value === 'object' && value !== null && 'type' in value && 'start' in value && typeof value.type === 'string' && typeof value.start === 'number';

/** Parses TypeScript. @throws {SyntaxError} on text that does not parse. */
export function parse(path: string, text: string): SyntaxNode {
  const { program, errors } = parseSync(path, text);
  if (errors.length > 0) throw new SyntaxError(`${path}: ${errors[0]?.message}`);
  const tree: unknown = program;
  if (!isNode(tree)) throw new SyntaxError(`${path}: no syntax tree`);
  return tree;
}

/** One part that is a node, without parentheses around it. */
export function part(node: SyntaxNode, name: string): SyntaxNode | null {
  let found = node[name];
  while (isNode(found) && found.type === 'ParenthesizedExpression') found = found['expression'];
  return isNode(found) ? found : null;
}
/** The nodes of a part that is a list. */
export function parts(node: SyntaxNode, name: string): readonly SyntaxNode[] {
  const found = node[name];
  return Array.isArray(found) ? found.filter(isNode) : [];
}

/** Names of a part that exist at compile time only, or that name a thing instead of computing it. */
const COMPILE_TIME = new Set(['typeAnnotation', 'typeParameters', 'typeArguments', 'superTypeArguments', 'returnType', 'implements', 'decorators', 'source', 'attributes', 'label', 'id']);
/** Type-level wrappers around an expression that runs. */
const WRAPPERS = new Set(['TSAsExpression', 'TSSatisfiesExpression', 'TSNonNullExpression']);
const NAMED = new Set(['Property', 'MethodDefinition', 'PropertyDefinition', 'AccessorProperty', 'MemberExpression']);

/** Parts of a node that are evaluated at run time, in the order of the text. */
export function runTimeChildren(node: SyntaxNode): readonly SyntaxNode[] {
  if (WRAPPERS.has(node.type)) return parts({ ...node, only: [node['expression']] }, 'only');
  if (node.type === 'TSParameterProperty') return parts({ ...node, only: [node['parameter']] }, 'only');
  if (node.type.startsWith('TS') || node.type.startsWith('Import') || node['declare'] === true) return [];
  const isNamed = NAMED.has(node.type) && node['computed'] !== true;
  const found: SyntaxNode[] = [];
  for (const [name, value] of Object.entries(node)) {
    if ((COMPILE_TIME.has(name) && !(name === 'id' && node.type === 'VariableDeclarator')) || (isNamed && (name === 'key' || name === 'property'))) continue;
    for (const child of Array.isArray(value) ? value : [value]) if (isNode(child)) found.push(child);
  }
  return found.sort((a, b) => a.start - b.start || b.end - a.end);
}

/** Without parentheses and type-level wrappers. */
export function bare(node: SyntaxNode): SyntaxNode {
  let found = node;
  while (found.type === 'ParenthesizedExpression' || WRAPPERS.has(found.type)) {
    const inner = found['expression'];
    if (!isNode(inner)) break;
    found = inner;
  }
  return found;
}
