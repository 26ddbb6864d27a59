import { AccessResult, type CpuExit, type Machine, MemoryFaultInfo, PAGE_SIZE, type PlaneContext, Right, type Rights, type Subject } from '@vmplanes/engine';
import type { X86Arch } from '../arch/x86-arch.ts';
import type { X86ExitRecords } from '../exits.ts';
import { Access, Privilege, WalkKind } from '../mmu/index.ts';
import { type CompiledStep, Op } from './compile.ts';

const TWO_32 = 2 ** 32;
const PAGE_FAULT = 14;
const GENERAL_PROTECTION = 13;
/** Byte within a page. */
const OFFSET = PAGE_SIZE - 1;

/**
 * The steps that read, write and fetch guest memory, at physical addresses or at linear ones. All pages of an access are translated and
 * checked before any byte moves, so that a step has its whole effect or raises one fault.
 */
export class StepMemory {
  readonly #machine: Machine;
  readonly #arch: X86Arch;
  readonly #records: X86ExitRecords;
  readonly #memoryFault = { kind: 'memoryFault' as const, key: 0, info: new MemoryFaultInfo() };
  /** Bytes of an access of up to eight. */
  readonly #word = new Uint8Array(8);
  readonly #wordView = new DataView(this.#word.buffer);
  /** Where each page of the access at hand begins in guest memory; the first one not at its page's begin. */
  readonly #gpas: number[] = [];
  /** Who accesses each of them. */
  readonly #subjects: Subject[] = [];
  /** Which of them was refused. */
  #failed = 0;

  constructor(machine: Machine, arch: X86Arch, records: X86ExitRecords) {
    this.#machine = machine;
    this.#arch = arch;
    this.#records = records;
  }

  /** @returns null when the step is done or has raised a fault, else its exit. */
  run(context: PlaneContext, step: CompiledStep): CpuExit | null {
    const isFetch = step.op === Op.Execute;
    const isWrite = step.op === Op.Write || step.op === Op.Fill;
    const gpas = this.#gpas;
    gpas.length = this.#subjects.length = 0;
    if (step.linear) {
      const walked = this.#walk(context, step, isFetch ? Access.Fetch : isWrite ? Access.Write : Access.Read);
      if (walked !== undefined) return walked;
    } else {
      this.#physical(context, step, isFetch);
    }
    const isWord = step.op === Op.Read || step.op === Op.Write;
    const gpa = gpas[0]!;
    const page = this.#arch.apicOf(context).pageAddress;
    if (isWord && page >= 0 && gpa >= page && gpa < page + PAGE_SIZE) return this.#mmio(step, gpa, isWrite);
    const { memory } = this.#machine;
    const right = isFetch ? this.#arch.fetchRight(context, step.user) : isWrite ? Right.Write : Right.Read;
    const result = this.#move(step, right);
    if (result === AccessResult.Ok) {
      if (step.op === Op.Read) this.#arch.loadRax(context, step.size, this.#wordView.getUint32(0, true), this.#wordView.getUint32(4, true));
      this.#arch.retire(context);
      return null;
    }
    if (result === AccessResult.Absent && isWord) return this.#mmio(step, gpa, isWrite);
    const { info } = this.#memoryFault;
    memory.access.describe(info, this.#subjects[this.#failed]!, result, right);
    return this.#fail(step, 0);
  }

  /** A physical address may carry the bit that names the side. */
  #physical(context: PlaneContext, step: CompiledStep, isFetch: boolean): void {
    const { sides } = this.#arch;
    const bit = sides === null ? 0 : 1 << (sides.bit - 32);
    const marked = (step.addressHi & bit) !== 0;
    const gpa = ((step.addressHi & ~bit) >>> 0) * TWO_32 + step.addressLo;
    this.#gpas.push(gpa);
    this.#subjects.push(this.#arch.accessAs(context, gpa, marked, isFetch));
  }

  /** Bytes of the access that lie in its page number `i`. */
  #bytesIn(step: CompiledStep, i: number): number {
    if (this.#gpas.length === 1) return step.size;
    const first = PAGE_SIZE - (step.addressLo & OFFSET);
    return i === 0 ? first : Math.min(PAGE_SIZE, step.size - first - (i - 1) * PAGE_SIZE);
  }

  #move(step: CompiledStep, right: Rights): AccessResult {
    const { access } = this.#machine.memory;
    const isWrite = right === Right.Write;
    const bytes = step.op === Op.Fill ? step.bytes : this.#word;
    if (step.op === Op.Write || step.op === Op.Read) {
      this.#wordView.setUint32(0, isWrite ? step.lo : 0, true);
      this.#wordView.setUint32(4, isWrite ? step.hi : 0, true);
    }
    const gpas = this.#gpas;
    this.#failed = 0;
    if (gpas.length > 1) {
      for (let i = 0; i < gpas.length; i++) {
        this.#failed = i;
        const result = access.check(this.#subjects[i]!, gpas[i]!, this.#bytesIn(step, i), right);
        if (result !== AccessResult.Ok) return result;
      }
    }
    for (let i = 0, done = 0; i < gpas.length; i++) {
      const n = this.#bytesIn(step, i);
      const subject = this.#subjects[i]!;
      this.#failed = i;
      const result = isWrite ? access.write(subject, gpas[i]!, bytes, done, n) : step.op === Op.Execute ? access.fetch(subject, gpas[i]!, bytes, done, n, right) : access.read(subject, gpas[i]!, bytes, done, n);
      // Only a watcher or a lack of frames can refuse here; the instruction runs again, which writes the same bytes.
      if (result !== AccessResult.Ok) return result;
      done += n;
    }
    return AccessResult.Ok;
  }

  #mmio(step: CompiledStep, gpa: number, write: boolean): CpuExit {
    const { mmio } = this.#records;
    mmio.key = gpa;
    mmio.write = write;
    mmio.size = step.size;
    mmio.lo = step.lo;
    mmio.hi = step.hi;
    return mmio;
  }

  /** The refusal in the record, which happened `ahead` bytes behind the begin of the access. */
  #fail(step: CompiledStep, ahead: number): CpuExit {
    const { info } = this.#memoryFault;
    const low = step.addressLo + ahead;
    info.gvaLo = low >>> 0;
    info.gvaHi = (step.addressHi + (low >= TWO_32 ? 1 : 0)) >>> 0;
    info.hasGva = step.linear;
    info.instructionLength = 1;
    return this.#memoryFault;
  }

  /** Translates every page of the access. @returns undefined when all are translated; otherwise what `run` returns. */
  #walk(context: PlaneContext, step: CompiledStep, access: Access): CpuExit | null | undefined {
    for (let ahead = 0; ahead < step.size; ahead += PAGE_SIZE - ((step.addressLo + ahead) & OFFSET)) {
      const low = step.addressLo + ahead;
      const out = this.#arch.walk(context, low >>> 0, (step.addressHi + (low >= TWO_32 ? 1 : 0)) >>> 0, access, step.user ? Privilege.User : Privilege.Supervisor);
      switch (out.kind) {
        case WalkKind.Mapped:
          this.#gpas.push(out.gpa);
          this.#subjects.push(this.#arch.walkedAs(context));
          break;
        case WalkKind.Fault:
          return this.#fault(context, PAGE_FAULT, out.errorCode, out.cr2Lo, out.cr2Hi);
        case WalkKind.NotCanonical:
          return this.#fault(context, GENERAL_PROTECTION, 0);
        case WalkKind.Stage2:
          this.#arch.describeWalkRefusal(context, this.#memoryFault.info);
          return this.#fail(step, ahead);
      }
    }
    return undefined;
  }

  #fault(context: PlaneContext, code: number, errorCode: number, addressLo = 0, addressHi = 0): null {
    this.#arch.injectFault(context, { code, errorCode, addressLo, addressHi });
    return null;
  }
}
