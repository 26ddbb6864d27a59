import { HV_PARTITION_ID_SELF } from '@vmplanes/abi-hyperv';
import { Activity } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { assistPage, type Code, enableVtl, hypercalls, type Program, slow, vtlCall, vtlReturn, Vtls } from './vsm-fixture.ts';

const words = (...list: readonly bigint[]): Uint8Array => new Uint8Array(new BigUint64Array(list).buffer);
const PIN = 0x112;
const SELF_IPI = 0x4_0031;
/** Sends VP 0 a fixed interrupt: ICR with shorthand self. */
function* interruptMyself(): Code<void> {
  yield { op: 'cli' };
  yield { op: 'ipi', icr: SELF_IPI };
}

describe('a rep call of a guest', () => {
  const list = words(0n, 1n, 2n, 3n, 4n, 5n);

  it('is continued until it is done', () => {
    const g = new Vtls(1, { repBudget: 200 });
    const results: unknown[] = [];
    expect(
      g.run([
        [
          function* () {
            yield* hypercalls(0);
            const { status, done } = yield* slow(0, PIN, list, 5);
            results.push([status, done]);
          },
        ],
      ]),
    ).toBe('idle');
    expect(results).toEqual([[0, 5]]);
  });

  it('lets timers come in between: its runs take time', () => {
    const g = new Vtls(1, { repBudget: 20_000 });
    const order: string[] = [];
    g.run(
      [
        [
          function* () {
            yield* hypercalls(0);
            yield { op: 'sti' };
            yield { op: 'apicWrite', register: 0x32, value: 0x40 };
            yield { op: 'apicWrite', register: 0x3e, value: 0xb };
            yield { op: 'apicWrite', register: 0x38, value: 300 };
            const { status, done } = yield* slow(0, PIN, words(0n, ...new Array<bigint>(400).fill(0n)), 400);
            order.push(`done ${status} ${done}`);
          },
        ],
      ],
      function* (_vp, _vtl, vector) {
        order.push(`vector 0x${vector.toString(16)}`);
        yield { op: 'eoi' };
      },
    );
    expect(order).toEqual(['vector 0x40', 'done 0 400']);
  });
});

describe('a flush while a higher VTL locks translations', () => {
  it('waits until that VTL returns', () => {
    const g = new Vtls(2);
    const order: string[] = [];
    g.start(1);
    // VP 0 locks its VTL0 from VTL1, waits, returns; VP 1 flushes VTL0 of all VPs meanwhile.
    const flushAll = words(0n, 3n, 0n);
    const translateAndLock = words(HV_PARTITION_ID_SELF, 0xffff_fffen, 0x10n << 56n | 0x29n, 0x10n);
    const programs: (readonly (Program | undefined)[])[] = [
      [
        function* () {
          yield* hypercalls(0);
          yield* enableVtl(0, 1);
          yield* vtlCall();
          order.push('VP 0 is back');
        },
        function* () {
          yield* hypercalls(1);
          yield* assistPage(1);
          const { status } = yield* slow(1, 0x52, translateAndLock);
          order.push(`locked ${status}`);
          for (let i = 0; i < 20; i++) yield { op: 'work', cost: 200 };
          order.push('returns');
          yield* vtlReturn();
        },
      ],
      [
        function* () {
          for (let i = 0; i < 10; i++) yield { op: 'work', cost: 200 };
          yield* hypercalls(0);
          const { status } = yield* slow(0, 0x02, flushAll);
          order.push(`flushed ${status}`);
        },
      ],
    ];
    expect(g.run(programs)).toBe('idle');
    expect(order.slice(0, 2)).toEqual(['locked 0', 'returns']);
    expect(order.slice(2).sort()).toEqual(['VP 0 is back', 'flushed 0']);
    expect(g.context(1, 0).activity).not.toBe(Activity.Held);
  });
});

it('an interrupt of the caller is taken at the end of a call that it made itself', () => {
  const g = new Vtls(1);
  const order: string[] = [];
  g.run(
    [
      [
        function* () {
          yield* hypercalls(0);
          yield* interruptMyself();
          order.push('sti');
          yield { op: 'sti' };
          yield* slow(0, PIN, words(0n, 1n), 1);
          order.push('called');
        },
      ],
    ],
    function* (_vp, _vtl, vector) {
      order.push(`vector 0x${vector.toString(16)}`);
      yield { op: 'eoi' };
    },
  );
  expect(order).toEqual(['sti', 'vector 0x31', 'called']);
});
