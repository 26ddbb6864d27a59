import { bytes, namesOf, numbersOf, struct, u16, u64, u8 } from '@vmplanes/binary';

/** Page types of a launch: number, and what of the contents is measured. All measure the page's type, address and permissions. @spec SNP ABI, SNP_LAUNCH_UPDATE, PAGE_TYPE */
const pageTypes = {
  Normal: [1, 'data'],
  Vmsa: [2, 'data'],
  Zero: [3, 'nothing'],
  Unmeasured: [4, 'nothing'],
  Secrets: [5, 'nothing'],
  Cpuid: [6, 'nothing'],
} as const;

/** Page types of a launch by name. */
export const LaunchPageType = numbersOf(pageTypes);
export type LaunchPageType = (typeof LaunchPageType)[keyof typeof LaunchPageType];

const pageTypeNames = namesOf('LaunchPageType', pageTypes);

/** The name of a page type, or undefined. */
export const launchPageTypeName = (type: number): keyof typeof LaunchPageType | undefined => pageTypeNames.get(type);

/** True when the contents of a page of this type enter the launch digest. */
export const isContentMeasured = (type: LaunchPageType): boolean => pageTypes[pageTypeNames.get(type)!][1] === 'data';

/** Bytes of a launch digest: SHA-384. */
export const LAUNCH_DIGEST_BYTES = 48;

/** What one page adds to the launch digest, which becomes the SHA-384 of this. @spec SNP ABI, PAGE_INFO */
export const PageInfo = struct('PageInfo', 'SNP ABI, PAGE_INFO', 0x70, {
  digestCurrent: [0x00, bytes(LAUNCH_DIGEST_BYTES), 'digest before the page'],
  contents: [0x30, bytes(LAUNCH_DIGEST_BYTES), 'SHA-384 of the page, or zero'],
  length: [0x60, u16, '0x70'],
  pageType: [0x62, u8, 'LaunchPageType'],
  imi: [0x63, u8, '1: of an initial migration image'],
  vmpl3Perms: [0x64, u8],
  vmpl2Perms: [0x65, u8],
  vmpl1Perms: [0x66, u8],
  reserved67: [0x67, u8],
  gpa: [0x68, u64],
});

/** Where the measured VMSA of a KVM guest is said to lie. @spec Linux arch/x86/kvm/svm/sev.c, snp_launch_update_vmsa */
export const LAUNCH_VMSA_GPA = 0xffff_ffff_f000;

/** Sub-commands of the encryption ioctl that build a guest. @spec Linux arch/x86/include/uapi/asm/kvm.h, enum sev_cmd_id */
export const SevCommand = {
  Init: 0, EsInit: 1, LaunchStart: 2, LaunchUpdateData: 3, LaunchUpdateVmsa: 4, LaunchSecret: 5, LaunchMeasure: 6, LaunchFinish: 7,
  SnpLaunchStart: 100, SnpLaunchUpdate: 101, SnpLaunchFinish: 102,
} as const;
export type SevCommand = (typeof SevCommand)[keyof typeof SevCommand];
