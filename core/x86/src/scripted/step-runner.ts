import type { CpuExit, Machine, PlaneContext } from '@vmplanes/engine';
import { ApicMode, ApicReg } from '../apic/index.ts';
import type { X86Arch } from '../arch/x86-arch.ts';
import { RegisterKey, type X86ExitRecords } from '../exits.ts';
import { X86 } from '../state/layout.ts';
import { type CompiledStep, Op } from './compile.ts';
import { StepMemory } from './step-memory.ts';

const IF = 1 << 9;
const X2APIC = 0x800;

const GENERAL_PROTECTION = 13;

/**
 * Performs single steps on a context: what the instruction does, or the exit it makes. Returns null when the step is
 * done (or has raised a fault, which then is due in the context block).
 */
export class StepRunner {
  readonly #machine: Machine;
  readonly #arch: X86Arch;
  readonly #records: X86ExitRecords;
  readonly #memory: StepMemory;
  /** What the last jumpIf, loop or expect decided. */
  taken = false;

  constructor(machine: Machine, arch: X86Arch, records: X86ExitRecords) {
    this.#machine = machine;
    this.#arch = arch;
    this.#records = records;
    this.#memory = new StepMemory(machine, arch, records);
  }

  /** Stores the registers that a step names before it runs. */
  load(context: PlaneContext, step: CompiledStep): void {
    const { loads } = step;
    const { u32 } = this.#machine.arena;
    for (let i = 0; i < loads.length; i += 3) {
      const word = (context.base + loads[i]!) >>> 2;
      u32[word] = loads[i + 1]!;
      if (loads[i + 2]! >= 0) u32[word + 1] = loads[i + 2]!;
    }
    if (step.loadsEvents) this.#machine.eventsChanged(context);
  }

  retire(context: PlaneContext): void {
    this.#arch.retire(context);
  }
  /** Ends an interrupt that nobody handles; external interrupts are not in service at the local APIC. */
  eoi(context: PlaneContext, vector: number): void {
    const apic = this.#arch.apicOf(context);
    if (apic.highestIsr() === vector) apic.eoi();
  }
  endNmi(context: PlaneContext): void {
    this.#setWord(context, X86['nmi.blocked'], 0);
    this.#machine.eventsChanged(context);
  }

  #word(context: PlaneContext, offset: number): number {
    return this.#machine.arena.u32[(context.base + offset) >>> 2]!;
  }
  #setWord(context: PlaneContext, offset: number, value: number): void {
    this.#machine.arena.u32[(context.base + offset) >>> 2] = value;
  }

  run(context: PlaneContext, step: CompiledStep): CpuExit | null {
    const r = this.#records;
    // Each step is one instruction of one byte as far as RIP is concerned.
    context.instructionLength = 1;
    switch (step.op) {
      case Op.Call:
        r.call.key = step.key;
        return r.call;
      case Op.Rdmsr:
      case Op.Wrmsr:
        return this.#msr(step.key, step.op === Op.Wrmsr, step.lo, step.hi);
      case Op.Cpuid:
        r.cpuid.key = step.key;
        r.cpuid.subleaf = step.subleaf;
        return r.cpuid;
      case Op.In:
      case Op.Out:
        r.io.key = step.key;
        r.io.write = step.op === Op.Out;
        r.io.size = step.size;
        r.io.value = step.lo;
        return r.io;
      case Op.Mov:
        r.register.key = step.key as RegisterKey;
        r.register.write = true;
        r.register.lo = step.lo;
        r.register.hi = step.hi;
        return r.register;
      case Op.Ipi:
        return this.#apic(context, 0x30, true, step.lo, step.hi);
      case Op.ApicRead:
      case Op.ApicWrite:
        return this.#apic(context, step.key, step.op === Op.ApicWrite, step.lo, step.hi);
      case Op.Eoi:
        return this.#apic(context, 0x0b, true, 0, 0);
      case Op.Hlt:
        return r.halt;
      case Op.BusLock:
        return r.busLock;
      case Op.Shutdown:
        return r.shutdown;
      case Op.Read:
      case Op.Write:
      case Op.Fill:
      case Op.Execute:
        return this.#memory.run(context, step);
      case Op.Instruction:
        return this.#contributed(context, step);
      default:
        this.#inside(context, step);
        return null;
    }
  }

  #msr(index: number, write: boolean, lo: number, hi: number): CpuExit {
    const { msr } = this.#records;
    msr.key = index;
    msr.write = write;
    msr.lo = lo;
    msr.hi = hi;
    return msr;
  }

  /** Steps without an exit. */
  #inside(context: PlaneContext, step: CompiledStep): void {
    switch (step.op) {
      case Op.Sti: {
        const flags = this.#word(context, X86.rflags);
        this.#setWord(context, X86.rflags, flags | IF);
        this.#arch.retire(context);
        // The instruction behind STI still runs before an interrupt is taken; `retire` of that one ends the shadow.
        if ((flags & IF) === 0) this.#setWord(context, X86.interruptShadow, 2);
        return;
      }
      case Op.Cli:
        this.#setWord(context, X86.rflags, this.#word(context, X86.rflags) & ~IF);
        break;
      case Op.JumpIf:
      case Op.Expect:
        this.taken = this.#word(context, step.cell) === step.lo && (!step.wide || this.#word(context, step.cell + 4) === step.hi);
        break;
      case Op.Loop: {
        const low = (this.#word(context, step.cell) - 1) >>> 0;
        this.#setWord(context, step.cell, low);
        let high = step.wide ? this.#word(context, step.cell + 4) : 0;
        if (step.wide && low === 0xffff_ffff) {
          high = (high - 1) >>> 0;
          this.#setWord(context, step.cell + 4, high);
        }
        this.taken = (low | high) !== 0;
        break;
      }
      default:
        break;
    }
    this.#arch.retire(context);
  }

  /** A local APIC register through the interface that is on: MSR in x2APIC mode, the page in xAPIC mode. */
  #apic(context: PlaneContext, register: number, write: boolean, lo: number, hi: number): CpuExit | null {
    const apic = this.#arch.apicOf(context);
    if (apic.mode === ApicMode.x2apic) return this.#msr(X2APIC + register, write, lo, hi);
    const page = apic.pageAddress;
    if (page < 0) return this.#fault(context, GENERAL_PROTECTION, 0);
    if (register === 0x30 && write) this.#mmio(page + ApicReg.icrHigh, true, hi << 24);
    if (register === 0x30 && write) this.#arch.apicPage(context, this.#records.mmio);
    return this.#mmio(page + register * 16, write, lo);
  }

  #mmio(gpa: number, write: boolean, lo: number): CpuExit {
    const { mmio } = this.#records;
    mmio.key = gpa;
    mmio.write = write;
    mmio.size = 4;
    mmio.lo = lo >>> 0;
    mmio.hi = 0;
    return mmio;
  }

  #fault(context: PlaneContext, code: number, errorCode: number | null, addressLo = 0, addressHi = 0): null {
    this.#arch.injectFault(context, { code, errorCode, addressLo, addressHi });
    return null;
  }

  #contributed(context: PlaneContext, step: CompiledStep): CpuExit | null {
    const { source } = step;
    const row = source.op === 'instruction' ? this.#arch.instruction(source.name) : null;
    if (row === null) return this.#fault(context, 6, null);
    const exit = row.run(context);
    if (exit === null && this.#word(context, X86['exception.state']) === 0) this.#arch.retire(context);
    return exit;
  }
}
