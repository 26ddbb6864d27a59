import { closest, distance } from 'fastest-levenshtein';
import type { z } from 'zod';

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** One thing wrong with a value: where, what, and what was probably meant. */
export interface Complaint {
  /** Such as `personalities[1].options`; empty for the value as a whole. */
  readonly path: string;
  readonly problem: string;
  readonly fix: string | null;
}

/** Writes a path the way JavaScript would. */
export const pathText = (path: Path): string => path.map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i === 0 ? '' : '.'}${String(part)}`)).join('');

/** The known word nearest to a given one, or null when none is near enough to be a slip of the pen. */
export function didYouMean(given: string, known: readonly string[]): string | null {
  if (known.length === 0) return null;
  const lower = given.toLowerCase();
  const best = known.find((k) => k.toLowerCase() === lower) ?? closest(given, known);
  // Two slips in a short word, more in a long one; a swap of letters counts as two.
  const limit = Math.min(best.length - 1, Math.ceil(best.length * 0.4));
  return distance(lower, best.toLowerCase()) <= limit ? best : null;
}

/** A JSON Schema node, as far as looking up names needs it. */
interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly items?: SchemaNode;
  readonly anyOf?: readonly SchemaNode[];
}

/** Property names that a schema knows at a path; empty where it has none. */
export function keysAt(node: SchemaNode | undefined, path: Path): readonly string[] {
  if (!node) return [];
  const own = (): readonly string[] => {
    const [first, ...rest] = path;
    if (first === undefined) return Object.keys(node.properties ?? {});
    return keysAt(typeof first === 'number' ? node.items : node.properties?.[String(first)], rest);
  };
  return [own(), ...(node.anyOf ?? []).map((branch) => keysAt(branch, path))].flat();
}

const valueAt = (value: unknown, path: Path): unknown => path.reduce<unknown>((v, key) => (v === null || typeof v !== 'object' ? undefined : (v as Record<PropertyKey, unknown>)[key]), value);

const shown = (value: unknown): string => {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
};

const listed = (names: readonly string[]): string => names.map((n) => `'${n}'`).join(', ');

/** Branches of a union that complain about something inside the value fit it better than those that refuse its type. */
const bestBranch = (branches: readonly (readonly Issue[])[]): readonly Issue[] | undefined => branches.find((issues) => issues.length > 0 && !issues.some((i) => i.code === 'invalid_type' && i.path.length === 0));

const typeNames = (branches: readonly (readonly Issue[])[]): string => {
  const names = branches.flat().flatMap((i) => (i.code === 'invalid_type' && i.path.length === 0 ? [i.expected] : []));
  return [...new Set(names)].join(' or ');
};

/**
 * Turns what a schema found into sentences with paths and did-you-mean.
 * @param value - what was checked, for showing what was given.
 * @param schema - JSON Schema of it, for the names that are known.
 */
export function explainIssues(issues: readonly Issue[], value: unknown, schema: SchemaNode): readonly Complaint[] {
  const explain = (issue: Issue, prefix: Path): readonly Complaint[] => {
    const path = [...prefix, ...issue.path];
    const at = pathText(path);
    const given = valueAt(value, path);
    const one = (problem: string, fix: string | null = null): readonly Complaint[] => [{ path: at, problem, fix }];
    switch (issue.code) {
      case 'unrecognized_keys': {
        const known = keysAt(schema, path);
        return issue.keys.map((key) => {
          const near = didYouMean(key, known);
          return { path: pathText([...path, key]), problem: `unknown key '${key}'`, fix: near ? `did you mean '${near}'?` : `known keys: ${known.join(', ')}` };
        });
      }
      case 'invalid_value': {
        const known = issue.values.map(String);
        const near = typeof given === 'string' ? didYouMean(given, known) : null;
        return one(`${shown(given)} is not one of ${listed(known)}`, near ? `did you mean '${near}'?` : null);
      }
      case 'invalid_union': {
        const best = bestBranch(issue.errors);
        if (best) return best.flatMap((inner) => explain(inner, path));
        return one(`expected ${typeNames(issue.errors)}, got ${shown(given)}`);
      }
      case 'invalid_type':
        return one(given === undefined ? 'is missing' : `expected ${issue.expected}, got ${shown(given)}`);
      case 'too_small':
        return one(issue.origin === 'array' || issue.origin === 'string' ? `is too short: ${shown(given)}` : `${shown(given)} is below ${issue.inclusive === false ? 'or at ' : ''}${String(issue.minimum)}`);
      case 'too_big':
        return one(issue.origin === 'array' || issue.origin === 'string' ? `is too long: ${shown(given)}` : `${shown(given)} is above ${String(issue.maximum)}`);
      case 'not_multiple_of':
        return one(`${shown(given)} is not a multiple of ${issue.divisor}`);
      case 'invalid_format':
        return one(`${shown(given)} does not match ${issue.pattern ?? issue.format}`);
      default:
        return one(`${shown(given)}: ${issue.message}`);
    }
  };
  return issues.flatMap((issue) => explain(issue, []));
}
