import { Capability, Ioctl, KvmEnableCap, KvmMsi, NUMBERS, type PlaneIoctl } from '@vmplanes/abi-kvm-planes';
import { HostError, type PlaneContext } from '@vmplanes/engine';
import type { KvmArgument } from './argument.ts';
import type { Caller, KvmResult } from './result.ts';
import type { RunPage } from './run-page.ts';
import { KvmSystem, type KvmSystemConfig } from './system.ts';
import type { VcpuGroup } from './vcpu-group.ts';
import type { KvmVm } from './vm.ts';

/** What {@link KvmClient.build} makes, in the order a VMM would. */
export interface ClientPlan {
  /** VM type id. Default 0; 4 (SNP) where only that type has planes. */
  readonly type?: number;
  /** Default `split`. */
  readonly irqchip?: 'none' | 'split' | 'full';
  /** Default: one vCPU with id 0. */
  readonly vcpus?: readonly number[];
  /** vCPU ids of each plane beside 0. */
  readonly planes?: Readonly<Record<number, readonly number[]>>;
}

/** The fds of a built VM. */
export interface BuiltVm {
  readonly vmFd: number;
  readonly vm: KvmVm;
  /** By vCPU id. */
  readonly vcpus: ReadonlyMap<number, number>;
  /** By plane id; 0 is the VM fd. */
  readonly planes: ReadonlyMap<number, number>;
  /** By plane id, then vCPU id; plane 0 has the plain vCPU fds. */
  readonly planeVcpus: ReadonlyMap<number, ReadonlyMap<number, number>>;
}

const SNP = 4;

/** A VMM's side of the facade: calls by name, and a VM built in the order that every draft accepts. */
export class KvmClient {
  readonly system: KvmSystem;
  readonly caller: Caller;
  /** /dev/kvm. */
  readonly fd: number;

  constructor(config: KvmSystemConfig, caller: Caller = { mm: 1, thread: 1 }) {
    this.system = new KvmSystem(config);
    this.caller = caller;
    this.fd = this.must(this.system.open());
  }

  /** Request number of a name. @throws {RangeError} when the profile does not number it. */
  request(name: PlaneIoctl): number {
    if (name in Ioctl) return Ioctl[name as keyof typeof Ioctl];
    const numbers = NUMBERS[this.system.behaviour.profile];
    const found = name === 'KVM_CREATE_PLANE' ? numbers.createPlane : numbers.createVcpuPlane;
    if (typeof found === 'number') return found;
    throw new RangeError(`${name}: no number in profile ${this.system.behaviour.profile}`);
  }

  call(fd: number, name: PlaneIoctl, argument: KvmArgument = 0, caller: Caller = this.caller): KvmResult {
    return this.system.ioctl(caller, fd, this.request(name), argument);
  }

  /** The value a call returned. @throws {HostError} BadState names the error number otherwise. */
  must(result: KvmResult): number {
    if ('ret' in result) return result.ret;
    throw new HostError('BadState', 'errno' in result ? `the call failed with ${result.errno}` : `the call is ${result.pending}`);
  }
  do(fd: number, name: PlaneIoctl, argument: KvmArgument = 0): number {
    return this.must(this.call(fd, name, argument));
  }

  enableCap(fd: number, cap: number, arg0: number | bigint = 0, flags = 0): KvmResult {
    const bytes = new Uint8Array(KvmEnableCap.size);
    KvmEnableCap.write(new DataView(bytes.buffer), 0, { cap, flags, args: [BigInt(arg0), 0n, 0n, 0n] });
    return this.call(fd, 'KVM_ENABLE_CAP', bytes);
  }

  /** An edge-triggered fixed interrupt to the APIC with an id below 255. */
  signalMsi(fd: number, vector: number, apicId = 0): KvmResult {
    const bytes = new Uint8Array(KvmMsi.size);
    KvmMsi.write(new DataView(bytes.buffer), 0, { addressLo: (0xfee0_0000 | (apicId << 12)) >>> 0, addressHi: 0, data: vector, flags: 0, devid: 0 });
    return this.call(fd, 'KVM_SIGNAL_MSI', bytes);
  }

  /** Makes a plane vCPU the way the profile has it. */
  createPlaneVcpu(planeFd: number, vcpuFd: number, id: number): KvmResult {
    return this.system.behaviour.createVcpu === 'create-vcpu-plane' ? this.call(planeFd, 'KVM_CREATE_VCPU_PLANE', vcpuFd) : this.call(planeFd, 'KVM_CREATE_VCPU', id);
  }

  /** @throws {HostError} BadState when a call of the plan fails. */
  build(plan: ClientPlan = {}): BuiltVm {
    const kernelPlanes = this.system.behaviour.fullIrqchip === 'without-planes';
    const type = plan.type ?? (kernelPlanes ? SNP : 0);
    const vmFd = this.do(this.fd, 'KVM_CREATE_VM', type);
    const irqchip = plan.irqchip ?? 'split';
    if (irqchip === 'split') this.must(this.enableCap(vmFd, Capability.SPLIT_IRQCHIP, 24));
    if (irqchip === 'full') this.do(vmFd, 'KVM_CREATE_IRQCHIP');
    const vcpus = new Map((plan.vcpus ?? [0]).map((id) => [id, this.do(vmFd, 'KVM_CREATE_VCPU', id)]));
    const planes = new Map([[0, vmFd]]);
    const planeVcpus = new Map<number, ReadonlyMap<number, number>>([[0, vcpus]]);
    for (const [key, ids] of Object.entries(plan.planes ?? {})) {
      const planeFd = this.do(vmFd, 'KVM_CREATE_PLANE', Number(key));
      planes.set(Number(key), planeFd);
      planeVcpus.set(Number(key), new Map(ids.map((id) => [id, this.must(this.createPlaneVcpu(planeFd, vcpus.get(id) ?? -1, id))])));
    }
    return { vmFd, vm: this.system.vmOf(vmFd)!, vcpus, planes, planeVcpus };
  }
}

/** Looks behind the fds of a built VM, as no userspace could: for tests and comparisons. */
export const inside = (built: BuiltVm, id = 0): { readonly group: VcpuGroup; readonly page: RunPage; plane(plane: number): PlaneContext } => {
  const group = built.vm.groups.get(id);
  if (!group) throw new HostError('NoSuchVp', `no vCPU ${id}`);
  return { group, page: group.page, plane: (plane) => group.vp.plane(plane) };
};
