import { HvStatus } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { BAD, CallRig, casesOf, OUT, pair, requested, SELF, type Issue, type Row } from './call-fixture.ts';
import type { HvOptions } from './options.ts';

const { InvalidParameter, AccessDenied, InvalidVpIndex, InvalidConnectionId, InvalidPortId, InvalidSynicState } = HvStatus;

/** Issues each row of a call's table, by VTL0 unless it says otherwise. */
const statuses = (code: number, usual: Partial<Issue>, rows: readonly Row[]): void => {
  it.each(casesOf(rows))('%s', (_what, issue, status, options, vtl) => {
    const rig = new CallRig(2, options);
    expect(rig.issue(rig.context(0, vtl), { code, ...usual, ...issue }).status).toBe(status);
  });
};

describe('PostMessage and SignalEvent', () => {
  const port = { vp: 1, vtl: 0, sint: 2, baseFlag: 0, flagCount: 2048, minConnectionVtl: 0 };
  const options: Partial<HvOptions> = {
    ports: [
      { ...port, connectionId: 0x11, kind: 'message' },
      { ...port, connectionId: 0x12, kind: 'event', baseFlag: 64, flagCount: 8 },
      { ...port, connectionId: 0x13, kind: 'message', minConnectionVtl: 1 },
      { ...port, connectionId: 0x14, kind: 'message', vp: 9 },
    ],
  };
  const message = (connection: bigint, type = 1, size = 8): bigint[] => [connection, pair(type, size), 0x1122_3344_5566_7788n];
  statuses(0x5c, { input: message(0x11n) }, [
    ['an unknown connection', { input: message(0x99n) }, InvalidConnectionId, options],
    ['reserved bits of the connection', { input: message(0x0100_0011n) }, InvalidParameter, options],
    ['a port of events', { input: message(0x12n) }, InvalidPortId, options],
    ['a type of the hypervisor', { input: message(0x11n, 0x8000_0001) }, InvalidParameter, options],
    ['the empty type', { input: message(0x11n, 0) }, InvalidParameter, options],
    ['too much payload', { input: message(0x11n, 1, 241) }, InvalidParameter, options],
    ['a connection of a higher VTL', { input: message(0x13n) }, AccessDenied, options],
    ['a VP that does not exist', { input: message(0x14n) }, InvalidVpIndex, options],
    ['a receiver whose SynIC is off', {}, InvalidSynicState, options],
    ['without the privilege', {}, AccessDenied, { ...options, withhold: ['postMessages'] }],
  ]);
  statuses(0x5d, { fast: true, input: [0x12n] }, [
    ['an unknown connection for events', { input: [0x99n] }, InvalidConnectionId, options],
    ['a port of messages', { input: [0x11n] }, InvalidPortId, options],
    ['a flag behind the last of the port', { input: [pair(0x12, 8)] }, InvalidParameter, options],
    ['reserved fields', { input: [pair(0x12, 0x1_0000)] }, InvalidParameter, options],
  ]);

  /** SynIC of VTL0 of VP 1 with SINT 2. */
  const receiving = (): CallRig => {
    const rig = new CallRig(2, options);
    const c = rig.context(1);
    rig.wrmsr(c, 0x4000_0080, 1);
    rig.wrmsr(c, 0x4000_0083, 0x2_0001);
    rig.wrmsr(c, 0x4000_0082, 0x2_1001);
    rig.wrmsr(c, 0x4000_0092, 0x70);
    return rig;
  };
  it('a message lies in the slot, with its port as the origin', () => {
    const rig = receiving();
    expect(rig.issue(rig.context(), { code: 0x5c, input: message(0x11n) }).status).toBe(0);
    const page = rig.page(0, 0x20);
    const at = 2 * 256;
    expect([page.getUint32(at, true), page.getUint8(at + 4), page.getBigUint64(at + 8, true), page.getBigUint64(at + 16, true)]).toEqual([1, 8, 0x11n, 0x1122_3344_5566_7788n]);
    expect(requested(rig, 1, 0)).toBe(0x70);
  });
  it('an event is a flag, from the first of the port on', () => {
    const rig = receiving();
    expect(rig.issue(rig.context(), { code: 0x5d, fast: true, input: [pair(0x12, 3)] }).status).toBe(0);
    expect(rig.page(0, 0x21).getUint8(2 * 256 + 8)).toBe(8);
  });
});

describe('PostMessageDirect and SignalEventDirect', () => {
  const receiving = (): CallRig => {
    const rig = new CallRig(2);
    const c = rig.context(1);
    rig.wrmsr(c, 0x4000_0080, 1);
    rig.wrmsr(c, 0x4000_0083, 0x2_0001);
    rig.wrmsr(c, 0x4000_0082, 0x2_1001);
    rig.wrmsr(c, 0x4000_0092, 0x70);
    return rig;
  };
  /** 280 bytes: target at 0 to 19, then the message without alignment. */
  const post = (type: number, vp = 1, vtl = 0, sint = 2, partition = SELF): Issue => ({ code: 0xc1, input: [partition, pair(vp, vtl), pair(sint, type), pair(8, 0), 0n, pair(0xabcd, 0), ...new Array<bigint>(29).fill(0n)] });
  const signal = (flag: number, vp = 1, vtl = 0, sint = 2, partition = SELF): Issue => ({ code: 0xc0, input: [partition, pair(vp, vtl | (sint << 8) | (flag << 16))] });

  it('a message of any type lies in the slot; a second one finds it in use', () => {
    const rig = receiving();
    expect(rig.issue(rig.context(0, 1), post(0x8000_0001)).status).toBe(0);
    const page = rig.page(0, 0x20);
    expect([page.getUint32(512, true), page.getUint8(516)]).toEqual([0x8000_0001, 8]);
    expect(rig.issue(rig.context(0, 1), post(1)).status).toBe(HvStatus.ObjectInUse);
  });
  it('an event says whether it was new', () => {
    const rig = receiving();
    const c = rig.context(0, 1);
    expect([rig.issue(c, signal(9)).status, rig.peek(OUT)]).toEqual([0, 1n]);
    expect([rig.issue(c, signal(9)).status, rig.peek(OUT)]).toEqual([0, 0n]);
    expect(rig.page(0, 0x21).getUint8(513)).toBe(2);
  });
  it.each<readonly [string, (make: typeof post | typeof signal) => Issue, number, number]>([
    ['from VTL0', (make) => make(1), AccessDenied, 0],
    ['into the own VTL', (make) => make(1, 1, 1), AccessDenied, 1],
    ['into a VTL that cannot be', (make) => make(1, 1, 5), InvalidParameter, 1],
    ['for a VP that does not exist', (make) => make(1, 7), InvalidVpIndex, 1],
    ['for a SINT that does not exist', (make) => make(1, 1, 0, 16), InvalidParameter, 1],
    ['for another partition', (make) => make(1, 1, 0, 2, BAD), AccessDenied, 1],
    ['for a SynIC that is off', (make) => make(1, 0), InvalidSynicState, 1],
  ])('%s they are refused', (_what, of, status, vtl) => {
    for (const make of [post, signal]) {
      const rig = receiving();
      expect(rig.issue(rig.context(0, vtl), of(make)).status).toBe(status);
    }
  });
  it('a flag behind the last is refused', () => {
    const rig = receiving();
    expect(rig.issue(rig.context(0, 1), signal(2048)).status).toBe(InvalidParameter);
  });
});
