import { SnpLevel, SvmExit } from '@vmplanes/abi-sev-snp';
import { createScope } from '@vmplanes/di';
import { Activity, ALL_PLANES, type ExitPayload, HostError, installEngine, InvariantChecks, type Machine, Outcome, PAGE_SIZE, type PlaneContext, PlaneId, Side, subject, SubjectKind, type Vp } from '@vmplanes/engine';
import { chapterMakers, type ChapterMakers, defaultOptions, type Injection, personality, type Rmp, SevSnpVmpl, type SnpOptions, type SnpPlane, type Switching, type Vmsas } from '@vmplanes/personality-sev-snp-vmpl';
import { readRegister, type RegisterName, type RegisterValues, ScriptCpu, type Step, type StepFault, type StepResult, writeRegister, X86Arch } from '@vmplanes/x86';

/** Guest memory: 8 MiB, identity mapped below. */
export const PAGES = 2048;
/** Linear addresses of the same pages: with C=1 in pages of 4 KiB, with C=0 in such pages, with C=1 in pages of 2 MiB. */
export const View = { Private: 0n, Shared: 0x4000_0000n, Large: 0x8000_0000n } as const;
/** A page that no table and no test of single pages uses, the first of 2 MiB. */
export const FREE = 0x400;
/** Where the page tables are, behind everything that tests use. */
export const TABLES = 0x700;
const C = 2n ** 51n;

/** What a chapter stored of an exit. */
export interface StoredExit {
  readonly vmpl: number;
  readonly code: number;
  readonly info1Lo: number;
  readonly info1Hi: number;
  readonly info2: number;
}

/** What one instruction came to. */
export interface Done {
  readonly fault: StepFault | null;
  readonly exit: ExitPayload | null;
  /** EAX, and the flags that a status writes. */
  readonly eax: number;
  readonly carry: boolean;
}

export interface RigOptions extends Partial<SnpOptions> {
  readonly vps?: number;
  readonly planes?: number;
}

/** The operand of RMPUPDATE. @spec APM vol. 3, RMPUPDATE */
export function updateOperand(gpn: number, { assigned = 1, pagesize = 0, immutable = 0, reserved = 0, asid = 1, gpa = gpn * 4096 } = {}): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(gpa), true);
  bytes.set([assigned, pagesize, immutable, reserved], 8);
  view.setUint32(12, asid, true);
  return bytes;
}

const missing = (name: string) => (): never => {
  throw new HostError('Internal', `the rig has no ${name}`);
};
const stateless = (stateName: string): Pick<Rmp, 'stateName' | 'save' | 'restore'> => ({ stateName, save: () => null, restore: () => {} });

/**
 * A machine with the chapters that keep pages and features, and stand-ins for those that keep registers: its VMPLs run by name, one instruction at a time,
 * in 64-bit mode over page tables that all of them may use.
 */
export class Rig {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly snp: SevSnpVmpl;
  readonly stored: StoredExit[] = [];
  /** Pages that processors run from. */
  readonly inUse = new Set<number>();
  readonly #planes = new Map<PlaneContext, SnpPlane>();

  constructor(readonly config: RigOptions = {}) {
    const { vps = 1, planes = 4, ...options } = config;
    this.arch = new X86Arch({ cpuModel: 'epyc-like' });
    const all: SnpOptions = { ...defaultOptions, ...options };
    this.machine = installEngine(createScope(), {
      arch: this.arch,
      policy: 'userspace',
      rule: 'deliverable',
      options: { maxVps: 4, maxPlanes: all.level === SnpLevel.SevSnp ? planes : 1, memoryBytes: (PAGES + 256) * PAGE_SIZE, quantum: 1000 },
    });
    this.machine.setMeaning(personality.meaning!({}));
    this.snp = new SevSnpVmpl(this.machine, this.arch, all, { ...this.#standIns(), features: chapterMakers.features!, rmp: chapterMakers.rmp! });
    this.machine.addPersonality(this.snp);
    this.machine.memory.addSlot({ id: 0, gpa: 0, size: PAGES * PAGE_SIZE });
    for (let v = 0; v < vps; v++) {
      const vp = this.machine.createVp();
      for (let p = 1; p < this.machine.options.maxPlanes; p++) this.machine.createPlane(vp, PlaneId(p));
    }
    this.#buildTables();
    for (const context of this.contexts) this.#start(context);
    this.machine.checks = new InvariantChecks(this.machine);
  }

  /** A machine with this one's state. */
  copy(): Rig {
    const other = new Rig(this.config);
    const snapshot = structuredClone(this.machine.snapshot());
    // The next step brings its own program.
    other.machine.restore({ ...snapshot, vps: snapshot.vps.map((vp) => ({ ...vp, cpu: null })) });
    return other;
  }

  get rmp(): Rmp {
    return this.snp.chapters.rmp;
  }
  get contexts(): readonly PlaneContext[] {
    return this.machine.vps.flatMap((vp) => vp.planes.filter((c) => c !== null));
  }
  context(vmpl = 0, vp = 0): PlaneContext {
    return this.machine.vp(vp).plane(vmpl);
  }
  plane(vmpl = 0, vp = 0): SnpPlane {
    return this.#planes.get(this.context(vmpl, vp))!;
  }

  #standIns(): Partial<ChapterMakers> {
    return {
      switching: (snp): Switching => ({
        ...stateless('switching'),
        plane: (vp, vmpl) => this.#planes.get(vp.plane(vmpl)) ?? null,
        planeOf: (context) => this.#planes.get(context)!,
        create: missing('Switching.create'),
        run: missing('Switching.run'),
        start: missing('Switching.start'),
        park: missing('Switching.park'),
        planeCreated: (context) => {
          const { machineLo, machineHi } = snp.chapters.features;
          this.#planes.set(context, { context, ghcbMsrLo: 0, ghcbMsrHi: 0, registeredGhcb: -1, doorbell: -1, vmsa: -1, pendingVmsa: -1, featuresLo: machineLo, featuresHi: machineHi, virtualTom: Number(snp.options.virtualTom), isWaitingForReset: false, isRunnable: true, isLive: false, refusal: null, resetHold: null, isNmiMasked: false });
        },
      }),
      vmsas: (): Vmsas =>
        ({
          ...stateless('vmsas'),
          isInUse: (gpn: number) => this.inUse.has(gpn),
          store: (plane: SnpPlane, code: number, info1Lo: number, info1Hi: number, info2Lo: number, info2Hi: number) => {
            this.stored.push({ vmpl: plane.context.plane, code, info1Lo, info1Hi, info2: info2Hi * 2 ** 32 + info2Lo });
          },
        }) as Partial<Vmsas> as Vmsas,
      injection: (): Injection => ({ ...stateless('injection'), raiseVc: (plane: SnpPlane, code: number) => plane.context.vp.replies.fault(29, code) }) as Partial<Injection> as Injection,
      aps: () => stateless('aps') as never,
      ghcb: () => ({ ...stateless('ghcb'), exit: (plane: SnpPlane) => plane.context.vp.replies.resume() }) as never,
      requests: () => stateless('requests') as never,
    };
  }

  /** Host writes to the side that the attribute of a page names. */
  poke(gpa: number, value: bigint): void {
    this.machine.memory.access.writeU64(subject(SubjectKind.Host, ALL_PLANES), gpa, Number(value & 0xffff_ffffn), Number(value >> 32n));
  }
  peek(gpa: number, isPrivate: boolean): bigint {
    const { access } = this.machine.memory;
    access.readU64(subject(SubjectKind.Host, ALL_PLANES, isPrivate ? Side.OpenPrivate : Side.OpenShared), gpa);
    return (BigInt(access.hi) << 32n) | BigInt(access.lo);
  }

  #buildTables(): void {
    let next = TABLES;
    const page = (): number => {
      const gpn = next++;
      if (this.snp.level === SnpLevel.SevSnp) this.rmp.launch(gpn, [0xf, 0xf, 0xf], false);
      return gpn * PAGE_SIZE;
    };
    const put = (gpa: number, value: bigint): void => {
      const { access } = this.machine.memory;
      access.writeU64(subject(SubjectKind.Host, ALL_PLANES, Side.OpenPrivate), gpa, Number(value & 0xffff_ffffn), Number(value >> 32n));
    };
    const pml4 = page();
    const pdpt = page();
    put(pml4, BigInt(pdpt) | C | 7n);
    [View.Private, View.Shared, View.Large].forEach((view, i) => {
      const pd = page();
      put(pdpt + Number(view >> 30n) * 8, BigInt(pd) | C | 7n);
      for (let big = 0; big < PAGES / 512; big++) {
        if (i === 2) put(pd + big * 8, BigInt(big * 512 * PAGE_SIZE) | C | 0xe7n);
        else {
          const pt = page();
          put(pd + big * 8, BigInt(pt) | C | 7n);
          for (let n = 0; n < 512; n++) put(pt + n * 8, BigInt((big * 512 + n) * PAGE_SIZE) | (i === 0 ? C : 0n) | 0x67n);
        }
      }
    });
  }

  /** 64-bit mode at privilege level 0. */
  #start(context: PlaneContext): void {
    context.activity = Activity.Running;
    this.arch.apicOf(context).latches.setWaitingForSipi(false);
    const set = (name: RegisterName, value: bigint): void => writeRegister(this.machine.arena, context.base, name, value);
    set('efer', 0x1d00n);
    set('cr4', 0x620n);
    set('cr3', BigInt(TABLES * PAGE_SIZE) | C);
    set('cr0', 0x8000_0033n);
    set('cs.attributes', 0xa9bn);
  }

  get(name: RegisterName, vmpl = 0, vp = 0): bigint {
    return readRegister(this.machine.arena, this.context(vmpl, vp).base, name);
  }
  set(name: RegisterName, value: bigint, vmpl = 0, vp = 0): void {
    writeRegister(this.machine.arena, this.context(vmpl, vp).base, name, value);
  }

  /** One step of a VMPL. */
  step(vmpl: number, step: Step, vpIndex = 0): Done {
    const vp: Vp = this.machine.vp(vpIndex);
    let result: StepResult | null = null;
    const main = function* (): Generator<Step, void, StepResult> {
      result = yield step;
    };
    this.machine.setCpu(vp, new ScriptCpu(this.machine, this.arch, { [vmpl]: { script: { id: 'step', main } } }));
    vp.named = vmpl;
    vp.context.activity = vp.plane(vmpl).activity = Activity.Running;
    vp.sliceEnd = vp.retired + 4;
    this.machine.checks?.outside();
    const outcome = this.machine.runVp(vp);
    // At the end of its script a plane halts.
    if (step.op !== 'hlt' && this.stored.at(-1)?.code === SvmExit.Hlt) this.stored.pop();
    const fault = (result as StepResult | null)?.fault ?? null;
    const exit = outcome === Outcome.Exit ? vp.exit : null;
    return { fault, exit, eax: Number(this.get('rax', vmpl, vpIndex) & 0xffff_ffffn), carry: (this.get('rflags', vmpl, vpIndex) & 1n) !== 0n };
  }

  instruction(vmpl: number, name: string, regs: RegisterValues, vp = 0): Done {
    return this.step(vmpl, { op: 'instruction', name, regs }, vp);
  }
  pvalidate(gpn: number, { vmpl = 0, size = 0, validate = true, view = View.Private as bigint, vp = 0 } = {}): Done {
    return this.instruction(vmpl, 'pvalidate', { rax: view + BigInt(gpn * PAGE_SIZE), rcx: size, rdx: validate ? 1 : 0 }, vp);
  }
  rmpadjust(gpn: number, target: number, mask: number, { vmpl = 0, size = 0, vmsa = false, view = View.Private as bigint, vp = 0 } = {}): Done {
    return this.instruction(vmpl, 'rmpadjust', { rax: view + BigInt(gpn * PAGE_SIZE), rcx: size, rdx: target | (mask << 8) | (vmsa ? 0x1_0000 : 0) }, vp);
  }
  rmpquery(gpn: number, target: number, { vmpl = 0, view = View.Private as bigint } = {}): Done {
    return this.instruction(vmpl, 'rmpquery', { rax: view + BigInt(gpn * PAGE_SIZE), rcx: 0, rdx: target });
  }
  read(gpn: number, { vmpl = 0, view = View.Private as bigint, vp = 0 } = {}): Done {
    return this.step(vmpl, { op: 'read', gva: view + BigInt(gpn * PAGE_SIZE), size: 8 }, vp);
  }
  write(gpn: number, { vmpl = 0, view = View.Private as bigint, value = 0x77n, vp = 0 } = {}): Done {
    return this.step(vmpl, { op: 'write', gva: view + BigInt(gpn * PAGE_SIZE), size: 8, value }, vp);
  }
  execute(gpn: number, { vmpl = 0, view = View.Private as bigint, user = false, vp = 0 } = {}): Done {
    return this.step(vmpl, { op: 'execute', gva: view + BigInt(gpn * PAGE_SIZE), user }, vp);
  }

  /** A private page that the guest has validated, with permissions for VMPL 1 to 3. */
  validPage(gpn: number, perms: readonly [number, number, number] = [0, 0, 0]): void {
    this.rmp.launch(gpn, perms, false);
  }
  /** 512 pages in one validated entry of 2 MiB. */
  largePage(gpn: number): void {
    this.rmp.assign(gpn, 512, true, true);
    this.rmp.validate(gpn, true, true);
  }
}
