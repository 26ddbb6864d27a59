import { Capability, IrqRouting, KvmIrqRoutingEntryPlanes, KvmMemoryAttributes, KvmMpState, KvmOneReg, LAYOUTS, MemoryAttribute, MpState, NUMBERS, type Profile } from '@vmplanes/abi-kvm-planes';
import { Schedule } from '@vmplanes/engine';
import { ApicReg, ScriptCpu, type Step } from '@vmplanes/x86';
import { type BuiltVm, type ClientPlan, inside, KvmClient } from './client.ts';
import type { KvmResult } from './result.ts';
import { statOf } from './stats.ts';
import { oneRegs } from './state/misc.ts';

/** A profile that can run. */
type Runnable = Exclude<Profile, '2024-10'>;
/** Tries something out under a profile and says in a few words what happened. */
export type DiffScenario = (profile: Runnable) => string;

const VECTOR = 192;
const SNP = 4;
const word = (result: KvmResult): string => ('ret' in result ? (result.ret > 0 ? 'ok' : String(result.ret)) : 'errno' in result ? result.errno : result.pending);
const okOr = (result: KvmResult): string => ('ret' in result ? 'ok' : word(result));
const encode = <In>(layout: { readonly size: number; write(view: DataView, at: number, value: In): void }, value: In): Uint8Array => {
  const bytes = new Uint8Array(layout.size);
  layout.write(new DataView(bytes.buffer), 0, value);
  return bytes;
};

/** Every plane works a while, tells userspace, and halts. */
const steps: readonly Step[] = [{ op: 'sti' }, { op: 'work' }, { op: 'out', port: 1, value: 0 }, { op: 'out', port: 1, value: 0 }, { op: 'hlt' }];

/** A client, its VM with plane 1 on vCPU 0, and the APICs of both planes on. */
class Trial {
  readonly c: KvmClient;
  readonly built: BuiltVm;
  constructor(
    readonly profile: Runnable,
    plan: ClientPlan = { planes: { 1: [0] } },
  ) {
    this.c = newClient(profile);
    this.built = this.c.build(plan);
    for (const [plane, ids] of this.built.planeVcpus) for (const id of ids.keys()) this.editLapic(plane, (view) => view.setUint32(ApicReg.svr, 0x1ff, true), id);
  }
  get isKernelScheduled(): boolean {
    return this.built.vm.behaviour.scheduler === 'lowest-runnable';
  }
  fd(plane: number): number {
    return this.built.planeVcpus.get(plane)!.get(0)!;
  }
  editLapic(plane: number, edit: (view: DataView) => void, id = 0): void {
    const image = new Uint8Array(1024);
    const fd = this.built.planeVcpus.get(plane)!.get(id)!;
    this.c.do(fd, 'KVM_GET_LAPIC', image);
    edit(new DataView(image.buffer));
    this.c.do(fd, 'KVM_SET_LAPIC', image);
  }
  get current(): number {
    return inside(this.built).group.vp.current;
  }
  run(plane: number, request: number): KvmResult {
    const { page } = inside(this.built);
    page.plane = plane;
    if (!this.isKernelScheduled) new DataView(page.bytes.buffer).setUint16(6, request, true);
    return this.c.call(this.fd(0), 'KVM_RUN');
  }
  /** Runs a plane whoever schedules: named by userspace, or made the lowest that can run. */
  inPlane(plane: number): KvmResult {
    const { vp } = inside(this.built).group;
    if (this.isKernelScheduled && vp.current !== plane) this.built.vm.machine.policy.switchTo(vp, vp.plane(plane), 'stopped');
    return this.run(plane, 0);
  }
  get isPlaneEvent(): boolean {
    return new DataView(inside(this.built).page.bytes.buffer).getUint32(8, true) === NUMBERS[this.profile].exitPlaneEvent;
  }
  /** Which plane's events count while which other one runs: where the kernel schedules, those of plane 0 while plane 1 runs. */
  get watched(): { readonly runs: number; readonly pends: number } {
    if (!this.isKernelScheduled) return { runs: 0, pends: 1 };
    const { vp } = inside(this.built).group;
    this.built.vm.machine.policy.switchTo(vp, vp.plane(1), 'stopped');
    return { runs: 1, pends: 0 };
  }
  /** Runs one plane with the other one asked for. */
  outcome(runs: number, pends: number): string {
    const result = this.run(runs, 1 << pends);
    if ('pending' in result) return result.pending;
    if (this.isPlaneEvent) return 'exits with a plane event';
    return this.current === pends ? 'switches in the kernel' : 'goes on running';
  }
}

const newClient = (profile: Runnable): KvmClient =>
  new KvmClient({
    profile,
    vm: { machine: { memoryBytes: 1 << 16 }, maxVcpus: 4, cpu: (machine, arch, vp) => new ScriptCpu(machine, arch, programs(vp.index)) },
  });
const programs = (vp: number): Readonly<Record<number, { readonly script: { readonly id: string; readonly steps: readonly Step[] } }>> => ({ 0: { script: { id: `vp${vp}p0`, steps } }, 1: { script: { id: `vp${vp}p1`, steps } } });

const signal = (t: Trial, plane: number, data = VECTOR): void => {
  t.c.must(t.c.signalMsi(t.built.planes.get(plane)!, data));
};

/** By id of the dispute, then of the behaviours in which the drafts differ without having discussed them. */
export const diffScenarios: Readonly<Record<string, DiffScenario>> = {
  Q1: (p) => {
    const t = new Trial(p);
    t.run(1, 0);
    return t.current === 1 ? 'userspace: run->plane = 1 runs plane 1' : 'kernel: plane 0 runs, kvm_run names none';
  },
  Q2: (p) => {
    const t = new Trial(p);
    const { vp } = inside(t.built).group;
    t.built.vm.machine.policy.switchTo(vp, vp.plane(1), 'runnable');
    if (!t.isKernelScheduled) return 'no order: the named plane runs';
    const runnable = [0, 1].filter((plane) => vp.plane(plane).schedule === Schedule.Runnable);
    t.run(0, 0);
    return `planes ${runnable.join(' and ')} runnable: plane ${t.current} runs`;
  },
  Q4: (p) => {
    const t = new Trial(p);
    t.c.do(t.fd(0), 'KVM_SET_MP_STATE', encode(KvmMpState, { mpState: MpState.HALTED }));
    t.run(0, 0);
    const other = t.c.call(t.fd(1), 'KVM_GET_REGS', new Uint8Array(144), { mm: 1, thread: 2 });
    return `while plane 0 sleeps in KVM_RUN, KVM_GET_REGS of plane 1 ${'pending' in other ? 'waits: one lock' : 'is served: a lock per plane'}`;
  },
  Q5: (p) => {
    const c = newClient(p);
    const cap = NUMBERS[p].capPlanes!;
    const plain = c.do(c.fd, 'KVM_CREATE_VM');
    const snp = c.build({ type: SNP, vcpus: [] }).vmFd;
    const ask = (fd: number): number => c.do(fd, 'KVM_CHECK_EXTENSION', cap);
    return `system ${ask(c.fd)}, default VM ${ask(plain)}, SNP VM with split irqchip ${ask(snp)}`;
  },
  Q6: (p) => {
    const t = new Trial(p);
    const set = (attributes: bigint): string => okOr(t.c.call(t.built.planes.get(1)!, 'KVM_SET_MEMORY_ATTRIBUTES', encode(KvmMemoryAttributes, { address: 0n, size: 0x1000n, attributes, flags: 0n })));
    return `on plane 1: no-write ${set(MemoryAttribute.NW)}, none ${set(0n)}`;
  },
  Q7: (p) => {
    const t = new Trial(p, { vcpus: [0], planes: { 1: [] } });
    const planeFd = t.built.planes.get(1)!;
    const byId = okOr(t.c.call(planeFd, 'KVM_CREATE_VCPU', 0));
    const request = NUMBERS[p].createVcpuPlane;
    const byFd = typeof request === 'number' ? okOr(t.c.call(planeFd, 'KVM_CREATE_VCPU_PLANE', t.fd(0))) : 'no such call';
    return `KVM_CREATE_VCPU on the plane fd ${byId}, KVM_CREATE_VCPU_PLANE ${byFd}`;
  },
  Q8: (p) => {
    const c = newClient(p);
    const withIrqchip = (kind: 'none' | 'split' | 'full'): string => {
      const vm = c.do(c.fd, 'KVM_CREATE_VM', p === '2026-06' ? SNP : 0);
      if (kind === 'split') c.must(c.enableCap(vm, Capability.SPLIT_IRQCHIP, 24));
      if (kind === 'full' && okOr(c.call(vm, 'KVM_CREATE_IRQCHIP')) !== 'ok') return 'not offered';
      return okOr(c.call(vm, 'KVM_CREATE_PLANE', 1));
    };
    return `KVM_CREATE_PLANE with full ${withIrqchip('full')}, split ${withIrqchip('split')}, none ${withIrqchip('none')}`;
  },
  Q9: (p) => {
    const c = newClient(p);
    const cap = NUMBERS[p].capPlanesFpu;
    if (cap === undefined) return 'separate, no capability';
    const vm = c.do(c.fd, 'KVM_CREATE_VM');
    const before = c.do(vm, 'KVM_CHECK_EXTENSION', cap);
    const enabled = okOr(c.enableCap(vm, cap, 1));
    return `KVM_CAP_PLANES_FPU ${before}, enable ${enabled}, then ${c.do(vm, 'KVM_CHECK_EXTENSION', cap)}`;
  },
  Q10: (p) => {
    const { causeInterrupt, causeCreateVcpu } = NUMBERS[p];
    const causes = [causeInterrupt === undefined ? '' : `INTERRUPT = ${causeInterrupt}`, causeCreateVcpu === undefined ? '' : `CREATE_VCPU = ${causeCreateVcpu}`].filter((s) => s !== '');
    return `causes of the exit: ${causes.join(', ')}`;
  },
  Q11: (p) => {
    const t = new Trial(p);
    const field = 'suspendedPlanes' in LAYOUTS[p].run.fields ? 'a field of kvm_run' : 'no field';
    const request = new Uint8Array(32);
    request.set(encode(KvmOneReg, { id: oneRegs[0]!.id, addr: 16n }));
    return `${field}, KVM_GET_ONE_REG ${okOr(t.c.call(t.fd(0), 'KVM_GET_ONE_REG', request))}`;
  },
  Q13: (p) => {
    const t = new Trial(p);
    // Plane 0 leaves for one port access, plane 1 for two.
    t.inPlane(0);
    t.inPlane(1);
    t.inPlane(1);
    const read = t.c.system.read(t.c.must(t.c.call(t.fd(0), 'KVM_GET_STATS_FD')));
    const { counters } = t.built.vm;
    const own = counters.of(inside(t.built).plane(1));
    const isShared = counters.of(inside(t.built).plane(0)).io_exits === own.io_exits;
    return `of 1 exit in plane 0 and 2 in plane 1 the vCPU's statistics show ${'bytes' in read ? statOf(read.bytes, 'io_exits') : read.errno}, plane 1 has ${isShared ? 'none of its own' : `${own.io_exits} of its own`}`;
  },
  Q14: (p) => {
    const t = new Trial(p);
    t.inPlane(1);
    t.c.do(t.fd(0), 'KVM_NMI');
    const pends = (): boolean => t.built.vm.hardware.isNmiPending(inside(t.built).plane(0));
    t.inPlane(1);
    if (!pends()) return `an NMI asked of plane 0 while plane 1 is to run: plane ${t.current} runs and takes it`;
    const waited = t.current;
    t.inPlane(0);
    return `an NMI asked of plane 0 while plane 1 is to run: plane ${waited} runs, ${pends() ? 'nobody takes it' : 'plane 0 takes it when it runs'}`;
  },
  Q15: (p) => {
    const fields = Object.entries(LAYOUTS[p].run.fields).filter(([, [at]]) => at >= 2 && at < 8);
    return fields.map(([name, [at]]) => `${name}@${at}`).join(' ');
  },
  Q16: (p) => {
    const t = new Trial(p);
    const { runs, pends } = t.watched;
    signal(t, pends);
    t.run(runs, 1 << pends);
    return t.current === runs ? 'no: it ends in the plane it was given' : `yes: begun in plane ${runs}, ended in plane ${t.current}`;
  },
  Q18: (p) => {
    const t = new Trial(p);
    const bytes = new Uint8Array(8 + KvmIrqRoutingEntryPlanes.size);
    new DataView(bytes.buffer).setUint32(0, 1, true);
    const msi = { addressLo: 0xfee0_0000, addressHi: 0, data: VECTOR, devid: 0 };
    KvmIrqRoutingEntryPlanes.write(new DataView(bytes.buffer), 8, { gsi: 5, type: IrqRouting.MSI, flags: 0, plane: 1, u: { msi } });
    const through = (fd: number): string => {
      const set = t.c.call(fd, 'KVM_SET_GSI_ROUTING', bytes);
      if (!('ret' in set)) return word(set);
      t.c.do(t.built.vmFd, 'KVM_IRQ_LINE', Uint8Array.of(5, 0, 0, 0, 1, 0, 0, 0));
      const taken = [0, 1].filter((plane) => t.built.vm.arch.apicOf(inside(t.built).plane(plane)).highestIrr() === VECTOR);
      return `plane ${taken.join(' and ')}`;
    };
    const onVm = through(t.built.vmFd);
    const again = new Trial(p);
    return `an entry that names plane 1, set on the VM fd: ${onVm}; KVM_SET_GSI_ROUTING on the plane fd: ${okOr(again.c.call(again.built.planes.get(1)!, 'KVM_SET_GSI_ROUTING', bytes))}`;
  },

  'halted-entry': (p) => {
    const t = new Trial(p);
    const { runs, pends } = t.watched;
    inside(t.built).plane(runs).activity = 1;
    signal(t, pends);
    return t.outcome(runs, pends);
  },
  tpr: (p) => {
    const t = new Trial(p);
    const { runs, pends } = t.watched;
    t.editLapic(pends, (view) => view.setUint32(ApicReg.tpr, 0xd0, true));
    signal(t, pends);
    return t.outcome(runs, pends);
  },
  nmi: (p) => {
    const t = new Trial(p);
    const { runs, pends } = t.watched;
    signal(t, pends, 0x400);
    return t.outcome(runs, pends);
  },
  restore: (p) => {
    const t = new Trial(p);
    const { runs, pends } = t.watched;
    t.editLapic(pends, (view) => view.setUint8(0x260, 1));
    return t.outcome(runs, pends);
  },
  'mp-state': (p) => {
    const t = new Trial(p);
    return `KVM_GET_MP_STATE on a plane vCPU fd ${okOr(t.c.call(t.fd(1), 'KVM_GET_MP_STATE', new Uint8Array(4)))}`;
  },
  numbers: (p) => {
    const n = NUMBERS[p];
    const hex = (value: number | null | undefined): string => (typeof value === 'number' ? `0x${value.toString(16)}` : 'none');
    return `KVM_CREATE_PLANE ${hex(n.createPlane)}, KVM_CAP_PLANES ${n.capPlanes}, KVM_EXIT_PLANE_EVENT ${n.exitPlaneEvent} of ${LAYOUTS[p].planeEvent.size} bytes`;
  },
};
