import { admission, type Errno, FdKind, Ioctl, NUMBERS, type PlaneIoctl, type Profile } from '@vmplanes/abi-kvm-planes';
import { HostError, type Snapshot } from '@vmplanes/engine';
import { X86Arch } from '@vmplanes/x86';
import { Argument, type KvmArgument } from './argument.ts';
import { type KvmBehaviour, kvmBehaviour } from './behaviour.ts';
import { checkExtension } from './extensions.ts';
import { FdTable } from './fd-table.ts';
import { type AnyFile, OtherFile, PlaneFile, PlaneVcpuFile, StatsFile, SystemFile, VcpuFile, VmFile } from './files.ts';
import { type Caller, fail, type KvmResult, OK, ret } from './result.ts';
import { kvmRun } from './run.ts';
import { encodeStats } from './stats.ts';
import { protectedCalls, vcpuCalls } from './vcpu-calls.ts';
import { vmCalls } from './vm-calls.ts';
import { vmTypes } from './vm-type.ts';
import { KvmVm, type KvmVmConfig } from './vm.ts';

/** What the host has. */
export interface KvmLimits {
  /** Descriptors of the process. */
  readonly fds: number;
  /** Open files of the whole host. */
  readonly files: number;
  /** VMs, planes and vCPUs that memory can hold. */
  readonly objects: number;
}

/** How a KVM is built. */
export interface KvmSystemConfig {
  /** Draft of KVM planes that it follows. */
  readonly profile: Profile;
  readonly vm?: KvmVmConfig;
  readonly limits?: Partial<KvmLimits>;
}

const defaultLimits: KvmLimits = { fds: 1024, files: 65536, objects: 65536 };
const API_VERSION = 12;
const PAGE = 4096;
/** kvm_run, the data page of port I/O, the coalesced MMIO ring. */
const MMAP_PAGES = 3;
/** Page of a vCPU mapping at which its dirty ring starts. @spec Linux arch/x86/include/uapi/asm/kvm.h KVM_DIRTY_LOG_PAGE_OFFSET */
const DIRTY_RING_PAGE = 64;
const DEFAULT_VCPUS = 16;

/** What a mapping shows: shared bytes, an error of mmap itself, or the signal that touching it raises. */
export type MmapResult = { readonly bytes: Uint8Array } | { readonly errno: Errno } | { readonly signal: 'SIGBUS' };

/**
 * KVM as one process sees it: file descriptors and what ioctl, mmap, read and close on them answer, error number for error number. The machine behind
 * each VM is the engine's.
 */
export class KvmSystem {
  readonly behaviour: KvmBehaviour;
  readonly limits: KvmLimits;
  readonly fds: FdTable<AnyFile>;
  readonly vmConfig: KvmVmConfig;
  /** Signals pending for each thread, bit n - 1 for signal n. */
  readonly #signals = new Map<number, bigint>();
  readonly #names = new Map<number, PlaneIoctl>();
  #objects = 0;

  /** @throws {HostError} BadConfig for a profile without numbers, or an x86 configuration that does not fit together. */
  constructor(config: KvmSystemConfig) {
    this.behaviour = kvmBehaviour(config.profile);
    this.limits = { ...defaultLimits, ...config.limits };
    this.fds = new FdTable(this.limits.fds);
    this.vmConfig = config.vm ?? {};
    // A configuration that no VM could be made of is refused here, not by the first KVM_CREATE_VM.
    new X86Arch(this.vmConfig.x86);
    for (const [name, number] of Object.entries(Ioctl)) this.#names.set(number, name as PlaneIoctl);
    const numbers = NUMBERS[config.profile];
    if (typeof numbers.createPlane === 'number') this.#names.set(numbers.createPlane, 'KVM_CREATE_PLANE');
    if (typeof numbers.createVcpuPlane === 'number') this.#names.set(numbers.createVcpuPlane, 'KVM_CREATE_VCPU_PLANE');
  }

  get maxVcpus(): number {
    return this.vmConfig.maxVcpus ?? DEFAULT_VCPUS;
  }

  // -- files ---------------------------------------------------------------------------------------------------------

  /** Opens /dev/kvm. @returns an fd or an error. */
  open(): KvmResult {
    return this.#openFile(new SystemFile());
  }
  /** Opens some other file: its fd is valid, but none of KVM's. */
  openOther(label = 'file'): KvmResult {
    return this.#openFile(new OtherFile(label));
  }
  #openFile(file: AnyFile): KvmResult {
    const refused = this.refusesFile();
    return refused === null ? ret(this.fds.open(file)) : fail(refused);
  }

  /** Why no further file can be opened, or null. */
  refusesFile(): 'EMFILE' | 'ENFILE' | null {
    if (this.fds.isFull) return 'EMFILE';
    return this.fds.count >= this.limits.files ? 'ENFILE' : null;
  }

  get hasObject(): boolean {
    return this.#objects < this.limits.objects;
  }
  /** Counts an allocation. @returns false when memory is used up. */
  takeObject(): boolean {
    if (!this.hasObject) return false;
    this.#objects++;
    return true;
  }

  close(fd: number): KvmResult {
    return this.fds.close(fd) ? OK : fail('EBADF');
  }

  /** The VM behind an fd of any kind that has one. */
  vmOf(fd: number): KvmVm | null {
    const file = this.fds.get(fd);
    return file !== undefined && 'vm' in file ? file.vm : null;
  }

  /** Maps one page range of a vCPU. @param page - offset in pages. */
  mmap(caller: Caller, fd: number, page = 0): MmapResult {
    const file = this.fds.get(fd);
    if (!file) return { errno: 'EBADF' };
    if (file.kind !== 'vcpu' && file.kind !== 'planeVcpu') return { errno: 'ENODEV' };
    // The mapping is made, and touching it faults: only plane 0 has something to show.
    if (file.kind === 'planeVcpu' || file.vm.mm !== caller.mm) return { signal: 'SIGBUS' };
    const { bytes } = file.group.page;
    if (page === 0 || page === 1) return { bytes: bytes.subarray(page * PAGE, (page + 1) * PAGE) };
    const ring = file.vm.machine.memory.dirty.ring(file.group.vp.index);
    if (ring === null || page < DIRTY_RING_PAGE) return { signal: 'SIGBUS' };
    const { entries } = ring;
    const at = (page - DIRTY_RING_PAGE) * PAGE;
    return at < entries.byteLength ? { bytes: new Uint8Array(entries.buffer, entries.byteOffset + at) } : { signal: 'SIGBUS' };
  }

  /** Reads a statistics fd from its start. */
  read(fd: number): { readonly bytes: Uint8Array } | { readonly errno: Errno } {
    const file = this.fds.get(fd);
    if (!file) return { errno: 'EBADF' };
    if (!(file instanceof StatsFile)) return { errno: 'EINVAL' };
    const { vm, group } = file;
    if (group !== null) return { bytes: encodeStats(`kvm-${vm.mm}/vcpu-${group.id}`, vm.counters.ofGroup(group.id)) };
    return { bytes: encodeStats(`kvm-${vm.mm}`, vm.counters.ofVm()) };
  }

  // -- signals -------------------------------------------------------------------------------------------------------

  /** Makes a signal pending for a thread; a run that does not block it returns EINTR until it is taken. @param signal - 1..64. */
  raise(thread: number, signal: number): void {
    this.#signals.set(thread, (this.#signals.get(thread) ?? 0n) | (1n << BigInt(signal - 1)));
  }
  /** The thread handled a signal. */
  take(thread: number, signal: number): void {
    this.#signals.set(thread, (this.#signals.get(thread) ?? 0n) & ~(1n << BigInt(signal - 1)));
  }

  // -- ioctl ---------------------------------------------------------------------------------------------------------

  /** Name of a request number under this profile, or undefined. */
  nameOf(request: number): PlaneIoctl | undefined {
    return this.#names.get(request >>> 0);
  }

  /**
   * One ioctl. Checks come in this order: the fd, then the caller (EIO), then whether the fd takes the request, then the argument.
   * @param argument - an integer, or the bytes a user pointer points to; a user pointer inside them is an offset into them.
   */
  ioctl(caller: Caller, fd: number, request: number, argument: KvmArgument = 0): KvmResult {
    const file = this.fds.get(fd);
    if (!file) return fail('EBADF');
    const name = this.nameOf(request);
    const a = new Argument(argument);
    switch (file.kind) {
      case 'system':
        return this.#systemCall(caller, name, a);
      case 'other':
      case 'stats':
        return fail('ENOTTY');
      case 'vm':
      case 'plane':
        return this.#isForeign(caller, file.vm) ? fail('EIO') : this.#vmCall(file, name, a);
      case 'vcpu':
      case 'planeVcpu':
        return this.#isForeign(caller, file.vm) ? fail('EIO') : this.#vcpuCall(caller, file, name, a);
      default: {
        const never: never = file;
        return never;
      }
    }
  }

  #isForeign(caller: Caller, vm: KvmVm): boolean {
    return caller.mm !== vm.mm || vm.isDead;
  }

  #systemCall(caller: Caller, name: PlaneIoctl | undefined, a: Argument): KvmResult {
    switch (name) {
      case 'KVM_GET_API_VERSION':
        return a.long === 0n ? ret(API_VERSION) : fail('EINVAL');
      case 'KVM_GET_VCPU_MMAP_SIZE':
        return a.long === 0n ? ret(MMAP_PAGES * PAGE) : fail('EINVAL');
      case 'KVM_CHECK_EXTENSION':
        return checkExtension(this, null, 'system', a.uint);
      case 'KVM_CREATE_VM': {
        const type = vmTypes.find((t) => BigInt(t.id) === a.long);
        if (!type) return fail('EINVAL');
        const refused = this.refusesFile();
        if (refused !== null) return fail(refused);
        if (!this.hasObject) return fail('ENOMEM');
        try {
          const vm = new KvmVm(this.behaviour, type, caller.mm, this.vmConfig);
          this.takeObject();
          return ret(this.fds.open(new VmFile(vm)));
        } catch (error) {
          if (error instanceof HostError && error.code === 'NoMemory') return fail('ENOMEM');
          throw error;
        }
      }
      default:
        return fail('EINVAL');
    }
  }

  #vmCall(file: VmFile | PlaneFile, name: PlaneIoctl | undefined, a: Argument): KvmResult {
    const plane = file.kind === 'vm' ? 0 : file.plane;
    const admitted = admission(this.behaviour.profile, file.kind === 'vm' ? FdKind.Vm : FdKind.Plane, name);
    if (admitted !== 'allowed') return fail(admitted);
    const call = name === undefined ? undefined : vmCalls[name];
    return call ? call({ system: this, vm: file.vm, plane }, a) : fail('ENOTTY');
  }

  #vcpuCall(caller: Caller, file: VcpuFile | PlaneVcpuFile, name: PlaneIoctl | undefined, a: Argument): KvmResult {
    const { vm, group, context } = file;
    const admitted = admission(this.behaviour.profile, file.kind === 'vcpu' ? FdKind.Vcpu : FdKind.PlaneVcpu, name);
    if (admitted !== 'allowed') return fail(admitted);
    const { inRun } = group;
    if (name === 'KVM_RUN') {
      if (a.long !== 0n) return fail('EINVAL');
      if (inRun !== null && inRun.thread !== caller.thread) return { pending: 'busy' };
      const pending = this.#signals.get(caller.thread) ?? 0n;
      return kvmRun(vm, group, caller.thread, (pending & ~(group.signalMask ?? 0n)) !== 0n);
    }
    // The run holds the lock of plane 0, of the plane that runs and, with one lock per group, of all.
    if (inRun !== null && (this.behaviour.mutex === 'group' || file.kind === 'vcpu' || inRun.plane === context.plane)) return { pending: 'busy' };
    if (name === 'KVM_GET_STATS_FD') return this.#openFile(new StatsFile(vm, group));
    if (name === undefined) return fail('EINVAL');
    if (vm.isStateProtected && protectedCalls.has(name)) return fail('EINVAL');
    return vcpuCalls[name]?.({ vm, group, context }, a) ?? fail('EINVAL');
  }

  // -- state ---------------------------------------------------------------------------------------------------------

  /** Everything of this process: its files, its VMs with their machines, its signals. Valid whenever no call is in progress. */
  save(): SavedSystem {
    const vms: KvmVm[] = [];
    const indexOf = (vm: KvmVm): number => {
      if (!vms.includes(vm)) vms.push(vm);
      return vms.indexOf(vm);
    };
    const files = this.fds.list().map(([fd, f]): SavedFile => {
      const vm = 'vm' in f ? indexOf(f.vm) : -1;
      const vcpu = 'group' in f && f.group !== null ? f.group.id : -1;
      return { fd, kind: f.kind, label: f.label, vm, vcpu, plane: f.kind === 'plane' ? f.plane : f.kind === 'planeVcpu' ? f.context.plane : 0 };
    });
    return {
      format: 'vmplanes-kvm',
      version: STATE_VERSION,
      profile: this.behaviour.profile,
      files,
      vms: vms.map((vm) => ({ type: vm.type.id, mm: vm.mm, planesFpu: vm.caps.planesFpu, machine: vm.machine.snapshot() })),
      signals: [...this.#signals],
      objects: this.#objects,
    };
  }

  /**
   * Makes this process, which must be fresh and configured as the saved one, equal to it.
   * @throws {HostError} BadSnapshot when it does not fit, BadState when files are open here.
   */
  restore(state: SavedSystem): void {
    if (state.format !== 'vmplanes-kvm' || state.version !== STATE_VERSION) throw new HostError('BadSnapshot', `saved KVM of version ${state.version}: this reader knows ${STATE_VERSION}`);
    if (state.profile !== this.behaviour.profile) throw new HostError('BadSnapshot', `saved KVM of profile ${state.profile}, this one is ${this.behaviour.profile}`);
    if (this.fds.count > 0) throw new HostError('BadState', 'a KVM is restored before anything is open in it');
    const vms = state.vms.map((saved) => {
      const type = vmTypes.find((t) => t.id === saved.type);
      if (!type) throw new HostError('BadSnapshot', `no VM type ${saved.type}`);
      const vm = new KvmVm(this.behaviour, type, saved.mm, this.vmConfig);
      // What planes share is fixed once a VP exists.
      if (saved.planesFpu) vm.shareFpu(true);
      vm.machine.restore(saved.machine);
      return vm;
    });
    for (const f of state.files) this.fds.put(f.fd, restoredFile(f, vms[f.vm]));
    for (const [thread, mask] of state.signals) this.#signals.set(thread, mask);
    this.#objects = state.objects;
  }
}

const STATE_VERSION = 1;

interface SavedFile {
  readonly fd: number;
  readonly kind: AnyFile['kind'];
  readonly label: string;
  /** Index among the saved VMs, -1 without one. */
  readonly vm: number;
  /** vCPU id, -1 without one. */
  readonly vcpu: number;
  readonly plane: number;
}

/** Saved form of a {@link KvmSystem}: plain data. */
export interface SavedSystem {
  readonly format: 'vmplanes-kvm';
  readonly version: number;
  readonly profile: Profile;
  readonly files: readonly SavedFile[];
  readonly vms: readonly { readonly type: number; readonly mm: number; readonly planesFpu: boolean; readonly machine: Snapshot }[];
  readonly signals: readonly (readonly [thread: number, mask: bigint])[];
  readonly objects: number;
}

const restoredFile = (f: SavedFile, vm: KvmVm | undefined): AnyFile => {
  if (f.kind === 'system') return new SystemFile();
  if (f.kind === 'other') return new OtherFile(f.label);
  if (!vm) throw new HostError('BadSnapshot', `fd ${f.fd}: no VM behind it`);
  if (f.kind === 'vm') return new VmFile(vm);
  if (f.kind === 'plane') return new PlaneFile(vm, f.plane);
  const group = vm.groups.get(f.vcpu) ?? null;
  if (f.kind === 'stats') return new StatsFile(vm, group);
  if (group === null) throw new HostError('BadSnapshot', `fd ${f.fd}: no vCPU ${f.vcpu}`);
  return f.kind === 'vcpu' ? new VcpuFile(vm, group) : new PlaneVcpuFile(vm, group, group.vp.plane(f.plane));
};
