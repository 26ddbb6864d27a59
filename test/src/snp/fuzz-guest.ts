import { buildVmsa, kvmVmsa, Vmsa } from '@vmplanes/abi-sev-snp';
import { createScope } from '@vmplanes/di';
import { Activity, ALL_PLANES, installEngine, InvariantChecks, type Machine, MemoryFaultInfo, PAGE_SIZE, type PlaneContext, PlaneId, type SchedulerPolicyName, Side, subject, SubjectKind, type Vp } from '@vmplanes/engine';
import { personality, SevSnpVmpl } from '@vmplanes/personality-sev-snp-vmpl';
import { ScriptCpu, type Step, type StepResult, X86Arch } from '@vmplanes/x86';

export const VPS = 2;
/** Memory of 4 MiB; its upper half is one region for entries of 2 MiB. */
export const PAGES = 0x400;
export const LARGE = 0x200;
/** First page for data of all kinds. */
export const DATA = 0x10;
export const DATA_PAGES = 6;
/** The built-in SVSM and the memory that it gives its guest. */
export const Svsm = { base: 0x100, size: 0x80, firmware: 0x80, firmwareSize: 0x10, secrets: 0x8d, cpuid: 0x8c, area: 0x8f, secondArea: 0x8e, vmsa: 0x84 } as const;
const TABLES = 0x1f0;
const C = 2n ** 51n;
export const vmsaPage = (vp: number, vmpl: number): number => 0x1d0 + vp * 4 + vmpl;
export const ghcbPage = (vp: number, vmpl: number): number => 0x1e0 + vp * 4 + vmpl;

/** What a random guest is made of; follows from its seed. */
export interface FuzzConfig {
  readonly svsm: boolean;
  readonly policy: SchedulerPolicyName;
  readonly refusedAccess: 'exit' | 'vmpl0';
  readonly restricted: boolean;
}

/** A step given to the VMPL that ran then. */
interface Issued {
  readonly step: Step;
  result: StepResult | null;
}

/** A machine with all chapters whose guest does what a list of acts says; the VMM helps where a guest goes on no more. */
export class FuzzGuest {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly snp: SevSnpVmpl;
  exits = 0;
  switches = 0;
  /** Kinds of exits and faults that were met. */
  readonly met = new Map<string, number>();
  readonly #queues = new Map<string, Issued[]>();
  readonly #inside = subject(SubjectKind.Host, ALL_PLANES, Side.OpenPrivate);
  readonly #shared = subject(SubjectKind.Host, ALL_PLANES, Side.OpenShared);

  constructor(readonly config: FuzzConfig) {
    const scope = createScope();
    this.arch = new X86Arch({ cpuModel: 'epyc-like' });
    this.machine = installEngine(scope, {
      arch: this.arch, policy: config.policy, rule: 'deliverable',
      options: { maxVps: VPS, maxPlanes: 3, memoryBytes: (2 * PAGES + 64) * PAGE_SIZE, quantum: 100, ticksPerInstruction: 100 },
    });
    this.machine.setMeaning(personality.meaning!({}));
    const page = (gpn: number): string => `0x${(gpn * PAGE_SIZE).toString(16)}`;
    const svsm = {
      svsm: 'builtin', svsmBase: page(Svsm.base), svsmSize: page(Svsm.size), callingArea: page(Svsm.area), firmwareBase: page(Svsm.firmware), firmwareSize: page(Svsm.firmwareSize), secretsPage: page(Svsm.secrets), cpuidPage: page(Svsm.cpuid), svsmApic: true,
    };
    const features = config.restricted ? ['RestrictedInjection', 'DebugSwap'] : [];
    const installed = personality.install(scope, { refusedAccess: config.refusedAccess, features, ...(config.svsm ? svsm : {}) });
    if (!(installed instanceof SevSnpVmpl)) throw new Error('not the personality');
    this.snp = installed;
    this.machine.addPersonality(installed);
    this.machine.memory.addSlot({ id: 0, gpa: 0, size: PAGES * PAGE_SIZE });
    this.#buildMemory();
    for (let v = 0; v < VPS; v++) this.#addVp(v);
    this.machine.on('plane-switch', () => void this.switches++);
    this.machine.checks = new InvariantChecks(this.machine);
  }

  #buildMemory(): void {
    const { rmp } = this.snp.chapters;
    for (const gpn of [TABLES, TABLES + 1]) rmp.launch(gpn, [0xf, 0xf, 0xf], false);
    this.poke(TABLES * PAGE_SIZE, [BigInt((TABLES + 1) * PAGE_SIZE) | C | 7n]);
    this.poke((TABLES + 1) * PAGE_SIZE, [C | 0xe7n]);
    // Valid, given, with some rights, and shared.
    rmp.launch(DATA, [0xf, 0xf, 0xf], false);
    rmp.launch(DATA + 1, [3, 1, 0], false);
    rmp.assign(DATA + 2, 1, true);
    if (this.config.svsm) this.poke(Svsm.vmsa * PAGE_SIZE, this.vmsa(2));
  }

  /** Bytes of a save area that may be entered. */
  vmsa(vmpl: number): Uint8Array {
    const sevFeatures = BigInt(this.snp.chapters.features.machineLo >>> 0);
    return buildVmsa({
      ...kvmVmsa({ eip: 0x1000, vmpl, sevFeatures }, 0),
      cs: { selector: 8, attributes: 0xa9b, limit: 0xffff_ffff, base: 0n },
      efer: 0x1d00n, cr0: 0x8000_0033n, cr3: BigInt(TABLES * PAGE_SIZE) | C, cr4: 0x620n, rip: 0x1000n, rflags: 0x202n,
    });
  }

  #addVp(v: number): void {
    const { switching } = this.snp.chapters;
    const vp = this.machine.createVp();
    const bindings = Object.fromEntries([0, 1, 2].map((p) => [p, { script: this.#program(v, p) }]));
    this.machine.setCpu(vp, new ScriptCpu(this.machine, this.arch, bindings));
    const planes = this.config.svsm ? [2] : [0, 1, 2];
    for (const p of planes) {
      if (!vp.planes[p]) switching.create(vp, p);
      const plane = switching.plane(vp, p)!;
      plane.registeredGhcb = ghcbPage(v, p) * PAGE_SIZE;
      const apic = this.arch.apicOf(plane.context);
      apic.writeApicBase(0xfee0_0c00 | (v === 0 ? 0x100 : 0), 0, true);
      apic.writeSvr(0x1ff);
      if (!this.config.svsm) this.#giveVmsa(v, p);
    }
    if (!this.config.svsm) switching.start(switching.plane(vp, 0)!);
  }

  #giveVmsa(v: number, vmpl: number): void {
    const gpn = vmsaPage(v, vmpl);
    this.snp.chapters.rmp.launch(gpn, [0, 0, 0], true);
    this.poke(gpn * PAGE_SIZE, this.vmsa(vmpl));
    this.snp.chapters.switching.plane(this.machine.vp(v), vmpl)!.vmsa = gpn * PAGE_SIZE;
  }

  #program(vp: number, plane: number) {
    const queue: Issued[] = [];
    this.#queues.set(`${vp}/${plane}`, queue);
    return {
      id: `VP ${vp} VMPL${plane}`,
      *main(): Generator<Step, void, StepResult> {
        for (;;) {
          const next = queue.shift();
          if (next === undefined) yield { op: 'work' };
          else next.result = yield next.step;
        }
      },
    };
  }

  /** The host writes guest memory on one side, whatever its state. */
  poke(gpa: number, what: Uint8Array | readonly bigint[], isPrivate = true): void {
    const bytes = what instanceof Uint8Array ? what : new Uint8Array(new BigUint64Array(what).buffer);
    this.machine.memory.access.write(isPrivate ? this.#inside : this.#shared, gpa, bytes, 0, bytes.length);
  }

  /** One instruction of every VP. @returns false when nothing can go on. */
  tick(): boolean {
    const patience = this.exits + 64;
    for (let left = this.machine.vps.length; left > 0 && this.exits < patience; ) {
      const { slices } = this.machine.scheduler;
      const stop = this.machine.run(left);
      left -= this.machine.scheduler.slices - slices;
      if (stop.kind === 'idle') return false;
      if (stop.kind === 'exit') this.#serve(stop.vp);
    }
    return true;
  }

  /** Gives a step to the VMPL that runs on a VP. @returns its result; null when it is not done in time. */
  attempt(step: Step, vp: number, patience: number): StepResult | null {
    const issued: Issued = { step, result: null };
    const plane = this.machine.vp(vp).current;
    this.#queues.get(`${vp}/${plane}`)!.push(issued);
    for (let i = 0; i < patience && issued.result === null && this.machine.vp(vp).current === plane; i++) if (!this.tick()) break;
    const { result } = issued;
    if (result === null) this.#help(this.machine.vp(vp));
    else if (result.fault !== null) this.#meet(`fault ${result.fault.vector}`);
    return result;
  }

  #meet(what: string): void {
    this.met.set(what, (this.met.get(what) ?? 0) + 1);
  }

  /** An instruction that nobody can do is passed over: by whoever may write the save area. */
  #skip(context: PlaneContext): void {
    const { vmsa, isLive } = this.snp.chapters.switching.planeOf(context);
    const { access } = this.machine.memory;
    if (isLive || access.readU64(this.#inside, vmsa + Vmsa.at.rip) !== 0) return;
    access.writeU64(this.#inside, vmsa + Vmsa.at.rip, access.lo + 1, access.hi);
  }

  /** What a VMM does with an exit. */
  #serve(vp: Vp): void {
    const { exit } = vp;
    this.exits++;
    this.#meet(exit?.kind ?? '');
    const { context } = vp;
    const { completion } = context;
    if (exit?.kind === 'sevTermination') for (const other of this.machine.vps) other.suspended = false;
    // Who leaves the choice of the plane outside chooses another one.
    if (exit?.kind === 'entryRefused') vp.named = 0;
    if (exit?.kind === 'entryRefused' && vp.current === 0) this.#help(vp);
    if (exit?.kind === 'createPlane') {
      const { vp: index, plane } = exit as { readonly kind: string; readonly vp: number; readonly plane: number };
      const target = this.machine.vps[index];
      if (target && plane < 3 && !target.planes[plane]) this.machine.createPlane(target, PlaneId(plane));
    }
    if (completion === null) {
      if (exit?.kind === 'memoryFault') this.#memoryFault(context, (exit as { readonly kind: string; readonly info: MemoryFaultInfo }).info);
      return;
    }
    if (completion.kind === 'refused') this.#skip(context);
    this.machine.reply(context, exit?.kind === 'service' ? { error: 'the service is off' } : { value: 0xffff_ffff, lo: 0xffff_ffff, hi: 0xffff_ffff });
  }

  /** An access to the other side of a page asks for it; one to nothing is passed over. */
  #memoryFault(context: PlaneContext, info: MemoryFaultInfo): void {
    const gpn = Math.floor(info.gpa / PAGE_SIZE);
    const { memory } = this.machine;
    if (memory.slots.find(gpn) !== null && memory.isPrivate(gpn) !== info.isPrivate && !this.snp.chapters.rmp.entry(gpn).immutable) this.snp.chapters.rmp.assign(gpn, 1, info.isPrivate);
    else this.#skip(context);
  }

  /** What an operator does for a VP that goes on by itself no more. */
  #help(vp: Vp): void {
    const { context } = vp;
    const { switching, vmsas } = this.snp.chapters;
    vp.suspended = false;
    if (context.activity === Activity.Halted) this.arch.apicOf(context).accept(4, 0, true, false);
    if (this.config.svsm) return;
    const plane = switching.planeOf(context);
    // A save area that cannot be entered is launched anew.
    if (plane.refusal !== null || context.activity === Activity.WaitForSipi) {
      const first = switching.plane(vp, 0)!;
      if (first.context.completion !== null || vp.running >= 0) return;
      if (vmsas.isInUse(vmsaPage(vp.index, 0))) return;
      this.#giveVmsa(vp.index, 0);
      first.isWaitingForReset = false;
      switching.start(first);
    }
  }
}
