import { type Cpu, HostError, type Machine, type PlainRecord, type PlainState, type PlaneContext, type Vp } from '@vmplanes/engine';
import type { CpuExit } from '@vmplanes/engine';
import type { X86Arch } from '../arch/x86-arch.ts';
import { X86ExitRecords } from '../exits.ts';
import { readRegister, writeRegister } from '../state/registers.ts';
import { X86 } from '../state/layout.ts';
import { Op } from './compile.ts';
import { type Frame, FrameMaker, MAIN } from './frames.ts';
import { StepRunner } from './step-runner.ts';
import type { Script, ScriptArgs, StepFault, StepResult } from './steps.ts';

/** Which script a plane runs. */
export interface ScriptBinding {
  readonly script: Script;
  readonly args?: ScriptArgs;
}

const IF = 1 << 9;
/** Exception cell: 0 none, 1 due, 2 on its way in. */
const DUE = 1;
const INJECTED = 2;

/** What the processor keeps per plane besides the context block. */
class PlaneProgram {
  readonly frames: Frame[];
  /** A step came back as an exit; RIP then tells whether it had its effect. */
  awaiting = false;
  ripAtExit = 0;
  /** The exception that is due was told of and left standing. */
  told = false;
  failed: string | null = null;

  constructor(readonly maker: FrameMaker) {
    this.frames = [maker.main()];
  }
  get top(): Frame {
    return this.frames[this.frames.length - 1]!;
  }
}

/**
 * A processor that runs scripts instead of machine code: each step does to the context block, to memory and to the
 * local APIC what the instruction would, and exits where it would. A plane without a script, or at the end of its
 * script, halts; its handlers still run.
 */
export class ScriptCpu implements Cpu {
  readonly #machine: Machine;
  readonly #arch: X86Arch;
  readonly #runner: StepRunner;
  readonly #records = new X86ExitRecords();
  readonly #programs: (PlaneProgram | null)[] = new Array<PlaneProgram | null>(16).fill(null);
  /** Where the last step of any plane was not finished: run again at once it finds its registers as its exit left them. */
  #unfinished: Frame | null = null;

  /** @throws {HostError} BadScript when a table does not compile. */
  constructor(machine: Machine, arch: X86Arch, bindings: Readonly<Partial<Record<number, ScriptBinding>>>) {
    this.#machine = machine;
    this.#arch = arch;
    this.#runner = new StepRunner(machine, arch, this.#records);
    for (const [plane, binding] of Object.entries(bindings)) {
      if (binding) this.#programs[Number(plane)] = new PlaneProgram(new FrameMaker(binding.script, binding.args ?? {}));
    }
  }

  /** Why the script of a plane stopped at an `expect`, or null. */
  failure(plane: number): string | null {
    return this.#programs[plane]?.failed ?? null;
  }
  /** Whether the script of a plane has run to its end. */
  finished(plane: number): boolean {
    const program = this.#programs[plane];
    return !program || (program.frames.length === 1 && program.top.step === null);
  }

  run(vp: Vp, budget: number): CpuExit {
    const context = vp.context;
    const program = this.#programs[context.plane];
    const end = vp.retired + budget;
    if (!program) return this.#halt(context);
    for (;;) {
      const exception = this.#exceptionExit(context, program);
      if (exception !== null) return exception;
      const tookFault = this.#settle(context, program);
      if (vp.retired >= end || (tookFault && context.events.wakes())) return this.#records.budget;
      const frame = program.top;
      const step = frame.step;
      if (step === null || program.failed !== null) {
        if (frame.vector === MAIN || program.failed !== null) return this.#halt(context);
        this.#leaveHandler(context, program);
        if (context.events.wakes()) return this.#records.budget;
        continue;
      }
      if (this.#unfinished !== frame) this.#runner.load(context, step);
      this.#unfinished = null;
      vp.retired += step.cost;
      context.retired += step.cost;
      const exit = this.#runner.run(context, step);
      if (exit !== null) {
        program.awaiting = true;
        program.ripAtExit = this.#rip(context);
        this.#unfinished = frame;
        if (exit.kind === 'halt') {
          this.#runner.retire(context);
        }
        return exit;
      }
      if (step.op === Op.Jump || ((step.op === Op.JumpIf || step.op === Op.Loop) && this.#runner.taken)) frame.jump(step.key);
      else if (step.op === Op.Expect && !this.#runner.taken) program.failed = this.#explain(context, frame);
      else if (this.#faultIsDue(context)) {
        const raised = this.#exceptionExit(context, program);
        if (raised !== null) {
          program.awaiting = true;
          program.ripAtExit = this.#rip(context);
          this.#unfinished = frame;
          return raised;
        }
        frame.advance(frame.wantsResults ? this.#result(context, frame, this.#takeFault(context)) : (this.#takeFault(context), null));
      } else frame.advance(frame.wantsResults ? this.#result(context, frame, null) : null);
      // What a step unmasked is taken at the next entry, so go through one.
      if (context.events.wakes()) return this.#records.budget;
    }
  }

  /**
   * Before a step: finish the one that exited, then start a handler for what was injected.
   * @returns whether the step that exited ended with a fault: what the fault held up is due then.
   */
  #settle(context: PlaneContext, program: PlaneProgram): boolean {
    const { u32 } = this.#machine.arena;
    const word = context.base >>> 2;
    let tookFault = false;
    if (program.awaiting) {
      const fault = this.#faultIsDue(context) ? this.#takeFault(context) : null;
      const retired = this.#rip(context) !== program.ripAtExit;
      program.awaiting = false;
      const frame = program.top;
      tookFault = fault !== null;
      if (tookFault || retired) {
        this.#unfinished = null;
        frame.advance(frame.wantsResults ? this.#result(context, frame, fault) : null);
      }
    }
    const exception = u32[word + X86['exception.state'] / 4]!;
    if (exception === DUE || exception === INJECTED) {
      this.#enterHandler(context, program, this.#takeFault(context).vector, false);
    } else if (u32[word + X86['nmi.injected'] / 4] !== 0) {
      u32[word + X86['nmi.injected'] / 4] = 0;
      this.#enterHandler(context, program, 2, false);
    } else if (u32[word + X86['interrupt.injected'] / 4] !== 0) {
      u32[word + X86['interrupt.injected'] / 4] = 0;
      this.#enterHandler(context, program, u32[word + X86['interrupt.vector'] / 4]!, true);
    }
    return tookFault;
  }

  #enterHandler(context: PlaneContext, program: PlaneProgram, vector: number, isInterrupt: boolean): void {
    const frame = program.maker.handler(vector);
    if (frame === null) {
      // Nobody listens: acknowledge an interrupt so that lower ones are not held up, and drop it.
      if (isInterrupt) this.#runner.eoi(context, vector);
      else if (vector === 2) this.#runner.endNmi(context);
      return;
    }
    const { u32 } = this.#machine.arena;
    const rflags = (context.base + X86.rflags) >>> 2;
    frame.interruptFlag = u32[rflags]! & IF;
    program.frames.push(frame);
    u32[rflags]! &= ~IF;
    u32[(context.base + X86.interruptShadow) >>> 2] = 0;
  }

  #leaveHandler(context: PlaneContext, program: PlaneProgram): void {
    const frame = program.frames.pop()!;
    if (frame.vector === 2) this.#runner.endNmi(context);
    const { u32 } = this.#machine.arena;
    const rflags = (context.base + X86.rflags) >>> 2;
    u32[rflags] = (u32[rflags]! & ~IF) | frame.interruptFlag;
  }

  /** Halts for want of steps: an instruction like any other, but for RIP. */
  #halt(context: PlaneContext): CpuExit {
    this.#machine.arena.u32[(context.base + X86.interruptShadow) >>> 2] = 0;
    context.vp.retired++;
    context.retired++;
    return this.#records.halt;
  }

  #rip(context: PlaneContext): number {
    return this.#machine.arena.u32[(context.base + X86.rip) >>> 2]!;
  }

  #faultIsDue(context: PlaneContext): boolean {
    return this.#machine.arena.u32[(context.base + X86['exception.state']) >>> 2] === DUE;
  }

  /** The exit of an exception that is due, while somebody asks about it; null when it is to be delivered. One that is left standing is not told again. */
  #exceptionExit(context: PlaneContext, program: PlaneProgram): CpuExit | null {
    const { exceptionExits } = this.#arch;
    const wasTold = program.told;
    program.told = false;
    if (exceptionExits === null || wasTold || !this.#faultIsDue(context)) return null;
    const { u32 } = this.#machine.arena;
    const vector = u32[(context.base + X86['exception.vector']) >>> 2]!;
    if (!exceptionExits(context, vector)) return null;
    program.told = true;
    this.#records.exception.key = vector;
    return this.#records.exception;
  }

  #takeFault(context: PlaneContext): StepFault {
    const { arena } = this.#machine;
    const cell = (name: 'exception.vector' | 'exception.hasErrorCode' | 'exception.errorCode'): number => arena.u32[(context.base + X86[name]) >>> 2]!;
    const { u32 } = arena;
    u32[(context.base + X86['exception.state']) >>> 2] = 0;
    // Delivery begins: the payload of a page fault becomes CR2, and a one-instruction shadow ends.
    if (u32[(context.base + X86['exception.hasPayload']) >>> 2] !== 0) writeRegister(arena, context.base, 'cr2', readRegister(arena, context.base, 'exception.payload'));
    u32[(context.base + X86.interruptShadow) >>> 2] = 0;
    return {
      vector: cell('exception.vector'),
      errorCode: cell('exception.hasErrorCode') !== 0 ? cell('exception.errorCode') : null,
      address: readRegister(arena, context.base, 'exception.payload'),
    };
  }

  #result(context: PlaneContext, frame: Frame, fault: StepFault | null): StepResult {
    const { arena } = this.#machine;
    const r = (name: 'rax' | 'rbx' | 'rcx' | 'rdx' | 'rsi' | 'rdi' | 'r8' | 'r9'): bigint => readRegister(arena, context.base, name);
    const source = frame.step?.source;
    const names = source?.op === 'get' ? source.names : [];
    const low = (n: bigint): bigint => n & 0xffff_ffffn;
    return {
      fault,
      rax: r('rax'),
      rbx: r('rbx'),
      rcx: r('rcx'),
      rdx: r('rdx'),
      rsi: r('rsi'),
      rdi: r('rdi'),
      r8: r('r8'),
      r9: r('r9'),
      edxEax: (low(r('rdx')) << 32n) | low(r('rax')),
      cells: Object.fromEntries(names.map((n) => [n, readRegister(arena, context.base, n)])),
    };
  }

  #explain(context: PlaneContext, frame: Frame): string {
    const source = frame.step?.source;
    if (source?.op !== 'expect') return 'failed';
    return `VP ${context.vp.index} plane ${context.plane}: ${source.register} is 0x${readRegister(this.#machine.arena, context.base, source.register).toString(16)}, expected ${String(source.equals)}`;
  }

  save(): PlainState {
    return this.#programs.map((p) =>
      p === null ? null : { awaiting: p.awaiting, unfinished: p.top === this.#unfinished, ripAtExit: p.ripAtExit, told: p.told, failed: p.failed, script: p.maker.script.id, args: p.maker.args, frames: p.frames.map((f) => f.save()) },
    );
  }

  /** @throws {HostError} BadSnapshot when a plane's script is another one or yields other steps. */
  restore(state: PlainState): void {
    const programs = state as readonly (PlainRecord | null)[];
    this.#unfinished = null;
    for (let plane = 0; plane < this.#programs.length; plane++) {
      const saved = programs[plane] ?? null;
      const now = this.#programs[plane] ?? null;
      if ((saved === null) !== (now === null) || (saved !== null && saved['script'] !== now?.maker.script.id)) {
        throw new HostError('BadSnapshot', `plane ${plane}: the snapshot runs script ${String(saved?.['script'] ?? 'none')}, this processor ${now?.maker.script.id ?? 'none'}`);
      }
      if (saved === null || now === null) continue;
      const args = saved['args'] as ScriptArgs;
      // Compiled tables are derived from script and arguments: the same ones serve again.
      const isSame = JSON.stringify(args) === JSON.stringify(now.maker.args);
      const fresh = new PlaneProgram(isSame ? now.maker : new FrameMaker(now.maker.script, args));
      fresh.frames.length = 0;
      for (const f of saved['frames'] as readonly PlainRecord[]) fresh.frames.push(fresh.maker.restore(f));
      fresh.awaiting = saved['awaiting'] as boolean;
      fresh.ripAtExit = saved['ripAtExit'] as number;
      fresh.told = saved['told'] as boolean;
      fresh.failed = saved['failed'] as string | null;
      this.#programs[plane] = fresh;
      if (saved['unfinished'] === true) this.#unfinished = fresh.top;
    }
  }
}
