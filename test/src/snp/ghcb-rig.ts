import { Ghcb, GHCB_MSR_CODE, type GhcbField, GhcbMsr, ghcbFields, ghcbValidBit, MessageHeader } from '@vmplanes/abi-sev-snp';
import { createScope } from '@vmplanes/di';
import { type Answer, type Claim, type Completion, type Cpu, type CpuExit, installEngine, InvariantChecks, type Machine, type MachineOptions, Outcome, PAGE_SIZE, type Personality, type PlainRecord, type PlainState, type PlaneContext, PlaneId, SharedCalls, Side, type Subject, subject, SubjectKind, type Vp } from '@vmplanes/engine';
import { type ApCreation, chapterMakers, defaultOptions, GhcbChapter, type GuestRequests, type Injection, personality, type Rmp, SevSnpVmpl, type SnpContext, type SnpOptions, type SnpPlane, type Switching, type Vmsas } from '@vmplanes/personality-sev-snp-vmpl';
import { personality as hyperv } from '@vmplanes/personality-hyperv-vtl';
import { CallKind, readRegister, type RegisterName, ScriptCpu, type TableScript, writeRegister, X86Arch, type X86Config, X86ExitRecords } from '@vmplanes/x86';

// A machine whose guests do nothing but VMGEXIT, with the real GHCB and small stand-ins of the chapters beside it: what a request
// makes of them is written down.

/** Pages of guest memory, private but for those from {@link SHARED} on. */
export const PAGES = 64;
/** First shared page. */
export const SHARED = 32;
/** The GHCB of (VP, VMPL). */
export const ghcbOf = (vp = 0, vmpl = 0): number => (SHARED + 4 * vp + vmpl) * PAGE_SIZE;
/** A shared page for data. */
export const DATA = (SHARED + 16) * PAGE_SIZE;
/** Where the shared buffer of the first GHCB begins. */
export const BUFFER = ghcbOf() + 0x800;

export interface GhcbRigConfig {
  readonly options?: Partial<SnpOptions>;
  readonly machine?: Partial<MachineOptions>;
  readonly x86?: Partial<X86Config>;
  readonly vps?: number;
  /** VMPLs of each VP. */
  readonly planes?: number;
  /** Installed before, so that its exits are taken over. */
  readonly beside?: { readonly name: string; readonly claims: readonly Claim[]; handle(context: PlaneContext, exit: CpuExit): Answer | null; complete?(context: PlaneContext, completion: Completion): Answer | null };
  readonly sharedCalls?: SharedCalls;
  /** The Hyper-V interface beside, without VTLs. */
  readonly hyperv?: boolean;
  /** Programs instead of VMGEXIT without end. */
  readonly script?: (vp: number, plane: number) => TableScript;
  /** A seeded defect: the security processor reads the request from guest memory again. */
  readonly readsRequestAgain?: boolean;
}

/** Fields of a request; what is named is marked valid. */
export type Request = Partial<Readonly<Record<GhcbField, bigint | number>>>;
/** What the guest sees afterwards: fields that are marked valid. */
export type Reply = Partial<Readonly<Record<GhcbField, bigint>>>;

/** What the stand-ins do, and what was asked of them. */
export class Log {
  readonly lines: string[] = [];
  /** Answers of the stand-ins, by what is asked. */
  doorbell: (request: number, gpa: number) => number = () => 0;
  ipi = true;
  create: () => number = () => 0;
  canRun = true;
  firmwareError = 0;
  certificates = new Uint8Array(0);
  take(): readonly string[] {
    return this.lines.splice(0);
  }
}

const quiet: { save(): PlainState; restore(state: PlainState): void } = { save: () => null, restore: () => undefined };

/** A guest that does nothing but VMGEXIT. */
class ExitingCpu implements Cpu {
  readonly #exits = new X86ExitRecords();
  run(vp: Vp): CpuExit {
    vp.retired += 1;
    vp.context.retired += 1;
    vp.context.instructionLength = 4;
    this.#exits.call.key = CallKind.Vmgexit;
    return this.#exits.call;
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

export class GhcbRig {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly snp: SevSnpVmpl;
  readonly log = new Log();
  readonly ghcb: GhcbChapter;
  readonly shared: Subject;
  readonly #planes = new Map<PlaneContext, SnpPlane>();

  constructor(config: GhcbRigConfig = {}) {
    const { vps = 1, planes = 2 } = config;
    this.arch = new X86Arch({ cpuModel: 'epyc-like', ...config.x86 });
    const scope = createScope();
    this.machine = installEngine(scope, { arch: this.arch, policy: 'lowest-runnable', rule: 'deliverable', options: { maxVps: vps, maxPlanes: planes, memoryBytes: 1 << 20, quantum: 1000, ...config.machine } });
    const options = { ...defaultOptions, ...config.options };
    const isSnp = options.level === 'sev-snp';
    this.shared = subject(SubjectKind.Host, 0, isSnp ? Side.Shared : Side.OpenShared, false);
    const { log, machine } = this;
    let ghcb: GhcbChapter | null = null;
    const makers = {
      features: chapterMakers.features!,
      rmp: (snp: SnpContext): Rmp => {
        const rmp = chapterMakers.rmp!(snp);
        const assign = rmp.assign.bind(rmp);
        rmp.assign = (gpn, count, isPrivate, large = false) => {
          log.lines.push(`${isPrivate ? 'private' : 'shared'} ${gpn}+${count}${large ? ' large' : ''}`);
          assign(gpn, count, isPrivate, large);
        };
        return rmp;
      },
      switching: (): Switching =>
        ({
          stateName: 'switching',
          planeOf: (context: PlaneContext) => this.plane(context),
          plane: (vp: Vp, vmpl: number) => (vp.planes[vmpl] ? this.plane(vp.plane(vmpl)) : null),
          run: (from: SnpPlane, vmpl: number) => {
            log.lines.push(`run ${from.context.plane}>${vmpl}`);
            return log.canRun && from.context.vp.planes[vmpl] ? from.context.vp.replies.switchTo(vmpl, 'run-vmpl', 'stopped') : null;
          },
          save: () => [...this.#planes.values()].map(({ context, ...rest }) => ({ vp: context.vp.index, vmpl: context.plane, ...rest })),
          restore: (state) => {
            for (const { vp, vmpl, ...rest } of state as readonly ({ vp: number; vmpl: number } & Omit<SnpPlane, 'context'>)[]) Object.assign(this.plane(machine.vp(vp).plane(vmpl)), rest);
          },
        }) as Switching,
      vmsas: (): Vmsas => ({ ...quiet, stateName: 'vmsas', store: () => undefined, isInUse: () => false }) as Partial<Vmsas> as Vmsas,
      injection: (): Injection =>
        ({
          ...quiet,
          stateName: 'injection',
          doorbell: (plane: SnpPlane, request: number, gpa: number) => {
            log.lines.push(`doorbell ${plane.context.plane} ${request} 0x${gpa.toString(16)}`);
            return log.doorbell(request, gpa);
          },
          ipi: (_plane: SnpPlane, lo: number, hi: number) => {
            log.lines.push(`ipi 0x${hi.toString(16)} 0x${lo.toString(16)}`);
            return log.ipi;
          },
          nmiComplete: (plane: SnpPlane) => {
            log.lines.push(`nmi complete ${plane.context.plane}`);
          },
          raiseVc: (plane: SnpPlane, code: number) => plane.context.vp.replies.fault(29, code),
        }) as Injection,
      aps: (): ApCreation =>
        ({
          ...quiet,
          stateName: 'aps',
          jumpTable: 0,
          create: (from: SnpPlane, lo: number, hi: number, vmsa: number, features: bigint | null) => {
            log.lines.push(`create by ${from.context.plane}: 0x${hi.toString(16)} 0x${lo.toString(16)} vmsa 0x${vmsa.toString(16)} features ${features === null ? 'none' : `0x${features.toString(16)}`}`);
            return log.create();
          },
          pending: { kind: 'exit', payload: { kind: 'createPlane' }, completion: null },
          hold: (plane: SnpPlane, through: 'msr' | 'ghcb') => {
            log.lines.push(`hold ${through}`);
            return plane.context.vp.replies.wait({ kind: 'key', key: 'sipi' }, 'advanced');
          },
        }) as ApCreation,
      ghcb: (snp: SnpContext) => (ghcb = new GhcbChapter(snp, snp.sharedCalls)),
      requests: (): GuestRequests =>
        ({
          ...quiet,
          stateName: 'requests',
          keys: [],
          message: (request: Uint8Array, response: Uint8Array) => {
            const type = config.readsRequestAgain === true ? this.read(DATA + MessageHeader.at.type, 1)[0] : request[MessageHeader.at.type];
            log.lines.push(`message ${type}`);
            response[0] = 0xa5;
            response[PAGE_SIZE - 1] = 0x5a;
            return log.firmwareError;
          },
          get certificates() {
            return log.certificates;
          },
        }) as GuestRequests,
    };
    machine.setMeaning(personality.meaning!({}));
    if (config.hyperv === true) machine.addPersonality(hyperv.install(scope, { maximumVtl: 0 }));
    const sharedCalls = scope.has(SharedCalls) ? scope.resolve(SharedCalls) : (config.sharedCalls ?? null);
    const { beside } = config;
    if (beside) machine.addPersonality({ stateName: beside.name, stateVersion: 1, ...quiet, ...beside } as Personality);
    this.snp = new SevSnpVmpl(machine, this.arch, options, makers, sharedCalls);
    machine.addPersonality(this.snp, [...(beside ? [beside.name] : []), ...(personality.over ?? [])]);
    this.ghcb = ghcb as GhcbChapter | null as GhcbChapter;
    machine.memory.addSlot({ id: 0, gpa: 0, size: PAGES * PAGE_SIZE });
    if (isSnp) for (let gpn = 0; gpn < SHARED; gpn++) this.snp.chapters.rmp.launch(gpn, [0xf, 0xf, 0xf], false);
    for (let v = 0; v < vps; v++) {
      const vp = machine.createVp();
      for (let p = 1; p < planes; p++) machine.createPlane(vp, PlaneId(p));
      const { script } = config;
      machine.setCpu(vp, script ? new ScriptCpu(machine, this.arch, Object.fromEntries(Array.from({ length: planes }, (_, p) => [p, { script: script(v, p) }]))) : new ExitingCpu());
      vp.plane(0).activity = 0;
      this.arch.apicOf(vp.plane(0)).latches.setWaitingForSipi(false);
      for (let p = 0; p < planes; p++) if (isSnp) this.plane(vp.plane(p)).registeredGhcb = ghcbOf(v, p);
    }
    machine.checks = new InvariantChecks(machine);
  }

  /** State of a VMPL, as the switching chapter keeps it. */
  plane(context: PlaneContext = this.machine.vp(0).context): SnpPlane {
    let plane = this.#planes.get(context);
    if (!plane) {
      plane = { context, ghcbMsrLo: 0, ghcbMsrHi: 0, registeredGhcb: -1, doorbell: -1, vmsa: -1, pendingVmsa: -1, featuresLo: 1, featuresHi: 0, isWaitingForReset: false, virtualTom: 0, isRunnable: true, isLive: true, refusal: null, resetHold: null, isNmiMasked: false };
      this.#planes.set(context, plane);
    }
    return plane;
  }

  // -- memory --------------------------------------------------------------------------------------------------------

  poke(gpa: number, value: bigint, length = 8): void {
    const bytes = new Uint8Array(new BigUint64Array([value]).buffer);
    this.write(gpa, bytes.subarray(0, length));
  }
  peek(gpa: number, length = 8): bigint {
    const bytes = new Uint8Array(8);
    bytes.set(this.read(gpa, length));
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }
  write(gpa: number, bytes: Uint8Array): void {
    const result = this.machine.memory.access.write(this.shared, gpa, bytes, 0, bytes.length);
    if (result !== 0) throw new Error(`cannot write 0x${gpa.toString(16)}: ${result}`);
  }
  read(gpa: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const result = this.machine.memory.access.read(this.shared, gpa, bytes, 0, length);
    if (result !== 0) throw new Error(`cannot read 0x${gpa.toString(16)}: ${result}`);
    return bytes;
  }

  // -- requests ------------------------------------------------------------------------------------------------------

  /** Lets a VP run one instruction of its current VMPL. */
  step(vp = 0): Outcome {
    const { machine } = this;
    const v = machine.vp(vp);
    v.sliceEnd = v.retired + 1;
    return machine.runVp(v);
  }

  /** Fills the page of a VMPL as a guest does: the named fields, and their bits. */
  fill(request: Request, page = ghcbOf()): void {
    const bitmap = new Uint8Array(16);
    for (const [name, value] of Object.entries(request)) {
      const field = name as GhcbField;
      this.poke(page + Ghcb.at[field], BigInt.asUintN(64, BigInt(value)), field === 'cpl' ? 1 : 8);
      bitmap[ghcbValidBit[field] >>> 3]! |= 1 << (ghcbValidBit[field] & 7);
    }
    this.write(page + Ghcb.at.validBitmap, bitmap);
  }

  setMsr(value: bigint, plane = this.plane()): void {
    plane.ghcbMsrLo = Number(value & 0xffff_ffffn);
    plane.ghcbMsrHi = Number(value >> 32n);
  }
  getMsr(plane = this.plane()): bigint {
    return (BigInt(plane.ghcbMsrHi) << 32n) | BigInt(plane.ghcbMsrLo);
  }

  /** The MSR protocol: a request, and what the MSR holds afterwards. */
  msr(value: bigint): bigint {
    const caller = this.plane();
    this.setMsr(value, caller);
    this.step();
    return this.getMsr(caller);
  }

  /** What the page says: fields that are marked valid. */
  reply(page = ghcbOf()): Reply {
    const bitmap = this.read(page + Ghcb.at.validBitmap, 16);
    const valid = ghcbFields.filter((f) => (bitmap[ghcbValidBit[f] >>> 3]! & (1 << (ghcbValidBit[f] & 7))) !== 0);
    return Object.fromEntries(valid.map((f) => [f, this.peek(page + Ghcb.at[f], f === 'cpl' ? 1 : 8)]));
  }

  /** An event: fills the page, exits, and gives what the page says afterwards. */
  event(code: number | bigint, info1: number | bigint = 0, info2: number | bigint = 0, fields: Request = {}): Reply {
    return this.ask({ swExitCode: code, swExitInfo1: info1, swExitInfo2: info2, ...fields });
  }
  /** The same with all fields named. */
  ask(request: Request, page = ghcbOf()): Reply {
    this.fill(request, page);
    this.setMsr(BigInt(page));
    this.step();
    return this.reply(page);
  }
  /** Result words of an event: SW_EXITINFO1 and SW_EXITINFO2. */
  result(code: number | bigint, info1: number | bigint = 0, info2: number | bigint = 0, fields: Request = {}): readonly bigint[] {
    const { swExitInfo1, swExitInfo2 } = this.event(code, info1, info2, fields);
    return [swExitInfo1 ?? -1n, swExitInfo2 ?? -1n];
  }

  /** Tells what the machine notes. */
  trace(note: (name: string, data: PlainState) => void): void {
    const silent = (): void => undefined;
    this.machine.hooks.trace = { entered: silent, exit: silent, answer: silent, switched: silent, accepted: silent, vmExit: silent, input: silent, permission: silent, note: (_context, name, data) => note(name, structuredClone(data)) };
  }

  get(register: RegisterName, context: PlaneContext = this.machine.vp(0).context): bigint {
    return readRegister(this.machine.arena, context.base, register);
  }
  set(register: RegisterName, value: bigint, context: PlaneContext = this.machine.vp(0).context): void {
    this.machine.checks?.authorise(context);
    writeRegister(this.machine.arena, context.base, register, value);
  }
  /** Bytes that the first VMPL of the first VP went since its start. */
  rip(): bigint {
    return this.get('rip', this.machine.vp(0).plane(0)) - 0xfff0n;
  }

  /** The payload of the last exit of a VP. */
  exit(vp = 0): unknown {
    return structuredClone(this.machine.vp(vp).exit);
  }
  /** Answers the exit of a VMPL, and lets it go on. */
  answer(reply: PlainRecord, vp = 0): Outcome {
    const v = this.machine.vp(vp);
    this.machine.reply(v.context, reply);
    // Enough to finish, not enough for another request.
    v.sliceEnd = v.retired;
    return this.machine.runVp(v);
  }
}

/** A machine at a level, for tables of cases. */
export const snp = (config: GhcbRigConfig = {}): GhcbRig => new GhcbRig(config);
export const es = (options: Partial<SnpOptions> = {}, config: GhcbRigConfig = {}): GhcbRig => new GhcbRig({ ...config, planes: 1, options: { level: 'sev-es', ...options } });
/** The same with the first version of the protocol. */
export const v1 = (): GhcbRig => es({ ghcbVersion: 1 });

/** Results of requests that are not valid, by reason. */
export const invalid = (reason: number): readonly bigint[] => [2n, BigInt(reason)];
export const DONE = [0n, 0n] as const;
/** The guest shall take an exception. */
export const exception = (vector: number, errorCode?: number): readonly bigint[] => [1n, BigInt(vector) | 0x300n | (errorCode === undefined ? 0n : 0x800n | (BigInt(errorCode) << 32n)) | 0x8000_0000n];
/** The request of the MSR protocol that a row names, with operands in bits 63:12. */
export const request = (name: keyof typeof GhcbMsr, operands = 0n): bigint => operands | BigInt(GhcbMsr[name].code & GHCB_MSR_CODE);
