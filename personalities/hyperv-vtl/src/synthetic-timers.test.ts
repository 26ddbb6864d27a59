import { HV_MESSAGE_SIZE, HvMessageHeader, HvMessageType, HvMsr, HvStimerConfig, HvTimerMessagePayload } from '@vmplanes/abi-hyperv';
import { writeRegister } from '@vmplanes/x86';
import { beforeEach, describe, expect, it } from 'vitest';
import { Rig, TICKS } from './fixture.ts';

const SIM = 5;
const SINT = 2;
const VECTOR = 0x52;
const enabled = (gpn: number): bigint => (BigInt(gpn) << 12n) | 1n;
const message = HvStimerConfig.pack({ sintx: SINT });
const direct = HvStimerConfig.pack({ directMode: true, apicVector: 0x60 });
const on = HvStimerConfig.pack({ enable: true });
const auto = HvStimerConfig.pack({ autoEnable: true });
const periodic = HvStimerConfig.pack({ periodic: true });
const lazy = HvStimerConfig.pack({ lazy: true });

let r: Rig;
beforeEach(() => {
  r = new Rig();
  for (const vtl of [0, 1]) {
    const c = r.context(0, vtl);
    r.wrmsr(c, HvMsr.Scontrol, 1);
    r.wrmsr(c, HvMsr.Simp, enabled(SIM));
    r.wrmsr(c, HvMsr.Sint2, VECTOR);
  }
});

const config = (value: bigint, n = 0, vtl = 0): boolean => r.wrmsr(r.context(0, vtl), HvMsr.Stimer0Config + 2 * n, value);
const count = (value: bigint | number, n = 0, vtl = 0): boolean => r.wrmsr(r.context(0, vtl), HvMsr.Stimer0Count + 2 * n, value);
const configOf = (n = 0, vtl = 0): bigint => r.rdmsr(r.context(0, vtl), HvMsr.Stimer0Config + 2 * n)!;
const now = (): bigint => r.chapters.clocks.now(r.machine.vp(0));
const irr = (vtl = 0): number => r.apic(r.context(0, vtl)).highestIrr();
const release = (vtl = 0): void => {
  r.store(vtl, SIM * 4096 + SINT * HV_MESSAGE_SIZE, 0);
  r.wrmsr(r.context(0, vtl), HvMsr.Eom, 0);
};
/** The timer message in the slot, or null. */
const told = (vtl = 0): { readonly timer: number; readonly due: bigint; readonly delivered: bigint; readonly pending: boolean } | null => {
  const page = r.page(vtl, SIM);
  const at = SINT * HV_MESSAGE_SIZE;
  if (page.getUint32(at, true) === 0) return null;
  expect([page.getUint32(at, true), page.getUint8(at + HvMessageHeader.at.payloadSize)]).toEqual([HvMessageType.TimerExpired, 24]);
  const { timerIndex, expirationTime, deliveryTime } = HvTimerMessagePayload.read(page, at + HvMessageHeader.size);
  return { timer: timerIndex, due: expirationTime, delivered: deliveryTime, pending: (page.getUint8(at + HvMessageHeader.at.flags) & 1) !== 0 };
};

describe('a one-shot timer', () => {
  it('fires at its absolute time, never early, once', () => {
    config(message | on);
    count(1000);
    r.advance(999);
    expect([told(), irr()]).toEqual([null, -1]);
    r.advance(2);
    expect(told()).toMatchObject({ timer: 0, due: 1000n, delivered: now(), pending: false });
    expect(irr()).toBe(VECTOR);
    expect(configOf() & on).toBe(0n);
    release();
    r.advance(5000);
    expect(told()).toBeNull();
  });

  it('is the machine deadline of its VP', () => {
    config(direct | on);
    count(1000);
    expect(r.machine.vp(0).deadline).toBe(r.chapters.clocks.ticksAt(1000n));
    expect(r.chapters.timers.deadline(r.context(0, 1))).toBe(Number.POSITIVE_INFINITY);
  });

  it('whose time is past fires at once', () => {
    r.advance(5000);
    config(direct | on);
    count(1000);
    r.advance(0);
    expect(irr()).toBe(0x60);
  });

  it('with a count of 0 is stopped', () => {
    config(message | on);
    count(1000);
    count(0);
    expect([configOf() & on, r.chapters.timers.deadline(r.context())]).toEqual([0n, Number.POSITIVE_INFINITY]);
    config(message | on);
    r.advance(5000);
    expect(told()).toBeNull();
  });

  it('starts by its count when it enables itself', () => {
    config(message | auto);
    expect(configOf()).toBe(message | auto);
    count(0);
    expect(configOf() & on).toBe(0n);
    count(1000);
    expect(configOf()).toBe(message | auto | on);
    r.advance(1001);
    expect(told()).not.toBeNull();
    expect(configOf()).toBe(message | auto);
  });

  it('begins anew when a register is written', () => {
    config(message | on);
    count(1000);
    count(2000);
    r.advance(1500);
    expect(told()).toBeNull();
    config(message);
    r.advance(1000);
    expect(told()).toBeNull();
    config(message | on);
    r.advance(0);
    expect(told()).toMatchObject({ due: 2000n });
  });

  it('never fires at the end of time', () => {
    config(direct | on);
    count(2n ** 64n - 1n);
    expect(r.chapters.timers.deadline(r.context())).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('enabling', () => {
  it('needs a source or direct mode', () => {
    config(on | auto);
    expect(configOf()).toBe(auto);
    count(1000);
    expect(configOf()).toBe(auto);
    config(on | direct);
    expect(configOf()).toBe(on | direct);
  });
});

describe('a direct timer', () => {
  it('raises its vector and sends nothing', () => {
    config(direct | on, 3);
    count(100, 3);
    r.advance(101);
    expect([irr(), told(), configOf(3) & on]).toEqual([0x60, null, 0n]);
  });

  it('needs no SynIC', () => {
    r.wrmsr(r.context(), HvMsr.Scontrol, 0);
    config(direct | on | periodic);
    count(100);
    r.advance(101);
    expect(irr()).toBe(0x60);
  });
});

describe('a periodic timer', () => {
  it('fires every period and stays on', () => {
    const start = now();
    config(message | on | periodic);
    count(1000);
    for (let k = 1n; k <= 3n; k++) {
      r.advance(1001);
      expect(told()).toMatchObject({ due: start + k * 1000n });
      release();
    }
    expect(configOf() & on).toBe(on);
  });

  it('makes up for a few missed periods with shorter ones', () => {
    config(direct | on | periodic);
    count(1000);
    r.advance(4001);
    const c = r.context();
    const fired: number[] = [];
    for (let i = 0; i < 30; i++) {
      if (r.take(c) >= 0) {
        fired.push(i);
        r.apic(c).eoi();
      }
      r.advance(100);
    }
    // Four were due by 4000: one at once, three more half a period apart; then the fifth in its time.
    expect(fired).toHaveLength(6);
    expect(fired.slice(1).every((at, i) => at - fired[i]! >= 5)).toBe(true);
  });

  it('that is lazy skips them', () => {
    config(message | on | periodic | lazy);
    count(1000);
    r.advance(4501);
    expect(told()).toMatchObject({ due: 1000n });
    release();
    r.advance(400);
    expect(told()).toBeNull();
    r.advance(100);
    expect(told()).toMatchObject({ due: 5000n });
  });

  it('skips what is too long ago', () => {
    config(direct | on | periodic);
    count(100);
    r.advance(100_001);
    const c = r.context();
    let fired = 0;
    for (let i = 0; i < 200; i++) {
      if (r.take(c) >= 0) {
        fired++;
        r.apic(c).eoi();
      }
      r.advance(10);
    }
    // Twenty in their time, eight made up for, and the one that was due first.
    expect(fired).toBeGreaterThanOrEqual(20 + 8);
    expect(fired).toBeLessThanOrEqual(20 + 8 + 1);
  });

  it('of the longest period does not overflow', () => {
    r.advance(10);
    config(direct | on | periodic);
    count(2n ** 64n - 1n);
    r.advance(10);
    expect(irr()).toBe(-1);
  });
});

describe('a message that cannot be delivered', () => {
  it('is held back while the slot is in use; the timer stays on until it is told', () => {
    config(message | on, 0);
    count(100, 0);
    config(message | on, 1);
    count(200, 1);
    r.advance(101);
    r.advance(200);
    expect(told()).toMatchObject({ timer: 0, pending: true });
    expect([configOf(0) & on, configOf(1) & on]).toEqual([0n, on]);
    r.advance(500);
    release();
    expect(told()).toMatchObject({ timer: 1, due: 200n, delivered: now(), pending: false });
    expect(configOf(1) & on).toBe(0n);
  });

  it.each<[string, number, bigint, bigint]>([
    ['the SINT is masked', HvMsr.Sint2, 0x1_0000n, BigInt(VECTOR)],
    ['the SynIC is off', HvMsr.Scontrol, 0n, 1n],
    ['the page is off', HvMsr.Simp, 0n, enabled(SIM)],
  ])('waits while %s', (_what, index, off, back) => {
    r.wrmsr(r.context(), index, off);
    config(message | on);
    count(100);
    r.advance(500);
    expect([irr(), r.chapters.timers.deadline(r.context())]).toEqual([-1, Number.POSITIVE_INFINITY]);
    r.wrmsr(r.context(), index, back);
    expect(told()).toMatchObject({ timer: 0, due: 100n });
    expect(irr()).toBe(VECTOR);
  });

  it('is dropped when the timer is set anew', () => {
    config(message | on, 0);
    count(100, 0);
    config(message | on, 1);
    count(100, 1);
    r.advance(101);
    count(9000, 1);
    release();
    expect(told()).toBeNull();
  });

  it('of a periodic timer goes on from where it stood', () => {
    config(message | on | periodic | lazy);
    count(100);
    r.advance(101);
    r.advance(1000);
    release();
    expect(told()).toMatchObject({ due: 200n });
    release();
    r.advance(100);
    expect(told()).toMatchObject({ due: 1200n });
  });
});

describe('each VTL', () => {
  it('has its own timers, which run whoever runs', () => {
    config(direct | on, 0, 1);
    count(100, 0, 1);
    config(message | on);
    count(200);
    r.advance(101);
    expect([irr(0), irr(1)]).toEqual([-1, 0x60]);
    r.advance(100);
    expect([irr(0), told(1)]).toEqual([VECTOR, null]);
  });
});

describe('a restored timer', () => {
  it('keeps its absolute deadline and its program time', () => {
    config(message | on, 0);
    count(1000, 0);
    config(direct | on | periodic, 1);
    count(300, 1);
    r.advance(350);
    r.take(r.context());
    const original = r;
    r = original.copy();
    expect(r.save()).toEqual(original.save());
    expect(r.chapters.timers.deadline(r.context())).toBe(original.chapters.timers.deadline(original.context()));
    r.advance(651);
    expect(told()).toMatchObject({ due: 1000n });
  });

  it('that expired before is served', () => {
    config(message | on);
    count(1000);
    r.machine.vp(0).timeBase += 2000 * TICKS;
    r = r.copy();
    r.advance(0);
    expect(told()).toMatchObject({ due: 1000n });
  });

  it('still holds its message', () => {
    config(message | on, 0);
    count(100, 0);
    config(message | on, 1);
    count(100, 1);
    r.advance(101);
    r = r.copy();
    release();
    expect(told()).toMatchObject({ timer: 1 });
  });
});

it('reference time follows the counter, so a faster counter changes no deadline', () => {
  for (const vtl of [0, 1]) writeRegister(r.machine.arena, r.context(0, vtl).base, 'tscScale', 2n ** 33n);
  config(direct | on);
  count(1000);
  expect(Math.abs(r.chapters.timers.deadline(r.context()) - 1000 * TICKS)).toBeLessThanOrEqual(1);
});
