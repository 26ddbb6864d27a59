import { Arena, PlaneId, VpIndex } from '@vmplanes/engine';
import { ApicEvent, ApicReg, ApicReset, DeliveryMode, defaultApicConfig, isBalanced, LOCAL_APIC_BYTES, LocalApic, Lvt, readPage, readTotals, Svr, writePage } from '@vmplanes/x86';
import fc from 'fast-check';
import { expect, it } from 'vitest';

/** Interrupt requests as sets of numbers, written from SDM 3A §10.8 without regard to speed. */
class Model {
  readonly irr = new Set<number>();
  readonly isr = new Set<number>();
  readonly level = new Set<number>();
  tpr = 0;
  enabled = true;

  get ppr(): number {
    const service = Math.floor(Math.max(0, ...this.isr) / 16);
    return Math.floor(this.tpr / 16) >= service ? this.tpr : service * 16;
  }
  get deliverable(): number {
    const top = Math.max(-1, ...this.irr);
    return this.enabled && top >= 0 && Math.floor(top / 16) > Math.floor(this.ppr / 16) ? top : -1;
  }
  accept(vector: number, isLevel: boolean): boolean {
    if (!this.enabled || vector < 16) return false;
    this.irr.add(vector);
    if (isLevel) this.level.add(vector);
    else this.level.delete(vector);
    return true;
  }
  acknowledge(): number {
    const vector = this.deliverable;
    if (vector < 0) return 0xff;
    this.irr.delete(vector);
    this.isr.add(vector);
    return vector;
  }
  eoi(): number {
    const vector = Math.max(-1, ...this.isr);
    this.isr.delete(vector);
    return vector;
  }
  reset(): void {
    this.irr.clear();
    this.isr.clear();
    this.level.clear();
    this.tpr = 0;
    this.enabled = false;
  }
}

/** An APIC whose owner keeps its own idea of "deliverable", renewed by announcements only. */
class Subject {
  time = 0;
  believed = false;
  readonly broadcasts: number[] = [];
  readonly apic: LocalApic;

  constructor(at = 0, arena = new Arena(new ArrayBuffer(LOCAL_APIC_BYTES * 2))) {
    const look = (apic: LocalApic) => void (this.believed = apic.hasDeliverable());
    const port = { accepted: look, changed: look, mapChanged: () => {}, sendIpi: () => {}, ended: () => {}, eoiBroadcast: (_: LocalApic, vector: number) => void this.broadcasts.push(vector) };
    const clock = { now: () => this.time, ticksAtTsc: (low: number, high: number) => high * 2 ** 32 + low };
    this.apic = new LocalApic(VpIndex(0), PlaneId(0), arena, at, defaultApicConfig, clock, port);
    this.apic.powerUp(0, true);
    this.apic.writeSvr(Svr.enabled | 0xff);
  }

  bits(register: number): number[] {
    return Array.from({ length: 256 }, (_, v) => v).filter((v) => this.apic.block.test(register, v));
  }
}

const sorted = (set: Set<number>): number[] => [...set].sort((a, b) => a - b);
const vector = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0x3e, max: 0x52 }));

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constant('accept' as const), vector, isLevel: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('acknowledge' as const) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('eoi' as const) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('tpr' as const), vector }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('enable' as const), on: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('restore' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('init' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('nmi' as const), take: fc.boolean() }) },
);

it('IRR, ISR, TMR and PPR follow the model; no event and no wake is lost', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const model = new Model();
      let subject = new Subject();
      let discarded = 0;
      const ended: number[] = [];
      for (const s of steps) {
        const { apic } = subject;
        switch (s.op) {
          case 'accept':
            expect(apic.accept(DeliveryMode.fixed, s.vector, true, s.isLevel) !== 0).toBe(model.accept(s.vector, s.isLevel));
            break;
          case 'acknowledge':
            expect(apic.acknowledge()).toBe(model.acknowledge());
            break;
          case 'eoi': {
            const v = model.eoi();
            if (model.level.has(v)) ended.push(v);
            expect(apic.eoi()).toBe(v);
            break;
          }
          case 'tpr':
            writePage(apic, ApicReg.tpr, 4, s.vector);
            model.tpr = s.vector;
            break;
          case 'enable':
            writePage(apic, ApicReg.svr, 4, (s.on ? Svr.enabled : 0) | 0xff);
            model.enabled = s.on;
            break;
          case 'restore': {
            const other = new Subject();
            other.broadcasts.push(...subject.broadcasts);
            other.apic.restore(structuredClone(apic.save()));
            subject = other;
            break;
          }
          case 'init':
            discarded += model.irr.size + (apic.latches.isPending(ApicEvent.nmi) ? 1 : 0);
            apic.accept(DeliveryMode.init, 0, true, false);
            apic.latches.takeInit();
            model.reset();
            break;
          case 'nmi':
            if (s.take) apic.latches.take(ApicEvent.nmi);
            else apic.accept(DeliveryMode.nmi, 0, true, false);
        }
        const now = subject.apic;
        expect(subject.bits(ApicReg.irr)).toEqual(sorted(model.irr));
        expect(subject.bits(ApicReg.isr)).toEqual(sorted(model.isr));
        expect(subject.bits(ApicReg.tmr)).toEqual(sorted(model.level));
        expect(readPage(now, ApicReg.ppr, 4)).toBe(model.ppr);
        expect(now.deliverableVector()).toBe(model.deliverable);
        expect(now.irrNonEmpty()).toBe(model.irr.size > 0);
        expect(subject.believed).toBe(now.hasDeliverable());
        expect(subject.broadcasts).toEqual(ended);
        expect(now.discardedBy(ApicReset.init)).toBe(discarded);
        expect(isBalanced(readTotals(now.block))).toBe(true);
      }
    }),
    { numRuns: 150 },
  );
});

/** A timer that is stepped tick by tick. */
class TickTimer {
  initial = 0;
  count = 0;
  sub = 0;
  periodic = false;
  masked = true;
  fired = 0;
  constructor(readonly unit: number) {}
  tick(): void {
    if (this.count === 0 || ++this.sub < this.unit) return;
    this.sub = 0;
    if (--this.count > 0) return;
    if (!this.masked) this.fired++;
    if (this.periodic) this.count = this.initial;
  }
}

const timerStep = fc.oneof(
  fc.record({ op: fc.constant('count' as const), value: fc.integer({ min: 0, max: 20 }) }),
  fc.record({ op: fc.constant('entry' as const), periodic: fc.boolean(), masked: fc.boolean() }),
  { weight: 3, arbitrary: fc.record({ op: fc.constant('wait' as const), ticks: fc.integer({ min: 0, max: 90 }) }) },
);

it('the timer computed from its deadline equals one stepped tick by tick', () => {
  fc.assert(
    fc.property(fc.array(timerStep, { maxLength: 40 }), fc.constantFrom([0xb, 1], [0, 2], [1, 4]), (steps, [divide, unit]) => {
      const subject = new Subject();
      const { apic } = subject;
      const model = new TickTimer(unit!);
      writePage(apic, ApicReg.divide, 4, divide!);
      let fired = 0;
      for (const s of steps) {
        switch (s.op) {
          case 'count':
            writePage(apic, ApicReg.initialCount, 4, s.value);
            model.initial = model.count = s.value;
            model.sub = 0;
            break;
          case 'entry':
            writePage(apic, ApicReg.lvtTimer, 4, (s.periodic ? 1 << 17 : 0) | (s.masked ? Lvt.masked : 0) | 0x40);
            model.periodic = s.periodic;
            model.masked = s.masked;
            break;
          case 'wait':
            for (let i = 0; i < s.ticks; i++) {
              subject.time++;
              model.tick();
              // The owner warps to deadlines, so it serves each one when it has come.
              if (apic.deadline() <= subject.time) {
                apic.expire(subject.time);
                fired++;
                expect(apic.acknowledge()).toBe(0x40);
                apic.eoi();
              }
            }
        }
        expect(fired).toBe(model.fired);
        expect(readPage(apic, ApicReg.currentCount, 4)).toBe(model.count);
      }
    }),
    { numRuns: 150 },
  );
});
