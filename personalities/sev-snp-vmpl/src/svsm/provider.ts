import { RmpStatus } from '@vmplanes/abi-sev-snp';
import { SVSM_PROTOCOL_RESULT, SvsmCoreResult, SvsmCallingArea, SvsmProtocol, SvsmResult } from '@vmplanes/abi-svsm';
import { type Answer, type Completion, type Machine, type PlainRecord, type PlainState, type PlaneContext, type Vp } from '@vmplanes/engine';
import { readMsr, readRegister, writeRegister } from '@vmplanes/x86';
import type { SvsmDeviation } from '../options.ts';
import { terminate } from '../ghcb/termination.ts';
import type { SnpContext, SnpPlane, Svsm } from '../ports.ts';
import { Apics } from './apics.ts';
import { keyResponse } from './attestation.ts';
import { launchGuest } from './boot.ts';
import { bindings } from './calls.ts';
import { type SvsmCpu, freshCpu, SvsmFrame } from './frame.ts';
import { noteCall } from './trace-call.ts';
import { GuestPages } from './guest-pages.ts';
import type { SvsmHandler } from './handler.ts';
import type { PspState } from './psp-channel.ts';
import { Registry } from './registry.ts';
import { vtpmResponse } from './vtpm.ts';
import { EFER_SVME, VmsaField } from './vmsa-fields.ts';

/** What the attestation protocol keeps. Plain data. */
export interface AttestationState {
  readonly psp: PspState;
  /** The TPM was asked for its endorsement key. */
  isKeyKnown: boolean;
  /** TPMT_PUBLIC; empty where there is none. */
  endorsementKey: Uint8Array;
}

const OWNER = 'sev-snp-vmpl';
/** VMSA exit code of VMGEXIT. @spec APM vol. 2, Appendix C */
const VMGEXIT = 0x403n;
/** Answer to Run VMPL in the GHCB MSR. @spec GHCB 2.3.1, MSR protocol 0x017 */
const RUN_VMPL_RESPONSE = 0x017;
/** Request of the MSR protocol that ends the guest, with the general reason. @spec GHCB 2.3.1, MSR protocol 0x100 */
const TERMINATE = 0x100;
/** APIC base in x2APIC mode, its bit for the boot processor, and a spurious-interrupt register that enables. @spec SDM 3A §10.4.4, §10.9, §10.12.1 */
const X2APIC_BASE = 0xfee0_0c00;
const BOOT_PROCESSOR = 0x100;
const X2APIC_TMR = 0x818;
const ENABLED_SVR = 0x1ff;
/** RFLAGS with interrupts enabled. */
const INTERRUPTS_ON = 0x202n;
/** Most events that are pending at once: one for each vector, and those without. */
const EVENTS = 260;
/** Ticks between two looks at something that no event announces. */
const LOOK_AGAIN = 1000;

const { Success, UnsupportedProtocol, UnsupportedCall, Busy } = SvsmResult;

/** Protocols with calls that are served, and by protocol and call what serves them. */
const handlers = new Map<string, SvsmHandler>();
for (const { call, handler } of bindings) if (handler) handlers.set(`${call.protocol}.${call.number}`, handler);
/** Completions of plane 0, by kind. */
const Work = { Resume: 'svsm.resume', Serve: 'svsm.serve', Service: 'svsm.service' } as const;

/**
 * The SVSM inside the personality: what a provider at VMPL0 does each time its processor runs, as completions of plane 0.
 * @spec SVSM 1.00; coconut-svsm kernel/src/requests.rs, kernel/src/vmm/execloop.rs
 */
export class SvsmProvider implements Svsm {
  readonly stateName = 'svsm';
  readonly guestVmpl: number;
  readonly registry = new Registry();
  readonly pages: GuestPages;
  readonly apics = new Apics();
  readonly attestation: AttestationState = { psp: { sequence: 1n, isCleared: false }, isKeyKnown: false, endorsementKey: new Uint8Array(0) };
  readonly #frames: (SvsmFrame | null)[] = [];
  readonly #cpus: SvsmCpu[] = [];
  readonly #deviations: ReadonlySet<SvsmDeviation>;
  /** Calls that work on pages, and calls that change the registry, exclude each other; calls of the first kind do not. Only at preemption points are they not 0. */
  #readers = 0;
  #writers = 0;
  /** Calls seen, for the option that answers BUSY. */
  #calls = 0;
  /** The guest was given what it begins with. */
  #isBooted = false;
  readonly #word = new Uint32Array(2);
  /** Ended by an error of its own: nothing runs any more. */
  #isDead = false;

  constructor(readonly snp: SnpContext) {
    this.guestVmpl = snp.options.guestVmpl;
    this.pages = new GuestPages(snp, this.registry);
    this.#deviations = new Set(snp.options.svsmDeviations);
  }

  get machine(): Machine {
    return this.snp.machine;
  }
  deviates(name: SvsmDeviation): boolean {
    return this.#deviations.has(name);
  }
  cpuOf(vp: number): SvsmCpu {
    return (this.#cpus[vp] ??= freshCpu());
  }

  // -- VMPL0 of a processor ---------------------------------------------------------------------------------------------

  planeCreated(context: PlaneContext): void {
    if (context.plane === this.guestVmpl && this.snp.options.svsmApic) this.#emulateApic(context);
    if (context.plane !== 0) return;
    this.#plan(context, Work.Resume);
    // AP creation names it before it runs.
    if (this.machine.options.maxPlanes > this.guestVmpl) this.snp.chapters.switching.create(context.vp, this.guestVmpl);
  }
  planeReset(context: PlaneContext): void {
    if (context.plane === this.guestVmpl && this.cpuOf(context.vp.index).hasApic) this.#emulateApic(context);
  }
  /** The APIC that the provider emulates is enabled and has the registers of x2APIC mode. @spec coconut-svsm kernel/src/cpu/apic.rs */
  #emulateApic(context: PlaneContext): void {
    this.cpuOf(context.vp.index).hasApic = true;
    const apic = this.snp.arch.apicOf(context);
    apic.writeApicBase(X2APIC_BASE | (apic.isBootProcessor ? BOOT_PROCESSOR : 0), 0);
    apic.writeSvr(ENABLED_SVR);
  }
  switched(_from: PlaneContext, to: PlaneContext): void {
    if (to.plane === 0 && to.completion === null) this.#plan(to, Work.Resume);
  }
  /** A processor whose guest has no VMSA sleeps until it has one. */
  turn(context: PlaneContext): void {
    if (context.plane !== 0 || context.wait?.kind !== 'key' || context.wait.key !== this.#key(context.vp)) return;
    const guest = this.snp.chapters.switching.plane(context.vp, this.guestVmpl);
    if (guest !== null && (guest.vmsa >= 0 || guest.pendingVmsa >= 0) && !this.#isDead) this.machine.release(this.#key(context.vp));
  }

  #key(vp: Vp): string {
    return `svsm:${vp.index}`;
  }
  #plan(context: PlaneContext, kind: string, data: PlainRecord = {}): void {
    context.completion = { owner: OWNER, kind, data, reply: {} };
  }

  complete(context: PlaneContext, completion: Completion): Answer {
    if (this.#isDead) return this.#sleep(context);
    switch (completion.kind) {
      case Work.Serve:
        return this.#serve(this.#frame(context));
      case Work.Service:
        return this.#finish(this.#frame(context), completion);
      default:
        return this.#resume(context);
    }
  }

  /** VMPL0 goes on behind its Run VMPL. @spec coconut-svsm kernel/src/requests.rs, kernel/src/vmm/execloop.rs */
  #resume(context: PlaneContext): Answer {
    const cpu = this.cpuOf(context.vp.index);
    this.#takeEvents(context);
    const guest = this.snp.chapters.switching.plane(context.vp, this.guestVmpl);
    if (guest !== null) this.payEoi(cpu, guest);
    if (!this.#isBooted && context.vp.index === 0) {
      this.#isBooted = true;
      launchGuest(this, context);
    }
    if (cpu.nextVmsa >= 0) {
      cpu.vmsa = cpu.nextVmsa;
      cpu.area = cpu.nextArea;
      cpu.nextVmsa = cpu.nextArea = -1;
    }
    const isFirst = !cpu.hasEntered && this.deviates('firstEntry');
    if (isFirst || cpu.vmsa < 0 || !this.#takeCall(cpu)) return this.#enter(context);
    const frame = this.#frame(context);
    const { vmsas } = this.snp.chapters;
    // While the provider edits it the host must not run it.
    vmsas.write(cpu.vmsa, VmsaField.Efer, vmsas.read(cpu.vmsa, VmsaField.Efer) & ~EFER_SVME);
    return this.#serve(frame);
  }

  /** Events of VMPL0 itself: the provider has no work for any of them, so each is taken and at once done with. */
  #takeEvents(context: PlaneContext): void {
    if (!context.events.deliverable()) return;
    const { arena } = this.machine;
    const apic = this.snp.arch.apicOf(context);
    for (let i = 0; i < EVENTS && context.events.deliverable(); i++) {
      writeRegister(arena, context.base, 'rflags', INTERRUPTS_ON);
      context.events.enter();
      if (readRegister(arena, context.base, 'interrupt.injected') !== 0n) apic.eoi();
      for (const cell of ['interrupt.injected', 'nmi.injected', 'nmi.blocked'] as const) writeRegister(arena, context.base, cell, 0n);
    }
    this.machine.eventsChanged(context);
  }

  #takeCall(cpu: SvsmCpu): boolean {
    return cpu.area >= 0 && this.snp.chapters.vmsas.read(cpu.vmsa, VmsaField.ExitCode) === VMGEXIT && this.pages.takeCall(cpu.area);
  }

  #frame(context: PlaneContext): SvsmFrame {
    const { vp } = context;
    const { switching, vmsas } = this.snp.chapters;
    const guest = switching.create(vp, this.guestVmpl);
    const frame = (this.#frames[vp.index] ??= new SvsmFrame(vp, this.cpuOf(vp.index), context, guest));
    frame.guest = guest;
    const { vmsa } = frame.cpu;
    const rax = vmsas.read(vmsa, VmsaField.Rax);
    frame.protocol = Number(rax >> 32n);
    frame.number = Number(rax & 0xffff_ffffn);
    frame.rcx = vmsas.read(vmsa, VmsaField.Rcx);
    frame.rdx = vmsas.read(vmsa, VmsaField.Rdx);
    frame.r8 = vmsas.read(vmsa, VmsaField.R8);
    return frame;
  }

  // -- calls ---------------------------------------------------------------------------------------------------------

  #serve(frame: SvsmFrame): Answer {
    const { svsmBusyEvery } = this.snp.options;
    if (svsmBusyEvery > 0 && ++this.#calls % svsmBusyEvery === 0) return this.#return(frame, Busy);
    if (!this.offers(frame.protocol, frame.cpu)) return this.#return(frame, UnsupportedProtocol);
    const handler = handlers.get(`${frame.protocol}.${frame.number}`);
    if (!handler) return this.#return(frame, frame.protocol === SvsmProtocol.Attestation && this.deviates('attestationCall') ? UnsupportedProtocol : UnsupportedCall);
    const isCore = frame.protocol === SvsmProtocol.Core;
    const writes = isCore && (frame.number === 0 || frame.number === 2 || frame.number === 3);
    const reads = isCore && frame.number === 1;
    if ((writes && this.#readers + this.#writers > 0) || (reads && this.#writers > 0)) return this.later(frame);
    if (writes) this.#writers++;
    if (reads) this.#readers++;
    let result: ReturnType<SvsmHandler>;
    try {
      result = handler(this, frame);
    } finally {
      if (writes) this.#writers--;
      if (reads) this.#readers--;
    }
    if (this.#isDead) return this.#end(frame);
    return typeof result === 'number' ? this.#return(frame, result) : result;
  }

  /** Protocols that a processor's guest may call. */
  offers(protocol: number, cpu: SvsmCpu): boolean {
    const { options } = this.snp;
    switch (protocol) {
      case SvsmProtocol.Core:
      case SvsmProtocol.Attestation:
        return true;
      case SvsmProtocol.Vtpm:
        return options.vtpm;
      case SvsmProtocol.Apic:
        return cpu.hasApic;
      default:
        return false;
    }
  }

  /** The call is looked at again a little later: what it waits for is not announced. */
  later(frame: SvsmFrame): Answer {
    const { vp, context } = frame;
    this.#plan(context, Work.Serve);
    return vp.replies.wait({ kind: 'time', at: this.machine.timeOf(vp) + LOOK_AGAIN }, 'advanced');
  }

  /** Asks a service of the host; the call goes on in `finish` of its protocol. @param data - what it needs then. */
  ask(frame: SvsmFrame, service: string, request: PlainRecord, data: PlainRecord): Answer {
    return frame.vp.replies.exit({ kind: 'service', service, request } as never, { owner: OWNER, kind: Work.Service, data, reply: null });
  }
  #finish(frame: SvsmFrame, { data, reply }: Completion): Answer {
    const result = this.finishers[String(data['next'])]!(this, frame, data, reply ?? {});
    return typeof result === 'number' ? this.#return(frame, result) : result;
  }
  /** What goes on when a service of the host has answered, by name. */
  readonly finishers: Readonly<Record<string, (provider: SvsmProvider, call: SvsmFrame, data: PlainRecord, reply: PlainRecord) => number | Answer>> = { vtpm: vtpmResponse, key: keyResponse };
  /** The call is served from its beginning. */
  again(frame: SvsmFrame): Answer {
    return this.#serve(frame);
  }

  /** Gives results to the guest and enters it. */
  #return(frame: SvsmFrame, result: number): Answer {
    const { cpu, vp, guest } = frame;
    const { vmsas } = this.snp.chapters;
    const { trace } = this.machine.hooks;
    if (trace !== null) noteCall(trace, frame, guest.context, result);
    const vmsa = cpu.vmsa;
    if (vmsa >= 0) {
      vmsas.write(vmsa, VmsaField.Rax, BigInt(result >>> 0));
      vmsas.write(vmsa, VmsaField.Rcx, frame.rcx);
      vmsas.write(vmsa, VmsaField.Rdx, frame.rdx);
      vmsas.write(vmsa, VmsaField.R8, frame.r8);
      vmsas.write(vmsa, VmsaField.Efer, vmsas.read(vmsa, VmsaField.Efer) | EFER_SVME);
    }
    return this.#enter(vp.plane(0));
  }

  // -- the guest -----------------------------------------------------------------------------------------------------

  /** Run VMPL of the guest, or sleep until there is something to run. */
  #enter(context: PlaneContext): Answer {
    const { vp } = context;
    const { switching } = this.snp.chapters;
    const own = switching.create(vp, 0);
    own.ghcbMsrLo = RUN_VMPL_RESPONSE;
    own.ghcbMsrHi = 0;
    this.#offerLazyEoi(vp);
    const answer = this.cpuOf(vp.index).vmsa < 0 && this.cpuOf(vp.index).hasEntered ? null : switching.run(own, this.guestVmpl);
    if (answer !== null) {
      this.cpuOf(vp.index).hasEntered = true;
      return answer;
    }
    if (!this.deviates('runError')) return this.#sleep(context);
    this.#plan(context, Work.Resume);
    return vp.replies.wait({ kind: 'time', at: this.machine.timeOf(vp) + LOOK_AGAIN }, 'advanced');
  }
  /** The guest may leave out the EOI of an edge interrupt in service behind which none waits. @spec coconut-svsm kernel/src/cpu/apic.rs */
  #offerLazyEoi(vp: Vp): void {
    const cpu = this.cpuOf(vp.index);
    if (!cpu.hasApic || cpu.area < 0 || cpu.owesEoi) return;
    const apic = this.snp.arch.apicOf(vp.plane(this.guestVmpl));
    const vector = apic.highestIsr();
    if (vector < 0 || apic.irrNonEmpty() || !readMsr(apic, X2APIC_TMR + (vector >>> 5), this.#word) || (this.#word[0]! & (1 << (vector & 31))) !== 0) return;
    cpu.owesEoi = true;
    this.pages.writeHead(cpu.area, SvsmCallingArea.at.noEoiRequired, 1);
  }
  #sleep(context: PlaneContext): Answer {
    const key = this.#key(context.vp);
    this.machine.hold(key);
    this.#plan(context, Work.Resume);
    return context.vp.replies.wait({ kind: 'key', key }, 'advanced');
  }

  // -- what calls do -------------------------------------------------------------------------------------------------

  /** A point at which tests let another processor run. */
  preempt(point: string, vp: Vp): void {
    this.machine.hooks.preemption?.at(point, vp);
  }

  /** RMPADJUST by VMPL0. @returns a result code. */
  adjust(gpn: number, large: boolean, target: number, mask: number, vmsa: boolean): number {
    return this.#atSize(gpn, large, () => this.snp.chapters.rmp.adjust(0, gpn, large, target, mask, vmsa));
  }
  /** Takes all rights of the guest to a page. @returns a result code. */
  revoke(gpn: number, large: boolean): number {
    for (let vmpl = this.guestVmpl; vmpl <= 3; vmpl++) {
      const result = this.adjust(gpn, large, vmpl, 0, false);
      if (result !== Success) return result;
    }
    return Success;
  }
  /** PVALIDATE by VMPL0. @returns a result code. */
  pvalidate(gpn: number, large: boolean, validated: boolean): number {
    return this.#atSize(gpn, large, () => this.snp.chapters.rmp.validate(gpn, large, validated));
  }
  /** Where a page of 4 KiB lies in an entry of 2 MiB the host splits the entry and the instruction runs again. @spec APM vol. 2, 15.36.9 */
  #atSize(gpn: number, large: boolean, instruction: () => number): number {
    const { rmp } = this.snp.chapters;
    let status = instruction();
    if (status < 0 && !large && rmp.entry(gpn).large && rmp.smash(gpn & ~511) === RmpStatus.Success) status = instruction();
    // The instruction faults: the guest named a page that the host has not made private.
    if (status < 0) return SvsmCoreResult.FailInput;
    if ((status & 0xff) !== RmpStatus.Success) return SVSM_PROTOCOL_RESULT + (status & 0xff);
    return (status & 0x100) !== 0 ? SvsmCoreResult.Unchanged : Success;
  }

  /** The processor with an APIC id, or -1. */
  vpOf(apicId: number): number {
    return this.machine.vps.findIndex((vp) => this.snp.arch.apicOf(vp.plane(0)).initialId === apicId);
  }

  /** No processor runs from this VMSA any more. */
  forget(vmsa: number): void {
    for (const cpu of this.#cpus) {
      if (!cpu) continue;
      if (cpu.vmsa === vmsa) cpu.vmsa = cpu.area = -1;
      if (cpu.nextVmsa === vmsa) cpu.nextVmsa = cpu.nextArea = -1;
    }
  }

  /** The guest left out the EOI that it was told it may: it is made now. @spec coconut-svsm kernel/src/cpu/apic.rs */
  payEoi(cpu: SvsmCpu, guest: SnpPlane): void {
    if (!cpu.owesEoi || cpu.area < 0 || this.pages.readHead(cpu.area, SvsmCallingArea.at.noEoiRequired) !== 0) return;
    cpu.owesEoi = false;
    this.snp.arch.apicOf(guest.context).eoi();
  }

  // -- the end -------------------------------------------------------------------------------------------------------

  #why = '';
  /** The provider cannot go on: it forgets its keys and ends the guest. @spec coconut-svsm kernel/src/svsm.rs, panic */
  panic(call: SvsmFrame, why: string): number {
    return this.dies(why, call);
  }
  dies(why: string, _call: SvsmFrame): number {
    this.#isDead = true;
    this.#why = why;
    return Success;
  }
  #end({ vp }: SvsmFrame): Answer {
    this.attestation.psp.isCleared = true;
    const own = this.snp.chapters.switching.create(vp, 0);
    [own.ghcbMsrLo, own.ghcbMsrHi] = [TERMINATE, 0];
    return terminate(this.snp, own, 0, 0, 0, 0, `the SVSM cannot go on, ${this.#why}`);
  }

  // -- state -----------------------------------------------------------------------------------------------------------

  save(): PlainState {
    return { cpus: this.#cpus.map((c) => ({ ...(c ?? freshCpu()) })), registry: this.registry.save(), calls: this.#calls, isBooted: this.#isBooted, isDead: this.#isDead, why: this.#why, apics: this.apics.save(), attestation: structuredClone(this.attestation) };
  }
  restore(state: PlainState): void {
    const s = state as PlainRecord;
    (s['cpus'] as SvsmCpu[]).forEach((c, i) => Object.assign(this.cpuOf(i), c));
    this.registry.restore(s['registry']!);
    this.#calls = s['calls'] as number;
    this.#isBooted = s['isBooted'] as boolean;
    this.#isDead = s['isDead'] as boolean;
    this.#why = s['why'] as string;
    this.apics.restore(s['apics']!);
    Object.assign(this.attestation, structuredClone(s['attestation']));
  }
}
