import { createScope } from '@vmplanes/di';
import { Activity, installEngine, Outcome, type PlaneContext } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { ApicEvent, DeliveryMode } from '../apic/index.ts';
import { ScriptCpu, type Step } from '../scripted/index.ts';
import { readRegister, writeRegister, X86 } from '../state/index.ts';
import { X86Arch } from './x86-arch.ts';
import { type EventDoor, encodeMessage, type X86Events } from './x86-events.ts';

const INTERRUPT = 1 << ApicEvent.interrupt;
const NMI = 1 << ApicEvent.nmi;

/** Lets vectors in as exception 28 whatever the interrupt flag says, NMIs as processors do, and keeps start signals from the registers. */
class Door implements EventDoor {
  readonly log: string[] = [];
  isOpen = true;
  keepsRegisters = true;
  deliverable(_events: X86Events, set: number): number {
    return this.isOpen ? set : 0;
  }
  takeable(events: X86Events, set: number): number {
    return (set & INTERRUPT) | events.unmasked(set & NMI);
  }
  take(events: X86Events, set: number): void {
    if ((set & INTERRUPT) === 0) return events.take(set);
    this.log.push(`vector ${events.acknowledge()}`);
    const { u32 } = events.machine.arena;
    const word = events.context.base >>> 2;
    u32[word + X86['exception.state'] / 4] = 2;
    u32[word + X86['exception.vector'] / 4] = 28;
    u32[word + X86['exception.hasErrorCode'] / 4] = 0;
  }
  init(): boolean {
    this.log.push('init');
    return this.keepsRegisters;
  }
  startUp(_events: X86Events, vector: number): boolean {
    this.log.push(`start ${vector}`);
    return this.keepsRegisters;
  }
}

const build = (steps: readonly Step[], handlers: Readonly<Record<string, readonly Step[]>> = {}) => {
  const arch = new X86Arch();
  const machine = installEngine(createScope(), { arch, policy: 'lowest-runnable', rule: 'deliverable', options: { maxVps: 1, maxPlanes: 1, memoryBytes: 0x1_0000, quantum: 1000 } });
  const door = new Door();
  arch.eventDoor = () => door;
  const vp = machine.createVp();
  const context: PlaneContext = vp.plane(0);
  const cpu = new ScriptCpu(machine, arch, { 0: { script: { id: 's', steps, handlers } } });
  machine.setCpu(vp, cpu);
  arch.apicOf(context).writeSvr(0x1ff);
  const entries: string[] = [];
  machine.contextPorts.push({ entering: () => (entries.push('in'), null), left: (_c, cause) => void entries.push(cause) });
  const run = (n = 100): Outcome => {
    vp.sliceEnd = vp.retired + n;
    return machine.runVp(vp);
  };
  const send = (mode: DeliveryMode, vector: number): number => machine.send(0, 0, encodeMessage(mode, vector, true, false), 0);
  return { arch, machine, door, vp, context, cpu, run, send, entries, get: (name: Parameters<typeof readRegister>[2]) => readRegister(machine.arena, context.base, name) };
};

describe('a door for events', () => {
  it('brings a vector in another way, with interrupts off; the exception is no fault of the step that halted', () => {
    const m = build([{ op: 'hlt' }, { op: 'work', regs: { rbx: 7 } }, { op: 'hlt' }], { 28: [{ op: 'work', regs: { rcx: 28 } }] });
    expect(m.run()).toBe(Outcome.Blocked);
    m.send(DeliveryMode.fixed, 0x44);
    m.run();
    expect([m.door.log, m.get('rcx'), m.get('rbx')]).toEqual([['vector 68'], 28n, 7n]);
    expect(m.arch.apicOf(m.context).highestIsr()).toBe(0x44);
  });
  it('keeps out what it does not let in: nothing is pending, nobody wakes', () => {
    const m = build([{ op: 'hlt' }]);
    m.run();
    m.door.isOpen = false;
    m.send(DeliveryMode.fixed, 0x44);
    expect([m.vp.pending, m.context.events.requested(), m.run()]).toEqual([0, true, Outcome.Blocked]);
    m.door.isOpen = true;
    m.machine.eventsChanged(m.context);
    expect(m.vp.pending).toBe(1);
  });
  it('may leave a class to the processor', () => {
    const m = build([{ op: 'hlt' }], { 2: [{ op: 'work', regs: { rcx: 2 } }] });
    m.run();
    m.send(DeliveryMode.nmi, 0);
    m.run();
    expect([m.door.log, m.get('rcx')]).toEqual([[], 2n]);
  });
  it('keeps the registers of an INIT and of a start-up message; the entry begins anew after each', () => {
    const m = build([{ op: 'work' }]);
    m.arch.apicOf(m.context).writeApicBase(0xfee0_0800, 0, true);
    writeRegister(m.machine.arena, m.context.base, 'rbx', 5n);
    m.send(DeliveryMode.init, 0);
    expect(m.run()).toBe(Outcome.Blocked);
    expect([m.context.activity, m.get('rbx'), m.entries.splice(0)]).toEqual([Activity.WaitForSipi, 5n, ['in', 'event']]);
    writeRegister(m.machine.arena, m.context.base, 'cs.selector', 0x33n);
    m.send(DeliveryMode.startUp, 0x9a);
    m.run();
    expect([m.door.log, m.get('cs.selector'), m.get('rbx')]).toEqual([['init', 'start 154'], 0x33n, 5n]);
    expect(m.entries.slice(0, 4)).toEqual(['in', 'event', 'in', 'halt']);
  });
  it('leaves them to the processor where it says so', () => {
    const m = build([{ op: 'work' }]);
    m.door.keepsRegisters = false;
    m.arch.apicOf(m.context).writeApicBase(0xfee0_0800, 0, true);
    writeRegister(m.machine.arena, m.context.base, 'rbx', 5n);
    m.send(DeliveryMode.init, 0);
    m.run();
    m.send(DeliveryMode.startUp, 0x9a);
    m.run();
    expect([m.get('rbx'), m.get('cs.selector'), m.get('cs.base')]).toEqual([0n, 0x9a00n, 0x9_a000n]);
  });
});

describe('the pause of a run', () => {
  it.each([
    ['the slice ends', [{ op: 'work' }, { op: 'work' }] satisfies Step[], 1],
    ['the plane blocks', [{ op: 'hlt' }] satisfies Step[], 10],
    ['it leaves to the VMM', [{ op: 'in', port: 1 }] satisfies Step[], 10],
  ])('is told when %s, while the plane still runs', (_name, steps, n) => {
    const m = build(steps);
    const paused: number[] = [];
    m.machine.contextPorts.push({ paused: (c) => void paused.push(c.plane, m.vp.running) });
    m.run(n);
    expect(paused).toEqual([0, 0]);
  });
});
