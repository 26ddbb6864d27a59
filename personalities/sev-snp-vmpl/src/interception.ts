import { DIRECT_MSRS, SevFeature, SevMsr, SvmExit } from '@vmplanes/abi-sev-snp';
import type { Answer, CpuExit } from '@vmplanes/engine';
import { type DebugExit, type MmioExit, type MsrExit, readRegister, type RegisterExit, RegisterKey, writeRegister, type X86Exit } from '@vmplanes/x86';
import { INTERCEPTED } from './intercepted-instructions.ts';
import type { SnpContext, SnpPlane } from './ports.ts';

const SVME = 0x1000;
const GENERAL_PROTECTION = 13;
const DIRECT = new Set(DIRECT_MSRS);
const EXCEPTION_DB = SvmExit.ExceptionBase + 1;
/** Nested page fault of an access to an address without memory: a reserved bit of the nested tables, so that the guest is told. */
const MMIO_ERROR = 0xd;

/**
 * Which events of a guest with encrypted state raise #VC in it, which exit at once, and which do not leave it. The host never moves the instruction
 * pointer of an event that raised #VC: the guest does so itself.
 * @spec APM vol. 2, 15.35.4 to 15.35.6; Linux arch/x86/kvm/svm/sev.c sev_es_init_vmcb
 */
export class Interception {
  constructor(readonly snp: SnpContext) {}

  /** @returns the answer; null when the architecture answers as for any guest. */
  handle(plane: SnpPlane, exit: CpuExit): Answer | null {
    const e = exit as X86Exit;
    switch (e.kind) {
      case 'call':
        return this.#instruction(plane, e.key < INTERCEPTED ? SvmExit.Vmmcall : e.key - INTERCEPTED);
      case 'cpuid':
        return this.refuse(plane, SvmExit.Cpuid);
      case 'io':
        return this.refuse(plane, SvmExit.Ioio, ioInfo(e.write, e.size, e.key));
      case 'mmio':
        return this.#mmio(plane, e);
      case 'msr':
        return this.#msr(plane, e);
      case 'register':
        return this.#register(plane, e);
      case 'debug':
        return this.#debug(plane, e);
      case 'halt':
        return this.exits(plane, SvmExit.Hlt);
      case 'shutdown':
        return this.exits(plane, SvmExit.Shutdown);
      case 'busLock':
        return this.exits(plane, SvmExit.BusLock);
      default:
        return null;
    }
  }

  /** The instruction is done before its exit: its VMSA has the next one. */
  retire({ context }: SnpPlane): void {
    this.snp.arch.retire(context);
    context.instructionLength = 0;
  }

  /** An intercepted event that needs the guest's help: #VC, or with Reflect #VC an exit to a more privileged VMPL. */
  refuse(plane: SnpPlane, code: number, info1 = 0, info2 = 0): Answer {
    if (this.snp.chapters.features.has(plane, SevFeature.ReflectVc)) return this.reflect(plane, code, info1, info2);
    return this.snp.chapters.injection.raiseVc(plane, code);
  }

  /**
   * Reflect #VC: the event is stored in the VMSA, and the next more privileged VMPL of this VP deals with it. Without one the VMM does.
   * @spec APM vol. 2, 15.36.9
   */
  reflect(plane: SnpPlane, code: number, info1: number, info2: number): Answer {
    const { context } = plane;
    const { vp } = context;
    this.snp.chapters.vmsas.store(plane, code, info1 >>> 0, Math.floor(info1 / 2 ** 32), info2 >>> 0, Math.floor(info2 / 2 ** 32));
    const above = vp.existing & (context.mask - 1);
    if (above === 0) return vp.replies.exit({ kind: 'reflectedVc', code, info1, info2 } as { kind: 'reflectedVc' }, { owner: 'sev-snp-vmpl', kind: 'refused', data: {}, reply: null });
    return vp.replies.switchTo(31 - Math.clz32(above), 'reflect-vc', 'stopped', 'held');
  }

  /** An automatic exit: the VMSA tells of it, and the event goes on as for any guest, unless a more privileged VMPL deals with it. */
  exits(plane: SnpPlane, code: number, info1 = 0): Answer | null {
    if (this.snp.chapters.features.has(plane, SevFeature.ReflectVc) && plane.context.plane > 0) return this.reflect(plane, code, info1, 0);
    if (code === SvmExit.BusLock) this.retire(plane);
    this.snp.chapters.vmsas.store(plane, code, info1 >>> 0, Math.floor(info1 / 2 ** 32), 0, 0);
    return null;
  }

  #instruction(plane: SnpPlane, code: number): Answer {
    if (code !== SvmExit.Pause) return this.refuse(plane, code);
    // The host lets another processor run, which its schedule does anyway.
    return this.exits(plane, code) ?? plane.context.vp.replies.resume();
  }

  #mmio(plane: SnpPlane, exit: MmioExit): Answer {
    return this.refuse(plane, SvmExit.Npf, MMIO_ERROR | (exit.write ? 2 : 0), exit.key);
  }

  #msr(plane: SnpPlane, exit: MsrExit): Answer | null {
    const own = this.snp.chapters.features.msr(plane, exit);
    if (own !== null) return own;
    if (exit.key === SevMsr.Efer && exit.write) return this.#efer(plane, exit);
    return DIRECT.has(exit.key) ? null : this.refuse(plane, SvmExit.Msr, exit.write ? 1 : 0);
  }

  /** A write of EFER is done, with its SVME bit left alone, and then exits. */
  #efer(plane: SnpPlane, exit: MsrExit): Answer {
    const { arch, machine, chapters } = this.snp;
    const { context } = plane;
    const { replies } = context.vp;
    const svme = readRegister(machine.arena, context.base, 'efer') & BigInt(SVME);
    const value = (BigInt(exit.hi) << 32n) | BigInt((exit.lo & ~SVME) >>> 0);
    if (arch.registers.writeMsr(context, SevMsr.Efer, value, false) !== 'ok') return replies.fault(GENERAL_PROTECTION, 0);
    const written = readRegister(machine.arena, context.base, 'efer') | svme;
    writeRegister(machine.arena, context.base, 'efer', written);
    this.retire(plane);
    chapters.vmsas.store(plane, SvmExit.EferWriteTrap, Number(written & 0xffff_ffffn), 0, 0, 0);
    return replies.resume();
  }

  #register(plane: SnpPlane, exit: RegisterExit): Answer | null {
    const { arch, chapters } = this.snp;
    switch (exit.key) {
      case RegisterKey.Dr7:
        if (chapters.features.has(plane, SevFeature.DebugSwap)) return null;
        return this.refuse(plane, exit.write ? SvmExit.Dr7Write : SvmExit.Dr7Read);
      case RegisterKey.Cr0:
      case RegisterKey.Cr4:
      case RegisterKey.Cr8: {
        if (!exit.write) return null;
        const answer = arch.registers.move(plane.context, exit);
        if (answer.kind !== 'resume') return answer;
        this.retire(plane);
        chapters.vmsas.store(plane, SvmExit.CrWriteTrap + exit.key, exit.lo, exit.hi, 0, 0);
        return plane.context.vp.replies.resume();
      }
      default:
        return null;
    }
  }

  #debug(plane: SnpPlane, _exit: DebugExit): Answer | null {
    return this.snp.chapters.features.has(plane, SevFeature.DebugSwap) ? null : this.refuse(plane, EXCEPTION_DB);
  }
}

/** EXITINFO1 of IN and OUT without repetition. @spec APM vol. 2, 15.10.2 */
const ioInfo = (write: boolean, size: number, port: number): number => port * 0x1_0000 + (write ? 0 : 1) + (size << 4);
