import { KvmLapicState, KvmNestedState, KvmOneReg, KvmTranslation } from '@vmplanes/abi-kvm-planes';
import { fail, OK } from '../result.ts';
import type { PlaneVcpu, VcpuCall } from './target.ts';

/** @spec Linux Documentation/virt/kvm/api.rst §4.57 */
export const getLapic: VcpuCall = ({ vm, context }, argument) => {
  if (!vm.hasKernelApic) return fail('EINVAL');
  return argument.store(0, vm.hardware.lapic(context)) ? OK : fail('EFAULT');
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.58 */
export const setLapic: VcpuCall = ({ vm, context }, argument) => {
  if (!vm.hasKernelApic) return fail('EINVAL');
  const image = argument.bytes(0, KvmLapicState.size);
  if (image === null) return fail('EFAULT');
  return vm.hardware.setLapic(context, image) ? OK : fail('EINVAL');
};

/** What KVM puts where no physical address is. @spec Linux arch/x86/include/asm/kvm_host.h INVALID_GPA */
const UNMAPPED = (1n << 64n) - 1n;

/**
 * Walks the page tables of the plane of this fd.
 * @spec Linux Documentation/virt/kvm/api.rst §4.15
 */
export const translate: VcpuCall = ({ vm, context }, argument) => {
  const t = argument.read(KvmTranslation);
  if (t === null) return fail('EFAULT');
  const found = vm.hardware.translate(context, t.linearAddress);
  const physicalAddress = found.valid ? BigInt(found.gpa) : UNMAPPED;
  argument.write(KvmTranslation, { linearAddress: t.linearAddress, physicalAddress, valid: found.valid ? 1 : 0, writeable: found.writeable ? 1 : 0, usermode: found.usermode ? 1 : 0 });
  return OK;
};

/** No nested virtualisation is offered: what KVM answers where the vendor module has none. @spec Linux arch/x86/kvm/x86.c kvm_arch_vcpu_ioctl */
export const noNestedState: VcpuCall = (_vcpu, argument) => (argument.bytes(0, KvmNestedState.size) === null ? fail('EFAULT') : fail('EINVAL'));

/** One register of the one-register interface. Ids carry the size of the value in bits 55:52, as a power of two of bytes. */
interface OneReg {
  readonly name: string;
  readonly id: bigint;
  readonly bytes: number;
  /** Present on the fd of plane 0 only: it belongs to the group. */
  readonly isGroup: boolean;
  get(vcpu: PlaneVcpu): bigint;
  set(vcpu: PlaneVcpu, value: bigint): void;
}

/**
 * Registers by id, in a block of our own outside of those that Linux gives to architectures. The mask of suspended planes has to move with a VM; whether the run page is its place was left open, so it is readable here too.
 * @spec LKML 2024-10-23 Documentation: kvm: cleanup and introduce VM planes 0/5
 */
export const oneRegs: readonly OneReg[] = [
  {
    name: 'suspended_planes',
    id: 0x7f10_0000_0000_0001n,
    bytes: 2,
    isGroup: true,
    get: ({ group }) => BigInt(group.page.suspendedPlanes),
    set: ({ vm, group }, value) => {
      group.page.suspendedPlanes = Number(value) & vm.planeMask;
    },
  },
];

const findReg = ({ vm, context }: PlaneVcpu, id: bigint): OneReg | undefined =>
  vm.behaviour.profile === 'vmplanes' ? oneRegs.find((r) => r.id === id && (!r.isGroup || context.plane === 0)) : undefined;

/** @spec Linux Documentation/virt/kvm/api.rst §4.69 */
export const getOneReg: VcpuCall = (vcpu, argument) => {
  const r = argument.read(KvmOneReg);
  if (r === null) return fail('EFAULT');
  const reg = findReg(vcpu, r.id);
  if (!reg) return fail('EINVAL');
  const value = new Uint8Array(8);
  new DataView(value.buffer).setBigUint64(0, reg.get(vcpu), true);
  return argument.store(Number(r.addr), value.subarray(0, reg.bytes)) ? OK : fail('EFAULT');
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.68 */
export const setOneReg: VcpuCall = (vcpu, argument) => {
  const r = argument.read(KvmOneReg);
  if (r === null) return fail('EFAULT');
  const reg = findReg(vcpu, r.id);
  if (!reg) return fail('EINVAL');
  const bytes = argument.bytes(Number(r.addr), reg.bytes);
  if (bytes === null) return fail('EFAULT');
  const wide = new Uint8Array(8);
  wide.set(bytes);
  reg.set(vcpu, new DataView(wide.buffer).getBigUint64(0, true));
  return OK;
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.84 */
export const getRegList: VcpuCall = (vcpu, argument) => {
  const header = argument.bytes(0, 8);
  if (header === null) return fail('EFAULT');
  const ids = oneRegs.filter((r) => findReg(vcpu, r.id) === r).map((r) => r.id);
  const room = new DataView(header.buffer).getBigUint64(0, true);
  const out = new Uint8Array(8 + ids.length * 8);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, BigInt(ids.length), true);
  ids.forEach((id, i) => view.setBigUint64(8 + i * 8, id, true));
  if (room < BigInt(ids.length)) {
    argument.store(0, out.subarray(0, 8));
    return fail('E2BIG');
  }
  return argument.store(0, out) ? OK : fail('EFAULT');
};
