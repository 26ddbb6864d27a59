import { describe, expect, it } from 'vitest';
import { ApicEvent, ApicReset } from './counters.ts';
import { ApicBench, irr, read, write, wrmsr } from './fixture.ts';
import { AcceptResult, DeliveryMode } from './icr.ts';
import { LintPin } from './local-vectors.ts';
import type { LocalApic } from './local-apic.ts';
import { ApicReg, Lvt, Svr } from './registers.ts';

const entries = [ApicReg.lvtTimer, ApicReg.lvtThermal, ApicReg.lvtPerf, ApicReg.lvtLint0, ApicReg.lvtLint1, ApicReg.lvtError, ApicReg.lvtCmci];
/** What an APIC holds pending: vectors and latched classes. */
const pending = (apic: LocalApic): string[] => [...Array.from({ length: 256 }, (_, v) => v).filter((v) => irr(apic, v)).map((v) => v.toString(16)), ...(['nmi', 'smi', 'init', 'sipi', 'extInt'] as const).filter((name) => apic.latches.isPending(ApicEvent[name]))];

describe('internal sources (SDM 3A §10.5.1 figure 10-8)', () => {
  const modes = [
    [ApicReg.lvtTimer, 'fixed'], [ApicReg.lvtError, 'fixed'],
    [ApicReg.lvtThermal, 'any'], [ApicReg.lvtPerf, 'any'], [ApicReg.lvtCmci, 'any'],
  ] as const;
  for (const [register, which] of modes) {
    it.each([
      [DeliveryMode.fixed, '41'], [DeliveryMode.smi, 'smi'], [DeliveryMode.nmi, 'nmi'], [DeliveryMode.init, 'init'], [DeliveryMode.extInt, 'extInt'],
    ])(`${register.toString(16)} in delivery mode %i`, (mode, what) => {
      const apic = new ApicBench().add();
      // The mode of the timer and of the error entry is no field of theirs: the bits could only come from a restored state.
      apic.block.set(register, (mode << 8) | 0x41);
      expect(apic.vectors.deliver(register)).toBe(AcceptResult.accepted);
      expect(pending(apic)).toEqual([which === 'fixed' ? '41' : what]);
      expect(apic.vectors.deliver(register)).toBe(register === ApicReg.lvtPerf ? AcceptResult.refused : AcceptResult.merged);
      expect(read(apic, register)).toBe((mode << 8) | 0x41 | (register === ApicReg.lvtPerf ? Lvt.masked : 0));
      expect(apic.block.test(ApicReg.tmr, 0x41)).toBe(false);
    });
    it(`${register.toString(16)} masked`, () => {
      const bench = new ApicBench();
      const apic = bench.add();
      write(apic, register, Lvt.masked | 0x41);
      bench.log.length = 0;
      expect([apic.vectors.deliver(register), pending(apic), bench.log]).toEqual([AcceptResult.refused, [], []]);
    });
  }
});

describe('the software enable (SDM 3A §10.4.7.2)', () => {
  it('every entry is masked by the disable and cannot be unmasked until the enable', () => {
    const apic = new ApicBench().add();
    entries.forEach((register, i) => write(apic, register, 0x41 + i));
    write(apic, ApicReg.svr, 0x2ff);
    expect(entries.map((register) => read(apic, register))).toEqual(entries.map((_, i) => 0x1_0041 + i));
    entries.forEach((register, i) => write(apic, register, 0x51 + i));
    expect(entries.map((register) => read(apic, register))).toEqual(entries.map((_, i) => 0x1_0051 + i));
    expect([read(apic, ApicReg.initialCount), read(apic, ApicReg.esr), read(apic, ApicReg.icr)]).toEqual([0, 0, 0]);
    write(apic, ApicReg.svr, 0x1ff);
    expect(entries.map((register) => read(apic, register))).toEqual(entries.map((_, i) => 0x1_0051 + i));
    entries.forEach((register, i) => write(apic, register, 0x61 + i));
    expect(entries.map((register) => read(apic, register))).toEqual(entries.map((_, i) => 0x61 + i));
  });

  it('a write that leaves it enabled masks nothing; an entry that the model lacks stays 0', () => {
    const apic = new ApicBench().add({ cmci: false });
    write(apic, ApicReg.lvtError, 0x41);
    write(apic, ApicReg.svr, 0x17f);
    expect(read(apic, ApicReg.lvtError)).toBe(0x41);
    write(apic, ApicReg.svr, 0x7f);
    expect([read(apic, ApicReg.lvtError), apic.block.get(ApicReg.lvtCmci)]).toEqual([0x1_0041, 0]);
  });

  it('an expiry not served yet comes before the disable', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, ApicReg.lvtTimer, 0x41);
    write(apic, ApicReg.initialCount, 2);
    bench.time = 4;
    write(apic, ApicReg.svr, 0xff);
    expect(irr(apic, 0x41)).toBe(true);
  });
});

describe('pins (SDM 3A §10.5.1)', () => {
  const { lint0, lint1 } = LintPin;
  /** What one rising edge of a pin makes pending; and what a second one adds while the line stays up. */
  it.each([
    [lint0, 0x41, '41'], [lint1, 0x41, '41'],
    [lint0, 0x1_0041, ''], [lint1, 0x1_0041, ''],
    [lint0, 0x200, 'smi'], [lint1, 0x200, 'smi'],
    [lint0, 0x400, 'nmi'], [lint1, 0x400, 'nmi'],
    [lint0, 0x1_0400, ''], [lint1, 0x1_0400, ''],
    [lint0, 0x500, 'init'], [lint1, 0x500, 'init'],
    // Level sensitivity counts for LINT0 in fixed mode only.
    [lint0, 0x8041, '41'], [lint1, 0x8041, '41'], [lint0, 0x8400, 'nmi'], [lint0, 0x8200, 'smi'],
    [lint0, 0x2041, '41'],
  ])('pin %i with entry %i', (pin, entry, what) => {
    const apic = new ApicBench().add();
    const register = pin === lint0 ? ApicReg.lvtLint0 : ApicReg.lvtLint1;
    write(apic, register, entry);
    apic.vectors.setPin(pin, true);
    expect(pending(apic)).toEqual(what === '' ? [] : [what]);
    const isLevel = pin === lint0 && entry === 0x8041;
    expect([read(apic, register), apic.block.test(ApicReg.tmr, 0x41)]).toEqual([isLevel ? 0xc041 : entry, isLevel]);
    const { accepted } = apic.counts(ApicEvent.interrupt);
    apic.vectors.setPin(pin, true);
    expect(apic.counts(ApicEvent.interrupt).accepted).toBe(accepted);
    // Every further rising edge counts, a level does not.
    apic.vectors.setPin(pin, false);
    apic.vectors.setPin(pin, true);
    expect(apic.counts(ApicEvent.interrupt).accepted).toBe(what === '41' && !isLevel ? 2 : accepted);
  });

  it.each([[lint0, ApicReg.lvtLint0], [lint1, ApicReg.lvtLint1]] as const)('pin %i in ExtINT mode: the line itself, whoever is told', (pin, register) => {
    const bench = new ApicBench();
    const apic = bench.add();
    write(apic, register, 0x700);
    bench.log.length = 0;
    apic.vectors.setPin(pin, true);
    expect([bench.log, apic.vectors.extIntPending(), apic.deliverable(), pending(apic)]).toEqual([['0: changed'], true, 1 << ApicEvent.extInt, []]);
    write(apic, register, 0x1_0700);
    expect([apic.vectors.extIntPending(), apic.deliverable()]).toEqual([false, 0]);
    write(apic, register, 0x0400);
    expect(apic.vectors.extIntPending()).toBe(false);
    write(apic, register, 0x0700);
    expect(apic.vectors.extIntPending()).toBe(true);
    apic.vectors.setPin(pin, false);
    expect([bench.log.at(-1), apic.vectors.extIntPending()]).toEqual(['0: changed', false]);
    // The other pin's line, and other entries in that mode, say nothing.
    apic.vectors.setPin(pin === lint0 ? lint1 : lint0, true);
    write(apic, ApicReg.lvtThermal, 0x700);
    expect(apic.vectors.extIntPending()).toBe(false);
    apic.accept(DeliveryMode.extInt, 0, true, false);
    expect(apic.vectors.extIntPending()).toBe(true);
  });

  it('with the APIC disabled LINT0 is the interrupt line and LINT1 the NMI line (SDM 3A §10.4.3)', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    wrmsr(apic, 0x1b, 0xfee0_0100);
    bench.log.length = 0;
    apic.vectors.setPin(lint1, true);
    expect([pending(apic), apic.vectors.extIntPending(), apic.deliverable()]).toEqual([['nmi'], false, 1 << ApicEvent.nmi]);
    apic.vectors.setPin(lint1, true);
    expect([bench.log, apic.counts(ApicEvent.nmi).accepted]).toEqual([['0: accepted 1', '0: changed'], 1]);
    apic.latches.take(ApicEvent.nmi);
    bench.log.length = 0;
    apic.vectors.setPin(lint0, true);
    expect([bench.log, pending(apic), apic.vectors.extIntPending(), apic.deliverable()]).toEqual([['0: changed'], [], true, 1 << ApicEvent.extInt]);
    apic.vectors.setPin(lint0, false);
    expect([bench.log, apic.vectors.extIntPending()]).toEqual([['0: changed', '0: changed'], false]);
    // A message latched before the disable still waits.
    const other = bench.add();
    other.accept(DeliveryMode.extInt, 0, true, false);
    wrmsr(other, 0x1b, 0xfee0_0000);
    expect(other.vectors.extIntPending()).toBe(true);
  });

  describe('a level-triggered LINT0', () => {
    const served = (entry: number): LocalApic => {
      const apic = new ApicBench().add();
      write(apic, ApicReg.lvtLint0, 0x8055);
      apic.vectors.setPin(lint0, true);
      expect([apic.acknowledge(), read(apic, ApicReg.lvtLint0)]).toEqual([0x55, 0xc055]);
      write(apic, ApicReg.lvtLint0, entry);
      return apic;
    };

    it.each([
      ['the same again', 0x8055, 0xc055, []],
      ['the same, masked', 0x1_8055, 0x1_c055, []],
      ['another vector', 0x8066, 0xc066, ['66']],
      ['edge', 0x0055, 0x0055, []],
      ['another mode', 0x8455, 0x8455, []],
    ])('written while it is served: %s', (_, entry, reads, waiting) => {
      const apic = served(entry);
      expect([read(apic, ApicReg.lvtLint0), pending(apic)]).toEqual([reads, waiting]);
    });

    it('goes on after EOI only while it is the vector that ended', () => {
      const same = served(0x8055);
      same.eoi();
      expect([pending(same), read(same, ApicReg.lvtLint0)]).toEqual([['55'], 0xc055]);
      const masked = served(0x1_8055);
      masked.eoi();
      expect([pending(masked), read(masked, ApicReg.lvtLint0)]).toEqual([[], 0x1_8055]);
      write(masked, ApicReg.lvtLint0, 0x8055);
      expect([pending(masked), read(masked, ApicReg.lvtLint0)]).toEqual([['55'], 0xc055]);
      const other = served(0x8055);
      other.acceptVector(0x91, false);
      other.acknowledge();
      other.eoi();
      expect([pending(other), read(other, ApicReg.lvtLint0)]).toEqual([[], 0xc055]);
    });

    it('an edge entry of the same vector is not asked again by EOI', () => {
      const apic = new ApicBench().add();
      write(apic, ApicReg.lvtLint0, 0x55);
      apic.vectors.setPin(lint0, true);
      apic.acknowledge();
      apic.eoi();
      expect([pending(apic), read(apic, ApicReg.lvtLint0)]).toEqual([[], 0x55]);
    });

    it('is requested when its entry is unmasked, or the APIC enabled, with the line up', () => {
      const apic = new ApicBench().add();
      apic.vectors.setPin(lint0, true);
      expect(pending(apic)).toEqual([]);
      write(apic, ApicReg.lvtLint0, 0x8055);
      expect(pending(apic)).toEqual(['55']);
      // An APIC that does not respond leaves no mark behind.
      const off = new ApicBench().add();
      off.block.set(ApicReg.svr, 0xff);
      off.block.set(ApicReg.lvtLint0, 0x8055);
      off.vectors.setPin(lint0, true);
      expect([pending(off), off.block.get(ApicReg.lvtLint0), off.block.get(ApicReg.lvtLint1)]).toEqual([[], 0x8055, 0x1_0000]);
    });
  });
});

describe('latches', () => {
  it.each([
    // mode, asserted, level-triggered: what it does to an enabled processor that does not wait
    [DeliveryMode.fixed, true, false, '41'], [DeliveryMode.fixed, false, true, '41'], [DeliveryMode.lowestPriority, true, true, '41'],
    [DeliveryMode.smi, true, false, 'smi'], [DeliveryMode.smi, false, true, 'smi'], [DeliveryMode.reserved, true, false, ''], [DeliveryMode.nmi, false, true, 'nmi'],
    [DeliveryMode.init, true, false, 'init'], [DeliveryMode.init, true, true, 'init'], [DeliveryMode.init, false, false, 'init'], [DeliveryMode.init, false, true, ''],
    [DeliveryMode.startUp, true, false, ''], [DeliveryMode.extInt, false, true, 'extInt'],
  ])('message of mode %i, assert %s, level %s', (mode, isAssert, isLevel, what) => {
    const apic = new ApicBench().add();
    expect(apic.accept(mode, 0x41, isAssert, isLevel)).toBe(what === '' ? AcceptResult.refused : AcceptResult.accepted);
    expect(pending(apic)).toEqual(what === '' ? [] : [what]);
    expect(apic.block.test(ApicReg.tmr, 0x41)).toBe(what === '41' && isLevel);
    const off = new ApicBench().add();
    wrmsr(off, 0x1b, 0xfee0_0100);
    expect(off.accept(mode, 0x41, isAssert, isLevel)).toBe(AcceptResult.refused);
    expect([pending(off), off.vectors.extIntPending()]).toEqual([[], false]);
    // Each is counted in its class; the reserved mode and the INIT de-assert are no events.
    const event = { 0: ApicEvent.interrupt, 1: ApicEvent.interrupt, 2: ApicEvent.smi, 4: ApicEvent.nmi, 5: ApicEvent.init, 6: ApicEvent.sipi, 7: ApicEvent.extInt, 3: null }[mode];
    for (const one of Object.values(ApicEvent)) expect([one, off.counts(one).refused]).toEqual([one, one === event && !(mode === DeliveryMode.init && isLevel && !isAssert) ? 1 : 0]);
  });

  it('a request of a software-disabled APIC is refused before its vector is judged', () => {
    const apic = new ApicBench().add();
    write(apic, ApicReg.svr, 0xff);
    expect(apic.acceptVector(5, false)).toBe(AcceptResult.refused);
    write(apic, ApicReg.esr, 0);
    expect([read(apic, ApicReg.esr), apic.counts(ApicEvent.interrupt).refused]).toEqual([0, 1]);
    const holds = new ApicBench().add({ whileSoftwareDisabled: 'hold' });
    write(holds, ApicReg.svr, 0xff);
    expect([15, 16].map((vector) => holds.acceptVector(vector, false))).toEqual([AcceptResult.refused, AcceptResult.accepted]);
    write(holds, ApicReg.esr, 0);
    expect([read(holds, ApicReg.esr), holds.counts(ApicEvent.interrupt)]).toEqual([0x40, { accepted: 1, delivered: 0, merged: 0, discarded: 0, refused: 1, pending: 1 }]);
    wrmsr(holds, 0x1b, 0xfee0_0100);
    expect(holds.acceptVector(0x41, false)).toBe(AcceptResult.refused);
  });

  it('vectors 0 to 15 are illegal, 16 to 255 are not (SDM 3A §10.5.2)', () => {
    for (let vector = 0; vector < 256; vector++) {
      const apic = new ApicBench().add();
      expect([vector, apic.acceptVector(vector, false), irr(apic, vector)]).toEqual([vector, vector < 16 ? AcceptResult.refused : AcceptResult.accepted, vector >= 16]);
    }
  });

  it('each pending class shows as its bit; a processor that waits for SIPI sees INIT and SIPI only', () => {
    for (const waits of [false, true]) {
      const bench = new ApicBench();
      const apic = bench.add();
      const set = (): number => apic.deliverable();
      apic.latches.setWaitingForSipi(waits);
      apic.acceptVector(0x41, false);
      expect(set()).toBe(waits ? 0 : 1);
      apic.accept(DeliveryMode.nmi, 0, true, false);
      expect(set()).toBe(waits ? 0 : 3);
      apic.accept(DeliveryMode.smi, 0, true, false);
      expect(set()).toBe(waits ? 0 : 7);
      apic.accept(DeliveryMode.extInt, 0, true, false);
      expect(set()).toBe(waits ? 0 : 0x27);
      apic.accept(DeliveryMode.init, 0, true, false);
      expect(set()).toBe(waits ? 8 : 0x2f);
      apic.accept(DeliveryMode.startUp, 0, true, false);
      expect([set(), apic.hasDeliverable()]).toEqual([waits ? 0x18 : 0x3f, true]);
      apic.setTpr(0x40);
      expect(set()).toBe(waits ? 0x18 : 0x3e);
    }
  });

  it('start-up: the first vector counts; taken once, and the owner is told', () => {
    const bench = new ApicBench();
    bench.add();
    const apic = bench.add();
    expect([apic.latches.takeSipi(), apic.latches.isWaitingForSipi]).toEqual([-1, false]);
    apic.latches.setWaitingForSipi(true);
    expect([bench.log, apic.latches.takeSipi()]).toEqual([['1: changed'], -1]);
    expect([0x21, 0x22].map((vector) => apic.accept(DeliveryMode.startUp, vector, true, false))).toEqual([AcceptResult.accepted, AcceptResult.merged]);
    bench.log.length = 0;
    expect([apic.latches.takeSipi(), bench.log, apic.latches.isWaitingForSipi, apic.latches.isPending(ApicEvent.sipi)]).toEqual([0x21, ['1: changed'], false, false]);
    apic.latches.setWaitingForSipi(false);
    expect(bench.log).toEqual(['1: changed', '1: changed']);
  });

  it('a wait ended from outside leaves no start-up message behind, unless an INIT is to come first', () => {
    const bench = new ApicBench();
    bench.add();
    for (const withInit of [false, true]) {
      const apic = bench.add();
      apic.latches.setWaitingForSipi(true);
      if (withInit) apic.accept(DeliveryMode.init, 0, true, false);
      apic.accept(DeliveryMode.startUp, 0x21, true, false);
      apic.latches.setWaitingForSipi(false);
      expect([apic.deliverable(), apic.latches.isPending(ApicEvent.sipi), apic.counts(ApicEvent.sipi).discarded, apic.discardedBy(ApicReset.init)]).toEqual(withInit ? [0x18, true, 0, 0] : [0, false, 1, 1]);
      expect([apic.latches.takeSipi(), apic.latches.takeInit(), apic.latches.takeSipi()]).toEqual([-1, withInit, withInit ? 0x21 : -1]);
    }
  });

  it('a pending INIT comes before the start-up message, waiting or not', () => {
    const bench = new ApicBench();
    bench.add();
    for (const waits of [false, true]) {
      const apic = bench.add();
      apic.latches.setWaitingForSipi(waits);
      apic.accept(DeliveryMode.init, 0, true, false);
      expect(apic.deliverable()).toBe(1 << ApicEvent.init);
      apic.accept(DeliveryMode.startUp, 0x21, true, false);
      expect([apic.latches.takeSipi(), apic.latches.takeInit(), apic.latches.takeSipi()]).toEqual([-1, true, 0x21]);
    }
  });

  it('a second INIT drops the start-up message between, and both are counted to INIT', () => {
    const bench = new ApicBench();
    bench.add();
    const apic = bench.add();
    apic.latches.setWaitingForSipi(true);
    apic.accept(DeliveryMode.startUp, 0x21, true, false);
    apic.accept(DeliveryMode.init, 0, true, false);
    expect([apic.latches.isPending(ApicEvent.sipi), [0, 1, 2, 3].map((cause) => apic.discardedBy(cause as 0)), apic.latches.takeSipi()]).toEqual([false, [0, 1, 0, 0], -1]);
  });

  it('taking NMI, SMI and ExtINT tells the owner, taking nothing does not', () => {
    const bench = new ApicBench();
    const apic = bench.add();
    for (const event of [ApicEvent.nmi, ApicEvent.smi, ApicEvent.extInt] as const) {
      bench.log.length = 0;
      expect([apic.latches.take(event), bench.log]).toEqual([false, []]);
      apic.latches.raise(event);
      expect([apic.latches.take(event), bench.log, apic.counts(event).delivered]).toEqual([true, [`0: accepted ${event}`, '0: changed'], 1]);
    }
  });
});

it('EOI tells its owner which vector ended, with whatever a restored state had in service', () => {
  const bench = new ApicBench();
  const ended: number[] = [];
  bench.port.ended = ((_: LocalApic, vector: number): void => void ended.push(vector)) as () => undefined;
  const apic = bench.add();
  expect([apic.eoi(), ended]).toEqual([-1, []]);
  apic.acceptVector(0x61, false);
  bench.log.length = 0;
  expect([apic.acknowledge(), bench.log, apic.acknowledge(), bench.log]).toEqual([0x61, ['0: changed'], 0xff, ['0: changed']]);
  apic.block.setBit(ApicReg.isr, 0);
  expect([apic.eoi(), apic.eoi(), apic.eoi(), ended]).toEqual([0x61, 0, -1, [0x61, 0]]);
  apic.block.setBit(ApicReg.irr, 0);
  expect([apic.irrNonEmpty(), apic.hasDeliverable()]).toEqual([true, false]);
});

it('the task priority: 8 bits, told once per change, of which CR8 is the class', () => {
  const bench = new ApicBench();
  const apic = bench.add();
  for (const [value, tpr, cr8] of [[0x5f, 0x5f, 5], [0x1f3, 0xf3, 15], [0, 0, 0]] as const) {
    bench.log.length = 0;
    apic.setTpr(value);
    apic.setTpr(tpr);
    expect([apic.tpr, apic.cr8, bench.log]).toEqual([tpr, cr8, ['0: changed']]);
  }
  apic.setCr8(0x1a);
  expect(apic.tpr).toBe(0xa0);
  expect([Svr.enabled, apic.isSoftwareEnabled]).toEqual([0x100, true]);
  wrmsr(apic, 0x1b, 0xfee0_0100);
  apic.block.set(ApicReg.svr, 0x1ff);
  expect([apic.isSoftwareEnabled, apic.isHardwareEnabled]).toEqual([false, false]);
});
