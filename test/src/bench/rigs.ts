import { createScope } from '@vmplanes/di';
import { type Answer, type Claim, type Cpu, type CpuExit, installEngine, type Machine, type MachineOptions, type Personality, type PlaneContext, PlaneId, Schedule, type SharingDeclaration, type Vp } from '@vmplanes/engine';
import { CallKind, X86Arch, X86ExitRecords } from '@vmplanes/x86';

/** What all planes share where a privilege level keeps most registers: general registers but RSP, debug addresses, x87, SSE and AVX. */
export const mostShared: SharingDeclaration = { shared: ['gpr', 'cr2', 'breakpoints', 'xcr0', 'fpu'], except: ['rsp'] };
/** The same with a floating-point unit per plane. */
export const privateFpu: SharingDeclaration = { shared: ['gpr', 'cr2', 'breakpoints', 'xcr0'], except: ['rsp'] };

/** A guest that issues the call its registers hold, again and again: what is left is the cost of answering it. */
export class CallingCpu implements Cpu {
  protected readonly exits = new X86ExitRecords();
  constructor() {
    this.exits.call.key = CallKind.Vmcall;
  }
  run(vp: Vp): CpuExit {
    vp.retired += 1;
    vp.context.retired += 1;
    vp.context.instructionLength = 3;
    return this.exits.call;
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

/** Answers every call in the one way that a row measures. */
class Answering implements Personality {
  readonly name = 'bench';
  readonly stateName = 'bench';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'call', from: CallKind.Vmcall, to: CallKind.Vmcall }];
  readonly #payload = { kind: 'bench' } as const;
  constructor(readonly how: 'resume' | 'switch' | 'exit') {}
  handle(context: PlaneContext): Answer {
    const { replies } = context.vp;
    if (this.how === 'resume') return replies.resume();
    if (this.how === 'exit') return replies.exit(this.#payload);
    return context.plane === 0 ? replies.switchTo(1, 'call', 'runnable') : replies.switchTo(0, 'return', 'stopped');
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

export interface Rig {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly vp: Vp;
}

/** A machine whose guest calls without end. */
export const callingRig = (how: 'resume' | 'switch' | 'exit', sharing: SharingDeclaration, options: Partial<MachineOptions> = {}): Rig => {
  const arch = new X86Arch();
  const machine = installEngine(createScope(), {
    arch,
    policy: 'highest-runnable',
    rule: 'deliverable',
    options: { maxVps: 1, maxPlanes: 2, memoryBytes: 1 << 20, ...options },
  });
  machine.setMeaning({ sharing, dominates: (a, b) => a > b, planeName: (p) => `plane ${p}` });
  machine.addPersonality(new Answering(how));
  for (let i = 0; i < machine.options.maxVps; i++) {
    const vp = machine.createVp();
    for (let p = 1; p < machine.options.maxPlanes; p++) machine.createPlane(vp, PlaneId(p));
    vp.plane(0).activity = 0;
    vp.setSchedule(vp.plane(0), Schedule.Runnable);
    machine.setCpu(vp, new CallingCpu());
  }
  return { machine, arch, vp: machine.vp(0) };
};

/** Runs `calls` calls of a rig that never leaves to the VMM. */
export const runCalls = ({ machine, vp }: Rig, calls: number): void => {
  vp.sliceEnd = vp.retired + calls;
  machine.runVp(vp);
};
