import type { Answer, PlaneContext } from '@vmplanes/engine';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { calls, generator, type Rig, rigOf } from '../engine/rig.ts';

const hlt = { op: 'hlt' } as const;
const work = { op: 'work' } as const;
const IF = 0x200n;

describe('interrupts of scripted guests', () => {
  it('a generator\'s handler runs between two steps; the flag is off inside and back afterwards (SDM 3A §6.8.1)', () => {
    const log: string[] = [];
    const rig = rigOf({ guests: [{ 0: generator('g', function* () {
      yield { op: 'sti' };
      yield work;
      const { cells } = yield { op: 'get', names: ['rflags'] };
      log.push(`main ${cells['rflags']! & IF}`);
    }, function* (vector) {
      const { cells } = yield { op: 'get', names: ['rflags'] };
      log.push(`handler ${vector} ${cells['rflags']! & IF}`);
      yield { op: 'eoi' };
    }) }] });
    rig.msi(0, 0, 0x40);
    rig.run();
    expect(log).toEqual(['handler 64 0', `main ${IF}`]);
  });

  it('a table\'s handler by vector, with a default for the rest', () => {
    const handler = (value: number): Step[] => [{ op: 'work', regs: { r8: value } }, { op: 'eoi' }];
    const rig = rigOf({ guests: [{ 0: { id: 't', steps: [{ op: 'sti' }, hlt, { op: 'jump', to: 1 }], handlers: { 64: handler(1), default: handler(2) } } }] });
    rig.run();
    rig.msi(0, 0, 0x40);
    rig.run();
    expect(rig.get(0, 0, 'r8')).toBe(1n);
    rig.msi(0, 0, 0x41);
    rig.run();
    expect(rig.get(0, 0, 'r8')).toBe(2n);
  });

  it('a higher interrupt nests once the handler sets the flag; a lower one waits for the end', () => {
    const order: string[] = [];
    const rig = rigOf({ guests: [{ 0: generator('g', function* () { yield { op: 'sti' }; yield work; }, function* (vector) {
      order.push(`in ${vector}`);
      if (vector === 0x50) {
        yield { op: 'ipi', icr: 0x40040 };
        yield { op: 'ipi', icr: 0x40060 };
        yield { op: 'sti' };
        yield work;
        yield work;
      }
      yield { op: 'eoi' };
      order.push(`out ${vector}`);
    }) }] });
    rig.msi(0, 0, 0x50);
    rig.run();
    expect(order).toEqual(['in 80', 'in 96', 'out 96', 'out 80', 'in 64', 'out 64']);
  });

  it('NMIs do not nest: the second waits for the end of the first, a third merges (SDM 3A §6.7.1)', () => {
    const order: string[] = [];
    let depth = 0;
    const rig = rigOf({ guests: [{ 0: generator('g', function* () { yield work; yield work; }, function* (vector) {
      order.push(`${vector} depth ${++depth}`);
      if (order.length === 1) {
        yield { op: 'ipi', icr: 0x40400 };
        yield { op: 'ipi', icr: 0x40400 };
      }
      yield work;
      depth--;
    }) }] });
    rig.nmi(0, 0);
    rig.run();
    expect(order).toEqual(['2 depth 1', '2 depth 1']);
    expect(rig.vps[0]!.context.events.balance()).toMatchObject({ accepted: 3, delivered: 2, merged: 1, pending: 0 });
  });

  it.each([['set', IF], ['clear', 0n]] as const)('an NMI gives the flag back as it found it: %s', (_how, flag) => {
    const rig = rigOf({ guests: [{ 0: { id: 't', steps: [...(flag ? [{ op: 'sti' } as const] : []), work, hlt], handlers: { 2: [work] } } }] });
    rig.run();
    rig.nmi(0, 0);
    rig.run();
    expect(rig.get(0, 0, 'rflags') & IF).toBe(flag);
    expect(rig.get(0, 0, 'nmi.blocked')).toBe(0n);
  });

  it('a handler that clears the flag returns to code with the flag set (SDM 2A IRET)', () => {
    const rig = rigOf({ guests: [{ 0: { id: 't', steps: [{ op: 'sti' }, hlt, hlt], handlers: { default: [{ op: 'eoi' }, { op: 'cli' }] } } }] });
    rig.run();
    rig.msi(0, 0, 0x40);
    rig.run();
    expect(rig.get(0, 0, 'rflags') & IF).toBe(IF);
  });

  it('without a handler interrupts are acknowledged and NMIs end, so that later ones are not held up', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'sti' }, { op: 'jump', to: 1 }] }] });
    for (const v of [0x10, 0x1f, 0x20, 0x90]) rig.msi(0, 0, v);
    rig.nmi(0, 0);
    rig.run(3);
    rig.nmi(0, 0);
    rig.msi(0, 0, 0x30);
    rig.run(3);
    expect(rig.vps[0]!.context.events.balance()).toMatchObject({ accepted: 7, delivered: 7 });
    expect(rig.arch.apicOf(rig.vps[0]!.context).highestIsr()).toBe(-1);
  });

  it('STI: the next step still runs; setting a set flag starts no shadow (SDM 2B STI)', () => {
    const order: string[] = [];
    const rig = rigOf({ guests: [{ 0: generator('g', function* () {
      yield { op: 'sti' };
      order.push('a');
      yield work;
      order.push('b');
      yield { op: 'ipi', icr: 0x40041 };
      yield { op: 'sti' };
      order.push('c');
      yield work;
    }, function* (vector) { order.push(`v${vector}`); yield { op: 'eoi' }; }) }] });
    rig.msi(0, 0, 0x40);
    rig.run();
    expect(order).toEqual(['a', 'b', 'v64', 'v65', 'c']);
  });

  it('a fault goes before an interrupt that is pending, and ends the shadow of STI (SDM 3A §6.9)', () => {
    const order: string[] = [];
    const rig = rigOf({ guests: [{ 0: generator('g', function* () {
      yield { op: 'sti' };
      order.push(`fault ${(yield { op: 'rdmsr', index: 0x999 }).fault?.vector}`);
      yield work;
      order.push('work');
    }, function* (vector) { order.push(`v${vector}`); yield { op: 'eoi' }; }) }] });
    rig.msi(0, 0, 0x40);
    rig.run();
    expect(order).toEqual(['fault 13', 'v64', 'work']);
  });

  it('a fault that no step caused runs the handler of its vector, with the flag off', () => {
    const order: string[] = [];
    const rig = rigOf({ guests: [{ 0: generator('g', function* () { yield { op: 'sti' }; yield work; yield work; order.push('main'); }, function* (vector) {
      const { cells } = yield { op: 'get', names: ['rflags', 'cr2'] };
      order.push(`v${vector} ${cells['rflags']! & IF} ${cells['cr2']}`);
    }) }] });
    rig.arch.injectFault(rig.vps[0]!.context, { code: 14, errorCode: 2, addressLo: 0x5000, addressHi: 0 });
    rig.msi(0, 0, 0x40);
    rig.run();
    expect(order[0]).toBe(`v14 0 ${0x5000}`);
    expect(order).toContain('main');
    expect(rig.get(0, 0, 'exception.state')).toBe(0n);
  });

  it('an exception whose delivery has begun is delivered, too (Linux api.rst §4.32: exception.injected)', () => {
    const order: number[] = [];
    const rig = rigOf({ guests: [{ 0: generator('g', function* () { yield work; }, function* (vector) {
      order.push(vector);
      yield work;
    }) }] });
    rig.arch.injectFault(rig.vps[0]!.context, { code: 13, errorCode: 0, addressLo: 0, addressHi: 0 });
    rig.set(0, 0, 'exception.state', 2n);
    rig.run();
    expect([order, rig.get(0, 0, 'exception.state')]).toEqual([[13], 0n]);
  });

  describe('exceptions that somebody asks about', () => {
    const trial = (on: (c: PlaneContext, drop: () => void) => Answer | null, state = 1) => {
      const seen: string[] = [];
      const rig: Rig = rigOf({
        claims: [{ exit: 'exception', from: 0, to: 31 }],
        on: (c, exit) => {
          seen.push(`exit ${exit.key}`);
          return on(c, () => rig.set(0, 0, 'exception.state', 0n));
        },
        guests: [{ 0: generator('g', function* () {
          const { fault } = yield { op: 'rdmsr', index: 0x999 };
          seen.push(fault === null ? 'done' : `fault ${fault.vector}`);
          yield work;
        }, function* (vector) {
          seen.push(`handler ${vector}`);
          yield work;
        }) }],
      });
      rig.arch.exceptionExits = (_c, vector) => vector === 13;
      if (state === 2) {
        rig.arch.injectFault(rig.vps[0]!.context, { code: 13, errorCode: 0, addressLo: 0, addressHi: 0 });
        rig.set(0, 0, 'exception.state', 2n);
      }
      rig.run();
      return seen;
    };
    it('leave before they are delivered, and are delivered when nobody wants them', () => {
      expect(trial(() => null)).toEqual(['exit 13', 'fault 13']);
    });
    it('are raised by the instruction again when they were dropped', () => {
      let left = 2;
      expect(trial((c, drop) => (left-- > 0 ? (drop(), c.vp.replies.retry()) : null))).toEqual(['exit 13', 'exit 13', 'exit 13', 'fault 13']);
    });
    it('do not leave when they were given from outside', () => {
      expect(trial(() => null, 2)).toEqual(['handler 13', 'exit 13', 'fault 13']);
    });
  });

  it('an interrupt in the middle of a switch belongs to the plane it was sent to', () => {
    const taken: string[] = [];
    const guest = (id: string) => generator(id, function* () { yield { op: 'sti' }; yield { op: 'call' }; yield work; yield { op: 'call' }; }, function* (v) { taken.push(`${id} ${v}`); yield { op: 'eoi' }; });
    const rig = rigOf({ policy: 'userspace', claims: calls, on: (c) => c.vp.replies.switchTo(1 - c.plane, 'call', 'stopped'), guests: [{ 0: guest('zero'), 1: guest('one') }] });
    rig.msi(0, 0, 0x40);
    rig.msi(0, 1, 0x50);
    rig.run(2);
    // The call behind STI is in its shadow, so each takes its own when it runs for the second time.
    expect(taken).toEqual(['zero 64', 'one 80']);
  });
});
