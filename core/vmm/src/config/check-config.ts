import { HostError } from '@vmplanes/engine';
import { z } from 'zod';
import { type CheckedConfig, guestConfigSchema, guestTypeSchema, type GuestType } from './guest-config.ts';
import { type Complaint, explainIssues } from './explain-issues.ts';

const line = (c: Complaint): string => `${c.path === '' ? '' : `${c.path}: `}${c.problem}${c.fix === null ? '' : ` (${c.fix})`}`;

/**
 * Checks a value against a schema.
 * @param source - what the value is, for messages: a file name or such as `options of kvm-pv`.
 * @throws {HostError} BadConfig names the first problem in one line; `details.complaints` has all of them.
 */
export function checkAgainst<S extends z.ZodType>(schema: S, value: unknown, source: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const complaints = explainIssues(result.error.issues, value, z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Parameters<typeof explainIssues>[2]);
  const [first, ...more] = complaints;
  const rest = more.length === 0 ? '' : ` [and ${more.length} more]`;
  throw new HostError('BadConfig', `${source}: ${first ? line(first) : 'is not valid'}${rest}`, { source, path: first?.path ?? '', fix: first?.fix ?? undefined, complaints });
}

/** Checks a guest configuration. @throws {HostError} BadConfig with path and did-you-mean. */
export const checkConfig = (value: unknown, source = 'configuration'): CheckedConfig => checkAgainst(guestConfigSchema, value, source);

/** Checks a guest type that a plug-in contributes. @throws {HostError} BadConfig. */
export const checkGuestType = (value: unknown, source: string): GuestType => checkAgainst(guestTypeSchema, value, source);
