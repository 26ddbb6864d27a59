import type { Argument } from './argument.ts';
import { MAX_VCPU_IDS } from './extensions.ts';
import { PlaneFile, PlaneVcpuFile, VcpuFile } from './files.ts';
import { fail, type KvmResult, ret } from './result.ts';
import type { KvmSystem } from './system.ts';
import type { KvmVm } from './vm.ts';

const BUSY: KvmResult = { pending: 'busy' };

/** Runs a creation under the VM's lock: for every other thread check and insertion are one step. @spec LKML 2026-06, fuzzer report on KVM Planes + SEV-SNP Support */
const locked = (vm: KvmVm, create: () => KvmResult): KvmResult => {
  if (vm.isLocked) return BUSY;
  vm.isLocked = true;
  try {
    return create();
  } finally {
    vm.isLocked = false;
  }
};

/**
 * Makes a plane.
 * @spec LKML 2025-04-01 RFC KVM: VM planes 09/29, 13/29, 17/29; LKML 2026-06-08 KVM Planes + SEV-SNP Support 54/60
 */
export const createPlane = (system: KvmSystem, vm: KvmVm, argument: Argument): KvmResult => {
  const id = argument.uint;
  if (id >= vm.planeCount) return fail('EINVAL');
  if (vm.behaviour.localApicRequired && !vm.hasKernelApic) return fail('EINVAL');
  return locked(vm, () => {
    if (vm.planes & (1 << id)) return fail('EEXIST');
    if (vm.behaviour.marksPlanesEarly) vm.hasPlanes = true;
    const refused = system.refusesFile();
    if (refused !== null) return fail(refused);
    if (!system.takeObject()) return fail('ENOMEM');
    vm.planes |= 1 << id;
    vm.hasPlanes = true;
    return ret(system.fds.open(new PlaneFile(vm, id)));
  });
};

/** Makes the plane 0 vCPU of an id. @spec Linux Documentation/virt/kvm/api.rst §4.7 */
export const createVcpu = (system: KvmSystem, vm: KvmVm, argument: Argument): KvmResult => {
  const id = argument.uint;
  if (id >= MAX_VCPU_IDS) return fail('EINVAL');
  return locked(vm, () => {
    if (vm.vcpuCount >= vm.maxVcpus || vm.groups.size >= vm.machine.options.maxVps) return fail('EINVAL');
    if (!system.hasObject) return fail('ENOMEM');
    if (vm.groups.has(id)) return fail('EEXIST');
    const refused = system.refusesFile();
    if (refused !== null) return fail(refused);
    system.takeObject();
    return ret(system.fds.open(new VcpuFile(vm, vm.createGroup(id))));
  });
};

const INT_MAX = 0x7fff_ffffn;
const INT_MIN = -0x8000_0000n;

/** Makes the vCPU of another plane for the vCPU whose fd is given. @spec LKML 2025-04-01 RFC KVM: VM planes 13/29 */
export const createVcpuPlane = (system: KvmSystem, vm: KvmVm, plane: number, argument: Argument): KvmResult => {
  const wanted = argument.signed;
  if (wanted > INT_MAX || wanted < INT_MIN) return fail('EBADF');
  const file = system.fds.get(Number(wanted));
  if (!file) return fail('EBADF');
  // A plane vCPU has no planes of its own.
  if (!(file instanceof VcpuFile) || file.vm !== vm) return fail('EINVAL');
  return makePlaneVcpu(system, vm, plane, file.group.id);
};

/** Makes the vCPU of another plane by id. @spec LKML 2026-06-08 KVM Planes + SEV-SNP Support 08/60 */
export const createVcpuOnPlane = (system: KvmSystem, vm: KvmVm, plane: number, argument: Argument): KvmResult => makePlaneVcpu(system, vm, plane, argument.uint);

const makePlaneVcpu = (system: KvmSystem, vm: KvmVm, plane: number, id: number): KvmResult =>
  locked(vm, () => {
    const group = vm.groups.get(id);
    if (vm.behaviour.planeVcpusCount && vm.vcpuCount >= vm.maxVcpus) return fail('EINVAL');
    if (!system.hasObject) return fail('ENOMEM');
    if (!group) return fail('EINVAL');
    if (group.vp.planes[plane]) return fail('EEXIST');
    const refused = system.refusesFile();
    if (refused !== null) return fail(refused);
    system.takeObject();
    const context = vm.createPlaneVcpu(group, plane);
    return ret(system.fds.open(new PlaneVcpuFile(vm, group, context)));
  });

/** Locks the register state of a VM with protected state away from the VMM, as finishing its launch does. */
export const protectState = (vm: KvmVm): boolean => {
  if (!vm.type.hasProtectedState) return false;
  vm.isStateProtected = true;
  return true;
};
