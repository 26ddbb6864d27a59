import type { BudgetExit, CpuExit, HaltExit, MemoryFaultExit, ShutdownExit } from '@vmplanes/engine';

/** Instructions that ask the hypervisor: registered kinds, contributed by instruction rows. Ids are keys of `call` claims. */
export const CallKind = { Vmcall: 1, Vmmcall: 2, Vmgexit: 3 } as const;
export type CallKind = (typeof CallKind)[keyof typeof CallKind];
/** Names by id, for traces and listings. */
export const callKindNames = new Map<number, string>([
  [CallKind.Vmcall, 'vmcall'],
  [CallKind.Vmmcall, 'vmmcall'],
  [CallKind.Vmgexit, 'vmgexit'],
]);

/** A call instruction. Operands are in the registers of the context; the key is the call kind. */
export interface CallExit extends CpuExit {
  readonly kind: 'call';
}
/** RDMSR or WRMSR; the key is the MSR index. `lo`/`hi` are the value written. */
export interface MsrExit extends CpuExit {
  readonly kind: 'msr';
  readonly write: boolean;
  readonly lo: number;
  readonly hi: number;
}
/** CPUID; the key is the leaf. */
export interface CpuidExit extends CpuExit {
  readonly kind: 'cpuid';
  readonly subleaf: number;
}
/** IN or OUT; the key is the port. */
export interface IoExit extends CpuExit {
  readonly kind: 'io';
  readonly write: boolean;
  /** Bytes: 1, 2 or 4. */
  readonly size: number;
  /** Value written; 0 for IN. */
  readonly value: number;
}
/** An access to a guest physical address without memory; the key is the GPA. */
export interface MmioExit extends CpuExit {
  readonly kind: 'mmio';
  readonly write: boolean;
  /** Bytes: 1, 2, 4 or 8. */
  readonly size: number;
  readonly lo: number;
  readonly hi: number;
}
/** A write to (or read of) a control, debug or descriptor-table register; the key is from {@link RegisterKey}. */
export interface RegisterExit extends CpuExit {
  readonly kind: 'register';
  readonly write: boolean;
  readonly lo: number;
  readonly hi: number;
}
/** The plane can take an interrupt now, as was asked. */
export interface InterruptWindowExit extends CpuExit {
  readonly kind: 'interruptWindow';
}
/** A locked access that cannot use the cache. It has not been made yet. */
export interface BusLockExit extends CpuExit {
  readonly kind: 'busLock';
}
/** A debug event for the VMM; `dr6` as the exception would set it. */
export interface DebugExit extends CpuExit {
  readonly kind: 'debug';
  readonly dr6: number;
}

/** An exception that somebody asked about is due and not delivered yet: the context holds it. The key is its vector. */
export interface ExceptionExit extends CpuExit {
  readonly kind: 'exception';
}

/** Keys of {@link RegisterExit}. */
export const RegisterKey = { Cr0: 0, Cr2: 2, Cr3: 3, Cr4: 4, Cr8: 8, Dr0: 16, Dr7: 23, Gdtr: 32, Idtr: 33, Ldtr: 34, Tr: 35, Xcr0: 48 } as const;
export type RegisterKey = (typeof RegisterKey)[keyof typeof RegisterKey];

/** Everything an x86 processor returns to the run loop: a closed union. */
export type X86Exit =
  | CallExit
  | MsrExit
  | CpuidExit
  | IoExit
  | MmioExit
  | RegisterExit
  | InterruptWindowExit
  | BusLockExit
  | DebugExit
  | ExceptionExit
  | HaltExit
  | BudgetExit
  | ShutdownExit
  | MemoryFaultExit;

/** All kinds of {@link X86Exit}, in the order of the union. */
export const x86ExitKinds = ['call', 'msr', 'cpuid', 'io', 'mmio', 'register', 'interruptWindow', 'busLock', 'debug', 'exception', 'halt', 'budget', 'shutdown', 'memoryFault'] as const satisfies readonly X86Exit['kind'][];

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The preallocated exit records of one VP: filled and returned by its processor, borrowed until its next run. */
export class X86ExitRecords {
  readonly call: Mutable<CallExit> = { kind: 'call', key: 0 };
  readonly msr: Mutable<MsrExit> = { kind: 'msr', key: 0, write: false, lo: 0, hi: 0 };
  readonly cpuid: Mutable<CpuidExit> = { kind: 'cpuid', key: 0, subleaf: 0 };
  readonly io: Mutable<IoExit> = { kind: 'io', key: 0, write: false, size: 0, value: 0 };
  readonly mmio: Mutable<MmioExit> = { kind: 'mmio', key: 0, write: false, size: 0, lo: 0, hi: 0 };
  readonly register: Mutable<RegisterExit> = { kind: 'register', key: 0, write: false, lo: 0, hi: 0 };
  readonly interruptWindow: InterruptWindowExit = { kind: 'interruptWindow', key: 0 };
  readonly busLock: BusLockExit = { kind: 'busLock', key: 0 };
  readonly debug: Mutable<DebugExit> = { kind: 'debug', key: 0, dr6: 0 };
  readonly exception: Mutable<ExceptionExit> = { kind: 'exception', key: 0 };
  readonly halt: HaltExit = { kind: 'halt', key: 0 };
  readonly budget: BudgetExit = { kind: 'budget', key: 0 };
  readonly shutdown: ShutdownExit = { kind: 'shutdown', key: 0 };
}
