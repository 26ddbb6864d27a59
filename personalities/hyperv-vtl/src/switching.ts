import { HvVpAssistPage, HvVpVtlControl } from '@vmplanes/abi-hyperv';
import type { Answer, PlaneContext } from '@vmplanes/engine';
import { X86 } from '@vmplanes/x86';
import { runs64Bit } from './code-mode.ts';
import { EntryReason, type HvContext, SwitchReason, type Switching } from './ports.ts';
import { runReturnActions } from './return-actions.ts';

const INVALID_OPCODE = 6;
const CONTROL = HvVpAssistPage.at.vtlControl;
const ENTRY_REASON = CONTROL + HvVpVtlControl.at.entryReason;
const RETURN_RAX = CONTROL + HvVpVtlControl.at.vtlReturnRax;
const RETURN_RCX = CONTROL + HvVpVtlControl.at.vtlReturnRcx;
const RAX = X86.rax >>> 2;
const RCX = X86.rcx >>> 2;
const RDX = X86.rdx >>> 2;
const FAST_RETURN = 1;

/** Reason in the assist page, by the name of the switch; any other way into a higher VTL is an interrupt. */
const reasonOf = (reason: string): EntryReason => {
  switch (reason) {
    case SwitchReason.VtlCall:
      return EntryReason.VtlCall;
    case SwitchReason.Intercept:
      return EntryReason.Intercept;
    case SwitchReason.Start:
      return EntryReason.Reserved;
    default:
      return EntryReason.Interrupt;
  }
};

/**
 * VTL call, VTL return, and what goes with every entry. The engine moves shared registers and runs the right VTL; here are the rules of the
 * operands and of the control area in the assist page.
 * @spec TLFS Virtual Secure Mode: VTL call, VTL return, VTL entry
 */
export class SwitchingChapter implements Switching {
  constructor(readonly hv: HvContext) {}

  /** The control input of a switch, as far as it is legal; -1 when it has reserved bits. */
  #input(context: PlaneContext, allowed: number): number {
    const { u32 } = this.hv.machine.arena;
    const word = context.base >>> 2;
    const wide = runs64Bit(this.hv.machine.arena, context);
    const lo = u32[word + (wide ? RAX : RCX)]!;
    return (lo & ~allowed) !== 0 || (wide && u32[word + RAX + 1]! !== 0) ? -1 : lo;
  }

  /** @spec TLFS Virtual Secure Mode, VTL call */
  vtlCall(context: PlaneContext): Answer {
    const { vp } = context;
    const to = this.hv.chapters.vsm.above(vp, context.plane);
    if (to < 0 || this.#input(context, 0) !== 0) return vp.replies.fault(INVALID_OPCODE);
    return vp.replies.switchTo(to, SwitchReason.VtlCall, 'runnable');
  }

  /** @spec TLFS Virtual Secure Mode, VTL return */
  vtlReturn(context: PlaneContext): Answer {
    const { vp } = context;
    const to = this.hv.chapters.vsm.below(vp, context.plane);
    const input = this.#input(context, FAST_RETURN);
    if (to < 0 || input < 0) return vp.replies.fault(INVALID_OPCODE);
    this.hv.chapters.vsm.releaseTlbLocks(vp, context.plane);
    if (this.hv.chapters.assist.isEnabled(context)) {
      runReturnActions(this.hv, context);
      if (input !== FAST_RETURN) this.#restoreRegisters(context);
    }
    return vp.replies.switchTo(to, SwitchReason.VtlReturn, 'stopped');
  }

  /** Registers that the returning VTL left for the lower one. They are shared: the switch takes them along. */
  #restoreRegisters(context: PlaneContext): void {
    const content = this.hv.chapters.assist.content(context);
    const { u32 } = this.hv.machine.arena;
    const word = context.base >>> 2;
    const rax = u32[(content + RETURN_RAX) >>> 2]!;
    const raxHigh = u32[(content + RETURN_RAX + 4) >>> 2]!;
    const rcx = u32[(content + RETURN_RCX) >>> 2]!;
    u32[word + RAX] = rax;
    if (runs64Bit(this.hv.machine.arena, context)) {
      u32[word + RAX + 1] = raxHigh;
      u32[word + RCX] = rcx;
      u32[word + RCX + 1] = u32[(content + RETURN_RCX + 4) >>> 2]!;
      return;
    }
    u32[word + RAX + 1] = u32[word + RCX + 1] = u32[word + RDX + 1] = 0;
    u32[word + RCX] = raxHigh;
    u32[word + RDX] = rcx;
  }

  /** So that a VTL that leaves the fields alone and returns gives the lower VTL its registers back. */
  #prefillRegisters(context: PlaneContext, content: number): void {
    const { u32 } = this.hv.machine.arena;
    const word = context.base >>> 2;
    const wide = runs64Bit(this.hv.machine.arena, context);
    u32[(content + RETURN_RAX) >>> 2] = u32[word + RAX]!;
    u32[(content + RETURN_RAX + 4) >>> 2] = u32[word + (wide ? RAX + 1 : RCX)]!;
    u32[(content + RETURN_RCX) >>> 2] = u32[word + (wide ? RCX : RDX)]!;
    u32[(content + RETURN_RCX + 4) >>> 2] = wide ? u32[word + RCX + 1]! : 0;
  }

  switched(from: PlaneContext, to: PlaneContext, reason: string): void {
    const { assist, intercepts, vina, vsm } = this.hv.chapters;
    if (to.plane < from.plane) {
      // Whoever ordered the switch: a VTL that does not run holds no locks.
      vsm.releaseTlbLocks(from.vp, from.plane);
      vina.left(from);
      return;
    }
    if (assist.isEnabled(to)) {
      // An enabled page has its frame.
      const content = assist.content(to);
      this.hv.machine.arena.u32[(content + ENTRY_REASON) >>> 2] = reasonOf(reason);
      if (this.hv.options.prefillReturn) this.#prefillRegisters(to, content);
    }
    vina.entered(to);
    intercepts.entered(to);
  }
}
