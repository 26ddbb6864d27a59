import { ApJumpTable, GhcbReason, NaeEvent, NaeIoInfo, type NaeRow, NaeTermination } from '@vmplanes/abi-sev-snp';
import { AccessResult, type Answer, PAGE_SIZE } from '@vmplanes/engine';
import { CallKind } from '@vmplanes/x86';
import { type GhcbFrame, type SavedFrame, Word } from './frame.ts';
import { type GhcbHost, pageOf } from './host.ts';
import type { EventParts } from './ports.ts';
import { isScratchUsable } from './scratch.ts';
import { terminate } from './termination.ts';

const GENERAL_PROTECTION = 13;
const UNDEFINED_OPCODE = 6;
const Msr = { tsc: 0x10, tscAux: 0xc000_0103 } as const;
/** Counters that RDPMC reaches. @spec APM vol. 2, 13.2.2 */
const PERFORMANCE_COUNTERS = 4;
const MMIO_LIMIT = 8;
const DR7 = { writable: 0xffff_23ff, fixed: 0x400 } as const;
/** GPAs are below it. */
const GPA_LIMIT = 2 ** 52;
const U32 = 0xffff_ffffn;
const io = NaeIoInfo.mask;
const SIZES = io.data8 | io.data16 | io.data32;

/**
 * Serves one event whose required fields are there. The frame holds the request, and takes the result: success without details until the handler says
 * otherwise.
 * @returns null when the result is in the frame, or another answer: the result was shown before it, or the event goes on later.
 */
export type EventHandler = (parts: EventParts, frame: GhcbFrame) => Answer | null;
/** An event and what serves it; null for one that is refused by name. */
export interface EventBinding {
  readonly row: NaeRow;
  readonly run: EventHandler | null;
}
const on = (row: NaeRow, run: EventHandler): EventBinding => ({ row, run });
const refused = (row: NaeRow): EventBinding => ({ row, run: null });

/** Done: nothing of it can be seen. */
const noEffect: EventHandler = () => null;

const readTsc = ({ host }: EventParts, frame: GhcbFrame): void => {
  const tsc = host.snp.arch.registers.readMsr(frame.plane.context, Msr.tsc, true);
  if (typeof tsc !== 'bigint') return;
  frame.setRegister(Word.rax, Number(tsc & U32), 0);
  frame.setRegister(Word.rdx, Number(tsc >> 32n), 0);
};

/** Puts the answer of whoever answers such exits for other guests into the frame. */
const conclude = ({ host }: EventParts, frame: GhcbFrame, answer: Answer): Answer | null => {
  switch (answer.kind) {
    case 'resume':
      return null;
    case 'fault':
      frame.except(answer.fault.code, answer.fault.errorCode);
      return null;
    case 'exit': {
      const { payload, completion } = answer;
      if (completion === null) {
        host.show(frame);
        return frame.plane.context.vp.replies.exit(payload);
      }
      const { owner, kind, data } = completion;
      return frame.plane.context.vp.replies.exit(payload, host.completion('inner', { frame: frame.save(), inner: { owner, kind, data } }));
    }
    case 'retry':
      return comesAgain(host, frame, answer);
    case 'wait':
    case 'switch':
      if (answer.rip === 'held') return comesAgain(host, frame, answer);
      host.show(frame);
      return answer;
  }
};

/** The instruction has not had its effect: the request stands in the page again. */
const comesAgain = (host: GhcbHost, frame: GhcbFrame, answer: Answer): Answer => {
  frame.takeBack();
  return host.later(frame, answer);
};

const cpuid: EventHandler = (parts, frame) => {
  const { behalf } = parts.host;
  const exit = behalf.records(frame.plane.context.vp.index).cpuid;
  exit.key = frame.registers[Word.rax]!;
  exit.subleaf = frame.registers[Word.rcx]!;
  return conclude(parts, frame, behalf.answer(frame, exit, false, frame.has('xcr0')));
};

const msr: EventHandler = (parts, frame) => {
  const { behalf } = parts.host;
  const exit = behalf.records(frame.plane.context.vp.index).msr;
  exit.key = frame.registers[Word.rcx]!;
  exit.write = (frame.info1Lo | frame.info1Hi) !== 0;
  exit.lo = exit.write ? frame.registers[Word.rax]! : 0;
  exit.hi = exit.write ? frame.registers[Word.rdx]! : 0;
  return conclude(parts, frame, behalf.answer(frame, exit));
};

const vmmcall: EventHandler = (parts, frame) => {
  const { behalf } = parts.host;
  const exit = behalf.records(frame.plane.context.vp.index).call;
  exit.key = CallKind.Vmmcall;
  return conclude(parts, frame, behalf.answer(frame, exit, true));
};

const rdpmc: EventHandler = (_parts, frame) => {
  if (frame.registers[Word.rcx]! >= PERFORMANCE_COUNTERS) {
    frame.except(GENERAL_PROTECTION, 0);
    return null;
  }
  frame.setRegister(Word.rax, 0, 0);
  frame.setRegister(Word.rdx, 0, 0);
  return null;
};

const dr7Read: EventHandler = ({ host }, frame) => {
  frame.setRegister(Word.rax, host.dr7[host.dr7Index(frame.plane.context)]!, 0);
  return null;
};
const dr7Write: EventHandler = ({ host }, frame) => {
  if (frame.registers[Word.rax + 1] !== 0) frame.except(GENERAL_PROTECTION, 0);
  else host.dr7[host.dr7Index(frame.plane.context)] = (frame.registers[Word.rax]! & DR7.writable) | DR7.fixed;
  return null;
};

/** @spec GHCB 4.1; Linux arch/x86/kvm/svm/svm.c (io_interception), sev.c (sev_es_string_io) */
const ioio: EventHandler = ({ host, transfers }, frame) => {
  const info = frame.info1Lo;
  const size = (info & SIZES) >>> NaeIoInfo.shift.data8;
  if (size === 0) return null;
  // One instruction has one size.
  if ((size & (size - 1)) !== 0) {
    frame.fail(GhcbReason.InvalidInput);
    return null;
  }
  const port = info >>> NaeIoInfo.shift.port;
  const write = (info & io.isIn) === 0;
  if ((info & io.isString) === 0) return transfers.port(frame, port, size, write);
  const bytes = frame.info2 * size;
  if (bytes === 0) return null;
  if (!isScratchUsable(frame.scratch, frame.gpa, bytes, host.options.version)) {
    frame.fail(GhcbReason.InvalidScratch);
    return null;
  }
  return transfers.string(frame, port, size, frame.info2, write);
};

const mmio =
  (write: boolean): EventHandler =>
  ({ host, transfers }, frame) => {
    const length = frame.info2;
    if (length === 0) return null;
    const { version } = host.options;
    if (version >= 2 && length > MMIO_LIMIT) frame.fail(GhcbReason.InvalidInput);
    else if (!isScratchUsable(frame.scratch, frame.gpa, length, version)) frame.fail(GhcbReason.InvalidScratch);
    else if (frame.info1 + length > GPA_LIMIT) frame.fail(GhcbReason.InvalidInput);
    else return transfers.memory(frame, frame.info1, length, write);
    return null;
  };

const apJumpTable: EventHandler = ({ host }, frame) => {
  const { aps } = host.snp.chapters;
  const isKnown = frame.info1Hi === 0 && (frame.info1Lo === ApJumpTable.Set || frame.info1Lo === ApJumpTable.Get);
  if (!isKnown || (frame.info1Lo === ApJumpTable.Set && frame.info2 >= GPA_LIMIT)) frame.fail(GhcbReason.InvalidInput);
  else if (frame.info1Lo === ApJumpTable.Set) aps.jumpTable = frame.info2;
  else frame.succeed(aps.jumpTable >>> 0, Math.floor(aps.jumpTable / 2 ** 32));
  return null;
};

const apResetHold: EventHandler = ({ host }, frame) => {
  // Woken by anything but a SIPI it has this result; a SIPI changes it.
  host.show(frame);
  return host.snp.chapters.aps.hold(frame.plane, 'ghcb');
};

const guestRequest =
  (extended: boolean): EventHandler =>
  ({ requests }, frame) => {
    const { info1, info2 } = frame;
    if (pageOf(info1) < 0 || pageOf(info2) < 0 || info1 === info2) frame.fail(GhcbReason.MissingInput);
    else requests.serve(frame, extended);
    return null;
  };

/** What a guest asked for, kept while the VMM makes the processor or the plane. */
export interface ApRequest {
  readonly frame: SavedFrame;
  readonly info1Lo: number;
  readonly info1Hi: number;
  readonly vmsa: number;
  readonly features: bigint | null;
}

/** Asks once more, with what the VMM has made; without it the request is not valid. The result is in the frame. */
export const createAp = (host: GhcbHost, frame: GhcbFrame, { info1Lo, info1Hi, vmsa, features }: ApRequest): void => {
  const reason = host.snp.chapters.aps.create(frame.plane, info1Lo, info1Hi, vmsa, features);
  if (reason !== 0) frame.fail(reason < 0 ? GhcbReason.InvalidInput : (reason as GhcbReason));
};

const apCreation: EventHandler = ({ host }, frame) => {
  const { aps } = host.snp.chapters;
  const features = frame.has('rax') ? (BigInt(frame.registers[Word.rax + 1]!) << 32n) | BigInt(frame.registers[Word.rax]!) : null;
  const { info1Lo, info1Hi, info2: vmsa } = frame;
  const reason = aps.create(frame.plane, info1Lo, info1Hi, vmsa, features);
  if (reason >= 0) {
    if (reason > 0) frame.fail(reason as GhcbReason);
    return null;
  }
  const { pending } = aps;
  if (pending.kind !== 'exit') return pending;
  return frame.plane.context.vp.replies.exit(pending.payload, host.completion('ap-creation', { frame: frame.save(), info1Lo, info1Hi, vmsa, features }));
};

const hvDoorbell: EventHandler = ({ host }, frame) => {
  const request = frame.info1Hi === 0 ? frame.info1Lo : -1;
  const gpa = host.snp.chapters.injection.doorbell(frame.plane, request, frame.info2);
  if (gpa < 0) frame.fail(-gpa as GhcbReason);
  else if (gpa === Number.POSITIVE_INFINITY) frame.succeed(0xffff_ffff, 0xffff_ffff);
  else frame.succeed(gpa >>> 0, Math.floor(gpa / 2 ** 32));
  return null;
};

const hvIpi: EventHandler = ({ host }, frame) => {
  if (!host.snp.chapters.injection.ipi(frame.plane, frame.info1Lo, frame.info1Hi)) frame.fail(GhcbReason.InvalidInput);
  return null;
};

/** The list is a count and the ids, 4 bytes each. @spec KVM planes series 2026-06, sev.c */
const getApicIds: EventHandler = ({ host }, frame) => {
  const { machine, arch } = host.snp;
  const ids = machine.vps.map((vp) => arch.fabric.apicId(vp.index));
  const list = new Uint32Array([ids.length, ...ids]);
  const needed = Math.ceil(list.byteLength / PAGE_SIZE);
  const room = frame.register(Word.rax);
  frame.setRegister(Word.rax, needed, 0);
  if (room < needed) return null;
  if (pageOf(frame.info1) < 0 || machine.memory.access.write(frame.subject, frame.info1, new Uint8Array(list.buffer), 0, list.byteLength) !== AccessResult.Ok) frame.fail(GhcbReason.InvalidInput);
  return null;
};

const runVmpl: EventHandler = ({ host }, frame) => {
  const vmpl = frame.info1Lo;
  if (vmpl === frame.plane.context.plane) return null;
  // The caller looks at its result when it runs again, so that it is there before.
  host.show(frame);
  const answer = vmpl < host.snp.machine.options.maxPlanes ? host.snp.chapters.switching.run(frame.plane, vmpl) : null;
  if (answer === null) frame.fail(GhcbReason.InvalidInput);
  return answer;
};

const hypervisorFeatures: EventHandler = ({ host }, frame) => {
  frame.succeed(host.options.features, 0);
  return null;
};

const termination: EventHandler = ({ host }, frame) => {
  const { shift } = NaeTermination;
  return terminate(host.snp, frame.plane, (frame.info1Lo >>> shift.reasonSet) & 0xf, (frame.info1Lo >>> shift.reasonCode) & 0xff, frame.info2Lo, frame.info2Hi);
};

const unsupportedEvent: EventHandler = ({ host }, frame) => {
  const { trace } = host.snp.machine.hooks;
  if (trace !== null) trace.note(frame.plane.context, 'unsupportedEvent', { codeLo: frame.info1Lo, codeHi: frame.info1Hi, infoLo: frame.info2Lo, infoHi: frame.info2Hi });
  return null;
};

/** Events and their behaviour, in the order of the specification. */
export const eventBindings: readonly EventBinding[] = [
  on(NaeEvent.Dr7Read, dr7Read),
  on(NaeEvent.Dr7Write, dr7Write),
  refused(NaeEvent.DebugException),
  refused(NaeEvent.AlignmentCheck),
  on(NaeEvent.Rdtsc, (parts, frame) => {
    readTsc(parts, frame);
    return null;
  }),
  on(NaeEvent.Rdpmc, rdpmc),
  on(NaeEvent.Cpuid, cpuid),
  on(NaeEvent.Invd, noEffect),
  on(NaeEvent.Ioio, ioio),
  on(NaeEvent.Msr, msr),
  on(NaeEvent.Vmmcall, vmmcall),
  on(NaeEvent.Rdtscp, (parts, frame) => {
    readTsc(parts, frame);
    const aux = parts.host.snp.arch.registers.readMsr(frame.plane.context, Msr.tscAux, true);
    if (typeof aux !== 'bigint') frame.except(UNDEFINED_OPCODE, null);
    else frame.setRegister(Word.rcx, Number(aux & U32), 0);
    return null;
  }),
  on(NaeEvent.Wbinvd, noEffect),
  on(NaeEvent.Monitor, noEffect),
  on(NaeEvent.Mwait, noEffect),
  on(NaeEvent.MmioRead, mmio(false)),
  on(NaeEvent.MmioWrite, mmio(true)),
  on(NaeEvent.NmiComplete, ({ host }, frame) => {
    host.snp.chapters.injection.nmiComplete(frame.plane);
    return null;
  }),
  on(NaeEvent.ApResetHold, apResetHold),
  on(NaeEvent.ApJumpTable, apJumpTable),
  on(NaeEvent.PageStateChange, ({ pages }, frame) => {
    pages.list(frame);
    return null;
  }),
  on(NaeEvent.GuestRequest, guestRequest(false)),
  on(NaeEvent.ExtendedGuestRequest, guestRequest(true)),
  on(NaeEvent.ApCreation, apCreation),
  on(NaeEvent.HvDoorbellPage, hvDoorbell),
  on(NaeEvent.HvIpi, hvIpi),
  refused(NaeEvent.HvTimer),
  on(NaeEvent.GetApicIds, getApicIds),
  on(NaeEvent.RunVmpl, runVmpl),
  refused(NaeEvent.SecureAvic),
  refused(NaeEvent.ConfigureInterruptInjection),
  refused(NaeEvent.DisableAlternateInjection),
  refused(NaeEvent.SpecificEoi),
  refused(NaeEvent.TioGuestRequest),
  refused(NaeEvent.TioOperation),
  on(NaeEvent.HypervisorFeatures, hypervisorFeatures),
  on(NaeEvent.Termination, termination),
  on(NaeEvent.UnsupportedEvent, unsupportedEvent),
];
