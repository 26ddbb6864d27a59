import { type HvCall, HvInterceptType, HvStatus } from '@vmplanes/abi-hyperv';
import type { PlainState } from '@vmplanes/engine';
import type { SimpleHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';
import { foreignStatus, inputVtl, isSelf, NO_VTL } from './input-vtl.ts';
import type { Chapter } from './ports.ts';

const { Success, AccessDenied, InvalidParameter, InvalidVpIndex } = HvStatus;
const PORTS = 0x1_0000;
const READ = 1;
const WRITE = 2;
const EXECUTE = 4;
/** Bits of a port per VTL. */
const VTL_BITS = 2;

/**
 * I/O ports whose accesses higher VTLs intercept: one table for the partition.
 * @spec TLFS HvCallInstallIntercept; openvmm openhcl/virt_mshv_vtl/src/processor/hardware_cvm/mod.rs (I/O ports only)
 */
export class IoIntercepts implements Chapter {
  readonly stateName = 'io-intercepts';
  /** By port: read and write of VTL1, read and write of VTL2; null until something is intercepted. */
  #ports: Uint8Array | null = null;

  /** @param mask - 1 reads, 2 writes, 0 removes. @param last - included. */
  install(vtl: number, first: number, last: number, mask: number): void {
    const ports = (this.#ports ??= new Uint8Array(PORTS));
    const shift = (vtl - 1) * VTL_BITS;
    for (let port = first; port <= last; port++) ports[port] = (ports[port]! & ~(3 << shift)) | (mask << shift);
  }

  /**
   * The VTL that intercepts an access: the lowest above the accessing one that asked for one of its ports.
   * @param size - bytes. @returns -1 when none does.
   */
  ownerOf(vtl: number, port: number, size: number, isWrite: boolean): number {
    const ports = this.#ports;
    if (ports === null) return -1;
    let asked = 0;
    for (let p = port; p < port + size && p < PORTS; p++) asked |= ports[p]!;
    const wanted = isWrite ? WRITE : READ;
    for (let owner = vtl + 1; owner <= 2; owner++) if (((asked >>> ((owner - 1) * VTL_BITS)) & wanted) !== 0) return owner;
    return -1;
  }

  reset(): void {
    this.#ports = null;
  }
  save(): PlainState {
    return this.#ports === null ? null : this.#ports.slice();
  }
  restore(state: PlainState): void {
    this.#ports = state === null ? null : (state as Uint8Array).slice();
  }
}

/** CPUID and exceptions are executed, if at all: any other access cannot be asked for. */
const installProcessor = (call: CallFrame, type: number, mask: number, parameter: number, high: number): number => {
  const { processorIntercepts } = call.hv.chapters;
  if ((mask !== 0 && mask !== EXECUTE) || high !== 0) return InvalidParameter;
  if (type === HvInterceptType.Exception) return processorIntercepts.installException(call.vtl, parameter, mask !== 0) ? Success : InvalidParameter;
  processorIntercepts.installLeaf(call.vtl, parameter, mask !== 0);
  return Success;
};

/** A higher VTL may intercept the I/O ports of those below it; by option nobody, or it may intercept CPUID leaves and exceptions, too. @spec TLFS v6.0b (PDF) 11.11 */
export const installIntercept: SimpleHandler<typeof HvCall.InstallIntercept> = (call, input) => {
  if (!isSelf(input.partitionIdLo, input.partitionIdHi)) return foreignStatus(call);
  if (call.vtl === 0 || call.hv.options.installInterceptCaller === 'parent') return AccessDenied;
  const { interceptType: type, accessTypeMask: mask, interceptParametersLo: low } = input;
  if (call.hv.options.installInterceptCaller === 'higherVtlAll' && (type === HvInterceptType.X64Cpuid || type === HvInterceptType.Exception)) return installProcessor(call, type, mask, low, input.interceptParametersHi);
  if (type !== HvInterceptType.X64IoPort && type !== HvInterceptType.X64IoPortRange) return InvalidParameter;
  if (mask > (READ | WRITE) || input.interceptParametersHi !== 0) return InvalidParameter;
  const first = low & 0xffff;
  // A single port has nothing above its number; a range has its last port there.
  const last = type === HvInterceptType.X64IoPort ? first : low >>> 16;
  if (last < first || (type === HvInterceptType.X64IoPort && low > 0xffff)) return InvalidParameter;
  call.hv.chapters.ioIntercepts.install(call.vtl, first, last, mask);
  return Success;
};

const HV_VP_INDEX_SELF = 0xffff_fffe;
const isWidth = (size: number): boolean => size === 1 || size === 2 || size === 4;

/** @spec TLFS HvCallCheckForIoIntercept */
export const checkForIoIntercept: SimpleHandler<typeof HvCall.CheckForIoIntercept> = (call, input, output) => {
  if (!isSelf(input.partitionIdLo, input.partitionIdHi)) return foreignStatus(call);
  if (input.vpIndex !== HV_VP_INDEX_SELF && input.vpIndex >= call.hv.machine.vps.length) return InvalidVpIndex;
  const vtl = inputVtl(call, input.targetVtl);
  if (vtl === NO_VTL || !isWidth(input.size) || input.isWrite > 1) return InvalidParameter;
  if (vtl > call.vtl) return AccessDenied;
  output.intercept = call.hv.chapters.ioIntercepts.ownerOf(vtl, input.port, input.size, input.isWrite !== 0) > 0 ? 1 : 0;
  return Success;
};
