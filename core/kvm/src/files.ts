import type { PlaneContext } from '@vmplanes/engine';
import type { KvmFile } from './fd-table.ts';
import type { VcpuGroup } from './vcpu-group.ts';
import type { KvmVm } from './vm.ts';

/** /dev/kvm. */
export class SystemFile implements KvmFile {
  readonly kind = 'system';
  readonly label = '/dev/kvm';
}

/** Any file that is not KVM's. */
export class OtherFile implements KvmFile {
  readonly kind = 'other';
  constructor(readonly label: string) {}
}

/** A VM, which is also its plane 0. */
export class VmFile implements KvmFile {
  readonly kind = 'vm';
  readonly label = 'kvm-vm';
  constructor(readonly vm: KvmVm) {}
}

/** A plane other than 0. Closing it drops a reference to the VM; the plane stays. @spec LKML 2025-04-01 RFC KVM: VM planes 09/29 */
export class PlaneFile implements KvmFile {
  readonly kind = 'plane';
  readonly label = 'kvm-plane';
  constructor(
    readonly vm: KvmVm,
    readonly plane: number,
  ) {}
}

/** The plane 0 vCPU of a group: the only one with KVM_RUN and the shared pages. */
export class VcpuFile implements KvmFile {
  readonly kind = 'vcpu';
  readonly label: string;
  constructor(
    readonly vm: KvmVm,
    readonly group: VcpuGroup,
  ) {
    this.label = `kvm-vcpu:${group.id}`;
  }
  get context(): PlaneContext {
    return this.group.vp.plane(0);
  }
}

/** The vCPU of a group in another plane. */
export class PlaneVcpuFile implements KvmFile {
  readonly kind = 'planeVcpu';
  readonly label: string;
  constructor(
    readonly vm: KvmVm,
    readonly group: VcpuGroup,
    readonly context: PlaneContext,
  ) {
    this.label = vm.behaviour.vcpuName.startsWith('kvm-vcpu-plane') ? `kvm-vcpu-plane${context.plane}:${group.id}` : `kvm-vcpu:${group.id}`;
  }
}

/** Statistics of a VM or a vCPU group, read as a file. */
export class StatsFile implements KvmFile {
  readonly kind = 'stats';
  readonly label: string;
  constructor(
    readonly vm: KvmVm,
    readonly group: VcpuGroup | null,
  ) {
    this.label = group === null ? 'kvm-vm-stats' : `kvm-vcpu-stats:${group.id}`;
  }
}

/** A file of this facade. */
export type AnyFile = SystemFile | OtherFile | VmFile | PlaneFile | VcpuFile | PlaneVcpuFile | StatsFile;
