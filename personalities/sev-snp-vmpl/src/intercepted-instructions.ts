import { SevFeature, SevMsr, SnpLevel, SvmExit } from '@vmplanes/abi-sev-snp';
import type { CpuExit, PlaneContext } from '@vmplanes/engine';
import { type CallExit, callKindNames, X86 } from '@vmplanes/x86';
import type { OptionalIntercept } from './options.ts';
import type { SnpContext } from './ports.ts';

/** Key of a `call` exit that stands for an intercepted instruction: its exit code above this. */
export const INTERCEPTED = 0x1000;

const GENERAL_PROTECTION = 13;
const CR4_TSD = 1 << 2;
const CR4_PCE = 1 << 8;

/** One instruction that a host may intercept, and no exit of its own stands for. */
interface InterceptedRow {
  readonly mnemonic: string;
  readonly encoding: string;
  readonly spec: string;
  readonly code: number;
  /** The option that must name it; always intercepted without one. */
  readonly option?: OptionalIntercept;
  /** What keeps it from programs, checked before the interception: privilege level 0, CR4.TSD, CR4.PCE. */
  readonly guard?: 'cpl0' | 'tsd' | 'pce';
  /** What it does where it is not intercepted. */
  readonly direct?: 'rdtsc' | 'rdtscp' | 'none';
}

const rows: readonly InterceptedRow[] = [
  { mnemonic: 'rdtsc', encoding: '0f 31', spec: 'APM vol. 3, RDTSC', code: SvmExit.Rdtsc, guard: 'tsd', option: 'rdtsc', direct: 'rdtsc' },
  { mnemonic: 'rdtscp', encoding: '0f 01 f9', spec: 'APM vol. 3, RDTSCP', code: SvmExit.Rdtscp, guard: 'tsd', option: 'rdtscp', direct: 'rdtscp' },
  { mnemonic: 'rdpmc', encoding: '0f 33', spec: 'APM vol. 3, RDPMC', code: SvmExit.Rdpmc, guard: 'pce' },
  { mnemonic: 'invd', encoding: '0f 08', spec: 'APM vol. 3, INVD', code: SvmExit.Invd, guard: 'cpl0' },
  { mnemonic: 'wbinvd', encoding: '0f 09', spec: 'APM vol. 3, WBINVD', code: SvmExit.Wbinvd, guard: 'cpl0' },
  { mnemonic: 'monitor', encoding: '0f 01 c8', spec: 'APM vol. 3, MONITOR', code: SvmExit.Monitor, guard: 'cpl0' },
  { mnemonic: 'mwait', encoding: '0f 01 c9', spec: 'APM vol. 3, MWAIT', code: SvmExit.Mwait, guard: 'cpl0' },
  { mnemonic: 'pause', encoding: 'f3 90', spec: 'APM vol. 3, PAUSE', code: SvmExit.Pause, option: 'pause', direct: 'none' },
];

/**
 * Contributes the instructions that a host may intercept. MOV from DR7 is among them: the processor core has no exit for reads.
 * @spec APM vol. 2, 15.35.4; Linux arch/x86/kvm/svm/sev.c sev_es_init_vmcb
 */
export const contributeIntercepted = (snp: SnpContext): void => {
  if (snp.level === SnpLevel.Sev) return;
  const exit: { -readonly [K in keyof CallExit]: CallExit[K] } = { kind: 'call', key: 0 };
  const leave = (code: number): CpuExit => {
    exit.key = INTERCEPTED + code;
    return exit;
  };
  const isRefused = (context: PlaneContext, guard: InterceptedRow['guard']): boolean => {
    const word = (offset: number): number => snp.machine.arena.u32[(context.base + offset) >>> 2]!;
    if (guard === undefined || word(X86.cpl) === 0) return false;
    const isOpen = guard === 'tsd' ? (word(X86.cr4) & CR4_TSD) === 0 : guard === 'pce' && (word(X86.cr4) & CR4_PCE) !== 0;
    if (!isOpen) snp.arch.injectFault(context, { code: GENERAL_PROTECTION, errorCode: 0, addressLo: 0, addressHi: 0 });
    return !isOpen;
  };
  for (const { mnemonic, encoding, spec, code, guard, option, direct } of rows) {
    const isIntercepted = option === undefined || snp.options.intercepts.includes(option);
    callKindNames.set(INTERCEPTED + code, `intercepted ${mnemonic}`);
    const run = (context: PlaneContext): CpuExit | null => {
      if (isRefused(context, guard)) return null;
      // With Secure TSC the counter is read inside the guest. @spec APM vol. 2, 15.36.18
      const readsInside = direct !== 'none' && direct !== undefined && snp.chapters.features.has(snp.chapters.switching.planeOf(context), SevFeature.SecureTsc);
      if (isIntercepted && !readsInside) return leave(code);
      if (direct === 'rdtsc' || direct === 'rdtscp') readCounter(snp, context, direct === 'rdtscp');
      return null;
    };
    snp.arch.contribute({ mnemonic, encoding, spec, run });
  }
  callKindNames.set(INTERCEPTED + SvmExit.Dr7Read, 'intercepted mov from dr7');
  snp.arch.contribute({
    mnemonic: 'mov rax, dr7',
    encoding: '0f 21 f8',
    spec: 'APM vol. 3, MOV DRn',
    run: (context) => {
      if (isRefused(context, 'cpl0')) return null;
      if (!snp.chapters.features.has(snp.chapters.switching.planeOf(context), SevFeature.DebugSwap)) return leave(SvmExit.Dr7Read);
      const { u32 } = snp.machine.arena;
      for (const half of [0, 4]) u32[(context.base + X86.rax + half) >>> 2] = u32[(context.base + X86.dr7 + half) >>> 2]!;
      return null;
    },
  });
};

const readCounter = ({ arch, machine }: SnpContext, context: PlaneContext, withAux: boolean): void => {
  const tsc = arch.registers.readMsr(context, SevMsr.Tsc, true) as bigint;
  arch.registers.setEdxEax(context, Number(tsc & 0xffff_ffffn), Number(tsc >> 32n));
  if (!withAux) return;
  const { u32 } = machine.arena;
  u32[(context.base + X86.rcx) >>> 2] = u32[(context.base + X86.tscAux) >>> 2]!;
  u32[(context.base + X86.rcx + 4) >>> 2] = 0;
};
