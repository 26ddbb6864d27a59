import { KvmDebugregs, KvmRegs } from '@vmplanes/abi-kvm-planes';
import type { Inputs, Values } from '@vmplanes/binary';
import { legalizeRflags } from '@vmplanes/x86';
import { fail, OK } from '../result.ts';
import { getReg, type PlaneVcpu, setReg, type VcpuCall } from './target.ts';

const names = Object.keys(KvmRegs.fields) as readonly (keyof typeof KvmRegs.fields)[];

type RegsIn = Inputs<typeof KvmRegs.fields>;

/** The general registers of a plane. */
export const readRegs = ({ vm, context }: PlaneVcpu): Values<typeof KvmRegs.fields> =>
  Object.fromEntries(names.map((n) => [n, getReg(vm.machine, context, n)])) as Values<typeof KvmRegs.fields>;

export const writeRegs = ({ vm, context }: PlaneVcpu, regs: RegsIn): void => {
  for (const n of names) setReg(vm.machine, context, n, n === 'rflags' ? legalizeRflags(regs[n]) : regs[n]);
  // The VMM moved the plane elsewhere: what was due at the old place is not.
  setReg(vm.machine, context, 'exception.state', 0n);
  vm.touched(context);
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.11 */
export const getRegs: VcpuCall = (vcpu, argument) => (argument.write(KvmRegs, readRegs(vcpu)) ? OK : fail('EFAULT'));

/** @spec Linux Documentation/virt/kvm/api.rst §4.12 */
export const setRegs: VcpuCall = (vcpu, argument) => {
  const regs = argument.read(KvmRegs);
  if (regs === null) return fail('EFAULT');
  writeRegs(vcpu, regs);
  return OK;
};

const HIGH_HALF = 0xffff_ffff_0000_0000n;

/** @spec Linux Documentation/virt/kvm/api.rst §4.33 */
export const getDebugregs: VcpuCall = ({ vm, context }, argument) => {
  const get = (n: 'dr0' | 'dr1' | 'dr2' | 'dr3' | 'dr6' | 'dr7'): bigint => getReg(vm.machine, context, n);
  const value = { db: [get('dr0'), get('dr1'), get('dr2'), get('dr3')], dr6: get('dr6'), dr7: get('dr7'), flags: 0n, reserved: new Array<bigint>(9).fill(0n) };
  return argument.write(KvmDebugregs, value) ? OK : fail('EFAULT');
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.34 */
export const setDebugregs: VcpuCall = ({ vm, context }, argument) => {
  const d = argument.read(KvmDebugregs);
  if (d === null) return fail('EFAULT');
  if (d.flags !== 0n || d.dr6 & HIGH_HALF || d.dr7 & HIGH_HALF) return fail('EINVAL');
  (['dr0', 'dr1', 'dr2', 'dr3'] as const).forEach((n, i) => setReg(vm.machine, context, n, d.db[i]!));
  setReg(vm.machine, context, 'dr6', d.dr6);
  setReg(vm.machine, context, 'dr7', d.dr7);
  vm.touched(context);
  return OK;
};
