import { Activity } from '@vmplanes/engine';
import { DeliveryMode } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { generator, payloadOf, type RigConfig, rigOf, type Rig } from './rig.ts';

const hlt = { op: 'hlt' } as const;
const work = { op: 'work' } as const;
/** As the strict 2025-04 profile: the VMM names planes, sticky mask, events looked at on the way into the guest. */
const strict: Partial<RigConfig> = { policy: 'userspace', rule: 'irr', options: { eventCheck: 'entry' } };
const spin = { 0: [{ op: 'jump', to: 0 }], 1: [{ op: 'jump', to: 0 }], 2: [{ op: 'jump', to: 0 }] } as const;

/** Names a plane and a mask, runs at most one slice. @returns `pending/target` of the plane event, or how the run ended. */
const enter = (rig: Rig, plane: number, mask: number, slices = 1): string => {
  const vp = rig.vps[0]!;
  vp.named = plane;
  vp.asked = mask;
  const stop = rig.run(slices);
  if (stop.kind !== 'exit') return stop.kind;
  const payload = payloadOf(vp) as { kind: string; cause: string; pending: number; target: number };
  return payload.kind === 'planeEvent' ? `${payload.cause} ${payload.pending.toString(2)}/${payload.target.toString(2)}` : payload.kind;
};

describe('rule irr: the sticky mask of LKML 20250401 25/29', () => {
  it('the worked example of the x86 self-test (29/29): planes 0 and 1, vector 192', () => {
    const rig = rigOf({ ...strict, guests: [spin] });
    const vp = rig.vps[0]!;
    const irr = (plane: number): boolean => rig.arch.apicOf(vp.plane(plane)).block.test(0x200, 192);
    const retired = vp.retired;
    expect(rig.msi(0, 1, 192)).toBe(1);
    expect([vp.pending, irr(0), irr(1)]).toEqual([0b10, false, true]);
    expect(enter(rig, 0, 0b10)).toBe('interrupt 10/10');
    expect(vp.pending).toBe(0b10);
    expect(rig.msi(0, 0, 192)).toBe(1);
    expect([vp.pending, irr(0)]).toEqual([0b11, true]);
    // The own bit is ignored; entry clears it, leaving computes it again from the requests.
    expect(enter(rig, 1, 0b11)).toBe('interrupt 1/1');
    expect(vp.pending).toBe(0b11);
    expect(vp.retired).toBe(retired);
  });

  it.each([
    ['bit set before the run and asked about: exit before the first instruction', [1], 0, 0b10, 'interrupt 10/10'],
    ['pending only for the plane that runs: no exit', [0], 0, 0b01, 'slices'],
    ['pending for both, the other one asked about: the own bit was cleared at entry', [0, 1], 0, 0b10, 'interrupt 10/10'],
    ['pending but not asked about: no exit', [1], 0, 0b100, 'slices'],
    ['one asked about, another pending too: the snapshot has both, the target one', [1, 2], 0, 0b10, 'interrupt 110/10'],
    ['bits of planes that do not exist ask for nothing', [], 0, 0xfff0, 'slices'],
  ] as const)('%s', (_title, pending, plane, mask, result) => {
    const rig = rigOf({ ...strict, guests: [spin] });
    for (const p of pending) rig.msi(0, p, 0x80);
    const before = rig.vps[0]!.retired;
    expect(enter(rig, plane, mask)).toBe(result);
    expect(rig.vps[0]!.retired > before).toBe(result === 'slices');
  });

  it('level repeat: the same exit at every run until the plane has run', () => {
    const rig = rigOf({ ...strict, guests: [{ 0: [{ op: 'jump', to: 0 }], 1: [{ op: 'sti' }, { op: 'work' }, { op: 'jump', to: 1 }] }] });
    rig.msi(0, 1, 0x80);
    for (let i = 0; i < 3; i++) expect(enter(rig, 0, 0b10)).toBe('interrupt 10/10');
    expect(enter(rig, 1, 0)).toBe('slices');
    expect(rig.arch.apicOf(rig.vps[0]!.plane(1)).highestIrr()).toBe(-1);
    expect(enter(rig, 0, 0b10)).toBe('slices');
  });

  it('a new request for a plane whose bit is set already signals nothing; an immediate return keeps the request to look', () => {
    const rig = rigOf({ ...strict, guests: [spin] });
    const vp = rig.vps[0]!;
    rig.msi(0, 1, 0x80);
    vp.immediateExit = true;
    expect(enter(rig, 0, 0b10)).toBe('interrupted');
    expect(vp.recheck).toBe(1);
    vp.immediateExit = false;
    expect(enter(rig, 2, 0)).toBe('slices');
    rig.msi(0, 1, 0x81);
    expect(vp.recheck).toBe(1);
    expect(enter(rig, 0, 0b10)).toBe('interrupt 10/10');
  });

  it('neither priority nor a disabled APIC nor INIT moves a bit of a plane that does not run', () => {
    const rig = rigOf({ ...strict, guests: [spin] });
    const vp = rig.vps[0]!;
    const apic = rig.arch.apicOf(vp.plane(1));
    rig.msi(0, 1, 0x80);
    apic.setTpr(0xff);
    apic.writeSvr(0xff);
    apic.accept(DeliveryMode.init, 0, true, false);
    expect(vp.pending).toBe(0b10);
    // Masked by TPR, asked about: exits for ever (the flaw that the rule `deliverable` mends).
    for (let i = 0; i < 3; i++) expect(enter(rig, 0, 0b10)).toBe('interrupt 10/10');
  });

  it('NMI, INIT and start-up messages never mark the mask', () => {
    const rig = rigOf({ ...strict, guests: [spin] });
    rig.nmi(0, 1);
    rig.arch.apicOf(rig.vps[0]!.plane(1)).accept(DeliveryMode.init, 0, true, false);
    expect(rig.vps[0]!.pending).toBe(0);
    expect(enter(rig, 0, 0b10)).toBe('slices');
  });

  it('with one plane the mechanism is inert', () => {
    const rig = rigOf({ ...strict, guests: [{ 0: [hlt] }] });
    rig.msi(0, 0, 0x80);
    expect(enter(rig, 0, 0xffff, 5)).toBe('idle');
    expect([rig.vps[0]!.pending, rig.vps[0]!.recheck]).toEqual([0, 0]);
  });

  it('the plane of a VP that has one plane only is plane 0, whatever the VMM names (LKML 20250401 22/29)', () => {
    const rig = rigOf({ ...strict, guests: [{ 0: [{ op: 'mov', to: 'cr8', value: 4 }, hlt] }] });
    expect(enter(rig, 7, 0)).toBe('slices');
    expect(rig.arch.apicOf(rig.vps[0]!.plane(0)).cr8).toBe(4);
  });

  it('a halted plane blocks although an asked plane is pending when events are checked at entry; not when they are checked first', () => {
    for (const eventCheck of ['entry', 'first'] as const) {
      const rig = rigOf({ ...strict, options: { eventCheck }, guests: [{ 0: [hlt, hlt, hlt], 1: [hlt] }] });
      expect(enter(rig, 0, 0b10)).toBe('slices');
      expect(rig.vps[0]!.context.activity).toBe(Activity.Halted);
      rig.msi(0, 1, 0x80);
      expect(enter(rig, 0, 0b10, 5)).toBe(eventCheck === 'first' ? 'interrupt 10/10' : 'idle');
    }
  });

  it.each(['deliver:stored', 'deliver:marked', 'deliver:asked', 'enter:published', 'enter:cleared', 'leave:unpublished', 'leave:cleared'])('another sender at %s loses nothing', (point) => {
    const rig = rigOf({ ...strict, guests: [spin] });
    const vp = rig.vps[0]!;
    let armed = true;
    rig.machine.hooks.preemption = {
      at: (p) => {
        if (p !== point || !armed) return;
        armed = false;
        rig.msi(0, 2, 0x90);
      },
    };
    vp.asked = 0b110;
    // The run that gives the point; then whatever it takes to hear of plane 2.
    const { timer } = rig.arch.apicOf(vp.plane(1));
    timer.writeLvt(0x80);
    timer.writeInitialCount(10);
    rig.machine.timersChanged(vp.plane(1));
    enter(rig, 0, 0b110);
    const seen: string[] = [];
    for (let i = 0; i < 3; i++) seen.push(enter(rig, 0, 0b110));
    expect(armed).toBe(false);
    expect(seen.at(-1)).toMatch(/^interrupt 1[01]0\/1[01]0$/);
  });
});

describe('rule deliverable', () => {
  const userspace: Partial<RigConfig> = { policy: 'userspace', rule: 'deliverable' };

  it('TPR of the target counts, RFLAGS.IF does not (TLFS, Virtual Secure Mode: interrupt priority)', () => {
    const rig = rigOf({ ...userspace, guests: [spin] });
    const apic = rig.arch.apicOf(rig.vps[0]!.plane(1));
    apic.setTpr(0x80);
    rig.msi(0, 1, 0x80);
    expect(enter(rig, 0, 0b10)).toBe('slices');
    apic.setTpr(0x70);
    expect(enter(rig, 0, 0b10)).toBe('interrupt 10/10');
    // Raising it again takes the event back.
    apic.setTpr(0x80);
    expect(enter(rig, 0, 0b10)).toBe('slices');
  });

  it('an interrupt in service holds up what is not above it', () => {
    const rig = rigOf({ ...userspace, guests: [spin] });
    const vp = rig.vps[0]!;
    const apic = rig.arch.apicOf(vp.plane(1));
    rig.msi(0, 1, 0x61);
    apic.acknowledge();
    rig.msi(0, 1, 0x45);
    expect(vp.pending).toBe(0);
    rig.msi(0, 1, 0x71);
    expect(vp.pending).toBe(0b10);
    apic.acknowledge();
    apic.eoi();
    expect(vp.pending).toBe(0);
    apic.eoi();
    expect(vp.pending).toBe(0b10);
  });

  it.each([
    ['NMI', (rig: Rig) => rig.nmi(0, 1)],
    ['INIT', (rig: Rig) => void rig.arch.apicOf(rig.vps[0]!.plane(1)).accept(DeliveryMode.init, 0, true, false)],
    ['a timer of its own', (rig: Rig) => {
      const apic = rig.arch.apicOf(rig.vps[0]!.plane(1));
      apic.timer.writeLvt(0x70);
      apic.timer.writeDivide(0xb);
      apic.timer.writeInitialCount(30);
      rig.machine.timersChanged(rig.vps[0]!.plane(1));
    }],
  ])('%s of a plane that does not run ends the run of another (flaws H5 and H6 of LKML 20250401 25/29)', (_name, cause) => {
    const rig = rigOf({ ...userspace, guests: [spin] });
    cause(rig);
    expect(enter(rig, 0, 0b10)).toBe('interrupt 10/10');
    expect(rig.vps[0]!.retired).toBe(_name === 'a timer of its own' ? 30 : 0);
  });

  it('a blocked NMI is not pending until the handler is left', () => {
    const rig = rigOf({ ...userspace, guests: [spin] });
    rig.set(0, 1, 'nmi.blocked', 1n);
    rig.machine.eventsChanged(rig.vps[0]!.plane(1));
    rig.nmi(0, 1);
    expect(rig.vps[0]!.pending).toBe(0);
    expect(enter(rig, 0, 0b10)).toBe('slices');
  });

  it('a start-up message counts for a plane that waits for it, nothing else does', () => {
    const rig = rigOf({ ...userspace, guests: [spin] });
    const context = rig.vps[0]!.plane(1);
    const apic = rig.arch.apicOf(context);
    apic.latches.setWaitingForSipi(true);
    rig.msi(0, 1, 0x80);
    rig.nmi(0, 1);
    expect(rig.vps[0]!.pending).toBe(0);
    apic.accept(DeliveryMode.startUp, 8, true, false);
    expect(rig.vps[0]!.pending).toBe(0b10);
  });

  it('requests that come by a restore count at the next run (flaw H7; OpenVMM #3819)', () => {
    const rig = rigOf({ ...userspace, guests: [spin] });
    rig.msi(0, 1, 0x80);
    const saved = rig.machine.snapshot();
    const other = rigOf({ ...userspace, guests: [spin] });
    Object.assign(saved.vps[0]!.fields, { pending: 0 });
    for (const [i, cpu] of (saved.vps[0]!.cpu as unknown[]).entries()) if (cpu) (cpu as { script: string }).script = ((other.machine.snapshot().vps[0]!.cpu as { script: string }[])[i]!).script;
    other.machine.restore(saved);
    expect(other.vps[0]!.pending).toBe(0b10);
    expect(enter(other, 0, 0b10)).toBe('interrupt 10/10');
  });

  it('requests of a software-disabled APIC are held: not deliverable, not lost (OpenVMM #3839; SDM 3A §10.4.7.2)', () => {
    const rig = rigOf({ ...userspace, guests: [spin] });
    const apic = rig.arch.apicOf(rig.vps[0]!.plane(1));
    rig.msi(0, 1, 0x61);
    apic.writeSvr(0xff);
    expect(rig.vps[0]!.pending).toBe(0);
    expect(enter(rig, 0, 0b10)).toBe('slices');
    rig.machine.snapshot();
    apic.writeSvr(0x1ff);
    expect(rig.vps[0]!.pending).toBe(0b10);
  });

  it('a self-message and a local timer count like messages from others (OpenVMM #331)', () => {
    const taken: number[] = [];
    const rig = rigOf({ guests: [{ 0: generator('g', function* () {
      yield { op: 'sti' };
      yield { op: 'apicWrite', register: 0x3f, value: 0x50 };
      yield { op: 'ipi', icr: 0x40051 };
      yield { op: 'apicWrite', register: 0x32, value: 0x52 };
      yield { op: 'apicWrite', register: 0x38, value: 5 };
      yield hlt;
    }, function* (vector) { taken.push(vector); yield { op: 'eoi' }; }) }] });
    rig.run();
    expect(taken).toEqual([0x50, 0x51, 0x52]);
  });
});

describe('edge counters (for notification of new interrupts, TLFS HvRegisterVsmVina)', () => {
  it('count what is new, not what merges into a pending request', () => {
    const rig = rigOf({ guests: [spin] });
    const context = rig.vps[0]!.plane(1);
    rig.msi(0, 1, 0x80);
    rig.msi(0, 1, 0x80);
    expect(context.edges).toBe(1);
    rig.msi(0, 1, 0x81);
    rig.nmi(0, 1);
    rig.nmi(0, 1);
    expect(context.edges).toBe(3);
    expect(context.events.balance()).toMatchObject({ accepted: 5, merged: 2, pending: 3 });
  });
});

describe('external interrupts', () => {
  it('are held while no interrupt controller can tell their vector: a halted plane stays halted', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'sti' }, hlt, { op: 'mov', to: 'cr8', value: 1 }] }] });
    rig.run();
    rig.arch.apicOf(rig.vps[0]!.context).accept(DeliveryMode.extInt, 0, true, false);
    expect(rig.kind()).toBe('idle');
    expect(rig.vps[0]!.context.activity).toBe(Activity.Halted);
  });
  it('are taken with the vector that the controller tells, and are not in service at the local APIC (SDM 3A §10.8.1)', () => {
    const taken: number[] = [];
    const rig = rigOf({ guests: [{ 0: generator('g', function* () { yield { op: 'sti' }; yield hlt; yield work; }, function* (vector) { taken.push(vector); yield work; }) }] });
    rig.arch.fabric.external.acknowledge = () => 0x28;
    rig.run();
    rig.arch.apicOf(rig.vps[0]!.context).accept(DeliveryMode.extInt, 0, true, false);
    expect(rig.kind()).toBe('idle');
    expect(taken).toEqual([0x28]);
    expect(rig.arch.apicOf(rig.vps[0]!.context).highestIsr()).toBe(-1);
  });
});
