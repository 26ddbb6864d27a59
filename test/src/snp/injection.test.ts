import { SevFeature, VintrCtrl, VmsaEvent, type VmsaValues } from '@vmplanes/abi-sev-snp';
import { DeliveryMode, encodeMessage, type Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { runVmpl, SNP, VmplRig, vmsaOf } from './vmpl-rig.ts';

const hlt: Step = { op: 'hlt' };
const DOORBELL = 0x3000;
const RESTRICTED = SNP | (1n << BigInt(SevFeature.RestrictedInjection));
const ALTERNATE = SNP | (1n << BigInt(SevFeature.AlternateInjection));
const NFS = 0x80;

const handler = (cell: 'rcx' | 'rdx' | 'rsi' | 'rdi', value: number): readonly Step[] => [{ op: 'work', regs: { [cell]: value } }];
/** Halts for ever, one HLT after the other; #HV, NMI and vector 0x44 leave marks. */
const sleeper = { id: 'sleeper', steps: [hlt, { op: 'jump', to: 0 }] satisfies Step[], handlers: { 28: handler('rcx', 28), 2: handler('rdx', 2), 68: [...handler('rsi', 0x44), { op: 'eoi' }] satisfies Step[] } };

const send = (rig: VmplRig, vector: number, mode: DeliveryMode = DeliveryMode.fixed, vp = 0, vmpl = 0): void => void rig.machine.send(vp, vmpl, encodeMessage(mode, vector, true, false), 0);
const first = (rig: VmplRig): number => rig.byte(DOORBELL) | (rig.byte(DOORBELL + 1) << 8);

describe('restricted injection (GHCB 5; KVM planes series 2026-06, sev.c)', () => {
  const restricted = (program: typeof sleeper | readonly Step[] = sleeper): VmplRig => {
    const rig = new VmplRig({ vmsas: [0], vmsa: () => ({ sevFeatures: RESTRICTED }), programs: [{ 0: program }] });
    rig.run();
    return rig;
  };
  const registered = (program?: readonly Step[]): VmplRig => {
    const rig = restricted(program ?? sleeper);
    expect(rig.snp.chapters.injection.doorbell(rig.plane(), 1, DOORBELL)).toBe(DOORBELL);
    return rig;
  };

  it('an interrupt is a vector in the page and #HV, whatever the interrupt flag says', () => {
    const rig = registered();
    expect(rig.get('rflags') & 0x200n).toBe(0n);
    send(rig, 0x44);
    rig.run();
    expect([first(rig), rig.get('rcx'), rig.get('rsi')]).toEqual([0x44 | (NFS << 8), 28n, 0n]);
    // The local APIC has it in service until the guest ends it.
    expect([rig.arch.apicOf(rig.context()).highestIsr(), rig.arch.apicOf(rig.context()).highestIrr()]).toEqual([0x44, -1]);
  });
  it('NoFurtherSignal is set before #HV can be seen', () => {
    const rig = registered();
    const seen: number[] = [];
    rig.machine.hooks.trace = { entered: (c) => void (rig.get('exception.state', 0, c.plane) === 2n && seen.push(rig.byte(DOORBELL + 1))), exit: () => {}, answer: () => {}, switched: () => {}, accepted: () => {}, vmExit: () => {}, input: () => {}, permission: () => {}, note: () => {} };
    send(rig, 0x44);
    rig.run();
    expect(seen).toEqual([NFS]);
  });
  it('with a vector in the page the next one stays pending in the local APIC; it comes when the byte is free', () => {
    const rig = registered();
    send(rig, 0x44);
    rig.run();
    rig.arch.apicOf(rig.context()).eoi();
    send(rig, 0x55);
    rig.run();
    expect([first(rig), rig.arch.apicOf(rig.context()).highestIrr(), rig.vp().pending]).toEqual([0x44 | (NFS << 8), 0x55, 0]);
    rig.putByte(DOORBELL, 0);
    rig.putByte(DOORBELL + 1, 0);
    rig.machine.eventsChanged(rig.context());
    rig.run();
    expect(first(rig)).toBe(0x55 | (NFS << 8));
  });
  it('with NoFurtherSignal set the vector is stored and nobody is told again', () => {
    const rig = registered();
    rig.putByte(DOORBELL + 1, NFS);
    send(rig, 0x44);
    rig.run();
    expect([first(rig), rig.get('rcx')]).toEqual([0x44 | (NFS << 8), 0n]);
  });
  it('an NMI is a flag and #HV, beside a vector that is there', () => {
    const rig = registered();
    rig.putByte(DOORBELL, 0x33);
    send(rig, 0, DeliveryMode.nmi);
    rig.run();
    expect([first(rig), rig.get('rcx'), rig.get('rdx')]).toEqual([0x33 | ((NFS | 1) << 8), 28n, 0n]);
  });
  it('two at once: the NMI first, then the vector, one #HV until the guest has looked', () => {
    const rig = registered();
    send(rig, 0x44);
    send(rig, 0, DeliveryMode.nmi);
    rig.run();
    expect(first(rig)).toBe(0x44 | ((NFS | 1) << 8));
  });
  it('without a page everything stays pending, and the VMPL runs (KVM planes series 2026-06, sev.c)', () => {
    const rig = restricted();
    send(rig, 0x44);
    send(rig, 0, DeliveryMode.nmi);
    expect([rig.run(), rig.get('rcx'), rig.vp().pending, rig.arch.apicOf(rig.context()).highestIrr()]).toEqual([[], 0n, 0, 0x44]);
    rig.snp.chapters.injection.doorbell(rig.plane(), 1, DOORBELL);
    rig.run();
    expect([first(rig) & 0xff, rig.get('rcx')]).toEqual([0x44, 28n]);
  });
  it('a page that became private is no page', () => {
    const rig = registered();
    rig.snp.chapters.rmp.assign(DOORBELL / 4096, 1, true);
    expect(rig.snp.chapters.injection.hasDoorbell(rig.plane())).toBe(false);
    send(rig, 0x44);
    expect([rig.run(), rig.get('rcx')]).toEqual([[], 0n]);
  });
  it('only the first two bytes are the host\'s without extended interrupts (coconut-svsm kernel/src/sev/hv_doorbell.rs)', () => {
    const rig = registered();
    for (const at of [2, 3, 4, 0x40, 0x80, 0xc0, 0xfff]) rig.putByte(DOORBELL + at, 0xa0 + (at & 15));
    send(rig, 0x44);
    rig.run();
    expect([2, 3, 4, 0x40, 0x80, 0xc0, 0xfff].map((at) => rig.byte(DOORBELL + at))).toEqual([0xa2, 0xa3, 0xa4, 0xa0, 0xa0, 0xa0, 0xaf]);
  });
  it('is a matter of one VMPL: another one of the same processor takes interrupts as always', () => {
    const rig = new VmplRig({
      vmsas: [0, 2],
      vmsa: (_vp, vmpl) => ({ sevFeatures: vmpl === 0 ? RESTRICTED : SNP }),
      programs: [{ 0: [...runVmpl(2), hlt], 2: { id: 'VMPL2', steps: [{ op: 'sti' }, hlt, hlt], handlers: sleeper.handlers } }],
    });
    rig.run();
    send(rig, 0x44, DeliveryMode.fixed, 0, 2);
    rig.run();
    expect([rig.get('rsi', 0, 2), rig.get('rcx', 0, 2)]).toEqual([0x44n, 0n]);
  });
  it('pre-empts a lower VMPL when VMPL0 can be told, and does not when it cannot', () => {
    const build = (): VmplRig => {
      const rig = new VmplRig({ vmsas: [0, 2], vmsa: (_vp, vmpl) => ({ sevFeatures: vmpl === 0 ? RESTRICTED : SNP }), programs: [{ 0: { ...sleeper, id: 'VMPL0', steps: [...runVmpl(2), hlt] }, 2: [{ op: 'work' }, { op: 'jump', to: 0 }] }] });
      rig.machine.run(1);
      return rig;
    };
    const mute = build();
    send(mute, 0x44);
    mute.machine.run(3);
    expect([mute.vp().current, mute.get('rcx')]).toEqual([2, 0n]);
    const told = build();
    told.snp.chapters.injection.doorbell(told.plane(), 1, DOORBELL);
    send(told, 0x44);
    told.run();
    expect([told.vp().current, told.get('rcx'), told.field('exitCode', 0, 2)]).toEqual([0, 28n, 0x60n]);
  });
});

describe('the doorbell page (GHCB 4.1, event 0x80000014)', () => {
  const rig = new VmplRig({ vmsas: [0], vmsa: () => ({ sevFeatures: RESTRICTED }) });
  const ask = (request: number, gpa = 0): number => rig.snp.chapters.injection.doorbell(rig.plane(), request, gpa);
  it('has no preferred place', () => expect(ask(0)).toBe(Number.POSITIVE_INFINITY));
  it('is set, asked for, and cleared', () => expect([ask(2), ask(1, DOORBELL), ask(2), ask(3), ask(2)]).toEqual([0, DOORBELL, DOORBELL, 0, 0]));
  it.each([['not a page', 1, 0x3008], ['private', 1, vmsaOf(0, 0)], ['not memory', 1, 0x4000_0000], ['an unknown request', 4, DOORBELL]])('%s: the registration is cleared, the input is invalid', (_name, request, gpa) => {
    ask(1, DOORBELL);
    expect([ask(request, gpa), ask(2)]).toEqual([-5, 0]);
  });
});

describe('#HV IPI (GHCB 4.1, event 0x80000015)', () => {
  const build = (): VmplRig => {
    const rig = new VmplRig({ vps: 2, vmsas: [0], vmsa: () => ({ sevFeatures: RESTRICTED }), programs: [{ 0: sleeper }, { 0: sleeper }] });
    rig.run();
    for (const vp of [0, 1]) rig.snp.chapters.injection.doorbell(rig.plane(vp), 1, DOORBELL + vp * 0x1000);
    return rig;
  };
  it('sends as an interrupt command in x2APIC form does, whatever mode the local APIC is in', () => {
    const rig = build();
    expect(rig.snp.chapters.injection.ipi(rig.plane(), 0x4044, 1)).toBe(true);
    rig.run();
    expect([rig.byte(DOORBELL + 0x1000), rig.get('rcx', 1), rig.get('rcx', 0)]).toEqual([0x44, 28n, 0n]);
  });
  it('takes shorthands', () => {
    const rig = build();
    rig.snp.chapters.injection.ipi(rig.plane(), 0x4_4045, 0);
    rig.run();
    expect([rig.byte(DOORBELL), rig.get('rcx')]).toEqual([0x45, 28n]);
  });
  it.each([['a reserved bit', 0x1_4044], ['a reserved bit above', 0x8010_4044 | 0], ['a reserved mode', 0x4344], ['an external interrupt', 0x4744]])('%s makes it malformed', (_name, low) => expect(build().snp.chapters.injection.ipi(build().plane(), low, 1)).toBe(false));
});

describe('NMIs of an encrypted guest (Linux arch/x86/kvm/svm/sev.c)', () => {
  it('wait until the guest says that the last one is done: its IRET is not seen', () => {
    const rig = new VmplRig({ vmsas: [0], programs: [{ 0: { ...sleeper, handlers: { 2: [{ op: 'work' }] } } }] });
    rig.run();
    const delivered = (): bigint => BigInt(rig.arch.apicOf(rig.context()).counts(2).delivered);
    const before = delivered();
    send(rig, 0, DeliveryMode.nmi);
    rig.run();
    send(rig, 0, DeliveryMode.nmi);
    rig.run();
    expect([rig.plane().isNmiMasked, rig.vp().pending, rig.get('nmi.blocked')]).toEqual([true, 0, 0n]);
    rig.snp.chapters.injection.nmiComplete(rig.plane());
    expect(rig.vp().pending).toBe(1);
    rig.run();
    expect(rig.plane().isNmiMasked).toBe(true);
    expect(delivered()).toBeGreaterThanOrEqual(before);
  });
  it('are masked for one VMPL, not for another', () => {
    const rig = new VmplRig({ vmsas: [0, 2], programs: [{ 0: { ...sleeper, id: 'VMPL0', steps: [hlt, ...runVmpl(2), hlt] }, 2: { ...sleeper, id: 'VMPL2' } }] });
    rig.run();
    send(rig, 0, DeliveryMode.nmi);
    rig.run();
    expect([rig.plane().isNmiMasked, rig.vp().current]).toEqual([true, 2]);
    send(rig, 0, DeliveryMode.nmi, 0, 2);
    rig.run();
    expect([rig.plane(0, 2).isNmiMasked, rig.get('rdx', 0, 2)]).toEqual([true, 2n]);
  });
  it('are masked no longer after INIT of VMPL0, in any VMPL: what waited for that pends at once', () => {
    const rig = new VmplRig({ vmsas: [0, 2], programs: [{ 0: [...runVmpl(2), hlt], 2: { ...sleeper, id: 'VMPL2' } }] });
    rig.run();
    send(rig, 0, DeliveryMode.nmi, 0, 2);
    rig.run();
    send(rig, 0, DeliveryMode.nmi, 0, 2);
    expect([rig.plane(0, 2).isNmiMasked, rig.vp().pending & 4]).toEqual([true, 0]);
    rig.machine.resetPlane(rig.context(), 'init');
    expect([rig.plane(0, 2).isNmiMasked, rig.vp().pending & 4]).toEqual([false, 4]);
  });
});

describe('alternate injection (APM vol. 2, 15.36.16)', () => {
  const build = (values: VmsaValues, program: readonly Step[] = [hlt, { op: 'jump', to: 0 }], vmpl0: readonly Step[] = [...runVmpl(2), hlt]): VmplRig =>
    new VmplRig({
      vmsas: [0, 2],
      vmsa: (_vp, vmpl) => (vmpl === 2 ? { sevFeatures: ALTERNATE, ...values } : {}),
      programs: [{ 0: vmpl0, 2: { ...sleeper, id: 'VMPL2', steps: program, handlers: { ...sleeper.handlers, 13: handler('rdi', 13), 128: handler('rdi', 128) } } }],
    });
  const event = VmsaEvent.pack.bind(VmsaEvent);

  it.each([
    ['an interrupt', { vector: 0x44, type: 0, valid: true }, 'rsi', 0x44n],
    ['an NMI', { vector: 2, type: 2, valid: true }, 'rdx', 2n],
    ['an exception with its code', { vector: 13, type: 3, errorCodeValid: true, errorCode: 0x18, valid: true }, 'rdi', 13n],
    ['a software interrupt', { vector: 128, type: 4, valid: true }, 'rdi', 128n],
  ] as const)('EVENT_INJ brings in %s, once', (_name, injected, cell, mark) => {
    const rig = build({ eventInj: event(injected) });
    expect([rig.run(), rig.get(cell, 0, 2)]).toEqual([[], mark]);
    expect(rig.field('eventInj', 0, 2)).toBe(event({ ...injected, valid: false }));
  });
  it('without it the word means nothing', () => {
    const rig = new VmplRig({ vmsas: [0, 2], vmsa: (_vp, vmpl) => (vmpl === 2 ? { eventInj: event({ vector: 0x44, valid: true }) } : {}), programs: [{ 0: [...runVmpl(2), hlt], 2: sleeper }] });
    rig.run();
    expect([rig.get('rsi', 0, 2), rig.field('eventInj', 0, 2)]).toEqual([0n, event({ vector: 0x44, valid: true })]);
  });
  it('what the local APIC holds does not come in, and nothing pends for it', () => {
    const rig = build({}, [{ op: 'sti' }, hlt]);
    rig.run();
    send(rig, 0x44, DeliveryMode.fixed, 0, 2);
    send(rig, 0, DeliveryMode.nmi, 0, 2);
    expect([rig.run(), rig.get('rsi', 0, 2), rig.get('rdx', 0, 2), rig.vp().pending]).toEqual([[], 0n, 0n, 0]);
  });
  it('every exit sets BUSY; an entry fails until it is cleared', () => {
    const rig = build({}, [...runVmpl(0), { op: 'work', regs: { rbx: 1 } }, hlt], [...runVmpl(2), { op: 'work' }, ...runVmpl(2), hlt]);
    expect(rig.run()).toEqual([{ kind: 'entryRefused', plane: 2, reason: 'VINTR_CTRL.BUSY under alternate injection' }]);
    expect(rig.field('vintrCtrl', 0, 2) >> 63n).toBe(1n);
  });
  it('software that clears it and gives back the event goes on (coconut-svsm kernel/src/cpu/percpu.rs)', () => {
    const area = 2 ** 51 + vmsaOf(0, 2);
    const rig = build({}, [...runVmpl(0), { op: 'work', regs: { rbx: 1 } }, hlt], [
      ...runVmpl(2), { op: 'write', gpa: area + 0x3b8, size: 8, value: 0 }, { op: 'write', gpa: area + 0x3e0, size: 8, value: event({ vector: 0x44, type: 0, valid: true }) }, ...runVmpl(2), hlt,
    ]);
    expect([rig.run(), rig.get('rsi', 0, 2), rig.get('rbx', 0, 2)]).toEqual([[], 0x44n, 1n]);
  });
  it.each([
    ['above the task priority', { irq: true, vector: 0x44, priority: 4, tpr: 3 }, true],
    ['at the task priority', { irq: true, vector: 0x44, priority: 4, tpr: 4 }, false],
    ['below it, which does not count', { irq: true, vector: 0x44, priority: 4, tpr: 9, ignoreTpr: true }, true],
  ] as const)('a virtual interrupt %s', (_name, control, comes) => {
    const rig = build({ vintrCtrl: VintrCtrl.pack(control) }, [{ op: 'sti' }, { op: 'work' }, hlt]);
    rig.run();
    expect(rig.get('rsi', 0, 2)).toBe(comes ? 0x44n : 0n);
    expect((rig.field('vintrCtrl', 0, 2) >> 8n) & 1n).toBe(comes ? 0n : 1n);
  });
  it('a virtual interrupt waits for the interrupt flag and for the end of a shadow', () => {
    const off = build({ vintrCtrl: VintrCtrl.pack({ irq: true, vector: 0x44, priority: 4 }) }, [hlt]);
    off.run();
    expect(off.get('rsi', 0, 2)).toBe(0n);
    const shadow = build({ rflags: 0x202n, vintrCtrl: VintrCtrl.pack({ irq: true, vector: 0x44, priority: 4, interruptShadow: true }) }, [{ op: 'work', regs: { rbx: 1 } }, { op: 'work' }, hlt]);
    shadow.run();
    expect([shadow.get('rsi', 0, 2), shadow.get('rbx', 0, 2)]).toEqual([0x44n, 1n]);
  });
  it.each([['is enabled', { nmi: true, nmiEnable: true }, 2n], ['is not enabled', { nmi: true }, 0n], ['is masked', { nmi: true, nmiEnable: true, nmiMask: true }, 0n]] as const)('a virtual NMI that %s', (_name, control, mark) => {
    const rig = build({ vintrCtrl: VintrCtrl.pack(control) });
    rig.run();
    expect(rig.get('rdx', 0, 2)).toBe(mark);
  });
  it('an exit tells of task priority, shadow and NMI mask', () => {
    const rig = build({ vintrCtrl: VintrCtrl.pack({ tpr: 5, nmiMask: true }) }, [...runVmpl(0), hlt]);
    rig.run();
    expect(VintrCtrl.unpack(rig.field('vintrCtrl', 0, 2))).toMatchObject({ tpr: 5, nmiMask: true, interruptShadow: false, busy: true });
  });
});
