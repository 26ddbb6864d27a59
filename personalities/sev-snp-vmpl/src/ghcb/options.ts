import { HypervisorFeatures, SnpLevel, type GhcbVersion } from '@vmplanes/abi-sev-snp';
import type { SnpContext } from '../ports.ts';

/** What the configuration says about the GHCB protocol. */
export interface GhcbOptions {
  /** Highest protocol version of the machine. */
  readonly version: GhcbVersion;
  /** Hypervisor features, bits 31:0; higher ones are not defined. */
  readonly features: number;
  /** The page may hold Hyper-V calls. */
  readonly hasHypervUsages: boolean;
  /** A VMMCALL without CPL comes from CPL 0; otherwise its input is missing. */
  readonly missingCplIsZero: boolean;
}

/**
 * The features of a machine. Lower ones of snp, snpApCreation and restrictedInjection go with higher ones, because some guests read them as masks.
 * @spec GHCB 2.3.1; OVMF MdePkg/Include/Register/Amd/Ghcb.h
 */
export const featuresOf = ({ level, options, machine }: Pick<SnpContext, 'level' | 'options' | 'machine'>): number => {
  if (level !== SnpLevel.SevSnp) return 0;
  const shift = HypervisorFeatures.shift;
  return (
    (1 << shift.snp) |
    (1 << shift.snpApCreation) |
    (options.allowed.includes('RestrictedInjection') ? 1 << shift.restrictedInjection : 0) |
    (1 << shift.apicIdList) |
    (machine.options.maxPlanes > 1 ? 1 << shift.multipleVmpls : 0)
  );
};

/** The part of a machine's configuration that the protocol needs. */
export const ghcbOptionsOf = (snp: Pick<SnpContext, 'level' | 'options' | 'machine'>): GhcbOptions => ({
  version: snp.options.ghcbVersion,
  features: featuresOf(snp),
  hasHypervUsages: snp.options.hypervUsages,
  missingCplIsZero: snp.options.missingCpl === 'zero',
});
