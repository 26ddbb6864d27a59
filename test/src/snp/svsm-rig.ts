import { type ChapterMakers, defaultOptions, SevSnpVmpl, type SnpOptions, SvsmProvider } from '@vmplanes/personality-sev-snp-vmpl';
import { createScope } from '@vmplanes/di';
import { installEngine, InvariantChecks, type Machine, type PreemptionPort, type Vp } from '@vmplanes/engine';
import { type GeneratorScript, ScriptCpu, type Step, type StepResult, X86Arch } from '@vmplanes/x86';
import { type FakeRequests, type FakeRmp, fakeMakers } from './svsm-fakes.ts';

/** Addresses that tests use: memory of 16 MiB, of which the SVSM has one. */
export const At = {
  caa: 0x80_f000, secrets: 0x80_d000, vmsa: 0x90_0000 + 0xf_f000, svsm: 0x90_0000,
  /** Valid pages of the guest: a list, structures, buffers. */
  list: 0x80_0000, a: 0x80_1000, b: 0x80_2000, c: 0x80_3000, d: 0x80_4000,
  /** Private pages that are not valid. */
  fresh: 0xa0_0000,
  /** 2 MiB of the same as one entry of 2 MiB. */
  large: 0xc0_0000,
  /** Shared memory. */
  shared: 0x40_0000,
  memory: 0x100_0000,
} as const;

/** Registers of a call; RAX holds protocol and call. */
export interface Request {
  readonly protocol?: number;
  readonly call: number;
  readonly rcx?: bigint | number;
  readonly rdx?: bigint | number;
  readonly r8?: bigint | number;
}
/** What a call did. */
export interface Answered {
  readonly result: number;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly r8: bigint;
  /** The byte of the calling area that asks for a call, after it. */
  readonly pending: number;
}

/** Code of a guest. */
export type Code<T = void> = Generator<Step, T, StepResult>;

/** Makes a call as a conforming guest does: request byte, GHCB MSR, VMGEXIT. */
export function* svsmCall({ protocol = 0, call, rcx = 0, rdx = 0, r8 = 0 }: Request, caa: number = At.caa): Code<Answered> {
  yield { op: 'write', gpa: caa, value: 1, size: 1 };
  yield { op: 'wrmsr', index: 0xc001_0130, value: 0x16 };
  const out = yield { op: 'call', via: 'vmgexit', regs: { rax: (BigInt(protocol) << 32n) | BigInt(call), rcx: BigInt(rcx), rdx: BigInt(rdx), r8: BigInt(r8) } };
  const { rax } = yield { op: 'read', gpa: caa, size: 1 };
  return { result: Number(out.rax), rcx: out.rcx, rdx: out.rdx, r8: out.r8, pending: Number(rax & 0xffn) };
}

/** A machine with the SVSM and small neighbours, whose guest makes calls one by one. */
export class SvsmRig {
  readonly machine: Machine;
  readonly arch = new X86Arch();
  readonly snp: SevSnpVmpl;
  readonly switches: string[] = [];
  readonly notes: { readonly name: string; readonly data: unknown }[] = [];
  /** Answers of the TPM, in order; commands that came. */
  readonly tpm: (string | null)[] = [];
  readonly commands: string[] = [];
  /** Exits that nobody serves. */
  readonly exits: { readonly kind: string; readonly text?: string }[] = [];
  #programs: ((vp: number) => Code)[] = [];

  constructor(
    options: Partial<SnpOptions> = {},
    readonly vps = 2,
    makers: Partial<ChapterMakers> = {},
  ) {
    this.machine = installEngine(createScope(), {
      arch: this.arch, policy: 'lowest-runnable', rule: 'deliverable', options: { maxVps: vps, maxPlanes: 4, memoryBytes: At.memory, quantum: 1000 },
    });
    this.machine.setMeaning({ sharing: { shared: [] }, dominates: (a, b) => a < b, planeName: (p) => `VMPL${p}` });
    const all = { ...defaultOptions, svsm: 'builtin' as const, svsmBase: '0x900000', svsmSize: '0x100000', ...options };
    this.snp = new SevSnpVmpl(this.machine, this.arch, all, { ...fakeMakers, svsm: (snp) => new SvsmProvider(snp), ...makers });
    this.machine.addPersonality(this.snp);
    this.machine.memory.addSlot({ id: 0, gpa: 0, size: At.memory });
    for (let v = 0; v < vps; v++) {
      const vp = this.machine.createVp();
      const script: GeneratorScript = { id: `guest ${v}`, main: () => this.#main(v) };
      this.machine.setCpu(vp, new ScriptCpu(this.machine, this.arch, { [all.guestVmpl]: { script } }));
      this.snp.chapters.switching.create(vp, all.guestVmpl);
    }
    this.machine.on('plane-switch', ({ vp, from, to, reason }) => void this.switches.push(`${vp}: ${from}>${to} ${reason}`));
    this.machine.checks = new InvariantChecks(this.machine);
    this.rmp.assign(At.fresh / 4096, 512, true);
    this.rmp.assign(At.large / 4096, 512, true, true);
    // The provider gives the guest its memory.
    this.run();
  }

  get provider(): SvsmProvider {
    return this.snp.chapters.svsm as SvsmProvider;
  }
  get rmp(): FakeRmp {
    return this.snp.chapters.rmp as never;
  }
  get requests(): FakeRequests {
    return this.snp.chapters.requests as never;
  }

  *#main(vp: number): Code {
    // The first step of a script is known before its processor runs.
    yield { op: 'work' };
    for (;;) {
      const program = this.#programs[vp];
      if (program) {
        delete this.#programs[vp];
        yield* program(vp);
      }
      yield { op: 'hlt' };
    }
  }

  /** Runs until nothing is left to do; the TPM answers from its list. */
  run(): void {
    for (let i = 0; i < 1000; i++) {
      const stop = this.machine.run(2000);
      if (stop.kind === 'idle') return;
      if (stop.kind !== 'exit') throw new Error(`the guest does not end: ${stop.kind}`);
      const exit = stop.vp.exit as { readonly kind: string; readonly request?: { readonly command: string } };
      if (exit.kind !== 'service') {
        this.exits.push(structuredClone(exit));
        return;
      }
      this.commands.push(exit.request!.command);
      const response = this.tpm.shift() ?? null;
      this.machine.reply(stop.vp.context, response === null ? { error: 'the TPM is off' } : { response });
    }
    throw new Error('the guest does not end');
  }

  /** Sends an NMI to a plane from outside. */
  nmi(vp: number, plane: number): void {
    this.arch.apicOf(this.machine.vp(vp).plane(plane)).accept(4, 0, true, false);
  }
  /** Runs code in the guest of a processor. */
  guest(code: (vp: number) => Code, vp = 0): void {
    this.start(code, vp);
    this.run();
  }
  /** Gives the guest of a processor code to run next. */
  start(code: (vp: number) => Code, vp = 0): void {
    this.#programs[vp] = code;
    // It halts between two programs.
    this.machine.vp(vp).plane(this.provider.guestVmpl).activity = 0;
    this.machine.eventsChanged(this.machine.vp(vp).plane(this.provider.guestVmpl));
  }
  call(request: Request, vp = 0, caa: number = At.caa): Answered {
    let out: Answered | undefined;
    this.guest(function* () {
      out = yield* svsmCall(request, caa);
    }, vp);
    if (!out) throw new Error('the call did not come back');
    return out;
  }

  // -- memory, below everything --------------------------------------------------------------------------------------
  write(gpa: number, bytes: Uint8Array): void {
    const { memory } = this.machine;
    memory.access.write(memory.subjects[0]!.host, gpa, bytes, 0, bytes.length);
  }
  read(gpa: number, length: number): Uint8Array {
    const { memory } = this.machine;
    const bytes = new Uint8Array(length);
    memory.access.read(memory.subjects[0]!.host, gpa, bytes, 0, length);
    return bytes;
  }
  words(gpa: number, ...values: readonly (bigint | number)[]): void {
    const bytes = new Uint8Array(values.length * 8);
    const view = new DataView(bytes.buffer);
    values.forEach((v, i) => view.setBigUint64(i * 8, BigInt(v), true));
    this.write(gpa, bytes);
  }
  word(gpa: number): bigint {
    return new DataView(this.read(gpa, 8).buffer).getBigUint64(0, true);
  }

  /** Something happens at a preemption point, once. */
  at(point: string, act: (vp: Vp | null) => void, nth = 1): void {
    let left = nth;
    const port: PreemptionPort = {
      at: (p, vp) => {
        if (p !== point || --left !== 0) return;
        this.machine.hooks.preemption = null;
        this.machine.memory.access.preempt = null;
        act(vp);
      },
    };
    this.machine.hooks.preemption = port;
    this.machine.memory.access.preempt = (p) => port.at(p, null);
  }
}
