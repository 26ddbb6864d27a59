import { ApCreationRequest, SevFeature } from '@vmplanes/abi-sev-snp';
import { Activity, PAGE_SIZE, PlaneId, Schedule } from '@vmplanes/engine';
import type { CreatePlanePayload } from '@vmplanes/personality-sev-snp-vmpl';
import { DeliveryMode, encodeMessage, type Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { GHCB_MSR, request, runVmpl, SNP, VmplRig, type VmplRigOptions, vmsaOf } from './vmpl-rig.ts';

const hlt: Step = { op: 'hlt' };
const { Create, CreateOnInit, Destroy } = ApCreationRequest;
/** Page of a save area that nobody has at the start. */
const AREA = 0x181 * PAGE_SIZE;
const bit = (n: number): bigint => 1n << BigInt(n);
const running: readonly Step[] = [{ op: 'work' }, { op: 'jump', to: 0 }];
const marks = (value: number): readonly Step[] => [{ op: 'work', regs: { rbx: value } }, hlt];

/** Two processors; the second one's VMPL0 waits for its save area. */
const pair = (options: VmplRigOptions = {}): VmplRig => {
  const rig = new VmplRig({ vps: 2, vmsas: [], programs: [{ 0: [hlt] }, { 0: marks(1), 2: marks(2) }], ...options });
  rig.giveVmsa(0, 0);
  rig.run();
  rig.context(1, 0).activity = Activity.WaitForSipi;
  return rig;
};
/** Makes a page that a save area may lie in. */
const area = (rig: VmplRig, gpa = AREA, vmpl = 0): void => {
  rig.snp.chapters.rmp.launch(gpa / PAGE_SIZE, [0, 0, 0], true);
  rig.page(vmpl).forEach((byte, i) => byte !== 0 && rig.putByte(gpa + i, byte, true));
};

interface Asked {
  readonly from?: readonly [vp: number, vmpl: number];
  readonly request?: number;
  readonly vmpl?: number;
  readonly apicId?: number;
  readonly vmsa?: number;
  readonly features?: bigint | null;
}
const create = (rig: VmplRig, { from = [0, 0], request: r = Create, vmpl = 0, apicId = 1, vmsa = AREA, features = SNP }: Asked = {}): number =>
  rig.snp.chapters.aps.create(rig.plane(...from), r | (vmpl << 16), apicId, vmsa, features);

describe('AP creation: what is checked (GHCB 4.1; Linux arch/x86/kvm/svm/sev.c)', () => {
  const cases: readonly (readonly [name: string, asked: Asked, result: number])[] = [
    ['without RAX: an input is missing', { features: null }, 4],
    ['without RAX, on INIT', { features: null, request: CreateOnInit }, 4],
    ['an unknown request without RAX', { features: null, request: 7 }, 4],
    ['an unknown APIC id', { apicId: 9 }, 5],
    ['VMPL 4', { vmpl: 4 }, 5],
    ['VMPL 15', { vmpl: 15 }, 5],
    ['VMPL0 from VMPL2', { from: [0, 2] }, 5],
    ['VMPL0 of the caller itself', { apicId: 0 }, 5],
    ['VMPL1 from VMPL2', { from: [0, 2], vmpl: 1 }, 5],
    ['VMPL2 from VMPL2', { from: [0, 2], vmpl: 2 }, 0],
    ['VMPL3 from VMPL2', { from: [0, 2], vmpl: 3 }, 0],
    ['features without SNP', { features: 0n }, 5],
    ['another injection mode than the machine has', { features: SNP | bit(SevFeature.RestrictedInjection) }, 5],
    ['the same at a lower VMPL, which nothing fixes yet', { vmpl: 2, features: SNP | bit(SevFeature.AlternateInjection) }, 0],
    ['an address that is no page', { vmsa: AREA + 8 }, 5],
    ['an address beyond the address width', { vmsa: 2 ** 51 }, 5],
    ['the first page of 2 MiB', { vmsa: 0x20_0000 }, 5],
    ['page 0, which is the first of 2 MiB, too', { vmsa: 0 }, 5],
    ['an unknown request', { request: 3 }, 5],
    ['an unknown request with bits above', { request: 0x8001 }, 5],
    ['create', {}, 0],
    ['create on INIT', { request: CreateOnInit }, 0],
    ['destroy, without RAX and without an address', { request: Destroy, features: null, vmsa: 1 }, 0],
    ['an address without memory: the entry finds out, not the caller', { vmsa: 0x7000_1000 }, 0],
  ];
  it.each(cases)('%s', (_name, asked, result) => expect(create(pair(), asked)).toBe(result));

  it('the order: RAX before the APIC id, the id before the VMPL, the VMPL before the features', () => {
    expect(create(pair(), { features: null, apicId: 9, vmpl: 7 })).toBe(4);
    const rig = pair({ planes: 3 });
    // A missing plane asks the VMM only for a known processor and VMPL.
    expect([create(rig, { apicId: 9, vmpl: 2, features: 0n }), create(rig, { vmpl: 3 })]).toEqual([5, 5]);
  });
  it('the first creation at a VMPL fixes its features for all later ones (KVM planes series 2026-06, sev.c)', () => {
    const rig = pair();
    const swapped = SNP | bit(SevFeature.DebugSwap);
    expect([create(rig, { vmpl: 2, features: swapped }), create(rig, { vmpl: 2, features: SNP }), create(rig, { vmpl: 2, features: swapped }), create(rig, { vmpl: 3, features: SNP })]).toEqual([0, 5, 0, 0]);
  });
  it('a refused creation fixes nothing', () => {
    const rig = pair();
    expect([create(rig, { vmpl: 2, features: SNP | bit(5), vmsa: 5 }), create(rig, { vmpl: 2, features: SNP })]).toEqual([5, 0]);
  });
  it('a refused creation leaves the target as it is', () => {
    const rig = pair();
    create(rig, { vmsa: 5 });
    expect([rig.plane(1).pendingVmsa, rig.plane(1).isWaitingForReset, rig.context(1).activity]).toEqual([-1, false, Activity.WaitForSipi]);
  });
});

describe('a processor or VMPL that is not there yet (KVM planes series 2026-06, sev.c)', () => {
  it('the VMM is asked to make it', () => {
    const rig = new VmplRig({ vps: 1, planes: 4 });
    expect(create(rig, { apicId: 1, vmpl: 2, vmsa: AREA })).toBe(-1);
    const { pending } = rig.snp.chapters.aps;
    rig.snp.chapters.aps.makePlane(Create | (2 << 16), 1);
    expect(pending).toMatchObject({ kind: 'exit', payload: { kind: 'createPlane', vp: 1, plane: 2, apicId: 1 } satisfies CreatePlanePayload, completion: { owner: 'sev-snp-vmpl', kind: 'ghcb.ap-creation' } });
  });
});

it('a VMM that leaves it to the personality gets the VMPL made', () => {
  const rig = new VmplRig({ vps: 1, planes: 4, lazy: true, vmsas: [0] });
  expect([create(rig, { apicId: 0, vmpl: 2 }), rig.vp().existing]).toEqual([-1, 0b1]);
  rig.snp.chapters.aps.makePlane(Create | (2 << 16), 0);
  expect([rig.vp().existing, create(rig, { apicId: 0, vmpl: 2 }), rig.plane(0, 2).vmsa]).toEqual([0b101, 0, AREA]);
});

it.each([['makes it itself', false], ['leaves it to the personality', true]])('a VMM that %s: the request in a page is served then (GHCB 4.1)', (_name, leaves) => {
  const page = 0x2000;
  const rig = new VmplRig({ vps: 1, planes: 4, lazy: true, vmsas: [0], programs: [{ 0: [...request(page | 0x012), ...request(page), hlt] }] });
  for (const [at, value] of [[0x1f8, SNP], [0x390, 0x8000_0013n], [0x398, BigInt(Create | (2 << 16))], [0x3a0, BigInt(AREA)], [0x3f0, 1n << 63n], [0x3f8, 0b111n << 50n]] as const) rig.poke(page + at, value, false);
  const exits = rig.run((_exit, vp) => {
    if (!leaves) rig.machine.createPlane(vp, PlaneId(2));
    return leaves ? { create: true } : {};
  });
  expect(exits).toEqual([{ kind: 'createPlane', vp: 0, plane: 2, apicId: 0 }]);
  expect([rig.peek(page + 0x398, false), rig.peek(page + 0x3a0, false), rig.plane(0, 2).vmsa, rig.isHalted()]).toEqual([0n, 0n, AREA, true]);
});

describe('create', () => {
  it('resets the target, which runs from its new save area at once (Linux arch/x86/kvm/svm/sev.c)', () => {
    const rig = pair();
    area(rig);
    expect(create(rig)).toBe(0);
    expect([rig.plane(1).vmsa, rig.context(1).activity, rig.plane(1).isRunnable]).toEqual([AREA, Activity.Running, true]);
    rig.run();
    expect([rig.get('rbx', 1), rig.field('exitCode', 1)]).toEqual([1n, 0x78n]);
  });
  it('replaces a save area: the old one is no longer guarded, the new one is taken', () => {
    const rig = pair({ vmsas: [0] });
    rig.run();
    area(rig);
    create(rig);
    rig.setField('rcx', 0x42n, 1);
    rig.run();
    expect([rig.plane(1).vmsa, rig.get('rcx', 1)]).toEqual([AREA, 0x42n]);
  });
  it('a bad page makes the target fail, not the caller (APM vol. 2, 15.36.8)', () => {
    const rig = pair();
    expect(create(rig)).toBe(0);
    expect(rig.run()).toEqual([{ kind: 'entryRefused', plane: 0, reason: 'vmsa: page not assigned to the guest' }]);
    expect([rig.run(), rig.context(1).activity]).toEqual([[], Activity.WaitForSipi]);
  });
  it('drops what the VMPL had: doorbell page, pending events, masks', () => {
    const rig = pair();
    area(rig);
    const plane = rig.plane(1);
    plane.ghcbMsrLo = 0x5000;
    plane.doorbell = 0x3000;
    plane.isNmiMasked = true;
    rig.machine.send(1, 0, encodeMessage(DeliveryMode.fixed, 0x55, true, false), 0);
    create(rig);
    expect(plane.ghcbMsrLo & 0xfff).toBe(0x001);
    expect([plane.doorbell, plane.isNmiMasked, rig.arch.apicOf(rig.context(1)).highestIrr()]).toEqual([-1, false, -1]);
  });
  it('of a lower VMPL breaks the HLT of VMPL0 there, which runs it itself (svsm protocol, AP bring-up)', () => {
    const rig = new VmplRig({ vps: 2, vmsas: [0], programs: [{ 0: [hlt] }, { 0: [hlt, ...runVmpl(2), hlt], 2: [...marks(2)] }] });
    rig.run();
    expect(rig.isHalted(1)).toBe(true);
    area(rig, AREA, 2);
    expect(create(rig, { vmpl: 2 })).toBe(0);
    rig.run();
    expect([rig.vp(1).current, rig.get('rbx', 1, 2), rig.plane(1, 2).vmsa]).toEqual([2, 2n, AREA]);
  });
  it('of a lower VMPL where VMPL0 has nothing to run starts it at once', () => {
    const rig = pair();
    area(rig, AREA, 2);
    create(rig, { from: [0, 0], vmpl: 2 });
    expect([rig.context(1, 2).schedule, rig.context(1).schedule]).toEqual([Schedule.Runnable, Schedule.Stopped]);
    rig.run();
    expect(rig.get('rbx', 1, 2)).toBe(2n);
  });
  it('of a lower VMPL of the caller waits for Run VMPL', () => {
    const rig = new VmplRig({ vmsas: [0], programs: [{ 0: [{ op: 'work' }, hlt], 2: marks(2) }] });
    area(rig, AREA, 2);
    expect(create(rig, { apicId: 0, vmpl: 2 })).toBe(0);
    rig.run();
    expect([rig.get('rbx', 0, 2), rig.plane(0, 2).vmsa, rig.context(0, 2).schedule]).toEqual([0n, AREA, Schedule.Stopped]);
  });
  it('of a target that runs right now is taken at its next entry (Linux arch/x86/kvm/svm/sev.c)', () => {
    const rig = new VmplRig({ vps: 2, vmsas: [0], checked: false, programs: [{ 0: [hlt] }, { 0: [...running] }] });
    area(rig);
    rig.setField('rcx', 0n, 1);
    let asked = false;
    rig.machine.contextPorts.push({
      entering: (c) => {
        if (c.vp.index === 1 && !asked) {
          asked = true;
          create(rig);
          expect(rig.plane(1).vmsa).toBe(vmsaOf(1, 0));
        }
        return null;
      },
    });
    rig.machine.run(4);
    expect([asked, rig.plane(1).vmsa, rig.plane(1).isWaitingForReset]).toEqual([true, AREA, false]);
  });
});

describe('create on INIT', () => {
  it('waits for an INIT of the target, which then waits for a start-up message (Linux arch/x86/kvm/svm/sev.c)', () => {
    const rig = pair();
    area(rig);
    create(rig, { request: CreateOnInit });
    rig.run();
    expect([rig.plane(1).vmsa, rig.plane(1).pendingVmsa, rig.get('rbx', 1)]).toEqual([-1, AREA, 0n]);
    rig.machine.send(1, 0, encodeMessage(DeliveryMode.init, 0, true, false), 0);
    rig.run();
    expect([rig.plane(1).vmsa, rig.context(1).activity]).toEqual([AREA, Activity.WaitForSipi]);
    rig.machine.send(1, 0, encodeMessage(DeliveryMode.startUp, 0x9a, true, false), 0);
    rig.run();
    // The save area says where, not the vector.
    expect([rig.get('rbx', 1), rig.get('cs.selector', 1)]).toEqual([1n, 0x100n]);
  });
  it('of a lower VMPL is taken by Run VMPL (KVM planes series 2026-06, sev.c)', () => {
    const rig = new VmplRig({ vmsas: [0], programs: [{ 0: [hlt, ...runVmpl(2), hlt], 2: marks(2) }] });
    rig.run();
    area(rig, AREA, 2);
    create(rig, { apicId: 0, vmpl: 2, request: CreateOnInit });
    expect(rig.plane(0, 2).vmsa).toBe(-1);
    rig.machine.send(0, 0, encodeMessage(DeliveryMode.nmi, 0, true, false), 0);
    rig.run();
    expect([rig.plane(0, 2).vmsa, rig.get('rbx', 0, 2), rig.vp().current]).toEqual([AREA, 2n, 2]);
  });
});

describe('destroy', () => {
  it('stops the target until the next create: neither interrupts nor start signals wake it', () => {
    const rig = pair({ vmsas: [0], programs: [{ 0: [hlt] }, { 0: { id: 'AP', steps: [{ op: 'sti' }, hlt, { op: 'work', regs: { rbx: 5 } }, hlt] } }] });
    rig.context(1).activity = Activity.Running;
    rig.run();
    expect(create(rig, { request: Destroy })).toBe(0);
    expect([rig.plane(1).vmsa, rig.context(1).activity]).toEqual([-1, Activity.WaitForSipi]);
    for (const [mode, vector] of [[DeliveryMode.fixed, 0x55], [DeliveryMode.nmi, 0], [DeliveryMode.init, 0], [DeliveryMode.startUp, 0x9a]] as const) {
      rig.machine.send(1, 0, encodeMessage(mode, vector, true, false), 0);
      expect(rig.run(), `mode ${mode}`).toEqual([]);
    }
    expect([rig.get('rbx', 1), rig.context(1).activity]).toEqual([0n, Activity.WaitForSipi]);
    area(rig);
    create(rig);
    rig.run();
    expect(rig.plane(1).vmsa).toBe(AREA);
  });
  it('of a lower VMPL makes Run VMPL an error', () => {
    const rig = new VmplRig({ vmsas: [0, 2], programs: [{ 0: [{ op: 'rdmsr', index: GHCB_MSR }, ...runVmpl(2), { op: 'rdmsr', index: GHCB_MSR }, hlt] }] });
    create(rig, { apicId: 0, vmpl: 2, request: Destroy, features: null });
    rig.run();
    expect([rig.get('rdx'), rig.vp().current]).toEqual([1n, 0]);
  });
});

describe('INIT', () => {
  const send = (rig: VmplRig, mode: DeliveryMode, vector = 0, vp = 1): void => void rig.machine.send(vp, 0, encodeMessage(mode, vector, true, false), 0);
  it('leaves the registers in the save area alone (APM vol. 2, 15.35)', () => {
    const rig = pair({ vmsas: [0], programs: [{ 0: [hlt] }, { 0: [{ op: 'work', regs: { rbx: 7, r15: 8 } }, hlt, { op: 'work', regs: { rcx: 1 } }, hlt] }] });
    rig.context(1).activity = Activity.Running;
    rig.run();
    send(rig, DeliveryMode.init);
    rig.run();
    send(rig, DeliveryMode.startUp, 0x9a);
    rig.run();
    expect([rig.get('rbx', 1), rig.get('r15', 1), rig.get('rcx', 1)]).toEqual([7n, 8n, 1n]);
  });
  it('of VMPL0 resets the processor: other VMPLs stop, doorbell pages are dropped (KVM planes series 2026-06, sev.c)', () => {
    const rig = new VmplRig({ vps: 2, vmsas: [0, 2], programs: [{ 0: [hlt] }, { 0: [...runVmpl(2), hlt], 2: [...running] }] });
    rig.machine.run(2);
    expect(rig.vp(1).current).toBe(2);
    rig.plane(1, 2).doorbell = rig.plane(1).doorbell = 0x3000;
    send(rig, DeliveryMode.init);
    rig.machine.run(4);
    expect([rig.vp(1).current, rig.context(1, 2).schedule, rig.plane(1, 2).doorbell, rig.plane(1).doorbell, rig.context(1).activity]).toEqual([0, Schedule.Stopped, -1, -1, Activity.WaitForSipi]);
    // The save areas stay.
    expect([rig.plane(1).vmsa, rig.plane(1, 2).vmsa]).toEqual([vmsaOf(1, 0), vmsaOf(1, 2)]);
  });
});

describe('processors of a guest without SNP', () => {
  const es = (program: readonly Step[]): VmplRig => new VmplRig({ level: 'sev-es', vps: 2, programs: [{ 0: [hlt] }, { 0: program }], vmsa: (vp) => (vp === 1 ? { rip: 0xb004n, rcx: 0x11n } : {}) });
  const send = (rig: VmplRig, mode: DeliveryMode, vector = 0): void => void rig.machine.send(1, 0, encodeMessage(mode, vector, true, false), 0);
  const hold: readonly Step[] = [...request(0x006), { op: 'rdmsr', index: GHCB_MSR }, { op: 'work', regs: { rbx: 1 } }, hlt];

  it('the first start-up message runs the state that was measured, its vector does not count (Linux arch/x86/kvm/svm/sev.c)', () => {
    const rig = es([{ op: 'work', regs: { rbx: 3 } }, hlt]);
    expect(rig.run()).toEqual([]);
    expect(rig.get('rbx', 1)).toBe(0n);
    send(rig, DeliveryMode.startUp, 0x9a);
    rig.run();
    expect([rig.get('rbx', 1), rig.get('rcx', 1), rig.get('rip', 1), rig.get('cs.selector', 1)]).toEqual([3n, 0x11n, 0xb006n, 0x100n]);
  });
  it('a later one ends the AP reset hold, with its response (GHCB 2.3.1, 4.1)', () => {
    const rig = es(hold);
    send(rig, DeliveryMode.startUp, 0x9a);
    rig.run();
    expect([rig.get('rbx', 1), rig.context(1).activity, rig.plane(1).resetHold]).toEqual([0n, Activity.Halted, 'msr']);
    send(rig, DeliveryMode.init);
    rig.run();
    expect(rig.context(1).activity).toBe(Activity.WaitForSipi);
    send(rig, DeliveryMode.startUp, 0x9a);
    rig.run();
    expect([rig.get('rbx', 1), rig.get('rax', 1) & 0xfffn, rig.get('rax', 1) >> 12n !== 0n, rig.plane(1).resetHold]).toEqual([1n, 0x007n, true, null]);
  });
  it('through a page: the response is in the page that the MSR named, INIT or not (GHCB 4.1)', () => {
    const page = 0x2000;
    const rig = es([...request(page), { op: 'work', regs: { rbx: 1 } }, hlt]);
    rig.poke(page + 0x390, 0x8000_0004n, false);
    rig.poke(page + 0x3f8, 0b111n << 50n, false);
    send(rig, DeliveryMode.startUp, 0x9a);
    rig.run();
    expect([rig.get('rbx', 1), rig.plane(1).resetHold, rig.peek(page + 0x3a0, false)]).toEqual([0n, 'ghcb', 0n]);
    send(rig, DeliveryMode.init);
    send(rig, DeliveryMode.startUp, 0x9a);
    rig.run();
    expect([rig.get('rbx', 1), rig.peek(page + 0x3a0, false), rig.peek(page + 0x398, false)]).toEqual([1n, 1n, 0n]);
  });
  it('an NMI ends it, too, with the other response (GHCB 2.3.1)', () => {
    const rig = es(hold);
    send(rig, DeliveryMode.startUp, 0x9a);
    rig.run();
    send(rig, DeliveryMode.nmi);
    rig.run();
    expect([rig.get('rbx', 1), rig.get('rax', 1)]).toEqual([1n, 0x007n]);
  });
  it('the hold is over once the guest went on: a later start-up message gives no response', () => {
    const rig = es(hold);
    send(rig, DeliveryMode.startUp, 0x9a);
    rig.run();
    send(rig, DeliveryMode.nmi);
    rig.run();
    send(rig, DeliveryMode.init);
    rig.run();
    send(rig, DeliveryMode.startUp, 0x9b);
    rig.run();
    expect([rig.plane(1).resetHold, rig.plane(1).ghcbMsrHi, rig.plane(1).ghcbMsrLo]).toEqual([null, 0, 0x007]);
  });
  it('system management mode does not exist: an SMI is refused (QEMU SEV-ES, Linux arch/x86/kvm/svm/svm.c)', () => {
    const rig = es([hlt]);
    expect(rig.machine.send(0, 0, encodeMessage(DeliveryMode.smi, 0, true, false), 0)).toBe(0);
    expect(rig.arch.fabric.filter?.(0, 0, DeliveryMode.smi)).toBe(false);
    expect(rig.arch.fabric.filter?.(0, 0, DeliveryMode.fixed)).toBe(true);
  });
});

describe('a machine with encrypted state (QEMU SEV-ES; Linux arch/x86/kvm/svm/sev.c)', () => {
  it.each(['sev-snp', 'sev-es'] as const)('%s: a reset is refused by name, never a silent restart', (level) => {
    const rig = new VmplRig({ level, vmsas: [0] });
    const before = structuredClone(rig.machine.snapshot());
    for (const reset of [() => rig.machine.resetPlane(rig.context(), 'powerOn'), () => rig.machine.restartVp(rig.vp(), 'powerOn')]) {
      expect(reset).toThrow(expect.objectContaining({ code: 'BadState', message: expect.stringContaining('cannot be made anew') }));
    }
    expect(rig.machine.snapshot()).toEqual(before);
    expect([rig.machine.refusesReset(rig.context(), 'powerOn') === null, rig.machine.refusesReset(rig.context(), 'init')]).toEqual([false, null]);
  });
  it('sev: registers are the host\'s, and so is a reset', () => {
    const rig = new VmplRig({ level: 'sev' });
    rig.machine.resetPlane(rig.context(), 'powerOn');
    expect(rig.get('rip')).toBe(0xfff0n);
  });
});

it('the jump table and the features of VMPLs are part of a snapshot', () => {
  const rig = pair();
  rig.snp.chapters.aps.jumpTable = 0x7000;
  create(rig, { vmpl: 2, features: SNP | bit(5) });
  const other = pair();
  other.snp.chapters.aps.restore(structuredClone(rig.snp.chapters.aps.save()));
  expect([other.snp.chapters.aps.jumpTable, create(other, { vmpl: 2, features: SNP }), create(other, { vmpl: 2, features: SNP | bit(5) })]).toEqual([0x7000, 5, 0]);
});
