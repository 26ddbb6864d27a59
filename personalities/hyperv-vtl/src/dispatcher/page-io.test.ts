import { HvStatus, rep, simple } from '@vmplanes/abi-hyperv';
import { struct, u64 } from '@vmplanes/binary';
import { Side, subject, SubjectKind } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { CallRig, OUT } from '../call-fixture.ts';
import type { HvOptions } from '../options.ts';
import { on } from './bind.ts';
import { CallFrame } from './call-frame.ts';
import { Dispatcher } from './dispatcher.ts';
import { PageIo } from './page-io.ts';

const spec = 'test';
const Head = struct('Head', spec, 8, { a: [0, u64] });
const Simple = simple('Simple', { code: 0x1001, spec, fast: 'registers', header: Head });
const Rep = rep('Rep', { code: 0x1002, spec, fast: 'xmm', header: Head, element: u64, outputElement: u64 });
const table = [
  on(Simple, () => HvStatus.Success),
  on(Rep, { element: (_call, _input, e, out) => {
    if (e.lo === 9) return HvStatus.InvalidParameter;
    out.lo = e.lo * 2;
    return HvStatus.Success;
  } }),
];

const make = (options: Partial<HvOptions> = {}) => {
  const rig = new CallRig(1, options);
  const io = new PageIo(rig);
  const dispatcher = new Dispatcher(rig, table);
  const frame = new CallFrame(rig, rig.machine.vp(0));
  const shared = subject(SubjectKind.Call, 0, Side.Current, false);
  return {
    rig,
    /** @returns the answer, the status and the elements done. */
    call: (code: number, high: number, words: readonly bigint[], bits = 0, out = OUT) => {
      frame.context = rig.context();
      frame.vtl = 0;
      frame.wide = true;
      io.open(code | bits, high, new Uint8Array(new BigUint64Array(words).buffer), out, shared);
      return [dispatcher.serve(frame, io).kind, io.resultLo, io.resultHi];
    },
  };
};

describe('a call in a shared page', () => {
  it('gives its result to the page, no register changed', () => {
    const { rig, call } = make();
    rig.set(rig.context(), 'rax', 0x77n);
    expect(call(0x1001, 0, [1n])).toEqual(['resume', 0, 0]);
    expect(rig.get(rig.context(), 'rax')).toBe(0x77n);
  });
  it('shows timeout with the elements done, and goes on from the start index its caller gives', () => {
    const { rig, call } = make({ repBudget: 200 });
    const words = [0n, 1n, 2n, 3n, 4n, 5n];
    expect(call(0x1002, 5, words)).toEqual(['resume', HvStatus.Timeout, 2]);
    expect(call(0x1002, 5 | (2 << 16), words)).toEqual(['resume', HvStatus.Timeout, 4]);
    expect(call(0x1002, 5 | (4 << 16), words)).toEqual(['resume', 0, 5]);
    expect([0, 1, 2, 3, 4].map((i) => rig.peek(OUT + 8 * i))).toEqual([2n, 4n, 6n, 8n, 10n]);
  });
  it('fails at an element', () => expect(make().call(0x1002, 3, [0n, 1n, 9n, 3n])).toEqual(['resume', HvStatus.InvalidParameter, 1]));
  it('has no register form', () => expect(make().call(0x1001, 0, [1n], 1 << 16)).toEqual(['resume', HvStatus.InvalidHypercallInput, 0]));
  it('cannot switch VTLs', () => expect(make().call(0x11, 0, [])).toEqual(['resume', HvStatus.InvalidHypercallCode, 0]));
  it('has no input behind its page', () => expect(make().call(0x1002, 4, [0n, 1n])).toEqual(['resume', HvStatus.InvalidHypercallInput, 0]));
  it('is told by a status when output cannot be stored', () => expect(make().call(0x1002, 1, [0n, 1n], 0, 0x80_0000)).toEqual(['resume', HvStatus.InvalidHypercallInput, 0]));
});
