import { describe, expect, it } from 'vitest';
import { ApicEvent } from './counters.ts';
import { ApicBench, irr, toX2apic, write, wrmsr } from './fixture.ts';
import { AcceptResult, DeliveryMode, encodeIcr, icrIsLevel, icrMode, Shorthand } from './icr.ts';
import { acceptCoded, InterruptRouter, newMessage } from './ipi.ts';
import type { LocalApic } from './local-apic.ts';
import { ApicReg } from './registers.ts';

/** Processors with APICs in several planes, joined by a router that delivers at once. */
const machine = (...planes: readonly (readonly number[])[]) => {
  const bench = new ApicBench();
  const apics = new Map<string, LocalApic>();
  const log: string[] = [];
  const router: InterruptRouter = new InterruptRouter({
    deliver: (vp, plane, mode, vector, isAssert, isLevel) => {
      log.push(`${vp}.${plane} mode ${mode} vector ${vector}${isLevel ? ' level' : ''}`);
      return apics.get(`${vp}.${plane}`)!.accept(mode, vector, isAssert, isLevel);
    },
  });
  bench.port.sendIpi = (apic, low, destination) => void router.sendCommand(apic, low, destination);
  bench.port.mapChanged = (apic) => void router.mapChanged(apic);
  planes.forEach((vps, plane) => {
    for (const vp of vps) {
      const apic = bench.addAt(vp, plane);
      apics.set(`${vp}.${plane}`, apic);
      router.add(apic);
    }
  });
  return { bench, router, log, at: (vp: number, plane: number) => apics.get(`${vp}.${plane}`)! };
};

const command = (apic: LocalApic, low: number, destination = 0) => {
  write(apic, ApicReg.icrHigh, destination << 24);
  write(apic, ApicReg.icr, low);
};

describe('commands stay in the plane of the sender', () => {
  it('all but self in plane 1 changes only IRRs of plane 1', () => {
    const m = machine([0, 1, 2, 3], [0, 2, 3]);
    command(m.at(0, 1), encodeIcr({ vector: 0x55, mode: DeliveryMode.fixed, shorthand: Shorthand.allButSelf }));
    expect(m.log).toEqual(['2.1 mode 0 vector 85', '3.1 mode 0 vector 85']);
    for (const vp of [0, 1, 2, 3]) expect(irr(m.at(vp, 0), 0x55)).toBe(false);
    expect(irr(m.at(2, 1), 0x55)).toBe(true);
    expect(irr(m.at(0, 1), 0x55)).toBe(false);
  });

  it('an id that exists only in plane 0 is no destination in plane 1', () => {
    const m = machine([0, 1], [0]);
    command(m.at(0, 1), encodeIcr({ vector: 0x55, mode: DeliveryMode.fixed }), 1);
    expect(m.log).toEqual([]);
  });
});

describe('shorthands and destinations (SDM 3A §10.6.1)', () => {
  it('self, all, single, broadcast', () => {
    const m = machine([0, 1, 2]);
    const to = (shorthand: Shorthand, destination = 0) => {
      m.log.length = 0;
      command(m.at(1, 0), encodeIcr({ vector: 0x44, mode: DeliveryMode.fixed, shorthand }), destination);
      return m.log.map((l) => Number(l[0]));
    };
    expect(to(Shorthand.self)).toEqual([1]);
    expect(to(Shorthand.all)).toEqual([0, 1, 2]);
    expect(to(Shorthand.allButSelf)).toEqual([0, 2]);
    expect(to(Shorthand.none, 2)).toEqual([2]);
    expect(to(Shorthand.none, 0xff)).toEqual([0, 1, 2]);
    expect(to(Shorthand.none, 9)).toEqual([]);
  });

  it('an NMI to the own id is an NMI, however the destination was written', () => {
    const m = machine([0, 1]);
    const self = m.at(0, 0);
    command(self, encodeIcr({ vector: 0x61, mode: DeliveryMode.nmi }), 0);
    expect(self.latches.take(ApicEvent.nmi)).toBe(true);
    command(self, encodeIcr({ vector: 0x61, mode: DeliveryMode.nmi, shorthand: Shorthand.self }));
    expect(self.latches.take(ApicEvent.nmi)).toBe(true);
    expect(self.irrNonEmpty()).toBe(false);
  });

  it('only INIT looks at level and trigger; the de-assert message goes nowhere', () => {
    const m = machine([0, 1]);
    command(m.at(0, 0), encodeIcr({ vector: 0x44, mode: DeliveryMode.fixed, level: true, assert: false }), 1);
    command(m.at(0, 0), encodeIcr({ vector: 0, mode: DeliveryMode.init, level: true, assert: false }), 1);
    command(m.at(0, 0), encodeIcr({ vector: 0, mode: DeliveryMode.init, level: true }), 1);
    expect(m.log).toEqual(['1.0 mode 0 vector 68', '1.0 mode 5 vector 0 level']);
    expect(m.at(1, 0).block.test(ApicReg.tmr, 0x44)).toBe(false);
  });

  it('lowest priority reaches one', () => {
    const m = machine([0, 1, 2]);
    m.at(0, 0).setTpr(0x40);
    m.at(2, 0).setTpr(0x40);
    command(m.at(0, 0), encodeIcr({ vector: 0x44, mode: DeliveryMode.lowestPriority }), 0xff);
    expect(m.log).toEqual(['1.0 mode 1 vector 68']);
  });

  it('modes that a command cannot have are not sent', () => {
    const m = machine([0, 1]);
    for (const mode of [DeliveryMode.reserved, DeliveryMode.extInt]) command(m.at(0, 0), encodeIcr({ vector: 0x44, mode }), 1);
    expect(m.log).toEqual([]);
  });

  it('in x2APIC mode the destination has 32 bits', () => {
    const m = machine([0, 1, 2]);
    for (const vp of [0, 1, 2]) toX2apic(m.at(vp, 0));
    expect(wrmsr(m.at(0, 0), 0x830, 0x44, 2)).toBe('ok');
    expect(wrmsr(m.at(0, 0), 0x830, 0x45, 0xff)).toBe('ok');
    expect(wrmsr(m.at(0, 0), 0x830, 0x846, 3)).toBe('ok');
    expect(wrmsr(m.at(0, 0), 0x830, 0x47, 0xffff_ffff)).toBe('ok');
    expect(m.log.map((l) => l.slice(0, 1) + l.slice(-2))).toEqual(['268', '070', '170', '071', '171', '271']);
  });

  it('a software-disabled APIC still sends', () => {
    const m = machine([0, 1]);
    m.at(0, 0).writeSvr(0xff);
    command(m.at(0, 0), encodeIcr({ vector: 0x44, mode: DeliveryMode.fixed }), 1);
    expect(irr(m.at(1, 0), 0x44)).toBe(true);
  });
});

it('a message sent from within a delivery does not disturb the one under way', () => {
  const m = machine([0, 1, 2, 3]);
  const accepted = m.bench.port.accepted;
  m.bench.port.accepted = (apic, event, merged) => {
    accepted(apic, event, merged);
    if (apic.vp === 1 && irr(apic, 0x44) && !irr(m.at(0, 0), 0x66)) command(apic, encodeIcr({ vector: 0x66, mode: DeliveryMode.fixed, shorthand: Shorthand.all }));
  };
  command(m.at(0, 0), encodeIcr({ vector: 0x44, mode: DeliveryMode.fixed, shorthand: Shorthand.allButSelf }));
  expect([1, 2, 3].map((vp) => irr(m.at(vp, 0), 0x44))).toEqual([true, true, true]);
  expect([0, 1, 2, 3].map((vp) => irr(m.at(vp, 0), 0x66))).toEqual([true, true, true, true]);
});

it('device messages report -1 without a destination, 0 when dropped, else who took it', () => {
  const m = machine([0, 1], [0]);
  const message = { ...newMessage(), vector: 0x90, destination: 1 };
  expect(m.router.sendMessage(0, message)).toBe(1);
  expect(m.router.sendMessage(0, message)).toBe(0);
  expect(m.router.sendMessage(1, message)).toBe(-1);
  expect(m.router.sendMessage(5, message)).toBe(-1);
  m.at(0, 1).writeSvr(0xff);
  expect(m.router.sendMessage(1, { ...message, destination: 0 })).toBe(0);
  expect(m.router.sendMessage(1, { ...message, destination: 0, isArbitrated: true })).toBe(0);
  expect(m.router.sendMessage(0, { ...message, vector: 0x91, destination: 0xff })).toBe(2);
});

it('a coded message is accepted like the original', () => {
  const apic = new ApicBench().add();
  const code = encodeIcr({ vector: 0x45, mode: DeliveryMode.fixed, level: true });
  expect([icrMode(code), icrIsLevel(code)]).toEqual([DeliveryMode.fixed, true]);
  expect(acceptCoded(apic, code)).toBe(AcceptResult.accepted);
  expect(apic.block.test(ApicReg.tmr, 0x45)).toBe(true);
});
