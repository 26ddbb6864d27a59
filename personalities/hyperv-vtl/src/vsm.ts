import { HvRegisterVsmPartitionConfig, HvStatus, VSM_PARTITION_CONFIG_RESET } from '@vmplanes/abi-hyperv';
import { MAX_PLANES, type PlainRecord, type PlainState, type Vp } from '@vmplanes/engine';
import { DeliveryMode } from '@vmplanes/x86';
import { grantedByDefault, writePartitionConfig } from './partition-config.ts';
import type { CrIntercepts, HvContext, Vsm } from './ports.ts';
import { TlbLocks } from './tlb-locks.ts';

const DENY_STARTUP = HvRegisterVsmPartitionConfig.mask.denyLowerVtlStartup;
const ZERO_MEMORY = HvRegisterVsmPartitionConfig.mask.zeroMemoryOnReset;

/** The VTL of a paravisor, and the highest below it. */
const PARAVISOR = 2;
const GUEST_HIGHEST = 1;

const noIntercepts = (): CrIntercepts => ({ control: 0, cr0Mask: 0n, cr4Mask: 0n, miscEnableMask: 0n });

/**
 * What is enabled: VTLs of the partition, VTLs of each VP, and the configuration that each VTL above 0 gives the partition and its VPs.
 * A VTL is enabled on a VP when the VP has its plane.
 * @spec TLFS Virtual Secure Mode, VSM system configuration
 */
export class VsmChapter implements Vsm {
  readonly stateName = 'vsm';
  readonly locks: TlbLocks;
  #enabled = 1;
  #mbec = 0;
  /** VTLs enabled with the flag for MBEC. */
  #mbecOwners = 0;
  /** VTLs whose protections are enabled. */
  #protecting = 0;
  /** The highest VTL that VTL2 leaves its guest; at first all there are. */
  #guestMaximum: number;
  /** VsmPartitionConfig by VTL. */
  readonly #configs = new BigUint64Array(MAX_PLANES).fill(VSM_PARTITION_CONFIG_RESET);
  /** By VP index * 16 + VTL. */
  #crIntercepts: (CrIntercepts | undefined)[] = [];

  constructor(readonly hv: HvContext) {
    this.locks = new TlbLocks(hv.machine);
    this.#guestMaximum = hv.options.maximumVtl;
    hv.arch.fabric.filter = this.#admits;
  }

  get enabledVtls(): number {
    return this.#enabled;
  }
  get mbecVtls(): number {
    return this.#mbec;
  }
  get mbecEnabledVtls(): number {
    return this.hv.options.mbecVtlMask === 'subject' ? this.#mbec : this.#mbecOwners;
  }

  /** Enables a VTL for the partition. @param mbec - VTLs below it get split execute rights. */
  enable(vtl: number, mbec: boolean): void {
    this.#enabled |= 1 << vtl;
    if (!mbec) return;
    this.#mbec |= (1 << vtl) - 1;
    this.#mbecOwners |= 1 << vtl;
    this.hv.arch.executeRightsByMode = true;
  }

  enabledOn(vp: Vp): number {
    return vp.existing;
  }
  above(vp: Vp, vtl: number): number {
    const higher = vp.existing & ~((2 << vtl) - 1);
    return higher === 0 ? -1 : 31 - Math.clz32(higher & -higher);
  }
  below(vp: Vp, vtl: number): number {
    const lower = vp.existing & ((1 << vtl) - 1);
    return lower === 0 ? -1 : 31 - Math.clz32(lower);
  }

  // -- configuration ---------------------------------------------------------------------------------------------------

  partitionConfig(vtl: number): bigint {
    return this.#configs[vtl]!;
  }
  get guestMaximumVtl(): number {
    return this.#guestMaximum;
  }
  /** VTL2 withdraws VTL1 from its guest, or gives it back: as long as it is not enabled. How a VTL gets its interrupts is for isolated machines. */
  setGuestMaximumVtl(value: bigint): number {
    if (value > BigInt(this.hv.options.maximumVtl)) return HvStatus.InvalidRegisterValue;
    const maximum = Number(value);
    if (maximum < GUEST_HIGHEST && (this.#enabled & (1 << GUEST_HIGHEST)) !== 0) return HvStatus.InvalidVtlState;
    this.#guestMaximum = maximum;
    return HvStatus.Success;
  }
  maximumVtlFor(vtl: number): number {
    return vtl < PARAVISOR ? this.#guestMaximum : this.hv.options.maximumVtl;
  }
  isProtecting(vtl: number): boolean {
    return (this.#protecting & (1 << vtl)) !== 0;
  }
  isMbecBelow(vtl: number): boolean {
    return (this.#mbec & ((1 << vtl) - 1)) !== 0;
  }

  writePartitionConfig(vtl: number, value: bigint): number {
    const isMbec = this.isMbecBelow(vtl);
    const written = writePartitionConfig(this.#configs[vtl]!, this.isProtecting(vtl), value, isMbec, this.hv.options);
    if (written.status !== HvStatus.Success) return written.status;
    this.#configs[vtl] = written.value;
    if (!written.protects) return HvStatus.Success;
    this.#protecting |= 1 << vtl;
    this.hv.chapters.protections.setDefault(vtl, grantedByDefault(written.value, isMbec, this.hv.options));
    return HvStatus.Success;
  }

  /** A VTL above `vtl` forbids it to start processors. */
  isStartupDenied(vtl: number): boolean {
    for (let h = vtl + 1; h <= this.hv.options.maximumVtl; h++) if ((this.#enabled & (1 << h)) !== 0 && (this.#configs[h]! & DENY_STARTUP) !== 0n) return true;
    return false;
  }
  /** An enabled VTL above 0 wants memory zeroed before a reset. */
  get zeroesMemory(): boolean {
    for (let h = 1; h <= this.hv.options.maximumVtl; h++) if ((this.#enabled & (1 << h)) !== 0 && (this.#configs[h]! & ZERO_MEMORY) !== 0n) return true;
    return false;
  }

  crIntercepts(vp: Vp, vtl: number): CrIntercepts {
    return (this.#crIntercepts[vp.index * MAX_PLANES + vtl] ??= noIntercepts());
  }

  /**
   * INIT and SIPI reach VTL0 alone, and only where nothing above it exists or forbids it; a processor with higher VTLs is started by hypercall.
   * @spec TLFS Virtual Secure Mode, VTL enablement; DenyLowerVtlStartup
   */
  readonly #admits = (vp: number, plane: number, mode: DeliveryMode): boolean => {
    if (mode !== DeliveryMode.init && mode !== DeliveryMode.startUp) return true;
    if (plane > 0 || this.isStartupDenied(plane)) return false;
    const target = this.hv.machine.vps[vp];
    return this.hv.options.dropStartup === 'denied' || target === undefined || this.above(target, plane) < 0;
  };

  // -- TLB locks -------------------------------------------------------------------------------------------------------

  isTlbLocked(vp: Vp, vtl: number): boolean {
    return this.locks.isLocked(vp.index, vtl);
  }
  releaseTlbLocks(vp: Vp, vtl: number): void {
    this.locks.releaseAll(vp.index, vtl);
  }

  // -- state -----------------------------------------------------------------------------------------------------------

  reset(): void {
    this.#enabled = 1;
    this.#mbec = this.#mbecOwners = this.#protecting = 0;
    this.#guestMaximum = this.hv.options.maximumVtl;
    this.hv.arch.executeRightsByMode = false;
    this.#configs.fill(VSM_PARTITION_CONFIG_RESET);
    this.#crIntercepts = [];
    this.locks.reset();
  }
  save(): PlainState {
    const intercepts = this.#crIntercepts.flatMap((c, at) => (c === undefined ? [] : [{ at, ...c }]));
    return { enabled: this.#enabled, mbec: this.#mbec, mbecOwners: this.#mbecOwners, protecting: this.#protecting, guestMaximum: this.#guestMaximum, configs: this.#configs.slice(), intercepts, locks: this.locks.save() };
  }
  restore(state: PlainState): void {
    const s = state as PlainRecord;
    this.#enabled = s['enabled'] as number;
    this.#mbec = s['mbec'] as number;
    this.#mbecOwners = s['mbecOwners'] as number;
    this.#protecting = s['protecting'] as number;
    this.#guestMaximum = s['guestMaximum'] as number;
    this.hv.arch.executeRightsByMode = this.#mbec !== 0;
    this.#configs.set(s['configs'] as BigUint64Array);
    this.#crIntercepts = [];
    for (const { at, control, cr0Mask, cr4Mask, miscEnableMask } of s['intercepts'] as readonly (CrIntercepts & { readonly at: number })[]) this.#crIntercepts[at] = { control, cr0Mask, cr4Mask, miscEnableMask };
    this.locks.restore(s['locks']!);
  }
}
