import { Capability, ExitIo, ExitMmio, ExitReason, EXIT_UNION_AT, EXIT_UNION_SIZE, KvmCpuid2, KvmCpuidEntry2, KvmMpState, KvmMsi, KvmRegs, MpState, NUMBERS, PlaneEvent2025, PlaneEvent2026 } from '@vmplanes/abi-kvm-planes';
import type { Answer, Claim, Personality, PlaneContext } from '@vmplanes/engine';
import { ApicReg, type Step } from '@vmplanes/x86';
import { expect } from 'vitest';
import { apicRig, client, encode, Rig, type RunnableProfile, word } from './kit.ts';

/** What the published tests leave out, one function per case. */
type Scenario = (profile: RunnableProfile) => void;

const VECTOR = 192;
/** Leaves to userspace: shows that the plane ran up to here. */
const out = (port: number): Step => ({ op: 'out', port, value: 0 });
const lastPort = (rig: Rig, id = 0): string => (rig.exitReason(id) === ExitReason.IO ? `port ${rig.exit(ExitIo, id).port}` : rig.event(id));

/** A guest that takes vector 192, tells of it on port 2, and tells of its own work on port 1. */
const listener = (id: string, steps: readonly Step[] = [{ op: 'sti' }, { op: 'work' }, out(1), out(1), out(1), out(1), out(1), out(1)]) => ({ id, steps, handlers: { [VECTOR]: [{ op: 'eoi' }, out(2)] as const } });
const workers = { 0: { 0: listener('zero'), 1: listener('one'), 2: listener('two') } };

/** Makes the kernel's scheduler run one plane: it is made runnable and the present one stopped, as a guest that leaves its level would. */
const schedule = (rig: Rig, plane: number, id = 0): void => {
  const { vp } = rig.context(plane, id);
  rig.vm.machine.policy.switchTo(vp, vp.plane(plane), 'stopped');
};
/** A rig in which plane 1 runs and plane 0 is the one whose events matter. */
const kernelRig = (programs: Parameters<typeof apicRig>[2] = workers): Rig => {
  const rig = apicRig('2026-06', [1], programs);
  schedule(rig, 1);
  return rig;
};
const setTpr = (rig: Rig, plane: number, value: number): void => rig.editLapic(plane, (view) => view.setUint32(ApicReg.tpr, value, true));
const setIrr = (rig: Rig, plane: number): void => rig.editLapic(plane, (view) => view.setUint8(0x200 + (VECTOR >> 5) * 16 + ((VECTOR & 31) >> 3), 1));
const sendNmi = (rig: Rig, plane: number): void => {
  rig.c.do(rig.planeFd(plane), 'KVM_SIGNAL_MSI', encode(KvmMsi, { addressLo: 0xfee0_0000, addressHi: 0, data: 0x400, flags: 0, devid: 0 }));
};
const setTimer = (rig: Rig, plane: number): void =>
  rig.editLapic(plane, (view) => {
    view.setUint32(ApicReg.lvtTimer, VECTOR, true);
    view.setUint32(ApicReg.divide, 0xb, true);
    view.setUint32(ApicReg.initialCount, 50, true);
    view.setUint32(ApicReg.currentCount, 50, true);
  });
const spend = (rig: Rig): void => {
  rig.vm.advance(100);
};

const runPlane: Scenario = (p) => {
  const steps = [out(1), out(1)];
  const rig = new Rig(p, { vcpus: [0, 1, 2], planes: { 1: [0], 2: [1] } }, { 0: { 0: steps }, 2: { 0: steps } });
  const { bytes } = rig.page();
  for (const plane of [16, 255, 3, 2]) {
    bytes[2] = plane;
    const before = rig.vm.machine.snapshot();
    expect(word(rig.again()), `plane ${plane}`).toBe('EINVAL');
    expect(rig.vm.machine.snapshot()).toEqual(before);
  }
  bytes[2] = 0;
  expect(word(rig.again())).toBe('0');
  // vCPU 2 has no other plane: the field is ignored there.
  rig.enableApic(0, 2);
  rig.set(rig.vcpu(2), 'KVM_SET_MP_STATE', KvmMpState, { mpState: MpState.RUNNABLE });
  expect(word(rig.run(255, 0, 2))).toBe('0');
  expect(lastPort(rig, 2)).toBe('port 1');
};

const ownBit: Scenario = (p) => {
  const rig = apicRig(p, [1], workers);
  rig.msi(0, VECTOR);
  expect(word(rig.run(0, 0b1))).toBe('0');
  expect(lastPort(rig)).toBe('port 2');
};

const levelRepeat: Scenario = (p) => {
  const rig = apicRig(p, [1], workers);
  rig.msi(1, VECTOR);
  for (let i = 0; i < 3; i++) {
    rig.run(0, 0b10);
    expect(rig.event()).toBe('10/10');
  }
  rig.run(1, 0);
  expect(lastPort(rig)).toBe('port 2');
  expect(rig.irr(1, VECTOR)).toBe(false);
  rig.run(0, 0b10);
  expect(lastPort(rig)).toBe('port 1');
};

const pendingSuperset: Scenario = (p) => {
  const rig = apicRig(p, [1, 2], workers);
  rig.msi(1, VECTOR);
  rig.msi(2, VECTOR);
  rig.run(0, 0b10);
  expect(rig.event()).toBe('110/10');
};

const sleeper = { 0: { 0: { id: 'sleeper', steps: [{ op: 'hlt' }, out(3)] as const }, 1: listener('one') } };

const hlt: Scenario = (p) => {
  if (p === '2026-06') {
    const rig = kernelRig({ 0: { 0: listener('zero'), 1: { id: 'sleeper', steps: [{ op: 'hlt' }, out(3)] } } });
    expect(word(rig.run())).toBe('blocked');
    rig.msi(0, VECTOR);
    expect(word(rig.again())).toBe('0');
    expect([lastPort(rig), rig.context(0).vp.current]).toEqual(['port 2', 0]);
    // An interrupt of another plane than 0 waits until that plane is selected.
    const other = apicRig(p, [1], sleeper);
    expect(word(other.run())).toBe('blocked');
    other.msi(1, VECTOR);
    expect(word(other.again())).toBe('blocked');
    return;
  }
  const requested = apicRig(p, [1], sleeper);
  expect(word(requested.run(0, 0b10))).toBe('blocked');
  requested.msi(1, VECTOR);
  expect(word(requested.again())).toBe(p === '2025-04' ? 'blocked' : '0');
  if (p === 'vmplanes') expect(requested.event()).toBe('10/10');

  const unasked = apicRig(p, [1], sleeper);
  unasked.run(0, 0);
  unasked.msi(1, VECTOR);
  expect(word(unasked.again())).toBe('blocked');
  unasked.c.system.raise(unasked.c.caller.thread, 10);
  expect(word(unasked.again())).toBe('EINTR');
  expect(unasked.exitReason()).toBe(ExitReason.INTR);
};

const haltedEntry: Scenario = (p) => {
  const rig = apicRig(p, [1], workers);
  rig.set(rig.vcpu(), 'KVM_SET_MP_STATE', KvmMpState, { mpState: MpState.HALTED });
  rig.msi(1, VECTOR);
  expect(word(rig.run(0, 0b10))).toBe(p === '2025-04' ? 'blocked' : '0');
  if (p === 'vmplanes') expect(rig.event()).toBe('10/10');
};

const tpr: Scenario = (p) => {
  if (p === '2026-06') {
    const rig = kernelRig();
    setTpr(rig, 0, 0xd0);
    rig.msi(0, VECTOR);
    rig.run();
    expect([lastPort(rig), rig.context(0).vp.current]).toEqual(['port 1', 1]);
    setTpr(rig, 0, 0);
    rig.run();
    expect([lastPort(rig), rig.context(0).vp.current]).toEqual(['port 2', 0]);
    return;
  }
  const rig = apicRig(p, [1], workers);
  setTpr(rig, 1, 0xd0);
  rig.msi(1, VECTOR);
  rig.run(0, 0b10);
  expect(lastPort(rig)).toBe(p === '2025-04' ? '10/10' : 'port 1');
  setTpr(rig, 1, 0);
  rig.run(0, 0b10);
  expect(lastPort(rig)).toBe('10/10');
};

const nmiTimer: Scenario = (p) => {
  if (p === '2026-06') {
    const rig = kernelRig();
    rig.c.do(rig.vcpu(), 'KVM_NMI');
    rig.run();
    expect(rig.context(0).vp.current).toBe(0);
    const timed = kernelRig();
    setTimer(timed, 0);
    spend(timed);
    timed.run();
    expect([lastPort(timed), timed.context(0).vp.current]).toEqual(['port 2', 0]);
    return;
  }
  const expected = p === '2025-04' ? 'port 1' : '10/10';
  const nmi = apicRig(p, [1], workers);
  sendNmi(nmi, 1);
  nmi.run(0, 0b10);
  expect(lastPort(nmi)).toBe(expected);
  const timer = apicRig(p, [1], workers);
  setTimer(timer, 1);
  spend(timer);
  timer.run(0, 0b10);
  expect(lastPort(timer)).toBe(expected);
  if (p !== '2025-04') return;
  // Strictly the timer turns into a request in the plane's own run.
  timer.run(1, 0);
  expect(lastPort(timer)).toBe('port 2');
};

const restore: Scenario = (p) => {
  if (p === '2026-06') {
    const rig = kernelRig();
    setIrr(rig, 0);
    rig.run();
    expect([lastPort(rig), rig.context(0).vp.current]).toEqual(['port 2', 0]);
    return;
  }
  const rig = apicRig(p, [1], workers);
  setIrr(rig, 1);
  rig.run(0, 0b10);
  expect(lastPort(rig)).toBe(p === '2025-04' ? 'port 1' : '10/10');
};

const sparse: Scenario = (p) => {
  const rig = apicRig(p, [], {}, { vcpus: [0, 3], planes: { 1: [0] } });
  expect(word(rig.msi(1, VECTOR, 3))).toBe('EPERM');
  for (const [plane, ids] of rig.built.planeVcpus) for (const id of ids.keys()) expect(rig.irr(plane, VECTOR, id), `plane ${plane} vCPU ${id}`).toBe(false);
  expect(word(rig.msi(0, VECTOR, 3))).toBe('1');
};

const ipi: Scenario = (p) => {
  const everyoneElse = 0xc_4000n | 0x90n;
  const rig = apicRig(p, [], { 0: { 1: [{ op: 'ipi', icr: everyoneElse }, out(1)] } }, { vcpus: [0, 1], planes: { 1: [0, 1] } });
  if (p === '2026-06') schedule(rig, 1);
  expect(word(rig.run(1))).toBe('0');
  const has = (plane: number, id: number): boolean => rig.irr(plane, 0x90, id);
  expect([has(0, 0), has(0, 1), has(1, 0), has(1, 1)]).toEqual([false, false, false, true]);
};

const cpuidBytes = (eax: number): Uint8Array => {
  const bytes = new Uint8Array(KvmCpuid2.header.size + KvmCpuidEntry2.size);
  new DataView(bytes.buffer).setUint32(0, 1, true);
  KvmCpuidEntry2.write(new DataView(bytes.buffer), KvmCpuid2.header.size, { function: 0, index: 0, flags: 0, eax, ebx: 0, ecx: 0, edx: 0 });
  return bytes;
};

const cpuidOrder: Scenario = (p) => {
  const rig = new Rig(p);
  const set = (eax: number): string => word(rig.c.call(rig.vcpu(), 'KVM_SET_CPUID2', cpuidBytes(eax)));
  expect([set(1), set(2)]).toEqual(['0', '0']);
  const planeFd = rig.c.do(rig.built.vmFd, 'KVM_CREATE_PLANE', 1);
  rig.c.must(rig.c.createPlaneVcpu(planeFd, rig.vcpu(), 0));
  expect([set(2), set(1)]).toEqual(['0', p === '2026-06' ? '0' : 'EINVAL']);
  const answer = new Uint32Array(4);
  const seen = [0, 1].map((plane) => {
    rig.vm.arch.registers.executeCpuid(rig.context(plane), 0, 0, answer);
    return answer[0];
  });
  expect(seen).toEqual(p === '2026-06' ? [1, 1] : [2, 2]);
};

const irqchipOrder: Scenario = (p) => {
  const rig = new Rig(p, { irqchip: p === '2026-06' ? 'split' : 'none', planes: { 1: [] } });
  expect(word(rig.c.enableCap(rig.built.vmFd, Capability.SPLIT_IRQCHIP, 24))).toBe('EEXIST');
  expect(word(rig.c.call(rig.built.vmFd, 'KVM_CREATE_IRQCHIP'))).toBe('EINVAL');
};

const fpuEnable: Scenario = (p) => {
  const cap = NUMBERS[p].capPlanesFpu ?? NUMBERS['2025-04'].capPlanesFpu!;
  const c = client(p);
  const vm = c.do(c.fd, 'KVM_CREATE_VM');
  expect(word(c.enableCap(vm, cap, 1, 1))).toBe('EINVAL');
  expect(word(c.enableCap(vm, cap, 2))).toBe('EINVAL');
  const snp = c.do(c.fd, 'KVM_CREATE_VM', 4);
  expect(word(c.enableCap(snp, cap, 1))).toBe('EINVAL');
  c.do(vm, 'KVM_CREATE_VCPU', 0);
  expect(word(c.enableCap(vm, cap, 1))).toBe('EINVAL');
};

const fork: Scenario = (p) => {
  const rig = apicRig(p, [1]);
  const child = { mm: 2, thread: 9 };
  for (const fd of [rig.built.vmFd, rig.planeFd(1), rig.vcpu(), rig.fd(1)]) {
    for (const name of ['KVM_RUN', 'KVM_GET_REGS', 'KVM_CHECK_EXTENSION', 'KVM_CREATE_PLANE'] as const) expect(word(rig.c.call(fd, name, 0, child))).toBe('EIO');
    expect(word(rig.c.system.ioctl(child, fd, 0x1234))).toBe('EIO');
  }
};

/** A guest call asks for a vCPU in plane 2. */
class Starter implements Personality {
  readonly name = 'starter';
  readonly stateName = 'starter';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'call', from: 1, to: 1 }];
  handle(context: PlaneContext): Answer {
    const payload = { kind: 'createVcpu', plane: 2, apicId: 7 };
    return context.vp.replies.exit(payload);
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

const payload: Scenario = (p) => {
  const rig = apicRig(p, [1], { 0: { 0: [{ op: 'call' }] } });
  const union = rig.page().bytes.subarray(EXIT_UNION_AT, EXIT_UNION_AT + EXIT_UNION_SIZE);
  union.fill(0xaa);
  if (p === '2026-06') {
    rig.vm.machine.addPersonality(new Starter());
    rig.run();
    expect(rig.exitReason()).toBe(44);
    expect(rig.exit(PlaneEvent2026)).toEqual({ cause: 1, plane: 2, extra: [7n, 0n, 0n, 0n, 0n, 0n, 0n, 0n] });
    return;
  }
  rig.msi(1, VECTOR);
  rig.run(0, 0b10);
  const stale = p === '2025-04' ? 0xaaaa_aaaa_aaaa_aaaan : 0n;
  const e = rig.exit(PlaneEvent2025);
  expect([e.cause, e.pendingEventPlanes, e.target, e.flags]).toEqual([1, 2, 2, 0]);
  expect([e.reservedPadding, e.reservedHole]).toEqual([Number(stale & 0xffffn), Number(stale & 0xffff_ffffn)]);
  expect(e.extra).toEqual(new Array(8).fill(stale));
};

const MMIO: Step = { op: 'read', gpa: 0xd000_0000, size: 4 };
const answer = (rig: Rig, value: number): void => new DataView(rig.page().bytes.buffer).setUint32(EXIT_UNION_AT + 8, value, true);
const rax = (rig: Rig, plane: number): bigint => rig.get(rig.fd(plane), 'KVM_GET_REGS', KvmRegs).rax;

const pendingIo: Scenario = (p) => {
  const first = p === '2026-06' ? 1 : 0;
  const second = 1 - first;
  const reader: readonly Step[] = [MMIO, out(1)];
  const rig = apicRig(p, [1], { 0: { [first]: reader, [second]: [MMIO, out(4)] } });
  if (p === '2026-06') schedule(rig, first);
  rig.run(first);
  expect([rig.exitReason(), rig.exit(ExitMmio).physAddr]).toEqual([ExitReason.MMIO, 0xd000_0000n]);
  answer(rig, 0x11);
  const kept = rig.page().bytes.slice(EXIT_UNION_AT, EXIT_UNION_AT + EXIT_UNION_SIZE);
  // The other plane exits in the same union and gets another answer.
  if (p === '2026-06') schedule(rig, second);
  rig.run(second);
  expect(rig.exitReason()).toBe(ExitReason.MMIO);
  answer(rig, 0x22);
  rig.run(second);
  expect([lastPort(rig), rax(rig, second)]).toEqual(['port 4', 0x22n]);
  // Strictly userspace has to put the union back: the answer is read when its plane is entered.
  if (p === '2025-04') rig.page().bytes.set(kept, EXIT_UNION_AT);
  if (p === '2026-06') schedule(rig, first);
  rig.run(first);
  expect([lastPort(rig), rax(rig, first)]).toEqual(['port 1', 0x11n]);
};

/** Lets a delivery happen at the n-th point of a run where another processor could. @returns whether there was such a point. */
const deliverAt = (rig: Rig, n: number, deliver: () => void, names: Set<string>): { happened: boolean } => {
  const state = { happened: false };
  let count = 0;
  rig.vm.machine.hooks.preemption = {
    at: (point) => {
      names.add(point);
      if (state.happened || count++ !== n) return;
      state.happened = true;
      deliver();
    },
  };
  return state;
};

const races: Scenario = (p) => {
  const points = new Set<string>();
  let n = 0;
  for (; ; n++) {
    // To another plane that was asked for: reported by this run or the next, whatever step it met. The third run is for one that met the end of the second.
    const rig = p === '2026-06' ? kernelRig() : apicRig(p, [1], workers);
    const target = p === '2026-06' ? 0 : 1;
    const race = deliverAt(rig, n, () => expect(word(rig.msi(target, VECTOR))).toBe('1'), points);
    const outcomes = [0, 1, 2].map((round) => {
      if (round === 2) rig.vm.machine.hooks.preemption = null;
      rig.run(0, 0b10);
      return p === '2026-06' ? `plane ${rig.context(0).vp.current}` : lastPort(rig);
    });
    if (!race.happened) break;
    expect(outcomes, `point ${n}`).toContain(p === '2026-06' ? 'plane 0' : '10/10');
    // To the plane that runs: taken once, never reported.
    const own = p === '2026-06' ? kernelRig() : apicRig(p, [1], workers);
    const plane = p === '2026-06' ? 1 : 0;
    const mine = deliverAt(own, n, () => own.msi(plane, VECTOR), points);
    const ports = [0, 1, 2, 3].map(() => {
      own.run(0, 0b11);
      return lastPort(own);
    });
    own.vm.machine.hooks.preemption = null;
    if (mine.happened) expect(ports.filter((x) => x === 'port 2'), `own, point ${n}`).toHaveLength(1);
    expect(own.irr(plane, VECTOR)).toBe(false);
  }
  expect(n).toBeGreaterThan(3);
  expect([...points].some((name) => name.startsWith('enter:'))).toBe(true);
  expect([...points].some((name) => name.startsWith('leave:'))).toBe(true);
};

export const missingAreas: Readonly<Record<string, Scenario>> = {
  'missing.run-plane': runPlane,
  'missing.own-bit': ownBit,
  'missing.level-repeat': levelRepeat,
  'missing.pending-superset': pendingSuperset,
  'missing.hlt': hlt,
  'missing.halted-entry': haltedEntry,
  'missing.tpr': tpr,
  'missing.nmi-timer': nmiTimer,
  'missing.restore': restore,
  'missing.sparse': sparse,
  'missing.ipi': ipi,
  'missing.cpuid-order': cpuidOrder,
  'missing.irqchip-order': irqchipOrder,
  'missing.fpu-enable': fpuEnable,
  'missing.fork': fork,
  'missing.payload': payload,
  'missing.pending-io': pendingIo,
  'missing.races': races,
};
