import { HvMessageType, HvRegister } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { combinedFault } from './double-fault.ts';
import { type Code, enableVtl, getRegister, hypercalls, setRegister, simpOf, synic, vtlCall, vtlReturn, Vtls } from './vsm-fixture.ts';

const LOWER = 0x10;
const exception = (vector: number, errorCode: number | null = null, parameter = 0n): bigint =>
  1n | (errorCode === null ? 0n : 0x100n | (BigInt(errorCode) << 32n)) | (BigInt(vector) << 16n) | (parameter << 64n);

/** VTL1 does `vtl1` when called, then returns; VTL0 goes on with `after`. @returns vectors VTL0 took. */
const scene = (vtl1: (g: Vtls) => Code<void>, after: () => Code<void> = function* () { yield { op: 'work' }; }): { readonly g: Vtls; readonly taken: string[] } => {
  const g = new Vtls(1);
  const taken: string[] = [];
  let finished = false;
  g.run(
    [[
      function* () {
        yield* hypercalls(0);
        yield* enableVtl(0, 1);
        const { fault } = yield* vtlCall();
        if (fault) taken.push(`fault ${fault.vector} ${String(fault.errorCode)} 0x${fault.address.toString(16)}`);
        yield* after();
      },
      function* () {
        yield* hypercalls(1);
        yield* synic(1, 0x40);
        yield* vtl1(g);
        finished = true;
        yield* vtlReturn();
      },
    ]],
    function* (_vp, vtl, vector) {
      taken.push(`VTL${vtl} ${vector}`);
      yield { op: 'work' };
    },
  );
  expect(finished).toBe(true);
  return { g, taken };
};

describe('PendingEvent0', () => {
  it('is read back until its VTL runs, which then takes it', () => {
    const { g, taken } = scene(function* () {
      expect(yield* setRegister(1, HvRegister.PendingEvent0, exception(14, 6, 0xbadn), LOWER)).toBe(0);
      expect(yield* getRegister(1, HvRegister.PendingEvent0, LOWER)).toBe(exception(14, 6, 0xbadn));
    });
    expect(taken).toEqual(['fault 14 6 0xbad']);
    expect(g.hv.chapters.events.read(g.context(0, 0), 0)).toBe(0n);
    expect(g.get(0, 0, 'cr2')).toBe(0xbadn);
  });

  it('makes a double fault with an exception that is due', () => {
    const { taken } = scene(function* () {
      // A general protection that is due already.
      yield* setRegister(1, HvRegister.PendingInterruption, 1n | (3n << 1n) | (13n << 16n), LOWER);
      yield* setRegister(1, HvRegister.PendingEvent0, exception(11, 0), LOWER);
    });
    expect(taken).toEqual(['fault 8 0 0x0']);
  });

  it('ends the halt of its VTL', () => {
    const { taken } = scene(function* () {
      yield* setRegister(1, HvRegister.InternalActivityState, 2n, LOWER);
      yield* setRegister(1, HvRegister.PendingEvent0, exception(6), LOWER);
    });
    expect(taken).toHaveLength(1);
  });

  it('is refused for the own VTL, for vectors that are none, and for events that only the hypervisor makes', () => {
    const seen: unknown[] = [];
    scene(function* () {
      seen.push(yield* setRegister(1, HvRegister.PendingEvent0, exception(14), 0x11), yield* getRegister(1, HvRegister.PendingEvent0, 0x11));
      for (const value of [exception(0x16), exception(2), exception(0x15), 3n, 0n, 0xbn | (0x0fn << 8n), 0xbn | (0x50n << 8n), 0n]) seen.push(yield* setRegister(1, HvRegister.PendingEvent0, value, LOWER));
    });
    expect(seen).toEqual([5, -5n, 0x50, 0x50, 0, 0x50, 0, 0x50, 0, 0]);
  });
});

// @spec SDM 3A Table 6-5
it.each([[13, 13, 8], [13, 14, 14], [14, 13, 8], [14, 14, 8], [6, 14, 14], [13, 6, 6], [0, 11, 8], [8, 6, 8], [1, 3, 3]])('exception %i then %i gives %i', (first, second, expected) => {
  expect(combinedFault(first, second)).toBe(expected);
});

describe('deliverability notifications', () => {
  it.each([
    ['an interrupt, once VTL0 enables them', 2n, function* (): Code<void> { yield { op: 'work' }; yield { op: 'sti' }; yield { op: 'work' }; yield { op: 'cpuid', leaf: 1 }; }, HvMessageType.X64InterruptionDeliverable],
    ['an NMI, at once', 1n, function* (): Code<void> { yield { op: 'work' }; }, HvMessageType.X64InterruptionDeliverable],
    ['a SINT, once it is set up', 8n << 48n, function* (): Code<void> { yield* synic(0, 0x41); yield { op: 'wrmsr', index: 0x4000_0093, value: 0x42 }; yield { op: 'cpuid', leaf: 1 }; }, HvMessageType.SynicSintDeliverable],
  ] as const)('tell of %s', (_what, asked, after, type) => {
    const { g } = scene(function* () {
      expect(yield* setRegister(1, HvRegister.DeliverabilityNotifications, asked, LOWER)).toBe(0);
      expect(yield* getRegister(1, HvRegister.DeliverabilityNotifications, LOWER)).toBe(asked);
    }, after);
    expect(new DataView(g.bytes(1, simpOf(1), 4).buffer).getUint32(0, true)).toBe(type);
    expect(g.hv.chapters.events.notifications(g.context(0, 0))).toBe(0n);
  });

  it('are silent while nothing comes true', () => {
    const { g } = scene(function* () {
      yield* setRegister(1, HvRegister.DeliverabilityNotifications, 2n, LOWER);
    }, function* () { yield { op: 'cpuid', leaf: 1 }; });
    expect(g.bytes(1, simpOf(1), 4)).toEqual(new Uint8Array(4));
  });
});
