import { KvmFpu, KvmXcrs } from '@vmplanes/abi-kvm-planes';
import { exportXsave, Fx64, importXsave, legalizeXcr0, loadFxsave, saveFxsave, X86 } from '@vmplanes/x86';
import { fail, OK } from '../result.ts';
import { getReg, type PlaneVcpu, setReg, type VcpuCall } from './target.ts';

/** Block that holds this plane's x87, SSE and AVX state: the VP's current one when planes share it. */
const fpuBase = ({ vm, context }: PlaneVcpu): number => vm.machine.blockOf(context, 'xmm0');

/**
 * PKRU is carried by the image but never shared, so an operation on a shared image lends its block this plane's PKRU.
 * @returns what `use` returned.
 */
const withOwnPkru = <T>(vcpu: PlaneVcpu, use: (base: number) => T): T => {
  const { arena } = vcpu.vm.machine;
  const base = fpuBase(vcpu);
  const own = vcpu.context.base;
  if (base === own) return use(base);
  const at = (base + X86.pkru) >>> 2;
  const lent = arena.u32[at]!;
  arena.u32[at] = arena.u32[(own + X86.pkru) >>> 2]!;
  const result = use(base);
  arena.u32[(own + X86.pkru) >>> 2] = arena.u32[at]!;
  arena.u32[at] = lent;
  return result;
};

const FXSAVE_BYTES = 512;
/** Parts of kvm_fpu in an FXSAVE64 image: [offset in kvm_fpu, offset in the image, bytes]; the first is the environment of the x87. @spec SDM 1 Table 10-2 */
const parts = [
  [128, 0, 24],
  [408, 24, 4],
  [0, 32, 128],
  [152, 160, 256],
] as const;

/** @spec Linux Documentation/virt/kvm/api.rst §4.22 */
export const getFpu: VcpuCall = (vcpu, argument) => {
  const image = new Uint8Array(FXSAVE_BYTES);
  saveFxsave(vcpu.vm.machine.arena, fpuBase(vcpu), image, 0, Fx64);
  const out = new Uint8Array(KvmFpu.size);
  for (const [to, from, size] of parts) out.set(image.subarray(from, from + size), to);
  return argument.store(0, out) ? OK : fail('EFAULT');
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.23 */
export const setFpu: VcpuCall = (vcpu, argument) => {
  const input = argument.bytes(0, KvmFpu.size);
  if (input === null) return fail('EFAULT');
  const image = new Uint8Array(FXSAVE_BYTES);
  for (const [from, to, size] of parts) image.set(input.subarray(from, from + size), to);
  const outcome = loadFxsave(vcpu.vm.machine.arena, fpuBase(vcpu), image, 0, Fx64);
  if (outcome !== 'ok') return fail('EINVAL');
  vcpu.vm.touched(vcpu.context);
  return OK;
};

const XSAVE_BYTES = 4096;
const XFEATURES_AT = 512;

/**
 * Both forms give the same 4096 bytes: no component of ours lies behind them.
 * @spec Linux Documentation/virt/kvm/api.rst §4.42, §4.134
 */
export const getXsave: VcpuCall = (vcpu, argument) => {
  const image = new Uint8Array(XSAVE_BYTES);
  withOwnPkru(vcpu, (base) => exportXsave(vcpu.vm.machine.arena, base, image, vcpu.vm.hardware.features.xcr0));
  // Where XSAVE is not offered the image is FXSAVE with x87 and SSE present.
  image[XFEATURES_AT]! |= 3;
  return argument.store(0, image) ? OK : fail('EFAULT');
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.43 */
export const setXsave: VcpuCall = (vcpu, argument) => {
  const image = argument.bytes(0, XSAVE_BYTES);
  if (image === null) return fail('EFAULT');
  const { vm } = vcpu;
  const outcome = withOwnPkru(vcpu, (base) => importXsave(vm.machine.arena, base, image, vm.hardware.features.xcr0));
  if (outcome !== 'ok') return fail('EINVAL');
  vm.touched(vcpu.context);
  return OK;
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.44 */
export const getXcrs: VcpuCall = ({ vm, context }, argument) => {
  const none = { xcr: 0, reserved: 0, value: 0n };
  const xcrs = [{ ...none, value: getReg(vm.machine, context, 'xcr0') }, ...Array.from({ length: 15 }, () => none)];
  return argument.write(KvmXcrs, { nrXcrs: 1, flags: 0, xcrs }) ? OK : fail('EFAULT');
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.45 */
export const setXcrs: VcpuCall = ({ vm, context }, argument) => {
  const x = argument.read(KvmXcrs);
  if (x === null) return fail('EFAULT');
  if (x.nrXcrs > 16 || x.flags !== 0) return fail('EINVAL');
  const row = x.xcrs.slice(0, x.nrXcrs).find((r) => r.xcr === 0);
  if (!row) return OK;
  const legal = legalizeXcr0(row.value, vm.hardware.features);
  if ('fault' in legal) return fail('EINVAL');
  setReg(vm.machine, context, 'xcr0', legal.value);
  vm.touched(context);
  return OK;
};
