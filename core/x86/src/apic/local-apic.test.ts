import { describe, expect, it } from 'vitest';
import { ApicEvent, ApicReset, isBalanced } from './counters.ts';
import { ApicBench, irr, isr, rdmsr, read, toX2apic, write, wrmsr } from './fixture.ts';
import { AcceptResult, DeliveryMode } from './icr.ts';
import { ApicReg, Esr, Lvt, Svr } from './registers.ts';

const fixed = DeliveryMode.fixed;

describe('processor priority, SDM 3A table 10-3', () => {
  for (const [tpr, service, ppr] of [
    [0x00, -1, 0x00],
    [0x25, -1, 0x25],
    [0x00, 0x61, 0x60],
    [0x5f, 0x61, 0x60],
    [0x6f, 0x61, 0x6f],
    [0x75, 0x61, 0x75],
    [0xff, 0xf1, 0xff],
  ] as const) {
    it(`TPR ${tpr.toString(16)}, in service ${service.toString(16)}: ${ppr.toString(16)}`, () => {
      const apic = new ApicBench().add();
      if (service >= 0) {
        apic.acceptVector(service, false);
        expect(apic.acknowledge()).toBe(service);
      }
      write(apic, ApicReg.tpr, tpr);
      expect(apic.ppr()).toBe(ppr);
      expect(read(apic, ApicReg.ppr)).toBe(ppr);
    });
  }

  it('holds a request of the same class, takes one of the class above (SDM 3A §10.8.3)', () => {
    const apic = new ApicBench().add();
    apic.setTpr(0x60);
    apic.acceptVector(0x6f, false);
    expect(apic.hasDeliverable()).toBe(false);
    expect(apic.irrNonEmpty()).toBe(true);
    apic.acceptVector(0x70, false);
    expect(apic.deliverableVector()).toBe(0x70);
    apic.setCr8(5);
    expect(apic.tpr).toBe(0x50);
    expect(apic.cr8).toBe(5);
    expect(apic.acknowledge()).toBe(0x70);
    expect(apic.hasDeliverable()).toBe(false);
    apic.eoi();
    expect(apic.acknowledge()).toBe(0x6f);
  });
});

describe('acceptance', () => {
  it('writes the request before it tells the owner', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    let seen = false;
    bench.port.accepted = (a) => void (seen = irr(a, 0x41));
    apic.acceptVector(0x41, false);
    expect(seen).toBe(true);
  });

  it('merges into a set bit and keeps the balance', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    expect(apic.acceptVector(0x41, false)).toBe(AcceptResult.accepted);
    expect(apic.acceptVector(0x41, false)).toBe(AcceptResult.merged);
    expect(bench.log).toEqual(['0: accepted 0', '0: accepted 0 merged']);
    apic.acknowledge();
    apic.acceptVector(0x41, false);
    expect(apic.counts(ApicEvent.interrupt)).toEqual({ accepted: 3, delivered: 1, merged: 1, discarded: 0, refused: 0, pending: 1 });
    expect(isBalanced(apic.counts(ApicEvent.interrupt))).toBe(true);
  });

  it('records the trigger mode of the newest request and broadcasts the EOI of a level one', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    apic.acceptVector(0x41, true);
    apic.acknowledge();
    bench.log.length = 0;
    expect(apic.eoi()).toBe(0x41);
    expect(bench.log).toEqual(['0: eoi 65', '0: changed']);
    apic.acceptVector(0x41, false);
    apic.acknowledge();
    bench.log.length = 0;
    apic.eoi();
    expect(bench.log).toEqual(['0: changed']);
    write(apic, ApicReg.svr, Svr.enabled | Svr.suppressEoiBroadcast | 0xff);
    apic.acceptVector(0x41, true);
    apic.acknowledge();
    bench.log.length = 0;
    apic.eoi();
    expect(bench.log).toEqual(['0: changed']);
    expect(apic.eoi()).toBe(-1);
  });

  it('gives the spurious vector when the request went below the priority (SDM 3A §10.9)', () => {
    const apic = new ApicBench().add();
    write(apic, ApicReg.svr, Svr.enabled | 0x3f);
    apic.acceptVector(0x41, false);
    apic.setTpr(0x50);
    expect(apic.acknowledge()).toBe(0x3f);
    expect(apic.highestIsr()).toBe(-1);
    expect(irr(apic, 0x41)).toBe(true);
  });

  it('nests by class and ends the highest first', () => {
    const apic = new ApicBench().add();
    apic.acceptVector(0x41, false);
    apic.acknowledge();
    apic.acceptVector(0x91, false);
    expect(apic.acknowledge()).toBe(0x91);
    expect(apic.eoi()).toBe(0x91);
    expect(apic.ppr()).toBe(0x40);
    expect(apic.eoi()).toBe(0x41);
  });

  it('latches NMI, SMI and external interrupts once each', () => {
    const apic = new ApicBench().add();
    for (const [mode, event] of [
      [DeliveryMode.nmi, ApicEvent.nmi],
      [DeliveryMode.smi, ApicEvent.smi],
      [DeliveryMode.extInt, ApicEvent.extInt],
    ] as const) {
      expect(apic.accept(mode, 0, true, false)).toBe(AcceptResult.accepted);
      expect(apic.accept(mode, 0, true, false)).toBe(AcceptResult.merged);
      expect(apic.deliverable()).toBe(1 << event);
      expect(apic.latches.take(event)).toBe(true);
      expect(apic.latches.take(event)).toBe(false);
      expect(isBalanced(apic.counts(event))).toBe(true);
    }
    expect(apic.accept(DeliveryMode.reserved, 0x41, true, false)).toBe(AcceptResult.refused);
    expect(apic.accept(DeliveryMode.init, 0, false, true)).toBe(AcceptResult.refused);
  });
});

describe('software disable (SDM 3A §10.4.7.2)', () => {
  it('holds requests through disable, save and enable', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    apic.acceptVector(0x61, false);
    write(apic, ApicReg.svr, 0xff);
    expect(apic.hasDeliverable()).toBe(false);
    expect(irr(apic, 0x61)).toBe(true);
    apic.restore(apic.save());
    bench.log.length = 0;
    write(apic, ApicReg.svr, Svr.enabled | 0xff);
    expect(bench.log).toContain('0: changed');
    expect(apic.acknowledge()).toBe(0x61);
    expect(isBalanced(apic.counts(ApicEvent.interrupt))).toBe(true);
  });

  it('does not respond to a new fixed interrupt, or holds it where so configured', () => {
    const bench = new ApicBench();
    const refusing = bench.addCold();
    expect(refusing.acceptVector(0x61, false)).toBe(AcceptResult.refused);
    expect(refusing.counts(ApicEvent.interrupt)).toMatchObject({ accepted: 0, refused: 1, pending: 0 });
    const holding = bench.addCold({ whileSoftwareDisabled: 'hold' });
    expect(holding.acceptVector(0x61, false)).toBe(AcceptResult.accepted);
    holding.latches.setWaitingForSipi(false);
    expect(holding.hasDeliverable()).toBe(false);
    write(holding, ApicReg.svr, Svr.enabled | 0xff);
    expect(holding.deliverableVector()).toBe(0x61);
  });

  it('still takes NMI and INIT, masks the LVT and keeps it masked', () => {
    const apic = new ApicBench().add();
    write(apic, ApicReg.lvtThermal, 0x55);
    write(apic, ApicReg.svr, 0xff);
    expect(read(apic, ApicReg.lvtThermal)).toBe(Lvt.masked | 0x55);
    write(apic, ApicReg.lvtThermal, 0x56);
    expect(read(apic, ApicReg.lvtThermal)).toBe(Lvt.masked | 0x56);
    expect(apic.accept(DeliveryMode.nmi, 0, true, false)).toBe(AcceptResult.accepted);
    expect(apic.accept(DeliveryMode.init, 0, true, false)).toBe(AcceptResult.accepted);
  });
});

describe('wakes of local origin', () => {
  it('a self IPI and the timer tell the owner like a remote message', () => {
    const bench = new ApicBench();
    const apic = toX2apic(bench.add());
    bench.log.length = 0;
    expect(wrmsr(apic, 0x83f, 0x50)).toBe('ok');
    expect(bench.log).toEqual(['0: accepted 0']);
    expect(apic.deliverableVector()).toBe(0x50);
    wrmsr(apic, 0x832, 0x61);
    wrmsr(apic, 0x838, 100);
    bench.log.length = 0;
    bench.advance(200);
    expect(bench.log).toEqual(['0: accepted 0', '0: changed']);
    expect(apic.deliverableVector()).toBe(0x61);
  });

  it('0x61 in service holds 0x45 back', () => {
    const apic = new ApicBench().add();
    apic.acceptVector(0x61, false);
    apic.acknowledge();
    apic.acceptVector(0x45, false);
    expect(apic.ppr()).toBe(0x60);
    expect(apic.hasDeliverable()).toBe(false);
  });
});

describe('errors (SDM 3A §10.5.3)', () => {
  it('are shown by a write, cleared by the next, and interrupt once in between', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.lvtError, 0xe1);
    apic.acceptVector(5, false);
    expect(irr(apic, 0xe1)).toBe(true);
    expect(read(apic, ApicReg.esr)).toBe(0);
    apic.acknowledge();
    write(apic, ApicReg.icr, 0x0f);
    expect(irr(apic, 0xe1)).toBe(false);
    write(apic, ApicReg.esr, 0x1234);
    expect(read(apic, ApicReg.esr)).toBe(Esr.receiveIllegalVector | Esr.sendIllegalVector);
    read(apic, 0x3f0);
    expect(irr(apic, 0xe1)).toBe(true);
    write(apic, ApicReg.esr, 0);
    expect(read(apic, ApicReg.esr)).toBe(Esr.illegalRegister);
    write(apic, ApicReg.esr, 0);
    expect(read(apic, ApicReg.esr)).toBe(0);
    expect(bench.log.filter((l) => l.includes('ipi'))).toEqual([]);
  });

  it('an illegal vector in the error entry itself does not recurse', () => {
    const apic = new ApicBench().add();
    write(apic, ApicReg.lvtError, 0x05);
    apic.acceptVector(3, false);
    write(apic, ApicReg.esr, 0);
    expect(read(apic, ApicReg.esr)).toBe(Esr.receiveIllegalVector);
  });
});

describe('start-up (SDM 3A §8.4.2)', () => {
  it('an application processor waits from the start, so no INIT can overtake SIPI', () => {
    const bench = new ApicBench();
    bench.add();
    const ap = bench.addCold();
    expect(ap.latches.isWaitingForSipi).toBe(true);
    ap.accept(DeliveryMode.nmi, 0, true, false);
    expect(ap.hasDeliverable()).toBe(false);
    ap.accept(DeliveryMode.startUp, 0x9a, true, false);
    expect(ap.deliverable()).toBe(1 << ApicEvent.sipi);
    expect(ap.latches.takeSipi()).toBe(0x9a);
    expect(ap.deliverable()).toBe(1 << ApicEvent.nmi);
    expect(ap.accept(DeliveryMode.startUp, 0x9b, true, false)).toBe(AcceptResult.refused);
  });

  it('INIT, SIPI, SIPI before the processor acts: reset, then start at the first vector', () => {
    const bench = new ApicBench();
    bench.add();
    const ap = bench.add();
    ap.acceptVector(0x80, false);
    ap.setTpr(0x30);
    expect(ap.accept(DeliveryMode.startUp, 0x11, true, false)).toBe(AcceptResult.refused);
    ap.accept(DeliveryMode.init, 0, true, false);
    expect(ap.accept(DeliveryMode.startUp, 0x12, true, false)).toBe(AcceptResult.accepted);
    expect(ap.accept(DeliveryMode.startUp, 0x13, true, false)).toBe(AcceptResult.merged);
    expect(ap.latches.takeSipi()).toBe(-1);
    expect(ap.latches.takeInit()).toBe(true);
    expect(ap.tpr).toBe(0);
    expect(ap.irrNonEmpty()).toBe(false);
    expect(ap.latches.takeSipi()).toBe(0x12);
    expect(ap.discardedBy(ApicReset.init)).toBe(1);
    for (const event of Object.values(ApicEvent)) expect(isBalanced(ap.counts(event))).toBe(true);
  });

  it('a processor whose owner ends its wait has no use for the SIPI that came for it, unless an INIT came before', () => {
    const bench = new ApicBench();
    bench.add();
    const ap = bench.addCold();
    ap.accept(DeliveryMode.startUp, 0x9a, true, false);
    ap.latches.setWaitingForSipi(false);
    expect([ap.deliverable(), ap.latches.takeSipi()]).toEqual([0, -1]);
    expect(isBalanced(ap.counts(ApicEvent.sipi))).toBe(true);
    ap.accept(DeliveryMode.init, 0, true, false);
    ap.accept(DeliveryMode.startUp, 0x12, true, false);
    ap.latches.setWaitingForSipi(false);
    expect([ap.latches.takeInit(), ap.latches.takeSipi()]).toEqual([true, 0x12]);
  });

  it('a second INIT forgets the SIPI between the two', () => {
    const bench = new ApicBench();
    bench.add();
    const ap = bench.add();
    ap.accept(DeliveryMode.init, 0, true, false);
    ap.accept(DeliveryMode.startUp, 0x12, true, false);
    ap.accept(DeliveryMode.init, 0, true, false);
    ap.latches.takeInit();
    expect(ap.latches.takeSipi()).toBe(-1);
    expect(isBalanced(ap.counts(ApicEvent.sipi))).toBe(true);
  });

  it('INIT resets only the context it was sent to', () => {
    const bench = new ApicBench();
    const one = bench.add({}, 0, 0);
    const other = bench.add({}, 0, 1);
    one.acceptVector(0x80, false);
    const before = one.save();
    other.accept(DeliveryMode.init, 0, true, false);
    other.latches.takeInit();
    expect(one.save()).toEqual(before);
  });

  it('INIT keeps x2APIC mode and the whole id; RESET returns to xAPIC mode', () => {
    const apic = toX2apic(new ApicBench().add({}, 0x1234));
    apic.accept(DeliveryMode.init, 0, true, false);
    apic.latches.takeInit();
    expect(rdmsr(apic, 0x802)).toEqual([0x1234, 0]);
    expect(rdmsr(apic, 0x80d)).toEqual([0x0123_0010, 0]);
    expect(rdmsr(apic, 0x80f)).toEqual([0xff, 0]);
    apic.reset();
    expect(read(apic, ApicReg.id)).toBe(0x3400_0000);
    expect(read(apic, ApicReg.dfr)).toBe(0xffff_ffff);
    expect(read(apic, ApicReg.lvtLint0)).toBe(0x1_0000);
  });
});

describe('pins (SDM 3A §10.5.1)', () => {
  it('LINT0 in ExtINT mode is level: pending exactly while asserted and unmasked', () => {
    const apic = new ApicBench().add();
    apic.vectors.setPin(0, true);
    expect(apic.hasDeliverable()).toBe(false);
    write(apic, ApicReg.lvtLint0, DeliveryMode.extInt << 8);
    expect(apic.deliverable()).toBe(1 << ApicEvent.extInt);
    apic.vectors.setPin(0, false);
    expect(apic.hasDeliverable()).toBe(false);
  });

  it('LINT1 in NMI mode acts on the edge, also with the APIC disabled', () => {
    const apic = new ApicBench().add();
    write(apic, ApicReg.lvtLint1, DeliveryMode.nmi << 8);
    apic.vectors.setPin(1, true);
    expect(apic.latches.take(ApicEvent.nmi)).toBe(true);
    apic.vectors.setPin(1, true);
    expect(apic.latches.isPending(ApicEvent.nmi)).toBe(false);
    apic.vectors.setPin(1, false);
    expect(wrmsr(apic, 0x1b, 0xfee0_0100)).toBe('ok');
    apic.vectors.setPin(1, true);
    expect(apic.latches.isPending(ApicEvent.nmi)).toBe(true);
    apic.vectors.setPin(0, true);
    expect(apic.vectors.extIntPending()).toBe(true);
  });

  it('a level-triggered LINT0 comes again after EOI while asserted', () => {
    const apic = new ApicBench().add();
    write(apic, ApicReg.lvtLint0, Lvt.level | 0x55);
    apic.vectors.setPin(0, true);
    expect(read(apic, ApicReg.lvtLint0) & Lvt.remoteIrr).toBe(Lvt.remoteIrr);
    expect(apic.acknowledge()).toBe(0x55);
    apic.vectors.setPin(0, true);
    expect(irr(apic, 0x55)).toBe(false);
    apic.eoi();
    expect(irr(apic, 0x55)).toBe(true);
    apic.vectors.setPin(0, false);
    apic.acknowledge();
    apic.eoi();
    expect(isr(apic, 0x55) || irr(apic, 0x55)).toBe(false);
    expect(read(apic, ApicReg.lvtLint0)).toBe(Lvt.level | 0x55);
  });

  it('the counter entry masks itself', () => {
    const apic = new ApicBench().add();
    write(apic, ApicReg.lvtPerf, 0x77);
    apic.vectors.deliver(ApicReg.lvtPerf);
    expect(irr(apic, 0x77)).toBe(true);
    expect(read(apic, ApicReg.lvtPerf)).toBe(Lvt.masked | 0x77);
  });
});

it('accepts fixed and lowest-priority messages the same way', () => {
  const apic = new ApicBench().add();
  apic.accept(fixed, 0x31, true, false);
  apic.accept(DeliveryMode.lowestPriority, 0x32, true, true);
  expect(apic.highestIrr()).toBe(0x32);
  expect(apic.block.test(ApicReg.tmr, 0x32)).toBe(true);
});
