import { DEFAULT_PLANES } from '@vmplanes/abi-kvm-planes';
import { createScope } from '@vmplanes/di';
import { Activity, type Cpu, HostError, installEngine, type Machine, type MachineOptions, type PlainState, PlaneId, type PlaneContext, plainPlanes, type Stateful, type Vp } from '@vmplanes/engine';
import { GsiRouting, X86Arch, type X86Config } from '@vmplanes/x86';
import type { KvmBehaviour } from './behaviour.ts';
import { HaltAnswers } from './halt.ts';
import { Ioapic } from './ioapic.ts';
import { KvmHardware } from './hardware.ts';
import { PlaneCounters } from './stats.ts';
import { setReg } from './state/target.ts';
import { tscScaleOf } from './tsc-calls.ts';
import { type SavedGroup, VcpuGroup } from './vcpu-group.ts';
import type { VmType } from './vm-type.ts';

/** Where interrupts are handled: nowhere, local APICs only, or PIC and I/O APIC too. */
export const Irqchip = { None: 'none', Split: 'split', Full: 'full' } as const;
export type Irqchip = (typeof Irqchip)[keyof typeof Irqchip];

/** What the VMs of a system are made of. */
export interface KvmVmConfig {
  /** vCPUs a VM may have, 1..64. Default 16. */
  readonly maxVcpus?: number;
  /** Planes a VM may have under our own profile, 1..16. */
  readonly maxPlanes?: number;
  readonly x86?: Partial<X86Config>;
  readonly machine?: Partial<MachineOptions>;
  /** Attribute bits (NR 1, NW 2, NX 4) that the planes of a VM may use, by VM type id. Default: all that the profile has. */
  readonly planeAttributes?: Readonly<Record<number, bigint>>;
  /** Makes the processor of a vCPU; without one, KVM_RUN on that vCPU fails with EINVAL. */
  readonly cpu?: (machine: Machine, arch: X86Arch, vp: Vp) => Cpu;
}

/** Capabilities that KVM_ENABLE_CAP turned on. */
export interface VmCaps {
  exceptionPayload: boolean;
  tripleFaultEvent: boolean;
  /** KVM_MSR_EXIT_REASON_* bits. */
  userSpaceMsr: number;
  busLockExit: boolean;
  /** Bytes of each dirty ring; 0 without. */
  dirtyRing: number;
  planesFpu: boolean;
}

const MAX_VCPUS = 16;
const MAX_PLANES = 16;

/** A VM: its machine, its vCPU groups and planes, and what was configured. Plane 0 exists with the VM. */
export class KvmVm implements Stateful {
  readonly stateName = 'kvm.vm';
  readonly stateVersion = 1;
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly hardware: KvmHardware;
  readonly config: KvmVmConfig;
  readonly caps: VmCaps = { exceptionPayload: false, tripleFaultEvent: false, userSpaceMsr: 0, busLockExit: false, dirtyRing: 0, planesFpu: false };
  irqchip: Irqchip = Irqchip.None;
  /** Planes that exist, bit 0 always. */
  planes = 1;
  /** The VM counts as one with planes: controllers can no longer be made. */
  hasPlanes = false;
  /** A fatal error was found: every call fails with EIO. */
  isDead = false;
  /** Register state is locked away from the VMM. */
  isStateProtected = false;
  /** Held while a plane or a vCPU is made: check and insertion are one step for every other thread. */
  isLocked = false;
  /** TSC frequency of vCPUs yet to be made, in kHz. */
  defaultTscKhz: number;
  /** In use while {@link irqchip} is full. */
  readonly ioapic: Ioapic;
  routing!: GsiRouting;
  readonly counters: PlaneCounters;
  readonly #groups = new Map<number, VcpuGroup>();

  /** @param mm - address space that owns the VM. */
  constructor(
    readonly behaviour: KvmBehaviour,
    readonly type: VmType,
    readonly mm: number,
    config: KvmVmConfig,
  ) {
    this.config = config;
    this.arch = new X86Arch(config.x86);
    this.machine = installEngine(createScope(), {
      arch: this.arch,
      policy: behaviour.policy,
      rule: behaviour.rule,
      options: { maxVps: this.maxVcpus, maxPlanes: this.#machinePlanes, eventCheck: behaviour.exitBeforeBlocking ? 'first' : 'entry', timers: behaviour.timers, ...config.machine },
    });
    this.defaultTscKhz = this.hostTscKhz;
    this.hardware = new KvmHardware(this.machine, this.arch);
    this.counters = new PlaneCounters(this);
    this.shareFpu(false);
    this.machine.contextPorts.push(this.counters);
    this.machine.addPersonality(new HaltAnswers(this));
    this.ioapic = new Ioapic(this);
    this.machine.addPersonality(this.ioapic);
    this.arch.fabric.onEoi = (apic, vector) => this.ioapic.ended(apic, vector);
    this.machine.addComponent(this);
    this.hardware.setMsrExits(0);
    this.resetRouting();
  }

  get maxVcpus(): number {
    return this.config.maxVcpus ?? MAX_VCPUS;
  }
  get #machinePlanes(): number {
    return this.behaviour.profile === 'vmplanes' ? (this.config.maxPlanes ?? DEFAULT_PLANES) : MAX_PLANES;
  }
  /** Planes this VM may have now: the value of KVM_CAP_PLANES. */
  get planeCount(): number {
    const { behaviour, type } = this;
    if (behaviour.profile === '2025-04') return type.hasProtectedState ? 1 : MAX_PLANES;
    if (behaviour.profile === '2026-06') return this.irqchip === Irqchip.Split ? type.backendPlanes : 1;
    return this.#machinePlanes;
  }
  /** Bits that a plane mask may have; higher ones are ignored. */
  get planeMask(): number {
    return (1 << this.planeCount) - 1;
  }
  /** Frequency of machine time in kHz: what an unscaled TSC counts with. */
  get hostTscKhz(): number {
    return Math.max(1, Math.round(this.machine.options.ticksPerSecond / 1000));
  }
  get hasKernelApic(): boolean {
    return this.irqchip !== Irqchip.None;
  }
  /** Permission attribute bits that planes take. */
  get planeAttributes(): bigint {
    return (this.config.planeAttributes?.[this.type.id] ?? this.behaviour.planeAttributes) & this.behaviour.planeAttributes;
  }
  /** Every attribute bit a plane takes. PRIVATE belongs to the VM and is kept with plane 0. */
  attributesOf(plane: number): bigint {
    const privacy = this.type.hasPrivateMemory ? PRIVATE : 0n;
    return plane === 0 ? this.planeAttributes | privacy : this.planeAttributes;
  }

  /** Makes an empty routing table that fits the present controllers. */
  resetRouting(): void {
    this.routing = new GsiRouting({ planeRule: this.behaviour.routes === 'last-writer' ? 'lastWriter' : 'perRoute', hasPins: this.irqchip === Irqchip.Full, hasWideIds: this.hardware.hasWideIds });
  }

  // -- vCPUs ---------------------------------------------------------------------------------------------------------

  get groups(): ReadonlyMap<number, VcpuGroup> {
    return this.#groups;
  }
  /** vCPUs that count against the limit. */
  get vcpuCount(): number {
    if (!this.behaviour.planeVcpusCount) return this.#groups.size;
    let n = 0;
    for (const { vp } of this.#groups.values()) for (let p = 0; p < MAX_PLANES; p++) if (vp.planes[p]) n++;
    return n;
  }

  /** Makes the plane 0 vCPU of an id, and with it the group. The caller has checked that the id is free and the limit is not reached. */
  createGroup(id: number): VcpuGroup {
    const vp = this.machine.createVp();
    const group = new VcpuGroup(id, vp, this.behaviour.scheduler !== 'lowest-runnable');
    this.#groups.set(id, group);
    this.#attach(group);
    this.#start(group, vp.plane(0));
    const { dirtyRing } = this.caps;
    if (dirtyRing > 0) this.machine.memory.dirty.addRing(vp.index, dirtyRing / DIRTY_ENTRY, DIRTY_RESERVE);
    return group;
  }

  #attach(group: VcpuGroup): void {
    const cpu = this.config.cpu?.(this.machine, this.arch, group.vp);
    if (cpu) this.machine.setCpu(group.vp, cpu);
  }

  /** Makes the vCPU of a group in another plane. */
  createPlaneVcpu(group: VcpuGroup, plane: number): PlaneContext {
    const context = this.machine.createPlane(group.vp, PlaneId(plane));
    this.#start(group, context);
    return context;
  }

  /** A vCPU that is not the boot processor waits to be started, in every plane, as soon as a local APIC in the kernel could start it. */
  #start(group: VcpuGroup, context: PlaneContext): void {
    const isBsp = group.id === 0;
    const waits = this.hasKernelApic && !isBsp;
    this.hardware.place(context, group.id, isBsp);
    if (context.plane === 0) group.tscKhz = this.defaultTscKhz;
    this.hardware.setTscScale(context, tscScaleOf(this.defaultTscKhz, this.hostTscKhz));
    this.hardware.setWaitForSipi(context, waits);
    context.activity = waits ? Activity.WaitForSipi : Activity.Running;
    if (waits) group.uninitialized |= context.mask;
    this.touched(context);
  }

  /** The VMM changed state of a plane: what depends on it is computed anew. */
  touched(context: PlaneContext): void {
    this.machine.eventsChanged(context);
    this.machine.timersChanged(context);
    this.machine.checks?.authorise(context);
  }

  /** Queues a vector where userspace has the interrupt controller; it goes to the guest at its next entry. */
  injectVector(context: PlaneContext, vector: number): void {
    setReg(this.machine, context, 'interrupt.injected', 1n);
    setReg(this.machine, context, 'interrupt.soft', 0n);
    setReg(this.machine, context, 'interrupt.vector', BigInt(vector));
    if (context.activity === Activity.Halted) context.activity = Activity.Running;
    this.touched(context);
  }

  /** Sets whether all planes share one x87/SSE/AVX image; PKRU stays with each plane. */
  shareFpu(isShared: boolean): void {
    this.caps.planesFpu = isShared;
    const { groupRegisters } = this.behaviour;
    this.machine.setMeaning(plainPlanes, { shared: isShared ? [...groupRegisters, 'fpu'] : groupRegisters });
  }

  // -- time ----------------------------------------------------------------------------------------------------------

  /** Lets machine time pass while no vCPU runs; timers that come due become requests. @param ticks - machine ticks. */
  advance(ticks: number): void {
    const m = this.machine;
    m.time += ticks;
    for (const { vp } of this.#groups.values()) this.synchronise(vp);
  }

  /** Brings the clock of a VP that does not run to machine time, or machine time to the clock of the VP that just ran. */
  synchronise(vp: Vp): void {
    const m = this.machine;
    m.time = Math.max(m.time, m.timeOf(vp));
    vp.timeBase = m.time;
    vp.timeRetired = vp.retired;
    if (vp.deadline <= m.time) m.expireTimers(vp);
  }

  // -- state ---------------------------------------------------------------------------------------------------------

  save(): PlainState {
    const { caps, defaultTscKhz, irqchip, planes, hasPlanes, isDead, isStateProtected } = this;
    const saved: SavedVm = {
      caps: { ...caps },
      defaultTscKhz,
      irqchip,
      planes,
      hasPlanes,
      isDead,
      isStateProtected,
      hasWideIds: this.hardware.hasWideIds,
      routing: this.routing.save(),
      counters: this.counters.save(),
      groups: [...this.#groups.values()].map((g) => g.save()),
    };
    return saved as PlainState;
  }

  restore(state: PlainState): void {
    const s = state as SavedVm;
    Object.assign(this.caps, s.caps);
    this.defaultTscKhz = s.defaultTscKhz;
    this.irqchip = s.irqchip;
    this.planes = s.planes;
    this.hasPlanes = s.hasPlanes;
    this.isDead = s.isDead;
    this.isStateProtected = s.isStateProtected;
    this.hardware.hasWideIds = s.hasWideIds;
    this.resetRouting();
    this.routing.restore(s.routing);
    this.counters.restore(s.counters);
    for (const saved of s.groups) {
      let group = this.#groups.get(saved.id);
      if (!group) {
        group = new VcpuGroup(saved.id, this.machine.vp(saved.vp), this.behaviour.scheduler !== 'lowest-runnable');
        this.#groups.set(saved.id, group);
        this.#attach(group);
      } else if (group.vp.index !== saved.vp) throw new HostError('BadSnapshot', `vCPU ${saved.id} is VP ${group.vp.index} here and VP ${saved.vp} in the snapshot`);
      group.restore(saved);
    }
  }
}

/** Saved form of the facade's part of a VM; registers, events and memory are in the snapshot of the machine. */
type SavedVm = {
  readonly caps: VmCaps;
  readonly defaultTscKhz: number;
  readonly irqchip: Irqchip;
  readonly planes: number;
  readonly hasPlanes: boolean;
  readonly isDead: boolean;
  readonly isStateProtected: boolean;
  readonly hasWideIds: boolean;
  readonly routing: ReturnType<GsiRouting['save']>;
  readonly counters: PlainState;
  readonly groups: readonly SavedGroup[];
};

const PRIVATE = 8n;
const DIRTY_ENTRY = 16;
/** Entries kept for what one exit may still write. @spec Linux virt/kvm/dirty_ring.c kvm_dirty_ring_get_rsvd_entries */
const DIRTY_RESERVE = 64;
