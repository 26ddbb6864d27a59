import { EXIT_UNION_AT, EXIT_UNION_SIZE, KvmRunPlanes } from '@vmplanes/abi-kvm-planes';
import type { Layout } from '@vmplanes/binary';

const AT = KvmRunPlanes.at;
const PAGE = 4096;

/** The pages of a vCPU that kernel and userspace share: kvm_run, then the data page of port I/O. Owned by the group; userspace may write any byte at any time. */
export class RunPage {
  /** Both pages, as mmap shows them. */
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #hasPlaneFields: boolean;

  /** @param hasPlaneFields - the profile puts the plane fields into kvm_run. */
  constructor(hasPlaneFields: boolean) {
    this.bytes = new Uint8Array(2 * PAGE);
    this.#view = new DataView(this.bytes.buffer);
    this.#hasPlaneFields = hasPlaneFields;
  }

  get wantsInterruptWindow(): boolean {
    return this.bytes[AT.requestInterruptWindow] !== 0;
  }
  get immediateExit(): boolean {
    return this.bytes[AT.immediateExit] !== 0;
  }
  /** Plane to run as userspace wrote it; 0 where the profile has no such field. */
  get plane(): number {
    return this.#hasPlaneFields ? this.bytes[AT.plane]! : 0;
  }
  set plane(value: number) {
    if (this.#hasPlaneFields) this.bytes[AT.plane] = value;
  }
  get suspendedPlanes(): number {
    return this.#hasPlaneFields ? this.#view.getUint16(AT.suspendedPlanes, true) : 0;
  }
  set suspendedPlanes(mask: number) {
    if (this.#hasPlaneFields) this.#view.setUint16(AT.suspendedPlanes, mask, true);
  }
  get reqExitPlanes(): number {
    return this.#hasPlaneFields ? this.#view.getUint16(AT.reqExitPlanes, true) : 0;
  }

  set exitReason(reason: number) {
    this.#view.setUint32(AT.exitReason, reason, true);
  }
  set flags(value: number) {
    this.#view.setUint16(AT.flags, value, true);
  }
  get cr8(): bigint {
    return this.#view.getBigUint64(AT.cr8, true);
  }
  get validRegs(): bigint {
    return this.#view.getBigUint64(AT.kvmValidRegs, true);
  }
  get dirtyRegs(): bigint {
    return this.#view.getBigUint64(AT.kvmDirtyRegs, true);
  }
  set dirtyRegs(value: bigint) {
    this.#view.setBigUint64(AT.kvmDirtyRegs, value, true);
  }

  /** What every return from KVM_RUN tells of the plane that ran. */
  setState(ready: boolean, interruptFlag: boolean, cr8: number, apicBase: bigint): void {
    this.bytes[AT.readyForInterruptInjection] = ready ? 1 : 0;
    this.bytes[AT.ifFlag] = interruptFlag ? 1 : 0;
    this.#view.setBigUint64(AT.cr8, BigInt(cr8), true);
    this.#view.setBigUint64(AT.apicBase, apicBase, true);
  }

  /** Writes the payload of an exit. @param isZeroed - clear the whole union first. */
  writeExit<In>(layout: Layout<unknown, In>, value: In, isZeroed = true): void {
    if (isZeroed) this.clearExit();
    layout.write(this.#view, EXIT_UNION_AT, value);
  }
  readExit<T>(layout: Layout<T, never>): T {
    return layout.read(this.#view, EXIT_UNION_AT);
  }
  clearExit(): void {
    this.bytes.fill(0, EXIT_UNION_AT, EXIT_UNION_AT + EXIT_UNION_SIZE);
  }

  /** Synchronised registers: general, then segment and control registers, then events. */
  get syncRegs(): Uint8Array {
    return this.bytes.subarray(AT.s, AT.s + 2048);
  }
  /** Data of port I/O: the page behind kvm_run. */
  get pioData(): Uint8Array {
    return this.bytes.subarray(PAGE);
  }
}

/** Where the data of port I/O lies, from the start of kvm_run. @spec Linux include/uapi/linux/kvm.h KVM_PIO_PAGE_OFFSET */
export const PIO_DATA_OFFSET = PAGE;
