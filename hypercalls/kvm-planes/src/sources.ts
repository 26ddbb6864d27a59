/** Builds the citation of a patch of the 2025 series. @param patch - 0 (cover letter) to 29. */
export const rfc2025 = (...patches: readonly number[]): string => `LKML 2025-04-01 RFC KVM: VM planes ${patches.map((n) => `${String(n).padStart(2, '0')}/29`).join(', ')}`;
/** Builds the citation of a patch of the 2026 series. @param patch - 0 (cover letter) to 60, or a patch title. */
export const series2026 = (...patches: readonly (number | string)[]): string =>
  `LKML 2026-06-08 KVM Planes + SEV-SNP Support ${patches.map((n) => (typeof n === 'number' ? `${String(n).padStart(2, '0')}/60` : `"${n}"`)).join(', ')}`;

/** Documents cited more than once. */
export const Source = {
  Doc2024: 'LKML 2024-10-23 Documentation: kvm: introduce VM plane concept 5/5',
  Cover2024: 'LKML 2024-10-23 Documentation: kvm: cleanup and introduce VM planes 0/5',
  Reply2024: 'LKML 2025-01-17 and 2025-01-21, S. Christopherson and N. Saenz Julienne on VM plane concept 5/5',
  SelftestGeneric: 'LKML 2025-04-01 RFC KVM: VM planes 27/29 (plane_test.c)',
  SelftestX86: 'LKML 2025-04-01 RFC KVM: VM planes 29/29 (x86/plane_test.c)',
  ReplyLendacky: 'LKML 2025-04 to 2025-06, T. Lendacky on RFC KVM: VM planes 00/29 to 13/29',
  ReplyChristopherson: 'LKML 2025-06, S. Christopherson on RFC KVM: VM planes 02/29 to 26/29',
  ReplyBonzini: 'LKML 2025-06-06, P. Bonzini on RFC KVM: VM planes 10/29 and 20/29',
  ReplyThakkar: 'LKML 2025-08, V. Thakkar on RFC KVM: VM planes 00/29',
  Reply2026: 'LKML 2026-06, P. Bonzini and J. Roedel on KVM Planes + SEV-SNP Support 35/60',
  Fuzzer2026: 'LKML 2026-06, fuzzer report "WARNING in __kvm_plane_ioctl" on KVM Planes + SEV-SNP Support',
  Vsm2024: 'LKML 2024-06-09 Introducing Core Building Blocks for Hyper-V VSM Emulation 15/18, 18/18',
  CoconutNotes: 'COCONUT-SVSM, KVM Planes build and run notes (branch svsm-planes-v6.17)',
  Uapi: 'Linux include/uapi/linux/kvm.h',
  UapiX86: 'Linux arch/x86/include/uapi/asm/kvm.h',
  Api: 'Linux Documentation/virt/kvm/api.rst',
  Vmplanes: 'vmplanes',
} as const;
