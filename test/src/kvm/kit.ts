import { Capability, EXIT_UNION_AT, KvmLapicState, KvmMsrEntry, KvmRunPlanes, type Profile, NUMBERS, PlaneEvent2025, RUNNABLE_PROFILES } from '@vmplanes/abi-kvm-planes';
import type { Infer, Layout } from '@vmplanes/binary';
import { InvariantChecks } from '@vmplanes/engine';
import { type BuiltVm, type ClientPlan, inside, KvmClient, type KvmResult, type KvmVmConfig } from '@vmplanes/kvm';
import { type Script, ScriptCpu, type Step } from '@vmplanes/x86';

export type RunnableProfile = Exclude<Profile, '2024-10'>;
export const profiles = RUNNABLE_PROFILES as readonly RunnableProfile[];

/** Scripts by VP index, then plane. */
export type Programs = Readonly<Record<number, Readonly<Record<number, readonly Step[] | Script>>>>;

const scriptOf = (id: string, given: readonly Step[] | Script): Script => ('id' in given ? given : { id, steps: given });

/** A system whose vCPUs run scripts. */
export const client = (profile: RunnableProfile, programs: Programs = {}, vm: KvmVmConfig = {}, limits = {}): KvmClient =>
  new KvmClient({
    profile,
    limits,
    vm: {
      machine: { memoryBytes: 1 << 20 },
      cpu: (machine, arch, vp) => {
        const rows = Object.entries(programs[vp.index] ?? {}).map(([plane, p]) => [plane, { script: scriptOf(`vp${vp.index}p${plane}`, p) }] as const);
        return new ScriptCpu(machine, arch, Object.fromEntries(rows));
      },
      ...vm,
    },
  });

/** A built VM with its client, and what tests ask of both. */
export class Rig {
  readonly c: KvmClient;
  readonly built: BuiltVm;

  constructor(profile: RunnableProfile, plan: ClientPlan = {}, programs: Programs = {}, vm: KvmVmConfig = {}) {
    this.c = client(profile, programs, vm);
    this.built = this.c.build(plan);
    this.built.vm.machine.checks = new InvariantChecks(this.built.vm.machine);
  }

  get vm(): BuiltVm['vm'] {
    return this.built.vm;
  }
  page(id = 0): ReturnType<typeof inside>['page'] {
    return inside(this.built, id).page;
  }
  vcpu(id = 0): number {
    return this.built.vcpus.get(id)!;
  }
  planeFd(plane: number): number {
    return this.built.planes.get(plane)!;
  }
  fd(plane: number, id = 0): number {
    return this.built.planeVcpus.get(plane)!.get(id)!;
  }
  context(plane: number, id = 0): ReturnType<ReturnType<typeof inside>['plane']> {
    return inside(this.built, id).plane(plane);
  }

  /** KVM_RUN with the plane fields set before. */
  run(plane = 0, request = 0, id = 0): KvmResult {
    const { bytes } = this.page(id);
    bytes[KvmRunPlanes.at.plane] = plane;
    new DataView(bytes.buffer).setUint16(KvmRunPlanes.at.reqExitPlanes, request, true);
    return this.again(id);
  }
  /** KVM_RUN as it is: continues a run that sleeps. */
  again(id = 0): KvmResult {
    return this.c.call(this.vcpu(id), 'KVM_RUN');
  }
  exitReason(id = 0): number {
    return new DataView(this.page(id).bytes.buffer).getUint32(KvmRunPlanes.at.exitReason, true);
  }
  /** The exit union in a layout. */
  exit<T>(layout: Layout<T, never>, id = 0): T {
    return layout.read(new DataView(this.page(id).bytes.buffer), EXIT_UNION_AT);
  }
  /** `pending/target` when the last exit is a plane event, else the number of the exit reason. */
  event(id = 0): string {
    if (this.exitReason(id) !== NUMBERS[this.vm.behaviour.profile].exitPlaneEvent) return `exit ${this.exitReason(id)}`;
    const e = this.exit(PlaneEvent2025, id);
    return `${e.pendingEventPlanes.toString(2)}/${e.target.toString(2)}`;
  }

  /** Switches the local APIC of a plane on: x2APIC mode by MSR, software enable by SET_LAPIC. */
  enableApic(plane: number, id = 0): void {
    const fd = this.fd(plane, id);
    this.setMsr(fd, 0x1b, 0xfee0_0c00n);
    this.editLapic(plane, (view) => view.setUint32(0xf0, view.getUint32(0xf0, true) | 0x100, true), id);
  }
  lapic(plane: number, id = 0): Uint8Array {
    const image = new Uint8Array(KvmLapicState.size);
    this.c.do(this.fd(plane, id), 'KVM_GET_LAPIC', image);
    return image;
  }
  editLapic(plane: number, edit: (view: DataView) => void, id = 0): void {
    const image = this.lapic(plane, id);
    edit(new DataView(image.buffer));
    this.c.do(this.fd(plane, id), 'KVM_SET_LAPIC', image);
  }
  /** Whether a vector is requested in a plane, read through its LAPIC image. */
  irr(plane: number, vector: number, id = 0): boolean {
    return irrBit(this.lapic(plane, id), vector);
  }
  msi(plane: number, vector: number, apicId = 0): KvmResult {
    return this.c.signalMsi(this.planeFd(plane), vector, apicId);
  }

  setMsr(fd: number, index: number, data: bigint): number {
    const bytes = new Uint8Array(8 + KvmMsrEntry.size);
    new DataView(bytes.buffer).setUint32(0, 1, true);
    KvmMsrEntry.write(new DataView(bytes.buffer), 8, { index, reserved: 0, data });
    return this.c.do(fd, 'KVM_SET_MSRS', bytes);
  }
  getMsr(fd: number, index: number): bigint {
    const bytes = new Uint8Array(8 + KvmMsrEntry.size);
    new DataView(bytes.buffer).setUint32(0, 1, true);
    new DataView(bytes.buffer).setUint32(8, index, true);
    this.c.do(fd, 'KVM_GET_MSRS', bytes);
    return KvmMsrEntry.read(new DataView(bytes.buffer), 8).data;
  }
  get<L extends Layout<unknown, never>>(fd: number, name: Parameters<KvmClient['call']>[1], layout: L): Infer<L> {
    const bytes = new Uint8Array(layout.size);
    this.c.do(fd, name, bytes);
    return layout.read(new DataView(bytes.buffer), 0) as Infer<L>;
  }
  set<In>(fd: number, name: Parameters<KvmClient['call']>[1], layout: Layout<unknown, In>, value: In): KvmResult {
    return this.c.call(fd, name, encode(layout, value));
  }
}

export const encode = <In>(layout: Layout<unknown, In>, value: In): Uint8Array => {
  const bytes = new Uint8Array(layout.size);
  layout.write(new DataView(bytes.buffer), 0, value);
  return bytes;
};

/** Bit of a vector in a LAPIC image: byte 0x200 + (v >> 5) * 16 + ((v & 31) >> 3), bit v & 7. */
export const irrBit = (image: Uint8Array, vector: number): boolean => ((image[0x200 + (vector >> 5) * 16 + ((vector & 31) >> 3)]! >> (vector & 7)) & 1) === 1;

export const { SPLIT_IRQCHIP } = Capability;

/** Outcome of a call as one word: the value, the error or what it waits for. */
export const word = (result: KvmResult): string => ('ret' in result ? String(result.ret) : 'errno' in result ? result.errno : result.pending);

/** A rig with planes of vCPU 0, the APICs of all of them on. */
export const apicRig = (profile: RunnableProfile, planes: readonly number[], programs: Programs = {}, plan: ClientPlan = {}, vm: KvmVmConfig = {}): Rig => {
  const rig = new Rig(profile, { planes: Object.fromEntries(planes.map((p) => [p, [0]])), ...plan }, programs, vm);
  for (const [plane, ids] of rig.built.planeVcpus) for (const id of ids.keys()) rig.enableApic(plane, id);
  return rig;
};
