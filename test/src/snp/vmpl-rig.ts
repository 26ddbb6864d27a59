import { buildVmsa, linuxApVmsa, SevFeature, SnpLevel, Vmsa, type VmsaValues } from '@vmplanes/abi-sev-snp';
import { createScope } from '@vmplanes/di';
import { Activity, ALL_PLANES, type ExitPayload, HostError, installEngine, InvariantChecks, type Machine, PAGE_SIZE, type PlaneContext, PlaneId, Side, subject, SubjectKind, type Vp } from '@vmplanes/engine';
import { chapterMakers, type ChapterMakers, defaultOptions, personality, SevSnpVmpl, type SnpOptions, type SnpPlane } from '@vmplanes/personality-sev-snp-vmpl';
import { readRegister, type RegisterName, type Script, ScriptCpu, type Step, X86Arch } from '@vmplanes/x86';

/** Guest memory: 4 MiB. */
const PAGES = 1024;
/** In an address of a step: the private side. */
export const C = 2 ** 51;
export const GHCB_MSR = 0xc001_0130;
export const SNP = 1n << BigInt(SevFeature.SnpActive);
/** Page of the first save area; that of VMPL n of VP v lies at `vmsaOf`. */
const VMSAS = 0x101;
export const vmsaOf = (vp: number, vmpl: number): number => (VMSAS + vp * 8 + vmpl) * PAGE_SIZE;

/** A program of one VMPL. */
export type Program = Script | readonly Step[];

export interface VmplRigOptions extends Partial<SnpOptions> {
  readonly vps?: number;
  readonly planes?: number;
  /** VMPLs that get a save area on every VP at the start; default all planes. */
  readonly vmsas?: readonly number[];
  /** Values of a save area beside those of a fresh one. */
  readonly vmsa?: (vp: number, vmpl: number) => VmsaValues;
  /** By VP, then by VMPL. */
  readonly programs?: readonly Readonly<Partial<Record<number, Program>>>[];
  readonly checked?: boolean;
  /** VPs have VMPL0 alone at the start. */
  readonly lazy?: boolean;
  /** With the security processor of the product, too. */
  readonly whole?: boolean;
}

/** Run VMPL through the MSR protocol. */
export const runVmpl = (vmpl: number): readonly [Step, Step] => [
  { op: 'wrmsr', index: GHCB_MSR, value: (BigInt(vmpl) << 32n) | 0x16n },
  { op: 'call', via: 'vmgexit' },
];
/** Any other request through the MSR. */
export const request = (value: bigint | number): readonly [Step, Step] => [
  { op: 'wrmsr', index: GHCB_MSR, value },
  { op: 'call', via: 'vmgexit' },
];

const silent = (stateName: string) => ({ stateName, save: () => null, restore: () => {} });

/** A machine with the real chapters of registers and pages; every VMPL runs from a save area in guest memory. */
export class VmplRig {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly snp: SevSnpVmpl;
  readonly cpus: ScriptCpu[] = [];
  readonly exits: ExitPayload[] = [];
  readonly #private = subject(SubjectKind.Host, ALL_PLANES, Side.OpenPrivate);
  readonly #shared = subject(SubjectKind.Host, ALL_PLANES, Side.OpenShared);

  constructor(readonly options: VmplRigOptions = {}) {
    const { vps = 1, planes = 4, vmsas, vmsa, programs = [], checked = true, lazy = false, whole = false, ...own } = options;
    const all: SnpOptions = { ...defaultOptions, ...own };
    const isSnp = all.level === SnpLevel.SevSnp;
    const maxPlanes = isSnp ? planes : 1;
    this.arch = new X86Arch({ cpuModel: 'epyc-like' });
    this.machine = installEngine(createScope(), {
      arch: this.arch,
      policy: 'lowest-runnable',
      rule: 'deliverable',
      options: { maxVps: Math.max(vps, 2), maxPlanes, memoryBytes: (PAGES + 128) * PAGE_SIZE, quantum: 200 },
    });
    this.machine.setMeaning(personality.meaning!({}));
    const makers: Partial<ChapterMakers> = whole ? chapterMakers : { ...chapterMakers, requests: () => silent('requests') as never };
    this.snp = new SevSnpVmpl(this.machine, this.arch, all, makers);
    this.machine.addPersonality(this.snp);
    this.machine.memory.addSlot({ id: 0, gpa: 0, size: PAGES * PAGE_SIZE });
    for (let v = 0; v < vps; v++) {
      const vp = this.machine.createVp();
      if (!lazy) for (let p = 1; p < maxPlanes; p++) this.machine.createPlane(vp, PlaneId(p));
      const bindings = Object.fromEntries(Object.entries(programs[v] ?? {}).map(([p, program]) => [p, { script: 'id' in program! ? program : { id: `VP ${v} VMPL${p}`, steps: program! } }]));
      const cpu = new ScriptCpu(this.machine, this.arch, bindings);
      this.cpus.push(cpu);
      this.machine.setCpu(vp, cpu);
      for (const context of vp.planes) if (context) this.arch.apicOf(context).writeSvr(0x1ff);
      if (isSnp) for (const vmpl of vmsas ?? Array.from({ length: maxPlanes }, (_, p) => p)) this.giveVmsa(v, vmpl, vmsa?.(v, vmpl));
      else this.snp.chapters.vmsas.launch(this.plane(v, 0), this.page(0, vmsa?.(v, 0) ?? {}));
      if (v > 0 && isSnp) this.snp.chapters.switching.start(this.plane(v, 0));
    }
    if (checked) this.machine.checks = new InvariantChecks(this.machine);
  }

  /** The bytes of a fresh save area. */
  page(vmpl: number, values: VmsaValues = {}): Uint8Array {
    const sevFeatures = BigInt(this.snp.chapters.features.machineLo >>> 0);
    return buildVmsa({ ...linuxApVmsa({ vmpl, sevFeatures, start: 0x1000, mce: false }), rip: 0x1000n, ...values });
  }
  /** A validated page with the VMSA bit becomes the save area of a VMPL. */
  giveVmsa(vp: number, vmpl: number, values: VmsaValues = {}): void {
    const gpa = vmsaOf(vp, vmpl);
    this.snp.chapters.rmp.launch(gpa / PAGE_SIZE, [0, 0, 0], true);
    this.machine.memory.access.write(this.#private, gpa, this.page(vmpl, values), 0, PAGE_SIZE);
    this.plane(vp, vmpl).vmsa = gpa;
  }

  vp(index = 0): Vp {
    return this.machine.vp(index);
  }
  context(vp = 0, vmpl = 0): PlaneContext {
    return this.machine.vp(vp).plane(vmpl);
  }
  plane(vp = 0, vmpl = 0): SnpPlane {
    return this.snp.chapters.switching.plane(this.machine.vp(vp), vmpl)!;
  }
  get(name: RegisterName, vp = 0, vmpl = 0): bigint {
    return readRegister(this.machine.arena, this.context(vp, vmpl).base, name);
  }

  // -- memory --------------------------------------------------------------------------------------------------------

  peek(gpa: number, isPrivate = true): bigint {
    const { access } = this.machine.memory;
    if (access.readU64(isPrivate ? this.#private : this.#shared, gpa) !== 0) throw new HostError('Internal', `nothing at 0x${gpa.toString(16)}`);
    return (BigInt(access.hi) << 32n) | BigInt(access.lo);
  }
  poke(gpa: number, value: bigint, isPrivate = true): void {
    this.machine.memory.access.writeU64(isPrivate ? this.#private : this.#shared, gpa, Number(value & 0xffff_ffffn), Number(value >> 32n));
  }
  byte(gpa: number, isPrivate = false): number {
    const { access } = this.machine.memory;
    access.readU8(isPrivate ? this.#private : this.#shared, gpa);
    return access.lo;
  }
  putByte(gpa: number, value: number, isPrivate = false): void {
    this.machine.memory.access.writeU8(isPrivate ? this.#private : this.#shared, gpa, value);
  }
  /** A 64-bit field of the save area of a VMPL. */
  field(name: keyof typeof Vmsa.at, vp = 0, vmpl = 0): bigint {
    return this.peek(this.plane(vp, vmpl).vmsa + Vmsa.at[name]);
  }
  setField(name: keyof typeof Vmsa.at, value: bigint, vp = 0, vmpl = 0): void {
    this.poke(this.plane(vp, vmpl).vmsa + Vmsa.at[name], value);
  }
  area(vp = 0, vmpl = 0): Uint8Array {
    const bytes = new Uint8Array(PAGE_SIZE);
    this.machine.memory.access.read(this.#private, this.plane(vp, vmpl).vmsa, bytes, 0, PAGE_SIZE);
    return bytes;
  }
  /** Pages that the guest owns and has validated, for its VMPLs as told. */
  own(gpn: number, perms: readonly [number, number, number] = [0xf, 0xf, 0xf]): void {
    this.snp.chapters.rmp.launch(gpn, perms, false);
  }

  // -- running -------------------------------------------------------------------------------------------------------

  /** Runs all VPs until nothing is left to do, replying to each exit; collects the exits. */
  run(reply: (exit: ExitPayload, vp: Vp) => 'stop' | object = () => 'stop'): readonly ExitPayload[] {
    const exits: ExitPayload[] = [];
    for (let i = 0; i < 1000; i++) {
      const stop = this.machine.run(50);
      if (stop.kind === 'idle') break;
      if (stop.kind !== 'exit') continue;
      exits.push({ ...stop.vp.exit! });
      const answer = reply(stop.vp.exit!, stop.vp);
      if (answer === 'stop') break;
      if (stop.vp.context.completion !== null) this.machine.reply(stop.vp.context, answer as never);
    }
    this.exits.push(...exits);
    return exits;
  }
  failure(vp = 0): string | null {
    for (let p = 0; p < 4; p++) {
      const failed = this.cpus[vp]!.failure(p);
      if (failed !== null) return failed;
    }
    return null;
  }
  isHalted(vp = 0, vmpl = 0): boolean {
    return this.context(vp, vmpl).activity === Activity.Halted;
  }
}
