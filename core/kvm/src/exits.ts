import {
  ExitDebug,
  ExitFailEntry,
  ExitIo,
  ExitMmio,
  ExitMsr,
  ExitReason,
  LAYOUTS,
  MemoryFaultFlag,
  MsrExitReason,
  NUMBERS,
  PlaneEvent2025,
  PlaneEvent2026,
} from '@vmplanes/abi-kvm-planes';
import { type Completion, type ExitPayload, EXEC_RIGHTS, type MemoryFaultPayload, PAGE_SIZE, type PlaneContext, type PlaneEventPayload, Right } from '@vmplanes/engine';
import type { DebugPayload, IoPayload, MmioPayload, MsrPayload } from '@vmplanes/x86';
import type { KvmBehaviour } from './behaviour.ts';
import { type KvmResult, fail, OK } from './result.ts';
import { PIO_DATA_OFFSET, type RunPage } from './run-page.ts';
import { getReg } from './state/target.ts';
import type { VcpuGroup } from './vcpu-group.ts';
import type { KvmVm } from './vm.ts';

/** A personality asks userspace to make the vCPU that its guest wants to start in a plane. @spec LKML 2026-06-08 KVM Planes + SEV-SNP Support 57/60 */
export interface CreateVcpuPayload extends ExitPayload {
  readonly kind: 'createVcpu';
  readonly plane: number;
  readonly apicId: number;
}

/** Bit of kvm_run.flags: a bus lock was found. @spec Linux arch/x86/include/uapi/asm/kvm.h KVM_RUN_X86_BUS_LOCK */
export const RUN_BUS_LOCK = 2;

const low = (value: number): bigint => BigInt(value >>> 0);
const join = (lo: number, hi: number): bigint => (low(hi) << 32n) | low(lo);

const bytesOf = (lo: number, hi: number): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, join(lo, hi), true);
  return bytes;
};

const noExtra = new Array<bigint>(8).fill(0n);
const extraOf = (first: bigint): bigint[] => [first, ...noExtra.slice(1)];

/** Writes the payload of a plane event in the layout of the profile. */
const writePlaneEvent = (behaviour: KvmBehaviour, page: RunPage, e: PlaneEventPayload): void => {
  const numbers = NUMBERS[behaviour.profile];
  page.exitReason = numbers.exitPlaneEvent ?? ExitReason.UNKNOWN;
  const before = behaviour.zeroedPayload ? null : page.readExit(PlaneEvent2025);
  const value = { cause: numbers.causeInterrupt ?? 0, pendingEventPlanes: e.pending, target: e.target, flags: e.flags, extra: noExtra };
  // Strictly, padding and extra words are not written: what an earlier exit left there stays.
  if (before === null) page.writeExit(PlaneEvent2025, value);
  else page.writeExit(PlaneEvent2025, { ...value, reservedPadding: before.reservedPadding, reservedHole: before.reservedHole, extra: before.extra }, false);
};

const writeMemoryFault = (behaviour: KvmBehaviour, page: RunPage, { info }: MemoryFaultPayload): KvmResult => {
  page.exitReason = ExitReason.MEMORY_FAULT;
  const { access } = info;
  let flags = info.isPrivate ? MemoryFaultFlag.PRIVATE : 0n;
  if (info.missing !== 0) {
    if (access & Right.Read) flags |= MemoryFaultFlag.READ;
    if (access & (Right.Write | Right.ShadowStack)) flags |= MemoryFaultFlag.WRITE;
    if (access & EXEC_RIGHTS) flags |= MemoryFaultFlag.EXECUTE;
  }
  const common = { flags, gpa: BigInt(info.gpa - (info.gpa % PAGE_SIZE)), size: BigInt(PAGE_SIZE) };
  if (behaviour.profile === 'vmplanes') {
    page.writeExit(LAYOUTS.vmplanes.memoryFault, { ...common, gpa: BigInt(info.gpa), size: 1n, plane: info.plane, instructionLength: info.instructionLength, reserved: new Uint8Array(5) });
  } else page.writeExit(LAYOUTS[behaviour.profile].memoryFault, common);
  // The exit is filled in, and the call fails: userspace tells the two from each other by the reason.
  return fail('EFAULT');
};

const msrReasons = { invalid: MsrExitReason.INVAL, unknown: MsrExitReason.UNKNOWN, filter: MsrExitReason.FILTER } as const;
const NO_CPU = 0xffff_ffff;

/** Puts an exit of the engine into the run page. @returns what KVM_RUN returns. */
export const writeExit = (vm: KvmVm, group: VcpuGroup, context: PlaneContext, payload: ExitPayload): KvmResult => {
  const { page } = group;
  const { behaviour } = vm;
  page.flags = 0;
  switch (payload.kind) {
    case 'io': {
      const e = payload as IoPayload;
      page.exitReason = ExitReason.IO;
      page.writeExit(ExitIo, { direction: e.write ? 1 : 0, size: e.size, port: e.port, count: 1, dataOffset: BigInt(PIO_DATA_OFFSET) });
      page.pioData.set(bytesOf(e.write ? e.value : 0, 0).subarray(0, e.size));
      return OK;
    }
    case 'mmio': {
      const e = payload as MmioPayload;
      page.exitReason = ExitReason.MMIO;
      const data = e.write ? bytesOf(e.lo, e.hi) : new Uint8Array(8);
      page.writeExit(ExitMmio, { physAddr: BigInt(e.gpa), data: data.fill(0, e.size), len: e.size, isWrite: e.write ? 1 : 0 });
      return OK;
    }
    case 'msr': {
      const e = payload as MsrPayload;
      page.exitReason = e.write ? ExitReason.X86_WRMSR : ExitReason.X86_RDMSR;
      page.writeExit(ExitMsr, { error: 0, reason: msrReasons[e.reason], index: e.index, data: e.write ? join(e.lo, e.hi) : 0n });
      return OK;
    }
    case 'busLock':
      page.exitReason = ExitReason.X86_BUS_LOCK;
      page.flags = RUN_BUS_LOCK;
      return OK;
    case 'interruptWindow':
      page.exitReason = ExitReason.IRQ_WINDOW_OPEN;
      return OK;
    case 'debug': {
      const get = (n: 'rip' | 'dr7'): bigint => getReg(vm.machine, context, n);
      page.exitReason = ExitReason.DEBUG;
      page.writeExit(ExitDebug, { exception: 1, pc: get('rip'), dr6: low((payload as DebugPayload).dr6), dr7: get('dr7') });
      return OK;
    }
    case 'hlt':
      page.exitReason = ExitReason.HLT;
      return OK;
    case 'shutdown':
      page.exitReason = ExitReason.SHUTDOWN;
      return OK;
    case 'memoryFault':
      return writeMemoryFault(behaviour, page, payload as MemoryFaultPayload);
    case 'planeEvent':
      vm.counters.planeEvent(context);
      writePlaneEvent(behaviour, page, payload as PlaneEventPayload);
      return OK;
    case 'createVcpu': {
      const { plane, apicId } = payload as CreateVcpuPayload;
      const numbers = NUMBERS[behaviour.profile];
      if (numbers.causeCreateVcpu === undefined) break;
      page.exitReason = numbers.exitPlaneEvent ?? ExitReason.UNKNOWN;
      page.writeExit(PlaneEvent2026, { cause: numbers.causeCreateVcpu, plane, extra: extraOf(low(apicId)) });
      return OK;
    }
    case 'entryRefused':
      page.exitReason = ExitReason.FAIL_ENTRY;
      page.writeExit(ExitFailEntry, { hardwareEntryFailureReason: 0n, cpu: NO_CPU, reserved: 0 });
      return OK;
    default:
      break;
  }
  // An exit of a personality that has no form in this ABI: the payload stays readable on the VP.
  page.exitReason = ExitReason.UNKNOWN;
  page.clearExit();
  return OK;
};

/** The answer of userspace to a pending exit, read from the shared pages. */
export const readReply = (page: RunPage, completion: Completion): NonNullable<Completion['reply']> => {
  const view = new DataView(page.pioData.buffer, page.pioData.byteOffset);
  switch (completion.kind) {
    case 'io':
      return { value: view.getUint32(0, true) };
    case 'mmio': {
      const { data } = page.readExit(ExitMmio);
      const d = new DataView(data.buffer, data.byteOffset);
      return { lo: d.getUint32(0, true), hi: d.getUint32(4, true) };
    }
    case 'rdmsr':
    case 'wrmsr': {
      const { error, data } = page.readExit(ExitMsr);
      return { error: error !== 0, lo: Number(data & 0xffff_ffffn), hi: Number(data >> 32n) };
    }
    default:
      return {};
  }
};
