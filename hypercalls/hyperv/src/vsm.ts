import { bits } from '@vmplanes/binary';
import { Source, tlfs } from './sources.ts';

const VSM = tlfs('Virtual Secure Mode');
const BOTH = `${VSM}; ${Source.Hvdef}`;

/** Where the VTL call and return stubs lie in the hypercall page. @spec TLFS Virtual Secure Mode, VTL call code offsets */
export const HvRegisterVsmCodePageOffsets = bits('HvRegisterVsmCodePageOffsets', VSM, 64, { callOffset: [0, 12], returnOffset: [12, 12] });

/** VSM state of a VP. @spec TLFS Virtual Secure Mode, VP status */
export const HvRegisterVsmVpStatus = bits('HvRegisterVsmVpStatus', VSM, 64, { activeVtl: [0, 4], activeMbecEnabled: 4, enabledVtlSet: [16, 16] });

/** VSM state of the partition. @spec TLFS Virtual Secure Mode, partition status; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvRegisterVsmPartitionStatus = bits('HvRegisterVsmPartitionStatus', BOTH, 64, {
  enabledVtlSet: [0, 16],
  maximumVtl: [16, 4],
  mbecEnabledVtlSet: [20, 16, 'VTLs subject to MBEC'],
  supervisorShadowStackEnabledVtlSet: [36, 4],
});

/** What VSM offers, in the layout read from the hypervisor. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvRegisterVsmCapabilities = bits('HvRegisterVsmCapabilities', Source.Hvdef, 64, {
  dr6Shared: [0, 'DR6 is shared between VTLs'],
  mbecVtlMask: [1, 16, 'VTLs that can be subject to MBEC'],
  denyLowerVtlStartup: 17,
  supervisorShadowStack: 18,
  hardwareHvptAvailable: 19,
  softwareHvptAvailable: 20,
  hardwareHvptRangeBits: [21, 6],
  interceptPageAvailable: 27,
  returnActionAvailable: 28,
  vtl0AliasMapAvailable: 29,
  interceptNotPresentAvailable: 30,
  installInterceptEx: 31,
  interceptSystemResetAvailable: 32,
  proxyInterruptRedirectAvailable: 34,
});
/** The same as its table numbers it, from the other end. @spec TLFS Virtual Secure Mode, VSM capabilities */
export const HvRegisterVsmCapabilitiesTlfs = bits('HvRegisterVsmCapabilitiesTlfs', VSM, 64, { denyLowerVtlStartup: 46, mbecVtlMask: [47, 16], dr6Shared: 63 });

/** How a VTL governs the partition; each VTL above 0 has its own. @spec TLFS Virtual Secure Mode, partition configuration; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvRegisterVsmPartitionConfig = bits('HvRegisterVsmPartitionConfig', BOTH, 64, {
  enableVtlProtection: [0, 'once set it stays set'],
  defaultVtlProtectionMask: [1, 4, 'rights of lower VTLs on pages without a setting of their own: HvMapGpaFlags 3:0'],
  zeroMemoryOnReset: [5, 'set at reset'],
  denyLowerVtlStartup: [6, 'lower VTLs may not start or reset VPs'],
  interceptAcceptance: 7,
  interceptEnableVtlProtection: 8,
  interceptVpStartup: 9,
  interceptCpuidUnimplemented: 10,
  interceptUnrecoverableException: 11,
  interceptPage: [12, 'intercepts come through the VP assist page'],
  interceptRestorePartitionTime: 13,
  interceptNotPresent: 14,
  interceptSystemReset: 15,
});
/** Its value after reset: all rights, and memory is zeroed. @spec TLFS Virtual Secure Mode, partition configuration */
export const VSM_PARTITION_CONFIG_RESET = 0x3en;

/** Limits that a paravisor sets for the guest. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvRegisterGuestVsmPartitionConfig = bits('HvRegisterGuestVsmPartitionConfig', Source.Hvdef, 64, {
  maximumVtl: [0, 4],
  vtl0InterruptInjection: [4, 2],
  vtl1InterruptInjection: [6, 2],
});

/** What a VTL sets for a lower one on a VP. @spec TLFS Virtual Secure Mode, VP secure configuration; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvRegisterVsmVpSecureVtlConfig = bits('HvRegisterVsmVpSecureVtlConfig', BOTH, 64, {
  mbecEnabled: 0,
  tlbLocked: [1, 'flushes of the lower VTL wait'],
  supervisorShadowStackEnabled: 2,
  hardwareHvptEnabled: 3,
});
/** Waits until no TLB lock holds the VP. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvRegisterVsmVpWaitForTlbLock = bits('HvRegisterVsmVpWaitForTlbLock', Source.Hvdef, 64, { wait: 0 });

/** Virtual interrupt notification assist. @spec TLFS Virtual Secure Mode, VINA */
export const HvRegisterVsmVina = bits('HvRegisterVsmVina', VSM, 64, {
  vector: [0, 8],
  enabled: 8,
  autoReset: [9, 'the asserted flag is cleared at entry'],
  autoEoi: 10,
  preserved: [11, 53],
});

/** Which register accesses of lower VTLs are intercepted. @spec TLFS Virtual Secure Mode, intercepting control registers; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvRegisterCrInterceptControl = bits('HvRegisterCrInterceptControl', BOTH, 64, {
  cr0Write: [0, 'only when a bit of the CR0 mask changes'],
  cr4Write: [1, 'only when a bit of the CR4 mask changes'],
  xcr0Write: 2,
  ia32MiscEnableRead: 3,
  ia32MiscEnableWrite: [4, 'only when a bit of the mask changes'],
  msrLstarRead: 5,
  msrLstarWrite: 6,
  msrStarRead: 7,
  msrStarWrite: 8,
  msrCstarRead: 9,
  msrCstarWrite: 10,
  msrApicBaseRead: 11,
  msrApicBaseWrite: 12,
  msrEferRead: 13,
  msrEferWrite: 14,
  gdtrWrite: 15,
  idtrWrite: 16,
  ldtrWrite: 17,
  trWrite: 18,
  msrSysenterCsWrite: 19,
  msrSysenterEipWrite: 20,
  msrSysenterEspWrite: 21,
  msrSfmaskWrite: 22,
  msrTscAuxWrite: 23,
  msrSgxLaunchControlWrite: 24,
  msrXssWrite: 25,
  msrScetWrite: 26,
  msrPlsSspWrite: 27,
  msrInterruptSspTableAddrWrite: 28,
});
