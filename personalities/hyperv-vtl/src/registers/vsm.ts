import {
  HvRegisterGuestVsmPartitionConfig, type HvRegisterName, HvRegisterVsmCapabilities, HvRegisterVsmCapabilitiesTlfs, HvRegisterVsmCodePageOffsets, HvRegisterVsmPartitionStatus, HvRegisterVsmVpSecureVtlConfig, HvRegisterVsmVpStatus, HvRegisterVsmVpWaitForTlbLock, HvStatus,
} from '@vmplanes/abi-hyperv';
import { runs64Bit } from '../code-mode.ts';
import type { CrIntercepts, HvContext } from '../ports.ts';
import { MASK_64, type RegisterBinding } from './binding.ts';

const { Success, InvalidParameter, InvalidRegisterValue, AccessDenied } = HvStatus;
const SECURE = HvRegisterVsmVpSecureVtlConfig.mask;
/** Bits 28:0. */
const CR_CONTROL = (1n << 29n) - 1n;

/** What VSM offers; DR6 and MBEC as configured. @spec TLFS Virtual Secure Mode, VSM capabilities; openvmm vm/hv1/hvdef/src/lib.rs */
const capabilities = ({ options }: HvContext): bigint => {
  const below = (1 << options.maximumVtl) - 1;
  const mbecVtlMask = options.mbec ? (options.mbecVtlMask === 'subject' ? below : below << 1) : 0;
  const common = { dr6Shared: options.dr6Shared, mbecVtlMask, denyLowerVtlStartup: true };
  return options.vsmCapsLayout === 'tlfs' ? HvRegisterVsmCapabilitiesTlfs.pack(common) : HvRegisterVsmCapabilities.pack({ ...common, interceptPageAvailable: true, returnActionAvailable: true });
};

/** @spec TLFS Virtual Secure Mode, VTL call code offsets */
const codePageOffsets: RegisterBinding = {
  read: ({ hv, target }) => {
    const { call64, call32, return64, return32 } = hv.options.codeOffsets;
    const wide = runs64Bit(hv.machine.arena, target);
    return HvRegisterVsmCodePageOffsets.pack({ callOffset: wide ? call64 : call32, returnOffset: wide ? return64 : return32 });
  },
};

/** What a VTL sets for lower VTL `vtl` of a VP; MBEC is one setting of the partition. @spec TLFS Virtual Secure Mode, VP secure configuration */
const secureConfig = (vtl: number): RegisterBinding => ({
  read: ({ hv, target }) =>
    HvRegisterVsmVpSecureVtlConfig.pack({ mbecEnabled: (hv.chapters.vsm.mbecVtls & (1 << vtl)) !== 0, tlbLocked: hv.chapters.vsm.locks.isLockedBy(target.vp.index, vtl, target.plane) }),
  write: ({ hv, target, caller }, value) => {
    const written = value & MASK_64;
    const { vsm } = hv.chapters;
    if ((written & ~(SECURE.mbecEnabled | SECURE.tlbLocked)) !== 0n) return InvalidRegisterValue;
    if (((written & SECURE.mbecEnabled) !== 0n) !== ((vsm.mbecVtls & (1 << vtl)) !== 0)) return InvalidRegisterValue;
    if ((written & SECURE.tlbLocked) === 0n) vsm.locks.unlock(target.vp.index, vtl, target.plane);
    // Held by the VP that asks, until its VTL returns.
    else vsm.locks.lock(target.vp.index, vtl, caller.vp.index, target.plane);
    return Success;
  },
});

/** Instances of the intercepting VTL; VTL0 intercepts nobody. @spec TLFS Virtual Secure Mode, intercepting control registers */
const crIntercept = (read: (of: CrIntercepts) => bigint, write: (of: CrIntercepts, value: bigint) => number): RegisterBinding => ({
  read: ({ hv, target }) => read(hv.chapters.vsm.crIntercepts(target.vp, target.plane)),
  write: ({ hv, target }, value) => (target.plane === 0 ? AccessDenied : write(hv.chapters.vsm.crIntercepts(target.vp, target.plane), value & MASK_64)),
});

const secureConfigs = Object.fromEntries(Array.from({ length: 15 }, (_, vtl) => [`VsmVpSecureConfigVtl${vtl}`, secureConfig(vtl)]));

/** Registers of virtual secure mode. */
export const vsmRegisters: Readonly<Partial<Record<HvRegisterName, RegisterBinding>>> = {
  VsmCodePageOffsets: codePageOffsets,
  VsmVpStatus: {
    read: ({ hv, target: { vp } }) =>
      HvRegisterVsmVpStatus.pack({ activeVtl: vp.current, activeMbecEnabled: (hv.chapters.vsm.mbecEnabledVtls & (1 << vp.current)) !== 0, enabledVtlSet: hv.chapters.vsm.enabledOn(vp) }),
  },
  VsmPartitionStatus: {
    read: ({ hv: { chapters }, caller }) => HvRegisterVsmPartitionStatus.pack({ enabledVtlSet: chapters.vsm.enabledVtls, maximumVtl: chapters.vsm.maximumVtlFor(caller.plane), mbecEnabledVtlSet: chapters.vsm.mbecEnabledVtls }),
  },
  VsmVina: {
    read: ({ hv, target }) => hv.chapters.vina.read(target.vp, target.plane),
    write: ({ hv, target }, value) => hv.chapters.vina.write(target.vp, target.plane, value & MASK_64),
  },
  VsmCapabilities: { read: ({ hv }) => capabilities(hv) },
  VsmPartitionConfig: {
    read: ({ hv, target }) => hv.chapters.vsm.partitionConfig(target.plane),
    write: ({ hv, target }, value) => (target.plane === 0 ? InvalidParameter : hv.chapters.vsm.writePartitionConfig(target.plane, value & MASK_64)),
  },
  ...secureConfigs,
  VsmVpWaitForTlbLock: {
    read: ({ hv, target, caller }) => (target.plane < caller.plane ? HvRegisterVsmVpWaitForTlbLock.pack({ wait: hv.chapters.vsm.locks.isWaiting(target.vp.index, target.plane) }) : null),
    write: ({ hv, target, caller }, value) => {
      if (target.plane >= caller.plane) return InvalidParameter;
      if ((value & HvRegisterVsmVpWaitForTlbLock.reservedMask) !== 0n) return InvalidRegisterValue;
      hv.chapters.vsm.locks.setWaiting(target.vp.index, target.plane, (value & HvRegisterVsmVpWaitForTlbLock.mask.wait) !== 0n);
      return Success;
    },
  },
  GuestVsmPartitionConfig: {
    read: ({ hv }) => HvRegisterGuestVsmPartitionConfig.pack({ maximumVtl: hv.chapters.vsm.guestMaximumVtl }),
    write: ({ hv }, value) => hv.chapters.vsm.setGuestMaximumVtl(value & MASK_64),
  },
  IsolationCapabilities: { read: () => 0n },
  CrInterceptControl: crIntercept(
    (of) => BigInt(of.control),
    (of, value) => {
      if ((value & ~CR_CONTROL) !== 0n) return InvalidRegisterValue;
      of.control = Number(value);
      return Success;
    },
  ),
  CrInterceptCr0Mask: crIntercept((of) => of.cr0Mask, (of, value) => ((of.cr0Mask = value), Success)),
  CrInterceptCr4Mask: crIntercept((of) => of.cr4Mask, (of, value) => ((of.cr4Mask = value), Success)),
  CrInterceptIa32MiscEnableMask: crIntercept((of) => of.miscEnableMask, (of, value) => ((of.miscEnableMask = value), Success)),
};
