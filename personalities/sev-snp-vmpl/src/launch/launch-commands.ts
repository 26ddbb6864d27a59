import { FirmwareStatus, LAUNCH_VMSA_GPA, LaunchPageType, launchPageTypeName } from '@vmplanes/abi-sev-snp';
import { type GuestContext, GuestState } from '../psp/guest-context.ts';
import type { FirmwareView } from '../psp/ports.ts';
import { checkCpuidPage } from './cpuid-page.ts';
import { extendDigest, type LaunchPermissions } from './digest.ts';
import { type Identity, takeIdentity } from './id-block.ts';
import { checkPolicy } from './policy.ts';
import { secretsPage } from './secrets-page.ts';

const PAGE = 4096;

/** What a launch does to memory. */
export interface LaunchMemory {
  /** What a page is before it is placed. */
  stateOf(gpn: number): 'missing' | 'shared' | 'private';
  /** Makes a page private and validated, with contents and masks. @param page - 4096 bytes, borrowed. */
  place(gpn: number, page: Uint8Array, perms: LaunchPermissions, isVmsa: boolean): void;
}

/** SNP_LAUNCH_START. */
export interface StartParameters {
  readonly policy: bigint;
  /** 16 bytes. */
  readonly gosvw?: Uint8Array;
}

/** SNP_LAUNCH_UPDATE: one or more pages of one type. */
export interface UpdateParameters {
  /** Guest physical address, a multiple of 4096. */
  readonly gpa: number;
  /** A multiple of 4096 bytes. A CPUID page that promises too much is corrected in place. */
  readonly data: Uint8Array;
  readonly type: number;
  readonly isImi?: boolean;
  readonly perms?: LaunchPermissions;
}

/** How far an update came. */
export interface UpdateResult {
  readonly status: FirmwareStatus;
  /** Pages that are placed; less than all when the status is an error. */
  readonly pages: number;
}

/** SNP_LAUNCH_FINISH. */
export interface FinishParameters {
  readonly identity?: Identity | null;
  readonly isVcekDisabled?: boolean;
  /** 32 bytes. */
  readonly hostData?: Uint8Array;
}

const NO_PERMISSIONS: LaunchPermissions = [0, 0, 0];

/** Types that the host may name; VMSAs have their own way in. @spec Linux arch/x86/kvm/svm/sev.c, snp_launch_update */
const fromHost = (type: number): boolean => launchPageTypeName(type) !== undefined && type !== LaunchPageType.Vmsa;

/** The commands that build a guest, one after the other. @spec SNP ABI, SNP_LAUNCH_START, SNP_LAUNCH_UPDATE, SNP_LAUNCH_FINISH */
export class LaunchCommands {
  constructor(
    readonly firmware: FirmwareView,
    readonly memory: LaunchMemory,
  ) {}

  get #guest(): GuestContext {
    return this.firmware.guest;
  }

  start({ policy, gosvw }: StartParameters): FirmwareStatus {
    const guest = this.#guest;
    if (guest.state !== GuestState.Init) return FirmwareStatus.InvalidGuestState;
    const status = checkPolicy(policy);
    if (status !== FirmwareStatus.Success) return status;
    guest.policy = policy;
    if (gosvw) guest.gosvw = gosvw.slice();
    guest.state = GuestState.Launching;
    return FirmwareStatus.Success;
  }

  /** Pages before the one that fails stay placed and measured. */
  update({ gpa, data, type, isImi = false, perms = NO_PERMISSIONS }: UpdateParameters): UpdateResult {
    const status = this.#checkUpdate(gpa, data);
    if (status !== FirmwareStatus.Success) return { status, pages: 0 };
    // Migration images need a context that was started for them; none is.
    if (!fromHost(type) || isImi) return { status: FirmwareStatus.InvalidParam, pages: 0 };
    for (let done = 0; done < data.length; done += PAGE) {
      const pageStatus = this.#page(type as LaunchPageType, gpa + done, data.subarray(done, done + PAGE), perms);
      if (pageStatus !== FirmwareStatus.Success) return { status: pageStatus, pages: done / PAGE };
    }
    return { status: FirmwareStatus.Success, pages: data.length / PAGE };
  }

  /**
   * Measures the first state of a VP; places it, too, where it is a page of the guest.
   * @param gpa - {@link LAUNCH_VMSA_GPA} when the host keeps the page outside of guest memory.
   */
  updateVmsa(gpa: number, page: Uint8Array): FirmwareStatus {
    const status = this.#checkUpdate(gpa, page);
    if (status !== FirmwareStatus.Success) return status;
    if (page.length !== PAGE) return FirmwareStatus.InvalidParam;
    if (gpa !== LAUNCH_VMSA_GPA || this.memory.stateOf(gpa / PAGE) !== 'missing') return this.#page(LaunchPageType.Vmsa, gpa, page, NO_PERMISSIONS);
    this.#measure(LaunchPageType.Vmsa, gpa, page, NO_PERMISSIONS);
    return FirmwareStatus.Success;
  }

  /** Takes the identity and freezes the digest. After an error the guest is still being launched. */
  finish({ identity = null, isVcekDisabled = false, hostData }: FinishParameters = {}): FirmwareStatus {
    const guest = this.#guest;
    if (guest.state !== GuestState.Launching) return FirmwareStatus.InvalidGuestState;
    const status = identity === null ? FirmwareStatus.Success : takeIdentity(guest, identity);
    if (status !== FirmwareStatus.Success) return status;
    guest.isVcekDisabled = isVcekDisabled;
    if (hostData) guest.hostData = hostData.slice();
    guest.state = GuestState.Running;
    return FirmwareStatus.Success;
  }

  #checkUpdate(gpa: number, data: Uint8Array): FirmwareStatus {
    if (this.#guest.state !== GuestState.Launching) return FirmwareStatus.InvalidGuestState;
    if (!Number.isSafeInteger(gpa) || gpa < 0 || gpa % PAGE !== 0) return FirmwareStatus.InvalidAddress;
    return data.length === 0 || data.length % PAGE !== 0 ? FirmwareStatus.InvalidParam : FirmwareStatus.Success;
  }

  #page(type: LaunchPageType, gpa: number, data: Uint8Array, perms: LaunchPermissions): FirmwareStatus {
    const gpn = gpa / PAGE;
    const state = this.memory.stateOf(gpn);
    if (state === 'missing') return FirmwareStatus.InvalidAddress;
    if (state === 'private') return FirmwareStatus.InvalidPageState;
    if (type === LaunchPageType.Cpuid) {
      const status = checkCpuidPage(data, this.firmware.cpuid);
      if (status !== FirmwareStatus.Success) return status;
    }
    this.memory.place(gpn, this.#contents(type, data), perms, type === LaunchPageType.Vmsa);
    this.#measure(type, gpa, data, perms);
    return FirmwareStatus.Success;
  }

  #contents(type: LaunchPageType, data: Uint8Array): Uint8Array {
    if (type === LaunchPageType.Zero) return new Uint8Array(PAGE);
    return type === LaunchPageType.Secrets ? secretsPage(this.#guest, this.#signature(), this.firmware.settings.mitVector) : data;
  }

  /** Family, model and stepping as CPUID gives them. */
  #signature(): number {
    const out = new Uint32Array(4);
    this.firmware.cpuid(1, 0, out);
    return out[0]!;
  }

  #measure(type: LaunchPageType, gpa: number, contents: Uint8Array, perms: LaunchPermissions): void {
    const guest = this.#guest;
    guest.digest = extendDigest(guest.digest, { type, gpa, contents, perms });
  }
}
