import type { Machine, PlaneContext } from '@vmplanes/engine';
import { readRegister, type RegisterName, writeRegister } from '@vmplanes/x86';
import type { Argument } from '../argument.ts';
import type { KvmResult } from '../result.ts';
import type { VcpuGroup } from '../vcpu-group.ts';
import type { KvmVm } from '../vm.ts';

/** One plane vCPU as a state ioctl sees it. */
export interface PlaneVcpu {
  readonly vm: KvmVm;
  readonly group: VcpuGroup;
  readonly context: PlaneContext;
}

/** Serves one request on a vCPU fd. */
export type VcpuCall = (vcpu: PlaneVcpu, argument: Argument) => KvmResult;

/** Value of a register as this plane has it: a shared one is the VP's current value. */
export const getReg = (machine: Machine, context: PlaneContext, name: RegisterName): bigint => readRegister(machine.arena, machine.blockOf(context, name), name);

/** Writes a register of this plane. The change is authorised: it was addressed to this plane. */
export const setReg = (machine: Machine, context: PlaneContext, name: RegisterName, value: bigint): void => {
  writeRegister(machine.arena, machine.blockOf(context, name), name, value);
};
