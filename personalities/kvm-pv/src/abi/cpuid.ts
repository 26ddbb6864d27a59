const spec = 'Linux Documentation/virt/kvm/x86/cpuid.rst';

/** Bits of EAX of the feature leaf, and whether this interface serves them. */
export const features = [
  { bit: 0, name: 'CLOCKSOURCE', served: true },
  { bit: 1, name: 'NOP_IO_DELAY', served: true },
  { bit: 2, name: 'MMU_OP', served: false, why: 'deprecated' },
  { bit: 3, name: 'CLOCKSOURCE2', served: true },
  { bit: 4, name: 'ASYNC_PF', served: false, why: 'guest memory is never paged out' },
  { bit: 5, name: 'STEAL_TIME', served: true },
  { bit: 6, name: 'PV_EOI', served: true },
  { bit: 7, name: 'PV_UNHALT', served: true },
  { bit: 9, name: 'PV_TLB_FLUSH', served: false, why: 'a waiting plane keeps its translations, nothing is saved' },
  { bit: 10, name: 'ASYNC_PF_VMEXIT', served: false, why: 'guest memory is never paged out' },
  { bit: 11, name: 'PV_SEND_IPI', served: true },
  { bit: 12, name: 'POLL_CONTROL', served: true },
  { bit: 13, name: 'PV_SCHED_YIELD', served: false, why: 'slices are part of virtual time, there is nothing to yield' },
  { bit: 14, name: 'ASYNC_PF_INT', served: false, why: 'guest memory is never paged out' },
  { bit: 15, name: 'MSI_EXT_DEST_ID', served: false, why: 'no device model that needs it' },
  { bit: 16, name: 'HC_MAP_GPA_RANGE', served: false, why: 'belongs to guests with encrypted memory' },
  { bit: 17, name: 'MIGRATION_CONTROL', served: false, why: 'belongs to guests with encrypted memory' },
  { bit: 24, name: 'CLOCKSOURCE_STABLE_BIT', served: true },
] as const;

/** Name of a feature bit. */
export type Feature = (typeof features)[number]['name'];

/** Document that defines {@link features}. */
export const featureSpec = `${spec} KVM_CPUID_FEATURES`;

/** EAX of the feature leaf: the bits of everything that is served. */
export const featureMask: number = features.reduce((mask, f) => (f.served ? (mask | (1 << f.bit)) >>> 0 : mask), 0);

/** Offsets of the leaves from the first one. */
export const Leaf = { Signature: 0x0, Features: 0x1, Timing: 0x10 } as const;

/** The leaves in order. Others up to the last one read as zero. */
export const leaves = [
  { offset: Leaf.Signature, name: 'KVM_CPUID_SIGNATURE', spec: `${spec} KVM_CPUID_SIGNATURE` },
  { offset: Leaf.Features, name: 'KVM_CPUID_FEATURES', spec: `${spec} KVM_CPUID_FEATURES` },
  { offset: Leaf.Timing, name: 'timing (TSC and bus clock in kHz)', spec: 'QEMU vmware-cpuid-freq; read by Linux arch/x86/kernel/cpu/vmware.c' },
] as const;

/** `KVMKVMKVM\0\0\0` as EBX, ECX, EDX. @spec Linux Documentation/virt/kvm/x86/cpuid.rst KVM_CPUID_SIGNATURE */
export const signature = [0x4b4d564b, 0x564b4d56, 0x0000004d] as const;
