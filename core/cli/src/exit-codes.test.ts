import { HostError, HostErrorCode } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { exitCodes, exitOfError, toldOf, UsageError } from './exit-codes.ts';

describe('exit codes', () => {
  it('are one number each', () => {
    const codes = Object.values(exitCodes).map((e) => e.code);
    expect(new Set(codes).size).toBe(codes.length);
  });

  it('cover every error of the engine', () => expect(Object.keys(exitOfError).sort()).toEqual(Object.keys(HostErrorCode).sort()));

  it.each<[string, unknown, object]>([
    ['a misuse', new UsageError('no such thing', 'do that'), { exit: 'Usage', code: 'Usage', message: 'no such thing', hint: 'do that' }],
    ['an error with its fix in the text', new HostError('BadConfig', 'a: b (do c)', { fix: 'do c', path: 'a' }), { exit: 'Config', message: 'a: b (do c)', hint: null, details: { path: 'a' } }],
    ['an error with its fix beside it', new HostError('BadTrace', 'line 3: x', { line: 3, fix: 'do c', cause: {} }), { exit: 'Divergence', hint: 'do c', details: { line: 3 } }],
    ['an error of two lines', new HostError('BadScript', 'a\nb'), { message: 'a b' }],
    ['a defect', new TypeError('oops'), { exit: 'Internal', code: 'Internal' }],
    ['anything', 'text', { exit: 'Internal', message: 'text' }],
  ])('tell %s', (_what, error, told) => expect(toldOf(error)).toMatchObject(told));
});
