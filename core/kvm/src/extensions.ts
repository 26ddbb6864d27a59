import { Capability, type ExtensionAnswer, extensionRow, NUMBERS, numberOf, type Profile } from '@vmplanes/abi-kvm-planes';
import { fail, type KvmResult, ret } from './result.ts';
import type { KvmSystem } from './system.ts';
import { vmTypes } from './vm-type.ts';
import type { KvmVm } from './vm.ts';

/** vCPU ids are below this. @spec Linux arch/x86/include/asm/kvm_host.h KVM_MAX_VCPU_IDS */
export const MAX_VCPU_IDS = 4096;
export const MAX_IRQ_ROUTES = 4096;
/** Most entries of a dirty ring. @spec Linux include/linux/kvm_dirty_ring.h */
export const DIRTY_RING_MAX_BYTES = 65536 * 16;
/** Bus locks: KVM_BUS_LOCK_DETECTION_OFF and _EXIT. */
export const BUS_LOCK_MODES = 3;
const XSAVE_REGION = 4096;
const X2APIC_API_FLAGS = 3;

/** What KVM answers without planes; null asks about KVM itself. Absent capabilities are 0. */
const plain: Readonly<Record<number, (vm: KvmVm | null, system: KvmSystem) => number>> = {
  [Capability.IRQCHIP]: () => 1,
  [Capability.NR_VCPUS]: (_vm, s) => s.maxVcpus,
  [Capability.MP_STATE]: () => 1,
  [Capability.USER_NMI]: () => 1,
  [Capability.IRQ_ROUTING]: () => MAX_IRQ_ROUTES,
  [Capability.DEBUGREGS]: () => 1,
  [Capability.ENABLE_CAP]: () => 1,
  [Capability.XSAVE]: () => 1,
  [Capability.XCRS]: () => 1,
  [Capability.SYNC_REGS]: () => SYNC_REGS,
  [Capability.TSC_CONTROL]: () => 1,
  [Capability.GET_TSC_KHZ]: () => 1,
  [Capability.MAX_VCPUS]: (_vm, s) => s.maxVcpus,
  [Capability.ONE_REG]: (vm, s) => (s.behaviour.profile === 'vmplanes' || vm?.behaviour.profile === 'vmplanes' ? 1 : 0),
  [Capability.READONLY_MEM]: () => 1,
  [Capability.ENABLE_CAP_VM]: () => 1,
  [Capability.X86_SMM]: (vm) => (vm === null || vm.type.hasSmm ? 1 : 0),
  [Capability.SPLIT_IRQCHIP]: () => 1,
  [Capability.MAX_VCPU_ID]: () => MAX_VCPU_IDS,
  [Capability.X2APIC_API]: () => X2APIC_API_FLAGS,
  [Capability.IMMEDIATE_EXIT]: () => 1,
  [Capability.EXCEPTION_PAYLOAD]: () => 1,
  [Capability.X86_USER_SPACE_MSR]: () => 1,
  [Capability.X86_MSR_FILTER]: () => 1,
  [Capability.DIRTY_LOG_RING]: () => DIRTY_RING_MAX_BYTES,
  [Capability.X86_BUS_LOCK_EXIT]: () => BUS_LOCK_MODES,
  [Capability.SREGS2]: () => 1,
  [Capability.XSAVE2]: () => XSAVE_REGION,
  [Capability.VM_TSC_CONTROL]: () => 1,
  [Capability.X86_TRIPLE_FAULT_EVENT]: () => 1,
  [Capability.MEMORY_FAULT_INFO]: () => 1,
  [Capability.VM_TYPES]: () => vmTypes.reduce((mask, t) => mask | (1 << t.id), 0),
};

/** General registers, special registers and events go through the run page. */
const SYNC_REGS = 7;

const PRIVATE = 8;

/** Name of a capability number in the extension table of a profile. */
const nameOf = (profile: Profile, cap: number): string => {
  const numbers = NUMBERS[profile];
  if (cap === numbers.capPlanes) return 'PLANES';
  if (cap === numbers.capPlanesFpu) return 'PLANES_FPU';
  if (cap === numbers.capPlaneFpu) return 'PLANE_FPU';
  return Object.entries(Capability).find(([, n]) => n === cap)?.[0] ?? '';
};

const resolve = (answer: ExtensionAnswer, cap: number, vm: KvmVm | null, system: KvmSystem): KvmResult => {
  const isShared = vm?.caps.planesFpu ?? false;
  switch (answer) {
    case 'ENOTTY':
      return fail('ENOTTY');
    case 'planesUnlessProtected':
    case 'planesOfBackend':
    case 'planesConfigured':
      return ret(vm?.planeCount ?? numberOf(system.behaviour.profile, 'maxPlanes'));
    case 'fpuShared':
      return ret(isShared ? 1 : 0);
    case 'fpuSplit':
      return ret(isShared ? 0 : 1);
    case 'attributesOfVm':
      return ret(vm?.type.hasPrivateMemory ? PRIVATE : 0);
    case 'attributesConfigured':
      return ret(vm === null ? 0 : Number(vm.attributesOf(0)));
    case 'attributesOfPlane':
      return ret(vm === null ? 0 : Number(vm.planeAttributes));
    case 'asKvm':
      return ret(plain[cap]?.(vm, system) ?? 0);
    default:
      return ret(answer);
  }
};

/**
 * KVM_CHECK_EXTENSION by the table of the profile.
 * @param fd - kind of the fd it came through.
 */
export const checkExtension = (system: KvmSystem, vm: KvmVm | null, fd: 'system' | 'vm' | 'plane', cap: number): KvmResult => {
  const { profile } = system.behaviour;
  const row = extensionRow(profile, nameOf(profile, cap));
  return row === undefined ? ret(0) : resolve(row[fd], cap, vm, system);
};
