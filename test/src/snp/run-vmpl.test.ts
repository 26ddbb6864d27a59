import { InvariantChecks, Schedule } from '@vmplanes/engine';
import { type CreatePlanePayload, SwitchReason } from '@vmplanes/personality-sev-snp-vmpl';
import { DeliveryMode, encodeMessage, type Step, writeRegister } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { GHCB_MSR, runVmpl, VmplRig, vmsaOf } from './vmpl-rig.ts';

const hlt: Step = { op: 'hlt' };
const readMsr: Step = { op: 'rdmsr', index: GHCB_MSR };
/** Runs VMPL2, and again whenever it is back, `n` times in all. */
const calling = (n: number): readonly Step[] => [...Array.from({ length: n }, () => runVmpl(2)).flat(), hlt];

describe('Run VMPL', () => {
  it('runs another VMPL; the response is there when the caller runs again (KVM planes series 2026-06, sev.c)', () => {
    const rig = new VmplRig({
      programs: [{
        0: [...runVmpl(2), readMsr, { op: 'work', regs: { rbx: 1 } }, hlt],
        2: [{ op: 'work', regs: { rcx: 5 } }, ...runVmpl(0), hlt],
      }],
    });
    expect(rig.run()).toEqual([]);
    expect([rig.get('rax'), rig.get('rdx'), rig.get('rbx'), rig.get('rcx', 0, 2)]).toEqual([0x17n, 0n, 1n, 5n]);
    expect([rig.field('exitCode', 0, 2), rig.field('rcx', 0, 2)]).toEqual([0x403n, 5n]);
  });
  it('the response is stored before the switch: it is in the MSR while the other VMPL runs', () => {
    const rig = new VmplRig({ programs: [{ 0: [...runVmpl(2), hlt], 2: [hlt] }] });
    const seen: number[] = [];
    rig.machine.contextPorts.push({ entering: (c) => (c.plane === 2 && seen.push(rig.plane().ghcbMsrLo), null) });
    rig.run();
    expect(seen[0]).toBe(0x17);
  });
  it('the caller stops, the target is runnable, the switch has its reason (KVM planes series 2026-06, sev.c)', () => {
    const rig = new VmplRig({ programs: [{ 0: [...runVmpl(2), hlt], 2: [{ op: 'work' }, { op: 'jump', to: 0 }] }] });
    const reasons: string[] = [];
    rig.machine.contextPorts.push({ switched: (from, to, reason) => void reasons.push(`${from.plane}>${to.plane} ${reason}`) });
    rig.machine.run(1);
    expect(reasons).toEqual([`0>2 ${SwitchReason.RunVmpl}`]);
    expect([rig.vp().current, rig.context().schedule, rig.context(0, 2).schedule]).toEqual([2, Schedule.Stopped, Schedule.Runnable]);
  });
  it.each([['VMPL 4', 4, 4], ['VMPL 255', 255, 4], ['a VMPL without a context', 2, 2], ['a VMPL without a save area', 3, 4]])('%s is an error, and the caller goes on at once (GHCB 2.3.1)', (_name, vmpl, planes) => {
    const rig = new VmplRig({ planes, vmsas: [0, 1], programs: [{ 0: [...runVmpl(vmpl), readMsr, hlt] }] });
    expect(rig.run()).toEqual([]);
    expect([rig.get('rax'), rig.get('rdx'), rig.vp().current, rig.isHalted()]).toEqual([0x17n, 1n, 0, true]);
  });
  it('of the VMPL that asks: success, no switch', () => {
    const rig = new VmplRig({ programs: [{ 0: [...runVmpl(0), readMsr, hlt] }] });
    expect([rig.run(), rig.get('rax'), rig.get('rdx'), rig.vp().statistics.switches]).toEqual([[], 0x17n, 0n, 0]);
  });
  it('goes from a lower VMPL to any, such as from 2 to 3 and on to 0', () => {
    const rig = new VmplRig({ programs: [{ 0: [...runVmpl(2), { op: 'work', regs: { rbx: 1 } }, hlt], 2: [...runVmpl(3), hlt], 3: [{ op: 'work', regs: { rbx: 3 } }, ...runVmpl(0), hlt] }] });
    expect([rig.run(), rig.get('rbx'), rig.get('rbx', 0, 3), rig.vp().runnable]).toEqual([[], 1n, 3n, 1]);
  });
  it('wakes a VMPL that halted: its HLT is over (KVM planes series 2026-06, sev.c)', () => {
    const rig = new VmplRig({ programs: [{ 0: [...calling(2)], 2: [hlt, { op: 'work', regs: { rbx: 6 } }, ...runVmpl(0), hlt] }] });
    rig.run();
    expect([rig.vp().current, rig.isHalted(0, 2)]).toEqual([2, true]);
    // VMPL0 comes in by an NMI, which it lets go by, and runs VMPL2 again.
    rig.machine.send(0, 0, encodeMessage(DeliveryMode.nmi, 0, true, false), 0);
    rig.run();
    expect([rig.get('rbx', 0, 2), rig.vp().current]).toEqual([6n, 0]);
  });
  it('with a VMPL that the machine has not yet, nothing is asked of the VMM', () => {
    const rig = new VmplRig({ planes: 2, programs: [{ 0: [...runVmpl(3), hlt] }] });
    expect(rig.run() as readonly CreatePlanePayload[]).toEqual([]);
  });
});

describe('what each VMPL has for itself (APM vol. 2, 15.36.7)', () => {
  it('registers, x87, SSE and AVX registers', () => {
    const own = (n: number): readonly Step[] => [{ op: 'work', regs: { rbx: n, r15: n, xmm3: n, ymmHigh3: n, st1: n, cr2: n, xcr0: 7 } }, ...runVmpl(n === 1 ? 2 : 0)];
    const rig = new VmplRig({ programs: [{ 0: [...own(1), { op: 'work' }, hlt], 2: [...own(2), hlt] }] });
    expect(rig.run()).toEqual([]);
    for (const name of ['rbx', 'r15', 'xmm3', 'ymmHigh3', 'st1', 'cr2'] as const) expect([rig.get(name), rig.get(name, 0, 2)], name).toEqual([1n, 2n]);
    expect(rig.peek(vmsaOf(0, 2) + 0x570 + 48)).toBe(2n);
  });
  it('its GHCB MSR', () => {
    const rig = new VmplRig({ programs: [{ 0: [...runVmpl(2), readMsr, hlt], 2: [{ op: 'wrmsr', index: GHCB_MSR, value: 0x16n }, readMsr, { op: 'call', via: 'vmgexit' }, hlt] }] });
    rig.run();
    expect([rig.get('rax'), rig.get('rax', 0, 2), rig.plane(0, 2).ghcbMsrLo]).toEqual([0x17n, 0x16n, 0x17]);
  });
  it('its local APIC: an interrupt for one is none for the other', () => {
    const rig = new VmplRig({ programs: [{ 0: [...runVmpl(2), hlt], 2: [{ op: 'work' }, hlt] }] });
    rig.machine.send(0, 2, encodeMessage(DeliveryMode.fixed, 0x44, true, false), 0);
    expect([rig.arch.apicOf(rig.context(0, 2)).highestIrr(), rig.arch.apicOf(rig.context()).highestIrr()]).toEqual([0x44, -1]);
  });
});

describe('VMPL0 comes in', () => {
  const lower: readonly Step[] = [{ op: 'work', regs: { rbx: 1 } }, { op: 'work' }, { op: 'jump', to: 1 }];
  const start = (vmpl0: readonly Step[], handler: readonly Step[] = [{ op: 'work', regs: { rcx: 7 } }, { op: 'eoi' }]): VmplRig => {
    const rig = new VmplRig({ programs: [{ 0: { id: 'VMPL0', steps: [{ op: 'sti' }, ...vmpl0], handlers: { 64: handler } }, 2: lower, 3: [{ op: 'work', regs: { rbx: 3 } }, hlt] }] });
    rig.machine.run(1);
    return rig;
  };
  const interrupt = (rig: VmplRig, vmpl = 0): void => void rig.machine.send(0, vmpl, encodeMessage(DeliveryMode.fixed, 0x40, true, false), 0);

  it('when something pends for it: the lower VMPL left with an interrupt, and does not go on by itself (KVM planes series 2026-06, sev.c)', () => {
    const rig = start([...runVmpl(2), { op: 'work', regs: { rbx: 9 } }, hlt]);
    expect([rig.vp().current, rig.get('rbx', 0, 2)]).toEqual([2, 1n]);
    interrupt(rig);
    rig.run();
    expect([rig.vp().current, rig.get('rcx'), rig.get('rbx'), rig.isHalted()]).toEqual([0, 7n, 9n, true]);
    expect([rig.field('exitCode', 0, 2), rig.context(0, 2).schedule]).toEqual([0x60n, Schedule.Stopped]);
  });
  it('and may then run another VMPL than the one that ran before', () => {
    const rig = start([...runVmpl(2), ...runVmpl(3), hlt]);
    interrupt(rig);
    rig.run();
    expect([rig.vp().current, rig.get('rbx', 0, 3)]).toEqual([3, 3n]);
  });
  it('but a lower VMPL never does: its interrupt waits until it is run', () => {
    const rig = new VmplRig({ programs: [{ 0: [{ op: 'work' }, hlt], 2: { id: 'VMPL2', steps: [hlt] } }] });
    interrupt(rig, 2);
    rig.run();
    expect([rig.vp().current, rig.vp().pending, rig.isHalted()]).toEqual([0, 0b100, true]);
  });
  it('not merely because the lower VMPL halted: the VP sleeps, and wakes for either', () => {
    const rig = new VmplRig({ programs: [{ 0: [...runVmpl(2), { op: 'work', regs: { rbx: 1 } }, hlt], 2: { id: 'VMPL2', steps: [{ op: 'sti' }, hlt, { op: 'work', regs: { rbx: 2 } }, hlt], handlers: { 64: [{ op: 'eoi' }] } } }] });
    rig.run();
    expect([rig.vp().current, rig.isHalted(0, 2), rig.get('rbx')]).toEqual([2, true, 0n]);
    interrupt(rig, 2);
    rig.run();
    expect([rig.vp().current, rig.get('rbx', 0, 2), rig.get('rbx')]).toEqual([2, 2n, 0n]);
    rig.machine.send(0, 0, encodeMessage(DeliveryMode.nmi, 0, true, false), 0);
    rig.run();
    expect([rig.vp().current, rig.get('rbx')]).toEqual([0, 1n]);
  });
  it('with interrupts off, too: the flag is hidden from the host, and VMPL0 takes it when it turns it on', () => {
    const rig = new VmplRig({ programs: [{ 0: { id: 'VMPL0', steps: [...runVmpl(2), { op: 'work', regs: { rbx: 1 } }, { op: 'sti' }, { op: 'work' }, hlt], handlers: { 64: [{ op: 'work', regs: { rcx: 2 } }, { op: 'eoi' }] } }, 2: lower }] });
    rig.machine.run(1);
    interrupt(rig);
    rig.run();
    expect([rig.get('rbx'), rig.get('rcx')]).toEqual([1n, 2n]);
  });
});

describe('snapshots', () => {
  const programs = [{
    0: { id: 'VMPL0', steps: [{ op: 'sti' }, ...runVmpl(2), { op: 'loop', register: 'rbp', to: 1 }, hlt] satisfies Step[], handlers: { 64: [{ op: 'work' }, { op: 'eoi' }] satisfies Step[] } },
    2: [{ op: 'work', regs: { rsi: 3 } }, { op: 'work' }, { op: 'loop', register: 'rsi', to: 1 }, ...runVmpl(0), { op: 'jump', to: 0 }] satisfies Step[],
  }];
  const fresh = (): VmplRig => {
    const rig = new VmplRig({ programs, vmsas: [0, 2], vmsa: (_vp, vmpl) => (vmpl === 0 ? { rbp: 60n } : {}) });
    return rig;
  };
  const end = (rig: VmplRig): unknown => {
    rig.run();
    return structuredClone({ ...rig.machine.snapshot(), options: null });
  };
  it.each([1, 2, 3, 5])('a run that is cut after %i slices goes on in another machine as it would have', (slices) => {
    const rig = fresh();
    for (let i = 0; i < slices; i++) {
      if (i % 3 === 1) rig.machine.send(0, 0, encodeMessage(DeliveryMode.fixed, 0x40, true, false), 0);
      rig.machine.run(1);
    }
    const saved = structuredClone(rig.machine.snapshot());
    const other = fresh();
    other.machine.restore(saved);
    expect(end(other)).toEqual(end(rig));
    expect(rig.get('rbp')).toBe(0n);
  });
  it('refuses no later version without a word', () => {
    const rig = fresh();
    const saved = structuredClone(rig.machine.snapshot()) as { components: Record<string, { version: number }> };
    saved.components['sev-snp-vmpl']!.version = 99;
    expect(() => fresh().machine.restore(saved as never)).toThrow(/state version 99/);
  });
});

it('invariants hold while VMPLs run: a live save area belongs to a running VMPL', () => {
  const rig = new VmplRig({ programs: [{ 0: calling(3), 2: [...runVmpl(0), ...runVmpl(0), ...runVmpl(0), hlt] }] });
  expect(rig.machine.checks).toBeInstanceOf(InvariantChecks);
  rig.run();
  expect(rig.machine.checks!.count).toBeGreaterThan(10);
  rig.plane(0, 2).isLive = true;
  expect(rig.snp.checkInvariants()).toEqual([expect.stringContaining('are counted'), expect.stringContaining('VMPL2 runs from its save area, but does not run')]);
  writeRegister(rig.machine.arena, rig.context().base, 'rbx', 0n);
});
