import { HostError } from '@vmplanes/engine';
import { canonical, type Json, parseTrace, sealHeader, sealRecord, type TraceHeader, type TraceRecord } from '@vmplanes/trace';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { record, replay, richGuest } from './tiny-machine.ts';

const { lines } = record(richGuest);
const header = JSON.parse(lines[0] as string) as TraceHeader;
const recordAt = (line: number): TraceRecord => JSON.parse(lines[line - 1] as string) as TraceRecord;
const with_ = (line: number, text: string): string[] => lines.with(line - 1, text);
const changed = (line: number, fields: object): string[] => with_(line, JSON.stringify({ ...recordAt(line), ...fields }));
const without = (line: number, field: string): string[] => with_(line, JSON.stringify(Object.fromEntries(Object.entries(recordAt(line)).filter(([k]) => k !== field))));
const lineOf = (kind: string): number => lines.findIndex((l) => l.startsWith(`{"k":"${kind}"`)) + 1;

/** Each row: what is wrong, the lines, what the error says. */
const corpus: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['nothing', [], /^line 1: the trace is empty/],
  ['only empty lines', ['', '  '], /^line 1: the trace is empty/],
  ['no JSON in the header', ['vmplanes'], /^line 1: not JSON/],
  ['a cut header', [(lines[0] as string).slice(0, 40)], /^line 1: not JSON/],
  ['another format', ['{"format":"perf"}'], /^line 1: the first line is not the header of a vmplanes-trace/],
  ['a list as header', ['[]'], /^line 1: the first line is not the header/],
  ['null as header', ['null'], /^line 1: the first line is not the header/],
  ['a later version', with_(1, JSON.stringify({ ...header, version: 2 })), /^line 1: trace version 2: this reader knows 1/],
  ['a version as text', with_(1, JSON.stringify({ ...header, version: '1' })), /^line 1: trace version "1"/],
  ['a header field missing', with_(1, JSON.stringify({ ...header, rule: undefined })), /^line 1: header: field 'rule' is missing/],
  ['a header field of another type', with_(1, JSON.stringify({ ...header, quantum: 'fast' })), /^line 1: header: field 'quantum' is "fast", expected a whole number from 0/],
  ['a header field too many', with_(1, JSON.stringify({ ...header, more: 1 })), /^line 1: header: unknown field 'more'/],
  ['seeds that are none', with_(1, JSON.stringify({ ...header, seeds: [1] })), /^line 1: header: field 'seeds'/],
  ['personalities that are none', with_(1, JSON.stringify({ ...header, personalities: {} })), /^line 1: header: field 'personalities'/],
  ['a personality without version', with_(1, JSON.stringify({ ...header, personalities: [{ name: 'x', options: {} }] })), /^line 1: header: personality: field 'version' is missing/],
  ['a list of unchecked fields that is none', with_(1, JSON.stringify({ ...header, unchecked: [1] })), /^line 1: header: field 'unchecked'/],
  ['a damaged header', with_(1, JSON.stringify({ ...header, cpuModel: 'other' })), /^line 1: header: digest/],
  ['no JSON inside', with_(5, '{"k":'), /^line 5: not JSON/],
  ['an empty line inside', with_(5, ''), /^line 5: an empty line inside the trace/],
  ['a number as record', with_(5, '7'), /^line 5: a record is 7, expected an object/],
  ['a record without kind', with_(5, '{}'), /^line 5: unknown record kind nothing/],
  ['an unknown kind', with_(5, '{"k":"jump"}'), /^line 5: unknown record kind "jump"/],
  ['a kind from the prototype', with_(5, '{"k":"toString"}'), /^line 5: unknown record kind "toString"/],
  ['a field missing', without(lineOf('switch'), 'why'), /field 'why' is missing \(expected a text\)/],
  ['a field too many', changed(lineOf('switch'), { x: 1 }), /record 'switch': unknown field 'x'/],
  ['an own __proto__', with_(3, (lines[2] as string).replace('{"k"', '{"__proto__":1,"k"')), /unknown field '__proto__'/],
  ['a negative count', changed(lineOf('enter'), { n: -1 }), /field 'n' is -1, expected a whole number from 0/],
  ['a fraction', changed(lineOf('enter'), { n: 1.5 }), /field 'n' is 1.5/],
  ['a number above 2^53', changed(lineOf('enter'), { n: 2 ** 60 }), /field 'n'/],
  ['a plane below -1', changed(lineOf('enter'), { p: -2 }), /field 'p' is -2, expected a whole number from -1/],
  ['a time as text', changed(lineOf('enter'), { t: '1' }), /field 't' is "1"/],
  ['registers in decimal', changed(lineOf('enter'), { r: { acc: '12' } }), /field 'r'/],
  ['a register as number', changed(lineOf('enter'), { r: { acc: 12 } }), /field 'r'/],
  ['an unknown answer', changed(lineOf('answer'), { a: 'maybe' }), /field 'a' is "maybe", expected one of resume, fault/],
  ['answer fields that are a list', changed(lineOf('answer'), { f: [] }), /field 'f'/],
  ['an unknown form of data', changed(lineOf('note'), { d: { $: 'map' } }), /field 'd' is {"\$":"map"}, expected encoded data/],
  ['bytes of odd length', changed(lineOf('write'), { b: 'abc' }), /field 'b' is "abc", expected pairs/],
  ['a flag as number', changed(lineOf('event'), { m: 1 }), /field 'm' is 1, expected true or false/],
  ['a short hash', changed(lineOf('end'), { state: 'ab' }), /field 'state' is "ab"/],
  ['a digest that does not fit', changed(lineOf('exit'), { key: 99 }), /record 'exit': digest is/],
  ['a record missing', lines.toSpliced(4, 1), /^line 5: record '\w+' has number 4, expected 3/],
  ['a record twice', lines.toSpliced(4, 0, lines[4] as string), /^line 6: record '\w+' has number 3, expected 4/],
  ['a line behind the end', [...lines, lines[1] as string], /a line behind the record 'end'/],
  ['two traces in one', [...lines, ...lines], /a line behind the record 'end'/],
];

describe('a malformed trace', () => {
  it.each(corpus)('with %s gets its named error', (_, text, message) => {
    const read = (): unknown => parseTrace(text);
    expect(read).toThrow(HostError);
    expect(read).toThrow(message);
    try {
      read();
    } catch (e) {
      expect((e as HostError).code).toBe('BadTrace');
      expect((e as HostError).details['line']).toBeTypeOf('number');
    }
  });

  it('is tolerated when only its last line is cut off, and the report says so', () => {
    const cut = [...lines.slice(0, 40), (lines[40] as string).slice(0, 20)];
    const trace = parseTrace(cut);
    expect(trace.truncated?.line).toBe(41);
    expect(trace.isComplete).toBe(false);
    const report = replay(trace, richGuest);
    expect(report.ok, report.summary).toBe(true);
    expect(report.summary).toMatch(/cut off in line 41: its last state was not compared/);
    for (const length of [1, 2, 3, 10, 41, 42, 43, 71, 72, 80, 100]) expect(replay(lines.slice(0, length + 1), richGuest), `${length} records`).toMatchObject({ divergences: [] });
  });

  it('with nothing to check is no success', () => {
    const report = replay(lines.slice(0, 1), richGuest);
    expect(report).toMatchObject({ ok: false, summary: 'nothing was checked' });
  });

  it('that fits the format but not the machine is refused by name', () => {
    const seal = (line: number, fields: object): string[] => with_(line, JSON.stringify(sealRecord({ ...recordAt(line), ...fields } as TraceRecord)));
    const first = lineOf('exit');
    for (const [text, message] of [
      [seal(first, { r: { rax: '0x1' } }), /architecture tiny has no register 'rax'/],
      [seal(first, { r: { acc: '0x1ffffffffffffffff' } }), /does not fit register 'acc' of 8 bytes/],
      [seal(first, { x: 'vmrun' }), /'vmrun' is not an exit of tiny/],
      [seal(first, { ev: 7 }), null],
      [seal(first, { n: 0, t: 0 }), null],
      [seal(lineOf('input'), { v: 60 }), null],
    ] as const) {
      if (message) expect(() => replay(text, richGuest)).toThrow(message);
      else expect(replay(text, richGuest).ok).toBe(false);
    }
  });

  it('of any other kind gets a named error or is read', () => {
    const anyLine = fc.oneof(fc.string(), fc.json(), fc.constantFrom(...lines), fc.constant('['.repeat(50_000)));
    fc.assert(
      fc.property(fc.array(anyLine, { maxLength: 6 }), fc.boolean(), (some, hasHeader) => {
        try {
          parseTrace(hasHeader ? [lines[0] as string, ...some] : some);
        } catch (e) {
          expect(e).toBeInstanceOf(HostError);
          expect((e as HostError).code).toBe('BadTrace');
        }
      }),
      { numRuns: 300 },
    );
  });

  it('made by random damage to one line gets a named error or differs in nothing that counts', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: lines.length - 1 }), fc.nat(), fc.integer({ min: 32, max: 126 }), (at, place, code) => {
        const line = lines[at] as string;
        const i = place % line.length;
        const text = line.slice(0, i) + String.fromCharCode(code) + line.slice(i + 1);
        if (text === line) return;
        try {
          const report = replay(with_(at + 1, text), richGuest);
          const same = ((): boolean => {
            try {
              return canonical(JSON.parse(text) as Json) === canonical(JSON.parse(line) as Json);
            } catch {
              return false;
            }
          })();
          // The last line may be cut off.
          expect(report.ok && !same && at < lines.length - 1).toBe(false);
        } catch (e) {
          expect(e).toBeInstanceOf(HostError);
          expect((e as HostError).code).toBe('BadTrace');
        }
      }),
      { numRuns: 500 },
    );
  });

  it('keeps a valid header valid', () => {
    expect(sealHeader(header)).toEqual(header);
  });
});
