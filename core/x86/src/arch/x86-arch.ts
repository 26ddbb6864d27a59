import {
  Activity,
  type Answer,
  type Arch,
  Arena,
  type Completion,
  type ContextLayout,
  type CpuExit,
  type EventSource,
  type Fault,
  HostError,
  type Machine,
  type MemoryFaultInfo,
  type PlaneContext,
  Right,
  type Subject,
  type Vp,
} from '@vmplanes/engine';
import { type DeliveryMode, LocalApic, LOCAL_APIC_BYTES, readPage, writePage } from '../apic/index.ts';
import { type MmioExit, type X86Exit, x86ExitKinds } from '../exits.ts';
import type { Access, Privilege, Translation, WalkResult } from '../mmu/index.ts';
import { X86, x86ContextLayout } from '../state/layout.ts';
import { initializeContext, isResetKind, resetContext, ResetKind } from '../state/reset.ts';
import type { InstructionRow } from './instructions.ts';
import { ApicFabric } from './apic-fabric.ts';
import { SystemRegisters } from './system-registers.ts';
import { type MemorySides, SidedSubjects } from './sides.ts';
import { PlaneWalker } from './walks.ts';
import { checkApicIds, completeX86Config, type X86Config } from './x86-config.ts';
import { type EventDoor, X86Events } from './x86-events.ts';

const CR2_VECTOR = 14;
const SMEP = 1 << 20;

/** What the x86 architecture keeps per plane context besides its block. */
interface PlaneParts {
  readonly apic: LocalApic;
  readonly walker: PlaneWalker;
  readonly sided: SidedSubjects | null;
}

/**
 * The x86 architecture as the engine sees it: context block, local APICs and their maps, page walks, and the answers to
 * exits that no personality claims.
 */
export class X86Arch implements Arch {
  readonly name = 'x86';
  readonly layout: ContextLayout = x86ContextLayout;
  readonly exitKinds: readonly string[] = x86ExitKinds;
  readonly freshReset: ResetKind = 'powerOn';
  readonly config: X86Config;
  readonly registers: SystemRegisters;
  /** The mode of a fetch, not the page, decides which execute right of the second stage it needs. Set by whoever gives planes such rights. */
  executeRightsByMode = false;
  /** Planes whose events come in another way than processors take them; null while every plane is ordinary. */
  eventDoor: ((context: PlaneContext) => EventDoor | null) | null = null;
  /** With that, a fetch in user mode needs the user's execute right even while SMEP is off. */
  executeRightsIgnoreSmep = false;
  #sides: MemorySides | null = null;
  /** Exceptions that leave to their claimant before they are delivered; null while nobody asks. One that is left standing is delivered. */
  exceptionExits: ((context: PlaneContext, vector: number) => boolean) | null = null;
  #machine!: Machine;
  #apicArena!: Arena;
  #fabric!: ApicFabric;
  /** By VP index * 16 + plane. */
  readonly #parts: (PlaneParts | undefined)[] = [];
  readonly #instructions = new Map<string, InstructionRow>();

  /** @throws {HostError} BadConfig names what does not fit together. */
  constructor(config: Partial<X86Config> = {}) {
    this.config = completeX86Config(config);
    this.registers = new SystemRegisters(this);
  }

  get machine(): Machine {
    return this.#machine;
  }
  /** APIC maps, message routing and interprocessor interrupts of all planes. */
  get fabric(): ApicFabric {
    return this.#fabric;
  }

  /** Which side of memory accesses mean; null where only the attribute of a page says so. */
  get sides(): MemorySides | null {
    return this.#sides;
  }
  /** @throws {HostError} BadState once a VP exists. */
  setSides(sides: MemorySides): void {
    if (this.#machine.vps.length > 0) throw new HostError('BadState', 'the sides of memory are fixed once a VP exists');
    this.#sides = sides;
    this.registers.setAddressMark(sides.bit);
  }

  attach(machine: Machine): void {
    if (this.#machine) throw new HostError('BadState', 'this architecture object belongs to a machine already');
    this.#machine = machine;
    const { maxVps, maxPlanes } = machine.options;
    checkApicIds(this.config.apicIds, maxVps);
    this.#apicArena = new Arena(new ArrayBuffer(maxVps * maxPlanes * LOCAL_APIC_BYTES));
    this.#fabric = new ApicFabric(machine, this);
    machine.addComponent(this.registers);
  }

  createContext(context: PlaneContext): EventSource {
    const { vp, plane, base } = context;
    const m = this.#machine;
    const isBsp = vp.index === 0;
    initializeContext(m.arena, base, this.#resetParameters(isBsp));
    const at = (vp.index * m.options.maxPlanes + plane) * LOCAL_APIC_BYTES;
    const apic = this.#fabric.createApic(context, this.#apicArena, at);
    const { addressModel, features } = this.registers;
    const sided = this.#sides === null ? null : new SidedSubjects(context, this.#sides);
    this.#parts[vp.index * 16 + plane] = { apic, walker: new PlaneWalker(m, context, addressModel, this.#byMode, features.smep && !this.executeRightsIgnoreSmep, sided), sided };
    const events = new X86Events(m, context, apic, this.#fabric.external, () => this.#resetParameters(isBsp), this.#taken, this.#admits, this.#door);
    // The first plane of an application processor waits to be started; further planes are started by whoever enables them.
    context.activity = isBsp || plane !== 0 ? Activity.Running : Activity.WaitForSipi;
    if (plane !== 0) apic.latches.setWaitingForSipi(false);
    return events;
  }

  destroyContext(context: PlaneContext): void {
    this.#fabric.router.remove(this.apicOf(context));
    this.#parts[context.vp.index * 16 + context.plane] = undefined;
  }

  readonly #door = (context: PlaneContext): EventDoor | null => (this.eventDoor === null ? null : this.eventDoor(context));
  readonly #byMode = (): boolean => this.executeRightsByMode;

  readonly #admits = (apic: LocalApic, mode: DeliveryMode): boolean => this.#fabric.filter?.(apic.vp, apic.plane, mode) ?? true;
  readonly #taken = (apic: LocalApic, vector: number): void => this.#fabric.onTaken?.(apic, vector);

  #resetParameters(isBsp: boolean): { readonly isBsp: boolean; readonly signature: number; readonly mxcsrMask: number } {
    const { signature, mxcsrMask } = this.registers.features;
    return { isBsp, signature, mxcsrMask };
  }

  reset(context: PlaneContext, kind: string): void {
    if (!isResetKind(kind)) throw new HostError('BadState', `no reset '${kind}'; there are ${Object.keys(ResetKind).join(', ')}`);
    resetContext(this.#machine.arena, context.base, kind, this.#resetParameters(context.vp.index === 0));
    const apic = this.apicOf(context);
    if (kind === 'init') apic.latches.init();
    else {
      apic.reset();
      if (context.plane !== 0) apic.latches.setWaitingForSipi(false);
      context.edges = 0;
      context.clockOffset = 0;
      context.instructionLength = 0;
    }
    context.activity = apic.latches.isWaitingForSipi ? Activity.WaitForSipi : Activity.Running;
  }

  #partsOf(context: PlaneContext): PlaneParts {
    return this.#parts[context.vp.index * 16 + context.plane]!;
  }
  apicOf(context: PlaneContext): LocalApic {
    return this.#partsOf(context).apic;
  }

  // -- memory --------------------------------------------------------------------------------------------------------

  /** Walks the page tables of a plane. @returns borrowed until the next walk of that plane. */
  walk(context: PlaneContext, lo: number, hi: number, access: Access, privilege: Privilege): WalkResult {
    return this.#partsOf(context).walker.walk(lo, hi, access, privilege);
  }
  /** Walks the page tables of a plane for a guest interface, see {@link PlaneWalker.probe}. @returns borrowed until the next walk of that plane. */
  probe(context: PlaneContext, lo: number, hi: number, access: Access, privilege: Privilege, setFlags: boolean, smap: 'on' | 'off' | null): WalkResult {
    return this.#partsOf(context).walker.probe(lo, hi, access, privilege, setFlags, smap);
  }
  /** The execute right that a fetch needs where no page table tells. */
  fetchRight(context: PlaneContext, user: boolean): number {
    const smepOff = this.registers.features.smep && !this.executeRightsIgnoreSmep && (this.#machine.arena.u32[(context.base + X86.cr4) >>> 2]! & SMEP) === 0;
    return user && !(this.executeRightsByMode && smepOff) ? Right.ExecUser : Right.ExecSupervisor;
  }
  /** Looks a linear address up for the VMM, without rights or side effects. */
  translate(context: PlaneContext, linear: bigint): Translation {
    return this.#partsOf(context).walker.translate(linear);
  }
  /** Who makes the access that the last walk of this plane was for. */
  walkedAs(context: PlaneContext): Subject {
    return this.#partsOf(context).walker.leafSubject;
  }
  /** Who makes an access of this plane at a physical address. @param marked - the address carries the bit of {@link MemorySides}. */
  accessAs(context: PlaneContext, gpa: number, marked: boolean, isFetch: boolean): Subject {
    const { sided } = this.#partsOf(context);
    return sided === null ? this.#machine.memory.subjects[context.plane]!.cpu : sided.cpu(gpa, marked, isFetch);
  }
  describeWalkRefusal(context: PlaneContext, info: MemoryFaultInfo): void {
    this.#partsOf(context).walker.describeRefusal(info);
  }

  // -- contributed instructions --------------------------------------------------------------------------------------

  /** @throws {HostError} DoubleClaim when the mnemonic is taken. */
  contribute(row: InstructionRow): void {
    if (this.#instructions.has(row.mnemonic)) throw new HostError('DoubleClaim', `the instruction '${row.mnemonic}' is contributed twice`);
    this.#instructions.set(row.mnemonic, row);
  }
  /** @returns null for an instruction that nobody contributed: an invalid opcode. */
  instruction(mnemonic: string): InstructionRow | null {
    return this.#instructions.get(mnemonic) ?? null;
  }

  // -- exits ---------------------------------------------------------------------------------------------------------

  retire(context: PlaneContext): void {
    const { u32 } = this.#machine.arena;
    const rip = (context.base + X86.rip) >>> 2;
    const low = u32[rip]! + context.instructionLength;
    u32[rip] = low;
    if (low > 0xffff_ffff) u32[rip + 1]! += 1;
    u32[(context.base + X86.interruptShadow) >>> 2] = 0;
  }

  injectFault(context: PlaneContext, fault: Fault): void {
    const { u32 } = this.#machine.arena;
    const word = context.base >>> 2;
    u32[word + X86['exception.state'] / 4] = 1;
    u32[word + X86['exception.vector'] / 4] = fault.code;
    u32[word + X86['exception.hasErrorCode'] / 4] = fault.errorCode === null ? 0 : 1;
    u32[word + X86['exception.errorCode'] / 4] = fault.errorCode ?? 0;
    u32[word + X86['exception.hasPayload'] / 4] = fault.code === CR2_VECTOR ? 1 : 0;
    u32[word + X86['exception.payload'] / 4] = fault.addressLo;
    u32[word + X86['exception.payload'] / 4 + 1] = fault.addressHi;
  }

  /** An access to the register page of a plane's own local APIC, in xAPIC mode. @returns whether it was one. */
  apicPage(context: PlaneContext, exit: MmioExit): boolean {
    const apic = this.apicOf(context);
    const page = apic.pageAddress;
    if (page < 0 || exit.key < page || exit.key >= page + 4096) return false;
    const offset = exit.key - page;
    if (exit.write) writePage(apic, offset, exit.size, exit.lo);
    else this.loadRax(context, exit.size, readPage(apic, offset, exit.size), 0);
    return true;
  }

  get screen(): SystemRegisters['screen'] {
    return this.registers.screen;
  }
  unclaimed(context: PlaneContext, exit: CpuExit): Answer {
    const e = exit as X86Exit;
    const { replies } = context.vp;
    switch (e.kind) {
      case 'call':
        // No hypervisor interface was configured: the instruction does not exist.
        return replies.fault(6);
      case 'msr':
        return this.registers.msr(context, e);
      case 'cpuid':
        this.registers.cpuid(context, e);
        return replies.resume();
      case 'register':
        return this.registers.move(context, e);
      case 'mmio':
        if (this.apicPage(context, e)) return replies.resume();
        return replies.exit(
          { kind: 'mmio', write: e.write, gpa: e.key, size: e.size, lo: e.lo, hi: e.hi } as { kind: 'mmio' },
          e.write ? null : { owner: 'arch', kind: 'mmio', data: { size: e.size }, reply: null },
        );
      case 'io':
        return replies.exit(
          { kind: 'io', write: e.write, port: e.key, size: e.size, value: e.value } as { kind: 'io' },
          e.write ? null : { owner: 'arch', kind: 'io', data: { size: e.size }, reply: null },
        );
      case 'busLock':
        return this.#busLock(context.vp);
      case 'exception':
        // Nobody wants it: it is delivered.
        return replies.retry();
      case 'interruptWindow':
        return replies.exit({ kind: 'interruptWindow' });
      case 'debug':
        return replies.exit({ kind: 'debug', dr6: e.dr6 } as { kind: 'debug' });
      case 'halt':
      case 'budget':
      case 'shutdown':
      case 'memoryFault':
        throw new HostError('Internal', `the engine answers '${e.kind}' itself`);
      default: {
        const never: never = e;
        throw new HostError('Internal', `unknown exit ${JSON.stringify(never)}`);
      }
    }
  }

  /** Counts a bus lock; with exits on the VMM sees it, with a rate limit the VP stalls until its next one is due. */
  #busLock(vp: Vp): Answer {
    const { busLock } = this.config;
    vp.busLocks++;
    if (this.registers.busLockExits) return vp.replies.exit({ kind: 'busLock', count: vp.busLocks } as { kind: 'busLock' });
    if (busLock.perSecond === 0) return vp.replies.resume();
    const m = this.#machine;
    const now = m.timeOf(vp);
    const due = Math.max(vp.busLockUntil, now);
    vp.busLockUntil = due + m.options.ticksPerSecond / busLock.perSecond;
    return due > now ? vp.replies.wait({ kind: 'time', at: due }, 'advanced') : vp.replies.resume();
  }

  complete(context: PlaneContext, completion: Completion): void {
    const reply = completion.reply ?? {};
    const number = (name: string): number => {
      const value = reply[name];
      return typeof value === 'number' ? value >>> 0 : 0;
    };
    const { size } = completion.data as { readonly size?: number };
    switch (completion.kind) {
      case 'io':
        this.loadRax(context, size ?? 4, number('value'), 0);
        break;
      case 'mmio':
        this.loadRax(context, size ?? 4, number('lo'), number('hi'));
        break;
      case 'rdmsr':
      case 'wrmsr':
        if (reply['error'] === true) {
          this.injectFault(context, { code: 13, errorCode: 0, addressLo: 0, addressHi: 0 });
          return;
        }
        if (completion.kind === 'rdmsr') this.registers.setEdxEax(context, number('lo'), number('hi'));
        break;
      default:
        throw new HostError('Internal', `unknown completion '${completion.kind}'`);
    }
    this.retire(context);
  }

  /**
   * Puts the result of a load into RAX: one of 1 or 2 bytes leaves the rest alone, one of 4 clears the upper half.
   * @param size - bytes: 1, 2, 4 or 8. @spec SDM 1 §3.4.1.1
   */
  loadRax(context: PlaneContext, size: number, lo: number, hi: number): void {
    const { u32 } = this.#machine.arena;
    const word = (context.base + X86.rax) >>> 2;
    if (size < 4) {
      const mask = size === 1 ? 0xff : 0xffff;
      u32[word] = (u32[word]! & ~mask) | (lo & mask);
      return;
    }
    u32[word] = lo;
    u32[word + 1] = size === 8 ? hi : 0;
  }
}
