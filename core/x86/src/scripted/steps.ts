import type { RegisterName } from '../state/layout.ts';

/** A 64-bit value in a script: a bigint, a number up to 2^53, or text such as `0x1f` (so that scripts can be JSON). */
export type Value = bigint | number | string;

/** Registers to load before a step, by cell name of the context block. */
export type RegisterValues = Partial<Readonly<Record<RegisterName, Value>>>;

interface Common {
  /** Instructions this step counts for; default 1. */
  readonly cost?: number;
  /** Loaded before the step runs, as a guest would with moves that cost nothing. */
  readonly regs?: RegisterValues;
}

/** A guest address: physical, or linear and walked through the plane's own page tables. */
type Address = { readonly gpa: Value; readonly gva?: never } | { readonly gva: Value; readonly gpa?: never };

/** One step of a scripted guest. Results land in registers, as the instruction would put them. */
export type Step = Common &
  (
    | { readonly op: 'call'; readonly via?: 'vmcall' | 'vmmcall' | 'vmgexit' }
    /** An instruction that a personality contributed, by mnemonic. */
    | { readonly op: 'instruction'; readonly name: string }
    | { readonly op: 'rdmsr'; readonly index: number }
    | { readonly op: 'wrmsr'; readonly index: number; readonly value: Value }
    | { readonly op: 'cpuid'; readonly leaf: number; readonly subleaf?: number }
    | { readonly op: 'in'; readonly port: number; readonly size?: 1 | 2 | 4 }
    | { readonly op: 'out'; readonly port: number; readonly size?: 1 | 2 | 4; readonly value: number }
    /** Loads into RAX: 1 or 2 bytes leave the rest of it alone, 4 clear the upper half. */
    | ({ readonly op: 'read'; readonly size?: 1 | 2 | 4 | 8 } & Address)
    | ({ readonly op: 'write'; readonly size?: 1 | 2 | 4 | 8; readonly value: Value } & Address)
    /** Writes a run of bytes, given in hexadecimal. */
    | ({ readonly op: 'fill'; readonly bytes: string } & Address)
    /** Fetches one byte of code. */
    | ({ readonly op: 'execute'; readonly user?: boolean } & Address)
    /** MOV to a control or debug register, LGDT and the like, by cell name. */
    | { readonly op: 'mov'; readonly to: 'cr0' | 'cr3' | 'cr4' | 'cr8' | 'dr7' | 'xcr0'; readonly value: Value }
    /** An interrupt command, through whichever interface the APIC is in; `icr` as in x2APIC mode. */
    | { readonly op: 'ipi'; readonly icr: Value }
    /** A local APIC register by its x2APIC number 0..0x3f. */
    | { readonly op: 'apicRead'; readonly register: number }
    | { readonly op: 'apicWrite'; readonly register: number; readonly value: Value }
    | { readonly op: 'eoi' }
    | { readonly op: 'sti' }
    | { readonly op: 'cli' }
    | { readonly op: 'hlt' }
    /** Instructions without an effect. */
    | { readonly op: 'work' }
    /** An access that locks the bus. */
    | { readonly op: 'busLock' }
    /** Ends as a processor without a way on does. */
    | { readonly op: 'shutdown' }
    /** Reads cells for a generator's result. */
    | { readonly op: 'get'; readonly names: readonly RegisterName[] }
    // Control flow of step tables; generators use their own.
    | { readonly op: 'jump'; readonly to: number }
    | { readonly op: 'jumpIf'; readonly register: RegisterName; readonly equals: Value; readonly to: number }
    /** Counts down a cell and jumps while it is not zero. */
    | { readonly op: 'loop'; readonly register: RegisterName; readonly to: number }
    /** Stops the script as failed when a cell differs. */
    | { readonly op: 'expect'; readonly register: RegisterName; readonly equals: Value }
  );

/** A fault that the guest took instead of the step's effect. */
export interface StepFault {
  readonly vector: number;
  readonly errorCode: number | null;
  readonly address: bigint;
}

/** What a generator gets back from a step. */
export interface StepResult {
  /** Null when the step had its effect. */
  readonly fault: StepFault | null;
  /** RAX, RBX, RCX, RDX, RSI, RDI, R8 and R9 after the step; `get` reads any other cell. */
  readonly rax: bigint;
  readonly rbx: bigint;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly rsi: bigint;
  readonly rdi: bigint;
  readonly r8: bigint;
  readonly r9: bigint;
  /** EDX:EAX, as RDMSR returns it. */
  readonly edxEax: bigint;
  /** Cells asked for by `get`. */
  readonly cells: Readonly<Record<string, bigint>>;
}

/** A guest program as a generator: a pure function of the results it receives. */
export interface GeneratorScript {
  readonly id: string;
  main(args: ScriptArgs): Generator<Step, void, StepResult>;
  /** Runs for every interrupt and for faults that no step caused; without it an interrupt is acknowledged and forgotten. */
  handler?(vector: number, args: ScriptArgs): Generator<Step, void, StepResult>;
}

/** A guest program as data: a step table with a program counter, restored at once. */
export interface TableScript {
  readonly id: string;
  readonly steps: readonly Step[];
  /** Step tables by vector, `default` for all others. */
  readonly handlers?: Readonly<Record<string, readonly Step[]>>;
}

/** Arguments of a script: plain data, part of its saved state. */
export type ScriptArgs = Readonly<Record<string, number | string | boolean>>;
export type Script = GeneratorScript | TableScript;

export const isTable = (script: Script): script is TableScript => 'steps' in script;
