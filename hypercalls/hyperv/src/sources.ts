/** A chapter of the online TLFS. @param page - its title. */
export const tlfs = (page: string): string => `TLFS ${page}`;

/** Documents cited more than once. */
export const Source = {
  /** Microsoft's own definitions for the hypervisor, checked against it. */
  Hvdef: 'openvmm vm/hv1/hvdef/src/lib.rs',
  OpenvmmHypercall: 'openvmm vm/hv1/hv1_hypercall/src',
  OpenvmmEmulator: 'openvmm vm/hv1/hv1_emulator/src',
  OpenvmmCvm: 'openvmm openhcl/virt_mshv_vtl/src/processor/hardware_cvm/mod.rs',
  OpenvmmWhp: 'openvmm vmm_core/virt_whp/src',
  OpenTmk: 'openvmm opentmk/src/tests/hyperv',
  Kut: 'kvm-unit-tests x86/hyperv_vsm.c (branch vsm-next)',
  Qemu: 'QEMU VSM prototype hw/hyperv/hyperv.c',
  Linux: 'Linux include/hyperv/hvgdk_mini.h',
  LinuxExt: 'Linux include/hyperv/hvgdk_ext.h',
  LinuxHvVtl: 'Linux arch/x86/hyperv/hv_vtl.c',
  Rfc2023: 'LKML 2023-11 KVM: x86: hyper-v: Introduce VSM support 05/33',
  Pdf5: 'TLFS v5.0C (PDF)',
  Pdf6: 'TLFS v6.0b (PDF)',
} as const;
