import { AttestationReport, MESSAGE_AAD, MessageHeader, MessageType, ReportRequest, ReportResponse, SevMsr } from '@vmplanes/abi-sev-snp';
import { type Answer, type PlaneContext, PlaneId, type PlainState, Schedule, type Vp } from '@vmplanes/engine';
import { readRegister, writeRegister, X86, type MsrExit } from '@vmplanes/x86';
import type { ChapterMakers, RmpEntry, SnpContext, SnpPlane } from '@vmplanes/personality-sev-snp-vmpl';
import { createCipheriv, createDecipheriv } from 'node:crypto';

// The neighbours of the SVSM as small as they can be, so that a test of a call fails for the call and for nothing else.

const empty = { save: (): PlainState => null, restore: (): void => {} };
const REGISTERS = [['rax', 0x1f8], ['rcx', 0x308], ['rdx', 0x310], ['r8', 0x340], ['r9', 0x348], ['rbx', 0x318]] as const;

/** A reverse map table that refuses nothing that the rules of one page allow. */
export class FakeRmp {
  readonly stateName = 'rmp';
  readonly pages = new Map<number, RmpEntry>();
  /** Each instruction, in order. */
  readonly log: string[] = [];
  readonly save = empty.save;
  readonly restore = empty.restore;
  constructor(readonly snp: SnpContext) {}
  entry(gpn: number): RmpEntry {
    return this.pages.get(gpn) ?? ({ assigned: false, validated: false, immutable: false, vmsa: false, large: false, foreign: false, perms: [0, 0, 0] } as RmpEntry);
  }
  set(gpn: number, count: number, change: Partial<RmpEntry>): void {
    for (let i = gpn; i < gpn + count; i++) this.pages.set(i, { ...this.entry(i), perms: [...this.entry(i).perms], ...change } as RmpEntry);
    if (change.assigned !== undefined) this.snp.machine.memory.setPrivate(gpn, count, change.assigned);
  }
  assign(gpn: number, count: number, isPrivate: boolean, large = false): void {
    this.set(gpn, count, { assigned: isPrivate, validated: false, vmsa: false, large, perms: [0, 0, 0] });
  }
  smash(gpn: number): number {
    this.log.push(`smash ${gpn.toString(16)}`);
    this.set(gpn, 512, { large: false });
    return 0;
  }
  validate(gpn: number, large: boolean, validated: boolean): number {
    this.log.push(`pvalidate ${gpn.toString(16)} ${large ? '2M' : '4K'} ${validated ? 1 : 0}`);
    const e = this.entry(gpn);
    if (!e.assigned || (e.large && !large)) return -1;
    if (large && !e.large) return 6;
    if (e.validated === validated) return 0x100;
    this.set(gpn, large ? 512 : 1, { validated });
    return 0;
  }
  adjust(caller: number, gpn: number, large: boolean, target: number, mask: number, vmsa: boolean): number {
    this.log.push(`rmpadjust ${gpn.toString(16)} ${large ? '2M' : '4K'} ${target} ${mask.toString(16)}${vmsa ? ' vmsa' : ''}`);
    const e = this.entry(gpn);
    if (target <= caller || target > 3) return 2;
    if (!e.assigned || !e.validated || (e.large && !large)) return -1;
    if (large && !e.large) return 6;
    for (let i = gpn; i < gpn + (large ? 512 : 1); i++) {
      const perms: [number, number, number] = [...this.entry(i).perms];
      perms[target - 1] = mask;
      this.set(i, 1, { perms, vmsa });
    }
    return 0;
  }
  launch(gpn: number, perms: readonly [number, number, number], vmsa: boolean): void {
    this.set(gpn, 1, { assigned: true, validated: true, large: false, vmsa, perms: [...perms] });
  }
  refused(): null {
    return null;
  }
}

class FakeVmsas {
  readonly stateName = 'vmsas';
  readonly flush = null;
  readonly save = empty.save;
  readonly restore = empty.restore;
  constructor(readonly snp: SnpContext) {}
  read(gpa: number, offset: number): bigint {
    const { access, subjects } = this.snp.machine.memory;
    access.readU64(subjects[0]!.host, gpa + offset);
    return (BigInt(access.hi) << 32n) | BigInt(access.lo);
  }
  write(gpa: number, offset: number, value: bigint): void {
    const { access, subjects } = this.snp.machine.memory;
    access.writeU64(subjects[0]!.host, gpa + offset, Number(value & 0xffff_ffffn), Number(value >> 32n));
  }
  launch(): void {}
  isInUse(): boolean {
    return false;
  }
  check(): null {
    return null;
  }
  store(plane: SnpPlane, exitCode: number): void {
    if (plane.vmsa < 0) return;
    for (const [name, at] of REGISTERS) this.write(plane.vmsa, at, readRegister(this.snp.machine.arena, plane.context.base, name));
    this.write(plane.vmsa, 0x3c0, BigInt(exitCode));
  }
  load(plane: SnpPlane): string | null {
    if ((this.read(plane.vmsa, 0xd0) & 0x1000n) === 0n) return 'SVME';
    for (const [name, at] of REGISTERS) writeRegister(this.snp.machine.arena, plane.context.base, name, this.read(plane.vmsa, at));
    return null;
  }
  entering(context: PlaneContext): string | null {
    const plane = this.snp.chapters.switching.planeOf(context);
    return plane.vmsa < 0 ? null : this.load(plane);
  }
  left(context: PlaneContext, cause: string): void {
    if (cause !== 'call') this.store(this.snp.chapters.switching.planeOf(context), 0x60);
  }
}

class FakeSwitching {
  readonly stateName = 'switching';
  readonly save = empty.save;
  readonly restore = empty.restore;
  readonly #planes = new Map<PlaneContext, SnpPlane>();
  constructor(readonly snp: SnpContext) {}
  planeCreated(context: PlaneContext): void {
    this.#planes.set(context, {
      context, ghcbMsrLo: 0, ghcbMsrHi: 0, registeredGhcb: -1, doorbell: -1, vmsa: -1, pendingVmsa: -1, featuresLo: 1, featuresHi: 0, isWaitingForReset: false, isRunnable: false,
      isLive: false, refusal: null, resetHold: null, isNmiMasked: false, virtualTom: 0,
    });
  }
  plane(vp: Vp, vmpl: number): SnpPlane | null {
    const context = vp.planes[vmpl];
    return context ? this.planeOf(context) : null;
  }
  planeOf(context: PlaneContext): SnpPlane {
    return this.#planes.get(context)!;
  }
  create(vp: Vp, vmpl: number): SnpPlane {
    return this.planeOf(vp.planes[vmpl] ?? this.snp.machine.createPlane(vp, PlaneId(vmpl)));
  }
  run(from: SnpPlane, vmpl: number): Answer | null {
    const { vp } = from.context;
    const to = this.plane(vp, vmpl);
    if (!to || (vmpl !== 0 && to.vmsa < 0)) return null;
    return vp.replies.switchTo(vmpl, 'run-vmpl', 'stopped', 'advanced');
  }
  start(): void {}
}

/** AP creation: the VMSA is there at once. */
class FakeAps {
  readonly stateName = 'aps';
  readonly save = empty.save;
  readonly restore = empty.restore;
  jumpTable = 0;
  readonly pending = { kind: 'retry' } as const;
  constructor(readonly snp: SnpContext) {}
  create(_from: SnpPlane, info1Lo: number, info1Hi: number, vmsa: number): number {
    const { machine, chapters } = this.snp;
    const vp = machine.vp(info1Hi);
    const plane = chapters.switching.create(vp, (info1Lo >>> 16) & 15);
    plane.vmsa = (info1Lo & 0xffff) === 2 ? -1 : vmsa;
    vp.setSchedule(plane.context, plane.vmsa >= 0 ? Schedule.Runnable : Schedule.Stopped);
    return 0;
  }
  hold(plane: SnpPlane): Answer {
    return plane.context.vp.replies.resume();
  }
}

/** A security processor that knows reports alone. */
export class FakeRequests {
  readonly stateName = 'requests';
  readonly save = empty.save;
  readonly restore = empty.restore;
  readonly keys = [0, 1, 2, 3].map((n) => new Uint8Array(32).fill(n + 1));
  certificates: Uint8Array = new Uint8Array(24);
  /** What it was asked: sequence numbers and report data. */
  readonly asked: { readonly sequence: bigint; readonly data: Uint8Array; readonly vmpl: number }[] = [];
  /** Answers with this instead. */
  status = 0;
  /** Changes the response before it is sealed, or after. */
  tamper: ((payload: Uint8Array) => void) | null = null;
  spoil: ((page: Uint8Array) => void) | null = null;
  message(request: Uint8Array, response: Uint8Array): number {
    const head = MessageHeader.read(new DataView(request.buffer, request.byteOffset), 0);
    const key = this.keys[head.vmpck]!;
    const iv = (sequence: bigint): Buffer => {
      const bytes = Buffer.alloc(12);
      bytes.writeBigUInt64LE(sequence);
      return bytes;
    };
    const open = createDecipheriv('aes-256-gcm', key, iv(head.sequence)).setAAD(request.subarray(MESSAGE_AAD.start, MESSAGE_AAD.end)).setAuthTag(head.authTag.subarray(0, 16));
    const payload = new Uint8Array(open.update(request.subarray(MessageHeader.size, MessageHeader.size + head.size)));
    open.final();
    const { reportData, vmpl } = ReportRequest.read(new DataView(payload.buffer), 0);
    this.asked.push({ sequence: head.sequence, data: reportData.slice(), vmpl });
    if (this.status !== 0) return this.status;
    const answer = new Uint8Array(ReportResponse.size);
    const view = new DataView(answer.buffer);
    view.setUint32(4, AttestationReport.size, true);
    view.setUint32(ReportResponse.at.report, 2, true);
    answer.set(reportData, ReportResponse.at.report + AttestationReport.at.reportData);
    this.tamper?.(answer);
    MessageHeader.write(new DataView(response.buffer, response.byteOffset), 0, { ...head, sequence: head.sequence + 1n, type: MessageType.ReportResponse, size: answer.length, authTag: new Uint8Array(32) });
    const seal = createCipheriv('aes-256-gcm', key, iv(head.sequence + 1n)).setAAD(response.subarray(MESSAGE_AAD.start, MESSAGE_AAD.end));
    response.set(seal.update(answer), MessageHeader.size);
    seal.final();
    response.set(seal.getAuthTag(), 0);
    this.spoil?.(response);
    return 0;
  }
}

const ghcbMsr = (plane: SnpPlane, exit: MsrExit, snp: SnpContext): Answer | null => {
  if (exit.key !== SevMsr.Ghcb) return null;
  if (exit.write) [plane.ghcbMsrLo, plane.ghcbMsrHi] = [exit.lo, exit.hi];
  else {
    snp.machine.arena.u32[(plane.context.base + X86.rax) >>> 2] = plane.ghcbMsrLo;
    snp.machine.arena.u32[(plane.context.base + X86.rdx) >>> 2] = plane.ghcbMsrHi;
  }
  return plane.context.vp.replies.resume();
};

/** Makers of everything but the SVSM. */
export const fakeMakers: Omit<ChapterMakers, 'svsm'> = {
  features: (snp) => ({ ...empty, stateName: 'features', machineLo: 1, machineHi: 0, leaf: { eax: 0, ebx: 0, ecx: 0, edx: 0 }, refuses: () => null, has: () => false, msr: (plane: SnpPlane, exit: MsrExit) => ghcbMsr(plane, exit, snp) }) as never,
  rmp: (snp) => new FakeRmp(snp) as never,
  vmsas: (snp) => new FakeVmsas(snp) as never,
  injection: () => ({ ...empty, stateName: 'injection' }) as never,
  switching: (snp) => new FakeSwitching(snp) as never,
  aps: (snp) => new FakeAps(snp) as never,
  ghcb: (snp) => ({
    ...empty,
    stateName: 'ghcb',
    exit(plane) {
      const vmpl = plane.ghcbMsrHi & 0xff;
      if ((plane.ghcbMsrLo & 0xfff) !== 0x016) return plane.context.vp.replies.resume();
      [plane.ghcbMsrLo, plane.ghcbMsrHi] = [0x017, 0];
      return snp.chapters.switching.run(plane, vmpl) ?? plane.context.vp.replies.resume();
    },
    complete: () => null,
  }),
  requests: () => new FakeRequests() as never,
};
